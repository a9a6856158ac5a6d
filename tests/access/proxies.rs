//! Proxies.

use serde_json::json;

use crate::{
    fixture::server::UpdateServer,
    host::Part,
    world::{MIRROR, Rights, UPSTREAM, World},
};

#[test]
fn http_proxy_with_a_password() {
    let mut world = World::new(false);
    world.registries(&[]);
    world.done(&mut world.command(&[]));
    let seen = world.proxy.seen.lock().unwrap();
    for host in [UPSTREAM, MIRROR] {
        let asked = format!("CONNECT {host}:443 HTTP/1.1");
        assert!(seen.iter().any(|head| head.starts_with(&asked)), "{seen:?}");
    }
}

#[test]
fn socks_proxy_with_a_password_resolves_names() {
    for (name, scheme) in [("ALL_PROXY", "socks5"), ("https_proxy", "socks5h")] {
        let mut world = World::new(false);
        world.registries(&[]);
        let mut command = world.command(&[]);
        command
            .env_remove("HTTPS_PROXY")
            .env(name, world.proxy_url(scheme));
        world.done(&mut command);
        let seen = world.proxy.seen.lock().unwrap();
        assert!(seen.contains(&format!("{UPSTREAM}:443")), "{seen:?}");
    }
}

#[test]
fn proxy_that_refuses_is_named_and_its_password_is_not() {
    let mut world = World::new(false);
    world.registries(&[]);
    let address = world.proxy.address;
    world.secret("someone:secret-that-is-wrong");
    for scheme in ["http", "socks5"] {
        let wrong = format!("{scheme}://someone:secret-that-is-wrong@{address}");
        let mut command = world.command(&["--retry-times=0"]);
        // The proxy is sent what the environment says, right or wrong.
        let output = command.env("HTTPS_PROXY", wrong).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let expected = format!(
            "upstream.test, through the proxy {address}, cannot be reached; the proxy wants to be told who asks"
        );
        assert!(told.contains(&expected), "{told}");
        let logged = String::from_utf8(output.stderr).unwrap();
        assert!(
            !(told + &logged).contains("secret-that-is-wrong"),
            "{logged}"
        );
    }
}

#[test]
fn hosts_of_no_proxy_are_asked_directly() {
    let mut world = World::new(false);
    world.registries(&[]);
    for exceptions in [".test", "upstream.test", "*"] {
        let mut command = world.command(&["--retry-times=0"]);
        let ended = world.run(command.env("NO_PROXY", exceptions));
        // Only the proxy knows the name.
        ended.fails_with(&["upstream.test cannot be reached; check its name"]);
    }
    world.done(
        world
            .command(&[])
            .env("NO_PROXY", "10.0.0.0/8,upstream.test:5000,.upstream.test"),
    );
}

#[test]
fn proxy_that_does_not_know_a_host_or_is_not_there_is_named() {
    let mut world = World::new(false);
    let (up, _) = world.registries(&[]);
    let gone = world.proxy.address;
    world.names().lock().unwrap().remove("upstream.test:443");
    let told = format!(
        "upstream.test, through the proxy {gone}, cannot be reached; the proxy does not answer, or does not let through"
    );
    world
        .run(&mut world.command(&["--retry-times=0"]))
        .fails_with(&[&told]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let told = format!(
        "upstream.test, through the proxy {gone}, cannot be reached; the proxy does not answer, or does not let through"
    );
    let mut command = world.command(&["--retry-times=0"]);
    let ended = world.run(command.env("HTTPS_PROXY", format!("http://{gone}")));
    ended.fails_with(&[&told]);
    assert!(up.lines().is_empty());
}

#[test]
fn update_service_is_asked_through_the_proxy_too() {
    let mut world = World::new(false);
    let graph = json!({"nodes": [{"version": "4.16.1", "payload": "quay.io/a/b@sha256:0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363",
        "metadata": {"io.openshift.upgrades.graph.release.channels": "stable-4.16"}}], "edges": []});
    let server = world.wait(UpdateServer::start(move |_, _| Some(graph.clone())));
    let server = server.unwrap();
    let backend = server.url.strip_prefix("http://").unwrap();
    let backend = backend.strip_suffix("/graph").unwrap().to_owned();
    let updates = world.host("updates.test", Part::Registry(backend), Rights::default());
    let mut command = world.program();
    command.args(["releases", "list", "--channel", "stable-4.16"]);
    command.args(["--update-url", "https://updates.test/graph"]);
    let ended = world.run(&mut command);
    assert!(
        ended.code == 0 && ended.stdout.contains("4.16.1"),
        "{ended:#?}"
    );
    assert_eq!(
        updates.lines(),
        ["GET /graph?channel=stable-4.16&arch=amd64"]
    );
}

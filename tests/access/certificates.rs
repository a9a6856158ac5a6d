//! Private authorities, and certificates of who asks.

use std::fs;

use crate::{
    authority::{Authority, Pair},
    host::Part,
    world::{MIRROR, Rights, UPSTREAM, World},
};

fn certs(world: &World, host: &str) -> std::path::PathBuf {
    world.path(&format!("home/.config/containers/certs.d/{host}"))
}

#[test]
fn private_authority_in_a_folder_of_each_registry() {
    let mut world = World::new(false);
    world.registries(&[]);
    let ended = world.run(world.command(&[]).env_remove("SSL_CERT_FILE"));
    ended.fails_with(&["shows a certificate of an authority that is not trusted here"]);
    for host in [UPSTREAM, MIRROR] {
        let folder = certs(&world, host);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.crt"), world.authority.pem()).unwrap();
    }
    world.done(world.command(&[]).env_remove("SSL_CERT_FILE"));
}

#[test]
fn private_authority_for_each_side_on_the_command_line() {
    let mut world = World::new(false);
    world.registries(&[]);
    let pem = world.authority.pem();
    let ours = world.write("ours/ca.crt", &pem);
    let others = world.write("others/ca.crt", &Authority::new("another").pem());
    let folder = |file: &str| file.trim_end_matches("/ca.crt").to_owned();
    let (ours, others) = (folder(&ours), folder(&others));
    let command = |from: &str, to: &str| {
        let mut command = world.command(&["--src-cert-dir", from, "--dest-cert-dir", to]);
        command.env_remove("SSL_CERT_FILE");
        command
    };
    world
        .run(&mut command(&others, &ours))
        .fails_with(&["upstream.test", "not trusted here"]);
    world
        .run(&mut command(&ours, &others))
        .fails_with(&["mirror.test", "not trusted here"]);
    world.done(&mut command(&ours, &ours));
}

#[test]
fn certificate_for_another_name_is_told() {
    let mut world = World::new(false);
    let (from, to) = (
        world.upstream.address().to_owned(),
        world.mirror.address().to_owned(),
    );
    world.host("wrong.test", Part::Registry(from), Rights::default());
    world.host(MIRROR, Part::Registry(to), Rights::default());
    let names = world.names();
    let address = names.lock().unwrap()["wrong.test:443"];
    world.name("upstream.test:443", address);
    let output = world.command(&[]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("shows a certificate that is not for this name"),
        "{told}"
    );
}

/// Registries that want certificates, and a blob store that asks for one and must not see any.
fn with_certificates() -> (World, Pair, Pair) {
    let mut world = World::new(false);
    let (from, to) = (
        world.upstream.address().to_owned(),
        world.mirror.address().to_owned(),
    );
    let wanted = || Rights {
        certificate: true,
        ..Rights::default()
    };
    let redirecting = Part::Redirecting {
        backend: from.clone(),
        store: "store.test".to_owned(),
    };
    world.host(UPSTREAM, redirecting, wanted());
    world.host(MIRROR, Part::Registry(to), wanted());
    world.host("store.test", Part::Store(from), Rights::default());
    let (up, down) = (
        world.authority.client("reader"),
        world.authority.client("writer"),
    );
    (world, up, down)
}

#[test]
fn client_certificates_are_shown_to_their_registries_alone() {
    let (world, up, down) = with_certificates();
    world
        .run(&mut world.command(&[]))
        .fails_with(&["upstream.test", "wants to be shown a client certificate"]);
    up.write(&certs(&world, UPSTREAM), "client");
    down.write(&certs(&world, MIRROR), "agent");
    world.done(&mut world.command(&[]));
}

#[test]
fn client_key_that_cannot_be_used_is_told() {
    let (world, up, down) = with_certificates();
    down.write(&certs(&world, MIRROR), "client");
    let folder = certs(&world, UPSTREAM);
    let key = folder.join("client.key");
    let tell = |key_text: Option<&str>, expected: &str| {
        up.write(&folder, "client");
        match key_text {
            Some(text) => fs::write(&key, text).unwrap(),
            None => fs::remove_file(&key).unwrap(),
        }
        let ended = world.run(&mut world.command(&[]));
        ended.fails_with(&["preparing connections to upstream.test: ", expected]);
    };
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    tell(
        Some(encrypted),
        "client.key is encrypted, and nobody is there to type its passphrase",
    );
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    tell(Some(old), "client.key is encrypted");
    tell(
        Some(&down.key),
        "client.key does not belong to the certificate",
    );
    tell(Some("hello"), "client.key holds no PEM key");
    tell(None, "client.cert has no key beside it");
}

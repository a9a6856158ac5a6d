//! Credential helpers.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use crate::world::{MIRROR, UPSTREAM, World, htpasswd};

/// Writes a helper that notes what it is asked, and then runs `script`.
fn helper(world: &World, name: &str, script: &str) {
    let log = world.path("asked");
    let text = format!(
        "#!/bin/sh\nread -r server\necho \"$0 $1 $server\" | sed 's,.*/,,' >>{}\n{script}\n",
        log.display()
    );
    let file = world.write(&format!("bin/docker-credential-{name}"), &text);
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

fn answer(user_and_password: &str) -> String {
    let (user, password) = user_and_password.split_once(':').unwrap();
    format!(r#"echo '{{"ServerURL":"x","Username":"{user}","Secret":"{password}"}}'"#)
}

fn command(world: &World, file: &str) -> Command {
    let mut command = world.command(&["--authfile", file]);
    command.env(
        "PATH",
        format!("{}:/usr/bin:/bin", world.path("bin").display()),
    );
    command
}

#[test]
fn helpers_of_a_host_and_of_all_hosts_give_passwords() {
    let mut world = World::new(true);
    let password = htpasswd();
    world.registries(&[&password]);
    let file = world.write(
        "config.json",
        &format!(r#"{{"auths":{{"{MIRROR}":{{}}}},"credsStore":"store","credHelpers":{{"{UPSTREAM}":"up"}}}}"#),
    );
    helper(&world, "up", &answer(&password));
    helper(&world, "store", &answer(&password));
    world.done(&mut command(&world, &file));
    // Each is asked once, however many requests there are.
    let asked = fs::read_to_string(world.path("asked")).unwrap();
    let mut asked: Vec<_> = asked.lines().collect();
    asked.sort();
    assert_eq!(
        asked,
        [
            "docker-credential-store get mirror.test",
            "docker-credential-up get upstream.test"
        ]
    );
}

#[test]
fn helper_whose_answer_is_refused_is_asked_once_more() {
    let mut world = World::new(true);
    let (password, old) = (htpasswd(), "mirror:secret-that-has-run-out");
    world.registries(&[&password, old]);
    let file = world.write("config.json", r#"{"credsStore":"cloud"}"#);
    // The first answer has run out; every later one is good.
    let script = format!(
        "[ -e {0} ] || {{ touch {0}; {1}; exit; }}\n{2}",
        world.path("first").display(),
        answer(old),
        answer(&password)
    );
    helper(&world, "cloud", &script);
    world.done(&mut command(&world, &file));
    let asked = fs::read_to_string(world.path("asked")).unwrap();
    assert_eq!(asked.lines().count(), 3, "{asked}");
}

#[test]
fn helpers_that_do_not_help_are_told() {
    let mut world = World::new(true);
    let password = htpasswd();
    world.registries(&[&password]);
    world.secret("u:secret-in-a-broken-answer");
    let file = world.write(
        "config.json",
        &format!(r#"{{"credHelpers":{{"{UPSTREAM}":"up"}}}}"#),
    );
    let told = |expected: &str| {
        let begin = format!(
            "the credential helper `docker-credential-up`, which {file} names for upstream.test, "
        );
        world.run(&mut command(&world, &file)).fails_with(&[
            "reading manifest upstream.test/team/app:1: ",
            &format!("{begin}{expected}"),
        ]);
    };
    told("is not on this agent's PATH; install it where the agent finds it");
    helper(&world, "up", "echo 'the session has ended'; exit 1");
    told("failed: the session has ended; try");
    helper(
        &world,
        "up",
        r#"echo '{"Secret":"secret-in-a-broken-answer"'; echo secret-in-a-broken-answer >&2"#,
    );
    told("answered with something else than `Username` and `Secret`");
    // One that has nothing is no problem: then nobody is logged in.
    helper(
        &world,
        "up",
        "echo credentials not found in native keychain; exit 1",
    );
    let ended = world.run(&mut command(&world, &file));
    ended.fails_with(&[
        "upstream.test answered 401 Unauthorized",
        "no entry for it is in",
    ]);
}

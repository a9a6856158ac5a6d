//! Passwords and tokens.

use crate::{
    host::{Part, TOKEN, Tokens},
    world::{MIRROR, Rights, UPSTREAM, World, htpasswd},
};

const READER: &str = "reader:secret-of-the-reader";
const WRITER: &str = "writer:secret-of-the-writer";
const OTHER: &str = "other:secret-of-another-place";

#[test]
fn registries_with_passwords() {
    let mut world = World::new(true);
    let password = htpasswd();
    let (up, _) = world.registries(&[&password]);
    world.secret(OTHER);
    let file = world.authfile(&[
        (UPSTREAM, OTHER),
        // The longest path counts.
        ("upstream.test/team", &password),
        ("upstream.test/team/app/deeper", OTHER),
        (MIRROR, &password),
        ("elsewhere.test", OTHER),
    ]);
    world.done(&mut world.command(&["--authfile", &file]));
    // One request that is refused and learns; the others say who asks at once.
    let anonymous = |s: &&crate::host::Seen| !s.headers.contains_key("authorization");
    assert_eq!(
        up.requests.lock().unwrap().iter().filter(anonymous).count(),
        1
    );
}

#[test]
fn no_secret_is_in_the_answer_for_scripts() {
    let mut world = World::new(true);
    let password = htpasswd();
    world.registries(&[&password]);
    let file = world.authfile(&[(UPSTREAM, &password), (MIRROR, &password)]);
    let mut command = world.command(&["--authfile", &file, "--output", "json"]);
    let ended = world.run(&mut command);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let answer: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["runs"][0]["state"], "succeeded", "{answer:#}");
    // Where everything fails, the failures are told without them too.
    let wrong = world.authfile(&[(UPSTREAM, OTHER), (MIRROR, &password)]);
    world.secret(OTHER);
    let again = ["--authfile", &wrong, "--output", "json", "--retry-times=0"];
    let refused = std::process::Command::output(&mut world.command(&again)).unwrap();
    let told = String::from_utf8(refused.stdout).unwrap();
    assert!(
        told.contains("401 Unauthorized") && !told.contains("secret-of-another-place"),
        "{told}"
    );
}

#[test]
fn wrong_password_is_told_with_its_entry_and_file() {
    let mut world = World::new(true);
    let password = htpasswd();
    world.registries(&[&password, OTHER]);
    let file = world.authfile(&[("upstream.test/team", OTHER), (MIRROR, &password)]);
    let ended = world.run(&mut world.command(&["--authfile", &file]));
    ended.fails_with(&[
        "reading manifest upstream.test/team/app:1: upstream.test answered 401 Unauthorized",
        &format!("it was asked with the entry `upstream.test/team` of {file}"),
    ]);
}

/// Both registries behind one token service; `outlived` uploads take longer than their token lasts.
fn with_tokens(outlived: usize) -> (World, std::sync::Arc<Tokens>, std::sync::Arc<Tokens>) {
    let mut world = World::new(false);
    let (up, down) = (Tokens::of(READER, 0), Tokens::of(WRITER, outlived));
    let guarded = |backend: &str, service: &str, tokens: &std::sync::Arc<Tokens>| Part::Guarded {
        backend: backend.to_owned(),
        service: service.to_owned(),
        tokens: tokens.clone(),
    };
    let (from, to) = (
        guarded(world.upstream.address(), "tokens.test", &up),
        guarded(world.mirror.address(), "mirror-tokens.test", &down),
    );
    let token = |own| Rights {
        own,
        certificate: false,
    };
    world.host(UPSTREAM, from, token(&[TOKEN]));
    world.host(MIRROR, to, token(&[TOKEN]));
    world.host("tokens.test", Part::Service(up.clone()), token(&[READER]));
    world.host(
        "mirror-tokens.test",
        Part::Service(down.clone()),
        token(&[WRITER]),
    );
    (world, up, down)
}

#[test]
fn registries_with_a_token_service_whose_tokens_end_during_uploads() {
    let (world, up, down) = with_tokens(3);
    let file = world.authfile(&[(UPSTREAM, READER), (MIRROR, WRITER)]);
    world.done(&mut world.command(&["--authfile", &file]));
    // A token for each repository, and one more for each that ended: no loop, and none for each request.
    assert_eq!(up.issued(), 2);
    let most = 2 * 2 + 3;
    assert!((2..=most).contains(&down.issued()), "{}", down.issued());
}

#[test]
fn token_service_that_refuses_is_told_with_the_entry() {
    let (world, up, down) = with_tokens(0);
    // The accounts are mixed up.
    let file = world.authfile(&[(UPSTREAM, "reader:secret-of-the-writer"), (MIRROR, WRITER)]);
    let mut command = world.command(&["--authfile", &file]);
    let output = command.output().unwrap();
    let told =
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    let expected = format!(
        "asking tokens.test for a token for upstream.test/team/app: tokens.test answered 401 Unauthorized (incorrect username or password); it was asked with the entry `upstream.test` of {file}"
    );
    assert!(told.contains(&expected), "{told}");
    assert!(!told.contains("secret-of-the-writer"), "{told}");
    assert_eq!((up.issued(), output.status.success()), (0, false));
    assert!(down.issued() <= 2);
}

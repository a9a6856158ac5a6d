//! Blob stores elsewhere, and registries.conf.

use std::fs;

use crate::{
    host::Part,
    support::registry::Registry,
    world::{MIRROR, Rights, UPSTREAM, World, htpasswd},
};

#[test]
fn blob_store_elsewhere_gets_no_credentials() {
    let mut world = World::new(true);
    let password = htpasswd();
    let (from, to) = (
        world.upstream.address().to_owned(),
        world.mirror.address().to_owned(),
    );
    let own = [password.as_str()];
    let known = || Rights {
        own: &own,
        ..Rights::default()
    };
    let redirecting = Part::Redirecting {
        backend: from.clone(),
        store: "store.test".to_owned(),
    };
    world.host(UPSTREAM, redirecting, known());
    world.host(MIRROR, Part::Registry(to), known());
    // The store has its own check: the signature in the address.
    let open = Registry::debian();
    world.fill(&open);
    let store = world.host(
        "store.test",
        Part::Store(open.address().to_owned()),
        Rights::default(),
    );
    let file = world.authfile(&[
        (UPSTREAM, &password),
        (MIRROR, &password),
        ("store.test", "x:secret-of-x"),
    ]);
    world.secret("x:secret-of-x");
    world.done(&mut world.command(&["--authfile", &file]));
    assert!(store.count("GET /v2/team/") > 3, "{:?}", store.lines());
}

/// A registry nearer than the upstream, with the set in it below `near/`.
fn near(world: &mut World) -> (Registry, std::sync::Arc<crate::host::Record>) {
    let registry = Registry::debian();
    let images = [
        crate::fixture::place::Placed::tagged("near/team/app", "1", &world.app),
        crate::fixture::place::Placed::tagged("near/team/web", "2", &world.web),
    ];
    crate::fixture::place::write_distribution_storage(&registry.storage(), &images).unwrap();
    let part = Part::Registry(registry.address().to_owned());
    let record = world.host("near.test", part, Rights::default());
    (registry, record)
}

fn conf(world: &World, text: &str) -> String {
    world.write("registries.conf", text)
}

const MIRRORED: &str =
    "[[registry]]\nlocation = 'upstream.test'\n[[registry.mirror]]\nlocation = 'near.test/near'\n";

#[test]
fn nearer_mirror_is_read_and_names_stay() {
    let mut world = World::new(false);
    let (up, _) = world.registries(&[]);
    let (_registry, near) = near(&mut world);
    let conf = conf(&world, MIRRORED);
    // Signatures are asked for upstream all the same: tests/mirror/attached.rs.
    let mut command = world.command(&["--remove-signatures"]);
    let ended = world.done(command.env("CONTAINERS_REGISTRIES_CONF", &conf));
    assert_eq!(up.lines(), [""; 0]);
    assert!(near.count("GET /v2/near/team/app/") > 0);
    // What the site's clusters are told is what the image set says.
    let documents = fs::read_dir(world.path("resources")).unwrap();
    let text: String = documents
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(
        text.contains("upstream.test/team") && !text.contains("near.test"),
        "{text}"
    );
    assert!(!ended.stdout.contains("near.test"), "{}", ended.stdout);
}

#[test]
fn mirror_that_lacks_something_or_is_away_only_means_that_the_next_is_asked() {
    let mut world = World::new(false);
    let (up, _) = world.registries(&[]);
    let (registry, near) = near(&mut world);
    let layer = world.app.all_blobs().into_keys().next().unwrap().clone();
    fs::remove_file(world.blob(&registry, &layer)).unwrap();
    let conf = conf(
        &world,
        &format!("{MIRRORED}[[registry.mirror]]\nlocation = 'away.test'\n"),
    );
    let mut command = world.command(&["--remove-signatures"]);
    world.done(command.env("CONTAINERS_REGISTRIES_CONF", &conf));
    assert_eq!(up.lines(), [format!("GET /v2/team/app/blobs/{layer}")]);
    assert!(near.count("GET") > 1);
}

#[test]
fn blob_that_a_mirror_has_wrong_is_read_from_the_next_place_and_all_else_is_not() {
    let mut world = World::new(false);
    let (up, _) = world.registries(&[]);
    let (registry, near) = near(&mut world);
    let blobs: Vec<_> = world.app.all_blobs().into_keys().cloned().collect();
    for blob in &blobs {
        let path = world.blob(&registry, blob);
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let conf = conf(&world, MIRRORED);
    let mut command = world.command(&["--remove-signatures", "--retry-times=0"]);
    world.done(command.env("CONTAINERS_REGISTRIES_CONF", &conf));
    let mut expected: Vec<String> = blobs
        .iter()
        .map(|blob| format!("GET /v2/team/app/blobs/{blob}"))
        .collect();
    let mut asked = up.lines();
    expected.sort();
    asked.sort();
    assert_eq!(asked, expected);
    for blob in &blobs {
        let line = format!("GET /v2/near/team/app/blobs/{blob}");
        assert_eq!(near.count(&line), 1, "{:?}", near.lines());
    }
}

#[test]
fn blob_that_is_wrong_in_all_places_fails_and_says_so() {
    let mut world = World::new(false);
    world.registries(&[]);
    let (registry, _near) = near(&mut world);
    let blob = world.app.all_blobs().into_keys().next().unwrap().clone();
    for registry in [&registry, &world.upstream] {
        let path = world.blob(registry, &blob);
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let conf = conf(&world, MIRRORED);
    let mut command = world.command(&["--remove-signatures", "--retry-times=0"]);
    let ended = world.run(command.env("CONTAINERS_REGISTRIES_CONF", &conf));
    ended.fails_with(&[&format!("sent bytes with another digest than {blob}")]);
}

#[test]
fn places_that_were_tried_are_named() {
    let mut world = World::new(false);
    world.registries(&[]);
    let (mut registry, _near) = near(&mut world);
    registry.stop();
    let conf = conf(
        &world,
        "[[registry]]\nprefix = 'upstream.test/team'\nlocation = 'gone.test/moved'\n[[registry.mirror]]\nlocation = 'away.test'\n",
    );
    let mut command = world.command(&["--retry-times=0"]);
    let ended = world.run(command.env("CONTAINERS_REGISTRIES_CONF", &conf));
    ended.fails_with(&[
        &format!("upstream.test/team/app:1 could be read from none of the places that {conf} names for it: (1) reading manifest away.test/app:1: away.test, through the proxy"),
        "(2) reading manifest gone.test/moved/app:1: gone.test, through the proxy",
    ]);
}

#[test]
fn blocked_upstream_is_not_asked_and_the_file_is_named() {
    let mut world = World::new(false);
    let (up, _) = world.registries(&[]);
    let conf = conf(
        &world,
        "[[registry]]\nlocation = 'upstream.test/team'\nblocked = true\n",
    );
    let mut command = world.command(&[]);
    let ended = world.run(command.env("CONTAINERS_REGISTRIES_CONF", &conf));
    ended.fails_with(&[&format!(
        "upstream.test/team/app:1 is not read: the `[[registry]]` for `upstream.test/team` of {conf} has `blocked = true`"
    )]);
    assert_eq!(up.lines(), [""; 0]);
}

#[test]
fn insecure_registry_needs_no_authority_and_may_be_plain() {
    let mut world = World::new(false);
    let (from, to) = (
        world.upstream.address().to_owned(),
        world.mirror.address().to_owned(),
    );
    world.host(UPSTREAM, Part::Registry(from), Rights::default());
    let conf = conf(
        &world,
        &format!(
            "[[registry]]\nlocation = 'upstream.test'\ninsecure = true\n[[registry]]\nlocation = '{to}'\ninsecure = true\n"
        ),
    );
    let mut command = world.command_to(&to, &[]);
    command.env_remove("SSL_CERT_FILE");
    world.done(command.env("CONTAINERS_REGISTRIES_CONF", &conf));
}

#[test]
fn registries_conf_that_cannot_be_read_is_told_before_anything_is_asked() {
    let mut world = World::new(false);
    let (up, _) = world.registries(&[]);
    let conf = conf(
        &world,
        "[registries.search]\nregistries = ['upstream.test']\n",
    );
    let mut command = world.command(&[]);
    let ended = world.run(command.env("CONTAINERS_REGISTRIES_CONF", &conf));
    ended.fails_with(&[&format!("{conf} is in version 1 of the format")]);
    assert_eq!(up.lines(), [""; 0]);
}

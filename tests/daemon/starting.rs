//! From nothing to a daemon that mirrors, and what keeps a second one from starting.

use std::fs;

use crate::site::{Site, condition, find, image_set};

#[test]
fn settings_of_init_start_and_a_commit_is_mirrored() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a", "team/b"]);
    let target = format!("{}/ocp", site.mirror.address());
    let (directory, state) = (site.directory(), site.folder().join("state"));
    let config = site.settings();
    let init = [
        "init",
        "--mirror",
        &target,
        "--directory",
        directory.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    let said = site.text(&init);
    assert!(said.contains("make the directory: mkdir -p"), "{said}");
    let again = site.cli(&init);
    assert_eq!(again.code, 3, "{again:?}");
    assert!(again.stderr.contains("--force overwrites it"), "{again:?}");

    let check = ["serve", "--config", config.to_str().unwrap(), "--check"];
    let checked = site.cli(&check);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.stderr.contains("warning: "), "{checked:?}");
    assert!(checked.stdout.contains("settings are valid"), "{checked:?}");

    // Root is given the system's socket, which a test leaves alone.
    let text = fs::read_to_string(&config).unwrap();
    let socket = format!("unix://{}", site.socket().display());
    let own = format!("unix://{}/imagesetd.sock", state.display());
    let text = text.replace("unix:///run/imagesetd/imagesetd.sock", &socket);
    let text = text.replace(&own, &socket) + &site.registries();
    fs::write(&config, text).unwrap();

    let repo = site.repo();
    site.serve();
    let commit = repo.commit(&[("prod/app.yaml", &image_set(&images))]);
    let status = site.ready(&commit);
    let set = find(&status, "prod/app").unwrap();
    let revision = format!("main@sha1:{commit}");
    assert_eq!(status["daemon"]["revision"], revision);
    assert_eq!(set["observed_revision"], revision);
    assert_eq!(set["applied_revision"], revision);
    assert_eq!(
        (&set["images_wanted"], &set["images_mirrored"]),
        (&2.into(), &2.into())
    );
    assert_eq!(
        condition(set, "Ready"),
        Some(format!("the mirror holds {revision}").as_str())
    );
    assert!(site.mirrored("team/a", "1").is_some());
    let documents = fs::read_dir(state.join("resources")).unwrap().count();
    assert!(documents > 0);
    assert_eq!(site.cli(&check).code, 0);

    // Settings can be checked beside an image set that is not valid.
    let broken = image_set(&images).replace("additionalImages", "additionalImage");
    fs::write(directory.join("broken.yaml"), broken).unwrap();
    let both = site.cli(&check);
    assert_eq!(both.code, 3, "{both:?}");
    let alone = ["serve", "--config", check[2], "--check-settings"];
    let alone = site.cli(&alone);
    assert_eq!(alone.code, 0, "{alone:?}");
    let valid = format!("{}: settings are valid\n", config.display());
    assert_eq!(alone.stdout, valid);
}

#[test]
fn waiting_says_for_what_and_ends_where_nothing_can_come() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a"]);
    let repo = site.repo();
    let commit = repo.commit(&[("prod/app.yaml", &image_set(&images))]);
    let nobody = site.cli(&["status", "prod/app", "--wait", "ready", "--timeout", "1s"]);
    assert_eq!(nobody.code, 5, "{nobody:?}");
    let told = nobody
        .stderr
        .matches("waiting: no daemon answers at")
        .count();
    assert_eq!(told, 1, "{nobody:?}");

    // It may come later; a misspelt name never does.
    let mut waiting = site.command(&["status", "prod/app", "--wait", "ready"]);
    let waiting = waiting
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    site.start("");
    let waited = waiting.wait_with_output().unwrap();
    let stderr = String::from_utf8(waited.stderr).unwrap();
    assert_eq!(waited.status.code(), Some(0), "{stderr}");
    for revision in [&[][..], &["--revision", &commit]] {
        let line = [&["status", "prod/ap", "--wait", "ready"][..], revision].concat();
        let misspelt = site.cli(&line);
        assert_eq!(misspelt.code, 3, "{misspelt:?}");
        assert!(
            misspelt
                .stderr
                .contains("Waiting until image set prod/ap is ready")
                && misspelt.stderr.contains("did you mean prod/app?"),
            "{misspelt:?}"
        );
    }
    // With a later commit it may.
    let later = "0123456789";
    let line = [
        "status",
        "prod/ap",
        "--wait",
        "ready",
        "--revision",
        later,
        "--timeout",
        "2s",
    ];
    let late = site.cli(&line);
    assert_eq!(late.code, 3, "{late:?}");
    assert!(late.stderr.contains("The time ran out"), "{late:?}");
    repo.commit(&[("prod/new.yaml", &image_set(&images))]);
    let line = ["status", "prod/new", "--wait", "ready", "--timeout", "20s"];
    let found = site.cli(&line);
    assert_eq!(found.code, 0, "{found:?}");
}

#[test]
fn a_second_daemon_is_refused_by_the_socket_and_by_the_state() {
    let mut site = Site::new();
    site.repo();
    site.start("");
    site.until("an answer", |_| true);
    let config = site.settings().display().to_string();
    let serve = ["serve", "--config", &config];

    let refused = site.cli(&serve);
    assert_eq!(refused.code, 3, "{refused:?}");
    let socket = site.socket().display().to_string();
    assert!(refused.stderr.contains(&socket), "{refused:?}");

    let text = fs::read_to_string(site.settings()).unwrap();
    let other = site.folder().join("other.yaml");
    let text = text.replace(&socket, &format!("{socket}2"));
    for folder in ["resources", "state"] {
        fs::write(&other, text.replace("/resources\n", "/resources2\n")).unwrap();
        if folder == "resources" {
            fs::write(&other, &text).unwrap();
        }
        let refused = site.cli(&["serve", "--config", other.to_str().unwrap()]);
        assert_eq!(refused.code, 3, "{refused:?}");
        let taken = site.folder().join(folder).display().to_string();
        assert!(refused.stderr.contains(&taken), "{refused:?}");
    }
    assert_eq!(site.cli(&["status"]).code, 0, "the first one is well");
}

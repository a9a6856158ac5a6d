//! The ways to say it: oc-mirror's words, a dry run, several files.

use std::fs;

use crate::{
    fixture::{image::Image, place::Placed},
    site::{Ended, FEW, PREFIX, Site, Updates, program, written},
};

#[test]
fn oc_mirrors_own_command_line_works() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    site.channel("4.16.1", "4.16.1");
    let run = || {
        let mut command = program();
        command
            .args(["once", "-c"])
            .arg(site.path("set.yaml"))
            .args([
                "--workspace",
                &format!("file://{}", site.path("ws").display()),
            ])
            .arg(format!("docker://{}/{PREFIX}", site.mirror.address()))
            .args([
                "--v2",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
                "--ignore-release-signature",
            ])
            .args([
                "--parallel-images",
                "8",
                "--cache-dir",
                "/nonexistent",
                "--image-timeout",
                "10m",
            ])
            .env("UPDATE_URL_OVERRIDE", updates.url());
        Ended::of(command.output().unwrap())
    };
    let ended = run();
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(
        ended.stderr.contains("--cache-dir means nothing here"),
        "{ended:#?}"
    );
    site.assert_release(&release, &FEW);
    let resources = site.path("ws/working-dir/cluster-resources");
    let names: Vec<_> = fs::read_dir(resources)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name.contains("idms") && name.ends_with(".yaml")),
        "{names:?}"
    );
    let mark = site.mirror.mark();
    assert_eq!(run().code, 0);
    assert_eq!(site.mirror.since(mark).len(), 0);
}

#[test]
fn dry_run_changes_nothing() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    let image = Image::simple("app");
    site.publish(&release.images());
    site.publish(&[Placed::tagged("team/app", "1", &image)]);
    let updates = Updates::of(&[&release]);
    site.image_set(&format!(
        "{}additionalImages:\n- name: {}/team/app:1\n",
        crate::site::channel(crate::site::CHANNEL, "4.16.1", "4.16.1"),
        site.upstream.address()
    ));
    let ended = site.done(&["--dry-run", &updates.option()]);
    ended.says(&["8 images to copy", "to download", "Documents"]);
    assert_eq!(written(&site.mirror.requests()), [""; 0]);
    assert!(!site.path("resources").exists());

    // What the dry run read is not read again.
    site.done(&[&updates.option()]);
    assert_eq!(site.upstream.requests().blobs_twice(), [""; 0]);
    site.assert_release(&release, &FEW);
}

#[test]
fn two_files_are_two_image_sets_and_one_that_is_broken_stops_only_itself() {
    let site = Site::new();
    let image = Image::simple("app");
    site.publish(&[Placed::tagged("team/app", "1", &image)]);
    site.additional(&["team/app:1"]);
    let broken = site.path("broken.yaml");
    let text = fs::read_to_string(site.path("set.yaml")).unwrap();
    fs::write(&broken, text.replace("additionalImages", "additionalImage")).unwrap();
    let ended = site.once(&["--config", broken.to_str().unwrap()]);
    assert_eq!(ended.code, 3, "{ended:#?}");
    assert!(ended.stderr.contains("broken.yaml:4:3"), "{ended:#?}");
    let hints = ended
        .stderr
        .matches("did you mean `additionalImages`?")
        .count();
    assert_eq!(hints, 1, "{ended:#?}");
    site.assert_mirrored("team/app:1", &image);
}

#[test]
fn mirror_that_is_not_there_is_told_with_its_name() {
    let mut site = Site::new();
    let image = Image::simple("app");
    site.publish(&[Placed::tagged("team/app", "1", &image)]);
    site.additional(&["team/app:1"]);
    site.mirror.stop();
    let ended = site.once(&["--retry-times=0"]);
    assert_eq!(ended.code, 5, "{ended:#?}");
    assert!(ended.stderr.contains(site.mirror.address()), "{ended:#?}");
}

#[test]
fn stanza_that_is_not_mirrored_yet_is_named_and_the_rest_lands() {
    let site = Site::new();
    let image = Image::simple("app");
    site.publish(&[Placed::tagged("team/app", "1", &image)]);
    site.image_set(&format!(
        "operators:\n- catalog: registry.redhat.io/redhat/redhat-operator-index:v4.16\nadditionalImages:\n- name: {}/team/app:1\n",
        site.upstream.address()
    ));
    let ended = site.once(&[]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    assert!(
        ended
            .stderr
            .contains("error: set: not all of it can be mirrored"),
        "{ended:#?}"
    );
    ended.says(&["mirror.operators", "Not mirrored by this version"]);
    site.assert_mirrored("team/app:1", &image);
}

//! The ways to say it: oc-mirror's words, a dry run, several files.

use std::fs;

use serde_json::{Value, json};

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
fn json_is_one_document_with_plans_runs_and_what_was_written() {
    let site = Site::new();
    let image = Image::simple("app");
    site.publish(&[Placed::tagged("team/app", "1", &image)]);
    site.additional(&["team/app:1", "team/never:1"]);
    let round = |more: &[&str]| -> (i32, Value) {
        let ended = site.once(&[&["--output", "json"], more].concat());
        let document = serde_json::from_str(&ended.stdout);
        (
            ended.code,
            document.unwrap_or_else(|e| panic!("{e}: {ended:#?}")),
        )
    };
    let (code, planned) = round(&["--dry-run"]);
    assert_eq!((code, &planned["schema"]), (6, &json!(1)));
    let plan = &planned["plans"][0];
    let unresolved = &plan["unresolved"][0];
    assert_eq!(
        (
            &plan["image_set"],
            &plan["step_count"],
            &unresolved["cause"]
        ),
        (&json!("set"), &json!(1), &json!("other"))
    );
    let empty = json!([]);
    for field in ["runs", "written", "unplanned", "problems"] {
        assert_eq!(planned[field], empty, "{field}");
    }

    let (code, done) = round(&[]);
    assert_eq!((code, &done["plans"][0]["id"]), (6, &plan["id"]));
    let run = &done["runs"][0];
    assert_eq!(
        (
            &run["plan_id"],
            &run["state"],
            &run["progress"]["images_done"]
        ),
        (&plan["id"], &json!("succeeded"), &json!(1))
    );
    let file = site.path("resources/itms-set-additional.yaml");
    assert_eq!(done["written"], json!([file]));

    // What is wrong with a file is in the document too, and an order that cannot be is an error document.
    site.image_set("additionalImage: []");
    let (code, broken) = round(&[]);
    assert_eq!(code, 3);
    assert_eq!(broken["unplanned"][0]["reason"], "ImageSetInvalid");
    assert_eq!(broken["problems"][0]["line"], 4);
    let (code, refused) = round(&["--v1"]);
    assert_eq!((code, &refused["error"]["code"]), (2, &json!("USAGE")));
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
        "helm:\n  repositories:\n  - name: charts\n    url: https://charts.example.com\nadditionalImages:\n- name: {}/team/app:1\n",
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
    ended.says(&["mirror.helm", "Not mirrored by this version"]);
    site.assert_mirrored("team/app:1", &image);
}

//! Whether the mirror still holds what was mirrored: content is taken away behind its back, and found, and brought back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    fixture::image::{Flavor, Image, Layer},
    site::{Site, find, image_set, is},
    support::skopeo,
};

/// A site whose mirror holds three images: two of one layer each, and an index for two platforms.
struct Whole {
    site: Site,
    commit: String,
    images: [Image; 3],
}

const NAMES: [&str; 3] = ["team/a", "team/b", "team/c"];

fn whole(more: &str) -> Whole {
    let mut site = Site::new();
    let single = |name: &str| {
        let layers = [Layer::noise(name, 40_000)];
        Image::new(Flavor::Oci, "amd64", &layers, &[("name", name)])
    };
    let images = [
        single("a"),
        single("b"),
        Image::simple_index("c", &["amd64", "arm64"]),
    ];
    for (name, image) in NAMES.iter().zip(&images) {
        site.publish(name, "1", image);
    }
    let repo = site.repo();
    let sources = NAMES.map(|name| site.source(name));
    repo.commit(&[("app.yaml", &image_set(&sources))]);
    let commit = repo.head();
    site.start(more);
    site.ready(&commit);
    Whole {
        site,
        commit,
        images,
    }
}

impl Whole {
    fn storage(&self) -> PathBuf {
        self.site.mirror.storage().join("docker/registry/v2")
    }

    /// The file of a blob or manifest in the mirror's storage.
    fn data(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let folder = self.storage().join("blobs/sha256").join(&hex[..2]);
        folder.join(hex).join("data")
    }

    /// Takes a manifest out of a repository of the mirror.
    fn lose_manifest(&self, name: &str, digest: &str) {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let path = format!("repositories/ocp/{name}/_manifests/revisions/sha256/{hex}");
        fs::remove_dir_all(self.storage().join(path)).unwrap();
    }

    /// The largest blob of an image: its layer.
    fn layer(&self, number: usize) -> String {
        let blobs = self.images[number].all_blobs();
        let largest = blobs.iter().max_by_key(|(_, bytes)| bytes.len());
        largest.unwrap().0.to_string()
    }

    fn place(&self, number: usize) -> String {
        format!("{}/ocp/{}:1", self.site.mirror.address(), NAMES[number])
    }

    fn verify(&self, arguments: &[&str]) -> (i32, Value) {
        let arguments = [&["verify"], arguments, &["--output", "json"]].concat();
        let answer = self.site.cli(&arguments);
        (answer.code, answer.json())
    }

    /// Asserts that skopeo reads the same from both sides.
    fn skopeo_agrees(&self) {
        for name in NAMES {
            let upstream = skopeo::copy_to_dir(&self.site.upstream.docker(&format!("{name}:1")));
            let mirror = self.site.mirror.docker(&format!("ocp/{name}:1"));
            assert_eq!(skopeo::copy_to_dir(&mirror), upstream, "{name}");
        }
    }

    fn status(&self) -> Value {
        find(&self.site.json(&["status"]), "app").unwrap().clone()
    }
}

/// What is lost, as kind and reference behind the registry's name.
fn losses(document: &Value) -> Vec<(String, String)> {
    let losses = document["losses"].as_array().unwrap().iter();
    let short = |loss: &Value| {
        let reference = loss["reference"].as_str().unwrap();
        let (_, path) = reference.split_once('/').unwrap();
        (loss["kind"].as_str().unwrap().to_owned(), path.to_owned())
    };
    losses.map(short).collect()
}

fn pair(kind: &str, path: impl Into<String>) -> (String, String) {
    (kind.to_owned(), path.into())
}

#[test]
fn what_the_mirror_lost_is_named_and_brought_back() {
    let whole = whole("");
    let (code, document) = whole.verify(&[]);
    assert_eq!((code, &document["progress"]["lost"]), (0, &0.into()));
    // Two images, an index with two children.
    assert_eq!(
        (&document["manifests"], &document["blobs"]),
        (&5.into(), &0.into())
    );
    assert_eq!(document["depth"], "quick");
    assert!(whole.status()["last_verified_at"].is_string());

    let (layer, manifest) = (whole.layer(0), whole.images[1].digest().to_string());
    fs::remove_file(whole.data(&layer)).unwrap();
    whole.lose_manifest("team/b", &manifest);
    let (code, document) = whole.verify(&["app"]);
    let lost_manifest = pair("manifest_missing", format!("ocp/team/b@{manifest}"));
    assert_eq!((code, losses(&document)), (6, vec![lost_manifest.clone()]));
    let status = whole.status();
    assert!(
        is(&status, "MirrorDrifted") && !is(&status, "Ready"),
        "{status}"
    );
    let events = |kind| {
        let told = whole
            .site
            .text(&["events", "app", "--kind", kind, "--output", "ndjson"]);
        let told = told.lines().map(|line| serde_json::from_str(line).unwrap());
        told.collect::<Vec<Value>>()
    };
    let lost = events("drift");
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(
        (&lost[0]["standing"], &lost[0]["image_set"]),
        (&true.into(), &"app".into())
    );
    let message = lost[0]["message"].as_str().unwrap();
    assert!(message.contains(&manifest), "{message}");

    let (code, document) = whole.verify(&["--depth", "deep"]);
    let lost_layer = pair("blob_missing", format!("ocp/team/a@{layer}"));
    assert_eq!(
        (code, losses(&document)),
        (6, vec![lost_layer, lost_manifest])
    );
    let needed = |at: usize| document["losses"][at]["images"].clone();
    let expected = [whole.place(0), whole.place(1)];
    assert_eq!(
        [needed(0), needed(1)],
        expected.map(|place| serde_json::json!([place]))
    );
    let text = whole.site.cli(&["verify", "--depth", "deep"]);
    assert_eq!(text.code, 6);
    let said = format!(
        "blob {}/ocp/team/a@{layer} is not in the mirror any more\n    needed by {} (app)",
        whole.site.mirror.address(),
        whole.place(0)
    );
    assert!(text.stdout.contains(&said), "{}", text.stdout);

    let before = whole.site.upstream.mark();
    let (code, document) = whole.verify(&["--depth", "deep", "--repair"]);
    assert_eq!(code, 0, "{document}");
    let run = &document["repairs"][0]["run"];
    assert_eq!(
        (&run["state"], &run["trigger"]),
        (&"succeeded".into(), &"repair".into())
    );
    assert_eq!(run["progress"]["images_done"], 2, "{run}");
    let requests = whole.site.upstream.since(before);
    let read: Vec<&str> = requests
        .iter()
        .filter_map(|request| request.blob())
        .collect();
    assert_eq!(read, [layer], "nothing but what was lost is downloaded");

    let (code, document) = whole.verify(&["--depth", "read"]);
    assert_eq!((code, losses(&document)), (0, vec![]), "{document}");
    let status = find(&whole.site.ready(&whole.commit), "app")
        .unwrap()
        .clone();
    assert!(!is(&status, "MirrorDrifted"), "{status}");
    assert_eq!(events("drift"), Vec::<Value>::new());
    whole.skopeo_agrees();
}

#[test]
fn a_child_of_an_index_and_a_tag_that_moved_are_found_and_mended() {
    // Rounds go on beside it, and do not take what only looks whole for whole.
    let whole = whole("refresh: 1s\n");
    let child = whole.images[2].manifests()[0].digest().to_string();
    whole.lose_manifest("team/c", &child);
    skopeo::copy(
        &whole.site.upstream.docker("team/b:1"),
        &whole.site.mirror.docker("ocp/team/a:1"),
    );
    let (code, document) = whole.verify(&[]);
    let expected = vec![
        pair("tag_moved", "ocp/team/a:1"),
        pair("manifest_missing", format!("ocp/team/c@{child}")),
    ];
    assert_eq!((code, losses(&document)), (6, expected));
    let (code, document) = whole.verify(&["--repair"]);
    assert_eq!(code, 0, "{document}");
    assert_eq!(whole.verify(&["--depth", "deep"]).0, 0);
    whole.skopeo_agrees();
}

#[test]
fn other_bytes_are_found_by_reading_and_not_repaired_by_copying() {
    let whole = whole("");
    let layer = whole.layer(0);
    let file = whole.data(&layer);
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(whole.verify(&["--depth", "deep"]).0, 0);
    let (code, document) = whole.verify(&["--depth", "read", "--repair"]);
    let corrupt = pair("blob_corrupt", format!("ocp/team/a@{layer}"));
    assert_eq!((code, losses(&document)), (6, vec![corrupt]));
    assert!(document["progress"]["bytes_read"].as_u64().unwrap() > 40_000);
    assert!(document["repairs"][0]["run"].is_null(), "{document}");
    // As the message says.
    fs::remove_file(&file).unwrap();
    assert_eq!(whole.verify(&["--depth", "deep", "--repair"]).0, 0);
    assert_eq!(whole.verify(&["--depth", "read"]).0, 0);
    whole.skopeo_agrees();
}

#[test]
fn the_daemon_checks_by_itself_and_repairs_where_settings_say_so() {
    let mut whole = whole("verify: {every: 1s, depth: deep}\n");
    let layer = whole.layer(0);
    let file = whole.data(&layer);
    let aside = whole.site.folder().join("aside");
    fs::rename(&file, &aside).unwrap();
    let drifted = |set: &Value| is(set, "MirrorDrifted");
    whole.site.until_set("app", "drifted", drifted);
    fs::rename(&aside, &file).unwrap();
    whole.site.until_set("app", "whole again", |set| {
        !drifted(set) && is(set, "Ready")
    });
    whole.site.stop();

    fs::remove_file(&file).unwrap();
    whole
        .site
        .start("verify: {every: 1s, depth: deep, repair: true}\n");
    let repaired = |list: &Value| {
        let run = &list["runs"][0];
        run["trigger"] == "repair" && run["state"] == "succeeded"
    };
    whole
        .site
        .poll("a repair", &["runs", "list", "app"], repaired);
    assert!(Path::new(&file).is_file());
    whole.site.ready(&whole.commit);
    whole.skopeo_agrees();
}

#[test]
fn a_check_that_cannot_ask_says_so_and_takes_nothing_back() {
    let mut whole = whole("retries: 0\n");
    let (code, document) = whole.verify(&["none"]);
    assert_eq!(
        (code, &document["error"]["code"]),
        (3, &"IMAGE_SET_NOT_FOUND".into())
    );
    fs::remove_file(whole.data(&whole.layer(0))).unwrap();
    assert_eq!(whole.verify(&["--depth", "deep"]).0, 6);
    whole.site.mirror.stop();
    let (code, document) = whole.verify(&["--depth", "deep"]);
    assert_eq!(
        (code, &document["error"]["code"]),
        (5, &"MIRROR_UNAVAILABLE".into())
    );
    assert!(is(&whole.status(), "MirrorDrifted"));
    // Neither does a restart, nor a look that is not as close.
    whole.site.mirror.resume();
    whole.site.stop();
    whole.site.start("");
    whole.site.until_set("app", "seen", |set| set["file"] != "");
    assert_eq!(whole.verify(&[]).0, 0);
    assert!(is(&whole.status(), "MirrorDrifted"));
}

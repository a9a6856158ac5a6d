//! A site that comes from another tool: its documents are in use, its content lies in one repository.

use std::fs;

use serde_json::Value;

use crate::{
    site::{Site, image_set, is},
    support::skopeo,
};

const NAMES: [&str; 2] = ["team/a", "team/b"];

/// A site whose mirror has two images in the one repository of another tool, and a third image that it lacks.
fn taken_over() -> Site {
    started("apply: manual\n", &[])
}

/// The same with these settings, and with image sets that take these images by themselves.
fn started(settings: &str, others: &[(&str, &str)]) -> Site {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a", "team/b", "team/c"]);
    for name in NAMES {
        let tag = name.replace('/', "-");
        let to = site.mirror.docker(&format!("ocp4/everything:{tag}"));
        skopeo::copy(&site.upstream.docker(&format!("{name}:1")), &to);
    }
    let (source, mirror) = (site.upstream.address(), site.mirror.address());
    let rule = |name: &str| {
        format!("  - source: \"{source}/{name}\"\n    mirrors: [\"{mirror}/ocp4/everything\"]\n")
    };
    let object = |kind: &str, list: &str, rules: &str| {
        format!(
            "apiVersion: config.openshift.io/v1\nkind: {kind}\nmetadata:\n  name: {}-oc-mirror\nspec:\n  {list}:\n{rules}",
            kind.to_lowercase()
        )
    };
    let rules = NAMES.map(rule).concat();
    let folder = site.folder().join("in-use");
    fs::create_dir(&folder).unwrap();
    let idms = object("ImageDigestMirrorSet", "imageDigestMirrors", &rules);
    let itms = object("ImageTagMirrorSet", "imageTagMirrors", &rules);
    fs::write(folder.join("idms-oc-mirror.yaml"), idms).unwrap();
    fs::write(folder.join("itms-oc-mirror.yaml"), itms).unwrap();
    let repo = site.repo();
    repo.commit(&[("app.yaml", &image_set(&images))]);
    for (file, name) in others {
        repo.commit(&[(file, &image_set(&site.publish_simple(&[name])))]);
    }
    site.start(settings);
    site.until_set("app", "waiting", |set| is(set, "Waiting"));
    site
}

/// What of the answer is numbers and yes or no.
fn told(answer: &Value) -> Value {
    let impact = &answer["node_impact"];
    serde_json::json!({
        "set": answer["image_set"],
        "rules": answer["rules"],
        "images": [answer["images_wanted"], answer["images_held"], answer["images_elsewhere"]],
        "nodes": [impact["reload"], impact["drain"], impact["unknown"]],
    })
}

#[test]
fn documents_in_use_are_published_and_content_is_taken_over_within_the_registry() {
    let site = taken_over();
    let expected = serde_json::json!({
        "set": "app",
        "rules": 4,
        "images": [3, 0, 2],
        "nodes": [false, false, false],
    });
    let preview = site.json(&["adopt", "--cluster-resources", "in-use", "--dry-run"]);
    assert_eq!(told(&preview), expected, "{preview}");
    assert_eq!(site.all_documents(), "");

    let text = site.text(&["adopt", "app", "--cluster-resources", "in-use"]);
    let says = [
        "app takes over 4 rules in use\n",
        "Of 3 images wanted the mirror holds 0 in place and 2 elsewhere; it lacks 1\n",
        "Nodes, once they have our documents instead: 0 drains; untouched",
        "note: apply our documents first, then delete these from the cluster: ImageDigestMirrorSet imagedigestmirrorset-oc-mirror, ImageTagMirrorSet imagetagmirrorset-oc-mirror",
    ];
    for line in says {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (source, mirror) = (site.upstream.address(), site.mirror.address());
    let documents = site.all_documents();
    for name in NAMES {
        let rule = format!(
            "- source: \"{source}/{name}\"\n      mirrors:\n        - \"{mirror}/ocp4/everything\"\n"
        );
        assert_eq!(documents.matches(&rule).count(), 2, "{rule}{documents}");
    }
    let again = site.json(&["adopt", "app", "--cluster-resources", "in-use"]);
    let documents = again["documents"].as_array().unwrap();
    assert!(
        documents.iter().all(|d| d["before"] == d["after"]),
        "{again}"
    );

    // Only the image that was nowhere is downloaded; the others are taken from where they lie.
    let before = site.upstream.mark();
    let run = site.json(&["apply", "app"])["run"].clone();
    assert_eq!(run["progress"]["images_done"], 3, "{run}");
    let third = skopeo::copy_to_dir(&site.upstream.docker("team/c:1"));
    let own = third.files.keys().map(|hex| format!("sha256:{hex}"));
    let gets = site.upstream.since(before).blob_gets();
    assert!(own.clone().count() >= gets.len(), "{gets:?}");
    assert!(
        gets.keys().all(|got| own.clone().any(|own| own == *got)),
        "{gets:?}"
    );
    assert!(site.mirrored("team/a", "1").is_some());
    // The former rules stay beside the new ones.
    let documents = site.all_documents();
    assert!(
        documents.contains(&format!("- \"{mirror}/ocp/team/a\"\n")),
        "{documents}"
    );
    assert!(documents.contains("ocp4/everything"), "{documents}");
}

#[test]
fn what_cannot_be_taken_over_is_said() {
    let site = taken_over();
    fs::create_dir(site.folder().join("empty")).unwrap();
    fs::write(site.folder().join("empty/a.yaml"), "kind: ConfigMap\n").unwrap();
    let none = site.cli(&["adopt", "--cluster-resources", "empty"]);
    assert_eq!(none.code, 2, "{none:?}");
    assert!(none.stderr.contains("hold no mirror rules"), "{none:?}");
    let broken = "apiVersion: config.openshift.io/v1\nkind: ImageDigestMirrorSet\nmetadata: {name: a}\nspec: {imageDigestMirrors: [{source: \"https://q.io\"}]}\n";
    fs::write(site.folder().join("empty/b.yaml"), broken).unwrap();
    let broken = site.cli(&["adopt", "--cluster-resources", "empty"]);
    assert_eq!(broken.code, 2, "{broken:?}");
    assert!(broken.stderr.contains("b.yaml:4"), "{broken:?}");
    let unknown = site.cli(&["adopt", "other", "--cluster-resources", "in-use"]);
    assert_eq!(unknown.code, 3, "{unknown:?}");
}

#[test]
fn documents_of_another_image_set_that_wait_go_on_waiting() {
    let settings =
        "apply: manual\nhold_documents: drains\nimage_sets: [{name: lab, apply: automatic}]\n";
    let site = started(settings, &[("lab.yaml", "other/lab")]);
    site.until_set("lab", "held", |set| {
        is(set, "DocumentsHeld") && is(set, "Ready")
    });
    site.json(&["adopt", "app", "--cluster-resources", "in-use"]);
    let documents = site.all_documents();
    assert!(documents.contains("ocp4/everything"), "{documents}");
    assert!(!documents.contains("/other"), "{documents}");
    site.until_set("lab", "held still", |set| is(set, "DocumentsHeld"));
}

//! `imagesetd cluster explain`, with skopeo as a witness.

use std::fs;

use serde_json::json;

use super::{Desk, object};
use crate::support::{
    oci::Image,
    registry::{Options, Registry},
    skopeo, tool,
};

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn what_is_tried_is_listed_in_order() {
    let desk = Desk::new(&[(
        "a.yaml",
        &(object("a", &["d q.io/a m.io/a n.io/a"]) + &object("a", &["t q.io/b! m.io/b"])),
    )]);
    let (code, answer) = desk.json(&["explain", &format!("q.io/a/x@{DIGEST}"), "a.yaml"]);
    let source = |reference: &str, mirror: &str| json!({"reference": format!("{reference}@{DIGEST}"), "mirror": mirror, "insecure": false, "present": null, "refused_by": ""});
    assert_eq!(
        (code, answer),
        (
            0,
            json!({
                "schema": 1, "reference": format!("q.io/a/x@{DIGEST}"), "matched": "q.io/a", "blocked": false, "invalid": "",
                "sources": [source("m.io/a/x", "m.io/a"), source("n.io/a/x", "n.io/a"), source("q.io/a/x", "")],
            })
        )
    );
    let text = desk.run(&["explain", "q.io/a/x:v1", "a.yaml"]);
    assert_eq!(
        (text.code, text.out.as_str()),
        (
            0,
            "q.io/a/x:v1, by tag, falls under the rules for q.io/a\n  1. q.io/a/x:v1 (the source itself)\n"
        )
    );
    let text = desk.run(&["explain", &format!("q.io/b@{DIGEST}"), "a.yaml"]);
    assert_eq!(
        (text.code, text.out),
        (
            3,
            format!(
                "q.io/b@{DIGEST}, by digest, falls under the rules for q.io/b\n  the source itself is never contacted (NeverContactSource, or a blocked registry)\n  so nothing is tried and the pull fails: no rule serves references by digest\n"
            )
        )
    );
    assert_eq!(desk.run(&["explain", "redis:7", "a.yaml"]).code, 2);
    assert_eq!(desk.run(&["explain", "q.io/a/x:v1"]).code, 2);
}

/// The file rendered of documents, and the documents themselves, explain alike.
#[test]
fn the_rendered_file_explains_as_the_documents_do() {
    let desk = Desk::new(&[(
        "a.yaml",
        &(object("a", &["d q.io m.io/all", "d q.io/a m.io/a"])
            + &object("a", &["t q.io/a/b n.io/b"])
            + &object("b", &["i q.io/a o.io/a m.io/a"])
            + &object("c", &["d r.io! m.io"])),
    )]);
    let file = desk.run(&["registries-conf", "a.yaml"]).out;
    desk.write("nodes.conf", &file);
    for name in [
        "q.io/x",
        "q.io/a",
        "q.io/a/b/c",
        "q.io:5000/a",
        "r.io/a",
        "s.io/a",
    ] {
        for reference in [format!("{name}:v1"), format!("{name}@{DIGEST}")] {
            assert_eq!(
                desk.json(&["explain", &reference, "--registries-conf", "nodes.conf"]),
                desk.json(&["explain", &reference, "a.yaml"]),
                "{reference}"
            );
        }
    }
}

/// With the rendered file in place, skopeo takes an image from the mirror that is named first and has it.
#[test]
fn skopeo_pulls_from_the_mirror_that_is_named() {
    let (first, second) = (
        Registry::debian(),
        Registry::start(crate::support::registry::Kind::Debian, Options::default()),
    );
    let image = Image::new(&[b"witness"]);
    let layout = tempfile::tempdir().unwrap();
    image.write_layout(layout.path(), "v1");
    let from = format!("oci:{}:v1", layout.path().display());
    // The digest mirror that is named first has nothing; the second has it. The tag mirror is another repository.
    skopeo::copy(&from, &second.docker("held/app:v1"));
    skopeo::copy(&from, &second.docker("tags/app:v1"));
    let (one, two) = (first.address(), second.address());
    let desk = Desk::new(&[(
        "a.yaml",
        &(object("a", &[&format!("d up.invalid/team {one}/empty {two}/held")])
            + &object("a", &[&format!("t up.invalid/team {two}/tags")])),
    )]);
    let insecure = ["--insecure", one, "--insecure", two];
    let file = desk
        .run(&[&["registries-conf"], &insecure[..], &["a.yaml"]].concat())
        .out;
    let file = desk.write("nodes.conf", &file);
    let digest = format!("up.invalid/team/app@{}", image.digest());
    for (reference, expected) in [
        (digest.as_str(), "held/app"),
        ("up.invalid/team/app:v1", "tags/app"),
    ] {
        let (_, answer) = desk.json(&["explain", reference, "--registries-conf", "nodes.conf"]);
        let named = answer["sources"].as_array().unwrap();
        let tried: Vec<&str> = named
            .iter()
            .filter_map(|s| s["reference"].as_str())
            .collect();
        let mark = second.mark();
        let output = std::process::Command::new(tool::find("skopeo"))
            .args(["--insecure-policy", "--registries-conf"])
            .arg(&file)
            .args(["inspect", "--raw", &format!("docker://{reference}")])
            .env("CONTAINERS_REGISTRIES_CONF", &file)
            .env("REGISTRY_AUTH_FILE", "/nonexistent/auth.json")
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.stdout, image.manifest, "{reference}: {error}");
        let asked = second.since(mark);
        let paths: Vec<&str> = asked
            .iter()
            .filter(|r| r.path.contains("/manifests/"))
            .map(|r| r.path.as_str())
            .collect();
        let repository = format!("/v2/{expected}/manifests/");
        assert!(
            paths.iter().all(|path| path.starts_with(&repository)) && !paths.is_empty(),
            "{paths:?}"
        );
        assert!(
            tried.contains(
                &format!(
                    "{two}/{expected}{}",
                    &reference["up.invalid/team/app".len()..]
                )
                .as_str()
            ),
            "{tried:?}"
        );
    }
    fs::remove_file(file).unwrap();
}

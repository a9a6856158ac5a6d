//! `imagesetd cluster install-config`, `pull-secret` and `migrate-icsp`.

use std::fs;

use super::{Desk, object};

const SECRET: &str =
    r#"{"auths":{"m.lan:5000":{"auth":"YTpi"},"quay.io":{"auth":"YzpodW50ZXIy"}}}"#;

#[test]
fn the_installer_gets_sources_bundle_and_secret() {
    let desk = Desk::new(&[
        (
            "idms.yaml",
            &(object("a", &["d quay.io/a m.lan:5000/a"])
                + &object("a", &["t quay.io/b m.lan:5000/b"])),
        ),
        (
            "ca.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ),
        ("auth.json", SECRET),
        (
            "install-config.yaml",
            "apiVersion: v1 # one\npullSecret: '{\"auths\":{\"x.lan\":{\"auth\":\"YTpi\"}}}'\nmetadata: {name: a}\n",
        ),
    ]);
    let ended = desk.run(&[
        "install-config",
        "idms.yaml",
        "--version",
        "4.16",
        "--base",
        "install-config.yaml",
        "--trust-bundle",
        "ca.pem",
        "--pull-secret",
        "auth.json",
    ]);
    let expected = format!(
        "\
apiVersion: v1 # one
pullSecret: '{{\"auths\":{{\"x.lan\":{{\"auth\":\"YTpi\"}},{}
metadata: {{name: a}}
imageDigestSources:
  - source: quay.io/a
    mirrors:
      - m.lan:5000/a
additionalTrustBundle: |
  -----BEGIN CERTIFICATE-----
  AAAA
  -----END CERTIFICATE-----
additionalTrustBundlePolicy: Always
",
        &SECRET[r#"{"auths":{"#.len()..]
            .to_owned()
            .trim_end()
            .replace("}}}", "}}}'")
    );
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, expected.as_str()),
        "{}",
        ended.err
    );
    assert_eq!(
        ended.err,
        "the tag rule for `quay.io/b` has no place in install-config.yaml; apply its ImageTagMirrorSet after the installation\n"
    );
    desk.write("bad.yaml", "a: [\n");
    let ended = desk.run(&["install-config", "idms.yaml", "--base", "bad.yaml"]);
    assert_eq!((ended.code, ended.out.as_str()), (3, ""));
    assert!(
        ended.err.contains("bad.yaml:2:1: error: this is not YAML"),
        "{}",
        ended.err
    );
    desk.write("none.yaml", "kind: ConfigMap\n");
    assert_eq!(desk.run(&["install-config", "none.yaml"]).code, 3);
}

#[test]
fn secrets_are_merged_and_never_shown_in_errors() {
    let desk = Desk::new(&[
        ("one.json", SECRET),
        ("two.json", r#"{"auths":{"n.lan":{"auth":"ZDpl"}}}"#),
        ("bad.json", r#"{"auths":{"n.lan":{"auth":"hunter2!"}}}"#),
    ]);
    let ended = desk.run(&["pull-secret", "merge", "one.json", "two.json"]);
    assert_eq!(
        (ended.code, ended.out.as_str(), ended.err.as_str()),
        (
            0,
            "{\"auths\":{\"m.lan:5000\":{\"auth\":\"YTpi\"},\"quay.io\":{\"auth\":\"YzpodW50ZXIy\"},\"n.lan\":{\"auth\":\"ZDpl\"}}}\n",
            ""
        )
    );
    let ended = desk.run(&[
        "pull-secret",
        "merge",
        "one.json",
        "--for-mirror",
        "m.lan:5000/ocp",
    ]);
    assert_eq!(
        (ended.code, ended.out.as_str(), ended.err.as_str()),
        (
            0,
            "{\"auths\":{\"m.lan:5000\":{\"auth\":\"YTpi\"}}}\n",
            "left out: quay.io\n"
        )
    );
    let ended = desk.run(&["pull-secret", "merge", "bad.json", "one.json"]);
    assert_eq!((ended.code, ended.out.as_str()), (3, ""));
    assert!(
        ended
            .err
            .contains("bad.json: the `auth` of `n.lan` is not base64"),
        "{}",
        ended.err
    );
    assert!(!ended.err.contains("hunter2"));
}

#[test]
fn the_old_kind_becomes_the_new_one() {
    let ours = object("prod-release", &["d quay.io/a m.lan/a"]).replace(
        "  name: prod-release\n",
        "  name: prod-release\n  annotations: {imagesetd.io/image-set: prod}\n",
    );
    let desk = Desk::new(&[
        (
            "icsp.yaml",
            &(object("old", &["i quay.io/a m.lan/a"])
                .replace("  name: old\n", "  name: old\n  uid: x\n")
                + "---\nkind: ConfigMap\n"),
        ),
        ("ours.yaml", &ours),
    ]);
    let ended = desk.run(&["migrate-icsp", "icsp.yaml", "--published", "ours.yaml"]);
    let expected = "\
---
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata:
  name: old
spec:
  imageDigestMirrors:
    - source: quay.io/a
      mirrors:
        - m.lan/a
";
    assert_eq!(
        (ended.code, ended.out.as_str(), ended.err.as_str()),
        (
            0,
            expected,
            "old: dropped: `metadata.uid`\n`quay.io/a` is covered by image set `prod` already, with all its mirrors: the old rule can go\n"
        )
    );
    let into = ["migrate-icsp", "icsp.yaml", "--dest-dir", "new"];
    assert_eq!(desk.run(&into).code, 0);
    let file = desk.path().join("new/idms-old.yaml");
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    // Again is no harm; a file that somebody changed is not overwritten.
    assert_eq!(desk.run(&into).code, 0);
    fs::write(&file, "mine\n").unwrap();
    assert_eq!(desk.run(&into).code, 3);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine\n");
    assert_eq!(desk.run(&["migrate-icsp", "ours.yaml"]).code, 3);
}

//! `imagesetd cluster coverage`.

use serde_json::{Value, json};

use super::{Desk, object};

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

const MANIFESTS: &str = "\
# Source: chart/templates/a.yaml
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      initContainers:
      - image: \"q.io/tag/init:v1\"
      containers:
      - name: a
        image: q.io/digest/app@DIGEST
        env:
        - name: RELATED_IMAGE_TOOL
          value: q.io/digest/tool:v2
        - name: OTHER
          value: q.io/not/an/image
        args: [--sidecar, r.io/x@DIGEST]
---
kind: ImageStream
spec:
  tags:
  - from: {kind: DockerImage, name: 'never.io/a:v1'}
  - from: {kind: ImageStreamTag, name: 'a:v1'}
---
kind: CronJob
spec: {containers: [{image: redis}, {image: q.io/digest/app@DIGEST}]}
";

fn rules() -> String {
    object("a", &["d q.io/digest m.io/d", "d never.io! m.io/n"])
        + &object("a", &["t q.io/tag m.io/t"])
}

fn standing(answer: &Value) -> Vec<(&str, u64, &str)> {
    let images = answer["images"].as_array().unwrap();
    let word = |image: &'_ Value, key: &str| image[key].as_str().unwrap().to_owned();
    images
        .iter()
        .map(|image| {
            assert!(
                word(image, "remedy").is_empty() == word(image, "status").ends_with("_rule"),
                "{image}"
            );
            (
                image["reference"]
                    .as_str()
                    .unwrap()
                    .split('@')
                    .next()
                    .unwrap(),
                image["line"].as_u64().unwrap(),
                image["status"].as_str().unwrap(),
            )
        })
        .collect()
}

#[test]
fn images_are_found_wherever_manifests_name_them() {
    let manifests = MANIFESTS.replace("DIGEST", DIGEST);
    let desk = Desk::new(&[("rules.yaml", &rules()), ("app.yaml", &manifests)]);
    let (code, answer) = desk.json(&["coverage", "app.yaml", "--rules", "rules.yaml"]);
    assert_eq!((code, &answer["covered"]), (3, &json!(false)));
    assert_eq!(
        standing(&answer),
        [
            ("never.io/a:v1", 22, "not_covered"),
            ("q.io/digest/app", 11, "digest_rule"),
            ("q.io/digest/tool:v2", 14, "not_covered"),
            ("q.io/tag/init:v1", 8, "tag_rule"),
            ("r.io/x", 17, "not_covered"),
            ("redis", 26, "unclear"),
        ]
    );
    let remedies: Vec<&str> = answer["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["remedy"].as_str().unwrap())
        .collect();
    assert_eq!(
        remedies,
        [
            "`never.io` has digest rules only, and this image is named by tag, and the source may not be contacted: the pull fails; add a rule for it to an ImageTagMirrorSet, or name the image by digest",
            "",
            "`q.io/digest` has digest rules only, and this image is named by tag; add a rule for it to an ImageTagMirrorSet, or name the image by digest",
            "",
            "no rule serves it; add a rule for `r.io` to an ImageDigestMirrorSet",
            "`redis` does not say which registry it is in; write it out, for instance `docker.io/library/redis`",
        ]
    );
}

#[test]
fn a_plain_list_and_a_nodes_file_will_do() {
    let desk = Desk::new(&[("rules.yaml", &rules())]);
    let file = desk.run(&["registries-conf", "rules.yaml"]).out;
    desk.write("nodes.conf", &file);
    let list = format!("# ours\nq.io/tag/a:v1\n\nq.io/digest/b@{DIGEST} # why\n");
    let ended = desk.fed(&["coverage", "-", "--registries-conf", "nodes.conf"], &list);
    assert_eq!(
        (ended.code, ended.out),
        (
            0,
            format!(
                "-:4: q.io/digest/b@{DIGEST}: covered by digest\n-:2: q.io/tag/a:v1: covered by tag\n2 images, 2 covered\n"
            )
        )
    );
    let as_yaml = desk.fed(
        &["coverage", "-", "--rules", "rules.yaml"],
        "- q.io/tag/a:v1\n- q.io/x:v1\n",
    );
    assert_eq!(
        (as_yaml.code, as_yaml.out.as_str()),
        (
            3,
            "-:1: q.io/tag/a:v1: covered by tag\n-:2: q.io/x:v1: not covered\n    no rule serves it; add a rule for `q.io` to an ImageTagMirrorSet\n2 images, 1 covered\n"
        )
    );
}

//! `imagesetd cluster check`.

use serde_json::json;

use super::{Desk, object};

/// What is said of a file, a line a problem, hints left out.
fn told(text: &str) -> (i32, Vec<String>) {
    let desk = Desk::new(&[("a.yaml", text)]);
    let ended = desk.run(&["check", "a.yaml"]);
    assert_eq!(ended.err, "");
    let lines = ended.out.lines().filter(|line| line.starts_with("a.yaml:"));
    (
        ended.code,
        lines
            .map(|line| line["a.yaml:".len()..].to_owned())
            .collect(),
    )
}

#[test]
fn what_the_api_server_refuses_is_told_with_the_remedy() {
    let text = "\
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata:
  name: a
spec:
  imageDigestMirrors:
  - source: https://q.io/a
    mirrors: [m.io/a/, '*.m.io', m.io/b, m.io/b]
    mirrorSourcePolicy: AllowFallback
  - source: q.io/a:v1
    mirror: [m.io]
  - source: q.io/a@sha256:00
    mirrors: m.io
  - source: q.io/A
  - source: '*.q.io:5000'
  - mirrors: [m.io]
  - source: q_q.io
    mirrorSourcePolicy: never
---
apiVersion: config.openshift.io/v1
kind: ImageTagMirrorSet
metadata: {}
";
    let desk = Desk::new(&[("a.yaml", text)]);
    let ended = desk.run(&["check", "a.yaml"]);
    let expected = "\
a.yaml:7:13: error: spec.imageDigestMirrors[0].source: `https://q.io/a` begins with a scheme, which the API server refuses
    write `q.io/a`
a.yaml:8:15: error: spec.imageDigestMirrors[0].mirrors[0]: `m.io/a/` ends with a slash, which the API server refuses
    write `m.io/a`
a.yaml:8:24: error: spec.imageDigestMirrors[0].mirrors[1]: the mirror `*.m.io` is a wildcard, which only a source can be
    write the registry or repository that has the content
a.yaml:8:42: error: spec.imageDigestMirrors[0].mirrors[3]: the mirror `m.io/b` stands in the list twice, which the API server refuses
    remove one of the two
a.yaml:9:25: error: spec.imageDigestMirrors[0].mirrorSourcePolicy: `AllowFallback`, found in tutorials, is not a mirrorSourcePolicy: the API server refuses the object
    write `AllowContactingSource`, or leave the field away, which means the same
a.yaml:10:13: error: spec.imageDigestMirrors[1].source: `q.io/a:v1` has a tag, which the API server refuses
    rules are for repositories: write `q.io/a`
a.yaml:11:5: error: spec.imageDigestMirrors[1].mirror: `mirror` is not a key that is known here
    did you mean `mirrors`?
a.yaml:12:13: error: spec.imageDigestMirrors[2].source: `q.io/a@sha256:00` has a digest, which the API server refuses
    rules are for repositories: write `q.io/a`
a.yaml:13:14: error: spec.imageDigestMirrors[2].mirrors: a list is expected here, not a text
a.yaml:14:13: error: spec.imageDigestMirrors[3].source: `q.io/A` has upper case letters in its path, which the API server refuses
    paths of repositories are in lower case
a.yaml:15:13: error: spec.imageDigestMirrors[4].source: `*.q.io:5000` is not a wildcard that is possible, which the API server refuses
    a wildcard is `*.` and a host name, without port and path, and a source only
a.yaml:16:5: error: spec.imageDigestMirrors[5].source: `source` is missing
    write what is mirrored, such as `quay.io/team`
a.yaml:17:13: error: spec.imageDigestMirrors[6].source: `q_q.io` is not the name of a registry or repository, which the API server refuses
    `host[:port]`, `host[:port]/namespace[/repository]` or, for a source, `*.host` is expected
a.yaml:18:25: error: spec.imageDigestMirrors[6].mirrorSourcePolicy: `never` is not a mirrorSourcePolicy
    known here are `AllowContactingSource` and `NeverContactSource`
a.yaml:20:1: error: metadata: the object has no name
    write `metadata: {name: ...}`
a.yaml:20:1: error: spec: `spec` is missing
    list the rules below `spec`
2 mirror objects, 0 rules, 16 errors
";
    assert_eq!((ended.code, ended.out.as_str()), (3, expected));
}

#[test]
fn what_freezes_a_fleet_is_an_error() {
    assert_eq!(
        told(&(object("a", &["d q.io/a m.io/a"]) + &object("b", &["t q.io/a! n.io/a"]))),
        (
            3,
            vec![
                "8:5: error: spec.imageDigestMirrors[0]: AllowContactingSource here: `q.io/a` has both mirror source policies among its rules; the machine-config-operator then refuses all mirror rules, and nodes keep what they have".to_owned(),
                "17:5: error: spec.imageTagMirrors[0]: NeverContactSource here: `q.io/a` has both mirror source policies among its rules; the machine-config-operator then refuses all mirror rules, and nodes keep what they have".to_owned(),
            ]
        )
    );
    let (code, lines) = told(&object("a", &["d q.io/a! m.io/a q.io/a"]));
    assert_eq!(code, 3);
    assert!(lines[0].contains("error: spec.imageDigestMirrors[0]: `q.io/a` says NeverContactSource and is among its own mirrors"), "{lines:?}");
    let image = "---\napiVersion: config.openshift.io/v1\nkind: Image\nmetadata: {name: cluster}\nspec: {registrySources: {blockedRegistries: [x.q.io]}}\n";
    let (code, lines) = told(&(object("a", &["d *.q.io m.io"]) + image));
    assert_eq!(code, 3);
    assert!(
        lines[0].contains("`x.q.io` is insecure or blocked and has no mirrors of its own"),
        "{lines:?}"
    );
}

#[test]
fn what_may_not_be_what_was_meant_is_a_warning() {
    for (text, expected) in [
        (object("a", &["d q.io/a m.io/a"]), &[][..]),
        (
            object("a", &["d q.io/a"]),
            &[
                "8:5: warning: spec.imageDigestMirrors[0]: the rule for `q.io/a` has no mirror but the source itself, so it counts for nothing",
            ],
        ),
        (
            object("a", &["d q.io/a! m.io/a"]),
            &[
                "8:5: warning: spec.imageDigestMirrors[0]: `q.io/a` says NeverContactSource and has digest rules only: every reference to it by tag will fail",
            ],
        ),
        (
            object("a", &["d q.io/a! m.io/a"]) + &object("a", &["t q.io/a! m.io/a"]),
            &[],
        ),
        (
            object("a", &["d team/app m.io/a"]),
            &[
                "8:5: warning: spec.imageDigestMirrors[0]: the rule for `team/app` never matches: `team` has neither a dot nor a port, so nodes read such a name as `docker.io/team/app`",
            ],
        ),
        (
            object("a", &["t quay.io/openshift-release-dev/ocp-release m.io/a"]),
            &[
                "8:5: warning: spec.imageTagMirrors[0]: the rule for `quay.io/openshift-release-dev/ocp-release` never matches: releases and what is in them are pulled by digest only",
            ],
        ),
        (
            object("a", &["d index.docker.io/a m.io/a"]),
            &[
                "8:5: warning: spec.imageDigestMirrors[0]: the rule for `index.docker.io/a` never matches: nodes read `index.docker.io` as `docker.io`",
            ],
        ),
        (
            object("a", &["d q.io/a m.io/a n.io/a", "d q.io/a n.io/a m.io/a"]),
            &[
                "8:5: warning: spec.imageDigestMirrors[0]: the digest rules for `q.io/a` name mirrors in orders that contradict each other (ImageDigestMirrorSet `a` of a.yaml); nodes will try `m.io/a`, `n.io/a`, an order that nothing promises",
                "10:5: warning: spec.imageDigestMirrors[1]: the digest rules for `q.io/a` name mirrors in orders that contradict each other (ImageDigestMirrorSet `a` of a.yaml); nodes will try `m.io/a`, `n.io/a`, an order that nothing promises",
            ],
        ),
        (
            object("a", &["i q.io/a m.io/a"]) + &object("a", &["d q.io/a m.io/a"]),
            &[
                "2:1: warning: the ImageContentSourcePolicy `a` stands beside the newer kinds: nodes merge both, and clusters before the late 4.13 releases and 4.14.3 refuse the second kind",
            ],
        ),
        (
            object("a", &["t q.io m.io"]) + &object("a", &["d q.io/a n.io/a"]),
            &[
                "17:5: warning: spec.imageDigestMirrors[0]: `q.io/a` lies in `q.io` and hides it, so its references by tag are no longer looked for in `m.io/a`",
            ],
        ),
        (
            object("a", &["d q.io m.io", "d q.io/a n.io/a"]),
            &[
                "10:5: warning: spec.imageDigestMirrors[1]: `q.io/a` lies in `q.io` and hides it: by digest, its own mirrors are tried and `m.io/a` are not",
            ],
        ),
        (object("a", &["d q.io m.io", "d q.io/a n.io/a m.io/a"]), &[]),
        (
            object("a", &["d q.io m.io"]) + &object("a", &["d q.io n.io"]),
            &[
                "11:1: warning: the ImageDigestMirrorSet `a` is there before, in a.yaml on line 2: of the two, the one applied last stays",
            ],
        ),
    ] {
        let (code, lines) = told(&text);
        assert_eq!(
            (code, lines),
            (0, expected.iter().map(|s| (*s).to_owned()).collect()),
            "{text}"
        );
    }
}

#[test]
fn the_answer_has_the_shape_of_validate() {
    let desk = Desk::new(&[
        ("a.yaml", &object("a", &["d q.io/a"])),
        ("b.yaml", "a: [\n"),
    ]);
    let (code, answer) = desk.json(&["check", "a.yaml", "b.yaml"]);
    assert_eq!(code, 3);
    assert_eq!(
        (&answer["schema"], &answer["valid"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(
        answer["problems"][0],
        json!({
            "severity": "warning", "file": "a.yaml", "line": 8, "column": 5, "path": "spec.imageDigestMirrors[0]",
            "message": "the rule for `q.io/a` has no mirror but the source itself, so it counts for nothing",
            "hint": "add a mirror, or remove the rule",
        })
    );
    assert_eq!(answer["problems"][1]["file"], "b.yaml");
    // No rules are no mistake; a file that is not there is.
    let none = desk.fed(&["check", "-"], "kind: ConfigMap\n");
    assert_eq!(
        (none.code, none.out.as_str()),
        (0, "0 mirror objects, 0 rules, no problems\n")
    );
    assert_eq!(desk.run(&["check", "c.yaml"]).code, 3);
}

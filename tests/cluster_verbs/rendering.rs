//! `imagesetd cluster registries-conf`.

use super::{Desk, object};

#[test]
fn documents_of_every_kind_become_one_file() {
    let desk = Desk::new(&[
        (
            "a.yaml",
            &object("a", &["d q.io/b m.io/b", "d q.io/a m.io/a n.io/a"]),
        ),
        (
            "folder/b.yaml",
            &(object("b", &["t q.io/a! m.io/t"])
                + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"),
        ),
        ("folder/c.yml", &object("c", &["i q.io/c m.io/c"])),
    ]);
    // Two policies: the tag rule says NeverContactSource and the digest rule does not.
    let ended = desk.run(&["registries-conf", "a.yaml", "folder"]);
    assert_eq!((ended.code, ended.out.as_str()), (3, ""));
    assert!(
        ended
            .err
            .contains("`q.io/a` has both mirror source policies"),
        "{}",
        ended.err
    );
    desk.write("folder/b.yaml", &object("b", &["t q.io/a m.io/t"]));
    let ended = desk.run(&[
        "registries-conf",
        "--insecure",
        "m.io",
        "--blocked",
        "q.io/a/x",
        "a.yaml",
        "folder",
    ]);
    let expected = r#"unqualified-search-registries = ["registry.access.redhat.com", "docker.io"]
short-name-mode = ""

[[registry]]
  prefix = ""
  location = "q.io/a"

  [[registry.mirror]]
    location = "m.io/a"
    insecure = true
    pull-from-mirror = "digest-only"

  [[registry.mirror]]
    location = "n.io/a"
    pull-from-mirror = "digest-only"

  [[registry.mirror]]
    location = "m.io/t"
    insecure = true
    pull-from-mirror = "tag-only"

[[registry]]
  prefix = ""
  location = "q.io/b"

  [[registry.mirror]]
    location = "m.io/b"
    insecure = true
    pull-from-mirror = "digest-only"

[[registry]]
  prefix = ""
  location = "q.io/c"

  [[registry.mirror]]
    location = "m.io/c"
    insecure = true
    pull-from-mirror = "digest-only"

[[registry]]
  prefix = ""
  location = "q.io/a/x"
  blocked = true

  [[registry.mirror]]
    location = "m.io/a/x"
    insecure = true
    pull-from-mirror = "digest-only"

  [[registry.mirror]]
    location = "n.io/a/x"
    pull-from-mirror = "digest-only"

  [[registry.mirror]]
    location = "m.io/t/x"
    insecure = true
    pull-from-mirror = "tag-only"

[[registry]]
  prefix = ""
  location = "m.io"
  insecure = true
"#;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, expected),
        "{}",
        ended.err
    );
}

#[test]
fn a_base_is_kept_and_a_list_on_standard_input_is_read() {
    let desk = Desk::new(&[(
        "base.conf",
        "unqualified-search-registries = ['x.io']\nshort-name-mode = 'enforcing'\n[[registry]]\nlocation = 'z.io'\nblocked = true\n",
    )]);
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: config.openshift.io/v1\n  kind: ImageDigestMirrorSet\n  metadata: {name: a, resourceVersion: '7'}\n  spec:\n    imageDigestMirrors: [{source: q.io, mirrors: [m.io]}]\n  status: {}\n- {apiVersion: config.openshift.io/v1, kind: Image, metadata: {name: cluster}, spec: {registrySources: {insecureRegistries: [m.io]}}}\n";
    let ended = desk.fed(&["registries-conf", "--base", "base.conf", "-"], list);
    let expected = r#"unqualified-search-registries = ["x.io"]
short-name-mode = "enforcing"

[[registry]]
  prefix = ""
  location = "z.io"
  blocked = true

[[registry]]
  prefix = ""
  location = "q.io"

  [[registry.mirror]]
    location = "m.io"
    insecure = true
    pull-from-mirror = "digest-only"

[[registry]]
  prefix = ""
  location = "m.io"
  insecure = true
"#;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, expected),
        "{}",
        ended.err
    );
}

#[test]
fn what_the_operator_refuses_gives_no_file() {
    let desk = Desk::new(&[
        ("own.yaml", &object("a", &["d q.io! m.io q.io"])),
        ("wild.yaml", &object("a", &["d *.q.io m.io"])),
        ("bad.yaml", &object("a", &["d q.io/A m.io"])),
    ]);
    for (words, why) in [
        (&["own.yaml"][..], "is among its own mirrors"),
        (
            &["--blocked", "x.q.io", "wild.yaml"],
            "lies in the mirrored `*.q.io`",
        ),
        (
            &["--insecure", "*x.io", "wild.yaml"],
            "`*x.io` among the insecure registries",
        ),
        (
            &["bad.yaml"],
            "bad.yaml:8:13: error: spec.imageDigestMirrors[0].source: `q.io/A` has upper case letters in its path",
        ),
    ] {
        let ended = desk.run(&[&["registries-conf"], words].concat());
        assert_eq!((ended.code, ended.out.as_str()), (3, ""), "{words:?}");
        assert!(ended.err.contains(why), "{words:?}: {}", ended.err);
    }
}

//! `imagesetd cluster impact`.

use serde_json::{Value, json};

use super::{Desk, object};

/// `reload`, `drain`, `reboot`, `refused`, `unknown` of an answer, as far as they are true.
fn told(answer: &Value) -> Vec<&str> {
    let words = ["reload", "drain", "reboot", "refused", "unknown"];
    words
        .into_iter()
        .filter(|word| answer[word] == true)
        .collect()
}

fn messages(answer: &Value) -> Vec<&str> {
    let reasons = answer["reasons"].as_array().unwrap();
    reasons
        .iter()
        .filter_map(|r| r["message"].as_str())
        .collect()
}

/// Tables as `drain_test.go` of the machine-config-operator has them, and what the rule that its newer releases have says of them.
#[test]
fn files_are_compared_by_the_operators_rule() {
    let search = "unqualified-search-registries = ['example.com', 'foo.com']\n";
    let more = "unqualified-search-registries = ['example.com', 'foo.com', 'bar.com']\n";
    let swapped = "unqualified-search-registries = ['foo.com', 'example.com']\n";
    let table = |location: &str, keys: &str, mirrors: &[&str]| {
        let mut text = format!("[[registry]]\nprefix = ''\nlocation = '{location}'\n{keys}\n");
        for mirror in mirrors {
            let (location, pull) = mirror.split_once(' ').unwrap_or((mirror, ""));
            text += &format!("[[registry.mirror]]\nlocation = '{location}'\n");
            if !pull.is_empty() {
                text += &format!("pull-from-mirror = '{pull}'\n");
            }
        }
        text
    };
    let a = table("example.com/a", "", &["mirror.com/a digest-only"]);
    let b = table("example.com/b", "", &["mirror.com/b digest-only"]);
    let b2 = table(
        "example.com/b",
        "",
        &["mirror.com/b digest-only", "mirror1.com/b digest-only"],
    );
    let old = |mirrors: &[&str]| table("example.com/a", "mirror-by-digest-only = true", mirrors);
    let plain = "[[registry]]\nprefix = ''\nlocation = 'bar.com'\n";
    let prefixed = "[[registry]]\nprefix = 'bar.com'\nlocation = 'example.com/a'\n";
    let blocked = "[[registry]]\nprefix = 'bar.com'\nlocation = 'example.com/a'\nblocked = true\n";
    let insecure =
        "[[registry]]\nprefix = 'bar.com'\nlocation = 'example.com/a'\ninsecure = true\n";
    let desk = Desk::new(&[]);
    for (what, before, after, expected) in [
        ("the same", a.clone() + &b, a.clone() + &b, &[][..]),
        (
            "a new digest registry",
            a.clone(),
            a.clone() + &b,
            &["reload"],
        ),
        (
            "a registry less",
            a.clone() + &b,
            a.clone(),
            &["reload", "drain"],
        ),
        (
            "a digest mirror more",
            a.clone() + &b,
            a.clone() + &b2,
            &["reload"],
        ),
        (
            "a mirror less",
            a.clone() + &b2,
            a.clone() + &b,
            &["reload", "drain"],
        ),
        (
            "a search registry less",
            more.to_owned() + &a,
            search.to_owned() + &a,
            &["reload", "drain"],
        ),
        (
            "search registries in another order",
            search.to_owned() + &a,
            swapped.to_owned() + &a,
            &["reload", "drain"],
        ),
        (
            "a search registry more",
            search.to_owned() + &a,
            more.to_owned() + &a,
            &["reload"],
        ),
        (
            "a prefix that was a location",
            prefixed.to_owned(),
            plain.to_owned(),
            &["reload", "drain"],
        ),
        (
            "blocked",
            prefixed.to_owned(),
            blocked.to_owned(),
            &["reload", "drain"],
        ),
        (
            "insecure",
            prefixed.to_owned(),
            insecure.to_owned(),
            &["reload", "drain"],
        ),
        (
            "a new registry without mirrors",
            a.clone(),
            a.clone() + &table("example.com/b", "", &[]),
            &["reload", "drain"],
        ),
        (
            "a new registry without mirrors that is for digests only",
            String::new(),
            old(&[]),
            &["reload"],
        ),
        (
            "a mirror more where the registry is for digests only",
            old(&["mirror.com/a"]),
            old(&["mirror.com/a", "mirror1.com/a"]),
            &["reload"],
        ),
        (
            "a new registry with a mirror for all",
            a.clone(),
            a.clone() + &table("example.com/b", "", &["mirror.com/b"]),
            &["reload", "drain"],
        ),
        // From 4.12 to 4.13 the same rules are written in the newer words.
        (
            "mirror-by-digest-only becomes digest-only",
            old(&["mirror.com/a"]),
            table("example.com/a", "", &["mirror.com/a digest-only"]),
            &["reload"],
        ),
        (
            "a mirror's limit is lifted",
            a.clone(),
            table("example.com/a", "", &["mirror.com/a"]),
            &["reload", "drain"],
        ),
    ] {
        desk.write("old.conf", &before);
        desk.write("new.conf", &after);
        let (code, answer) = desk.json(&["impact", "old.conf", "new.conf"]);
        assert_eq!((code, told(&answer)), (0, expected.to_vec()), "{what}");
        assert_eq!(
            messages(&answer).is_empty(),
            !expected.contains(&"drain"),
            "{what}"
        );
    }
}

#[test]
fn documents_are_compared_as_nodes_get_them() {
    let desk = Desk::new(&[
        ("old/a.yaml", &object("a", &["d q.io/a m.io/a"])),
        (
            "new/a.yaml",
            &object("a", &["d q.io/a m.io/a n.io/a", "d q.io/b m.io/b"]),
        ),
        ("tag/a.yaml", &object("a", &["d q.io/a m.io/a"])),
        ("tag/b.yaml", &object("a", &["t q.io/a n.io/a"])),
        ("other.yaml", &object("a", &["d q.io/a n.io/a"])),
        (
            "refused.yaml",
            &(object("a", &["d q.io/a m.io/a"]) + &object("b", &["t q.io/a! m.io/a"])),
        ),
    ]);
    std::fs::create_dir(desk.path().join("none")).unwrap();
    let impact = |old: &str, new: &str| desk.json(&["impact", old, new]).1;
    assert_eq!(told(&impact("old", "new")), ["reload"]);
    assert_eq!(told(&impact("none", "old")), ["reload"]);
    assert_eq!(told(&impact("old", "old")), [""; 0]);
    let drained = impact("old", "tag");
    assert_eq!(told(&drained), ["reload", "drain"]);
    assert_eq!(
        drained["reasons"],
        json!([{
            "scope": "q.io/a", "mirror": "n.io/a", "drain": true,
            "message": "`q.io/a` gets a tag rule that is new, to `n.io/a`",
        }])
    );
    assert_eq!(
        messages(&impact("old", "other.yaml")),
        ["`q.io/a` loses its mirror `m.io/a`"]
    );
    assert_eq!(
        told(&impact("old", "refused.yaml")),
        ["reload", "drain", "refused", "unknown"]
    );
    let text = desk.run(&["impact", "old", "new"]);
    assert_eq!(
        text.out,
        "Nodes: reload their container engine, no drain (going by these alone; other mirror rules of a cluster, or a NodeDisruptionPolicy of its own, may change it)\n"
    );
    // A node's file may stand on one side and documents on the other.
    let file = desk.run(&["registries-conf", "old"]).out;
    desk.write("node.conf", &file);
    let (_, answer) = desk.json(&["impact", "node.conf", "old"]);
    assert_eq!(told(&answer), [""; 0]);
    let (_, answer) = desk.json(&["impact", "node.conf", "new"]);
    assert_eq!(told(&answer), ["reload"]);
    let note = answer["note"].as_str().unwrap();
    assert!(
        note.starts_with("a node's file is compared with the documents alone"),
        "{note}"
    );
    let (_, answer) = desk.json(&["impact", "new", "node.conf"]);
    assert_eq!(told(&answer), ["reload", "drain"]);
}

const SNAPSHOT: &str = "apiVersion: v1
kind: List
items:
- apiVersion: config.openshift.io/v1
  kind: ImageDigestMirrorSet
  metadata: {name: image-digest-mirror}
  spec:
    imageDigestMirrors:
    - {source: q.io/a, mirrors: [m.io/a]}
- apiVersion: config.openshift.io/v1
  kind: Image
  metadata: {name: cluster}
  spec: {registrySources: {ALLOWED}}
- apiVersion: machineconfiguration.openshift.io/v1
  kind: MachineConfigPool
  metadata: {name: master}
  spec: {paused: false}
  status: {machineCount: 3}
- apiVersion: machineconfiguration.openshift.io/v1
  kind: MachineConfigPool
  metadata: {name: worker}
  spec: {paused: true}
  status: {machineCount: 1}
- apiVersion: operator.openshift.io/v1
  kind: MachineConfiguration
  metadata: {name: cluster}
  spec: {POLICY}
";

fn snapshot(allowed: &str, actions: &str) -> String {
    let policy = match actions {
        "" => "managementState: Managed".to_owned(),
        actions => format!(
            "nodeDisruptionPolicy: {{files: [{{path: /etc/hosts, actions: [{{type: None}}]}}, {{path: /etc/containers/registries.conf, actions: [{actions}]}}]}}"
        ),
    };
    SNAPSHOT
        .replace("{ALLOWED}", &format!("{{{allowed}}}"))
        .replace("{POLICY}", &format!("{{{policy}}}"))
}

#[test]
fn what_is_known_of_a_cluster_counts() {
    let desk = Desk::new(&[
        ("old.yaml", &object("ours", &["d q.io/b m.io/b"])),
        (
            "new.yaml",
            &object("ours", &["d q.io/b m.io/b", "d q.io/c m.io/c"]),
        ),
        (
            "tag.yaml",
            &(object("ours", &["d q.io/b m.io/b"]) + &object("ours", &["t q.io/b n.io/b"])),
        ),
        ("never.yaml", &object("ours", &["d q.io/a! m.io/a"])),
    ]);
    let asked = |new: &str, picture: &str| {
        desk.write("cluster.yaml", picture);
        desk.json(&["impact", "old.yaml", new, "--snapshot", "cluster.yaml"])
            .1
    };
    let pools =
        "pools: master (3 nodes), worker (1 node, paused: it takes the change when it is resumed)";
    let answer = asked("new.yaml", &snapshot("", ""));
    // The cluster has never had `old.yaml`: all of the new is new to it.
    assert_eq!(
        (told(&answer), answer["note"].as_str()),
        (vec!["reload"], Some(pools))
    );
    assert_eq!(
        told(&asked("tag.yaml", &snapshot("", ""))),
        ["reload", "drain"]
    );
    // A rule of the installer for the same source freezes everything.
    let frozen = asked("never.yaml", &snapshot("", ""));
    assert_eq!(told(&frozen), ["reload", "drain", "refused", "unknown"]);
    assert!(messages(&frozen)[0].contains("both mirror source policies"));
    for (actions, new, expected) in [
        ("{type: None}", "tag.yaml", &[][..]),
        (
            "{type: Reload, reload: {serviceName: crio.service}}",
            "tag.yaml",
            &["reload"],
        ),
        (
            "{type: Restart, restart: {serviceName: crio.service}}, {type: DaemonReload}",
            "tag.yaml",
            &["reload"],
        ),
        (
            "{type: Drain}, {type: Reload, reload: {serviceName: crio.service}}",
            "new.yaml",
            &["reload", "drain"],
        ),
        ("{type: Reboot}", "new.yaml", &["reload", "drain", "reboot"]),
        ("{type: Special}", "new.yaml", &["reload"]),
    ] {
        assert_eq!(
            told(&asked(new, &snapshot("", actions))),
            expected,
            "{actions}"
        );
    }
    let listed = asked(
        "new.yaml",
        &snapshot("allowedRegistries: [q.io/b, q.io/a, m.io]", ""),
    );
    assert_eq!(told(&listed), ["reload", "refused"]);
    assert_eq!(
        messages(&listed),
        [
            "the cluster's allowedRegistries do not list `q.io/c`, so its images are refused whatever mirror has them"
        ]
    );
    let mirror = asked("new.yaml", &snapshot("allowedRegistries: [q.io]", ""));
    assert_eq!(told(&mirror), ["reload"]);
    assert!(
        mirror["note"]
            .as_str()
            .unwrap()
            .contains("do not list m.io/b, m.io/c"),
        "{mirror}"
    );
}

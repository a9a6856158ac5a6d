use super::*;
use crate::cluster::node::Registry;

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

fn rule(source: &str, mirrors: &[&str]) -> Rule {
    Rule {
        source: scope(source),
        mirrors: mirrors.iter().map(|m| scope(m)).collect(),
        policy: MirrorSourcePolicy::AllowContactingSource,
    }
}

fn never(rule: Rule) -> Rule {
    Rule {
        policy: MirrorSourcePolicy::NeverContactSource,
        ..rule
    }
}

/// Mirrors as lists of one source merge on a node; the source is `s.io`.
fn merge(lists: &[&[&str]]) -> Vec<String> {
    let rules: Vec<Rule> = lists.iter().map(|mirrors| rule("s.io", mirrors)).collect();
    let node = Node::new(rules.iter().map(|r| (Kind::Digest, r))).unwrap();
    let mirrors = node.registries().iter().flat_map(|r| &r.mirrors);
    mirrors.map(|m| m.location.to_string()).collect()
}

/// Facts carried over from runtime-utils' `TestMergedMirrorSets` and `TestTopoGraph`.
#[test]
fn mirror_lists_merge_in_topological_order() {
    assert_eq!(
        merge(&[&["b.io", "c.io"], &["a.io", "b.io"]]),
        ["a.io", "b.io", "c.io"]
    );
    assert_eq!(merge(&[&["b.io"], &["a.io"]]), ["a.io", "b.io"]);
    assert_eq!(
        merge(&[&["z1.io", "y2.io", "x3.io"], &["z1.io", "y2.io", "x3.io"]]),
        ["z1.io", "y2.io", "x3.io"]
    );
    assert_eq!(
        merge(&[&["a.io", "b.io"], &["b.io", "a.io"]]),
        ["a.io", "b.io"]
    );
    assert_eq!(merge(&[]), <[&str; 0]>::default());
    assert_eq!(merge(&[&[]]), <[&str; 0]>::default());
    assert_eq!(merge(&[&["s.io"]]), <[&str; 0]>::default());
    assert_eq!(
        merge(&[&["a.io", "s.io", "b.io"]]),
        ["a.io", "s.io", "b.io"]
    );
    assert_eq!(merge(&[&["a.io", "s.io"]]), ["a.io"]);
    // c is freed by a after d is, and joins the queue behind b, which was there before.
    assert_eq!(
        merge(&[&["a.io", "c.io"], &["b.io", "d.io"]]),
        ["a.io", "b.io", "c.io", "d.io"]
    );
}

#[test]
fn one_source_has_one_table_and_each_kind_its_mirrors() {
    let digest = rule("q.io/a", &["m.io/d"]);
    let tag = never(rule("q.io/a/b", &["m.io/t"]));
    let both = rule("q.io/a", &["m.io/t"]);
    let node = Node::new([
        (Kind::Tag, &tag),
        (Kind::Tag, &both),
        (Kind::Digest, &digest),
    ])
    .unwrap();
    let mirror = |location: &str, pull| Mirror {
        location: Place::new(location),
        insecure: false,
        pull,
    };
    let registry = |scope: &str, blocked, mirrors| Registry {
        blocked,
        mirrors,
        ..Registry::new(&Place::new(scope))
    };
    assert_eq!(
        node.registries(),
        [
            registry(
                "q.io/a",
                false,
                vec![mirror("m.io/d", Pull::Digest), mirror("m.io/t", Pull::Tag)]
            ),
            registry("q.io/a/b", true, vec![mirror("m.io/t", Pull::Tag)]),
        ]
    );
}

#[test]
fn what_the_operator_refuses_is_refused() {
    let allow = rule("q.io/a", &["m.io/a"]);
    let deny = never(allow.clone());
    let empty = never(rule("q.io/b", &[]));
    let also_b = rule("q.io/b", &["m.io/b"]);
    let own = never(rule("q.io/c", &["m.io/c", "q.io/c"]));
    let refusals = Node::new([
        (Kind::Digest, &allow),
        (Kind::Tag, &deny),
        (Kind::Digest, &empty),
        (Kind::Digest, &also_b),
        (Kind::Tag, &own),
    ]);
    assert_eq!(
        refusals.unwrap_err(),
        [
            Refusal::TwoPolicies(scope("q.io/a")),
            Refusal::TwoPolicies(scope("q.io/b")),
            Refusal::BlockedMirror(scope("q.io/c"))
        ]
    );
}

//! Mirror rules as a whole: what is rendered, seen through the eyes of a node.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use imagesetd::{
    cluster::{
        Kind, Options, Purpose, Served, Unit,
        change::diff,
        document::{Document, Rule},
        impact::{Effect, impact},
        node::Node,
        published::read_published,
        render::{Rendering, render},
        retire::{Retire, retire},
        scope::Scope,
    },
    model::{
        image::{Digest, Reference, Repository},
        imageset::SetName,
        policy::{MirrorScope, MirrorSourcePolicy, SourcePolicy},
    },
};
use proptest::{prelude::*, sample::select};

/// An image of `additional` in image set `set`: `source[:tag]` or `source@`, at `target[:tag]`.
fn image(set: &str, source: &str, target: &str) -> Unit {
    let split = |text: &str| match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name.to_owned(), Some(tag.parse().unwrap())),
        _ => (text.trim_end_matches('@').to_owned(), None),
    };
    let ((source, asked), (target, held)) = (split(source), split(target));
    let held = held.or_else(|| asked.clone());
    Unit {
        set: SetName(set.into()),
        purpose: Purpose::Additional,
        landed: true,
        images: vec![Served {
            source: source.parse().unwrap(),
            by_digest: asked.is_none(),
            by_tag: asked.zip(held),
            target: target.parse().unwrap(),
        }],
    }
}

fn release(set: &str) -> Unit {
    let served = |source: &str, target: &str| Served {
        source: source.parse().unwrap(),
        by_digest: true,
        by_tag: None,
        target: target.parse().unwrap(),
    };
    Unit {
        set: SetName(set.into()),
        purpose: Purpose::Release,
        landed: true,
        images: vec![
            served(
                "quay.io/openshift-release-dev/ocp-release",
                "m.lan:5000/ocp/openshift/release-images",
            ),
            served(
                "quay.io/openshift-release-dev/ocp-v4.0-art-dev",
                "m.lan:5000/ocp/openshift/release",
            ),
        ],
    }
}

fn waiting(unit: Unit) -> Unit {
    Unit {
        landed: false,
        ..unit
    }
}

fn options(sets: &[(&str, MirrorScope)], never: &[&str]) -> Options {
    Options {
        scopes: sets
            .iter()
            .map(|(set, scope)| (SetName((*set).into()), *scope))
            .collect(),
        source_policies: never
            .iter()
            .map(|source| SourcePolicy {
                source: (*source).into(),
                policy: MirrorSourcePolicy::NeverContactSource,
            })
            .collect(),
    }
}

fn namespace(sets: &[&str]) -> Options {
    let sets: Vec<_> = sets
        .iter()
        .map(|set| (*set, MirrorScope::Namespace))
        .collect();
    options(&sets, &[])
}

/// `file: source -> mirrors`, with `!` where nodes may not contact the source.
fn told(rendering: &Rendering) -> Vec<String> {
    let line = |document: &Document, rule: &Rule| {
        let mirrors: Vec<_> = rule.mirrors.iter().map(Scope::as_str).collect();
        let never = rule.policy == MirrorSourcePolicy::NeverContactSource;
        let mark = if never { " !" } else { "" };
        let file = document.file_name.trim_end_matches("-additional.yaml");
        format!("{file}: {} -> {}{mark}", rule.source, mirrors.join(", "))
    };
    let documents = rendering.documents.iter();
    documents
        .flat_map(|d| d.rules.iter().map(move |rule| line(d, rule)))
        .collect()
}

fn warned(rendering: &Rendering) -> String {
    let lines: Vec<_> = rendering
        .warnings
        .iter()
        .map(|w| format!("{}: {}", w.set, w.message))
        .collect();
    lines.join("\n")
}

#[test]
fn a_rule_is_as_wide_as_the_settings_say_where_that_fits() {
    let units = [
        image("a", "q.io/ns/x@", "m.lan/p/ns/x"),
        image("a", "q.io/one@", "m.lan/p/one"),
        image("a", "q.io/ns/y@", "m.lan/p/elsewhere/y"),
        image("a", "r.io/suf/fix@", "m.lan/p/not-suf/fix"),
    ];
    let with = |scope| told(&render(&units, &[], &options(&[("a", scope)], &[])));
    assert_eq!(
        with(MirrorScope::Repository),
        [
            "idms-a: q.io/ns/x -> m.lan/p/ns/x",
            "idms-a: q.io/ns/y -> m.lan/p/elsewhere/y",
            "idms-a: q.io/one -> m.lan/p/one",
            "idms-a: r.io/suf/fix -> m.lan/p/not-suf/fix",
        ]
    );
    assert_eq!(
        with(MirrorScope::Namespace),
        [
            "idms-a: q.io/ns -> m.lan/p/ns",
            "idms-a: q.io/ns/y -> m.lan/p/elsewhere/y, m.lan/p/ns/y",
            "idms-a: q.io/one -> m.lan/p/one",
            "idms-a: r.io/suf/fix -> m.lan/p/not-suf/fix",
        ]
    );
    assert_eq!(
        with(MirrorScope::Registry),
        [
            "idms-a: q.io -> m.lan/p",
            "idms-a: q.io/ns/y -> m.lan/p/elsewhere/y, m.lan/p/ns/y",
            "idms-a: r.io/suf/fix -> m.lan/p/not-suf/fix",
        ]
    );
}

#[test]
fn parts_of_a_namespace_in_two_places_have_a_rule_each() {
    let units = [
        image("a", "q.io/ns/x@", "m.lan/p/ns/x"),
        image("b", "q.io/ns/y@", "m.lan/r/ns/y"),
    ];
    assert_eq!(
        told(&render(&units, &[], &namespace(&["a", "b"]))),
        [
            "idms-a: q.io/ns/x -> m.lan/p/ns/x",
            "idms-b: q.io/ns/y -> m.lan/r/ns/y"
        ]
    );
}

#[test]
fn releases_have_digest_rules_and_no_tag_rules() {
    let mut release = release("a");
    release.images[0].by_tag = Some((
        "4.16.1-x86_64".parse().unwrap(),
        "4.16.1-x86_64".parse().unwrap(),
    ));
    // A whole registry's tag rule is not repeated for the release's sources either.
    let units = [release, image("a", "quay.io/ns/x:1", "m.lan:5000/ocp/ns/x")];
    assert_eq!(
        told(&render(
            &units,
            &[],
            &options(&[("a", MirrorScope::Registry)], &[])
        )),
        [
            "idms-a-release.yaml: quay.io/openshift-release-dev/ocp-release -> m.lan:5000/ocp/openshift/release-images",
            "idms-a-release.yaml: quay.io/openshift-release-dev/ocp-v4.0-art-dev -> m.lan:5000/ocp/openshift/release",
            "itms-a: quay.io -> m.lan:5000/ocp",
        ]
    );
}

#[test]
fn a_narrower_digest_rule_does_not_hide_a_wider_tag_rule() {
    let units = [
        image("a", "q.io/ns/x:1", "m.lan/ns/x"),
        image("b", "q.io/ns/y@", "m.lan/else/y"),
    ];
    assert_eq!(
        told(&render(&units, &[], &namespace(&["a", "b"]))),
        [
            "idms-b: q.io/ns/y -> m.lan/else/y",
            "itms-a: q.io/ns -> m.lan/ns",
            "itms-a: q.io/ns/y -> m.lan/ns/y",
        ]
    );
}

#[test]
fn what_has_not_landed_gives_no_rule_and_takes_none_away() {
    let unit = image("a", "q.io/ns/x@", "m.lan/ns/x");
    let options = options(&[("a", MirrorScope::Namespace)], &["q.io/**"]);
    assert_eq!(
        told(&render(&[waiting(unit.clone())], &[], &options)),
        <[&str; 0]>::default()
    );
    let first = render(&[unit], &[], &options);
    assert_eq!(told(&first), ["idms-a: q.io/ns -> m.lan/ns !"]);
    let other = waiting(image("a", "q.io/ns/y@", "m.lan/ns/y"));
    let second = render(&[other], &first.documents, &options);
    assert_eq!(told(&second), ["idms-a: q.io/ns -> m.lan/ns"]);
    assert_eq!(
        warned(&second),
        "a: `q.io/ns` does not say NeverContactSource for now: `q.io/ns/y`, wanted by image set `a`, has not landed in the mirror"
    );
    assert_eq!(second.removed, <[&str; 0]>::default());
}

#[test]
fn a_published_rule_stays_when_its_image_set_is_gone_or_moves() {
    let never = options(&[("a", MirrorScope::Namespace)], &["q.io/ns"]);
    let first = render(&[image("a", "q.io/ns/x@", "m.lan/old/ns/x")], &[], &never);
    let gone = render(&[], &first.documents, &Options::default());
    assert_eq!(gone.documents, first.documents);
    let moved = render(
        &[image("a", "q.io/ns/x@", "m.lan/new/ns/x")],
        &first.documents,
        &never,
    );
    assert_eq!(
        told(&moved),
        ["idms-a: q.io/ns -> m.lan/new/ns, m.lan/old/ns !"]
    );
    // What was served below a source that is new stays served: `y` had landed under `old` once.
    let nested = render(
        &[image("a", "q.io/ns/y@", "m.lan/else/y")],
        &first.documents,
        &never,
    );
    assert_eq!(
        told(&nested),
        [
            "idms-a: q.io/ns -> m.lan/old/ns !",
            "idms-a: q.io/ns/y -> m.lan/else/y, m.lan/old/ns/y !"
        ]
    );
}

#[test]
fn one_source_has_one_policy_in_all_documents() {
    let published = render(
        &[image("gone", "q.io/ns/x@", "m.lan/g/ns/x")],
        &[],
        &options(&[("gone", MirrorScope::Namespace)], &["q.io/ns"]),
    );
    assert_eq!(told(&published), ["idms-gone: q.io/ns -> m.lan/g/ns !"]);
    let both = render(
        &[image("a", "q.io/ns/x:1", "m.lan/a/ns/x")],
        &published.documents,
        &namespace(&["a"]),
    );
    assert_eq!(
        told(&both),
        [
            "idms-gone: q.io/ns -> m.lan/g/ns",
            "itms-a: q.io/ns -> m.lan/a/ns"
        ]
    );
}

#[test]
fn a_settings_pattern_holds_for_what_lies_below_it_and_the_first_wins() {
    let units = [
        image("a", "q.io/ns/x@", "m.lan/e/x"),
        image("a", "q.io/ns/y@", "m.lan/e/y"),
    ];
    let mut options = options(&[("a", MirrorScope::Repository)], &["q.io/*"]);
    options.source_policies.insert(
        0,
        SourcePolicy {
            source: "q.io/ns/y".into(),
            policy: MirrorSourcePolicy::AllowContactingSource,
        },
    );
    assert_eq!(
        told(&render(&units, &[], &options)),
        [
            "idms-a: q.io/ns/x -> m.lan/e/x !",
            "idms-a: q.io/ns/y -> m.lan/e/y"
        ]
    );
}

#[test]
fn traps_are_warned_of() {
    let units = [
        image("a", "q.io/ns/x:v1", "m.lan/ns/x:v2"),
        image("a", "q.io/ns/y@", "m.lan/ns/y"),
        image("a", "r.io/own@", "r.io/own"),
        image("a", "s_s.io/ns/z@", "m.lan/ns/z"),
    ];
    let rendering = render(
        &units,
        &[],
        &options(&[("a", MirrorScope::Namespace)], &["q.io/**"]),
    );
    assert_eq!(told(&rendering), ["idms-a: q.io/ns -> m.lan/ns"]);
    let text = warned(&rendering);
    for part in [
        "`q.io/ns/x:v1` is in the mirror as `m.lan/ns/x:v2`, and a tag rule cannot rewrite tags",
        "`q.io/ns/x`, wanted by image set `a`, has another tag in the mirror",
        "`r.io/own` is its own mirror",
        "mirror rules cannot name `s_s.io/ns/z`",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let units = [image("a", "q.io/ns/y@", "m.lan/ns/y")];
    let rendering = render(
        &units,
        &[],
        &options(&[("a", MirrorScope::Namespace)], &["q.io/ns"]),
    );
    assert_eq!(
        warned(&rendering),
        "a: `q.io/ns` says NeverContactSource and has digest rules only: every reference to it by tag will fail"
    );
}

#[test]
fn a_source_that_a_mirror_lies_below_may_be_contacted() {
    let units = [
        image("a", "q.io/ns/x@", "m.lan/ns/x"),
        image("b", "m.lan/ns/x@", "n.lan/ns/x"),
    ];
    let rendering = render(
        &units,
        &[],
        &options(
            &[("a", MirrorScope::Namespace), ("b", MirrorScope::Namespace)],
            &["**"],
        ),
    );
    assert_eq!(
        told(&rendering),
        [
            "idms-a: q.io/ns -> m.lan/ns !",
            "idms-b: m.lan/ns -> n.lan/ns"
        ]
    );
    assert!(warned(&rendering).contains(
        "`m.lan/ns` does not say NeverContactSource for now: images are pulled from there as the mirror `m.lan/ns`"
    ));
}

#[test]
fn a_host_without_a_port_is_no_source_beside_the_same_with_one() {
    let units = [
        image("a", "r.lan/x@", "m.lan/x"),
        waiting(image("a", "r.lan:5000/y@", "m.lan/y")),
    ];
    let options = options(&[("a", MirrorScope::Registry)], &[]);
    assert_eq!(
        told(&render(&units, &[], &options)),
        ["idms-a: r.lan/x -> m.lan/x"]
    );
    assert_eq!(
        told(&render(&units[..1], &[], &options)),
        ["idms-a: r.lan -> m.lan"]
    );
}

#[test]
fn retiring_takes_rules_away_and_nothing_else_does() {
    let units = [
        image("a", "q.io/ns/x@", "m.lan/ns/x"),
        image("b", "q.io/nt/x@", "m.lan/nt/x"),
        image("b", "q.io/nu/x@", "m.lan/nu/x"),
    ];
    let options = namespace(&["a", "b"]);
    let published = render(&units, &[], &options).documents;
    let what = |set: &str, source: Option<&str>| Retire {
        set: SetName(set.into()),
        source: source.map(|s| s.parse().unwrap()),
    };
    let all = retire(&units[..1], &published, &options, &what("b", None)).unwrap();
    assert_eq!(told(&all), ["idms-a: q.io/ns -> m.lan/ns"]);
    assert_eq!(all.removed, ["idms-b-additional.yaml"]);
    assert_eq!(
        diff(&published, &all.documents)
            .iter()
            .map(|c| c.verb())
            .collect::<Vec<_>>(),
        ["removed", "removed"]
    );
    let one = retire(
        &units[..1],
        &published,
        &options,
        &what("b", Some("q.io/nt")),
    )
    .unwrap();
    assert_eq!(
        told(&one),
        ["idms-a: q.io/ns -> m.lan/ns", "idms-b: q.io/nu -> m.lan/nu"]
    );
    assert_eq!(one.removed, <[&str; 0]>::default());
    let wanted = retire(&units, &published, &options, &what("b", None)).unwrap();
    assert_eq!(wanted.documents, published);
    assert!(warned(&wanted).contains("b: the rules for `q.io/nt`, `q.io/nu` stay"));
    let unknown = retire(&units, &published, &options, &what("c", None)).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "image set `c` has no published mirror rules; those that have some: `a`, `b`"
    );
    let unknown = retire(&units, &published, &options, &what("b", Some("q.io/ns"))).unwrap_err();
    assert!(
        unknown
            .to_string()
            .ends_with("it has rules for: `q.io/nt`, `q.io/nu`")
    );
}

#[test]
fn a_second_release_changes_nothing_and_a_first_tag_drains() {
    let options = namespace(&["a"]);
    let first = render(&[release("a")], &[], &options);
    let second = render(&[release("a"), release("a")], &first.documents, &options);
    assert_eq!(second.documents, first.documents);
    let tagged = render(
        &[release("a"), image("a", "q.io/ns/x:1", "m.lan/ns/x")],
        &first.documents,
        &options,
    );
    let node = |r: &Rendering| Node::of(&r.documents).unwrap();
    assert_eq!(
        impact(&node(&first), &node(&second)).effect,
        Effect::Nothing
    );
    assert_eq!(impact(&node(&first), &node(&tagged)).effect, Effect::Drain);
    assert_eq!(
        impact(&Node::default(), &node(&first)).effect,
        Effect::Reload
    );
}

const SETS: [&str; 3] = ["prod", "Prod", "dev/ocp"];

/// A small world, so that names meet often.
fn any_unit() -> impl Strategy<Value = Unit> {
    let repository = || {
        let host = select(vec!["q.io", "r.lan:5000", "r.lan", "m.lan"]);
        let path = prop::collection::vec(select(vec!["a", "b"]), 1..4);
        (host, path).prop_map(|(host, path)| format!("{host}/{}", path.join("/")))
    };
    let target = prop_oneof![
        4 => Just(None),
        1 => repository().prop_map(Some),
    ];
    let prefix = select(vec!["m.lan", "m.lan/p", "n.lan/a"]);
    let kinds = select(vec![
        (true, None),
        (false, Some(false)),
        (true, Some(false)),
        (false, Some(true)),
    ]);
    let image = (repository(), target, prefix, kinds).prop_map(
        |(source, target, prefix, (by_digest, tag))| {
            let path = source.split_once('/').unwrap().1;
            let target = target.unwrap_or_else(|| format!("{prefix}/{path}"));
            Served {
                source: source.parse().unwrap(),
                by_digest,
                by_tag: tag.map(|other| {
                    (
                        "1".parse().unwrap(),
                        if other { "2" } else { "1" }.parse().unwrap(),
                    )
                }),
                target: target.parse().unwrap(),
            }
        },
    );
    let purpose = prop_oneof![4 => Just(Purpose::Additional), 1 => Just(Purpose::Release)];
    (
        select(SETS.to_vec()),
        purpose,
        prop::bool::weighted(0.8),
        prop::collection::vec(image, 1..4),
    )
        .prop_map(|(set, purpose, landed, images)| Unit {
            set: SetName(set.into()),
            purpose,
            landed,
            images,
        })
}

fn any_options() -> impl Strategy<Value = Options> {
    let scope = select(vec![
        MirrorScope::Repository,
        MirrorScope::Namespace,
        MirrorScope::Registry,
    ]);
    let policy = (
        select(vec![
            "**", "q.io", "q.io/*", "r.lan/**", "m.lan", "q.io/a/b",
        ]),
        select(vec![
            MirrorSourcePolicy::NeverContactSource,
            MirrorSourcePolicy::AllowContactingSource,
        ]),
    );
    (
        prop::collection::btree_map(
            select(SETS.to_vec()).prop_map(|s| SetName(s.into())),
            scope,
            0..=3,
        ),
        prop::collection::vec(
            policy.prop_map(|(source, policy)| SourcePolicy {
                source: source.into(),
                policy,
            }),
            0..3,
        ),
    )
        .prop_map(|(scopes, source_policies)| Options {
            scopes,
            source_policies,
        })
}

/// Documents of earlier days, which other units and settings gave, some rules of them retired.
fn any_published() -> impl Strategy<Value = Vec<Document>> {
    let round = || (prop::collection::vec(any_unit(), 0..4), any_options());
    (round(), round(), any::<u64>()).prop_map(|((first, one), (second, two), lost)| {
        let documents = render(&second, &render(&first, &[], &one).documents, &two).documents;
        let mut n = 0;
        let kept = documents.into_iter().map(|document| {
            let mut rules = document.rules.clone();
            rules.retain(|_| {
                n += 1;
                lost >> (n % 64) & 3 != 0
            });
            Document::new(document.set, document.purpose, document.kind, rules)
        });
        kept.filter(|document| !document.rules.is_empty()).collect()
    })
}

fn digest(repository: &Repository) -> Reference {
    repository.at(Digest::of(b"content"))
}

/// Returns the references that clusters pull an image of a landed unit by, with where each has to be found.
fn pulled(unit: &Unit) -> Vec<(Reference, Reference)> {
    let mut pulled = Vec::new();
    for image in &unit.images {
        if image.by_digest {
            pulled.push((digest(&image.source), digest(&image.target)));
        }
        if let Some((asked, held)) = &image.by_tag
            && asked == held
            && unit.purpose != Purpose::Release
        {
            pulled.push((
                image.source.tagged(asked.clone()),
                image.target.tagged(held.clone()),
            ));
        }
    }
    pulled
}

/// Returns what a node pulls for a reference, those left out that it is kept from.
fn attempts(node: &Node, reference: &Reference) -> Vec<Reference> {
    let attempts = node.resolve(reference).attempts.into_iter();
    attempts
        .filter(|a| a.refused_by.is_none())
        .map(|a| a.reference)
        .collect()
}

fn never(documents: &[Document]) -> BTreeSet<&Scope> {
    let rules = documents.iter().flat_map(|d| &d.rules);
    rules
        .filter(|r| r.policy == MirrorSourcePolicy::NeverContactSource)
        .map(|r| &r.source)
        .collect()
}

/// No files are left behind by a failure: the smallest case stands in its message.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_landed_image_is_found_where_it_lies(
        units in prop::collection::vec(any_unit(), 0..8), published in any_published(), options in any_options(),
    ) {
        let rendering = render(&units, &published, &options);
        let node = Node::of(&rendering.documents);
        let node = node.map_err(|refusals| TestCaseError::fail(format!("{refusals:?}")))?;
        for unit in units.iter().filter(|unit| unit.landed) {
            for (reference, place) in pulled(unit) {
                // A published rule for `r.lan` breaks an image of `r.lan:5000` that is its own mirror and so can have no rule.
                if reference == place && published.iter().flat_map(|d| &d.rules).any(|r| r.source.as_str() == "r.lan") {
                    continue;
                }
                let attempts = attempts(&node, &reference);
                let at = attempts.iter().position(|a| *a == place);
                prop_assert!(at.is_some(), "{} is at {}, tried are {:?}\n{:#?}", reference, place, attempts, told(&rendering));
                let source = attempts.iter().position(|a| *a == reference);
                prop_assert!(source.is_none() || at <= source, "{} is tried before {}", reference, place);
            }
        }
    }

    #[test]
    fn what_published_rules_served_is_served_still(
        units in prop::collection::vec(any_unit(), 0..8), published in any_published(), options in any_options(),
    ) {
        let rendering = render(&units, &published, &options);
        let before = Node::of(&published).unwrap();
        let after = Node::of(&rendering.documents).unwrap();
        let releases: BTreeSet<&Scope> = rendering.documents.iter().filter(|d| d.purpose == Purpose::Release)
            .flat_map(|d| d.rules.iter().map(|r| &r.source)).collect();
        prop_assert_eq!(&rendering.removed, &Vec::<String>::new());
        for change in diff(&published, &rendering.documents) {
            let Some(was) = change.before else { continue };
            let now = change.after.expect("a published source stays");
            prop_assert!(was.mirrors.iter().all(|m| now.mirrors.contains(m)), "{:?} lost mirrors: {:?}", was, now);
        }
        for host in ["q.io", "r.lan:5000", "r.lan", "m.lan"] {
            for path in ["a", "b", "a/a", "a/b", "a/b/a", "b/b/b", "a/b/a/c"] {
                let repository: Repository = format!("{host}/{path}").parse().unwrap();
                for reference in [digest(&repository), repository.tagged("1".parse().unwrap())] {
                    let matched = after.resolve(&reference).matched;
                    if reference.tag.is_some() && matched.is_some_and(|place| releases.iter().any(|scope| place == **scope)) {
                        continue;
                    }
                    let resolution = before.resolve(&reference);
                    // A node takes `r.lan` for a prefix of `r.lan:5000`, and what comes of that is no place anything was put.
                    if resolution.matched.as_ref().is_some_and(|scope| repository.to_string().starts_with(&format!("{scope}:"))) {
                        continue;
                    }
                    let mirrors = resolution.attempts.into_iter().filter(|a| a.mirror.is_some() && a.refused_by.is_none());
                    let now = attempts(&after, &reference);
                    for attempt in mirrors {
                        prop_assert!(now.contains(&attempt.reference), "{}: {:?} is lost, tried are {:?}", reference, attempt, now);
                    }
                }
            }
        }
    }

    #[test]
    fn rendering_again_or_in_another_order_gives_the_same_bytes(
        units in prop::collection::vec(any_unit(), 0..8), published in any_published(), options in any_options(), seed in any::<u64>(),
    ) {
        let once = render(&units, &published, &options);
        let again = render(&units, &once.documents, &options);
        prop_assert_eq!(&again.documents, &once.documents);
        let mut shuffled = units.clone();
        shuffled.rotate_left(seed as usize % units.len().max(1));
        shuffled.reverse();
        for unit in &mut shuffled {
            unit.images.reverse();
        }
        let reversed: Vec<_> = published.iter().rev().cloned().collect();
        prop_assert_eq!(&render(&shuffled, &reversed, &options), &once);
        let files: Vec<_> = once.documents.iter().map(|d| (d.file_name.clone(), d.text.clone().into_bytes())).collect();
        let read = read_published(&files);
        prop_assert_eq!((read.documents, read.problems), (once.documents, vec![]));
    }

    #[test]
    fn never_is_said_only_where_settings_say_it_and_all_is_there(
        units in prop::collection::vec(any_unit(), 0..8), options in any_options(),
    ) {
        let rendering = render(&units, &[], &options);
        for source in never(&rendering.documents) {
            prop_assert!(options.source_policies.iter().any(|p| p.policy == MirrorSourcePolicy::NeverContactSource));
            for unit in units.iter().filter(|unit| !unit.landed) {
                for image in &unit.images {
                    prop_assert_eq!(source.matches(&image.source.to_string()), None, "{} wants {}", unit.set, image.source);
                }
            }
        }
    }

    #[test]
    fn no_two_objects_share_a_name_and_lists_do_not_contradict(
        units in prop::collection::vec(any_unit(), 0..8), published in any_published(), options in any_options(),
    ) {
        let rendering = render(&units, &published, &options);
        let mut names = BTreeSet::new();
        let mut lists: BTreeMap<(Kind, &Scope), Vec<&Vec<Scope>>> = BTreeMap::new();
        for document in &rendering.documents {
            prop_assert!(names.insert((document.kind, &document.name)), "{} twice", document.name);
            for rule in &document.rules {
                lists.entry((document.kind, &rule.source)).or_default().push(&rule.mirrors);
            }
        }
        for lists in lists.values() {
            for (one, other) in lists.iter().flat_map(|a| lists.iter().map(move |b| (a, b))) {
                let common = |list: &&Vec<Scope>, with: &&Vec<Scope>| -> Vec<Scope> {
                    list.iter().filter(|m| with.contains(m)).cloned().collect()
                };
                prop_assert_eq!(common(one, other), common(other, one));
            }
        }
    }
}

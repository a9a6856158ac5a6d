//! What holds for any mirror rules: nodes get the same of them in whatever order they come, and the file that nodes get says what the
//! rules say.

// A test's failure is a panic; clippy knows that of test functions, not of their helpers.
#![allow(clippy::unwrap_used)]

use imagesetd::{
    cluster::{
        forecast,
        node::Node,
        objects::{File, Objects},
    },
    model::image::Reference,
};
use proptest::{prelude::*, sample::select, test_runner::FileFailurePersistence};

/// A small world, so that names meet often.
const SOURCES: &[&str] = &[
    "q.io",
    "q.io/a",
    "q.io/a/b",
    "q.io/b",
    "q.io:5000/a",
    "*.q.io",
    "r.io",
    "s.q.io/a",
];

const MIRRORS: &[&str] = &["m.lan/a", "m.lan/b", "n.lan", "o.lan/x/y", "q.io/a"];

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A mirror object: kind, its entries as source, mirrors, and whether the source may not be contacted.
type Drawn = (usize, Vec<(&'static str, Vec<&'static str>, bool)>);

fn any_object() -> impl Strategy<Value = Drawn> {
    let mirrors = prop::sample::subsequence(MIRRORS.to_vec(), 0..=3).prop_shuffle();
    // Most policies agree, else nearly all that is drawn is refused.
    let entry = (select(SOURCES), mirrors, prop::bool::weighted(0.05));
    (0..3_usize, prop::collection::vec(entry, 1..4))
}

fn text(number: usize, (kind, entries): &Drawn) -> String {
    let (api, kind, list) = [
        (
            "config.openshift.io/v1",
            "ImageDigestMirrorSet",
            "imageDigestMirrors",
        ),
        (
            "config.openshift.io/v1",
            "ImageTagMirrorSet",
            "imageTagMirrors",
        ),
        (
            "operator.openshift.io/v1alpha1",
            "ImageContentSourcePolicy",
            "repositoryDigestMirrors",
        ),
    ][*kind];
    let mut text = format!(
        "---\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: o{number}}}\nspec:\n  {list}:\n"
    );
    for (source, mirrors, never) in entries {
        text += &format!(
            "  - source: '{source}'\n    mirrors: [{}]\n",
            mirrors.join(", ")
        );
        if *never && kind != "ImageContentSourcePolicy" {
            text += "    mirrorSourcePolicy: NeverContactSource\n";
        }
    }
    text
}

fn objects(drawn: &[(usize, Drawn)]) -> Objects {
    let texts = drawn.iter().map(|(number, object)| text(*number, object));
    let objects = Objects::read(&[File {
        name: "drawn.yaml".to_owned(),
        bytes: texts.collect::<String>().into_bytes(),
    }]);
    assert_eq!(objects.problems, []);
    objects
}

/// What nodes get; nothing where the operator refuses it.
fn node(objects: &Objects) -> Option<Node> {
    Node::template().edited(&objects.inputs()).ok()
}

fn references() -> Vec<Reference> {
    let names = [
        "q.io/x",
        "q.io/a",
        "q.io/a/x",
        "q.io/a/b",
        "q.io/a/b/c",
        "q.io:5000/a/x",
        "t.q.io/x",
        "s.q.io/a/x",
        "r.io/x",
        "z.io/x",
    ];
    let forms = names.iter().flat_map(|name| {
        [
            format!("{name}:v1"),
            format!("{name}@{DIGEST}"),
            format!("{name}:v1@{DIGEST}"),
        ]
    });
    forms.map(|text| text.parse().unwrap()).collect()
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::with_cases(256)
    }
}

/// Objects with their numbers, which give them names.
type Numbered = Vec<(usize, Drawn)>;

fn any_objects() -> impl Strategy<Value = (Numbered, Numbered)> {
    prop::collection::vec(any_object(), 1..5).prop_flat_map(|drawn| {
        let drawn: Numbered = drawn.into_iter().enumerate().collect();
        (Just(drawn.clone()), Just(drawn).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(config())]

    /// The order of objects is no part of what the API stores.
    #[test]
    fn nodes_get_the_same_in_whatever_order_objects_come((drawn, shuffled) in any_objects()) {
        let (one, other) = (objects(&drawn), objects(&shuffled));
        let (before, after) = (node(&one), node(&other));
        prop_assert_eq!(before.as_ref().map(Node::text), after.as_ref().map(Node::text));
        if before.is_some() {
            prop_assert_eq!(forecast::of_objects(&one, &other, None).word(), "nothing");
        }
    }

    /// The file is what a node reads; the rules are what we reason with.
    #[test]
    fn the_file_of_a_node_explains_as_the_rules_do((drawn, _) in any_objects()) {
        let Some(node) = node(&objects(&drawn)) else { return Ok(()) };
        let text = node.text();
        let read = Node::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(read.text(), text);
        for reference in references() {
            prop_assert_eq!(read.resolve(&reference), node.resolve(&reference), "{}", reference);
        }
    }

    /// Whatever else happens, a source that goes away drains.
    #[test]
    fn a_source_that_goes_away_drains((drawn, _) in any_objects()) {
        let (all, fewer) = (objects(&drawn), objects(&drawn[1..]));
        let (Some(before), Some(after)) = (node(&all), node(&fewer)) else { return Ok(()) };
        let forecast = forecast::of_files(&before, &after, None);
        let scopes = |node: &Node| node.registries().iter().map(|r| r.scope().clone()).collect::<Vec<_>>();
        let gone = scopes(&before).iter().any(|scope| !scopes(&after).contains(scope));
        prop_assert!(!gone || forecast.drain, "{:?}", forecast);
        prop_assert_eq!(before == after, forecast.word() == "nothing");
    }
}

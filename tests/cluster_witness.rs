//! Mirror rules as nodes see them, against a witness: cases with the answers of OpenShift's runtime-utils and of containers/image, the
//! libraries that the machine-config-operator, CRI-O and podman have. `tests/fixtures/witness` says how they were asked.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use imagesetd::{
    cluster::{
        Kind,
        conf::ConfError,
        document::Rule,
        node::Node,
        operator::{Inputs, Refusal},
        pull::kind_of,
    },
    model::{image::Reference, policy::MirrorSourcePolicy},
};
use serde::Deserialize;

/// What the witness was given.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    icsp: Vec<Vec<Entry>>,
    idms: Vec<Vec<Entry>>,
    itms: Vec<Vec<Entry>>,
    insecure: Vec<String>,
    blocked: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    source: String,
    mirrors: Vec<String>,
    #[serde(default)]
    policy: MirrorSourcePolicy,
}

/// What it said.
#[derive(Debug, Deserialize)]
struct Said {
    error: String,
    text: String,
    answers: Option<Vec<Answer>>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(rename = "ref")]
    reference: String,
    matched: String,
    /// A mirror rewrites the reference to what is none.
    error: bool,
    sources: Vec<Source>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Source {
    reference: String,
    insecure: bool,
    blocked: String,
}

#[derive(Debug, Deserialize)]
struct Case {
    given: Given,
    said: Said,
}

fn cases() -> Vec<Case> {
    let text = match std::env::var_os("IMAGESETD_WITNESS_CASES") {
        Some(file) => std::fs::read_to_string(file).unwrap(),
        None => include_str!("fixtures/witness/cases.jsonl").to_owned(),
    };
    let cases = text.lines().map(|line| serde_json::from_str(line).unwrap());
    cases.collect()
}

fn rules(given: &Given) -> Vec<(Kind, Rule)> {
    let of = |objects: &[Vec<Entry>], kind| -> Vec<(Kind, Rule)> {
        let entries = objects.iter().flatten();
        let rule = |entry: &Entry| Rule {
            source: entry.source.parse().unwrap(),
            mirrors: entry.mirrors.iter().map(|m| m.parse().unwrap()).collect(),
            policy: entry.policy,
        };
        entries.map(|entry| (kind, rule(entry))).collect()
    };
    let mut rules = of(&given.icsp, Kind::Digest);
    rules.extend(of(&given.idms, Kind::Digest));
    rules.extend(of(&given.itms, Kind::Tag));
    rules
}

/// The newest containers/image writes a key more, which says nothing.
fn expected(text: &str) -> String {
    text.replace("additional-layer-store-auth-helper = \"\"\n", "")
}

/// Asks our own rules what the witness was asked, in its words.
fn asked(node: &Node, reference: &str) -> (String, bool, Vec<Source>) {
    let reference: Reference = reference.parse().unwrap();
    let resolution = node.resolve(&reference);
    let matched = resolution.matched.as_ref().map(ToString::to_string);
    let mut sources: Vec<Source> = resolution
        .attempts
        .iter()
        .map(|attempt| Source {
            reference: attempt.reference.to_string(),
            insecure: attempt.insecure,
            blocked: attempt
                .refused_by
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        })
        .collect();
    if matched.is_none() {
        // The witness has no table then, and lists nothing.
        sources.clear();
    }
    (
        matched.unwrap_or_default(),
        resolution.invalid.is_some(),
        sources,
    )
}

/// What the witness said of a reference, in our words: the digest decides, and a source that is blocked itself is no attempt.
fn said(answer: &Answer) -> (String, bool, Vec<Source>) {
    let by_digest = |reference: &str| match reference.split_once('@') {
        Some((name, digest)) => format!("{}@{digest}", name.trim_end_matches(":v1")),
        None => reference.to_owned(),
    };
    let last = answer.sources.len().saturating_sub(1);
    let own = |(n, source): &(usize, &Source)| *n == last && source.blocked == answer.matched;
    let sources = answer.sources.iter().enumerate();
    let sources = sources.filter(|pair| answer.matched.is_empty() || !own(pair));
    let sources = sources.map(|(_, source)| Source {
        reference: by_digest(&source.reference),
        blocked: source.blocked.clone(),
        ..*source
    });
    (answer.matched.clone(), answer.error, sources.collect())
}

#[test]
fn nodes_get_the_file_that_the_witness_writes() {
    for case in cases() {
        let rules = rules(&case.given);
        let inputs = Inputs {
            rules: rules.iter().map(|(kind, rule)| (*kind, rule)).collect(),
            insecure: case.given.insecure.clone(),
            blocked: case.given.blocked.clone(),
        };
        let node = Node::template().edited(&inputs);
        if !case.said.error.is_empty() {
            let refusals = node.expect_err(&case.said.error);
            assert!(
                matches!(refusals.as_slice(), [Refusal::NestedInWildcard { .. }]),
                "{refusals:?}: {}",
                case.said.error
            );
            continue;
        }
        let node = node.unwrap_or_else(|refusals| panic!("{refusals:?}\n{case:#?}"));
        assert_eq!(node.text(), expected(&case.said.text), "{:#?}", case.given);
        assert_eq!(Node::parse(node.text().as_bytes()), Ok(node));
    }
}

#[test]
fn nodes_try_what_the_witness_tries() {
    let mut kinds = BTreeMap::new();
    for case in cases().iter().filter(|case| case.said.error.is_empty()) {
        let node = Node::parse(case.said.text.as_bytes()).unwrap();
        for answer in case.said.answers.iter().flatten() {
            let told = asked(&node, &answer.reference);
            assert_eq!(
                told,
                said(answer),
                "{}\n{}",
                answer.reference,
                case.said.text
            );
            let reference: Reference = answer.reference.parse().unwrap();
            *kinds.entry(kind_of(&reference)).or_insert(0) += answer.sources.len();
        }
    }
    // The cases say something about both kinds.
    assert!(kinds.values().all(|number| *number > 100), "{kinds:?}");
}

/// Facts of sysregistriesv2's test data: what it refuses, and the values that it knows.
#[test]
fn files_that_containers_image_refuses_are_refused() {
    let refused = |text: &str| Node::parse(text.as_bytes()).unwrap_err().to_string();
    let table = |keys: &str| format!("[[registry]]\n{keys}\n");
    for (text, why) in [
        ("unqualified-search-registries = [", "line 1: "),
        ("[registries.search]\nregistries = ['a.io']\n", "version 1"),
        (
            "unqualified-search-registries = ['a.io']\n[registries.block]\nregistries = ['b.io']\n",
            "version 1",
        ),
        (&table(""), "neither a prefix nor a location"),
        (&table("location = 'https://a.io'"), "begins with a scheme"),
        (&table("prefix = 'a.io'"), "has no location"),
        (
            &table("location = 'a.io'\npull-from-mirror = 'all'"),
            "belongs to a mirror",
        ),
        (
            &table("location = 'a.io'\n[[registry.mirror]]\ninsecure = true"),
            "a mirror has no location",
        ),
        (
            &table(
                "location = 'a.io'\n[[registry.mirror]]\nlocation = 'm.io'\npull-from-mirror = 'notvalid'",
            ),
            "`notvalid` is not a value of pull-from-mirror",
        ),
        (
            &table(
                "location = 'a.io'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'm.io'\npull-from-mirror = 'digest-only'",
            ),
            "one of the two is possible",
        ),
        (
            "[[registry]]\nlocation = 'a.io'\n[[registry]]\nlocation = 'a.io'\nblocked = true\n",
            "another value of insecure or blocked",
        ),
        ("[[registry]]\nlocation = 1\n", "line 2: "),
    ] {
        assert!(refused(text).contains(why), "{text}\n{}", refused(text));
    }
    assert_eq!(Node::parse(&[0xff]), Err(ConfError::Unreadable));
    let wildcard = Node::parse(b"[[registry]]\nprefix = '*.a.io'\nblocked = true\n").unwrap();
    assert_eq!(wildcard.registries()[0].location(), None);
    assert_eq!(Node::parse(b"").unwrap(), Node::default());
}

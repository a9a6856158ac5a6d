use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::model::{
    accessory::Scope,
    facts::Fact,
    imageset::{Blocked, Channel, ChannelType, Helm, SetName},
    manifest::{DOCKER_MANIFEST, Manifest, OCI_INDEX, OCI_MANIFEST},
    policy::{ApplyMode, HoldDocuments, MirrorScope, OnRefresh},
    release::{
        fixture::{graph, payload as payload_of},
        payload::{Component, Unreadable},
        select::GraphKey,
        signature::{Claim, Found, Signatures},
    },
};

pub(super) fn policy() -> Policy {
    Policy {
        target: "m.lan:5000/ocp".parse().unwrap(),
        apply: ApplyMode::Automatic,
        on_refresh: OnRefresh::Apply,
        refresh: std::time::Duration::from_secs(3600),
        max_bytes: None,
        mirror_scope: MirrorScope::Namespace,
        ignore_release_signatures: true,
        conditional_updates: false,
        copy_signatures: false,
        signatures_refresh: std::time::Duration::from_secs(3600),
        hold_documents: HoldDocuments::Never,
        windows: Vec::new(),
        catalog_reference: Default::default(),
        catalog_poll: std::time::Duration::from_secs(1800),
    }
}

pub(super) fn image(reference: &str) -> AdditionalImage {
    AdditionalImage {
        image: reference.parse().unwrap(),
        target_repo: None,
        target_tag: None,
        platforms: vec![],
    }
}

fn images(references: &[&str]) -> ImageSet {
    ImageSet {
        name: SetName("prod".into()),
        additional_images: references.iter().map(|r| image(r)).collect(),
        ..ImageSet::default()
    }
}

fn releases(channels: &[&str]) -> ImageSet {
    let channel = |name: &&str| Channel {
        name: (*name).to_owned(),
        channel_type: ChannelType::Ocp,
        min_version: None,
        max_version: None,
        shortest_path: false,
        full: true,
    };
    let mut set = images(&[]);
    set.platform.channels = channels.iter().map(channel).collect();
    set
}

fn key(channel: &str) -> GraphKey {
    GraphKey {
        channel_type: ChannelType::Ocp,
        channel: channel.into(),
        arch: "amd64".into(),
    }
}

fn named(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn tagged(reference: &str, digest: &Digest) -> Fact {
    Fact::Tag(reference.parse().unwrap(), Ok(digest.clone()))
}

fn failed(reference: &str) -> Fact {
    let failure = Failure {
        reason: "it is not there".into(),
        transient: true,
        cause: Cause::Unavailable,
    };
    Fact::Tag(reference.parse().unwrap(), Err(failure))
}

/// A manifest under a digest of our choosing: the rules look at what it names, not at its bytes.
fn manifest(digest: &Digest, children: &[(&str, &Digest)]) -> Fact {
    let children: Vec<_> = children
        .iter()
        .map(|(arch, digest)| {
            json!({"mediaType": OCI_MANIFEST, "digest": digest.to_string(), "size": 7, "platform": {"os": "linux", "architecture": arch}})
        })
        .collect();
    let document = match children.is_empty() {
        true => {
            json!({"mediaType": DOCKER_MANIFEST, "config": {"digest": named("config").to_string(), "size": 1}})
        }
        false => json!({"mediaType": OCI_INDEX, "manifests": children}),
    };
    let mut manifest = Manifest::parse(Bytes::from(document.to_string()), None).unwrap();
    manifest.digest = digest.clone();
    Fact::Manifest(digest.clone(), Ok(Arc::new(manifest)))
}

fn payload(digest: &Digest, components: &[(&str, &str)]) -> Fact {
    let payload = Payload {
        version: semver::Version::new(4, 16, 0),
        components: components
            .iter()
            .map(|(name, image)| Component {
                name: (*name).to_owned(),
                image: format!("q.io/ocp/art@{}", named(image)).parse().unwrap(),
            })
            .collect(),
        unreadable: vec![],
        kubevirt: BTreeMap::new(),
        boot_images_unreadable: None,
    };
    Fact::Payload(digest.clone(), Ok(Arc::new(payload)))
}

fn facts(learnt: impl IntoIterator<Item = Fact>) -> Facts {
    let mut facts = Facts::default();
    learnt.into_iter().for_each(|fact| facts.learn(fact));
    facts
}

/// Decides, where nothing is signed.
fn whole(set: &ImageSet, facts: &Facts) -> Desired {
    whole_under(set, &policy(), facts)
}

/// What is decided where nothing belongs to the images that are asked about.
fn whole_under(set: &ImageSet, policy: &Policy, facts: &Facts) -> Desired {
    let mut facts = facts.clone();
    let mut answer = build(set, policy, &facts);
    while let Built::Missing(needs) = &answer {
        needs.iter().for_each(|need| unsigned(&mut facts, need));
        answer = build(set, policy, &facts);
    }
    match answer {
        Built::Whole(desired) => desired,
        Built::Missing(needs) => panic!("still asks for {needs:?}"),
    }
}

/// Learns that nothing belongs to the images that are asked about.
fn unsigned(facts: &mut Facts, need: &Need) {
    let Need::Attached(repository, images) = need else {
        panic!("still asks for {need:?}");
    };
    for image in images {
        facts.learn(Fact::Attached(
            repository.clone(),
            image.clone(),
            Arc::default(),
        ));
    }
}

fn missing(set: &ImageSet, facts: &Facts) -> BTreeSet<Need> {
    match build(set, &policy(), facts) {
        Built::Whole(desired) => panic!("asks for nothing: {desired:?}"),
        Built::Missing(needs) => needs,
    }
}

/// The release of a version of the fixture's graph: its repository and its payload's digest.
fn root(version: &str) -> (Repository, Digest) {
    let reference: Reference = payload_of(version).parse().unwrap();
    (reference.repository, reference.digest.unwrap())
}

fn channel_graph(channel: &str, versions: &[&str]) -> Fact {
    Fact::Graph(key(channel), Ok(Arc::new(graph(versions, &[], &[]))))
}

fn wanted(reference: &str, target: &str, digest: &Digest) -> Wanted {
    let source: Reference = reference.parse().unwrap();
    let target: Reference = target.parse().unwrap();
    Wanted {
        target: target.repository,
        tag: target.tag.unwrap(),
        kind: Kind::Additional,
        asked_tag: source.tag.filter(|_| source.digest.is_none()),
        source: source.repository,
        digest: digest.clone(),
        platforms: vec![],
        unit: reference.to_owned(),
        entry: reference.to_owned(),
    }
}

#[test]
fn needs_come_in_rounds_and_at_full_width() {
    let mut set = releases(&["stable-4.16", "stable-4.17"]);
    set.additional_images = vec![image("q.io/a/x:1"), image("q.io/a/y:1")];
    let tag = |text: &str| Need::Tag(text.parse().unwrap());
    let mut known = Facts::default();
    assert_eq!(
        missing(&set, &known),
        BTreeSet::from([
            Need::Graph(key("stable-4.16")),
            Need::Graph(key("stable-4.17")),
            tag("q.io/a/x:1"),
            tag("q.io/a/y:1"),
        ])
    );
    let learnt = [
        channel_graph("stable-4.16", &["4.16.0"]),
        // The path across two channels leads from one to the other.
        Fact::Graph(
            key("stable-4.17"),
            Ok(Arc::new(graph(&["4.16.0", "4.17.0"], &[(0, 1)], &[]))),
        ),
        tagged("q.io/a/x:1", &named("x")),
        tagged("q.io/a/y:1", &named("y")),
    ];
    learnt.into_iter().for_each(|fact| known.learn(fact));
    let roots = ["4.16.0", "4.17.0"].map(root);
    let manifests = roots.clone().map(|(r, d)| Need::Manifest(r, d));
    assert_eq!(missing(&set, &known), BTreeSet::from(manifests));
    roots
        .iter()
        .for_each(|(_, d)| known.learn(manifest(d, &[])));
    let payloads = roots.clone().map(|(r, d)| Need::Payload(r, d));
    assert_eq!(missing(&set, &known), BTreeSet::from(payloads));
    roots
        .iter()
        .for_each(|(_, d)| known.learn(payload(d, &[("etcd", "etcd")])));
    // Of a payload, whatever the policy says.
    let signatures = roots.iter().map(|(_, d)| (d.clone(), Scope::Signature));
    let signatures = Need::Attached(roots[0].0.clone(), signatures.collect());
    assert_eq!(missing(&set, &known), BTreeSet::from([signatures]));
    assert_eq!(whole(&set, &known).images.len(), 6);
}

#[test]
fn a_release_lands_with_its_components_under_the_known_names() {
    let (source, digest) = root("4.16.3");
    let known = facts([
        channel_graph("stable-4.16", &["4.16.3"]),
        manifest(&digest, &[]),
        payload(&digest, &[("etcd", "etcd")]),
    ]);
    let unit = "release 4.16.3 (amd64)";
    let entry = "channel stable-4.16";
    let release = Wanted {
        kind: Kind::Release,
        asked_tag: None,
        unit: unit.into(),
        entry: entry.into(),
        ..wanted(
            &payload_of("4.16.3"),
            "m.lan:5000/ocp/openshift/release-images:4.16.3-x86_64",
            &digest,
        )
    };
    let component = Wanted {
        kind: Kind::ReleaseComponent,
        source: "q.io/ocp/art".parse().unwrap(),
        ..wanted(
            "q.io/ocp/art:x",
            "m.lan:5000/ocp/openshift/release:4.16.3-x86_64-etcd",
            &named("etcd"),
        )
    };
    let component = Wanted {
        asked_tag: None,
        unit: unit.into(),
        entry: entry.into(),
        ..component
    };
    assert_eq!(release.source, source);
    assert_eq!(
        whole(&releases(&["stable-4.16"]), &known),
        Desired {
            images: vec![component, release],
            signatures_ignored: true,
            signatures: BTreeMap::new(),
            pins: BTreeMap::from([("channel stable-4.16 (amd64)".into(), "4.16.3".into())]),
            ..Desired::default()
        }
    );
}

#[test]
fn what_fails_stalls_its_own_entry_and_nothing_else() {
    let set = images(&["q.io/a/gone:1", "q.io/a/x:1"]);
    let known = facts([failed("q.io/a/gone:1"), tagged("q.io/a/x:1", &named("x"))]);
    assert_eq!(
        whole(&set, &known),
        Desired {
            images: vec![wanted("q.io/a/x:1", "m.lan:5000/ocp/a/x:1", &named("x"))],
            unresolved: vec![Unresolved {
                subject: "q.io/a/gone:1".into(),
                reason: "it is not there".into(),
                transient: true,
                cause: Cause::Unavailable,
            }],
            pins: BTreeMap::from([("q.io/a/x:1".into(), named("x").to_string())]),
            ..Desired::default()
        }
    );
}

#[test]
fn a_channel_that_cannot_be_read_stalls_itself_and_no_channel_whose_name_begins_alike() {
    let known = facts([
        Fact::Graph(
            key("stable-4.1"),
            Err(Failure {
                reason: "nobody answers".into(),
                transient: true,
                cause: Cause::Unavailable,
            }),
        ),
        // No release at all: nobody but a person can help that.
        channel_graph("stable-4.16", &[]),
    ]);
    let desired = whole(&releases(&["stable-4.1", "stable-4.16"]), &known);
    let found: Vec<(&str, bool, Cause)> = desired
        .unresolved
        .iter()
        .map(|u| (u.subject.as_str(), u.transient, u.cause))
        .collect();
    assert_eq!(
        found,
        [
            ("channel stable-4.1 for amd64", true, Cause::Unavailable),
            ("channel stable-4.16 for amd64", false, Cause::Other)
        ]
    );
    assert_eq!(desired.images, []);
}

/// What a store has for a digest: messages by the name they claim, or by why they count for nothing.
fn signatures(digest: &Digest, found: &[Result<&str, &str>]) -> Fact {
    let found = found.iter().enumerate().map(|(n, claim)| Found {
        name: format!("signature-{}", n + 1),
        message: vec![u8::try_from(n).unwrap()],
        claim: claim.map_err(str::to_owned).map(|name| Claim {
            name: name.parse().unwrap(),
            signer: "AB".into(),
        }),
    });
    let signatures = Signatures {
        store: "https://s".into(),
        names: vec![],
        found: found.collect(),
        trouble: None,
    };
    Fact::Signatures(ChannelType::Ocp, digest.clone(), Ok(Arc::new(signatures)))
}

fn strict() -> Policy {
    Policy {
        ignore_release_signatures: false,
        ..policy()
    }
}

#[test]
fn a_payload_is_read_once_it_is_signed_and_not_before() {
    let set = releases(&["stable-4.16"]);
    let one = Fact::Graph(
        key("stable-4.16"),
        Ok(Arc::new(graph(&["4.16.0"], &[], &[]))),
    );
    let reference: Reference = payload_of("4.16.0").parse().unwrap();
    let (repository, digest) = (reference.repository, reference.digest.unwrap());
    let asks = |known: &[Fact]| match build(&set, &strict(), &facts(known.to_vec())) {
        Built::Whole(desired) => panic!("asks for nothing: {desired:?}"),
        Built::Missing(needs) => needs.into_iter().collect::<Vec<_>>(),
    };
    let signed = signatures(
        &digest,
        &[Ok(
            "quay.io/openshift-release-dev/ocp-release:4.16.0-x86_64",
        )],
    );
    let (image, holds) = (manifest(&digest, &[]), payload(&digest, &[("etcd", "e")]));
    let manifest_of = Need::Manifest(repository.clone(), digest.clone());
    let signatures_of = Need::Signatures(ChannelType::Ocp, digest.clone());
    let payload_of = Need::Payload(repository, digest.clone());
    assert_eq!(
        asks(std::slice::from_ref(&one)),
        [manifest_of, signatures_of.clone()]
    );
    assert_eq!(asks(&[one.clone(), image.clone()]), [signatures_of]);
    assert_eq!(
        asks(&[one.clone(), image.clone(), signed.clone()]),
        [payload_of]
    );
    let known = facts([one, image, signed, holds]);
    let desired = whole_under(&set, &strict(), &known);
    assert_eq!(desired.images.len(), 2);
    assert_eq!(
        desired.signatures,
        BTreeMap::from([(digest, vec![vec![0]])])
    );
    assert!(!desired.signatures_ignored && desired.unresolved.is_empty());
}

#[test]
fn an_unsigned_release_is_refused_and_the_rest_goes_on() {
    let mut set = releases(&["stable-4.16"]);
    set.additional_images = vec![image("q.io/a/x:1")];
    let graph = graph(&["4.16.0", "4.16.1"], &[(0, 1)], &[]);
    let digest = |version: &str| {
        let reference: Reference = payload_of(version).parse().unwrap();
        reference.digest.unwrap()
    };
    let (old, new) = (digest("4.16.0"), digest("4.16.1"));
    let release = "quay.io/openshift-release-dev/ocp-release";
    let known = facts([
        Fact::Graph(key("stable-4.16"), Ok(Arc::new(graph))),
        tagged("q.io/a/x:1", &named("x")),
        // The older one's name: a signature of another release, over this one's digest.
        signatures(
            &new,
            &[Err("is cut short"), Ok(&format!("{release}:4.16.0-x86_64"))],
        ),
        signatures(&old, &[]),
    ]);
    let Built::Whole(desired) = build(&set, &strict(), &known) else {
        panic!("something is missing");
    };
    let units: Vec<_> = desired.images.iter().map(|w| w.unit.as_str()).collect();
    assert_eq!(units, ["q.io/a/x:1"]);
    assert_eq!(desired.signatures, BTreeMap::new());
    let told: Vec<_> = desired
        .unresolved
        .iter()
        .map(|u| (u.subject.as_str(), u.reason.as_str(), u.transient))
        .collect();
    let missing = format!(
        "it is not mirrored, since the signature store https://s has no signature of {old}; check that the release is published and not withdrawn, or name a store that has it in `release_verification.ocp.store` (`--signature-url` with `once`)"
    );
    let bad = format!(
        "it is not mirrored, since it has no good signature: of {new} in https://s, `signature-1` is cut short; `signature-2` is for another release, {release}:4.16.0-x86_64, while 4.16.1-x86_64 or 4.16.1 is asked for; ask who fills that store, or name another store or keyring in `release_verification.ocp` (`--signature-url` and `--signature-key` with `once`)"
    );
    assert_eq!(
        told,
        [
            ("release 4.16.0 (amd64)", missing.as_str(), false),
            ("release 4.16.1 (amd64)", bad.as_str(), false)
        ]
    );
}

#[test]
fn a_release_named_by_tag_is_looked_up_by_its_digest_and_compared_by_its_tag() {
    let mut set = images(&[]);
    set.platform.release = Some("m.lan/copy/release:4.16.0-x86_64".parse().unwrap());
    let digest = named("payload");
    let pin = tagged("m.lan/copy/release:4.16.0-x86_64", &digest);
    let verdict = |claimed: &str| {
        let known = facts([
            pin.clone(),
            manifest(&digest, &[]),
            payload(&digest, &[]),
            signatures(&digest, &[Ok(claimed)]),
        ]);
        whole_under(&set, &strict(), &known)
    };
    let release = "quay.io/openshift-release-dev/ocp-release";
    let good = verdict(&format!("{release}:4.16.0-x86_64"));
    assert_eq!(
        (good.images.len(), good.images[0].digest.clone()),
        (1, digest.clone())
    );
    let bad = verdict(&format!("{release}:4.16.1-x86_64"));
    assert!(bad.images.is_empty() && bad.unresolved[0].reason.contains("another release"));
}

#[test]
fn of_a_multi_payload_the_index_is_signed() {
    let mut set = images(&[]);
    let index = named("index");
    set.platform.release = Some(format!("q.io/o/r@{index}").parse().unwrap());
    let (amd64, arm64) = (named("amd64"), named("arm64"));
    let known = facts([
        manifest(&index, &[("amd64", &amd64), ("arm64", &arm64)]),
        payload(&amd64, &[]),
        payload(&arm64, &[]),
    ]);
    let asked = build(&set, &strict(), &known);
    let need = Need::Signatures(ChannelType::Ocp, index);
    assert_eq!(asked, Built::Missing(BTreeSet::from([need])));
}

#[test]
fn what_is_blocked_is_left_out_by_its_source_its_digest_or_its_place() {
    let references = ["q.io/a/x:1", "q.io/a/y:1", "q.io/a/z:1", "q.io/b/w:1"];
    let known = facts(references.iter().map(|r| tagged(r, &named(r))));
    let left = |blocked: Vec<Blocked>| {
        let set = ImageSet {
            blocked_images: blocked,
            ..images(&references)
        };
        let images = whole(&set, &known).images;
        images.iter().map(|w| w.unit.clone()).collect::<Vec<_>>()
    };
    assert_eq!(left(vec![]), references);
    let pattern = |text: &str| Blocked::Pattern(text.into());
    assert_eq!(left(vec![pattern("^q.io/a/")]), ["q.io/b/w:1"]);
    assert_eq!(
        left(vec![pattern("ocp/a/[xy]:1$")]),
        ["q.io/a/z:1", "q.io/b/w:1"]
    );
    let exact = format!("q.io/a/x@{}", named("q.io/a/x:1"));
    assert_eq!(
        left(vec![
            Blocked::Exact(exact),
            Blocked::Exact("q.io/a/y:1".into())
        ]),
        ["q.io/a/z:1", "q.io/b/w:1"]
    );
    // A name is no part of another name.
    assert_eq!(left(vec![Blocked::Exact("q.io/a".into())]), references);
}

#[test]
fn two_images_for_one_place_are_both_left_out_and_both_named() {
    let set = images(&[
        "docker.io/bitnami/redis:7",
        "q.io/a/x:1",
        "quay.io/bitnami/redis:7",
    ]);
    let known = facts([
        tagged("docker.io/bitnami/redis:7", &named("one")),
        tagged("q.io/a/x:1", &named("x")),
        tagged("quay.io/bitnami/redis:7", &named("other")),
    ]);
    let desired = whole(&set, &known);
    let clash = |subject: &str, other: &str| Unresolved {
        subject: subject.into(),
        reason: format!(
            "{subject} and {other} would both land on m.lan:5000/ocp/bitnami/redis:7; give one of them a `targetRepo` of its own"
        ),
        transient: false,
        cause: Cause::Other,
    };
    let (one, other) = ("docker.io/bitnami/redis:7", "quay.io/bitnami/redis:7");
    assert_eq!(desired.unresolved, [clash(one, other), clash(other, one)]);
    assert_eq!(
        desired.images,
        [wanted("q.io/a/x:1", "m.lan:5000/ocp/a/x:1", &named("x"))]
    );
}

#[test]
fn one_image_asked_for_twice_is_mirrored_once_for_the_platforms_of_both() {
    let for_platforms = |platforms: &[&str]| AdditionalImage {
        platforms: platforms.iter().map(|p| p.parse().unwrap()).collect(),
        ..image("q.io/a/x:1")
    };
    let known = facts([tagged("q.io/a/x:1", &named("x"))]);
    let asked = |one: &[&str], other: &[&str]| {
        let set = ImageSet {
            additional_images: vec![for_platforms(one), for_platforms(other)],
            ..images(&[])
        };
        let desired = whole(&set, &known);
        assert_eq!((desired.images.len(), desired.unresolved.len()), (1, 0));
        let platforms = desired.images[0].platforms.iter();
        platforms.map(|p| p.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        asked(&["linux/arm64"], &["linux/amd64"]),
        ["linux/amd64", "linux/arm64"]
    );
    assert!(asked(&["linux/arm64"], &[]).is_empty());
}

#[test]
fn a_place_that_another_set_has_is_yielded_and_named() {
    let set = images(&["q.io/a/x:1", "q.io/a/y:1"]);
    let known = facts([
        tagged("q.io/a/x:1", &named("x")),
        tagged("q.io/a/y:1", &named("y")),
    ]);
    let place = |w: &Wanted| (w.target.clone(), w.tag.clone());
    let claim = |w: &Wanted, source: &str, digest: &Digest| {
        let other = Wanted {
            source: source.parse().unwrap(),
            digest: digest.clone(),
            ..w.clone()
        };
        (place(w), (SetName("dev".into()), other))
    };
    let whole = whole(&set, &known);
    let (x, y) = (&whole.images[0], &whole.images[1]);
    let yielded = |claims: Claims| {
        let mut desired = whole.clone();
        yield_to(&mut desired, &claims);
        desired
    };
    // The same image, or another reading of the same source's tag, is no clash.
    let same = Claims::from([
        claim(x, "other.io/a/x", &named("x")),
        claim(y, "q.io/a/y", &named("older y")),
    ]);
    assert_eq!(yielded(same), whole);
    let other = Claims::from([claim(x, "other.io/a/x", &named("z"))]);
    assert_eq!(
        yielded(other),
        Desired {
            images: vec![y.clone()],
            unresolved: vec![Unresolved {
                subject: "q.io/a/x:1".into(),
                reason: "q.io/a/x:1 and other.io/a/x (of image set dev) would both land on m.lan:5000/ocp/a/x:1; give one of them a `targetRepo` of its own".into(),
                transient: false,
                cause: Cause::Other,
            }],
            ..whole.clone()
        }
    );
}

#[test]
fn two_sets_that_ask_one_catalog_for_different_things_are_told_so() {
    let catalog = |filter: &str, digest: &str| Wanted {
        target: "m.lan/c/index".parse().unwrap(),
        tag: "v1".parse().unwrap(),
        kind: Kind::FilteredCatalog,
        source: "q.io/c/index".parse().unwrap(),
        asked_tag: Some("v1".parse().unwrap()),
        digest: named(digest),
        platforms: vec![],
        unit: "catalog q.io/c/index:v1".into(),
        entry: format!("catalog q.io/c/index:v1, filter {filter}"),
    };
    let yielded = |theirs: Wanted| {
        let mine = catalog("a", "1");
        let mut desired = Desired {
            images: vec![mine.clone()],
            ..Desired::default()
        };
        let place = (mine.target, mine.tag);
        yield_to(
            &mut desired,
            &Claims::from([(place, (SetName("dev".into()), theirs))]),
        );
        let reasons = desired.unresolved.into_iter().map(|u| u.reason);
        reasons.collect::<Vec<_>>()
    };
    // The same filter of another day.
    assert_eq!(yielded(catalog("a", "2")), [""; 0]);
    // Another filter that comes to the same.
    assert_eq!(yielded(catalog("b", "1")), [""; 0]);
    assert_eq!(
        yielded(catalog("b", "2")),
        [
            "q.io/c/index:v1 and q.io/c/index (of image set dev) would both land on m.lan/c/index:v1; give one of them a `targetCatalog` or `targetTag` of its own"
        ]
    );
}

#[test]
fn a_multi_payload_brings_the_components_of_its_children_for_the_platforms_asked_for() {
    let mut set = images(&[]);
    let named_release = "q.io/ocp/release:4.16.0-multi";
    set.platform.release = Some(named_release.parse().unwrap());
    let (index, amd, arm) = (named("index"), named("amd"), named("arm"));
    let children = [("amd64", &amd), ("arm64", &arm)];
    let source: Repository = "q.io/ocp/release".parse().unwrap();
    let mut known = facts([tagged(named_release, &index)]);
    let need = |d: &Digest| Need::Payload(source.clone(), d.clone());
    assert_eq!(
        missing(&set, &known),
        BTreeSet::from([Need::Manifest(source.clone(), index.clone())])
    );
    known.learn(manifest(&index, &children));
    assert_eq!(
        missing(&set, &known),
        BTreeSet::from([need(&amd), need(&arm)])
    );
    known.learn(payload(&amd, &[("etcd", "shared"), ("only-amd", "a")]));
    assert_eq!(missing(&set, &known), BTreeSet::from([need(&arm)]));
    known.learn(payload(&arm, &[("etcd", "shared"), ("only-arm", "b")]));
    let tags = |set: &ImageSet| {
        let desired = whole(set, &known);
        assert_eq!(desired.unresolved, []);
        let tags = desired.images.iter().map(|w| w.tag.as_str().to_owned());
        tags.collect::<Vec<_>>()
    };
    assert_eq!(
        tags(&set),
        [
            "4.16.0-multi-etcd",
            "4.16.0-multi-only-amd",
            "4.16.0-multi-only-arm",
            "4.16.0-multi"
        ]
    );
    set.platform.platforms = vec!["linux/arm64".parse().unwrap()];
    assert_eq!(
        tags(&set),
        ["4.16.0-multi-etcd", "4.16.0-multi-only-arm", "4.16.0-multi"]
    );
    let sparse = whole(&set, &known);
    assert!(
        sparse
            .images
            .iter()
            .all(|w| w.platforms == set.platform.platforms)
    );
    set.platform.platforms = vec!["linux/s390x".parse().unwrap()];
    let none = whole(&set, &known);
    assert_eq!(none.images, []);
    assert!(
        none.unresolved[0]
            .reason
            .contains("none of the platforms asked for")
    );
}

#[test]
fn a_component_that_cannot_be_read_is_named_with_its_release() {
    let (_, digest) = root("4.16.0");
    let Fact::Payload(_, Ok(read)) = payload(&digest, &[("etcd", "etcd")]) else {
        unreachable!()
    };
    let mut read = read.as_ref().clone();
    read.unreadable.push(Unreadable {
        name: "cli".into(),
        reason: "it names no digest".into(),
    });
    let known = facts([
        channel_graph("stable-4.16", &["4.16.0"]),
        manifest(&digest, &[]),
        Fact::Payload(digest, Ok(Arc::new(read))),
    ]);
    assert_eq!(
        whole(&releases(&["stable-4.16"]), &known).unresolved,
        [Unresolved {
            subject: "release 4.16.0 (amd64), component cli".into(),
            reason: "it names no digest".into(),
            transient: false,
            cause: Cause::Other,
        }]
    );
}

#[test]
fn the_pin_of_a_channel_is_its_newest_release() {
    let roots = ["4.16.2", "4.16.10"].map(root);
    let mut known = facts([channel_graph("stable-4.16", &["4.16.2", "4.16.10"])]);
    for (_, digest) in &roots {
        known.learn(manifest(digest, &[]));
        known.learn(payload(digest, &[]));
    }
    assert_eq!(
        whole(&releases(&["stable-4.16"]), &known).pins,
        BTreeMap::from([("channel stable-4.16 (amd64)".into(), "4.16.10".into())])
    );
}

#[test]
fn a_digest_needs_no_question_and_is_pinned_by_nobody() {
    let digest = named("x");
    let reference = format!("q.io/a/x@{digest}");
    let target = format!("m.lan:5000/ocp/a/x:sha256-{}", digest.hex());
    assert_eq!(
        whole(&images(&[&reference]), &Facts::default()),
        Desired {
            images: vec![wanted(&reference, &target, &digest)],
            ..Desired::default()
        }
    );
}

#[test]
fn stanzas_without_a_resolver_are_named_one_by_one() {
    let mut set = images(&[]);
    set.helm = Helm::default();
    set.platform.graph = true;
    set.platform.kube_virt_container = true;
    let stanzas: Vec<String> = whole(&set, &Facts::default())
        .unsupported
        .into_iter()
        .map(|(stanza, _)| stanza)
        .collect();
    assert_eq!(
        stanzas,
        ["mirror.platform.graph", "mirror.platform.kubeVirtContainer"]
    );
}

#[test]
fn names_that_become_one_are_refused_and_the_others_mirrored() {
    let references = ["q.io/a/b-c:1", "q.io/a-b/c:2", "q.io/a/d:1"];
    let known = facts(references.map(|reference| tagged(reference, &named(reference))));
    let set = images(&references);
    let place = |most: u32| {
        let policy = Policy {
            target: policy().target.nesting(most),
            ..policy()
        };
        match build(&set, &policy, &known) {
            Built::Whole(desired) => desired,
            Built::Missing(needs) => panic!("{needs:?}"),
        }
    };
    let places = |desired: &Desired| {
        let places = desired.images.iter().map(Wanted::target_reference);
        places.map(|place| place.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(place(3).unresolved, []);
    let flat = place(2);
    assert_eq!(places(&flat), ["m.lan:5000/ocp/a-d:1"]);
    let told: Vec<_> = flat
        .unresolved
        .iter()
        .map(|u| (u.subject.as_str(), u.reason.as_str()))
        .collect();
    let reason = "with `max_nested_paths` a-b/c and a/b-c all become m.lan:5000/ocp/a-b-c; give one of them a `targetRepo` of its own, or allow longer paths";
    assert_eq!(told, [("q.io/a-b/c:2", reason), ("q.io/a/b-c:1", reason)]);
}

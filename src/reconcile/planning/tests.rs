use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::model::{
    desired::{Kind, Wanted},
    image::Reference,
    mirrored::Position,
    plan::{Moved, PlanId, Step},
    policy::MirrorScope,
    record::Cancelled,
};

fn policy() -> Policy {
    Policy {
        target: "m.lan".parse().unwrap(),
        apply: ApplyMode::Automatic,
        on_refresh: OnRefresh::Plan,
        refresh: Duration::from_secs(3600),
        max_bytes: None,
        mirror_scope: MirrorScope::Namespace,
        ignore_release_signatures: true,
        conditional_updates: false,
        copy_signatures: false,
        signatures_refresh: Duration::from_secs(3600),
        catalog_reference: Default::default(),
        catalog_poll: Duration::from_secs(1800),
    }
}

fn release(version: &str) -> Wanted {
    Wanted {
        target: "m.lan/openshift/release-images".parse().unwrap(),
        tag: format!("{version}-x86_64").parse().unwrap(),
        kind: Kind::Release,
        source: "q.io/ocp-release".parse().unwrap(),
        asked_tag: None,
        digest: Digest::of(version.as_bytes()),
        platforms: vec![],
        unit: format!("release {version} (amd64)"),
        entry: "channel stable-4.16".into(),
    }
}

fn image(place: &str) -> Wanted {
    let target: Reference = format!("m.lan/{place}").parse().unwrap();
    Wanted {
        target: target.repository,
        tag: target.tag.unwrap(),
        kind: Kind::Additional,
        unit: format!("q.io/{place}"),
        entry: format!("q.io/{place}"),
        ..release("1.0.0")
    }
}

fn plan(images: &[Wanted]) -> Plan {
    let step = |image: &Wanted| Step {
        image: image.clone(),
        bytes: 10,
        bytes_kept: 1000,
        blobs: 1,
        attached: vec![],
        image_held: false,
    };
    Plan {
        id: PlanId("p".into()),
        set: SetName("prod".into()),
        revision: "r".into(),
        base: Position {
            lineage: "l".into(),
            serial: 0,
        },
        steps: images.iter().map(step).collect(),
        wanted: images.len(),
        held: 0,
        unwanted: vec![],
        moved: vec![],
        heads: vec![],
        pulled: vec![],
        unresolved: vec![],
        unsupported: vec![],
        signatures_ignored: true,
        conditional: vec![],
        warnings: vec![],
    }
}

/// An image set whose document `d` was applied with these images.
fn applied(images: &[Wanted]) -> SetRecord {
    SetRecord {
        applied_document: Some("d".into()),
        wanted: images.to_vec(),
        pins: BTreeMap::from([("channel stable-4.16 (amd64)".into(), "4.16.9".into())]),
        ..SetRecord::default()
    }
}

fn moved(plan: Plan) -> Plan {
    let moved = Moved {
        subject: "q.io/a:1".into(),
        from: "one".into(),
        to: "other".into(),
    };
    Plan {
        moved: vec![moved],
        ..plan
    }
}

/// What is decided where no tag or channel is named.
fn decided(policy: &Policy, plan: &Plan, document: &str, before: &SetRecord) -> Pending {
    waits(policy, plan, document, &BTreeMap::new(), before)
}

#[test]
fn what_was_cancelled_waits_until_file_or_upstream_say_something_else() {
    let pins = |digest: &str| BTreeMap::from([("q.io/a:1".to_owned(), digest.to_owned())]);
    let before = SetRecord {
        cancelled: Some(Cancelled {
            document: "d".into(),
            pins: pins("one"),
        }),
        ..SetRecord::default()
    };
    let plan = plan(&[image("a:1")]);
    let decided = |document, pins| waits(&policy(), &plan, document, &pins, &before);
    assert_eq!(decided("d", pins("one")), Pending::Cancelled);
    assert_eq!(decided("d", pins("other")), Pending::No);
    assert_eq!(decided("e", pins("one")), Pending::No);
}

#[test]
fn a_commit_is_applied_whatever_moved_along() {
    let plan = moved(plan(&[image("a:1")]));
    let never = SetRecord::default();
    assert_eq!(decided(&policy(), &plan, "d", &never), Pending::No);
    assert_eq!(
        decided(&policy(), &plan, "other", &applied(&[])),
        Pending::No
    );
}

#[test]
fn what_moved_without_a_commit_waits_where_the_site_says_so() {
    let plan = moved(plan(&[image("a:1")]));
    let before = applied(&[]);
    assert_eq!(decided(&policy(), &plan, "d", &before), Pending::OnRefresh);
    let apply = Policy {
        on_refresh: OnRefresh::Apply,
        ..policy()
    };
    assert_eq!(decided(&apply, &plan, "d", &before), Pending::No);
}

#[test]
fn a_release_that_appears_below_the_newest_moved_upstream_too() {
    let before = applied(&[release("4.16.8"), release("4.16.9")]);
    let new = plan(&[release("4.16.7")]);
    assert_eq!(decided(&policy(), &new, "d", &before), Pending::OnRefresh);
}

#[test]
fn what_the_mirror_lost_is_brought_again_without_a_person() {
    let before = applied(&[release("4.16.9"), image("a:1")]);
    let lost = plan(&[release("4.16.9"), image("a:1")]);
    assert_eq!(decided(&policy(), &lost, "d", &before), Pending::No);
}

#[test]
fn what_the_commit_asked_for_and_could_not_have_needs_no_second_asking() {
    let late = plan(&[image("late:1")]);
    assert_eq!(decided(&policy(), &late, "d", &applied(&[])), Pending::No);
    let other_channel = Wanted {
        entry: "channel stable-4.1".into(),
        ..release("4.1.0")
    };
    let late = plan(&[other_channel]);
    assert_eq!(decided(&policy(), &late, "d", &applied(&[])), Pending::No);
}

#[test]
fn max_bytes_counts_what_is_downloaded_and_not_what_is_kept() {
    let limited = |most| Policy {
        max_bytes: Some(most),
        ..policy()
    };
    let plan = plan(&[image("a:1"), image("b:1")]);
    let before = SetRecord::default();
    assert_eq!(decided(&limited(20), &plan, "d", &before), Pending::No);
    assert_eq!(
        decided(&limited(19), &plan, "d", &before),
        Pending::MaxBytes
    );
}

#[test]
fn an_image_set_that_is_applied_by_hand_waits_for_that_before_anything_else() {
    let by_hand = Policy {
        apply: ApplyMode::Manual,
        max_bytes: Some(0),
        ..policy()
    };
    let plan = moved(plan(&[image("a:1")]));
    assert_eq!(
        decided(&by_hand, &plan, "d", &applied(&[])),
        Pending::Manual
    );
}

#[test]
fn a_tag_was_named_by_the_last_resolution_else_by_the_last_applied_plan() {
    let reference: Reference = "q.io/a:1".parse().unwrap();
    let (read, pinned) = (Digest::of(b"read"), Digest::of(b"pinned"));
    let need = Need::Tag(reference.clone());
    let resolved = |answer| {
        let mut facts = Facts::default();
        facts.learn(Fact::Tag(reference.clone(), answer));
        Some(Arc::new(Resolved {
            document: "d".into(),
            desired: Desired::default(),
            facts,
        }))
    };
    let pins = BTreeMap::from([(reference.to_string(), pinned.to_string())]);
    let none = BTreeMap::new();
    assert_eq!(
        last_named(&need, &resolved(Ok(read.clone())), &pins),
        Some(read)
    );
    let failed = resolved(Err(crate::model::facts::Failure {
        reason: "it is gone".into(),
        transient: false,
        cause: Default::default(),
    }));
    assert_eq!(last_named(&need, &failed, &pins), Some(pinned.clone()));
    assert_eq!(last_named(&need, &None, &pins), Some(pinned));
    assert_eq!(last_named(&need, &None, &none), None);
    let other = Need::Manifest(reference.repository, Digest::of(b"x"));
    assert_eq!(last_named(&other, &failed, &pins), None);
}

#[test]
fn signatures_are_looked_for_again_when_it_is_time_or_when_somebody_says_so() {
    let now = Timestamp::from_second(10_000).unwrap();
    let since = |reading| looked_since(&policy(), reading, now);
    assert_eq!(since(Reading::Anew), now);
    assert_eq!(
        since(Reading::Fresh),
        Timestamp::from_second(6_400).unwrap()
    );
    assert_eq!(since(Reading::Pinned), Timestamp::MIN);
}

#[test]
fn a_signature_that_upstream_added_waits_where_upstreams_doing_does() {
    let app = image("a:1");
    let mut before = SetRecord {
        applied_document: Some("d".into()),
        wanted: vec![app.clone()],
        ..SetRecord::default()
    };
    let mut signed = plan(&[app]);
    assert_eq!(
        waits(&policy(), &signed, "d", &BTreeMap::new(), &before),
        Pending::No
    );
    signed.steps[0].image_held = true;
    assert_eq!(
        waits(&policy(), &signed, "d", &BTreeMap::new(), &before),
        Pending::OnRefresh
    );
    before.applied_document = None;
    assert_eq!(
        waits(&policy(), &signed, "d", &BTreeMap::new(), &before),
        Pending::No
    );
}

use super::*;
use crate::{
    model::{
        desired::{Kind, Unresolved, Wanted},
        mirrored::Position,
        plan::{Plan, PlanId, Unwanted},
        record::{NodeImpact, Pending},
    },
    reconcile::Inner,
    reconcile::outcome::{keep_stalled, pins_after},
};

fn wanted(place: &str) -> Wanted {
    let target: crate::model::image::Reference = format!("m.lan/{place}").parse().unwrap();
    Wanted {
        source: format!("q.io/{}", target.repository.path())
            .parse()
            .unwrap(),
        target: target.repository,
        asked_tag: target.tag.clone(),
        tag: target.tag.unwrap(),
        kind: Kind::Additional,
        digest: Digest::of(place.as_bytes()),
        platforms: vec![],
        unit: place.into(),
        entry: place.into(),
    }
}

fn steps(places: &[&str]) -> Vec<Step> {
    let step = |place: &&str| Step {
        image: wanted(place),
        bytes: 0,
        bytes_kept: 0,
        blobs: 0,
        attached: vec![],
        image_held: false,
    };
    places.iter().map(step).collect()
}

fn failed(cause: &str, because_of: &[usize]) -> Failed {
    Failed {
        cause: cause.into(),
        attempts: 3,
        because_of: because_of.to_vec(),
        stopped: false,
    }
}

fn failure(place: &str, cause: &str, dependents: &[&str]) -> RunFailure {
    RunFailure {
        image: format!("q.io/{place}"),
        target: format!("m.lan/{place}"),
        cause: cause.into(),
        attempts: 3,
        dependents: dependents.iter().map(|d| format!("q.io/{d}")).collect(),
    }
}

fn record(pins: &[(&str, &str)], unresolved: &[&str], unwanted: &[&str]) -> PlanRecord {
    PlanRecord {
        plan: Plan {
            id: PlanId("0123456789abcdef".into()),
            set: SetName("prod".into()),
            revision: "r".into(),
            base: Position {
                lineage: "l".into(),
                serial: 0,
            },
            steps: vec![],
            wanted: 0,
            held: 0,
            unwanted: unwanted
                .iter()
                .map(|place| Unwanted {
                    target: format!("m.lan/{place}").parse().unwrap(),
                    digest: Digest::of(place.as_bytes()),
                })
                .collect(),
            moved: vec![],
            heads: vec![],
            pulled: vec![],
            unresolved: unresolved
                .iter()
                .map(|subject| Unresolved {
                    subject: (*subject).into(),
                    reason: "it is gone".into(),
                    transient: true,
                    cause: Default::default(),
                })
                .collect(),
            unsupported: vec![],
            signatures_ignored: false,
            conditional: vec![],
            warnings: vec![],
        },
        created: Timestamp::UNIX_EPOCH,
        inline: false,
        document: "d".into(),
        pins: meanings(pins),
        documents: vec![],
        impact: NodeImpact::default(),
        pending: Pending::No,
        run: None,
        applied: false,
    }
}

fn meanings(pins: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pins = pins.iter();
    pins.map(|(subject, meant)| ((*subject).into(), (*meant).into()))
        .collect()
}

#[test]
fn failures_come_in_the_plans_order_with_what_depends_on_them() {
    let steps = steps(&["r:a", "r:b", "x:1", "ri:1"]);
    let failed = [
        (2, failed("it is gone", &[])),
        (3, failed("a component is missing", &[0, 1])),
        (1, failed("too slow", &[])),
        (0, failed("refused", &[])),
    ];
    assert_eq!(
        failures(&steps, &failed),
        [
            failure("r:a", "refused", &["ri:1"]),
            failure("r:b", "too slow", &["ri:1"]),
            failure("x:1", "it is gone", &[]),
        ]
    );
}

#[test]
fn what_depends_on_something_that_did_not_fail_is_a_failure_of_its_own() {
    let steps = steps(&["r:a", "ri:1"]);
    // The component was left out, not failed.
    let failed = [(1, failed("a component is missing", &[0]))];
    assert_eq!(
        failures(&steps, &failed),
        [failure("ri:1", "a component is missing", &[])]
    );
}

#[test]
fn what_was_not_begun_since_the_run_was_stopped_is_no_failure() {
    let steps = steps(&["r:a", "r:b"]);
    let stopped = Failed {
        stopped: true,
        ..failed("stopped", &[])
    };
    let failed = [(0, stopped), (1, failed("refused", &[]))];
    assert_eq!(failures(&steps, &failed), [failure("r:b", "refused", &[])]);
}

#[test]
fn pins_of_what_could_not_be_read_stay() {
    let before = meanings(&[("a:1", "old"), ("b:1", "old")]);
    assert_eq!(
        pins_after(&before, &record(&[("a:1", "new")], &["b:1"], &[])),
        meanings(&[("a:1", "new"), ("b:1", "old")])
    );
    assert_eq!(
        pins_after(&before, &record(&[("a:1", "new")], &[], &[])),
        meanings(&[("a:1", "new")])
    );
}

#[test]
fn what_is_neither_wanted_nor_unwanted_stays_wanted() {
    let before = ["stalled:1", "dropped:1", "moved:1"].map(wanted);
    let moved = Wanted {
        digest: Digest::of(b"newer"),
        ..wanted("moved:1")
    };
    assert_eq!(
        keep_stalled(
            &before,
            &[moved],
            &record(&[], &["stalled:1"], &["dropped:1"])
        ),
        [wanted("stalled:1")]
    );
}

#[test]
fn runs_are_named_by_their_time_and_their_plan() {
    let plan = record(&[], &[], &[]);
    let now: Timestamp = "2026-11-24T04:00:05Z".parse().unwrap();
    assert_eq!(run_id(now, &plan, |_| false), "20261124T040005Z-012345");
    let taken = ["20261124T040005Z-012345", "20261124T040005Z-012345-2"];
    assert_eq!(
        run_id(now, &plan, |id| taken.contains(&id)),
        "20261124T040005Z-012345-3"
    );
}

#[test]
fn handles_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Inner>();
}

#[test]
fn bytes_are_told_of_images_that_landed_only() {
    let step = Step {
        bytes: 7,
        ..steps(&["a:1"]).remove(0)
    };
    let bytes = |outcome| finished(&step, outcome, String::new()).bytes;
    let outcomes = [
        ImageOutcome::Landed,
        ImageOutcome::Failed,
        ImageOutcome::Skipped,
    ];
    assert_eq!(outcomes.map(bytes), [7, 0, 0]);
}

#[test]
fn time_to_go_is_told_at_the_rate_of_late() {
    let mut progress = Progress {
        bytes_done: 40,
        bytes_total: 100,
        ..Progress::default()
    };
    pace(&mut progress, 6);
    assert_eq!(
        (progress.bytes_per_second, progress.eta_seconds),
        (6, Some(10))
    );
    pace(&mut progress, 0);
    assert_eq!((progress.bytes_per_second, progress.eta_seconds), (0, None));
}

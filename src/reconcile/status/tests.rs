use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{
    model::{
        desired::Unresolved,
        imageset::{ImageSet, Problem, SetName},
        mirrored::Position,
        plan::{Plan, PlanId},
        record::{DocumentChange, NodeImpact, Progress, RunFailure, SetRecord, Trigger},
    },
    reconcile::state::RoundFailure,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn plan() -> PlanRecord {
    PlanRecord {
        plan: Plan {
            id: PlanId("0123456789abcdef".into()),
            set: SetName("prod".into()),
            revision: "main@sha1:1".into(),
            base: Position {
                lineage: "l".into(),
                serial: 0,
            },
            steps: vec![],
            wanted: 1,
            held: 0,
            unwanted: vec![],
            moved: vec![],
            heads: vec![],
            pulled: vec![],
            unresolved: vec![],
            unsupported: vec![],
            signatures_ignored: false,
            conditional: vec![],
            warnings: vec![],
        },
        created: at(0),
        inline: false,
        document: "d".into(),
        pins: BTreeMap::new(),
        documents: vec![],
        impact: NodeImpact::default(),
        clusters: vec![],
        held: vec![],
        pending: Pending::No,
        run: None,
        applied: true,
    }
}

/// A plan that has documents to write, and waits for it.
fn waiting(pending: Pending) -> PlanRecord {
    PlanRecord {
        applied: false,
        pending,
        documents: vec![DocumentChange {
            name: "n".into(),
            file_name: "f".into(),
            kind: "k".into(),
            before: String::new(),
            after: "x".into(),
        }],
        ..plan()
    }
}

fn with_unresolved(transient: bool) -> PlanRecord {
    let mut record = plan();
    let unresolved = |subject: &str| Unresolved {
        subject: subject.into(),
        reason: "it is gone".into(),
        transient,
        cause: Default::default(),
    };
    record.plan.unresolved = vec![unresolved("q.io/a:1"), unresolved("q.io/b:1")];
    record
}

/// An image set of the directory whose last plan is this one.
fn planned(plan: PlanRecord) -> SetState {
    SetState {
        file: "prod.yaml".into(),
        set: Some(ImageSet::default()),
        document: Some("d".into()),
        record: SetRecord {
            applied_revision: Some("main@sha1:1".into()),
            ..SetRecord::default()
        },
        plan: Some(Arc::new(plan)),
        ..SetState::default()
    }
}

fn run(state: RunState) -> RunRecord {
    RunRecord {
        id: "r1".into(),
        set: SetName("prod".into()),
        plan: PlanId("0123456789abcdef".into()),
        revision: "main@sha1:1".into(),
        state,
        trigger: Trigger::Commit,
        started: at(0),
        finished: Some(at(1)),
        progress: Progress::default(),
        failures: vec![RunFailure {
            image: "q.io/a:1".into(),
            target: "m.lan/a:1".into(),
            cause: "refused".into(),
            attempts: 3,
            dependents: vec![],
        }],
        message: "1 of 2 images did not land".into(),
    }
}

/// What is said at second 7: kind, whether it holds, reason, message.
fn said(mut state: SetState) -> Vec<(String, bool, String, String)> {
    refresh_set(&SetName("app".to_owned()), &mut state, at(7));
    assert!(state.conditions.iter().all(|c| c.since == at(7)));
    let conditions = state.conditions.into_iter();
    conditions
        .map(|c| (c.kind, c.holds, c.reason, c.message))
        .collect()
}

fn says(kind: &str, holds: bool, reason: &str, message: &str) -> (String, bool, String, String) {
    (kind.into(), holds, reason.into(), message.into())
}

#[test]
fn ready_names_the_revision_that_the_mirror_stands_for() {
    assert_eq!(
        said(planned(plan())),
        [says(
            "Ready",
            true,
            "Mirrored",
            "the mirror holds main@sha1:1"
        )]
    );
}

#[test]
fn nothing_planned_is_not_ready() {
    assert_eq!(
        said(SetState {
            plan: None,
            ..planned(plan())
        }),
        [says(
            "Ready",
            false,
            "Starting",
            "nothing has been planned yet"
        )]
    );
}

#[test]
fn a_run_under_way_is_copying() {
    assert_eq!(
        said(SetState {
            active: Some("r1".into()),
            ..planned(waiting(Pending::No))
        }),
        [
            says("Ready", false, "Copying", "a run is under way"),
            says("Reconciling", true, "Working", "work is under way"),
        ]
    );
}

#[test]
fn a_round_under_way_is_planning() {
    assert_eq!(
        said(SetState {
            busy: true,
            ..planned(plan())
        }),
        [
            says(
                "Ready",
                false,
                "Planning",
                "what is wanted is being compared with the mirror"
            ),
            says("Reconciling", true, "Working", "work is under way"),
        ]
    );
}

#[test]
fn entries_that_only_a_person_can_help_stall() {
    let message = "q.io/a:1: it is gone (and 1 more entry)";
    assert_eq!(
        said(planned(with_unresolved(false))),
        [
            says("Ready", false, "EntriesUnresolved", message),
            says("Stalled", true, "EntriesUnresolved", message),
            says("Unresolved", true, "EntriesUnresolved", message),
        ]
    );
}

#[test]
fn entries_that_may_come_are_tried_again_and_do_not_stall() {
    let message = "q.io/a:1: it is gone (and 1 more entry)";
    assert_eq!(
        said(SetState {
            next_refresh: Some(at(3600)),
            ..planned(with_unresolved(true))
        }),
        [
            says("Ready", false, "EntriesUnresolved", message),
            says(
                "Reconciling",
                true,
                "Retrying",
                "it is tried again at 01:00:00Z"
            ),
            says("Unresolved", true, "EntriesUnresolved", message),
        ]
    );
}

#[test]
fn a_plan_that_waits_for_a_person_says_what_to_type() {
    let message = "plan 0123456789ab waits: this image set is applied by hand; `imagesetd apply 0123456789ab` applies it";
    assert_eq!(
        said(planned(waiting(Pending::Manual))),
        [
            says("Ready", false, "Manual", message),
            says("Waiting", true, "Manual", message),
        ]
    );
}

#[test]
fn a_plan_that_somebody_only_asked_for_is_not_ready() {
    let message = "plan 0123456789ab is applied when upstream is looked at again at 01:00:00Z; `imagesetd apply 0123456789ab` applies it now";
    assert_eq!(
        said(SetState {
            next_refresh: Some(at(3600)),
            ..planned(waiting(Pending::No))
        }),
        [
            says("Ready", false, "NotApplied", message),
            says("Waiting", true, "NotApplied", message),
        ]
    );
}

#[test]
fn a_run_that_left_something_undone_is_tried_again() {
    let message = "run r1: 1 of 2 images did not land; q.io/a:1: refused";
    assert_eq!(
        said(SetState {
            last_run: Some(run(RunState::Partial)),
            next_refresh: Some(at(60)),
            ..planned(waiting(Pending::No))
        }),
        [
            says("Ready", false, "Partial", message),
            says("CopyFailed", true, "Partial", message),
            says(
                "Reconciling",
                true,
                "Retrying",
                "it is tried again at 00:01:00Z"
            ),
        ]
    );
}

#[test]
fn a_run_that_a_person_ended_stalls() {
    let message = "run r1: 1 of 2 images did not land; q.io/a:1: refused";
    assert_eq!(
        said(SetState {
            last_run: Some(run(RunState::Cancelled)),
            ..planned(waiting(Pending::No))
        }),
        [
            says("Ready", false, "Cancelled", message),
            says("CopyFailed", true, "Cancelled", message),
            says("Stalled", true, "Cancelled", message),
        ]
    );
}

#[test]
fn a_file_that_went_away_is_removed_and_nothing_else() {
    let message = "its file went away; it is not refreshed any more, its content and documents stay until they are retired";
    assert_eq!(
        said(SetState {
            removed: true,
            set: None,
            document: None,
            ..planned(with_unresolved(true))
        }),
        [
            says("Ready", false, "FileGone", message),
            says("Removed", true, "FileGone", message),
        ]
    );
}

#[test]
fn a_broken_file_is_named_with_its_place() {
    let problem = |severity, line| Problem {
        file: "prod.yaml".into(),
        line,
        column: 5,
        severity,
        path: "mirror.platform".into(),
        message: "unknown key `chanels`".into(),
        hint: String::new(),
    };
    let message = "prod.yaml:3:5: mirror.platform: unknown key `chanels` (and 1 more problem)";
    assert_eq!(
        said(SetState {
            set: None,
            document: None,
            problems: vec![
                problem(Severity::Warning, 1),
                problem(Severity::Error, 3),
                problem(Severity::Error, 9),
            ],
            ..planned(plan())
        }),
        [
            says("Ready", false, "ImageSetInvalid", message),
            says("Invalid", true, "ImageSetInvalid", message),
            says("Stalled", true, "ImageSetInvalid", message),
        ]
    );
}

#[test]
fn a_round_that_failed_in_passing_is_tried_again_and_another_stalls() {
    let failed = |transient| SetState {
        failure: Some(RoundFailure {
            reason: "MirrorUnavailable",
            message: "nobody answers".into(),
            transient,
        }),
        ..planned(plan())
    };
    let (ready, cause) = (
        says("Ready", false, "MirrorUnavailable", "nobody answers"),
        says("PlanFailed", true, "MirrorUnavailable", "nobody answers"),
    );
    assert_eq!(
        said(failed(true)),
        [
            ready.clone(),
            cause.clone(),
            says("Reconciling", true, "Retrying", "work is under way"),
        ]
    );
    assert_eq!(
        said(failed(false)),
        [
            ready,
            cause,
            says("Stalled", true, "MirrorUnavailable", "nobody answers"),
        ]
    );
}

#[test]
fn stanzas_that_are_not_mirrored_stall_and_unverified_releases_only_inform() {
    let mut record = plan();
    record.plan.signatures_ignored = true;
    let informs = says(
        "SignaturesIgnored",
        true,
        "SettingsSaySo",
        "releases are mirrored without a look at their signatures, as the settings say",
    );
    assert_eq!(
        said(planned(record.clone())),
        [
            says("Ready", true, "Mirrored", "the mirror holds main@sha1:1"),
            informs.clone(),
        ]
    );
    record.plan.unsupported = vec![("mirror.helm".into(), "charts are not mirrored".into())];
    let message = "charts are not mirrored";
    assert_eq!(
        said(planned(record)),
        [
            says("Ready", false, "StanzaNotMirrored", message),
            informs,
            says("Stalled", true, "StanzaNotMirrored", message),
            says("Unsupported", true, "StanzaNotMirrored", message),
        ]
    );
}

#[test]
fn what_an_older_document_meant_is_not_said_of_the_newer_one() {
    let state = SetState {
        document: Some("newer".into()),
        ..planned(with_unresolved(false))
    };
    assert_eq!(
        said(state),
        [says(
            "Ready",
            false,
            "Starting",
            "nothing has been planned yet"
        )]
    );
}

#[test]
fn since_moves_only_when_what_is_said_changes() {
    let mut state = planned(plan());
    refresh_set(&SetName("app".to_owned()), &mut state, at(1));
    state.record.applied_revision = Some("main@sha1:2".into());
    refresh_set(&SetName("app".to_owned()), &mut state, at(2));
    // Another message for the same reason is no change of state.
    assert_eq!(
        state.conditions,
        [Condition {
            kind: "Ready".into(),
            holds: true,
            reason: "Mirrored".into(),
            message: "the mirror holds main@sha1:2".into(),
            since: at(1),
        }]
    );
    state.busy = true;
    refresh_set(&SetName("app".to_owned()), &mut state, at(3));
    state.busy = false;
    refresh_set(&SetName("app".to_owned()), &mut state, at(4));
    assert_eq!(state.conditions[0].since, at(4));
}

#[test]
fn the_daemon_is_ready_once_it_watches_and_names_what_is_in_the_way() {
    let mut state = State::default();
    let said = |state: &State| -> Vec<_> {
        let conditions = state.conditions.iter().cloned();
        conditions
            .map(|c| (c.kind, c.holds, c.reason, c.message))
            .collect()
    };
    refresh_daemon(&mut state, at(1));
    assert_eq!(
        said(&state),
        [says(
            "Ready",
            false,
            "Starting",
            "the directory has not been looked at yet"
        )]
    );
    state.revision = Some("main@sha1:1".into());
    refresh_daemon(&mut state, at(2));
    assert_eq!(
        said(&state),
        [says("Ready", true, "Watching", "watching at main@sha1:1")]
    );
    state.directory_trouble = Some(("DirectoryMissing", "it is not there".into()));
    state.output_trouble = Some("the disk is full".into());
    refresh_daemon(&mut state, at(3));
    assert_eq!(
        said(&state),
        [
            says("Ready", false, "DirectoryMissing", "it is not there"),
            says(
                "DirectoryUnavailable",
                true,
                "DirectoryMissing",
                "it is not there"
            ),
            says("OutputUnavailable", true, "WriteFailed", "the disk is full"),
        ]
    );
}

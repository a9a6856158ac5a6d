//! What happens, as it happens.

use crate::{
    grpc::{
        convert::{plan_summary, run, run_summary, time},
        v1::{self, EventKind},
    },
    model::record::{RunRecord, RunState},
    reconcile::{Event, What},
};

/// Returns what happened.
pub fn event(event: &Event) -> v1::Event {
    let told = v1::Event {
        kind: kind(&event.what).into(),
        time: Some(time(event.at)),
        image_set: event
            .set
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        standing: event.standing,
        ..v1::Event::default()
    };
    match &event.what {
        What::SetChanged { revision, message } => v1::Event {
            revision: revision.clone(),
            message: format!("image set {} changed: {message}", told.image_set),
            ..told
        },
        What::PlanReady(view) => {
            let plan = plan_summary(view);
            v1::Event {
                revision: plan.revision.clone(),
                message: format!(
                    "plan {} of {} is ready: {} images to copy, {} bytes to download",
                    plan.id.get(..12).unwrap_or(&plan.id),
                    plan.image_set,
                    plan.step_count,
                    plan.bytes
                ),
                plan: Some(plan),
                ..told
            }
        }
        What::RunStarted(record) => with_run(told, run_summary(record), "began"),
        What::RunProgress(record) => with_run(told, run_summary(record), "goes on"),
        What::RunEnded(record) => with_run(told, run(record), ended(record)),
        What::Drifted(lack) => v1::Event {
            message: format!("image set {}: {lack}", told.image_set),
            ..told
        },
        What::Missed(count) => v1::Event {
            message: format!("{count} events were missed, since they were not read in time"),
            ..told
        },
    }
}

/// Whether an event is among those asked for. What was missed may have been.
pub fn is_wanted(event: &Event, kinds: &[i32]) -> bool {
    let kind = kind(&event.what);
    kinds.is_empty() || kind == EventKind::Missed || kinds.contains(&kind.into())
}

fn kind(what: &What) -> EventKind {
    match what {
        What::SetChanged { .. } => EventKind::ImageSetChanged,
        What::PlanReady(_) => EventKind::PlanReady,
        What::RunStarted(_) => EventKind::RunStarted,
        What::RunProgress(_) => EventKind::RunProgress,
        What::RunEnded(run) if run.state == RunState::Succeeded => EventKind::RunFinished,
        What::RunEnded(_) => EventKind::RunFailed,
        What::Drifted(_) => EventKind::Drift,
        What::Missed(_) => EventKind::Missed,
    }
}

fn with_run(told: v1::Event, run: v1::Run, how: &str) -> v1::Event {
    let mut message = format!("run {} of {} {how}", run.id, run.image_set);
    if !run.message.is_empty() {
        message += &format!(": {}", run.message);
    }
    v1::Event {
        revision: run.revision.clone(),
        message,
        run: Some(run),
        ..told
    }
}

fn ended(run: &RunRecord) -> &'static str {
    match run.state {
        RunState::Running => "goes on",
        RunState::Succeeded => "has brought everything",
        RunState::Partial => "has brought a part",
        RunState::Failed => "failed",
        RunState::Cancelled => "was cancelled",
        RunState::Interrupted => "was interrupted",
    }
}

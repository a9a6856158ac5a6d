//! Runs and what happens in them.

use crate::{
    grpc::{
        convert::{MOST, time},
        v1,
    },
    model::record::{Progress, RunRecord, RunState, Trigger},
    reconcile::{ImageFinished, ImageOutcome, RunEvent},
};

/// Returns a run with its failures.
pub fn run(run: &RunRecord) -> v1::Run {
    let failures = run.failures.iter().take(MOST).map(|failure| v1::Failure {
        image: failure.image.clone(),
        target: failure.target.clone(),
        cause: failure.cause.clone(),
        attempts: failure.attempts,
        dependents: failure.dependents.clone(),
    });
    v1::Run {
        failures: failures.collect(),
        ..run_summary(run)
    }
}

/// Returns what a list of runs says of one.
pub fn run_summary(run: &RunRecord) -> v1::Run {
    v1::Run {
        id: run.id.clone(),
        image_set: run.set.to_string(),
        plan_id: run.plan.to_string(),
        revision: run.revision.clone(),
        state: run_state(run.state).into(),
        trigger: trigger(run.trigger).into(),
        started_at: Some(time(run.started)),
        finished_at: run.finished.map(time),
        progress: Some(progress(&run.progress)),
        failures: Vec::new(),
        message: run.message.clone(),
    }
}

fn run_state(state: RunState) -> v1::RunState {
    match state {
        RunState::Running => v1::RunState::Running,
        RunState::Succeeded => v1::RunState::Succeeded,
        RunState::Partial => v1::RunState::Partial,
        RunState::Failed => v1::RunState::Failed,
        RunState::Cancelled => v1::RunState::Cancelled,
        RunState::Interrupted => v1::RunState::Interrupted,
    }
}

fn trigger(trigger: Trigger) -> v1::RunTrigger {
    match trigger {
        Trigger::Commit => v1::RunTrigger::Commit,
        Trigger::Refresh => v1::RunTrigger::Refresh,
        Trigger::Request => v1::RunTrigger::Request,
        Trigger::Retry => v1::RunTrigger::Retry,
        Trigger::Repair => v1::RunTrigger::Repair,
    }
}

/// Returns how far a run is.
pub(super) fn progress(progress: &Progress) -> v1::Progress {
    v1::Progress {
        images_done: progress.images_done,
        images_total: progress.images_total,
        images_failed: progress.images_failed,
        images_skipped: progress.images_skipped,
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        bytes_per_second: progress.bytes_per_second,
        eta_seconds: progress.eta_seconds,
        blobs_copied: progress.blobs_copied,
        blobs_mounted: progress.blobs_mounted,
        blobs_skipped: progress.blobs_skipped,
    }
}

/// Returns what happened in a run.
pub fn run_event(event: &RunEvent) -> v1::RunEvent {
    use v1::run_event::Event;
    let event = match event {
        RunEvent::Run(run) => Event::Run(self::run(run)),
        RunEvent::Progress(progress) => Event::Progress(self::progress(progress)),
        RunEvent::Image(image) => Event::Image(image_finished(image)),
        RunEvent::Finished(run) => Event::Finished(self::run(run)),
    };
    v1::RunEvent { event: Some(event) }
}

fn image_finished(image: &ImageFinished) -> v1::ImageFinished {
    let outcome = match image.outcome {
        ImageOutcome::Landed => v1::ImageOutcome::Landed,
        ImageOutcome::Failed => v1::ImageOutcome::Failed,
        ImageOutcome::Skipped => v1::ImageOutcome::Skipped,
    };
    v1::ImageFinished {
        image: image.image.clone(),
        target: image.target.clone(),
        digest: image.digest.clone(),
        outcome: outcome.into(),
        bytes: image.bytes,
        cause: image.cause.clone(),
    }
}

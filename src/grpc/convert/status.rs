//! How the daemon and its image sets are.

use crate::{
    grpc::{
        convert::{found::problem, plan::pending, run::progress, time},
        v1,
    },
    model::record::{Condition, DaemonStatus, SetStatus, Status},
};

/// Returns how the daemon and its image sets are.
pub fn status_answer(status: &Status) -> v1::GetStatusResponse {
    v1::GetStatusResponse {
        daemon: Some(daemon_status(&status.daemon)),
        image_sets: status.sets.iter().map(set_status).collect(),
    }
}

fn daemon_status(daemon: &DaemonStatus) -> v1::DaemonStatus {
    v1::DaemonStatus {
        version: daemon.version.clone(),
        directory: daemon.directory.clone(),
        revision: daemon.revision.clone(),
        lineage: daemon.lineage.clone(),
        serial: daemon.serial,
        started_at: Some(time(daemon.started)),
        conditions: daemon.conditions.iter().map(condition).collect(),
    }
}

fn set_status(set: &SetStatus) -> v1::ImageSetStatus {
    v1::ImageSetStatus {
        name: set.name.to_string(),
        file: set.file.clone(),
        target: set.target.clone(),
        observed_revision: set.observed_revision.clone(),
        applied_revision: set.applied_revision.clone(),
        conditions: set.conditions.iter().map(condition).collect(),
        plan_id: set
            .plan
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        pending_reason: pending(set.pending).into(),
        run_id: set.run.clone().unwrap_or_default(),
        progress: set.progress.as_ref().map(progress),
        images_wanted: set.images_wanted,
        images_mirrored: set.images_mirrored,
        last_refresh_at: set.last_refresh.map(time),
        next_refresh_at: set.next_refresh.map(time),
        release_signatures_ignored: set.signatures_ignored,
        problems: set.problems.iter().map(problem).collect(),
        last_verified_at: set.last_verified.map(time),
    }
}

fn condition(condition: &Condition) -> v1::Condition {
    let status = match condition.holds {
        true => v1::ConditionStatus::True,
        false => v1::ConditionStatus::False,
    };
    v1::Condition {
        r#type: condition.kind.clone(),
        status: status.into(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: Some(time(condition.since)),
    }
}

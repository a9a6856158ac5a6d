//! What status says: conditions in Kubernetes' manner, folded from what was observed. `Ready` sums up; a cause is there only
//! while it holds.

use jiff::Timestamp;

use super::state::{SetState, State};
use crate::model::{
    imageset::{SetName, Severity},
    record::{Condition, Pending, PlanRecord, RunRecord, RunState},
};

/// One statement, before it is known since when it holds.
struct Claim {
    kind: &'static str,
    holds: bool,
    reason: String,
    message: String,
}

fn claim(
    kind: &'static str,
    holds: bool,
    reason: impl Into<String>,
    message: impl Into<String>,
) -> Claim {
    Claim {
        kind,
        holds,
        reason: reason.into(),
        message: message.into(),
    }
}

/// A cause that holds.
fn cause(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Claim {
    claim(kind, true, reason, message)
}

/// Brings an image set's conditions up to date; times change only with what is said.
pub(super) fn refresh_set(name: &SetName, state: &mut SetState, now: Timestamp) {
    let causes = set_causes(name, state);
    let claims = summed_up(state, causes);
    state.conditions = dated(claims, &state.conditions, now);
}

/// Brings the daemon's conditions up to date.
pub(super) fn refresh_daemon(state: &mut State, now: Timestamp) {
    let mut claims = Vec::new();
    if let Some((reason, message)) = &state.directory_trouble {
        claims.push(cause("DirectoryUnavailable", *reason, message));
    }
    if let Some(message) = &state.git_trouble {
        claims.push(cause("GitUnavailable", "FetchFailed", message));
    }
    if let Some(message) = &state.output_trouble {
        claims.push(cause("OutputUnavailable", "WriteFailed", message));
    }
    let ready = match claims.first() {
        Some(first) => claim("Ready", false, first.reason.clone(), first.message.clone()),
        None if state.revision.is_none() => claim(
            "Ready",
            false,
            "Starting",
            "the directory has not been looked at yet",
        ),
        None => claim(
            "Ready",
            true,
            "Watching",
            format!(
                "watching at {}",
                state.revision.as_deref().unwrap_or_default()
            ),
        ),
    };
    claims.insert(0, ready);
    // Who comes in goes by what was read before: nothing of the work waits for it.
    if let Some(message) = &state.access_trouble {
        claims.push(cause("AccessOutdated", "FilesUnusable", message));
    }
    state.conditions = dated(claims, &state.conditions, now);
}

fn dated(claims: Vec<Claim>, before: &[Condition], now: Timestamp) -> Vec<Condition> {
    let since = |c: &Claim| {
        let same = before
            .iter()
            .find(|b| b.kind == c.kind && b.holds == c.holds && b.reason == c.reason);
        same.map_or(now, |b| b.since)
    };
    let mut conditions: Vec<Condition> = claims
        .into_iter()
        .map(|c| Condition {
            since: since(&c),
            kind: c.kind.to_owned(),
            holds: c.holds,
            reason: c.reason,
            message: c.message,
        })
        .collect();
    conditions[1..].sort_by(|a, b| a.kind.cmp(&b.kind));
    conditions
}

/// What is in the way of being ready, and what is worth knowing.
fn set_causes(name: &SetName, state: &SetState) -> Vec<Claim> {
    let mut causes = Vec::new();
    if state.removed {
        let message = "its file went away; it is not refreshed any more, its content and documents stay until they are retired";
        causes.push(cause("Removed", "FileGone", message));
        return causes;
    }
    let errors: Vec<_> = state
        .problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .collect();
    if let Some(first) = errors.first() {
        let more = counted(errors.len() - 1, "more problem");
        let place = first.place();
        let path = if first.path.is_empty() {
            String::new()
        } else {
            format!("{}: ", first.path)
        };
        let hint = if first.hint.is_empty() {
            String::new()
        } else {
            format!("; {}", first.hint)
        };
        causes.push(cause(
            "Invalid",
            "ImageSetInvalid",
            format!("{place}: {path}{}{hint}{more}", first.message),
        ));
    }
    if let Some(failure) = &state.failure {
        causes.push(cause("PlanFailed", failure.reason, &failure.message));
    }
    planned_causes(state, &mut causes);
    if let Some(waiting) = &state.waiting {
        causes.push(cause("DocumentsHeld", waiting.reason, &waiting.message));
    }
    if let Some(drift) = &state.record.drift {
        causes.push(cause("MirrorDrifted", "ContentLost", drift.sentence(name)));
    }
    causes
}

fn planned_causes(state: &SetState, causes: &mut Vec<Claim>) {
    if let Some(plan) = state
        .plan
        .as_ref()
        .filter(|p| Some(&p.document) == state.document.as_ref())
    {
        if let Some(first) = plan.plan.unresolved.first() {
            let more = counted(plan.plan.unresolved.len() - 1, "more entry");
            causes.push(cause(
                "Unresolved",
                "EntriesUnresolved",
                format!("{}: {}{more}", first.subject, first.reason),
            ));
        }
        if !plan.plan.unsupported.is_empty() {
            let sentences: Vec<&str> = plan
                .plan
                .unsupported
                .iter()
                .map(|(_, s)| s.as_str())
                .collect();
            causes.push(cause(
                "Unsupported",
                "StanzaNotMirrored",
                sentences.join("; "),
            ));
        }
        if plan.plan.signatures_ignored {
            let message =
                "releases are mirrored without a look at their signatures, as the settings say";
            causes.push(cause("SignaturesIgnored", "SettingsSaySo", message));
        }
        if plan.pending != Pending::No && !plan.applied && state.active.is_none() {
            let short = plan.plan.id.short();
            let (reason, why) = match plan.pending {
                Pending::Manual => ("Manual", "this image set is applied by hand"),
                Pending::MaxBytes => (
                    "MaxBytes",
                    "it downloads more than `max_bytes` allows without a person",
                ),
                Pending::OnRefresh => (
                    "OnRefresh",
                    "upstream moved without a commit and `on_refresh` is `plan`",
                ),
                Pending::Cancelled => ("Cancelled", "a run of the same was cancelled"),
                Pending::Preview | Pending::No => ("Preview", "it is a preview"),
            };
            let waits = !plan.plan.is_empty() || plan.documents.iter().any(|d| d.before != d.after);
            if waits {
                causes.push(cause(
                    "Waiting",
                    reason,
                    format!("plan {short} waits: {why}; `imagesetd apply {short}` applies it"),
                ));
            }
        }
    }
    if let Some(plan) = unattended(state) {
        let when = state.next_refresh.map_or_else(String::new, |at| {
            format!(" at {}", at.strftime("%H:%M:%SZ"))
        });
        let short = plan.plan.id.short();
        causes.push(cause(
            "Waiting",
            "NotApplied",
            format!(
                "plan {short} is applied when upstream is looked at again{when}; `imagesetd apply {short}` applies it now"
            ),
        ));
    }
    if let Some(run) = state.last_run.as_ref().filter(|_| state.active.is_none()) {
        let reason = match run.state {
            RunState::Partial => "Partial",
            RunState::Failed => "Failed",
            RunState::Cancelled => "Cancelled",
            RunState::Interrupted => "Interrupted",
            RunState::Running | RunState::Succeeded => return,
        };
        let first = run
            .failures
            .first()
            .map(|f| format!("; {}: {}", f.image, f.cause))
            .unwrap_or_default();
        causes.push(cause(
            "CopyFailed",
            reason,
            format!("run {}: {}{first}", run.id, run.message),
        ));
    }
}

/// A plan that leaves something to do, waits for nobody and is not being applied: somebody only asked for it.
fn unattended(state: &SetState) -> Option<&PlanRecord> {
    let idle = state.active.is_none() && !state.busy && state.due.is_none();
    // What a run left undone says so itself.
    let fine = |run: &RunRecord| run.state == RunState::Succeeded;
    let plan = state.plan.as_deref().filter(|p| {
        Some(&p.document) == state.document.as_ref() && !p.applied && p.pending == Pending::No
    })?;
    (idle && state.last_run.as_ref().is_none_or(fine)).then_some(plan)
}

fn counted(more: usize, what: &str) -> String {
    match more {
        0 => String::new(),
        1 => format!(" (and 1 {what})"),
        n if what.ends_with('y') => format!(" (and {n} {}ies)", &what[..what.len() - 1]),
        n => format!(" (and {n} {what}s)"),
    }
}

/// Puts Ready, Reconciling and Stalled before their causes.
fn summed_up(state: &SetState, mut causes: Vec<Claim>) -> Vec<Claim> {
    // The mirror holds what is asked for all the same.
    let informs = |c: &Claim| matches!(c.kind, "SignaturesIgnored" | "DocumentsHeld");
    let in_the_way = causes
        .iter()
        .find(|c| !informs(c))
        .map(|c| (c.kind, c.reason.clone(), c.message.clone()));
    let working = state.active.is_some() || state.busy || state.due.is_some();
    let passing = state.failure.as_ref().is_some_and(|f| f.transient)
        || state.last_run.as_ref().is_some_and(|r| {
            matches!(
                r.state,
                RunState::Partial | RunState::Failed | RunState::Interrupted
            )
        })
        || state
            .plan
            .as_ref()
            .is_some_and(|p| p.plan.unresolved.iter().any(|u| u.transient));
    let mut claims = Vec::new();
    let ready = match &in_the_way {
        _ if state.active.is_some() => claim("Ready", false, "Copying", "a run is under way"),
        Some((_, reason, message)) => claim("Ready", false, reason.clone(), message.clone()),
        None if working => claim(
            "Ready",
            false,
            "Planning",
            "what is wanted is being compared with the mirror",
        ),
        None if state
            .plan
            .as_ref()
            .is_none_or(|p| Some(&p.document) != state.document.as_ref()) =>
        {
            claim("Ready", false, "Starting", "nothing has been planned yet")
        }
        None => claim(
            "Ready",
            true,
            "Mirrored",
            format!(
                "the mirror holds {}",
                state
                    .record
                    .applied_revision
                    .as_deref()
                    .unwrap_or("what is asked for")
            ),
        ),
    };
    claims.push(ready);
    if working || (passing && !state.removed && state.is_usable()) {
        let message = match (working, state.next_refresh) {
            (false, Some(at)) => {
                format!("it is tried again at {at}", at = at.strftime("%H:%M:%SZ"))
            }
            _ => "work is under way".to_owned(),
        };
        claims.push(claim(
            "Reconciling",
            true,
            if working { "Working" } else { "Retrying" },
            message,
        ));
    } else if let Some((kind, reason, message)) = in_the_way
        && !matches!(kind, "Removed" | "Waiting")
    {
        claims.push(claim("Stalled", true, reason, message));
    }
    claims.append(&mut causes);
    claims
}

#[cfg(test)]
mod tests;

//! The audit log: a line for each call that changes something, and for each that was denied.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::Extensions;
use tonic::{Code, Status};

use crate::grpc::convert::REASON;

/// The target of the lines, by which they are told from all others.
pub const TARGET: &str = "audit";

/// The longest name or id of a request that a line holds.
const LONGEST: usize = 200;

/// How many calls of strangers are written down in a minute; nobody shall fill the log who cannot even say who they are.
const STRANGERS_A_MINUTE: u32 = 60;

/// What a call is about; its handler fills it in. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Subject(Arc<Mutex<About>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct About {
    image_set: Option<String>,
    plan: Option<String>,
    run: Option<String>,
    note: Option<&'static str>,
}

impl Subject {
    /// Returns the subject that a request came with.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    fn about(&self) -> MutexGuard<'_, About> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is about this image set.
    pub fn image_set(&self, name: &str) -> &Self {
        self.about().image_set = bounded(name);
        self
    }

    /// It is about this plan.
    pub fn plan(&self, id: &str) -> &Self {
        self.about().plan = bounded(id);
        self
    }

    /// It is about this run.
    pub fn run(&self, id: &str) -> &Self {
        self.about().run = bounded(id);
        self
    }

    /// What the names do not say.
    pub fn note(&self, note: &'static str) -> &Self {
        self.about().note = Some(note);
        self
    }
}

/// Returns what was sent, as far as it is worth keeping; nothing where nothing was.
fn bounded(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.chars().take(LONGEST).collect())
}

/// A line to be written. One that is dropped before says that the client hung up.
pub struct Line {
    caller: String,
    from: String,
    call: &'static str,
    subject: Subject,
    is_written: bool,
}

impl Line {
    /// Begins the line of a call.
    pub fn new(caller: &str, from: &str, call: &'static str, subject: Subject) -> Self {
        Line {
            caller: caller.to_owned(),
            from: from.to_owned(),
            call,
            subject,
            is_written: false,
        }
    }

    /// Writes it.
    pub fn write(mut self, result: Result<(), &Status>) {
        match result {
            Ok(()) => self.tell("done", None),
            Err(status) if is_denial(status) => self.tell("denied", Some(&reason(status))),
            Err(status) => self.tell("failed", Some(&reason(status))),
        }
    }

    fn tell(&mut self, result: &str, reason: Option<&str>) {
        self.is_written = true;
        let About {
            image_set,
            plan,
            run,
            note,
        } = self.subject.about().clone();
        tracing::info!(
            target: TARGET,
            caller = self.caller,
            from = self.from,
            call = self.call,
            image_set,
            plan,
            run,
            note,
            result,
            reason,
            "audit"
        );
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.is_written {
            self.tell("abandoned", None);
        }
    }
}

fn is_denial(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::PermissionDenied | Code::Unauthenticated
    )
}

fn reason(status: &Status) -> String {
    let reason = status.metadata().get(REASON);
    let reason = reason.and_then(|reason| reason.to_str().ok());
    reason.map_or_else(|| format!("{:?}", status.code()), str::to_owned)
}

/// Keeps strangers from filling the log.
#[derive(Debug, Default)]
pub struct Strangers(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    begun: Option<Instant>,
    count: u32,
    left_out: u32,
}

impl Strangers {
    /// Writes that a call of somebody was refused who is not known, unless there are too many such.
    pub fn write(&self, from: &str, call: &'static str, status: &Status) {
        if self.is_worth_it(Instant::now()) {
            Line::new("unknown", from, call, Subject::default()).write(Err(status));
        }
    }

    fn is_worth_it(&self, now: Instant) -> bool {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |begun: Instant| now.duration_since(begun) >= Duration::from_secs(60);
        if minute.begun.is_none_or(is_over) {
            if minute.left_out > 0 {
                tracing::info!(
                    target: TARGET,
                    left_out = minute.left_out,
                    "audit: more calls of unknown callers were denied"
                );
            }
            *minute = Minute {
                begun: Some(now),
                ..Minute::default()
            };
        }
        minute.count += 1;
        let is_worth_it = minute.count <= STRANGERS_A_MINUTE;
        minute.left_out += u32::from(!is_worth_it);
        is_worth_it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_so_many_lines_a_minute() {
        let strangers = Strangers::default();
        let now = Instant::now();
        let written = |at| (0..500).filter(|_| strangers.is_worth_it(at)).count();
        assert_eq!(written(now), 60);
        assert_eq!(written(now + Duration::from_secs(59)), 0);
        assert_eq!(written(now + Duration::from_secs(61)), 60);
    }

    #[test]
    fn what_a_line_holds_of_a_request_is_bounded() {
        let subject = Subject::default();
        subject.image_set(&"x".repeat(100_000)).plan("").run("9a3c");
        assert_eq!(
            *subject.about(),
            About {
                image_set: Some("x".repeat(LONGEST)),
                plan: None,
                run: Some("9a3c".to_owned()),
                note: None,
            }
        );
    }
}

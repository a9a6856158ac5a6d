//! How a verb ends: its exit code, and the error that people and scripts are told.

use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{
    cli::json::{self, SCHEMA},
    grpc::{
        convert::{self, REASON},
        v1::{ErrorDetails, Problem},
    },
};

/// How a verb ends. The numbers are relied on by scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// None of the others.
    Other = 1,
    /// The command line or the request is not what it should be.
    Usage = 2,
    /// What the verb needs is not so: a stale plan, an invalid image set, no such release.
    Precondition = 3,
    /// The daemon or a registry did not accept who asked.
    Authentication = 4,
    /// The daemon or an upstream cannot be reached.
    Unavailable = 5,
    /// A run ended with failures.
    Partial = 6,
    /// The time ran out, and the run goes on.
    TimedOut = 7,
    /// Interrupted from the keyboard, and the run goes on.
    Interrupted = 130,
}

impl Exit {
    /// Returns the exit code for an image set that could not be planned, by the reason's stable word.
    pub fn of_unplanned(reason: &str) -> Self {
        match reason {
            "MirrorAuthentication" => Exit::Authentication,
            "MirrorUnavailable" | "StateUnavailable" | "OutputUnavailable" | "Stopping" => {
                Exit::Unavailable
            }
            "ImageSetInvalid" | "ImageSetNotFound" | "PlanStale" | "RunUnderWay" | "Unfit" => {
                Exit::Precondition
            }
            _ => Exit::Other,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

/// Why a verb could not be done.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// A stable word in capitals, as the API documents them, or one of the client's own.
    pub reason: String,
    /// The gRPC code that it is or would be.
    pub grpc: Code,
    /// What was being done, why it failed, what to do.
    pub message: String,
    /// What it is about; empty where it says nothing of that.
    pub details: Box<ErrorDetails>,
}

impl Failure {
    /// Makes a failure of the client itself.
    pub fn new(reason: &str, grpc: Code, message: impl Into<String>) -> Self {
        Failure {
            reason: reason.to_owned(),
            grpc,
            message: message.into(),
            details: Box::default(),
        }
    }

    /// The same, with what is wrong with files.
    pub fn with_problems(mut self, problems: Vec<Problem>) -> Self {
        self.details.problems = problems;
        self
    }

    /// The command line asks for something that cannot be.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure::new("USAGE", Code::InvalidArgument, message)
    }

    /// Something on this side is not what the verb needs: a file, a folder.
    pub fn precondition(reason: &str, message: impl Into<String>) -> Self {
        Failure::new(reason, Code::FailedPrecondition, message)
    }

    /// A file or stream of this side could not be used.
    pub fn local(what: impl std::fmt::Display, source: &std::io::Error) -> Self {
        Failure::new("LOCAL_IO", Code::Unknown, format!("{what}: {source}"))
    }

    /// Returns the exit code that says what kind of failure it is.
    pub fn exit(&self) -> Exit {
        match self.grpc {
            // For who asked it is a precondition that the mirror knows the daemon; scripts look for it among the credentials.
            _ if self.reason == "MIRROR_AUTHENTICATION" => Exit::Authentication,
            Code::Ok => Exit::Done,
            Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Exit::Usage,
            Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => {
                Exit::Precondition
            }
            Code::Unauthenticated | Code::PermissionDenied => Exit::Authentication,
            Code::Unavailable | Code::DeadlineExceeded => Exit::Unavailable,
            Code::Cancelled
            | Code::Unknown
            | Code::ResourceExhausted
            | Code::Internal
            | Code::DataLoss => Exit::Other,
        }
    }

    /// Returns the document that stands on stdout instead of the answer.
    pub fn document(&self) -> Value {
        json!({"schema": SCHEMA, "error": {
            "code": self.reason,
            "grpc_code": code_name(self.grpc),
            "message": self.message,
            "details": self.detail_fields(),
        }})
    }

    /// All fields of the details, or none where there is nothing to say.
    fn detail_fields(&self) -> Value {
        match *self.details == ErrorDetails::default() {
            true => json!({}),
            false => Value::Object(json::fields(&*self.details)),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let reason = status
            .metadata()
            .get(REASON)
            .and_then(|value| value.to_str().ok());
        if reason.is_none() && is_of_the_transport(&status) {
            return Failure::new(
                "CONNECTION_LOST",
                Code::Unavailable,
                format!(
                    "the connection to the daemon broke ({}); a run goes on (`imagesetd runs list`), a plan has to be asked for again; --request-timeout waits longer",
                    causes(&status)
                ),
            );
        }
        Failure {
            reason: reason.unwrap_or(code_name(status.code())).to_owned(),
            grpc: status.code(),
            message: sentence(&status),
            details: Box::new(convert::details(&status)),
        }
    }
}

/// Whether it was not the daemon that said so. The transport's own words are of no use to a person.
fn is_of_the_transport(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::Unknown, Code::Cancelled];
    codes.contains(&status.code()) && std::error::Error::source(status).is_some()
}

/// Returns what to tell a person.
fn sentence(status: &Status) -> String {
    match (status.code(), status.message()) {
        (Code::Unimplemented, _) => {
            "the daemon does not know this request; it is older than this client".to_owned()
        }
        (code, "") => format!("the daemon answered {}", code_name(code)),
        (_, text) => text.to_owned(),
    }
}

/// Returns the innermost cause of an error, which is the one that says something.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Returns the code as gRPC writes it (`FAILED_PRECONDITION`).
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_say_what_kind_of_failure_it_is() {
        let exit = |code| Failure::new("X", code, "").exit() as u8;
        let of = |codes: &[Code]| codes.iter().map(|&code| exit(code)).collect::<Vec<_>>();
        assert_eq!(of(&[Code::InvalidArgument, Code::Unimplemented]), [2, 2]);
        assert_eq!(
            of(&[
                Code::FailedPrecondition,
                Code::NotFound,
                Code::AlreadyExists
            ]),
            [3, 3, 3]
        );
        assert_eq!(of(&[Code::Unauthenticated, Code::PermissionDenied]), [4, 4]);
        assert_eq!(of(&[Code::Unavailable, Code::DeadlineExceeded]), [5, 5]);
        assert_eq!(
            of(&[Code::Internal, Code::Unknown, Code::ResourceExhausted]),
            [1, 1, 1]
        );
        assert_eq!(
            [
                Exit::Partial as u8,
                Exit::TimedOut as u8,
                Exit::Interrupted as u8
            ],
            [6, 7, 130]
        );
    }

    #[test]
    fn an_error_of_the_daemon_keeps_its_reason_and_words() {
        let mut status =
            Status::failed_precondition("plan 4f1c9a is stale: the directory changed; plan again");
        status
            .metadata_mut()
            .insert(REASON, "STALE_PLAN".parse().unwrap());
        assert_eq!(
            Failure::from(status).document(),
            json!({"schema": 1, "error": {
                "code": "STALE_PLAN", "grpc_code": "FAILED_PRECONDITION",
                "message": "plan 4f1c9a is stale: the directory changed; plan again", "details": {},
            }})
        );
    }

    #[test]
    fn an_error_without_reason_is_named_for_its_code() {
        let failure = Failure::from(Status::permission_denied(""));
        assert_eq!(failure.reason, "PERMISSION_DENIED");
        assert_eq!(failure.message, "the daemon answered PERMISSION_DENIED");
    }
}

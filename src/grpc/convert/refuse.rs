//! Errors as gRPC says them: a code, the sentence, and a stable reason beside it.

use prost::{Message, Name};
use prost_types::Any;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

use crate::{
    grpc::{convert::problem, v1},
    reconcile::Error,
};

/// The metadata key of an error's stable reason.
pub const REASON: &str = "imagesetd-reason";

/// How many bytes of problems go along with an error: clients refuse trailers of more than 8 to 16 KiB.
const MOST_PROBLEMS: usize = 4 << 10;

/// The standard form of an error with details, `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// Returns the error as gRPC says it: a code, the sentence, a stable reason beside it, and what it is about.
pub fn refused(error: &Error) -> Status {
    let (code, reason) = code_and_reason(error);
    let message = match code {
        Code::Internal => hidden(error),
        _ => error.to_string(),
    };
    status(code, reason, message, &about(error))
}

/// Makes an error with its stable reason.
pub fn refusal(code: Code, reason: &'static str, message: impl Into<String>) -> Status {
    status(code, reason, message.into(), &v1::ErrorDetails::default())
}

fn status(code: Code, reason: &'static str, message: String, details: &v1::ErrorDetails) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(REASON, MetadataValue::from_static(reason));
    if *details == v1::ErrorDetails::default() {
        return Status::with_metadata(code, message, metadata);
    }
    let whole = RpcStatus {
        code: code.into(),
        message: message.clone(),
        details: vec![Any {
            type_url: format!("type.googleapis.com/{}", v1::ErrorDetails::full_name()),
            value: details.encode_to_vec(),
        }],
    };
    Status::with_details_and_metadata(code, message, whole.encode_to_vec().into(), metadata)
}

/// Reads what an error is about; nothing where it does not say so.
pub fn details(status: &Status) -> v1::ErrorDetails {
    let whole = RpcStatus::decode(status.details()).unwrap_or_default();
    let mut details = whole.details.iter();
    details
        .find_map(|detail| detail.to_msg().ok())
        .unwrap_or_default()
}

fn about(error: &Error) -> v1::ErrorDetails {
    let mut about = v1::ErrorDetails::default();
    match error {
        Error::Invalid { set, problems, .. } => {
            about.image_set = set.to_string();
            let mut room = MOST_PROBLEMS;
            let fits = |problem: &v1::Problem| {
                let left = room.checked_sub(problem.encoded_len());
                room = left.unwrap_or(0);
                left.is_some()
            };
            about.problems = problems.iter().map(problem).take_while(fits).collect();
        }
        Error::Stale { id, set, .. } => {
            about.plan_id = id.to_string();
            about.image_set = set.to_string();
        }
        Error::Busy { set, run } => {
            about.image_set = set.to_string();
            about.run_id.clone_from(run);
        }
        Error::Over(run) => about.run_id.clone_from(run),
        _ => {}
    }
    about
}

/// Every error has a code that someone chose for it.
fn code_and_reason(error: &Error) -> (Code, &'static str) {
    match error {
        Error::NoSet { .. } => (Code::NotFound, "IMAGE_SET_NOT_FOUND"),
        Error::NoPlan(_) => (Code::NotFound, "PLAN_NOT_FOUND"),
        Error::NoRun(_) => (Code::NotFound, "RUN_NOT_FOUND"),
        Error::Ambiguous { .. } => (Code::InvalidArgument, "AMBIGUOUS_ID"),
        Error::Invalid { .. } => (Code::FailedPrecondition, "IMAGE_SET_INVALID"),
        Error::Stale { .. } => (Code::FailedPrecondition, "STALE_PLAN"),
        Error::Busy { .. } => (Code::AlreadyExists, "RUN_ACTIVE"),
        Error::NothingPublished(_) => (Code::NotFound, "RULES_NOT_FOUND"),
        Error::RulesRefused(_) => (Code::FailedPrecondition, "RULES_REFUSED"),
        Error::Over(_) => (Code::FailedPrecondition, "RUN_FINISHED"),
        Error::Mirror(error) if error.is_authentication() => {
            (Code::FailedPrecondition, "MIRROR_AUTHENTICATION")
        }
        Error::Mirror(_) => (Code::Unavailable, "MIRROR_UNAVAILABLE"),
        Error::Store(_) => (Code::Unavailable, "STATE_UNAVAILABLE"),
        Error::Output(_) => (Code::Unavailable, "OUTPUT_UNAVAILABLE"),
        Error::Unfit(_) => (Code::InvalidArgument, "INVALID_REQUEST"),
        Error::Stopping => (Code::Unavailable, "SHUTTING_DOWN"),
        Error::Endless(_) | Error::Task(_) => (Code::Internal, "INTERNAL"),
    }
}

/// Logs what went wrong inside and returns what callers are told of it: where to read on.
fn hidden(error: &Error) -> String {
    let id = format!("{:08x}", fastrand::u32(..));
    tracing::error!(%id, %error, "a request failed inside");
    format!("the daemon failed inside; its log says more under {id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        imageset::{Problem, SetName, Severity},
        plan::PlanId,
    };

    #[test]
    fn an_error_has_its_code_its_reason_and_its_words() {
        let stale = Error::Stale {
            id: PlanId("4f1c9a".repeat(8)),
            set: SetName("ocp".to_owned()),
            why: "the directory changed".to_owned(),
        };
        let status = refused(&stale);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.metadata().get(REASON).unwrap(), "STALE_PLAN");
        assert_eq!(status.message(), stale.to_string());
        assert_eq!(
            details(&status),
            v1::ErrorDetails {
                image_set: "ocp".to_owned(),
                plan_id: "4f1c9a".repeat(8),
                ..v1::ErrorDetails::default()
            }
        );
    }

    #[test]
    fn problems_go_along_as_far_as_trailers_have_room() {
        let problem = Problem {
            severity: Severity::Error,
            file: "prod/a.yaml".to_owned(),
            line: 4,
            column: 3,
            path: "mirror.x".to_owned(),
            message: "x".repeat(1000),
            hint: String::new(),
        };
        let invalid = |problems: &[Problem]| Error::Invalid {
            set: SetName("a".to_owned()),
            first: String::new(),
            problems: problems.to_vec(),
        };
        let of = |count: usize| details(&refused(&invalid(&vec![problem.clone(); count]))).problems;
        assert_eq!(of(1), [super::problem(&problem)]);
        assert_eq!(of(500).len(), 3);
    }

    #[test]
    fn an_error_about_nothing_has_no_details() {
        let status = refused(&Error::NoPlan("77".to_owned()));
        assert!(status.details().is_empty());
        assert_eq!(details(&status), v1::ErrorDetails::default());
    }

    #[test]
    fn what_failed_inside_is_told_to_the_log_only() {
        let status = refused(&Error::Endless(SetName("secret-name".to_owned())));
        assert_eq!(status.code(), Code::Internal);
        assert!(
            !status.message().contains("secret-name"),
            "{}",
            status.message()
        );
    }
}

//! Errors as gRPC says them: a code, the sentence, and a stable reason beside it.

use prost::{Message, Name};
use prost_types::Any;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::pb::{BadRequest, ErrorInfo, bad_request::FieldViolation};

use crate::{
    grpc::{convert::problem, v1},
    model::imageset::Problem,
    reconcile::{Error, LookError},
};

/// The metadata key of an error's stable reason.
pub const REASON: &str = "imagesetd-reason";

/// How many bytes of problems go along with an error: clients refuse trailers of more than 8 to 16 KiB.
const MOST_PROBLEMS: usize = 4 << 10;

/// How many bytes of them go along once more as violations, in the standard form.
const MOST_VIOLATIONS: usize = 1 << 10;

/// Whose reasons these are (google.rpc.ErrorInfo.domain).
pub const DOMAIN: &str = "imagesetd";

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

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        refused(&error)
    }
}

/// Returns the error as gRPC says it: a code, the sentence, a stable reason beside it, and what it is about.
pub fn refused(error: &Error) -> Status {
    let (code, reason) = code_and_reason(error);
    let message = match code {
        Code::Internal => hidden(error),
        _ => error.to_string(),
    };
    let violations = match error {
        Error::Invalid { problems, .. } => problems.iter().map(violation_of).collect(),
        _ => Vec::new(),
    };
    status(code, reason, message, &about(error), violations)
}

/// Makes an error with its stable reason.
pub fn refusal(code: Code, reason: &'static str, message: impl Into<String>) -> Status {
    let about = v1::ErrorDetails::default();
    status(code, reason, message.into(), &about, Vec::new())
}

/// Makes the error of a request's field that is not what it should be.
pub fn unfit(field: &str, message: impl Into<String>) -> Status {
    let (reason, message) = ("INVALID_REQUEST", message.into());
    let violation = violation(field, message.clone(), reason);
    let about = v1::ErrorDetails::default();
    status(
        Code::InvalidArgument,
        reason,
        message,
        &about,
        vec![violation],
    )
}

fn violation(field: &str, description: String, reason: &str) -> FieldViolation {
    FieldViolation {
        field: field.to_owned(),
        description,
        reason: reason.to_owned(),
        ..FieldViolation::default()
    }
}

/// A problem of an image set's file, with its place.
fn violation_of(problem: &Problem) -> FieldViolation {
    let place = match problem.line {
        0 => problem.file.clone(),
        line => format!("{}:{line}:{}", problem.file, problem.column),
    };
    let hint = match problem.hint.as_str() {
        "" => String::new(),
        hint => format!("; {hint}"),
    };
    let description = format!("{place}: {}{hint}", problem.message);
    violation(&problem.path, description, "IMAGE_SET_INVALID")
}

fn status(
    code: Code,
    reason: &'static str,
    message: String,
    about: &v1::ErrorDetails,
    violations: Vec<FieldViolation>,
) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(REASON, MetadataValue::from_static(reason));
    let mut details = vec![any("google.rpc.ErrorInfo", &info(reason, about))];
    if *about != v1::ErrorDetails::default() {
        details.push(any(&v1::ErrorDetails::full_name(), about));
    }
    let field_violations = fitting(violations, MOST_VIOLATIONS);
    if !field_violations.is_empty() {
        details.push(any(
            "google.rpc.BadRequest",
            &BadRequest { field_violations },
        ));
    }
    let whole = RpcStatus {
        code: code.into(),
        message: message.clone(),
        details,
    };
    Status::with_details_and_metadata(code, message, whole.encode_to_vec().into(), metadata)
}

fn any(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec(),
    }
}

fn info(reason: &str, about: &v1::ErrorDetails) -> ErrorInfo {
    let named = [
        ("image_set", &about.image_set),
        ("plan_id", &about.plan_id),
        ("run_id", &about.run_id),
    ];
    let named = named.into_iter().filter(|(_, value)| !value.is_empty());
    ErrorInfo {
        reason: reason.to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: named
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect(),
    }
}

/// Returns the first of `messages`, as many as `room` bytes hold.
fn fitting<M: Message>(messages: Vec<M>, mut room: usize) -> Vec<M> {
    let fits = |message: &M| {
        let left = room.checked_sub(message.encoded_len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    messages.into_iter().take_while(fits).collect()
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
            about.problems = fitting(problems.iter().map(problem).collect(), MOST_PROBLEMS);
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
        Error::NoCluster { .. } => (Code::NotFound, "CLUSTER_NOT_FOUND"),
        Error::NothingPublished(_) => (Code::NotFound, "RULES_NOT_FOUND"),
        Error::RulesRefused(_) => (Code::FailedPrecondition, "RULES_REFUSED"),
        Error::Over(_) => (Code::FailedPrecondition, "RUN_FINISHED"),
        Error::Mirror(error) if error.is_authentication() => {
            (Code::FailedPrecondition, "MIRROR_AUTHENTICATION")
        }
        Error::Mirror(_) => (Code::Unavailable, "MIRROR_UNAVAILABLE"),
        Error::Store(_) | Error::Picture { .. } => (Code::Unavailable, "STATE_UNAVAILABLE"),
        Error::Output(_) => (Code::Unavailable, "OUTPUT_UNAVAILABLE"),
        Error::Unfit(_) | Error::Look(LookError::Unfit(_)) => {
            (Code::InvalidArgument, "INVALID_REQUEST")
        }
        Error::Look(LookError::NoPackage(_)) => (Code::NotFound, "PACKAGE_NOT_FOUND"),
        Error::Look(LookError::NoChannel(_)) => (Code::NotFound, "CHANNEL_NOT_FOUND"),
        Error::Look(LookError::Unread(failure)) if failure.transient => {
            (Code::Unavailable, "CATALOG_UNAVAILABLE")
        }
        Error::Look(LookError::Unread(_)) => (Code::FailedPrecondition, "CATALOG_UNREADABLE"),
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
        imageset::{SetName, Severity},
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

    /// The details of an error, each with its type's name.
    fn all_details(status: &Status) -> Vec<(String, Vec<u8>)> {
        let whole = RpcStatus::decode(status.details()).unwrap();
        assert_eq!(
            (whole.code, whole.message.as_str()),
            (status.code() as i32, status.message())
        );
        let name = |any: Any| {
            (
                any.type_url.rsplit('/').next().unwrap().to_owned(),
                any.value,
            )
        };
        whole.details.into_iter().map(name).collect()
    }

    #[test]
    fn an_error_has_its_reason_in_the_standard_form_too() {
        let status = refused(&Error::NoPlan("77".to_owned()));
        let [(name, info)] = &all_details(&status)[..] else {
            panic!("{status:?}")
        };
        assert_eq!(name, "google.rpc.ErrorInfo");
        assert_eq!(
            ErrorInfo::decode(info.as_slice()).unwrap(),
            ErrorInfo {
                reason: "PLAN_NOT_FOUND".to_owned(),
                domain: "imagesetd".to_owned(),
                metadata: Default::default(),
            }
        );
        assert_eq!(details(&status), v1::ErrorDetails::default());
    }

    #[test]
    fn what_an_error_is_about_stands_in_the_standard_form_too() {
        let busy = Error::Busy {
            set: SetName("ocp".to_owned()),
            run: "9a3c".to_owned(),
        };
        let all = all_details(&refused(&busy));
        let info = ErrorInfo::decode(all[0].1.as_slice()).unwrap();
        let named = [("image_set", "ocp"), ("run_id", "9a3c")];
        let named = named.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(info.metadata, named.into());
        assert_eq!(all[1].0, "imageset.v1.ErrorDetails");
    }

    #[test]
    fn fields_and_files_that_are_not_what_they_should_be_are_violations() {
        let violations = |status: &Status| {
            let all = all_details(status);
            let (name, bytes) = all.last().unwrap().clone();
            assert_eq!(name, "google.rpc.BadRequest");
            BadRequest::decode(bytes.as_slice())
                .unwrap()
                .field_violations
        };
        assert_eq!(
            violations(&unfit("page_token", "begin again")),
            [violation(
                "page_token",
                "begin again".to_owned(),
                "INVALID_REQUEST"
            )]
        );
        let problem = |message: String| Problem {
            severity: Severity::Error,
            file: "prod/a.yaml".to_owned(),
            line: 4,
            column: 3,
            path: "mirror.x".to_owned(),
            message,
            hint: "mend it".to_owned(),
        };
        let invalid = |message: &str, count| Error::Invalid {
            set: SetName("a".to_owned()),
            first: String::new(),
            problems: vec![problem(message.to_owned()); count],
        };
        assert_eq!(
            violations(&refused(&invalid("no such key", 1))),
            [violation(
                "mirror.x",
                "prod/a.yaml:4:3: no such key; mend it".to_owned(),
                "IMAGE_SET_INVALID"
            )]
        );
        let many = refused(&invalid(&"x".repeat(400), 1000));
        assert_eq!(violations(&many).len(), 2);
        assert!(many.details().len() < 6 << 10, "{}", many.details().len());
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

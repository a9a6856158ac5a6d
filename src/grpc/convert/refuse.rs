//! Errors as gRPC says them: a code, the sentence, and a stable reason beside it.

use tonic::{Code, Status, metadata::MetadataValue};

use crate::reconcile::Error;

/// The metadata key of an error's stable reason.
pub const REASON: &str = "imagesetd-reason";

/// Returns the error as gRPC says it: a code, the sentence, and a stable reason beside it.
pub fn refused(error: &Error) -> Status {
    let (code, reason) = code_and_reason(error);
    let message = match code {
        Code::Internal => hidden(error),
        _ => error.to_string(),
    };
    refusal(code, reason, message)
}

/// Makes an error with its stable reason.
pub fn refusal(code: Code, reason: &'static str, message: impl Into<String>) -> Status {
    let mut status = Status::new(code, message);
    status
        .metadata_mut()
        .insert(REASON, MetadataValue::from_static(reason));
    status
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
    use crate::model::{imageset::SetName, plan::PlanId};

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

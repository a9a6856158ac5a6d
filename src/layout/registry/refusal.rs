//! Answers that say no, with the error codes of the OCI distribution spec.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    layout::Error,
    model::{
        image::{Digest, NameError},
        manifest::ManifestError,
    },
};

/// Why a request is not served.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    detail: Value,
}

impl Refusal {
    /// Says no with a status, a code of the spec, and a sentence.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Refusal {
            status,
            code,
            message: message.into(),
            detail: Value::Null,
        }
    }

    /// Returns the status it is answered with.
    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The path is none of the spec's.
    pub(super) fn not_found() -> Self {
        let message = "there is nothing at this path; images are below /v2/";
        Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// The method does not go with the path.
    pub(super) fn unsupported(message: &str) -> Self {
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(super) fn name_invalid(error: NameError) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, "NAME_INVALID", error.to_string())
    }

    pub(super) fn tag_invalid(error: NameError) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, "TAG_INVALID", error.to_string())
    }

    pub(super) fn digest_invalid(error: impl ToString) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
    }

    pub(super) fn manifest_invalid(error: ManifestError) -> Self {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "MANIFEST_INVALID",
            error.to_string(),
        )
    }

    pub(super) fn name_unknown(name: &str) -> Self {
        let message = format!("there is no repository `{name}` here");
        Refusal::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message)
    }

    pub(super) fn manifest_unknown(name: &str, key: &str) -> Self {
        let message = format!("`{name}` holds no manifest `{key}`");
        Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
    }

    pub(super) fn blob_unknown(digest: &Digest) -> Self {
        let message = format!("the blob {digest} is not here");
        Refusal::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message)
    }

    pub(super) fn upload_unknown() -> Self {
        let message = "there is no such upload; it has ended or the registry was started anew";
        Refusal::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message)
    }

    /// More bytes than are taken.
    pub(super) fn too_large(max: u64) -> Self {
        let message = format!("more than {max} bytes are not taken");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    }

    /// The client broke off, or stopped sending.
    pub(super) fn broken_off(reason: impl ToString) -> Self {
        let message = format!("the request's body did not arrive: {}", reason.to_string());
        Refusal::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    /// Something here failed; what it was goes to the log, not to the client.
    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a request to the registry failed");
        let message = "the registry could not read or write its folder; see its log";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Mismatch { .. } => Refusal::digest_invalid(error),
            Error::Name(name) => Refusal::name_invalid(name),
            Error::Missing { ref all, .. } => {
                let missing: Vec<_> = all
                    .iter()
                    .map(|d| json!({"digest": d.to_string()}))
                    .collect();
                Refusal {
                    detail: Value::Array(missing),
                    ..Refusal::new(
                        StatusCode::BAD_REQUEST,
                        "MANIFEST_BLOB_UNKNOWN",
                        error.to_string(),
                    )
                }
            }
            error => Refusal::internal(WithCauses(&error)),
        }
    }
}

/// Writes an error with what caused it.
struct WithCauses<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.code, "message": self.message});
        if !self.detail.is_null() {
            error["detail"] = self.detail;
        }
        let body = json!({"errors": [error]}).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

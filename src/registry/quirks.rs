//! What registries answer beside the specification, in one place: each row has an effect here, and is told by status first.
//!
//! | registry | answers | to | which means |
//! |---|---|---|---|
//! | Artifactory (virtual repositories) | 403 with `MANIFEST_UNKNOWN` | a manifest that is not there | it is absent |
//! | Harbor, GitLab | 401 or 403 with `NAME_UNKNOWN` or `NOT_FOUND` | a project that is not there | it is absent |
//! | Quay, GHCR | 401 or 403 | a repository that is not there | either; the survey of a mirror goes on, a message says both |
//! | Distribution, ECR | 404 | the beginning of an upload | the repository has to be made first |
//! | ECR | 400 `ImageTagAlreadyExistsException` | a tag that may not move | done, where the tag names the same already |
//! | Harbor | 412, "configured as immutable" | the same | the same |
//! | Quay, GAR, ACR | 403 or 409, "immutable" | the same | the same |
//! | Distribution | 400 `MANIFEST_BLOB_UNKNOWN`, one for each | a manifest without some of its parts | these are to be sent again |
//! | Quay | 400 `MANIFEST_INVALID` | an index without some of its children | it takes whole ones only |
//! | GHCR, Distribution 2.8 | 404 `BLOB_UPLOAD_UNKNOWN`, 400 or 416 `BLOB_UPLOAD_INVALID` | the end of an upload | begin it again |
//!
//! Docker Hub's registry has another name than its images ([`protocol::host`](super::protocol::host)).
//!
//! **Invariant:** touches no socket, no clock, no environment.

use crate::{
    model::image::Digest,
    registry::{
        error::Task,
        protocol::Selector,
        refusal::{Diagnostic, Refused},
    },
};

/// Codes that say that something is not there, whatever the status.
const ABSENT: [&str; 4] = [
    "MANIFEST_UNKNOWN",
    "NAME_UNKNOWN",
    "BLOB_UNKNOWN",
    "NOT_FOUND",
];

/// Codes with which a manifest is refused for lack of its parts.
const LACKS_PARTS: [&str; 3] = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"];

/// Codes with which an upload is refused that is not known any more.
const UPLOAD_IS_GONE: [&str; 2] = ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"];

/// Whether what was to be read is not there.
pub(super) fn is_absent(refused: &Refused) -> bool {
    let reads = matches!(
        refused.task,
        Task::ReadManifest(..) | Task::ListTags(_) | Task::FindBlob(..) | Task::ReadBlob(..)
    );
    match refused.status.as_u16() {
        404 => !matches!(refused.task, Task::Token(..)),
        401 | 403 => reads && refused.has_code(&ABSENT),
        _ => false,
    }
}

/// Whether a refusal to read may as well mean that what was asked for is not there.
pub(super) fn may_be_absent(refused: &Refused) -> bool {
    matches!(refused.task, Task::ReadManifest(..) | Task::ListTags(_))
        && matches!(refused.status.as_u16(), 401 | 403)
}

/// Whether a tag was refused because it names something already and may not be moved.
pub(super) fn is_immutable(refused: &Refused) -> bool {
    let tags = matches!(
        refused.task,
        Task::PushManifest {
            name: Selector::Tag(_),
            ..
        }
    );
    let says = |d: &Diagnostic| {
        let text = format!("{} {}", d.code, d.message).to_ascii_lowercase();
        text.contains("immutable") || text.contains("imagetagalreadyexists")
    };
    tags && matches!(refused.status.as_u16(), 400 | 403 | 409 | 412)
        && refused.diagnostics.iter().any(says)
}

/// Whether an upload was refused that may succeed when it is begun again.
pub(super) fn upload_is_gone(refused: &Refused) -> bool {
    matches!(refused.task, Task::Upload(..)) && refused.has_code(&UPLOAD_IS_GONE)
}

/// Returns the blobs, or children, for lack of which a manifest was refused.
pub(super) fn missing_parts(refused: &Refused) -> Vec<Digest> {
    let about = |d: &&Diagnostic| LACKS_PARTS.contains(&d.code.as_str());
    let pushed = matches!(refused.task, Task::PushManifest { .. });
    let found = refused.diagnostics.iter().filter(|_| pushed).filter(about);
    let mut digests: Vec<_> = found.flat_map(|d| d.digests.clone()).collect();
    digests.sort();
    digests.dedup();
    digests
}

/// Whether an index was refused for its children, as far as that can be told apart from other reasons.
pub(super) fn lacks_children(refused: &Refused) -> bool {
    matches!(refused.task, Task::PushManifest { index: true, .. })
        && matches!(refused.status.as_u16(), 400 | 404 | 422)
        && (refused.has_code(&LACKS_PARTS) || refused.has_code(&["MANIFEST_INVALID"]))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::registry::refusal::Login;

    fn refused(task: Task, status: u16, body: &str) -> Refused {
        Refused {
            task,
            host: "reg.lan".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            diagnostics: Diagnostic::read(body.as_bytes()),
            retry_after: None,
            login: Login::Elsewhere,
            outlived: false,
        }
    }

    fn error(code: &str, message: &str) -> String {
        format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#)
    }

    #[test]
    fn absence_is_told_by_status_and_then_by_code() {
        let read = || Task::ListTags("reg.lan/a".parse().unwrap());
        let begin = || Task::BeginUpload("reg.lan/a".parse().unwrap());
        let token = || Task::Token("reg.lan/a".parse().unwrap(), "auth.lan".to_owned());
        for (task, status, code, expected) in [
            (read(), 404, "", true),
            (read(), 404, "ANYTHING", true),
            (begin(), 404, "NAME_UNKNOWN", true),
            (token(), 404, "", false),
            (read(), 403, "MANIFEST_UNKNOWN", true),
            (read(), 401, "NAME_UNKNOWN", true),
            (read(), 403, "DENIED", false),
            (read(), 401, "UNAUTHORIZED", false),
            (read(), 403, "", false),
            (begin(), 403, "NAME_UNKNOWN", false),
            (read(), 500, "MANIFEST_UNKNOWN", false),
            (read(), 400, "NAME_UNKNOWN", false),
        ] {
            let refused = refused(task, status, &error(code, ""));
            assert_eq!(is_absent(&refused), expected, "{status} {code}");
        }
    }

    #[test]
    fn tags_that_may_not_move_are_told_in_many_ways() {
        let push = |name: &str| Task::PushManifest {
            repository: "reg.lan/a".parse().unwrap(),
            name: match name.parse::<Digest>() {
                Ok(digest) => Selector::Digest(digest),
                Err(_) => Selector::Tag(name.parse().unwrap()),
            },
            index: false,
        };
        let digest = Digest::of(b"x").to_string();
        for (name, status, code, message, expected) in [
            ("v1", 400, "ImageTagAlreadyExistsException", "", true),
            (
                "v1",
                412,
                "PRECONDITION",
                "Failed to process request due to 'a:v1' configured as immutable.",
                true,
            ),
            ("v1", 409, "TAG_IMMUTABLE", "", true),
            ("v1", 403, "DENIED", "not allowed", false),
            ("v1", 500, "TAG_IMMUTABLE", "", false),
            (digest.as_str(), 409, "TAG_IMMUTABLE", "", false),
        ] {
            let refused = refused(push(name), status, &error(code, message));
            assert_eq!(is_immutable(&refused), expected, "{status} {code}");
        }
    }
}

//! What was found in image set files, as messages; `validate` needs these without a daemon too.

use crate::{
    grpc::v1,
    model::imageset::{FoundSet, Problem, Severity},
};

/// Returns an image set that was found.
pub fn image_set(found: &FoundSet) -> v1::ImageSet {
    v1::ImageSet {
        name: found.name.to_string(),
        file: found.file.clone(),
        valid: !found.problems.iter().any(|p| p.severity == Severity::Error),
    }
}

/// Returns a problem of a file.
pub fn problem(problem: &Problem) -> v1::Problem {
    let severity = match problem.severity {
        Severity::Error => v1::Severity::Error,
        Severity::Warning => v1::Severity::Warning,
    };
    v1::Problem {
        severity: severity.into(),
        file: problem.file.clone(),
        line: problem.line,
        column: problem.column,
        path: problem.path.clone(),
        message: problem.message.clone(),
        hint: problem.hint.clone(),
    }
}

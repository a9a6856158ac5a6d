//! What was found in image set files, as messages; `validate` needs these without a daemon too.

use crate::{
    grpc::v1,
    model::imageset::{FoundSet, Problem, Severity},
    reconcile::Validated,
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

/// Returns what validation found.
pub fn validated(validated: &Validated) -> v1::ValidateImageSetsResponse {
    v1::ValidateImageSetsResponse {
        valid: validated.is_valid(),
        image_sets: validated.image_sets.iter().map(image_set).collect(),
        problems: validated.problems.iter().map(problem).collect(),
    }
}

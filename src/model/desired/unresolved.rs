//! What cannot be mirrored now, and why.

use serde::{Deserialize, Serialize};

use crate::model::facts::{Cause, Failure};

/// An entry of an image set that cannot be mirrored now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unresolved {
    /// The entry: a channel, a release, an image.
    pub subject: String,
    /// One sentence: what is in the way, and what to do.
    pub reason: String,
    /// Whether it may pass by itself.
    pub transient: bool,
    /// What stands in the way.
    #[serde(default)]
    pub cause: Cause,
}

impl Unresolved {
    /// Returns the entry that a failure stalls.
    pub fn since(subject: impl Into<String>, failure: &Failure) -> Self {
        Unresolved {
            subject: subject.into(),
            reason: failure.reason.clone(),
            transient: failure.transient,
            cause: failure.cause,
        }
    }

    /// Whether something of a unit is in the way: the unit itself, or one of its images.
    pub fn stalls(&self, unit: &str) -> bool {
        self.subject
            .strip_prefix(unit)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(", "))
    }
}

//! What a check of the mirror is asked for, and what it tells.

use jiff::Timestamp;

use crate::model::{
    drift::{Depth, Lost},
    imageset::SetName,
    record::RunRecord,
};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct VerifyOrder {
    /// The image sets; everything that is believed of the mirror where none is named.
    pub sets: Vec<String>,
    /// How closely.
    pub depth: Depth,
    /// Whether what is lost is copied again.
    pub repair: bool,
}

/// What happens in a check.
#[derive(Debug, Clone)]
pub enum VerifyEvent {
    /// How far it is.
    Progress(VerifyProgress),
    /// Something is lost.
    Found(Finding),
    /// An image set is being repaired, or was, or cannot be.
    Repair(Repair),
    /// It is over; always last.
    Finished(Box<Verification>),
}

/// How far a check is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Things that were looked at.
    pub checked: u64,
    /// Things to look at.
    pub total: u64,
    /// Those of them that are lost.
    pub lost: u64,
    /// Those of which the mirror did not say.
    pub unknown: u64,
    /// Bytes of blobs that were read.
    pub bytes_read: u64,
}

/// Something that the mirror lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub lost: Lost,
    /// The images that need it, as their places in the mirror; the first 100 of them.
    pub images: Vec<String>,
    /// Their image sets.
    pub sets: Vec<SetName>,
}

/// How an image set is repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The image set.
    pub set: SetName,
    /// The run that copies again what is lost, where there is one.
    pub run: Option<RunRecord>,
    /// Why there is none, in a sentence.
    pub message: String,
}

impl Repair {
    pub(super) fn refused(set: &SetName, why: impl Into<String>) -> Self {
        Repair {
            set: set.clone(),
            run: None,
            message: why.into(),
        }
    }
}

/// What a check came to.
#[derive(Debug, Clone)]
pub struct Verification {
    /// How closely the mirror was looked at.
    pub depth: Depth,
    /// The image sets that were asked for, all where none was named.
    pub sets: Vec<SetName>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Manifests that were looked at.
    pub manifests: u64,
    /// Blobs that were looked at.
    pub blobs: u64,
    /// What it came to in numbers.
    pub progress: VerifyProgress,
    /// What is lost, the first 1000 things.
    pub found: Vec<Finding>,
    /// Why the mirror did not say, of the first thing.
    pub unknown_reason: String,
    /// How image sets were repaired.
    pub repairs: Vec<Repair>,
}

//! What stood in the way of an image: whether it is tried again, and how that is told.

use std::time::Duration;

use super::Failed;
use crate::{
    model::{plan::Step, sentence},
    registry,
};

/// Why an image could not be brought into its place, all of it.
pub(super) struct Setback {
    pub(super) error: registry::Error,
    /// Whether the image is there, and only something that belongs to it is not.
    pub(super) tagged: bool,
}

impl From<registry::Error> for Setback {
    fn from(error: registry::Error) -> Self {
        Setback {
            error,
            tagged: false,
        }
    }
}

/// Says why an image failed, and what to do where the registry's own words leave that open.
pub(super) fn told(error: &registry::Error, step: &Step) -> String {
    let cause = sentence(error);
    if step.image.platforms.is_empty() || !error.is_sparse_index_refusal() {
        return cause;
    }
    format!(
        "{cause}; `platforms` leaves children of this index out, and the mirror takes an index only with all of them: allow it there \
         (Distribution v3: `validation.manifests.indexes.platforms: none`; Quay: `FEATURE_SPARSE_INDEX: true`; Distribution 2.8 \
         cannot), or remove `platforms` to mirror the image whole"
    )
}

pub(super) fn stopped(attempts: u32) -> Failed {
    Failed {
        cause: "not copied since the run was stopped".into(),
        attempts,
        because_of: vec![],
        stopped: true,
    }
}

/// The longest that an image waits for a registry that asks for time; what asks for more is left for another run.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn stuck(limit: Duration, attempts: u32) -> Failed {
    Failed {
        cause: format!(
            "given up since nothing moved in the whole run for {} seconds; this is a fault of imagesetd or of a registry: what was on \
             its way is in the log, and another run goes on from here",
            limit.as_secs()
        ),
        attempts,
        because_of: vec![],
        stopped: false,
    }
}

/// Waits before another try: a second, then twice as long each time up to half a minute, with some jitter.
pub(super) async fn pause(attempt: u32) {
    let base = 1000u64 << (attempt - 1).min(5);
    let millis = base.min(30_000) + fastrand::u64(0..500);
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

//! Keeping the state small.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Handle, Inner};
use crate::model::image::Digest;

/// How often the state is looked after while nothing else does, as a run does at its end.
const EVERY: Duration = Duration::from_secs(24 * 3600);

impl Handle {
    /// Looks after the state once a day: plans that nobody applies leave behind what was read for them.
    pub(super) async fn keep_tidy(self) {
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => self.inner.tidy().await,
            }
        }
    }
}

impl Inner {
    /// Lets go of what the state holds and nothing needs any longer.
    pub(super) async fn tidy(self: &Arc<Self>) {
        let inner = self.clone();
        let tidied = self.on_store(move |store| {
            inner.catalogs.tidy();
            store.tidy(Timestamp::now(), || inner.needed())
        });
        match tidied.await {
            Ok(0) => {}
            Ok(facts) => tracing::debug!(facts, "let go of what nothing needs any longer"),
            Err(error) => tracing::warn!(%error, "the state could not be looked through"),
        }
    }

    /// The manifests that the mirror holds, and those that image sets stand for now.
    fn needed(&self) -> HashSet<Digest> {
        let mut needed: HashSet<Digest> = self.mirrored().manifests().cloned().collect();
        for set in self.state().sets.values() {
            let resolved = set.resolved.iter();
            let images = resolved.flat_map(|resolved| &resolved.desired.images);
            needed.extend(images.map(|wanted| wanted.digest.clone()));
        }
        needed
    }
}

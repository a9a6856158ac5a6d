//! What an index is made of: brought before it, unless it is in its place already.

use std::{collections::HashSet, sync::MutexGuard};

use super::Run;
use crate::{
    model::{
        image::{Digest, Repository},
        manifest::Manifest,
    },
    registry::{self, Selector},
};

impl Run {
    /// Brings a child of an index into its place, by digest.
    pub(super) async fn child(
        &self,
        source: &Repository,
        target: &Repository,
        digest: &Digest,
        depth: usize,
    ) -> Result<(), registry::Error> {
        let place = self.place_of(target, digest);
        let mut done = place.lock().await;
        if *done || self.is_held(target, digest) {
            return Ok(());
        }
        let manifest = self.manifest(source, digest).await?;
        if depth < 4 {
            for grandchild in manifest.children(&[]) {
                Box::pin(self.child(source, target, &grandchild.digest, depth + 1)).await?;
            }
        }
        self.manifest_with_blobs(
            source,
            target,
            &manifest,
            Selector::Digest(digest.clone()),
            true,
        )
        .await?;
        *done = true;
        Ok(())
    }

    fn is_held(&self, target: &Repository, digest: &Digest) -> bool {
        let believed = self.believed();
        !believed.is_empty() && believed.contains(&(target.clone(), digest.clone()))
    }

    fn believed(&self) -> MutexGuard<'_, HashSet<(Repository, Digest)>> {
        let children = self.children.lock();
        children.unwrap_or_else(|broken| broken.into_inner())
    }

    /// Drops what was believed of the children for lack of which an index was refused, and returns them: those that the mirror names,
    /// or all, where it only says that the index is invalid.
    pub(super) fn lost_children(
        &self,
        target: &Repository,
        index: &Manifest,
        error: &registry::Error,
    ) -> Vec<Digest> {
        if !error.is_sparse_index_refusal() {
            return Vec::new();
        }
        let missing = error.missing_blobs();
        let mut held = self.believed();
        let lost = index.children(&[]).map(|child| child.digest.clone());
        lost.filter(|digest| missing.is_empty() || missing.contains(digest))
            .filter(|digest| held.remove(&(target.clone(), digest.clone())))
            .collect()
    }
}

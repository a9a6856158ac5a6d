//! What an index is made of: brought before it, unless it is in its place already.

use std::{collections::HashSet, sync::MutexGuard};

use super::{Event, Run};
use crate::{
    model::{
        image::{Digest, Repository},
        manifest::Manifest,
        mirrored::Landed,
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
        let child = (target.clone(), digest.clone());
        self.children.contains(&child) && !self.doubted().contains(&child)
    }

    fn doubted(&self) -> MutexGuard<'_, HashSet<(Repository, Digest)>> {
        let doubted = self.doubted.lock();
        doubted.unwrap_or_else(|broken| broken.into_inner())
    }

    /// Returns the children that were believed in and for lack of which an index was refused: those that the mirror names, or all, where
    /// it only says that the index is invalid; without those that were `recalled` for it already.
    pub(super) fn lost(
        &self,
        target: &Repository,
        index: &Manifest,
        error: &registry::Error,
        recalled: &HashSet<Digest>,
    ) -> Vec<Digest> {
        if !error.is_sparse_index_refusal() {
            return vec![];
        }
        let missing = error.missing_blobs();
        let lost = index.children(&[]).map(|child| child.digest.clone());
        lost.filter(|digest| missing.is_empty() || missing.contains(digest))
            .filter(|digest| !recalled.contains(digest))
            .filter(|digest| self.children.contains(&(target.clone(), digest.clone())))
            .collect()
    }

    /// Brings children that were believed in and are lost; another index may be bringing them already.
    pub(super) async fn recall(
        &self,
        source: &Repository,
        target: &Repository,
        lost: &[Digest],
    ) -> Result<(), registry::Error> {
        for digest in lost {
            let child = (target.clone(), digest.clone());
            let news = self.doubted().insert(child.clone());
            if news {
                let gone = Landed::Gone(child.0, child.1);
                self.report.say(Event::Landed(gone)).await;
            }
            Box::pin(self.child(source, target, digest, 1)).await?;
        }
        Ok(())
    }
}

//! What nodes do with an image reference, by the documents that are published.

use super::{Error, Explained, Handle};
use crate::{
    cluster::{node::Node, pull::Attempt},
    model::{image::Reference, mirrored::Mirrored},
};

impl Handle {
    /// Says what the nodes of a cluster that has the published documents try for an image, and what of it the mirror has.
    pub async fn explain(&self, reference: &str) -> Result<Explained, Error> {
        let reference: Reference = reference
            .parse()
            .map_err(|e| Error::Unfit(format!("{e}")))?;
        let documents = self.inner.published().await?;
        let node = Node::of(&documents.documents).map_err(|refusals| {
            let sentences: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            Error::RulesRefused(sentences.join("; "))
        })?;
        let resolution = node.resolve(&reference);
        let mirrored = self.inner.mirrored();
        let present = resolution
            .attempts
            .iter()
            .map(|attempt| self.present(&mirrored, attempt))
            .collect();
        Ok(Explained {
            reference,
            resolution,
            present,
        })
    }

    /// Whether a mirror of ours has what is tried; nothing of places that are not ours.
    fn present(&self, mirrored: &Mirrored, attempt: &Attempt) -> Option<bool> {
        let reference = &attempt.reference;
        let repository = &reference.repository;
        let settings = &self.inner.settings;
        let others = settings.image_sets.iter().filter_map(|o| o.target.as_ref());
        let mut targets = others.chain(std::iter::once(&settings.defaults.target));
        let ours = targets.any(|target| target.registry() == repository.registry());
        let held = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => mirrored.manifest(repository, digest).is_some(),
            (None, Some(tag)) => mirrored.tag(repository, tag).is_some(),
            // A node asks for `latest` then.
            (None, None) => "latest"
                .parse()
                .is_ok_and(|tag| mirrored.tag(repository, &tag).is_some()),
        };
        (ours && attempt.mirror.is_some()).then_some(held)
    }
}

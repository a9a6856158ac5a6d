//! What nodes do with an image reference, and what the installer needs, by the documents that are published.

use super::{Error, Explained, Handle};
use crate::{
    cluster::{
        install_config::{self, Wish, Written},
        node::Node,
        objects::{File, Objects},
        operator::Refusal,
        pull::Attempt,
    },
    model::{image::Reference, mirrored::Mirrored},
};

impl Handle {
    /// Says what the nodes of a cluster that has the published documents try for an image, and what of it the mirror has.
    pub async fn explain(&self, reference: &str) -> Result<Explained, Error> {
        let reference: Reference = reference
            .parse()
            .map_err(|e| Error::Unfit(format!("{e}")))?;
        let documents = self.inner.published().await?;
        let node = Node::of(&documents.documents).map_err(|refusals| rules_refused(&refusals))?;
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

    /// Writes what install-config.yaml needs, of the published digest rules: a fragment, or into the file that `base` is.
    pub async fn install_config(
        &self,
        version: Option<&str>,
        base: &str,
        trust_bundle: &str,
    ) -> Result<Written, Error> {
        let version = version.map(str::parse).transpose().map_err(Error::Unfit)?;
        let published = self.inner.published().await?;
        let files: Vec<File> = published.documents.iter().map(File::from).collect();
        let (sources, mut notes) =
            install_config::sources(&Objects::read(&files)).map_err(|r| rules_refused(&r))?;
        if sources.is_empty() {
            let why = "there are no published digest rules: nothing has landed yet";
            return Err(Error::NothingPublished(why.to_owned()));
        }
        let wish = Wish {
            version,
            sources,
            trust_bundle: trust_bundle.to_owned(),
            pull_secret: String::new(),
        };
        let written = match base {
            "" => wish.fragment().map_err(Error::Unfit)?,
            base => wish
                .into_file("install-config.yaml", base.as_bytes())
                .map_err(|problem| Error::Unfit(problem.message))?,
        };
        notes.extend(written.notes);
        Ok(Written {
            text: written.text,
            notes,
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

fn rules_refused(refusals: &[Refusal]) -> Error {
    let sentences: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    Error::RulesRefused(sentences.join("; "))
}

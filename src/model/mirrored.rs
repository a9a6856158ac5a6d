//! What the mirror is known to hold: a fold over the facts that copying reports.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::model::image::{Digest, Registry, Repository, Tag};

/// One thing that is in the mirror now, or is not any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Landed {
    /// A repository has a blob.
    Blob(Repository, Digest),
    /// A repository has a manifest and all it names; of a sparse index not all children, and then `complete` is false.
    Manifest {
        /// The repository.
        repository: Repository,
        /// The manifest.
        digest: Digest,
        /// Whether every child of it is there too.
        complete: bool,
    },
    /// A tag names a manifest.
    Tag(Repository, Tag, Digest),
    /// A repository turned out not to have a blob or manifest that was believed to be there.
    Gone(Repository, Digest),
}

/// Where in the history of a state something was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Drawn when the state was created: two states of different lineage say nothing of one another.
    pub lineage: String,
    /// How many facts the state had taken in.
    pub serial: u64,
}

/// Everything the mirror is known to hold. What is not in here may be there all the same: ask.
#[derive(Debug, Default)]
pub struct Mirrored {
    names: Names,
    blobs: HashMap<Digest, BTreeSet<u32>>,
    manifests: HashMap<(u32, Digest), bool>,
    /// By repository, so that what goes away is looked for in its own repository only.
    tags: HashMap<u32, HashMap<Tag, Digest>>,
    seen: u64,
}

/// Repositories by number, so that a hundred thousand images cost a number each, not a name.
#[derive(Debug, Default)]
struct Names {
    by_number: Vec<Repository>,
    numbers: HashMap<Repository, u32>,
}

impl Names {
    fn number(&mut self, repository: &Repository) -> u32 {
        if let Some(&number) = self.numbers.get(repository) {
            return number;
        }
        let number = self.by_number.len() as u32;
        self.by_number.push(repository.clone());
        self.numbers.insert(repository.clone(), number);
        number
    }
}

impl Mirrored {
    /// Takes in one fact; whether it was news.
    pub fn apply(&mut self, landed: &Landed) -> bool {
        let news = match landed {
            Landed::Blob(repository, digest) => {
                let number = self.names.number(repository);
                self.blobs.entry(digest.clone()).or_default().insert(number)
            }
            Landed::Manifest {
                repository,
                digest,
                complete,
            } => {
                let key = (self.names.number(repository), digest.clone());
                let known = self.manifests.get(&key).copied();
                let complete = *complete || known == Some(true);
                self.manifests.insert(key, complete);
                known != Some(complete)
            }
            Landed::Tag(repository, tag, digest) => {
                let tags = self.tags.entry(self.names.number(repository)).or_default();
                tags.insert(tag.clone(), digest.clone()).as_ref() != Some(digest)
            }
            Landed::Gone(repository, digest) => self.forget(repository, digest),
        };
        self.seen += u64::from(news);
        news
    }

    fn forget(&mut self, repository: &Repository, digest: &Digest) -> bool {
        let number = self.names.number(repository);
        let blob = self
            .blobs
            .get_mut(digest)
            .is_some_and(|held| held.remove(&number));
        let manifest = self.manifests.remove(&(number, digest.clone())).is_some();
        if manifest && let Some(tags) = self.tags.get_mut(&number) {
            tags.retain(|_, named| named != digest);
        }
        blob || manifest
    }

    /// How many facts were news: the serial of a state that began empty.
    pub fn serial(&self) -> u64 {
        self.seen
    }

    /// Continues counting from a state's serial, after its facts were taken in.
    pub fn resume(&mut self, serial: u64) {
        self.seen = serial;
    }

    /// What a tag of the mirror names, as far as is known.
    pub fn tag(&self, repository: &Repository, tag: &Tag) -> Option<&Digest> {
        let number = *self.names.numbers.get(repository)?;
        self.tags.get(&number)?.get(tag)
    }

    /// Whether a repository is known to have a manifest: `Some(true)` with all its children.
    pub fn manifest(&self, repository: &Repository, digest: &Digest) -> Option<bool> {
        let number = *self.names.numbers.get(repository)?;
        self.manifests.get(&(number, digest.clone())).copied()
    }

    /// Whether a repository is known to have a blob.
    pub fn blob(&self, repository: &Repository, digest: &Digest) -> bool {
        let number = self.names.numbers.get(repository);
        number.is_some_and(|n| self.blobs.get(digest).is_some_and(|held| held.contains(n)))
    }

    /// Returns the repositories of the same registry as `near` that are known to have a blob, `near` itself left out.
    pub fn donors<'a>(
        &'a self,
        near: &'a Repository,
        digest: &Digest,
    ) -> impl Iterator<Item = &'a Repository> {
        let held = self.blobs.get(digest);
        held.into_iter()
            .flatten()
            .map(|&n| &self.names.by_number[n as usize])
            .filter(move |r| r.registry() == near.registry() && *r != near)
    }

    /// Whether a repository of a registry is known to have a blob.
    pub fn holds_blob(&self, registry: &Registry, digest: &Digest) -> bool {
        let held = self.blobs.get(digest);
        let mut repositories =
            (held.into_iter().flatten()).map(|&n| &self.names.by_number[n as usize]);
        repositories.any(|repository| repository.registry() == registry)
    }

    /// Whether anything at all is known of a repository.
    pub fn knows(&self, repository: &Repository) -> bool {
        self.names.numbers.contains_key(repository)
    }

    /// Returns every tag that is known, for counting.
    pub fn tags(&self) -> impl Iterator<Item = (&Repository, &Tag, &Digest)> {
        self.tags.iter().flat_map(move |(n, tags)| {
            let repository = &self.names.by_number[*n as usize];
            tags.iter()
                .map(move |(tag, digest)| (repository, tag, digest))
        })
    }

    /// Returns every manifest that is known, with its repository.
    pub fn placed_manifests(&self) -> impl Iterator<Item = (&Repository, &Digest)> {
        self.manifests
            .keys()
            .map(|(n, digest)| (&self.names.by_number[*n as usize], digest))
    }

    /// Returns every blob that is known, with each repository that has it.
    pub fn placed_blobs(&self) -> impl Iterator<Item = (&Repository, &Digest)> {
        self.blobs.iter().flat_map(move |(digest, held)| {
            held.iter()
                .map(move |n| (&self.names.by_number[*n as usize], digest))
        })
    }

    /// Returns every manifest that is known, once for each repository that has it.
    pub fn manifests(&self) -> impl Iterator<Item = &Digest> {
        self.manifests.keys().map(|(_, digest)| digest)
    }

    /// Returns the repositories that hold anything.
    pub fn repositories(&self) -> HashSet<&Repository> {
        self.manifests
            .keys()
            .map(|(n, _)| &self.names.by_number[*n as usize])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(path: &str) -> Repository {
        format!("m.lan/{path}").parse().unwrap()
    }

    #[test]
    fn news_is_counted_once() {
        let mut held = Mirrored::default();
        let digest = Digest::of(b"x");
        let blob = Landed::Blob(repository("a"), digest.clone());
        assert!(held.apply(&blob));
        assert!(!held.apply(&blob));
        assert_eq!(held.serial(), 1);
        assert!(held.blob(&repository("a"), &digest));
        assert!(!held.blob(&repository("b"), &digest));
        assert_eq!(
            held.donors(&repository("b"), &digest).collect::<Vec<_>>(),
            [&repository("a")]
        );
        assert_eq!(held.donors(&repository("a"), &digest).count(), 0);
        assert_eq!(
            held.donors(&"other.lan/a".parse().unwrap(), &digest)
                .count(),
            0
        );
    }

    #[test]
    fn sparse_index_becomes_complete_and_stays_so() {
        let mut held = Mirrored::default();
        let digest = Digest::of(b"x");
        let manifest = |complete| Landed::Manifest {
            repository: repository("a"),
            digest: digest.clone(),
            complete,
        };
        assert!(held.apply(&manifest(false)));
        assert_eq!(held.manifest(&repository("a"), &digest), Some(false));
        assert!(held.apply(&manifest(true)));
        assert!(!held.apply(&manifest(false)));
        assert_eq!(held.manifest(&repository("a"), &digest), Some(true));
    }

    #[test]
    fn what_is_gone_takes_its_tags_along() {
        let mut held = Mirrored::default();
        let digest = Digest::of(b"x");
        let tag: Tag = "v1".parse().unwrap();
        held.apply(&Landed::Manifest {
            repository: repository("a"),
            digest: digest.clone(),
            complete: true,
        });
        held.apply(&Landed::Tag(repository("a"), tag.clone(), digest.clone()));
        assert!(held.apply(&Landed::Gone(repository("a"), digest.clone())));
        assert_eq!(held.tag(&repository("a"), &tag), None);
        assert!(!held.apply(&Landed::Gone(repository("a"), digest)));
    }
}

//! Looks for what belongs to images: one list of a repository's tags answers for all its images, where that is the cheaper way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{StreamExt, stream};

use super::{Keeper, Resolver, failure};
use crate::{
    model::{
        accessory::{self, Accessory, Attached, Kind, MAX_ACCESSORIES, MAX_DEPTH, Missed, Scope},
        facts::{Cause, Fact, Failure},
        image::{Digest, Repository, Tag},
        manifest::{DOCKER_LIST, Descriptor, Manifest, OCI_INDEX},
    },
    registry::{Client, Error, Selector},
};

/// What the last look around images found.
pub type Before = BTreeMap<(Digest, Scope), Attached>;

/// An image, and what is looked for around it.
type Image = (Digest, Scope);

/// How deep indexes are followed to their children.
const MAX_NESTING: usize = 4;

impl Resolver {
    /// Looks around images of one repository. The manifests of what it finds, and of the images, come along as facts.
    pub(super) async fn attached(
        &self,
        repository: Repository,
        images: BTreeSet<Image>,
        before: Before,
    ) -> Vec<Fact> {
        let look = Look {
            source: &self.source,
            keeper: self.keeper.as_ref(),
            repository: &repository,
            width: self.width,
            down: Mutex::default(),
        };
        look.around(images, &before).await
    }
}

/// What the look around one manifest came to.
#[derive(Default)]
struct Seen {
    found: Vec<(Accessory, Option<Arc<Manifest>>)>,
    missed: Vec<Missed>,
}

impl Seen {
    fn missed(&mut self, subject: &Digest, kind: Kind, failure: Failure) {
        self.missed.push(Missed {
            subject: subject.clone(),
            kind,
            failure,
        });
    }
}

/// Which tags a repository has.
enum Names {
    /// These and no others.
    Whole(BTreeSet<Tag>),
    /// Each has to be asked for.
    Unknown,
}

impl Names {
    fn may_have(&self, tag: &Tag) -> bool {
        match self {
            Names::Whole(tags) => tags.contains(tag),
            Names::Unknown => true,
        }
    }
}

/// One look around images of a repository.
struct Look<'a> {
    source: &'a Client,
    keeper: &'a dyn Keeper,
    repository: &'a Repository,
    width: usize,
    /// How upstream failed in passing: whoever is down is not asked again for each image.
    down: Mutex<Option<Failure>>,
}

impl Look<'_> {
    /// Asks upstream, unless it is down.
    async fn ask<T>(&self, question: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        if let Some(failure) = self.down().clone() {
            return Err(failure);
        }
        question.await.map_err(|error| {
            let failure = failure(&error);
            if failure.transient {
                *self.down() = Some(failure.clone());
            }
            failure
        })
    }

    fn down(&self) -> MutexGuard<'_, Option<Failure>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn around(&self, images: BTreeSet<Image>, before: &Before) -> Vec<Fact> {
        let mut facts = Vec::new();
        let subjects: Vec<_> = images
            .into_iter()
            .map(|image| async move {
                let subjects = self.subjects(&image.0).await;
                (image, subjects)
            })
            .collect();
        let subjects: Vec<_> = stream::iter(subjects).buffered(self.width).collect().await;
        let mut results: BTreeMap<Image, Attached> = BTreeMap::new();
        let mut level: Vec<(Image, Digest)> = Vec::new();
        for (image, found) in subjects {
            let (subjects, manifests, failed) = found;
            facts.extend(manifests.into_iter().map(fact));
            let result = results.entry(image.clone()).or_default();
            result.missed.extend(failed);
            level.extend(subjects.into_iter().map(|subject| (image.clone(), subject)));
        }
        let names = self.names(&level).await;
        for depth in 0..MAX_DEPTH {
            let looks: Vec<_> = level
                .into_iter()
                .map(|(image, subject)| {
                    let names = &names;
                    async move {
                        let known = before.get(&image);
                        let seen = self.subject(&subject, image.1, names, known).await;
                        (image, seen)
                    }
                })
                .collect();
            let looks: Vec<_> = stream::iter(looks).buffered(self.width).collect().await;
            level = Vec::new();
            for (image, seen) in looks {
                let result = results.entry(image.clone()).or_default();
                result.missed.extend(seen.missed);
                for (accessory, manifest) in seen.found {
                    facts.extend(manifest.map(fact));
                    if result.found.len() == MAX_ACCESSORIES {
                        result.missed.push(too_many(&image.0));
                        break;
                    }
                    if accessory.kind == Kind::Referrer && depth + 1 < MAX_DEPTH {
                        level.push((image.clone(), accessory.digest.clone()));
                    }
                    result.found.push(accessory);
                }
            }
        }
        facts.extend(results.into_iter().map(|(image, mut attached)| {
            attached.missed.sort();
            attached.missed.dedup();
            let attached = attached.or_before(before.get(&image));
            Fact::Attached(self.repository.clone(), image, Arc::new(attached))
        }));
        facts
    }

    /// What may have been signed of an image: itself, and for an index its children, which cosign signs with `--recursive`.
    async fn subjects(&self, image: &Digest) -> (Vec<Digest>, Vec<Arc<Manifest>>, Vec<Missed>) {
        let (mut subjects, mut read, mut missed) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        let mut left = vec![(image.clone(), 0)];
        while let Some((digest, depth)) = left.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            subjects.push(digest.clone());
            let manifest = match self.keeper.manifest(&digest) {
                Some(manifest) => manifest,
                None => match self.ask(self.manifest(&digest)).await {
                    Ok(manifest) => {
                        read.push(manifest.clone());
                        manifest
                    }
                    Err(failure) => {
                        missed.push(Missed {
                            subject: digest,
                            kind: Kind::Referrer,
                            failure,
                        });
                        continue;
                    }
                },
            };
            for child in manifest.children(&[]) {
                let nests = [OCI_INDEX, DOCKER_LIST].contains(&child.media_type.as_str());
                if nests && depth < MAX_NESTING {
                    left.push((child.digest.clone(), depth + 1));
                } else if seen.insert(child.digest.clone()) {
                    subjects.push(child.digest.clone());
                }
            }
        }
        (subjects, read, missed)
    }

    async fn manifest(&self, digest: &Digest) -> Result<Arc<Manifest>, Error> {
        let name = Selector::Digest(digest.clone());
        let manifest = self.source.manifest(self.repository, &name).await?;
        Ok(Arc::new(manifest))
    }

    async fn manifest_if_any(&self, digest: &Digest) -> Result<Option<Arc<Manifest>>, Error> {
        match self.manifest(digest).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the repository's tags, unless asking for each that may be there is cheaper, or turns out to be: some repositories have
    /// hundreds of thousands.
    async fn names(&self, subjects: &[(Image, Digest)]) -> Names {
        let candidates = subjects.iter().map(|((_, scope), _)| scope.tagged().len());
        let candidates: usize = candidates.sum();
        if candidates < 2 {
            return Names::Unknown;
        }
        match self.source.tags_within(self.repository, candidates).await {
            Ok(Some(list)) if list.whole => Names::Whole(list.tags.into_iter().collect()),
            // More tags than it is worth, or a registry that does not list them.
            Ok(_) => Names::Unknown,
            Err(error) => {
                tracing::debug!(%error, "each signature is asked for by name");
                Names::Unknown
            }
        }
    }

    /// Looks around one manifest.
    async fn subject(
        &self,
        subject: &Digest,
        scope: Scope,
        names: &Names,
        before: Option<&Attached>,
    ) -> Seen {
        let mut seen = Seen::default();
        for &kind in scope.tagged() {
            let tag = accessory::tag(subject, kind).filter(|tag| names.may_have(tag));
            let Some(tag) = tag else {
                continue;
            };
            let known = before.and_then(|b| {
                let known = b.found.iter();
                let mut known = known.filter(|a| a.subject == *subject && a.kind == kind);
                Some(known.next()?.digest.clone())
            });
            match self.ask(self.tagged(&tag, known)).await {
                Ok(Some((digest, manifest))) => {
                    let accessory = Accessory {
                        subject: subject.clone(),
                        kind,
                        digest,
                    };
                    seen.found.push((accessory, manifest));
                }
                Ok(None) => {}
                Err(failure) => seen.missed(subject, kind, failure),
            }
        }
        if scope == Scope::All {
            self.referrers(subject, names, &mut seen).await;
        }
        seen
    }

    /// What a tag names. One that was read before is only asked whether it moved.
    async fn tagged(
        &self,
        tag: &Tag,
        known: Option<Digest>,
    ) -> Result<Option<(Digest, Option<Arc<Manifest>>)>, Error> {
        let name = Selector::Tag(tag.clone());
        if let Some(known) = known {
            let head = self.source.head(self.repository, &name).await?;
            match head {
                None => return Ok(None),
                Some(head) if head.digest == known => return Ok(Some((known, None))),
                Some(_) => {}
            }
        }
        match self.source.manifest(self.repository, &name).await {
            Ok(manifest) => Ok(Some((manifest.digest.clone(), Some(Arc::new(manifest))))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn referrers(&self, subject: &Digest, names: &Names, seen: &mut Seen) {
        let listed = match self.ask(self.listed(subject, names)).await {
            Ok(listed) => listed,
            Err(failure) => return seen.missed(subject, Kind::Referrer, failure),
        };
        let mut digests = BTreeSet::new();
        for entry in listed {
            if !digests.insert(entry.digest.clone()) || digests.len() > MAX_ACCESSORIES {
                continue;
            }
            match self.referrer(subject, &entry).await {
                Ok(Some((digest, manifest))) => {
                    let accessory = Accessory {
                        subject: subject.clone(),
                        kind: Kind::Referrer,
                        digest,
                    };
                    seen.found.push((accessory, manifest));
                }
                Ok(None) => {}
                Err(failure) => seen.missed(subject, Kind::Referrer, failure),
            }
        }
        let order = |a: &(Accessory, _), b: &(Accessory, _)| a.0.cmp(&b.0);
        seen.found.sort_by(order);
    }

    /// What is said to refer to a manifest, by the registry or by the list under the manifest's tag.
    async fn listed(&self, subject: &Digest, names: &Names) -> Result<Vec<Descriptor>, Error> {
        if let Some(listed) = self.source.referrers(self.repository, subject).await? {
            return Ok(listed);
        }
        let tag = accessory::list_tag(subject).filter(|tag| names.may_have(tag));
        let Some(tag) = tag else {
            return Ok(Vec::new());
        };
        let name = Selector::Tag(tag);
        match self.source.manifest(self.repository, &name).await {
            Ok(list) => {
                let listed = accessory::listed(&list, subject);
                Ok(listed.into_iter().cloned().collect())
            }
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Reads what is said to refer to `subject`; nothing where it does not, or is gone.
    async fn referrer(
        &self,
        subject: &Digest,
        entry: &Descriptor,
    ) -> Result<Option<(Digest, Option<Arc<Manifest>>)>, Failure> {
        if !accessory::is_mirrored(&entry.media_type) {
            return Err(Failure {
                reason: format!(
                    "{}@{} refers to it and is of media type `{}`, which registries no longer take",
                    self.repository,
                    entry.digest,
                    entry.media_type.chars().take(120).collect::<String>()
                ),
                transient: false,
                cause: Cause::Other,
            });
        }
        let (manifest, read) = match self.keeper.manifest(&entry.digest) {
            Some(manifest) => (manifest, false),
            None => match self.ask(self.manifest_if_any(&entry.digest)).await? {
                Some(manifest) => (manifest, true),
                None => return Ok(None),
            },
        };
        let refers = accessory::subject(&manifest).as_ref() == Some(subject);
        let digest = manifest.digest.clone();
        Ok(refers.then(|| (digest, read.then_some(manifest))))
    }
}

fn fact(manifest: Arc<Manifest>) -> Fact {
    Fact::Manifest(manifest.digest.clone(), Ok(manifest))
}

fn too_many(image: &Digest) -> Missed {
    Missed {
        subject: image.clone(),
        kind: Kind::Referrer,
        failure: Failure {
            reason: format!(
                "more than {MAX_ACCESSORIES} signatures and referrers belong to {image}, of which the first come along"
            ),
            transient: false,
            cause: Cause::Other,
        },
    }
}

//! Asks the mirror what the store does not know of it, before a plan is made: a mirror that another tool filled is adopted.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use futures_util::{StreamExt, stream};

use super::Client;
use crate::{
    model::{
        accessory::{self, Accessory},
        desired::Wanted,
        image::{Digest, Registry, Repository, Tag},
        manifest::Manifest,
        mirrored::Landed,
    },
    registry::{Error, Selector},
};

/// What a look at the mirror came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surveyed {
    /// What is there.
    pub landed: Vec<Landed>,
    /// Repositories that do not exist, and so have nothing, not even a blob.
    pub empty: HashSet<Repository>,
}

/// The most pages of repositories that are read before images are looked for one by one.
const MAX_PAGES: usize = 100;

/// Looks for images that nothing is known of, and returns what is there. It reads, it writes nothing.
///
/// The mirror is asked which repositories it has, where it lets us: an empty one is known by one request. In those that are there it
/// is one look an image where the repository has tags, one look for all of a repository that has none; of an image that is wanted
/// for some platforms, one look a platform more. Of a whole index it is taken on trust that its children are there: registries
/// refuse an index without them unless told otherwise.
pub async fn survey(mirror: &Client, images: &[Wanted], width: usize) -> Result<Surveyed, Error> {
    let mut unknown: BTreeMap<&Repository, Vec<&Wanted>> = BTreeMap::new();
    for image in images {
        unknown.entry(&image.target).or_default().push(image);
    }
    let empty = absent(mirror, unknown.keys().copied().collect()).await;
    unknown.retain(|repository, _| !empty.contains(*repository));
    let landed = looked_at(mirror, unknown, width).await?;
    Ok(Surveyed { landed, empty })
}

/// Returns which of these repositories a registry's own list does not have; none of them where there is no list to be had, or where
/// reading it would take longer than looking for each.
async fn absent(mirror: &Client, repositories: Vec<&Repository>) -> HashSet<Repository> {
    let mut by_registry: BTreeMap<&Registry, Vec<&Repository>> = BTreeMap::new();
    for repository in repositories {
        let group = by_registry.entry(repository.registry());
        group.or_default().push(repository);
    }
    let mut absent = HashSet::new();
    // One look tells as much of one repository as the list does.
    for wanted in by_registry.into_values().filter(|wanted| wanted.len() > 1) {
        let pages = wanted.len().min(MAX_PAGES);
        if let Some(found) = mirror.repositories(wanted[0], pages).await {
            let missing = wanted.into_iter().filter(|r| !found.contains(r.path()));
            absent.extend(missing.cloned());
        }
    }
    absent
}

async fn looked_at(
    mirror: &Client,
    unknown: BTreeMap<&Repository, Vec<&Wanted>>,
    width: usize,
) -> Result<Vec<Landed>, Error> {
    let looks: Vec<_> = unknown
        .into_iter()
        .map(|(repository, images)| candidates(mirror, repository, images))
        .collect();
    let candidates: Vec<_> = stream::iter(looks)
        .buffer_unordered(width.max(1))
        .collect()
        .await;
    let candidates: Vec<&Wanted> = answered(candidates)?.concat();
    let looks: Vec<_> = candidates
        .into_iter()
        .map(|image| look(mirror, image))
        .collect();
    let found: Vec<_> = stream::iter(looks)
        .buffer_unordered(width.max(1))
        .collect()
        .await;
    Ok(answered(found)?.concat())
}

/// The answers that came. A registry that knows who asks and yet refuses some repositories (Quay does so for one that does not
/// exist yet) says nothing of these; one that refuses all of them does not know who asks.
fn answered<T>(answers: Vec<Result<T, Error>>) -> Result<Vec<T>, Error> {
    let known = answers.iter().any(Result::is_ok);
    let told = answers.into_iter().filter(|answer| match answer {
        Err(error) if known && error.is_authentication() => {
            tracing::debug!(%error, "nothing is known of this part of the mirror");
            false
        }
        _ => true,
    });
    told.collect()
}

/// Leaves out the images whose tag a repository does not have, where one question answers for several of them.
async fn candidates<'a>(
    mirror: &Client,
    repository: &Repository,
    images: Vec<&'a Wanted>,
) -> Result<Vec<&'a Wanted>, Error> {
    if images.len() < 2 {
        return Ok(images);
    }
    let tags: BTreeSet<Tag> = match mirror.tags(repository).await {
        Ok(tags) => tags.unwrap_or_default().into_iter().collect(),
        // Some registries keep the list to themselves; then each image is asked for by name.
        Err(error) if !error.is_transient() && !error.is_authentication() => return Ok(images),
        Err(error) => return Err(error),
    };
    Ok(images
        .into_iter()
        .filter(|image| tags.contains(&image.tag))
        .collect())
}

/// Looks at one image. Its manifest is read rather than only asked about: what it names lies in the same repository, and a plan
/// that knows of these blobs counts none of them again.
async fn look(mirror: &Client, image: &Wanted) -> Result<Vec<Landed>, Error> {
    let repository = &image.target;
    let tag = Selector::Tag(image.tag.clone());
    let Some(root) = read(mirror, repository, tag, &image.digest).await? else {
        return Ok(Vec::new());
    };
    let mut landed = Vec::new();
    if !image.platforms.is_empty() {
        for child in root.children(&image.platforms) {
            let name = Selector::Digest(child.digest.clone());
            if let Some(child) = read(mirror, repository, name, &child.digest).await? {
                landed.extend(landed_with(repository, &child, true));
            }
        }
    }
    let complete = image.platforms.is_empty() || !root.is_index();
    landed.extend(landed_with(repository, &root, complete));
    let digest = image.digest.clone();
    landed.push(Landed::Tag(repository.clone(), image.tag.clone(), digest));
    Ok(landed)
}

/// Reads a manifest; nothing where there is none, or another one, or something that cannot be what is wanted.
async fn read(
    mirror: &Client,
    repository: &Repository,
    name: Selector,
    digest: &Digest,
) -> Result<Option<Manifest>, Error> {
    let found = read_any(mirror, repository, name).await?;
    Ok(found.filter(|found| found.digest == *digest))
}

/// Reads a manifest, whichever it is.
async fn read_any(
    mirror: &Client,
    repository: &Repository,
    name: Selector,
) -> Result<Option<Manifest>, Error> {
    match mirror.manifest(repository, &name).await {
        Ok(manifest) => Ok(Some(manifest)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error @ (Error::Answer { .. } | Error::Manifest { .. })) if !error.is_transient() => {
            tracing::debug!(%error, "what the mirror has there is not what is wanted");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A manifest that is there, with the blobs without which no registry takes it.
fn landed_with(repository: &Repository, manifest: &Manifest, complete: bool) -> Vec<Landed> {
    let blobs = manifest
        .blobs()
        .map(|blob| Landed::Blob(repository.clone(), blob.digest.clone()));
    let manifest = Landed::Manifest {
        repository: repository.clone(),
        digest: manifest.digest.clone(),
        complete,
    };
    blobs.chain([manifest]).collect()
}

/// Looks for manifests by digest, and for the children of indexes, under names that need not be ours: what is there need not be
/// downloaded.
pub async fn survey_digests(
    mirror: &Client,
    places: Vec<(Repository, Digest)>,
    width: usize,
) -> Result<Vec<Landed>, Error> {
    let looks: Vec<_> = places
        .iter()
        .map(|(repository, digest)| whole(mirror, repository, digest))
        .collect();
    let found: Vec<_> = stream::iter(looks).buffered(width.max(1)).collect().await;
    Ok(answered(found)?.concat())
}

/// A manifest with all it names, as far as it is there.
async fn whole(
    mirror: &Client,
    repository: &Repository,
    digest: &Digest,
) -> Result<Vec<Landed>, Error> {
    let name = Selector::Digest(digest.clone());
    let Some(root) = read(mirror, repository, name, digest).await? else {
        return Ok(Vec::new());
    };
    let mut landed = Vec::new();
    let mut complete = true;
    for child in root.children(&[]) {
        let name = Selector::Digest(child.digest.clone());
        match read(mirror, repository, name, &child.digest).await? {
            Some(child) => {
                // Of an index in an index nothing is looked at.
                let whole = !child.is_index();
                complete &= whole;
                landed.extend(landed_with(repository, &child, whole));
            }
            None => complete = false,
        }
    }
    landed.extend(landed_with(repository, &root, complete));
    Ok(landed)
}

/// What the mirror has of signatures and referrers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SurveyedAttached {
    /// What is there.
    pub landed: Vec<Landed>,
    /// The manifests under cosign's tags, which may hold more than upstream's do, or something else.
    pub manifests: Vec<Arc<Manifest>>,
}

/// Looks for what belongs to images that the mirror has; of each repository's accessories it is not known whether they are there.
///
/// One look an accessory with a tag, one for all referrers of a manifest; one more for a repository where several are looked for.
pub async fn survey_attached(
    mirror: &Client,
    unknown: Vec<(Repository, Vec<Accessory>)>,
    width: usize,
) -> Result<SurveyedAttached, Error> {
    let mut repositories: BTreeMap<Repository, BTreeSet<Accessory>> = BTreeMap::new();
    for (repository, accessories) in unknown {
        repositories
            .entry(repository)
            .or_default()
            .extend(accessories);
    }
    let mut looks = Vec::new();
    for (repository, accessories) in &repositories {
        let tags = listed_tags(mirror, repository, accessories).await?;
        let mut subjects: BTreeMap<&Digest, BTreeSet<&Digest>> = BTreeMap::new();
        for accessory in accessories {
            match accessory.tag() {
                Some(tag) if tags.as_ref().is_none_or(|tags| tags.contains(&tag)) => {
                    looks.push((repository, Sought::Tag(tag)));
                }
                Some(_) => {}
                None => {
                    let referrers = subjects.entry(&accessory.subject).or_default();
                    referrers.insert(&accessory.digest);
                }
            }
        }
        let referrers = subjects
            .into_iter()
            .map(|(subject, referrers)| (repository, Sought::Referrers(subject, referrers)));
        looks.extend(referrers);
    }
    let looks: Vec<_> = looks
        .into_iter()
        .map(|(repository, sought)| seek(mirror, repository, sought))
        .collect();
    let found: Vec<_> = stream::iter(looks).buffered(width.max(1)).collect().await;
    let mut surveyed = SurveyedAttached::default();
    for found in answered(found)? {
        surveyed.landed.extend(found.landed);
        surveyed.manifests.extend(found.manifests);
    }
    Ok(surveyed)
}

/// What is looked for in one request, or few.
enum Sought<'a> {
    Tag(Tag),
    Referrers(&'a Digest, BTreeSet<&'a Digest>),
}

/// The tags of a repository, where asking for all is cheaper than asking for each, and the registry tells them.
async fn listed_tags(
    mirror: &Client,
    repository: &Repository,
    accessories: &BTreeSet<Accessory>,
) -> Result<Option<BTreeSet<Tag>>, Error> {
    let named = accessories.iter().filter(|a| a.tag().is_some()).count();
    if named < 2 {
        return Ok(None);
    }
    match mirror.tags_within(repository, named).await {
        Ok(Some(list)) if list.whole => Ok(Some(list.tags.into_iter().collect())),
        Ok(_) => Ok(None),
        Err(error) if error.is_transient() => Err(error),
        Err(_) => Ok(None),
    }
}

async fn seek(
    mirror: &Client,
    repository: &Repository,
    sought: Sought<'_>,
) -> Result<SurveyedAttached, Error> {
    match sought {
        Sought::Tag(tag) => {
            let name = Selector::Tag(tag.clone());
            let Some(manifest) = read_any(mirror, repository, name).await? else {
                return Ok(SurveyedAttached::default());
            };
            let digest = manifest.digest.clone();
            let mut landed = landed_with(repository, &manifest, true);
            landed.push(Landed::Tag(repository.clone(), tag, digest));
            Ok(SurveyedAttached {
                landed,
                manifests: vec![Arc::new(manifest)],
            })
        }
        Sought::Referrers(subject, referrers) => {
            let listed = listed_referrers(mirror, repository, subject).await?;
            let there = listed.iter().filter(|digest| referrers.contains(digest));
            let landed = there.map(|digest| Landed::Manifest {
                repository: repository.clone(),
                digest: digest.clone(),
                complete: true,
            });
            Ok(SurveyedAttached {
                landed: landed.collect(),
                manifests: Vec::new(),
            })
        }
    }
}

/// What the mirror lists as referring to a manifest, by itself or under the manifest's tag.
async fn listed_referrers(
    mirror: &Client,
    repository: &Repository,
    subject: &Digest,
) -> Result<Vec<Digest>, Error> {
    let digests = |d: &crate::model::manifest::Descriptor| d.digest.clone();
    match mirror.referrers(repository, subject).await {
        Ok(Some(listed)) => return Ok(listed.iter().map(digests).collect()),
        Ok(None) => {}
        Err(error) => return Err(error),
    }
    let Some(tag) = accessory::list_tag(subject) else {
        return Ok(Vec::new());
    };
    let list = read_any(mirror, repository, Selector::Tag(tag)).await?;
    let listed = list
        .iter()
        .flat_map(|list| accessory::listed(list, subject));
    Ok(listed.map(digests).collect())
}

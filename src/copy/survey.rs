//! Asks the mirror what the store does not know of it, before a plan is made: a mirror that another tool filled is adopted.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use super::Client;
use crate::{
    model::{
        desired::Wanted,
        image::{Digest, Repository, Tag},
        mirrored::Landed,
    },
    registry::{Error, Selector},
};

/// Looks for images that nothing is known of, and returns what is there. It reads, it writes nothing.
///
/// One look an image where the repository has tags, one look for all of a repository that has none. Of an index it is taken on
/// trust that its children are there: registries refuse an index without them unless told otherwise.
pub async fn survey(
    mirror: &Client,
    images: &[Wanted],
    width: usize,
) -> Result<Vec<Landed>, Error> {
    let mut unknown: BTreeMap<&Repository, Vec<&Wanted>> = BTreeMap::new();
    for image in images {
        unknown.entry(&image.target).or_default().push(image);
    }
    let looks: Vec<_> = unknown
        .into_iter()
        .map(|(repository, images)| candidates(mirror, repository, images))
        .collect();
    let candidates: Vec<_> = stream::iter(looks)
        .buffer_unordered(width.max(1))
        .collect()
        .await;
    let candidates: Vec<&Wanted> = candidates
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    let looks: Vec<_> = candidates
        .into_iter()
        .map(|image| look(mirror, image))
        .collect();
    let found: Vec<_> = stream::iter(looks)
        .buffer_unordered(width.max(1))
        .collect()
        .await;
    Ok(found.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
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

async fn look(mirror: &Client, image: &Wanted) -> Result<Vec<Landed>, Error> {
    let head = mirror
        .head(&image.target, &Selector::Tag(image.tag.clone()))
        .await?;
    let digest: Option<Digest> = head
        .map(|h| h.digest)
        .filter(|digest| *digest == image.digest);
    Ok(digest.map_or_else(Vec::new, |digest| {
        vec![
            Landed::Manifest {
                repository: image.target.clone(),
                digest: digest.clone(),
                complete: image.platforms.is_empty(),
            },
            Landed::Tag(image.target.clone(), image.tag.clone(), digest),
        ]
    }))
}

//! Reads what a release payload holds: its layers from the top down, until the release's manifests are found.

use std::{io::Read, sync::Arc};

use super::{
    blob, failure,
    payload_layer::{Found, LayerError, Limits, Search},
};
use crate::{
    model::{
        facts::Failure,
        image::{Digest, Repository},
        manifest::{Content, Descriptor, Manifest},
        release::payload::{BOOT_IMAGES, Files, IMAGE_REFERENCES, Payload, RELEASE_METADATA},
        sentence,
    },
    registry::{Client, Selector},
};

/// Takes in blobs that had to be read, so that a run need not read them again.
pub trait Keeper: Send + Sync {
    /// Begins to take in a blob; `None` where it cannot be kept, which stops nothing.
    fn begin(&self, digest: &Digest) -> Option<Box<dyn KeepOne>>;
    /// Returns a blob that was taken in before.
    fn open(&self, digest: &Digest) -> Option<std::fs::File>;
    /// Returns a manifest that is known already.
    fn manifest(&self, digest: &Digest) -> Option<Arc<Manifest>>;
}

/// One blob being taken in.
pub trait KeepOne: Send {
    /// Takes the next bytes; whether that worked.
    fn write(&mut self, bytes: &[u8]) -> bool;
    /// All bytes came.
    fn finish(self: Box<Self>);
}

/// Reads the payload whose manifest is `digest`.
pub(super) async fn read(
    source: &Client,
    keeper: &dyn Keeper,
    repository: &Repository,
    digest: &Digest,
) -> Result<Payload, Failure> {
    let manifest = match keeper.manifest(digest) {
        Some(manifest) => manifest,
        None => Arc::new(
            source
                .manifest(repository, &Selector::Digest(digest.clone()))
                .await
                .map_err(|e| failure(&e))?,
        ),
    };
    let what = format!("{repository}@{digest}");
    let Content::Image { layers, .. } = &manifest.content else {
        return Err(Failure::lasting(format!(
            "the release payload {what} is an index where an image of one architecture is expected"
        )));
    };
    let mut search = Search::new(
        [IMAGE_REFERENCES, RELEASE_METADATA, BOOT_IMAGES],
        Limits::default(),
    );
    for layer in layers.iter().rev() {
        search = read_layer(source, keeper, repository, layer, search).await?;
        // What a release says of itself comes in one layer; not every release says everything.
        if *search.found(IMAGE_REFERENCES) != Found::NotYet {
            break;
        }
    }
    let Some(image_references) = search.take(IMAGE_REFERENCES) else {
        return Err(Failure::lasting(format!(
            "{what} holds no `{IMAGE_REFERENCES}`: it is not a release payload"
        )));
    };
    let (metadata, boot_images) = (search.take(RELEASE_METADATA), search.take(BOOT_IMAGES));
    let files = Files {
        image_references: &image_references,
        release_metadata: metadata.as_deref(),
        boot_images: boot_images.as_deref(),
    };
    Payload::parse(files).map_err(|e| {
        Failure::lasting(format!(
            "reading the release payload {what}: {}",
            sentence(&e)
        ))
    })
}

/// Reads one layer.
async fn read_layer(
    source: &Client,
    keeper: &dyn Keeper,
    repository: &Repository,
    layer: &Descriptor,
    search: Search,
) -> Result<Search, Failure> {
    let scanned = blob::read(source, keeper, repository, layer, move |bytes| {
        scan(search, bytes)
    });
    scanned.await?.map_err(|error| {
        Failure::lasting(format!(
            "layer {} of a release payload in {repository} {}",
            layer.digest,
            sentence(&error)
        ))
    })
}

fn scan(mut search: Search, layer: impl Read) -> Result<Search, LayerError> {
    search.layer(layer)?;
    Ok(search)
}

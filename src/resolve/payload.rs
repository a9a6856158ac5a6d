//! Reads what a release payload holds: its layers from the top down, until the release's manifests are found.

use std::{io::Read, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{
    failure,
    payload_layer::{Found, LayerError, Limits, Search},
};
use crate::{
    model::{
        facts::{Cause, Failure},
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
        return Err(lasting(format!(
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
        return Err(lasting(format!(
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
        lasting(format!(
            "reading the release payload {what}: {}",
            sentence(&e)
        ))
    })
}

fn lasting(reason: String) -> Failure {
    Failure {
        reason,
        transient: false,
        cause: Cause::Other,
    }
}

/// Reads one layer, from what is kept or from the source; in the latter case it is kept on the way.
async fn read_layer(
    source: &Client,
    keeper: &dyn Keeper,
    repository: &Repository,
    layer: &Descriptor,
    search: Search,
) -> Result<Search, Failure> {
    if let Some(file) = keeper.open(&layer.digest) {
        let scanned = tokio::task::spawn_blocking(move || scan(search, file));
        return finished(scanned.await, repository, layer);
    }
    let mut body = source
        .blob(repository, layer)
        .await
        .map_err(|e| failure(&e))?;
    let mut keep = keeper.begin(&layer.digest);
    let (pieces, inbox) = mpsc::channel::<Bytes>(16);
    let scanning = tokio::task::spawn_blocking(move || {
        scan(
            search,
            Pieces {
                inbox,
                current: Bytes::new(),
            },
        )
    });
    let mut listening = true;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|e| failure(&e))?;
        if keep.as_mut().is_some_and(|k| !k.write(&piece)) {
            keep = None;
        }
        // The reader may have seen enough. The rest is wanted all the same: the last byte tells whether the layer is what its
        // digest names, and what was read of another one must not be believed.
        listening = listening && pieces.send(piece).await.is_ok();
    }
    drop(pieces);
    let scanned = finished(scanning.await, repository, layer)?;
    if let Some(keep) = keep {
        keep.finish();
    }
    Ok(scanned)
}

fn scan(mut search: Search, layer: impl Read) -> Result<Search, LayerError> {
    search.layer(layer)?;
    Ok(search)
}

fn finished(
    scanned: Result<Result<Search, LayerError>, tokio::task::JoinError>,
    repository: &Repository,
    layer: &Descriptor,
) -> Result<Search, Failure> {
    let what = format!(
        "layer {} of a release payload in {repository}",
        layer.digest
    );
    match scanned {
        Ok(Ok(search)) => Ok(search),
        Ok(Err(error)) => Err(lasting(format!("{what} {}", sentence(&error)))),
        Err(error) => Err(lasting(format!("reading {what}: {error}"))),
    }
}

/// Reads pieces that arrive from elsewhere as one stream.
struct Pieces {
    inbox: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.inbox.blocking_recv() {
                Some(next) => self.current = next,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

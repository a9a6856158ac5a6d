//! Reads operator catalogs: from an image in a registry, from an image layout on disk, from a folder of plain configs.
//!
//! A catalog is read once, from the top layer down, and packed while it streams by (see [`crate::model::catalog::pack`]).

mod intake;

mod layout;

use std::{
    io::{Read, Write},
    path::Path,
    sync::Arc,
};

use serde::Deserialize;

pub use intake::{Intake, IntakeError};
pub use layout::Layout;

use super::{KeepOne, Keeper, archive, blob, failure};
use crate::{
    model::{
        facts::Failure,
        image::{Digest, Platform, Repository},
        manifest::{Content, Descriptor, Manifest},
        sentence,
    },
    registry::{Client, Selector},
};

/// The label that names the folder of the configs.
pub const CONFIGS_LABEL: &str = "operators.operatorframework.io.index.configs.v1";

/// The label of catalogs from before there were configs.
const DATABASE_LABEL: &str = "operators.operatorframework.io.index.database.v1";

/// The folder of the configs where no label names one.
const CONFIGS: &str = "configs";

/// The largest configuration of an image that is read.
pub(super) const MAX_CONFIG: u64 = 4 << 20;

/// Where an image's manifests and blobs are.
pub enum Place<'a> {
    /// In a repository of a registry.
    Registry(&'a Client, &'a dyn Keeper, &'a Repository),
    /// In an image layout on disk.
    Layout(&'a Layout),
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Registry(_, _, repository) => repository.fmt(f),
            Place::Layout(layout) => layout.fmt(f),
        }
    }
}

impl Place<'_> {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// It is not there or cannot be had.
    pub async fn manifest(&self, digest: &Digest) -> Result<Arc<Manifest>, Failure> {
        match self {
            Place::Registry(client, keeper, repository) => {
                if let Some(known) = keeper.manifest(digest) {
                    return Ok(known);
                }
                let selector = Selector::Digest(digest.clone());
                let manifest = client.manifest(repository, &selector).await;
                manifest.map(Arc::new).map_err(|e| failure(&e))
            }
            Place::Layout(layout) => layout.manifest(digest).map(Arc::new),
        }
    }

    /// Lets `work` read a blob; what it makes of it counts only where the bytes are what the digest names.
    async fn blob<T: Send + 'static>(
        &self,
        blob: &Descriptor,
        work: impl FnOnce(blob::Bytewise) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        match self {
            Place::Registry(client, keeper, repository) => {
                blob::read(client, *keeper, repository, blob, work).await
            }
            Place::Layout(layout) => layout.blob(blob, work).await,
        }
    }

    /// Hands a blob's bytes over to who keeps them.
    ///
    /// # Errors
    ///
    /// It cannot be had, or not be kept.
    pub async fn hand_over(
        &self,
        blob: &Descriptor,
        mut keep: Box<dyn KeepOne>,
    ) -> Result<(), Failure> {
        let read = self.blob(blob, move |mut bytes| {
            let mut piece = vec![0; 128 << 10];
            loop {
                let length = match bytes.read(&mut piece)? {
                    0 => break,
                    length => length,
                };
                if !keep.write(&piece[..length]) {
                    return Err(std::io::Error::other("it could not be written"));
                }
            }
            keep.finish();
            Ok(())
        });
        read.await?.map_err(|error| {
            Failure::lasting(format!("keeping {} of {self}: {error}", blob.digest))
        })
    }
}

/// Chooses the image of a catalog's index whose configs are read: the first for one of `platforms` (any, where none is named).
/// Configs are the same for all platforms, as `oc-mirror` takes it too.
///
/// # Errors
///
/// There is none.
pub fn image_of(manifest: &Manifest, platforms: &[Platform]) -> Result<Option<Digest>, String> {
    if !manifest.is_index() {
        return Ok(None);
    }
    let child = manifest.children(platforms).find(is_image);
    child
        .map(|child| Some(child.digest.clone()))
        .ok_or_else(|| {
            "its index names no image for the platforms asked for; look at `platforms`".to_owned()
        })
}

/// Reads the catalog that an image of one platform is, and packs it into `out`.
///
/// # Errors
///
/// The image is no file-based catalog, or cannot be read: a sentence with the remedy.
pub async fn read<W: Write + Send + 'static>(
    place: &Place<'_>,
    digest: &Digest,
    out: W,
) -> Result<W, Failure> {
    let what = format!("the catalog {place}@{digest}");
    let manifest = place.manifest(digest).await?;
    let Content::Image { config, layers } = &manifest.content else {
        return Err(Failure::lasting(format!(
            "{what} is an index where an image of one platform is expected"
        )));
    };
    let (_, root) = configs(place, &what, config).await?;
    let begun = Intake::new(&root, out);
    let mut intake =
        begun.map_err(|error| Failure::lasting(format!("keeping {what} failed: {error}")))?;
    for layer in layers.iter().rev() {
        if intake.is_covered() {
            break;
        }
        let read = place.blob(layer, move |bytes| intake.layer(bytes).map(|()| intake));
        intake = read.await?.map_err(|error| refused(&what, &error))?;
    }
    let finished = tokio::task::spawn_blocking(move || intake.finish()).await;
    let finished =
        finished.map_err(|error| Failure::lasting(format!("reading {what}: {error}")))?;
    finished.map_err(|error| refused(&what, &error))
}

/// Reads the catalog whose plain configs are in a folder, and packs it into `out`.
///
/// # Errors
///
/// The folder holds no file-based catalog, or cannot be read.
pub fn read_folder<W: Write + Send + 'static>(folder: &Path, out: W) -> Result<W, Failure> {
    let what = format!("the catalog in `{}`", folder.display());
    let begun = Intake::new("", out);
    let mut intake =
        begun.map_err(|error| Failure::lasting(format!("keeping {what} failed: {error}")))?;
    intake::folder(&mut intake, folder).map_err(|error| refused(&what, &error))?;
    intake.finish().map_err(|error| refused(&what, &error))
}

/// An image of one platform of a catalog, as far as one is built of it.
#[derive(Debug, Clone)]
pub struct Original {
    /// Its manifest.
    pub manifest: Arc<Manifest>,
    /// Its configuration.
    pub config: Vec<u8>,
    /// The folder of its configs, without a leading slash.
    pub root: String,
}

/// Reads what is needed of a catalog's images to build filtered ones of them: all of `platforms` (or all there are), each with its
/// configuration; the layers are not read.
///
/// # Errors
///
/// One of them cannot be had, or is no catalog.
pub async fn originals(
    place: &Place<'_>,
    top: &Manifest,
    platforms: &[Platform],
) -> Result<Vec<Original>, Failure> {
    let mut manifests = Vec::new();
    match top.is_index() {
        false => manifests.push(Arc::new(top.clone())),
        true => {
            for child in top.children(platforms).filter(is_image) {
                manifests.push(place.manifest(&child.digest).await?);
            }
        }
    }
    let mut found = Vec::with_capacity(manifests.len());
    for manifest in manifests {
        let what = format!("the catalog {place}@{}", manifest.digest);
        let Content::Image { config, .. } = &manifest.content else {
            return Err(Failure::lasting(format!("{what} is an index in an index")));
        };
        let (config, root) = configs(place, &what, config).await?;
        found.push(Original {
            manifest,
            config,
            root,
        });
    }
    Ok(found)
}

/// Whether a child of an index is an image: attestations are for no platform at all.
fn is_image(child: &&Descriptor) -> bool {
    let platform = child.platform.as_ref();
    platform.is_none_or(|platform| platform.os != "unknown")
}

fn refused(what: &str, error: &IntakeError) -> Failure {
    Failure::lasting(format!("{what} cannot be read: {error}"))
}

/// The parts of an image's configuration that a catalog needs.
#[derive(Debug, Default, Deserialize)]
struct ImageConfig {
    #[serde(default)]
    config: Option<RunConfig>,
}

#[derive(Debug, Default, Deserialize)]
struct RunConfig {
    #[serde(default, rename = "Labels")]
    labels: Option<std::collections::BTreeMap<String, String>>,
}

/// Returns an image's configuration, and the folder of its configs without a leading slash.
async fn configs(
    place: &Place<'_>,
    what: &str,
    config: &Descriptor,
) -> Result<(Vec<u8>, String), Failure> {
    if config.size > MAX_CONFIG {
        return Err(Failure::lasting(format!(
            "{what} has a configuration of {} bytes, more than any image has",
            config.size
        )));
    }
    let read = place.blob(config, |bytes| {
        let mut text = Vec::new();
        bytes.take(MAX_CONFIG).read_to_end(&mut text).map(|_| text)
    });
    let text = read.await?.map_err(|error| {
        Failure::lasting(format!("reading the configuration of {what}: {error}"))
    })?;
    let parsed: ImageConfig = serde_json::from_slice(&text).map_err(|error| {
        Failure::lasting(format!(
            "the configuration of {what} is not readable: {error}"
        ))
    })?;
    let labels = parsed.config.and_then(|config| config.labels);
    let labels = labels.unwrap_or_default();
    let root = match labels.get(CONFIGS_LABEL) {
        Some(folder) => archive::normal(folder.as_bytes()).ok_or_else(|| {
            Failure::lasting(format!(
                "{what} names `{}` as the folder of its configs, which is none (label {CONFIGS_LABEL})",
                crate::model::catalog::shorten(folder)
            ))
        }),
        None if labels.contains_key(DATABASE_LABEL) => Err(Failure::lasting(format!(
            "{what} is an SQLite catalog, which OpenShift 4.11 was the first not to use any more; name a file-based one \
             (`opm migrate` makes one of it)"
        ))),
        None => Ok(CONFIGS.to_owned()),
    }?;
    Ok((text, root))
}

/// Returns a failure's sentence for what could not be read.
pub(super) fn unreadable(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::lasting(format!("{what} cannot be read: {}", sentence(error)))
}

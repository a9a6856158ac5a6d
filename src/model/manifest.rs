//! Manifests and indexes: their bytes as they came, and the little that is read from them.
//!
//! **Invariant:** the bytes are never written anew; what is read is only looked at.

use bytes::Bytes;
use serde::Deserialize;

use crate::model::image::{Digest, Platform};

/// The largest manifest that is read: what Distribution, Harbor and zot accept.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;

/// The media types of manifests, as asked for in `Accept`.
pub const ACCEPT: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

/// An OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Why bytes are not a manifest that can be mirrored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The bytes are not JSON of the expected shape.
    #[error("the manifest is not readable: {0}")]
    Malformed(String),
    /// Docker schema 1, which registries no longer take.
    #[error(
        "the manifest is of Docker schema 1, which registries no longer store; the image has to be pushed anew by its publisher"
    )]
    Schema1,
    /// Some other media type.
    #[error("`{0}` is not the media type of an image or an index")]
    MediaType(String),
    /// More children or layers than is sensible.
    #[error("the manifest names {0} items, more than {max} are not read", max = MAX_ITEMS)]
    TooMany(usize),
}

/// How many layers or children a manifest may name.
const MAX_ITEMS: usize = 10_000;

/// A blob or manifest as another manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its identity.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// For which platform it is, in an index.
    pub platform: Option<Platform>,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The identity of `raw`.
    pub digest: Digest,
    /// The media type it is served and pushed with.
    pub media_type: String,
    /// The bytes as they came.
    pub raw: Bytes,
    /// What it names.
    pub content: Content,
}

/// What a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// One image: a configuration and its layers, base first. Layers with foreign URLs are left out: registries do not hold them.
    Image {
        /// The image's configuration.
        config: Descriptor,
        /// The image's layers, the oldest first.
        layers: Vec<Descriptor>,
    },
    /// An index: one manifest a platform, or other manifests.
    Index(Vec<Descriptor>),
}

impl Manifest {
    /// Reads a manifest; `served_as` is the `Content-Type` it came with, used where the document itself names no media type.
    pub fn parse(raw: Bytes, served_as: Option<&str>) -> Result<Self, ManifestError> {
        let document: Document =
            serde_json::from_slice(&raw).map_err(|e| ManifestError::Malformed(e.to_string()))?;
        let served_as = served_as.map(|t| t.split(';').next().unwrap_or(t).trim());
        let media_type = match (document.media_type.as_deref(), served_as) {
            _ if document.schema_version == Some(1) => return Err(ManifestError::Schema1),
            (Some(own), _) if !own.is_empty() => own.to_owned(),
            (_, Some(served)) if ACCEPT.contains(&served) => served.to_owned(),
            _ if document.manifests.is_some() => OCI_INDEX.to_owned(),
            _ => OCI_MANIFEST.to_owned(),
        };
        let content = match media_type.as_str() {
            OCI_INDEX | DOCKER_LIST => Content::Index(descriptors(document.manifests)?),
            OCI_MANIFEST | DOCKER_MANIFEST => {
                let config = document
                    .config
                    .ok_or_else(|| ManifestError::Malformed("it names no config".into()))?;
                Content::Image {
                    config: config.into(),
                    layers: descriptors(document.layers)?,
                }
            }
            other => return Err(ManifestError::MediaType(other.chars().take(120).collect())),
        };
        Ok(Manifest {
            digest: Digest::of(&raw),
            media_type,
            raw,
            content,
        })
    }

    /// Returns the blobs this manifest names itself: its configuration and layers; none for an index.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, layers) = match &self.content {
            Content::Image { config, layers } => (Some(config), layers.as_slice()),
            Content::Index(_) => (None, [].as_slice()),
        };
        config.into_iter().chain(layers)
    }

    /// Returns the manifests that belong to this one, of an index those for `platforms` (all where none are named).
    pub fn children<'a>(
        &'a self,
        platforms: &'a [Platform],
    ) -> impl Iterator<Item = &'a Descriptor> {
        let children = match &self.content {
            Content::Index(children) => children.as_slice(),
            Content::Image { .. } => [].as_slice(),
        };
        children.iter().filter(move |child| {
            platforms.is_empty()
                || child
                    .platform
                    .as_ref()
                    .is_some_and(|offered| platforms.iter().any(|p| p.accepts(offered)))
        })
    }

    /// Whether this is an index.
    pub fn is_index(&self) -> bool {
        matches!(self.content, Content::Index(_))
    }
}

/// Whether a layer of this media type stays at its own URL and is never pushed to a registry.
fn is_foreign(media_type: &str) -> bool {
    media_type == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
}

fn descriptors(items: Option<Vec<RawDescriptor>>) -> Result<Vec<Descriptor>, ManifestError> {
    let items = items.unwrap_or_default();
    if items.len() > MAX_ITEMS {
        return Err(ManifestError::TooMany(items.len()));
    }
    Ok(items
        .into_iter()
        .map(Descriptor::from)
        .filter(|d| !is_foreign(&d.media_type))
        .collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u32>,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl From<RawDescriptor> for Descriptor {
    fn from(raw: RawDescriptor) -> Self {
        Descriptor {
            media_type: raw.media_type,
            digest: raw.digest,
            size: raw.size,
            platform: raw.platform.map(|p| Platform {
                os: p.os,
                architecture: p.architecture,
                variant: p.variant.filter(|v| !v.is_empty()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363";

    fn parse(text: &str, served_as: Option<&str>) -> Result<Manifest, ManifestError> {
        Manifest::parse(Bytes::copy_from_slice(text.as_bytes()), served_as)
    }

    #[test]
    fn image_lists_config_then_layers() {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{D}","size":1}},"layers":[{{"mediaType":"l","digest":"{D}","size":2}}]}}"#
        );
        let manifest = parse(
            &text,
            Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
        )
        .unwrap();
        assert_eq!(manifest.media_type, DOCKER_MANIFEST);
        assert_eq!(manifest.digest, Digest::of(text.as_bytes()));
        assert_eq!(manifest.blobs().map(|d| d.size).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn index_gives_the_children_asked_for() {
        let child = |arch: &str, size| {
            format!(
                r#"{{"mediaType":"m","digest":"{D}","size":{size},"platform":{{"os":"linux","architecture":"{arch}"}}}}"#
            )
        };
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
            child("amd64", 1),
            child("arm64", 2)
        );
        let manifest = parse(&text, None).unwrap();
        assert_eq!(manifest.media_type, OCI_INDEX);
        assert_eq!(manifest.children(&[]).count(), 2);
        let asked = ["linux/arm64".parse().unwrap()];
        assert_eq!(
            manifest
                .children(&asked)
                .map(|d| d.size)
                .collect::<Vec<_>>(),
            [2]
        );
    }

    #[test]
    fn what_cannot_be_mirrored_is_refused_with_a_reason() {
        assert_eq!(
            parse(r#"{"schemaVersion":1,"name":"x"}"#, None),
            Err(ManifestError::Schema1)
        );
        assert!(matches!(parse("{", None), Err(ManifestError::Malformed(_))));
        assert!(matches!(
            parse(r#"{"schemaVersion":2}"#, None),
            Err(ManifestError::Malformed(_))
        ));
        assert!(matches!(
            parse(r#"{"mediaType":"text/html"}"#, None),
            Err(ManifestError::MediaType(_))
        ));
    }
}

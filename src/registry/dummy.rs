//! Images of no use, to see whether a registry takes them.

use bytes::Bytes;
use serde_json::json;

use crate::{
    model::{
        image::{Digest, Tag},
        manifest::{Descriptor, Manifest, OCI_INDEX, OCI_MANIFEST},
    },
    registry::Selector,
};

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A blob to push.
pub(super) struct Content {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Bytes,
}

impl Content {
    fn new(media_type: &str, text: String) -> Self {
        let bytes = Bytes::from(text);
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            platform: None,
        };
        Content { descriptor, bytes }
    }

    fn json(&self) -> serde_json::Value {
        let Descriptor {
            media_type,
            digest,
            size,
            ..
        } = &self.descriptor;
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
    }
}

/// An image of no use.
pub(super) struct Dummy {
    pub(super) config: Content,
    pub(super) layer: Content,
    pub(super) manifest: Manifest,
}

impl Dummy {
    /// Makes it; one of another name or nonce shares nothing with it.
    pub(super) fn new(name: &str, nonce: u64) -> Option<Self> {
        let what = format!(
            "pushed by `imagesetd mirror check` to see whether it can be ({name} {nonce:016x}); it may be deleted\n"
        );
        let layer = Content::new(OCI_LAYER, what.clone());
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"description": what}},
            "rootfs": {"type": "layers", "diff_ids": [layer.descriptor.digest.to_string()]},
        });
        let config = Content::new(OCI_CONFIG, config.to_string());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.json(),
            "layers": [layer.json()],
        });
        let manifest = parsed(manifest.to_string(), OCI_MANIFEST)?;
        Some(Dummy {
            config,
            layer,
            manifest,
        })
    }

    /// An index of this image and of one that is nowhere.
    pub(super) fn sparse_index(&self, nonce: u64) -> Option<Manifest> {
        let child = |digest: String, size: usize, arch: &str| {
            json!({
                "mediaType": OCI_MANIFEST,
                "digest": digest,
                "size": size,
                "platform": {"architecture": arch, "os": "linux"},
            })
        };
        let nowhere = Digest::of(format!("nowhere {nonce:016x}").as_bytes());
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                child(self.manifest.digest.to_string(), self.manifest.raw.len(), "amd64"),
                child(nowhere.to_string(), 400, "arm64"),
            ],
        });
        parsed(index.to_string(), OCI_INDEX)
    }
}

fn parsed(text: String, media_type: &str) -> Option<Manifest> {
    Manifest::parse(Bytes::from(text), Some(media_type)).ok()
}

/// Returns the name of a tag.
pub(super) fn tagged(text: &str) -> Option<Selector> {
    text.parse::<Tag>().ok().map(Selector::Tag)
}

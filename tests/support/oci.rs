//! Small images made here, as values and as OCI image layouts.

use std::{fs, path::Path};

use imagesetd::model::image::Digest;
use serde_json::json;

/// An image of one platform: a manifest and the blobs it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Configuration first, then the layers.
    pub blobs: Vec<Vec<u8>>,
}

impl Image {
    /// Makes an image of these layers, which need not be archives: nobody unpacks them.
    pub fn new(layers: &[&[u8]]) -> Image {
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|l| Digest::of(l).to_string()).collect::<Vec<_>>(),
            },
        });
        let config = serde_json::to_vec(&config).unwrap();
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|l| descriptor(layer, l)).collect::<Vec<_>>(),
        });
        let layers = layers.iter().map(|l| l.to_vec());
        Image {
            manifest: serde_json::to_vec(&manifest).unwrap(),
            blobs: [config].into_iter().chain(layers).collect(),
        }
    }

    /// Returns the manifest's digest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Returns how many bytes its blobs have together.
    pub fn size(&self) -> u64 {
        self.blobs.iter().map(|b| b.len() as u64).sum()
    }

    /// Writes it as an OCI image layout into `folder`, under the name `tag`.
    pub fn write_layout(&self, folder: &Path, tag: &str) {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for blob in self.blobs.iter().chain([&self.manifest]) {
            fs::write(blobs.join(Digest::of(blob).hex()), blob).unwrap();
        }
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &self.manifest);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(folder.join("index.json"), index.to_string()).unwrap();
        fs::write(
            folder.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
    }
}

/// Describes `bytes` as manifests do.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    json!({
        "mediaType": media_type,
        "digest": Digest::of(bytes).to_string(),
        "size": bytes.len(),
    })
}

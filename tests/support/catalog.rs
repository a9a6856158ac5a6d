//! Operator catalogs as images: layers of files, and the labels and command that `opm` gives them.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use imagesetd::model::image::Digest;
use serde_json::{Value, json};

use super::oci::{Image, descriptor};

/// The folder of the configs in every catalog made here.
pub const CONFIGS: &str = "configs";

/// An archive of files in the order given, not compressed; a path that ends with a slash is a folder.
pub fn tar<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        let (kind, mode) = match path.ends_with('/') {
            true => (tar::EntryType::Directory, 0o755),
            false => (tar::EntryType::Regular, 0o644),
        };
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Compresses as most layers are.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A catalog image for linux on `architecture` of uncompressed layers, the base first; compressed here.
pub fn image(layers: &[Vec<u8>], architecture: &str) -> Image {
    let blobs: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let config = config(layers, architecture);
    of(
        &config,
        blobs,
        "application/vnd.oci.image.layer.v1.tar+gzip",
    )
}

/// The configuration that `opm` gives a catalog.
pub fn config(layers: &[Vec<u8>], architecture: &str) -> Value {
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {
            "User": "1001",
            "Entrypoint": ["/bin/opm"],
            "Cmd": ["serve", "/configs", "--cache-dir=/tmp/cache"],
            "Labels": {"operators.operatorframework.io.index.configs.v1": "/configs"},
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|l| Digest::of(l).to_string()).collect::<Vec<_>>(),
        },
        "history": layers.iter().map(|_| json!({"created_by": "made for tests"})).collect::<Vec<_>>(),
    })
}

/// An image of a configuration and compressed layers.
pub fn of(config: &Value, layers: Vec<Vec<u8>>, layer_type: &str) -> Image {
    let config = serde_json::to_vec(config).unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|l| descriptor(layer_type, l)).collect::<Vec<_>>(),
    });
    Image {
        manifest: serde_json::to_vec(&manifest).unwrap(),
        blobs: std::iter::once(config).chain(layers).collect(),
    }
}

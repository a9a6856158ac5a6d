//! Operator catalogs for tests, written in a few words.

use std::{io::Write, path::PathBuf, process::Command};

use flate2::{Compression, write::GzEncoder};
use imagesetd::model::image::Digest;
use serde_json::{Value, json};

use super::oci::{Image, descriptor};

/// The label that names the folder of the configs.
pub const LABEL: (&str, &str) = (
    "operators.operatorframework.io.index.configs.v1",
    "/configs",
);

/// A bundle of a package.
#[derive(Debug, Clone)]
pub struct Bundle<'a> {
    /// Its version; its name is made of that.
    pub version: &'a str,
    /// The version that it replaces.
    pub replaces: Option<&'a str>,
    /// The versions that it skips.
    pub skips: &'a [&'a str],
    /// Its images, the bundle itself first.
    pub images: Vec<String>,
    /// Further properties.
    pub properties: Vec<Value>,
}

impl<'a> Bundle<'a> {
    /// A bundle of these images.
    pub fn new(version: &'a str, replaces: Option<&'a str>, images: &[String]) -> Self {
        Bundle {
            version,
            replaces,
            skips: &[],
            images: images.to_vec(),
            properties: vec![],
        }
    }
}

/// The documents of a package with one channel that has all its bundles.
pub fn package(name: &str, channel: &str, bundles: &[Bundle<'_>]) -> Vec<Value> {
    let named = |version: &str| format!("{name}.v{version}");
    let entries: Vec<Value> = bundles
        .iter()
        .map(|bundle| {
            let mut entry = json!({"name": named(bundle.version)});
            if let Some(replaces) = bundle.replaces {
                entry["replaces"] = named(replaces).into();
            }
            if !bundle.skips.is_empty() {
                entry["skips"] = bundle.skips.iter().map(|skip| named(skip)).collect();
            }
            entry
        })
        .collect();
    let mut documents = vec![
        json!({"schema": "olm.package", "name": name, "defaultChannel": channel}),
        json!({"schema": "olm.channel", "package": name, "name": channel, "entries": entries}),
    ];
    for bundle in bundles {
        let own = json!({"type": "olm.package", "value": {"packageName": name, "version": bundle.version}});
        let properties: Vec<&Value> = std::iter::once(&own).chain(&bundle.properties).collect();
        let related: Vec<Value> = bundle
            .images
            .iter()
            .map(|image| json!({"name": "", "image": image}))
            .collect();
        documents.push(json!({
            "schema": "olm.bundle",
            "package": name,
            "name": named(bundle.version),
            "image": bundle.images[0],
            "properties": properties,
            "relatedImages": related,
        }));
    }
    documents
}

/// Writes documents one after another, as a catalog's file has them.
pub fn file(documents: &[Value]) -> String {
    let lines = documents.iter().map(|document| format!("{document}\n"));
    lines.collect()
}

/// Returns `opm` where `IMAGESETD_OPM` names it, as `make test-opm` does, or says that the test is skipped.
pub fn opm(test: &str) -> Option<PathBuf> {
    let found = maybe_opm();
    if found.is_none() {
        super::skip::skipped(test, "IMAGESETD_OPM names no opm; see `make test-opm`");
    }
    found
}

/// The same for a further look of a test that has more to look at.
pub fn maybe_opm() -> Option<PathBuf> {
    std::env::var_os("IMAGESETD_OPM").map(PathBuf::from)
}

/// Checks that `opm` takes a folder of configs.
pub fn validate(opm: &std::path::Path, folder: &std::path::Path) {
    let ended = Command::new(opm)
        .arg("validate")
        .arg(folder)
        .output()
        .unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}

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

/// A catalog image for linux on amd64 of uncompressed layers, the base first; compressed here.
pub fn image(layers: &[Vec<u8>]) -> Image {
    let gzip = |layer: &Vec<u8>| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(layer).unwrap();
        encoder.finish().unwrap()
    };
    let blobs = layers.iter().map(gzip).collect();
    of(
        &config(layers),
        blobs,
        "application/vnd.oci.image.layer.v1.tar+gzip",
    )
}

/// The configuration that `opm` gives a catalog.
pub fn config(layers: &[Vec<u8>]) -> Value {
    let diff_ids = layers.iter().map(|layer| Digest::of(layer).to_string());
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {
            "User": "1001",
            "Entrypoint": ["/bin/opm"],
            "Cmd": ["serve", "/configs", "--cache-dir=/tmp/cache"],
            "Labels": {LABEL.0: LABEL.1},
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids.collect::<Vec<_>>()},
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

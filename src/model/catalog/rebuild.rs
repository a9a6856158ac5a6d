//! A filtered catalog as an image: the original's layers, and one more that puts the filtered configs in place of the original's.
//!
//! **Invariant:** the same catalog and filter give the same bytes, on any machine and in later versions: the digests in the tests
//! stay, since a changed digest restarts every catalog pod of every cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Seek, Write},
};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use serde_json::{Value, json};

use super::{
    pack::{Catalog, PackError},
    render,
    select::Selected,
};
use crate::model::{
    image::{Digest, Hasher},
    manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST},
};

/// The level of compression: the one that pods are used to wait for. A change changes every digest.
const LEVEL: Compression = Compression::new(6);

/// Where `opm` keeps its cache in the images that people build with it.
const CACHE: &str = "tmp/cache";

/// Why an image cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The kept catalog cannot be read.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The layer cannot be written.
    #[error("writing the layer of a filtered catalog failed: {0}")]
    Write(#[from] io::Error),
    /// The original is not what an image is.
    #[error("the catalog's {0} is not what an image has; tell its publisher")]
    Shape(&'static str),
}

/// The layer of a filtered catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The digest of the compressed layer.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The digest of the layer before it is compressed.
    pub diff_id: Digest,
}

/// A manifest, an index or a configuration that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its digest.
    pub digest: Digest,
}

impl Written {
    fn of(document: &Value) -> Self {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        Written { bytes, digest }
    }
}

/// Writes the layer of what is kept of a catalog: an opaque marker in the folder of the configs, the configs in a folder a package,
/// and whiteouts of the caches that fit to the original only.
///
/// # Errors
///
/// The kept catalog cannot be read, or `out` not be written.
pub fn write_layer<R: Read + Seek, W: Write>(
    catalog: &mut Catalog<R>,
    selected: &Selected,
    root: &str,
    caches: &BTreeSet<String>,
    out: W,
) -> Result<(W, Layer), RebuildError> {
    // A file's length stands before its content.
    let mut lengths: BTreeMap<String, u64> = BTreeMap::new();
    render::documents(catalog, selected, |package, bytes| {
        *lengths.entry(package.to_owned()).or_default() += bytes.len() as u64 + 1;
        Ok::<_, RebuildError>(())
    })?;
    let compressed = Hashing::new(out);
    let gzip = GzBuilder::new().mtime(0).operating_system(255);
    let mut tar = Tar::new(Hashing::new(gzip.write(compressed, LEVEL)));
    for (end, _) in root.match_indices('/') {
        tar.folder(&root[..end])?;
    }
    tar.folder(root)?;
    tar.file(&format!("{root}/.wh..wh..opq"), 0)?;
    let mut open: Option<String> = None;
    render::documents(catalog, selected, |package, bytes| {
        if open.as_deref() != Some(package) {
            tar.end_file()?;
            let folder = folder(package);
            if !folder.is_empty() {
                tar.folder(&format!("{root}/{}", folder.trim_end_matches('/')))?;
            }
            let length = lengths.get(package).copied().unwrap_or_default();
            tar.file(&format!("{root}/{folder}catalog.json"), length)?;
            open = Some(package.to_owned());
        }
        tar.content(&bytes)?;
        tar.content(b"\n")?;
        Ok::<_, RebuildError>(())
    })?;
    tar.end_file()?;
    for cache in caches {
        let (parent, name) = cache.rsplit_once('/').unwrap_or(("", cache));
        let slash = if parent.is_empty() { "" } else { "/" };
        tar.file(&format!("{parent}{slash}.wh.{name}"), 0)?;
    }
    let (plain, diff_id, _) = tar.finish()?.finish();
    let (out, digest, size) = finish_gzip(plain)?.finish();
    let layer = Layer {
        digest,
        size,
        diff_id,
    };
    Ok((out, layer))
}

fn finish_gzip<W: Write>(gzip: GzEncoder<Hashing<W>>) -> io::Result<Hashing<W>> {
    gzip.finish()
}

/// The folder of a package, with a slash at its end: its name, unless that is no name of a folder.
fn folder(package: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match package {
        "" => String::new(),
        name if name.len() <= 80 && name.chars().all(plain) && !name.starts_with('.') => {
            format!("{name}/")
        }
        odd => format!("package-{}/", &Digest::of(odd.as_bytes()).hex()[..16]),
    }
}

/// Returns the folders in which the original's command, and the images that people build, have a cache that no longer fits.
pub fn caches(config: &Value) -> BTreeSet<String> {
    let words = ["Entrypoint", "Cmd"].into_iter();
    let words = words.flat_map(|key| config["config"][key].as_array().into_iter().flatten());
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    let joined = words
        .iter()
        .filter_map(|word| word.strip_prefix("--cache-dir="));
    let apart = words
        .windows(2)
        .filter(|w| w[0] == "--cache-dir")
        .map(|w| w[1]);
    joined
        .chain(apart)
        .map(|folder| folder.trim_matches('/').to_owned())
        .filter(|folder| {
            let parts: Vec<&str> = folder.split('/').collect();
            folder.len() < 90 && parts.iter().all(|part| !["", ".", ".."].contains(part))
        })
        .chain([CACHE.to_owned()])
        .collect()
}

/// Writes the configuration of a rebuilt image: one more layer, and a command that serves the configs without a cache.
///
/// # Errors
///
/// The original is no configuration of an image.
pub fn config(original: &[u8], root: &str, layer: &Layer) -> Result<Written, RebuildError> {
    let shape = RebuildError::Shape("configuration");
    let Ok(mut config) = serde_json::from_slice::<Value>(original) else {
        return Err(shape);
    };
    let Some(diff_ids) = config
        .pointer_mut("/rootfs/diff_ids")
        .and_then(Value::as_array_mut)
    else {
        return Err(shape);
    };
    diff_ids.push(layer.diff_id.to_string().into());
    let created = config["created"].as_str().unwrap_or("1970-01-01T00:00:00Z");
    let entry = json!({"created": created, "created_by": "imagesetd: filtered configs"});
    if let Some(history) = config["history"].as_array_mut() {
        history.push(entry);
    }
    let run = &mut config["config"];
    if run.is_null() {
        *run = json!({});
    }
    if !run.is_object() {
        return Err(shape);
    }
    // A command that stands in the entry point would win.
    if let Some(words) = run["Entrypoint"].as_array_mut()
        && let Some(at) = words.iter().position(|word| word == "serve")
    {
        words.truncate(at);
    }
    run["Cmd"] = json!(["serve", format!("/{root}")]);
    if let Some(run) = run.as_object_mut() {
        run.retain(|_, value| !value.is_null());
    }
    Ok(Written::of(&config))
}

/// Writes the manifest of a rebuilt image: its configuration, and one more layer of the same family of media types.
///
/// # Errors
///
/// The original is no manifest of an image.
pub fn manifest(
    original: &[u8],
    media_type: &str,
    config: &Written,
    layer: &Layer,
) -> Result<Written, RebuildError> {
    let shape = RebuildError::Shape("manifest");
    let Ok(mut manifest) = serde_json::from_slice::<Value>(original) else {
        return Err(shape);
    };
    let layer_type = match media_type {
        DOCKER_MANIFEST => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        OCI_MANIFEST => "application/vnd.oci.image.layer.v1.tar+gzip",
        _ => return Err(shape),
    };
    if !manifest["config"].is_object() {
        return Err(shape);
    }
    manifest["config"]["digest"] = config.digest.to_string().into();
    manifest["config"]["size"] = config.bytes.len().into();
    let Some(layers) = manifest["layers"].as_array_mut() else {
        return Err(shape);
    };
    layers.push(json!({
        "mediaType": layer_type,
        "digest": layer.digest.to_string(),
        "size": layer.size,
    }));
    Ok(Written::of(&manifest))
}

/// Writes the index of rebuilt images: of the original's children those that were rebuilt, in their order. What else there was
/// (attestations of the originals, platforms that are not wanted) is left out.
///
/// # Errors
///
/// The original is no index.
pub fn index(
    original: &[u8],
    media_type: &str,
    rebuilt: &BTreeMap<Digest, Written>,
) -> Result<Written, RebuildError> {
    let shape = RebuildError::Shape("index");
    let Ok(mut index) = serde_json::from_slice::<Value>(original) else {
        return Err(shape);
    };
    if ![OCI_INDEX, DOCKER_LIST].contains(&media_type) {
        return Err(shape);
    }
    let Some(children) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
        return Err(shape);
    };
    children.retain_mut(|child| {
        let digest = child["digest"].as_str().and_then(|text| text.parse().ok());
        let Some(written) = digest.and_then(|digest: Digest| rebuilt.get(&digest)) else {
            return false;
        };
        child["digest"] = written.digest.to_string().into();
        child["size"] = written.bytes.len().into();
        true
    });
    match children.is_empty() {
        true => Err(shape),
        false => Ok(Written::of(&index)),
    }
}

/// Hashes and counts what is written through it.
struct Hashing<W> {
    out: W,
    hasher: Hasher,
    count: u64,
}

impl<W> Hashing<W> {
    fn new(out: W) -> Self {
        Hashing {
            out,
            hasher: Hasher::sha256(),
            count: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.out, self.hasher.finish(), self.count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The length of a block of an archive.
const BLOCK: usize = 512;

/// Writes an archive in the ustar form: root's files, from the beginning of time.
struct Tar<W> {
    out: W,
    /// How many bytes of the open file are still to come, and how many it has.
    left: u64,
    length: u64,
}

impl<W: Write> Tar<W> {
    fn new(out: W) -> Self {
        Tar {
            out,
            left: 0,
            length: 0,
        }
    }

    fn folder(&mut self, path: &str) -> io::Result<()> {
        self.header(&format!("{path}/"), b'5', "0000755", 0)
    }

    fn file(&mut self, path: &str, length: u64) -> io::Result<()> {
        self.header(path, b'0', "0000644", length)?;
        (self.left, self.length) = (length, length);
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = (self.left.checked_sub(bytes.len() as u64))
            .ok_or_else(|| io::Error::other("a file has more bytes than were announced"))?;
        self.out.write_all(bytes)
    }

    fn end_file(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other(
                "a file has fewer bytes than were announced",
            ));
        }
        let over = usize::try_from(self.length % BLOCK as u64).unwrap_or_default();
        self.length = 0;
        match over {
            0 => Ok(()),
            over => self.out.write_all(&[0; BLOCK][over..]),
        }
    }

    fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn header(&mut self, path: &str, kind: u8, mode: &str, length: u64) -> io::Result<()> {
        let (prefix, name) = halves(path)
            .ok_or_else(|| io::Error::other("the folder of the configs has too long a name"))?;
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, text: &str| {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, name);
        put(100, mode);
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{length:011o}"));
        put(136, "00000000000");
        put(148, "        ");
        put(257, "ustar");
        put(263, "00");
        put(345, prefix);
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&header)
    }
}

/// Cuts a path into the two fields of a header.
fn halves(path: &str) -> Option<(&str, &str)> {
    if path.len() <= 100 {
        return Some(("", path));
    }
    let mut cuts = path
        .match_indices('/')
        .map(|(at, _)| (&path[..at], &path[at + 1..]));
    cuts.find(|(prefix, name)| prefix.len() <= 155 && name.len() <= 100 && !name.is_empty())
}

#[cfg(test)]
mod tests;

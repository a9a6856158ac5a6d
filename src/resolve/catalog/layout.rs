//! An image layout on disk as a source: what `oci://` names.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{super::blob::Bytewise, unreadable};
use crate::model::{
    facts::Failure,
    image::{Digest, Hasher},
    manifest::{Content, Descriptor, MAX_MANIFEST_BYTES, Manifest, OCI_INDEX},
};

/// An image layout.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
    top: Manifest,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}", self.folder.display())
    }
}

impl Layout {
    /// Opens a layout. The image in it is the one that `index.json` names; where it names several, they are the platforms of one.
    ///
    /// # Errors
    ///
    /// It is no layout, or holds nothing.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let what = format!("oci://{}", folder.display());
        let path = folder.join("index.json");
        let raw = bounded(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::lasting(format!(
                "{what} is no image layout: it has no `index.json`; `skopeo copy docker://CATALOG {what}` makes one"
            )),
            _ => unreadable(&what, &error),
        })?;
        let index = Manifest::parse(raw, Some(OCI_INDEX)).map_err(|e| unreadable(&what, &e))?;
        let layout = Layout {
            folder: folder.to_owned(),
            top: index,
        };
        let Content::Index(children) = &layout.top.content else {
            return Err(Failure::lasting(format!(
                "{what} has an `index.json` that is no index"
            )));
        };
        match children.as_slice() {
            [] => Err(Failure::lasting(format!("{what} holds no image"))),
            [only] => Ok(Layout {
                top: layout.manifest(&only.digest)?,
                ..layout
            }),
            _ => Ok(layout),
        }
    }

    /// [Opens](Layout::open) a layout where that may block.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn read(folder: PathBuf) -> Result<Self, Failure> {
        let opened = tokio::task::spawn_blocking(move || Layout::open(&folder)).await;
        opened.map_err(|error| Failure::lasting(error.to_string()))?
    }

    /// Returns the manifest of the image, or the index of its platforms.
    pub fn top(&self) -> &Manifest {
        &self.top
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let blobs = self.folder.join("blobs").join(digest.algorithm());
        blobs.join(digest.hex())
    }

    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// It is not there, or is another.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, Failure> {
        if self.top.digest == *digest {
            return Ok(self.top.clone());
        }
        let what = format!("{self}@{digest}");
        let raw = bounded(&self.path(digest)).map_err(|error| unreadable(&what, &error))?;
        if !digest.matches(&raw) {
            return Err(Failure::lasting(format!(
                "{what} is damaged: its bytes have another digest; copy it anew"
            )));
        }
        Manifest::parse(raw, None).map_err(|error| unreadable(&what, &error))
    }

    /// Lets `work` read a blob; what it makes of it counts only where the bytes are what the digest names.
    pub(super) async fn blob<T: Send + 'static>(
        &self,
        blob: &Descriptor,
        work: impl FnOnce(Bytewise) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let what = format!("{self}@{}", blob.digest);
        let file = File::open(self.path(&blob.digest)).map_err(|e| unreadable(&what, &e))?;
        let expected = blob.digest.clone();
        let read = tokio::task::spawn_blocking(move || {
            let (sender, seen) = std::sync::mpsc::channel();
            let hashed = Hashed {
                file,
                hasher: Some(expected.hasher()),
                seen: sender,
            };
            let made = work(Box::new(hashed));
            // The reader is gone by now, and left what it saw.
            (made, seen.try_recv().ok() == Some(expected))
        });
        match read.await {
            Ok((made, true)) => Ok(made),
            Ok((_, false)) => Err(Failure::lasting(format!(
                "{what} is damaged: its bytes have another digest; copy it anew"
            ))),
            Err(error) => Err(Failure::lasting(format!("reading {what}: {error}"))),
        }
    }
}

/// A file that is hashed while it is read; what is left of it at the end, too.
struct Hashed {
    file: File,
    hasher: Option<Hasher>,
    seen: std::sync::mpsc::Sender<Digest>,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        Ok(read)
    }
}

impl Drop for Hashed {
    fn drop(&mut self) {
        let mut rest = vec![0; 64 << 10];
        while matches!(self.read(&mut rest), Ok(1..)) {}
        if let Some(hasher) = self.hasher.take() {
            // Nobody waits for it where the work panicked.
            let _ = self.seen.send(hasher.finish());
        }
    }
}

fn bounded(path: &Path) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    let most = MAX_MANIFEST_BYTES as u64 + 1;
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == most {
        true => Err(io::Error::other("it is larger than a manifest can be")),
        false => Ok(bytes.into()),
    }
}

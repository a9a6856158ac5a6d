//! The folder of an image layout: blobs by digest, and the record of what they are called.
//!
//! **Invariant:** every file appears under its final name in one rename, after its bytes were checked and flushed; a crash at any
//! point leaves the layout as it was before or as it is after.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tempfile::TempPath;

use super::index::{Entry, Index, Key};
use crate::model::{
    image::{Digest, NameError, Tag, check_path},
    manifest::{MAX_MANIFEST_BYTES, Manifest},
};

/// The largest `index.json` that is read: about a million manifests.
const MAX_INDEX_BYTES: u64 = 512 << 20;

/// How deep an index may name indexes.
const MAX_DEPTH: usize = 4;

/// Where uploads lie until they are whole. An image layout may hold further folders.
const UPLOADS: &str = "uploads";

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder refuses.
    #[error("{doing} `{}` failed; check the disk, and who may write there", path.display())]
    File {
        /// What was being done, as in "writing".
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process holds the folder.
    #[error("`{}` is in use by another process; a layout has one writer at a time", .0.display())]
    InUse(PathBuf),
    /// `index.json` is not what the image spec says.
    #[error("`{}` is not the index of an image layout; restore it from a copy, or begin an empty folder", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file is too large to be read.
    #[error("`{}` is larger than {max} bytes, which nothing that was written here is; restore it from a copy", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many bytes are read at most.
        max: u64,
    },
    /// The bytes are not those that the digest names.
    #[error("the bytes hash to {got}, not to {wanted}; what was sent is damaged or wrongly named")]
    Mismatch {
        /// The digest they came under.
        wanted: Digest,
        /// The digest they have.
        got: Digest,
    },
    /// A manifest names what the layout does not hold.
    #[error("the manifest {manifest} names {} blobs or manifests that are not here, first {first}; push those before it", others + 1)]
    Missing {
        /// The manifest that names them.
        manifest: Digest,
        /// The first of them.
        first: Digest,
        /// How many more there are.
        others: usize,
        /// All of them.
        all: Vec<Digest>,
    },
    /// The repository's path breaks the grammar.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// An image layout, open for reading and writing by this process alone.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
    state: Mutex<State>,
    saved: Mutex<u64>,
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    version: u64,
}

/// Bytes on their way into the layout: a file that disappears unless it is kept.
#[derive(Debug)]
pub struct Staged {
    path: TempPath,
}

impl Staged {
    /// Returns where the bytes are to be written.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Layout {
    /// Opens the layout in `root`, which is made where it is missing. What an unclean end left half uploaded is thrown away.
    pub fn open(root: &Path) -> Result<Self, Error> {
        for folder in [root.join("blobs/sha256"), root.join(UPLOADS)] {
            fs::create_dir_all(&folder).map_err(failed("making the folder", &folder))?;
        }
        let lock = lock(root)?;
        empty(&root.join(UPLOADS))?;
        let layout = Layout {
            root: root.to_owned(),
            state: Mutex::default(),
            saved: Mutex::new(0),
            _lock: lock,
        };
        layout.load()?;
        Ok(layout)
    }

    /// Returns the names of all repositories, sorted.
    pub fn repositories(&self) -> Vec<String> {
        let state = held(&self.state);
        state.index.repositories().map(str::to_owned).collect()
    }

    /// Returns the tags of a repository, sorted; `None` where there is no such repository.
    pub fn tags(&self, repository: &str) -> Option<Vec<Tag>> {
        let state = held(&self.state);
        Some(state.index.tags(repository)?.cloned().collect())
    }

    /// Returns the manifest that `key` names in `repository`.
    pub fn find(&self, repository: &str, key: &Key) -> Option<Entry> {
        held(&self.state).index.find(repository, key).cloned()
    }

    /// Returns where a blob's bytes are, whether or not they are there.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let folder = self.root.join("blobs").join(digest.algorithm());
        folder.join(digest.hex())
    }

    /// Returns the length of a blob; `None` where it is not held.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Ok(data) if data.is_file() => Ok(Some(data.len())),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("looking at", &path)(e)),
        }
    }

    /// Keeps bytes as a blob and returns their digest; what is held already is not written again.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        self.put_blob_as(bytes, &digest)?;
        Ok(digest)
    }

    /// Makes an empty file for a blob that arrives in pieces.
    pub fn stage(&self) -> Result<Staged, Error> {
        let folder = self.root.join(UPLOADS);
        let file = new_file(&folder).map_err(failed("making a file in", &folder))?;
        Ok(Staged {
            path: file.into_temp_path(),
        })
    }

    /// Gives staged bytes their name. They have been flushed, and have the digest `got`, which has to be the one `wanted`.
    pub fn keep(&self, staged: Staged, wanted: &Digest, got: &Digest) -> Result<(), Error> {
        if wanted != got {
            return Err(Error::Mismatch {
                wanted: wanted.clone(),
                got: got.clone(),
            });
        }
        if self.blob_size(wanted)?.is_some() {
            return Ok(());
        }
        let path = self.blob_path(wanted);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed("making the folder", folder))?;
        }
        let persisted = staged.path.persist(&path);
        persisted.map_err(|e| failed("writing", &path)(e.error))
    }

    /// Keeps a manifest under its digest, and under a tag where one is given, and makes that durable.
    ///
    /// All it names has to be held: its blobs by the layout, its children by the repository.
    pub fn put_manifest(
        &self,
        repository: &str,
        manifest: &Manifest,
        tag: Option<&Tag>,
    ) -> Result<(), Error> {
        self.record(repository, manifest, tag)?;
        self.save()
    }

    /// As [`Layout::put_manifest`], but what the manifest is called is lost unless [`Layout::save`] follows: for many at once.
    pub fn record(
        &self,
        repository: &str,
        manifest: &Manifest,
        tag: Option<&Tag>,
    ) -> Result<(), Error> {
        check_path(repository)?;
        self.check_complete(repository, manifest)?;
        self.put_blob_as(&manifest.raw, &manifest.digest)?;
        let entry = Entry {
            digest: manifest.digest.clone(),
            media_type: manifest.media_type.clone(),
            size: manifest.raw.len() as u64,
        };
        let mut state = held(&self.state);
        state.index.put(repository, entry, tag);
        state.version += 1;
        Ok(())
    }

    /// Writes `index.json`, where it is not up to date. Callers that come while one writes share the next write.
    pub fn save(&self) -> Result<(), Error> {
        let wanted = held(&self.state).version;
        let mut saved = held(&self.saved);
        if *saved >= wanted {
            return Ok(());
        }
        let (text, version) = {
            let state = held(&self.state);
            (state.index.render(), state.version)
        };
        // The names of new blobs are durable once their folder is flushed; only then may the index name them.
        flush_folder(&self.root.join("blobs/sha256"))?;
        self.replace("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.replace("index.json", &text)?;
        flush_folder(&self.root)?;
        *saved = version;
        Ok(())
    }

    /// Reads a manifest's bytes, which are checked against its digest.
    pub fn read_manifest(&self, entry: &Entry) -> Result<Bytes, Error> {
        let path = self.blob_path(&entry.digest);
        let bytes = read_bounded(&path, MAX_MANIFEST_BYTES as u64)?;
        if entry.digest.matches(&bytes) {
            return Ok(bytes.into());
        }
        Err(Error::Mismatch {
            wanted: entry.digest.clone(),
            got: Digest::of(&bytes),
        })
    }

    fn load(&self) -> Result<(), Error> {
        let path = self.root.join("index.json");
        if !path.exists() {
            held(&self.state).version = 1;
            return self.save();
        }
        let text = read_bounded(&path, MAX_INDEX_BYTES)?;
        let mut index = Index::parse(&text).map_err(|source| Error::Index { path, source })?;
        self.add_children(&mut index);
        held(&self.state).index = index;
        Ok(())
    }

    /// Adds the children of indexes, which other tools do not list, to the repositories that hold the indexes.
    fn add_children(&self, index: &mut Index) {
        for _ in 0..MAX_DEPTH {
            let found: Vec<(String, Entry)> = index
                .entries()
                .flat_map(|(repository, entry)| {
                    let children = self.children(entry);
                    children
                        .into_iter()
                        .map(move |e| (repository.to_owned(), e))
                })
                .filter(|(name, e)| index.find(name, &Key::Digest(e.digest.clone())).is_none())
                .collect();
            if found.is_empty() {
                return;
            }
            for (repository, entry) in found {
                index.put(&repository, entry, None);
            }
        }
    }

    /// Returns the manifests that an index names and that are here; none for what is not a readable index.
    fn children(&self, entry: &Entry) -> Vec<Entry> {
        let is_index = entry.media_type.contains("index") || entry.media_type.contains("list");
        let parsed = is_index
            .then(|| self.read_manifest(entry).ok())
            .flatten()
            .and_then(|raw| Manifest::parse(raw, Some(&entry.media_type)).ok());
        let Some(manifest) = parsed else {
            return Vec::new();
        };
        manifest
            .children(&[])
            .filter(|child| matches!(self.blob_size(&child.digest), Ok(Some(_))))
            .map(|child| Entry {
                digest: child.digest.clone(),
                media_type: child.media_type.clone(),
                size: child.size,
            })
            .collect()
    }

    fn check_complete(&self, repository: &str, manifest: &Manifest) -> Result<(), Error> {
        let mut all = Vec::new();
        for blob in manifest.blobs() {
            if self.blob_size(&blob.digest)?.is_none() {
                all.push(blob.digest.clone());
            }
        }
        {
            let state = held(&self.state);
            all.extend(
                manifest
                    .children(&[])
                    .map(|child| child.digest.clone())
                    .filter(|d| {
                        state
                            .index
                            .find(repository, &Key::Digest(d.clone()))
                            .is_none()
                    }),
            );
        }
        match all.first() {
            None => Ok(()),
            Some(first) => Err(Error::Missing {
                manifest: manifest.digest.clone(),
                first: first.clone(),
                others: all.len() - 1,
                all,
            }),
        }
    }

    fn put_blob_as(&self, bytes: &[u8], digest: &Digest) -> Result<(), Error> {
        if self.blob_size(digest)?.is_some() {
            return Ok(());
        }
        let staged = self.stage()?;
        write_file(staged.path(), bytes).map_err(failed("writing", staged.path()))?;
        let mut hasher = digest.hasher();
        hasher.update(bytes);
        self.keep(staged, digest, &hasher.finish())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let staged = self.stage()?;
        write_file(staged.path(), bytes).map_err(failed("writing", staged.path()))?;
        let path = self.root.join(name);
        let persisted = staged.path.persist(&path);
        persisted.map_err(|e| failed("writing", &path)(e.error))
    }
}

/// Takes the folder for this process; the lock goes with the file.
fn lock(root: &Path) -> Result<File, Error> {
    let path = root.join(UPLOADS).join(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed("opening", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(root.to_owned())),
        Err(TryLockError::Error(e)) => Err(failed("locking", &path)(e)),
    }
}

/// Removes what uploads left behind.
fn empty(folder: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(folder).map_err(failed("reading", folder))?;
    for entry in entries {
        let entry = entry.map_err(failed("reading", folder))?;
        if entry.file_name() != ".lock" {
            let path = entry.path();
            fs::remove_file(&path).map_err(failed("removing", &path))?;
        }
    }
    Ok(())
}

/// Makes a file that other tools may read once it has its name, as they may read the rest of a layout.
fn new_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

fn flush_folder(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("flushing", path))
}

fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed("reading", path))?;
    let read = file.take(max + 1).read_to_end(&mut bytes);
    match read.map_err(failed("reading", path))? as u64 {
        length if length > max => Err(Error::TooLarge {
            path: path.to_owned(),
            max,
        }),
        _ => Ok(bytes),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// Locks; a thread that panicked while it held the lock left whole values behind.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

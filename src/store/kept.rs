//! Blobs that had to be read to make a plan, kept until they are in the mirror.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::NamedTempFile;

use crate::{
    model::image::{Digest, Hasher},
    store::Error,
};

/// A folder of blobs, each under its digest. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: Arc<Path>,
}

impl Kept {
    /// Opens the folder, which is made where it is missing; what an interrupted write left is swept.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Kept {
            what: folder.display().to_string(),
            source,
        };
        fs::create_dir_all(folder).map_err(failed)?;
        for entry in fs::read_dir(folder).map_err(failed)?.flatten() {
            if digest_of(&entry.path()).is_none() {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Kept {
            folder: folder.into(),
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder
            .join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// Returns the file of a kept blob.
    pub fn file(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.path(digest)).filter(|path| path.is_file())
    }

    /// Returns the digests of all kept blobs.
    pub fn all(&self) -> HashSet<Digest> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| digest_of(&entry.path()))
            .collect()
    }

    /// Lets go of a blob, for instance since it is in the mirror now.
    pub fn drop_blob(&self, digest: &Digest) {
        let _ = fs::remove_file(self.path(digest));
    }

    /// Lets go of blobs that were kept longer ago than `age`: plans that nobody applied, and releases that were in the mirror
    /// already, leave theirs. Whoever needs one all the same downloads it again.
    pub fn sweep(&self, age: Duration) {
        let old = |path: &Path| {
            let modified = fs::metadata(path).and_then(|meta| meta.modified());
            modified.is_ok_and(|at| at.elapsed().is_ok_and(|since| since >= age))
        };
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if digest_of(&path).is_some() && old(&path) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Makes a file for a blob whose digest is not known yet; it disappears unless it is [adopted](Kept::adopt).
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub fn unnamed(&self) -> Result<NamedTempFile, Error> {
        NamedTempFile::with_prefix_in(".part-", &self.folder).map_err(|source| Error::Kept {
            what: "a new blob".to_owned(),
            source,
        })
    }

    /// Keeps a file that was written as a blob, under the digest that its bytes have.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub fn adopt(&self, file: NamedTempFile, digest: &Digest) -> Result<(), Error> {
        let failed = |source| Error::Kept {
            what: digest.to_string(),
            source,
        };
        file.as_file().sync_all().map_err(failed)?;
        let kept = file.persist(self.path(digest));
        kept.map(drop).map_err(|error| failed(error.error))
    }

    /// Begins to keep a blob.
    pub fn writer(&self, digest: &Digest) -> Result<KeptWriter, Error> {
        let failed = |source| Error::Kept {
            what: digest.to_string(),
            source,
        };
        let file = NamedTempFile::with_prefix_in(".part-", &self.folder).map_err(failed)?;
        Ok(KeptWriter {
            file,
            hasher: digest.hasher(),
            digest: digest.clone(),
            path: self.path(digest),
        })
    }
}

fn digest_of(path: &Path) -> Option<Digest> {
    path.file_name()?
        .to_str()?
        .replacen('-', ":", 1)
        .parse()
        .ok()
}

/// A blob being kept: nothing is seen of it before [`KeptWriter::finish`], and then only if it is whole.
pub struct KeptWriter {
    file: NamedTempFile,
    hasher: Hasher,
    digest: Digest,
    path: PathBuf,
}

impl KeptWriter {
    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|source| Error::Kept {
            what: self.digest.to_string(),
            source,
        })
    }

    /// Keeps the blob if its bytes are what the digest names; whether they were.
    pub fn finish(self) -> Result<bool, Error> {
        let KeptWriter {
            file,
            hasher,
            digest,
            path,
        } = self;
        if hasher.finish() != digest {
            return Ok(false);
        }
        let failed = |source| Error::Kept {
            what: digest.to_string(),
            source,
        };
        file.as_file().sync_all().map_err(failed)?;
        let _: File = file.persist(path).map_err(|e| failed(e.error))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blobs_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::open(folder.path()).unwrap();
        let digest = Digest::of(b"whole");
        let mut writer = kept.writer(&digest).unwrap();
        writer.write(b"who").unwrap();
        assert_eq!(kept.file(&digest), None);
        assert!(!writer.finish().unwrap());
        let mut writer = kept.writer(&digest).unwrap();
        writer.write(b"who").unwrap();
        writer.write(b"le").unwrap();
        assert!(writer.finish().unwrap());
        assert_eq!(fs::read(kept.file(&digest).unwrap()).unwrap(), b"whole");
        assert_eq!(kept.all(), HashSet::from([digest.clone()]));
        kept.drop_blob(&digest);
        assert_eq!(kept.all(), HashSet::new());
    }

    #[test]
    fn what_was_kept_long_ago_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::open(folder.path()).unwrap();
        let keep = |content: &[u8], age: u64| {
            let digest = Digest::of(content);
            let mut writer = kept.writer(&digest).unwrap();
            writer.write(content).unwrap();
            assert!(writer.finish().unwrap());
            let file = File::options()
                .write(true)
                .open(kept.file(&digest).unwrap())
                .unwrap();
            let then = std::time::SystemTime::now() - Duration::from_secs(age);
            file.set_modified(then).unwrap();
            digest
        };
        keep(b"old", 7200);
        let young = keep(b"young", 0);
        kept.sweep(Duration::from_secs(3600));
        assert_eq!(kept.all(), HashSet::from([young]));
    }

    #[test]
    fn leftovers_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".part-x"), b"x").unwrap();
        Kept::open(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

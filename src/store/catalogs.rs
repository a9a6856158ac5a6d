//! Catalogs that were read, each in one file under its digest. They can be read again; losing them is safe.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::NamedTempFile;

use crate::{
    model::{catalog::wish::Filtered, image::Digest},
    store::Error,
};

/// A folder of kept catalogs. Cheap to clone. Several processes may use one: files appear and disappear whole.
#[derive(Debug, Clone)]
pub struct Catalogs {
    folder: Arc<Path>,
}

impl Catalogs {
    /// Opens the folder of catalogs in a state folder; it is made where it is missing.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let folder = state.join("catalogs");
        fs::create_dir_all(&folder).map_err(|source| Error::Folder {
            folder: folder.display().to_string(),
            source,
        })?;
        Ok(Catalogs {
            folder: folder.into(),
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = format!("{}-{}", digest.algorithm(), digest.hex());
        self.folder.join(name)
    }

    /// Opens a kept catalog.
    pub fn file(&self, digest: &Digest) -> Option<File> {
        let file = File::open(self.path(digest)).ok()?;
        // What is used is not swept.
        let _ = file.set_modified(std::time::SystemTime::now());
        Some(file)
    }

    /// Begins a catalog: a file that disappears unless it is kept.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub fn begin(&self) -> Result<NamedTempFile, Error> {
        let file = NamedTempFile::with_prefix_in(".part-", &self.folder);
        file.map_err(|source| self.failed(source))
    }

    /// Keeps a catalog. Its bytes are not flushed: every part has a checksum, and one that an outage cut is read anew.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub fn keep(&self, file: NamedTempFile, digest: &Digest) -> Result<File, Error> {
        let kept = file.persist(self.path(digest));
        kept.map_err(|error| self.failed(error.error))
    }

    /// Returns what was found out about the catalogs of an image set, by what was asked.
    pub fn answer(&self, wish: &Digest) -> Option<Vec<Filtered>> {
        let file = File::open(self.answer_path(wish)).ok()?;
        let _ = file.set_modified(std::time::SystemTime::now());
        // One that an outage cut is found out anew.
        serde_json::from_reader(io::BufReader::new(file)).ok()
    }

    /// Keeps what was found out about the catalogs of an image set.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub fn keep_answer(&self, wish: &Digest, answer: &[&Filtered]) -> Result<(), Error> {
        let mut file = io::BufWriter::new(self.begin()?);
        serde_json::to_writer(&mut file, answer).map_err(|error| self.failed(error.into()))?;
        // What is not written out before the end fails here; dropped, it would be lost without a word.
        let file = file.into_inner();
        let file = file.map_err(|error| self.failed(error.into_error()))?;
        let kept = file.persist(self.answer_path(wish));
        kept.map(drop).map_err(|error| self.failed(error.error))
    }

    fn answer_path(&self, wish: &Digest) -> PathBuf {
        self.folder.join(format!("answer-{}", wish.hex()))
    }

    /// Lets go of a catalog.
    pub fn forget(&self, digest: &Digest) {
        let _ = fs::remove_file(self.path(digest));
    }

    /// Lets go of what nobody used for as long as `age`, what was left half written included.
    pub fn sweep(&self, age: Duration) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|meta| meta.modified());
            if modified.is_ok_and(|at| at.elapsed().is_ok_and(|since| since >= age)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Kept {
            what: format!("a catalog in {}", self.folder.display()),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_catalog_is_there_whole_or_not_at_all() {
        let state = tempfile::tempdir().unwrap();
        let catalogs = Catalogs::open(state.path()).unwrap();
        let digest = Digest::of(b"catalog");
        let mut file = catalogs.begin().unwrap();
        file.write_all(b"packed").unwrap();
        assert!(catalogs.file(&digest).is_none());
        catalogs.keep(file, &digest).unwrap();
        let mut text = String::new();
        catalogs
            .file(&digest)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "packed");
        catalogs.sweep(Duration::from_secs(3600));
        assert!(catalogs.file(&digest).is_some());
        catalogs.forget(&digest);
        assert!(catalogs.file(&digest).is_none());
    }

    #[test]
    fn answers_are_there_again_and_cut_ones_are_none() {
        let state = tempfile::tempdir().unwrap();
        let catalogs = Catalogs::open(state.path()).unwrap();
        let wish = Digest::of(b"wish");
        assert_eq!(catalogs.answer(&wish), None);
        catalogs
            .keep_answer(&wish, &[&Filtered::default()])
            .unwrap();
        assert_eq!(catalogs.answer(&wish), Some(vec![Filtered::default()]));
        fs::write(catalogs.answer_path(&wish), b"[{").unwrap();
        assert_eq!(catalogs.answer(&wish), None);
    }

    #[test]
    fn what_nobody_used_is_let_go() {
        let state = tempfile::tempdir().unwrap();
        let catalogs = Catalogs::open(state.path()).unwrap();
        let digest = Digest::of(b"catalog");
        let file = catalogs.keep(catalogs.begin().unwrap(), &digest).unwrap();
        let then = std::time::SystemTime::now() - Duration::from_secs(7200);
        file.set_modified(then).unwrap();
        catalogs.sweep(Duration::from_secs(3600));
        assert!(catalogs.file(&digest).is_none());
    }
}

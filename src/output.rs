//! The output folder: the cluster documents, and by that the record of what has been published.
//!
//! A set of documents is written as one: staged in a hidden folder, committed by a marker, then moved into place. Whatever
//! moment a crash comes at, the next [`Output::open`](crate::output::Output::open) finds either nothing committed and drops it, or a commit and finishes it.
//! Tools that watch the folder see whole files only.
//!
//! **Invariant:** a file that imagesetd did not write, or that cannot be read back, is never touched.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::cluster::{
    document::Document,
    object::Object,
    published::{self, MAX_FILE_BYTES, Published, is_document_name},
};

/// Where a set is staged, inside the output folder: renaming stays on one file system.
const STAGED: &str = ".imagesetd-staged";
/// The marker in [`STAGED`] that says the set counts.
const COMMIT: &str = "commit.json";
/// What staged files end in, so that nothing that applies a folder recursively takes them for documents.
const STAGED_SUFFIX: &str = ".staged";
/// More files than this are not read.
const MAX_FILES: usize = 10_000;

/// Why the output folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{doing} `{}` failed: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error(
        "the output folder `{}` is in use by another imagesetd; stop that one, or give this one a folder of its own", path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file that would have been written or removed is not ours to touch. Nothing was written.
    #[error(
        "the documents in `{}` were not written, since one would take the place of another file: {problem}", path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// A sentence that names the file and the reason.
        problem: String,
    },
    /// The name of a document is not one for a file of this folder.
    #[error("`{name}` is not a name for a document in the output folder")]
    Name {
        /// The name.
        name: String,
    },
    /// A commit cannot be finished.
    #[error(
        "the unfinished write in `{}` cannot be understood ({why}); look at the folder's files and remove that folder", path.display()
    )]
    Marker {
        /// The staging folder.
        path: PathBuf,
        /// What is wrong with the marker.
        why: String,
    },
    /// There are too many files.
    #[error("the output folder `{}` holds more than {MAX_FILES} files; give imagesetd a folder of its own", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
}

/// What to do about an operating system's refusal, as the end of a sentence.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; give the user that imagesetd runs as write access to the output folder"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space there, the documents so far are untouched"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; mount it for writing, or set another output folder",
        _ => "",
    }
}

/// What a write does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Changes {
    /// The files that will be new or other than before.
    written: Vec<String>,
    /// The files that will be gone.
    removed: Vec<String>,
}

/// The output folder, held by this process alone.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    /// Held open for the lock on the folder; none where it is only read.
    _lock: Option<File>,
}

impl Output {
    /// Makes the folder where it is missing, takes it for this process and finishes what a crash interrupted.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        let made = DirBuilder::new().recursive(true).create(&folder);
        made.map_err(io("making the output folder", &folder))?;
        let lock = File::open(&folder).map_err(io("opening the output folder", &folder))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: folder }),
            // Some network file systems have no locks; then nobody can be kept away.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        recover(&folder)?;
        Ok(Output {
            folder,
            _lock: Some(lock),
        })
    }

    /// Only looks at the folder, which need not exist: nothing is made, taken or finished, and nothing should be written.
    pub fn read_only(folder: impl Into<PathBuf>) -> Self {
        Output {
            folder: folder.into(),
            _lock: None,
        }
    }

    /// Returns the folder's path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads what is published, see [`read`].
    pub fn read(&self) -> Result<Published, Error> {
        read(&self.folder)
    }

    /// Writes `documents` and `objects` and removes the files named by `remove`, as one.
    ///
    /// A file that already has the right bytes is not touched, and with nothing to do the folder is not either. Other files stay as
    /// they are, also documents of ours that are not named here. Returns how many files changed or went.
    pub fn write(
        &self,
        documents: &[Document],
        objects: &[Object],
        remove: &[String],
    ) -> Result<usize, Error> {
        // A write that failed after its commit still counts, and comes first.
        recover(&self.folder)?;
        let rules = documents.iter();
        let rules = rules.map(|d| (d.file_name.as_str(), d.text.as_str()));
        let others = objects.iter();
        let others = others.map(|o| (o.file_name.as_str(), o.text.as_str()));
        let files: Vec<_> = rules.chain(others).collect();
        let (steps, changes) = self.steps(&files, remove)?;
        for step in &steps {
            if let Err(error) = step.perform(&self.folder) {
                self.give_up();
                return Err(error);
            }
        }
        Ok(changes.written.len() + changes.removed.len())
    }

    /// Frees the space of a set that was not committed, as far as that goes; one that was is finished later.
    fn give_up(&self) {
        let staged = self.folder.join(STAGED);
        if !staged.join(COMMIT).exists()
            && let Err(error) = clear(&staged)
        {
            tracing::debug!(%error, "a staging folder stays behind");
        }
    }

    /// Returns what has to be done, in order, and what that comes to.
    fn steps(
        &self,
        files: &[(&str, &str)],
        remove: &[String],
    ) -> Result<(Vec<Step>, Changes), Error> {
        let mut stage = vec![Step::Prepare];
        let mut changes = Changes::default();
        for (name, text) in files {
            if self.existing(name)?.as_deref() != Some(text.as_bytes()) {
                changes.written.push((*name).to_owned());
                stage.push(Step::Stage {
                    name: (*name).to_owned(),
                    text: (*text).to_owned(),
                });
            }
        }
        for name in remove {
            if !files.iter().any(|(file, _)| file == name) && self.existing(name)?.is_some() {
                changes.removed.push(name.clone());
            }
        }
        if changes == Changes::default() {
            return Ok((Vec::new(), changes));
        }
        let marker = Marker {
            write: changes.written.clone(),
            remove: changes.removed.clone(),
        };
        stage.push(Step::Commit(marker.clone()));
        stage.extend(marker.steps());
        Ok((stage, changes))
    }

    /// Returns the bytes of a file that is ours; an error where another file has the name.
    fn existing(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        check_name(name)?;
        let Some(bytes) = bytes(&self.folder.join(name))? else {
            return Ok(None);
        };
        match published::inspect(name, &bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(problem) => Err(Error::Foreign {
                path: self.folder.clone(),
                problem,
            }),
        }
    }
}

/// Reads what is published in a folder without taking it: the documents by file name, and a sentence for each file that is left
/// alone. Nothing, where the folder is missing.
///
/// While another process writes, this may see some files as they were and some as they will be.
pub fn read(folder: &Path) -> Result<Published, Error> {
    let doing = "reading the output folder";
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Published::default()),
        entries => entries.map_err(io(doing, folder))?,
    };
    let mut files = Vec::new();
    let mut unnamed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io(doing, folder))?;
        match entry.file_name().into_string() {
            Ok(name) if !is_document_name(&name) => continue,
            Ok(name) => {
                if let Some(bytes) = bytes(&entry.path())? {
                    files.push((name, bytes));
                }
            }
            Err(name) => unnamed.push(format!("{name:?} is left alone: its name is not UTF-8")),
        }
        if files.len() > MAX_FILES {
            let path = folder.to_owned();
            return Err(Error::TooMany { path });
        }
    }
    let mut found = published::read_published(&files);
    found.problems.extend(unnamed);
    found.problems.sort();
    Ok(found)
}

/// Returns a file's bytes, one more than the largest document at most; nothing where there is no such file, and no bytes for
/// what is not a regular file (a pipe would be waited for).
fn bytes(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let doing = "reading the document";
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io(doing, path)(source)),
        Ok(metadata) if !metadata.is_file() => return Ok(Some(Vec::new())),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(io(doing, path))?;
    Ok(Some(bytes))
}

/// A committed set: what has to happen, whatever happens in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    write: Vec<String>,
    remove: Vec<String>,
}

impl Marker {
    /// Returns what follows the commit; each step may be done again.
    fn steps(self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.write.into_iter().map(Step::Install).collect();
        steps.extend(self.remove.into_iter().map(Step::Remove));
        steps.push(Step::Finish);
        steps
    }
}

/// One step of writing a set; a crash falls between two of them or inside one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Makes an empty staging folder.
    Prepare,
    /// Writes a new file beside the old one.
    Stage { name: String, text: String },
    /// From here on the set counts.
    Commit(Marker),
    /// Puts a staged file into its place.
    Install(String),
    /// Removes a file.
    Remove(String),
    /// Forgets the commit and the staging folder.
    Finish,
}

impl Step {
    fn perform(&self, folder: &Path) -> Result<(), Error> {
        let staged = folder.join(STAGED);
        match self {
            Step::Prepare => {
                clear(&staged)?;
                fs::create_dir(&staged).map_err(io("making the staging folder", &staged))
            }
            Step::Stage { name, text } => create(
                &staged.join(format!("{name}{STAGED_SUFFIX}")),
                text.as_bytes(),
            ),
            Step::Commit(marker) => commit(&staged, marker),
            Step::Install(name) => {
                let from = staged.join(format!("{name}{STAGED_SUFFIX}"));
                let to = folder.join(name);
                let moved = fs::rename(from, &to);
                already(moved).map_err(io("putting into place the document", &to))
            }
            Step::Remove(name) => {
                let path = folder.join(name);
                already(fs::remove_file(&path)).map_err(io("removing the document", &path))
            }
            Step::Finish => {
                sync(folder)?;
                let marker = staged.join(COMMIT);
                already(fs::remove_file(&marker)).map_err(io("removing the marker", &marker))?;
                clear(&staged)
            }
        }
    }
}

/// Writes the marker so that it is there whole or not at all, after everything staged has reached the disk.
fn commit(staged: &Path, marker: &Marker) -> Result<(), Error> {
    let path = staged.join(COMMIT);
    let text = serde_json::to_vec(marker).map_err(|e| Error::Marker {
        path: staged.to_owned(),
        why: e.to_string(),
    })?;
    let draft = staged.join("draft");
    create(&draft, &text)?;
    sync(staged)?;
    fs::rename(&draft, &path).map_err(io("writing the marker", &path))?;
    sync(staged)
}

/// Finishes a committed set, or drops one that was not committed.
fn recover(folder: &Path) -> Result<(), Error> {
    let staged = folder.join(STAGED);
    match fs::symlink_metadata(&staged) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io("looking for an unfinished write in", &staged)(source)),
        Ok(_) => {}
    }
    let path = staged.join(COMMIT);
    let text = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return clear(&staged),
        text => text.map_err(io("reading the marker", &path))?,
    };
    let marker: Marker = serde_json::from_slice(&text).map_err(|e| Error::Marker {
        path: staged.clone(),
        why: e.to_string(),
    })?;
    for name in marker.write.iter().chain(&marker.remove) {
        check_name(name)?;
    }
    tracing::info!(folder = %folder.display(), files = marker.write.len() + marker.remove.len(), "finishing an interrupted write");
    marker
        .steps()
        .iter()
        .try_for_each(|step| step.perform(folder))
}

/// Whether a name stays inside the folder and is one that is read back.
fn check_name(name: &str) -> Result<(), Error> {
    if is_document_name(name) && !name.contains(['/', '\0']) {
        Ok(())
    } else {
        let name = name.chars().take(120).collect();
        Err(Error::Name { name })
    }
}

/// Writes a new file to the disk, readable by all whatever the umask is: other users' tools apply it.
fn create(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(path)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io("writing", path))
}

/// Removes the staging folder and the files in it.
fn clear(staged: &Path) -> Result<(), Error> {
    already(fs::remove_dir_all(staged)).map_err(io("removing the staging folder", staged))
}

fn sync(folder: &Path) -> Result<(), Error> {
    let synced = File::open(folder).and_then(|file| file.sync_all());
    synced.map_err(io("writing to the disk the folder", folder))
}

/// What is gone already has been moved or removed before the crash that is being recovered from.
fn already(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::MetadataExt, time::SystemTime};

    use super::*;
    use crate::{
        cluster::{Kind, Purpose, document::Rule},
        model::{imageset::SetName, policy::MirrorSourcePolicy},
    };

    fn document(set: &str, mirror: &str) -> Document {
        let rule = Rule {
            source: "quay.io/a".parse().unwrap(),
            mirrors: vec![mirror.parse().unwrap()],
            policy: MirrorSourcePolicy::AllowContactingSource,
        };
        Document::new(
            SetName(set.into()),
            Purpose::Release,
            Kind::Digest,
            vec![rule],
        )
    }

    fn rules(documents: &[Document]) -> Published {
        Published {
            documents: documents.to_vec(),
            ..Published::default()
        }
    }

    /// Every file below a folder, with its text.
    fn files(folder: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                found.insert(name, "a folder".into());
            } else {
                found.insert(name, fs::read_to_string(entry.path()).unwrap());
            }
        }
        found
    }

    fn texts(documents: &[&Document]) -> BTreeMap<String, String> {
        documents
            .iter()
            .map(|d| (d.file_name.clone(), d.text.clone()))
            .collect()
    }

    #[test]
    fn what_is_written_is_read_back_and_left_alone_when_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let output = Output::open(&path).unwrap();
        let (a, b) = (document("a", "m.lan/a"), document("b", "m.lan/b"));
        let both = [a.clone(), b.clone()];
        assert_eq!(output.write(&both, &[], &[]).unwrap(), 2);
        assert_eq!(output.read().unwrap(), rules(&both));
        let file = path.join(&a.file_name);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);

        let long_ago = SystemTime::UNIX_EPOCH;
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        let other = document("b", "m.lan/other");
        let done = output.write(&[a.clone(), other.clone()], &[], &[]).unwrap();
        assert_eq!(done, 1);
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), long_ago);
        assert_eq!(
            output.write(&[a.clone(), other.clone()], &[], &[]).unwrap(),
            0
        );

        let done = output
            .write(
                std::slice::from_ref(&a),
                &[],
                std::slice::from_ref(&b.file_name),
            )
            .unwrap();
        assert_eq!(done, 1);
        assert_eq!(files(&path), texts(&[&a]));
    }

    #[test]
    fn a_crash_at_any_step_leaves_all_of_it_or_nothing() {
        let (a, b, c) = (
            document("a", "m.lan/a"),
            document("b", "m.lan/b"),
            document("c", "m.lan/c"),
        );
        let new = [document("a", "m.lan/new"), c.clone()];
        let before = texts(&[&a, &b]);
        let after = texts(&[&new[0], &c]);
        let mut seen = [0, 0];
        for crash in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let output = Output::open(folder.path()).unwrap();
            output.write(&[a.clone(), b.clone()], &[], &[]).unwrap();
            let pairs: Vec<_> = new
                .iter()
                .map(|d| (d.file_name.as_str(), d.text.as_str()))
                .collect();
            let (steps, _) = output
                .steps(&pairs, std::slice::from_ref(&b.file_name))
                .unwrap();
            if crash > steps.len() {
                break;
            }
            for step in &steps[..crash] {
                step.perform(folder.path()).unwrap();
            }
            // The step that the crash falls into has done the half of it.
            match steps.get(crash) {
                Some(Step::Stage { name, text }) => {
                    let file = folder
                        .path()
                        .join(STAGED)
                        .join(format!("{name}{STAGED_SUFFIX}"));
                    fs::write(file, &text[..text.len() / 2]).unwrap();
                }
                Some(Step::Commit(_)) => {
                    fs::write(folder.path().join(STAGED).join("draft"), "{\"wri").unwrap()
                }
                _ => {}
            }
            drop(output);
            let committed = steps[..crash]
                .iter()
                .any(|step| matches!(step, Step::Commit(_)));
            Output::open(folder.path()).unwrap();
            assert_eq!(
                files(folder.path()),
                if committed { &after } else { &before }.clone(),
                "crash before step {crash}"
            );
            seen[usize::from(committed)] += 1;
        }
        assert_eq!(seen, [4, 5], "each step was crashed at");
    }

    #[test]
    fn recovery_may_crash_as_well() {
        let (a, b) = (document("a", "m.lan/a"), document("b", "m.lan/b"));
        for crash in 0..4 {
            let folder = tempfile::tempdir().unwrap();
            let output = Output::open(folder.path()).unwrap();
            let pairs = [
                (a.file_name.as_str(), a.text.as_str()),
                (b.file_name.as_str(), b.text.as_str()),
            ];
            let (steps, _) = output.steps(&pairs, &[]).unwrap();
            for step in &steps[..4] {
                step.perform(folder.path()).unwrap();
            }
            for step in &steps[4..][..crash.min(2)] {
                step.perform(folder.path()).unwrap();
            }
            if crash == 3 {
                // Inside the last step: the marker is gone, the folder is not.
                fs::remove_file(folder.path().join(STAGED).join(COMMIT)).unwrap();
            }
            drop(output);
            Output::open(folder.path()).unwrap();
            assert_eq!(files(folder.path()), texts(&[&a, &b]), "{crash}");
        }
    }

    #[test]
    fn a_write_that_fails_after_its_commit_is_finished_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::open(folder.path()).unwrap();
        let (a, b) = (document("a", "m.lan/a"), document("b", "m.lan/b"));
        // The second document cannot be put into place while a folder has its name.
        let pairs = [
            (a.file_name.as_str(), a.text.as_str()),
            (b.file_name.as_str(), b.text.as_str()),
        ];
        let (steps, _) = output.steps(&pairs, &[]).unwrap();
        fs::create_dir(folder.path().join(&b.file_name)).unwrap();
        let failed = steps
            .iter()
            .try_for_each(|step| step.perform(folder.path()));
        assert!(
            failed
                .unwrap_err()
                .to_string()
                .contains("putting into place")
        );
        assert!(output.write(&[], &[], &[]).is_err());
        fs::remove_dir(folder.path().join(&b.file_name)).unwrap();
        output.write(&[], &[], &[]).unwrap();
        assert_eq!(files(folder.path()), texts(&[&a, &b]));
    }

    #[test]
    fn a_write_that_fails_before_its_commit_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::open(folder.path()).unwrap();
        let a = document("a", "m.lan/a");
        // Twice the same name cannot be staged.
        assert!(output.write(&[a.clone(), a.clone()], &[], &[]).is_err());
        assert_eq!(files(folder.path()), BTreeMap::new());
        output.write(std::slice::from_ref(&a), &[], &[]).unwrap();
        assert_eq!(files(folder.path()), texts(&[&a]));
    }

    #[test]
    fn files_that_are_not_ours_are_named_and_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let a = document("a", "m.lan/a");
        fs::write(folder.path().join(&a.file_name), "mine: yes\n").unwrap();
        fs::write(folder.path().join("other.yaml"), "apiVersion: [").unwrap();
        fs::write(folder.path().join("README.md"), "hello").unwrap();
        fs::create_dir(folder.path().join("sub.yaml")).unwrap();
        let before = files(folder.path());
        let output = Output::open(folder.path()).unwrap();
        let problems = output.read().unwrap().problems;
        assert_eq!(problems.len(), 3, "{problems:#?}");
        let error = output
            .write(&[document("b", "m.lan/b"), a.clone()], &[], &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("were not written") && error.contains(&a.file_name),
            "{error}"
        );
        assert!(
            output
                .write(&[], &[], std::slice::from_ref(&a.file_name))
                .is_err()
        );
        assert!(output.write(&[], &[], &["../x.yaml".into()]).is_err());
        assert_eq!(files(folder.path()), before);
    }

    #[test]
    fn a_folder_belongs_to_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::open(folder.path()).unwrap();
        let error = Output::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("in use by another imagesetd"), "{error}");
        assert_eq!(read(folder.path()).unwrap(), Published::default());
        drop(output);
        Output::open(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Output::open(file.join("out")).unwrap_err().to_string();
        assert!(error.starts_with("making the output folder `"), "{error}");
        let full = Error::Io {
            doing: "writing",
            path: "/out/x".into(),
            source: io::Error::from(io::ErrorKind::StorageFull),
        };
        assert_eq!(
            full.to_string(),
            "writing `/out/x` failed: no storage space; free some space there, the documents so far are untouched"
        );
        assert_eq!(
            read(&folder.path().join("missing")).unwrap(),
            Published::default()
        );
    }

    #[test]
    fn a_marker_that_is_no_marker_stops_everything() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(STAGED)).unwrap();
        let marker = folder.path().join(STAGED).join(COMMIT);
        fs::write(&marker, "{}").unwrap();
        assert!(
            Output::open(folder.path())
                .unwrap_err()
                .to_string()
                .contains("cannot be understood")
        );
        fs::write(&marker, "{\"write\":[\"../../x.yaml\"],\"remove\":[]}").unwrap();
        assert!(matches!(
            Output::open(folder.path()).unwrap_err(),
            Error::Name { .. }
        ));
    }
}

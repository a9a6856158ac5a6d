//! Reads the YAML files below a directory, within bounds.
//!
//! Blocking; callers run it off the async threads.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::libc;

use crate::gitops::{File, is_considered, shown};

/// The largest file that is read whole, in bytes; an image set document may not be larger.
pub const MAX_FILE: usize = 4 << 20;

/// How many YAML files a directory may hold.
pub const MAX_FILES: usize = 10_000;

/// How many bytes the YAML files of a directory may hold together.
pub const MAX_TOTAL: usize = 256 << 20;

/// How deep folders may be nested below the directory.
pub const MAX_DEPTH: usize = 32;

/// How many entries, of whatever kind, are looked at.
const MAX_ENTRIES: usize = 200_000;

/// How often a file that changes while it is read is read again.
const READS: usize = 3;

/// Why one file of the directory cannot be read, as a clause that follows its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The operating system refused.
    #[error("cannot be read: {0}; make it readable for the user that the daemon runs as")]
    Refused(String),
    /// A symbolic link to nothing.
    #[error("is a symbolic link to `{0}`, which does not exist")]
    Dangling(String),
    /// A symbolic link out of the Git work tree; following it would show files of this machine to whoever may commit.
    #[error("is a symbolic link to `{0}`, outside of the Git work tree, and is not followed")]
    LeadsOut(String),
    /// A socket, a device, a pipe.
    #[error("is neither a file nor a folder")]
    Special,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The directory, or a folder in it, cannot be read now.
    #[error("reading the folder `{}` failed: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// There is more than anybody keeps in such a directory.
    #[error(
        "`{}` holds more than {limit}; let `directory` name the folder that holds the image sets only", path.display()
    )]
    TooMuch { path: PathBuf, limit: String },
    /// Something changed during the reading, again and again.
    #[error("`{}` keeps changing while it is read", path.display())]
    Changing { path: PathBuf },
}

/// A folder or file that stands for its path at one moment; another one may take the path later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Id {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Id {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// A file, and what comparing it with a commit needs.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) file: File,
    /// Where it is when all links are followed; `None` where that is not known.
    pub(super) real: Option<PathBuf>,
}

/// A symbolic link that was met.
#[derive(Debug)]
pub(super) struct Link {
    /// The link itself, with the links before it followed.
    pub(super) real: PathBuf,
    /// What it holds.
    pub(super) target: Vec<u8>,
}

/// The YAML files below a directory.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Sorted by name.
    pub(super) entries: Vec<Entry>,
    pub(super) links: Vec<Link>,
    /// All folders that were read, the directory first.
    pub(super) folders: Vec<(PathBuf, Id)>,
}

/// Reads the tree at `root`, which has no links in it; `directory` is its name for people.
///
/// Links are followed, within `fence` where there is one.
pub(super) fn read(directory: &Path, root: &Path, fence: Option<&Path>) -> Result<Tree, Error> {
    let mut walk = Walk {
        directory,
        fence,
        tree: Tree::default(),
        seen: 0,
        total: 0,
    };
    walk.folder("", root, &mut Vec::new())?;
    let mut tree = walk.tree;
    tree.entries.sort_by(|a, b| a.file.name.cmp(&b.file.name));
    Ok(tree)
}

struct Walk<'a> {
    directory: &'a Path,
    fence: Option<&'a Path>,
    tree: Tree,
    seen: usize,
    total: usize,
}

impl Walk<'_> {
    /// Reads the folder `name` (empty for the directory), which is at `real`; `above` are the real paths that lead to it.
    fn folder(&mut self, name: &str, real: &Path, above: &mut Vec<PathBuf>) -> Result<(), Error> {
        // A link back to a folder above holds nothing new.
        if above.iter().any(|folder| folder == real) {
            return Ok(());
        }
        if above.len() > MAX_DEPTH {
            return Err(self.too_much(format!("{MAX_DEPTH} levels of folders")));
        }
        let failed = |source: io::Error| {
            let path = self.directory.join(name);
            match source.kind() {
                // It went away since its own folder was listed.
                io::ErrorKind::NotFound if !name.is_empty() => Error::Changing { path },
                _ => Error::Folder { path, source },
            }
        };
        let id = fs::metadata(real).map(|m| Id::of(&m)).map_err(failed)?;
        let listing = fs::read_dir(real).map_err(failed)?;
        self.tree.folders.push((real.to_owned(), id));
        above.push(real.to_owned());
        for entry in listing {
            let entry = entry.map_err(failed)?;
            self.entry(name, real, &entry.file_name(), above)?;
        }
        above.pop();
        Ok(())
    }

    fn entry(
        &mut self,
        folder: &str,
        real_folder: &Path,
        entry: &OsStr,
        above: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        self.seen += 1;
        if self.seen > MAX_ENTRIES {
            return Err(self.too_much(format!("{MAX_ENTRIES} entries")));
        }
        if entry.as_bytes().starts_with(b".") {
            return Ok(());
        }
        let name = match folder {
            "" => entry.to_string_lossy().into_owned(),
            folder => format!("{folder}/{}", entry.to_string_lossy()),
        };
        let path = real_folder.join(entry);
        let kind = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.file_type(),
            // It went away since the listing, as files do.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return self.unreadable(name, refused(&e)),
        };
        if kind.is_symlink() {
            self.link(name, &path, above)
        } else if kind.is_dir() {
            self.folder(&name, &path, above)
        } else if is_considered(&name) {
            self.file(name, &path)
        } else {
            Ok(())
        }
    }

    /// Follows the link at `path`.
    fn link(&mut self, name: String, path: &Path, above: &mut Vec<PathBuf>) -> Result<(), Error> {
        let considered = is_considered(&name);
        let Ok(target) = fs::read_link(path) else {
            // It was a link a moment ago.
            return Err(Error::Changing {
                path: self.directory.join(name),
            });
        };
        let said = target.to_string_lossy().into_owned();
        self.tree.links.push(Link {
            real: path.to_owned(),
            target: target.as_os_str().as_bytes().to_vec(),
        });
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(_) if !considered => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return self.unreadable(name, Unreadable::Dangling(said));
            }
            Err(e) => return self.unreadable(name, refused(&e)),
        };
        let is_folder = real.is_dir();
        if !is_folder && !considered {
            return Ok(());
        }
        if self.fence.is_some_and(|fence| !real.starts_with(fence)) {
            return self.unreadable(name, Unreadable::LeadsOut(said));
        }
        if is_folder {
            self.folder(&name, &real, above)
        } else {
            self.file(name, &real)
        }
    }

    fn file(&mut self, name: String, real: &Path) -> Result<(), Error> {
        match read_file(real) {
            Ok(Some(bytes)) => {
                self.total += bytes.len();
                self.push(name, Ok(bytes), Some(real.to_owned()))
            }
            Ok(None) => Err(Error::Changing {
                path: self.directory.join(name),
            }),
            Err(Failed::Special) => self.unreadable(name, Unreadable::Special),
            // It went away since the listing, as files do; so does one on NFS that was replaced.
            Err(Failed::Io(e)) if e.kind() == io::ErrorKind::NotFound || is_stale(&e) => {
                Err(Error::Changing {
                    path: self.directory.join(name),
                })
            }
            Err(Failed::Io(e)) => self.unreadable(name, refused(&e)),
        }
    }

    fn unreadable(&mut self, name: String, why: Unreadable) -> Result<(), Error> {
        self.push(name, Err(why), None)
    }

    fn push(
        &mut self,
        name: String,
        bytes: Result<Vec<u8>, Unreadable>,
        real: Option<PathBuf>,
    ) -> Result<(), Error> {
        let file = File {
            path: shown(self.directory, &name),
            name,
            bytes,
        };
        self.tree.entries.push(Entry { file, real });
        if self.tree.entries.len() > MAX_FILES {
            return Err(self.too_much(format!("{MAX_FILES} YAML files")));
        }
        if self.total > MAX_TOTAL {
            return Err(self.too_much(format!("{} MiB of YAML files", MAX_TOTAL >> 20)));
        }
        Ok(())
    }

    fn too_much(&self, limit: String) -> Error {
        Error::TooMuch {
            path: self.directory.to_owned(),
            limit,
        }
    }
}

enum Failed {
    Io(io::Error),
    Special,
}

impl From<io::Error> for Failed {
    fn from(source: io::Error) -> Self {
        Failed::Io(source)
    }
}

/// Reads a file, at most one byte more than [`MAX_FILE`]; `None` where it changed during each of a few readings.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, Failed> {
    for _ in 0..READS {
        // Without O_NONBLOCK a named pipe would hold us until somebody writes.
        let mut file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(Failed::Special);
        }
        let mut bytes = Vec::new();
        file.by_ref()
            .take(MAX_FILE as u64 + 1)
            .read_to_end(&mut bytes)?;
        let after = file.metadata()?;
        let whole = bytes.len() as u64 == after.len().min(MAX_FILE as u64 + 1);
        if stamp(&before) == stamp(&after) && whole {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn stamp(metadata: &fs::Metadata) -> (u64, i64, i64) {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

fn is_stale(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESTALE)
}

fn refused(error: &io::Error) -> Unreadable {
    Unreadable::Refused(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(tree: &Tree) -> Vec<&str> {
        tree.entries.iter().map(|e| e.file.name.as_str()).collect()
    }

    fn temp() -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        (temp, root)
    }

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn yaml_files_come_sorted_and_hidden_ones_not_at_all() {
        let (_temp, root) = temp();
        for name in [
            "b.yml",
            "a.yaml",
            "a/z.yaml",
            ".a.yaml.Xq81",
            ".git/x.yaml",
            "notes.txt",
        ] {
            write(root.join(name), name);
        }
        let tree = read(Path::new("sets"), &root, None).unwrap();
        assert_eq!(names(&tree), ["a.yaml", "a/z.yaml", "b.yml"]);
        assert_eq!(
            tree.entries[1].file,
            File {
                path: "sets/a/z.yaml".into(),
                name: "a/z.yaml".into(),
                bytes: Ok(b"a/z.yaml".to_vec()),
            }
        );
    }

    #[test]
    fn links_that_go_in_circles_end() {
        let (_temp, root) = temp();
        write(root.join("a/x.yaml"), "x");
        write(root.join("b/y.yaml"), "y");
        symlink("../b", root.join("a/to-b")).unwrap();
        symlink("../a", root.join("b/to-a")).unwrap();
        symlink(".", root.join("self")).unwrap();
        symlink("loop.yaml", root.join("loop.yaml")).unwrap();
        let tree = read(&root, &root, None).unwrap();
        assert_eq!(
            names(&tree),
            [
                "a/to-b/y.yaml",
                "a/x.yaml",
                "b/to-a/x.yaml",
                "b/y.yaml",
                "loop.yaml"
            ]
        );
        assert!(tree.entries[4].file.bytes.is_err());
    }

    #[test]
    fn a_link_out_of_the_fence_is_told_and_not_read() {
        let (_temp, root) = temp();
        write(root.join("secret/auth.json"), "secret");
        write(root.join("repo/shared/c.yaml"), "c");
        fs::create_dir_all(root.join("repo/sets")).unwrap();
        symlink("../../secret/auth.json", root.join("repo/sets/a.yaml")).unwrap();
        symlink("../../secret", root.join("repo/sets/folder")).unwrap();
        symlink("../shared/c.yaml", root.join("repo/sets/c.yaml")).unwrap();
        symlink("nowhere", root.join("repo/sets/d.yaml")).unwrap();
        let tree = read(&root, &root.join("repo/sets"), Some(&root.join("repo"))).unwrap();
        let found: Vec<_> = tree
            .entries
            .into_iter()
            .map(|e| (e.file.name, e.file.bytes))
            .collect();
        assert_eq!(
            found,
            [
                (
                    "a.yaml".into(),
                    Err(Unreadable::LeadsOut("../../secret/auth.json".into()))
                ),
                ("c.yaml".into(), Ok(b"c".to_vec())),
                ("d.yaml".into(), Err(Unreadable::Dangling("nowhere".into()))),
                (
                    "folder".into(),
                    Err(Unreadable::LeadsOut("../../secret".into()))
                ),
            ]
        );
    }

    #[test]
    fn a_huge_file_is_read_one_byte_beyond_the_limit() {
        let (_temp, root) = temp();
        let file = fs::File::create(root.join("a.yaml")).unwrap();
        file.set_len(MAX_FILE as u64 * 3).unwrap();
        let tree = read(&root, &root, None).unwrap();
        assert_eq!(
            tree.entries[0].file.bytes.as_ref().unwrap().len(),
            MAX_FILE + 1
        );
    }

    #[test]
    fn a_pipe_does_not_hold_the_reader() {
        let (_temp, root) = temp();
        nix::unistd::mkfifo(&root.join("a.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let tree = read(&root, &root, None).unwrap();
        assert_eq!(tree.entries[0].file.bytes, Err(Unreadable::Special));
    }

    #[test]
    fn too_deep_is_an_error_that_says_what_to_do() {
        let (_temp, root) = temp();
        let deep: PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 1).collect();
        fs::create_dir_all(root.join(deep)).unwrap();
        let error = read(Path::new("/sets"), &root, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`/sets` holds more than 32 levels of folders; let `directory` name the folder that holds the image sets only"
        );
    }

    #[test]
    fn a_missing_folder_is_an_error_with_its_cause() {
        let (_temp, root) = temp();
        let error = read(Path::new("/sets"), &root.join("no"), None).unwrap_err();
        assert!(
            matches!(error, Error::Folder { source, .. } if source.kind() == io::ErrorKind::NotFound)
        );
    }
}

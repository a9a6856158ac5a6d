//! Watches the directory of image sets and yields settled checkouts with their revision.
//!
//! ```text
//!  notify --bell--+
//!  rescan --------+--> look --(files, commit)--> settling --> Observation --> whoever decides
//!  poke ----------+      ^
//!                        | the directory
//!  sync (git fetch) -----+
//! ```
//!
//! Events say only that something happened somewhere; what is there is read anew each time, whole. So no way of updating a
//! checkout (`git pull`, git-sync's link, a ConfigMap's `..data`, rsync, an editor's rename) needs to be understood, and a lost
//! event costs one rescan interval and nothing else.
//!
//! **Invariant:** whatever is not a settled checkout is an observation that changes nothing. A directory that is missing, empty,
//! unreadable or half-written is never told as "all files are gone".

use std::path::{Path, PathBuf};

mod revision;

mod tree;

mod git;

mod worktree;

mod look;

mod settling;

mod bell;

mod watcher;

mod remote;

mod aside;

mod sync;

#[cfg(test)]
mod testing;

pub use git::Error as GitError;
pub use revision::Revision;
pub use sync::{Error as SyncError, GitSync, SyncState};
pub use tree::{MAX_DEPTH, MAX_FILE, MAX_FILES, MAX_TOTAL, Unreadable};
pub use watcher::{Options, Watcher, look_once, start};

/// One file of a checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The file below the directory as it was given, for messages.
    pub path: String,
    /// The file's path relative to the directory, with `/` on every system; the image set's name comes from it.
    ///
    /// A link to a folder that is not followed is told as a file with the folder's name.
    pub name: String,
    /// What the file holds, or why that is not known.
    ///
    /// A file larger than [`MAX_FILE`] has its first `MAX_FILE + 1` bytes here, so that whoever reads it sees that it is too
    /// large. An unreadable file is still a file: its image set is in trouble, not removed.
    pub bytes: Result<Vec<u8>, Unreadable>,
}

/// The directory's YAML files as they were at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// Which state of the directory this is.
    pub revision: Revision,
    /// The files `*.yaml` and `*.yml` that are not hidden, sorted by name.
    ///
    /// Empty only where a Git commit says so: the last file was deleted and that was committed.
    pub files: Vec<File>,
}

/// What a settled look at the directory found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The directory's files, settled.
    Checkout(Checkout),
    /// The directory is missing, empty or unreadable. It changes nothing.
    Missing {
        /// What is wrong and what to do, as a sentence for people.
        why: String,
    },
    /// The directory does not come to rest: a lock or a merge stays, or files keep changing. It changes nothing.
    Unsettled {
        /// What is going on and what to do, as a sentence for people.
        why: String,
    },
}

impl Observation {
    /// Returns the checkout, where there is one.
    pub fn checkout(&self) -> Option<&Checkout> {
        match self {
            Observation::Checkout(checkout) => Some(checkout),
            Observation::Missing { .. } | Observation::Unsettled { .. } => None,
        }
    }
}

/// Whether a name relative to the directory is of a file that is looked at: not hidden, `.yaml` or `.yml`.
fn is_considered(name: &str) -> bool {
    (name.ends_with(".yaml") || name.ends_with(".yml"))
        && !name.split('/').any(|part| part.starts_with('.'))
}

/// Joins a directory and a relative name into a text for messages.
fn shown(directory: &Path, name: &str) -> String {
    let joined: PathBuf = directory.join(name);
    joined.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_other_files_are_not_considered() {
        let considered = ["a.yaml", "b.yml", "prod/ocp-4.16.yaml"];
        let not = [
            ".a.yaml",
            ".a.yaml.Xa81Zq",
            "a.yaml~",
            "a.yaml.swp",
            ".git/a.yaml",
            "..data/a.yaml",
            "README.md",
            "prod/.cache/a.yaml",
            "yaml",
        ];
        assert!(considered.iter().all(|name| is_considered(name)));
        assert_eq!(not.iter().find(|name| is_considered(name)), None);
    }
}

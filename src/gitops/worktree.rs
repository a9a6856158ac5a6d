//! Asks Git what is committed, and compares a tree with it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;

use crate::gitops::{
    MAX_FILE, Unreadable,
    git::{Error, Repository},
    is_considered, tree,
};

/// What is in a Git folder while a command that takes several steps is not finished.
const IN_PROGRESS: [(&str, &str); 7] = [
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase or `git am`"),
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("index.lock", "a git command"),
    ("HEAD.lock", "a git command"),
];

/// Says what keeps the work tree from being settled, as a sentence.
pub(super) fn busy(repository: &Repository) -> Option<String> {
    let (file, what) = IN_PROGRESS
        .iter()
        .find(|(file, _)| repository.git_dir.join(file).symlink_metadata().is_ok())?;
    let file = repository.git_dir.join(file);
    Some(format!(
        "{what} is under way in `{}` (`{}` exists); finish or abort it, and remove that if no git is running",
        repository.top.display(),
        file.display()
    ))
}

/// What is checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The branch, or `HEAD` where none is checked out.
    pub(super) branch: String,
    /// The commit's hexadecimal name.
    pub(super) commit: String,
}

/// Reads what is checked out; `None` where there is no commit yet.
pub(super) async fn head(repository: &Repository) -> Result<Option<Head>, Error> {
    let args = ["HEAD", "--symbolic-full-name", "HEAD"];
    let text = match repository.look("rev-parse").text(&args).await {
        Ok(text) => text,
        // The branch is yet to be born.
        Err(Error::Failed { said, .. }) if said.contains("ambiguous argument 'HEAD'") => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let (commit, branch) = text.split_once('\n').unwrap_or((&text, "HEAD"));
    Ok(Some(Head {
        branch: branch
            .strip_prefix("refs/heads/")
            .unwrap_or(branch)
            .to_owned(),
        commit: commit.to_owned(),
    }))
}

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Blob {
    is_link: bool,
    id: String,
}

/// The files of a commit, by their path from the work tree's top.
#[derive(Debug)]
pub(super) struct Commit {
    blobs: BTreeMap<Vec<u8>, Blob>,
    top: PathBuf,
    /// The watched directory's path from the top, with `/` at its end; empty for the top itself.
    prefix: Vec<u8>,
}

impl Commit {
    /// Lists the files of the commit `head`, of which those below `directory`, in the work tree, are of interest.
    pub(super) async fn read(
        repository: &Repository,
        head: &Head,
        directory: &Path,
    ) -> Result<Self, Error> {
        let args = ["-r", "-z", "--full-tree", &head.commit];
        let listing = repository.look("ls-tree").run(&args).await?;
        Ok(Commit {
            blobs: listing.split(|&b| b == 0).filter_map(parse_entry).collect(),
            top: repository.top.clone(),
            prefix: prefix_of(&repository.top, directory),
        })
    }

    /// Whether the commit holds anything below the watched directory, or the directory is the work tree's top.
    pub(super) fn knows_directory(&self) -> bool {
        self.prefix.is_empty() || self.below(&self.prefix).next().is_some()
    }

    /// How many files that are looked at the commit has below the watched directory.
    pub(super) fn considered(&self) -> usize {
        self.considered_below(&self.prefix).count()
    }

    /// Whether every file and link of `tree` is as committed, and none is missing from it.
    pub(super) fn matches(&self, tree: &tree::Tree) -> bool {
        let files = tree.entries.iter().filter_map(|e| e.real.as_deref());
        let links = tree.links.iter().map(|l| l.real.as_path());
        let present: BTreeSet<&[u8]> = files.chain(links).filter_map(|p| self.path(p)).collect();
        tree.links.iter().all(|link| self.has_link(link))
            && tree.entries.iter().all(|entry| self.has_file(entry))
            && tree.folders.iter().all(|(folder, _)| {
                let prefix = prefix_of(&self.top, folder);
                self.considered_below(&prefix)
                    .all(|path| present.contains(path))
            })
    }

    fn has_link(&self, link: &tree::Link) -> bool {
        self.blob(&link.real)
            .is_some_and(|blob| blob.is_link && blob.id == blob_id(&blob.id, &link.target))
    }

    fn has_file(&self, entry: &tree::Entry) -> bool {
        match (&entry.file.bytes, &entry.real) {
            (Ok(bytes), Some(real)) => self
                .blob(real)
                .is_some_and(|blob| !blob.is_link && same(blob, bytes)),
            // The link itself is compared, what it points to is nobody's.
            (Err(Unreadable::Dangling(_) | Unreadable::LeadsOut(_)), _) => true,
            _ => false,
        }
    }

    fn blob(&self, real: &Path) -> Option<&Blob> {
        self.blobs.get(self.path(real)?)
    }

    /// Returns a path as the commit has it.
    fn path<'a>(&self, real: &'a Path) -> Option<&'a [u8]> {
        let path = real.strip_prefix(&self.top).ok()?;
        Some(path.as_os_str().as_bytes())
    }

    /// The paths below `prefix`.
    fn below<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.blobs
            .range(prefix.to_vec()..)
            .map(|(path, _)| path.as_slice())
            .take_while(move |path| path.starts_with(prefix))
    }

    /// The paths below `prefix` that a look at that folder would consider.
    fn considered_below<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.below(prefix)
            .filter(move |path| std::str::from_utf8(&path[prefix.len()..]).is_ok_and(is_considered))
    }
}

/// Whether the history of `head` ever held something at `directory`, which is below the work tree's top.
///
/// Git removes a folder with its last file; this tells that from a folder that is not mounted or never was.
pub(super) async fn once_held(
    repository: &Repository,
    head: &Head,
    directory: &Path,
) -> Result<bool, Error> {
    let Some(prefix) = directory
        .strip_prefix(&repository.top)
        .ok()
        .and_then(Path::to_str)
    else {
        return Ok(false);
    };
    let args = ["-1", head.commit.as_str(), "--", prefix];
    Ok(!repository.look("rev-list").run(&args).await?.is_empty())
}

fn prefix_of(top: &Path, directory: &Path) -> Vec<u8> {
    let prefix = directory.strip_prefix(top).unwrap_or(Path::new(""));
    let mut bytes = prefix.as_os_str().as_bytes().to_vec();
    if !bytes.is_empty() {
        bytes.push(b'/');
    }
    bytes
}

/// Reads `<mode> <type> <id>\t<path>`; only blobs are of interest.
fn parse_entry(entry: &[u8]) -> Option<(Vec<u8>, Blob)> {
    let tab = entry.iter().position(|&b| b == b'\t')?;
    let head = std::str::from_utf8(&entry[..tab]).ok()?;
    let mut words = head.split_ascii_whitespace();
    let (mode, kind, id) = (words.next()?, words.next()?, words.next()?);
    if kind != "blob" {
        return None;
    }
    let blob = Blob {
        is_link: mode == "120000",
        id: id.to_owned(),
    };
    Some((entry[tab + 1..].to_vec(), blob))
}

/// Whether `bytes`, read from a file, are what `blob` holds.
fn same(blob: &Blob, bytes: &[u8]) -> bool {
    // Too large to be read whole, and refused for it: nobody depends on what it holds.
    if bytes.len() > MAX_FILE {
        return true;
    }
    if blob.id == blob_id(&blob.id, bytes) {
        return true;
    }
    // With `core.autocrlf` or `eol=crlf` the work tree has other line ends than the commit.
    match with_unix_line_ends(bytes) {
        Cow::Borrowed(_) => false,
        Cow::Owned(unix) => blob.id == blob_id(&blob.id, &unix),
    }
}

fn with_unix_line_ends(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.windows(2).any(|pair| pair == b"\r\n") {
        return Cow::Borrowed(bytes);
    }
    let mut unix = Vec::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        if byte != b'\r' || bytes.get(at + 1) != Some(&b'\n') {
            unix.push(byte);
        }
    }
    Cow::Owned(unix)
}

/// Returns the name that Git gives a blob with `bytes`, in the object format that `like` is of.
fn blob_id(like: &str, bytes: &[u8]) -> String {
    let algorithm = match like.len() {
        64 => &digest::SHA256,
        _ => &digest::SHA1_FOR_LEGACY_USE_ONLY,
    };
    let mut hasher = digest::Context::new(algorithm);
    hasher.update(format!("blob {}\0", bytes.len()).as_bytes());
    hasher.update(bytes);
    hex::encode(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | git hash-object --stdin`
    const HELLO: &str = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";

    #[test]
    fn blobs_are_named_as_git_names_them() {
        assert_eq!(blob_id(HELLO, b"hello"), HELLO);
        // The same in a repository of the format sha256.
        let sha256 = "8aec4e4876f854f688d0ebfc8f37598f38e5fd6903cccc850ca36591175aeb60";
        assert_eq!(blob_id(sha256, b"hello"), sha256);
    }

    #[test]
    fn a_listing_is_read() {
        let line = format!("100644 blob {HELLO}\tprod/a b.yaml");
        assert_eq!(
            parse_entry(line.as_bytes()),
            Some((
                b"prod/a b.yaml".to_vec(),
                Blob {
                    is_link: false,
                    id: HELLO.into(),
                }
            ))
        );
        let submodule = format!("160000 commit {HELLO}\tsub");
        assert_eq!(parse_entry(submodule.as_bytes()), None);
        assert_eq!(parse_entry(b""), None);
    }

    #[test]
    fn other_line_ends_are_not_another_file() {
        let blob = |bytes: &[u8]| Blob {
            is_link: false,
            id: blob_id(HELLO, bytes),
        };
        assert!(same(&blob(b"a\nb\n"), b"a\r\nb\r\n"));
        assert!(same(&blob(b"a\r\n"), b"a\r\n"));
        assert!(!same(&blob(b"a\nb\n"), b"a\nc\n"));
    }
}

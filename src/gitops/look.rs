//! One look at the directory: what is there now, and whether Git vouches for it.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task::JoinHandle, time::timeout};

use crate::gitops::{
    Checkout, Revision,
    git::{self, Repository, repository_of},
    tree::{self, Id, Tree},
    worktree::{self, Commit, Head},
};

/// How long reading the files may take before the directory counts as unreadable (a network file system that does not answer).
const PATIENCE: Duration = Duration::from_secs(60);

/// How many links in a row are followed on the way to the directory, half of what Linux follows.
const MAX_LINKS: usize = 20;

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Files as Git has them committed: settled without waiting.
    Committed(Checkout),
    /// Files that nobody vouches for: settled when they stay.
    Files(Checkout),
    /// No files; said when it stays so.
    Missing(String),
    /// Something is under way; never to be used, however long it stays.
    Busy(String),
}

/// A look's result.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) found: Found,
    /// The folders in which changes would change the result; `None` where that could not be learnt.
    pub(super) folders: Option<Folders>,
}

/// Folders, and which ones they were.
pub(super) type Folders = Vec<(PathBuf, Id)>;

/// Looks at one directory, again and again.
#[derive(Debug)]
pub(super) struct Looker {
    directory: PathBuf,
    /// A reading that did not end in time; no second one is begun beside it.
    stuck: Option<JoinHandle<(Scene, Folders)>>,
}

impl Looker {
    pub(super) fn new(directory: PathBuf) -> Self {
        Looker {
            directory,
            stuck: None,
        }
    }

    /// Looks once.
    pub(super) async fn look(&mut self) -> Look {
        let (scene, folders) = match self.scene().await {
            Ok(read) => read,
            Err(found) => {
                return Look {
                    found,
                    folders: None,
                };
            }
        };
        let found = match (&scene.repository, &scene.seen) {
            (_, Seen::Busy(why)) => Found::Busy(why.clone()),
            (Some(repository), _) => self.judge_in_git(repository, &scene).await,
            (None, _) => self.judge(&scene),
        };
        Look {
            found,
            folders: Some(folders),
        }
    }

    /// Reads the directory off the async threads.
    async fn scene(&mut self) -> Result<(Scene, Folders), Found> {
        let directory = self.directory.clone();
        let mut reading = self
            .stuck
            .take()
            .unwrap_or_else(|| tokio::task::spawn_blocking(move || read(&directory)));
        match timeout(PATIENCE, &mut reading).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(panic)) => Err(Found::Missing(format!(
                "reading `{}` failed: {panic}",
                self.directory.display()
            ))),
            Err(_) => {
                self.stuck = Some(reading);
                Err(Found::Missing(format!(
                    "reading `{}` takes longer than {}s; look whether its file system answers",
                    self.directory.display(),
                    PATIENCE.as_secs()
                )))
            }
        }
    }

    /// Judges what is outside of Git.
    fn judge(&self, scene: &Scene) -> Found {
        match &scene.seen {
            Seen::Busy(why) => Found::Busy(why.clone()),
            Seen::Unreadable(why) => Found::Missing(why.clone()),
            Seen::Absent => Found::Missing(format!(
                "the directory `{}` does not exist; create it, mount it, or correct `directory`",
                self.directory.display()
            )),
            Seen::Tree(tree) if tree.entries.is_empty() => Found::Missing(format!(
                "the directory `{}` holds no YAML file; nothing is changed, since a disk that is not mounted looks the same",
                self.directory.display()
            )),
            Seen::Tree(tree) => {
                let files = files_of(tree);
                Found::Files(Checkout {
                    revision: Revision::of_files(&files),
                    files,
                })
            }
        }
    }

    /// Judges what is in a Git work tree; where Git does not answer, as if it were outside.
    async fn judge_in_git(&self, repository: &Repository, scene: &Scene) -> Found {
        match self.compared(repository, scene).await {
            Ok(Some(found)) => found,
            Ok(None) => self.judge(scene),
            Err(e @ git::Error::TimedOut { .. }) => Found::Busy(e.to_string()),
            Err(e) => {
                tracing::debug!(directory = %self.directory.display(), error = %e, "the revision is taken from names and bytes, since git gave no answer");
                self.judge(scene)
            }
        }
    }

    /// Compares the scene with the commit; `None` where the commit has nothing to say about the directory.
    async fn compared(
        &self,
        repository: &Repository,
        scene: &Scene,
    ) -> Result<Option<Found>, git::Error> {
        let Some(head) = worktree::head(repository).await? else {
            return Ok(None);
        };
        let commit = Commit::read(repository, &head, &scene.place).await?;
        let compared = match &scene.seen {
            Seen::Tree(tree) if !tree.entries.is_empty() => files(&head, &commit, tree),
            Seen::Tree(_) | Seen::Absent => self.nothing(repository, &head, &commit, scene).await?,
            Seen::Unreadable(_) | Seen::Busy(_) => None,
        };
        // What was read before and after a commit belongs to neither.
        if let Some(why) = worktree::busy(repository) {
            return Ok(Some(Found::Busy(why)));
        }
        if worktree::head(repository).await? != Some(head) {
            return Ok(Some(Found::Busy(format!(
                "another commit is checked out again and again in `{}`",
                repository.top.display()
            ))));
        }
        Ok(compared)
    }

    /// Judges a directory without files: a person may have deleted the last one, or the disk is not there.
    async fn nothing(
        &self,
        repository: &Repository,
        head: &Head,
        commit: &Commit,
        scene: &Scene,
    ) -> Result<Option<Found>, git::Error> {
        let considered = commit.considered();
        if considered > 0 {
            return Ok(Some(Found::Missing(format!(
                "`{}` has no YAML file, but commit {} has {considered} there; restore them with `git checkout`, or commit their deletion",
                self.directory.display(),
                head.commit
            ))));
        }
        let known =
            commit.knows_directory() || worktree::once_held(repository, head, &scene.place).await?;
        Ok(known.then(|| {
            Found::Committed(Checkout {
                revision: Revision::of_commit(&head.branch, &head.commit, false),
                files: Vec::new(),
            })
        }))
    }
}

/// Judges files of a work tree.
fn files(head: &Head, commit: &Commit, tree: &Tree) -> Option<Found> {
    // A folder that was never committed, in a work tree that is about something else (etckeeper, a home directory).
    if !commit.knows_directory() {
        return None;
    }
    let clean = commit.matches(tree);
    let checkout = Checkout {
        revision: Revision::of_commit(&head.branch, &head.commit, !clean),
        files: files_of(tree),
    };
    Some(if clean {
        Found::Committed(checkout)
    } else {
        Found::Files(checkout)
    })
}

fn files_of(tree: &Tree) -> Vec<super::File> {
    tree.entries
        .iter()
        .map(|entry| entry.file.clone())
        .collect()
}

/// What the file system shows, read without asking git.
#[derive(Debug)]
struct Scene {
    /// Where the directory is, or would be, with links followed.
    place: PathBuf,
    repository: Option<Repository>,
    seen: Seen,
}

#[derive(Debug)]
enum Seen {
    Tree(Tree),
    Absent,
    Unreadable(String),
    Busy(String),
}

/// Reads what is there; the folders to watch are found first, so that none is newer than the scene.
fn read(directory: &Path) -> (Scene, Folders) {
    let approaches = approaches(directory);
    let scene = Scene::read(directory);
    let folders = scene.folders(approaches);
    (scene, folders)
}

impl Scene {
    fn read(directory: &Path) -> Self {
        let place = match directory.canonicalize() {
            Ok(place) => place,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Scene::absent(directory),
            Err(e) => {
                let why = format!(
                    "the directory `{}` cannot be reached: {e}",
                    directory.display()
                );
                return Scene::nowhere(directory, Seen::Unreadable(why));
            }
        };
        let repository = repository_of(&place);
        let busy = repository.as_ref().and_then(worktree::busy);
        let seen = match busy {
            Some(why) => Seen::Busy(why),
            None => see(directory, &place, repository.as_ref()),
        };
        Scene {
            place,
            repository,
            seen,
        }
    }

    /// Describes a directory that is not there: git may have removed it with its last file.
    fn absent(directory: &Path) -> Self {
        let existing = directory
            .ancestors()
            .skip(1)
            .find_map(|above| Some((above, above.canonicalize().ok()?)));
        let Some((above, real)) = existing else {
            return Scene::nowhere(directory, Seen::Absent);
        };
        let repository = repository_of(&real);
        let place = real.join(directory.strip_prefix(above).unwrap_or(Path::new("")));
        let seen = match repository.as_ref().and_then(worktree::busy) {
            Some(why) => Seen::Busy(why),
            None => Seen::Absent,
        };
        Scene {
            place,
            repository,
            seen,
        }
    }

    fn nowhere(directory: &Path, seen: Seen) -> Self {
        Scene {
            place: directory.to_owned(),
            repository: None,
            seen,
        }
    }

    /// Returns the folders in which a change would be one of this scene.
    fn folders(&self, approaches: Vec<PathBuf>) -> Folders {
        let mut folders = match &self.seen {
            Seen::Tree(tree) => tree.folders.clone(),
            _ => Vec::new(),
        };
        let git_dir = self.repository.as_ref().map(|r| r.git_dir.clone());
        let others = approaches.into_iter().chain(git_dir);
        folders.extend(others.filter_map(identified));
        folders
    }
}

/// Returns the folders in which links on the way to `directory` can be turned elsewhere, or the directory itself replaced.
///
/// A watch on a link follows it and never hears of its replacement.
fn approaches(directory: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let Ok(directory) = std::path::absolute(directory) else {
        return folders;
    };
    links_on_the_way(&directory, MAX_LINKS, &mut folders);
    let existing = directory
        .ancestors()
        .skip(1)
        .find_map(|above| above.canonicalize().ok());
    folders.extend(existing);
    folders.sort();
    folders.dedup();
    folders
}

fn links_on_the_way(path: &Path, bound: usize, folders: &mut Vec<PathBuf>) {
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    for step in ancestors {
        let (Some(parent), Ok(target)) = (step.parent(), step.read_link()) else {
            continue;
        };
        folders.extend(parent.canonicalize());
        if bound > 0 {
            links_on_the_way(&parent.join(target), bound - 1, folders);
        }
    }
}

/// Returns a folder with its identity; `None` where it is not there.
fn identified(path: PathBuf) -> Option<(PathBuf, Id)> {
    let metadata = path.metadata().ok()?;
    metadata.is_dir().then(|| {
        let id = Id::of(&metadata);
        (path, id)
    })
}

fn see(directory: &Path, place: &Path, repository: Option<&Repository>) -> Seen {
    if !place.is_dir() {
        return Seen::Unreadable(format!(
            "`{}` is not a folder; let `directory` name the folder that holds the image sets",
            directory.display()
        ));
    }
    match tree::read(directory, place, repository.map(|r| r.top.as_path())) {
        Ok(tree) => Seen::Tree(tree),
        Err(tree::Error::Folder { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Seen::Absent
        }
        Err(e @ tree::Error::Changing { .. }) => Seen::Busy(e.to_string()),
        Err(e) => Seen::Unreadable(e.to_string()),
    }
}

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
    /// Whether the directory is made by fetching a branch.
    is_followed: bool,
    /// Why git gave no answer, as it was last logged.
    complaint: Option<String>,
    /// A reading that did not end in time; no second one is begun beside it.
    stuck: Option<JoinHandle<(Scene, Folders)>>,
}

impl Looker {
    /// Prepares to look at `directory`; `is_followed` where it is made by fetching a branch.
    pub(super) fn new(directory: PathBuf, is_followed: bool) -> Self {
        Looker {
            directory,
            is_followed,
            complaint: None,
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
            Seen::Absent if self.is_followed => Found::Missing(format!(
                "the directory `{}` does not exist yet; it comes with the first fetch of `git.url` that succeeds",
                self.directory.display()
            )),
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
    async fn judge_in_git(&mut self, repository: &Repository, scene: &Scene) -> Found {
        let compared = self.compared(repository, scene).await;
        self.complain(compared.as_ref().err().map(git::Error::to_string));
        match compared {
            Ok(Some(found)) => found,
            Err(e @ git::Error::TimedOut { .. }) => Found::Busy(e.to_string()),
            Ok(None) | Err(_) => self.judge(scene),
        }
    }

    /// Logs why git gave no answer, once as long as it is the same.
    fn complain(&mut self, complaint: Option<String>) {
        if let Some(why) = complaint.as_ref().filter(|_| complaint != self.complaint) {
            tracing::warn!(directory = %self.directory.display(), %why, "git gave no answer; the revision is taken from names and bytes");
        }
        self.complaint = complaint;
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
        folders.sort_by(|a, b| a.0.cmp(&b.0));
        folders.dedup();
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::gitops::{
        Unreadable,
        testing::{Repo, skipped},
    };

    async fn look(directory: &Path) -> Found {
        Looker::new(directory.to_owned(), false).look().await.found
    }

    /// Returns the revision and the files' names, for committed files only.
    fn committed(found: Found) -> (String, Vec<String>) {
        match found {
            Found::Committed(checkout) => brief(&checkout),
            other => panic!("not as committed: {other:?}"),
        }
    }

    fn uncommitted(found: Found) -> (String, Vec<String>) {
        match found {
            Found::Files(checkout) => brief(&checkout),
            other => panic!("vouched for, or no files: {other:?}"),
        }
    }

    fn brief(checkout: &Checkout) -> (String, Vec<String>) {
        let names = checkout.files.iter().map(|f| f.name.clone()).collect();
        (checkout.revision.to_string(), names)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&n| n.to_owned()).collect()
    }

    #[tokio::test]
    async fn a_clean_work_tree_carries_branch_and_commit() {
        let repo = Repo::new();
        repo.write("a.yaml", "a");
        repo.write("README.md", "r");
        let commit = repo.commit("1");
        let expected = (format!("main@sha1:{commit}"), names(&["a.yaml"]));
        assert_eq!(committed(look(&repo.top).await), expected);
        // What is not looked at makes nothing dirty.
        repo.write("README.md", "changed");
        repo.write("notes.txt", "new");
        repo.write(".b.yaml.Xq81Ab", "half");
        assert_eq!(committed(look(&repo.top).await), expected);
    }

    #[tokio::test]
    async fn a_subfolder_concerns_itself_only() {
        let repo = Repo::new();
        repo.write("sets/prod/a b.yaml", "a");
        repo.write("other/x.yaml", "x");
        let commit = repo.commit("1");
        repo.write("other/x.yaml", "changed");
        assert_eq!(
            committed(look(&repo.top.join("sets")).await),
            (format!("main@sha1:{commit}"), names(&["prod/a b.yaml"]))
        );
    }

    #[tokio::test]
    async fn edits_untracked_and_missing_files_are_dirty() {
        let repo = Repo::new();
        repo.write("a.yaml", "a");
        repo.write("b.yaml", "b");
        let commit = repo.commit("1");
        let dirty = format!("main@sha1:{commit}+dirty");
        repo.write("a.yaml", "A");
        let all = names(&["a.yaml", "b.yaml"]);
        assert_eq!(uncommitted(look(&repo.top).await), (dirty.clone(), all));
        repo.git(&["checkout", "--quiet", "."]);
        repo.write("c/c.yml", "c");
        let more = names(&["a.yaml", "b.yaml", "c/c.yml"]);
        assert_eq!(uncommitted(look(&repo.top).await), (dirty.clone(), more));
        fs::remove_dir_all(repo.top.join("c")).unwrap();
        fs::remove_file(repo.top.join("b.yaml")).unwrap();
        assert_eq!(
            uncommitted(look(&repo.top).await),
            (dirty, names(&["a.yaml"]))
        );
    }

    #[tokio::test]
    async fn detached_worktrees_and_sha256_repositories_are_named_so() {
        let repo = Repo::with(&["--object-format=sha256"]);
        repo.write("a.yaml", "a");
        let commit = repo.commit("1");
        assert_eq!(commit.len(), 64);
        repo.git(&["worktree", "add", "--quiet", "--detach", "../linked"]);
        let linked = repo.temp.path().join("linked");
        assert!(linked.join(".git").is_file());
        assert_eq!(
            committed(look(&linked).await),
            (format!("HEAD@sha256:{commit}"), names(&["a.yaml"]))
        );
        repo.git(&["switch", "--quiet", "-c", "feature/x"]);
        assert_eq!(
            committed(look(&repo.top).await).0,
            format!("feature/x@sha256:{commit}")
        );
    }

    #[tokio::test]
    async fn locks_and_unfinished_merges_are_busy() {
        let repo = Repo::new();
        repo.write("sets/a.yaml", "a");
        repo.commit("1");
        for (file, what) in IN_GIT {
            let path = repo.top.join(".git").join(file);
            fs::write(&path, "").unwrap();
            let expected = format!(
                "{what} is under way in `{}` (`{}` exists); finish or abort it, and remove that if no git is running",
                repo.top.display(),
                path.display()
            );
            assert_eq!(
                look(&repo.top.join("sets")).await,
                Found::Busy(expected.clone())
            );
            // Git has removed the folder for a moment.
            assert_eq!(look(&repo.top.join("gone")).await, Found::Busy(expected));
            fs::remove_file(&path).unwrap();
        }
        committed(look(&repo.top.join("sets")).await);
    }

    const IN_GIT: [(&str, &str); 3] = [
        ("index.lock", "a git command"),
        ("MERGE_HEAD", "a merge"),
        ("rebase-merge", "a rebase"),
    ];

    #[tokio::test]
    async fn a_merge_conflict_is_never_a_checkout() {
        let repo = Repo::new();
        repo.write("a.yaml", "a\n");
        repo.commit("1");
        repo.git(&["switch", "--quiet", "-c", "other"]);
        repo.write("a.yaml", "other\n");
        repo.commit("2");
        repo.git(&["switch", "--quiet", "main"]);
        repo.write("a.yaml", "main\n");
        repo.commit("3");
        let merged = std::process::Command::new("git")
            .current_dir(&repo.top)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(["merge", "--quiet", "other"])
            .output()
            .unwrap();
        assert!(!merged.status.success());
        assert!(matches!(look(&repo.top).await, Found::Busy(_)));
        repo.git(&["merge", "--abort"]);
        committed(look(&repo.top).await);
    }

    #[tokio::test]
    async fn deleting_the_last_file_counts_once_it_is_committed() {
        let repo = Repo::new();
        repo.write("sets/a.yaml", "a");
        repo.write("README.md", "r");
        let first = repo.commit("1");
        let sets = repo.top.join("sets");
        fs::remove_file(sets.join("a.yaml")).unwrap();
        assert_eq!(
            look(&sets).await,
            Found::Missing(format!(
                "`{}` has no YAML file, but commit {first} has 1 there; restore them with `git checkout`, or commit their deletion",
                sets.display()
            ))
        );
        let second = repo.commit("2");
        let nothing = (format!("main@sha1:{second}"), Vec::new());
        assert_eq!(committed(look(&sets).await), nothing);
        // As git leaves it on another machine that pulls this commit.
        fs::remove_dir(&sets).unwrap();
        assert_eq!(committed(look(&sets).await), nothing);
        // A name that never was in the history is a misspelt one.
        assert!(matches!(
            look(&repo.top.join("stes")).await,
            Found::Missing(_)
        ));
    }

    #[tokio::test]
    async fn an_empty_folder_in_somebody_elses_work_tree_is_missing() {
        let repo = Repo::new();
        repo.write("hosts", "h");
        repo.commit("1");
        let mount = repo.top.join("mount");
        fs::create_dir(&mount).unwrap();
        assert!(matches!(look(&mount).await, Found::Missing(_)));
        // Mounted, it has nothing to do with that commit.
        repo.write("mount/a.yaml", "a");
        let (revision, _) = uncommitted(look(&mount).await);
        assert!(revision.starts_with("sha256:"), "{revision}");
    }

    #[tokio::test]
    async fn a_repository_without_a_commit_is_like_none() {
        let repo = Repo::new();
        assert!(matches!(look(&repo.top).await, Found::Missing(_)));
        repo.write("a.yaml", "a");
        let (revision, _) = uncommitted(look(&repo.top).await);
        assert!(revision.starts_with("sha256:"), "{revision}");
    }

    #[tokio::test]
    async fn a_broken_repository_is_like_none() {
        let repo = Repo::new();
        repo.write("a.yaml", "a");
        repo.commit("1");
        fs::remove_dir_all(repo.top.join(".git/objects")).unwrap();
        let (revision, _) = uncommitted(look(&repo.top).await);
        assert!(revision.starts_with("sha256:"), "{revision}");
    }

    #[tokio::test]
    async fn a_work_tree_of_another_user_is_read() {
        let repo = Repo::new();
        repo.write("sets/a.yaml", "a");
        let commit = repo.commit("1");
        if !nix::unistd::geteuid().is_root() {
            skipped(
                "a_work_tree_of_another_user_is_read",
                "only root can give files away",
            );
            return;
        }
        let other = Some(nix::unistd::Uid::from_raw(12345));
        for path in [repo.top.join(".git"), repo.top.clone()] {
            nix::unistd::chown(&path, other, None).unwrap();
        }
        let refused = std::process::Command::new("git")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .current_dir(&repo.top)
            .args(["status"])
            .output()
            .unwrap();
        assert!(!refused.status.success(), "git does not mind the owner");
        assert_eq!(
            committed(look(&repo.top.join("sets")).await).0,
            format!("main@sha1:{commit}")
        );
    }

    #[tokio::test]
    async fn programs_that_a_repository_names_are_not_run() {
        let repo = Repo::new();
        repo.write("a.yaml", "a");
        repo.write(".gitattributes", "*.yaml filter=evil\n");
        repo.commit("1");
        let mark = repo.temp.path().join("ran");
        let touch = format!("touch {}", mark.display());
        for key in ["core.fsmonitor", "filter.evil.clean", "core.pager"] {
            repo.git(&["config", key, &touch]);
        }
        repo.write("a.yaml", "changed");
        uncommitted(look(&repo.top).await);
        assert!(!mark.exists());
    }

    #[tokio::test]
    async fn committed_links_are_followed_and_compared() {
        let repo = Repo::new();
        repo.write("shared/c.yaml", "c");
        repo.write("sets/a.yaml", "a");
        symlink("../shared/c.yaml", repo.top.join("sets/c.yaml")).unwrap();
        symlink("../shared", repo.top.join("sets/more")).unwrap();
        let commit = repo.commit("1");
        let sets = repo.top.join("sets");
        assert_eq!(
            committed(look(&sets).await),
            (
                format!("main@sha1:{commit}"),
                names(&["a.yaml", "c.yaml", "more/c.yaml"])
            )
        );
        repo.write("shared/c.yaml", "changed");
        uncommitted(look(&sets).await);
        repo.git(&["checkout", "--quiet", "."]);
        fs::remove_file(sets.join("c.yaml")).unwrap();
        symlink("a.yaml", sets.join("c.yaml")).unwrap();
        uncommitted(look(&sets).await);
        repo.git(&["checkout", "--quiet", "."]);
        fs::remove_file(repo.top.join("shared/c.yaml")).unwrap();
        uncommitted(look(&sets).await);
    }

    #[tokio::test]
    async fn a_committed_link_to_a_secret_is_not_followed() {
        let repo = Repo::new();
        let secret = repo.temp.path().join("auth.json");
        fs::write(&secret, "secret").unwrap();
        symlink(&secret, repo.top.join("a.yaml")).unwrap();
        repo.commit("1");
        let Found::Committed(checkout) = look(&repo.top).await else {
            panic!("not as committed");
        };
        assert_eq!(
            checkout.files[0].bytes,
            Err(Unreadable::LeadsOut(secret.display().to_string()))
        );
    }

    #[tokio::test]
    async fn files_outside_of_git_are_named_by_what_they_hold() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("b.yaml"), "b").unwrap();
        fs::create_dir(temp.path().join("a")).unwrap();
        fs::write(temp.path().join("a/a.yml"), "a").unwrap();
        let printed = std::process::Command::new("sh")
            .current_dir(temp.path())
            .args(["-c", "sha256sum a/a.yml b.yaml | sha256sum | cut -d' ' -f1"])
            .output()
            .unwrap();
        let sum = String::from_utf8(printed.stdout).unwrap();
        assert_eq!(
            uncommitted(look(temp.path()).await),
            (
                format!("sha256:{}", sum.trim()),
                names(&["a/a.yml", "b.yaml"])
            )
        );
    }

    #[tokio::test]
    async fn no_directory_and_an_empty_one_say_what_to_do() {
        let temp = tempfile::tempdir().unwrap();
        let gone = temp.path().join("gone");
        assert_eq!(
            look(&gone).await,
            Found::Missing(format!(
                "the directory `{}` does not exist; create it, mount it, or correct `directory`",
                gone.display()
            ))
        );
        assert_eq!(
            look(temp.path()).await,
            Found::Missing(format!(
                "the directory `{}` holds no YAML file; nothing is changed, since a disk that is not mounted looks the same",
                temp.path().display()
            ))
        );
        let file = temp.path().join("a.yaml");
        fs::write(&file, "a").unwrap();
        assert_eq!(
            look(&file).await,
            Found::Missing(format!(
                "`{}` is not a folder; let `directory` name the folder that holds the image sets",
                file.display()
            ))
        );
        symlink("loop", temp.path().join("loop")).unwrap();
        assert!(matches!(
            look(&temp.path().join("loop")).await,
            Found::Missing(_)
        ));
    }

    #[tokio::test]
    async fn links_on_the_way_are_watched_where_they_stand() {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("data/rev1/sets")).unwrap();
        fs::write(top.join("data/rev1/sets/a.yaml"), "a").unwrap();
        fs::create_dir(top.join("links")).unwrap();
        symlink("rev1", top.join("data/current")).unwrap();
        symlink("../data/current", top.join("links/link")).unwrap();
        let mut looker = Looker::new(top.join("links/link/sets"), false);
        let folders = looker.look().await.folders.unwrap();
        let folders: Vec<_> = folders.into_iter().map(|(path, _)| path).collect();
        assert_eq!(
            folders,
            [
                top.join("data"),
                top.join("data/rev1"),
                top.join("data/rev1/sets"),
                top.join("links")
            ]
        );
    }
}

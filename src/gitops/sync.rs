//! Keeps the directory at the head of a branch, by running the system's `git`.
//!
//! The checkout belongs to the agent: it follows the branch wherever that goes, force-pushes included. What a person did in it is
//! put aside, never destroyed: changed files go to `git stash`, commits that were never pushed to a branch `imagesetd/saved-...`,
//! and a file that Git does not know stops the update that would overwrite it. A directory that is anything else than a work
//! tree of the wanted repository is left alone.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use crate::gitops::{
    aside,
    git::{self, Repository, redact, repository_of},
    remote::Remote,
    worktree,
};

/// The least pause between two fetches.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);

/// Which branch to follow.
#[derive(Clone, PartialEq, Eq)]
pub struct GitSync {
    /// What `git fetch` is given. Credentials in it are taken out and handed to git through its environment; they are neither
    /// kept in the work tree nor shown.
    pub url: String,
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// How often it is fetched.
    pub interval: Duration,
}

impl fmt::Debug for GitSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitSync")
            .field("url", &redact(&self.url))
            .field("branch", &self.branch)
            .field("interval", &self.interval)
            .finish()
    }
}

/// How following the branch goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncState {
    /// When the directory was last brought to the branch's head, or found there.
    pub fetched_at: Option<Timestamp>,
    /// The commit that was the branch's head then.
    pub commit: Option<String>,
    /// Why the last attempt failed, as a sentence; `None` when it did not. The directory stays as it was.
    pub error: Option<String>,
    /// Since when attempts fail.
    pub failing_since: Option<Timestamp>,
    /// What was last put aside, and where a person finds it.
    pub notice: Option<String>,
}

/// Why the directory is not at the branch's head.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Git said no; often the remote is away for a while.
    #[error("fetching branch `{branch}` of {url} failed: {source}; it is tried again every {}s", interval.as_secs())]
    Fetch {
        /// The branch.
        branch: String,
        /// The URL without credentials.
        url: String,
        /// How often it is tried.
        interval: Duration,
        /// What git said.
        source: git::Error,
    },
    /// Git could not bring the files to the commit.
    #[error("bringing `{}` to commit {commit} failed: {source}", top.display())]
    CheckOut {
        /// The work tree.
        top: PathBuf,
        /// The branch's head.
        commit: String,
        /// What git said.
        source: git::Error,
    },
    /// Git could not say what is in the directory.
    #[error("asking git about `{}` failed: {source}", directory.display())]
    Ask {
        /// The directory.
        directory: PathBuf,
        /// What git said.
        source: git::Error,
    },
    /// The directory could not be made.
    #[error("making `{}` failed: {source}", path.display())]
    Make {
        /// What was to be made.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The directory is not ours to touch.
    #[error(
        "`{}` holds files and is not a Git work tree of {url}; move it away, or correct `git.url` or `directory`", directory.display()
    )]
    Foreign {
        /// The directory.
        directory: PathBuf,
        /// The URL without credentials.
        url: String,
    },
    /// A person or another program is at work in the directory.
    #[error("{0}")]
    Busy(String),
}

/// Brings one directory to one branch's head, again and again.
pub(super) struct Syncer {
    options: GitSync,
    remote: Remote,
    directory: PathBuf,
    poked: Arc<Notify>,
    bell: Arc<Notify>,
    state: watch::Sender<SyncState>,
}

/// What of a person's doing is to be kept before files move.
struct Kept {
    /// Whether files differ from their commit.
    files: bool,
    /// The local branch's commit, and where the remote's branch was before the fetch.
    commits: Option<(String, Option<String>)>,
}

/// What an update did.
#[derive(Debug)]
struct Updated {
    commit: String,
    moved: bool,
    notice: Option<String>,
}

impl Syncer {
    pub(super) fn new(
        options: GitSync,
        directory: PathBuf,
        poked: Arc<Notify>,
        bell: Arc<Notify>,
    ) -> Self {
        Syncer {
            remote: Remote::new(&options.url),
            options,
            directory,
            poked,
            bell,
            state: watch::Sender::default(),
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<SyncState> {
        self.state.subscribe()
    }

    /// Fetches now, every interval, and when poked; never ends.
    pub(super) async fn run(self) {
        let interval = self.options.interval.max(LEAST_INTERVAL);
        loop {
            let result = self.round().await;
            self.tell(result);
            tokio::select! {
                () = sleep(interval) => {}
                () = self.poked.notified() => {}
            }
        }
    }

    fn tell(&self, result: Result<Updated, Error>) {
        let now = Timestamp::now();
        match result {
            Ok(updated) => {
                if updated.moved {
                    tracing::info!(commit = %updated.commit, branch = %self.options.branch, "directory brought to the branch's head");
                    self.bell.notify_one();
                }
                if let Some(notice) = &updated.notice {
                    tracing::warn!("{notice}");
                }
                self.state.send_modify(|state| {
                    state.fetched_at = Some(now);
                    state.commit = Some(updated.commit);
                    state.error = None;
                    state.failing_since = None;
                    state.notice = updated.notice.or(state.notice.take());
                });
            }
            Err(e) => {
                let error = e.to_string();
                if self.state.borrow().error.as_ref() != Some(&error) {
                    tracing::warn!(%error, "directory is not kept at the branch's head");
                }
                self.state.send_modify(|state| {
                    state.error = Some(error);
                    state.failing_since.get_or_insert(now);
                });
            }
        }
    }

    async fn round(&self) -> Result<Updated, Error> {
        let directory = self.directory.clone();
        let place = tokio::task::spawn_blocking(move || Place::of(&directory))
            .await
            .unwrap_or(Place {
                around: None,
                holds: Holds::Something,
            });
        if let Some(repository) = &place.around
            && let Some(name) = self.remote_name(repository).await?
        {
            return self.update(repository, &name).await;
        }
        match place.holds {
            Holds::Absent => self.clone_beside().await,
            Holds::Nothing => {
                let repository = self.prepare(&self.directory).await?;
                self.update(&repository, ORIGIN).await
            }
            Holds::Something => Err(self.foreign()),
        }
    }

    fn foreign(&self) -> Error {
        Error::Foreign {
            directory: self.directory.clone(),
            url: redact(&self.remote.url),
        }
    }

    /// Clones to a hidden name beside the directory, and renames what is whole.
    async fn clone_beside(&self) -> Result<Updated, Error> {
        let beside = beside(&self.directory);
        let make = |source| Error::Make {
            path: beside.clone(),
            source,
        };
        // It is ours by its name, from a clone that was interrupted.
        match fs::remove_dir_all(&beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(make(e)),
            _ => fs::create_dir_all(&beside).map_err(make)?,
        }
        let repository = self.prepare(&beside).await?;
        let updated = match self.update(&repository, ORIGIN).await {
            Ok(updated) => updated,
            Err(e) => {
                // The next attempt removes it where this one cannot.
                let _ = fs::remove_dir_all(&beside);
                return Err(e);
            }
        };
        fs::rename(&beside, &self.directory).map_err(|source| Error::Make {
            path: self.directory.clone(),
            source,
        })?;
        Ok(updated)
    }

    /// Makes an empty repository in an empty folder.
    async fn prepare(&self, folder: &Path) -> Result<Repository, Error> {
        let top = fs::canonicalize(folder).map_err(|source| Error::Make {
            path: folder.to_owned(),
            source,
        })?;
        let repository = Repository {
            git_dir: top.join(".git"),
            top,
        };
        let refs = format!("+refs/heads/*:refs/remotes/{ORIGIN}/*");
        for (command, args) in [
            ("init", ["--quiet", "--template="].as_slice()),
            ("config", &["remote.origin.url", &self.remote.url]),
            ("config", &["remote.origin.fetch", &refs]),
        ] {
            self.ask(repository.command(command).run(args).await)?;
        }
        Ok(repository)
    }

    /// Returns the name of the remote that is the wanted repository.
    async fn remote_name(&self, repository: &Repository) -> Result<Option<String>, Error> {
        let args = ["--local", "-z", "--get-regexp", r"^remote\..*\.url$"];
        let listed = match repository.look("config").run(&args).await {
            // There is none.
            Err(git::Error::Failed { .. }) => Vec::new(),
            listed => self.ask(listed)?,
        };
        let listed = String::from_utf8_lossy(&listed).into_owned();
        Ok(listed.split('\0').find_map(|entry| {
            let (key, url) = entry.split_once('\n')?;
            let name = key.strip_prefix("remote.")?.strip_suffix(".url")?;
            self.remote.is(url).then(|| name.to_owned())
        }))
    }

    async fn update(&self, repository: &Repository, remote: &str) -> Result<Updated, Error> {
        if let Some(why) = worktree::busy(repository) {
            return Err(Error::Busy(why));
        }
        let branch = &self.options.branch;
        let tracking = format!("refs/remotes/{remote}/{branch}");
        let before = self.commit(repository, &tracking).await?;
        self.fetch(repository, remote, &tracking).await?;
        let target = self
            .commit(repository, &tracking)
            .await?
            .unwrap_or_default();
        let head = self.ask(worktree::head(repository).await)?;
        let changed = match head {
            Some(_) => self.changed_files(repository).await?,
            None => false,
        };
        let there = head
            .as_ref()
            .is_some_and(|h| h.commit == target && h.branch == *branch);
        if there && !changed {
            return Ok(Updated {
                commit: target,
                moved: false,
                notice: None,
            });
        }
        let local = head.filter(|h| h.branch == *branch && h.commit != target);
        let kept = Kept {
            files: changed,
            commits: local.map(|head| (head.commit, before)),
        };
        let notice = self
            .move_to(repository, &target, kept)
            .await
            .map_err(|source| Error::CheckOut {
                top: repository.top.clone(),
                commit: target.clone(),
                source,
            })?;
        Ok(Updated {
            moved: !there || notice.is_some(),
            commit: target,
            notice,
        })
    }

    /// Keeps what a person may have done, and checks `target` out; says what was put aside.
    async fn move_to(
        &self,
        repository: &Repository,
        target: &str,
        kept: Kept,
    ) -> Result<Option<String>, git::Error> {
        let mut notices = Vec::new();
        if kept.files {
            notices.extend(aside::save_files(repository).await?);
        }
        if let Some((head, before)) = kept.commits {
            notices.extend(aside::save_commits(repository, &head, before, target).await?);
        }
        // Not forced: Git refuses to write over a file that it does not know.
        let args = ["--quiet", "--no-track", "-B", &self.options.branch, target];
        let checkout = repository.command("checkout").limit(git::REMOTE);
        checkout.run(&args).await?;
        Ok((!notices.is_empty()).then(|| notices.join("; ")))
    }

    async fn fetch(
        &self,
        repository: &Repository,
        remote: &str,
        tracking: &str,
    ) -> Result<(), Error> {
        let refspec = format!("+refs/heads/{}:{tracking}", self.options.branch);
        let mut args = vec!["--quiet", "--no-tags", "--no-recurse-submodules"];
        // A person's full clone stays full.
        let born = self.ask(worktree::head(repository).await)?.is_some();
        if !born || repository.git_dir.join("shallow").exists() {
            args.push("--depth=1");
        }
        args.extend([remote, &refspec]);
        let mut fetch = self.remote.fetch(repository);
        if self.ssh_is_unset(repository).await {
            fetch = fetch.env(
                "GIT_SSH_COMMAND",
                "ssh -o BatchMode=yes -o ConnectTimeout=30",
            );
        }
        fetch
            .run(&args)
            .await
            .map(drop)
            .map_err(|source| Error::Fetch {
                branch: self.options.branch.clone(),
                url: redact(&self.remote.url),
                interval: self.options.interval,
                source,
            })
    }

    /// Whether nobody said how to run ssh, so that we may.
    async fn ssh_is_unset(&self, repository: &Repository) -> bool {
        let in_environment = ["GIT_SSH_COMMAND", "GIT_SSH"]
            .iter()
            .any(|variable| std::env::var_os(variable).is_some());
        let configured = repository.look("config").run(&["core.sshCommand"]).await;
        !in_environment && configured.is_err()
    }

    /// Returns the commit that a reference stands for.
    async fn commit(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Option<String>, Error> {
        let args = ["--verify", "--quiet", reference];
        match repository.look("rev-parse").text(&args).await {
            Err(git::Error::Failed { .. }) => Ok(None),
            answer => self.ask(answer).map(Some),
        }
    }

    /// Whether files that Git knows differ from the commit; those it does not know are nobody's concern here.
    async fn changed_files(&self, repository: &Repository) -> Result<bool, Error> {
        let args = [
            "--porcelain",
            "-z",
            "--untracked-files=no",
            "--ignore-submodules",
        ];
        let status = repository.look("status").run(&args).await;
        Ok(!self.ask(status)?.is_empty())
    }

    fn ask<T>(&self, answer: Result<T, git::Error>) -> Result<T, Error> {
        answer.map_err(|source| Error::Ask {
            directory: self.directory.clone(),
            source,
        })
    }
}

/// The remote's name in clones of ours.
const ORIGIN: &str = "origin";

/// What the directory is, before it is touched.
struct Place {
    /// The repository in whose work tree the directory is, or would be: git removes a folder with its last file.
    around: Option<Repository>,
    holds: Holds,
}

enum Holds {
    Absent,
    Nothing,
    Something,
}

impl Place {
    fn of(directory: &Path) -> Self {
        let existing = directory.ancestors().find_map(|d| d.canonicalize().ok());
        let is_empty = directory.read_dir().map(|mut all| all.next().is_none());
        let holds = match (is_empty, directory.symlink_metadata()) {
            (Ok(true), _) => Holds::Nothing,
            (Err(_), Err(e)) if e.kind() == io::ErrorKind::NotFound => Holds::Absent,
            _ => Holds::Something,
        };
        Place {
            around: existing.and_then(|existing| repository_of(&existing)),
            holds,
        }
    }
}

/// Returns the name under which a clone of `directory` is made.
fn beside(directory: &Path) -> PathBuf {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    directory.with_file_name(format!(".{name}.imagesetd-clone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_credentials() {
        let sync = GitSync {
            url: "https://me:s3cret@git.lan/x".into(),
            branch: "main".into(),
            interval: Duration::from_secs(60),
        };
        assert_eq!(
            format!("{sync:?}"),
            r#"GitSync { url: "https://***@git.lan/x", branch: "main", interval: 60s }"#
        );
    }
}

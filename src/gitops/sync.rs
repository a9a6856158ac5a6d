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
use url::Url;

use crate::gitops::{
    git::{self, Git, Repository, redact, repository_of},
    worktree,
};

/// How long a fetch may take; a first one may bring a large repository over a slow line.
const FETCH: Duration = Duration::from_secs(600);

/// The least pause between two fetches.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);

/// Says to the helper that is set up in [`Remote::fetch`] what a URL of the settings file held.
const HELPER: &str = r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$IMAGESETD_GIT_USER" "$IMAGESETD_GIT_PASSWORD"; }; f"#;

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
    #[error("fetching branch `{branch}` of {url} into `{}` failed: {source}; trying again every {}s", directory.display(), interval.as_secs())]
    Fetch {
        /// The branch.
        branch: String,
        /// The URL without credentials.
        url: String,
        /// The directory.
        directory: PathBuf,
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

/// The remote repository, its credentials apart.
struct Remote {
    /// Holds no credentials, so it may be stored and shown.
    url: String,
    user: String,
    password: String,
    /// For which URLs the credentials are; empty where there are none.
    scope: String,
}

impl Remote {
    fn new(text: &str) -> Self {
        let plain = Remote {
            url: text.to_owned(),
            user: String::new(),
            password: String::new(),
            scope: String::new(),
        };
        let Ok(mut url) = Url::parse(text) else {
            return plain;
        };
        if !matches!(url.scheme(), "http" | "https")
            || (url.username().is_empty() && url.password().is_none())
        {
            return plain;
        }
        let (user, password) = (decoded(url.username()), url.password().map(decoded));
        // A URL with a host, as these schemes have, takes any user and password.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Remote {
            scope: url.origin().ascii_serialization(),
            url: url.into(),
            user,
            password: password.unwrap_or_default(),
        }
    }

    /// Prepares a fetch from here.
    fn fetch(&self, repository: &Repository) -> Git {
        let mut git = repository
            .command("fetch")
            .limit(FETCH)
            // A connection that brings nothing for half a minute is given up.
            .config("http.lowSpeedLimit", "1")
            .config("http.lowSpeedTime", "30");
        if !self.scope.is_empty() {
            git = git
                .config(&format!("credential.{}.helper", self.scope), HELPER)
                .env("IMAGESETD_GIT_USER", &self.user)
                .env("IMAGESETD_GIT_PASSWORD", &self.password);
        }
        git
    }

    fn is(&self, url: &str) -> bool {
        let bare = |url: &str| {
            let url = url.trim_end_matches('/');
            url.strip_suffix(".git").unwrap_or(url).to_owned()
        };
        bare(&Remote::new(url).url) == bare(&self.url)
    }
}

fn decoded(text: &str) -> String {
    // The only decoder of the crate tree at hand reads forms, where `+` is a space.
    let pair = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
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
            .unwrap_or(Place::Other);
        match place {
            Place::Absent => self.clone_beside().await,
            Place::Empty => {
                let repository = self.prepare(&self.directory).await?;
                self.update(&repository, ORIGIN).await
            }
            Place::In(repository) => match self.remote_name(&repository).await? {
                Some(name) => self.update(&repository, &name).await,
                None => Err(self.foreign()),
            },
            Place::Other => Err(self.foreign()),
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
        let failed = |source| Error::CheckOut {
            top: repository.top.clone(),
            commit: target.clone(),
            source,
        };
        let mut notice = None;
        if changed {
            notice = Some(stash(repository).await.map_err(failed)?);
        }
        if let Some(head) = head.filter(|h| h.branch == *branch && h.commit != target) {
            let saved = self.save_commits(repository, &head.commit, before, &target);
            notice = saved.await.map_err(failed)?.or(notice);
        }
        let args = ["--quiet", "--no-track", "-B", branch, &target];
        let checked_out = repository.command("checkout").limit(FETCH).run(&args).await;
        checked_out.map_err(failed)?;
        Ok(Updated {
            commit: target,
            moved: true,
            notice,
        })
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
                directory: self.directory.clone(),
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
        let args = ["--verify", "--quiet", "--end-of-options", reference];
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

    /// Keeps commits that only this work tree has; `before` is where the remote's branch was.
    async fn save_commits(
        &self,
        repository: &Repository,
        head: &str,
        before: Option<String>,
        target: &str,
    ) -> Result<Option<String>, git::Error> {
        let pushed = before.as_deref() == Some(head)
            || repository
                .look("merge-base")
                .run(&["--is-ancestor", head, target])
                .await
                .is_ok();
        if pushed {
            return Ok(None);
        }
        let name = format!("imagesetd/saved-{}", head.get(..12).unwrap_or(head));
        repository
            .command("branch")
            .run(&["--force", &name, head])
            .await?;
        Ok(Some(format!(
            "commits that were never pushed were in `{}`; they are on its branch `{name}` now",
            repository.top.display()
        )))
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

/// Puts changed files aside, so that a person finds what they did.
async fn stash(repository: &Repository) -> Result<String, git::Error> {
    let message = "changed by hand, put aside by imagesetd";
    repository
        .command("stash")
        .env("GIT_AUTHOR_NAME", "imagesetd")
        .env("GIT_AUTHOR_EMAIL", "imagesetd@localhost")
        .env("GIT_COMMITTER_NAME", "imagesetd")
        .env("GIT_COMMITTER_EMAIL", "imagesetd@localhost")
        .run(&["push", "--quiet", "--message", message])
        .await?;
    Ok(format!(
        "files of `{top}` were changed by hand and are as committed again; the changes are kept: `git -C {top} stash list`. \
         Commit and push changes instead",
        top = repository.top.display()
    ))
}

/// What the directory is, before it is touched.
enum Place {
    Absent,
    Empty,
    In(Repository),
    Other,
}

impl Place {
    fn of(directory: &Path) -> Self {
        let Ok(real) = directory.canonicalize() else {
            return match directory.symlink_metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Place::Absent,
                _ => Place::Other,
            };
        };
        match fs::read_dir(&real).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Place::Empty,
            Ok(false) => repository_of(&real).map_or(Place::Other, Place::In),
            Err(_) => Place::Other,
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
    fn credentials_leave_the_url() {
        let remote = Remote::new("https://me:p%40ss+w@git.lan:8443/sets.git");
        assert_eq!(remote.url, "https://git.lan:8443/sets.git");
        assert_eq!(remote.scope, "https://git.lan:8443");
        assert_eq!(
            (remote.user.as_str(), remote.password.as_str()),
            ("me", "p@ss+w")
        );
    }

    #[test]
    fn other_urls_stay_as_written() {
        for url in [
            "git@git.lan:sets.git",
            "ssh://git@git.lan/x",
            "/srv/git/x.git",
            "https://git.lan/x",
        ] {
            let remote = Remote::new(url);
            assert_eq!((remote.url.as_str(), remote.scope.as_str()), (url, ""));
        }
    }

    #[test]
    fn the_same_repository_is_known_by_other_spellings() {
        let remote = Remote::new("https://me:x@git.lan/sets.git");
        assert!(remote.is("https://git.lan/sets"));
        assert!(remote.is("https://other@git.lan/sets.git/"));
        assert!(!remote.is("https://git.lan/other"));
    }

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

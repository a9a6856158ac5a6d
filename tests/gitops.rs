//! The watch over a directory, through the ways in which real tools update a checkout.
//!
//! `rescan` is an hour unless a test is about it: what arrives here arrives by events.

// The helpers of this file are tests too.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use imagesetd::gitops::{
    Checkout, GitSync, Observation, Options, SyncState, Watcher, look_once, start,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

const HOUR: Duration = Duration::from_secs(3600);

/// How long anything may take before a test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Watch {
    watcher: Watcher,
    observations: watch::Receiver<Option<std::sync::Arc<Observation>>>,
    work: JoinHandle<()>,
    cancel: DropGuard,
}

fn options(directory: &Path) -> Options {
    Options {
        directory: directory.to_owned(),
        settle: Duration::from_millis(150),
        rescan: HOUR,
        git: None,
    }
}

impl Watch {
    fn over(directory: &Path) -> Self {
        Watch::with(options(directory))
    }

    fn with(options: Options) -> Self {
        let cancel = CancellationToken::new();
        let (watcher, work) = start(options, cancel.clone());
        Watch {
            observations: watcher.observations(),
            watcher,
            work: tokio::spawn(work),
            cancel: cancel.drop_guard(),
        }
    }

    /// Waits for an observation that `wanted` accepts, and then until everything is watched.
    ///
    /// Otherwise the look that follows new watches would find what the next event is to be tested with.
    async fn until(&mut self, wanted: impl Fn(&Observation) -> bool) -> Observation {
        let observation = self.first(wanted).await;
        for _ in 0..2 {
            timeout(PATIENCE, self.watcher.look()).await.unwrap();
        }
        observation
    }

    async fn first(&mut self, wanted: impl Fn(&Observation) -> bool) -> Observation {
        let seen = self
            .observations
            .wait_for(|told| told.as_deref().is_some_and(&wanted));
        match timeout(PATIENCE, seen).await {
            Ok(told) => told.unwrap().as_deref().unwrap().clone(),
            Err(_) => panic!("waited in vain; last {:?}", self.watcher.observations()),
        }
    }

    /// Waits for these files, by name and text.
    async fn files(&mut self, files: &[(&str, &str)]) -> Checkout {
        let observation = self.until(|o| o.checkout().is_some_and(|c| holds(c, files)));
        observation.await.checkout().unwrap().clone()
    }

    /// Waits for these files at this revision.
    async fn at(&mut self, revision: &str, files: &[(&str, &str)]) {
        self.until(|o| {
            o.checkout()
                .is_some_and(|c| c.revision.as_str() == revision && holds(c, files))
        })
        .await;
    }

    async fn missing(&mut self) -> String {
        match self
            .until(|o| matches!(o, Observation::Missing { .. }))
            .await
        {
            Observation::Missing { why } => why,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a state of following the branch.
    async fn sync(&self, wanted: impl Fn(&SyncState) -> bool) -> SyncState {
        let mut state = self.watcher.sync_state().unwrap();
        let seen = state.wait_for(wanted);
        match timeout(PATIENCE, seen).await {
            Ok(state) => state.unwrap().clone(),
            Err(_) => panic!("waited in vain; last {:?}", self.watcher.sync_state()),
        }
    }
}

fn holds(checkout: &Checkout, files: &[(&str, &str)]) -> bool {
    checkout.files.len() == files.len()
        && checkout
            .files
            .iter()
            .zip(files)
            .all(|(file, (name, text))| {
                file.name == *name && file.bytes.as_deref() == Ok(text.as_bytes())
            })
}

struct Temp {
    _folder: tempfile::TempDir,
    top: PathBuf,
}

impl Temp {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Temp {
            top: folder.path().canonicalize().unwrap(),
            _folder: folder,
        }
    }

    fn join(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes a work tree with the branch `main`.
    fn repo(&self, name: &str) -> PathBuf {
        let top = self.join(name);
        fs::create_dir_all(&top).unwrap();
        git(&top, &["init", "--quiet", "-b", "main"]);
        top
    }

    /// Makes a bare repository with the branch `main`, and a clone of it to push from.
    fn remote(&self) -> (String, PathBuf) {
        let bare = self.join("remote.git");
        git(
            &self.top,
            &[
                "init",
                "--quiet",
                "--bare",
                "-b",
                "main",
                bare.to_str().unwrap(),
            ],
        );
        let work = self.repo("work");
        let url = format!("file://{}", bare.display());
        git(&work, &["remote", "add", "origin", &url]);
        (url, work)
    }
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "t")
        .env("GIT_AUTHOR_EMAIL", "t@example.com")
        .env("GIT_COMMITTER_NAME", "t")
        .env("GIT_COMMITTER_EMAIL", "t@example.com")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(repo: &Path, args: &[&str]) -> String {
    git(repo, &["add", "--all"]);
    git(
        repo,
        &[&["commit", "--quiet", "--allow-empty", "-m", "m"], args].concat(),
    );
    let commit = git(repo, &["rev-parse", "HEAD"]);
    format!("main@sha1:{commit}")
}

fn push(work: &Path) {
    git(work, &["push", "--quiet", "--force", "origin", "main"]);
}

fn following(directory: &Path, url: &str) -> Options {
    Options {
        git: Some(GitSync {
            url: url.into(),
            branch: "main".into(),
            interval: HOUR,
        }),
        ..options(directory)
    }
}

#[tokio::test]
async fn commit_amend_rename_and_delete_are_followed() {
    let temp = Temp::new();
    let repo = temp.repo("repo");
    temp.write("repo/a.yaml", "a");
    let first = commit(&repo, &[]);
    let mut watch = Watch::over(&repo);
    watch.at(&first, &[("a.yaml", "a")]).await;

    temp.write("repo/prod/b.yaml", "b");
    let second = commit(&repo, &[]);
    watch
        .at(&second, &[("a.yaml", "a"), ("prod/b.yaml", "b")])
        .await;

    temp.write("repo/prod/b.yaml", "B");
    let amended = commit(&repo, &["--amend"]);
    watch
        .at(&amended, &[("a.yaml", "a"), ("prod/b.yaml", "B")])
        .await;

    git(&repo, &["mv", "a.yaml", "c.yaml"]);
    let renamed = commit(&repo, &[]);
    watch
        .at(&renamed, &[("c.yaml", "a"), ("prod/b.yaml", "B")])
        .await;

    git(&repo, &["rm", "--quiet", "prod/b.yaml"]);
    let deleted = commit(&repo, &[]);
    watch.at(&deleted, &[("c.yaml", "a")]).await;

    git(&repo, &["rm", "--quiet", "c.yaml"]);
    let last = commit(&repo, &[]);
    watch.at(&last, &[]).await;

    git(&repo, &["reset", "--quiet", "--hard", &second[10..]]);
    watch
        .at(&second, &[("a.yaml", "a"), ("prod/b.yaml", "b")])
        .await;
}

#[tokio::test]
async fn a_commit_is_noticed_from_a_subfolder_even_without_a_change_there() {
    let temp = Temp::new();
    let repo = temp.repo("repo");
    temp.write("repo/sets/a.yaml", "a");
    let first = commit(&repo, &[]);
    let mut watch = Watch::over(&temp.join("repo/sets"));
    watch.at(&first, &[("a.yaml", "a")]).await;
    let second = commit(&repo, &["--amend", "-m", "other words"]);
    assert_ne!(first, second);
    watch.at(&second, &[("a.yaml", "a")]).await;
}

#[tokio::test]
async fn the_folder_that_git_removes_with_its_last_file_comes_back() {
    let temp = Temp::new();
    let repo = temp.repo("repo");
    temp.write("repo/sets/a.yaml", "a");
    temp.write("repo/README.md", "r");
    let first = commit(&repo, &[]);
    let mut watch = Watch::over(&temp.join("repo/sets"));
    watch.at(&first, &[("a.yaml", "a")]).await;
    git(&repo, &["rm", "--quiet", "sets/a.yaml"]);
    assert!(!temp.join("repo/sets").exists());
    let second = commit(&repo, &[]);
    watch.at(&second, &[]).await;
    git(&repo, &["revert", "--no-edit", "HEAD"]);
    watch.files(&[("a.yaml", "a")]).await;
}

#[tokio::test]
async fn a_pull_moves_from_commit_to_commit() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/a.yaml", "1");
    let first = commit(&work, &[]);
    push(&work);
    git(&temp.top, &["clone", "--quiet", &url, "clone"]);
    let mut watch = Watch::with(Options {
        settle: Duration::from_secs(2),
        ..options(&temp.join("clone"))
    });
    watch.at(&first, &[("a.yaml", "1")]).await;
    let mut seen = watch.watcher.observations();
    seen.mark_unchanged();

    temp.write("work/a.yaml", "2");
    temp.write("work/b.yaml", "2");
    let second = commit(&work, &[]);
    push(&work);
    git(
        &temp.join("clone"),
        &["pull", "--quiet", "--ff-only", "origin", "main"],
    );
    // The very next observation is the new commit: nothing between was told.
    timeout(PATIENCE, seen.changed()).await.unwrap().unwrap();
    let told = seen.borrow().clone().unwrap();
    let checkout = told.checkout().unwrap();
    assert_eq!(checkout.revision.as_str(), second);
    assert!(holds(checkout, &[("a.yaml", "2"), ("b.yaml", "2")]));
}

#[tokio::test]
async fn edits_by_hand_settle_as_dirty_and_become_clean_with_their_commit() {
    let temp = Temp::new();
    let repo = temp.repo("repo");
    temp.write("repo/a.yaml", "a");
    let first = commit(&repo, &[]);
    let mut watch = Watch::over(&repo);
    watch.at(&first, &[("a.yaml", "a")]).await;
    temp.write("repo/a.yaml", "edited");
    let dirty = format!("{first}+dirty");
    watch.at(&dirty, &[("a.yaml", "edited")]).await;
    let second = commit(&repo, &[]);
    watch.at(&second, &[("a.yaml", "edited")]).await;
}

#[tokio::test]
async fn nothing_is_told_while_the_index_is_locked() {
    let temp = Temp::new();
    let repo = temp.repo("repo");
    temp.write("repo/a.yaml", "a");
    let first = commit(&repo, &[]);
    let mut watch = Watch::over(&repo);
    watch.at(&first, &[("a.yaml", "a")]).await;
    let mut seen = watch.watcher.observations();
    seen.mark_unchanged();
    temp.write("repo/.git/index.lock", "");
    temp.write("repo/a.yaml", "half");
    // Asked for outright, it is not answered before the lock is gone.
    let asked = watch.watcher.clone();
    let mut look = tokio::spawn(async move { asked.look().await });
    assert!(
        timeout(Duration::from_millis(600), &mut look)
            .await
            .is_err()
    );
    assert!(!seen.has_changed().unwrap());
    temp.write("repo/a.yaml", "whole");
    fs::remove_file(temp.join("repo/.git/index.lock")).unwrap();
    let told = timeout(PATIENCE, look).await.unwrap().unwrap().unwrap();
    assert!(holds(told.checkout().unwrap(), &[("a.yaml", "whole")]));
}

#[tokio::test]
async fn a_file_written_in_pieces_is_told_when_it_rests() {
    let temp = Temp::new();
    temp.write("sets/a.yaml", "");
    let mut watch = Watch::with(Options {
        settle: Duration::from_secs(2),
        ..options(&temp.join("sets"))
    });
    watch.files(&[("a.yaml", "")]).await;
    let mut seen = watch.watcher.observations();
    seen.mark_unchanged();
    let mut file = fs::File::create(temp.join("sets/a.yaml")).unwrap();
    let mut whole = String::new();
    for piece in 0..10 {
        let text = format!("piece {piece}\n");
        file.write_all(text.as_bytes()).unwrap();
        whole.push_str(&text);
        watch.watcher.poke();
        tokio::task::yield_now().await;
    }
    timeout(PATIENCE, seen.changed()).await.unwrap().unwrap();
    let told = seen.borrow().clone().unwrap();
    assert!(holds(told.checkout().unwrap(), &[("a.yaml", &whole)]));
}

#[tokio::test]
async fn editors_and_rsync_rename_over_files() {
    let temp = Temp::new();
    temp.write("sets/a.yaml", "1");
    let mut watch = Watch::over(&temp.join("sets"));
    for text in ["2", "3", "4"] {
        temp.write("sets/.a.yaml.Xq81Ab", text);
        fs::rename(temp.join("sets/.a.yaml.Xq81Ab"), temp.join("sets/a.yaml")).unwrap();
        watch.files(&[("a.yaml", text)]).await;
    }
    // As rsync makes a new folder and fills it.
    temp.write("sets/prod/eu/b.yaml", "b");
    watch
        .files(&[("a.yaml", "4"), ("prod/eu/b.yaml", "b")])
        .await;
    temp.write("sets/prod/eu/b.yaml", "B");
    watch
        .files(&[("a.yaml", "4"), ("prod/eu/b.yaml", "B")])
        .await;
}

#[tokio::test]
async fn a_config_map_swaps_its_data() {
    let temp = Temp::new();
    let sets = temp.join("sets");
    temp.write("sets/..2024_01/a.yaml", "1");
    symlink("..2024_01", sets.join("..data")).unwrap();
    symlink("..data/a.yaml", sets.join("a.yaml")).unwrap();
    let mut watch = Watch::over(&sets);
    watch.files(&[("a.yaml", "1")]).await;
    for (rev, text, old) in [
        ("..2024_02", "2", "..2024_01"),
        ("..2024_03", "3", "..2024_02"),
    ] {
        temp.write(&format!("sets/{rev}/a.yaml"), text);
        symlink(rev, sets.join("..data_tmp")).unwrap();
        fs::rename(sets.join("..data_tmp"), sets.join("..data")).unwrap();
        fs::remove_dir_all(sets.join(old)).unwrap();
        watch.files(&[("a.yaml", text)]).await;
    }
}

#[tokio::test]
async fn a_link_on_the_way_is_turned_elsewhere() {
    let temp = Temp::new();
    temp.write("data/1/sets/a.yaml", "1");
    temp.write("data/2/sets/a.yaml", "2");
    fs::create_dir(temp.join("links")).unwrap();
    symlink("../data/1", temp.join("links/current")).unwrap();
    let mut watch = Watch::over(&temp.join("links/current/sets"));
    watch.files(&[("a.yaml", "1")]).await;
    symlink("../data/2", temp.join("links/next")).unwrap();
    fs::rename(temp.join("links/next"), temp.join("links/current")).unwrap();
    watch.files(&[("a.yaml", "2")]).await;
}

#[tokio::test]
async fn git_sync_swaps_its_link() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/sets/a.yaml", "1");
    let first = commit(&work, &[]);
    push(&work);
    // What git-sync makes: a repository, a worktree per commit, and a link that is swapped.
    let root = temp.join("root");
    git(
        &temp.top,
        &["clone", "--quiet", "--no-checkout", &url, "root"],
    );
    let publish = |revision: &str| {
        let commit = &revision[10..];
        git(&root, &["fetch", "--quiet", "origin"]);
        let tree = format!(".worktrees/{commit}");
        git(
            &root,
            &["worktree", "add", "--quiet", "--detach", &tree, commit],
        );
        symlink(&tree, root.join("tmp-link")).unwrap();
        fs::rename(root.join("tmp-link"), root.join("link")).unwrap();
        format!("HEAD@sha1:{commit}")
    };
    let mut watch = Watch::over(&root.join("link/sets"));
    let why = watch.missing().await;
    assert!(why.contains("does not exist"), "{why}");
    let published = publish(&first);
    watch.at(&published, &[("a.yaml", "1")]).await;
    temp.write("work/sets/a.yaml", "2");
    let second = commit(&work, &[]);
    push(&work);
    let published = publish(&second);
    watch.at(&published, &[("a.yaml", "2")]).await;
    git(
        &root,
        &[
            "worktree",
            "remove",
            "--force",
            &format!(".worktrees/{}", &first[10..]),
        ],
    );
    temp.write("work/sets/a.yaml", "3");
    let third = commit(&work, &[]);
    push(&work);
    let published = publish(&third);
    watch.at(&published, &[("a.yaml", "3")]).await;
}

#[tokio::test]
async fn the_directory_may_come_late_go_and_be_replaced() {
    let temp = Temp::new();
    let sets = temp.join("deep/down/sets");
    let mut watch = Watch::over(&sets);
    let why = watch.missing().await;
    assert_eq!(
        why,
        format!(
            "the directory `{}` does not exist; create it, mount it, or correct `directory`",
            sets.display()
        )
    );
    temp.write("deep/down/sets/a.yaml", "1");
    watch.files(&[("a.yaml", "1")]).await;

    temp.write("deep/down/new/a.yaml", "2");
    fs::rename(&sets, temp.join("deep/down/old")).unwrap();
    fs::rename(temp.join("deep/down/new"), &sets).unwrap();
    watch.files(&[("a.yaml", "2")]).await;
    temp.write("deep/down/sets/a.yaml", "3");
    watch.files(&[("a.yaml", "3")]).await;

    // Emptied and removed, it changes nothing.
    fs::remove_file(sets.join("a.yaml")).unwrap();
    let why = watch.missing().await;
    assert!(why.contains("holds no YAML file"), "{why}");
    temp.write("deep/down/sets/a.yaml", "4");
    watch.files(&[("a.yaml", "4")]).await;
    fs::remove_dir_all(temp.join("deep")).unwrap();
    watch.missing().await;
    temp.write("deep/down/sets/a.yaml", "5");
    watch.files(&[("a.yaml", "5")]).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_read_for_a_while_is_missing_for_that_while() {
    let temp = Temp::new();
    temp.write("sets/a.yaml", "1");
    let sets = temp.join("sets");
    let mut watch = Watch::over(&sets);
    watch.files(&[("a.yaml", "1")]).await;
    // Permissions do not stop root; a file in the directory's place is as unreadable.
    fs::rename(&sets, temp.join("aside")).unwrap();
    fs::write(&sets, "not a folder").unwrap();
    let why = watch.missing().await;
    assert!(why.contains("is not a folder"), "{why}");
    fs::remove_file(&sets).unwrap();
    fs::rename(temp.join("aside"), &sets).unwrap();
    watch.files(&[("a.yaml", "1")]).await;
}

#[tokio::test]
async fn what_rings_nowhere_is_found_by_the_periodic_look() {
    let temp = Temp::new();
    // A link to a file elsewhere: writing that file is no event of any watched folder.
    temp.write("elsewhere/a.yaml", "1");
    fs::create_dir(temp.join("sets")).unwrap();
    symlink("../elsewhere/a.yaml", temp.join("sets/a.yaml")).unwrap();
    let mut watch = Watch::with(Options {
        rescan: Duration::from_millis(300),
        ..options(&temp.join("sets"))
    });
    watch.files(&[("a.yaml", "1")]).await;
    temp.write("elsewhere/a.yaml", "2");
    watch.files(&[("a.yaml", "2")]).await;
}

#[tokio::test]
async fn asking_finds_what_rang_nowhere() {
    let temp = Temp::new();
    temp.write("elsewhere/a.yaml", "1");
    fs::create_dir(temp.join("sets")).unwrap();
    symlink("../elsewhere/a.yaml", temp.join("sets/a.yaml")).unwrap();
    let mut watch = Watch::over(&temp.join("sets"));
    watch.files(&[("a.yaml", "1")]).await;
    temp.write("elsewhere/a.yaml", "2");
    let told = timeout(PATIENCE, watch.watcher.look()).await.unwrap();
    assert!(holds(told.unwrap().checkout().unwrap(), &[("a.yaml", "2")]));
    temp.write("elsewhere/a.yaml", "3");
    watch.watcher.poke();
    watch.files(&[("a.yaml", "3")]).await;
}

#[tokio::test]
async fn a_cancelled_watch_ends_and_answers_no_more() {
    let temp = Temp::new();
    temp.write("sets/a.yaml", "1");
    let mut watch = Watch::over(&temp.join("sets"));
    watch.files(&[("a.yaml", "1")]).await;
    drop(watch.cancel);
    timeout(PATIENCE, watch.work).await.unwrap().unwrap();
    assert_eq!(watch.watcher.look().await, None);
}

#[tokio::test]
async fn one_look_settles_without_a_watch() {
    let temp = Temp::new();
    let repo = temp.repo("repo");
    temp.write("repo/a.yaml", "a");
    let first = commit(&repo, &[]);
    let observation = look_once(repo, Duration::from_millis(50)).await;
    assert_eq!(observation.checkout().unwrap().revision.as_str(), first);
    let gone = look_once(temp.join("gone"), Duration::from_millis(50)).await;
    assert!(matches!(gone, Observation::Missing { .. }));
}

#[tokio::test]
async fn a_missing_directory_is_cloned_and_follows_force_pushes() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/a.yaml", "1");
    let first = commit(&work, &[]);
    push(&work);
    let sets = temp.join("srv/sets");
    let mut watch = Watch::with(following(&sets, &url));
    watch.at(&first, &[("a.yaml", "1")]).await;
    let state = watch.sync(|s| s.commit.is_some()).await;
    assert_eq!(state.commit.as_deref(), Some(&first[10..]));
    assert_eq!((state.error, state.notice), (None, None));
    assert_eq!(fs::read_dir(temp.join("srv")).unwrap().count(), 1);

    temp.write("work/b.yaml", "2");
    let second = commit(&work, &[]);
    push(&work);
    watch.watcher.poke();
    watch.at(&second, &[("a.yaml", "1"), ("b.yaml", "2")]).await;

    git(&work, &["reset", "--quiet", "--hard", "HEAD~1"]);
    temp.write("work/a.yaml", "forced");
    let forced = commit(&work, &["--amend"]);
    push(&work);
    watch.watcher.poke();
    watch.at(&forced, &[("a.yaml", "forced")]).await;
    let state = watch
        .sync(|s| s.commit.as_deref() == Some(&forced[10..]))
        .await;
    assert_eq!((state.error, state.notice), (None, None));
}

#[tokio::test]
async fn an_empty_directory_is_filled_and_fetched_again_by_itself() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/a.yaml", "1");
    let first = commit(&work, &[]);
    push(&work);
    let sets = temp.join("sets");
    fs::create_dir(&sets).unwrap();
    let mut options = following(&sets, &url);
    if let Some(git) = &mut options.git {
        git.interval = Duration::from_millis(300);
    }
    let mut watch = Watch::with(options);
    watch.at(&first, &[("a.yaml", "1")]).await;
    git(&work, &["rm", "--quiet", "a.yaml"]);
    let second = commit(&work, &[]);
    push(&work);
    watch.at(&second, &[]).await;
}

#[tokio::test]
async fn what_a_person_did_in_a_followed_checkout_is_put_aside() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/a.yaml", "1");
    let first = commit(&work, &[]);
    push(&work);
    let sets = temp.join("sets");
    let mut watch = Watch::with(following(&sets, &url));
    watch.at(&first, &[("a.yaml", "1")]).await;

    temp.write("sets/a.yaml", "by hand");
    watch
        .at(&format!("{first}+dirty"), &[("a.yaml", "by hand")])
        .await;
    watch.watcher.poke();
    watch.at(&first, &[("a.yaml", "1")]).await;
    let state = watch.sync(|s| s.notice.is_some()).await;
    assert!(state.notice.unwrap().contains("stash list"));
    assert_eq!(git(&sets, &["show", "stash@{0}:a.yaml"]), "by hand");

    temp.write("sets/a.yaml", "committed by hand");
    let local = commit(&sets, &[]);
    watch.at(&local, &[("a.yaml", "committed by hand")]).await;
    watch.watcher.poke();
    watch.at(&first, &[("a.yaml", "1")]).await;
    let saved = format!("imagesetd/saved-{}", &local[10..22]);
    assert_eq!(git(&sets, &["rev-parse", &saved]), local[10..]);
}

#[tokio::test]
async fn a_file_that_git_does_not_know_stops_the_update_instead_of_being_lost() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/a.yaml", "1");
    let first = commit(&work, &[]);
    push(&work);
    let sets = temp.join("sets");
    let mut watch = Watch::with(following(&sets, &url));
    watch.at(&first, &[("a.yaml", "1")]).await;
    temp.write("sets/b.yaml", "mine");
    temp.write("work/b.yaml", "theirs");
    let second = commit(&work, &[]);
    push(&work);
    watch.watcher.poke();
    let state = watch.sync(|s| s.error.is_some()).await;
    let error = state.error.unwrap();
    assert!(
        error.ends_with("untracked working tree files would be overwritten by checkout: b.yaml"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(sets.join("b.yaml")).unwrap(), "mine");
    fs::remove_file(sets.join("b.yaml")).unwrap();
    watch.watcher.poke();
    watch
        .at(&second, &[("a.yaml", "1"), ("b.yaml", "theirs")])
        .await;
    watch.sync(|s| s.error.is_none()).await;
}

#[tokio::test]
async fn a_directory_of_something_else_is_not_touched() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/a.yaml", "1");
    commit(&work, &[]);
    push(&work);
    temp.write("plain/a.yaml", "mine");
    let other = temp.repo("other");
    git(
        &other,
        &["remote", "add", "origin", "https://git.example/x"],
    );
    temp.write("other/a.yaml", "mine");
    for name in ["plain", "other"] {
        let directory = temp.join(name);
        let mut watch = Watch::with(following(&directory, &url));
        let state = watch.sync(|s| s.error.is_some()).await;
        assert_eq!(
            state.error.unwrap(),
            format!(
                "`{}` holds files and is not a Git work tree of {url}; move it away, or correct `git.url` or `directory`",
                directory.display()
            )
        );
        watch.files(&[("a.yaml", "mine")]).await;
    }
}

#[tokio::test]
async fn a_remote_that_is_away_is_a_condition_until_it_is_back() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/a.yaml", "1");
    let first = commit(&work, &[]);
    push(&work);
    let remote = temp.join("remote.git");
    fs::rename(&remote, temp.join("away")).unwrap();
    let sets = temp.join("sets");
    let mut watch = Watch::with(following(&sets, &url));
    let state = watch.sync(|s| s.error.is_some()).await;
    let error = state.error.unwrap();
    assert!(
        error.starts_with(&format!("fetching branch `main` of {url} failed: ")),
        "{error}"
    );
    assert!(state.failing_since.is_some());
    assert!(!sets.exists());
    fs::rename(temp.join("away"), &remote).unwrap();
    watch.watcher.poke();
    watch.at(&first, &[("a.yaml", "1")]).await;

    // A checkout that is there stays while the remote is away.
    fs::rename(&remote, temp.join("away")).unwrap();
    watch.watcher.poke();
    watch.sync(|s| s.error.is_some()).await;
    assert_eq!(fs::read_to_string(sets.join("a.yaml")).unwrap(), "1");
}

#[tokio::test]
async fn a_branch_that_does_not_exist_is_named() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/a.yaml", "1");
    commit(&work, &[]);
    push(&work);
    let mut options = following(&temp.join("sets"), &url);
    if let Some(git) = &mut options.git {
        git.branch = "mian".into();
    }
    let watch = Watch::with(options);
    let error = watch.sync(|s| s.error.is_some()).await.error.unwrap();
    assert!(
        error.contains("`git fetch` failed: fatal: couldn't find remote ref refs/heads/mian"),
        "{error}"
    );
}

#[tokio::test]
async fn a_persons_full_clone_is_followed_and_stays_full() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/a.yaml", "1");
    commit(&work, &[]);
    temp.write("work/a.yaml", "2");
    commit(&work, &[]);
    push(&work);
    git(
        &temp.top,
        &["clone", "--quiet", "-o", "upstream", &url, "sets"],
    );
    temp.write("work/a.yaml", "3");
    let third = commit(&work, &[]);
    push(&work);
    let sets = temp.join("sets");
    let mut watch = Watch::with(following(&sets, &url));
    watch.at(&third, &[("a.yaml", "3")]).await;
    assert_eq!(git(&sets, &["rev-list", "--count", "HEAD"]), "3");
}

#[tokio::test]
async fn files_that_never_equal_their_commit_are_put_aside_once() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    // Committed with other line ends than the attributes ask for: git calls the file modified for ever.
    temp.write("work/a.yaml", "a: 1\r\n");
    temp.write("work/.gitattributes", "");
    commit(&work, &[]);
    let text = "*.yaml text\n";
    temp.write("work/.gitattributes", text);
    git(&work, &["add", ".gitattributes"]);
    git(&work, &["commit", "--quiet", "-m", "m"]);
    push(&work);
    git(&temp.top, &["clone", "--quiet", &url, "sets"]);
    let sets = temp.join("sets");
    temp.write("sets/a.yaml", "a: 1\r\n");
    git(&sets, &["stash", "push", "--quiet", "-m", "once"]);
    // Git looks at what a file holds when its time says that it may have changed.
    temp.write("sets/a.yaml", "a: 1\r\n");
    let watch = Watch::with(following(&sets, &url));
    let state = watch.sync(|s| s.fetched_at.is_some()).await;
    assert_eq!((state.error, state.notice), (None, None));
    let stashes = git(&sets, &["stash", "list"]);
    assert_eq!(stashes.lines().count(), 1, "{stashes}");
}

#[tokio::test]
async fn a_followed_subfolder_that_git_removed_is_not_cloned_into() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/sets/a.yaml", "1");
    temp.write("work/README.md", "r");
    let first = commit(&work, &[]);
    push(&work);
    git(&temp.top, &["clone", "--quiet", &url, "repo"]);
    let sets = temp.join("repo/sets");
    let mut watch = Watch::with(following(&sets, &url));
    watch.at(&first, &[("a.yaml", "1")]).await;
    git(&work, &["rm", "--quiet", "sets/a.yaml"]);
    let second = commit(&work, &[]);
    push(&work);
    watch.watcher.poke();
    watch.at(&second, &[]).await;
    temp.write("work/sets/b.yaml", "3");
    let third = commit(&work, &[]);
    push(&work);
    watch.watcher.poke();
    watch.at(&third, &[("b.yaml", "3")]).await;
    assert!(!sets.join(".git").exists());
}

#[tokio::test]
async fn gits_credential_helper_is_asked_for_the_user_of_the_url() {
    let temp = Temp::new();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        loop {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n")
                && stream.read_buf(&mut request).await.unwrap() > 0
            {}
            let request = String::from_utf8(request).unwrap();
            let given = request
                .lines()
                .find_map(|line| line.strip_prefix("Authorization: Basic "))
                // Git tries the user without a password first: `me:`.
                .filter(|given| *given != "bWU6");
            let answer = match given {
                Some(_) => "403 Forbidden",
                None => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"",
            };
            let answer =
                format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if let Some(given) = given {
                return given.to_owned();
            }
        }
    });
    let url = format!("http://me@{address}/sets.git");
    let sets = temp.join("sets");
    git(&temp.top, &["init", "--quiet", "sets"]);
    git(&sets, &["remote", "add", "origin", &url]);
    // It answers who it is asked for only.
    let helper = "!f() { grep -q ^username=me && echo password=s3cr@t; }; f";
    git(&sets, &["config", "credential.helper", helper]);
    let watch = Watch::with(following(&sets, &url));
    let given = timeout(PATIENCE, asked).await.unwrap().unwrap();
    // `me:s3cr@t`
    assert_eq!(given, "bWU6czNjckB0");
    let error = watch.sync(|s| s.error.is_some()).await.error.unwrap();
    assert!(error.contains("403") && !error.contains("s3cr"), "{error}");
}

#[tokio::test]
async fn a_merge_of_a_person_stops_following_until_it_is_done() {
    let temp = Temp::new();
    let (url, work) = temp.remote();
    temp.write("work/a.yaml", "1");
    let first = commit(&work, &[]);
    push(&work);
    let sets = temp.join("sets");
    let mut watch = Watch::with(following(&sets, &url));
    watch.at(&first, &[("a.yaml", "1")]).await;
    temp.write("sets/.git/MERGE_HEAD", "");
    watch.watcher.poke();
    let error = watch.sync(|s| s.error.is_some()).await.error.unwrap();
    assert!(error.starts_with("a merge is under way in `"), "{error}");
    fs::remove_file(sets.join(".git/MERGE_HEAD")).unwrap();
    watch.watcher.poke();
    watch.sync(|s| s.error.is_none()).await;
}

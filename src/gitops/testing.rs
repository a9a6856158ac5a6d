//! Real Git repositories for tests, independent of the machine's Git configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[path = "../../tests/support/skip.rs"]
mod skip;

pub(super) use skip::skipped;

/// A work tree in a temporary folder.
pub(super) struct Repo {
    pub(super) temp: tempfile::TempDir,
    pub(super) top: PathBuf,
}

impl Repo {
    /// Makes a repository with the branch `main` and no commit.
    pub(super) fn new() -> Self {
        Repo::with(&[])
    }

    /// Makes one with further arguments to `git init`.
    pub(super) fn with(args: &[&str]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path().canonicalize().unwrap().join("repo");
        fs::create_dir(&top).unwrap();
        let repo = Repo { temp, top };
        repo.git(&[&["init", "--quiet", "-b", "main"], args].concat());
        repo
    }

    /// Runs git in the work tree and returns what it printed.
    pub(super) fn git(&self, args: &[&str]) -> String {
        git(&self.top, args)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.top.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Commits all that is there and returns the commit's name.
    pub(super) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }
}

/// Runs git in `folder` and returns what it printed.
pub(super) fn git(folder: &Path, args: &[&str]) -> String {
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

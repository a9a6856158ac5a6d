//! The watched directory: a Git work tree, or plain files where there is no `git`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// A directory that is written as a person would.
pub(crate) struct Directory {
    path: PathBuf,
    has_git: bool,
}

impl Directory {
    /// Makes an empty directory, a Git repository if it can be.
    pub(crate) async fn create(path: &Path) -> Result<Self> {
        tokio::fs::create_dir_all(path).await?;
        let version = Command::new("git").arg("--version").output().await;
        let directory = Directory {
            path: path.to_owned(),
            has_git: version.is_ok_and(|output| output.status.success()),
        };
        if directory.has_git {
            directory
                .git(&["init", "--quiet", "--initial-branch=main"])
                .await?;
        } else {
            println!("(git is not installed: the files are written without commits)");
        }
        Ok(directory)
    }

    /// Writes a file and commits it. Returns the commit, `None` where there is no Git.
    pub(crate) async fn commit(
        &self,
        file: &str,
        text: &str,
        message: &str,
    ) -> Result<Option<String>> {
        tokio::fs::write(self.path.join(file), text).await?;
        if !self.has_git {
            return Ok(None);
        }
        self.git(&["add", file]).await?;
        self.git(&["commit", "--quiet", "-m", message]).await?;
        let head = self.git(&["rev-parse", "HEAD"]).await?;
        Ok(Some(head.trim().to_owned()))
    }

    async fn git(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("git")
            .current_dir(&self.path)
            .args(["-c", "user.name=demo", "-c", "user.email=demo@example.com"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .output()
            .await
            .context("running git")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "git {arguments:?}: {stderr}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

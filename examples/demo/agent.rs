//! The real binary: the daemon as a child, and the command line as a person types it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::site::Site;

/// How long the daemon may take to begin, or to see a commit.
const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon while it runs.
pub(crate) struct Agent {
    binary: PathBuf,
    endpoint: String,
    log: PathBuf,
    child: Child,
}

impl Agent {
    /// Starts the daemon; its log goes to a file. It may not answer yet.
    pub(crate) fn start(site: &Site) -> Result<Self> {
        let binary = binary()?;
        let log = site.folder.join("imagesetd.log");
        let out = std::fs::File::create(&log)?;
        let child = Command::new(&binary)
            .args(["serve", "--config"])
            .arg(site.settings_file())
            .env_remove("UPDATE_URL_OVERRIDE")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        Ok(Agent {
            binary,
            endpoint: site.endpoint(),
            log,
            child,
        })
    }

    /// Runs a verb as a person would, its output on this terminal.
    pub(crate) async fn type_in(&self, line: &str) -> Result<()> {
        println!("\n$ imagesetd {line}");
        let status = self.command(line).status().await?;
        ensure!(
            status.success(),
            "`imagesetd {line}` ended with {status}; {}",
            self.last_words()
        );
        Ok(())
    }

    /// Waits until the status, as JSON, is as wanted, and returns it.
    pub(crate) async fn wait(
        &mut self,
        what: &str,
        done: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let output = self.command("status --output json").output().await?;
            let status = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            if output.status.success() && done(&status) {
                return Ok(status);
            }
            if let Some(ended) = self.child.try_wait()? {
                bail!("the daemon ended with {ended}; {}", self.last_words());
            }
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(
                Instant::now() < until,
                "the daemon did not {what} within {PATIENCE:?}. Status: {status} {said}{}",
                self.last_words()
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends the daemon as systemd would.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(id) = self.child.id() {
            kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
        }
        let ended = timeout(Duration::from_secs(10), self.child.wait()).await;
        if ended.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }

    /// Returns the binary's path.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(line.split(' '))
            .env("IMAGESETD_ENDPOINT", &self.endpoint)
            .env_remove("IMAGESETD_CONFIG")
            .env_remove("IMAGESETD_TOKEN")
            .kill_on_drop(true);
        command
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(10).collect();
        let tail: Vec<_> = lines.into_iter().rev().collect();
        format!("the daemon's log ends with:\n{}", tail.join("\n"))
    }
}

/// Finds the binary beside this example: `target/release/examples/demo` and `target/release/imagesetd`.
fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .parent()
        .and_then(Path::parent)
        .context("this example lies nowhere")?;
    let binary = folder.join("imagesetd");
    ensure!(
        binary.is_file(),
        "{} is not there; build it first: cargo build --release",
        binary.display()
    );
    Ok(binary)
}

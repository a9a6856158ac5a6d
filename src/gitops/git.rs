//! Runs the system's `git`, bounded in time and output.
//!
//! The repository is named outright (`GIT_DIR`, `GIT_WORK_TREE`) instead of being discovered: Git then does not ask who owns it.
//! A daemon's user is often not the owner, and `safe.directory` is not heeded in every way of setting it by every Git. What that
//! question protects from is switched off instead: hooks, fsmonitor programs and, for looks, every transport.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::timeout,
};

/// How much of a command's answer is read, in bytes: the listing of a repository with some 500,000 files.
const MAX_OUTPUT: u64 = 64 << 20;

/// How much of what a command says on stderr is read, in bytes.
const MAX_STDERR: u64 = 64 << 10;

/// How long a command that was told to end may take for it.
const GRACE: Duration = Duration::from_secs(2);

/// How long a command that only looks at local files may take.
pub(super) const LOCAL: Duration = Duration::from_secs(60);

/// How long a command may take that brings files: a first fetch may bring a large repository over a slow line.
pub(super) const REMOTE: Duration = Duration::from_secs(600);

/// Variables that would have git look at another repository, or heed somebody else's configuration for one command.
const CLEARED: [&str; 14] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_TRACE",
];

/// Why a `git` command gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no `git` on this machine.
    #[error("`git` is not installed (looked for in PATH)")]
    Absent,
    /// It could not be started or listened to.
    #[error("running `git {command}` failed: {source}")]
    Run {
        /// The subcommand.
        command: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// It ended with an error; `said` is its own most telling line, credentials in it replaced.
    #[error("`git {command}` failed: {said}")]
    Failed {
        /// The subcommand.
        command: String,
        /// Git's words.
        said: String,
    },
    /// It was ended by us.
    #[error("`git {command}` did not finish within {}s and was ended", after.as_secs())]
    TimedOut {
        /// The subcommand.
        command: String,
        /// The limit.
        after: Duration,
    },
    /// It answered more than anybody expects.
    #[error("`git {command}` answered more than {} MiB", MAX_OUTPUT >> 20)]
    TooMuch {
        /// The subcommand.
        command: String,
    },
}

/// A repository with a work tree, by its two folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// `.git`, or where the file `.git` points to.
    pub(super) git_dir: PathBuf,
    /// The work tree's top folder.
    pub(super) top: PathBuf,
}

impl Repository {
    /// Prepares a command that reads from this repository and nothing else, and never writes.
    pub(super) fn look(&self, command: &str) -> Git {
        let mut git = self.command(command);
        git.command
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_ALLOW_PROTOCOL", "none");
        git
    }

    /// Prepares a command that may write to this repository.
    pub(super) fn command(&self, command: &str) -> Git {
        let mut git = Git::new(command);
        git.command
            .current_dir(&self.top)
            .env("GIT_DIR", &self.git_dir)
            .env("GIT_WORK_TREE", &self.top);
        git
    }
}

/// A `git` command on its way.
pub(super) struct Git {
    name: String,
    command: Command,
    limit: Duration,
}

impl Git {
    /// Prepares `git command` without a repository.
    pub(super) fn new(name: &str) -> Self {
        let mut command = Command::new("git");
        for variable in CLEARED {
            command.env_remove(variable);
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .args(["-c", "core.fsmonitor=false"])
            .args(["-c", "core.hooksPath=/dev/null"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        Git {
            name: name.to_owned(),
            command,
            limit: LOCAL,
        }
    }

    /// Sets a configuration for this command; it shows in the list of processes, so nothing secret.
    pub(super) fn config(mut self, key: &str, value: &str) -> Self {
        self.command.arg("-c").arg(format!("{key}={value}"));
        self
    }

    pub(super) fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    /// Lets the command take longer than local files need.
    pub(super) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the command with its arguments and returns what it printed.
    pub(super) async fn run(self, args: &[&str]) -> Result<Vec<u8>, Error> {
        let (command, limit) = (self.name.clone(), self.limit);
        let mut process = self.spawn(args)?;
        match timeout(limit, process.answer()).await {
            Ok(Ok(Answer::Done { ok: true, out, .. })) => Ok(out),
            Ok(Ok(Answer::Done { said, .. })) => Err(Error::Failed {
                command,
                said: telling_line(&String::from_utf8_lossy(&said)),
            }),
            Ok(Ok(Answer::TooMuch)) => {
                process.end().await;
                Err(Error::TooMuch { command })
            }
            Ok(Err(source)) => Err(Error::Run { command, source }),
            Err(_) => {
                process.end().await;
                let after = limit;
                Err(Error::TimedOut { command, after })
            }
        }
    }

    fn spawn(mut self, args: &[&str]) -> Result<Process, Error> {
        self.command.arg(&self.name).args(args);
        match self.command.spawn() {
            Ok(child) => Ok(Process { child }),
            Err(e) if e.kind() == io::ErrorKind::NotFound && on_path().is_none() => {
                Err(Error::Absent)
            }
            Err(source) => Err(Error::Run {
                command: self.name,
                source,
            }),
        }
    }

    /// Runs the command and returns what it printed as text without the line end.
    pub(super) async fn text(self, args: &[&str]) -> Result<String, Error> {
        let out = self.run(args).await?;
        Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
    }
}

/// Where `git` is, so that a missing work tree is not taken for a missing program.
fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("git"))
        .find(|git| git.is_file())
}

enum Answer {
    Done {
        ok: bool,
        out: Vec<u8>,
        said: Vec<u8>,
    },
    TooMuch,
}

/// A running command; dropped before its end it takes the programs it started with it.
struct Process {
    child: Child,
}

impl Process {
    async fn answer(&mut self) -> io::Result<Answer> {
        let (Some(out), Some(said)) = (self.child.stdout.take(), self.child.stderr.take()) else {
            return Err(io::Error::other("its output is not connected"));
        };
        let (out, said) = tokio::try_join!(bounded(out, MAX_OUTPUT), drained(said, MAX_STDERR))?;
        if out.len() as u64 > MAX_OUTPUT {
            return Ok(Answer::TooMuch);
        }
        let ok = self.child.wait().await?.success();
        Ok(Answer::Done { ok, out, said })
    }

    /// Asks for the end, so that git removes its lock files, and insists after a while.
    async fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        if timeout(GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::SIGKILL);
            // A process in an uninterruptible wait stays until the file system answers; the runtime reaps it then.
            let _ = timeout(GRACE, self.child.wait()).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid {
            // It may have ended just now.
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
    }
}

async fn bounded(from: impl AsyncRead + Unpin, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Reads up to `limit` bytes and throws the rest away, so that the writer is not held up.
async fn drained(mut from: impl AsyncRead + Unpin, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    (&mut from).take(limit).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(bytes)
}

/// Returns the line that says most: the last that git marks as an error, else the last; with names of files where git lists them.
fn telling_line(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
    let marked = lines.iter().rposition(|l| {
        ["fatal: ", "error: "]
            .iter()
            .any(|mark| l.starts_with(mark))
    });
    let Some(at) = marked.or(lines.len().checked_sub(1)) else {
        return "it said nothing".to_owned();
    };
    let files = lines[at + 1..].iter().take_while(|l| l.starts_with('\t'));
    let mut text = lines[at].trim().to_owned();
    for file in files.take(5) {
        text.push(' ');
        text.push_str(file.trim());
    }
    redact(&text)
}

/// Replaces what stands between `://` and `@` of a URL.
pub(super) fn redact(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        redacted.push_str(before);
        let authority = after
            .find(|c: char| c == '/' || c.is_whitespace() || c == '\'' || c == '"')
            .unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(end) => {
                redacted.push_str("***");
                &after[end..]
            }
            None => after,
        };
    }
    redacted.push_str(rest);
    redacted
}

/// Finds the repository whose work tree `path` is in, as git does: by looking for `.git` upwards.
///
/// `path` has no links in it. A `.git` that cannot be read counts as none.
pub(super) fn repository_of(path: &Path) -> Option<Repository> {
    path.ancestors().find_map(|top| {
        let git_dir = git_dir_of(&top.join(".git"))?;
        git_dir.join("HEAD").symlink_metadata().ok()?;
        Some(Repository {
            git_dir,
            top: top.to_owned(),
        })
    })
}

/// Returns what a `.git` stands for: itself, or what it points to where it is a file (worktrees, submodules).
fn git_dir_of(dot_git: &Path) -> Option<PathBuf> {
    let metadata = dot_git.metadata().ok()?;
    if metadata.is_dir() {
        return dot_git.canonicalize().ok();
    }
    if metadata.len() > 8192 {
        return None;
    }
    let text = std::fs::read_to_string(dot_git).ok()?;
    let target = text.strip_prefix("gitdir:")?.trim();
    dot_git.parent()?.join(target).canonicalize().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_urls_are_replaced() {
        let cases = [
            ("no url here", "no url here"),
            ("https://git.lan/x", "https://git.lan/x"),
            ("https://me:s3cret@git.lan/x", "https://***@git.lan/x"),
            (
                "unable to access 'https://tok@git.lan/x/': 401 ssh://git@h/y",
                "unable to access 'https://***@git.lan/x/': 401 ssh://***@h/y",
            ),
            ("https://a:b@c@host/x", "https://***@host/x"),
            ("https://host/x@y", "https://host/x@y"),
        ];
        for (text, redacted) in cases {
            assert_eq!(redact(text), redacted);
        }
    }

    #[test]
    fn the_telling_line_is_the_one_marked_by_git() {
        let said = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n";
        assert_eq!(
            telling_line(said),
            "fatal: Could not read from remote repository."
        );
        let said = "error: The following untracked working tree files would be overwritten by checkout:\n\tb.yaml\n\tc.yaml\nPlease move or remove them before you switch branches.\nAborting\n";
        assert_eq!(
            telling_line(said),
            "error: The following untracked working tree files would be overwritten by checkout: b.yaml c.yaml"
        );
        assert_eq!(telling_line("a\nb\n\n"), "b");
        assert_eq!(telling_line(""), "it said nothing");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended() {
        // `git cat-file --batch` would wait for its input, which is empty; an alias that sleeps does not end by itself.
        let error = Git::new("hang")
            .config("alias.hang", "!sleep 600")
            .limit(Duration::from_millis(50))
            .run(&[])
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`git hang` did not finish within 0s and was ended"
        );
    }

    #[tokio::test]
    async fn a_failure_carries_gits_own_words() {
        let error = Git::new("rev-parse")
            .env("GIT_DIR", "/nonexistent")
            .run(&["HEAD"])
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`git rev-parse` failed: fatal: not a git repository: '/nonexistent'"
        );
    }
}

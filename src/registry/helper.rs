//! Asks credential helpers (`docker-credential-NAME get`) and remembers their answers for a while.
//!
//! Protocol: docker-credential-helpers. The server's name goes to standard input; JSON comes back, or on failure a text.

use std::{
    collections::HashMap,
    io,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::Instant,
};

use crate::registry::{
    credential::{Credential, Identity, Secret},
    protocol,
};

/// Why a credential helper gives nothing, as a clause after its name.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HelperProblem {
    /// There is no such program.
    #[error(
        "is not on this agent's PATH; install it where the agent finds it (a service's PATH is not your shell's), or use an entry with `auth` instead"
    )]
    Missing,
    /// Its name could be a path.
    #[error("cannot be run: such a name has letters, digits, `.`, `_` and `-` only")]
    Name,
    /// The system does not start it.
    #[error("cannot be run: {0}")]
    NotRun(Arc<io::Error>),
    /// It takes too long.
    #[error(
        "did not answer within {} seconds; helpers that wait for a person, or for a desktop, cannot be used by a service", .0.as_secs()
    )]
    Slow(Duration),
    /// It says no.
    #[error("failed{0}; try `echo SERVER | docker-credential-NAME get` as the agent's user")]
    Failed(String),
    /// It does not speak the protocol.
    #[error(
        "answered with something else than `Username` and `Secret`; is it a credential helper?"
    )]
    Answer,
}

/// How long a helper may take: those of clouds ask a service of theirs.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How long what a helper gave is used. Those of clouds give what lasts for hours; one that is refused is asked for anew at once.
const KEPT: Duration = Duration::from_secs(300);

/// How long a helper that failed, or has nothing, is left alone.
const SPARED: Duration = Duration::from_secs(30);

/// The longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// The user name by which a helper says that its secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// What a helper gave: a credential, nothing, or a problem.
type Given = Result<Option<Credential>, HelperProblem>;

/// The helpers, each asked once at a time for one server.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    slots: Mutex<HashMap<Question, Arc<Slot>>>,
}

/// A helper's name and a server's.
type Question = (Arc<str>, Arc<str>);

type Slot = tokio::sync::Mutex<Memory>;

/// What a helper gave for a server.
#[derive(Debug, Default)]
struct Memory {
    /// Until when it counts.
    given: Option<(Instant, Given)>,
    /// What was refused; the helper is asked once whether it has something else by now.
    doubted: Option<Identity>,
}

impl Helpers {
    /// Returns what `helper` has for `server`, from memory where it was asked a moment ago.
    pub(super) async fn get(&self, helper: &Arc<str>, server: &Arc<str>) -> Given {
        let slot = self.slot(helper, server);
        let mut memory = slot.lock().await;
        match &memory.given {
            Some((until, given)) if Instant::now() < *until => return given.clone(),
            Some(_) => memory.doubted = None,
            None => {}
        }
        let given = run(helper, server, TIME_LIMIT).await;
        let lasts = match &given {
            Ok(Some(_)) => KEPT,
            Ok(None) | Err(_) => SPARED,
        };
        memory.given = Some((Instant::now() + lasts, given.clone()));
        given
    }

    /// Forgets what `helper` gave for `server` and was refused, unless that is something else by now, or was doubted before.
    pub(super) async fn forget(&self, helper: &Arc<str>, server: &Arc<str>, refused: Identity) {
        let slot = self.slot(helper, server);
        let mut memory = slot.lock().await;
        let same = |c: &Credential| c.identity() == refused;
        if matches!(&memory.given, Some((_, Ok(Some(credential)))) if same(credential))
            && memory.doubted != Some(refused)
        {
            *memory = Memory {
                given: None,
                doubted: Some(refused),
            };
        }
    }

    fn slot(&self, helper: &Arc<str>, server: &Arc<str>) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (helper.clone(), server.clone());
        slots.entry(key).or_default().clone()
    }
}

/// Runs a helper; it and what it started are ended when it takes too long.
async fn run(helper: &str, server: &str, limit: Duration) -> Given {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if helper.is_empty() || !helper.bytes().all(plain) {
        return Err(HelperProblem::Name);
    }
    let mut program = Command::new(format!("docker-credential-{helper}"));
    ask(program.arg("get"), server, limit).await
}

async fn ask(program: &mut Command, server: &str, limit: Duration) -> Given {
    let started = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // It may hold anything; the protocol's messages come on standard output.
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = started.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => HelperProblem::Missing,
        _ => HelperProblem::NotRun(Arc::new(e)),
    })?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let ended = tokio::time::timeout(limit, talk(&mut child, server)).await;
    if ended.is_err()
        && let Some(group) = group
    {
        // It may have ended by itself this moment.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let (success, answer) = ended
        .map_err(|_| HelperProblem::Slow(limit))?
        .map_err(|e| HelperProblem::NotRun(Arc::new(e)))?;
    read(success, &answer)
}

async fn talk(child: &mut Child, server: &str) -> io::Result<(bool, Vec<u8>)> {
    if let Some(mut input) = child.stdin.take() {
        // One that fails at once does not read; its answer says why.
        let _ = input.write_all(server.as_bytes()).await;
    }
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        let mut output = output.take(MAX_ANSWER_BYTES + 1);
        output.read_to_end(&mut answer).await?;
    }
    Ok((child.wait().await?.success(), answer))
}

fn read(success: bool, answer: &[u8]) -> Given {
    if answer.len() as u64 > MAX_ANSWER_BYTES {
        return Err(HelperProblem::Answer);
    }
    if !success {
        return refusal(&String::from_utf8_lossy(answer));
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Username")]
        user: Option<String>,
        #[serde(rename = "Secret")]
        secret: Option<Secret>,
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| HelperProblem::Answer)?;
    let (user, secret) = (answer.user.unwrap_or_default(), answer.secret);
    Ok(match secret {
        Some(secret) if user == TOKEN_USER => Some(Credential::IdentityToken(secret)),
        Some(password) if !user.is_empty() => Some(Credential::Password { user, password }),
        // Some helpers answer an empty pair for what they do not know.
        Some(secret) if !secret.expose().is_empty() => return Err(HelperProblem::Answer),
        _ => None,
    })
}

/// Reads the text of a helper that failed: that it has nothing is no failure.
fn refusal(text: &str) -> Given {
    let text = text.trim();
    if text.contains("credentials not found") {
        return Ok(None);
    }
    // What looks like an answer is not shown.
    let said = match text.is_empty() || text.contains(['{', '"']) {
        true => String::new(),
        false => format!(": {}", protocol::printable(text, 200)),
    };
    Err(HelperProblem::Failed(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(given: Given) -> String {
        match given {
            Ok(Some(Credential::Password { user, password })) => {
                format!("{user} {}", password.expose())
            }
            Ok(Some(Credential::IdentityToken(token))) => format!("token {}", token.expose()),
            Ok(None) => "nothing".to_owned(),
            Err(problem) => problem.to_string(),
        }
    }

    #[test]
    fn answers_are_read_as_the_protocol_says() {
        for (success, text, expected) in [
            (
                true,
                r#"{"ServerURL":"x","Username":"u","Secret":"p"}"#,
                "u p",
            ),
            (true, r#"{"Username":"<token>","Secret":"t"}"#, "token t"),
            (true, r#"{"Username":"","Secret":""}"#, "nothing"),
            (true, r#"{}"#, "nothing"),
            (
                false,
                "credentials not found in native keychain\n",
                "nothing",
            ),
            (
                false,
                "no session\n",
                "failed: no session; try `echo SERVER | docker-credential-NAME get` as the agent's user",
            ),
            (
                false,
                r#"{"Secret":"hunter2""#,
                "failed; try `echo SERVER | docker-credential-NAME get` as the agent's user",
            ),
            (
                true,
                "hunter2",
                "answered with something else than `Username` and `Secret`; is it a credential helper?",
            ),
        ] {
            assert_eq!(shown(read(success, text.as_bytes())), expected, "{text}");
        }
        let endless = vec![b' '; MAX_ANSWER_BYTES as usize + 1];
        assert!(matches!(read(true, &endless), Err(HelperProblem::Answer)));
    }

    #[tokio::test]
    async fn names_that_are_paths_are_not_run_and_absent_programs_are_told() {
        let limit = Duration::from_secs(9);
        for name in ["", "../x", "a b", "x/../../bin/sh"] {
            let given = run(name, "reg.lan", limit).await;
            assert!(matches!(given, Err(HelperProblem::Name)), "{name}");
        }
        let given = run("imagesetd-has-no-such", "reg.lan", limit).await;
        assert!(matches!(given, Err(HelperProblem::Missing)));
    }

    #[tokio::test]
    async fn a_helper_is_told_the_server_and_not_waited_for_without_end() {
        let ask = async |script: &str, limit| {
            let mut shell = Command::new("/bin/sh");
            shown(ask(shell.args(["-c", script]), "reg.lan:5000", limit).await)
        };
        let limit = Duration::from_secs(60);
        let echo = r#"read -r server; echo "{\"Username\":\"u\",\"Secret\":\"$server\"}""#;
        assert_eq!(ask(echo, limit).await, "u reg.lan:5000");
        let deaf = "exec <&-; echo credentials not found; exit 1";
        assert_eq!(ask(deaf, limit).await, "nothing");
        let flood = ask("while :; do echo aaaaaaaaaaaaaaaaaaaaaaaa; done", limit);
        assert!(flood.await.starts_with("answered with something else"));
        // What it started holds its output open.
        let hanging = ask("sleep 1000 & wait", Duration::from_millis(50)).await;
        assert!(
            hanging.starts_with("did not answer within 0 seconds"),
            "{hanging}"
        );
    }
}

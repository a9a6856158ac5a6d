//! A machine of its own for what changes one: systemd boots in new namespaces, and everything that is changed there is gone afterwards.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use super::support::{registry::wait_up_to, skip, systemd};

/// The oldest systemd that has all that the unit's tests use (`LoadCredential=`).
const OLDEST: u32 = 247;

/// Within this time there is a systemd where machines can be had.
const BECOMING: Duration = Duration::from_secs(60);

/// How long a machine may take to boot where machines can be had.
const PATIENCE: Duration = Duration::from_secs(180);

/// Where programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How far a machine has come.
enum State {
    Ended,
    Begun,
    HasSystemd,
    Up,
}

/// A machine that is up. It ends with this value.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    keeper: Child,
    pid: String,
}

impl Machine {
    /// Boots. What is in the folders `kept` is the same there as here.
    ///
    /// Returns nothing, and says that `test` is skipped, where this machine cannot have such machines.
    pub(crate) fn boot(test: &str, kept: &[&Path]) -> Option<Machine> {
        let booted = match lacking() {
            Some(why) => Err(why),
            None => Machine::try_boot(kept),
        };
        booted.map_err(|why| skip::skipped(test, &why)).ok()
    }

    fn try_boot(kept: &[&Path]) -> Result<Machine, String> {
        let folder = tempfile::tempdir().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ansible/machine.sh");
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let keeper = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", script, "keep"])
            .arg(folder.path())
            .args(kept)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut machine = Machine {
            folder,
            keeper,
            pid: String::new(),
        };
        let begin = Instant::now();
        // Where systemd runs, a machine can be had: one that is late is no reason to skip anything.
        let up = wait_up_to(
            PATIENCE,
            "a machine with systemd to boot",
            || match machine.state() {
                State::Up => Some(true),
                State::Ended => Some(false),
                State::Begun if begin.elapsed() > BECOMING => Some(false),
                State::Begun | State::HasSystemd => None,
            },
        );
        match up {
            true => Ok(machine),
            false => Err(format!(
                "namespaces with systemd cannot be had here: {}",
                machine.said()
            )),
        }
    }

    fn state(&mut self) -> State {
        let ended = self.keeper.try_wait().unwrap().is_some();
        if ended || self.folder.path().join("ended").exists() {
            return State::Ended;
        }
        let pid = fs::read_to_string(self.folder.path().join("pid")).unwrap_or_default();
        let Some(pid) = pid.strip_suffix('\n') else {
            return State::Begun;
        };
        pid.clone_into(&mut self.pid);
        // Until then it has the sockets of this machine's systemd.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name != "systemd\n" {
            return State::Begun;
        }
        let asked = self.run("systemctl is-active multi-user.target");
        match asked.status.success() {
            true => State::Up,
            false => State::HasSystemd,
        }
    }

    fn said(&self) -> String {
        let said = fs::read_to_string(self.folder.path().join("log")).unwrap();
        said.lines().last().unwrap_or("no reason given").to_owned()
    }

    /// Where a file of the machine is, seen from here.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// Prepares a command that runs there as it would here.
    pub(crate) fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        let folder = command.get_current_dir().unwrap_or(Path::new("/"));
        inside
            .args(["--target", &self.pid])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"])
            .args(["env", "-C"])
            .arg(folder)
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null());
        let set = command.get_envs();
        inside.envs(set.filter_map(|(name, value)| Some((name, value?))));
        inside
    }

    /// Runs a command there; its words are separated by blanks.
    pub(crate) fn run(&self, line: &str) -> Output {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        self.inside(&command).output().unwrap()
    }

    /// What a command says there, which may fail.
    pub(crate) fn says(&self, line: &str) -> String {
        let output = self.run(line);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Every file that differs from this machine's.
    pub(crate) fn layer(&self) -> Vec<String> {
        let files = self.says("find /run/layer -printf %P:%y:%m:%U:%s\\n");
        let mut files: Vec<_> = files.lines().map(str::to_owned).collect();
        files.sort();
        files
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.pid.is_empty() {
            let mut log = String::new();
            if let Ok(mut file) = fs::File::open(self.path("/run/agent.log")) {
                let _ = file.read_to_string(&mut log);
            }
            eprintln!("{}", self.says("systemctl status --no-pager imagesetd"));
            eprintln!("the agent's log:\n{log}");
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Says what this machine lacks.
fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can boot a machine in namespaces".into());
    }
    match systemd::version() {
        None => Some("systemd is not installed".into()),
        Some(version) if version < OLDEST => {
            Some(format!("systemd {version} is older than {OLDEST}"))
        }
        Some(_) => None,
    }
}

//! Runs a command and says what it cost, by the system's own books.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    signal::{Signal, kill},
};
use serde::{Deserialize, Serialize};

/// What a command cost.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Seconds of both cores, in the program and in the system for it.
    pub(crate) cpu: f64,
    /// The most memory it had at once, in KiB.
    pub(crate) memory: i64,
    /// Its exit code; negative where a signal ended it.
    pub(crate) code: i32,
}

/// Runs a command in a process of its own, which alone has it as a child: the books of children are kept together.
///
/// With `end_after`, it is killed after that long, unless it has ended.
pub(crate) fn run(command: &[String], log: &Path, end_after: Option<Duration>) -> Cost {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("--measure")
        .arg(end_after.map_or(0, |d| d.as_millis()).to_string())
        .args(command)
        .stderr(log)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The other end of [`run`]; prints the cost and ends the process.
pub(crate) fn child(command: &[String]) -> ! {
    let (end_after, command) = command.split_first().unwrap();
    let end_after: u64 = end_after.parse().unwrap();
    let begun = Instant::now();
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        // Standard output is the cost's; what the tool says goes to the log.
        .stdout(std::io::stderr())
        .spawn()
        .unwrap_or_else(|e| panic!("{} does not start: {e}", command[0]));
    if end_after > 0 {
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(end_after));
            let _ = kill(pid, Signal::SIGKILL);
        });
    }
    let status = child.wait().unwrap();
    let wall = begun.elapsed().as_secs_f64();
    let books = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    let cost = Cost {
        wall,
        cpu: seconds(books.user_time()) + seconds(books.system_time()),
        memory: books.max_rss(),
        code: status.code().unwrap_or(-1),
    };
    println!("{}", serde_json::to_string(&cost).unwrap());
    std::process::exit(0);
}

//! Event-Driven Ansible, from the tarball: the event source, called as ansible-rulebook calls it, and the rulebook, by ansible-rulebook itself.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    site::tool as image,
    stage::{Stage, TOKEN, TOOLS},
    support::{skip, tool},
    workshop::{self, Workshop, check},
};

/// How long the rulebook may take for what it does. It starts Java and Ansible, on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(300);

/// The event source, until this value ends.
struct Source {
    child: Child,
    lines: Receiver<String>,
}

impl Source {
    fn begin(workshop: &Workshop, count: u32, args: &Value) -> Source {
        let plugin = "extensions/eda/plugins/event_source/events.py";
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ansible/source.py");
        let mut child = workshop
            .command()
            .args(["python3", script])
            .arg(workshop.collection().join(plugin))
            .args([count.to_string(), args.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = lines(&mut child);
        Source { child, lines }
    }

    /// Returns the next event; null where it ended without one.
    fn next(&mut self) -> Value {
        let line = match self.lines.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => panic!("the event source says nothing"),
            line => line.unwrap_or_default(),
        };
        serde_json::from_str::<Value>(&line).unwrap_or_default()["imagesetd"].clone()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// What a process says, line by line, for waits that end.
fn lines(child: &mut Child) -> Receiver<String> {
    let out = BufReader::new(child.stdout.take().unwrap());
    let (told, lines) = channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let _ = told.send(line);
        }
    });
    lines
}

/// Ends the group of processes that a process leads.
fn end(child: &mut Child) {
    let group = nix::unistd::Pid::from_raw(-i32::try_from(child.id()).unwrap());
    let _ = nix::sys::signal::kill(group, nix::sys::signal::SIGKILL);
    let _ = child.wait();
}

#[test]
fn events_come_and_come_again_after_the_daemon_was_away() {
    let workshop = Workshop::new("newest");
    let mut stage = Stage::new(&[]);
    let endpoint = format!("unix://{}", stage.site.socket().display());
    let args = json!({
        "endpoint": endpoint, "binary_path": env!("CARGO_BIN_EXE_imagesetd"), "retry_delay": 0.1,
        "kinds": ["plan_ready", "run_finished"],
    });
    stage.site.wait_for("the plan", |status| {
        status["image_sets"][0]["pending_reason"] == "manual"
    });
    let mut source = Source::begin(&workshop, 3, &args);
    let first = source.next();
    assert_eq!(
        (&first["kind"], &first["image_set"], &first["standing"]),
        (&json!("plan_ready"), &json!("tools"), &json!(true))
    );
    stage.site.cli("apply tools --output json");
    let second = source.next();
    assert_eq!(
        (&second["kind"], &second["image_set"]),
        (&json!("run_finished"), &json!("tools"))
    );
    stage.site.stop();
    stage
        .site
        .write("more.yaml", &super::stage::TOOLS.replace("hammer", "saw"));
    stage.site.start();
    let third = source.next();
    assert_eq!(
        (&third["kind"], &third["image_set"]),
        (&json!("plan_ready"), &json!("more"))
    );
    let wrong = json!({
        "endpoint": endpoint, "binary_path": env!("CARGO_BIN_EXE_imagesetd"), "imageset": "nothing",
    });
    let mut source = Source::begin(&workshop, 1, &wrong);
    assert_eq!(source.next(), Value::Null);
    let mut said = String::new();
    let stderr = source.child.stderr.take().unwrap();
    BufReader::new(stderr).read_line(&mut said).unwrap();
    assert!(
        said.starts_with("refused: there is no image set nothing"),
        "{said}"
    );
}

/// ansible-rulebook with the collection's rulebook, until this value ends.
struct Rulebook {
    child: Child,
    lines: Receiver<String>,
    said: String,
    errors: PathBuf,
}

impl Rulebook {
    fn begin(workshop: &Workshop, inventory: &str, vars: &Value) -> Rulebook {
        fs::write(workshop.path("inventory"), inventory).unwrap();
        fs::write(workshop.path("vars.json"), vars.to_string()).unwrap();
        fs::create_dir(workshop.path("scratch")).unwrap();
        let mut child = workshop
            .command()
            .env("TMPDIR", workshop.path("scratch"))
            .env("PYTHONUNBUFFERED", "1")
            .env("IMAGESETD_TOKEN_FILE", "/nowhere")
            .args([
                "ansible-rulebook",
                "--rulebook",
                "imagesetd.mirror.apply_small_plans",
            ])
            .args(["--inventory", "inventory", "--vars", "vars.json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(workshop.path("errors")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = lines(&mut child);
        Rulebook {
            child,
            lines,
            said: String::new(),
            errors: workshop.path("errors"),
        }
    }

    /// Waits until it has said this line.
    fn wait_for(&mut self, line: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if self.next(line, left).is_some_and(|said| said == line) {
                return;
            }
        }
    }

    /// Looks, beside what it says, until there is something to see.
    fn look_for<T>(&mut self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            let left = end.saturating_duration_since(Instant::now());
            self.next(what, left.min(Duration::from_millis(50)));
        }
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Returns the next line where one comes within the time; panics where none can come, or the time is up.
    fn next(&mut self, what: &str, patience: Duration) -> Option<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => {
                self.said += &line;
                self.said.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Timeout) if !patience.is_zero() => None,
            Err(error) => panic!("no {what}: {error}:\n{}\n{}", self.said, self.errors()),
        }
    }
}

impl Drop for Rulebook {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Says whether ansible-rulebook is there and finds a Java; else that the test is skipped.
fn can_run(test: &str) -> bool {
    if !workshop::has("rulebook") {
        skip::skipped(test, "ansible-rulebook could not be installed");
        return false;
    }
    let asked = Command::new(tool::find_installed("with-ansible-rulebook"))
        .args(["ansible-rulebook", "--version"])
        .output()
        .unwrap();
    if !asked.status.success() {
        skip::skipped(test, "ansible-rulebook does not start; has it a Java?");
    }
    asked.status.success()
}

/// An image set of one image by its digest, which drains no node.
fn pinned(place: &str, name: &str) -> String {
    let digest = image(name).digest().to_string();
    TOOLS.replace(
        "UPSTREAM/team/hammer:v1",
        &format!("{place}/team/{name}@{digest}"),
    )
}

#[test]
fn the_rulebook_applies_small_plans_and_tells_of_runs_that_failed() {
    let test = "the_rulebook_applies_small_plans_and_tells_of_runs_that_failed";
    if !can_run(test) {
        return;
    }
    let workshop = Workshop::new("rulebook");
    let stage = Stage::new(&[("small.yaml", &pinned("UPSTREAM", "saw"))]);
    let site = &stage.site;
    let words = stage.words(&workshop);
    let vars = json!({
        "imagesetd_endpoint": words["tcp"], "imagesetd_token": TOKEN, "imagesetd_binary": words["binary"],
        "imagesetd_connection": {"endpoint": words["tcp"], "token": TOKEN, "binary_path": words["binary"]},
    });
    let inventory = "[mirror]\nbastion ansible_connection=local ansible_python_interpreter='{{ ansible_playbook_python }}'\n";
    let mut rulebook = Rulebook::begin(&workshop, inventory, &vars);
    let runs = |set: &str| {
        let answer = site.cli(&format!("runs list {set} --output json")).stdout;
        serde_json::from_slice::<Value>(&answer).unwrap_or_default()["runs"].clone()
    };
    let ended = |set: &'static str| {
        move || {
            let run = runs(set)[0].clone();
            (run["state"].is_string() && run["state"] != "running").then_some(run)
        }
    };
    let run = rulebook.look_for("run of the small plan", ended("small"));
    assert_eq!(run["state"], "succeeded", "{run}");
    let place = format!(
        "docker://{}/ocp/team/saw@{}",
        site.mirror.address(),
        image("saw").digest()
    );
    let inspected = Command::new(tool::find("skopeo"))
        .args(["inspect", "--tls-verify=false", &place])
        .output()
        .unwrap();
    check("skopeo inspect", &inspected);

    site.write("slow.yaml", &pinned("GATE", "slow"));
    let run = rulebook.look_for("run that goes on", || {
        let run = runs("slow")[0].clone();
        (run["state"] == "running").then_some(run)
    });
    // What was planned is gone by the time it is asked for.
    let blobs = site.upstream.storage().join("docker/registry/v2/blobs");
    fs::remove_dir_all(blobs).unwrap();
    site.gate.open();
    let id = run["id"].as_str().unwrap();
    let message = format!("run {id} of slow failed: its one image did not land");
    rulebook.wait_for(&message);
    // By its tag an image comes with a document that drains nodes: that is left to a person.
    assert_eq!(runs("tools"), json!([]));
    assert!(!rulebook.said.contains(TOKEN) && !rulebook.errors().contains(TOKEN));
}

//! A site: two registries, a directory of image sets, the daemon, and what a person types.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    fixture::{
        image::{Flavor, Image, Layer},
        place::{Placed, write_distribution_storage},
    },
    gate::Gate,
    git::Repo,
    support::registry::Registry,
};

/// How long anything that is waited for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The site; daemon and registries end with it.
pub(crate) struct Site {
    pub(crate) upstream: Registry,
    pub(crate) mirror: Registry,
    /// Another way to the upstream, which can be closed.
    pub(crate) gate: Gate,
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

/// How a command ended and what it said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// Reads the document on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Site {
    pub(crate) fn new() -> Site {
        Site::with_mirror(Registry::debian())
    }

    /// Makes a site with this mirror.
    pub(crate) fn with_mirror(mirror: Registry) -> Site {
        let upstream = Registry::debian();
        Site {
            gate: Gate::before(upstream.address()),
            upstream,
            mirror,
            folder: tempfile::tempdir().unwrap(),
            daemon: None,
        }
    }

    /// Makes the watched directory a Git work tree.
    pub(crate) fn repo(&self) -> Repo {
        Repo::init(self.directory())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.folder().join("sets")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.folder().join("resources")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder().join("sock")
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.folder().join("imagesetd.yaml")
    }

    /// Puts an image upstream, or another one under the same tag.
    pub(crate) fn publish(&self, repository: &str, tag: &str, image: &Image) {
        let placed = Placed::tagged(repository, tag, image);
        write_distribution_storage(&self.upstream.storage(), &[placed]).unwrap();
    }

    /// Puts simple images upstream, `repository:1` each, and returns their references.
    pub(crate) fn publish_simple(&self, repositories: &[&str]) -> Vec<String> {
        for name in repositories {
            self.publish(name, "1", &Image::simple(name));
        }
        repositories.iter().map(|name| self.source(name)).collect()
    }

    /// Returns the upstream reference `repository:1`.
    pub(crate) fn source(&self, repository: &str) -> String {
        format!("{}/{repository}:1", self.upstream.address())
    }

    /// Puts images upstream that share nothing, and returns their references as they are reached through the gate.
    pub(crate) fn gated(&self, repositories: &[&str]) -> Vec<String> {
        for name in repositories {
            // The largest is begun first.
            let size = if name.starts_with("slow/") { 8 } else { 2 };
            let layers = [Layer::noise(name, size << 10)];
            let image = Image::new(Flavor::Oci, "amd64", &layers, &[("name", name)]);
            self.publish(name, "1", &image);
        }
        let gated = |name: &&str| format!("{}/{name}:1", self.gate.address());
        repositories.iter().map(gated).collect()
    }

    /// Returns the settings that say that these registries speak plain HTTP.
    pub(crate) fn registries(&self) -> String {
        let hosts = [
            self.upstream.address(),
            self.mirror.address(),
            self.gate.address(),
        ];
        let entry = |host| format!("- {{host: \"{host}\", plain_http: true}}\n");
        format!("registries:\n{}", hosts.map(entry).concat())
    }

    /// Removes a tag upstream.
    pub(crate) fn withdraw(&self, repository: &str, tag: &str) {
        let path = format!("docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}");
        fs::remove_dir_all(self.upstream.storage().join(path)).unwrap();
    }

    /// Returns the digest that a tag below the target names in the mirror; none where there is no such tag.
    pub(crate) fn mirrored(&self, repository: &str, tag: &str) -> Option<String> {
        let path = format!(
            "docker/registry/v2/repositories/ocp/{repository}/_manifests/tags/{tag}/current/link"
        );
        fs::read_to_string(self.mirror.storage().join(path)).ok()
    }

    /// Writes the settings: those of every site, and `more` lines.
    pub(crate) fn configure(&self, more: &str) {
        let text = format!(
            "target: {}/ocp\n\
             directory: {}\n\
             state: {}\n\
             output: {}\n\
             listen: [\"unix://{}\"]\n\
             rescan: 1s\n\
             settle: 200ms\n\
             shutdown_timeout: 1s\n\
             {}{more}",
            self.mirror.address(),
            self.directory().display(),
            self.folder().join("state").display(),
            self.output().display(),
            self.socket().display(),
            self.registries(),
        );
        fs::write(self.settings(), text).unwrap();
    }

    /// Starts the daemon with these further settings.
    pub(crate) fn start(&mut self, more: &str) {
        self.configure(more);
        self.serve();
    }

    /// Starts the daemon with the settings as they are.
    pub(crate) fn serve(&mut self) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file());
        let child = binary()
            .args(["serve", "--log-level", "debug", "--config"])
            .arg(self.settings())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.daemon = Some(child.unwrap());
    }

    /// Sends the daemon a signal and waits for its end.
    pub(crate) fn signal(&mut self, signal: Signal) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        kill(Pid::from_raw(daemon.id() as i32), signal).unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                return status;
            }
            if begin.elapsed() > PATIENCE {
                daemon.kill().unwrap();
                panic!("the daemon did not end after {signal}\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops the daemon as systemd does; it has to end well.
    pub(crate) fn stop(&mut self) {
        let status = self.signal(Signal::SIGTERM);
        assert!(status.success(), "{status}\n{}", self.log());
    }

    fn log_file(&self) -> PathBuf {
        self.folder().join("log")
    }

    /// Returns what the daemon logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Prepares a command as a person at this site types it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command
            .args(arguments)
            .current_dir(self.folder())
            .env(
                "IMAGESETD_ENDPOINT",
                format!("unix://{}", self.socket().display()),
            )
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Answer {
        let output = self.command(arguments).output().unwrap();
        Answer {
            code: output.status.code().expect("it ends by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that has to do what it is told, and returns its text.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let answer = self.cli(arguments);
        assert_eq!(answer.code, 0, "{arguments:?}: {answer:?}\n{}", self.log());
        answer.stdout
    }

    /// Runs a command that has to do what it is told, and returns its document.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--output", "json"]].concat();
        let text = self.text(&arguments);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {text}"))
    }

    /// Waits until every image set is ready at a commit, and returns the status.
    pub(crate) fn ready(&self, commit: &str) -> Value {
        let answer = self.cli(&[
            "status",
            "--wait",
            "ready",
            "--revision",
            commit,
            "--timeout",
            "20s",
            "--output",
            "json",
        ]);
        assert_eq!(answer.code, 0, "{}", self.all_there_is());
        answer.json()
    }

    /// Waits until the status is as wanted, and returns it.
    pub(crate) fn until(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        self.poll(what, &["status"], done)
    }

    /// Waits until one image set's status is as wanted, and returns it.
    pub(crate) fn until_set(&self, name: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let is = |status: &Value| find(status, name).is_some_and(&done);
        let status = self.until(&format!("{name}: {what}"), is);
        find(&status, name).unwrap().clone()
    }

    /// Asks again and again until the answer is as wanted.
    pub(crate) fn poll(
        &self,
        what: &str,
        arguments: &[&str],
        done: impl Fn(&Value) -> bool,
    ) -> Value {
        let arguments = [arguments, &["--output", "json"]].concat();
        let begin = Instant::now();
        loop {
            let answer = self.cli(&arguments);
            if answer.code == 0 && done(&answer.json()) {
                return answer.json();
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "waited in vain for {what}; {}\n{}",
                answer.stderr,
                self.all_there_is()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns what helps to understand a failure.
    fn all_there_is(&self) -> String {
        let status = self.cli(&["status"]);
        format!("{}{}\n{}", status.stdout, status.stderr, self.log())
    }

    /// Returns the documents in the output folder by file name.
    pub(crate) fn documents(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        walk(&self.output(), &self.output(), &mut found);
        found
    }

    /// Returns all documents as one text.
    pub(crate) fn all_documents(&self) -> String {
        self.documents().into_values().collect()
    }

    /// Returns the newest run of an image set.
    pub(crate) fn newest_run(&self, set: &str) -> Value {
        self.json(&["runs", "list", set])["runs"][0].clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagesetd"));
    for name in [
        "IMAGESETD_CONFIG",
        "IMAGESETD_ENDPOINT",
        "IMAGESETD_TOKEN",
        "UPDATE_URL_OVERRIDE",
        "OCP_SIGNATURE_URL",
        "OCP_SIGNATURE_VERIFICATION_PK",
        "REGISTRY_AUTH_FILE",
    ] {
        command.env_remove(name);
    }
    command
}

fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != ".git") {
                walk(root, &path, found);
            }
        } else {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(name, fs::read_to_string(path).unwrap());
        }
    }
}

/// Finds an image set in a status.
pub(crate) fn find<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status["image_sets"]
        .as_array()?
        .iter()
        .find(|set| set["name"] == name)
}

/// Returns a condition's message while it holds.
pub(crate) fn condition<'a>(of: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = of["conditions"].as_array()?;
    let found = conditions
        .iter()
        .find(|c| c["type"] == kind && c["status"] == "true")?;
    found["message"].as_str()
}

/// Whether a condition holds.
pub(crate) fn is(of: &Value, kind: &str) -> bool {
    condition(of, kind).is_some()
}

/// An image set of single images.
pub(crate) fn image_set(images: &[impl AsRef<str>]) -> String {
    let mut text = "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  additionalImages:\n".to_owned();
    for image in images {
        text += &format!("  - name: {}\n", image.as_ref());
    }
    text
}

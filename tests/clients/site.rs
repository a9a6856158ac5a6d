//! A site: two registries, an update service, a directory, a daemon.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use serde_json::Value;

use super::{
    fixture::{
        graph::Graph,
        image::Image,
        place::{Placed, write_distribution_storage},
        release::{Release, Spec},
        server::{UpdateServer, free_port},
    },
    gate::Gate,
    support::registry::{Kind, Options, Registry, wait_for},
};

/// What is not usual about a site.
#[derive(Default)]
pub(crate) struct Plot<'a> {
    /// Further settings, as YAML.
    pub(crate) settings: &'a str,
    /// Whether the mirror asks for a password, which the site's credentials then hold.
    pub(crate) password: bool,
}

/// Everything that a daemon needs, and the daemon. What is started ends with it.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    pub(crate) upstream: Registry,
    pub(crate) mirror: Registry,
    /// The upstream behind a door that holds blobs back.
    pub(crate) gate: Arc<Gate>,
    pub(crate) tcp: String,
    pub(crate) updates: UpdateServer,
    _runtime: tokio::runtime::Runtime,
    daemon: Option<Child>,
}

impl Site {
    /// Starts registries and update service, with these files in the directory and content upstream; then the daemon.
    pub(crate) fn new(files: &[(&str, &str)], plot: &Plot) -> Site {
        let mut site = Site::without_daemon(plot);
        for (name, text) in files {
            site.write(name, text);
        }
        site.start();
        site
    }

    fn without_daemon(plot: &Plot) -> Site {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sets")).unwrap();
        let upstream = Registry::debian();
        let options = Options {
            password: plot.password,
            ..Options::default()
        };
        let mirror = Registry::start(Kind::Debian, options);
        let releases = ["4.16.1", "4.16.2"].map(|version| {
            Release::build(&Spec {
                components: &["cli", "console", "etcd", "machine-os-content"],
                ..Spec::new(version, u32::from(version == "4.16.2"), upstream.address())
            })
        });
        fill(&upstream, &releases);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let [first, second] = &releases;
        let graph = Graph::of(&[first, second]).document("stable-4.16");
        let answer = move |channel: &str, arch: &str| {
            (channel == "stable-4.16" && arch == "amd64").then(|| graph.clone())
        };
        let updates = runtime.block_on(UpdateServer::start(answer)).unwrap();
        let gate = Arc::new(Gate::before(upstream.address()));
        let site = Site {
            folder,
            upstream,
            mirror,
            gate,
            tcp: format!("127.0.0.1:{}", free_port().unwrap()),
            updates,
            _runtime: runtime,
            daemon: None,
        };
        fs::write(site.path("imagesetd.yaml"), site.settings(plot.settings)).unwrap();
        site.log_in(super::support::registry::PASSWORD);
        site
    }

    fn settings(&self, more: &str) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        let hosts = [
            self.upstream.address(),
            self.mirror.address(),
            &self.gate.address,
        ];
        let registries: String = hosts
            .iter()
            .map(|host| format!("- {{host: \"{host}\", plain_http: true}}\n"))
            .collect();
        format!(
            "target: {}/ocp\nrelease_signatures: ignore\ndirectory: {}\nsettle: 50ms\nrescan: 1s\nstate: {}\noutput: {}\n\
             listen:\n- unix://{}\n- tcp://{}\nauthfile: {}\nregistries:\n{registries}\
             update_service: {{ocp: \"{}\"}}\nretries: 0\nparallel_images: 1\nshutdown_timeout: 1s\n{more}",
            self.mirror.address(),
            at("sets"),
            at("state"),
            at("resources"),
            at("d.sock"),
            self.tcp,
            at("auth.json"),
            self.updates.url,
        )
    }

    /// Writes the site's credentials for the mirror.
    pub(crate) fn log_in(&self, password: &str) {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let user = super::support::registry::USER;
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let text = serde_json::json!({"auths": {self.mirror.address(): {"auth": auth}}});
        fs::write(self.path("auth.json"), text.to_string()).unwrap();
    }

    /// Starts the daemon and waits until it has looked at the directory.
    pub(crate) fn start(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let daemon = Command::new(env!("CARGO_BIN_EXE_imagesetd"))
            .args(["serve", "--config"])
            .arg(self.path("imagesetd.yaml"))
            .env_clear()
            .env("NOTIFY_SOCKET", self.path("notify"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.daemon = Some(daemon.unwrap());
        self.wait_for("the first look at the directory", |status| {
            let reason = &status["daemon"]["conditions"][0]["reason"];
            reason.as_str().is_some_and(|reason| reason != "Starting")
        });
    }

    /// Ends the daemon in order.
    pub(crate) fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let pid = nix::unistd::Pid::from_raw(daemon.id().try_into().unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM);
            daemon.wait().unwrap();
        }
    }

    /// Asks for the status until it is as wished; returns it.
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || {
            let answer = self.cli("status --output json");
            let status = serde_json::from_slice(&answer.stdout).unwrap_or(Value::Null);
            let log = || fs::read_to_string(self.path("log")).unwrap();
            let asked = answer.status.code();
            assert!(matches!(asked, Some(0 | 5)), "{asked:?}\n{}", log());
            is_so(&status).then_some(status)
        })
    }

    /// Puts a file into the watched directory. `UPSTREAM` and `GATE` stand for the addresses.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path("sets").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, self.filled(text)).unwrap();
        path
    }

    /// Puts addresses into a text.
    pub(crate) fn filled(&self, text: &str) -> String {
        text.replace("UPSTREAM", self.upstream.address())
            .replace("MIRROR", self.mirror.address())
            .replace("GATE", &self.gate.address)
    }

    /// Runs a verb; its words are separated by blanks.
    pub(crate) fn cli(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Prepares a verb.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imagesetd"));
        command
            .args(line.split_whitespace())
            .env_clear()
            .env(
                "IMAGESETD_ENDPOINT",
                format!("unix://{}", self.socket().display()),
            )
            .env("UPDATE_URL_OVERRIDE", &self.updates.url)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("d.sock")
    }

    /// A place of the site's own.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.gate.open();
        self.stop();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            eprintln!("the daemon's log:\n{log}");
        }
    }
}

/// A small image that is the same in every run: its digest and sizes may stand in expectations.
pub(crate) fn tool(name: &str) -> Image {
    Image::simple(name)
}

fn fill(upstream: &Registry, releases: &[Release]) {
    let tools = ["hammer", "saw", "slow"].map(tool);
    let mut placed: Vec<Placed> = releases.iter().flat_map(Release::images).collect();
    placed.extend(
        ["team/hammer", "team/saw", "team/slow"]
            .iter()
            .zip(&tools)
            .map(|(name, image)| Placed::tagged(name, "v1", image)),
    );
    write_distribution_storage(&upstream.storage(), &placed).unwrap();
}

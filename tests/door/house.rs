//! A daemon with a door of each kind, the files that open them, and those who stand before them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use imagesetd::cli::connect::Connection;
use serde_json::Value;

use crate::{
    fixture::server::free_port,
    pki::{Ca, Pair},
    support::{registry::wait_for, tool},
};

pub(crate) const SERVICE: &str = "imageset.v1.MirrorService";

/// Everything at one place; the daemon ends with it.
pub(crate) struct House {
    folder: tempfile::TempDir,
    /// Signs the daemon's certificate and those of clients.
    pub(crate) ca: Ca,
    /// The port of the door with TLS.
    pub(crate) tls: u16,
    /// The port of the door without.
    pub(crate) plain: u16,
    daemon: Option<Child>,
}

/// What somebody shows who comes to the door.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    pub(crate) token: Option<PathBuf>,
    pub(crate) pair: Option<Pair>,
}

impl House {
    /// Makes certificates, and an empty tokens file.
    pub(crate) fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new(folder.path().join("ca"));
        let house = House {
            ca,
            tls: free_port().unwrap(),
            plain: free_port().unwrap(),
            folder,
            daemon: None,
        };
        fs::create_dir(house.path("sets")).unwrap();
        house.install(&house.ca.sign("daemon", "DNS:localhost,IP:127.0.0.1"));
        fs::copy(house.ca.cert(), house.path("clients-ca.pem")).unwrap();
        fs::write(house.path("tokens"), "# nobody yet\n").unwrap();
        house
    }

    /// The same, with a daemon that has all doors, and a token and a certificate of each of these rights.
    pub(crate) fn open() -> House {
        let mut house = House::new();
        house.token("reader", "read");
        house.token("planner", "plan");
        house.token("applier", "apply");
        house.settings(&house.usual());
        house.start();
        house
    }

    /// Settings with a socket, TLS beyond this machine, and plain TCP on it.
    pub(crate) fn usual(&self) -> String {
        format!(
            "listen:
- unix://{socket}
- address: tcp://0.0.0.0:{}
  tls: {{cert_file: tls.crt, key_file: tls.key, client_ca_file: clients-ca.pem}}
- tcp://127.0.0.1:{}
clients:
  tokens_file: tokens
  certificates:
  - {{subject: ansible, rights: apply}}
  - {{subject: monitor.test, rights: read}}
  - {{subject: 'spiffe://site/planner', rights: plan}}
",
            self.tls,
            self.plain,
            socket = self.path("d.sock").display(),
        )
    }

    /// Writes the settings: those without which there is no daemon, and these.
    pub(crate) fn settings(&self, more: &str) {
        let text = format!(
            "target: 127.0.0.1:9/x\ndirectory: sets\nstate: state\noutput: resources\nsettle: 50ms\nrescan: 1s\n\
             retries: 0\nshutdown_timeout: 1s\napply: manual\n{more}"
        );
        fs::write(self.path("imagesetd.yaml"), text).unwrap();
    }

    /// Puts certificate and key where the daemon looks for them, each as a whole, as certificate managers do.
    pub(crate) fn install(&self, pair: &Pair) {
        self.put("tls.crt", &fs::read(&pair.cert).unwrap());
        self.put("tls.key", &fs::read(&pair.key).unwrap());
    }

    /// Replaces a file as a whole.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let new = self.path(format!("{name}.new"));
        fs::write(&new, bytes).unwrap();
        let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&new, only_ours).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// Makes a token with the verb that makes them, and returns where it is.
    pub(crate) fn token(&self, name: &str, rights: &str) -> PathBuf {
        let file = self.token_file(name);
        let output = imagesetd()
            .args(["token", "new", name, "--rights", rights, "--add-to"])
            .arg(self.path("tokens"))
            .arg("--write-to")
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        file
    }

    pub(crate) fn token_file(&self, name: &str) -> PathBuf {
        self.path(format!("{name}.token"))
    }

    /// Takes a token's line out of the tokens file.
    pub(crate) fn revoke(&self, name: &str) {
        let text = fs::read_to_string(self.path("tokens")).unwrap();
        let others = text
            .lines()
            .filter(|line| !line.starts_with(&format!("{name} ")));
        let text: String = others.map(|line| format!("{line}\n")).collect();
        self.put("tokens", text.as_bytes());
    }

    /// Runs the daemon's start to its end, which it has to have at once.
    pub(crate) fn serve(&self, more: &[&str]) -> (Option<i32>, String) {
        let output = self.serving(more).output().unwrap();
        (output.status.code(), said(&output))
    }

    fn serving(&self, more: &[&str]) -> Command {
        let mut command = imagesetd();
        command
            .args(["serve", "--config"])
            .arg(self.path("imagesetd.yaml"))
            .args(more)
            .stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    pub(crate) fn start_with(&mut self, more: &[&str]) {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = self.serving(more).stdout(Stdio::null()).stderr(log).spawn();
        self.daemon = Some(child.unwrap());
        wait_for("the daemon to answer", || {
            let answer = self.cli(&self.socket(), "status --output json");
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "the daemon does not start: {}", self.log());
            (answer.status.code() == Some(0)).then_some(())
        });
    }

    /// Where the socket is, as an endpoint.
    pub(crate) fn socket(&self) -> String {
        format!("unix://{}", self.path("d.sock").display())
    }

    /// Where the door with TLS is, as an endpoint.
    pub(crate) fn https(&self) -> String {
        format!("https://127.0.0.1:{}", self.tls)
    }

    /// Runs a verb at an endpoint.
    pub(crate) fn cli(&self, endpoint: &str, line: &str) -> Output {
        let ca = self.ca.cert();
        let mut command = imagesetd();
        command
            .args(line.split_whitespace())
            .env("IMAGESETD_ENDPOINT", endpoint)
            .stdin(Stdio::null());
        if endpoint.starts_with("https") && !line.contains("--ca-file") {
            command.arg("--ca-file").arg(ca);
        }
        command.output().unwrap()
    }

    /// Returns the daemon's status, as whoever is at the socket sees it.
    pub(crate) fn status(&self) -> Value {
        let output = self.cli(&self.socket(), "status --output json");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)))
    }

    /// Returns how this side connects by TLS from within the test.
    pub(crate) fn connection(&self, shown: &Shown) -> Connection {
        Connection {
            endpoint: self.https(),
            token_file: shown.token.clone(),
            ca_file: Some(self.ca.cert()),
            client_cert: shown.pair.as_ref().map(|pair| pair.cert.clone()),
            client_key: shown.pair.as_ref().map(|pair| pair.key.clone()),
            server_name: None,
            request_timeout: std::time::Duration::from_secs(60),
        }
    }

    /// Calls with grpcurl by TLS; the answer, or code, reason and sentence of the refusal.
    pub(crate) fn grpcurl(
        &self,
        shown: &Shown,
        method: &str,
        request: &str,
    ) -> Result<Value, Refusal> {
        let mut command = Command::new(tool::find("grpcurl"));
        command
            .args(["-max-time", "60", "-format-error", "-protoset"])
            .arg(self.protoset())
            .arg("-cacert")
            .arg(self.ca.cert())
            .args(["-d", request]);
        if let Some(pair) = &shown.pair {
            command.arg("-cert").arg(&pair.cert);
            command.arg("-key").arg(&pair.key);
        }
        if let Some(token) = &shown.token {
            let token = fs::read_to_string(token).unwrap();
            command
                .arg("-expand-headers")
                .args(["-H", "authorization: Bearer ${TOKEN}"])
                .env("TOKEN", token.trim());
        }
        let output = command
            .arg(format!("127.0.0.1:{}", self.tls))
            .arg(method)
            .output()
            .unwrap();
        let read = |bytes: &[u8]| {
            serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{e}: {}", said(&output)))
        };
        match output.status.success() {
            true => Ok(read(&output.stdout)),
            false => Err(Refusal::read(&read(&output.stderr))),
        }
    }

    /// Calls a method of the service.
    pub(crate) fn call(&self, shown: &Shown, rpc: &str) -> Result<Value, Refusal> {
        self.call_with(shown, rpc, "{}")
    }

    pub(crate) fn call_with(
        &self,
        shown: &Shown,
        rpc: &str,
        request: &str,
    ) -> Result<Value, Refusal> {
        self.grpcurl(shown, &format!("{SERVICE}/{rpc}"), request)
    }

    /// The service's description, so that no call but the one in question is made.
    fn protoset(&self) -> PathBuf {
        let path = self.path("protoset.bin");
        if !path.exists() {
            let set = [
                imagesetd::grpc::v1::DESCRIPTORS,
                tonic_health::pb::FILE_DESCRIPTOR_SET,
                tonic_types::pb::FILE_DESCRIPTOR_SET,
            ];
            // Messages that follow one another are one, field by field.
            fs::write(&path, set.concat()).unwrap();
        }
        path
    }

    /// Returns what the daemon logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Ends the daemon in order.
    pub(crate) fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let pid = nix::unistd::Pid::from_raw(daemon.id().try_into().unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM);
            daemon.wait().unwrap();
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

impl Shown {
    pub(crate) fn nothing() -> Shown {
        Shown::default()
    }

    pub(crate) fn token(file: PathBuf) -> Shown {
        Shown {
            token: Some(file),
            pair: None,
        }
    }

    pub(crate) fn pair(pair: Pair) -> Shown {
        Shown {
            token: None,
            pair: Some(pair),
        }
    }
}

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u64,
    /// Of its `google.rpc.ErrorInfo`.
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Refusal {
    fn read(error: &Value) -> Refusal {
        let info = error["details"].as_array().into_iter().flatten();
        let info = info
            .filter(|detail| detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo")
            .filter(|detail| detail["domain"] == "imagesetd")
            .find_map(|detail| detail["reason"].as_str());
        Refusal {
            code: error["code"].as_u64().unwrap_or_default(),
            reason: info.unwrap_or_default().to_owned(),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn is(&self, code: tonic::Code, reason: &str) -> bool {
        (self.code, self.reason.as_str()) == (code as u64, reason)
    }
}

/// The binary, with nothing of this machine's environment.
pub(crate) fn imagesetd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagesetd"));
    command.env_clear();
    command
}

/// What a command said on both its outputs.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

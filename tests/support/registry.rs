//! Starts registries that people run: Debian's docker-registry, and Distribution v3.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    access_log::{Request, Requests},
    tool,
};

/// The only user of a registry that was started [with a password](Options::password).
pub const USER: &str = "mirror";

/// The password of [`USER`].
pub const PASSWORD: &str = "not-a-secret";

/// [`PASSWORD`], hashed for a registry.
const HTPASSWD: &str = "mirror:$2b$04$lSRZQ0IJH5lE6BpBeBLq9ug0abt5uOTseOIiQOe6TkgdkusCQRuSq\n";

/// Begins the user agent of the requests that the harness itself sends; they are left out of the records.
const OURS: &str = "imagesetd-tests/";

/// How long a server may take to start, or a line to appear in its log.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Distribution 2.8 as Debian and Ubuntu package it.
    Debian,
    /// Distribution 3, which checks what an index names.
    Distribution3,
}

/// What is not usual about a registry.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether it asks for [`USER`] and [`PASSWORD`].
    pub password: bool,
    /// Further sections of its configuration, as YAML.
    pub configuration: String,
    /// The files of its certificate and key, where it speaks TLS; what it was asked is not recorded then.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Whether it takes nothing.
    pub read_only: bool,
    /// Whether it keeps everything.
    pub no_delete: bool,
}

/// A section of [`Options::configuration`] with which Distribution v3 takes an index whose children are not all there.
pub const SPARSE_INDEXES: &str = "validation: {manifests: {indexes: {platforms: none}}}\n";

/// A place in a registry's record.
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

/// A registry on 127.0.0.1, stopped when this value ends.
#[derive(Debug)]
pub struct Registry {
    kind: Kind,
    options: Options,
    folder: tempfile::TempDir,
    address: String,
    server: Option<Child>,
}

impl Registry {
    /// Starts Debian's registry with nothing unusual about it.
    pub fn debian() -> Registry {
        Registry::start(Kind::Debian, Options::default())
    }

    /// Starts Distribution v3 with nothing unusual about it.
    pub fn distribution3() -> Registry {
        Registry::start(Kind::Distribution3, Options::default())
    }

    /// Starts a registry with an empty storage.
    pub fn start(kind: Kind, options: Options) -> Registry {
        let mut registry = Registry {
            kind,
            options,
            folder: tempfile::tempdir().unwrap(),
            address: "127.0.0.1:0".into(),
            server: None,
        };
        registry.resume();
        registry
    }

    /// Returns `127.0.0.1:port`, the same for the life of this value.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns `docker://127.0.0.1:port/name`, as skopeo writes it.
    pub fn docker(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.address)
    }

    /// Returns the folder of its storage.
    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// Stops the server at once; address, storage and record stay.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Starts the server again after [`stop`](Registry::stop), at the same address, with the same storage.
    pub fn resume(&mut self) {
        assert!(self.server.is_none(), "the registry runs already");
        fs::write(self.path("config.yml"), self.configuration()).unwrap();
        fs::write(self.path("htpasswd"), HTPASSWD).unwrap();
        File::create(self.path("log")).unwrap();
        let record = File::options()
            .create(true)
            .append(true)
            .open(self.path("access"));
        let log = File::options().append(true).open(self.path("log"));
        let server = Command::new(self.program())
            .arg("serve")
            .arg(self.path("config.yml"))
            // Variables that begin with REGISTRY_ would change the configuration.
            .env_clear()
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(record.unwrap())
            .stderr(log.unwrap())
            .spawn();
        self.server = Some(server.unwrap_or_else(|e| panic!("the registry does not start: {e}")));
        self.address = self.listening();
    }

    /// Returns the present end of the record.
    pub fn mark(&self) -> Mark {
        Mark(self.record().len())
    }

    /// Returns what it was asked since `mark`.
    pub fn since(&self, mark: Mark) -> Requests {
        Requests(self.record().split_off(mark.0))
    }

    /// Returns all it was ever asked.
    pub fn requests(&self) -> Requests {
        self.since(Mark(0))
    }

    /// Puts a manifest of any kind at `name` (`repository/manifests/tag`), returns status and body of the answer.
    pub fn put(&self, name: &str, media_type: &str, body: &[u8]) -> (u16, String) {
        self.send(
            "PUT",
            name,
            &format!("Content-Type: {media_type}\r\n"),
            body,
        )
    }

    /// Reads the record up to now: the harness's own requests come and go, and the line of the last one is waited for.
    fn record(&self) -> Vec<Request> {
        if self.server.is_some() {
            // A line is written when its answer has been sent, or just before. Two requests in a row outlast that moment.
            self.pass();
            self.pass();
        }
        self.lines()
            .filter(|request| !request.agent.starts_with(OURS))
            .collect()
    }

    fn pass(&self) {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let agent = format!("{OURS}{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.send("GET", "", &format!("User-Agent: {agent}\r\n"), b"");
        wait_for("a line in the registry's access log", || {
            self.lines().find(|request| request.agent == agent)
        });
    }

    fn lines(&self) -> impl Iterator<Item = Request> {
        let text = fs::read_to_string(self.path("access")).unwrap();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let lines: Vec<Request> = text[..whole].lines().filter_map(Request::parse).collect();
        lines.into_iter()
    }

    /// Sends one request for what is below `/v2/`.
    fn send(&self, method: &str, name: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let agent = match headers.contains("User-Agent") {
            true => String::new(),
            false => format!("User-Agent: {OURS}\r\n"),
        };
        let credentials = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let head = format!(
            "{method} /v2/{name} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Basic {credentials}\r\nContent-Length: {}\r\n{agent}{headers}\r\n",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// Waits until the server says where it listens. The socket is open then, so whoever connects is served.
    fn listening(&mut self) -> String {
        let log = self.path("log");
        let server = self.server.as_mut().unwrap();
        wait_for("the registry to listen", || {
            let text = fs::read_to_string(&log).unwrap();
            if let Some(status) = server.try_wait().unwrap() {
                panic!("the registry ended with {status}:\n{text}");
            }
            let (_, after) = text.split_once("listening on ")?;
            let (address, _) = after.split_once(['"', ','])?;
            Some(address.to_owned())
        })
    }

    fn configuration(&self) -> String {
        let auth = match self.options.password {
            true => format!(
                "auth: {{htpasswd: {{realm: tests, path: {}}}}}\n",
                self.path("htpasswd").display()
            ),
            false => String::new(),
        };
        let tls = self
            .options
            .tls
            .as_ref()
            .map_or(String::new(), |(cert, key)| {
                format!(
                    ", tls: {{certificate: {}, key: {}}}",
                    cert.display(),
                    key.display()
                )
            });
        let (read_only, delete) = (self.options.read_only, !self.options.no_delete);
        format!(
            "version: 0.1\n\
             log: {{level: info, accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: {delete}}}, maintenance: {{uploadpurging: {{enabled: false}}, readonly: {{enabled: {read_only}}}}}}}\n\
             http: {{addr: \"{}\", secret: tests{tls}}}\n\
             {auth}{}",
            self.storage().display(),
            self.address,
            self.options.configuration
        )
    }

    fn program(&self) -> PathBuf {
        match self.kind {
            Kind::Debian => tool::find("docker-registry"),
            Kind::Distribution3 => tool::find_installed("registry"),
        }
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Looks until there is something to see; panics when that takes too long.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_up_to(PATIENCE, what, look)
}

/// The same with a patience of its own, for what takes longer to start.
pub fn wait_up_to<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begin.elapsed() < patience, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

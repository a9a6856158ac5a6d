//! Debian's `docker-registry` on a port of its own.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A running registry; it ends with this value.
pub(crate) struct Docker {
    pub(crate) host: String,
    child: Child,
    folder: tempfile::TempDir,
}

impl Docker {
    /// Returns `METHOD /path HTTP/version` of what it was asked, once there are so many.
    pub(crate) fn asked(&self, least: usize) -> Vec<String> {
        loop {
            let text = std::fs::read_to_string(self.folder.path().join("access")).unwrap();
            let lines = text
                .lines()
                .filter_map(|l| Some(l.split('"').nth(1)?.to_owned()));
            let lines: Vec<_> = lines.collect();
            if lines.len() >= least {
                return lines;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Without TLS and without authentication.
    pub(crate) fn start() -> Self {
        Docker::with(|_| String::new())
    }

    /// With these lines at the end of its configuration; they are given the registry's folder.
    pub(crate) fn with(configure: impl Fn(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let extra = configure(path);
        // `http` is opened here, so that what follows may go on with it.
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp:\n  addr: 127.0.0.1:0\n{extra}",
            path.join("data").display()
        );
        let config = path.join("config.yml");
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(File::create(path.join("access")).unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed");
        let log = BufReader::new(child.stderr.take().unwrap());
        let (found, host) = std::sync::mpsc::channel();
        // The log is read to its end, so that the registry never waits for somebody to read it.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let end = rest.find([',', '"', ' ']).unwrap_or(rest.len());
                    let _ = found.send(rest[..end].to_owned());
                }
            }
        });
        let host = host.recv().expect("docker-registry says where it listens");
        Docker {
            host,
            child,
            folder,
        }
    }

    /// With TLS by the certificate of the tests.
    pub(crate) fn with_tls() -> Self {
        let file = |name: &str| format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        let (certificate, key) = (file("server.pem"), file("server.key"));
        Docker::with(|_| format!("  tls: {{certificate: {certificate}, key: {key}}}\n"))
    }

    /// With the user `u` and the password `hunter2`.
    pub(crate) fn with_password() -> Self {
        Docker::with(|folder| {
            let file = folder.join("htpasswd");
            std::fs::write(&file, format!("u:{HUNTER2}\n")).unwrap();
            format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                file.display()
            )
        })
    }
}

/// `hunter2` as bcrypt.
const HUNTER2: &str = "$2b$04$BSX560CFSw8XTVoHQxntmepZwk1DKcYr2828Ld26w0LEI.lyndaCK";

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

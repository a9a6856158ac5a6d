//! A site for one test: registries behind hosts with names, the proxy that knows the names, and a folder for everything else.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use imagesetd::model::image::Digest;

use crate::{
    authority::Authority,
    fixture::{
        image::Image,
        place::{Placed, write_distribution_storage},
    },
    host::{Host, Part, Record, TOKEN},
    proxy::{self, Names, Proxy},
    support::registry::{self, Kind, Options, Registry},
};

/// The name of the upstream.
pub(crate) const UPSTREAM: &str = "upstream.test";

/// The name of the mirror.
pub(crate) const MIRROR: &str = "mirror.test";

/// Who a registry's own users are, as `user:password`.
pub(crate) fn htpasswd() -> String {
    format!("{}:{}", registry::USER, registry::PASSWORD)
}

/// A site.
pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) proxy: Proxy,
    pub(crate) upstream: Registry,
    pub(crate) mirror: Registry,
    pub(crate) app: Image,
    pub(crate) web: Image,
    folder: tempfile::TempDir,
    names: Names,
    hosts: BTreeMap<String, Known>,
    /// Every secret of the site, besides those of its registries.
    secrets: Vec<String>,
    runtime: tokio::runtime::Runtime,
}

/// A host, and what it may see.
struct Known {
    record: Arc<Record>,
    own: Vec<String>,
    certificate: bool,
}

/// What a host may see, and whether it wants a certificate.
#[derive(Default)]
pub(crate) struct Rights<'a> {
    /// The secrets that are its own, as `user:password` or a token's beginning.
    pub(crate) own: &'a [&'a str],
    /// Whether it wants to be shown a certificate; no other is shown one.
    pub(crate) certificate: bool,
}

impl World {
    /// Two registries without a host before them yet; the upstream has the set.
    pub(crate) fn new(password: bool) -> Self {
        let options = || Options {
            password,
            ..Options::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let names = Names::default();
        let world = World {
            authority: Authority::new("the tests' authority"),
            proxy: runtime.block_on(Proxy::start(names.clone())),
            upstream: Registry::start(Kind::Debian, options()),
            mirror: Registry::start(Kind::Debian, options()),
            app: Image::simple("app"),
            web: Image::simple_index("web", &["amd64", "arm64"]),
            folder: tempfile::tempdir().unwrap(),
            names,
            hosts: BTreeMap::new(),
            secrets: vec![
                format!("{}:{}", proxy::USER, proxy::PASSWORD),
                TOKEN.to_owned(),
            ],
            runtime,
        };
        world.fill(&world.upstream);
        fs::create_dir_all(world.path("home")).unwrap();
        fs::write(world.path("ca.pem"), world.authority.pem()).unwrap();
        let set = format!(
            "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  additionalImages:\n  - name: {UPSTREAM}/team/app:1\n  - name: {UPSTREAM}/team/web:2\n"
        );
        fs::write(world.path("set.yaml"), set).unwrap();
        world
    }

    /// Puts the set into a registry's storage.
    pub(crate) fn fill(&self, registry: &Registry) {
        let images = [
            Placed::tagged("team/app", "1", &self.app),
            Placed::tagged("team/web", "2", &self.web),
        ];
        write_distribution_storage(&registry.storage(), &images).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a host by this name, on a loopback address of its own.
    pub(crate) fn host(&mut self, name: &str, part: Part, rights: Rights<'_>) -> Arc<Record> {
        let number = u8::try_from(self.hosts.len() + 2).unwrap();
        let tls = self.authority.config(&[name], rights.certificate);
        let start = Host::start([127, 0, 0, number], tls, part);
        let host = self.runtime.block_on(start);
        self.name(&format!("{name}:443"), host.address);
        let known = Known {
            record: host.record.clone(),
            own: rights.own.iter().map(|s| (*s).to_owned()).collect(),
            certificate: rights.certificate,
        };
        for secret in rights.own {
            self.secret(secret);
        }
        self.hosts.insert(name.to_owned(), known);
        host.record
    }

    /// The usual hosts: both registries as they are, with these rights.
    pub(crate) fn registries(&mut self, own: &[&str]) -> (Arc<Record>, Arc<Record>) {
        let part = |registry: &Registry| Part::Registry(registry.address().to_owned());
        let (up, down) = (part(&self.upstream), part(&self.mirror));
        let rights = || Rights {
            own,
            certificate: false,
        };
        (
            self.host(UPSTREAM, up, rights()),
            self.host(MIRROR, down, rights()),
        )
    }

    /// What the proxy knows.
    pub(crate) fn names(&self) -> Names {
        self.names.clone()
    }

    /// Has the proxy know a name.
    pub(crate) fn name(&self, name: &str, address: SocketAddr) {
        self.names.lock().unwrap().insert(name.to_owned(), address);
    }

    /// Counts a text among the secrets.
    pub(crate) fn secret(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }

    /// Writes an auth.json with these entries, each `name` and `user:password`.
    pub(crate) fn authfile(&self, entries: &[(&str, &str)]) -> String {
        let entries = entries.iter().map(|(name, pair)| {
            let auth = STANDARD.encode(pair);
            format!(r#""{name}":{{"auth":"{auth}"}}"#)
        });
        let text = format!(
            r#"{{"auths":{{{}}}}}"#,
            entries.collect::<Vec<_>>().join(",")
        );
        self.write("auth.json", &text)
    }

    /// Writes a file, and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let file = self.path(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    pub(crate) fn proxy_url(&self, scheme: &str) -> String {
        let (user, password) = (proxy::USER, proxy::PASSWORD);
        format!("{scheme}://{user}:{password}@{}", self.proxy.address)
    }

    /// The command that a person would type, in an environment that has only what is said here.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        self.command_to(MIRROR, more)
    }

    /// The same, to another mirror.
    pub(crate) fn command_to(&self, mirror: &str, more: &[&str]) -> Command {
        let mut command = self.program();
        command
            .arg("once")
            .arg("--config")
            .arg(self.path("set.yaml"))
            .args(["--to", &format!("{mirror}/site")])
            .arg("--state")
            .arg(self.path("state"))
            .arg("--resources")
            .arg(self.path("resources"))
            .arg("--log-level=trace")
            .args(more);
        command
    }

    /// The program in this environment, without a verb.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imagesetd"));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", "/nonexistent")
            .env("CONTAINERS_REGISTRIES_CONF", "/dev/null")
            .env("SSL_CERT_FILE", self.path("ca.pem"))
            .env("HTTPS_PROXY", self.proxy_url("http"))
            .stdin(Stdio::null());
        command
    }

    /// Waits for something of this site's runtime.
    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Runs a command, and checks that no secret came where it does not belong.
    pub(crate) fn run(&self, command: &mut Command) -> Ended {
        let ended = Ended::of(command.output().unwrap());
        self.assert_secrets_kept(&ended);
        ended
    }

    /// Runs a command that has to mirror the whole set.
    pub(crate) fn done(&self, command: &mut Command) -> Ended {
        let ended = self.run(command);
        assert_eq!(ended.code, 0, "{ended:#?}");
        self.assert_mirrored();
        ended
    }

    fn assert_mirrored(&self) {
        let root = self.mirror.storage().join("docker/registry/v2");
        for (name, tag, image) in [("app", "1", &self.app), ("web", "2", &self.web)] {
            let tag = format!("repositories/site/team/{name}/_manifests/tags/{tag}/current/link");
            let digest = fs::read_to_string(root.join(tag)).unwrap();
            assert_eq!(digest, image.digest().to_string());
            let parts = image.manifests().into_iter();
            let manifests = parts.map(|part| (part.digest(), part.manifest.raw.to_vec()));
            let blobs = image.all_blobs().into_iter();
            let blobs = blobs.map(|(digest, bytes)| (digest, bytes.to_vec()));
            for (digest, bytes) in manifests.chain(blobs) {
                assert_eq!(fs::read(self.blob(&self.mirror, digest)).unwrap(), bytes);
            }
        }
    }

    /// Where a registry keeps a blob or a manifest.
    pub(crate) fn blob(&self, registry: &Registry, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let path = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        registry.storage().join(path)
    }

    fn assert_secrets_kept(&self, ended: &Ended) {
        for secret in &self.secrets {
            for form in self::forms(secret) {
                assert!(!ended.stdout.contains(&form), "{form} was told: {ended:#?}");
                assert!(
                    !ended.stderr.contains(&form),
                    "{form} was logged: {ended:#?}"
                );
            }
        }
        let forms: Vec<String> = self.secrets.iter().flat_map(|s| self::forms(s)).collect();
        for folder in ["state", "resources"] {
            for file in files(&self.path(folder)) {
                let bytes = fs::read(&file).unwrap();
                for form in &forms {
                    let kept = bytes.windows(form.len()).any(|w| w == form.as_bytes());
                    assert!(!kept, "{form} was written to {}", file.display());
                }
            }
        }
        for (name, host) in &self.hosts {
            let foreign = self.secrets.iter().filter(|s| !host.own.contains(s));
            let foreign: Vec<_> = foreign.flat_map(|s| self::forms(s)).collect();
            for seen in host.record.requests.lock().unwrap().iter() {
                for secret in &foreign {
                    let mut values = seen.headers.values().filter_map(|v| v.to_str().ok());
                    let leaked = values.any(|v| v.contains(secret)) || seen.line.contains(secret);
                    assert!(!leaked, "{name} was sent {secret}: {seen:#?}");
                }
                assert!(
                    !seen.headers.contains_key("proxy-authorization"),
                    "{seen:#?}"
                );
                assert!(!seen.headers.contains_key("referer"), "{seen:#?}");
            }
            for (named, shown) in host.record.handshakes.lock().unwrap().iter() {
                assert_eq!(named.as_deref(), Some(name.as_str()));
                assert!(host.certificate || !shown, "{name} was shown a certificate");
            }
        }
        let own = self::forms(&format!("{}:{}", proxy::USER, proxy::PASSWORD));
        for head in self.proxy.seen.lock().unwrap().iter() {
            for secret in self.secrets.iter().flat_map(|s| self::forms(s)) {
                let leaked = head.contains(&secret) && !own.contains(&secret);
                assert!(!leaked, "the proxy was sent {secret}: {head}");
            }
        }
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let each = paths.map(|path| match path.is_dir() {
        true => files(&path),
        false => vec![path],
    });
    each.flatten().collect()
}

/// How a secret looks on its ways: the password alone, and the pair as registries are sent it.
fn forms(secret: &str) -> Vec<String> {
    match secret.split_once(':') {
        Some((_, password)) => vec![password.to_owned(), STANDARD.encode(secret)],
        None => vec![secret.to_owned()],
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Checks that it failed, and that all of these were said.
    pub(crate) fn fails_with(&self, parts: &[&str]) {
        assert_ne!(self.code, 0, "{self:#?}");
        // What was logged while it ran is not what a person is told.
        let told: Vec<_> = self
            .stderr
            .lines()
            .filter(|l| l.starts_with("error"))
            .collect();
        let told = format!("{}\n{}", told.join("\n"), self.stdout);
        for part in parts {
            assert!(
                told.contains(part),
                "{part:?} is not in {told}\n{}",
                self.stderr
            );
        }
    }
}

//! A site for one test: an upstream, a mirror, an update service, and a folder for image set, state and documents.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use imagesetd::model::image::Digest;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    fixture::{
        graph::Graph,
        image::Image,
        place::{Placed, write_distribution_storage},
        release::{Release, Spec},
        server::UpdateServer,
    },
    support::{access_log::Requests, registry::Registry, skopeo},
};

/// Below this path of the mirror everything lands.
pub(crate) const PREFIX: &str = "site/ocp";

/// The channel of the synthetic releases.
pub(crate) const CHANNEL: &str = "stable-4.16";

/// A release with few components, for tests that need just some release.
pub(crate) const FEW: [&str; 6] = [
    "cli",
    "etcd",
    "installer",
    "must-gather",
    "oauth-proxy",
    "tests",
];

/// An upstream and a mirror, and a folder for everything else.
pub(crate) struct Site {
    pub(crate) upstream: Registry,
    pub(crate) mirror: Registry,
    /// Where the mirror is reached, if not at its own address.
    pub(crate) door: Option<String>,
    pub(crate) folder: tempfile::TempDir,
}

impl Site {
    /// Debian's registry on both sides, both empty.
    pub(crate) fn new() -> Self {
        Site::with_mirror(Registry::debian())
    }

    pub(crate) fn with_mirror(mirror: Registry) -> Self {
        Site {
            upstream: Registry::debian(),
            mirror,
            door: None,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a release that this upstream can serve.
    pub(crate) fn release(&self, version: &str, round: u32, components: &[&str]) -> Release {
        Release::build(&Spec {
            components,
            ..Spec::new(version, round, self.upstream.address())
        })
    }

    /// Puts images upstream without a trace in its record.
    pub(crate) fn publish(&self, images: &[Placed]) {
        write_distribution_storage(&self.upstream.storage(), images).unwrap();
    }

    /// Takes a blob out of the upstream, which goes on believing in it.
    pub(crate) fn lose(&self, digest: &Digest) {
        fs::remove_file(blob_file(&self.upstream, digest)).unwrap();
    }

    /// Writes an image set of these lines below `mirror:`; its name is `set`.
    pub(crate) fn image_set(&self, mirror: &str) -> PathBuf {
        let file = self.path("set.yaml");
        let mut text =
            "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n"
                .to_owned();
        for line in mirror.trim_matches('\n').lines() {
            text += &format!("  {line}\n");
        }
        fs::write(&file, text).unwrap();
        file
    }

    /// Writes an image set of additional images, each as `repository:tag` or `repository@digest` of the upstream.
    pub(crate) fn additional(&self, images: &[&str]) {
        let lines = images
            .iter()
            .map(|image| format!("- name: {}/{image}\n", self.upstream.address()));
        self.image_set(&format!("additionalImages:\n{}", lines.collect::<String>()));
    }

    /// Writes an image set of the releases from `min` to `max`.
    pub(crate) fn channel(&self, min: &str, max: &str) {
        self.image_set(&channel(CHANNEL, min, max));
    }

    /// The command that a person would type, not started yet.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mirror = self.door.as_deref().unwrap_or(self.mirror.address());
        self.command_to(mirror, more)
    }

    /// The same for a mirror that is reached under another address.
    pub(crate) fn command_to(&self, mirror: &str, more: &[&str]) -> Command {
        let mut command = program();
        command
            .arg("once")
            .arg("--config")
            .arg(self.path("set.yaml"))
            .args(["--to", &format!("{mirror}/{PREFIX}")])
            .arg("--state")
            .arg(self.path("state"))
            .arg("--resources")
            .arg(self.path("resources"))
            .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
            .arg("--ignore-release-signature")
            .args(more);
        command
    }

    /// Makes one round.
    pub(crate) fn once(&self, more: &[&str]) -> Ended {
        Ended::of(self.command(more).output().unwrap())
    }

    /// Makes one round and expects it to do all that is asked for.
    pub(crate) fn done(&self, more: &[&str]) -> Ended {
        let ended = self.once(more);
        assert_eq!(ended.code, 0, "{ended:#?}");
        ended
    }

    /// Begins a round that the test will end.
    pub(crate) fn start(&self, more: &[&str]) -> Running {
        Running::of(self.command(more))
    }

    /// Checks that an image is in the mirror as it is upstream, every byte of it, at `place` (`repository:tag`).
    pub(crate) fn assert_mirrored(&self, place: &str, image: &Image) {
        let (repository, _) = place.rsplit_once(':').unwrap();
        let tagged = self.mirror.docker(&format!("{PREFIX}/{place}"));
        assert_eq!(skopeo::inspect_raw(&tagged), image.manifest.raw, "{place}");
        let pinned = format!("{PREFIX}/{repository}@{}", image.digest());
        let copied = skopeo::copy_to_dir(&self.mirror.docker(&pinned));
        assert_eq!(copied.manifest, image.manifest.raw);
        assert_eq!(copied.files, files(image));
    }

    /// Checks that a release is in the mirror under oc-mirror's names, the images of these components every byte.
    pub(crate) fn assert_release(&self, release: &Release, components: &[&str]) {
        let mut expected: Vec<_> = release
            .components
            .keys()
            .map(|name| format!("{}-{name}", release.tag))
            .collect();
        expected.sort();
        let tags = self.tags("openshift/release");
        let of_this = tags.into_iter().filter(|tag| tag.starts_with(&release.tag));
        assert_eq!(of_this.collect::<Vec<_>>(), expected);
        for name in components {
            let place = format!("openshift/release:{}-{name}", release.tag);
            self.assert_mirrored(&place, &release.components[*name]);
        }
        self.assert_mirrored(
            &format!("openshift/release-images:{}", release.tag),
            &release.payload,
        );
    }

    /// The tags of a repository of the mirror, sorted; none where there is no such repository.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let folder =
            format!("docker/registry/v2/repositories/{PREFIX}/{repository}/_manifests/tags");
        let Ok(entries) = fs::read_dir(self.mirror.storage().join(folder)) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Everything that the mirror can be asked for by name or digest, as the files of its storage, but for unfinished uploads.
    pub(crate) fn mirror_content(&self) -> BTreeMap<PathBuf, Digest> {
        let mut content = tree(&self.mirror.storage());
        content.retain(|path, _| !path.components().any(|part| part.as_os_str() == "_uploads"));
        content
            .into_iter()
            .map(|(path, (bytes, _))| (path, Digest::of(&bytes)))
            .collect()
    }

    /// The documents, with when they were written.
    pub(crate) fn documents(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        tree(&self.path("resources"))
    }
}

/// Where a registry of the harness keeps a blob.
pub(crate) fn blob_file(registry: &Registry, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    let path = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    registry.storage().join(path)
}

/// The stanza of one channel.
pub(crate) fn channel(name: &str, min: &str, max: &str) -> String {
    format!(
        "platform:\n  channels:\n  - name: {name}\n    minVersion: {min}\n    maxVersion: {max}\n"
    )
}

/// The program under test, without what this machine's user has set.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagesetd"));
    for name in [
        "UPDATE_URL_OVERRIDE",
        "OCP_SIGNATURE_URL",
        "OCP_SIGNATURE_VERIFICATION_PK",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "https_proxy",
    ] {
        command.env_remove(name);
    }
    command
        .env("CONTAINERS_REGISTRIES_CONF", "/dev/null")
        // No credentials of whoever runs the tests.
        .env_remove("REGISTRY_AUTH_FILE")
        .env("XDG_RUNTIME_DIR", "/nonexistent")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null());
    command
}

/// Every file below a folder, with when it was written.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            if about.is_dir() {
                left.push(path);
            } else {
                files.insert(
                    path.clone(),
                    (fs::read(&path).unwrap(), about.modified().unwrap()),
                );
            }
        }
    }
    files
}

/// The files that skopeo makes of an image, besides its manifest.
fn files(image: &Image) -> BTreeMap<String, Vec<u8>> {
    let blobs = image
        .all_blobs()
        .into_iter()
        .map(|(digest, bytes)| (digest.hex(), bytes.to_vec()));
    let children = image
        .manifests()
        .into_iter()
        .filter(|part| part.digest() != image.digest());
    let children = children.map(|part| {
        (
            format!("{}.manifest.json", part.digest().hex()),
            part.manifest.raw.to_vec(),
        )
    });
    blobs.chain(children).collect()
}

/// The bytes of the distinct blobs of these images.
pub(crate) fn blob_bytes<'a>(images: impl IntoIterator<Item = &'a Image>) -> u64 {
    let images: Vec<_> = images.into_iter().collect();
    let blobs: BTreeMap<_, _> = images.iter().flat_map(|image| image.all_blobs()).collect();
    blobs.values().map(|bytes| bytes.len() as u64).sum()
}

/// The payload and the components of a release.
pub(crate) fn images(release: &Release) -> impl Iterator<Item = &Image> {
    release.components.values().chain([&release.payload])
}

/// How a round ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Checks that stdout says all of these.
    pub(crate) fn says(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.stdout.contains(part), "{part:?} is not in {self:#?}");
        }
        self
    }
}

/// A round under way, ended with this value.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn of(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    /// Whether it is over by itself.
    pub(crate) fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Asks it to end, by SIGTERM, and returns its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let id = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(id, Signal::SIGTERM).unwrap();
        self.0.wait().unwrap().code()
    }

    /// Ends it by SIGKILL, in the middle of whatever it does.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is over already in most cases.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An update service whose graph a test may exchange.
pub(crate) struct Updates {
    server: UpdateServer,
    graph: Arc<Mutex<Value>>,
    _runtime: tokio::runtime::Runtime,
}

impl Updates {
    /// Offers `releases` in [`CHANNEL`], each with an edge to the next.
    pub(crate) fn of(releases: &[&Release]) -> Self {
        Updates::new(CHANNEL, Graph::of(releases).document(CHANNEL))
    }

    pub(crate) fn new(channel: &'static str, graph: Value) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let graph = Arc::new(Mutex::new(graph));
        let shown = Arc::clone(&graph);
        let server = runtime.block_on(UpdateServer::start(move |asked, _| {
            (asked == channel).then(|| shown.lock().unwrap().clone())
        }));
        Updates {
            server: server.unwrap(),
            graph,
            _runtime: runtime,
        }
    }

    /// Offers other releases from now on.
    pub(crate) fn offer(&self, releases: &[&Release]) {
        *self.graph.lock().unwrap() = Graph::of(releases).document(CHANNEL);
    }

    /// The option that points the program here.
    pub(crate) fn option(&self) -> String {
        format!("--update-url={}", self.server.url)
    }

    pub(crate) fn url(&self) -> &str {
        &self.server.url
    }

    /// What was asked since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        self.server.take_requests()
    }
}

/// The requests that wrote, as `METHOD path`.
pub(crate) fn written(requests: &Requests) -> Vec<String> {
    let writes = requests.iter().filter(|request| request.writes());
    writes
        .map(|request| format!("{} {}", request.method, request.path))
        .collect()
}

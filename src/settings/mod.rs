//! The daemon's own YAML: what the site decides, every key of it explained in `packaging/imagesetd.yaml`.

mod units;

mod clients;

mod handoff;

mod listen;

mod stanzas;

mod parse;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use crate::model::{
    access::{CertificateRule, PeerRule, Right, Token},
    drift::Depth,
    image::Repository,
    imageset::SetName,
    policy::{self, Policy, SourcePolicy},
    window::Window,
};

pub use parse::parse;

/// Everything the settings file says, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The watched directory.
    pub directory: PathBuf,
    /// Keeps the directory at a branch's head, where asked for.
    pub git: Option<Git>,
    /// Where the daemon keeps what it has to remember.
    pub state: PathBuf,
    /// The output folder for cluster documents.
    pub output: PathBuf,
    /// Where clients connect.
    pub listen: Vec<Listen>,
    /// Who may do what there.
    pub clients: Clients,
    /// The group that owns the Unix socket.
    pub socket_group: Option<String>,
    /// The credentials file, instead of the usual places. A path below `$CREDENTIALS_DIRECTORY` is left as it is written.
    pub authfile: Option<PathBuf>,
    /// The folder of certificates by registry, instead of the usual places.
    pub certs_dir: Option<PathBuf>,
    /// Where upstreams are remapped, mirrored or blocked.
    pub registries_conf: RegistriesConf,
    /// What holds for image sets that no override matches.
    pub defaults: Policy,
    /// The most parts of a repository's path in the mirror; any number where this is 0.
    pub max_nested_paths: u32,
    /// What holds for some image sets instead, the first match wins key by key.
    pub image_sets: Vec<Override>,
    /// The clusters that take documents.
    pub clusters: Vec<Cluster>,
    /// `mirrorSourcePolicy` by source, the first match wins.
    pub mirror_source_policies: Vec<SourcePolicy>,
    /// Where update graphs come from.
    pub update_service: UpdateService,
    /// Where signatures of releases are, and whose count.
    pub release_verification: ReleaseVerification,
    /// How registries are reached, by host.
    pub registries: Vec<RegistryAccess>,
    /// The directory counts as settled after this long without a change, where Git does not tell.
    pub settle: Duration,
    /// The directory is looked at this often even without an event.
    pub rescan: Duration,
    /// How many images are copied side by side.
    pub parallel_images: usize,
    /// How many blobs are transferred side by side.
    pub parallel_blobs: usize,
    /// How often a transient failure is tried again.
    pub retries: u32,
    /// How long a stop waits for what is in flight.
    pub shutdown_timeout: Duration,
    /// How the mirror is checked, by the daemon itself and when asked.
    pub verify: Verify,
    /// How many plans are kept per image set.
    pub keep_plans: usize,
    /// How many runs are kept per image set.
    pub keep_runs: usize,
}

impl Settings {
    /// Returns what holds for an image set: of every key, the first override that matches its name and has it, else the default.
    pub fn policy_for(&self, name: &SetName) -> Policy {
        let mut policy = self.defaults.clone();
        let matching = |o: &&Override| policy::matches(&o.name, &name.0);
        // The last one first, so that the first match has the last word.
        let mut nesting = self.max_nested_paths;
        for other in self.image_sets.iter().filter(matching).rev() {
            other.apply_to(&mut policy);
            nesting = other.max_nested_paths.unwrap_or(nesting);
        }
        if nesting > 0 {
            policy.target = policy.target.nesting(nesting);
            // As for oc-mirror: a namespace's names are not what they were any more.
            policy.mirror_scope = policy::MirrorScope::Repository;
        }
        policy
    }
}

impl Override {
    /// Replaces what this override says.
    fn apply_to(&self, policy: &mut Policy) {
        fn set<T: Clone>(value: &mut T, other: &Option<T>) {
            if let Some(other) = other {
                *value = other.clone();
            }
        }
        set(&mut policy.target, &self.target);
        set(&mut policy.apply, &self.apply);
        set(&mut policy.on_refresh, &self.on_refresh);
        set(&mut policy.refresh, &self.refresh);
        set(&mut policy.mirror_scope, &self.mirror_scope);
        set(
            &mut policy.ignore_release_signatures,
            &self.ignore_release_signatures,
        );
        set(&mut policy.conditional_updates, &self.conditional_updates);
        set(&mut policy.copy_signatures, &self.copy_signatures);
        set(&mut policy.signatures_refresh, &self.signatures_refresh);
        set(&mut policy.hold_documents, &self.hold_documents);
        set(&mut policy.windows, &self.windows);
        set(&mut policy.catalog_reference, &self.catalog_reference);
        set(&mut policy.catalog_poll, &self.catalog_poll);
        policy.max_bytes = self.max_bytes.or(policy.max_bytes);
    }
}

/// `git`: the agent keeps the directory at the head of a branch by running the system's `git`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Git {
    /// What `git fetch` is given.
    pub url: String,
    /// The branch.
    pub branch: String,
    /// How often it is fetched.
    pub interval: Duration,
}

/// An entry of `listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `unix:///path`
    Unix(PathBuf),
    /// `tcp://address:port`
    Tcp(TcpDoor),
}

/// An entry of `listen` that is a TCP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpDoor {
    /// Where; of this machine alone unless there is `tls` and a way to tell who comes.
    pub address: std::net::SocketAddr,
    /// TLS, which it has to have beyond this machine.
    pub tls: Option<Tls>,
    /// What somebody may do who does not say who they are; nothing at an address that other machines reach.
    pub unnamed: Option<Right>,
    /// Whether `unnamed` was written, and not taken for granted.
    pub unnamed_is_said: bool,
}

/// `listen[].tls`. A path below `$CREDENTIALS_DIRECTORY` is left as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The daemon's certificate, with what leads to its CA.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Who issues certificates to clients; without it they are not asked for any.
    pub client_ca_file: Option<PathBuf>,
}

/// `clients`: who may do what over the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients {
    /// A file of tokens, read again when it changes.
    pub tokens_file: Option<PathBuf>,
    /// Tokens that stand in the settings themselves.
    pub tokens: Vec<Token>,
    /// What holders of client certificates may do.
    pub certificates: Vec<CertificateRule>,
    /// What users of the Unix socket may do; everything where nothing is said.
    pub peers: Option<Vec<PeerRule>>,
}

impl Clients {
    /// Whether anybody may come with a token.
    pub fn has_tokens(&self) -> bool {
        self.tokens_file.is_some() || !self.tokens.is_empty()
    }
}

/// `image_sets[]`: what is different for the image sets whose name matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Override {
    /// A pattern of image set names, see [`crate::model::policy::matches`].
    pub name: String,
    /// See [`Policy::target`].
    pub target: Option<crate::model::policy::Target>,
    /// See [`Settings::max_nested_paths`].
    pub max_nested_paths: Option<u32>,
    /// See [`Policy::apply`].
    pub apply: Option<crate::model::policy::ApplyMode>,
    /// See [`Policy::on_refresh`].
    pub on_refresh: Option<crate::model::policy::OnRefresh>,
    /// See [`Policy::refresh`].
    pub refresh: Option<Duration>,
    /// See [`Policy::max_bytes`].
    pub max_bytes: Option<u64>,
    /// See [`Policy::mirror_scope`].
    pub mirror_scope: Option<crate::model::policy::MirrorScope>,
    /// See [`Policy::ignore_release_signatures`].
    pub ignore_release_signatures: Option<bool>,
    /// See [`Policy::conditional_updates`].
    pub conditional_updates: Option<bool>,
    /// See [`Policy::copy_signatures`].
    pub copy_signatures: Option<bool>,
    /// See [`Policy::signatures_refresh`].
    pub signatures_refresh: Option<Duration>,
    /// See [`Policy::hold_documents`].
    pub hold_documents: Option<policy::HoldDocuments>,
    /// See [`Policy::windows`].
    pub windows: Option<Vec<Window>>,
    /// See [`Policy::catalog_reference`].
    pub catalog_reference: Option<crate::model::policy::CatalogReference>,
    /// See [`Policy::catalog_poll`].
    pub catalog_poll: Option<Duration>,
}

/// `clusters[]`: a cluster that takes documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Patterns of the image sets whose documents it takes, see [`crate::model::policy::matches`].
    pub image_sets: Vec<String>,
    /// The picture of it: a file or folder; where none is named, the picture is sent to the daemon.
    pub snapshot: Option<PathBuf>,
}

/// `verify`: whether the mirror still holds what was mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// How often the daemon looks by itself; never where nothing is said here.
    pub every: Option<Duration>,
    /// How closely it looks then.
    pub depth: Depth,
    /// The most requests a second, whoever asked for the check.
    pub rate: u32,
    /// Whether what is lost is copied again without anybody asking.
    pub repair: bool,
}

/// `update_service`: base URLs of Cincinnati graphs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateService {
    /// For OpenShift.
    pub ocp: url::Url,
    /// For OKD.
    pub okd: url::Url,
}

/// `release_verification`: where signatures of releases are, and whose count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseVerification {
    /// For OpenShift.
    pub ocp: SignedBy,
    /// For OKD.
    pub okd: SignedBy,
}

/// `release_verification.ocp` and `.okd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBy {
    /// The store.
    pub store: url::Url,
    /// The public keys that count, instead of those that the program carries along.
    pub keyring: Option<PathBuf>,
    /// Repositories that signatures may name beside those that are known.
    pub names: Vec<Repository>,
}

impl ReleaseVerification {
    /// Takes what the environment or the command line says, in oc-mirror's way: for OpenShift, and with a keyring also for OKD
    /// where nothing was said of it.
    pub fn take(&mut self, store: Option<url::Url>, keyring: Option<PathBuf>) {
        let silent = self.okd == stanzas::signed_by_default(stanzas::OKD_SIGNATURES);
        let okd = (silent && keyring.is_some()).then_some(&mut self.okd);
        for signed_by in [Some(&mut self.ocp), okd].into_iter().flatten() {
            if let Some(store) = &store {
                signed_by.store = store.clone();
            }
            if keyring.is_some() {
                signed_by.keyring.clone_from(&keyring);
            }
        }
    }
}

/// `registries[]`: how one registry is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryAccess {
    /// `host[:port]`.
    pub host: crate::model::image::Registry,
    /// Plain HTTP instead of HTTPS.
    pub plain_http: bool,
    /// HTTPS without checking the certificate.
    pub skip_tls_verify: bool,
    /// A PEM file with further CA certificates.
    pub ca_file: Option<PathBuf>,
    /// The PEM files of what is shown to the registry: certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// `registries_conf`: where upstreams are remapped, mirrored or blocked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RegistriesConf {
    /// Where podman and skopeo look.
    #[default]
    Usual,
    /// In this file alone.
    File(PathBuf),
    /// Nowhere.
    None,
}

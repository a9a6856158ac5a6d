//! `imagesetd once`: a single round in the foreground, in the words of oc-mirror and skopeo.
//!
//! oc-mirror's own command line works too: `imagesetd once -c isc.yaml --workspace file:///ws docker://HOST/PREFIX`. Its flags fall in
//! three kinds: those that mean the same here, those that mean nothing here (taken, with a note), and those whose meaning would be
//! lost without anybody noticing (refused, with the reason).

use std::path::PathBuf;

use clap::{ArgAction, Args};
use url::Url;

use crate::{
    cli::{failure::Failure, output::Output},
    model::policy::Target,
};

/// Mirrors image sets once, in the foreground, without a daemon or a settings file.
///
/// Prints the plan, copies, writes the cluster documents. Run again with the same state it does what is left to do.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// ImageSetConfiguration file; may be repeated
    #[arg(long, short, value_name = "FILE", required = true)]
    config: Vec<PathBuf>,
    /// Mirror to copy to, with a path below which everything lands
    #[arg(long, value_name = "HOST[:PORT][/PREFIX]")]
    to: Option<String>,
    /// Folder that remembers what was mirrored
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Folder that the cluster documents are written to
    #[arg(long, value_name = "DIR")]
    resources: Option<PathBuf>,
    /// Only say what would be copied; nothing is pushed and no document is written
    #[arg(long)]
    dry_run: bool,
    /// Credentials file (auth.json) instead of the usual places
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    authfile: Option<PathBuf>,
    /// Whether certificates of upstreams are checked; with `false` plain HTTP is tried too
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    src_tls_verify: bool,
    /// Whether the mirror's certificate is checked; with `false` plain HTTP is tried too
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dest_tls_verify: bool,
    /// Folder with certificates for all upstreams: *.crt are authorities, *.cert with *.key is shown
    #[arg(long, value_name = "DIR")]
    src_cert_dir: Option<PathBuf>,
    /// Folder with certificates for the mirror
    #[arg(long, value_name = "DIR")]
    dest_cert_dir: Option<PathBuf>,
    /// Take releases without a look at their signatures
    #[arg(long)]
    ignore_release_signature: bool,
    /// Leave signatures and referrers of images behind, but for the signatures of release payloads
    #[arg(long)]
    remove_signatures: bool,
    /// Let shortest paths use conditional updates
    #[arg(long)]
    allow_conditional: bool,
    /// Update service to ask for graphs
    #[arg(long, value_name = "URL", env = "UPDATE_URL_OVERRIDE")]
    update_url: Option<Url>,
    /// Signature store of releases, https://, http:// or file://
    #[arg(long, value_name = "URL", env = "OCP_SIGNATURE_URL")]
    signature_url: Option<String>,
    /// Public keys that sign releases, instead of Red Hat's
    #[arg(long, value_name = "FILE", env = "OCP_SIGNATURE_VERIFICATION_PK")]
    signature_key: Option<String>,
    /// What is logged on stderr: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    oc_mirror: OcMirror,
}

/// The rest of oc-mirror's command line.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "oc-mirror's form")]
struct OcMirror {
    /// Mirror, as docker://HOST[:PORT][/PREFIX]
    #[arg(value_name = "DESTINATION", conflicts_with = "to")]
    destination: Option<String>,
    /// oc-mirror's workspace: state and documents go where they are there
    #[arg(long, value_name = "file://DIR")]
    workspace: Option<String>,
    /// How many images are copied side by side
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    parallel_images: Option<u16>,
    /// How many blobs of an image are copied side by side
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    parallel_layers: Option<u16>,
    /// The most parts of a repository's path in the mirror; longer ones are joined with dashes
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=100))]
    max_nested_paths: Option<u32>,
    /// How often a transient failure is tried again
    #[arg(long, value_name = "NUMBER")]
    retry_times: Option<u32>,
    #[arg(long, hide = true)]
    v2: bool,
    #[arg(long, hide = true)]
    v1: bool,
    #[arg(long, hide = true, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[arg(long, hide = true, value_name = "DURATION")]
    image_timeout: Option<String>,
    #[arg(long, hide = true, value_name = "DURATION")]
    retry_delay: Option<String>,
    #[arg(long, short, hide = true, value_name = "NUMBER")]
    port: Option<u16>,
    #[arg(long, hide = true, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[arg(long = "registries.d", hide = true, value_name = "DIR")]
    registries_d: Option<PathBuf>,
    #[arg(long, hide = true)]
    secure_policy: bool,
    #[arg(long, hide = true, value_name = "DIR")]
    rootless_storage_path: Option<PathBuf>,
    #[arg(long, hide = true)]
    dry_run_manifest_lists: bool,
    #[arg(long, hide = true)]
    strict_archive: bool,
    #[arg(long, hide = true, value_name = "DATE")]
    since: Option<String>,
    #[arg(long, hide = true, value_name = "file://DIR")]
    from: Option<String>,
    #[arg(long, hide = true)]
    force: bool,
    #[arg(long, hide = true)]
    quiet: bool,
}

/// What `once` is to do, whichever form it was said in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The ImageSetConfiguration files.
    pub config: Vec<PathBuf>,
    /// The mirror.
    pub target: Target,
    /// The most parts of a repository's path in the mirror, or 0.
    pub max_nested_paths: u32,
    /// The state folder.
    pub state: PathBuf,
    /// The output folder for documents.
    pub resources: PathBuf,
    /// Whether to only plan.
    pub dry_run: bool,
    /// The credentials file.
    pub authfile: Option<PathBuf>,
    /// Whether certificates of upstreams are checked.
    pub src_tls_verify: bool,
    /// Whether the mirror's certificate is checked.
    pub dest_tls_verify: bool,
    /// The folder of certificates for all upstreams.
    pub src_cert_dir: Option<PathBuf>,
    /// The folder of certificates for the mirror.
    pub dest_cert_dir: Option<PathBuf>,
    /// Whether releases are taken without a look at their signatures.
    pub ignore_release_signatures: bool,
    /// Whether signatures and referrers of images are left behind.
    pub remove_signatures: bool,
    /// Whether shortest paths may use conditional updates.
    pub conditional_updates: bool,
    /// The update service, where not the usual one.
    pub update_url: Option<Url>,
    /// The signature store, where not the usual one.
    pub signature_url: Option<Url>,
    /// The public keys that sign releases, where not the usual ones.
    pub signature_key: Option<PathBuf>,
    /// What is logged.
    pub log_level: String,
    /// Who reads the answer.
    pub output: Output,
    /// How many images are copied side by side, where that was said.
    pub parallel_images: Option<usize>,
    /// How many blobs are copied side by side over all images, where that was said.
    pub parallel_blobs: Option<usize>,
    /// How often a transient failure is tried again, where that was said.
    pub retries: Option<u32>,
    /// Sentences on flags that were taken and mean nothing here, for stderr.
    pub notes: Vec<String>,
}

/// oc-mirror's number of images side by side where none is said.
const OC_MIRROR_IMAGES: usize = 4;

impl Arguments {
    /// Reads either form into one order, or says what is missing or cannot be done.
    pub fn order(self) -> Result<Order, Failure> {
        self.oc_mirror.refusals()?;
        let notes = self.oc_mirror.notes();
        let workspace = self.oc_mirror.workspace_folder()?;
        let at = |below: &str| {
            workspace
                .as_ref()
                .map(|workspace| workspace.join("working-dir").join(below))
        };
        let images = self.oc_mirror.parallel_images.map(usize::from);
        let layers = self.oc_mirror.parallel_layers.map(usize::from);
        Ok(Order {
            target: self.target()?,
            max_nested_paths: self.oc_mirror.max_nested_paths.unwrap_or_default(),
            state: self
                .state
                .or_else(|| at("imagesetd"))
                .ok_or_else(|| lacks("--state DIR"))?,
            resources: self
                .resources
                .or_else(|| at("cluster-resources"))
                .ok_or_else(|| lacks("--resources DIR"))?,
            config: self.config,
            dry_run: self.dry_run || self.oc_mirror.dry_run_manifest_lists,
            authfile: self.authfile,
            src_tls_verify: self.src_tls_verify,
            dest_tls_verify: self.dest_tls_verify,
            src_cert_dir: self.src_cert_dir,
            dest_cert_dir: self.dest_cert_dir,
            ignore_release_signatures: self.ignore_release_signature,
            remove_signatures: self.remove_signatures,
            conditional_updates: self.allow_conditional,
            update_url: self.update_url,
            // Empty says nothing, as for oc-mirror.
            signature_url: self
                .signature_url
                .filter(|url| !url.is_empty())
                .map(|url| signature_url(&url))
                .transpose()?,
            signature_key: self
                .signature_key
                .filter(|file| !file.is_empty())
                .map(PathBuf::from),
            log_level: self.log_level,
            output: self.output,
            parallel_images: images,
            parallel_blobs: layers.map(|layers| layers * images.unwrap_or(OC_MIRROR_IMAGES)),
            retries: self.oc_mirror.retry_times,
            notes,
        })
    }

    fn target(&self) -> Result<Target, Failure> {
        let Some(text) = self.to.as_ref().or(self.oc_mirror.destination.as_ref()) else {
            return Err(lacks("--to HOST[:PORT][/PREFIX]"));
        };
        if text.starts_with("file://") || text.starts_with("oci:") {
            return Err(Failure::usage(format!(
                "{text}: archives on disk are not written by this version; name a registry"
            )));
        }
        text.parse().map_err(|error| {
            Failure::usage(format!("`{text}` is not a place in a registry: {error}"))
        })
    }
}

fn signature_url(text: &str) -> Result<Url, Failure> {
    text.parse().map_err(|error| {
        Failure::usage(format!(
            "--signature-url (or OCP_SIGNATURE_URL) is not a URL: {error}"
        ))
    })
}

fn lacks(what: &str) -> Failure {
    Failure::usage(format!(
        "{what} is missing; in oc-mirror's form it comes of --workspace file://DIR and docker://HOST/PREFIX"
    ))
}

impl OcMirror {
    fn workspace_folder(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(text) = &self.workspace else {
            return Ok(None);
        };
        match text.strip_prefix("file://") {
            Some(path) if !path.is_empty() => Ok(Some(PathBuf::from(path))),
            _ => Err(Failure::usage(format!(
                "--workspace {text}: a folder is wanted, as file://DIR"
            ))),
        }
    }

    /// Refuses what would change the result without anybody noticing that it did not happen.
    fn refusals(&self) -> Result<(), Failure> {
        let refused = [
            (
                self.v1,
                "--v1: this does what oc-mirror v2 does; leave the flag out",
            ),
            (
                self.from.is_some(),
                "--from: archives on disk are not read by this version",
            ),
            (
                self.since.is_some(),
                "--since: archives on disk are not written by this version",
            ),
            (
                self.strict_archive,
                "--strict-archive: archives on disk are not written by this version",
            ),
            (
                self.secure_policy,
                "--secure-policy: signature policies of containers/image are not read by this version",
            ),
            (
                self.policy.is_some(),
                "--policy: signature policies of containers/image are not read by this version",
            ),
        ];
        match refused.into_iter().find(|(given, _)| *given) {
            Some((_, why)) => Err(Failure::usage(why)),
            None => Ok(()),
        }
    }

    fn notes(&self) -> Vec<String> {
        let nothing = [
            (
                self.cache_dir.is_some(),
                "--cache-dir means nothing here: there is no cache, content goes from registry to registry",
            ),
            (
                self.port.is_some(),
                "--port means nothing here: there is no cache registry",
            ),
            (
                self.image_timeout.is_some(),
                "--image-timeout means nothing here: an image may take as long as bytes flow",
            ),
            (
                self.retry_delay.is_some(),
                "--retry-delay means nothing here: the pause grows with each try, or is what the registry asks for",
            ),
            (
                self.registries_d.is_some(),
                "--registries.d means nothing here: where signatures are is asked of the registry",
            ),
            (
                self.rootless_storage_path.is_some(),
                "--rootless-storage-path means nothing here: no image is built",
            ),
            (
                self.dry_run_manifest_lists,
                "--dry-run-manifest-lists means --dry-run here: the plan lists what is copied",
            ),
            (
                self.force,
                "--force means nothing here: what is mirrored is never copied again",
            ),
            (self.quiet, "--quiet means nothing here: redirect stderr"),
        ];
        nothing
            .into_iter()
            .filter(|(given, _)| *given)
            .map(|(_, note)| note.to_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        once: Arguments,
    }

    fn order(line: &str) -> Result<Order, String> {
        let parsed = Cli::try_parse_from(std::iter::once("once").chain(line.split(' ')))
            .map_err(|e| e.to_string())?;
        parsed.once.order().map_err(|failure| failure.message)
    }

    fn plain() -> Order {
        Order {
            config: vec!["isc.yaml".into()],
            target: "mirror.lan:5000/ocp".parse().unwrap(),
            max_nested_paths: 0,
            state: "/s".into(),
            resources: "/r".into(),
            dry_run: false,
            authfile: None,
            src_tls_verify: true,
            dest_tls_verify: true,
            src_cert_dir: None,
            dest_cert_dir: None,
            ignore_release_signatures: false,
            remove_signatures: false,
            conditional_updates: false,
            update_url: None,
            signature_url: None,
            signature_key: None,
            log_level: "warn".to_owned(),
            output: Output::Text,
            parallel_images: None,
            parallel_blobs: None,
            retries: None,
            notes: Vec::new(),
        }
    }

    #[test]
    fn our_own_form() {
        let line = "-c isc.yaml --to mirror.lan:5000/ocp --state /s --resources /r --src-tls-verify=false --ignore-release-signature";
        assert_eq!(
            order(line),
            Ok(Order {
                src_tls_verify: false,
                ignore_release_signatures: true,
                ..plain()
            })
        );
    }

    #[test]
    fn oc_mirrors_form_goes_to_its_places() {
        let line = "--v2 -c isc.yaml --workspace file:///ws docker://mirror.lan:5000/ocp --dest-tls-verify=false --parallel-images 8 --parallel-layers 5 --retry-times 2 --image-timeout 30m --cache-dir /c --log-level debug";
        assert_eq!(order(line), Ok(Order {
            state: "/ws/working-dir/imagesetd".into(),
            resources: "/ws/working-dir/cluster-resources".into(),
            dest_tls_verify: false,
            parallel_images: Some(8),
            parallel_blobs: Some(40),
            retries: Some(2),
            log_level: "debug".to_owned(),
            notes: vec![
                "--cache-dir means nothing here: there is no cache, content goes from registry to registry".to_owned(),
                "--image-timeout means nothing here: an image may take as long as bytes flow".to_owned(),
            ],
            ..plain()
        }));
    }

    #[test]
    fn what_would_be_lost_unnoticed_is_refused() {
        for flag in [
            "--v1",
            "--from file:///a",
            "--since 2026-01-01",
            "--secure-policy",
            "--policy /p",
        ] {
            let refused = order(&format!(
                "-c isc.yaml --workspace file:///ws {flag} docker://mirror.lan"
            ))
            .unwrap_err();
            assert!(
                refused.starts_with(flag.split(' ').next().unwrap()),
                "{refused}"
            );
        }
        let nested =
            order("-c isc.yaml --workspace file:///ws --max-nested-paths 2 docker://mirror.lan");
        assert_eq!(nested.map(|order| order.max_nested_paths), Ok(2));
        assert!(
            order("-c isc.yaml file:///archive")
                .unwrap_err()
                .contains("archives")
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(
            order("-c isc.yaml --to mirror.lan")
                .unwrap_err()
                .starts_with("--state DIR is missing")
        );
        assert!(
            order("-c isc.yaml --workspace file:///ws")
                .unwrap_err()
                .starts_with("--to HOST")
        );
        assert!(
            order("-c isc.yaml --workspace /ws docker://m.lan")
                .unwrap_err()
                .contains("file://DIR")
        );
    }
}

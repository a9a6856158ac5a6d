//! What playbooks find: a site with a daemon and registries, a second daemon with all doors, and the words for them.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    control,
    fixture::place::{Placed, write_distribution_storage},
    gate::Gate,
    house::House,
    site::{Plot, Site, tool as image},
    workshop::Workshop,
};

/// A token with the right `apply`. It appears nowhere but where it is given.
pub(crate) const TOKEN: &str = "canary-7d1f60c2b4";

/// Of [`TOKEN`].
pub(crate) const HASH: &str = "1346cb88863e731255018096e4c0294b06d63cc79fcf7cd587767fe9111568b0";

/// An image set that is there from the beginning.
pub(crate) const TOOLS: &str = "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  additionalImages:
  - name: UPSTREAM/team/hammer:v1
";

/// Images that are there for one target alone, whatever the others do: each target has a namespace, so mirror rules are its own too.
const OWN: [&str; 14] = [
    "applied/first",
    "applied/second",
    "documented/tool",
    "long/begun",
    "long/left",
    "long/polled",
    "partial/failing-bad",
    "partial/failing-good",
    "partial/warning-bad",
    "partial/warning-good",
    "planned/preview",
    "planned/tool",
    "stopped/tool",
    "verified/tool",
];

const REPOSITORIES: &str = "docker/registry/v2/repositories";

fn publish(site: &Site) {
    let images = OWN.map(image);
    let placed: Vec<Placed> = OWN
        .iter()
        .zip(&images)
        .map(|(name, image)| Placed::tagged(name, "v1", image))
        .collect();
    write_distribution_storage(&site.upstream.storage(), &placed).unwrap();
}

/// Everything that a playbook needs. What was started ends with it.
pub(crate) struct Stage {
    pub(crate) site: Site,
    house: House,
    control: String,
    /// Connections to it are taken by the kernel, and nobody ever looks at them.
    _silent: UnixListener,
}

impl Stage {
    /// Starts daemons and registries; `files` are in the watched directory, beside `tools.yaml`.
    pub(crate) fn new(files: &[(&str, &str)]) -> Stage {
        let settings = format!(
            "apply: manual\nclients:\n  tokens:\n  - {{name: ansible, sha256: {HASH}, rights: apply}}\n"
        );
        let plot = Plot {
            settings: &settings,
            ..Plot::default()
        };
        let files = [&[("tools.yaml", TOOLS)], files].concat();
        let site = Site::new(&files, &plot);
        let gate: Arc<Gate> = Arc::clone(&site.gate);
        let repositories = site.mirror.storage().join(REPOSITORIES).join("ocp");
        publish(&site);
        let source = site.upstream.storage().join(REPOSITORIES);
        let control = control::listen(move |word| match word {
            // What somebody does who cleans up the mirror's disk.
            _ if word.starts_with("lose/") => {
                let repository = word.trim_start_matches("lose/");
                fs::remove_dir_all(repositories.join(repository)).is_ok()
            }
            // What somebody does who cleans up a source: manifests stay, blobs are gone.
            _ if word.starts_with("spoil/") => {
                let layers = source.join(word.trim_start_matches("spoil/"));
                fs::rename(layers.join("_layers"), layers.join("_spoilt")).is_ok()
            }
            _ if word.starts_with("mend/") => {
                let layers = source.join(word.trim_start_matches("mend/"));
                fs::rename(layers.join("_spoilt"), layers.join("_layers")).is_ok()
            }
            "open" => {
                gate.open();
                true
            }
            "close" => {
                gate.close();
                true
            }
            "wait-for-knock" => {
                gate.wait_for_knock();
                true
            }
            _ => false,
        });
        fs::write(site.path("token"), TOKEN).unwrap();
        let script = "#!/bin/sh\necho '{\"schema\": 2}'\n";
        fs::write(site.path("other-schema"), script).unwrap();
        let runs = fs::Permissions::from_mode(0o755);
        fs::set_permissions(site.path("other-schema"), runs).unwrap();
        let silent = UnixListener::bind(site.path("silent.sock")).unwrap();
        Stage {
            _silent: silent,
            site,
            house: House::open(),
            control,
        }
    }

    /// The words that playbooks use for it.
    pub(crate) fn words(&self, workshop: &Workshop) -> Value {
        let pair = self.house.ca.sign("ansible", "");
        let site = &self.site;
        json!({
            "binary": env!("CARGO_BIN_EXE_imagesetd"),
            "daemon_connection": {
                "endpoint": format!("unix://{}", site.socket().display()),
                "binary_path": env!("CARGO_BIN_EXE_imagesetd"),
            },
            "tcp": format!("http://{}", site.tcp),
            "token": TOKEN,
            "token_file": site.path("token"),
            "silent": format!("unix://{}", site.path("silent.sock").display()),
            "other_schema": site.path("other-schema"),
            "sets": site.path("sets"),
            "output": site.path("resources"),
            "upstream": site.upstream.address(),
            "mirror": site.mirror.address(),
            "gate": site.gate.address,
            "control": self.control,
            "remote_folder": workshop.path("remote"),
            "async_folder": workshop.path("async"),
            "image_set_of": TOOLS.replace("UPSTREAM/team/hammer:v1", "IMAGE"),
            "https": format!("https://127.0.0.1:{}", self.house.tls),
            "ca_file": self.house.ca.cert(),
            "other_ca_file": super::pki::Ca::new(workshop.path("other-ca")).cert(),
            "client_cert": pair.cert,
            "client_key": pair.key,
            "reader_token_file": self.house.token_file("reader"),
        })
    }
}

//! What playbooks find: a site with a daemon and registries, a second daemon with all doors, and the words for them.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use serde_json::{Value, json};

use super::{
    control,
    gate::Gate,
    house::House,
    site::{Plot, Site},
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

/// Everything that a playbook needs. What was started ends with it.
pub(crate) struct Stage {
    pub(crate) site: Site,
    house: House,
    control: String,
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
        let repositories = site
            .mirror
            .storage()
            .join("docker/registry/v2/repositories/ocp");
        let control = control::listen(move |word| match word {
            // What somebody does who cleans up the mirror's disk.
            _ if word.starts_with("lose/") => {
                let repository = word.trim_start_matches("lose/");
                fs::remove_dir_all(repositories.join(repository)).is_ok()
            }
            "open" => {
                gate.open();
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
        Stage {
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
            "other_schema": site.path("other-schema"),
            "sets": site.path("sets"),
            "output": site.path("resources"),
            "upstream": site.upstream.address(),
            "mirror": site.mirror.address(),
            "gate": site.gate.address,
            "control": self.control,
            "remote_folder": workshop.path("remote"),
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

//! A site's whole story by playbooks: the agent is installed, an image set is committed, `site.yml` brings it and applies its documents to a
//! cluster, a second time changes nothing; a connection that dies in the middle of a run loses nothing. On the way a token shows nowhere.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use serde_json::{Value, json};

use super::{
    openshift::Cluster,
    ran,
    site::{Plot, Site},
    stage::{HASH, TOKEN, TOOLS},
    support::{registry::wait_for, tool},
    workshop::{Workshop, check},
};

/// Commits an image set, as a person with a checkout does.
const COMMIT: &str = "\
- hosts: mirror
  gather_facts: false
  tasks:
    - name: Have a repository
      ansible.builtin.command:
        argv: [git, init, --quiet, --initial-branch=main, '{{ sets }}']
        creates: '{{ sets }}/.git'
    - name: Write an image set
      ansible.builtin.copy:
        src: tools.yaml
        dest: '{{ sets }}/tools.yaml'
        mode: '0644'
      register: written
    - name: Add it
      ansible.builtin.command:
        argv: [git, -C, '{{ sets }}', add, tools.yaml]
      when: written is changed
      changed_when: true
    - name: Commit it
      ansible.builtin.command:
        argv: [git, -C, '{{ sets }}', -c, user.name=ops, -c, user.email=ops@example.com, commit, --quiet, --message=tools, --, tools.yaml]
      when: written is changed
      changed_when: true
";

/// Credentials for the mirror, which nodes get, and which show nowhere either.
const AUTH: &str = "canary-b24c5ef71a";

struct Story {
    site: Site,
    workshop: Workshop,
    /// None where no API server is to be had.
    cluster: Option<Cluster>,
    agent: Option<Child>,
}

impl Story {
    fn new() -> Story {
        let settings = format!(
            "apply: manual\nclients:\n  tokens:\n  - {{name: ansible, sha256: {HASH}, rights: apply}}\n"
        );
        let plot = Plot {
            settings: &settings,
            ..Plot::default()
        };
        // What the site starts is not wanted here: the agent is the one that the playbook installs.
        let mut site = Site::new(&[], &plot);
        site.stop();
        let workshop = Workshop::new("newest");
        let story = Story {
            site,
            workshop,
            cluster: Cluster::start("the cluster of a site's story", ""),
            agent: None,
        };
        story.write("words.json", &story.words().to_string());
        story.write("inventory", "mirror ansible_connection=local ansible_python_interpreter=\"{{ ansible_playbook_python }}\"\n");
        story.write("ca.pem", "an authority\n");
        story.write("tools.yaml", &story.site.filled(TOOLS));
        story.write("commit.yml", COMMIT);
        // Writes down what it is called with, as a process list would show it.
        story.script(
            "imagesetd",
            &format!(
                "echo \"$@\" >> {}\nexec {} \"$@\"",
                story.workshop.path("arguments").display(),
                story.installed("bin/imagesetd").display()
            ),
        );
        story
    }

    fn words(&self) -> Value {
        let settings = self.site.path("imagesetd.yaml");
        json!({
            "install_binary_src": env!("CARGO_BIN_EXE_imagesetd"),
            "install_binary_path": self.installed("bin/imagesetd"),
            "install_config_dir": self.installed("etc"),
            "install_state_dir": self.installed("state"),
            "install_settings": format!("{{{{ lookup('ansible.builtin.file', '{}') | from_yaml }}}}", settings.display()),
            "install_service_manager": "none",
            "install_user": "root",
            "install_manage_user": false,
            "install_token_name": "watcher",
            "install_token_rights": "read",
            "imagesetd_connection": {
                "endpoint": format!("http://{}", self.site.tcp),
                "token": TOKEN,
                "binary_path": self.workshop.path("imagesetd"),
            },
            "sets": self.site.path("sets"),
            "imagesetd_apply_to_cluster": self.cluster.is_some(),
            "apply_cluster_resources_oc": self.cluster.as_ref().map(Cluster::oc),
            "apply_cluster_resources_kubeconfig": self.cluster.as_ref().map(Cluster::kubeconfig),
            "apply_cluster_resources_pause": true,
            "apply_cluster_resources_ca_file": self.workshop.path("ca.pem"),
            "apply_cluster_resources_ca_host": "mirror.lan:5000",
            "apply_cluster_resources_disable_default_catalogs": true,
            "apply_cluster_resources_auths": {"mirror.lan:5000": {"auth": AUTH}},
            "apply_cluster_resources_retries": 30,
            "apply_cluster_resources_delay": 1,
        })
    }

    fn installed(&self, name: &str) -> PathBuf {
        self.workshop.path("host").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.workshop.path(name), text).unwrap();
    }

    fn script(&self, name: &str, text: &str) {
        self.write(name, &format!("#!/bin/sh\n{text}\n"));
        let runs = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.workshop.path(name), runs).unwrap();
    }

    fn playbook(&self, name: &str, more: &[&str]) -> Command {
        let words = format!("@{}", self.workshop.path("words.json").display());
        let mut command = self.workshop.command();
        command
            .args(["ansible-playbook", "-i"])
            .arg(self.workshop.path("inventory"))
            .args(["-e", &words, "-vvvv"])
            .args(more)
            .arg(name);
        ran::noted(&mut command, &self.workshop);
        command
    }

    /// Plays a playbook to its end; returns how many tasks were changed.
    fn play(&self, name: &str, more: &[&str]) -> (String, u64) {
        let output = self.playbook(name, more).output().unwrap();
        check(name, &output);
        let text = all_of(&output);
        assert!(!text.contains(TOKEN), "{name} shows the token");
        assert!(!text.contains(AUTH), "{name} shows credentials");
        let changed = text.rsplit("changed=").next().unwrap();
        let changed: String = changed.chars().take_while(char::is_ascii_digit).collect();
        (text, changed.parse().unwrap())
    }

    /// Starts what was installed, as a service manager would.
    fn start(&mut self) {
        let log = fs::File::create(self.workshop.path("agent.log")).unwrap();
        let agent = Command::new(self.installed("bin/imagesetd"))
            .args(["serve", "--log-level", "debug", "--config"])
            .arg(self.installed("etc/imagesetd.yaml"))
            .env_clear()
            .stderr(log)
            .stdout(Stdio::null())
            .spawn();
        self.agent = Some(agent.unwrap());
        self.site
            .wait_for("the first look at the directory", |status| {
                let reason = &status["daemon"]["conditions"][0]["reason"];
                reason.as_str().is_some_and(|reason| reason != "Starting")
            });
    }

    fn asked(&self, line: &str) -> Value {
        serde_json::from_slice(&self.site.cli(line).stdout).unwrap()
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        self.site.gate.open();
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn all_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_site_is_made_kept_and_survives_a_lost_connection() {
    let mut story = Story::new();
    story.write(
        "install.yml",
        "- hosts: mirror\n  gather_facts: false\n  roles: [imagesetd.mirror.install]\n",
    );
    fs::create_dir_all(story.installed("bin")).unwrap();
    let install = story.workshop.path("install.yml");
    let install = install.to_str().unwrap();
    let (_, would) = story.play(install, &["--check"]);
    assert!(would > 0);
    assert!(
        !story.installed("etc").exists(),
        "check mode made something"
    );
    let (_, changed) = story.play(install, &[]);
    assert!(changed > 0);
    let mode = |name: &str| {
        let found = fs::metadata(story.installed(name)).unwrap();
        found.permissions().mode() & 0o777
    };
    assert_eq!(
        [
            "bin/imagesetd",
            "etc/imagesetd.yaml",
            "etc/tokens",
            "etc/watcher.token"
        ]
        .map(mode),
        [0o755, 0o640, 0o640, 0o600]
    );
    let (_, again) = story.play(install, &[]);
    assert_eq!(again, 0);
    // Settings that the binary does not take never replace those that it does.
    let before = fs::read(story.installed("etc/imagesetd.yaml")).unwrap();
    let broken = story
        .playbook(
            install,
            &["-e", "{\"install_settings\": {\"targt\": \"x\"}}"],
        )
        .output()
        .unwrap();
    assert!(!broken.status.success());
    assert_eq!(
        fs::read(story.installed("etc/imagesetd.yaml")).unwrap(),
        before
    );

    story.start();
    let commit = story.workshop.path("commit.yml");
    let commit = commit.to_str().unwrap();
    let (_, changed) = story.play(commit, &[]);
    assert_eq!(changed, 4);
    assert_eq!(story.play(commit, &[]).1, 0);
    story.site.wait_for("the commit", |status| {
        let revision = status["daemon"]["revision"].as_str().unwrap_or_default();
        revision.starts_with("main@sha1:")
    });
    let (text, changed) = story.play("imagesetd.mirror.plan_only", &[]);
    assert!(text.contains("1 images to copy"), "{text}");
    assert_eq!(changed, 0);
    let (_, changed) = story.play("imagesetd.mirror.site", &[]);
    assert!(changed > 0);
    let place = format!(
        "docker://{}/ocp/team/hammer:v1",
        story.site.mirror.address()
    );
    let inspected = Command::new(tool::find("skopeo"))
        .args(["inspect", "--tls-verify=false", &place])
        .output()
        .unwrap();
    check("skopeo inspect", &inspected);
    if let Some(cluster) = &story.cluster {
        let rules = cluster.object("imagetagmirrorset tools-additional");
        let mirror = format!("{}/ocp/team", story.site.mirror.address());
        assert_eq!(
            rules["spec"]["imageTagMirrors"][0]["mirrors"],
            json!([mirror])
        );
        assert_eq!(cluster.rollouts(), ["worker"]);
    }
    let (_, again) = story.play("imagesetd.mirror.site", &[]);
    assert_eq!(again, 0);

    // A plan beyond the limits is refused, whatever else could be done.
    story.site.write(
        "slow.yaml",
        &TOOLS.replace("UPSTREAM/team/hammer", "GATE/team/slow"),
    );
    let limited = story
        .playbook(
            "imagesetd.mirror.refresh",
            &["-e", "mirror_refresh_max_bytes=1"],
        )
        .output()
        .unwrap();
    assert!(all_of(&limited).contains("MAX_BYTES_EXCEEDED"));
    // The connection dies in the middle of a run.
    let mut lost = story
        .playbook("imagesetd.mirror.refresh", &[])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    story.site.gate.wait_for_knock();
    let run = wait_for("the run", || {
        let runs = story.asked("runs list slow --output json");
        let run = runs["runs"][0].clone();
        (run["state"] == "running").then_some(run)
    });
    let group = nix::unistd::Pid::from_raw(-i32::try_from(lost.id()).unwrap());
    nix::sys::signal::kill(group, nix::sys::signal::SIGKILL).unwrap();
    lost.wait().unwrap();
    let goes_on = story.asked("runs list slow --output json");
    assert_eq!(goes_on["runs"][0]["state"], "running");
    story.site.gate.open();
    story.play("imagesetd.mirror.refresh", &[]);
    let runs = story.asked("runs list slow --output json");
    assert_eq!(
        (&runs["runs"][0]["id"], &runs["runs"][0]["state"]),
        (&run["id"], &json!("succeeded"))
    );
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1);
    let (_, again) = story.play("imagesetd.mirror.refresh", &[]);
    assert_eq!(again, 0);

    assert_eq!(
        ran::never_run(&[&story.workshop], "mirror_refresh"),
        Vec::<String>::new()
    );
    for name in ["arguments", "agent.log"] {
        let text = fs::read_to_string(story.workshop.path(name)).unwrap();
        assert!(!text.is_empty(), "{name}");
        assert!(!text.contains(TOKEN) && !text.contains(AUTH), "{name}");
    }
    let (_, gone) = story.play(
        install,
        &["-e", "install_state=absent", "-e", "install_purge=true"],
    );
    assert!(gone > 0);
    assert!(!story.installed("bin/imagesetd").exists() && !story.installed("etc").exists());
    let (_, again) = story.play(
        install,
        &["-e", "install_state=absent", "-e", "install_purge=true"],
    );
    assert_eq!(again, 0);
}

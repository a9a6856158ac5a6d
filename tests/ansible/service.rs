//! The role `install` on a machine with systemd: from nothing to a service, through what operators change, and back to nothing; then from a
//! package, on the oldest ansible-core. No task of the role is left out.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use super::{
    machine::Machine,
    pki::{Ca, Pair},
    ran,
    stage::TOOLS,
    support::{skip, tool},
    workshop::{Workshop, check},
};

const TEST: &str = "the_agent_is_a_service_for_as_long_as_it_is_wanted";

/// What stands before the names of the role's tasks.
const ROLE: &str = "imagesetd.mirror.install : ";

/// Credentials of a registry, which show nowhere.
const AUTH: &str = "canary-3f0c9a61de";

/// Counts how often the agent was started.
const COUNT: &str = "ExecStartPost=+/bin/sh -c 'echo started >>/run/starts'";

/// Tasks by which settings get into force.
const IN_FORCE: [&str; 2] = [
    "Write the settings, which have to be valid",
    "Restart the agent",
];

const START: &str = "Start the agent, now and with the machine";

/// A playbook's run.
struct Played {
    output: Output,
    lines: Vec<Value>,
}

impl Played {
    /// The tasks that changed something, in their order.
    fn changed(&self) -> Vec<&str> {
        check("the playbook", &self.output);
        self.lines
            .iter()
            .filter(|line| line["result"]["changed"] == true)
            .map(|line| line["task"].as_str().unwrap().trim_start_matches(ROLE))
            .collect()
    }

    /// How often a task was tried until it was done.
    fn attempts(&self, task: &str) -> &Value {
        let name = format!("{ROLE}{task}");
        let line = self.lines.iter().find(|line| line["task"] == name.as_str());
        &line.unwrap()["result"]["attempts"]
    }

    /// The task that failed, and all that was said.
    fn failed(&self) -> (&str, String) {
        assert!(!self.output.status.success());
        let last = self.lines.last().unwrap();
        assert_eq!(last["failed"], true);
        let task = last["task"].as_str().unwrap();
        (task.trim_start_matches(ROLE), last["result"].to_string())
    }
}

/// A machine, and all that playbooks did to it.
struct Host {
    machine: Machine,
    said: String,
}

impl Host {
    fn play(&mut self, workshop: &Workshop, words: &Value, flags: &[&str]) -> Played {
        fs::write(workshop.path("words.json"), words.to_string()).unwrap();
        let _ = fs::remove_file(workshop.path("lines"));
        let mut command = workshop.command();
        ran::noted(&mut command, workshop);
        command
            .env("ANSIBLE_STDOUT_CALLBACK", "lines")
            .env("LINES", workshop.path("lines"))
            .args(["ansible-playbook", "-i", "inventory", "-e", "@words.json"])
            .args(flags)
            .arg("install.yml");
        let output = self.machine.inside(&command).output().unwrap();
        let lines = fs::read_to_string(workshop.path("lines")).unwrap_or_default();
        self.said += &lines;
        self.said += &String::from_utf8_lossy(&output.stdout);
        self.said += &String::from_utf8_lossy(&output.stderr);
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<Value> = lines.collect();
        assert!(!lines.is_empty(), "{}", self.said);
        Played { output, lines }
    }

    fn property(&self, name: &str) -> String {
        let line = format!("systemctl show imagesetd --value --property={name}");
        self.machine.says(&line)
    }

    /// Which process the agent is, and the how-many-th.
    fn agent(&self) -> (String, usize) {
        let starts = fs::read_to_string(self.machine.path("/run/starts")).unwrap();
        (self.property("MainPID"), starts.lines().count())
    }

    fn exists(&self, path: &str) -> bool {
        self.machine.path(path).exists()
    }

    /// Mode, owner and group of a file.
    fn owned(&self, path: &str) -> (u32, u32, u32) {
        let found = fs::metadata(self.machine.path(path)).unwrap();
        (found.permissions().mode() & 0o777, found.uid(), found.gid())
    }

    /// What somebody sees who comes by TLS with the token that the role made.
    fn status(&self, ca: &Ca) -> Value {
        let line = format!(
            "/usr/local/bin/imagesetd status --output json --endpoint https://127.0.0.1:7443 --ca-file {} --token-file /etc/imagesetd/ansible.token",
            ca.cert().display()
        );
        let output = self.machine.run(&line);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A workshop with the playbook in it.
fn workshop(core: &'static str) -> Workshop {
    let workshop = Workshop::new(core);
    let write = |name: &str, text: &str| fs::write(workshop.path(name), text).unwrap();
    write(
        "inventory",
        "bastion ansible_connection=local ansible_python_interpreter=\"{{ ansible_playbook_python }}\"\n",
    );
    write(
        "install.yml",
        "- hosts: bastion\n  gather_facts: false\n  roles: [imagesetd.mirror.install]\n",
    );
    write(
        "auth.json",
        &json!({"auths": {"registry.lan:5000": {"auth": AUTH}}}).to_string(),
    );
    fs::create_dir(workshop.path("files")).unwrap();
    // As it is built for tests, it would be copied and hashed for seconds.
    let stripped = Command::new("strip")
        .arg("-o")
        .arg(workshop.path("imagesetd"))
        .arg(env!("CARGO_BIN_EXE_imagesetd"))
        .output()
        .unwrap();
    check("strip", &stripped);
    symlink("../imagesetd", workshop.path("files/imagesetd")).unwrap();
    workshop
}

/// Settings that name secrets as credentials of systemd.
fn settings() -> Value {
    json!({
        "target": "registry.lan:5000/ocp",
        "directory": "/srv/imagesets",
        "output": "/srv/cluster-resources",
        "authfile": "$CREDENTIALS_DIRECTORY/auth.json",
        "listen": ["unix:///run/imagesetd/imagesetd.sock", {
            "address": "tcp://127.0.0.1:7443",
            "tls": {"cert_file": "/etc/imagesetd/tls/tls.crt", "key_file": "$CREDENTIALS_DIRECTORY/tls.key"},
        }],
        "clients": {"tokens_file": "$CREDENTIALS_DIRECTORY/tokens"},
    })
}

fn words(workshop: &Workshop, pair: &Pair) -> Value {
    let summed = Command::new("sha256sum")
        .arg(workshop.path("imagesetd"))
        .output()
        .unwrap();
    let sum = String::from_utf8(summed.stdout).unwrap();
    json!({
        "install_binary_src": "files/imagesetd",
        "install_binary_checksum": format!("sha256:{}", &sum[..64]),
        "install_settings": settings(),
        "install_authfile_src": workshop.path("auth.json"),
        "install_token_name": "ansible",
        "install_tls_files": [
            {"src": pair.cert, "name": "tls.crt"}, {"src": pair.key, "name": "tls.key"},
        ],
        "install_unit_options": [
            "LoadCredential=tokens:/etc/imagesetd/tokens",
            "LoadCredential=tls.key:/etc/imagesetd/tls/tls.key",
            "LoadCredential=auth.json:/etc/imagesetd/auth.json",
            COUNT,
        ],
    })
}

/// The same words, but for this one.
fn with(words: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut words = words.clone();
    words[name] = value.into();
    words
}

/// The same words without this one.
fn without(words: &Value, name: &str) -> Value {
    let mut words = words.clone();
    words.as_object_mut().unwrap().remove(name).unwrap();
    words
}

#[test]
fn the_agent_is_a_service_for_as_long_as_it_is_wanted() {
    if !Path::new("/usr/bin/dpkg-deb").exists() {
        return skip::skipped(TEST, "packages of Debian cannot be made here");
    }
    let newest = workshop("newest");
    let oldest = workshop("oldest");
    let ansible = tool::find_installed("with-ansible-newest");
    let kept = [
        &newest.path("") as &Path,
        &oldest.path(""),
        Path::new(env!("CARGO_MANIFEST_DIR")),
        ansible.parent().unwrap().parent().unwrap(),
    ];
    let Some(machine) = Machine::boot(TEST, &kept) else {
        return;
    };
    let mut host = Host {
        machine,
        said: String::new(),
    };
    let ca = Ca::new(newest.path("ca"));
    let pair = ca.sign("daemon", "IP:127.0.0.1");
    let words = words(&newest, &pair);
    nothing_is_done_yet(&mut host, &newest, &words);
    it_is_installed(&mut host, &newest, &words, &ca);
    it_is_changed(&mut host, &newest, &words, &ca);
    it_is_taken_away(&mut host, &newest, &words);
    it_comes_from_a_package(&mut host, &oldest);
    for secret in [AUTH, "imagesetd_", "PRIVATE KEY"] {
        assert!(!host.said.contains(secret), "{secret} shows");
    }
    let never = ran::never_run(&[&newest, &oldest], "install");
    assert_eq!(never, Vec::<String>::new());
}

/// A look ahead, and a binary that is not the right one, where there is nothing but what a site prepared.
fn nothing_is_done_yet(host: &mut Host, workshop: &Workshop, words: &Value) {
    host.machine
        .run("mkdir -p /etc/imagesetd /var/lib/imagesetd /srv/imagesets");
    // An image set that is not valid holds nothing up.
    let broken = host.machine.path("/srv/imagesets/broken.yaml");
    fs::write(broken, TOOLS.replace("additionalImages", "additionalImage")).unwrap();
    let before = host.machine.layer();
    let looked = host.play(workshop, words, &["--check", "--diff"]);
    assert_eq!(
        looked.changed(),
        [
            "Make the user's group",
            "Make the user",
            "Install the binary",
            "Make a token",
            "Restart for what systemd hands over",
            "Install the unit",
            "Make the folder of the drop-in",
        ]
    );
    assert_eq!(host.machine.layer(), before);
    let other = with(words, "install_binary_checksum", "0".repeat(64));
    let refused = host.play(workshop, &other, &[]);
    assert_eq!(refused.failed().0, "Say that it is another one");
    assert_eq!(host.machine.layer(), before);
}

fn it_is_installed(host: &mut Host, workshop: &Workshop, words: &Value, ca: &Ca) {
    let installed = host.play(workshop, words, &[]);
    assert_eq!(
        installed.changed(),
        [
            "Make the user's group",
            "Make the user",
            "Make the folders of settings",
            "Make the folder of the state",
            "Make the output folder",
            "Install the binary",
            "Install certificates and keys",
            "Install credentials of registries",
            "Make a token",
            "Let the agent read the tokens' hashes",
            "Restart for what systemd hands over",
            "Write the settings, which have to be valid",
            "Install the unit",
            "Make the folder of the drop-in",
            "Write the drop-in",
            "Restart the agent",
            START,
        ]
    );
    // It is up when systemd says that it was started.
    assert_eq!(*installed.attempts("Ask whether it is up"), 1);
    let known = ["ActiveState", "Type", "UnitFileState", "User"];
    let known = known.map(|name| host.property(name));
    assert_eq!(known, ["active", "notify", "enabled", "imagesetd"]);
    let (pid, starts) = host.agent();
    assert_eq!(starts, 1);
    let user: u32 = host.machine.says("id -u imagesetd").parse().unwrap();
    let group: u32 = host.machine.says("id -g imagesetd").parse().unwrap();
    let process = fs::read_to_string(host.machine.path(&format!("/proc/{pid}/status"))).unwrap();
    let line = |name: &str| process.lines().find(|line| line.starts_with(name));
    let uid = format!("Uid:\t{user}\t{user}\t{user}\t{user}");
    assert_eq!(line("Uid:"), Some(uid.as_str()));
    assert_eq!(line("CapEff:"), Some("CapEff:\t0000000000000000"));
    let owned = [
        "/usr/local/bin/imagesetd",
        "/etc/imagesetd",
        "/etc/imagesetd/imagesetd.yaml",
        "/etc/imagesetd/auth.json",
        "/etc/imagesetd/tls/tls.key",
        "/etc/imagesetd/tokens",
        "/etc/imagesetd/ansible.token",
        "/var/lib/imagesetd",
        "/srv/cluster-resources",
    ];
    assert_eq!(
        owned.map(|path| host.owned(path)),
        [
            (0o755, 0, 0),
            (0o750, 0, group),
            (0o640, 0, group),
            (0o640, 0, group),
            (0o640, 0, group),
            (0o640, 0, group),
            (0o600, 0, 0),
            (0o750, user, group),
            (0o755, user, group),
        ]
    );
    assert!(host.status(ca)["daemon"].is_object());
    let again = host.play(workshop, words, &[]);
    assert_eq!(again.changed(), Vec::<&str>::new());
    assert_eq!(host.agent(), (pid, 1));
}

fn it_is_changed(host: &mut Host, workshop: &Workshop, words: &Value, ca: &Ca) {
    let written = |host: &Host| {
        let path = host.machine.path("/etc/imagesetd/imagesetd.yaml");
        fs::read_to_string(path).unwrap()
    };
    let (first, before) = (host.agent(), written(host));
    // What the binary refuses does not come near the agent.
    let mut settings = settings();
    settings["refresh"] = "soon".into();
    let refused = with(words, "install_settings", settings.clone());
    let played = host.play(workshop, &refused, &[]);
    let (task, said) = played.failed();
    assert_eq!(task, IN_FORCE[0]);
    assert!(said.contains("refresh"), "{said}");
    assert_eq!(
        (host.agent(), written(host)),
        (first.clone(), before.clone())
    );

    // Other settings, and a new key, which systemd hands over as the agent starts.
    settings["refresh"] = "5h".into();
    ca.sign("daemon", "IP:127.0.0.1");
    let other = with(words, "install_settings", settings.clone());
    let changed = [
        "Install certificates and keys",
        "Restart for what systemd hands over",
        IN_FORCE[0],
        IN_FORCE[1],
    ];
    let looked = host.play(workshop, &other, &["--check", "--diff"]);
    assert_eq!(looked.changed(), changed);
    assert_eq!((host.agent(), written(host)), (first.clone(), before));
    let played = host.play(workshop, &other, &["--diff"]);
    assert_eq!(played.changed(), changed);
    let second = host.agent();
    assert_ne!(second.0, first.0);
    assert_eq!(second.1, 2, "once, for two reasons");
    assert!(written(host).contains("refresh: 5h\n"));
    host.status(ca);

    // Without the drop-in the agent reads the files itself.
    settings["authfile"] = "/etc/imagesetd/auth.json".into();
    settings["clients"]["tokens_file"] = "/etc/imagesetd/tokens".into();
    settings["listen"][1]["tls"]["key_file"] = "/etc/imagesetd/tls/tls.key".into();
    let plain = with(&other, "install_settings", settings);
    let plain = with(&plain, "install_unit_options", json!([]));
    assert_eq!(
        host.play(workshop, &plain, &[]).changed(),
        [IN_FORCE[0], "Take a former drop-in away", IN_FORCE[1]]
    );
    let third = host.agent();
    assert_ne!(third.0, second.0);
    assert_eq!(third.1, 2, "what counts was in the drop-in");
    host.status(ca);

    // A run that fails after the binary was replaced leaves it to the next one to restart the agent.
    let mut newer = without(&plain, "install_binary_checksum");
    let binary = workshop.path("imagesetd");
    let longer = [fs::read(&binary).unwrap(), b"newer".to_vec()].concat();
    fs::write(binary, longer).unwrap();
    newer["install_settings"]["refresh"] = "soon".into();
    assert_eq!(host.play(workshop, &newer, &[]).failed().0, IN_FORCE[0]);
    assert_eq!(host.agent(), third);
    newer["install_settings"]["refresh"] = "5h".into();
    assert_eq!(
        host.play(workshop, &newer, &[]).changed(),
        ["Restart what runs from one that was replaced", IN_FORCE[1]]
    );
    assert_ne!(host.agent().0, third.0);
}

fn it_is_taken_away(host: &mut Host, workshop: &Workshop, words: &Value) {
    let absent = with(words, "install_state", "absent");
    let absent = without(&absent, "install_settings");
    let by_hand = "/etc/systemd/system/imagesetd.service.d/override.conf";
    fs::write(host.machine.path(by_hand), "[Service]\nNice=5\n").unwrap();
    assert_eq!(
        host.play(workshop, &absent, &[]).changed(),
        [
            "Stop the agent",
            "Take the unit away",
            "Take the binary away"
        ]
    );
    assert_eq!(host.property("ActiveState"), "inactive");
    assert_eq!(host.property("LoadState"), "not-found");
    let there = |host: &Host| {
        [
            "/usr/local/bin/imagesetd",
            "/run/imagesetd",
            "/etc/imagesetd/imagesetd.yaml",
            "/var/lib/imagesetd",
            by_hand,
        ]
        .map(|path| host.exists(path))
    };
    assert_eq!(there(host), [false, false, true, true, true]);
    let purge = with(&absent, "install_purge", true);
    assert_eq!(
        host.play(workshop, &purge, &[]).changed(),
        [
            "Take settings and state away",
            "Take drop-ins away that others made"
        ]
    );
    assert_eq!(there(host), [false; 5]);
    let again = host.play(workshop, &purge, &[]);
    assert_eq!(again.changed(), Vec::<&str>::new());
    // They may have files elsewhere.
    assert!(host.machine.run("id imagesetd").status.success());
}

fn it_comes_from_a_package(host: &mut Host, workshop: &Workshop) {
    let words = json!({"install_binary_path": "/usr/bin/imagesetd"});
    let played = host.play(workshop, &words, &[]);
    assert_eq!(played.failed().0, "Want settings");
    let settings = json!({"target": "registry.lan:5000/ocp", "directory": "/srv/imagesets", "state": "/srv/state"});
    let words = with(&words, "install_settings", settings);
    let (task, said) = {
        let played = host.play(workshop, &words, &[]);
        let (task, said) = played.failed();
        (task.to_owned(), said)
    };
    assert_eq!(task, "Say that it is not");
    assert!(said.contains("There is no /usr/bin/imagesetd"), "{said}");
    let words = with(&words, "install_package", package(workshop));
    let installed = [
        "Install the package from its file",
        IN_FORCE[0],
        "Install the unit",
        IN_FORCE[1],
        START,
    ];
    assert_eq!(host.play(workshop, &words, &[]).changed(), installed);
    assert_eq!(host.property("ActiveState"), "active");
    let state = fs::read_dir(host.machine.path("/srv/state")).unwrap();
    assert!(state.count() > 0);
    for name in [words["install_package"].as_str().unwrap(), "imagesetd"] {
        let again = host.play(workshop, &with(&words, "install_package", name), &[]);
        assert_eq!(again.changed(), Vec::<&str>::new());
    }
    let absent = with(&words, "install_state", "absent");
    let absent = with(&absent, "install_purge", true);
    assert_eq!(
        host.play(workshop, &absent, &[]).changed(),
        [
            "Stop the agent",
            "Take the unit away",
            "Take the package away",
            "Take settings and state away",
        ]
    );
    let gone = [
        "/usr/bin/imagesetd",
        "/etc/imagesetd",
        "/srv/state",
        "/var/lib/imagesetd",
    ];
    assert_eq!(gone.map(|path| host.exists(path)), [false; 4]);
}

/// Makes a package that holds the binary; returns its file.
fn package(workshop: &Workshop) -> String {
    let folder = workshop.path("package");
    fs::create_dir_all(folder.join("DEBIAN")).unwrap();
    fs::create_dir_all(folder.join("usr/bin")).unwrap();
    let binary = workshop.path("imagesetd");
    fs::copy(binary, folder.join("usr/bin/imagesetd")).unwrap();
    let control = "Package: imagesetd\nVersion: 0.1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: the agent\n";
    fs::write(folder.join("DEBIAN/control"), control).unwrap();
    let file = workshop.path("imagesetd.deb");
    let built = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Znone", "--build"])
        .args([&folder, &file])
        .output()
        .unwrap();
    check("dpkg-deb", &built);
    file.to_str().unwrap().to_owned()
}

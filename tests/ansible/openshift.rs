//! The API of a cluster, for real: kube-apiserver with the kinds of OpenShift as CRDs, and something in the place of its operators.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    fixture::server::free_port,
    operators::{config, operate, watched},
    support::{registry::wait_up_to, skip, tool},
};

/// The administrator's token, which shows nowhere.
pub(crate) const TOKEN: &str = "canary-e05d93b7af";

/// How long etcd and the API server may take to start. Several do side by side, on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(180);

/// The kinds: group, version, kind, plural, whether they are in namespaces.
const KINDS: [(&str, &str, &str, &str, bool); 10] = [
    (
        "config.openshift.io",
        "v1",
        "ImageDigestMirrorSet",
        "imagedigestmirrorsets",
        false,
    ),
    (
        "config.openshift.io",
        "v1",
        "ImageTagMirrorSet",
        "imagetagmirrorsets",
        false,
    ),
    ("config.openshift.io", "v1", "Image", "images", false),
    (
        "config.openshift.io",
        "v1",
        "OperatorHub",
        "operatorhubs",
        false,
    ),
    (
        "operator.openshift.io",
        "v1alpha1",
        "ImageContentSourcePolicy",
        "imagecontentsourcepolicies",
        false,
    ),
    (
        "operators.coreos.com",
        "v1alpha1",
        "CatalogSource",
        "catalogsources",
        true,
    ),
    (
        "olm.operatorframework.io",
        "v1",
        "ClusterCatalog",
        "clustercatalogs",
        false,
    ),
    (
        "updateservice.operator.openshift.io",
        "v1",
        "UpdateService",
        "updateservices",
        true,
    ),
    (
        "machineconfiguration.openshift.io",
        "v1",
        "MachineConfigPool",
        "machineconfigpools",
        false,
    ),
    (
        "machineconfiguration.openshift.io",
        "v1",
        "MachineConfig",
        "machineconfigs",
        false,
    ),
];

/// What the operators look at.
const WATCHED: [&str; 6] = [
    "secrets",
    "imagedigestmirrorsets",
    "imagetagmirrorsets",
    "machineconfigpools",
    "catalogsources",
    "clustercatalogs",
];

/// A running API server. What was started ends with it.
pub(crate) struct Cluster {
    kubectl: Kubectl,
    children: Vec<Child>,
    wake: Sender<()>,
    working: Arc<AtomicBool>,
    rollouts: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

/// `kubectl` as one of the two users.
#[derive(Clone)]
pub(super) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(line.split_whitespace())
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.kubeconfig.parent().unwrap())
            .stdin(Stdio::null());
        command
    }

    /// Runs it with an object on standard input.
    pub(super) fn given(&self, line: &str, object: &Value) -> Output {
        let mut command = self.command(line);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let text = object.to_string();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }

    pub(super) fn read(&self, line: &str) -> Option<Value> {
        let output = self.command(line).args(["-o", "json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    pub(super) fn items(&self, line: &str) -> Vec<Value> {
        let list = self.read(line).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }
}

impl Cluster {
    /// Starts it without one of the kinds, or says that the test is skipped: the programs take minutes to build, and are not to be had everywhere.
    pub(crate) fn start(test: &str, without: &str) -> Option<Cluster> {
        let programs = ["kube-apiserver", "etcd", "kubectl"].map(tool::installed_if_at_all);
        let [Some(server), Some(etcd), Some(kubectl)] = programs else {
            skip::skipped(test, "there is no kube-apiserver; see `.ci/kubernetes`");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let [database, peer, port] = [(); 3].map(|()| free_port().unwrap());
        let kubectl = |name: &str| Kubectl {
            program: kubectl.clone(),
            kubeconfig: folder.path().join(name),
        };
        let (admin, operator) = (kubectl("kubeconfig"), kubectl("operator"));
        let (wake, woken) = mpsc::channel();
        // From here on what was started ends, whatever happens.
        let mut cluster = Cluster {
            kubectl: admin,
            children: Vec::new(),
            wake,
            working: Arc::new(AtomicBool::new(true)),
            rollouts: Arc::default(),
            folder,
        };
        let etcd = started(
            &etcd,
            cluster.folder.path(),
            &format!(
                "--data-dir etcd --listen-client-urls http://127.0.0.1:{database} --advertise-client-urls http://127.0.0.1:{database} \
                 --listen-peer-urls http://127.0.0.1:{peer} --initial-advertise-peer-urls http://127.0.0.1:{peer} \
                 --initial-cluster default=http://127.0.0.1:{peer} --unsafe-no-fsync"
            ),
        );
        cluster.children.push(etcd);
        write_files(cluster.folder.path(), port);
        let key = Command::new("openssl")
            .args(["genrsa", "-out", "sa.key", "2048"])
            .current_dir(cluster.folder.path())
            .output()
            .unwrap();
        assert!(key.status.success(), "{key:?}");
        // Without an address to announce it wants a default route, and takes the address that goes with it.
        let server = started(
            &server,
            cluster.folder.path(),
            &format!(
                "--etcd-servers=http://127.0.0.1:{database} --bind-address=127.0.0.1 --secure-port={port} --cert-dir=certs \
                 --advertise-address=192.0.2.1 --endpoint-reconciler-type=none \
                 --service-account-key-file=sa.key --service-account-signing-key-file=sa.key --service-account-issuer=https://127.0.0.1 \
                 --token-auth-file=tokens.csv --authorization-mode=RBAC --disable-admission-plugins=ServiceAccount \
                 --service-cluster-ip-range=10.0.0.0/24 --audit-policy-file=audit.yaml --audit-log-path=audit.log --audit-log-mode=blocking-strict"
            ),
        );
        cluster.children.push(server);
        wait_up_to(PATIENCE, "the API server", || {
            let mut command = cluster.kubectl.command("get --raw=/readyz");
            command.output().unwrap().status.success().then_some(())
        });
        furnish(&operator, without);
        for kind in WATCHED.iter().filter(|kind| !is_of(without, kind)) {
            let watching = watched(&operator, kind, cluster.wake.clone());
            cluster.children.push(watching);
        }
        let (working, rollouts) = (Arc::clone(&cluster.working), Arc::clone(&cluster.rollouts));
        thread::spawn(move || operate(&operator, &woken, &working, &rollouts));
        Some(cluster)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// What is called in the place of `oc`.
    pub(crate) fn oc(&self) -> &Path {
        &self.kubectl.program
    }

    /// Has the operators act, or not.
    pub(crate) fn operators_work(&self, work: bool) {
        self.working.store(work, Ordering::SeqCst);
        self.wake.send(()).unwrap();
    }

    /// Which configurations nodes of which pool were given, in order.
    pub(crate) fn rollouts(&self) -> Vec<String> {
        self.rollouts.lock().unwrap().clone()
    }

    /// Returns an object, or null.
    pub(crate) fn object(&self, line: &str) -> Value {
        self.kubectl
            .read(&format!("get {line}"))
            .unwrap_or_default()
    }

    /// Does something as somebody else would.
    pub(crate) fn patch(&self, line: &str, patch: &Value) {
        let patched = self
            .kubectl
            .command(&format!(
                "patch --field-manager=somebody --type=merge {line}"
            ))
            .args(["--patch", &patch.to_string()])
            .output()
            .unwrap();
        assert!(patched.status.success(), "{patched:?}");
    }

    /// Makes an object as somebody else would.
    pub(crate) fn create(&self, object: &Value) {
        let made = self.kubectl.given("create -f -", object);
        assert!(made.status.success(), "{made:?}");
    }

    /// What the administrator has written so far: `VERB RESOURCE/NAME` in order.
    pub(crate) fn written(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("audit.log")).unwrap_or_default();
        log.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|event| event["user"]["username"] == "admin")
            .filter(|event| !event["requestURI"].as_str().unwrap().contains("dryRun"))
            .filter(|event| !matches!(event["verb"].as_str(), Some("get" | "list" | "watch")))
            .map(|event| {
                let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let object = &event["objectRef"];
                format!(
                    "{} {}/{}",
                    word(&event["verb"]),
                    word(&object["resource"]),
                    word(&object["name"])
                )
            })
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("kube-apiserver.log"));
            let log = log.unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(20);
            eprintln!("the API server's last lines:\n{}", lines[last..].join("\n"));
        }
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn started(program: &Path, folder: &Path, line: &str) -> Child {
    let name = program.file_name().unwrap().to_string_lossy();
    let log = fs::File::create(folder.join(format!("{name}.log"))).unwrap();
    Command::new(program)
        .args(line.split_whitespace())
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn write_files(folder: &Path, port: u16) {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write(
        "tokens.csv",
        &format!("{TOKEN},admin,1,system:masters\noperator,operator,2,system:masters\n"),
    );
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": ["admin"]}, {"level": "None"}],
    });
    write("audit.yaml", &policy.to_string());
    for (name, token) in [("kubeconfig", TOKEN), ("operator", "operator")] {
        let server = format!("https://127.0.0.1:{port}");
        let ca = folder.join("certs/apiserver.crt");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "site",
            "clusters": [{"name": "site", "cluster": {"server": server, "certificate-authority": ca}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "site", "context": {"cluster": "site", "user": "user"}}],
        });
        write(name, &config.to_string());
    }
}

fn is_of(kind: &str, plural: &str) -> bool {
    KINDS
        .iter()
        .any(|known| known.2 == kind && known.3 == plural)
}

/// Makes kinds, namespaces, and what every cluster has from the beginning.
fn furnish(kubectl: &Kubectl, without: &str) {
    let done = |line: &str, object: &Value| {
        let output = kubectl.given(line, object);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {object}: {said}");
    };
    for kind in KINDS.iter().filter(|kind| kind.2 != without) {
        done("create -f -", &definition(kind));
    }
    let known = kubectl
        .command("wait --for=condition=Established crd --all --timeout=120s")
        .output()
        .unwrap();
    assert!(known.status.success(), "{known:?}");
    for namespace in [
        "openshift-config",
        "openshift-marketplace",
        "openshift-update-service",
    ] {
        done(
            "create -f -",
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        );
    }
    // {"auths":{"quay.io":{"auth":"a"}},"more":1}
    let secret = "eyJhdXRocyI6eyJxdWF5LmlvIjp7ImF1dGgiOiJhIn19LCJtb3JlIjoxfQ==";
    done(
        "create -f -",
        &json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "pull-secret", "namespace": "openshift-config"}, "data": {".dockerconfigjson": secret},
        }),
    );
    let api_version = "config.openshift.io/v1";
    done(
        "create -f -",
        &json!({"apiVersion": api_version, "kind": "Image", "metadata": {"name": "cluster"}, "spec": {}}),
    );
    done(
        "create -f -",
        &json!({"apiVersion": api_version, "kind": "OperatorHub", "metadata": {"name": "cluster"}, "spec": {}}),
    );
    for (name, paused) in [("master", true), ("worker", false)] {
        let configuration = json!({"name": format!("rendered-{name}-0")});
        done("create -f -", &config(&format!("rendered-{name}-0"), ""));
        let pool = |status: Value| {
            json!({
                "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigPool", "metadata": {"name": name},
                "spec": {"paused": paused, "configuration": configuration}, "status": status,
            })
        };
        done("create -f -", &pool(Value::Null));
        let status =
            json!({"machineCount": 3, "updatedMachineCount": 3, "configuration": configuration});
        done("replace --subresource=status -f -", &pool(status));
    }
}

/// The definition of a kind: the real one where there are real data, else one that takes everything.
fn definition(
    (group, version, kind, plural, namespaced): &(&str, &str, &str, &str, bool),
) -> Value {
    if let Some(folder) = std::env::var_os("IMAGESETD_REAL_DATA") {
        let file = format!("crds/{plural}.{group}.yaml");
        if let Ok(text) = fs::read_to_string(Path::new(&folder).join(file)) {
            return serde_yaml::from_str(&text).unwrap();
        }
    }
    let scope = if *namespaced { "Namespaced" } else { "Cluster" };
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            "annotations": {"api-approved.kubernetes.io": "https://github.com/openshift/api/pull/1126"},
        },
        "spec": {
            "group": group, "scope": scope, "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": version, "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}}],
        },
    })
}

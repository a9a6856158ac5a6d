//! In the place of a cluster's operators: renders registries.conf, rolls it out where pools are not paused, and has catalogs ready.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender},
    },
    thread,
};

use imagesetd::model::image::Digest;
use serde_json::{Value, json};

use super::openshift::Kubectl;

/// The nodes' credentials, which are in every rendered configuration, and show nowhere.
pub(crate) const CONFIG_SECRET: &str = "canary-7d15c0b2e8";

/// Says when something happens to objects of a kind.
pub(super) fn watched(kubectl: &Kubectl, kind: &str, wake: Sender<()>) -> Child {
    let mut child = kubectl
        .command(&format!("get {kind} --all-namespaces --watch -o name"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    thread::spawn(move || {
        for _ in lines.map_while(Result::ok) {
            if wake.send(()).is_err() {
                return;
            }
        }
    });
    child
}

/// Acts as often as something happens, until nobody is there who says so.
pub(super) fn operate(
    kubectl: &Kubectl,
    woken: &Receiver<()>,
    working: &AtomicBool,
    rollouts: &Mutex<Vec<String>>,
) {
    let first = pull_secret(kubectl);
    while woken.recv().is_ok() {
        while woken.try_recv().is_ok() {}
        if working.load(Ordering::SeqCst) {
            render(kubectl, &first, rollouts);
            serve(kubectl);
        }
    }
}

fn pull_secret(kubectl: &Kubectl) -> String {
    let secret = kubectl.read("get secret pull-secret --namespace openshift-config");
    secret.unwrap_or_default()["data"].to_string()
}

/// What the machine-config-operator does; nothing as long as everything is as it was first.
fn render(kubectl: &Kubectl, first: &str, rollouts: &Mutex<Vec<String>>) {
    let sets = kubectl.items("get imagedigestmirrorsets,imagetagmirrorsets");
    let secret = pull_secret(kubectl);
    if sets.is_empty() && secret == first {
        return;
    }
    let text = registries_conf(&sets);
    let digest = Digest::of(format!("{text}{secret}").as_bytes()).to_string();
    let hash = &digest[7..19];
    for pool in kubectl.items("get machineconfigpools") {
        let name = pool["metadata"]["name"].as_str().unwrap();
        let rendered = format!("rendered-{name}-{hash}");
        let patch = |more: &str, part: &str, value: Value| {
            let text = json!({part: value}).to_string();
            let line = format!("patch machineconfigpool {name} --type=merge {more}");
            kubectl
                .command(&line)
                .args(["--patch", &text])
                .output()
                .unwrap()
        };
        let configuration = json!({"configuration": {"name": rendered}});
        if pool["spec"]["configuration"]["name"] != rendered.as_str() {
            for config in [
                config(&format!("99-{name}-generated-registries"), &text),
                config(&rendered, &text),
            ] {
                kubectl.given("apply --server-side --force-conflicts -f -", &config);
            }
            patch("", "spec", configuration.clone());
        }
        let paused = pool["spec"]["paused"] == true;
        if !paused && pool["status"]["configuration"]["name"] != rendered.as_str() {
            rollouts.lock().unwrap().push(name.to_owned());
            patch("--subresource=status", "status", configuration);
        }
    }
}

fn registries_conf(sets: &[Value]) -> String {
    let mut rules = std::collections::BTreeMap::<&str, [Vec<&str>; 2]>::new();
    for set in sets {
        for (index, list) in ["imageDigestMirrors", "imageTagMirrors"].iter().enumerate() {
            for rule in set["spec"][list].as_array().into_iter().flatten() {
                let mirrors = rule["mirrors"].as_array().into_iter().flatten();
                let rules = rules.entry(rule["source"].as_str().unwrap()).or_default();
                rules[index].extend(mirrors.map(|mirror| mirror.as_str().unwrap()));
            }
        }
    }
    let mut text = "unqualified-search-registries = [\"registry.access.redhat.com\", \"docker.io\"]\nshort-name-mode = \"\"\n".to_owned();
    for (source, mirrors) in rules {
        text += &format!("\n[[registry]]\n  prefix = \"\"\n  location = \"{source}\"\n");
        for (mirrors, pull) in mirrors.iter().zip(["digest-only", "tag-only"]) {
            for mirror in mirrors {
                text += &format!(
                    "\n  [[registry.mirror]]\n    location = \"{mirror}\"\n    pull-from-mirror = \"{pull}\"\n"
                );
            }
        }
    }
    text
}

fn in_base64(text: &str) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text)
}

/// The file of nodes that has [`CONFIG_SECRET`], as configurations have it.
pub(crate) fn config_secret_in_base64() -> String {
    let config = json!({"auths": {"mirror.lan:5000": {"auth": CONFIG_SECRET}}});
    in_base64(&config.to_string())
}

pub(super) fn config(name: &str, text: &str) -> Value {
    let source = |base64: String| json!({"source": format!("data:text/plain;charset=utf-8;base64,{base64}")});
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfig", "metadata": {"name": name},
        "spec": {"config": {"storage": {"files": [
            {"path": "/etc/motd", "contents": {"source": "data:,hello"}},
            {"path": "/var/lib/kubelet/config.json", "contents": source(config_secret_in_base64())},
            {"path": "/etc/containers/registries.conf", "contents": source(in_base64(text))},
        ]}}},
    })
}

/// What the operator lifecycle managers do.
fn serve(kubectl: &Kubectl) {
    let status = |line: &str, status: Value| {
        let text = json!({"status": status}).to_string();
        let line = format!("patch {line} --subresource=status --type=merge");
        kubectl
            .command(&line)
            .args(["--patch", &text])
            .output()
            .unwrap();
    };
    let now = "2026-01-01T00:00:00Z";
    for catalog in kubectl.items("get catalogsources --all-namespaces") {
        let (image, old) = (&catalog["spec"]["image"], &catalog["status"]["message"]);
        if image != old {
            let name = catalog["metadata"]["name"].as_str().unwrap();
            let namespace = catalog["metadata"]["namespace"].as_str().unwrap();
            // With a new image it connects anew.
            let generation = catalog["metadata"]["generation"].as_u64().unwrap();
            let then = format!("2026-01-01T00:{generation:0>2}:00Z");
            let state = json!({"lastObservedState": "READY", "address": "", "lastConnect": then});
            status(
                &format!("catalogsource {name} --namespace {namespace}"),
                json!({"connectionState": state, "message": image}),
            );
        }
    }
    for catalog in kubectl.items("get clustercatalogs") {
        if catalog["status"].is_null() {
            let name = catalog["metadata"]["name"].as_str().unwrap();
            let condition = json!({"type": "Serving", "status": "True", "reason": "Available", "message": "", "lastTransitionTime": now});
            status(
                &format!("clustercatalog {name}"),
                json!({"conditions": [condition]}),
            );
        }
    }
}

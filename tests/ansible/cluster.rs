//! The role that applies documents to a cluster, against a real API server: with kubectl in the place of oc, and with kubernetes.core.
//!
//! What could go wrong: check mode writes; the order drains nodes needlessly; several changes cost several rollouts; pools that somebody paused are
//! resumed, or those that a run paused stay so; a green pool is taken for one that has the rules; fields of others are overwritten; a second
//! run changes something; something that the cluster had is lost; a token shows.

use std::{fs, process::Output};

use serde_json::{Value, json};

use super::{
    fixture::{
        image::{Flavor, Image, Layer},
        place::{Placed, write_distribution_storage},
    },
    openshift::{self, Cluster},
    operators, ran,
    stage::{Stage, TOKEN},
    support::{
        catalog::{self, Bundle, LABEL},
        skip,
    },
    workshop::{self, Workshop, check},
};

/// Credentials for the mirror, which nodes get, and which show nowhere.
const AUTH: &str = "canary-5a90cc31d7";

const CONFIG: &str = "99-worker-generated-registries";

struct Tried {
    cluster: Cluster,
    stage: Stage,
    workshop: Workshop,
}

/// An image set with a catalog, an image by tag and one by digest, all of it in the mirror.
fn mirrored(stage: &Stage) {
    let site = &stage.site;
    let hammer = super::site::tool("hammer");
    let bundle = format!(
        "{}/team/hammer@{}",
        site.upstream.address(),
        hammer.digest()
    );
    let documents = catalog::package("tools", "stable", &[Bundle::new("1.0.0", None, &[bundle])]);
    let text = catalog::file(&documents);
    let layers = [
        Layer::files([("bin/opm", b"not really".as_slice())]),
        Layer::files([
            ("configs/", b"".as_slice()),
            ("configs/all.json", text.as_bytes()),
        ]),
    ];
    let index = Image::new(Flavor::Oci, "amd64", &layers, &[LABEL]);
    let placed = [Placed::tagged("olm/index", "v1", &index)];
    write_distribution_storage(&site.upstream.storage(), &placed).unwrap();
    site.write(
        "prod.yaml",
        "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  operators:
  - catalog: UPSTREAM/olm/index:v1
    packages: [{name: tools}]
  additionalImages:
  - name: UPSTREAM/team/saw:v1
",
    );
    site.wait_for("the plan of prod", |status| {
        let sets = status["image_sets"].as_array().unwrap();
        sets.iter()
            .any(|set| set["name"] == "prod" && set["pending_reason"] == "manual")
    });
    check("apply prod", &site.cli("apply prod --output json"));
}

impl Tried {
    fn new(test: &str, core: &'static str, without: &str) -> Option<Tried> {
        let cluster = Cluster::start(test, without)?;
        let stage = Stage::new(&[]);
        mirrored(&stage);
        let workshop = Workshop::new(core);
        fs::write(workshop.path("ca.pem"), "an authority\n").unwrap();
        let words = json!({
            "apply_cluster_resources_oc": cluster.oc(),
            "apply_cluster_resources_kubeconfig": cluster.kubeconfig(),
            "apply_cluster_resources_binary_path": env!("CARGO_BIN_EXE_imagesetd"),
            "apply_cluster_resources_imageset": "prod",
            "apply_cluster_resources_pause": true,
            "apply_cluster_resources_ca_file": workshop.path("ca.pem"),
            "apply_cluster_resources_ca_host": "mirror.lan:5000",
            "apply_cluster_resources_disable_default_catalogs": true,
            "apply_cluster_resources_auths": {"mirror.lan:5000": {"auth": AUTH}},
            "apply_cluster_resources_retries": 30,
            "apply_cluster_resources_delay": 1,
        });
        fs::write(workshop.path("words.json"), words.to_string()).unwrap();
        let play = json!([{
            "hosts": "localhost",
            "gather_facts": false,
            "module_defaults": {"group/imagesetd.mirror.mirror": stage.words(&workshop)["daemon_connection"]},
            "roles": ["imagesetd.mirror.apply_cluster_resources"],
        }]);
        fs::write(workshop.path("apply.yml"), play.to_string()).unwrap();
        Some(Tried {
            cluster,
            stage,
            workshop,
        })
    }

    fn output(&self, more: &[&str]) -> Output {
        let words = format!("@{}", self.workshop.path("words.json").display());
        let mut command = self.workshop.command();
        command
            .env("PYTHONPATH", self.workshop.path("client"))
            .args(["ansible-playbook", "apply.yml", "-vvvv", "-e", &words])
            .args(more);
        ran::noted(&mut command, &self.workshop);
        let output = command.output().unwrap();
        let text = all_of(&output);
        let encoded = operators::config_secret_in_base64();
        for secret in [
            TOKEN,
            AUTH,
            openshift::TOKEN,
            operators::CONFIG_SECRET,
            &encoded,
        ] {
            assert!(!text.contains(secret), "{secret} shows");
        }
        output
    }

    /// Plays the role; returns what it said, and how many tasks were changed.
    fn play(&self, more: &[&str]) -> (String, u64) {
        let output = self.output(more);
        check("apply_cluster_resources", &output);
        let text = all_of(&output);
        let changed = text.rsplit("changed=").next().unwrap();
        let changed: String = changed.chars().take_while(char::is_ascii_digit).collect();
        (text, changed.parse().unwrap())
    }

    fn fails(&self, more: &[&str]) -> String {
        let output = self.output(more);
        assert!(!output.status.success());
        all_of(&output)
    }

    /// What the role has written since.
    fn written_since(&self, before: &[String]) -> Vec<String> {
        self.cluster.written()[before.len()..].to_vec()
    }

    fn name_of(&self, kind: &str) -> String {
        let list = self.cluster.object(&format!("{kind} --all-namespaces"));
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{kind}");
        items[0]["metadata"]["name"].as_str().unwrap().to_owned()
    }

    /// Every document is in the cluster as the agent published it.
    fn assert_documents(&self) {
        let asked = self.stage.site.cli("resources prod --output json");
        let answer: Value = serde_json::from_slice(&asked.stdout).unwrap();
        let resources = answer["resources"].as_array().unwrap();
        assert!(!resources.is_empty());
        for resource in resources {
            let (kind, name) = (&resource["kind"], &resource["name"]);
            let (kind, name) = (kind.as_str().unwrap(), name.as_str().unwrap());
            if kind == "ClusterCatalog"
                && self.cluster.object("crd")["items"]
                    .as_array()
                    .unwrap()
                    .len()
                    < 10
            {
                continue;
            }
            let namespace = match kind {
                "CatalogSource" => "-n openshift-marketplace",
                _ => "",
            };
            let held = self.cluster.object(&format!("{kind} {name} {namespace}"));
            for (key, value) in resource["value"]["spec"].as_object().unwrap() {
                assert_eq!(&held["spec"][key], value, "{kind} {name}: {key}");
            }
        }
    }
}

fn all_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn handed_over(cluster: &Cluster) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let secret = cluster.object("secret pull-secret -n openshift-config");
    let secret = secret["data"][".dockerconfigjson"].as_str().unwrap();
    let secret = STANDARD.decode(secret).unwrap();
    json!([
        cluster.object("configmap imagesetd-additional-trusted-ca -n openshift-config")["data"],
        cluster.object("images.config.openshift.io cluster")["spec"],
        cluster.object("operatorhub cluster")["spec"],
        serde_json::from_slice::<Value>(&secret).unwrap(),
    ])
}

/// The whole life of a cluster with the role. `ours` is what a first run writes between pausing and releasing.
fn lives(tried: &Tried, catalogs: &[&str]) {
    let cluster = &tried.cluster;
    let (_, would) = tried.play(&["--check", "--diff"]);
    assert!(would > 0);
    assert_eq!(cluster.written(), Vec::<String>::new());

    let (text, changed) = tried.play(&["--diff"]);
    assert!(changed > 0);
    let (idms, itms) = (
        tried.name_of("imagedigestmirrorsets"),
        tried.name_of("imagetagmirrorsets"),
    );
    let mut wanted = vec![
        "patch machineconfigpools/worker".to_owned(),
        "patch secrets/pull-secret".to_owned(),
        "patch configmaps/imagesetd-additional-trusted-ca".to_owned(),
        "patch images/cluster".to_owned(),
        "patch operatorhubs/cluster".to_owned(),
        format!("patch imagedigestmirrorsets/{idms}"),
    ];
    wanted.extend(
        catalogs
            .iter()
            .map(|kind| format!("patch {kind}/{}", tried.name_of(kind))),
    );
    wanted.push(format!("patch imagetagmirrorsets/{itms}"));
    wanted.push("patch machineconfigpools/worker".to_owned());
    assert_eq!(cluster.written(), wanted, "{text}");
    tried.assert_documents();
    let auths = json!({"quay.io": {"auth": "a"}, "mirror.lan:5000": {"auth": AUTH}});
    let handed = json!([
        {"mirror.lan..5000": "an authority\n"},
        {"additionalTrustedCA": {"name": "imagesetd-additional-trusted-ca"}},
        {"disableAllDefaultSources": true},
        {"auths": auths, "more": 1},
    ]);
    assert_eq!(handed_over(cluster), handed);
    // All of it was one rollout, and of the pool alone that nobody had paused.
    assert_eq!(cluster.rollouts(), ["worker"]);
    let paused =
        |pool: &str| cluster.object(&format!("machineconfigpool {pool}"))["spec"]["paused"].clone();
    assert_eq!(
        (paused("master"), paused("worker")),
        (json!(true), json!(false))
    );

    let before = cluster.written();
    let (_, changed) = tried.play(&[]);
    assert_eq!((changed, tried.written_since(&before)), (0, vec![]));

    // A run that was cut off left the pool paused.
    let left = json!({"metadata": {"annotations": {"imagesetd.io/paused-by": "apply_cluster_resources"}}, "spec": {"paused": true}});
    cluster.patch("machineconfigpool worker", &left);
    tried.play(&[]);
    assert_eq!(
        (paused("master"), paused("worker")),
        (json!(true), json!(false))
    );
    let worker = cluster.object("machineconfigpool worker");
    assert_eq!(worker["metadata"]["annotations"], Value::Null);

    // Somebody else owns a field now.
    let itms = format!("imagetagmirrorset {itms}");
    let mut spec = cluster.object(&itms)["spec"].clone();
    spec["imageTagMirrors"][0]["mirrorSourcePolicy"] = "NeverContactSource".into();
    cluster.patch(&itms, &json!({"spec": spec}));
    let source = format!(
        "catalogsource {} -n openshift-marketplace",
        tried.name_of("catalogsources")
    );
    cluster.patch(
        &source,
        &json!({"spec": {"image": "quay.io/other/index:v1"}}),
    );
    let said = tried.fails(&[]);
    assert!(said.contains("conflict"), "{said}");
    let (_, changed) = tried.play(&["-e", "apply_cluster_resources_force_conflicts=true"]);
    assert!(changed > 0);
    tried.assert_documents();

    // Nodes do not take what they are given.
    cluster.operators_work(false);
    let status = "machineconfigpool worker --subresource=status";
    cluster.patch(status, &json!({"status": {"updatedMachineCount": 1}}));
    let few = [
        "-e",
        "apply_cluster_resources_retries=2",
        "-e",
        "apply_cluster_resources_delay=0",
    ];
    let said = tried.fails(&few);
    let late = "MachineConfigPool worker: not ready after 2 looks";
    assert!(said.contains(late), "{said}");
    assert!(
        said.contains("1 of 3 nodes have rendered-worker-"),
        "{said}"
    );
    cluster.patch(status, &json!({"status": {"updatedMachineCount": 3}}));

    // The operator renders nothing any more: pools are up to date, and do not have the rules.
    let nothing = json!({"spec": {"config": {"storage": {"files": []}}}});
    cluster.patch(&format!("machineconfig {CONFIG}"), &nothing);
    let said = tried.fails(&[&few[..], &["-e", "apply_cluster_resources_delay=1"]].concat());
    let lacks = format!("{CONFIG} does not have yet what mirror rules say of");
    assert!(said.contains(&lacks), "{said}");

    // Somebody's rule contradicts ours: the operator would refuse all of them.
    let source = &spec["imageTagMirrors"][0]["source"];
    let rule = json!({"source": source, "mirrors": ["m.lan/team"], "mirrorSourcePolicy": "NeverContactSource"});
    cluster.create(&json!({
        "apiVersion": "config.openshift.io/v1", "kind": "ImageDigestMirrorSet", "metadata": {"name": "by-hand"},
        "spec": {"imageDigestMirrors": [rule]},
    }));
    let said = tried.fails(&[]);
    let why = "the machine-config-operator then refuses all mirror rules";
    assert!(said.contains(why), "{said}");
    assert_eq!(paused("worker"), json!(false));
}

#[test]
fn documents_are_applied_with_oc() {
    let Some(tried) = Tried::new("documents_are_applied_with_oc", "oldest", "ClusterCatalog")
    else {
        return;
    };
    lives(&tried, &["catalogsources"]);
    // A client without the collection is of no use.
    fs::create_dir_all(tried.workshop.path("client/kubernetes")).unwrap();
    let client = tried.workshop.path("client/kubernetes/__init__.py");
    fs::write(client, "__version__ = '34.1.0'\n").unwrap();
    let (text, _) = tried.play(&["--check"]);
    fs::remove_dir_all(tried.workshop.path("client")).unwrap();
    tried.play(&["--check", "-e", "apply_cluster_resources_backend=oc"]);
    let left_out = "The cluster does not know the kind ClusterCatalog; its documents are left out.";
    assert!(text.contains(left_out), "{text}");
    let mut never = ran::never_run(&[&tried.workshop], "apply_cluster_resources");
    never.retain(|task| !task.starts_with("tasks/kubernetes/"));
    assert_eq!(never, Vec::<String>::new());
}

#[test]
fn documents_are_applied_with_kubernetes_core() {
    let name = "documents_are_applied_with_kubernetes_core";
    if !workshop::has("kubernetes") {
        return skip::skipped(name, "there is no Ansible with kubernetes.core");
    }
    let Some(tried) = Tried::new(name, "kubernetes", "UpdateService") else {
        return;
    };
    lives(&tried, &["catalogsources", "clustercatalogs"]);
    let mut never = ran::never_run(&[&tried.workshop], "apply_cluster_resources");
    // The other test runs what is done with oc, where the client or a kind is missing, and where the backend is said.
    let of_the_other = [
        "tasks/backend.yml: Take oc where it does not",
        "tasks/backend.yml: Take what was said",
        "tasks/collection.yml: Take oc",
        "tasks/main.yml: Name the kinds that the cluster does not know",
    ];
    never.retain(|task| !task.starts_with("tasks/oc/"));
    assert_eq!(never, of_the_other);
}

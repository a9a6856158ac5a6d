//! What cannot be mirrored, whole or in part, and what is mirrored all the same.

use imagesetd::model::image::Digest;
use serde_json::Value;

use crate::{
    fixture::{
        graph::Graph,
        image::Image,
        place::write_distribution_storage,
        release::{Release, Spec},
        server::UpdateServer,
    },
    site::{Site, condition, image_set, is},
    support::gpg::Gpg,
};

/// An update service, on a runtime of its own.
struct Updates {
    server: UpdateServer,
    /// The release's payload.
    digest: Digest,
    _runtime: tokio::runtime::Runtime,
}

impl Updates {
    /// Serves a graph of one small release, which is put upstream.
    fn of_one_release(site: &Site) -> Updates {
        let spec = Spec {
            components: &["cli", "etcd", "hyperkube"],
            ..Spec::new("4.16.1", 0, site.upstream.address())
        };
        let release = Release::build(&spec);
        write_distribution_storage(&site.upstream.storage(), &release.images()).unwrap();
        let graph = Graph::of(&[&release]);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let answer = move |channel: &str, _: &str| Some(graph.document(channel));
        let server = runtime.block_on(UpdateServer::start(answer)).unwrap();
        Updates {
            server,
            digest: release.payload.digest().clone(),
            _runtime: runtime,
        }
    }

    fn settings(&self) -> String {
        format!("update_service: {{ocp: \"{}\"}}\n", self.server.url)
    }
}

/// What every image set of these tests says besides its images.
fn with_channel(images: &[String]) -> String {
    image_set(images) + "  platform: {channels: [{name: stable-4.16}]}\n"
}

#[test]
fn stanzas_without_a_resolver_are_named_and_the_rest_is_mirrored() {
    let mut site = Site::new();
    let updates = Updates::of_one_release(&site);
    let images = site.publish_simple(&["team/a"]);
    let repo = site.repo();
    let text = image_set(&images)
        + "  platform: {graph: true, kubeVirtContainer: true, channels: [{name: stable-4.16}]}\n"
        + "  helm: {repositories: [{name: charts, url: \"https://charts.example.com\", charts: [{name: one, version: 1.0.0}]}]}\n";
    repo.commit(&[("all.yaml", &text)]);
    site.start(&format!(
        "{}release_signatures: ignore\n",
        updates.settings()
    ));
    let set = site.until_set("all", "the rest is mirrored", |set| {
        set["images_mirrored"] == 5 && is(set, "Stalled")
    });
    assert!(!is(&set, "Ready"));
    assert!(is(&set, "SignaturesIgnored"));
    let why = condition(&set, "Unsupported").unwrap();
    for stanza in [
        "`mirror.helm`",
        "`mirror.platform.graph`",
        "`mirror.platform.kubeVirtContainer`",
    ] {
        assert!(why.contains(stanza), "{stanza}: {why}");
    }
    let release = site.mirrored("openshift/release-images", "4.16.1-x86_64");
    assert!(release.is_some() && site.mirrored("team/a", "1").is_some());
    assert!(site.all_documents().contains("kind: ImageDigestMirrorSet"));
}

#[test]
fn releases_stall_until_they_are_signed() {
    let mut site = Site::new();
    let updates = Updates::of_one_release(&site);
    let images = site.publish_simple(&["team/a"]);
    let repo = site.repo();
    repo.commit(&[("ocp.yaml", &with_channel(&images))]);
    let gpg = Gpg::new();
    let key = gpg.key("releases", "rsa2048", "sign", "never", &[]);
    let keyring = gpg.file("public", &gpg.export(&[&key]));
    let store = site.folder().join("signatures");
    let verify = format!(
        "release_verification: {{ocp: {{store: \"file://{}\", keyring: {}}}}}\n",
        store.display(),
        keyring.display()
    );
    site.start(&(updates.settings() + &verify));
    let set = site.until_set("ocp", "stalled", |set| {
        is(set, "Stalled") && set["images_mirrored"] == 1
    });
    let why = condition(&set, "Stalled").unwrap();
    let digest = updates.digest.to_string();
    assert!(
        why.contains(&format!("has no signature of {digest}")),
        "{why}"
    );
    assert!(!is(&set, "Ready") && set["release_signatures_ignored"] == false);
    assert!(site.mirrored("team/a", "1").is_some());
    assert!(!site.all_documents().contains("ImageDigestMirrorSet"));

    let claim = serde_json::json!({"critical": {
        "type": "atomic container signature",
        "image": {"docker-manifest-digest": digest},
        "identity": {"docker-reference": "quay.io/openshift-release-dev/ocp-release:4.16.1-x86_64"},
    }});
    let folder = store.join(digest.replace(':', "="));
    std::fs::create_dir_all(&folder).unwrap();
    let message = gpg.sign(&key, claim.to_string().as_bytes());
    std::fs::write(folder.join("signature-1"), message).unwrap();
    site.text(&["plan", "ocp", "--refresh"]);
    site.text(&["apply", "ocp"]);
    let status = site.ready(&repo.head());
    assert_eq!(status["image_sets"][0]["images_mirrored"], 5);
    assert_eq!(status["image_sets"][0]["release_signatures_ignored"], false);
    let listed = site.json(&["resources", "list", "ocp", "--kind", "ConfigMap"]);
    let resource = &listed["resources"][0];
    assert_eq!(resource["name"], "ocp-signatures");
    assert_eq!(
        (&resource["api_version"], &resource["kind"]),
        (&"v1".into(), &"ConfigMap".into())
    );
    let name = format!("{}-1", digest.replace(':', "-"));
    let text = resource["value"]["binaryData"][&name].as_str();
    assert!(text.is_some_and(|text| !text.is_empty()), "{resource}");

    // Retiring all rules of an image set that is gone takes its signatures along.
    std::fs::remove_file(site.directory().join("ocp.yaml")).unwrap();
    repo.commit_all();
    site.until_set("ocp", "removed", |set| is(set, "Removed"));
    site.text(&["resources", "retire", "ocp", "--yes"]);
    assert_eq!(site.all_documents(), "");
}

#[test]
fn what_settings_say_of_signatures_shows_everywhere() {
    let mut site = Site::new();
    let updates = Updates::of_one_release(&site);
    let images = site.publish_simple(&["team/a"]);
    let repo = site.repo();
    repo.commit(&[("ocp.yaml", &with_channel(&images))]);
    let ignore = "image_sets: [{name: \"*\", release_signatures: ignore}]\n";
    site.start(&format!("{}{ignore}", updates.settings()));
    let status = site.ready(&repo.head());
    assert_eq!(status["image_sets"][0]["images_mirrored"], 5);
    assert_eq!(status["image_sets"][0]["release_signatures_ignored"], true);
    let plan = site.json(&["plan", "ocp"]);
    assert_eq!(plan["plans"][0]["release_signatures_ignored"], true);
    let said = "release signatures are not verified: settings say so";
    for verb in ["plan", "status"] {
        let text = site.text(&[verb, "ocp"]);
        assert!(text.contains(said), "{verb}: {text}");
    }
    assert!(site.log().contains(said));
    assert!(!site.all_documents().contains("ConfigMap"));
}

#[test]
fn a_tag_that_vanished_stalls_its_entry_and_what_was_mirrored_stays_wanted() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a", "team/b", "team/c"]);
    let repo = site.repo();
    repo.commit(&[("app.yaml", &image_set(&images[..2]))]);
    site.start("");
    site.ready(&repo.head());
    let documents = site.documents();

    site.withdraw("team/a", "1");
    repo.commit(&[("app.yaml", &image_set(&images))]);
    let set = site.until_set("app", "stalled with the rest mirrored", |set| {
        is(set, "Stalled") && site.mirrored("team/c", "1").is_some()
    });
    let why = condition(&set, "Unresolved").unwrap();
    assert!(why.starts_with(&images[0]), "{why}");
    let plan = site.json(&["plan", "app", "--refresh"])["plans"][0].clone();
    assert_eq!(plan["unresolved"][0]["subject"], images[0]);
    assert_eq!(plan["unwanted"], Value::Array(vec![]), "it is still wanted");
    assert!(site.mirrored("team/a", "1").is_some());
    assert_eq!(site.documents(), documents);

    // Taken out of the file, both are no longer wanted, and stay.
    repo.commit(&[("app.yaml", &image_set(&images[2..]))]);
    let plan = site.json(&["plan", "app"])["plans"][0].clone();
    let held = |name: &str| format!("{}/ocp/team/{name}:1", site.mirror.address());
    let unwanted = serde_json::json!([held("a"), held("b")]);
    // The daemon may have applied that plan already, and then nothing is new.
    assert!(
        plan["unwanted"] == unwanted || plan["freshness"] == "applied",
        "{plan}"
    );
    site.ready(&repo.head());
    assert!(site.mirrored("team/a", "1").is_some() && site.mirrored("team/b", "1").is_some());
    assert_eq!(site.documents(), documents);
}

#[test]
fn what_is_no_longer_wanted_is_listed_before_it_is_forgotten() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a", "team/b"]);
    let repo = site.repo();
    repo.commit(&[("app.yaml", &image_set(&images))]);
    site.start("image_sets: [{name: \"*\", apply: manual}]\n");
    let commit = repo.head();
    site.until_set("app", "waiting", |set| is(set, "Waiting"));
    site.json(&["apply", "app"]);
    site.ready(&commit);
    repo.commit(&[("app.yaml", &image_set(&images[1..]))]);
    let plan = site.json(&["plan", "app"])["plans"][0].clone();
    let held = format!("{}/ocp/team/a:1", site.mirror.address());
    assert_eq!(plan["unwanted"], serde_json::json!([held]));
    assert_eq!(
        (&plan["step_count"], &plan["bytes"]),
        (&0.into(), &0.into())
    );
    // It stays listed as long as the mirror has it, whatever comes next, until it is wanted again.
    site.publish("team/c", "1", &Image::simple("team/c"));
    let more = [images[1].clone(), site.source("team/c")];
    let commit = repo.commit(&[("app.yaml", &image_set(&more))]);
    site.json(&["apply", "app"]);
    site.ready(&commit);
    let plan = site.json(&["plan", "app"])["plans"][0].clone();
    assert_eq!(plan["unwanted"], serde_json::json!([held]));
    let all = [images.as_slice(), &more[1..]].concat();
    repo.commit(&[("app.yaml", &image_set(&all))]);
    let plan = site.json(&["plan", "app"])["plans"][0].clone();
    assert_eq!(plan["unwanted"], serde_json::json!([]));
    let digest = Image::simple("team/a").digest().to_string();
    assert_eq!(site.mirrored("team/a", "1"), Some(digest));
}

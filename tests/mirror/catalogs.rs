//! Operator catalogs beyond the usual way: on disk, in two image sets, told to clusters in the site's manner, looked at over the API.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    daemon::Daemon,
    facade::Facade,
    fixture::{image::Flavor, place::Placed},
    operators::{FOO, Upstream, bundles, catalog_image, unpacked},
    site::{Ended, PREFIX, Site, Updates, program},
    support::{catalog, skip, skopeo, tool},
};

/// Writes the catalog as an image layout, and an image set of it.
fn on_disk(upstream: &Upstream, more: &str) -> String {
    let documents = catalog::file(&upstream.documents());
    let layers = [
        catalog::tar([("tmp/cache/digest", b"stale".as_slice())]),
        catalog::tar([("configs/all.json", documents.as_bytes())]),
    ];
    let folder = upstream.site.path("my-index");
    let image = catalog::image(&layers);
    image.write_layout(&folder, "latest");
    let catalog = format!("oci://{}", folder.display());
    upstream
        .site
        .image_set(&format!("operators:\n- catalog: {catalog}\n{more}"));
    image.digest().to_string()
}

#[test]
fn a_catalog_on_disk_is_filtered_and_mirrored() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    on_disk(&upstream, FOO);
    site.done(&[]);
    let root = tempfile::tempdir().unwrap();
    unpacked(site, "my-index:latest", root.path());
    assert_eq!(
        bundles(&root.path().join("configs")),
        ["bar.v1.0.0", "foo.v2.0.0"]
    );
    assert!(!root.path().join("tmp/cache").exists());
    let text = fs::read_to_string(site.path("resources/cs-my-index-latest.yaml")).unwrap();
    assert!(text.contains("/my-index@sha256:"), "{text}");
    // Again: nobody is asked for anything.
    let (source, mirror) = (site.upstream.mark(), site.mirror.mark());
    site.done(&[]);
    assert_eq!(site.upstream.since(source).len(), 0);
    assert_eq!(site.mirror.since(mirror).len(), 0);
}

#[test]
fn a_catalog_on_disk_that_is_wanted_whole_is_the_original() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    let digest = on_disk(&upstream, "  full: true\n  targetTag: v9\n");
    site.done(&[]);
    let raw = skopeo::inspect_raw(&site.mirror.docker(&format!("{PREFIX}/my-index:v9")));
    assert_eq!(
        imagesetd::model::image::Digest::of(&raw).to_string(),
        digest
    );
}

#[test]
fn what_is_no_layout_stalls_the_catalog_with_the_remedy() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    let folder = site.path("none");
    site.image_set(&format!(
        "operators:\n- catalog: oci://{}\n",
        folder.display()
    ));
    let ended = site.once(&[]);
    assert_eq!(ended.code, 3, "{ended:#?}");
    ended.says(&[&format!(
        "catalog oci://{folder}: oci://{folder} is no image layout: it has no `index.json`",
        folder = folder.display()
    )]);
}

#[test]
fn of_two_image_sets_that_ask_one_catalog_for_different_things_one_is_told() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &upstream.documents()));
    upstream.image_set("  packages:\n  - name: bar\n");
    let other = site.path("other.yaml");
    fs::rename(site.path("set.yaml"), &other).unwrap();
    upstream.image_set("  skipDependencies: true\n  packages:\n  - name: foo\n");
    let ended = site.once(&["-c", other.to_str().unwrap()]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    ended.says(&[
        "would both land on",
        "give one of them a `targetCatalog` or `targetTag` of its own",
    ]);
    let root = tempfile::tempdir().unwrap();
    unpacked(site, "team/index:v1", root.path());
    assert_eq!(bundles(&root.path().join("configs")), ["bar.v2.0.0"]);
}

#[test]
fn a_catalog_source_says_what_its_template_says() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &upstream.documents()));
    let template = "apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\nmetadata:\n  name: any\n  labels: {tier: one}\n\
                    spec:\n  sourceType: grpc\n  displayName: Ours\n  grpcPodConfig:\n    extractContent: {cacheDir: /tmp/cache, catalogDir: /configs}\n";
    fs::write(site.path("cs.tmpl"), template).unwrap();
    upstream.image_set(&format!("  targetCatalogSourceTemplate: cs.tmpl\n{FOO}"));
    let ended = site.once(&[]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.says(&[
        "`extractContent.cacheDir` is left out: a catalog that is built anew has no cache",
    ]);
    let source = || -> Value {
        let text = fs::read(site.path("resources/cs-index-v1.yaml")).unwrap();
        serde_yaml::from_slice(&text).unwrap()
    };
    let written = source();
    assert_eq!(written["metadata"]["labels"]["tier"], "one");
    assert_eq!(written["metadata"]["name"], "cs-index-v1");
    assert_eq!(written["spec"]["displayName"], "Ours");
    assert_eq!(
        written["spec"]["grpcPodConfig"],
        json!({"extractContent": {"catalogDir": "/configs"}})
    );
    // One that is none is done without, and said.
    fs::write(site.path("cs.tmpl"), "kind: Secret\n").unwrap();
    site.once(&[])
        .says(&["`targetCatalogSourceTemplate: cs.tmpl`, which is no CatalogSource"]);
    assert_eq!(source()["spec"].get("displayName"), None);
}

/// The versions of jaeger-product are all pre-releases, and one has build metadata.
#[test]
fn the_real_catalogs_filter_as_the_rules_say() {
    let Some(data) = skip::real_data("the_real_catalogs_filter_as_the_rules_say") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set.yaml");
    let filter = |package: &str, form: &str| {
        let text = format!(
            "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  operators:\n  - catalog: r.io/index:v4.14\n{package}"
        );
        fs::write(&set, text).unwrap();
        let mut command = program();
        command
            .args(["catalog", "filter", "-o", form, "-c"])
            .arg(&set);
        command.arg("--catalog").arg(data.join("catalogs"));
        Ended::of(command.output().unwrap())
    };
    let (p47, p42b, p42, p34) = (
        "jaeger-operator.v1.47.1-5",
        "jaeger-operator.v1.42.0-5-0.1687199951.p",
        "jaeger-operator.v1.42.0-5",
        "jaeger-operator.v1.34.1-5",
    );
    let node = "node-observability-operator.v0.2.0";
    for (bounds, code, kept) in [
        (
            "minVersion: 1.42.0-0, maxVersion: 1.48.0",
            0,
            &[p42, p42b, p47][..],
        ),
        ("minVersion: 1.47.1-5, maxVersion: 1.47.1-5", 0, &[p47]),
        (
            "minVersion: 1.42.0-5, maxVersion: 1.42.0-5",
            0,
            &[p42, p42b],
        ),
        (
            "minVersion: 1.34.0, maxVersion: 1.42.0-5",
            0,
            &[p34, p42, p42b],
        ),
        ("minVersion: 1.42.0, maxVersion: 1.47.1", 0, &[p47]),
        ("minVersion: 1.42.0, maxVersion: 1.42.0", 3, &[]),
        ("minVersion: 1.52.0", 3, &[]),
    ] {
        let packages = format!(
            "    packages:\n    - {{name: jaeger-product, {bounds}}}\n    - {{name: node-observability-operator}}\n"
        );
        let ended = filter(&packages, "fbc");
        assert_eq!(ended.code, code, "{bounds}: {ended:#?}");
        let names: Vec<String> = serde_json::Deserializer::from_str(&ended.stdout)
            .into_iter::<Value>()
            .map(Result::unwrap)
            .filter(|document| document["schema"] == "olm.bundle")
            .map(|document| document["name"].as_str().unwrap().to_owned())
            .collect();
        let expected: Vec<&str> = kept.iter().copied().chain([node]).collect();
        assert_eq!(names, expected, "{bounds}");
        if let Some(opm) = catalog::maybe_opm() {
            let configs = tempfile::tempdir().unwrap();
            fs::write(configs.path().join("catalog.json"), &ended.stdout).unwrap();
            catalog::validate(&opm, configs.path());
        }
    }
    // Without packages: the head of every channel.
    let heads = filter("", "json");
    let heads: Value = serde_json::from_str(&heads.stdout).unwrap();
    let heads: Vec<&Value> = (heads["catalogs"][0]["packages"].as_array().unwrap().iter())
        .map(|package| &package["channels"][0]["head"])
        .collect();
    assert_eq!(heads, ["jaeger-operator.v1.51.0-1", node]);
}

/// Calls the daemon as anybody would who has grpcurl.
fn call(site: &Site, method: &str, request: &Value) -> Result<Vec<Value>, String> {
    let socket = site.path("socket").display().to_string();
    let output = Command::new(tool::find("grpcurl"))
        .args(["-plaintext", "-unix", "-d", &request.to_string(), &socket])
        .arg(format!("imageset.v1.MirrorService/{method}"))
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(serde_json::Deserializer::from_slice(&output.stdout)
            .into_iter()
            .map(Result::unwrap)
            .collect()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

#[test]
fn the_daemon_looks_at_catalogs_for_its_callers() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &upstream.documents()));
    let updates = Updates::of(&[]);
    let _daemon = Daemon::start(site, &updates);
    let catalog = upstream.catalog();
    let listed = call(site, "ListCatalog", &json!({"catalog": catalog})).unwrap();
    let package = |name: &str| {
        let head = format!("{name}.v2.0.0");
        json!({"name": name, "defaultChannel": "stable", "channels": [{"name": "stable", "head": head, "bundleCount": "2"}]})
    };
    assert_eq!(
        listed,
        [json!({"packages": [package("bar"), package("foo")]})]
    );
    let mark = site.upstream.mark();
    let request = json!({"catalog": catalog, "package": "foo", "channel": "stable"});
    let listed = call(site, "ListCatalog", &request).unwrap();
    assert_eq!(
        listed[0]["packages"][0]["channels"][0]["bundles"],
        json!([{"name": "foo.v2.0.0", "version": "2.0.0"}, {"name": "foo.v1.0.0", "version": "1.0.0"}])
    );
    let methods: Vec<String> = (site.upstream.since(mark).iter())
        .map(|request| request.method.clone())
        .collect();
    assert_eq!(methods, ["HEAD"]);
    for (request, said) in [
        (
            json!({"catalog": catalog, "package": "fo"}),
            "the catalog has no package `fo`; did you mean `foo`?",
        ),
        (
            json!({"catalog": "oci:///srv/x"}),
            "oci:///srv/x is on disk; `imagesetd catalog` reads it on the machine that has it",
        ),
        (
            json!({"catalog": catalog, "channel": "stable"}),
            "name the package that has the channel",
        ),
    ] {
        let refused = call(site, "ListCatalog", &request).unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
    let text = format!(
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  operators:\n  - catalog: {catalog}\n    packages:\n    - name: foo\n    - name: baz\n"
    );
    let request = json!({"files": [{"name": "a.yaml", "content": text}], "documents": true});
    let mut parts = call(site, "FilterCatalog", &request).unwrap();
    let kept = parts.remove(0);
    let package = |at: usize| &kept["catalog"]["packages"][at];
    assert_eq!(
        package(0)["bundles"],
        json!([{
            "name": "bar.v1.0.0", "version": "1.0.0", "keptFor": "KEPT_FOR_DEPENDENCY", "requiredBy": "foo.v2.0.0",
            "requirement": "bar <2.0.0",
        }])
    );
    assert_eq!(
        package(1)["bundles"],
        json!([{"name": "foo.v2.0.0", "version": "2.0.0", "keptFor": "KEPT_FOR_HEAD"}])
    );
    assert_eq!(kept["catalog"]["problems"][0]["package"], "baz");
    let documents: Vec<u8> = parts
        .iter()
        .flat_map(|part| {
            STANDARD
                .decode(part["documents"].as_str().unwrap())
                .unwrap()
        })
        .collect();
    let names: Vec<String> = serde_json::Deserializer::from_slice(&documents)
        .into_iter::<Value>()
        .map(|document| document.unwrap()["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        ["bar", "stable", "bar.v1.0.0", "foo", "stable", "foo.v2.0.0"]
    );
}

#[test]
fn clusters_look_at_a_tag_where_the_site_says_so() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &upstream.documents()));
    let updates = Updates::of(&[]);
    let daemon = Daemon::with(
        site,
        &updates,
        "catalog_reference: tag\ncatalog_poll: 45m\n",
    );
    let plan = daemon.planned(&format!(
        "operators:\n- catalog: {}\n{FOO}",
        upstream.catalog()
    ));
    assert_eq!(plan["required_bundles"][0]["bundle"], "bar.v1.0.0");
    assert_eq!(plan["catalog_head_count"], 2);
    daemon.apply(&plan);
    let document = |name: &str| -> Value {
        serde_yaml::from_slice(&fs::read(site.path("resources").join(name)).unwrap()).unwrap()
    };
    let image = format!("{}/{PREFIX}/team/index:v1", site.mirror.address());
    assert_eq!(
        document("cs-index-v1.yaml")["spec"],
        json!({"sourceType": "grpc", "image": image, "updateStrategy": {"registryPoll": {"interval": "45m"}}})
    );
    assert_eq!(
        document("cc-index-v1.yaml")["spec"]["source"]["image"],
        json!({"ref": image, "pollIntervalMinutes": 45})
    );
}

#[test]
fn catalogs_are_read_at_once_and_keep_their_order() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    let documents = upstream.documents();
    let (foo, bar): (Vec<_>, Vec<_>) = documents.into_iter().partition(|document| {
        let of = document.get("package").unwrap_or(&document["name"]);
        of == "foo"
    });
    let one = catalog_image(Flavor::Oci, "amd64", &foo);
    let two = catalog_image(Flavor::Oci, "amd64", &bar);
    site.publish(&[
        Placed::tagged("team/one", "v1", &one),
        Placed::tagged("team/two", "v1", &two),
    ]);
    // The bytes of neither come before those of both are asked for.
    let alone = Arc::new(AtomicBool::new(false));
    let was_alone = Arc::clone(&alone);
    let (asked, news) = (Mutex::new(BTreeSet::new()), Condvar::new());
    let door = Facade::before(site.upstream.address(), move |_, path| {
        let name = ["one", "two"]
            .into_iter()
            .find(|name| path.contains(&format!("/team/{name}/blobs/")))?;
        let mut names = asked.lock().unwrap();
        names.insert(name);
        news.notify_all();
        let patience = Duration::from_secs(20);
        let waited = news
            .wait_timeout_while(names, patience, |names| names.len() < 2)
            .unwrap();
        was_alone.fetch_or(waited.1.timed_out(), Ordering::Relaxed);
        None
    });
    let catalogs =
        ["two", "one"].map(|name| format!("- catalog: {}/team/{name}:v1\n", door.address));
    site.image_set(&format!("operators:\n{}", catalogs.concat()));
    site.done(&["--remove-signatures"]);
    assert!(
        !alone.load(Ordering::Relaxed),
        "one was read after the other"
    );
    for (name, package) in [("one", "foo"), ("two", "bar")] {
        let folder = tempfile::tempdir().unwrap();
        unpacked(site, &format!("team/{name}:v1"), folder.path());
        let bundles = bundles(&folder.path().join("configs"));
        assert_eq!(bundles, [format!("{package}.v2.0.0")]);
    }
}

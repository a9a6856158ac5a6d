//! Proves the harness against itself: what it counts is what another tool did.

mod support;

use std::collections::BTreeMap;

use imagesetd::model::image::Digest;
use serde_json::json;
use support::{
    access_log::Request,
    oci::{Image, descriptor},
    registry::{Kind, Options, Registry, SPARSE_INDEXES},
    skopeo, tool,
};

/// Pushes an image with skopeo, from a layout on disk.
fn push(image: &Image, registry: &Registry, name: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    image.write_layout(folder.path(), "made");
    let source = format!("oci:{}:made", folder.path().display());
    skopeo::copy(&source, &registry.docker(name));
}

/// What goes in comes out, and every request of it is in the record.
fn counts_what_skopeo_does(registry: &Registry) {
    let image = Image::new(&[b"first layer", b"second layer"]);
    let before = registry.mark();
    push(&image, registry, "team/app:1");
    let pushed = registry.since(before);
    assert_eq!(pushed.manifest_puts(), ["1"]);
    assert_eq!(pushed.uploads(), 3);
    assert_eq!(pushed.blob_bytes(), 0);

    let name = registry.docker(&format!("team/app@{}", image.digest()));
    let before = registry.mark();
    assert_eq!(skopeo::inspect_raw(&name), image.manifest);
    let inspected = registry.since(before);
    assert_eq!(inspected.manifest_reads(), 1);
    assert_eq!((inspected.blob_gets().len(), inspected.writes()), (0, 0));

    let before = registry.mark();
    let copied = skopeo::copy_to_dir(&name);
    let blobs = image.blobs.iter().map(|b| (Digest::of(b).hex(), b.clone()));
    assert_eq!(copied.manifest, image.manifest);
    assert_eq!(copied.files, blobs.collect());
    let read = registry.since(before);
    let once = image.blobs.iter().map(|b| (Digest::of(b).to_string(), 1));
    assert_eq!(read.blob_gets(), once.collect::<BTreeMap<_, _>>());
    assert_eq!(read.blob_bytes(), image.size());
    assert_eq!(read.blobs_twice(), [""; 0]);
    assert!(read.iter().all(|r| r.agent.contains("skopeo")), "{read:?}");

    assert_eq!(registry.since(registry.mark()).len(), 0);
    skopeo::copy_to_dir(&name);
    assert_eq!(registry.since(before).blobs_twice().len(), 3);
}

#[test]
fn debian_registry_counts_what_skopeo_does() {
    counts_what_skopeo_does(&Registry::debian());
}

#[test]
fn distribution_3_counts_what_skopeo_does() {
    counts_what_skopeo_does(&Registry::distribution3());
}

#[test]
fn stopped_registry_comes_back_with_address_content_and_record() {
    let mut registry = Registry::debian();
    let image = Image::new(&[b"layer"]);
    push(&image, &registry, "app:1");
    let (address, asked) = (registry.address().to_owned(), registry.requests());
    let name = registry.docker("app:1");

    registry.stop();
    assert!(
        !skopeo::run(&["inspect", "--raw", "--tls-verify=false", &name])
            .status
            .success()
    );
    assert_eq!(registry.requests(), asked);

    registry.resume();
    assert_eq!(registry.address(), address);
    assert_eq!(skopeo::inspect_raw(&name), image.manifest);
    assert!(registry.requests().len() > asked.len());
}

#[test]
fn registry_with_a_password_refuses_who_has_none() {
    let options = Options {
        password: true,
        ..Options::default()
    };
    let registry = Registry::start(Kind::Debian, options);
    let name = registry.docker("app:1");
    let inspect = |option: &str| {
        let output = skopeo::run(&["inspect", "--raw", "--tls-verify=false", option, &name]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let refused = inspect("--no-creds");
    assert!(refused.contains("authentication required"), "{refused}");
    let unknown = inspect(&skopeo::credentials("--creds"));
    assert!(unknown.contains("manifest unknown"), "{unknown}");
}

#[test]
fn distribution_3_takes_a_sparse_index_only_where_it_is_told_to() {
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let image = Image::new(&[b"absent"]);
    let mut child = descriptor(
        "application/vnd.oci.image.manifest.v1+json",
        &image.manifest,
    );
    child["platform"] = json!({"os": "linux", "architecture": "arm64"});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]});
    let put = |registry: &Registry| {
        registry.put("app/manifests/sparse", INDEX, index.to_string().as_bytes())
    };
    let (status, why) = put(&Registry::distribution3());
    assert_eq!(status, 400);
    assert!(why.contains("MANIFEST_BLOB_UNKNOWN"), "{why}");

    let options = Options {
        configuration: SPARSE_INDEXES.into(),
        ..Options::default()
    };
    let told = Registry::start(Kind::Distribution3, options);
    assert_eq!(put(&told).0, 201);
    let name = told.docker("app:sparse");
    assert_eq!(skopeo::inspect_raw(&name), index.to_string().as_bytes());
}

#[test]
fn registries_side_by_side_keep_records_of_their_own() {
    let (one, other) = (Registry::debian(), Registry::debian());
    push(&Image::new(&[b"layer"]), &one, "app:1");
    assert_ne!(one.address(), other.address());
    assert_eq!(one.requests().manifest_puts(), ["1"]);
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn line_of_the_access_log_is_read_whole() {
    let line = r#"127.0.0.1 - mirror [24/Nov/2026:03:03:50 +0000] "POST /v2/a/b/blobs/uploads/?mount=sha256%3Ax&from=c HTTP/1.1" 201 7 "" "an \"odd\" agent""#;
    assert_eq!(
        Request::parse(line),
        Some(Request {
            method: "POST".into(),
            path: "/v2/a/b/blobs/uploads/".into(),
            query: "mount=sha256%3Ax&from=c".into(),
            status: 201,
            bytes: 7,
            agent: "an \"odd\" agent".into(),
        })
    );
    assert_eq!(Request::parse(r#"level=info msg="listening on""#), None);
    assert_eq!(Request::parse(""), None);
}

#[test]
#[should_panic(
    expected = "needs the program `no-such-program`, which is not installed; run `make deps`"
)]
fn missing_program_is_a_failure_that_says_what_to_do() {
    tool::find("no-such-program");
}

//! The fixtures are what they claim to be: real servers serve them, real clients read them.
#![allow(clippy::unwrap_used)]

#[path = "support/fixture.rs"]
mod fixture;

#[path = "support/skip.rs"]
mod skip;

use std::{collections::BTreeSet, io::Read, path::Path, process::Command};

use fixture::{
    graph::{self, Graph},
    image::Image,
    place::{Placed, http, push, write_distribution_storage, write_layout},
    release::{PARTS, PAYLOADS, Release, Spec},
    server::{Distribution, OurRegistry, UpdateServer, free_port},
};
use serde_json::{Value, json};

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo").args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn copies_out(reference: &str, to: &Path, image: &Image) {
    let from = format!("docker://{reference}");
    let folder = format!("dir:{}", to.display());
    skopeo(&["copy", "--all", "--src-tls-verify=false", &from, &folder]);
    assert_eq!(
        std::fs::read(to.join("manifest.json")).unwrap(),
        image.manifest.raw
    );
}

/// Reads a file of the payload's topmost layer.
fn released(payload: &Image, name: &str) -> Vec<u8> {
    let top = payload.blobs.last().unwrap();
    let gunzip = flate2::read::GzDecoder::new(top.bytes.as_ref());
    let mut tar = tar::Archive::new(gunzip);
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap() == Path::new("release-manifests").join(name) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            return bytes;
        }
    }
    panic!("no {name} in the payload");
}

#[test]
fn distribution_serves_a_release_from_its_storage() {
    let folder = tempfile::tempdir().unwrap();
    let storage = folder.path().join("storage");
    let port = free_port().unwrap();
    let host = format!("127.0.0.1:{port}");
    let release = Release::build(&Spec::new("4.16.1", 0, &host));
    write_distribution_storage(&storage, &release.images()).unwrap();
    let registry = Distribution::start_on(&storage, port).unwrap();

    let tagged = format!("{host}/{PAYLOADS}:{}", release.tag);
    copies_out(&tagged, &folder.path().join("payload"), &release.payload);
    copies_out(
        &release.pull_spec,
        &folder.path().join("pinned"),
        &release.payload,
    );
    let references: Value =
        serde_json::from_slice(&released(&release.payload, "image-references")).unwrap();
    let tags = references["spec"]["tags"].as_array().unwrap();
    assert_eq!(tags.len(), release.components.len());
    for tag in [&tags[0], &tags[tags.len() / 2], &tags[tags.len() - 1]] {
        let name = tag["name"].as_str().unwrap();
        let from = tag["from"]["name"].as_str().unwrap();
        copies_out(from, &folder.path().join(name), &release.components[name]);
    }
    let log = registry.take_log().unwrap();
    assert!(
        log.iter()
            .any(|line| line.is_blob_download() && line.bytes > 0)
    );
    assert_eq!(registry.take_log().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn distribution_takes_what_the_fixture_pushes() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Distribution::start(&folder.path().join("storage")).unwrap();
    let image = Image::simple_index("multi", &["amd64", "arm64"]);
    let placed = Placed::tagged("a/b", "v1", &image);
    push(&http().unwrap(), &registry.host, &placed)
        .await
        .unwrap();
    copies_out(
        &format!("{}/a/b:v1", registry.host),
        &folder.path().join("out"),
        &image,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn multi_release_is_an_index_of_payloads() {
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let spec = Spec {
        archs: &["x86_64", "aarch64"],
        components: &["cli", "etcd"],
        ..Spec::new("4.16.1", 0, &host)
    };
    let release = Release::build(&spec);
    assert_eq!(release.tag, "4.16.1-multi");
    write_layout(&folder.path().join("registry"), &release.images()).unwrap();
    let registry = OurRegistry::start_on(&folder.path().join("registry"), listener)
        .await
        .unwrap();
    let pull_spec = release.pull_spec.clone();
    let (out, payload) = (folder.path().join("out"), release.payload.clone());
    tokio::task::spawn_blocking(move || copies_out(&pull_spec, &out, &payload))
        .await
        .unwrap();
    assert_eq!(registry.host, host);
}

#[test]
fn next_version_shares_most_of_its_content() {
    let [first, second] = [("4.16.1", 0), ("4.16.2", 1)]
        .map(|(version, round)| Release::build(&Spec::new(version, round, "127.0.0.1:1")));
    assert!(first.components.len() >= 120);
    let changed = |(name, image): &(&String, &Image)| second.components[*name] != **image;
    let changed = first.components.iter().filter(changed).count();
    assert!((20..60).contains(&changed), "{changed} components changed");
    let blobs = |release: &Release| -> BTreeSet<_> {
        let images = release.images();
        let digests = images
            .iter()
            .flat_map(|placed| placed.image.all_blobs().into_keys().cloned());
        digests.collect()
    };
    let new = blobs(&second).difference(&blobs(&first)).count();
    assert_eq!(
        new,
        2 * (changed + 1),
        "a configuration and a layer for each image that changed"
    );
}

#[test]
fn release_is_a_function_of_its_spec() {
    let build = || Release::build(&Spec::new("4.16.1", 1, "127.0.0.1:1"));
    assert_eq!(build().pull_spec, build().pull_spec);
}

#[test]
fn real_release_keeps_its_names_and_gets_our_images() {
    let Some(data) = skip::real_data("real_release_keeps_its_names_and_gets_our_images") else {
        return;
    };
    let release = Release::from_real(&data.join("release"), "127.0.0.1:1").unwrap();
    assert_eq!(
        (release.tag.as_str(), release.components.len()),
        ("4.12.0-x86_64", 183)
    );
    let references: Value =
        serde_json::from_slice(&released(&release.payload, "image-references")).unwrap();
    for tag in references["spec"]["tags"].as_array().unwrap() {
        let image = &release.components[tag["name"].as_str().unwrap()];
        let expected = format!("127.0.0.1:1/{PARTS}@{}", image.digest());
        assert_eq!(tag["from"]["name"], expected);
    }
    assert!(!released(&release.payload, "release-metadata").is_empty());
    let graph = graph::real(&data.join("cincinnati/amd64-stable-4.13.json"), &[&release]).unwrap();
    let ours = |node: &&Value| node["payload"].as_str() == Some(&release.pull_spec);
    let nodes = graph["nodes"].as_array().unwrap();
    assert_eq!(nodes.iter().filter(ours).count(), 1);
    assert!(nodes.len() > 90);
}

#[tokio::test]
async fn update_service_answers_by_channel_and_keeps_a_log() {
    let graph = Graph::default()
        .node("4.16.1", "h/r@sha256:1")
        .node("4.16.2", "h/r@sha256:2")
        .node("4.16.3", "h/r@sha256:3")
        .edge("4.16.1", "4.16.2")
        .conditional("4.16.1", "4.16.3", "Trouble");
    let server = UpdateServer::start(move |channel, arch| {
        (channel == "stable-4.16" && arch == "amd64").then(|| graph.document(channel))
    })
    .await
    .unwrap();
    let client = http().unwrap();
    let known = client
        .get(format!("{}?channel=stable-4.16&arch=amd64", server.url))
        .send()
        .await
        .unwrap();
    let document: Value = serde_json::from_slice(&known.bytes().await.unwrap()).unwrap();
    assert_eq!(document["edges"], json!([[0, 1]]));
    assert_eq!(
        document["conditionalEdges"][0]["edges"],
        json!([{"from": "4.16.1", "to": "4.16.3"}])
    );
    let unknown = client
        .get(format!("{}?channel=other", server.url))
        .send()
        .await
        .unwrap();
    assert_eq!(unknown.status(), 404);
    let asked = [
        "/graph?channel=stable-4.16&arch=amd64",
        "/graph?channel=other",
    ];
    assert_eq!(server.take_requests(), asked);
}

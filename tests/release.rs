//! Releases on real data: the update graph of stable-4.13 and the manifests of a payload.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/skip.rs"]
mod skip;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imagesetd::model::{
    imageset::{Channel, ChannelType, PlatformSpec},
    release::{
        graph::Graph,
        names::{component_tag, release_tag},
        path::{PathError, path},
        payload::{BootImage, Files, Payload},
        select::{GraphKey, Graphs, Options, Selection, select},
    },
};
use semver::Version;

const GRAPH: &str = "cincinnati/amd64-stable-4.13.json";

/// Reads a file of the real data; says so where there is none and the test has nothing to look at.
fn real_data(path: &str) -> Option<Vec<u8>> {
    // A test's thread has its name.
    let thread = std::thread::current();
    let folder = skip::real_data(thread.name().unwrap_or(path))?;
    Some(std::fs::read(folder.join(path)).unwrap())
}

fn v(text: &str) -> Version {
    Version::parse(text).unwrap()
}

/// Counts the pairs of different versions of which one leads to the other over some of the edges.
fn joined(graph: &Graph, usable: impl Fn(bool) -> bool) -> usize {
    let mut onward: BTreeMap<&Version, Vec<&Version>> = BTreeMap::new();
    for (from, to, conditional) in graph.edges() {
        if usable(conditional) {
            onward.entry(from).or_default().push(to);
        }
    }
    let reach = |start: &Version| {
        let mut seen = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(version) = open.pop() {
            let next = onward.get(version).into_iter().flatten();
            open.extend(next.filter(|v| seen.insert(v)));
        }
        seen.len() - 1
    };
    graph.nodes().iter().map(|n| reach(&n.version)).sum()
}

#[test]
fn real_graph_is_read_whole() {
    let Some(bytes) = real_data(GRAPH) else {
        return;
    };
    let graph = Graph::parse(&bytes).unwrap();
    assert_eq!(graph.nodes().len(), 98);
    assert_eq!(graph.unreadable(), []);
    assert_eq!(graph.nodes().last().unwrap().version, v("4.13.43"));
    let mut document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let listed = document["edges"].as_array().unwrap().len();
    let free = graph.edges().filter(|e| !e.2).count();
    assert_eq!((listed, listed - free), (1171, 136));
    let node = graph.find(&v("4.12.0")).unwrap();
    assert_eq!(
        node.payload.repository.to_string(),
        "quay.io/openshift-release-dev/ocp-release"
    );
    let risks = graph.risks(&v("4.13.1"), &v("4.13.36"));
    assert!(risks.iter().any(|r| r.name == "CephCapDropPanic"));

    document["conditionalEdges"] = serde_json::json!([]);
    let as_oc_mirror_reads_it = Graph::parse(document.to_string().as_bytes()).unwrap();
    let safe = joined(&graph, |conditional| !conditional);
    assert_eq!(joined(&as_oc_mirror_reads_it, |_| true) - safe, 201);
}

#[test]
fn real_path_over_an_edge_of_both_lists_needs_permission() {
    let Some(bytes) = real_data(GRAPH) else {
        return;
    };
    let graph = Graph::parse(&bytes).unwrap();
    let (from, to) = (v("4.12.0"), v("4.12.1"));
    let error = path(&[&graph], &from, &to, false).unwrap_err();
    assert!(matches!(error, PathError::OnlyConditional { .. }));
    let path = path(&[&graph], &from, &to, true).unwrap();
    assert_eq!(path.versions, [from, to]);
    assert!(!path.conditional[0].risks.is_empty());
}

fn selected(graph: Vec<u8>, stanza: Channel) -> Selection {
    let key = GraphKey {
        channel_type: ChannelType::Ocp,
        channel: stanza.name.clone(),
        arch: "amd64".to_owned(),
    };
    let graphs = Graphs::from([(key, Ok(Arc::new(Graph::parse(&graph).unwrap())))]);
    let spec = PlatformSpec {
        channels: vec![stanza],
        ..PlatformSpec::default()
    };
    select(&spec, &graphs, Options::default()).unwrap()
}

#[test]
fn real_channel_selects_what_its_versions_say() {
    let Some(bytes) = real_data(GRAPH) else {
        return;
    };
    let versions = |min: &str, max: &str, shortest_path, full| {
        let bound = |text: &str| (!text.is_empty()).then(|| v(text));
        let stanza = Channel {
            name: "stable-4.13".to_owned(),
            channel_type: ChannelType::Ocp,
            min_version: bound(min),
            max_version: bound(max),
            shortest_path,
            full,
        };
        let selection = selected(bytes.clone(), stanza);
        assert_eq!(selection.unresolved, []);
        let releases = selection.releases.iter();
        releases.map(|r| r.version.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(versions("", "", false, false), ["4.13.43"]);
    assert_eq!(versions("4.13.1", "4.13.17", false, false).len(), 15);
    assert_eq!(versions("", "", false, true).len(), 98);
    assert_eq!(
        versions("4.12.0", "4.13.43", true, false),
        ["4.12.0", "4.12.58", "4.13.43"]
    );
}

#[test]
fn real_payload_is_read_whole() {
    let (Some(references), Some(metadata), Some(boot)) = (
        real_data("release/image-references"),
        real_data("release/release-metadata"),
        real_data("release/0000_50_installer_coreos-bootimages.yaml"),
    ) else {
        return;
    };
    let payload = Payload::parse(Files {
        image_references: &references,
        release_metadata: Some(&metadata),
        boot_images: Some(&boot),
    })
    .unwrap();
    assert_eq!(payload.version, v("4.12.0"));
    assert_eq!(
        (payload.components.len(), payload.unreadable),
        (183, vec![])
    );
    assert_eq!(
        payload.components[0].image.to_string(),
        "quay.io/openshift-release-dev/ocp-v4.0-art-dev@sha256:f30638f60452062aba36a26ee6c036feead2f03b28f2c47f2b0a991e4182331e"
    );
    let release = release_tag(ChannelType::Ocp, &payload.version, "amd64").unwrap();
    let tags: BTreeSet<String> = payload
        .components
        .iter()
        .map(|c| component_tag(&release, &c.name).unwrap().to_string())
        .collect();
    assert_eq!(tags.len(), 183);
    assert!(tags.contains("4.12.0-x86_64-agent-installer-api-server"));
    assert!(matches!(payload.kubevirt["x86_64"], BootImage::Image(_)));
    assert!(matches!(
        payload.kubevirt["s390x"],
        BootImage::Unreadable(_)
    ));
    assert_eq!(payload.kubevirt.len(), 2);
}

//! OpenShift releases: which ones an image set means, what a payload names, where it all goes in the mirror.
//!
//! The way: `graph` reads what the update service says, `path` finds the way through it, `select` joins both with an image
//! set's words; `payload` reads what a release consists of, `signature` says whether its publisher vouches for
//! it, and `names` says where it lands.
//!
//! **Invariant:** what an update service or a payload says is never trusted: sizes are bounded, and nothing in it panics.

pub mod graph;

pub mod path;

pub mod across;

mod range;

pub mod select;

pub mod payload;

pub mod names;

pub mod signature;

use semver::{BuildMetadata, Version};

/// Returns the version without its build metadata, which semantic versioning gives no say in precedence: `4.13.0+amd64` and
/// `4.13.0` are one release. Versions without it compare by precedence.
pub fn plain(version: &Version) -> Version {
    Version {
        build: BuildMetadata::EMPTY,
        ..version.clone()
    }
}

/// Makes foreign text fit for a message: cut, and without control characters, which a terminal would obey.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 500;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(LONGEST).map(clean).collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
pub(crate) mod fixture {
    //! Graphs for tests.

    use semver::Version;
    use serde_json::json;

    use super::graph::Graph;

    pub(crate) fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    /// A payload that is another one for every version.
    pub(crate) fn payload(version: &str) -> String {
        let digest = crate::model::image::Digest::of(version.as_bytes());
        format!("quay.io/openshift-release-dev/ocp-release@{digest}")
    }

    pub(crate) fn document(
        nodes: &[&str],
        edges: &[(usize, usize)],
        conditional: &[(&str, &str, &str)],
    ) -> serde_json::Value {
        json!({
            "version": 1,
            "nodes": nodes.iter().map(|n| json!({"version": n, "payload": payload(n), "metadata": {}})).collect::<Vec<_>>(),
            "edges": edges.iter().map(|(a, b)| json!([a, b])).collect::<Vec<_>>(),
            "conditionalEdges": conditional.iter().map(|(from, to, risk)| json!({
                "edges": [{"from": from, "to": to}],
                "risks": [{"name": risk, "url": format!("https://risk/{risk}"), "message": "It may.", "matchingRules": [{"type": "Always"}]}],
            })).collect::<Vec<_>>(),
        })
    }

    pub(crate) fn graph(
        nodes: &[&str],
        edges: &[(usize, usize)],
        conditional: &[(&str, &str, &str)],
    ) -> Graph {
        Graph::parse(document(nodes, edges, conditional).to_string().as_bytes()).unwrap()
    }
}

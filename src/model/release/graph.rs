//! The update graph of a channel, as the update service (Cincinnati) tells it.
//!
//! **Invariant:** every edge joins two nodes of the graph, versions are unique and carry no build metadata.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    marker::PhantomData,
};

use semver::Version;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};

use super::{plain, shown};
use crate::model::image::Reference;

/// The largest answer of an update service that is read. The real ones have a few MiB.
pub const MAX_GRAPH_BYTES: usize = 64 << 20;

const MAX_NODES: usize = 50_000;
const MAX_EDGES: usize = 2_000_000;
const MAX_RISKS: usize = 1_000;

/// Why bytes are not an update graph, as a clause that follows "the update graph".
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// There are too many bytes.
    #[error("has {bytes} bytes, more than the {MAX_GRAPH_BYTES} that are read")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// The bytes are not JSON of this shape.
    #[error("cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// An edge leads out of the list of nodes.
    #[error("has an edge from node {from} to node {to}, but only {nodes} nodes")]
    Edge {
        /// The index of the node that the edge begins at.
        from: u64,
        /// The index of the node that the edge ends at.
        to: u64,
        /// How many nodes there are.
        nodes: usize,
    },
    /// A version stands for two releases.
    #[error(
        "names {0} twice; the update service seems to mix architectures, so ask it for one that exists"
    )]
    Twice(Version),
}

/// A release in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The version, without build metadata.
    pub version: Version,
    /// The payload image, by digest.
    pub payload: Reference,
    /// What the update service adds (`url`, `io.openshift.upgrades.graph.release.channels`).
    pub metadata: BTreeMap<String, String>,
}

/// A node that names no payload one could pull by digest; it is left out of the graph together with its edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The version, where that can be read.
    pub version: Option<Version>,
    /// What is wrong, as a clause.
    pub reason: String,
}

/// Why an update is not recommended to everybody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Risk {
    /// A short name (`CephCapDropPanic`).
    #[serde(default)]
    pub name: String,
    /// Where it is explained.
    #[serde(default)]
    pub url: String,
    /// What may happen, in a sentence.
    #[serde(default)]
    pub message: String,
}

/// Nodes and the updates between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// By ascending version; edges are indices into this.
    nodes: Vec<Node>,
    unreadable: Vec<Unreadable>,
    /// Sorted; none of these is conditional.
    free: Vec<(u32, u32)>,
    /// Sorted; the third is an index into `risks`.
    conditional: Vec<(u32, u32, u32)>,
    risks: Vec<Vec<Risk>>,
}

impl Graph {
    /// Parses the answer of an update service.
    ///
    /// Fields that are not known are passed over. An edge in `edges` that stands in `conditionalEdges` too is conditional, as
    /// the cluster-version-operator reads it (oc-mirror looks at `edges` alone, and so leads clusters over known risks). A
    /// conditional edge from or to a version that is not in the graph is passed over: channels are cut out of a larger graph.
    pub fn parse(bytes: &[u8]) -> Result<Self, GraphError> {
        if bytes.len() > MAX_GRAPH_BYTES {
            return Err(GraphError::TooLarge { bytes: bytes.len() });
        }
        let raw: RawGraph = serde_json::from_slice(bytes)?;
        let names: Vec<String> = raw.nodes.iter().map(|n| n.version.clone()).collect();
        let (nodes, unreadable) = read_nodes(raw.nodes)?;
        let places = Places::new(&nodes, &names);
        let mut free = places.edges(&raw.edges)?;
        let mut conditional = places.conditional(&raw.conditional_edges);
        conditional.sort_unstable();
        conditional.dedup();
        let risky: BTreeSet<(u32, u32)> = conditional.iter().map(|c| (c.0, c.1)).collect();
        free.retain(|edge| !risky.contains(edge));
        free.sort_unstable();
        free.dedup();
        Ok(Graph {
            nodes,
            unreadable,
            free,
            conditional,
            risks: raw.conditional_edges.into_iter().map(|c| c.risks).collect(),
        })
    }

    /// Returns the releases, lowest version first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the nodes that had to be left out.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Returns the release of a version, whatever build metadata that carries.
    pub fn find(&self, version: &Version) -> Option<&Node> {
        let at = self
            .nodes
            .binary_search_by(|n| n.version.cmp_precedence(version));
        at.ok().and_then(|at| self.nodes.get(at))
    }

    /// Returns the nearest versions below and above one.
    pub fn nearest(&self, version: &Version) -> (Option<&Version>, Option<&Version>) {
        let below = self
            .nodes
            .partition_point(|n| n.version.cmp_precedence(version).is_lt());
        let above = self
            .nodes
            .partition_point(|n| n.version.cmp_precedence(version).is_le());
        let version = |at: usize| self.nodes.get(at).map(|n| &n.version);
        (below.checked_sub(1).and_then(version), version(above))
    }

    /// Returns every update once: from, to, and whether it is conditional.
    pub fn edges(&self) -> impl Iterator<Item = (&Version, &Version, bool)> {
        let free = self.free.iter().map(|&(from, to)| (from, to, false));
        let conditional = self.conditional.iter().map(|&(from, to, _)| (from, to));
        let mut last = None;
        let conditional = conditional
            .filter(move |&edge| last.replace(edge) != Some(edge))
            .map(|(from, to)| (from, to, true));
        free.chain(conditional).filter_map(|(from, to, risky)| {
            let version = |at: u32| self.nodes.get(at as usize).map(|n| &n.version);
            Some((version(from)?, version(to)?, risky))
        })
    }

    /// Returns the risks of the update between two versions; none where it is not conditional or not there.
    pub fn risks(&self, from: &Version, to: &Version) -> BTreeSet<Risk> {
        let place = |version: &Version| {
            let at = self
                .nodes
                .binary_search_by(|n| n.version.cmp_precedence(version));
            at.ok().and_then(|at| u32::try_from(at).ok())
        };
        let (Some(from), Some(to)) = (place(from), place(to)) else {
            return BTreeSet::new();
        };
        let first = self
            .conditional
            .partition_point(|c| (c.0, c.1) < (from, to));
        self.conditional[first..]
            .iter()
            .take_while(|c| (c.0, c.1) == (from, to))
            .filter_map(|c| self.risks.get(c.2 as usize))
            .flatten()
            .cloned()
            .collect()
    }
}

/// Sorts the nodes by version and sets aside those that cannot be used.
fn read_nodes(raw: Vec<RawNode>) -> Result<(Vec<Node>, Vec<Unreadable>), GraphError> {
    let mut nodes = BTreeMap::new();
    let mut unreadable = Vec::new();
    for node in raw {
        match read_node(node) {
            Ok(node) => {
                let version = node.version.clone();
                let twice = nodes.insert(version.clone(), node);
                if twice.is_some() {
                    return Err(GraphError::Twice(version));
                }
            }
            Err(node) => unreadable.push(node),
        }
    }
    unreadable.sort_by(|a, b| (&a.version, &a.reason).cmp(&(&b.version, &b.reason)));
    Ok((nodes.into_values().collect(), unreadable))
}

fn read_node(raw: RawNode) -> Result<Node, Unreadable> {
    let version = Version::parse(&raw.version).map_err(|error| Unreadable {
        version: None,
        reason: format!("`{}` is not a version: {error}", shown(&raw.version)),
    })?;
    let version = plain(&version);
    let unreadable = |reason| Unreadable {
        version: Some(version.clone()),
        reason,
    };
    let payload: Reference = raw
        .payload
        .parse()
        .map_err(|error| unreadable(format!("its payload cannot be read: {error}")))?;
    if payload.digest.is_none() {
        return Err(unreadable(format!(
            "its payload `{payload}` is not named by digest"
        )));
    }
    let metadata = raw.metadata.unwrap_or_default().into_iter();
    Ok(Node {
        version,
        payload,
        metadata: metadata
            .filter_map(|(key, value)| match value {
                serde_json::Value::String(value) => Some((key, value)),
                _ => None,
            })
            .collect(),
    })
}

/// Where the nodes of the answer have gone.
struct Places<'a> {
    /// By the index in the answer; nothing for a node that was left out.
    by_index: Vec<Option<u32>>,
    by_name: HashMap<&'a str, u32>,
    by_version: HashMap<&'a Version, u32>,
}

impl<'a> Places<'a> {
    fn new(nodes: &'a [Node], names: &'a [String]) -> Self {
        let by_version: HashMap<&Version, u32> =
            nodes.iter().map(|n| &n.version).zip(0..).collect();
        let by_index: Vec<Option<u32>> = names
            .iter()
            .map(|name| by_version.get(&plain(&Version::parse(name).ok()?)).copied())
            .collect();
        let by_name = names.iter().zip(&by_index);
        Places {
            by_name: by_name
                .filter_map(|(name, place)| Some((name.as_str(), (*place)?)))
                .collect(),
            by_index,
            by_version,
        }
    }

    fn edges(&self, raw: &[[u64; 2]]) -> Result<Vec<(u32, u32)>, GraphError> {
        let nodes = self.by_index.len();
        let place = |at: u64| {
            usize::try_from(at)
                .ok()
                .and_then(|at| self.by_index.get(at))
        };
        let mut edges = Vec::new();
        for &[from, to] in raw {
            let (Some(a), Some(b)) = (place(from), place(to)) else {
                return Err(GraphError::Edge { from, to, nodes });
            };
            if let (Some(a), Some(b)) = (a, b)
                && a != b
            {
                edges.push((*a, *b));
            }
        }
        Ok(edges)
    }

    fn conditional(&self, raw: &[RawConditional]) -> Vec<(u32, u32, u32)> {
        let mut edges = Vec::new();
        for (group, conditional) in (0..).zip(raw) {
            for edge in &conditional.edges {
                if let (Some(from), Some(to)) = (self.named(&edge.from), self.named(&edge.to))
                    && from != to
                {
                    edges.push((from, to, group));
                }
            }
        }
        edges
    }

    fn named(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied().or_else(|| {
            let version = plain(&Version::parse(name).ok()?);
            self.by_version.get(&version).copied()
        })
    }
}

#[derive(Deserialize)]
struct RawGraph {
    #[serde(deserialize_with = "list::<_, _, MAX_NODES>")]
    nodes: Vec<RawNode>,
    #[serde(default, deserialize_with = "list::<_, _, MAX_EDGES>")]
    edges: Vec<[u64; 2]>,
    #[serde(
        default,
        rename = "conditionalEdges",
        deserialize_with = "list::<_, _, MAX_NODES>"
    )]
    conditional_edges: Vec<RawConditional>,
}

#[derive(Deserialize)]
struct RawNode {
    version: String,
    #[serde(default)]
    payload: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct RawConditional {
    #[serde(default, deserialize_with = "list::<_, _, MAX_EDGES>")]
    edges: Vec<RawEdge>,
    #[serde(default, deserialize_with = "list::<_, _, MAX_RISKS>")]
    risks: Vec<Risk>,
}

#[derive(Deserialize)]
struct RawEdge {
    from: String,
    to: String,
}

/// Reads a list of at most `LIMIT` entries; `null`, which Go writes for an empty one, is empty.
pub(super) fn list<'de, D, T, const LIMIT: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const LIMIT: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const LIMIT: usize> Visitor<'de> for Bounded<T, LIMIT> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {LIMIT} entries")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = seq.next_element()? {
                if entries.len() == LIMIT {
                    return Err(A::Error::custom(format!(
                        "a list has more than {LIMIT} entries"
                    )));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_any(Bounded::<T, LIMIT>(PhantomData))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::release::fixture::{document, graph, payload, v};

    fn parse(document: &serde_json::Value) -> Result<Graph, GraphError> {
        Graph::parse(document.to_string().as_bytes())
    }

    #[test]
    fn edge_in_both_lists_is_conditional() {
        let graph = graph(
            &["4.1.0", "4.1.1", "4.1.2"],
            &[(0, 1), (1, 2), (1, 2)],
            &[("4.1.0", "4.1.1", "R"), ("4.1.0", "4.1.1", "S")],
        );
        let edges: Vec<_> = graph.edges().collect();
        assert_eq!(
            edges,
            [
                (&v("4.1.1"), &v("4.1.2"), false),
                (&v("4.1.0"), &v("4.1.1"), true)
            ]
        );
        let names: Vec<String> = graph
            .risks(&v("4.1.0"), &v("4.1.1"))
            .into_iter()
            .map(|r| r.name)
            .collect();
        assert_eq!(names, ["R", "S"]);
        assert_eq!(graph.risks(&v("4.1.1"), &v("4.1.2")), BTreeSet::new());
    }

    #[test]
    fn versions_sort_by_precedence_and_build_metadata_is_no_part_of_them() {
        let graph = graph(
            &["4.10.0", "4.9.0+amd64", "4.10.0-rc.10", "4.10.0-rc.9"],
            &[],
            &[],
        );
        let versions: Vec<String> = graph
            .nodes()
            .iter()
            .map(|n| n.version.to_string())
            .collect();
        assert_eq!(versions, ["4.9.0", "4.10.0-rc.9", "4.10.0-rc.10", "4.10.0"]);
        assert!(graph.find(&v("4.9.0+other")).is_some());
        assert_eq!(
            graph.nearest(&v("4.10.0-rc.9+x")),
            (Some(&v("4.9.0")), Some(&v("4.10.0-rc.10")))
        );
        assert_eq!(graph.nearest(&v("5.0.0")), (Some(&v("4.10.0")), None));
    }

    #[test]
    fn build_metadata_does_not_lose_edges() {
        let graph = graph(
            &["4.1.0+amd64", "4.1.1+amd64"],
            &[(0, 1)],
            &[("4.1.0", "4.1.1+amd64", "R")],
        );
        assert_eq!(
            graph.edges().collect::<Vec<_>>(),
            [(&v("4.1.0"), &v("4.1.1"), true)]
        );
    }

    #[test]
    fn node_without_a_usable_payload_is_set_aside_with_its_edges() {
        let mut document = document(
            &["4.1.2", "4.1.1", "4.1.0", "x"],
            &[(2, 1), (1, 0), (2, 0), (3, 0)],
            &[("4.1.1", "4.1.2", "R")],
        );
        document["nodes"][1]["payload"] = json!("quay.io/a/b:4.1.1");
        let graph = parse(&document).unwrap();
        assert_eq!(
            graph.edges().collect::<Vec<_>>(),
            [(&v("4.1.0"), &v("4.1.2"), false)]
        );
        let set_aside: Vec<_> = graph
            .unreadable()
            .iter()
            .map(|u| u.version.clone())
            .collect();
        assert_eq!(set_aside, [None, Some(v("4.1.1"))]);
        assert_eq!(
            graph.unreadable()[1].reason,
            "its payload `quay.io/a/b:4.1.1` is not named by digest"
        );
    }

    #[test]
    fn null_lists_unknown_fields_and_odd_metadata_are_read() {
        let document = json!({"nodes": [{"version": "4.1.0", "payload": payload("4.1.0"), "metadata": {"a": 1, "b": "c"}, "z": [[]]}],
            "edges": null, "conditionalEdges": null, "more": {}});
        let graph = parse(&document).unwrap();
        assert_eq!(
            graph.nodes()[0].metadata,
            BTreeMap::from([("b".to_owned(), "c".to_owned())])
        );
        let empty = parse(&json!({"version": 1, "nodes": null, "edges": []})).unwrap();
        assert_eq!(empty.nodes(), []);
    }

    #[test]
    fn hostile_graphs_are_errors() {
        let error = |document: serde_json::Value| parse(&document).unwrap_err().to_string();
        let mut out = document(&["4.1.0"], &[(0, 7)], &[]);
        assert_eq!(
            error(out.clone()),
            "has an edge from node 0 to node 7, but only 1 nodes"
        );
        out["edges"] = json!([[0, -1]]);
        assert!(error(out.clone()).starts_with("cannot be read"));
        out["edges"] = json!([[0]]);
        assert!(error(out.clone()).starts_with("cannot be read"));
        out["edges"] = json!([[0, u64::MAX]]);
        assert!(error(out).contains("only 1 nodes"));
        assert!(error(document(&["4.1.0+a", "4.1.0+b"], &[], &[])).contains("names 4.1.0 twice"));
        assert!(error(json!({})).contains("nodes"));
        assert!(error(json!([])).starts_with("cannot be read"));
        let deep = format!("{{\"nodes\":[],\"x\":{}", "[".repeat(1 << 20));
        assert!(Graph::parse(deep.as_bytes()).is_err());
        let many = format!(
            "{{\"nodes\":[{}]}}",
            vec!["{\"version\":\"x\"}"; MAX_NODES + 1].join(",")
        );
        assert!(
            Graph::parse(many.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("more than 50000 entries")
        );
        assert!(matches!(
            Graph::parse(&vec![b' '; MAX_GRAPH_BYTES + 1]),
            Err(GraphError::TooLarge { .. })
        ));
    }

    proptest::proptest! {
        #[test]
        fn broken_graphs_do_not_panic(at in 0_usize..2048, byte: u8) {
            let document = document(&["4.1.0", "4.1.1"], &[(0, 1)], &[("4.1.0", "4.1.1", "R")]);
            let mut bytes = document.to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(graph) = Graph::parse(&bytes) {
                let edges: Vec<_> = graph.edges().collect();
                proptest::prop_assert!(edges.iter().all(|(a, b, _)| graph.find(a).is_some() && graph.find(b).is_some()));
            }
        }
    }
}

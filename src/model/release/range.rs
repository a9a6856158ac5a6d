//! What one channel stanza means in that channel's graph.

use semver::Version;

use super::{
    graph::{Graph, Node},
    path::{ConditionalStep, PathError, near, path},
    plain, shown,
};
use crate::model::imageset::Channel;

/// What a channel stanza comes to.
pub(super) struct Chosen {
    /// The versions, ascending; never empty.
    pub(super) versions: Vec<Version>,
    /// The conditional updates that a shortest path goes over.
    pub(super) conditional: Vec<ConditionalStep>,
    /// What was asked for and cannot be had though the rest can, as clauses.
    pub(super) unresolved: Vec<String>,
    /// What may not be what was meant, as clauses.
    pub(super) warnings: Vec<String>,
}

/// Why a channel stanza comes to nothing, as a clause after the channel's name.
#[derive(Debug, thiserror::Error)]
pub(super) enum RangeError {
    #[error(
        "the update service knows no release in it; check the channel's name, and that the channel has this architecture"
    )]
    Empty,
    #[error("it holds no {0}{1}; ask for a version that it holds")]
    Exactly(Version, String),
    #[error("it holds no release {0}{1}; widen the range")]
    Nothing(String, String),
    #[error("{0}")]
    Path(Box<PathError>),
}

/// Chooses the releases that a channel stanza means.
///
/// | stanza | releases |
/// |---|---|
/// | no bounds | the channel's latest |
/// | `minVersion` | from there to the latest |
/// | `maxVersion` | from the first to there |
/// | both | all between, also those of earlier minor versions that the channel holds |
/// | `full` | as if the bounds that are not written were the first and the latest |
/// | `shortestPath` | the shortest update path between the ends of the above |
///
/// A bound that the channel does not hold is only a bound. Where nothing lies within the bounds oc-mirror chooses nothing and
/// says nothing; here it is an error, as is a single version (`minVersion` = `maxVersion`) that is not there.
pub(super) fn choose(
    channel: &Channel,
    graph: &Graph,
    allow_conditional: bool,
) -> Result<Chosen, RangeError> {
    let latest = graph.nodes().last().ok_or(RangeError::Empty)?;
    let bounds = Bounds::of(channel, &latest.version);
    let nodes = graph.nodes().iter();
    let nodes: Vec<&Node> = nodes.filter(|n| bounds.hold(&n.version)).collect();
    let (Some(first), Some(last)) = (nodes.first(), nodes.last()) else {
        return Err(bounds.nothing(graph));
    };
    let (first, last) = (&first.version, &last.version);
    let mut chosen = Chosen {
        versions: nodes.iter().map(|n| n.version.clone()).collect(),
        conditional: Vec::new(),
        unresolved: Vec::new(),
        warnings: Vec::new(),
    };
    if channel.shortest_path {
        let path = path(&[graph], first, last, allow_conditional)
            .map_err(|error| RangeError::Path(Box::new(error)))?;
        chosen.warnings.extend(bounds.moved(first, last));
        chosen.versions = path.versions;
        chosen.conditional = path.conditional;
    } else {
        chosen.warnings.extend(wide(channel, first, last));
    }
    let ends = channel.shortest_path.then_some((first, last));
    unreadable(graph, &bounds, ends, &mut chosen);
    Ok(chosen)
}

/// The lowest and the highest version wanted; nothing where that is open.
struct Bounds {
    low: Option<Version>,
    high: Option<Version>,
}

impl Bounds {
    fn of(channel: &Channel, latest: &Version) -> Self {
        let low = channel.min_version.as_ref().map(plain);
        let high = channel.max_version.as_ref().map(plain);
        if low.is_none() && high.is_none() && !channel.full {
            // The high end stays open: a newer release that cannot be read is then missed, not passed over.
            return Bounds {
                low: Some(latest.clone()),
                high: None,
            };
        }
        Bounds { low, high }
    }

    fn hold(&self, version: &Version) -> bool {
        self.low.as_ref().is_none_or(|low| version >= low)
            && self.high.as_ref().is_none_or(|high| version <= high)
    }

    fn nothing(&self, graph: &Graph) -> RangeError {
        let (below, _) = self.low.as_ref().map_or((None, None), |v| graph.nearest(v));
        let (_, above) = self
            .high
            .as_ref()
            .map_or((None, None), |v| graph.nearest(v));
        let near = near(&below.cloned(), &above.cloned());
        match (&self.low, &self.high) {
            (Some(low), Some(high)) if low == high => RangeError::Exactly(low.clone(), near),
            (Some(low), Some(high)) => RangeError::Nothing(format!("from {low} to {high}"), near),
            (Some(low), None) => RangeError::Nothing(format!("from {low} on"), near),
            (None, Some(high)) => RangeError::Nothing(format!("up to {high}"), near),
            (None, None) => RangeError::Empty,
        }
    }

    /// Says where a path begins or ends elsewhere than was written.
    fn moved(&self, first: &Version, last: &Version) -> Vec<String> {
        let begins = self.low.as_ref().filter(|low| *low != first);
        let ends = self.high.as_ref().filter(|high| *high != last);
        let begins = begins.map(|low| {
            format!("it holds no {low}, so the path begins at the next version, {first}")
        });
        let ends = ends.map(|high| {
            format!("it holds no {high}, so the path ends at the last version before, {last}")
        });
        begins.into_iter().chain(ends).collect()
    }
}

/// Warns, as oc-mirror does, where an EUS channel's range holds minor versions that an EUS update passes through quickly.
fn wide(channel: &Channel, first: &Version, last: &Version) -> Option<String> {
    let minors = last.minor.saturating_sub(first.minor);
    (channel.name.starts_with("eus-") && minors >= 2).then(|| {
        format!(
            "its range from {first} to {last} holds every release of {} minor versions; an update between extended support releases needs few of them, which `shortestPath: true` chooses",
            minors + 1
        )
    })
}

/// Reports releases within the bounds whose payload cannot be used; of a path only its ends are asked for.
fn unreadable(
    graph: &Graph,
    bounds: &Bounds,
    ends: Option<(&Version, &Version)>,
    chosen: &mut Chosen,
) {
    for node in graph.unreadable() {
        let reason = shown(&node.reason);
        match &node.version {
            None => chosen
                .warnings
                .push(format!("a release of it is left out: {reason}")),
            Some(version) if !bounds.hold(version) => {}
            Some(version) if ends.is_some_and(|(low, high)| version > low && version < high) => {}
            Some(version) => chosen
                .unresolved
                .push(format!("{version} is not to be had: {reason}")),
        }
    }
}

//! The update path across several channels.
//!
//! Where an image set names several channels, the path from its lowest to its highest version is mirrored too, as with
//! oc-mirror. oc-mirror walks from the latest release of one minor version to the latest of the next, so it passes the end
//! where the latest of an earlier minor version is newer than it, mirrors releases beyond a channel's `maxVersion` that no
//! path needs, fails on an EUS channel since there is none for odd minor versions, and takes a missing step for a warning.
//! Here the path is looked for over the updates of all named channels together, which is what a cluster sees that is moved
//! from channel to channel; only where that fails are the channels of the minor versions between asked for as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use semver::Version;

use super::{
    graph::Graph,
    path::{Path, PathError, path},
    select::{GraphKey, Graphs},
};

/// More minor versions than this between two channels are a mistake, not a path.
const MAX_MINORS: u64 = 40;

/// What looking for a path across channels comes to.
pub enum Across {
    /// The path, and the graphs it was found in, those of the named channels first.
    Found(Path, Vec<(GraphKey, Arc<Graph>)>),
    /// There is none: a sentence without a full stop, which also names channels between that could not be read.
    None(String),
    /// These graphs are needed to know.
    Needs(BTreeSet<GraphKey>),
}

/// Looks for a path between two versions over the graphs of the named channels, then over those between them too.
///
/// `low` and `high` are the channels of the two versions; the channels between them are of the same kinds (`stable`, `eus`).
pub fn across(
    named: &[GraphKey],
    (low, from): (&GraphKey, &Version),
    (high, to): (&GraphKey, &Version),
    graphs: &Graphs,
    allow_conditional: bool,
) -> Across {
    let mut found = good(named.iter(), graphs);
    if let Ok(path) = way(&found, from, to, false) {
        return Across::Found(path, found);
    }
    let between = between((low, from), (high, to));
    let between: BTreeSet<GraphKey> = between.into_iter().filter(|k| !named.contains(k)).collect();
    let missing: BTreeSet<GraphKey> = between
        .iter()
        .filter(|key| !graphs.contains_key(key))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Across::Needs(missing);
    }
    found.extend(good(between.iter(), graphs));
    match way(&found, from, to, allow_conditional) {
        Ok(path) => Across::Found(path, found),
        Err(error) => Across::None(format!("{error}{}", unread(&between, graphs))),
    }
}

fn way(
    graphs: &[(GraphKey, Arc<Graph>)],
    from: &Version,
    to: &Version,
    allow_conditional: bool,
) -> Result<Path, PathError> {
    let graphs: Vec<&Graph> = graphs.iter().map(|(_, graph)| graph.as_ref()).collect();
    path(&graphs, from, to, allow_conditional)
}

fn good<'a>(
    keys: impl Iterator<Item = &'a GraphKey>,
    graphs: &Graphs,
) -> Vec<(GraphKey, Arc<Graph>)> {
    keys.filter_map(|key| match graphs.get(key) {
        Some(Ok(graph)) => Some((key.clone(), graph.clone())),
        _ => None,
    })
    .collect()
}

/// Says which channels between could not be looked at, since a path may lead through them.
fn unread(between: &BTreeSet<GraphKey>, graphs: &Graphs) -> String {
    let failed: BTreeMap<&str, &str> = between
        .iter()
        .filter_map(|key| match graphs.get(key) {
            Some(Err(reason)) => Some((key.channel.as_str(), reason.as_str())),
            _ => None,
        })
        .collect();
    failed
        .iter()
        .map(|(channel, reason)| {
            format!("; {channel}, which may lead on, could not be read: {reason}")
        })
        .collect()
}

/// Returns the channels of the minor versions between two, of the kinds of both ends.
fn between(
    (low, from): (&GraphKey, &Version),
    (high, to): (&GraphKey, &Version),
) -> BTreeSet<GraphKey> {
    let kinds = [low, high].map(|key| kind(&key.channel));
    if from.major != to.major || to.minor.saturating_sub(from.minor) > MAX_MINORS {
        return BTreeSet::new();
    }
    let minors = from.minor.saturating_add(1)..to.minor;
    minors
        .flat_map(|minor| kinds.iter().flatten().map(move |kind| (kind, minor)))
        .map(|(kind, minor)| GraphKey {
            channel: format!("{kind}-{}.{minor}", from.major),
            ..low.clone()
        })
        .collect()
}

/// Returns `stable` of `stable-4.13`; nothing where the name does not end in a minor version.
fn kind(channel: &str) -> Option<&str> {
    let (kind, version) = channel.rsplit_once('-')?;
    let (major, minor) = version.split_once('.')?;
    let number = |text: &str| text.parse::<u64>().is_ok();
    (number(major) && number(minor)).then_some(kind)
}

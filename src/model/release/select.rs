//! Which releases the `platform` stanza of an image set means.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use semver::Version;
use serde::{Deserialize, Serialize};

pub use super::path::ConditionalStep;
use super::{
    across::{Across, across},
    graph::Graph,
    range::choose,
};
use crate::model::{
    image::Reference,
    imageset::{ChannelType, PlatformSpec},
};

/// Names a graph of an update service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GraphKey {
    /// Which update service.
    pub channel_type: ChannelType,
    /// The channel (`stable-4.17`).
    pub channel: String,
    /// The architecture in the update service's words (`amd64`, `multi`).
    pub arch: String,
}

impl fmt::Display for GraphKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel {} for {}", self.channel, self.arch)
    }
}

/// The graphs that are known: read, or why not (a clause).
pub type Graphs = BTreeMap<GraphKey, Result<Arc<Graph>, String>>;

/// What the site allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether a path may lead over updates with known risks.
    pub allow_conditional: bool,
}

/// The releases of an image set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Lowest version first, then by architecture; one entry a version and architecture.
    pub releases: Vec<Release>,
    /// What was asked for and is not among them.
    pub unresolved: Vec<Unresolved>,
    /// The conditional updates that the chosen paths lead over, lowest first.
    pub conditional: Vec<ConditionalStep>,
    /// What may not be what was meant, as sentences.
    pub warnings: Vec<String>,
}

/// One release for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The version, without build metadata.
    pub version: Version,
    /// The channel it was found in: the first in the order written that holds it.
    pub channel: String,
    /// Whose release.
    pub channel_type: ChannelType,
    /// The architecture in the update service's words.
    pub arch: String,
    /// The payload image, by digest.
    pub image: Reference,
}

/// Something that was asked for and could not be found out or does not exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unresolved {
    /// What it is (`channel stable-4.13 for amd64`).
    pub subject: String,
    /// Why, and what to do: a sentence that reads well after the subject and a colon.
    pub reason: String,
}

/// Selects the releases that a `platform` stanza means, or returns the graphs that are needed to know.
///
/// See `range.rs` for what a channel stanza means and [`super::across`] for what several channels add. One bad channel
/// fails itself only (with oc-mirror it fails the run). With `platform.release` there is nothing to select: the payload is
/// named, and channels beside it are passed over with a warning, as oc-mirror passes over them without one.
pub fn select(
    spec: &PlatformSpec,
    graphs: &Graphs,
    options: Options,
) -> Result<Selection, BTreeSet<GraphKey>> {
    let mut draft = Draft::default();
    if spec.release.is_some() {
        if !spec.channels.is_empty() {
            draft.warnings.push(
                "`platform.release` names the one release that is mirrored, so `platform.channels` is not looked at; remove one of the two".to_owned(),
            );
        }
        return draft.finish();
    }
    let archs: BTreeSet<&str> = spec.update_architectures().into_iter().collect();
    for arch in archs {
        Pass {
            arch,
            spec,
            graphs,
            options,
        }
        .run(&mut draft);
    }
    draft.finish()
}

/// A selection in the making.
#[derive(Default)]
struct Draft {
    releases: BTreeMap<(Version, String), Release>,
    unresolved: BTreeSet<Unresolved>,
    conditional: BTreeSet<ConditionalStep>,
    warnings: Vec<String>,
    missing: BTreeSet<GraphKey>,
}

impl Draft {
    fn add(&mut self, key: &GraphKey, graph: &Graph, version: &Version) {
        let Some(node) = graph.find(version) else {
            return;
        };
        let release = Release {
            version: version.clone(),
            channel: key.channel.clone(),
            channel_type: key.channel_type,
            arch: key.arch.clone(),
            image: node.payload.clone(),
        };
        let known = self
            .releases
            .entry((version.clone(), key.arch.clone()))
            .or_insert_with(|| release.clone());
        if known.image.digest != release.image.digest {
            let warning = format!(
                "{key}: it says that {version} is {}, but {} says {}, which is taken; one of the two is wrong",
                release.image, known.channel, known.image
            );
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    fn unresolved(&mut self, subject: String, reason: String) {
        self.unresolved.insert(Unresolved { subject, reason });
    }

    fn finish(self) -> Result<Selection, BTreeSet<GraphKey>> {
        if !self.missing.is_empty() {
            return Err(self.missing);
        }
        Ok(Selection {
            releases: self.releases.into_values().collect(),
            unresolved: self.unresolved.into_iter().collect(),
            conditional: self.conditional.into_iter().collect(),
            warnings: self.warnings,
        })
    }
}

/// The lowest and the highest release that a channel stanza came to.
struct Ends {
    key: GraphKey,
    low: Version,
    high: Version,
}

/// The selection for one architecture.
struct Pass<'a> {
    arch: &'a str,
    spec: &'a PlatformSpec,
    graphs: &'a Graphs,
    options: Options,
}

impl Pass<'_> {
    fn run(&self, draft: &mut Draft) {
        let mut ends = Vec::new();
        for channel in &self.spec.channels {
            let key = GraphKey {
                channel_type: channel.channel_type,
                channel: channel.name.clone(),
                arch: self.arch.to_owned(),
            };
            match self.graphs.get(&key) {
                None => {
                    draft.missing.insert(key);
                }
                Some(Err(reason)) => draft.unresolved(key.to_string(), reason.clone()),
                Some(Ok(graph)) => ends.extend(self.channel(channel, key, graph, draft)),
            }
        }
        // The path across needs all ends; while graphs are missing it is not known which those are.
        if draft.missing.is_empty() {
            self.across(&ends, draft);
        }
    }

    fn channel(
        &self,
        channel: &crate::model::imageset::Channel,
        key: GraphKey,
        graph: &Graph,
        draft: &mut Draft,
    ) -> Option<Ends> {
        let chosen = match choose(channel, graph, self.options.allow_conditional) {
            Ok(chosen) => chosen,
            Err(error) => {
                draft.unresolved(key.to_string(), error.to_string());
                return None;
            }
        };
        for version in &chosen.versions {
            draft.add(&key, graph, version);
        }
        draft.conditional.extend(chosen.conditional);
        for reason in chosen.unresolved {
            draft.unresolved(key.to_string(), reason);
        }
        let warnings = chosen.warnings.into_iter();
        draft
            .warnings
            .extend(warnings.map(|w| format!("{key}: {w}")));
        let (low, high) = (chosen.versions.first()?, chosen.versions.last()?);
        Some(Ends {
            low: low.clone(),
            high: high.clone(),
            key,
        })
    }

    /// Adds the path across channels. OKD's channels are left out, as in oc-mirror: each holds all minor versions.
    fn across(&self, ends: &[Ends], draft: &mut Draft) {
        let ends: Vec<&Ends> = ends
            .iter()
            .filter(|e| e.key.channel_type == ChannelType::Ocp)
            .collect();
        let low = ends.iter().min_by_key(|e| &e.low);
        // Of equal ones the first written counts on both sides.
        let high = ends.iter().rev().max_by_key(|e| &e.high);
        let (Some(low), Some(high)) = (low, high) else {
            return;
        };
        if ends.len() < 2 {
            return;
        }
        let named: Vec<GraphKey> = ends.iter().map(|e| e.key.clone()).collect();
        let (from, to) = ((&low.key, &low.low), (&high.key, &high.high));
        match across(&named, from, to, self.graphs, self.options.allow_conditional) {
            Across::Needs(missing) => draft.missing.extend(missing),
            Across::None(reason) => draft.unresolved(
                format!(
                    "update path from {} to {} for {}",
                    low.key.channel, high.key.channel, self.arch
                ),
                format!("{reason}; channels between which no cluster is to be updated belong in image sets of their own"),
            ),
            Across::Found(path, graphs) => {
                for version in &path.versions {
                    for (key, graph) in &graphs {
                        draft.add(key, graph, version);
                    }
                }
                draft.conditional.extend(path.conditional);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        imageset::Channel,
        release::fixture::{graph, payload, v},
    };

    fn channel(name: &str) -> Channel {
        Channel {
            name: name.to_owned(),
            channel_type: ChannelType::Ocp,
            min_version: None,
            max_version: None,
            shortest_path: false,
            full: false,
        }
    }

    fn ranged(name: &str, min: &str, max: &str) -> Channel {
        let bound = |text: &str| (!text.is_empty()).then(|| v(text));
        Channel {
            min_version: bound(min),
            max_version: bound(max),
            ..channel(name)
        }
    }

    fn shortest(name: &str, min: &str, max: &str) -> Channel {
        Channel {
            shortest_path: true,
            ..ranged(name, min, max)
        }
    }

    fn spec(channels: &[Channel]) -> PlatformSpec {
        PlatformSpec {
            channels: channels.to_vec(),
            ..PlatformSpec::default()
        }
    }

    fn key(channel: &str) -> GraphKey {
        GraphKey {
            channel_type: ChannelType::Ocp,
            channel: channel.to_owned(),
            arch: "amd64".to_owned(),
        }
    }

    fn graphs<const N: usize>(named: [(&str, Graph); N]) -> Graphs {
        named
            .into_iter()
            .map(|(name, graph)| (key(name), Ok(Arc::new(graph))))
            .collect()
    }

    fn chosen(selection: &Selection) -> Vec<String> {
        selection
            .releases
            .iter()
            .map(|r| r.version.to_string())
            .collect()
    }

    fn run(channels: &[Channel], graphs: &Graphs) -> Selection {
        select(&spec(channels), graphs, Options::default()).unwrap()
    }

    fn reasons(selection: &Selection) -> Vec<String> {
        selection
            .unresolved
            .iter()
            .map(|u| format!("{}: {}", u.subject, u.reason))
            .collect()
    }

    /// A channel with two minor versions and a pre-release.
    fn two_minors() -> Graphs {
        graphs([(
            "stable-4.2",
            graph(
                &["4.1.0", "4.1.5", "4.2.0-rc.1", "4.2.0", "4.2.3"],
                &[(0, 1), (1, 3), (3, 4)],
                &[],
            ),
        )])
    }

    #[test]
    fn nothing_is_known_before_the_graphs_are() {
        let mut spec = spec(&[channel("stable-4.1"), channel("stable-4.2")]);
        spec.architectures = vec!["arm64".to_owned(), "amd64".to_owned(), "arm64".to_owned()];
        let needed = select(&spec, &Graphs::new(), Options::default()).unwrap_err();
        let expected: Vec<String> = needed.iter().map(ToString::to_string).collect();
        assert_eq!(
            expected,
            [
                "channel stable-4.1 for amd64",
                "channel stable-4.1 for arm64",
                "channel stable-4.2 for amd64",
                "channel stable-4.2 for arm64"
            ]
        );
    }

    #[test]
    fn stanza_without_bounds_is_the_latest_only() {
        let selection = run(&[channel("stable-4.2")], &two_minors());
        let expected = Release {
            version: v("4.2.3"),
            channel: "stable-4.2".to_owned(),
            channel_type: ChannelType::Ocp,
            arch: "amd64".to_owned(),
            image: payload("4.2.3").parse().unwrap(),
        };
        assert_eq!(
            selection,
            Selection {
                releases: vec![expected],
                ..Selection::default()
            }
        );
    }

    #[test]
    fn bounds_are_inclusive_and_need_not_be_in_the_channel() {
        let graphs = two_minors();
        let versions = |min, max| chosen(&run(&[ranged("stable-4.2", min, max)], &graphs));
        assert_eq!(
            versions("4.1.1", ""),
            ["4.1.5", "4.2.0-rc.1", "4.2.0", "4.2.3"]
        );
        assert_eq!(versions("", "4.1.9"), ["4.1.0", "4.1.5"]);
        assert_eq!(versions("4.1.5", "4.2.0"), ["4.1.5", "4.2.0-rc.1", "4.2.0"]);
        assert_eq!(versions("4.2.0+x", "4.2.0"), ["4.2.0"]);
        let full = Channel {
            full: true,
            ..channel("stable-4.2")
        };
        assert_eq!(chosen(&run(&[full], &graphs)).len(), 5);
        let full = Channel {
            full: true,
            ..ranged("stable-4.2", "4.2.0", "")
        };
        assert_eq!(chosen(&run(&[full], &graphs)), ["4.2.0", "4.2.3"]);
    }

    #[test]
    fn single_version_that_is_not_there_is_unresolved_with_the_nearest() {
        let selection = run(&[ranged("stable-4.2", "4.1.3", "4.1.3")], &two_minors());
        assert_eq!(chosen(&selection), [""; 0]);
        assert_eq!(
            reasons(&selection),
            [
                "channel stable-4.2 for amd64: it holds no 4.1.3; the nearest versions are 4.1.0 and 4.1.5; ask for a version that it holds"
            ]
        );
    }

    #[test]
    fn range_without_releases_is_unresolved_with_the_nearest() {
        let reason =
            |min, max| reasons(&run(&[ranged("stable-4.2", min, max)], &two_minors())).join("");
        assert!(reason("4.3.0", "").ends_with(
            "it holds no release from 4.3.0 on; the nearest version is 4.2.3; widen the range"
        ));
        assert!(reason("", "4.0.9").ends_with(
            "it holds no release up to 4.0.9; the nearest version is 4.1.0; widen the range"
        ));
        assert!(
            reason("4.1.1", "4.1.2")
                .contains("from 4.1.1 to 4.1.2; the nearest versions are 4.1.0 and 4.1.5")
        );
    }

    #[test]
    fn one_bad_channel_fails_itself_only() {
        let mut graphs = two_minors();
        graphs.insert(
            key("fast-4.3"),
            Err("the update service answered 503".to_owned()),
        );
        graphs.insert(key("stable-4.9"), Ok(Arc::new(graph(&[], &[], &[]))));
        let selection = run(
            &[
                channel("fast-4.3"),
                channel("stable-4.2"),
                channel("stable-4.9"),
            ],
            &graphs,
        );
        assert_eq!(chosen(&selection), ["4.2.3"]);
        assert_eq!(
            reasons(&selection),
            [
                "channel fast-4.3 for amd64: the update service answered 503",
                "channel stable-4.9 for amd64: the update service knows no release in it; check the channel's name, and that the channel has this architecture",
            ]
        );
    }

    #[test]
    fn shortest_path_takes_the_path_and_says_where_a_bound_moved() {
        let graphs = two_minors();
        let selection = run(&[shortest("stable-4.2", "4.1.0", "4.2.3")], &graphs);
        assert_eq!(chosen(&selection), ["4.1.0", "4.1.5", "4.2.0", "4.2.3"]);
        assert_eq!(selection.warnings, [""; 0]);
        let selection = run(&[shortest("stable-4.2", "4.1.1", "4.2.2")], &graphs);
        assert_eq!(chosen(&selection), ["4.1.5", "4.2.0"]);
        assert_eq!(
            selection.warnings,
            [
                "channel stable-4.2 for amd64: it holds no 4.1.1, so the path begins at the next version, 4.1.5",
                "channel stable-4.2 for amd64: it holds no 4.2.2, so the path ends at the last version before, 4.2.0",
            ]
        );
        let selection = run(&[shortest("stable-4.2", "", "4.2.0")], &graphs);
        assert_eq!(chosen(&selection), ["4.1.0", "4.1.5", "4.2.0"]);
    }

    #[test]
    fn no_shortest_path_chooses_nothing_and_says_how_far_one_gets() {
        let graphs = two_minors();
        let selection = run(&[shortest("stable-4.2", "4.1.0", "4.2.0-rc.1")], &graphs);
        assert_eq!(chosen(&selection), [""; 0]);
        assert_eq!(
            reasons(&selection),
            [
                "channel stable-4.2 for amd64: no update path leads from 4.1.0 to 4.2.0-rc.1: from 4.1.0 one gets as far as 4.1.5, and no other version leads there; ask for less"
            ]
        );
    }

    #[test]
    fn conditional_updates_are_used_where_allowed_and_told() {
        let graphs = graphs([(
            "c-4.1",
            graph(&["4.1.0", "4.1.1"], &[], &[("4.1.0", "4.1.1", "R")]),
        )]);
        let spec = spec(&[shortest("c-4.1", "4.1.0", "4.1.1")]);
        let refused = select(&spec, &graphs, Options::default()).unwrap();
        assert!(refused.releases.is_empty());
        assert!(reasons(&refused)[0].contains("`conditional_updates: true`"));
        let allowed = select(
            &spec,
            &graphs,
            Options {
                allow_conditional: true,
            },
        )
        .unwrap();
        assert_eq!(chosen(&allowed), ["4.1.0", "4.1.1"]);
        assert_eq!(allowed.conditional.len(), 1);
        assert_eq!(allowed.conditional[0].risks[0].name, "R");
    }

    #[test]
    fn several_channels_add_the_path_between_them() {
        let graphs = graphs([
            (
                "stable-4.1",
                graph(&["4.1.0", "4.1.1", "4.1.2"], &[(0, 1), (1, 2)], &[]),
            ),
            (
                "stable-4.2",
                graph(
                    &["4.1.1", "4.2.0", "4.2.1", "4.2.2"],
                    &[(0, 1), (1, 3)],
                    &[],
                ),
            ),
        ]);
        let selection = run(
            &[
                ranged("stable-4.1", "4.1.0", "4.1.0"),
                channel("stable-4.2"),
            ],
            &graphs,
        );
        assert_eq!(chosen(&selection), ["4.1.0", "4.1.1", "4.2.0", "4.2.2"]);
        let channels: Vec<&str> = selection
            .releases
            .iter()
            .map(|r| r.channel.as_str())
            .collect();
        assert_eq!(
            channels,
            ["stable-4.1", "stable-4.1", "stable-4.2", "stable-4.2"]
        );
        assert_eq!(reasons(&selection), [""; 0]);
    }

    #[test]
    fn channels_between_are_asked_for_only_where_the_named_ones_do_not_do() {
        let ask = [ranged("eus-4.2", "4.2.0", "4.2.0"), channel("stable-4.4")];
        let mut graphs = graphs([
            ("eus-4.2", graph(&["4.2.0"], &[], &[])),
            ("stable-4.4", graph(&["4.3.1", "4.4.0"], &[(0, 1)], &[])),
        ]);
        let needed = select(&spec(&ask), &graphs, Options::default()).unwrap_err();
        assert_eq!(needed, BTreeSet::from([key("eus-4.3"), key("stable-4.3")]));
        graphs.insert(key("eus-4.3"), Ok(Arc::new(graph(&[], &[], &[]))));
        let mut away = graphs.clone();
        graphs.insert(
            key("stable-4.3"),
            Ok(Arc::new(graph(
                &["4.2.0", "4.3.0", "4.3.1"],
                &[(0, 1), (1, 2)],
                &[],
            ))),
        );
        let selection = run(&ask, &graphs);
        assert_eq!(chosen(&selection), ["4.2.0", "4.3.0", "4.3.1", "4.4.0"]);
        assert_eq!(selection.releases[1].channel, "stable-4.3");
        away.insert(key("stable-4.3"), Err("no route".to_owned()));
        let selection = run(&ask, &away);
        assert_eq!(chosen(&selection), ["4.2.0", "4.4.0"]);
        assert_eq!(
            reasons(&selection),
            [
                "update path from eus-4.2 to stable-4.4 for amd64: no update path leads from 4.2.0 to 4.4.0: nothing leads on from 4.2.0, \
              and the lowest version that leads there is 4.3.1; ask for less, or begin there; stable-4.3, which may lead on, could not be \
              read: no route; channels between which no cluster is to be updated belong in image sets of their own"
            ]
        );
    }

    #[test]
    fn channels_that_lie_absurdly_far_apart_ask_for_nothing() {
        let graphs = graphs([
            ("stable-4.2", graph(&["4.2.0"], &[], &[])),
            ("stable-4.999999999", graph(&["4.999999999.0"], &[], &[])),
        ]);
        let selection = run(
            &[channel("stable-4.2"), channel("stable-4.999999999")],
            &graphs,
        );
        assert_eq!(
            (selection.releases.len(), selection.unresolved.len()),
            (2, 1)
        );
    }

    #[test]
    fn okd_channels_are_selected_without_a_path_across() {
        let okd = |name: &str| Channel {
            channel_type: ChannelType::Okd,
            ..channel(name)
        };
        let mut graphs = Graphs::new();
        for (name, version) in [
            ("stable-4", "4.5.0-0.okd-2020-10-15-235428"),
            ("next-4", "4.6.0-okd-scos.1"),
        ] {
            let key = GraphKey {
                channel_type: ChannelType::Okd,
                ..key(name)
            };
            graphs.insert(key, Ok(Arc::new(graph(&[version], &[], &[]))));
        }
        let selection = run(&[okd("stable-4"), okd("next-4")], &graphs);
        assert_eq!(
            chosen(&selection),
            ["4.5.0-0.okd-2020-10-15-235428", "4.6.0-okd-scos.1"]
        );
        assert_eq!(reasons(&selection), [""; 0]);
    }

    #[test]
    fn platforms_mean_the_multi_payload_once_and_architectures_one_pass_each() {
        let mut spec = spec(&[channel("c-4.1")]);
        spec.architectures = vec!["amd64".to_owned(), "arm64".to_owned()];
        let of = |arch: &str| GraphKey {
            arch: arch.to_owned(),
            ..key("c-4.1")
        };
        let graphs: Graphs = ["amd64", "arm64", "multi"]
            .map(|arch| (of(arch), Ok(Arc::new(graph(&["4.1.0"], &[], &[])))))
            .into();
        let archs = |spec: &PlatformSpec| -> Vec<String> {
            let selection = select(spec, &graphs, Options::default()).unwrap();
            selection.releases.into_iter().map(|r| r.arch).collect()
        };
        assert_eq!(archs(&spec), ["amd64", "arm64"]);
        spec.platforms = vec![
            "linux/amd64".parse().unwrap(),
            "linux/arm64".parse().unwrap(),
        ];
        assert_eq!(archs(&spec), ["multi"]);
    }

    #[test]
    fn named_release_needs_no_graph() {
        let mut spec = spec(&[channel("stable-4.2")]);
        spec.release = Some(payload("4.2.0").parse().unwrap());
        let selection = select(&spec, &Graphs::new(), Options::default()).unwrap();
        assert_eq!((selection.releases.len(), selection.warnings.len()), (0, 1));
    }

    #[test]
    fn release_whose_payload_cannot_be_used_is_unresolved_where_it_was_asked_for() {
        let mut document = crate::model::release::fixture::document(
            &["4.1.0", "4.1.1", "4.1.2"],
            &[(0, 1), (1, 2), (0, 2)],
            &[],
        );
        document["nodes"][2]["payload"] = "quay.io/a/b:4.1.2".into();
        let graphs = graphs([(
            "c-4.1",
            Graph::parse(document.to_string().as_bytes()).unwrap(),
        )]);
        let run = |channel| {
            let selection = run(&[channel], &graphs);
            (chosen(&selection), selection.unresolved.len())
        };
        // The newest of all is meant, and it is not the newest that can be read.
        assert_eq!(run(channel("c-4.1")), (vec!["4.1.1".to_owned()], 1));
        assert_eq!(run(ranged("c-4.1", "4.1.0", "4.1.1")).1, 0);
        assert_eq!(run(ranged("c-4.1", "4.1.0", "")).1, 1);
        assert_eq!(run(shortest("c-4.1", "4.1.0", "4.1.1")).1, 0);
        assert_eq!(run(shortest("c-4.1", "4.1.0", "4.1.2")).1, 1);
    }

    #[test]
    fn channels_that_disagree_about_a_payload_are_told() {
        let mut other = crate::model::release::fixture::document(&["4.1.0"], &[], &[]);
        other["nodes"][0]["payload"] = payload("another").into();
        let graphs = graphs([
            (
                "fast-4.1",
                Graph::parse(other.to_string().as_bytes()).unwrap(),
            ),
            ("stable-4.1", graph(&["4.1.0"], &[], &[])),
        ]);
        let selection = run(&[channel("stable-4.1"), channel("fast-4.1")], &graphs);
        assert_eq!(selection.releases[0].image.to_string(), payload("4.1.0"));
        assert_eq!(selection.warnings.len(), 1, "{:?}", selection.warnings);
    }

    fn any_version() -> impl Strategy<Value = String> {
        ("4\\.[0-3]\\.[0-4]", prop::option::of("-rc\\.[0-2]"))
            .prop_map(|(v, pre)| v + pre.as_deref().unwrap_or(""))
    }

    proptest! {
        #[test]
        fn range_is_what_comparing_every_version_finds(
            versions in prop::collection::btree_set(any_version(), 1..12),
            min in prop::option::of(any_version()),
            max in prop::option::of(any_version()),
            full: bool,
        ) {
            let names: Vec<&str> = versions.iter().map(String::as_str).collect();
            let graphs = graphs([("c-4.1", graph(&names, &[], &[]))]);
            let stanza = Channel { full, ..ranged("c-4.1", min.as_deref().unwrap_or(""), max.as_deref().unwrap_or("")) };
            let selection = run(&[stanza], &graphs);
            let mut all: Vec<Version> = names.iter().map(|n| v(n)).collect();
            all.sort_by(Version::cmp_precedence);
            let expected: Vec<String> = match (&min, &max, full) {
                (None, None, false) => all.last().into_iter().map(ToString::to_string).collect(),
                _ => all
                    .iter()
                    .filter(|x| min.as_ref().is_none_or(|min| x.cmp_precedence(&v(min)).is_ge()))
                    .filter(|x| max.as_ref().is_none_or(|max| x.cmp_precedence(&v(max)).is_le()))
                    .map(ToString::to_string)
                    .collect(),
            };
            prop_assert_eq!(chosen(&selection), expected.clone());
            prop_assert_eq!(selection.unresolved.is_empty(), !expected.is_empty());
        }
    }
}

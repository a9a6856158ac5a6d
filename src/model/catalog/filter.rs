//! What an image set keeps of one package.
//!
//! Source of the rules: oc-mirror v2's `catalog-filter`; where it drops in silence what is not there, this is a refusal.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use semver::Version;
use serde::{Deserialize, Serialize};

use super::{
    document::Entry,
    graph::Graph,
    pack::{Channel, Package},
};
use crate::{
    model::imageset,
    yaml::suggest::{nearest, suggest},
};

/// What is wanted of a package.
#[derive(Debug, Clone, Copy)]
pub enum Rule<'a> {
    /// The head of every channel.
    Heads,
    /// All bundles.
    Full,
    /// What an image set says of it; all bundles where the flag is set.
    Named(&'a imageset::Package, bool),
}

/// Why a bundle is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is the head of a channel.
    Head,
    /// Its version is in the range asked for.
    Range,
    /// All bundles are wanted.
    Full,
    /// It is not asked for, and without it the updates of what is would break.
    Between,
    /// Another bundle cannot be installed without it.
    Dependency {
        /// The other bundle's package.
        package: String,
        /// The other bundle.
        bundle: String,
        /// What it requires.
        requires: String,
    },
}

/// What is kept of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Of each channel that is kept, the entries by their place.
    pub channels: BTreeMap<String, BTreeSet<usize>>,
    /// The default channel.
    pub default_channel: String,
    /// Why each bundle is kept.
    pub bundles: BTreeMap<String, Why>,
    /// Bundles that would be kept and cannot be mirrored, and why.
    pub stalled: BTreeMap<String, String>,
    /// What may not be what was meant.
    pub warnings: Vec<String>,
}

/// Applies a rule to a package.
///
/// # Errors
///
/// Nothing of the package can be had as it is asked for: a sentence with the remedy.
pub fn filter(package: &Package, rule: Rule<'_>) -> Result<Kept, String> {
    if package.definitions.len() > 1 || package.definitions.is_empty() {
        return Err(format!(
            "the catalog has {} documents of the schema olm.package for `{}`, and one is expected; tell the catalog's publisher",
            package.definitions.len(),
            package.name
        ));
    }
    let doubled = package.channels.windows(2).find(|w| w[0].name == w[1].name);
    let doubled = doubled.map(|w| ("channel", &w[0].name));
    let bundles = package.bundles.windows(2).find(|w| w[0].name == w[1].name);
    if let Some((what, name)) = doubled.or(bundles.map(|w| ("bundle", &w[0].name))) {
        return Err(format!(
            "the catalog has the {what} `{name}` of `{}` twice; tell the catalog's publisher",
            package.name
        ));
    }
    let mut filter = Filter {
        package,
        kept: Kept::default(),
    };
    filter.channels(rule)?;
    filter.default_channel(rule)?;
    Ok(filter.kept)
}

struct Filter<'a> {
    package: &'a Package,
    kept: Kept,
}

/// What is wanted of a channel.
enum Wanted {
    Head,
    All,
    Range(Bounds),
}

/// Bounds of versions, both included.
#[derive(Clone)]
struct Bounds {
    min: Option<Version>,
    max: Option<Version>,
}

impl<'a> Filter<'a> {
    fn channels(&mut self, rule: Rule<'_>) -> Result<(), String> {
        let package = self.package;
        if package.channels.is_empty() {
            return Err(format!("the package `{}` has no channels", package.name));
        }
        let (named, full) = match rule {
            Rule::Heads => (None, false),
            Rule::Full => (None, true),
            Rule::Named(named, full) => (Some(named), full),
        };
        let outer = match named {
            Some(p) => self.bounds(&p.min_version, &p.max_version, p.min_bundle.as_deref())?,
            None => None,
        };
        let wanted = |bounds: Option<Bounds>| match bounds.or_else(|| outer.clone()) {
            Some(bounds) => Wanted::Range(bounds),
            None if full => Wanted::All,
            None => Wanted::Head,
        };
        let channels = named.map(|p| p.channels.as_slice()).unwrap_or_default();
        for asked in channels {
            let channel = self.channel(&asked.name)?;
            let bounds = self.bounds(
                &asked.min_version,
                &asked.max_version,
                asked.min_bundle.as_deref(),
            )?;
            self.keep(channel, &wanted(bounds), true)?;
        }
        if channels.is_empty() {
            for channel in &package.channels {
                self.keep(channel, &wanted(None), false)?;
            }
        }
        match (self.kept.channels.is_empty(), &outer) {
            (false, _) => Ok(()),
            (true, Some(bounds)) if self.kept.stalled.is_empty() => {
                Err(self.nothing_in(bounds, None))
            }
            (true, _) => Err(self.nothing_usable()),
        }
    }

    fn channel(&self, name: &str) -> Result<&'a Channel, String> {
        self.package.channel(name).ok_or_else(|| {
            let names: Vec<&str> = self
                .package
                .channels
                .iter()
                .map(|c| c.name.as_str())
                .collect();
            format!(
                "the package `{}` has no channel `{name}`; {}",
                self.package.name,
                suggest(name, &names)
            )
        })
    }

    /// The bounds that are written; a lowest bundle stands for its version.
    fn bounds(
        &self,
        min: &Option<Version>,
        max: &Option<Version>,
        lowest: Option<&str>,
    ) -> Result<Option<Bounds>, String> {
        let mut min = min.clone();
        if let Some(name) = lowest {
            let bundle = self.package.bundle(name);
            let version = bundle.and_then(|bundle| version(&bundle.facts.version));
            min = Some(version.ok_or_else(|| {
                let names: Vec<&str> = self
                    .package
                    .bundles
                    .iter()
                    .map(|b| b.name.as_str())
                    .collect();
                let hint = match nearest(name, &names) {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => "write `minVersion` instead".to_owned(),
                };
                format!(
                    "the package `{}` has no bundle `{name}`; {hint}",
                    self.package.name
                )
            })?);
        }
        Ok((min.is_some() || max.is_some()).then(|| Bounds {
            min,
            max: max.clone(),
        }))
    }

    /// Keeps what is wanted of a channel. One that is left empty is dropped, unless it was asked for by name.
    fn keep(&mut self, channel: &Channel, wanted: &Wanted, by_name: bool) -> Result<(), String> {
        let refused = |error: &dyn std::fmt::Display| {
            format!(
                "the channel `{}` of `{}` {error}, which OLM refuses; tell the catalog's publisher",
                channel.name, self.package.name
            )
        };
        let graph = Graph::new(&channel.entries).map_err(|error| refused(&error))?;
        let versions = self.versions(channel)?;
        let usable = |at: usize| self.unusable(graph.name(at)).is_none();
        let chosen: BTreeSet<usize> = match wanted {
            Wanted::Head => graph.chain().iter().copied().collect(),
            Wanted::All => (0..channel.entries.len()).collect(),
            Wanted::Range(bounds) => bounds.choose(&graph, &versions, usable),
        };
        let mut entries = graph.peeled(chosen.clone(), usable);
        let stalled: Vec<(String, String)> = match wanted {
            // Of a chain only its head is wanted: what stands above the first usable one is in its way.
            Wanted::Head => {
                let head = graph
                    .chain()
                    .iter()
                    .find(|at| entries.contains(at))
                    .copied();
                entries = head.into_iter().collect();
                let above = graph.chain().iter().take_while(|at| Some(**at) != head);
                above
                    .filter_map(|at| self.stalls(graph.name(*at)))
                    .collect()
            }
            Wanted::All => {
                let all = chosen.iter();
                all.filter_map(|at| self.stalls(graph.name(*at))).collect()
            }
            Wanted::Range(bounds) => (0..versions.len())
                .filter(|at| entries.contains(at) || bounds.hold(versions[*at].as_ref()))
                .filter_map(|at| self.stalls(graph.name(at)))
                .collect(),
        };
        let none_in_range = stalled.is_empty();
        self.kept.stalled.extend(stalled);
        if entries.is_empty() {
            return match wanted {
                _ if !by_name => Ok(()),
                Wanted::Range(bounds) if none_in_range => {
                    Err(self.nothing_in(bounds, Some(channel)))
                }
                _ => Err(self.nothing_usable()),
            };
        }
        let kept: Vec<Entry> = entries
            .iter()
            .map(|at| channel.entries[*at].clone())
            .collect();
        Graph::new(&kept).map_err(|error| refused(&format!("{error} when it is filtered")))?;
        if let Wanted::Range(bounds) = wanted {
            self.warn_of_range(channel, bounds, &entries, &versions);
        }
        for at in &entries {
            let why = match wanted {
                Wanted::Head => Why::Head,
                Wanted::All => Why::Full,
                Wanted::Range(bounds) if bounds.hold(versions[*at].as_ref()) => Why::Range,
                Wanted::Range(_) => Why::Between,
            };
            let known = self.kept.bundles.entry(graph.name(*at).to_owned());
            let known = known.or_insert_with(|| why.clone());
            *known = why.min(known.clone());
        }
        self.kept.channels.insert(channel.name.clone(), entries);
        Ok(())
    }

    /// The versions of a channel's entries; nothing for one that is no version.
    fn versions(&self, channel: &Channel) -> Result<Vec<Option<Version>>, String> {
        let of = |entry: &Entry| match self.package.bundle(&entry.name) {
            Some(bundle) => Ok(version(&bundle.facts.version)),
            None => Err(format!(
                "the channel `{}` of `{}` names the bundle `{}`, which is not in the catalog; tell the catalog's publisher",
                channel.name, self.package.name, entry.name
            )),
        };
        channel.entries.iter().map(of).collect()
    }

    fn unusable(&self, bundle: &str) -> Option<&str> {
        self.package.bundle(bundle)?.facts.unusable.as_deref()
    }

    fn stalls(&self, bundle: &str) -> Option<(String, String)> {
        let why = self.unusable(bundle)?;
        Some((bundle.to_owned(), why.to_owned()))
    }

    /// Names what is kept though it is out of range, and what is out of range only since it comes before the bound's release.
    fn warn_of_range(
        &mut self,
        channel: &Channel,
        bounds: &Bounds,
        entries: &BTreeSet<usize>,
        versions: &[Option<Version>],
    ) {
        let outside: Vec<&str> = entries
            .iter()
            .filter(|at| !bounds.hold(versions[**at].as_ref()))
            .map(|at| channel.entries[*at].name.as_str())
            .collect();
        let place = format!("the channel `{}` of `{}`", channel.name, self.package.name);
        if !outside.is_empty() {
            self.kept.warnings.push(format!(
                "{place} keeps {} beside the range {bounds}, since the updates in it lead over them",
                listed(&outside)
            ));
        }
        let early: Vec<&str> = (0..versions.len())
            .filter(|at| !entries.contains(at))
            .filter(|at| bounds.just_before(versions[*at].as_ref()))
            .map(|at| channel.entries[at].name.as_str())
            .collect();
        if let (false, Some(min)) = (early.is_empty(), &bounds.min) {
            self.kept.warnings.push(format!(
                "{place} leaves out {}: pre-releases come before {min}; `minVersion: {min}-0` takes them",
                listed(&early)
            ));
        }
    }

    /// Says that nothing is in a range, with what would be.
    fn nothing_in(&self, bounds: &Bounds, channel: Option<&Channel>) -> String {
        let name = &self.package.name;
        let place = match channel {
            Some(channel) => format!("the channel `{}` of `{name}`", channel.name),
            None => format!("the package `{name}`"),
        };
        let inside = |bundle: &str| {
            channel.is_none_or(|channel| channel.entries.iter().any(|e| e.name == bundle))
        };
        let bundles = self.package.bundles.iter().filter(|b| inside(&b.name));
        let mut versions: Vec<Version> =
            bundles.filter_map(|b| version(&b.facts.version)).collect();
        versions.sort();
        let early = versions.iter().find(|v| bounds.just_before(Some(v)));
        let hint = match (early, &bounds.min, bounds.pinned()) {
            (Some(early), Some(min), _) => {
                format!("{early} comes before {min}; `minVersion: {min}-0` takes it")
            }
            (None, _, Some(pin)) => match around(&versions, pin) {
                Some(near) => format!("the nearest is {near}"),
                None => "no bundle in it has a version".to_owned(),
            },
            _ => match (versions.first(), versions.last()) {
                (Some(first), Some(last)) => format!("its versions are from {first} to {last}"),
                _ => "no bundle in it has a version".to_owned(),
            },
        };
        format!("{place} has no bundle {bounds}; {hint}")
    }

    fn nothing_usable(&self) -> String {
        let of = |(bundle, why): (&String, &String)| format!("{bundle}: {why}");
        let reasons: Vec<String> = self.kept.stalled.iter().map(of).collect();
        format!(
            "no bundle of `{}` that is asked for can be mirrored ({})",
            self.package.name,
            reasons.join("; ")
        )
    }

    fn default_channel(&mut self, rule: Rule<'_>) -> Result<(), String> {
        let kept: Vec<&str> = self.kept.channels.keys().map(String::as_str).collect();
        let name = &self.package.name;
        let original = self.package.default_channel();
        let asked = match rule {
            Rule::Named(named, _) => named.default_channel.as_deref(),
            _ => None,
        };
        let default = match (asked, kept.as_slice()) {
            (Some(asked), kept) if !kept.contains(&asked) => {
                return Err(format!(
                    "`defaultChannel: {asked}` names no channel that is kept of `{name}`; {}",
                    suggest(asked, kept)
                ));
            }
            (Some(asked), _) => asked,
            (None, kept) if kept.contains(&original) => original,
            (None, [only]) => {
                self.kept.warnings.push(format!(
                    "the default channel `{original}` of `{name}` is not kept, and `{only}`, the only one that is, takes its place"
                ));
                only
            }
            (None, kept) => {
                return Err(format!(
                    "the default channel `{original}` of `{name}` is not kept; say which of `{}` takes its place, with `defaultChannel`",
                    kept.join("`, `")
                ));
            }
        };
        self.kept.default_channel = default.to_owned();
        Ok(())
    }
}

impl Bounds {
    fn hold(&self, version: Option<&Version>) -> bool {
        let Some(version) = version else {
            return false;
        };
        let above = |min: &Version| version.cmp_precedence(min) != Ordering::Less;
        let below = |max: &Version| version.cmp_precedence(max) != Ordering::Greater;
        self.min.as_ref().is_none_or(above) && self.max.as_ref().is_none_or(below)
    }

    /// Whether a version is below the lower bound only since it is a pre-release of it.
    fn just_before(&self, version: Option<&Version>) -> bool {
        let (Some(version), Some(min)) = (version, &self.min) else {
            return false;
        };
        let numbers = |v: &Version| (v.major, v.minor, v.patch);
        min.pre.is_empty() && !version.pre.is_empty() && numbers(version) == numbers(min)
    }

    /// Returns the one version that the bounds leave.
    fn pinned(&self) -> Option<&Version> {
        let (min, max) = (self.min.as_ref()?, self.max.as_ref()?);
        (min.cmp_precedence(max) == Ordering::Equal).then_some(min)
    }

    /// The range rule, for what can be mirrored; or of a version that is pinned, just that.
    fn choose(
        &self,
        graph: &Graph<'_>,
        versions: &[Option<Version>],
        usable: impl Fn(usize) -> bool,
    ) -> BTreeSet<usize> {
        let wanted = |at: usize| self.hold(versions[at].as_ref()) && usable(at);
        if self.pinned().is_none() {
            return graph.between(wanted);
        }
        let links = graph.chain().iter().copied().filter(|at| wanted(*at));
        let links: BTreeSet<usize> = links.collect();
        if !links.is_empty() {
            let mut chosen = graph.between(|at| links.contains(&at));
            // Builds of the same version that the link skips.
            let builds = (0..versions.len()).filter(|at| wanted(*at) && !graph.is_link(*at));
            chosen.extend(builds.filter(|at| graph.skips(&links, *at)));
            return chosen;
        }
        let asides = (0..versions.len()).filter(|at| wanted(*at));
        asides
            .max_by_key(|at| versions[*at].clone())
            .into_iter()
            .collect()
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(version) = self.pinned() {
            return write!(f, "of version {version}");
        }
        match (&self.min, &self.max) {
            (Some(min), Some(max)) => write!(f, "from {min} to {}", open(max)),
            (Some(min), None) => write!(f, "from {min} on"),
            (None, Some(max)) => write!(f, "up to {}", open(max)),
            (None, None) => f.write_str("of any version"),
        }
    }
}

/// An upper bound that was written with fewer numbers has the largest in their place.
fn open(max: &Version) -> String {
    match (max.minor, max.patch) {
        (u64::MAX, _) => format!("{}.x", max.major),
        (_, u64::MAX) => format!("{}.{}.x", max.major, max.minor),
        _ => max.to_string(),
    }
}

/// Reads a bundle's version.
pub(super) fn version(text: &str) -> Option<Version> {
    Version::parse(text).ok()
}

/// The lowest version above, or else the highest.
fn around<'v>(sorted: &'v [Version], pin: &Version) -> Option<&'v Version> {
    sorted.iter().find(|v| *v > pin).or(sorted.last())
}

/// Names some, and counts the rest.
fn listed(names: &[&str]) -> String {
    match names {
        [a, b, c, d, rest @ ..] if !rest.is_empty() => {
            format!("{a}, {b}, {c}, {d} and {} more", rest.len())
        }
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests;

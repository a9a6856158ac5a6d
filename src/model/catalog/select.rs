//! What an image set keeps of its catalogs: every package by its rule, then what the bundles of named packages require.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek},
};

use serde::{Deserialize, Serialize};

use super::{
    depend::Resolver,
    filter::{Kept, Rule, Why, filter},
    graph::Graph,
    pack::{Catalog, Directory, PackError, Package},
};
use crate::{model::imageset::Operator, yaml::suggest::nearest};

/// A catalog that is read by part.
pub trait Source {
    /// Returns what it holds, by package.
    fn directory(&self) -> &Directory;
    /// Reads the index of a package; `None` where there is no such package.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn package(&mut self, name: &str) -> Result<Option<Package>, PackError>;
}

impl<R: Read + Seek> Source for Catalog<R> {
    fn directory(&self) -> &Directory {
        Catalog::directory(self)
    }

    fn package(&mut self, name: &str) -> Result<Option<Package>, PackError> {
        Catalog::package(self, name)
    }
}

/// A catalog of an image set, and what is wanted of it.
pub struct Asked<'a, S> {
    /// What the image set says.
    pub operator: &'a Operator,
    /// The catalog; nothing where it could not be had.
    pub source: Option<&'a mut S>,
}

/// What is kept of a catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// Whether the catalog is wanted as it is: nothing is built.
    pub original: bool,
    /// The packages by name.
    pub packages: BTreeMap<String, SelectedPackage>,
    /// Packages that cannot be had as they are asked for, and why.
    pub problems: BTreeMap<String, String>,
    /// What may not be what was meant.
    pub warnings: Vec<String>,
    /// What bundles require and no catalog of the image set has.
    pub unsatisfied: BTreeSet<Unsatisfied>,
}

/// What is kept of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedPackage {
    /// The default channel.
    pub default_channel: String,
    /// The channels by name.
    pub channels: BTreeMap<String, SelectedChannel>,
    /// The bundles by name.
    pub bundles: BTreeMap<String, SelectedBundle>,
    /// Bundles that would be kept and cannot be mirrored, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stalled: BTreeMap<String, String>,
}

/// What is kept of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedChannel {
    /// The bundle that nothing in the channel is an update of.
    pub head: String,
    /// The bundles.
    pub entries: BTreeSet<String>,
}

/// A bundle that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedBundle {
    /// Its version as written.
    pub version: String,
    /// Why it is kept.
    pub why: Why,
}

/// Something that a bundle requires and no catalog of the image set has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unsatisfied {
    /// The bundle's package.
    pub package: String,
    /// The bundle.
    pub bundle: String,
    /// What it requires.
    pub requires: String,
    /// Why it cannot be had.
    pub reason: String,
}

/// Applies an image set's rules to its catalogs. The answer has one item for each that was asked about.
///
/// # Errors
///
/// A catalog cannot be read.
pub fn select<S: Source>(asked: &mut [Asked<'_, S>]) -> Result<Vec<Selected>, PackError> {
    let mut found = Vec::with_capacity(asked.len());
    let mut roots = BTreeSet::new();
    for (at, one) in asked.iter_mut().enumerate() {
        let selected = by_rule(one)?;
        let followed = !one.operator.packages.is_empty() && !one.operator.skip_dependencies;
        if followed {
            for (name, package) in &selected.packages {
                let bundles = package.bundles.keys();
                roots.extend(bundles.map(|bundle| (at, name.clone(), bundle.clone())));
            }
        }
        found.push(selected);
    }
    Resolver::new(asked, found, roots).resolve()
}

/// What a catalog's own rule keeps, without dependencies.
fn by_rule<S: Source>(asked: &mut Asked<'_, S>) -> Result<Selected, PackError> {
    let operator = asked.operator;
    let mut selected = Selected {
        original: operator.full && operator.packages.is_empty(),
        ..Selected::default()
    };
    let Some(source) = &mut asked.source else {
        return Ok(selected);
    };
    let all: Vec<String> = source.directory().packages.keys().cloned().collect();
    let rules: Vec<(&str, Rule<'_>)> = match operator.packages.as_slice() {
        [] if operator.full => all.iter().map(|name| (name.as_str(), Rule::Full)).collect(),
        [] => all
            .iter()
            .map(|name| (name.as_str(), Rule::Heads))
            .collect(),
        named => named
            .iter()
            .map(|package| (package.name.as_str(), Rule::Named(package, operator.full)))
            .collect(),
    };
    for (name, rule) in rules {
        let Some(package) = source.package(name)? else {
            let problem = no_package(name, &all);
            selected.problems.insert(name.to_owned(), problem);
            continue;
        };
        match filter(&package, rule) {
            Ok(mut kept) => {
                selected.warnings.append(&mut kept.warnings);
                selected
                    .packages
                    .insert(name.to_owned(), described(&package, kept));
            }
            Err(problem) => {
                selected.problems.insert(name.to_owned(), problem);
            }
        }
    }
    Ok(selected)
}

/// Says that a catalog has no such package, with the nearest that it has.
pub fn no_package(name: &str, all: &[String]) -> String {
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let longer = || {
        let longer = names.iter().copied().filter(|n| n.starts_with(name));
        longer.min_by_key(|n| n.len()).filter(|_| name.len() > 2)
    };
    let hint = match nearest(name, &names).or_else(longer) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "`imagesetd catalog list` lists those it has".to_owned(),
    };
    format!("the catalog has no package `{name}`; {hint}")
}

/// What is kept of a package, by names.
fn described(package: &Package, kept: Kept) -> SelectedPackage {
    let channels = kept.channels.into_iter().filter_map(|(name, entries)| {
        let entries: BTreeSet<String> = {
            let all = &package.channel(&name)?.entries;
            entries.iter().map(|at| all[*at].name.clone()).collect()
        };
        let head = head(package, &name, &entries)?;
        Some((name, SelectedChannel { head, entries }))
    });
    let version = |bundle: &str| {
        let bundle = package.bundle(bundle);
        bundle.map(|b| b.facts.version.clone()).unwrap_or_default()
    };
    SelectedPackage {
        default_channel: kept.default_channel,
        channels: channels.collect(),
        bundles: kept
            .bundles
            .into_iter()
            .map(|(name, why)| {
                let version = version(&name);
                (name, SelectedBundle { version, why })
            })
            .collect(),
        stalled: kept.stalled,
    }
}

/// The head of what is kept of a channel; `None` where OLM would refuse that.
pub(super) fn head(package: &Package, channel: &str, kept: &BTreeSet<String>) -> Option<String> {
    let all = package.channel(channel)?.entries.iter();
    let entries: Vec<_> = all.filter(|e| kept.contains(&e.name)).cloned().collect();
    let graph = Graph::new(&entries).ok()?;
    let head = graph.chain().first()?;
    Some(graph.name(*head).to_owned())
}

#[cfg(test)]
mod tests;

//! What bundles require: found in the catalogs of the image set, and kept too.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    document::{Gvk, Requirement},
    filter::{Why, version},
    graph::Graph,
    pack::{Bundle, Channel, PackError, Package},
    range::Range,
    select::{Asked, Selected, SelectedBundle, SelectedChannel, Source, Unsatisfied, head},
};

/// How many bundles may be looked at in all, so that a catalog made for it cannot keep anybody busy. The requirements of all of
/// the largest real catalog take some hundred thousand.
const MOST_LOOKS: u64 = 20_000_000;

/// How many requirements of a catalog are told that nothing satisfies; nobody reads more.
const MOST_UNSATISFIED: usize = 1000;

/// A bundle: the catalog's place, the package, the name.
type Root = (usize, String, String);

/// Follows what bundles require until nothing new is kept.
pub(super) struct Resolver<'r, 'a, S> {
    asked: &'r mut [Asked<'a, S>],
    selected: Vec<Selected>,
    queue: BTreeSet<Root>,
    known: BTreeMap<(usize, String), Option<Rc<Package>>>,
    looks: u64,
}

/// A bundle that would satisfy a requirement.
struct Pull {
    catalog: usize,
    package: Rc<Package>,
    channel: String,
    bundle: String,
}

/// Why a requirement is not met; or what stopped the search.
enum Unmet {
    Reason(String),
    Failed(PackError),
}

impl From<PackError> for Unmet {
    fn from(error: PackError) -> Self {
        Unmet::Failed(error)
    }
}

impl<'r, 'a, S: Source> Resolver<'r, 'a, S> {
    /// Begins with what the rules keep, and the bundles whose requirements count.
    pub(super) fn new(
        asked: &'r mut [Asked<'a, S>],
        selected: Vec<Selected>,
        roots: BTreeSet<Root>,
    ) -> Self {
        Resolver {
            asked,
            selected,
            queue: roots,
            known: BTreeMap::new(),
            looks: MOST_LOOKS,
        }
    }

    /// Keeps what is required, and what that requires.
    pub(super) fn resolve(mut self) -> Result<Vec<Selected>, PackError> {
        while let Some((catalog, package, bundle)) = self.queue.pop_first() {
            let Some(index) = self.package(catalog, &package)? else {
                continue;
            };
            let facts = index.bundle(&bundle).map(|found| &found.facts);
            let requires = facts
                .map(|facts| facts.requires.clone())
                .unwrap_or_default();
            for requirement in requires {
                match self.plan(&requirement, catalog) {
                    Ok(pulls) => {
                        for pull in pulls {
                            let why = Why::Dependency {
                                package: package.clone(),
                                bundle: bundle.clone(),
                                requires: requirement.to_string(),
                            };
                            self.keep(&pull, &why);
                        }
                    }
                    Err(Unmet::Failed(error)) => return Err(error),
                    Err(Unmet::Reason(reason)) => {
                        let unsatisfied = &mut self.selected[catalog].unsatisfied;
                        if unsatisfied.len() < MOST_UNSATISFIED {
                            unsatisfied.insert(Unsatisfied {
                                package: package.clone(),
                                bundle: bundle.clone(),
                                requires: requirement.to_string(),
                                reason,
                            });
                        }
                    }
                }
            }
        }
        Ok(self.selected)
    }

    fn package(&mut self, catalog: usize, name: &str) -> Result<Option<Rc<Package>>, PackError> {
        let key = (catalog, name.to_owned());
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let read = match &mut self.asked[catalog].source {
            Some(source) => source.package(name)?,
            None => None,
        };
        let read = read.map(Rc::new);
        self.known.insert(key, read.clone());
        Ok(read)
    }

    /// Returns what has to be kept for a requirement; nothing where it is met already.
    fn plan(&mut self, requirement: &Requirement, own: usize) -> Result<Vec<Pull>, Unmet> {
        if self.is_met(requirement)? {
            return Ok(Vec::new());
        }
        match requirement {
            Requirement::Package { name, range } => self.plan_package(name, range, own),
            Requirement::Gvk(gvk) => self.plan_gvk(gvk, own),
            Requirement::All(each) => {
                let mut pulls = Vec::new();
                for one in each {
                    pulls.append(&mut self.plan(one, own)?);
                }
                Ok(pulls)
            }
            Requirement::Any(each) => {
                let mut reasons = Vec::new();
                for one in each {
                    match self.plan(one, own) {
                        Err(Unmet::Reason(reason)) => reasons.push(reason),
                        planned => return planned,
                    }
                }
                Err(Unmet::Reason(reasons.join("; ")))
            }
            // What must not be installed need not be there; whether it is installed is the cluster's business.
            Requirement::Not(_) => Ok(Vec::new()),
            Requirement::Unknown(_) => Err(Unmet::Reason(
                "what it says is evaluated by clusters only; name the packages it means".to_owned(),
            )),
        }
    }

    /// Counts how much was looked at.
    fn spend(&mut self, looks: usize) -> Result<(), Unmet> {
        self.looks = self.looks.saturating_sub(looks as u64);
        match self.looks {
            0 => Err(Unmet::Reason(
                "the catalogs require more of one another than can be followed".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Whether what is kept meets a requirement.
    fn is_met(&mut self, requirement: &Requirement) -> Result<bool, Unmet> {
        Ok(match requirement {
            Requirement::Package { name, range } => {
                let Some(range) = Range::parse(range) else {
                    return Ok(false);
                };
                let kept = self.selected.iter().filter_map(|s| s.packages.get(name));
                self.spend(1 + kept.map(|package| package.bundles.len()).sum::<usize>())?;
                let kept = self.selected.iter().filter_map(|s| s.packages.get(name));
                let mut versions = kept
                    .flat_map(|package| package.bundles.values())
                    .filter_map(|bundle| version(&bundle.version));
                versions.any(|version| range.contains(&version))
            }
            Requirement::Gvk(gvk) => {
                for catalog in 0..self.selected.len() {
                    self.spend_on_directory(catalog)?;
                    for name in self.bringing(catalog, gvk) {
                        if self.keeps(catalog, &name, gvk)? {
                            return Ok(true);
                        }
                    }
                }
                false
            }
            Requirement::All(each) => {
                for one in each {
                    if !self.is_met(one)? {
                        return Ok(false);
                    }
                }
                true
            }
            Requirement::Any(each) => {
                for one in each {
                    if self.is_met(one)? {
                        return Ok(true);
                    }
                }
                false
            }
            Requirement::Not(_) => true,
            Requirement::Unknown(_) => false,
        })
    }

    /// Counts a look through all packages of a catalog.
    fn spend_on_directory(&mut self, catalog: usize) -> Result<(), Unmet> {
        let source = self.asked[catalog].source.as_ref();
        let packages = source.map_or(0, |source| source.directory().packages.len());
        self.spend(1 + packages)
    }

    /// The packages of a catalog of which a bundle brings a kind of object.
    fn bringing(&self, catalog: usize, gvk: &Gvk) -> Vec<String> {
        let source = self.asked[catalog].source.as_ref();
        let packages = source.map(|source| source.directory().packages.iter());
        packages
            .into_iter()
            .flatten()
            .filter(|(_, listed)| listed.provides.binary_search(gvk).is_ok())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Whether a bundle that is kept of a package brings a kind of object.
    fn keeps(&mut self, catalog: usize, name: &str, gvk: &Gvk) -> Result<bool, Unmet> {
        if !self.selected[catalog].packages.contains_key(name) {
            return Ok(false);
        }
        let Some(package) = self.package(catalog, name)? else {
            return Ok(false);
        };
        self.spend(package.bundles.len())?;
        let kept = &self.selected[catalog].packages[name].bundles;
        let mut bringing = package.bundles.iter().filter(|b| brings(b, gvk));
        Ok(bringing.any(|bundle| kept.contains_key(&bundle.name)))
    }

    fn plan_package(&mut self, name: &str, range: &str, own: usize) -> Result<Vec<Pull>, Unmet> {
        let Some(parsed) = Range::parse(range) else {
            return Err(Unmet::Reason(format!(
                "`{}` is no range of versions; tell the bundle's publisher",
                crate::yaml::shorten(range)
            )));
        };
        let mut known = false;
        let accepts = |bundle: &Bundle| {
            let version = version(&bundle.facts.version);
            version.is_some_and(|version| parsed.contains(&version))
        };
        for catalog in self.order(own) {
            let Some(package) = self.package(catalog, name)? else {
                continue;
            };
            known = true;
            if let Some(pull) = self.candidate(catalog, &package, &accepts)? {
                return Ok(vec![pull]);
            }
        }
        Err(Unmet::Reason(match known {
            true => format!("no bundle of `{name}` that can be mirrored has a version in {range}"),
            false => format!("no catalog of the image set has the package `{name}`"),
        }))
    }

    fn plan_gvk(&mut self, gvk: &Gvk, own: usize) -> Result<Vec<Pull>, Unmet> {
        let mut places: Vec<(bool, usize, usize, String)> = Vec::new();
        for (rank, catalog) in self.order(own).into_iter().enumerate() {
            for name in self.bringing(catalog, gvk) {
                // A package that is kept already is better than one more.
                let new = !self.selected[catalog].packages.contains_key(&name);
                places.push((new, rank, catalog, name));
            }
        }
        places.sort();
        for (_, _, catalog, name) in places {
            let Some(package) = self.package(catalog, &name)? else {
                continue;
            };
            if let Some(pull) = self.candidate(catalog, &package, &|b: &Bundle| brings(b, gvk))? {
                return Ok(vec![pull]);
            }
        }
        Err(Unmet::Reason(format!(
            "no package of the image set's catalogs brings {gvk}"
        )))
    }

    /// The catalogs: the one that asks first, then in the order written.
    fn order(&self, own: usize) -> Vec<usize> {
        let others = (0..self.asked.len()).filter(|at| *at != own);
        std::iter::once(own).chain(others).collect()
    }

    /// Finds the bundle of a package that stands for a requirement: in a channel that is kept, or else in the default channel, the
    /// one nearest to the head; in other channels the highest version.
    fn candidate(
        &mut self,
        catalog: usize,
        package: &Rc<Package>,
        accepts: &dyn Fn(&Bundle) -> bool,
    ) -> Result<Option<Pull>, Unmet> {
        let selected = &self.selected[catalog];
        if selected.problems.contains_key(&package.name) || package.definitions.len() != 1 {
            return Ok(None);
        }
        let kept = selected.packages.get(&package.name).cloned();
        let kept = kept.unwrap_or_default();
        let rank = |channel: &Channel| match () {
            () if kept.default_channel == channel.name => 0,
            () if kept.channels.contains_key(&channel.name) => 1,
            () if package.default_channel() == channel.name => 2,
            () => 3,
        };
        let mut best: Option<(u32, Option<semver::Version>, &str, String)> = None;
        for channel in &package.channels {
            let rank = rank(channel);
            if best.as_ref().is_some_and(|(other, ..)| *other < rank) {
                continue;
            }
            self.spend(channel.entries.len())?;
            let already = kept.channels.get(&channel.name);
            let mut looks = usize::try_from(self.looks).unwrap_or(usize::MAX);
            let before = looks;
            let found = nearest_to_head(package, channel, already, accepts, &mut looks);
            self.spend(before - looks)?;
            let Some(found) = found else {
                continue;
            };
            let of = package.bundle(&found);
            let of = of.and_then(|bundle| version(&bundle.facts.version));
            let better = match &best {
                Some((other, best, ..)) => rank < *other || of > *best,
                None => true,
            };
            if better {
                best = Some((rank, of, &channel.name, found));
            }
        }
        Ok(best.map(|(_, _, channel, bundle)| Pull {
            catalog,
            package: Rc::clone(package),
            channel: channel.to_owned(),
            bundle,
        }))
    }

    /// Keeps a bundle, and what has to be there between it and what is kept of its channel.
    fn keep(&mut self, pull: &Pull, why: &Why) {
        let Some(channel) = pull.package.channel(&pull.channel) else {
            return;
        };
        let selected = &mut self.selected[pull.catalog];
        let name = &pull.package.name;
        let already = selected.packages.get(name);
        let already = already.and_then(|package| package.channels.get(&pull.channel));
        let Some(entries) = joined(channel, already, &pull.bundle) else {
            return;
        };
        let Some(head) = head(&pull.package, &pull.channel, &entries) else {
            return;
        };
        let kept = selected.packages.entry(name.clone()).or_default();
        if kept.channels.is_empty() {
            kept.default_channel.clone_from(&pull.channel);
        }
        for entry in &entries {
            let Some(bundle) = pull.package.bundle(entry) else {
                continue;
            };
            if kept.bundles.contains_key(entry) {
                continue;
            }
            let why = match *entry == pull.bundle {
                true => why.clone(),
                false => Why::Between,
            };
            let version = bundle.facts.version.clone();
            kept.bundles
                .insert(entry.clone(), SelectedBundle { version, why });
            self.queue
                .insert((pull.catalog, name.clone(), entry.clone()));
        }
        let channel = SelectedChannel { head, entries };
        kept.channels.insert(pull.channel.clone(), channel);
    }
}

fn brings(bundle: &Bundle, gvk: &Gvk) -> bool {
    bundle.facts.provides.binary_search(gvk).is_ok()
}

/// The bundle nearest to a channel's head that is accepted, can be mirrored and fits to what is kept; none once no `looks` are left.
fn nearest_to_head(
    package: &Package,
    channel: &Channel,
    already: Option<&SelectedChannel>,
    accepts: &dyn Fn(&Bundle) -> bool,
    looks: &mut usize,
) -> Option<String> {
    let graph = Graph::new(&channel.entries).ok()?;
    let asides = (0..channel.entries.len()).filter(|at| !graph.is_link(*at));
    let bundles = graph.chain().iter().copied().chain(asides);
    let bundles = bundles.filter_map(|at| package.bundle(graph.name(at)));
    for bundle in bundles.filter(|bundle| bundle.facts.unusable.is_none() && accepts(bundle)) {
        *looks = looks.saturating_sub(channel.entries.len());
        if *looks == 0 {
            return None;
        }
        let entries = joined(channel, already, &bundle.name);
        if entries.is_some_and(|entries| sound(package, channel, &entries)) {
            return Some(bundle.name.clone());
        }
    }
    None
}

/// Whether the entries are bundles of the catalog, and a channel that OLM takes.
fn sound(package: &Package, channel: &Channel, entries: &BTreeSet<String>) -> bool {
    entries.iter().all(|name| package.bundle(name).is_some())
        && head(package, &channel.name, entries).is_some()
}

/// What is kept of a channel when one more bundle is.
fn joined(
    channel: &Channel,
    already: Option<&SelectedChannel>,
    bundle: &str,
) -> Option<BTreeSet<String>> {
    let graph = Graph::new(&channel.entries).ok()?;
    let kept = already.into_iter().flat_map(|kept| &kept.entries);
    let names = kept.map(String::as_str).chain([bundle]);
    let entries = names.map(|name| graph.entry(name)).collect::<Option<_>>()?;
    let closed = graph.closed(&entries)?.into_iter();
    Some(closed.map(|at| graph.name(at).to_owned()).collect())
}

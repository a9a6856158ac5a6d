//! The way from one release to another over the updates of one or several channels.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use semver::Version;
use serde::{Deserialize, Serialize};

use super::{
    graph::{Graph, Risk},
    plain, shown,
};

/// The versions one goes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// From the first to the last, both included; a single one where they are the same.
    pub versions: Vec<Version>,
    /// The steps that are conditional, in the order gone.
    pub conditional: Vec<ConditionalStep>,
}

/// An update that is not recommended to everybody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConditionalStep {
    /// The version one comes from.
    pub from: Version,
    /// The version one goes to.
    pub to: Version,
    /// Why, by name.
    pub risks: Vec<Risk>,
}

impl fmt::Display for ConditionalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.risks.iter().map(|r| shown(&r.name)).collect();
        write!(f, "{} -> {} ({})", self.from, self.to, names.join(", "))
    }
}

/// Why there is no way, as a sentence without a full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// One end is not in any of the graphs.
    #[error("no {version} is there{}", near(.below, .above))]
    Absent {
        /// The version looked for.
        version: Version,
        /// The nearest version below.
        below: Option<Version>,
        /// The nearest version above.
        above: Option<Version>,
    },
    /// The end is before the start.
    #[error(
        "no update leads from {from} back to {to}, since clusters are only updated forward; swap the two"
    )]
    Backwards {
        /// The start.
        from: Version,
        /// The end.
        to: Version,
    },
    /// Nothing leads there, conditional or not.
    #[error("no update path leads from {from} to {to}: {}{}", far(.from, .reached), begin(.entry))]
    Blocked {
        /// The start.
        from: Version,
        /// The end.
        to: Version,
        /// The highest version up to the end that one gets to; the start where there is none.
        reached: Box<Version>,
        /// The lowest version from the start on that leads to the end.
        entry: Option<Box<Version>>,
    },
    /// The only ways lead over conditional updates.
    #[error(
        "an update path from {from} to {to} leads only over updates with known risks, {}; without them {}; if these risks do not concern your clusters, allow such updates by `conditional_updates: true` in the settings or by `--allow-conditional`",
        steps(.conditional), far(.from, .reached)
    )]
    OnlyConditional {
        /// The start.
        from: Version,
        /// The end.
        to: Version,
        /// The highest version up to the end that one gets to without risk; the start where there is none.
        reached: Box<Version>,
        /// The conditional updates of the shortest way.
        conditional: Vec<ConditionalStep>,
    },
}

/// Says where one would find what was looked for, after a statement.
pub(super) fn near(below: &Option<Version>, above: &Option<Version>) -> String {
    match (below, above) {
        (Some(below), Some(above)) => format!("; the nearest versions are {below} and {above}"),
        (Some(only), None) | (None, Some(only)) => format!("; the nearest version is {only}"),
        (None, None) => String::new(),
    }
}

fn far(from: &Version, reached: &Version) -> String {
    if from == reached {
        format!("nothing leads on from {from}")
    } else {
        format!("from {from} one gets as far as {reached}")
    }
}

fn begin(entry: &Option<Box<Version>>) -> String {
    match entry {
        Some(entry) => format!(
            ", and the lowest version that leads there is {entry}; ask for less, or begin there"
        ),
        None => ", and no other version leads there; ask for less".to_owned(),
    }
}

fn steps(conditional: &[ConditionalStep]) -> String {
    let steps: Vec<String> = conditional.iter().map(ToString::to_string).collect();
    steps.join(", ")
}

/// Finds the shortest way from one version to another over the updates of all graphs together.
///
/// A way without conditional updates is preferred, whatever its length; conditional ones are looked at only where
/// `allow_conditional`. Of several shortest ways it is the one with the fewest conditional updates, then the one that goes to
/// the newest version first, which is what oc-mirror's breadth-first search finds. An update that one graph calls conditional
/// is conditional. Where there is no way oc-mirror takes the two ends and says nothing; here it is an error that says how far
/// one gets.
pub fn path(
    graphs: &[&Graph],
    from: &Version,
    to: &Version,
    allow_conditional: bool,
) -> Result<Path, PathError> {
    let (from, to) = (plain(from), plain(to));
    for end in [&from, &to] {
        present(graphs, end)?;
    }
    if from > to {
        return Err(PathError::Backwards { from, to });
    }
    let free = Updates::of(graphs, false);
    if let Some(path) = free.shortest(graphs, &from, &to) {
        return Ok(path);
    }
    let all = Updates::of(graphs, true);
    let reached = |updates: &Updates<'_>| Box::new(updates.reached(&from, &to).clone());
    match all.shortest(graphs, &from, &to) {
        Some(path) if allow_conditional => Ok(path),
        Some(Path { conditional, .. }) => Err(PathError::OnlyConditional {
            reached: reached(&free),
            conditional,
            from,
            to,
        }),
        None if allow_conditional => Err(blocked(&all, from, to)),
        None => Err(blocked(&free, from, to)),
    }
}

fn blocked(updates: &Updates<'_>, from: Version, to: Version) -> PathError {
    let before_end = updates.costs(&to).into_keys();
    let entry = before_end
        .filter(|v| **v != to)
        .find(|v| **v > from)
        .map(|v| Box::new(v.clone()));
    PathError::Blocked {
        reached: Box::new(updates.reached(&from, &to).clone()),
        entry,
        from,
        to,
    }
}

/// Refuses a version that is in none of the graphs.
fn present(graphs: &[&Graph], version: &Version) -> Result<(), PathError> {
    if graphs.iter().any(|g| g.find(version).is_some()) {
        return Ok(());
    }
    let below = graphs.iter().filter_map(|g| g.nearest(version).0).max();
    let above = graphs.iter().filter_map(|g| g.nearest(version).1).min();
    Err(PathError::Absent {
        version: version.clone(),
        below: below.cloned(),
        above: above.cloned(),
    })
}

/// How dear it is to get somewhere: updates, then how many of them are conditional.
type Cost = (usize, usize);

/// The updates of several graphs together; the flag says which are conditional.
struct Updates<'a> {
    forward: BTreeMap<&'a Version, BTreeMap<&'a Version, bool>>,
    backward: BTreeMap<&'a Version, BTreeSet<&'a Version>>,
}

impl<'a> Updates<'a> {
    fn of(graphs: &[&'a Graph], with_conditional: bool) -> Self {
        let mut forward: BTreeMap<_, BTreeMap<_, bool>> = BTreeMap::new();
        for (from, to, conditional) in graphs.iter().flat_map(|g| g.edges()) {
            *forward.entry(from).or_default().entry(to).or_default() |= conditional;
        }
        if !with_conditional {
            for to in forward.values_mut() {
                to.retain(|_, conditional| !*conditional);
            }
        }
        let mut backward: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (from, to) in &forward {
            for to in to.keys() {
                backward.entry(*to).or_default().insert(*from);
            }
        }
        Updates { forward, backward }
    }

    fn shortest(&self, graphs: &[&Graph], from: &Version, to: &Version) -> Option<Path> {
        let costs = self.costs(to);
        let mut left = *costs.get(from)?;
        let mut path = Path {
            versions: vec![from.clone()],
            conditional: Vec::new(),
        };
        let mut here = from;
        while left.0 > 0 {
            let (next, conditional) = self.next(here, left, &costs)?;
            if conditional {
                path.conditional.push(conditional_step(graphs, here, next));
            }
            path.versions.push(next.clone());
            left = (left.0 - 1, left.1 - usize::from(conditional));
            here = next;
        }
        Some(path)
    }

    /// The newest version to go to from which one is left with the cost that a cheapest way has then.
    fn next(
        &self,
        here: &Version,
        left: Cost,
        costs: &BTreeMap<&Version, Cost>,
    ) -> Option<(&'a Version, bool)> {
        let onward = self.forward.get(here)?.iter().rev();
        onward
            .map(|(next, conditional)| (*next, *conditional))
            .find(|(next, conditional)| {
                costs.get(next).is_some_and(|(steps, risky)| {
                    (steps + 1, risky + usize::from(*conditional)) == left
                })
            })
    }

    /// What it costs to get to `end`, for every version that leads there.
    fn costs<'b>(&'b self, end: &'b Version) -> BTreeMap<&'b Version, Cost> {
        let mut costs = BTreeMap::from([(end, (0, 0))]);
        let mut layer = vec![end];
        while !layer.is_empty() {
            let mut before: BTreeMap<&Version, Cost> = BTreeMap::new();
            for version in layer {
                for from in self.backward.get(version).into_iter().flatten() {
                    if costs.contains_key(from) {
                        continue;
                    }
                    let conditional = self.forward.get(from).and_then(|to| to.get(version));
                    let (steps, risky) = costs.get(version).copied().unwrap_or_default();
                    let cost = (steps + 1, risky + usize::from(conditional == Some(&true)));
                    let cheapest = before.entry(from).or_insert(cost);
                    *cheapest = cost.min(*cheapest);
                }
            }
            layer = before.keys().copied().collect();
            costs.extend(before);
        }
        costs
    }

    /// The highest version up to `to` that one gets to from `from`.
    fn reached<'b>(&'b self, from: &'b Version, to: &Version) -> &'b Version {
        let mut seen = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(version) = open.pop() {
            for next in self
                .forward
                .get(version)
                .into_iter()
                .flat_map(|to| to.keys())
            {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        let up_to_end = seen.into_iter().filter(|v| *v <= to);
        up_to_end.max().unwrap_or(from)
    }
}

fn conditional_step(graphs: &[&Graph], from: &Version, to: &Version) -> ConditionalStep {
    let risks: BTreeSet<Risk> = graphs.iter().flat_map(|g| g.risks(from, to)).collect();
    ConditionalStep {
        from: from.clone(),
        to: to.clone(),
        risks: risks.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::release::fixture::{graph, v};

    fn between(graphs: &[&Graph], from: &str, to: &str, allow: bool) -> Result<Path, PathError> {
        path(graphs, &v(from), &v(to), allow)
    }

    fn versions(path: &Path) -> Vec<String> {
        path.versions.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn shortest_path_goes_to_the_newest_version_first() {
        let graph = graph(
            &["4.1.0", "4.1.1", "4.1.2", "4.1.3"],
            &[(0, 1), (0, 2), (1, 3), (2, 3)],
            &[],
        );
        let path = between(&[&graph], "4.1.0", "4.1.3", false).unwrap();
        assert_eq!(versions(&path), ["4.1.0", "4.1.2", "4.1.3"]);
    }

    #[test]
    fn path_to_itself_is_one_version() {
        let graph = graph(&["4.1.0"], &[], &[]);
        let path = between(&[&graph], "4.1.0", "4.1.0+amd64", false).unwrap();
        assert_eq!(versions(&path), ["4.1.0"]);
    }

    #[test]
    fn longer_path_without_risk_is_preferred_to_a_conditional_step() {
        let graph = graph(
            &["4.1.0", "4.1.1", "4.1.2"],
            &[(0, 1), (1, 2)],
            &[("4.1.0", "4.1.2", "R")],
        );
        let path = between(&[&graph], "4.1.0", "4.1.2", true).unwrap();
        assert_eq!(versions(&path), ["4.1.0", "4.1.1", "4.1.2"]);
        assert_eq!(path.conditional, []);
    }

    #[test]
    fn conditional_step_needs_permission_and_names_its_risks() {
        let graph = graph(
            &["4.1.0", "4.1.1", "4.1.2", "4.1.3"],
            &[(0, 1), (2, 3)],
            &[("4.1.1", "4.1.2", "Panic"), ("4.1.1", "4.1.2", "Leak")],
        );
        let error = between(&[&graph], "4.1.0", "4.1.3", false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "an update path from 4.1.0 to 4.1.3 leads only over updates with known risks, 4.1.1 -> 4.1.2 (Leak, Panic); \
             without them from 4.1.0 one gets as far as 4.1.1; if these risks do not concern your clusters, allow such \
             updates by `conditional_updates: true` in the settings or by `--allow-conditional`"
        );
        let path = between(&[&graph], "4.1.0", "4.1.3", true).unwrap();
        assert_eq!(versions(&path), ["4.1.0", "4.1.1", "4.1.2", "4.1.3"]);
        let names: Vec<&str> = path.conditional[0]
            .risks
            .iter()
            .map(|r| r.name.as_str())
            .collect();
        assert_eq!((path.conditional.len(), names), (1, vec!["Leak", "Panic"]));
    }

    #[test]
    fn edge_that_one_of_two_graphs_calls_conditional_is_conditional() {
        let free = graph(&["4.1.0", "4.1.1"], &[(0, 1)], &[]);
        let risky = graph(&["4.1.0", "4.1.1"], &[], &[("4.1.0", "4.1.1", "R")]);
        assert!(between(&[&free], "4.1.0", "4.1.1", false).is_ok());
        assert!(between(&[&free, &risky], "4.1.0", "4.1.1", false).is_err());
    }

    #[test]
    fn no_path_says_how_far_one_gets_and_where_one_could_begin() {
        let graph = graph(
            &["4.1.0", "4.1.1", "4.1.2", "4.1.3", "4.1.4"],
            &[(0, 1), (1, 4), (2, 3)],
            &[],
        );
        let text = |from, to| between(&[&graph], from, to, true).unwrap_err().to_string();
        assert_eq!(
            text("4.1.0", "4.1.3"),
            "no update path leads from 4.1.0 to 4.1.3: from 4.1.0 one gets as far as 4.1.1, and the lowest version that \
             leads there is 4.1.2; ask for less, or begin there"
        );
        assert_eq!(
            text("4.1.0", "4.1.2"),
            "no update path leads from 4.1.0 to 4.1.2: from 4.1.0 one gets as far as 4.1.1, and no other version leads \
             there; ask for less"
        );
        assert!(text("4.1.3", "4.1.4").contains("nothing leads on from 4.1.3"));
        assert!(text("4.1.3", "4.1.0").contains("swap the two"));
    }

    #[test]
    fn absent_end_is_told_with_the_nearest_versions_of_all_graphs() {
        let a = graph(&["4.1.0", "4.1.4"], &[], &[]);
        let b = graph(&["4.1.1", "4.1.5"], &[], &[]);
        let error = between(&[&a, &b], "4.1.0", "4.1.3", false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no 4.1.3 is there; the nearest versions are 4.1.1 and 4.1.4"
        );
    }

    type Pairs = Vec<(usize, usize)>;

    /// The versions, edges and conditional edges of a graph, and two of the versions.
    fn any_graph() -> impl Strategy<Value = (Vec<String>, Pairs, Pairs, usize, usize)> {
        (2..8_usize).prop_flat_map(|n| {
            let edge = (0..n, 0..n);
            let edges = || prop::collection::vec(edge.clone(), 0..14);
            let names = (0..n).map(|i| format!("4.1.{i}")).collect::<Vec<_>>();
            (Just(names), edges(), edges(), 0..n, 0..n)
        })
    }

    /// All paths without a repeated version, in the order of a search that goes to the newest first.
    fn walk(
        edges: &BTreeMap<(usize, usize), usize>,
        way: &mut Vec<usize>,
        to: usize,
        found: &mut Vec<(usize, usize, Vec<usize>)>,
    ) {
        let here = way[way.len() - 1];
        if here == to {
            let cost = way.windows(2).map(|w| edges[&(w[0], w[1])]).sum();
            found.push((way.len(), cost, way.clone()));
            return;
        }
        for next in (0..8).rev() {
            if edges.contains_key(&(here, next)) && !way.contains(&next) {
                way.push(next);
                walk(edges, way, to, found);
                way.pop();
            }
        }
    }

    proptest! {
        #[test]
        fn path_is_what_trying_all_ways_finds((names, free, risky, a, b) in any_graph()) {
            let (from, to) = (a.min(b), a.max(b));
            let conditional: Vec<_> = risky.iter().map(|&(x, y)| (names[x].as_str(), names[y].as_str(), "R")).collect();
            let names_: Vec<&str> = names.iter().map(String::as_str).collect();
            let graph = graph(&names_, &free, &conditional);
            let mut edges: BTreeMap<(usize, usize), usize> = free.iter().map(|e| (*e, 0)).collect();
            edges.extend(risky.iter().map(|e| (*e, 1)));
            let mut all = Vec::new();
            walk(&edges, &mut vec![from], to, &mut all);
            let safe: Vec<_> = all.iter().filter(|w| w.1 == 0).cloned().collect();
            for allow in [false, true] {
                let usable = if !safe.is_empty() || !allow { &safe } else { &all };
                let best = usable.iter().min_by_key(|w| (w.0, w.1));
                let expected = best.map(|w| w.2.iter().map(|&i| names[i].clone()).collect::<Vec<_>>());
                let got = between(&[&graph], &names[from], &names[to], allow);
                match (&got, &all.is_empty()) {
                    (Ok(path), _) => {
                        prop_assert_eq!(path.conditional.len(), best.map_or(0, |w| w.1));
                    }
                    (Err(PathError::OnlyConditional { .. }), false) => prop_assert!(!allow),
                    (Err(PathError::Blocked { .. }), true) => {}
                    (other, _) => prop_assert!(false, "{other:?}"),
                }
                prop_assert_eq!(got.ok().map(|p| versions(&p)), expected);
            }
        }
    }
}

//! The updates of a channel: a chain from its head down, and what the links of the chain skip.
//!
//! Source: `operator-registry`, `alpha/model`: what OLM refuses in a channel.

use std::collections::{BTreeSet, HashMap};

use super::document::Entry;

/// Why OLM would refuse a channel, as a clause after "the channel `x`".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Nothing is in it.
    #[error("has no entries")]
    Empty,
    /// A bundle is there twice.
    #[error("names `{0}` twice")]
    Twice(String),
    /// Every entry is replaced or skipped by another.
    #[error("has no head: its updates go round in a circle")]
    NoHead,
    /// Several entries are replaced by none.
    #[error("has several heads: `{}`", .0.join("`, `"))]
    Heads(Vec<String>),
    /// The chain bites its tail.
    #[error("comes back to `{0}` when its updates are followed")]
    Cycle(String),
    /// Entries that nothing leads to.
    #[error("has entries that no update leads to: `{}`", .0.join("`, `"))]
    Stranded(Vec<String>),
}

/// How many names a sentence lists.
const NAMED: usize = 5;

/// A channel's updates, found to be what OLM takes.
#[derive(Debug)]
pub struct Graph<'c> {
    entries: &'c [Entry],
    places: HashMap<&'c str, usize>,
    /// Entries from the head down along `replaces`.
    chain: Vec<usize>,
    /// Where in the chain an entry is.
    links: HashMap<usize, usize>,
    /// The links that skip an entry, the highest first.
    skippers: HashMap<usize, Vec<usize>>,
}

impl<'c> Graph<'c> {
    /// Reads the updates of a channel.
    ///
    /// # Errors
    ///
    /// OLM would refuse them.
    pub fn new(entries: &'c [Entry]) -> Result<Self, GraphError> {
        let mut places = HashMap::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            if places.insert(entry.name.as_str(), at).is_some() {
                return Err(GraphError::Twice(entry.name.clone()));
            }
        }
        let chain = chain(entries, &places, head(entries, &places)?)?;
        let links = chain.iter().enumerate().map(|(link, at)| (*at, link));
        let mut graph = Graph {
            entries,
            places,
            links: links.collect(),
            chain,
            skippers: HashMap::new(),
        };
        let mut skippers: HashMap<usize, Vec<usize>> = HashMap::new();
        for (link, at) in graph.chain.iter().enumerate() {
            for skipped in graph.skipped(*at) {
                skippers.entry(skipped).or_default().push(link);
            }
        }
        graph.skippers = skippers;
        graph.check_reached()?;
        Ok(graph)
    }

    /// Returns the entries from the head down.
    pub fn chain(&self) -> &[usize] {
        &self.chain
    }

    /// Returns the name of an entry.
    pub fn name(&self, entry: usize) -> &'c str {
        &self.entries[entry].name
    }

    /// Returns an entry by name.
    pub fn entry(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Whether an entry is in the chain.
    pub fn is_link(&self, entry: usize) -> bool {
        self.links.contains_key(&entry)
    }

    /// Returns the entries of the channel that an entry skips.
    fn skipped(&self, entry: usize) -> impl Iterator<Item = usize> + '_ {
        let skips = self.entries[entry].skips().iter();
        skips.filter_map(|name| self.entry(name))
    }

    /// The range rule: what of the channel stands for the entries that are `wanted`, in one chain with one head.
    ///
    /// For every link of the chain, count the wanted entries at or below it: itself, what it skips, and the same for all it
    /// replaces. The new head is the lowest link with the largest count; what has the count 0 stays out. What links in between
    /// skip is kept where it is wanted. Source: oc-mirror's `catalog-filter`, `filterByVersionRange`.
    pub fn between(&self, wanted: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let mut seen = vec![false; self.entries.len()];
        let mut counts = vec![0_usize; self.chain.len()];
        let mut count = 0;
        for (link, at) in self.chain.iter().enumerate().rev() {
            for entry in std::iter::once(*at).chain(self.skipped(*at)) {
                if wanted(entry) && !std::mem::replace(&mut seen[entry], true) {
                    count += 1;
                }
            }
            counts[link] = count;
        }
        if count == 0 {
            return BTreeSet::new();
        }
        let head = counts.iter().rposition(|n| *n == count).unwrap_or(0);
        let tail = counts.iter().position(|n| *n == 0);
        let links = &self.chain[head..tail.unwrap_or(self.chain.len())];
        self.with_skipped(links, wanted)
    }

    /// Links, and of what they skip those that are wanted.
    fn with_skipped(&self, links: &[usize], wanted: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let skipped = links.iter().flat_map(|at| self.skipped(*at));
        let skipped = skipped.filter(|at| !self.is_link(*at) && wanted(*at));
        skipped.chain(links.iter().copied()).collect()
    }

    /// Returns the entries that have to be there for a set of entries to be one channel: all links from the highest to the lowest.
    /// `None` where an entry cannot be reached from the chain.
    pub fn closed(&self, entries: &BTreeSet<usize>) -> Option<BTreeSet<usize>> {
        if entries.len() < 2 {
            return Some(entries.clone());
        }
        let mut links: BTreeSet<usize> = BTreeSet::new();
        let (mut low, mut high) = (usize::MAX, 0);
        let mut reach = |link: usize, low: &mut usize, high: &mut usize| {
            links.insert(link);
            *low = (*low).min(link);
            *high = (*high).max(link);
        };
        for link in entries.iter().filter_map(|at| self.links.get(at)) {
            reach(*link, &mut low, &mut high);
        }
        for aside in entries.iter().filter(|at| !self.is_link(**at)) {
            let skippers = self.skippers.get(aside)?;
            let within = skippers.iter().find(|link| (low..=high).contains(*link));
            let link = within.or(skippers.last())?;
            reach(*link, &mut low, &mut high);
        }
        Some(self.with_skipped(&self.chain[low..=high], |at| entries.contains(&at)))
    }

    /// Takes unusable entries off the top, and those aside that are unusable or that only they skip. What is unusable further down
    /// stays: without it the chain would break.
    pub fn peeled(
        &self,
        mut entries: BTreeSet<usize>,
        usable: impl Fn(usize) -> bool,
    ) -> BTreeSet<usize> {
        entries.retain(|at| self.is_link(*at) || usable(*at));
        loop {
            let top = self.chain.iter().find(|at| entries.contains(at)).copied();
            match top {
                Some(top) if !usable(top) => {
                    entries.remove(&top);
                }
                Some(_) => break,
                None => {
                    return entries
                        .into_iter()
                        .filter(|at| !self.is_link(*at))
                        .take(1)
                        .collect();
                }
            }
        }
        let led_to: BTreeSet<usize> = self.skipped_by(&entries);
        entries.retain(|at| self.is_link(*at) || led_to.contains(at));
        entries
    }

    /// Whether one of some links skips an entry.
    pub fn skips(&self, entries: &BTreeSet<usize>, other: usize) -> bool {
        let skippers = self.skippers.get(&other).into_iter().flatten();
        skippers
            .copied()
            .any(|link| entries.contains(&self.chain[link]))
    }

    fn skipped_by(&self, entries: &BTreeSet<usize>) -> BTreeSet<usize> {
        entries.iter().flat_map(|at| self.skipped(*at)).collect()
    }

    /// Every entry is in the chain or skipped by something.
    fn check_reached(&self) -> Result<(), GraphError> {
        let skipped: BTreeSet<usize> = (0..self.entries.len())
            .flat_map(|at| self.skipped(at))
            .collect();
        let stranded: Vec<String> = (0..self.entries.len())
            .filter(|at| !self.is_link(*at) && !skipped.contains(at))
            .map(|at| self.name(at).to_owned())
            .take(NAMED)
            .collect();
        match stranded.is_empty() {
            true => Ok(()),
            false => Err(GraphError::Stranded(stranded)),
        }
    }
}

/// The one entry that no other replaces or skips.
fn head(entries: &[Entry], places: &HashMap<&str, usize>) -> Result<usize, GraphError> {
    let mut led_to = vec![false; entries.len()];
    for entry in entries {
        let skips = entry.skips().iter().map(String::as_str);
        for name in entry.replaces().into_iter().chain(skips) {
            if let Some(at) = places.get(name) {
                led_to[*at] = true;
            }
        }
    }
    let heads: Vec<usize> = (0..entries.len()).filter(|at| !led_to[*at]).collect();
    match heads.as_slice() {
        [head] => Ok(*head),
        [] if entries.is_empty() => Err(GraphError::Empty),
        [] => Err(GraphError::NoHead),
        several => {
            let names = several.iter().map(|at| entries[*at].name.clone());
            Err(GraphError::Heads(names.take(NAMED).collect()))
        }
    }
}

/// The entries from the head down.
fn chain(
    entries: &[Entry],
    places: &HashMap<&str, usize>,
    head: usize,
) -> Result<Vec<usize>, GraphError> {
    let mut passed = vec![false; entries.len()];
    let mut chain = Vec::new();
    let mut next = Some(head);
    while let Some(at) = next {
        if std::mem::replace(&mut passed[at], true) {
            return Err(GraphError::Cycle(entries[at].name.clone()));
        }
        chain.push(at);
        next = entries[at]
            .replaces()
            .and_then(|name| places.get(name).copied());
    }
    Ok(chain)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes a channel as `name<replaces~skip~skip`.
    pub(in crate::model::catalog) fn channel(text: &str) -> Vec<Entry> {
        text.split_whitespace()
            .map(|word| {
                let mut parts = word.split('~');
                let first = parts.next().unwrap();
                let (name, replaces) = match first.split_once('<') {
                    Some((name, replaces)) => (name, Some(replaces.to_owned())),
                    None => (first, None),
                };
                Entry {
                    name: name.to_owned(),
                    replaces,
                    skips: Some(parts.map(str::to_owned).collect()),
                }
            })
            .collect()
    }

    fn names(graph: &Graph<'_>, entries: BTreeSet<usize>) -> String {
        let names: Vec<&str> = entries.into_iter().map(|at| graph.name(at)).collect();
        names.join(" ")
    }

    #[test]
    fn channels_that_olm_refuses_are_refused_with_the_reason() {
        for (text, why) in [
            ("", "has no entries"),
            ("a a", "names `a` twice"),
            ("a<b b<a", "has no head: its updates go round in a circle"),
            ("a<a", "has no head: its updates go round in a circle"),
            ("a b", "has several heads: `a`, `b`"),
            (
                "h<a a<b b<a",
                "comes back to `a` when its updates are followed",
            ),
            ("h<z~x x<y y", "has entries that no update leads to: `y`"),
        ] {
            let entries = channel(text);
            assert_eq!(Graph::new(&entries).unwrap_err().to_string(), why, "{text}");
        }
    }

    #[test]
    fn a_range_is_one_chain_with_what_it_skips() {
        // foo/beta of oc-mirror's own tests, and its known answers.
        let entries = channel("1 2<1~1.1~1.2 3<2 3.1<2~3 1.1 1.2");
        let graph = Graph::new(&entries).unwrap();
        for (wanted, kept) in [
            ("2 3 3.1", "2 3 3.1"),
            ("3.1", "3.1"),
            ("1 2 3 3.1", "1 2 3 3.1"),
            ("1.1", "2 1.1"),
            ("1", "1"),
            ("3", "3 3.1"),
            ("1 3.1", "1 2 3.1"),
            ("", ""),
        ] {
            let wanted: Vec<&str> = wanted.split(' ').collect();
            let found = graph.between(|at| wanted.contains(&graph.name(at)));
            assert_eq!(names(&graph, found), kept, "{wanted:?}");
        }
    }

    #[test]
    fn a_set_of_entries_is_closed_to_a_channel() {
        let entries = channel("5<4 4<3 3<2~x 2<1 1 x");
        let graph = Graph::new(&entries).unwrap();
        for (set, closed) in [
            ("4", "4"),
            ("4 2", "4 3 2"),
            ("x", "x"),
            ("5 x", "5 4 3 x"),
            ("1 x", "3 2 1 x"),
            ("3 x", "3 x"),
        ] {
            let set = set
                .split(' ')
                .map(|name| graph.entry(name).unwrap())
                .collect();
            assert_eq!(names(&graph, graph.closed(&set).unwrap()), closed);
        }
    }

    #[test]
    fn what_cannot_be_used_is_taken_off_the_top() {
        let entries = channel("4<3~x 3<2~y 2<1 1 x y");
        let graph = Graph::new(&entries).unwrap();
        for (bad, kept) in [
            ("", "4 3 2 1 x y"),
            ("4", "3 2 1 y"),
            ("4 3", "2 1"),
            ("2", "4 3 2 1 x y"),
            ("x", "4 3 2 1 y"),
            ("1 2 3 4", "x"),
        ] {
            let all = (0..entries.len()).collect();
            let usable = |at: usize| !bad.split(' ').any(|name| name == graph.name(at));
            assert_eq!(names(&graph, graph.peeled(all, usable)), kept, "{bad}");
        }
    }
}

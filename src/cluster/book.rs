//! All mirror rules together, before they are documents.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cluster::{Kind, Purpose, document::Document, needs::Needs, scope::Scope},
    model::imageset::SetName,
};

/// Which document a rule stands in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) set: SetName,
    pub(crate) purpose: Purpose,
    pub(crate) kind: Kind,
}

/// Mirrors, and whether a landed image needs each now.
type Mirrors = BTreeMap<Scope, bool>;

/// The mirrors of each source of each document.
#[derive(Debug, Default)]
pub(crate) struct Book(pub(crate) BTreeMap<Key, BTreeMap<Scope, Mirrors>>);

impl Book {
    /// Returns the rules that stand in published documents.
    pub(crate) fn published(documents: &[Document]) -> Self {
        let mut book = Book::default();
        for document in documents {
            let key = Key {
                set: document.set.clone(),
                purpose: document.purpose,
                kind: document.kind,
            };
            for rule in &document.rules {
                for mirror in &rule.mirrors {
                    book.add(&key, &rule.source, mirror, false);
                }
            }
        }
        book
    }

    /// Adds a mirror to a source's. One that equals its source says nothing and is left out (with `NeverContactSource` beside
    /// it, the machine-config-operator would refuse all rules of the cluster).
    pub(crate) fn add(&mut self, key: &Key, source: &Scope, mirror: &Scope, needed: bool) {
        if source != mirror {
            let rules = self.0.entry(key.clone()).or_default();
            let mirrors = rules.entry(source.clone()).or_default();
            *mirrors.entry(mirror.clone()).or_default() |= needed;
        }
    }

    /// Repeats each rule for every narrower source that any rule has, so that no rule hides another.
    ///
    /// A node uses the rules of the longest matching source alone, whichever object and kind made it a source. What a wider rule
    /// served below a narrower source (wanted images as well as those that once were) would be lost without this. Each document
    /// repeats its own rules: so it keeps its promises also in a cluster that is given some of the documents only.
    ///
    /// Sources of releases take tag rules only where an image asked for by tag lies: all else there is pulled by digest, and a
    /// tag rule for a new source drains every node.
    pub(crate) fn inherit(&mut self, needs: &Needs) {
        let closed = self.sources_without_tags(needs);
        let mut repeated = Vec::new();
        for source in self.sources() {
            for (key, rules) in &self.0 {
                if key.kind == Kind::Tag && closed.contains(&source) {
                    continue;
                }
                for wider in ancestors(&source) {
                    let Some((mirrors, rest)) = rules.get(&wider).zip(wider.rest_of(&source))
                    else {
                        continue;
                    };
                    let mirrors = mirrors.keys().map(|mirror| mirror.with(rest));
                    repeated.extend(mirrors.map(|m| (key.clone(), source.clone(), m)));
                }
            }
        }
        for (key, source, mirror) in repeated {
            self.add(&key, &source, &mirror, false);
        }
    }

    /// Returns the sources of releases that have no tag rule, and below which no image is asked for by tag.
    fn sources_without_tags(&self, needs: &Needs) -> BTreeSet<Scope> {
        let mut tagged: BTreeSet<Scope> = BTreeSet::new();
        for need in needs.met.iter().filter(|need| need.key.kind == Kind::Tag) {
            tagged.insert(need.source.clone());
            tagged.extend(ancestors(&need.source));
        }
        let mut releases = BTreeSet::new();
        for (key, rules) in &self.0 {
            if key.kind == Kind::Tag {
                tagged.extend(rules.keys().cloned());
            }
            if key.purpose == Purpose::Release {
                releases.extend(rules.keys().cloned());
            }
        }
        releases.difference(&tagged).cloned().collect()
    }

    /// Returns the sources of all rules.
    pub(crate) fn sources(&self) -> BTreeSet<Scope> {
        self.0.values().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// Returns the mirrors of all rules.
    pub(crate) fn mirrors(&self) -> BTreeSet<&Scope> {
        let rules = self.0.values().flat_map(BTreeMap::values);
        rules.flat_map(BTreeMap::keys).collect()
    }

    /// Returns kind, source and mirror of the rules that a landed image needs, whichever image set it is of.
    pub(crate) fn needed(&self) -> BTreeSet<(Kind, &Scope, &Scope)> {
        let mut needed = BTreeSet::new();
        for (key, rules) in &self.0 {
            for (source, mirrors) in rules {
                let mirrors = mirrors.iter().filter(|(_, needed)| **needed);
                needed.extend(mirrors.map(|(mirror, _)| (key.kind, source, mirror)));
            }
        }
        needed
    }
}

/// Returns the scopes that a scope lies in, the nearest first.
pub(crate) fn ancestors(scope: &Scope) -> impl Iterator<Item = Scope> {
    std::iter::successors(scope.parent(), Scope::parent)
}

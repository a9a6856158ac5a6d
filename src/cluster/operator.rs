//! From mirror rules to a node's `registries.conf`, as the machine-config-operator renders it: its own checks
//! (`validateRegistriesConfScopes`), then runtime-utils' `EditRegistriesConfig`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    cluster::{
        Kind,
        document::{Document, Rule},
        node::{Mirror, Node, Pull},
        place::Place,
        scope::Scope,
    },
    model::policy::MirrorSourcePolicy,
};

/// What the operator puts into the file.
#[derive(Debug, Clone, Default)]
pub struct Inputs<'a> {
    /// The entries of all mirror objects; those of an ImageContentSourcePolicy are rules by digest.
    pub rules: Vec<(Kind, &'a Rule)>,
    /// `registrySources.insecureRegistries` of the cluster's image configuration.
    pub insecure: Vec<String>,
    /// `registrySources.blockedRegistries` of the cluster's image configuration.
    pub blocked: Vec<String>,
}

/// Why the machine-config-operator refuses all mirror rules of a cluster: every node keeps the file it has, and only the
/// operator's log says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// Two entries disagree.
    #[error(
        "`{0}` has both mirror source policies among its rules; the machine-config-operator then refuses all mirror rules, and nodes keep what they have"
    )]
    TwoPolicies(Scope),
    /// The source is its own mirror.
    #[error(
        "`{0}` says NeverContactSource and is among its own mirrors; the machine-config-operator then refuses all mirror rules, and nodes keep what they have"
    )]
    BlockedMirror(Scope),
    /// An insecure or blocked registry is no name of one.
    #[error(
        "`{0}` among the {1} registries is not a registry, a repository or `*.host`; the machine-config-operator then refuses all mirror rules, and nodes keep what they have"
    )]
    Malformed(String, &'static str),
    /// The mirrors of a wildcard cannot be handed down to a place within it.
    #[error(
        "`{nested}` is insecure or blocked and has no mirrors of its own, and lies in the mirrored `{wildcard}`; the machine-config-operator cannot render that, and nodes keep what they have"
    )]
    NestedInWildcard {
        /// The source with mirrors.
        wildcard: Place,
        /// The place within it.
        nested: Place,
    },
}

impl Refusal {
    /// Returns the source or place that it is about.
    pub fn subject(&self) -> &str {
        match self {
            Refusal::TwoPolicies(source) | Refusal::BlockedMirror(source) => source.as_str(),
            Refusal::Malformed(text, _) => text,
            Refusal::NestedInWildcard { nested, .. } => nested.as_str(),
        }
    }
}

impl Node {
    /// Renders what nodes get from our documents.
    pub fn of(documents: &[Document]) -> Result<Node, Vec<Refusal>> {
        Node::new(
            documents
                .iter()
                .flat_map(|d| d.rules.iter().map(|rule| (d.kind, rule))),
        )
    }

    /// Renders what nodes get from these rules alone.
    pub fn new<'a>(
        rules: impl IntoIterator<Item = (Kind, &'a Rule)>,
    ) -> Result<Node, Vec<Refusal>> {
        let inputs = Inputs {
            rules: rules.into_iter().collect(),
            ..Inputs::default()
        };
        Node::default().edited(&inputs)
    }

    /// Renders the rules, insecure and blocked registries into this file, which is the operator's template.
    ///
    /// # Errors
    ///
    /// All that the operator refuses the whole for.
    pub fn edited(mut self, inputs: &Inputs<'_>) -> Result<Node, Vec<Refusal>> {
        let refusals = refusals(inputs);
        if !refusals.is_empty() {
            return Err(refusals.into_iter().collect());
        }
        let mut mirrored = Vec::new();
        for kind in [Kind::Digest, Kind::Tag] {
            for (source, lists) in lists(&inputs.rules, kind) {
                let source_place = Place::from(source);
                let registry = self.registry(&source_place);
                let mirrors = merged(source, &lists);
                registry.mirrors.extend(mirrors.iter().map(|m| Mirror {
                    location: m.into(),
                    insecure: false,
                    pull: Pull::from(kind),
                }));
                registry.blocked |= lists
                    .iter()
                    .any(|rule| rule.policy == MirrorSourcePolicy::NeverContactSource);
                mirrored.push(source_place);
            }
        }
        self.mark(inputs);
        self.hand_down(&mirrored)?;
        Ok(self)
    }

    /// Marks insecure and blocked places, and what lies in them.
    fn mark(&mut self, inputs: &Inputs<'_>) {
        let places = |texts: &[String]| -> Vec<Place> {
            // Verbatim: the operator trims no slash.
            texts.iter().map(|text| Place::verbatim(text)).collect()
        };
        let (insecure, blocked) = (places(&inputs.insecure), places(&inputs.blocked));
        // First, so that what is blocked within an insecure place becomes insecure too.
        for place in &blocked {
            self.registry(place);
        }
        for place in &insecure {
            self.registry(place).insecure = true;
            for registry in &mut self.registries {
                registry.insecure |= registry.scope().lies_in(place);
                for mirror in &mut registry.mirrors {
                    mirror.insecure |= mirror.location.lies_in(place);
                }
            }
        }
        for place in &blocked {
            self.registry(place).blocked = true;
            for registry in &mut self.registries {
                registry.blocked |= registry.scope().lies_in(place);
            }
        }
    }

    /// Hands the mirrors of each source down to the places in it that have none, which only the insecure and blocked ones can be: a
    /// node looks at the longest match alone. Upstream's corner is kept: of several such sources the first in order wins, those of
    /// digest rules before those of tag rules.
    fn hand_down(&mut self, mirrored: &[Place]) -> Result<(), Vec<Refusal>> {
        for source in mirrored {
            let mirrors = self.registry(source).mirrors.clone();
            for registry in &mut self.registries {
                let scope = registry.scope().clone();
                if scope == *source || !registry.mirrors.is_empty() || !scope.lies_in(source) {
                    continue;
                }
                let Some(rest) = source.rest_of(&scope).filter(|_| !source.is_wildcard()) else {
                    return Err(vec![Refusal::NestedInWildcard {
                        wildcard: source.clone(),
                        nested: scope,
                    }]);
                };
                registry.mirrors = adjusted(&mirrors, rest);
            }
        }
        Ok(())
    }
}

fn adjusted(mirrors: &[Mirror], rest: &str) -> Vec<Mirror> {
    let adjust = |mirror: &Mirror| Mirror {
        location: mirror.location.with(rest),
        ..mirror.clone()
    };
    mirrors.iter().map(adjust).collect()
}

/// The checks before anything is rendered; they look at every entry, those that count for nothing included.
fn refusals(inputs: &Inputs<'_>) -> BTreeSet<Refusal> {
    let mut policies = BTreeMap::new();
    let mut refusals = BTreeSet::new();
    for (_, rule) in &inputs.rules {
        if *policies.entry(&rule.source).or_insert(rule.policy) != rule.policy {
            refusals.insert(Refusal::TwoPolicies(rule.source.clone()));
        }
        let never = rule.policy == MirrorSourcePolicy::NeverContactSource;
        if never && rule.mirrors.contains(&rule.source) {
            refusals.insert(Refusal::BlockedMirror(rule.source.clone()));
        }
    }
    let lists = [(&inputs.insecure, "insecure"), (&inputs.blocked, "blocked")];
    for (texts, what) in lists {
        let bad = texts.iter().filter(|text| !is_scope(text));
        refusals.extend(bad.map(|text| Refusal::Malformed(text.chars().take(120).collect(), what)));
    }
    refusals
}

/// Whether the operator takes a text for an insecure, blocked or allowed place (runtime-utils, `IsValidRegistriesConfScope`):
/// anything without a `*`, or `*.` and a name.
pub fn is_scope(text: &str) -> bool {
    match text.strip_prefix("*.") {
        Some(domain) => !domain.contains(['/', '@', ':', '*']),
        None => !text.is_empty() && !text.contains('*'),
    }
}

/// Groups the rules of a kind by source. Those without a mirror other than the source count for nothing.
fn lists<'a>(rules: &[(Kind, &'a Rule)], kind: Kind) -> BTreeMap<&'a Scope, Vec<&'a Rule>> {
    let mut lists: BTreeMap<&Scope, Vec<&Rule>> = BTreeMap::new();
    for (_, rule) in rules.iter().filter(|(k, _)| *k == kind) {
        if counts(rule) {
            lists.entry(&rule.source).or_default().push(rule);
        }
    }
    lists
}

/// Whether a rule counts for anything: it has a mirror other than its source.
pub(crate) fn counts(rule: &Rule) -> bool {
    rule.mirrors.iter().any(|mirror| *mirror != rule.source)
}

/// What of the mirror lists of one source comes before what.
type Edges<'a> = BTreeMap<&'a Scope, BTreeSet<&'a Scope>>;

fn edges<'a>(source: &'a Scope, lists: &[&'a Rule]) -> Edges<'a> {
    let mut edges = Edges::new();
    for rule in lists {
        for pair in rule.mirrors.windows(2) {
            edges.entry(&pair[0]).or_default().insert(&pair[1]);
        }
        if let Some(last) = rule.mirrors.last()
            && !rule.mirrors.contains(source)
        {
            edges.entry(last).or_default().insert(source);
        }
    }
    edges
}

/// Merges the mirror lists of one source so that each list's order is kept, where that can be.
fn merged(source: &Scope, lists: &[&Rule]) -> Vec<Scope> {
    let (mut sorted, _) = topological(edges(source, lists));
    // The source is tried last anyway.
    if sorted.last() == Some(source) {
        sorted.pop();
    }
    sorted
}

/// Returns the order that the operator makes of the mirror lists of one source, and whether they contradict each other.
pub(crate) fn order(source: &Scope, lists: &[&Rule]) -> (Vec<Scope>, bool) {
    let (_, broken) = topological(edges(source, lists));
    (merged(source, lists), broken)
}

/// Sorts as runtime-utils' `topo.go` does: a queue of the nodes that nothing points to, by name; what a node frees joins the end, by
/// name; a cycle is broken at the first node by name that is left. Says too whether one had to be.
fn topological(edges: Edges<'_>) -> (Vec<Scope>, bool) {
    let mut waiting: BTreeMap<&Scope, usize> = BTreeMap::new();
    for (from, successors) in &edges {
        waiting.entry(from).or_default();
        for to in successors {
            *waiting.entry(to).or_default() += 1;
        }
    }
    let free = waiting.iter().filter(|(_, count)| **count == 0);
    let mut queue: VecDeque<&Scope> = free.map(|(node, _)| *node).collect();
    let (mut sorted, mut broken) = (Vec::new(), false);
    for node in &queue {
        waiting.remove(node);
    }
    loop {
        let node = match queue.pop_front() {
            Some(node) => node,
            None => match waiting.pop_first() {
                Some((node, _)) => {
                    broken = true;
                    node
                }
                None => return (sorted, broken),
            },
        };
        sorted.push(node.clone());
        for to in edges.get(node).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(to) {
                *count -= 1;
                if *count == 0 {
                    waiting.remove(to);
                    queue.push_back(to);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

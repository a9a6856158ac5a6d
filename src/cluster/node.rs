//! What a node makes of mirror rules: its `registries.conf`, and what it tries for a reference.
//!
//! As the machine-config-operator renders it (runtime-utils `EditRegistriesConfig`) and containers/image reads it
//! (`sysregistriesv2`), for IDMS and ITMS.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{
    cluster::{
        Kind,
        document::{Document, Rule},
        scope::Scope,
    },
    model::{image::Reference, policy::MirrorSourcePolicy},
};

/// The mirror rules of a node, in the order of its `registries.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    registries: Vec<Registry>,
}

/// A `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Its `location`, or `prefix` for a wildcard.
    pub scope: Scope,
    /// Its mirrors, those for digests first.
    pub mirrors: Vec<Mirror>,
    /// Whether nodes may not contact it.
    pub blocked: bool,
}

/// A `[[registry.mirror]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Where it is.
    pub location: Scope,
    /// `pull-from-mirror`: which references it is for.
    pub pull: Kind,
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
}

/// What a node does with a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// The source of the rules that apply: the longest that matches.
    pub matched: Option<Scope>,
    /// Whether the reference's own registry may not be contacted.
    pub blocked: bool,
    /// What is tried, in order.
    pub attempts: Vec<Attempt>,
    /// Why the pull fails before anything is tried, if it does: a mirror that rewrites the reference to what is none.
    pub invalid: Option<String>,
}

/// One place a node tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What is pulled.
    pub reference: Reference,
    /// The mirror it comes from; nothing for the source itself.
    pub mirror: Option<Scope>,
    /// The blocked scope that the attempt fails at: a mirror below a source that says NeverContactSource is not contacted either.
    pub refused_by: Option<Scope>,
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

    /// Renders what nodes get from these rules, in the order of their objects (by name) and lists.
    pub fn new<'a>(
        rules: impl IntoIterator<Item = (Kind, &'a Rule)>,
    ) -> Result<Node, Vec<Refusal>> {
        let rules: Vec<(Kind, &Rule)> = rules.into_iter().collect();
        let refusals = refusals(&rules);
        if !refusals.is_empty() {
            return Err(refusals.into_iter().collect());
        }
        let mut node = Node::default();
        for kind in [Kind::Digest, Kind::Tag] {
            for (source, lists) in lists(&rules, kind) {
                let registry = node.registry(source);
                let mirrors = merged(source, &lists);
                registry
                    .mirrors
                    .extend(mirrors.into_iter().map(|location| Mirror {
                        location,
                        pull: kind,
                    }));
                registry.blocked |= lists
                    .iter()
                    .any(|rule| rule.policy == MirrorSourcePolicy::NeverContactSource);
            }
        }
        Ok(node)
    }

    /// Returns the `[[registry]]` tables in their order.
    pub fn registries(&self) -> &[Registry] {
        &self.registries
    }

    fn registry(&mut self, scope: &Scope) -> &mut Registry {
        let at = self.registries.iter().position(|r| r.scope == *scope);
        let at = at.unwrap_or_else(|| {
            self.registries.push(Registry {
                scope: scope.clone(),
                mirrors: Vec::new(),
                blocked: false,
            });
            self.registries.len() - 1
        });
        &mut self.registries[at]
    }

    /// Returns the registry whose scope is the longest that matches, the first of equals.
    fn find(&self, name: &str) -> Option<(&Registry, usize)> {
        let mut best: Option<(&Registry, usize)> = None;
        for registry in &self.registries {
            let longer = |b: &Registry| registry.scope.as_str().len() > b.scope.as_str().len();
            if let Some(end) = registry.scope.matches(name)
                && best.is_none_or(|(b, _)| longer(b))
            {
                best = Some((registry, end));
            }
        }
        best
    }

    /// Says what a node tries for a reference, the tag left aside where there is a digest.
    pub fn resolve(&self, reference: &Reference) -> Resolution {
        let mut reference = reference.clone();
        let kind = if reference.digest.is_some() {
            reference.tag = None;
            Kind::Digest
        } else {
            Kind::Tag
        };
        let text = reference.to_string();
        let Some((registry, end)) = self.find(&text) else {
            return Resolution {
                matched: None,
                blocked: false,
                attempts: vec![Attempt {
                    reference,
                    mirror: None,
                    refused_by: None,
                }],
                invalid: None,
            };
        };
        let mirrors = registry.mirrors.iter().filter(|m| m.pull == kind);
        let attempts = mirrors
            .map(|mirror| self.attempt(&mirror.location, &text[end..]))
            .collect::<Result<Vec<_>, _>>();
        let (mut attempts, invalid) = match attempts {
            Ok(attempts) => (attempts, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        if !registry.blocked && invalid.is_none() {
            attempts.push(Attempt {
                reference,
                mirror: None,
                refused_by: None,
            });
        }
        Resolution {
            matched: Some(registry.scope.clone()),
            blocked: registry.blocked,
            attempts,
            invalid,
        }
    }

    fn attempt(&self, mirror: &Scope, rest: &str) -> Result<Attempt, String> {
        let text = format!("{mirror}{rest}");
        let reference: Reference = text.parse().map_err(|e| {
            format!("the mirror `{mirror}` rewrites the reference to `{text}`: {e}")
        })?;
        let blocking = self.find(&text).filter(|(registry, _)| registry.blocked);
        Ok(Attempt {
            reference,
            mirror: Some(mirror.clone()),
            refused_by: blocking.map(|(registry, _)| registry.scope.clone()),
        })
    }
}

/// The checks before anything is rendered (machine-config-operator, `validateRegistriesConfScopes`); they look at every entry,
/// those that count for nothing included.
fn refusals(rules: &[(Kind, &Rule)]) -> BTreeSet<Refusal> {
    let mut policies = BTreeMap::new();
    let mut refusals = BTreeSet::new();
    for (_, rule) in rules {
        if *policies.entry(&rule.source).or_insert(rule.policy) != rule.policy {
            refusals.insert(Refusal::TwoPolicies(rule.source.clone()));
        }
        let never = rule.policy == MirrorSourcePolicy::NeverContactSource;
        if never && rule.mirrors.contains(&rule.source) {
            refusals.insert(Refusal::BlockedMirror(rule.source.clone()));
        }
    }
    refusals
}

/// Groups the rules of a kind by source. Those without a mirror other than the source count for nothing.
fn lists<'a>(rules: &[(Kind, &'a Rule)], kind: Kind) -> BTreeMap<&'a Scope, Vec<&'a Rule>> {
    let mut lists: BTreeMap<&Scope, Vec<&Rule>> = BTreeMap::new();
    for (_, rule) in rules.iter().filter(|(k, _)| *k == kind) {
        if rule.mirrors.iter().any(|m| *m != rule.source) {
            lists.entry(&rule.source).or_default().push(rule);
        }
    }
    lists
}

/// Merges the mirror lists of one source so that each list's order is kept, where that can be.
fn merged(source: &Scope, lists: &[&Rule]) -> Vec<Scope> {
    let mut edges: BTreeMap<&Scope, BTreeSet<&Scope>> = BTreeMap::new();
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
    let mut sorted = topological(edges);
    // The source is tried last anyway.
    if sorted.last() == Some(source) {
        sorted.pop();
    }
    sorted
}

/// Sorts as runtime-utils' `topo.go` does: a queue of the nodes that nothing points to, by name; what a node frees joins the end, by
/// name; a cycle is broken at the first node by name that is left.
fn topological(edges: BTreeMap<&Scope, BTreeSet<&Scope>>) -> Vec<Scope> {
    let mut waiting: BTreeMap<&Scope, usize> = BTreeMap::new();
    for (from, successors) in &edges {
        waiting.entry(from).or_default();
        for to in successors {
            *waiting.entry(to).or_default() += 1;
        }
    }
    let free = waiting.iter().filter(|(_, count)| **count == 0);
    let mut queue: VecDeque<&Scope> = free.map(|(node, _)| *node).collect();
    let mut sorted = Vec::new();
    for node in &queue {
        waiting.remove(node);
    }
    loop {
        let node = match queue.pop_front() {
            Some(node) => node,
            None => match waiting.pop_first() {
                Some((node, _)) => node,
                None => return sorted,
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
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    fn rule(source: &str, mirrors: &[&str]) -> Rule {
        Rule {
            source: scope(source),
            mirrors: mirrors.iter().map(|m| scope(m)).collect(),
            policy: MirrorSourcePolicy::AllowContactingSource,
        }
    }

    fn never(rule: Rule) -> Rule {
        Rule {
            policy: MirrorSourcePolicy::NeverContactSource,
            ..rule
        }
    }

    /// Mirrors as lists of one source merge on a node; the source is `s.io`.
    fn merge(lists: &[&[&str]]) -> Vec<String> {
        let rules: Vec<Rule> = lists.iter().map(|mirrors| rule("s.io", mirrors)).collect();
        let node = Node::new(rules.iter().map(|r| (Kind::Digest, r))).unwrap();
        let mirrors = node.registries().iter().flat_map(|r| &r.mirrors);
        mirrors.map(|m| m.location.to_string()).collect()
    }

    /// Facts carried over from runtime-utils' `TestMergedMirrorSets` and `TestTopoGraph`.
    #[test]
    fn mirror_lists_merge_in_topological_order() {
        assert_eq!(
            merge(&[&["b.io", "c.io"], &["a.io", "b.io"]]),
            ["a.io", "b.io", "c.io"]
        );
        assert_eq!(merge(&[&["b.io"], &["a.io"]]), ["a.io", "b.io"]);
        assert_eq!(
            merge(&[&["z1.io", "y2.io", "x3.io"], &["z1.io", "y2.io", "x3.io"]]),
            ["z1.io", "y2.io", "x3.io"]
        );
        assert_eq!(
            merge(&[&["a.io", "b.io"], &["b.io", "a.io"]]),
            ["a.io", "b.io"]
        );
        assert_eq!(merge(&[]), <[&str; 0]>::default());
        assert_eq!(merge(&[&[]]), <[&str; 0]>::default());
        assert_eq!(merge(&[&["s.io"]]), <[&str; 0]>::default());
        assert_eq!(
            merge(&[&["a.io", "s.io", "b.io"]]),
            ["a.io", "s.io", "b.io"]
        );
        assert_eq!(merge(&[&["a.io", "s.io"]]), ["a.io"]);
        // c is freed by a after d is, and joins the queue behind b, which was there before.
        assert_eq!(
            merge(&[&["a.io", "c.io"], &["b.io", "d.io"]]),
            ["a.io", "b.io", "c.io", "d.io"]
        );
    }

    #[test]
    fn one_source_has_one_table_and_each_kind_its_mirrors() {
        let digest = rule("q.io/a", &["m.io/d"]);
        let tag = never(rule("q.io/a/b", &["m.io/t"]));
        let both = rule("q.io/a", &["m.io/t"]);
        let node = Node::new([
            (Kind::Tag, &tag),
            (Kind::Tag, &both),
            (Kind::Digest, &digest),
        ])
        .unwrap();
        let mirror = |location: &str, pull| Mirror {
            location: scope(location),
            pull,
        };
        assert_eq!(
            node.registries(),
            [
                Registry {
                    scope: scope("q.io/a"),
                    mirrors: vec![mirror("m.io/d", Kind::Digest), mirror("m.io/t", Kind::Tag)],
                    blocked: false
                },
                Registry {
                    scope: scope("q.io/a/b"),
                    mirrors: vec![mirror("m.io/t", Kind::Tag)],
                    blocked: true
                },
            ]
        );
    }

    fn tried(node: &Node, reference: &str) -> Vec<String> {
        let resolution = node.resolve(&reference.parse().unwrap());
        let attempts = resolution.attempts.iter();
        attempts
            .filter(|a| a.refused_by.is_none())
            .map(|a| a.reference.to_string())
            .collect()
    }

    #[test]
    fn only_the_longest_source_counts_for_both_kinds() {
        let wide = rule("q.io/a", &["m.io/wide"]);
        let narrow = rule("q.io/a/b", &["m.io/narrow"]);
        let node = Node::new([
            (Kind::Tag, &wide),
            (Kind::Digest, &wide),
            (Kind::Digest, &narrow),
        ])
        .unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        let at = |name: &str| format!("{name}@{digest}");
        assert_eq!(
            tried(&node, &at("q.io/a/c")),
            [at("m.io/wide/c"), at("q.io/a/c")]
        );
        assert_eq!(
            tried(&node, &at("q.io/a/b:v1")),
            [at("m.io/narrow"), at("q.io/a/b")]
        );
        assert_eq!(
            tried(&node, "q.io/a/c:v1"),
            ["m.io/wide/c:v1", "q.io/a/c:v1"]
        );
        // The digest rule for the narrower source hides the tag rule for the wider one.
        assert_eq!(tried(&node, "q.io/a/b/x:v1"), ["q.io/a/b/x:v1"]);
        assert_eq!(tried(&node, "q.io/ab:v1"), ["q.io/ab:v1"]);
    }

    #[test]
    fn blocked_holds_for_both_kinds_and_for_mirrors_below() {
        let blocked = never(rule("q.io/a", &["m.io/a"]));
        let below = rule("r.io", &["q.io/a/r"]);
        let node = Node::new([(Kind::Digest, &blocked), (Kind::Tag, &below)]).unwrap();
        assert_eq!(tried(&node, "q.io/a/x:v1"), <[&str; 0]>::default());
        assert_eq!(tried(&node, "r.io/x:v1"), ["r.io/x:v1"]);
        let refused = &node.resolve(&"r.io/x:v1".parse().unwrap()).attempts[0];
        assert_eq!(refused.refused_by, Some(scope("q.io/a")));
    }

    #[test]
    fn a_reference_that_a_mirror_makes_invalid_is_not_pulled_at_all() {
        let rule = rule("*.example.com", &["m.io/x"]);
        let node = Node::new([(Kind::Tag, &rule)]).unwrap();
        assert_eq!(
            tried(&node, "a.example.com/b:v1"),
            ["m.io/x/b:v1", "a.example.com/b:v1"]
        );
        let resolution = node.resolve(&"a.example.com:5000/b:v1".parse().unwrap());
        assert_eq!(resolution.attempts, []);
        assert!(resolution.invalid.unwrap().contains("`m.io/x:5000/b:v1`"));
    }

    #[test]
    fn what_the_operator_refuses_is_refused() {
        let allow = rule("q.io/a", &["m.io/a"]);
        let deny = never(allow.clone());
        let empty = never(rule("q.io/b", &[]));
        let also_b = rule("q.io/b", &["m.io/b"]);
        let own = never(rule("q.io/c", &["m.io/c", "q.io/c"]));
        let refusals = Node::new([
            (Kind::Digest, &allow),
            (Kind::Tag, &deny),
            (Kind::Digest, &empty),
            (Kind::Digest, &also_b),
            (Kind::Tag, &own),
        ]);
        assert_eq!(
            refusals.unwrap_err(),
            [
                Refusal::TwoPolicies(scope("q.io/a")),
                Refusal::TwoPolicies(scope("q.io/b")),
                Refusal::BlockedMirror(scope("q.io/c"))
            ]
        );
    }
}

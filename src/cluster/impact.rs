//! What a change of mirror rules does to nodes (machine-config-operator, `drain.go`): nothing, a reload of CRI-O, or a drain before it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cluster::{
    Kind,
    node::{Mirror, Node, Registry},
    scope::Scope,
};

/// What a change does to the nodes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impact {
    /// The worst that happens.
    pub effect: Effect,
    /// Why nodes drain, each cause by scope; empty unless they do.
    pub reasons: Vec<Reason>,
    /// What is known of the cluster.
    pub picture: Picture,
}

/// What happens to every node of every pool, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The node's file stays as it is.
    Nothing,
    /// CRI-O reads its file anew; workloads notice nothing.
    Reload,
    /// The node is drained first.
    Drain,
}

/// What an answer rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Picture {
    /// Our documents alone: other mirror rules of the cluster, its image configuration and its NodeDisruptionPolicy may change the
    /// answer.
    OursOnly,
}

/// One cause of a drain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reason {
    /// The source whose rules differ.
    pub scope: Scope,
    /// The mirror, where one is the cause.
    pub mirror: Option<Scope>,
    /// One sentence.
    pub message: String,
}

/// Compares what nodes have with what they will have, both from our documents alone.
pub fn impact(before: &Node, after: &Node) -> Impact {
    let old = by_scope(before);
    let new = by_scope(after);
    let mut reasons = BTreeSet::new();
    for scope in old.keys().filter(|scope| !new.contains_key(*scope)) {
        let why = format!("`{scope}` has no mirror rules any more");
        reasons.insert(reason(scope, None, why));
    }
    for (scope, registry) in &new {
        match old.get(scope) {
            None => added(registry, &mut reasons),
            Some(was) if was != registry => changed(was, registry, &mut reasons),
            Some(_) => {}
        }
    }
    let effect = match (reasons.is_empty(), before == after) {
        (false, _) => Effect::Drain,
        (true, false) => Effect::Reload,
        (true, true) => Effect::Nothing,
    };
    Impact {
        effect,
        reasons: reasons.into_iter().collect(),
        picture: Picture::OursOnly,
    }
}

fn by_scope(node: &Node) -> BTreeMap<&Scope, &Registry> {
    node.registries().iter().map(|r| (&r.scope, r)).collect()
}

fn reason(scope: &Scope, mirror: Option<&Scope>, message: String) -> Reason {
    Reason {
        scope: scope.clone(),
        mirror: mirror.cloned(),
        message,
    }
}

/// A new scope is free when all its mirrors are for digests.
fn added(registry: &Registry, reasons: &mut BTreeSet<Reason>) {
    let scope = &registry.scope;
    for Mirror { location, .. } in registry.mirrors.iter().filter(|m| m.pull == Kind::Tag) {
        let why = format!("`{scope}` is new and has a tag rule, to `{location}`");
        reasons.insert(reason(scope, Some(location), why));
    }
    if registry.mirrors.is_empty() {
        let why = format!("`{scope}` is new and has no mirrors");
        reasons.insert(reason(scope, None, why));
    }
}

fn changed(was: &Registry, now: &Registry, reasons: &mut BTreeSet<Reason>) {
    let scope = &now.scope;
    if was.blocked != now.blocked {
        let switched = if now.blocked { "on" } else { "off" };
        let why = format!("NeverContactSource is switched {switched} for `{scope}`");
        reasons.insert(reason(scope, None, why));
    }
    for Mirror { location, .. } in &was.mirrors {
        if first(&now.mirrors, location).is_none() {
            let why = format!("`{scope}` loses its mirror `{location}`");
            reasons.insert(reason(scope, Some(location), why));
        }
    }
    for Mirror { location, .. } in now.mirrors.iter().filter(|m| m.pull == Kind::Tag) {
        // As drain.go compares, with the first mirror of that location, which is the one for digests where there are both.
        let why = match first(&was.mirrors, location) {
            None => format!("`{scope}` gets a new tag rule, to `{location}`"),
            Some(Kind::Tag) => continue,
            Some(Kind::Digest)
                if was
                    .mirrors
                    .iter()
                    .any(|m| m.location == *location && m.pull == Kind::Tag) =>
            {
                format!(
                    "`{scope}` has rules by digest and by tag to the one mirror `{location}`, with which any change of its rules drains"
                )
            }
            Some(Kind::Digest) => {
                format!("`{scope}` gets a tag rule to `{location}`, its mirror for digests so far")
            }
        };
        reasons.insert(reason(scope, Some(location), why));
    }
}

/// Returns what the first mirror of a location is for.
fn first(mirrors: &[Mirror], location: &Scope) -> Option<Kind> {
    let found = mirrors.iter().find(|m| m.location == *location);
    found.map(|mirror| mirror.pull)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::document::Rule, model::policy::MirrorSourcePolicy};

    /// A node from rules such as `d q.io/a m.io/a m.io/b` (`t` for tag rules, upper case with NeverContactSource).
    fn node(rules: &[&str]) -> Node {
        let rules: Vec<(Kind, Rule)> = rules
            .iter()
            .map(|text| {
                let mut words = text.split(' ');
                let (kind, policy) = match words.next().unwrap() {
                    "d" => (Kind::Digest, MirrorSourcePolicy::AllowContactingSource),
                    "t" => (Kind::Tag, MirrorSourcePolicy::AllowContactingSource),
                    "D" => (Kind::Digest, MirrorSourcePolicy::NeverContactSource),
                    _ => (Kind::Tag, MirrorSourcePolicy::NeverContactSource),
                };
                let source = words.next().unwrap().parse().unwrap();
                let mirrors = words.map(|m| m.parse().unwrap()).collect();
                (
                    kind,
                    Rule {
                        source,
                        mirrors,
                        policy,
                    },
                )
            })
            .collect();
        Node::new(rules.iter().map(|(kind, rule)| (*kind, rule))).unwrap()
    }

    /// What openshift-facts section 3 says, and what `drain.go`'s own tests show.
    #[test]
    fn nodes_drain_exactly_when_the_operator_says_so() {
        use Effect::*;
        for (what, before, after, effect) in [
            (
                "nothing",
                &["d q.io/a m.io/a"][..],
                &["d q.io/a m.io/a"][..],
                Nothing,
            ),
            ("a new digest scope", &[], &["d q.io/a m.io/a"], Reload),
            ("a new tag scope", &[], &["t q.io/a m.io/a"], Drain),
            (
                "a digest mirror more",
                &["d q.io/a m.io/a"],
                &["d q.io/a m.io/a n.io/a"],
                Reload,
            ),
            (
                "digest mirrors in another order",
                &["d q.io/a m.io/a n.io/a"],
                &["d q.io/a n.io/a m.io/a"],
                Reload,
            ),
            (
                "a first tag rule, same mirror",
                &["d q.io/a m.io/a"],
                &["d q.io/a m.io/a", "t q.io/a m.io/a"],
                Drain,
            ),
            (
                "a first tag rule, other mirror",
                &["d q.io/a m.io/a"],
                &["d q.io/a m.io/a", "t q.io/a n.io/a"],
                Drain,
            ),
            (
                "a scope less",
                &["d q.io/a m.io/a", "d q.io/b m.io/b"],
                &["d q.io/a m.io/a"],
                Drain,
            ),
            (
                "a mirror less",
                &["d q.io/a m.io/a n.io/a"],
                &["d q.io/a m.io/a"],
                Drain,
            ),
            (
                "a mirror renamed",
                &["d q.io/a m.io/a"],
                &["d q.io/a n.io/a"],
                Drain,
            ),
            ("blocked", &["d q.io/a m.io/a"], &["D q.io/a m.io/a"], Drain),
            (
                "unblocked",
                &["T q.io/a m.io/a"],
                &["t q.io/a m.io/a"],
                Drain,
            ),
            (
                "a new blocked digest scope",
                &[],
                &["D q.io/a m.io/a"],
                Reload,
            ),
            (
                "both kinds to one mirror, a digest mirror more",
                &["d q.io/a m.io/a", "t q.io/a m.io/a"],
                &["d q.io/a m.io/a n.io/a", "t q.io/a m.io/a"],
                Drain,
            ),
            (
                "both kinds to two mirrors, a digest mirror more",
                &["d q.io/a m.io/a", "t q.io/a o.io/a"],
                &["d q.io/a m.io/a n.io/a", "t q.io/a o.io/a"],
                Reload,
            ),
            (
                "both kinds to one mirror, the tag rule dropped",
                &["d q.io/a m.io/a", "t q.io/a m.io/a"],
                &["d q.io/a m.io/a"],
                Reload,
            ),
            (
                "a tag rule beside, another scope changed",
                &["t q.io/a m.io/a", "d q.io/b m.io/b"],
                &["t q.io/a m.io/a", "d q.io/b m.io/b n.io/b"],
                Reload,
            ),
            (
                "a tag mirror becomes one for digests",
                &["t q.io/a m.io/a"],
                &["d q.io/a m.io/a"],
                Reload,
            ),
        ] {
            assert_eq!(impact(&node(before), &node(after)).effect, effect, "{what}");
        }
    }

    #[test]
    fn reasons_name_scope_and_mirror() {
        let impact = impact(
            &node(&["d q.io/a m.io/a", "d q.io/b m.io/b"]),
            &node(&["t q.io/a m.io/a", "D q.io/b n.io/b"]),
        );
        let told: Vec<_> = impact.reasons.iter().map(|r| r.message.as_str()).collect();
        assert_eq!(
            told,
            [
                "`q.io/a` gets a tag rule to `m.io/a`, its mirror for digests so far",
                "NeverContactSource is switched on for `q.io/b`",
                "`q.io/b` loses its mirror `m.io/b`",
            ]
        );
    }
}

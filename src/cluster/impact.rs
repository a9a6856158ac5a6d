//! What a change of mirror rules does to nodes (machine-config-operator, `drain.go`): nothing, a reload of CRI-O, or a drain before it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cluster::{
    node::{Mirror, Node, Pull, Registry},
    place::Place,
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
    /// The scope whose table differs; nothing for what concerns the whole file.
    pub scope: Option<Place>,
    /// The mirror, where one is the cause.
    pub mirror: Option<Place>,
    /// One sentence.
    pub message: String,
}

/// Compares what nodes have with what they will have.
pub fn impact(before: &Node, after: &Node) -> Impact {
    let mut reasons = BTreeSet::new();
    searched(before, after, &mut reasons);
    let old = by_scope(before);
    let new = by_scope(after);
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

/// Of two tables with one scope the last counts, as drain.go fills its maps.
fn by_scope(node: &Node) -> BTreeMap<&Place, &Registry> {
    node.registries().iter().map(|r| (r.scope(), r)).collect()
}

fn reason(scope: &Place, mirror: Option<&Place>, message: String) -> Reason {
    Reason {
        scope: Some(scope.clone()),
        mirror: mirror.cloned(),
        message,
    }
}

/// Registries may be added behind those that short names are looked up in, and no more than that.
fn searched(before: &Node, after: &Node, reasons: &mut BTreeSet<Reason>) {
    let (was, now) = (before.search.as_deref(), after.search.as_deref());
    let (was, now) = (was.unwrap_or_default(), now.unwrap_or_default());
    if !now.starts_with(was) {
        reasons.insert(Reason {
            scope: None,
            mirror: None,
            message: format!(
                "unqualified-search-registries was {} and becomes {}: only adding at its end is free",
                list(was),
                list(now)
            ),
        });
    }
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.is_empty() {
        true => "empty".to_owned(),
        false => names.join(", "),
    }
}

/// A new scope is free when all its mirrors are for digests.
fn added(registry: &Registry, reasons: &mut BTreeSet<Reason>) {
    let scope = registry.scope();
    for mirror in registry.mirrors.iter().filter(|m| m.pull != Pull::Digest) {
        let (what, location) = (rule(mirror.pull), &mirror.location);
        let why = format!("`{scope}` is new and has {what}, to `{location}`");
        reasons.insert(reason(scope, Some(location), why));
    }
    if registry.mirrors.is_empty() && !registry.digest_only {
        let why = format!("`{scope}` is new and has no mirrors");
        reasons.insert(reason(scope, None, why));
    }
}

/// Returns what a mirror that is not for digests alone is called.
fn rule(pull: Pull) -> &'static str {
    match pull {
        Pull::Tag => "a tag rule",
        Pull::Digest => "a digest rule",
        Pull::All | Pull::Unsaid => "a rule by digest and by tag",
    }
}

fn changed(was: &Registry, now: &Registry, reasons: &mut BTreeSet<Reason>) {
    let scope = now.scope();
    let mut whole = |differs: bool, why: String| {
        if differs {
            reasons.insert(reason(scope, None, why));
        }
    };
    whole(
        was.naming != now.naming,
        format!("prefix or location of `{scope}` changes"),
    );
    let switched = |on: bool| if on { "on" } else { "off" };
    let blocking = match now.mirrors.is_empty() {
        true => "blocking",
        false => "NeverContactSource",
    };
    whole(
        was.blocked != now.blocked,
        format!(
            "{blocking} is switched {} for `{scope}`",
            switched(now.blocked)
        ),
    );
    whole(
        was.insecure != now.insecure,
        format!(
            "insecure is switched {} for `{scope}`",
            switched(now.insecure)
        ),
    );
    for Mirror { location, .. } in &was.mirrors {
        if first(&now.mirrors, location).is_none() {
            let why = format!("`{scope}` loses its mirror `{location}`");
            reasons.insert(reason(scope, Some(location), why));
        }
    }
    for mirror in now.mirrors.iter().filter(|m| m.pull != Pull::Digest) {
        if let Some(why) = offends(was, now, mirror) {
            reasons.insert(reason(scope, Some(&mirror.location), why));
        }
    }
}

/// Says why a mirror that is not for digests alone drains, if it does: it is compared as drain.go compares, with the first old mirror
/// of its location, which is the one for digests where there are both.
fn offends(was: &Registry, now: &Registry, mirror: &Mirror) -> Option<String> {
    let (scope, location, what) = (now.scope(), &mirror.location, rule(mirror.pull));
    match first(&was.mirrors, location) {
        None if now.digest_only => None,
        None => Some(format!(
            "`{scope}` gets {what} that is new, to `{location}`"
        )),
        Some(old) if old == mirror.pull => None,
        Some(_) if was.mirrors.contains(mirror) => Some(format!(
            "`{scope}` has rules by digest and by tag to the one mirror `{location}`, with which any change of its rules drains"
        )),
        Some(Pull::Digest) => Some(format!(
            "`{scope}` gets {what} to `{location}`, its mirror for digests so far"
        )),
        Some(_) => Some(format!(
            "`{scope}` gets {what} to `{location}`, which was another kind of mirror so far"
        )),
    }
}

/// Returns what the first mirror of a location is for.
fn first(mirrors: &[Mirror], location: &Place) -> Option<Pull> {
    let found = mirrors.iter().find(|m| m.location == *location);
    found.map(|mirror| mirror.pull)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{Kind, document::Rule},
        model::policy::MirrorSourcePolicy,
    };

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

//! What a node tries for a reference, as containers/image reads its `registries.conf` (`sysregistriesv2` and the docker transport).

use serde::{Deserialize, Serialize};

use crate::{
    cluster::{
        Kind,
        node::{Node, Registry},
        place::Place,
    },
    model::image::Reference,
};

/// What a node does with a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// The source of the rules that apply: the longest that matches.
    pub matched: Option<Place>,
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
    pub mirror: Option<Place>,
    /// Whether plain HTTP is taken, and certificates are not checked.
    pub insecure: bool,
    /// The blocked scope that the attempt fails at: a mirror below a source that says NeverContactSource is not contacted either.
    pub refused_by: Option<Place>,
}

/// Returns the kind of reference that decides which mirrors serve it: one with a digest is by digest, whatever tag stands beside.
pub fn kind_of(reference: &Reference) -> Kind {
    match reference.digest {
        Some(_) => Kind::Digest,
        None => Kind::Tag,
    }
}

impl Node {
    /// Returns the table whose scope is the longest that matches; of two as long, the one that sorts first, which a wildcard does;
    /// of two that are the same, the one that stands first.
    pub fn find(&self, name: &str) -> Option<&Registry> {
        let mut best: Option<&Registry> = None;
        for registry in &self.registries {
            let scope = registry.scope();
            if scope.matches(name).is_none() {
                continue;
            }
            let wins = best.is_none_or(|best| {
                let other = best.scope();
                let (length, others) = (scope.as_str().len(), other.as_str().len());
                length > others || (length == others && scope < other)
            });
            if wins {
                best = Some(registry);
            }
        }
        best
    }

    /// Says what a node tries for a reference, the tag left aside where there is a digest.
    pub fn resolve(&self, reference: &Reference) -> Resolution {
        let mut reference = reference.clone();
        if reference.digest.is_some() {
            reference.tag = None;
        }
        let name = reference.repository.to_string();
        let Some(registry) = self.find(&name) else {
            return Resolution {
                matched: None,
                blocked: false,
                attempts: vec![Attempt {
                    reference,
                    mirror: None,
                    insecure: false,
                    refused_by: None,
                }],
                invalid: None,
            };
        };
        let (attempts, invalid) = match self.attempts(registry, &reference) {
            Ok(attempts) => (attempts, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        Resolution {
            matched: Some(registry.scope().clone()),
            blocked: registry.blocked,
            attempts,
            invalid,
        }
    }

    fn attempts(&self, registry: &Registry, reference: &Reference) -> Result<Vec<Attempt>, String> {
        let kind = kind_of(reference);
        let text = reference.to_string();
        let end = registry.scope().matches(&text).unwrap_or(text.len());
        let serving = registry
            .mirrors
            .iter()
            .filter(|m| m.pull.serves(kind) && !(registry.digest_only && kind == Kind::Tag));
        let mut attempts = Vec::new();
        for mirror in serving {
            let reference = rewritten(&mirror.location, &text[end..])?;
            attempts.push(Attempt {
                refused_by: self.blocking(&reference),
                reference,
                mirror: Some(mirror.location.clone()),
                insecure: mirror.insecure,
            });
        }
        let source = match registry.location() {
            Some(location) => rewritten(location, &text[end..])?,
            None => reference.clone(),
        };
        let blocking = self.blocking(&source);
        // The registry's own being blocked is said once, for the whole.
        if blocking.as_ref() != Some(registry.scope()) {
            attempts.push(Attempt {
                reference: source,
                mirror: None,
                insecure: registry.insecure,
                refused_by: blocking,
            });
        }
        Ok(attempts)
    }

    fn blocking(&self, reference: &Reference) -> Option<Place> {
        let registry = self.find(&reference.repository.to_string())?;
        registry.blocked.then(|| registry.scope().clone())
    }
}

/// Puts a location in the place of what matched. What comes of it has to be written out already: containers/image takes no `docker.io/redis`
/// here.
fn rewritten(location: &Place, rest: &str) -> Result<Reference, String> {
    let text = format!("{location}{rest}");
    let fails = |why: String| format!("`{location}` rewrites the reference to `{text}`: {why}");
    let reference: Reference = text.parse().map_err(|e| fails(format!("{e}")))?;
    let written_out = reference.to_string();
    match written_out == text {
        true => Ok(reference),
        false => Err(fails(format!("it would have to be `{written_out}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::document::Rule, cluster::scope::Scope, model::policy::MirrorSourcePolicy,
    };

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
        assert_eq!(refused.refused_by, Some(Place::new("q.io/a")));
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
}

//! What a `registries.conf` names: less strict than the API, which takes [`Scope`]s only.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{cluster::scope::Scope, model::prefix};

/// A registry, a namespace, a repository or `*.host`, as it stands in a file of a node.
///
/// Sorts by its bytes, as the machine-config-operator and containers/image sort.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Arc<str>);

impl Place {
    /// Takes a text for a place; slashes at its end mean nothing.
    pub fn new(text: &str) -> Self {
        Place(text.trim_end_matches('/').into())
    }

    /// Takes a text for a place letter by letter, as the operator takes insecure and blocked registries.
    pub(crate) fn verbatim(text: &str) -> Self {
        Place(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `*.host`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// Returns how many bytes of a reference or name this place matches, if it matches, by the node's rule (containers/image,
    /// `refMatchingPrefix`), which takes `example.com` for a prefix of `example.com:5000` too.
    pub fn matches(&self, reference: &str) -> Option<usize> {
        prefix::matched(&self.0, reference)
    }

    /// Whether this place is `wider`, or lies in it, by the rule that hands insecure, blocked and mirrors down to nested places
    /// (runtime-utils, `ScopeIsNestedInsideScope`). It is not the rule of [`Place::matches`]: a port makes another host.
    pub fn lies_in(&self, wider: &Place) -> bool {
        let below = self.0.strip_prefix(&*wider.0);
        if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return true;
        }
        let Some(domain) = wider.0.strip_prefix('*').filter(|d| d.starts_with('.')) else {
            return false;
        };
        // As upstream cuts: at the first colon where there is one, else at the first slash.
        match self.0.split_once(':') {
            Some((host, _)) => host.ends_with(domain) && !host.contains('/'),
            None => self
                .0
                .split('/')
                .next()
                .is_some_and(|host| host.ends_with(domain)),
        }
    }

    /// Returns what follows this place in a narrower one, slash included; nothing where `narrower` does not begin with it.
    pub fn rest_of<'a>(&self, narrower: &'a Place) -> Option<&'a str> {
        narrower.0.strip_prefix(&*self.0)
    }

    /// Returns this place with `rest` after it.
    pub fn with(&self, rest: &str) -> Place {
        Place(format!("{}{rest}", self.0).into())
    }
}

impl From<&Scope> for Place {
    fn from(scope: &Scope) -> Self {
        Place(scope.as_str().into())
    }
}

impl PartialEq<Scope> for Place {
    fn eq(&self, scope: &Scope) -> bool {
        &*self.0 == scope.as_str()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Place::new(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases of runtime-utils' `TestScopeIsNestedInsideScope`; the last four are ours.
    #[test]
    fn nesting_is_told_as_the_operator_tells_it() {
        for (narrow, wide, expected) in [
            ("quay.io", "example.com", false),
            ("quay.io", "quay.io", true),
            ("quay.io:443", "quay.io", false),
            ("quay.io:443", "quay.io:444", false),
            ("quay.io.example.com", "quay.io", false),
            ("quay.io2", "quay.io", false),
            ("quay.io/ns1", "quay.io", true),
            ("quay.io/ns1/ns2/ns3", "quay.io", true),
            ("quay.io/ns1/ns2/ns3", "not-quay.io", false),
            ("bar/example.foo", "*.foo", false),
            ("example/bar.foo/quay.io", "*.foo", false),
            ("example/bar.foo:400", "*.foo", false),
            ("foo.example.com", "*.example.com", true),
            ("*.foo.example.com", "*.example.com", true),
            ("foo.example.com/bar", "*.example.com", true),
            ("foo.registry.com", "*.example.com", false),
            ("foo.example.com", "**.example.com", false),
            ("foo.example.com", "example.*.com", false),
            ("foo.example.com", "*.example.com/foo/bar", false),
            ("foo.example.com:443/bar/baz", "*.example.com", true),
            (
                "foo.example.com:443/bar/baz",
                "*.example.com/bar/baz",
                false,
            ),
            ("foo.example.com", "*example.com", false),
            ("foo.example.com", "*/example.com", false),
            ("example.com", "*.example.com", false),
            ("*.example.com", "*.example.com", true),
            ("quay.io", "quay.io/ns1", false),
            ("quay.io/ns10", "quay.io/ns1", false),
        ] {
            let nested = Place::new(narrow).lies_in(&Place::new(wide));
            assert_eq!(nested, expected, "{narrow} in {wide}");
        }
    }
}

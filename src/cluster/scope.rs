//! The sources and mirrors of mirror rules: a registry, a namespace or a repository.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{
    image::{Registry, Repository, check_path},
    prefix,
};

/// Why a text is not the source or mirror of a rule, as a clause that ends a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a source or mirror: `host[:port]`, `host[:port]/namespace[/repository]` or, for a source, `*.host` is expected"
)]
pub struct ScopeError(String);

/// `host[:port][/path]` or `*.host`, as the API accepts it (the patterns of the IDMS and ITMS schemas).
///
/// Sorts by its bytes, as the machine-config-operator sorts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `*.host`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// Returns the scope that is exactly one repository, or an error where the API takes no such name (an underscore or an
    /// IPv6 address as the host).
    pub fn of(repository: &Repository) -> Result<Self, ScopeError> {
        repository.to_string().parse()
    }

    /// Returns the next wider scope; nothing for a whole registry.
    pub fn parent(&self) -> Option<Scope> {
        let (parent, _) = self.0.rsplit_once('/')?;
        Some(Scope(parent.into()))
    }

    /// Returns how many bytes of a reference or name this scope matches, if it matches, by the node's rule ([`prefix::matched`]).
    pub fn matches(&self, reference: &str) -> Option<usize> {
        prefix::matched(&self.0, reference)
    }

    /// Returns what follows this scope in a strictly narrower one, slash included; nothing when `narrower` is not one.
    pub fn rest_of<'a>(&self, narrower: &'a Scope) -> Option<&'a str> {
        narrower
            .0
            .strip_prefix(&*self.0)
            .filter(|rest| rest.starts_with('/'))
    }

    /// Returns this scope with `rest` (as from [`Scope::rest_of`]) after it.
    pub fn with(&self, rest: &str) -> Scope {
        Scope(format!("{}{rest}", self.0).into())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let (host, path) = match text.split_once('/') {
            Some((host, path)) => (host, Some(path)),
            None => (text, None),
        };
        let fits = match host.strip_prefix("*.") {
            Some(domain) => path.is_none() && !domain.contains(':') && is_host(domain),
            None => is_host(host) && path.is_none_or(|path| check_path(path).is_ok()),
        };
        if fits {
            Ok(Scope(text.into()))
        } else {
            Err(ScopeError(text.chars().take(120).collect()))
        }
    }
}

/// The API's hosts are fewer than a registry's: no underscore, no IPv6 address.
fn is_host(text: &str) -> bool {
    text.parse::<Registry>().is_ok() && !text.contains(['_', '['])
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    #[test]
    fn what_the_api_refuses_is_refused() {
        for text in [
            "",
            "quay.io/",
            "quay.io/A",
            "https://quay.io",
            "quay.io/a:v1",
            "quay.io/a@sha256:00",
            "a_b.io/c",
            "[::1]:5000/a",
            "*.quay.io/a",
            "*.quay.io:5000",
            "*.",
            "*",
            "quay.io//a",
            "quay.io/a_",
            "-a.io",
            "quay.io:/a",
        ] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
        for text in [
            "quay.io",
            "localhost",
            "quay.io:5000/a--b/c.d__e",
            "*.quay.io",
            "10.0.0.1:5000/x",
            "Quay.io/a",
        ] {
            assert_eq!(scope(text).to_string(), text);
        }
    }

    /// Cases of containers/image's `TestRefMatchingPrefix` and `TestRefMatchingSubdomainPrefix`.
    #[test]
    fn prefixes_match_as_on_a_node() {
        for (reference, prefix, expected) in [
            ("quay.io/ns/repo:tag", "quay.io/ns/repo", Some(15)),
            ("quay.io/ns/repo@sha256:0", "quay.io/ns", Some(10)),
            ("quay.io/ns/repo", "quay.io/ns/re", None),
            ("quay.io/ns", "quay.io/ns/repo", None),
            ("quay.io:5000/ns", "quay.io", Some(7)),
            ("docker.io/foo.example.com/x", "*.example.com", None),
            ("foo.example.com/x", "*.example.com", Some(15)),
            ("foo.bar.example.com:5000/x", "*.example.com", Some(19)),
            ("example.com/x", "*.example.com", None),
            ("foo.example.comx/x", "*.example.com", None),
        ] {
            assert_eq!(
                scope(prefix).matches(reference),
                expected,
                "{prefix} of {reference}"
            );
        }
    }

    #[test]
    fn narrower_scopes_are_told_by_whole_components() {
        assert_eq!(
            scope("quay.io/a").rest_of(&scope("quay.io/a/b/c")),
            Some("/b/c")
        );
        assert_eq!(scope("quay.io/a").rest_of(&scope("quay.io/ab")), None);
        assert_eq!(scope("quay.io/a").rest_of(&scope("quay.io/a")), None);
        assert_eq!(scope("quay.io").rest_of(&scope("quay.io:5000")), None);
        assert_eq!(scope("m.lan/p").with("/b"), scope("m.lan/p/b"));
        assert_eq!(scope("quay.io/a").parent(), Some(scope("quay.io")));
        assert_eq!(scope("quay.io").parent(), None);
    }
}

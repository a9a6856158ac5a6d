//! What the site decides about an image set: where it goes, when it is applied, how clusters are told.
//!
//! These are the words of the settings file; an image set's own file cannot change them.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::model::image::{NameError, Registry, Repository, check_path};

/// The place in the mirror registry below which everything lands: `host[:port][/prefix]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    registry: Registry,
    prefix: String,
    /// The most parts that a path may have; any number where this is 0.
    max_nested_paths: u32,
}

impl Target {
    /// Returns the mirror registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the path below the registry without slashes around it; empty where there is none.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the same place, where paths have no more than `most` parts; with 0 they have any number.
    pub fn nesting(mut self, most: u32) -> Self {
        self.max_nested_paths = most;
        self
    }

    /// Whether names may be joined here, so that different paths may become one.
    pub fn flattens(&self) -> bool {
        self.max_nested_paths > 0
    }

    /// Returns the repository at `path` below this place.
    pub fn repository(&self, path: &str) -> Result<Repository, NameError> {
        let path = if self.prefix.is_empty() {
            path.to_owned()
        } else {
            format!("{}/{path}", self.prefix)
        };
        Repository::new(
            self.registry.clone(),
            &flattened(&path, self.max_nested_paths),
        )
    }
}

/// Joins the last parts of a path with dashes, so that no more than `most` are left, as oc-mirror's `--max-nested-paths` does:
/// the prefix counts, and 0 leaves all as it is.
fn flattened(path: &str, most: u32) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    let kept = (most as usize).saturating_sub(1);
    if most == 0 || parts.len() <= most as usize {
        return path.to_owned();
    }
    let (kept, joined) = parts.split_at(kept);
    let joined = joined.join("-");
    let all = kept.iter().copied().chain([joined.as_str()]);
    all.collect::<Vec<_>>().join("/")
}

impl FromStr for Target {
    type Err = NameError;

    /// Parses `host[:port][/prefix]`, also with `docker://` before it.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text
            .strip_prefix("docker://")
            .unwrap_or(text)
            .trim_end_matches('/');
        if text.contains("://") {
            return Err(NameError::Host(text.to_owned()));
        }
        let (host, prefix) = text.split_once('/').unwrap_or((text, ""));
        if !prefix.is_empty() {
            check_path(prefix)?;
        }
        Ok(Target {
            registry: host.parse()?,
            prefix: prefix.to_owned(),
            max_nested_paths: 0,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.registry.as_str())?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

/// Who starts the run of a new plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApplyMode {
    /// A commit is planned and applied.
    #[default]
    Automatic,
    /// A commit is planned and waits for a person.
    Manual,
}

/// What happens when tags or channels moved upstream without a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRefresh {
    /// The new plan is applied, where the image set is applied automatically at all.
    #[default]
    Apply,
    /// The new plan waits for a person.
    Plan,
}

/// How wide a mirror rule's source is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MirrorScope {
    /// One rule a repository.
    Repository,
    /// One rule a namespace (all but the last component), as oc-mirror writes them; a repository where that does not fit.
    #[default]
    Namespace,
    /// One rule a registry; a repository where that does not fit.
    Registry,
}

/// Whether nodes may turn to the source when no mirror has the content (`mirrorSourcePolicy` of IDMS and ITMS).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MirrorSourcePolicy {
    /// They may. The API's default; left out of the documents.
    #[default]
    AllowContactingSource,
    /// They may not.
    NeverContactSource,
}

/// `mirrorSourcePolicy` for the sources that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePolicy {
    /// A source as rules have them (`quay.io/openshift-release-dev`); `*` stands for any text without `/` and `**` for any text.
    pub source: String,
    /// What holds for them.
    pub policy: MirrorSourcePolicy,
}

/// How clusters refer to operator catalogs in the mirror.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatalogReference {
    /// By digest: a catalog changes in a cluster when its document is applied.
    #[default]
    Digest,
    /// By tag: a cluster looks at the tag now and then, and a catalog changes when it lands.
    Tag,
}

/// What holds for one image set, after defaults and overrides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Where the image set's content lands.
    pub target: Target,
    /// Who starts runs.
    pub apply: ApplyMode,
    /// What happens when upstream moved.
    pub on_refresh: OnRefresh,
    /// How often tags and channels are looked at again.
    pub refresh: Duration,
    /// The largest download, in bytes, that is applied without a person.
    pub max_bytes: Option<u64>,
    /// How wide mirror rules are.
    pub mirror_scope: MirrorScope,
    /// Whether releases are taken without looking at their signatures.
    pub ignore_release_signatures: bool,
    /// Whether a shortest update path may use conditional edges.
    pub conditional_updates: bool,
    /// Whether signatures and referrers of images come along. That of a release payload does in any case.
    pub copy_signatures: bool,
    /// How often signatures and referrers of an image that is known are looked for again.
    pub signatures_refresh: Duration,
    /// How clusters refer to operator catalogs in the mirror.
    pub catalog_reference: CatalogReference,
    /// How often clusters look at the tag of a catalog, where they refer to it by tag.
    pub catalog_poll: Duration,
}

/// Whether `text` is what `pattern` stands for: `*` is any text without `/`, `**` any text, all else itself.
///
/// The one rule for patterns in settings: image set names and sources.
pub fn matches(pattern: &str, text: &str) -> bool {
    fn go(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|n| go(rest, &text[n..])),
            [b'*', rest @ ..] => {
                let end = text.iter().position(|&b| b == b'/').unwrap_or(text.len());
                (0..=end).any(|n| go(rest, &text[n..]))
            }
            [first, rest @ ..] => text.first() == Some(first) && go(rest, &text[1..]),
        }
    }
    go(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_joins_its_prefix() {
        let target: Target = "docker://reg.lan:5000/a/b/".parse().unwrap();
        assert_eq!(target.to_string(), "reg.lan:5000/a/b");
        assert_eq!(
            target.repository("x/y").unwrap().to_string(),
            "reg.lan:5000/a/b/x/y"
        );
        assert_eq!(
            "reg.lan"
                .parse::<Target>()
                .unwrap()
                .repository("x")
                .unwrap()
                .to_string(),
            "reg.lan/x"
        );
        assert!("reg.lan/A".parse::<Target>().is_err());
        assert_eq!(
            "https://reg.lan/a"
                .parse::<Target>()
                .unwrap_err()
                .to_string(),
            "`https://reg.lan/a` is not a registry: `host` or `host:port` is expected"
        );
    }

    #[test]
    fn paths_are_joined_as_oc_mirror_joins_them() {
        let target: Target = "reg.lan/ocp".parse().unwrap();
        let land = |most: u32, path: &str| {
            let target = target.clone().nesting(most);
            target.repository(path).unwrap().path().to_owned()
        };
        let path = "openshift/release-images";
        assert_eq!(
            [0, 1, 2, 3, 4].map(|most| land(most, path)),
            [
                "ocp/openshift/release-images",
                "ocp-openshift-release-images",
                "ocp/openshift-release-images",
                "ocp/openshift/release-images",
                "ocp/openshift/release-images",
            ]
        );
        assert_eq!(land(2, "a/b/c/d"), "ocp/a-b-c-d");
        assert_eq!(land(3, "a/b/c/d"), "ocp/a/b-c-d");
    }

    #[test]
    fn patterns_stop_at_slashes_unless_doubled() {
        assert!(matches("prod/*", "prod/ocp-4.16"));
        assert!(!matches("prod/*", "prod/a/b"));
        assert!(matches("prod/**", "prod/a/b"));
        assert!(matches("**", ""));
        assert!(!matches("quay.io", "quay.io/x"));
    }
}

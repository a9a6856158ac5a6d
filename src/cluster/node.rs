//! What a node knows of registries: its `registries.conf` as a value.
//!
//! `operator` makes it of mirror rules as the machine-config-operator does, `conf` reads and writes it as the file it is, `pull` says
//! what a node tries for a reference.

use serde::{Deserialize, Serialize};

use crate::cluster::{Kind, place::Place};

/// A node's `registries.conf`, its tables in the order in which they stand in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// `unqualified-search-registries`; nothing where the file does not say.
    pub search: Option<Vec<String>>,
    /// `credential-helpers`.
    pub credential_helpers: Option<Vec<String>>,
    /// `short-name-mode`; empty where the file does not say.
    pub short_name_mode: String,
    /// `[aliases]`, in the order of their names.
    pub aliases: Vec<(String, String)>,
    pub(crate) registries: Vec<Registry>,
}

/// A `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// What it is for.
    pub naming: Naming,
    /// `insecure`: plain HTTP is taken, and certificates are not checked.
    pub insecure: bool,
    /// `blocked`: nodes may not contact it.
    pub blocked: bool,
    /// `mirror-by-digest-only`: none of its mirrors is for tags. The operator wrote it up to 4.12, and still reads it.
    pub digest_only: bool,
    /// Its mirrors in the order in which they are tried; those for digests stand first where the operator wrote them.
    pub mirrors: Vec<Mirror>,
}

/// How a `[[registry]]` says what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// `location` alone: what references begin with, and where their content is.
    Location(Place),
    /// `prefix`, what references begin with, and `location`, where their content is unless the prefix is a wildcard.
    Prefix(Place, Option<Place>),
}

/// A `[[registry.mirror]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Where it is.
    pub location: Place,
    /// Whether plain HTTP is taken, and certificates are not checked.
    pub insecure: bool,
    /// `pull-from-mirror`: which references it is for.
    pub pull: Pull,
}

/// `pull-from-mirror`: which references a mirror is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// It is not said: all references.
    Unsaid,
    /// All references, in so many words. The operator takes it for another value than [`Pull::Unsaid`].
    All,
    /// References by digest.
    Digest,
    /// References by tag.
    Tag,
}

impl Pull {
    /// Returns the value as it is written; empty where nothing is.
    pub fn as_str(self) -> &'static str {
        match self {
            Pull::Unsaid => "",
            Pull::All => "all",
            Pull::Digest => "digest-only",
            Pull::Tag => "tag-only",
        }
    }

    /// Whether references of a kind are pulled from such a mirror.
    pub fn serves(self, kind: Kind) -> bool {
        match self {
            Pull::Unsaid | Pull::All => true,
            Pull::Digest => kind == Kind::Digest,
            Pull::Tag => kind == Kind::Tag,
        }
    }
}

impl From<Kind> for Pull {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Digest => Pull::Digest,
            Kind::Tag => Pull::Tag,
        }
    }
}

impl Registry {
    /// Begins a table as the operator does: a wildcard is a `prefix`, all else a `location`.
    pub(crate) fn new(scope: &Place) -> Self {
        Registry {
            naming: match scope.is_wildcard() {
                true => Naming::Prefix(scope.clone(), None),
                false => Naming::Location(scope.clone()),
            },
            insecure: false,
            blocked: false,
            digest_only: false,
            mirrors: Vec::new(),
        }
    }

    /// Returns what references are matched with: the prefix, or the location where there is none.
    pub fn scope(&self) -> &Place {
        match &self.naming {
            Naming::Location(place) | Naming::Prefix(place, _) => place,
        }
    }

    /// Returns where the content is; nothing for a wildcard, whose content is where its references say.
    pub fn location(&self) -> Option<&Place> {
        match &self.naming {
            Naming::Location(place) => Some(place),
            Naming::Prefix(_, location) => location.as_ref(),
        }
    }
}

impl Node {
    /// Returns the `[[registry]]` tables in their order.
    pub fn registries(&self) -> &[Registry] {
        &self.registries
    }

    /// Returns the table of a scope, which is begun at the end where there is none.
    pub(crate) fn registry(&mut self, scope: &Place) -> &mut Registry {
        let at = self.registries.iter().position(|r| r.scope() == scope);
        let at = at.unwrap_or_else(|| {
            self.registries.push(Registry::new(scope));
            self.registries.len() - 1
        });
        &mut self.registries[at]
    }
}

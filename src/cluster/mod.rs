//! What clusters are told: mirror rules as documents, what a node makes of them, what a change of them does; and signatures.
//!
//! ```text
//! units + published documents --render--> documents --diff--> changes
//!                                             |
//!                                             +--Node--> which mirrors a node tries; --impact--> reload or drain
//! ```
//!
//! **Invariant:** pure. The same units, published documents and settings give the same bytes, in whatever order they come.

pub mod scope;

pub mod place;

pub mod document;

pub mod object;

pub mod signatures;

pub mod name;

pub mod yaml;

pub mod published;

mod needs;

mod book;

mod contact;

pub mod render;

pub mod retire;

pub mod catalog;

pub mod change;

pub mod node;

pub mod operator;

pub mod conf;

pub mod pull;

pub mod impact;

pub mod forecast;

pub mod hold;

pub mod snapshot;

pub mod objects;

pub mod machine;

pub mod rollout;

pub mod check;

pub mod coverage;

pub mod install_config;

pub mod pull_secret;

pub mod migrate;

use std::{collections::BTreeMap, fmt};

pub use document::{Document, Rule};
pub use object::Object;
pub use render::{Rendering, Warning, render};

use serde::{Deserialize, Serialize};

use crate::model::{
    image::{Repository, Tag},
    imageset::SetName,
    policy::{MirrorScope, SourcePolicy},
};

/// What lands or fails together: a release with all its images, or a single additional image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The image set that wants it.
    pub set: SetName,
    /// As part of what.
    pub purpose: Purpose,
    /// Whether all of it is in the mirror. What is not gives no rules, but keeps rules from saying `NeverContactSource`.
    pub landed: bool,
    /// Its images; of a unit that has not landed, as far as they are known.
    pub images: Vec<Served>,
}

/// One image as clusters pull it, and where its content lies in the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The repository that clusters name.
    pub source: Repository,
    /// Whether clusters name it by digest (also when a tag stands beside the digest).
    pub by_digest: bool,
    /// The tag that clusters name it by, and the tag that the mirror has it under.
    pub by_tag: Option<(Tag, Tag)>,
    /// The repository of the mirror.
    pub target: Repository,
}

/// Why an image is mirrored; each purpose has documents of its own, so that one can be applied without the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// A payload and its components; pulled by digest only.
    Release,
    /// A single image.
    Additional,
    /// An operator's bundle, or an image that one names.
    Operators,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Purpose; 3] = [Purpose::Release, Purpose::Additional, Purpose::Operators];

    /// Returns the word that object names end in.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Release => "release",
            Purpose::Additional => "additional",
            Purpose::Operators => "operators",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kind of reference that a rule serves, and with it the kind of object that holds the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// References by digest: ImageDigestMirrorSet.
    Digest,
    /// References by tag: ImageTagMirrorSet.
    Tag,
}

impl Kind {
    /// Returns the object's `kind`.
    pub fn object(self) -> &'static str {
        match self {
            Kind::Digest => "ImageDigestMirrorSet",
            Kind::Tag => "ImageTagMirrorSet",
        }
    }

    /// Returns the field of `spec` that lists the rules.
    pub fn list(self) -> &'static str {
        match self {
            Kind::Digest => "imageDigestMirrors",
            Kind::Tag => "imageTagMirrors",
        }
    }

    /// Returns what file names begin with.
    pub fn short(self) -> &'static str {
        match self {
            Kind::Digest => "idms",
            Kind::Tag => "itms",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Digest => "digest",
            Kind::Tag => "tag",
        })
    }
}

/// What the site's settings say about mirror rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// How wide the rules of each image set are. An image set that is not here and has no units is gone, or cannot be read at
    /// present: its published rules and their policies stay as they are.
    pub scopes: BTreeMap<SetName, MirrorScope>,
    /// `mirrorSourcePolicy` by source; the first whose pattern matches the source, or a wider scope that the source lies in, wins.
    pub source_policies: Vec<SourcePolicy>,
}

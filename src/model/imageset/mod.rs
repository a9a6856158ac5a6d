//! What a person asks for: an ImageSetConfiguration, read into one model whatever its version.
//!
//! The schema is oc-mirror's (`mirror.openshift.io/v2alpha1` and `v1alpha2`) and stays drop-in; see [`read`] for how files become
//! image sets and `parse` for how strictly a document is taken.

mod parse;

mod names;

mod platform;

mod operators;

mod images;

mod collide;

mod crowd;

mod read;

#[cfg(test)]
mod tests;

use std::fmt;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::model::image::{Platform, Reference, Tag};

pub use crate::yaml::{Problem, Severity};
pub use crowd::refuse_crowds;
pub use images::pattern;
pub use read::{FoundSet, Ignored, Read, SourceFile, read, read_for};

/// The name of an image set: its file's path in the watched directory without the extension (`prod/ocp-4.16`); further
/// documents of a file carry `#2`, `#3`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SetName(pub String);

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One image set, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSet {
    /// The image set's name.
    pub name: SetName,
    /// The largest size of an archive's part in GiB, where one is written.
    pub archive_size: Option<u64>,
    /// OpenShift releases.
    pub platform: PlatformSpec,
    /// Operator catalogs.
    pub operators: Vec<Operator>,
    /// Single images.
    pub additional_images: Vec<AdditionalImage>,
    /// Helm charts.
    pub helm: Helm,
    /// What is not mirrored, of whatever kind.
    pub blocked_images: Vec<Blocked>,
}

/// `mirror.platform`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformSpec {
    /// Whether the update graph's data image is wanted.
    pub graph: bool,
    /// The architectures of the payloads, in the update service's words (`amd64`, `arm64`, `multi`); empty means `amd64`.
    pub architectures: Vec<String>,
    /// The platforms of a multi payload that are wanted; sparse indexes come of it.
    pub platforms: Vec<Platform>,
    /// One payload by reference, instead of channels.
    pub release: Option<Reference>,
    /// Whether the KubeVirt disk images that releases name are wanted.
    pub kube_virt_container: bool,
    /// What is wanted of which channels, in the order written.
    pub channels: Vec<Channel>,
}

impl PlatformSpec {
    /// Returns the architectures to ask the update service for: `multi` alone where platforms are named, else those named,
    /// else `amd64`.
    pub fn update_architectures(&self) -> Vec<&str> {
        if !self.platforms.is_empty() {
            vec!["multi"]
        } else if self.architectures.is_empty() {
            vec!["amd64"]
        } else {
            self.architectures.iter().map(String::as_str).collect()
        }
    }
}

/// Whose releases a channel holds.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ChannelType {
    /// Red Hat OpenShift.
    #[default]
    Ocp,
    /// The community distribution.
    Okd,
}

impl fmt::Display for ChannelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChannelType::Ocp => "ocp",
            ChannelType::Okd => "okd",
        })
    }
}

/// `mirror.platform.channels[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// The channel's name (`stable-4.17`).
    pub name: String,
    /// Whose releases.
    pub channel_type: ChannelType,
    /// The lowest version wanted.
    pub min_version: Option<Version>,
    /// The highest version wanted.
    pub max_version: Option<Version>,
    /// Only the versions of a shortest update path from the lowest to the highest.
    pub shortest_path: bool,
    /// Everything from the channel's first version on.
    pub full: bool,
}

/// `mirror.operators[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// The catalog: a registry reference or `oci://` and a path.
    pub catalog: String,
    /// All bundles rather than channel heads.
    pub full: bool,
    /// The path of the catalog in the mirror, where another one is wanted.
    pub target_catalog: Option<String>,
    /// The tag of the catalog in the mirror, where another one is wanted.
    pub target_tag: Option<Tag>,
    /// A file whose CatalogSource is filled in.
    pub target_catalog_source_template: Option<String>,
    /// Whether required packages that are not named stay out.
    pub skip_dependencies: bool,
    /// The platforms wanted; all where none is named.
    pub platforms: Vec<Platform>,
    /// The packages wanted; all where none is named.
    pub packages: Vec<Package>,
}

/// `mirror.operators[].packages[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// The package's name.
    pub name: String,
    /// The default channel that the filtered package is given.
    pub default_channel: Option<String>,
    /// The lowest bundle version wanted.
    pub min_version: Option<Version>,
    /// The highest bundle version wanted.
    pub max_version: Option<Version>,
    /// The lowest bundle wanted, by name (v1alpha2).
    pub min_bundle: Option<String>,
    /// The channels wanted; all where none is named.
    pub channels: Vec<PackageChannel>,
}

/// `mirror.operators[].packages[].channels[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageChannel {
    /// The channel's name.
    pub name: String,
    /// The lowest bundle version wanted.
    pub min_version: Option<Version>,
    /// The highest bundle version wanted.
    pub max_version: Option<Version>,
    /// The lowest bundle wanted, by name (v1alpha2).
    pub min_bundle: Option<String>,
}

/// `mirror.additionalImages[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdditionalImage {
    /// The image; it has a tag, a digest or both.
    pub image: Reference,
    /// The path in the mirror, below its prefix, where another one is wanted.
    pub target_repo: Option<String>,
    /// The tag in the mirror, where another one is wanted.
    pub target_tag: Option<Tag>,
    /// The platforms wanted; all where none is named.
    pub platforms: Vec<Platform>,
}

/// `mirror.helm`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helm {
    /// Repositories of charts.
    pub repositories: Vec<HelmRepository>,
    /// Charts on disk.
    pub local: Vec<HelmChart>,
}

/// `mirror.helm.repositories[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelmRepository {
    /// The repository's name.
    pub name: String,
    /// Where its index is.
    pub url: String,
    /// The charts wanted; all where none is named.
    pub charts: Vec<HelmChart>,
}

/// `mirror.helm.repositories[].charts[]` and `mirror.helm.local[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelmChart {
    /// The chart's name.
    pub name: String,
    /// The chart's version.
    pub version: Option<String>,
    /// The chart's file, for a local one.
    pub path: Option<String>,
    /// Further JSON paths at which rendered objects name images.
    pub image_paths: Vec<String>,
    /// The platforms wanted; all where none is named.
    pub platforms: Vec<Platform>,
}

/// `mirror.blockedImages[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", content = "text", rename_all = "lowercase")]
pub enum Blocked {
    /// An unanchored regular expression over an image's source or its place in the mirror (v2alpha1).
    Pattern(String),
    /// The exact name (v1alpha2).
    Exact(String),
}

//! What a document of a catalog says, as far as rules need it.
//!
//! Source: `operator-registry`, `alpha/declcfg` and `alpha/property`.

use std::{borrow::Cow, collections::HashSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::image::Reference;

/// The schema of a package.
pub const PACKAGE: &str = "olm.package";
/// The schema of a channel.
pub const CHANNEL: &str = "olm.channel";
/// The schema of a bundle.
pub const BUNDLE: &str = "olm.bundle";
/// The schema of what is deprecated in a package.
pub const DEPRECATIONS: &str = "olm.deprecations";

/// The most images of a bundle. Real ones name some hundred.
pub const MAX_IMAGES: usize = 2000;

/// Why a document cannot be used, as a clause after its file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON.
    #[error("holds a document that is not JSON: {0}")]
    Malformed(String),
    /// It has no schema.
    #[error("holds a document without `schema`; every document of a catalog says what it is")]
    NoSchema,
    /// It is of a known schema and of another shape.
    #[error("holds a {what} of another shape than expected: {why}")]
    Shape {
        /// The document, by schema and name.
        what: String,
        /// What is wrong.
        why: String,
    },
}

/// A document, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it is.
    pub schema: String,
    /// The package it belongs to; empty where it belongs to none.
    pub package: String,
    /// Its name.
    pub name: String,
    /// What it says.
    pub content: Content,
}

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Of a package: the default channel.
    Package(String),
    /// Of a channel: its entries.
    Channel(Vec<Entry>),
    /// Of a bundle.
    Bundle(Box<BundleFacts>),
    /// Anything else.
    Other,
}

/// A bundle's place in a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The bundle.
    pub name: String,
    /// The bundle that it is an update of.
    #[serde(default, skip_serializing_if = "empty")]
    pub replaces: Option<String>,
    /// Further bundles that it is an update of, and that nobody should install.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skips: Option<Vec<String>>,
}

fn empty(text: &Option<String>) -> bool {
    text.as_ref().is_none_or(String::is_empty)
}

impl Entry {
    /// Returns the bundle it replaces; nothing for one that begins a channel.
    pub fn replaces(&self) -> Option<&str> {
        self.replaces.as_deref().filter(|name| !name.is_empty())
    }

    /// Returns the bundles it skips.
    pub fn skips(&self) -> &[String] {
        self.skips.as_deref().unwrap_or_default()
    }
}

/// What rules need to know of a bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFacts {
    /// Its version as written; empty where it has none.
    pub version: String,
    /// The kinds of objects it brings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provides: Vec<Gvk>,
    /// What it cannot be installed without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Requirement>,
    /// The first of its images that cannot be mirrored, as a clause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
}

/// A kind of object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gvk {
    /// Its API group.
    #[serde(default)]
    pub group: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// Its kind.
    #[serde(default)]
    pub kind: String,
}

impl std::fmt::Display for Gvk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {}", self.group, self.version, self.kind)
    }
}

/// What a bundle cannot be installed without.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// A bundle of a package in a range of versions.
    Package {
        /// The package.
        name: String,
        /// The range, in the words of `blang/semver`.
        range: String,
    },
    /// Whatever brings a kind of object.
    Gvk(Gvk),
    /// All of these.
    All(Vec<Requirement>),
    /// One of these.
    Any(Vec<Requirement>),
    /// None of these may be installed beside it.
    Not(Vec<Requirement>),
    /// Something that is not understood here, named.
    Unknown(String),
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let joined = |each: &[Requirement]| {
            let each: Vec<String> = each.iter().map(ToString::to_string).collect();
            each.join(", ")
        };
        match self {
            Requirement::Package { name, range } => write!(f, "{name} {range}"),
            Requirement::Gvk(gvk) => gvk.fmt(f),
            Requirement::All(each) => write!(f, "all of ({})", joined(each)),
            Requirement::Any(each) => write!(f, "one of ({})", joined(each)),
            Requirement::Not(each) => write!(f, "none of ({})", joined(each)),
            Requirement::Unknown(kind) => write!(f, "a condition of the type {kind}"),
        }
    }
}

/// An image that a bundle names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    /// The image as written.
    pub image: String,
    /// Whether it is the bundle itself.
    pub is_bundle: bool,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(default, borrow)]
    schema: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    package: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct PackageDocument {
    #[serde(default, rename = "defaultChannel")]
    default_channel: Option<String>,
}

#[derive(Deserialize)]
struct ChannelDocument {
    #[serde(default)]
    entries: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct BundleDocument<'a> {
    #[serde(default, borrow)]
    image: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    properties: Option<Vec<Property<'a>>>,
    #[serde(default, borrow, rename = "relatedImages")]
    related: Option<Vec<Related<'a>>>,
}

#[derive(Deserialize)]
struct Property<'a> {
    #[serde(default, borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    value: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Related<'a> {
    #[serde(default, borrow)]
    image: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct PackageValue {
    #[serde(default, rename = "packageName")]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default, rename = "versionRange")]
    range: String,
}

#[derive(Deserialize)]
struct Compound {
    #[serde(default)]
    constraints: Vec<Constraint>,
}

#[derive(Deserialize)]
struct Constraint {
    package: Option<PackageValue>,
    gvk: Option<Gvk>,
    all: Option<Compound>,
    any: Option<Compound>,
    not: Option<Compound>,
}

/// Reads a document.
///
/// # Errors
///
/// It is no JSON, names no schema, or has not the shape of its schema.
pub fn read(bytes: &[u8]) -> Result<Document, DocumentError> {
    let head: Head<'_> = parse(bytes).map_err(DocumentError::Malformed)?;
    let text = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned).unwrap_or_default();
    let (schema, name) = (text(head.schema), text(head.name));
    let shape = |why: String| DocumentError::Shape {
        what: crate::yaml::shorten(&format!("{schema} {name}")),
        why,
    };
    let content = match schema.as_str() {
        "" => return Err(DocumentError::NoSchema),
        PACKAGE => {
            let document: PackageDocument = parse(bytes).map_err(shape)?;
            Content::Package(document.default_channel.unwrap_or_default())
        }
        CHANNEL => {
            let document: ChannelDocument = parse(bytes).map_err(shape)?;
            Content::Channel(document.entries.unwrap_or_default())
        }
        BUNDLE => Content::Bundle(Box::new(bundle(&parse(bytes).map_err(shape)?))),
        _ => Content::Other,
    };
    let package = match content {
        Content::Package(_) => name.clone(),
        _ => text(head.package),
    };
    Ok(Document {
        schema,
        package,
        name,
        content,
    })
}

/// Returns the images that a bundle's document names, the bundle's own first, each once.
///
/// # Errors
///
/// It is not a bundle's document; a clause.
pub fn images(bytes: &[u8]) -> Result<Vec<Image>, String> {
    let document: BundleDocument<'_> = parse(bytes)?;
    let mut known = HashSet::new();
    let named = named(&document).map(|(image, is_bundle)| (image.trim(), is_bundle));
    let images = named
        .take(MAX_IMAGES)
        .filter(|(image, _)| known.insert(*image));
    Ok(images
        .map(|(image, is_bundle)| Image {
            image: image.to_owned(),
            is_bundle,
        })
        .collect())
}

/// The images as written, and whether they are the bundle itself.
fn named<'d>(document: &'d BundleDocument<'_>) -> impl Iterator<Item = (&'d str, bool)> {
    let own = document.image.as_deref().filter(|image| !image.is_empty());
    let related = document.related.iter().flatten();
    let related = related.map(|related| related.image.as_deref().unwrap_or_default());
    own.into_iter()
        .map(|image| (image, true))
        .chain(related.map(|image| (image, false)))
}

fn bundle(document: &BundleDocument<'_>) -> BundleFacts {
    let unusable = match named(document).count() {
        many if many > MAX_IMAGES => Some(format!(
            "it names {many} images, and no bundle has more than {MAX_IMAGES}"
        )),
        _ => named(document).find_map(|(image, _)| unusable(image)),
    };
    let mut facts = BundleFacts {
        unusable,
        ..BundleFacts::default()
    };
    for property in document.properties.iter().flatten() {
        let Some(value) = property.value.map(RawValue::get) else {
            continue;
        };
        match &*property.kind {
            PACKAGE => {
                if let Ok(package) = serde_json::from_str::<PackageValue>(value) {
                    facts.version = package.version;
                }
            }
            "olm.gvk" => facts.provides.extend(serde_json::from_str::<Gvk>(value)),
            "olm.package.required" => facts.requires.push(
                serde_json::from_str::<PackageValue>(value)
                    .map_or_else(|_| unknown(&property.kind), required_package),
            ),
            "olm.gvk.required" => facts.requires.push(
                serde_json::from_str::<Gvk>(value)
                    .map_or_else(|_| unknown(&property.kind), Requirement::Gvk),
            ),
            "olm.constraint" => facts.requires.push(
                serde_json::from_str::<Constraint>(value)
                    .map_or_else(|_| unknown(&property.kind), constraint),
            ),
            _ => {}
        }
    }
    facts.provides.sort();
    facts.provides.dedup();
    facts.requires.sort();
    facts.requires.dedup();
    facts
}

/// Says why an image that a bundle names cannot be mirrored; nothing where it can.
pub fn unusable(image: &str) -> Option<String> {
    let image = image.trim();
    if image.is_empty() {
        return Some("it names an image without a name".to_owned());
    }
    match image.parse::<Reference>() {
        Ok(reference) if reference.tag.is_none() && reference.digest.is_none() => Some(format!(
            "its image {} has neither tag nor digest",
            crate::yaml::shorten(image)
        )),
        Ok(_) => None,
        Err(error) => Some(format!(
            "its image {} is no image reference: {error}",
            crate::yaml::shorten(image)
        )),
    }
}

fn unknown(kind: &str) -> Requirement {
    Requirement::Unknown(kind.to_owned())
}

fn required_package(value: PackageValue) -> Requirement {
    Requirement::Package {
        name: value.name,
        range: value.range,
    }
}

fn constraint(constraint: Constraint) -> Requirement {
    let each = |compound: Compound| {
        let each = compound.constraints.into_iter();
        each.map(self::constraint).collect()
    };
    match constraint {
        Constraint {
            package: Some(package),
            ..
        } => required_package(package),
        Constraint { gvk: Some(gvk), .. } => Requirement::Gvk(gvk),
        Constraint { all: Some(all), .. } => Requirement::All(each(all)),
        Constraint { any: Some(any), .. } => Requirement::Any(each(any)),
        Constraint { not: Some(not), .. } => Requirement::Not(each(not)),
        // CEL: what it says depends on the cluster.
        _ => unknown("olm.constraint"),
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_tells_what_rules_need_in_whatever_order_it_is_written() {
        let text = r#"{"relatedImages":[{"name":"","image":"r.io/a/b@sha256:0fbbb0b32adadc5746251103d25bba6bd365b2ff60e289e4694061fc92c3ce6e"},{"image":"r.io/x:1"},{"image":"r.io/x:1"}],
            "properties":[{"value":{"group":"g","kind":"K","version":"v1"},"type":"olm.gvk"},{"type":"olm.bundle.object","value":{"data":"e30="}},
            {"type":"olm.package","value":{"packageName":"p","version":"1.2.3-4+5"}},
            {"type":"olm.package.required","value":{"packageName":"q","versionRange":">=1.0.0"}},
            {"type":"olm.gvk.required","value":{"group":"h","kind":"L","version":"v2"}},
            {"type":"olm.constraint","value":{"failureMessage":"x","any":{"constraints":[{"package":{"packageName":"r","versionRange":"1.x"}},{"not":{"constraints":[{"gvk":{"group":"i","version":"v3","kind":"M"}}]}},{"cel":{"rule":"true"}}]}}}],
            "image":"r.io/p/bundle:v1","name":"p.v1","package":"p","schema":"olm.bundle"}"#;
        let document = read(text.as_bytes()).unwrap();
        assert_eq!(
            (&*document.schema, &*document.package, &*document.name),
            ("olm.bundle", "p", "p.v1")
        );
        let gvk = |group: &str, version: &str, kind: &str| Gvk {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
        };
        let package = |name: &str, range: &str| Requirement::Package {
            name: name.into(),
            range: range.into(),
        };
        let facts = BundleFacts {
            version: "1.2.3-4+5".into(),
            provides: vec![gvk("g", "v1", "K")],
            requires: vec![
                package("q", ">=1.0.0"),
                Requirement::Gvk(gvk("h", "v2", "L")),
                Requirement::Any(vec![
                    package("r", "1.x"),
                    Requirement::Not(vec![Requirement::Gvk(gvk("i", "v3", "M"))]),
                    Requirement::Unknown("olm.constraint".into()),
                ]),
            ],
            unusable: None,
        };
        assert_eq!(document.content, Content::Bundle(Box::new(facts)));
        let names: Vec<_> = images(text.as_bytes()).unwrap();
        let names: Vec<_> = names.iter().map(|i| (&*i.image, i.is_bundle)).collect();
        assert_eq!(
            names,
            [
                ("r.io/p/bundle:v1", true),
                (
                    "r.io/a/b@sha256:0fbbb0b32adadc5746251103d25bba6bd365b2ff60e289e4694061fc92c3ce6e",
                    false
                ),
                ("r.io/x:1", false)
            ]
        );
    }

    #[test]
    fn the_other_documents_tell_their_part() {
        let content = |text: &str| read(text.as_bytes()).unwrap().content;
        assert_eq!(
            content(r#"{"schema":"olm.package","name":"p","defaultChannel":"s"}"#),
            Content::Package("s".into())
        );
        let entry = |name: &str, replaces: Option<&str>, skips: Option<Vec<&str>>| Entry {
            name: name.into(),
            replaces: replaces.map(Into::into),
            skips: skips.map(|s| s.into_iter().map(Into::into).collect()),
        };
        assert_eq!(
            content(
                r#"{"schema":"olm.channel","package":"p","name":"s","entries":[{"name":"a","replaces":"b","skips":["c"],"skipRange":"<1"},{"name":"b","skips":null}]}"#
            ),
            Content::Channel(vec![
                entry("a", Some("b"), Some(vec!["c"])),
                entry("b", None, None)
            ])
        );
        let other = read(br#"{"schema":"io.x.lifecycle","package":null,"z":[1]}"#).unwrap();
        assert_eq!((other.content, &*other.package), (Content::Other, ""));
    }

    #[test]
    fn what_is_no_document_ends_in_a_sentence() {
        let said = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            said(r#"{"name": "x"}"#),
            "holds a document without `schema`; every document of a catalog says what it is"
        );
        assert!(
            said(r#"{"schema": }"#)
                .starts_with("holds a document that is not JSON: expected value")
        );
        assert!(
            said(r#"{"schema":"olm.channel","name":"s","entries":3}"#)
                .starts_with("holds a olm.channel s of another shape than expected: invalid type")
        );
    }

    #[test]
    fn a_bundle_of_too_many_images_cannot_be_mirrored() {
        let related: Vec<_> = (0..3000)
            .map(|n| serde_json::json!({"image": format!("r.io/x:{n}")}))
            .collect();
        let document = serde_json::json!({"schema": BUNDLE, "package": "p", "name": "p.v1", "relatedImages": related});
        let text = document.to_string();
        let Content::Bundle(facts) = read(text.as_bytes()).unwrap().content else {
            panic!()
        };
        assert_eq!(
            facts.unusable.unwrap(),
            "it names 3000 images, and no bundle has more than 2000"
        );
        assert_eq!(images(text.as_bytes()).unwrap().len(), MAX_IMAGES);
    }

    #[test]
    fn an_image_that_cannot_be_mirrored_is_named() {
        assert_eq!(
            unusable(""),
            Some("it names an image without a name".into())
        );
        assert!(
            unusable("oci://x")
                .unwrap()
                .starts_with("its image oci://x is no image reference: ")
        );
        assert_eq!(
            unusable("r.io/x"),
            Some("its image r.io/x has neither tag nor digest".into())
        );
        assert_eq!(unusable("r.io/x:1"), None);
    }
}

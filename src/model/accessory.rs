//! What belongs to an image without being part of it: signatures, attestations and SBOMs under cosign's tags, and OCI referrers.
//!
//! Cosign names what it keeps of an image by the image's digest: `sha256-<hex>.sig`, `.att` and `.sbom` in the same repository.
//! A referrer is a manifest whose `subject` is the image; a registry without the referrers API lists them in an index under the
//! tag `sha256-<hex>` (OCI distribution specification 1.1, "Referrers Tag Schema").

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{
    facts::Failure,
    image::{Digest, Tag},
    manifest::{ACCEPT, Descriptor, Manifest, OCI_INDEX},
};

/// How far referrers of referrers are followed: a signature of an SBOM of an image is seen in the wild, and its signature not.
pub const MAX_DEPTH: usize = 3;

/// How many accessories of one image come along; more of them say that somebody uses the registry as a log.
pub const MAX_ACCESSORIES: usize = 500;

/// What an accessory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `sha256-<hex>.sig`
    Signature,
    /// `sha256-<hex>.att`
    Attestation,
    /// `sha256-<hex>.sbom`
    Sbom,
    /// A manifest whose `subject` is the image.
    Referrer,
}

impl Kind {
    /// Those that have a tag.
    pub const TAGGED: [Kind; 3] = [Kind::Signature, Kind::Attestation, Kind::Sbom];

    fn suffix(self) -> Option<&'static str> {
        match self {
            Kind::Signature => Some("sig"),
            Kind::Attestation => Some("att"),
            Kind::Sbom => Some("sbom"),
            Kind::Referrer => None,
        }
    }
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Signatures under cosign's tags only: without that of its payload a release from 4.21 on is of no use.
    Signature,
    /// Everything.
    All,
}

impl Scope {
    /// The kinds with a tag that are looked for.
    pub fn tagged(self) -> &'static [Kind] {
        match self {
            Scope::Signature => &[Kind::Signature],
            Scope::All => &Kind::TAGGED,
        }
    }
}

/// One accessory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Accessory {
    /// What it belongs to: the image, a child of it, or another referrer.
    pub subject: Digest,
    /// What it is.
    pub kind: Kind,
    /// Its manifest.
    pub digest: Digest,
}

impl Accessory {
    /// Returns the tag it is found by; none for a referrer.
    pub fn tag(&self) -> Option<Tag> {
        tag(&self.subject, self.kind)
    }
}

/// Returns the tag under which cosign keeps what it has of `subject`; none where that would be no tag.
pub fn tag(subject: &Digest, kind: Kind) -> Option<Tag> {
    let suffix = kind.suffix()?;
    let text = format!("{}-{}.{suffix}", subject.algorithm(), subject.hex());
    text.parse().ok()
}

/// Returns the tag of the index of a manifest's referrers, where the registry has no API for them. The specification cuts the
/// digest to 64 characters.
pub fn list_tag(subject: &Digest) -> Option<Tag> {
    let hex = subject.hex();
    let cut = hex.get(..64).unwrap_or(&hex);
    format!("{}-{cut}", subject.algorithm()).parse().ok()
}

/// What was found around one image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The accessories; each comes after what it belongs to.
    pub found: Vec<Accessory>,
    /// What could not be looked for.
    #[serde(default)]
    pub missed: Vec<Missed>,
}

/// Something that could not be looked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Missed {
    /// Around which manifest.
    pub subject: Digest,
    /// What was looked for.
    pub kind: Kind,
    /// Why it could not be.
    pub failure: Failure,
}

impl Attached {
    /// Adds what was known before of everything that could not be looked for now: an upstream that is down takes nothing away.
    pub fn or_before(mut self, before: Option<&Attached>) -> Self {
        let Some(before) = before else {
            return self;
        };
        for missed in &self.missed {
            let known = |a: &&Accessory| a.subject == missed.subject && a.kind == missed.kind;
            for accessory in before.found.iter().filter(known) {
                if !self.found.contains(accessory) {
                    self.found.push(accessory.clone());
                }
            }
        }
        self
    }

    /// Whether something could not be looked for that may be there at a later look.
    pub fn is_passing(&self) -> bool {
        self.missed.iter().any(|missed| missed.failure.transient)
    }

    /// The accessories of these subjects, and what belongs to those.
    pub fn of(&self, subjects: &BTreeSet<Digest>) -> Vec<&Accessory> {
        let mut reached: BTreeSet<&Digest> = subjects.iter().collect();
        let mut found = Vec::new();
        for accessory in &self.found {
            if reached.contains(&accessory.subject) {
                reached.insert(&accessory.digest);
                found.push(accessory);
            }
        }
        found
    }
}

/// Returns what a manifest refers to, where it is a referrer.
pub fn subject(manifest: &Manifest) -> Option<Digest> {
    #[derive(Deserialize)]
    struct Referring {
        subject: Option<Subject>,
    }
    #[derive(Deserialize)]
    struct Subject {
        digest: Digest,
    }
    let referring: Referring = serde_json::from_slice(&manifest.raw).ok()?;
    Some(referring.subject?.digest)
}

/// The manifests that an index of referrers lists. Under the tag of such an index may lie an image, which lists none: images that
/// are named by digest only are kept under this tag by oc-mirror, and here too.
pub fn listed<'a>(list: &'a Manifest, subject: &Digest) -> Vec<&'a Descriptor> {
    match list.media_type == OCI_INDEX && list.digest != *subject {
        true => list.children(&[]).collect(),
        false => Vec::new(),
    }
}

/// Whether a referrer of this media type can be mirrored: OCI's short-lived artifact manifest cannot, registries have dropped it.
pub fn is_mirrored(media_type: &str) -> bool {
    ACCEPT.contains(&media_type)
}

/// What becomes of an index of referrers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// It lists all of them.
    Whole,
    /// It is to be this one.
    Write(Box<Manifest>),
    /// Under its tag lies an image, which stays.
    Taken,
}

/// Adds referrers to the index under the [list's tag](list_tag), `current` where there is one. What others have listed stays; the
/// entries are sorted by digest, so that the same referrers give the same bytes.
pub fn list(current: Option<&Manifest>, subject: &Digest, referrers: &[&Manifest]) -> Listing {
    let mut document = match current {
        None => Map::new(),
        Some(list) if list.media_type != OCI_INDEX || list.digest == *subject => {
            return Listing::Taken;
        }
        Some(list) => serde_json::from_slice(&list.raw).unwrap_or_default(),
    };
    let entries = document.remove("manifests");
    let mut entries = match entries {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    let digest = |entry: &Value| {
        let text = entry.get("digest").and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let known: BTreeSet<String> = entries.iter().map(digest).collect();
    let new = referrers
        .iter()
        .filter(|referrer| !known.contains(&referrer.digest.to_string()));
    let new: Vec<Value> = new.map(|referrer| describe(referrer)).collect();
    if new.is_empty() && current.is_some() {
        return Listing::Whole;
    }
    entries.extend(new);
    entries.sort_by_key(digest);
    entries.dedup();
    document.insert("schemaVersion".into(), 2.into());
    document.insert("mediaType".into(), OCI_INDEX.into());
    document.insert("manifests".into(), entries.into());
    let raw = Value::Object(document).to_string();
    match Manifest::parse(raw.into(), None) {
        Ok(list) => Listing::Write(Box::new(list)),
        // More entries than any reader takes.
        Err(_) => Listing::Taken,
    }
}

/// Describes a referrer as the referrers API does: with its type and its annotations.
fn describe(referrer: &Manifest) -> Value {
    let document: Value = serde_json::from_slice(&referrer.raw).unwrap_or_default();
    let mut entry = Map::new();
    entry.insert("mediaType".into(), referrer.media_type.clone().into());
    entry.insert("digest".into(), referrer.digest.to_string().into());
    entry.insert("size".into(), referrer.raw.len().into());
    let config = document.get("config").and_then(|c| c.get("mediaType"));
    let own = document
        .get("artifactType")
        .filter(|t| t.as_str().is_some_and(|t| !t.is_empty()));
    if let Some(kind) = own.or(config) {
        entry.insert("artifactType".into(), kind.clone());
    }
    if let Some(annotations) = document.get("annotations") {
        entry.insert("annotations".into(), annotations.clone());
    }
    Value::Object(entry)
}

/// Where cosign keeps a signature: its layer holds only what was signed, which two keys may sign.
const COSIGN_SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// What cosign's manifest holds: of each layer the digest, and the signature where there is one.
fn holdings(manifest: &Manifest) -> BTreeSet<(String, String)> {
    let document: Value = serde_json::from_slice(&manifest.raw).unwrap_or_default();
    let layers = document.get("layers").and_then(Value::as_array);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let layers = layers.into_iter().flatten().map(|layer| {
        let annotations = layer.get("annotations");
        let signature = annotations.and_then(|a| a.get(COSIGN_SIGNATURE));
        (text(layer.get("digest")), text(signature))
    });
    layers.collect()
}

/// What a tag of cosign's in the mirror, which names another manifest than upstream's tag, is to upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It holds everything that upstream's holds: oc-mirror writes such manifests anew, and a site may have added a signature.
    Covers,
    /// It holds nothing that upstream's does not hold, and makes way.
    Yields,
    /// Each holds something that the other does not; somebody has signed in the mirror, and that is not thrown away.
    Differs,
}

/// Compares what the mirror holds under a tag of cosign's with what upstream does.
pub fn compare(kind: Kind, held: &Manifest, upstream: &Manifest) -> Standing {
    let (held, upstream) = (holdings(held), holdings(upstream));
    if held.is_superset(&upstream) {
        Standing::Covers
    // Another SBOM takes the place of the former; signatures and attestations add up.
    } else if held.is_subset(&upstream) || kind == Kind::Sbom {
        Standing::Yields
    } else {
        Standing::Differs
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::model::manifest::OCI_MANIFEST;

    const HEX: &str = "0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363";

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn manifest(document: &Value) -> Manifest {
        Manifest::parse(Bytes::from(document.to_string()), None).unwrap()
    }

    /// A manifest of cosign's with these layers, each a payload and its signature.
    fn cosign(layers: &[(&str, &str)]) -> Manifest {
        let layers: Vec<_> = layers
            .iter()
            .map(|(payload, signature)| {
                json!({"mediaType": "s", "digest": digest(payload).to_string(), "size": 1, "annotations": {COSIGN_SIGNATURE: signature}})
            })
            .collect();
        let config = json!({"mediaType": "c", "digest": digest("c").to_string(), "size": 1});
        manifest(&json!({"mediaType": OCI_MANIFEST, "config": config, "layers": layers}))
    }

    fn referrer(of: &Digest, kind: &str) -> Manifest {
        let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest("{}").to_string(), "size": 2});
        manifest(&json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": empty,
            "layers": [empty],
            "subject": {"mediaType": OCI_MANIFEST, "digest": of.to_string(), "size": 3},
            "annotations": {"made": "now"},
        }))
    }

    #[test]
    fn accessories_are_named_by_their_subjects_digest() {
        let subject: Digest = format!("sha256:{HEX}").parse().unwrap();
        let name = |kind| tag(&subject, kind).map(|t| t.to_string());
        assert_eq!(name(Kind::Signature), Some(format!("sha256-{HEX}.sig")));
        assert_eq!(name(Kind::Attestation), Some(format!("sha256-{HEX}.att")));
        assert_eq!(name(Kind::Sbom), Some(format!("sha256-{HEX}.sbom")));
        assert_eq!(name(Kind::Referrer), None);
        let list = |digest: &Digest| list_tag(digest).unwrap().to_string();
        assert_eq!(list(&subject), format!("sha256-{HEX}"));
        let long: Digest = format!("sha512:{HEX}{HEX}").parse().unwrap();
        assert_eq!(list(&long), format!("sha512-{HEX}"));
        // Longer than a tag may be.
        assert_eq!(tag(&long, Kind::Signature), None);
    }

    #[test]
    fn only_what_names_a_subject_is_a_referrer() {
        assert_eq!(
            subject(&referrer(&digest("image"), "a")),
            Some(digest("image"))
        );
        assert_eq!(subject(&cosign(&[])), None);
    }

    #[test]
    fn lists_are_sorted_whoever_comes_first_and_keep_what_others_listed() {
        let image = digest("image");
        let [a, b] = ["a", "b"].map(|kind| referrer(&image, kind));
        let written = |listing| match listing {
            Listing::Write(list) => *list,
            other => panic!("{other:?}"),
        };
        let both = written(list(None, &image, &[&a, &b]));
        let one = written(list(None, &image, &[&b]));
        assert_eq!(written(list(Some(&one), &image, &[&a])), both);
        assert_eq!(list(Some(&both), &image, &[&b, &a]), Listing::Whole);
        let entry = |of: &Manifest, kind: &str| json!({"mediaType": OCI_MANIFEST, "digest": of.digest.to_string(), "size": of.raw.len(), "artifactType": kind, "annotations": {"made": "now"}});
        let mut entries = vec![entry(&a, "a"), entry(&b, "b")];
        entries.sort_by_key(|e| e["digest"].to_string());
        let expected = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        assert_eq!(
            serde_json::from_slice::<Value>(&both.raw).unwrap(),
            expected
        );
        let mut theirs = expected.clone();
        theirs["annotations"] = json!({"whose": "theirs"});
        theirs["manifests"] = json!([entry(&a, "a")]);
        let merged = written(list(Some(&manifest(&theirs)), &image, &[&b]));
        let mut expected = expected;
        expected["annotations"] = json!({"whose": "theirs"});
        assert_eq!(
            serde_json::from_slice::<Value>(&merged.raw).unwrap(),
            expected
        );
    }

    #[test]
    fn an_image_under_the_lists_tag_is_no_list() {
        let index = manifest(&json!({"mediaType": OCI_INDEX, "manifests": []}));
        let image = cosign(&[]);
        let referrer = referrer(&index.digest, "a");
        // An index that is kept under its own digest is its own subject.
        assert_eq!(
            list(Some(&index), &index.digest, &[&referrer]),
            Listing::Taken
        );
        assert_eq!(
            list(Some(&image), &index.digest, &[&referrer]),
            Listing::Taken
        );
        assert_eq!(listed(&index, &index.digest), Vec::<&Descriptor>::new());
        assert_eq!(listed(&image, &digest("x")), Vec::<&Descriptor>::new());
    }

    #[test]
    fn signatures_that_the_mirror_has_beyond_upstreams_are_never_thrown_away() {
        let one = cosign(&[("p", "1")]);
        // The same words, signed with another key: the layer is the same blob.
        let other_key = cosign(&[("p", "2")]);
        let both = cosign(&[("p", "2"), ("p", "1")]);
        let standing = |kind, held, upstream| compare(kind, held, upstream);
        assert_eq!(standing(Kind::Signature, &one, &one), Standing::Covers);
        assert_eq!(standing(Kind::Signature, &both, &one), Standing::Covers);
        assert_eq!(standing(Kind::Signature, &one, &both), Standing::Yields);
        assert_eq!(
            standing(Kind::Attestation, &one, &other_key),
            Standing::Differs
        );
        assert_eq!(standing(Kind::Sbom, &one, &other_key), Standing::Yields);
    }

    #[test]
    fn what_could_not_be_looked_for_is_what_it_was() {
        let accessory = |kind, name: &str| Accessory {
            subject: digest("image"),
            kind,
            digest: digest(name),
        };
        let before = Attached {
            found: vec![
                accessory(Kind::Signature, "s1"),
                accessory(Kind::Sbom, "b1"),
            ],
            missed: vec![],
        };
        let missed = Missed {
            subject: digest("image"),
            kind: Kind::Signature,
            failure: Failure {
                reason: "gone for now".into(),
                transient: true,
                cause: Default::default(),
            },
        };
        let now = Attached {
            found: vec![accessory(Kind::Referrer, "r1")],
            missed: vec![missed.clone()],
        };
        assert!(now.is_passing());
        let joined = now.or_before(Some(&before));
        let expected = vec![
            accessory(Kind::Referrer, "r1"),
            accessory(Kind::Signature, "s1"),
        ];
        assert_eq!(
            joined,
            Attached {
                found: expected,
                missed: vec![missed]
            }
        );
    }

    #[test]
    fn accessories_are_reached_through_what_they_belong_to() {
        let accessory = |of: &str, name: &str| Accessory {
            subject: digest(of),
            kind: Kind::Referrer,
            digest: digest(name),
        };
        let attached = Attached {
            found: vec![
                accessory("amd64", "sbom"),
                accessory("arm64", "other"),
                accessory("sbom", "signature of the sbom"),
            ],
            missed: vec![],
        };
        let of = attached.of(&BTreeSet::from([digest("amd64")]));
        assert_eq!(of, [&attached.found[0], &attached.found[2]]);
    }
}

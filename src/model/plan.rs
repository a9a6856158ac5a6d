//! What is left to do for an image set: the difference between what is wanted and what the mirror holds.
//!
//! A plan is a value. Making one changes nothing; applying one does what it says.

mod attached;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::model::{
    accessory::Accessory,
    catalog::changes::{self, HeadChange, Pulled},
    desired::{Desired, Kind, Unresolved, Wanted},
    facts::{Built, Cause, Facts, Need},
    image::{Digest, Hasher, Platform, Reference, Repository, Tag},
    imageset::{ImageSet, SetName},
    manifest::Manifest,
    mirrored::{Mirrored, Position},
    release::path::ConditionalStep,
};

/// The identity of a plan: 64 hexadecimal digits over the image set's name, its document and the steps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(pub String);

impl PlanId {
    /// Returns the beginning that people read and type.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One image to bring over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The image.
    pub image: Wanted,
    /// Bytes that have to be downloaded for it and for no earlier step.
    pub bytes: u64,
    /// Bytes that were already read to make the plan, and are uploaded from there.
    pub bytes_kept: u64,
    /// Blobs that the mirror lacks in this image's repository.
    pub blobs: u32,
    /// What belongs to the image and is brought with it; each comes after what it belongs to.
    #[serde(default)]
    pub attached: Vec<Accessory>,
    /// Whether the mirror has the image, so that only what belongs to it is brought.
    #[serde(default)]
    pub image_held: bool,
}

/// Something an earlier revision mirrored and this one does not ask for. It stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unwanted {
    /// Its place in the mirror.
    pub target: Reference,
    /// What it is.
    pub digest: Digest,
}

/// A tag or channel that meant something else the last time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moved {
    /// The tag or channel.
    pub subject: String,
    /// What it meant the last time.
    pub from: String,
    /// What it means now.
    pub to: String,
}

/// The difference between what an image set asks for and what the mirror holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// See [`PlanId`].
    pub id: PlanId,
    /// The image set.
    pub set: SetName,
    /// The directory's revision it was made from.
    pub revision: String,
    /// The state it was compared with.
    pub base: Position,
    /// What to copy, in the order it is begun: components before their payload. One for each image that the mirror lacks, or of whose
    /// signatures and referrers it lacks some.
    pub steps: Vec<Step>,
    /// How many images are wanted in all.
    pub wanted: usize,
    /// How many of them the mirror holds. The others are steps, or cannot be copied now.
    #[serde(default)]
    pub held: usize,
    /// What was wanted before and is not any more.
    pub unwanted: Vec<Unwanted>,
    /// Tags and channels that moved since the last plan that was applied.
    pub moved: Vec<Moved>,
    /// What the heads of the channels of operator catalogs become.
    #[serde(default)]
    pub heads: Vec<HeadChange>,
    /// Bundles of operator catalogs that are there since others require them.
    #[serde(default)]
    pub pulled: Vec<Pulled>,
    /// Entries that cannot be mirrored now.
    pub unresolved: Vec<Unresolved>,
    /// Stanzas that this version does not mirror, and a sentence for each.
    pub unsupported: Vec<(String, String)>,
    /// Whether releases are taken without a look at their signatures.
    pub signatures_ignored: bool,
    /// Conditional updates that shortest paths use, with their risks.
    pub conditional: Vec<ConditionalStep>,
    /// Things to know that stop nothing.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Bytes to download in all.
    pub fn bytes(&self) -> u64 {
        self.steps.iter().map(|s| s.bytes).sum()
    }

    /// Bytes to upload that were downloaded already, to make the plan.
    pub fn bytes_kept(&self) -> u64 {
        self.steps.iter().map(|s| s.bytes_kept).sum()
    }

    /// Whether there is nothing to copy.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// What a plan is made from besides what is wanted and what is there.
#[derive(Debug, Clone)]
pub struct Basis<'a> {
    /// The image set.
    pub set: &'a ImageSet,
    /// The directory's revision.
    pub revision: &'a str,
    /// The state's position.
    pub base: Position,
    /// What the image set's last applied plan wanted.
    pub before: &'a [Wanted],
    /// What was not wanted any more by then.
    pub dropped: &'a [Unwanted],
    /// What tags and channels meant to the last applied plan.
    pub pins: &'a BTreeMap<String, String>,
    /// Whether the document is another one than the last applied plan's.
    pub committed: bool,
    /// Which blobs were read for planning and are still at hand.
    pub kept: &'a HashSet<Digest>,
}

/// Compares what is wanted with what the mirror holds; asks for the manifests of what it lacks.
pub fn build(
    basis: &Basis<'_>,
    desired: &Desired,
    mirrored: &Mirrored,
    facts: &Facts,
) -> Built<Plan> {
    let (mut left, mut held) = (Vec::new(), 0);
    let mut needs = BTreeSet::new();
    let mut unresolved = desired.unresolved.clone();
    let mut attaching = attached::Attaching::new(desired, mirrored, facts);
    for wanted in &desired.images {
        let look = look(wanted, mirrored, facts);
        let attached = attaching.lacking(wanted, matches!(look, Look::Held));
        match look {
            Look::Held if attached.is_empty() => held += 1,
            Look::Held => left.push(Left {
                wanted,
                manifests: Vec::new(),
                attached,
                held: true,
            }),
            Look::Lacking(manifests) => left.push(Left {
                wanted,
                manifests,
                attached,
                held: false,
            }),
            Look::Needs(more) => needs.extend(more),
            Look::Failed(failed) => unresolved.push(failed),
        }
    }
    needs.extend(attaching.needs);
    if !needs.is_empty() {
        return Built::Missing(needs);
    }
    withhold(&mut left, &mut unresolved);
    // Components before payloads: a payload's tag says that the release is whole.
    left.sort_by(|a, b| order(a.wanted).cmp(&order(b.wanted)));
    let steps = measure(&left, mirrored, basis.kept);
    let mut warnings = desired.warnings.clone();
    warnings.extend(attaching.warnings);
    unresolved.sort();
    unresolved.dedup();
    Built::Whole(Plan {
        id: identity(basis.set, &steps),
        set: basis.set.name.clone(),
        revision: basis.revision.to_owned(),
        base: basis.base.clone(),
        wanted: desired.images.len(),
        held,
        unwanted: unwanted(basis, desired, &unresolved, mirrored),
        moved: moved(basis, &desired.pins),
        heads: changes::heads(basis.pins, &desired.pins),
        pulled: desired.pulled.clone(),
        unresolved,
        unsupported: desired.unsupported.clone(),
        signatures_ignored: desired.signatures_ignored,
        conditional: desired.conditional.clone(),
        warnings,
        steps,
    })
}

/// An image of which the mirror lacks something.
struct Left<'a> {
    wanted: &'a Wanted,
    /// Its manifests, where it is lacking itself.
    manifests: Vec<&'a Manifest>,
    /// What belongs to it and is lacking, with the manifests of it.
    attached: Vec<(&'a Accessory, Vec<&'a Manifest>)>,
    /// Whether the mirror has the image itself.
    held: bool,
}

fn order(wanted: &Wanted) -> (Kind, &Repository, &Tag) {
    (wanted.kind, &wanted.target, &wanted.tag)
}

/// Takes out the payloads of releases of which something cannot be had, and says so of each: a release in the mirror is whole or
/// absent.
fn withhold(left: &mut Vec<Left<'_>>, unresolved: &mut Vec<Unresolved>) {
    let stalled = |wanted: &Wanted, by: &[Unresolved]| {
        wanted.kind == Kind::Release && by.iter().any(|u| u.stalls(&wanted.unit))
    };
    let told: Vec<Unresolved> = left
        .iter()
        // What only gains a signature is there already.
        .filter(|left| !left.held && stalled(left.wanted, unresolved))
        .map(|left| Unresolved {
            subject: left.wanted.unit.clone(),
            reason: format!(
                "its payload {} is not copied while an image of it cannot be: a release in the mirror is whole or absent",
                left.wanted.source_reference()
            ),
            // What it waits for says of itself whether it passes.
            transient: false,
            cause: unresolved
                .iter()
                .filter(|u| u.stalls(&left.wanted.unit))
                .map(|u| u.cause)
                .max()
                .unwrap_or_default(),
        })
        .collect();
    left.retain(|left| left.held || !stalled(left.wanted, unresolved));
    unresolved.extend(told);
}

/// Whether the mirror is known to hold an image under its tag, whole for its platforms. A release payload counts only with its
/// signature, where upstream is known to have one.
pub fn holds(mirrored: &Mirrored, wanted: &Wanted, facts: &Facts) -> bool {
    matches!(look(wanted, mirrored, facts), Look::Held) && is_signed(mirrored, wanted, facts)
}

/// Whether the mirror is known to hold the signatures of a release payload, where upstream is known to have any; other images do
/// without.
pub fn is_signed(mirrored: &Mirrored, wanted: &Wanted, facts: &Facts) -> bool {
    wanted.kind != Kind::Release || attached::is_signed(wanted, mirrored, facts)
}

/// What is known of one wanted image.
enum Look<'a> {
    Held,
    Lacking(Vec<&'a Manifest>),
    Needs(Vec<Need>),
    Failed(Unresolved),
}

fn look<'a>(wanted: &Wanted, mirrored: &Mirrored, facts: &'a Facts) -> Look<'a> {
    let tagged = mirrored.tag(&wanted.target, &wanted.tag) == Some(&wanted.digest);
    if tagged && mirrored.manifest(&wanted.target, &wanted.digest) == Some(true) {
        return Look::Held;
    }
    let root = match known(wanted, &wanted.digest, facts) {
        Ok(root) => root,
        Err(look) => return look,
    };
    if root.is_index() && root.children(&wanted.platforms).next().is_none() {
        return Look::Failed(no_platform(wanted, root));
    }
    let mut manifests = Vec::new();
    let mut needs = Vec::new();
    if let Some(failed) = gather(
        wanted,
        root,
        &wanted.platforms,
        facts,
        &mut manifests,
        &mut needs,
        0,
    ) {
        return failed;
    }
    if !needs.is_empty() {
        return Look::Needs(needs);
    }
    let whole = manifests
        .iter()
        .all(|m| mirrored.manifest(&wanted.target, &m.digest).is_some());
    if tagged && whole {
        Look::Held
    } else {
        Look::Lacking(manifests)
    }
}

fn no_platform(wanted: &Wanted, root: &Manifest) -> Unresolved {
    let offered: BTreeSet<String> = root
        .children(&[])
        .filter_map(|c| c.platform.as_ref())
        .map(|p| p.to_string())
        .collect();
    let offered = offered.into_iter().collect::<Vec<_>>().join(", ");
    let asked = wanted
        .platforms
        .iter()
        .map(|p| p.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    Unresolved {
        subject: wanted.unit.clone(),
        reason: format!(
            "{} has none of the platforms asked for ({asked}); it offers {offered}",
            wanted.source_reference()
        ),
        transient: false,
        cause: Cause::Other,
    }
}

/// How deep indexes may nest: one index in another is seen in the wild, more is not.
const MAX_DEPTH: usize = 4;

/// Collects the manifests of an image, children before their index, the root last.
fn gather<'a>(
    wanted: &Wanted,
    manifest: &'a Manifest,
    platforms: &[Platform],
    facts: &'a Facts,
    manifests: &mut Vec<&'a Manifest>,
    needs: &mut Vec<Need>,
    depth: usize,
) -> Option<Look<'a>> {
    for child in manifest.children(platforms) {
        if depth == MAX_DEPTH {
            let reason = format!(
                "{} nests indexes more than {MAX_DEPTH} deep",
                wanted.source_reference()
            );
            return Some(Look::Failed(Unresolved {
                subject: wanted.unit.clone(),
                reason,
                transient: false,
                cause: Cause::Other,
            }));
        }
        match known(wanted, &child.digest, facts) {
            Ok(found) => {
                if let Some(failed) = gather(wanted, found, &[], facts, manifests, needs, depth + 1)
                {
                    return Some(failed);
                }
            }
            Err(Look::Needs(more)) => needs.extend(more),
            Err(failed) => return Some(failed),
        }
    }
    manifests.push(manifest);
    None
}

fn known<'a>(wanted: &Wanted, digest: &Digest, facts: &'a Facts) -> Result<&'a Manifest, Look<'a>> {
    match facts.manifests.get(digest) {
        Some(Ok(manifest)) => Ok(manifest),
        None => Err(Look::Needs(vec![Need::Manifest(
            wanted.source.clone(),
            digest.clone(),
        )])),
        Some(Err(failure)) => {
            let subject = match wanted.unit == wanted.source_reference().to_string() {
                true => wanted.unit.clone(),
                false => format!("{}, {}", wanted.unit, wanted.source_reference()),
            };
            Err(Look::Failed(Unresolved::since(subject, failure)))
        }
    }
}

/// Counts what each step has to move; a blob counts where it is first needed.
fn measure(left: &[Left<'_>], mirrored: &Mirrored, kept: &HashSet<Digest>) -> Vec<Step> {
    let mut counted: HashSet<&Digest> = HashSet::new();
    let mut placed: HashSet<(&Repository, &Digest)> = HashSet::new();
    left.iter()
        .map(|left| {
            let wanted = left.wanted;
            let mut step = Step {
                image: wanted.clone(),
                bytes: 0,
                bytes_kept: 0,
                blobs: 0,
                attached: left.attached.iter().map(|(a, _)| (*a).clone()).collect(),
                image_held: left.held,
            };
            let attached = left.attached.iter().flat_map(|(_, manifests)| manifests);
            let manifests = left.manifests.iter().chain(attached);
            for blob in manifests.flat_map(|m| m.blobs()) {
                if mirrored.blob(&wanted.target, &blob.digest)
                    || !placed.insert((&wanted.target, &blob.digest))
                {
                    continue;
                }
                step.blobs += 1;
                if !counted.insert(&blob.digest)
                    || mirrored
                        .donors(&wanted.target, &blob.digest)
                        .next()
                        .is_some()
                {
                    continue;
                }
                match kept.contains(&blob.digest) {
                    true => step.bytes_kept += blob.size,
                    false => step.bytes += blob.size,
                }
            }
            step
        })
        .collect()
}

/// What applied plans wanted and this image set does not, as far as the mirror has it; entries that cannot be resolved now keep
/// what they had.
fn unwanted(
    basis: &Basis<'_>,
    desired: &Desired,
    unresolved: &[Unresolved],
    mirrored: &Mirrored,
) -> Vec<Unwanted> {
    let now: HashSet<Reference> = desired
        .images
        .iter()
        .map(Wanted::target_reference)
        .collect();
    let stalled: BTreeSet<&str> = unresolved.iter().map(|u| u.subject.as_str()).collect();
    // Which releases a channel or a path would have given is not known while it cannot be read.
    let releases_stalled = ["mirror.platform", "channel ", "update path "]
        .iter()
        .any(|what| stalled.iter().any(|subject| subject.starts_with(what)));
    let left_out = basis
        .before
        .iter()
        .filter(|w| !stalled.contains(w.unit.as_str()) && !stalled.contains(w.entry.as_str()))
        .filter(|w| !(releases_stalled && w.kind.is_of_release()))
        // Of a package that stalls is not known any more what it would have.
        .filter(|w| w.kind != Kind::Bundle || !unresolved.iter().any(|u| u.stalls(&w.entry)))
        .map(|w| Unwanted {
            target: w.target_reference(),
            digest: w.digest.clone(),
        });
    let gone: BTreeSet<Unwanted> = left_out
        .chain(basis.dropped.iter().cloned())
        .filter(|u| !now.contains(&u.target))
        .filter(|u| {
            let tag = u.target.tag.as_ref();
            tag.and_then(|tag| mirrored.tag(&u.target.repository, tag)) == Some(&u.digest)
        })
        .collect();
    gone.into_iter().collect()
}

/// What tags and channels mean now and did not mean to the last applied plan. Where the document is another one, a channel may
/// give something else since something else was asked of it: that is not upstream's doing.
fn moved(basis: &Basis<'_>, now: &BTreeMap<String, String>) -> Vec<Moved> {
    now.iter()
        .filter(|(subject, _)| !basis.committed || !subject.starts_with("channel "))
        .filter(|(subject, _)| !changes::is_head(subject))
        .filter_map(|(subject, to)| {
            let from = basis.pins.get(subject).filter(|from| *from != to)?;
            Some(Moved {
                subject: subject.clone(),
                from: from.clone(),
                to: to.clone(),
            })
        })
        .collect()
}

/// The identity of the image set's document: what it says, not how it is written, so that a comment changes nothing.
pub fn document_digest(set: &ImageSet) -> Digest {
    Digest::of(&serde_json::to_vec(set).expect("an image set is plain data"))
}

fn identity(set: &ImageSet, steps: &[Step]) -> PlanId {
    let mut hasher = Hasher::sha256();
    let mut line = |text: &str| {
        hasher.update(text.as_bytes());
        hasher.update(b"\n");
    };
    line("imagesetd plan 1");
    line(&set.name.0);
    line(&document_digest(set).to_string());
    for step in steps {
        let image = &step.image;
        let platforms = image
            .platforms
            .iter()
            .map(|p| p.to_string())
            .collect::<Vec<_>>()
            .join(",");
        line(&format!(
            "{}@{} {} {platforms}",
            image.source,
            image.digest,
            image.target_reference()
        ));
        for accessory in &step.attached {
            line(&format!(
                " {:?} {} of {}",
                accessory.kind, accessory.digest, accessory.subject
            ));
        }
    }
    PlanId(hasher.finish().hex())
}

#[cfg(test)]
mod tests;

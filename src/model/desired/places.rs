//! One place in the mirror holds one image: what happens where two want it, within an image set and between several.

use std::collections::{BTreeMap, BTreeSet};

use super::{Desired, Unresolved, Wanted};
use crate::model::{
    facts::Cause,
    image::{Digest, Platform, Repository, Tag},
    imageset::SetName,
};

/// Sorts by place; where two different images claim one place, neither is mirrored and both are named. One image that is asked
/// for twice is mirrored once, for the platforms of both.
pub(super) fn settle_collisions(desired: &mut Desired) {
    desired.images.sort();
    let mut kept: Vec<Wanted> = Vec::with_capacity(desired.images.len());
    let mut clashes: BTreeSet<(Repository, Tag)> = BTreeSet::new();
    for wanted in std::mem::take(&mut desired.images) {
        match kept.last_mut() {
            Some(last) if (&last.target, &last.tag) == (&wanted.target, &wanted.tag) => {
                if last.digest == wanted.digest {
                    last.platforms = both(&last.platforms, &wanted.platforms);
                } else {
                    desired
                        .unresolved
                        .push(clash(last, &wanted.source_reference().to_string()));
                    desired
                        .unresolved
                        .push(clash(&wanted, &last.source_reference().to_string()));
                    clashes.insert((wanted.target, wanted.tag));
                }
            }
            _ => kept.push(wanted),
        }
    }
    kept.retain(|w| !clashes.contains(&(w.target.clone(), w.tag.clone())));
    desired.images = kept;
}

/// The platforms of an image that is asked for twice; none named means all of them.
fn both(one: &[Platform], other: &[Platform]) -> Vec<Platform> {
    if one.is_empty() || other.is_empty() {
        return Vec::new();
    }
    let all: BTreeSet<&Platform> = one.iter().chain(other).collect();
    all.into_iter().cloned().collect()
}

fn clash(wanted: &Wanted, other: &str) -> Unresolved {
    let reason = format!(
        "{} and {other} would both land on {}; give one of them a `targetRepo` of its own",
        wanted.source_reference(),
        wanted.target_reference(),
    );
    Unresolved {
        subject: wanted.unit.clone(),
        reason,
        transient: false,
        cause: Cause::Other,
    }
}

/// What other image sets claim in the same mirror: place, and who put which image there.
pub type Claims = BTreeMap<(Repository, Tag), (SetName, Repository, Digest)>;

/// Takes out what would overwrite another image set's image at the same place, naming both.
pub fn yield_to(desired: &mut Desired, claims: &Claims) {
    let mut unresolved = Vec::new();
    desired.images.retain(|wanted| {
        match claims.get(&(wanted.target.clone(), wanted.tag.clone())) {
            Some((set, source, digest)) if *digest != wanted.digest && *source != wanted.source => {
                unresolved.push(clash(wanted, &format!("{source} (of image set {set})")));
                false
            }
            _ => true,
        }
    });
    desired.unresolved.extend(unresolved);
    desired.unresolved.sort();
    desired.unresolved.dedup();
}

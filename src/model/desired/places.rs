//! One place in the mirror holds one image: what happens where two want it, within an image set and between several.

use std::collections::{BTreeMap, BTreeSet};

use super::{Desired, Kind, Unresolved, Wanted};
use crate::model::{
    facts::Cause,
    image::{Platform, Repository, Tag},
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

/// How one of two images comes into another repository.
fn another_repository(kind: Kind) -> &'static str {
    match kind {
        Kind::Catalog | Kind::FilteredCatalog => "give one of them a `targetCatalog` of its own",
        Kind::Bundle => "leave one of them out, with `blockedImages`",
        _ => "give one of them a `targetRepo` of its own",
    }
}

fn clash(wanted: &Wanted, other: &str) -> Unresolved {
    let remedy = match wanted.kind {
        kind if kind.is_catalog() => "give one of them a `targetCatalog` or `targetTag` of its own",
        kind => another_repository(kind),
    };
    let reason = format!(
        "{} and {other} would both land on {}; {remedy}",
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

/// Which paths became which repositories.
#[derive(Default)]
pub(super) struct Paths(BTreeMap<Repository, BTreeSet<String>>);

impl Paths {
    /// Notes that a path became a repository.
    pub(super) fn note(&mut self, target: &Repository, path: &str) {
        let paths = self.0.entry(target.clone()).or_default();
        paths.insert(path.to_owned());
    }
}

/// Takes out what lands in one repository though it was meant for several, since their names were joined to the same: nodes that pull by
/// tag could be given the other's image.
pub(super) fn refuse_crowded(desired: &mut Desired, Paths(paths): &Paths) {
    let mut refused = Vec::new();
    desired.images.retain(|wanted| {
        let Some(paths) = paths.get(&wanted.target).filter(|paths| paths.len() > 1) else {
            return true;
        };
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        refused.push(Unresolved {
            subject: wanted.unit.clone(),
            reason: format!(
                "with `max_nested_paths` {} all become {}; {}, or allow longer paths",
                paths.join(" and "),
                wanted.target,
                another_repository(wanted.kind)
            ),
            transient: false,
            cause: Cause::Other,
        });
        false
    });
    desired.unresolved.extend(refused);
}

/// What other image sets claim in the same mirror: place, and who put which image there.
pub type Claims = BTreeMap<(Repository, Tag), (SetName, Wanted)>;

/// Whether one image would take the place of another: they are of different sources; or they are of one catalog, of which different
/// things are asked. A tag that moved gives two images as well, until both sets have looked at it.
fn takes_the_place_of(wanted: &Wanted, other: &Wanted) -> bool {
    let another_filter = wanted.kind.is_catalog() && wanted.entry != other.entry;
    wanted.digest != other.digest && (wanted.source != other.source || another_filter)
}

/// Takes out what would overwrite another image set's image at the same place, naming both.
pub fn yield_to(desired: &mut Desired, claims: &Claims) {
    let mut unresolved = Vec::new();
    desired.images.retain(|wanted| {
        match claims.get(&(wanted.target.clone(), wanted.tag.clone())) {
            Some((set, other)) if takes_the_place_of(wanted, other) => {
                let other = format!("{} (of image set {set})", other.source);
                unresolved.push(clash(wanted, &other));
                false
            }
            _ => true,
        }
    });
    desired.unresolved.extend(unresolved);
    desired.unresolved.sort();
    desired.unresolved.dedup();
}

//! What wanted images are to clusters: units that land together, and whether they have landed.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cluster::{Purpose, Served, Unit, signatures::Signed},
    model::{
        desired::{Desired, Kind, Wanted, naming},
        facts::Facts,
        image::Reference,
        imageset::SetName,
        mirrored::Mirrored,
        plan,
    },
};

/// Groups wanted images into what lands together, and says of each whether it has landed.
pub(super) fn units(
    set: &SetName,
    wanted: &[Wanted],
    landed: impl Fn(&Wanted) -> bool,
) -> Vec<Unit> {
    let mut units: BTreeMap<&str, Unit> = BTreeMap::new();
    for image in wanted {
        let purpose = match image.kind {
            Kind::Release | Kind::ReleaseComponent => Purpose::Release,
            Kind::Additional => Purpose::Additional,
            Kind::Bundle => Purpose::Operators,
            // Clusters name it by its place in the mirror.
            Kind::Catalog | Kind::FilteredCatalog => continue,
        };
        let unit = units.entry(&image.unit).or_insert_with(|| Unit {
            set: set.clone(),
            purpose,
            landed: true,
            images: vec![],
        });
        unit.landed &= landed(image);
        let served = serve(image);
        // A release has two hundred images in two repositories: one line for each of these is enough.
        if !unit.images.contains(&served) {
            unit.images.push(served);
        }
    }
    units.into_values().collect()
}

/// What is asked for and cannot be had now: no rule of ours may keep nodes from its source.
pub(super) fn lacking(set: &SetName, desired: &Desired) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut releases = BTreeMap::new();
    for unresolved in &desired.unresolved {
        match unresolved.subject.parse::<Reference>() {
            Ok(Reference { repository, .. }) => units.push(Unit {
                set: set.clone(),
                purpose: Purpose::Additional,
                landed: false,
                images: vec![Served {
                    source: repository.clone(),
                    by_digest: true,
                    by_tag: None,
                    target: repository,
                }],
            }),
            Err(_) if naming::is_of_catalog(&unresolved.subject) => {
                let of_catalog = desired
                    .images
                    .iter()
                    .filter(|w| w.kind == Kind::Bundle && unresolved.stalls(&w.entry));
                let images: BTreeMap<_, _> = of_catalog
                    .map(|w| ((w.source.clone(), w.target.clone()), serve(w)))
                    .collect();
                units.push(Unit {
                    set: set.clone(),
                    purpose: Purpose::Operators,
                    landed: false,
                    images: images.into_values().collect(),
                });
            }
            Err(_) => {
                let of_releases = desired.images.iter().filter(|w| w.kind.is_of_release());
                releases
                    .extend(of_releases.map(|w| ((w.source.clone(), w.target.clone()), serve(w))));
            }
        }
    }
    if !releases.is_empty() {
        let images = releases.into_values().collect();
        units.push(Unit {
            set: set.clone(),
            purpose: Purpose::Release,
            landed: false,
            images,
        });
    }
    units
}

/// The signatures of the releases that have landed with everything they name.
pub(super) fn signed(desired: &Desired, landed: impl Fn(&Wanted) -> bool) -> Signed {
    let lacking = desired.images.iter().filter(|image| !landed(image));
    let lacking: BTreeSet<&str> = lacking.map(|image| image.unit.as_str()).collect();
    let releases = desired.images.iter().filter(|w| w.kind == Kind::Release);
    releases
        .filter(|release| !lacking.contains(release.unit.as_str()))
        .filter_map(|release| {
            let messages = desired.signatures.get(&release.digest)?;
            Some((release.digest.clone(), messages.clone()))
        })
        .collect()
}

/// Whether an image that was applied has landed. Of one that is mirrored in part it is not remembered what it is made of: where that
/// is not known, its tag says so, which lands last.
pub(super) fn was_landed(mirrored: &Mirrored, image: &Wanted, facts: &Facts) -> bool {
    let by_tag = !image.platforms.is_empty() && !facts.manifests.contains_key(&image.digest);
    plan::holds(mirrored, image, facts)
        || (by_tag
            && mirrored.tag(&image.target, &image.tag) == Some(&image.digest)
            && plan::is_signed(mirrored, image, facts))
}

/// How clusters pull an image: releases by digest, single images by the kind of reference they were asked for.
fn serve(image: &Wanted) -> Served {
    let by_tag = match image.kind {
        Kind::Additional | Kind::Bundle => {
            image.asked_tag.clone().map(|tag| (tag, image.tag.clone()))
        }
        _ => None,
    };
    Served {
        source: image.source.clone(),
        by_digest: by_tag.is_none(),
        by_tag,
        target: image.target.clone(),
    }
}

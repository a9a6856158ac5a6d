//! What of the signatures and referrers of wanted images the mirror lacks.

use std::collections::{BTreeMap, BTreeSet};

use super::{Look, gather, known};
use crate::model::{
    accessory::{self, Accessory, Kind, Standing},
    desired::{Desired, Wanted},
    facts::{Facts, Need},
    image::{Digest, Repository},
    manifest::Manifest,
    mirrored::Mirrored,
};

/// Accessories that the mirror lacks, with their manifests.
type Lacking<'a> = Vec<(&'a Accessory, Vec<&'a Manifest>)>;

/// Compares images' accessories with what the mirror holds, one image after the other.
pub(super) struct Attaching<'a> {
    desired: &'a Desired,
    mirrored: &'a Mirrored,
    facts: &'a Facts,
    /// What has to be known first.
    pub(super) needs: BTreeSet<Need>,
    /// What is left as it is, and why.
    pub(super) warnings: BTreeSet<String>,
    /// Images that are held and gain something by an earlier step: two tags of one share what belongs to it.
    served: BTreeSet<(&'a Repository, &'a Digest)>,
    compared: BTreeMap<(&'a Repository, &'a Digest), Lacking<'a>>,
}

impl<'a> Attaching<'a> {
    pub(super) fn new(desired: &'a Desired, mirrored: &'a Mirrored, facts: &'a Facts) -> Self {
        Attaching {
            desired,
            mirrored,
            facts,
            needs: BTreeSet::new(),
            warnings: BTreeSet::new(),
            served: BTreeSet::new(),
            compared: BTreeMap::new(),
        }
    }

    /// Returns what the mirror lacks of what belongs to an image, with the manifests of it; `held` says whether it has the image.
    pub(super) fn lacking(&mut self, wanted: &'a Wanted, held: bool) -> Lacking<'a> {
        let place = (&wanted.target, &wanted.digest);
        let Some(accessories) = self
            .desired
            .attached
            .get(&(wanted.target.clone(), wanted.digest.clone()))
        else {
            return Vec::new();
        };
        if held && !self.served.insert(place) {
            return Vec::new();
        }
        if let Some(compared) = self.compared.get(&place) {
            return compared.clone();
        }
        let compared: Vec<_> = accessories
            .iter()
            .filter_map(|accessory| Some((accessory, self.accessory(wanted, accessory)?)))
            .collect();
        self.compared.insert(place, compared.clone());
        compared
    }

    /// The manifests of an accessory that the mirror lacks.
    fn accessory(
        &mut self,
        wanted: &'a Wanted,
        accessory: &'a Accessory,
    ) -> Option<Vec<&'a Manifest>> {
        match stands(wanted, accessory, self.mirrored, self.facts) {
            Stands::Held => return None,
            Stands::Needs(needs) => {
                self.needs.extend(needs);
                return None;
            }
            Stands::Differs(place) => {
                self.warnings.insert(format!(
                    "{place} in the mirror holds something that upstream's does not hold and lacks something that upstream's holds; it \
                     stays as it is: copy upstream's there yourself, or remove it from the mirror to have it replaced"
                ));
                return None;
            }
            Stands::Lacking => {}
        }
        let root = match known(wanted, &accessory.digest, self.facts) {
            Ok(root) => root,
            Err(look) => return self.unreadable(wanted, accessory, look),
        };
        let (mut manifests, mut needs) = (Vec::new(), Vec::new());
        let failed = gather(wanted, root, &[], self.facts, &mut manifests, &mut needs, 0);
        self.needs.extend(needs);
        match failed {
            Some(look) => self.unreadable(wanted, accessory, look),
            None => Some(manifests),
        }
    }

    /// An accessory whose manifests are not at hand: they are asked for, or it is left out.
    fn unreadable(
        &mut self,
        wanted: &Wanted,
        accessory: &Accessory,
        look: Look<'_>,
    ) -> Option<Vec<&'a Manifest>> {
        match look {
            Look::Needs(needs) => self.needs.extend(needs),
            Look::Failed(failed) => {
                self.warnings.insert(format!(
                    "{}@{}, which belongs to {}, cannot be mirrored: {}",
                    wanted.source,
                    accessory.digest,
                    wanted.source_reference(),
                    failed.reason
                ));
            }
            Look::Held | Look::Lacking(_) => {}
        }
        None
    }
}

/// What the mirror has where an accessory belongs.
enum Stands {
    Held,
    Lacking,
    /// Something else, at this place, that stays.
    Differs(String),
    Needs(Vec<Need>),
}

fn stands(wanted: &Wanted, accessory: &Accessory, mirrored: &Mirrored, facts: &Facts) -> Stands {
    let target = &wanted.target;
    let Some(tag) = accessory.tag() else {
        return match mirrored.manifest(target, &accessory.digest) {
            Some(_) => Stands::Held,
            None => Stands::Lacking,
        };
    };
    let Some(named) = mirrored.tag(target, &tag) else {
        return Stands::Lacking;
    };
    if *named == accessory.digest {
        return Stands::Held;
    }
    // Both were read before they could be known, so the store has them.
    let at = [(target, named), (&wanted.source, &accessory.digest)];
    let needs = at
        .into_iter()
        .filter(|(_, digest)| !facts.manifests.contains_key(digest))
        .map(|(repository, digest)| Need::Manifest(repository.clone(), digest.clone()));
    let needs: Vec<Need> = needs.collect();
    if !needs.is_empty() {
        return Stands::Needs(needs);
    }
    let read = |digest: &Digest| facts.manifests.get(digest)?.as_ref().ok();
    let standing = read(named)
        .zip(read(&accessory.digest))
        .map(|(held, upstream)| accessory::compare(accessory.kind, held, upstream));
    match standing {
        Some(Standing::Covers) => Stands::Held,
        Some(Standing::Yields) => Stands::Lacking,
        // What cannot be compared is not thrown away either.
        Some(Standing::Differs) | None => Stands::Differs(target.tagged(tag).to_string()),
    }
}

/// Whether the mirror holds the signatures of a release payload that upstream is known to have. One that somebody else has signed
/// in the mirror counts.
pub(super) fn is_signed(wanted: &Wanted, mirrored: &Mirrored, facts: &Facts) -> bool {
    let of = facts.attached.get(&wanted.source);
    let looks = of.into_iter().flatten();
    let mut signatures = looks
        .filter(|((digest, _), _)| *digest == wanted.digest)
        .flat_map(|(_, attached)| &attached.found)
        .filter(|a| a.kind == Kind::Signature && a.subject == wanted.digest);
    signatures
        .all(|signature| !matches!(stands(wanted, signature, mirrored, facts), Stands::Lacking))
}

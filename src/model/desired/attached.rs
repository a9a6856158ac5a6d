//! Which signatures and referrers come along with the images.

use std::collections::{BTreeMap, BTreeSet};

use super::{Desired, Kind, Unresolved, Wanted};
use crate::model::{
    accessory::{self, Accessory, Attached, Missed, Scope},
    facts::{Facts, Need},
    image::{Digest, Repository, Tag},
    policy::Policy,
};

/// What is looked for around an image; nothing where signatures stay behind. That of a release payload never does: clusters from
/// 4.21 on demand it of the mirror.
pub(in crate::model) fn scope(kind: Kind, copied: bool) -> Option<Scope> {
    match (copied, kind) {
        // Nobody has signed what is built here.
        (_, Kind::FilteredCatalog) => None,
        (true, _) => Some(Scope::All),
        (false, Kind::Release) => Some(Scope::Signature),
        (false, _) => None,
    }
}

/// Adds what belongs to the images, or returns what has to be known for that.
pub(super) fn attach(desired: &mut Desired, policy: &Policy, facts: &Facts) -> BTreeSet<Need> {
    let mut attaching = Attaching {
        facts,
        needs: BTreeSet::new(),
        asked: BTreeMap::new(),
        found: BTreeMap::new(),
        unresolved: BTreeSet::new(),
        troubles: BTreeMap::new(),
    };
    for wanted in &desired.images {
        if let Some(scope) = scope(wanted.kind, policy.copy_signatures) {
            attaching.image(wanted, scope);
        }
    }
    let Attaching {
        mut needs,
        asked,
        found,
        unresolved,
        troubles,
        ..
    } = attaching;
    let asked = asked
        .into_iter()
        .map(|(r, images)| Need::Attached(r, images));
    needs.extend(asked);
    if !needs.is_empty() {
        return needs;
    }
    desired.unresolved.extend(unresolved);
    desired.warnings.extend(troubles.into_iter().map(told));
    settle(desired, found);
    BTreeSet::new()
}

/// Why looks failed: the repository and the sentence, and around which images.
type Troubles = BTreeMap<(Repository, String), BTreeSet<Digest>>;

struct Attaching<'a> {
    facts: &'a Facts,
    needs: BTreeSet<Need>,
    asked: BTreeMap<Repository, BTreeSet<(Digest, Scope)>>,
    found: BTreeMap<(Repository, Digest), BTreeMap<Accessory, usize>>,
    unresolved: BTreeSet<Unresolved>,
    troubles: Troubles,
}

impl Attaching<'_> {
    fn image(&mut self, wanted: &Wanted, scope: Scope) {
        let Some(attached) = self.facts.attached(&wanted.source, &wanted.digest, scope) else {
            let asked = self.asked.entry(wanted.source.clone()).or_default();
            asked.insert((wanted.digest.clone(), scope));
            return;
        };
        for missed in &attached.missed {
            self.missed(wanted, attached, missed);
        }
        if attached.found.is_empty() {
            return;
        }
        let Some(accessories) = self.of_platforms(wanted, attached) else {
            return;
        };
        let place = (wanted.target.clone(), wanted.digest.clone());
        let found = self.found.entry(place).or_default();
        for accessory in accessories {
            let next = found.len();
            found.entry(accessory.clone()).or_insert(next);
        }
    }

    /// The accessories of an image and of the children of it that are wanted.
    fn of_platforms<'b>(
        &mut self,
        wanted: &Wanted,
        attached: &'b Attached,
    ) -> Option<Vec<&'b Accessory>> {
        if wanted.platforms.is_empty() {
            return Some(attached.found.iter().collect());
        }
        let Some(manifest) = self.facts.manifests.get(&wanted.digest) else {
            let need = Need::Manifest(wanted.source.clone(), wanted.digest.clone());
            self.needs.insert(need);
            return None;
        };
        // An image whose manifest cannot be had is not copied either, which the plan says.
        let manifest = manifest.as_ref().ok()?;
        let children = manifest.children(&wanted.platforms);
        let mut subjects: BTreeSet<Digest> = children.map(|c| c.digest.clone()).collect();
        subjects.insert(wanted.digest.clone());
        Some(attached.of(&subjects))
    }

    /// What is not known of an image is told; of a release whose signature may be there, it stalls the release.
    fn missed(&mut self, wanted: &Wanted, attached: &Attached, missed: &Missed) {
        let known = |a: &Accessory| a.subject == missed.subject && a.kind == missed.kind;
        let decisive = wanted.kind == Kind::Release && missed.kind == accessory::Kind::Signature;
        if decisive && !attached.found.iter().any(known) {
            self.unresolved.insert(Unresolved {
                subject: format!("{}, signature of {}", wanted.unit, missed.subject),
                reason: format!(
                    "whether its payload has a signature in {} cannot be told, and clusters from 4.21 on demand one: {}",
                    wanted.source, missed.failure.reason
                ),
                transient: missed.failure.transient,
                cause: missed.failure.cause,
            });
            return;
        }
        let key = (wanted.source.clone(), missed.failure.reason.clone());
        let images = self.troubles.entry(key).or_default();
        images.insert(wanted.digest.clone());
    }
}

fn told(((repository, reason), images): ((Repository, String), BTreeSet<Digest>)) -> String {
    let images = match images.len() {
        1 => "an image".to_owned(),
        count => format!("{count} images"),
    };
    format!(
        "not all signatures and referrers of {images} of {repository} could be looked for: {reason}; what was found before still \
         counts, the rest is looked for again"
    )
}

/// Puts the accessories in their places. A tag that an image is wanted under is that image's: oc-mirror names an image that is
/// asked for by digest as the list of its referrers is named.
fn settle(
    desired: &mut Desired,
    found: BTreeMap<(Repository, Digest), BTreeMap<Accessory, usize>>,
) {
    let places: BTreeSet<(&Repository, &Tag)> = desired
        .images
        .iter()
        .map(|wanted| (&wanted.target, &wanted.tag))
        .collect();
    let mut hidden = BTreeSet::new();
    let mut attached = BTreeMap::new();
    for ((target, digest), accessories) in found {
        let mut accessories: Vec<(Accessory, usize)> = accessories.into_iter().collect();
        accessories.sort_by_key(|(_, order)| *order);
        let mut tags = BTreeSet::new();
        let mut kept = Vec::new();
        for (accessory, _) in accessories {
            let free = match accessory.tag() {
                Some(tag) => !places.contains(&(&target, &tag)) && tags.insert(tag),
                None => true,
            };
            let list = accessory::list_tag(&accessory.subject);
            if accessory.kind == accessory::Kind::Referrer
                && let Some(tag) = list.filter(|tag| places.contains(&(&target, tag)))
            {
                hidden.insert(target.tagged(tag).to_string());
            }
            if free {
                kept.push(accessory);
            }
        }
        if !kept.is_empty() {
            attached.insert((target, digest), kept);
        }
    }
    desired.attached = attached;
    desired.warnings.extend(hidden.into_iter().map(|place| {
        format!(
            "{place} is where a mirror without the referrers API would list the referrers of that image, and it is the image's own \
             tag; where the mirror has no such API they are not found: give the image a `targetTag`"
        )
    }));
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::model::{
        accessory::Kind as What,
        facts::{Fact, Failure},
        manifest::{Manifest, OCI_INDEX},
        policy::{ApplyMode, MirrorScope, OnRefresh},
    };

    fn policy(copy_signatures: bool) -> Policy {
        Policy {
            target: "m.lan".parse().unwrap(),
            apply: ApplyMode::Automatic,
            on_refresh: OnRefresh::Apply,
            refresh: Duration::from_secs(3600),
            max_bytes: None,
            mirror_scope: MirrorScope::Namespace,
            ignore_release_signatures: true,
            conditional_updates: false,
            copy_signatures,
            signatures_refresh: Duration::from_secs(3600),
            catalog_reference: Default::default(),
            catalog_poll: Duration::from_secs(1800),
        }
    }

    fn named(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn wanted(kind: Kind, place: &str, image: &Digest) -> Wanted {
        let target: crate::model::image::Reference = format!("m.lan/{place}").parse().unwrap();
        Wanted {
            source: format!("q.io/{}", target.repository.path())
                .parse()
                .unwrap(),
            target: target.repository,
            tag: target.tag.unwrap(),
            kind,
            asked_tag: None,
            digest: image.clone(),
            platforms: vec![],
            unit: "release 4.21.0 (amd64)".into(),
            entry: "channel stable-4.21".into(),
        }
    }

    fn accessory(subject: &Digest, kind: What, name: &str) -> Accessory {
        Accessory {
            subject: subject.clone(),
            kind,
            digest: named(name),
        }
    }

    fn missed(subject: &Digest, kind: What, transient: bool) -> Missed {
        Missed {
            subject: subject.clone(),
            kind,
            failure: Failure {
                reason: "q.io is down".into(),
                transient,
                cause: Default::default(),
            },
        }
    }

    fn learn(facts: &mut Facts, image: &Wanted, scope: Scope, attached: Attached) {
        facts.learn(Fact::Attached(
            image.source.clone(),
            (image.digest.clone(), scope),
            Arc::new(attached),
        ));
    }

    fn found(accessories: &[Accessory]) -> Attached {
        Attached {
            found: accessories.to_vec(),
            missed: vec![],
        }
    }

    fn attached(images: &[Wanted], copied: bool, facts: &Facts) -> Desired {
        let mut desired = Desired {
            images: images.to_vec(),
            ..Desired::default()
        };
        assert_eq!(
            attach(&mut desired, &policy(copied), facts),
            BTreeSet::new()
        );
        desired
    }

    #[test]
    fn a_repository_is_asked_about_once_for_all_its_images() {
        let (one, two) = (named("one"), named("two"));
        let images = [
            wanted(Kind::Additional, "a:1", &one),
            wanted(Kind::Additional, "a:2", &two),
            wanted(Kind::Release, "b:1", &one),
        ];
        let ask = |copied| {
            let mut desired = Desired {
                images: images.to_vec(),
                ..Desired::default()
            };
            attach(&mut desired, &policy(copied), &Facts::default())
        };
        let need = |repository: &str, images: &[(&Digest, Scope)]| {
            let images = images.iter().map(|(d, s)| ((*d).clone(), *s)).collect();
            Need::Attached(repository.parse().unwrap(), images)
        };
        assert_eq!(
            ask(true),
            BTreeSet::from([
                need("q.io/a", &[(&one, Scope::All), (&two, Scope::All)]),
                need("q.io/b", &[(&one, Scope::All)]),
            ])
        );
        // Only a payload's signature cannot be left behind.
        assert_eq!(
            ask(false),
            BTreeSet::from([need("q.io/b", &[(&one, Scope::Signature)])])
        );
    }

    #[test]
    fn accessories_of_platforms_that_are_not_wanted_stay_behind() {
        let child = |arch: &str| json!({"mediaType": "m", "digest": named(arch).to_string(), "size": 1, "platform": {"os": "linux", "architecture": arch}});
        let index = json!({"mediaType": OCI_INDEX, "manifests": [child("amd64"), child("arm64")]});
        let index = Manifest::parse(Bytes::from(index.to_string()), None).unwrap();
        let mut image = wanted(Kind::Additional, "a:1", &index.digest);
        image.platforms = vec!["linux/arm64".parse().unwrap()];
        let all = [
            accessory(&index.digest, What::Signature, "of the index"),
            accessory(&named("amd64"), What::Signature, "of amd64"),
            accessory(&named("arm64"), What::Signature, "of arm64"),
        ];
        let mut facts = Facts::default();
        learn(&mut facts, &image, Scope::All, found(&all));
        let mut desired = Desired {
            images: vec![image.clone()],
            ..Desired::default()
        };
        assert_eq!(
            attach(&mut desired, &policy(true), &facts),
            BTreeSet::from([Need::Manifest(image.source.clone(), image.digest.clone())])
        );
        facts.learn(Fact::Manifest(index.digest.clone(), Ok(Arc::new(index))));
        let place = (image.target.clone(), image.digest.clone());
        assert_eq!(
            attached(&[image], true, &facts).attached,
            BTreeMap::from([(place, vec![all[0].clone(), all[2].clone()])])
        );
    }

    #[test]
    fn a_failed_look_stalls_only_a_release_whose_signature_may_be_there() {
        let digest = named("x");
        let missing = |kind| Attached {
            found: vec![],
            missed: vec![missed(&digest, kind, true)],
        };
        let outcome = |kind, what| {
            let image = wanted(kind, "a:1", &digest);
            let mut facts = Facts::default();
            learn(&mut facts, &image, Scope::All, missing(what));
            let desired = attached(&[image], true, &facts);
            (desired.unresolved, desired.warnings)
        };
        let warned = vec![
            "not all signatures and referrers of an image of q.io/a could be looked for: q.io is down; what was found before still \
             counts, the rest is looked for again"
                .to_owned(),
        ];
        assert_eq!(
            outcome(Kind::Additional, What::Signature),
            (vec![], warned.clone())
        );
        assert_eq!(
            outcome(Kind::Release, What::Referrer),
            (vec![], warned.clone())
        );
        let stalled = Unresolved {
            subject: format!("release 4.21.0 (amd64), signature of {digest}"),
            reason: "whether its payload has a signature in q.io/a cannot be told, and clusters from 4.21 on demand one: q.io is down"
                .into(),
            transient: true,
            cause: Default::default(),
        };
        assert!(stalled.stalls("release 4.21.0 (amd64)"));
        assert_eq!(
            outcome(Kind::Release, What::Signature),
            (vec![stalled], vec![])
        );
        // What was found before counts.
        let payload = wanted(Kind::Release, "a:1", &digest);
        let signature = accessory(&digest, What::Signature, "s");
        let known = Attached {
            found: vec![signature.clone()],
            ..missing(What::Signature)
        };
        let mut facts = Facts::default();
        learn(&mut facts, &payload, Scope::All, known);
        let desired = attached(std::slice::from_ref(&payload), true, &facts);
        let place = (payload.target, payload.digest);
        assert_eq!(
            (desired.unresolved, desired.warnings, desired.attached),
            (vec![], warned, BTreeMap::from([(place, vec![signature])]))
        );
    }

    #[test]
    fn a_tag_that_an_image_is_wanted_under_is_that_images() {
        let digest = named("x");
        let tag = |kind| accessory::tag(&digest, kind).unwrap();
        let list = accessory::list_tag(&digest).unwrap();
        let images = [
            wanted(Kind::Additional, &format!("a:{list}"), &digest),
            wanted(
                Kind::Additional,
                &format!("a:{}", tag(What::Signature)),
                &named("another"),
            ),
        ];
        let all = [
            accessory(&digest, What::Signature, "s"),
            accessory(&digest, What::Sbom, "b"),
            accessory(&digest, What::Referrer, "r"),
        ];
        let mut facts = Facts::default();
        learn(&mut facts, &images[0], Scope::All, found(&all));
        learn(&mut facts, &images[1], Scope::All, found(&[]));
        let desired = attached(&images, true, &facts);
        let place = (images[0].target.clone(), digest.clone());
        assert_eq!(
            desired.attached,
            BTreeMap::from([(place, vec![all[1].clone(), all[2].clone()])])
        );
        assert_eq!(
            desired.warnings,
            [format!(
                "m.lan/a:{list} is where a mirror without the referrers API would list the referrers of that image, and it is the \
                 image's own tag; where the mirror has no such API they are not found: give the image a `targetTag`"
            )]
        );
    }

    #[test]
    fn two_tags_of_one_image_share_what_belongs_to_it() {
        let digest = named("x");
        let images = [
            wanted(Kind::Additional, "a:1", &digest),
            wanted(Kind::Additional, "a:2", &digest),
        ];
        let all = [
            accessory(&digest, What::Referrer, "r"),
            accessory(&named("r"), What::Signature, "s"),
        ];
        let mut facts = Facts::default();
        learn(&mut facts, &images[0], Scope::All, found(&all));
        let place = (images[0].target.clone(), digest.clone());
        assert_eq!(
            attached(&images, true, &facts).attached,
            BTreeMap::from([(place, all.to_vec())])
        );
    }
}

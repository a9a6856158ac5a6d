//! Signatures and referrers: when they are looked for again, and what the mirror has of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Error, Inner};
use crate::{
    copy,
    model::{
        accessory::{self, Accessory, Scope, Standing},
        desired::Desired,
        facts::{Fact, Need},
        image::{Digest, Repository, Tag},
        mirrored::{Landed, Mirrored},
    },
    resolve::Asked,
    store::{self, Looked, Store},
};

/// Splits a question about what belongs to images into what was looked for since `since`, and a question for the rest.
pub(super) fn recall(
    store: &Store,
    repository: Repository,
    images: BTreeSet<(Digest, Scope)>,
    since: Timestamp,
) -> Result<(Vec<Fact>, Option<Asked>), store::Error> {
    let looked = store.attached(&repository, &images)?;
    let (fresh, stale): (Vec<_>, Vec<_>) = looked.into_iter().partition(|l| l.at >= since);
    let known: BTreeSet<_> = fresh.iter().map(|l| l.image.clone()).collect();
    let left: BTreeSet<_> = images.difference(&known).cloned().collect();
    let facts = fresh
        .into_iter()
        .map(|looked| Fact::Attached(repository.clone(), looked.image, looked.attached.into()));
    let facts = facts.collect();
    if left.is_empty() {
        return Ok((facts, None));
    }
    let before = stale.into_iter().map(|l| (l.image, l.attached));
    let asked = Asked {
        before: before.collect(),
        ..Asked::from(Need::Attached(repository, left))
    };
    Ok((facts, Some(asked)))
}

/// The looks that are worth keeping: one that failed in passing is made again at the next opportunity.
pub(super) fn looks(facts: &[Fact], now: Timestamp) -> Vec<(Repository, Looked)> {
    let looks = facts.iter().filter_map(|fact| match fact {
        Fact::Attached(repository, image, attached) if !attached.is_passing() => {
            let looked = Looked {
                image: image.clone(),
                at: now,
                attached: attached.as_ref().clone(),
            };
            Some((repository.clone(), looked))
        }
        _ => None,
    });
    looks.collect()
}

/// What tags of accessories are believed to name in the mirror, though it is not what upstream's name.
fn believed(
    unknown: &[(Repository, Vec<Accessory>)],
    mirrored: &Mirrored,
) -> BTreeMap<(Repository, Tag), Digest> {
    let mut believed = BTreeMap::new();
    for (target, accessories) in unknown {
        for tag in accessories.iter().filter_map(Accessory::tag) {
            if let Some(digest) = mirrored.tag(target, &tag) {
                believed.insert((target.clone(), tag), digest.clone());
            }
        }
    }
    believed
}

/// What was believed to be there and was not found: somebody took it away to have upstream's in its place.
fn gone(mut believed: BTreeMap<(Repository, Tag), Digest>, found: &[Landed]) -> Vec<Landed> {
    for fact in found {
        if let Landed::Tag(repository, tag, _) = fact {
            believed.remove(&(repository.clone(), tag.clone()));
        }
    }
    let gone = believed.into_iter();
    gone.map(|((repository, _), digest)| Landed::Gone(repository, digest))
        .collect()
}

impl Inner {
    /// Asks the mirror about signatures and referrers of images it has, where nothing is known of them. Of a mirror that somebody
    /// else filled or signed in, what they did is kept.
    pub(super) async fn survey_attached(&self, desired: &Desired) -> Result<(), Error> {
        let (unknown, believed) = {
            let mirrored = self.mirrored();
            let unknown = self.unknown(desired, &mirrored)?;
            let believed = believed(&unknown, &mirrored);
            (unknown, believed)
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let width = self.settings.parallel_blobs * 2;
        let found = copy::survey_attached(&self.mirror, unknown, width)
            .await
            .map_err(Error::Mirror)?;
        // What they are to upstream's is told by what they hold, so that is kept before it is said that they are there.
        let manifests = found.manifests;
        self.on_store(move |store| store.keep_facts(&manifests, &[]))
            .await?;
        let mut landed = gone(believed, &found.landed);
        landed.extend(found.landed);
        self.record_landed(landed).await
    }

    fn unknown(
        &self,
        desired: &Desired,
        mirrored: &Mirrored,
    ) -> Result<Vec<(Repository, Vec<Accessory>)>, Error> {
        let there: BTreeSet<(&Repository, &Digest)> = desired
            .images
            .iter()
            .filter(|w| mirrored.tag(&w.target, &w.tag) == Some(&w.digest))
            .map(|w| (&w.target, &w.digest))
            .collect();
        let mut unknown = Vec::new();
        for ((target, digest), accessories) in &desired.attached {
            if !there.contains(&(target, digest)) {
                continue;
            }
            let mut lacking = Vec::new();
            for accessory in accessories {
                if !self.stands(target, accessory, mirrored)? {
                    lacking.push(accessory.clone());
                }
            }
            if !lacking.is_empty() {
                unknown.push((target.clone(), lacking));
            }
        }
        Ok(unknown)
    }

    /// Whether the mirror is known to hold an accessory, or more than that under its tag.
    fn stands(
        &self,
        target: &Repository,
        accessory: &Accessory,
        mirrored: &Mirrored,
    ) -> Result<bool, Error> {
        let Some(tag) = accessory.tag() else {
            return Ok(mirrored.manifest(target, &accessory.digest).is_some());
        };
        let Some(named) = mirrored.tag(target, &tag) else {
            return Ok(false);
        };
        if *named == accessory.digest {
            return Ok(true);
        }
        let held = self.store.manifest(named)?;
        let upstream = self.store.manifest(&accessory.digest)?;
        let both = held.zip(upstream);
        Ok(both.is_some_and(|(held, upstream)| {
            accessory::compare(accessory.kind, &held, &upstream) == Standing::Covers
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        accessory::{Attached, Kind, Missed},
        facts::Failure,
    };

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn found(subject: &str) -> Attached {
        Attached {
            found: vec![Accessory {
                subject: digest(subject),
                kind: Kind::Signature,
                digest: digest("signature"),
            }],
            missed: vec![],
        }
    }

    #[test]
    fn what_was_looked_for_in_time_is_not_asked_again_and_what_was_not_says_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let at: Repository = "q.io/a".parse().unwrap();
        let image = |name: &str| (digest(name), Scope::All);
        let looked = |name: &str, second: i64| Looked {
            image: image(name),
            at: self::second(second),
            attached: found(name),
        };
        let looks = [looked("fresh", 20), looked("stale", 10)].map(|looked| (at.clone(), looked));
        store.keep_attached(&looks).unwrap();
        let images = ["fresh", "stale", "new"].map(image);
        let (facts, asked) = recall(&store, at.clone(), images.clone().into(), second(20)).unwrap();
        let known: Vec<_> = facts
            .iter()
            .map(|fact| match fact {
                Fact::Attached(_, image, attached) => (image.clone(), attached.as_ref().clone()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(known, [(image("fresh"), found("fresh"))]);
        let asked = asked.unwrap();
        let left = BTreeSet::from([image("stale"), image("new")]);
        assert_eq!(asked.need, Need::Attached(at.clone(), left));
        assert_eq!(
            asked.before,
            BTreeMap::from([(image("stale"), found("stale"))])
        );
        let (_, asked) = recall(&store, at, [image("fresh")].into(), second(20)).unwrap();
        assert!(asked.is_none());
    }

    #[test]
    fn a_look_that_failed_in_passing_is_not_kept() {
        let at: Repository = "q.io/a".parse().unwrap();
        let look = |name: &str, transient: Option<bool>| {
            let missed = transient.map(|transient| Missed {
                subject: digest(name),
                kind: Kind::Referrer,
                failure: Failure {
                    reason: "no".into(),
                    transient,
                    cause: Default::default(),
                },
            });
            let attached = Attached {
                missed: missed.into_iter().collect(),
                ..found(name)
            };
            Fact::Attached(at.clone(), (digest(name), Scope::All), attached.into())
        };
        let facts = [
            look("whole", None),
            look("refused", Some(false)),
            look("down", Some(true)),
        ];
        let kept = looks(&facts, second(1));
        let kept: Vec<_> = kept.into_iter().map(|(_, l)| l.image.0).collect();
        assert_eq!(kept, [digest("whole"), digest("refused")]);
    }

    #[test]
    fn what_is_not_found_any_more_is_gone() {
        let at: Repository = "m.lan/a".parse().unwrap();
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        let believed = BTreeMap::from([
            ((at.clone(), tag("there")), digest("old")),
            ((at.clone(), tag("taken-away")), digest("theirs")),
        ]);
        let found = [Landed::Tag(at.clone(), tag("there"), digest("new"))];
        assert_eq!(gone(believed, &found), [Landed::Gone(at, digest("theirs"))]);
    }
}

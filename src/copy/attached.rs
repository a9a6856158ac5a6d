//! Brings what belongs to an image: signatures under cosign's tags, and referrers, listed where the mirror does not do so itself.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;

use super::{Event, Run, place_in};
use crate::{
    model::{
        accessory::{self, Accessory, Listing, Standing},
        desired::Kind,
        image::{Digest, Repository, Tag},
        manifest::Manifest,
        mirrored::Landed,
        plan::Step,
        sentence,
    },
    registry::{self, Selector},
};

/// Whether an image is of no use without an accessory: clusters from 4.21 on demand the signature of a release payload.
fn is_decisive(step: &Step, accessory: &Accessory) -> bool {
    step.image.kind == Kind::Release && accessory.kind == accessory::Kind::Signature
}

/// Says that an image is there and something that belongs to it is not, and how to do without.
pub(super) fn told(error: &registry::Error) -> String {
    format!(
        "the image is mirrored, something that belongs to it is not: {}; where it is not needed, signatures and referrers stay behind \
         with `signatures: {{copy: false}}` in the settings, or `--remove-signatures` with `once`",
        sentence(error)
    )
}

impl Run {
    /// Brings what belongs to a step's image; the image is there. What belongs to a referrer comes after it. One that fails keeps
    /// away none of the others; with the failure comes whether the image is of use without.
    pub(super) async fn attached(&self, step: &Step) -> Result<(), (registry::Error, bool)> {
        let mut failed: Option<(registry::Error, bool)> = None;
        let mut left: Vec<&Accessory> = step.attached.iter().collect();
        while !left.is_empty() {
            let coming: BTreeSet<&Digest> = left.iter().map(|a| &a.digest).collect();
            let (mut later, mut now): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|a| coming.contains(&a.subject));
            // Two that name one another cannot be; should they, none waits.
            if now.is_empty() {
                now = std::mem::take(&mut later);
            }
            let brought = now.into_iter().map(|accessory| async move {
                let brought = self.accessory(step, accessory).await;
                brought.map_err(|error| (error, is_decisive(step, accessory)))
            });
            for trouble in join_all(brought).await.into_iter().filter_map(Result::err) {
                let worse = failed.as_ref().is_none_or(|(error, decisive)| {
                    let rank = |error: &registry::Error, decisive| (decisive, error.is_transient());
                    rank(&trouble.0, trouble.1) > rank(error, *decisive)
                });
                if worse {
                    failed = Some(trouble);
                }
            }
            left = later;
        }
        failed.map_or(Ok(()), Err)
    }

    async fn accessory(&self, step: &Step, accessory: &Accessory) -> Result<(), registry::Error> {
        let (source, target) = (&step.image.source, &step.image.target);
        let place = place_in(&self.accessories, target, accessory);
        let mut done = place.lock().await;
        if *done {
            return Ok(());
        }
        let manifest = self.manifest(source, &accessory.digest).await?;
        let children = manifest.children(&[]);
        let children = children.map(|child| self.child(source, target, &child.digest, 1));
        join_all(children)
            .await
            .into_iter()
            .collect::<Result<Vec<()>, _>>()?;
        match accessory.tag() {
            Some(tag) => {
                if step.image_held
                    && self
                        .is_signed_here(target, &tag, accessory, &manifest)
                        .await?
                {
                    return Ok(());
                }
                let name = Selector::Tag(tag.clone());
                self.manifest_with_blobs(source, target, &manifest, name, true)
                    .await?;
                let digest = accessory.digest.clone();
                let landed = Landed::Tag(target.clone(), tag, digest);
                self.report.say(Event::Landed(landed)).await;
            }
            None => self.referrer(step, &accessory.subject, &manifest).await?,
        }
        *done = true;
        Ok(())
    }

    /// Whether somebody has signed an image in the mirror since the plan was made: that is not thrown away, and the next plan says
    /// so. An image that is only being brought cannot have been.
    async fn is_signed_here(
        &self,
        target: &Repository,
        tag: &Tag,
        accessory: &Accessory,
        manifest: &Manifest,
    ) -> Result<bool, registry::Error> {
        let name = Selector::Tag(tag.clone());
        let held = match self.engine.mirror.manifest(target, &name).await {
            Ok(held) => held,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error @ (registry::Error::Manifest { .. } | registry::Error::Answer { .. }))
                if !error.is_transient() =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let stays = accessory::compare(accessory.kind, &held, manifest) == Standing::Differs;
        if stays {
            tracing::warn!(place = %target.tagged(tag.clone()), "somebody has signed there; what upstream has is left out");
        }
        Ok(stays)
    }

    /// Brings a referrer, by its digest. It has landed once it is found by its subject, so that is what is reported last.
    async fn referrer(
        &self,
        step: &Step,
        subject: &Digest,
        referrer: &Arc<Manifest>,
    ) -> Result<(), registry::Error> {
        let (source, target) = (&step.image.source, &step.image.target);
        let listed = self.push_referrer(source, target, referrer).await?;
        let tag = accessory::list_tag(subject);
        // The image's own tag may be the list's: then it is the image's.
        if let Some(tag) = tag.filter(|tag| !listed && *tag != step.image.tag) {
            self.list(target, subject, tag, referrer).await?;
        }
        let landed = Landed::Manifest {
            repository: target.clone(),
            digest: referrer.digest.clone(),
            complete: true,
        };
        self.report.say(Event::Landed(landed)).await;
        Ok(())
    }

    /// Uploads what a referrer names, then the referrer; whether the mirror lists it by itself.
    async fn push_referrer(
        &self,
        source: &Repository,
        target: &Repository,
        referrer: &Manifest,
    ) -> Result<bool, registry::Error> {
        let mut repairs = 0;
        loop {
            self.blobs(source, target, referrer).await?;
            match self.engine.mirror.put_referrer(target, referrer).await {
                Ok(listed) => return Ok(listed),
                Err(error) if repairs < 2 && self.forget(target, referrer, &error).await => {
                    repairs += 1
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds a referrer to the list under its subject's tag, for a mirror without the referrers API.
    async fn list(
        &self,
        target: &Repository,
        subject: &Digest,
        tag: Tag,
        referrer: &Manifest,
    ) -> Result<(), registry::Error> {
        let list = place_in(&self.lists, target, subject);
        let _alone = list.lock().await;
        let name = Selector::Tag(tag.clone());
        let mirror = &self.engine.mirror;
        let current = match mirror.manifest(target, &name).await {
            Ok(current) => Some(current),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        match accessory::list(current.as_ref(), subject, &[referrer]) {
            Listing::Whole => Ok(()),
            Listing::Write(list) => mirror.put_manifest(target, &name, &list).await,
            Listing::Taken => {
                tracing::warn!(place = %target.tagged(tag), "an image has the tag under which its referrers would be listed");
                Ok(())
            }
        }
    }
}

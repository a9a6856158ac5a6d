//! Performs a plan: brings images from their sources into the mirror and reports what lands, as it lands.
//!
//! Order, for a reader of the mirror: blobs, then children, then the index, then its signatures and referrers, then the tag; the
//! components of a release before its payload. A blob is downloaded once however many images share it; the mirror takes it from a repository of its own after
//! that. Nothing is asked of the mirror that is known already.
//!
//! **Invariant:** this room decides nothing about what to copy and remembers nothing after a run.

mod attached;

mod blobs;

mod children;

mod pulse;

mod queue;

mod setback;

mod survey;

mod transfer;

mod units;

mod verify;

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use blobs::Desk;
use pulse::Pulse;
use setback::{PATIENCE, Setback, pause, stopped, stuck, told};
use units::{Numbered, Units};

pub use blobs::{Outcome, Uploads};

pub use survey::{Surveyed, SurveyedAttached, survey, survey_attached, survey_digests};

pub use verify::{Inspector, Pace};

use crate::{
    model::{
        accessory::Accessory,
        desired::Kind,
        image::{Digest, Repository},
        manifest::{Descriptor, Manifest},
        mirrored::{Landed, Mirrored},
        plan::Step,
        sentence,
    },
    registry::{self, Client, Selector},
};

/// What is at hand from planning, so that it is not read twice.
pub trait Larder: Send + Sync {
    /// Returns a manifest by digest.
    fn manifest(&self, digest: &Digest) -> Option<Arc<Manifest>>;
    /// Returns the file that holds a blob.
    fn blob(&self, digest: &Digest) -> Option<PathBuf>;
    /// Whether a step is still wanted; one that is not is left out.
    fn wanted(&self, step: &Step) -> bool;
}

/// How much is done at once, and how often again.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Images side by side.
    pub images: usize,
    /// Blob transfers side by side.
    pub blobs: usize,
    /// Further tries of what failed in passing.
    pub retries: u32,
    /// How long nothing at all may move before the run is given up. Single requests have their own, shorter limits; this one is for
    /// what nobody has thought of.
    pub stall: Duration,
}

/// The longest that nothing moves in a run where all is well: longer than registries are waited for, and asked again, altogether.
pub const STALL: Duration = Duration::from_secs(30 * 60);

/// What is known, when a run begins, of what its blobs will find in the mirror.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stock {
    /// Where blobs are already.
    pub donors: HashMap<Digest, Vec<Repository>>,
    /// Blobs that several repositories are to have, with these repositories, 256 of them at most.
    pub shared: HashMap<Digest, Vec<Repository>>,
    /// Whether the last run ended in the middle, so that blobs may be where nothing is known of them.
    pub unclean: bool,
    /// Repositories that were not there when they were looked for, and so have nothing.
    pub empty: HashSet<Repository>,
    /// Images that are where they belong with all they name, of those that others are made of.
    pub children: HashSet<(Repository, Digest)>,
}

/// What a run reports, in the order it happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// Something is in the mirror, or turned out not to be.
    Landed(Landed),
    /// Bytes came from a source.
    Downloaded(u64),
    /// A blob is where it belongs.
    Blob(Outcome),
    /// A step is done: every name of it is in the mirror.
    Done(usize),
    /// A step is not wanted any more and was not begun.
    Skipped(usize),
    /// A step failed.
    Failed(usize, Failed),
}

/// Why a step failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// One sentence.
    pub cause: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Whether it failed only since others did; it is their dependent then.
    pub because_of: Vec<usize>,
    /// Whether the run was told to stop before it was done.
    pub stopped: bool,
}

/// Everything a run works with.
pub struct Engine {
    /// Reads from upstream.
    pub source: Client,
    /// Reads from and writes to the mirror.
    pub mirror: Client,
    /// What is at hand.
    pub larder: Arc<dyn Larder>,
    /// Uploads under way, of this run and of others to the same mirror.
    pub uploads: Uploads,
    /// How much at once.
    pub limits: Limits,
    /// No new work is begun once this is cancelled; what is in flight goes on.
    pub stop: CancellationToken,
    /// What is in flight is abandoned once this is cancelled.
    pub abandon: CancellationToken,
}

/// Tells the run's owner what happens; waits where the owner is slow.
#[derive(Clone)]
struct Reporter {
    events: mpsc::Sender<Event>,
    pulse: Arc<Pulse>,
}

impl Reporter {
    async fn say(&self, event: Event) {
        self.pulse.beat();
        // The owner hangs up only when it goes away itself, and then nobody needs to know.
        let _ = self.events.send(event).await;
    }
}

impl Engine {
    /// Performs `steps` and returns when each is done, failed or skipped. `stock` says what the mirror has, see [`stock`].
    pub async fn run(self, steps: Vec<Step>, mut stock: Stock, events: mpsc::Sender<Event>) {
        let children = std::mem::take(&mut stock.children);
        let desk = Desk::new(stock, self.uploads.clone(), self.limits.blobs);
        let (units, ready) = Units::new(steps);
        let run = Run {
            report: Reporter {
                events,
                pulse: Arc::default(),
            },
            desk,
            children,
            doubted: Mutex::default(),
            stuck: CancellationToken::new(),
            units,
            places: Mutex::new(HashMap::new()),
            accessories: Mutex::new(HashMap::new()),
            lists: Mutex::new(HashMap::new()),
            engine: self,
        };
        run.perform(ready).await;
    }
}

/// How many of the repositories that share a blob are remembered.
const MAX_SHARERS: usize = 256;

/// Looks up which repositories of the mirror hold the blobs of `steps`, and which blobs several of them want.
pub fn stock(steps: &[Step], mirrored: &Mirrored, larder: &dyn Larder) -> Stock {
    let mut donors: HashMap<Digest, Vec<Repository>> = HashMap::new();
    let mut wanted: HashMap<Digest, &Repository> = HashMap::new();
    let mut shared: HashMap<Digest, Vec<Repository>> = HashMap::new();
    let mut children = HashSet::new();
    for step in steps {
        let target = &step.image.target;
        for manifest in manifests_at_hand(step, larder) {
            let whole =
                |child: &&Descriptor| mirrored.manifest(target, &child.digest) == Some(true);
            let held = manifest.children(&[]).filter(whole);
            children.extend(held.map(|child| (target.clone(), child.digest.clone())));
            for blob in manifest.blobs() {
                let first = *wanted.entry(blob.digest.clone()).or_insert(target);
                if first != target {
                    let sharers = shared.entry(blob.digest.clone());
                    let sharers = sharers.or_insert_with(|| vec![first.clone()]);
                    if sharers.len() < MAX_SHARERS && sharers.last() != Some(target) {
                        sharers.push(target.clone());
                    }
                }
                let held = donors.entry(blob.digest.clone()).or_default();
                if mirrored.blob(target, &blob.digest) && !held.contains(target) {
                    held.push(target.clone());
                }
                if held.is_empty() {
                    held.extend(mirrored.donors(target, &blob.digest).cloned());
                }
            }
        }
    }
    Stock {
        donors,
        shared,
        children,
        ..Stock::default()
    }
}

fn manifests_at_hand(step: &Step, larder: &dyn Larder) -> Vec<Arc<Manifest>> {
    let mut found = Vec::new();
    let attached = step.attached.iter().map(|a| a.digest.clone());
    let mut left: Vec<Digest> = attached.chain([step.image.digest.clone()]).collect();
    while let Some(digest) = left.pop() {
        if let Some(manifest) = larder.manifest(&digest) {
            left.extend(manifest.children(&[]).map(|child| child.digest.clone()));
            found.push(manifest);
        }
    }
    found
}

/// Whether a manifest is in its place already, held by the one who is bringing it.
type Place = Arc<tokio::sync::Mutex<bool>>;

/// What is in its place, by what it is.
type Places<T> = Mutex<HashMap<(Repository, T), Place>>;

fn place_in<T: Clone + Eq + Hash>(places: &Places<T>, target: &Repository, what: &T) -> Place {
    let mut places = places.lock().unwrap_or_else(|broken| broken.into_inner());
    let key = (target.clone(), what.clone());
    places.entry(key).or_default().clone()
}

/// One performance of a plan.
struct Run {
    engine: Engine,
    desk: Desk,
    /// What is believed to be in its place since before the run.
    children: HashSet<(Repository, Digest)>,
    /// What of it the mirror turned out to lack.
    doubted: Mutex<HashSet<(Repository, Digest)>>,
    units: Units,
    report: Reporter,
    /// What is in flight is given up once this is cancelled: nothing moves any more.
    stuck: CancellationToken,
    /// One writer a manifest and repository: two steps may share a digest under two tags.
    places: Places<Digest>,
    /// One writer an accessory: two tags of one image share what belongs to it.
    accessories: Places<Accessory>,
    /// One writer a list of referrers.
    lists: Places<Digest>,
}

impl Run {
    async fn perform(self, ready: Vec<Numbered>) {
        tokio::select! {
            () = self.steps(ready) => {}
            never = self.watch() => match never {},
        }
    }

    /// Gives up what is in flight when nothing moves any more, and leaves it to those who wait for it to say so.
    async fn watch(&self) -> std::convert::Infallible {
        let say = |silent: Duration| {
            let minutes = silent.as_secs() / 60;
            tracing::warn!(minutes, on_its_way = %self.desk.on_its_way(), "nothing has moved");
        };
        let limit = self.engine.limits.stall;
        self.report.pulse.stopped(limit, say).await;
        tracing::error!(minutes = limit.as_secs() / 60, on_its_way = %self.desk.on_its_way(), "the run is given up: nothing moves");
        self.stuck.cancel();
        std::future::pending().await
    }

    /// Brings what can be begun, and each payload as soon as its components have ended: a release that is whole is not kept waiting
    /// for the next one. Operator catalogs come last, when what they offer is there.
    async fn steps(&self, ready: Vec<Numbered>) {
        let (catalogs, first): (Vec<_>, Vec<_>) = ready
            .into_iter()
            .partition(|(_, step)| step.image.kind.is_catalog());
        for wave in [first, catalogs] {
            stream::iter(wave)
                .for_each_concurrent(
                    self.engine.limits.images.max(1),
                    |(number, step)| async move {
                        self.step(number, step.clone()).await;
                        for (number, payload) in self.units.ended(&step) {
                            self.step(number, payload).await;
                        }
                    },
                )
                .await;
        }
    }

    async fn step(&self, number: usize, step: Arc<Step>) {
        if !self.engine.larder.wanted(&step) {
            self.units.failed(&step, number);
            return self.report.say(Event::Skipped(number)).await;
        }
        let result = match self.hindrance(&step) {
            Some(failed) => Err(failed),
            None => self.image(&step).await,
        };
        match result {
            Ok(()) => self.report.say(Event::Done(number)).await,
            Err(failed) => {
                self.units.failed(&step, number);
                self.report.say(Event::Failed(number, failed)).await;
            }
        }
    }

    /// Why a step is not begun at all.
    fn hindrance(&self, step: &Step) -> Option<Failed> {
        if self.engine.stop.is_cancelled() {
            return Some(stopped(0));
        }
        if self.stuck.is_cancelled() {
            return Some(stuck(self.engine.limits.stall, 0));
        }
        let missing = self.units.missing(step);
        if step.image.kind != Kind::Release || missing.is_empty() {
            return None;
        }
        let cause = format!(
            "not copied since {} of its components did not land: a release in the mirror is whole or absent",
            missing.len()
        );
        Some(Failed {
            cause,
            attempts: 0,
            because_of: missing,
            stopped: false,
        })
    }

    async fn image(&self, step: &Step) -> Result<(), Failed> {
        let work = self.attempts(step);
        tokio::select! {
            result = work => result,
            () = self.engine.abandon.cancelled() => Err(stopped(1)),
            () = self.stuck.cancelled() => Err(stuck(self.engine.limits.stall, 1)),
        }
    }

    /// Tries an image until it lands, fails for good, or has failed in passing too often.
    async fn attempts(&self, step: &Step) -> Result<(), Failed> {
        let mut attempt = 1;
        loop {
            let Setback { error, tagged } = match self.place(step).await {
                Ok(()) => return Ok(()),
                Err(setback) => setback,
            };
            // Wrong bytes are a mishap of the way once, and twice they are what is there; what was asked for again and again is asked
            // for in one more round of these.
            let once_more =
                error.is_wrong_bytes() || (error.is_transient() && error.was_repeated());
            let passing = match once_more {
                true => attempt == 1,
                false => error.is_transient(),
            };
            let again = passing
                && error.retry_after().is_none_or(|asked| asked <= PATIENCE)
                && attempt <= self.engine.limits.retries
                && !self.engine.stop.is_cancelled();
            if !again {
                return Err(Failed {
                    cause: match tagged {
                        true => attached::told(&error),
                        false => told(&error, step),
                    },
                    attempts: attempt,
                    because_of: vec![],
                    stopped: false,
                });
            }
            tracing::warn!(image = %step.image.source_reference(), attempt, error = %sentence(&error), "trying again");
            tokio::select! {
                () = pause(attempt) => {}
                () = self.engine.stop.cancelled() => return Err(stopped(attempt)),
            }
            attempt += 1;
        }
    }

    /// Brings one image into its place: what it is made of, then its own manifest under its tag.
    async fn place(&self, step: &Step) -> Result<(), Setback> {
        if step.image_held {
            let brought = self.attached(step).await;
            return brought.map_err(|(error, _)| Setback {
                error,
                tagged: true,
            });
        }
        let image = &step.image;
        let root = self.manifest(&image.source, &image.digest).await?;
        let children: Vec<Digest> = root
            .children(&image.platforms)
            .map(|c| c.digest.clone())
            .collect();
        let complete = children.len() == root.children(&[]).count();
        let landed = join_all(
            children
                .iter()
                .map(|child| self.child(&image.source, &image.target, child, 0)),
        )
        .await;
        landed.into_iter().collect::<Result<Vec<()>, _>>()?;
        // What belongs to an image comes before its tag, and after the image that it names: some registries insist.
        let mut attached = Ok(());
        if !step.attached.is_empty() {
            let name = Selector::Digest(image.digest.clone());
            self.manifest_with_blobs(&image.source, &image.target, &root, name, complete)
                .await?;
            attached = match self.attached(step).await {
                Err((error, decisive)) if decisive || error.is_transient() => {
                    return Err(error.into());
                }
                // What cannot be had, or what the mirror does not take, is told and does not keep the image away.
                brought => brought,
            };
        }
        let name = Selector::Tag(image.tag.clone());
        self.manifest_with_blobs(&image.source, &image.target, &root, name, complete)
            .await?;
        self.report
            .say(Event::Landed(Landed::Tag(
                image.target.clone(),
                image.tag.clone(),
                image.digest.clone(),
            )))
            .await;
        attached.map_err(|(error, _)| Setback {
            error,
            tagged: true,
        })
    }

    fn place_of(&self, target: &Repository, digest: &Digest) -> Place {
        place_in(&self.places, target, digest)
    }

    /// Uploads what a manifest names, then the manifest. A registry that has lost a blob we believed in is believed instead:
    /// the blob is brought over again, a bounded number of times.
    async fn manifest_with_blobs(
        &self,
        source: &Repository,
        target: &Repository,
        manifest: &Manifest,
        name: Selector,
        complete: bool,
    ) -> Result<(), registry::Error> {
        let (mut repairs, mut recalled) = (0, HashSet::new());
        loop {
            self.blobs(source, target, manifest).await?;
            match self
                .engine
                .mirror
                .put_manifest(target, &name, manifest)
                .await
            {
                Ok(()) => break,
                Err(error) if repairs < 2 && self.forget(target, manifest, &error).await => {
                    repairs += 1
                }
                Err(error) => {
                    let lost = self.lost(target, manifest, &error, &recalled);
                    if lost.is_empty() {
                        return Err(error);
                    }
                    self.recall(source, target, &lost).await?;
                    recalled.extend(lost);
                }
            }
        }
        let landed = Landed::Manifest {
            repository: target.clone(),
            digest: manifest.digest.clone(),
            complete,
        };
        self.report.say(Event::Landed(landed)).await;
        Ok(())
    }

    /// Drops what was believed of the blobs that the mirror says it lacks; whether there were any.
    async fn forget(
        &self,
        target: &Repository,
        manifest: &Manifest,
        error: &registry::Error,
    ) -> bool {
        let missing = error.missing_blobs();
        let ours: Vec<Digest> = manifest
            .blobs()
            .map(|b| b.digest.clone())
            .filter(|d| missing.contains(d))
            .collect();
        for digest in &ours {
            self.desk.forget(target, digest);
            self.report
                .say(Event::Landed(Landed::Gone(target.clone(), digest.clone())))
                .await;
        }
        !ours.is_empty()
    }

    async fn blobs(
        &self,
        source: &Repository,
        target: &Repository,
        manifest: &Manifest,
    ) -> Result<(), registry::Error> {
        let each = manifest.blobs().map(|blob| {
            self.desk
                .ensure(&self.engine, &self.report, source, target, blob)
        });
        // All are waited for, also when one failed: what is in flight is worth finishing.
        join_all(each).await.into_iter().collect()
    }

    async fn manifest(
        &self,
        source: &Repository,
        digest: &Digest,
    ) -> Result<Arc<Manifest>, registry::Error> {
        match self.engine.larder.manifest(digest) {
            Some(manifest) => Ok(manifest),
            None => self
                .engine
                .source
                .manifest(source, &Selector::Digest(digest.clone()))
                .await
                .map(Arc::new),
        }
    }
}

#[cfg(test)]
mod tests;

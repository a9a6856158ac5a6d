//! Checks whether the mirror still holds what it is believed to hold, and has copied again what it lost.
//!
//! A check changes nothing but what status says. Repairing drops the belief in what is lost, plans as if upstream had not moved, and
//! performs that plan: a run like any other.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{
    Error, Handle, Inner, RunEvent, What,
    planning::Reading,
    verification::{Finding, Repair, Verification, VerifyEvent, VerifyOrder, VerifyProgress},
};
use crate::{
    copy::Inspector,
    model::{
        drift::{self, Check, Depth, Drift, Lost, Place, Thing},
        image::{Digest, Repository},
        imageset::SetName,
        record::{Pending, RunRecord, Trigger},
        sentence,
    },
};

/// How often those who wait hear how far a check is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How many things in a row the mirror may fail to answer before the check is given up.
const PATIENCE: usize = 10;

/// How many images a finding names.
const MOST_IMAGES: usize = 100;

/// How many findings the end of a check holds.
const MOST_FINDINGS: usize = 1000;

/// The most things that are looked at side by side.
const WIDTH: usize = 16;

/// The longest time between two looks at what is due.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Those who are told.
struct Teller(Option<mpsc::Sender<Result<VerifyEvent, Error>>>);

impl Teller {
    async fn say(&self, event: VerifyEvent) {
        if let Some(events) = &self.0 {
            // Who has hung up is noticed elsewhere.
            let _ = events.send(Ok(event)).await;
        }
    }

    /// Returns when nobody listens any more; never where nobody was to.
    async fn hung_up(&self) {
        match &self.0 {
            Some(events) => events.closed().await,
            None => std::future::pending().await,
        }
    }
}

/// What was looked at, and what came of it.
struct Looked {
    started: Timestamp,
    places: Vec<Place>,
    manifests: u64,
    blobs: u64,
    progress: VerifyProgress,
    lost: Vec<Lost>,
    unknown_reason: String,
}

impl Handle {
    /// Begins a check and returns what happens in it. Hanging up ends the check, but not the runs that repair.
    pub fn verify(
        &self,
        order: VerifyOrder,
    ) -> Result<mpsc::Receiver<Result<VerifyEvent, Error>>, Error> {
        let named: Result<BTreeSet<SetName>, Error> =
            order.sets.iter().map(|set| self.find_set(set)).collect();
        let named = named?;
        if self.inner.stop.is_cancelled() {
            return Err(Error::Stopping);
        }
        let (events, told) = mpsc::channel(64);
        let handle = self.clone();
        self.inner.tracker.spawn(async move {
            let teller = Teller(Some(events.clone()));
            let verified = handle
                .verified(named, order.depth, order.repair, &teller)
                .await;
            if let Err(error) = verified {
                let _ = events.send(Err(error)).await;
            }
        });
        Ok(told)
    }

    /// Checks image sets as often as settings say, until the daemon stops.
    pub(super) async fn keep_verifying(self) {
        let settings = self.inner.settings.verify.clone();
        let Some(every) = settings.every else {
            return;
        };
        loop {
            let (due, sleep) = self.due(every);
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(sleep), if due.is_empty() => continue,
                verified = self.verified(due.clone(), settings.depth, settings.repair, &Teller(None)), if !due.is_empty() => {
                    let again = match verified {
                        Ok(()) => every,
                        Err(error) => {
                            tracing::warn!(%error, "the mirror could not be checked");
                            every.min(LONGEST_SLEEP)
                        }
                    };
                    self.put_off(&due, again);
                }
            }
        }
    }

    /// The image sets that are due, and how long nothing else is.
    fn due(&self, every: Duration) -> (BTreeSet<SetName>, Duration) {
        let now = Timestamp::now();
        let (mut due, mut next) = (BTreeSet::new(), now + LONGEST_SLEEP);
        for (name, set) in &mut self.inner.state().sets {
            if !set.is_usable() {
                continue;
            }
            // What was never checked was written not long ago.
            let at = *set.record.verify_next.get_or_insert(now + every);
            // A setting that was shortened counts at once.
            let at = at.min(now + every);
            match at <= now {
                true => drop(due.insert(name.clone())),
                false => next = next.min(at),
            }
        }
        let sleep = Duration::try_from(next - now).unwrap_or_default();
        // Image sets that are new are seen within the shortest of these.
        (
            due,
            sleep.clamp(Duration::from_millis(100), every.min(LONGEST_SLEEP)),
        )
    }

    fn put_off(&self, sets: &BTreeSet<SetName>, every: Duration) {
        for name in sets {
            let next = Timestamp::now() + every;
            self.inner
                .with_set(name, |set| set.record.verify_next = Some(next));
            self.inner.save_set(name);
        }
    }

    /// Checks, notes what is lost, repairs where that is wanted, and waits for the runs where somebody listens.
    async fn verified(
        &self,
        named: BTreeSet<SetName>,
        depth: Depth,
        repair: bool,
        teller: &Teller,
    ) -> Result<(), Error> {
        let inner = &self.inner;
        let all = named.is_empty();
        let sets: BTreeSet<SetName> = match all {
            true => inner.state().sets.keys().cloned().collect(),
            false => named,
        };
        let looked = tokio::select! {
            looked = self.look_through(&sets, depth, all, teller) => looked?,
            () = teller.hung_up() => return Ok(()),
            () = inner.stop.cancelled() => return Err(Error::Stopping),
        };
        let found: Vec<Finding> = looked
            .lost
            .iter()
            .map(|lost| finding(lost, &looked.places))
            .collect();
        let mut repairs = Vec::new();
        if repair && !found.is_empty() {
            self.drop_belief(&looked).await?;
            for set in found
                .iter()
                .flat_map(|found| &found.sets)
                .collect::<BTreeSet<_>>()
            {
                let mut of_set = found.iter().filter(|found| found.sets.contains(set));
                repairs.push(match of_set.any(|found| found.lost.is_mendable()) {
                    true => self.mend(set, teller.0.is_some()).await,
                    false => Repair::refused(set, "copying does not bring back what is lost of it"),
                });
            }
        }
        for repair in &mut repairs {
            teller.say(VerifyEvent::Repair(repair.clone())).await;
            if let Some(run) = repair.run.take_if(|_| teller.0.is_some()) {
                repair.run = Some(self.run_over(run).await);
                teller.say(VerifyEvent::Repair(repair.clone())).await;
            }
        }
        let mut found = found;
        found.truncate(MOST_FINDINGS);
        let verification = Verification {
            depth,
            sets: sets.into_iter().collect(),
            started: looked.started,
            finished: Timestamp::now(),
            manifests: looked.manifests,
            blobs: looked.blobs,
            progress: looked.progress,
            found,
            unknown_reason: looked.unknown_reason,
            repairs,
        };
        teller
            .say(VerifyEvent::Finished(Box::new(verification)))
            .await;
        Ok(())
    }

    /// Looks at everything, one check at a time, and notes in status what is lost.
    async fn look_through(
        &self,
        sets: &BTreeSet<SetName>,
        depth: Depth,
        all: bool,
        teller: &Teller,
    ) -> Result<Looked, Error> {
        let inner = &self.inner;
        let _alone = inner.verifying.lock().await;
        let started = Timestamp::now();
        let places = inner.places(sets);
        let (places, checks) = {
            let inner = inner.clone();
            let gather = move || {
                let at_hand = |digest: &Digest| inner.store.manifest(digest).ok()?.map(Arc::new);
                let checks = drift::checks(&inner.mirrored(), &places, &at_hand, depth, all);
                (places, checks)
            };
            tokio::task::spawn_blocking(gather).await?
        };
        let blobs = checks
            .iter()
            .filter(|check| matches!(check.thing, Thing::Blob(_)));
        let blobs = blobs.count() as u64;
        let mut looked = Looked {
            started,
            manifests: checks.len() as u64 - blobs,
            blobs,
            progress: VerifyProgress {
                total: checks.len() as u64,
                ..VerifyProgress::default()
            },
            places,
            lost: Vec::new(),
            unknown_reason: String::new(),
        };
        tracing::info!(things = checks.len(), %depth, "checking the mirror");
        self.ask_for(&checks, depth, &mut looked, teller).await?;
        let order = |lost: &Lost| (lost.check.repository.clone(), lost.check.digest.clone());
        looked.lost.sort_by_cached_key(order);
        inner.note_drift(sets, depth, &looked);
        let (lost, unknown) = (looked.lost.len(), looked.progress.unknown);
        match lost {
            0 => tracing::info!(unknown, "the mirror holds what it is believed to hold"),
            _ => tracing::warn!(lost, unknown, "the mirror lost content"),
        }
        Ok(looked)
    }

    async fn ask_for(
        &self,
        checks: &[Check],
        depth: Depth,
        looked: &mut Looked,
        teller: &Teller,
    ) -> Result<(), Error> {
        let inner = &self.inner;
        let inspector = Inspector::new(&inner.mirror, &inner.pace, depth == Depth::Read);
        let width = inner.settings.parallel_blobs.min(WIDTH);
        let answers = inspector.look_at(checks, width);
        tokio::pin!(answers);
        let mut tell = tokio::time::interval(TELL_EVERY);
        let mut failed_in_a_row = 0;
        loop {
            tokio::select! {
                answer = answers.next() => {
                    let Some((check, answer)) = answer else { break };
                    looked.progress.checked += 1;
                    match answer {
                        Ok(None) => failed_in_a_row = 0,
                        Ok(Some(loss)) => {
                            failed_in_a_row = 0;
                            let lost = Lost { check: check.clone(), loss };
                            // A run may have put something else there meanwhile.
                            if lost.is_believed(&inner.mirrored()) {
                                looked.progress.lost += 1;
                                let found = finding(&lost, &looked.places);
                                teller.say(VerifyEvent::Found(found)).await;
                                looked.lost.push(lost);
                            }
                        }
                        Err(error) => {
                            failed_in_a_row += 1;
                            looked.progress.unknown += 1;
                            if error.is_authentication() || failed_in_a_row == PATIENCE {
                                return Err(Error::Mirror(error));
                            }
                            if looked.unknown_reason.is_empty() {
                                looked.unknown_reason = sentence(&error);
                            }
                        }
                    }
                }
                _ = tell.tick() => {
                    looked.progress.bytes_read = inspector.bytes_read();
                    teller.say(VerifyEvent::Progress(looked.progress.clone())).await;
                }
            }
        }
        looked.progress.bytes_read = inspector.bytes_read();
        Ok(())
    }

    /// Stops believing that the mirror has what it was found to have lost.
    async fn drop_belief(&self, looked: &Looked) -> Result<(), Error> {
        let mendable = looked.lost.iter().filter(|lost| lost.is_mendable());
        let mendable: Vec<Lost> = mendable.cloned().collect();
        let gone = drift::dropped(&mendable, &looked.places);
        let inner = &self.inner;
        let marked: Vec<SetName> = {
            let mut state = inner.state();
            let drifted = state.sets.iter_mut().filter_map(|(name, set)| {
                set.record.drift.as_mut()?.mark(&gone);
                Some(name.clone())
            });
            drifted.collect()
        };
        // First, so that no round takes for whole what only looks so.
        marked.iter().for_each(|name| inner.save_set(name));
        inner.record_landed(gone).await
    }

    /// Has an image set's lost content copied again; where nobody asked, only as far as its plans are applied by themselves.
    async fn mend(&self, set: &SetName, asked: bool) -> Repair {
        let started = async {
            let origin = self.origin(set)?;
            let plan = self.inner.make_plan(origin, Reading::Pinned).await?;
            if plan.plan.is_empty() {
                self.inner.settle_drift();
                // A round that came first has done it.
                let (drifted, run) = self.inner.with_set(set, |state| {
                    (state.record.drift.is_some(), state.record.run.clone())
                });
                return Ok(match run.filter(|_| !drifted) {
                    Some(run) => Ok(run),
                    None => Err("there is nothing to copy for it".to_owned()),
                });
            }
            if !asked && plan.pending != Pending::No {
                let short = plan.plan.id.short();
                return Ok(Err(format!(
                    "plan {short} brings it back and waits for a person; `imagesetd apply {short}` applies it"
                )));
            }
            self.start_run(&plan, Trigger::Repair).map(Ok)
        };
        let repair = match started.await {
            Ok(Ok(id)) => match self.run(&id) {
                Ok(run) => Repair {
                    set: set.clone(),
                    run: Some(run),
                    message: String::new(),
                },
                Err(error) => Repair::refused(set, error.to_string()),
            },
            Ok(Err(why)) => Repair::refused(set, why),
            Err(error) => Repair::refused(set, error.to_string()),
        };
        self.inner.settle_drift();
        self.inner.touch();
        repair
    }

    /// Waits until a run is over.
    async fn run_over(&self, run: RunRecord) -> RunRecord {
        let Ok(mut feed) = self.watch_run(&run.id) else {
            return run;
        };
        while let Some(event) = feed.next().await {
            if let RunEvent::Finished(run) = event {
                return run;
            }
        }
        run
    }
}

impl Inner {
    /// The images of image sets, in their places.
    fn places(&self, sets: &BTreeSet<SetName>) -> Vec<Place> {
        let state = self.state();
        let known = sets
            .iter()
            .filter_map(|name| Some((name, state.sets.get(name)?)));
        let places = known.flat_map(|(name, set)| {
            set.wants().iter().map(|wanted| Place {
                set: name.clone(),
                target: wanted.target.clone(),
                tag: wanted.tag.clone(),
                digest: wanted.digest.clone(),
                source: wanted.source_reference(),
            })
        });
        places.collect()
    }

    /// Notes what a check found of image sets. What the mirror did not say counts as it did before.
    fn note_drift(&self, sets: &BTreeSet<SetName>, depth: Depth, looked: &Looked) {
        let now = Timestamp::now();
        // A check that is not whole takes nothing back.
        let told = match looked.progress.unknown {
            0 => Some(depth),
            _ => None,
        };
        for name in sets {
            let news = self.with_set(name, |set| {
                let before = set.record.drift.take();
                let (lost, places) = (&looked.lost, &looked.places);
                set.record.drift = Drift::after(before.as_ref(), name, lost, places, (told, now));
                set.record.verified = Some(now);
                let lacks = |drift: &Drift| drift.sentence(name);
                let known = before.as_ref().map(lacks);
                set.record
                    .drift
                    .as_ref()
                    .map(lacks)
                    .filter(|lack| known.as_ref() != Some(lack))
            });
            if let Some(lack) = news {
                self.news.tell(name, What::Drifted(lack));
            }
            self.save_set(name);
        }
        self.settle_drift();
        self.touch();
    }

    /// The images of which something was lost and is not believed in any longer.
    pub(super) fn damaged(&self) -> HashSet<(Repository, Digest)> {
        let state = self.state();
        let drifts = state
            .sets
            .values()
            .filter_map(|set| set.record.drift.as_ref());
        let images = drifts.flat_map(|drift| &drift.images);
        images
            .filter(|image| image.dropped)
            .map(|image| (image.target.clone(), image.digest.clone()))
            .collect()
    }

    /// Takes back what status says of content that was copied again, or that nobody asks for any longer.
    pub(super) fn settle_drift(&self) {
        let mut settled = Vec::new();
        {
            let mirrored = self.mirrored();
            let mut state = self.state();
            for (name, set) in &mut state.sets {
                let Some(mut drift) = set.record.drift.take() else {
                    continue;
                };
                let before = drift.images.len();
                drift.settle(&mirrored);
                let wanted: BTreeMap<_, _> = set
                    .wants()
                    .iter()
                    .map(|w| ((&w.target, &w.tag), &w.digest))
                    .collect();
                drift.images.retain(|image| {
                    wanted.get(&(&image.target, &image.tag)) == Some(&&image.digest)
                });
                if drift.images.len() != before {
                    settled.push(name.clone());
                }
                set.record.drift = Some(drift).filter(|drift| !drift.images.is_empty());
            }
        }
        settled.iter().for_each(|name| self.save_set(name));
    }
}

fn finding(lost: &Lost, places: &[Place]) -> Finding {
    let owners: Vec<&Place> = lost
        .check
        .owners
        .iter()
        .filter_map(|owner| places.get(*owner))
        .collect();
    let images = owners
        .iter()
        .map(|place| place.target.tagged(place.tag.clone()).to_string());
    let images: BTreeSet<String> = images.take(MOST_IMAGES).collect();
    let sets: BTreeSet<SetName> = owners.iter().map(|place| place.set.clone()).collect();
    Finding {
        lost: lost.clone(),
        images: images.into_iter().collect(),
        sets: sets.into_iter().collect(),
    }
}

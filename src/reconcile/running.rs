//! Performs plans: starts runs, makes durable what lands, and sees to the documents once a run is over.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Error, Handle, Inner, What,
    rate::Rate,
    state::{ActiveRun, ImageFinished, ImageOutcome, Resolved},
};
use crate::{
    copy::{self, Engine, Event, Failed, Larder, Limits, Stock},
    model::{
        desired::Kind,
        image::{Digest, Repository},
        imageset::SetName,
        manifest::Manifest,
        mirrored::Landed,
        plan::Step,
        record::{PlanRecord, Progress, RunFailure, RunRecord, RunState, Trigger},
    },
    store::Store,
};

/// Facts of what landed are made durable after this many, or after [`FLUSH_AFTER`].
const FLUSH_COUNT: usize = 500;

/// How often those who follow a run hear of its progress.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// See [`FLUSH_COUNT`].
const FLUSH_AFTER: Duration = Duration::from_millis(500);

/// What the engine is given from the store and the directory.
struct Pantry {
    store: Store,
    handle: Handle,
    set: SetName,
}

impl Larder for Pantry {
    fn manifest(&self, digest: &Digest) -> Option<Arc<Manifest>> {
        self.store.manifest(digest).ok().flatten().map(Arc::new)
    }

    fn blob(&self, digest: &Digest) -> Option<PathBuf> {
        self.store.kept().file(digest)
    }

    fn wanted(&self, step: &Step) -> bool {
        let image = &step.image;
        self.handle
            .inner
            .with_set(&self.set, |state| match (&state.set, state.resolution()) {
                // Broken for a moment, or not resolved yet since it changed: nothing says that it is not wanted.
                _ if state.removed => false,
                (None, _) | (_, None) => true,
                (Some(_), Some(resolved)) => resolved
                    .desired
                    .images
                    .binary_search_by(|w| (&w.target, &w.tag).cmp(&(&image.target, &image.tag)))
                    .is_ok_and(|at| resolved.desired.images[at].digest == image.digest),
            })
    }
}

impl Handle {
    /// Starts a run of a plan and returns its id. One run of an image set at a time: where one of the same plan is under way,
    /// that one's id is returned; one of another plan is waited for by the caller's next try.
    pub(super) fn start_run(
        &self,
        plan: &Arc<PlanRecord>,
        trigger: Trigger,
    ) -> Result<String, Error> {
        let inner = &self.inner;
        let set = plan.plan.set.clone();
        let now = Timestamp::now();
        let record = RunRecord {
            id: String::new(),
            set: set.clone(),
            plan: plan.plan.id.clone(),
            revision: plan.plan.revision.clone(),
            state: RunState::Running,
            trigger,
            started: now,
            finished: None,
            progress: Progress {
                images_total: plan.plan.steps.len() as u64,
                bytes_total: plan.plan.bytes(),
                ..Progress::default()
            },
            failures: vec![],
            message: String::new(),
        };
        let (begun, sender, cancel, resolved) = {
            let mut state = inner.state();
            if let Some(active) = state.sets.get(&set).and_then(|s| s.active.clone()) {
                let same = state
                    .active
                    .get(&active)
                    .is_some_and(|run| run.plan == plan.plan.id);
                return if same {
                    Ok(active)
                } else {
                    Err(Error::Busy { set, run: active })
                };
            }
            if inner.stop.is_cancelled() {
                return Err(Error::Stopping);
            }
            let known = state.sets.get(&set);
            if known.is_none_or(|s| s.document.as_deref() != Some(&plan.document)) {
                return Err(Error::Stale {
                    id: plan.plan.id.clone(),
                    why: format!("image set {set} says something else by now"),
                    set,
                });
            }
            // A run keeps what its plan meant, whatever the directory says by its end.
            let resolved = known
                .and_then(|s| s.resolved.clone())
                .filter(|r| r.document == plan.document);
            let id = run_id(now, plan, |id| {
                state.active.contains_key(id) || matches!(inner.store.run(id), Ok(Some(_)))
            });
            let record = RunRecord {
                id: id.clone(),
                ..record
            };
            let cancel = inner.stop.child_token();
            let begun = record.clone();
            let (sender, receiver) = watch::channel(record);
            let (images, _) = broadcast::channel(1024);
            let active = ActiveRun {
                plan: plan.plan.id.clone(),
                record: receiver,
                images,
                cancel: cancel.clone(),
            };
            state.active.insert(id.clone(), active);
            let set_state = state.sets.entry(set.clone()).or_default();
            set_state.active = Some(id.clone());
            set_state.record.run = Some(id.clone());
            (begun, sender, cancel, resolved)
        };
        let id = begun.id.clone();
        tracing::info!(image_set = %set, run = %id, plan = %plan.plan.id.short(), images = plan.plan.steps.len(), bytes = plan.plan.bytes(), "run started");
        // Before it can tell of itself.
        inner.news.tell(&begun.set.clone(), What::RunStarted(begun));
        let handle = self.clone();
        let plan = plan.clone();
        inner
            .tracker
            .spawn(async move { handle.perform(plan, resolved, sender, cancel).await });
        inner.touch();
        Ok(id)
    }

    async fn perform(
        &self,
        plan: Arc<PlanRecord>,
        resolved: Option<Arc<Resolved>>,
        run: watch::Sender<RunRecord>,
        cancel: CancellationToken,
    ) {
        let first = run.borrow().clone();
        let id = first.id.clone();
        if let Err(error) = self.inner.save_run(&first).await {
            tracing::error!(run = %id, %error, "the run could not be written down");
        }
        if let Err(error) = self.inner.save_plan_of(&plan, &first).await {
            tracing::error!(run = %id, %error, "the plan's run could not be written down");
        }
        let mut performance = Performance {
            inner: &self.inner,
            resolved: resolved.clone(),
            steps: &plan.plan.steps,
            run: &run,
            images: self.inner.state().active.get(&id).map(|a| a.images.clone()),
            pending: Vec::new(),
            failed: Vec::new(),
            trouble: None,
            began: std::time::Instant::now(),
            news: false,
            rate: Rate::default(),
        };
        performance.copy(self, &plan, cancel.clone()).await;
        let Performance {
            failed, trouble, ..
        } = performance;
        let copied = Copied {
            failed,
            trouble,
            cancelled: cancel.is_cancelled(),
        };
        self.conclude(&plan, resolved.as_deref(), &run, copied)
            .await;
    }

    /// Ends a run: its state, the documents, what is remembered of the image set.
    async fn conclude(
        &self,
        plan: &Arc<PlanRecord>,
        resolved: Option<&Resolved>,
        run: &watch::Sender<RunRecord>,
        copied: Copied,
    ) {
        let Copied {
            failed,
            trouble,
            cancelled,
        } = copied;
        let inner = &self.inner;
        let set = &plan.plan.set;
        match trouble.is_some() || failed.iter().any(|(_, f)| f.stopped) {
            true => inner.state().unclean.insert(set.clone()),
            false => inner.state().unclean.remove(set),
        };
        let failures = failures(&plan.plan.steps, &failed);
        let stopped = failed.iter().any(|(_, f)| f.stopped);
        // Another revision may have come along meanwhile; what landed counts all the same, what is told is this plan's.
        let published = inner.publish(set, resolved).await;
        let done = run.borrow().progress.images_done;
        let (state, message) = match (trouble, published) {
            (Some(error), _) => (RunState::Failed, error.to_string()),
            (None, Err(error)) => (RunState::Failed, error.to_string()),
            (None, Ok(())) if stopped && inner.stop.is_cancelled() => (
                RunState::Interrupted,
                "the daemon was stopped; the next run goes on from here".to_owned(),
            ),
            (None, Ok(())) if stopped && cancelled => (
                RunState::Cancelled,
                "ended by request; what landed stays".to_owned(),
            ),
            (None, Ok(())) if failures.is_empty() => (RunState::Succeeded, String::new()),
            (None, Ok(())) if done == 0 => (
                RunState::Failed,
                match plan.plan.steps.len() {
                    1 if plan.plan.steps[0].attached.is_empty() => {
                        "its one image did not land".to_owned()
                    }
                    1 => "its one image, or what belongs to it, did not land".to_owned(),
                    images => format!("none of {images} images landed"),
                },
            ),
            (None, Ok(())) => (
                RunState::Partial,
                format!(
                    "{} of {} images did not land",
                    failures.len(),
                    plan.plan.steps.len()
                ),
            ),
        };
        let mut record = run.borrow().clone();
        record.state = state;
        record.finished = Some(Timestamp::now());
        record.failures = failures;
        record.message = message;
        record.progress.bytes_per_second = 0;
        record.progress.eta_seconds = None;
        tracing::info!(image_set = %set, run = %record.id, state = ?record.state, images = done, bytes = record.progress.bytes_done, failed = record.failures.len(), "run ended");
        if let Err(error) = inner.save_run(&record).await {
            tracing::error!(run = %record.id, %error, "the run's end could not be written down");
        }
        inner.note_run(plan, resolved, &record).await;
        inner.settle_drift();
        inner.state().active.remove(&record.id);
        self.after_run(set, plan, &record);
        // Only now: a plan made during the run is not shown as one that waits when another is due.
        inner.touch();
        // Told last: who has heard that it ended finds it so in status too.
        run.send_replace(record.clone());
        inner.news.tell(set, What::RunEnded(record));
        inner.tidy().await;
    }
}

/// What copying came to.
struct Copied {
    failed: Vec<(usize, Failed)>,
    trouble: Option<Error>,
    cancelled: bool,
}

/// A run while it is copied.
struct Performance<'a> {
    inner: &'a Arc<Inner>,
    resolved: Option<Arc<Resolved>>,
    steps: &'a [Step],
    run: &'a watch::Sender<RunRecord>,
    images: Option<broadcast::Sender<ImageFinished>>,
    pending: Vec<Landed>,
    failed: Vec<(usize, Failed)>,
    trouble: Option<Error>,
    began: std::time::Instant,
    /// Whether there is progress that nobody was told of.
    news: bool,
    rate: Rate,
}

impl Performance<'_> {
    async fn copy(&mut self, handle: &Handle, plan: &Arc<PlanRecord>, cancel: CancellationToken) {
        if self.steps.is_empty() {
            return;
        }
        let settings = &self.inner.settings;
        let larder = Pantry {
            store: self.inner.store.clone(),
            handle: handle.clone(),
            set: plan.plan.set.clone(),
        };
        let engine = Engine {
            source: self.inner.source.clone(),
            mirror: self.inner.mirror.clone(),
            larder: Arc::new(larder),
            limits: Limits {
                images: settings.parallel_images,
                blobs: settings.parallel_blobs,
                retries: settings.retries,
                stall: copy::STALL,
            },
            uploads: self.inner.uploads.clone(),
            stop: cancel,
            abandon: self.inner.abandon.clone(),
        };
        let stock = match self.stock(engine.larder.clone()).await {
            Ok(stock) => stock,
            Err(error) => return self.trouble = Some(error),
        };
        let mut tell = tokio::time::interval(TELL_EVERY);
        let (events, mut inbox) = mpsc::channel(1024);
        let copying = tokio::spawn(engine.run(self.steps.to_vec(), stock, events));
        let mut flush = tokio::time::interval(FLUSH_AFTER);
        loop {
            tokio::select! {
                event = inbox.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => break,
                },
                _ = flush.tick() => {
                    self.tick();
                    self.flush().await;
                }
                _ = tell.tick() => self.tell_progress(),
            }
        }
        self.flush().await;
        if let Err(error) = copying.await {
            tracing::error!(%error, "the copy ended unexpectedly");
            self.trouble.get_or_insert(Error::Task(error));
        }
    }

    /// Looks up what the mirror has of the plan's blobs, where reading a manifest an image may block.
    async fn stock(&self, larder: Arc<dyn Larder>) -> Result<Stock, Error> {
        let (inner, steps) = (self.inner.clone(), self.steps.to_vec());
        let look = move || copy::stock(&steps, &inner.mirrored(), larder.as_ref());
        let stock = tokio::task::spawn_blocking(look).await?;
        let set = self.run.borrow().set.clone();
        Ok(Stock {
            empty: self.take_empty(),
            unclean: self.inner.state().unclean.contains(&set),
            ..stock
        })
    }

    /// Takes the repositories of this run's steps from those that are known to be empty: they are not any more.
    fn take_empty(&self) -> HashSet<Repository> {
        let mut state = self.inner.state();
        let targets = self.steps.iter().map(|step| &step.image.target);
        targets
            .filter_map(|target| state.empty.take(target))
            .collect()
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Landed(landed) => {
                self.pending.push(landed);
                if self.pending.len() >= FLUSH_COUNT {
                    self.flush().await;
                }
            }
            Event::Downloaded(bytes) => {
                self.rate.take(self.began.elapsed(), bytes);
                self.progress(|p| p.bytes_done += bytes);
            }
            Event::Blob(outcome) => self.progress(|p| match outcome {
                copy::Outcome::Present => p.blobs_skipped += 1,
                copy::Outcome::Mounted => p.blobs_mounted += 1,
                copy::Outcome::Copied => p.blobs_copied += 1,
            }),
            Event::Done(number) => {
                self.progress(|p| p.images_done += 1);
                if self.steps[number].image.kind == Kind::Release {
                    self.publish().await;
                }
                self.tell(number, ImageOutcome::Landed, String::new());
            }
            Event::Skipped(number) => {
                self.progress(|p| p.images_skipped += 1);
                self.tell(number, ImageOutcome::Skipped, String::new());
            }
            Event::Failed(number, failed) if failed.stopped => {
                self.progress(|p| p.images_skipped += 1);
                self.tell(number, ImageOutcome::Skipped, String::new());
                self.failed.push((number, failed));
            }
            Event::Failed(number, failed) => {
                tracing::warn!(image = %self.steps[number].image.source_reference(), cause = %failed.cause, "image failed");
                self.progress(|p| p.images_failed += 1);
                self.tell(number, ImageOutcome::Failed, failed.cause.clone());
                self.failed.push((number, failed));
            }
        }
    }

    /// Wakes those who follow the run or watch status, where there is anything new.
    fn tell_progress(&mut self) {
        if std::mem::take(&mut self.news) {
            self.run.send_modify(|_| {});
            self.inner.changes.send_modify(|n| *n += 1);
            let run = self.run.borrow().clone();
            let set = run.set.clone();
            self.inner.news.tell(&set, What::RunProgress(run));
        }
    }

    /// Notes progress for who asks; those who wait are woken by [`Self::tell_progress`], not for each piece of a blob.
    fn progress(&mut self, change: impl FnOnce(&mut Progress)) {
        self.news = true;
        self.run.send_if_modified(|run| {
            change(&mut run.progress);
            pace(&mut run.progress, self.rate.per_second());
            false
        });
    }

    /// Tells how fast it goes while nothing comes, too.
    fn tick(&mut self) {
        self.rate.take(self.began.elapsed(), 0);
        self.run.send_if_modified(|run| {
            let before = run.progress.bytes_per_second;
            pace(&mut run.progress, self.rate.per_second());
            self.news |= run.progress.bytes_per_second != before;
            false
        });
    }

    /// Writes the documents for a release that is whole, while the run goes on with the next one. Should that fail, the run's end says so.
    async fn publish(&mut self) {
        self.flush().await;
        let (inner, set) = (self.inner.clone(), self.run.borrow().set.clone());
        let resolved = self.resolved.clone();
        self.inner.tracker.spawn(async move {
            if let Err(error) = inner.publish(&set, resolved.as_deref()).await {
                tracing::warn!(image_set = %set, %error, "documents are not written yet");
            }
        });
    }

    fn tell(&self, number: usize, outcome: ImageOutcome, cause: String) {
        let step = &self.steps[number];
        if let Some(images) = &self.images {
            // Nobody following is no error.
            let _ = images.send(finished(step, outcome, cause));
        }
    }

    /// Makes durable what landed. Where the state cannot be written the run goes on no further: what landed is found again.
    async fn flush(&mut self) {
        let landed = std::mem::take(&mut self.pending);
        if landed.is_empty() {
            return;
        }
        for fact in &landed {
            if let Landed::Blob(_, digest) = fact {
                self.inner.store.kept().drop_blob(digest);
            }
        }
        if let Err(error) = self.inner.record_landed(landed).await
            && self.trouble.is_none()
        {
            tracing::error!(%error, "the run is stopped");
            let id = self.run.borrow().id.clone();
            if let Some(active) = self.inner.state().active.get(&id) {
                active.cancel.cancel();
            }
            self.trouble = Some(error);
        }
    }
}

/// What is told of an image that is over.
fn finished(step: &Step, outcome: ImageOutcome, cause: String) -> ImageFinished {
    ImageFinished {
        image: step.image.source_reference().to_string(),
        target: step.image.target_reference().to_string(),
        digest: step.image.digest.to_string(),
        outcome,
        // What was downloaded of an image that failed is in the progress only.
        bytes: match outcome {
            ImageOutcome::Landed => step.bytes,
            ImageOutcome::Failed | ImageOutcome::Skipped => 0,
        },
        cause,
    }
}

/// Puts down how fast a run goes, and for how long yet at that.
fn pace(progress: &mut Progress, per_second: u64) {
    let left = progress.bytes_total.saturating_sub(progress.bytes_done);
    progress.bytes_per_second = per_second;
    progress.eta_seconds = left.checked_div(per_second);
}

/// Joins failures with what was not copied since they are missing; what only depends on others is no failure of its own, nor
/// is what was not begun since the run was stopped.
fn failures(steps: &[Step], failed: &[(usize, Failed)]) -> Vec<RunFailure> {
    let failed: BTreeMap<usize, &Failed> = failed
        .iter()
        .filter(|(_, f)| !f.stopped)
        .map(|(number, f)| (*number, f))
        .collect();
    let source = |number: usize| steps[number].image.source_reference().to_string();
    let mut dependents: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (number, f) in &failed {
        for cause in &f.because_of {
            dependents.entry(*cause).or_default().push(source(*number));
        }
    }
    failed
        .iter()
        .filter(|(_, f)| !f.because_of.iter().any(|n| failed.contains_key(n)))
        .map(|(number, f)| RunFailure {
            image: source(*number),
            target: steps[*number].image.target_reference().to_string(),
            cause: f.cause.clone(),
            attempts: f.attempts,
            dependents: dependents.remove(number).unwrap_or_default(),
        })
        .collect()
}

/// Names a run by its time and its plan, so that names sort by time.
fn run_id(now: Timestamp, plan: &PlanRecord, taken: impl Fn(&str) -> bool) -> String {
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    let base = format!("{time}-{}", plan.plan.id.0.get(..6).unwrap_or_default());
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    std::iter::once(base.clone())
        .chain(numbered)
        .find(|id| !taken(id))
        .unwrap_or(base)
}

#[cfg(test)]
mod tests;

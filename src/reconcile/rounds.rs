//! The loop: what the directory says, what time it is, and what follows from it for each image set.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Error, Handle, What,
    planning::{Origin, Reading},
    state::{Cause, RoundFailure, SetState},
};
use crate::{
    gitops::{Checkout, Observation},
    model::{
        desired::Wanted,
        imageset::{self, ImageSet, Problem, SetName, Severity, SourceFile},
        record::{Pending, PlanRecord, RunRecord, RunState},
    },
};

/// The longest wait before something that failed in passing is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);

impl Handle {
    /// Follows the directory until the daemon stops.
    pub async fn follow(&self, mut directory: watch::Receiver<Option<Arc<Observation>>>) {
        self.inner.tracker.spawn(self.clone().keep_tidy());
        self.inner.tracker.spawn(self.clone().keep_verifying());
        loop {
            let wake = self.next_wake();
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                changed = directory.changed() => {
                    let seen = directory.borrow_and_update().clone();
                    match (changed, seen) {
                        (Ok(()), Some(observation)) => self.observe(&observation),
                        (Ok(()), None) => {}
                        (Err(_), _) => return,
                    }
                }
                () = tokio::time::sleep(wake) => {}
                () = self.inner.wake.notified() => {}
            }
            self.start_due();
        }
    }

    /// Takes in what the directory says and marks the image sets that have to be looked at.
    pub fn observe(&self, observation: &Observation) {
        match observation {
            Observation::Checkout(checkout) => self.take(checkout),
            Observation::Missing { why } => self.trouble("DirectoryMissing", why),
            Observation::Unsettled { why } => self.trouble("DirectoryUnsettled", why),
        }
        self.inner.touch();
    }

    fn trouble(&self, reason: &'static str, why: &str) {
        // The watcher has logged it.
        tracing::debug!(%why, "the directory cannot be used for now; nothing changes");
        self.inner.state().directory_trouble = Some((reason, why.to_owned()));
    }

    fn take(&self, checkout: &Checkout) {
        let revision = checkout.revision.to_string();
        let (files, unreadable) = sources(checkout);
        let read = self.read_sets(&files);
        for ignored in &read.ignored {
            tracing::debug!(file = %ignored.file, line = ignored.line, "not an image set; ignored");
        }
        let vouched = checkout.revision.is_committed() || self.inner.watcher.is_none();
        let mut look_again = false;
        let mut state = self.inner.state();
        state.directory_trouble = None;
        state.revision = Some(revision.clone());
        state.problems = read.problems.iter().chain(&unreadable).cloned().collect();
        let present: BTreeSet<SetName> = read
            .image_sets
            .iter()
            .map(|found| found.name.clone())
            .collect();
        // Of a file that cannot be read as a whole, further documents are not gone: nothing is known of them.
        let stems = read
            .image_sets
            .iter()
            .filter(|f| f.whole_file)
            .map(|f| (f.name.0.clone(), f.problems.clone()));
        let stems: BTreeMap<String, Vec<Problem>> =
            stems.chain(unreadable.iter().map(stem_of)).collect();
        for found in read.image_sets {
            let broken = found.problems.iter().any(|p| p.severity == Severity::Error);
            let set = found.image_set.filter(|_| !broken);
            let known = state.sets.entry(found.name.clone()).or_default();
            if broken && !vouched && !std::mem::replace(&mut known.suspect, true) {
                known.file.clone_from(&found.file);
                look_again = true;
                continue;
            }
            known.suspect = broken;
            if known.take(&found.name, &found.file, set, found.problems, &revision) {
                let message = match broken {
                    true => "its file has errors; what is mirrored stays",
                    false => "its file says something else",
                };
                self.tell_change(&found.name, &revision, message);
            }
        }
        for (name, known) in state
            .sets
            .iter_mut()
            .filter(|(name, _)| !present.contains(name))
        {
            let stem = name.0.split('#').next().unwrap_or_default();
            match stems.get(stem) {
                Some(problems) => {
                    let file = known.file.clone();
                    if known.take(name, &file, None, problems.clone(), &revision) {
                        let message = "its file cannot be read; what is mirrored stays";
                        self.tell_change(name, &revision, message);
                    }
                }
                None if !known.removed => {
                    known.remove(name, &revision);
                    let message = "it went away; its content and documents stay";
                    self.tell_change(name, &revision, message);
                }
                None => {}
            }
        }
        drop(state);
        if look_again {
            self.look_again();
        }
    }

    fn tell_change(&self, set: &SetName, revision: &str, message: &str) {
        let (revision, message) = (revision.to_owned(), message.to_owned());
        let what = What::SetChanged { revision, message };
        self.inner.news.tell(set, what);
    }

    /// Reads files as image sets of this site: which share a mirror, and what each has had mirrored.
    pub(super) fn read_sets(&self, files: &[SourceFile]) -> imageset::Read {
        let held: HashSet<(SetName, String)> = {
            let state = self.inner.state();
            let of_set = |(name, set): (&SetName, &SetState)| {
                let places = set.record.wanted.iter().map(Wanted::target_reference);
                let held = places.map(|place| (name.clone(), place.to_string()));
                held.collect::<Vec<_>>()
            };
            let present = state.sets.iter().filter(|(_, set)| !set.removed);
            present.flat_map(of_set).collect()
        };
        let target = |name: &SetName| self.inner.settings.policy_for(name).target.to_string();
        let mut read = imageset::read_for(files, target, |name, path, tag| {
            let place = format!("{}/{path}:{tag}", target(name));
            held.contains(&(name.clone(), place))
        });
        let place = |name: &SetName| self.inner.settings.policy_for(name).target;
        imageset::refuse_crowds(&mut read.image_sets, place, |name, repository| {
            self.inner.peek(name, |state| {
                let mut had = state.record.wanted.iter();
                !state.removed && had.any(|wanted| wanted.target == *repository)
            })
        });
        read
    }

    /// Looks at the directory once more after a while: a file that does not parse may be half-written, and is not blamed yet.
    fn look_again(&self) {
        let Some(watcher) = self.inner.watcher.clone() else {
            return;
        };
        let handle = self.clone();
        let pause = self.inner.settings.settle.max(Duration::from_millis(200));
        self.inner.tracker.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = handle.inner.stop.cancelled() => return,
            }
            if let Some(observation) = watcher.look().await {
                handle.observe(&observation);
                handle.inner.wake.notify_one();
            }
        });
    }

    /// Begins the rounds that are due and have nothing in their way.
    pub(super) fn start_due(&self) {
        let now = Timestamp::now();
        let mut start = Vec::new();
        for (name, state) in &mut self.inner.state().sets {
            if !state.is_usable() || state.busy {
                continue;
            }
            let idle = state.active.is_none();
            if idle && state.due.is_none() && state.next_refresh.is_some_and(|at| at <= now) {
                state.due = Some(if state.setbacks > 0 {
                    Cause::Retry
                } else {
                    Cause::Refresh
                });
            }
            if let Some(cause) = state.due.take() {
                state.busy = true;
                start.push((name.clone(), cause));
            }
        }
        for (name, cause) in start {
            let handle = self.clone();
            self.inner
                .tracker
                .spawn(async move { handle.round(name, cause).await });
        }
    }

    fn next_wake(&self) -> Duration {
        let now = Timestamp::now();
        let state = self.inner.state();
        let next = state
            .sets
            .values()
            .filter(|s| s.is_usable() && !s.busy && s.active.is_none())
            .filter_map(|s| s.next_refresh)
            .min();
        let wait = next.map_or(LONGEST_WAIT, |at| {
            Duration::try_from(at - now).unwrap_or_default()
        });
        wait.clamp(Duration::from_millis(50), LONGEST_WAIT)
    }

    /// One round of one image set: plan, and apply where the site's policy says so.
    async fn round(&self, name: SetName, cause: Cause) {
        let inner = &self.inner;
        inner.touch();
        let origin = inner.with_set(&name, |state| {
            Some(Origin {
                set: state.set.clone()?,
                revision: state.observed.clone(),
                inline: false,
            })
        });
        if let Some(origin) = origin {
            let made = tokio::select! {
                made = inner.make_plan(origin, Reading::Fresh) => made,
                () = inner.stop.cancelled() => Err(Error::Stopping),
            };
            match made {
                Ok(plan) => self.decide(&plan, cause).await,
                Err(error) => self.setback(&name, &error),
            }
        }
        inner.with_set(&name, |state| state.busy = false);
        inner.touch();
        inner.wake.notify_one();
    }

    /// Applies a new plan, or lets it wait, or notes that there is nothing to do.
    async fn decide(&self, plan: &Arc<PlanRecord>, cause: Cause) {
        let inner = &self.inner;
        let set = &plan.plan.set;
        let refresh = inner.settings.policy_for(set).refresh;
        let transient = plan.plan.unresolved.iter().any(|u| u.transient);
        let runs = !plan.applied && plan.pending == Pending::No;
        let running = inner.with_set(set, |state| {
            state.setbacks = match (transient, runs) {
                (true, _) => state.setbacks + 1,
                // Whether the setbacks are over is for the run to say.
                (false, true) => state.setbacks,
                (false, false) => 0,
            };
            let wait = match transient {
                true => backoff(state.setbacks).min(refresh),
                false => refresh,
            };
            state.next_refresh = Some(Timestamp::now() + wait);
            if state.active.is_some() {
                // What is wanted is known to the run under way now, and what it leaves is the next round's.
                state.after_run = state.after_run.max(Some(cause));
            }
            state.active.is_some()
        });
        if running {
            return;
        }
        if plan.applied {
            tracing::info!(image_set = %set, revision = %plan.plan.revision, "nothing to do");
            return;
        }
        if plan.pending != Pending::No {
            tracing::info!(image_set = %set, plan = %plan.plan.id.short(), why = ?plan.pending, "plan waits");
            return;
        }
        match self.start_run(plan, cause.into()) {
            Ok(_) => {}
            Err(Error::Busy { .. }) => inner.with_set(set, |state| {
                state.after_run = state.after_run.max(Some(cause))
            }),
            // The directory moved on while it was made: another round is due.
            Err(Error::Stale { .. }) => {}
            Err(error) => tracing::warn!(image_set = %set, %error, "the plan is not applied now"),
        }
    }

    fn setback(&self, name: &SetName, error: &Error) {
        if matches!(error, Error::Stopping) {
            return;
        }
        tracing::warn!(image_set = %name, %error, "no plan could be made");
        let refresh = self.inner.settings.policy_for(name).refresh;
        self.inner.with_set(name, |state| {
            state.setbacks += 1;
            let wait = if error.is_transient() {
                backoff(state.setbacks).min(refresh)
            } else {
                refresh
            };
            state.next_refresh = Some(Timestamp::now() + wait);
            state.failure = Some(RoundFailure {
                reason: error.reason(),
                message: error.to_string(),
                transient: error.is_transient(),
            });
        });
    }

    /// After a run: what failed is tried again, later each time; what changed meanwhile is looked at now.
    pub(super) fn after_run(&self, set: &SetName, plan: &PlanRecord, run: &RunRecord) {
        let refresh = self.inner.settings.policy_for(set).refresh;
        let transient = plan.plan.unresolved.iter().any(|u| u.transient);
        self.inner.with_set(set, |state| {
            if matches!(run.state, RunState::Partial | RunState::Failed) {
                state.setbacks += u32::from(!transient);
                state.next_refresh = Some(Timestamp::now() + backoff(state.setbacks).min(refresh));
            } else if !transient {
                state.setbacks = 0;
                state.next_refresh = Some(Timestamp::now() + refresh);
            }
            state.due = state.due.max(state.after_run.take());
        });
        self.inner.wake.notify_one();
    }
}

/// Whether nothing is under way or waiting for an image set.
fn is_settled(state: &super::state::SetState) -> bool {
    state.active.is_none()
        && !state.busy
        && state.due.is_none()
        && state.failure.is_none()
        && state
            .plan
            .as_ref()
            .is_none_or(|p| p.applied || p.plan.is_empty())
}

/// How long to wait after so many setbacks in a row: a minute, doubling, at most half an hour.
fn backoff(setbacks: u32) -> Duration {
    let wait = Duration::from_secs(60 << setbacks.saturating_sub(1).min(5));
    wait.min(LONGEST_WAIT)
}

impl SetState {
    /// Takes in what the directory says of an image set, and marks a round as due where that is something else. Returns whether
    /// that is news: what was applied before the daemon was started is none.
    fn take(
        &mut self,
        name: &SetName,
        file: &str,
        set: Option<ImageSet>,
        problems: Vec<Problem>,
        revision: &str,
    ) -> bool {
        let first_look = !std::mem::replace(&mut self.seen, true);
        let changed = self.observe(file, set, problems, revision);
        if changed && self.set.is_some() {
            let cause = self.cause(first_look);
            if cause == Cause::Commit {
                tracing::info!(image_set = %name, revision, "image set changed");
            }
            self.due = self.due.max(Some(cause));
            return cause == Cause::Commit;
        }
        if self.set.is_some() && self.record.applied_document == self.document && is_settled(self) {
            // Another commit that says the same of this image set: what is in the mirror stands for it too.
            self.record.applied_revision = Some(revision.to_owned());
        }
        self.set.is_none() && (changed || first_look)
    }

    /// Notes that the directory does not have it any more.
    fn remove(&mut self, name: &SetName, revision: &str) {
        tracing::info!(image_set = %name, revision, "image set went away; its content and documents stay");
        self.removed = true;
        self.file.clear();
        self.set = None;
        self.document = None;
        self.problems.clear();
        self.due = None;
        self.observed = revision.to_owned();
    }
}

/// The image set's name of a file that cannot be read, and its problem.
fn stem_of(problem: &Problem) -> (String, Vec<Problem>) {
    let name = problem
        .path
        .trim_end_matches(".yaml")
        .trim_end_matches(".yml")
        .to_owned();
    (
        name,
        vec![Problem {
            path: String::new(),
            ..problem.clone()
        }],
    )
}

/// Splits a checkout into files that can be read and problems for those that cannot, which carry the file's name as their path.
fn sources(checkout: &Checkout) -> (Vec<SourceFile>, Vec<Problem>) {
    let mut files = Vec::new();
    let mut unreadable = Vec::new();
    for file in &checkout.files {
        match &file.bytes {
            Ok(bytes) => {
                files.push(SourceFile {
                    path: file.path.clone(),
                    name: file.name.clone(),
                    bytes: bytes.clone(),
                });
            }
            Err(why) => unreadable.push(Problem {
                file: file.path.clone(),
                line: 0,
                column: 0,
                severity: Severity::Error,
                path: file.name.clone(),
                message: why.to_string(),
                hint: String::new(),
            }),
        }
    }
    (files, unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_a_minute_to_half_an_hour() {
        let minutes: Vec<u64> = (0..9).map(|n| backoff(n).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(backoff(u32::MAX), LONGEST_WAIT);
    }
}

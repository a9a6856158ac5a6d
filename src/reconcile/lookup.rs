//! Finds what callers name, and says what a plan is good for now.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use super::{
    Error, Handle,
    planning::{Origin, Reading},
    requests::{has_errors, invalid},
    state::SetState,
};
use crate::model::{
    imageset::SetName,
    plan::{Plan, PlanId},
    record::{Freshness, PlanRecord},
};

impl Handle {
    /// Looks at the directory before a question about it is answered.
    pub(super) async fn look_now(&self) {
        let Some(watcher) = &self.inner.watcher else {
            return;
        };
        for again in [false, true] {
            // Who asks wants to hear what is wrong with a file now, not in a while.
            let unsure = |state: &SetState| state.suspect && !has_errors(&state.problems);
            if again && !self.inner.state().sets.values().any(unsure) {
                break;
            }
            if let Some(observation) = watcher.look().await {
                self.observe(&observation);
            }
        }
        self.inner.wake.notify_one();
    }

    pub(super) fn origin(&self, name: &SetName) -> Result<Origin, Error> {
        self.inner.with_set(name, |state| match &state.set {
            Some(set) => Ok(Origin {
                set: set.clone(),
                revision: state.observed.clone(),
                inline: false,
            }),
            None if state.removed => Err(Error::NoSet {
                name: name.0.clone(),
                directory: self.inner.settings.directory.display().to_string(),
                hint: " any more: its file went away".to_owned(),
            }),
            None => Err(invalid(name, &state.problems)),
        })
    }

    pub(super) fn no_set(&self, name: &str, nearest: Option<&SetName>) -> Error {
        Error::NoSet {
            name: name.to_owned(),
            directory: self.inner.settings.directory.display().to_string(),
            hint: nearest
                .map(|n| format!("; did you mean {n}?"))
                .unwrap_or_default(),
        }
    }

    pub(super) fn find_set(&self, name: &str) -> Result<SetName, Error> {
        let state = self.inner.state();
        let wished = SetName(name.to_owned());
        if state.sets.contains_key(&wished) {
            return Ok(wished);
        }
        let close = |n: &&SetName| strsim::jaro_winkler(&n.0, name);
        let nearest = state
            .sets
            .keys()
            .max_by(|a, b| close(a).total_cmp(&close(b)))
            .filter(|n| close(n) > 0.7);
        Err(self.no_set(name, nearest))
    }

    /// Returns a plan as it was made, without asking what it is good for now.
    ///
    /// Who reads its steps page by page asks for it as often: the last one is at hand.
    pub async fn plan_record(&self, id: &str) -> Result<Arc<PlanRecord>, Error> {
        let (handle, id) = (self.clone(), id.to_owned());
        tokio::task::spawn_blocking(move || handle.recall_plan(&id)).await?
    }

    fn recall_plan(&self, id: &str) -> Result<Arc<PlanRecord>, Error> {
        let one = self.find_plan_id(id)?;
        let last = || {
            let last = self.inner.last_read.lock();
            last.unwrap_or_else(PoisonError::into_inner)
        };
        let known = last().clone().filter(|record| record.plan.id == one);
        if let Some(record) = known {
            return Ok(record);
        }
        let record = self.read_plan(&one)?;
        *last() = Some(record.clone());
        Ok(record)
    }

    pub(super) fn find_plan(&self, id: &str) -> Result<Arc<PlanRecord>, Error> {
        self.read_plan(&self.find_plan_id(id)?)
    }

    fn read_plan(&self, id: &PlanId) -> Result<Arc<PlanRecord>, Error> {
        let record = self.inner.store.plan(id)?;
        record
            .map(Arc::new)
            .ok_or_else(|| Error::NoPlan(id.0.clone()))
    }

    fn find_plan_id(&self, id: &str) -> Result<PlanId, Error> {
        let mut ids: Vec<PlanId> = match id {
            "" => vec![],
            id => self.inner.store.plan_ids(id, 50)?,
        };
        match (ids.pop(), ids.len()) {
            (None, _) => Err(Error::NoPlan(id.to_owned())),
            (Some(one), 0) => Ok(one),
            (Some(_), others) => Err(Error::Ambiguous {
                id: id.to_owned(),
                what: "plan",
                count: others + 1,
            }),
        }
    }

    pub(super) fn find_run(&self, id: &str) -> Result<String, Error> {
        let mut ids: Vec<String> = self
            .inner
            .state()
            .active
            .keys()
            .filter(|run| run.starts_with(id))
            .cloned()
            .collect();
        ids.extend(self.inner.store.run_ids(id)?);
        ids.sort();
        ids.dedup();
        match ids.as_slice() {
            _ if id.is_empty() => Err(Error::NoRun(id.to_owned())),
            _ if ids.iter().any(|run| run == id) => Ok(id.to_owned()),
            [] => Err(Error::NoRun(id.to_owned())),
            [one] => Ok(one.clone()),
            many => Err(Error::Ambiguous {
                id: id.to_owned(),
                what: "run",
                count: many.len(),
            }),
        }
    }

    /// What is known of a plan without planning again: applied, running, or stale at first sight.
    pub(super) fn standing(&self, record: &PlanRecord) -> Option<Freshness> {
        if record.applied {
            return Some(Freshness::Applied);
        }
        let state = self.inner.state();
        if state.active.values().any(|run| run.plan == record.plan.id) {
            return Some(Freshness::Running);
        }
        let set = &record.plan.set;
        let why = match state.sets.get(set) {
            None => format!("image set {set} is not in the directory"),
            Some(known) if known.removed => format!("image set {set} went away from the directory"),
            Some(known) if known.set.is_none() => {
                format!("the file of image set {set} is not valid now")
            }
            Some(known) if known.document.as_deref() != Some(&record.document) => {
                format!(
                    "image set {set} says something else since {}",
                    known.observed
                )
            }
            Some(_) => return None,
        };
        Some(Freshness::Stale(why))
    }

    /// What applying a plan now would mean. Nobody upstream is asked: tags and channels mean what they meant the last time.
    pub(super) async fn freshness(&self, record: &PlanRecord) -> Freshness {
        if let Some(known) = self.standing(record) {
            return known;
        }
        compared(record, &self.plan_now(&record.plan.set).await)
    }

    /// The same of one of many plans: each image set is planned once, for `now`.
    pub(super) async fn freshness_among(
        &self,
        record: &PlanRecord,
        now: &mut BTreeMap<SetName, Result<Plan, Error>>,
    ) -> Freshness {
        if let Some(known) = self.standing(record) {
            return known;
        }
        let set = &record.plan.set;
        if !now.contains_key(set) {
            now.insert(set.clone(), self.plan_now(set).await);
        }
        compared(record, &now[set])
    }

    /// What would be planned now, remembered by nobody; only where nothing is known yet is a plan made in earnest.
    async fn plan_now(&self, set: &SetName) -> Result<Plan, Error> {
        let origin = self.origin(set)?;
        match self
            .inner
            .with_set(set, |state| state.resolution().cloned())
        {
            Some(resolved) => self.inner.plan_pinned(origin, resolved).await,
            None => {
                let made = self.inner.make_plan(origin, Reading::Fresh).await?;
                Ok(made.plan.clone())
            }
        }
    }
}

/// What a plan is good for, by the one that would be made now.
fn compared(record: &PlanRecord, now: &Result<Plan, Error>) -> Freshness {
    match now {
        Ok(now) if now.id == record.plan.id => Freshness::Fresh,
        Ok(now) if now.moved != record.plan.moved => match now.moved.first() {
            Some(moved) => Freshness::Stale(format!(
                "{} moved from {} to {}",
                moved.subject, moved.from, moved.to
            )),
            None => Freshness::Stale("what had moved upstream moved back, or was applied".into()),
        },
        Ok(_) => Freshness::Stale("the mirror holds something else than when it was made".into()),
        Err(error) => Freshness::Stale(format!("it cannot be made again now: {error}")),
    }
}

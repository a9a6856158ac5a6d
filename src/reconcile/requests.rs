//! What callers ask: plans, runs, status, resources. Each answer is a value; conversion to the wire is the caller's.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

use super::{
    Applied, Error, Feed, Handle, InlineFile, PlanView, Planned, ResourceView, Retired, Unplanned,
    Validated,
    planning::{Origin, Reading},
    state::SetState,
};
use crate::model::{
    imageset::{self, FoundSet, Problem, SetName, Severity, SourceFile},
    plan::PlanId,
    record::{
        DaemonStatus, Freshness, PlanRecord, Progress, RunRecord, RunState, SetStatus, Status,
        Trigger,
    },
};

impl Handle {
    /// Checks files that are sent along, or the directory's.
    pub async fn validate(&self, files: Vec<InlineFile>) -> Result<Validated, Error> {
        if files.is_empty() {
            self.look_now().await;
            let state = self.inner.state();
            let mut problems = state.problems.clone();
            problems.extend(state.sets.values().flat_map(|s| s.problems.iter().cloned()));
            problems.sort();
            problems.dedup();
            let image_sets = state
                .sets
                .iter()
                .filter(|(_, s)| !s.removed)
                .map(|(name, s)| found(name, s))
                .collect();
            return Ok(Validated {
                image_sets,
                problems,
            });
        }
        let read = self.read_inline(files);
        Ok(Validated {
            image_sets: read.image_sets,
            problems: read.problems,
        })
    }

    /// Makes plans: for one image set or all, of the directory or of files that are sent along.
    pub async fn plan(
        &self,
        set: Option<&str>,
        refresh: bool,
        files: Vec<InlineFile>,
    ) -> Result<Planned, Error> {
        if files.is_empty() {
            self.look_now().await;
            self.plan_directory(set, refresh).await
        } else {
            self.plan_inline(set, files).await
        }
    }

    async fn plan_directory(&self, set: Option<&str>, refresh: bool) -> Result<Planned, Error> {
        let names = match set {
            Some(set) => vec![self.find_set(set)?],
            None => self
                .inner
                .state()
                .sets
                .iter()
                .filter(|(_, s)| !s.removed)
                .map(|(n, _)| n.clone())
                .collect(),
        };
        let mut planned = Planned {
            problems: self.problems_of(set.and(names.first())),
            ..Planned::default()
        };
        for name in names {
            match self.plan_one(&name, refresh).await {
                Ok(view) => planned.plans.push(view),
                Err(error) if set.is_some() => return Err(error),
                Err(error) => planned.unplanned.push(Unplanned {
                    reason: error.reason(),
                    message: error.to_string(),
                    set: name,
                }),
            }
        }
        Ok(planned)
    }

    /// What is wrong with the files of an image set, or with all files.
    fn problems_of(&self, set: Option<&SetName>) -> Vec<Problem> {
        let state = self.inner.state();
        match set {
            None => state.problems.clone(),
            Some(set) => state
                .sets
                .get(set)
                .map_or_else(Vec::new, |set| set.problems.clone()),
        }
    }

    async fn plan_one(&self, name: &SetName, refresh: bool) -> Result<PlanView, Error> {
        let origin = self.origin(name)?;
        let known = self.inner.with_set(name, |state| {
            state.resolution().is_some() && state.failure.is_none()
        });
        let reading = match (refresh, known) {
            (true, _) => Reading::Anew,
            (false, true) => Reading::Pinned,
            (false, false) => Reading::Fresh,
        };
        let record = self.inner.make_plan(origin, reading).await?;
        let freshness = self.standing(&record).unwrap_or(Freshness::Fresh);
        Ok(PlanView { record, freshness })
    }

    async fn plan_inline(
        &self,
        set: Option<&str>,
        files: Vec<InlineFile>,
    ) -> Result<Planned, Error> {
        let read = self.read_inline(files);
        let revision = "inline".to_owned();
        let mut planned = Planned {
            problems: read.problems,
            ..Planned::default()
        };
        for found in read
            .image_sets
            .into_iter()
            .filter(|f| set.is_none_or(|s| f.name.0 == s))
        {
            let Some(image_set) = found.image_set.filter(|_| !has_errors(&found.problems)) else {
                let error = invalid(&found.name, &found.problems);
                planned.unplanned.push(Unplanned {
                    reason: error.reason(),
                    message: error.to_string(),
                    set: found.name,
                });
                continue;
            };
            let origin = Origin {
                set: image_set,
                revision: revision.clone(),
                inline: true,
            };
            match self.inner.make_plan(origin, Reading::Fresh).await {
                // It is what planning these files gives now; that the directory may say something else is why it is a preview.
                Ok(record) => planned.plans.push(PlanView {
                    freshness: Freshness::Fresh,
                    record,
                }),
                Err(error) => {
                    planned.unplanned.push(Unplanned {
                        reason: error.reason(),
                        message: error.to_string(),
                        set: found.name,
                    });
                }
            }
        }
        Ok(planned)
    }

    pub(super) fn read_inline(&self, files: Vec<InlineFile>) -> imageset::Read {
        let files: Vec<SourceFile> = files
            .into_iter()
            .map(|f| SourceFile {
                path: f.name.clone(),
                name: f.name,
                bytes: f.content,
            })
            .collect();
        self.read_sets(&files)
    }

    /// Returns a plan by its id, which may be shortened while it is unique.
    pub async fn get_plan(&self, id: &str) -> Result<PlanView, Error> {
        let record = self.find_plan(id)?;
        let freshness = self.freshness(&record).await;
        Ok(PlanView { record, freshness })
    }

    /// Returns the ids of the plans that are kept, the newest first.
    pub async fn plan_ids(&self, set: Option<&str>) -> Result<Vec<PlanId>, Error> {
        let set = set.map(|s| self.find_set(s)).transpose()?;
        let ids = self
            .inner
            .on_store(move |store| store.plans_of(set.as_ref()));
        ids.await
    }

    /// Returns what `tell` makes of these plans. They are read one after the other, since each may be of a hundred thousand steps; one
    /// that is gone by now is left out.
    pub async fn plans<T>(
        &self,
        ids: Vec<PlanId>,
        tell: impl Fn(&PlanView) -> T,
    ) -> Result<Vec<T>, Error> {
        let (mut told, mut now) = (Vec::new(), BTreeMap::new());
        for id in ids {
            let Some(record) = self.inner.on_store(move |store| store.plan(&id)).await? else {
                continue;
            };
            let freshness = self.freshness_among(&record, &mut now).await;
            let record = Arc::new(record);
            told.push(tell(&PlanView { record, freshness }));
        }
        Ok(told)
    }

    /// Applies a plan by its id, or what an image set lacks now. Doing it again attaches to the run under way, or says that
    /// it was done.
    pub async fn apply(&self, plan: Option<&str>, set: Option<&str>) -> Result<Applied, Error> {
        self.look_now().await;
        let record = match (plan, set) {
            (Some(id), _) => self.find_plan(id)?,
            (None, Some(set)) => {
                let name = self.find_set(set)?;
                if let Some(run) = self.run_of(&name)? {
                    return self.watch_run(&run).map(Applied::Run);
                }
                self.plan_one(&name, false).await?.record
            }
            (None, None) => {
                return Err(Error::Unfit("say which plan or image set to apply".into()));
            }
        };
        match self.freshness(&record).await {
            Freshness::Applied => Ok(Applied::Already(Box::new(self.past_run(&record)))),
            Freshness::Stale(why) => Err(Error::Stale {
                id: record.plan.id.clone(),
                set: record.plan.set.clone(),
                why,
            }),
            Freshness::Running | Freshness::Fresh => {
                // The stored plan of this id may have been made before another process or round: the present one is equal.
                let id = self.start_run(&record, Trigger::Request)?;
                self.watch_run(&id).map(Applied::Run)
            }
        }
    }

    /// The run under way of an image set, if it brings what the directory asks for now.
    fn run_of(&self, set: &SetName) -> Result<Option<String>, Error> {
        let (plan, run, document) = {
            let state = self.inner.state();
            let Some(known) = state.sets.get(set) else {
                return Ok(None);
            };
            let Some(active) = known
                .active
                .as_ref()
                .and_then(|id| state.active.get_key_value(id))
            else {
                return Ok(None);
            };
            (
                active.1.plan.clone(),
                active.0.clone(),
                known.document.clone(),
            )
        };
        let performed = self.inner.store.plan(&plan)?.map(|record| record.document);
        Ok(Some(run).filter(|_| performed.is_some() && performed == document))
    }

    /// The run that applied a plan; a plan with nothing to do never needed one.
    fn past_run(&self, record: &PlanRecord) -> RunRecord {
        let stored = record
            .run
            .as_ref()
            .and_then(|id| self.inner.store.run(id).ok().flatten());
        stored.unwrap_or_else(|| RunRecord {
            id: String::new(),
            set: record.plan.set.clone(),
            plan: record.plan.id.clone(),
            revision: record.plan.revision.clone(),
            state: RunState::Succeeded,
            trigger: Trigger::Request,
            started: record.created,
            finished: Some(record.created),
            progress: Progress::default(),
            failures: vec![],
            message: "there was nothing to do".into(),
        })
    }

    /// Returns a run by its id, which may be shortened while it is unique.
    pub fn run(&self, id: &str) -> Result<RunRecord, Error> {
        let id = self.find_run(id)?;
        let live = self
            .inner
            .state()
            .active
            .get(&id)
            .map(|run| run.record.borrow().clone());
        match live {
            Some(run) => Ok(run),
            None => self.inner.store.run(&id)?.ok_or(Error::NoRun(id)),
        }
    }

    /// Returns the runs that are kept, the newest first.
    pub async fn runs(&self, set: Option<&str>) -> Result<Vec<RunRecord>, Error> {
        let set = set.map(|s| self.find_set(s)).transpose()?;
        let mut runs = self.inner.on_store(|store| store.runs()).await?;
        {
            let state = self.inner.state();
            for run in &mut runs {
                if let Some(active) = state.active.get(&run.id) {
                    *run = active.record.borrow().clone();
                }
            }
        }
        runs.retain(|r| set.as_ref().is_none_or(|s| r.set == *s));
        runs.reverse();
        Ok(runs)
    }

    /// Follows a run; of one that is over only its end is told.
    pub fn watch_run(&self, id: &str) -> Result<Feed, Error> {
        let id = self.find_run(id)?;
        if let Some(active) = self.inner.state().active.get(&id) {
            let images = Some(active.images.subscribe());
            return Ok(Feed::new(active.record.clone(), images));
        }
        let record = self.inner.store.run(&id)?.ok_or(Error::NoRun(id))?;
        Ok(Feed::new(watch::channel(record).1, None))
    }

    /// Ends a run: no image is begun any more, what is in flight goes on to its end, what landed stays.
    pub fn cancel_run(&self, id: &str) -> Result<RunRecord, Error> {
        let id = self.find_run(id)?;
        match self.inner.state().active.get(&id) {
            Some(active) => active.cancel.cancel(),
            None => return Err(Error::Over(id)),
        }
        tracing::info!(run = %id, "run is ended by request");
        self.run(&id)
    }

    /// What status shows, of one image set or all.
    pub fn status(&self, set: Option<&str>) -> Result<Status, Error> {
        let only = set.map(|s| self.find_set(s)).transpose()?;
        let mirrored = self.inner.mirrored();
        let state = self.inner.state();
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            directory: self.inner.settings.directory.display().to_string(),
            revision: state.revision.clone().unwrap_or_default(),
            lineage: self.inner.store.position(&mirrored).lineage,
            serial: mirrored.serial(),
            started: self.inner.started,
            conditions: state.conditions.clone(),
        };
        let sets = state
            .sets
            .iter()
            .filter(|(name, _)| only.as_ref().is_none_or(|o| o == *name));
        let sets = sets.map(|(name, set)| {
            let progress = set
                .active
                .as_ref()
                .and_then(|id| state.active.get(id))
                .map(|r| r.record.borrow().progress.clone());
            let facts = set.resolution().map(|r| &r.facts);
            let held = |w: &&crate::model::desired::Wanted| {
                mirrored.tag(&w.target, &w.tag) == Some(&w.digest)
                    && facts.is_none_or(|facts| crate::model::plan::is_signed(&mirrored, w, facts))
            };
            let wanted = set.wants();
            let is_running = |plan: &PlanRecord| {
                let run = set.active.as_ref().and_then(|id| state.active.get(id));
                run.is_some_and(|run| run.plan == plan.plan.id)
            };
            SetStatus {
                name: name.clone(),
                file: set.file.clone(),
                target: self.inner.settings.policy_for(name).target.to_string(),
                observed_revision: set.observed.clone(),
                applied_revision: set.record.applied_revision.clone().unwrap_or_default(),
                conditions: set.conditions.clone(),
                plan: set.plan.as_ref().map(|p| p.plan.id.clone()),
                pending: set
                    .plan
                    .as_ref()
                    .filter(|p| !p.applied && !is_running(p))
                    .map(|p| p.pending)
                    .unwrap_or_default(),
                run: set.active.clone().or_else(|| set.record.run.clone()),
                progress,
                images_wanted: wanted.len() as u64,
                images_mirrored: wanted.iter().filter(held).count() as u64,
                last_refresh: set.record.refreshed,
                next_refresh: set.next_refresh.filter(|_| set.is_usable()),
                signatures_ignored: set
                    .resolution()
                    .is_some_and(|r| r.desired.signatures_ignored),
                last_verified: set.record.verified,
                problems: set.problems.clone(),
            }
        });
        let sets = sets.collect();
        Ok(Status { daemon, sets })
    }

    /// The cluster documents in the output folder, of one image set or all. An image set that only the folder knows is one too.
    pub async fn resources(&self, set: Option<&str>) -> Result<Vec<ResourceView>, Error> {
        let published = self.inner.published().await?;
        if let Some(set) = set
            && !published.sets().any(|known| known.0 == set)
        {
            self.find_set(set)?;
        }
        let wanted = self.inner.needed_rules();
        let rules = published.documents.into_iter().map(|document| {
            let needed =
                |source: &str| wanted.contains(&(document.file_name.clone(), source.to_owned()));
            let sources = document.rules.iter().map(|r| r.source.to_string());
            ResourceView {
                retirable: sources.filter(|s| !needed(s)).collect(),
                object: document.into(),
            }
        });
        let others = published.objects.into_iter().map(|object| ResourceView {
            object,
            retirable: vec![],
        });
        let mut views: Vec<ResourceView> = rules
            .chain(others)
            .filter(|view| set.is_none_or(|s| view.object.set.0 == s))
            .collect();
        views.sort_by(|a, b| a.object.file_name.cmp(&b.object.file_name));
        Ok(views)
    }

    /// Takes rules out of the documents, which drains nodes once they are applied; with `dry_run` only says what would change.
    pub async fn retire(
        &self,
        set: &str,
        sources: &[String],
        dry_run: bool,
    ) -> Result<Retired, Error> {
        let name = SetName(set.to_owned());
        let (before, change) = self.inner.retire_rules(&name, sources, dry_run).await?;
        if !dry_run {
            tracing::info!(image_set = %name, ?sources, "rules retired by request");
            self.forget_if_gone(&name).await?;
        }
        self.inner.touch();
        Ok(Retired {
            documents: change.documents,
            impact: change.impact,
            before,
        })
    }

    /// Forgets an image set whose file went away once no rule of it is published any more.
    async fn forget_if_gone(&self, name: &SetName) -> Result<(), Error> {
        let published = self.inner.published().await?;
        let removed = self.inner.peek(name, |state| state.removed);
        if removed
            && !published
                .documents
                .iter()
                .any(|d| d.set == *name && !d.rules.is_empty())
        {
            self.inner.state().sets.remove(name);
            let name = name.clone();
            self.inner
                .on_store(move |store| store.forget_set(&name))
                .await?;
        }
        Ok(())
    }
}

fn found(name: &SetName, state: &SetState) -> FoundSet {
    FoundSet {
        name: name.clone(),
        file: state.file.clone(),
        line: 1,
        whole_file: false,
        image_set: state.set.clone(),
        problems: state.problems.clone(),
    }
}

pub(super) fn has_errors(problems: &[Problem]) -> bool {
    problems.iter().any(|p| p.severity == Severity::Error)
}

pub(super) fn invalid(set: &SetName, problems: &[Problem]) -> Error {
    let errors: Vec<Problem> = problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .cloned()
        .collect();
    let first = errors.first().map(ToString::to_string).unwrap_or_default();
    Error::Invalid {
        set: set.clone(),
        first,
        problems: errors,
    }
}

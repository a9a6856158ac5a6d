//! What callers ask: plans, runs, status, resources. Each answer is a value; conversion to the wire is the caller's.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use super::{
    Error, Handle, ImageFinished,
    planning::{Origin, Reading},
    state::SetState,
};
use crate::{
    cluster::document::Document,
    model::{
        imageset::{self, FoundSet, Problem, SetName, Severity, SourceFile},
        plan::PlanId,
        record::{
            DaemonStatus, DocumentChange, Freshness, NodeImpact, PlanRecord, Progress, RunRecord,
            RunState, SetStatus, Status, Trigger,
        },
    },
};

/// A file that was sent along.
#[derive(Debug, Clone)]
pub struct InlineFile {
    /// Its path relative to the directory, which gives the image set its name.
    pub name: String,
    /// What it holds.
    pub content: Vec<u8>,
}

/// A plan and what applying it now would mean.
#[derive(Debug, Clone)]
pub struct PlanView {
    /// The plan as it was made.
    pub record: Arc<PlanRecord>,
    /// What it is good for now.
    pub freshness: Freshness,
}

/// An image set that has no plan.
#[derive(Debug, Clone)]
pub struct Unplanned {
    /// The image set.
    pub set: SetName,
    /// One word, see [`Error::reason`].
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// The answer to a request for plans.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    /// The plans, by image set.
    pub plans: Vec<PlanView>,
    /// Image sets that have none, and why.
    pub unplanned: Vec<Unplanned>,
    /// What is wrong with the files.
    pub problems: Vec<Problem>,
}

/// The answer to a request for validation.
#[derive(Debug, Clone)]
pub struct Validated {
    /// The image sets found.
    pub image_sets: Vec<FoundSet>,
    /// What is wrong with the files.
    pub problems: Vec<Problem>,
}

impl Validated {
    /// Whether no problem is an error.
    pub fn is_valid(&self) -> bool {
        !self.problems.iter().any(|p| p.severity == Severity::Error)
    }
}

/// The answer to a request to apply.
pub enum Applied {
    /// A run is under way, started now or before.
    Run(Feed),
    /// It was applied before by this run, or there is nothing to copy and nothing to write.
    Already(Box<RunRecord>),
}

/// A cluster document in the output folder.
#[derive(Debug, Clone)]
pub struct ResourceView {
    /// The document.
    pub document: Document,
    /// The sources of rules that nothing wanted needs any more.
    pub retirable: Vec<String>,
}

/// What retiring rules changed, or would.
#[derive(Debug, Clone)]
pub struct Retired {
    /// The documents before and after.
    pub documents: Vec<DocumentChange>,
    /// What that does to nodes.
    pub impact: NodeImpact,
    /// The documents as they were.
    pub before: Vec<Document>,
}

/// What happens in a run.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// The run as it stands; always first.
    Run(RunRecord),
    /// How far it is.
    Progress(Progress),
    /// An image ended.
    Image(ImageFinished),
    /// The run is over; always last.
    Finished(RunRecord),
}

/// Follows one run. Dropping it stops nothing.
pub struct Feed {
    record: watch::Receiver<RunRecord>,
    images: Option<broadcast::Receiver<ImageFinished>>,
    begun: bool,
    ended: bool,
}

impl Feed {
    /// Returns the run's id.
    pub fn id(&self) -> String {
        self.record.borrow().id.clone()
    }

    /// Returns what happens next; `None` once the run's end was told.
    pub async fn next(&mut self) -> Option<RunEvent> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(RunEvent::Run(self.record.borrow_and_update().clone()));
        }
        loop {
            if self.ended {
                return None;
            }
            let Some(images) = &mut self.images else {
                self.ended = true;
                return Some(RunEvent::Finished(self.record.borrow().clone()));
            };
            tokio::select! {
                biased;
                image = images.recv() => match image {
                    Ok(image) => return Some(RunEvent::Image(image)),
                    // Too slow to hear of every image: the counts in the progress are right all the same.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => self.images = None,
                },
                changed = self.record.changed() => {
                    let record = self.record.borrow_and_update().clone();
                    if changed.is_err() || record.state != RunState::Running {
                        self.images = None;
                        continue;
                    }
                    return Some(RunEvent::Progress(record.progress));
                }
            }
        }
    }
}

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
            problems: self.inner.state().problems.clone(),
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

    async fn plan_one(&self, name: &SetName, refresh: bool) -> Result<PlanView, Error> {
        let origin = self.origin(name)?;
        let known = self.inner.with_set(name, |state| {
            state.resolution().is_some() && state.failure.is_none()
        });
        let reading = if known && !refresh {
            Reading::Pinned
        } else {
            Reading::Fresh
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
                Ok(record) => planned.plans.push(PlanView {
                    freshness: self.freshness(&record).await,
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

    fn read_inline(&self, files: Vec<InlineFile>) -> imageset::Read {
        let files: Vec<SourceFile> = files
            .into_iter()
            .map(|f| SourceFile {
                path: f.name.clone(),
                name: f.name,
                bytes: f.content,
            })
            .collect();
        let settings = &self.inner.settings;
        imageset::read_for(&files, |name| settings.policy_for(name).target.to_string())
    }

    /// Returns a plan by its id, which may be shortened while it is unique.
    pub async fn get_plan(&self, id: &str) -> Result<PlanView, Error> {
        let record = self.find_plan(id)?;
        let freshness = self.freshness(&record).await;
        Ok(PlanView { record, freshness })
    }

    /// Returns the plans that are kept, the newest first.
    pub async fn plans(&self, set: Option<&str>) -> Result<Vec<PlanView>, Error> {
        let set = set.map(|s| self.find_set(s)).transpose()?;
        let mut records = self.inner.on_store(|store| store.plans()).await?;
        records.retain(|r| set.as_ref().is_none_or(|s| r.plan.set == *s));
        records.sort_by(|a, b| (b.created, &b.plan.id).cmp(&(a.created, &a.plan.id)));
        let mut views = Vec::with_capacity(records.len());
        for record in records {
            let freshness = self.freshness(&record).await;
            views.push(PlanView {
                record: Arc::new(record),
                freshness,
            });
        }
        Ok(views)
    }

    /// Applies a plan by its id, or what an image set lacks now. Doing it again attaches to the run under way, or says that
    /// it was done.
    pub async fn apply(&self, plan: Option<&str>, set: Option<&str>) -> Result<Applied, Error> {
        self.look_now().await;
        let record = match (plan, set) {
            (Some(id), _) => self.find_plan(id)?,
            (None, Some(set)) => {
                let name = self.find_set(set)?;
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
            return Ok(Feed {
                record: active.record.clone(),
                images,
                begun: false,
                ended: false,
            });
        }
        let record = self.inner.store.run(&id)?.ok_or(Error::NoRun(id))?;
        Ok(Feed {
            record: watch::channel(record).1,
            images: None,
            begun: false,
            ended: false,
        })
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
            let held = |w: &&crate::model::desired::Wanted| {
                mirrored.tag(&w.target, &w.tag) == Some(&w.digest)
            };
            let wanted = set.wants();
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
                    .filter(|p| !p.applied)
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
                problems: set.problems.clone(),
            }
        });
        let sets = sets.collect();
        Ok(Status { daemon, sets })
    }

    /// The cluster documents in the output folder, of one image set or all.
    pub async fn resources(&self, set: Option<&str>) -> Result<Vec<ResourceView>, Error> {
        let documents = self.inner.published().await?;
        let wanted = self.inner.needed_rules();
        Ok(documents
            .into_iter()
            .filter(|d| set.is_none_or(|s| d.set.0 == s))
            .map(|document| {
                let needed = |source: &str| {
                    wanted.contains(&(document.file_name.clone(), source.to_owned()))
                };
                let retirable = document
                    .rules
                    .iter()
                    .map(|r| r.source.to_string())
                    .filter(|s| !needed(s))
                    .collect();
                ResourceView {
                    document,
                    retirable,
                }
            })
            .collect())
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
        }
        self.inner.touch();
        Ok(Retired {
            documents: change.documents,
            impact: change.impact,
            before,
        })
    }

    /// Looks at the directory before a question about it is answered.
    async fn look_now(&self) {
        if let Some(watcher) = &self.inner.watcher
            && let Some(observation) = watcher.look().await
        {
            self.observe(&observation);
            self.inner.wake.notify_one();
        }
    }

    fn origin(&self, name: &SetName) -> Result<Origin, Error> {
        self.inner.with_set(name, |state| match &state.set {
            Some(set) => Ok(Origin {
                set: set.clone(),
                revision: state.observed.clone(),
                inline: false,
            }),
            None if state.removed => Err(self.no_set(&name.0, None)),
            None => Err(invalid(name, &state.problems)),
        })
    }

    fn no_set(&self, name: &str, nearest: Option<&SetName>) -> Error {
        Error::NoSet {
            name: name.to_owned(),
            directory: self.inner.settings.directory.display().to_string(),
            hint: nearest
                .map(|n| format!("; did you mean {n}?"))
                .unwrap_or_default(),
        }
    }

    fn find_set(&self, name: &str) -> Result<SetName, Error> {
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
    pub fn plan_record(&self, id: &str) -> Result<Arc<PlanRecord>, Error> {
        self.find_plan(id)
    }

    fn find_plan(&self, id: &str) -> Result<Arc<PlanRecord>, Error> {
        let ids: Vec<PlanId> = match id {
            "" => vec![],
            id => self.inner.store.plan_ids(id, 50)?,
        };
        match ids.as_slice() {
            [] => Err(Error::NoPlan(id.to_owned())),
            [one] => self
                .inner
                .store
                .plan(one)?
                .map(Arc::new)
                .ok_or_else(|| Error::NoPlan(id.to_owned())),
            many => Err(Error::Ambiguous {
                id: id.to_owned(),
                what: "plan",
                count: many.len(),
            }),
        }
    }

    fn find_run(&self, id: &str) -> Result<String, Error> {
        let mut ids: Vec<String> = self
            .inner
            .state()
            .active
            .keys()
            .filter(|run| run.starts_with(id))
            .cloned()
            .collect();
        ids.extend(
            self.inner
                .store
                .runs()?
                .into_iter()
                .map(|r| r.id)
                .filter(|run| run.starts_with(id)),
        );
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
    fn standing(&self, record: &PlanRecord) -> Option<Freshness> {
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
    async fn freshness(&self, record: &PlanRecord) -> Freshness {
        if let Some(known) = self.standing(record) {
            return known;
        }
        let set = &record.plan.set;
        let now = match self.origin(set) {
            Ok(origin) => {
                let known = self
                    .inner
                    .with_set(set, |state| state.resolution().is_some());
                let reading = if known {
                    Reading::Pinned
                } else {
                    Reading::Fresh
                };
                self.inner.make_plan(origin, reading).await
            }
            Err(error) => Err(error),
        };
        match now {
            Ok(now) if now.plan.id == record.plan.id => Freshness::Fresh,
            Ok(now) if !now.plan.moved.is_empty() && now.plan.moved != record.plan.moved => {
                let moved = &now.plan.moved[0];
                Freshness::Stale(format!(
                    "{} moved from {} to {}",
                    moved.subject, moved.from, moved.to
                ))
            }
            Ok(_) => {
                Freshness::Stale("the mirror holds something else than when it was made".into())
            }
            Err(error) => Freshness::Stale(format!("it cannot be made again now: {error}")),
        }
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

fn has_errors(problems: &[Problem]) -> bool {
    problems.iter().any(|p| p.severity == Severity::Error)
}

fn invalid(set: &SetName, problems: &[Problem]) -> Error {
    let errors: Vec<Problem> = problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .cloned()
        .collect();
    let first = errors
        .first()
        .map(|p| format!("{}:{}:{}: {}", p.file, p.line, p.column, p.message))
        .unwrap_or_default();
    Error::Invalid {
        set: set.clone(),
        first,
        problems: errors,
    }
}

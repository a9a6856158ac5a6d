//! The loop that joins everything, and the handle others call.
//!
//! ```text
//!   observe --> round: resolve -> survey -> plan -> forecast --> decide --> run: copy -> store -> documents
//!                 ^                                                              |
//!                 +------------------- refresh, retry, commit -------------------+
//! ```
//!
//! **Invariant:** one run of an image set at a time; a run belongs to the daemon, never to who asked for it.
//! **Invariant:** making a plan changes nothing outside the state folder.

mod adopting;

mod answers;

mod attached;

pub mod catalogs;

mod clusters;

mod documents;

mod events;

mod explaining;

mod holding;

mod keeper;

mod looking;

mod lookup;

mod operators;

mod outcome;

mod planning;

mod rate;

mod requests;

mod rounds;

mod running;

mod state;

mod status;

mod tidy;

mod told;

mod units;

mod updates;
mod verification;

mod verifying;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use adopting::{AdoptOrder, Adopted};
pub use answers::{
    Applied, Explained, Feed, InlineFile, Pictured, PlanView, Planned, ReleaseUpdate, Released,
    ResourceView, Retired, RunEvent, Unplanned, Validated,
};
pub use events::{Event, Events, What};
pub use looking::{LookError, Looked};
pub use state::{ImageFinished, ImageOutcome};
pub use verification::{Finding, Repair, Verification, VerifyEvent, VerifyOrder, VerifyProgress};

use state::{SetState, State};

use crate::{
    copy, gitops,
    model::{
        desired::{Claims, Wanted},
        imageset::{Problem, SetName},
        mirrored::{Landed, Mirrored},
        plan::PlanId,
        record::{RunRecord, RunState, SetRecord},
    },
    output::Output,
    registry::{self, Client},
    resolve::{Resolver, signature_store::SignatureStores, update_service::UpdateService},
    settings::Settings,
    store::{self, Store},
};

/// How many callers look at catalogs at once.
const LOOKING: usize = 2;

/// Why something that was asked for is not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such image set.
    #[error("there is no image set {name} in {directory}{hint}")]
    NoSet {
        /// What was asked for.
        name: String,
        /// The watched directory.
        directory: String,
        /// The nearest name, as a clause.
        hint: String,
    },
    /// There is no such plan.
    #[error("there is no plan {0}; `imagesetd plan` makes one and prints its id")]
    NoPlan(String),
    /// There is no such run.
    #[error("there is no run {0}; `imagesetd runs list` lists them")]
    NoRun(String),
    /// A shortened id means several things.
    #[error("{id} is short for {count} {what}s; give more of it")]
    Ambiguous {
        /// What was given.
        id: String,
        /// Plan or run.
        what: &'static str,
        /// How many begin so.
        count: usize,
    },
    /// The image set's file has problems.
    #[error("image set {set} is not valid: {first}; `imagesetd validate` lists all problems")]
    Invalid {
        /// The image set.
        set: SetName,
        /// The first problem, with its place.
        first: String,
        /// All problems.
        problems: Vec<Problem>,
    },
    /// The plan would not be the same if it were made now.
    #[error("plan {} is stale: {why}; make a new one: `imagesetd plan {set}`", id.short())]
    Stale {
        /// The plan.
        id: PlanId,
        /// The image set.
        set: SetName,
        /// What changed.
        why: String,
    },
    /// Another plan of the image set is being applied.
    #[error(
        "image set {set} is being applied by run {run}; follow it with `imagesetd runs watch {run}`, or end it with `imagesetd runs cancel {run}`"
    )]
    Busy {
        /// The image set.
        set: SetName,
        /// The run under way.
        run: String,
    },
    /// The published documents are ones that a cluster refuses.
    #[error("a cluster refuses the published documents: {0}")]
    RulesRefused(String),
    /// There is no such cluster.
    #[error("the settings name no cluster {name}; those they name: {known}")]
    NoCluster {
        /// What was asked for.
        name: String,
        /// The clusters there are, or `none`.
        known: String,
    },
    /// The picture of a cluster could not be written.
    #[error(
        "writing the picture {path}: {error}; check that the state folder is writable and its disk not full"
    )]
    Picture {
        /// Its file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// There are no published rules to retire.
    #[error("{0}")]
    NothingPublished(String),
    /// The run is over.
    #[error("run {0} is over")]
    Over(String),
    /// Questions and answers go round in circles.
    #[error(
        "resolving image set {0} asks for the same again and again; this is an error of imagesetd, please report it with the image set"
    )]
    Endless(SetName),
    /// The mirror could not be asked or written.
    #[error("asking the mirror what it holds: {}", crate::model::sentence(.0))]
    Mirror(#[source] registry::Error),
    /// The state could not be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The output folder could not be read or written.
    #[error(transparent)]
    Output(#[from] crate::output::Error),
    /// What was asked for does not fit.
    #[error("{0}")]
    Unfit(String),
    /// A catalog cannot be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The daemon is being stopped.
    #[error("the daemon is being stopped; ask again when it is back")]
    Stopping,
    /// A task ended in a way it should not.
    #[error("a task of the daemon ended unexpectedly: {0}; its log says more")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    /// Whether the same may work later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Mirror(error) => error.is_transient(),
            Error::Busy { .. } | Error::Stopping => true,
            _ => false,
        }
    }

    /// One word in CamelCase that does not change between versions.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::NoSet { .. } => "ImageSetNotFound",
            Error::NoPlan(_) => "PlanNotFound",
            Error::NoRun(_) => "RunNotFound",
            Error::Ambiguous { .. } => "AmbiguousId",
            Error::Invalid { .. } => "ImageSetInvalid",
            Error::Stale { .. } => "PlanStale",
            Error::Busy { .. } => "RunUnderWay",
            Error::NoCluster { .. } => "ClusterNotFound",
            Error::Picture { .. } => "StateUnavailable",
            Error::NothingPublished(_) => "RulesNotFound",
            Error::RulesRefused(_) => "RulesRefused",
            Error::Over(_) => "RunOver",
            Error::Endless(_) => "ResolveEndless",
            Error::Mirror(error) if error.is_authentication() => "MirrorAuthentication",
            Error::Mirror(_) => "MirrorUnavailable",
            Error::Store(_) => "StateUnavailable",
            Error::Output(_) => "OutputUnavailable",
            Error::Unfit(_) => "Unfit",
            Error::Look(_) => "CatalogUnavailable",
            Error::Stopping => "Stopping",
            Error::Task(_) => "Internal",
        }
    }
}

/// What a reconciler works with; opened once, by the daemon or by `once`.
pub struct Parts {
    /// The site's settings.
    pub settings: Settings,
    /// The durable state.
    pub store: Store,
    /// Reads from upstream.
    pub source: Client,
    /// Reads from and writes to the mirror.
    pub mirror: Client,
    /// Reads update graphs.
    pub updates: UpdateService,
    /// Reads signatures of releases.
    pub signatures: SignatureStores,
    /// The output folder.
    pub output: Output,
    /// Looks at the directory when asked, where one is watched.
    pub watcher: Option<gitops::Watcher>,
    /// By which maintenance windows open.
    pub clock: Clock,
}

/// Tells the time by which maintenance windows open.
#[derive(Clone)]
pub struct Clock(pub Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Default for Clock {
    /// The system's.
    fn default() -> Self {
        Clock(Arc::new(Timestamp::now))
    }
}

/// What others call. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    store: Store,
    source: Client,
    mirror: Client,
    /// What any run is sending to the mirror.
    uploads: copy::Uploads,
    resolver: Resolver,
    /// The plan whose steps were read last.
    last_read: Mutex<Option<Arc<crate::model::record::PlanRecord>>>,
    catalogs: catalogs::Reader,
    /// Who looks at catalogs takes turns: each may read one that is large.
    looking: tokio::sync::Semaphore,
    /// So do image sets whose catalogs are opened.
    opening: tokio::sync::Semaphore,
    output: Arc<Mutex<Output>>,
    watcher: Option<gitops::Watcher>,
    mirrored: RwLock<Mirrored>,
    /// Orders what is applied to `mirrored` and what is written to the store.
    journal: tokio::sync::Mutex<()>,
    /// The mirror is checked by one at a time.
    verifying: tokio::sync::Mutex<()>,
    /// How fast it is asked then.
    pace: copy::Pace,
    /// Documents are forecast and written by one at a time.
    publishing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    news: events::News,
    wake: Notify,
    tracker: TaskTracker,
    stop: CancellationToken,
    abandon: CancellationToken,
    started: Timestamp,
    clock: Clock,
}

impl Handle {
    /// Reads the state and makes ready; nothing is done before an observation comes in.
    pub fn open(parts: Parts) -> Result<Self, Error> {
        let mirrored = parts.store.mirrored()?;
        let unclean = interrupt_runs(&parts.store, &parts.settings)?;
        let state = State {
            sets: remembered(&parts.store)?,
            unclean,
            ..State::default()
        };
        let keeper = Arc::new(keeper::StoreKeeper(parts.store.clone()));
        let catalogs = catalogs::Reader::new(parts.source.clone(), Some(&parts.settings.state))?
            .keeping(keeper.clone());
        let width = parts.settings.parallel_blobs * 2;
        let resolver = Resolver::new(
            parts.source.clone(),
            parts.updates,
            parts.signatures,
            keeper,
            width,
        );
        let pace = copy::Pace::per_second(parts.settings.verify.rate);
        let inner = Inner {
            settings: parts.settings,
            store: parts.store,
            source: parts.source,
            mirror: parts.mirror,
            uploads: copy::Uploads::default(),
            resolver,
            last_read: Mutex::default(),
            catalogs,
            looking: tokio::sync::Semaphore::new(LOOKING),
            opening: tokio::sync::Semaphore::new(operators::AT_ONCE),
            output: Arc::new(Mutex::new(parts.output)),
            watcher: parts.watcher,
            mirrored: RwLock::new(mirrored),
            journal: tokio::sync::Mutex::default(),
            verifying: tokio::sync::Mutex::default(),
            pace,
            publishing: tokio::sync::Mutex::default(),
            state: Mutex::new(state),
            changes: watch::channel(0).0,
            news: events::News::default(),
            wake: Notify::new(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            started: Timestamp::now(),
            clock: parts.clock,
        };
        inner.touch();
        Ok(Handle {
            inner: Arc::new(inner),
        })
    }

    /// Stops: no new work is begun, what is in flight has `deadline` to end, and what landed is recorded.
    pub async fn shutdown(&self, deadline: Duration) {
        self.inner.stop.cancel();
        self.inner.tracker.close();
        if tokio::time::timeout(deadline, self.inner.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!("the deadline of the stop is over; what is in flight is abandoned");
            self.inner.abandon.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(5), self.inner.tracker.wait()).await;
        }
    }

    /// Tells whenever something that status shows has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Notes how keeping the directory at its branch goes.
    pub fn note_git(&self, trouble: Option<String>) {
        self.inner.state().git_trouble = trouble;
        self.inner.touch();
    }

    /// Notes what is wrong with the files that say who may come in.
    pub fn note_access(&self, trouble: Option<String>) {
        self.inner.state().access_trouble = trouble;
        self.inner.touch();
    }
}

/// What the store remembers of image sets, before the directory was looked at.
fn remembered(store: &Store) -> Result<BTreeMap<SetName, SetState>, Error> {
    let mut sets = BTreeMap::new();
    for (name, record) in store.sets()? {
        let unfinished = unfinished_run(store, &record)?;
        // Not seen yet is not the same as gone: until the first look they count as neither.
        let state = SetState {
            file: record.file.clone(),
            observed: record.applied_revision.clone().unwrap_or_default(),
            unfinished: unfinished.as_ref().map(|(_, document)| document.clone()),
            last_run: unfinished.map(|(run, _)| run),
            record,
            ..SetState::default()
        };
        sets.insert(name, state);
    }
    Ok(sets)
}

/// The newest run of an image set where it left something undone, and the document it was for.
fn unfinished_run(store: &Store, record: &SetRecord) -> Result<Option<(RunRecord, String)>, Error> {
    let Some(run) = record.run.as_deref().map(|id| store.run(id)).transpose()? else {
        return Ok(None);
    };
    let Some(run) = run.filter(|run| run.state != RunState::Succeeded) else {
        return Ok(None);
    };
    let plan = store.plan(&run.plan)?;
    Ok(plan.map(|plan| (run, plan.document)))
}

/// Runs that a daemon before this one left under way did not end: it did. Returns the image sets whose last run ended in the middle.
fn interrupt_runs(store: &Store, settings: &Settings) -> Result<HashSet<SetName>, Error> {
    let mut unclean = HashSet::new();
    for run in store.runs()? {
        match run.state {
            RunState::Running | RunState::Interrupted => unclean.insert(run.set.clone()),
            _ => unclean.remove(&run.set),
        };
        if run.state != RunState::Running {
            continue;
        }
        let ended = RunRecord {
            state: RunState::Interrupted,
            finished: Some(Timestamp::now()),
            message: "the daemon ended while it was under way; the next run goes on from there"
                .into(),
            ..run
        };
        store.put_run(&ended, settings.keep_runs)?;
    }
    Ok(unclean)
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    fn mirrored(&self) -> RwLockReadGuard<'_, Mirrored> {
        self.mirrored
            .read()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    fn with_set<T>(&self, name: &SetName, f: impl FnOnce(&mut SetState) -> T) -> T {
        f(self.state().sets.entry(name.clone()).or_default())
    }

    /// Looks at an image set that may be unknown, as one of files that were sent along is.
    fn peek<T>(&self, name: &SetName, f: impl FnOnce(&SetState) -> T) -> T {
        match self.state().sets.get(name) {
            Some(known) => f(known),
            None => f(&SetState::default()),
        }
    }

    /// What other image sets claim of the places that `wanted` has.
    fn claims(&self, but: &SetName, wanted: &[Wanted]) -> Claims {
        state::claims(&self.state().sets, but, wanted)
    }

    /// Brings conditions up to date and tells those who watch.
    fn touch(&self) {
        let now = Timestamp::now();
        {
            let mut state = self.state();
            state
                .sets
                .iter_mut()
                .for_each(|(name, set)| status::refresh_set(name, set, now));
            status::refresh_daemon(&mut state, now);
        }
        self.changes.send_modify(|n| *n += 1);
    }

    /// Takes in what landed, and makes it durable. Should that fail, the run ends; what landed is found again, and a blob that is
    /// believed in wrongly is told by the mirror when its manifest comes.
    async fn record_landed(&self, landed: Vec<Landed>) -> Result<(), Error> {
        if landed.is_empty() {
            return Ok(());
        }
        let _in_order = self.journal.lock().await;
        let (news, serial) = {
            let mut mirrored = self
                .mirrored
                .write()
                .unwrap_or_else(|broken| broken.into_inner());
            let news: Vec<Landed> = landed
                .into_iter()
                .filter(|fact| mirrored.apply(fact))
                .collect();
            (news, mirrored.serial())
        };
        self.on_store(move |store| store.append(&news, serial))
            .await
    }

    fn save_set(&self, name: &SetName) {
        let record: SetRecord = self.with_set(name, |state| state.record.clone());
        if let Err(error) = self.store.put_set(name, &record) {
            tracing::error!(image_set = %name, %error, "what is known of an image set could not be kept");
        }
    }

    /// Runs a write of the store where it may block.
    async fn on_store<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Store) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.store.clone();
        Ok(tokio::task::spawn_blocking(move || write(&store)).await??)
    }
}

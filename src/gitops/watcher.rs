//! Looks when something rings, when asked, and now and then; tells what has settled.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::gitops::{
    Observation,
    bell::Bell,
    look::Looker,
    settling::{Settling, Verdict},
    sync::{GitSync, SyncState, Syncer},
};

/// The least pause between an event and the look that it causes: most updates are several events.
const QUIET: Duration = Duration::from_millis(250);

/// How many callers of [`Watcher::look`] may wait to be taken in.
const REQUESTS: usize = 64;

/// What to watch, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory; it need not exist yet. Links on the way to it are followed anew at each look.
    pub directory: PathBuf,
    /// Files that Git does not vouch for count as settled when they stay the same for this long.
    pub settle: Duration,
    /// The directory is looked at this often even where nothing rings (network file systems tell of no events).
    pub rescan: Duration,
    /// Keeps the directory at a branch's head, where wanted.
    pub git: Option<GitSync>,
}

type Told = Option<Arc<Observation>>;

type Request = oneshot::Sender<Arc<Observation>>;

/// Asks a running watch; clones ask the same one.
#[derive(Debug, Clone)]
pub struct Watcher {
    observations: watch::Receiver<Told>,
    sync: Option<watch::Receiver<SyncState>>,
    requests: mpsc::Sender<Request>,
    rope: Arc<Notify>,
    fetch: Arc<Notify>,
}

impl Watcher {
    /// Returns what is observed, the latest only; `None` until the first time that the directory has settled.
    ///
    /// It changes only when an observation differs from the one before.
    pub fn observations(&self) -> watch::Receiver<Told> {
        self.observations.clone()
    }

    /// Returns how keeping the directory at the branch's head goes; `None` where that was not asked for.
    pub fn sync_state(&self) -> Option<watch::Receiver<SyncState>> {
        self.sync.clone()
    }

    /// Has the branch fetched, where there is one, and the directory looked at now. Does not wait for either.
    pub fn poke(&self) {
        self.fetch.notify_one();
        self.rope.notify_one();
    }

    /// Looks at the directory now and waits until it has settled. Fetches nothing.
    ///
    /// Returns what it is then, also where that was told before; `None` where the watch has ended.
    pub async fn look(&self) -> Option<Arc<Observation>> {
        let (answer, told) = oneshot::channel();
        self.requests.send(answer).await.ok()?;
        told.await.ok()
    }
}

/// Prepares to watch; the returned future does the work until `cancel`, and is for the caller to spawn and await.
pub fn start(
    options: Options,
    cancel: CancellationToken,
) -> (Watcher, impl Future<Output = ()> + Send + 'static) {
    let (told, observations) = watch::channel(None);
    let (requests, asked) = mpsc::channel(REQUESTS);
    let rope = Arc::new(Notify::new());
    let fetch = Arc::new(Notify::new());
    let looker = Looker::new(options.directory.clone(), options.git.is_some());
    let syncer = options
        .git
        .map(|git| Syncer::new(git, options.directory, fetch.clone(), rope.clone()));
    let watcher = Watcher {
        observations,
        sync: syncer.as_ref().map(Syncer::state),
        requests,
        rope: rope.clone(),
        fetch,
    };
    let rounds = Rounds {
        looker,
        bell: Bell::new(rope),
        settling: Settling::new(options.settle),
        quiet: QUIET.min(options.settle),
        rescan: options.rescan,
        began: Instant::now(),
        told,
        asked,
        waiting: Vec::new(),
    };
    let work = async move {
        let syncing = async {
            if let Some(syncer) = syncer {
                syncer.run().await;
            }
        };
        let work = async { tokio::join!(rounds.run(), syncing) };
        // Both may be left at any await: a look keeps nothing, and git is told to end and cleans up.
        cancel.run_until_cancelled(work).await;
    };
    (watcher, work)
}

/// Looks until the directory has settled, without file events: for a single round and for checks.
pub async fn look_once(directory: PathBuf, settle: Duration) -> Observation {
    let mut looker = Looker::new(directory, false);
    let mut settling = Settling::new(settle);
    let began = Instant::now();
    loop {
        let now = began.elapsed();
        match settling.judge(looker.look().await.found, now) {
            Verdict::Settled(observation) => return observation,
            Verdict::Again(pause) => sleep(pause).await,
        }
    }
}

/// How the pause after a round may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// The pause is over.
    Timer,
    /// Something rang, or somebody asks.
    Called,
}

struct Rounds {
    looker: Looker,
    bell: Bell,
    settling: Settling,
    quiet: Duration,
    rescan: Duration,
    began: Instant,
    told: watch::Sender<Told>,
    asked: mpsc::Receiver<Request>,
    waiting: Vec<Request>,
}

impl Rounds {
    async fn run(mut self) {
        let mut rearm = false;
        loop {
            let pause = self.round(rearm).await;
            let woken = self.pause(pause).await;
            rearm = woken == Woken::Timer && pause == self.rescan;
        }
    }

    /// Looks once, tells what has settled, and returns when to look again.
    async fn round(&mut self, rearm: bool) -> Duration {
        while let Ok(request) = self.asked.try_recv() {
            self.waiting.push(request);
        }
        let now = self.began.elapsed();
        let look = self.looker.look().await;
        // A large or slow directory is not read without a pause.
        let quiet = self.quiet.max(self.began.elapsed() - now);
        let pause = match self.settling.judge(look.found, now) {
            Verdict::Again(pause) => pause,
            Verdict::Settled(observation) => {
                self.tell(observation);
                self.settling.restless().unwrap_or(self.rescan)
            }
        };
        match look.folders {
            // What happened in a new folder before it was watched is found by looking again.
            Some(folders) if self.bell.differs(&folders) => {
                self.bell.arm(folders).await;
                pause.min(quiet)
            }
            Some(folders) if rearm => {
                self.bell.arm(folders).await;
                pause
            }
            _ => pause,
        }
    }

    fn tell(&mut self, observation: Observation) {
        let observation = Arc::new(observation);
        for request in self.waiting.drain(..) {
            // Whoever asked may have left.
            let _ = request.send(observation.clone());
        }
        self.told.send_if_modified(|told| {
            let differs = told.as_deref() != Some(&*observation);
            if differs {
                log(&observation);
                *told = Some(observation);
            }
            differs
        });
    }

    async fn pause(&mut self, pause: Duration) -> Woken {
        let deadline = sleep(pause);
        tokio::pin!(deadline);
        tokio::select! {
            () = &mut deadline => Woken::Timer,
            Some(request) = self.asked.recv() => {
                self.waiting.push(request);
                Woken::Called
            }
            () = self.bell.rung() => {
                let quiet = sleep(self.quiet);
                tokio::select! { () = &mut deadline => {}, () = quiet => {} }
                Woken::Called
            }
        }
    }
}

fn log(observation: &Observation) {
    match observation {
        Observation::Checkout(checkout) => {
            tracing::info!(revision = %checkout.revision, files = checkout.files.len(), "directory settled");
        }
        Observation::Missing { why } => tracing::warn!(%why, "no checkout"),
        Observation::Unsettled { why } => tracing::warn!(%why, "directory does not settle"),
    }
}

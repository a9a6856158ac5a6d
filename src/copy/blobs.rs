//! Which blob is where, and who is bringing it.
//!
//! Two locks, always taken in this order: one for a blob in a repository (registries confuse two uploads of one blob to one
//! repository), then one for the blob itself, held only by the one who downloads it. A place in the queue comes after both, and who
//! has one waits for no lock: so nobody waits for someone who waits for them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;
use tokio::sync::Mutex as Lock;

use super::{
    Engine, Event, Reporter, Stock,
    queue::{Queue, Rank},
    transfer::{Ground, Transfer},
};
use crate::{
    model::{
        image::{Digest, Repository},
        manifest::Descriptor,
        mirrored::Landed,
    },
    registry::{self, Begun},
};

/// How a blob came to be where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was there.
    Present,
    /// The mirror took it from another repository of its own.
    Mounted,
    /// It was uploaded.
    Copied,
}

/// In how many repositories a blob is looked for that may have strayed.
const MAX_LOOKS: usize = 32;

type Pair = (Repository, Digest);

/// Who sends which blob to which repository: one at a time, whatever run it is of.
#[derive(Debug, Clone, Default)]
pub struct Uploads(Arc<Mutex<HashMap<Pair, Arc<Lock<()>>>>>);

impl Uploads {
    fn of(&self, pair: &Pair) -> Arc<Lock<()>> {
        lock(&self.0).entry(pair.clone()).or_default().clone()
    }

    /// Drops the lock of what has landed, where nobody else waits for it.
    fn settle(&self, pair: &Pair, own: Arc<Lock<()>>) {
        let mut all = lock(&self.0);
        // One in the map, one here.
        if Arc::strong_count(&own) <= 2 {
            all.remove(pair);
        }
    }

    fn under_way(&self) -> Vec<String> {
        let all = lock(&self.0);
        let busy = all.iter().filter(|(_, upload)| upload.try_lock().is_err());
        busy.map(|((repository, digest), _)| format!("blob {digest} for {repository}"))
            .collect()
    }
}

/// Since when a repository is known to have a blob. What this run has brought is the surer donor: what was believed before may be
/// gone, and some registries mount only from where there is a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Since {
    Now,
    Before,
}

/// Knows where blobs are in the mirror, as far as this run has seen.
pub(super) struct Desk {
    held: Mutex<HashMap<Digest, BTreeMap<Repository, Since>>>,
    /// What the mirror turned out to lack, and may still say that it has.
    doubted: Mutex<HashSet<Pair>>,
    /// Repositories that have nothing, until something went wrong there.
    empty: Mutex<HashSet<Repository>>,
    /// Blobs that several repositories are to have, and these.
    shared: HashMap<Digest, Vec<Repository>>,
    unclean: bool,
    uploads: Uploads,
    leads: Mutex<HashMap<Digest, Arc<Lock<()>>>>,
    queue: Arc<Queue>,
}

impl Desk {
    pub(super) fn new(stock: Stock, uploads: Uploads, transfers: usize) -> Self {
        let before = |repositories: Vec<Repository>| {
            let known = repositories.into_iter().map(|r| (r, Since::Before));
            known.collect()
        };
        let held = stock.donors.into_iter();
        Desk {
            held: Mutex::new(held.map(|(digest, r)| (digest, before(r))).collect()),
            doubted: Mutex::default(),
            empty: Mutex::new(stock.empty),
            shared: stock.shared,
            unclean: stock.unclean,
            uploads,
            leads: Mutex::default(),
            queue: Queue::new(transfers),
        }
    }

    /// Drops the belief that a repository has a blob, whatever the mirror says of it when it is asked again.
    pub(super) fn forget(&self, repository: &Repository, digest: &Digest) {
        if let Some(held) = lock(&self.held).get_mut(digest) {
            held.remove(repository);
        }
        lock(&self.doubted).insert((repository.clone(), digest.clone()));
    }

    /// Names some of what is on its way, for messages.
    pub(super) fn on_its_way(&self) -> String {
        let mut names = self.uploads.under_way();
        names.sort();
        let more = names.len().saturating_sub(3);
        names.truncate(3);
        match (names.is_empty(), more) {
            (true, _) => "no blob".to_owned(),
            (false, 0) => names.join(", "),
            (false, more) => format!("{} and {more} more", names.join(", ")),
        }
    }

    fn has(&self, repository: &Repository, digest: &Digest) -> bool {
        lock(&self.held)
            .get(digest)
            .is_some_and(|held| held.contains_key(repository))
    }

    fn donor(&self, near: &Repository, digest: &Digest) -> Option<Repository> {
        let held = lock(&self.held);
        let here = |(r, _): &(&Repository, &Since)| r.registry() == near.registry();
        let donors = held.get(digest)?.iter().filter(here);
        let (donor, _) = donors.min_by_key(|(_, since)| **since)?;
        Some(donor.clone())
    }

    fn settled(&self, repository: &Repository, digest: &Digest) {
        lock(&self.held)
            .entry(digest.clone())
            .or_default()
            .insert(repository.clone(), Since::Now);
    }

    fn ground(&self, key: &Pair) -> Ground {
        if lock(&self.doubted).contains(key) {
            Ground::Doubted
        } else if lock(&self.empty).contains(&key.0) {
            Ground::Empty
        } else {
            Ground::Unknown
        }
    }

    fn rank(&self, blob: &Descriptor) -> Rank {
        Rank {
            shared: self.shared.contains_key(&blob.digest),
            size: blob.size,
        }
    }

    /// Sees to it that `target` has `blob`, from wherever is cheapest.
    pub(super) async fn ensure(
        &self,
        engine: &Engine,
        report: &Reporter,
        source: &Repository,
        target: &Repository,
        blob: &Descriptor,
    ) -> Result<(), registry::Error> {
        let key = (target.clone(), blob.digest.clone());
        let upload = self.uploads.of(&key);
        let alone = upload.lock().await;
        if self.has(target, &blob.digest) {
            drop(alone);
            self.uploads.settle(&key, upload);
            report.say(Event::Blob(Outcome::Present)).await;
            return Ok(());
        }
        let transfer = Transfer {
            engine,
            report,
            source,
            target,
            blob,
        };
        let outcome = match self.bring(&transfer, &key).await {
            Ok(outcome) => outcome,
            Err(error) => {
                // What was begun may have got there all the same.
                lock(&self.empty).remove(target);
                return Err(error);
            }
        };
        self.settled(target, &blob.digest);
        lock(&self.doubted).remove(&key);
        drop(alone);
        // Whoever comes from now on finds it there; only those who failed leave their lock for the next to queue at.
        self.uploads.settle(&key, upload);
        report
            .say(Event::Landed(Landed::Blob(
                target.clone(),
                blob.digest.clone(),
            )))
            .await;
        report.say(Event::Blob(outcome)).await;
        Ok(())
    }

    async fn bring(&self, transfer: &Transfer<'_>, key: &Pair) -> Result<Outcome, registry::Error> {
        let digest = &transfer.blob.digest;
        let ground = self.ground(key);
        // What the mirror was wrong about in one repository it may be wrong about in all: the bytes are brought once more.
        let donor = || {
            self.donor(transfer.target, digest)
                .filter(|_| ground != Ground::Doubted)
        };
        if let Some(donor) = donor() {
            return self.take_over(transfer, &donor).await;
        }
        let lead = lock(&self.leads).entry(digest.clone()).or_default().clone();
        let leading = lead.lock().await;
        if let Some(donor) = donor() {
            drop(leading);
            return self.take_over(transfer, &donor).await;
        }
        if let Some(donor) = self
            .stray(transfer)
            .await
            .filter(|_| ground != Ground::Doubted)
        {
            self.settled(&donor, digest);
            drop(leading);
            return self.take_over(transfer, &donor).await;
        }
        let _turn = self.queue.turn(self.rank(transfer.blob)).await;
        let outcome = transfer.download(ground).await?;
        // Said before the lead is given up, so that those who wait find a donor.
        self.settled(transfer.target, digest);
        lock(&self.leads).remove(digest);
        Ok(outcome)
    }

    /// Looks for a shared blob in the other repositories that are to have it, where a run that ended in the middle may have brought
    /// it to one of them without anybody knowing.
    async fn stray(&self, transfer: &Transfer<'_>) -> Option<Repository> {
        let digest = &transfer.blob.digest;
        if !self.unclean {
            return None;
        }
        let may_have = |repository: &&Repository| {
            *repository != transfer.target && !lock(&self.empty).contains(*repository)
        };
        let places = self
            .shared
            .get(digest)?
            .iter()
            .filter(may_have)
            .take(MAX_LOOKS);
        let looks = places.cloned().map(|place| async move {
            let there = transfer.engine.mirror.has_blob(&place, digest).await;
            matches!(there, Ok(true)).then_some(place)
        });
        join_all(looks).await.into_iter().flatten().next()
    }

    /// Has the mirror take a blob from its own repository `donor`; where it will not, the bytes are read from there.
    async fn take_over(
        &self,
        transfer: &Transfer<'_>,
        donor: &Repository,
    ) -> Result<Outcome, registry::Error> {
        let digest = &transfer.blob.digest;
        // A mount moves no bytes, and waits for nobody's.
        let upload = match transfer.begin(Some(donor)).await? {
            Begun::Mounted | Begun::Taken => return Ok(Outcome::Mounted),
            Begun::Upload(upload) => upload,
        };
        let _turn = self.queue.turn(self.rank(transfer.blob)).await;
        let mut reader = transfer.donor(donor);
        match reader.from(0).await {
            Ok(body) => transfer.finish(upload, reader, Some(body)).await,
            Err(error) if error.is_not_found() => {
                // The donor has lost it: what was believed of it is dropped, and upstream has it still.
                self.forget(donor, digest);
                transfer
                    .report
                    .say(Event::Landed(Landed::Gone(donor.clone(), digest.clone())))
                    .await;
                transfer
                    .finish(upload, transfer.upstream().await, None)
                    .await
            }
            Err(error) => {
                transfer.engine.mirror.cancel_upload(upload).await;
                Err(error)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

//! Which blob is where, who is bringing it, and how it gets to where it belongs.
//!
//! Two locks, always taken in this order: one for a blob in a repository (registries confuse two uploads of one blob to one
//! repository), then one for the blob itself, held only by the one who downloads it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use tokio::sync::{Mutex as Lock, Semaphore};
use tokio_util::io::ReaderStream;

use super::{Engine, Event, Permits, Reporter};
use crate::{
    model::{
        image::{Digest, Repository},
        manifest::Descriptor,
        mirrored::Landed,
    },
    registry::{self, Begun, Upload},
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

type Pair = (Repository, Digest);

/// Knows where blobs are in the mirror, as far as this run has seen.
pub(super) struct Desk {
    held: Mutex<HashMap<Digest, BTreeSet<Repository>>>,
    pairs: Mutex<HashMap<Pair, Arc<Lock<()>>>>,
    leads: Mutex<HashMap<Digest, Arc<Lock<()>>>>,
    permits: Permits,
}

impl Desk {
    pub(super) fn new(held: HashMap<Digest, Vec<Repository>>, transfers: usize) -> Self {
        let held = held
            .into_iter()
            .map(|(digest, repositories)| (digest, repositories.into_iter().collect()));
        Desk {
            held: Mutex::new(held.collect()),
            pairs: Mutex::default(),
            leads: Mutex::default(),
            permits: Arc::new(Semaphore::new(transfers.max(1))),
        }
    }

    /// Drops the belief that a repository has a blob.
    pub(super) fn forget(&self, repository: &Repository, digest: &Digest) {
        if let Some(held) = lock(&self.held).get_mut(digest) {
            held.remove(repository);
        }
    }

    fn has(&self, repository: &Repository, digest: &Digest) -> bool {
        lock(&self.held)
            .get(digest)
            .is_some_and(|held| held.contains(repository))
    }

    fn donor(&self, near: &Repository, digest: &Digest) -> Option<Repository> {
        let held = lock(&self.held);
        held.get(digest)?
            .iter()
            .find(|r| r.registry() == near.registry())
            .cloned()
    }

    fn settled(&self, repository: &Repository, digest: &Digest) {
        lock(&self.held)
            .entry(digest.clone())
            .or_default()
            .insert(repository.clone());
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
        let pair = lock(&self.pairs).entry(key.clone()).or_default().clone();
        let _alone = pair.lock().await;
        if self.has(target, &blob.digest) {
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
        let outcome = self.bring(&transfer).await?;
        self.settled(target, &blob.digest);
        // Whoever comes from now on finds it there; only those who failed leave their lock for the next to queue at.
        lock(&self.pairs).remove(&key);
        report
            .say(Event::Landed(Landed::Blob(
                target.clone(),
                blob.digest.clone(),
            )))
            .await;
        report.say(Event::Blob(outcome)).await;
        Ok(())
    }

    async fn bring(&self, transfer: &Transfer<'_>) -> Result<Outcome, registry::Error> {
        let digest = &transfer.blob.digest;
        if let Some(donor) = self.donor(transfer.target, digest) {
            return self.take_over(transfer, &donor).await;
        }
        let lead = lock(&self.leads).entry(digest.clone()).or_default().clone();
        let leading = lead.lock().await;
        if let Some(donor) = self.donor(transfer.target, digest) {
            drop(leading);
            return self.take_over(transfer, &donor).await;
        }
        let outcome = transfer.download(&self.permits).await?;
        // Said before the lead is given up, so that those who wait find a donor.
        self.settled(transfer.target, digest);
        lock(&self.leads).remove(digest);
        Ok(outcome)
    }

    /// Has the mirror take a blob from its own repository `donor`; where it will not, the bytes are read from there.
    async fn take_over(
        &self,
        transfer: &Transfer<'_>,
        donor: &Repository,
    ) -> Result<Outcome, registry::Error> {
        let digest = &transfer.blob.digest;
        let _permit = self.permits.acquire().await;
        match transfer.begin(donor).await? {
            Begun::Mounted => Ok(Outcome::Mounted),
            Begun::Upload(upload) => {
                match transfer.engine.mirror.blob(donor, transfer.blob).await {
                    Ok(body) => transfer.finish(upload, body.boxed()).await,
                    Err(error) if error.is_not_found() => {
                        // The donor has lost it: what was believed of it is dropped, and upstream has it still.
                        self.forget(donor, digest);
                        transfer
                            .report
                            .say(Event::Landed(Landed::Gone(donor.clone(), digest.clone())))
                            .await;
                        let body = transfer.upstream_body().await?;
                        transfer.finish(upload, body).await
                    }
                    Err(error) => {
                        transfer.engine.mirror.cancel_upload(upload).await;
                        Err(error)
                    }
                }
            }
        }
    }
}

/// One blob on its way to one repository.
struct Transfer<'a> {
    engine: &'a Engine,
    report: &'a Reporter,
    source: &'a Repository,
    target: &'a Repository,
    blob: &'a Descriptor,
}

type Body = BoxStream<'static, Result<Bytes, registry::Error>>;

impl Transfer<'_> {
    async fn begin(&self, from: &Repository) -> Result<Begun, registry::Error> {
        self.engine
            .mirror
            .begin_upload(self.target, Some((&self.blob.digest, from)))
            .await
    }

    /// Uploads from a kept file or from the source. The mount from the target itself asks whether it has the blob already and
    /// begins the upload if not, in one request.
    async fn download(&self, permits: &Permits) -> Result<Outcome, registry::Error> {
        let _permit = permits.acquire().await;
        match self.begin(self.target).await? {
            Begun::Mounted => Ok(Outcome::Present),
            Begun::Upload(upload) => {
                let body = match self.upstream_body().await {
                    Ok(body) => body,
                    Err(error) => {
                        self.engine.mirror.cancel_upload(upload).await;
                        return Err(error);
                    }
                };
                self.finish(upload, body).await
            }
        }
    }

    async fn upstream_body(&self) -> Result<Body, registry::Error> {
        if let Some(body) = self.kept_body().await {
            return Ok(body);
        }
        let body = self.engine.source.blob(self.source, self.blob).await?;
        Ok(counted(body, self.report.clone()).boxed())
    }

    /// The blob as it was kept from planning. It was verified when it was kept; the mirror verifies it once more.
    async fn kept_body(&self) -> Option<Body> {
        let path = self.engine.larder.blob(&self.blob.digest)?;
        let file = tokio::fs::File::open(path).await.ok()?;
        let length = file.metadata().await.ok()?.len();
        let what = self.blob.digest.to_string();
        let body = ReaderStream::with_capacity(file, 256 << 10).map_err(move |source| {
            registry::Error::File {
                what: what.clone(),
                source,
            }
        });
        (length == self.blob.size).then(|| body.boxed())
    }

    async fn finish(&self, upload: Upload, body: Body) -> Result<Outcome, registry::Error> {
        self.engine.mirror.upload(upload, self.blob, body).await?;
        Ok(Outcome::Copied)
    }
}

/// Reports the bytes that come through.
fn counted(
    body: impl Stream<Item = Result<Bytes, registry::Error>> + Send + 'static,
    report: Reporter,
) -> impl Stream<Item = Result<Bytes, registry::Error>> + Send + 'static {
    body.then(move |piece| {
        let report = report.clone();
        async move {
            if let Ok(bytes) = &piece {
                report.say(Event::Downloaded(bytes.len() as u64)).await;
            }
            piece
        }
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

//! One blob on its way to one repository: where its bytes come from, and how they are sent on after something broke.

use std::{
    io::SeekFrom,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt, stream, stream::BoxStream};
use tokio::io::AsyncSeekExt;
use tokio_util::io::ReaderStream;

use super::{Engine, Event, Reporter, blobs::Outcome};
use crate::{
    model::{image::Repository, manifest::Descriptor, sentence},
    registry::{self, Begun, Client, Trail, Upload},
};

/// From this size on, what a registry has of a broken upload is asked for; a smaller blob is sent again sooner.
const RESUMABLE: u64 = 1 << 20;

/// How many bytes are told of at a time.
const TOLD: u64 = 256 << 10;

/// The bytes of a blob, or of its end.
pub(super) type Body = BoxStream<'static, Result<Bytes, registry::Error>>;

/// One blob on its way to one repository.
pub(super) struct Transfer<'a> {
    pub(super) engine: &'a Engine,
    pub(super) report: &'a Reporter,
    pub(super) source: &'a Repository,
    pub(super) target: &'a Repository,
    pub(super) blob: &'a Descriptor,
}

/// What is known of the place that a blob is brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// The repository was not there when it was looked for: it has nothing.
    Empty,
    /// It may have the blob.
    Unknown,
    /// The registry said that the blob is missing, though it may say otherwise when it is asked.
    Doubted,
}

/// Where a blob's bytes come from.
enum Origin<'a> {
    /// A file that planning has kept. It was verified when it was kept; the mirror verifies it once more.
    Kept(PathBuf),
    /// They are here.
    Held(Bytes),
    /// A repository, of upstream or of the mirror.
    Repository(&'a Client, &'a Repository),
}

/// Reads a blob's bytes, from wherever they are needed again.
pub(super) struct Reader<'a> {
    transfer: &'a Transfer<'a>,
    origin: Origin<'a>,
    trail: Trail,
    /// How far it was told of; what is read again is not told again.
    told: Arc<AtomicU64>,
}

impl<'a> Transfer<'a> {
    /// Begins an upload, or has the mirror take the blob from `from`.
    pub(super) async fn begin(&self, from: Option<&Repository>) -> Result<Begun, registry::Error> {
        let mount = from.map(|from| (&self.blob.digest, from));
        self.engine.mirror.begin_upload(self.target, mount).await
    }

    /// Uploads from a kept file or from upstream.
    ///
    /// Where the repository may have the blob, the mount from itself asks for it and begins the upload if it is not there, in one
    /// request; where it cannot, nothing has to be known before the bytes are asked for. Where the bytes of a nearer mirror are wrong,
    /// all begins anew with the next place.
    pub(super) async fn download(&self, ground: Ground) -> Result<Outcome, registry::Error> {
        let mut ended = self.attempt(ground).await;
        while let Err(registry::Error::Elsewhere(error)) = &ended {
            tracing::warn!(error = %sentence(error), "the next place is asked for this blob");
            ended = self.attempt(ground).await;
        }
        ended
    }

    async fn attempt(&self, ground: Ground) -> Result<Outcome, registry::Error> {
        let begun = match ground {
            Ground::Empty => return self.fill_empty().await,
            Ground::Unknown => self.begin(Some(self.target)).await?,
            Ground::Doubted => self.begin(None).await?,
        };
        match begun {
            Begun::Mounted => Ok(Outcome::Present),
            Begun::Taken => Ok(Outcome::Copied),
            Begun::Upload(upload) => self.finish(upload, self.upstream().await, None).await,
        }
    }

    /// Uploads to a repository that has nothing: the bytes are asked for together with the upload, or sent along with it.
    async fn fill_empty(&self) -> Result<Outcome, registry::Error> {
        let mirror = &self.engine.mirror;
        let mut reader = self.upstream().await;
        if !mirror.takes_at_once(self.target.registry(), self.blob.size) {
            let (begun, body) = tokio::join!(self.begin(None), reader.from(0));
            return match (begun?, body) {
                (Begun::Upload(upload), Ok(body)) => self.finish(upload, reader, Some(body)).await,
                (Begun::Upload(upload), Err(error)) => {
                    mirror.cancel_upload(upload).await;
                    Err(error)
                }
                (Begun::Mounted | Begun::Taken, _) => Ok(Outcome::Present),
            };
        }
        if self.blob.size <= Client::PROBE {
            reader.hold().await?;
        }
        let body = reader.from(0).await?;
        match mirror.upload_at_once(self.target, self.blob, body).await? {
            Begun::Mounted | Begun::Taken => Ok(Outcome::Copied),
            Begun::Upload(upload) => self.finish(upload, reader, None).await,
        }
    }

    /// Reads from a kept file where there is one, else from upstream.
    pub(super) async fn upstream(&'a self) -> Reader<'a> {
        let origin = match self.kept().await {
            Some(path) => Origin::Kept(path),
            None => Origin::Repository(&self.engine.source, self.source),
        };
        Reader::new(self, origin)
    }

    /// Reads from a repository of the mirror.
    pub(super) fn donor(&'a self, donor: &'a Repository) -> Reader<'a> {
        Reader::new(self, Origin::Repository(&self.engine.mirror, donor))
    }

    async fn kept(&self) -> Option<PathBuf> {
        let path = self.engine.larder.blob(&self.blob.digest)?;
        let length = tokio::fs::metadata(&path).await.ok()?.len();
        (length == self.blob.size).then_some(path)
    }

    /// Sends the bytes, of which the `first` may have been asked for already. An upload that broke off goes on where the registry
    /// has kept what it got; else it is given up, for the next one to begin anew.
    pub(super) async fn finish(
        &self,
        mut upload: Upload,
        mut reader: Reader<'_>,
        mut first: Option<Body>,
    ) -> Result<Outcome, registry::Error> {
        let mirror = &self.engine.mirror;
        let (mut from, mut broken, mut restarted) = (0, 0, false);
        loop {
            let body = match first.take() {
                Some(body) => Ok(body),
                None => reader.from(from).await,
            };
            let sent = match body {
                Ok(body) => mirror.upload_from(&upload, self.blob, from, body).await,
                Err(error) => {
                    mirror.cancel_upload(upload).await;
                    return Err(error);
                }
            };
            let Err(error) = sent else {
                return Ok(Outcome::Copied);
            };
            if let Some((next, received)) = self.resumed(&upload, &error, broken).await {
                tracing::debug!(%error, blob = %self.blob.digest, from = received, "the upload goes on");
                let headway = received >= from + RESUMABLE;
                broken = if headway { 0 } else { broken + 1 };
                (upload, from) = (next, received);
                continue;
            }
            mirror.cancel_upload(upload).await;
            // What was put together of two parts and is not taken may have been put together wrongly: the registry's word of how
            // much it has is stale at some.
            let is_final = error.is_transient() || error.is_authentication();
            let elsewhere = matches!(error, registry::Error::Elsewhere(_));
            if from == 0 || restarted || is_final || elsewhere {
                return Err(error);
            }
            match self.begin(None).await? {
                Begun::Upload(next) => upload = next,
                Begun::Mounted | Begun::Taken => return Ok(Outcome::Copied),
            }
            (from, restarted) = (0, true);
        }
    }

    /// Where a broken upload goes on; nothing where it does not.
    async fn resumed(
        &self,
        upload: &Upload,
        error: &registry::Error,
        broken: u32,
    ) -> Option<(Upload, u64)> {
        let limits = &self.engine.limits;
        let worth = self.blob.size >= RESUMABLE && error.is_transient();
        if !worth || broken >= limits.retries || self.engine.stop.is_cancelled() {
            return None;
        }
        if broken > 0 {
            super::pause(broken).await;
        }
        let state = self.engine.mirror.upload_state(upload).await;
        let (next, received) = state.ok()??;
        (1..=self.blob.size)
            .contains(&received)
            .then_some((next, received))
    }
}

impl<'a> Reader<'a> {
    fn new(transfer: &'a Transfer<'a>, origin: Origin<'a>) -> Self {
        Reader {
            transfer,
            origin,
            trail: Trail::default(),
            told: Arc::default(),
        }
    }

    /// Reads all of a small blob, for sending it more than once.
    async fn hold(&mut self) -> Result<(), registry::Error> {
        let mut body = self.from(0).await?;
        let mut held = BytesMut::new();
        while let Some(piece) = body.try_next().await? {
            held.extend_from_slice(&piece);
        }
        self.origin = Origin::Held(held.freeze());
        Ok(())
    }

    /// Returns the bytes from `offset` on.
    pub(super) async fn from(&mut self, offset: u64) -> Result<Body, registry::Error> {
        let blob = self.transfer.blob;
        let body = match &self.origin {
            Origin::Held(bytes) => {
                let bytes = bytes.slice((offset as usize).min(bytes.len())..);
                return Ok(stream::iter([Ok(bytes)]).boxed());
            }
            Origin::Kept(path) => file(path.clone(), blob.digest.to_string(), offset).await?,
            Origin::Repository(client, repository) => {
                let trail = self.trail.clone();
                let body = client.blob_from(repository, blob, trail, offset).await?;
                body.boxed()
            }
        };
        let is_source = matches!(&self.origin, Origin::Repository(client, _) if std::ptr::eq(*client, &self.transfer.engine.source));
        let teller = Teller {
            report: self.transfer.report.clone(),
            told: is_source.then(|| self.told.clone()),
            size: blob.size,
            at: offset,
        };
        Ok(teller.tell(body).boxed())
    }
}

async fn file(path: PathBuf, what: String, offset: u64) -> Result<Body, registry::Error> {
    let failed = move |source| registry::Error::File {
        what: what.clone(),
        source,
    };
    let mut file = tokio::fs::File::open(path).await.map_err(failed.clone())?;
    file.seek(SeekFrom::Start(offset))
        .await
        .map_err(failed.clone())?;
    let body = ReaderStream::with_capacity(file, 256 << 10).map_err(failed);
    Ok(body.boxed())
}

/// Tells of the bytes that come through.
struct Teller {
    report: Reporter,
    /// How far was told of, where bytes are told of at all.
    told: Option<Arc<AtomicU64>>,
    size: u64,
    at: u64,
}

impl Teller {
    fn tell(
        self,
        body: Body,
    ) -> impl Stream<Item = Result<Bytes, registry::Error>> + Send + 'static {
        stream::unfold((self, body), |(mut teller, mut body)| async move {
            let piece = body.next().await?;
            if let Ok(bytes) = &piece {
                teller.count(bytes.len() as u64).await;
            }
            Some((piece, (teller, body)))
        })
    }

    async fn count(&mut self, bytes: u64) {
        self.at += bytes;
        self.report.pulse.beat();
        let Some(told) = &self.told else { return };
        let new = self.at.saturating_sub(told.load(Relaxed));
        if new >= TOLD || (new > 0 && self.at == self.size) {
            told.store(self.at, Relaxed);
            self.report.say(Event::Downloaded(new)).await;
        }
    }
}

//! Blobs as they come: verified on the way, and taken up again where the connection broke.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt, stream};
use http::StatusCode;

use crate::{
    model::{
        image::{Digest, Hasher, Repository},
        manifest::Descriptor,
    },
    registry::{
        error::{Error, Problem},
        protocol::{self, Request},
        transport::{Host, Open, backoff},
    },
};

/// A blob's bytes as they come from a registry.
///
/// Length and digest are checked on the way, and the last piece is handed over only when both are right: whoever pipes this into
/// an upload of the announced length has an upload that fails, not one that completes with wrong bytes. Where the connection
/// breaks, what is missing is asked for from there on (`Range`), a bounded number of times without headway; the digest is of the
/// whole all the same. After an error, or the end, it gives nothing more.
pub struct BlobStream {
    pieces: Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>,
    trail: Trail,
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobStream")
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.as_mut().poll_next(context)
    }
}

/// Where a download has been, so that it can be read again from near any byte with the digest still of the whole.
#[derive(Clone, Default)]
pub struct Trail(Arc<Mutex<Vec<(u64, Hasher)>>>);

/// How far the marks of a trail are apart: what is read again and thrown away at most.
const MARKS: u64 = 4 << 20;

/// How much has to come for a broken connection to count as a first one again.
const HEADWAY: u64 = 1 << 20;

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trail")
    }
}

impl Trail {
    fn marks(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Hasher)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the hash of the first `at` bytes, where the last mark is far enough behind.
    fn note(&self, at: u64, hasher: &Hasher) {
        let mut marks = self.marks();
        if marks.last().map_or(0, |(last, _)| *last) + MARKS <= at {
            marks.push((at, hasher.clone()));
        }
    }

    /// Returns the last mark that is not beyond `offset`.
    fn before(&self, offset: u64) -> Option<(u64, Hasher)> {
        let marks = self.marks();
        let mark = marks.iter().rev().find(|(at, _)| *at <= offset);
        mark.cloned()
    }
}

/// A download on its way.
struct Download {
    host: Arc<Host>,
    repository: Repository,
    request: Request,
    /// The answer that is read; none while there is a new one to be asked for.
    open: Option<Open>,
    /// Bytes at the beginning of this answer that came before: a server may answer a question for a part with the whole.
    skip: u64,
    /// Bytes that are read for the hash alone.
    withheld: u64,
    hasher: Hasher,
    trail: Trail,
    expected: Digest,
    size: u64,
    got: u64,
    /// Connections that broke without headway between them.
    broken: u32,
    /// How much had come when the last one broke.
    headway: u64,
    done: bool,
}

impl BlobStream {
    /// Asks for `blob` from `offset` on; for what is before it, the `trail` of an earlier download stands.
    pub(super) async fn open(
        host: Arc<Host>,
        repository: &Repository,
        blob: &Descriptor,
        trail: Trail,
        offset: u64,
    ) -> Result<Self, Error> {
        let (got, hasher) = match trail.before(offset) {
            Some(mark) => mark,
            None => (0, blob.digest.hasher()),
        };
        let mut download = Download {
            request: Request::blob(repository, &blob.digest, got),
            host,
            repository: repository.clone(),
            open: None,
            skip: 0,
            withheld: offset - got,
            hasher,
            trail: trail.clone(),
            expected: blob.digest.clone(),
            size: blob.size,
            got,
            broken: 0,
            headway: got,
            done: false,
        };
        download.ask().await?;
        let pieces = Box::pin(stream::try_unfold(download, Download::next));
        Ok(BlobStream { pieces, trail })
    }

    /// The same stream, whose error becomes what is made of it.
    pub(super) fn or_else(self, change: impl Fn(Error) -> Error + Send + 'static) -> Self {
        BlobStream {
            pieces: Box::pin(self.pieces.map_err(change)),
            trail: self.trail,
        }
    }

    /// Where this download has been, for reading from there again.
    pub fn trail(&self) -> Trail {
        self.trail.clone()
    }
}

impl Download {
    /// Asks for what is missing, and looks whether that is what is answered.
    async fn ask(&mut self) -> Result<(), Error> {
        self.open = None;
        let open = self.host.open(&self.request).await?;
        let headers = open.response.headers();
        let problem = match open.response.status() {
            StatusCode::OK => {
                self.skip = self.got;
                let announced = protocol::content_length(headers);
                announced
                    .filter(|n| *n != self.size)
                    .map(|got| Problem::WrongLength {
                        got,
                        expected: self.size,
                        encoding: encoding(&open),
                    })
            }
            StatusCode::PARTIAL_CONTENT if self.got > 0 => {
                self.skip = 0;
                let part = protocol::content_range(headers);
                (part != Some((self.got, self.size)))
                    .then_some(Problem::WrongRange { from: self.got })
            }
            status => Some(Problem::Unexpected(status)),
        };
        match problem {
            Some(problem) => Err(self.wrong(problem)),
            None => {
                self.open = Some(open);
                Ok(())
            }
        }
    }

    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        loop {
            if self.done {
                return Ok(None);
            }
            let Some(mut piece) = self.piece().await? else {
                // Only an empty blob ends here and is whole.
                self.check_digest()?;
                return Ok(None);
            };
            if self.got == self.size {
                self.check_end().await?;
                self.check_digest()?;
                self.done = true;
            }
            let withheld = self.withheld.min(piece.len() as u64);
            self.withheld -= withheld;
            let piece = piece.split_off(withheld as usize);
            if !piece.is_empty() {
                return Ok(Some((piece, self)));
            }
        }
    }

    /// Returns the next piece that is new, hashed and counted; `None` where all have come. What breaks is taken up again.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        while self.got < self.size {
            let error = match self.chunk().await {
                Ok(Some(piece)) => match self.take(piece)? {
                    Some(piece) => return Ok(Some(piece)),
                    None => continue,
                },
                Ok(None) => self.wrong(Problem::Truncated {
                    got: self.got,
                    expected: self.size,
                }),
                Err(error) => error,
            };
            self.resume(error).await?;
        }
        Ok(None)
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match &mut self.open {
            Some(open) => self.host.chunk(open, &self.request.task).await,
            None => Ok(None),
        }
    }

    /// Takes in a piece; nothing where all of it came before.
    fn take(&mut self, mut piece: Bytes) -> Result<Option<Bytes>, Error> {
        let skipped = self.skip.min(piece.len() as u64);
        self.skip -= skipped;
        let piece = piece.split_off(skipped as usize);
        if piece.is_empty() {
            return Ok(None);
        }
        self.got += piece.len() as u64;
        if self.got > self.size {
            return Err(self.too_long());
        }
        self.hasher.update(&piece);
        self.trail.note(self.got, &self.hasher);
        Ok(Some(piece))
    }

    /// Asks for the rest after a break, as long as there is headway or patience.
    async fn resume(&mut self, mut error: Error) -> Result<(), Error> {
        self.open = None;
        if self.got - self.headway >= HEADWAY {
            self.broken = 0;
        }
        self.headway = self.got;
        let options = self.host.options.clone();
        loop {
            let wait = backoff(&error, self.broken, options.retries, fastrand::f64());
            // Whoever takes the bytes waits as well, and not for ever.
            let Some(wait) = wait.filter(|wait| *wait <= options.timeouts.idle) else {
                return Err(error);
            };
            self.broken += 1;
            tracing::debug!(%error, from = self.got, "taking the download up again");
            tokio::time::sleep(wait).await;
            self.request = Request::blob(&self.repository, &self.expected, self.got);
            // The upload that takes these bytes holds a place already.
            self.request.again = true;
            match self.ask().await {
                Ok(()) => return Ok(()),
                Err(next) if next.is_transient() => error = next,
                Err(next) => return Err(next),
            }
        }
    }

    /// Looks for the body's end, and finds what is too much. One that breaks off here has nothing more to tell.
    async fn check_end(&mut self) -> Result<(), Error> {
        while let Ok(Some(more)) = self.chunk().await {
            self.got += more.len() as u64;
            if self.got > self.size {
                return Err(self.too_long());
            }
        }
        Ok(())
    }

    fn check_digest(&mut self) -> Result<(), Error> {
        let hasher = std::mem::replace(&mut self.hasher, self.expected.hasher());
        if hasher.finish() == self.expected {
            return Ok(());
        }
        let encoding = self.open.as_ref().and_then(encoding);
        Err(self.wrong(Problem::WrongDigest {
            expected: self.expected.clone(),
            encoding,
        }))
    }

    fn too_long(&self) -> Error {
        self.wrong(Problem::WrongLength {
            got: self.got,
            expected: self.size,
            encoding: self.open.as_ref().and_then(encoding),
        })
    }

    fn wrong(&self, problem: Problem) -> Error {
        self.host.answer(&self.request.task, problem)
    }
}

fn encoding(open: &Open) -> Option<String> {
    let encoding = protocol::encoding(open.response.headers())?;
    Some(protocol::printable(encoding, 40))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_gives_the_hash_of_what_came_before_a_byte() {
        let bytes: Vec<u8> = (0..3 * MARKS + 5).map(|n| n as u8).collect();
        let (trail, mut hasher) = (Trail::default(), Hasher::sha256());
        let mut at = 0;
        for piece in bytes.chunks(1 << 20) {
            hasher.update(piece);
            at += piece.len() as u64;
            trail.note(at, &hasher);
        }
        assert_eq!(trail.marks().len(), 3);
        assert!(trail.before(MARKS - 1).is_none());
        let (mark, mut hasher) = trail.before(2 * MARKS + 17).unwrap();
        assert_eq!(mark, 2 * MARKS);
        hasher.update(&bytes[mark as usize..]);
        assert_eq!(hasher.finish(), Digest::of(&bytes));
    }
}

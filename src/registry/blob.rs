//! Blobs as they come: verified on the way.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::{
    model::{
        image::{Digest, Hasher},
        manifest::Descriptor,
    },
    registry::{
        error::{Error, Problem, Task},
        protocol,
        transport::{Host, Open},
    },
};

/// A blob's bytes as they come from a registry.
///
/// Length and digest are checked on the way, and the last piece is handed over only when both are right: whoever pipes this into
/// an upload of the announced length has an upload that fails, not one that completes with wrong bytes. After an error, or the
/// end, it gives nothing more.
pub struct BlobStream(Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>);

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobStream")
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

/// A download on its way.
struct Download {
    host: Arc<Host>,
    open: Open,
    task: Task,
    hasher: Hasher,
    expected: Digest,
    size: u64,
    got: u64,
    done: bool,
}

impl BlobStream {
    /// Reads `blob` from an answer that has begun; an announced length that is not the blob's is refused at once.
    pub(super) fn new(
        host: Arc<Host>,
        open: Open,
        task: Task,
        blob: &Descriptor,
    ) -> Result<Self, Error> {
        let headers = open.response.headers();
        let announced = protocol::content_length(headers).filter(|n| *n != blob.size);
        if let Some(got) = announced {
            let problem = Problem::WrongLength {
                got,
                expected: blob.size,
                encoding: encoding(&open),
            };
            return Err(host.answer(&task, problem));
        }
        let download = Download {
            host,
            open,
            task,
            hasher: blob.digest.hasher(),
            expected: blob.digest.clone(),
            size: blob.size,
            got: 0,
            done: false,
        };
        let pieces = stream::try_unfold(download, Download::next);
        Ok(BlobStream(Box::pin(pieces)))
    }
}

fn encoding(open: &Open) -> Option<String> {
    let encoding = protocol::encoding(open.response.headers())?;
    Some(protocol::printable(encoding, 40))
}

impl Download {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        if self.done {
            return Ok(None);
        }
        let Some(piece) = self.piece().await? else {
            // Only an empty blob ends here and is whole.
            self.check_length()?;
            self.check_digest()?;
            return Ok(None);
        };
        if self.got == self.size {
            // Looks for the body's end, and finds what is too much.
            if self.piece().await?.is_some() {
                self.check_length()?;
            }
            self.check_digest()?;
            self.done = true;
        }
        Ok(Some((piece, self)))
    }

    /// Returns the next piece that is not empty, hashed and counted; `None` at the body's end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(piece) = self.host.chunk(&mut self.open, &self.task).await? else {
                return Ok(None);
            };
            if piece.is_empty() {
                continue;
            }
            self.got += piece.len() as u64;
            if self.got > self.size {
                self.check_length()?;
            }
            self.hasher.update(&piece);
            return Ok(Some(piece));
        }
    }

    fn check_length(&self) -> Result<(), Error> {
        let (got, expected) = (self.got, self.size);
        let problem = match got.cmp(&expected) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Less => Problem::Truncated { got, expected },
            std::cmp::Ordering::Greater => Problem::WrongLength {
                got,
                expected,
                encoding: encoding(&self.open),
            },
        };
        Err(self.host.answer(&self.task, problem))
    }

    fn check_digest(&mut self) -> Result<(), Error> {
        let hasher = std::mem::replace(&mut self.hasher, self.expected.hasher());
        if hasher.finish() == self.expected {
            return Ok(());
        }
        let problem = Problem::WrongDigest {
            expected: self.expected.clone(),
            encoding: encoding(&self.open),
        };
        Err(self.host.answer(&self.task, problem))
    }
}

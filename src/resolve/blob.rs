//! Reads a blob while it comes, on a thread of its own, and keeps it on the way.

use std::io::Read;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{Keeper, failure};
use crate::{
    model::{facts::Failure, image::Repository, manifest::Descriptor},
    registry::Client,
};

/// What a blob's bytes are read from.
pub(super) type Bytewise = Box<dyn Read + Send>;

/// Lets `work` read a blob, from what is kept or from the source; in the latter case it is kept on the way.
///
/// What `work` makes of the bytes is given back only when they are what the digest names. An error of its own comes back as its
/// value.
pub(super) async fn read<T: Send + 'static>(
    source: &Client,
    keeper: &dyn Keeper,
    repository: &Repository,
    blob: &Descriptor,
    work: impl FnOnce(Bytewise) -> T + Send + 'static,
) -> Result<T, Failure> {
    let died = |error: tokio::task::JoinError| {
        Failure::lasting(format!("reading {} of {repository}: {error}", blob.digest))
    };
    if let Some(file) = keeper.open(&blob.digest) {
        let read = tokio::task::spawn_blocking(move || work(Box::new(file)));
        return read.await.map_err(died);
    }
    let mut body = source
        .blob(repository, blob)
        .await
        .map_err(|e| failure(&e))?;
    let mut keep = keeper.begin(&blob.digest);
    let (pieces, inbox) = mpsc::channel::<Bytes>(16);
    let reading = tokio::task::spawn_blocking(move || {
        work(Box::new(Pieces {
            inbox,
            current: Bytes::new(),
        }))
    });
    let mut listening = true;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|e| failure(&e))?;
        if keep.as_mut().is_some_and(|k| !k.write(&piece)) {
            keep = None;
        }
        // The reader may have seen enough. The rest is wanted all the same: the last byte tells whether the blob is what its
        // digest names, and what was read of another one must not be believed.
        listening = listening && pieces.send(piece).await.is_ok();
    }
    drop(pieces);
    let read = reading.await.map_err(died)?;
    if let Some(keep) = keep {
        keep.finish();
    }
    Ok(read)
}

/// Reads pieces that arrive from elsewhere as one stream.
struct Pieces {
    inbox: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.inbox.blocking_recv() {
                Some(next) => self.current = next,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

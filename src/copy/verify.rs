//! Asks the mirror whether it still has what is believed of it, at a pace that leaves room for those who pull from it.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use tokio::time::Instant;

use super::Client;
use crate::{
    model::{
        drift::{Check, Loss, Thing},
        image::{Digest, Registry, Repository},
        manifest::Descriptor,
    },
    registry::{Error, Selector},
};

/// Lets requests pass one after another, no more of them than allowed.
#[derive(Debug)]
pub struct Pace {
    every: Duration,
    next: tokio::sync::Mutex<Instant>,
}

impl Pace {
    /// Lets so many requests pass a second.
    pub fn per_second(requests: u32) -> Self {
        Pace {
            every: Duration::from_secs(1) / requests.max(1),
            next: tokio::sync::Mutex::new(Instant::now()),
        }
    }

    /// Waits for the turn of one request.
    async fn turn(&self) {
        let mine = {
            let mut next = self.next.lock().await;
            let mine = (*next).max(Instant::now());
            *next = mine + self.every;
            mine
        };
        tokio::time::sleep_until(mine).await;
    }
}

/// Looks at one thing after another. It reads, it writes nothing.
pub struct Inspector<'a> {
    mirror: &'a Client,
    pace: &'a Pace,
    /// Whether bytes are read, not only asked for.
    reads: bool,
    /// What was read already: registries keep a blob once for all their repositories.
    read: Mutex<HashSet<(Registry, Digest)>>,
    bytes: AtomicU64,
}

impl<'a> Inspector<'a> {
    /// Prepares a look at the mirror; with `reads` all bytes are read and compared with their digests.
    pub fn new(mirror: &'a Client, pace: &'a Pace, reads: bool) -> Self {
        Inspector {
            mirror,
            pace,
            reads,
            read: Mutex::default(),
            bytes: AtomicU64::new(0),
        }
    }

    /// How many bytes of blobs were read.
    pub fn bytes_read(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Looks at all of `checks`, `width` of them side by side, and gives each with what is wrong with it; an error where the mirror did not say.
    pub fn look_at<'b>(
        &'b self,
        checks: &'b [Check],
        width: usize,
    ) -> impl Stream<Item = (&'b Check, Result<Option<Loss>, Error>)> + 'b {
        let looks = checks
            .iter()
            .map(move |check| async move { (check, self.look(check).await) });
        stream::iter(looks).buffer_unordered(width.max(1))
    }

    async fn look(&self, check: &Check) -> Result<Option<Loss>, Error> {
        let Check {
            repository, digest, ..
        } = check;
        match &check.thing {
            Thing::Manifest(tags) => {
                let mut moved = None;
                let mut seen = false;
                for tag in tags {
                    // That a tag names it says that it is there, too.
                    self.pace.turn().await;
                    let name = Selector::Tag(tag.clone());
                    let named = self.mirror.head(repository, &name).await?;
                    let named = named.map(|head| head.digest);
                    match named.as_ref() == Some(digest) {
                        true => seen = true,
                        false => moved = Some(Loss::Moved(tag.clone(), named)),
                    }
                }
                let lost = match seen && !self.reads {
                    true => None,
                    false => self.manifest(repository, digest).await?,
                };
                Ok(lost.or(moved))
            }
            Thing::Blob(Some(size)) if self.reads && self.is_first(repository, digest) => {
                self.read_blob(repository, digest, *size).await
            }
            Thing::Blob(_) => {
                self.pace.turn().await;
                let has = self.mirror.has_blob(repository, digest).await?;
                Ok((!has).then_some(Loss::Missing))
            }
        }
    }

    async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Loss>, Error> {
        self.pace.turn().await;
        let name = Selector::Digest(digest.clone());
        if self.reads {
            return lost(self.mirror.manifest(repository, &name).await);
        }
        let found = self.mirror.head(repository, &name).await?;
        Ok(found.is_none().then_some(Loss::Missing))
    }

    async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<Loss>, Error> {
        self.pace.turn().await;
        let blob = Descriptor {
            media_type: String::new(),
            digest: digest.clone(),
            size,
            platform: None,
        };
        lost(self.drain(repository, &blob).await)
    }

    /// Reads a blob to its end and keeps nothing of it.
    async fn drain(&self, repository: &Repository, blob: &Descriptor) -> Result<(), Error> {
        let mut stream = self.mirror.blob(repository, blob).await?;
        while let Some(piece) = stream.next().await {
            let read = piece?.len() as u64;
            self.bytes.fetch_add(read, Ordering::Relaxed);
        }
        Ok(())
    }

    fn is_first(&self, repository: &Repository, digest: &Digest) -> bool {
        let key = (repository.registry().clone(), digest.clone());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(key)
    }
}

/// What a reading that failed says of what was read.
fn lost<T>(read: Result<T, Error>) -> Result<Option<Loss>, Error> {
    match read {
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() => Ok(Some(Loss::Missing)),
        Err(error) if error.is_wrong_bytes() => Ok(Some(Loss::Corrupt)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_pass_than_allowed() {
        let pace = Pace::per_second(20);
        let begin = Instant::now();
        futures_util::future::join_all((0..41).map(|_| pace.turn())).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(2));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begin = Instant::now();
        // What was not used is not saved up.
        futures_util::future::join_all((0..21).map(|_| pace.turn())).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
    }
}

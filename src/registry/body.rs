//! Bodies of uploads as they go: measured, and watched for silence.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Instant;

use crate::registry::{
    connection::Timeouts,
    error::{Error, Fault, Task},
};

/// What is known of a body on its way out, shared by the body and by who waits for the answer.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    moved: Instant,
    whole: bool,
    failure: Option<Error>,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            moved: Instant::now(),
            whole: false,
            failure: None,
        };
        Arc::new(Progress {
            state: Mutex::new(state),
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts silence from now on.
    pub(super) fn begin(&self) {
        self.with(|state| state.moved = Instant::now());
    }

    /// Whether all of the body was sent, so that the registry may have taken it whatever came back.
    pub(super) fn is_whole(&self) -> bool {
        self.with(|state| state.whole)
    }

    /// Takes the failure of the body itself: then it, not the connection that broke for it, is the cause.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.with(|state| state.failure.take())
    }

    /// Awaits `answer` as long as the body moves.
    ///
    /// The body's source has its own limit for silence; twice that is borne here, so that the one who is at fault is named.
    pub(super) async fn watch<T>(
        &self,
        timeouts: Timeouts,
        answer: impl Future<Output = T>,
    ) -> Result<T, Fault> {
        let limit = || match self.with(|state| state.whole) {
            true => timeouts.commit,
            false => timeouts.idle * 2,
        };
        tokio::pin!(answer);
        loop {
            let deadline = self.with(|state| state.moved) + limit();
            tokio::select! {
                answer = &mut answer => return Ok(answer),
                () = tokio::time::sleep_until(deadline) => {}
            }
            if self.with(|state| state.moved) + limit() <= Instant::now() {
                return Err(Fault::Silent(limit()));
            }
        }
    }
}

/// A body that fails rather than be of another length than was announced.
pub(super) struct Measured {
    body: Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>,
    progress: Arc<Progress>,
    task: Task,
    size: u64,
    sent: u64,
}

impl Measured {
    pub(super) fn new(
        body: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
        progress: Arc<Progress>,
        task: Task,
        size: u64,
    ) -> Self {
        // Where nothing is left to send, the answer is all that is waited for.
        if size == 0 {
            progress.with(|state| state.whole = true);
        }
        Measured {
            body: Box::pin(body),
            progress,
            task,
            size,
            sent: 0,
        }
    }

    fn fail(&self, failure: Error) -> io::Error {
        self.progress.with(|state| state.failure = Some(failure));
        io::Error::other("the body cannot be sent")
    }

    fn wrong_length(&self) -> io::Error {
        self.fail(Error::Body {
            task: Box::new(self.task.clone()),
            got: self.sent,
            expected: self.size,
        })
    }
}

impl Stream for Measured {
    type Item = Result<Bytes, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = match self.body.as_mut().poll_next(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(piece) => piece,
        };
        Poll::Ready(match piece {
            Some(Ok(piece)) => {
                self.sent += piece.len() as u64;
                if self.sent > self.size {
                    return Poll::Ready(Some(Err(self.wrong_length())));
                }
                let whole = self.sent == self.size;
                self.progress.with(|state| {
                    state.moved = Instant::now();
                    state.whole = whole;
                });
                Some(Ok(piece))
            }
            Some(Err(error)) => Some(Err(self.fail(error))),
            None if self.sent < self.size => Some(Err(self.wrong_length())),
            None => None,
        })
    }
}

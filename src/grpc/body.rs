//! Bodies with bounds: requests that are too large or too slow end with an error, answers end when their caller may no longer have them.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::{Code, Status};

use crate::grpc::{access::Call, convert::refusal};

/// How long a request may take to come in, whole.
const SLOWEST_REQUEST: Duration = Duration::from_secs(60);

/// The largest request that is taken without a look at how many such there are.
pub const SMALL_REQUEST: usize = 1 << 20;

/// What a call holds on to until its answer is over.
#[derive(Default)]
pub struct Held {
    _call: Option<Call>,
    large: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Held {
    /// Holds a call of a caller.
    pub fn of(call: Call) -> Arc<Self> {
        Arc::new(Held {
            _call: Some(call),
            ..Held::default()
        })
    }

    fn take_large(&self, of: &Arc<Semaphore>) -> bool {
        let mut large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        if large.is_none() {
            *large = Arc::clone(of).try_acquire_owned().ok();
        }
        large.is_some()
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

/// A request that comes in.
pub struct Intake {
    inner: tonic::body::Body,
    room: usize,
    most: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    large: Arc<Semaphore>,
    held: Arc<Held>,
}

impl Intake {
    /// Lets a request in that has `most` bytes at most.
    pub fn new(
        inner: tonic::body::Body,
        most: usize,
        large: Arc<Semaphore>,
        held: Arc<Held>,
    ) -> Self {
        Intake {
            inner,
            room: most,
            most,
            deadline: Some(Box::pin(sleep(SLOWEST_REQUEST))),
            large,
            held,
        }
    }

    /// For a stream of requests, which is as long as the client likes.
    pub fn unhurried(self) -> Self {
        Intake {
            deadline: None,
            ..self
        }
    }

    fn take(&mut self, bytes: usize) -> Result<(), Status> {
        self.room = self.room.checked_sub(bytes).ok_or_else(|| {
            refusal(
                Code::ResourceExhausted,
                "TOO_LARGE",
                format!("the request is larger than {} bytes", self.most),
            )
        })?;
        let is_small = self.most - self.room <= SMALL_REQUEST;
        match is_small || self.held.take_large(&self.large) {
            true => Ok(()),
            false => Err(refusal(
                Code::ResourceExhausted,
                "TOO_MANY_CALLS",
                "too many large requests are coming in; send this one again later",
            )),
        }
    }
}

impl Body for Intake {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            let bytes = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                _ => 0,
            };
            return Poll::Ready(match this.take(bytes) {
                Ok(()) => frame,
                Err(refused) => Some(Err(refused)),
            });
        }
        let is_over = |deadline: &mut Pin<Box<Sleep>>| deadline.as_mut().poll(cx).is_ready();
        match this.deadline.as_mut().is_some_and(is_over) {
            true => Poll::Ready(Some(Err(refusal(
                Code::DeadlineExceeded,
                "REQUEST_TOO_SLOW",
                format!(
                    "the request did not come in whole within {} seconds",
                    SLOWEST_REQUEST.as_secs()
                ),
            )))),
            false => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Ends once the caller may no longer have the answer, with why.
pub type Revoked = Pin<Box<dyn Future<Output = Status> + Send>>;

/// An answer that goes out.
pub struct Outflow {
    inner: tonic::body::Body,
    revoked: Mutex<Revoked>,
    is_over: bool,
    _held: Arc<Held>,
}

impl Outflow {
    /// Lets an answer out until `revoked`.
    pub fn new(inner: tonic::body::Body, revoked: Revoked, held: Arc<Held>) -> Self {
        Outflow {
            inner,
            revoked: Mutex::new(revoked),
            is_over: false,
            _held: held,
        }
    }
}

impl Body for Outflow {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        let revoked = this
            .revoked
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Poll::Ready(status) = revoked.as_mut().poll(cx) {
            this.is_over = true;
            let mut trailers = HeaderMap::new();
            return Poll::Ready(match status.add_header(&mut trailers) {
                Ok(()) => Some(Ok(Frame::trailers(trailers))),
                Err(status) => Some(Err(status)),
            });
        }
        Pin::new(&mut this.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of these pieces that, after them, says nothing for ever.
    struct Pieces(Vec<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.pop() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                None => Poll::Pending,
            }
        }
    }

    fn pieces(sizes: &[usize]) -> tonic::body::Body {
        let piece = |size: &usize| Bytes::from(vec![0; *size]);
        tonic::body::Body::new(Pieces(sizes.iter().rev().map(piece).collect()))
    }

    async fn next<B: Body<Data = Bytes, Error = Status> + Unpin>(
        body: &mut B,
    ) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    fn intake(sizes: &[usize], most: usize, large: &Arc<Semaphore>) -> Intake {
        Intake::new(
            pieces(sizes),
            most,
            Arc::clone(large),
            Arc::new(Held::default()),
        )
    }

    async fn reason(intake: &mut Intake) -> String {
        let refused = next(intake).await.unwrap().unwrap_err();
        let reason = refused.metadata().get(crate::grpc::convert::REASON);
        reason.unwrap().to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_request_has_so_many_bytes_and_no_more() {
        let large = Arc::new(Semaphore::new(1));
        let mut intake = intake(&[60, 40, 1], 100, &large);
        assert!(next(&mut intake).await.unwrap().is_ok());
        assert!(next(&mut intake).await.unwrap().is_ok());
        assert_eq!(reason(&mut intake).await, "TOO_LARGE");
    }

    #[tokio::test]
    async fn large_requests_are_taken_one_after_the_other_and_small_ones_meanwhile() {
        let large = Arc::new(Semaphore::new(1));
        let sizes = [SMALL_REQUEST, 1, 1];
        let mut first = intake(&sizes, 2 * SMALL_REQUEST, &large);
        let mut second = intake(&sizes, 2 * SMALL_REQUEST, &large);
        for _ in 0..2 {
            assert!(next(&mut first).await.unwrap().is_ok());
        }
        assert!(next(&mut second).await.unwrap().is_ok());
        assert_eq!(reason(&mut second).await, "TOO_MANY_CALLS");
        drop(first);
        assert!(next(&mut second).await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_in_ends() {
        let large = Arc::new(Semaphore::new(1));
        let mut slow = intake(&[5], 100, &large);
        assert!(next(&mut slow).await.unwrap().is_ok());
        assert_eq!(reason(&mut slow).await, "REQUEST_TOO_SLOW");
        let mut unhurried = intake(&[], 100, &large).unhurried();
        let waited = tokio::time::timeout(2 * SLOWEST_REQUEST, next(&mut unhurried)).await;
        assert!(waited.is_err());
    }

    #[tokio::test]
    async fn an_answer_ends_with_the_reason_when_it_is_revoked() {
        let (revoke, revoked) = tokio::sync::oneshot::channel::<()>();
        let revoked: Revoked = Box::pin(async {
            let _ = revoked.await;
            Status::unauthenticated("no more")
        });
        let mut outflow = Outflow::new(pieces(&[3]), revoked, Arc::new(Held::default()));
        assert!(next(&mut outflow).await.unwrap().unwrap().is_data());
        revoke.send(()).unwrap();
        let last = next(&mut outflow).await.unwrap().unwrap();
        let trailers = last.into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "16");
        assert!(next(&mut outflow).await.is_none());
    }
}

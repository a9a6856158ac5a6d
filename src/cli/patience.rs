//! Giving up on a daemon that does not answer.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{
    Status,
    codegen::{Service, http},
};

use crate::grpc::convert::REASON;

/// Methods that the daemon answers out of its memory or its own disk. The others read upstreams or the mirror, plan, or wait until a directory has
/// settled, which may take minutes.
const SHORT: [&str; 10] = [
    "CancelRun",
    "ExplainImage",
    "GetResources",
    "GetRun",
    "GetStatus",
    "ListPlanSteps",
    "ListRuns",
    "WatchEvents",
    "WatchRun",
    "WatchStatus",
];

type BoxError = Box<dyn Error + Send + Sync>;

/// A channel on which short requests are answered within a time; of a stream its beginning.
#[derive(Debug, Clone)]
pub struct Patient<S> {
    inner: S,
    limit: Duration,
    endpoint: Arc<str>,
}

impl<S> Patient<S> {
    /// Waits `limit` for each answer of the daemon at `endpoint`.
    pub fn new(inner: S, limit: Duration, endpoint: &str) -> Self {
        let endpoint = Arc::from(endpoint);
        Patient {
            inner,
            limit,
            endpoint,
        }
    }
}

impl<S, B> Service<http::Request<B>> for Patient<S>
where
    S: Service<http::Request<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let is_short = is_short(request.uri().path());
        let asked = Instant::now();
        let answer = self.inner.call(request);
        if !is_short {
            return Box::pin(async { answer.await.map_err(Into::into) });
        }
        let (limit, endpoint) = (self.limit, Arc::clone(&self.endpoint));
        Box::pin(async move {
            match tokio::time::timeout(limit, answer).await {
                Ok(Ok(answer)) => Ok(answer),
                // A ping without an answer, on a machine so busy that both limits have passed, is the same.
                Ok(Err(error)) if asked.elapsed() < limit => Err(error.into()),
                Ok(Err(_)) | Err(_) => Err(gave_up(limit, &endpoint).into()),
            }
        })
    }
}

fn is_short(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    SHORT.contains(&method)
}

/// The daemon may be well again later: for who waits it is as one that cannot be reached.
fn gave_up(limit: Duration, endpoint: &str) -> Status {
    let mut status = Status::unavailable(format!(
        "the daemon at {endpoint} did not answer within {limit:?}; does it hang, or has it too much to do? --request-timeout waits longer"
    ));
    let reason = tonic::metadata::MetadataValue::from_static("REQUEST_TIMED_OUT");
    status.metadata_mut().insert(REASON, reason);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_method_is_one_of_the_api() {
        let proto = include_str!("../../proto/imageset/v1/mirror.proto");
        for method in SHORT {
            assert!(proto.contains(&format!("rpc {method}(")), "{method}");
        }
        assert!(is_short("/imageset.v1.MirrorService/GetStatus"));
        for method in [
            "CreatePlan",
            "ApplyPlan",
            "VerifyMirror",
            "GetPlan",
            "ValidateImageSets",
        ] {
            assert!(!is_short(&format!("/imageset.v1.MirrorService/{method}")));
        }
    }

    /// Answers to no request at all.
    #[derive(Clone)]
    struct Silence;

    impl Service<http::Request<()>> for Silence {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Pending<Result<(), BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<()>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn short_requests_end_and_long_ones_go_on() {
        let mut silence = Patient::new(Silence, Duration::from_secs(60), "unix:///d.sock");
        let mut ask = |method: &str| {
            let uri = format!("http://d/imageset.v1.MirrorService/{method}");
            silence.call(http::Request::builder().uri(uri).body(()).unwrap())
        };
        let (short, long) = (ask("GetStatus"), ask("CreatePlan"));
        let refused = short.await.unwrap_err();
        let status = refused.downcast_ref::<Status>().unwrap();
        let failure = crate::cli::failure::Failure::from(status.clone());
        assert_eq!(
            (failure.reason.as_str(), failure.exit() as u8),
            ("REQUEST_TIMED_OUT", 5)
        );
        assert_eq!(
            failure.message,
            "the daemon at unix:///d.sock did not answer within 60s; does it hang, or has it too much to do? --request-timeout waits longer"
        );
        let hour = tokio::time::timeout(Duration::from_secs(3600), long);
        assert!(hour.await.is_err());
    }
}

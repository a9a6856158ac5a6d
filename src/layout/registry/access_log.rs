//! One line for each request, written when its answer has been sent or given up.

use std::{
    io::Write,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::Request,
};
use futures_util::Stream;
use http::{HeaderMap, StatusCode, header};

/// Where the lines go.
pub(super) type Sink = Arc<Mutex<Box<dyn Write + Send>>>;

/// The line of a request that is being answered. Dropping it writes it.
pub(super) struct Line {
    sink: Option<Sink>,
    peer: SocketAddr,
    began: jiff::Timestamp,
    request: String,
    agent: String,
    /// What was answered.
    pub(super) status: StatusCode,
    sent: u64,
    received: Arc<AtomicU64>,
}

/// Begins a line, and counts what arrives of the request's body.
pub(super) fn begin(sink: Option<Sink>, peer: SocketAddr, request: Request) -> (Line, Request) {
    let received = Arc::new(AtomicU64::new(0));
    let line = Line {
        sink,
        peer,
        began: jiff::Timestamp::now(),
        request: format!(
            "{} {} {:?}",
            request.method(),
            request.uri(),
            request.version()
        ),
        agent: agent(request.headers()),
        status: StatusCode::INTERNAL_SERVER_ERROR,
        sent: 0,
        received: Arc::clone(&received),
    };
    let request = request.map(|body| {
        Body::from_stream(Received {
            body: body.into_data_stream(),
            received,
        })
    });
    (line, request)
}

/// Counts what is sent of an answer's body; the line is written with the body's end.
pub(super) fn counted(body: Body, line: Line) -> Body {
    Body::new(Sent { body, line })
}

impl Drop for Line {
    fn drop(&mut self) {
        let Some(sink) = &self.sink else { return };
        let text = format!(
            "{} - - [{}] \"{}\" {} {} \"-\" \"{}\" {}\n",
            self.peer.ip(),
            self.began.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            self.request.replace('"', "%22"),
            self.status.as_u16(),
            self.sent,
            self.agent,
            self.received.load(Ordering::Relaxed),
        );
        let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = sink.write_all(text.as_bytes()).and_then(|()| sink.flush()) {
            tracing::warn!(%error, "the registry's access log cannot be written");
        }
    }
}

fn agent(headers: &HeaderMap) -> String {
    let text = headers
        .get(header::USER_AGENT)
        .and_then(|v| v.to_str().ok());
    let printable = |c: &char| !c.is_control() && *c != '"' && *c != '\\';
    text.unwrap_or("-")
        .chars()
        .filter(printable)
        .take(200)
        .collect()
}

struct Received {
    body: BodyDataStream,
    received: Arc<AtomicU64>,
}

impl Stream for Received {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.body).poll_next(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            self.received
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        polled
    }
}

/// A body of the same length and bytes, so that `Content-Length` stays what it was.
struct Sent {
    body: Body,
    line: Line,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            self.line.sent += bytes.len() as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

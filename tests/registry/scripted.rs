//! A server that answers as a test says, and remembers what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Response},
};

/// A request as the server got it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `GET /v2/...?...`
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    /// `None` where it broke off.
    pub(crate) body: Option<Vec<u8>>,
}

impl Seen {
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.headers.get("authorization")?.to_str().ok()
    }
}

/// A running server; its runtime is the test's, and it ends with it.
pub(crate) struct Scripted {
    pub(crate) host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    /// Answers every request by `answer`, which is given the server's `host:port` too.
    pub(crate) async fn start<F>(answer: F) -> Self
    where
        F: Fn(&Seen, &str) -> Response<Body> + Clone + Send + Sync + 'static,
    {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = tokio::net::TcpListener::bind(any).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, own) = (seen.clone(), host.clone());
        let app = Router::new().fallback(move |request: Request| {
            let (kept, own, answer) = (kept.clone(), own.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let seen = Seen {
                    line: format!("{} {}", parts.method, parts.uri),
                    headers: parts.headers,
                    body: to_bytes(body, usize::MAX).await.ok().map(|b| b.to_vec()),
                };
                kept.lock().unwrap().push(seen.clone());
                answer(&seen, &own)
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Scripted { host, seen }
    }

    /// Returns what it was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns the request lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|s| s.line).collect()
    }
}

/// An answer with these headers.
pub(crate) fn answer(
    status: u16,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

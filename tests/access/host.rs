//! A host of a site: TLS, a record of all it gets, and what it does with a request.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, Method, Response, header},
    serve::Listener,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A request as a host got it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `GET /v2/...?...`
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
}

/// What a host got so far.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) requests: Mutex<Vec<Seen>>,
    /// The server names that clients named, and whether they showed a certificate.
    pub(crate) handshakes: Mutex<Vec<(Option<String>, bool)>>,
}

impl Record {
    pub(crate) fn lines(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|seen| seen.line.clone()).collect()
    }

    pub(crate) fn count(&self, begins: &str) -> usize {
        self.lines()
            .iter()
            .filter(|l| l.starts_with(begins))
            .count()
    }
}

/// What a host does.
#[derive(Clone)]
pub(crate) enum Part {
    /// Passes everything on to a registry.
    Registry(String),
    /// A registry that wants tokens of a service.
    Guarded {
        backend: String,
        service: String,
        tokens: Arc<Tokens>,
    },
    /// A registry whose blobs are elsewhere.
    Redirecting { backend: String, store: String },
    /// A store of a registry's blobs.
    Store(String),
    /// A token service.
    Service(Arc<Tokens>),
}

/// The tokens of a service, and how they end.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// Who may have one, as `user:password`.
    pub(crate) user: String,
    issued: AtomicUsize,
    valid: Mutex<BTreeSet<String>>,
    /// How many uploads outlive their token: it is good when they begin, and not any more when they end.
    pub(crate) outlived: AtomicUsize,
}

/// Begins every token, so that one that goes astray is known.
pub(crate) const TOKEN: &str = "secret-token-";

impl Tokens {
    pub(crate) fn of(user: &str, outlived: usize) -> Arc<Self> {
        Arc::new(Tokens {
            user: user.to_owned(),
            outlived: AtomicUsize::new(outlived),
            ..Tokens::default()
        })
    }

    pub(crate) fn issued(&self) -> usize {
        self.issued.load(SeqCst)
    }

    fn issue(&self, headers: &HeaderMap) -> Response<Body> {
        let wanted = format!("Basic {}", STANDARD.encode(&self.user));
        if text(headers, &header::AUTHORIZATION) != Some(&wanted) {
            let said = r#"{"details":"incorrect username or password"}"#;
            return answer(401, &[], said);
        }
        let token = format!("{TOKEN}{}", self.issued.fetch_add(1, SeqCst));
        self.valid.lock().unwrap().insert(token.clone());
        answer(
            200,
            &[],
            format!(r#"{{"token":"{token}","expires_in":60}}"#),
        )
    }

    fn held(&self, headers: &HeaderMap) -> Option<String> {
        let token = text(headers, &header::AUTHORIZATION)?.strip_prefix("Bearer ")?;
        self.valid.lock().unwrap().get(token).cloned()
    }

    fn end(&self, token: &str) {
        self.valid.lock().unwrap().remove(token);
    }

    /// Whether this upload is one that outlives its token.
    fn outlives(&self) -> bool {
        let less = |n: usize| n.checked_sub(1);
        self.outlived.fetch_update(SeqCst, SeqCst, less).is_ok()
    }
}

/// A running host; it ends with the runtime it was started in.
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) record: Arc<Record>,
}

impl Host {
    /// Starts a host on this loopback address.
    pub(crate) async fn start(ip: [u8; 4], tls: ServerConfig, part: Part) -> Self {
        let any = SocketAddr::from((IpAddr::from(ip), 0));
        let listener = TcpListener::bind(any).await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let listener = TlsListener {
            listener,
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            record: record.clone(),
        };
        // Another host may have done it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder()
            .tls_certs_only([])
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let kept = record.clone();
        let app = Router::new().fallback(move |request: Request| {
            let seen = Seen {
                line: format!("{} {}", request.method(), request.uri()),
                headers: request.headers().clone(),
            };
            kept.requests.lock().unwrap().push(seen);
            let (part, client) = (part.clone(), client.clone());
            async move { part.answer(request, &client).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Host { address, record }
    }
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    record: Arc<Record>,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = self.listener.accept().await.unwrap();
            // Who does not trust this server, or shows nothing where something is wanted, is gone again.
            let Ok(stream) = self.acceptor.accept(stream).await else {
                continue;
            };
            let (_, tls) = stream.get_ref();
            let named = tls.server_name().map(str::to_owned);
            let shown = tls.peer_certificates().is_some();
            self.record.handshakes.lock().unwrap().push((named, shown));
            return (stream, peer);
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl Part {
    async fn answer(self, request: Request, client: &reqwest::Client) -> Response<Body> {
        match self {
            Part::Registry(backend) => forward(request, client, &backend).await,
            Part::Service(tokens) => tokens.issue(request.headers()),
            Part::Store(backend) => {
                // Signed addresses are the store's only check, as with S3.
                let signed = request.uri().query() == Some("signature=of-the-registry");
                match signed {
                    true => forward(request, client, &backend).await,
                    false => answer(403, &[], ""),
                }
            }
            Part::Redirecting { backend, store } => {
                let path = request.uri().path().to_owned();
                if *request.method() == Method::GET && path.contains("/blobs/sha256:") {
                    let to = format!("https://{store}{path}?signature=of-the-registry");
                    return answer(307, &[("location", &to)], "");
                }
                forward(request, client, &backend).await
            }
            Part::Guarded {
                backend,
                service,
                tokens,
            } => guarded(request, client, &backend, &service, &tokens).await,
        }
    }
}

async fn guarded(
    mut request: Request,
    client: &reqwest::Client,
    backend: &str,
    service: &str,
    tokens: &Tokens,
) -> Response<Body> {
    let challenge = format!(r#"Bearer realm="https://{service}/token",service="reg""#);
    let refused = || answer(401, &[("www-authenticate", &challenge)], "");
    let Some(token) = tokens.held(request.headers()) else {
        return refused();
    };
    let uploads = *request.method() == Method::PUT && request.uri().path().contains("/uploads/");
    if uploads && tokens.outlives() {
        to_bytes(request.into_body(), usize::MAX).await.unwrap();
        tokens.end(&token);
        return refused();
    }
    request.headers_mut().remove(header::AUTHORIZATION);
    forward(request, client, backend).await
}

/// Passes a request on to a registry without TLS, body and answer as streams.
async fn forward(request: Request, client: &reqwest::Client, backend: &str) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let query = match parts.uri.query() {
        Some(query) if query != "signature=of-the-registry" => format!("?{query}"),
        _ => String::new(),
    };
    let mut out = client.request(
        parts.method.clone(),
        format!("http://{backend}{path}{query}"),
    );
    for (name, value) in &parts.headers {
        if ![header::HOST, header::CONNECTION, header::TRANSFER_ENCODING].contains(name) {
            out = out.header(name, value);
        }
    }
    // A blob may come with the `POST` that begins its upload.
    if [Method::PUT, Method::POST, Method::PATCH].contains(&parts.method) {
        out = out.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    let response = out.send().await.unwrap();
    let mut answer = Response::builder().status(response.status());
    for (name, value) in response.headers() {
        let own = [header::CONNECTION, header::TRANSFER_ENCODING].contains(name);
        // The registry names itself as it was asked, without the TLS before it.
        let location = value.to_str().ok().filter(|_| *name == header::LOCATION);
        match location.and_then(|l| l.strip_prefix(&format!("http://{backend}"))) {
            Some(path) => answer = answer.header(name, path),
            None if own => {}
            None => answer = answer.header(name, value),
        }
    }
    answer
        .body(Body::from_stream(response.bytes_stream()))
        .unwrap()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

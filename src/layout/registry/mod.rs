//! A registry over HTTP/1.1 that serves an image layout: pull and push of the OCI distribution spec 1.1.
//!
//! It knows no users, no TLS and no deletion: it stands on a loopback or behind something that does. A blob is visible in every
//! repository of the folder, so mounts always succeed; a manifest only in those it was pushed to. Blobs pass through in pieces; only
//! manifests are held whole.

mod access_log;

mod blobs;

mod body;

mod lists;

mod manifests;

mod refusal;

mod route;

mod uploads;

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode};
use tokio::net::TcpListener;

use self::{access_log::Sink, refusal::Refusal, route::Route, uploads::Uploads};
use super::{Error, Layout};

/// How a folder is served.
pub struct Options {
    /// Where a line goes for every request: Apache's combined format, and the bytes of the request's body as one more field.
    pub access_log: Option<Box<dyn io::Write + Send>>,
    /// Whether pushes are refused.
    pub read_only: bool,
    /// The largest blob that is taken, in bytes.
    pub max_blob_bytes: u64,
}

impl Default for Options {
    /// No log, pushes welcome, blobs up to 100 GiB.
    fn default() -> Self {
        Options {
            access_log: None,
            read_only: false,
            max_blob_bytes: 100 << 30,
        }
    }
}

/// Serves the image layout in `folder` until `shutdown` is done and the requests under way have been answered.
///
/// The folder is made where it is missing, and is this process's alone while it is served.
pub async fn serve(
    folder: &Path,
    listener: TcpListener,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let layout = Layout::open(folder)?;
    let sink = options.access_log.map(|log| Arc::new(Mutex::new(log)));
    let registry = Arc::new(Registry {
        layout: Arc::new(layout),
        uploads: Uploads::default(),
        read_only: options.read_only,
        max_blob_bytes: options.max_blob_bytes,
    });
    let app = Router::new().fallback(
        move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
            answer(Arc::clone(&registry), sink.clone(), peer, request)
        },
    );
    axum::serve(
        listener,
        app.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(shutdown)
    .await
    .map_err(|source| Error::File {
        doing: "serving",
        path: folder.to_owned(),
        source,
    })
}

/// What all requests share.
struct Registry {
    layout: Arc<Layout>,
    uploads: Uploads,
    read_only: bool,
    max_blob_bytes: u64,
}

impl Registry {
    /// Does file work away from the threads that serve connections.
    async fn with_layout<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let layout = Arc::clone(&self.layout);
        let done = tokio::task::spawn_blocking(move || work(&layout)).await;
        Ok(done.map_err(Refusal::internal)??)
    }
}

async fn answer(
    registry: Arc<Registry>,
    sink: Option<Sink>,
    peer: SocketAddr,
    request: Request,
) -> Response {
    let (mut line, request) = access_log::begin(sink, peer, request);
    // A task of its own: what has arrived of an upload is accounted for also when the client goes away.
    let handled = tokio::spawn(async move { route(&registry, request).await }).await;
    let mut response = match handled {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => refusal.into_response(),
        Err(error) => Refusal::internal(error).into_response(),
    };
    let version = HeaderValue::from_static("registry/2.0");
    let headers = response.headers_mut();
    headers.insert("docker-distribution-api-version", version);
    line.status = response.status();
    response.map(|body| access_log::counted(body, line))
}

async fn route(registry: &Registry, request: Request) -> Result<Response, Refusal> {
    let route = Route::parse(request.uri().path())?;
    let method = request.method().clone();
    let reads = method == Method::GET || method == Method::HEAD;
    if registry.read_only && !reads {
        return Err(Refusal::unsupported("this registry takes no pushes"));
    }
    match route {
        Route::Base if reads => Ok(Response::new(Body::from("{}"))),
        Route::Catalog if reads => lists::catalog(registry, request.uri()),
        Route::Tags(name) if reads => lists::tags(registry, &name, request.uri()),
        Route::Manifest(name, key) if reads => manifests::get(registry, name, key, request).await,
        Route::Manifest(name, key) if method == Method::PUT => {
            manifests::put(registry, name, key, request).await
        }
        Route::Blob(_, digest) if reads => blobs::get(registry, digest, request).await,
        Route::Uploads(name) if method == Method::POST => {
            uploads::begin(registry, &name, request).await
        }
        Route::Upload(name, id) => match method {
            Method::GET => uploads::status(registry, &name, &id).await,
            Method::PATCH => uploads::patch(registry, &name, &id, request).await,
            Method::PUT => uploads::put(registry, &name, &id, request).await,
            Method::DELETE => uploads::cancel(registry, &name, &id).await,
            _ => Err(Refusal::unsupported(
                "an upload knows GET, PATCH, PUT and DELETE",
            )),
        },
        _ => Err(Refusal::unsupported("this path does not know the method")),
    }
}

/// Begins an answer without a body.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Adds a header whose value is made of checked names and numbers.
fn with_header(mut response: Response, name: &'static str, value: String) -> Response {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

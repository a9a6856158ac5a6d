//! Uploads: blobs on their way in, at once or in pieces.
//!
//! **Invariant:** what is counted as received is in the file and in the hash, also when a client breaks off in the middle.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderMap, StatusCode, header};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::{Registry, body, empty, refusal::Refusal, route, with_header};
use crate::{
    layout::Staged,
    model::image::{Digest, Hasher},
};

/// How many uploads may be open.
const MAX_OPEN: usize = 1000;

/// How long an upload stays open that nobody asks for.
const IDLE: Duration = Duration::from_secs(3600);

/// The uploads that are open, by repository and id. A restart forgets them.
#[derive(Default)]
pub(super) struct Uploads(Mutex<HashMap<(String, String), Arc<Open>>>);

struct Open {
    used: Mutex<Instant>,
    /// `None` once it has ended.
    upload: tokio::sync::Mutex<Option<Upload>>,
}

struct Upload {
    staged: Staged,
    file: File,
    hasher: Hasher,
    length: u64,
}

impl Uploads {
    fn open(&self) -> MutexGuard<'_, HashMap<(String, String), Arc<Open>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, name: &str, upload: Upload) -> Result<String, Refusal> {
        let mut open = self.open();
        open.retain(|_, open| Arc::strong_count(open) > 1 || lock(&open.used).elapsed() < IDLE);
        if open.len() >= MAX_OPEN {
            let message = format!("{MAX_OPEN} uploads are open; end some, or wait");
            let status = StatusCode::TOO_MANY_REQUESTS;
            return Err(Refusal::new(status, "TOOMANYREQUESTS", message));
        }
        let id = format!("{:032x}", fastrand::u128(..));
        let entry = Open {
            used: Mutex::new(Instant::now()),
            upload: tokio::sync::Mutex::new(Some(upload)),
        };
        open.insert((name.to_owned(), id.clone()), Arc::new(entry));
        Ok(id)
    }

    fn find(&self, name: &str, id: &str) -> Result<Arc<Open>, Refusal> {
        let key = (name.to_owned(), id.to_owned());
        let open = self.open().get(&key).cloned();
        let open = open.ok_or_else(Refusal::upload_unknown)?;
        *lock(&open.used) = Instant::now();
        Ok(open)
    }

    fn remove(&self, name: &str, id: &str) {
        self.open().remove(&(name.to_owned(), id.to_owned()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers POST: mounts what is here, takes a whole blob, or opens an upload.
pub(super) async fn begin(
    registry: &Registry,
    name: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let query = Query::of(request.uri().query())?;
    if let Some(digest) = query.mount {
        let asked = digest.clone();
        let size = registry.with_layout(move |layout| layout.blob_size(&asked));
        if size.await?.is_some() {
            return Ok(created(name, &digest));
        }
    }
    let mut upload = Upload::new(registry).await?;
    if let Some(digest) = query.digest {
        let (parts, body) = request.into_parts();
        upload
            .receive(body, &parts.headers, registry.max_blob_bytes)
            .await?;
        upload.keep(registry, &digest).await?;
        return Ok(created(name, &digest));
    }
    let id = registry.uploads.add(name, upload)?;
    Ok(open_at(StatusCode::ACCEPTED, name, &id, 0))
}

/// Answers GET: how far an upload is.
pub(super) async fn status(registry: &Registry, name: &str, id: &str) -> Result<Response, Refusal> {
    let open = registry.uploads.find(name, id)?;
    let upload = open.upload.lock().await;
    let upload = upload.as_ref().ok_or_else(Refusal::upload_unknown)?;
    Ok(open_at(StatusCode::NO_CONTENT, name, id, upload.length))
}

/// Answers PATCH: takes the next piece.
pub(super) async fn patch(
    registry: &Registry,
    name: &str,
    id: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let open = registry.uploads.find(name, id)?;
    let mut upload = open.upload.lock().await;
    let upload = upload.as_mut().ok_or_else(Refusal::upload_unknown)?;
    let (parts, body) = request.into_parts();
    upload.check_start(&parts.headers)?;
    upload
        .receive(body, &parts.headers, registry.max_blob_bytes)
        .await?;
    Ok(open_at(StatusCode::ACCEPTED, name, id, upload.length))
}

/// Answers PUT: takes the last piece, where there is one, and gives the blob its name. The upload has ended then, unless its body
/// did not arrive.
pub(super) async fn put(
    registry: &Registry,
    name: &str,
    id: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let Some(digest) = Query::of(request.uri().query())?.digest else {
        return Err(Refusal::digest_invalid("`digest` is missing in the query"));
    };
    let open = registry.uploads.find(name, id)?;
    let mut slot = open.upload.lock().await;
    let (parts, body) = request.into_parts();
    let upload = slot.as_mut().ok_or_else(Refusal::upload_unknown)?;
    upload.check_start(&parts.headers)?;
    upload
        .receive(body, &parts.headers, registry.max_blob_bytes)
        .await?;
    let upload = slot.take().ok_or_else(Refusal::upload_unknown)?;
    registry.uploads.remove(name, id);
    upload.keep(registry, &digest).await?;
    Ok(created(name, &digest))
}

/// Answers DELETE: gives an upload up.
pub(super) async fn cancel(registry: &Registry, name: &str, id: &str) -> Result<Response, Refusal> {
    let open = registry.uploads.find(name, id)?;
    registry.uploads.remove(name, id);
    open.upload.lock().await.take();
    Ok(empty(StatusCode::NO_CONTENT))
}

impl Upload {
    async fn new(registry: &Registry) -> Result<Self, Refusal> {
        let staged = registry.with_layout(|layout| layout.stage()).await?;
        let file = File::options()
            .write(true)
            .open(staged.path())
            .await
            .map_err(Refusal::internal)?;
        Ok(Upload {
            file,
            staged,
            hasher: Hasher::sha256(),
            length: 0,
        })
    }

    /// Refuses a piece that does not begin where the last one ended (`Content-Range: <start>-<end>`).
    fn check_start(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(range) = headers.get(header::CONTENT_RANGE) else {
            return Ok(());
        };
        let text = range.to_str().unwrap_or("");
        let text = text.strip_prefix("bytes ").unwrap_or(text);
        let start = text
            .split_once('-')
            .and_then(|(start, _)| start.parse().ok());
        if start == Some(self.length) {
            return Ok(());
        }
        let message = format!("the next piece begins at byte {}", self.length);
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        Err(Refusal::new(status, "BLOB_UPLOAD_INVALID", message))
    }

    async fn receive(&mut self, body: Body, headers: &HeaderMap, max: u64) -> Result<(), Refusal> {
        body::check_announced(headers, max.saturating_sub(self.length))?;
        let mut body = body.into_data_stream();
        let received = self.append(&mut body, max).await;
        // Flushed also when the client broke off: what was counted is in the file.
        self.file.flush().await.map_err(Refusal::internal)?;
        received
    }

    async fn append(
        &mut self,
        body: &mut axum::body::BodyDataStream,
        max: u64,
    ) -> Result<(), Refusal> {
        while let Some(piece) = body::next(body).await? {
            if self.length + piece.len() as u64 > max {
                return Err(Refusal::too_large(max));
            }
            self.file
                .write_all(&piece)
                .await
                .map_err(Refusal::internal)?;
            self.hasher.update(&piece);
            self.length += piece.len() as u64;
        }
        Ok(())
    }

    async fn keep(self, registry: &Registry, wanted: &Digest) -> Result<(), Refusal> {
        self.file.sync_data().await.map_err(Refusal::internal)?;
        let got = match wanted {
            Digest::Sha256(_) => self.hasher.finish(),
            Digest::Sha512(_) => rehash(&self.staged, wanted).await?,
        };
        let (staged, wanted) = (self.staged, wanted.clone());
        registry
            .with_layout(move |layout| layout.keep(staged, &wanted, &got))
            .await
    }
}

/// Reads an upload again for a digest that was not known while it arrived.
async fn rehash(staged: &Staged, wanted: &Digest) -> Result<Digest, Refusal> {
    let mut file = File::open(staged.path()).await.map_err(Refusal::internal)?;
    let mut hasher = wanted.hasher();
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece).await.map_err(Refusal::internal)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&piece[..n]),
        }
    }
}

/// What an upload's query asks for.
#[derive(Default)]
struct Query {
    digest: Option<Digest>,
    mount: Option<Digest>,
}

impl Query {
    /// Reads a query; where a mounted blob comes from does not matter here.
    fn of(query: Option<&str>) -> Result<Self, Refusal> {
        let mut found = Query::default();
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or("").as_bytes()) {
            match key.as_ref() {
                "digest" => found.digest = Some(route::digest(&value)?),
                "mount" => found.mount = Some(route::digest(&value)?),
                _ => {}
            }
        }
        Ok(found)
    }
}

fn created(name: &str, digest: &Digest) -> Response {
    let response = empty(StatusCode::CREATED);
    let response = with_header(response, "location", format!("/v2/{name}/blobs/{digest}"));
    with_header(response, "docker-content-digest", digest.to_string())
}

/// Says where an upload goes on. `Range` is inclusive, so that nothing and one byte look alike, as in Distribution.
fn open_at(status: StatusCode, name: &str, id: &str, length: u64) -> Response {
    let response = empty(status);
    let location = format!("/v2/{name}/blobs/uploads/{id}");
    let response = with_header(response, "location", location);
    let response = with_header(response, "range", format!("0-{}", length.saturating_sub(1)));
    with_header(response, "docker-upload-uuid", id.to_owned())
}

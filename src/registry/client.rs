//! The vocabulary: what can be asked of registries.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::Stream;
use http::{Method, StatusCode};
use url::Url;

use crate::{
    model::{
        image::{Digest, Registry, Repository, Tag},
        manifest::{ACCEPT, Descriptor, Manifest},
    },
    registry::{
        blob::BlobStream,
        body::{Measured, Progress},
        connection::Connections,
        error::{Error, Problem, Task},
        protocol::{self, Answer, Request, Selector},
        referrers::Knowledge,
        transport::{Host, Options},
    },
};

/// Speaks to any number of registries. Clones share connections, tokens and budgets.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Arc<Options>,
    connections: Arc<Connections>,
    hosts: Mutex<BTreeMap<Registry, Arc<Host>>>,
    referrers: Knowledge,
}

/// What a `HEAD` tells of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its identity.
    pub digest: Digest,
    /// Its media type, where the registry says it.
    pub media_type: Option<String>,
    /// Its length in bytes, where the registry says it.
    pub size: Option<u64>,
}

/// What came of asking for an upload.
#[derive(Debug)]
pub enum Begun {
    /// The registry took the blob from its other repository; nothing is left to do.
    Mounted,
    /// The registry waits for the bytes.
    Upload(Upload),
}

/// An upload that has begun. It is used once; one that is dropped is left for the registry to clean up.
#[derive(Debug)]
pub struct Upload {
    repository: Repository,
    location: Url,
}

/// The tags of a repository, as far as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagList {
    /// The tags, sorted.
    pub tags: Vec<Tag>,
    /// Whether these are all of them.
    pub whole: bool,
}

/// How many pages of a tag list are read.
const MAX_PAGES: usize = 5_000;

/// How many pages may follow one another without a new tag.
const MAX_BARREN: usize = 3;

/// How many tags of a repository are read.
const MAX_TAGS: usize = 1_000_000;

impl Client {
    /// Prepares a client; nothing is sent yet.
    pub fn new(options: Options) -> Result<Self, Error> {
        let connections = Connections::new(options.user_agent.clone(), options.timeouts.connect);
        Ok(Client(Arc::new(Inner {
            options: Arc::new(options),
            connections: Arc::new(connections),
            hosts: Mutex::default(),
            referrers: Knowledge::default(),
        })))
    }

    /// Asks which manifest a name stands for; `None` where there is none.
    ///
    /// One `HEAD`; a `GET` more where the registry does not say the digest, which is then computed.
    pub async fn head(
        &self,
        repository: &Repository,
        name: &Selector,
    ) -> Result<Option<Head>, Error> {
        let host = self.host(repository.registry())?;
        let request = Request::manifest(Method::HEAD, repository, name);
        let answer = match host.call(&request).await {
            Ok(answer) => answer,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) if e.status() == Some(StatusCode::METHOD_NOT_ALLOWED) => {
                return self.head_by_reading(repository, name).await;
            }
            Err(e) => return Err(e),
        };
        let media_type = media_type(&answer);
        let digest = match (protocol::content_digest(&answer.headers), name) {
            (Some(found), Selector::Digest(asked)) => same(&host, &request.task, asked, found)?,
            (Some(found), Selector::Tag(_)) => found,
            // A name by digest needs no second look, unless what answers may not be a registry at all.
            (None, Selector::Digest(asked)) if is_manifest(&media_type) => asked.clone(),
            (None, _) => return self.head_by_reading(repository, name).await,
        };
        Ok(Some(Head {
            digest,
            media_type,
            size: protocol::content_length(&answer.headers),
        }))
    }

    async fn head_by_reading(
        &self,
        repository: &Repository,
        name: &Selector,
    ) -> Result<Option<Head>, Error> {
        match self.manifest(repository, name).await {
            Ok(manifest) => Ok(Some(Head {
                digest: manifest.digest,
                media_type: Some(manifest.media_type),
                size: Some(manifest.raw.len() as u64),
            })),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads a whole manifest, of at most [`crate::model::manifest::MAX_MANIFEST_BYTES`].
    ///
    /// It is verified against the digest asked for, and for a tag against the digest that the registry says it has. Where there is
    /// none, the error [is not found](Error::is_not_found).
    pub async fn manifest(
        &self,
        repository: &Repository,
        name: &Selector,
    ) -> Result<Manifest, Error> {
        let host = self.host(repository.registry())?;
        let request = Request::manifest(Method::GET, repository, name);
        let answer = host.call(&request).await?;
        let expected = match name {
            Selector::Digest(digest) => Some(digest.clone()),
            Selector::Tag(_) => protocol::content_digest(&answer.headers),
        };
        if let Some(expected) = expected.as_ref().filter(|d| !d.matches(&answer.body)) {
            let encoding = protocol::encoding(&answer.headers);
            let problem = Problem::WrongDigest {
                expected: expected.clone(),
                encoding: encoding.map(|e| protocol::printable(e, 40)),
            };
            return Err(host.answer(&request.task, problem));
        }
        let parsed = Manifest::parse(answer.body.clone(), media_type(&answer).as_deref());
        let mut manifest = parsed.map_err(|source| Error::Manifest {
            task: Box::new(request.task),
            source,
        })?;
        // The identity in the words it was asked for: a registry knows a manifest under one algorithm.
        if let Selector::Digest(asked) = name {
            manifest.digest = asked.clone();
        }
        Ok(manifest)
    }

    /// Returns a repository's tags, sorted; `None` where there is no such repository.
    ///
    /// What a registry lists that is not a tag is left out.
    pub async fn tags(&self, repository: &Repository) -> Result<Option<Vec<Tag>>, Error> {
        match self.tags_within(repository, MAX_PAGES).await? {
            Some(list) if !list.whole => {
                let host = self.host(repository.registry())?;
                let task = Task::ListTags(repository.clone());
                Err(host.answer(&task, Problem::EndlessPages(MAX_PAGES)))
            }
            list => Ok(list.map(|list| list.tags)),
        }
    }

    /// Returns a repository's tags as [`tags`](Client::tags) does, but reads no more than `pages` pages of them.
    pub async fn tags_within(
        &self,
        repository: &Repository,
        pages: usize,
    ) -> Result<Option<TagList>, Error> {
        let host = self.host(repository.registry())?;
        let mut request = Request::tags(repository);
        let (mut tags, mut barren) = (BTreeSet::new(), 0);
        let list = |tags: BTreeSet<Tag>, whole| TagList {
            tags: tags.into_iter().collect(),
            whole,
        };
        for _ in 0..pages.min(MAX_PAGES) {
            let answer = match host.call(&request).await {
                Ok(answer) => answer,
                Err(e) if e.is_not_found() => return Ok(None),
                Err(e) => return Err(e),
            };
            let wrong = |problem| host.answer(&request.task, problem);
            let before = tags.len();
            tags.extend(protocol::read_tags(&answer.body).ok_or_else(|| wrong(Problem::NotTags))?);
            let next = protocol::next_page(&answer.url, &answer.headers)
                .map_err(|host| wrong(Problem::ForeignPage(host)))?;
            let Some(next) = next else {
                return Ok(Some(list(tags, true)));
            };
            // Pages that bring nothing new and point on are a loop, whatever their address.
            barren = if tags.len() == before { barren + 1 } else { 0 };
            if next == request.address || barren > MAX_BARREN || tags.len() > MAX_TAGS {
                return Err(wrong(Problem::EndlessPages(tags.len())));
            }
            request.address = next;
        }
        Ok(Some(list(tags, false)))
    }

    /// Whether a repository has a blob.
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, Error> {
        let host = self.host(repository.registry())?;
        match host.call(&Request::has_blob(repository, digest)).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Reads a blob as a stream of verified bytes.
    ///
    /// Sent once, and once more with a new token where one has run out; other failures are the caller's to repeat, since only it can
    /// begin the other half of the copy again.
    pub async fn blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<BlobStream, Error> {
        let host = self.host(repository.registry())?;
        let request = Request::blob(repository, &blob.digest);
        let open = host.open(&request).await?;
        if open.response.status() != StatusCode::OK {
            let problem = Problem::Unexpected(open.response.status());
            return Err(host.answer(&request.task, problem));
        }
        BlobStream::new(host, open, request.task, blob)
    }

    /// Begins an upload; with `mount`, asks the registry to take the blob from a repository of its own.
    ///
    /// The repository to take it from may be the same one: it asks whether the blob is there, and begins where it is not. One of
    /// another registry is not asked for. A registry that refuses the question is asked once more without it.
    pub async fn begin_upload(
        &self,
        repository: &Repository,
        mount: Option<(&Digest, &Repository)>,
    ) -> Result<Begun, Error> {
        let host = self.host(repository.registry())?;
        let mount = mount.filter(|(_, from)| from.registry() == repository.registry());
        let mut request = Request::begin_upload(repository, mount);
        let mut answer = host.call(&request).await;
        if mount.is_some() && answer.as_ref().is_err_and(refuses_the_question) {
            request = Request::begin_upload(repository, None);
            answer = host.call(&request).await;
        }
        let answer = answer?;
        match (answer.status, mount) {
            (StatusCode::CREATED, Some((digest, _))) => {
                if let Some(found) = protocol::content_digest(&answer.headers) {
                    same(&host, &request.task, digest, found)?;
                }
                Ok(Begun::Mounted)
            }
            (StatusCode::ACCEPTED, _) => {
                let location = protocol::location(&answer.url, &answer.headers);
                let location =
                    location.ok_or_else(|| host.answer(&request.task, Problem::NoLocation))?;
                Ok(Begun::Upload(Upload {
                    repository: repository.clone(),
                    location,
                }))
            }
            (status, _) => Err(host.answer(&request.task, Problem::Unexpected(status))),
        }
    }

    /// Streams `body` in one `PUT`; success means that the registry has the blob.
    ///
    /// An error of `body` comes back as it is. A body of another length than `blob` says fails, and the upload with it.
    pub async fn upload(
        &self,
        upload: Upload,
        blob: &Descriptor,
        body: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Result<(), Error> {
        let repository = &upload.repository;
        let host = self.host(repository.registry())?;
        let request = Request::upload(repository, &upload.location, &blob.digest, blob.size);
        let progress = Progress::new();
        let body = Measured::new(body, progress.clone(), request.task.clone(), blob.size);
        let body = reqwest::Body::wrap_stream(body);
        let sent = host.send_once(&request, body, &progress).await;
        if let Some(failure) = progress.take_failure() {
            return Err(failure);
        }
        let response = sent?.response;
        let (status, headers) = (response.status(), response.headers());
        if status == StatusCode::ACCEPTED {
            return Err(host.answer(&request.task, Problem::Unexpected(status)));
        }
        if let Some(found) = protocol::content_digest(headers) {
            same(&host, &request.task, &blob.digest, found)?;
        }
        Ok(())
    }

    /// Gives up an upload, where the registry lets one; else it cleans up by itself some day.
    pub async fn cancel_upload(&self, upload: Upload) {
        let Ok(host) = self.host(upload.repository.registry()) else {
            return;
        };
        let request = Request::cancel_upload(&upload.repository, &upload.location);
        if let Err(error) = host.open(&request).await {
            tracing::debug!(%error, "the upload is left to the registry");
        }
    }

    /// Pushes a manifest, its bytes as they are, and compares the digest that the registry answers.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        name: &Selector,
        manifest: &Manifest,
    ) -> Result<(), Error> {
        self.push_manifest(repository, name, manifest)
            .await
            .map(drop)
    }

    /// Pushes a manifest and returns the registry's whole answer.
    pub(super) async fn push_manifest(
        &self,
        repository: &Repository,
        name: &Selector,
        manifest: &Manifest,
    ) -> Result<Answer, Error> {
        let host = self.host(repository.registry())?;
        let Some(request) = Request::put_manifest(repository, name, manifest) else {
            let task = Task::ReadManifest(repository.clone(), name.clone());
            return Err(host.answer(&task, Problem::MediaType));
        };
        let answer = host.call(&request).await?;
        if answer.status == StatusCode::ACCEPTED {
            return Err(host.answer(&request.task, Problem::Unexpected(answer.status)));
        }
        if let Some(found) = protocol::content_digest(&answer.headers) {
            same(&host, &request.task, &manifest.digest, found)?;
        }
        Ok(answer)
    }

    /// What is known of registries and referrers.
    pub(super) fn referrers_known(&self) -> &Knowledge {
        &self.0.referrers
    }

    pub(super) fn host(&self, registry: &Registry) -> Result<Arc<Host>, Error> {
        let inner = &self.0;
        let mut hosts = inner.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(registry) {
            return Ok(host.clone());
        }
        let (options, connections) = (inner.options.clone(), inner.connections.clone());
        let host = Arc::new(Host::new(registry.clone(), options, connections)?);
        hosts.insert(registry.clone(), host.clone());
        Ok(host)
    }
}

/// Returns the digest the registry names, where it is the expected one; another algorithm's cannot be compared.
fn same(host: &Host, task: &Task, expected: &Digest, got: Digest) -> Result<Digest, Error> {
    if got == *expected || got.algorithm() != expected.algorithm() {
        return Ok(expected.clone());
    }
    let expected = expected.clone();
    Err(host.answer(task, Problem::OtherDigest { expected, got }))
}

/// Whether a registry refused the mount itself, rather than the upload or everything.
fn refuses_the_question(error: &Error) -> bool {
    !error.is_transient() && error.status().is_some_and(|s| s.is_client_error())
}

fn media_type(answer: &Answer) -> Option<String> {
    let text = protocol::text(&answer.headers, &http::header::CONTENT_TYPE)?;
    let text = text.split(';').next().unwrap_or(text).trim();
    Some(protocol::printable(text, 120)).filter(|t| !t.is_empty())
}

fn is_manifest(media_type: &Option<String>) -> bool {
    media_type.as_deref().is_some_and(|t| ACCEPT.contains(&t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_can_run_on_any_thread() {
        fn is_send<T: Send>(_: &T) {}
        let client = Client::new(Options::default()).expect("nothing is opened yet");
        let a: Repository = "reg.lan/a".parse().expect("it is a repository");
        let name = Selector::Tag("v1".parse().expect("it is a tag"));
        let digest = Digest::of(b"");
        is_send(&client.head(&a, &name));
        is_send(&client.manifest(&a, &name));
        is_send(&client.tags(&a));
        is_send(&client.has_blob(&a, &digest));
        is_send(&client.begin_upload(&a, Some((&digest, &a))));
        let blob = Descriptor {
            media_type: String::new(),
            digest: digest.clone(),
            size: 0,
            platform: None,
        };
        is_send(&client.blob(&a, &blob));
        let upload = Upload {
            repository: a.clone(),
            location: Url::parse("http://reg.lan/up").expect("it is a URL"),
        };
        is_send(&client.upload(upload, &blob, futures_util::stream::empty()));
    }
}

//! The vocabulary: what can be asked of registries.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use url::Url;

use crate::{
    model::{
        image::{Digest, Registry, Repository, Tag},
        manifest::{Descriptor, Manifest},
    },
    registry::{
        blob::BlobStream,
        body::{Measured, Progress},
        connection::Connections,
        error::{Error, Problem, Task},
        protocol::{self, Answer, Request, Selector},
        referrers::Knowledge,
        sourcing::{Manner, Wanted},
        transport::{Host, Options},
    },
};

/// Speaks to any number of registries. Clones share connections, tokens and budgets.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// Whether what is read comes from where `registries.conf` says.
    pub(super) remaps: bool,
}

#[derive(Debug)]
struct Inner {
    options: Arc<Options>,
    connections: Arc<Connections>,
    hosts: Mutex<BTreeMap<(Registry, Manner), Arc<Host>>>,
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

impl Client {
    /// Prepares a client; nothing is sent yet.
    pub fn new(options: Options) -> Result<Self, Error> {
        let agent = options.user_agent.clone();
        let connections =
            Connections::new(agent, options.timeouts.connect, options.proxies.clone());
        let inner = Inner {
            options: Arc::new(options),
            connections: Arc::new(connections),
            hosts: Mutex::default(),
            referrers: Knowledge::default(),
        };
        Ok(Client {
            inner: Arc::new(inner),
            remaps: true,
        })
    }

    /// Returns a client that reads names from where they say, and nowhere else: what is written is looked for where it was written.
    ///
    /// It shares connections, tokens and budgets with this one.
    pub fn direct(&self) -> Self {
        Client {
            inner: self.inner.clone(),
            remaps: false,
        }
    }

    pub(super) fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Asks which manifest a name stands for; `None` where there is none.
    ///
    /// One `HEAD`; a `GET` more where the registry does not say the digest, which is then computed.
    pub async fn head(
        &self,
        repository: &Repository,
        name: &Selector,
    ) -> Result<Option<Head>, Error> {
        self.first(repository, Wanted::Named(name), |host, at| async move {
            host.head(&at, name).await
        })
        .await
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
        self.first(repository, Wanted::Named(name), |host, at| async move {
            host.manifest(&at, name).await
        })
        .await
    }

    /// Returns a repository's tags, sorted; `None` where there is no such repository.
    ///
    /// What a registry lists that is not a tag is left out.
    pub async fn tags(&self, repository: &Repository) -> Result<Option<Vec<Tag>>, Error> {
        self.first(repository, Wanted::Tags, |host, at| async move {
            host.tags(&at).await
        })
        .await
    }

    /// Returns a repository's tags as [`tags`](Client::tags) does, but reads no more than `pages` pages of them.
    pub async fn tags_within(
        &self,
        repository: &Repository,
        pages: usize,
    ) -> Result<Option<TagList>, Error> {
        self.first(repository, Wanted::Tags, |host, at| async move {
            host.tags_within(&at, pages).await
        })
        .await
    }

    /// Whether a repository has a blob.
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, Error> {
        self.first(repository, Wanted::Blob, |host, at| async move {
            host.has_blob(&at, digest).await
        })
        .await
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
        self.first(repository, Wanted::Blob, |host, at| async move {
            blob_of(host, &at, blob).await
        })
        .await
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
                    host.same(&request.task, digest, found)?;
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
            host.same(&request.task, &blob.digest, found)?;
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
    ///
    /// A tag that may not be moved and names this manifest already is as good as one that was pushed.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        name: &Selector,
        manifest: &Manifest,
    ) -> Result<(), Error> {
        match self.push_manifest(repository, name, manifest).await {
            Err(error) if error.is_immutable_tag() => {
                let host = self.host(repository.registry())?;
                let there = host.head(repository, name).await?;
                let same = there.is_some_and(|head| head.digest == manifest.digest);
                if same { Ok(()) } else { Err(error) }
            }
            pushed => pushed.map(|_| ()),
        }
    }

    /// Pushes a manifest and returns what the registry answers.
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
            host.same(&request.task, &manifest.digest, found)?;
        }
        Ok(answer)
    }

    /// What is known of registries and referrers.
    pub(super) fn referrers_known(&self) -> &Knowledge {
        &self.inner.referrers
    }

    fn host(&self, registry: &Registry) -> Result<Arc<Host>, Error> {
        let rules = self.options().registries_conf.current();
        let insecure = rules.is_insecure(registry);
        let patient = true;
        Ok(self.host_in(registry, Manner { insecure, patient }))
    }

    /// Returns a registry that is spoken to in this manner.
    pub(super) fn host_in(&self, registry: &Registry, manner: Manner) -> Arc<Host> {
        let inner = &self.inner;
        let mut hosts = inner.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let options = manner.options(&inner.options, registry);
            let connections = inner.connections.clone();
            Arc::new(Host::new(registry.clone(), options, connections))
        };
        let host = hosts.entry((registry.clone(), manner));
        host.or_insert_with(make).clone()
    }
}

/// Begins to read a blob of one registry.
async fn blob_of(
    host: Arc<Host>,
    repository: &Repository,
    blob: &Descriptor,
) -> Result<BlobStream, Error> {
    let request = Request::blob(repository, &blob.digest);
    let open = host.open(&request).await?;
    if open.response.status() != StatusCode::OK {
        let problem = Problem::Unexpected(open.response.status());
        return Err(host.answer(&request.task, problem));
    }
    BlobStream::new(host, open, request.task, blob)
}

/// Whether a registry refused the mount itself, rather than the upload or everything.
fn refuses_the_question(error: &Error) -> bool {
    !error.is_transient() && error.status().is_some_and(|s| s.is_client_error())
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

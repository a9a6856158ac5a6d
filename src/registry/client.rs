//! The vocabulary: what can be asked of registries.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
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
        blob::{BlobStream, Trail},
        body::{Measured, Progress},
        connection::Connections,
        error::{Error, Problem, Task},
        protocol::{self, Answer, Request, Selector},
        referrers::Knowledge,
        sourcing::{Manner, Wanted},
        transport::{Host, Open, Options},
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
    /// What registries have shown of themselves.
    habits: Mutex<BTreeMap<Registry, Habits>>,
    /// Which blobs came wrong from where there are other places to ask.
    spoilt: Mutex<BTreeSet<(Repository, Digest)>>,
}

/// What a registry does that not every one does.
#[derive(Debug, Clone, Copy, Default)]
struct Habits {
    /// Whether it keeps the list of its repositories to itself.
    no_catalog: bool,
    /// Whether it takes a blob with the `POST` that begins an upload; unknown before the first one.
    at_once: Option<bool>,
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
    /// The registry took the blob with the question; nothing is left to do.
    Taken,
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

/// How many pages of a list of repositories are read.
const MAX_PAGES: usize = 5_000;

/// How long a page of repositories is waited for.
const CATALOG: Duration = Duration::from_secs(20);

impl Client {
    /// The largest blob that is sent along to find out whether a registry takes one at once: it is sent again where not.
    pub const PROBE: u64 = 64 << 10;

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
            habits: Mutex::default(),
            spoilt: Mutex::default(),
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
        let list = self
            .first(repository, Wanted::Tags, |host, at| async move {
                let list = host.tags_within(&at, pages).await?;
                Ok(list.map(|list| (list, at)))
            })
            .await?;
        let primary = self.primary(repository)?;
        // A nearer mirror may have some of the tags only.
        Ok(list.map(|(list, at)| TagList {
            whole: list.whole && at == primary,
            ..list
        }))
    }

    /// Returns the names of a registry's repositories, asked for as who works with `near`, in at most `pages` requests.
    ///
    /// `None` where the registry keeps them to itself, has more than that, or is slow to tell: then nothing is known. Most registries
    /// let only administrators read the list, if anybody; one that refuses is not asked again. Nothing is asked twice: the list only
    /// saves questions.
    pub async fn repositories(&self, near: &Repository, pages: usize) -> Option<BTreeSet<String>> {
        let registry = near.registry();
        if self.habits(registry).no_catalog {
            return None;
        }
        let host = self.host(registry).ok()?;
        let mut request = Request::repositories(near);
        let mut found = BTreeSet::new();
        for _ in 0..pages.clamp(1, MAX_PAGES) {
            let answer = tokio::time::timeout(CATALOG, host.attempt(&request)).await;
            let page = match &answer {
                Ok(Ok(answer)) => protocol::read_repositories(&answer.body),
                Ok(Err(error)) if error.is_transient() => return None,
                // A registry that walks through all its storage for it is none to ask.
                Ok(Err(_)) | Err(_) => None,
            };
            let (Ok(Ok(answer)), Some(page)) = (answer, page) else {
                tracing::debug!(%registry, "repositories are looked for one by one");
                self.learn(registry, |habits| habits.no_catalog = true);
                return None;
            };
            let before = found.len();
            found.extend(page);
            match protocol::next_page(&answer.url, &answer.headers) {
                Ok(None) => return Some(found),
                // A page that brings nothing new and points on, or elsewhere, leads nowhere.
                Ok(Some(next)) if found.len() > before => request.address = next,
                _ => return None,
            }
        }
        None
    }

    /// Whether a repository has a blob.
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, Error> {
        self.first(repository, Wanted::Blob(digest), |host, at| async move {
            host.has_blob(&at, digest).await
        })
        .await
    }

    /// Reads a blob as a stream of verified bytes.
    ///
    /// The question is sent once, and once more with a new token where one has run out; what then breaks off in the middle is taken
    /// up again inside the stream. Other failures are the caller's to repeat, since only it can begin the other half of the copy
    /// again. Where wrong bytes came of one of several places, the error is [`Error::Elsewhere`], and the question has another answer
    /// the next time.
    pub async fn blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<BlobStream, Error> {
        self.blob_from(repository, blob, Trail::default(), 0).await
    }

    /// Reads a blob from `offset` on, which an earlier download with this `trail` has come to. The digest that is verified is that
    /// of the whole: what lies between the trail's last mark and `offset` is read once more and not handed over.
    pub async fn blob_from(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        trail: Trail,
        offset: u64,
    ) -> Result<BlobStream, Error> {
        let offset = offset.min(blob.size);
        let wanted = Wanted::Blob(&blob.digest);
        let (stream, at) = self
            .first(repository, wanted, |host, at| {
                let trail = trail.clone();
                async move {
                    let stream = BlobStream::open(host, &at, blob, trail, offset).await?;
                    Ok((stream, at))
                }
            })
            .await?;
        // What goes on from another download may have its wrong bytes from there.
        if offset > 0 {
            return Ok(stream);
        }
        let (client, repository) = (self.clone(), repository.clone());
        let digest = blob.digest.clone();
        Ok(stream.or_else(move |error| client.spoilt(error, &repository, &at, &digest)))
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

    /// Begins an upload with the blob's bytes in the question, where the registry is not known to ignore them (Distribution does).
    ///
    /// A small blob finds out; of a large one `body` is not asked for before it is known that the registry takes it.
    pub async fn upload_at_once<S>(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        body: S,
    ) -> Result<Begun, Error>
    where
        S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
    {
        let host = self.host(repository.registry())?;
        let request = Request::upload_at_once(repository, &blob.digest, blob.size);
        let sent = match self.send_body(&host, &request, blob, 0, body).await {
            Ok(sent) => sent,
            Err(error) if refuses_the_question(&error) && !error.is_authentication() => {
                self.learn(repository.registry(), |habits| habits.at_once = Some(false));
                return self.begin_upload(repository, None).await;
            }
            Err(error) => return Err(error),
        };
        let Some(open) = sent else {
            return Ok(Begun::Taken);
        };
        let (status, url) = (open.response.status(), open.response.url().clone());
        let taken = status == StatusCode::CREATED;
        self.learn(repository.registry(), |habits| habits.at_once = Some(taken));
        if taken {
            return Ok(Begun::Taken);
        }
        let location = protocol::location(&url, open.response.headers());
        let location = location.ok_or_else(|| host.answer(&request.task, Problem::NoLocation))?;
        Ok(Begun::Upload(Upload {
            repository: repository.clone(),
            location,
        }))
    }

    /// Whether a blob of `size` bytes is worth sending [at once](Client::upload_at_once): the registry takes it then, or it is
    /// small enough to find out.
    pub fn takes_at_once(&self, registry: &Registry, size: u64) -> bool {
        match self.habits(registry).at_once {
            Some(known) => known,
            None => size <= Self::PROBE,
        }
    }

    /// Streams `body` in one `PUT`; success means that the registry has the blob.
    ///
    /// An error of `body` comes back as it is. A body of another length than `blob` says fails, and the upload with it. Where the
    /// answer to a whole body does not come, the registry is asked whether it has taken it all the same.
    pub async fn upload(
        &self,
        upload: &Upload,
        blob: &Descriptor,
        body: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Result<(), Error> {
        self.upload_from(upload, blob, 0, body).await
    }

    /// Streams what is left of a blob `from` some byte on, as [`Client::upload`] does the whole.
    pub async fn upload_from(
        &self,
        upload: &Upload,
        blob: &Descriptor,
        from: u64,
        body: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Result<(), Error> {
        let (repository, location) = (&upload.repository, &upload.location);
        let host = self.host(repository.registry())?;
        let request = Request::upload(repository, location, &blob.digest, blob.size, from);
        let sent = self.send_body(&host, &request, blob, from, body).await?;
        let status = sent.map(|open| open.response.status());
        match status {
            Some(status) if status == StatusCode::ACCEPTED => {
                Err(host.answer(&request.task, Problem::Unexpected(status)))
            }
            _ => Ok(()),
        }
    }

    /// Sends a body that exists once. Nothing comes back where no answer came, and the registry has the blob all the same.
    async fn send_body(
        &self,
        host: &Arc<Host>,
        request: &Request,
        blob: &Descriptor,
        from: u64,
        body: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Result<Option<Open>, Error> {
        let progress = Progress::new();
        let left = blob.size.saturating_sub(from);
        let body = Measured::new(body, progress.clone(), request.task.clone(), left);
        let body = reqwest::Body::wrap_stream(body);
        let sent = host.send_once(request, body, &progress).await;
        if let Some(failure) = progress.take_failure() {
            return Err(failure);
        }
        let open = match sent {
            Ok(open) => open,
            Err(error) => {
                // A commit may outlive its answer: what is there need not be sent again.
                let repository = request.task.repository();
                let landed = error.is_transient()
                    && !error.is_authentication()
                    && progress.is_whole()
                    && matches!(self.has_blob(repository, &blob.digest).await, Ok(true));
                return if landed { Ok(None) } else { Err(error) };
            }
        };
        if let Some(found) = protocol::content_digest(open.response.headers()) {
            host.same(&request.task, &blob.digest, found)?;
        }
        Ok(Some(open))
    }

    /// Asks how much of an upload the registry has, and where it goes on; nothing where the registry has forgotten it, as
    /// Distribution 2.8 does whenever a body breaks off.
    pub async fn upload_state(&self, upload: &Upload) -> Result<Option<(Upload, u64)>, Error> {
        let host = self.host(upload.repository.registry())?;
        let request = Request::upload_state(&upload.repository, &upload.location);
        let answer = match host.call(&request).await {
            Ok(answer) => answer,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "the upload begins anew");
                return Ok(None);
            }
        };
        let location = protocol::location(&answer.url, &answer.headers);
        let received = protocol::received(&answer.headers);
        Ok(received.map(|received| {
            let upload = Upload {
                repository: upload.repository.clone(),
                location: location.unwrap_or_else(|| upload.location.clone()),
            };
            (upload, received)
        }))
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

    /// Notes that a blob came wrong from a place; whether that is news.
    pub(super) fn spoil(&self, at: &Repository, digest: &Digest) -> bool {
        let mut spoilt = self
            .inner
            .spoilt
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        spoilt.insert((at.clone(), digest.clone()))
    }

    /// Whether a blob came wrong from a place before.
    pub(super) fn has_spoilt(&self, at: &Repository, digest: &Digest) -> bool {
        let spoilt = self
            .inner
            .spoilt
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        !spoilt.is_empty() && spoilt.contains(&(at.clone(), digest.clone()))
    }

    fn habits(&self, registry: &Registry) -> Habits {
        let habits = &self.inner.habits;
        let habits = habits.lock().unwrap_or_else(PoisonError::into_inner);
        habits.get(registry).copied().unwrap_or_default()
    }

    fn learn(&self, registry: &Registry, change: impl FnOnce(&mut Habits)) {
        let habits = &self.inner.habits;
        let mut habits = habits.lock().unwrap_or_else(PoisonError::into_inner);
        change(habits.entry(registry.clone()).or_default());
    }

    pub(super) fn host(&self, registry: &Registry) -> Result<Arc<Host>, Error> {
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
        is_send(&client.upload(&upload, &blob, futures_util::stream::empty()));
    }
}

//! Reads from the first of several places that has what is wanted.

use std::{path::Path, sync::Arc};

use crate::{
    model::image::{Digest, Registry, Repository},
    registry::{
        client::Client,
        connection::Access,
        error::Error,
        protocol::Selector,
        sources::{Source, Sources},
        transport::{Host, Options},
    },
};

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manner {
    /// Whether any certificate will do, and plain HTTP too, where settings name it not.
    pub(super) insecure: bool,
    /// Whether requests are tried as often as they may; not where another place has the same.
    pub(super) patient: bool,
}

/// How often a request is tried again where another place has the same.
const IMPATIENT_RETRIES: u32 = 1;

impl Manner {
    /// Changes `options` for `registry` to this manner.
    pub(super) fn options(self, options: &Arc<Options>, registry: &Registry) -> Arc<Options> {
        let named = options.access.contains_key(registry);
        if self.patient && (named || !self.insecure) {
            return options.clone();
        }
        let mut changed = Options::clone(options);
        if !self.patient {
            changed.retries = changed.retries.min(IMPATIENT_RETRIES);
        }
        if self.insecure && !named {
            let access = Access {
                ca_file: options.default_access.ca_file.clone(),
                client: options.default_access.client.clone(),
                ..Access::unverified()
            };
            changed.access.insert(registry.clone(), access);
        }
        Arc::new(changed)
    }
}

/// What is wanted of a repository.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// A manifest.
    Named(&'a Selector),
    /// A blob, of whatever image.
    Blob(&'a Digest),
    /// Its list of tags.
    Tags,
}

/// Whether an answer says that there is nothing.
pub(super) trait Answered {
    fn is_nothing(&self) -> bool {
        false
    }
}

impl<T> Answered for Option<T> {
    fn is_nothing(&self) -> bool {
        self.is_none()
    }
}

impl Answered for bool {
    fn is_nothing(&self) -> bool {
        !self
    }
}

impl Answered for crate::model::manifest::Manifest {}

impl Answered for (crate::registry::blob::BlobStream, Repository) {}

fn says_nothing<T: Answered>(answer: &Result<T, Error>) -> bool {
    match answer {
        Ok(answer) => answer.is_nothing(),
        Err(error) => error.is_not_found(),
    }
}

impl Client {
    /// Returns the place that a name itself stands for, whatever mirrors there are before it.
    pub(super) fn primary(&self, repository: &Repository) -> Result<Repository, Error> {
        let rules = self.options().registries_conf.current();
        if !self.remaps || rules.tables.is_empty() {
            return Ok(repository.clone());
        }
        let sources = rules.sources(repository, None, false)?;
        let primary = sources.places.iter().find(|place| place.primary);
        Ok(primary.map_or_else(|| repository.clone(), |place| place.repository.clone()))
    }

    /// Reads from the first place that has it; what the name itself stands for decides where none has.
    ///
    /// A mirror that lacks it, or is away, only means that the next place is asked.
    pub(super) async fn first<T, F>(
        &self,
        repository: &Repository,
        wanted: Wanted<'_>,
        read: impl Fn(Arc<Host>, Repository) -> F,
    ) -> Result<T, Error>
    where
        T: Answered,
        F: Future<Output = Result<T, Error>>,
    {
        let rules = self.options().registries_conf.current();
        if !self.remaps || rules.tables.is_empty() {
            let insecure = rules.is_insecure(repository.registry());
            let patient = true;
            let host = self.host_in(repository.registry(), Manner { insecure, patient });
            return read(host, repository.clone()).await;
        }
        let (name, by_digest) = match wanted {
            Wanted::Named(name) => (Some(name), matches!(name, Selector::Digest(_))),
            Wanted::Blob(_) => (None, true),
            Wanted::Tags => (None, false),
        };
        let sources = rules.sources(repository, name, by_digest)?;
        let mut trial = Trial::new(repository, &sources);
        let open = |place: &Source| place.primary && place.blocked.is_none();
        let replaceable = sources.places.iter().any(open);
        let mut places: Vec<&Source> = sources.places.iter().collect();
        if let Wanted::Blob(digest) = wanted {
            places.sort_by_key(|place| self.has_spoilt(&place.repository, digest));
        }
        for place in places {
            if let Some((prefix, file)) = &place.blocked {
                trial.failed(sources.blocked(prefix, file));
                continue;
            }
            let patient = place.primary;
            let insecure = place.insecure;
            let registry = place.repository.registry();
            let host = self.host_in(registry, Manner { insecure, patient });
            if !patient && replaceable && host.is_spared() {
                tracing::trace!(%registry, "this mirror was away a moment ago");
                continue;
            }
            let answer = read(host.clone(), place.repository.clone()).await;
            if !patient && matches!(answer, Err(Error::Unreachable { .. })) {
                host.spare();
            }
            if let Some(found) = trial.answered(place, answer) {
                return Ok(found);
            }
        }
        trial.end()
    }

    /// Says of a blob's wrong bytes, which `at` has sent for `repository`, whether another place is worth asking. The first time it is,
    /// and `at` is asked last for this blob from then on.
    pub(super) fn spoilt(
        &self,
        error: Error,
        repository: &Repository,
        at: &Repository,
        digest: &Digest,
    ) -> Error {
        if !error.is_wrong_bytes() || !self.has_others(repository, at) || !self.spoil(at, digest) {
            return error;
        }
        Error::Elsewhere(Box::new(error))
    }

    fn has_others(&self, repository: &Repository, at: &Repository) -> bool {
        let rules = self.options().registries_conf.current();
        let sources = rules.sources(repository, None, true);
        let other = |place: &Source| place.blocked.is_none() && place.repository != *at;
        self.remaps && sources.is_ok_and(|sources| sources.places.iter().any(other))
    }
}

/// What came of the places so far.
struct Trial<'a, T> {
    sources: &'a Sources,
    /// Whether there is but one place, under the name itself.
    plain: bool,
    nothing: Option<Result<T, Error>>,
    /// Whether the place that the name stands for was the one that has nothing.
    decided: bool,
    tried: Vec<Error>,
    /// Those that answered and have nothing.
    lacking: Vec<Repository>,
}

impl<'a, T: Answered> Trial<'a, T> {
    fn new(repository: &Repository, sources: &'a Sources) -> Self {
        Trial {
            sources,
            plain: matches!(sources.places.as_slice(), [one] if one.repository == *repository),
            nothing: None,
            decided: false,
            tried: Vec::new(),
            lacking: Vec::new(),
        }
    }

    fn failed(&mut self, error: Error) {
        self.tried.push(error);
    }

    /// Takes in an answer; returns it where it is what is wanted.
    fn answered(&mut self, place: &Source, answer: Result<T, Error>) -> Option<T> {
        if says_nothing(&answer) {
            if place.primary || self.nothing.is_none() {
                self.nothing = Some(answer);
            }
            self.decided |= place.primary;
            self.lacking.push(place.repository.clone());
            return None;
        }
        match answer {
            Ok(found) => return Some(found),
            Err(error) => {
                tracing::debug!(%error, what = self.sources.what, "asking the next place");
                self.tried.push(error);
            }
        }
        None
    }

    fn end(mut self) -> Result<T, Error> {
        match self.nothing.take() {
            Some(nothing) if self.decided || self.tried.iter().all(is_blocked) => return nothing,
            _ => {}
        }
        let alone = self.tried.len() == 1 && (self.plain || self.tried.iter().all(is_blocked));
        match (alone, self.tried.pop()) {
            (true, Some(only)) => return Err(only),
            (_, last) => self.tried.extend(last),
        }
        Err(Error::Sources {
            what: self.sources.what.clone(),
            file: self
                .sources
                .file
                .as_deref()
                .unwrap_or(Path::new(""))
                .to_owned(),
            tried: self.tried,
            lacking: self.lacking,
        })
    }
}

fn is_blocked(error: &Error) -> bool {
    matches!(error, Error::Blocked { .. })
}

impl Sources {
    fn blocked(&self, prefix: &str, file: &Path) -> Error {
        Error::Blocked {
            what: self.what.clone(),
            prefix: prefix.to_owned(),
            file: file.to_owned(),
        }
    }
}

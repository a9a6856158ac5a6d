//! What is read of one registry.

use std::collections::BTreeSet;

use http::{Method, StatusCode};

use crate::{
    model::{
        image::{Digest, Repository, Tag},
        manifest::{ACCEPT, Manifest},
    },
    registry::{
        client::{Head, TagList},
        error::{Error, Problem, Task},
        protocol::{self, Answer, Request, Selector},
        transport::Host,
    },
};

/// How many pages of a tag list are read.
const MAX_PAGES: usize = 5_000;

/// How many pages may follow one another without a new tag.
const MAX_BARREN: usize = 3;

/// How many tags of a repository are read.
const MAX_TAGS: usize = 1_000_000;

impl Host {
    /// Asks which manifest a name stands for; `None` where there is none.
    ///
    /// One `HEAD`; a `GET` more where the registry does not say the digest, which is then computed.
    pub(super) async fn head(
        &self,
        repository: &Repository,
        name: &Selector,
    ) -> Result<Option<Head>, Error> {
        let request = Request::manifest(Method::HEAD, repository, name);
        let answer = match self.call(&request).await {
            Ok(answer) => answer,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) if e.status() == Some(StatusCode::METHOD_NOT_ALLOWED) => {
                return self.head_by_reading(repository, name).await;
            }
            Err(e) => return Err(e),
        };
        let media_type = media_type(&answer);
        let digest = match (protocol::content_digest(&answer.headers), name) {
            (Some(found), Selector::Digest(asked)) => self.same(&request.task, asked, found)?,
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
    pub(super) async fn manifest(
        &self,
        repository: &Repository,
        name: &Selector,
    ) -> Result<Manifest, Error> {
        let request = Request::manifest(Method::GET, repository, name);
        let answer = self.call(&request).await?;
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
            return Err(self.answer(&request.task, problem));
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
    pub(super) async fn tags(&self, repository: &Repository) -> Result<Option<Vec<Tag>>, Error> {
        match self.tags_within(repository, MAX_PAGES).await? {
            Some(list) if !list.whole => {
                let task = Task::ListTags(repository.clone());
                Err(self.answer(&task, Problem::EndlessPages(MAX_PAGES)))
            }
            list => Ok(list.map(|list| list.tags)),
        }
    }

    /// Returns a repository's tags as [`tags`](Host::tags) does, but reads no more than `pages` pages of them.
    pub(super) async fn tags_within(
        &self,
        repository: &Repository,
        pages: usize,
    ) -> Result<Option<TagList>, Error> {
        let mut request = Request::tags(repository);
        let (mut tags, mut barren) = (BTreeSet::new(), 0);
        let list = |tags: BTreeSet<Tag>, whole| TagList {
            tags: tags.into_iter().collect(),
            whole,
        };
        for _ in 0..pages.min(MAX_PAGES) {
            let answer = match self.call(&request).await {
                Ok(answer) => answer,
                Err(e) if e.is_not_found() => return Ok(None),
                Err(e) => return Err(e),
            };
            let wrong = |problem| self.answer(&request.task, problem);
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
    pub(super) async fn has_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, Error> {
        match self.call(&Request::has_blob(repository, digest)).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Returns the digest the registry names, where it is the expected one; another algorithm's cannot be compared.
    pub(super) fn same(
        &self,
        task: &Task,
        expected: &Digest,
        got: Digest,
    ) -> Result<Digest, Error> {
        if got == *expected || got.algorithm() != expected.algorithm() {
            return Ok(expected.clone());
        }
        let expected = expected.clone();
        Err(self.answer(task, Problem::OtherDigest { expected, got }))
    }
}

fn media_type(answer: &Answer) -> Option<String> {
    let text = protocol::text(&answer.headers, &http::header::CONTENT_TYPE)?;
    let text = text.split(';').next().unwrap_or(text).trim();
    Some(protocol::printable(text, 120)).filter(|t| !t.is_empty())
}

fn is_manifest(media_type: &Option<String>) -> bool {
    media_type.as_deref().is_some_and(|t| ACCEPT.contains(&t))
}

//! Referrers: the API, where a registry has it, and what a registry says when it takes one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use http::HeaderName;

use crate::{
    model::{
        image::{Digest, Registry, Repository},
        manifest::{Descriptor, Manifest, OCI_INDEX},
    },
    registry::{
        client::Client,
        error::{Error, Problem},
        protocol::{self, Request, Selector},
        sourcing::Wanted,
        transport::Host,
    },
};

/// Says that a registry has understood whose referrer it was given; one that does not say it has no API for them.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// How many referrers of one manifest are read.
const MAX_REFERRERS: usize = 10_000;

/// Whether a registry has the API.
#[derive(Debug, Clone, Copy, Default)]
enum Api {
    /// Nobody has asked; whoever asks first keeps the others waiting.
    #[default]
    Unknown,
    /// Who asked first had no answer; nobody waits for the next who asks.
    Failing,
    Present,
    Absent,
}

type Known = Arc<tokio::sync::Mutex<Api>>;

/// Which registries have the referrers API, for the life of the client.
#[derive(Debug, Default)]
pub(super) struct Knowledge(Mutex<BTreeMap<Registry, Known>>);

impl Knowledge {
    fn of(&self, registry: &Registry) -> Known {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(registry.clone()).or_default().clone()
    }
}

impl Client {
    /// Returns the referrers of a manifest that is named by its digest; `None` where the registry has no API for them, which is
    /// remembered: the index under the [list's tag](crate::model::accessory::list_tag) says it then.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let name = Selector::Digest(digest.clone());
        let primary = self.primary(repository)?;
        self.first(repository, Wanted::Named(&name), |host, at| {
            let elsewhere = at != primary;
            async move {
                let found = self.referrers_at(&host, &at, digest).await?;
                // That a nearer mirror lists nothing says nothing of what the name itself stands for.
                Ok(found.filter(|found| !(elsewhere && found.is_empty())))
            }
        })
        .await
    }

    async fn referrers_at(
        &self,
        host: &Host,
        at: &Repository,
        digest: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let known = self.referrers_known().of(at.registry());
        let mut asking = known.lock().await;
        let found = match *asking {
            Api::Absent => return Ok(None),
            Api::Present => {
                drop(asking);
                // A registry that has the API may not know of a manifest what others say of it.
                let found = host.read_referrers(at, digest).await?;
                return Ok(Some(found.unwrap_or_default()));
            }
            Api::Failing => {
                drop(asking);
                let found = host.read_referrers(at, digest).await?;
                asking = known.lock().await;
                found
            }
            Api::Unknown => match host.read_referrers(at, digest).await {
                Ok(found) => found,
                Err(error) => {
                    *asking = Api::Failing;
                    return Err(error);
                }
            },
        };
        *asking = match found {
            Some(_) => Api::Present,
            None => Api::Absent,
        };
        Ok(found)
    }

    /// Pushes a referrer by its digest; whether the registry lists it by itself from now on.
    pub async fn put_referrer(
        &self,
        repository: &Repository,
        referrer: &Manifest,
    ) -> Result<bool, Error> {
        let name = Selector::Digest(referrer.digest.clone());
        let answer = self.push_manifest(repository, &name, referrer).await?;
        Ok(answer.headers.contains_key(OCI_SUBJECT))
    }
}

impl Host {
    /// Reads all pages; `None` where what answers is no such API.
    async fn read_referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let mut request = Request::referrers(repository, digest);
        let mut found = Vec::new();
        loop {
            let answer = match self.call(&request).await {
                Ok(answer) => answer,
                Err(error) if is_no_api(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            // Some proxies answer what they do not know with a page for people.
            let list = Manifest::parse(answer.body.clone(), Some(OCI_INDEX)).ok();
            let Some(list) = list.filter(Manifest::is_index) else {
                return Ok(None);
            };
            let before = found.len();
            found.extend(list.children(&[]).cloned());
            let wrong = |problem| self.answer(&request.task, problem);
            let next = protocol::next_page(&answer.url, &answer.headers)
                .map_err(|host| wrong(Problem::ForeignPage(host)))?;
            let Some(next) = next.filter(|_| found.len() > before) else {
                return Ok(Some(found));
            };
            if found.len() > MAX_REFERRERS {
                return Err(wrong(Problem::TooManyReferrers(MAX_REFERRERS)));
            }
            request.address = next;
        }
    }
}

/// Whether a registry says that there is no such API: with 404 as the specification has it, or as servers refuse what they do not
/// know at all.
fn is_no_api(error: &Error) -> bool {
    error.is_not_found()
        || error.status().is_some_and(|status| {
            matches!(status.as_u16(), 400 | 405 | 406 | 501) && !error.is_authentication()
        })
}

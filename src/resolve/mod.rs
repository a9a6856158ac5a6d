//! Fetches what the rules ask for: update graphs, what tags name, manifests, what release payloads hold, and who signed them.
//!
//! It answers needs and decides nothing. What cannot be had comes back as a fact too: a failure, with a sentence.

pub mod payload_layer;

pub mod signature_store;

pub mod update_service;

mod attached;

mod payload;

mod archive;

mod blob;

pub mod catalog;

use std::{future::Future, sync::Arc};

use futures_util::{StreamExt, stream};

use crate::{
    model::{
        facts::{Cause, Fact, Failure, Need},
        image::{Digest, Reference, Repository},
        imageset::ChannelType,
        manifest::Manifest,
        release::signature::Signatures,
        sentence,
    },
    registry::{self, Client, Selector},
};

pub use attached::Before;
pub use payload::{KeepOne, Keeper};
use signature_store::SignatureStores;
use update_service::UpdateService;

/// Fetches facts from upstream.
pub struct Resolver {
    source: Client,
    updates: UpdateService,
    signatures: SignatureStores,
    keeper: Arc<dyn Keeper>,
    width: usize,
}

impl Resolver {
    /// Makes a resolver that asks up to `width` questions at a time and leaves blobs it had to read with `keeper`.
    pub fn new(
        source: Client,
        updates: UpdateService,
        signatures: SignatureStores,
        keeper: Arc<dyn Keeper>,
        width: usize,
    ) -> Self {
        Resolver {
            source,
            updates,
            signatures,
            keeper,
            width: width.max(1),
        }
    }

    /// Answers all needs, side by side. One need may bring several facts: a tag that was read for the first time brings its
    /// manifest along.
    pub async fn fetch(&self, needs: impl IntoIterator<Item = Asked>) -> Vec<Fact> {
        let answers = stream::iter(needs).map(|asked| self.answer(asked));
        let answers: Vec<Vec<Fact>> = answers.buffer_unordered(self.width).collect().await;
        answers.concat()
    }

    async fn answer(&self, asked: Asked) -> Vec<Fact> {
        match asked.need {
            Need::Graph(key) => {
                let graph = self.updates.graph(&key).await;
                let graph = graph.map(Arc::new).map_err(|e| Failure {
                    reason: sentence(&e),
                    transient: is_passing(&e),
                    cause: cause_of_no_graph(&e),
                });
                vec![Fact::Graph(key, graph)]
            }
            Need::Tag(reference) => self.tag(reference, asked.last).await,
            Need::Manifest(repository, digest) => {
                let manifest = self.manifest(&repository, &digest).await;
                vec![Fact::Manifest(digest, manifest)]
            }
            Need::Payload(repository, digest) => {
                let (source, keeper) = (&self.source, self.keeper.as_ref());
                let payload = again(|| payload::read(source, keeper, &repository, &digest)).await;
                vec![Fact::Payload(digest, payload.map(Arc::new))]
            }
            Need::Attached(repository, images) => {
                self.attached(repository, images, asked.before).await
            }
            Need::Signatures(kind, digest) => {
                let signatures = self.signatures.fetch(kind, &digest).await;
                vec![Fact::Signatures(kind, digest, signatures.map(Arc::new))]
            }
            // Catalogs are read where they are kept, those on disk too.
            Need::Catalogs(_) | Need::Layout(_) => vec![],
        }
    }

    /// Looks at signatures that were fetched before, with the keys and the time of now; nothing where none of them counts any
    /// more, so that the store is asked again.
    pub fn signed(
        &self,
        kind: ChannelType,
        digest: &Digest,
        messages: Vec<Vec<u8>>,
    ) -> Option<Signatures> {
        let looked = self.signatures.look(kind, digest, messages).ok();
        looked.filter(Signatures::any)
    }

    /// Reads what a tag names. Where it was read before, a HEAD tells whether it moved (and costs nothing at registries that
    /// count pulls); the first time its manifest is wanted anyway, and one GET brings both.
    async fn tag(&self, reference: Reference, last: Option<Digest>) -> Vec<Fact> {
        let Some(tag) = reference.tag.clone() else {
            return vec![];
        };
        let name = Selector::Tag(tag);
        if last.is_some() {
            let head = self.source.head(&reference.repository, &name).await;
            let digest = match head {
                Ok(Some(head)) => Ok(head.digest),
                Ok(None) => Err(Failure {
                    reason: format!(
                        "{reference} is not there (any more); what was mirrored of it stays; check its name or take it out"
                    ),
                    transient: false,
                    cause: Cause::Other,
                }),
                Err(error) => Err(failure(&error)),
            };
            return vec![Fact::Tag(reference, digest)];
        }
        match self.source.manifest(&reference.repository, &name).await {
            Ok(manifest) => {
                let digest = manifest.digest.clone();
                vec![
                    Fact::Tag(reference, Ok(digest.clone())),
                    Fact::Manifest(digest, Ok(Arc::new(manifest))),
                ]
            }
            Err(error) => vec![Fact::Tag(reference, Err(failure(&error)))],
        }
    }

    async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Arc<Manifest>, Failure> {
        let manifest = self
            .source
            .manifest(repository, &Selector::Digest(digest.clone()))
            .await;
        manifest.map(Arc::new).map_err(|e| failure(&e))
    }
}

/// A need, and what is known of the last answer.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The need.
    pub need: Need,
    /// For a tag, what it named when it was read last.
    pub last: Option<Digest>,
    /// For what belongs to images, what the last look found.
    pub before: Before,
}

impl From<Need> for Asked {
    fn from(need: Need) -> Self {
        Asked {
            need,
            last: None,
            before: Before::new(),
        }
    }
}

/// Whether an update service may answer if it is only asked again later.
fn is_passing(error: &update_service::Error) -> bool {
    match error {
        update_service::Error::Unreachable { .. } => true,
        update_service::Error::Status { status, .. } => {
            status.is_server_error() || status.as_u16() == 429
        }
        _ => false,
    }
}

fn cause_of_no_graph(error: &update_service::Error) -> Cause {
    match error {
        update_service::Error::Unreachable { .. } => Cause::Unavailable,
        update_service::Error::Status { status, .. } if matches!(status.as_u16(), 401 | 403) => {
            Cause::Authentication
        }
        _ if is_passing(error) => Cause::Unavailable,
        _ => Cause::Other,
    }
}

/// Says why a registry did not give what it was asked for.
pub fn failure(error: &registry::Error) -> Failure {
    Failure {
        reason: sentence(error),
        transient: error.is_transient() || matches!(error, registry::Error::Elsewhere(_)),
        cause: cause(error),
    }
}

/// How many places may send wrong bytes before it is given up for now.
const WRONG_PLACES: usize = 4;

/// Asks again where one of several places has sent wrong bytes: the others are asked first from then on. It is the only failure here that passes
/// by itself and that nobody's silence is the cause of.
///
/// # Errors
///
/// The last answer's.
pub async fn again<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    for _ in 0..WRONG_PLACES {
        match ask().await {
            Err(failure) if failure.transient && failure.cause == Cause::Other => {}
            answer => return answer,
        }
    }
    ask().await
}

fn cause(error: &registry::Error) -> Cause {
    match error {
        _ if error.is_authentication() => Cause::Authentication,
        registry::Error::Unreachable { .. } => Cause::Unavailable,
        _ if error.is_transient() => Cause::Unavailable,
        _ => Cause::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Error, Problem, Task};

    #[tokio::test]
    async fn wrong_bytes_of_one_of_several_places_are_asked_for_elsewhere() {
        let repository: Repository = "q.io/a".parse().unwrap();
        let wrong = || Error::Answer {
            task: Box::new(Task::ReadBlob(repository.clone(), Digest::of(b"a"))),
            host: "near.lan".to_owned(),
            problem: Problem::WrongDigest {
                expected: Digest::of(b"a"),
                encoding: None,
            },
        };
        let elsewhere = failure(&Error::Elsewhere(Box::new(wrong())));
        assert!(elsewhere.transient);
        let mut asked = 0;
        let answer = again(|| {
            asked += 1;
            let answer = match asked {
                1 => Err(elsewhere.clone()),
                _ => Ok("the bytes"),
            };
            std::future::ready(answer)
        });
        assert_eq!(answer.await, Ok("the bytes"));
        assert_eq!(asked, 2);
        // Where there is no other place, or nobody answers, it is no use.
        let lasting = failure(&wrong());
        let silent = Failure {
            transient: true,
            cause: Cause::Unavailable,
            ..lasting.clone()
        };
        for failure in [lasting, silent] {
            let mut asked = 0;
            let answer = again(|| {
                asked += 1;
                std::future::ready(Err::<(), _>(failure.clone()))
            });
            assert_eq!(answer.await, Err(failure.clone()));
            assert_eq!(asked, 1);
        }
    }
}

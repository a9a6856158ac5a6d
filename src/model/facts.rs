//! What the rules were told about the world, and what they still ask for.
//!
//! Facts that a digest names never change and may be kept for good; what a tag or a channel names is read once for a round and
//! stands for all of it. A fact may be a failure: then only what needed it fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::model::{
    accessory::{Attached, Scope},
    catalog::wish::{Filtered, Wish},
    image::{Digest, Reference, Repository},
    imageset::ChannelType,
    manifest::Manifest,
    release::{graph::Graph, payload::Payload, select::GraphKey, signature::Signatures},
};

/// Something the rules have to know before they can decide.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// The update graph of a channel.
    Graph(GraphKey),
    /// What a tag names now.
    Tag(Reference),
    /// A manifest by digest, and a repository that has it.
    Manifest(Repository, Digest),
    /// What the release payload of one architecture holds, by its manifest's digest.
    Payload(Repository, Digest),
    /// What belongs to images of one repository: all of them in one question, since one look at its tags answers for many.
    Attached(Repository, BTreeSet<(Digest, Scope)>),
    /// What is kept of the operator catalogs of an image set.
    Catalogs(Wish),
    /// What the image layout in a folder is now.
    Layout(String),
    /// What the signature store of a kind of releases has for a payload.
    Signatures(ChannelType, Digest),
}

impl Need {
    /// Returns what is asked for, in words that fit after "reading".
    pub fn subject(&self) -> String {
        match self {
            Need::Graph(key) => format!("the update graph of {} ({})", key.channel, key.arch),
            Need::Tag(reference) => reference.to_string(),
            Need::Manifest(repository, digest) => format!("{repository}@{digest}"),
            Need::Payload(repository, digest) => {
                format!("the release payload {repository}@{digest}")
            }
            Need::Attached(repository, _) => format!("signatures and referrers in {repository}"),
            Need::Catalogs(wish) => {
                let names = wish.catalogs.iter().map(|c| c.operator.catalog.as_str());
                format!("the catalogs {}", names.collect::<Vec<_>>().join(", "))
            }
            Need::Layout(folder) => format!("oci://{folder}"),
            Need::Signatures(_, digest) => format!("the signatures of {digest}"),
        }
    }
}

/// Why a fact could not be had.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Failure {
    /// One sentence: what was asked of whom, the answer, the remedy.
    pub reason: String,
    /// Whether asking again later may help without anybody doing anything.
    pub transient: bool,
    /// What stands in the way.
    pub cause: Cause,
}

impl Failure {
    /// A failure that stays until somebody does something, and that is nobody's in particular.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Failure {
            reason: reason.into(),
            transient: false,
            cause: Cause::Other,
        }
    }
}

/// What stands in the way where something cannot be had; of several, the greatest asks for most of a person.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Who has it does not answer, or not as it should now.
    Unavailable,
    /// Who has it does not accept who asks.
    Authentication,
    /// It is not there, or is not what it should be; also in records from before causes were told.
    #[default]
    Other,
}

/// What is known.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Update graphs; a failure is the sentence.
    pub graphs: BTreeMap<GraphKey, Result<Arc<Graph>, String>>,
    /// What tags name.
    pub tags: BTreeMap<Reference, Result<Digest, Failure>>,
    /// Manifests by digest.
    pub manifests: BTreeMap<Digest, Result<Arc<Manifest>, Failure>>,
    /// Payloads by the digest of their manifest.
    pub payloads: BTreeMap<Digest, Result<Arc<Payload>, Failure>>,
    /// What belongs to images, by the repository it was looked for in. It says itself what could not be looked for.
    pub attached: BTreeMap<Repository, BTreeMap<(Digest, Scope), Arc<Attached>>>,
    /// What signature stores have for payloads; a failure is a store or a keyring that cannot be used.
    pub signatures: BTreeMap<(ChannelType, Digest), Result<Arc<Signatures>, Failure>>,
    /// What is to be said of the graphs that failed beside the sentence.
    pub failed_graphs: BTreeMap<GraphKey, Failure>,
    /// What is kept of the catalogs of image sets, by what was asked.
    pub catalogs: BTreeMap<Digest, Arc<Vec<Result<Filtered, Failure>>>>,
    /// What the image layouts in folders are.
    pub layouts: BTreeMap<String, Result<Digest, Failure>>,
}

/// One thing learnt, the answer to a [`Need`].
#[derive(Debug, Clone)]
pub enum Fact {
    /// Answers [`Need::Graph`].
    Graph(GraphKey, Result<Arc<Graph>, Failure>),
    /// Answers [`Need::Tag`].
    Tag(Reference, Result<Digest, Failure>),
    /// Answers [`Need::Manifest`].
    Manifest(Digest, Result<Arc<Manifest>, Failure>),
    /// Answers [`Need::Payload`].
    Payload(Digest, Result<Arc<Payload>, Failure>),
    /// Answers [`Need::Attached`] for one image.
    Attached(Repository, (Digest, Scope), Arc<Attached>),
    /// Answers [`Need::Catalogs`].
    Catalogs(Digest, Arc<Vec<Result<Filtered, Failure>>>),
    /// Answers [`Need::Layout`].
    Layout(String, Result<Digest, Failure>),
    /// Answers [`Need::Signatures`].
    Signatures(ChannelType, Digest, Result<Arc<Signatures>, Failure>),
}

impl Facts {
    /// Takes in one fact. A failure never takes the place of what is known: of two repositories that were asked for the same
    /// digest, the one that has it counts, whichever answered last.
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Graph(key, Ok(graph)) => {
                self.failed_graphs.remove(&key);
                self.graphs.insert(key, Ok(graph));
            }
            Fact::Graph(key, Err(failure)) => {
                if self.graphs.get(&key).is_some_and(Result::is_ok) {
                    return;
                }
                self.graphs.insert(key.clone(), Err(failure.reason.clone()));
                self.failed_graphs.insert(key, failure);
            }
            Fact::Tag(reference, digest) => settle(&mut self.tags, reference, digest),
            Fact::Manifest(digest, manifest) => settle(&mut self.manifests, digest, manifest),
            Fact::Payload(digest, payload) => settle(&mut self.payloads, digest, payload),
            Fact::Attached(repository, image, attached) => {
                let known = self.attached.entry(repository).or_default();
                known.insert(image, attached);
            }
            Fact::Catalogs(key, filtered) => {
                self.catalogs.insert(key, filtered);
            }
            Fact::Layout(folder, digest) => settle(&mut self.layouts, folder, digest),
            Fact::Signatures(kind, digest, signatures) => {
                settle(&mut self.signatures, (kind, digest), signatures);
            }
        }
    }

    /// Returns what belongs to an image, where it was looked for.
    pub fn attached(
        &self,
        repository: &Repository,
        digest: &Digest,
        scope: Scope,
    ) -> Option<&Arc<Attached>> {
        let known = self.attached.get(repository)?;
        known.get(&(digest.clone(), scope))
    }

    /// Whether a need is answered.
    pub fn answers(&self, need: &Need) -> bool {
        match need {
            Need::Graph(key) => self.graphs.contains_key(key),
            Need::Tag(reference) => self.tags.contains_key(reference),
            Need::Manifest(_, digest) => self.manifests.contains_key(digest),
            Need::Payload(_, digest) => self.payloads.contains_key(digest),
            Need::Attached(repository, images) => images
                .iter()
                .all(|(digest, scope)| self.attached(repository, digest, *scope).is_some()),
            Need::Catalogs(wish) => self.catalogs.contains_key(&wish.key),
            Need::Layout(folder) => self.layouts.contains_key(folder),
            Need::Signatures(kind, digest) => {
                self.signatures.contains_key(&(*kind, digest.clone()))
            }
        }
    }
}

/// Puts an answer in its place, unless it is a failure where an answer is known.
fn settle<K: Ord, V>(
    known: &mut BTreeMap<K, Result<V, Failure>>,
    key: K,
    answer: Result<V, Failure>,
) {
    if answer.is_ok() || !known.get(&key).is_some_and(Result::is_ok) {
        known.insert(key, answer);
    }
}

/// The answer of a rule that may lack facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built<T> {
    /// All facts were there.
    Whole(T),
    /// These are lacking; ask for all of them at once, then again.
    Missing(BTreeSet<Need>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(transient: bool) -> Failure {
        Failure {
            reason: "it is gone".into(),
            transient,
            cause: Cause::Unavailable,
        }
    }

    fn key() -> GraphKey {
        GraphKey {
            channel_type: Default::default(),
            channel: "stable-4.16".into(),
            arch: "amd64".into(),
        }
    }

    #[test]
    fn a_failure_never_hides_what_another_repository_had() {
        let reference: Reference = "a.io/x:1".parse().unwrap();
        let digest = Digest::of(b"x");
        let good = Fact::Tag(reference.clone(), Ok(digest.clone()));
        let bad = Fact::Tag(reference.clone(), Err(failure(false)));
        for order in [[&good, &bad], [&bad, &good]] {
            let mut facts = Facts::default();
            order.into_iter().for_each(|f| facts.learn(f.clone()));
            assert_eq!(
                facts.tags,
                BTreeMap::from([(reference.clone(), Ok(digest.clone()))])
            );
        }
    }

    #[test]
    fn a_later_failure_takes_the_place_of_an_earlier_one() {
        let reference: Reference = "a.io/x:1".parse().unwrap();
        let mut facts = Facts::default();
        facts.learn(Fact::Tag(reference.clone(), Err(failure(true))));
        facts.learn(Fact::Tag(reference.clone(), Err(failure(false))));
        assert_eq!(
            facts.tags,
            BTreeMap::from([(reference, Err(failure(false)))])
        );
    }

    #[test]
    fn a_graph_that_came_after_all_is_no_passing_failure_any_more() {
        let mut facts = Facts::default();
        facts.learn(Fact::Graph(key(), Err(failure(true))));
        assert_eq!(
            facts.failed_graphs,
            BTreeMap::from([(key(), failure(true))])
        );
        let graph = Graph::parse(br#"{"nodes":[],"edges":[]}"#).unwrap();
        facts.learn(Fact::Graph(key(), Ok(Arc::new(graph))));
        assert_eq!(facts.failed_graphs, BTreeMap::new());
        assert!(facts.graphs[&key()].is_ok());
        facts.learn(Fact::Graph(key(), Err(failure(true))));
        assert!(facts.graphs[&key()].is_ok());
    }

    #[test]
    fn a_failure_is_an_answer_too() {
        let mut facts = Facts::default();
        let reference: Reference = "a.io/x:1".parse().unwrap();
        let tag = Need::Tag(reference.clone());
        assert!(!facts.answers(&tag));
        facts.learn(Fact::Tag(reference.clone(), Err(failure(false))));
        assert!(facts.answers(&tag));
        let digest = Digest::of(b"x");
        let manifest = Need::Manifest(reference.repository.clone(), digest.clone());
        assert!(!facts.answers(&manifest));
        facts.learn(Fact::Manifest(digest.clone(), Err(failure(false))));
        assert!(facts.answers(&manifest));
        assert!(!facts.answers(&Need::Payload(reference.repository, digest)));
        assert!(!facts.answers(&Need::Graph(key())));
    }
}

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
    image::{Digest, Reference, Repository},
    manifest::Manifest,
    release::{graph::Graph, payload::Payload, select::GraphKey},
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
    /// Whether any failure among the graphs may pass by itself.
    pub transient_graphs: BTreeSet<GraphKey>,
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
}

impl Facts {
    /// Takes in one fact; what is known already stays, but a failure gives way.
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Graph(key, graph) => {
                if graph.as_ref().is_err_and(|f| f.transient) {
                    self.transient_graphs.insert(key.clone());
                }
                self.graphs.insert(key, graph.map_err(|f| f.reason));
            }
            Fact::Tag(reference, digest) => {
                self.tags.insert(reference, digest);
            }
            Fact::Manifest(digest, manifest) => {
                self.manifests.insert(digest, manifest);
            }
            Fact::Payload(digest, payload) => {
                self.payloads.insert(digest, payload);
            }
        }
    }

    /// Whether a need is answered.
    pub fn answers(&self, need: &Need) -> bool {
        match need {
            Need::Graph(key) => self.graphs.contains_key(key),
            Need::Tag(reference) => self.tags.contains_key(reference),
            Need::Manifest(_, digest) => self.manifests.contains_key(digest),
            Need::Payload(_, digest) => self.payloads.contains_key(digest),
        }
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

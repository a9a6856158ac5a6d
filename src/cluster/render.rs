//! From units to documents: one function over all image sets and all that is published.
//!
//! All together, since a node looks at all rules together: it uses the longest matching source only, and the
//! machine-config-operator refuses everything when two rules disagree about contacting one source.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    cluster::{
        Options, Unit,
        book::{Book, Key},
        contact,
        document::{Document, Rule},
        needs::Needs,
        object::Object,
        scope::Scope,
    },
    model::{imageset::SetName, policy::MirrorSourcePolicy},
};

/// Beyond this the API server may refuse an object (etcd takes requests of 1.5 MiB).
const LARGE_DOCUMENT: usize = 1 << 20;

/// The documents as they should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendering {
    /// All documents of all image sets, by file name.
    pub documents: Vec<Document>,
    /// The documents that hold no rules, by file name; rendering rules leaves them out.
    pub objects: Vec<Object>,
    /// File names of published documents that are no more; only retiring takes documents away.
    pub removed: Vec<String>,
    /// What a person should know, by image set.
    pub warnings: Vec<Warning>,
}

impl Rendering {
    /// Puts these documents in the place of its own.
    pub fn keep(&mut self, documents: Vec<Document>) {
        let kept: BTreeSet<&String> = documents.iter().map(|d| &d.file_name).collect();
        self.removed.retain(|file| !kept.contains(file));
        self.documents = documents;
    }
}

/// Something about an image set's rules that may not be what was meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Warning {
    /// The image set.
    pub set: SetName,
    /// One sentence.
    pub message: String,
}

/// Renders the documents of all image sets.
///
/// `units` are all units of all image sets, landed or not; `published` is everything of ours in the output folder: a published
/// source never vanishes here and its mirrors stay, behind those needed now (see [`super::retire::retire`]). Rendering again what
/// was rendered gives the same bytes.
pub fn render(units: &[Unit], published: &[Document], options: &Options) -> Rendering {
    let needs = Needs::of(units);
    let mut book = Book::published(published);
    for (need, source, mirror) in needs.rules(options) {
        book.add(&need.key, &source, &mirror, true);
    }
    book.inherit(&needs);
    let (policies, warnings) = contact::policies(&book, &needs, units, published, options);
    let mut warnings: BTreeSet<Warning> = needs.warnings.into_iter().chain(warnings).collect();
    let documents = documents(&book, &policies, &mut warnings);
    let names: BTreeSet<_> = documents.iter().map(|d| &d.file_name).collect();
    let gone = published.iter().map(|d| &d.file_name);
    Rendering {
        removed: gone.filter(|name| !names.contains(name)).cloned().collect(),
        documents,
        objects: Vec::new(),
        warnings: warnings.into_iter().collect(),
    }
}

fn documents(
    book: &Book,
    policies: &BTreeMap<Scope, MirrorSourcePolicy>,
    warnings: &mut BTreeSet<Warning>,
) -> Vec<Document> {
    let needed = book.needed();
    let mut documents: BTreeMap<String, Document> = BTreeMap::new();
    for (key, sources) in &book.0 {
        let rules = sources.iter().map(|(source, mirrors)| Rule {
            source: source.clone(),
            mirrors: ordered(key, source, mirrors.keys(), &needed),
            policy: policies.get(source).copied().unwrap_or_default(),
        });
        let document = Document::new(key.set.clone(), key.purpose, key.kind, rules.collect());
        let mut warn = |message| {
            warnings.insert(Warning {
                set: key.set.clone(),
                message,
            })
        };
        if let Some(other) = documents.get(&document.file_name) {
            let (file, other) = (&document.file_name, &other.set);
            warn(format!(
                "its documents are not written, since image set `{other}` comes to the same name `{file}`; rename one of the two files"
            ));
            continue;
        }
        if document.text.len() > LARGE_DOCUMENT {
            let (file, bytes) = (&document.file_name, document.text.len());
            warn(format!(
                "`{file}` has {bytes} bytes, and API servers take objects up to 1.5 MiB; a wider mirror_scope, or several image sets, make it smaller"
            ));
        }
        documents.insert(document.file_name.clone(), document);
    }
    documents.into_values().collect()
}

/// Puts what landed images need first, by name, and the rest after it, by name. All documents order a source's mirrors by the
/// same rule, so that merging their lists on a node never meets a contradiction.
fn ordered<'a>(
    key: &Key,
    source: &Scope,
    mirrors: impl Iterator<Item = &'a Scope>,
    needed: &BTreeSet<(crate::cluster::Kind, &Scope, &Scope)>,
) -> Vec<Scope> {
    let (mut first, rest): (Vec<Scope>, Vec<Scope>) = mirrors
        .cloned()
        .partition(|m| needed.contains(&(key.kind, source, m)));
    first.extend(rest);
    first
}

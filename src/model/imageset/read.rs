//! Files into image sets: which documents are image sets, what they are called, and what is wrong with each.

use std::collections::{BTreeMap, HashSet};

use super::{
    ImageSet, Problem, SetName, Severity,
    collide::{self, Claim, Claims},
    parse::{self, DELETE_KIND, GROUP, KIND},
};
use crate::yaml::{
    self, Document, Node, Value,
    report::{Dialect, Report},
};

/// A file of the watched directory, or one that a person names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The path as it was given; problems show it.
    pub path: String,
    /// The path within the directory, with `/`, which image sets are named by.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// An image set that was found, be it good or broken.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundSet {
    /// Its name. Two of one name are both broken for that reason.
    pub name: SetName,
    /// The file it is in, as it was given.
    pub file: String,
    /// The line its document begins on, from 1; 0 where the file could not be taken apart.
    pub line: u32,
    /// Whether the file could not be taken apart at all: it may hold the sets `name#2` and on, as broken as this one.
    pub whole_file: bool,
    /// The image set; nothing where it has errors.
    pub image_set: Option<ImageSet>,
    /// What is wrong with it, sorted by place.
    pub problems: Vec<Problem>,
}

/// A document that is no image set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The file it is in, as it was given.
    pub file: String,
    /// The line it begins on, from 1.
    pub line: u32,
    /// Its kind, where it has one.
    pub kind: Option<String>,
}

/// What files hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Read {
    /// The image sets, by their file's name and then by place.
    pub image_sets: Vec<FoundSet>,
    /// All their problems, sorted by file, line and column.
    pub problems: Vec<Problem>,
    /// The documents that are something else.
    pub ignored: Vec<Ignored>,
}

/// Reads image sets that all go to one mirror.
///
/// Only files whose name ends in `.yaml` or `.yml` are looked at. An image set is called as its file without that ending; the second
/// image set of a file carries `#2` and so on. What counts is image sets alone, not other documents of the file, but a broken
/// document that may be one counts, so that breaking it renames none of the others.
pub fn read(files: &[SourceFile]) -> Read {
    read_for(files, |_| (), |_, _, _| false)
}

/// Reads image sets; only those of an equal `target` can be in each other's way. Of two that are, one that `holds` the place (path
/// below the mirror's prefix, and tag) since it was mirrored there is not stalled by the other.
pub fn read_for<T: Ord>(
    files: &[SourceFile],
    target: impl Fn(&SetName) -> T,
    holds: impl Fn(&SetName, &str, &str) -> bool,
) -> Read {
    let mut files: Vec<&SourceFile> = files.iter().collect();
    files.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    let mut ignored = Vec::new();
    let mut drafts = Vec::new();
    for file in files {
        if let Some(stem) = stem(&file.name) {
            read_file(file, stem, &mut drafts, &mut ignored);
        }
    }
    check_names(&mut drafts);
    check_targets(&mut drafts, target, holds);
    let image_sets: Vec<FoundSet> = drafts.into_iter().map(Draft::finish).collect();
    let mut problems: Vec<Problem> = image_sets
        .iter()
        .flat_map(|set| set.problems.clone())
        .collect();
    problems.sort();
    Read {
        image_sets,
        problems,
        ignored,
    }
}

/// The name without its ending; nothing for other files.
fn stem(name: &str) -> Option<&str> {
    let stem = name
        .strip_suffix(".yaml")
        .or_else(|| name.strip_suffix(".yml"))?;
    (!stem.is_empty() && !stem.ends_with('/')).then_some(stem)
}

/// An image set whose problems are not all known yet.
struct Draft {
    set: FoundSet,
    claims: Vec<Claim>,
}

impl Draft {
    fn is_sound(&self) -> bool {
        self.set.image_set.is_some() && !self.set.problems.iter().any(is_error)
    }

    fn finish(mut self) -> FoundSet {
        self.set.problems.sort();
        self.set.problems.dedup();
        if self.set.problems.iter().any(is_error) {
            self.set.image_set = None;
        }
        self.set
    }
}

fn is_error(problem: &Problem) -> bool {
    problem.severity == Severity::Error
}

/// Reads the documents of one file.
fn read_file(file: &SourceFile, stem: &str, drafts: &mut Vec<Draft>, ignored: &mut Vec<Ignored>) {
    let documents = match yaml::parse(&file.path, &file.bytes) {
        Ok(documents) => documents,
        Err(problem) => {
            let set = FoundSet {
                name: SetName(stem.to_owned()),
                file: file.path.clone(),
                line: 0,
                whole_file: true,
                image_set: None,
                problems: vec![problem],
            };
            drafts.push(Draft {
                set,
                claims: Vec::new(),
            });
            return;
        }
    };
    let mut count = 0;
    for document in documents {
        let kind = kind(&document);
        if is_image_set(&document, kind.as_deref()) {
            count += 1;
            let name = match count {
                1 => SetName(stem.to_owned()),
                n => SetName(format!("{stem}#{n}")),
            };
            drafts.push(read_document(file, name, &document));
        } else {
            ignored.push(Ignored {
                file: file.path.clone(),
                line: document.line,
                kind,
            });
        }
    }
}

/// Reads a document that is an image set.
fn read_document(file: &SourceFile, name: SetName, document: &Document<'_>) -> Draft {
    let report = Report::new(&file.path, Dialect::OcMirror, document);
    let root = document.root.as_deref();
    let parsed = root.and_then(|root| parse::document(&report.root(root), &name));
    let (image_set, claims) = match parsed {
        Some(parsed) => (Some(parsed.image_set), parsed.claims),
        None => (None, Vec::new()),
    };
    let set = FoundSet {
        name,
        file: file.path.clone(),
        line: document.line,
        whole_file: false,
        image_set,
        problems: report.into_problems(),
    };
    Draft { set, claims }
}

/// The kind of a document; of one with broken syntax, what a line of it says.
fn kind(document: &Document<'_>) -> Option<String> {
    match &document.root {
        Some(root) => field(root, "kind").map(str::to_owned),
        None => document.text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            let word = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
            let value = value.split(" #").next().unwrap_or_default();
            (word(key).eq_ignore_ascii_case("kind") && !word(value).is_empty()).then(|| word(value))
        }),
    }
}

/// A text among the fields of a document's root.
fn field<'n>(root: &'n Node, key: &str) -> Option<&'n str> {
    let Value::Mapping(entries) = &root.value else {
        return None;
    };
    let entry = entries
        .iter()
        .find(|entry| entry.key.eq_ignore_ascii_case(key))?;
    match &entry.value.value {
        Value::Scalar(scalar) if !scalar.text.is_empty() => Some(&scalar.text),
        _ => None,
    }
}

/// Whether a document is an image set, or was meant to be one.
///
/// Its kind decides, a slip or two in it allowed for. Without a kind it is one where it is of oc-mirror's group, or has a mapping `mirror`
/// and no other mark of Kubernetes; where its syntax is broken and it may be one, it is taken for one rather than passed over.
fn is_image_set(document: &Document<'_>, kind: Option<&str>) -> bool {
    /// What oc-mirror writes for itself.
    const OTHERS: [&str; 2] = ["DeleteImageList", "Metadata"];
    let group = document
        .root
        .as_deref()
        .and_then(|root| field(root, "apiVersion"));
    let ours = group.is_some_and(|version| version.starts_with(GROUP));
    match (kind, &document.root) {
        (Some(kind), _) if is_near(kind, KIND) || is_near(kind, DELETE_KIND) => true,
        (Some(kind), _) => ours && !OTHERS.contains(&kind),
        (None, None) => true,
        (None, Some(root)) => ours || (group.is_none() && has_mirror(root)),
    }
}

/// Whether a word is another one but for letter case and two slips.
fn is_near(word: &str, other: &str) -> bool {
    word.len() <= 64 && strsim::osa_distance(&word.to_lowercase(), &other.to_lowercase()) <= 2
}

/// Whether a document has the stanza that image sets have, with something they ask for in it.
fn has_mirror(root: &Node) -> bool {
    const STANZAS: [&str; 5] = [
        "platform",
        "operators",
        "additionalImages",
        "helm",
        "blockedImages",
    ];
    let Value::Mapping(entries) = &root.value else {
        return false;
    };
    entries.iter().filter(|entry| &*entry.key == "mirror").any(|entry| {
        matches!(&entry.value.value, Value::Mapping(inner) if inner.iter().any(|entry| STANZAS.contains(&&*entry.key)))
    })
}

/// Reports image sets of one name, such as those of `a.yaml` and `a.yml`.
fn check_names(drafts: &mut [Draft]) {
    let mut by_name: BTreeMap<SetName, Vec<usize>> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        by_name
            .entry(draft.set.name.clone())
            .or_default()
            .push(index);
    }
    for (name, indices) in by_name.into_iter().filter(|(_, indices)| indices.len() > 1) {
        let files: Vec<String> = indices
            .iter()
            .map(|&index| drafts[index].set.file.clone())
            .collect();
        for &index in &indices {
            let mine = drafts[index].set.file.clone();
            let other = files.iter().find(|file| **file != mine).unwrap_or(&mine);
            let problem = Problem {
                message: format!("the image set `{name}` is in `{other}` too"),
                file: mine,
                line: 0,
                column: 0,
                severity: Severity::Error,
                path: String::new(),
                hint: "rename one of the two files, or remove it".to_owned(),
            };
            drafts[index].set.problems.push(problem);
        }
    }
}

/// Reports sources that would land on one target.
fn check_targets<T: Ord>(
    drafts: &mut [Draft],
    target: impl Fn(&SetName) -> T,
    holds: impl Fn(&SetName, &str, &str) -> bool,
) {
    let mut groups: BTreeMap<T, Vec<usize>> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        groups
            .entry(target(&draft.set.name))
            .or_default()
            .push(index);
    }
    let mut found = Vec::new();
    for indices in groups.into_values() {
        let drafts: Vec<&Draft> = indices.iter().map(|&index| &drafts[index]).collect();
        let holding: Vec<_> = drafts
            .iter()
            .map(|draft| |path: &str, tag: &str| holds(&draft.set.name, path, tag))
            .collect();
        let sets: Vec<Claims<'_>> = drafts
            .iter()
            .zip(&holding)
            .map(|(draft, holds)| Claims {
                file: &draft.set.file,
                sound: draft.is_sound(),
                holds,
                claims: &draft.claims,
            })
            .collect();
        let problems = collide::check(&sets);
        found.extend(
            problems
                .into_iter()
                .map(|(set, problem)| (indices[set], problem)),
        );
    }
    let mut seen = HashSet::new();
    for (index, problem) in found {
        // One that is in the way of many is told once.
        if seen.insert((index, problem.line, problem.column)) {
            drafts[index].set.problems.push(problem);
        }
    }
}

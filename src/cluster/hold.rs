//! What documents do to the clusters that take them, and which of them wait since they would disturb nodes.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    cluster::{
        Kind,
        document::{Document, Rule},
        forecast::{self, Forecast},
        node::Node,
        objects::{Entry, Form, MirrorSet, Objects, Spot},
    },
    model::{imageset::SetName, policy},
};

/// A cluster that takes documents, and what is known of it.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The cluster's name.
    pub cluster: String,
    /// Patterns of the image sets whose documents it takes.
    pub image_sets: Vec<String>,
    /// What it holds, or why that is not known, a clause.
    pub objects: Result<Objects, String>,
    /// When the picture was taken.
    pub taken: Option<Timestamp>,
}

/// A document that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The image set it is of.
    pub set: SetName,
    /// Its file in the output folder.
    pub file_name: String,
    /// The object's kind.
    pub kind: &'static str,
    /// The object's name.
    pub name: String,
    /// What writing it would do, and to which cluster, one clause.
    pub why: String,
}

impl Picture {
    /// Whether it takes the documents of an image set.
    pub fn takes(&self, set: &SetName) -> bool {
        let matches = |pattern: &String| policy::matches(pattern, &set.0);
        self.image_sets.iter().any(matches)
    }

    /// Says what happens to the cluster as it is in the picture when `after` is applied to it, where it has had `before` at most.
    pub fn forecast(&self, before: &[Document], after: &[Document]) -> Forecast {
        let (before, after) = (self.taken_of(before), self.taken_of(after));
        match &self.objects {
            Ok(cluster) => forecast::of_objects(&objects(&before), &objects(&after), Some(cluster)),
            Err(_) if before == after => Forecast::default(),
            Err(why) => Forecast::unknown(why),
        }
    }

    /// Says what `after` does to the cluster beyond `before`, which it is taken to have.
    pub fn step<'a>(
        &self,
        before: impl IntoIterator<Item = &'a Document>,
        after: impl IntoIterator<Item = &'a Document>,
    ) -> Forecast {
        let (before, after) = (self.taken_of(before), self.taken_of(after));
        if before == after {
            return Forecast::default();
        }
        match &self.objects {
            Ok(cluster) => {
                let (before, after) = (objects(&before), objects(&after));
                let cluster = cluster.with_change(&Objects::default(), &before);
                forecast::of_objects(&before, &after, Some(&cluster))
            }
            Err(why) => Forecast::unknown(why),
        }
    }

    fn taken_of<'a>(&self, documents: impl IntoIterator<Item = &'a Document>) -> Vec<&'a Document> {
        let documents = documents.into_iter();
        documents.filter(|d| self.takes(&d.set)).collect()
    }
}

/// Returns documents of ours as a cluster has them, once they are applied.
fn objects(documents: &[&Document]) -> Objects {
    let set = |document: &&Document| {
        let spot = Spot {
            file: document.file_name.as_str().into(),
            line: 0,
            column: 0,
            path: String::new(),
        };
        let entry = |rule: &Rule| Entry {
            spot: spot.clone(),
            rule: Some(rule.clone()),
        };
        MirrorSet {
            form: match document.kind {
                Kind::Digest => Form::Idms,
                Kind::Tag => Form::Itms,
            },
            name: document.name.clone(),
            image_set: Some(document.set.0.clone()),
            entries: document.rules.iter().map(entry).collect(),
            spot,
        }
    };
    Objects {
        sets: documents.iter().map(set).collect(),
        ..Objects::default()
    }
}

/// Returns the documents as they may be written now, and those of `rendered` that wait.
///
/// A document of an image set of which `waits` says so waits where writing it drains a cluster that takes it, or where that is not known;
/// where no cluster is known, where it drains one that has our documents and nothing else. Documents of which only some may be written
/// and that clusters refuse without the others wait together.
pub fn sift(
    published: &[Document],
    rendered: &[Document],
    pictures: &[Picture],
    waits: impl Fn(&SetName) -> bool,
) -> (Vec<Document>, Vec<Held>) {
    let was = by_file(published);
    let same = |d: &Document| {
        was.get(d.file_name.as_str())
            .is_some_and(|old| old.text == d.text)
    };
    let changed: Vec<&Document> = rendered.iter().filter(|d| !same(d)).collect();
    let waiting: Vec<&Document> = changed.iter().copied().filter(|d| waits(&d.set)).collect();
    if waiting.is_empty() {
        return (rendered.to_vec(), Vec::new());
    }
    // What is published and not rendered any more is taken away on purpose.
    let mut accepted = by_file(rendered);
    for document in &waiting {
        let file = document.file_name.as_str();
        match was.get(file) {
            Some(old) => accepted.insert(file, old),
            None => accepted.remove(file),
        };
    }
    let mut held = Vec::new();
    for document in waiting {
        let mut with = accepted.clone();
        with.insert(&document.file_name, document);
        match disturbs(&document.set, &accepted, &with, pictures) {
            None => accepted = with,
            Some(why) => held.push(held_back(document, why)),
        }
    }
    let accepted: Vec<Document> = accepted.into_values().cloned().collect();
    let whole = |documents: &[Document]| Node::of(documents).is_ok();
    if !whole(&accepted) && whole(published) {
        let together = "it belongs together with another document that waits";
        let untold = |d: &&&Document| held.iter().all(|h: &Held| h.file_name != d.file_name);
        let rest: Vec<Held> = changed
            .iter()
            .filter(untold)
            .map(|d| held_back(d, together.to_owned()))
            .collect();
        held.extend(rest);
        held.sort_by(|a, b| a.file_name.cmp(&b.file_name));
        return (published.to_vec(), held);
    }
    (accepted, held)
}

/// Documents by their files.
type ByFile<'a> = BTreeMap<&'a str, &'a Document>;

fn by_file(documents: &[Document]) -> ByFile<'_> {
    let documents = documents.iter();
    documents.map(|d| (d.file_name.as_str(), d)).collect()
}

fn held_back(document: &Document, why: String) -> Held {
    Held {
        set: document.set.clone(),
        file_name: document.file_name.clone(),
        kind: document.kind.object(),
        name: document.name.clone(),
        why,
    }
}

/// Says why nodes would be disturbed; nothing where they would not.
fn disturbs(
    set: &SetName,
    before: &ByFile<'_>,
    after: &ByFile<'_>,
    pictures: &[Picture],
) -> Option<String> {
    let mut known = pictures.iter().filter(|p| p.takes(set)).peekable();
    if known.peek().is_none() {
        let all =
            |documents: &ByFile<'_>| objects(&documents.values().copied().collect::<Vec<_>>());
        let forecast = forecast::of_objects(&all(before), &all(after), None);
        return forecast.drain.then(|| said(&forecast));
    }
    known.find_map(|picture| {
        let forecast = picture.step(before.values().copied(), after.values().copied());
        let said = || format!("on {}, {}", picture.cluster, said(&forecast));
        forecast.drain.then(said)
    })
}

fn said(forecast: &Forecast) -> String {
    let what = match forecast.word() {
        "unknown" => "it is not known what nodes do",
        "reboot" => "it reboots nodes",
        _ => "it drains nodes",
    };
    let first = forecast.reasons.first();
    let why = match (first, forecast.unknown) {
        (Some(reason), _) => reason.message.as_str(),
        (None, true) => forecast.note.as_str(),
        (None, false) => "",
    };
    let more = match forecast.reasons.len() {
        0 | 1 => String::new(),
        n => format!(", and {} more", n - 1),
    };
    match why {
        "" => what.to_owned(),
        why => format!("{what} ({why}{more})"),
    }
}

#[cfg(test)]
mod tests;

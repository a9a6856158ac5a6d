//! What differs between two sets of documents, rule by rule: what plans show.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    cluster::{
        Kind, Purpose,
        document::{Document, Rule},
        scope::Scope,
    },
    model::imageset::SetName,
};

/// A rule that is new, other or gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The document's file name.
    pub file_name: String,
    /// The image set.
    pub set: SetName,
    /// The part of the image set.
    pub purpose: Purpose,
    /// The kind of reference that the rule serves.
    pub kind: Kind,
    /// The rule before; nothing for a new one.
    pub before: Option<Rule>,
    /// The rule after; nothing for one that is gone.
    pub after: Option<Rule>,
}

impl Change {
    /// Returns `added`, `changed` or `removed`.
    pub fn verb(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "added",
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "removed",
        }
    }
}

/// Returns the rules that differ, by file name and source. Documents that differ in their text alone have no changes.
pub fn diff(before: &[Document], after: &[Document]) -> Vec<Change> {
    let (before, after) = (by_place(before), by_place(after));
    let places: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    places
        .into_iter()
        .filter(|place| before.get(place).map(|(_, r)| r) != after.get(place).map(|(_, r)| r))
        .filter_map(|place| {
            let (document, _) = after.get(place).or_else(|| before.get(place))?;
            let rule = |rules: &Places| rules.get(place).map(|(_, rule)| (*rule).clone());
            Some(Change {
                file_name: document.file_name.clone(),
                set: document.set.clone(),
                purpose: document.purpose,
                kind: document.kind,
                before: rule(&before),
                after: rule(&after),
            })
        })
        .collect()
}

type Places<'a> = BTreeMap<(&'a str, &'a Scope), (&'a Document, &'a Rule)>;

fn by_place(documents: &[Document]) -> Places<'_> {
    let mut places = BTreeMap::new();
    for document in documents {
        for rule in &document.rules {
            places.insert(
                (document.file_name.as_str(), &rule.source),
                (document, rule),
            );
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy::MirrorSourcePolicy;

    #[test]
    fn changes_are_told_rule_by_rule() {
        let rule = |source: &str, mirror: &str| Rule {
            source: source.parse().unwrap(),
            mirrors: vec![mirror.parse().unwrap()],
            policy: MirrorSourcePolicy::AllowContactingSource,
        };
        let document =
            |rules| Document::new(SetName("a".into()), Purpose::Additional, Kind::Tag, rules);
        let before = document(vec![
            rule("q.io/a", "m.io/a"),
            rule("q.io/b", "m.io/b"),
            rule("q.io/c", "m.io/c"),
        ]);
        let after = document(vec![
            rule("q.io/a", "m.io/a"),
            rule("q.io/b", "m.io/x"),
            rule("q.io/d", "m.io/d"),
        ]);
        let told: Vec<_> = diff(std::slice::from_ref(&before), &[after])
            .into_iter()
            .map(|c| {
                (
                    c.verb(),
                    c.before.map(|r| r.mirrors[0].to_string()),
                    c.after.map(|r| r.mirrors[0].to_string()),
                )
            })
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                ("changed", some("m.io/b"), some("m.io/x")),
                ("removed", some("m.io/c"), None),
                ("added", None, some("m.io/d"))
            ]
        );
        let same = [before];
        assert_eq!(diff(&same, &same), []);
    }
}

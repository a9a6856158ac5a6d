//! The record of repositories, tags and manifests, as it stands in `index.json`.
//!
//! **Invariant:** the same content gives the same bytes; entries of other tools that name no repository are kept as they are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::model::{
    image::{Digest, Tag, check_path},
    manifest::OCI_INDEX,
};

/// The annotation that names an entry (image-spec, `annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A manifest as a repository holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its identity.
    pub digest: Digest,
    /// What it is served as.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
}

/// How a manifest is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// By what it is.
    Digest(Digest),
    /// By what a repository calls it at the moment.
    Tag(Tag),
}

/// What one repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Held {
    tags: BTreeMap<Tag, Digest>,
    manifests: BTreeMap<Digest, Entry>,
}

/// All repositories of a layout.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Index {
    repositories: BTreeMap<String, Held>,
    others: Vec<Value>,
}

impl Index {
    /// Reads the bytes of an `index.json`.
    pub(super) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let document: Value = serde_json::from_slice(text)?;
        let mut index = Index::default();
        let Some(items) = document.get("manifests").and_then(Value::as_array) else {
            return Err(serde::de::Error::missing_field("manifests"));
        };
        for item in items {
            match read(item) {
                Some((repository, key, entry)) => {
                    let tag = match key {
                        Key::Tag(tag) => Some(tag),
                        Key::Digest(_) => None,
                    };
                    index.put(&repository, entry, tag.as_ref());
                }
                None => index.others.push(item.clone()),
            }
        }
        Ok(index)
    }

    /// Returns the bytes of the `index.json`.
    pub(super) fn render(&self) -> Vec<u8> {
        let mut items = Vec::new();
        for (repository, held) in &self.repositories {
            let tagged = held.tags.iter().filter_map(|(tag, digest)| {
                Some((format!("{repository}:{tag}"), held.manifests.get(digest)?))
            });
            let named: BTreeSet<&Digest> = held.tags.values().collect();
            let untagged = held
                .manifests
                .values()
                .filter(|entry| !named.contains(&entry.digest))
                .map(|entry| (format!("{repository}@{}", entry.digest), entry));
            items.extend(tagged.chain(untagged).map(|(name, entry)| {
                json!({
                    "mediaType": entry.media_type,
                    "digest": entry.digest.to_string(),
                    "size": entry.size,
                    "annotations": {REF_NAME: name},
                })
            }));
        }
        items.extend(self.others.iter().cloned());
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": items})
            .to_string()
            .into_bytes()
    }

    /// Records a manifest, under a tag where one is given; a tag that named another one moves.
    pub(super) fn put(&mut self, repository: &str, entry: Entry, tag: Option<&Tag>) {
        let held = self.repositories.entry(repository.to_owned()).or_default();
        if let Some(tag) = tag {
            held.tags.insert(tag.clone(), entry.digest.clone());
        }
        held.manifests.insert(entry.digest.clone(), entry);
    }

    /// Returns the manifest that `key` names in `repository`.
    pub(super) fn find(&self, repository: &str, key: &Key) -> Option<&Entry> {
        let held = self.repositories.get(repository)?;
        match key {
            Key::Digest(digest) => held.manifests.get(digest),
            Key::Tag(tag) => held.manifests.get(held.tags.get(tag)?),
        }
    }

    /// Returns the names of all repositories, sorted.
    pub(super) fn repositories(&self) -> impl Iterator<Item = &str> {
        self.repositories.keys().map(String::as_str)
    }

    /// Returns the tags of a repository, sorted; `None` where there is no such repository.
    pub(super) fn tags(&self, repository: &str) -> Option<impl Iterator<Item = &Tag>> {
        Some(self.repositories.get(repository)?.tags.keys())
    }

    /// Returns every manifest with its repository.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.repositories
            .iter()
            .flat_map(|(name, held)| held.manifests.values().map(move |e| (name.as_str(), e)))
    }
}

/// Reads an entry that names a repository; `None` for any other.
fn read(item: &Value) -> Option<(String, Key, Entry)> {
    let name = item.get("annotations")?.get(REF_NAME)?.as_str()?;
    let entry = Entry {
        digest: item.get("digest")?.as_str()?.parse().ok()?,
        media_type: item.get("mediaType")?.as_str()?.to_owned(),
        size: item.get("size")?.as_u64()?,
    };
    let (repository, key) = match name.split_once('@') {
        Some((repository, digest)) => (repository, Key::Digest(digest.parse().ok()?)),
        None => {
            let (repository, tag) = name.rsplit_once(':')?;
            (repository, Key::Tag(tag.parse().ok()?))
        }
    };
    check_path(repository).ok()?;
    Some((repository.to_owned(), key, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        Entry {
            digest: Digest::of(text.as_bytes()),
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            size: text.len() as u64,
        }
    }

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    #[test]
    fn index_reads_what_it_wrote() {
        let mut index = Index::default();
        index.put("a/b", entry("one"), Some(&tag("v1")));
        index.put("a/b", entry("child"), None);
        index.put("a", entry("one"), Some(&tag("latest")));
        assert_eq!(Index::parse(&index.render()).unwrap(), index);
    }

    #[test]
    fn moved_tag_leaves_the_old_manifest_under_its_digest() {
        let mut index = Index::default();
        index.put("a", entry("one"), Some(&tag("v1")));
        index.put("a", entry("two"), Some(&tag("v1")));
        let index = Index::parse(&index.render()).unwrap();
        let by_tag = index.find("a", &Key::Tag(tag("v1")));
        let by_digest = index.find("a", &Key::Digest(entry("one").digest));
        assert_eq!(
            (by_tag, by_digest),
            (Some(&entry("two")), Some(&entry("one")))
        );
    }

    #[test]
    fn entries_of_other_tools_are_kept() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{}","size":3,"annotations":{{"{REF_NAME}":"latest"}}}},{{"odd":1}}]}}"#,
            entry("one").digest
        );
        let index = Index::parse(text.as_bytes()).unwrap();
        assert_eq!(index.repositories().count(), 0);
        let again: Value = serde_json::from_slice(&index.render()).unwrap();
        let before: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(again["manifests"], before["manifests"]);
    }

    #[test]
    fn names_that_are_not_repositories_are_not_served() {
        let text = format!(
            r#"{{"manifests":[{{"mediaType":"m","digest":"{}","size":3,"annotations":{{"{REF_NAME}":"../etc:v1"}}}}]}}"#,
            entry("one").digest
        );
        let index = Index::parse(text.as_bytes()).unwrap();
        assert_eq!(index.repositories().count(), 0);
        assert!(Index::parse(b"{}").is_err());
        assert!(Index::parse(b"[").is_err());
    }
}

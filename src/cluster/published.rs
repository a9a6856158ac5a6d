//! Reads back what has been published: the output folder's files are the record of it.

use std::{collections::BTreeSet, str};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    cluster::{
        Kind, Purpose, catalog,
        document::{API_VERSION, Document, IMAGE_SET, MANAGED_BY, MANAGER, PURPOSE, rules},
        name,
        object::Object,
        signatures,
    },
    model::imageset::SetName,
};

/// The largest file that is read; the API server takes objects of at most 1.5 MiB.
pub const MAX_FILE_BYTES: usize = 4 << 20;

/// What a file of the output folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Mirror rules of ours. `text` is the file's, which need not be how we would write it.
    Rules(Box<Document>),
    /// Another document of ours that is read back.
    Object(Box<Object>),
    /// Ours, of another kind.
    Other,
}

/// What the output folder holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The mirror rules, by file name.
    pub documents: Vec<Document>,
    /// The other documents, by file name.
    pub objects: Vec<Object>,
    /// A sentence for each file that is not ours or cannot be understood.
    pub problems: Vec<String>,
}

impl Published {
    /// Returns the image sets that anything here is of.
    pub fn sets(&self) -> impl Iterator<Item = &SetName> {
        let rules = self.documents.iter().map(|document| &document.set);
        rules.chain(self.objects.iter().map(|object| &object.set))
    }
}

/// Reads the files of an output folder, given by name and content. Files whose name begins with a dot or does not end as YAML's do
/// are passed over.
pub fn read_published(files: &[(String, Vec<u8>)]) -> Published {
    let mut published = Published::default();
    for (name, bytes) in files.iter().filter(|(name, _)| is_document_name(name)) {
        match inspect(name, bytes) {
            Ok(Found::Rules(document)) => published.documents.push(*document),
            Ok(Found::Object(object)) => published.objects.push(*object),
            Ok(Found::Other) => {}
            Err(problem) => published.problems.push(problem),
        }
    }
    let Published {
        documents,
        objects,
        problems,
    } = &mut published;
    documents.sort_by(|a, b| a.file_name.cmp(&b.file_name));
    objects.sort_by(|a, b| a.file_name.cmp(&b.file_name));
    problems.sort();
    published
}

/// Whether a file of this name is looked at.
pub fn is_document_name(name: &str) -> bool {
    !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"))
}

/// Says what one file is; the error is a sentence.
pub fn inspect(file: &str, bytes: &[u8]) -> Result<Found, String> {
    let foreign = |why: &str| format!("`{file}` is left alone: {why}");
    if bytes.len() > MAX_FILE_BYTES {
        return Err(foreign("it is larger than any document of imagesetd"));
    }
    let text = str::from_utf8(bytes).map_err(|_| foreign("it is not UTF-8 text"))?;
    let value: Value = serde_yaml::from_str(text)
        .map_err(|e| foreign(&format!("it cannot be read as one YAML document ({e})")))?;
    let head = Head::deserialize(&value)
        .map_err(|_| foreign("it is not a Kubernetes object; imagesetd did not write it"))?;
    if head.metadata.label(MANAGED_BY) != Some(MANAGER) {
        return Err(foreign(
            "imagesetd did not write it (its label `app.kubernetes.io/managed-by` is not `imagesetd`)",
        ));
    }
    let kind = match (head.api_version.as_str(), head.kind.as_str()) {
        (API_VERSION, "ImageDigestMirrorSet") => Kind::Digest,
        (API_VERSION, "ImageTagMirrorSet") => Kind::Tag,
        _ if signatures::is_one(&value) => {
            let set = head.metadata.annotation(IMAGE_SET).map(str::to_owned);
            let object = set.and_then(|set| signatures::read(file, text, SetName(set), value));
            return object
                .map(|object| Found::Object(Box::new(object)))
                .map_err(|why| {
                    format!(
                        "`{file}` is left alone, and its signatures are not counted: {why}; restore the file as imagesetd wrote it, or delete it to have it written anew"
                    )
                });
        }
        _ if catalog::is_one(&value) => {
            let set = head.metadata.annotation(IMAGE_SET).map(str::to_owned);
            return Ok(match set {
                Ok(set) => Found::Object(Box::new(Object {
                    file_name: file.to_owned(),
                    set: SetName(set),
                    name: head.metadata.name,
                    text: text.to_owned(),
                    value,
                })),
                Err(_) => Found::Other,
            });
        }
        _ => return Ok(Found::Other),
    };
    document(file, text, kind, &head.metadata, value)
        .map(|document| Found::Rules(Box::new(document)))
        .map_err(|why| {
            format!(
                "`{file}` is left alone, and its mirror rules are not counted: {why}; restore the file as imagesetd wrote it, or delete it to give its rules up"
            )
        })
}

/// The part of an object that says what it is.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    labels: Value,
    #[serde(default)]
    annotations: Value,
}

impl Metadata {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).and_then(Value::as_str)
    }

    fn annotation(&self, key: &str) -> Result<&str, String> {
        let value = self.annotations.get(key).and_then(Value::as_str);
        value.ok_or_else(|| format!("its annotation `{key}` is missing"))
    }
}

fn document(
    file: &str,
    text: &str,
    kind: Kind,
    metadata: &Metadata,
    value: Value,
) -> Result<Document, String> {
    let set = SetName(metadata.annotation(IMAGE_SET)?.to_owned());
    let written = metadata.annotation(PURPOSE)?;
    let purpose = Purpose::ALL.into_iter().find(|p| p.as_str() == written);
    let purpose = purpose.ok_or_else(|| format!("`{PURPOSE}` is `{written}`, which is unknown"))?;
    let name = name::object(&set, purpose);
    let file_name = format!("{}-{name}.yaml", kind.short());
    if file_name != file || metadata.name != name {
        return Err(format!(
            "the rules of image set `{set}` for this purpose belong into `{file_name}` under the object name `{name}`"
        ));
    }
    let rules =
        rules(kind, value.get("spec").unwrap_or(&Value::Null)).map_err(|e| e.to_string())?;
    let mut sources = BTreeSet::new();
    for rule in &rules {
        if rule.source.is_wildcard() {
            return Err(format!("imagesetd never writes `{}`", rule.source));
        }
        if !sources.insert(&rule.source) {
            return Err(format!("the source `{}` stands there twice", rule.source));
        }
    }
    Ok(Document {
        file_name,
        set,
        purpose,
        kind,
        name,
        text: text.to_owned(),
        rules,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::document::Rule, model::policy::MirrorSourcePolicy};

    fn ours(set: &str) -> Document {
        let rule = Rule {
            source: "quay.io/a".parse().unwrap(),
            mirrors: vec!["m.lan/a".parse().unwrap()],
            policy: MirrorSourcePolicy::AllowContactingSource,
        };
        Document::new(
            SetName(set.into()),
            Purpose::Release,
            Kind::Digest,
            vec![rule],
        )
    }

    fn file(name: &str, text: &str) -> (String, Vec<u8>) {
        (name.to_owned(), text.as_bytes().to_vec())
    }

    #[test]
    fn our_documents_are_read_back_whole() {
        let documents = [ours("no"), ours("prod/ocp-4.16#2"), ours("zwei\nZeilen")];
        let files: Vec<_> = documents
            .iter()
            .map(|d| file(&d.file_name, &d.text))
            .collect();
        let Published {
            documents: mut read,
            problems,
            ..
        } = read_published(&files);
        read.sort_by(|a, b| a.set.cmp(&b.set));
        assert_eq!((read, problems), (documents.to_vec(), vec![]));
    }

    #[test]
    fn what_is_not_ours_or_broken_is_named() {
        let ours = ours("prod");
        let problem = |name: &str, text: &str| {
            let read = read_published(&[file(name, text)]);
            assert_eq!(read.documents, vec![], "{name}");
            read.problems.concat()
        };
        assert!(problem("x.yaml", "a: [").starts_with("`x.yaml` is left alone: it cannot be read"));
        assert!(problem("x.yaml", "a: b").contains("not a Kubernetes object"));
        assert!(
            problem("x.yaml", "{apiVersion: v1, kind: A, metadata: {}}")
                .contains("did not write it")
        );
        assert!(
            problem("x.yaml", &format!("{}---\n{}", ours.text, ours.text))
                .contains("one YAML document")
        );
        assert!(problem("copy.yaml", &ours.text).contains("belong into `idms-prod-release.yaml`"));
        let edited = ours.text.replace("quay.io/a", "quay.io/A");
        assert!(problem(&ours.file_name, &edited).contains("`quay.io/A` is not a source"));
        let unknown = ours.text.replace("purpose: release", "purpose: fun");
        assert!(problem(&ours.file_name, &unknown).contains("`fun`"));
        assert_eq!(problem(".hidden.yaml", "a: ["), "");
        assert_eq!(problem("README.md", "a: ["), "");
        let other = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {app.kubernetes.io/managed-by: imagesetd}}}";
        assert_eq!(problem("cm.yaml", other), "");
    }
}

//! From the old kind to the new: ImageContentSourcePolicy to ImageDigestMirrorSet.

use serde_json::{Map, Value, json};

use crate::{
    cluster::{
        document::API_VERSION,
        objects::{Entry, File, Form, ICSP_API_VERSION, Objects},
        yaml as writer,
    },
    yaml,
};

/// The annotation in which `kubectl apply` keeps the object as it was.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object of the new kind, and what became of the old one.
#[derive(Debug, Clone, PartialEq)]
pub struct Migrated {
    /// Its name, the old one's too.
    pub name: String,
    /// Its text, YAML that begins with `---`.
    pub text: String,
    /// What was dropped or changed, sentences.
    pub notes: Vec<String>,
}

/// Migrates the policies of files, in their order. What cannot be read, or would be refused, is for [`Objects::read`] to say.
pub fn migrate(files: &[File]) -> Vec<Migrated> {
    let mut migrated = Vec::new();
    for file in files {
        for document in yaml::parse(&file.name, &file.bytes).unwrap_or_default() {
            let value = document.root.map(|root| root.plain()).unwrap_or_default();
            match value.get("items").and_then(Value::as_array) {
                Some(items) => migrated.extend(items.iter().filter_map(object)),
                None => migrated.extend(object(&value)),
            }
        }
    }
    migrated
}

fn object(old: &Value) -> Option<Migrated> {
    let word = |key: &str| old.get(key).and_then(Value::as_str);
    if (word("apiVersion"), word("kind")) != (Some(ICSP_API_VERSION), Some(Form::Icsp.object())) {
        return None;
    }
    let mut notes = Vec::new();
    let (name, metadata) = metadata(old.get("metadata"), &mut notes);
    if old.get("status").is_some() {
        notes.push("`status` is dropped".to_owned());
    }
    let list = old.get("spec").and_then(|spec| spec.get(Form::Icsp.list()));
    let entries = list.and_then(Value::as_array).into_iter().flatten();
    let entries: Vec<Value> = entries
        .map(|entry| self::entry(entry, &mut notes))
        .collect();
    let new = json!({
        "apiVersion": API_VERSION,
        "kind": Form::Idms.object(),
        "metadata": metadata,
        "spec": { Form::Idms.list(): entries },
    });
    Some(Migrated {
        text: format!("---\n{}", writer::document(&new)),
        name,
        notes,
    })
}

/// Keeps name, labels and the user's annotations.
fn metadata(old: Option<&Value>, notes: &mut Vec<String>) -> (String, Value) {
    let mut kept = Map::new();
    let mut dropped = Vec::new();
    for (key, value) in old.and_then(Value::as_object).into_iter().flatten() {
        match (key.as_str(), value) {
            ("name" | "labels", _) => {
                kept.insert(key.clone(), value.clone());
            }
            ("annotations", Value::Object(annotations)) => {
                let mut own = annotations.clone();
                if own.remove(LAST_APPLIED).is_some() {
                    dropped.push(format!("annotation `{LAST_APPLIED}`"));
                }
                if !own.is_empty() {
                    kept.insert(key.clone(), Value::Object(own));
                }
            }
            _ => dropped.push(format!("`metadata.{key}`")),
        }
    }
    if !dropped.is_empty() {
        notes.push(format!("dropped: {}", dropped.join(", ")));
    }
    let name = kept.get("name").and_then(Value::as_str).unwrap_or_default();
    (name.to_owned(), Value::Object(kept))
}

/// Keeps source and mirrors; the new kind takes a mirror once only.
fn entry(old: &Value, notes: &mut Vec<String>) -> Value {
    let source = old.get("source").cloned().unwrap_or_default();
    let mut mirrors: Vec<Value> = Vec::new();
    let all = old.get("mirrors").and_then(Value::as_array);
    for mirror in all.into_iter().flatten() {
        if mirrors.contains(mirror) {
            notes.push(format!(
                "the mirror {mirror} of {source} stood there twice, which the new kind refuses: the first stays"
            ));
        } else {
            mirrors.push(mirror.clone());
        }
    }
    json!({"source": source, "mirrors": mirrors})
}

/// Says which image sets of ours have a rule for entries of the old kind already, a sentence each.
pub fn covered(old: &Objects, published: &Objects) -> Vec<String> {
    let policies = old.sets.iter().filter(|set| set.form == Form::Icsp);
    let entries = policies.flat_map(|set| &set.entries);
    entries
        .filter_map(|entry| covering(entry, published))
        .collect()
}

fn covering(entry: &Entry, published: &Objects) -> Option<String> {
    let wanted = entry.rule.as_ref()?;
    let ours = published.sets.iter().filter(|set| set.form == Form::Idms);
    let mut rules = ours.flat_map(|set| {
        let rules = set.entries.iter().filter_map(|entry| entry.rule.as_ref());
        rules.filter_map(|rule| Some((set.image_set.as_ref()?, rule)))
    });
    let source = &wanted.source;
    let (image_set, rule) = rules.find(|(_, rule)| rule.source == *source)?;
    let missing = wanted.mirrors.iter().filter(|m| !rule.mirrors.contains(m));
    let missing: Vec<String> = missing.map(|m| format!("`{m}`")).collect();
    Some(match missing.is_empty() {
        true => format!(
            "`{source}` is covered by image set `{image_set}` already, with all its mirrors: the old rule can go"
        ),
        false => format!(
            "`{source}` has a rule of image set `{image_set}` already, which does not name {}",
            missing.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::node::Node;

    const OLD: &str = "\
# from the cluster
apiVersion: v1
kind: List
items:
- apiVersion: operator.openshift.io/v1alpha1
  kind: ImageContentSourcePolicy
  metadata:
    name: ocp
    uid: 4-4
    resourceVersion: \"9\"
    generation: 1
    creationTimestamp: \"2024-01-01T00:00:00Z\"
    managedFields: []
    labels: {team: \"yes\"}
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: '{}'
      owner: me
  spec:
    repositoryDigestMirrors:
    - source: quay.io/a
      mirrors: [m.lan:5000/a, n.lan/a, m.lan:5000/a]
    - {mirrors: [m.lan:5000/b], source: quay.io/b}
  status: {}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: x}}
---
apiVersion: operator.openshift.io/v1alpha1
kind: ImageContentSourcePolicy
metadata: {name: empty}
spec: {}
---
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {name: other}
spec: {}
";

    fn file(text: &str) -> File {
        File {
            name: "f".to_owned(),
            bytes: text.into(),
        }
    }

    #[test]
    fn what_a_person_wrote_stays_and_what_the_server_wrote_goes() {
        let migrated = migrate(&[file(OLD)]);
        assert_eq!(
            migrated[0],
            Migrated {
                name: "ocp".to_owned(),
                text: "\
---
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata:
  name: ocp
  labels:
    team: \"yes\"
  annotations:
    owner: me
spec:
  imageDigestMirrors:
    - source: quay.io/a
      mirrors:
        - m.lan:5000/a
        - n.lan/a
    - source: quay.io/b
      mirrors:
        - m.lan:5000/b
"
                .to_owned(),
                notes: vec![
                    "dropped: `metadata.uid`, `metadata.resourceVersion`, `metadata.generation`, `metadata.creationTimestamp`, `metadata.managedFields`, annotation `kubectl.kubernetes.io/last-applied-configuration`".to_owned(),
                    "`status` is dropped".to_owned(),
                    "the mirror \"m.lan:5000/a\" of \"quay.io/a\" stood there twice, which the new kind refuses: the first stays".to_owned(),
                ],
            }
        );
        assert_eq!(migrated.len(), 2);
        assert!(
            migrated[1]
                .text
                .ends_with("spec:\n  imageDigestMirrors: []\n"),
            "{}",
            migrated[1].text
        );
    }

    /// While both exist, and after, nodes have what they had: creating the new one and deleting the old one changes nothing.
    #[test]
    fn nodes_notice_nothing() {
        let old = Objects::read(&[file(&OLD.replace(", m.lan:5000/a]", "]"))]);
        let text: String = migrate(&[file(&OLD.replace(", m.lan:5000/a]", "]"))])
            .into_iter()
            .map(|m| m.text)
            .collect();
        let new = Objects::read(&[file(&text)]);
        assert_eq!(new.problems, []);
        let both = Objects {
            sets: [old.sets.clone(), new.sets.clone()].concat(),
            ..Objects::default()
        };
        let rendered = |objects: &Objects| Node::default().edited(&objects.inputs()).unwrap();
        assert_eq!(rendered(&new), rendered(&old));
        assert_eq!(rendered(&both), rendered(&old));
    }

    #[test]
    fn image_sets_that_cover_an_entry_are_named() {
        let ours = "\
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {name: prod-release, annotations: {imagesetd.io/image-set: prod}}
spec:
  imageDigestMirrors:
  - {source: quay.io/a, mirrors: [m.lan:5000/a]}
  - {source: quay.io/b, mirrors: [m.lan:5000/b]}
";
        let told = covered(&Objects::read(&[file(OLD)]), &Objects::read(&[file(ours)]));
        assert_eq!(
            told,
            [
                "`quay.io/a` has a rule of image set `prod` already, which does not name `n.lan/a`",
                "`quay.io/b` is covered by image set `prod` already, with all its mirrors: the old rule can go",
            ]
        );
    }
}

//! Signatures of releases for clusters: ConfigMaps that the cluster-version-operator looks for in one namespace, by label.
//!
//! It takes every key of `binaryData` that begins with a release's digest, and verifies what it holds by its own keys.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::{
    cluster::{
        document::{MANAGED_BY, MANAGER},
        name,
        object::{Object, annotations},
    },
    model::{image::Digest, imageset::SetName},
};

/// The namespace in which clusters look for signatures.
pub const NAMESPACE: &str = "openshift-config-managed";
/// The label by which they know them; it has no value.
pub const LABEL: &str = "release.openshift.io/verification-signatures";

/// The most bytes of signatures in one object: `oc apply` keeps a copy of the whole object in an annotation, which may have
/// 256 KiB, and base64 takes a third more.
const MOST: usize = 128 << 10;

/// The signatures of releases, by the payload's digest, in the order of their store.
pub type Signed = BTreeMap<Digest, Vec<Vec<u8>>>;

/// Keys and values of `binaryData`.
type Entries = BTreeMap<String, Vec<u8>>;

/// Returns the documents of an image set: what is published of it, and of each release in `signed` the signatures as they are
/// now. What is published stays: a cluster may still be on its way to that release.
pub fn render(set: &SetName, signed: &Signed, published: &[Object]) -> Vec<Object> {
    let mut entries = entries_of(set, published);
    for (digest, messages) in signed {
        let key = key(digest);
        entries.retain(|name, _| digest_of(name) != Some(key.as_str()));
        let numbered = (1..).zip(messages);
        entries.extend(numbered.map(|(n, message)| (format!("{key}-{n}"), message.clone())));
    }
    objects(set, entries)
}

/// Returns the documents of an image set with nothing but the published signatures of the releases in `wanted`.
pub fn retire(set: &SetName, wanted: &BTreeSet<Digest>, published: &[Object]) -> Vec<Object> {
    let wanted: BTreeSet<String> = wanted.iter().map(key).collect();
    let mut entries = entries_of(set, published);
    entries.retain(|name, _| digest_of(name).is_some_and(|key| wanted.contains(key)));
    objects(set, entries)
}

/// Whether an object is one of these, by its kind and label.
pub fn is_one(value: &Value) -> bool {
    value["apiVersion"] == "v1"
        && value["kind"] == "ConfigMap"
        && value["metadata"]["labels"].get(LABEL).is_some()
}

/// Reads a document back; the error says what is wrong with it.
pub(super) fn read(file: &str, text: &str, set: SetName, value: Value) -> Result<Object, String> {
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    let stem = object_name(&set, 1);
    let ours = name
        .strip_prefix(&stem)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    if !ours || file != file_name(name) {
        return Err(format!(
            "the signatures for image set `{set}` belong into `{}` under the object name `{stem}`",
            file_name(&stem)
        ));
    }
    let data = value["binaryData"].as_object();
    let readable =
        |(key, value): (&String, &Value)| digest_of(key).is_some() && decoded(value).is_some();
    if !data.is_some_and(|data| data.iter().all(readable)) {
        return Err("its `binaryData` holds something else than signatures".to_owned());
    }
    Ok(Object {
        file_name: file.to_owned(),
        set,
        name: name.to_owned(),
        text: text.to_owned(),
        value,
    })
}

/// Returns how a digest stands in keys.
fn key(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

/// Returns the digest in a key, as [`key`] writes it.
fn digest_of(name: &str) -> Option<&str> {
    let (key, number) = name.rsplit_once('-')?;
    number.parse::<u32>().ok()?;
    key.replacen('-', ":", 1).parse::<Digest>().ok()?;
    Some(key)
}

fn decoded(value: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(value.as_str()?).ok()
}

fn entries_of(set: &SetName, published: &[Object]) -> Entries {
    let own = published
        .iter()
        .filter(|o| o.set == *set && is_one(&o.value));
    let data = own
        .filter_map(|o| o.value["binaryData"].as_object())
        .flatten();
    data.filter_map(|(key, value)| Some((key.clone(), decoded(value)?)))
        .collect()
}

/// Writes entries in the order of their keys, in as many objects as they take.
fn objects(set: &SetName, entries: Entries) -> Vec<Object> {
    let mut parts: Vec<Map<String, Value>> = Vec::new();
    let mut bytes = 0;
    for (key, message) in entries {
        let size = key.len() + message.len();
        if parts.is_empty() || bytes + size > MOST {
            parts.push(Map::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.insert(key, STANDARD.encode(message).into());
        }
    }
    (1..)
        .zip(parts)
        .map(|(number, data)| object(set, number, data))
        .collect()
}

fn object(set: &SetName, number: usize, data: Map<String, Value>) -> Object {
    let name = object_name(set, number);
    let value = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": { MANAGED_BY: MANAGER, LABEL: "" },
            "annotations": annotations(set),
        },
        "binaryData": data,
    });
    Object::new(set.clone(), file_name(&name), name, value)
}

fn object_name(set: &SetName, number: usize) -> String {
    let stem = name::stem(set);
    match number {
        1 => format!("{stem}-signatures"),
        number => format!("{stem}-signatures-{number}"),
    }
}

fn file_name(name: &str) -> String {
    format!("configmap-{name}.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::published::read_published;

    fn set() -> SetName {
        SetName("prod/ocp".into())
    }

    fn signed(releases: &[(&str, &[&[u8]])]) -> Signed {
        releases
            .iter()
            .map(|(name, messages)| {
                let messages = messages.iter().map(|m| m.to_vec()).collect();
                (Digest::of(name.as_bytes()), messages)
            })
            .collect()
    }

    fn keys(objects: &[Object]) -> Vec<String> {
        let data = objects
            .iter()
            .filter_map(|o| o.value["binaryData"].as_object());
        data.flat_map(|d| d.keys().cloned()).collect()
    }

    #[test]
    fn a_document_reads_as_clusters_want_it() {
        let objects = render(&set(), &signed(&[("a", &[b"one", b"two"])]), &[]);
        let hex = Digest::of(b"a").hex();
        let expected = format!(
            "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: prod-ocp-01c3a8-signatures
  namespace: openshift-config-managed
  labels:
    app.kubernetes.io/managed-by: imagesetd
    release.openshift.io/verification-signatures: \"\"
  annotations:
    imagesetd.io/image-set: prod/ocp
binaryData:
  sha256-{hex}-1: b25l
  sha256-{hex}-2: dHdv
"
        );
        let stem = name::stem(&set());
        let expected = expected.replace("prod-ocp-01c3a8", &stem);
        let [object] = objects.as_slice() else {
            panic!("{objects:?}");
        };
        assert_eq!(object.text, expected);
        assert_eq!(
            object.file_name,
            format!("configmap-{stem}-signatures.yaml")
        );
        assert_eq!((object.kind(), object.api_version()), ("ConfigMap", "v1"));
        let file = (object.file_name.clone(), object.text.clone().into_bytes());
        let read = read_published(&[file]);
        assert_eq!((read.objects, read.problems), (objects, vec![]));
    }

    #[test]
    fn what_is_published_stays_and_what_is_known_anew_takes_its_place() {
        let first = render(
            &set(),
            &signed(&[("a", &[b"1", b"2"]), ("b", &[b"3"])]),
            &[],
        );
        assert_eq!(render(&set(), &Signed::new(), &first), first);
        let other = SetName("other".into());
        assert_eq!(render(&other, &Signed::new(), &first), []);
        let second = render(&set(), &signed(&[("a", &[b"9"]), ("c", &[b"4"])]), &first);
        let mut expected: Vec<String> = ["a", "b", "c"]
            .map(|name| format!("sha256-{}-1", Digest::of(name.as_bytes()).hex()))
            .into();
        expected.sort();
        assert_eq!(keys(&second), expected);
        let kept = retire(&set(), &BTreeSet::from([Digest::of(b"b")]), &second);
        assert_eq!(
            keys(&kept),
            [format!("sha256-{}-1", Digest::of(b"b").hex())]
        );
        assert_eq!(retire(&set(), &BTreeSet::new(), &second), []);
    }

    #[test]
    fn many_signatures_take_several_documents_that_are_read_back() {
        let large = vec![7; 50 << 10];
        let many: Signed = (0..7_u8)
            .map(|n| (Digest::of(&[n]), vec![large.clone()]))
            .collect();
        let objects = render(&set(), &many, &[]);
        let names: Vec<&str> = objects.iter().map(|o| o.name.as_str()).collect();
        let stem = name::stem(&set());
        let expected = ["", "-2", "-3", "-4"].map(|n| format!("{stem}-signatures{n}"));
        assert_eq!(names, expected);
        let files: Vec<_> = objects
            .iter()
            .map(|o| (o.file_name.clone(), o.text.clone().into_bytes()))
            .collect();
        let read = read_published(&files);
        assert_eq!((read.objects.len(), read.problems), (4, vec![]));
        assert_eq!(render(&set(), &many, &objects), objects);
        assert!(objects.iter().all(|o| o.text.len() < 200 << 10));
    }

    #[test]
    fn a_document_that_was_edited_is_named_and_left_alone() {
        let objects = render(&set(), &signed(&[("a", &[b"1"])]), &[]);
        let object = &objects[0];
        let problem = |file: &str, text: &str| {
            let read = read_published(&[(file.to_owned(), text.as_bytes().to_vec())]);
            assert_eq!(read.objects, []);
            read.problems.concat()
        };
        let text = &object.text;
        assert!(problem("copy.yaml", text).contains("belong into"));
        let broken = text.replace("sha256-", "md5-");
        assert!(problem(&object.file_name, &broken).contains("something else than signatures"));
        let broken = text.replace("MQ==", "M!");
        assert!(problem(&object.file_name, &broken).contains("something else than signatures"));
    }
}

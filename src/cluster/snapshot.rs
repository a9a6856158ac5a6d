//! The picture of a cluster: what of its objects says how it takes a change of mirror rules.

use serde_json::{Value, json};

use crate::{
    cluster::objects::{File, Form, Objects},
    yaml::{self, Problem},
};

/// What is asked for to take one.
pub const COMMAND: &str = "oc get imagedigestmirrorset,imagetagmirrorset,imagecontentsourcepolicy,image.config,machineconfigpool,machineconfiguration -o yaml";

/// What is kept of files that were sent as a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The objects that count, as one list in JSON.
    pub text: String,
    /// What they say.
    pub objects: Objects,
    /// How many objects there were that do not count. Nothing is kept of them: they may be secrets.
    pub passed_by: usize,
}

/// Keeps what a picture is made of.
///
/// # Errors
///
/// What cannot be read, or is no object as an API server has it.
pub fn keep(files: &[File]) -> Result<Kept, Vec<Problem>> {
    let read = Objects::read(files);
    if read.has_errors() {
        return Err(read.problems);
    }
    let mut items = Vec::new();
    let mut passed_by = 0;
    for file in files {
        let documents = yaml::parse(&file.name, &file.bytes).map_err(|problem| vec![problem])?;
        let roots = documents.iter().filter_map(|d| d.root.as_deref());
        for root in roots {
            sort_out(root.plain(), &mut items, &mut passed_by, true);
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let text = format!("{list:#}\n");
    Ok(Kept {
        objects: Objects::read(&[File {
            name: "the picture".to_owned(),
            bytes: text.clone().into_bytes(),
        }]),
        text,
        passed_by,
    })
}

fn sort_out(mut object: Value, items: &mut Vec<Value>, passed_by: &mut usize, may_list: bool) {
    let word = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let (kind, api_version) = (word("kind"), word("apiVersion"));
    if may_list
        && kind.ends_with("List")
        && let Some(listed) = object["items"].as_array_mut()
    {
        for item in std::mem::take(listed) {
            sort_out(item, items, passed_by, false);
        }
        return;
    }
    if !counts(&api_version, &kind) {
        *passed_by += 1;
        return;
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    items.push(object);
}

fn counts(api_version: &str, kind: &str) -> bool {
    let of_rules = Form::ALL.iter().any(|form| form.object() == kind);
    of_rules
        || matches!(
            (api_version, kind),
            ("config.openshift.io/v1", "Image")
                | ("operator.openshift.io/v1", "MachineConfiguration")
                | ("machineconfiguration.openshift.io/v1", "MachineConfigPool")
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File {
            name: "cluster.yaml".to_owned(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn what_does_not_count_is_not_kept() {
        let kept = keep(&[file(
            "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Secret
  metadata: {name: s}
  data: {password: aHVudGVyMg==}
- apiVersion: machineconfiguration.openshift.io/v1
  kind: MachineConfigPool
  metadata: {name: worker, managedFields: [{manager: x}]}
  spec: {paused: true}
  status: {machineCount: 3}
---
apiVersion: config.openshift.io/v1
kind: ImageTagMirrorSet
metadata: {name: a}
spec: {imageTagMirrors: [{source: q.io/a, mirrors: [m.lan/a]}]}
---
",
        )])
        .unwrap();
        assert!(!kept.text.contains("aHVudGVyMg"), "{}", kept.text);
        assert!(!kept.text.contains("managedFields"), "{}", kept.text);
        let objects = &kept.objects;
        assert_eq!((objects.sets.len(), objects.pools.len()), (1, 1));
        assert_eq!(objects.pools[0].nodes, Some(3));
        assert!(objects.pools[0].paused);
        assert_eq!(kept.passed_by, 1);
        // What is kept is read as it was.
        let again = keep(&[file(&kept.text)]).unwrap();
        assert_eq!((again.text, again.passed_by), (kept.text, 0));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let broken = keep(&[file("a: [")]).unwrap_err();
        assert_eq!(broken[0].file, "cluster.yaml");
        let refused = keep(&[file(
            "apiVersion: config.openshift.io/v1\nkind: ImageTagMirrorSet\nmetadata: {name: a}\nspec: {imageTagMirrors: [{source: https://q.io/a, mirrors: [m.lan/a]}]}\n",
        )])
        .unwrap_err();
        assert_eq!(
            (refused[0].file.as_str(), refused[0].line),
            ("cluster.yaml", 4)
        );
    }
}

//! Cluster documents, as text and as values, and what was retired of them.

use prost_types::{ListValue, Struct, Value as Plain, value::Kind as Is};
use serde_json::Value;

use crate::{
    cluster::document::Document,
    grpc::{
        convert::plan::{cluster_impact, document_change, node_impact},
        v1,
    },
    model::record,
    reconcile::{Pictured, ReleaseUpdate, Released, ResourceView, Retired},
};

/// Returns the documents of the kinds asked for, all where none is.
pub fn resources(
    resources: &[ResourceView],
    kinds: &[String],
    updates: &[ReleaseUpdate],
) -> v1::GetResourcesResponse {
    let resources = resources.iter().map(resource);
    v1::GetResourcesResponse {
        resources: resources
            .filter(|r| kinds.is_empty() || kinds.contains(&r.kind))
            .collect(),
        updates: updates.iter().map(update).collect(),
    }
}

fn update(update: &ReleaseUpdate) -> v1::ReleaseUpdate {
    v1::ReleaseUpdate {
        image_set: update.set.to_string(),
        version: update.version.clone(),
        architecture: update.architecture.clone(),
        image: update.image.clone(),
        signature_files: update.signatures.clone(),
        command: format!(
            "oc adm upgrade --to-image {} --allow-explicit-upgrade",
            update.image
        ),
    }
}

fn resource(view: &ResourceView) -> v1::Resource {
    let object = &view.object;
    v1::Resource {
        image_set: object.set.to_string(),
        name: object.name.clone(),
        file_name: object.file_name.clone(),
        api_version: object.api_version().to_owned(),
        kind: object.kind().to_owned(),
        text: object.text.clone(),
        value: Some(structure(&object.value)),
        retirable: view.retirable.clone(),
    }
}

fn structure(value: &Value) -> Struct {
    let entries = value.as_object().into_iter().flatten();
    Struct {
        fields: entries
            .map(|(key, value)| (key.clone(), plain(value)))
            .collect(),
    }
}

fn plain(value: &Value) -> Plain {
    let kind = match value {
        Value::Null => Is::NullValue(0),
        Value::Bool(value) => Is::BoolValue(*value),
        Value::Number(value) => Is::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => Is::StringValue(value.clone()),
        Value::Array(items) => Is::ListValue(ListValue {
            values: items.iter().map(plain).collect(),
        }),
        Value::Object(_) => Is::StructValue(structure(value)),
    };
    Plain { kind: Some(kind) }
}

/// Returns what was published of what waited, or would be.
pub fn released(released: &Released) -> v1::PublishResourcesResponse {
    let changed = released.documents.iter().filter(|c| c.before != c.after);
    v1::PublishResourcesResponse {
        documents: changed.map(document_change).collect(),
        node_impact: Some(node_impact(&released.impact)),
        cluster_impacts: released.clusters.iter().map(cluster_impact).collect(),
    }
}

/// Returns what the picture of a cluster shows.
pub fn pictured(pictured: &Pictured) -> v1::PutClusterSnapshotResponse {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    v1::PutClusterSnapshotResponse {
        mirror_objects: count(pictured.mirror_objects),
        pools: count(pictured.pools),
        image_config: pictured.image_config,
        machine_configuration: pictured.machine_configuration,
        passed_by: count(pictured.passed_by),
    }
}

/// Returns what was retired, or would be.
pub fn retired(retired: &Retired) -> v1::RetireResourcesResponse {
    v1::RetireResourcesResponse {
        retired: retired
            .documents
            .iter()
            .flat_map(|change| retired_rules(change, &retired.before))
            .collect(),
        documents: retired
            .documents
            .iter()
            .filter(|change| change.before != change.after)
            .map(document_change)
            .collect(),
        node_impact: Some(node_impact(&retired.impact)),
    }
}

/// The rules of a document that its text afterwards has no more.
fn retired_rules(change: &record::DocumentChange, before: &[Document]) -> Vec<v1::RetiredRule> {
    let left = sources(&change.after);
    let was = before
        .iter()
        .find(|document| document.file_name == change.file_name);
    let rules = was.into_iter().flat_map(|document| &document.rules);
    rules
        .filter(|rule| !left.contains(&rule.source.to_string()))
        .map(|rule| v1::RetiredRule {
            file_name: change.file_name.clone(),
            kind: change.kind.clone(),
            source: rule.source.to_string(),
            mirrors: rule.mirrors.iter().map(ToString::to_string).collect(),
        })
        .collect()
}

/// The sources of a document of ours by its text; none where it is gone.
fn sources(text: &str) -> Vec<String> {
    let value: Value = serde_yaml::from_str(text).unwrap_or_default();
    let lists = value["spec"]
        .as_object()
        .into_iter()
        .flat_map(|spec| spec.values());
    let rules = lists.filter_map(Value::as_array).flatten();
    rules
        .filter_map(|rule| rule["source"].as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_its_values() {
        let is = |kind| Plain { kind: Some(kind) };
        let list = ListValue {
            values: vec![
                is(Is::NumberValue(1.0)),
                is(Is::BoolValue(true)),
                is(Is::NullValue(0)),
            ],
        };
        let inner = Struct {
            fields: [("c".to_owned(), is(Is::StringValue("x".to_owned())))].into(),
        };
        assert_eq!(
            structure(&serde_json::json!({"a": [1, true, null], "b": {"c": "x"}})),
            Struct {
                fields: [
                    ("a".to_owned(), is(Is::ListValue(list))),
                    ("b".to_owned(), is(Is::StructValue(inner))),
                ]
                .into(),
            }
        );
    }

    #[test]
    fn sources_are_read_from_a_documents_text() {
        let text = "spec:\n  imageDigestMirrors:\n  - source: quay.io/a\n    mirrors: [m/a]\n";
        assert_eq!(sources(text), ["quay.io/a"]);
        assert!(sources("").is_empty());
    }
}

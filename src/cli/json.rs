//! The one JSON document that a verb prints for machines.
//!
//! Any message of the API becomes JSON by its descriptor: names as in the proto, every field there, 64-bit integers as numbers,
//! enums in lower case without their prefix, times as RFC 3339. What a message may leave out is null.

use std::sync::LazyLock;

use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey,
    ReflectMessage, Value as Field,
};
use serde_json::{Map, Number, Value, json};

use crate::grpc::v1::DESCRIPTORS;

/// The version of the documents' shape; it changes only where a script would break.
pub const SCHEMA: u64 = 1;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS).expect("the build wrote these descriptors")
});

/// Returns the document of an answer: `{"schema":1, ...}` with the message's fields.
pub fn document<M: prost::Name>(message: &M) -> Value {
    enveloped(fields(message))
}

/// Returns the fields of a message as an object.
pub fn fields<M: prost::Name>(message: &M) -> Map<String, Value> {
    let descriptor = POOL
        .get_message_by_name(&M::full_name())
        .expect("messages and descriptors come of the same files");
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .expect("what was just encoded can be decoded");
    object(&dynamic)
}

/// Puts the schema's number before `fields`.
pub fn enveloped(fields: Map<String, Value>) -> Value {
    let mut document = Map::new();
    document.insert("schema".to_owned(), json!(SCHEMA));
    document.extend(fields);
    Value::Object(document)
}

fn object(message: &DynamicMessage) -> Map<String, Value> {
    message
        .descriptor()
        .fields()
        .map(|field| (field.name().to_owned(), field_value(message, &field)))
        .collect()
}

fn field_value(message: &DynamicMessage, field: &FieldDescriptor) -> Value {
    if field.supports_presence() && !message.has_field(field) {
        return Value::Null;
    }
    value(&message.get_field(field), field)
}

fn value(field: &Field, descriptor: &FieldDescriptor) -> Value {
    match field {
        Field::List(items) => items
            .iter()
            .map(|item| single(item, descriptor.kind()))
            .collect(),
        Field::Map(entries) => map(entries, descriptor),
        _ if descriptor.cardinality() == Cardinality::Repeated => json!([]),
        _ => single(field, descriptor.kind()),
    }
}

fn map(entries: &std::collections::HashMap<MapKey, Field>, descriptor: &FieldDescriptor) -> Value {
    let Kind::Message(entry) = descriptor.kind() else {
        return json!({});
    };
    let kind = entry.map_entry_value_field().kind();
    let mut sorted: Vec<_> = entries
        .iter()
        .map(|(key, item)| (key_text(key), item))
        .collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    Value::Object(
        sorted
            .into_iter()
            .map(|(key, item)| (key, single(item, kind.clone())))
            .collect(),
    )
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn single(field: &Field, kind: Kind) -> Value {
    match field {
        Field::Bool(value) => json!(value),
        Field::I32(value) => json!(value),
        Field::I64(value) => json!(value),
        Field::U32(value) => json!(value),
        Field::U64(value) => json!(value),
        Field::F32(value) => number(f64::from(*value)),
        Field::F64(value) => number(*value),
        Field::String(value) => json!(value),
        Field::Bytes(value) => json!(hex::encode(value)),
        Field::EnumNumber(value) => match kind {
            Kind::Enum(descriptor) => json!(enum_name(&descriptor, *value)),
            _ => json!(value),
        },
        Field::Message(message) => nested(message),
        Field::List(_) | Field::Map(_) => Value::Null,
    }
}

/// Returns a float as JSON, whole numbers without a fraction: a `Struct` knows no integers.
fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return json!(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Returns the value's name in lower case without the enum's prefix; a value that this version does not know by its number.
fn enum_name(descriptor: &EnumDescriptor, number: i32) -> String {
    let Some(value) = descriptor.get_value(number) else {
        return number.to_string();
    };
    let prefix = screaming(descriptor.name());
    value
        .name()
        .strip_prefix(&prefix)
        .unwrap_or(value.name())
        .to_ascii_lowercase()
}

/// Returns `PlanState` as `PLAN_STATE_`.
fn screaming(name: &str) -> String {
    let mut prefix = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix + "_"
}

fn nested(message: &DynamicMessage) -> Value {
    match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => timestamp(message),
        "google.protobuf.Struct" => message
            .get_field_by_name("fields")
            .map_or(Value::Null, |fields| plain(&fields)),
        "google.protobuf.Value" => plain_value(message),
        "google.protobuf.ListValue" => message
            .get_field_by_name("values")
            .map_or(Value::Null, |values| plain(&values)),
        _ => Value::Object(object(message)),
    }
}

fn timestamp(message: &DynamicMessage) -> Value {
    let part = |name| {
        message
            .get_field_by_name(name)
            .map(std::borrow::Cow::into_owned)
    };
    let seconds = part("seconds").and_then(|v| v.as_i64()).unwrap_or(0);
    let nanos = part("nanos").and_then(|v| v.as_i32()).unwrap_or(0);
    jiff::Timestamp::new(seconds, nanos).map_or(Value::Null, |time| json!(time.to_string()))
}

/// Returns the inside of a `Struct` or a `ListValue` as the JSON it stands for.
fn plain(field: &Field) -> Value {
    match field {
        Field::Map(entries) => {
            let mut sorted: Vec<_> = entries
                .iter()
                .map(|(key, item)| (key_text(key), plain(item)))
                .collect();
            sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(sorted.into_iter().collect())
        }
        Field::List(items) => items.iter().map(plain).collect(),
        Field::Message(message) => nested(message),
        _ => Value::Null,
    }
}

fn plain_value(message: &DynamicMessage) -> Value {
    let Some((field, value)) = message.fields().next() else {
        return Value::Null;
    };
    match field.name() {
        "null_value" => Value::Null,
        _ => single(value, field.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::v1;

    fn time(seconds: i64, nanos: i32) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos })
    }

    #[test]
    fn every_field_is_there_even_where_nothing_is_set() {
        assert_eq!(
            document(&v1::GetRunResponse {
                run: Some(v1::Run::default()),
                ..v1::GetRunResponse::default()
            }),
            json!({"schema": 1, "run": {
                "id": "", "image_set": "", "plan_id": "", "revision": "",
                "state": "unspecified", "trigger": "unspecified",
                "started_at": null, "finished_at": null, "progress": null,
                "failures": [], "message": "",
            }, "documents_held": ""})
        );
        assert_eq!(
            document(&v1::GetRunResponse::default()),
            json!({"schema": 1, "run": null, "documents_held": ""})
        );
    }

    #[test]
    fn values_are_as_scripts_rely_on() {
        let run = v1::Run {
            id: "r1".to_owned(),
            image_set: "prod/ocp-4.16".to_owned(),
            plan_id: "4f1c9a".to_owned(),
            revision: "main@sha1:1d2c".to_owned(),
            state: v1::RunState::Partial.into(),
            trigger: v1::RunTrigger::Commit.into(),
            started_at: time(1_795_489_248, 0),
            finished_at: time(1_795_489_248, 250_000_000),
            progress: Some(v1::Progress {
                images_done: 1,
                bytes_total: u64::MAX,
                eta_seconds: Some(0),
                ..Default::default()
            }),
            failures: vec![v1::Failure {
                image: "quay.io/a:1".to_owned(),
                attempts: 3,
                dependents: vec!["4.13.0 amd64".to_owned()],
                ..Default::default()
            }],
            message: String::new(),
        };
        assert_eq!(
            Value::Object(fields(&run)),
            json!({
                "id": "r1", "image_set": "prod/ocp-4.16", "plan_id": "4f1c9a",
                "revision": "main@sha1:1d2c", "state": "partial", "trigger": "commit",
                "started_at": "2026-11-24T03:00:48Z", "finished_at": "2026-11-24T03:00:48.25Z",
                "progress": {
                    "images_done": 1, "images_total": 0, "images_failed": 0, "images_skipped": 0,
                    "bytes_done": 0, "bytes_total": u64::MAX, "bytes_per_second": 0,
                    "eta_seconds": 0, "blobs_copied": 0, "blobs_mounted": 0, "blobs_skipped": 0,
                },
                "failures": [{
                    "image": "quay.io/a:1", "target": "", "cause": "", "attempts": 3,
                    "dependents": ["4.13.0 amd64"],
                }],
                "message": "",
            })
        );
    }

    #[test]
    fn fields_stand_in_the_order_of_the_proto_after_the_schema() {
        let text = document(&v1::ValidateImageSetsResponse::default()).to_string();
        assert_eq!(
            text,
            r#"{"schema":1,"valid":false,"image_sets":[],"problems":[]}"#
        );
    }

    #[test]
    fn problems_have_the_shape_of_the_contract() {
        let problem = v1::Problem {
            severity: v1::Severity::Warning.into(),
            file: "a.yaml".to_owned(),
            line: 3,
            column: 7,
            path: "mirror.operators[0].catalog".to_owned(),
            message: "no such key".to_owned(),
            hint: String::new(),
        };
        assert_eq!(
            Value::Object(fields(&problem)).to_string(),
            concat!(
                r#"{"severity":"warning","file":"a.yaml","line":3,"column":7,"#,
                r#""path":"mirror.operators[0].catalog","message":"no such key","hint":""}"#
            )
        );
    }

    #[test]
    fn a_struct_is_the_json_it_stands_for() {
        use prost_types::{ListValue, Struct, Value as Plain, value::Kind as Is};
        let plain = |kind| Plain { kind: Some(kind) };
        let mirrors = ListValue {
            values: vec![
                plain(Is::StringValue("m".to_owned())),
                plain(Is::NullValue(0)),
            ],
        };
        let spec = Struct {
            fields: [
                ("mirrors".to_owned(), plain(Is::ListValue(mirrors))),
                ("half".to_owned(), plain(Is::NumberValue(0.5))),
                ("five".to_owned(), plain(Is::NumberValue(5.0))),
                ("yes".to_owned(), plain(Is::BoolValue(true))),
                (
                    "empty".to_owned(),
                    plain(Is::StructValue(Struct::default())),
                ),
                ("unset".to_owned(), Plain { kind: None }),
            ]
            .into(),
        };
        let resource = v1::Resource {
            value: Some(spec),
            ..Default::default()
        };
        assert_eq!(
            fields(&resource)["value"],
            json!({
                "empty": {}, "five": 5, "half": 0.5, "mirrors": ["m", null], "unset": null,
                "yes": true,
            })
        );
    }

    #[test]
    fn an_event_names_only_what_happened() {
        let event = v1::RunEvent {
            event: Some(v1::run_event::Event::Progress(v1::Progress::default())),
        };
        let event = fields(&event);
        assert_eq!(
            (&event["run"], &event["image"], &event["finished"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        assert_eq!(event["progress"]["eta_seconds"], Value::Null);
    }

    #[test]
    fn every_enum_of_the_api_loses_its_prefix() {
        for descriptor in POOL
            .all_enums()
            .filter(|e| e.full_name().starts_with("imageset.v1."))
        {
            assert_eq!(
                enum_name(&descriptor, 0),
                "unspecified",
                "{}",
                descriptor.full_name()
            );
        }
    }
}

//! Answers as they are but for what differs from run to run, which is looked at and replaced by a word.

use serde_json::{Value, json};

/// Returns `value` with times, random ids and rates replaced by words; panics where one of them is not what it has to be.
pub(crate) fn steady(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(steady).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| (key.clone(), field(key, value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Keys as grpcurl writes them (`startedAt`) and as scripts read them (`started_at`).
fn field(key: &str, value: &Value) -> Value {
    let Some(text) = value.as_str().filter(|text| !text.is_empty()) else {
        return match key {
            "bytes_per_second" => {
                assert!(value.is_u64(), "{key} is {value}, which is no number");
                json!("RATE")
            }
            "eta_seconds" if !value.is_null() => {
                assert!(value.is_u64(), "{key} is {value}, which is no number");
                json!("RATE")
            }
            _ => steady(value),
        };
    };
    let plain = key.replace('_', "").to_lowercase();
    match plain.as_str() {
        "startedat" | "finishedat" | "createdat" | "since" | "lastrefreshat" | "nextrefreshat" => {
            let time = text.parse::<jiff::Timestamp>();
            assert!(time.is_ok(), "{key} is {text}, which is no RFC 3339 time");
            assert!(text.ends_with('Z'), "{key} is {text}, which is not UTC");
            json!("TIME")
        }
        "lineage" => {
            assert!(is_hex(text), "{key} is {text}");
            json!("LINEAGE")
        }
        "planid" => {
            assert!(text.len() == 64 && is_hex(text), "{key} is {text}");
            json!("PLAN")
        }
        "runid" => json!("RUN"),
        "bytespersecond" | "etaseconds" => json!("RATE"),
        _ => json!(text),
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

/// Returns the only document of a stream of them.
pub(crate) fn only(bytes: &[u8]) -> Value {
    let all = documents(bytes);
    assert_eq!(all.len(), 1, "{}", String::from_utf8_lossy(bytes));
    all.into_iter().next().unwrap()
}

/// Returns the documents that follow one another.
pub(crate) fn documents(bytes: &[u8]) -> Vec<Value> {
    serde_json::Deserializer::from_slice(bytes)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(bytes)))
}

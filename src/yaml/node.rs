//! A document's content, with places.

use std::sync::Arc;

use super::scalar::{Meaning, meaning};

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// A value and its place. What an alias repeats is the same node, with the place of its anchor.
#[derive(Debug, PartialEq)]
pub struct Node {
    /// Where the value begins; for an empty one, where its key does.
    pub at: Pos,
    /// The value.
    pub value: Value,
    /// How many levels of lists and mappings it has.
    pub(super) height: usize,
    /// How many values it holds, itself counted.
    pub(super) nodes: usize,
    /// How many bytes of text it holds.
    pub(super) bytes: usize,
}

/// A value.
#[derive(Debug, PartialEq)]
pub enum Value {
    /// A word or a text.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Arc<Node>>),
    /// A mapping: its own entries as written, then what `<<` brought in. No key is there twice.
    Mapping(Vec<Entry>),
}

/// A word or a text, not yet interpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// The text without quotes and escapes.
    pub text: Arc<str>,
    /// Whether it stands without quotes, so that it may mean a number or a truth.
    pub plain: bool,
    /// The name of its YAML tag (`str` of `!!str`), or the whole of another tag.
    pub tag: Option<String>,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: Arc<str>,
    /// Where the key is.
    pub at: Pos,
    /// The value.
    pub value: Arc<Node>,
}

impl Node {
    /// A list or mapping, measured.
    pub(super) fn collection(at: Pos, value: Value) -> Node {
        let (mut height, mut nodes, mut bytes) = (0, 1_usize, 0_usize);
        let mut add = |node: &Node, key: usize| {
            height = height.max(node.height);
            nodes = nodes.saturating_add(node.nodes);
            bytes = bytes.saturating_add(node.bytes).saturating_add(key);
        };
        match &value {
            Value::Scalar(_) => {}
            Value::Sequence(items) => items.iter().for_each(|item| add(item, 0)),
            Value::Mapping(entries) => entries
                .iter()
                .for_each(|entry| add(&entry.value, entry.key.len())),
        }
        Node {
            at,
            value,
            height: height + 1,
            nodes,
            bytes,
        }
    }

    /// Returns the value as JSON has it, what plain words mean counted in; numbers that JSON has not become texts.
    pub fn plain(&self) -> serde_json::Value {
        use serde_json::{Number, Value as Plain};
        match &self.value {
            Value::Sequence(items) => items.iter().map(|item| item.plain()).collect(),
            Value::Mapping(entries) => {
                let entries = entries.iter();
                Plain::Object(
                    entries
                        .map(|e| (e.key.to_string(), e.value.plain()))
                        .collect(),
                )
            }
            Value::Scalar(scalar) => {
                let text = || Plain::String(scalar.text.to_string());
                match meaning(scalar) {
                    Meaning::Null => Plain::Null,
                    Meaning::Bool(truth) => Plain::Bool(truth),
                    Meaning::Int(number) => {
                        Number::from_i128(number).map_or_else(text, Plain::Number)
                    }
                    Meaning::Float(number) => {
                        Number::from_f64(number).map_or_else(text, Plain::Number)
                    }
                    Meaning::Text => text(),
                }
            }
        }
    }

    /// Whether this is what stands where nothing is written.
    pub(super) fn is_empty_word(&self) -> bool {
        matches!(&self.value, Value::Scalar(s) if s.plain && s.text.is_empty() && s.tag.is_none())
    }
}

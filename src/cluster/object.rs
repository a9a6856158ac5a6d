//! Documents of ours that hold no mirror rules.

use serde_json::Value;

use crate::{
    cluster::{
        document::{Document, IMAGE_SET},
        yaml,
    },
    model::imageset::SetName,
};

/// An object of another kind than IDMS and ITMS, and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The file's name in the output folder.
    pub file_name: String,
    /// The image set it is of.
    pub set: SetName,
    /// The object's name in the cluster.
    pub name: String,
    /// The file's text.
    pub text: String,
    /// The object.
    pub value: Value,
}

impl Object {
    /// Writes an object as a document.
    pub fn new(set: SetName, file_name: String, name: String, value: Value) -> Self {
        Object {
            text: yaml::document(&value),
            file_name,
            set,
            name,
            value,
        }
    }

    /// Returns the object's `kind`.
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// Returns the object's `apiVersion`.
    pub fn api_version(&self) -> &str {
        self.value["apiVersion"].as_str().unwrap_or_default()
    }
}

impl From<Document> for Object {
    /// Returns a document of mirror rules without what its rules mean.
    fn from(document: Document) -> Self {
        Object {
            file_name: document.file_name,
            set: document.set,
            name: document.name,
            text: document.text,
            value: document.value,
        }
    }
}

/// Returns the annotations that say whose an object is.
pub(super) fn annotations(set: &SetName) -> Value {
    serde_json::json!({ IMAGE_SET: set.0 })
}

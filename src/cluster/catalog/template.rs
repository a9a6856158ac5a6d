//! What a site wants its CatalogSources to say beside the image: `targetCatalogSourceTemplate`.
//!
//! Source: `operators.coreos.com/v1alpha1` CatalogSource; oc-mirror takes a template's labels, annotations and spec too.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::SOURCE_API;
use crate::yaml::{json, suggest::nearest};

/// The largest template.
pub const MAX_TEMPLATE: usize = 256 << 10;

/// What a template may say, and what that has to be.
const KNOWN: [(&str, Form); 12] = [
    ("address", Form::Text),
    ("configMap", Form::Text),
    ("description", Form::Text),
    ("displayName", Form::Text),
    ("grpcPodConfig", Form::Mapping),
    ("icon", Form::Mapping),
    ("image", Form::Text),
    ("priority", Form::Number),
    ("publisher", Form::Text),
    ("secrets", Form::Texts),
    ("sourceType", Form::Text),
    ("updateStrategy", Form::Mapping),
];

#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    Number,
    Texts,
    Mapping,
}

impl Form {
    fn fits(self, value: &Value) -> bool {
        match self {
            Form::Text => value.is_string(),
            Form::Number => value.is_i64(),
            Form::Texts => value
                .as_array()
                .is_some_and(|all| all.iter().all(Value::is_string)),
            Form::Mapping => value.is_object(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Form::Text => "a text",
            Form::Number => "a whole number",
            Form::Texts => "a list of texts",
            Form::Mapping => "a mapping",
        }
    }
}

/// A template that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Template {
    /// The spec without what the catalog itself says, as JSON.
    spec: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Template {
    /// Reads a template. Also returns what of it is left out, as clauses.
    ///
    /// # Errors
    ///
    /// It is no CatalogSource that can be a template: a clause with the remedy.
    pub fn read(text: &[u8]) -> Result<(Self, Vec<String>), String> {
        let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8".to_owned())?;
        let json =
            json::convert(text, MAX_TEMPLATE).map_err(|why| format!("is not YAML: {why}"))?;
        let mut object: Value =
            serde_json::from_slice(&json.unwrap_or_default()).map_err(|_| "is empty".to_owned())?;
        if object["kind"] != "CatalogSource" || object["apiVersion"] != SOURCE_API {
            return Err(format!(
                "is no CatalogSource; it has to begin with `apiVersion: {SOURCE_API}` and `kind: CatalogSource`"
            ));
        }
        let mut left_out = Vec::new();
        let spec = match object["spec"].take() {
            Value::Null => Map::new(),
            Value::Object(spec) => spec,
            _ => return Err("has a `spec` that is no mapping".to_owned()),
        };
        let spec = checked(spec, &mut left_out)?;
        let texts = |key: &str| match &object["metadata"][key] {
            Value::Null => Ok(BTreeMap::new()),
            other => serde_json::from_value(other.clone())
                .map_err(|_| format!("has `metadata.{key}` that are no texts")),
        };
        let template = Template {
            labels: texts("labels")?,
            annotations: texts("annotations")?,
            spec: Value::Object(spec).to_string(),
        };
        Ok((template, left_out))
    }

    /// Takes out the cache that a rebuilt catalog does not have; whether there was one.
    pub fn drop_cache(&mut self) -> bool {
        let mut spec = self.spec();
        let content = spec.get_mut("grpcPodConfig");
        let content = content.and_then(|config| config.get_mut("extractContent"));
        let cache = content.and_then(Value::as_object_mut);
        let had = cache.is_some_and(|content| content.remove("cacheDir").is_some());
        self.spec = Value::Object(spec).to_string();
        had
    }

    /// Returns the spec without what the catalog itself says.
    pub(super) fn spec(&self) -> Map<String, Value> {
        serde_json::from_str(&self.spec).unwrap_or_default()
    }

    /// Puts labels and annotations beside those that are ours.
    pub(super) fn label(&self, metadata: &mut Value) {
        let ours = [("labels", &self.labels), ("annotations", &self.annotations)];
        for (key, theirs) in ours {
            for (name, value) in theirs {
                if metadata[key][name].is_null() {
                    metadata[key][name] = value.as_str().into();
                }
            }
        }
    }
}

/// Leaves out what the catalog says itself, and what would keep the cluster from looking at its image.
fn checked(
    mut spec: Map<String, Value>,
    left_out: &mut Vec<String>,
) -> Result<Map<String, Value>, String> {
    for (key, value) in &spec {
        match KNOWN.iter().find(|(name, _)| name == key) {
            Some((_, form)) if form.fits(value) => {}
            Some((_, form)) => {
                return Err(format!("has `spec.{key}` that is not {}", form.name()));
            }
            None => {
                let names = KNOWN.map(|(name, _)| name);
                let hint = match nearest(key, &names) {
                    Some(nearest) => format!("; did you mean `{nearest}`?"),
                    None => String::new(),
                };
                let key = crate::yaml::shorten(key);
                return Err(format!(
                    "has `spec.{key}`, which no CatalogSource has{hint}"
                ));
            }
        }
    }
    if let Some(kind) = spec.get("sourceType").filter(|kind| *kind != "grpc") {
        return Err(format!(
            "has `sourceType: {}`, and a catalog in a mirror is served by `grpc`",
            crate::yaml::shorten(kind.as_str().unwrap_or_default())
        ));
    }
    for key in ["address", "configMap"] {
        if spec.remove(key).is_some() {
            left_out.push(format!(
                "`spec.{key}` is left out, since the catalog is an image"
            ));
        }
    }
    spec.remove("sourceType");
    spec.remove("image");
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &str) -> Result<(Template, Vec<String>), String> {
        let text = format!(
            "apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\nmetadata:\n  name: x\n  labels: {{a: b}}\nspec: {spec}\n"
        );
        Template::read(text.as_bytes())
    }

    #[test]
    fn what_the_site_says_is_kept_and_what_the_catalog_says_is_not() {
        let spec = "{sourceType: grpc, image: x, address: y:1, displayName: Ours, priority: -100, grpcPodConfig: {extractContent: {cacheDir: /tmp/cache, catalogDir: /configs}}}";
        let (mut template, left_out) = read(spec).unwrap();
        assert_eq!(
            left_out,
            ["`spec.address` is left out, since the catalog is an image"]
        );
        assert!(template.drop_cache());
        assert!(!template.drop_cache());
        assert_eq!(
            Value::Object(template.spec()),
            serde_json::json!({
                "displayName": "Ours",
                "priority": -100,
                "grpcPodConfig": {"extractContent": {"catalogDir": "/configs"}},
            })
        );
        let mut metadata = serde_json::json!({"labels": {"ours": "1"}, "annotations": {}});
        template.label(&mut metadata);
        assert_eq!(
            metadata["labels"],
            serde_json::json!({"ours": "1", "a": "b"})
        );
    }

    #[test]
    fn what_is_no_template_is_refused_with_the_reason() {
        for (spec, why) in [
            (
                "{sourceType: internal}",
                "has `sourceType: internal`, and a catalog in a mirror is served by `grpc`",
            ),
            (
                "{priority: high}",
                "has `spec.priority` that is not a whole number",
            ),
            (
                "{displayNam: x}",
                "has `spec.displayNam`, which no CatalogSource has; did you mean `displayName`?",
            ),
            ("[]", "has a `spec` that is no mapping"),
        ] {
            assert_eq!(read(spec).unwrap_err(), why);
        }
        assert_eq!(Template::read(b"").unwrap_err(), "is empty");
        assert_eq!(
            Template::read(b"kind: Secret").unwrap_err(),
            "is no CatalogSource; it has to begin with `apiVersion: operators.coreos.com/v1alpha1` and `kind: CatalogSource`"
        );
        assert!(
            Template::read(b"a: [")
                .unwrap_err()
                .starts_with("is not YAML: ")
        );
    }
}

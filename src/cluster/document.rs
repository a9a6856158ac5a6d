//! IDMS and ITMS objects: one for each image set, purpose and kind of reference.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    cluster::{
        Kind, Purpose, name,
        objects::File,
        scope::{Scope, ScopeError},
        yaml,
    },
    model::{imageset::SetName, policy::MirrorSourcePolicy},
};

/// The API group and version of both kinds.
pub const API_VERSION: &str = "config.openshift.io/v1";
/// The label by which our documents are known, with [`MANAGER`] as its value.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Our name in [`MANAGED_BY`].
pub const MANAGER: &str = "imagesetd";
/// The annotation that names the image set (its name may hold what a label's value must not).
pub const IMAGE_SET: &str = "imagesetd.io/image-set";
/// The annotation that names the purpose.
pub const PURPOSE: &str = "imagesetd.io/purpose";

/// An entry of an IDMS or ITMS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// What references it is for.
    pub source: Scope,
    /// Where their content is, in the order in which nodes try; without repeats.
    pub mirrors: Vec<Scope>,
    /// Whether nodes may turn to the source at last.
    pub policy: MirrorSourcePolicy,
}

/// An IDMS or ITMS of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The file's name in the output folder.
    pub file_name: String,
    /// The image set it is of.
    pub set: SetName,
    /// The part of the image set it is of.
    pub purpose: Purpose,
    /// Which kind of reference its rules serve.
    pub kind: Kind,
    /// The object's name in the cluster.
    pub name: String,
    /// Its rules, by source.
    pub rules: Vec<Rule>,
    /// The file's text.
    pub text: String,
    /// The object.
    pub value: Value,
}

impl Document {
    /// Writes the document with these rules, which are put in order of their sources.
    pub fn new(set: SetName, purpose: Purpose, kind: Kind, mut rules: Vec<Rule>) -> Self {
        rules.sort();
        let name = name::object(&set, purpose);
        let value = object(&set, purpose, kind, &name, &rules);
        Document {
            file_name: format!("{}-{name}.yaml", kind.short()),
            text: yaml::document(&value),
            set,
            purpose,
            kind,
            name,
            rules,
            value,
        }
    }
}

fn object(set: &SetName, purpose: Purpose, kind: Kind, name: &str, rules: &[Rule]) -> Value {
    let mut spec = Map::new();
    spec.insert(kind.list().into(), rules.iter().map(entry).collect());
    json!({
        "apiVersion": API_VERSION,
        "kind": kind.object(),
        "metadata": {
            "name": name,
            "labels": { MANAGED_BY: MANAGER },
            "annotations": { IMAGE_SET: set.0, PURPOSE: purpose.as_str() },
        },
        "spec": spec,
    })
}

fn entry(rule: &Rule) -> Value {
    let mut entry = Map::new();
    entry.insert("source".into(), json!(rule.source));
    entry.insert("mirrors".into(), json!(rule.mirrors));
    if rule.policy == MirrorSourcePolicy::NeverContactSource {
        entry.insert("mirrorSourcePolicy".into(), json!("NeverContactSource"));
    }
    Value::Object(entry)
}

/// Why an object is not an IDMS or ITMS that can be understood, as a clause that ends a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A field is missing, unknown or of another type.
    #[error("`{0}`: {1}")]
    Shape(String, String),
    /// A source or mirror that the API refuses.
    #[error("`{0}`: {1}")]
    Scope(String, #[source] ScopeError),
    /// A mirror stands twice in one list.
    #[error("`{0}`: the mirror `{1}` stands there twice")]
    Repeated(String, Scope),
}

/// Reads the rules of an IDMS's or ITMS's `spec`, strictly as the API takes them.
pub fn rules(kind: Kind, spec: &Value) -> Result<Vec<Rule>, RuleError> {
    let shape = |at: &str, why: &str| RuleError::Shape(at.to_owned(), why.to_owned());
    let spec = spec
        .as_object()
        .ok_or_else(|| shape("spec", "a mapping is expected"))?;
    if let Some(other) = spec.keys().find(|key| *key != kind.list()) {
        return Err(shape(&format!("spec.{other}"), "there is no such field"));
    }
    let entries = match spec.get(kind.list()) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(shape(kind.list(), "a list is expected")),
    };
    let at = |n: usize| format!("spec.{}[{n}]", kind.list());
    entries
        .iter()
        .enumerate()
        .map(|(n, entry)| rule(&at(n), entry))
        .collect()
}

/// An entry as it stands in an object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    source: String,
    #[serde(default)]
    mirrors: Vec<String>,
    #[serde(default)]
    mirror_source_policy: MirrorSourcePolicy,
}

fn rule(at: &str, entry: &Value) -> Result<Rule, RuleError> {
    let entry = Entry::deserialize(entry)
        .map_err(|e| RuleError::Shape(at.to_owned(), e.to_string().chars().take(200).collect()))?;
    let scope = |text: &str| {
        text.parse::<Scope>()
            .map_err(|e| RuleError::Scope(at.to_owned(), e))
    };
    let mirrors = entry.mirrors.iter().map(|m| scope(m));
    let mirrors = mirrors.collect::<Result<Vec<_>, _>>()?;
    let mut seen = BTreeSet::new();
    for mirror in &mirrors {
        if mirror.is_wildcard() {
            let why = format!("the mirror `{mirror}` cannot be a wildcard");
            return Err(RuleError::Shape(at.to_owned(), why));
        }
        if !seen.insert(mirror) {
            return Err(RuleError::Repeated(at.to_owned(), mirror.clone()));
        }
    }
    Ok(Rule {
        source: scope(&entry.source)?,
        mirrors,
        policy: entry.mirror_source_policy,
    })
}

impl From<&Document> for File {
    fn from(document: &Document) -> Self {
        File {
            name: document.file_name.clone(),
            bytes: document.text.clone().into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    #[test]
    fn a_document_reads_as_the_api_wants_it() {
        let rule = |source: &str, mirrors: &[&str], policy| Rule {
            source: scope(source),
            mirrors: mirrors.iter().map(|m| scope(m)).collect(),
            policy,
        };
        let rules = vec![
            rule(
                "quay.io/b",
                &["m.lan:5000/b"],
                MirrorSourcePolicy::NeverContactSource,
            ),
            rule(
                "quay.io/a",
                &["m.lan:5000/a", "10.0.0.1/a"],
                MirrorSourcePolicy::AllowContactingSource,
            ),
        ];
        let document = Document::new(
            SetName("prod".into()),
            Purpose::Additional,
            Kind::Digest,
            rules,
        );
        let expected = "\
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata:
  name: prod-additional
  labels:
    app.kubernetes.io/managed-by: imagesetd
  annotations:
    imagesetd.io/image-set: prod
    imagesetd.io/purpose: additional
spec:
  imageDigestMirrors:
    - source: quay.io/a
      mirrors:
        - m.lan:5000/a
        - \"10.0.0.1/a\"
    - source: quay.io/b
      mirrors:
        - m.lan:5000/b
      mirrorSourcePolicy: NeverContactSource
";
        assert_eq!(document.text, expected);
        assert_eq!(document.file_name, "idms-prod-additional.yaml");
        assert_eq!(
            super::rules(Kind::Digest, &document.value["spec"]).unwrap(),
            document.rules
        );
    }

    #[test]
    fn what_the_api_refuses_is_refused_with_its_place() {
        let read = |entry: Value| {
            rules(Kind::Tag, &json!({"imageTagMirrors": [entry]}))
                .unwrap_err()
                .to_string()
        };
        assert!(
            read(json!({"source": "quay.io/A"}))
                .starts_with("`spec.imageTagMirrors[0]`: `quay.io/A` is not")
        );
        assert!(read(json!({"source": "quay.io", "mirrors": ["*.a.b"]})).contains("wildcard"));
        assert!(read(json!({"source": "quay.io", "mirrors": ["a.b", "a.b"]})).contains("twice"));
        assert!(
            read(json!({"source": "quay.io", "mirrorSourcePolicy": "AllowFallback"}))
                .contains("AllowFallback")
        );
        assert!(read(json!({"source": "quay.io", "mirror": []})).contains("mirror"));
        assert!(rules(Kind::Tag, &json!({"imageDigestMirrors": []})).is_err());
        assert_eq!(rules(Kind::Tag, &json!({})), Ok(vec![]));
    }
}

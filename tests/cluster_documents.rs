//! The documents as text: golden files, and the API's own schemas.
#![allow(clippy::unwrap_used)]

#[path = "support/skip.rs"]
mod skip;

use std::{collections::BTreeMap, env, fs, path::Path};

use imagesetd::{
    cluster::{Options, Purpose, Served, Unit, document::Document, render::render},
    model::{
        image::{Reference, Tag},
        imageset::SetName,
        policy::{MirrorScope, MirrorSourcePolicy, SourcePolicy},
    },
};
use proptest::{prelude::*, sample::select};
use regex::Regex;
use serde_json::Value;

/// A landed image: what clusters name, and where it lies.
fn served(source: &str, target: &str) -> Served {
    let source: Reference = source.parse().unwrap();
    let target: Reference = target.parse().unwrap();
    let held = |asked: &Tag| target.tag.clone().unwrap_or_else(|| asked.clone());
    Served {
        by_digest: source.tag.is_none(),
        by_tag: source
            .tag
            .as_ref()
            .map(|asked| (asked.clone(), held(asked))),
        source: source.repository,
        target: target.repository,
    }
}

fn unit(set: &str, purpose: Purpose, images: &[(&str, &str)]) -> Unit {
    Unit {
        set: SetName(set.into()),
        purpose,
        landed: true,
        images: images
            .iter()
            .map(|(source, target)| served(source, target))
            .collect(),
    }
}

const RELEASE: [(&str, &str); 2] = [
    (
        "quay.io/openshift-release-dev/ocp-release",
        "registry.lan:5000/ocp/openshift/release-images",
    ),
    (
        "quay.io/openshift-release-dev/ocp-v4.0-art-dev",
        "registry.lan:5000/ocp/openshift/release",
    ),
];

/// Everything at once: what oc-mirror writes into its documents, and what YAML readers stumble over.
fn a_site() -> Vec<Document> {
    let additional = [
        (
            "registry.redhat.io/ubi9/ubi:latest",
            "registry.lan:5000/ocp/ubi9/ubi",
        ),
        (
            "registry.redhat.io/ubi9/ubi-minimal",
            "registry.lan:5000/ocp/ubi9/ubi-minimal",
        ),
        (
            "quay.io/prometheus/node-exporter:v1.8.2",
            "registry.lan:5000/ocp/prometheus/node-exporter",
        ),
        (
            "docker.io/library/redis:7",
            "registry.lan:5000/ocp/library/redis",
        ),
        (
            "docker.io/bitnami/redis:7",
            "registry.lan:5000/ocp/vendor/redis",
        ),
        ("10.0.0.7:5000/tools/cli", "registry.lan:5000/ocp/tools/cli"),
    ];
    let mut units = vec![unit("prod/ocp-4.16", Purpose::Release, &RELEASE)];
    units.extend(additional.map(|image| unit("prod/ocp-4.16", Purpose::Additional, &[image])));
    units.push(unit(
        "no",
        Purpose::Additional,
        &[("quay.io/lab/app:1", "registry.lan:5000/lab/lab/app")],
    ));
    let options = Options {
        scopes: [
            ("prod/ocp-4.16", MirrorScope::Namespace),
            ("no", MirrorScope::Repository),
        ]
        .map(|(set, scope)| (SetName(set.into()), scope))
        .into(),
        source_policies: vec![SourcePolicy {
            source: "quay.io/openshift-release-dev/**".into(),
            policy: MirrorSourcePolicy::NeverContactSource,
        }],
    };
    render(&units, &[], &options).documents
}

/// Compares with the files under `tests/golden/cluster`, or writes them where `UPDATE` is set.
#[test]
fn documents_are_as_in_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cluster");
    let documents = a_site();
    if env::var_os("UPDATE").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for document in &documents {
            fs::write(folder.join(&document.file_name), &document.text).unwrap();
        }
    }
    let mut golden = BTreeMap::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        golden.insert(
            entry.file_name().into_string().unwrap(),
            fs::read_to_string(entry.path()).unwrap(),
        );
    }
    let texts: BTreeMap<_, _> = documents
        .into_iter()
        .map(|d| (d.file_name, d.text))
        .collect();
    for (name, text) in &texts {
        assert_eq!(Some(text), golden.get(name), "{name}; UPDATE=1 accepts it");
    }
    assert_eq!(
        texts.len(),
        golden.len(),
        "files of no document are in {}",
        folder.display()
    );
}

/// The schemas of both kinds, where the real data is.
fn schemas(test: &str) -> Option<BTreeMap<String, Value>> {
    let crds = skip::real_data(test)?.join("crds");
    let read = |kind: &str| {
        let text =
            fs::read_to_string(crds.join(format!("{kind}s.config.openshift.io.yaml"))).unwrap();
        let crd: Value = serde_yaml::from_str(&text).unwrap();
        let version = &crd["spec"]["versions"][0];
        assert_eq!(version["name"], "v1");
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        (kind, version["schema"]["openAPIV3Schema"].clone())
    };
    Some([read("imagedigestmirrorset"), read("imagetagmirrorset")].into())
}

/// Appends what the API server would say against `value`, by the part of OpenAPI that these schemas use.
fn check(value: &Value, schema: &Value, at: &str, problems: &mut Vec<String>) {
    let mut say = |what: String| problems.push(format!("{at}: {what}"));
    let known = [
        "description",
        "type",
        "properties",
        "required",
        "items",
        "pattern",
        "enum",
        "x-kubernetes-list-type",
    ];
    for key in schema
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| !known.contains(&key.as_str()))
    {
        say(format!(
            "the schema uses `{key}`, which this check does not know"
        ));
    }
    let kind = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(number) if number.is_i64() => "integer",
        _ => "other",
    };
    if schema["type"] != kind {
        return say(format!("{kind} where {} is expected", schema["type"]));
    }
    if let Some(text) = value.as_str() {
        if let Some(pattern) = schema["pattern"].as_str()
            && !Regex::new(pattern).unwrap().is_match(text)
        {
            say(format!("`{text}` does not match"));
        }
        if let Some(values) = schema["enum"].as_array()
            && !values.contains(value)
        {
            say(format!("`{text}` is none of the values"));
        }
    }
    if let Some(list) = value.as_array() {
        for (n, item) in list.iter().enumerate() {
            if schema["x-kubernetes-list-type"] == "set" && list[..n].contains(item) {
                problems.push(format!("{at}[{n}]: repeated"));
            }
            check(item, &schema["items"], &format!("{at}[{n}]"), problems);
        }
    }
    // `metadata` is of the type `object` without properties; the API server knows what it holds.
    if let (Some(map), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for (key, value) in map {
            match properties.get(key) {
                Some(schema) => check(value, schema, &format!("{at}.{key}"), problems),
                None => problems.push(format!("{at}.{key}: unknown")),
            }
        }
        for key in schema["required"].as_array().into_iter().flatten() {
            if !map.contains_key(key.as_str().unwrap()) {
                problems.push(format!("{at}.{key}: missing"));
            }
        }
    }
}

/// What the API server asks of every object's metadata.
fn check_metadata(metadata: &Value, problems: &mut Vec<String>) {
    let keys: Vec<_> = metadata.as_object().unwrap().keys().collect();
    if keys != ["name", "labels", "annotations"] {
        problems.push(format!("metadata holds {keys:?}"));
    }
    let label = Regex::new("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$").unwrap();
    if !label.is_match(metadata["name"].as_str().unwrap()) {
        problems.push(format!("{} is not a DNS label", metadata["name"]));
    }
    let value = Regex::new("^(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?$").unwrap();
    for (key, label) in metadata["labels"].as_object().unwrap() {
        if !value.is_match(label.as_str().unwrap()) {
            problems.push(format!("{label} cannot be the value of label {key}"));
        }
    }
}

fn refused(schemas: &BTreeMap<String, Value>, object: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    check(
        object,
        &schemas[object["kind"].as_str().unwrap()],
        "",
        &mut problems,
    );
    check_metadata(&object["metadata"], &mut problems);
    problems
}

#[test]
fn the_api_takes_the_documents() {
    let Some(schemas) = schemas("the_api_takes_the_documents") else {
        return;
    };
    for document in a_site() {
        let read: Value = serde_yaml::from_str(&document.text).unwrap();
        assert_eq!(read, document.value);
        assert_eq!(
            refused(&schemas, &read),
            <[&str; 0]>::default(),
            "{}",
            document.file_name
        );
    }
}

#[test]
fn the_schema_check_can_fail() {
    let Some(schemas) = schemas("the_schema_check_can_fail") else {
        return;
    };
    let object = &a_site()[0].value;
    let list = "imageDigestMirrors";
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 6] = [
        ("does not match", |rule| rule["source"] = "quay.io/A".into()),
        ("does not match", |rule| rule["mirrors"][0] = "*.lan".into()),
        ("is none of the values", |rule| {
            rule["mirrorSourcePolicy"] = "AllowFallback".into()
        }),
        ("unknown", |rule| rule["mirror"] = "m.lan".into()),
        ("repeated", |rule| {
            let first = rule["mirrors"][0].clone();
            rule["mirrors"].as_array_mut().unwrap().push(first);
        }),
        ("missing", |rule| {
            _ = rule.as_object_mut().unwrap().remove("source")
        }),
    ];
    for (word, change) in changes {
        let mut object = object.clone();
        change(&mut object["spec"][list][0]);
        assert!(refused(&schemas, &object).concat().contains(word), "{word}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    /// Names at the edge of what registries take: whatever becomes a rule passes the schema.
    #[test]
    fn the_api_takes_whatever_is_written(
        images in prop::collection::vec((
            select(vec!["q.io", "localhost:5000", "a_b.io", "[::1]:5000", "Q.io:443", "10.0.0.1", "x--y.io", "host"]),
            "[a-z0-9]([._]|__|-{1,3})?[a-z0-9](/[a-z0-9]+(([._]|__|-{1,3})[a-z0-9]+)?){0,3}",
            select(vec!["m.lan", "m_m.lan", "m.lan:5000/p.q", "mirror"]),
            any::<bool>(),
        ), 1..6),
        set in "[a-zA-Z0-9/._# é-]{1,80}",
        scope in select(vec![MirrorScope::Repository, MirrorScope::Namespace, MirrorScope::Registry]),
        never in any::<bool>(),
    ) {
        static SCHEMAS: std::sync::LazyLock<Option<BTreeMap<String, Value>>> = std::sync::LazyLock::new(|| schemas("the_api_takes_whatever_is_written"));
        let Some(schemas) = &*SCHEMAS else { return Ok(()) };
        let units: Vec<Unit> = images.iter().map(|(host, path, prefix, tagged)| {
            let repository = |host: &str| {
                let (host, prefix) = host.split_once('/').unwrap_or((host, ""));
                let path = format!("{prefix}/{path}");
                imagesetd::model::image::Repository::new(host.parse().unwrap(), path.trim_start_matches('/')).unwrap()
            };
            let tag: Tag = "1".parse().unwrap();
            Unit {
                set: SetName(set.clone()),
                purpose: Purpose::Additional,
                landed: true,
                images: vec![Served {
                    source: repository(host),
                    by_digest: !tagged,
                    by_tag: tagged.then(|| (tag.clone(), tag)),
                    target: repository(prefix),
                }],
            }
        }).collect();
        let policy = if never { MirrorSourcePolicy::NeverContactSource } else { MirrorSourcePolicy::AllowContactingSource };
        let options = Options {
            scopes: [(SetName(set), scope)].into(),
            source_policies: vec![SourcePolicy { source: "**".into(), policy }],
        };
        for document in render(&units, &[], &options).documents {
            let read: Value = serde_yaml::from_str(&document.text).unwrap();
            prop_assert_eq!(&read, &document.value);
            prop_assert_eq!(refused(schemas, &read), <[&str; 0]>::default(), "{}", document.text);
        }
    }
}

/// The part of a schema that [`check`] knows; rules in CEL are the API server's alone.
fn known_part(schema: &Value) -> Value {
    let known = ["type", "properties", "required", "items", "pattern", "enum"];
    match schema {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| known.contains(&key.as_str()));
            let part = |(key, value): (&String, &Value)| {
                let value = match (key.as_str(), value) {
                    ("properties", Value::Object(all)) => {
                        let all = all.iter();
                        all.map(|(name, schema)| (name.clone(), known_part(schema)))
                            .collect()
                    }
                    ("items", items) => known_part(items),
                    (_, value) => value.clone(),
                };
                (key.clone(), value)
            };
            kept.map(part).collect()
        }
        other => other.clone(),
    }
}

/// A site's own CatalogSource.
const TEMPLATE: &str = "apiVersion: operators.coreos.com/v1alpha1
kind: CatalogSource
metadata:
  name: mine
  labels: {tier: one}
spec:
  sourceType: grpc
  displayName: Ours
  priority: -100
  grpcPodConfig:
    securityContextConfig: restricted
    extractContent: {catalogDir: /configs}
";

#[test]
fn the_api_takes_the_documents_of_catalogs() {
    let Some(folder) = skip::real_data("the_api_takes_the_documents_of_catalogs") else {
        return;
    };
    let schema = |file: &str| {
        let text = fs::read_to_string(folder.join("crds").join(file)).unwrap();
        let crd: Value = serde_yaml::from_str(&text).unwrap();
        let version = &crd["spec"]["versions"][0];
        let group = crd["spec"]["group"].as_str().unwrap();
        let api = format!("{group}/{}", version["name"].as_str().unwrap());
        (api, known_part(&version["schema"]["openAPIV3Schema"]))
    };
    let schemas = BTreeMap::from([
        schema("catalogsources.operators.coreos.com.yaml"),
        schema("clustercatalogs.olm.operatorframework.io.yaml"),
    ]);
    let reference: imagesetd::model::image::Reference =
        "m.lan:5000/ocp/redhat/redhat-operator-index:v4.17"
            .parse()
            .unwrap();
    use imagesetd::cluster::catalog::{Manner, Template};
    let catalog = imagesetd::cluster::catalog::Catalog {
        set: SetName("prod/ocp-4.16".into()),
        digest: imagesetd::model::image::Digest::of(b"catalog"),
        landed: true,
        manner: Manner {
            poll: Some(30),
            template: Template::read(TEMPLATE.as_bytes()).unwrap().0,
        },
        tag: reference.tag.clone().unwrap(),
        repository: reference.repository,
    };
    let set = catalog.set.clone();
    let (objects, _) = imagesetd::cluster::catalog::objects(&set, &[catalog].into(), &[]);
    assert_eq!(objects.len(), 2);
    for object in objects {
        let read: Value = serde_yaml::from_str(&object.text).unwrap();
        assert_eq!(read, object.value);
        let mut problems = Vec::new();
        check(&read, &schemas[object.api_version()], "", &mut problems);
        assert_eq!(problems, [""; 0], "{}", object.file_name);
    }
}

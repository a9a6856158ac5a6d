use flate2::read::GzDecoder;

use super::*;
use crate::model::{
    catalog::{
        select::{Asked, select},
        testing::{documents, packed},
    },
    imageset::{Operator, Package},
};

fn named(name: &str) -> Package {
    Package {
        name: name.into(),
        default_channel: None,
        min_version: None,
        max_version: None,
        min_bundle: None,
        channels: vec![],
    }
}

/// Filters a small catalog and writes its layer.
fn built(root: &str, caches: &BTreeSet<String>) -> (Vec<u8>, Layer) {
    let mut all = documents("foo", &[("s", "2.0.0<1.0.0 1.0.0")]);
    let mut odd = documents("bar/../x", &[("s", "1.0.0")]);
    odd[2]["image"] = "r.io/bar/bundle:1".into();
    odd[2]["relatedImages"] = json!([]);
    all.extend(odd);
    all.extend(documents("gone", &[("s", "1.0.0")]));
    all.push(json!({"schema": "io.loose", "y": 1}));
    let mut catalog = packed(&all);
    let operator = Operator {
        catalog: "r.io/index:v1".into(),
        full: false,
        target_catalog: None,
        target_tag: None,
        target_catalog_source_template: None,
        skip_dependencies: false,
        platforms: vec![],
        packages: vec![named("foo"), named("bar/../x")],
    };
    let mut asked = [Asked {
        operator: &operator,
        source: Some(&mut catalog),
    }];
    let selected = select(&mut asked).unwrap().remove(0);
    write_layer(&mut catalog, &selected, root, caches, Vec::new()).unwrap()
}

fn cache() -> BTreeSet<String> {
    BTreeSet::from(["tmp/cache".to_owned()])
}

#[test]
fn a_layer_hides_the_configs_and_the_cache_below_it_and_has_the_new_ones() {
    let (bytes, layer) = built("configs", &cache());
    assert_eq!(layer.digest, Digest::of(&bytes));
    assert_eq!(layer.size, bytes.len() as u64);
    let mut plain = Vec::new();
    GzDecoder::new(bytes.as_slice())
        .read_to_end(&mut plain)
        .unwrap();
    assert_eq!(layer.diff_id, Digest::of(&plain));
    let mut archive = tar::Archive::new(plain.as_slice());
    let mut shown = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        let meta = (
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap(),
        );
        let path = entry.path().unwrap().display().to_string();
        let expected = if path.ends_with('/') { 0o755 } else { 0o644 };
        assert_eq!(meta, (expected, 0, 0, 0), "{path}");
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        let count = serde_json::Deserializer::from_str(&content)
            .into_iter::<Value>()
            .map(Result::unwrap)
            .count();
        shown.push(format!("{path} {count}"));
    }
    assert_eq!(
        shown,
        [
            "configs/ 0",
            "configs/.wh..wh..opq 0",
            "configs/catalog.json 1",
            "configs/package-d770d3a6e9203df1/ 0",
            "configs/package-d770d3a6e9203df1/catalog.json 3",
            "configs/foo/ 0",
            "configs/foo/catalog.json 3",
            "tmp/.wh.cache 0"
        ]
    );
}

#[test]
fn the_bytes_are_those_of_every_version_before() {
    let long = "a".repeat(70);
    let (_, layer) = built("configs", &cache());
    let (_, deep) = built(&format!("{long}/{long}"), &cache());
    let digests = [&layer.diff_id, &layer.digest, &deep.diff_id];
    assert_eq!(
        digests.map(ToString::to_string),
        [
            "sha256:c46611e34a47c637816dbf7f8275461c4247058cca2dd794fb2f8ef7ad227af9",
            "sha256:6f05c392a2bd39b52dab3bb62d65201beefdaa90fc07325b2157d0db9ec36df9",
            "sha256:da17e77055f52913a3c208151daed70a31f69fcbeb8792a1879b2534ca12a5fe",
        ]
    );
    assert!(halves(&"a".repeat(101)).is_none());
}

fn original() -> Value {
    json!({
        "architecture": "amd64",
        "created": "2024-01-01T00:00:00Z",
        "config": {
            "User": "1001",
            "Entrypoint": ["/bin/opm"],
            "Cmd": ["serve", "/configs", "--cache-dir=/var/cache/opm"],
            "Labels": {"operators.operatorframework.io.index.configs.v1": "/configs"}
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
        "history": [{"created_by": "x"}]
    })
}

fn layer() -> Layer {
    Layer {
        digest: Digest::of(b"layer"),
        size: 5,
        diff_id: Digest::of(b"plain"),
    }
}

#[test]
fn a_configuration_serves_the_configs_without_a_cache_and_keeps_the_rest() {
    assert_eq!(
        caches(&original()),
        BTreeSet::from(["tmp/cache".to_owned(), "var/cache/opm".to_owned()])
    );
    let apart = json!({"config": {"Entrypoint": ["opm", "serve", "--cache-dir", "/c"], "Cmd": ["--cache-dir=/../x"]}});
    assert_eq!(
        caches(&apart),
        BTreeSet::from(["c".to_owned(), "tmp/cache".to_owned()])
    );
    let config = |original: Value| -> Value {
        let written = config(original.to_string().as_bytes(), "configs", &layer()).unwrap();
        serde_json::from_slice(&written.bytes).unwrap()
    };
    let mut expected = original();
    expected["config"]["Cmd"] = json!(["serve", "/configs"]);
    expected["rootfs"]["diff_ids"] = json!(["sha256:1", Digest::of(b"plain").to_string()]);
    expected["history"] = json!([{"created_by": "x"}, {"created": "2024-01-01T00:00:00Z", "created_by": "imagesetd: filtered configs"}]);
    assert_eq!(config(original()), expected);
    let mut served = original();
    served["config"]["Entrypoint"] = json!(["opm", "serve", "/configs"]);
    assert_eq!(config(served)["config"]["Entrypoint"], json!(["opm"]));
    let bare = config(json!({"rootfs": {"diff_ids": []}}));
    assert_eq!(bare["config"], json!({"Cmd": ["serve", "/configs"]}));
    for broken in ["", "[]", "{}", r#"{"rootfs":{"diff_ids":[]},"config":3}"#] {
        assert!(
            super::config(broken.as_bytes(), "configs", &layer()).is_err(),
            "{broken}"
        );
    }
}

#[test]
fn a_manifest_keeps_its_family_and_an_index_names_what_was_rebuilt() {
    let config = Written::of(&json!({}));
    for (media_type, of_layer) in [
        (OCI_MANIFEST, "application/vnd.oci.image.layer.v1.tar+gzip"),
        (
            DOCKER_MANIFEST,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    ] {
        let original = json!({"schemaVersion": 2, "config": {"mediaType": "c", "digest": "x", "size": 1}, "layers": [{"digest": "y"}], "annotations": {"a": "b"}});
        let written = manifest(
            original.to_string().as_bytes(),
            media_type,
            &config,
            &layer(),
        )
        .unwrap();
        let found: Value = serde_json::from_slice(&written.bytes).unwrap();
        let mut expected = original;
        expected["config"]["digest"] = config.digest.to_string().into();
        expected["config"]["size"] = 2.into();
        expected["layers"] = json!([{"digest": "y"}, {"mediaType": of_layer, "digest": layer().digest.to_string(), "size": 5}]);
        assert_eq!(found, expected);
        assert_eq!(written.digest, Digest::of(&written.bytes));
    }
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let original = json!({"schemaVersion": 2, "manifests": [
        {"digest": b.to_string(), "size": 9, "platform": {"architecture": "arm64", "os": "linux"}},
        {"digest": a.to_string(), "size": 9, "platform": {"architecture": "amd64", "os": "linux"}},
        {"digest": Digest::of(b"attestation").to_string(), "size": 9, "platform": {"architecture": "unknown", "os": "unknown"}}]});
    let rebuilt = BTreeMap::from([
        (a, Written::of(&json!(["a"]))),
        (b, Written::of(&json!(["b"]))),
    ]);
    let written = index(original.to_string().as_bytes(), OCI_INDEX, &rebuilt).unwrap();
    let found: Value = serde_json::from_slice(&written.bytes).unwrap();
    let child = |text: &str| Digest::of(format!("[\"{text}\"]").as_bytes()).to_string();
    assert_eq!(
        found["manifests"],
        json!([
            {"digest": child("b"), "size": 5, "platform": {"architecture": "arm64", "os": "linux"}},
            {"digest": child("a"), "size": 5, "platform": {"architecture": "amd64", "os": "linux"}}])
    );
    assert!(index(original.to_string().as_bytes(), OCI_INDEX, &BTreeMap::new()).is_err());
    assert!(manifest(b"{}", OCI_MANIFEST, &config, &layer()).is_err());
}

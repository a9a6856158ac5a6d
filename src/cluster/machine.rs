//! What the machine-config-operator says of pools and of the files that it gives them: MachineConfigPool and MachineConfig.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Value, json};

use crate::yaml::reader::{At, Fields};

/// The API group and version of both kinds.
pub const API_VERSION: &str = "machineconfiguration.openshift.io/v1";

/// The file of a node that mirror rules end up in.
pub const REGISTRIES_CONF: &str = "/etc/containers/registries.conf";

/// RFC 2397 leaves the padding to the writer.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A machine config pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Whether it takes changes only once it is resumed.
    pub paused: bool,
    /// How many nodes it has, where that is said.
    pub nodes: Option<u64>,
    /// How many nodes have the configuration that all are to have, where that is said.
    pub updated: Option<u64>,
    /// The configuration that nodes are to have; empty where none is named.
    pub wanted: String,
    /// The configuration that all nodes had last; empty where none is named.
    pub current: String,
    /// Why the operator calls the pool degraded, where it does.
    pub degraded: Option<String>,
}

/// A machine config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// What it makes of nodes' `registries.conf`.
    pub registries_conf: Written,
}

/// What a machine config makes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It has nothing to do with it.
    Nothing,
    /// It writes these bytes.
    Bytes(Vec<u8>),
    /// It writes something that cannot be read, for this reason.
    Unreadable(String),
}

/// Leaves of a JSON list of objects only what counts of machine configs, the one file. Nothing where it is no such list.
pub fn slimmed(json: &[u8]) -> Option<Vec<u8>> {
    let mut list: Value = serde_json::from_slice(json).ok()?;
    for item in list.get_mut("items")?.as_array_mut()? {
        if item["kind"] != "MachineConfig" {
            continue;
        }
        let files = item.pointer("/spec/config/storage/files");
        let files = files.and_then(Value::as_array).into_iter().flatten();
        let kept: Vec<&Value> = files.filter(|f| f["path"] == REGISTRIES_CONF).collect();
        *item = json!({
            "apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": {"name": item["metadata"]["name"]},
            "spec": {"config": {"storage": {"files": kept}}},
        });
    }
    serde_json::to_vec(&list).ok()
}

/// Reads a MachineConfigPool.
pub(super) fn pool(fields: &mut Fields<'_>) -> Pool {
    let name = name(fields);
    let mut pool = Pool {
        name,
        ..Pool::default()
    };
    if let Some(mut spec) = fields.get("spec").and_then(|at| at.mapping()) {
        pool.paused = word(&mut spec, "paused") == "true";
        pool.wanted = configuration(&mut spec);
    }
    if let Some(mut status) = fields.get("status").and_then(|at| at.mapping()) {
        pool.nodes = word(&mut status, "machineCount").parse().ok();
        pool.updated = word(&mut status, "updatedMachineCount").parse().ok();
        pool.current = configuration(&mut status);
        let conditions = status.list("conditions");
        pool.degraded = conditions.iter().find_map(degraded);
    }
    pool
}

/// Reads a MachineConfig.
pub(super) fn config(fields: &mut Fields<'_>) -> Config {
    Config {
        name: name(fields),
        registries_conf: files(fields)
            .iter()
            .find_map(registries_conf)
            .unwrap_or(Written::Nothing),
    }
}

fn name(fields: &mut Fields<'_>) -> String {
    let metadata = fields.get("metadata").and_then(|at| at.mapping());
    metadata.map_or_else(String::new, |mut metadata| word(&mut metadata, "name"))
}

/// Returns a scalar as it is written; empty where there is none.
fn word(fields: &mut Fields<'_>, key: &'static str) -> String {
    let found = fields.get(key).and_then(|at| at.scalar());
    found.unwrap_or_default()
}

fn configuration(fields: &mut Fields<'_>) -> String {
    let found = fields.get("configuration").and_then(|at| at.mapping());
    found.map_or_else(String::new, |mut found| word(&mut found, "name"))
}

fn degraded(condition: &At<'_>) -> Option<String> {
    let mut condition = condition.mapping()?;
    let is = word(&mut condition, "type") == "Degraded" && word(&mut condition, "status") == "True";
    is.then(|| word(&mut condition, "message"))
}

fn files<'a>(fields: &mut Fields<'a>) -> Vec<At<'a>> {
    let storage = |at: At<'a>| {
        let mut config = at.mapping()?.get("config")?.mapping()?;
        config.get("storage")?.mapping()
    };
    let mut found = fields.get("spec").and_then(storage);
    found
        .as_mut()
        .map(|storage| storage.list("files"))
        .unwrap_or_default()
}

fn registries_conf(file: &At<'_>) -> Option<Written> {
    let mut file = file.mapping()?;
    if word(&mut file, "path") != REGISTRIES_CONF {
        return None;
    }
    let mut contents = file.get("contents")?.mapping()?;
    let compression = word(&mut contents, "compression");
    if !compression.is_empty() && compression != "null" {
        let why = format!("it is compressed ({compression})");
        return Some(Written::Unreadable(why));
    }
    Some(match data(&word(&mut contents, "source")) {
        Some(bytes) => Written::Bytes(bytes),
        None => Written::Unreadable("its contents are no `data:` URL".to_owned()),
    })
}

/// Reads a `data:` URL (RFC 2397).
fn data(url: &str) -> Option<Vec<u8>> {
    let (head, body) = url.strip_prefix("data:")?.split_once(',')?;
    let bytes = unescaped(body)?;
    match head.ends_with(";base64") {
        true => BASE64.decode(bytes).ok(),
        false => Some(bytes),
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1).
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        let hexadecimal = digits.bytes().all(|b| b.is_ascii_hexdigit());
        bytes.push(
            hexadecimal
                .then(|| u8::from_str_radix(digits, 16).ok())
                .flatten()?,
        );
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::objects::{File, Objects};

    fn read(text: &str) -> Objects {
        let objects = Objects::read(&[File {
            name: "cluster.yaml".to_owned(),
            bytes: text.as_bytes().to_vec(),
        }]);
        assert_eq!(objects.problems, []);
        objects
    }

    #[test]
    fn a_pool_is_read_with_what_its_nodes_have() {
        let objects = read(
            "\
apiVersion: machineconfiguration.openshift.io/v1
kind: MachineConfigPool
metadata: {name: worker}
spec: {paused: true, configuration: {name: rendered-worker-2}}
status:
  machineCount: 3
  updatedMachineCount: 1
  configuration: {name: rendered-worker-1}
  conditions:
  - {type: Updated, status: 'False', message: no}
  - {type: Degraded, status: 'True', message: 'node w1 is upset'}
",
        );
        let pool = Pool {
            name: "worker".to_owned(),
            paused: true,
            nodes: Some(3),
            updated: Some(1),
            wanted: "rendered-worker-2".to_owned(),
            current: "rendered-worker-1".to_owned(),
            degraded: Some("node w1 is upset".to_owned()),
        };
        assert_eq!(objects.pools, [pool]);
    }

    fn written(contents: &str) -> Written {
        let objects = read(&format!(
            "\
apiVersion: machineconfiguration.openshift.io/v1
kind: MachineConfig
metadata: {{name: 99-worker-generated-registries}}
spec:
  config:
    storage:
      files:
      - {{path: /etc/other, contents: {{source: 'data:,x'}}}}
      - {{path: /etc/containers/registries.conf, contents: {contents}}}
"
        ));
        objects.configs[0].registries_conf.clone()
    }

    #[test]
    fn files_are_read_in_each_form_that_ignition_has() {
        let text = || Written::Bytes(b"a = 1\n".to_vec());
        let encoded = "{source: 'data:text/plain;charset=utf-8;base64,YSA9IDEK'}";
        assert_eq!(written(encoded), text());
        assert_eq!(
            written("{source: 'data:,a%20%3D%201%0A', compression: ''}"),
            text()
        );
        assert_eq!(
            written("{source: 'data:;base64,H4sI', compression: gzip}"),
            Written::Unreadable("it is compressed (gzip)".to_owned())
        );
        for wrong in ["data:,%zz", "data:,%+1", "data:,%f", "http://q.io/a", ""] {
            let contents = format!("{{source: '{wrong}'}}");
            assert_eq!(
                written(&contents),
                Written::Unreadable("its contents are no `data:` URL".to_owned()),
                "{wrong}"
            );
        }
    }

    #[test]
    fn machine_configs_are_slimmed() {
        let file = json!({"path": REGISTRIES_CONF, "contents": {"source": "data:,x"}});
        let config = |files: Value, spec: Value| {
            json!({
                "apiVersion": API_VERSION, "kind": "MachineConfig", "metadata": {"name": "a"},
                "spec": {"config": {"storage": {"files": files}}, "more": spec},
            })
        };
        let pool = json!({"kind": "MachineConfigPool", "spec": {"paused": true}});
        let large = json!({"items": [config(json!([{"path": "/etc/x"}, file]), json!("y")), pool]});
        let slim = slimmed(large.to_string().as_bytes()).unwrap();
        let mut wanted = json!({"items": [config(json!([file]), json!(null)), pool]});
        wanted["items"][0]["spec"]
            .as_object_mut()
            .unwrap()
            .remove("more");
        assert_eq!(serde_json::from_slice::<Value>(&slim).unwrap(), wanted);
        for other in ["[", "{}", "{\"items\": 1}", "a: b"] {
            assert_eq!(slimmed(other.as_bytes()), None, "{other}");
        }
    }
}

//! Catalogs for tests, written in a few words.

use std::io::Cursor;

use serde_json::json;

use super::pack::{Catalog, Package, Writer};

/// A kept catalog in memory.
pub(super) type Memory = Catalog<Cursor<Vec<u8>>>;

/// Packs documents.
pub(super) fn packed(documents: &[serde_json::Value]) -> Memory {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for document in documents {
        writer.add(0, document.to_string().as_bytes()).unwrap();
    }
    Catalog::open(Cursor::new(writer.finish(|_| true).unwrap())).unwrap()
}

/// The documents of a package: its default channel first, then channels as in `graph::tests::channel` with versions as names.
pub(super) fn documents(package: &str, channels: &[(&str, &str)]) -> Vec<serde_json::Value> {
    let mut found =
        vec![json!({"schema": "olm.package", "name": package, "defaultChannel": channels[0].0})];
    let mut bundles = std::collections::BTreeSet::new();
    let named = |version: &str| format!("{package}.v{version}");
    for (channel, text) in channels {
        let entries = super::graph::tests::channel(text);
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| {
                bundles.insert(entry.name.clone());
                let mut written = json!({"name": named(&entry.name)});
                if let Some(replaces) = entry.replaces() {
                    written["replaces"] = named(replaces).into();
                }
                if !entry.skips().is_empty() {
                    written["skips"] = entry.skips().iter().map(|s| named(s)).collect();
                }
                written
            })
            .collect();
        found.push(json!({"schema": "olm.channel", "package": package, "name": channel, "entries": entries}));
    }
    for version in bundles {
        found.push(bundle(package, &version, &[]));
    }
    found
}

/// A bundle's document, with further properties.
pub(super) fn bundle(
    package: &str,
    version: &str,
    properties: &[serde_json::Value],
) -> serde_json::Value {
    let own = json!({"type": "olm.package", "value": {"packageName": package, "version": version}});
    let properties: Vec<_> = std::iter::once(&own).chain(properties).collect();
    json!({
        "schema": "olm.bundle",
        "package": package,
        "name": format!("{package}.v{version}"),
        "image": format!("r.io/{package}/bundle:v{}", version.replace('+', "-")),
        "properties": properties,
        "relatedImages": [{"name": "", "image": format!("r.io/{package}/operator:v{}", version.replace('+', "-"))}],
    })
}

/// The index of the only package of some documents.
pub(super) fn package(documents: &[serde_json::Value]) -> Package {
    let mut catalog = packed(documents);
    let name = catalog.directory().packages.keys().next().unwrap().clone();
    catalog.package(&name).unwrap().unwrap()
}

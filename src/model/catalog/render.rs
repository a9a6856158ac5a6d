//! The documents of a filtered catalog. What is kept whole is written as it came; what lists more than is kept is cut down.

use std::io::{Read, Seek};

use serde_json::Value;

use super::{
    document::{self, BUNDLE, CHANNEL, DEPRECATIONS},
    pack::{Catalog, PackError, Package},
    select::{Selected, SelectedPackage},
};

/// Hands over the documents of what is kept, each with its package (empty where it has none): packages by name; of a package itself,
/// its channels, its bundles, the rest, each by name.
///
/// # Errors
///
/// The catalog cannot be read, or `sink` refuses.
pub fn documents<R: Read + Seek, E: From<PackError>>(
    catalog: &mut Catalog<R>,
    selected: &Selected,
    mut sink: impl FnMut(&str, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    for other in catalog.directory().loose.clone() {
        sink("", catalog.document(&other.document)?)?;
    }
    for (name, kept) in &selected.packages {
        if let Some(package) = catalog.package(name)? {
            of_package(catalog, &package, kept, &mut |bytes| sink(name, bytes))?;
        }
    }
    Ok(())
}

fn of_package<R: Read + Seek, E: From<PackError>>(
    catalog: &mut Catalog<R>,
    package: &Package,
    kept: &SelectedPackage,
    sink: &mut impl FnMut(Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    for definition in &package.definitions {
        let bytes = catalog.document(&definition.document)?;
        sink(match definition.default_channel == kept.default_channel {
            true => bytes,
            false => changed(&bytes, |document| {
                document["defaultChannel"] = kept.default_channel.as_str().into();
            })?,
        })?;
    }
    for channel in &package.channels {
        let Some(part) = kept.channels.get(&channel.name) else {
            continue;
        };
        let bytes = catalog.document(&channel.document)?;
        let whole = channel
            .entries
            .iter()
            .all(|e| part.entries.contains(&e.name));
        sink(match whole {
            true => bytes,
            false => changed(&bytes, |document| {
                let stays = |entry: &Value| {
                    let name = entry["name"].as_str().unwrap_or_default();
                    part.entries.contains(name)
                };
                if let Some(entries) = document["entries"].as_array_mut() {
                    entries.retain(stays);
                }
            })?,
        })?;
    }
    for bundle in &package.bundles {
        if kept.bundles.contains_key(&bundle.name) {
            sink(catalog.document(&bundle.document)?)?;
        }
    }
    for other in &package.others {
        let bytes = catalog.document(&other.document)?;
        match other.schema == DEPRECATIONS {
            false => sink(bytes)?,
            true => {
                if let Some(bytes) = deprecations(bytes, kept)? {
                    sink(bytes)?;
                }
            }
        }
    }
    Ok(())
}

/// The deprecations of what is kept; nothing where none is left.
fn deprecations(bytes: Vec<u8>, kept: &SelectedPackage) -> Result<Option<Vec<u8>>, PackError> {
    let stays = |entry: &Value| {
        let reference = &entry["reference"];
        let name = reference["name"].as_str().unwrap_or_default();
        match reference["schema"].as_str() {
            Some(CHANNEL) => kept.channels.contains_key(name),
            Some(BUNDLE) => kept.bundles.contains_key(name),
            _ => true,
        }
    };
    let mut document: Value = serde_json::from_slice(&bytes).map_err(|_| PackError::Damaged)?;
    let Some(entries) = document["entries"].as_array_mut() else {
        return Ok(Some(bytes));
    };
    let before = entries.len();
    entries.retain(stays);
    match entries.len() {
        0 => Ok(None),
        after if after == before => Ok(Some(bytes)),
        _ => Ok(Some(document.to_string().into_bytes())),
    }
}

/// A document with a change; its keys stay in their order.
fn changed(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Result<Vec<u8>, PackError> {
    let mut document: Value = serde_json::from_slice(bytes).map_err(|_| PackError::Damaged)?;
    change(&mut document);
    Ok(document.to_string().into_bytes())
}

/// An image that a kept catalog names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The package.
    pub package: String,
    /// The bundle.
    pub bundle: String,
    /// The image.
    pub image: document::Image,
}

/// Hands over the images of all bundles that are kept, by package and bundle, the bundle itself first, until `sink` has enough.
///
/// # Errors
///
/// The catalog cannot be read.
pub fn images<R: Read + Seek>(
    catalog: &mut Catalog<R>,
    selected: &Selected,
    mut sink: impl FnMut(Named) -> bool,
) -> Result<(), PackError> {
    for (name, kept) in &selected.packages {
        let Some(package) = catalog.package(name)? else {
            continue;
        };
        for bundle in &package.bundles {
            if !kept.bundles.contains_key(&bundle.name) {
                continue;
            }
            let bytes = catalog.document(&bundle.document)?;
            let images = document::images(&bytes).map_err(|_| PackError::Damaged)?;
            for image in images {
                let named = Named {
                    package: name.clone(),
                    bundle: bundle.name.clone(),
                    image,
                };
                if !sink(named) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

//! Keeps the rooms' promise: rules hold no I/O, siblings never meet, outside crates stay where they live.

mod rules;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns every Rust file below `folder` as path and text, sorted.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of sources can be listed") {
        let path = entry.expect("the folder of sources can be listed").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is UTF-8");
            found.push((path, text));
        }
    }
    found.sort();
    found
}

/// Returns the outside crates of the manifest by the names that code uses.
fn dependencies(manifest: &str) -> Vec<String> {
    manifest
        .lines()
        .skip_while(|l| *l != "[dependencies]")
        .skip(1)
        .take_while(|l| !l.starts_with('['))
        .filter_map(|l| l.split_once('=').filter(|_| !l.starts_with('#')))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect()
}

#[test]
fn rooms_keep_their_promise() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the manifest is there");
    let dependencies = dependencies(&manifest);
    assert!(
        dependencies.contains(&"tokio".to_owned()),
        "{dependencies:?}"
    );
    let source = root.join("src");
    let files: Vec<(String, String)> = files(&source)
        .into_iter()
        .map(|(path, text)| {
            let path = path.strip_prefix(&source).expect("files are below src");
            (path.to_string_lossy().into_owned(), text)
        })
        .collect();
    assert!(files.iter().any(|(f, _)| f == "lib.rs"), "no sources found");
    let tests: Vec<String> = files
        .iter()
        .flat_map(|(file, text)| rules::test_files(file, text))
        .collect();
    let is_test = |file: &str| {
        let stem = file.trim_end_matches(".rs");
        tests
            .iter()
            .any(|t| stem == t || stem.starts_with(&format!("{t}/")))
    };
    let breaches: Vec<String> = files
        .iter()
        .filter(|(file, _)| !is_test(file))
        .flat_map(|(file, text)| rules::breaches(file, text, &dependencies))
        .collect();
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::catalog::pack::Catalog;

/// An entry of a layer.
#[derive(Debug, Clone)]
enum Entry {
    File(String, Vec<u8>),
    Folder(String),
    Link(String, String),
}

fn file(path: &str, content: impl AsRef<[u8]>) -> Entry {
    Entry::File(path.into(), content.as_ref().to_vec())
}

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        let (path, content): (&str, &[u8]) = match entry {
            Entry::File(path, content) => {
                header.set_entry_type(EntryType::Regular);
                (path, content)
            }
            Entry::Folder(path) => {
                header.set_entry_type(EntryType::Directory);
                (path, b"")
            }
            Entry::Link(path, target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_link_name(target).unwrap();
                (path, b"")
            }
        };
        header.set_size(content.len() as u64);
        // `set_path` would refuse what hostile layers have.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Takes in layers, the lowest first, and returns all documents by package, schema, name.
fn taken_in(layers: &[Vec<Entry>]) -> Result<Vec<Value>, IntakeError> {
    let mut intake = Intake::new("configs", Vec::new()).unwrap();
    for layer in layers.iter().rev() {
        if intake.is_covered() {
            break;
        }
        intake.layer(gzip(&tar(layer)).as_slice())?;
    }
    Ok(documents(intake.finish()?))
}

fn documents(packed: Vec<u8>) -> Vec<Value> {
    let mut catalog = Catalog::open(Cursor::new(packed)).unwrap();
    let directory = catalog.directory().clone();
    let mut blocks: Vec<_> = directory.loose.iter().map(|o| o.document).collect();
    for name in directory.packages.keys() {
        let package = catalog.package(name).unwrap().unwrap();
        blocks.extend(package.definitions.iter().map(|d| d.document));
        blocks.extend(package.channels.iter().map(|c| c.document));
        blocks.extend(package.bundles.iter().map(|b| b.document));
        blocks.extend(package.others.iter().map(|o| o.document));
    }
    let mut found: Vec<Value> = blocks
        .iter()
        .map(|block| serde_json::from_slice(&catalog.document(block).unwrap()).unwrap())
        .collect();
    found.sort_by_key(Value::to_string);
    found
}

fn note(name: &str) -> Value {
    json!({"schema": "io.note", "name": name})
}

fn names(layers: &[Vec<Entry>]) -> String {
    match taken_in(layers) {
        Ok(documents) => {
            let names = documents
                .iter()
                .map(|d| d["name"].as_str().unwrap().to_owned());
            names.collect::<Vec<_>>().join(" ")
        }
        Err(error) => error.to_string(),
    }
}

fn noted(path: &str, name: &str) -> Entry {
    file(path, note(name).to_string())
}

#[test]
fn layers_lie_over_one_another_as_the_image_specification_says() {
    let base = vec![
        noted("etc/passwd", "outside"),
        noted("./configs/a/x.json", "ax"),
        noted("/configs/a/y.json", "ay"),
        noted("configs/b/deep/z.yaml", "bz"),
        noted("configs/top", "top"),
        noted("configs-2/x.json", "beside"),
    ];
    let over = |entries: Vec<Entry>| names(&[base.clone(), entries]);
    assert_eq!(over(vec![]), "ax ay bz top");
    assert_eq!(
        over(vec![noted("configs/a/x.json", "new")]),
        "ay bz new top"
    );
    assert_eq!(over(vec![file("configs/a/.wh.x.json", "")]), "ay bz top");
    assert_eq!(over(vec![file("configs/.wh.b", "")]), "ax ay top");
    assert_eq!(
        over(vec![file(".wh.configs", ""), noted("configs/n", "n")]),
        "n"
    );
    assert_eq!(
        over(vec![
            noted("configs/n", "n"),
            file("configs/.wh..wh..opq", "")
        ]),
        "n"
    );
    assert_eq!(
        over(vec![file(".wh..wh..opq", ""), noted("configs/n", "n")]),
        "n"
    );
    assert_eq!(
        over(vec![
            file("configs/a/.wh..wh..opq", ""),
            noted("configs/a/n", "n")
        ]),
        "bz n top"
    );
    assert_eq!(over(vec![noted("configs/b", "file")]), "ax ay file top");
    assert_eq!(over(vec![Entry::Folder("configs/top/".into())]), "ax ay bz");
    assert_eq!(over(vec![noted("configs/top/n", "n")]), "ax ay bz n");
    assert_eq!(
        over(vec![noted("configs/n", "old"), noted("configs/n", "new")]),
        "ax ay bz new top"
    );
    let three = |middle: Vec<Entry>, top: Vec<Entry>| names(&[base.clone(), middle, top]);
    assert_eq!(
        three(
            vec![file("configs/.wh.a", ""), noted("configs/a/m", "m")],
            vec![noted("configs/a/n", "n")]
        ),
        "bz m n top"
    );
    assert_eq!(
        three(
            vec![noted("configs/a", "file")],
            vec![noted("configs/a/n", "n")]
        ),
        "bz n top"
    );
    assert_eq!(
        three(
            vec![Entry::Link("configs".into(), "/etc".into())],
            vec![noted("configs/n", "n")]
        ),
        "n"
    );
}

#[test]
fn files_are_ignored_where_an_indexignore_says_so() {
    let layers = [
        vec![
            file("configs/README.md", "# not a document at all: ["),
            noted("configs/a/x.json", "x"),
        ],
        vec![
            file("configs/.indexignore", "*.md\n"),
            file("configs/a/.indexignore", "/y.json"),
            noted("configs/a/y.json", "y"),
        ],
    ];
    assert_eq!(names(&layers), "x");
}

#[test]
fn hostile_layers_end_in_a_sentence() {
    let only = |entries: Vec<Entry>| names(&[entries]);
    assert_eq!(
        only(vec![noted("etc/x", "x")]),
        "there is no file-based catalog in `/configs`: no document was found"
    );
    assert_eq!(
        only(vec![
            noted("../configs/x", "x"),
            noted("configs/../../x", "x"),
            noted("configs/y", "y")
        ]),
        "y"
    );
    assert_eq!(
        only(vec![Entry::Link(
            "configs/x".into(),
            "../../etc/passwd".into()
        )]),
        "the file `x` is a link or a special file, and a plain file is expected; tell the catalog's publisher, or leave it out by an `.indexignore`"
    );
    assert_eq!(
        only(vec![Entry::Link("configs".into(), "/etc".into())]),
        "`/configs` in it is a link or a file, and a folder is expected"
    );
    assert_eq!(
        only(vec![file("configs/a/x.json", "{\"schema\": \"s\"")]),
        "the file `a/x.json` ends in the middle of a document; tell the catalog's publisher, or leave it out by an `.indexignore`"
    );
    assert!(
        only(vec![file("configs/x.json", "{\"schema\" 1}")])
            .starts_with("the file `x.json` holds a document that is not JSON: ")
    );
    let deep = format!("{{\"a\": {}", "{\"a\":".repeat(1 << 18));
    assert!(
        only(vec![file("configs/x.json", deep)]).starts_with("the file `x.json` nests deeper than")
    );
    let channel =
        |n: usize| format!("{{\"schema\":\"olm.channel\",\"package\":\"p\",\"name\":\"c{n}\"}}\n");
    let channels: String = (0..1_000_000).map(channel).collect();
    let many = only(vec![file("configs/x.json", channels)]);
    assert!(
        [
            "it has more than 200000 documents, which no catalog has",
            "the names and updates in it are more than any catalog has"
        ]
        .contains(&many.as_str()),
        "{many}"
    );
    assert!(matches!(
        Intake::new("configs", Vec::new())
            .unwrap()
            .layer(&b"no archive at all"[..]),
        Err(IntakeError::Broken(_))
    ));
}

/// Ten gigabytes of zeros as one file of a layer, which compress to some ten megabytes; none of it is held.
#[test]
fn a_file_of_zeros_without_end_is_refused() {
    struct Zeros(u64);
    impl Read for Zeros {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = buffer.len().min(usize::try_from(self.0).unwrap());
            buffer[..length].fill(0);
            self.0 -= length as u64;
            Ok(length)
        }
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_path("configs/x.json").unwrap();
    header.set_size(7 << 30);
    header.set_cksum();
    let layer = header.as_bytes().chain(Zeros(10 << 30));
    let refused = Intake::new("configs", Vec::new()).unwrap().layer(layer);
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.starts_with("it is larger than a catalog can be: more than "),
        "{refused}"
    );
}

/// Draws a catalog as layers, and the files that are left of it.
fn random(rng: &mut fastrand::Rng) -> (Vec<Vec<Entry>>, BTreeMap<String, Vec<u8>>) {
    let mut layers = Vec::new();
    let mut left: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let folders = ["a", "b", "a/deep", ""];
    let mut count = 0;
    for _ in 0..rng.usize(1..4) {
        let mut layer = Vec::new();
        let mut added: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for _ in 0..rng.usize(0..6) {
            let folder = folders[rng.usize(..folders.len())];
            let name = format!("f{}.x", rng.u8(0..4));
            let path = if folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            };
            match rng.u8(0..8) {
                0 => {
                    let (parent, last) = path.rsplit_once('/').unwrap_or(("", &path));
                    let whiteout = if parent.is_empty() {
                        format!(".wh.{last}")
                    } else {
                        format!("{parent}/.wh.{last}")
                    };
                    layer.push(file(&format!("configs/{whiteout}"), ""));
                    left.remove(&path);
                }
                1 if !folder.is_empty() => {
                    layer.push(file(&format!("configs/{folder}/.wh..wh..opq"), ""));
                    left.retain(|path, _| !path.starts_with(&format!("{folder}/")));
                }
                2 if !folder.is_empty() && !folder.contains('/') => {
                    layer.push(file(&format!("configs/.wh.{folder}"), ""));
                    left.retain(|path, _| !path.starts_with(&format!("{folder}/")));
                }
                _ => {
                    count += 1;
                    let content = random_file(rng, count);
                    layer.push(file(&format!("configs/{path}"), &content));
                    added.insert(path, content);
                }
            }
        }
        left.extend(added);
        layers.push(layer);
    }
    (layers, left)
}

/// A file of documents: JSON, compact or pretty, or YAML; keys in any order.
fn random_file(rng: &mut fastrand::Rng, count: usize) -> Vec<u8> {
    let yaml = rng.u8(0..3) == 0;
    let mut text = String::new();
    for n in 0..rng.usize(1..4) {
        let schema = ["olm.channel", "olm.bundle", "io.other"][rng.usize(..3)];
        let mut keys = vec![
            ("schema", json!(schema)),
            ("name", json!(format!("n{count}-{n}"))),
            (
                "x",
                json!([{"deep": "} ] \" \\ {"}, 1, null, true, "\u{e9}\n---\n"]),
            ),
        ];
        rng.shuffle(&mut keys);
        // With the package last, only the end of a document says whose it is.
        keys.push(("package", json!(format!("p{}", rng.u8(0..3)))));
        let document: serde_json::Map<String, Value> = keys
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let document = Value::Object(document);
        text += &match (yaml, rng.bool()) {
            (true, _) => format!("---\n{}", serde_yaml::to_string(&document).unwrap()),
            (false, true) => format!("{document:#}\n"),
            (false, false) => document.to_string(),
        };
    }
    text.into_bytes()
}

/// Parses a file whole.
fn naive(content: &[u8]) -> Vec<Value> {
    if content.starts_with(b"{") {
        let documents = serde_json::Deserializer::from_slice(content).into_iter();
        return documents.map(Result::unwrap).collect();
    }
    let text = std::str::from_utf8(content).unwrap();
    let documents = serde_yaml::Deserializer::from_str(text);
    documents
        .map(|d| serde::Deserialize::deserialize(d).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_streams_by_equals_a_whole_parse_of_the_unpacked_image(seed: u64) {
        let (layers, left) = random(&mut fastrand::Rng::with_seed(seed));
        let mut expected: Vec<Value> = left.values().flat_map(|content| naive(content)).collect();
        expected.sort_by_key(Value::to_string);
        match taken_in(&layers) {
            Ok(found) => prop_assert_eq!(found, expected),
            Err(IntakeError::Empty(_)) => prop_assert_eq!(expected, Vec::<Value>::new()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }

    #[test]
    fn pieces_and_compressions_make_no_difference(seed: u64) {
        let (layers, left) = random(&mut fastrand::Rng::with_seed(seed));
        let Ok(expected) = taken_in(&layers) else { return Ok(()) };
        let mut intake = Intake::new("", Vec::new()).unwrap();
        for (path, content) in &left {
            intake.plain_file(path, content.as_slice()).unwrap();
        }
        prop_assert_eq!(documents(intake.finish().unwrap()), expected);
    }
}

#[test]
fn the_same_catalog_is_kept_in_the_same_bytes() {
    let (layers, _) = random(&mut fastrand::Rng::with_seed(7));
    let packed = || {
        let mut intake = Intake::new("configs", Vec::new()).unwrap();
        for layer in layers.iter().rev() {
            intake.layer(tar(layer).as_slice()).unwrap();
        }
        intake.finish().unwrap()
    };
    let all: BTreeSet<Vec<u8>> = (0..3).map(|_| packed()).collect();
    assert_eq!(all.len(), 1);
}

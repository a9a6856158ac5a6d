//! Which room may use which, and where outside crates live.

use crate::source::{Mention, Source};

/// A room: a file or folder of `src/`.
struct Room {
    name: &'static str,
    /// Rules over values: no async, no I/O, no clock.
    pure: bool,
    /// What it may use of the crate: rooms to its left, or parts of them.
    uses: &'static [&'static str],
}

const fn pure(name: &'static str, uses: &'static [&'static str]) -> Room {
    Room {
        name,
        pure: true,
        uses,
    }
}

const fn room(name: &'static str, uses: &'static [&'static str]) -> Room {
    Room {
        name,
        pure: false,
        uses,
    }
}

/// The rooms in flow order. A new file beside them is a decision, and is made here.
const ROOMS: &[Room] = &[
    pure("yaml", &[]),
    pure("model", &["yaml"]),
    pure("cluster", &["yaml", "model"]),
    pure("settings", &["yaml", "model"]),
    room("registry", &["model"]),
    // A revision is a digest; nothing else of what image sets mean is its business.
    room("gitops", &["model::image", "model::imageset"]),
    room("resolve", &["model", "registry"]),
    room("copy", &["model", "registry"]),
    room("layout", &["model"]),
    room("store", &["model"]),
    room("output", &["model", "cluster"]),
    room(
        "reconcile",
        &[
            "yaml", "model", "cluster", "settings", "registry", "gitops", "resolve", "copy",
            "layout", "store", "output",
        ],
    ),
    room("grpc", &["model", "cluster", "reconcile"]),
    // Health, metrics and a status page: to come.
    room("http", &["model", "cluster", "reconcile"]),
    room(
        "daemon",
        &[
            "model",
            "cluster",
            "registry",
            "gitops",
            "resolve",
            "copy",
            "layout",
            "store",
            "output",
            "reconcile",
            "grpc",
            "http",
            "settings",
        ],
    ),
    room(
        "cli",
        &[
            "yaml",
            "model",
            "cluster",
            "gitops",
            "resolve",
            "output",
            "reconcile",
            "grpc",
            "settings",
            "daemon",
        ],
    ),
    room("main", &["cli"]),
    // The map: it declares the rooms and uses none.
    room("lib", &[]),
];

/// Outside crates, and the rooms in which they live. The others may be used everywhere but in pure rooms.
const CONFINED: &[(&str, &[&str])] = &[
    ("anyhow", &["cli", "daemon", "main"]),
    ("axum", &["layout", "http"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("indicatif", &["cli"]),
    ("notify", &["gitops"]),
    ("prost", &["grpc", "cli"]),
    ("prost_types", &["grpc", "cli"]),
    ("redb", &["store"]),
    ("reqwest", &["registry", "resolve"]),
    ("saphyr_parser", &["yaml"]),
    ("tonic", &["grpc", "cli"]),
    ("tonic_health", &["grpc", "cli"]),
    ("tonic_prost", &["grpc", "cli"]),
    ("tonic_reflection", &["grpc", "cli"]),
    ("tonic_types", &["grpc", "cli"]),
];

/// What pure rooms may use of the outside: values and computations.
const PURE_CRATES: &[&str] = &[
    "aws_lc_rs",
    "base64",
    "bytes",
    "flate2",
    "hex",
    "jiff",
    "lz4_flex",
    "memchr",
    "regex",
    "saphyr_parser",
    "semver",
    "serde",
    "serde_json",
    "serde_yaml",
    "strsim",
    "thiserror",
    "toml",
    "url",
];

/// What of the standard library pure rooms may not use.
const IMPURE_STD: &[&str] = &["env", "fs", "net", "os", "process", "thread"];

/// Names of addresses are values, whichever module they stand in.
const ADDRESSES: &[&str] = &[
    "AddrParseError",
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "SocketAddr",
];

/// Words that only impure code has.
const IMPURE_WORDS: &[&str] = &[
    "async", "await", "dbg", "eprint", "eprintln", "print", "println",
];

/// The most lines of a file, tests not counted.
pub(crate) const MAX_LINES: usize = 600;

/// Returns every breach of the rules by `file` (its path below `src/`), each with line and rule.
///
/// `dependencies` are the outside crates by the names that code uses.
pub(crate) fn breaches(file: &str, text: &str, dependencies: &[String]) -> Vec<String> {
    let module = module(file);
    let source = Source::read(text, &module);
    let Some(room) = ROOMS.iter().find(|r| r.name == room_of(file)) else {
        return vec![format!(
            "src/{file}:1: this file is in no room; a new room is a decision: put it into ROOMS of tests/architecture/rules.rs"
        )];
    };
    let mut found = Vec::new();
    for mention in &source.paths {
        found.extend(inside(room, mention).map(|why| (mention.line, why)));
        found.extend(outside(room, mention).map(|why| (mention.line, why)));
        found.extend(impure(room, mention, dependencies).map(|why| (mention.line, why)));
    }
    for word in source.words.iter().filter(|_| room.pure) {
        if IMPURE_WORDS.contains(&word.path[0].as_str()) {
            let why = format!("{} is pure and may not hold `{}`", room.name, word.path[0]);
            found.push((word.line, why));
        }
    }
    if source.lines > MAX_LINES {
        let why = format!(
            "{} lines without tests, at most {MAX_LINES} are allowed: split it by its ideas",
            source.lines
        );
        found.push((source.lines, why));
    }
    found.sort();
    found.dedup();
    found
        .into_iter()
        .map(|(line, why)| format!("src/{file}:{line}: {why}"))
        .collect()
}

/// Returns the files, as paths below `src/`, that `file` declares as test modules.
pub(crate) fn test_files(file: &str, text: &str) -> Vec<String> {
    let folder = module(file).join("/");
    let modules = Source::read(text, &[]).test_modules;
    let stem = |name: String| match folder.is_empty() {
        true => name,
        false => format!("{folder}/{name}"),
    };
    modules.into_iter().map(stem).collect()
}

/// Returns the module that a file is: nothing for the roots, `["registry"]` for `registry/mod.rs`.
fn module(file: &str) -> Vec<&str> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    match path {
        "lib" | "main" => Vec::new(),
        path => path.split('/').collect(),
    }
}

fn room_of(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.trim_end_matches(".rs")
}

/// A room may use itself and what its line in the table says.
fn inside(room: &Room, mention: &Mention) -> Option<String> {
    let path = match mention.path.first().map(String::as_str) {
        Some("crate" | "imagesetd") => &mention.path[1..],
        // The crate's root needs no `crate::` before a room.
        Some(first) if room.name == "lib" && ROOMS.iter().any(|r| r.name == first) => &mention.path,
        _ => return None,
    };
    let other = path.first()?;
    let allowed = other == room.name
        || !ROOMS.iter().any(|r| r.name == other)
        || room.uses.iter().any(|u| covers(u, path));
    (!allowed).then(|| {
        format!(
            "{} may not use crate::{}; it may use {}",
            room.name,
            path.join("::"),
            listed(room.uses)
        )
    })
}

/// Whether `path` is `rule` or below it.
fn covers(rule: &str, path: &[String]) -> bool {
    let mut segments = path.iter();
    rule.split("::")
        .all(|want| segments.next().is_some_and(|s| s == want))
}

fn outside(room: &Room, mention: &Mention) -> Option<String> {
    let name = mention.path.first()?;
    let (_, homes) = CONFINED.iter().find(|(c, _)| c == name)?;
    (!homes.contains(&room.name)).then(|| {
        format!(
            "{} may not use the crate {name}; it lives in {}",
            room.name,
            listed(homes)
        )
    })
}

fn impure(room: &Room, mention: &Mention, dependencies: &[String]) -> Option<String> {
    if !room.pure {
        return None;
    }
    let path: Vec<&str> = mention.path.iter().map(String::as_str).collect();
    let bad = match path.as_slice() {
        [.., "now"] => true,
        ["std", "net", address, ..] => !ADDRESSES.contains(address),
        ["std", "io", what, ..] => ["stdin", "stdout", "stderr"].contains(what),
        ["std", module, ..] => IMPURE_STD.contains(module),
        [name, ..] => dependencies.iter().any(|d| d == name) && !PURE_CRATES.contains(name),
        [] => false,
    };
    bad.then(|| {
        format!(
            "{} is pure and may not use {}",
            room.name,
            mention.path.join("::")
        )
    })
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "no room".into(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, text: &str) -> Vec<String> {
        let dependencies = ["tokio", "tracing", "fastrand", "serde"].map(str::to_owned);
        breaches(file, text, &dependencies)
    }

    #[test]
    fn every_room_uses_only_what_stands_to_its_left() {
        for (at, room) in ROOMS.iter().enumerate() {
            for used in room.uses {
                let used = used.split("::").next().unwrap();
                assert!(
                    ROOMS[..at].iter().any(|r| r.name == used),
                    "{} uses {used}, which is not to its left",
                    room.name
                );
            }
        }
    }

    #[test]
    fn sibling_that_meets_a_sibling_is_named() {
        assert_eq!(
            check(
                "copy/mod.rs",
                "//! x\nuse crate::{model::plan, store::Store};\n"
            ),
            ["src/copy/mod.rs:2: copy may not use crate::store::Store; it may use model, registry"]
        );
        assert_eq!(
            check("copy/transfer.rs", "fn f(x: super::super::store::S) {}"),
            [
                "src/copy/transfer.rs:1: copy may not use crate::store::S; it may use model, registry"
            ]
        );
        assert_eq!(
            check(
                "gitops.rs",
                "use crate::model::{imageset::Problem, policy::Policy};"
            ),
            [
                "src/gitops.rs:1: gitops may not use crate::model::policy::Policy; it may use model::image, model::imageset"
            ]
        );
        assert_eq!(
            check("resolve/mod.rs", "use crate::{model, registry};"),
            [""; 0]
        );
    }

    #[test]
    fn rule_file_that_reaches_for_the_world_is_named() {
        for (text, what) in [
            ("use std::{collections::BTreeMap, fs};", "use std::fs"),
            ("fn f() { std::process::exit(1) }", "use std::process::exit"),
            ("use std::net::TcpStream;", "use std::net::TcpStream"),
            ("fn f() { std::env::var(\"x\"); }", "use std::env::var"),
            ("fn f() { Timestamp::now() }", "use Timestamp::now"),
            ("use tokio::sync::Mutex;", "use tokio::sync::Mutex"),
            ("fn f() { fastrand::u8(..) }", "use fastrand::u8"),
            ("use tracing::info;", "use tracing::info"),
            ("async fn f() {}", "hold `async`"),
            ("fn f() { g().await }", "hold `await`"),
            ("fn f() { println!() }", "hold `println`"),
        ] {
            for file in ["model/plan.rs", "cluster/rules.rs", "yaml.rs"] {
                let room = room_of(file);
                assert_eq!(
                    check(file, text),
                    [format!("src/{file}:1: {room} is pure and may not {what}")]
                );
            }
            assert_eq!(check("registry/client.rs", text), [""; 0]);
        }
        let fine = "use std::{io::Read, net::Ipv6Addr};\nuse serde::Serialize;\n#[cfg(test)]\nmod tests { use std::fs; }";
        assert_eq!(check("model/image.rs", fine), [""; 0]);
    }

    #[test]
    fn outside_crate_away_from_its_home_is_named() {
        assert_eq!(
            check("reconcile/mod.rs", "fn f(s: tonic::Status) {}"),
            [
                "src/reconcile/mod.rs:1: reconcile may not use the crate tonic; it lives in grpc, cli"
            ]
        );
        assert_eq!(
            check("settings.rs", "#[derive(clap::Parser)]\nstruct S;"),
            ["src/settings.rs:1: settings may not use the crate clap; it lives in cli"]
        );
        assert_eq!(check("store/mod.rs", "use redb::Database;"), [""; 0]);
        assert_eq!(
            check("registry/mod.rs", "fn f() { http::StatusCode::OK }"),
            [""; 0]
        );
    }

    #[test]
    fn a_single_round_goes_through_the_daemon_as_every_verb_does() {
        let text = "use crate::{copy, registry, store};";
        assert_eq!(check("cli/round.rs", text).len(), 3);
        assert_eq!(
            check("cli/round.rs", "use crate::{daemon, reconcile};"),
            [""; 0]
        );
    }

    #[test]
    fn crate_roots_use_no_rooms_of_their_own() {
        assert_eq!(
            check("main.rs", "fn main() { imagesetd::cli::main() }"),
            [""; 0]
        );
        assert_eq!(check("main.rs", "use imagesetd::store;").len(), 1);
        assert_eq!(
            check("lib.rs", "pub mod model;\npub use model::plan;").len(),
            1
        );
    }

    #[test]
    fn file_in_no_room_and_file_too_long_are_named() {
        assert!(check("utils.rs", "")[0].starts_with("src/utils.rs:1: this file is in no room"));
        assert!(check("helpers/a.rs", "")[0].contains("is in no room"));
        let long = "const A: u8 = 0;\n".repeat(MAX_LINES + 1);
        assert_eq!(
            check("store/mod.rs", &long),
            [
                "src/store/mod.rs:601: 601 lines without tests, at most 600 are allowed: split it by its ideas"
            ]
        );
        let tested = format!("const A: u8 = 0;\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(check("store/mod.rs", &tested), [""; 0]);
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_found() {
        assert_eq!(
            test_files("model/plan/mod.rs", "#[cfg(test)]\nmod golden;"),
            ["model/plan/golden"]
        );
        assert_eq!(
            test_files("yaml.rs", "#[cfg(test)] mod tests;"),
            ["yaml/tests"]
        );
    }
}

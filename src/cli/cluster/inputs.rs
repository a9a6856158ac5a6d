//! What the verbs of `imagesetd cluster` read: documents, a `registries.conf`, standard input, or what the daemon has published.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    cli::{
        connect::Connection,
        failure::{Exit, Failure},
        files, output, problems,
    },
    cluster::{
        conf,
        node::Node,
        objects::{File, Objects},
        operator::Refusal,
    },
    grpc::{
        convert::problem,
        v1::{GetResourcesRequest, Problem},
    },
    yaml::{self, Severity},
};

/// The word that stands for the daemon's documents where files are expected.
const LIVE: &str = "live";

/// Whether the daemon's documents are meant.
pub(super) fn is_live(paths: &[PathBuf]) -> bool {
    matches!(paths, [path] if path.as_os_str() == LIVE)
}

/// Reads cluster objects of files and folders; `-` is standard input.
pub(super) fn objects(paths: &[PathBuf]) -> Result<Objects, Failure> {
    Ok(Objects::read(&documents(paths)?))
}

/// Reads files and folders of documents; `-` is standard input.
pub(super) fn documents(paths: &[PathBuf]) -> Result<Vec<File>, Failure> {
    documents_up_to(paths, yaml::MAX_TEXT)
}

/// The same, with this many bytes of each, and one more where there are more.
pub(super) fn documents_up_to(paths: &[PathBuf], limit: usize) -> Result<Vec<File>, Failure> {
    let is_stdin = |path: &&PathBuf| path.as_os_str() == "-";
    let named: Vec<PathBuf> = paths.iter().filter(|p| !is_stdin(p)).cloned().collect();
    let mut found = Vec::new();
    if paths.iter().any(|path| is_stdin(&path)) {
        found.push(File {
            name: "-".to_owned(),
            bytes: stdin_up_to(limit)?,
        });
    }
    if !named.is_empty() {
        let given = files::read_up_to(&named, limit as u64 + 1)?.into_iter();
        found.extend(given.map(|given| File {
            name: given.path.display().to_string(),
            bytes: given.bytes,
        }));
    }
    Ok(found)
}

/// Reads standard input, as much of it as a file may have and a byte.
fn stdin() -> Result<Vec<u8>, Failure> {
    stdin_up_to(yaml::MAX_TEXT)
}

/// Reads standard input, this much of it and a byte.
fn stdin_up_to(limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::local("reading standard input", &error))?;
    Ok(bytes)
}

/// Asks the daemon for the documents that are published.
pub(super) async fn published(connection: &Connection) -> Result<Objects, Failure> {
    let mut client = connection.connect().await?;
    let answer = client.get_resources(GetResourcesRequest::default()).await?;
    let files: Vec<File> = answer
        .into_inner()
        .resources
        .into_iter()
        .map(|resource| File {
            name: resource.file_name,
            bytes: resource.text.into_bytes(),
        })
        .collect();
    Ok(Objects::read(&files))
}

/// Reads documents of files, or those of the daemon where `live` is written.
pub(super) async fn objects_or_live(
    paths: &[PathBuf],
    connection: &Connection,
) -> Result<Objects, Failure> {
    match is_live(paths) {
        true => published(connection).await,
        false => objects(paths),
    }
}

/// Reads a `registries.conf`.
pub(super) fn conf(path: &Path) -> Result<Node, Failure> {
    let bytes = one(path)?;
    Node::parse(&bytes).map_err(|error| {
        Failure::precondition(
            "INVALID_FILE",
            format!(
                "{} is not a registries.conf that a node reads: {error}",
                path.display()
            ),
        )
    })
}

/// Reads one file, or standard input where `-` is written.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    match path.as_os_str() == "-" {
        true => stdin(),
        false => one(path),
    }
}

fn one(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::precondition(
            "FILE_UNREADABLE",
            format!("reading {}: {error}", path.display()),
        )
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| {
            file.take(conf::MAX_BYTES as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(unreadable)?;
    Ok(bytes)
}

/// Whether a file is a `registries.conf` rather than documents: its name says so, or its text is one and no YAML.
pub(super) fn is_conf(path: &Path) -> bool {
    if path.extension().is_some_and(|e| e == "conf" || e == "toml") {
        return true;
    }
    let is_yaml = |e: &std::ffi::OsStr| e == "yaml" || e == "yml" || e == "json";
    if path.is_dir() || path.as_os_str() == "-" || path.extension().is_some_and(is_yaml) {
        return false;
    }
    one(path).is_ok_and(|bytes| Node::parse(&bytes).is_ok())
}

/// Whether a folder has no documents at all.
pub(super) fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Refuses objects that could not be read, or that an API server would refuse, with all that is wrong with them.
pub(super) fn refuse_errors(objects: &Objects) -> Result<(), Failure> {
    let errors: Vec<Problem> = objects
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .map(problem)
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    output::say(problems::text(&errors).trim_end());
    let message = format!(
        "the documents cannot be used as they are: {}",
        problems::tally(&errors)
    );
    Err(Failure::precondition("INVALID_DOCUMENTS", message).with_problems(errors))
}

/// Returns what nodes have of these objects.
pub(super) fn rendered(objects: &Objects) -> Result<Node, Failure> {
    refuse_errors(objects)?;
    let node = Node::template().edited(&objects.inputs());
    node.map_err(|refusals| refused(&refusals))
}

/// A failure for what the machine-config-operator refuses the whole for.
pub(super) fn refused(refusals: &[Refusal]) -> Failure {
    let sentences: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    Failure::precondition(
        "RULES_REFUSED",
        format!(
            "{}; `imagesetd cluster check` says where, and what to do",
            sentences.join("; ")
        ),
    )
}

/// Returns 0, or 3 where something is not as it should be.
pub(super) fn exit(good: bool) -> Exit {
    match good {
        true => Exit::Done,
        false => Exit::Precondition,
    }
}

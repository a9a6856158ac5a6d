//! `imagesetd cluster pull-secret`: secrets for clusters.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    cli::{
        cluster::inputs,
        failure::{Exit, Failure},
        output,
    },
    cluster::pull_secret,
};

/// Merges pull secrets.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// Prints the union of pull secrets on one line, the later one winning; checks the form of each credential
    Merge(Merge),
}

#[derive(Debug, Clone, Args)]
struct Merge {
    /// Pull secrets as JSON: files, or `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Keep only the credentials that pulling from this mirror uses
    #[arg(long, value_name = "HOST[/PATH]")]
    for_mirror: Option<String>,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let Verb::Merge(merge) = &arguments.verb;
    let merged = merged(&merge.files, merge.for_mirror.as_deref())?;
    output::write(&format!("{merged}\n"))?;
    Ok(Exit::Done)
}

/// Merges the secrets of files; what is worth knowing is said on stderr, without a word of any secret.
pub(super) fn merged(files: &[PathBuf], mirror: Option<&str>) -> Result<String, Failure> {
    let files = files.iter().map(|path| {
        let bytes = inputs::bytes(path)?;
        Ok((path.display().to_string(), bytes))
    });
    let files: Vec<(String, Vec<u8>)> = files.collect::<Result<_, Failure>>()?;
    let merged = pull_secret::merge(&files, mirror)
        .map_err(|wrong| Failure::precondition("INVALID_PULL_SECRET", wrong.join("; ")))?;
    merged.notes.iter().for_each(|note| output::say(note));
    if !merged.dropped.is_empty() {
        output::say(&format!("left out: {}", merged.dropped.join(", ")));
    }
    Ok(merged.text)
}

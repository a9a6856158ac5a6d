//! `imagesetd cluster check`: mistakes in mirror rules, before a cluster has them.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::{
    cli::{
        cluster::inputs,
        connect::Asking,
        failure::{Exit, Failure},
        json, problems, text,
    },
    cluster::{check::check, objects::Objects},
    grpc::{convert::problem, v1::Problem},
    yaml::Severity,
};

/// Finds mistakes in mirror rules before a cluster has them.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Mirror objects: files, folders, `-` for standard input, or `live` for what the daemon has published
    #[arg(value_name = "FILE|DIR|live", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let objects = inputs::objects_or_live(&arguments.paths, &arguments.asking.connection).await?;
    let found = check(&objects);
    let valid = !found.iter().any(|p| p.severity == Severity::Error);
    let found: Vec<Problem> = found.iter().map(problem).collect();
    let document = || document(valid, &objects, &found);
    arguments
        .asking
        .output
        .value(&document(), || answer_text(&objects, &found))?;
    Ok(inputs::exit(valid))
}

fn document(valid: bool, objects: &Objects, found: &[Problem]) -> Value {
    let mut fields = Map::new();
    fields.insert("valid".into(), json!(valid));
    fields.insert("objects".into(), json!(objects.sets.len()));
    let problems = found.iter().map(|p| Value::Object(json::fields(p)));
    fields.insert("problems".into(), problems.collect());
    json::enveloped(fields)
}

fn answer_text(objects: &Objects, found: &[Problem]) -> String {
    let number = objects.sets.len() as u64;
    let rules = objects.rules().count() as u64;
    let tally = match problems::tally(found) {
        tally if tally.is_empty() => "no problems".to_owned(),
        tally => tally,
    };
    format!(
        "{}{}, {}, {tally}\n",
        problems::text(found),
        text::count(number, "mirror object"),
        text::count(rules, "rule"),
    )
}

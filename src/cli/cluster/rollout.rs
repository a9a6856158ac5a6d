//! `imagesetd cluster rollout`: how far mirror rules have come in a cluster.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::{
    cli::{
        cluster::inputs,
        failure::{Exit, Failure},
        json,
        output::Output,
    },
    cluster::{
        machine,
        objects::{File, Objects},
        rollout::{self, Rollout, Stage},
    },
    yaml,
};

/// How much JSON is taken at once: machine configs of fifty pools.
const MAX_JSON: usize = 64 << 20;

/// Says of each pool whether its nodes have the mirror rules that the cluster's objects ask for.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What `oc get -o json` prints of mirror objects, image.config, machineconfigpool, and of the machineconfigs that pools name: files, folders,
    /// or `-` for standard input
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let cluster = Objects::read(&files(&arguments.paths)?);
    inputs::refuse_errors(&cluster)?;
    let pools = rollout::rollout(&cluster).map_err(|refusals| inputs::refused(&refusals))?;
    if pools.is_empty() {
        return Err(Failure::precondition(
            "NO_POOLS",
            "there is no MachineConfigPool among the objects; add `oc get machineconfigpool -o json`",
        ));
    }
    let from = |stage: Stage| pools.iter().all(|rollout| rollout.stage >= stage);
    arguments
        .output
        .value(&document(&pools, from), || answer_text(&pools))?;
    Ok(inputs::exit(from(Stage::Done)))
}

/// Machine configs are large, and there are two a pool: of lists in JSON only what counts is kept.
fn files(paths: &[PathBuf]) -> Result<Vec<File>, Failure> {
    let given = inputs::documents_up_to(paths, MAX_JSON)?;
    given.into_iter().map(slimmed).collect()
}

fn slimmed(file: File) -> Result<File, Failure> {
    let File { name, bytes } = file;
    let large = bytes.len() > yaml::MAX_TEXT;
    let why = match machine::slimmed(&bytes) {
        _ if bytes.len() > MAX_JSON => format!(
            "more than {} MiB, which are the most that are taken; get the machineconfigs that pools name, and no others: `99-POOL-generated-registries` \
             and, of each pool, `.spec.configuration.name`",
            MAX_JSON >> 20
        ),
        Some(bytes) => return Ok(File { name, bytes }),
        None if large => format!(
            "{} bytes, and is no list as `oc get -o json` prints it; only of such lists more than {} MiB are taken",
            bytes.len(),
            yaml::MAX_TEXT >> 20
        ),
        None => return Ok(File { name, bytes }),
    };
    let name = match name.as_str() {
        "-" => "what comes through standard input",
        name => name,
    };
    Err(Failure::precondition(
        "TOO_LARGE",
        format!("{name} has {why}"),
    ))
}

fn document(pools: &[Rollout], from: impl Fn(Stage) -> bool) -> Value {
    let pool = |rollout: &Rollout| {
        json!({
            "pool": rollout.pool.name, "stage": rollout.stage.as_str(), "paused": rollout.pool.paused,
            "degraded": rollout.pool.degraded.is_some(), "message": rollout.message,
        })
    };
    let settled = |rollout: &Rollout| matches!(rollout.stage, Stage::Paused | Stage::Done);
    let mut fields = Map::new();
    fields.insert("done".into(), json!(from(Stage::Done)));
    // What pools are to have is settled: resuming one costs one rollout.
    fields.insert("given".into(), json!(from(Stage::Paused)));
    // Nothing goes on by itself any more.
    fields.insert("settled".into(), json!(pools.iter().all(settled)));
    fields.insert("pools".into(), pools.iter().map(pool).collect());
    json::enveloped(fields)
}

fn answer_text(pools: &[Rollout]) -> String {
    let line = |rollout: &Rollout| {
        let word = match rollout.stage {
            Stage::Awaited => "not rendered yet",
            Stage::Rendered => "rendered, not given to the pool yet",
            Stage::Paused => "waits",
            Stage::RollingOut => "rolling out",
            Stage::Done => "done",
        };
        format!("{}: {word}: {}\n", rollout.pool.name, rollout.message)
    };
    pools.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_says_what_to_ask_for() {
        let told = |name: &str, text: &str, length: usize| {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(length, b' ');
            let name = name.to_owned();
            slimmed(File { name, bytes }).map(|file| file.bytes.len())
        };
        assert_eq!(told("a.json", "{\"items\":[]}", 5 << 20), Ok(12));
        assert_eq!(told("a.yaml", "a: b", 9), Ok(9));
        let failure = told("a.yaml", "a: b", 5 << 20).unwrap_err();
        assert_eq!(failure.reason, "TOO_LARGE");
        assert_eq!(
            failure.message,
            "a.yaml has 5242880 bytes, and is no list as `oc get -o json` prints it; only of such lists more than 4 MiB are taken"
        );
        let failure = told("-", "{\"items\":[]}", MAX_JSON + 1).unwrap_err();
        assert_eq!(
            failure.message,
            "what comes through standard input has more than 64 MiB, which are the most that are taken; get the machineconfigs that pools name, \
             and no others: `99-POOL-generated-registries` and, of each pool, `.spec.configuration.name`"
        );
    }
}

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
};

/// How much JSON is taken through a pipe: machine configs of fifty pools.
const MAX_PIPED: usize = 64 << 20;

/// Says of each pool whether its nodes have the mirror rules that the cluster's objects ask for.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What `oc get -o yaml` prints of mirror objects, image.config, machineconfigpool, and of the machineconfigs that pools name: files, folders,
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
            "there is no MachineConfigPool among the objects; add `oc get machineconfigpool -o yaml`",
        ));
    }
    let from = |stage: Stage| pools.iter().all(|rollout| rollout.stage >= stage);
    arguments
        .output
        .value(&document(&pools, from), || answer_text(&pools))?;
    Ok(inputs::exit(from(Stage::Done)))
}

/// Machine configs are large, and there are two a pool: of what comes through a pipe only what counts is kept.
fn files(paths: &[PathBuf]) -> Result<Vec<File>, Failure> {
    if !matches!(paths, [path] if path.as_os_str() == "-") {
        return inputs::documents(paths);
    }
    let bytes = inputs::stdin_up_to(MAX_PIPED)?;
    Ok(vec![File {
        name: "-".to_owned(),
        bytes: machine::slimmed(&bytes).unwrap_or(bytes),
    }])
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

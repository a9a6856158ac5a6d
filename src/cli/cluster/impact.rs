//! `imagesetd cluster impact`: what a change of mirror rules does to nodes.

use std::path::{Path, PathBuf};

use crate::{
    cli::{
        cluster::inputs,
        failure::{Exit, Failure},
        output::Output,
        plan::text::impact_line,
    },
    cluster::{
        forecast::{self, Forecast},
        node::Node,
        objects::Objects,
    },
    grpc::{convert::forecast as converted, v1::NodeImpact},
};

/// Says what a change of mirror rules does to nodes: nothing, a reload, a drain.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What there is: a registries.conf, or a file or folder of mirror objects
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// What there will be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Picture of the cluster that it happens to, as `oc get -o yaml` prints it: file or folder; may be repeated
    #[arg(long, value_name = "FILE|DIR")]
    snapshot: Vec<PathBuf>,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// What one of the two sides is.
enum Side {
    File(Node),
    Objects(Objects),
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let (old, new) = (side(&arguments.old)?, side(&arguments.new)?);
    let cluster = match arguments.snapshot.as_slice() {
        [] => None,
        paths => {
            let cluster = inputs::objects(paths)?;
            inputs::refuse_errors(&cluster)?;
            Some(cluster)
        }
    };
    let forecast = match (&old, &new) {
        (Side::File(old), Side::File(new)) => forecast::of_files(old, new, cluster.as_ref()),
        (Side::Objects(old), Side::Objects(new)) => {
            forecast::of_objects(old, new, cluster.as_ref())
        }
        (Side::File(old), Side::Objects(new)) => mixed(old, &of(new, cluster.as_ref())?, &cluster),
        (Side::Objects(old), Side::File(new)) => mixed(&of(old, cluster.as_ref())?, new, &cluster),
    };
    arguments.output.answer(&converted(&forecast), |impact| {
        answer_text(&forecast, impact)
    })?;
    Ok(Exit::Done)
}

fn side(path: &Path) -> Result<Side, Failure> {
    if inputs::is_conf(path) {
        return Ok(Side::File(inputs::conf(path)?));
    }
    // A folder without documents is a cluster without rules.
    let empty = path.is_dir() && inputs::is_empty(path);
    let objects = match empty {
        true => Objects::default(),
        false => inputs::objects(&[path.to_owned()])?,
    };
    inputs::refuse_errors(&objects)?;
    Ok(Side::Objects(objects))
}

/// Returns what nodes have of mirror objects, beside what the cluster has.
fn of(objects: &Objects, cluster: Option<&Objects>) -> Result<Node, Failure> {
    match cluster {
        Some(cluster) => inputs::rendered(&cluster.with_change(&Objects::default(), objects)),
        None => inputs::rendered(objects),
    }
}

/// Compares a node's file with what mirror objects make of one.
fn mixed(old: &Node, new: &Node, cluster: &Option<Objects>) -> Forecast {
    let mut forecast = forecast::of_files(old, new, cluster.as_ref());
    if cluster.is_none() {
        forecast.note = "a node's file is compared with the documents alone: what other objects of the cluster bring counts as missing from these".to_owned();
    }
    forecast
}

fn answer_text(forecast: &Forecast, impact: &NodeImpact) -> String {
    let mut text = format!("Nodes: {}\n", impact_line(impact));
    for reason in &forecast.reasons {
        text += &format!("  {}\n", reason.message);
    }
    text
}

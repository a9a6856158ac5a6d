//! `imagesetd cluster registries-conf`: the file that nodes will have.

use std::path::PathBuf;

use crate::{
    cli::{
        cluster::inputs,
        failure::{Exit, Failure},
        output,
    },
    cluster::node::Node,
};

/// Prints the registries.conf that nodes will have of mirror rules, as the machine-config-operator renders it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// ImageDigestMirrorSets, ImageTagMirrorSets and ImageContentSourcePolicies: files, folders, or `-` for standard input
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    /// registries.conf to begin with, instead of the operator's own template
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Registry that is insecure, as image.config.openshift.io/cluster has it; may be repeated
    #[arg(long, value_name = "REGISTRY")]
    insecure: Vec<String>,
    /// Registry that is blocked, as image.config.openshift.io/cluster has it; may be repeated
    #[arg(long, value_name = "REGISTRY")]
    blocked: Vec<String>,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let objects = inputs::objects(&arguments.paths)?;
    inputs::refuse_errors(&objects)?;
    let base = match &arguments.base {
        Some(path) => inputs::conf(path)?,
        None => Node::template(),
    };
    let mut given = objects.inputs();
    given.insecure.extend(arguments.insecure.iter().cloned());
    given.blocked.extend(arguments.blocked.iter().cloned());
    let node = base
        .edited(&given)
        .map_err(|refusals| inputs::refused(&refusals))?;
    output::write(&node.text())?;
    Ok(Exit::Done)
}

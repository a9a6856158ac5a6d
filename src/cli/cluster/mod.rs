//! `imagesetd cluster`: mirror rules as nodes see them.

pub mod check;

pub mod coverage;

pub mod explain;

pub mod impact;

mod inputs;

pub mod install_config;

pub mod migrate_icsp;

pub mod pull_secret;

pub mod registries_conf;

pub mod rollout;

pub mod snapshot;

use clap::Subcommand;

use crate::cli::failure::{Exit, Failure};

/// Says what mirror rules do on the nodes of a cluster, and finds mistakes in them; most of it without a daemon.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// Prints the registries.conf that nodes will have of mirror rules, as the machine-config-operator renders it
    RegistriesConf(registries_conf::Arguments),
    /// Says what a node tries for an image reference, and in which order
    Explain(explain::Arguments),
    /// Says what a change of mirror rules does to nodes: nothing, a reload, a drain
    Impact(impact::Arguments),
    /// Says of each pool whether its nodes have the mirror rules that the cluster's objects ask for
    Rollout(rollout::Arguments),
    /// Gives the daemon a picture of a cluster, so that plans say what documents do to it
    Snapshot(snapshot::Arguments),
    /// Finds mistakes in mirror rules before a cluster has them
    Check(check::Arguments),
    /// Says of the images in manifests, Helm output or a plain list whether mirror rules serve them
    Coverage(coverage::Arguments),
    /// Writes what install-config.yaml needs for a mirror: image sources, trust bundle, pull secret
    InstallConfig(install_config::Arguments),
    /// Merges pull secrets
    PullSecret(pull_secret::Arguments),
    /// Makes ImageDigestMirrorSets of ImageContentSourcePolicies
    MigrateIcsp(migrate_icsp::Arguments),
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    match arguments.verb {
        Verb::RegistriesConf(arguments) => registries_conf::run(&arguments),
        Verb::Explain(arguments) => explain::run(arguments).await,
        Verb::Impact(arguments) => impact::run(&arguments),
        Verb::Rollout(arguments) => rollout::run(&arguments),
        Verb::Snapshot(arguments) => snapshot::run(arguments).await,
        Verb::Check(arguments) => check::run(arguments).await,
        Verb::Coverage(arguments) => coverage::run(arguments).await,
        Verb::InstallConfig(arguments) => install_config::run(arguments).await,
        Verb::PullSecret(arguments) => pull_secret::run(&arguments),
        Verb::MigrateIcsp(arguments) => migrate_icsp::run(arguments).await,
    }
}

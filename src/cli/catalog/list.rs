//! `catalog list`: what a catalog has.

use serde_json::json;

use super::{Reaching, origin, unread};
use crate::{
    cli::{
        failure::{Exit, Failure},
        output::Output,
        text::table,
    },
    model::{
        catalog::{
            list::{ChannelSummary, PackageSummary, summary},
            pack::PackError,
        },
        sentence,
    },
    reconcile::catalogs::Opened,
    yaml::suggest::suggest,
};

/// `catalog list`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// The catalog: an image, an image layout, or a folder of plain configs
    #[arg(value_name = "IMAGE|oci://DIR|DIR")]
    catalog: String,
    /// List the channels of this package
    #[arg(long, value_name = "PACKAGE")]
    package: Option<String>,
    /// List the bundles of this channel
    #[arg(long, value_name = "CHANNEL", requires = "package")]
    channel: Option<String>,
    #[command(flatten)]
    reaching: Reaching,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the verb.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let origin = origin(&arguments.catalog)?;
    let reader = arguments.reaching.reader()?;
    let mut catalog = reader.open(&origin, &[]).await.map_err(unread)?;
    match (&arguments.package, &arguments.channel) {
        (None, _) => {
            let packages = packages(&mut catalog)?;
            let value = json!({"schema": 1, "packages": packages});
            arguments.output.value(&value, || of_catalog(&packages))?;
        }
        (Some(name), None) => {
            let package = package(&mut catalog, name)?;
            let value = json!({"schema": 1, "packages": [&package]});
            arguments.output.value(&value, || of_package(&package))?;
        }
        (Some(name), Some(channel)) => {
            let mut package = package(&mut catalog, name)?;
            let names: Vec<&str> = package.channels.iter().map(|c| c.name.as_str()).collect();
            if !names.contains(&channel.as_str()) {
                return Err(Failure::precondition(
                    "NO_SUCH_CHANNEL",
                    format!(
                        "the package `{name}` has no channel `{channel}`; {}",
                        suggest(channel, &names)
                    ),
                ));
            }
            package.channels.retain(|c| c.name == *channel);
            let value = json!({"schema": 1, "packages": [&package]});
            arguments
                .output
                .value(&value, || of_channel(&package.channels))?;
        }
    }
    Ok(Exit::Done)
}

fn packages(catalog: &mut Opened) -> Result<Vec<PackageSummary>, Failure> {
    let names: Vec<String> = catalog.directory().packages.keys().cloned().collect();
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        found.extend(
            catalog
                .package(&name)
                .map_err(unreadable)?
                .as_ref()
                .map(summary),
        );
    }
    Ok(found)
}

fn package(catalog: &mut Opened, name: &str) -> Result<PackageSummary, Failure> {
    if let Some(package) = catalog.package(name).map_err(unreadable)? {
        return Ok(summary(&package));
    }
    let names: Vec<&str> = catalog
        .directory()
        .packages
        .keys()
        .map(String::as_str)
        .collect();
    let hint = match crate::yaml::suggest::nearest(name, &names) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "list them by leaving `--package` out".to_owned(),
    };
    Err(Failure::precondition(
        "NO_SUCH_PACKAGE",
        format!("the catalog has no package `{name}`; {hint}"),
    ))
}

pub(super) fn unreadable(error: PackError) -> Failure {
    Failure::precondition("CATALOG_UNREADABLE", sentence(&error))
}

fn of_catalog(packages: &[PackageSummary]) -> String {
    let head = ["PACKAGE", "DEFAULT CHANNEL", "HEAD"]
        .map(str::to_owned)
        .to_vec();
    let rows = packages.iter().map(|package| {
        vec![
            package.name.clone(),
            package.default_channel.clone(),
            package.head().to_owned(),
        ]
    });
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn of_package(package: &PackageSummary) -> String {
    let head = ["CHANNEL", "HEAD", "VERSIONS"].map(str::to_owned).to_vec();
    let rows = package.channels.iter().map(|channel| {
        let star = if channel.name == package.default_channel {
            " (default)"
        } else {
            ""
        };
        vec![
            format!("{}{star}", channel.name),
            channel.head.clone(),
            channel.bundles.len().to_string(),
        ]
    });
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn of_channel(channels: &[ChannelSummary]) -> String {
    let head = ["VERSION", "BUNDLE"].map(str::to_owned).to_vec();
    let bundles = channels.iter().flat_map(|channel| &channel.bundles);
    let rows = bundles.map(|bundle| vec![bundle.version.clone(), bundle.name.clone()]);
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

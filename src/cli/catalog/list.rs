//! `catalog list`: what a catalog has.

use serde_json::json;

use super::{Reaching, origin, unread};
use crate::{
    cli::{
        failure::{Exit, Failure},
        output::Output,
        text::table,
    },
    model::catalog::list::{ChannelSummary, PackageSummary},
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
    let (package, channel) = (arguments.package.as_deref(), arguments.channel.as_deref());
    let packages = reader.list(&origin, package, channel).await;
    let packages = packages.map_err(unread)?;
    let value = json!({"schema": 1, "packages": packages});
    arguments
        .output
        .value(&value, || match (packages.as_slice(), package, channel) {
            ([only], Some(_), None) => of_package(only),
            ([only], Some(_), Some(_)) => of_channel(&only.channels),
            _ => of_catalog(&packages),
        })?;
    Ok(Exit::Done)
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

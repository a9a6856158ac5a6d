//! The way of a cluster along an update path, where the daemon knows what has landed.

use std::fmt::Write as _;

use semver::Version;
use serde::Serialize;

use crate::{
    cli::{connect::Connection, failure::Failure},
    grpc::v1::{GetResourcesRequest, ReleaseUpdate},
};

/// How a cluster gets to a version of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathUpdate {
    /// The version.
    pub version: Version,
    /// Whether it has landed in the mirror with all it names.
    pub mirrored: bool,
    /// The documents with its signatures, which are applied first.
    pub signature_files: Vec<String>,
    /// What is typed then; empty where it has not landed.
    pub command: String,
}

/// Asks the daemon how a cluster gets to the versions of a path.
pub(super) async fn updates(
    connection: &Connection,
    path: &[Version],
    arch: &str,
) -> Result<Vec<PathUpdate>, Failure> {
    let mut client = connection.connect().await?;
    let request = GetResourcesRequest::default();
    let landed = client.get_resources(request).await?.into_inner().updates;
    Ok(matched(path, arch, &landed))
}

fn matched(path: &[Version], arch: &str, landed: &[ReleaseUpdate]) -> Vec<PathUpdate> {
    let update = |version: &Version| {
        let is_it = |u: &&ReleaseUpdate| u.version == version.to_string() && u.architecture == arch;
        let found = landed.iter().find(is_it);
        PathUpdate {
            version: version.clone(),
            mirrored: found.is_some(),
            signature_files: found.map(|u| u.signature_files.clone()).unwrap_or_default(),
            command: found.map(|u| u.command.clone()).unwrap_or_default(),
        }
    };
    path.iter().skip(1).map(update).collect()
}

/// Returns for people how a cluster gets to each version.
pub(super) fn text(updates: &[PathUpdate]) -> String {
    let mut text = String::new();
    for update in updates {
        let _ = writeln!(text, "\nTo {}:", update.version);
        if !update.mirrored {
            text.push_str("  it has not landed in the mirror\n");
            continue;
        }
        for file in &update.signature_files {
            let _ = writeln!(text, "  oc apply -f {file}");
        }
        let _ = writeln!(text, "  {}", update.command);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_of_the_path_has_its_way_or_none() {
        let versions = ["4.16.1", "4.16.5", "4.16.9"].map(|v| v.parse().unwrap());
        let landed = |version: &str, arch: &str| ReleaseUpdate {
            version: version.to_owned(),
            architecture: arch.to_owned(),
            signature_files: vec!["signatures.yaml".to_owned()],
            command: format!("oc adm upgrade --to-image m/r@{version}"),
            ..ReleaseUpdate::default()
        };
        let landed = [landed("4.16.5", "amd64"), landed("4.16.9", "arm64")];
        assert_eq!(
            text(&matched(&versions, "amd64", &landed)),
            "
To 4.16.5:
  oc apply -f signatures.yaml
  oc adm upgrade --to-image m/r@4.16.5

To 4.16.9:
  it has not landed in the mirror
"
        );
    }
}

//! What a site has: an upstream with two releases, a mirror registry that is empty, an update service, a directory.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tokio::net::TcpListener;

use crate::{
    directory::Directory,
    fixture::{
        graph::Graph,
        place::write_layout,
        release::{Release, Spec},
        server::{OurRegistry, UpdateServer},
    },
};

/// The versions that the upstream has, in order.
pub(crate) const VERSIONS: [&str; 2] = ["4.16.1", "4.16.2"];

/// The channel that offers them.
pub(crate) const CHANNEL: &str = "stable-4.16";

/// The image set's name: its file without the extension.
pub(crate) const IMAGE_SET: &str = "ocp-4.16";

/// Everything but the daemon. Dropping it stops the servers.
pub(crate) struct Site {
    /// The demo's folder.
    pub(crate) folder: PathBuf,
    /// The watched directory.
    pub(crate) directory: Directory,
    /// The registry that has the releases.
    pub(crate) upstream: OurRegistry,
    /// The registry that is to have them.
    pub(crate) mirror: OurRegistry,
    /// How many images a release has, its payload counted.
    pub(crate) images: usize,
    updates: UpdateServer,
}

impl Site {
    /// Makes the content and starts the servers.
    pub(crate) async fn build(folder: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?.to_string();
        let served = folder.join("upstream");
        let releases = tokio::task::spawn_blocking({
            let served = served.clone();
            move || publish(&served, &host)
        });
        let releases = releases.await??;
        let graph = Graph::of(&releases.iter().collect::<Vec<_>>());
        let updates = UpdateServer::start(move |channel, arch| {
            (channel == CHANNEL && arch == "amd64").then(|| graph.document(channel))
        });
        let site = Site {
            folder: folder.to_owned(),
            directory: Directory::create(&folder.join("imagesets")).await?,
            upstream: OurRegistry::start_on(&served, listener).await?,
            mirror: OurRegistry::start(&folder.join("mirror")).await?,
            images: releases[0].images().len(),
            updates: updates.await?,
        };
        tokio::fs::write(site.settings_file(), site.settings()).await?;
        Ok(site)
    }

    /// Returns where the daemon's settings are.
    pub(crate) fn settings_file(&self) -> PathBuf {
        self.folder.join("imagesetd.yaml")
    }

    /// Returns where clients reach the daemon.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.folder.join("imagesetd.sock").display())
    }

    /// Returns the daemon's settings. A plan waits for a person here, so that it can be shown before it is applied.
    pub(crate) fn settings(&self) -> String {
        let path = |name: &str| self.folder.join(name).display().to_string();
        format!(
            "directory: {directory}
state: {state}
output: {output}
listen: [{endpoint:?}]
target: {mirror}/mirror
apply: manual
release_signatures: ignore
update_service:
  ocp: {updates}
registries:
  - host: {upstream}
    plain_http: true
  - host: {mirror}
    plain_http: true
",
            directory = path("imagesets"),
            state = path("state"),
            output = path("cluster-resources"),
            endpoint = self.endpoint(),
            mirror = self.mirror.host,
            upstream = self.upstream.host,
            updates = self.updates.url,
        )
    }
}

fn publish(folder: &Path, host: &str) -> Result<Vec<Release>> {
    let rounds = VERSIONS.iter().zip(0..);
    let releases: Vec<_> = rounds
        .map(|(version, round)| Release::build(&Spec::new(version, round, host)))
        .collect();
    let images: Vec<_> = releases.iter().flat_map(Release::images).collect();
    write_layout(folder, &images)?;
    Ok(releases)
}

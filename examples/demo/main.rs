//! From a commit to a mirrored release, on this machine: two registries, an update service, a Git directory, the real daemon.
//!
//! `make demo`, or `cargo run --release --example demo` after `cargo build --release`. Everything lies in a temporary folder and is
//! gone at the end. With `--exit` it leaves after the story, else it stays up for you to try things.

#[path = "../../tests/support/fixture.rs"]
mod fixture;

mod agent;

mod directory;

mod site;

mod story;

use std::path::Path;

use anyhow::{Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{agent::Agent, site::Site};

#[tokio::main]
async fn main() -> Result<()> {
    let leave = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--exit") => true,
        Some(other) => bail!("`{other}` is not known here; `--exit` leaves after the story"),
    };
    // Taken before anything is started, so that Ctrl-C at any moment ends in the clean way below.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let folder = tempfile::Builder::new()
        .prefix("imagesetd-demo-")
        .tempdir()?;
    let shown = show(folder.path(), leave, &mut interrupt).await;
    // What was started inside has been stopped by now; nothing writes there any longer.
    folder.close()?;
    shown
}

async fn show(folder: &Path, leave: bool, interrupt: &mut Signal) -> Result<()> {
    let site = Site::build(folder).await?;
    let mut agent = Agent::start(&site)?;
    let told = tokio::select! {
        told = story::tell(&site, &mut agent) => told,
        _ = interrupt.recv() => bail_out(),
    };
    if told.is_ok() && !leave {
        story::invite(&site, &agent);
        interrupt.recv().await;
    }
    agent.stop().await?;
    told
}

fn bail_out() -> Result<()> {
    bail!("interrupted")
}

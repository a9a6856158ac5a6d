//! Compares imagesetd with the copiers that are installed: one image set, the same registries, one table.
//!
//! `make bench` builds and runs it; `make bench ARGS=--help` says what it can do. Requests are counted in the registries' access logs,
//! time and memory are those of the tool's process. Every round of every cell starts with a mirror of its own; the tools take turns,
//! so that a busy minute of the machine meets all of them.

#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on says so by ending"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../../tests/support/fixture.rs"]
mod fixture;

mod cell;

mod link;

mod measure;

mod report;

mod tool;

use clap::Parser;

use cell::{Bench, Cell};

use tool::Tool;

/// What the benchmark is asked to do.
#[derive(Debug, Parser)]
#[command(
    name = "make bench",
    about = "Compares imagesetd with the copiers that are installed"
)]
pub(crate) struct Args {
    /// How often each tool is measured in each cell; the table has medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes of a layer.
    #[arg(long, default_value_t = 262_144)]
    layer: usize,
    /// A set drawn from this seed, in place of set A.
    #[arg(long)]
    seed: Option<u64>,
    /// Milliseconds of round trip of the far link; 0 leaves it out.
    #[arg(long, default_value_t = 20)]
    far: u64,
    /// Only these cells: cold, warm, digests, adopted, changed, resumed.
    #[arg(long, value_delimiter = ',')]
    cells: Vec<Cell>,
    /// Only these tools.
    #[arg(long, value_delimiter = ',')]
    tools: Vec<Tool>,
    /// Writes every measurement to this file, as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: std::path::PathBuf,
    /// Cargo's own flag for benchmarks.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if let Some(("--measure", command)) = words.get(1).map(|w| (w.as_str(), &words[2..])) {
        measure::child(command);
    }
    let args = Args::parse();
    let bench = Bench::new(&args);
    let found = bench.run(&args);
    std::fs::write(&args.json, report::json(&args, &found)).unwrap();
    print!("{}", report::table(&found));
    println!("\nEvery measurement: {}", args.json.display());
}

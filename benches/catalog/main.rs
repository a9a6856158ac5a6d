//! Filters two packages out of a catalog as large as redhat-operator-index, from a registry on this machine.
//!
//! `cargo bench --bench catalog`. The measure of time is `gzip -dc` of the catalog's layer, on the same machine in the same minute.

#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on says so by ending"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../../tests/support/fixture.rs"]
mod fixture;

#[path = "../peers/measure.rs"]
mod measure;

mod generator;

use std::path::{Path, PathBuf};

use clap::Parser;
use generator::Size;
use measure::Cost;
use support::{catalog, oci::Image, registry::Registry, skopeo};

/// What the benchmark is asked to do.
#[derive(Debug, Parser)]
#[command(
    name = "catalog",
    about = "Filters two packages out of a large catalog"
)]
struct Args {
    /// How often each is measured; the table has medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many bundles the catalog has.
    #[arg(long, default_value_t = Size::REAL.bundles)]
    bundles: usize,
    /// Only writes the catalog's images as OCI layouts into this folder.
    #[arg(long)]
    write: Option<PathBuf>,
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
    let size = Size {
        bundles: args.bundles,
        ..Size::REAL
    };
    for (form, image) in [
        ("a folder per package", folders(size)),
        ("one catalog.json", single(size)),
    ] {
        if let Some(folder) = &args.write {
            let folder = folder.join(form.replace(' ', "-"));
            std::fs::create_dir_all(&folder).unwrap();
            image.write_layout(&folder, "latest");
            continue;
        }
        run(form, &image, args.rounds);
    }
}

fn folders(size: Size) -> Image {
    let files: Vec<(String, String)> = (0..size.packages)
        .map(|n| {
            (
                format!("configs/{}/catalog.json", generator::name(n)),
                generator::package(size, n),
            )
        })
        .collect();
    let files = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_bytes()));
    catalog::image(&[catalog::tar(files)])
}

fn single(size: Size) -> Image {
    let text: String = (0..size.packages)
        .map(|n| generator::package(size, n))
        .collect();
    catalog::image(&[catalog::tar([("configs/catalog.json", text.as_bytes())])])
}

/// Measures one form of the catalog.
fn run(form: &str, image: &Image, rounds: usize) {
    let registry = Registry::debian();
    let folder = tempfile::tempdir().unwrap();
    image.write_layout(folder.path(), "latest");
    skopeo::copy(
        &format!("oci:{}:latest", folder.path().display()),
        &registry.docker("index:v1"),
    );
    let layer = folder.path().join("layer.gz");
    std::fs::write(&layer, &image.blobs[1]).unwrap();
    let set = folder.path().join("set.yaml");
    let catalog = format!("{}/index:v1", registry.address());
    std::fs::write(&set, image_set(&catalog)).unwrap();
    let log = folder.path().join("log");
    println!("{form}: a layer of {} MB", image.blobs[1].len() / 1_000_000);
    let gzip = words(&["gzip", "-dc", layer.to_str().unwrap()]);
    report("gzip -dc of the layer", rounds, |_| {
        measure::run(&gzip, Path::new("/dev/null"), None)
    });
    report("filter, the first time", rounds, |round| {
        let state = folder.path().join(format!("state-{round}"));
        measure::run(&filter(&set, &state), &log, None)
    });
    let state = folder.path().join("state-0");
    let mark = registry.mark();
    report("filter, the second time", rounds, |_| {
        measure::run(&filter(&set, &state), &log, None)
    });
    println!(
        "  requests of a second time: {}",
        registry.since(mark).len() / rounds
    );
}

fn image_set(catalog: &str) -> String {
    format!(
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  operators:\n  - catalog: {catalog}\n    \
         packages:\n    - name: {}\n    - name: {}\n      channels:\n      - {{name: stable, minVersion: 1.5.0, maxVersion: 1.9.0}}\n",
        generator::name(17),
        generator::name(171)
    )
}

fn filter(set: &Path, state: &Path) -> Vec<String> {
    words(&[
        env!("CARGO_BIN_EXE_imagesetd"),
        "catalog",
        "filter",
        "-c",
        set.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
        "--src-tls-verify=false",
    ])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Measures something several times and prints the medians.
fn report(what: &str, rounds: usize, measure: impl Fn(usize) -> Cost) {
    let costs: Vec<Cost> = (0..rounds).map(measure).collect();
    assert!(costs.iter().all(|cost| cost.code == 0), "{what}: {costs:?}");
    let median = |of: &dyn Fn(&Cost) -> f64| {
        let mut all: Vec<f64> = costs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!(
        "  {what:<24} {:6.3} s   {:6.3} s of processors   {:5.1} MB",
        median(&|c| c.wall),
        median(&|c| c.cpu),
        median(&|c| c.memory as f64 / 1024.0)
    );
}

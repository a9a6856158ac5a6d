//! What is measured: cells, each a state of the mirror and a change of the upstream, near and far.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use serde::Serialize;

use crate::{
    Args,
    fixture::{
        place::write_distribution_storage,
        set::{self, Set},
    },
    link::Link,
    measure::{self, Cost},
    support::registry::{Mark, Registry},
    tool::{Job, Tool},
};

/// A situation in which tools are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cell {
    /// An empty mirror.
    Cold,
    /// The tool's own second run, nothing changed.
    Warm,
    /// The same with images named by digest.
    Digests,
    /// Half of the images were brought by skopeo, and the tool has no state.
    Adopted,
    /// One image in twenty has changed since the tool's run.
    Changed,
    /// The tool's run was killed half way.
    Resumed,
}

impl Cell {
    /// Returns what is said of it in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Cell::Cold => "cold: an empty mirror",
            Cell::Warm => "warm: again, nothing changed",
            Cell::Digests => "warm, named by digest",
            Cell::Adopted => "half filled by skopeo, no state",
            Cell::Changed => "one image in twenty changed",
            Cell::Resumed => "killed half way, then run again",
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Found {
    pub(crate) cell: Cell,
    /// Milliseconds of round trip to both registries.
    pub(crate) round_trip: u64,
    pub(crate) tool: &'static str,
    pub(crate) cost: Cost,
    pub(crate) source_requests: usize,
    pub(crate) mirror_requests: usize,
    /// Bytes of blobs read upstream.
    pub(crate) source_bytes: u64,
    /// Whether the mirror holds every image afterwards, by digest.
    pub(crate) complete: bool,
}

/// An upstream with the set, and a folder for everything else.
pub(crate) struct Bench {
    set: Set,
    changed: Set,
    upstream: Registry,
    folder: tempfile::TempDir,
}

/// A mirror of its own and the ways to both registries, for one tool in one round.
struct Turn<'a> {
    bench: &'a Bench,
    tool: Tool,
    mirror: Registry,
    links: Option<(Link, Link)>,
    folder: PathBuf,
}

impl Bench {
    pub(crate) fn new(args: &Args) -> Self {
        let set = match args.seed {
            Some(seed) => set::drawn(seed, args.layer),
            None => set::a(args.layer),
        };
        let bench = Bench {
            changed: set.changed(args.layer),
            set,
            upstream: Registry::debian(),
            folder: tempfile::tempdir().unwrap(),
        };
        bench.publish(&bench.set);
        bench
    }

    fn publish(&self, set: &Set) {
        write_distribution_storage(&self.upstream.storage(), &set.placed()).unwrap();
    }

    /// Measures every tool in every cell, as often as asked.
    pub(crate) fn run(&self, args: &Args) -> Vec<Found> {
        let mut found = Vec::new();
        let far = (args.far > 0).then_some(args.far);
        for round_trip in [0].into_iter().chain(far) {
            for cell in chosen(&args.cells) {
                for round in 0..args.rounds {
                    for tool in chosen(&args.tools) {
                        if tool.program().is_none() || !takes_part(tool, cell) {
                            continue;
                        }
                        eprintln!(
                            "{}, {round_trip} ms: {} ({})",
                            cell.title(),
                            tool.name(),
                            round + 1
                        );
                        let turn = self.turn(tool, round_trip, found.len());
                        found.push(turn.measure(cell, round_trip));
                    }
                }
            }
        }
        found
    }

    fn turn(&self, tool: Tool, round_trip: u64, number: usize) -> Turn<'_> {
        let mirror = Registry::debian();
        let links = (round_trip > 0).then(|| {
            let delay = Duration::from_millis(round_trip);
            (
                Link::new(self.upstream.address(), delay),
                Link::new(mirror.address(), delay),
            )
        });
        Turn {
            bench: self,
            tool,
            mirror,
            links,
            folder: self.folder.path().join(number.to_string()),
        }
    }
}

/// Those that are named, or all.
fn chosen<T: ValueEnum + Copy>(named: &[T]) -> Vec<T> {
    match named {
        [] => T::value_variants().to_vec(),
        named => named.to_vec(),
    }
}

/// Tags cannot be left out with skopeo's sync and crane's copies, and who keeps no state has nothing to know a digest by.
fn takes_part(tool: Tool, cell: Cell) -> bool {
    match cell {
        Cell::Digests => matches!(tool, Tool::Imagesetd),
        // One process an image: killing the shell is another thing.
        Cell::Resumed => !matches!(tool, Tool::SkopeoCopy | Tool::Crane),
        _ => true,
    }
}

impl Turn<'_> {
    fn measure(self, cell: Cell, round_trip: u64) -> Found {
        let by_tag = self.bench.set.by_tag();
        let by_digest = self.bench.set.by_digest();
        let names: &[String] = match cell {
            Cell::Digests => &by_digest,
            _ => &by_tag,
        };
        match cell {
            Cell::Cold => {}
            Cell::Warm | Cell::Digests | Cell::Changed => {
                self.run(self.tool, names, &self.folder, None);
            }
            Cell::Adopted => {
                let half = &names[..names.len() / 2];
                self.run(Tool::SkopeoCopy, half, &self.folder.join("skopeo"), None);
            }
            Cell::Resumed => {
                let whole = self.bench.turn(self.tool, round_trip, usize::MAX);
                let cost = whole.run(self.tool, names, &whole.folder, None);
                let _ = fs::remove_dir_all(&whole.folder);
                let half = Duration::from_secs_f64(cost.wall / 2.0);
                self.run(self.tool, names, &self.folder, Some(half));
            }
        }
        let set = match cell {
            Cell::Changed => &self.bench.changed,
            _ => &self.bench.set,
        };
        self.bench.publish(set);
        let marks: (Mark, Mark) = (self.bench.upstream.mark(), self.mirror.mark());
        let cost = self.run(self.tool, names, &self.folder, None);
        let source = self.bench.upstream.since(marks.0);
        let complete = cost.code == 0 && self.holds(set, cell == Cell::Digests);
        let found = Found {
            cell,
            round_trip,
            tool: self.tool.name(),
            cost,
            source_requests: source.len(),
            mirror_requests: self.mirror.since(marks.1).len(),
            source_bytes: source.blob_bytes(),
            complete,
        };
        self.bench.publish(&self.bench.set);
        if !found.complete {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            eprintln!("  the mirror is not complete: {cost:?} {tail:?}");
        }
        let _ = fs::remove_dir_all(&self.folder);
        found
    }

    fn run(
        &self,
        tool: Tool,
        names: &[String],
        folder: &Path,
        end_after: Option<Duration>,
    ) -> Cost {
        let (from, to) = match &self.links {
            Some((from, to)) => (from.address(), to.address()),
            None => (self.bench.upstream.address(), self.mirror.address()),
        };
        let job = Job {
            names,
            from,
            to,
            folder,
        };
        let command = job.command(tool);
        measure::run(&command, &folder.join("log"), end_after)
    }

    /// Whether every image lies in the mirror's storage, under its tag unless it was named by digest.
    fn holds(&self, set: &Set, by_digest: bool) -> bool {
        let repositories = self
            .mirror
            .storage()
            .join("docker/registry/v2/repositories");
        set.0.iter().all(|(name, image)| {
            let manifests = repositories.join(name).join("_manifests");
            let digest = image.digest();
            let link = match by_digest {
                false => manifests.join("tags").join(set::TAG).join("current/link"),
                true => manifests
                    .join("revisions/sha256")
                    .join(digest.hex())
                    .join("link"),
            };
            fs::read_to_string(link).is_ok_and(|text| text == digest.to_string())
        })
    }
}

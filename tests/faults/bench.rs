//! A small image set between two registries, and a run of the engine over it with whatever stands between.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, time::Duration};

use imagesetd::{
    copy::{Engine, Event, Larder, Limits, Stock, Uploads},
    model::{
        desired::{Kind, Wanted},
        image::{Digest, Repository},
        manifest::Manifest,
        plan::Step,
    },
    registry::{Access, Client, Options, Timeouts},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    fixture::{
        image::Image,
        place::write_distribution_storage,
        set::{self, Set},
    },
    support::registry::Registry,
};

/// How long clients of these tests bear silence: far longer than a registry on this machine is silent, far shorter than a person is.
pub(crate) const IDLE: Duration = Duration::from_secs(2);

/// After so long a run hangs, whatever it waits for.
pub(crate) const HANGS: Duration = Duration::from_secs(120);

/// An upstream with a set, to be used by any number of runs.
pub(crate) struct Upstream {
    pub(crate) registry: Registry,
    pub(crate) set: Set,
}

impl Upstream {
    pub(crate) fn of(set: Set) -> Self {
        let registry = Registry::debian();
        write_distribution_storage(&registry.storage(), &set.placed()).unwrap();
        Upstream { registry, set }
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) done: usize,
    pub(crate) failed: Vec<String>,
}

/// Nothing is at hand.
struct Nothing;

impl Larder for Nothing {
    fn manifest(&self, _: &Digest) -> Option<Arc<Manifest>> {
        None
    }

    fn blob(&self, _: &Digest) -> Option<PathBuf> {
        None
    }

    fn wanted(&self, _: &Step) -> bool {
        true
    }
}

pub(crate) fn client() -> Client {
    let options = Options {
        default_access: Access::plain_http(),
        retries: 3,
        timeouts: Timeouts {
            connect: IDLE,
            idle: IDLE,
            commit: IDLE,
        },
        ..Options::default()
    };
    Client::new(options).unwrap()
}

/// Copies the set from one address to another.
pub(crate) async fn run(set: &Set, from: &str, to: &str, stock: Stock) -> Ended {
    let engine = Engine {
        source: client(),
        mirror: client(),
        larder: Arc::new(Nothing),
        uploads: Uploads::default(),
        limits: Limits {
            images: 4,
            blobs: 4,
            retries: 2,
            stall: HANGS / 2,
        },
        stop: CancellationToken::new(),
        abandon: CancellationToken::new(),
    };
    let steps = set
        .0
        .iter()
        .map(|(name, image)| step(name, image, from, to));
    let (events, mut inbox) = mpsc::channel(64);
    let work = engine.run(steps.collect(), stock, events);
    let listen = async {
        let mut ended = Ended {
            done: 0,
            failed: Vec::new(),
        };
        while let Some(event) = inbox.recv().await {
            match event {
                Event::Done(_) => ended.done += 1,
                Event::Failed(_, failed) => ended.failed.push(failed.cause),
                _ => {}
            }
        }
        ended
    };
    let both = async { tokio::join!(work, listen).1 };
    tokio::time::timeout(HANGS, both)
        .await
        .expect("the run hangs")
}

fn step(name: &str, image: &Image, from: &str, to: &str) -> Step {
    Step {
        image: Wanted {
            target: repository(to, name),
            tag: set::TAG.parse().unwrap(),
            kind: Kind::Additional,
            source: repository(from, name),
            asked_tag: Some(set::TAG.parse().unwrap()),
            digest: image.digest().clone(),
            platforms: vec![],
            unit: name.to_owned(),
            entry: name.to_owned(),
        },
        bytes: 0,
        bytes_kept: 0,
        blobs: 0,
        image_held: false,
        attached: vec![],
    }
}

pub(crate) fn repository(host: &str, path: &str) -> Repository {
    Repository::new(host.parse().unwrap(), path).unwrap()
}

/// Checks that nothing in a registry is other than its name says, and that a tag names what it should; returns which of the set's
/// images it has, every byte of them.
pub(crate) fn held(registry: &Registry, set: &Set) -> BTreeSet<String> {
    let root = registry.storage().join("docker/registry/v2");
    for folder in folders(&root.join("blobs/sha256"))
        .iter()
        .flat_map(|f| folders(f))
    {
        // A crash of Distribution in the middle of a commit may leave an empty folder.
        let Ok(bytes) = fs::read(folder.join("data")) else {
            continue;
        };
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(
            Digest::of(&bytes).hex(),
            name,
            "wrong content in the mirror"
        );
    }
    let mut whole = BTreeSet::new();
    for (name, image) in &set.0 {
        let repository = root.join("repositories").join(name);
        let tag = repository.join(format!("_manifests/tags/{}/current/link", set::TAG));
        let Ok(named) = fs::read_to_string(tag) else {
            continue;
        };
        assert_eq!(named, image.digest().to_string(), "the tag of {name}");
        let has = |kind: &str, digest: &Digest| {
            let hex = digest.hex();
            let link = repository.join(kind).join("sha256").join(&hex).join("link");
            let data = root
                .join("blobs/sha256")
                .join(&hex[..2])
                .join(&hex)
                .join("data");
            link.exists() && data.exists()
        };
        for blob in image.all_blobs().into_keys() {
            assert!(has("_layers", blob), "{name} is tagged and lacks {blob}");
        }
        for part in image.manifests() {
            assert!(
                has("_manifests/revisions", part.digest()),
                "{name} lacks a child"
            );
        }
        whole.insert(name.clone());
    }
    whole
}

fn folders(path: &std::path::Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).collect()
}

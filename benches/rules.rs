//! The rules that every round goes through, over large image sets where nothing changed, and the digest of what is copied.
//!
//! `cargo bench --bench rules`. Linear in the number of images: compare the throughputs, not the times.

#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on says so by ending"
)]

use std::{
    collections::{BTreeMap, HashSet},
    hint::black_box,
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use imagesetd::{
    cluster::{self, Purpose, Served, Unit},
    model::{
        desired::{self, Desired},
        facts::{Built, Facts},
        image::{Digest, Hasher},
        imageset::{self, ImageSet, SourceFile},
        mirrored::{Landed, Mirrored, Position},
        plan::{self, Basis},
        policy::{ApplyMode, MirrorScope, OnRefresh, Policy},
    },
};

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

/// An image set of `count` images by digest, as a file.
fn text(count: usize) -> String {
    let head = "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  additionalImages:\n";
    let images = (0..count).map(|n| {
        let digest = Digest::of(n.to_string().as_bytes());
        format!("  - name: quay.io/team{}/app{n}@{digest}\n", n % 100)
    });
    head.to_owned() + &images.collect::<String>()
}

fn read(text: &str) -> ImageSet {
    let file = SourceFile {
        path: "set.yaml".into(),
        name: "set.yaml".into(),
        bytes: text.as_bytes().to_vec(),
    };
    let found = imageset::read(&[file]).image_sets.remove(0);
    found.image_set.unwrap()
}

fn policy() -> Policy {
    Policy {
        target: "registry.lan/mirror".parse().unwrap(),
        apply: ApplyMode::Automatic,
        on_refresh: OnRefresh::Apply,
        refresh: Duration::from_secs(3600),
        max_bytes: None,
        mirror_scope: MirrorScope::Namespace,
        ignore_release_signatures: false,
        conditional_updates: false,
        copy_signatures: false,
        signatures_refresh: Duration::from_secs(24 * 3600),
        catalog_reference: Default::default(),
        catalog_poll: Duration::from_secs(1800),
    }
}

fn wanted(set: &ImageSet) -> Desired {
    match desired::build(set, &policy(), &Facts::default()) {
        Built::Whole(desired) => desired,
        Built::Missing(needs) => panic!("{needs:?}"),
    }
}

/// A mirror that holds everything.
fn mirrored(desired: &Desired) -> Mirrored {
    let mut mirrored = Mirrored::default();
    for image in &desired.images {
        mirrored.apply(&Landed::Manifest {
            repository: image.target.clone(),
            digest: image.digest.clone(),
            complete: true,
        });
        mirrored.apply(&Landed::Tag(
            image.target.clone(),
            image.tag.clone(),
            image.digest.clone(),
        ));
    }
    mirrored
}

fn planning(c: &mut Criterion) {
    let mut group = c.benchmark_group("a plan where nothing changed");
    group.sample_size(10);
    for size in SIZES {
        let set = read(&text(size));
        let mirrored = mirrored(&wanted(&set));
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                let desired = wanted(&set);
                let kept = HashSet::new();
                let pins = BTreeMap::new();
                let basis = Basis {
                    set: &set,
                    revision: "main@sha1:0",
                    base: Position {
                        lineage: String::new(),
                        serial: 0,
                    },
                    before: &desired.images,
                    dropped: &[],
                    pins: &pins,
                    committed: false,
                    kept: &kept,
                };
                match plan::build(&basis, &desired, &mirrored, &Facts::default()) {
                    Built::Whole(plan) => assert!(plan.is_empty()),
                    Built::Missing(needs) => panic!("{needs:?}"),
                }
            });
        });
    }
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("reading an image set");
    group.sample_size(10);
    for size in [1_000, 10_000] {
        let text = text(size);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| read(black_box(&text)));
        });
    }
}

fn rendering(c: &mut Criterion) {
    let mut group = c.benchmark_group("rendering documents");
    group.sample_size(10);
    for size in SIZES {
        let set = read(&text(size));
        let units: Vec<Unit> = wanted(&set)
            .images
            .iter()
            .map(|image| Unit {
                set: set.name.clone(),
                purpose: Purpose::Additional,
                landed: true,
                images: vec![Served {
                    source: image.source.clone(),
                    by_digest: true,
                    by_tag: None,
                    target: image.target.clone(),
                }],
            })
            .collect();
        let options = cluster::Options {
            scopes: BTreeMap::from([(set.name.clone(), MirrorScope::Namespace)]),
            source_policies: vec![],
        };
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| cluster::render(black_box(&units), &[], &options));
        });
    }
}

fn digesting(c: &mut Criterion) {
    let mut group = c.benchmark_group("the digest of a blob");
    let piece = vec![7; 1 << 20];
    group.throughput(Throughput::Bytes(piece.len() as u64));
    group.bench_function("sha256", |b| {
        b.iter(|| {
            let mut hasher = Hasher::sha256();
            hasher.update(black_box(&piece));
            hasher.finish()
        });
    });
}

criterion_group!(benches, reading, planning, rendering, digesting);
criterion_main!(benches);

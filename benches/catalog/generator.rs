//! Makes a catalog of the size of redhat-operator-index from a seed: the same bytes on any machine.

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};
use fastrand::Rng;
use imagesetd::model::image::Digest;

/// How large a catalog is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// How many packages it has.
    pub(crate) packages: usize,
    /// How many bundles all of them have together.
    pub(crate) bundles: usize,
    /// How many bytes a bundle's document has, roughly.
    pub(crate) bundle: usize,
}

impl Size {
    /// 200 packages, 5,000 bundles, 310 MB.
    pub(crate) const REAL: Size = Size {
        packages: 200,
        bundles: 5_000,
        bundle: 62_000,
    };
}

/// The name of a package.
pub(crate) fn name(package: usize) -> String {
    format!("operator-{package:03}")
}

/// Returns the documents of a package.
pub(crate) fn package(size: Size, package: usize) -> String {
    let mut rng = Rng::with_seed(package as u64);
    let words = words();
    let name = name(package);
    let bundles = size.bundles / size.packages;
    let mut text = String::with_capacity(bundles * (size.bundle + 4096));
    let _ = writeln!(
        text,
        "{{\"schema\":\"olm.package\",\"name\":\"{name}\",\"defaultChannel\":\"stable\",\"icon\":{{\"base64data\":\"{}\",\"mediatype\":\"image/svg+xml\"}}}}",
        object(&mut rng, &words, 6_000)
    );
    for channel in ["stable", "candidate"] {
        let entries: Vec<String> = (0..bundles)
            .map(|n| match n {
                0 => format!("{{\"name\":\"{name}.v1.{n}.0\"}}"),
                _ => format!(
                    "{{\"name\":\"{name}.v1.{n}.0\",\"replaces\":\"{name}.v1.{}.0\",\"skipRange\":\">=1.0.0 <1.{n}.0\"}}",
                    n - 1
                ),
            })
            .collect();
        let _ = writeln!(
            text,
            "{{\"schema\":\"olm.channel\",\"package\":\"{name}\",\"name\":\"{channel}\",\"entries\":[{}]}}",
            entries.join(",")
        );
    }
    for n in 0..bundles {
        bundle(&mut text, &mut rng, &words, &name, n, size.bundle);
    }
    text
}

fn bundle(text: &mut String, rng: &mut Rng, words: &[String], name: &str, n: usize, size: usize) {
    let image = |rng: &mut Rng, path: &str| {
        format!(
            "registry.example.com/{name}/{path}@{}",
            Digest::of(&rng.u128(..).to_le_bytes())
        )
    };
    let mut properties = vec![
        format!(
            "{{\"type\":\"olm.gvk\",\"value\":{{\"group\":\"{name}.example.com\",\"kind\":\"Thing\",\"version\":\"v1\"}}}}"
        ),
        format!(
            "{{\"type\":\"olm.package\",\"value\":{{\"packageName\":\"{name}\",\"version\":\"1.{n}.0\"}}}}"
        ),
    ];
    const OBJECTS: usize = 8;
    for _ in 0..OBJECTS {
        let data = object(rng, words, (size - 4_000) / OBJECTS);
        properties.push(format!(
            "{{\"type\":\"olm.bundle.object\",\"value\":{{\"data\":\"{data}\"}}}}"
        ));
    }
    let related: Vec<String> = (0..20)
        .map(|at| {
            format!(
                "{{\"name\":\"operand-{at}\",\"image\":\"{}\"}}",
                image(rng, &format!("operand-{at}"))
            )
        })
        .collect();
    let _ = writeln!(
        text,
        "{{\"schema\":\"olm.bundle\",\"name\":\"{name}.v1.{n}.0\",\"package\":\"{name}\",\"image\":\"{}\",\"properties\":[{}],\"relatedImages\":[{}]}}",
        image(rng, "bundle"),
        properties.join(","),
        related.join(",")
    );
}

/// A manifest of so many bytes once it is base64: words from a vocabulary, which compress as real manifests do.
fn object(rng: &mut Rng, words: &[String], size: usize) -> String {
    let mut manifest = String::with_capacity(size);
    while manifest.len() < size * 3 / 4 {
        manifest += &words[rng.usize(..words.len())];
        manifest.push(if rng.u8(0..4) == 0 { '\n' } else { ' ' });
    }
    STANDARD.encode(manifest)
}

fn words() -> Vec<String> {
    let mut rng = Rng::with_seed(1);
    (0..1_200)
        .map(|_| (0..rng.usize(3..12)).map(|_| rng.lowercase()).collect())
        .collect()
}

//! The registry client against Debian's `docker-registry`, and against a small server that misbehaves on purpose.

// A test's failure is a panic; clippy knows that of test functions, not of their helpers.
#![allow(clippy::unwrap_used)]

#[path = "registry/docker.rs"]
mod docker;

#[path = "registry/scripted.rs"]
mod scripted;

#[path = "registry/faults.rs"]
mod faults;

#[path = "registry/tokens.rs"]
mod tokens;

#[path = "registry/rotation.rs"]
mod rotation;

#[path = "registry/real.rs"]
mod real;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use imagesetd::{
    model::{
        image::{Digest, Repository},
        manifest::{Descriptor, Manifest, OCI_INDEX, OCI_MANIFEST},
    },
    registry::{Access, Begun, Client, Credentials, Error, Options, Places, Selector},
};

/// Options for a registry without TLS, which does not wait long for anything.
fn plain() -> Options {
    Options {
        default_access: Access::plain_http(),
        retries: 2,
        ..Options::default()
    }
}

fn client(options: Options) -> Client {
    Client::new(options).unwrap()
}

/// Credentials of one `auth.json`.
fn credentials(text: &str) -> Credentials {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth.json");
    std::fs::write(&file, text).unwrap();
    Credentials::load(&Places::new(Some(file), |_| None)).unwrap()
}

fn repository(host: &str, path: &str) -> Repository {
    Repository::new(host.parse().unwrap(), path).unwrap()
}

fn tag(text: &str) -> Selector {
    Selector::Tag(text.parse().unwrap())
}

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "application/octet-stream".to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
    }
}

fn json(descriptor: &Descriptor, media_type: &str) -> String {
    let Descriptor { digest, size, .. } = descriptor;
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

/// A manifest of `config` and `layers`.
fn manifest(config: &[u8], layers: &[&[u8]]) -> Manifest {
    let config = json(&blob(config), "application/vnd.oci.image.config.v1+json");
    let layers: Vec<_> = layers
        .iter()
        .map(|l| json(&blob(l), "application/vnd.oci.image.layer.v1.tar"))
        .collect();
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{config},"layers":[{}]}}"#,
        layers.join(",")
    );
    Manifest::parse(text.into(), None).unwrap()
}

/// An index of `children`.
fn index(children: &[&Manifest]) -> Manifest {
    let children: Vec<_> = children
        .iter()
        .map(|m| json(&blob(&m.raw), &m.media_type))
        .collect();
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#,
        children.join(",")
    );
    Manifest::parse(text.into(), None).unwrap()
}

/// A body in pieces of at most `size` bytes.
fn pieces(
    bytes: &[u8],
    size: usize,
) -> impl futures_util::Stream<Item = Result<Bytes, Error>> + 'static {
    let pieces: Vec<_> = bytes
        .chunks(size)
        .map(|c| Ok(Bytes::copy_from_slice(c)))
        .collect();
    stream::iter(pieces)
}

async fn push(client: &Client, repository: &Repository, bytes: &[u8]) {
    let Begun::Upload(upload) = client.begin_upload(repository, None).await.unwrap() else {
        panic!("nothing was to be mounted");
    };
    let body = pieces(bytes, 1000);
    client.upload(&upload, &blob(bytes), body).await.unwrap();
}

/// Reads a blob to its end: the bytes that were handed over, and the error that ended them.
async fn read(
    client: &Client,
    repository: &Repository,
    blob: &Descriptor,
) -> (Vec<u8>, Option<Error>) {
    let mut stream = match client.blob(repository, blob).await {
        Ok(stream) => stream,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

/// All that a person may get to see of an error.
fn shown(error: &Error) -> String {
    let mut text = format!("{error}\n{error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!("\n{cause}\n{cause:?}"));
        source = cause.source();
    }
    text
}

fn access(pairs: Vec<(String, Access)>) -> BTreeMap<imagesetd::model::image::Registry, Access> {
    pairs
        .into_iter()
        .map(|(host, access)| (host.parse().unwrap(), access))
        .collect()
}

//! Manifests: served as they came, taken when what they name is here.

use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderMap, Method, StatusCode, header};

use super::{Registry, body, empty, refusal::Refusal, with_header};
use crate::{
    layout::Key,
    model::{
        image::{Digest, Tag},
        manifest::{MAX_MANIFEST_BYTES, Manifest},
    },
};

/// Answers GET and HEAD. What the client accepts is not looked at: there is one form of a manifest, the one that was pushed.
pub(super) async fn get(
    registry: &Registry,
    name: String,
    key: Key,
    request: Request,
) -> Result<Response, Refusal> {
    let Some(entry) = registry.layout.find(&name, &key) else {
        return Err(match registry.layout.tags(&name) {
            None => Refusal::name_unknown(&name),
            Some(_) => Refusal::manifest_unknown(&name, &text(&key)),
        });
    };
    if held_by_client(request.headers(), &entry.digest) {
        return Ok(named(empty(StatusCode::NOT_MODIFIED), &entry.digest));
    }
    let (media_type, size, digest) = (entry.media_type.clone(), entry.size, entry.digest.clone());
    let body = if request.method() == Method::HEAD {
        Body::empty()
    } else {
        let read = registry.with_layout(move |layout| layout.read_manifest(&entry));
        // What does not hash to its name on our own disk is our fault, not the client's.
        Body::from(read.await.map_err(|_| damaged(&digest))?)
    };
    let response = with_header(Response::new(body), "content-type", media_type);
    let response = with_header(response, "content-length", size.to_string());
    Ok(named(response, &digest))
}

/// Answers PUT, by tag or by digest.
pub(super) async fn put(
    registry: &Registry,
    name: String,
    key: Key,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    body::check_announced(&parts.headers, MAX_MANIFEST_BYTES as u64)?;
    let raw = body::whole(body, MAX_MANIFEST_BYTES).await?;
    let served_as = parts.headers.get(header::CONTENT_TYPE);
    let served_as = served_as.and_then(|v| v.to_str().ok());
    let mut manifest = Manifest::parse(raw, served_as).map_err(Refusal::manifest_invalid)?;
    let tag = called(&mut manifest, key)?;
    let (digest, place) = (manifest.digest.clone(), name.clone());
    registry
        .with_layout(move |layout| layout.put_manifest(&name, &manifest, tag.as_ref()))
        .await?;
    let location = format!("/v2/{place}/manifests/{digest}");
    let response = with_header(empty(StatusCode::CREATED), "location", location);
    Ok(named(response, &digest))
}

/// Checks a manifest against the digest it is put under, which then names it; returns the tag where it is put under one.
fn called(manifest: &mut Manifest, key: Key) -> Result<Option<Tag>, Refusal> {
    match key {
        Key::Tag(tag) => Ok(Some(tag)),
        Key::Digest(wanted) if wanted.matches(&manifest.raw) => {
            manifest.digest = wanted;
            Ok(None)
        }
        Key::Digest(wanted) => Err(Refusal::digest_invalid(format!(
            "the manifest hashes to {}, not to {wanted}",
            manifest.digest
        ))),
    }
}

fn named(response: Response, digest: &Digest) -> Response {
    let response = with_header(response, "docker-content-digest", digest.to_string());
    with_header(response, "etag", format!("\"{digest}\""))
}

fn held_by_client(headers: &HeaderMap, digest: &Digest) -> bool {
    let value = headers.get(header::IF_NONE_MATCH);
    let tag = digest.to_string();
    value
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|t| t.trim().trim_matches('"') == tag))
}

fn damaged(digest: &Digest) -> Refusal {
    Refusal::internal(format!(
        "the manifest {digest} is damaged or gone; restore its blob, or push it again after removing the file"
    ))
}

fn text(key: &Key) -> String {
    match key {
        Key::Digest(digest) => digest.to_string(),
        Key::Tag(tag) => tag.to_string(),
    }
}

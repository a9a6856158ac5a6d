//! What a request's path asks for, by the OCI distribution spec.

use crate::model::image::{Digest, Tag, check_path};

use super::{super::Key, refusal::Refusal};

/// A path below `/v2`, its names checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(String),
    /// `/v2/<name>/manifests/<tag or digest>`
    Manifest(String, Key),
    /// `/v2/<name>/blobs/<digest>`
    Blob(String, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(String),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(String, String),
}

impl Route {
    /// Reads a request's path, as it came: a name that needs decoding is not a valid name.
    pub(super) fn parse(path: &str) -> Result<Self, Refusal> {
        let Some(rest) = path.strip_prefix("/v2") else {
            return Err(Refusal::not_found());
        };
        match rest {
            "" | "/" => return Ok(Route::Base),
            "/_catalog" => return Ok(Route::Catalog),
            _ => {}
        }
        let rest = rest.strip_prefix('/').ok_or_else(Refusal::not_found)?;
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Route::Tags(checked(name)?));
        }
        let (head, last) = rest.rsplit_once('/').ok_or_else(Refusal::not_found)?;
        if let Some(name) = head.strip_suffix("/manifests") {
            return Ok(Route::Manifest(checked(name)?, key(last)?));
        }
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            let name = checked(name)?;
            return Ok(match last {
                "" => Route::Uploads(name),
                id => Route::Upload(name, id.to_owned()),
            });
        }
        let name = head.strip_suffix("/blobs").ok_or_else(Refusal::not_found)?;
        let name = checked(name)?;
        match last {
            "uploads" => Ok(Route::Uploads(name)),
            digest => Ok(Route::Blob(name, self::digest(digest)?)),
        }
    }
}

/// Reads a digest from outside.
pub(super) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(Refusal::digest_invalid)
}

fn checked(name: &str) -> Result<String, Refusal> {
    check_path(name).map_err(Refusal::name_invalid)?;
    Ok(name.to_owned())
}

fn key(text: &str) -> Result<Key, Refusal> {
    if text.contains(':') {
        return Ok(Key::Digest(digest(text)?));
    }
    let tag: Tag = text.parse().map_err(Refusal::tag_invalid)?;
    Ok(Key::Tag(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Route, u16> {
        Route::parse(path).map_err(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn names_may_look_like_the_words_of_the_protocol() {
        let digest = Digest::of(b"x");
        let name = "blobs/uploads/manifests".to_owned();
        let tag = |text: &str| Key::Tag(text.parse().unwrap());
        assert_eq!(
            parse("/v2/blobs/uploads/manifests/manifests/list"),
            Ok(Route::Manifest(name.clone(), tag("list")))
        );
        assert_eq!(
            parse(&format!("/v2/blobs/uploads/manifests/blobs/{digest}")),
            Ok(Route::Blob(name.clone(), digest))
        );
        assert_eq!(
            parse("/v2/blobs/uploads/manifests/blobs/uploads/"),
            Ok(Route::Uploads(name.clone()))
        );
        assert_eq!(
            parse("/v2/blobs/uploads/manifests/tags/list"),
            Ok(Route::Tags(name))
        );
        assert_eq!(
            parse("/v2/a/blobs/uploads/0f"),
            Ok(Route::Upload("a".to_owned(), "0f".to_owned()))
        );
    }

    #[test]
    fn paths_that_escape_are_refused() {
        for path in [
            "/v2/../../etc/blobs/uploads/",
            "/v2/%2e%2e/manifests/v1",
            "/v2/a/../b/tags/list",
            "/v2/a//b/manifests/v1",
            "/v2/A/manifests/v1",
            "/v2/a/manifests/..",
            "/v2/a/manifests/.hidden",
            "/v2/a/blobs/sha256:../../etc/passwd",
            "/v2/a/blobs/sha256:00",
            "/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e",
        ] {
            assert!(matches!(parse(path), Err(400 | 404)), "{path}");
        }
        for path in ["/", "/v1/", "/v2x", "/v2/x", "/etc/passwd"] {
            assert_eq!(parse(path), Err(404), "{path}");
        }
    }
}

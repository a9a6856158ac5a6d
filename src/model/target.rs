//! Where an image lands in the mirror, below the prefix of the target: the names that oc-mirror v2 uses, so that what it mirrored is
//! recognised.

use super::{
    image::{Digest, Tag},
    imageset::AdditionalImage,
};

/// Returns the repository path and the tag of a single image.
///
/// The path is `targetRepo`, else the source's. The tag is `targetTag`, else the source's, else made of its digest
/// ([`digest_tag`]). An image set's images have a tag or a digest; without either the tag is `latest`.
pub fn additional_path_and_tag(image: &AdditionalImage) -> (String, Tag) {
    let source = &image.image;
    let path = match &image.target_repo {
        Some(path) => path.clone(),
        None => source.repository.path().to_owned(),
    };
    let tag = image
        .target_tag
        .clone()
        .or_else(|| source.tag.clone())
        .or_else(|| source.digest.as_ref().map(digest_tag))
        .unwrap_or_else(|| tag("latest"));
    (path, tag)
}

/// Returns the tag under which oc-mirror keeps an image that is named by its digest: `sha256-<hex>`, cut to 127 characters where
/// it is longer than a tag may be.
pub fn digest_tag(digest: &Digest) -> Tag {
    let text = format!("{}-{}", digest.algorithm(), digest.hex());
    tag(if text.len() > 128 {
        &text[..127]
    } else {
        &text
    })
}

/// A text that is a tag by its making.
fn tag(text: &str) -> Tag {
    text.parse()
        .expect("letters, digits and dashes within the length are a tag")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363";

    fn landing(image: &str, repo: Option<&str>, tag: Option<&str>) -> String {
        let (path, tag) = additional_path_and_tag(&AdditionalImage {
            image: image.parse().unwrap(),
            target_repo: repo.map(str::to_owned),
            target_tag: tag.map(|tag| tag.parse().unwrap()),
            platforms: Vec::new(),
        });
        format!("{path}:{tag}")
    }

    #[test]
    fn images_keep_their_path_and_tag_unless_told_otherwise() {
        assert_eq!(landing("quay.io/a/b:v1", None, None), "a/b:v1");
        assert_eq!(landing("docker.io/redis:7", None, None), "library/redis:7");
        assert_eq!(landing("quay.io/a/b:v1", Some("x/y"), None), "x/y:v1");
        assert_eq!(landing("quay.io/a/b:v1", None, Some("w")), "a/b:w");
        assert_eq!(landing("quay.io/a/b", None, None), "a/b:latest");
    }

    #[test]
    fn digests_become_tags_where_there_is_none() {
        let pinned = format!("quay.io/a/b@sha256:{HEX}");
        assert_eq!(landing(&pinned, None, None), format!("a/b:sha256-{HEX}"));
        let both = format!("quay.io/a/b:v1@sha256:{HEX}");
        assert_eq!(landing(&both, None, None), "a/b:v1");
        let long = format!("quay.io/a/b@sha512:{HEX}{HEX}");
        let tag = format!("sha512-{HEX}{HEX}");
        assert_eq!(landing(&long, None, None), format!("a/b:{}", &tag[..127]));
    }
}

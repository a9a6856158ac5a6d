//! The catalogs of an image set as one question, and what it is answered with.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use serde::{Deserialize, Serialize};

use super::select::Selected;
use crate::model::{image::Digest, imageset::Operator};

/// The version of the rules: what was found by others is found anew.
const RULES: u32 = 2;

/// The catalogs of an image set, and what is wanted of them. One question, since bundles of one may require bundles of another.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What the answer is known by: the same catalogs, the same wishes.
    pub key: Digest,
    /// What is wanted, whatever the catalogs are now.
    pub filters: Digest,
    /// In the order written.
    pub catalogs: Vec<Wished>,
}

/// A catalog, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wished {
    /// What the image set says.
    pub operator: Operator,
    /// What its image is now; nothing where that could not be found out.
    pub digest: Option<Digest>,
}

impl Wish {
    /// Asks about catalogs.
    pub fn new(catalogs: Vec<Wished>) -> Self {
        let plain = |wished: &Wished| Wished {
            // Where a catalog lands is none of the filter's business.
            operator: Operator {
                target_catalog: None,
                target_tag: None,
                target_catalog_source_template: None,
                ..wished.operator.clone()
            },
            digest: wished.digest.clone(),
        };
        let plain: Vec<Wished> = catalogs.iter().map(plain).collect();
        let filters: Vec<&Operator> = plain.iter().map(|wished| &wished.operator).collect();
        let digest = |value: Result<Vec<u8>, _>| Digest::of(&value.unwrap_or_default());
        Wish {
            key: digest(serde_json::to_vec(&(RULES, &plain))),
            filters: digest(serde_json::to_vec(&filters)),
            catalogs,
        }
    }
}

impl PartialEq for Wish {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Wish {}

impl PartialOrd for Wish {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Wish {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl Hash for Wish {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// What is kept of a catalog, with the images that clusters pull for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filtered {
    /// Packages, channels, bundles.
    pub selected: Selected,
    /// The images of the bundles, each once.
    pub images: Vec<BundleImage>,
    /// The image that was built of it; nothing where the original is wanted as it is.
    pub built: Option<Built>,
}

/// An image that a bundle names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleImage {
    /// The image as written.
    pub image: String,
    /// The first bundle that names it.
    pub bundle: String,
}

/// An image that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// Its manifest, or the index of its platforms.
    pub digest: Digest,
    /// The manifests that no registry has yet, with that one.
    pub manifests: Vec<Digest>,
    /// The blobs that no registry has yet.
    pub blobs: Vec<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_catalog_lands_does_not_change_what_is_kept_of_it() {
        let operator = |catalog: &str, target: Option<&str>, full| Operator {
            catalog: catalog.into(),
            full,
            target_catalog: target.map(str::to_owned),
            target_tag: None,
            target_catalog_source_template: None,
            skip_dependencies: false,
            platforms: vec![],
            packages: vec![],
        };
        let wish = |operator: Operator, digest: &[u8]| {
            Wish::new(vec![Wished {
                operator,
                digest: Some(Digest::of(digest)),
            }])
        };
        let one = wish(operator("r.io/x:1", None, false), b"1");
        assert_eq!(one, wish(operator("r.io/x:1", Some("y"), false), b"1"));
        assert_ne!(one, wish(operator("r.io/x:1", None, true), b"1"));
        assert_ne!(one, wish(operator("r.io/x:1", None, false), b"2"));
        assert_ne!(one, wish(operator("r.io/y:1", None, false), b"1"));
        let moved = wish(operator("r.io/x:1", None, false), b"2");
        assert_eq!(one.filters, moved.filters);
        let whole = wish(operator("r.io/x:1", None, true), b"1");
        assert_ne!(one.filters, whole.filters);
    }
}

//! Names of cluster objects, made from names of image sets.

use crate::{
    cluster::Purpose,
    model::{image::Digest, imageset::SetName},
};

/// With a hash (7) and the longest purpose (11) the whole name is a DNS label of at most 63.
const MAX_LABEL: usize = 45;

/// Returns the object name for an image set and a purpose: a DNS label of at most 63 characters.
///
/// Two image sets never share one: either the label is the set's name itself, or it ends in the hash of that name. (A name that
/// ends in what could be such a hash gets its own hash too.)
pub fn object(set: &SetName, purpose: Purpose) -> String {
    format!("{}-{purpose}", stem(set))
}

/// Returns the part of object names that says which image set they are of.
pub fn stem(set: &SetName) -> String {
    let label = label(&set.0);
    if !label.is_empty() && label == set.0 && !ends_like_hash(&label) {
        return label;
    }
    let hash = &Digest::of(set.0.as_bytes()).hex()[..6];
    if label.is_empty() {
        format!("set-{hash}")
    } else {
        format!("{label}-{hash}")
    }
}

/// Returns the nearest DNS label, at most [`MAX_LABEL`] long; empty where no character fits one.
fn label(text: &str) -> String {
    let mapped: String = text
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => c,
            _ => '-',
        })
        .collect();
    let trimmed = mapped.trim_matches('-');
    let cut = &trimmed[..trimmed.len().min(MAX_LABEL)];
    cut.trim_end_matches('-').to_owned()
}

fn ends_like_hash(label: &str) -> bool {
    label
        .rsplit_once('-')
        .is_some_and(|(_, end)| end.len() == 6 && end.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn set(name: &str) -> SetName {
        SetName(name.into())
    }

    #[test]
    fn a_name_that_is_a_label_stays_as_it_is() {
        assert_eq!(
            object(&set("ocp-4-16"), Purpose::Release),
            "ocp-4-16-release"
        );
    }

    #[test]
    fn what_a_label_loses_is_told_apart_by_a_hash() {
        assert_eq!(stem(&set("prod/ocp-4.16")), "prod-ocp-4-16-c9c470");
        assert!(stem(&set("OCP")).starts_with("ocp-"));
        assert!(stem(&set("日本")).starts_with("set-"));
        assert_ne!(stem(&set("日本")), stem(&set("中国")));
    }

    #[test]
    fn a_name_that_looks_like_another_ones_hash_does_not_meet_it() {
        let lossy = stem(&set("Prod"));
        assert_ne!(stem(&set(&lossy)), lossy);
    }

    proptest! {
        #[test]
        fn names_are_short_labels_and_never_shared(names in prop::collection::btree_set("[aAbB./#_é-]{0,4}|[a-z/.-]{40,80}", 1..60)) {
            let mut seen = BTreeMap::new();
            for name in names {
                for purpose in Purpose::ALL {
                    let object = object(&set(&name), purpose);
                    prop_assert!(object.len() <= 63);
                    prop_assert!(object.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
                    prop_assert!(!object.starts_with('-') && !object.ends_with('-'));
                    let other = seen.insert(object.clone(), name.clone());
                    prop_assert_eq!(other, None, "{}", object);
                }
            }
        }
    }
}

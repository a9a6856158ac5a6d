//! What a plan says of catalogs: what the heads of their channels become, and what is kept since something else requires it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The head of a channel that becomes another. What was not there before, or is not there any more, is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeadChange {
    /// The catalog as written.
    pub catalog: String,
    /// The package.
    pub package: String,
    /// The channel.
    pub channel: String,
    /// The bundle that was its head when a plan was last applied.
    pub from: String,
    /// The bundle that is now.
    pub to: String,
}

/// A bundle that is kept since another cannot be installed without it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pulled {
    /// The catalog as written.
    pub catalog: String,
    /// The package.
    pub package: String,
    /// The bundle.
    pub bundle: String,
    /// The bundle that requires it.
    pub by: String,
    /// What that requires.
    pub requires: String,
}

/// Returns what the head of a channel is remembered by.
pub fn pin(catalog: &str, package: &str, channel: &str) -> String {
    format!("catalog {catalog}, package {package}, channel {channel}")
}

/// Whether something that is remembered is the head of a channel.
pub fn is_head(pin: &str) -> bool {
    parts(pin).is_some()
}

/// The catalog, the package and the channel.
fn parts(pin: &str) -> Option<(&str, &str, &str)> {
    let (catalog, rest) = pin.strip_prefix("catalog ")?.split_once(", package ")?;
    let (package, channel) = rest.split_once(", channel ")?;
    Some((catalog, package, channel))
}

/// Compares the heads that are remembered with those of now. Of a catalog that has none now nothing is said: it could not be had.
pub fn heads(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<HeadChange> {
    let known: BTreeSet<&str> = now
        .keys()
        .filter_map(|pin| parts(pin))
        .map(|p| p.0)
        .collect();
    let pins: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let change = |pin: &String| {
        let (catalog, package, channel) = parts(pin)?;
        let head = |pins: &BTreeMap<String, String>| pins.get(pin).cloned().unwrap_or_default();
        let (from, to) = (head(before), head(now));
        (from != to && known.contains(catalog)).then(|| HeadChange {
            catalog: catalog.to_owned(),
            package: package.to_owned(),
            channel: channel.to_owned(),
            from,
            to,
        })
    };
    pins.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(heads: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut pins = BTreeMap::from([("r.io/x:1".to_owned(), "sha256:1".to_owned())]);
        for (place, head) in heads {
            let parts: Vec<&str> = place.split(' ').collect();
            pins.insert(pin(parts[0], parts[1], parts[2]), (*head).to_owned());
        }
        pins
    }

    #[test]
    fn heads_are_told_where_they_change() {
        let before = pins(&[
            ("r.io/x:1 foo s", "foo.v1"),
            ("r.io/x:1 foo same", "foo.v1"),
            ("r.io/x:1 gone s", "gone.v1"),
            ("r.io/failed:1 bar s", "bar.v1"),
        ]);
        let now = pins(&[
            ("r.io/x:1 foo s", "foo.v2"),
            ("r.io/x:1 foo same", "foo.v1"),
            ("r.io/x:1 new s", "new.v1"),
        ]);
        let shown: Vec<String> = heads(&before, &now)
            .iter()
            .map(|c| {
                format!(
                    "{} {} {}: {} -> {}",
                    c.catalog, c.package, c.channel, c.from, c.to
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "r.io/x:1 foo s: foo.v1 -> foo.v2",
                "r.io/x:1 gone s: gone.v1 -> ",
                "r.io/x:1 new s:  -> new.v1",
            ]
        );
        assert!(is_head(&pin("oci:///x, y", "a", "b, channel c")));
        assert!(!is_head("channel stable-4.16 (amd64)") && !is_head("r.io/x:1"));
    }
}

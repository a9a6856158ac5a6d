//! What a catalog has, for who looks at it.

use serde::Serialize;

use super::{graph::Graph, pack::Package};

/// A package of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageSummary {
    /// Its name.
    pub name: String,
    /// Its default channel.
    pub default_channel: String,
    /// Its channels by name.
    pub channels: Vec<ChannelSummary>,
}

/// A channel of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelSummary {
    /// Its name.
    pub name: String,
    /// The bundle that a new installation gets; empty where OLM would refuse the channel.
    pub head: String,
    /// From the head down, then what is only skipped.
    pub bundles: Vec<BundleSummary>,
}

/// A bundle of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleSummary {
    /// Its name.
    pub name: String,
    /// Its version as written.
    pub version: String,
}

impl PackageSummary {
    /// Returns the head of the default channel.
    pub fn head(&self) -> &str {
        let default = self
            .channels
            .iter()
            .find(|c| c.name == self.default_channel);
        default.map_or("", |channel| channel.head.as_str())
    }
}

/// Says what a package has.
pub fn summary(package: &Package) -> PackageSummary {
    let channels = package.channels.iter().map(|channel| {
        let named = |name: &str| BundleSummary {
            name: name.to_owned(),
            version: (package.bundle(name))
                .map(|bundle| bundle.facts.version.clone())
                .unwrap_or_default(),
        };
        let (head, bundles) = match Graph::new(&channel.entries) {
            Ok(graph) => {
                let asides = (0..channel.entries.len()).filter(|at| !graph.is_link(*at));
                let order = graph.chain().iter().copied().chain(asides);
                let bundles: Vec<_> = order.map(|at| named(graph.name(at))).collect();
                (bundles[0].name.clone(), bundles)
            }
            Err(_) => {
                let entries = channel.entries.iter();
                (String::new(), entries.map(|e| named(&e.name)).collect())
            }
        };
        ChannelSummary {
            name: channel.name.clone(),
            head,
            bundles,
        }
    });
    PackageSummary {
        name: package.name.clone(),
        default_channel: package.default_channel().to_owned(),
        channels: channels.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalog::testing::{documents, package};

    #[test]
    fn a_package_is_told_from_its_heads_down() {
        let found = package(&documents(
            "foo",
            &[
                ("s", "1.0.0 2.0.0<1.0.0~1.5.0 1.5.0"),
                ("broken", "1.0.0 2.0.0"),
            ],
        ));
        let found = summary(&found);
        assert_eq!((found.head(), &*found.default_channel), ("foo.v2.0.0", "s"));
        let shown: Vec<String> = found
            .channels
            .iter()
            .map(|c| {
                let versions: Vec<&str> = c.bundles.iter().map(|b| &*b.version).collect();
                format!("{} {}: {}", c.name, c.head, versions.join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            ["broken : 1.0.0 2.0.0", "s foo.v2.0.0: 2.0.0 1.0.0 1.5.0"]
        );
    }
}

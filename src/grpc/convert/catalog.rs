//! Operator catalogs: what they have, and what is kept of them.

use crate::{
    grpc::v1,
    model::catalog::{
        filter::Why,
        list::{ChannelSummary, PackageSummary},
        select::{SelectedBundle, SelectedPackage},
    },
    reconcile::Looked,
};

/// Returns what a catalog has; bundles are left out where all packages were asked for.
pub fn listed(packages: &[PackageSummary], with_bundles: bool) -> v1::ListCatalogResponse {
    let channel = |channel: &ChannelSummary| v1::CatalogChannel {
        name: channel.name.clone(),
        head: channel.head.clone(),
        bundle_count: channel.bundles.len() as u64,
        bundles: match with_bundles {
            false => Vec::new(),
            true => (channel.bundles.iter())
                .map(|bundle| v1::CatalogBundle {
                    name: bundle.name.clone(),
                    version: bundle.version.clone(),
                })
                .collect(),
        },
    };
    let packages = packages.iter().map(|package| v1::CatalogPackage {
        name: package.name.clone(),
        default_channel: package.default_channel.clone(),
        channels: package.channels.iter().map(channel).collect(),
    });
    v1::ListCatalogResponse {
        packages: packages.collect(),
    }
}

/// Returns what is kept of a catalog.
pub fn filtered(looked: &Looked) -> v1::FilteredCatalog {
    let selected = &looked.selected;
    let packages = selected.packages.iter();
    let mut problems: Vec<v1::CatalogProblem> = (selected.problems.iter())
        .map(|(package, message)| problem(package, "", message))
        .collect();
    for (name, package) in &selected.packages {
        let stalled = package.stalled.iter();
        problems.extend(stalled.map(|(bundle, why)| problem(name, bundle, why)));
    }
    v1::FilteredCatalog {
        catalog: looked.operator.catalog.clone(),
        original: selected.original,
        packages: packages.map(|(name, kept)| package(name, kept)).collect(),
        problems,
        warnings: selected.warnings.clone(),
        unsatisfied: (selected.unsatisfied.iter())
            .map(|unsatisfied| v1::UnsatisfiedRequirement {
                package: unsatisfied.package.clone(),
                bundle: unsatisfied.bundle.clone(),
                requirement: unsatisfied.requires.clone(),
                reason: unsatisfied.reason.clone(),
            })
            .collect(),
    }
}

fn problem(package: &str, bundle: &str, message: &str) -> v1::CatalogProblem {
    v1::CatalogProblem {
        package: package.to_owned(),
        bundle: bundle.to_owned(),
        message: message.to_owned(),
    }
}

fn package(name: &str, kept: &SelectedPackage) -> v1::FilteredPackage {
    let channels = kept.channels.iter();
    v1::FilteredPackage {
        name: name.to_owned(),
        default_channel: kept.default_channel.clone(),
        channels: channels
            .map(|(name, channel)| v1::FilteredChannel {
                name: name.clone(),
                head: channel.head.clone(),
                bundles: channel.entries.iter().cloned().collect(),
            })
            .collect(),
        bundles: kept.bundles.iter().map(|(n, b)| bundle(n, b)).collect(),
    }
}

fn bundle(name: &str, kept: &SelectedBundle) -> v1::FilteredBundle {
    let (kept_for, required_by, requirement) = match &kept.why {
        Why::Head => (v1::KeptFor::Head, "", ""),
        Why::Range => (v1::KeptFor::Range, "", ""),
        Why::Full => (v1::KeptFor::Full, "", ""),
        Why::Between => (v1::KeptFor::Between, "", ""),
        Why::Dependency {
            bundle, requires, ..
        } => (v1::KeptFor::Dependency, bundle.as_str(), requires.as_str()),
    };
    v1::FilteredBundle {
        name: name.to_owned(),
        version: kept.version.clone(),
        kept_for: kept_for.into(),
        required_by: required_by.to_owned(),
        requirement: requirement.to_owned(),
    }
}

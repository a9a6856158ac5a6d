//! What entries of an image set are called in plans, written and read in one place: plans and records keep the names alone.

/// What a release is called.
pub(super) fn release(version: &semver::Version, arch: &str) -> String {
    format!("release {version} ({arch})")
}

/// Returns version and architecture of a release's name; what is asked for by its payload has no architecture, and the payload's
/// reference for a version.
pub fn version_of(release: &str) -> (&str, &str) {
    let text = release.strip_prefix("release ").unwrap_or(release);
    let (version, arch) = text.split_once(" (").unwrap_or((text, ""));
    (version, arch.trim_end_matches(')'))
}

/// What a catalog is called; its packages and bundles are called so and then by their own names.
pub(super) fn catalog(name: &str) -> String {
    format!("catalog {name}")
}

/// Whether this is the name of a catalog, or of a part of one.
pub fn is_of_catalog(name: &str) -> bool {
    name.starts_with("catalog ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (version, arch) in [("4.13.0", "amd64"), ("4.16.0-rc.1", "multi")] {
            let name = release(&version.parse().unwrap(), arch);
            assert_eq!(version_of(&name), (version, arch));
            assert!(!is_of_catalog(&name));
        }
        assert_eq!(
            version_of("release registry.lan/release:1"),
            ("registry.lan/release:1", "")
        );
        assert!(is_of_catalog(&catalog("r.io/c:1")));
    }
}

//! Where releases land in the mirror: the names that oc-mirror v2 gives, so that a mirror filled by it is recognised.

use std::collections::BTreeMap;

use semver::Version;

use super::plain;
use crate::model::{
    image::{Digest, NameError, Reference, Tag},
    imageset::ChannelType,
};

/// The repository of payload images, below the mirror's prefix.
pub const RELEASE_PATH: &str = "openshift/release-images";

/// The repository of what payloads name, below the mirror's prefix.
pub const COMPONENT_PATH: &str = "openshift/release";

/// What stands for the KubeVirt disk image in its tag, as if it were a component.
const KUBEVIRT: &str = "kube-virt-container";

const LONGEST_TAG: usize = 128;

/// Returns the tag of a payload that an update service named by digest: `4.17.9-x86_64`, `4.17.9-multi`.
///
/// oc-mirror takes the tag from the release's signature, which names the image as Red Hat published it; this is how Red Hat
/// forms those names. OKD publishes its releases without an architecture (`quay.io/okd/scos-release:4.19.0-okd-scos.0`), for
/// `amd64` is all there is; oc-mirror's default signature store has none of them, so no other convention stands against that.
/// Payloads of other architectures get theirs added, since one tag cannot name two. Build metadata is left out: `+` is not a
/// letter of tags.
pub fn release_tag(kind: ChannelType, version: &Version, arch: &str) -> Result<Tag, NameError> {
    let version = plain(version);
    match (kind, arch) {
        (ChannelType::Okd, "amd64") => version.to_string().parse(),
        _ => format!("{version}-{}", machine(arch)).parse(),
    }
}

/// Returns the tags by which a version may have been published, which its signature names: with the machine's name or, as the
/// first releases of OpenShift and those of OKD, without.
pub fn published_tags(version: &Version, arch: &str) -> Vec<Tag> {
    let version = plain(version);
    let with_machine = format!("{version}-{}", machine(arch));
    [with_machine, version.to_string()]
        .iter()
        .filter_map(|tag| tag.parse().ok())
        .collect()
}

/// Returns the tag of a payload that `platform.release` names: its own tag, or the bare hexadecimal digits of its digest;
/// nothing where the reference has neither.
///
/// That is what oc-mirror does where it does not look at signatures; where it does, a signed digest gets the tag that the
/// signature names.
pub fn named_release_tag(release: &Reference) -> Option<Tag> {
    let digest = || release.digest.as_ref()?.hex().parse().ok();
    release.tag.clone().or_else(digest)
}

/// Returns the tag of a component: `4.17.9-x86_64-etcd`.
///
/// What is longer than a tag may be is cut, and told apart by a digest of the whole. oc-mirror fails there.
pub fn component_tag(release: &Tag, component: &str) -> Result<Tag, NameError> {
    let tag = format!("{release}-{component}");
    if tag.len() <= LONGEST_TAG {
        return tag.parse();
    }
    let mut digest = Digest::of(tag.as_bytes()).hex();
    digest.truncate(12);
    let kept: String = tag.chars().take(LONGEST_TAG - 1 - digest.len()).collect();
    format!("{kept}-{digest}").parse()
}

/// Returns the tags of a release's KubeVirt disk images by machine name (`x86_64`, `s390x`): with the machine's name where
/// there are several, without it where there is one.
pub fn kubevirt_tags<'a>(
    release: &Tag,
    machines: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, Tag>, NameError> {
    let machines: Vec<&str> = machines.into_iter().collect();
    let several = machines.len() > 1;
    let tag = |machine: &str| {
        let suffix = if several {
            format!("{KUBEVIRT}-{machine}")
        } else {
            KUBEVIRT.to_owned()
        };
        component_tag(release, &suffix)
    };
    machines
        .into_iter()
        .map(|machine| Ok((machine.to_owned(), tag(machine)?)))
        .collect()
}

/// Returns the machine name, as releases are named by, of an architecture in Go's words: `x86_64` of `amd64`.
pub fn machine(arch: &str) -> &str {
    match arch {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::release::fixture::v;

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    #[test]
    fn release_tag_is_the_published_one() {
        let ocp = |version, arch| release_tag(ChannelType::Ocp, &v(version), arch).unwrap();
        assert_eq!(ocp("4.17.9", "amd64"), tag("4.17.9-x86_64"));
        assert_eq!(ocp("4.17.9", "arm64"), tag("4.17.9-aarch64"));
        assert_eq!(ocp("4.17.9", "ppc64le"), tag("4.17.9-ppc64le"));
        assert_eq!(ocp("4.17.9", "s390x"), tag("4.17.9-s390x"));
        assert_eq!(ocp("4.18.0-rc.1", "multi"), tag("4.18.0-rc.1-multi"));
        assert_eq!(ocp("4.17.9+amd64", "amd64"), tag("4.17.9-x86_64"));
        let okd = |arch| release_tag(ChannelType::Okd, &v("4.19.0-okd-scos.0"), arch).unwrap();
        assert_eq!(okd("amd64"), tag("4.19.0-okd-scos.0"));
        assert_eq!(okd("arm64"), tag("4.19.0-okd-scos.0-aarch64"));
        assert!(release_tag(ChannelType::Ocp, &v("4.1.0"), "a/b").is_err());
    }

    #[test]
    fn a_version_is_published_with_its_machine_or_without() {
        let tags = |version, arch| published_tags(&v(version), arch);
        assert_eq!(
            tags("4.17.9+x", "arm64"),
            [tag("4.17.9-aarch64"), tag("4.17.9")]
        );
        assert_eq!(tags("4.1.0", "a/b"), [tag("4.1.0")]);
    }

    #[test]
    fn named_release_keeps_its_tag_or_shows_its_digest() {
        let named = |text: &str| named_release_tag(&text.parse().unwrap());
        let hex = "0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363";
        assert_eq!(named("q.io/o/r:4.15.0-x86_64"), Some(tag("4.15.0-x86_64")));
        assert_eq!(named(&format!("q.io/o/r@sha256:{hex}")), Some(tag(hex)));
        assert_eq!(named(&format!("q.io/o/r:t@sha256:{hex}")), Some(tag("t")));
        assert_eq!(named("q.io/o/r"), None);
        let long = named(&format!("q.io/o/r@sha512:{hex}{hex}")).unwrap();
        assert_eq!(long.as_str().len(), 128);
        assert_eq!(component_tag(&long, "etcd").unwrap().as_str().len(), 128);
    }

    #[test]
    fn component_tag_joins_release_and_name() {
        let release = tag("4.17.9-x86_64");
        assert_eq!(
            component_tag(&release, "agent-installer-api-server").unwrap(),
            tag("4.17.9-x86_64-agent-installer-api-server")
        );
        assert!(component_tag(&release, "a/b").is_err());
    }

    #[test]
    fn long_component_tags_are_cut_apart() {
        let release = tag("4.17.9-x86_64");
        let name = |last: &str| format!("{}{last}", "n".repeat(113));
        let (fits, a, b) = (name("a"), name("aa"), name("ab"));
        assert_eq!(
            component_tag(&release, &fits).unwrap().as_str(),
            format!("{release}-{fits}")
        );
        let (a, b) = (
            component_tag(&release, &a).unwrap(),
            component_tag(&release, &b).unwrap(),
        );
        assert_eq!((a.as_str().len(), b.as_str().len()), (128, 128));
        assert_ne!(a, b);
    }

    #[test]
    fn kubevirt_tags_name_the_machine_only_where_there_are_several() {
        let release = tag("4.15.0-x86_64");
        let tags = |machines: &[&str]| -> Vec<String> {
            let tags = kubevirt_tags(&release, machines.iter().copied()).unwrap();
            tags.into_iter().map(|(m, t)| format!("{m} {t}")).collect()
        };
        assert_eq!(
            tags(&["x86_64"]),
            ["x86_64 4.15.0-x86_64-kube-virt-container"]
        );
        assert_eq!(
            tags(&["x86_64", "s390x"]),
            [
                "s390x 4.15.0-x86_64-kube-virt-container-s390x",
                "x86_64 4.15.0-x86_64-kube-virt-container-x86_64"
            ]
        );
    }
}

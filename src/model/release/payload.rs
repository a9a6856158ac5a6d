//! What a release consists of, as the manifests in its payload image say.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde::{Deserialize, Serialize};

use super::{graph::list, plain, shown};
use crate::{
    model::image::{Reference, Tag},
    yaml::pluck,
};

/// The ImageStream that names the components.
pub const IMAGE_REFERENCES: &str = "release-manifests/image-references";

/// The release's own metadata.
pub const RELEASE_METADATA: &str = "release-manifests/release-metadata";

/// The ConfigMap that names boot images, the KubeVirt disk images among them.
pub const BOOT_IMAGES: &str = "release-manifests/0000_50_installer_coreos-bootimages.yaml";

/// The largest manifest of a payload that is read. The real ones have well below 1 MiB.
pub const MAX_FILE_BYTES: usize = 16 << 20;

const MAX_COMPONENTS: usize = 5_000;

/// Why a payload cannot be used at all, as a clause.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// A file is too large.
    #[error("its `{file}` has {bytes} bytes, more than the {MAX_FILE_BYTES} that are read")]
    TooLarge {
        /// The file.
        file: &'static str,
        /// How many bytes it has.
        bytes: usize,
    },
    /// A file is not JSON of the expected shape.
    #[error("its `{file}` cannot be read: {source}; it may not be a release image")]
    Json {
        /// The file.
        file: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The image-references are something else.
    #[error(
        "its `{IMAGE_REFERENCES}` is of kind `{0}`, not an ImageStream; it may not be a release image"
    )]
    Kind(String),
    /// No version is told.
    #[error("it says no version that can be read (`{0}`)")]
    Version(String),
}

/// The manifests of a payload that matter here, as they are in the image.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// See [`IMAGE_REFERENCES`].
    pub image_references: &'a [u8],
    /// See [`RELEASE_METADATA`].
    pub release_metadata: Option<&'a [u8]>,
    /// See [`BOOT_IMAGES`]; OKD and old releases have none.
    pub boot_images: Option<&'a [u8]>,
}

/// What a release consists of. It follows from the payload's digest, so it may be kept under that for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The version it says it is, without build metadata.
    pub version: Version,
    /// The components, by name.
    pub components: Vec<Component>,
    /// The components that cannot be mirrored, by name.
    pub unreadable: Vec<Unreadable>,
    /// The KubeVirt disk images by machine name (`x86_64`, `s390x`).
    pub kubevirt: BTreeMap<String, BootImage>,
    /// Why the boot images cannot be read, where they cannot; a clause. It matters only to those who want them.
    pub boot_images_unreadable: Option<String>,
}

/// An image that a release consists of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Component {
    /// The component's name (`agent-installer-api-server`), which can stand in a tag.
    pub name: String,
    /// The image, by digest. Several components may name the same.
    pub image: Reference,
}

/// A component that names no image one could pull by digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unreadable {
    /// The component's name, fit to be shown.
    pub name: String,
    /// What is wrong, as a clause.
    pub reason: String,
}

/// The KubeVirt disk image of one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootImage {
    /// The image, by digest.
    Image(Reference),
    /// Why there is none, as a clause.
    Unreadable(String),
}

impl Payload {
    /// Reads the manifests of a payload.
    ///
    /// A component or boot image that cannot be read fails itself only. The version is that of the release-metadata; without
    /// these the ImageStream's name, which `oc adm release new` sets to the version.
    pub fn parse(files: Files<'_>) -> Result<Self, PayloadError> {
        let stream: ImageStream = json(IMAGE_REFERENCES, files.image_references)?;
        if stream.kind != "ImageStream" {
            return Err(PayloadError::Kind(shown(&stream.kind)));
        }
        let version = match files.release_metadata {
            Some(bytes) => json::<Metadata>(RELEASE_METADATA, bytes)?.version,
            None => stream.metadata.name,
        };
        let version =
            Version::parse(&version).map_err(|_| PayloadError::Version(shown(&version)))?;
        let (components, unreadable) = components(stream.spec.tags);
        let (kubevirt, boot_images_unreadable) = match files.boot_images.map(boot_images) {
            None => (BTreeMap::new(), None),
            Some(Ok(images)) => (images, None),
            Some(Err(reason)) => (BTreeMap::new(), Some(reason)),
        };
        Ok(Payload {
            version: plain(&version),
            components,
            unreadable,
            kubevirt,
            boot_images_unreadable,
        })
    }
}

fn json<'a, T: Deserialize<'a>>(file: &'static str, bytes: &'a [u8]) -> Result<T, PayloadError> {
    if bytes.len() > MAX_FILE_BYTES {
        let bytes = bytes.len();
        return Err(PayloadError::TooLarge { file, bytes });
    }
    serde_json::from_slice(bytes).map_err(|source| PayloadError::Json { file, source })
}

fn components(tags: Vec<StreamTag>) -> (Vec<Component>, Vec<Unreadable>) {
    let mut components: BTreeMap<String, Reference> = BTreeMap::new();
    let mut unreadable = BTreeSet::new();
    for tag in tags {
        let read = component(&tag).and_then(|image| match components.get(&tag.name) {
            Some(other) if *other != image => Err(format!("it is both {other} and {image}")),
            _ => Ok(image),
        });
        match read {
            Ok(image) => {
                components.insert(tag.name, image);
            }
            Err(reason) => {
                unreadable.insert(Unreadable {
                    name: shown(&tag.name),
                    reason,
                });
            }
        }
    }
    // Of two images under one name neither is known to be meant.
    components.retain(|name, _| !unreadable.iter().any(|u| u.name == *name));
    let components = components.into_iter();
    (
        components
            .map(|(name, image)| Component { name, image })
            .collect(),
        unreadable.into_iter().collect(),
    )
}

fn component(tag: &StreamTag) -> Result<Reference, String> {
    // The name becomes the end of a tag, so it has to have a tag's letters; its first letter follows others there.
    if tag.name.is_empty() || format!("_{}", tag.name).parse::<Tag>().is_err() {
        return Err("its name does not fit into a tag".to_owned());
    }
    let from = tag.from.as_ref().ok_or("it names no image")?;
    if from.kind != "DockerImage" {
        return Err(format!(
            "it names a `{}`, not an image of a registry",
            shown(&from.kind)
        ));
    }
    by_digest(&from.name)
}

fn by_digest(name: &str) -> Result<Reference, String> {
    let image: Reference = name
        .parse()
        .map_err(|error| format!("its image cannot be read: {error}"))?;
    if image.digest.is_none() {
        return Err(format!("its image `{image}` is not named by digest"));
    }
    Ok(image)
}

/// Reads the KubeVirt disk images out of the ConfigMap; the error is a clause.
fn boot_images(bytes: &[u8]) -> Result<BTreeMap<String, BootImage>, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!(
            "its `{BOOT_IMAGES}` cannot be read: {}",
            shown(&error.to_string())
        )
    };
    if bytes.len() > MAX_FILE_BYTES {
        return Err(failed(&format!("it has {} bytes", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| failed(&error))?;
    let stream = pluck::text_at(text, &["data", "stream"]).map_err(|error| failed(&error))?;
    let stream: BootStream = serde_json::from_str(&stream).map_err(|error| failed(&error))?;
    let images = stream.architectures.into_iter();
    Ok(images
        .filter_map(|(machine, arch)| {
            let name = arch.images?.kubevirt?.digest_ref?;
            let image = by_digest(&name).map_or_else(BootImage::Unreadable, BootImage::Image);
            Some((shown(&machine), image))
        })
        .collect())
}

#[derive(Deserialize)]
struct ImageStream {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Named,
    spec: StreamSpec,
}

#[derive(Deserialize, Default)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct StreamSpec {
    #[serde(deserialize_with = "list::<_, _, MAX_COMPONENTS>")]
    tags: Vec<StreamTag>,
}

#[derive(Deserialize)]
struct StreamTag {
    name: String,
    from: Option<From>,
}

#[derive(Deserialize)]
struct From {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Metadata {
    version: String,
}

#[derive(Deserialize)]
struct BootStream {
    #[serde(default)]
    architectures: BTreeMap<String, BootArch>,
}

#[derive(Deserialize)]
struct BootArch {
    images: Option<BootFormats>,
}

#[derive(Deserialize)]
struct BootFormats {
    kubevirt: Option<KubeVirt>,
}

#[derive(Deserialize)]
struct KubeVirt {
    #[serde(rename = "digest-ref")]
    digest_ref: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::release::fixture::payload;

    fn tag(name: &str, kind: &str, image: &str) -> Value {
        json!({"name": name, "from": {"kind": kind, "name": image}, "annotations": {}})
    }

    fn stream(tags: &[Value]) -> Value {
        json!({"kind": "ImageStream", "metadata": {"name": "4.1.0"}, "spec": {"lookupPolicy": {}, "tags": tags}})
    }

    fn parse(stream: &Value, boot_images: Option<&str>) -> Result<Payload, PayloadError> {
        Payload::parse(Files {
            image_references: stream.to_string().as_bytes(),
            release_metadata: Some(br#"{"kind":"cincinnati-metadata-v0","version":"4.1.0+amd64"}"#),
            boot_images: boot_images.map(str::as_bytes),
        })
    }

    #[test]
    fn components_are_sorted_and_may_share_an_image() {
        let image = payload("x");
        let stream = stream(&[
            tag("b", "DockerImage", &image),
            tag("a", "DockerImage", &image),
            tag("a", "DockerImage", &image),
        ]);
        let component = |name: &str| Component {
            name: name.to_owned(),
            image: image.parse().unwrap(),
        };
        let payload = parse(&stream, None).unwrap();
        assert_eq!(payload.components, [component("a"), component("b")]);
        assert_eq!(payload.version, Version::new(4, 1, 0));
        let kept = serde_json::to_string(&payload).unwrap();
        assert_eq!(serde_json::from_str::<Payload>(&kept).unwrap(), payload);
    }

    #[test]
    fn component_that_cannot_be_read_fails_by_name_only() {
        let stream = stream(&[
            tag("good", "DockerImage", &payload("x")),
            tag("by-tag", "DockerImage", "quay.io/a/b:c"),
            tag("kind", "ImageStreamTag", "x:y"),
            tag("../up", "DockerImage", &payload("x")),
            tag("short", "DockerImage", "a@sha256:00"),
            tag("both", "DockerImage", &payload("x")),
            tag("both", "DockerImage", &payload("y")),
            json!({"name": "none", "from": null}),
        ]);
        let payload = parse(&stream, None).unwrap();
        let names = |list: &[Unreadable]| list.iter().map(|u| u.name.clone()).collect::<Vec<_>>();
        assert_eq!(payload.components.len(), 1);
        assert_eq!(
            names(&payload.unreadable),
            ["../up", "both", "by-tag", "kind", "none", "short"]
        );
        assert_eq!(
            payload.unreadable[2].reason,
            "its image `quay.io/a/b:c` is not named by digest"
        );
    }

    #[test]
    fn boot_images_fail_by_architecture_only() {
        let stream_json = json!({"architectures": {
            "x86_64": {"images": {"kubevirt": {"digest-ref": payload("k")}}},
            "s390x": {"images": {"kubevirt": {"digest-ref": "quay.io/a/b@sha256:s390x"}}},
            "aarch64": {"images": {}}, "ppc64le": {},
        }});
        let map =
            json!({"kind": "ConfigMap", "data": {"stream": stream_json.to_string()}}).to_string();
        let parsed = parse(&stream(&[]), Some(&map)).unwrap();
        assert_eq!(parsed.boot_images_unreadable, None);
        let machines: Vec<&String> = parsed.kubevirt.keys().collect();
        assert_eq!(machines, ["s390x", "x86_64"]);
        assert_eq!(
            parsed.kubevirt["x86_64"],
            BootImage::Image(payload("k").parse().unwrap())
        );
        let BootImage::Unreadable(reason) = &parsed.kubevirt["s390x"] else {
            panic!("it is not a digest");
        };
        assert!(
            reason.contains("`sha256:s390x` is not a digest"),
            "{reason}"
        );
    }

    #[test]
    fn broken_boot_images_do_not_fail_the_release() {
        for text in ["", "data: [", "data: {stream: '{'}", "a: &a [*a]", "\u{0}"] {
            let payload = parse(&stream(&[]), Some(text)).unwrap();
            assert!(payload.boot_images_unreadable.is_some(), "{text}");
            assert_eq!(payload.kubevirt, BTreeMap::new());
        }
    }

    #[test]
    fn what_is_no_payload_is_refused_with_the_file() {
        let error = |stream: Value| parse(&stream, None).unwrap_err().to_string();
        assert!(error(json!({"kind": "List", "spec": {"tags": []}})).contains("kind `List`"));
        assert!(error(json!({})).contains("`release-manifests/image-references` cannot be read"));
        let many = vec![tag("a", "DockerImage", "b"); MAX_COMPONENTS + 1];
        assert!(error(stream(&many)).contains("more than 5000 entries"));
        let large = vec![b' '; MAX_FILE_BYTES + 1];
        let files = Files {
            image_references: &large,
            release_metadata: None,
            boot_images: None,
        };
        assert!(matches!(
            Payload::parse(files),
            Err(PayloadError::TooLarge { .. })
        ));
    }

    #[test]
    fn stream_name_is_the_version_where_there_is_no_metadata() {
        let parse = |stream: Value| {
            Payload::parse(Files {
                image_references: stream.to_string().as_bytes(),
                release_metadata: None,
                boot_images: None,
            })
        };
        assert_eq!(parse(stream(&[])).unwrap().version, Version::new(4, 1, 0));
        let mut odd = stream(&[]);
        odd["metadata"]["name"] = json!("latest");
        assert_eq!(
            parse(odd).unwrap_err().to_string(),
            "it says no version that can be read (`latest`)"
        );
    }

    #[test]
    fn expanding_and_deep_boot_images_are_refused_soon() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..12 {
            let alias = format!("*a{}", i - 1);
            bomb += &format!("a{i}: &a{i} [{}]\n", vec![alias; 10].join(","));
        }
        let deep = format!("data: {}", "[".repeat(1 << 16));
        for text in [bomb, deep] {
            let payload = parse(&stream(&[]), Some(&text)).unwrap();
            assert!(payload.boot_images_unreadable.is_some());
        }
    }

    proptest::proptest! {
        #[test]
        fn broken_payloads_do_not_panic(at in 0_usize..1024, byte: u8) {
            let boot = json!({"data": {"stream": json!({"architectures": {"x86_64": {"images": {"kubevirt": {"digest-ref": payload("k")}}}}}).to_string()}});
            let parts = [stream(&[tag("a", "DockerImage", &payload("x"))]), json!({"version": "4.1.0"}), boot];
            for broken in 0..3 {
                let mut parts = parts.each_ref().map(|part| part.to_string().into_bytes());
                let at = at % parts[broken].len();
                parts[broken][at] = byte;
                let _ = Payload::parse(Files {
                    image_references: &parts[0],
                    release_metadata: Some(&parts[1]),
                    boot_images: Some(&parts[2]),
                });
            }
        }
    }
}

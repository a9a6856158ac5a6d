//! Asks skopeo what lies in a registry: the other tool's word for it.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Output, Stdio},
};

use super::{registry, tool};

/// An image as skopeo copies it to a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Every other file's bytes by name: blobs by the hex of their digest, children of an index by theirs and `.manifest.json`.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Returns the bytes of the manifest or index that `image` (`docker://...`) names.
pub fn inspect_raw(image: &str) -> Vec<u8> {
    succeed(&["inspect", "--raw", "--tls-verify=false", image])
}

/// Returns all bytes of `image` (`docker://...@sha256:...`), the children of an index included; skopeo verifies every digest.
pub fn copy_to_dir(image: &str) -> Copied {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("dir:{}", folder.path().display());
    copy(image, &target);
    let files = fs::read_dir(&folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    });
    let mut files: BTreeMap<String, Vec<u8>> =
        files.filter(|(name, _)| name != "version").collect();
    Copied {
        manifest: files.remove("manifest.json").unwrap(),
        files,
    }
}

/// Copies an image unchanged, the children of an index included.
pub fn copy(from: &str, to: &str) {
    succeed(&[
        "copy",
        "--all",
        "--preserve-digests",
        "--quiet",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        from,
        to,
    ]);
}

/// Runs skopeo without credentials, policy and mirrors of this machine.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(tool::find("skopeo"))
        .arg("--insecure-policy")
        .args(arguments)
        .env("CONTAINERS_REGISTRIES_CONF", "/dev/null")
        .env("REGISTRY_AUTH_FILE", "/nonexistent/auth.json")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The argument that has skopeo log in to a source that asks for a password.
pub fn credentials(option: &str) -> String {
    format!("{option}={}:{}", registry::USER, registry::PASSWORD)
}

fn succeed(arguments: &[&str]) -> Vec<u8> {
    let output = run(arguments);
    assert!(
        output.status.success(),
        "skopeo {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

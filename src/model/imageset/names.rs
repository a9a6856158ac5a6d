//! The words of an image set that name things: references, paths, versions, platforms.

use semver::Version;

use crate::{
    model::image::{NameError, Platform, Reference, check_path},
    yaml::{
        reader::{At, Fields},
        suggest::suggest,
    },
};

/// Reads a reference that says which content is meant: it has a tag, a digest or both.
pub(super) fn reference(at: &At<'_>) -> Option<Reference> {
    let text = at.text()?;
    match text.parse::<Reference>() {
        Ok(reference) if reference.tag.is_none() && reference.digest.is_none() => {
            at.error(
                format!("`{reference}` has neither a tag nor a digest"),
                format!("name one, for instance `{reference}:latest`"),
            );
            None
        }
        Ok(reference) => Some(reference),
        Err(NameError::Short(short, long)) => {
            at.error(
                format!("`{short}` does not say which registry it is in"),
                format!("write `{long}` if that is the one that is meant"),
            );
            None
        }
        Err(error) => {
            at.error(error.to_string(), "");
            None
        }
    }
}

/// Reads a repository path in the mirror.
pub(super) fn target_path(fields: &mut Fields<'_>, key: &'static str) -> Option<String> {
    let at = fields.get(key)?;
    let text = at.text().filter(|text| !text.is_empty())?;
    match check_path(&text) {
        Ok(()) => Some(text),
        Err(error) => {
            at.error(
                error.to_string(),
                "write the path below the mirror alone: no registry, no slash around it; a tag goes into `targetTag`",
            );
            None
        }
    }
}

/// Reads the version of a release, written out in full.
pub(super) fn release_version(at: &At<'_>) -> Option<Version> {
    let text = at.word().filter(|text| !text.is_empty())?;
    if let Ok(version) = Version::parse(&text) {
        return Some(version);
    }
    not_a_version(at, &text);
    None
}

/// Reads the version of an operator's bundle.
///
/// As in oc-mirror (Masterminds semver), a `v` before it is left out, and one that is cut short stands for all it begins: a lower bound
/// of `1.2` is `1.2.0`, an upper one is above every `1.2.x`.
pub(super) fn bundle_version(at: &At<'_>, upper: bool) -> Option<Version> {
    let text = at.word().filter(|text| !text.is_empty())?;
    if let Ok(version) = Version::parse(&text) {
        return Some(version);
    }
    let Some(version) = complete(&text, if upper { u64::MAX } else { 0 }) else {
        not_a_version(at, &text);
        return None;
    };
    let (meant, hint) = if version.patch == u64::MAX {
        (
            format!("every version that begins with `{text}`"),
            "write the highest version in full".to_owned(),
        )
    } else {
        (format!("`{version}`"), format!("write `{version}`"))
    };
    at.warn(
        format!("`{text}` is read as {meant}, as oc-mirror does"),
        hint,
    );
    Some(version)
}

/// Reports a text that is no version, with the one that was probably meant.
fn not_a_version(at: &At<'_>, text: &str) {
    let hint = complete(text, 0).map(|version| format!("write `{version}`"));
    at.error(
        format!(
            "`{}` is not a version: three numbers, as in `4.17.1`, are expected",
            crate::yaml::shorten(text)
        ),
        hint.unwrap_or_default(),
    );
}

/// Completes a version that lacks numbers at its end or has a `v` before it.
fn complete(text: &str, missing: u64) -> Option<Version> {
    let text = text.strip_prefix('v').unwrap_or(text);
    if let Ok(version) = Version::parse(text) {
        return Some(version);
    }
    let number = |part: &str| {
        let fits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| part.parse().ok()).flatten()
    };
    match text.split('.').collect::<Vec<_>>().as_slice() {
        [major] => Some(Version::new(number(major)?, missing, missing)),
        [major, minor] => Some(Version::new(number(major)?, number(minor)?, missing)),
        [major, minor, patch] => Some(Version::new(number(major)?, number(minor)?, number(patch)?)),
        _ => None,
    }
}

/// Reports a lower bound above the upper one.
pub(super) fn check_bounds(at: &At<'_>, min: Option<&Version>, max: Option<&Version>) {
    if let (Some(min), Some(max)) = (min, max)
        && min.cmp_precedence(max).is_gt()
    {
        at.error(
            format!("`minVersion` {min} is above `maxVersion` {max}"),
            "swap the two, or correct one of them",
        );
    }
}

/// The architectures that OpenShift is built for, in Go's words.
const ARCHITECTURES: [&str; 4] = ["amd64", "arm64", "ppc64le", "s390x"];

/// Other words for architectures.
const OTHER_WORDS: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

/// Reads `architectures`: what payloads are asked for.
pub(super) fn architectures(fields: &mut Fields<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for at in fields.list("architectures") {
        let names: Vec<&str> = ARCHITECTURES.into_iter().chain(["multi"]).collect();
        let Some(name) = architecture(&at, &names) else {
            continue;
        };
        if found.contains(&name) {
            at.warn(format!("`{name}` is named twice"), "remove one of the two");
        } else {
            found.push(name);
        }
    }
    found
}

/// Reads the name of an architecture.
fn architecture(at: &At<'_>, names: &[&str]) -> Option<String> {
    let text = at.text()?;
    if names.contains(&text.as_str()) {
        return Some(text);
    }
    let other = OTHER_WORDS
        .iter()
        .find(|(word, _)| text.eq_ignore_ascii_case(word));
    let hint = match other {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => suggest(&text, names),
    };
    let message = format!(
        "`{}` is not an architecture that is known here",
        crate::yaml::shorten(&text)
    );
    at.error(message, hint);
    None
}

/// Reads `platforms`: what is taken of a multi-platform image.
pub(super) fn platforms(fields: &mut Fields<'_>) -> Vec<Platform> {
    let mut found = Vec::new();
    for at in fields.list("platforms") {
        let Some(platform) = platform(&at) else {
            continue;
        };
        if found.contains(&platform) {
            at.warn(
                format!("`{platform}` is named twice"),
                "remove one of the two",
            );
        } else {
            found.push(platform);
        }
    }
    found
}

/// Reads an entry of `platforms`.
fn platform(at: &At<'_>) -> Option<Platform> {
    const SYSTEMS: [(&str, &str); 2] = [("linux", "linux"), ("windows", "windows")];
    const MORE: [&str; 4] = ["386", "arm", "riscv64", "loong64"];
    let mut fields = at.fields()?;
    let os = fields
        .required("os", "write `os: linux`")
        .and_then(|at| at.choice("an operating system that is known here", &SYSTEMS));
    let names: Vec<&str> = ARCHITECTURES.into_iter().chain(MORE).collect();
    let architecture = fields
        .required("architecture", "write for instance `architecture: amd64`")
        .and_then(|at| architecture(&at, &names));
    fields.finish();
    Some(Platform {
        os: os?.to_owned(),
        architecture: architecture?,
        variant: None,
    })
}

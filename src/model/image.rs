//! Names of images: registries, repositories, tags, digests, references, platforms.
//!
//! Parsed once, at the door; what holds one of these types holds a valid name. Grammar: the OCI distribution spec and, for
//! references, the grammar of containers/image with one difference: a short name (`redis:7`) is refused, since what it means
//! depends on the machine that reads it.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a name of an image, as a clause that ends a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text has no registry.
    #[error("`{0}` does not say which registry it is in; write it out, for instance `{1}`")]
    Short(String, String),
    /// The digest is of an unknown algorithm or length.
    #[error(
        "`{0}` is not a digest: `sha256:` and 64, or `sha512:` and 128, digits 0-9a-f are expected"
    )]
    Digest(String),
    /// The tag breaks the grammar.
    #[error(
        "`{0}` is not a tag: up to 128 letters, digits, `_`, `.` and `-` are expected, not beginning with `.` or `-`"
    )]
    Tag(String),
    /// The registry breaks the grammar.
    #[error("`{0}` is not a registry: `host` or `host:port` is expected")]
    Host(String),
    /// The path breaks the grammar.
    #[error(
        "`{0}` is not a repository path: lower case letters and digits, separated by `.`, `_`, `__`, `-` or `/`, are expected"
    )]
    Path(String),
    /// The text begins with a transport that is not a registry.
    #[error("`{0}` is not in a registry; only `docker://` and plain references are read here")]
    Transport(String),
    /// The platform is not `os/architecture[/variant]`.
    #[error("`{0}` is not a platform: `os/architecture`, for instance `linux/amd64`, is expected")]
    Platform(String),
}

/// The identity of a blob or manifest.
///
/// Sorts as its text does.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// `sha256:...`
    Sha256([u8; 32]),
    /// `sha512:...`
    Sha512(Box<[u8; 64]>),
}

impl Digest {
    /// Returns the name of the algorithm, as in the text before the colon.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Digest::Sha256(_) => "sha256",
            Digest::Sha512(_) => "sha512",
        }
    }

    /// Returns the hexadecimal text after the colon.
    pub fn hex(&self) -> String {
        match self {
            Digest::Sha256(bytes) => hex::encode(bytes),
            Digest::Sha512(bytes) => hex::encode(bytes.as_slice()),
        }
    }

    /// Returns the SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns a hasher of this digest's algorithm.
    pub fn hasher(&self) -> Hasher {
        match self {
            Digest::Sha256(_) => Hasher::sha256(),
            Digest::Sha512(_) => {
                Hasher(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA512))
            }
        }
    }

    /// Whether `bytes` are what this digest names.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish() == *self
    }
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub struct Hasher(aws_lc_rs::digest::Context);

impl Hasher {
    /// Begins a SHA-256.
    pub fn sha256() -> Self {
        Hasher(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        let digest = self.0.finish();
        match <[u8; 32]>::try_from(digest.as_ref()) {
            Ok(bytes) => Digest::Sha256(bytes),
            Err(_) => {
                let mut bytes = Box::new([0; 64]);
                bytes.copy_from_slice(digest.as_ref());
                Digest::Sha512(bytes)
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::Digest(shorten(text));
        let (algorithm, hex) = text.split_once(':').ok_or_else(bad)?;
        if hex.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad());
        }
        match algorithm {
            "sha256" => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(hex, &mut bytes).map_err(|_| bad())?;
                Ok(Digest::Sha256(bytes))
            }
            "sha512" => {
                let mut bytes = Box::new([0; 64]);
                hex::decode_to_slice(hex, bytes.as_mut_slice()).map_err(|_| bad())?;
                Ok(Digest::Sha512(bytes))
            }
            _ => Err(bad()),
        }
    }
}

/// A tag of a repository.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    /// Returns the tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut bytes = text.bytes();
        let begins = bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        if begins
            && text.len() <= 128
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        {
            Ok(Tag(text.into()))
        } else {
            Err(NameError::Tag(shorten(text)))
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A registry's `host[:port]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registry(Arc<str>);

impl Registry {
    /// Returns `host[:port]`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Registry {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::Host(shorten(text));
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or_else(bad)?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (
                    "",
                    if after.is_empty() {
                        None
                    } else {
                        Some(after.strip_prefix(':').ok_or_else(bad)?)
                    },
                )
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if let Some(port) = port
            && !port
                .parse::<u16>()
                .is_ok_and(|n| n > 0 && port.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(bad());
        }
        let label = |l: &str| {
            !l.is_empty()
                && l.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if text.starts_with('[') || (host.len() <= 253 && host.split('.').all(label)) {
            Ok(Registry(text.into()))
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A repository of a registry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: Registry,
    path: Arc<str>,
}

impl Repository {
    /// Joins a registry and a path, which is checked.
    pub fn new(registry: Registry, path: &str) -> Result<Self, NameError> {
        check_path(path)?;
        Ok(Repository {
            registry,
            path: path.into(),
        })
    }

    /// Returns the registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the path below the registry, without a leading slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Names the content of this repository by digest.
    pub fn at(&self, digest: Digest) -> Reference {
        Reference {
            repository: self.clone(),
            tag: None,
            digest: Some(digest),
        }
    }

    /// Names the content of this repository by tag.
    pub fn tagged(&self, tag: Tag) -> Reference {
        Reference {
            repository: self.clone(),
            tag: Some(tag),
            digest: None,
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Repository {
    type Err = NameError;

    /// Parses `host[:port]/path`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let reference: Reference = text.parse()?;
        match reference {
            Reference {
                repository,
                tag: None,
                digest: None,
            } => Ok(repository),
            _ => Err(NameError::Path(shorten(text))),
        }
    }
}

/// What a person writes to name an image: a repository, and a tag, a digest, both, or neither.
///
/// With both, the digest decides and the tag is a remark (as in containers/image).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Where the image is.
    pub repository: Repository,
    /// The tag, where one is written.
    pub tag: Option<Tag>,
    /// The digest, where one is written.
    pub digest: Option<Digest>,
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let rest = match text.split_once("://") {
            Some(("docker", rest)) => rest,
            Some(_) => return Err(NameError::Transport(shorten(text))),
            None => text,
        };
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (rest, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') && name.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path),
            _ => {
                let library = if name.contains('/') { "" } else { "library/" };
                return Err(NameError::Short(
                    shorten(text),
                    format!("docker.io/{library}{}", shorten(rest)),
                ));
            }
        };
        let registry: Registry = host.parse()?;
        let tag = tag.map(str::parse).transpose()?;
        // Docker Hub's one-word repositories are in its folder `library`: nodes ask for them by that name, and so do we.
        let repository = if host == "docker.io" && !path.contains('/') {
            Repository::new(registry, &format!("library/{path}"))?
        } else {
            Repository::new(registry, path)?
        };
        Ok(Reference {
            repository,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A platform of a multi-platform image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// The operating system, in Go's words (`linux`).
    pub os: String,
    /// The architecture, in Go's words (`amd64`, `arm64`, `ppc64le`, `s390x`).
    pub architecture: String,
    /// The variant, where one is told apart (`v7`).
    pub variant: Option<String>,
}

impl Platform {
    /// Whether an index entry for `offered` is what is asked for by `self`: a variant counts only where one is asked for.
    pub fn accepts(&self, offered: &Platform) -> bool {
        self.os == offered.os
            && self.architecture == offered.architecture
            && (self.variant.is_none() || self.variant == offered.variant)
    }
}

impl FromStr for Platform {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut parts = text.split('/').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None)
                if !os.is_empty() && !architecture.is_empty() && variant.as_deref() != Some("") =>
            {
                Ok(Platform {
                    os,
                    architecture,
                    variant,
                })
            }
            _ => Err(NameError::Platform(shorten(text))),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Reads and writes a name as its text, in documents and state alike.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(Digest, Tag, Registry, Repository, Reference, Platform);

/// Whether the first component of a name is a registry, by Docker's rule: it has a dot or a port, or is `localhost`.
fn is_host(component: &str) -> bool {
    component.contains(['.', ':']) || component == "localhost"
}

/// Checks a repository path (OCI distribution spec, "Pulling manifests", `<name>`).
pub fn check_path(path: &str) -> Result<(), NameError> {
    if !path.is_empty() && path.len() <= 255 && path.split('/').all(is_component) {
        Ok(())
    } else {
        Err(NameError::Path(shorten(path)))
    }
}

/// Whether a text is one component of a repository path: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    let separators_fit = text
        .split(|c: char| c.is_ascii() && word(c as u8))
        .filter(|s| !s.is_empty())
        .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
    word(first) && word(last) && separators_fit
}

/// Cuts a text that stands in a message, so that hostile input does not fill a screen.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363";

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn reference_keeps_port_tag_and_digest_apart() {
        let text = format!("reg.lan:5000/a/b:v1@sha256:{HEX}");
        let parsed = reference(&text);
        assert_eq!(parsed.repository.registry().as_str(), "reg.lan:5000");
        assert_eq!(parsed.repository.path(), "a/b");
        assert_eq!(parsed.tag.as_ref().map(Tag::as_str), Some("v1"));
        assert_eq!(parsed.to_string(), text);
        assert_eq!(reference("reg.lan:5000/a").tag, None);
        assert_eq!(
            reference("docker://[::1]:5000/a:t").to_string(),
            "[::1]:5000/a:t"
        );
    }

    #[test]
    fn docker_hub_words_are_in_library() {
        assert_eq!(
            reference("docker.io/redis:7").to_string(),
            "docker.io/library/redis:7"
        );
        assert_eq!(
            reference("docker.io/bitnami/redis:7").to_string(),
            "docker.io/bitnami/redis:7"
        );
    }

    #[test]
    fn short_names_are_refused_with_the_long_form() {
        let hint = |t: &str| t.parse::<Reference>().unwrap_err().to_string();
        assert!(hint("redis:7").contains("`docker.io/library/redis:7`"));
        assert!(hint("bitnami/redis:7").contains("`docker.io/bitnami/redis:7`"));
        assert!(hint("redis").contains("`docker.io/library/redis`"));
    }

    #[test]
    fn malformed_names_are_refused() {
        for text in [
            "",
            "a.b",
            "a.b/",
            "a.b/C",
            "a.b/c//d",
            "a.b/c:",
            "a.b/c:-x",
            "a.b/c@sha256:00",
            "a.b:0/c",
            "a.b:x/c",
            "oci://x/y",
            "a.b/../c",
            "a.b/c_",
            "a.b/c___d",
            "-a.b/c",
            "a..b/c",
            "[::1/c",
            "[zz]:1/c",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        for text in ["a.b/c--d/e.f_g__h:T_1.2-3", "localhost/x", "localhost:1/x"] {
            assert_eq!(reference(text).to_string(), text);
        }
    }

    #[test]
    fn digest_sorts_and_prints_as_text() {
        let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
        assert_eq!(digest.to_string(), format!("sha256:{HEX}"));
        assert!(
            format!("sha256:{}", HEX.to_uppercase())
                .parse::<Digest>()
                .is_err()
        );
        let long: Digest = format!("sha512:{HEX}{HEX}").parse().unwrap();
        assert!(digest < long);
        assert_eq!(long.to_string(), format!("sha512:{HEX}{HEX}"));
        assert!(Digest::of(b"").matches(b""));
        assert!(!long.matches(b""));
    }

    #[test]
    fn platform_accepts_any_variant_unless_one_is_asked_for() {
        let p = |t: &str| t.parse::<Platform>().unwrap();
        assert!(p("linux/arm").accepts(&p("linux/arm/v7")));
        assert!(!p("linux/arm/v6").accepts(&p("linux/arm/v7")));
        assert!("linux".parse::<Platform>().is_err());
    }
}

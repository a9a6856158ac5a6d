//! Fetches release signatures from their stores, and looks at each with the keys of its kind of releases.
//!
//! A store is a folder behind `https://`, `http://` or `file://` with `sha256=<hex>/signature-1`, `signature-2` and so on for each
//! digest. Numbers are asked for until one is missing. Whatever a store answers is bounded and counts for nothing by itself.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use http::StatusCode;
use jiff::Timestamp;
use reqwest::Client;
use url::Url;

use super::update_service::{self, Cause, Options, cause, is_certificate};
use crate::model::{
    facts::{self, Failure},
    image::{Digest, Repository},
    imageset::ChannelType,
    openpgp::{Keyring, KeyringError, MAX_KEYRING, MAX_MESSAGE},
    release::signature::{Found, MOST, Signatures, look},
};

/// Where the signatures of one kind of releases are, and whose count.
#[derive(Debug, Clone)]
pub struct Source {
    /// The store: `https://`, `http://` or `file://`.
    pub store: Url,
    /// The keys that count; nothing where none is known.
    pub keyring: Option<Keyring>,
    /// Names that signatures may give beside those that are known.
    pub names: Vec<Repository>,
}

/// Why signatures cannot be looked at at all, as a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's URL is none.
    #[error(
        "`{0}` is not the URL of a signature store: it begins with https://, http:// or file:/// and names the folder that holds `sha256=...`"
    )]
    Store(String),
    /// The keyring cannot be read.
    #[error("the keyring `{}` cannot be read: {source}; name a file with the public keys that sign releases", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The keyring is none.
    #[error("the keyring `{}` {source}", path.display())]
    Keyring {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyringError,
    },
    /// The keys that the program carries along cannot be read.
    #[error("the keys of Red Hat {0}; this is a fault of this build of imagesetd")]
    Carried(KeyringError),
    /// There can be no HTTP client.
    #[error("the HTTP client for signature stores cannot be set up: {}", cause(.0))]
    Client(#[source] reqwest::Error),
}

/// The keys that sign releases of OpenShift, as this program carries them along.
pub fn red_hat() -> Result<Keyring, Error> {
    Keyring::red_hat().map_err(Error::Carried)
}

/// Reads a keyring from a file.
pub fn keyring(path: &Path) -> Result<Keyring, Error> {
    let bytes = read_file(path, MAX_KEYRING).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    Keyring::parse(&bytes).map_err(|source| Error::Keyring {
        path: path.to_owned(),
        source,
    })
}

/// The signature stores.
pub struct SignatureStores {
    ocp: Source,
    okd: Source,
    client: Client,
    options: Options,
}

impl SignatureStores {
    /// Prepares to ask; needs rustls' default crypto provider installed.
    ///
    /// Proxies and certificates are those of the environment, as for update services.
    pub fn new(ocp: Source, okd: Source, options: Options) -> Result<Self, Error> {
        for Source { store, .. } in [&ocp, &okd] {
            let fits = match store.scheme() {
                "http" | "https" => store.has_host(),
                "file" => store.to_file_path().is_ok(),
                _ => false,
            };
            if !fits {
                return Err(Error::Store(shown(store)));
            }
        }
        let client = options.client().map_err(Error::Client)?;
        Ok(SignatureStores {
            ocp,
            okd,
            client,
            options,
        })
    }

    fn source(&self, kind: ChannelType) -> &Source {
        match kind {
            ChannelType::Ocp => &self.ocp,
            ChannelType::Okd => &self.okd,
        }
    }

    /// Fetches what a kind's store has for a digest and looks at it as of now.
    ///
    /// # Errors
    ///
    /// Where nobody said whose signatures count. That the store cannot be asked is a part of the answer: what came before still
    /// counts.
    pub async fn fetch(&self, kind: ChannelType, digest: &Digest) -> Result<Signatures, Failure> {
        let source = self.source(kind);
        if source.keyring.is_none() {
            return Err(unknown(kind));
        }
        let mut messages = Vec::new();
        let mut trouble = None;
        for number in 1..=MOST {
            match self.one(&source.store, digest, number).await {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(failure) => {
                    trouble = Some(failure);
                    break;
                }
            }
        }
        let looked = self.look(kind, digest, messages)?;
        Ok(Signatures { trouble, ..looked })
    }

    /// Looks at messages that a store had for a digest, as of now.
    ///
    /// # Errors
    ///
    /// Where nobody said whose signatures count.
    pub fn look(
        &self,
        kind: ChannelType,
        digest: &Digest,
        messages: Vec<Vec<u8>>,
    ) -> Result<Signatures, Failure> {
        let source = self.source(kind);
        let keyring = source.keyring.as_ref().ok_or_else(|| unknown(kind))?;
        let now = Timestamp::now();
        let found = (1..).zip(messages).map(|(number, message)| Found {
            name: format!("signature-{number}"),
            claim: look(&message, digest, keyring, now),
            message,
        });
        Ok(Signatures {
            store: shown(&source.store),
            names: source.names.clone(),
            found: found.collect(),
            trouble: None,
        })
    }

    async fn one(
        &self,
        store: &Url,
        digest: &Digest,
        number: usize,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let place = place(store, digest, number);
        match place.to_file_path() {
            Ok(path) if place.scheme() == "file" => read_signature(path).await,
            _ => self.ask_server(&place).await,
        }
    }

    /// Transient failures are tried again with growing pauses, or as the server asks.
    async fn ask_server(&self, place: &Url) -> Result<Option<Vec<u8>>, Failure> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let failed = match self.attempt(place).await {
                Ok(found) => return Ok(found),
                Err(failed) => failed,
            };
            if !failed.transient || attempts > self.options.retries {
                return Err(told(&shown(place), &failed, attempts));
            }
            let pause = failed.wait.unwrap_or_else(|| self.options.pause(attempts));
            tracing::debug!(place = %shown(place), attempts, ?pause, "asking the signature store again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, place: &Url) -> Result<Option<Vec<u8>>, update_service::Failure> {
        let request = self.client.get(place.clone());
        let response = request
            .send()
            .await
            .map_err(update_service::Failure::broken)?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            status if status.is_success() => {}
            _ => return Err(update_service::Failure::refused(response).await),
        }
        // One byte more than a message may have is enough to refuse it as too large.
        let body = update_service::body(response, MAX_MESSAGE).await?;
        Ok(Some(body.unwrap_or_else(|| vec![0; MAX_MESSAGE + 1])))
    }
}

/// Nobody said whose signatures count.
fn unknown(kind: ChannelType) -> Failure {
    Failure {
        reason: format!(
            "it is not mirrored, since no key is known that signs releases of {name}: name a file with the public keys in \
             `release_verification.{kind}.keyring` (`--signature-key` with `once`), or take them unverified with \
             `release_signatures: ignore` in the settings (`--ignore-release-signature` with `once`)",
            name = match kind {
                ChannelType::Ocp => "OpenShift",
                ChannelType::Okd => "OKD",
            }
        ),
        transient: false,
        cause: facts::Cause::Other,
    }
}

/// Returns where a signature is in its store.
fn place(store: &Url, digest: &Digest, number: usize) -> Url {
    let mut place = store.clone();
    let folder = store.path().trim_end_matches('/');
    let (algorithm, hex) = (digest.algorithm(), digest.hex());
    place.set_path(&format!("{folder}/{algorithm}={hex}/signature-{number}"));
    place
}

/// Returns a URL fit to be shown: without credentials and query, which may hold a token.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs that cannot have credentials.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    shown.set_query(None);
    shown.to_string()
}

async fn read_signature(path: PathBuf) -> Result<Option<Vec<u8>>, Failure> {
    let name = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || read_file(&path, MAX_MESSAGE)).await;
    let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure {
            reason: format!(
                "it is not mirrored, since reading the signature `{name}` failed: {error}; check the store's files"
            ),
            transient: true,
            cause: facts::Cause::Unavailable,
        }),
    }
}

/// Reads a file, at most one byte more than the limit.
fn read_file(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    // A pipe would be waited for.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Says how asking a server failed.
fn told(place: &str, failed: &update_service::Failure, attempts: u32) -> Failure {
    let in_the_way = match &failed.cause {
        Cause::Refused(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
            facts::Cause::Authentication
        }
        Cause::Broken(_) => facts::Cause::Unavailable,
        _ if failed.transient => facts::Cause::Unavailable,
        _ => facts::Cause::Other,
    };
    let why = match &failed.cause {
        Cause::Broken(error) => {
            let remedy = match is_certificate(error) {
                true => {
                    "if a proxy opens TLS on the way, name a file that holds its CA in SSL_CERT_FILE or add it to the system's"
                }
                false => {
                    "check that this host may reach it; behind a proxy set HTTPS_PROXY and NO_PROXY"
                }
            };
            format!(
                "failed after {attempts} attempts: {}; {remedy}",
                cause(error)
            )
        }
        Cause::Refused(status, said) => {
            let remedy = match status.as_u16() {
                407 => "give the proxy's credentials in HTTPS_PROXY",
                401 | 403 => {
                    "check that this host may ask it, and whether a proxy answers in its place"
                }
                429 | 500.. => "try again later, or name another store",
                _ => "check the URL of the signature store",
            };
            format!("was answered with {status}{said}; {remedy}")
        }
        Cause::Error(error) => format!("failed: {error}"),
    };
    Failure {
        reason: format!("it is not mirrored, since asking the signature store for {place} {why}"),
        transient: failed.transient,
        cause: in_the_way,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn source(store: &str) -> Source {
        Source {
            store: url(store),
            keyring: Some(Keyring::red_hat().unwrap()),
            names: vec![],
        }
    }

    fn stores(store: &str) -> Result<SignatureStores, Error> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let okd = Source {
            keyring: None,
            ..source("https://okd.lan/s")
        };
        SignatureStores::new(source(store), okd, Options::default())
    }

    #[test]
    fn a_signature_has_its_place_below_the_store() {
        let digest = Digest::of(b"x");
        let hex = digest.hex();
        for (store, expected) in [
            ("https://h/a/b", "https://h/a/b"),
            ("https://h/a/b///", "https://h/a/b"),
            ("file:///srv/s/", "file:///srv/s"),
            ("http://h", "http://h"),
        ] {
            assert_eq!(
                place(&url(store), &digest, 2).as_str(),
                format!("{expected}/sha256={hex}/signature-2")
            );
        }
        let secret = url("https://u:secret@h/a?token=secret#secret");
        assert_eq!(
            shown(&place(&secret, &digest, 1)),
            format!("https://h/a/sha256={hex}/signature-1")
        );
        assert!(
            place(&secret, &digest, 1)
                .as_str()
                .contains("?token=secret")
        );
    }

    #[test]
    fn what_is_no_store_is_refused() {
        for store in ["ftp://h/s", "file://host/s", "data:x"] {
            let error = stores(store).err().unwrap().to_string();
            assert!(
                error.contains("is not the URL of a signature store"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn numbers_are_read_until_one_is_missing_and_files_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"x");
        let of_digest = folder.path().join(format!("sha256={}", digest.hex()));
        let stores = stores(
            url::Url::from_directory_path(folder.path())
                .unwrap()
                .as_str(),
        )
        .unwrap();
        let said = async || {
            let found = stores.fetch(ChannelType::Ocp, &digest).await.unwrap();
            let trouble = found.trouble.map(|t| t.reason);
            let claims = found
                .found
                .into_iter()
                .map(|f| (f.name, f.claim.unwrap_err()));
            (claims.collect::<Vec<_>>(), trouble)
        };
        assert_eq!(said().await, (vec![], None));
        fs::create_dir(&of_digest).unwrap();
        fs::write(of_digest.join("signature-1"), "").unwrap();
        fs::write(of_digest.join("signature-2"), vec![0xff; 9 << 20]).unwrap();
        fs::write(of_digest.join("signature-4"), "").unwrap();
        let one = ("signature-1".to_owned(), "is empty".to_owned());
        let (found, trouble) = said().await;
        assert_eq!(
            (found.len(), found[0].clone(), trouble),
            (2, one.clone(), None)
        );
        assert!(
            found[1].1.starts_with("has more than 65536 bytes"),
            "{found:?}"
        );
        fs::remove_file(of_digest.join("signature-2")).unwrap();
        fs::create_dir(of_digest.join("signature-2")).unwrap();
        let (found, trouble) = said().await;
        assert_eq!(found, [one]);
        assert!(trouble.unwrap().contains("it is not a regular file"));
        fs::remove_dir(of_digest.join("signature-2")).unwrap();
        (2..30).for_each(|n| fs::write(of_digest.join(format!("signature-{n}")), "").unwrap());
        assert_eq!(said().await.0.len(), MOST);
    }

    #[tokio::test]
    async fn where_no_key_is_known_nobody_is_asked() {
        let stores = stores("https://h/s").unwrap();
        let why = stores
            .fetch(ChannelType::Okd, &Digest::of(b"x"))
            .await
            .unwrap_err();
        assert!(!why.transient);
        assert_eq!(
            why.reason,
            "it is not mirrored, since no key is known that signs releases of OKD: name a file with the public keys in `release_verification.okd.keyring` (`--signature-key` with `once`), or take them unverified with `release_signatures: ignore` in the settings (`--ignore-release-signature` with `once`)"
        );
    }

    #[test]
    fn a_keyring_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.asc");
        let error = || keyring(&file).unwrap_err().to_string();
        assert!(
            error().contains("cannot be read: No such file"),
            "{}",
            error()
        );
        fs::write(&file, "hello").unwrap();
        assert!(
            error()
                .ends_with("keys.asc` holds no public key; export one with `gpg --armor --export`"),
            "{}",
            error()
        );
    }
}

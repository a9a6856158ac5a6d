//! Certificates: of authorities that are trusted beside the system's, and those that are shown to a registry.
//!
//! From settings, and from folders as podman and Docker have them (containers-certs.d(5)). A certificate that is to be shown to one
//! host is never shown to another.

use std::{
    ffi::OsString,
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

use base64::Engine;
use reqwest::{Certificate, Identity};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use crate::model::image::Hasher;

/// A certificate to show, and its key: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientFiles {
    /// The certificate, with what leads to its authority.
    pub certificate: PathBuf,
    /// The key, not encrypted.
    pub key: PathBuf,
}

/// Where folders of certificates are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CertFolders {
    /// Nowhere.
    #[default]
    None,
    /// In each of these may be a folder for a registry, called `host[:port]`; the first that is there counts.
    ByHost(Vec<PathBuf>),
    /// One for all registries, as for skopeo's `--src-cert-dir`.
    One(PathBuf),
}

impl CertFolders {
    /// The places of podman and Docker, in podman's order; `variable` is asked for `HOME`.
    pub fn usual(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let home = variable("HOME").filter(|home| !home.is_empty());
        let own = home.map(|home| PathBuf::from(home).join(".config/containers/certs.d"));
        let shared = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
        CertFolders::ByHost(own.into_iter().chain(shared).collect())
    }

    /// Returns the files for a registry: `*.crt` are authorities, `*.cert` with `*.key` of the same name are shown.
    pub(super) fn files(&self, host: &str) -> Result<TlsFiles, String> {
        let folders = match self {
            CertFolders::None => return Ok(TlsFiles::default()),
            CertFolders::ByHost(folders) => folders.iter().map(|f| f.join(host)).collect(),
            CertFolders::One(folder) => vec![folder.clone()],
        };
        for folder in folders {
            match fs::read_dir(&folder) {
                Ok(entries) => return TlsFiles::among(&folder, entries),
                // podman passes over what it may not look into as well.
                Err(e) if self.may_lack(&e) => {}
                Err(e) => {
                    let folder = folder.display();
                    return Err(format!(
                        "the folder of certificates {folder} cannot be read: {e}"
                    ));
                }
            }
        }
        Ok(TlsFiles::default())
    }

    fn may_lack(&self, error: &io::Error) -> bool {
        matches!(self, CertFolders::ByHost(_))
            && matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::PermissionDenied
            )
    }
}

/// The files that make a connection what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TlsFiles {
    pub(super) authorities: Vec<PathBuf>,
    pub(super) client: Option<ClientFiles>,
}

impl TlsFiles {
    fn among(folder: &Path, entries: fs::ReadDir) -> Result<Self, String> {
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        let mut files = TlsFiles::default();
        for name in &names {
            let at = |name: &str| folder.join(name);
            let has = |name: &String| names.contains(name);
            if name.ends_with(".crt") {
                files.authorities.push(at(name));
            } else if let Some(stem) = name.strip_suffix(".cert") {
                let key = format!("{stem}.key");
                if !has(&key) {
                    let missing = at(&key);
                    return Err(format!(
                        "{} has no key beside it ({}); a certificate of an authority is called *.crt",
                        at(name).display(),
                        missing.display()
                    ));
                }
                if files.client.is_none() {
                    files.client = Some(ClientFiles {
                        certificate: at(name),
                        key: at(&key),
                    });
                } else {
                    tracing::debug!(file = %at(name).display(), "only the first certificate of a folder is shown");
                }
            } else if let Some(stem) = name.strip_suffix(".key") {
                let certificate = format!("{stem}.cert");
                if !has(&certificate) {
                    return Err(format!(
                        "{} has no certificate beside it ({})",
                        at(name).display(),
                        at(&certificate).display()
                    ));
                }
            }
        }
        Ok(files)
    }

    /// Returns every file, in a fixed order.
    pub(super) fn all(&self) -> Vec<&Path> {
        let client = self.client.iter().flat_map(|c| [&c.certificate, &c.key]);
        let all = self.authorities.iter().chain(client);
        all.map(PathBuf::as_path).collect()
    }

    /// Reads the files.
    pub(super) fn read(&self) -> Result<TlsTexts, String> {
        let texts = self.authorities.iter().map(|file| read(file));
        let client = self.client.as_ref().map(|client| {
            let certificate = read(&client.certificate)?;
            Ok::<_, String>((certificate, read(&client.key)?))
        });
        Ok(TlsTexts {
            authorities: texts.collect::<Result<_, _>>()?,
            client: client.transpose()?,
        })
    }
}

/// What the files hold. The key is secret.
pub(super) struct TlsTexts {
    authorities: Vec<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsTexts {
    /// Tells whether they have changed, without keeping them.
    pub(super) fn digest(&self) -> crate::model::image::Digest {
        let mut hasher = Hasher::sha256();
        let client = self.client.iter().flat_map(|(cert, key)| [cert, key]);
        for text in self.authorities.iter().chain(client) {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text);
        }
        hasher.finish()
    }

    /// Returns the authorities' certificates.
    pub(super) fn authorities(&self, files: &TlsFiles) -> Result<Vec<Certificate>, String> {
        let mut all = Vec::new();
        for (file, text) in files.authorities.iter().zip(&self.authorities) {
            let found = Certificate::from_pem_bundle(text).unwrap_or_default();
            if found.is_empty() {
                let file = file.display();
                return Err(format!(
                    "the file of authorities {file} holds no PEM certificate (`BEGIN CERTIFICATE`)"
                ));
            }
            all.extend(found);
        }
        Ok(all)
    }

    /// Returns what is shown to the registry.
    pub(super) fn identity(&self, files: &TlsFiles) -> Result<Option<Identity>, String> {
        let (Some((certificate, key)), Some(files)) = (&self.client, &files.client) else {
            return Ok(None);
        };
        identity(certificate, key, files).map(Some)
    }
}

/// The longest file of certificates that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let name = file.display();
    let mut text = Vec::new();
    let opened = fs::File::open(file);
    let whole = opened.and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text));
    whole.map_err(|e| format!("the certificate file {name} cannot be read: {e}"))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!(
            "the certificate file {name} has more than {MAX_FILE_BYTES} bytes; is it the right file?"
        ));
    }
    Ok(text)
}

/// Joins a certificate and its key, which has to be its own. Never quotes either.
fn identity(certificate: &[u8], key: &[u8], files: &ClientFiles) -> Result<Identity, String> {
    let (of_certificate, of_key) = (files.certificate.display(), files.key.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.unwrap_or_default();
    if chain.is_empty() {
        return Err(format!(
            "the client certificate {of_certificate} holds no PEM certificate (`BEGIN CERTIFICATE`)"
        ));
    }
    if is_encrypted(key) {
        return Err(format!(
            "the client key {of_key} is encrypted, and nobody is there to type its passphrase; write it without one \
             (`openssl pkey -in {of_key} -out PLAIN.key`), readable by the agent alone"
        ));
    }
    let Ok(secret) = PrivateKeyDer::from_pem_slice(key) else {
        return Err(format!(
            "the client key {of_key} holds no PEM key (`BEGIN PRIVATE KEY`, `BEGIN RSA PRIVATE KEY` or `BEGIN EC PRIVATE KEY`)"
        ));
    };
    let Ok(signer) = rustls::crypto::aws_lc_rs::sign::any_supported_type(&secret) else {
        return Err(format!(
            "the client key {of_key} is broken, or of a kind that is not used in TLS; RSA, ECDSA and Ed25519 keys are"
        ));
    };
    let pair = CertifiedKey::new(chain.clone(), signer);
    if let Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) =
        pair.keys_match()
    {
        return Err(format!(
            "the client key {of_key} does not belong to the certificate {of_certificate}"
        ));
    }
    let mut pem = String::new();
    for certificate in &chain {
        pem += &section("CERTIFICATE", certificate);
    }
    let kind = match &secret {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    pem += &section(kind, secret.secret_der());
    Identity::from_pem(pem.as_bytes())
        .map_err(|_| format!("the client certificate {of_certificate} cannot be used"))
}

/// Whether a PEM key wants a passphrase, in PKCS#8's form or OpenSSL's old one.
fn is_encrypted(key: &[u8]) -> bool {
    let text = String::from_utf8_lossy(key);
    let marks = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
    marks.iter().any(|mark| text.contains(mark))
}

fn section(kind: &str, der: &[u8]) -> String {
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{base64}\n-----END {kind}-----\n")
}

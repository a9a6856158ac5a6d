//! The daemon's certificate and key, and the CA of its clients: read from files, and read again when they change.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use tokio_rustls::TlsAcceptor;

use crate::grpc::certificate;

/// The largest file that is read; bundles of a whole system's CAs have a quarter of it.
const LARGEST_FILE: u64 = 1 << 20;

/// Where they are, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The daemon's certificate with what leads to its CA.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who issues certificates to clients.
    pub client_ca: Option<PathBuf>,
}

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than any of its kind.
    #[error("{} is larger than 1 MiB; is it the right file?", .0.display())]
    Large(PathBuf),
    /// A file has no certificate.
    #[error("{} holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// The key asks for a passphrase.
    #[error(
        "the key {} is encrypted, and nobody is there to say the passphrase; write it without one, readable for the daemon alone", .0.display()
    )]
    Encrypted(PathBuf),
    /// A file has no key.
    #[error("{} holds no key in PEM form", .0.display())]
    NoKey(PathBuf),
    /// Certificate and key cannot be used together.
    #[error("certificate {} and key {} cannot be used: {source}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The CA of clients cannot be used.
    #[error("the CA of clients in {} cannot be used: {why}", path.display())]
    Ca {
        /// Its file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Certificate, key and CA as they were last read whole.
pub struct Keys {
    files: Files,
    current: RwLock<Material>,
}

#[derive(Clone)]
struct Material {
    acceptor: TlsAcceptor,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the files.
    pub fn load(files: Files) -> Result<Self, KeyError> {
        let current = RwLock::new(material(&files)?);
        Ok(Keys { files, current })
    }

    /// Reads them again; what does not do as a whole leaves all as it was.
    pub fn reload(&self) -> Result<(), KeyError> {
        let material = material(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = material;
        Ok(())
    }

    /// Returns the files.
    pub fn paths(&self) -> Vec<PathBuf> {
        let Files {
            cert,
            key,
            client_ca,
        } = self.files.clone();
        [Some(cert), Some(key), client_ca]
            .into_iter()
            .flatten()
            .collect()
    }

    fn current(&self) -> Material {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns what shakes hands with the next client.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.current().acceptor
    }

    /// Returns the names of a client's certificate, if it is good now: its CA is the one that is known now, and it has not run out.
    pub fn names(&self, chain: &[CertificateDer<'_>]) -> Result<Vec<String>, rustls::Error> {
        let (Some(clients), Some((own, between))) = (self.current().clients, chain.split_first())
        else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        clients.verify_client_cert(own, between, UnixTime::now())?;
        certificate::names(own).map_err(|error| rustls::Error::General(error.to_string()))
    }
}

fn material(files: &Files) -> Result<Material, KeyError> {
    let chain = certificates(&files.cert)?;
    let key = key(&files.key)?;
    let clients = files.client_ca.as_deref().map(verifier).transpose()?;
    let pair = |source| KeyError::Pair {
        cert: files.cert.clone(),
        key: files.key.clone(),
        source,
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let builder = match &clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::new(Later(Arc::clone(clients)))),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Material {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        clients,
    })
}

/// Shakes hands with every certificate whose key the client has, and leaves it to [`Keys::names`], which each call goes through, whether
/// it is a good one. A handshake that fails says nothing that a client could pass on, and with TLS 1.3 only a broken connection is left
/// of it; a call is answered by a code and a sentence.
#[derive(Debug)]
struct Later(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Later {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        // A token will do.
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, KeyError> {
    let unfit = |why: String| KeyError::Ca {
        path: path.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| unfit(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .build()
        .map_err(|error| unfit(error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(KeyError::NoCertificate(path.to_owned())),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, KeyError> {
    let text = read(path)?;
    let is_encrypted = || text.windows(9).any(|word| word == b"ENCRYPTED");
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| match is_encrypted() {
        true => KeyError::Encrypted(path.to_owned()),
        false => KeyError::NoKey(path.to_owned()),
    })
}

/// Reads a file that is not too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |source| KeyError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut text = Vec::new();
    file.take(LARGEST_FILE + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    match text.len() as u64 > LARGEST_FILE {
        true => Err(KeyError::Large(path.to_owned())),
        false => Ok(text),
    }
}

/// Whether everybody on this machine can read a file.
pub fn is_open_to_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o004 != 0)
}

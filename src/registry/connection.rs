//! How hosts are reached: schemes, certificates, timeouts, and what went wrong where one is not.

use std::{
    collections::BTreeMap,
    error::Error as _,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Certificate, ClientBuilder, redirect::Policy};

use crate::registry::error::{Error, Fault};

/// In which protocol a registry is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTPS only.
    #[default]
    Https,
    /// Plain HTTP only.
    Http,
    /// HTTPS, and where nothing speaks it, plain HTTP: what skopeo's `--tls-verify=false` means.
    HttpsOrHttp,
}

/// How a registry is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// In which protocol.
    pub scheme: Scheme,
    /// Whether any certificate will do.
    pub skip_tls_verify: bool,
    /// A PEM file with certificates of authorities that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

impl Access {
    /// Plain HTTP.
    pub fn plain_http() -> Self {
        Access {
            scheme: Scheme::Http,
            ..Access::default()
        }
    }

    /// Any certificate will do, and so will plain HTTP: what `--tls-verify=false` means to skopeo.
    pub fn unverified() -> Self {
        Access {
            scheme: Scheme::HttpsOrHttp,
            skip_tls_verify: true,
            ca_file: None,
        }
    }
}

/// How long a silence is borne. There is no limit to how long a transfer that moves may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until an answer begins, and between two pieces of a body.
    pub idle: Duration,
    /// Between the last byte of an upload and its answer: registries on object storage move the blob meanwhile.
    pub commit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            commit: Duration::from_secs(600),
        }
    }
}

/// The HTTP clients for one way of access, shared by all hosts that have it.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    /// HTTP/2 where offered: many small requests at once.
    pub(super) metadata: reqwest::Client,
    /// HTTP/1.1: a connection a body, so that bodies share no window.
    pub(super) bulk: reqwest::Client,
}

/// Makes clients as ways of access come up, and keeps them.
#[derive(Debug)]
pub(super) struct Connections {
    user_agent: String,
    connect: Duration,
    made: Mutex<BTreeMap<(Access, bool), Clients>>,
}

impl Connections {
    pub(super) fn new(user_agent: String, connect: Duration) -> Self {
        // The binary does this first of all; a library user or a test may not have. An `Err` says that it was done before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Connections {
            user_agent,
            connect,
            made: Mutex::default(),
        }
    }

    /// Returns the clients for `access`; `direct` ones pass by the environment's proxy.
    pub(super) fn clients(
        &self,
        host: &str,
        access: &Access,
        direct: bool,
    ) -> Result<Clients, Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (access.clone(), direct);
        if let Some(clients) = made.get(&key) {
            return Ok(clients.clone());
        }
        let certificates = certificates(host, access.ca_file.as_deref())?;
        let build = |http1: bool| {
            let builder = self.builder(access, direct, &certificates);
            let builder = if http1 { builder.http1_only() } else { builder };
            builder.build().map_err(|e| Error::Connections {
                host: host.to_owned(),
                reason: "no TLS can be set up; are the system's CA certificates installed (or `SSL_CERT_FILE` set)?".to_owned(),
                source: Some(e.without_url().into()),
            })
        };
        let clients = Clients {
            metadata: build(false)?,
            bulk: build(true)?,
        };
        made.insert(key, clients.clone());
        Ok(clients)
    }

    fn builder(
        &self,
        access: &Access,
        direct: bool,
        certificates: &[Certificate],
    ) -> ClientBuilder {
        // Decoding is switched off by name: another crate of the build may have compiled it in, and digests are of bytes as sent.
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .connect_timeout(self.connect)
            .tcp_nodelay(true)
            .redirect(Policy::limited(10))
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate();
        if direct {
            builder = builder.no_proxy();
        }
        if access.skip_tls_verify {
            return builder.tls_danger_accept_invalid_certs(true);
        }
        if access.scheme == Scheme::Http && certificates.is_empty() {
            // Plain HTTP works without the system's authorities; a redirect into TLS is not trusted then.
            return builder.tls_certs_only([]);
        }
        builder.tls_certs_merge(certificates.iter().cloned())
    }
}

fn certificates(host: &str, file: Option<&Path>) -> Result<Vec<Certificate>, Error> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let fail = |reason: String, source| Error::Connections {
        host: host.to_owned(),
        reason,
        source,
    };
    let pem = std::fs::read(file).map_err(|e| {
        let reason = format!("its `ca_file` {} cannot be read: {e}", file.display());
        fail(reason, Some(e.into()))
    })?;
    let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if found.is_empty() {
        let file = file.display();
        let reason = format!("its `ca_file` {file} holds no PEM certificate (`BEGIN CERTIFICATE`)");
        return Err(fail(reason, None));
    }
    Ok(found)
}

/// Says what kind of trouble a client's error is.
pub(super) fn fault(error: &reqwest::Error) -> Fault {
    if error.is_redirect() {
        return Fault::Redirects;
    }
    let mut cause = error.source();
    while let Some(this) = cause {
        if let Some(fault) = this.downcast_ref::<rustls::Error>().map(tls_fault) {
            return fault;
        }
        if let Some(fault) = this.downcast_ref().and_then(h2_fault) {
            return fault;
        }
        if let Some(fault) = this.downcast_ref().and_then(io_fault) {
            return fault;
        }
        cause = this.source();
    }
    if error.is_connect() {
        Fault::NotConnected
    } else {
        Fault::Broken
    }
}

/// Looks into an I/O error, and into those it holds: the TLS layer packs its own twice.
fn io_fault(error: &io::Error) -> Option<Fault> {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return Some(Fault::ConnectionRefused);
    }
    let inner = error.get_ref()?;
    if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
        return Some(tls_fault(tls));
    }
    inner.downcast_ref().and_then(io_fault)
}

/// Looks for a server that wants less: `ENHANCE_YOUR_CALM`, or the whole connection ended by GOAWAY.
fn h2_fault(error: &h2::Error) -> Option<Fault> {
    let calm = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
    (calm || error.is_go_away()).then_some(Fault::Throttled)
}

fn tls_fault(error: &rustls::Error) -> Fault {
    use rustls::{CertificateError as Bad, Error as Tls};
    match error {
        Tls::InvalidMessage(_) => Fault::NotTls,
        Tls::InvalidCertificate(Bad::UnknownIssuer) => Fault::UnknownAuthority,
        Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            Fault::WrongName
        }
        Tls::InvalidCertificate(
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. },
        ) => Fault::NotValidNow,
        _ => Fault::Tls,
    }
}

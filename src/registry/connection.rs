//! How hosts are reached: schemes, certificates, timeouts, and what went wrong where one is not.

use std::{
    collections::BTreeMap,
    error::Error as _,
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use reqwest::{Certificate, ClientBuilder, redirect::Policy};
use url::Url;

use crate::{
    model::image::Digest,
    registry::{
        error::{Error, Fault},
        proxy::Proxies,
        stamp::Stamp,
        tls::{CertFolders, ClientFiles, TlsFiles, TlsTexts},
    },
};

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
    /// What is shown to the registry, where it wants a certificate of those who ask.
    pub client: Option<ClientFiles>,
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
            ..Access::default()
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

/// How a host is to be reached: all that clients differ by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reach {
    /// Whether TLS is spoken at all.
    pub(super) tls: bool,
    pub(super) skip_verify: bool,
    pub(super) files: TlsFiles,
}

impl Reach {
    /// To speak to `host` as settings and folders of certificates say.
    pub(super) fn of(host: &str, access: &Access, folders: &CertFolders) -> Result<Self, Error> {
        if access.scheme == Scheme::Http {
            return Ok(Reach {
                tls: false,
                skip_verify: false,
                files: TlsFiles::default(),
            });
        }
        let mut files = folders.files(host).map_err(|why| unprepared(host, why))?;
        files.authorities.extend(access.ca_file.clone());
        if access.client.is_some() {
            files.client = access.client.clone();
        }
        Ok(Reach {
            tls: true,
            skip_verify: access.skip_tls_verify,
            files,
        })
    }
}

fn unprepared(host: &str, reason: String) -> Error {
    Error::Connections {
        host: host.to_owned(),
        reason,
        source: None,
    }
}

/// Makes clients as ways of access come up, and makes them anew when their certificates have changed.
#[derive(Debug)]
pub(super) struct Connections {
    user_agent: String,
    connect: Duration,
    proxies: Proxies,
    made: Mutex<BTreeMap<Reach, Made>>,
}

#[derive(Debug)]
struct Made {
    clients: Clients,
    /// How the files looked; nothing where one may have changed since without looking different.
    stamps: Option<Vec<Stamp>>,
    digest: Digest,
    /// How the files looked when they were complained about.
    complained: Option<Vec<Stamp>>,
}

impl Connections {
    pub(super) fn new(user_agent: String, connect: Duration, proxies: Proxies) -> Self {
        // The binary does this first of all; a library user or a test may not have. An `Err` says that it was done before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Connections {
            user_agent,
            connect,
            proxies,
            made: Mutex::default(),
        }
    }

    /// Says what kind of trouble a request to `url` met, and who is to be named for it.
    pub(super) fn fault(&self, url: &Url, error: &reqwest::Error) -> (String, Fault) {
        let host = authority(url);
        let fault = fault(error);
        let Some(proxy) = self.proxies.name(url) else {
            return (host, fault);
        };
        let fault = match fault {
            Fault::ConnectionRefused | Fault::NotConnected => Fault::Proxy,
            other => other,
        };
        (format!("{host}, through the proxy {proxy},"), fault)
    }

    /// Returns the clients for a way to reach a host, which messages name `host`.
    ///
    /// Files that are just being written do no harm: the clients of before go on.
    pub(super) fn clients(&self, host: &str, reach: &Reach) -> Result<Clients, Error> {
        let mut all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let files = reach.files.all();
        let stamps: Vec<_> = files.iter().map(|file| Stamp::of(file)).collect();
        let Some(made) = all.get_mut(reach) else {
            let made = self.make(host, reach, &stamps)?;
            let clients = made.clients.clone();
            all.insert(reach.clone(), made);
            return Ok(clients);
        };
        if made.stamps.as_ref() == Some(&stamps) {
            return Ok(made.clients.clone());
        }
        let texts = reach.files.read();
        if texts.as_ref().is_ok_and(|t| t.digest() == made.digest) {
            made.stamps = settled(&stamps);
            return Ok(made.clients.clone());
        }
        match self.make(host, reach, &stamps) {
            Ok(new) => *made = new,
            Err(why) if made.complained.as_ref() != Some(&stamps) => {
                tracing::warn!("{why}; the certificates of before stay in use");
                made.complained = Some(stamps);
            }
            Err(_) => {}
        }
        Ok(made.clients.clone())
    }

    fn make(&self, host: &str, reach: &Reach, stamps: &[Stamp]) -> Result<Made, Error> {
        let texts = reach.files.read().map_err(|why| unprepared(host, why))?;
        let clients = Clients {
            metadata: self.client(host, reach, &texts, false)?,
            bulk: self.client(host, reach, &texts, true)?,
        };
        Ok(Made {
            clients,
            stamps: settled(stamps),
            digest: texts.digest(),
            complained: None,
        })
    }

    fn client(
        &self,
        host: &str,
        reach: &Reach,
        texts: &TlsTexts,
        http1: bool,
    ) -> Result<reqwest::Client, Error> {
        let files = &reach.files;
        let because = |why| unprepared(host, why);
        let authorities = texts.authorities(files).map_err(because)?;
        let mut builder = self.builder(reach, authorities);
        if let Some(identity) = texts.identity(files).map_err(because)? {
            builder = builder.identity(identity);
        }
        if http1 {
            builder = builder.http1_only();
        }
        builder.build().map_err(|e| Error::Connections {
            host: host.to_owned(),
            reason: "no TLS can be set up; are the system's CA certificates installed (or `SSL_CERT_FILE` set)?".to_owned(),
            source: Some(e.without_url().into()),
        })
    }

    fn builder(&self, reach: &Reach, authorities: Vec<Certificate>) -> ClientBuilder {
        // Decoding is switched off by name: another crate of the build may have compiled it in, and digests are of bytes as sent.
        // Redirects are followed where requests are sent: a client's certificate is for one host.
        let builder = reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .connect_timeout(self.connect)
            .tcp_nodelay(true)
            .redirect(Policy::none())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate();
        let builder = self.proxies.apply(builder);
        if reach.skip_verify {
            return builder.tls_danger_accept_invalid_certs(true);
        }
        if !reach.tls {
            // Plain HTTP works without the system's authorities.
            return builder.tls_certs_only([]);
        }
        builder.tls_certs_merge(authorities)
    }
}

/// Returns the stamps where every later change of a file will show.
fn settled(stamps: &[Stamp]) -> Option<Vec<Stamp>> {
    let now = SystemTime::now();
    stamps.iter().map(|stamp| stamp.settled(now)).collect()
}

/// Returns `host[:port]` of a URL: all of it that may stand in a message.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Says what kind of trouble a client's error is.
fn fault(error: &reqwest::Error) -> Fault {
    if error.is_redirect() {
        return Fault::Redirects;
    }
    let mut cause = error.source();
    while let Some(this) = cause {
        if let Some(fault) = proxy_fault(&this.to_string()) {
            return fault;
        }
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

/// Reads what the HTTP library says of proxies; its types are not public.
fn proxy_fault(text: &str) -> Option<Fault> {
    let login = [
        "tunnel error: proxy authorization required",
        "SOCKS error: credentials not accepted",
        "SOCKS error: server does not support user/pass authentication",
        "SOCKS error: server implements different authentication method than advertised",
    ];
    if login.contains(&text) {
        return Some(Fault::ProxyLogin);
    }
    let begins = ["tunnel error: ", "SOCKS error: "];
    begins
        .iter()
        .any(|b| text.starts_with(b))
        .then_some(Fault::Proxy)
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
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as Tls};
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
        Tls::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => Fault::WantsCertificate,
        _ => Fault::Tls,
    }
}

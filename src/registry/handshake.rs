//! What a registry shows of itself in TLS, looked at as a person with openssl would: name, time, use, and who vouches for it.
//!
//! Nothing is sent over the connection that this makes, so any certificate will do to look at it.

use std::{sync::Arc, time::Duration};

use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
};
use tokio::net::TcpStream;
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, anchor_from_trusted_cert,
};

use crate::model::checkup::Answer;

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate that ends sooner than this is worth a word.
const SOON: i64 = 30 * 86_400;

/// The end of time for certificates (RFC 5280, section 4.1.2.5).
const YEAR_9999: u64 = 253_402_300_799;

/// Takes any certificate, and remembers it.
#[derive(Debug, Default)]
struct Onlooker(std::sync::Mutex<Vec<CertificateDer<'static>>>);

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let mut seen = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        *seen = chain.map(|c| c.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Returns the certificates that `host:port` shows, its own first; none where it does not come to that.
pub(super) async fn shown(host: &str, port: u16) -> Vec<CertificateDer<'static>> {
    let onlooker = Arc::new(Onlooker::default());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|config| {
            config
                .dangerous()
                .with_custom_certificate_verifier(onlooker.clone())
                .with_no_client_auth()
        });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let (Ok(config), Ok(name)) = (config, ServerName::try_from(bare.to_owned())) {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let shake = async {
            let stream = TcpStream::connect((bare, port)).await?;
            connector.connect(name, stream).await
        };
        // How it ends does not matter: the certificate is seen before.
        let _ = tokio::time::timeout(PATIENCE, shake).await;
    }
    let mut seen = onlooker
        .0
        .lock()
        .unwrap_or_else(|broken| broken.into_inner());
    std::mem::take(&mut *seen)
}

/// Who may vouch for a certificate.
pub(super) struct Authorities<'a> {
    /// Those of settings and folders of certificates.
    pub(super) configured: &'a [CertificateDer<'static>],
    /// The files they are in, for people.
    pub(super) files: String,
    /// The system's.
    pub(super) system: &'a [CertificateDer<'static>],
}

/// Says what is to be said of the certificates that `host` shows.
pub(super) fn judge(
    chain: &[CertificateDer<'_>],
    host: &str,
    authorities: &Authorities<'_>,
    now: i64,
) -> Vec<Answer> {
    let Some((first, rest)) = chain.split_first() else {
        return Vec::new();
    };
    let Ok(certificate) = EndEntityCert::try_from(first) else {
        return vec![Answer::bad(
            "certificate_chain",
            format!("what {host} shows as its certificate cannot be read as one"),
            "give the registry an X.509 version 3 certificate",
        )];
    };
    let seconds = u64::try_from(now).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let is_own_authority = matches!(
        verify(&certificate, rest, &[], now),
        Err(webpki::Error::CaUsedAsEndEntity)
    );
    vec![
        named(&certificate, host),
        timely(&certificate, rest, host, now),
        used(&certificate, rest, host, now),
        match is_own_authority {
            true => Answer::bad(
                "certificate_chain",
                format!(
                    "{host} shows the certificate of an authority as its own (`CA:TRUE`), which clients do not take"
                ),
                "let that authority sign a certificate for the registry, and let the registry show that one",
            ),
            false => vouched(&certificate, rest, host, authorities, now),
        },
    ]
}

fn named(certificate: &EndEntityCert<'_>, host: &str) -> Answer {
    let id = "certificate_name";
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare);
    let fits = name.is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok());
    if fits {
        return Answer::good(id, format!("the certificate is for {host}"));
    }
    let names: Vec<&str> = certificate.valid_dns_names().take(20).collect();
    let names = match names.as_slice() {
        [] => "no DNS name (a common name alone does not count)".to_owned(),
        names => names.join(", "),
    };
    Answer::bad(
        id,
        format!("the certificate is not for {host}; it is for {names}"),
        format!(
            "give the registry a certificate with {host} among its subject alternative names, or name it as its certificate does"
        ),
    )
}

fn timely(
    certificate: &EndEntityCert<'_>,
    rest: &[CertificateDer<'_>],
    host: &str,
    now: UnixTime,
) -> Answer {
    let id = "certificate_expiry";
    let now = now.as_secs() as i64;
    let at = |seconds: u64| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verify(certificate, rest, &[], time)
    };
    let until = match at(YEAR_9999) {
        Err(webpki::Error::CertExpired { not_after, .. }) => not_after.as_secs() as i64,
        _ => i64::MAX,
    };
    let since = match at(0) {
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => not_before.as_secs() as i64,
        _ => 0,
    };
    let renew = "renew it; registries need a restart or a reload to show the new one";
    match until.saturating_sub(now) {
        _ if since > now => Answer::bad(
            id,
            format!(
                "the certificate of {host} is valid from {} on only",
                day(since)
            ),
            "check the clocks of this machine and of the one that signed it",
        ),
        left if left < 0 => Answer::bad(
            id,
            format!("the certificate of {host} ended on {}", day(until)),
            renew,
        ),
        left if left < SOON => Answer::warning(
            id,
            format!(
                "the certificate of {host} ends on {}, in {} days",
                day(until),
                left / 86_400
            ),
            renew,
        ),
        _ => Answer::good(
            id,
            format!("the certificate of {host} is valid until {}", day(until)),
        ),
    }
}

/// A day as `2026-11-26`.
fn day(second: i64) -> String {
    jiff::Timestamp::from_second(second).map_or_else(
        |_| "the end of time".to_owned(),
        |time| time.strftime("%F").to_string(),
    )
}

fn used(
    certificate: &EndEntityCert<'_>,
    rest: &[CertificateDer<'_>],
    host: &str,
    now: UnixTime,
) -> Answer {
    let id = "certificate_usage";
    // Looked at while it is valid, whenever that is.
    let valid = [now, start(certificate, rest, now)];
    let refused = valid.into_iter().all(|time| {
        matches!(
            verify(certificate, rest, &[], time),
            Err(webpki::Error::RequiredEkuNotFoundContext(_))
        )
    });
    match refused {
        true => Answer::bad(
            id,
            format!(
                "the certificate of {host} is not for servers: its extended key usage lacks `serverAuth`"
            ),
            "give the registry a certificate with `extendedKeyUsage = serverAuth`",
        ),
        false => Answer::good(
            id,
            format!("the certificate of {host} may be used by a server"),
        ),
    }
}

/// A moment at which the certificate is valid.
fn start(certificate: &EndEntityCert<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> UnixTime {
    match verify(
        certificate,
        rest,
        &[],
        UnixTime::since_unix_epoch(Duration::ZERO),
    ) {
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => not_before,
        _ => now,
    }
}

fn vouched(
    certificate: &EndEntityCert<'_>,
    rest: &[CertificateDer<'_>],
    host: &str,
    authorities: &Authorities<'_>,
    now: UnixTime,
) -> Answer {
    let id = "certificate_chain";
    let trusts = |roots: &[CertificateDer<'static>]| {
        let anchors: Vec<TrustAnchor<'_>> = roots
            .iter()
            .filter_map(|root| anchor_from_trusted_cert(root).ok())
            .collect();
        // What it may be used for is said elsewhere, and that it has ended or begins later.
        let at = |time| verify_for(certificate, rest, &anchors, time, AnyUse);
        at(now).or_else(|_| at(start(certificate, rest, now)))
    };
    let (configured, system) = (trusts(authorities.configured), trusts(authorities.system));
    let shown = match rest.len() {
        0 => "its own certificate alone".to_owned(),
        1 => "its own certificate and 1 more".to_owned(),
        more => format!("its own certificate and {more} more"),
    };
    match (configured, system) {
        (Ok(()), Ok(())) => Answer::good(
            id,
            format!(
                "{} and the system's authorities vouch for {host}, which shows {shown}",
                authorities.files
            ),
        ),
        (Ok(()), Err(_)) => Answer::good(
            id,
            format!(
                "{} vouches for {host}, which shows {shown}; the system's authorities do not",
                authorities.files
            ),
        ),
        (Err(_), Ok(())) => Answer::good(
            id,
            format!("the system's authorities vouch for {host}, which shows {shown}"),
        ),
        (Err(why), Err(_)) => {
            let nobody = match authorities.files.as_str() {
                "" => format!(
                    "the system's authorities do not vouch for {host}, and no others are named"
                ),
                files => {
                    format!("neither {files} nor the system's authorities vouch for {host}")
                }
            };
            let why = match why {
                webpki::Error::UnknownIssuer => "none of these has signed it".to_owned(),
                other => other.to_string(),
            };
            let message = format!("{nobody}; it shows {shown}: {why}");
            Answer::bad(
                id,
                message,
                "name the file of its authority as `ca_file` of the registry in the settings, or put it as *.crt into the registry's folder of \
                 certs.d; where an authority between is missing, let the registry show it too",
            )
        }
    }
}

fn verify(
    certificate: &EndEntityCert<'_>,
    rest: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    time: UnixTime,
) -> Result<(), webpki::Error> {
    verify_for(certificate, rest, anchors, time, KeyUsage::server_auth())
}

/// Takes certificates for whatever use.
struct AnyUse;

impl ExtendedKeyUsageValidator for AnyUse {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn verify_for(
    certificate: &EndEntityCert<'_>,
    rest: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    time: UnixTime,
    usage: impl ExtendedKeyUsageValidator,
) -> Result<(), webpki::Error> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms.all;
    certificate
        .verify_for_usage(algorithms, anchors, rest, time, usage, None, None)
        .map(|_| ())
}

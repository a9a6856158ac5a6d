//! Reaching the daemon.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    cli::{
        duration,
        failure::{Failure, causes},
        output::Output,
        patience::Patient,
    },
    grpc::v1::mirror_service_client::MirrorServiceClient,
};

/// Where the daemon listens unless settings say otherwise.
pub const DEFAULT_ENDPOINT: &str = "unix:///run/imagesetd/imagesetd.sock";

/// The largest answer that is taken: documents and a page of 10,000 steps fit many times over.
const LARGEST_ANSWER: usize = 64 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// However short the patience, the daemon is not asked for signs of life more often than this.
const SHORTEST_PING: Duration = Duration::from_millis(500);

/// The client of the API.
pub type Client = MirrorServiceClient<InterceptedService<Patient<Channel>, Bearer>>;

/// How to reach the daemon; every verb that asks it has these.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Where the daemon listens: unix:///PATH, http://HOST:PORT on this machine, or https://HOST:PORT
    #[arg(long, value_name = "URL", env = "IMAGESETD_ENDPOINT", default_value = DEFAULT_ENDPOINT)]
    pub endpoint: String,
    /// File that holds a bearer token [env: IMAGESETD_TOKEN_FILE, or the token itself in IMAGESETD_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the CA certificates that are trusted instead of the system's [env: IMAGESETD_CA_FILE]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// PEM file with this client's certificate [env: IMAGESETD_CLIENT_CERT]
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// PEM file with the key of this client's certificate [env: IMAGESETD_CLIENT_KEY]
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// Name that the daemon's certificate has to be for, where it is not the endpoint's host [env: IMAGESETD_SERVER_NAME]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// How long the daemon may leave a request without an answer, or without a sign of life where it takes long, as plans and runs do
    #[arg(long, value_name = "DURATION", env = "IMAGESETD_REQUEST_TIMEOUT", default_value = "60s", value_parser = duration::parse_some)]
    pub request_timeout: Duration,
}

/// The options of a verb that asks the daemon.
#[derive(Debug, Clone, Args)]
pub struct Asking {
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// See [`Connection`].
    #[command(flatten)]
    pub connection: Connection,
}

impl Connection {
    /// Connects to the daemon.
    pub async fn connect(&self) -> Result<Client, Failure> {
        let token = self.token()?;
        let endpoint = self.endpoint(token.is_some())?;
        // The endpoint's own limit ends with the TCP handshake; that of TLS may hang as well, and has half as long on top.
        let limit = self.connect_timeout();
        let limit = limit + limit / 2;
        let channel = match tokio::time::timeout(limit, endpoint.connect()).await {
            Ok(connected) => connected.map_err(|error| self.unreachable(&error))?,
            Err(_) => return Err(self.no_daemon(&format!("nothing came back within {limit:?}"))),
        };
        let channel = Patient::new(channel, self.request_timeout, &self.endpoint);
        let client = MirrorServiceClient::with_interceptor(channel, Bearer(token));
        Ok(client.max_decoding_message_size(LARGEST_ANSWER))
    }

    fn connect_timeout(&self) -> Duration {
        CONNECT_TIMEOUT.min(self.request_timeout)
    }

    fn endpoint(&self, has_token: bool) -> Result<Endpoint, Failure> {
        let url = match self.endpoint.strip_prefix("tcp://") {
            Some(address) => format!("http://{address}"),
            None => self.endpoint.clone(),
        };
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            "unix" | "http" if self.has_tls_options() => {
                return Err(Failure::usage(format!(
                    "--ca-file, --client-cert and --server-name need an https endpoint, and {url} is none"
                )));
            }
            "unix" => {}
            "http" if has_token && !is_loopback(&url) => {
                return Err(Failure::usage(format!(
                    "a token is never sent in the clear: {url} is neither https nor on this machine"
                )));
            }
            "http" => {}
            "https" => {}
            _ => {
                return Err(
                    self.not_an_endpoint(&"it begins with none of unix://, http://, https://")
                );
            }
        }
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(|error| self.not_an_endpoint(&causes(&error)))?;
        let endpoint = endpoint
            // All addresses of a name share this: where the first does not answer, the others are asked.
            .connect_timeout(self.connect_timeout())
            .tcp_keepalive(Some(Duration::from_secs(30)))
            // Requests that take long are told from a daemon that hangs by its answers to pings. Short ones give up before that.
            .http2_keep_alive_interval(self.request_timeout.div_f32(3.0).max(SHORTEST_PING))
            .keep_alive_timeout(self.request_timeout);
        match scheme {
            "https" => endpoint.tls_config(self.tls()?).map_err(|error| {
                Failure::usage(format!(
                    "the certificates for {url} cannot be used: {}",
                    causes(&error)
                ))
            }),
            _ => Ok(endpoint),
        }
    }

    fn not_an_endpoint(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::usage(format!("`{}` is not an endpoint: {why}", self.endpoint))
    }

    fn has_tls_options(&self) -> bool {
        self.ca_file.is_some() || self.client_cert.is_some() || self.server_name.is_some()
    }

    fn tls(&self) -> Result<ClientTlsConfig, Failure> {
        // What the environment says is for https endpoints, and no mistake at others.
        let file = |said: &Option<PathBuf>, name| said.clone().or_else(|| environment(name));
        let mut tls = ClientTlsConfig::new();
        tls = match file(&self.ca_file, "IMAGESETD_CA_FILE") {
            Some(file) => tls.ca_certificate(Certificate::from_pem(read(&file)?)),
            None => tls.with_native_roots(),
        };
        let cert = file(&self.client_cert, "IMAGESETD_CLIENT_CERT");
        let key = file(&self.client_key, "IMAGESETD_CLIENT_KEY");
        match (cert, key) {
            (Some(cert), Some(key)) => {
                tls = tls.identity(Identity::from_pem(read(&cert)?, read(&key)?));
            }
            (None, None) => {}
            _ => {
                return Err(Failure::usage(
                    "a client certificate needs its key: set IMAGESETD_CLIENT_CERT and IMAGESETD_CLIENT_KEY, both of them",
                ));
            }
        }
        let name = self.server_name.clone();
        if let Some(name) = name.or_else(|| environment("IMAGESETD_SERVER_NAME")) {
            tls = tls.domain_name(name);
        }
        Ok(tls)
    }

    fn token(&self) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let file = self.token_file.clone();
        let token = match file.or_else(|| environment("IMAGESETD_TOKEN_FILE")) {
            Some(file) => Some(read(&file)?),
            None => environment("IMAGESETD_TOKEN"),
        };
        let Some(token) = token
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty())
        else {
            return Ok(None);
        };
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| {
            Failure::usage("the token holds characters that no token has; is it the right file?")
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn unreachable(&self, error: &tonic::transport::Error) -> Failure {
        let cause = causes(error);
        if let Some((reason, remedy)) = certificate_trouble(error) {
            return Failure::new(
                reason,
                Code::Unavailable,
                format!("{}: {cause}; {remedy}", self.endpoint),
            );
        }
        match io_kind(error) {
            Some(ErrorKind::PermissionDenied) => Failure::new(
                "SOCKET_PERMISSION",
                Code::PermissionDenied,
                format!(
                    "{}: {cause}; the socket belongs to a group that you are not in (setting `socket_group`)",
                    self.endpoint
                ),
            ),
            Some(ErrorKind::TimedOut) => {
                let limit = self.connect_timeout();
                self.no_daemon(&format!("nothing came back within {limit:?}"))
            }
            _ => self.no_daemon(&cause),
        }
    }

    fn no_daemon(&self, why: &str) -> Failure {
        Failure::new(
            "DAEMON_UNREACHABLE",
            Code::Unavailable,
            format!(
                "no daemon answers at {}: {why}; is it running, and does --endpoint name where it listens?",
                self.endpoint
            ),
        )
    }
}

/// Returns what the environment says, if anything.
fn environment<T: From<String>>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok();
    value.filter(|value| !value.is_empty()).map(T::from)
}

/// Finds the kind of the I/O error that is behind an error, if there is one.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    io_errors(error).map(std::io::Error::kind).last()
}

fn io_errors<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a std::io::Error> {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
}

/// Says what to do where the daemon's certificate was refused: its stable word, and the remedy.
fn certificate_trouble(
    error: &(dyn std::error::Error + 'static),
) -> Option<(&'static str, &'static str)> {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    let refused = io_errors(error)
        .filter_map(|error| error.get_ref()?.downcast_ref::<rustls::Error>())
        .find_map(|error| match error {
            rustls::Error::InvalidCertificate(refused) => Some(refused),
            _ => None,
        })?;
    Some(match refused {
        NotValidForName | NotValidForNameContext { .. } => (
            "CERTIFICATE_NAME",
            "the daemon's certificate is for other names; --server-name says which one is meant",
        ),
        _ => (
            "CERTIFICATE_UNTRUSTED",
            "the daemon's certificate is not trusted; --ca-file names the authority that signed it",
        ),
    })
}

fn is_loopback(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else {
        return false;
    };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        Failure::precondition(
            "FILE_UNREADABLE",
            format!("reading {}: {error}", file.display()),
        )
    })
}

/// Puts the token on each request.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(endpoint: &str) -> Connection {
        Connection {
            endpoint: endpoint.to_owned(),
            token_file: None,
            ca_file: None,
            client_cert: None,
            client_key: None,
            server_name: None,
            request_timeout: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_token_is_never_sent_in_the_clear_to_another_machine() {
        let refused = |endpoint| {
            connection(endpoint)
                .endpoint(true)
                .map(|_| ())
                .map_err(|f| f.message)
        };
        assert_eq!(
            refused("http://mirror.lan:9443"),
            Err("a token is never sent in the clear: http://mirror.lan:9443 is neither https nor on this machine".to_owned())
        );
        assert!(refused("http://127.0.0.1:9443").is_ok());
        assert!(refused("tcp://[::1]:9443").is_ok());
        assert!(refused("unix:///run/x.sock").is_ok());
    }

    #[test]
    fn an_endpoint_that_is_none_is_a_usage_error() {
        let failure = connection("mirror.lan:9443").endpoint(false).unwrap_err();
        assert_eq!(failure.exit(), crate::cli::failure::Exit::Usage);
        assert_eq!(
            failure.message,
            "`mirror.lan:9443` is not an endpoint: it begins with none of unix://, http://, https://"
        );
    }

    #[test]
    fn certificates_mean_nothing_without_https() {
        let connection = Connection {
            server_name: Some("x".to_owned()),
            ..connection("unix:///run/x.sock")
        };
        assert!(connection.endpoint(false).is_err());
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = format!("unix://{}/none.sock", folder.path().display());
        let failure = connection(&endpoint)
            .connect()
            .await
            .map(|_| ())
            .unwrap_err();
        assert_eq!(failure.reason, "DAEMON_UNREACHABLE");
        assert_eq!(failure.exit(), crate::cli::failure::Exit::Unavailable);
        assert!(
            failure.message.contains("No such file"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn the_token_is_not_in_debug_output() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "canary-7\n").unwrap();
        let connection = Connection {
            token_file: Some(file),
            ..connection("unix:///x")
        };
        let token = connection.token().unwrap().unwrap();
        assert_eq!(token.to_str().unwrap(), "Bearer canary-7");
        assert!(!format!("{token:?} {connection:?}").contains("canary"));
    }
}

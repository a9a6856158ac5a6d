//! Asks an update service (Cincinnati, the OpenShift Update Service) for graphs.

use std::{collections::BTreeSet, error::Error as StdError, fmt, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use http::{StatusCode, header};
use reqwest::{Client, Response, redirect};
use url::Url;

use crate::{
    model::{
        imageset::ChannelType,
        release::{
            graph::{Graph, GraphError, MAX_GRAPH_BYTES},
            select::{GraphKey, Graphs},
            shown,
        },
    },
    registry::{Proxies, web_client},
};

/// Red Hat's update service for OpenShift.
pub const OCP: &str = "https://api.openshift.com/api/upgrades_info/v1/graph";

/// The update service of OKD.
pub const OKD: &str = "https://origin-release.ci.openshift.org/graph";

/// How many graphs are asked for side by side.
const AT_ONCE: usize = 8;

/// What a server asks to wait is heeded up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How an update service is talked to.
///
/// There is no bound on the whole of a request: a slow link that makes headway is left alone.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a connection may take to come up.
    pub connect_timeout: Duration,
    /// How long nothing may come on one that is up.
    pub idle_timeout: Duration,
    /// How often a transient failure is tried again.
    pub retries: u32,
    /// The pause before the first new try; each further one is twice as long.
    pub backoff: Duration,
    /// Further CA certificates, as PEM, beside the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// The proxies on the way.
    pub proxies: Proxies,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            connect_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(60),
            retries: 3,
            backoff: Duration::from_secs(1),
            ca_pem: None,
            proxies: Proxies::of_environment(),
        }
    }
}

/// Why there is no graph, as a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The base URL is no place to ask.
    #[error(
        "`{0}` is not the URL of an update service: it begins with https:// (or http://) and usually ends in /graph"
    )]
    Base(String),
    /// There can be no HTTP client.
    #[error("the HTTP client for update services cannot be set up: {}", cause(.0))]
    Client(#[source] reqwest::Error),
    /// No answer came, or it broke off.
    #[error("{asked} failed after {attempts} attempts: {}; {}", cause(.source), remedy(.source))]
    Unreachable {
        /// What was asked for.
        asked: Asked,
        /// How often.
        attempts: u32,
        /// What happened the last time.
        source: reqwest::Error,
    },
    /// The answer is a refusal.
    #[error("{asked} was answered with {status}{said}; {}", status_remedy(*.status))]
    Status {
        /// What was asked for.
        asked: Asked,
        /// The status of the last attempt.
        status: StatusCode,
        /// The beginning of what came with it, after a colon.
        said: String,
    },
    /// The answer is larger than a graph can be.
    #[error(
        "{asked} was answered with more than {MAX_GRAPH_BYTES} bytes, which no update graph has; check the URL"
    )]
    TooLarge {
        /// What was asked for.
        asked: Asked,
    },
    /// The answer is something else.
    #[error(
        "{asked}: the update graph {source}; check the URL, and whether a proxy answers in its place"
    )]
    Graph {
        /// What was asked for.
        asked: Asked,
        /// What is wrong with it.
        source: GraphError,
    },
}

impl Error {
    /// Whether waiting or a better connection can help; else the question is wrong.
    pub fn is_unavailable(&self) -> bool {
        !matches!(self, Error::Base(_))
    }
}

/// What was asked of whom, for messages: without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked(String);

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A client of the update services.
#[derive(Clone)]
pub struct UpdateService {
    ocp: Url,
    okd: Url,
    client: Client,
    options: Options,
}

impl fmt::Debug for UpdateService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ocp, okd) = (public(&self.ocp), public(&self.okd));
        f.debug_struct("UpdateService")
            .field("ocp", &ocp)
            .field("okd", &okd)
            .finish_non_exhaustive()
    }
}

impl UpdateService {
    /// Prepares to ask.
    ///
    /// The base URLs are those of the graphs themselves; what they hold as query is kept. Proxies are taken from the
    /// environment (`HTTPS_PROXY`, `NO_PROXY`), certificates from the system (`SSL_CERT_FILE`).
    pub fn new(ocp: Url, okd: Url, options: Options) -> Result<Self, Error> {
        for base in [&ocp, &okd] {
            if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
                return Err(Error::Base(public(base)));
            }
        }
        let client = options.client().map_err(Error::Client)?;
        Ok(UpdateService {
            ocp,
            okd,
            client,
            options,
        })
    }

    /// Fetches the graph of a channel. A channel that does not exist is an empty graph: update services say no more.
    ///
    /// The query is `channel` and `arch`. `id` stays out: it is a cluster's identity, optional, and a random one, as
    /// oc-mirror sends, says nothing. So does `version`: the whole channel is wanted. Transient failures (no connection, an
    /// answer that breaks off, 408, 429, 5xx) are tried again with growing pauses, or as the server asks.
    pub async fn graph(&self, key: &GraphKey) -> Result<Graph, Error> {
        let url = self.url(key);
        let asked = Asked(format!("asking {}", public(&url)));
        let mut attempts = 0;
        loop {
            attempts += 1;
            let failure = match self.attempt(&url, &asked).await {
                Ok(body) => {
                    return Graph::parse(&body).map_err(|source| Error::Graph { asked, source });
                }
                Err(failure) => failure,
            };
            if !failure.transient || attempts > self.options.retries {
                return Err(failure.into_error(asked, attempts));
            }
            let pause = failure.wait.unwrap_or_else(|| self.options.pause(attempts));
            tracing::debug!(%asked, attempts, ?pause, "asking the update service again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Fetches graphs side by side; one that cannot be had is in the answer as the sentence that says why.
    pub async fn graphs(&self, keys: BTreeSet<GraphKey>) -> Graphs {
        let asked = keys.into_iter().map(|key| async move {
            let graph = self.graph(&key).await;
            let graph = graph.map(Arc::new).map_err(|error| error.to_string());
            (key, graph)
        });
        let answers = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
        answers.collect().await
    }

    fn url(&self, key: &GraphKey) -> Url {
        let base = match key.channel_type {
            ChannelType::Ocp => &self.ocp,
            ChannelType::Okd => &self.okd,
        };
        let mut url = base.clone();
        let ours = |name: &str| matches!(name, "channel" | "arch");
        let kept = base.query_pairs().filter(|(name, _)| !ours(name));
        url.query_pairs_mut()
            .clear()
            .extend_pairs(kept)
            .append_pair("channel", &key.channel)
            .append_pair("arch", &key.arch);
        url
    }

    async fn attempt(&self, url: &Url, asked: &Asked) -> Result<Vec<u8>, Failure> {
        let request = self.client.get(url.clone());
        let request = request.header(header::ACCEPT, "application/json");
        let response = request.send().await.map_err(Failure::broken)?;
        if !response.status().is_success() {
            return Err(Failure::refused(response).await);
        }
        body(response, MAX_GRAPH_BYTES).await?.ok_or_else(|| {
            let asked = asked.clone();
            Failure::lasting(Cause::Error(Error::TooLarge { asked }))
        })
    }
}

impl Options {
    /// Returns the pause after so many attempts. It grows with them and is spread a little, so that many agents do not come back
    /// at once.
    pub(super) fn pause(&self, attempts: u32) -> Duration {
        let factor = 1_u32 << (attempts - 1).min(5);
        let pause = self.backoff.saturating_mul(factor);
        pause
            .mul_f64(0.75 + fastrand::f64() / 2.0)
            .min(LONGEST_WAIT)
    }

    /// Returns a client that goes by these options; needs rustls' default crypto provider installed.
    pub(super) fn client(&self) -> Result<Client, reqwest::Error> {
        let mut builder = web_client(&self.proxies)
            .connect_timeout(self.connect_timeout)
            .read_timeout(self.idle_timeout)
            .redirect(redirect::Policy::custom(follow));
        if let Some(pem) = &self.ca_pem {
            let roots = reqwest::Certificate::from_pem_bundle(pem)?;
            builder = builder.tls_certs_merge(roots);
        }
        builder.build()
    }
}

/// One attempt that failed.
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) transient: bool,
    pub(super) wait: Option<Duration>,
}

pub(super) enum Cause {
    Broken(reqwest::Error),
    Refused(StatusCode, String),
    Error(Error),
}

impl Failure {
    fn lasting(cause: Cause) -> Self {
        Failure {
            cause,
            transient: false,
            wait: None,
        }
    }

    pub(super) fn broken(error: reqwest::Error) -> Self {
        // The URL may carry credentials; a certificate that is not trusted now will not be in a second.
        let error = error.without_url();
        Failure {
            transient: !error.is_redirect() && !error.is_builder() && !is_certificate(&error),
            cause: Cause::Broken(error),
            wait: None,
        }
    }

    pub(super) async fn refused(response: Response) -> Self {
        let status = response.status();
        let transient = status.is_server_error()
            || status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::REQUEST_TIMEOUT;
        let wait = response.headers().get(header::RETRY_AFTER);
        let wait = wait.and_then(|value| value.to_str().ok()?.parse().ok());
        let wait = wait.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        let said = body(response, 16 << 10).await.ok().flatten();
        Failure {
            cause: Cause::Refused(status, said.map_or_else(String::new, said_in)),
            transient,
            wait,
        }
    }

    fn into_error(self, asked: Asked, attempts: u32) -> Error {
        match self.cause {
            Cause::Broken(source) => Error::Unreachable {
                asked,
                attempts,
                source,
            },
            Cause::Refused(status, said) => Error::Status {
                asked,
                status,
                said,
            },
            Cause::Error(error) => error,
        }
    }
}

/// Reads a body whole; nothing where it is larger than the limit.
pub(super) async fn body(mut response: Response, limit: usize) -> Result<Option<Vec<u8>>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Failure::broken)? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// Returns what a refusal says: the value of Cincinnati's `{"kind","value"}`, or else its text where that is no HTML page.
fn said_in(body: Vec<u8>) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let value = json.as_ref().and_then(|json| json.get("value")?.as_str());
    let text = String::from_utf8_lossy(&body);
    let text = value.unwrap_or_else(|| text.trim());
    if text.is_empty() || text.starts_with('<') {
        return String::new();
    }
    format!(": {}", shown(text))
}

/// Follows redirects, but never from HTTPS to plain HTTP: what a graph says decides which images are mirrored.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let secure = attempt.previous().iter().any(|url| url.scheme() == "https");
    if secure && attempt.url().scheme() != "https" {
        return attempt.error("it redirects from HTTPS to plain HTTP");
    }
    if attempt.previous().len() > 10 {
        return attempt.error("it redirects too often");
    }
    attempt.follow()
}

/// Returns a URL fit to be shown: without credentials, and of its query only what says which graph.
fn public(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs that cannot have credentials.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    let pairs = url.query_pairs();
    let ours: Vec<_> = pairs
        .filter(|(name, _)| matches!(name.as_ref(), "channel" | "arch"))
        .collect();
    if ours.is_empty() {
        shown.set_query(None);
    } else {
        shown.query_pairs_mut().clear().extend_pairs(ours);
    }
    shown.to_string()
}

/// Returns the innermost cause, which is what a person can do something about, after the outermost statement.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn StdError = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let (outer, inner) = (error.to_string(), innermost.to_string());
    if outer == inner {
        shown(&outer)
    } else {
        shown(&format!("{outer}: {inner}"))
    }
}

pub(super) fn is_certificate(error: &reqwest::Error) -> bool {
    cause(error).contains("certificate")
}

fn remedy(error: &reqwest::Error) -> &'static str {
    if is_certificate(error) {
        "if a proxy opens TLS on the way, name a file that holds its CA in SSL_CERT_FILE or add it to the system's"
    } else if error.is_redirect() {
        "name the URL it redirects to as that of the update service, if you trust it"
    } else {
        "check that this host may reach it; behind a proxy set HTTPS_PROXY and NO_PROXY"
    }
}

fn status_remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        407 => "give the proxy's credentials in HTTPS_PROXY",
        401 | 403 => "check that this host may ask it, and whether a proxy answers in its place",
        429 | 500.. => "try again later, or name another update service",
        _ => "check the URL of the update service and the names of channel and architecture",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn key() -> GraphKey {
        GraphKey {
            channel_type: ChannelType::Ocp,
            channel: "stable-4.13&x=y".to_owned(),
            arch: "amd64".to_owned(),
        }
    }

    fn service(base: &str) -> Result<UpdateService, Error> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        UpdateService::new(url(base), url(OKD), Options::default())
    }

    #[test]
    fn question_keeps_the_query_of_the_base_and_escapes_names() {
        let service = service("https://u:p@h/graph?token=t&channel=old").unwrap();
        assert_eq!(
            service.url(&key()).as_str(),
            "https://u:p@h/graph?token=t&channel=stable-4.13%26x%3Dy&arch=amd64"
        );
    }

    #[test]
    fn credentials_are_not_shown() {
        let service = service("https://u:secret@h/graph?token=secret#secret").unwrap();
        assert_eq!(
            public(&service.url(&key())),
            "https://h/graph?channel=stable-4.13%26x%3Dy&arch=amd64"
        );
        assert!(!format!("{service:?}").contains("secret"));
    }

    #[test]
    fn base_that_is_not_http_is_refused() {
        let error = service("file:///graph").unwrap_err().to_string();
        assert!(
            error.starts_with("`file:///graph` is not the URL of an update service"),
            "{error}"
        );
    }

    #[test]
    fn refusals_are_quoted_unless_they_are_pages() {
        let said = |body: &str| said_in(body.as_bytes().to_vec());
        assert_eq!(
            said(
                r#"{"kind":"missing_params","value":"mandatory client parameters missing: channel"}"#
            ),
            ": mandatory client parameters missing: channel"
        );
        assert_eq!(said("no\u{1b}[31m"), ": no [31m");
        assert_eq!(said(" <html>"), "");
        assert_eq!(said(""), "");
    }
}

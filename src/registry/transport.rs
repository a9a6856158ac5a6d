//! Sends requests to one registry: within its budget, with its credentials, again where that helps.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};
use tokio::time::Instant;
use url::Url;

use crate::{
    model::image::Registry,
    registry::{
        auth::Credentials,
        body::Progress,
        challenge::Challenge,
        connection::{Clients, Connections, Reach, authority},
        error::{Error, Fault, Problem, Task},
        pace::{Admission, MAX_REST, Pace},
        proof::{Knowledge, Proof},
        protocol::{self, Address, Answer, Lane, Request},
        proxy::Proxies,
        redirect::{self, MAX_REDIRECTS, Next},
        refusal::{Diagnostic, Refused},
        registries_conf::RegistriesConf,
        tls::CertFolders,
        token::Reserve,
    },
};

pub use crate::registry::connection::{Access, Scheme, Timeouts};

/// How registries are spoken to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who asks.
    pub credentials: Credentials,
    /// How single registries are reached.
    pub access: BTreeMap<Registry, Access>,
    /// How all others are reached.
    pub default_access: Access,
    /// Where certificates for single registries are, beside those that `access` names.
    pub certs: CertFolders,
    /// The proxies on the way.
    pub proxies: Proxies,
    /// Where upstreams are remapped, mirrored or blocked.
    pub registries_conf: RegistriesConf,
    /// How often a request is sent again after a transient failure.
    pub retries: u32,
    /// What the client calls itself.
    pub user_agent: String,
    /// How many requests of one kind a registry gets at once at most; how many it gets is found out (see `pace`).
    pub requests_per_host: usize,
    /// How long a silence is borne.
    pub timeouts: Timeouts,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            credentials: Credentials::none(),
            access: BTreeMap::new(),
            default_access: Access::default(),
            certs: CertFolders::None,
            proxies: Proxies::default(),
            registries_conf: RegistriesConf::default(),
            retries: 5,
            user_agent: concat!("imagesetd/", env!("CARGO_PKG_VERSION")).to_owned(),
            requests_per_host: 32,
            timeouts: Timeouts::default(),
        }
    }
}

/// How long a registry that is away is not asked, where another has the same.
const SPARED: Duration = Duration::from_secs(60);

/// The first wait between two attempts; each further one is twice as long, up to [`MAX_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// One registry.
#[derive(Debug)]
pub(super) struct Host {
    registry: Registry,
    pub(super) options: Arc<Options>,
    pub(super) connections: Arc<Connections>,
    pub(super) access: Access,
    pub(super) pace: Arc<Pace>,
    /// Under which URL it answered; unknown before the first answer.
    base: OnceLock<Url>,
    pub(super) knowledge: Knowledge,
    /// Until when it is left alone where there is another place to ask: it was away a moment ago.
    spared: Mutex<Option<Instant>>,
}

/// An answer of success whose body is still to come. Its place in the host's budget is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) response: reqwest::Response,
    _permit: Admission,
}

impl Host {
    pub(super) fn new(
        registry: Registry,
        options: Arc<Options>,
        connections: Arc<Connections>,
    ) -> Self {
        let access = options.access.get(&registry);
        let access = access.unwrap_or(&options.default_access).clone();
        let pace = Pace::new(options.requests_per_host);
        Host {
            registry,
            options,
            connections,
            access,
            pace,
            base: OnceLock::new(),
            knowledge: Knowledge::default(),
            spared: Mutex::default(),
        }
    }

    /// Has it left alone for a while, where there is another place to ask.
    pub(super) fn spare(&self) {
        let mut spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
        *spared = Some(Instant::now() + SPARED);
    }

    /// Whether it was away a moment ago.
    pub(super) fn is_spared(&self) -> bool {
        let spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
        spared.is_some_and(|until| Instant::now() < until)
    }

    /// Returns how the host is named in messages.
    pub(super) fn name(&self) -> String {
        protocol::host(&self.registry).to_owned()
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.options.timeouts
    }

    /// Sends `request` until it succeeds, fails for good, or has failed too often; reads the whole answer.
    pub(super) async fn call(&self, request: &Request) -> Result<Answer, Error> {
        let mut attempt = 0;
        loop {
            let error = match self.attempt(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(wait) = backoff(&error, attempt, self.options.retries, fastrand::f64()) else {
                return Err(error);
            };
            tracing::debug!(%error, attempt, ?wait, "asking the registry again");
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// Sends `request` once; reads the whole answer.
    pub(super) async fn attempt(&self, request: &Request) -> Result<Answer, Error> {
        let open = self.open(request).await?;
        let (status, headers) = (open.response.status(), open.response.headers().clone());
        let url = open.response.url().clone();
        let limit = request.limit;
        let body = self.read(open, &request.task, limit).await?;
        Ok(Answer {
            status,
            headers,
            url,
            body,
        })
    }

    /// Sends `request` once, and again where it needs another proof of who asks; the body is the caller's to read.
    pub(super) async fn open(&self, request: &Request) -> Result<Open, Error> {
        let mut discovery = self.knowledge.discover().await;
        let mut needed = request.scopes.clone();
        // To learn what is asked for, to say who asks, and to say it again with what has taken the place of that.
        let mut left = 3;
        loop {
            left -= 1;
            let proof = self.proof(request, &needed, Reserve::Short).await?;
            let body = || reqwest::Body::from(request.body.clone());
            let permit = self.place(request).await?;
            let response = permit.heeding(self.send(request, &proof, body).await)?;
            let renewable = self.learn(request, &response, &proof).await;
            discovery.take();
            match renewable.filter(|_| left > 0) {
                None => return self.opened(request, &proof, response, permit).await,
                Some(Challenge::Bearer { scopes, .. }) => needed.widen(&scopes),
                Some(Challenge::Basic) => {}
            }
        }
    }

    /// Sends `request` with a body that exists once and that `progress` watches; returns the answer of success.
    ///
    /// Where the token has run out meanwhile, the error says so and the next one is new.
    pub(super) async fn send_once(
        &self,
        request: &Request,
        body: reqwest::Body,
        progress: &Progress,
    ) -> Result<Open, Error> {
        let proof = self.proof(request, &request.scopes, Reserve::Half).await?;
        let permit = self.place(request).await?;
        // Waiting for one's turn is not silence: the watch begins here.
        progress.begin();
        let mut body = Some(body);
        let sending = self.send(request, &proof, || body.take().unwrap_or_default());
        let response = match progress.watch(self.options.timeouts, sending).await {
            Ok(response) => permit.heeding(response)?,
            Err(silence) => return Err(self.unreachable(&request.task, silence, None)),
        };
        let renewable = self.learn(request, &response, &proof).await.is_some();
        // A token may end while the body is on its way, however new it was: a registry that took all of it did not refuse who asked
        // when it began.
        let outlived = renewable || (proof.is_token() && progress.is_whole());
        let opened = self.opened(request, &proof, response, permit).await;
        opened.map_err(|error| match error {
            Error::Refused(mut refused) => {
                refused.outlived = outlived && refused.status == StatusCode::UNAUTHORIZED;
                Error::Refused(refused)
            }
            other => other,
        })
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) async fn read(
        &self,
        mut open: Open,
        task: &Task,
        limit: usize,
    ) -> Result<Bytes, Error> {
        let announced = open.response.content_length().unwrap_or(0);
        let too_large = || self.answer(task, Problem::TooLarge { limit });
        if announced > limit as u64 {
            return Err(too_large());
        }
        let mut body = BytesMut::with_capacity(announced as usize);
        while let Some(chunk) = self.chunk(&mut open, task).await? {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Returns the next piece of a body, `None` at its end.
    pub(super) async fn chunk(&self, open: &mut Open, task: &Task) -> Result<Option<Bytes>, Error> {
        let idle = self.options.timeouts.idle;
        match tokio::time::timeout(idle, open.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(self.unreachable(task, Fault::Broken, Some(error))),
            Err(_) => Err(self.unreachable(task, Fault::Silent(idle), None)),
        }
    }

    /// Says that no whole answer came.
    pub(super) fn unreachable(
        &self,
        task: &Task,
        fault: Fault,
        source: Option<reqwest::Error>,
    ) -> Error {
        Error::Unreachable {
            task: Box::new(task.clone()),
            host: self.name(),
            fault,
            // Its URL may be a signed one.
            source: source.map(|e| e.without_url().into()),
        }
    }

    /// Says what is wrong with an answer.
    pub(super) fn answer(&self, task: &Task, problem: Problem) -> Error {
        Error::Answer {
            task: Box::new(task.clone()),
            host: self.name(),
            problem,
        }
    }

    /// Whether a URL is the registry's own, so that its credentials may go there.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        self.bases().iter().any(|base| protocol::belongs(base, url))
    }

    /// Returns the URLs under which the registry may be, the first to be tried first.
    pub(super) fn bases(&self) -> Vec<Url> {
        if let Some(base) = self.base.get() {
            return vec![base.clone()];
        }
        let schemes: &[&str] = match self.access.scheme {
            Scheme::Https => &["https"],
            Scheme::Http => &["http"],
            Scheme::HttpsOrHttp => &["https", "http"],
        };
        let host = protocol::host(&self.registry);
        let urls = schemes
            .iter()
            .map(|s| Url::parse(&format!("{s}://{host}/")));
        urls.filter_map(Result::ok).collect()
    }

    /// One exchange: sends, and returns when the answer begins, whatever its status.
    async fn send(
        &self,
        request: &Request,
        proof: &Proof,
        mut body: impl FnMut() -> reqwest::Body,
    ) -> Result<reqwest::Response, Error> {
        let mut first = None;
        for base in self.bases() {
            let url = match &request.address {
                Address::Path(path) => base.join(path).map_err(|_| self.bad_url(path))?,
                Address::Url(url) => url.clone(),
            };
            match self.exchange(request, url, proof, body()).await {
                Ok(response) => {
                    let _ = self.base.set(base);
                    return Ok(response);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| self.bad_url(self.registry.as_str())))
    }

    fn bad_url(&self, text: &str) -> Error {
        Error::Connections {
            host: self.name(),
            reason: format!("`{}` makes no URL", protocol::printable(text, 120)),
            source: None,
        }
    }

    /// Waits until `request` may be sent.
    async fn place(&self, request: &Request) -> Result<Admission, Error> {
        let admission = self.pace.admit(request.lane, request.again).await;
        admission.map_err(|left| self.unreachable(&request.task, Fault::Resting(left), None))
    }

    /// Sends a request on its way, over redirects; `body` goes along where it can be sent again.
    async fn exchange(
        &self,
        request: &Request,
        mut url: Url,
        proof: &Proof,
        body: reqwest::Body,
    ) -> Result<reqwest::Response, Error> {
        let mut authorization = proof.header.as_ref();
        let mut body = Some(body);
        for _ in 0..=MAX_REDIRECTS {
            if !self.is_own(&url) {
                authorization = None;
            }
            let mut out = self
                .clients(&url, request.lane)?
                .request(request.method.clone(), url.clone())
                .headers(request.headers.clone())
                .header(header::ACCEPT_ENCODING, "identity");
            if carries_body(request) {
                out = out.body(body.take().unwrap_or_else(|| request.body.clone().into()));
            }
            if let Some(header) = authorization {
                out = out.header(header::AUTHORIZATION, header.clone());
            }
            let response = self.answer_of(request, &url, out).await?;
            // A body that streams is gone.
            if request.lane == Lane::Upload {
                return Ok(response);
            }
            let verified = request.lane == Lane::Download;
            let (status, headers) = (response.status(), response.headers());
            url = match redirect::next(&request.method, &url, status, headers, verified) {
                Next::Stay => return Ok(response),
                Next::Follow(url) => url,
                Next::Refuse => {
                    return Err(self.unreachable(&request.task, Fault::Redirects, None));
                }
            };
        }
        Err(self.unreachable(&request.task, Fault::Redirects, None))
    }

    /// Sends a request, and returns when its answer begins.
    async fn answer_of(
        &self,
        request: &Request,
        url: &Url,
        out: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Error> {
        let failed = |e: reqwest::Error| self.unreached(&request.task, url, e);
        // An upload's answer begins after its body; its progress is watched where the body is.
        if request.lane == Lane::Upload {
            return out.send().await.map_err(failed);
        }
        let idle = self.options.timeouts.idle;
        match tokio::time::timeout(idle, out.send()).await {
            Ok(sent) => sent.map_err(failed),
            Err(_) => Err(self.unreachable(&request.task, Fault::Silent(idle), None)),
        }
    }

    /// Says why `url` could not be reached, and names the proxy on the way.
    pub(super) fn unreached(&self, task: &Task, url: &Url, error: reqwest::Error) -> Error {
        let (host, fault) = self.connections.fault(url, &error);
        Error::Unreachable {
            task: Box::new(task.clone()),
            host,
            fault,
            // Its URL may be a signed one.
            source: Some(error.without_url().into()),
        }
    }

    /// Returns the client for a request to `url`: the registry's own, or that of another host which the registry names.
    fn clients(&self, url: &Url, lane: Lane) -> Result<reqwest::Client, Error> {
        let clients = self.clients_for(url)?;
        Ok(match lane {
            Lane::Download | Lane::Upload => clients.bulk,
            _ => clients.metadata,
        })
    }

    /// Returns the clients that reach `url`.
    ///
    /// Another host than the registry's is reached as settings and folders say for it, else as the registry is: a site's blob store has
    /// its certificate from the same authority. What is shown to the registry is not shown there.
    pub(super) fn clients_for(&self, url: &Url) -> Result<Clients, Error> {
        let (options, name) = (&self.options, self.registry.as_str());
        if self.is_own(url) {
            let mut access = self.access.clone();
            if url.scheme() == "https" && access.scheme == Scheme::Http {
                access.scheme = Scheme::Https;
            }
            let reach = Reach::of(name, &access, &options.certs)?;
            return self.connections.clients(name, &reach);
        }
        let other = authority(url);
        let named: Option<Registry> = other.parse().ok();
        let settings = named.as_ref().and_then(|n| options.access.get(n));
        let mut access = settings.cloned().unwrap_or_else(|| Access {
            client: None,
            ..self.access.clone()
        });
        access.scheme = match url.scheme() {
            "https" => Scheme::Https,
            _ => Scheme::Http,
        };
        let mut reach = Reach::of(&other, &access, &options.certs)?;
        if matches!(options.certs, CertFolders::One(_)) && settings.is_none() {
            reach.files.client = None;
        }
        if reach.tls && settings.is_none() {
            let lent = Reach::of(name, &self.access, &options.certs)?;
            reach.files.authorities.extend(lent.files.authorities);
            reach.files.authorities.sort();
            reach.files.authorities.dedup();
        }
        self.connections.clients(&other, &reach)
    }

    /// Returns an answer of success as one whose body can be read, and any other as the error it is.
    async fn opened(
        &self,
        request: &Request,
        proof: &Proof,
        response: reqwest::Response,
        permit: Admission,
    ) -> Result<Open, Error> {
        let status = response.status();
        let host = authority(response.url());
        let retry_after = protocol::retry_after(response.headers(), SystemTime::now());
        permit.answered(status, retry_after);
        let open = Open {
            response,
            _permit: permit,
        };
        if status.is_success() {
            return Ok(open);
        }
        // What cannot be read of the reasons does not change the refusal.
        let limit = protocol::MAX_ERROR_BYTES;
        let body = self.read(open, &request.task, limit).await;
        Err(Error::Refused(Box::new(Refused {
            task: request.task.clone(),
            host,
            status,
            diagnostics: Diagnostic::read(&body.unwrap_or_default()),
            retry_after,
            login: proof.login.clone(),
            outlived: false,
        })))
    }
}

fn carries_body(request: &Request) -> bool {
    request.method == Method::PUT || request.lane == Lane::Upload
}

/// Returns how long to wait before a request is sent again; `None` where it is not.
///
/// `jitter`, from 0 to 1, spreads those who failed together; what the server asks for is never cut short.
pub(super) fn backoff(error: &Error, attempt: u32, retries: u32, jitter: f64) -> Option<Duration> {
    if attempt >= retries || !error.is_transient() {
        return None;
    }
    let asked = error.retry_after();
    if asked.is_some_and(|asked| asked > MAX_REST) {
        return None;
    }
    let full = FIRST_BACKOFF
        .saturating_mul(1 << attempt.min(16))
        .min(MAX_BACKOFF);
    let own = full.mul_f64(0.5 + jitter / 2.0);
    Some(match asked {
        Some(asked) => asked + FIRST_BACKOFF.mul_f64(jitter),
        None => own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::refusal::Login;

    fn refused(status: u16, retry_after: Option<u64>) -> Error {
        Error::Refused(Box::new(Refused {
            task: Task::ListTags("reg.lan/a".parse().unwrap()),
            host: "reg.lan".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            diagnostics: Vec::new(),
            retry_after: retry_after.map(Duration::from_secs),
            login: Login::Elsewhere,
            outlived: false,
        }))
    }

    #[test]
    fn waits_grow_are_spread_and_end() {
        let wait = |attempt, jitter| backoff(&refused(503, None), attempt, 9, jitter);
        let millis = |n| Some(Duration::from_millis(n));
        assert_eq!(wait(0, 0.0), millis(125));
        assert_eq!(wait(0, 1.0), millis(250));
        assert_eq!(wait(3, 1.0), millis(2000));
        assert_eq!(wait(8, 1.0), millis(30_000));
        assert_eq!(wait(9, 1.0), None);
    }

    #[test]
    fn a_server_that_says_when_is_asked_then_and_not_before() {
        let wait = |after| backoff(&refused(429, Some(after)), 0, 5, 0.0);
        assert_eq!(wait(7), Some(Duration::from_secs(7)));
        assert_eq!(wait(0), Some(Duration::ZERO));
        assert_eq!(wait(3600), None);
    }

    #[test]
    fn what_will_not_change_is_not_asked_again() {
        for status in [400, 401, 403, 404, 405, 413, 501] {
            assert_eq!(
                backoff(&refused(status, Some(1)), 0, 5, 0.0),
                None,
                "{status}"
            );
        }
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(
                backoff(&refused(status, None), 0, 5, 0.0).is_some(),
                "{status}"
            );
        }
    }
}

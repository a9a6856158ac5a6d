//! Asks a registry's token service for tokens.

use std::time::SystemTime;

use http::{HeaderMap, Method, header};
use reqwest::{RequestBuilder, Response};
use url::Url;

use crate::{
    model::image::Repository,
    registry::{
        auth::{Credential, Found},
        challenge::TokenAnswer,
        connection::authority,
        error::{Error, Fault, Problem, Task},
        proof::basic,
        protocol::{self, Lane, MAX_ERROR_BYTES, Scopes},
        redirect::{self, MAX_REDIRECTS, Next},
        refusal::{Diagnostic, Login, Refused},
        token::Token,
        transport::Host,
    },
};

/// A token service, for one question.
pub(super) struct Service<'a> {
    host: &'a Host,
    realm: Url,
    name: Option<&'a str>,
    found: Option<&'a Found>,
    task: Task,
}

impl<'a> Service<'a> {
    /// The service at `realm`, which the registry named, asked in the name of who is `found`.
    ///
    /// Credentials go to a service without TLS only where the registry itself has none.
    pub(super) fn new(
        host: &'a Host,
        repository: &Repository,
        realm: &str,
        name: Option<&'a str>,
        found: Option<&'a Found>,
    ) -> Result<Self, Error> {
        let text = protocol::printable(realm, 80);
        let task = Task::Token(repository.clone(), text.clone());
        let bad = || host.answer(&task, Problem::BadRealm(text.clone()));
        let realm = Url::parse(realm).map_err(|_| bad())?;
        let task = Task::Token(repository.clone(), authority(&realm));
        let in_clear = host.bases().iter().any(|base| base.scheme() == "http");
        match realm.scheme() {
            "https" => {}
            "http" if found.is_none() || in_clear => {}
            "http" => return Err(host.answer(&task, Problem::InsecureRealm(authority(&realm)))),
            _ => return Err(bad()),
        }
        Ok(Service {
            host,
            realm,
            name,
            found,
            task,
        })
    }

    /// Asks for a token that allows `scopes`; once, since whoever waits for it asks again.
    pub(super) async fn token(&self, scopes: &Scopes) -> Result<Token, Error> {
        let place = self.host.pace.admit(Lane::Token, false).await;
        let place = place.map_err(|left| self.unreachable(Fault::Resting(left), None))?;
        let mut response = self.answer(scopes).await?;
        let retry_after = protocol::retry_after(response.headers(), SystemTime::now());
        place.answered(response.status(), retry_after);
        let body = self.read(&mut response).await?;
        drop(place);
        if !response.status().is_success() {
            return Err(self.refused(&response, &body));
        }
        let answer: Option<TokenAnswer> = serde_json::from_slice(&body).ok();
        let Some((answer, token)) = answer.as_ref().and_then(|a| Some((a, a.token()?))) else {
            return Err(self.wrong(Problem::NoToken));
        };
        let lifetime = answer.lifetime(date(response.headers()), SystemTime::now());
        Ok(Token::new(token.clone(), lifetime))
    }

    /// Sends the question, over redirects that stay at the service: one that leads elsewhere is not followed with who asks.
    async fn answer(&self, scopes: &Scopes) -> Result<Response, Error> {
        let idle = self.host.timeouts().idle;
        let mut url = self.url(scopes);
        for _ in 0..=MAX_REDIRECTS {
            let request = self.request(url.clone(), scopes)?;
            let response = match tokio::time::timeout(idle, request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(e)) => return Err(self.host.unreached(&self.task, &url, e)),
                Err(_) => return Err(self.unreachable(Fault::Silent(idle), None)),
            };
            let (status, headers) = (response.status(), response.headers());
            url = match redirect::next(&self.method(), &url, status, headers, false) {
                Next::Stay => return Ok(response),
                Next::Follow(next) if protocol::belongs(&self.realm, &next) => next,
                Next::Follow(_) | Next::Refuse => break,
            };
        }
        Err(self.unreachable(Fault::Redirects, None))
    }

    fn credential(&self) -> Option<&Credential> {
        self.found.map(|f| &f.credential)
    }

    fn method(&self) -> Method {
        match self.credential() {
            Some(Credential::IdentityToken(_)) => Method::POST,
            _ => Method::GET,
        }
    }

    fn request(&self, url: Url, scopes: &Scopes) -> Result<RequestBuilder, Error> {
        let client = self.host.clients_for(&url)?.metadata;
        let request = client.request(self.method(), url);
        Ok(match self.credential() {
            Some(Credential::IdentityToken(token)) => {
                let form = self.form(token.expose(), scopes);
                let kind = "application/x-www-form-urlencoded";
                request.header(header::CONTENT_TYPE, kind).body(form)
            }
            _ => match self.found.and_then(basic) {
                Some(header) => request.header(header::AUTHORIZATION, header),
                None => request,
            },
        })
    }

    fn form(&self, refresh_token: &str, scopes: &Scopes) -> String {
        let scopes: Vec<_> = scopes.0.iter().map(String::as_str).collect();
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", refresh_token)
            .append_pair("client_id", "imagesetd")
            .append_pair("service", self.name.unwrap_or_default())
            .append_pair("scope", &scopes.join(" "))
            .finish()
    }

    /// Returns where the question goes; an identity token's is in the body.
    fn url(&self, scopes: &Scopes) -> Url {
        let mut url = self.realm.clone();
        let credential = self.credential();
        if matches!(credential, Some(Credential::IdentityToken(_))) {
            return url;
        }
        let mut query = url.query_pairs_mut();
        query.extend_pairs(self.name.map(|name| ("service", name)));
        query.extend_pairs(scopes.0.iter().map(|scope| ("scope", scope)));
        if let Some(Credential::Password { user, .. }) = credential {
            query.append_pair("account", user);
        }
        drop(query);
        url
    }

    async fn read(&self, response: &mut Response) -> Result<Vec<u8>, Error> {
        let idle = self.host.timeouts().idle;
        let mut body = Vec::new();
        loop {
            let chunk = match tokio::time::timeout(idle, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(e)) => return Err(self.unreachable(Fault::Broken, Some(e))),
                Err(_) => return Err(self.unreachable(Fault::Silent(idle), None)),
            };
            if body.len() + chunk.len() > MAX_ERROR_BYTES {
                let limit = MAX_ERROR_BYTES;
                return Err(self.wrong(Problem::TooLarge { limit }));
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn refused(&self, response: &Response, body: &[u8]) -> Error {
        let headers = response.headers();
        Error::Refused(Box::new(Refused {
            task: self.task.clone(),
            host: authority(response.url()),
            status: response.status(),
            diagnostics: Diagnostic::read(body),
            retry_after: protocol::retry_after(headers, SystemTime::now()),
            login: match self.found {
                Some(found) => found.login(),
                None => Login::Anonymous(self.host.options.credentials.files()),
            },
            outlived: false,
        }))
    }

    fn unreachable(&self, fault: Fault, source: Option<reqwest::Error>) -> Error {
        Error::Unreachable {
            task: Box::new(self.task.clone()),
            host: authority(&self.realm),
            fault,
            source: source.map(|e| e.without_url().into()),
        }
    }

    fn wrong(&self, problem: Problem) -> Error {
        Error::Answer {
            task: Box::new(self.task.clone()),
            host: authority(&self.realm),
            problem,
        }
    }
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(protocol::text(headers, &header::DATE)?).ok()
}

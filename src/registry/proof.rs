//! Says who asks, in the words that a registry wants to hear.

use std::sync::{Mutex, PoisonError};

use base64::Engine;
use http::{HeaderValue, StatusCode};
use reqwest::Response;
use tokio::sync::MutexGuard;

use crate::registry::{
    auth::{Credential, Found, Identity},
    challenge::Challenge,
    error::{Error, Task},
    protocol::{Address, Request, Scopes},
    refusal::Login,
    service::Service,
    token::{Key, Reserve, Token, Tokens},
    transport::Host,
};

/// What a registry has taught about saying who asks.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    known: Mutex<Known>,
    /// Held by the first request to a host, so that the others wait for what it learns.
    discovery: tokio::sync::Mutex<()>,
    tokens: Tokens,
}

/// What is known of a registry's wish to be told who asks.
#[derive(Debug, Clone, Default)]
enum Known {
    #[default]
    Nothing,
    /// It answered without being told.
    Open,
    Challenged(Challenge),
}

impl Knowledge {
    fn get(&self) -> Known {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    fn set(&self, new: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// Waits for the first request to an unknown host, or is it: then the guard is to be held until [`Host::learn`] is done.
    pub(super) async fn discover(&self) -> Option<MutexGuard<'_, ()>> {
        if !matches!(self.get(), Known::Nothing) {
            return None;
        }
        let guard = self.discovery.lock().await;
        matches!(self.get(), Known::Nothing).then_some(guard)
    }
}

/// What is sent to say who asks.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) header: Option<HeaderValue>,
    pub(super) login: Login,
    means: Means,
}

#[derive(Debug)]
enum Means {
    Nothing,
    /// With the credential that was sent, if there was one.
    Basic(Option<Identity>),
    Bearer {
        key: Key,
        token: Token,
        new: bool,
    },
}

impl Proof {
    /// Whether it is a token, which ends some time.
    pub(super) fn is_token(&self) -> bool {
        matches!(self.means, Means::Bearer { .. })
    }

    fn nothing(login: Login) -> Self {
        Proof {
            header: None,
            login,
            means: Means::Nothing,
        }
    }
}

impl Host {
    /// Takes in what an answer says about credentials; returns the challenge where another proof may help.
    pub(super) async fn learn(
        &self,
        request: &Request,
        response: &Response,
        proof: &Proof,
    ) -> Option<Challenge> {
        if matches!(proof.login, Login::Elsewhere) || !self.is_own(response.url()) {
            return None;
        }
        if response.status() != StatusCode::UNAUTHORIZED {
            if matches!(self.knowledge.get(), Known::Nothing)
                && !response.status().is_server_error()
            {
                self.knowledge.set(Known::Open);
            }
            return None;
        }
        let challenge = Challenge::read(response.headers())?;
        self.knowledge.set(Known::Challenged(challenge.clone()));
        let may_help = match &proof.means {
            // Without a password there is nothing else to send; a broken entry has to come to light.
            Means::Nothing if challenge == Challenge::Basic => {
                !matches!(self.find(&request.task).await, Ok(None))
            }
            Means::Nothing => true,
            Means::Basic(sent) if challenge == Challenge::Basic => {
                self.has_another(&request.task, *sent).await
            }
            Means::Basic(_) => true,
            Means::Bearer { key, token, new } => {
                self.knowledge.tokens.forget(key, token).await;
                !new
            }
        };
        may_help.then_some(challenge)
    }

    /// Returns what to send to say who asks, as far as is known that the registry wants to be told.
    pub(super) async fn proof(
        &self,
        request: &Request,
        needed: &Scopes,
        reserve: Reserve,
    ) -> Result<Proof, Error> {
        if let Address::Url(url) = &request.address
            && !self.is_own(url)
        {
            return Ok(Proof::nothing(Login::Elsewhere));
        }
        let Known::Challenged(challenge) = self.knowledge.get() else {
            let files = self.options.credentials.files();
            return Ok(Proof::nothing(Login::Anonymous(files)));
        };
        let found = self.find(&request.task).await?;
        match self
            .prove(request, &challenge, needed, reserve, found.as_ref())
            .await
        {
            Err(error) if error.is_authentication() => {
                // The token service does not take the credential; it may be one that has just been replaced.
                let sent = found.as_ref().map(|f| f.credential.identity());
                if sent.is_none() || !self.has_another(&request.task, sent).await {
                    return Err(error);
                }
                let found = self.find(&request.task).await?;
                self.prove(request, &challenge, needed, reserve, found.as_ref())
                    .await
            }
            proof => proof,
        }
    }

    async fn prove(
        &self,
        request: &Request,
        challenge: &Challenge,
        needed: &Scopes,
        reserve: Reserve,
        found: Option<&Found>,
    ) -> Result<Proof, Error> {
        let login = match found {
            Some(found) => found.login(),
            None => Login::Anonymous(self.options.credentials.files()),
        };
        let (header, means) = match challenge {
            Challenge::Basic => {
                let sent = found.map(|f| f.credential.identity());
                (found.and_then(basic), Means::Basic(sent))
            }
            Challenge::Bearer { realm, service, .. } => {
                let key = Key::new(found, needed);
                let repository = request.task.repository();
                let fetch = async {
                    let name = service.as_deref();
                    let service = Service::new(self, repository, realm, name, found)?;
                    service.token(needed).await
                };
                let (token, new) = self.knowledge.tokens.get(&key, reserve, fetch).await?;
                (bearer(&token), Means::Bearer { key, token, new })
            }
        };
        Ok(Proof {
            header,
            login,
            means,
        })
    }

    async fn find(&self, task: &Task) -> Result<Option<Found>, Error> {
        let found = self.options.credentials.find(task.repository()).await;
        found.map_err(|source| Error::Credentials {
            task: Box::new(task.clone()),
            source,
        })
    }

    /// Whether there is another credential by now than the one that was sent and refused: files change, and helpers have new ones.
    async fn has_another(&self, task: &Task, sent: Option<Identity>) -> bool {
        let of = |found: &Option<Found>| found.as_ref().map(|f| f.credential.identity());
        let Ok(Some(found)) = self.find(task).await else {
            return false;
        };
        let found = Some(found);
        if of(&found) != sent {
            return true;
        }
        if let Some(found) = found.filter(|f| f.helper.is_some()) {
            self.options.credentials.doubt(&found).await;
            return matches!(self.find(task).await, Ok(again) if of(&again) != sent);
        }
        false
    }
}

pub(super) fn basic(found: &Found) -> Option<HeaderValue> {
    let Credential::Password { user, password } = &found.credential else {
        return None;
    };
    let pair = format!("{user}:{}", password.expose());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    sensitive(&format!("Basic {encoded}"))
}

fn bearer(token: &Token) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {}", token.value.expose()))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

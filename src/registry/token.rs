//! Tokens by what they allow: fetched once however many wait for one, renewed before they run out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::registry::{
    auth::{Found, Identity, Secret},
    error::Error,
    protocol::Scopes,
};

/// What a token is kept under: in whose name it was got, if anybody's, and what it allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The credential's entry, and which credential it was.
    holder: Option<(Arc<str>, Identity)>,
    scopes: Scopes,
}

impl Key {
    pub(super) fn new(found: Option<&Found>, scopes: &Scopes) -> Self {
        Key {
            holder: found.map(|f| (f.entry.clone(), f.credential.identity())),
            scopes: scopes.clone(),
        }
    }

    /// Whether a token under this key belongs to a credential that the one of `newer` has replaced.
    fn is_replaced_by(&self, newer: &Key) -> bool {
        match (&self.holder, &newer.holder) {
            (Some((entry, old)), Some((same, new))) => entry == same && old != new,
            _ => false,
        }
    }
}

/// A token and its time.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) value: Secret,
    got: Instant,
    lifetime: Duration,
}

/// How much of its life a token must have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserve {
    /// Enough for a request that is answered soon.
    Short,
    /// Half, for a request that may take long (registries look at the token when the request begins, some also when it ends).
    Half,
}

impl Token {
    /// A token that lasts `lifetime` from now on.
    pub(super) fn new(value: Secret, lifetime: Duration) -> Self {
        Token {
            value,
            got: Instant::now(),
            lifetime,
        }
    }

    fn lasts(&self, now: Instant, reserve: Reserve) -> bool {
        let reserve = match reserve {
            Reserve::Short => (self.lifetime / 4).min(Duration::from_secs(30)),
            Reserve::Half => self.lifetime / 2,
        };
        now.saturating_duration_since(self.got) < self.lifetime.saturating_sub(reserve)
    }
}

/// All tokens for one registry.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
}

type Slot = tokio::sync::Mutex<State>;

#[derive(Debug, Default)]
enum State {
    #[default]
    Empty,
    Held(Token),
    /// Those who waited while it failed share the failure; who comes later asks anew.
    Failed(Instant, Arc<Error>),
}

/// How many tokens are kept before those that have run out are dropped.
const MANY: usize = 4096;

impl Tokens {
    /// Returns the token under `key`, and whether it is new to this caller; awaits `fetch` only where none lasts long enough.
    pub(super) async fn get(
        &self,
        key: &Key,
        reserve: Reserve,
        fetch: impl Future<Output = Result<Token, Error>>,
    ) -> Result<(Token, bool), Error> {
        let asked = Instant::now();
        let slot = self.slot(key);
        let mut state = slot.lock().await;
        match &*state {
            State::Held(token) if token.lasts(Instant::now(), reserve) => {
                return Ok((token.clone(), token.got >= asked));
            }
            State::Failed(at, error) if *at >= asked => return Err(Error::Token(error.clone())),
            _ => {}
        }
        match fetch.await {
            Ok(token) => {
                *state = State::Held(token.clone());
                Ok((token, true))
            }
            Err(error) => {
                let error = Arc::new(error);
                *state = State::Failed(Instant::now(), error.clone());
                Err(Error::Token(error))
            }
        }
    }

    /// Drops `token`, unless another has taken its place meanwhile.
    pub(super) async fn forget(&self, key: &Key, token: &Token) {
        let slot = self.slot(key);
        let mut state = slot.lock().await;
        if matches!(&*state, State::Held(held) if held.value == token.value) {
            *state = State::Empty;
        }
    }

    fn slot(&self, key: &Key) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(key) {
            return slot.clone();
        }
        slots.retain(|kept, _| !kept.is_replaced_by(key));
        if slots.len() >= MANY {
            let now = Instant::now();
            slots.retain(|_, slot| is_of_use(slot, now));
        }
        slots.entry(key.clone()).or_default().clone()
    }
}

fn is_of_use(slot: &Arc<Slot>, now: Instant) -> bool {
    let waited_for = Arc::strong_count(slot) > 1;
    waited_for
        || slot.try_lock().is_ok_and(
            |state| matches!(&*state, State::Held(token) if token.lasts(now, Reserve::Short)),
        )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::registry::auth::Credential;

    fn key(entry: &str, password: &str, scope: &str) -> Key {
        let found = Found {
            credential: Credential::Password {
                user: "u".to_owned(),
                password: Secret::new(password),
            },
            entry: entry.into(),
            file: Path::new("/auth.json").into(),
            helper: None,
        };
        Key::new(Some(&found), &Scopes([scope.to_owned()].into()))
    }

    #[tokio::test]
    async fn tokens_go_with_the_credential_they_were_got_with() {
        let tokens = Tokens::default();
        let get = async |key: &Key, value: &str| {
            let token = Token::new(Secret::new(value), Duration::from_secs(300));
            let got = tokens.get(key, Reserve::Short, async { Ok(token) }).await;
            got.unwrap().0.value.expose().to_owned()
        };
        let (old, new) = (key("reg.lan", "old", "a"), key("reg.lan", "new", "a"));
        assert_eq!(get(&old, "1").await, "1");
        assert_eq!(get(&old, "2").await, "1");
        assert_eq!(get(&key("reg.lan", "old", "b"), "3").await, "3");
        assert_eq!(get(&key("other.lan", "old", "a"), "4").await, "4");
        assert_eq!(get(&new, "5").await, "5");
        assert_eq!(tokens.slots.lock().unwrap().len(), 2);
        assert_eq!(get(&key("other.lan", "old", "a"), "6").await, "4");
        assert_eq!(get(&old, "7").await, "7");
    }
}

//! Tells who calls, by the token they bring, their certificate, or their socket, and what they may do.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tokio::sync::{Semaphore, watch};
use tonic::{Code, Status};

use crate::{
    grpc::{
        convert::refusal,
        origin::{End, Origin},
        tls::{self, KeyError},
    },
    model::access::{
        AccessError, CertificateRule, Peer, PeerRule, Right, Token, certificate_rights, find_token,
        peer_rights, read_tokens,
    },
};

/// How many calls one caller may have under way; a script has a few, and memory is for everybody.
const CALLS_OF_ONE: usize = 64;

/// How many large requests are taken in at once, of all callers together.
const LARGE_REQUESTS: usize = 8;

/// Why the tokens file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] KeyError),
    /// It is no text.
    #[error("the tokens file {} is no text", .0.display())]
    NoText(PathBuf),
    /// A line of it is none.
    #[error("{}:{line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong with it.
        source: AccessError,
    },
}

/// Where tokens come from, and who else may do what.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The tokens file.
    pub tokens_file: Option<PathBuf>,
    /// Tokens of the settings.
    pub tokens: Vec<Token>,
    /// Holders of certificates.
    pub certificates: Vec<CertificateRule>,
    /// Users of the Unix socket; everybody whom it lets in may do all where nothing is said.
    pub peers: Option<Vec<PeerRule>>,
}

/// Who may do what, as of now.
pub struct Access {
    rules: Rules,
    from_file: RwLock<Arc<Vec<Token>>>,
    changes: watch::Sender<u64>,
    calls: Mutex<HashMap<String, usize>>,
    large: Arc<Semaphore>,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// How the audit log names them: `token ci`, `certificate ansible`, `user root`, `unnamed`.
    pub name: String,
    /// What they may do, if anything.
    pub rights: Option<Right>,
    /// What gives rights to such as them, for an error.
    pub given_by: &'static str,
}

impl Access {
    /// Reads the tokens file.
    pub fn load(rules: Rules) -> Result<Self, TokensError> {
        let access = Access {
            rules,
            from_file: RwLock::default(),
            changes: watch::channel(0).0,
            calls: Mutex::default(),
            large: Arc::new(Semaphore::new(LARGE_REQUESTS)),
        };
        access.reload()?;
        Ok(access)
    }

    /// Reads the tokens file again; one that is broken leaves the tokens as they were.
    pub fn reload(&self) -> Result<(), TokensError> {
        let Some(path) = &self.rules.tokens_file else {
            return Ok(());
        };
        let text = String::from_utf8(tls::read(path)?)
            .map_err(|_| TokensError::NoText(path.to_owned()))?;
        let tokens = read_tokens(&text).map_err(|(line, source)| TokensError::Line {
            path: path.to_owned(),
            line,
            source,
        })?;
        *self
            .from_file
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
        self.note_change();
        Ok(())
    }

    /// Returns the tokens file.
    pub fn tokens_file(&self) -> Option<&PathBuf> {
        self.rules.tokens_file.as_ref()
    }

    /// Whether anybody is known by a token.
    pub fn knows_tokens(&self) -> bool {
        !self.rules.tokens.is_empty() || !self.tokens_of_file().is_empty()
    }

    /// Has open streams look again whether their caller may still have them.
    pub fn note_change(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Tells when who may do what has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What large requests take a part of.
    pub fn large(&self) -> Arc<Semaphore> {
        Arc::clone(&self.large)
    }

    fn tokens_of_file(&self) -> Arc<Vec<Token>> {
        let tokens = self.from_file.read();
        Arc::clone(&tokens.unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether entries about groups have to be looked up.
    pub fn peer_rules(&self) -> Option<&[PeerRule]> {
        self.rules.peers.as_deref()
    }

    /// Returns what somebody at the Unix socket may do.
    pub fn of_peer(&self, peer: &Peer) -> Option<Right> {
        let own = nix::unistd::geteuid().as_raw();
        peer_rights(self.peer_rules(), peer, own)
    }

    /// Tells who calls. A token counts for more than the connection it comes through: one that is not known is refused even where the
    /// connection alone would do.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED, with what to do.
    pub fn identify(&self, origin: &Origin, headers: &HeaderMap) -> Result<Caller, Status> {
        if let Some(authorization) = headers.get(AUTHORIZATION) {
            return self.by_token(authorization);
        }
        match origin.end() {
            End::Peer { name, rights } => Ok(Caller {
                name: format!("user {name}"),
                rights: *rights,
                given_by: "clients.peers",
            }),
            End::Certificate { chain, keys } => {
                let names = keys.names(chain).map_err(|error| {
                    stranger(
                        "CERTIFICATE_REFUSED",
                        format!("the client certificate is not accepted ({error}); it has to be of the daemon's `client_ca_file`, and within its time"),
                    )
                })?;
                Ok(Caller {
                    name: format!("certificate {}", names.first().map_or("", |n| n)),
                    rights: certificate_rights(&self.rules.certificates, &names),
                    given_by: "clients.certificates",
                })
            }
            End::Unnamed {
                rights: Some(rights),
            } => Ok(Caller {
                name: "unnamed".to_owned(),
                rights: Some(*rights),
                given_by: "listen[].unnamed",
            }),
            End::Unnamed { rights: None } => Err(stranger(
                "NO_CREDENTIALS",
                "nothing says who calls; send a bearer token (--token-file) or use a client certificate (--client-cert, --client-key)",
            )),
        }
    }

    fn by_token(&self, authorization: &HeaderValue) -> Result<Caller, Status> {
        let from_file = self.tokens_of_file();
        let tokens = self.rules.tokens.iter().chain(from_file.iter());
        let Some(presented) = bearer(authorization) else {
            return Err(stranger(
                "TOKEN_REFUSED",
                "the metadata `authorization` holds no bearer token: `Bearer TOKEN` is expected",
            ));
        };
        match find_token(tokens, presented) {
            Some(token) => Ok(Caller {
                name: format!("token {}", token.name),
                rights: Some(token.rights),
                given_by: "the tokens file",
            }),
            None => Err(stranger(
                "TOKEN_REFUSED",
                "the token is not one that this daemon knows; `imagesetd token new` makes one, and the daemon's setting `clients` names those it knows",
            )),
        }
    }

    /// Counts a call of somebody; nothing where they have too many under way.
    pub fn count_call(self: &Arc<Self>, caller: &str) -> Option<Call> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let count = calls.entry(caller.to_owned()).or_default();
        if *count >= CALLS_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Call {
            access: Arc::clone(self),
            caller: caller.to_owned(),
        })
    }
}

/// Returns the token of an `authorization` (RFC 6750, section 2.1).
fn bearer(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn stranger(reason: &'static str, message: impl Into<String>) -> Status {
    refusal(Code::Unauthenticated, reason, message)
}

/// A call under way; dropping it makes room for another.
pub struct Call {
    access: Arc<Access>,
    caller: String,
}

impl Drop for Call {
    fn drop(&mut self) {
        let calls = &self.access.calls;
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = calls.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                calls.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::TokenHash;

    fn access(rules: Rules) -> Arc<Access> {
        Arc::new(Access::load(rules).unwrap())
    }

    fn with_token(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        headers
    }

    fn knows(name: &str, secret: &str, rights: Right) -> Token {
        Token {
            name: name.parse().unwrap(),
            rights,
            hash: TokenHash::of(secret),
        }
    }

    #[test]
    fn a_token_counts_for_more_than_the_connection() {
        let access = access(Rules {
            tokens: vec![knows("ci", "canary-1", Right::Read)],
            ..Rules::default()
        });
        let admin = Origin::unnamed("127.0.0.1:1", Some(Right::Admin));
        let call = |value: &str| access.identify(&admin, &with_token(value));
        let caller = Caller {
            name: "token ci".to_owned(),
            rights: Some(Right::Read),
            given_by: "the tokens file",
        };
        for value in ["Bearer canary-1", "bearer canary-1", "BEARER  canary-1 "] {
            assert_eq!(call(value).unwrap(), caller);
        }
        for value in ["Bearer canary-2", "Bearer ", "canary-1", "Basic canary-1"] {
            let refused = call(value).unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated, "{value}");
            assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
        }
        let unnamed = access.identify(&admin, &HeaderMap::new()).unwrap();
        assert_eq!(unnamed.rights, Some(Right::Admin));
    }

    #[test]
    fn who_says_nothing_is_nobody_where_nothing_is_given_to_them() {
        let access = access(Rules::default());
        let origin = Origin::unnamed("127.0.0.1:1", None);
        let refused = access.identify(&origin, &HeaderMap::new()).unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }

    #[test]
    fn a_broken_tokens_file_leaves_the_tokens_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write(&format!("{}\n", knows("a", "one", Right::Read)));
        let access = access(Rules {
            tokens_file: Some(file.clone()),
            ..Rules::default()
        });
        let origin = Origin::unnamed("x", None);
        let may = |secret: &str| {
            access
                .identify(&origin, &with_token(&format!("Bearer {secret}")))
                .is_ok()
        };
        assert!(may("one"));
        write("canary\n");
        let error = access.reload().unwrap_err().to_string();
        assert!(
            error.ends_with("tokens:1: this is not a line of a tokens file: `NAME RIGHTS sha256:HASH` is expected, as `imagesetd token new` prints it"),
            "{error}"
        );
        assert!(may("one"));
        std::fs::remove_file(&file).unwrap();
        assert!(access.reload().is_err());
        assert!(may("one"));
        write(&format!("{}\n", knows("a", "two", Right::Read)));
        access.reload().unwrap();
        assert!(!may("one") && may("two"));
        write("# nobody\n");
        access.reload().unwrap();
        assert!(!may("two") && !access.knows_tokens());
    }

    #[test]
    fn one_caller_has_only_so_many_calls_and_takes_none_from_another() {
        let access = access(Rules::default());
        let calls: Vec<Call> = (0..CALLS_OF_ONE)
            .map(|_| access.count_call("token a").unwrap())
            .collect();
        assert!(access.count_call("token a").is_none());
        assert!(access.count_call("token b").is_some());
        drop(calls);
        assert!(access.count_call("token a").is_some());
        assert!(access.calls.lock().unwrap().is_empty());
    }
}

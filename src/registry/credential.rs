//! What proves who asks, and where it was found.

use std::{fmt, path::Path, sync::Arc};

use aws_lc_rs::digest;
use serde::Deserialize;

use crate::registry::refusal::Login;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// Returns the text, for the wire only.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What proves who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// A user and a password.
    Password { user: String, password: Secret },
    /// A refresh token, which a token service changes into an access token.
    IdentityToken(Secret),
}

/// Tells credentials apart without holding them: what was got with one that has been replaced is not used with the next.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity([u8; 32]);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Credential {
    pub(super) fn identity(&self) -> Identity {
        let mut hash = digest::Context::new(&digest::SHA256);
        match self {
            Credential::Password { user, password } => {
                hash.update(b"password\0");
                hash.update(&(user.len() as u64).to_be_bytes());
                hash.update(user.as_bytes());
                hash.update(password.expose().as_bytes());
            }
            Credential::IdentityToken(token) => {
                hash.update(b"token\0");
                hash.update(token.expose().as_bytes());
            }
        }
        let mut identity = [0; 32];
        identity.copy_from_slice(hash.finish().as_ref());
        Identity(identity)
    }
}

/// A credential and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) credential: Credential,
    /// The entry's name in the file.
    pub(super) entry: Arc<str>,
    pub(super) file: Arc<Path>,
    /// The credential helper that the entry names, where the credential is from there.
    pub(super) helper: Option<Arc<str>>,
}

impl Found {
    /// Says where it was found, for messages.
    pub(super) fn login(&self) -> Login {
        let (entry, file) = (self.entry.clone(), self.file.to_path_buf());
        match &self.helper {
            Some(helper) => Login::Helper(helper.clone(), entry, file),
            None => Login::Entry(entry, file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Credential {
        Credential::Password {
            user: user.to_owned(),
            password: Secret::new(password),
        }
    }

    #[test]
    fn credentials_are_told_apart_without_being_shown() {
        let one = password("ab", "c");
        assert_eq!(one.identity(), password("ab", "c").identity());
        for other in [
            password("a", "bc"),
            password("ab", "d"),
            Credential::IdentityToken(Secret::new("abc")),
        ] {
            assert_ne!(one.identity(), other.identity());
        }
        let shown = format!("{:?} {:?}", one, one.identity());
        assert_eq!(shown, "Password { user: \"ab\", password: *** } ***");
    }
}

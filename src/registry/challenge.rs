//! What a registry asks for before it answers, and how long a token lasts.
//!
//! **Invariant:** touches no socket, no clock, no environment.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};
use serde::Deserialize;

use crate::registry::{auth::Secret, protocol::Scopes};

/// How a registry wants to be told who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from a service.
    Bearer {
        /// The token service's URL, as text: it is checked where it is used.
        realm: String,
        /// The name the token service knows the registry by.
        service: Option<String>,
        /// What the refused request would have needed.
        scopes: Scopes,
    },
}

/// How many scopes of a challenge are taken over; token services bound the length of what they read.
const MAX_SCOPES: usize = 8;

impl Challenge {
    /// Reads `WWW-Authenticate`; a token is preferred where both are offered. `None` where neither is.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE);
        let mut basic = None;
        for (scheme, params) in values
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(parse)
        {
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer")
                && let Some(bearer) = bearer(&params)
            {
                return Some(bearer);
            }
        }
        basic
    }
}

fn bearer(params: &[(String, String)]) -> Option<Challenge> {
    let param = |name: &str| {
        let found = params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    };
    let scopes = param("scope").unwrap_or_default();
    let scopes = scopes.split_whitespace().take(MAX_SCOPES);
    Some(Challenge::Bearer {
        realm: param("realm")?,
        service: param("service"),
        scopes: Scopes(scopes.map(str::to_owned).collect()),
    })
}

type Parsed = Vec<(String, Vec<(String, String)>)>;

/// Splits a header into schemes with their parameters (RFC 9110, 11.6.1); what does not fit the grammar ends the reading.
fn parse(header: &str) -> Parsed {
    let mut found: Parsed = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        let Some(value) = after.trim_start().strip_prefix('=') else {
            found.push((word.to_owned(), Vec::new()));
            rest = after;
            continue;
        };
        let (value, after) = parameter(value.trim_start());
        if let Some((_, params)) = found.last_mut() {
            params.push((word.to_owned(), value));
        }
        rest = after;
    }
}

/// Reads a token or a quoted string, and returns it with what stands after it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// What a token service answers (Distribution's token specification, and OAuth 2 under other names).
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    token: Option<Secret>,
    access_token: Option<Secret>,
    expires_in: Option<f64>,
    issued_at: Option<String>,
}

/// How long a token lasts of which the service does not say it.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// The longest a token is kept, whatever its service says.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

impl TokenAnswer {
    /// Returns the token; services use either name.
    pub(super) fn token(&self) -> Option<&Secret> {
        let named = [self.token.as_ref(), self.access_token.as_ref()];
        named.into_iter().flatten().find(|t| !t.expose().is_empty())
    }

    /// Returns how long the token lasts from now on.
    ///
    /// A service may hand out a token it made earlier; how old it is, is told from the service's own clock where it gives its time
    /// (`served`, the `Date` of the answer), so that a clock that is wrong here makes no token look expired.
    pub(super) fn lifetime(&self, served: Option<SystemTime>, now: SystemTime) -> Duration {
        let whole = match self.expires_in {
            Some(seconds) if seconds >= 1.0 => {
                Duration::try_from_secs_f64(seconds).unwrap_or(MAX_LIFETIME)
            }
            _ => DEFAULT_LIFETIME,
        };
        let issued = self.issued_at.as_deref().and_then(timestamp);
        let age = issued.and_then(|issued| served.unwrap_or(now).duration_since(issued).ok());
        let left = whole.saturating_sub(age.unwrap_or_default());
        // A token older than its life would be asked for again at once, for ever: then the clocks disagree.
        if left.is_zero() { whole } else { left }.min(MAX_LIFETIME)
    }
}

fn timestamp(text: &str) -> Option<SystemTime> {
    let since = text.parse::<jiff::Timestamp>().ok()?.as_duration();
    SystemTime::UNIX_EPOCH.checked_add(since.try_into().ok()?)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<Challenge> {
        let pairs = values
            .iter()
            .map(|v| (header::WWW_AUTHENTICATE, v.parse().unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        Challenge::read(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scopes: &[&str]) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scopes: Scopes(scopes.iter().map(|s| (*s).to_owned()).collect()),
        })
    }

    #[test]
    fn challenges_are_read_in_all_their_spellings() {
        let realm = "https://auth.lan/token";
        assert_eq!(
            read(&[
                r#"Bearer realm="https://auth.lan/token",service="reg.lan",scope="repository:a:pull,push repository:b:pull""#
            ]),
            bearer(
                realm,
                Some("reg.lan"),
                &["repository:a:pull,push", "repository:b:pull"]
            )
        );
        assert_eq!(
            read(&[r#"bearer  REALM = "https://auth.lan/token" , error="x \"y\", z""#]),
            bearer(realm, None, &[])
        );
        assert_eq!(
            read(&["Basic realm=\"r\", Bearer realm=https://auth.lan/token"]),
            bearer(realm, None, &[])
        );
        assert_eq!(
            read(&["Negotiate", "Basic realm=\"Registry Realm\""]),
            Some(Challenge::Basic)
        );
        assert_eq!(read(&["Basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for text in [
            "",
            "Negotiate",
            "Bearer",
            "Bearer service=\"x\"",
            "=",
            "\"",
            ",,,",
            "Bearer \"=",
        ] {
            assert_eq!(read(&[text]), None, "{text}");
        }
        assert_eq!(
            read(&["Bearer realm=\"unclosed"]),
            bearer("unclosed", None, &[])
        );
    }

    #[test]
    fn hostile_challenges_never_panic() {
        proptest::proptest!(|(text in "[ -~]{0,60}")| {
            read(&[&text]);
        });
        proptest::proptest!(|(text in "(Bearer |Basic |[a-z]=|\"|\\\\|,| |é)*")| {
            parse(&text);
        });
    }

    fn lifetime(json: &str, served: Option<&str>, now: &str) -> u64 {
        let answer: TokenAnswer = serde_json::from_str(json).unwrap();
        let time = |text: &str| timestamp(text).unwrap();
        answer.lifetime(served.map(time), time(now)).as_secs()
    }

    #[test]
    fn a_token_lasts_as_long_as_its_service_says_by_its_own_clock() {
        let issued = r#"{"token":"t","expires_in":300,"issued_at":"2026-01-01T00:00:00.5Z"}"#;
        // A minute old, by the service's clock; the clock here is a day off.
        assert_eq!(
            lifetime(
                issued,
                Some("2026-01-01T00:01:00.5Z"),
                "2026-01-02T00:00:00Z"
            ),
            240
        );
        assert_eq!(lifetime(issued, None, "2026-01-01T00:00:10.5Z"), 290);
        // Issued in the future or long ago: the clocks disagree.
        assert_eq!(lifetime(issued, None, "2025-12-31T00:00:00Z"), 300);
        assert_eq!(lifetime(issued, None, "2026-01-05T00:00:00Z"), 300);
        let now = "2026-01-01T00:00:00Z";
        assert_eq!(lifetime(r#"{"token":"t"}"#, None, now), 60);
        assert_eq!(lifetime(r#"{"expires_in":0}"#, None, now), 60);
        assert_eq!(lifetime(r#"{"expires_in":-5}"#, None, now), 60);
        assert_eq!(lifetime(r#"{"expires_in":1e300}"#, None, now), 86_400);
        assert_eq!(
            lifetime(r#"{"expires_in":9,"issued_at":"x"}"#, None, now),
            9
        );
    }

    #[test]
    fn the_token_is_found_under_either_name_and_never_shown() {
        let token = |json: &str| {
            let answer: TokenAnswer = serde_json::from_str(json).unwrap();
            answer
                .token()
                .map(|t| (t.expose().to_owned(), format!("{t:?}")))
        };
        let found = Some(("x".to_owned(), "***".to_owned()));
        assert_eq!(token(r#"{"token":"x"}"#), found);
        assert_eq!(token(r#"{"token":"","access_token":"x"}"#), found);
        assert_eq!(token(r#"{"token":""}"#), None);
    }
}

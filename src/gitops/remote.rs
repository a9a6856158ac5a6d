//! The repository that is fetched from: its URL, and its credentials apart from it.
//!
//! **Invariant:** credentials reach git through the environment of the process only, and only for the host they were given for;
//! they stand in no argument, no file and no message.

use url::Url;

use crate::gitops::git::{self, Git, Repository};

/// Says to the helper that is set up in [`Remote::fetch`] what a URL of the settings file held.
const HELPER: &str = r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$IMAGESETD_GIT_USER" "$IMAGESETD_GIT_PASSWORD"; }; f"#;

/// The remote repository, its credentials apart.
pub(super) struct Remote {
    /// Holds no credentials, so it may be stored and shown.
    pub(super) url: String,
    user: String,
    password: String,
    /// For which URLs the credentials are; empty where there are none.
    scope: String,
}

impl Remote {
    /// Takes the credentials out of a URL; what is not one (`git@host:path`, a path) stays as written.
    pub(super) fn new(text: &str) -> Self {
        let plain = Remote {
            url: text.to_owned(),
            user: String::new(),
            password: String::new(),
            scope: String::new(),
        };
        let Ok(mut url) = Url::parse(text) else {
            return plain;
        };
        if !matches!(url.scheme(), "http" | "https")
            || (url.username().is_empty() && url.password().is_none())
        {
            return plain;
        }
        let (user, password) = (decoded(url.username()), url.password().map(decoded));
        // A URL with a host, as these schemes have, takes any user and password.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Remote {
            scope: url.origin().ascii_serialization(),
            url: url.into(),
            user,
            password: password.unwrap_or_default(),
        }
    }

    /// Prepares a fetch from here.
    pub(super) fn fetch(&self, repository: &Repository) -> Git {
        let mut git = repository
            .command("fetch")
            .limit(git::REMOTE)
            // A connection that brings nothing for half a minute is given up.
            .config("http.lowSpeedLimit", "1")
            .config("http.lowSpeedTime", "30");
        if !self.scope.is_empty() {
            git = git
                .config(&format!("credential.{}.helper", self.scope), HELPER)
                .env("IMAGESETD_GIT_USER", &self.user)
                .env("IMAGESETD_GIT_PASSWORD", &self.password);
        }
        git
    }

    /// Whether `url` names the same repository.
    pub(super) fn is(&self, url: &str) -> bool {
        let bare = |url: &str| {
            let url = url.trim_end_matches('/');
            url.strip_suffix(".git").unwrap_or(url).to_owned()
        };
        bare(&Remote::new(url).url) == bare(&self.url)
    }
}

fn decoded(text: &str) -> String {
    // The only decoder of the crate tree at hand reads forms, where `+` is a space.
    let pair = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let remote = Remote::new("https://me:p%40ss+w@git.lan:8443/sets.git");
        assert_eq!(remote.url, "https://git.lan:8443/sets.git");
        assert_eq!(remote.scope, "https://git.lan:8443");
        assert_eq!(
            (remote.user.as_str(), remote.password.as_str()),
            ("me", "p@ss+w")
        );
    }

    #[test]
    fn other_urls_stay_as_written() {
        for url in [
            "git@git.lan:sets.git",
            "ssh://git@git.lan/x",
            "/srv/git/x.git",
            "https://git.lan/x",
        ] {
            let remote = Remote::new(url);
            assert_eq!((remote.url.as_str(), remote.scope.as_str()), (url, ""));
        }
    }

    #[test]
    fn the_same_repository_is_known_by_other_spellings() {
        let remote = Remote::new("https://me:x@git.lan/sets.git");
        assert!(remote.is("https://git.lan/sets"));
        assert!(remote.is("https://other@git.lan/sets.git/"));
        assert!(!remote.is("https://git.lan/other"));
    }
}

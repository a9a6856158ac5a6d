//! The repository that is fetched from.
//!
//! Its address is git's as it was written, a user in it too. Settings refuse a password in it; those are for git's credential
//! helpers, which are asked for that user.

use url::Url;

use crate::gitops::git::{self, Git, Repository};

/// The remote repository.
pub(super) struct Remote {
    /// Where it is, in any form that git takes.
    pub(super) url: String,
}

impl Remote {
    pub(super) fn new(url: &str) -> Self {
        Remote {
            url: url.to_owned(),
        }
    }

    /// Prepares a fetch from here.
    pub(super) fn fetch(&self, repository: &Repository) -> Git {
        repository
            .command("fetch")
            .limit(git::REMOTE)
            // A connection that brings nothing for half a minute is given up.
            .config("http.lowSpeedLimit", "1")
            .config("http.lowSpeedTime", "30")
    }

    /// Whether `url` names the same repository, whoever asks for it.
    pub(super) fn is(&self, url: &str) -> bool {
        bare(url) == bare(&self.url)
    }
}

/// An address without who asks and without what may be left out at its end.
fn bare(url: &str) -> String {
    let anonymous = Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .and_then(|mut url| {
            url.set_username("").ok()?;
            url.set_password(None).ok()?;
            Some(url.to_string())
        });
    let url = anonymous.as_deref().unwrap_or(url).trim_end_matches('/');
    url.strip_suffix(".git").unwrap_or(url).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_repository_is_known_by_other_spellings() {
        let remote = Remote::new("https://me@git.lan/sets.git");
        assert!(remote.is("https://git.lan/sets"));
        assert!(remote.is("https://other@git.lan/sets.git/"));
        assert!(!remote.is("https://git.lan/other"));
        let by_ssh = Remote::new("git@git.lan:sets.git");
        assert!(by_ssh.is("git@git.lan:sets"));
        assert!(!by_ssh.is("me@git.lan:sets"));
        assert!(Remote::new("/srv/git/x.git").is("/srv/git/x.git/"));
    }
}

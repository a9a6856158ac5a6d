//! The format of `auth.json`, `config.json` and `.dockercfg`, and which of their entries is for a repository.
//!
//! containers-auth.json(5), and Docker's `config.json` for `credsStore`, which podman and skopeo pass over.
//!
//! **Invariant:** touches no socket, no clock, no environment; never shows what it reads.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use base64::Engine;
use serde::Deserialize;

use crate::{
    model::image::Repository,
    registry::{
        auth::CredentialsError,
        credential::{Credential, Found, Secret},
    },
};

/// The entries of a credentials file.
#[derive(Debug, Clone)]
pub(super) struct AuthFile {
    path: Arc<Path>,
    /// By the name that repositories have.
    entries: BTreeMap<String, Entry>,
    /// Entries without a credential: Docker leaves one for each registry that its store has a credential of.
    places: BTreeMap<String, Arc<str>>,
    /// `credHelpers`, by host: the entry's name and the helper's.
    helpers: BTreeMap<String, (Arc<str>, Arc<str>)>,
    /// `credsStore`
    store: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
struct Entry {
    name: Arc<str>,
    /// `None` where it is broken.
    credential: Option<Credential>,
}

/// A question to a credential helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    /// What follows `docker-credential-` in the program's name.
    pub(super) helper: Arc<str>,
    /// What it is asked for, by the name it knows.
    pub(super) server: Arc<str>,
    /// Whether the file says that it has this one. Else it is asked because it is asked for all.
    pub(super) named: bool,
}

/// What a file has for a repository, in the order in which it counts.
#[derive(Debug)]
pub(super) struct Offers {
    pub(super) helper: Option<Ask>,
    pub(super) entry: Option<Result<Found, CredentialsError>>,
    pub(super) store: Option<Ask>,
}

#[derive(Deserialize, Default)]
struct Document {
    auths: Option<BTreeMap<String, RawEntry>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct RawEntry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
}

/// What Docker calls its own registry, in files and to helpers.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

impl AuthFile {
    /// A file with nothing in it.
    pub(super) fn empty(path: &Path) -> Self {
        AuthFile {
            path: path.into(),
            entries: BTreeMap::new(),
            places: BTreeMap::new(),
            helpers: BTreeMap::new(),
            store: None,
        }
    }

    /// Whether nothing at all can be found in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.helpers.is_empty() && self.store.is_none()
    }

    /// Reads a file's text; `.dockercfg` is the list of entries alone.
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self, CredentialsError> {
        // `podman login` creates an empty file in places; that is no credential, not a mistake.
        let text = if text.trim_ascii().is_empty() {
            b"{}"
        } else {
            text
        };
        // serde's own message may quote the file, and the file is secret.
        let malformed = |e: serde_json::Error| CredentialsError::Malformed {
            file: path.to_owned(),
            line: e.line(),
            column: e.column(),
        };
        let document = match path.file_name().is_some_and(|name| name == ".dockercfg") {
            true => Document {
                auths: serde_json::from_slice(text).map_err(malformed)?,
                ..Document::default()
            },
            false => serde_json::from_slice(text).map_err(malformed)?,
        };
        Ok(AuthFile::new(path, document))
    }

    fn new(path: &Path, document: Document) -> Self {
        let mut file = AuthFile::empty(path);
        for (name, raw) in document.auths.unwrap_or_default() {
            let Some(credential) = raw.credential() else {
                file.places.insert(normal(&name), name.as_str().into());
                continue;
            };
            let entry = Entry {
                name: name.as_str().into(),
                credential: credential.ok(),
            };
            // `docker.io` sorts before its other names, and so wins over them.
            file.entries.entry(normal(&name)).or_insert(entry);
        }
        for (name, helper) in document.helpers.unwrap_or_default() {
            if helper.is_empty() {
                continue;
            }
            let pair = (name.as_str().into(), helper.into());
            file.helpers.entry(normal(&name)).or_insert(pair);
        }
        file.store = document.store.filter(|s| !s.is_empty()).map(Into::into);
        file
    }

    pub(super) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Returns what the file has for `repository`: the helper of its host, the entry with the longest path, the helper for all.
    pub(super) fn offers(&self, repository: &Repository) -> Offers {
        let host = alias(repository.registry().as_str());
        let helper = self.helpers.get(host).map(|(name, helper)| Ask {
            helper: helper.clone(),
            server: name.clone(),
            named: true,
        });
        let store = self.store.as_ref().map(|store| {
            let place = self.places.get(host);
            let usual = match host {
                "docker.io" => DOCKER_HUB,
                other => other,
            };
            Ask {
                helper: store.clone(),
                server: place.cloned().unwrap_or_else(|| usual.into()),
                named: place.is_some(),
            }
        });
        Offers {
            helper,
            entry: self.entry(host, repository.path()),
            store,
        }
    }

    fn entry(&self, host: &str, path: &str) -> Option<Result<Found, CredentialsError>> {
        let mut key = format!("{host}/{path}");
        let entry = loop {
            if let Some(entry) = self.entries.get(&key) {
                break entry;
            }
            key.truncate(key.rfind('/')?);
        };
        Some(match &entry.credential {
            Some(credential) => Ok(Found {
                credential: credential.clone(),
                entry: entry.name.clone(),
                file: self.path.clone(),
                helper: None,
            }),
            None => Err(CredentialsError::Entry {
                file: self.path.to_path_buf(),
                entry: entry.name.to_string(),
            }),
        })
    }
}

impl RawEntry {
    /// Returns the credential, an error where it is broken, and `None` where the entry is only a place holder for a helper.
    fn credential(self) -> Option<Result<Credential, ()>> {
        let present = |secret: Option<Secret>| secret.filter(|s| !s.expose().is_empty());
        if let Some(token) = present(self.identitytoken) {
            return Some(Ok(Credential::IdentityToken(token)));
        }
        if let Some(auth) = present(self.auth) {
            return Some(decode(&auth).ok_or(()));
        }
        let user = self.username.filter(|u| !u.is_empty())?;
        let password = self.password.unwrap_or(Secret::new(""));
        Some(Ok(Credential::Password { user, password }))
    }
}

fn decode(auth: &Secret) -> Option<Credential> {
    let engine = base64::engine::general_purpose::STANDARD;
    let bytes = engine.decode(auth.expose().trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credential::Password {
        user: user.to_owned(),
        // Docker for Windows pads it.
        password: Secret::new(password.trim_end_matches('\0')),
    })
}

/// Writes an entry's name as repositories are written: Docker's entries are URLs, of which only the host counts.
fn normal(name: &str) -> String {
    let text = name.trim_end_matches('/');
    let stripped = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let (host, path) = match stripped {
        Some(url) => (url.split('/').next().unwrap_or(url), None),
        None => match text.split_once('/') {
            // Docker's old name of its registry, without the scheme.
            Some((host, "v1" | "v2")) => (host, None),
            Some((host, path)) => (host, Some(path)),
            None => (text, None),
        },
    };
    match path {
        Some(path) => format!("{}/{path}", alias(host)),
        None => alias(host).to_owned(),
    }
}

/// Returns one name for the registry that has three.
fn alias(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(documents: &[&str]) -> Vec<AuthFile> {
        let parse = |(n, text): (usize, &&str)| {
            AuthFile::parse(Path::new(&format!("/{n}.json")), text.as_bytes()).unwrap()
        };
        documents.iter().enumerate().map(parse).collect()
    }

    fn first(files: &[AuthFile], repository: &str) -> Option<Result<Found, CredentialsError>> {
        let repository = repository.parse().unwrap();
        files.iter().find_map(|f| f.offers(&repository).entry)
    }

    /// Entry, file and user that are found.
    fn find(files: &[AuthFile], repository: &str) -> Option<(String, String, String)> {
        let found = first(files, repository)?.unwrap();
        let user = match found.credential {
            Credential::Password { user, .. } => user,
            Credential::IdentityToken(_) => "<token>".to_owned(),
        };
        Some((
            found.entry.to_string(),
            found.file.display().to_string(),
            user,
        ))
    }

    fn some(entry: &str, file: &str, user: &str) -> Option<(String, String, String)> {
        Some((entry.to_owned(), file.to_owned(), user.to_owned()))
    }

    #[test]
    fn the_longest_path_of_the_first_file_that_has_any_wins() {
        let first = r#"{"auths":{
            "quay.io":{"username":"host","password":"p"},
            "quay.io/ns":{"username":"ns","password":"p"},
            "quay.io/ns/app":{"auth":"YXBwOnA6cQ=="},
            "reg.lan:5000":{"username":"port","password":""},
            "only.helper":{}
        }}"#;
        let second = r#"{"auths":{
            "quay.io/ns/app/deep":{"username":"deep","password":"p"},
            "only.helper":{"identitytoken":"t"}
        },"credHelpers":{"x":"y"}}"#;
        let all = files(&[first, second]);
        assert_eq!(find(&all, "quay.io/x"), some("quay.io", "/0.json", "host"));
        assert_eq!(
            find(&all, "quay.io/ns/x"),
            some("quay.io/ns", "/0.json", "ns")
        );
        assert_eq!(
            find(&all, "quay.io/nsx/x"),
            some("quay.io", "/0.json", "host")
        );
        assert_eq!(
            find(&all, "quay.io/ns/app/deep"),
            some("quay.io/ns/app", "/0.json", "app")
        );
        assert_eq!(
            find(&all, "reg.lan:5000/x"),
            some("reg.lan:5000", "/0.json", "port")
        );
        assert_eq!(find(&all, "reg.lan/x"), None);
        assert_eq!(
            find(&all, "only.helper/x"),
            some("only.helper", "/1.json", "<token>")
        );
    }

    #[test]
    fn docker_hub_has_many_names_in_files() {
        for name in [
            "https://index.docker.io/v1/",
            "index.docker.io/v1/",
            "docker.io",
            "registry-1.docker.io",
            "http://docker.io",
        ] {
            let file = format!(r#"{{"auths":{{"{name}":{{"username":"u","password":"p"}}}}}}"#);
            assert_eq!(
                find(&files(&[&file]), "docker.io/library/redis"),
                some(name, "/0.json", "u")
            );
        }
        let both = r#"{"auths":{"https://index.docker.io/v1/":{"username":"old","password":"p"},
            "docker.io":{"username":"new","password":"p"},"docker.io/library":{"username":"lib","password":"p"}}}"#;
        let both = files(&[both]);
        assert_eq!(
            find(&both, "docker.io/a/b"),
            some("docker.io", "/0.json", "new")
        );
        assert_eq!(
            find(&both, "docker.io/library/b"),
            some("docker.io/library", "/0.json", "lib")
        );
    }

    #[test]
    fn a_password_keeps_its_colons_and_loses_dockers_padding() {
        let secret = |auth: &str| match decode(&Secret::new(auth)) {
            Some(Credential::Password { user, password }) => (user, password.expose().to_owned()),
            other => panic!("{other:?}"),
        };
        assert_eq!(secret("YXBwOnA6cQ=="), ("app".to_owned(), "p:q".to_owned()));
        assert_eq!(secret("dTpwAAA="), ("u".to_owned(), "p".to_owned()));
    }

    #[test]
    fn a_broken_entry_counts_only_where_it_is_needed() {
        let all = files(&[
            r#"{"auths":{"a.lan":{"auth":"c2VjcmV0"},"b.lan":{"auth":"%%hunter2"},"c.lan":{"auth":"dTpw"}}}"#,
        ]);
        for host in ["a.lan", "b.lan"] {
            let found = first(&all, &format!("{host}/x")).unwrap();
            let message = found.unwrap_err().to_string();
            assert!(
                message.contains(&format!("the entry `{host}` of /0.json")),
                "{message}"
            );
            assert!(!message.contains("hunter2") && !message.contains("secret"));
        }
        assert_eq!(find(&all, "c.lan/x"), some("c.lan", "/0.json", "u"));
    }

    #[test]
    fn a_broken_file_is_named_and_never_quoted() {
        let parse = |text: &str| AuthFile::parse(Path::new("/a.json"), text.as_bytes());
        for text in [
            "{\"auths\":{\"a\":\"hunter2\"}}",
            "{\"auths\":[\"hunter2\"]}",
            "hunter2",
            "{\"auths\":{\"a\":{\"auth\":\"hunter2\"",
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(
                message.contains("/a.json") && !message.contains("hunter2"),
                "{message}"
            );
        }
        assert!(parse("").is_ok() && parse("{\"auths\":null}").is_ok());
        let shown = format!(
            "{:?}",
            files(&[r#"{"auths":{"a.lan":{"auth":"dTpodW50ZXIy"}}}"#])
        );
        assert!(
            !shown.contains("hunter2") && !shown.contains("dTpodW50ZXIy") && shown.contains("***")
        );
    }

    #[test]
    fn helpers_are_asked_in_the_names_they_know() {
        let file = |text: &str| files(&[text]).remove(0);
        let asked = |file: &AuthFile, repository: &str| {
            let offers = file.offers(&repository.parse().unwrap());
            let text = |ask: Ask| format!("{} {} {}", ask.helper, ask.server, ask.named);
            (offers.helper.map(text), offers.store.map(text))
        };
        let some = |text: &str| Some(text.to_owned());
        let all = file(
            r#"{"auths":{"https://index.docker.io/v1/":{},"kept.lan":{}},"credsStore":"desktop",
                "credHelpers":{"reg.lan:5000":"ecr-login","registry-1.docker.io":"hub","none.lan":""}}"#,
        );
        for (repository, helper, store) in [
            (
                "reg.lan:5000/a/b",
                some("ecr-login reg.lan:5000 true"),
                some("desktop reg.lan:5000 false"),
            ),
            ("reg.lan/a", None, some("desktop reg.lan false")),
            ("none.lan/a", None, some("desktop none.lan false")),
            ("kept.lan/a", None, some("desktop kept.lan true")),
            (
                "docker.io/library/redis",
                some("hub registry-1.docker.io true"),
                some("desktop https://index.docker.io/v1/ true"),
            ),
        ] {
            assert_eq!(asked(&all, repository), (helper, store), "{repository}");
        }
        let hub = asked(&file(r#"{"credsStore":"pass"}"#), "docker.io/a/b");
        assert_eq!(hub, (None, some("pass https://index.docker.io/v1/ false")));
        assert!(file("{}").is_empty() && !all.is_empty());
    }

    #[test]
    fn dockers_first_file_is_the_list_alone() {
        let text = br#"{"https://reg.lan/v1/":{"auth":"dTpw","email":"x@y"}}"#;
        let old = AuthFile::parse(Path::new("/root/.dockercfg"), text).unwrap();
        assert_eq!(
            find(&[old], "reg.lan/a"),
            some("https://reg.lan/v1/", "/root/.dockercfg", "u")
        );
    }
}

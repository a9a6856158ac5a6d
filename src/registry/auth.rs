//! Credentials as podman, skopeo and Docker keep them: `auth.json` and `config.json`.
//!
//! Files are read once, at the edge, and then looked up without I/O. Format and order: containers-auth.json(5).

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::Engine;
use serde::Deserialize;

use crate::model::image::Repository;

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

/// A credential and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) credential: Credential,
    /// The entry's name in the file.
    pub(super) entry: Arc<str>,
    pub(super) file: Arc<Path>,
}

/// Why a credentials file cannot be used. Never holds anything of its content.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialsError {
    /// The file is there, but cannot be read.
    #[error("the credentials file {} cannot be read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// The file was named and is not there.
    #[error("the credentials file {} does not exist; log in with `podman login --authfile {} REGISTRY`, or name another file", file.display(), file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The file is not what it should be.
    #[error("the credentials file {} is not readable as JSON with `auths` (line {line}, column {column})", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// The file is larger than any list of credentials.
    #[error("the credentials file {} has {size} bytes, more than {MAX_FILE_BYTES} are not read; is it the right file?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
    /// One entry is broken; it counts when it is needed.
    #[error("the entry `{entry}` of {} is broken: `auth` has to be base64 of `user:password`; log in again with `podman login {entry}`", file.display())]
    Entry {
        /// The file.
        file: PathBuf,
        /// The entry's name.
        entry: String,
    },
}

const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where credentials files may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The file that settings or `--authfile` name: it is the only one then, and has to exist.
    pub authfile: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`: it is the only one then.
    pub registry_auth_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`
    pub runtime_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`
    pub config_home: Option<PathBuf>,
    /// `DOCKER_CONFIG`, Docker's folder where it is not `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// `HOME`
    pub home: Option<PathBuf>,
}

impl Places {
    /// Asks `variable` (outside of tests [`std::env::var_os`]) for the places; empty ones count as not set.
    pub fn new(authfile: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Places {
            authfile,
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            runtime_dir: path("XDG_RUNTIME_DIR"),
            config_home: path("XDG_CONFIG_HOME"),
            docker_config: path("DOCKER_CONFIG"),
            home: path("HOME"),
        }
    }

    /// Returns the files to look into, the first that has an entry counts.
    pub fn files(&self) -> Vec<PathBuf> {
        if let Some(only) = self.authfile.as_ref().or(self.registry_auth_file.as_ref()) {
            return vec![only.clone()];
        }
        let below = |folder: &Option<PathBuf>, file: &str| folder.as_ref().map(|f| f.join(file));
        let config = below(&self.config_home, "containers/auth.json")
            .or_else(|| below(&self.home, ".config/containers/auth.json"));
        let docker = below(&self.docker_config, "config.json")
            .or_else(|| below(&self.home, ".docker/config.json"));
        let files = [
            below(&self.runtime_dir, "containers/auth.json"),
            config,
            docker,
        ];
        files.into_iter().flatten().collect()
    }
}

/// The entries of all credentials files.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    files: Vec<AuthFile>,
}

#[derive(Debug, Clone)]
struct AuthFile {
    path: Arc<Path>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    name: Arc<str>,
    /// `None` where it is broken.
    credential: Option<Credential>,
}

impl Credentials {
    /// Asks registries without saying who asks.
    pub fn none() -> Self {
        Credentials::default()
    }

    /// Reads the files at `places`; those that are not there are passed over, but for `authfile`.
    pub fn load(places: &Places) -> Result<Self, CredentialsError> {
        let mut files = Vec::new();
        for path in places.files() {
            let Some(text) = read(&path)? else {
                if places.authfile.is_some() {
                    return Err(CredentialsError::Missing { file: path });
                }
                files.push(AuthFile {
                    path: path.into(),
                    entries: BTreeMap::new(),
                });
                continue;
            };
            files.push(AuthFile::parse(&path, &text)?);
        }
        Ok(Credentials { files })
    }

    /// Returns the credential for `repository`: in the first file that has any, the entry with the longest path.
    pub(super) fn find(&self, repository: &Repository) -> Result<Option<Found>, CredentialsError> {
        self.files
            .iter()
            .find_map(|file| file.find(repository))
            .transpose()
    }

    /// Returns the files that were looked into, for messages.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.iter().map(|f| f.path.to_path_buf()).collect()
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    let fail = |source: std::io::Error| CredentialsError::Read {
        file: path.to_owned(),
        source: Arc::new(source),
    };
    match std::fs::metadata(path) {
        Ok(found) if found.len() > MAX_FILE_BYTES => Err(CredentialsError::TooLarge {
            file: path.to_owned(),
            size: found.len(),
        }),
        Ok(_) => std::fs::read(path).map(Some).map_err(fail),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
        Err(e) => Err(fail(e)),
    }
}

#[derive(Deserialize)]
struct Document {
    auths: Option<BTreeMap<String, RawEntry>>,
}

#[derive(Deserialize)]
struct RawEntry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
}

impl AuthFile {
    fn parse(path: &Path, text: &[u8]) -> Result<Self, CredentialsError> {
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
        let document: Document = serde_json::from_slice(text).map_err(malformed)?;
        let mut entries = BTreeMap::new();
        for (name, raw) in document.auths.unwrap_or_default() {
            let Some(credential) = raw.credential() else {
                continue;
            };
            let entry = Entry {
                name: name.as_str().into(),
                credential: credential.ok(),
            };
            // `docker.io` sorts before its other names, and so wins over them.
            entries.entry(normal(&name)).or_insert(entry);
        }
        Ok(AuthFile {
            path: path.into(),
            entries,
        })
    }

    fn find(&self, repository: &Repository) -> Option<Result<Found, CredentialsError>> {
        let mut key = format!(
            "{}/{}",
            alias(repository.registry().as_str()),
            repository.path()
        );
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

    fn credentials(documents: &[&str]) -> Credentials {
        let parse = |(n, text): (usize, &&str)| {
            AuthFile::parse(Path::new(&format!("/{n}.json")), text.as_bytes()).unwrap()
        };
        Credentials {
            files: documents.iter().enumerate().map(parse).collect(),
        }
    }

    /// Entry, file and user that are found.
    fn find(credentials: &Credentials, repository: &str) -> Option<(String, String, String)> {
        let found = credentials.find(&repository.parse().unwrap()).unwrap()?;
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
        let all = credentials(&[first, second]);
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
                find(&credentials(&[&file]), "docker.io/library/redis"),
                some(name, "/0.json", "u")
            );
        }
        let both = r#"{"auths":{"https://index.docker.io/v1/":{"username":"old","password":"p"},
            "docker.io":{"username":"new","password":"p"},"docker.io/library":{"username":"lib","password":"p"}}}"#;
        let both = credentials(&[both]);
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
        let all = credentials(&[
            r#"{"auths":{"a.lan":{"auth":"c2VjcmV0"},"b.lan":{"auth":"%%hunter2"},"c.lan":{"auth":"dTpw"}}}"#,
        ]);
        for host in ["a.lan", "b.lan"] {
            let repository = format!("{host}/x").parse().unwrap();
            let message = all.find(&repository).unwrap_err().to_string();
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
            credentials(&[r#"{"auths":{"a.lan":{"auth":"dTpodW50ZXIy"}}}"#])
        );
        assert!(
            !shown.contains("hunter2") && !shown.contains("dTpodW50ZXIy") && shown.contains("***")
        );
    }

    #[test]
    fn files_are_looked_for_where_podman_looks() {
        let variables = |pairs: &'static [(&str, &str)]| {
            let find = |name: &str| {
                pairs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| v.into())
            };
            let files = Places::new(None, find).files();
            files
                .iter()
                .map(|f| f.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            variables(&[
                ("XDG_RUNTIME_DIR", "/run/u"),
                ("XDG_CONFIG_HOME", "/c"),
                ("HOME", "/h")
            ]),
            [
                "/run/u/containers/auth.json",
                "/c/containers/auth.json",
                "/h/.docker/config.json"
            ]
        );
        assert_eq!(
            variables(&[
                ("HOME", "/h"),
                ("XDG_RUNTIME_DIR", ""),
                ("DOCKER_CONFIG", "/d")
            ]),
            ["/h/.config/containers/auth.json", "/d/config.json"]
        );
        assert_eq!(
            variables(&[("REGISTRY_AUTH_FILE", "/a"), ("HOME", "/h")]),
            ["/a"]
        );
        let named = Places::new(Some("/b".into()), |_| Some("/x".into()));
        assert_eq!(named.files(), [PathBuf::from("/b")]);
        assert!(variables(&[]).is_empty());
    }

    #[test]
    fn a_named_file_has_to_exist_and_others_need_not() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("auth.json");
        let named = Places::new(Some(missing.clone()), |_| None);
        assert!(matches!(
            Credentials::load(&named),
            Err(CredentialsError::Missing { .. })
        ));
        let home = Some(folder.path().as_os_str().to_owned());
        let places = Places::new(None, |name| home.clone().filter(|_| name == "HOME"));
        assert_eq!(Credentials::load(&places).unwrap().files().len(), 2);
        std::fs::write(&missing, vec![b' '; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert!(matches!(
            Credentials::load(&named),
            Err(CredentialsError::TooLarge { .. })
        ));
    }
}

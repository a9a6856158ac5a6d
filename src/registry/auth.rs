//! Credentials as podman, skopeo and Docker keep them: which files are looked into, and what is found.
//!
//! Files are looked at each time a credential is needed and read again when they have changed, so that a rotated pull secret needs
//! no restart. Order of the files: containers-auth.json(5), as containers/image has it.

use std::{
    ffi::OsString,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use crate::{
    model::image::Repository,
    registry::{
        authfile::{Ask, AuthFile},
        helper::Helpers,
        stamp::Stamp,
    },
};

pub(super) use crate::registry::credential::{Credential, Found, Identity, Secret};
pub use crate::registry::helper::HelperProblem;

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
    /// A credential helper does not help.
    #[error("the credential helper `docker-credential-{helper}`, which {} names for {server}, {problem}", file.display())]
    Helper {
        /// The file that names it.
        file: PathBuf,
        /// Its name, without `docker-credential-`.
        helper: String,
        /// What it was asked for.
        server: String,
        /// What is wrong with it.
        problem: HelperProblem,
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
    /// The file that `podman login` writes: below `XDG_RUNTIME_DIR`, else (as for a systemd service) `/run/containers/UID/auth.json`.
    pub runtime_file: Option<PathBuf>,
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
        let runtime = path("XDG_RUNTIME_DIR").unwrap_or_else(|| {
            let user = nix::unistd::getuid().to_string();
            Path::new("/run/containers").join(user)
        });
        let runtime_file = match runtime.starts_with("/run/containers") {
            true => runtime.join("auth.json"),
            false => runtime.join("containers/auth.json"),
        };
        Places {
            authfile,
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            runtime_file: Some(runtime_file),
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
            self.runtime_file.clone(),
            config,
            docker,
            below(&self.home, ".dockercfg"),
        ];
        files.into_iter().flatten().collect()
    }
}

/// What is known of all credentials files. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Credentials(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    files: Vec<Watched>,
    helpers: Helpers,
}

impl Credentials {
    /// Asks registries without saying who asks.
    pub fn none() -> Self {
        Credentials::default()
    }

    /// Reads the files at `places`; those that are not there are passed over, but for `authfile`.
    pub fn load(places: &Places) -> Result<Self, CredentialsError> {
        let required = places.authfile.is_some();
        let watched = |path: PathBuf| Watched::open(&path, required);
        let files = places.files().into_iter().map(watched);
        Ok(Credentials(Arc::new(Inner {
            files: files.collect::<Result<_, _>>()?,
            helpers: Helpers::default(),
        })))
    }

    /// Returns the credential for `repository` as it is now: of the first file that has any, what its helper for the host gives,
    /// else the entry with the longest path, else what its helper for all hosts gives.
    pub(super) async fn find(
        &self,
        repository: &Repository,
    ) -> Result<Option<Found>, CredentialsError> {
        for watched in &self.0.files {
            let file = watched.current();
            let offers = file.offers(repository);
            if let Some(ask) = &offers.helper
                && let Some(found) = self.ask(&file, ask).await?
            {
                return Ok(Some(found));
            }
            if let Some(entry) = offers.entry {
                return entry.map(Some);
            }
            if let Some(ask) = &offers.store
                && let Some(found) = self.ask(&file, ask).await?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn ask(&self, file: &AuthFile, ask: &Ask) -> Result<Option<Found>, CredentialsError> {
        let given = match self.0.helpers.get(&ask.helper, &ask.server).await {
            Ok(given) => given,
            // A `config.json` that came from another machine names a store that is not here, and podman never asks it.
            Err(HelperProblem::Missing) if !ask.named => {
                tracing::debug!(helper = %ask.helper, file = %file.path().display(), "the store of all credentials is not installed");
                return Ok(None);
            }
            Err(problem) => {
                return Err(CredentialsError::Helper {
                    file: file.path().to_path_buf(),
                    helper: ask.helper.to_string(),
                    server: ask.server.to_string(),
                    problem,
                });
            }
        };
        Ok(given.map(|credential| Found {
            credential,
            entry: ask.server.clone(),
            file: file.path().clone(),
            helper: Some(ask.helper.clone()),
        }))
    }

    /// Has the helper that gave `found` asked again the next time; its answer was refused.
    pub(super) async fn doubt(&self, found: &Found) {
        if let Some(helper) = &found.helper {
            let (helpers, identity) = (&self.0.helpers, found.credential.identity());
            helpers.forget(helper, &found.entry, identity).await;
        }
    }

    /// Returns the files that were looked into, for messages.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files = self.0.files.iter();
        files.map(|f| f.path.to_path_buf()).collect()
    }
}

/// A credentials file that is read again when it has changed.
#[derive(Debug)]
struct Watched {
    path: Arc<Path>,
    /// Whether it was named, so that its absence is no reason to forget it.
    required: bool,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// How the file looked when it was read; nothing where it may have changed since without looking different.
    stamp: Option<Stamp>,
    /// The last content that made sense.
    file: Arc<AuthFile>,
    /// How it looked when it was complained about.
    complained: Option<Stamp>,
}

impl Watched {
    fn open(path: &Path, required: bool) -> Result<Self, CredentialsError> {
        let stamp = Stamp::of(path);
        let file = match read(path)? {
            Some(text) => AuthFile::parse(path, &text)?,
            None if required => {
                return Err(CredentialsError::Missing {
                    file: path.to_owned(),
                });
            }
            None => AuthFile::empty(path),
        };
        Ok(Watched {
            path: path.into(),
            required,
            kept: Mutex::new(Kept {
                stamp: stamp.settled(SystemTime::now()),
                file: Arc::new(file),
                complained: None,
            }),
        })
    }

    /// Returns the file's content; the last that made sense where it is just being written.
    fn current(&self) -> Arc<AuthFile> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::of(&self.path);
        if kept.stamp.as_ref() == Some(&stamp) {
            return kept.file.clone();
        }
        match self.reread(&kept.file) {
            Ok(file) => kept.file = Arc::new(file),
            Err(why) if kept.complained.as_ref() != Some(&stamp) => {
                tracing::warn!("{why}; what was in it before stays in use");
                kept.complained = Some(stamp.clone());
            }
            Err(_) => {}
        }
        kept.stamp = stamp.settled(SystemTime::now());
        kept.file.clone()
    }

    fn reread(&self, before: &AuthFile) -> Result<AuthFile, String> {
        let name = self.path.display();
        match read(&self.path).map_err(|e| e.to_string())? {
            // Who writes a file anew empties it first.
            Some(text) if text.trim_ascii().is_empty() && !before.is_empty() => {
                Err(format!("the credentials file {name} is empty now"))
            }
            Some(text) => AuthFile::parse(&self.path, &text).map_err(|e| e.to_string()),
            None if self.required => Err(format!("the credentials file {name} is gone")),
            None => Ok(AuthFile::empty(&self.path)),
        }
    }
}

/// Reads a file whole; nothing where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    let fail = |source: io::Error| CredentialsError::Read {
        file: path.to_owned(),
        source: Arc::new(source),
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if is_absent(e.kind()) => return Ok(None),
        Err(e) => return Err(fail(e)),
    };
    let mut text = Vec::new();
    let whole = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text);
    whole.map_err(fail)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(CredentialsError::TooLarge {
            file: path.to_owned(),
            size: std::fs::metadata(path).map_or(text.len() as u64, |found| found.len()),
        });
    }
    Ok(Some(text))
}

fn is_absent(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_looked_for_where_podman_looks() {
        let own = format!("/run/containers/{}/auth.json", nix::unistd::getuid());
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
                "/h/.docker/config.json",
                "/h/.dockercfg"
            ]
        );
        assert_eq!(
            variables(&[
                ("HOME", "/h"),
                ("XDG_RUNTIME_DIR", ""),
                ("DOCKER_CONFIG", "/d")
            ]),
            [
                &own,
                "/h/.config/containers/auth.json",
                "/d/config.json",
                "/h/.dockercfg"
            ]
        );
        assert_eq!(
            variables(&[("REGISTRY_AUTH_FILE", "/a"), ("HOME", "/h")]),
            ["/a"]
        );
        let named = Places::new(Some("/b".into()), |_| Some("/x".into()));
        assert_eq!(named.files(), [PathBuf::from("/b")]);
        // Without a session, as under systemd, podman has its file there.
        assert_eq!(variables(&[]), [own]);
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
        assert_eq!(Credentials::load(&places).unwrap().files().len(), 4);
        std::fs::write(&missing, vec![b' '; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert!(matches!(
            Credentials::load(&named),
            Err(CredentialsError::TooLarge { .. })
        ));
    }
}

//! `registries.conf`: where it is, how it is written, and reading it again when it changes.
//!
//! containers-registries.conf(5) and containers-registries.conf.d(5), version 2. What is for short names is passed over: image sets
//! write names out.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use serde::Deserialize;

use crate::registry::{
    protocol,
    sources::{Mirror, Pull, Rules, Table},
    stamp::Stamp,
};

/// Why a `registries.conf` cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConfError {
    /// It cannot be read.
    #[error("the file {} cannot be read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// It is longer than such files are.
    #[error("the file {} has more than {MAX_FILE_BYTES} bytes; is it a registries.conf?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// It is not TOML, or a key holds something else than it should.
    #[error("{}:{line}: {message}; containers-registries.conf(5) has the format", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// It is of the first version.
    #[error(
        "{} is in version 1 of the format (`[registries.search]` and the like), which is not read; write `[[registry]]` tables, or say \
         `registries_conf: none` in the settings", file.display()
    )]
    Version1 {
        /// The file.
        file: PathBuf,
    },
    /// A table contradicts itself.
    #[error("{}: the `[[registry]]` for `{table}` {problem}", file.display())]
    Table {
        /// The file.
        file: PathBuf,
        /// Its prefix or location; empty where it has neither.
        table: String,
        /// What is wrong, as a clause.
        problem: String,
    },
}

const MAX_FILE_BYTES: u64 = 4 << 20;

/// Where `registries.conf` may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfPlaces {
    /// The one file that counts, and has to exist.
    only: Option<PathBuf>,
    /// Files of which the first that exists counts, each with the folders whose files are added to it.
    usual: Vec<(PathBuf, Vec<PathBuf>)>,
}

impl ConfPlaces {
    /// Nowhere.
    pub fn none() -> Self {
        ConfPlaces::default()
    }

    /// This file alone.
    pub fn file(file: PathBuf) -> Self {
        ConfPlaces {
            only: Some(file),
            usual: Vec::new(),
        }
    }

    /// The places of podman and skopeo: `CONTAINERS_REGISTRIES_CONF` alone where it is set (podman 6), else the user's file with
    /// its folder, else the system's with both folders. `variable` is asked for the environment.
    pub fn usual(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(file) = path("CONTAINERS_REGISTRIES_CONF") {
            return ConfPlaces::file(file);
        }
        let own = path("HOME").map(|home| home.join(".config/containers"));
        let file = |folder: &Path| folder.join("registries.conf");
        let more = |folder: &Path| folder.join("registries.conf.d");
        let system = Path::new("/etc/containers");
        let own_more = own.as_deref().map(more);
        let of_system = std::iter::once(more(system)).chain(own_more.clone());
        let of_user = own.as_deref().map(file).zip(own_more.map(|m| vec![m]));
        ConfPlaces {
            only: None,
            usual: of_user
                .into_iter()
                .chain([(file(system), of_system.collect())])
                .collect(),
        }
    }

    /// Returns the files to read, in their order, and whether the first has to exist.
    fn files(&self) -> (Vec<PathBuf>, bool) {
        if let Some(only) = &self.only {
            return (vec![only.clone()], true);
        }
        let exists = |(file, _): &&(PathBuf, _)| file.is_file();
        let first = self.usual.iter().find(exists).or(self.usual.last());
        let Some((file, folders)) = first else {
            return (Vec::new(), false);
        };
        let more = folders.iter().flat_map(|folder| drop_ins(folder));
        (std::iter::once(file.clone()).chain(more).collect(), false)
    }
}

/// Returns the `*.conf` of a folder, sorted by name; none where there is no folder.
fn drop_ins(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "conf") && path.is_file())
        .collect();
    files.sort();
    files
}

/// The rules of a `registries.conf`, read again when a file of it changes. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct RegistriesConf(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    places: ConfPlaces,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// How the files looked when they were read; nothing where one may have changed since without looking different.
    stamps: Option<Vec<(PathBuf, Stamp)>>,
    /// The last rules that made sense.
    rules: Arc<Rules>,
    /// How the files looked when they were complained about.
    complained: Option<Vec<(PathBuf, Stamp)>>,
}

impl RegistriesConf {
    /// Reads the files at `places`.
    pub fn load(places: ConfPlaces) -> Result<Self, ConfError> {
        let (files, required) = places.files();
        let stamps = stamps(&files);
        let rules = Arc::new(read_all(&files, required)?);
        Ok(RegistriesConf(Arc::new(Inner {
            places,
            kept: Mutex::new(Kept {
                stamps: settled(&stamps),
                rules,
                complained: None,
            }),
        })))
    }

    /// Returns the rules as they are now; the last that made sense where a file is just being written.
    pub(super) fn current(&self) -> Arc<Rules> {
        let inner = &self.0;
        let (files, required) = inner.places.files();
        let stamps = stamps(&files);
        let mut kept = inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.stamps.as_ref() == Some(&stamps) {
            return kept.rules.clone();
        }
        match read_all(&files, required) {
            Ok(rules) => {
                if rules != *kept.rules {
                    tracing::info!(tables = rules.tables.len(), "registries.conf has changed");
                    kept.rules = Arc::new(rules);
                }
            }
            Err(why) if kept.complained.as_ref() != Some(&stamps) => {
                tracing::warn!("{why}; what it said before stays in use");
                kept.complained = Some(stamps.clone());
            }
            Err(_) => {}
        }
        kept.stamps = settled(&stamps);
        kept.rules.clone()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<(PathBuf, Stamp)> {
    let stamp = |file: &PathBuf| (file.clone(), Stamp::of(file));
    files.iter().map(stamp).collect()
}

fn settled(stamps: &[(PathBuf, Stamp)]) -> Option<Vec<(PathBuf, Stamp)>> {
    let now = SystemTime::now();
    let one = |(file, stamp): &(PathBuf, Stamp)| Some((file.clone(), stamp.settled(now)?));
    stamps.iter().map(one).collect()
}

/// Reads files in their order: a later table replaces an earlier one with its prefix.
fn read_all(files: &[PathBuf], required: bool) -> Result<Rules, ConfError> {
    let mut rules = Rules::default();
    for file in files {
        let Some(text) = read(file, required)? else {
            continue;
        };
        let mut seen = BTreeMap::new();
        for table in parse(file, &text)? {
            // In one file, the first of two with one prefix counts.
            if seen.insert(table.prefix.clone(), ()).is_some() {
                continue;
            }
            match rules.tables.iter_mut().find(|t| t.prefix == table.prefix) {
                Some(before) => *before = table,
                None => rules.tables.push(table),
            }
        }
    }
    Ok(rules)
}

fn read(file: &Path, required: bool) -> Result<Option<String>, ConfError> {
    let fail = |source: io::Error| ConfError::Read {
        file: file.to_owned(),
        source: Arc::new(source),
    };
    let opened = match fs::File::open(file) {
        Ok(opened) => opened,
        Err(_) if !required && !file.exists() => return Ok(None),
        Err(e) => return Err(fail(e)),
    };
    let mut text = String::new();
    let whole = opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    whole.map_err(fail)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfError::TooLarge {
            file: file.to_owned(),
        });
    }
    Ok(Some(text))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    registry: Vec<RawTable>,
    /// Version 1.
    registries: Option<toml::Value>,
    credential_helpers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawTable {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
    proxy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
    proxy: Option<String>,
}

/// Reads a file's text.
fn parse(file: &Path, text: &str) -> Result<Vec<Table>, ConfError> {
    let document: Document = toml::from_str(text).map_err(|e| ConfError::Syntax {
        file: file.to_owned(),
        line: e.span().map_or(1, |at| line(text, at.start)),
        message: protocol::printable(e.message(), 200),
    })?;
    let version1 = document.registries.as_ref().and_then(toml::Value::as_table);
    if version1.is_some_and(|t| !t.is_empty()) {
        return Err(ConfError::Version1 {
            file: file.to_owned(),
        });
    }
    let beyond = |name: &String| name != "containers-auth.json";
    if document.credential_helpers.iter().flatten().any(beyond) {
        tracing::warn!(file = %file.display(), "`credential-helpers` are not read here; name them in auth.json, as `credHelpers` or `credsStore`");
    }
    let path: Arc<Path> = file.into();
    let tables = document.registry.into_iter().map(|raw| raw.table(&path));
    tables.collect()
}

fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    before.iter().filter(|b| **b == b'\n').count() + 1
}

impl RawTable {
    fn table(self, file: &Arc<Path>) -> Result<Table, ConfError> {
        let name = match self.prefix.is_empty() {
            true => self.location.clone(),
            false => self.prefix.clone(),
        };
        let wrong = |problem: String| ConfError::Table {
            file: file.to_path_buf(),
            table: protocol::printable(&name, 120),
            problem,
        };
        let location = place("location", &self.location).map_err(wrong)?;
        let prefix = place("prefix", &self.prefix).map_err(wrong)?;
        let wildcard = prefix.as_deref().is_some_and(|p| p.starts_with("*."));
        if location.is_none() && !wildcard {
            let problem = match prefix {
                Some(_) => "has no `location`; only a `*.` prefix may go without",
                None => "has neither `prefix` nor `location`",
            };
            return Err(wrong(problem.to_owned()));
        }
        if self.proxy.is_some() || self.mirror.iter().any(|m| m.proxy.is_some()) {
            tracing::warn!(file = %file.display(), table = %name, "`proxy` of a single registry is not read here; proxies are those of the environment");
        }
        let digests = self.mirror_by_digest_only;
        let mirrors = self.mirror.into_iter().map(|m| m.mirror(digests));
        let mirrors = mirrors.collect::<Result<_, _>>().map_err(wrong)?;
        Ok(Table {
            prefix: prefix.or_else(|| location.clone()).unwrap_or_default(),
            location,
            insecure: self.insecure,
            blocked: self.blocked,
            mirrors,
            file: file.clone(),
        })
    }
}

impl RawMirror {
    fn mirror(self, digests: bool) -> Result<Mirror, String> {
        let location = place("location", &self.location)?;
        let location = location.ok_or("has a mirror without a `location`")?;
        let pull = match self.pull_from_mirror.as_str() {
            "" if digests => Pull::Digest,
            "" => Pull::All,
            _ if digests => {
                return Err(
                    "has both `mirror-by-digest-only` and `pull-from-mirror`; leave one out"
                        .to_owned(),
                );
            }
            "all" => Pull::All,
            "digest-only" => Pull::Digest,
            "tag-only" => Pull::Tag,
            other => {
                let other = protocol::printable(other, 40);
                return Err(format!(
                    "has `pull-from-mirror = \"{other}\"`; `all`, `digest-only` or `tag-only` is expected"
                ));
            }
        };
        Ok(Mirror {
            location,
            insecure: self.insecure,
            pull,
        })
    }
}

/// Reads a prefix or a location, as a clause where it is none.
fn place(key: &str, text: &str) -> Result<Option<String>, String> {
    let trimmed = text.trim_end_matches('/');
    if trimmed.contains("://") {
        return Err(format!(
            "has a URL as `{key}`; leave `http://` or `https://` out (plain HTTP is `insecure = true`)"
        ));
    }
    let misplaced = match trimmed.strip_prefix("*.") {
        Some(rest) if key == "prefix" => rest.contains(['*', '/', ':']),
        _ => trimmed.contains('*'),
    };
    if misplaced {
        return Err(format!(
            "has `{}` as `{key}`; `*` stands for hosts alone, as in `*.example.com`, and in a `prefix`",
            protocol::printable(trimmed, 120)
        ));
    }
    Ok(Some(trimmed.to_owned()).filter(|t| !t.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Table>, String> {
        parse(Path::new("/r.conf"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn tables_are_read_as_podman_reads_them() {
        let text = r#"
unqualified-search-registries = ["docker.io"]
short-name-mode = "enforcing"
[aliases]
"fedora" = "registry.fedoraproject.org/fedora"

[[registry]]
prefix = "example.com/foo"
location = "internal.lan/bar/"
insecure = true
[[registry.mirror]]
location = "m0.lan/x"
[[registry.mirror]]
location = "m1.lan"
insecure = true
pull-from-mirror = "tag-only"

[[registry]]
location = "registry.com"
blocked = true
mirror-by-digest-only = true
mirror = [{location = "m.lan"}]

[[registry]]
prefix = "*.wild.io"
"#;
        let mirror = |location: &str, insecure, pull| Mirror {
            location: location.to_owned(),
            insecure,
            pull,
        };
        let table = |prefix: &str, location: Option<&str>, insecure, blocked, mirrors| Table {
            prefix: prefix.to_owned(),
            location: location.map(str::to_owned),
            insecure,
            blocked,
            mirrors,
            file: Path::new("/r.conf").into(),
        };
        assert_eq!(
            parsed(text).unwrap(),
            [
                table(
                    "example.com/foo",
                    Some("internal.lan/bar"),
                    true,
                    false,
                    vec![
                        mirror("m0.lan/x", false, Pull::All),
                        mirror("m1.lan", true, Pull::Tag)
                    ]
                ),
                table(
                    "registry.com",
                    Some("registry.com"),
                    false,
                    true,
                    vec![mirror("m.lan", false, Pull::Digest)]
                ),
                table("*.wild.io", None, false, false, vec![]),
            ]
        );
        assert_eq!(parsed("").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            (
                "[registries.search]\nregistries = ['a.io']\n",
                "/r.conf is in version 1 of the format (`[registries.search]` and the like), which is not read; write `[[registry]]` tables, or say `registries_conf: none` in the settings",
            ),
            (
                "[[registry]]\nprefix = 'a.io'\n",
                "/r.conf: the `[[registry]]` for `a.io` has no `location`; only a `*.` prefix may go without",
            ),
            (
                "[[registry]]\n",
                "/r.conf: the `[[registry]]` for `` has neither `prefix` nor `location`",
            ),
            (
                "[[registry]]\nlocation = 'https://a.io'\n",
                "/r.conf: the `[[registry]]` for `https://a.io` has a URL as `location`; leave `http://` or `https://` out (plain HTTP is `insecure = true`)",
            ),
            (
                "[[registry]]\nprefix = '*.a.io/x'\nlocation = 'a.io'\n",
                "/r.conf: the `[[registry]]` for `*.a.io/x` has `*.a.io/x` as `prefix`; `*` stands for hosts alone, as in `*.example.com`, and in a `prefix`",
            ),
            (
                "[[registry]]\nlocation = 'a.io'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'b.io'\npull-from-mirror = 'all'\n",
                "/r.conf: the `[[registry]]` for `a.io` has both `mirror-by-digest-only` and `pull-from-mirror`; leave one out",
            ),
            (
                "[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\nlocation = 'b.io'\npull-from-mirror = 'digest'\n",
                "/r.conf: the `[[registry]]` for `a.io` has `pull-from-mirror = \"digest\"`; `all`, `digest-only` or `tag-only` is expected",
            ),
            (
                "[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\ninsecure = true\n",
                "/r.conf: the `[[registry]]` for `a.io` has a mirror without a `location`",
            ),
            (
                "\n[[registry]]\nlocation = 'a.io'\ninsecure = 'yes'\n",
                "/r.conf:4: invalid type: string \"yes\", expected a boolean; containers-registries.conf(5) has the format",
            ),
        ] {
            assert_eq!(parsed(text).unwrap_err(), expected);
        }
        assert!(
            parsed("[[registry\n")
                .unwrap_err()
                .starts_with("/r.conf:1: ")
        );
    }

    #[test]
    fn files_are_where_podman_looks_and_later_ones_replace() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        let places = |variables: &[(&str, &Path)]| {
            ConfPlaces::usual(|name| {
                let found = variables.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| value.as_os_str().to_owned())
            })
        };
        let own = home.join(".config/containers");
        let write = |name: &str, text: &str| {
            let file = own.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let prefixes = |conf: &RegistriesConf| {
            let rules = conf.current();
            let show =
                |t: &Table| format!("{} {:?}", t.prefix, t.location.as_deref().unwrap_or(""));
            rules.tables.iter().map(show).collect::<Vec<_>>()
        };
        write(
            "registries.conf",
            "[[registry]]\nlocation = 'a.io'\n[[registry]]\nprefix = 'a.io'\nlocation = 'x'\n",
        );
        write(
            "registries.conf.d/2.conf",
            "[[registry]]\nprefix = 'a.io'\nlocation = 'second.io'\n",
        );
        write(
            "registries.conf.d/1.conf",
            "[[registry]]\nprefix = 'a.io'\nlocation = 'first.io'\n[[registry]]\nlocation = 'b.io'\n",
        );
        write("registries.conf.d/notes.txt", "not TOML at all");
        let conf = RegistriesConf::load(places(&[("HOME", home)])).unwrap();
        assert_eq!(prefixes(&conf), ["a.io \"second.io\"", "b.io \"b.io\""]);
        write("registries.conf.d/2.conf", "");
        assert_eq!(prefixes(&conf), ["a.io \"first.io\"", "b.io \"b.io\""]);
        // In the middle of a rewrite.
        write("registries.conf", "[[regis");
        assert_eq!(prefixes(&conf), ["a.io \"first.io\"", "b.io \"b.io\""]);

        let named = own.join("registries.conf.d/1.conf");
        let only = [
            ("CONTAINERS_REGISTRIES_CONF", named.as_path()),
            ("HOME", home),
        ];
        let conf = RegistriesConf::load(places(&only)).unwrap();
        assert_eq!(prefixes(&conf), ["a.io \"first.io\"", "b.io \"b.io\""]);
        let none = RegistriesConf::load(places(&[(
            "CONTAINERS_REGISTRIES_CONF",
            Path::new("/dev/null"),
        )]));
        assert!(prefixes(&none.unwrap()).is_empty());
        let absent = RegistriesConf::load(ConfPlaces::file(home.join("absent"))).unwrap_err();
        assert!(
            absent.to_string().contains("absent cannot be read"),
            "{absent}"
        );
        assert_eq!(
            places(&[]).usual,
            [(
                "/etc/containers/registries.conf".into(),
                vec!["/etc/containers/registries.conf.d".into()]
            )]
        );
    }
}

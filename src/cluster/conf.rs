//! `registries.conf` as a file: TOML, version 2 of the format (containers-registries.conf(5)).

use std::{collections::BTreeMap, fmt::Write};

use serde::Deserialize;

use crate::cluster::{
    node::{Mirror, Naming, Node, Pull, Registry},
    place::Place,
};

/// The largest file that is read; a thousand mirror rules are a fifth of a MiB.
pub const MAX_BYTES: usize = 4 << 20;

/// What the operator's template says, which is what a node has without any mirror rule.
pub const TEMPLATE: &str =
    "unqualified-search-registries = ['registry.access.redhat.com', 'docker.io']\n";

/// Why a file is not one that a node reads, a sentence without the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfError {
    /// It is too large or not text.
    #[error("it is larger than {MAX_BYTES} bytes, or not UTF-8 text")]
    Unreadable,
    /// It is not TOML, or a value is of another type.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line, from 1; 0 where it is not known.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// It is of the old version.
    #[error(
        "it is written in version 1 of the format (`[registries.search]`), which nodes of OpenShift do not have; write `[[registry]]` tables"
    )]
    Version1,
    /// A table is one that containers/image refuses.
    #[error("`[[registry]]` number {number}: {message}")]
    Table {
        /// Its number, from 1.
        number: usize,
        /// What is wrong.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    credential_helpers: Option<Vec<String>>,
    #[serde(default)]
    short_name_mode: String,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    #[serde(default)]
    registry: Vec<Table>,
    registries: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Table {
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
    pull_from_mirror: String,
    #[serde(default)]
    mirror: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Endpoint {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

impl Node {
    /// Reads a `registries.conf`; keys that say nothing about mirrors are passed over.
    ///
    /// # Errors
    ///
    /// What is no TOML, and what containers/image refuses (`postProcessRegistries`).
    pub fn parse(bytes: &[u8]) -> Result<Node, ConfError> {
        let text = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| text.len() <= MAX_BYTES)
            .ok_or(ConfError::Unreadable)?;
        let file: File = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        if file.registries.is_some() {
            return Err(ConfError::Version1);
        }
        let mut registries = Vec::new();
        for (index, table) in file.registry.into_iter().enumerate() {
            let registry = registry(table).map_err(|message| ConfError::Table {
                number: index + 1,
                message,
            })?;
            registries.push(registry);
        }
        agree(&registries)?;
        Ok(Node {
            search: file.unqualified_search_registries,
            credential_helpers: file.credential_helpers,
            short_name_mode: file.short_name_mode,
            aliases: file.aliases.into_iter().collect(),
            registries,
        })
    }

    /// Returns the file that the operator's template is for, before any rule.
    pub fn template() -> Node {
        Node {
            search: Some(vec![
                "registry.access.redhat.com".to_owned(),
                "docker.io".to_owned(),
            ]),
            ..Node::default()
        }
    }

    /// Writes the file as the operator does, empty keys included.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let list = |names: &[String]| {
            let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            names.join(", ")
        };
        // Writing to a String cannot fail.
        if let Some(search) = &self.search {
            _ = writeln!(out, "unqualified-search-registries = [{}]", list(search));
        }
        if let Some(helpers) = &self.credential_helpers {
            _ = writeln!(out, "credential-helpers = [{}]", list(helpers));
        }
        _ = writeln!(out, "short-name-mode = {}", quoted(&self.short_name_mode));
        self.registries
            .iter()
            .for_each(|registry| table(&mut out, registry));
        if !self.aliases.is_empty() {
            out += "\n[aliases]\n";
            for (name, target) in &self.aliases {
                _ = writeln!(out, "  {} = {}", quoted(name), quoted(target));
            }
        }
        out
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> ConfError {
    let start = error.span().map(|span| span.start);
    let before = start.and_then(|start| text.get(..start));
    ConfError::Syntax {
        line: before.map_or(0, |before| before.matches('\n').count() + 1),
        message: error.message().chars().take(300).collect(),
    }
}

fn registry(table: Table) -> Result<Registry, String> {
    let prefix = place(&table.prefix)?;
    let location = place(&table.location)?;
    let naming = match (prefix, location) {
        (None, None) => return Err("it has neither a prefix nor a location".to_owned()),
        (None, Some(location)) => Naming::Location(location),
        (Some(prefix), None) if !prefix.is_wildcard() => {
            return Err(format!(
                "the prefix `{prefix}` has no location, which only `*.host` may lack"
            ));
        }
        (Some(prefix), location) => Naming::Prefix(prefix, location),
    };
    if !table.pull_from_mirror.is_empty() {
        return Err("pull-from-mirror belongs to a mirror, not to a registry".to_owned());
    }
    let mirrors = table.mirror.into_iter().map(mirror);
    let registry = Registry {
        naming,
        insecure: table.insecure,
        blocked: table.blocked,
        digest_only: table.mirror_by_digest_only,
        mirrors: mirrors.collect::<Result<_, _>>()?,
    };
    let twice = |m: &&Mirror| registry.digest_only && m.pull != Pull::Unsaid;
    match registry.mirrors.iter().find(twice) {
        Some(mirror) => Err(format!(
            "the registry says mirror-by-digest-only and its mirror `{}` says pull-from-mirror; one of the two is possible",
            mirror.location
        )),
        None => Ok(registry),
    }
}

fn mirror(endpoint: Endpoint) -> Result<Mirror, String> {
    let location = place(&endpoint.location)?.ok_or("a mirror has no location")?;
    let words = [Pull::Unsaid, Pull::All, Pull::Digest, Pull::Tag];
    let pull = words
        .into_iter()
        .find(|word| word.as_str() == endpoint.pull_from_mirror);
    let pull = pull.ok_or_else(|| {
        let word: String = endpoint.pull_from_mirror.chars().take(80).collect();
        format!(
            "`{word}` is not a value of pull-from-mirror; `all`, `digest-only` and `tag-only` are"
        )
    })?;
    Ok(Mirror {
        location,
        insecure: endpoint.insecure,
        pull,
    })
}

fn place(text: &str) -> Result<Option<Place>, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        let text: String = text.chars().take(120).collect();
        return Err(format!(
            "`{text}` begins with a scheme; write the host without it"
        ));
    }
    Ok(Some(Place::new(text)).filter(|place| !place.as_str().is_empty()))
}

/// Tables for one location have to agree about what is insecure and blocked.
fn agree(registries: &[Registry]) -> Result<(), ConfError> {
    let mut seen: BTreeMap<&Place, &Registry> = BTreeMap::new();
    for (index, registry) in registries.iter().enumerate() {
        let place = registry.location().unwrap_or(registry.scope());
        let first = *seen.entry(place).or_insert(registry);
        if (first.insecure, first.blocked) != (registry.insecure, registry.blocked) {
            return Err(ConfError::Table {
                number: index + 1,
                message: format!(
                    "`{place}` is there before, with another value of insecure or blocked"
                ),
            });
        }
    }
    Ok(())
}

fn table(out: &mut String, registry: &Registry) {
    let prefix = match &registry.naming {
        Naming::Location(_) => "",
        Naming::Prefix(prefix, _) => prefix.as_str(),
    };
    // Writing to a String cannot fail.
    _ = writeln!(out, "\n[[registry]]\n  prefix = {}", quoted(prefix));
    if let Some(location) = registry.location() {
        _ = writeln!(out, "  location = {}", quoted(location.as_str()));
    }
    let flags = [
        (registry.insecure, "insecure"),
        (registry.blocked, "blocked"),
        (registry.digest_only, "mirror-by-digest-only"),
    ];
    for (_, flag) in flags.iter().filter(|(on, _)| *on) {
        _ = writeln!(out, "  {flag} = true");
    }
    for mirror in &registry.mirrors {
        let location = quoted(mirror.location.as_str());
        _ = writeln!(out, "\n  [[registry.mirror]]\n    location = {location}");
        if mirror.insecure {
            out.push_str("    insecure = true\n");
        }
        if mirror.pull != Pull::Unsaid {
            let pull = quoted(mirror.pull.as_str());
            _ = writeln!(out, "    pull-from-mirror = {pull}");
        }
    }
}

/// Returns a basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // Writing to a String cannot fail.
            c if c.is_control() => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

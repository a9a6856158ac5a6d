//! What install-config.yaml needs for a mirror, as a fragment or put into a given file without touching the rest of it.

use std::{collections::BTreeMap, str::FromStr};

use serde_json::{Map, Value, json};

use crate::{
    cluster::{
        node::{Node, Pull},
        objects::Objects,
        operator::Refusal,
        pull_secret, yaml as writer,
    },
    model::policy::MirrorSourcePolicy,
    yaml::{self, Problem, Severity},
};

/// The minor version from which the field has its new name.
const DIGEST_SOURCES_SINCE: u32 = 14;

/// The minor version from which entries take `sourcePolicy`: merged upstream late in 2025, after 4.21 was cut. An installer that does
/// not know the field refuses the file; without it nodes may turn to the source, no more.
const SOURCE_POLICY_SINCE: u32 = 22;

/// The minor version from which `additionalTrustBundlePolicy` is known.
const BUNDLE_POLICY_SINCE: u32 = 12;

/// The version of OpenShift that is to be installed: `4.16`, or any longer form of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    minor: u32,
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("`{text}` is not a version of OpenShift 4, such as `4.16` or `4.16.3`");
        let mut parts = text.trim_start_matches('v').split(['.', '-']);
        let (major, minor) = (parts.next(), parts.next());
        match (major, minor.and_then(|minor| minor.parse().ok())) {
            (Some("4"), Some(minor)) => Ok(Version { minor }),
            _ => Err(bad()),
        }
    }
}

/// What goes into the file.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The version to be installed; nothing where it is not known, and then the newest form is written that 4.14 reads too.
    pub version: Option<Version>,
    /// Where content is, by source.
    pub sources: Vec<Source>,
    /// PEM certificates to trust; empty where there are none.
    pub trust_bundle: String,
    /// The pull secret as JSON; empty where there is none.
    pub pull_secret: String,
}

/// An entry of the list of image sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What images are named by.
    pub source: String,
    /// Where they are.
    pub mirrors: Vec<String>,
    /// Whether nodes may turn to the source.
    pub policy: MirrorSourcePolicy,
}

/// The file, or the fragment of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The text.
    pub text: String,
    /// What a person should know, sentences.
    pub notes: Vec<String>,
}

/// Returns the digest rules of mirror objects as image sources, those of one source merged as nodes merge them, and what was left out.
///
/// # Errors
///
/// What the machine-config-operator refuses the whole for.
pub fn sources(objects: &Objects) -> Result<(Vec<Source>, Vec<String>), Vec<Refusal>> {
    let node = Node::default().edited(&objects.inputs())?;
    let (mut sources, mut notes) = (Vec::new(), Vec::new());
    for registry in node.registries() {
        let source = registry.scope().to_string();
        let of = |pull| {
            let mirrors = registry.mirrors.iter().filter(move |m| m.pull == pull);
            mirrors.map(|m| m.location.to_string())
        };
        let mirrors: Vec<String> = of(Pull::Digest).collect();
        if of(Pull::Tag).next().is_some() {
            notes.push(format!(
                "the tag rule for `{source}` has no place in install-config.yaml; apply its ImageTagMirrorSet after the installation"
            ));
        }
        if mirrors.is_empty() {
            continue;
        }
        if registry.scope().is_wildcard() {
            notes.push(format!(
                "the rule for `{source}` is left out: the installer takes no wildcards; apply its ImageDigestMirrorSet after the installation"
            ));
            continue;
        }
        let policy = match registry.blocked {
            true => MirrorSourcePolicy::NeverContactSource,
            false => MirrorSourcePolicy::AllowContactingSource,
        };
        sources.push(Source {
            source,
            mirrors,
            policy,
        });
    }
    Ok((sources, notes))
}

impl Wish {
    fn field(&self) -> &'static str {
        match self.version {
            Some(version) if version.minor < DIGEST_SOURCES_SINCE => "imageContentSources",
            _ => "imageDigestSources",
        }
    }

    fn knows_policy(&self) -> bool {
        self.version
            .is_some_and(|version| version.minor >= SOURCE_POLICY_SINCE)
    }

    fn knows_bundle_policy(&self) -> bool {
        self.version
            .is_none_or(|version| version.minor >= BUNDLE_POLICY_SINCE)
    }

    /// Writes the fragment: only what a mirror needs.
    ///
    /// # Errors
    ///
    /// A sentence, where the trust bundle or the pull secret is none.
    pub fn fragment(&self) -> Result<Written, String> {
        let base = Base::default();
        let fields = self.fields(&base)?;
        let text = fields.iter().map(|(_, block)| block.as_str()).collect();
        Ok(Written {
            text,
            notes: self.notes(),
        })
    }

    /// Puts what a mirror needs into a file, whose other content, order and comments stay.
    ///
    /// # Errors
    ///
    /// Where the file is none that this can be put into, or the trust bundle or the pull secret is none.
    pub fn into_file(&self, file: &str, bytes: &[u8]) -> Result<Written, Problem> {
        let base = Base::read(file, bytes)?;
        let fields = self.fields(&base).map_err(|why| whole(file, &why, ""))?;
        let mut notes = self.notes();
        let (mut edits, mut appended) = (Vec::new(), String::new());
        for (key, block) in fields {
            match base.spans.get(key) {
                Some(span) => edits.push((span.clone(), block)),
                None => appended += &block,
            }
        }
        let other = match self.field() {
            "imageDigestSources" => "imageContentSources",
            _ => "imageDigestSources",
        };
        if let Some(span) = base.spans.get(other).filter(|_| !self.sources.is_empty()) {
            notes.push(format!(
                "`{other}` became `{}`, since both together are refused",
                self.field()
            ));
            edits.push((span.clone(), String::new()));
        }
        Ok(Written {
            text: base.edited(edits, &appended),
            notes,
        })
    }

    fn notes(&self) -> Vec<String> {
        let never = |s: &&Source| s.policy == MirrorSourcePolicy::NeverContactSource;
        let never: Vec<&str> = self
            .sources
            .iter()
            .filter(never)
            .map(|s| s.source.as_str())
            .collect();
        match never.is_empty() || self.knows_policy() {
            true => Vec::new(),
            false => vec![format!(
                "NeverContactSource of {} is left out, which {} does not know; until the ImageDigestMirrorSets are applied, nodes may turn to these sources",
                never.join(", "),
                match self.version {
                    Some(version) => format!("the installer of 4.{}", version.minor),
                    None => "an installer of an unsaid version perhaps".to_owned(),
                }
            )],
        }
    }

    /// The fields to write, in order, each as a block of YAML; those that stand there as they should be are left out.
    fn fields(&self, base: &Base) -> Result<Vec<(&'static str, String)>, String> {
        let mut fields = Vec::new();
        let mut put = |key: &'static str, value: Value| {
            if base.values.get(key) != Some(&value) {
                let mut field = Map::new();
                field.insert(key.into(), value);
                fields.push((key, writer::document(&Value::Object(field))));
            }
        };
        if !self.sources.is_empty() {
            put(self.field(), self.merged_sources(base));
        }
        let secret = self.merged_secret(base)?;
        let bundle = self.merged_bundle(base)?;
        if !bundle.is_empty() {
            if base.values.get(BUNDLE).and_then(Value::as_str) != Some(&bundle) {
                fields.push((BUNDLE, block(BUNDLE, &bundle)));
            }
            if self.knows_bundle_policy() && !base.values.contains_key(BUNDLE_POLICY) {
                fields.push((BUNDLE_POLICY, format!("{BUNDLE_POLICY}: Always\n")));
            }
        }
        if !secret.is_empty() && base.values.get(SECRET).and_then(Value::as_str) != Some(&secret) {
            // The JSON of our own writing has no line feed; in single quotes, only those need care.
            fields.push((
                SECRET,
                format!("{SECRET}: '{}'\n", secret.replace('\'', "''")),
            ));
        }
        Ok(fields)
    }

    /// The file's own entries, ours joined to those of the same source, then the rest of ours.
    fn merged_sources(&self, base: &Base) -> Value {
        let written = ["imageDigestSources", "imageContentSources"]
            .into_iter()
            .filter_map(|key| base.values.get(key)?.as_array())
            .flatten();
        let mut entries: Vec<Value> = written.cloned().collect();
        for source in &self.sources {
            let same = entries
                .iter_mut()
                .find(|entry| entry.get("source") == Some(&json!(source.source)));
            let mut mirrors: Vec<Value> = source.mirrors.iter().map(|m| json!(m)).collect();
            match same {
                Some(entry) => {
                    let own = entry.get("mirrors").and_then(Value::as_array);
                    let own = own
                        .into_iter()
                        .flatten()
                        .filter(|m| !source.mirrors.iter().any(|o| json!(o) == **m));
                    mirrors.extend(own.cloned().collect::<Vec<_>>());
                    entry["mirrors"] = Value::Array(mirrors);
                    self.add_policy(entry, source);
                }
                None => {
                    let mut entry = json!({"source": source.source, "mirrors": mirrors});
                    self.add_policy(&mut entry, source);
                    entries.push(entry);
                }
            }
        }
        Value::Array(entries)
    }

    fn add_policy(&self, entry: &mut Value, source: &Source) {
        if source.policy == MirrorSourcePolicy::NeverContactSource && self.knows_policy() {
            entry["sourcePolicy"] = json!("NeverContactSource");
        }
    }

    /// The file's certificates, and those of ours that are not among them.
    fn merged_bundle(&self, base: &Base) -> Result<String, String> {
        if self.trust_bundle.is_empty() {
            return Ok(String::new());
        }
        let ours = certificates(&self.trust_bundle);
        if ours.is_empty() {
            return Err(
                "the trust bundle holds no PEM certificate (`-----BEGIN CERTIFICATE-----`)"
                    .to_owned(),
            );
        }
        let theirs = base
            .values
            .get(BUNDLE)
            .and_then(Value::as_str)
            .unwrap_or_default();
        let known = certificates(theirs);
        let new: Vec<String> = ours
            .into_iter()
            .filter(|one| !known.contains(one))
            .collect();
        if new.is_empty() {
            return Ok(theirs.to_owned());
        }
        let mut all = theirs.trim_end().to_owned();
        for one in new {
            if !all.is_empty() {
                all.push('\n');
            }
            all += &one;
        }
        Ok(all + "\n")
    }

    fn merged_secret(&self, base: &Base) -> Result<String, String> {
        if self.pull_secret.is_empty() {
            return Ok(String::new());
        }
        let mut files = Vec::new();
        if let Some(own) = base.values.get(SECRET).and_then(Value::as_str) {
            files.push(("pullSecret of the file".to_owned(), own.as_bytes().to_vec()));
        }
        files.push((
            "the pull secret".to_owned(),
            self.pull_secret.clone().into_bytes(),
        ));
        let merged = pull_secret::merge(&files, None).map_err(|wrong| wrong.join("; "))?;
        Ok(merged.text)
    }
}

const BUNDLE: &str = "additionalTrustBundle";
const BUNDLE_POLICY: &str = "additionalTrustBundlePolicy";
const SECRET: &str = "pullSecret";

/// Returns the PEM certificates of a text, each without blanks around its lines.
fn certificates(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for line in text.lines().map(str::trim) {
        match line {
            "-----BEGIN CERTIFICATE-----" => open = Some(vec![line]),
            "-----END CERTIFICATE-----" => {
                if let Some(mut lines) = open.take() {
                    lines.push(line);
                    found.push(lines.join("\n"));
                }
            }
            line => {
                if let Some(lines) = &mut open {
                    lines.push(line);
                }
            }
        }
    }
    found
}

/// Writes a text as a literal block.
fn block(key: &str, text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.is_empty() {
            true => String::new(),
            false => format!("  {line}"),
        })
        .collect();
    format!("{key}: |\n{}\n", lines.join("\n"))
}

type Edit = (std::ops::Range<usize>, String);

/// The file that is given: its top-level values, and which bytes each takes.
#[derive(Debug, Default)]
struct Base {
    text: String,
    values: BTreeMap<String, Value>,
    spans: BTreeMap<String, std::ops::Range<usize>>,
}

impl Base {
    fn read(file: &str, bytes: &[u8]) -> Result<Self, Problem> {
        let unfit = |why: &str| {
            whole(
                file,
                why,
                "give an install-config.yaml as the documentation shows it",
            )
        };
        let mut documents = yaml::parse(file, bytes)?;
        if documents.len() != 1 {
            return Err(unfit("an install-config.yaml is one document"));
        }
        let document = documents.remove(0);
        if let Some(problem) = document.problems.into_iter().next() {
            return Err(problem);
        }
        let root = document
            .root
            .ok_or_else(|| unfit("the file says nothing"))?;
        let yaml::Value::Mapping(entries) = &root.value else {
            return Err(unfit("the file is not a mapping"));
        };
        let text = String::from_utf8_lossy(bytes).into_owned();
        let starts = line_starts(&text);
        if text.lines().any(|line| line.trim_end() == "...") {
            return Err(unfit(
                "the file has the end mark `...`, after which nothing can be added",
            ));
        }
        let mut base = Base::default();
        let mut places: Vec<(usize, &str)> = Vec::new();
        for entry in entries {
            let line = entry.at.line as usize;
            if entry.at.column != 1 {
                return Err(unfit("its keys do not stand at the beginning of lines"));
            }
            let start = starts.get(line.saturating_sub(1)).copied();
            places.push((start.unwrap_or(text.len()), &entry.key));
            base.values
                .insert(entry.key.to_string(), entry.value.plain());
        }
        places.sort_unstable();
        for (index, (start, key)) in places.iter().enumerate() {
            let next = places.get(index + 1).map_or(text.len(), |(next, _)| *next);
            base.spans
                .insert((*key).to_owned(), *start..own_end(&text, *start, next));
        }
        base.text = text;
        Ok(base)
    }

    /// Replaces what the edits name, and adds a text at the end.
    fn edited(&self, mut edits: Vec<Edit>, appended: &str) -> String {
        let feeds = |block: &str| match self.text.contains("\r\n") {
            true => block.replace('\n', "\r\n"),
            false => block.to_owned(),
        };
        // From the end on, so that the places before stay right.
        edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        let mut text = self.text.clone();
        for (range, block) in edits {
            text.replace_range(range, &feeds(&block));
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text += &feeds("\n");
        }
        text + &feeds(appended)
    }
}

/// Where each line begins.
fn line_starts(text: &str) -> Vec<usize> {
    let feeds = text.match_indices('\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(feeds).collect()
}

/// Where an entry ends: comments and blank lines before the next one are the next one's.
fn own_end(text: &str, start: usize, next: usize) -> usize {
    let body = text.get(start..next).unwrap_or_default();
    let mut end = start;
    let mut at = start;
    for line in body.split_inclusive('\n') {
        at += line.len();
        if !line.trim().is_empty() && !line.starts_with('#') {
            end = at;
        }
    }
    end
}

fn whole(file: &str, message: &str, hint: &str) -> Problem {
    Problem {
        file: file.to_owned(),
        line: 0,
        column: 0,
        severity: Severity::Error,
        path: String::new(),
        message: message.to_owned(),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests;

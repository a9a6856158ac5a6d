//! Reads cluster objects as they stand in people's files and in what `oc get -o yaml` prints: several documents, lists of objects,
//! and other kinds in between, which are passed by.

use std::sync::Arc;

use crate::{
    cluster::{
        Kind,
        document::{API_VERSION, IMAGE_SET, Rule},
        machine::{self, Config, Pool, REGISTRIES_CONF},
        operator::Inputs,
        scope::Scope,
    },
    model::policy::MirrorSourcePolicy,
    yaml::{
        self, Problem, Severity,
        reader::{At, Fields},
        report::{Dialect, Report},
        suggest::suggest,
    },
};

/// The API group and version of the old kind.
pub const ICSP_API_VERSION: &str = "operator.openshift.io/v1alpha1";

/// A file that was given: its name as people know it, and what is in it.
#[derive(Debug, Clone)]
pub struct File {
    /// What problems name.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What files say about a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// The mirror objects in the order in which they stand.
    pub sets: Vec<MirrorSet>,
    /// `image.config.openshift.io/cluster`.
    pub image: Option<ImageConfig>,
    /// `machineconfiguration.operator.openshift.io/cluster`: what is done when nodes' `registries.conf` changes, where it is there.
    pub disruption: Option<Disruption>,
    /// The machine config pools.
    pub pools: Vec<Pool>,
    /// The machine configs.
    pub configs: Vec<Config>,
    /// How many objects of other kinds there were.
    pub others: usize,
    /// What the API server would refuse, and what cannot be read.
    pub problems: Vec<Problem>,
}

/// Where something stands in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The file.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// Where in the document.
    pub path: String,
}

/// The kind of a mirror object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// ImageContentSourcePolicy.
    Icsp,
    /// ImageDigestMirrorSet.
    Idms,
    /// ImageTagMirrorSet.
    Itms,
}

/// A mirror object.
#[derive(Debug, Clone, PartialEq)]
pub struct MirrorSet {
    /// Where it stands.
    pub spot: Spot,
    /// Its kind.
    pub form: Form,
    /// Its name.
    pub name: String,
    /// The image set that it is of, where it is one of ours.
    pub image_set: Option<String>,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// An entry of a mirror object.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it stands.
    pub spot: Spot,
    /// The entry as a rule; nothing where it is none.
    pub rule: Option<Rule>,
}

/// What `registrySources` of a cluster's image configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `insecureRegistries`.
    pub insecure: Vec<String>,
    /// `blockedRegistries`.
    pub blocked: Vec<String>,
    /// `allowedRegistries`: where it is not empty, nothing else is pulled.
    pub allowed: Vec<String>,
}

/// What is done on nodes when their `registries.conf` changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disruption {
    /// The actions that an administrator set for this file, as they are written; nothing where it is left to the operator's own rule.
    pub actions: Option<Vec<String>>,
}

impl Spot {
    fn of(file: &Arc<str>, at: &At<'_>) -> Self {
        Spot {
            file: Arc::clone(file),
            line: at.pos().line,
            column: at.pos().column,
            path: at.path().to_owned(),
        }
    }

    /// Returns a problem at this place.
    pub fn problem(
        &self,
        severity: Severity,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Problem {
        Problem {
            file: self.file.to_string(),
            line: self.line,
            column: self.column,
            severity,
            path: self.path.clone(),
            message: message.into(),
            hint: hint.into(),
        }
    }
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 3] = [Form::Icsp, Form::Idms, Form::Itms];

    /// Returns the object's `kind`.
    pub fn object(self) -> &'static str {
        match self {
            Form::Icsp => "ImageContentSourcePolicy",
            Form::Idms => Kind::Digest.object(),
            Form::Itms => Kind::Tag.object(),
        }
    }

    /// Returns the object's `apiVersion`.
    pub fn api_version(self) -> &'static str {
        match self {
            Form::Icsp => ICSP_API_VERSION,
            Form::Idms | Form::Itms => API_VERSION,
        }
    }

    /// Returns the field of `spec` that lists the entries.
    pub fn list(self) -> &'static str {
        match self {
            Form::Icsp => "repositoryDigestMirrors",
            Form::Idms => Kind::Digest.list(),
            Form::Itms => Kind::Tag.list(),
        }
    }

    /// Returns which references its entries serve.
    pub fn kind(self) -> Kind {
        match self {
            Form::Icsp | Form::Idms => Kind::Digest,
            Form::Itms => Kind::Tag,
        }
    }
}

impl Objects {
    /// Reads files.
    pub fn read(files: &[File]) -> Self {
        let mut objects = Objects::default();
        for file in files {
            objects.file(file);
        }
        objects.problems.sort();
        objects
    }

    fn file(&mut self, file: &File) {
        let documents = match yaml::parse(&file.name, &file.bytes) {
            Ok(documents) => documents,
            Err(problem) => return self.problems.push(problem),
        };
        let name: Arc<str> = file.name.as_str().into();
        for document in &documents {
            let report = Report::new(&file.name, Dialect::Own, document);
            if let Some(root) = &document.root {
                self.object(&name, &report.root(root), 0);
            }
            self.problems.extend(report.into_problems());
        }
    }

    /// Reads an object, or the objects of a list.
    fn object(&mut self, file: &Arc<str>, at: &At<'_>, depth: usize) {
        let Some(mut fields) = at.mapping() else {
            self.others += 1;
            return;
        };
        let mut word = |key| fields.get(key).and_then(|at| at.scalar());
        let (kind, api_version) = (word("kind"), word("apiVersion"));
        let kind = kind.unwrap_or_default();
        if kind.ends_with("List") && depth == 0 {
            let items = fields.list("items");
            return items.iter().for_each(|item| self.object(file, item, 1));
        }
        let api_version = api_version.unwrap_or_default();
        if let Some(form) = Form::ALL.into_iter().find(|form| form.object() == kind) {
            if api_version != form.api_version() {
                at.error(
                    format!(
                        "`{kind}` is of the API `{}`, not of `{}`",
                        form.api_version(),
                        yaml::shorten(&api_version)
                    ),
                    format!("write `apiVersion: {}`", form.api_version()),
                );
            }
            let set = mirror_set(file, at, form, &mut fields);
            return self.sets.push(set);
        }
        match (api_version.as_str(), kind.as_str()) {
            ("config.openshift.io/v1", "Image") => self.image = Some(image_config(&mut fields)),
            ("operator.openshift.io/v1", "MachineConfiguration") => {
                self.disruption = Some(disruption(&mut fields));
            }
            (machine::API_VERSION, "MachineConfigPool") => {
                self.pools.push(machine::pool(&mut fields));
            }
            (machine::API_VERSION, "MachineConfig") => {
                self.configs.push(machine::config(&mut fields));
            }
            _ => self.others += 1,
        }
    }

    /// Returns the entries that are rules, with the kind of reference that they serve.
    pub fn rules(&self) -> impl Iterator<Item = (Kind, &Rule)> {
        self.sets.iter().flat_map(|set| {
            let rules = set.entries.iter().filter_map(|entry| entry.rule.as_ref());
            rules.map(|rule| (set.form.kind(), rule))
        })
    }

    /// Returns what the machine-config-operator makes a `registries.conf` of.
    pub fn inputs(&self) -> Inputs<'_> {
        let image = self.image.clone().unwrap_or_default();
        Inputs {
            rules: self.rules().collect(),
            insecure: image.insecure,
            blocked: image.blocked,
        }
    }

    /// Whether something could not be read, or would be refused by the API server.
    pub fn has_errors(&self) -> bool {
        let severities = self.problems.iter().map(|problem| problem.severity);
        severities.into_iter().any(|s| s == Severity::Error)
    }

    /// Puts other mirror objects in the place of those of the same kind and name, beside those of other names, and takes away those
    /// that `gone` has and `new` has not: what applying a change of documents to this cluster makes of it.
    pub fn with_change(&self, gone: &Objects, new: &Objects) -> Objects {
        let key = |set: &MirrorSet| (set.form, set.name.clone());
        let touched = |set: &MirrorSet| {
            let touches = |other: &MirrorSet| key(other) == key(set);
            gone.sets.iter().any(touches) || new.sets.iter().any(touches)
        };
        let mut after = self.clone();
        after.sets.retain(|set| !touched(set));
        after.sets.extend(new.sets.iter().cloned());
        if new.image.is_some() {
            after.image = new.image.clone();
        }
        after
    }
}

/// Reads a mirror object strictly, as the API server takes it.
fn mirror_set(file: &Arc<str>, at: &At<'_>, form: Form, fields: &mut Fields<'_>) -> MirrorSet {
    let mut metadata = fields.get("metadata").and_then(|at| at.mapping());
    let name = metadata
        .as_mut()
        .and_then(|metadata| metadata.get("name"))
        .and_then(|at| at.scalar())
        .unwrap_or_default();
    let image_set = metadata
        .as_mut()
        .and_then(|metadata| metadata.get("annotations")?.mapping())
        .and_then(|mut annotations| annotations.get(IMAGE_SET)?.scalar());
    if name.is_empty() {
        at.note(
            Severity::Error,
            "metadata",
            "the object has no name",
            "write `metadata: {name: ...}`",
        );
    }
    let mut entries = Vec::new();
    let spec = fields.required("spec", "list the rules below `spec`");
    if let Some(mut spec) = spec.and_then(|at| at.fields()) {
        if let Some(list) = spec.get(form.list()) {
            entries.extend(list.list().iter().map(|at| entry(file, at, form)));
        }
        spec.finish();
    }
    MirrorSet {
        spot: Spot::of(file, at),
        form,
        name,
        image_set,
        entries,
    }
}

fn entry(file: &Arc<str>, at: &At<'_>, form: Form) -> Entry {
    let spot = Spot::of(file, at);
    let rule = at.fields().and_then(|mut fields| {
        let source = fields.required("source", "write what is mirrored, such as `quay.io/team`");
        let source = source.and_then(|at| scope(&at, Role::Source));
        let mirrors = fields.get("mirrors").map(|at| at.list());
        let mirrors = mirrors.unwrap_or_default();
        let policy = match form {
            Form::Icsp => Some(MirrorSourcePolicy::default()),
            Form::Idms | Form::Itms => policy(&mut fields),
        };
        fields.finish();
        let mirrors = self::mirrors(&mirrors, form);
        Some(Rule {
            source: source?,
            mirrors: mirrors?,
            policy: policy?,
        })
    });
    Entry { spot, rule }
}

fn policy(fields: &mut Fields<'_>) -> Option<MirrorSourcePolicy> {
    use MirrorSourcePolicy::{AllowContactingSource, NeverContactSource};
    const WORDS: [&str; 2] = ["NeverContactSource", "AllowContactingSource"];
    let Some(at) = fields.get("mirrorSourcePolicy") else {
        return Some(MirrorSourcePolicy::default());
    };
    match at.text()?.as_str() {
        "NeverContactSource" => Some(NeverContactSource),
        "AllowContactingSource" => Some(AllowContactingSource),
        "AllowFallback" => {
            at.error(
                "`AllowFallback`, found in tutorials, is not a mirrorSourcePolicy: the API server refuses the object",
                "write `AllowContactingSource`, or leave the field away, which means the same",
            );
            None
        }
        other => {
            at.error(
                format!("`{}` is not a mirrorSourcePolicy", yaml::shorten(other)),
                suggest(other, &WORDS),
            );
            None
        }
    }
}

/// Reads the mirrors of an entry: a set, except in the old kind.
fn mirrors(list: &[At<'_>], form: Form) -> Option<Vec<Scope>> {
    let mut mirrors: Vec<Scope> = Vec::new();
    let mut all = true;
    for at in list {
        let Some(mirror) = scope(at, Role::Mirror) else {
            all = false;
            continue;
        };
        if mirrors.contains(&mirror) && form != Form::Icsp {
            at.error(
                format!(
                    "the mirror `{mirror}` stands in the list twice, which the API server refuses"
                ),
                "remove one of the two",
            );
            all = false;
        }
        mirrors.push(mirror);
    }
    all.then_some(mirrors)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Source,
    Mirror,
}

fn scope(at: &At<'_>, role: Role) -> Option<Scope> {
    let text = at.text()?;
    match (text.parse::<Scope>(), role) {
        (Ok(scope), Role::Mirror) if scope.is_wildcard() => {
            at.error(
                format!("the mirror `{scope}` is a wildcard, which only a source can be"),
                "write the registry or repository that has the content",
            );
            None
        }
        (Ok(scope), _) => Some(scope),
        (Err(_), _) => {
            let (message, hint) = fault(&text);
            at.error(message, hint);
            None
        }
    }
}

/// Says why a text is no source or mirror, and what to write instead.
fn fault(text: &str) -> (String, String) {
    let shown = yaml::shorten(text);
    let because = |why: &str| format!("`{shown}` {why}, which the API server refuses");
    if text.is_empty() {
        let message = "a registry or repository is expected here, and nothing is written";
        return (message.to_owned(), String::new());
    }
    if let Some((_, rest)) = text.split_once("://") {
        let hint = format!("write `{}`", yaml::shorten(rest.trim_end_matches('/')));
        return (because("begins with a scheme"), hint);
    }
    if text.ends_with('/') {
        let hint = format!("write `{}`", yaml::shorten(text.trim_end_matches('/')));
        return (because("ends with a slash"), hint);
    }
    if let Some((name, _)) = text.split_once('@') {
        let hint = format!(
            "rules are for repositories: write `{}`",
            yaml::shorten(name)
        );
        return (because("has a digest"), hint);
    }
    if text.contains('*') {
        let hint = "a wildcard is `*.` and a host name, without port and path, and a source only";
        return (
            because("is not a wildcard that is possible"),
            hint.to_owned(),
        );
    }
    let (_, path) = text.split_once('/').unwrap_or((text, ""));
    if let Some((name, _)) = path.rsplit_once(':') {
        let host = &text[..text.len() - path.len()];
        let hint = format!(
            "rules are for repositories: write `{}`",
            yaml::shorten(&format!("{host}{name}"))
        );
        return (because("has a tag"), hint);
    }
    if path.contains(|c: char| c.is_ascii_uppercase()) {
        let hint = "paths of repositories are in lower case";
        return (
            because("has upper case letters in its path"),
            hint.to_owned(),
        );
    }
    let hint = "`host[:port]`, `host[:port]/namespace[/repository]` or, for a source, `*.host` is expected";
    (
        because("is not the name of a registry or repository"),
        hint.to_owned(),
    )
}

fn image_config(fields: &mut Fields<'_>) -> ImageConfig {
    let mut sources = fields
        .get("spec")
        .and_then(|at| at.mapping())
        .and_then(|mut spec| spec.get("registrySources"))
        .and_then(|at| at.mapping());
    let mut texts = |key| {
        sources
            .as_mut()
            .map(|sources| sources.texts(key))
            .unwrap_or_default()
    };
    ImageConfig {
        insecure: texts("insecureRegistries"),
        blocked: texts("blockedRegistries"),
        allowed: texts("allowedRegistries"),
    }
}

/// What `spec` says counts, then what `status` says is in force.
fn disruption(fields: &mut Fields<'_>) -> Disruption {
    let of = |at: At<'_>, keys: [&'static str; 2]| {
        let mut at = at.mapping()?;
        let mut inner = at.get(keys[0])?.mapping()?;
        if keys[1].is_empty() {
            return actions(&mut inner);
        }
        actions(&mut inner.get(keys[1])?.mapping()?)
    };
    let spec = fields.get("spec");
    let wanted = spec.and_then(|at| of(at, ["nodeDisruptionPolicy", ""]));
    let status = fields.get("status");
    let in_force =
        || status.and_then(|at| of(at, ["nodeDisruptionPolicyStatus", "clusterPolicies"]));
    let actions = wanted.or_else(in_force);
    // `Special` is the operator's name for its own rule.
    let own = |actions: &Vec<String>| actions.iter().any(|action| action == "Special");
    Disruption {
        actions: actions.filter(|actions| !own(actions)),
    }
}

fn actions(policies: &mut Fields<'_>) -> Option<Vec<String>> {
    let files = policies.list("files");
    let mut found = files
        .iter()
        .filter_map(|at| at.mapping())
        .filter_map(|mut file| {
            let path = file.get("path")?.scalar()?;
            (path == REGISTRIES_CONF).then_some(file)
        });
    let mut file = found.next()?;
    let actions = file.list("actions");
    let words = actions
        .iter()
        .filter_map(|at| at.mapping()?.get("type")?.scalar());
    Some(words.collect())
}

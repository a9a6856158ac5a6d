//! Takes over from another tool: the documents that a cluster has count as the published ones, and what lies in the mirror under other
//! names is known, so that it is taken over there and not downloaded.

use std::collections::{BTreeMap, BTreeSet};

use super::{Error, Handle, InlineFile, documents, planning::Reading};
use crate::{
    cluster::{
        Kind, Purpose,
        document::{Document, Rule},
        forecast::{self, Forecast},
        objects::{File, Form, Objects},
        render::render,
    },
    copy,
    model::{
        desired::Wanted,
        image::{Digest, Repository},
        imageset::{SetName, Severity},
        mirrored::Landed,
        policy::Target,
        record::DocumentChange,
    },
};

/// What is taken over.
#[derive(Debug, Clone, Default)]
pub struct AdoptOrder {
    /// The image set that it becomes part of; the only one where none is named.
    pub set: Option<String>,
    /// The documents in use.
    pub files: Vec<InlineFile>,
    /// A repository, or a place with repositories below it, where content lies that the documents do not lead to.
    pub place: Option<Target>,
    /// Whether to only say what would be taken over.
    pub dry_run: bool,
}

/// What was taken over, or would be.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// The image set.
    pub set: SetName,
    /// How many rules the documents in use have.
    pub rules: u64,
    /// The documents of ours that change, before and after.
    pub documents: Vec<DocumentChange>,
    /// What it does to nodes to have ours instead of those in use.
    pub forecast: Forecast,
    /// Images that are wanted.
    pub images_wanted: u64,
    /// Those that the mirror holds under the names that we give them.
    pub images_held: u64,
    /// Those that it holds under other names.
    pub images_elsewhere: u64,
    /// Bytes to download for what it does not hold at all.
    pub bytes: u64,
    /// What a person should know, sentences.
    pub notes: Vec<String>,
}

impl Handle {
    /// Takes the documents of another tool for published ones, and looks for its content in the mirror.
    pub async fn adopt(&self, order: AdoptOrder) -> Result<Adopted, Error> {
        let set = self.adopter(order.set.as_deref())?;
        let files: Vec<File> = order.files.into_iter().map(File::from).collect();
        let used = Objects::read(&files);
        if let Some(first) = used.problems.iter().find(|p| p.severity == Severity::Error) {
            return Err(Error::Unfit(format!(
                "{first}; `imagesetd cluster check` lists all problems of the documents"
            )));
        }
        let rules: Vec<(Kind, Rule)> = used
            .rules()
            .map(|(kind, rule)| (kind, rule.clone()))
            .collect();
        if rules.is_empty() {
            return Err(Error::Unfit(
                "the documents hold no mirror rules; name the folder that holds the cluster's ImageDigestMirrorSets".to_owned(),
            ));
        }
        // What is wanted is known once it was planned, and what the mirror has under our names with it.
        let plan = self
            .inner
            .make_plan(self.origin(&set)?, Reading::Fresh)
            .await?;
        let elsewhere = self
            .content_elsewhere(&set, &rules, order.place.as_ref())
            .await?;
        let mut bytes = plan.plan.bytes();
        if !order.dry_run && !elsewhere.landed.is_empty() {
            self.inner.record_landed(elsewhere.landed).await?;
            let plan = self.inner.make_plan(self.origin(&set)?, Reading::Pinned);
            bytes = plan.await?.plan.bytes();
        }
        let (documents, forecast) = self
            .take_documents(&set, &rules, &used, order.dry_run)
            .await?;
        if !order.dry_run {
            tracing::info!(image_set = %set, rules = rules.len(), images = elsewhere.images, "taken over by request");
        }
        self.inner.touch();
        Ok(Adopted {
            notes: self.remarks(&set, &used, &rules),
            rules: rules.len() as u64,
            documents,
            forecast,
            images_wanted: plan.plan.wanted as u64,
            images_held: plan.plan.held as u64,
            images_elsewhere: elsewhere.images,
            bytes,
            set,
        })
    }

    /// The image set that takes over.
    fn adopter(&self, named: Option<&str>) -> Result<SetName, Error> {
        if let Some(named) = named {
            return self.find_set(named);
        }
        let state = self.inner.state();
        let mut usable = state.sets.iter().filter(|(_, set)| set.is_usable());
        match (usable.next(), usable.next()) {
            (Some((only, _)), None) => Ok(only.clone()),
            _ => Err(Error::Unfit(
                "name the image set that takes over: there is not exactly one".to_owned(),
            )),
        }
    }

    /// Looks for what is wanted and lacking under the names that the rules in use give it.
    async fn content_elsewhere(
        &self,
        set: &SetName,
        rules: &[(Kind, Rule)],
        place: Option<&Target>,
    ) -> Result<Elsewhere, Error> {
        let inner = &self.inner;
        let registry = inner.settings.policy_for(set).target.registry().clone();
        let (lacking, looks) = {
            let mirrored = inner.mirrored();
            let state = inner.state();
            let wanted = state.sets.get(set).map_or(&[][..], |set| set.wants());
            let lacking: Vec<&Wanted> = wanted
                .iter()
                .filter(|w| mirrored.tag(&w.target, &w.tag) != Some(&w.digest))
                .collect();
            let mut looks: BTreeSet<(Repository, Digest)> = BTreeSet::new();
            for wanted in &lacking {
                let places = candidates(&wanted.source, rules, place);
                let ours = places.into_iter().filter(|r| *r.registry() == registry);
                looks.extend(ours.map(|repository| (repository, wanted.digest.clone())));
            }
            let lacking: Vec<Digest> = lacking.iter().map(|w| w.digest.clone()).collect();
            (lacking, looks)
        };
        let width = inner.settings.parallel_blobs * 2;
        let landed = copy::survey_digests(&inner.mirror, looks.into_iter().collect(), width)
            .await
            .map_err(Error::Mirror)?;
        let found: BTreeSet<&Digest> = landed
            .iter()
            .filter_map(|fact| match fact {
                Landed::Manifest { digest, .. } => Some(digest),
                _ => None,
            })
            .collect();
        let images = lacking
            .iter()
            .filter(|digest| found.contains(digest))
            .count() as u64;
        Ok(Elsewhere { images, landed })
    }

    /// Joins the rules in use with ours and writes the documents; says what nodes make of having ours instead.
    async fn take_documents(
        &self,
        set: &SetName,
        rules: &[(Kind, Rule)],
        used: &Objects,
        dry_run: bool,
    ) -> Result<(Vec<DocumentChange>, Forecast), Error> {
        let inner = &self.inner;
        let _one_at_a_time = inner.publishing.lock().await;
        let published = inner.published().await?;
        let units = inner.units_of_all(None);
        let options = inner.rule_options(&units);
        let with_used = joined(set, rules, &published.documents);
        let mut rendering = render(&units, &with_used, &options);
        rendering.objects.clone_from(&published.objects);
        // Who takes over has seen what that does, but not what documents of others that wait do.
        let weighed = inner.weigh(set, &published, &rendering, Some(set)).await?;
        rendering.keep(weighed.documents);
        let changes = documents::document_changes(set, &published, &rendering);
        let files: Vec<File> = rendering.documents.iter().map(File::from).collect();
        // The cluster may have ours already, beside the other tool's.
        let mut before = used.clone();
        let ours: Vec<File> = published.documents.iter().map(File::from).collect();
        let ours = Objects::read(&ours);
        before.sets.extend(ours.sets);
        let forecast = forecast::of_objects(&before, &Objects::read(&files), None);
        if !dry_run {
            inner.write(rendering).await?;
            inner.note_all_held(set, &weighed.held);
        }
        Ok((changes, forecast))
    }

    /// What a person should know of the documents in use.
    fn remarks(&self, set: &SetName, used: &Objects, rules: &[(Kind, Rule)]) -> Vec<String> {
        let registry = self
            .inner
            .settings
            .policy_for(set)
            .target
            .registry()
            .clone();
        let mut notes = Vec::new();
        let foreign: BTreeSet<String> = rules
            .iter()
            .flat_map(|(_, rule)| &rule.mirrors)
            .filter(|mirror| mirror.as_str().split('/').next() != Some(registry.as_str()))
            .map(ToString::to_string)
            .collect();
        if !foreign.is_empty() {
            let foreign: Vec<String> = foreign.into_iter().collect();
            notes.push(format!(
                "{} of the rules lead to other registries than {registry} and are kept as they are: {}",
                foreign.len(),
                foreign.join(", ")
            ));
        }
        let old = used.sets.iter().filter(|set| set.form == Form::Icsp);
        let old: Vec<&str> = old.map(|set| set.name.as_str()).collect();
        if !old.is_empty() {
            notes.push(format!(
                "{} are ImageContentSourcePolicies; ours are ImageDigestMirrorSets, and a cluster should not have both for long",
                old.join(", ")
            ));
        }
        let theirs = used.sets.iter().filter(|set| set.image_set.is_none());
        let theirs: Vec<String> = theirs
            .map(|set| format!("{} {}", set.form.object(), set.name))
            .collect();
        if !theirs.is_empty() {
            notes.push(format!(
                "apply our documents first, then delete these from the cluster: {}",
                theirs.join(", ")
            ));
        }
        notes
    }
}

/// Content under other names.
struct Elsewhere {
    images: u64,
    landed: Vec<Landed>,
}

/// Where an image of this source may lie by the rules in use, or in or below a place that was named.
fn candidates(
    source: &Repository,
    rules: &[(Kind, Rule)],
    place: Option<&Target>,
) -> BTreeSet<Repository> {
    let name = source.to_string();
    let mut found = BTreeSet::new();
    for (_, rule) in rules {
        let Some(end) = rule.source.matches(&name) else {
            continue;
        };
        let rest = name.get(end..).unwrap_or_default();
        let mirrors = rule.mirrors.iter();
        found.extend(mirrors.filter_map(|mirror| format!("{mirror}{rest}").parse().ok()));
    }
    if let Some(place) = place {
        let itself = Repository::new(place.registry().clone(), place.prefix());
        found.extend(itself);
        found.extend(place.repository(source.path()));
    }
    found
}

/// The published documents with the rules in use in them, as rules of `set`. Where both have a source, the mirrors in use come first.
fn joined(set: &SetName, rules: &[(Kind, Rule)], published: &[Document]) -> Vec<Document> {
    let mut by_document: BTreeMap<(Purpose, Kind), BTreeMap<String, Rule>> = BTreeMap::new();
    for (kind, rule) in rules {
        let purpose = purpose(rule);
        let of_document = by_document.entry((purpose, *kind)).or_default();
        let source = rule.source.to_string();
        match of_document.get_mut(&source) {
            None => drop(of_document.insert(source, rule.clone())),
            Some(known) => add_mirrors(known, rule),
        }
    }
    let own = |d: &&Document| d.set == *set && by_document.contains_key(&(d.purpose, d.kind));
    let mut documents: Vec<Document> = published.iter().filter(|d| !own(d)).cloned().collect();
    for document in published.iter().filter(own).cloned().collect::<Vec<_>>() {
        let Some(rules) = by_document.get_mut(&(document.purpose, document.kind)) else {
            continue;
        };
        for rule in document.rules {
            match rules.get_mut(&rule.source.to_string()) {
                None => drop(rules.insert(rule.source.to_string(), rule)),
                Some(known) => add_mirrors(known, &rule),
            }
        }
    }
    for ((purpose, kind), rules) in by_document {
        let rules = rules.into_values().collect();
        documents.push(Document::new(set.clone(), purpose, kind, rules));
    }
    documents.sort_by(|a, b| a.file_name.cmp(&b.file_name));
    documents
}

fn add_mirrors(known: &mut Rule, more: &Rule) {
    for mirror in &more.mirrors {
        if !known.mirrors.contains(mirror) {
            known.mirrors.push(mirror.clone());
        }
    }
    known.policy = known.policy.min(more.policy);
}

/// Releases have documents of their own, known by where releases come from.
fn purpose(rule: &Rule) -> Purpose {
    match rule
        .source
        .as_str()
        .starts_with("quay.io/openshift-release-dev")
    {
        true => Purpose::Release,
        false => Purpose::Additional,
    }
}

//! From what has landed to documents in the output folder, and what that does to nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Error, Inner,
    state::{Resolved, SetState},
};
use crate::{
    cluster::{
        self, Purpose, Served, Unit,
        catalog::{Catalog, Object},
        document::Document,
        impact::{self, Effect},
        node::Node,
        render::{Rendering, render},
        retire::Retire,
    },
    model::{
        desired::{Desired, Kind, Wanted},
        facts::Facts,
        image::Reference,
        imageset::SetName,
        plan,
        policy::{MirrorSourcePolicy, SourcePolicy},
        record::{DocumentChange, ImpactReason, NodeImpact},
    },
};

/// See [`Inner::all_known`].
const ALL_KNOWN_WITHIN: Duration = Duration::from_secs(120);

/// What publishing would change.
#[derive(Debug, Clone, Default)]
pub(super) struct Change {
    pub(super) documents: Vec<DocumentChange>,
    pub(super) impact: NodeImpact,
    pub(super) warnings: Vec<String>,
}

/// Groups wanted images into what lands together, and says of each whether it has landed.
pub(super) fn units(
    set: &SetName,
    wanted: &[Wanted],
    landed: impl Fn(&Wanted) -> bool,
) -> Vec<Unit> {
    let mut units: BTreeMap<&str, Unit> = BTreeMap::new();
    for image in wanted {
        let purpose = match image.kind {
            Kind::Release | Kind::ReleaseComponent => Purpose::Release,
            Kind::Additional => Purpose::Additional,
            Kind::Bundle => Purpose::Operators,
            // Clusters name it by its place in the mirror.
            Kind::Catalog | Kind::FilteredCatalog => continue,
        };
        let unit = units.entry(&image.unit).or_insert_with(|| Unit {
            set: set.clone(),
            purpose,
            landed: true,
            images: vec![],
        });
        unit.landed &= landed(image);
        let served = serve(image);
        // A release has two hundred images in two repositories: one line for each of these is enough.
        if !unit.images.contains(&served) {
            unit.images.push(served);
        }
    }
    units.into_values().collect()
}

/// The operator catalogs among wanted images, and of each whether it has landed.
pub(super) fn catalogs(
    set: &SetName,
    wanted: &[Wanted],
    landed: impl Fn(&Wanted) -> bool,
) -> BTreeSet<Catalog> {
    let catalogs = wanted.iter().filter(|image| image.kind.is_catalog());
    catalogs
        .map(|image| Catalog {
            set: set.clone(),
            repository: image.target.clone(),
            tag: image.tag.clone(),
            digest: image.digest.clone(),
            landed: landed(image),
        })
        .collect()
}

/// What is asked for and cannot be had now: no rule of ours may keep nodes from its source.
pub(super) fn lacking(set: &SetName, desired: &Desired) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut releases = BTreeMap::new();
    for unresolved in &desired.unresolved {
        match unresolved.subject.parse::<Reference>() {
            Ok(Reference { repository, .. }) => units.push(Unit {
                set: set.clone(),
                purpose: Purpose::Additional,
                landed: false,
                images: vec![Served {
                    source: repository.clone(),
                    by_digest: true,
                    by_tag: None,
                    target: repository,
                }],
            }),
            Err(_) if unresolved.subject.starts_with("catalog ") => {
                let of_catalog = desired
                    .images
                    .iter()
                    .filter(|w| w.kind == Kind::Bundle && unresolved.subject.starts_with(&w.entry));
                let images: BTreeMap<_, _> = of_catalog
                    .map(|w| ((w.source.clone(), w.target.clone()), serve(w)))
                    .collect();
                units.push(Unit {
                    set: set.clone(),
                    purpose: Purpose::Operators,
                    landed: false,
                    images: images.into_values().collect(),
                });
            }
            Err(_) => {
                let of_releases = desired.images.iter().filter(|w| w.kind.is_of_release());
                releases
                    .extend(of_releases.map(|w| ((w.source.clone(), w.target.clone()), serve(w))));
            }
        }
    }
    if !releases.is_empty() {
        let images = releases.into_values().collect();
        units.push(Unit {
            set: set.clone(),
            purpose: Purpose::Release,
            landed: false,
            images,
        });
    }
    units
}

/// How clusters pull an image: releases by digest, single images by the kind of reference they were asked for.
fn serve(image: &Wanted) -> Served {
    let by_tag = match image.kind {
        Kind::Additional | Kind::Bundle => {
            image.asked_tag.clone().map(|tag| (tag, image.tag.clone()))
        }
        _ => None,
    };
    Served {
        source: image.source.clone(),
        by_digest: by_tag.is_none(),
        by_tag,
        target: image.target.clone(),
    }
}

impl Inner {
    /// What publishing would change if these were the units of `set`.
    pub(super) async fn forecast_documents(
        &self,
        set: &SetName,
        units: Vec<Unit>,
        catalogs: BTreeSet<Catalog>,
    ) -> Result<Change, Error> {
        let published = self.published().await?;
        let rendering = self.render(set, units, &published);
        let mut change = self.change(set, &published, &rendering);
        let before = self.published_objects().await?;
        let (after, warnings) = self.objects(set, catalogs, &before);
        change
            .documents
            .extend(object_changes(set, &before, &after));
        change
            .documents
            .sort_by(|a, b| a.file_name.cmp(&b.file_name));
        change.warnings.extend(warnings);
        Ok(change)
    }

    /// Writes the documents for what has landed of a plan's image set.
    pub(super) async fn publish(
        &self,
        set: &SetName,
        resolved: Option<&Resolved>,
    ) -> Result<(), Error> {
        let Some(resolved) = resolved else {
            return Ok(());
        };
        self.all_known().await;
        let _one_at_a_time = self.publishing.lock().await;
        let published = self.published().await?;
        let (units, catalogs) = {
            let mirrored = self.mirrored();
            let landed = |image: &Wanted| plan::holds(&mirrored, image, &resolved.facts);
            let mut units = units(set, &resolved.desired.images, landed);
            units.extend(lacking(set, &resolved.desired));
            (units, catalogs(set, &resolved.desired.images, landed))
        };
        let rendering = self.render(set, units, &published);
        let before = self.published_objects().await?;
        let (objects, _) = self.objects(set, catalogs, &before);
        let written = self.write(rendering, objects).await;
        self.state().output_trouble = written.as_ref().err().map(|e| e.to_string());
        let changed = written?;
        if changed > 0 {
            tracing::info!(image_set = %set, documents = changed, "documents written");
        }
        Ok(())
    }

    /// Waits until every image set was resolved once or failed to be, where a policy may say NeverContactSource: after a start it
    /// is not known before what the others lack. Bounded, since a slow upstream of one set must not hold back another's documents.
    async fn all_known(&self) {
        let never = |p: &SourcePolicy| p.policy == MirrorSourcePolicy::NeverContactSource;
        if !self.settings.mirror_source_policies.iter().any(never) {
            return;
        }
        let mut changes = self.changes.subscribe();
        let known = |set: &SetState| {
            !set.is_usable() || set.resolution().is_some() || set.failure.is_some()
        };
        let waiting = async {
            while !self.state().sets.values().all(known) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = waiting => {}
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(ALL_KNOWN_WITHIN) => {
                tracing::warn!("documents are written before every image set could be resolved");
            }
        }
    }

    /// Takes rules out of the documents on purpose; with `dry_run` only says what that would change.
    pub(super) async fn retire_rules(
        &self,
        set: &SetName,
        sources: &[String],
        dry_run: bool,
    ) -> Result<(Vec<Document>, Change), Error> {
        let _one_at_a_time = self.publishing.lock().await;
        let published = self.published().await?;
        let units = self.units_of_all(None);
        let options = self.rule_options(&units);
        let mut rendering = None;
        let mut left = published.clone();
        let wishes: Vec<Option<&String>> = match sources {
            [] => vec![None],
            some => some.iter().map(Some).collect(),
        };
        for source in wishes {
            let source = source
                .map(|s| s.parse())
                .transpose()
                .map_err(|e| Error::Unfit(format!("{e}")))?;
            let what = Retire {
                set: set.clone(),
                source,
            };
            let next = cluster::retire::retire(&units, &left, &options, &what)
                .map_err(|e| Error::NothingPublished(e.to_string()))?;
            left = next.documents.clone();
            rendering = Some(next);
        }
        let Some(mut rendering) = rendering else {
            return Ok((published, Change::default()));
        };
        let kept: BTreeSet<&str> = rendering
            .documents
            .iter()
            .map(|d| d.file_name.as_str())
            .collect();
        rendering.removed = published
            .iter()
            .map(|d| d.file_name.clone())
            .filter(|f| !kept.contains(f.as_str()))
            .collect();
        let change = self.change(set, &published, &rendering);
        if !dry_run {
            self.write(rendering, vec![]).await?;
        }
        Ok((published, change))
    }

    /// The documents of ours in the output folder.
    pub(super) async fn published(&self) -> Result<Vec<Document>, Error> {
        let output = self.output.clone();
        let (documents, problems) = tokio::task::spawn_blocking(move || {
            output
                .lock()
                .unwrap_or_else(|broken| broken.into_inner())
                .read()
        })
        .await??;
        for problem in problems {
            tracing::debug!(%problem, "in the output folder");
        }
        Ok(documents)
    }

    /// The documents of ours in the output folder that are no mirror rules.
    pub(super) async fn published_objects(&self) -> Result<Vec<Object>, Error> {
        let output = self.output.clone();
        let read = tokio::task::spawn_blocking(move || {
            output
                .lock()
                .unwrap_or_else(|broken| broken.into_inner())
                .objects()
        });
        Ok(read.await??)
    }

    /// The objects of an image set's catalogs; those of others are known by what they want, or had applied last.
    fn objects(
        &self,
        set: &SetName,
        mine: BTreeSet<Catalog>,
        published: &[Object],
    ) -> (Vec<Object>, Vec<String>) {
        let mut claims = mine;
        let state = self.state();
        let others = state
            .sets
            .iter()
            .filter(|(name, other)| *name != set && !other.removed);
        for (name, other) in others {
            claims.extend(catalogs(name, &other.record.wanted, |_| false));
            if let Some(resolved) = other.resolution() {
                claims.extend(catalogs(name, &resolved.desired.images, |_| false));
            }
        }
        cluster::catalog::objects(set, &claims, published)
    }

    async fn write(&self, rendering: Rendering, objects: Vec<Object>) -> Result<usize, Error> {
        let output = self.output.clone();
        let written = tokio::task::spawn_blocking(move || {
            output
                .lock()
                .unwrap_or_else(|broken| broken.into_inner())
                .write_all(&rendering.documents, &objects, &rendering.removed)
        });
        Ok(written.await??)
    }

    /// Renders all documents, with `units` for one image set and what was applied last for the others.
    fn render(&self, set: &SetName, mut units: Vec<Unit>, published: &[Document]) -> Rendering {
        units.extend(self.units_of_all(Some(set)));
        let options = self.rule_options(&units);
        render(&units, published, &options)
    }

    /// The units of every image set but one: what it last had applied, and what it wants and does not have, which gives no rule
    /// but keeps others from saying NeverContactSource.
    fn units_of_all(&self, but: Option<&SetName>) -> Vec<Unit> {
        let mirrored = self.mirrored();
        let state = self.state();
        let others = state
            .sets
            .iter()
            .filter(|(name, set)| Some(*name) != but && !set.removed);
        let nothing = Facts::default();
        let mut all = Vec::new();
        for (name, set) in others {
            let facts = set.resolution().map_or(&nothing, |r| &r.facts);
            let held = |image: &Wanted| {
                plan::holds(&mirrored, image, facts)
                    || (!image.platforms.is_empty()
                        && mirrored.tag(&image.target, &image.tag) == Some(&image.digest))
            };
            all.extend(units(name, &set.record.wanted, held));
            if let Some(resolved) = set.resolution().filter(|_| set.is_usable()) {
                let wanted = units(name, &resolved.desired.images, held);
                all.extend(wanted.into_iter().filter(|unit| !unit.landed));
                all.extend(lacking(name, &resolved.desired));
            }
        }
        all
    }

    /// The rules, by file and source, that wanted images need.
    pub(super) fn needed_rules(&self) -> BTreeSet<(String, String)> {
        let units = self.units_of_all(None);
        let options = self.rule_options(&units);
        let rendering = render(&units, &[], &options);
        let rules = rendering.documents.iter().flat_map(|d| {
            d.rules
                .iter()
                .map(|r| (d.file_name.clone(), r.source.to_string()))
        });
        rules.collect()
    }

    fn rule_options(&self, units: &[Unit]) -> cluster::Options {
        let state = self.state();
        let present = state
            .sets
            .iter()
            .filter(|(_, set)| set.is_usable())
            .map(|(name, _)| name);
        let sets: BTreeSet<&SetName> = units.iter().map(|u| &u.set).chain(present).collect();
        let scopes = sets
            .into_iter()
            .map(|name| (name.clone(), self.settings.policy_for(name).mirror_scope))
            .collect();
        cluster::Options {
            scopes,
            source_policies: self.settings.mirror_source_policies.clone(),
        }
    }

    fn change(&self, set: &SetName, published: &[Document], rendering: &Rendering) -> Change {
        let mine: Vec<String> = rendering
            .warnings
            .iter()
            .filter(|w| w.set == *set)
            .map(|w| w.message.clone())
            .collect();
        Change {
            documents: document_changes(set, published, rendering),
            impact: node_impact(published, &rendering.documents),
            warnings: mine,
        }
    }
}

/// The documents of `set`, and those of others that change along.
fn document_changes(
    set: &SetName,
    published: &[Document],
    rendering: &Rendering,
) -> Vec<DocumentChange> {
    let before: BTreeMap<&str, &Document> = published
        .iter()
        .map(|d| (d.file_name.as_str(), d))
        .collect();
    let after: BTreeMap<&str, &Document> = rendering
        .documents
        .iter()
        .map(|d| (d.file_name.as_str(), d))
        .collect();
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let changes = names.into_iter().filter_map(|file_name| {
        let (old, new) = (before.get(file_name), after.get(file_name));
        let document = new.or(old)?;
        let text = |d: Option<&&Document>| d.map(|d| d.text.clone()).unwrap_or_default();
        let change = DocumentChange {
            name: document.name.clone(),
            file_name: file_name.to_owned(),
            kind: document.kind.object().to_owned(),
            before: text(old),
            after: text(new),
        };
        (document.set == *set || change.before != change.after).then_some(change)
    });
    changes.collect()
}

/// What becomes of the objects of an image set's catalogs; one that is not written anew stays.
fn object_changes(set: &SetName, before: &[Object], after: &[Object]) -> Vec<DocumentChange> {
    let old = |name: &str| before.iter().find(|object| object.file_name == name);
    let written = after.iter().map(|object| DocumentChange {
        name: object.name.clone(),
        file_name: object.file_name.clone(),
        kind: object.kind().to_owned(),
        before: old(&object.file_name)
            .map(|o| o.text.clone())
            .unwrap_or_default(),
        after: object.text.clone(),
    });
    let stays = |object: &&Object| {
        object.set == *set && !after.iter().any(|new| new.file_name == object.file_name)
    };
    let kept = before.iter().filter(stays).map(|object| DocumentChange {
        name: object.name.clone(),
        file_name: object.file_name.clone(),
        kind: object.kind().to_owned(),
        before: object.text.clone(),
        after: object.text.clone(),
    });
    written.chain(kept).collect()
}

/// What nodes do when the documents change, by our documents alone.
fn node_impact(before: &[Document], after: &[Document]) -> NodeImpact {
    let (before, after) = match (Node::of(before), Node::of(after)) {
        (Ok(before), Ok(after)) => (before, after),
        (before, after) => {
            return refused(
                before
                    .err()
                    .into_iter()
                    .flatten()
                    .chain(after.err().into_iter().flatten()),
            );
        }
    };
    let impact = impact::impact(&before, &after);
    let drain = impact.effect == Effect::Drain;
    NodeImpact {
        reload: impact.effect >= Effect::Reload,
        drain,
        unknown: false,
        reasons: impact
            .reasons
            .into_iter()
            .map(|r| ImpactReason {
                scope: r.scope.to_string(),
                mirror: r.mirror.map(|m| m.to_string()).unwrap_or_default(),
                drain,
                message: r.message,
            })
            .collect(),
    }
}

/// The operator refuses such rules and nodes keep what they have, until something else changes: what happens then is anybody's
/// guess.
fn refused(refusals: impl Iterator<Item = cluster::node::Refusal>) -> NodeImpact {
    let reasons = refusals.map(|r| ImpactReason {
        scope: String::new(),
        mirror: String::new(),
        drain: true,
        message: r.to_string(),
    });
    NodeImpact {
        reload: true,
        drain: true,
        unknown: true,
        reasons: reasons.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_the_operator_refuses_make_the_forecast_unknown_and_guards_safe() {
        let refusal = cluster::node::Refusal::TwoPolicies("quay.io/a".parse().unwrap());
        let message = refusal.to_string();
        assert_eq!(
            refused(std::iter::once(refusal)),
            NodeImpact {
                reload: true,
                drain: true,
                unknown: true,
                reasons: vec![ImpactReason {
                    scope: String::new(),
                    mirror: String::new(),
                    drain: true,
                    message,
                }],
            }
        );
    }
}

//! From what has landed to documents in the output folder, and what that does to nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Error, Inner,
    state::{Resolved, SetState},
    told::Told,
    units::{lacking, signed, units, was_landed},
};
use crate::{
    cluster::{
        self, Object, Unit, Warning,
        document::Document,
        hold::Held,
        impact::{self, Effect},
        node::Node,
        published::Published,
        render::{Rendering, render},
        retire::Retire,
        signatures::{self, Signed},
    },
    model::{
        desired::{Desired, Kind, Wanted},
        facts::Facts,
        image::Digest,
        imageset::SetName,
        plan,
        policy::{MirrorSourcePolicy, SourcePolicy},
        record::{ClusterImpact, DocumentChange, ImpactReason, NodeImpact},
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
    /// What it does to each cluster that takes the documents.
    pub(super) clusters: Vec<ClusterImpact>,
    /// Of what would be changed, what waits.
    pub(super) held: Vec<Held>,
}

impl Inner {
    /// What publishing would change if these were the units of `set`, the signatures of its releases and its catalogs.
    pub(super) async fn forecast_documents(
        &self,
        set: &SetName,
        units: Vec<Unit>,
        told: Told,
    ) -> Result<Change, Error> {
        let published = self.published().await?;
        let rendering = self.render(set, units, told, &published);
        let weighed = self.weigh(set, &published, &rendering, None).await?;
        Ok(Change {
            clusters: weighed.clusters,
            held: weighed.held,
            ..self.change(set, &published, &rendering)
        })
    }

    /// Writes the documents for what has landed of a plan's image set.
    pub(super) async fn publish(
        &self,
        set: &SetName,
        resolved: Option<&Resolved>,
    ) -> Result<(), Error> {
        if let Some(Resolved { desired, facts, .. }) = resolved {
            self.publish_as(set, desired, Some(facts), None, false)
                .await?;
        }
        Ok(())
    }

    /// Writes the documents for what has landed of an image set, but for those that wait; none of `free` does. Without `facts` what
    /// it stands for is remembered only. With `dry_run` only says what that changes.
    pub(super) async fn publish_as(
        &self,
        set: &SetName,
        desired: &Desired,
        facts: Option<&Facts>,
        free: Option<&SetName>,
        dry_run: bool,
    ) -> Result<Change, Error> {
        self.all_known().await;
        let manners = self.manners(set, desired).await;
        let _one_at_a_time = self.publishing.lock().await;
        let published = self.published().await?;
        let (units, told) = {
            let mirrored = self.mirrored();
            let landed = |image: &Wanted| match facts {
                Some(facts) => plan::holds(&mirrored, image, facts),
                None => was_landed(&mirrored, image, &Facts::default()),
            };
            let mut units = units(set, &desired.images, landed);
            units.extend(lacking(set, desired));
            let told = Told {
                signed: signed(desired, landed),
                catalogs: manners.catalogs(set, &desired.images, landed),
                warnings: manners.warnings.clone(),
            };
            (units, told)
        };
        let mut rendering = self.render(set, units, told, &published);
        let weighed = self.weigh(set, &published, &rendering, free).await?;
        rendering.keep(weighed.documents);
        let mut change = self.change(set, &published, &rendering);
        change.clusters = weighed.adds;
        if dry_run {
            return Ok(change);
        }
        let written = self.write(rendering).await;
        self.state().output_trouble = written.as_ref().err().map(|e| e.to_string());
        let changed = written?;
        if changed > 0 {
            tracing::info!(image_set = %set, documents = changed, "documents written");
        }
        for held in &weighed.held {
            tracing::info!(image_set = %held.set, document = %held.file_name, why = %held.why, "document waits");
        }
        self.note_all_held(set, &weighed.held);
        Ok(change)
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
        let mut left = published.documents.clone();
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
            return Ok((published.documents, Change::default()));
        };
        let own = |d: &Document| d.set == *set && !d.rules.is_empty();
        let mut objects = match sources.is_empty() || !rendering.documents.iter().any(own) {
            true => signatures::retire(set, &self.wanted_releases(set), &published.objects),
            false => signatures::render(set, &Signed::new(), &published.objects),
        };
        let (catalogs, _) = self.catalog_objects(set, BTreeSet::new(), &published.objects);
        objects.extend(catalogs);
        put_objects(&mut rendering, set, objects, &published);
        // Who retires rules has seen what that does, but not what documents of others that wait do.
        let weighed = self.weigh(set, &published, &rendering, Some(set)).await?;
        rendering.keep(weighed.documents);
        let documents = rendering.documents.iter().map(|d| d.file_name.as_str());
        let others = rendering.objects.iter().map(|o| o.file_name.as_str());
        let kept: BTreeSet<&str> = documents.chain(others).collect();
        let documents = published.documents.iter().map(|d| &d.file_name);
        let others = published.objects.iter().map(|o| &o.file_name);
        rendering.removed = documents
            .chain(others)
            .filter(|file| !kept.contains(file.as_str()))
            .cloned()
            .collect();
        let mut change = self.change(set, &published, &rendering);
        change.clusters = weighed.adds;
        if !dry_run {
            self.write(rendering).await?;
            self.note_all_held(set, &weighed.held);
        }
        Ok((published.documents, change))
    }

    /// The payloads that an image set wants in the mirror, as far as is known.
    fn wanted_releases(&self, set: &SetName) -> BTreeSet<Digest> {
        self.peek(set, |state| {
            let resolved = state.resolution().map(|r| r.desired.images.as_slice());
            let wanted = state.record.wanted.iter().chain(resolved.unwrap_or(&[]));
            let releases = wanted.filter(|w| w.kind == Kind::Release && !state.removed);
            releases.map(|w| w.digest.clone()).collect()
        })
    }

    /// The documents of ours in the output folder.
    pub(super) async fn published(&self) -> Result<Published, Error> {
        let output = self.output.clone();
        let published = tokio::task::spawn_blocking(move || {
            output
                .lock()
                .unwrap_or_else(|broken| broken.into_inner())
                .read()
        })
        .await??;
        for problem in &published.problems {
            tracing::debug!(%problem, "in the output folder");
        }
        Ok(published)
    }

    pub(super) async fn write(&self, rendering: Rendering) -> Result<usize, Error> {
        let output = self.output.clone();
        let written = tokio::task::spawn_blocking(move || {
            output
                .lock()
                .unwrap_or_else(|broken| broken.into_inner())
                .write(&rendering.documents, &rendering.objects, &rendering.removed)
        });
        Ok(written.await??)
    }

    /// Renders all documents, with `units` for one image set and what was applied last for the others.
    fn render(
        &self,
        set: &SetName,
        mut units: Vec<Unit>,
        told: Told,
        published: &Published,
    ) -> Rendering {
        units.extend(self.units_of_all(Some(set)));
        let options = self.rule_options(&units);
        let mut rendering = render(&units, &published.documents, &options);
        let mut objects = signatures::render(set, &told.signed, &published.objects);
        let (catalogs, mut warnings) = self.catalog_objects(set, told.catalogs, &published.objects);
        warnings.extend(told.warnings);
        objects.extend(catalogs);
        put_objects(&mut rendering, set, objects, published);
        let warnings = warnings.into_iter().map(|message| Warning {
            set: set.clone(),
            message,
        });
        rendering.warnings.extend(warnings);
        rendering
    }

    /// The units of every image set but one: what it last had applied, and what it wants and does not have, which gives no rule
    /// but keeps others from saying NeverContactSource.
    pub(super) fn units_of_all(&self, but: Option<&SetName>) -> Vec<Unit> {
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
            let before = |image: &Wanted| was_landed(&mirrored, image, facts);
            all.extend(units(name, &set.record.wanted, before));
            if let Some(resolved) = set.resolution().filter(|_| set.is_usable()) {
                let now = |image: &Wanted| plan::holds(&mirrored, image, facts);
                let wanted = units(name, &resolved.desired.images, now);
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

    pub(super) fn rule_options(&self, units: &[Unit]) -> cluster::Options {
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

    fn change(&self, set: &SetName, published: &Published, rendering: &Rendering) -> Change {
        let mine: Vec<String> = rendering
            .warnings
            .iter()
            .filter(|w| w.set == *set)
            .map(|w| w.message.clone())
            .collect();
        Change {
            documents: document_changes(set, published, rendering),
            impact: node_impact(&published.documents, &rendering.documents),
            warnings: mine,
            ..Change::default()
        }
    }
}

/// Puts the documents without rules of `set` beside those of the other image sets, which stay as they are published.
fn put_objects(
    rendering: &mut Rendering,
    set: &SetName,
    objects: Vec<Object>,
    published: &Published,
) {
    let kept: BTreeSet<&str> = objects.iter().map(|o| o.file_name.as_str()).collect();
    let own = published.objects.iter().filter(|o| o.set == *set);
    let gone = own.map(|o| o.file_name.clone());
    rendering
        .removed
        .extend(gone.filter(|file| !kept.contains(file.as_str())));
    let others = published.objects.iter().filter(|o| o.set != *set);
    rendering.objects = others.cloned().chain(objects).collect();
    rendering
        .objects
        .sort_by(|a, b| a.file_name.cmp(&b.file_name));
}

/// A document of either sort, as far as its change is shown.
struct Shown<'a> {
    set: &'a SetName,
    name: &'a str,
    kind: &'a str,
    text: &'a str,
}

fn shown<'a>(documents: &'a [Document], objects: &'a [Object]) -> BTreeMap<&'a str, Shown<'a>> {
    let rules = documents.iter().map(|d| {
        let shown = Shown {
            set: &d.set,
            name: &d.name,
            kind: d.kind.object(),
            text: &d.text,
        };
        (d.file_name.as_str(), shown)
    });
    let others = objects.iter().map(|o| {
        let shown = Shown {
            set: &o.set,
            name: &o.name,
            kind: o.kind(),
            text: &o.text,
        };
        (o.file_name.as_str(), shown)
    });
    rules.chain(others).collect()
}

/// The documents of `set`, and those of others that change along.
pub(super) fn document_changes(
    set: &SetName,
    published: &Published,
    rendering: &Rendering,
) -> Vec<DocumentChange> {
    let before = shown(&published.documents, &published.objects);
    let after = shown(&rendering.documents, &rendering.objects);
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let changes = names.into_iter().filter_map(|file_name| {
        let (old, new) = (before.get(file_name), after.get(file_name));
        let document = new.or(old)?;
        let text = |d: Option<&Shown<'_>>| d.map(|d| d.text.to_owned()).unwrap_or_default();
        let change = DocumentChange {
            name: document.name.to_owned(),
            file_name: file_name.to_owned(),
            kind: document.kind.to_owned(),
            before: text(old),
            after: text(new),
        };
        (document.set == set || change.before != change.after).then_some(change)
    });
    changes.collect()
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
                scope: r.scope.map(|s| s.to_string()).unwrap_or_default(),
                mirror: r.mirror.map(|m| m.to_string()).unwrap_or_default(),
                drain,
                message: r.message,
            })
            .collect(),
        ..NodeImpact::default()
    }
}

/// The operator refuses such rules and nodes keep what they have, until something else changes: what happens then is anybody's
/// guess.
fn refused(refusals: impl Iterator<Item = cluster::operator::Refusal>) -> NodeImpact {
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
        ..NodeImpact::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_the_operator_refuses_make_the_forecast_unknown_and_guards_safe() {
        let refusal = cluster::operator::Refusal::TwoPolicies("quay.io/a".parse().unwrap());
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
                ..NodeImpact::default()
            }
        );
    }
}

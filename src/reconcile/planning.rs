//! Makes plans: asks for facts until the rules are content, looks at the mirror, compares, forecasts the documents.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{Error, Inner, attached, holding, state::Resolved, told::Told, units};
use crate::{
    copy,
    model::{
        desired::{self, Desired, Wanted},
        facts::{Built, Fact, Facts, Need},
        image::Digest,
        imageset::{ImageSet, SetName},
        mirrored::Landed,
        plan::{self, Basis, Plan},
        policy::{ApplyMode, OnRefresh, Policy},
        record::{DocumentChange, Pending, PlanRecord, SetRecord},
        release::signature::Signatures,
    },
    resolve::Asked,
    store::{self, Store},
};

/// How much is read anew to make a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As fresh, and signatures are looked for however short ago they were.
    Anew,
    /// Tags and channels are read, and the mirror is asked about what is not known of it.
    Fresh,
    /// Tags and channels mean what they meant the last time; nobody is asked.
    Pinned,
}

/// Where a plan's image set comes from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) set: ImageSet,
    pub(super) revision: String,
    pub(super) inline: bool,
}

/// How many rounds of questions are asked before it is concluded that the answers lead nowhere.
const MAX_ROUNDS: usize = 12;

impl Inner {
    /// Makes the plan of an image set and remembers it.
    pub(super) async fn make_plan(
        &self,
        origin: Origin,
        reading: Reading,
    ) -> Result<Arc<PlanRecord>, Error> {
        let name = origin.set.name.clone();
        let planning = self.peek(&name, |state| state.planning.clone());
        let _alone = planning.lock().await;
        let policy = self.settings.policy_for(&name);
        let mut resolved = self.resolve(&origin, &policy, reading).await?;
        if reading != Reading::Pinned {
            self.survey(&resolved.desired).await?;
            self.survey_attached(&resolved.desired).await?;
        }
        let before = self.peek(&name, |state| state.record.clone());
        let (plan, facts) = self.compare(&origin, &resolved, &before).await?;
        let record = self
            .forecast(&origin, &policy, plan, &resolved, &facts, &before)
            .await?;
        let record = Arc::new(self.keep_plan(record).await?);
        if !origin.inline {
            // What the comparison had to know of sparse images tells later whether they have landed.
            resolved.facts = facts;
            keep_sparse(&mut resolved.facts, &resolved.desired);
            let resolved = Arc::new(resolved);
            self.remember(&name, &record, resolved.clone(), reading);
            if record.applied {
                self.note_applied(&record, Some(&resolved));
            }
        }
        Ok(record)
    }

    /// What planning would give now if tags and channels meant what they meant the last time. Nobody upstream is asked for what
    /// they name, and nothing is remembered.
    pub(super) async fn plan_pinned(
        &self,
        origin: Origin,
        resolved: Arc<Resolved>,
    ) -> Result<Plan, Error> {
        let before = self.peek(&origin.set.name, |state| state.record.clone());
        let (plan, _) = self.compare(&origin, &resolved, &before).await?;
        Ok(plan)
    }

    fn remember(
        &self,
        name: &SetName,
        record: &Arc<PlanRecord>,
        resolved: Arc<Resolved>,
        reading: Reading,
    ) {
        let refreshed = (reading != Reading::Pinned).then(Timestamp::now);
        let is_news = self.with_set(name, |state| {
            state.resolved = Some(resolved);
            // What a run leaves for now is no plan of its own: the one it performs stays the newest.
            let running = state.active.is_some()
                && state
                    .plan
                    .as_ref()
                    .is_some_and(|p| p.document == record.document);
            let before = state.plan.as_ref().map(|plan| plan.plan.id.clone());
            if !running {
                state.plan = Some(record.clone());
            }
            state.failure = None;
            state.record.plan = Some(record.plan.id.clone());
            if let Some(now) = refreshed {
                state.record.refreshed = Some(now);
            }
            !running && !record.applied && before.as_ref() != Some(&record.plan.id)
        });
        if is_news {
            self.news.plan_ready(record);
        }
        self.save_set(name);
        self.touch();
    }

    /// Decides what is wanted, asking for facts until the rules are content.
    async fn resolve(
        &self,
        origin: &Origin,
        policy: &Policy,
        reading: Reading,
    ) -> Result<Resolved, Error> {
        let name = &origin.set.name;
        let document = plan::document_digest(&origin.set).to_string();
        let (last, pins) = self.peek(name, |state| {
            (state.resolved.clone(), state.record.pins.clone())
        });
        let mut facts = match (&last, reading) {
            (Some(last), Reading::Pinned) => last.facts.clone(),
            _ => Facts::default(),
        };
        let since = looked_since(policy, reading, Timestamp::now());
        let mut desired = None;
        for _ in 0..MAX_ROUNDS {
            match desired::build(&origin.set, policy, &facts) {
                Built::Whole(whole) => {
                    desired = Some(whole);
                    break;
                }
                Built::Missing(needs) => {
                    let mut asked = Vec::new();
                    for need in needs {
                        match need {
                            Need::Catalogs(wish) => facts.learn(self.filtered(wish, policy).await?),
                            Need::Layout(folder) => facts.learn(self.layout(folder).await),
                            need => asked.push(Asked {
                                last: last_named(&need, &last, &pins),
                                ..Asked::from(need)
                            }),
                        }
                    }
                    self.learn(asked, since, &mut facts).await?;
                }
            }
        }
        let mut desired = desired.ok_or_else(|| Error::Endless(name.clone()))?;
        if desired.signatures_ignored {
            tracing::warn!(image_set = %name, "release signatures are not verified: settings say so");
        }
        self.keep_signatures(&facts, &desired).await?;
        let claims = self.claims(name, &desired.images);
        desired::yield_to(&mut desired, &claims);
        keep_sparse(&mut facts, &desired);
        Ok(Resolved {
            document,
            desired,
            facts,
        })
    }

    /// Answers needs: from the store where a digest names them, else from upstream. What belongs to images may change, and counts
    /// where it was looked for since `since`.
    async fn learn(
        &self,
        asked: Vec<Asked>,
        since: Timestamp,
        facts: &mut Facts,
    ) -> Result<(), Error> {
        let recall = move |store: &Store| recall_all(store, asked, since);
        let (recalled, left) = self.on_store(recall).await?;
        recalled.into_iter().for_each(|fact| facts.learn(fact));
        if left.is_empty() {
            return Ok(());
        }
        let left = self.recall_signatures(left, facts).await?;
        tracing::debug!(questions = left.len(), "asking upstream");
        let learnt = self.resolver.fetch(left).await;
        let looks = attached::looks(&learnt, Timestamp::now());
        let mut manifests = Vec::new();
        let mut payloads = Vec::new();
        for fact in learnt {
            match &fact {
                Fact::Manifest(_, Ok(manifest)) => manifests.push(manifest.clone()),
                Fact::Payload(digest, Ok(payload)) => {
                    payloads.push((digest.clone(), payload.clone()))
                }
                Fact::Signatures(_, digest, Ok(signatures)) => tell_bad(digest, signatures),
                _ => {}
            }
            facts.learn(fact);
        }
        self.on_store(move |store| {
            store.keep_facts(&manifests, &payloads)?;
            store.keep_attached(&looks)
        })
        .await
    }

    /// Answers questions for signatures from the store, as far as what it has still counts; returns the questions that are left.
    async fn recall_signatures(
        &self,
        asked: Vec<Asked>,
        facts: &mut Facts,
    ) -> Result<Vec<Asked>, Error> {
        let mut left = Vec::with_capacity(asked.len());
        for question in asked {
            let Need::Signatures(kind, digest) = &question.need else {
                left.push(question);
                continue;
            };
            let of = digest.clone();
            let kept = self.on_store(move |store| store.signatures(&of)).await?;
            let signed = kept.and_then(|kept| self.resolver.signed(*kind, digest, kept));
            match signed {
                Some(signed) => {
                    facts.learn(Fact::Signatures(
                        *kind,
                        digest.clone(),
                        Ok(Arc::new(signed)),
                    ));
                }
                None => left.push(question),
            }
        }
        Ok(left)
    }

    /// Keeps the signatures that count: a good one stays good. Where a store broke off in the middle it is asked again, since it
    /// may have more.
    async fn keep_signatures(&self, facts: &Facts, desired: &Desired) -> Result<(), Error> {
        let whole = |digest: &Digest| {
            let mut of_digest = facts.signatures.iter().filter(|((_, d), _)| d == digest);
            of_digest.all(|(_, s)| s.as_ref().is_ok_and(|s| s.trouble.is_none()))
        };
        let kept: Vec<_> = desired
            .signatures
            .iter()
            .filter(|(digest, _)| whole(digest))
            .map(|(digest, messages)| (digest.clone(), messages.clone()))
            .collect();
        if kept.is_empty() {
            return Ok(());
        }
        self.on_store(move |store| {
            kept.iter()
                .try_for_each(|(digest, messages)| store.keep_signatures(digest, messages))
        })
        .await
    }

    /// Asks the mirror about wanted images of which nothing is known.
    async fn survey(&self, desired: &Desired) -> Result<(), Error> {
        // What was found to be damaged looks whole from outside, and is copied again.
        let damaged = self.damaged();
        let unknown: Vec<_> = {
            let mirrored = self.mirrored();
            let lacking = |w: &&desired::Wanted| {
                mirrored.tag(&w.target, &w.tag) != Some(&w.digest)
                    && !damaged.contains(&(w.target.clone(), w.digest.clone()))
            };
            desired.images.iter().filter(lacking).cloned().collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let found = copy::survey(&self.mirror, &unknown, self.settings.parallel_blobs * 2)
            .await
            .map_err(Error::Mirror)?;
        let copy::Surveyed {
            landed: found,
            empty,
        } = found;
        self.state().empty.extend(empty);
        if !found.is_empty() {
            let images = found.iter().filter(|f| matches!(f, Landed::Tag(..)));
            tracing::info!(images = images.count(), "found in the mirror already");
        }
        self.record_landed(found).await
    }

    /// Compares what is wanted with what is there, asking for the manifests of what is not.
    async fn compare(
        &self,
        origin: &Origin,
        resolved: &Resolved,
        before: &SetRecord,
    ) -> Result<(Plan, Facts), Error> {
        let mut facts = resolved.facts.clone();
        for _ in 0..MAX_ROUNDS {
            let kept: HashSet<Digest> = self.store.kept().all();
            let built = {
                let mirrored = self.mirrored();
                let basis = Basis {
                    set: &origin.set,
                    revision: &origin.revision,
                    base: self.store.position(&mirrored),
                    before: &before.wanted,
                    dropped: &before.unwanted,
                    pins: &before.pins,
                    committed: before.applied_document.as_deref() != Some(&resolved.document),
                    kept: &kept,
                };
                plan::build(&basis, &resolved.desired, &mirrored, &facts)
            };
            match built {
                Built::Whole(plan) => return Ok((plan, facts)),
                Built::Missing(needs) => {
                    let asked = needs.into_iter().map(Asked::from).collect();
                    self.learn(asked, Timestamp::MIN, &mut facts).await?;
                }
            }
        }
        Err(Error::Endless(origin.set.name.clone()))
    }

    /// Joins a plan with what it does to documents and nodes, and with why it waits.
    async fn forecast(
        &self,
        origin: &Origin,
        policy: &Policy,
        plan: Plan,
        resolved: &Resolved,
        facts: &Facts,
        before: &SetRecord,
    ) -> Result<PlanRecord, Error> {
        let stalled = |unit: &str| plan.unresolved.iter().any(|u| u.stalls(unit));
        let lands = |wanted: &Wanted| {
            !stalled(&wanted.unit) || plan::holds(&self.mirrored(), wanted, facts)
        };
        let mut units = units::units(&origin.set.name, &resolved.desired.images, lands);
        units.extend(units::lacking(&origin.set.name, &resolved.desired));
        // A catalog goes on without a package of it that stalls.
        let whole = |wanted: &Wanted| {
            !plan.unresolved.iter().any(|u| u.subject == wanted.unit)
                || plan::holds(&self.mirrored(), wanted, facts)
        };
        let manners = self.manners(&origin.set.name, &resolved.desired).await;
        let told = Told {
            signed: units::signed(&resolved.desired, lands),
            catalogs: manners.catalogs(&origin.set.name, &resolved.desired.images, whole),
            warnings: manners.warnings.clone(),
        };
        let change = self
            .forecast_documents(&origin.set.name, units, told)
            .await?;
        let document = resolved.document.clone();
        let settled = |d: &DocumentChange| {
            d.before == d.after || change.held.iter().any(|held| held.file_name == d.file_name)
        };
        let nothing_to_do = plan.is_empty() && change.documents.iter().all(settled);
        if nothing_to_do && !origin.inline {
            self.note_held(&origin.set.name, &change.held);
        }
        let pending = match origin.inline {
            true => Pending::Preview,
            // Nobody has to be waited for to do nothing.
            false if nothing_to_do => Pending::No,
            false => waits(policy, &plan, &document, &resolved.desired.pins, before),
        };
        let mut plan = plan;
        plan.warnings.extend(change.warnings.clone());
        plan.warnings.sort();
        plan.warnings.dedup();
        Ok(PlanRecord {
            plan,
            created: Timestamp::now(),
            inline: origin.inline,
            document,
            pins: resolved.desired.pins.clone(),
            documents: change.documents,
            impact: change.impact,
            clusters: change.clusters,
            // Documents of others that wait are their own plans' business.
            held: holding::shown(
                change
                    .held
                    .iter()
                    .filter(|held| held.set == origin.set.name),
            ),
            pending,
            run: None,
            // Of a preview nothing was applied, whatever it would change.
            applied: nothing_to_do && !origin.inline,
        })
    }

    /// Stores a plan. One of the same identity keeps its time and its run while it is not applied; a preview does not take the
    /// place of the directory's own.
    async fn keep_plan(&self, mut record: PlanRecord) -> Result<PlanRecord, Error> {
        let id = record.plan.id.clone();
        match self.on_store(move |store| store.plan(&id)).await? {
            Some(old) if record.inline && !old.inline => return Ok(record),
            // What was applied and is lacking again is a difference of its own.
            Some(old) if old.applied && !record.applied => {}
            Some(old) => {
                record.run = old.run;
                record.created = old.created;
            }
            None => {}
        }
        let keep = self.settings.keep_plans;
        let stored = record.clone();
        self.on_store(move |store| store.put_plan(&stored, keep))
            .await?;
        Ok(record)
    }
}

/// Splits questions into those that the store answers and those it cannot.
fn recall_all(
    store: &Store,
    asked: Vec<Asked>,
    since: Timestamp,
) -> Result<(Vec<Fact>, Vec<Asked>), store::Error> {
    let (mut recalled, mut left) = (Vec::new(), Vec::new());
    for question in asked {
        if let Need::Attached(repository, images) = question.need {
            let (facts, asked) = attached::recall(store, repository, images, since)?;
            recalled.extend(facts);
            left.extend(asked);
            continue;
        }
        match recall(store, &question.need)? {
            Some(fact) => recalled.push(fact),
            None => left.push(question),
        }
    }
    Ok((recalled, left))
}

fn recall(store: &Store, need: &Need) -> Result<Option<Fact>, store::Error> {
    Ok(match need {
        Need::Manifest(_, digest) => store
            .manifest(digest)?
            .map(|m| Fact::Manifest(digest.clone(), Ok(Arc::new(m)))),
        Need::Payload(_, digest) => store
            .payload(digest)?
            .map(|p| Fact::Payload(digest.clone(), Ok(Arc::new(p)))),
        Need::Graph(_)
        | Need::Tag(_)
        | Need::Attached(..)
        | Need::Signatures(..)
        | Need::Catalogs(_)
        | Need::Layout(_) => None,
    })
}

/// Since when a look for signatures counts.
fn looked_since(policy: &Policy, reading: Reading, now: Timestamp) -> Timestamp {
    match reading {
        Reading::Anew => now,
        Reading::Fresh => now
            .checked_sub(policy.signatures_refresh)
            .unwrap_or(Timestamp::MIN),
        Reading::Pinned => Timestamp::MIN,
    }
}

/// Logs the signatures that count for nothing: one that was forged should not be seen in status alone.
fn tell_bad(digest: &Digest, signatures: &Signatures) {
    for found in &signatures.found {
        if let Err(why) = &found.claim {
            tracing::warn!(release = %digest, store = %signatures.store, signature = %found.name, %why, "a release signature counts for nothing");
        }
    }
}

/// What a tag named the last time, by the last resolution or the last applied plan.
fn last_named(
    need: &Need,
    last: &Option<Arc<Resolved>>,
    pins: &BTreeMap<String, String>,
) -> Option<Digest> {
    let Need::Tag(reference) = need else {
        return None;
    };
    let resolved = last
        .as_ref()
        .and_then(|l| l.facts.tags.get(reference)?.as_ref().ok().cloned());
    resolved.or_else(|| pins.get(&reference.to_string())?.parse().ok())
}

/// Drops the manifests that the store gives back at any time, but for those of sparse images: whether these are whole cannot
/// be told without.
fn keep_sparse(facts: &mut Facts, desired: &Desired) {
    let mut sparse: HashSet<Digest> = HashSet::new();
    let mut left: Vec<Digest> = desired
        .images
        .iter()
        .filter(|w| !w.platforms.is_empty())
        .map(|w| w.digest.clone())
        .collect();
    while let Some(digest) = left.pop() {
        if let Some(Ok(manifest)) = facts.manifests.get(&digest)
            && sparse.insert(digest)
        {
            left.extend(manifest.children(&[]).map(|child| child.digest.clone()));
        }
    }
    facts
        .manifests
        .retain(|digest, manifest| manifest.is_ok() && sparse.contains(digest));
    facts.payloads.clear();
    facts.catalogs.clear();
}

/// Why a plan waits for a person, by the site's policy.
fn waits(
    policy: &Policy,
    plan: &Plan,
    document: &str,
    pins: &BTreeMap<String, String>,
    before: &SetRecord,
) -> Pending {
    let committed = before.applied_document.as_deref() != Some(document);
    let cancelled = before.cancelled.as_ref();
    if policy.apply == ApplyMode::Manual {
        Pending::Manual
    } else if cancelled.is_some_and(|c| c.covers(document, pins)) {
        Pending::Cancelled
    } else if policy.max_bytes.is_some_and(|most| plan.bytes() > most) {
        Pending::MaxBytes
    } else if policy.on_refresh == OnRefresh::Plan && !committed && moved_upstream(plan, before) {
        Pending::OnRefresh
    } else {
        Pending::No
    }
}

/// Whether a plan brings what upstream changed: a tag or channel that moved, or a release that a channel has anew below its
/// newest. What the mirror lost is not upstream's doing, nor is what could not be had at the time of the commit.
fn moved_upstream(plan: &Plan, before: &SetRecord) -> bool {
    if !plan.moved.is_empty() {
        return true;
    }
    // An image that is mirrored already gains a signature: upstream has signed it since.
    if plan.steps.iter().any(|step| step.image_held) {
        return true;
    }
    let known: HashSet<_> = before
        .wanted
        .iter()
        .map(|w| (&w.target, &w.tag, &w.digest))
        .collect();
    plan.steps.iter().map(|step| &step.image).any(|image| {
        let channel = format!("{} (", image.entry);
        let pinned = before.pins.keys().any(|pin| pin.starts_with(&channel));
        pinned && !known.contains(&(&image.target, &image.tag, &image.digest))
    })
}

#[cfg(test)]
mod tests;

//! What is remembered of runs: how they ended, and what the mirror stands for since.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{Error, Inner, state::Resolved};
use crate::model::{
    desired::Wanted,
    image::{Reference, Repository, Tag},
    record::{Cancelled, PlanRecord, RunRecord, RunState},
};

impl Inner {
    pub(super) async fn save_run(&self, record: &RunRecord) -> Result<(), Error> {
        let (record, keep) = (record.clone(), self.settings.keep_runs);
        self.on_store(move |store| store.put_run(&record, keep))
            .await
    }

    /// Notes in a plan which run performs it, so that who looks at the plan can watch.
    pub(super) async fn save_plan_of(
        &self,
        plan: &PlanRecord,
        run: &RunRecord,
    ) -> Result<(), Error> {
        let begun = PlanRecord {
            run: Some(run.id.clone()),
            ..plan.clone()
        };
        let keep = self.settings.keep_plans;
        self.on_store(move |store| store.put_plan(&begun, keep))
            .await
    }

    /// Remembers how a run left its image set and its plan.
    pub(super) async fn note_run(
        &self,
        plan: &Arc<PlanRecord>,
        resolved: Option<&Resolved>,
        run: &RunRecord,
    ) {
        let set = &plan.plan.set;
        // What was left out since it is not wanted any more leaves a plan that was not applied as it stands.
        let whole = run.state == RunState::Succeeded && run.progress.images_skipped == 0;
        let applied = PlanRecord {
            applied: whole,
            run: Some(run.id.clone()),
            ..plan.as_ref().clone()
        };
        let keep = self.settings.keep_plans;
        let stored = applied.clone();
        if let Err(error) = self
            .on_store(move |store| store.put_plan(&stored, keep))
            .await
        {
            tracing::error!(%error, "a plan's outcome could not be kept");
        }
        self.with_set(set, |state| {
            state.active = None;
            state.last_run = Some(run.clone());
            state.record.cancelled = (run.state == RunState::Cancelled).then(|| Cancelled {
                document: plan.document.clone(),
                pins: plan.pins.clone(),
            });
            if state
                .plan
                .as_ref()
                .is_some_and(|p| p.plan.id == applied.plan.id)
            {
                state.plan = Some(Arc::new(applied));
            }
        });
        match run.state {
            _ if whole => self.note_applied(plan, resolved),
            RunState::Partial => self.note_partial(plan, resolved),
            _ => self.save_set(set),
        }
    }

    /// Remembers what a run brought that left something out: what landed is this image set's, and what moves upstream from now
    /// on moves without a commit.
    fn note_partial(&self, plan: &PlanRecord, resolved: Option<&Resolved>) {
        let set = &plan.plan.set;
        let landed: Vec<Wanted> = {
            let mirrored = self.mirrored();
            let images = resolved.into_iter().flat_map(|r| &r.desired.images);
            images
                .filter(|w| mirrored.tag(&w.target, &w.tag) == Some(&w.digest))
                .cloned()
                .collect()
        };
        self.with_set(set, |state| {
            state.record.applied_document = Some(plan.document.clone());
            state.record.pins = pins_after(&state.record.pins, plan);
            let before = std::mem::take(&mut state.record.wanted);
            let taken: HashSet<_> = landed.iter().map(Wanted::target_reference).collect();
            let kept = before
                .into_iter()
                .filter(|w| !taken.contains(&w.target_reference()));
            state.record.wanted = kept.chain(landed.iter().cloned()).collect();
            if let Some(resolved) = resolved {
                let landed = landed.iter().map(|w| w.unit.as_str());
                let before = &mut state.record.templates;
                take_templates(before, landed, &resolved.desired.templates);
            }
        });
        self.save_set(set);
    }

    /// Remembers that the mirror and the documents stand for a plan, and for what it meant.
    pub(super) fn note_applied(&self, plan: &PlanRecord, resolved: Option<&Resolved>) {
        let set = &plan.plan.set;
        let resolved = resolved.filter(|r| r.document == plan.document);
        self.with_set(set, |state| {
            // A later revision that says the same stands for it too.
            let revision = match state.document.as_ref() == Some(&plan.document) {
                true => state.observed.clone(),
                false => plan.plan.revision.clone(),
            };
            state.record.applied_document = Some(plan.document.clone());
            state.record.applied_revision = Some(revision);
            state.record.pins = pins_after(&state.record.pins, plan);
            state.record.unwanted = plan.plan.unwanted.clone();
            if let Some(resolved) = resolved {
                let kept = keep_stalled(&state.record.wanted, &resolved.desired.images, plan);
                let now = resolved.desired.images.iter().cloned();
                state.record.wanted = now.chain(kept).collect();
                state
                    .record
                    .templates
                    .clone_from(&resolved.desired.templates);
            }
            state.setbacks = 0;
            if state
                .last_run
                .as_ref()
                .is_some_and(|run| run.plan != plan.plan.id)
            {
                state.last_run = None;
            }
        });
        self.save_set(set);
    }
}

/// What tags and channels mean to a plan that was applied. One that could not be read keeps the meaning it had, so that where
/// it moved meanwhile is told once it can be read again.
pub(super) fn pins_after(
    before: &BTreeMap<String, String>,
    plan: &PlanRecord,
) -> BTreeMap<String, String> {
    let mut pins = plan.pins.clone();
    if !plan.plan.unresolved.is_empty() {
        for (subject, meant) in before {
            pins.entry(subject.clone()).or_insert_with(|| meant.clone());
        }
    }
    pins
}

/// Takes the templates of now, by unit; what landed has the one of now or none.
fn take_templates<'a>(
    before: &mut BTreeMap<String, String>,
    landed: impl Iterator<Item = &'a str>,
    now: &BTreeMap<String, String>,
) {
    for unit in landed {
        before.remove(unit);
    }
    let now = now.iter();
    before.extend(now.map(|(unit, text)| (unit.clone(), text.clone())));
}

/// Of what was wanted before, what an entry stands for that cannot be resolved now: it stays wanted.
pub(super) fn keep_stalled(before: &[Wanted], now: &[Wanted], plan: &PlanRecord) -> Vec<Wanted> {
    let now: HashSet<(&Repository, &Tag)> = now.iter().map(|w| (&w.target, &w.tag)).collect();
    let gone: HashSet<&Reference> = plan.plan.unwanted.iter().map(|u| &u.target).collect();
    before
        .iter()
        .filter(|w| !now.contains(&(&w.target, &w.tag)) && !gone.contains(&w.target_reference()))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_was_taken_away_goes_when_its_catalog_lands() {
        let templates = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            let all = all.iter();
            all.map(|(unit, text)| (unit.to_string(), text.to_string()))
                .collect()
        };
        let mut kept = templates(&[("landed", "old"), ("changed", "old"), ("stalled", "old")]);
        let now = templates(&[("changed", "new")]);
        take_templates(&mut kept, ["landed", "changed"].into_iter(), &now);
        assert_eq!(kept, templates(&[("changed", "new"), ("stalled", "old")]));
    }
}

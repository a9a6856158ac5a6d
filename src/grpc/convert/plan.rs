//! Plans, their steps, and what they do to documents and nodes.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    grpc::{
        convert::{MOST, found::problem, time},
        v1,
    },
    model::{
        accessory::{self, Accessory},
        catalog::changes::{HeadChange, Pulled},
        desired::{self, Unresolved},
        facts::Cause,
        plan::{Moved, Step},
        record::{self, Freshness, Pending, PlanRecord},
        release::select::ConditionalStep,
    },
    reconcile::{PlanView, Planned},
};

/// Returns the answer to a request for plans.
pub fn planned(planned: &Planned) -> v1::CreatePlanResponse {
    let unplanned = planned.unplanned.iter().map(|unplanned| v1::Unplanned {
        image_set: unplanned.set.to_string(),
        reason: unplanned.reason.to_owned(),
        message: unplanned.message.clone(),
    });
    v1::CreatePlanResponse {
        plans: planned.plans.iter().map(plan).collect(),
        unplanned: unplanned.collect(),
        problems: planned.problems.iter().map(problem).collect(),
    }
}

/// Returns a plan whole, but for its steps.
pub fn plan(view: &PlanView) -> v1::Plan {
    let PlanRecord {
        plan,
        documents,
        impact,
        ..
    } = &*view.record;
    v1::Plan {
        unwanted: plan
            .unwanted
            .iter()
            .take(MOST)
            .map(|unwanted| unwanted.target.to_string())
            .collect(),
        moved: plan.moved.iter().map(moved).collect(),
        catalog_heads: plan.heads.iter().take(MOST).map(catalog_head).collect(),
        required_bundles: plan.pulled.iter().take(MOST).map(required).collect(),
        unresolved: plan.unresolved.iter().take(MOST).map(unresolved).collect(),
        conditional_updates: plan.conditional.iter().map(conditional).collect(),
        documents: documents.iter().map(document_change).collect(),
        node_impact: Some(node_impact(impact)),
        warnings: plan.warnings.clone(),
        unsupported: plan
            .unsupported
            .iter()
            .map(|(stanza, message)| v1::Unsupported {
                stanza: stanza.clone(),
                message: message.clone(),
            })
            .collect(),
        ..plan_summary(view)
    }
}

/// Returns what a list of plans says of one: its counts.
pub fn plan_summary(view: &PlanView) -> v1::Plan {
    let PlanRecord {
        plan,
        created,
        pending,
        run,
        ..
    } = &*view.record;
    let (freshness, stale_reason) = freshness(&view.freshness);
    let steps = plan.steps.len() as u64;
    v1::Plan {
        id: plan.id.to_string(),
        image_set: plan.set.to_string(),
        revision: plan.revision.clone(),
        lineage: plan.base.lineage.clone(),
        serial: plan.base.serial,
        created_at: Some(time(*created)),
        freshness: freshness.into(),
        stale_reason,
        pending_reason: self::pending(*pending).into(),
        run_id: run.clone().unwrap_or_default(),
        wanted_count: plan.wanted as u64,
        unchanged_count: plan.held as u64,
        step_count: steps,
        bytes: plan.bytes(),
        bytes_present: plan.bytes_kept(),
        unwanted_count: plan.unwanted.len() as u64,
        unresolved_count: plan.unresolved.len() as u64,
        catalog_head_count: plan.heads.len() as u64,
        required_bundle_count: plan.pulled.len() as u64,
        release_signatures_ignored: plan.signatures_ignored,
        kinds: kinds(&plan.steps),
        attached_step_count: plan.steps.iter().filter(|s| s.image_held).count() as u64,
        attached: attached_counts(&plan.steps),
        ..v1::Plan::default()
    }
}

fn catalog_head(change: &HeadChange) -> v1::CatalogHead {
    v1::CatalogHead {
        catalog: change.catalog.clone(),
        package: change.package.clone(),
        channel: change.channel.clone(),
        from: change.from.clone(),
        to: change.to.clone(),
    }
}

fn required(pulled: &Pulled) -> v1::RequiredBundle {
    v1::RequiredBundle {
        catalog: pulled.catalog.clone(),
        package: pulled.package.clone(),
        bundle: pulled.bundle.clone(),
        required_by: pulled.by.clone(),
        requirement: pulled.requires.clone(),
    }
}

fn freshness(freshness: &Freshness) -> (v1::Freshness, String) {
    match freshness {
        Freshness::Fresh => (v1::Freshness::Fresh, String::new()),
        Freshness::Running => (v1::Freshness::Running, String::new()),
        Freshness::Applied => (v1::Freshness::Applied, String::new()),
        Freshness::Stale(why) => (v1::Freshness::Stale, why.clone()),
    }
}

/// Returns why a plan waits.
pub(super) fn pending(pending: Pending) -> v1::PendingReason {
    match pending {
        Pending::No => v1::PendingReason::None,
        Pending::Manual => v1::PendingReason::Manual,
        Pending::MaxBytes => v1::PendingReason::MaxBytes,
        Pending::OnRefresh => v1::PendingReason::OnRefresh,
        Pending::Preview => v1::PendingReason::Preview,
        Pending::Cancelled => v1::PendingReason::Cancelled,
    }
}

fn kind(kind: desired::Kind) -> v1::ImageKind {
    match kind {
        desired::Kind::ReleaseComponent => v1::ImageKind::ReleaseComponent,
        desired::Kind::Release => v1::ImageKind::Release,
        desired::Kind::Additional => v1::ImageKind::Additional,
        desired::Kind::Bundle => v1::ImageKind::Bundle,
        desired::Kind::Catalog | desired::Kind::FilteredCatalog => v1::ImageKind::Catalog,
    }
}

fn kinds(steps: &[Step]) -> Vec<v1::KindCount> {
    let mut counts = BTreeMap::new();
    for step in steps {
        let count: &mut (u64, u64) = counts.entry(i32::from(kind(step.image.kind))).or_default();
        *count = (count.0 + 1, count.1 + step.bytes);
    }
    counts
        .into_iter()
        .map(|(kind, (step_count, bytes))| v1::KindCount {
            kind,
            step_count,
            bytes,
        })
        .collect()
}

fn moved(moved: &Moved) -> v1::Moved {
    v1::Moved {
        subject: moved.subject.clone(),
        from: moved.from.clone(),
        to: moved.to.clone(),
    }
}

fn unresolved(unresolved: &Unresolved) -> v1::Unresolved {
    v1::Unresolved {
        subject: unresolved.subject.clone(),
        reason: unresolved.reason.clone(),
        transient: unresolved.transient,
        cause: cause(unresolved.cause).into(),
    }
}

fn cause(cause: Cause) -> v1::UnresolvedCause {
    match cause {
        Cause::Unavailable => v1::UnresolvedCause::Unavailable,
        Cause::Authentication => v1::UnresolvedCause::Authentication,
        Cause::Other => v1::UnresolvedCause::Other,
    }
}

fn conditional(step: &ConditionalStep) -> v1::ConditionalUpdate {
    let risks = step.risks.iter().map(|risk| v1::Risk {
        name: risk.name.clone(),
        message: risk.message.clone(),
        url: risk.url.clone(),
    });
    v1::ConditionalUpdate {
        from: step.from.to_string(),
        to: step.to.to_string(),
        risks: risks.collect(),
    }
}

/// Returns a step with its place in the plan, from 1.
pub fn plan_step(number: usize, step: &Step) -> v1::PlanStep {
    v1::PlanStep {
        number: number as u64,
        kind: kind(step.image.kind).into(),
        source: step.image.source_reference().to_string(),
        target: step.image.target_reference().to_string(),
        digest: step.image.digest.to_string(),
        bytes: step.bytes,
        blobs: step.blobs.into(),
        unit: step.image.unit.clone(),
        attached: step.attached.iter().map(attached).collect(),
        image_mirrored: step.image_held,
    }
}

fn attached(accessory: &Accessory) -> v1::Attached {
    v1::Attached {
        kind: attached_kind(accessory.kind).into(),
        subject: accessory.subject.to_string(),
        digest: accessory.digest.to_string(),
        tag: accessory.tag().map(|t| t.to_string()).unwrap_or_default(),
    }
}

fn attached_kind(kind: accessory::Kind) -> v1::AttachedKind {
    match kind {
        accessory::Kind::Signature => v1::AttachedKind::Signature,
        accessory::Kind::Attestation => v1::AttachedKind::Attestation,
        accessory::Kind::Sbom => v1::AttachedKind::Sbom,
        accessory::Kind::Referrer => v1::AttachedKind::Referrer,
    }
}

/// Counts what is copied; two tags of one image share what belongs to it.
fn attached_counts(steps: &[Step]) -> Vec<v1::AttachedCount> {
    let all: BTreeSet<_> = steps
        .iter()
        .flat_map(|step| step.attached.iter().map(|a| (&step.image.target, a)))
        .collect();
    let mut counts = BTreeMap::<i32, u64>::new();
    for (_, accessory) in all {
        *counts
            .entry(attached_kind(accessory.kind).into())
            .or_default() += 1;
    }
    let counts = counts.into_iter();
    counts
        .map(|(kind, count)| v1::AttachedCount { kind, count })
        .collect()
}

/// Returns what becomes of a document.
pub(super) fn document_change(change: &record::DocumentChange) -> v1::DocumentChange {
    let what = match (change.before.is_empty(), change.after.is_empty()) {
        (true, false) => v1::Change::Added,
        (false, true) => v1::Change::Removed,
        _ if change.before == change.after => v1::Change::Unchanged,
        _ => v1::Change::Changed,
    };
    v1::DocumentChange {
        name: change.name.clone(),
        file_name: change.file_name.clone(),
        kind: change.kind.clone(),
        change: what.into(),
        before: change.before.clone(),
        after: change.after.clone(),
    }
}

/// What a forecast rests on: of other documents in a cluster nothing is known here.
const IMPACT_NOTE: &str = "going by these documents only; others in a cluster may change it";

/// Returns what happens to nodes.
pub(super) fn node_impact(impact: &record::NodeImpact) -> v1::NodeImpact {
    let reasons = impact.reasons.iter().map(|reason| v1::ImpactReason {
        scope: reason.scope.clone(),
        mirror: reason.mirror.clone(),
        drain: reason.drain,
        message: reason.message.clone(),
    });
    v1::NodeImpact {
        reload: impact.reload,
        drain: impact.drain,
        unknown: impact.unknown,
        reasons: reasons.collect(),
        note: IMPACT_NOTE.to_owned(),
        ..v1::NodeImpact::default()
    }
}

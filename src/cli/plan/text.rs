//! A plan as people read it.

use std::collections::BTreeMap;

use crate::{
    cli::{diff, text},
    grpc::v1::{
        AttachedCount, AttachedKind, CatalogHead, Change, DocumentChange, Freshness, ImageKind,
        NodeImpact, PendingReason, Plan, PlanStep, RequiredBundle,
    },
};

/// How many lines of a list are shown before the rest is counted.
const SHOWN: usize = 10;

/// Returns the plan as text, its id shortened to `short`, and how to apply it.
pub fn plan(plan: &Plan, short: &str) -> String {
    preview(plan, short) + "\n" + &outlook(plan, short)
}

/// Returns the plan as text, for those who apply it at once or cannot.
pub fn preview(plan: &Plan, short: &str) -> String {
    let of = match plan.pending_reason() {
        PendingReason::Preview => ", of the files given".to_owned(),
        _ => format!(" at {}", text::revision(&plan.revision)),
    };
    let mut text = format!("Plan {short} for {}{of}\n", plan.image_set);
    text += &images(plan);
    let moved = plan.moved.iter().map(|m| {
        format!(
            "{}  {} -> {}",
            m.subject,
            text::digest(&m.from),
            text::digest(&m.to)
        )
    });
    text += &section("Moved upstream", moved, plan.moved.len() as u64);
    text += &section(
        "Heads of operator channels",
        plan.catalog_heads.iter().map(head),
        plan.catalog_head_count,
    );
    text += &section(
        "Bundles that others require",
        plan.required_bundles.iter().map(required),
        plan.required_bundle_count,
    );
    let unresolved = plan
        .unresolved
        .iter()
        .map(|u| format!("{}: {}", u.subject, u.reason));
    text += &section(
        "Cannot be mirrored now; what the mirror has of it stays",
        unresolved,
        plan.unresolved_count,
    );
    let unsupported = plan.unsupported.iter().map(|u| u.message.clone());
    text += &section(
        "Not mirrored by this version",
        unsupported,
        plan.unsupported.len() as u64,
    );
    text += &section(
        "No longer wanted, kept in the mirror",
        plan.unwanted.iter().cloned(),
        plan.unwanted_count,
    );
    let conditional = plan.conditional_updates.iter().flat_map(|update| {
        update.risks.iter().map(move |risk| {
            format!(
                "{} -> {}: {}: {}",
                update.from, update.to, risk.name, risk.message
            )
        })
    });
    let risks = plan
        .conditional_updates
        .iter()
        .map(|update| update.risks.len() as u64)
        .sum();
    text += &section("Conditional updates on the path", conditional, risks);
    if !changes_nothing(plan) {
        text += &section("Documents", plan.documents.iter().map(document), u64::MAX);
        text += &nodes(plan.node_impact.as_ref());
    }
    text + &section("Know", warnings(plan).into_iter(), u64::MAX)
}

/// Returns what the head of a channel becomes in one line.
pub fn head(change: &CatalogHead) -> String {
    let CatalogHead {
        catalog,
        package,
        channel,
        from,
        to,
    } = change;
    let place = format!("{package} {channel}");
    let becomes = match (from.as_str(), to.as_str()) {
        ("", to) => format!("+ {place}: {to}"),
        (from, "") => format!("- {place}: {from}"),
        (from, to) => format!("~ {place}: {from} -> {to}"),
    };
    format!("{becomes} ({catalog})")
}

/// Returns in one line why a bundle is there that nobody asked for.
pub fn required(bundle: &RequiredBundle) -> String {
    format!(
        "{}: {} requires {}",
        bundle.bundle, bundle.required_by, bundle.requirement
    )
}

fn images(plan: &Plan) -> String {
    let mirrored = plan.unchanged_count + plan.attached_step_count;
    let copied = plan.step_count.saturating_sub(plan.attached_step_count);
    let mut text = match plan.step_count {
        0 => format!(
            "\n  Nothing to copy: {} of {} {} mirrored\n",
            plan.unchanged_count,
            text::count(plan.wanted_count, "image"),
            are(plan.wanted_count)
        ),
        _ => format!(
            "\n  {} to copy, {mirrored} of {} {} mirrored already\n",
            match copied {
                0 => "No image".to_owned(),
                copied => text::count(copied, "image"),
            },
            plan.wanted_count,
            are(plan.wanted_count)
        ),
    };
    let kinds: Vec<_> = plan
        .kinds
        .iter()
        .map(|kind| {
            vec![
                "   ".to_owned(),
                kind_name(kind.kind()).to_owned(),
                kind.step_count.to_string(),
                text::bytes(kind.bytes),
            ]
        })
        .collect();
    text += &text::table(&kinds);
    if let Some(attached) = attached(plan) {
        text += &format!("  {attached}\n");
    }
    if plan.step_count > 0 {
        text += &format!("  {} to download", text::bytes(plan.bytes));
        if plan.bytes_present > 0 {
            text += &format!(", {} fetched already", text::bytes(plan.bytes_present));
        }
        text.push('\n');
    }
    text
}

/// Says what is copied of signatures and referrers, and of what; nothing where none are.
pub fn attached(plan: &Plan) -> Option<String> {
    let counted = counted(plan.attached.iter())?;
    let mirrored = plan.attached_step_count;
    let of = text::count(mirrored, "image");
    Some(match plan.step_count.saturating_sub(mirrored) {
        0 => format!("{counted} to copy, of {of} mirrored already"),
        _ if mirrored > 0 => format!("{counted} to copy, also of {of} mirrored already"),
        _ => format!("{counted} to copy with them"),
    })
}

/// Counts signatures and referrers in words.
fn counted<'a>(counts: impl Iterator<Item = &'a AttachedCount>) -> Option<String> {
    let words: Vec<String> = counts
        .map(|count| text::count(count.count, attached_name(count.kind())))
        .collect();
    match words.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        [first @ .., last] => Some(format!("{} and {last}", first.join(", "))),
    }
}

fn attached_name(kind: AttachedKind) -> &'static str {
    match kind {
        AttachedKind::Signature => "signature",
        AttachedKind::Attestation => "attestation",
        AttachedKind::Sbom => "SBOM",
        AttachedKind::Referrer | AttachedKind::Unspecified => "referrer",
    }
}

pub(super) fn are(number: u64) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

/// Returns what people call images of a kind.
pub fn kind_name(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Unspecified => "others",
        ImageKind::Release => "releases",
        ImageKind::ReleaseComponent => "release components",
        ImageKind::Additional => "additional images",
        ImageKind::Bundle => "operator images",
        ImageKind::Catalog => "operator catalogs",
    }
}

/// Returns a titled list, or nothing where it is empty; `total` counts what the list may leave out.
fn section(title: &str, lines: impl Iterator<Item = String>, total: u64) -> String {
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return String::new();
    }
    let shown = if total == u64::MAX {
        lines.len()
    } else {
        SHOWN
    };
    let mut text = format!("\n{title}\n");
    for line in lines.iter().take(shown) {
        text += &format!("  {line}\n");
    }
    let rest = if total == u64::MAX {
        0
    } else {
        total.saturating_sub(shown as u64)
    };
    if rest > 0 {
        text += &format!("  and {rest} more\n");
    }
    text
}

fn document(change: &DocumentChange) -> String {
    let (new, gone) = diff::size(&change.before, &change.after);
    let name = format!("{} ({})", change.file_name, change.kind);
    match change.change() {
        Change::Added => format!("+ {name}: {} new", text::count(new as u64, "line")),
        Change::Removed => format!("- {name}"),
        Change::Changed => format!("~ {name}: +{new} -{gone} lines"),
        Change::Unchanged | Change::Unspecified => format!("= {name}"),
    }
}

fn nodes(impact: Option<&NodeImpact>) -> String {
    let Some(impact) = impact else {
        return String::new();
    };
    let mut lines = vec![impact_line(impact)];
    lines.extend(
        impact
            .reasons
            .iter()
            .map(|reason| format!("  {}", reason.message)),
    );
    section("Nodes", lines.into_iter(), u64::MAX)
}

/// Returns what happens to nodes in one line.
pub fn impact_line(impact: &NodeImpact) -> String {
    let what = match (impact.unknown, impact.drain, impact.reload) {
        (true, ..) if impact.refused => "refused by the cluster",
        (true, ..) => "unknown",
        _ if impact.reboot => "drained and rebooted one after another",
        (_, true, _) => "drained one after another",
        (_, _, true) => "reload their container engine, no drain",
        _ => "untouched",
    };
    match impact.note.as_str() {
        "" => what.to_owned(),
        note => format!("{what} ({note})"),
    }
}

/// Returns what a person should know, the opt-out of signatures first.
pub fn warnings(plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    if plan.release_signatures_ignored {
        warnings.push("release signatures are not verified: settings say so".to_owned());
    }
    warnings.extend(plan.warnings.iter().cloned());
    warnings
}

/// Returns what is next: the command to type, or why there is none.
fn outlook(plan: &Plan, short: &str) -> String {
    let run = &plan.run_id;
    match plan.freshness() {
        Freshness::Applied | Freshness::Fresh | Freshness::Unspecified if changes_nothing(plan) => {
            nothing_to_do(plan)
        }
        Freshness::Applied => "It has been applied.\n".to_owned(),
        Freshness::Running => {
            format!("It is being applied; to watch it:\n  imagesetd runs watch {run}\n")
        }
        _ if plan.pending_reason() == PendingReason::Preview => {
            "A preview: it is applied once these files are in the watched directory.\n".to_owned()
        }
        Freshness::Stale => format!("It is stale: {}\n", plan.stale_reason),
        Freshness::Fresh | Freshness::Unspecified => {
            format!(
                "{}To apply it:\n  imagesetd apply {short}\n",
                waits(plan.pending_reason())
            )
        }
    }
}

/// Returns why a plan has nothing to apply: all is mirrored, or what is not cannot be now.
fn nothing_to_do(plan: &Plan) -> String {
    match plan.unresolved_count {
        0 => "Nothing to do.\n".to_owned(),
        _ => "Nothing can be done now; what cannot be mirrored is tried again by itself.\n"
            .to_owned(),
    }
}

/// Whether applying the plan would change neither the mirror nor a document.
pub fn changes_nothing(plan: &Plan) -> bool {
    let same = |d: &DocumentChange| matches!(d.change(), Change::Unchanged | Change::Unspecified);
    plan.step_count == 0 && plan.documents.iter().all(same)
}

/// Returns why a plan waits for a person, with a blank after it; nothing where it does not.
pub fn waits(reason: PendingReason) -> &'static str {
    match reason {
        PendingReason::Manual => "It waits for a person: this image set is applied by hand. ",
        PendingReason::MaxBytes => {
            "It waits for a person: it downloads more than `max_bytes` allows. "
        }
        PendingReason::OnRefresh => {
            "It waits for a person: upstream moved, and `on_refresh` is `plan`. "
        }
        PendingReason::Cancelled => "It waits for a person: a run of the same was cancelled. ",
        PendingReason::Preview | PendingReason::None | PendingReason::Unspecified => "",
    }
}

/// Returns the steps as a table.
pub fn steps(steps: &[PlanStep]) -> String {
    let rows: Vec<_> = steps
        .iter()
        .map(|step| {
            vec![
                step.number.to_string(),
                text::bytes(step.bytes),
                step.source.clone(),
                "->".to_owned(),
                step.target.clone() + &step_attached(step),
            ]
        })
        .collect();
    text::table(&rows)
}

fn step_attached(step: &PlanStep) -> String {
    let mut counts = BTreeMap::<i32, u64>::new();
    for attached in &step.attached {
        *counts.entry(attached.kind).or_default() += 1;
    }
    let counts: Vec<AttachedCount> = counts
        .into_iter()
        .map(|(kind, count)| AttachedCount { kind, count })
        .collect();
    match (counted(counts.iter()), step.image_mirrored) {
        (None, _) => String::new(),
        (Some(counted), true) => format!(", only {counted}"),
        (Some(counted), false) => format!(" with {counted}"),
    }
}

/// Returns the documents' changes line by line.
pub fn documents(documents: &[DocumentChange]) -> String {
    documents
        .iter()
        .filter(|d| !matches!(d.change(), Change::Unchanged))
        .map(|document| {
            format!(
                "\n{} ({})\n{}",
                document.file_name,
                document.kind,
                diff::unified(&document.before, &document.after)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::plan::example;

    #[test]
    fn a_plan_ends_with_the_command_to_type() {
        let mut wanted = String::from(
            "Plan 4f1c9a for prod/ocp-4.13 at main@sha1:0123456789ab

  189 images to copy, 2 of 191 are mirrored already
     release components  187  17.9 GiB
     releases            1    300 MiB
     additional images   1    12.0 MiB
  190 signatures to copy with them
  18.2 GiB to download, 1.2 MiB fetched already

Moved upstream
  quay.io/a/b:1  sha256:aaaaaaaaaaaa -> sha256:bbbbbbbbbbbb

Heads of operator channels
  ~ foo stable: foo.v1.0.0 -> foo.v1.1.0 (quay.io/c/index:v1)
  + foo candidate: foo.v1.1.0 (quay.io/c/index:v1)
  - foo old: foo.v1.0.0 (quay.io/c/index:v1)

Bundles that others require
  bar.v1.9.0: foo.v1.1.0 requires bar <2.0.0

Cannot be mirrored now; what the mirror has of it stays
  quay.io/gone:1: quay.io says that it has no such tag; take it out of the image set

Not mirrored by this version
  `mirror.operators` is not mirrored: this version does not mirror operator catalogs yet

No longer wanted, kept in the mirror
",
        );
        for number in 0..10 {
            wanted += &format!("  mirror.lan:5000/old:{number}\n");
        }
        wanted += "  and 2 more

Conditional updates on the path
  4.13.0 -> 4.13.4: SlowBoot: nodes with old firmware boot slowly

Documents
  + prod-ocp-4.13/idms-release.yaml (ImageDigestMirrorSet): 2 lines new
  ~ prod-ocp-4.13/itms-additional.yaml (ImageTagMirrorSet): +1 -1 lines
  = prod-ocp-4.13/idms-additional.yaml (ImageDigestMirrorSet)

Nodes
  drained one after another (against these documents only)
    quay.io/a gains its first tag rule

Know
  release signatures are not verified: settings say so
  the mirror's disk was not looked at

It waits for a person: this image set is applied by hand. To apply it:
  imagesetd apply 4f1c9a
";
        assert_eq!(plan(&example(), "4f1c9a"), wanted);
    }

    #[test]
    fn what_belongs_to_images_is_counted_in_words() {
        let count = |kind: AttachedKind, count| AttachedCount {
            kind: kind.into(),
            count,
        };
        let said = |step_count, attached_step_count, attached: &[AttachedCount]| {
            let plan = Plan {
                wanted_count: 3,
                unchanged_count: 3 - step_count,
                step_count,
                attached_step_count,
                attached: attached.to_vec(),
                ..Plan::default()
            };
            images(&plan)
        };
        let two = [
            count(AttachedKind::Signature, 2),
            count(AttachedKind::Referrer, 1),
        ];
        assert_eq!(
            said(2, 0, &two),
            "\n  2 images to copy, 1 of 3 are mirrored already\n  2 signatures and 1 referrer to copy with them\n  0 B to download\n"
        );
        assert_eq!(
            said(2, 1, &two),
            "\n  1 image to copy, 2 of 3 are mirrored already\n  2 signatures and 1 referrer to copy, also of 1 image mirrored already\n  0 B to download\n"
        );
        assert_eq!(
            said(1, 1, &two[1..]),
            "\n  No image to copy, 3 of 3 are mirrored already\n  1 referrer to copy, of 1 image mirrored already\n  0 B to download\n"
        );
        let attached = |kind: AttachedKind| crate::grpc::v1::Attached {
            kind: kind.into(),
            ..Default::default()
        };
        let step = |image_mirrored| PlanStep {
            target: "m.lan/a:1".to_owned(),
            attached: vec![attached(AttachedKind::Sbom), attached(AttachedKind::Sbom)],
            image_mirrored,
            ..PlanStep::default()
        };
        assert!(steps(&[step(false)]).ends_with("m.lan/a:1 with 2 SBOMs\n"));
        assert!(steps(&[step(true)]).ends_with("m.lan/a:1, only 2 SBOMs\n"));
    }

    #[test]
    fn a_plan_that_changes_nothing_says_so() {
        let empty = Plan {
            image_set: "a".to_owned(),
            revision: "r".to_owned(),
            wanted_count: 3,
            unchanged_count: 3,
            freshness: Freshness::Fresh.into(),
            ..Plan::default()
        };
        assert_eq!(
            plan(&empty, "4f1c9a"),
            "Plan 4f1c9a for a at r\n\n  Nothing to copy: 3 of 3 images are mirrored\n\nNothing to do.\n"
        );
    }

    #[test]
    fn what_cannot_be_mirrored_is_never_called_applied() {
        let stuck = Plan {
            image_set: "a".to_owned(),
            revision: "r".to_owned(),
            wanted_count: 2,
            unchanged_count: 1,
            unresolved_count: 1,
            unresolved: vec![crate::grpc::v1::Unresolved {
                subject: "quay.io/gone:1".to_owned(),
                reason: "there is no such tag".to_owned(),
                transient: false,
                cause: crate::grpc::v1::UnresolvedCause::Other.into(),
            }],
            freshness: Freshness::Applied.into(),
            ..Plan::default()
        };
        assert_eq!(
            plan(&stuck, "4f1c9a"),
            "\
Plan 4f1c9a for a at r

  Nothing to copy: 1 of 2 images are mirrored

Cannot be mirrored now; what the mirror has of it stays
  quay.io/gone:1: there is no such tag

Nothing can be done now; what cannot be mirrored is tried again by itself.
"
        );
    }

    #[test]
    fn what_cannot_be_applied_gives_no_command() {
        let ends = |freshness: Freshness, stale_reason: &str| {
            let plan = Plan {
                freshness: freshness.into(),
                stale_reason: stale_reason.to_owned(),
                run_id: "77".to_owned(),
                step_count: 1,
                ..Plan::default()
            };
            outlook(&plan, "4f1c9a")
        };
        assert_eq!(ends(Freshness::Applied, ""), "It has been applied.\n");
        assert_eq!(
            ends(Freshness::Running, ""),
            "It is being applied; to watch it:\n  imagesetd runs watch 77\n"
        );
        assert_eq!(
            ends(Freshness::Stale, "the directory changed; plan again"),
            "It is stale: the directory changed; plan again\n"
        );
    }

    #[test]
    fn unknown_is_never_called_harmless() {
        let impact = NodeImpact {
            unknown: true,
            drain: true,
            reload: true,
            ..NodeImpact::default()
        };
        assert_eq!(impact_line(&impact), "unknown");
    }
}

//! A plan as the comment of a pull request.

use std::fmt::Display;

use crate::{
    cli::{diff, plan::text as plain, problems, text},
    grpc::v1::{CatalogHead, Change, CreatePlanResponse, DocumentChange, Plan, Problem, Severity},
};

/// The most characters of a document's diff: forges refuse long comments.
const LONGEST_DIFF: usize = 8000;

/// Returns the plans, what could not be planned, and what is wrong with the files.
pub(super) fn answer(answer: &CreatePlanResponse) -> String {
    let mut text = String::new();
    for problem in &answer.problems {
        text += &self::problem(problem);
    }
    for unplanned in &answer.unplanned {
        text += &format!(
            "### :x: {} cannot be planned\n\n{}\n\n",
            escape(&unplanned.image_set),
            escape(&unplanned.message)
        );
    }
    for plan in &answer.plans {
        text += &self::plan(plan);
    }
    text
}

fn problem(problem: &Problem) -> String {
    let mark = if problem.severity() == Severity::Error {
        ":x:"
    } else {
        ":warning:"
    };
    let said = match problem.hint.as_str() {
        "" => problem.message.clone(),
        hint => format!("{}; {hint}", problem.message),
    };
    format!(
        "- {mark} `{}`: {}\n",
        problems::place(problem),
        escape(&said)
    )
}

fn plan(plan: &Plan) -> String {
    let mut text = format!("### {}\n\n", escape(&plan.image_set));
    text += &match plan.step_count {
        0 => format!(
            "Nothing to copy: {} of {} {} mirrored.\n",
            plan.unchanged_count,
            text::count(plan.wanted_count, "image"),
            plain::are(plan.wanted_count)
        ),
        steps => format!(
            "**{}** to copy, **{}** to download.\n",
            text::count(steps.saturating_sub(plan.attached_step_count), "image"),
            text::bytes(plan.bytes)
        ),
    };
    if !plan.kinds.is_empty() {
        text += "\n| | images | download |\n|---|---:|---:|\n";
        for kind in &plan.kinds {
            text += &format!(
                "| {} | {} | {} |\n",
                plain::kind_name(kind.kind()),
                kind.step_count,
                text::bytes(kind.bytes)
            );
        }
    }
    if let Some(attached) = plain::attached(plan) {
        text += &format!("\n{attached}.\n");
    }
    if let Some(impact) = &plan.node_impact {
        text += &format!("\n**Nodes:** {}\n", escape(&plain::impact_line(impact)));
        text += &list(impact.reasons.iter().map(|reason| &reason.message));
    }
    text += &titled("Know", plain::warnings(plan).iter());
    text += &titled(
        "Moved upstream",
        plan.moved.iter().map(|m| {
            format!(
                "{}: {} → {}",
                m.subject,
                text::digest(&m.from),
                text::digest(&m.to)
            )
        }),
    );
    text += &titled(
        "Heads of operator channels",
        few(plan.catalog_heads.iter().map(head), plan.catalog_head_count),
    );
    text += &titled(
        "Bundles that others require",
        few(
            plan.required_bundles.iter().map(plain::required),
            plan.required_bundle_count,
        ),
    );
    text += &titled(
        "Cannot be mirrored now",
        plan.unresolved
            .iter()
            .map(|u| format!("{}: {}", u.subject, u.reason)),
    );
    text += &titled(
        "Not mirrored by this version",
        plan.unsupported.iter().map(|u| &u.message),
    );
    text += &titled(
        "Conditional updates on the path",
        plan.conditional_updates.iter().map(|u| {
            let risks = u
                .risks
                .iter()
                .map(|risk| risk.name.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            format!("{} → {}: {risks}", u.from, u.to)
        }),
    );
    if plan.unwanted_count > 0 {
        text += &format!(
            "\n{} no longer wanted; nothing is deleted.\n",
            text::count(plan.unwanted_count, "image")
        );
    }
    for document in plan
        .documents
        .iter()
        .filter(|d| d.change() != Change::Unchanged)
    {
        text += &self::document(document);
    }
    text + "\n"
}

fn titled(title: &str, items: impl Iterator<Item = impl Display>) -> String {
    match list(items) {
        items if items.is_empty() => items,
        items => format!("\n**{title}**\n{items}"),
    }
}

/// What the head of a channel becomes; signs at the beginning of a line would be lists of their own.
fn head(change: &CatalogHead) -> String {
    let becomes = match (change.from.as_str(), change.to.as_str()) {
        ("", to) => format!("{to}, new"),
        (from, "") => format!("{from}, gone"),
        (from, to) => format!("{from} → {to}"),
    };
    let CatalogHead {
        catalog,
        package,
        channel,
        ..
    } = change;
    format!("{package} {channel}: {becomes} ({catalog})")
}

/// How many lines of a list of operators there are before the rest is counted.
const FEW: usize = 30;

fn few(items: impl Iterator<Item = String>, total: u64) -> impl Iterator<Item = String> {
    let rest = total.saturating_sub(FEW as u64);
    let rest = (rest > 0).then(|| format!("and {rest} more"));
    items.take(FEW).chain(rest)
}

fn list(items: impl Iterator<Item = impl Display>) -> String {
    items
        .map(|item| format!("- {}\n", escape(&item.to_string())))
        .collect()
}

fn document(document: &DocumentChange) -> String {
    let mut diff = diff::unified(&document.before, &document.after);
    if let Some((end, _)) = diff.char_indices().nth(LONGEST_DIFF) {
        diff.truncate(end);
        diff += "\n...\n";
    }
    // A fence longer than any in the text cannot be closed by it.
    let fence = "`".repeat(longest_run(&diff, '`').max(2) + 1);
    format!(
        "\n<details><summary><code>{}</code></summary>\n\n{fence}diff\n{diff}{fence}\n\n</details>\n",
        escape(&document.file_name)
    )
}

fn longest_run(text: &str, of: char) -> usize {
    text.split(|c| c != of)
        .map(|run| run.len())
        .max()
        .unwrap_or(0)
}

/// Takes the meaning from what Markdown and HTML would read in a name or a sentence from elsewhere; `code` stays code.
fn escape(text: &str) -> String {
    let is_paired = text.matches('`').count().is_multiple_of(2);
    let mut in_code = false;
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '`' if is_paired => {
                in_code = !in_code;
                escaped.push(c);
            }
            '`' => escaped += "\\`",
            c if c.is_control() => escaped.push(' '),
            c if in_code => escaped.push(c),
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '*' | '_' | '[' | ']' | '|' | '#' => escaped.extend(['\\', c]),
            // Nobody is to be notified by a name.
            '@' => escaped += "@\u{200b}",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::plan::example, grpc::v1::Unplanned};

    #[test]
    fn a_plan_reads_as_a_comment() {
        let problem = Problem {
            severity: Severity::Warning.into(),
            file: "a.yaml".to_owned(),
            line: 3,
            column: 1,
            message: "`chanels` is unknown".to_owned(),
            hint: "did you mean `channels`?".to_owned(),
            ..Problem::default()
        };
        let unplanned = Unplanned {
            image_set: "b".to_owned(),
            reason: "ImageSetInvalid".to_owned(),
            message: "b.yaml has 1 error".to_owned(),
        };
        let answer = CreatePlanResponse {
            plans: vec![example()],
            unplanned: vec![unplanned],
            problems: vec![problem],
        };
        assert_eq!(
            self::answer(&answer),
            "\
- :warning: `a.yaml:3:1`: `chanels` is unknown; did you mean `channels`?
### :x: b cannot be planned

b.yaml has 1 error

### prod/ocp-4.13

**189 images** to copy, **18.2 GiB** to download.

| | images | download |
|---|---:|---:|
| release components | 187 | 17.9 GiB |
| releases | 1 | 300 MiB |
| additional images | 1 | 12.0 MiB |

190 signatures to copy with them.

**Nodes:** drained one after another (against these documents only)
- quay.io/a gains its first tag rule

**Know**
- release signatures are not verified: settings say so
- the mirror's disk was not looked at

**Moved upstream**
- quay.io/a/b:1: sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb

**Heads of operator channels**
- foo stable: foo.v1.0.0 → foo.v1.1.0 (quay.io/c/index:v1)
- foo candidate: foo.v1.1.0, new (quay.io/c/index:v1)
- foo old: foo.v1.0.0, gone (quay.io/c/index:v1)

**Bundles that others require**
- bar.v1.9.0: foo.v1.1.0 requires bar &lt;2.0.0

**Cannot be mirrored now**
- quay.io/gone:1: quay.io says that it has no such tag; take it out of the image set

**Not mirrored by this version**
- `mirror.operators` is not mirrored: this version does not mirror operator catalogs yet

**Conditional updates on the path**
- 4.13.0 → 4.13.4: SlowBoot

12 images no longer wanted; nothing is deleted.

<details><summary><code>prod-ocp-4.13/idms-release.yaml</code></summary>

```diff
+a
+b
```

</details>

<details><summary><code>prod-ocp-4.13/itms-additional.yaml</code></summary>

```diff
-a
+b
```

</details>

"
        );
    }

    #[test]
    fn one_image_is_and_a_problem_without_a_place_has_none() {
        let one = Plan {
            wanted_count: 1,
            unchanged_count: 1,
            ..Plan::default()
        };
        assert!(plan(&one).contains("Nothing to copy: 1 of 1 image is mirrored.\n"));
        let whole = Problem {
            file: "a.yaml".to_owned(),
            message: "it is too large".to_owned(),
            ..Problem::default()
        };
        assert_eq!(problem(&whole), "- :warning: `a.yaml`: it is too large\n");
    }

    #[test]
    fn text_from_elsewhere_stays_text() {
        assert_eq!(
            escape("<img> [x](y) @team *b*"),
            "&lt;img&gt; \\[x\\](y) @\u{200b}team \\*b\\*"
        );
        assert_eq!(
            escape("set `plain_http` in a_b"),
            "set `plain_http` in a\\_b"
        );
        assert_eq!(escape("a ` <b>"), "a \\` &lt;b&gt;");
        let hostile = DocumentChange {
            after: "```\n</details>\n".to_owned(),
            ..DocumentChange::default()
        };
        assert!(document(&hostile).contains("````diff\n+```\n+</details>\n````\n"));
    }
}

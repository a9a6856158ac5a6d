//! `imagesetd plan`: what would be copied, how much it is, and what it does to documents and nodes.

mod markdown;

pub mod text;

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::{
    cli::{
        connect::{Asking, Client, Connection},
        failure::{Exit, Failure},
        files, json,
        output::{self, Output},
        text::short,
    },
    grpc::v1::{
        CreatePlanRequest, CreatePlanResponse, GetPlanRequest, ListPlanStepsRequest,
        ListPlansRequest, Plan, PlanStep,
    },
};

/// Plans image sets: says what would be copied, how many bytes, and what that does to documents and nodes. Changes nothing.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    create: Create,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// Shows a plan that was made before
    Show(Show),
}

#[derive(Debug, Clone, Args)]
struct Create {
    /// Image set to plan; all of the watched directory where none is named
    #[arg(value_name = "SET")]
    set: Option<String>,
    /// Look tags, channels, signatures and referrers up again upstream
    #[arg(long)]
    refresh: bool,
    /// Plan these files, or all below this folder, instead of the watched directory's; such plans are shown and never applied
    #[arg(long, short, value_name = "FILE|DIR")]
    config: Vec<PathBuf>,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Args)]
struct Show {
    /// The plan's id, or the beginning of it
    id: String,
    /// Also list the steps, one for each image
    #[arg(long)]
    steps: bool,
    /// Also show how documents change, line by line
    #[arg(long)]
    documents: bool,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Text for people; its wording may change.
    #[default]
    Text,
    /// One JSON document for scripts, `{"schema":1, ...}`.
    Json,
    /// Markdown for the comment of a pull request.
    Markdown,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    match arguments.verb {
        Some(Verb::Show(show)) => self::show(show).await,
        None => create(arguments.create).await,
    }
}

async fn create(arguments: Create) -> Result<Exit, Failure> {
    let given = match arguments.config.is_empty() {
        true => Vec::new(),
        false => files::read(&arguments.config)?,
    };
    let paths: BTreeMap<String, String> = given
        .iter()
        .map(|file| (file.name.clone(), file.path.display().to_string()))
        .collect();
    let request = CreatePlanRequest {
        image_set: arguments.set.unwrap_or_default(),
        refresh: arguments.refresh,
        files: given
            .into_iter()
            .map(files::Given::sent)
            .collect::<Result<_, _>>()?,
    };
    let mut client = arguments.connection.connect().await?;
    let mut answer = client.create_plan(request).await?.into_inner();
    for problem in &mut answer.problems {
        if let Some(path) = paths.get(&problem.file) {
            problem.file.clone_from(path);
        }
    }
    match arguments.output {
        Form::Json => output::document(&json::document(&answer))?,
        Form::Markdown => output::print(&markdown::answer(&answer))?,
        Form::Text => output::print(&answer_text(&answer, &ids(&mut client).await))?,
    }
    Ok(exit_of(&answer))
}

/// Where several image sets could not be planned, the higher code counts: what may pass by itself, then credentials, then files.
fn exit_of(answer: &CreatePlanResponse) -> Exit {
    let exits = answer
        .unplanned
        .iter()
        .map(|unplanned| Exit::of_unplanned(&unplanned.reason));
    exits.max_by_key(|exit| *exit as u8).unwrap_or(Exit::Done)
}

fn answer_text(answer: &CreatePlanResponse, ids: &[String]) -> String {
    let mut parts: Vec<String> = Vec::new();
    if !answer.problems.is_empty() {
        parts.push(crate::cli::problems::text(&answer.problems));
    }
    parts.extend(answer.unplanned.iter().map(|unplanned| {
        format!(
            "{} cannot be planned: {}\n",
            unplanned.image_set, unplanned.message
        )
    }));
    parts.extend(
        answer
            .plans
            .iter()
            .map(|plan| text::plan(plan, short_of(&plan.id, ids))),
    );
    if parts.is_empty() {
        parts.push("There is no image set to plan.\n".to_owned());
    }
    parts.join("\n")
}

/// Returns the ids of all plans that are kept, to shorten one by; none where they cannot be had, which only makes ids ambiguous.
pub async fn ids(client: &mut Client) -> Vec<String> {
    let request = ListPlansRequest {
        page_size: 1000,
        ..ListPlansRequest::default()
    };
    match client.list_plans(request).await {
        Ok(answer) => answer
            .into_inner()
            .plans
            .into_iter()
            .map(|plan| plan.id)
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Returns the beginning of a plan's id that fits no other.
pub fn short_of<'a>(id: &'a str, ids: &[String]) -> &'a str {
    short(id, ids.iter().map(String::as_str))
}

async fn show(arguments: Show) -> Result<Exit, Failure> {
    let mut client = arguments.asking.connection.connect().await?;
    let plan = get(&mut client, &arguments.id).await?;
    let steps = match arguments.steps {
        true => Some(all_steps(&mut client, &plan.id).await?),
        false => None,
    };
    let text = match arguments.asking.output {
        Output::Json => String::new(),
        Output::Text => {
            let ids = ids(&mut client).await;
            show_text(
                &plan,
                short_of(&plan.id, &ids),
                steps.as_deref(),
                arguments.documents,
            )
        }
    };
    arguments
        .asking
        .output
        .value(&show_value(&plan, steps.as_deref()), || text)?;
    Ok(Exit::Done)
}

/// Asks for a plan by its id or the beginning of it.
pub async fn get(client: &mut Client, id: &str) -> Result<Plan, Failure> {
    let answer = client
        .get_plan(GetPlanRequest { id: id.to_owned() })
        .await?;
    answer.into_inner().plan.ok_or_else(|| {
        Failure::new(
            "INTERNAL",
            tonic::Code::Internal,
            "the daemon answered without a plan",
        )
    })
}

async fn all_steps(client: &mut Client, id: &str) -> Result<Vec<PlanStep>, Failure> {
    let mut steps = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListPlanStepsRequest {
            plan_id: id.to_owned(),
            page_size: 10_000,
            page_token,
        };
        let page = client.list_plan_steps(request).await?.into_inner();
        steps.extend(page.steps);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(steps);
        }
    }
}

fn show_value(plan: &Plan, steps: Option<&[PlanStep]>) -> Value {
    let mut fields = serde_json::Map::new();
    fields.insert("plan".to_owned(), Value::Object(json::fields(plan)));
    if let Some(steps) = steps {
        let steps: Vec<Value> = steps
            .iter()
            .map(|step| Value::Object(json::fields(step)))
            .collect();
        fields.insert("steps".to_owned(), json!(steps));
    }
    json::enveloped(fields)
}

fn show_text(plan: &Plan, short: &str, steps: Option<&[PlanStep]>, documents: bool) -> String {
    let mut parts = vec![text::plan(plan, short)];
    parts.extend(steps.map(|steps| format!("\n{}", text::steps(steps))));
    parts.extend(documents.then(|| text::documents(&plan.documents)));
    parts.concat()
}

/// A plan with something in every field.
#[cfg(test)]
fn example() -> Plan {
    use crate::grpc::v1::*;
    let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let kind = |kind: ImageKind, step_count, bytes| KindCount {
        kind: kind.into(),
        step_count,
        bytes,
    };
    let document =
        |file: &str, kind: &str, change: Change, before: &str, after: &str| DocumentChange {
            name: file.to_owned(),
            file_name: format!("prod-ocp-4.13/{file}.yaml"),
            kind: kind.to_owned(),
            change: change.into(),
            before: before.to_owned(),
            after: after.to_owned(),
        };
    Plan {
        cluster_impacts: Vec::new(),
        held_documents: Vec::new(),
        id: "4f1c9a7788".to_owned(),
        image_set: "prod/ocp-4.13".to_owned(),
        revision: "main@sha1:0123456789abcdef0123456789abcdef01234567".to_owned(),
        lineage: "l".to_owned(),
        serial: 7,
        created_at: Some(prost_types::Timestamp { seconds: 1_795_489_248, nanos: 0 }),
        freshness: Freshness::Fresh.into(),
        stale_reason: String::new(),
        pending_reason: PendingReason::Manual.into(),
        run_id: String::new(),
        wanted_count: 191,
        unchanged_count: 2,
        step_count: 189,
        bytes: 19_542_101_196,
        bytes_present: 1_258_291,
        unwanted_count: 12,
        unwanted: (0..12).map(|number| format!("mirror.lan:5000/old:{number}")).collect(),
        moved: vec![Moved { subject: "quay.io/a/b:1".to_owned(), from: digest("a"), to: digest("b") }],
        unresolved_count: 1,
        unresolved: vec![Unresolved {
            subject: "quay.io/gone:1".to_owned(),
            reason: "quay.io says that it has no such tag; take it out of the image set".to_owned(),
            transient: false,
            cause: crate::grpc::v1::UnresolvedCause::Other.into(),
        }],
        conditional_updates: vec![ConditionalUpdate {
            from: "4.13.0".to_owned(),
            to: "4.13.4".to_owned(),
            risks: vec![Risk { name: "SlowBoot".to_owned(), message: "nodes with old firmware boot slowly".to_owned(), url: String::new() }],
        }],
        documents: vec![
            document("idms-release", "ImageDigestMirrorSet", Change::Added, "", "a\nb\n"),
            document("itms-additional", "ImageTagMirrorSet", Change::Changed, "a\n", "b\n"),
            document("idms-additional", "ImageDigestMirrorSet", Change::Unchanged, "a\n", "a\n"),
        ],
        node_impact: Some(NodeImpact {
            reload: true,
            drain: true,
            unknown: false,
            reasons: vec![ImpactReason { scope: "quay.io/a".to_owned(), mirror: String::new(), drain: true, message: "quay.io/a gains its first tag rule".to_owned() }],
            note: "against these documents only".to_owned(),
            ..NodeImpact::default()
        }),
        release_signatures_ignored: true,
        warnings: vec!["the mirror's disk was not looked at".to_owned()],
        unsupported: vec![Unsupported {
            stanza: "mirror.operators".to_owned(),
            message: "`mirror.operators` is not mirrored: this version does not mirror operator catalogs yet".to_owned(),
        }],
        kinds: vec![
            kind(ImageKind::ReleaseComponent, 187, 19_220_201_472),
            kind(ImageKind::Release, 1, 314_572_800),
            kind(ImageKind::Additional, 1, 12_582_912),
        ],
        catalog_head_count: 3,
        catalog_heads: ["foo.v1.0.0>foo.v1.1.0", ">foo.v1.1.0", "foo.v1.0.0>"]
            .iter()
            .zip(["stable", "candidate", "old"])
            .map(|(change, channel)| {
                let (from, to) = change.split_once('>').unwrap();
                CatalogHead {
                    catalog: "quay.io/c/index:v1".to_owned(),
                    package: "foo".to_owned(),
                    channel: channel.to_owned(),
                    from: from.to_owned(),
                    to: to.to_owned(),
                }
            })
            .collect(),
        required_bundle_count: 1,
        required_bundles: vec![RequiredBundle {
            catalog: "quay.io/c/index:v1".to_owned(),
            package: "bar".to_owned(),
            bundle: "bar.v1.9.0".to_owned(),
            required_by: "foo.v1.1.0".to_owned(),
            requirement: "bar <2.0.0".to_owned(),
        }],
        attached_step_count: 0,
        attached: vec![AttachedCount { kind: AttachedKind::Signature.into(), count: 190 }],
    }
}

//! `imagesetd adopt`: takes over from another tool.

use std::path::PathBuf;

use crate::{
    cli::{
        connect::Asking,
        failure::{Exit, Failure},
        files,
        plan::text::impact_line,
        text,
    },
    grpc::v1::{AdoptResourcesRequest, AdoptResourcesResponse},
    model::policy::Target,
};

/// Takes over from oc-mirror or `oc adm release mirror`: the documents in use and the content in the mirror.
///
/// The rules that the cluster has become rules of an image set, and are published with its documents; what lies in the mirror under
/// other names is taken over within the registry when the image set is applied.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Image set that takes over; may be left out where there is exactly one
    #[arg(value_name = "SET")]
    set: Option<String>,
    /// Folder with the documents that the cluster has: oc-mirror's cluster-resources, or what `oc get -o yaml` prints
    #[arg(long, value_name = "DIR", required = true)]
    cluster_resources: Vec<PathBuf>,
    /// Repository of the mirror, or place with repositories below it, where content lies that the documents do not lead to
    #[arg(long, value_name = "HOST[:PORT]/PATH")]
    to: Option<Target>,
    /// Only say what would be taken over
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let files = files::read(&arguments.cluster_resources)?;
    let files = files.into_iter().map(files::Given::sent);
    let request = AdoptResourcesRequest {
        image_set: arguments.set.unwrap_or_default(),
        files: files.collect::<Result<_, Failure>>()?,
        place: arguments
            .to
            .map(|place| place.to_string())
            .unwrap_or_default(),
        dry_run: arguments.dry_run,
    };
    let mut client = arguments.asking.connection.connect().await?;
    let answer = client.adopt_resources(request).await?.into_inner();
    let dry_run = arguments.dry_run;
    arguments
        .asking
        .output
        .answer(&answer, |answer| answer_text(answer, dry_run))?;
    Ok(Exit::Done)
}

fn answer_text(answer: &AdoptResourcesResponse, dry_run: bool) -> String {
    let (would, done) = match dry_run {
        true => ("would take", "would be"),
        false => ("takes", "is"),
    };
    let mut text = format!(
        "{} {would} over {} in use\n",
        answer.image_set,
        text::count(answer.rules, "rule")
    );
    let changed = answer.documents.iter().filter(|d| d.before != d.after);
    for document in changed {
        text += &format!("  {} {done} written\n", document.file_name);
    }
    let left = answer
        .images_wanted
        .saturating_sub(answer.images_held + answer.images_elsewhere);
    text += &format!(
        "Of {} wanted the mirror holds {} in place and {} elsewhere; it lacks {left}\n",
        text::count(answer.images_wanted, "image"),
        answer.images_held,
        answer.images_elsewhere
    );
    if !dry_run || answer.images_elsewhere == 0 {
        text += &format!("To download: {}\n", text::bytes(answer.bytes));
    }
    if let Some(impact) = &answer.node_impact {
        let drains = match (impact.unknown, impact.drain) {
            (false, false) => "0 drains; ",
            _ => "",
        };
        text += &format!(
            "Nodes, once they have our documents instead: {drains}{}\n",
            impact_line(impact)
        );
        for reason in &impact.reasons {
            text += &format!("  {}\n", reason.message);
        }
    }
    for note in &answer.notes {
        text += &format!("note: {note}\n");
    }
    text
}

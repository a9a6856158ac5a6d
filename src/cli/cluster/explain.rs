//! `imagesetd cluster explain`: what a node tries for an image.

use std::path::PathBuf;

use crate::{
    cli::{
        cluster::inputs,
        connect::Asking,
        failure::{Exit, Failure},
    },
    cluster::node::Node,
    grpc::{
        convert::explained,
        v1::{ExplainImageRequest, ExplainImageResponse, PullSource},
    },
    model::image::Reference,
};

/// Says what a node tries for an image reference, and in which order.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Image reference, as a pod names it
    #[arg(value_name = "REFERENCE")]
    reference: String,
    /// Mirror objects: files, folders, `-` for standard input, or `live` for what the daemon has published
    #[arg(
        value_name = "FILE|DIR|live",
        required_unless_present = "registries_conf"
    )]
    paths: Vec<PathBuf>,
    /// registries.conf of a node, instead of mirror objects
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    registries_conf: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let reference: Reference = arguments
        .reference
        .parse()
        .map_err(|error| Failure::usage(format!("{error}")))?;
    let answer = match (&arguments.registries_conf, &arguments.paths) {
        (None, paths) if inputs::is_live(paths) => {
            let mut client = arguments.asking.connection.connect().await?;
            let request = ExplainImageRequest {
                reference: reference.to_string(),
            };
            client.explain_image(request).await?.into_inner()
        }
        (Some(path), _) => explain(&inputs::conf(path)?, &reference),
        (None, paths) => explain(&inputs::rendered(&inputs::objects(paths)?)?, &reference),
    };
    arguments.asking.output.answer(&answer, answer_text)?;
    Ok(inputs::exit(!fails(&answer)))
}

fn explain(node: &Node, reference: &Reference) -> ExplainImageResponse {
    explained(reference, &node.resolve(reference), &[])
}

/// Whether nothing is tried at all.
fn fails(answer: &ExplainImageResponse) -> bool {
    answer.sources.iter().all(|s| !s.refused_by.is_empty())
}

fn answer_text(answer: &ExplainImageResponse) -> String {
    let kind = match answer.reference.contains('@') {
        true => "digest",
        false => "tag",
    };
    let mut text = match answer.matched.as_str() {
        "" => format!(
            "{} matches no rule; it is pulled from where it says\n",
            answer.reference
        ),
        matched => format!(
            "{}, by {kind}, falls under the rules for {matched}\n",
            answer.reference
        ),
    };
    for (number, source) in answer.sources.iter().enumerate() {
        text += &format!("  {}. {}\n", number + 1, source_text(source));
    }
    if !answer.invalid.is_empty() {
        text += &format!("  the pull fails at once: {}\n", answer.invalid);
    } else if answer.blocked {
        text +=
            "  the source itself is never contacted (NeverContactSource, or a blocked registry)\n";
    }
    if answer.invalid.is_empty() && fails(answer) {
        text += &format!(
            "  so nothing is tried and the pull fails: no rule serves references by {kind}\n"
        );
    }
    text
}

fn source_text(source: &PullSource) -> String {
    let mut notes = Vec::new();
    if source.mirror.is_empty() {
        notes.push("the source itself".to_owned());
    }
    if source.insecure {
        notes.push("insecure".to_owned());
    }
    match source.present {
        Some(true) => notes.push("has it".to_owned()),
        Some(false) => notes.push("does not have it".to_owned()),
        None => {}
    }
    if !source.refused_by.is_empty() {
        notes.push(format!("not tried: {} is blocked", source.refused_by));
    }
    match notes.is_empty() {
        true => source.reference.clone(),
        false => format!("{} ({})", source.reference, notes.join(", ")),
    }
}

//! `imagesetd cluster coverage`: which images of manifests get their content from a mirror.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::{
    cli::{
        cluster::inputs,
        connect::{Asking, Client},
        failure::{Exit, Failure},
        json, text,
    },
    cluster::{
        coverage::{self, Judged, Named, Standing},
        node::Node,
    },
    grpc::v1::ExplainImageRequest,
};

/// Says of the images in manifests, Helm output or a plain list whether mirror rules serve them.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Kubernetes manifests, `helm template`'s output, or a list of references: files, folders, or `-` for standard input
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    /// Mirror objects that a cluster has: file or folder; may be repeated
    #[arg(long, value_name = "FILE|DIR", required_unless_present_any = ["registries_conf", "live"])]
    rules: Vec<PathBuf>,
    /// registries.conf of a node, instead of mirror objects
    #[arg(long, value_name = "FILE", conflicts_with = "rules")]
    registries_conf: Option<PathBuf>,
    /// Go by what the daemon has published, and ask it whether the mirror has each image
    #[arg(long, conflicts_with_all = ["rules", "registries_conf"])]
    live: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let named = coverage::named(&inputs::documents(&arguments.paths)?);
    let node = match (&arguments.registries_conf, arguments.live) {
        (Some(path), _) => inputs::conf(path)?,
        (None, true) => {
            let published = inputs::published(&arguments.asking.connection).await?;
            inputs::rendered(&published)?
        }
        (None, false) => inputs::rendered(&inputs::objects(&arguments.rules)?)?,
    };
    let mut found = judged(&node, named);
    if arguments.live {
        let mut client = arguments.asking.connection.connect().await?;
        for (named, judged) in &mut found {
            *judged = looked_for(&mut client, named, judged.clone()).await?;
        }
    }
    let good = found.iter().all(|(_, judged)| judged.standing.is_good());
    arguments
        .asking
        .output
        .value(&document(good, &found), || answer_text(&found))?;
    Ok(inputs::exit(good))
}

fn judged(node: &Node, named: Vec<Named>) -> Vec<(Named, Judged)> {
    let judge = |named: Named| {
        let judged = coverage::judge(node, &named.text);
        (named, judged)
    };
    named.into_iter().map(judge).collect()
}

/// Asks the daemon whether the mirror has an image that rules serve.
async fn looked_for(client: &mut Client, named: &Named, judged: Judged) -> Result<Judged, Failure> {
    if !judged.standing.is_good() {
        return Ok(judged);
    }
    let request = ExplainImageRequest {
        reference: named.text.clone(),
    };
    let answer = client.explain_image(request).await?.into_inner();
    let mut present = answer.sources.iter().filter_map(|source| source.present);
    let known_absent = answer.sources.iter().any(|s| s.present == Some(false));
    match known_absent && !present.any(|present| present) {
        true => Ok(coverage::absent(judged, &named.text)),
        false => Ok(judged),
    }
}

fn document(good: bool, found: &[(Named, Judged)]) -> Value {
    let image = |(named, judged): &(Named, Judged)| {
        json!({
            "reference": named.text, "file": named.file, "line": named.line,
            "status": judged.standing.as_str(), "matched": judged.matched,
            "mirror": judged.mirror, "remedy": judged.remedy,
        })
    };
    let mut fields = Map::new();
    fields.insert("covered".into(), json!(good));
    fields.insert("images".into(), found.iter().map(image).collect());
    json::enveloped(fields)
}

fn answer_text(found: &[(Named, Judged)]) -> String {
    let mut lines = String::new();
    for (named, judged) in found {
        let place = format!("{}:{}", named.file, named.line);
        lines += &match judged.standing {
            Standing::DigestRule => format!("{place}: {}: covered by digest\n", named.text),
            Standing::TagRule => format!("{place}: {}: covered by tag\n", named.text),
            Standing::NotCovered => format!("{place}: {}: not covered\n", named.text),
            Standing::NotInMirror => {
                format!("{place}: {}: covered, but not in the mirror\n", named.text)
            }
            Standing::Unclear => format!("{place}: {}: not a full reference\n", named.text),
        };
        if !judged.remedy.is_empty() {
            lines += &format!("    {}\n", judged.remedy);
        }
    }
    let good = found.iter().filter(|(_, j)| j.standing.is_good()).count();
    let number = text::count(found.len() as u64, "image");
    lines + &format!("{number}, {good} covered\n")
}

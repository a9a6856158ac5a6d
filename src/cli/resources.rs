//! `imagesetd resources`: the cluster documents that are published, and retiring rules of them.

use clap::{Args, Subcommand};

use crate::{
    cli::{
        connect::Asking,
        failure::{Exit, Failure},
        output::{self, Output},
        plan::text::{document, impact_line, nodes},
        text,
    },
    grpc::v1::{
        GetResourcesRequest, GetResourcesResponse, PublishResourcesRequest,
        PublishResourcesResponse, ReleaseUpdate, RetireResourcesRequest, RetireResourcesResponse,
    },
};

/// Prints the cluster documents as YAML, ready for `oc apply -f -`.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// Prints the documents as YAML, as without a verb
    Print(Which),
    /// Lists the documents
    List(Which),
    /// Writes the documents of an image set that wait since they would disturb nodes
    Publish(Publish),
    /// Takes mirror rules that no image set needs any longer out of the documents; removes nothing from the mirror
    Retire(Retire),
}

#[derive(Debug, Clone, Args)]
struct Which {
    /// Only documents of this image set
    #[arg(value_name = "SET")]
    set: Option<String>,
    /// Only documents of this kind (`ImageDigestMirrorSet`); may be repeated
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Clone, Args)]
struct Publish {
    /// Image set whose documents wait
    #[arg(value_name = "SET")]
    set: String,
    /// Only say what would be written
    #[arg(long)]
    dry_run: bool,
    /// Write without asking; needed where nobody can be asked
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Clone, Args)]
struct Retire {
    /// Image set whose rules they are, which may be one whose file went away
    #[arg(value_name = "SET")]
    set: String,
    /// Only the rule of this source; may be repeated
    #[arg(long, value_name = "SOURCE")]
    source: Vec<String>,
    /// Only say what would be retired
    #[arg(long)]
    dry_run: bool,
    /// Retire without asking; needed where nobody can be asked
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    match arguments.verb {
        None => print(arguments.which).await,
        Some(Verb::Print(which)) => print(which).await,
        Some(Verb::List(which)) => list(which).await,
        Some(Verb::Publish(what)) => publish(what).await,
        Some(Verb::Retire(what)) => retire(what).await,
    }
}

async fn get(which: &Which) -> Result<GetResourcesResponse, Failure> {
    let mut client = which.asking.connection.connect().await?;
    let request = GetResourcesRequest {
        image_set: which.set.clone().unwrap_or_default(),
        kinds: which.kind.clone(),
    };
    Ok(client.get_resources(request).await?.into_inner())
}

async fn print(which: Which) -> Result<Exit, Failure> {
    let answer = get(&which).await?;
    match which.asking.output {
        Output::Json => which.asking.output.answer(&answer, |_| String::new())?,
        Output::Text => {
            output::write(&yaml(&answer))?;
            if !answer.updates.is_empty() {
                output::say(updates_text(&answer.updates).trim_end());
            }
        }
    }
    Ok(Exit::Done)
}

async fn list(which: Which) -> Result<Exit, Failure> {
    let answer = get(&which).await?;
    which.asking.output.answer(&answer, list_text)?;
    Ok(Exit::Done)
}

/// Joins documents into one stream; each begins with `---`, so that streams of several calls can be joined too.
fn yaml(answer: &GetResourcesResponse) -> String {
    let mut text = String::new();
    for resource in &answer.resources {
        if !resource.text.starts_with("---") {
            text += "---\n";
        }
        text += &resource.text;
        if !resource.text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

fn list_text(answer: &GetResourcesResponse) -> String {
    if answer.resources.is_empty() {
        return "There are no documents: nothing has landed yet.\n".to_owned();
    }
    let head = ["IMAGE SET", "KIND", "NAME", "FILE", "RULES TO RETIRE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(answer.resources.iter().map(|r| {
        let retirable = match r.retirable.len() {
            0 => String::new(),
            number => number.to_string(),
        };
        vec![
            r.image_set.clone(),
            r.kind.clone(),
            r.name.clone(),
            r.file_name.clone(),
            retirable,
        ]
    }));
    text::table(&rows) + &updates_text(&answer.updates)
}

/// Says how a cluster gets to each release that has landed.
pub(super) fn updates_text(updates: &[ReleaseUpdate]) -> String {
    let mut text = String::new();
    for update in updates {
        let of = match update.architecture.as_str() {
            "" => update.version.clone(),
            arch => format!("{} ({arch})", update.version),
        };
        text += &format!("\nTo release {of}, once the mirror rules are applied:\n");
        for file in &update.signature_files {
            text += &format!("  oc apply -f {file}\n");
        }
        text += &format!("  {}\n", update.command);
        if update.signature_files.is_empty() {
            text += "  No signature of it is known, and without one a cluster takes it with --force only.\n";
        }
    }
    text
}

/// What is done to documents that may disturb nodes: looked at first, asked about, done.
struct Deed<A> {
    output: Output,
    dry_run: bool,
    yes: bool,
    /// What it may do, where nobody is there to be asked.
    may: &'static str,
    question: &'static str,
    done: &'static str,
    /// Whether there is anything to do.
    is_something: fn(&A) -> bool,
    /// What an answer says, with what has been done or would be.
    text: fn(&A, &str) -> String,
}

impl<A: prost::Name> Deed<A> {
    /// Does it by a request that may be a dry run.
    async fn by(
        self,
        mut request: impl AsyncFnMut(bool) -> Result<A, Failure>,
    ) -> Result<Exit, Failure> {
        let would = format!("would be {}", self.done);
        if self.dry_run {
            let answer = request(true).await?;
            self.output
                .answer(&answer, |answer| (self.text)(answer, &would))?;
            return Ok(Exit::Done);
        }
        if !self.yes {
            if !output::someone_is_there() {
                return Err(Failure::usage(format!(
                    "{} may drain nodes: say --yes, or --dry-run to only look",
                    self.may
                )));
            }
            let answer = request(true).await?;
            output::say(&(self.text)(&answer, &would));
            if !(self.is_something)(&answer) || !output::ask(self.question)? {
                return Ok(Exit::Done);
            }
        }
        let answer = request(false).await?;
        self.output
            .answer(&answer, |answer| (self.text)(answer, self.done))?;
        Ok(Exit::Done)
    }
}

async fn publish(what: Publish) -> Result<Exit, Failure> {
    let mut client = what.asking.connection.connect().await?;
    let deed = Deed {
        output: what.asking.output,
        dry_run: what.dry_run,
        yes: what.yes,
        may: "writing documents that wait",
        question: "Write?",
        done: "written",
        is_something: |answer: &PublishResourcesResponse| !answer.documents.is_empty(),
        text: publish_text,
    };
    let request = async |dry_run| {
        let request = PublishResourcesRequest {
            image_set: what.set.clone(),
            dry_run,
        };
        Ok(client.publish_resources(request).await?.into_inner())
    };
    deed.by(request).await
}

fn publish_text(answer: &PublishResourcesResponse, done: &str) -> String {
    if answer.documents.is_empty() {
        return "No document waits.\n".to_owned();
    }
    let mut text = format!(
        "{} {done}\n",
        text::count(answer.documents.len() as u64, "document")
    );
    for change in &answer.documents {
        text += &format!("  {}\n", document(change));
    }
    text + &nodes(answer.node_impact.as_ref(), &answer.cluster_impacts)
}

async fn retire(what: Retire) -> Result<Exit, Failure> {
    let mut client = what.asking.connection.connect().await?;
    let deed = Deed {
        output: what.asking.output,
        dry_run: what.dry_run,
        yes: what.yes,
        may: "retiring a rule",
        question: "Retire?",
        done: "retired",
        is_something: |answer: &RetireResourcesResponse| !answer.retired.is_empty(),
        text: retire_text,
    };
    let request = async |dry_run| {
        let request = RetireResourcesRequest {
            image_set: what.set.clone(),
            sources: what.source.clone(),
            dry_run,
        };
        Ok(client.retire_resources(request).await?.into_inner())
    };
    deed.by(request).await
}

fn retire_text(answer: &RetireResourcesResponse, done: &str) -> String {
    if answer.retired.is_empty() {
        return "There is nothing to retire: every rule is needed.\n".to_owned();
    }
    let mut text = format!(
        "{} {done}\n",
        text::count(answer.retired.len() as u64, "rule")
    );
    for rule in &answer.retired {
        text += &format!(
            "  {} -> {} ({})\n",
            rule.source,
            rule.mirrors.join(", "),
            rule.file_name
        );
    }
    if let Some(impact) = &answer.node_impact {
        text += &format!("Nodes: {}\n", impact_line(impact));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::v1::{NodeImpact, Resource, RetiredRule};

    #[test]
    fn documents_are_one_stream() {
        let resource = |text: &str| Resource {
            text: text.to_owned(),
            ..Resource::default()
        };
        let answer = GetResourcesResponse {
            resources: vec![resource("a: 1\n"), resource("---\nb: 2")],
            ..GetResourcesResponse::default()
        };
        assert_eq!(yaml(&answer), "---\na: 1\n---\nb: 2\n");
    }

    #[test]
    fn the_way_to_a_release_begins_with_its_signatures() {
        let update = |signatures: &[&str]| ReleaseUpdate {
            version: "4.13.0".to_owned(),
            architecture: "amd64".to_owned(),
            signature_files: signatures.iter().map(ToString::to_string).collect(),
            command: "oc adm upgrade --to-image m/r@sha256:1 --allow-explicit-upgrade".to_owned(),
            ..ReleaseUpdate::default()
        };
        assert_eq!(
            updates_text(&[update(&["signatures-a.yaml"])]),
            "\nTo release 4.13.0 (amd64), once the mirror rules are applied:\n  oc apply -f signatures-a.yaml\n  oc adm upgrade --to-image m/r@sha256:1 --allow-explicit-upgrade\n"
        );
        assert!(updates_text(&[update(&[])]).contains("--force"));
    }

    #[test]
    fn retiring_says_what_it_does_to_nodes() {
        let answer = RetireResourcesResponse {
            retired: vec![RetiredRule {
                file_name: "a/idms.yaml".to_owned(),
                kind: String::new(),
                source: "quay.io/a".to_owned(),
                mirrors: vec!["m/a".to_owned()],
            }],
            documents: Vec::new(),
            node_impact: Some(NodeImpact {
                reload: true,
                drain: true,
                ..NodeImpact::default()
            }),
        };
        assert_eq!(
            retire_text(&answer, "would be retired"),
            "1 rule would be retired\n  quay.io/a -> m/a (a/idms.yaml)\nNodes: drained one after another\n"
        );
    }
}

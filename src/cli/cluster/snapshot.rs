//! `imagesetd cluster snapshot`: gives the daemon a picture of a cluster.

use std::path::PathBuf;

use crate::{
    cli::{
        cluster::inputs,
        connect::Asking,
        failure::{Exit, Failure},
        files, text,
    },
    grpc::v1::{File, PutClusterSnapshotRequest, PutClusterSnapshotResponse},
};

/// Gives the daemon a picture of a cluster, so that plans say what documents do to it.
///
/// The picture is what `oc get
/// imagedigestmirrorset,imagetagmirrorset,imagecontentsourcepolicy,image.config,machineconfigpool,machineconfiguration -o yaml` prints.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The cluster, as the daemon's settings name it
    #[arg(value_name = "NAME")]
    name: String,
    /// What `oc get` printed: files, folders, or `-` for standard input
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let documents = inputs::documents(&arguments.paths)?;
    let sent = documents.into_iter().enumerate().map(|(number, file)| {
        Ok(File {
            content: files::text(file.bytes, &file.name)?,
            name: name(number, &file.name),
        })
    });
    let request = PutClusterSnapshotRequest {
        name: arguments.name.clone(),
        files: sent.collect::<Result<_, Failure>>()?,
    };
    let mut client = arguments.asking.connection.connect().await?;
    let answer = client.put_cluster_snapshot(request).await?.into_inner();
    let output = arguments.asking.output;
    output.answer(&answer, |answer| answer_text(&arguments.name, answer))?;
    Ok(Exit::Done)
}

/// The name that a mistake is told of; sent names are relative and lead nowhere.
fn name(number: usize, shown: &str) -> String {
    let last = shown.rsplit('/').next().unwrap_or_default();
    match last {
        "" | "." | ".." | "-" => format!("file-{}", number + 1),
        last => last.to_owned(),
    }
}

fn answer_text(name: &str, answer: &PutClusterSnapshotResponse) -> String {
    let mut text = format!(
        "{name}: {}, {}",
        text::count(answer.mirror_objects.into(), "mirror object"),
        text::count(answer.pools.into(), "machine config pool")
    );
    if answer.passed_by > 0 {
        let others = text::count(answer.passed_by.into(), "other object");
        text += &format!("; {others} passed by");
    }
    text.push('\n');
    if !answer.image_config {
        text += "  There is no image.config in it: insecure, blocked and allowed registries of the cluster are not known.\n";
    }
    if !answer.machine_configuration {
        text += "  There is no MachineConfiguration in it: a NodeDisruptionPolicy of the cluster is not known.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_picture_lacks_is_said() {
        let answer = PutClusterSnapshotResponse {
            mirror_objects: 1,
            pools: 2,
            image_config: true,
            machine_configuration: true,
            passed_by: 0,
        };
        assert_eq!(
            answer_text("prod-a", &answer),
            "prod-a: 1 mirror object, 2 machine config pools\n"
        );
        let bare = PutClusterSnapshotResponse {
            image_config: false,
            machine_configuration: false,
            passed_by: 1,
            ..answer
        };
        let text = answer_text("prod-a", &bare);
        assert!(text.contains("; 1 other object passed by\n"), "{text}");
        assert_eq!(text.lines().count(), 3);
        assert_eq!(
            (name(0, "-"), name(1, "a/b.yaml")),
            ("file-1".into(), "b.yaml".into())
        );
    }
}

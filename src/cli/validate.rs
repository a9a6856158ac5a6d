//! `imagesetd validate`: the check of image set files, offline, for a pull request's CI; or of those that the daemon watches.

use std::path::PathBuf;

use crate::{
    cli::{
        connect::Connection,
        failure::{Exit, Failure},
        files,
        output::Output,
        problems, text,
    },
    grpc::{
        convert::{image_set, problem},
        v1::{ValidateImageSetsRequest, ValidateImageSetsResponse},
    },
    model::imageset::{self, Severity, SourceFile},
};

/// Checks image set files without a daemon or a network: all problems of all files at once.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// ImageSetConfiguration files, or folders of them
    #[arg(value_name = "FILE|DIR", required_unless_present = "watched")]
    paths: Vec<PathBuf>,
    /// Have the daemon check the directory that it watches
    #[arg(long, conflicts_with = "paths")]
    watched: bool,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the verb.
pub async fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let answer = match arguments.watched {
        true => watched(&arguments.connection).await?,
        false => {
            let given = files::read(&arguments.paths)?;
            answer(&given.into_iter().map(SourceFile::from).collect::<Vec<_>>())
        }
    };
    arguments.output.answer(&answer, answer_text)?;
    Ok(if answer.valid {
        Exit::Done
    } else {
        Exit::Precondition
    })
}

async fn watched(connection: &Connection) -> Result<ValidateImageSetsResponse, Failure> {
    let mut client = connection.connect().await?;
    let request = ValidateImageSetsRequest::default();
    Ok(client.validate_image_sets(request).await?.into_inner())
}

fn answer(sources: &[SourceFile]) -> ValidateImageSetsResponse {
    let read = imageset::read(sources);
    ValidateImageSetsResponse {
        valid: !read
            .problems
            .iter()
            .any(|problem| problem.severity == Severity::Error),
        image_sets: read.image_sets.iter().map(image_set).collect(),
        problems: read.problems.iter().map(problem).collect(),
    }
}

fn answer_text(answer: &ValidateImageSetsResponse) -> String {
    let found = text::count(answer.image_sets.len() as u64, "image set");
    let verdict = match problems::tally(&answer.problems) {
        tally if tally.is_empty() => format!("{found}, no problems\n"),
        tally => format!("{found}, {tally}\n"),
    };
    problems::text(&answer.problems) + &verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::json, grpc::v1};
    use serde_json::json;

    fn file(text: &str) -> SourceFile {
        SourceFile {
            path: "./prod/a.yaml".to_owned(),
            name: "prod/a.yaml".to_owned(),
            bytes: text.into(),
        }
    }

    const GOOD: &str = "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  additionalImages:
  - name: quay.io/a/b:1
";

    #[test]
    fn a_good_file_is_valid() {
        assert_eq!(
            json::document(&answer(&[file(GOOD)])),
            json!({
                "schema": 1, "valid": true, "problems": [],
                "image_sets": [{"name": "prod/a", "file": "./prod/a.yaml", "valid": true}],
            })
        );
    }

    #[test]
    fn a_problem_has_its_place_and_its_remedy() {
        let answer = answer(&[file(&GOOD.replace("additionalImages", "aditionalImages"))]);
        assert!(!answer.valid);
        assert_eq!(
            answer.image_sets,
            [v1::ImageSet {
                name: "prod/a".to_owned(),
                file: "./prod/a.yaml".to_owned(),
                valid: false
            }]
        );
        let problem = &answer.problems[0];
        assert_eq!(
            (problem.file.as_str(), problem.line, problem.column),
            ("./prod/a.yaml", 4, 3)
        );
        assert!(
            problem.hint.contains("additionalImages")
                || problem.message.contains("additionalImages"),
            "{problem:?}"
        );
        assert!(
            answer_text(&answer).ends_with("1 image set, 1 error\n"),
            "{}",
            answer_text(&answer)
        );
    }
}

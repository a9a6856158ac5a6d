//! `imagesetd runs`: what is being applied and what was.

use std::time::Duration;

use clap::Subcommand;
use tokio_stream::StreamExt;

use crate::{
    cli::{
        connect::Asking,
        duration,
        failure::{Exit, Failure},
        text,
        watch::{self, View},
    },
    grpc::v1::{
        CancelRunRequest, GetRunRequest, ListRunsRequest, ListRunsResponse, Run, RunState,
        WatchRunRequest,
    },
};

/// Lists, shows, watches and cancels runs.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// Lists runs, current ones first, then newest first
    List {
        /// Only runs of this image set
        #[arg(value_name = "SET")]
        set: Option<String>,
        /// How many to list at most
        #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[command(flatten)]
        asking: Asking,
    },
    /// Shows a run with its failures
    Show {
        /// The run's id, or the beginning of it
        id: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Follows a run until it ends
    Watch {
        /// The run's id, or the beginning of it
        id: String,
        /// Stop looking after this long, with exit code 7 (`90s`, `2h`)
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        timeout: Option<Duration>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Stops a run; what has landed is kept
    Cancel {
        /// The run's id, or the beginning of it
        id: String,
        #[command(flatten)]
        asking: Asking,
    },
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    match arguments.verb {
        Verb::List { set, limit, asking } => list(set.unwrap_or_default(), limit, asking).await,
        Verb::Show { id, asking } => show(id, asking).await,
        Verb::Watch {
            id,
            timeout,
            asking,
        } => watch(id, timeout, asking).await,
        Verb::Cancel { id, asking } => cancel(id, asking).await,
    }
}

async fn list(image_set: String, page_size: u32, asking: Asking) -> Result<Exit, Failure> {
    let mut client = asking.connection.connect().await?;
    let request = ListRunsRequest {
        image_set,
        page_size,
        ..ListRunsRequest::default()
    };
    let answer = client.list_runs(request).await?.into_inner();
    asking.output.answer(&answer, list_text)?;
    Ok(Exit::Done)
}

async fn show(id: String, asking: Asking) -> Result<Exit, Failure> {
    let mut client = asking.connection.connect().await?;
    let answer = client.get_run(GetRunRequest { id }).await?.into_inner();
    asking.output.answer(&answer, watch::shown)?;
    Ok(Exit::Done)
}

async fn watch(id: String, timeout: Option<Duration>, asking: Asking) -> Result<Exit, Failure> {
    let mut client = asking.connection.connect().await?;
    let events = client.watch_run(WatchRunRequest { id }).await?.into_inner();
    let events = events.filter_map(|answer| answer.map(|answer| answer.event).transpose());
    let ending = watch::follow(events, &mut View::new(asking.output), timeout, |_| {}).await?;
    watch::conclude(&mut client, asking.output, ending).await
}

async fn cancel(id: String, asking: Asking) -> Result<Exit, Failure> {
    let mut client = asking.connection.connect().await?;
    let answer = client
        .cancel_run(CancelRunRequest { id })
        .await?
        .into_inner();
    asking.output.answer(&answer, |answer| {
        let id = answer
            .run
            .as_ref()
            .map(|run| run.id.as_str())
            .unwrap_or_default();
        format!("Run {id} is asked to stop; what has landed is kept.\n")
    })?;
    Ok(Exit::Done)
}

fn list_text(answer: &ListRunsResponse) -> String {
    if answer.runs.is_empty() {
        return "There are no runs.\n".to_owned();
    }
    let head = [
        "RUN",
        "IMAGE SET",
        "STATE",
        "STARTED",
        "TOOK",
        "IMAGES",
        "DOWNLOADED",
        "REVISION",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(answer.runs.iter().map(row));
    text::table(&rows)
}

fn row(run: &Run) -> Vec<String> {
    let progress = run.progress.unwrap_or_default();
    let images = match progress.images_failed {
        0 => format!("{}/{}", progress.images_done, progress.images_total),
        failed => format!(
            "{}/{}, {failed} failed",
            progress.images_done, progress.images_total
        ),
    };
    vec![
        run.id.clone(),
        run.image_set.clone(),
        state_word(run.state()).to_owned(),
        text::time(run.started_at.as_ref()),
        watch::took(run).map_or_else(|| "-".to_owned(), text::seconds),
        images,
        text::bytes(progress.bytes_done),
        text::revision(&run.revision),
    ]
}

/// Returns the word that a state has in lists.
pub fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Unspecified => "?",
        RunState::Running => "running",
        RunState::Succeeded => "succeeded",
        RunState::Partial => "partial",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
        RunState::Interrupted => "interrupted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::v1::Progress;

    #[test]
    fn runs_are_a_table() {
        let run = Run {
            id: "9a3c".to_owned(),
            image_set: "prod/ocp".to_owned(),
            state: RunState::Partial.into(),
            revision: "main@sha1:1d2c".to_owned(),
            started_at: Some(prost_types::Timestamp {
                seconds: 1_795_489_248,
                nanos: 0,
            }),
            progress: Some(Progress {
                images_done: 3,
                images_total: 5,
                images_failed: 2,
                bytes_done: 2048,
                ..Progress::default()
            }),
            ..Run::default()
        };
        assert_eq!(
            list_text(&ListRunsResponse {
                runs: vec![run],
                next_page_token: String::new()
            }),
            "RUN   IMAGE SET  STATE    STARTED               TOOK  IMAGES         DOWNLOADED  REVISION\n\
             9a3c  prod/ocp   partial  2026-11-24T03:00:48Z  -     3/5, 2 failed  2.0 KiB     main@sha1:1d2c\n"
        );
    }
}

//! `imagesetd events`: what happens, a line each.

use clap::ValueEnum;
use tokio_stream::StreamExt;

use crate::{
    cli::{
        connect::Connection,
        failure::{Exit, Failure},
        json, output, text,
    },
    grpc::v1::{Event, EventKind, WatchEventsRequest},
};

/// Says what stands, plans that wait and runs that go on; with `--follow` also what happens from now on.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only events of this image set
    #[arg(value_name = "SET")]
    set: Option<String>,
    /// Go on with what happens from now on, until the daemon ends or Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only events of this kind; may be repeated
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Vec<Kind>,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Text for people; its wording may change.
    #[default]
    Text,
    /// One JSON document a line, `{"schema":1, ...}`; the last may be an error.
    Ndjson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    /// The directory says something else of an image set.
    ImageSetChanged,
    /// There is a new plan with something to do.
    PlanReady,
    /// A run began.
    RunStarted,
    /// How far a run is.
    RunProgress,
    /// A run has brought everything.
    RunFinished,
    /// A run ended otherwise.
    RunFailed,
    /// The mirror lacks something that it held.
    Drift,
}

impl From<Kind> for EventKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::ImageSetChanged => EventKind::ImageSetChanged,
            Kind::PlanReady => EventKind::PlanReady,
            Kind::RunStarted => EventKind::RunStarted,
            Kind::RunProgress => EventKind::RunProgress,
            Kind::RunFinished => EventKind::RunFinished,
            Kind::RunFailed => EventKind::RunFailed,
            Kind::Drift => EventKind::Drift,
        }
    }
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let told = tell(&arguments).await;
    match (told, arguments.output) {
        // What reads lines reads the error as one too.
        (Err(failure), Form::Ndjson) => {
            output::write(&format!("{}\n", failure.document()))?;
            Ok(failure.exit())
        }
        (told, _) => told.map(|()| Exit::Done),
    }
}

async fn tell(arguments: &Arguments) -> Result<(), Failure> {
    let mut client = arguments.connection.connect().await?;
    let kinds = arguments.kind.iter().map(|kind| EventKind::from(*kind));
    let request = WatchEventsRequest {
        image_set: arguments.set.clone().unwrap_or_default(),
        kinds: kinds.map(i32::from).collect(),
        follow: arguments.follow,
    };
    let mut events = client.watch_events(request).await?.into_inner();
    while let Some(answer) = events.next().await {
        let Some(event) = answer?.event else { continue };
        match arguments.output {
            Form::Text => output::print(&line(&event))?,
            Form::Ndjson => output::write(&format!("{}\n", json::enveloped(json::fields(&event))))?,
        }
    }
    Ok(())
}

fn line(event: &Event) -> String {
    let progress = event.run.as_ref().and_then(|run| run.progress.as_ref());
    let more = match (event.kind(), progress) {
        (EventKind::RunProgress, Some(progress)) => {
            format!(" ({})", crate::cli::watch::progress_line(progress))
        }
        _ => String::new(),
    };
    format!(
        "{}  {}{more}\n",
        text::time(event.time.as_ref()),
        event.message
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::v1::{Progress, Run};

    #[test]
    fn a_line_says_when_and_what() {
        let event = Event {
            kind: EventKind::RunProgress.into(),
            time: Some(prost_types::Timestamp {
                seconds: 1_795_489_248,
                nanos: 0,
            }),
            message: "run r1 of a goes on".to_owned(),
            run: Some(Run {
                progress: Some(Progress {
                    images_done: 1,
                    images_total: 2,
                    ..Progress::default()
                }),
                ..Run::default()
            }),
            ..Event::default()
        };
        assert_eq!(
            line(&event),
            "2026-11-24T03:00:48Z  run r1 of a goes on (1 of 2 images, 0 B of 0 B)\n"
        );
    }

    #[test]
    fn every_kind_has_the_name_that_events_carry() {
        for kind in Kind::value_variants() {
            let event = Event {
                kind: EventKind::from(*kind).into(),
                ..Event::default()
            };
            let word = kind
                .to_possible_value()
                .map(|value| value.get_name().to_owned());
            assert_eq!(json::fields(&event)["kind"].as_str(), word.as_deref());
        }
    }
}

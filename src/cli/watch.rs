//! Following a run: bars on a terminal, plain lines otherwise, and how it ended.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status};

use crate::{
    cli::{
        connect::Client,
        failure::{Exit, Failure},
        output::{self, Output},
        text,
    },
    grpc::v1::{
        ConditionStatus, GetRunRequest, GetRunResponse, GetStatusRequest, ImageFinished,
        ImageOutcome, Progress, Run, RunEvent, RunState, run_event::Event,
    },
};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What ended the watching.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// The run ended.
    Finished(Run),
    /// The time ran out; the run goes on.
    TimedOut(Run),
    /// The person at the keyboard had enough; the run goes on.
    Interrupted(Run),
}

/// How a run is shown while it goes on.
pub enum View {
    /// Not at all.
    Quiet,
    /// A line now and then.
    Lines(Option<Instant>),
    /// A bar that is drawn over.
    Bar(ProgressBar),
}

impl View {
    /// Chooses by who reads: a bar where stderr is a terminal, lines where it is none, nothing where the answer is JSON.
    pub fn new(output: Output) -> Self {
        match (output, std::io::stderr().is_terminal()) {
            (Output::Json, _) => View::Quiet,
            (Output::Text, true) => View::Bar(bar()),
            (Output::Text, false) => View::Lines(None),
        }
    }

    fn progress(&mut self, progress: &Progress) {
        match self {
            View::Quiet => {}
            View::Bar(bar) => {
                bar.set_length(progress.bytes_total.max(1));
                bar.set_position(if progress.bytes_total == 0 {
                    1
                } else {
                    progress.bytes_done
                });
                bar.set_message(progress_line(progress));
            }
            View::Lines(last) => {
                if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
                    *last = Some(Instant::now());
                    output::say(&progress_line(progress));
                }
            }
        }
    }

    fn image(&self, image: &ImageFinished) {
        if image.outcome() != ImageOutcome::Failed {
            return;
        }
        let line = format!("failed: {}: {}", image.image, image.cause);
        match self {
            View::Quiet => {}
            View::Bar(bar) => bar.println(text::clean(&line)),
            View::Lines(_) => output::say(&line),
        }
    }

    fn end(&self) {
        if let View::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("[{bar:30}] {msg}").expect("the template is a constant");
    bar.set_style(style.progress_chars("=> "));
    bar
}

/// Returns how far a run is in one line.
pub fn progress_line(progress: &Progress) -> String {
    let mut parts = Vec::new();
    if let Some(percent) = (progress.bytes_done.min(progress.bytes_total) as u128 * 100)
        .checked_div(u128::from(progress.bytes_total))
    {
        parts.push(format!("{percent}%"));
    }
    parts.push(format!(
        "{} of {}",
        progress.images_done,
        text::count(progress.images_total, "image")
    ));
    if progress.images_failed > 0 {
        parts.push(format!("{} failed", progress.images_failed));
    }
    parts.push(format!(
        "{} of {}",
        text::bytes(progress.bytes_done),
        text::bytes(progress.bytes_total)
    ));
    if progress.bytes_per_second > 0 {
        parts.push(format!("{}/s", text::bytes(progress.bytes_per_second)));
    }
    if let Some(seconds) = progress.eta_seconds {
        parts.push(format!("{} to go", text::seconds(seconds)));
    }
    parts.join(", ")
}

/// Follows a run until it ends, the time runs out, or Ctrl-C; `first` is called once, with the run as it is then.
pub async fn follow(
    mut events: impl Stream<Item = Result<RunEvent, Status>> + Unpin,
    view: &mut View,
    timeout: Option<Duration>,
    first: impl FnOnce(&Run),
) -> Result<Ending, Failure> {
    let mut first = Some(first);
    let mut latest: Option<Run> = None;
    let deadline = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    // One listener for the whole time: a signal between two events must not get lost.
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(deadline, interrupt);
    let ending = loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut deadline => break timed_out(latest)?,
            Ok(()) = &mut interrupt => break interrupted(latest)?,
        };
        match event.transpose()?.map(|event| event.event) {
            None => return Err(broken_off()),
            Some(None) => {}
            Some(Some(Event::Run(run))) => {
                if let Some(first) = first.take() {
                    first(&run);
                }
                view.progress(&run.progress.unwrap_or_default());
                latest = Some(run);
            }
            Some(Some(Event::Progress(progress))) => {
                view.progress(&progress);
                if let Some(run) = &mut latest {
                    run.progress = Some(progress);
                }
            }
            Some(Some(Event::Image(image))) => view.image(&image),
            Some(Some(Event::Finished(run))) => break Ending::Finished(run),
        }
    };
    view.end();
    Ok(ending)
}

fn timed_out(latest: Option<Run>) -> Result<Ending, Failure> {
    let nothing = || {
        Failure::new(
            "TIMED_OUT",
            Code::DeadlineExceeded,
            "the time ran out before the daemon had begun the run; call again with more time",
        )
    };
    latest.map(Ending::TimedOut).ok_or_else(nothing)
}

fn interrupted(latest: Option<Run>) -> Result<Ending, Failure> {
    let nothing = || {
        Failure::new(
            "INTERRUPTED",
            Code::Cancelled,
            "interrupted before the daemon had begun the run",
        )
    };
    latest.map(Ending::Interrupted).ok_or_else(nothing)
}

fn broken_off() -> Failure {
    Failure::new(
        "CONNECTION_LOST",
        Code::Unavailable,
        "the daemon ended the talk in the middle of the run; `imagesetd runs list` says how the run is",
    )
}

/// Prints how the watching ended and returns the exit code for it.
pub async fn conclude(
    client: &mut Client,
    output: Output,
    ending: Ending,
) -> Result<Exit, Failure> {
    let (run, exit) = match ending {
        Ending::Finished(run) => {
            let exit = exit_of(run.state());
            (run, exit)
        }
        Ending::TimedOut(run) => (latest(client, run).await, Exit::TimedOut),
        Ending::Interrupted(run) => (latest(client, run).await, Exit::Interrupted),
    };
    let goes_on = matches!(exit, Exit::TimedOut | Exit::Interrupted);
    if goes_on {
        output::say(&goes_on_line(&run.id));
    }
    if !(goes_on && output == Output::Text) {
        let documents_held = documents_held(client, &run.image_set).await;
        let answer = GetRunResponse {
            run: Some(run),
            documents_held,
        };
        output.answer(&answer, shown)?;
    }
    Ok(exit)
}

/// Asks which documents of an image set wait, which a run does not tell; nothing where that fails too.
async fn documents_held(client: &mut Client, image_set: &str) -> String {
    let request = GetStatusRequest {
        image_set: image_set.to_owned(),
    };
    let status = client.get_status(request).await;
    let sets = status.map(|answer| answer.into_inner().image_sets);
    let conditions = sets.into_iter().flatten().flat_map(|set| set.conditions);
    let mut held =
        conditions.filter(|c| c.r#type == "DocumentsHeld" && c.status() == ConditionStatus::True);
    held.next().map(|c| c.message).unwrap_or_default()
}

/// Returns a run as text, and after it what waits of the documents.
pub fn shown(answer: &GetRunResponse) -> String {
    let run = answer.run.as_ref().map(ended).unwrap_or_default();
    match answer.documents_held.as_str() {
        "" => run,
        held => format!("{run}  documents: {held}\n"),
    }
}

/// Returns what a person needs to know who stops looking at a run.
pub fn goes_on_line(id: &str) -> String {
    format!(
        "The run goes on in the daemon. To look again:\n  imagesetd runs watch {id}\nTo stop it:\n  imagesetd runs cancel {id}"
    )
}

/// Asks for the run as it is now; what was last heard of it where that fails.
async fn latest(client: &mut Client, run: Run) -> Run {
    let request = GetRunRequest { id: run.id.clone() };
    match client.get_run(request).await {
        Ok(answer) => answer.into_inner().run.unwrap_or(run),
        Err(_) => run,
    }
}

/// Returns the exit code for a run that ended so.
pub fn exit_of(state: RunState) -> Exit {
    match state {
        RunState::Succeeded | RunState::Running => Exit::Done,
        RunState::Partial => Exit::Partial,
        RunState::Interrupted => Exit::Unavailable,
        RunState::Failed | RunState::Cancelled | RunState::Unspecified => Exit::Other,
    }
}

/// Returns a run as text: how it is or ended, what it moved, what failed.
pub fn ended(run: &Run) -> String {
    // What needed no run has none.
    if run.id.is_empty() {
        return format!("{}: {}\n", run.image_set, run.message);
    }
    let progress = run.progress.unwrap_or_default();
    let mut text = format!(
        "Run {} of {} {}",
        run.id,
        run.image_set,
        state_words(run.state())
    );
    if !run.message.is_empty() {
        text += &format!(": {}", run.message);
    }
    text += &format!(
        "\n  plan {} at {}\n",
        run.plan_id.get(..12).unwrap_or(&run.plan_id),
        text::revision(&run.revision)
    );
    text += &format!("  {}\n", moved(&progress));
    if let Some(took) = took(run) {
        text += &format!(
            "  {} to {}, {}\n",
            text::time(run.started_at.as_ref()),
            text::time(run.finished_at.as_ref()),
            text::seconds(took)
        );
    }
    for failure in &run.failures {
        text += &format!(
            "\n  {}\n    {} ({})\n",
            failure.image,
            failure.cause,
            text::count(failure.attempts.into(), "attempt")
        );
        if !failure.dependents.is_empty() {
            text += &format!(
                "    not complete without it: {}\n",
                failure.dependents.join(", ")
            );
        }
    }
    let rest = progress
        .images_failed
        .saturating_sub(run.failures.len() as u64);
    if rest > 0 && !run.failures.is_empty() {
        text += &format!("\n  and {} more\n", text::count(rest, "failed image"));
    }
    text
}

fn moved(progress: &Progress) -> String {
    let mut parts = vec![format!(
        "{} of {}",
        progress.images_done,
        text::count(progress.images_total, "image")
    )];
    for (number, what) in [
        (progress.images_failed, "failed"),
        (progress.images_skipped, "not started"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    parts.push(format!("{} downloaded", text::bytes(progress.bytes_done)));
    let blobs = [
        (progress.blobs_copied, "copied"),
        (progress.blobs_mounted, "mounted"),
        (progress.blobs_skipped, "in place"),
    ];
    let blobs: Vec<_> = blobs
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    if !blobs.is_empty() {
        parts.push(format!("blobs: {}", blobs.join(", ")));
    }
    parts.join(", ")
}

/// Returns the seconds that a run took; none while it goes on.
pub fn took(run: &Run) -> Option<u64> {
    let (from, to) = (run.started_at.as_ref()?, run.finished_at.as_ref()?);
    u64::try_from(to.seconds - from.seconds).ok()
}

/// Returns what a state is called in a sentence.
pub fn state_words(state: RunState) -> &'static str {
    match state {
        RunState::Unspecified => "is in a state that this client does not know",
        RunState::Running => "goes on",
        RunState::Succeeded => "succeeded",
        RunState::Partial => "is incomplete: some images failed",
        RunState::Failed => "failed",
        RunState::Cancelled => "was cancelled",
        RunState::Interrupted => "was interrupted",
    }
}

/// Returns what `--detach` says: the run, and how to look at it.
pub fn detached(output: Output, run: Run) -> Result<Exit, Failure> {
    match output {
        Output::Text => output::print(&format!(
            "Run {} of {} has begun.\n{}\n",
            run.id,
            run.image_set,
            goes_on_line(&run.id)
        ))?,
        Output::Json => {
            let answer = GetRunResponse {
                run: Some(run),
                ..GetRunResponse::default()
            };
            output.answer(&answer, |_| String::new())?;
        }
    }
    Ok(Exit::Done)
}

/// Waits for the first event of a run, which says what it is.
pub async fn first(
    mut events: impl Stream<Item = Result<RunEvent, Status>> + Unpin,
) -> Result<Ending, Failure> {
    while let Some(event) = events.next().await {
        match event?.event {
            Some(Event::Run(run)) => return Ok(Ending::Interrupted(run)),
            Some(Event::Finished(run)) => return Ok(Ending::Finished(run)),
            Some(Event::Progress(_) | Event::Image(_)) | None => {}
        }
    }
    Err(broken_off())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::v1::Failure as Failed;

    fn event(event: Event) -> Result<RunEvent, Status> {
        Ok(RunEvent { event: Some(event) })
    }

    fn run(state: RunState) -> Run {
        Run {
            id: "9a3c".to_owned(),
            image_set: "ocp".to_owned(),
            state: state.into(),
            ..Run::default()
        }
    }

    #[test]
    fn progress_is_one_line() {
        let progress = Progress {
            images_done: 85,
            images_total: 189,
            images_failed: 1,
            bytes_done: 8_697_308_774,
            bytes_total: 19_542_101_196,
            bytes_per_second: 115_343_360,
            eta_seconds: Some(92),
            ..Progress::default()
        };
        assert_eq!(
            progress_line(&progress),
            "44%, 85 of 189 images, 1 failed, 8.1 GiB of 18.2 GiB, 110 MiB/s, 1m32s to go"
        );
        assert_eq!(
            progress_line(&Progress::default()),
            "0 of 0 images, 0 B of 0 B"
        );
    }

    #[test]
    fn a_run_that_ended_tells_what_failed_and_why() {
        let run = Run {
            plan_id: "4f1c9a".to_owned(),
            revision: "main@sha1:1d2c".to_owned(),
            started_at: Some(prost_types::Timestamp {
                seconds: 1_795_489_248,
                nanos: 0,
            }),
            finished_at: Some(prost_types::Timestamp {
                seconds: 1_795_489_409,
                nanos: 0,
            }),
            progress: Some(Progress {
                images_done: 187,
                images_total: 189,
                images_failed: 2,
                bytes_done: 1024,
                blobs_copied: 3,
                blobs_mounted: 2,
                ..Progress::default()
            }),
            failures: vec![Failed {
                image: "quay.io/a:1".to_owned(),
                target: String::new(),
                cause: "quay.io answered 404".to_owned(),
                attempts: 1,
                dependents: vec!["4.13.0 amd64".to_owned()],
            }],
            ..run(RunState::Partial)
        };
        assert_eq!(
            ended(&run),
            "\
Run 9a3c of ocp is incomplete: some images failed
  plan 4f1c9a at main@sha1:1d2c
  187 of 189 images, 2 failed, 1.0 KiB downloaded, blobs: 3 copied, 2 mounted
  2026-11-24T03:00:48Z to 2026-11-24T03:03:29Z, 2m41s

  quay.io/a:1
    quay.io answered 404 (1 attempt)
    not complete without it: 4.13.0 amd64

  and 1 failed image more
"
        );
    }

    #[test]
    fn what_needed_no_run_has_none() {
        let run = Run {
            image_set: "ocp".to_owned(),
            message: "there was nothing to do".to_owned(),
            ..Run::default()
        };
        assert_eq!(ended(&run), "ocp: there was nothing to do\n");
    }

    #[tokio::test]
    async fn following_ends_with_the_run() {
        let events = tokio_stream::iter([
            event(Event::Run(run(RunState::Running))),
            event(Event::Progress(Progress::default())),
            event(Event::Finished(run(RunState::Succeeded))),
        ]);
        let mut seen = String::new();
        let ending = follow(events, &mut View::Quiet, None, |run| {
            seen.clone_from(&run.id)
        })
        .await;
        assert_eq!(ending, Ok(Ending::Finished(run(RunState::Succeeded))));
        assert_eq!(seen, "9a3c");
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_time_runs_out_the_run_goes_on() {
        let begun = tokio_stream::iter([event(Event::Run(run(RunState::Running)))]);
        let events = begun.chain(tokio_stream::pending());
        let ending = follow(
            events,
            &mut View::Quiet,
            Some(Duration::from_secs(60)),
            |_| {},
        )
        .await;
        assert_eq!(ending, Ok(Ending::TimedOut(run(RunState::Running))));
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_no_success() {
        let events = tokio_stream::iter([event(Event::Run(run(RunState::Running)))]);
        let failure = follow(events, &mut View::Quiet, None, |_| {})
            .await
            .unwrap_err();
        assert_eq!(
            (failure.reason.as_str(), failure.exit()),
            ("CONNECTION_LOST", Exit::Unavailable)
        );
    }

    #[test]
    fn exit_codes_of_runs() {
        use RunState::*;
        let exits =
            [Succeeded, Partial, Failed, Cancelled, Interrupted].map(|state| exit_of(state) as u8);
        assert_eq!(exits, [0, 6, 1, 1, 5]);
    }
}

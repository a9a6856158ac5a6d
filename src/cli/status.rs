//! `imagesetd status`: how the daemon and its image sets are, and waiting until they are ready.

use std::time::Duration;

use clap::ValueEnum;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::{
    cli::{
        connect::{Asking, Client},
        duration,
        failure::{Exit, Failure},
        output, problems, text, watch,
    },
    grpc::v1::{
        Condition, ConditionStatus, DaemonStatus, GetStatusRequest, GetStatusResponse,
        ImageSetStatus, ValidateImageSetsRequest, WatchStatusRequest,
    },
};

/// How long to wait before a daemon that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Says how the daemon and its image sets are.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only this image set
    #[arg(value_name = "SET")]
    set: Option<String>,
    /// Wait until it is so: every image set asked for is ready
    #[arg(long, value_enum, value_name = "CONDITION")]
    wait: Option<Wait>,
    /// Wait for this commit (its full hash or at least 7 digits) or this whole revision, not for an earlier one
    #[arg(long, value_name = "REVISION", requires = "wait")]
    revision: Option<String>,
    /// Give up after this long, with exit code 7 (`90s`, `2h`)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, requires = "wait")]
    timeout: Option<Duration>,
    #[command(flatten)]
    asking: Asking,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// All that is wanted is mirrored and the documents say so.
    Ready,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let (status, exit) = match arguments.wait {
        None => (get(&arguments).await?, Exit::Done),
        Some(Wait::Ready) => wait(&arguments).await?,
    };
    arguments.asking.output.answer(&status, status_text)?;
    Ok(exit)
}

async fn get(arguments: &Arguments) -> Result<GetStatusResponse, Failure> {
    let mut client = arguments.asking.connection.connect().await?;
    let image_set = arguments.set.clone().unwrap_or_default();
    Ok(client
        .get_status(GetStatusRequest { image_set })
        .await?
        .into_inner())
}

/// Waits until all is ready; a daemon that does not answer yet may answer later.
async fn wait(arguments: &Arguments) -> Result<(GetStatusResponse, Exit), Failure> {
    let mut latest = None;
    let mut told = Told::default();
    let waiting = async {
        loop {
            match follow(arguments, &mut latest, &mut told).await {
                Ok(exit) => break Ok(exit),
                Err(failure) if failure.grpc == Code::Unavailable => {
                    told.trouble(&failure);
                }
                // The first look at a new file may be still to come.
                Err(failure) if failure.reason == "IMAGE_SET_NOT_FOUND" => {
                    told.waits(arguments);
                    if has_looked_in_vain(arguments).await {
                        break Err(failure);
                    }
                    told.missing = Some(failure);
                }
                Err(failure) => break Err(failure),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    let exit = match arguments.timeout {
        None => waiting.await?,
        Some(timeout) => match tokio::time::timeout(timeout, waiting).await {
            Ok(exit) => exit?,
            Err(_) => Exit::TimedOut,
        },
    };
    if exit == Exit::TimedOut {
        output::say("The time ran out; the daemon goes on.");
    }
    let unreached = || {
        let message = format!(
            "no daemon answered at {} in time",
            arguments.asking.connection.endpoint
        );
        Failure::new("DAEMON_UNREACHABLE", Code::Unavailable, message)
    };
    match latest {
        Some(status) => Ok((status, exit)),
        None => Err(told.missing.unwrap_or_else(unreached)),
    }
}

/// What was told while waiting; each thing once.
#[derive(Default)]
struct Told {
    waits: bool,
    trouble: String,
    /// That the image set is not there yet, as the daemon last said.
    missing: Option<Failure>,
}

impl Told {
    fn waits(&mut self, arguments: &Arguments) {
        if !std::mem::replace(&mut self.waits, true) {
            output::say(&waits_for(
                arguments.set.as_deref(),
                arguments.revision.as_deref(),
            ));
        }
    }

    fn trouble(&mut self, failure: &Failure) {
        if self.trouble != failure.reason {
            self.trouble.clone_from(&failure.reason);
            output::say(&format!("waiting: {failure}"));
        }
    }
}

fn waits_for(set: Option<&str>, revision: Option<&str>) -> String {
    let who = match set {
        Some(set) => format!("image set {set}"),
        None => "every image set".to_owned(),
    };
    match revision {
        Some(revision) => format!("Waiting until {who} is ready at {revision}."),
        None => format!("Waiting until {who} is ready."),
    }
}

/// Whether the daemon has read the directory, as of the revision waited for, and the image set is not in it. It is asked to look
/// once more, so that a file that came just now is not missed.
async fn has_looked_in_vain(arguments: &Arguments) -> bool {
    let look = async {
        let mut client = arguments.asking.connection.connect().await?;
        if !read_at(&mut client, arguments.revision.as_deref()).await? {
            return Ok(false);
        }
        let all = ValidateImageSetsRequest::default();
        client.validate_image_sets(all).await?;
        let image_set = arguments.set.clone().unwrap_or_default();
        let asked = client.get_status(GetStatusRequest { image_set }).await;
        let missing = asked.is_err_and(|status| status.code() == Code::NotFound);
        Ok(missing && read_at(&mut client, arguments.revision.as_deref()).await?)
    };
    // Where it cannot be asked nothing is known.
    let looked: Result<bool, Failure> = look.await;
    looked.unwrap_or(false)
}

/// Whether the daemon has read the directory, at this revision where one is waited for.
async fn read_at(client: &mut Client, revision: Option<&str>) -> Result<bool, Failure> {
    let status = client
        .get_status(GetStatusRequest::default())
        .await?
        .into_inner();
    let seen = status.daemon.unwrap_or_default().revision;
    Ok(!seen.is_empty() && revision.is_none_or(|wanted| is_revision(&seen, wanted)))
}

async fn follow(
    arguments: &Arguments,
    latest: &mut Option<GetStatusResponse>,
    told: &mut Told,
) -> Result<Exit, Failure> {
    let mut client: Client = arguments.asking.connection.connect().await?;
    let image_set = arguments.set.clone().unwrap_or_default();
    let mut updates = client
        .watch_status(WatchStatusRequest { image_set })
        .await?
        .into_inner();
    while let Some(update) = updates.next().await.transpose()? {
        let status = GetStatusResponse {
            daemon: update.daemon,
            image_sets: update.image_sets,
        };
        let verdict = verdict(&status, arguments.revision.as_deref());
        *latest = Some(status);
        match verdict {
            Verdict::Ready => return Ok(Exit::Done),
            Verdict::Stalled => return Ok(Exit::Precondition),
            Verdict::NotYet => told.waits(arguments),
        }
    }
    Err(Failure::new(
        "CONNECTION_LOST",
        Code::Unavailable,
        "the daemon ended the talk",
    ))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ready,
    /// The revision waited for needs a person: waiting longer would not help.
    Stalled,
    NotYet,
}

/// Decides whether waiting is over. Without a revision a stalled image set may be one whose mended file was not read yet.
fn verdict(status: &GetStatusResponse, revision: Option<&str>) -> Verdict {
    let at = |revision_seen: &str| revision.is_none_or(|wanted| is_revision(revision_seen, wanted));
    let stands = |conditions: &[Condition], wanted: &str| {
        conditions
            .iter()
            .any(|c| c.r#type == wanted && c.status() == ConditionStatus::True)
    };
    let sets = &status.image_sets;
    if !sets.is_empty()
        && sets
            .iter()
            .all(|set| at(&set.observed_revision) && stands(&set.conditions, "Ready"))
    {
        return Verdict::Ready;
    }
    let given_up =
        |set: &ImageSetStatus| at(&set.observed_revision) && stands(&set.conditions, "Stalled");
    if revision.is_some() && sets.iter().any(given_up) {
        return Verdict::Stalled;
    }
    Verdict::NotYet
}

/// Whether `seen` is the revision that someone means: itself, its commit, or the beginning of the commit.
fn is_revision(seen: &str, wanted: &str) -> bool {
    let commit = seen.rsplit(':').next().unwrap_or(seen);
    seen == wanted || (wanted.len() >= 7 && commit.starts_with(wanted) && !commit.contains("+"))
}

fn status_text(status: &GetStatusResponse) -> String {
    let mut parts: Vec<String> = status.daemon.iter().map(daemon).collect();
    parts.extend(status.image_sets.iter().map(image_set));
    if status.image_sets.is_empty() {
        parts.push("There are no image sets.\n".to_owned());
    }
    parts.join("\n")
}

fn daemon(daemon: &DaemonStatus) -> String {
    let revision = match daemon.revision.as_str() {
        "" => "not read yet".to_owned(),
        revision => format!("at {}", text::revision(revision)),
    };
    format!(
        "imagesetd {} watches {}, {revision}\n{}",
        daemon.version,
        daemon.directory,
        conditions(&daemon.conditions)
    )
}

fn image_set(set: &ImageSetStatus) -> String {
    let mut text = format!("{} to {}\n", set.name, set.target);
    text += &conditions(&set.conditions);
    text += &format!(
        "  {} of {} mirrored, at {}\n",
        set.images_mirrored,
        text::count(set.images_wanted, "image"),
        revisions(set)
    );
    if let Some(progress) = &set.progress {
        text += &format!("  run {}: {}\n", set.run_id, watch::progress_line(progress));
    }
    let waits = crate::cli::plan::text::waits(set.pending_reason()).trim_end();
    if !waits.is_empty() {
        text += &format!(
            "  plan {}: {waits}\n",
            set.plan_id.get(..12).unwrap_or(&set.plan_id)
        );
    }
    if set.release_signatures_ignored {
        text += "  release signatures are not verified: settings say so\n";
    }
    for line in problems::text(&set.problems).lines() {
        text += &format!("  {line}\n");
    }
    text
}

fn revisions(set: &ImageSetStatus) -> String {
    let observed = text::revision(&set.observed_revision);
    match set.applied_revision.as_str() {
        applied if applied == set.observed_revision => observed,
        "" => format!("{observed}, of which nothing is applied whole yet"),
        applied => format!("{observed}; applied whole is {}", text::revision(applied)),
    }
}

fn conditions(conditions: &[Condition]) -> String {
    let rows: Vec<_> = conditions
        .iter()
        .enumerate()
        .map(|(number, condition)| {
            let status = match condition.status() {
                ConditionStatus::True => condition.r#type.clone(),
                ConditionStatus::False => format!("not {}", condition.r#type),
                ConditionStatus::Unknown | ConditionStatus::Unspecified => {
                    format!("{}?", condition.r#type)
                }
            };
            let since = text::time(condition.since.as_ref());
            // A cause says what the summary above it says; once is enough for a person.
            let said = conditions[..number]
                .iter()
                .any(|c| c.message == condition.message);
            vec![
                " ".to_owned(),
                status,
                since,
                condition.reason.clone(),
                if said {
                    String::new()
                } else {
                    condition.message.clone()
                },
            ]
        })
        .collect();
    text::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::v1::{PendingReason, Problem, Progress, Severity};

    fn condition(kind: &str, status: ConditionStatus, reason: &str, message: &str) -> Condition {
        Condition {
            r#type: kind.to_owned(),
            status: status.into(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            since: Some(prost_types::Timestamp {
                seconds: 1_795_489_248,
                nanos: 5,
            }),
        }
    }

    fn set(observed: &str, kind: &str) -> ImageSetStatus {
        ImageSetStatus {
            observed_revision: observed.to_owned(),
            conditions: vec![condition(kind, ConditionStatus::True, "", "")],
            ..ImageSetStatus::default()
        }
    }

    fn status(image_sets: Vec<ImageSetStatus>) -> GetStatusResponse {
        GetStatusResponse {
            daemon: None,
            image_sets,
        }
    }

    #[test]
    fn waiting_ends_when_every_set_is_ready() {
        assert_eq!(
            verdict(&status(vec![set("a", "Ready"), set("a", "Ready")]), None),
            Verdict::Ready
        );
        assert_eq!(
            verdict(
                &status(vec![set("a", "Ready"), set("a", "Reconciling")]),
                None
            ),
            Verdict::NotYet
        );
        assert_eq!(verdict(&status(vec![]), None), Verdict::NotYet);
    }

    #[test]
    fn what_is_waited_for_is_a_sentence() {
        assert_eq!(
            waits_for(None, None),
            "Waiting until every image set is ready."
        );
        assert_eq!(
            waits_for(Some("prod/ocp"), Some("0123456")),
            "Waiting until image set prod/ocp is ready at 0123456."
        );
    }

    #[test]
    fn waiting_for_a_commit_does_not_end_with_the_one_before() {
        let (old, new) = ("main@sha1:aaaaaaaaaaaa", "main@sha1:bbbbbbbbbbbb");
        assert_eq!(
            verdict(&status(vec![set(old, "Ready")]), Some("bbbbbbb")),
            Verdict::NotYet
        );
        assert_eq!(
            verdict(&status(vec![set(new, "Ready")]), Some("bbbbbbb")),
            Verdict::Ready
        );
        assert_eq!(
            verdict(&status(vec![set(new, "Ready")]), Some(new)),
            Verdict::Ready
        );
        assert_eq!(
            verdict(&status(vec![set(new, "Ready")]), Some("b")),
            Verdict::NotYet
        );
    }

    #[test]
    fn a_stalled_set_ends_the_waiting_only_for_a_known_revision() {
        let stalled = status(vec![set("main@sha1:bbbbbbbbbbbb", "Stalled")]);
        assert_eq!(verdict(&stalled, None), Verdict::NotYet);
        assert_eq!(verdict(&stalled, Some("bbbbbbb")), Verdict::Stalled);
        assert_eq!(verdict(&stalled, Some("aaaaaaa")), Verdict::NotYet);
    }

    #[test]
    fn status_reads_from_the_top() {
        let status = GetStatusResponse {
            daemon: Some(DaemonStatus {
                version: "0.1.0".to_owned(),
                directory: "/srv/imagesets".to_owned(),
                revision: "main@sha1:1d2c".to_owned(),
                conditions: vec![condition("Ready", ConditionStatus::True, "Watching", "")],
                ..DaemonStatus::default()
            }),
            image_sets: vec![ImageSetStatus {
                name: "prod/ocp".to_owned(),
                file: "prod/ocp.yaml".to_owned(),
                target: "mirror.lan:5000/ocp".to_owned(),
                observed_revision: "main@sha1:1d2c".to_owned(),
                applied_revision: "main@sha1:0a0b".to_owned(),
                conditions: vec![
                    condition("Ready", ConditionStatus::False, "Copying", "a run goes on"),
                    condition(
                        "Reconciling",
                        ConditionStatus::True,
                        "Copying",
                        "a run goes on",
                    ),
                ],
                plan_id: "4f1c9a".to_owned(),
                pending_reason: PendingReason::Manual.into(),
                run_id: "9a3c".to_owned(),
                progress: Some(Progress {
                    images_total: 3,
                    bytes_total: 100,
                    bytes_done: 50,
                    ..Progress::default()
                }),
                images_wanted: 191,
                images_mirrored: 2,
                release_signatures_ignored: true,
                problems: vec![Problem {
                    severity: Severity::Warning.into(),
                    file: "prod/ocp.yaml".to_owned(),
                    line: 2,
                    column: 1,
                    message: "m".to_owned(),
                    ..Problem::default()
                }],
                ..ImageSetStatus::default()
            }],
        };
        assert_eq!(
            status_text(&status),
            "\
imagesetd 0.1.0 watches /srv/imagesets, at main@sha1:1d2c
   Ready  2026-11-24T03:00:48Z  Watching

prod/ocp to mirror.lan:5000/ocp
   not Ready    2026-11-24T03:00:48Z  Copying  a run goes on
   Reconciling  2026-11-24T03:00:48Z  Copying
  2 of 191 images mirrored, at main@sha1:1d2c; applied whole is main@sha1:0a0b
  run 9a3c: 50%, 0 of 3 images, 50 B of 100 B
  plan 4f1c9a: It waits for a person: this image set is applied by hand.
  release signatures are not verified: settings say so
  prod/ocp.yaml:2:1: warning: m
"
        );
    }
}

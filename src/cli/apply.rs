//! `imagesetd apply`: runs a plan, or attaches to the run that does.

use std::time::Duration;

use tokio::time::Instant;
use tokio_stream::StreamExt;
use tonic::{Code, Streaming};

use crate::{
    cli::{
        connect::{Asking, Client},
        duration,
        failure::{Exit, Failure},
        output::{self, Output},
        plan,
        watch::{self, Ending, View},
    },
    grpc::v1::{
        ApplyPlanRequest, ApplyPlanResponse, Freshness, ListPlansRequest, PendingReason, Plan,
    },
};

/// Applies a plan. The run belongs to the daemon: hanging up stops nothing, calling again attaches to it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Plan's id, or the beginning of it, or an image set to plan and apply as it is now; without it the newest fresh plan is shown and asked about
    #[arg(value_name = "SET|ID")]
    what: Option<String>,
    /// Begin the run and leave it to the daemon
    #[arg(long, conflicts_with = "timeout")]
    detach: bool,
    /// Give up after this long (`90s`, `2h`): with exit code 7 the run goes on in the daemon, with 5 none had begun yet
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
    #[command(flatten)]
    asking: Asking,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let output = arguments.asking.output;
    let chosen = match &arguments.what {
        Some(_) => None,
        None => match choose(&mut arguments.asking.connection.connect().await?).await? {
            None => return Ok(Exit::Done),
            chosen => chosen,
        },
    };
    // Only now: how long a person thinks does not count.
    let deadline = arguments.timeout.map(|timeout| Instant::now() + timeout);
    let begin = begin(&arguments, chosen);
    let (mut client, events) = match deadline {
        None => begin.await?,
        Some(deadline) => tokio::time::timeout_at(deadline, begin)
            .await
            .map_err(|_| not_begun())??,
    };
    let events = events.filter_map(|answer| answer.map(|answer| answer.event).transpose());
    if arguments.detach {
        return match watch::first(events).await? {
            Ending::Finished(run) => {
                watch::conclude(&mut client, output, Ending::Finished(run)).await
            }
            Ending::TimedOut(run) | Ending::Interrupted(run) => watch::detached(output, run),
        };
    }
    let begun = |run: &crate::grpc::v1::Run| {
        if output == Output::Text {
            output::say(&format!(
                "Run {} of {} at {}",
                run.id,
                run.image_set,
                crate::cli::text::revision(&run.revision)
            ));
        }
    };
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let ending = watch::follow(events, &mut View::new(output), left, begun).await?;
    watch::conclude(&mut client, output, ending).await
}

/// Has the daemon begin, which plans first where an image set is named.
async fn begin(
    arguments: &Arguments,
    chosen: Option<String>,
) -> Result<(Client, Streaming<ApplyPlanResponse>), Failure> {
    let mut client = arguments.asking.connection.connect().await?;
    let request = match &arguments.what {
        Some(what) => named(&mut client, what).await?,
        None => ApplyPlanRequest {
            plan_id: chosen.unwrap_or_default(),
            ..ApplyPlanRequest::default()
        },
    };
    let asked = client.apply_plan(request).await.map_err(Failure::from);
    let events = asked.map_err(|failure| neither(failure, arguments.what.as_deref()))?;
    Ok((client, events.into_inner()))
}

fn not_begun() -> Failure {
    Failure::new(
        "TIMED_OUT",
        Code::DeadlineExceeded,
        "the time ran out while the daemon was planning, and no run has begun; call again with more time",
    )
}

/// Finds out whether a plan or an image set is named: what looks like an id and is none may be an image set.
async fn named(client: &mut Client, what: &str) -> Result<ApplyPlanRequest, Failure> {
    let set = ApplyPlanRequest {
        image_set: what.to_owned(),
        ..ApplyPlanRequest::default()
    };
    if !could_be_an_id(what) {
        return Ok(set);
    }
    match plan::get(client, what).await {
        Ok(plan) => Ok(ApplyPlanRequest {
            plan_id: plan.id,
            ..ApplyPlanRequest::default()
        }),
        Err(failure) if failure.grpc == Code::NotFound && !is_surely_an_id(what) => Ok(set),
        Err(failure) => Err(failure),
    }
}

/// Says of a word that could have been an id that it is not that either.
fn neither(failure: Failure, what: Option<&str>) -> Failure {
    match what {
        Some(what) if failure.reason == "IMAGE_SET_NOT_FOUND" && could_be_an_id(what) => Failure {
            message: format!(
                "there is neither a plan nor an image set {what}; `imagesetd plan` makes plans and prints their ids"
            ),
            ..failure
        },
        _ => failure,
    }
}

fn could_be_an_id(text: &str) -> bool {
    (4..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_surely_an_id(text: &str) -> bool {
    text.len() == 64
}

/// Shows the newest fresh plan and asks whether to apply it; none where the answer is no.
async fn choose(client: &mut Client) -> Result<Option<String>, Failure> {
    if !output::someone_is_there() {
        return Err(Failure::usage(
            "name a plan or an image set: `imagesetd apply SET|ID`; only on a terminal it can be asked for",
        ));
    }
    let request = ListPlansRequest {
        page_size: 1000,
        ..ListPlansRequest::default()
    };
    let plans = client.list_plans(request).await?.into_inner().plans;
    let Some(newest) = plans.iter().find(|plan| can_be_applied(plan)) else {
        return Err(Failure::precondition(
            "NO_FRESH_PLAN",
            "there is no fresh plan to apply; make one with `imagesetd plan`",
        ));
    };
    let plan = plan::get(client, &newest.id).await?;
    let ids: Vec<String> = plans.into_iter().map(|plan| plan.id).collect();
    output::say(&plan::text::plan(&plan, plan::short_of(&plan.id, &ids)));
    Ok(output::ask("Apply it?")?.then_some(plan.id))
}

fn can_be_applied(plan: &Plan) -> bool {
    plan.freshness() == Freshness::Fresh
        && plan.pending_reason() != PendingReason::Preview
        && plan.step_count > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_image_sets() {
        let looks = ["4f1c9a", "prod/ocp-4.16", "ocp", "4F1C9A", "bad", "face"];
        assert_eq!(
            looks.map(could_be_an_id),
            [true, false, false, false, false, true]
        );
    }

    #[test]
    fn neither_previews_nor_empty_plans_are_offered() {
        let fresh = Plan {
            freshness: Freshness::Fresh.into(),
            step_count: 1,
            ..Plan::default()
        };
        let stale = Plan {
            freshness: Freshness::Stale.into(),
            ..fresh.clone()
        };
        let preview = Plan {
            pending_reason: PendingReason::Preview.into(),
            ..fresh.clone()
        };
        let empty = Plan {
            step_count: 0,
            ..fresh.clone()
        };
        assert_eq!(
            [fresh, stale, preview, empty].map(|plan| can_be_applied(&plan)),
            [true, false, false, false]
        );
    }
}

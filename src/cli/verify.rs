//! `imagesetd verify`: does the mirror still hold what was mirrored?

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status};

use crate::{
    cli::{
        connect::Asking,
        failure::{Exit, Failure},
        output::{self, Output},
        text, watch,
    },
    grpc::v1::{
        Loss, LossKind, Repair, Verification, VerifyDepth, VerifyMirrorRequest,
        VerifyMirrorResponse, VerifyProgress, verify_mirror_response::Event,
    },
};

/// How often a line says how far it is.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How many losses a person is shown; scripts get more.
const MOST_SHOWN: usize = 50;

/// Asks the mirror whether it still holds, by digest, what was mirrored; with `--repair`, what is lost is copied again.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Image sets to check; everything that was mirrored without any
    #[arg(value_name = "SET")]
    sets: Vec<String>,
    /// How closely: `quick` asks for manifests and tags, `deep` for blobs too, `read` reads everything once
    #[arg(long, value_enum, default_value_t)]
    depth: Depth,
    /// Copy again what is lost, from where it came from; waits for the runs that do so
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    asking: Asking,
}

/// How closely the mirror is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Depth {
    /// Every manifest and tag is asked for.
    #[default]
    Quick,
    /// Every blob is asked for, too.
    Deep,
    /// Everything is read and compared with its digest.
    Read,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let output = arguments.asking.output;
    let depth = match arguments.depth {
        Depth::Quick => VerifyDepth::Quick,
        Depth::Deep => VerifyDepth::Deep,
        Depth::Read => VerifyDepth::Read,
    };
    let request = VerifyMirrorRequest {
        image_sets: arguments.sets.clone(),
        depth: depth.into(),
        repair: arguments.repair,
    };
    let mut client = arguments.asking.connection.connect().await?;
    let events = client.verify_mirror(request).await?.into_inner();
    let verification = follow(events, output).await?;
    output.answer(&verification, |v| answer_text(v, arguments.repair))?;
    Ok(exit(&verification))
}

/// Follows the check to its end, and says on stderr how far it is.
async fn follow(
    mut events: impl Stream<Item = Result<VerifyMirrorResponse, Status>> + Unpin,
    output: Output,
) -> Result<Verification, Failure> {
    let talks = output == Output::Text;
    // A person at a terminal wants to see that something moves.
    let mut said = match std::io::stderr().is_terminal() {
        true => None,
        false => Some(Instant::now()),
    };
    while let Some(event) = events.next().await.transpose()? {
        match event.event {
            Some(Event::Progress(progress))
                if talks && said.is_none_or(|said: Instant| said.elapsed() >= LINE_EVERY) =>
            {
                said = Some(Instant::now());
                output::say(&progress_line(&progress));
            }
            Some(Event::Repair(repair)) if talks => {
                if let Some(run) = &repair.run
                    && run.finished_at.is_none()
                {
                    output::say(&format!("Repairing {} in run {}", repair.image_set, run.id));
                }
            }
            Some(Event::Finished(verification)) => return Ok(verification),
            _ => {}
        }
    }
    Err(Failure::new(
        "CONNECTION_LOST",
        Code::Unavailable,
        "the daemon ended the talk in the middle of the check; check again",
    ))
}

fn progress_line(progress: &VerifyProgress) -> String {
    let mut line = format!("{} of {} checked", progress.checked, progress.total);
    if progress.bytes_read > 0 {
        line += &format!(", {} read", text::bytes(progress.bytes_read));
    }
    if progress.lost > 0 {
        line += &format!(", {} lost", progress.lost);
    }
    line
}

/// How the verb ends: what is lost and not repaired, or not known, is part of a failure; a repair ends as its run does.
fn exit(verification: &Verification) -> Exit {
    let progress = verification.progress.unwrap_or_default();
    let repaired = verification
        .repairs
        .iter()
        .map(|repair| repair.run.as_ref().map(|run| watch::exit_of(run.state())));
    let mended = repaired.clone().all(|exit| exit == Some(Exit::Done));
    let corrupt = verification.losses.iter().any(is_corrupt);
    let failed = repaired.flatten().find(|exit| *exit != Exit::Done);
    match (progress.lost, verification.repairs.is_empty()) {
        (0, _) if progress.unknown == 0 => Exit::Done,
        (0, _) | (_, true) => Exit::Partial,
        _ if mended && !corrupt && progress.unknown == 0 => Exit::Done,
        _ => failed.unwrap_or(Exit::Partial),
    }
}

fn answer_text(verification: &Verification, repair: bool) -> String {
    let progress = verification.progress.unwrap_or_default();
    let mut looked = text::count(verification.manifests, "manifest");
    if verification.depth() != VerifyDepth::Quick {
        looked += &format!(" and {}", text::count(verification.blobs, "blob"));
    }
    if progress.bytes_read > 0 {
        looked += &format!(" ({} read)", text::bytes(progress.bytes_read));
    }
    let known = verification.manifests + verification.blobs - progress.unknown.min(progress.total);
    let mut answer = match progress.lost {
        0 if known == 0 && progress.total > 0 => format!("Nothing is known of {looked}.\n"),
        0 if progress.unknown > 0 => format!("The mirror holds what it said of {looked}.\n"),
        0 => format!("The mirror holds {looked}: everything that was mirrored.\n"),
        lost => format!("Of {looked} the mirror lost {lost}:\n"),
    };
    for loss in verification.losses.iter().take(MOST_SHOWN) {
        answer += &loss_text(loss);
    }
    let shown = verification.losses.len().min(MOST_SHOWN) as u64;
    if progress.lost > shown {
        answer += &format!("  and {} more\n", progress.lost - shown);
    }
    if progress.unknown > 0 {
        answer += &format!(
            "Of {} the mirror did not say: {}\n",
            text::count(progress.unknown, "thing"),
            verification.unknown_reason
        );
    }
    for repair in &verification.repairs {
        answer += &repair_text(repair);
    }
    if progress.lost > 0 && verification.repairs.is_empty() {
        answer += &remedy(verification, repair);
    }
    answer
}

/// What to do; nothing where each loss says it by itself.
fn remedy(verification: &Verification, repair: bool) -> String {
    let losses = || verification.losses.iter().filter(|loss| !is_corrupt(loss));
    if losses().next().is_none() {
        return String::new();
    }
    // A look that does not see what is lost cannot mend it.
    let depth = match verification.depth() {
        VerifyDepth::Deep => " --depth deep",
        VerifyDepth::Read => " --depth read",
        _ => "",
    };
    match (repair, losses().any(|loss| !loss.images.is_empty())) {
        (true, _) => "No image set asks for it any more; it is forgotten now.\n".to_owned(),
        (_, true) => format!("`imagesetd verify{depth} --repair` copies again what is lost.\n"),
        (_, false) => format!(
            "No image set asks for it any more, so nothing copies it again; `imagesetd verify{depth} --repair` forgets it.\n"
        ),
    }
}

/// Whether the mirror has something else under a digest, which copying does not replace.
fn is_corrupt(loss: &Loss) -> bool {
    matches!(
        loss.kind(),
        LossKind::BlobCorrupt | LossKind::ManifestCorrupt
    )
}

fn loss_text(loss: &Loss) -> String {
    let needed = match loss.images.as_slice() {
        [] => "no image set asks for it any more".to_owned(),
        [one] => format!("needed by {one} ({})", loss.image_sets.join(", ")),
        [first, more @ ..] => format!(
            "needed by {first} and {} ({})",
            text::count(more.len() as u64, "other image"),
            loss.image_sets.join(", ")
        ),
    };
    format!("  {}\n    {needed}\n", loss.message)
}

fn repair_text(repair: &Repair) -> String {
    match &repair.run {
        Some(run) => watch::ended(run),
        None => format!("{} is not repaired: {}\n", repair.image_set, repair.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::v1::{Run, RunState};

    fn verification(lost: u64, unknown: u64, repairs: &[Option<RunState>]) -> Verification {
        let repair = |state: &Option<RunState>| Repair {
            run: state.map(|state| Run {
                state: state.into(),
                ..Run::default()
            }),
            ..Repair::default()
        };
        Verification {
            progress: Some(VerifyProgress {
                lost,
                unknown,
                ..VerifyProgress::default()
            }),
            repairs: repairs.iter().map(repair).collect(),
            ..Verification::default()
        }
    }

    #[test]
    fn the_exit_code_says_whether_the_mirror_is_whole_now() {
        let (good, bad, partial) = (
            Some(RunState::Succeeded),
            Some(RunState::Failed),
            Some(RunState::Partial),
        );
        let codes = [
            exit(&verification(0, 0, &[])),
            exit(&verification(0, 1, &[])),
            exit(&verification(2, 0, &[])),
            exit(&verification(2, 0, &[good, good])),
            exit(&verification(2, 1, &[good])),
            exit(&verification(2, 0, &[good, None])),
            exit(&verification(2, 0, &[good, partial])),
            exit(&verification(2, 0, &[bad])),
        ];
        assert_eq!(
            codes,
            [
                Exit::Done,
                Exit::Partial,
                Exit::Partial,
                Exit::Done,
                Exit::Partial,
                Exit::Partial,
                Exit::Partial,
                Exit::Other
            ]
        );
    }
}

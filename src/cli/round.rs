//! What `imagesetd once` does with its order: one round of every image set, in the foreground.

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    cli::{
        failure::{Exit, Failure},
        files, json,
        once::Order,
        output::{self, Output},
        plan, problems, serving, watch,
    },
    daemon::{self, Sides},
    gitops::{Checkout, File, Observation, Revision},
    grpc::{convert, v1},
    model::{facts::Cause, imageset::SetName, plan::Plan},
    output::Output as Folder,
    reconcile::{Applied, Feed, Handle, PlanView},
    settings::{Settings, UpdateService},
};

/// How long what is in flight may take to end after an interrupt.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// Carries out an order: plans, and unless it is a dry run copies and writes the documents.
pub async fn run(order: Order) -> Result<Exit, Failure> {
    for note in &order.notes {
        output::say(&format!("note: {note}"));
    }
    let checkout = checkout(&order)?;
    let folder = match order.dry_run {
        true => Folder::read_only(&order.resources),
        false => Folder::open(&order.resources).map_err(refused)?,
    };
    let mut sides = Sides::verified(order.src_tls_verify, order.dest_tls_verify);
    sides.source.cert_dir.clone_from(&order.src_cert_dir);
    sides.mirror.cert_dir.clone_from(&order.dest_cert_dir);
    let handle = daemon::open(settings(&order)?, &sides, folder, None).map_err(unopened)?;
    handle.observe(&Observation::Checkout(checkout));
    let mut report = Report::default();
    let exit = tokio::select! {
        exit = rounds(&handle, &order, &mut report) => exit,
        () = told_to_stop() => {
            output::say("interrupted; what is in flight is finished, what landed is remembered");
            Ok(Exit::Interrupted)
        }
    };
    handle.shutdown(SHUTDOWN).await;
    let exit = exit?;
    if order.output == Output::Json {
        output::document(&report.document(&handle))?;
    }
    Ok(exit)
}

/// What was done, for machines: what `plan` and `runs show` would say of it, and the documents' files.
#[derive(Default)]
struct Report {
    planned: v1::CreatePlanResponse,
    runs: Vec<String>,
    written: BTreeSet<String>,
}

impl Report {
    fn document(&self, handle: &Handle) -> Value {
        let runs = self.runs.iter().filter_map(|id| handle.run(id).ok());
        let runs = runs.map(|run| Value::Object(json::fields(&convert::run(&run))));
        let mut fields = json::fields(&self.planned);
        fields.insert("runs".to_owned(), runs.collect());
        fields.insert("written".to_owned(), json!(self.written));
        json::enveloped(fields)
    }
}

/// Waits for SIGTERM or Ctrl-C.
async fn told_to_stop() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Plans and applies every image set of the files; the worst ending counts.
async fn rounds(handle: &Handle, order: &Order, report: &mut Report) -> Result<Exit, Failure> {
    // Nothing is resolved yet, so tags and channels are read; what is known by digest is not asked for anew.
    let planned = handle.plan(None, false, vec![]).await.map_err(asked)?;
    let status = handle.status(None).map_err(asked)?;
    let of_sets = status.sets.iter().flat_map(|s| &s.problems);
    // A problem of one image set is among those of its file too.
    let found: BTreeSet<_> = planned.problems.iter().chain(of_sets).collect();
    let found: Vec<v1::Problem> = found.into_iter().map(convert::problem).collect();
    if !found.is_empty() {
        output::say(&problems::text(&found));
    }
    report.planned = v1::CreatePlanResponse {
        problems: found,
        ..convert::planned(&planned)
    };
    let mut worst = Exit::Done;
    for unplanned in &planned.unplanned {
        output::say(&format!("error: {}: {}", unplanned.set, unplanned.message));
        worst = worse(worst, Exit::of_unplanned(unplanned.reason));
    }
    for view in &planned.plans {
        worst = worse(worst, round(handle, view, order, report).await?);
    }
    Ok(worst)
}

async fn round(
    handle: &Handle,
    view: &PlanView,
    order: &Order,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let shown = convert::plan(view);
    let plan = &view.record.plan;
    order.print(&plan::text::preview(&shown, plan.id.short()))?;
    let ran = match (order.dry_run, view.record.applied) {
        (true, _) => {
            order.print("\nA dry run: nothing was copied, no document was written.\n")?;
            Exit::Done
        }
        (false, true) => Exit::Done,
        (false, false) => applied(handle, view, order, report).await?,
    };
    let Some(left_out) = left_out(plan) else {
        return Ok(ran);
    };
    output::say(&format!(
        "error: {}: not all of it can be mirrored; the plan says what and why",
        plan.set
    ));
    Ok(worse(left_out, ran))
}

/// How a round ends that cannot mirror all of an image set; none where it can. Where there is nothing that it can, the exit says
/// what stands in the way.
fn left_out(plan: &Plan) -> Option<Exit> {
    if plan.unresolved.is_empty() && plan.unsupported.is_empty() {
        return None;
    }
    if plan.held > 0 || !plan.steps.is_empty() {
        return Some(Exit::Partial);
    }
    let cause = plan.unresolved.iter().map(|u| u.cause).max();
    Some(match cause.unwrap_or_default() {
        Cause::Unavailable => Exit::Unavailable,
        Cause::Authentication => Exit::Authentication,
        Cause::Other => Exit::Precondition,
    })
}

/// Applies a plan and shows how that goes.
async fn applied(
    handle: &Handle,
    view: &PlanView,
    order: &Order,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let plan = &view.record.plan;
    match handle.apply(Some(&plan.id.0), None).await.map_err(asked)? {
        Applied::Already(_) => Ok(Exit::Done),
        Applied::Run(feed) => {
            report.runs.push(feed.id());
            follow(handle, feed, &plan.set, order, report).await
        }
    }
}

/// Shows a run until it ends.
async fn follow(
    handle: &Handle,
    mut feed: Feed,
    set: &SetName,
    order: &Order,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let (events, inbox) = tokio::sync::mpsc::channel(64);
    let telling = tokio::spawn(async move {
        while let Some(event) = feed.next().await {
            if events.send(Ok(convert::run_event(&event))).await.is_err() {
                return;
            }
        }
    });
    let mut view = watch::View::new(order.output);
    let ending = watch::follow(ReceiverStream::new(inbox), &mut view, None, |_| {}).await?;
    telling.abort();
    let watch::Ending::Finished(run) = ending else {
        return Ok(Exit::Interrupted);
    };
    order.print(&watch::ended(&run))?;
    for resource in handle.resources(Some(&set.0)).await.map_err(asked)? {
        let file = order.resources.join(&resource.object.file_name);
        let file = file.display().to_string();
        order.print(&format!("wrote {file}\n"))?;
        report.written.insert(file);
    }
    Ok(watch::exit_of(run.state()))
}

impl Order {
    /// Prints for people; machines get one document at the end.
    fn print(&self, text: &str) -> Result<(), Failure> {
        match self.output {
            Output::Text => output::print(text),
            Output::Json => Ok(()),
        }
    }
}

/// The files as a directory that holds just them. An image set is called by its file's stem, wherever the file is.
fn checkout(order: &Order) -> Result<Checkout, Failure> {
    let files: Vec<File> = files::read(&order.config)?
        .into_iter()
        .map(|given| File {
            path: given.path.display().to_string(),
            name: given.path.file_name().map_or(given.name.clone(), |name| {
                name.to_string_lossy().into_owned()
            }),
            bytes: Ok(given.bytes),
        })
        .collect();
    let mut names: Vec<&str> = files.iter().map(|f| stem(&f.name)).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Failure::usage(format!(
            "two of the files are called {}; image sets are told apart by their file's name",
            twice[0]
        )));
    }
    Ok(Checkout {
        revision: Revision::of_files(&files),
        files,
    })
}

fn stem(name: &str) -> &str {
    Path::new(name)
        .file_stem()
        .and_then(|s| s.to_str())
        .unwrap_or(name)
}

/// The settings that a file with nothing but the order's words would have.
fn settings(order: &Order) -> Result<Settings, Failure> {
    let mut settings = serving::of_target("once", &order.target.to_string())?;
    settings.max_nested_paths = order.max_nested_paths;
    // Paths in image sets begin where the files are.
    let folder = order.config.first().and_then(|file| file.parent());
    settings.directory = match folder {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => ".".into(),
    };
    settings.state.clone_from(&order.state);
    settings.output.clone_from(&order.resources);
    settings.authfile.clone_from(&order.authfile);
    settings.defaults.ignore_release_signatures = order.ignore_release_signatures;
    settings.defaults.conditional_updates = order.conditional_updates;
    settings.defaults.copy_signatures = !order.remove_signatures;
    if let Some(url) = &order.update_url {
        settings.update_service = UpdateService {
            ocp: url.clone(),
            okd: url.clone(),
        };
    }
    let (store, keyring) = (order.signature_url.clone(), order.signature_key.clone());
    settings.release_verification.take(store, keyring);
    settings.parallel_images = order.parallel_images.unwrap_or(settings.parallel_images);
    settings.parallel_blobs = order.parallel_blobs.unwrap_or(settings.parallel_blobs);
    settings.retries = order.retries.unwrap_or(settings.retries);
    Ok(settings)
}

/// Which of two endings a script has to hear of.
fn worse(a: Exit, b: Exit) -> Exit {
    match (a, b) {
        (Exit::Done, other) | (other, Exit::Done) => other,
        (first, _) => first,
    }
}

fn asked(error: crate::reconcile::Error) -> Failure {
    Failure::from(convert::refused(&error))
}

fn refused(error: crate::output::Error) -> Failure {
    Failure::precondition("OUTPUT_UNAVAILABLE", error.to_string())
}

fn unopened(error: daemon::Error) -> Failure {
    Failure::precondition("NOT_STARTED", crate::model::sentence(&error))
}

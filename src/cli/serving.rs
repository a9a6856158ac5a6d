//! What `imagesetd serve` does: reads the settings, checks them and the directory, and runs the daemon until it is told to stop.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    cli::{
        failure::{Exit, Failure},
        output, problems,
        serve::{Arguments, LogFormat},
        text,
    },
    daemon, gitops,
    grpc::{audit, convert},
    model::{
        imageset::{self, Problem, Severity, SourceFile},
        sentence,
    },
    settings::{self, Settings},
};

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let settings = read(&arguments.config)?;
    if arguments.check_settings {
        check_doors(&settings)?;
        let shown = arguments.config.display();
        output::print(&format!("{shown}: settings are valid\n"))?;
        return Ok(Exit::Done);
    }
    if arguments.check {
        check_doors(&settings)?;
        return check(&arguments.config, &settings).await;
    }
    log(&arguments.log_level, arguments.log_format)?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone()).map_err(|e| Failure::local("listening for signals", &e))?;
    match daemon::serve(settings, stop).await {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(Failure::precondition("NOT_STARTED", sentence(&error))),
    }
}

/// Reads the settings file; its warnings go to stderr.
pub(super) fn read(file: &Path) -> Result<Settings, Failure> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|e| {
        Failure::local(
            format!("reading the settings file {shown} (`imagesetd init` writes one)"),
            &e,
        )
    })?;
    match settings::parse(&shown, &text) {
        Ok((settings, warnings)) => {
            say(&warnings);
            with_environment(settings)
        }
        Err(found) => {
            say(&found);
            Err(Failure::precondition(
                "SETTINGS_INVALID",
                format!("the settings file {shown} is not valid"),
            ))
        }
    }
}

/// The settings that a file would have which names a target and nothing else; what is wrong with that is the command line's fault.
pub(super) fn of_target(verb: &str, target: &str) -> Result<Settings, Failure> {
    let parsed = settings::parse(verb, &format!("target: \"{target}\"\n"));
    let (settings, _) = parsed.map_err(|problems| {
        let messages: Vec<String> = problems.into_iter().map(|p| p.message).collect();
        Failure::usage(messages.join("; "))
    })?;
    Ok(settings)
}

/// What the environment says counts for more than the file, as for oc-mirror: `UPDATE_URL_OVERRIDE`, `OCP_SIGNATURE_URL` and
/// `OCP_SIGNATURE_VERIFICATION_PK`.
fn with_environment(mut settings: Settings) -> Result<Settings, Failure> {
    let said = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let url = |name: &str| {
        let text = said(name);
        let url = text.map(|text| text.parse()).transpose();
        url.map_err(|e| Failure::usage(format!("{name} is not a URL: {e}")))
    };
    if let Some(url) = url("UPDATE_URL_OVERRIDE")? {
        settings.update_service.ocp = url;
    }
    let keyring = said("OCP_SIGNATURE_VERIFICATION_PK").map(PathBuf::from);
    let store = url("OCP_SIGNATURE_URL")?;
    settings.release_verification.take(store, keyring);
    Ok(settings)
}

fn say(found: &[Problem]) {
    if !found.is_empty() {
        let found: Vec<_> = found.iter().map(convert::problem).collect();
        output::say(problems::text(&found).trim_end());
    }
}

/// Checks what the doors need: certificates, keys, tokens.
fn check_doors(settings: &Settings) -> Result<(), Failure> {
    let warnings = daemon::check(settings)
        .map_err(|error| Failure::precondition("NOT_STARTED", sentence(&error)))?;
    for warning in warnings {
        output::say(&format!("warning: {warning}"));
    }
    Ok(())
}

/// Checks the directory's image sets too; a directory that is not there yet is a warning.
async fn check(file: &Path, settings: &Settings) -> Result<Exit, Failure> {
    let observation = gitops::look_once(
        settings.directory.clone(),
        settings.settle.min(Duration::from_millis(500)),
    )
    .await;
    let checkout = match observation {
        gitops::Observation::Checkout(checkout) => checkout,
        gitops::Observation::Missing { why } | gitops::Observation::Unsettled { why } => {
            output::say(&format!("warning: {why}"));
            output::print(&format!("{}: settings are valid\n", file.display()))?;
            return Ok(Exit::Done);
        }
    };
    let revision = checkout.revision.to_string();
    let files: Vec<SourceFile> = checkout
        .files
        .into_iter()
        .filter_map(|f| {
            Some(SourceFile {
                path: f.path,
                name: f.name,
                bytes: f.bytes.ok()?,
            })
        })
        .collect();
    let mut read = imageset::read_for(
        &files,
        |name| settings.policy_for(name).target.to_string(),
        |_, _, _| false,
    );
    let place = |name: &imageset::SetName| settings.policy_for(name).target;
    imageset::refuse_crowds(&mut read.image_sets, place, |_, _| false);
    let of_sets = read.image_sets.iter().flat_map(|set| &set.problems);
    read.problems = read.problems.iter().chain(of_sets).cloned().collect();
    read.problems.sort();
    read.problems.dedup();
    say(&read.problems);
    let valid = !read.problems.iter().any(|p| p.severity == Severity::Error);
    output::print(&format!(
        "{}: settings are valid; {} at {revision}{}\n",
        file.display(),
        text::count(read.image_sets.len() as u64, "image set"),
        if valid { "" } else { ", not all of them valid" }
    ))?;
    Ok(if valid {
        Exit::Done
    } else {
        Exit::Precondition
    })
}

/// Sends the log to stderr.
pub fn log(level: &str, format: LogFormat) -> Result<(), Failure> {
    // A bare level is meant for us, not for what every library has to say of its frames.
    let directives = match level.parse::<tracing::Level>() {
        Ok(level) if level > tracing::Level::INFO => format!("info,imagesetd={level}"),
        _ => level.to_owned(),
    };
    // Who did what is not for a level to decide; who does not want it says so: `audit=off`.
    let directives = match directives.contains(audit::TARGET) {
        true => directives,
        false => format!("{directives},{}=info", audit::TARGET),
    };
    let filter = EnvFilter::try_new(directives).map_err(|e| {
        Failure::usage(format!(
            "`{level}` is not a log level: {e}; info, debug and trace are"
        ))
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let stderr = || fmt::layer().with_writer(std::io::stderr).with_target(false);
    let begun = match format {
        LogFormat::Text => registry
            .with(stderr().with_ansi(output::someone_is_there()))
            .try_init(),
        LogFormat::Json => registry.with(stderr().json().with_target(true)).try_init(),
    };
    // A second start in one process keeps the first one's log.
    drop(begun);
    Ok(())
}

/// SIGTERM and Ctrl-C stop the daemon in order; a second one ends it at once.
fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                std::process::exit(130);
            }
            stop.cancel();
        }
    });
    Ok(())
}

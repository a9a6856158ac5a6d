//! `imagesetd mirror check`: will this registry do as a mirror?

use std::{collections::BTreeSet, path::PathBuf};

use clap::{ArgAction, Subcommand};
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        failure::{Exit, Failure},
        json,
        output::Output,
        serve::{DEFAULT_CONFIG, LogFormat},
        serving,
    },
    daemon::{self, Sides},
    model::{
        checkup::{Answer, Checkup, Outcome, Stopped},
        policy::Target,
        sentence,
    },
    settings::Settings,
};

/// Looks at the mirror registry itself.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// Tries out the mirror: certificate, credentials, and everything that mirroring asks of a registry; no daemon is needed
    Check(Check),
}

/// Tries out the mirror: certificate, credentials, and everything that mirroring asks of a registry; no daemon is needed.
///
/// Pushes a few hundred bytes to repositories called imagesetd-mirror-check, and deletes them again where the registry lets one.
#[derive(Debug, Clone, clap::Args)]
struct Check {
    /// Settings file that names the mirror, and how it is reached
    #[arg(long, value_name = "FILE", env = "IMAGESETD_CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Mirror to try out, without a settings file
    #[arg(long, value_name = "HOST[:PORT][/PREFIX]")]
    to: Option<Target>,
    /// Credentials file (auth.json) instead of the usual places, with --to
    #[arg(long, value_name = "FILE", requires = "to")]
    authfile: Option<PathBuf>,
    /// Folder with certificates for the mirror, with --to: *.crt are authorities, *.cert with *.key is shown
    #[arg(long, value_name = "DIR", requires = "to")]
    dest_cert_dir: Option<PathBuf>,
    /// Whether the mirror's certificate is checked, with --to; with `false` plain HTTP is tried too
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", requires = "to")]
    dest_tls_verify: bool,
    /// Push nothing: look at the certificate and the credentials only
    #[arg(long)]
    read_only: bool,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    match arguments.verb {
        Verb::Check(check) => check.run().await,
    }
}

impl Check {
    async fn run(self) -> Result<Exit, Failure> {
        serving::log("error", LogFormat::Text)?;
        let (settings, sides) = self.settings()?;
        let others = settings.image_sets.iter().filter_map(|o| o.target.clone());
        let targets: BTreeSet<Target> = others.chain([settings.defaults.target.clone()]).collect();
        let mut checkups = Vec::new();
        for target in &targets {
            let checked = daemon::check_mirror(&settings, &sides, target, !self.read_only);
            let checked = checked
                .await
                .map_err(|error| Failure::precondition("NOT_STARTED", sentence(&error)))?;
            checkups.push(checked);
        }
        self.output
            .value(&document(&checkups), || text(&checkups))?;
        Ok(exit(&checkups))
    }

    fn settings(&self) -> Result<(Settings, Sides), Failure> {
        let Some(target) = &self.to else {
            return Ok((serving::read(&self.config)?, Sides::default()));
        };
        let mut settings = serving::of_target("mirror", &target.to_string())?;
        settings.authfile.clone_from(&self.authfile);
        let mut sides = Sides::verified(true, self.dest_tls_verify);
        sides.mirror.cert_dir.clone_from(&self.dest_cert_dir);
        Ok((settings, sides))
    }
}

/// How the verb ends: the first mirror that will not do counts.
fn exit(checkups: &[Checkup]) -> Exit {
    let bad = checkups.iter().find(|c| c.worst() == Outcome::Bad);
    match bad.map(|checkup| checkup.stopped) {
        None => Exit::Done,
        Some(None) => Exit::Precondition,
        Some(Some(Stopped::Authentication)) => Exit::Authentication,
        Some(Some(Stopped::Unreachable)) => Exit::Unavailable,
    }
}

fn document(checkups: &[Checkup]) -> Value {
    let answer = |answer: &Answer| {
        json!({
            "id": answer.id,
            "outcome": answer.outcome.word(),
            "message": answer.message,
            "remedy": answer.remedy,
        })
    };
    let mirror = |checkup: &Checkup| {
        json!({
            "target": checkup.target,
            "outcome": checkup.worst().word(),
            "checks": checkup.answers.iter().map(answer).collect::<Vec<_>>(),
            "left_behind": checkup.left,
        })
    };
    let mut fields = Map::new();
    fields.insert("mirrors".to_owned(), checkups.iter().map(mirror).collect());
    json::enveloped(fields)
}

fn text(checkups: &[Checkup]) -> String {
    let mut text = String::new();
    for checkup in checkups {
        if !text.is_empty() {
            text += "\n";
        }
        text += &format!("{}\n", checkup.target);
        for answer in &checkup.answers {
            text += &answer_text(answer);
        }
        for left in &checkup.left {
            text += &format!("  left behind: {left}\n");
        }
        text += match checkup.worst() {
            Outcome::Bad => "It will not do as a mirror like this.\n",
            Outcome::Warning => "It will do as a mirror; see the warnings.\n",
            Outcome::Skipped => "Nothing is wrong as far as was looked.\n",
            Outcome::Good => "It will do as a mirror.\n",
        };
    }
    text
}

fn answer_text(answer: &Answer) -> String {
    let mark = match answer.outcome {
        Outcome::Good => "ok",
        outcome => outcome.word(),
    };
    let mut text = format!("  {mark:<8} {}: {}\n", answer.id, answer.message);
    if !answer.remedy.is_empty() {
        text += &format!("           {}\n", answer.remedy);
    }
    text
}

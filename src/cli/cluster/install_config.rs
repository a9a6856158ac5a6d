//! `imagesetd cluster install-config`: what the installer has to know of a mirror.

use std::path::PathBuf;

use crate::{
    cli::{
        cluster::{inputs, pull_secret},
        connect::Connection,
        failure::{Exit, Failure},
        output, problems,
    },
    cluster::install_config::{Version, Wish, Written, sources},
    grpc::convert::problem,
};

/// Writes what install-config.yaml needs for a mirror: image sources, trust bundle, pull secret.
#[derive(Debug, Clone, clap::Args)]
#[command(disable_version_flag = true)]
pub struct Arguments {
    /// Mirror objects: files, folders, `-` for standard input, or `live` for what the daemon has published
    #[arg(value_name = "FILE|DIR|live", default_value = "live")]
    paths: Vec<PathBuf>,
    /// Version that is to be installed, such as 4.16: it decides the fields' names
    #[arg(long, value_name = "VERSION", value_parser = |text: &str| text.parse::<Version>())]
    version: Option<Version>,
    /// install-config.yaml to put it into; the result goes to standard output
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// PEM file with the CA certificates of the mirror
    #[arg(long, value_name = "FILE")]
    trust_bundle: Option<PathBuf>,
    /// Pull secret to merge in; may be repeated, the later one winning
    #[arg(long, value_name = "FILE")]
    pull_secret: Vec<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let objects = inputs::objects_or_live(&arguments.paths, &arguments.connection).await?;
    inputs::refuse_errors(&objects)?;
    let (sources, notes) = sources(&objects).map_err(|refusals| inputs::refused(&refusals))?;
    if sources.is_empty() {
        return Err(Failure::precondition(
            "NO_RULES",
            "there are no digest rules: nothing has landed yet, or the documents are others",
        ));
    }
    let pem = arguments
        .trust_bundle
        .as_ref()
        .map(|path| inputs::bytes(path));
    let pem = pem.transpose()?.unwrap_or_default();
    let secret = match arguments.pull_secret.as_slice() {
        [] => String::new(),
        files => pull_secret::merged(files, None)?,
    };
    let wish = Wish {
        version: arguments.version,
        sources,
        trust_bundle: String::from_utf8_lossy(&pem).into_owned(),
        pull_secret: secret,
    };
    let written = write(&wish, arguments.base.as_deref())?;
    notes
        .iter()
        .chain(&written.notes)
        .for_each(|note| output::say(note));
    output::write(&written.text)?;
    Ok(Exit::Done)
}

fn write(wish: &Wish, base: Option<&std::path::Path>) -> Result<Written, Failure> {
    let unfit = |message: String| Failure::precondition("INVALID_FILE", message);
    let Some(path) = base else {
        return wish.fragment().map_err(unfit);
    };
    let bytes = inputs::bytes(path)?;
    let file = path.display().to_string();
    wish.into_file(&file, &bytes).map_err(|found| {
        let found = problem(&found);
        unfit(
            problems::text(std::slice::from_ref(&found))
                .trim_end()
                .to_owned(),
        )
        .with_problems(vec![found])
    })
}

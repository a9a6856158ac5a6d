//! `imagesetd catalog`: looks at operator catalogs, and at what an image set keeps of them. No daemon is needed, nothing is written.

mod filter;

mod list;

use std::path::PathBuf;

use crate::{
    cli::{
        failure::{Exit, Failure},
        serving,
    },
    daemon::{self, Sides},
    reconcile::{
        LookError,
        catalogs::{Origin, Reader},
    },
    settings::Settings,
};

/// Looks at operator catalogs.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done with catalogs.
#[derive(Debug, Clone, clap::Subcommand)]
enum Verb {
    /// List the packages of a catalog, the channels of a package, or the bundles of a channel
    List(list::Arguments),
    /// Print what an image set keeps of its catalogs, and why; nothing is mirrored
    Filter(filter::Arguments),
}

/// How catalogs are reached.
#[derive(Debug, Clone, clap::Args)]
struct Reaching {
    /// Folder that keeps what was read, so that a second look costs one request
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Credentials file (auth.json) instead of the usual places
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    authfile: Option<PathBuf>,
    /// Whether certificates are checked; with `false` plain HTTP is tried too
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    src_tls_verify: bool,
    /// Folder of certificates for all registries
    #[arg(long, value_name = "DIR")]
    src_cert_dir: Option<PathBuf>,
}

impl Reaching {
    fn reader(&self) -> Result<Reader, Failure> {
        let mut sides = Sides::verified(self.src_tls_verify, true);
        sides.source.cert_dir.clone_from(&self.src_cert_dir);
        let source = daemon::source(&self.settings()?, &sides).map_err(|error| {
            Failure::precondition("NOT_STARTED", crate::model::sentence(&error))
        })?;
        Reader::new(source, self.state.as_deref())
            .map_err(|error| Failure::precondition("STATE_UNAVAILABLE", error.to_string()))
    }

    /// The settings that a file with nothing in it would have; nothing is mirrored anywhere.
    fn settings(&self) -> Result<Settings, Failure> {
        let mut settings = serving::of_target("catalog", "localhost/nowhere")?;
        settings.authfile.clone_from(&self.authfile);
        Ok(settings)
    }
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    match arguments.verb {
        Verb::List(arguments) => list::run(arguments).await,
        Verb::Filter(arguments) => filter::run(arguments).await,
    }
}

/// Reads a catalog's name: an existing folder holds plain configs.
fn origin(text: &str) -> Result<Origin, Failure> {
    let path = PathBuf::from(text);
    if path.is_dir() {
        return Ok(Origin::Folder(path));
    }
    Origin::parse(text).map_err(|why| {
        Failure::usage(format!(
            "{why}; IMAGE:TAG, oci://DIR or an existing folder is expected"
        ))
    })
}

/// A catalog that could not be looked at.
fn unread(error: LookError) -> Failure {
    let message = error.to_string();
    match error {
        LookError::Unread(failure) if failure.transient => {
            Failure::new("CATALOG_UNAVAILABLE", tonic::Code::Unavailable, message)
        }
        LookError::Unread(_) => Failure::precondition("CATALOG_UNREADABLE", message),
        LookError::NoPackage(_) => Failure::precondition("PACKAGE_NOT_FOUND", message),
        LookError::NoChannel(_) => Failure::precondition("CHANNEL_NOT_FOUND", message),
        LookError::Unfit(_) => Failure::usage(message),
    }
}

//! `imagesetd catalog`: looks at operator catalogs, and at what an image set keeps of them. No daemon is needed, nothing is written.

mod filter;

mod list;

use std::path::PathBuf;

use crate::{
    cli::failure::{Exit, Failure},
    daemon,
    model::facts::Failure as Unread,
    reconcile::catalogs::{Origin, Reader},
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
}

impl Reaching {
    fn reader(&self) -> Result<Reader, Failure> {
        let source = daemon::source(self.authfile.clone(), self.src_tls_verify);
        let source =
            source.map_err(|e| Failure::precondition("NotStarted", crate::model::sentence(&e)))?;
        Reader::new(source, self.state.as_deref())
            .map_err(|e| Failure::precondition("StateUnavailable", e.to_string()))
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

/// A catalog that could not be read.
fn unread(failure: Unread) -> Failure {
    match failure.transient {
        true => Failure::new(
            "CATALOG_UNAVAILABLE",
            tonic::Code::Unavailable,
            failure.reason,
        ),
        false => Failure::precondition("CATALOG_UNREADABLE", failure.reason),
    }
}

//! `imagesetd version`: of this binary, and of the daemon where one answers.

use serde_json::{Value, json};

use crate::{
    cli::{
        connect::Asking,
        failure::{Exit, Failure},
        json,
    },
    grpc::v1::GetStatusRequest,
};

/// The version of this binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of the API that it speaks.
pub const API: &str = "imageset.v1";

/// Says the version of this binary, and of the daemon where one answers.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    asking: Asking,
}

/// Runs the verb. That no daemon answers is no failure.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let daemon = daemon(&arguments).await.map_err(|failure| failure.message);
    arguments
        .asking
        .output
        .value(&value(&daemon), || text(&daemon))?;
    Ok(Exit::Done)
}

async fn daemon(arguments: &Arguments) -> Result<String, Failure> {
    let mut client = arguments.asking.connection.connect().await?;
    let status = client
        .get_status(GetStatusRequest::default())
        .await?
        .into_inner();
    Ok(status.daemon.unwrap_or_default().version)
}

fn value(daemon: &Result<String, String>) -> Value {
    let daemon = daemon
        .as_ref()
        .ok()
        .map(|version| json!({"version": version}));
    json!({"schema": json::SCHEMA, "version": VERSION, "api": API, "daemon": daemon})
}

fn text(daemon: &Result<String, String>) -> String {
    let daemon = match daemon {
        Ok(version) => format!("daemon {version}"),
        Err(why) => why.clone(),
    };
    format!("imagesetd {VERSION} (API {API})\n{daemon}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_is_not_there_is_null() {
        assert_eq!(
            value(&Err("no daemon answers".to_owned())),
            json!({"schema": 1, "version": VERSION, "api": "imageset.v1", "daemon": null})
        );
    }
}

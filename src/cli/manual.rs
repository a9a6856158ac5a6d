//! Shell completions and man pages, made from the definitions of the verbs themselves.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::cli::{
    failure::{Exit, Failure},
    output,
};

/// Prints the completions for a shell.
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the man pages into a folder, one a verb.
#[derive(Debug, Clone, Args)]
pub struct Man {
    /// The folder; it is made where it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints completions of `command`.
pub fn completions(arguments: &Completions, mut command: Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "imagesetd", &mut script);
    output::write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Writes the man pages of `command`.
pub fn man(arguments: &Man, command: Command) -> Result<Exit, Failure> {
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .map_err(|error| {
            Failure::local(format!("writing man pages to {}", folder.display()), &error)
        })?;
    Ok(Exit::Done)
}

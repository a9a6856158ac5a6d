//! What goes to stdout, and in which form.

use std::io::{ErrorKind, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::Value;

use crate::cli::{failure::Failure, json, text};

/// Who reads the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for people; its wording may change.
    #[default]
    Text,
    /// One JSON document for scripts, `{"schema":1, ...}`.
    Json,
}

impl Output {
    /// Prints an answer: the message for machines, or what `text` makes of it for people.
    pub fn answer<M: prost::Name>(
        self,
        message: &M,
        text: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self {
            Output::Text => print(&text(message)),
            Output::Json => document(&json::document(message)),
        }
    }

    /// Prints an answer that is not a message of the API.
    pub fn value(self, value: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self {
            Output::Text => print(&text()),
            Output::Json => document(value),
        }
    }
}

/// Prints a JSON document, indented.
pub fn document(value: &Value) -> Result<(), Failure> {
    write(&format!("{value:#}\n"))
}

/// Prints text for people, without what could drive their terminal.
pub fn print(text: &str) -> Result<(), Failure> {
    write(&text::clean(text))
}

/// Prints text byte by byte as it is: a document that goes into another tool. A reader that went away (`| head`) is no failure.
pub fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::local("writing to stdout", &error)),
        Ok(()) => Ok(()),
    }
}

/// Says something to the person at the keyboard, on stderr.
pub fn say(text: &str) {
    // Nobody is left to hear that stderr is closed.
    let _ = writeln!(std::io::stderr(), "{}", text::clean(text));
}

/// Whether someone can be asked: both ends of the talk are a terminal.
pub fn someone_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks a question that is answered with yes or no; anything but yes is no.
pub fn ask(question: &str) -> Result<bool, Failure> {
    let mut stderr = std::io::stderr().lock();
    let asked = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    asked.map_err(|error| Failure::local("asking on stderr", &error))?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::local("reading the answer from stdin", &error))?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

//! What is wrong with a person's file, and where.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad a problem of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The image set (or file) is not used until this is mended.
    Error,
    /// It is used, and this may not be what was meant.
    Warning,
}

/// One thing wrong with a person's file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// The file as it was given.
    pub file: String,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: u32,
    /// The column in characters, from 1; 0 where the whole file is meant.
    pub column: u32,
    /// How bad it is.
    pub severity: Severity,
    /// Where in the document (`mirror.operators[0].catalog`); empty for the document itself.
    pub path: String,
    /// What is wrong, one sentence.
    pub message: String,
    /// What to do, one sentence; empty where the message says it all.
    pub hint: String,
}

impl Problem {
    /// Returns where it is, `file:line:column`; the file alone where all of it is meant.
    pub fn place(&self) -> String {
        match self.line {
            0 => self.file.clone(),
            line => format!("{}:{line}:{}", self.file, self.column),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.message)
    }
}

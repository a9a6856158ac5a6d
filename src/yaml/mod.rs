//! Reads a person's YAML with the places kept, so that what is wrong with it can be shown where it is.
//!
//! `documents` takes a file apart, `tree` makes nodes of a document, `scalar` says what a plain word means, `reader` hands a mapping's
//! fields to a schema and collects the problems.
//!
//! **Invariant:** pure; whatever the bytes are, reading them neither panics nor takes more memory or time than the limits below allow.

pub mod problem;

mod documents;

mod scalar;

mod tree;

pub mod reader;

pub use problem::{Problem, Severity};
pub use tree::{Entry, Node, Pos, Scalar, Value};

/// The largest text of a file that is read, in bytes.
pub const MAX_TEXT: usize = 4 << 20;

/// The deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 64;

/// The most values a document may have, what aliases repeat counted each time.
pub const MAX_NODES: usize = 500_000;

/// A document of a file that is not empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Document<'a> {
    /// The line the document's text begins on, from 1.
    pub line: u32,
    /// The document's text.
    pub text: &'a str,
    /// The document's content, or nothing where its syntax is broken.
    pub root: Option<std::sync::Arc<Node>>,
    /// Broken syntax, or keys that are written twice.
    pub problems: Vec<Problem>,
}

/// Takes a file apart into its documents, those without content left out.
///
/// A document whose syntax is broken does not keep the ones after it from being read. `file` is what problems name.
///
/// # Errors
///
/// The one problem that keeps the file from being read at all: its size or its encoding.
pub fn parse<'a>(file: &str, bytes: &'a [u8]) -> Result<Vec<Document<'a>>, Problem> {
    let text = documents::decode(file, bytes)?;
    Ok(documents::split(text)
        .into_iter()
        .filter_map(|piece| read_document(file, piece))
        .collect())
}

/// Reads one piece; nothing where it holds only comments.
fn read_document<'a>(file: &str, piece: documents::Piece<'a>) -> Option<Document<'a>> {
    let document = |root, problems| Document {
        line: piece.line,
        text: piece.text,
        root,
        problems,
    };
    match tree::build(file, &piece) {
        Ok((None, problems)) if problems.is_empty() => None,
        Ok((root, problems)) => Some(document(root, problems)),
        Err(problem) => Some(document(None, vec![*problem])),
    }
}

/// Cuts a text that stands in a message, so that hostile input does not fill a screen.
pub fn shorten(text: &str) -> String {
    let line = text.replace(char::is_control, " ");
    match line.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

//! Collects what is wrong with one document.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use super::{Document, Pos, Problem, Severity};

/// The most problems that are kept of one document.
pub const MAX_PROBLEMS: usize = 1000;

/// Whose habits a file is read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// oc-mirror's: keys in another letter case and YAML 1.1 truths are taken with a warning, numbers for texts too.
    OcMirror,
    /// Our own: keys as they are, `yes` is `true`.
    Own,
}

/// Collects the problems of one document.
#[derive(Debug)]
pub struct Report {
    file: String,
    pub(super) dialect: Dialect,
    problems: RefCell<Vec<Problem>>,
    /// How bad the worst is that was left out and told so: an error must not get lost behind warnings.
    told_more: Cell<Option<Severity>>,
    /// The keys that a schema has asked for, as paths without list positions: what an example has to explain.
    #[cfg(test)]
    pub(super) asked: RefCell<BTreeSet<String>>,
}

impl Report {
    /// Begins with the problems that `document` came with.
    pub fn new(file: &str, dialect: Dialect, document: &Document<'_>) -> Self {
        Report {
            file: file.to_owned(),
            dialect,
            problems: RefCell::new(document.problems.clone()),
            told_more: Cell::new(None),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Returns the keys that were asked for, as paths with `[]` for list positions.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }

    /// Adds a problem at a place.
    pub fn add(&self, severity: Severity, at: Pos, path: &str, message: String, hint: String) {
        let mut problems = self.problems.borrow_mut();
        let full = problems.len() >= MAX_PROBLEMS;
        if full && self.told_more.get().is_some_and(|told| told <= severity) {
            return;
        }
        let (message, hint) = if full {
            self.told_more.set(Some(severity));
            let message = format!("there is more to tell than the first {MAX_PROBLEMS} problems");
            (message, "mend these first".to_owned())
        } else {
            (visible(&message), visible(&hint))
        };
        problems.push(Problem {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            severity,
            path: visible(path),
            message,
            hint,
        });
    }

    /// Adds a problem that was found elsewhere.
    pub fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Whether there is a problem that keeps the document from being used.
    pub fn has_errors(&self) -> bool {
        self.problems
            .borrow()
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }

    /// Returns the problems, sorted by place, each once.
    pub fn into_problems(self) -> Vec<Problem> {
        let sorted: BTreeSet<Problem> = self.problems.into_inner().into_iter().collect();
        sorted.into_iter().collect()
    }
}

/// Writes control characters as escapes: a message is one line.
fn visible(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let show = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(show).collect()
}

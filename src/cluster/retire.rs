//! Takes published rules away on purpose; nothing else does.

use std::collections::BTreeSet;

use crate::{
    cluster::{
        Options, Unit,
        document::Document,
        render::{Rendering, Warning, render},
        scope::Scope,
    },
    model::imageset::SetName,
};

/// What to retire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retire {
    /// The image set whose rules go.
    pub set: SetName,
    /// Only the rules of this source; all where none is named.
    pub source: Option<Scope>,
}

/// Why nothing was retired.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetireError {
    /// The image set has no published rules.
    #[error("image set `{set}` has no published mirror rules; those that have some: {known}")]
    UnknownSet {
        /// What was asked for.
        set: SetName,
        /// The image sets with rules, or `none`.
        known: String,
    },
    /// The image set has no published rule for the source.
    #[error(
        "image set `{set}` has no published mirror rule for `{scope}`; it has rules for: {known}"
    )]
    UnknownSource {
        /// The image set.
        set: SetName,
        /// What was asked for.
        scope: Scope,
        /// The sources it has rules for.
        known: String,
    },
}

impl Retire {
    fn names(&self, set: &SetName, source: &Scope) -> bool {
        self.set == *set && self.source.as_ref().is_none_or(|only| only == source)
    }
}

/// Renders the documents without the published rules that `what` names.
///
/// What wanted images need is rendered anew, and a warning says so: a rule goes for good when its images are no longer wanted.
pub fn retire(
    units: &[Unit],
    published: &[Document],
    options: &Options,
    what: &Retire,
) -> Result<Rendering, RetireError> {
    check(published, what)?;
    let mut kept = published.to_vec();
    for document in &mut kept {
        let set = &document.set;
        document.rules.retain(|rule| !what.names(set, &rule.source));
    }
    let mut rendering = render(units, &kept, options);
    rendering.warnings.extend(what_stays(&rendering, what));
    rendering.warnings.sort();
    Ok(rendering)
}

fn check(published: &[Document], what: &Retire) -> Result<(), RetireError> {
    let own = published.iter().filter(|d| d.set == what.set);
    let sources: BTreeSet<&Scope> = own.flat_map(|d| &d.rules).map(|r| &r.source).collect();
    if sources.is_empty() {
        let sets: BTreeSet<&SetName> = published.iter().map(|d| &d.set).collect();
        return Err(RetireError::UnknownSet {
            set: what.set.clone(),
            known: list(&sets),
        });
    }
    match &what.source {
        Some(source) if !sources.contains(source) => Err(RetireError::UnknownSource {
            set: what.set.clone(),
            scope: source.clone(),
            known: list(&sources),
        }),
        _ => Ok(()),
    }
}

/// Returns names for a sentence, the first twenty of them.
fn list<T: std::fmt::Display>(names: &BTreeSet<T>) -> String {
    let shown: Vec<_> = names.iter().take(20).map(|n| format!("`{n}`")).collect();
    match names.len() {
        0 => "none".to_owned(),
        1..=20 => shown.join(", "),
        n => format!("{} and {} more", shown.join(", "), n - 20),
    }
}

fn what_stays(rendering: &Rendering, what: &Retire) -> Option<Warning> {
    let own = rendering.documents.iter().filter(|d| d.set == what.set);
    let sources = own.flat_map(|d| &d.rules).map(|r| &r.source);
    let stay: BTreeSet<&Scope> = sources.filter(|s| what.names(&what.set, s)).collect();
    (!stay.is_empty()).then(|| Warning {
        set: what.set.clone(),
        message: format!(
            "the rules for {} stay, since images that the image set still wants need them, or wider rules of its own do",
            list(&stay)
        ),
    })
}

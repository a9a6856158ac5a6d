//! `mirror.blockedImages`: what is left out.

use std::collections::BTreeSet;

use regex::Regex;

use super::Wanted;
use crate::model::imageset::{Blocked, pattern};

/// What a set blocks, by an image's source or its place in the mirror.
pub(super) struct Blocker {
    patterns: Vec<Regex>,
    exact: BTreeSet<String>,
}

impl Blocker {
    pub(super) fn new(blocked: &[Blocked]) -> Self {
        let mut blocker = Blocker {
            patterns: vec![],
            exact: BTreeSet::new(),
        };
        for entry in blocked {
            match entry {
                // A set whose patterns cannot be read is not valid and never comes here.
                Blocked::Pattern(text) => blocker.patterns.extend(pattern(text)),
                Blocked::Exact(name) => {
                    blocker.exact.insert(name.clone());
                }
            }
        }
        blocker
    }

    pub(super) fn blocks(&self, names: &[String]) -> bool {
        names
            .iter()
            .any(|n| self.exact.contains(n) || self.patterns.iter().any(|p| p.is_match(n)))
    }

    pub(super) fn blocks_wanted(&self, wanted: &Wanted) -> bool {
        self.blocks(&[
            wanted.source_reference().to_string(),
            wanted.source.at(wanted.digest.clone()).to_string(),
            wanted.target_reference().to_string(),
        ])
    }
}

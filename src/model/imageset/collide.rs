//! Two sources that would land on one target, in an image set or across those of one mirror.

use std::collections::BTreeMap;

use super::Operator;
use crate::{
    model::image::{Digest, Platform},
    yaml::{Pos, Problem, Severity, reader::At},
};

/// A place in the mirror that an entry of an image set wants.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// The repository path below the mirror's prefix.
    path: String,
    /// The tag.
    tag: String,
    /// What shall land there, as references are written.
    source: String,
    what: Claimed,
    /// Where the source is named.
    at: Pos,
    /// Where in the document the source is named.
    document_path: String,
}

/// What lands on a claimed place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Claimed {
    /// A single image: its digest, where it is named, and the platforms wanted.
    Image(Option<Digest>, Vec<Platform>),
    /// A catalog, filtered as its entry says.
    Catalog(Box<Operator>),
}

impl Claim {
    /// Notes that `source`, named at `at`, shall land on `path:tag`.
    pub(super) fn new(
        at: &At<'_>,
        path: String,
        tag: String,
        source: String,
        what: Claimed,
    ) -> Self {
        Claim {
            path,
            tag,
            source,
            what,
            at: at.pos(),
            document_path: at.path().to_owned(),
        }
    }

    fn is_catalog(&self) -> bool {
        matches!(self.what, Claimed::Catalog(_))
    }
}

/// The claims of one image set.
pub(super) struct Claims<'a> {
    /// The file, as problems name it.
    pub(super) file: &'a str,
    /// Whether the image set is good but for what is found here.
    pub(super) sound: bool,
    /// Whether it has been given a place in the mirror before, by path and tag.
    pub(super) holds: &'a dyn Fn(&str, &str) -> bool,
    /// Its claims.
    pub(super) claims: &'a [Claim],
}

/// Returns what is wrong between the claims of image sets that share a mirror, each with the position of its set in `sets`.
///
/// Both sides are told. A set that is broken anyhow does not spoil another one, and one that has had the place keeps it: to it, the
/// newcomer is a warning.
pub(super) fn check(sets: &[Claims<'_>]) -> Vec<(usize, Problem)> {
    let mut first: BTreeMap<(&str, &str), (usize, &Claim)> = BTreeMap::new();
    let mut problems = Vec::new();
    for sound in [true, false] {
        for (index, set) in sets
            .iter()
            .enumerate()
            .filter(|(_, set)| set.sound == sound)
        {
            for claim in set.claims {
                let held = *first
                    .entry((&claim.path, &claim.tag))
                    .or_insert((index, claim));
                if !std::ptr::eq(held.1, claim) {
                    problems.extend(compare(sets, held, (index, claim)));
                }
            }
        }
    }
    problems
}

/// What is told to the one of two that has had the place.
const KEEPS: &str = "this one is in the mirror and stays there; the other image set is not mirrored until it is changed";

/// Compares two claims on one place.
fn compare(
    sets: &[Claims<'_>],
    held: (usize, &Claim),
    new: (usize, &Claim),
) -> Vec<(usize, Problem)> {
    let within = held.0 == new.0;
    let Some((severity, hint)) = verdict(held.1, new.1, within) else {
        return Vec::new();
    };
    let holds = |(set, claim): (usize, &Claim)| (sets[set].holds)(&claim.path, &claim.tag);
    let tell = |mine: (usize, &Claim), other: (usize, &Claim)| {
        let keeps = !within && holds(mine) && !holds(other);
        let (severity, hint) = match keeps {
            true => (Severity::Warning, KEEPS),
            false => (severity, hint),
        };
        let place = match within {
            true => format!("line {}", other.1.at.line),
            false => format!("{}, line {}", sets[other.0].file, other.1.at.line),
        };
        let problem = Problem {
            file: sets[mine.0].file.to_owned(),
            line: mine.1.at.line,
            column: mine.1.at.column,
            severity,
            path: mine.1.document_path.clone(),
            message: message(mine.1, other.1, &place),
            hint: hint.to_owned(),
        };
        (mine.0, problem)
    };
    let mut problems = vec![tell(new, held)];
    if !within && sets[new.0].sound {
        problems.push(tell(held, new));
    }
    problems
}

/// How bad it is that two claims are on one place, and what to do; nothing where both are for the same.
fn verdict(held: &Claim, new: &Claim, within: bool) -> Option<(Severity, &'static str)> {
    const IMAGE: &str = "give one of the two a `targetRepo` or `targetTag` of its own";
    const CATALOG: &str = "give one of the two a `targetCatalog` or `targetTag` of its own";
    let same = held.source == new.source && held.is_catalog() == new.is_catalog();
    match (&held.what, &new.what) {
        (Claimed::Image(a, ..), Claimed::Image(b, ..)) if !same && (a.is_none() || a != b) => {
            Some((Severity::Error, IMAGE))
        }
        (Claimed::Image(_, a), Claimed::Image(_, b)) if same && within && a != b => Some((
            Severity::Error,
            "make one entry of the two, with the platforms of both",
        )),
        (Claimed::Image(..), Claimed::Image(..)) if same && within => {
            Some((Severity::Warning, "remove one of the two"))
        }
        (Claimed::Image(..), Claimed::Image(..)) => None,
        (Claimed::Catalog(_), Claimed::Catalog(_)) if same && within => Some((
            Severity::Error,
            "make one entry of the two, or give one a `targetCatalog` or `targetTag` of its own",
        )),
        (Claimed::Catalog(a), Claimed::Catalog(b)) if same && a == b => None,
        (Claimed::Catalog(_), Claimed::Catalog(_)) if same => Some((Severity::Warning, CATALOG)),
        _ => Some((
            Severity::Error,
            if new.is_catalog() { CATALOG } else { IMAGE },
        )),
    }
}

/// Says what lands where something else does.
fn message(mine: &Claim, other: &Claim, place: &str) -> String {
    let target = format!("{}:{}", mine.path, mine.tag);
    match (
        mine.source == other.source,
        mine.is_catalog() && other.is_catalog(),
    ) {
        (true, true) if mine.what != other.what => format!(
            "the catalog `{}` is filtered in another way at {place}, and both would be written to `{target}`",
            mine.source
        ),
        (true, true) => format!(
            "the catalog `{}` is there twice, first at {place}",
            mine.source
        ),
        (true, false) => format!("`{}` is named at {place} too", mine.source),
        (false, _) => format!(
            "`{}` would land on `{target}` in the mirror, and so would `{}` at {place}",
            mine.source, other.source
        ),
    }
}

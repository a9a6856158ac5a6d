//! What the daemon holds in memory of the directory, its image sets and the runs under way.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::model::{
    desired::{Claims, Desired, Wanted},
    facts::Facts,
    image::{Repository, Tag},
    imageset::{ImageSet, Problem, SetName},
    plan::{self, PlanId},
    record::{Condition, PlanRecord, RunRecord, SetRecord, Trigger},
};

/// Everything that changes while the daemon runs and is not in the mirror.
#[derive(Default)]
pub(super) struct State {
    /// The directory's revision, once it was seen.
    pub(super) revision: Option<String>,
    /// Problems of the whole directory.
    pub(super) problems: Vec<Problem>,
    /// What is in the way of reading the directory: reason and sentence.
    pub(super) directory_trouble: Option<(&'static str, String)>,
    /// What is in the way of keeping the directory at its branch.
    pub(super) git_trouble: Option<String>,
    /// What is wrong with the files that say who may come in.
    pub(super) access_trouble: Option<String>,
    /// What is in the way of writing documents.
    pub(super) output_trouble: Option<String>,
    /// The image sets by name, those that went away too.
    pub(super) sets: BTreeMap<SetName, SetState>,
    /// Repositories of the mirror that did not exist when they were looked for, until a run takes them up.
    pub(super) empty: HashSet<Repository>,
    /// Image sets whose last run ended in the middle: what it brought may not be known.
    pub(super) unclean: HashSet<SetName>,
    /// Runs under way.
    pub(super) active: HashMap<String, ActiveRun>,
    /// Since when the daemon's conditions have been so.
    pub(super) conditions: Vec<Condition>,
}

/// One image set.
#[derive(Default)]
pub(super) struct SetState {
    /// Its file as shown to people; empty where it went away.
    pub(super) file: String,
    /// What it says; `None` where it is broken or went away.
    pub(super) set: Option<ImageSet>,
    /// Its document's identity.
    pub(super) document: Option<String>,
    /// What is wrong with its file.
    pub(super) problems: Vec<Problem>,
    /// Whether its file went away.
    pub(super) removed: bool,
    /// The revision seen last.
    pub(super) observed: String,
    /// What is remembered of it.
    pub(super) record: SetRecord,
    /// What was resolved last, and of which document.
    pub(super) resolved: Option<Arc<Resolved>>,
    /// The newest plan.
    pub(super) plan: Option<Arc<PlanRecord>>,
    /// What kept the last round from giving a plan.
    pub(super) failure: Option<RoundFailure>,
    /// How the last run ended, where it left something undone.
    pub(super) last_run: Option<RunRecord>,
    /// The document of which a run before this daemon's start left something undone.
    pub(super) unfinished: Option<String>,
    /// Whether the directory has been looked at for it since the daemon was started.
    pub(super) seen: bool,
    /// The run under way.
    pub(super) active: Option<String>,
    /// When tags and channels are read next.
    pub(super) next_refresh: Option<Timestamp>,
    /// How often in a row a round or run failed in passing.
    pub(super) setbacks: u32,
    /// Whether a round is being worked on.
    pub(super) busy: bool,
    /// Why another round is due once this one is over.
    pub(super) due: Option<Cause>,
    /// Why another round is due once the run under way is over.
    pub(super) after_run: Option<Cause>,
    /// Whether its file was found broken once, in a state that may be half-written, and is to be looked at again.
    pub(super) suspect: bool,
    /// Held while a plan is made, so that two callers do not ask upstream the same.
    pub(super) planning: Arc<tokio::sync::Mutex<()>>,
    /// What status says, with the times since which it is so.
    pub(super) conditions: Vec<Condition>,
}

/// Why a round is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A round or run failed in passing.
    Retry,
    /// Upstream is looked at again.
    Refresh,
    /// The directory changed.
    Commit,
}

impl From<Cause> for Trigger {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Retry => Trigger::Retry,
            Cause::Refresh => Trigger::Refresh,
            Cause::Commit => Trigger::Commit,
        }
    }
}

/// Why a round gave no plan.
#[derive(Debug, Clone)]
pub(super) struct RoundFailure {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) transient: bool,
}

/// What an image set meant when it was resolved.
pub(super) struct Resolved {
    /// The document's identity.
    pub(super) document: String,
    /// The content asked for.
    pub(super) desired: Desired,
    /// What tags and channels meant, and the manifests of sparse images; the rest is in the store.
    pub(super) facts: Facts,
}

impl SetState {
    /// Whether the directory has it and it is in order.
    pub(super) fn is_usable(&self) -> bool {
        self.set.is_some() && !self.removed
    }

    /// The last resolution, if it is of the present document.
    pub(super) fn resolution(&self) -> Option<&Arc<Resolved>> {
        self.resolved
            .as_ref()
            .filter(|r| Some(&r.document) == self.document.as_ref())
    }

    /// What it wants in the mirror, as far as is known: by its last resolution, else by its last applied plan.
    pub(super) fn wants(&self) -> &[Wanted] {
        match self.resolution() {
            Some(resolved) if self.is_usable() => &resolved.desired.images,
            _ => &self.record.wanted,
        }
    }

    /// Why a round is due now that the directory says something else than is known. After a start everything is new, but what was
    /// applied before or begun before is no commit.
    pub(super) fn cause(&self, first_look: bool) -> Cause {
        let Some(document) = self.document.as_ref().filter(|_| first_look) else {
            return Cause::Commit;
        };
        if self.unfinished.as_ref() == Some(document) {
            Cause::Retry
        } else if self.record.applied_document.as_ref() == Some(document) {
            Cause::Refresh
        } else {
            Cause::Commit
        }
    }

    /// Takes in what the directory says now; whether the document is another one.
    pub(super) fn observe(
        &mut self,
        file: &str,
        set: Option<ImageSet>,
        problems: Vec<Problem>,
        revision: &str,
    ) -> bool {
        let document = set.as_ref().map(|s| plan::document_digest(s).to_string());
        let changed = self.removed || self.document != document;
        self.file = file.to_owned();
        self.record.file = file.to_owned();
        self.removed = false;
        self.problems = problems;
        self.observed = revision.to_owned();
        if changed {
            self.failure = None;
            self.setbacks = 0;
        }
        // A file that is broken for now keeps what its last good state meant, but nothing is planned from it.
        self.document = document;
        self.set = set;
        changed
    }
}

/// What other image sets claim of the places that `wanted` has, and have a better claim to.
///
/// Who has had a place applied keeps it, else it goes by name: two sets that want one place come to the same answer whichever
/// is planned first, and never take it from one another in turn.
pub(super) fn claims(
    sets: &BTreeMap<SetName, SetState>,
    but: &SetName,
    wanted: &[Wanted],
) -> Claims {
    let places: HashSet<Place<'_>> = wanted.iter().map(place).collect();
    let mine = sets
        .get(but)
        .map_or_else(HashSet::new, |state| applied(state, &places));
    let others = sets
        .iter()
        .filter(|(name, state)| *name != but && !state.removed);
    let mut claims = Claims::new();
    for (name, state) in others {
        let theirs = applied(state, &places);
        let better = |place: &Place<'_>| match (theirs.contains(place), mine.contains(place)) {
            (true, false) => true,
            (false, true) => false,
            _ => name < but,
        };
        for w in state.wants() {
            if places.contains(&place(w)) && better(&place(w)) {
                claims.insert(place_of(w), (name.clone(), w.clone()));
            }
        }
    }
    claims
}

fn place_of(wanted: &Wanted) -> (Repository, Tag) {
    (wanted.target.clone(), wanted.tag.clone())
}

type Place<'a> = (&'a Repository, &'a Tag);

fn place(wanted: &Wanted) -> Place<'_> {
    (&wanted.target, &wanted.tag)
}

/// Which of `places` an image set has had applied.
fn applied<'a>(state: &'a SetState, places: &HashSet<Place<'a>>) -> HashSet<Place<'a>> {
    let held = state.record.wanted.iter().map(place);
    held.filter(|place| places.contains(place)).collect()
}

/// A run under way, for those who follow it.
pub(super) struct ActiveRun {
    /// The plan it performs.
    pub(super) plan: PlanId,
    /// How it stands now.
    pub(super) record: watch::Receiver<RunRecord>,
    /// Images as they end.
    pub(super) images: broadcast::Sender<ImageFinished>,
    /// Ends it.
    pub(super) cancel: CancellationToken,
}

/// How one image of a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFinished {
    /// The image's source.
    pub image: String,
    /// Its place in the mirror.
    pub target: String,
    /// What it is, by digest.
    pub digest: String,
    /// How it ended.
    pub outcome: ImageOutcome,
    /// Bytes the plan counted for it.
    pub bytes: u64,
    /// Why it failed.
    pub cause: String,
}

/// How an image ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageOutcome {
    /// It is in the mirror.
    Landed,
    /// It is not.
    Failed,
    /// Nobody wanted it any more.
    Skipped,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{desired::Kind, image::Digest};

    fn wanted(source: &str) -> Wanted {
        Wanted {
            target: "m.lan/app".parse().unwrap(),
            tag: "1".parse().unwrap(),
            kind: Kind::Additional,
            source: source.parse().unwrap(),
            asked_tag: None,
            digest: Digest::of(source.as_bytes()),
            platforms: vec![],
            unit: source.into(),
            entry: source.into(),
        }
    }

    #[test]
    fn what_was_there_before_a_start_is_no_commit() {
        let state = |applied: Option<&str>, unfinished: Option<&str>| SetState {
            document: Some("d".into()),
            unfinished: unfinished.map(Into::into),
            record: SetRecord {
                applied_document: applied.map(Into::into),
                ..SetRecord::default()
            },
            ..SetState::default()
        };
        let causes = |state: SetState| [state.cause(true), state.cause(false)];
        let commit = Cause::Commit;
        assert_eq!(causes(state(None, None)), [commit, commit]);
        assert_eq!(causes(state(Some("c"), Some("c"))), [commit, commit]);
        assert_eq!(causes(state(Some("d"), None)), [Cause::Refresh, commit]);
        assert_eq!(causes(state(Some("c"), Some("d"))), [Cause::Retry, commit]);
    }

    #[test]
    fn of_two_sets_that_want_one_place_one_yields_whoever_is_planned_first() {
        let (a, b) = (SetName("a".into()), SetName("b".into()));
        let (of_a, of_b) = (wanted("q.io/a"), wanted("q.io/b"));
        let sets = |applied_by_b: bool| {
            let resolved = |w: &Wanted| SetState {
                set: Some(ImageSet::default()),
                document: Some("d".into()),
                resolved: Some(Arc::new(Resolved {
                    document: "d".into(),
                    desired: Desired {
                        images: vec![w.clone()],
                        ..Desired::default()
                    },
                    facts: Facts::default(),
                })),
                ..SetState::default()
            };
            let mut sets =
                BTreeMap::from([(a.clone(), resolved(&of_a)), (b.clone(), resolved(&of_b))]);
            if applied_by_b {
                sets.get_mut(&b).unwrap().record.wanted = vec![of_b.clone()];
            }
            sets
        };
        let claimants = |applied_by_b, but: &SetName, w: &Wanted| {
            let claims = claims(&sets(applied_by_b), but, std::slice::from_ref(w));
            claims.into_values().next().map(|c| c.0)
        };
        assert_eq!(claimants(false, &a, &of_a), None);
        assert_eq!(claimants(false, &b, &of_b), Some(a.clone()));
        assert_eq!(claimants(true, &a, &of_a), Some(b.clone()));
        assert_eq!(claimants(true, &b, &of_b), None);
    }
}

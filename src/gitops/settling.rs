//! Decides when what was found has come to rest.
//!
//! **Invariant:** a rule over values; the time is an argument.

use std::time::Duration;

use crate::gitops::{Observation, look::Found};

/// How many times the settle time something may be under way before it is said.
const PATIENCE: u32 = 30;

/// The least time after which something under way is said.
const LEAST_PATIENCE: Duration = Duration::from_secs(30);

/// What to do after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has settled.
    Settled(Observation),
    /// Look again after this long.
    Again(Duration),
}

/// Remembers since when the same has been found.
#[derive(Debug)]
pub(super) struct Settling {
    settle: Duration,
    /// What was found, and the first time in a row that it was; times are since any fixed moment.
    pending: Option<(Found, Duration)>,
    restless_since: Option<Duration>,
    settled: Option<Found>,
}

impl Settling {
    pub(super) fn new(settle: Duration) -> Self {
        Settling {
            // Zero would mean to look without a pause.
            settle: settle.max(Duration::from_millis(10)),
            pending: None,
            restless_since: None,
            settled: None,
        }
    }

    /// Takes in what a look found; `now` is the time when the look began.
    pub(super) fn judge(&mut self, found: Found, now: Duration) -> Verdict {
        let committed = matches!(found, Found::Committed(_));
        if committed || self.settled.as_ref() == Some(&found) {
            return self.rest(found);
        }
        let restless_since = *self.restless_since.get_or_insert(now);
        let since = match &self.pending {
            Some((pending, since)) if *pending == found => *since,
            _ => now,
        };
        let quiet = now.saturating_sub(since);
        let busy = matches!(found, Found::Busy(_));
        if !busy && quiet >= self.settle {
            return self.rest(found);
        }
        let verdict = if now.saturating_sub(restless_since) >= self.patience() {
            Verdict::Settled(unsettled(&found))
        } else {
            Verdict::Again(self.settle.saturating_sub(quiet).max(self.settle / 4))
        };
        self.pending = Some((found, since));
        verdict
    }

    /// How long something may be under way before it is said.
    fn patience(&self) -> Duration {
        (self.settle * PATIENCE).max(LEAST_PATIENCE)
    }

    /// Returns how soon to look again at what has not settled though it was said.
    pub(super) fn restless(&self) -> Option<Duration> {
        self.restless_since.map(|_| self.settle)
    }

    fn rest(&mut self, found: Found) -> Verdict {
        self.pending = None;
        self.restless_since = None;
        self.settled = Some(found.clone());
        Verdict::Settled(observation(found))
    }
}

fn observation(found: Found) -> Observation {
    match found {
        Found::Committed(checkout) | Found::Files(checkout) => Observation::Checkout(checkout),
        Found::Missing(why) => Observation::Missing { why },
        Found::Busy(why) => Observation::Unsettled { why },
    }
}

fn unsettled(found: &Found) -> Observation {
    let why = match found {
        Found::Busy(why) => why.clone(),
        _ => "the files of the directory keep changing; let whatever writes them come to rest"
            .to_owned(),
    };
    Observation::Unsettled { why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitops::{Checkout, File, Revision};

    const SETTLE: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn checkout(text: &str) -> Checkout {
        let files = vec![File {
            path: "/sets/a.yaml".into(),
            name: "a.yaml".into(),
            bytes: Ok(text.into()),
        }];
        Checkout {
            revision: Revision::of_files(&files),
            files,
        }
    }

    fn files(text: &str) -> Found {
        Found::Files(checkout(text))
    }

    fn settled(text: &str) -> Verdict {
        Verdict::Settled(Observation::Checkout(checkout(text)))
    }

    #[test]
    fn committed_files_settle_at_once() {
        let mut settling = Settling::new(SETTLE);
        assert_eq!(
            settling.judge(Found::Committed(checkout("a")), at(0)),
            settled("a")
        );
    }

    #[test]
    fn other_files_settle_when_they_stay() {
        let mut settling = Settling::new(SETTLE);
        assert_eq!(settling.judge(files("a"), at(0)), Verdict::Again(SETTLE));
        assert_eq!(settling.judge(files("ab"), at(1)), Verdict::Again(SETTLE));
        assert_eq!(settling.judge(files("ab"), at(2)), Verdict::Again(at(1)));
        assert_eq!(settling.judge(files("ab"), at(3)), settled("ab"));
    }

    #[test]
    fn what_is_settled_is_not_waited_for_again() {
        let mut settling = Settling::new(SETTLE);
        settling.judge(files("a"), at(0));
        settling.judge(files("a"), at(2));
        settling.judge(files("b"), at(60));
        assert_eq!(settling.judge(files("a"), at(61)), settled("a"));
    }

    #[test]
    fn a_moment_without_files_is_not_said() {
        let mut settling = Settling::new(SETTLE);
        settling.judge(Found::Committed(checkout("a")), at(0));
        let gone = Found::Missing("gone".into());
        assert_eq!(settling.judge(gone.clone(), at(1)), Verdict::Again(SETTLE));
        assert_eq!(
            settling.judge(Found::Committed(checkout("b")), at(2)),
            settled("b")
        );
        settling.judge(gone.clone(), at(3));
        assert_eq!(
            settling.judge(gone, at(5)),
            Verdict::Settled(Observation::Missing { why: "gone".into() })
        );
    }

    #[test]
    fn a_lock_that_stays_is_said_and_never_settles() {
        let mut settling = Settling::new(SETTLE);
        let busy = Found::Busy("a merge".into());
        assert!(matches!(
            settling.judge(busy.clone(), at(0)),
            Verdict::Again(_)
        ));
        assert!(matches!(
            settling.judge(busy.clone(), at(30)),
            Verdict::Again(_)
        ));
        let said = Verdict::Settled(Observation::Unsettled {
            why: "a merge".into(),
        });
        assert_eq!(settling.judge(busy.clone(), at(60)), said);
        assert_eq!(settling.judge(busy, at(61)), said);
        assert_eq!(settling.restless(), Some(SETTLE));
        settling.judge(Found::Committed(checkout("a")), at(62));
        assert_eq!(settling.restless(), None);
    }

    #[test]
    fn files_that_never_rest_are_said() {
        let mut settling = Settling::new(SETTLE);
        let mut last = Verdict::Again(at(0));
        for second in 0..=60 {
            last = settling.judge(files(&second.to_string()), at(second));
        }
        assert!(matches!(
            last,
            Verdict::Settled(Observation::Unsettled { .. })
        ));
    }
}

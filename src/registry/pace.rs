//! How much is asked of a registry at once: a window for each kind of request, which grows while all is well and is halved when the
//! registry says that it is too much.
//!
//! Registries budget kinds of requests apart from one another (Quay's nginx has buckets for manifests, blobs, tag lists and
//! tokens), so what one kind runs into slows no other down. Where the whole registry is busy (503), all wait.
//!
//! **Invariant:** a window never closes altogether, and never opens wider than the site allows.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::registry::{
    error::{Error, Fault},
    protocol::Lane,
};

/// How wide a window is before anything is known: below the burst that Quay allows for manifests (10).
const FIRST: usize = 8;

/// How many tag lists, or pages of repositories, are asked for at once: Quay allows 5 a second and bursts of 2.
const LISTS: usize = 1;

/// How many tokens are asked for at once: Quay allows bursts of 2.
const TOKENS: usize = 2;

/// The first rest after a refusal that does not say how long; each further one in a row is twice as long, up to [`LONGEST`].
const REST: Duration = Duration::from_millis(250);

const LONGEST: Duration = Duration::from_secs(8);

/// The longest rest that is waited for; a longer one is the caller's to decide on.
pub(super) const MAX_REST: Duration = Duration::from_secs(120);

/// The longest rest that is granted at all: a registry may mean another time than it says.
const MAX_GRANTED: Duration = Duration::from_secs(3600);

/// The windows of one registry.
#[derive(Debug)]
pub(super) struct Pace {
    windows: [Window; Lane::ALL.len()],
    /// Until when nothing at all is sent.
    rests: Mutex<Option<Instant>>,
}

/// One kind's window: its permits are what there is of it, some of them out with requests.
#[derive(Debug)]
struct Window {
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rule: Rule,
    /// Permits that are to be taken away as they come back.
    owed: usize,
    rests: Option<Instant>,
}

/// How wide a window is, as answers come in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    size: usize,
    cap: usize,
    /// Answers since it grew last.
    credit: usize,
    /// Whether nothing was ever refused: then it grows with every answer.
    fast: bool,
    /// How often it was halved; a request belongs to the window it was sent in.
    halved: u64,
    /// Halvings in a row, without a whole window of good answers between.
    strikes: u32,
}

impl Rule {
    fn new(cap: usize) -> Self {
        Rule {
            size: cap.min(FIRST),
            cap,
            credit: 0,
            fast: true,
            halved: 0,
            strikes: 0,
        }
    }

    /// Takes in a good answer; whether the window is wider by one.
    fn worked(&mut self) -> bool {
        self.credit += 1;
        if !self.fast && self.credit < self.size {
            return false;
        }
        self.credit = 0;
        self.strikes = 0;
        let grows = self.size < self.cap;
        self.size += usize::from(grows);
        grows
    }

    /// Takes in a refusal of a request that was sent when the window had been halved `sent` times. Returns how much narrower the
    /// window is; nothing where the refusal tells of a window that was halved already.
    fn refused(&mut self, sent: u64) -> Option<usize> {
        if sent < self.halved {
            return None;
        }
        let before = self.size;
        self.size = (before / 2).max(1);
        self.fast = false;
        self.credit = 0;
        self.halved += 1;
        self.strikes += 1;
        Some(before - self.size)
    }

    /// How long the window rests after a refusal that does not say how long.
    fn rest(&self) -> Duration {
        let doublings = self.strikes.saturating_sub(1).min(8);
        (REST * (1 << doublings)).min(LONGEST)
    }
}

/// Leave to send one request; its place is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    pace: Arc<Pace>,
    lane: Lane,
    /// How often the window had been halved by then.
    sent: u64,
    permit: Option<OwnedSemaphorePermit>,
}

impl Pace {
    /// Windows that grow to at most `cap`.
    pub(super) fn new(cap: usize) -> Arc<Self> {
        let cap = cap.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Pace {
            windows: Lane::ALL.map(|lane| {
                Window::new(match lane {
                    Lane::List => cap.min(LISTS),
                    Lane::Token => cap.min(TOKENS),
                    _ => cap,
                })
            }),
            rests: Mutex::default(),
        })
    }

    /// Waits for a place in the window of `lane`, and until it rests no more; what goes on `again` needs no place.
    ///
    /// `Err` says how long the window rests yet, where that is too long to wait for: nobody is to be asked before.
    pub(super) async fn admit(
        self: &Arc<Self>,
        lane: Lane,
        again: bool,
    ) -> Result<Admission, Duration> {
        let window = self.window(lane);
        let permit = match again {
            true => None,
            // Nobody closes it.
            false => window.permits.clone().acquire_owned().await.ok(),
        };
        let mut admission = Admission {
            pace: self.clone(),
            lane,
            sent: 0,
            permit,
        };
        while let Some(until) = self.resting(lane) {
            let left = until.saturating_duration_since(Instant::now());
            if left > MAX_REST {
                return Err(left);
            }
            tokio::time::sleep_until(until).await;
        }
        admission.sent = lock(&window.state).rule.halved;
        Ok(admission)
    }

    /// Until when requests of this kind wait, where that is not over.
    fn resting(&self, lane: Lane) -> Option<Instant> {
        let own = lock(&self.window(lane).state).rests;
        let all = *lock(&self.rests);
        own.max(all).filter(|until| *until > Instant::now())
    }

    fn window(&self, lane: Lane) -> &Window {
        &self.windows[lane as usize]
    }
}

impl Window {
    fn new(cap: usize) -> Self {
        let rule = Rule::new(cap);
        Window {
            permits: Arc::new(Semaphore::new(rule.size)),
            state: Mutex::new(State {
                rule,
                owed: 0,
                rests: None,
            }),
        }
    }

    fn widen(&self) {
        let mut state = lock(&self.state);
        if !state.rule.worked() {
            return;
        }
        match state.owed {
            0 => self.permits.add_permits(1),
            _ => state.owed -= 1,
        }
    }

    /// Halves the window and returns how long it rests; nothing where that has happened for this reason already.
    fn narrow(&self, sent: u64, asked: Option<Duration>) -> Option<Duration> {
        let mut state = lock(&self.state);
        let less = state.rule.refused(sent)?;
        state.owed += less - self.permits.forget_permits(less);
        let rest = asked.unwrap_or_else(|| state.rule.rest()).min(MAX_GRANTED);
        state.rests = state.rests.max(Some(Instant::now() + rest));
        Some(rest)
    }
}

impl Admission {
    /// Takes in how the request was answered.
    pub(super) fn answered(&self, status: StatusCode, retry_after: Option<Duration>) {
        match status {
            StatusCode::TOO_MANY_REQUESTS => self.too_much(retry_after, false),
            StatusCode::SERVICE_UNAVAILABLE => self.too_much(retry_after, true),
            status if status.is_server_error() => {}
            _ => self.pace.window(self.lane).widen(),
        }
    }

    /// Takes in a failure to be answered at all.
    pub(super) fn heeding<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Unreachable {
            fault: Fault::Throttled,
            ..
        }) = &answer
        {
            self.too_much(None, true);
        }
        answer
    }

    /// Takes in that the registry asked for less.
    pub(super) fn too_much(&self, retry_after: Option<Duration>, everywhere: bool) {
        let window = self.pace.window(self.lane);
        let Some(rest) = window.narrow(self.sent, retry_after) else {
            return;
        };
        let width = lock(&window.state).rule.size;
        tracing::debug!(lane = ?self.lane, width, ?rest, "the registry asks for less");
        if everywhere {
            let mut rests = lock(&self.pace.rests);
            *rests = rests.max(Some(Instant::now() + rest));
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = lock(&self.pace.window(self.lane).state);
        if state.owed == 0 {
            return;
        }
        if let Some(permit) = self.permit.take() {
            state.owed -= 1;
            permit.forget();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_doubles_until_the_first_refusal_and_then_grows_by_one() {
        let mut rule = Rule::new(32);
        assert_eq!(rule.size, 8);
        for _ in 0..8 {
            rule.worked();
        }
        assert_eq!(rule.size, 16, "doubled by a window's answers");
        assert_eq!(rule.refused(0), Some(8));
        for _ in 0..8 {
            rule.worked();
        }
        assert_eq!(rule.size, 9, "one more by a window's answers");
    }

    #[test]
    fn a_burst_of_refusals_halves_once_and_nothing_closes_a_window() {
        let mut rule = Rule::new(32);
        assert_eq!(rule.refused(0), Some(4));
        assert_eq!(rule.refused(0), None, "sent before it was halved");
        assert_eq!(rule.refused(1), Some(2));
        assert_eq!(rule.refused(2), Some(1));
        assert_eq!(rule.refused(3), Some(0));
        assert_eq!(rule.size, 1);
    }

    #[test]
    fn a_cap_is_never_passed_and_may_be_one() {
        let mut rule = Rule::new(1);
        assert!(!rule.worked() && !rule.worked());
        assert_eq!((rule.size, rule.refused(0)), (1, Some(0)));
        assert!(!rule.worked());
        assert_eq!(rule.size, 1);
    }

    #[test]
    fn rests_grow_while_refusals_follow_one_another() {
        let mut rule = Rule::new(8);
        let mut rests = Vec::new();
        for sent in 0..8 {
            rule.refused(sent);
            rests.push(rule.rest().as_millis());
        }
        assert_eq!(rests, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert!(rule.worked());
        assert_eq!(rule.strikes, 0, "a whole window of one was well");
    }

    /// How many requests get a place at once.
    async fn places(pace: &Arc<Pace>, lane: Lane) -> Vec<Admission> {
        let mut held = Vec::new();
        let soon = Duration::from_millis(1);
        while let Ok(admission) = tokio::time::timeout(soon, pace.admit(lane, false)).await {
            held.push(admission.unwrap());
        }
        held
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_do_not_starve_one_another_and_lists_go_one_by_one() {
        let pace = Pace::new(32);
        let downloads = places(&pace, Lane::Download).await;
        assert_eq!(downloads.len(), 8);
        assert_eq!(places(&pace, Lane::Metadata).await.len(), 8);
        assert_eq!(places(&pace, Lane::List).await.len(), 1);
        assert_eq!(places(&pace, Lane::Token).await.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_takes_places_away_also_those_that_are_out() {
        let pace = Pace::new(32);
        let held = places(&pace, Lane::Metadata).await;
        held[0].answered(StatusCode::TOO_MANY_REQUESTS, Some(Duration::from_secs(7)));
        held[1].answered(StatusCode::TOO_MANY_REQUESTS, None);
        drop(held);
        let begin = Instant::now();
        let first = pace.admit(Lane::Metadata, false).await.unwrap();
        assert_eq!(
            begin.elapsed(),
            Duration::from_secs(7),
            "as it was asked to"
        );
        assert_eq!(places(&pace, Lane::Metadata).await.len() + 1, 4);
        for _ in 0..4 {
            first.answered(StatusCode::NOT_FOUND, None);
        }
        assert_eq!(places(&pace, Lane::Metadata).await.len() + 1, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_registry_is_left_alone_by_all_kinds_and_not_for_ever() {
        let pace = Pace::new(32);
        let admission = pace.admit(Lane::Upload, false).await.unwrap();
        let minute = Some(Duration::from_secs(60));
        admission.answered(StatusCode::SERVICE_UNAVAILABLE, minute);
        let begin = Instant::now();
        let admission = pace.admit(Lane::Metadata, true).await.unwrap();
        assert_eq!(begin.elapsed(), Duration::from_secs(60));
        let day = Some(Duration::from_secs(86_400));
        admission.answered(StatusCode::SERVICE_UNAVAILABLE, day);
        let told = pace.admit(Lane::Download, false).await.err();
        assert_eq!(told, Some(MAX_GRANTED), "nobody waits so long");
        tokio::time::sleep(MAX_GRANTED - MAX_REST).await;
        assert!(pace.admit(Lane::Download, false).await.is_ok());
    }
}

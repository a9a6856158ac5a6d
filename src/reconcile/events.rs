//! What happens, as it happens, for whoever listens.
//!
//! An event is told once and not kept: who was not there asks for the status, or begins with what stands.

use std::{collections::VecDeque, sync::Arc};

use jiff::Timestamp;
use tokio::sync::broadcast;

use super::{Error, Handle, Inner, PlanView};
use crate::model::{
    imageset::SetName,
    record::{Freshness, PlanRecord, RunRecord},
};

/// How many events a listener may lag behind before it misses some.
const ROOM: usize = 1024;

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// To which image set; none where several are concerned.
    pub set: Option<SetName>,
    /// What.
    pub what: What,
    /// Whether it happened before and still stands, rather than now.
    pub standing: bool,
}

/// What can happen.
#[derive(Debug, Clone)]
pub enum What {
    /// The directory says something else of an image set, or nothing any more.
    SetChanged {
        /// The revision that says so.
        revision: String,
        /// What changed, one sentence.
        message: String,
    },
    /// There is a plan that was not there before, with something to do.
    PlanReady(PlanView),
    /// A run began.
    RunStarted(RunRecord),
    /// How far a run is, about once a second.
    RunProgress(RunRecord),
    /// A run ended.
    RunEnded(RunRecord),
    /// The mirror lacks something that it held; one sentence.
    Drifted(String),
    /// So many events were missed, because they were not read in time.
    Missed(u64),
}

/// Tells events to all who listen.
#[derive(Debug)]
pub(super) struct News(broadcast::Sender<Event>);

impl Default for News {
    fn default() -> Self {
        News(broadcast::channel(ROOM).0)
    }
}

impl News {
    /// Tells an event. That nobody listens is no error.
    pub(super) fn tell(&self, set: &SetName, what: What) {
        let _ = self.0.send(Event::now(Some(set.clone()), what));
    }

    /// Tells of a plan that has something to do.
    pub(super) fn plan_ready(&self, plan: &Arc<PlanRecord>) {
        self.tell(&plan.plan.set, What::PlanReady(fresh(plan)));
    }
}

impl Event {
    fn now(set: Option<SetName>, what: What) -> Self {
        Event {
            at: Timestamp::now(),
            set,
            what,
            standing: false,
        }
    }
}

fn fresh(plan: &Arc<PlanRecord>) -> PlanView {
    PlanView {
        record: plan.clone(),
        freshness: Freshness::Fresh,
    }
}

/// Events for one listener.
pub struct Events {
    standing: VecDeque<Event>,
    live: Option<broadcast::Receiver<Event>>,
    set: Option<SetName>,
}

impl Events {
    /// Returns the next event; `None` once there are no more.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.standing.pop_front() {
            return Some(event);
        }
        loop {
            match self.live.as_mut()?.recv().await {
                Ok(event) if self.is_wanted(&event) => return Some(event),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    return Some(Event::now(None, What::Missed(count)));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    fn is_wanted(&self, event: &Event) -> bool {
        self.set.is_none() || event.set.is_none() || self.set == event.set
    }
}

impl Handle {
    /// Returns what stands, plans that wait, runs that go on and content that was lost, and with `follow` what happens from now on, of one image set or
    /// all. Between the two nothing is missed; something may be told in both.
    pub fn events(&self, set: Option<&str>, follow: bool) -> Result<Events, Error> {
        let set = set.map(|set| self.find_set(set)).transpose()?;
        let live = follow.then(|| self.inner.news.0.subscribe());
        let standing = self.inner.standing();
        let mut events = Events {
            standing: VecDeque::new(),
            live,
            set,
        };
        events.standing = standing
            .into_iter()
            .filter(|event| events.is_wanted(event))
            .collect();
        Ok(events)
    }
}

impl Inner {
    fn standing(&self) -> Vec<Event> {
        let state = self.state();
        let mut standing = Vec::new();
        for (name, set) in &state.sets {
            let run = set.active.as_ref().and_then(|id| state.active.get(id));
            let of_set = |at, what| Event {
                at,
                set: Some(name.clone()),
                what,
                standing: true,
            };
            if let Some(drift) = &set.record.drift {
                standing.push(of_set(drift.found, What::Drifted(drift.sentence(name))));
            }
            if let Some(run) = run {
                let record = run.record.borrow().clone();
                standing.push(of_set(record.started, What::RunStarted(record)));
            } else if let Some(plan) = set.plan.as_ref().filter(|plan| !plan.applied)
                && set.is_usable()
            {
                standing.push(of_set(plan.created, What::PlanReady(fresh(plan))));
            }
        }
        standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(news: &News, set: &str) {
        let what = What::SetChanged {
            revision: "r".to_owned(),
            message: String::new(),
        };
        news.tell(&SetName(set.to_owned()), what);
    }

    fn listening(news: &News, set: Option<&str>) -> Events {
        Events {
            standing: VecDeque::new(),
            live: Some(news.0.subscribe()),
            set: set.map(|set| SetName(set.to_owned())),
        }
    }

    #[tokio::test]
    async fn a_listener_hears_of_its_image_set_alone() {
        let news = News::default();
        let mut events = listening(&news, Some("b"));
        ["a", "b"].iter().for_each(|set| changed(&news, set));
        drop(news);
        let heard = events.next().await.unwrap();
        assert_eq!(heard.set.unwrap().0, "b");
        assert!(!heard.standing);
        assert!(events.next().await.is_none());
    }

    #[tokio::test]
    async fn who_reads_too_slowly_is_told_how_much_was_missed() {
        let news = News::default();
        let mut events = listening(&news, Some("a"));
        (0..ROOM + 3).for_each(|_| changed(&news, "a"));
        let heard = events.next().await.unwrap().what;
        assert!(matches!(heard, What::Missed(3)), "{heard:?}");
        assert!(events.next().await.is_some());
    }
}

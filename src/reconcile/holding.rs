//! Documents that wait: which, why and until when, and what lets them go.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{
    Clock, Error, Handle, Inner, Released,
    documents::Change,
    state::{Resolved, SetState, Waiting},
};
use crate::{
    cluster::{
        document::Document,
        forecast::Forecast,
        hold::{self, Held, Picture},
        published::Published,
        render::Rendering,
    },
    model::{
        desired::Desired,
        imageset::SetName,
        policy::HoldDocuments,
        record::{ClusterImpact, HeldDocument},
        window,
    },
};

/// How long after a failure documents that were to be let go are tried again.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// What a rendering does to clusters, and what of it may be written.
pub(super) struct Weighed {
    /// The documents as they may be written now.
    pub(super) documents: Vec<Document>,
    /// Those that wait.
    pub(super) held: Vec<Held>,
    /// What all of the rendering does to each cluster that takes the image set's documents, as the cluster is in its picture.
    pub(super) clusters: Vec<ClusterImpact>,
    /// What writing does to each beyond what is published.
    pub(super) adds: Vec<ClusterImpact>,
}

impl Handle {
    /// Writes the documents of an image set that wait; with `dry_run` only says what that would change.
    pub async fn publish(&self, set: &str, dry_run: bool) -> Result<Released, Error> {
        let name = self.find_set(set)?;
        let change = self
            .inner
            .publish_known(&name, Some(&name), dry_run)
            .await?;
        if !dry_run {
            tracing::info!(image_set = %name, "documents published by request");
        }
        self.inner.touch();
        Ok(Released {
            documents: change.documents,
            impact: change.impact,
            clusters: change.clusters,
        })
    }

    /// Which documents of an image set wait now, why, and until when or for what; nothing where none does.
    pub fn documents_held(&self, set: &SetName) -> Option<String> {
        let waiting = |state: &SetState| state.waiting.as_ref().map(|w| w.message.clone());
        self.inner.peek(set, waiting)
    }

    /// Lets go the documents whose window has opened.
    pub(super) fn start_releases(&self) {
        let now = self.inner.now();
        for name in self.inner.take_due_releases(now) {
            let handle = self.clone();
            self.inner.tracker.spawn(async move {
                let released = handle.inner.publish_known(&name, None, false).await;
                if let Err(error) = released {
                    tracing::warn!(image_set = %name, %error, "documents that were to be written now wait");
                    handle.inner.hold_until(&name, now + AGAIN_AFTER);
                }
                handle.inner.touch();
                handle.inner.wake.notify_one();
            });
        }
    }

    /// Looks at what is due now rather than when it would: the clock is another one than it was.
    pub fn look_at_clock(&self) {
        self.inner.wake.notify_one();
    }
}

impl Inner {
    /// The time by which windows open.
    pub(super) fn now(&self) -> Timestamp {
        let Clock(clock) = &self.clock;
        clock()
    }

    /// Says what a rendering does to clusters, and keeps back what has to wait; nothing of `free`.
    pub(super) async fn weigh(
        &self,
        set: &SetName,
        published: &Published,
        rendering: &Rendering,
        free: Option<&SetName>,
    ) -> Result<Weighed, Error> {
        let pictures = self.pictures().await?;
        let (before, after) = (&published.documents, &rendering.documents);
        let now = self.now();
        let waits = |name: &SetName| Some(name) != free && self.waits(name, now);
        let (documents, held) = hold::sift(before, after, &pictures, waits);
        let taking = || pictures.iter().filter(|picture| picture.takes(set));
        let of = |picture: &Picture, forecast: &Forecast| ClusterImpact {
            cluster: picture.cluster.clone(),
            impact: forecast.into(),
            pictured: picture.taken,
        };
        let clusters = taking().map(|p| of(p, &p.forecast(before, after)));
        let adds = taking().map(|p| of(p, &p.step(before, &documents)));
        Ok(Weighed {
            clusters: clusters.collect(),
            adds: adds.collect(),
            documents,
            held,
        })
    }

    /// Whether documents of an image set that disturb nodes wait now.
    fn waits(&self, set: &SetName, now: Timestamp) -> bool {
        let policy = self.settings.policy_for(set);
        policy.hold_documents == HoldDocuments::Drains
            && window::open_until(&policy.windows, now).is_none()
    }

    /// Writes what has landed of what an image set had applied last.
    pub(super) async fn publish_known(
        &self,
        set: &SetName,
        free: Option<&SetName>,
        dry_run: bool,
    ) -> Result<Change, Error> {
        let (resolved, remembered) = self.peek(set, |state| {
            let applied = |r: &&std::sync::Arc<Resolved>| {
                state.record.applied_document.as_ref() == Some(&r.document)
            };
            (
                state.resolution().filter(applied).cloned(),
                remembered(state),
            )
        });
        let (desired, facts) = match &resolved {
            Some(resolved) => (&resolved.desired, Some(&resolved.facts)),
            // Not resolved since the start, or something else by now that nobody applied.
            None => (&remembered, None),
        };
        self.publish_as(set, desired, facts, free, dry_run).await
    }

    /// Remembers which documents wait after those of `set` were seen to. What else is found to wait is remembered too, but that of
    /// another image set nothing is found says nothing: a run of it may have landed what it has not put down yet.
    pub(super) fn note_all_held(&self, set: &SetName, held: &[Held]) {
        let others = held.iter().map(|held| &held.set);
        let names: BTreeSet<&SetName> = others.chain([set]).collect();
        for name in names {
            self.note_held(name, held);
        }
    }

    /// Remembers which documents of an image set wait.
    pub(super) fn note_held(&self, set: &SetName, held: &[Held]) {
        let next = window::next(&self.settings.policy_for(set).windows, self.now());
        let mine: Vec<&Held> = held.iter().filter(|h| h.set == *set).collect();
        self.with_set(set, |state| state.waiting = waiting(set, &mine, next));
    }

    /// Takes the image sets whose documents may be looked at again now.
    fn take_due_releases(&self, now: Timestamp) -> Vec<SetName> {
        let mut due = Vec::new();
        for (name, state) in &mut self.state().sets {
            let waiting = state.waiting.as_mut().filter(|_| !state.removed);
            if let Some(waiting) = waiting
                && waiting.until.is_some_and(|until| until <= now)
            {
                waiting.until = None;
                due.push(name.clone());
            }
        }
        due
    }

    fn hold_until(&self, set: &SetName, until: Timestamp) {
        self.with_set(set, |state| {
            if let Some(waiting) = &mut state.waiting {
                waiting.until = Some(until);
            }
        });
    }

    /// Has all documents that wait looked at again.
    pub(super) fn hurry_held(&self) {
        let now = self.now();
        let mut state = self.state();
        let waiting = state.sets.values_mut().filter_map(|s| s.waiting.as_mut());
        waiting.for_each(|waiting| waiting.until = Some(now));
    }
}

/// What an image set stood for when it was applied last.
fn remembered(state: &SetState) -> Desired {
    Desired {
        images: state.record.wanted.clone(),
        templates: state.record.templates.clone(),
        ..Desired::default()
    }
}

/// What status says of documents that wait; nothing where none does.
fn waiting(set: &SetName, held: &[&Held], next: Option<(Timestamp, String)>) -> Option<Waiting> {
    let first = held.first()?;
    let count = match held.len() {
        1 => format!("{} waits", first.file_name),
        2 => format!("{} and 1 more document wait", first.file_name),
        n => format!("{} and {} more documents wait", first.file_name, n - 1),
    };
    let (until, reason, when) = match next {
        Some((at, said)) => (
            Some(at),
            "WaitsForWindow",
            format!(
                "a maintenance window opens at {said}; before that, `imagesetd resources publish {set}` writes it"
            ),
        ),
        None => (
            None,
            "WaitsForPerson",
            format!("`imagesetd resources publish {set}` writes it"),
        ),
    };
    Some(Waiting {
        until,
        reason,
        message: format!("{count}: {}; {when}", first.why),
    })
}

/// What plans show of documents that wait.
pub(super) fn shown<'a>(held: impl Iterator<Item = &'a Held>) -> Vec<HeldDocument> {
    let shown = held.map(|held| HeldDocument {
        name: held.name.clone(),
        file_name: held.file_name.clone(),
        kind: held.kind.to_owned(),
        why: held.why.clone(),
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(file: &str) -> Held {
        Held {
            set: SetName("prod".to_owned()),
            file_name: file.to_owned(),
            kind: "ImageTagMirrorSet",
            name: "prod-additional".to_owned(),
            why: "it drains nodes".to_owned(),
        }
    }

    #[test]
    fn status_says_what_waits_why_and_until_when() {
        let set = SetName("prod".to_owned());
        let (one, other) = (held("itms-a.yaml"), held("itms-b.yaml"));
        assert_eq!(waiting(&set, &[], None), None);
        assert_eq!(
            waiting(&set, &[&one], None),
            Some(Waiting {
                until: None,
                reason: "WaitsForPerson",
                message: "itms-a.yaml waits: it drains nodes; `imagesetd resources publish prod` writes it".to_owned(),
            })
        );
        let at = Timestamp::UNIX_EPOCH;
        let said = "1970-01-01 01:00 Europe/Berlin".to_owned();
        assert_eq!(
            waiting(&set, &[&one, &other], Some((at, said))),
            Some(Waiting {
                until: Some(at),
                reason: "WaitsForWindow",
                message: "itms-a.yaml and 1 more document wait: it drains nodes; a maintenance window opens at 1970-01-01 01:00 Europe/Berlin; before that, `imagesetd resources publish prod` writes it".to_owned(),
            })
        );
    }
}

//! What goes on for a while, as streams of answers.

use futures_util::stream::{self, Stream};
use tonic::Status;

use crate::{
    grpc::{
        convert::{self, given},
        v1,
    },
    reconcile::{Events, Feed, Handle},
};

/// Returns what happens in a run until it has ended.
pub(super) fn events(feed: Feed) -> impl Stream<Item = v1::RunEvent> + Send {
    stream::unfold(feed, async |mut feed: Feed| {
        let event = feed.next().await?;
        Some((convert::run_event(&event), feed))
    })
}

/// Returns what happens, of the kinds that are asked for.
pub(super) fn happenings(
    events: Events,
    kinds: Vec<i32>,
) -> impl Stream<Item = Result<v1::WatchEventsResponse, Status>> + Send {
    stream::unfold((events, kinds), async |(mut events, kinds)| {
        loop {
            let event = events.next().await?;
            if convert::is_wanted(&event, &kinds) {
                let answer = v1::WatchEventsResponse {
                    event: Some(convert::event(&event)),
                };
                return Some((Ok(answer), (events, kinds)));
            }
        }
    })
}

/// Returns the status at once and whenever it has changed; what changes while the client reads is told as one.
pub(super) fn statuses(
    handle: Handle,
    set: String,
) -> impl Stream<Item = Result<v1::WatchStatusResponse, Status>> + Send {
    let changes = handle.changes();
    stream::unfold(
        (handle, set, changes, true),
        async |(handle, set, mut changes, first)| {
            if !first {
                changes.changed().await.ok()?;
            }
            changes.borrow_and_update();
            let status = handle.status(given(&set)).map_err(|e| convert::refused(&e));
            let answer = status.map(|status| {
                let v1::GetStatusResponse { daemon, image_sets } = convert::status_answer(&status);
                v1::WatchStatusResponse { daemon, image_sets }
            });
            Some((answer, (handle, set, changes, false)))
        },
    )
}

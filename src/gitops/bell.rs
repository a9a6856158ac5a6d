//! Rings when something happened in one of the folders that matter.

use std::sync::Arc;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::gitops::look::Folders;

/// File events, reduced to "something happened".
///
/// Each folder is watched by itself, not recursively: `.git/objects` and the like stay out of it.
pub(super) struct Bell {
    rope: Arc<Notify>,
    armed: Folders,
    watcher: Option<RecommendedWatcher>,
}

impl Bell {
    pub(super) fn new(rope: Arc<Notify>) -> Self {
        Bell {
            rope,
            armed: Vec::new(),
            watcher: None,
        }
    }

    /// Waits until it rings; returns at once where it rang since the last time.
    pub(super) async fn rung(&self) {
        self.rope.notified().await;
    }

    /// Whether other folders are watched than these.
    pub(super) fn differs(&self, folders: &Folders) -> bool {
        self.armed != *folders
    }

    /// Watches `folders` from now on, and nothing else.
    ///
    /// All watches are set anew: one whose folder was replaced or whose disk was unmounted is silent, and nothing tells.
    pub(super) async fn arm(&mut self, folders: Folders) {
        let rope = self.rope.clone();
        let places = folders.clone();
        let built = tokio::task::spawn_blocking(move || build(rope, &places)).await;
        match built {
            Ok(Ok(watcher)) => self.watcher = Some(watcher),
            Ok(Err(e)) => {
                tracing::warn!(error = %e, "no file events; the directory is looked at every `rescan` interval only");
            }
            Err(e) => tracing::warn!(error = %e, "setting up file events failed"),
        }
        self.armed = folders;
    }
}

fn build(rope: Arc<Notify>, folders: &Folders) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if matters(&event) {
            rope.notify_one();
        }
    })?;
    for (folder, _) in folders {
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {}
            // It went away again; the folder above rings.
            Err(e) if matches!(e.kind, notify::ErrorKind::PathNotFound) => {}
            Err(e) => {
                tracing::warn!(folder = %folder.display(), error = %e, "no file events for this folder; it is looked at every `rescan` interval only");
            }
        }
    }
    Ok(watcher)
}

/// Whether an event can mean that files changed; our own reading makes events too, and an error may mean that some were lost.
fn matters(event: &notify::Result<Event>) -> bool {
    match event {
        Ok(event) => event.need_rescan() || !matches!(event.kind, EventKind::Access(_)),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, Flag};

    use super::*;

    #[test]
    fn reading_does_not_ring() {
        let read = Event::new(EventKind::Access(AccessKind::Any));
        let created = Event::new(EventKind::Create(CreateKind::File));
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(!matters(&Ok(read)));
        assert!(matters(&Ok(created)));
        assert!(matters(&Ok(overflow)));
        assert!(matters(&Err(notify::Error::generic("lost"))));
    }
}

//! Whose turn it is to be transferred: what many wait for first, then what is largest, and always something small beside it.
//!
//! An image lands with its smallest blob, not with its largest: so large blobs never take all places, and a configuration does not
//! wait for gigabytes of others.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

/// From this size on a blob is large.
const LARGE: u64 = 4 << 20;

/// What decides between those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Whether other repositories wait for it as well.
    pub(super) shared: bool,
    /// Its size in bytes.
    pub(super) size: u64,
}

/// A number of places, given out by rank.
#[derive(Debug)]
pub(super) struct Queue(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Places that are free.
    free: usize,
    /// Places that large blobs may still take.
    large: usize,
    waiting: [BinaryHeap<Waiter>; 2],
    arrived: u64,
}

/// Someone who waits, with the means to call them.
#[derive(Debug)]
struct Waiter {
    rank: Rank,
    /// Among equals, who came first.
    arrived: Reverse<u64>,
    call: oneshot::Sender<Turn>,
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiter {}

impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiter {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.rank, self.arrived).cmp(&(other.rank, other.arrived))
    }
}

/// A place; it is given to the next when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// `None` once it was given on.
    queue: Option<Arc<Queue>>,
    large: bool,
}

impl Queue {
    /// Makes a queue for `places`, a quarter of which is kept for small blobs where there are enough.
    pub(super) fn new(places: usize) -> Arc<Self> {
        let places = places.max(1);
        Arc::new(Queue(Mutex::new(State {
            free: places,
            large: places - places / 4,
            waiting: Default::default(),
            arrived: 0,
        })))
    }

    /// Waits for a place.
    pub(super) async fn turn(self: &Arc<Self>, rank: Rank) -> Turn {
        let (call, called) = oneshot::channel();
        {
            let mut state = self.state();
            let arrived = Reverse(state.arrived);
            state.arrived += 1;
            state.waiting[usize::from(rank.size >= LARGE)].push(Waiter {
                rank,
                arrived,
                call,
            });
        }
        self.give();
        // Whoever waits is called or dropped with the queue, and the queue is held here.
        called.await.unwrap_or(Turn {
            queue: None,
            large: false,
        })
    }

    /// Gives free places to those who wait.
    fn give(self: &Arc<Self>) {
        loop {
            // The state is not held while anybody is called.
            let next = self.state().next();
            let Some((waiter, large)) = next else { return };
            let turn = Turn {
                queue: Some(self.clone()),
                large,
            };
            // Who went away meanwhile leaves the place to the next.
            if let Err(mut turn) = waiter.call.send(turn) {
                turn.queue = None;
                self.state().give_back(large);
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a free place for the one whose turn it is.
    fn next(&mut self) -> Option<(Waiter, bool)> {
        if self.free == 0 {
            return None;
        }
        let large = self.large > 0 && !self.waiting[1].is_empty();
        let waiter = self.waiting[usize::from(large)].pop()?;
        self.free -= 1;
        self.large -= usize::from(large);
        Some((waiter, large))
    }

    fn give_back(&mut self, large: bool) {
        self.free += 1;
        self.large += usize::from(large);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.state().give_back(self.large);
            queue.give();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rank(shared: bool, size: u64) -> Rank {
        Rank { shared, size }
    }

    /// Has all of these wait behind a first one, and returns the order in which they are served, one at a time.
    async fn order(ranks: &[Rank]) -> Vec<Rank> {
        let queue = Queue::new(1);
        let first = queue.turn(rank(false, 0)).await;
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for rank in ranks.iter().copied() {
            let (queue, served) = (queue.clone(), served.clone());
            waiting.push(tokio::spawn(async move {
                let _turn = queue.turn(rank).await;
                served.lock().unwrap().push(rank);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for one in waiting {
            one.await.unwrap();
        }
        let served = served.lock().unwrap();
        served.clone()
    }

    #[tokio::test]
    async fn what_many_wait_for_goes_first_and_then_what_is_largest() {
        let (small, middle, large) = (rank(false, 1), rank(false, 2), rank(false, 3));
        let shared = rank(true, 1);
        assert_eq!(
            order(&[small, middle, shared, large]).await,
            [shared, large, middle, small]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn large_blobs_leave_room_for_small_ones() {
        let queue = Queue::new(8);
        let soon = Duration::from_millis(1);
        let mut large = Vec::new();
        while let Ok(turn) = tokio::time::timeout(soon, queue.turn(rank(false, LARGE))).await {
            large.push(turn);
        }
        assert_eq!(large.len(), 6);
        let small = [
            queue.turn(rank(false, 1)).await,
            queue.turn(rank(false, 1)).await,
        ];
        assert!(
            tokio::time::timeout(soon, queue.turn(rank(false, 1)))
                .await
                .is_err()
        );
        drop((large, small));
        let mut all = Vec::new();
        while let Ok(turn) = tokio::time::timeout(soon, queue.turn(rank(false, 1))).await {
            all.push(turn);
        }
        assert_eq!(
            all.len(),
            8,
            "small ones may have every place, and those who gave up hold none"
        );
    }
}

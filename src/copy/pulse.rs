//! Whether anything moves: a run that waits for nothing is told, and ended, rather than left to wait for ever.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// Counts what moves in a run: bytes, blobs, images.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    /// Says that something moved.
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Returns when nothing has moved for `limit`; says so before, six times.
    pub(super) async fn stopped(&self, limit: Duration, say: impl Fn(Duration)) {
        let look = limit / 6;
        let (mut seen, mut since) = (self.0.load(Relaxed), Instant::now());
        loop {
            tokio::time::sleep(look).await;
            let now = self.0.load(Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
                continue;
            }
            let silent = since.elapsed();
            if silent >= limit {
                return;
            }
            say(silent);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_run_in_which_nothing_moves_is_told_and_then_over() {
        let (pulse, told) = (Pulse::default(), Cell::new(0));
        let begin = Instant::now();
        pulse
            .stopped(Duration::from_secs(60), |_| told.set(told.get() + 1))
            .await;
        assert_eq!(begin.elapsed(), Duration::from_secs(60));
        assert_eq!(told.get(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_however_slowly_is_left_alone() {
        let pulse = Arc::new(Pulse::default());
        let beating = pulse.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                beating.beat();
            }
        });
        let begin = Instant::now();
        pulse.stopped(Duration::from_secs(60), |_| {}).await;
        assert!(begin.elapsed() >= Duration::from_secs(5060));
    }
}

//! How fast bytes come lately.

use std::time::Duration;

/// What came longer ago than this counts for less and less.
const WINDOW: Duration = Duration::from_secs(10);

/// A mean over the time that just passed: what came `t` seconds ago weighs `exp(-t / WINDOW)`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    weighed: f64,
    at: Duration,
}

impl Rate {
    /// Takes in bytes that came `at` this time after the beginning; times that go back count as no time.
    pub(super) fn take(&mut self, at: Duration, bytes: u64) {
        let passed = at.saturating_sub(self.at).as_secs_f64();
        self.weighed = self.weighed * (-passed / WINDOW.as_secs_f64()).exp() + bytes as f64;
        self.at = self.at.max(at);
    }

    /// Returns the bytes in a second, as of what was taken in last.
    pub(super) fn per_second(&self) -> u64 {
        // Within the first second nothing can be said of a second.
        let past = self.at.max(Duration::from_secs(1)).as_secs_f64();
        let window = WINDOW.as_secs_f64();
        // The weight of all the time that passed: without it a rate would seem to grow for as long as the window.
        (self.weighed / (window * (1.0 - (-past / window).exp()))).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates each second while this many bytes come in each second, in ten pieces.
    fn rates(bytes: &[u64]) -> Vec<u64> {
        let mut rate = Rate::default();
        let mut seen = Vec::new();
        for (second, bytes) in (0u64..).zip(bytes) {
            for tenth in 1..=10 {
                let at = Duration::from_millis(second * 1000 + tenth * 100);
                rate.take(at, bytes / 10);
            }
            seen.push(rate.per_second());
        }
        seen
    }

    #[test]
    fn a_steady_rate_is_told_from_the_first_second_on() {
        for rate in rates(&[1000; 60]) {
            assert!((990..=1010).contains(&rate), "{rate}");
        }
    }

    #[test]
    fn what_is_long_ago_counts_for_nothing() {
        let slowed = rates(&[[100_000; 60], [1000; 60]].concat());
        assert!((1000..=1300).contains(&slowed[119]), "{}", slowed[119]);
        // The mean since the beginning would say 50,500.
        assert!(slowed[79] < 16_000, "{}", slowed[79]);
    }

    #[test]
    fn a_rate_of_nothing_falls_to_nothing() {
        let stalled = rates(&[[1000; 20], [0; 20]].concat());
        assert!(
            stalled[19..].windows(2).all(|pair| pair[1] < pair[0]),
            "{stalled:?}"
        );
        let mut rate = Rate::default();
        rate.take(Duration::from_secs(1), 1000);
        rate.take(Duration::from_secs(600), 0);
        assert_eq!(rate.per_second(), 0);
    }

    #[test]
    fn the_first_moment_is_no_miracle_and_time_never_goes_back() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), 0);
        rate.take(Duration::from_micros(10), 1000);
        assert!(rate.per_second() <= 1100, "{}", rate.per_second());
        rate.take(Duration::ZERO, 1000);
        assert!(rate.per_second() <= 2200, "{}", rate.per_second());
    }
}

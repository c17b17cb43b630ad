//! The brokers' time: real time, and what tests have moved it by.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Starts at zero when the cluster starts.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// Milliseconds since 1970 at the start: what is written into records.
    wall: Duration,
    moved: Duration,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everything else is given times of"
    )]
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            moved: Duration::ZERO,
        }
    }

    /// Since the start.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed().saturating_add(self.moved)
    }

    /// Milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> i64 {
        (self.wall + self.now()).as_millis() as i64
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.moved = self.moved.saturating_add(by).min(FAR);
    }
}

/// A thousand years: everything is over by then, and the time of a record still fits into its milliseconds.
const FAR: Duration = Duration::from_secs(1000 * 366 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_by_what_a_test_says() {
        let mut clock = Clock::start();
        let (before, wall) = (clock.now(), clock.wall_ms());
        clock.advance(Duration::from_secs(3600));
        assert!(clock.now() >= before + Duration::from_secs(3600));
        assert!(clock.wall_ms() >= wall + 3_600_000);
    }

    #[test]
    fn time_that_never_comes_is_far_away_and_goes_on() {
        let mut clock = Clock::start();
        for _ in 0..3 {
            clock.advance(Duration::MAX);
            assert!(clock.now() >= FAR);
            assert!(clock.wall_ms() > 0);
        }
    }
}

//! Time, and the processor's.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::{Report, race};

/// Runs from the moment at which it was made: just before the client.
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    processor: f64,
}

impl Meter {
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts a clock")]
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            processor: processor_seconds(),
        }
    }

    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// What it has taken so far to handle so many messages, and so many bytes in their values: to be asked before the
    /// client is dropped.
    pub fn report(&self, messages: u64, bytes: u64) -> Report {
        let seconds = self.seconds();
        let processor = processor_seconds() - self.processor;
        // Only the sum is known exactly.
        let [user, system] = race::processor_modes();
        let share = if user + system > 0.0 {
            user / (user + system)
        } else {
            0.5
        };
        Report::default()
            .with("messages", messages)
            .with("bytes", bytes)
            .with("seconds", seconds)
            .with("user_seconds", processor * share)
            .with("system_seconds", processor * (1.0 - share))
            .with("peak_bytes", (race::peak_megabytes() * 1024.0 * 1024.0) as u64)
    }
}

/// Of this process, also of threads that have ended.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

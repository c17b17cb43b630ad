//! From just before a record is sent until it is in the reader's hand.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{Latency, Meter, Report};

/// Records before the first that counts: until they are there, neither side is up.
const WARM_UP: u64 = 50;
/// For all of the warm-up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shared by the side that writes and the side that reads, in one process.
///
/// The reading side starts at the earliest offset; what is sent before it is up is not lost but late, and does not count.
#[derive(Debug)]
pub struct Delays {
    meter: Meter,
    begun: Instant,
    task: Latency,
    /// In nanoseconds, of all that have arrived.
    seen: Mutex<Vec<u64>>,
    arrived: Condvar,
}

impl Delays {
    /// Starts the clock: to be called just before clients are made.
    #[must_use]
    pub fn begin(task: &Latency) -> Self {
        Self {
            meter: Meter::new(),
            begun: Instant::now(),
            task: task.clone(),
            seen: Mutex::new(Vec::with_capacity(task.messages as usize + WARM_UP as usize)),
            arrived: Condvar::new(),
        }
    }

    /// Sends all records from this thread, at even times. `send` must neither linger nor wait for an acknowledgement.
    ///
    /// # Panics
    ///
    /// When the first few do not arrive within a minute.
    pub fn send(&self, mut send: impl FnMut(&[u8])) {
        self.send_some(WARM_UP, &mut send);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let too_few = |seen: &mut Vec<u64>| (seen.len() as u64) < WARM_UP;
        let (seen, waited) = self
            .arrived
            .wait_timeout_while(seen, PATIENCE, too_few)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(
            !waited.timed_out(),
            "only {} records of the warm-up have arrived",
            seen.len()
        );
        drop(seen);
        self.send_some(self.task.messages, &mut send);
    }

    /// Takes a value that has arrived. True when it was the last.
    pub fn see(&self, value: &[u8]) -> bool {
        let now = self.now();
        let sent = value.first_chunk().expect("a value of eight bytes and more");
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(now - u64::from_be_bytes(*sent));
        if seen.len() as u64 == WARM_UP {
            self.arrived.notify_one();
        }
        seen.len() as u64 >= WARM_UP + self.task.messages
    }

    /// To be called when the last was seen, while clients live.
    pub fn end(&self) -> Report {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted = seen[WARM_UP as usize..].to_vec();
        counted.sort_unstable();
        let bytes = counted.len() * self.task.value_bytes;
        let microseconds = |share: f64| percentile(&counted, share) as f64 / 1000.0;
        self.meter
            .report(counted.len() as u64, bytes as u64)
            .with("p50_us", microseconds(0.5))
            .with("p99_us", microseconds(0.99))
    }

    fn send_some(&self, count: u64, send: &mut impl FnMut(&[u8])) {
        let begun = Instant::now();
        let mut value = vec![b'.'; self.task.value_bytes.max(8)];
        for i in 0..count {
            let due = begun + Duration::from_nanos(1_000_000_000 * i / self.task.rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            value[..8].copy_from_slice(&self.now().to_be_bytes());
            send(&value);
        }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }
}

/// Of sorted numbers.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> u64 {
    let at = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numbers_that_were_seen() {
        let sorted: Vec<u64> = (1..=101).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| percentile(&sorted, share)), [51, 100, 101]);
        assert_eq!(percentile(&[7], 0.99), 7);
    }

    #[test]
    fn records_of_the_warm_up_do_not_count() {
        let task = Latency {
            bootstrap: String::new(),
            topic: String::new(),
            messages: 3,
            rate: 1_000_000,
            value_bytes: 100,
            tuned: false,
        };
        let delays = Delays::begin(&task);
        let mut last = 0;
        delays.send(|value| {
            assert_eq!(value.len(), 100);
            last += u64::from(delays.see(value));
        });
        assert_eq!(last, 1, "only the last is the last");
        let report = format!("{:?}", delays.end());
        assert!(report.contains(r#""messages": Number(3)"#), "{report}");
    }
}

//! Every setting of reading: meaning, default, and what goes wrong when it is wrong.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    offset::{Isolation, OutOfRange, StartAt},
};

/// When a partition's prefetch window counts as full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PrefetchRule {
    /// As soon as `prefetch_count` or `prefetch_bytes` is reached.
    #[default]
    Either,
    /// Only when both are reached: many small records, or few large ones. `prefetch_total_bytes` holds all the same.
    Both,
}

/// The settings of a stream that concern reading.
#[derive(Debug, Clone)]
pub(crate) struct FetchConfig {
    pub prefetch_count: usize,
    pub prefetch_bytes: usize,
    pub prefetch_total_bytes: usize,
    pub prefetch_rule: PrefetchRule,
    pub min_bytes: usize,
    pub max_wait: Duration,
    pub max_bytes: usize,
    pub partition_max_bytes: usize,
    pub decoded_batch_limit: usize,
    pub isolation: Isolation,
    pub start_at: StartAt,
    pub out_of_range: OutOfRange,
    pub stall_after: Duration,
    pub rack: Option<String>,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            prefetch_count: 100_000,
            prefetch_bytes: 8 << 20,
            prefetch_total_bytes: 64 << 20,
            prefetch_rule: PrefetchRule::default(),
            min_bytes: 1,
            max_wait: Duration::from_millis(500),
            max_bytes: 4 << 20,
            partition_max_bytes: 4 << 20,
            decoded_batch_limit: 64 << 20,
            isolation: Isolation::default(),
            start_at: StartAt::default(),
            out_of_range: OutOfRange::default(),
            stall_after: Duration::from_secs(300),
            rack: None,
        }
    }
}

/// An answer may be a batch larger than what was asked for, and must still be less than a frame may be.
const MOST_OF_AN_ANSWER: usize = 64 << 20;
/// Fetch sends sizes and times as 32-bit numbers; a buffer must not reach them.
const MOST_BYTES: usize = 1 << 30;

impl FetchConfig {
    /// # Errors
    ///
    /// Config, naming the setting.
    pub(crate) fn check(&self) -> Result<()> {
        let sizes = [
            ("prefetch_count", self.prefetch_count, MOST_BYTES),
            ("prefetch_bytes", self.prefetch_bytes, MOST_BYTES),
            ("prefetch_total_bytes", self.prefetch_total_bytes, usize::MAX),
            ("min_bytes", self.min_bytes, MOST_BYTES),
            ("max_bytes", self.max_bytes, MOST_OF_AN_ANSWER),
            ("partition_max_bytes", self.partition_max_bytes, MOST_OF_AN_ANSWER),
            ("decoded_batch_limit", self.decoded_batch_limit, MOST_BYTES),
        ];
        for (name, value, most) in sizes {
            if value == 0 || value > most {
                return Err(Error::config(format!("{name} must be from 1 to {most}, not {value}")));
            }
        }
        if self.min_bytes > self.max_bytes {
            return Err(Error::config(format!(
                "min_bytes ({}) is larger than max_bytes ({}): no answer could be large enough",
                self.min_bytes, self.max_bytes
            )));
        }
        if self.stall_after.is_zero() {
            return Err(Error::config("stall_after must be longer than nothing"));
        }
        if self.max_wait.is_zero() || self.max_wait > Duration::from_secs(3600) {
            return Err(Error::config(format!(
                "max_wait must be longer than nothing and at most one hour, not {:?}",
                self.max_wait
            )));
        }
        self.start_at.check()
    }
}

/// The setters that every builder of a stream has.
macro_rules! fetch_settings {
    () => {
        /// How many records one partition may prefetch; the default is 100 000.
        ///
        /// When it is reached, this partition is not asked for more until the program has caught up
        /// (librdkafka's `queued.min.messages` is its nearest relation). An answer that was asked for before may go beyond
        /// it, within the bytes.
        ///
        /// In a group, messages that the program was given and has not acked count as well: so many may be unfinished.
        pub fn prefetch_count(mut self, records: usize) -> Self {
            self.fetch.prefetch_count = records;
            self
        }

        /// How many decoded bytes one partition may prefetch; the default is 8 MiB, two answers.
        ///
        /// One batch may go beyond it, since Kafka always returns a whole one.
        pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
            self.fetch.prefetch_bytes = bytes;
            self
        }

        /// How many decoded bytes all partitions together may prefetch; the default is 64 MiB.
        ///
        /// A partition may hold its share of it, and borrow from three quarters of the total. One that has nothing may
        /// always ask for 64 KiB or a batch, so that none waits for another: the bound is the total, and for each
        /// partition 64 KiB or one batch, whichever is larger; where batches are compressed, a MiB or one batch. What the
        /// program holds of messages is its own.
        pub fn prefetch_total_bytes(mut self, bytes: usize) -> Self {
            self.fetch.prefetch_total_bytes = bytes;
            self
        }

        /// Whether one limit or both must be reached before a partition pauses; the default is either.
        pub fn prefetch_rule(mut self, rule: $crate::PrefetchRule) -> Self {
            self.fetch.prefetch_rule = rule;
            self
        }

        /// How many bytes a broker waits for before it answers, up to [`max_wait`](Self::max_wait); the default is 1.
        ///
        /// More means fewer requests and more latency. Kafka: `fetch.min.bytes`.
        pub fn min_bytes(mut self, bytes: usize) -> Self {
            self.fetch.min_bytes = bytes;
            self
        }

        /// How long a broker waits for [`min_bytes`](Self::min_bytes); the default is 500 ms. Kafka: `fetch.max.wait.ms`.
        ///
        /// Closing, seeking and new records do not wait for it. A broker that has not answered 10 s after it counts as
        /// gone. Rounded up to 1 ms, at most an hour.
        pub fn max_wait(mut self, wait: std::time::Duration) -> Self {
            self.fetch.max_wait = wait;
            self
        }

        /// How many bytes one answer may hold; the default is 4 MiB, the most 64 MiB. Kafka: `fetch.max.bytes`.
        ///
        /// A long round trip may want more.
        pub fn max_bytes(mut self, bytes: usize) -> Self {
            self.fetch.max_bytes = bytes;
            self
        }

        /// How many bytes one answer may hold of one partition; the default is 4 MiB, and never more than the
        /// partition has room for. Kafka: `max.partition.fetch.bytes`.
        pub fn partition_max_bytes(mut self, bytes: usize) -> Self {
            self.fetch.partition_max_bytes = bytes;
            self
        }

        /// How large one record batch may become when it is decompressed; the default is 64 MiB.
        ///
        /// A batch beyond it fails its partition with [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge).
        pub fn decoded_batch_limit(mut self, bytes: usize) -> Self {
            self.fetch.decoded_batch_limit = bytes;
            self
        }

        /// Whether records of open and aborted transactions are shown; by default they are not, other than in the Java
        /// client. Kafka: `isolation.level`.
        pub fn isolation(mut self, isolation: $crate::Isolation) -> Self {
            self.fetch.isolation = isolation;
            self
        }

        /// Where to begin; the default is the first record there is. Kafka: `auto.offset.reset` is the nearest relation.
        ///
        /// A partition that appears later is always read from its first record. In a group this is where to begin when the
        /// group has committed nothing for a partition; a place other than the first record is committed at once.
        pub fn start_at(mut self, start: $crate::StartAt) -> Self {
            self.fetch.start_at = start;
            self
        }

        /// What to do when a position is no longer (or not yet) in the log; the default is to go to the nearest record
        /// there is. An event tells how many were skipped. Kafka: `auto.offset.reset`.
        pub fn out_of_range(mut self, policy: $crate::OutOfRange) -> Self {
            self.fetch.out_of_range = policy;
            self
        }

        /// After which time a program that has something to read of a partition, and takes nothing (in a group: or finishes
        /// nothing), is reported: as an event and in `health()`; the default is 5 minutes. Nothing else happens.
        pub fn stall_after(mut self, time: std::time::Duration) -> Self {
            self.fetch.stall_after = time;
            self
        }
    };
}
pub(crate) use fetch_settings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_design() {
        let config = FetchConfig::default();
        config.check().unwrap();
        assert_eq!((config.prefetch_count, config.prefetch_bytes), (100_000, 8 << 20));
        assert_eq!((config.prefetch_total_bytes, config.max_bytes), (64 << 20, 4 << 20));
        assert_eq!((config.min_bytes, config.max_wait), (1, Duration::from_millis(500)));
        assert_eq!(config.isolation, Isolation::ReadCommitted);
    }

    #[test]
    fn a_value_that_cannot_work_is_refused_by_name() {
        let refused = |change: fn(&mut FetchConfig), name: &str| {
            let mut config = FetchConfig::default();
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        };
        refused(|config| config.prefetch_bytes = 0, "prefetch_bytes");
        refused(|config| config.max_bytes = 2 << 30, "max_bytes");
        refused(|config| config.min_bytes = 5 << 20, "min_bytes");
        refused(|config| config.max_wait = Duration::ZERO, "max_wait");
        refused(|config| config.start_at = StartAt::Offset(-1), "start_at");
    }
}

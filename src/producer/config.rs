//! Every setting of writing: meaning, default, and what goes wrong when it is wrong.

use std::{
    fmt,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::{Partitioner, report::BatchReport};
use crate::{
    error::{Error, Result},
    wire::batch::{Compression, Compressor},
};

/// Who must have a record before it counts as delivered. Kafka: `acks`.
///
/// Only with [`All`](Self::All), the default, is a producer idempotent: whatever is sent again is in the log once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Acks {
    /// The leader and all replicas that are in sync: what was acknowledged survives as long as one of them does.
    ///
    /// How many these must be is for the topic to say: with `min.insync.replicas` at 1, which is Kafka's default, it may be
    /// the leader alone. Below that number nothing is written.
    #[default]
    All,
    /// The leader alone: half the way, and two promises fewer.
    ///
    /// - **Acknowledged records can be lost**: those that the leader had, when it fails, and no replica had copied yet.
    /// - **Records can be there twice**: a batch whose answer was lost is sent again, and nobody notices that it came before.
    ///
    /// Order holds, since one batch per partition is in flight at a time.
    Leader,
    /// Nobody: the broker does not answer, and a record counts as delivered when it was written to the socket.
    ///
    /// **Everything that goes wrong behind the socket is lost without an error**: a broker that fails, a leader that has
    /// moved, a topic that refuses the record, a missing permission. No offsets are known
    /// ([`RecordMetadata::offset`](crate::RecordMetadata::offset) is `None`). What was written to a socket is never sent
    /// again, so nothing is there twice.
    None,
}

impl Acks {
    /// As the protocol writes it.
    pub(crate) fn to_wire(self) -> i16 {
        match self {
            Self::All => -1,
            Self::Leader => 1,
            Self::None => 0,
        }
    }
}

/// Who is told how it ended with each batch.
#[derive(Clone)]
pub(crate) struct Observer(Arc<dyn Fn(&BatchReport) + Send + Sync>);

impl Observer {
    pub(crate) fn new(observe: impl Fn(&BatchReport) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    /// A panic in the program's code ends here.
    pub(crate) fn tell(&self, report: &BatchReport) {
        if catch_unwind(AssertUnwindSafe(|| (self.0)(report))).is_err() {
            log::warn!(
                "the producer's observer panicked at a batch of {}-{}",
                report.topic,
                report.partition
            );
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// The settings of a producer.
#[derive(Debug, Clone)]
pub(crate) struct ProducerConfig {
    pub acks: Acks,
    pub linger: Duration,
    /// Of one batch, before it is compressed. `<= request_bytes`, and `<= buffer_bytes`.
    pub batch_bytes: usize,
    /// Of one request; a single batch may be longer.
    pub request_bytes: usize,
    pub buffer_bytes: usize,
    pub max_block: Duration,
    pub delivery_timeout: Duration,
    /// None: as many as `delivery_timeout` allows.
    pub max_retries: Option<u32>,
    /// None: 10 s, or half of the client's request timeout if that is less.
    pub ack_timeout: Option<Duration>,
    pub compression: Compression,
    /// None: what suits batches.
    pub compression_level: Option<i32>,
    pub partitioner: Partitioner,
    /// Requests per connection.
    pub in_flight: usize,
    pub observer: Option<Observer>,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::default(),
            linger: Duration::from_millis(5),
            batch_bytes: 1 << 20,
            request_bytes: 4 << 20,
            buffer_bytes: 64 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            max_retries: None,
            ack_timeout: None,
            compression: Compression::default(),
            compression_level: None,
            partitioner: Partitioner::default(),
            in_flight: MOST_REMEMBERED,
            observer: None,
        }
    }
}

/// Records without a key go to one partition until it got so many bytes, then to another one: batches fill up, and each
/// partition gets its share.
pub(crate) const STICKY_BYTES: usize = 64 << 10;

/// How long a dropped producer may take to deliver what it has.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A batch must be worth its header, and fit into a broker's frame (`socket.request.max.bytes`, 100 MiB) with room to spare.
const BATCH: RangeInclusive<usize> = 1 << 10..=64 << 20;

/// A broker recognises the last five batches of a producer in a partition: one more in flight, and it might not notice that
/// one came twice.
const MOST_REMEMBERED: usize = 5;

/// Brokers handle one request of a connection at a time: more than a few in flight only make the queue longer.
const MOST_IN_FLIGHT: usize = 100;

/// Produce sends times as 32-bit milliseconds; nobody means to wait longer than that, 24 days.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

const ACK_TIMEOUT: Duration = Duration::from_secs(10);

impl ProducerConfig {
    /// How long a broker may wait for its replicas, given how long the client waits for the broker.
    pub(crate) fn ack_timeout(&self, request_timeout: Duration) -> Duration {
        self.ack_timeout.unwrap_or(ACK_TIMEOUT.min(request_timeout / 2))
    }

    /// The same as Produce sends it: rounded up, so that it is never none.
    pub(crate) fn ack_timeout_millis(&self, request_timeout: Duration) -> i32 {
        let millis = self.ack_timeout(request_timeout).as_nanos().div_ceil(1_000_000);
        i32::try_from(millis).unwrap_or(i32::MAX)
    }

    /// Whether a batch that is sent again is in the log once.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.acks == Acks::All
    }

    /// How many batches of one partition may be in flight without order being at risk: only a broker that counts them
    /// refuses the second one when the first one failed.
    pub(crate) fn in_flight_per_partition(&self) -> usize {
        if self.is_idempotent() { self.in_flight } else { 1 }
    }

    /// # Errors
    ///
    /// Config, naming the setting; Unsupported for a codec that klamm was built without.
    pub(crate) fn check(&self, request_timeout: Duration) -> Result<()> {
        self.check_sizes()?;
        self.check_times(request_timeout)?;
        self.check_compression()?;
        if self.acks == Acks::None && self.max_retries.is_some() {
            return Err(Error::config(
                "max_retries and acks None exclude each other: nobody says that anything is to be sent again",
            ));
        }
        let most = if self.is_idempotent() {
            MOST_REMEMBERED
        } else {
            MOST_IN_FLIGHT
        };
        if self.in_flight == 0 || self.in_flight > most {
            return Err(Error::config(format!(
                "in_flight must be from 1 to {most} with acks {:?}, not {}",
                self.acks, self.in_flight
            )));
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<()> {
        for (name, bytes) in [("batch_bytes", self.batch_bytes), ("request_bytes", self.request_bytes)] {
            if !BATCH.contains(&bytes) {
                let (least, most) = BATCH.into_inner();
                return Err(Error::config(format!(
                    "{name} must be from {least} to {most}, not {bytes}"
                )));
            }
        }
        for (name, bytes, holds) in [
            ("request_bytes", self.request_bytes, "one request"),
            ("buffer_bytes", self.buffer_bytes, "the buffer"),
        ] {
            if self.batch_bytes > bytes {
                return Err(Error::config(format!(
                    "batch_bytes ({}) is larger than {name} ({bytes}): {holds} could not hold one batch",
                    self.batch_bytes
                )));
            }
        }
        Ok(())
    }

    fn check_times(&self, request_timeout: Duration) -> Result<()> {
        for (name, time) in [
            ("linger", self.linger),
            ("max_block", self.max_block),
            ("delivery_timeout", self.delivery_timeout),
            ("ack_timeout", self.ack_timeout.unwrap_or(ACK_TIMEOUT)),
        ] {
            if time > LONGEST {
                return Err(Error::config(format!(
                    "{name} must be at most {} ms (24 days), not {time:?}",
                    LONGEST.as_millis()
                )));
            }
        }
        if self.delivery_timeout <= self.linger {
            return Err(Error::config(format!(
                "delivery_timeout ({:?}) must be longer than linger ({:?}): nothing would be sent in time",
                self.delivery_timeout, self.linger
            )));
        }
        let Some(ack_timeout) = self.ack_timeout else {
            return Ok(());
        };
        if !self.is_idempotent() {
            return Err(Error::config(format!(
                "ack_timeout and acks {:?} exclude each other: only with acks All does a broker wait for replicas",
                self.acks
            )));
        }
        if ack_timeout.is_zero() || ack_timeout >= request_timeout {
            return Err(Error::config(format!(
                "ack_timeout must be longer than nothing and shorter than the client's request_timeout \
                 ({request_timeout:?}), not {ack_timeout:?}: the broker's answer would come too late"
            )));
        }
        Ok(())
    }

    fn check_compression(&self) -> Result<()> {
        if let Some(level) = self.compression_level {
            let Some(levels) = self.compression.levels() else {
                return Err(Error::config(format!(
                    "compression_level and compression {:?} exclude each other: it has no levels, as Gzip and Zstd have",
                    self.compression
                )));
            };
            if !levels.contains(&level) {
                return Err(Error::config(format!(
                    "compression_level must be from {} to {} for {:?}, not {level}",
                    levels.start(),
                    levels.end(),
                    self.compression
                )));
            }
        }
        Compressor::new(self.compression, self.compression_level).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::ErrorKind;

    const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

    fn check(change: impl FnOnce(&mut ProducerConfig)) -> Result<()> {
        let mut config = ProducerConfig::default();
        change(&mut config);
        config.check(REQUEST_TIMEOUT)
    }

    #[track_caller]
    fn refused(names: &[&str], change: fn(&mut ProducerConfig)) {
        let error = check(change).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        for name in names {
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_design() {
        let config = ProducerConfig::default();
        config.check(REQUEST_TIMEOUT).unwrap();
        assert_eq!(
            (config.acks, config.acks.to_wire(), config.in_flight),
            (Acks::All, -1, 5)
        );
        assert_eq!((config.linger, config.batch_bytes), (Duration::from_millis(5), 1 << 20));
        assert_eq!(
            (config.buffer_bytes, config.max_block),
            (64 << 20, Duration::from_secs(60))
        );
        assert_eq!(config.delivery_timeout, Duration::from_secs(120));
        assert_eq!(config.ack_timeout_millis(REQUEST_TIMEOUT), 10_000);
        assert_eq!((config.compression, config.max_retries), (Compression::None, None));
    }

    #[test]
    fn sizes_that_cannot_work_are_refused_by_name() {
        refused(&["batch_bytes"], |config| config.batch_bytes = 1_023);
        refused(&["batch_bytes"], |config| {
            config.batch_bytes = (64 << 20) + 1;
            config.buffer_bytes = 1 << 30;
        });
        refused(&["request_bytes"], |config| config.request_bytes = 0);
        refused(&["request_bytes"], |config| config.request_bytes = 65 << 20);
        refused(&["batch_bytes", "request_bytes"], |config| config.batch_bytes = 5 << 20);
        refused(&["batch_bytes", "buffer_bytes"], |config| {
            config.buffer_bytes = (1 << 20) - 1
        });
        check(|config| {
            config.batch_bytes = 64 << 20;
            config.request_bytes = 64 << 20;
        })
        .unwrap();
        check(|config| {
            config.batch_bytes = 1 << 10;
            config.request_bytes = 1 << 10;
            config.buffer_bytes = 1 << 10;
        })
        .unwrap();
    }

    #[test]
    fn times_that_cannot_work_are_refused_by_name() {
        const TOO_LONG: Duration = Duration::from_millis(1 << 31);
        refused(&["linger"], |config| config.linger = TOO_LONG);
        refused(&["max_block"], |config| config.max_block = TOO_LONG);
        refused(&["delivery_timeout"], |config| config.delivery_timeout = TOO_LONG);
        refused(&["ack_timeout", "24 days"], |config| {
            config.ack_timeout = Some(TOO_LONG)
        });
        refused(&["delivery_timeout", "linger"], |config| {
            config.delivery_timeout = config.linger;
        });
        refused(&["ack_timeout"], |config| config.ack_timeout = Some(Duration::ZERO));
        refused(&["ack_timeout", "request_timeout"], |config| {
            config.ack_timeout = Some(REQUEST_TIMEOUT);
        });
        check(|config| {
            config.linger = Duration::ZERO;
            config.max_block = Duration::ZERO;
            config.delivery_timeout = LONGEST;
        })
        .unwrap();
    }

    #[test]
    fn a_client_that_waits_less_for_brokers_lets_them_wait_less_for_replicas() {
        let config = ProducerConfig::default();
        let short = Duration::from_secs(5);
        config.check(short).unwrap();
        assert_eq!(config.ack_timeout_millis(short), 2_500);
        assert_eq!(config.ack_timeout_millis(Duration::from_micros(1)), 1);
    }

    #[test]
    fn settings_that_exclude_each_other_are_refused_and_not_ignored() {
        refused(&["max_retries", "acks None"], |config| {
            config.acks = Acks::None;
            config.max_retries = Some(3);
        });
        refused(&["ack_timeout", "acks Leader"], |config| {
            config.acks = Acks::Leader;
            config.ack_timeout = Some(Duration::from_secs(1));
        });
        refused(&["compression_level", "Lz4"], |config| {
            config.compression = Compression::Lz4;
            config.compression_level = Some(1);
        });
        refused(&["compression_level", "None"], |config| {
            config.compression_level = Some(1)
        });
    }

    #[test]
    fn no_more_is_in_flight_than_brokers_remember() {
        refused(&["in_flight"], |config| config.in_flight = 0);
        refused(&["in_flight", "acks All"], |config| config.in_flight = 6);
        refused(&["in_flight", "acks Leader"], |config| {
            config.acks = Acks::Leader;
            config.in_flight = 101;
        });
        let many = |acks| ProducerConfig {
            acks,
            in_flight: 6,
            ..ProducerConfig::default()
        };
        for acks in [Acks::Leader, Acks::None] {
            many(acks).check(REQUEST_TIMEOUT).unwrap();
            assert_eq!(many(acks).in_flight_per_partition(), 1);
        }
        assert_eq!(ProducerConfig::default().in_flight_per_partition(), 5);
    }

    #[test]
    #[cfg(all(feature = "gzip", feature = "zstd"))]
    fn levels_are_those_of_the_codec() {
        let level = |compression, level| {
            check(|config| {
                config.compression = compression;
                config.compression_level = Some(level);
            })
        };
        for (compression, least, most) in [(Compression::Gzip, 1, 9), (Compression::Zstd, -131_072, 22)] {
            level(compression, least).unwrap();
            level(compression, most).unwrap();
            for outside in [least - 1, most + 1] {
                let error = level(compression, outside).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Config);
                assert!(error.to_string().contains("compression_level"), "{error}");
            }
        }
    }

    #[test]
    fn a_codec_that_was_left_out_is_unsupported() {
        for (compression, is_there) in [
            (Compression::None, true),
            (Compression::Gzip, cfg!(feature = "gzip")),
            (Compression::Snappy, cfg!(feature = "snappy")),
            (Compression::Lz4, cfg!(feature = "lz4")),
            (Compression::Zstd, cfg!(feature = "zstd")),
        ] {
            let outcome = check(|config| config.compression = compression);
            let kind = outcome.err().map(|error| error.kind());
            assert_eq!(kind, (!is_there).then_some(ErrorKind::Unsupported), "{compression:?}");
        }
    }

    #[test]
    fn an_observer_that_panics_is_told_of_the_next_batch() {
        let told = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&told);
        let observer = Observer::new(move |report| {
            seen.fetch_add(report.records, Ordering::Relaxed);
            panic!("in the program's code");
        });
        let report = BatchReport {
            topic: "t".to_owned(),
            partition: 0,
            records: 3,
            bytes: 100,
            attempts: 1,
            took: Duration::from_millis(1),
            error: None,
        };
        observer.tell(&report);
        observer.tell(&report);
        assert_eq!(told.load(Ordering::Relaxed), 6);
    }
}

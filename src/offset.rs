//! Partitions by name, and places in them.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::error::{Error, Result};

/// One partition of one topic.
///
/// ```
/// use klamm::TopicPartition;
/// let one = TopicPartition::new("orders", 3);
/// assert_eq!(one, ("orders", 3).into());
/// assert_eq!(one.to_string(), "orders-3");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    topic: std::sync::Arc<str>,
    partition: i32,
}

impl TopicPartition {
    /// Names a partition; nothing is looked up.
    #[must_use]
    pub fn new(topic: impl AsRef<str>, partition: i32) -> Self {
        Self {
            topic: std::sync::Arc::from(topic.as_ref()),
            partition,
        }
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition's number, from 0.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }
}

impl<T: AsRef<str>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> Self {
        Self::new(topic, partition)
    }
}

impl From<&Self> for TopicPartition {
    fn from(other: &Self) -> Self {
        other.clone()
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Where to begin reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StartAt {
    /// The first record that the partition still has: nothing is missed.
    #[default]
    Earliest,
    /// Behind the last record (under read committed: behind the last one that can be shown), as of now.
    Latest,
    /// This offset: the next record to read. Not negative.
    Offset(i64),
    /// The first record with this timestamp or a later one; the end, when there is none.
    ///
    /// Kafka looks at timestamps as they are stored: when producers give them out of order, records behind the found
    /// one may be older.
    Timestamp(SystemTime),
    /// The first record that is no older than this, by this machine's clock. Kafka: `auto.offset.reset=by_duration:`.
    Ago(Duration),
}

impl StartAt {
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Offset(offset) if *offset < 0 => Err(Error::config(format!(
                "start_at: an offset cannot be negative, as {offset} is"
            ))),
            Self::Timestamp(time) if time.duration_since(SystemTime::UNIX_EPOCH).is_err() => {
                Err(Error::config("start_at: Kafka has no times before 1970"))
            }
            _ => Ok(()),
        }
    }
}

/// What to do when a position is outside of the partition's log. Kafka: `auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OutOfRange {
    /// Go to the nearest record there is: the first one when the position was deleted, the end when it lies behind it.
    #[default]
    Nearest,
    /// Go to the first record there is.
    Earliest,
    /// Go to the end.
    Latest,
    /// Give the program an error; the partition waits for a `seek`.
    Fail,
}

/// Which records of transactions are shown. Kafka: `isolation.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Isolation {
    /// All of them, also of transactions that are open or were aborted.
    ReadUncommitted,
    /// Those of committed transactions, and those outside of any; reading stops before the first open transaction.
    #[default]
    ReadCommitted,
}

impl Isolation {
    /// As the protocol writes it.
    pub(crate) fn to_wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

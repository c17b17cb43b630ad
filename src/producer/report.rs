//! What a producer tells: of a record, of a batch, and at its end.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use crate::{error::Error, offset::TopicPartition};

/// Where a record was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// The topic it was written to.
    pub topic: String,
    /// The partition it was written to.
    pub partition: i32,
    /// Its place in the partition. `None` under [`Acks::None`](crate::Acks::None), where the broker says nothing, and in the
    /// rare case in which a batch was sent again and the broker only says that it has it already.
    pub offset: Option<i64>,
    /// Its timestamp: the record's, or the broker's where the topic has `message.timestamp.type=LogAppendTime`.
    pub timestamp: SystemTime,
}

/// How it ended with one batch of records: for [`observe`](crate::ProducerBuilder::observe).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BatchReport {
    /// The topic it was for.
    pub topic: String,
    /// The partition it was for.
    pub partition: i32,
    /// How many records it holds.
    pub records: u32,
    /// How many bytes it takes on the wire, compressed; 0 when it was never sent, and for a record that was singled out of a
    /// batch which the broker has refused.
    pub bytes: usize,
    /// How often it was sent; 0 when its time was over before that. A part of a batch that was refused and taken apart counts
    /// from then on.
    pub attempts: u32,
    /// From its first record to its end: lingering, waiting for the broker, and retries.
    pub took: Duration,
    /// Why its records were not delivered; `None` when they were.
    pub error: Option<Error>,
}

/// What was left when a producer was closed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ProducerReport {
    /// How many records of each partition were taken over and had not been delivered by the end of the closing: they were
    /// not written, or nobody knows ([`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown)).
    pub undelivered: BTreeMap<TopicPartition, u64>,
    /// The first failure that nobody was told: of a record whose delivery was dropped, or that was sent without one.
    pub error: Option<Error>,
}

impl ProducerReport {
    /// Whether every record was delivered, or its failure was told.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.undelivered.is_empty() && self.error.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_report_is_clean_when_nothing_is_left_and_nothing_untold() {
        assert!(ProducerReport::default().is_clean());
        let left = ProducerReport {
            undelivered: BTreeMap::from([(TopicPartition::new("t", 0), 1)]),
            ..ProducerReport::default()
        };
        assert!(!left.is_clean());
        let untold = ProducerReport {
            error: Some(Error::new(ErrorKind::OutcomeUnknown, "no answer")),
            ..ProducerReport::default()
        };
        assert!(!untold.is_clean());
    }
}

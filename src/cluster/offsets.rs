//! Questions about a partition's log, put to its leader.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use kafka_protocol::{
    messages::{
        BrokerId, OffsetForLeaderEpochRequest, TopicName,
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
    },
    protocol::StrBytes,
};

use crate::{
    cluster::{Cluster, Purpose, listings::Question},
    deadline::Deadline,
    error::{Error, Result},
    offset::{Isolation, StartAt},
};

/// Which offset to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListAt {
    /// The first that is still there.
    Earliest,
    /// The one that comes next: the high watermark, or the last stable offset under read committed.
    Latest,
    /// The first at or after this time, in milliseconds since 1970.
    Timestamp(i64),
}

impl ListAt {
    /// What to ask for to start there; the offset itself where it is given.
    pub(crate) fn of(start: StartAt, now: SystemTime) -> Result<Self, i64> {
        match start {
            StartAt::Earliest => Ok(Self::Earliest),
            StartAt::Latest => Ok(Self::Latest),
            StartAt::Offset(offset) => Err(offset),
            StartAt::Timestamp(time) => Ok(Self::Timestamp(since_1970(time))),
            StartAt::Ago(age) => Ok(Self::Timestamp(now.checked_sub(age).map_or(0, since_1970))),
        }
    }
}

/// In milliseconds. Times before 1970 are as good as 0: nothing is older.
fn since_1970(time: SystemTime) -> i64 {
    let passed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListedOffset {
    pub(crate) offset: i64,
    /// Of the record at the offset, where one was asked for by its time; −1 otherwise.
    pub(crate) timestamp: i64,
    /// −1 where the broker does not tell.
    pub(crate) leader_epoch: i32,
}

/// Where a leader's epoch ends in the log of the current one (KIP-320).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochEnd {
    /// The largest epoch that is not larger than the one asked for; −1 if there is none.
    pub(crate) epoch: i32,
    /// The offset behind its last record; −1 if there is none.
    pub(crate) end_offset: i64,
}

impl Cluster {
    /// Where reading from there would start. `None` when no record is as new as the time asked for.
    pub(crate) fn offset_for(
        &self,
        topic: &str,
        partition: i32,
        start: StartAt,
        isolation: Isolation,
        deadline: &Deadline,
    ) -> Result<Option<i64>> {
        let at = match ListAt::of(start, SystemTime::now()) {
            Ok(at) => at,
            // Nothing to look up but the partition itself.
            Err(offset) => return self.with_leader(topic, partition, deadline, |_, _, _| Ok(Some(offset))),
        };
        let listed = self.list_offset(topic, partition, at, isolation, deadline)?;
        Ok(listed.map(|listed| listed.offset))
    }

    /// Asks the leader for an offset. `None` when no record is as new as the time asked for.
    pub(crate) fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        at: ListAt,
        isolation: Isolation,
        deadline: &Deadline,
    ) -> Result<Option<ListedOffset>> {
        let timestamp = match at {
            ListAt::Latest => -1,
            ListAt::Earliest => -2,
            // Negative ones have meanings of their own.
            ListAt::Timestamp(milliseconds) => milliseconds.max(0),
        };
        self.with_leader(topic, partition, deadline, |leader, epoch, known| {
            let question = Question {
                topic: Arc::clone(&known.name),
                partition,
                leader_epoch: epoch,
                timestamp,
            };
            let found = self.list(leader, isolation, &question, deadline)?;
            if found.error_code != 0 {
                return Err(Error::refused(found.error_code).in_api("ListOffsets"));
            }
            Ok((found.offset >= 0).then_some(ListedOffset {
                offset: found.offset,
                timestamp: found.timestamp,
                leader_epoch: found.leader_epoch,
            }))
        })
    }

    /// Asks the leader where an epoch ends in its log.
    pub(crate) fn end_of_epoch(
        &self,
        topic: &str,
        partition: i32,
        leader_epoch: i32,
        deadline: &Deadline,
    ) -> Result<EpochEnd> {
        self.with_leader(topic, partition, deadline, |leader, epoch, _| {
            let wanted = OffsetForLeaderPartition::default()
                .with_partition(partition)
                .with_current_leader_epoch(epoch)
                .with_leader_epoch(leader_epoch);
            let topics = OffsetForLeaderTopic::default()
                .with_topic(topic_name(topic))
                .with_partitions(vec![wanted]);
            let request = OffsetForLeaderEpochRequest::default()
                .with_replica_id(CONSUMER)
                .with_topics(vec![topics]);
            let answer = self.call_broker(leader, Purpose::Control, &request, deadline)?;
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let found = partitions
                .into_iter()
                .find(|found| found.partition == partition)
                .ok_or_else(|| {
                    Error::protocol("the answer lacks the partition asked for").in_api("OffsetForLeaderEpoch")
                })?;
            if found.error_code != 0 {
                return Err(Error::refused(found.error_code).in_api("OffsetForLeaderEpoch"));
            }
            Ok(EpochEnd {
                epoch: found.leader_epoch,
                end_offset: found.end_offset,
            })
        })
    }
}

/// Not a replica, but a consumer.
pub(super) const CONSUMER: BrokerId = BrokerId(-1);

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// What is left of a deadline, for requests that carry a time-out.
pub(crate) fn milliseconds(deadline: &Deadline) -> i32 {
    i32::try_from(deadline.remaining().as_millis()).unwrap_or(i32::MAX)
}

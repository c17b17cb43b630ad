//! ListOffsets: the offset of a time, or of an end of the log.

use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse,
    list_offsets_request::ListOffsetsPartition,
    list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
};

use super::Context;
use crate::{
    error_code::{NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION, UNSUPPORTED_VERSION},
    state::State,
};

/// Times that are none.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

const READ_COMMITTED: i8 = 1;

/// What was found: offset, timestamp, leader epoch.
type Found = (i64, i64, i32);

const NOTHING: Found = (-1, -1, -1);

pub(crate) fn answer(state: &State, context: &Context<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed_only = request.isolation_level == READ_COMMITTED;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            match find(state, context, &topic.name, asked, committed_only) {
                Ok((offset, timestamp, epoch)) => answer
                    .with_offset(offset)
                    .with_timestamp(timestamp)
                    .with_leader_epoch(epoch),
                Err(code) => answer.with_error_code(code).with_offset(-1).with_timestamp(-1),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    ListOffsetsResponse::default()
        .with_throttle_time_ms(state.throttle_ms())
        .with_topics(topics.collect())
}

fn find(
    state: &State,
    context: &Context<'_>,
    topic: &str,
    asked: &ListOffsetsPartition,
    committed_only: bool,
) -> Result<Found, i16> {
    context.check_fault()?;
    let partition = state
        .partition(topic, asked.partition_index)
        .ok_or(UNKNOWN_TOPIC_OR_PARTITION)?;
    partition.check_epoch(asked.current_leader_epoch)?;
    if partition.leader != context.caller.node {
        return Err(NOT_LEADER_OR_FOLLOWER);
    }
    let log = &partition.log;
    let visible = if committed_only {
        log.last_stable()
    } else {
        log.high_watermark()
    };
    let needs = match asked.timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        ..MAX_TIMESTAMP => return Err(UNSUPPORTED_VERSION),
        _ => 0,
    };
    if context.version() < needs {
        return Err(UNSUPPORTED_VERSION);
    }
    Ok(match asked.timestamp {
        LATEST => (visible, -1, log.last_epoch()),
        EARLIEST | EARLIEST_LOCAL => (log.start(), -1, log.epoch_at(log.start())),
        LATEST_TIERED => NOTHING,
        MAX_TIMESTAMP => log
            .newest()
            .map_or(NOTHING, |(offset, timestamp)| (offset, timestamp, log.epoch_at(offset))),
        time => log
            .find_timestamp(time, visible)
            .map_or(NOTHING, |(offset, timestamp)| (offset, timestamp, log.epoch_at(offset))),
    })
}

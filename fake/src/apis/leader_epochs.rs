//! OffsetForLeaderEpoch: where an epoch ended (KIP-320).

use kafka_protocol::messages::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    offset_for_leader_epoch_request::OffsetForLeaderPartition,
    offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
};

use super::Context;
use crate::{
    error_code::{NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION},
    state::State,
};

pub(crate) fn answer(
    state: &State,
    context: &Context<'_>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = EpochEndOffset::default().with_partition(asked.partition);
            match end(state, context, &topic.topic, asked) {
                Ok((epoch, end)) => answer.with_leader_epoch(epoch).with_end_offset(end),
                Err(code) => answer.with_error_code(code).with_leader_epoch(-1).with_end_offset(-1),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic)
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default()
        .with_throttle_time_ms(state.throttle_ms())
        .with_topics(topics.collect())
}

fn end(state: &State, context: &Context<'_>, topic: &str, asked: &OffsetForLeaderPartition) -> Result<(i32, i64), i16> {
    context.check_fault()?;
    let partition = state
        .partition(topic, asked.partition)
        .ok_or(UNKNOWN_TOPIC_OR_PARTITION)?;
    partition.check_epoch(asked.current_leader_epoch)?;
    if partition.leader != context.caller.node {
        return Err(NOT_LEADER_OR_FOLLOWER);
    }
    Ok(partition.log.end_of_epoch(asked.leader_epoch))
}

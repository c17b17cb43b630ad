//! DeleteRecords: a partition begins later than it did.

use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse,
    delete_records_request::DeleteRecordsPartition,
    delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
};

use super::Context;
use crate::{
    error_code::{NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_OR_PARTITION},
    state::State,
};

/// All that is committed.
const UP_TO_THE_END: i64 = -1;

pub(crate) fn answer(state: &mut State, context: &Context<'_>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            match delete(state, context, &topic.name, asked) {
                Ok(start) => result.with_low_watermark(start),
                Err(code) => result.with_low_watermark(-1).with_error_code(code),
            }
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    let topics = topics.collect();
    DeleteRecordsResponse::default()
        .with_throttle_time_ms(state.throttle_ms())
        .with_topics(topics)
}

fn delete(state: &mut State, context: &Context<'_>, topic: &str, asked: &DeleteRecordsPartition) -> Result<i64, i16> {
    context.check_fault()?;
    let partition = state.partition_mut(topic, asked.partition_index);
    let partition = partition.ok_or(UNKNOWN_TOPIC_OR_PARTITION)?;
    if partition.leader != context.caller.node {
        return Err(NOT_LEADER_OR_FOLLOWER);
    }
    let committed = partition.log.high_watermark();
    let before = match asked.offset {
        UP_TO_THE_END => committed,
        offset if (0..=committed).contains(&offset) => offset,
        _ => return Err(OFFSET_OUT_OF_RANGE),
    };
    partition.log.delete_before(before);
    Ok(partition.log.start())
}

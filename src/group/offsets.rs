//! OffsetFetch and OffsetCommit: what a group remembers.

use std::{collections::BTreeMap, sync::Arc};

use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
};

use super::{
    member::Identity,
    requests::{by_topic, group_id, text},
};
use crate::{consumer::handover::Progress, error::Error, offset::TopicPartition};

/// What a group has committed for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the message before it; -1 when unknown.
    pub epoch: i32,
}

/// The answer for one partition: None is "nothing committed", which is not the same as an error.
pub(crate) type Fetched = BTreeMap<TopicPartition, Result<Option<Committed>, i16>>;

/// Asks what was committed; offsets that a transaction may still change are waited for by the caller (KIP-447).
pub(crate) fn fetch(group: &str, partitions: &[TopicPartition], version: i16) -> OffsetFetchRequest {
    let topics = by_topic(
        partitions
            .iter()
            .map(|partition| (Arc::from(partition.topic()), partition.partition())),
    );
    let name = |topic: &str| TopicName(text(topic));
    let request = OffsetFetchRequest::default().with_require_stable(version >= 7);
    if version < 8 {
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetFetchRequestTopic::default()
                .with_name(name(&topic))
                .with_partition_indexes(partitions)
        });
        return request
            .with_group_id(group_id(group))
            .with_topics(Some(topics.collect()));
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetFetchRequestTopics::default()
            .with_name(name(&topic))
            .with_partition_indexes(partitions)
    });
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(group_id(group))
        .with_topics(Some(topics.collect()));
    request.with_groups(vec![group])
}

/// What was asked for and is not in the answer is an error of the broker's.
///
/// # Errors
///
/// The code that concerns the group as a whole.
pub(crate) fn fetched(answer: &OffsetFetchResponse, asked: &[TopicPartition]) -> Result<Fetched, i16> {
    let mut all = Fetched::new();
    let mut take = |topic: &str, partition: i32, code: i16, offset: i64, epoch: i32| {
        let committed = (offset >= 0).then_some(Committed { offset, epoch });
        let result = if code == 0 { Ok(committed) } else { Err(code) };
        all.insert(TopicPartition::new(topic, partition), result);
    };
    if let Some(group) = answer.groups.first() {
        if group.error_code != 0 {
            return Err(group.error_code);
        }
        for topic in &group.topics {
            for partition in &topic.partitions {
                take(
                    &topic.name,
                    partition.partition_index,
                    partition.error_code,
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                );
            }
        }
    } else {
        if answer.error_code != 0 {
            return Err(answer.error_code);
        }
        for topic in &answer.topics {
            for partition in &topic.partitions {
                take(
                    &topic.name,
                    partition.partition_index,
                    partition.error_code,
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                );
            }
        }
    }
    all.retain(|partition, _| asked.contains(partition));
    for partition in asked {
        all.entry(partition.clone()).or_insert(Err(UNKNOWN_SERVER_ERROR));
    }
    Ok(all)
}

const UNKNOWN_SERVER_ERROR: i16 = -1;

/// Commits these as this member.
pub(crate) fn commit(group: &str, identity: &Identity, progress: &[Progress]) -> OffsetCommitRequest {
    let partitions = progress.iter().map(|progress| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(progress.name.partition())
            .with_committed_offset(progress.offset)
            .with_committed_leader_epoch(progress.epoch)
            .with_committed_metadata(Some(text("")));
        (Arc::from(progress.name.topic()), partition)
    });
    let topics = by_topic(partitions).into_iter().map(|(topic, partitions)| {
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(&*topic)))
            .with_partitions(partitions)
    });
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(identity.generation)
        .with_member_id(text(identity.member_id.clone()))
        .with_group_instance_id(identity.instance_id.clone().map(text))
        .with_topics(topics.collect())
}

/// The code for each partition that the answer names.
pub(crate) fn committed(answer: &OffsetCommitResponse) -> BTreeMap<TopicPartition, i16> {
    let topics = answer.topics.iter();
    topics
        .flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| {
                let name = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                (name, partition.error_code)
            })
        })
        .collect()
}

/// What a refused commit means to the program.
pub(crate) fn refused(name: &TopicPartition, code: i16) -> Error {
    Error::refused(code)
        .for_partition(name.topic(), name.partition())
        .in_api("OffsetCommit")
}

//! What groups have committed: OffsetCommit, OffsetFetch, OffsetDelete.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};

use super::{Group, Groups, Topics, text};

/// Of one group: by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, Committed>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Committed {
    offset: i64,
    leader_epoch: i32,
    metadata: String,
}

impl Offsets {
    fn find(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        let Some(partitions) = self.topics.get_mut(topic) else {
            return;
        };
        partitions.remove(&partition);
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
    }

    fn insert(&mut self, topic: &str, partition: &OffsetCommitRequestPartition) {
        let committed = Committed {
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_owned(),
        };
        self.topics
            .entry(topic.to_owned())
            .or_default()
            .insert(partition.partition_index, committed);
    }
}

impl Groups {
    /// What a group has committed of a topic's partition, for tests to see.
    pub(crate) fn committed(&self, group_id: &str, topic: &str, partition: i32) -> Option<i64> {
        let found = self.groups.get(group_id)?.offsets.find(topic, partition)?;
        Some(found.offset)
    }

    pub(crate) fn commit(
        &mut self,
        request: &OffsetCommitRequest,
        version: i16,
        topics: &impl Topics,
        now: Duration,
    ) -> OffsetCommitResponse {
        let known = request
            .topics
            .iter()
            .map(|topic| (topic, topics.find(topic.name.as_str())));
        let known: Vec<_> = known.collect();
        let exists = |found: &Option<(uuid::Uuid, i32)>, partition: &OffsetCommitRequestPartition| {
            found.is_some_and(|(_, count)| (0..count).contains(&partition.partition_index))
        };
        let refused = self.check_commit(request, version, topics, now).err();
        let mut response = OffsetCommitResponse::default();
        for (topic, found) in known {
            let partitions = topic.partitions.iter().map(|partition| {
                let outcome = match refused {
                    _ if !exists(&found, partition) => Err(ResponseError::UnknownTopicOrPartition),
                    Some(error) => Err(error),
                    None => self.commit_one(request.group_id.as_str(), topic, partition),
                };
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(super::code(outcome))
            });
            let partitions = partitions.collect();
            response.topics.push(
                OffsetCommitResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions),
            );
        }
        response
    }

    fn commit_one(
        &mut self,
        group_id: &str,
        topic: &OffsetCommitRequestTopic,
        partition: &OffsetCommitRequestPartition,
    ) -> Result<(), ResponseError> {
        let metadata = partition
            .committed_metadata
            .as_ref()
            .map_or(0, |metadata| metadata.len());
        if metadata > self.limits.offset_metadata_bytes {
            return Err(ResponseError::OffsetMetadataTooLarge);
        }
        self.entry(group_id).offsets.insert(topic.name.as_str(), partition);
        Ok(())
    }

    /// Whether who asks may commit. What was committed without any group makes one, which only has offsets.
    fn check_commit(
        &mut self,
        request: &OffsetCommitRequest,
        version: i16,
        topics: &impl Topics,
        now: Duration,
    ) -> Result<(), ResponseError> {
        let generation = request.generation_id_or_member_epoch;
        let group_id = request.group_id.as_str();
        let group = self.groups.get_mut(group_id).map(|entry| &mut entry.group);
        match group {
            None if generation < 0 => Ok(()),
            None if version >= 9 => Err(ResponseError::GroupIdNotFound),
            None => Err(ResponseError::IllegalGeneration),
            Some(Group::Classic(group)) => {
                let instance_id = request.group_instance_id.as_deref();
                group.check_commit(request.member_id.as_str(), instance_id, generation, now)
            }
            Some(Group::Consumer(group)) => group.check_commit(request, version, topics),
        }
    }

    /// Before version 8, when a request was about one group.
    pub(crate) fn fetch_offsets(&self, request: &OffsetFetchRequest) -> OffsetFetchResponse {
        let group = self.fetch_group(&the_only_group(request));
        OffsetFetchResponse::default()
            .with_error_code(group.error_code)
            .with_topics(group.topics.into_iter().map(topic_of_the_only_group).collect())
    }

    pub(crate) fn fetch_group(&self, request: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
        let response = OffsetFetchResponseGroup::default().with_group_id(request.group_id.clone());
        let entry = self.groups.get(request.group_id.as_str());
        if let Some(Group::Consumer(group)) = entry.map(|entry| &entry.group) {
            if let Err(error) = group.check_fetch(request.member_id.as_deref(), request.member_epoch) {
                return response.with_error_code(error.code());
            }
        }
        let offsets = entry.map(|entry| &entry.offsets);
        let asked = request.topics.as_ref().map(|topics| {
            let topics = topics
                .iter()
                .map(|topic| (topic.name.clone(), topic.partition_indexes.clone()));
            topics.collect()
        });
        let topics = asked_or_all(asked, offsets).into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|partition| {
                let committed = offsets.and_then(|offsets| offsets.find(name.as_str(), partition));
                let committed = committed.cloned().unwrap_or(NOTHING);
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(partition)
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(committed.leader_epoch)
                    .with_metadata(Some(text(&committed.metadata)))
            });
            let partitions = partitions.collect();
            OffsetFetchResponseTopics::default()
                .with_name(name)
                .with_partitions(partitions)
        });
        response.with_topics(topics.collect())
    }

    /// A topic is gone: nobody has committed anything in it, also when another one gets its name.
    pub(crate) fn topic_deleted(&mut self, topic: &str) {
        for entry in self.groups.values_mut() {
            entry.offsets.topics.remove(topic);
        }
    }
}

fn the_only_group(request: &OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.as_ref().map(|topics| {
        let topics = topics.iter().map(|topic| {
            OffsetFetchRequestTopics::default()
                .with_name(topic.name.clone())
                .with_partition_indexes(topic.partition_indexes.clone())
        });
        topics.collect()
    });
    OffsetFetchRequestGroup::default()
        .with_group_id(request.group_id.clone())
        .with_member_id(None)
        .with_member_epoch(-1)
        .with_topics(topics)
}

fn topic_of_the_only_group(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
    });
    OffsetFetchResponseTopic::default()
        .with_name(topic.name)
        .with_partitions(partitions.collect())
}

fn asked_or_all(asked: Option<Vec<(TopicName, Vec<i32>)>>, offsets: Option<&Offsets>) -> Vec<(TopicName, Vec<i32>)> {
    let all = || {
        let topics = offsets.into_iter().flat_map(|offsets| &offsets.topics);
        topics
            .map(|(topic, partitions)| (TopicName(text(topic)), partitions.keys().copied().collect()))
            .collect()
    };
    asked.unwrap_or_else(all)
}

/// What is said of a partition that nothing was committed of: no error.
const NOTHING: Committed = Committed {
    offset: -1,
    leader_epoch: -1,
    metadata: String::new(),
};

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
    let mut all: Fetched = asked
        .iter()
        .map(|partition| (partition.clone(), Err(UNKNOWN_SERVER_ERROR)))
        .collect();
    let mut take = |topic: &str, partition: i32, code: i16, offset: i64, epoch: i32| {
        let committed = (offset >= 0).then_some(Committed { offset, epoch });
        // Strangers are nobody's business.
        if let Some(known) = all.get_mut(&TopicPartition::new(topic, partition)) {
            *known = if code == 0 { Ok(committed) } else { Err(code) };
        }
    };
    // The same fields in both, of types of their own: version 8 asks for several groups at once.
    let code = answer
        .groups
        .first()
        .map_or(answer.error_code, |group| group.error_code);
    if code != 0 {
        return Err(code);
    }
    for topic in answer.groups.first().iter().flat_map(|group| &group.topics) {
        for found in &topic.partitions {
            let (offset, epoch) = (found.committed_offset, found.committed_leader_epoch);
            take(&topic.name, found.partition_index, found.error_code, offset, epoch);
        }
    }
    for topic in &answer.topics {
        for found in &topic.partitions {
            let (offset, epoch) = (found.committed_offset, found.committed_leader_epoch);
            take(&topic.name, found.partition_index, found.error_code, offset, epoch);
        }
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::{
        messages::{
            offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
            offset_fetch_response::{
                OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
                OffsetFetchResponseTopic, OffsetFetchResponseTopics,
            },
        },
        protocol::{Decodable, Encodable},
    };

    use super::*;

    fn names() -> Vec<TopicPartition> {
        [("orders", 0), ("orders", 1), ("payments", 0), ("orders", 2)]
            .map(|(topic, partition)| TopicPartition::new(topic, partition))
            .to_vec()
    }

    /// Offsets 7, none and an error; the third is left out, and something else is there.
    fn answers() -> [OffsetFetchResponse; 2] {
        let all = [
            ("orders", 0, 7, 3, 0),
            ("orders", 1, -1, -1, 0),
            ("payments", 0, -1, -1, 29),
            ("other", 9, 1, 1, 0),
        ];
        let old = all.map(|(topic, partition, offset, epoch, code)| {
            let partition = OffsetFetchResponsePartition::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_error_code(code);
            OffsetFetchResponseTopic::default()
                .with_name(TopicName(text(topic)))
                .with_partitions(vec![partition])
        });
        let new = all.map(|(topic, partition, offset, epoch, code)| {
            let partition = OffsetFetchResponsePartitions::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_error_code(code);
            OffsetFetchResponseTopics::default()
                .with_name(TopicName(text(topic)))
                .with_partitions(vec![partition])
        });
        let group = OffsetFetchResponseGroup::default().with_topics(new.to_vec());
        [
            OffsetFetchResponse::default().with_topics(old.to_vec()),
            OffsetFetchResponse::default().with_groups(vec![group]),
        ]
    }

    #[test]
    fn no_commit_is_no_error_and_what_is_missing_is_one() {
        for answer in answers() {
            let found: Vec<_> = fetched(&answer, &names()).unwrap().into_values().collect();
            let committed = Committed { offset: 7, epoch: 3 };
            assert_eq!(
                found,
                [Ok(Some(committed)), Ok(None), Err(UNKNOWN_SERVER_ERROR), Err(29)]
            );
        }
    }

    #[test]
    fn an_error_of_the_group_is_one_of_all() {
        let [old, mut new] = answers();
        assert_eq!(fetched(&old.with_error_code(16), &names()), Err(16));
        new.groups[0].error_code = 25;
        assert_eq!(fetched(&new, &names()), Err(25));
    }

    #[test]
    fn every_version_can_say_what_is_asked() {
        for version in 1..=9 {
            let mut bytes = BytesMut::new();
            fetch("billing", &names(), version).encode(&mut bytes, version).unwrap();
            let read = OffsetFetchRequest::decode(&mut bytes.freeze(), version).unwrap();
            let partitions: usize = match version {
                8.. => read.groups[0]
                    .topics
                    .iter()
                    .flatten()
                    .map(|topic| topic.partition_indexes.len())
                    .sum(),
                _ => read
                    .topics
                    .iter()
                    .flatten()
                    .map(|topic| topic.partition_indexes.len())
                    .sum(),
            };
            assert_eq!(
                (partitions, read.require_stable),
                (4, version >= 7),
                "version {version}"
            );
        }
    }

    #[test]
    fn every_version_can_commit() {
        for (version, instance_id) in (2..=9).flat_map(|version| [(version, None), (version, Some("one"))]) {
            if version < 7 && instance_id.is_some() {
                continue;
            }
            let identity = Identity {
                member_id: "me".to_owned(),
                instance_id: instance_id.map(str::to_owned),
                generation: 5,
            };
            let progress: Vec<Progress> = names()
                .into_iter()
                .map(|name| Progress {
                    slot: 0,
                    name,
                    offset: 42,
                    epoch: 2,
                })
                .collect();
            let mut bytes = BytesMut::new();
            commit("billing", &identity, &progress)
                .encode(&mut bytes, version)
                .unwrap();
            let read = OffsetCommitRequest::decode(&mut bytes.freeze(), version).unwrap();
            assert_eq!(read.generation_id_or_member_epoch, 5);
            assert_eq!(read.group_instance_id.as_deref(), instance_id);
            assert_eq!(
                read.topics
                    .iter()
                    .map(|topic| topic.partitions.len())
                    .collect::<Vec<_>>(),
                [3, 1]
            );
            assert_eq!(read.topics[0].partitions[2].committed_offset, 42);
        }
    }

    #[test]
    fn a_commit_is_answered_for_each_partition() {
        let partition = |index, code| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code)
        };
        let topic = OffsetCommitResponseTopic::default()
            .with_name(TopicName(text("orders")))
            .with_partitions(vec![partition(0, 0), partition(2, 12)]);
        let codes = committed(&OffsetCommitResponse::default().with_topics(vec![topic]));
        let orders = |partition| TopicPartition::new("orders", partition);
        assert_eq!(codes, BTreeMap::from([(orders(0), 0), (orders(2), 12)]));
    }
}

//! From topics that are named by ID to those that are named by name, and back. A topic that has neither is unknown.

use std::borrow::Cow;

use kafka_protocol::{
    messages::{
        OffsetCommitRequest, TopicName,
        offset_commit_request::OffsetCommitRequestTopic,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_request::OffsetFetchRequestGroup,
        offset_fetch_response::OffsetFetchResponseGroup,
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use crate::{error_code::UNKNOWN_TOPIC_ID, state::State};

/// Without a name where there is no topic of this ID.
fn name(state: &State, id: Uuid) -> TopicName {
    let name = state.name_of(id).unwrap_or_default();
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// The request as if it had named its topics, and what is answered for those that nobody knows: before anything else is
/// looked at.
pub(super) fn named_commit<'a>(
    state: &State,
    request: &'a OffsetCommitRequest,
    version: i16,
) -> (Cow<'a, OffsetCommitRequest>, Vec<OffsetCommitResponseTopic>) {
    if version < FIRST_WITH_IDS {
        return (Cow::Borrowed(request), Vec::new());
    }
    let mut named = request.clone();
    for topic in &mut named.topics {
        topic.name = name(state, topic.topic_id);
    }
    let (known, unknown) = named.topics.into_iter().partition(|topic| !topic.name.is_empty());
    named.topics = known;
    (Cow::Owned(named), unknown.iter().map(unknown_commit).collect())
}

fn unknown_commit(topic: &OffsetCommitRequestTopic) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(UNKNOWN_TOPIC_ID)
    });
    OffsetCommitResponseTopic::default()
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions.collect())
}

pub(super) fn named_fetch<'a>(
    state: &State,
    request: &'a OffsetFetchRequestGroup,
    version: i16,
) -> Cow<'a, OffsetFetchRequestGroup> {
    if version < FIRST_WITH_IDS {
        return Cow::Borrowed(request);
    }
    let mut request = request.clone();
    for topic in request.topics.iter_mut().flatten() {
        topic.name = name(state, topic.topic_id);
    }
    Cow::Owned(request)
}

/// To what was asked for, or to all there is.
pub(super) fn give_ids(
    state: &State,
    asked: &OffsetFetchRequestGroup,
    version: i16,
    found: &mut OffsetFetchResponseGroup,
) {
    if version < FIRST_WITH_IDS {
        return;
    }
    let Some(asked) = &asked.topics else {
        // What has no ID cannot be told in this version, and Kafka leaves it out.
        found.topics.retain_mut(|topic| {
            let known = state.topics.get(topic.name.as_str());
            topic.topic_id = known.map_or(Uuid::nil(), |known| known.id);
            known.is_some()
        });
        return;
    };
    for (topic, asked) in found.topics.iter_mut().zip(asked) {
        topic.topic_id = asked.topic_id;
        if topic.name.is_empty() {
            for partition in &mut topic.partitions {
                partition.error_code = UNKNOWN_TOPIC_ID;
            }
        }
    }
    // As Kafka has them: what it does not know comes last.
    found.topics.sort_by_key(|topic| topic.name.is_empty());
}

const FIRST_WITH_IDS: i16 = 10;

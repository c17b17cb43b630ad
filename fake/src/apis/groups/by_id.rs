//! From topics that are named by ID to those that are named by name, and back. A topic that has neither is unknown.

use std::borrow::Cow;

use kafka_protocol::{
    messages::{
        OffsetCommitRequest, OffsetCommitResponse, TopicName, offset_fetch_request::OffsetFetchRequestGroup,
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

pub(super) fn named_commit<'a>(state: &State, request: &'a OffsetCommitRequest) -> Cow<'a, OffsetCommitRequest> {
    if request.topics.iter().all(|topic| topic.topic_id.is_nil()) {
        return Cow::Borrowed(request);
    }
    let mut request = request.clone();
    for topic in &mut request.topics {
        topic.name = name(state, topic.topic_id);
    }
    Cow::Owned(request)
}

/// Says of what; without this, Kafka's answer to a name that it does not know is given.
pub(super) fn refuse_unknown_commits(named: &OffsetCommitRequest, response: &mut OffsetCommitResponse) {
    for (topic, answer) in named.topics.iter().zip(&mut response.topics) {
        if topic.name.is_empty() && !topic.topic_id.is_nil() {
            for partition in &mut answer.partitions {
                partition.error_code = UNKNOWN_TOPIC_ID;
            }
        }
    }
}

pub(super) fn named_fetch<'a>(state: &State, request: &'a OffsetFetchRequestGroup) -> Cow<'a, OffsetFetchRequestGroup> {
    let mut topics = request.topics.iter().flatten();
    if topics.all(|topic| topic.topic_id.is_nil()) {
        return Cow::Borrowed(request);
    }
    let mut request = request.clone();
    for topic in request.topics.iter_mut().flatten() {
        topic.name = name(state, topic.topic_id);
    }
    Cow::Owned(request)
}

/// To what was asked for, or to all there is.
pub(super) fn give_ids(state: &State, asked: &OffsetFetchRequestGroup, found: &mut OffsetFetchResponseGroup) {
    for (at, topic) in found.topics.iter_mut().enumerate() {
        let asked = asked.topics.as_ref().and_then(|topics| topics.get(at));
        topic.topic_id = match asked {
            Some(asked) => asked.topic_id,
            None => state
                .topics
                .get(topic.name.as_str())
                .map_or(Uuid::nil(), |topic| topic.id),
        };
        if topic.name.is_empty() && !topic.topic_id.is_nil() {
            for partition in &mut topic.partitions {
                partition.error_code = UNKNOWN_TOPIC_ID;
            }
        }
    }
}

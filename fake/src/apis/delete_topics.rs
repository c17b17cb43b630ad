//! DeleteTopics: by name, and since version 6 by ID.

use kafka_protocol::{
    messages::{
        DeleteTopicsRequest, DeleteTopicsResponse, TopicName, delete_topics_request::DeleteTopicState,
        delete_topics_response::DeletableTopicResult,
    },
    protocol::StrBytes,
};

use super::{Context, Refused, refused};
use crate::{
    error_code::{INVALID_REQUEST, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION},
    state::State,
};

pub(crate) fn answer(state: &mut State, context: &Context<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter();
    let by_name = by_name.map(|name| DeleteTopicState::default().with_name(Some(name)));
    let topics: Vec<_> = by_name.chain(request.topics).collect();
    let responses = topics.into_iter().map(|topic| {
        let result = DeletableTopicResult::default().with_topic_id(topic.topic_id);
        match find(state, context, &topic) {
            Ok(name) => {
                let id = state.delete_topic(&name).map_or(topic.topic_id, |deleted| deleted.id);
                result
                    .with_topic_id(id)
                    .with_name(Some(TopicName(StrBytes::from_string(name))))
            }
            Err(refused) => result
                .with_name(topic.name)
                .with_error_code(refused.code)
                .with_error_message(Some(refused.message)),
        }
    });
    let responses = responses.collect();
    DeleteTopicsResponse::default()
        .with_throttle_time_ms(state.throttle_ms())
        .with_responses(responses)
}

fn find(state: &State, context: &Context<'_>, topic: &DeleteTopicState) -> Result<String, Refused> {
    context.check_fault().map_err(|code| refused(code, ""))?;
    match &topic.name {
        Some(_) if !topic.topic_id.is_nil() => Err(refused(
            INVALID_REQUEST,
            "You may not specify both topic name and topic id.",
        )),
        Some(name) if state.topics.contains_key(name.as_str()) => Ok(name.to_string()),
        Some(_) => Err(refused(
            UNKNOWN_TOPIC_OR_PARTITION,
            "This server does not host this topic-partition.",
        )),
        None => match state.name_of(topic.topic_id) {
            Some(name) => Ok(name.to_owned()),
            None => Err(refused(UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")),
        },
    }
}

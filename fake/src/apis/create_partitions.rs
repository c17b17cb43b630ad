//! CreatePartitions: a topic gets more of them.

use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, create_partitions_request::CreatePartitionsTopic,
    create_partitions_response::CreatePartitionsTopicResult,
};

use super::{
    Context, Refused, is_repeated,
    placement::{check_replicas, replicas},
    refused,
};
use crate::{
    error_code::{INVALID_PARTITIONS, INVALID_REPLICA_ASSIGNMENT, INVALID_REQUEST, UNKNOWN_TOPIC_OR_PARTITION},
    state::State,
};

pub(crate) fn answer(
    state: &mut State,
    context: &Context<'_>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let names: Vec<String> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
    let results = request.topics.into_iter().map(|topic| {
        let planned = match is_repeated(&names, &topic.name) {
            true => Err(refused(INVALID_REQUEST, "Duplicate topic name.")),
            false => plan(state, context, &topic),
        };
        let result = CreatePartitionsTopicResult::default();
        let result = match planned {
            Err(refused) => result
                .with_error_code(refused.code)
                .with_error_message(Some(refused.message)),
            Ok(assignment) => {
                if !request.validate_only {
                    state.add_partitions(&topic.name, assignment);
                }
                result
            }
        };
        result.with_name(topic.name)
    });
    let results = results.collect();
    CreatePartitionsResponse::default()
        .with_throttle_time_ms(state.throttle_ms())
        .with_results(results)
}

fn plan(state: &State, context: &Context<'_>, asked: &CreatePartitionsTopic) -> Result<Vec<Vec<i32>>, Refused> {
    context.check_fault().map_err(|code| refused(code, ""))?;
    let name = asked.name.as_str();
    let topic = state.topics.get(name);
    let topic = topic.ok_or_else(|| {
        refused(
            UNKNOWN_TOPIC_OR_PARTITION,
            "This server does not host this topic-partition.",
        )
    })?;
    let before = topic.partitions.len() as i32;
    if asked.count == before {
        return Err(refused(
            INVALID_PARTITIONS,
            format!("Topic already has {before} partition(s)."),
        ));
    }
    if asked.count < before {
        let why = format!(
            "The topic {name} currently has {before} partition(s); {} would not be an increase.",
            asked.count
        );
        return Err(refused(INVALID_PARTITIONS, why));
    }
    let added = asked.count - before;
    let replication = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
    let Some(assignments) = &asked.assignments else {
        return Ok(state.place(before, added, replication));
    };
    if assignments.len() != added as usize {
        let why = format!(
            "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        );
        return Err(refused(INVALID_REPLICA_ASSIGNMENT, why));
    }
    let assignments = assignments.iter().map(|assignment| {
        let replicas = replicas(&assignment.broker_ids);
        check_replicas(state, &replicas, Some(replication)).map(|()| replicas)
    });
    assignments.collect()
}

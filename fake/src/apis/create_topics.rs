//! CreateTopics: with placement by the brokers, or by the client.

use kafka_protocol::{
    messages::{
        CreateTopicsRequest, CreateTopicsResponse,
        create_topics_request::CreatableTopic,
        create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
    },
    protocol::StrBytes,
};

use super::{
    Context, Refused, is_repeated,
    placement::{check_replicas, replicas},
    refused,
};
use crate::{
    error_code::{
        INVALID_CONFIG, INVALID_PARTITIONS, INVALID_REPLICA_ASSIGNMENT, INVALID_REPLICATION_FACTOR, INVALID_REQUEST,
        INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS,
    },
    state::State,
    topic::is_valid_name,
    topic_configs::{SETTINGS, check},
};

/// Where DescribeConfigs says that a value comes from.
const FROM_TOPIC: i8 = 1;
const FROM_DEFAULT: i8 = 5;

pub(crate) fn answer(state: &mut State, context: &Context<'_>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let names: Vec<String> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
    let topics = request.topics.into_iter().map(|topic| {
        let result = CreatableTopicResult::default().with_name(topic.name.clone());
        let planned = match is_repeated(&names, &topic.name) {
            true => Err(refused(INVALID_REQUEST, "Duplicate topic name.")),
            false => plan(state, context, &topic),
        };
        match planned {
            Err(refused) => result
                .with_error_code(refused.code)
                .with_error_message(Some(refused.message))
                .with_num_partitions(-1)
                .with_replication_factor(-1),
            Ok(assignment) => {
                let result = result
                    .with_num_partitions(assignment.len() as i32)
                    .with_replication_factor(assignment[0].len() as i16)
                    .with_configs(Some(configs(&topic)));
                if request.validate_only {
                    return result;
                }
                let created = state.create_topic_at(&topic.name, assignment);
                let set = topic.configs.into_iter();
                created.configs = set
                    .filter_map(|config| Some((config.name.to_string(), config.value?.to_string())))
                    .collect();
                result.with_topic_id(created.id)
            }
        }
    });
    let topics = topics.collect();
    CreateTopicsResponse::default()
        .with_throttle_time_ms(state.throttle_ms())
        .with_topics(topics)
}

/// Where the replicas of each partition will be.
fn plan(state: &State, context: &Context<'_>, topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refused> {
    context.check_fault().map_err(|code| refused(code, ""))?;
    check_name(state, &topic.name)?;
    for config in &topic.configs {
        let value = config.value.as_deref().unwrap_or_default();
        check(&config.name, value).map_err(|why| refused(INVALID_CONFIG, why))?;
    }
    if !topic.assignments.is_empty() {
        return assigned(state, topic);
    }
    let replication = match topic.replication_factor {
        -1 => state.default_replication(),
        factor if factor < 1 => {
            let why = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(refused(INVALID_REPLICATION_FACTOR, why));
        }
        factor => factor as usize,
    };
    let partitions = match topic.num_partitions {
        -1 => state.limits.partitions,
        partitions if partitions < 1 => {
            let why = "Number of partitions was set to an invalid non-positive value.";
            return Err(refused(INVALID_PARTITIONS, why));
        }
        partitions => partitions,
    };
    let brokers = state.nodes.len();
    if replication > brokers {
        let why = format!(
            "Unable to replicate the partition {replication} time(s): The target replication factor of {replication} \
             cannot be reached because only {brokers} broker(s) are registered."
        );
        return Err(refused(INVALID_REPLICATION_FACTOR, why));
    }
    Ok(state.place(0, partitions, replication))
}

fn check_name(state: &State, name: &str) -> Result<(), Refused> {
    if !is_valid_name(name) {
        return Err(refused(
            INVALID_TOPIC_EXCEPTION,
            format!("Topic name is invalid: '{name}'"),
        ));
    }
    if state.topics.contains_key(name) {
        return Err(refused(TOPIC_ALREADY_EXISTS, format!("Topic '{name}' already exists.")));
    }
    // Names of metrics have no dots, so two topics must not differ in these alone.
    let plain = |name: &str| name.replace('.', "_");
    match state.topics.keys().find(|other| plain(other) == plain(name)) {
        None => Ok(()),
        Some(other) => Err(refused(
            INVALID_TOPIC_EXCEPTION,
            format!("Topic '{name}' collides with existing topic: {other}"),
        )),
    }
}

fn assigned(state: &State, topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refused> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let why =
            "A manual partition assignment was specified, but numPartitions or replicationFactor was not set to -1.";
        return Err(refused(INVALID_REQUEST, why));
    }
    let mut assignments: Vec<_> = topic.assignments.iter().collect();
    assignments.sort_by_key(|assignment| assignment.partition_index);
    let mut assignment: Vec<Vec<i32>> = Vec::new();
    for (expected, assigned) in (0..).zip(assignments) {
        if assigned.partition_index != expected {
            let why = "partitions should be a consecutive 0-based integer sequence";
            return Err(refused(INVALID_REPLICA_ASSIGNMENT, why));
        }
        let replicas = replicas(&assigned.broker_ids);
        check_replicas(state, &replicas, assignment.first().map(Vec::len))?;
        assignment.push(replicas);
    }
    Ok(assignment)
}

/// All settings of the new topic.
fn configs(topic: &CreatableTopic) -> Vec<CreatableTopicConfigs> {
    let settings = SETTINGS.iter().map(|setting| {
        let set = topic.configs.iter().find(|config| *config.name == *setting.name);
        let value = set.and_then(|config| config.value.clone());
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(setting.name))
            .with_config_source(if value.is_some() { FROM_TOPIC } else { FROM_DEFAULT })
            .with_value(Some(value.unwrap_or(StrBytes::from_static_str(setting.default))))
    });
    settings.collect()
}

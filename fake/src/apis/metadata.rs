//! Metadata: brokers, topics, leaders.

use kafka_protocol::{
    messages::{
        BrokerId, MetadataRequest, MetadataResponse, TopicName,
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
    protocol::StrBytes,
};

use super::Context;
use crate::{
    error_code::{INVALID_TOPIC_EXCEPTION, LEADER_NOT_AVAILABLE, NONE, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION},
    state::{Node, State},
    topic::{Partition, Topic, is_valid_name},
};

/// What Kafka says of operations that nobody has asked for.
const NOT_ASKED: i32 = i32::MIN;

pub(crate) fn answer(state: &mut State, context: &Context<'_>, request: MetadataRequest) -> MetadataResponse {
    let may_create = context.version() < 4 || request.allow_auto_topic_creation;
    let all = context.version() == 0 && request.topics.as_ref().is_some_and(Vec::is_empty);
    let topics = match request.topics.filter(|_| !all) {
        None => state
            .topics
            .iter()
            .map(|(name, topic)| describe(state, name, topic))
            .collect(),
        Some(asked) => asked
            .into_iter()
            .map(|asked| look_up(state, context, asked, may_create))
            .collect(),
    };
    MetadataResponse::default()
        .with_throttle_time_ms(state.throttle_ms())
        .with_brokers(state.nodes.iter().filter(|node| node.is_up).map(broker).collect())
        .with_cluster_id(Some(StrBytes::from_string(state.cluster_id.clone())))
        .with_controller_id(BrokerId(state.controller()))
        .with_topics(topics)
        .with_cluster_authorized_operations(NOT_ASKED)
}

fn look_up(
    state: &mut State,
    context: &Context<'_>,
    asked: MetadataRequestTopic,
    may_create: bool,
) -> MetadataResponseTopic {
    let refusal = |code| {
        MetadataResponseTopic::default()
            .with_error_code(code)
            .with_name(None)
            .with_topic_authorized_operations(NOT_ASKED)
    };
    if let Err(code) = context.check_fault() {
        return refusal(code).with_name(asked.name).with_topic_id(asked.topic_id);
    }
    let Some(name) = &asked.name else {
        return match state.name_of(asked.topic_id) {
            Some(name) => describe(state, name, &state.topics[name]),
            None => refusal(UNKNOWN_TOPIC_ID).with_topic_id(asked.topic_id),
        };
    };
    if may_create && state.limits.auto_create && is_valid_name(name) && !state.topics.contains_key(name.as_str()) {
        let (partitions, replication) = (state.limits.partitions, state.default_replication());
        state.create_topic(name, partitions, replication);
    }
    match state.topics.get(name.as_str()) {
        Some(topic) => describe(state, name, topic),
        None if is_valid_name(name) => refusal(UNKNOWN_TOPIC_OR_PARTITION).with_name(asked.name),
        None => refusal(INVALID_TOPIC_EXCEPTION).with_name(asked.name),
    }
}

fn describe(state: &State, name: &str, topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions);
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
        .with_topic_id(topic.id)
        .with_partitions(
            partitions
                .map(|(index, found)| partition(state, index, found))
                .collect(),
        )
        .with_topic_authorized_operations(NOT_ASKED)
}

fn partition(state: &State, index: i32, partition: &Partition) -> MetadataResponsePartition {
    let brokers = |up: bool| {
        let replicas = partition.replicas.iter().copied();
        replicas
            .filter(|node| state.is_up(*node) == up)
            .map(BrokerId)
            .collect::<Vec<_>>()
    };
    let error = if partition.leader < 0 {
        LEADER_NOT_AVAILABLE
    } else {
        NONE
    };
    MetadataResponsePartition::default()
        .with_error_code(error)
        .with_partition_index(index)
        .with_leader_id(BrokerId(partition.leader))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(partition.replicas.iter().copied().map(BrokerId).collect())
        .with_isr_nodes(brokers(true))
        .with_offline_replicas(brokers(false))
}

fn broker(node: &Node) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(BrokerId(node.id))
        .with_host(node.host())
        .with_port(node.port())
        .with_rack(node.rack())
}

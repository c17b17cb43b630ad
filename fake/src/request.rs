//! What a test is told of a request.

use std::time::Duration;

use kafka_protocol::messages::TopicName;
use uuid::Uuid;

use crate::{Api, api::Call, shared::Caller, state::State, wire::Head};

/// A request that came to a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    node: i32,
    api: Api,
    version: i16,
    client_id: String,
    connection: u64,
    at: Duration,
    group: Option<String>,
    topics: Vec<(String, Vec<i32>)>,
}

impl Request {
    pub(crate) fn new(state: &State, caller: &Caller, head: &Head, call: &Call) -> Self {
        Self {
            node: caller.node,
            api: head.api,
            version: head.version,
            client_id: head.client_id.clone(),
            connection: caller.connection,
            at: state.clock.now(),
            group: group(call),
            topics: topics(state, call),
        }
    }

    /// The broker it came to.
    pub fn node(&self) -> i32 {
        self.node
    }

    /// What kind of request it is.
    pub fn api(&self) -> Api {
        self.api
    }

    /// The version it is written in.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// What the client calls itself; empty if it does not say.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The number of its connection. No two connections to a cluster have the same one.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// When it came: since the cluster was started, by the brokers' clock.
    pub fn at(&self) -> Duration {
        self.at
    }

    /// The group that it is about, if it is about one.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// The topics that it names, each with the partitions that it names. A Fetch in a session names only what changes.
    pub fn topics(&self) -> &[(String, Vec<i32>)] {
        &self.topics
    }

    /// Whether it names this topic.
    pub fn names(&self, topic: &str) -> bool {
        self.topics.iter().any(|(name, _)| name == topic)
    }
}

fn group(call: &Call) -> Option<String> {
    Some(match call {
        Call::OffsetCommit(request) => request.group_id.to_string(),
        Call::OffsetFetch(request) => match request.groups.first() {
            Some(group) => group.group_id.to_string(),
            None => request.group_id.to_string(),
        },
        Call::FindCoordinator(request) if request.key_type == 0 => match request.coordinator_keys.first() {
            Some(group) => group.to_string(),
            None => request.key.to_string(),
        },
        Call::JoinGroup(request) => request.group_id.to_string(),
        Call::Heartbeat(request) => request.group_id.to_string(),
        Call::LeaveGroup(request) => request.group_id.to_string(),
        Call::SyncGroup(request) => request.group_id.to_string(),
        Call::OffsetDelete(request) => request.group_id.to_string(),
        Call::ConsumerGroupHeartbeat(request) => request.group_id.to_string(),
        Call::DescribeGroups(request) => request.groups.first()?.to_string(),
        Call::DeleteGroups(request) => request.groups_names.first()?.to_string(),
        Call::ConsumerGroupDescribe(request) => request.group_ids.first()?.to_string(),
        _ => return None,
    })
}

fn topics(state: &State, call: &Call) -> Vec<(String, Vec<i32>)> {
    let name = |name: &TopicName, id: Uuid| match state.name_of(id) {
        Some(found) => found.to_owned(),
        None => name.to_string(),
    };
    let optional = |known: &Option<TopicName>, id| name(known.as_ref().unwrap_or(&TopicName::default()), id);
    macro_rules! each {
        ($topics:expr, |$topic:ident| $name:expr, $partitions:ident, $index:ident) => {
            $topics
                .iter()
                .map(|$topic| {
                    (
                        $name,
                        $topic
                            .$partitions
                            .iter()
                            .map(|partition| partition.$index)
                            .collect(),
                    )
                })
                .collect()
        };
    }
    match call {
        Call::Produce(request) => each!(request.topic_data, |t| name(&t.name, t.topic_id), partition_data, index),
        Call::Fetch(request) => each!(request.topics, |t| name(&t.topic, t.topic_id), partitions, partition),
        Call::ListOffsets(request) => each!(request.topics, |t| t.name.to_string(), partitions, partition_index),
        Call::OffsetForLeaderEpoch(request) => each!(request.topics, |t| t.topic.to_string(), partitions, partition),
        Call::OffsetCommit(request) => each!(
            request.topics,
            |t| name(&t.name, t.topic_id),
            partitions,
            partition_index
        ),
        Call::OffsetDelete(request) => each!(request.topics, |t| t.name.to_string(), partitions, partition_index),
        Call::OffsetFetch(request) => {
            let topics = request.topics.iter().flatten();
            let topics = topics.map(|topic| (topic.name.to_string(), topic.partition_indexes.clone()));
            let of_groups = request.groups.iter().flat_map(|group| group.topics.iter().flatten());
            let of_groups = of_groups.map(|topic| (name(&topic.name, topic.topic_id), topic.partition_indexes.clone()));
            topics.chain(of_groups).collect()
        }
        // What it says that it has, and what else it subscribes to.
        Call::ConsumerGroupHeartbeat(request) => {
            let owned = request.topic_partitions.iter().flatten();
            let mut topics: Vec<(String, Vec<i32>)> = owned
                .map(|topic| (optional(&None, topic.topic_id), topic.partitions.clone()))
                .collect();
            for wanted in request.subscribed_topic_names.iter().flatten() {
                if topics.iter().all(|(name, _)| **name != ***wanted) {
                    topics.push((wanted.to_string(), Vec::new()));
                }
            }
            topics
        }
        Call::DescribeConfigs(request) => {
            let resources = request.resources.iter();
            let topics = resources.filter(|resource| resource.resource_type == TOPIC_RESOURCE);
            topics
                .map(|topic| (topic.resource_name.to_string(), Vec::new()))
                .collect()
        }
        Call::DeleteRecords(request) => each!(request.topics, |t| t.name.to_string(), partitions, partition_index),
        Call::Metadata(request) => {
            let topics = request.topics.iter().flatten();
            topics
                .map(|topic| (optional(&topic.name, topic.topic_id), Vec::new()))
                .collect()
        }
        Call::CreateTopics(request) => {
            let topics = request.topics.iter();
            topics.map(|topic| (topic.name.to_string(), Vec::new())).collect()
        }
        Call::CreatePartitions(request) => {
            let topics = request.topics.iter();
            topics.map(|topic| (topic.name.to_string(), Vec::new())).collect()
        }
        Call::DeleteTopics(request) => {
            let named = request.topic_names.iter().map(|name| (name.to_string(), Vec::new()));
            let topics = request.topics.iter();
            let topics = topics.map(|topic| (optional(&topic.name, topic.topic_id), Vec::new()));
            named.chain(topics).collect()
        }
        _ => Vec::new(),
    }
}

/// What DescribeConfigs calls a topic.
const TOPIC_RESOURCE: i8 = 2;

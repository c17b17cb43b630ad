//! What a cluster consists of, as users see it.

use crate::cluster;

/// Brokers, and the topics that were asked for, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterMetadata {
    /// The cluster's ID, where the broker tells it.
    pub cluster_id: Option<String>,
    /// The broker to ask for changes to the cluster. With KRaft any broker will do, and one is named at random.
    pub controller: Option<i32>,
    /// In order of their IDs.
    pub brokers: Vec<Broker>,
    /// In order of their names. Topics that do not exist, or may not be seen, are missing.
    pub topics: Vec<TopicMetadata>,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broker {
    /// Its `node.id`.
    pub id: i32,
    /// The host it tells clients to connect to (`advertised.listeners`).
    pub host: String,
    /// The port that goes with the host.
    pub port: u16,
    /// Its `broker.rack`, if it has one.
    pub rack: Option<String>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Kafka keeps something of its own in it.
    pub is_internal: bool,
    /// In order of their index.
    pub partitions: Vec<PartitionMetadata>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionMetadata {
    /// Its number, from 0.
    pub partition: i32,
    /// The broker that leads it; `None` while there is none.
    pub leader: Option<i32>,
    /// The brokers that hold a copy.
    pub replicas: Vec<i32>,
    /// Those of them that are up to date.
    pub in_sync_replicas: Vec<i32>,
}

impl ClusterMetadata {
    /// With those topics that `wanted` picks.
    pub(crate) fn of(metadata: &cluster::Metadata, wanted: impl Fn(&str) -> bool) -> Self {
        let topics = metadata.topics.values();
        let mut topics: Vec<TopicMetadata> = topics
            .filter(|topic| topic.error == 0 && wanted(&topic.name))
            .map(|topic| TopicMetadata::of(topic))
            .collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            cluster_id: metadata.cluster_id.as_deref().map(str::to_owned),
            controller: metadata.controller,
            brokers: metadata.brokers.values().cloned().map(Broker::from).collect(),
            topics,
        }
    }
}

impl From<cluster::Broker> for Broker {
    fn from(broker: cluster::Broker) -> Self {
        let cluster::Broker { id, host, port, rack } = broker;
        Self { id, host, port, rack }
    }
}

impl TopicMetadata {
    fn of(topic: &cluster::Topic) -> Self {
        let partitions = topic.partitions.iter().map(|partition| PartitionMetadata {
            partition: partition.index,
            leader: (partition.leader >= 0).then_some(partition.leader),
            replicas: partition.replicas.clone(),
            in_sync_replicas: partition.in_sync.clone(),
        });
        Self {
            name: topic.name.to_string(),
            is_internal: topic.is_internal,
            partitions: partitions.collect(),
        }
    }
}

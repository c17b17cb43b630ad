//! What is known of the cluster: brokers, topics, leaders. A value; answers are merged into it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::{
    ResponseError,
    messages::{
        MetadataResponse,
        metadata_response::{MetadataResponsePartition, MetadataResponseTopic},
    },
};
use uuid::Uuid;

use crate::net::Address;

/// A snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metadata {
    /// Rises with every change.
    pub(crate) generation: u64,
    pub(crate) cluster_id: Option<Arc<str>>,
    pub(crate) controller: Option<i32>,
    pub(crate) brokers: BTreeMap<i32, Broker>,
    pub(crate) topics: HashMap<Arc<str>, Arc<Topic>>,
    /// Topics that brokers say do not exist. Nothing here is older than `missing_ttl`.
    missing: HashMap<Arc<str>, Missing>,
    /// How long the absence of a topic is doubted, and then how long it is believed.
    missing_ttl: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    /// The first denial of a series without longer gaps than `missing_ttl`.
    since: Instant,
    /// The last one.
    last: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
}

impl Broker {
    pub(crate) fn address(&self) -> Address {
        Address::new(self.host.clone(), self.port)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    /// Nil where the broker knows none (before 2.8). A topic deleted and created again has another one.
    pub(crate) id: Uuid,
    pub(crate) is_internal: bool,
    /// In order of their index, without gaps.
    pub(crate) partitions: Vec<Partition>,
    /// Why the broker would not describe it; 0 when it did.
    pub(crate) error: i16,
    pub(crate) fetched_at: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    /// The broker that leads; −1 when there is none.
    pub(crate) leader: i32,
    /// Rises with every change of the leader; −1 where the broker does not tell (before 2.1).
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
    /// Why there is no leader; 0 when there is.
    pub(crate) error: i16,
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn is_younger_than(&self, age: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.fetched_at) < age
    }
}

/// The leader of a partition as an answer to a Fetch or Produce tells it (KIP-951).
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaderHint<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
}

impl Metadata {
    pub(crate) fn new(missing_ttl: Duration) -> Self {
        Self {
            missing_ttl,
            ..Self::default()
        }
    }

    /// The topic, unless it is unknown or was refused.
    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The broker that leads this partition and its epoch, where known.
    #[cfg(test)]
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<(i32, i32)> {
        let partition = self.topic(topic)?.partition(partition)?;
        (partition.leader >= 0).then_some((partition.leader, partition.leader_epoch))
    }

    /// Whether brokers have denied this topic for so long, and so recently, that it is believed. A topic just created
    /// is not known to every broker at once.
    pub(crate) fn is_missing(&self, name: &str, now: Instant) -> bool {
        let ttl = self.missing_ttl;
        self.missing.get(name).is_some_and(|missing| {
            missing.last.saturating_duration_since(missing.since) >= ttl
                && now.saturating_duration_since(missing.last) < ttl
        })
    }

    /// Forgets that these topics did not exist.
    pub(crate) fn forget_missing<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            self.missing.remove(name);
        }
    }

    /// Forgets what is known of these topics.
    pub(crate) fn forget_topics<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            if self.topics.remove(name).is_some() {
                self.generation += 1;
            }
        }
    }

    /// Takes over a broker's answer. With `all`, topics that are not in it do not exist.
    pub(crate) fn merge(&mut self, answer: &MetadataResponse, all: bool, now: Instant) {
        self.generation += 1;
        let ttl = self.missing_ttl;
        self.missing
            .retain(|_, missing| now.saturating_duration_since(missing.last) <= ttl);
        if let Some(id) = &answer.cluster_id {
            self.cluster_id = Some(Arc::from(id.as_str()));
        }
        // A broker that has just started may not know anybody yet.
        if !answer.brokers.is_empty() {
            self.controller = (answer.controller_id.0 >= 0).then_some(answer.controller_id.0);
            let brokers = answer.brokers.iter().filter_map(|broker| {
                let rack = broker.rack.as_ref().map(|rack| rack.to_string());
                broker_at(broker.node_id.0, &broker.host, broker.port, rack)
            });
            self.brokers = brokers.map(|broker| (broker.id, broker)).collect();
        }
        if all {
            let named = answer.topics.iter().filter_map(|topic| topic.name.as_ref());
            let named: HashSet<&str> = named.map(|name| name.as_str()).collect();
            self.topics.retain(|name, _| named.contains(&**name));
        }
        for topic in &answer.topics {
            self.merge_topic(topic, now);
        }
    }

    fn merge_topic(&mut self, answer: &MetadataResponseTopic, now: Instant) {
        let Some(name) = answer.name.as_ref().map(|name| name.as_str()) else {
            return;
        };
        let name = match self.topics.get_key_value(name) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(name),
        };
        if answer.error_code == ResponseError::UnknownTopicOrPartition.code() {
            self.topics.remove(&name);
            let missing = self.missing.entry(name).or_insert(Missing { since: now, last: now });
            missing.last = now;
            return;
        }
        self.missing.remove(&name);
        let known = self.topics.get(&name).filter(|known| {
            // Another ID: deleted, and created again. Nothing of the old one holds.
            known.id == answer.topic_id || known.id.is_nil() || answer.topic_id.is_nil()
        });
        let partitions = merge_partitions(
            known.map_or(&[], |known| &known.partitions),
            &answer.partitions,
            &self.brokers,
        );
        let topic = Topic {
            name: Arc::clone(&name),
            id: answer.topic_id,
            is_internal: answer.is_internal,
            partitions,
            error: answer.error_code,
            fetched_at: now,
        };
        self.topics.insert(name, Arc::new(topic));
    }

    /// Believes a newer leader before any metadata tells it. Returns whether that was news.
    pub(crate) fn apply_hint(&mut self, hint: LeaderHint<'_>) -> bool {
        let LeaderHint {
            topic,
            partition,
            leader,
            leader_epoch,
        } = hint;
        let Some(known) = self.topics.get_mut(topic) else {
            return false;
        };
        match known.partition(partition) {
            Some(known) if leader >= 0 && known.leader_epoch < leader_epoch => {}
            _ => return false,
        }
        let topic = Arc::make_mut(known);
        if let Some(known) = topic.partitions.iter_mut().find(|known| known.index == partition) {
            known.leader = leader;
            known.leader_epoch = leader_epoch;
            known.error = 0;
        }
        self.generation += 1;
        true
    }

    /// A broker that a hint told of.
    pub(crate) fn apply_endpoint(&mut self, id: i32, host: &str, port: i32, rack: Option<&str>) {
        let Some(broker) = broker_at(id, host, port, rack.map(str::to_owned)) else {
            return;
        };
        if self.brokers.get(&id) != Some(&broker) {
            self.brokers.insert(id, broker);
            self.generation += 1;
        }
    }
}

fn broker_at(id: i32, host: &str, port: i32, rack: Option<String>) -> Option<Broker> {
    let port = u16::try_from(port).ok()?;
    let host = host.to_owned();
    Some(Broker { id, host, port, rack })
}

/// A broker that lags behind must not undo what another has told: the higher leader epoch wins, and partitions do not
/// become fewer.
fn merge_partitions(
    known: &[Partition],
    answer: &[MetadataResponsePartition],
    brokers: &BTreeMap<i32, Broker>,
) -> Vec<Partition> {
    let mut merged: Vec<Partition> = Vec::with_capacity(known.len().max(answer.len()));
    let mut told: Vec<&MetadataResponsePartition> = answer.iter().collect();
    told.sort_by_key(|partition| partition.partition_index);
    for partition in told {
        // Indexes run from 0 without gaps; what does not is of no use to anybody.
        if usize::try_from(partition.partition_index) != Ok(merged.len()) {
            continue;
        }
        let told = Partition {
            index: partition.partition_index,
            leader: partition.leader_id.0,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.iter().map(|id| id.0).collect(),
            in_sync: partition.isr_nodes.iter().map(|id| id.0).collect(),
            error: partition.error_code,
        };
        let newer = known
            .get(merged.len())
            .filter(|known| told.leader_epoch >= 0 && known.leader_epoch > told.leader_epoch)
            // A hint may have named a broker that is none of this cluster: it leads nothing, whatever its epoch.
            .filter(|known| known.leader < 0 || brokers.contains_key(&known.leader));
        merged.push(newer.cloned().unwrap_or(told));
    }
    merged.extend(known.iter().skip(merged.len()).cloned());
    merged
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "some point in time to count from")]
mod tests {
    use kafka_protocol::{
        messages::{BrokerId, TopicName, metadata_response::MetadataResponseBroker},
        protocol::StrBytes,
    };

    use super::*;

    fn topic(name: &'static str, id: u128, leaders: &[(i32, i32)]) -> MetadataResponseTopic {
        let partitions = leaders.iter().zip(0..).map(|((leader, epoch), index)| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(*leader))
                .with_leader_epoch(*epoch)
        });
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str(name))))
            .with_topic_id(Uuid::from_u128(id))
            .with_partitions(partitions.collect())
    }

    fn answer(topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
        let broker = MetadataResponseBroker::default()
            .with_node_id(BrokerId(1))
            .with_host(StrBytes::from_static_str("one"))
            .with_port(9092);
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_controller_id(BrokerId(1))
            .with_topics(topics)
    }

    fn unknown(name: &'static str) -> MetadataResponseTopic {
        topic(name, 0, &[]).with_error_code(3)
    }

    #[test]
    fn an_older_leader_epoch_does_not_undo_a_newer_one() {
        let mut metadata = Metadata::default();
        let now = Instant::now();
        metadata.merge(&answer(vec![topic("t", 7, &[(1, 5), (2, 5)])]), false, now);
        metadata.merge(&answer(vec![topic("t", 7, &[(3, 4), (3, 6)])]), false, now);
        assert_eq!(metadata.leader("t", 0), Some((1, 5)));
        assert_eq!(metadata.leader("t", 1), Some((3, 6)));
        assert_eq!(metadata.generation, 2);
    }

    /// Every topic beside every other one would be minutes.
    #[test]
    fn a_cluster_of_a_hundred_thousand_topics_is_merged_topic_by_topic() {
        let named = |number: usize| {
            let name = TopicName(StrBytes::from_string(format!("a-topic-of-many-{number:06}")));
            topic("", 7, &[]).with_name(Some(name))
        };
        let mut metadata = Metadata::default();
        for first in [0, 50_000] {
            let all = (first..first + 100_000).map(named).collect();
            metadata.merge(&answer(all), true, Instant::now());
        }
        assert_eq!(metadata.topics.len(), 100_000);
        assert!(metadata.topic("a-topic-of-many-049999").is_none());
        assert!(metadata.topic("a-topic-of-many-149999").is_some());
    }

    #[test]
    fn partitions_do_not_become_fewer_under_one_id() {
        let mut metadata = Metadata::default();
        let now = Instant::now();
        metadata.merge(&answer(vec![topic("t", 7, &[(1, 5), (2, 5)])]), false, now);
        metadata.merge(&answer(vec![topic("t", 7, &[(1, 5)])]), false, now);
        assert_eq!(metadata.topic("t").unwrap().partitions.len(), 2);
    }

    #[test]
    fn a_recreated_topic_starts_over() {
        let mut metadata = Metadata::default();
        let now = Instant::now();
        metadata.merge(&answer(vec![topic("t", 7, &[(1, 5), (2, 5)])]), false, now);
        metadata.merge(&answer(vec![topic("t", 8, &[(3, 0)])]), false, now);
        let topic = metadata.topic("t").unwrap();
        assert_eq!((topic.id, topic.partitions.len()), (Uuid::from_u128(8), 1));
        assert_eq!(metadata.leader("t", 0), Some((3, 0)));
    }

    #[test]
    fn an_absent_topic_is_doubted_for_a_while_and_believed_for_a_while() {
        let ttl = Duration::from_secs(5);
        let mut metadata = Metadata::new(ttl);
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        metadata.merge(&answer(vec![topic("t", 7, &[(1, 5)])]), false, now);
        metadata.merge(&answer(vec![unknown("t")]), false, now);
        assert!(metadata.topic("t").is_none() && !metadata.is_missing("t", now));
        metadata.merge(&answer(vec![unknown("t")]), false, at(3));
        assert!(!metadata.is_missing("t", at(3)));
        metadata.merge(&answer(vec![unknown("t")]), false, at(6));
        assert!(metadata.is_missing("t", at(6)) && metadata.is_missing("t", at(10)));
        assert!(!metadata.is_missing("t", at(11)));
        // After a pause the doubt begins anew.
        metadata.merge(&answer(vec![unknown("t")]), false, at(20));
        assert!(!metadata.is_missing("t", at(20)));
        metadata.merge(&answer(vec![unknown("t")]), false, at(25));
        assert!(metadata.is_missing("t", at(25)));
        metadata.forget_missing(["t"]);
        assert!(!metadata.is_missing("t", at(25)));
    }

    #[test]
    fn an_answer_about_all_topics_removes_the_others() {
        let mut metadata = Metadata::default();
        let now = Instant::now();
        metadata.merge(&answer(vec![topic("a", 1, &[]), topic("b", 2, &[])]), false, now);
        metadata.merge(&answer(vec![topic("b", 2, &[])]), true, now);
        assert!(metadata.topic("a").is_none() && metadata.topic("b").is_some());
    }

    #[test]
    fn an_answer_without_brokers_keeps_those_known() {
        let mut metadata = Metadata::default();
        let now = Instant::now();
        metadata.merge(&answer(vec![]), false, now);
        metadata.merge(&MetadataResponse::default(), false, now);
        assert_eq!(metadata.brokers[&1].address(), Address::new("one", 9092));
        assert_eq!(metadata.controller, Some(1));
    }

    #[test]
    fn a_hint_counts_if_its_epoch_is_newer() {
        let mut metadata = Metadata::default();
        metadata.merge(&answer(vec![topic("t", 7, &[(1, 5)])]), false, Instant::now());
        let hint = |leader, leader_epoch| LeaderHint {
            topic: "t",
            partition: 0,
            leader,
            leader_epoch,
        };
        assert!(!metadata.apply_hint(hint(2, 5)));
        assert!(!metadata.apply_hint(hint(-1, 6)));
        assert!(metadata.apply_hint(hint(2, 6)));
        assert!(!metadata.apply_hint(LeaderHint {
            partition: 9,
            ..hint(2, 7)
        }));
        metadata.apply_endpoint(2, "two", 9093, Some("r"));
        metadata.apply_endpoint(3, "two", -1, None);
        assert_eq!(metadata.leader("t", 0), Some((2, 6)));
        assert_eq!(metadata.brokers[&2].rack.as_deref(), Some("r"));
        assert_eq!((metadata.brokers.len(), metadata.generation), (2, 3));
    }
}

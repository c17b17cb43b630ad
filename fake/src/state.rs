//! What the cluster knows. One lock guards it; see `shared`.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::{
    Builder, Profile,
    clock::Clock,
    group::Groups,
    limits::Limits,
    sasl::Sasl,
    sessions::Sessions,
    topic::{Partition, Topic, is_valid_name},
};

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) profile: Profile,
    pub(crate) sasl: Arc<Sasl>,
    pub(crate) cluster_id: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) topics: BTreeMap<String, Topic>,
    /// Where tests have put the coordinators of groups; others are where a hash puts them.
    pub(crate) coordinators: HashMap<String, i32>,
    pub(crate) groups: Groups,
    /// What each answer tells its client to wait.
    pub(crate) throttle: Duration,
    /// By broker.
    pub(crate) sessions: HashMap<i32, Sessions>,
    pub(crate) last_producer_id: i64,
    names_by_id: HashMap<Uuid, String>,
    /// Makes topic IDs of this cluster differ from those of others.
    salt: u64,
    topics_made: u64,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) address: SocketAddr,
    pub(crate) rack: Option<String>,
    pub(crate) is_up: bool,
    /// Raised by every crash: threads of an earlier life end.
    pub(crate) life: u64,
}

impl Node {
    pub(crate) fn host(&self) -> StrBytes {
        StrBytes::from_string(self.address.ip().to_string())
    }

    pub(crate) fn port(&self) -> i32 {
        self.address.port().into()
    }

    pub(crate) fn rack(&self) -> Option<StrBytes> {
        self.rack.clone().map(StrBytes::from_string)
    }
}

impl State {
    pub(crate) fn new(builder: &Builder, addresses: &[SocketAddr]) -> Self {
        let nodes = addresses.iter().enumerate().map(|(index, address)| Node {
            id: index as i32 + 1,
            address: *address,
            rack: builder.racks.get(index).cloned(),
            is_up: true,
            life: 0,
        });
        let clock = Clock::start();
        let mut hasher = DefaultHasher::new();
        (clock.wall_ms(), addresses).hash(&mut hasher);
        let salt = hasher.finish() | 1;
        Self {
            clock,
            limits: builder.limits.clone(),
            profile: builder.profile,
            sasl: Arc::new(builder.sasl.clone()),
            cluster_id: match &builder.cluster_id {
                Some(id) => id.clone(),
                None => format!("klamm-fake-{salt:016x}"),
            },
            sessions: nodes
                .clone()
                .map(|node| (node.id, Sessions::new(builder.limits.fetch_sessions)))
                .collect(),
            last_producer_id: -1,
            nodes: nodes.collect(),
            topics: BTreeMap::new(),
            coordinators: HashMap::new(),
            groups: Groups::new(builder.groups.clone()),
            throttle: Duration::ZERO,
            names_by_id: HashMap::new(),
            salt,
            topics_made: 0,
        }
    }

    pub(crate) fn node(&self, id: i32) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Each of these brokers once.
    pub(crate) fn nodes_of(&self, mut ids: Vec<i32>) -> Vec<&Node> {
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().filter_map(|id| self.node(id)).collect()
    }

    pub(crate) fn is_up(&self, id: i32) -> bool {
        self.node(id).is_some_and(|node| node.is_up)
    }

    /// The brokers that run.
    pub(crate) fn alive(&self) -> Vec<i32> {
        let up = self.nodes.iter().filter(|node| node.is_up);
        up.map(|node| node.id).collect()
    }

    pub(crate) fn throttle_ms(&self) -> i32 {
        i32::try_from(self.throttle.as_millis()).unwrap_or(i32::MAX)
    }

    /// The broker that is asked to be the controller: the first one that is alive.
    pub(crate) fn controller(&self) -> i32 {
        self.nodes.iter().find(|node| node.is_up).map_or(-1, |node| node.id)
    }

    /// The broker that coordinates a group; -1 if none is alive.
    pub(crate) fn coordinator(&self, group: &str) -> i32 {
        if let Some(node) = self.coordinators.get(group).filter(|node| self.is_up(**node)) {
            return *node;
        }
        let mut hasher = DefaultHasher::new();
        group.hash(&mut hasher);
        let first = hasher.finish() % self.nodes.len() as u64;
        // The next one that runs: nothing but the groups of brokers that are down is elsewhere.
        let (before, from) = self.nodes.split_at(first as usize);
        let mut nodes = from.iter().chain(before);
        nodes.find(|node| node.is_up).map_or(-1, |node| node.id)
    }

    /// The topic that this ID names *now*.
    pub(crate) fn name_of(&self, id: Uuid) -> Option<&str> {
        self.names_by_id.get(&id).map(String::as_str)
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partition(index)
    }

    pub(crate) fn partition_mut(&mut self, topic: &str, index: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partition_mut(index)
    }

    /// Adds a topic; there must be none of that name. Replicas are placed in turn, so that brokers lead evenly.
    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32, replication: usize) -> &mut Topic {
        let assignment = self.place(0, partitions, replication);
        self.create_topic_at(name, assignment)
    }

    /// The same with the replicas of each partition.
    pub(crate) fn create_topic_at(&mut self, name: &str, assignment: Vec<Vec<i32>>) -> &mut Topic {
        debug_assert!(is_valid_name(name) && !self.topics.contains_key(name));
        self.topics_made += 1;
        let id = Uuid::from_u64_pair(self.salt, self.topics_made);
        let topic = Topic {
            id,
            partitions: self.new_partitions(assignment),
            configs: Vec::new(),
        };
        self.names_by_id.insert(id, name.to_owned());
        self.topics.entry(name.to_owned()).or_insert(topic)
    }

    pub(crate) fn delete_topic(&mut self, name: &str) -> Option<Topic> {
        let topic = self.topics.remove(name)?;
        self.names_by_id.remove(&topic.id);
        self.groups.topic_deleted(name);
        Some(topic)
    }

    /// Adds partitions until there are so many; false if there are no less, or no such topic.
    pub(crate) fn grow_topic(&mut self, name: &str, partitions: i32) -> bool {
        let Some(topic) = self.topics.get(name) else {
            return false;
        };
        let before = topic.partitions.len() as i32;
        let replication = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
        let added = self.place(before, (partitions - before).max(0), replication);
        let grows = !added.is_empty();
        self.add_partitions(name, added);
        grows
    }

    pub(crate) fn add_partitions(&mut self, name: &str, assignment: Vec<Vec<i32>>) {
        let added = self.new_partitions(assignment);
        if let Some(topic) = self.topics.get_mut(name) {
            topic.partitions.extend(added);
        }
    }

    pub(crate) fn new_partitions(&self, assignment: Vec<Vec<i32>>) -> Vec<Partition> {
        let alive = |node| self.is_up(node);
        assignment
            .into_iter()
            .map(|replicas| Partition::new(replicas, alive))
            .collect()
    }

    /// Where partitions from `first` on would be put.
    pub(crate) fn place(&self, first: i32, count: i32, replication: usize) -> Vec<Vec<i32>> {
        let nodes: Vec<i32> = self.nodes.iter().map(|node| node.id).collect();
        let replicas = |partition: i32| {
            let leader = partition as usize;
            (0..replication)
                .map(|replica| nodes[(leader + replica) % nodes.len()])
                .collect()
        };
        (first..first + count).map(replicas).collect()
    }

    /// How many replicas a partition has unless somebody says otherwise.
    pub(crate) fn default_replication(&self) -> usize {
        self.nodes.len().min(3)
    }
}

//! What a cluster shall be like.

use std::io;

use crate::{FakeCluster, Profile, group, limits::Limits, sasl::Sasl};

/// Says what a [`FakeCluster`] shall be like; nothing happens until [`start`](Self::start).
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start`"]
pub struct Builder {
    pub(crate) brokers: usize,
    pub(crate) topics: Vec<(String, i32)>,
    pub(crate) racks: Vec<String>,
    pub(crate) cluster_id: Option<String>,
    pub(crate) profile: Profile,
    pub(crate) limits: Limits,
    pub(crate) groups: group::Limits,
    pub(crate) sasl: Sasl,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            brokers: 1,
            topics: Vec::new(),
            racks: Vec::new(),
            cluster_id: None,
            profile: Profile::default(),
            limits: Limits::default(),
            groups: group::Limits::default(),
            sasl: Sasl::default(),
        }
    }
}

impl Builder {
    /// How many brokers; one by default. Their node IDs are 1, 2, 3 and so on.
    pub fn brokers(mut self, brokers: usize) -> Self {
        self.brokers = brokers;
        self
    }

    /// A topic that is there from the start. It has three replicas, or as many as there are brokers.
    pub fn topic(mut self, name: impl Into<String>, partitions: i32) -> Self {
        self.topics.push((name.into(), partitions));
        self
    }

    /// The racks that brokers 1, 2, 3 … stand in (`broker.rack`); those without one have none.
    pub fn racks<R: Into<String>>(mut self, racks: impl IntoIterator<Item = R>) -> Self {
        self.racks = racks.into_iter().map(Into::into).collect();
        self
    }

    /// Leaders send consumers to the follower in their rack, as with Kafka's `RackAwareReplicaSelector`.
    pub fn rack_aware_fetches(mut self) -> Self {
        self.limits.rack_aware = true;
        self
    }

    /// What brokers call their cluster; a name that no other cluster has by default.
    pub fn cluster_id(mut self, id: impl Into<String>) -> Self {
        self.cluster_id = Some(id.into());
        self
    }

    /// Which release the brokers pretend to be; Kafka 4.3 by default.
    pub fn max_versions(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Topics come into being when a client asks for them (`auto.create.topics.enable`), with this many partitions.
    pub fn auto_create_topics(mut self, partitions: i32) -> Self {
        self.limits.auto_create = true;
        self.limits.partitions = partitions;
        self
    }

    /// The largest batch that is taken (`message.max.bytes`); 1,048,588 by default.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.limits.message_bytes = bytes;
        self
    }

    /// The largest request that is read (`socket.request.max.bytes`); 100 MiB by default.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.limits.request_bytes = bytes;
        self
    }

    /// How many fetch sessions one broker keeps (`max.incremental.fetch.session.cache.slots`); 1000 by default.
    pub fn fetch_sessions(mut self, slots: usize) -> Self {
        self.limits.fetch_sessions = slots;
        self
    }

    /// Starts the brokers, each on a port of 127.0.0.1 that the system chooses.
    ///
    /// # Errors
    ///
    /// When there are no brokers, when a topic's name or number of partitions is none that Kafka takes, or that of
    /// [`auto_create_topics`](Self::auto_create_topics), and when a port or a thread cannot be had.
    pub fn start(self) -> io::Result<FakeCluster> {
        FakeCluster::start(self)
    }
}

//! What tests do to a cluster while clients use it.

use std::{io, time::Duration};

use bytes::Bytes;

use crate::{
    Action, Api, FakeCluster, Hook, Request,
    batch::Batch,
    elections, server,
    state::State,
    topic::{Partition, is_valid_name},
};

/// Faults.
impl FakeCluster {
    /// Puts every request of this kind to a closure, which says what becomes of it.
    ///
    /// Hooks are asked in the order in which they were set; the first that does not say [`Action::Pass`] decides. The
    /// closure runs on the connection's thread and may do anything to the cluster but to close it. One that owns a
    /// handle to the cluster keeps it running until [`close`](Self::close). One that panics ends the connection, and is
    /// asked again about the next request.
    ///
    /// ```
    /// # use klamm_fake::{Action, Api, FakeCluster, error_code::NOT_LEADER_OR_FOLLOWER};
    /// # let cluster = FakeCluster::builder().brokers(3).start()?;
    /// let hook = cluster.on(Api::Produce, |request| match request.node() {
    ///     2 => Action::Error(NOT_LEADER_OR_FOLLOWER),
    ///     _ => Action::Pass,
    /// });
    /// // … what the test is about …
    /// assert_eq!(hook.uses(), 0);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn on(&self, api: Api, decide: impl FnMut(&Request) -> Action + Send + 'static) -> Hook {
        self.shared().faults.add(api, u64::MAX, Box::new(decide))
    }

    /// The same for so many requests; those that are passed do not count.
    pub fn times(&self, times: u64, api: Api, decide: impl FnMut(&Request) -> Action + Send + 'static) -> Hook {
        self.shared().faults.add(api, times, Box::new(decide))
    }

    /// The same for one request.
    pub fn once(&self, api: Api, decide: impl FnMut(&Request) -> Action + Send + 'static) -> Hook {
        self.times(1, api, decide)
    }

    /// What has come so far, the oldest first: the last ten thousand requests.
    pub fn requests(&self) -> Vec<Request> {
        self.shared().faults.requests()
    }

    /// Forgets what has come so far.
    pub fn forget_requests(&self) {
        self.shared().faults.forget_requests();
    }

    /// What every answer tells its client to wait before it sends more; brokers read nothing of it meanwhile. Zero
    /// ends it, also for those that wait already. An answer can tell of 24 days at most.
    pub fn throttle(&self, time: Duration) {
        self.shared().change(|state| state.throttle = time);
    }
}

/// Brokers.
impl FakeCluster {
    /// Ends a broker as kill -9 does: its connections end, nobody listens, other replicas lead what it led.
    ///
    /// Nothing happens to one that does not run.
    pub fn crash(&self, node: i32) {
        let mut ports = self.shared().ports.lock();
        let Some(port) = ports.get_mut(&node) else {
            return;
        };
        if self.shared().change(|state| elections::crash(state, node)) {
            self.shared().hang_up(node);
            server::end(self.shared(), node, port.address());
            port.hold();
        }
    }

    /// Starts a broker that has crashed, on the same port, which was kept for it, and with all of its data. It leads
    /// what nobody leads. Nothing happens to one that runs.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had, or its port on a system that could not keep it, and when the cluster is closed.
    ///
    /// # Panics
    ///
    /// When there is no broker of this ID.
    pub fn restart(&self, node: i32) -> io::Result<()> {
        let shared = self.shared();
        let mut ports = shared.ports.lock();
        let (is_up, life) = shared.look(|state| match state.node(node) {
            Some(node) => (node.is_up, node.life),
            None => panic!("there is no broker {node}"),
        });
        let Some(port) = ports.get_mut(&node) else {
            return Err(io::Error::other("the cluster is closed"));
        };
        if is_up {
            return Ok(());
        }
        let listener = port.listen()?;
        shared.change(|state| elections::restart(state, node));
        server::start(shared, node, life, listener).inspect_err(|_| {
            shared.change(|state| elections::crash(state, node));
            port.hold();
        })
    }

    /// Makes a broker the leader of a partition.
    ///
    /// # Panics
    ///
    /// When the broker has no replica of it, or does not run.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) {
        self.shared().change(|state| {
            assert!(state.is_up(node), "broker {node} does not run");
            let found = known(state, topic, partition);
            assert!(
                found.replicas.contains(&node),
                "broker {node} has no replica of {topic}-{partition}"
            );
            found.elect(node);
        });
    }

    /// Makes a broker the coordinator of a group.
    ///
    /// # Panics
    ///
    /// When the broker does not run.
    pub fn move_coordinator(&self, group: &str, node: i32) {
        self.shared().change(|state| {
            assert!(state.is_up(node), "broker {node} does not run");
            state.coordinators.insert(group.to_owned(), node);
        });
    }

    /// The broker that coordinates a group; -1 while none runs.
    pub fn coordinator(&self, group: &str) -> i32 {
        self.shared().look(|state| state.coordinator(group))
    }

    /// The offset that a group has committed of a partition: where it goes on to read.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        self.shared()
            .look(|state| state.groups.committed(group, topic, partition))
    }

    /// How many fetch sessions a broker keeps.
    pub fn fetch_sessions(&self, node: i32) -> usize {
        self.shared()
            .look(|state| state.sessions.get(&node).map_or(0, |sessions| sessions.count()))
    }
}

/// Topics. All of these panic when there is no such topic or partition.
impl FakeCluster {
    /// Adds a topic, as [`Builder::topic`](crate::Builder::topic) does.
    ///
    /// # Panics
    ///
    /// When there is one of this name, or the name or the number of partitions is none that Kafka takes.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        self.shared().change(|state| {
            assert!(is_valid_name(name), "{name:?} cannot be the name of a topic");
            assert!(partitions > 0, "a topic has partitions");
            assert!(!state.topics.contains_key(name), "topic {name} is there already");
            state.create_topic(name, partitions, state.default_replication());
        });
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) {
        let deleted = self.shared().change(|state| state.delete_topic(name));
        assert!(deleted.is_some(), "there is no topic {name}");
    }

    /// Deletes a topic and makes it anew, empty: another topic of the same name, with another ID.
    pub fn recreate_topic(&self, name: &str) {
        self.shared().change(|state| {
            let Some(old) = state.delete_topic(name) else {
                panic!("there is no topic {name}");
            };
            let replicas = old.partitions.into_iter().map(|partition| partition.replicas);
            state.create_topic_at(name, replicas.collect()).configs = old.configs;
        });
    }

    /// Gives a topic this many partitions in all.
    ///
    /// # Panics
    ///
    /// When it has as many already.
    pub fn grow_topic(&self, name: &str, partitions: i32) {
        let grown = self.shared().change(|state| state.grow_topic(name, partitions));
        assert!(grown, "there is no topic {name} of less than {partitions} partitions");
    }

    /// Elects a leader that had only what is below an offset: records are lost, and offsets come again as others.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) {
        let found = self
            .shared()
            .change(|state| elections::truncate(state, topic, partition, offset));
        assert!(found, "there is no {topic}-{partition}");
    }

    /// Removes what is below an offset, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        self.on_partition(topic, partition, |partition| {
            let before = before.min(partition.log.end());
            partition.log.delete_before(before);
        });
    }

    /// Keeps the high watermark from passing an offset, as when followers are slow: what lies behind it is not
    /// acknowledged to who wants all replicas to have it, and not given to readers. `None` lets it go on.
    pub fn hold_high_watermark(&self, topic: &str, partition: i32, at: Option<i64>) {
        self.on_partition(topic, partition, |partition| partition.log.hold_high_watermark(at));
    }

    /// Puts a record batch into the log as it is, but for its offset and epoch, and returns its first record's offset.
    ///
    /// Whatever has a header of format 2 is taken: damaged records, markers of transactions, batches of other producers.
    ///
    /// # Panics
    ///
    /// When it has no such header.
    pub fn append(&self, topic: &str, partition: i32, batch: impl Into<Bytes>) -> i64 {
        let batch = match Batch::parse(&batch.into()) {
            Ok(batch) => batch,
            Err(refused) => panic!("this is no record batch: {}", refused.message),
        };
        self.on_partition(topic, partition, |partition| {
            partition.log.append(&batch, partition.leader_epoch)
        })
    }

    /// The record batches of a partition, as they are stored.
    pub fn batches(&self, topic: &str, partition: i32) -> Vec<Bytes> {
        self.on_partition(topic, partition, |partition| {
            partition.log.batches().map(|batch| batch.bytes.clone()).collect()
        })
    }

    /// The first offset that can be read.
    pub fn start_offset(&self, topic: &str, partition: i32) -> i64 {
        self.on_partition(topic, partition, |partition| partition.log.start())
    }

    /// The offset that the next record will have.
    pub fn end_offset(&self, topic: &str, partition: i32) -> i64 {
        self.on_partition(topic, partition, |partition| partition.log.end())
    }

    /// The broker that leads a partition; -1 while none does.
    pub fn leader(&self, topic: &str, partition: i32) -> i32 {
        self.on_partition(topic, partition, |partition| partition.leader)
    }

    /// The leader's epoch: how often one was elected, from 0 on.
    pub fn leader_epoch(&self, topic: &str, partition: i32) -> i32 {
        self.on_partition(topic, partition, |partition| partition.leader_epoch)
    }

    fn on_partition<T>(&self, topic: &str, partition: i32, act: impl FnOnce(&mut Partition) -> T) -> T {
        self.shared().change(|state| act(known(state, topic, partition)))
    }
}

fn known<'a>(state: &'a mut State, topic: &str, partition: i32) -> &'a mut Partition {
    match state.partition_mut(topic, partition) {
        Some(found) => found,
        None => panic!("there is no {topic}-{partition}"),
    }
}

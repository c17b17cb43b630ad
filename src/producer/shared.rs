//! What callers, senders and the keeper of one producer share.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    inbox::Inbox,
    partition::{Env, Partition},
    sender,
    topics::{Topic, Topics},
};
use crate::{
    bell::Bell,
    cluster::{self, Cluster, Metadata},
    deadline::Deadline,
    error::{Error, Result},
    stop::Stop,
    thread::Worker,
};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) env: Arc<Env>,
    pub(super) cluster: Cluster,
    pub(super) topics: Topics,
    pub(super) desk: Desk,
    senders: Mutex<Senders>,
    /// The threads end.
    pub(super) ended: Stop,
}

#[derive(Debug, Default)]
struct Senders {
    running: HashMap<i32, (Arc<Inbox>, Worker)>,
    count: u64,
    is_closed: bool,
}

/// Where word is left for the keeper.
#[derive(Debug)]
pub(super) struct Desk {
    wants: Mutex<Wants>,
    bell: Bell,
    /// The keeper sleeps for long, since nothing was owed when it looked.
    dozes: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Wants {
    /// Partitions that need an identity.
    pub(super) nameless: Vec<Arc<Partition>>,
    /// Partitions that nobody is known to lead.
    pub(super) homeless: Vec<Arc<Partition>>,
    /// Topics of which something known turned out to be wrong, or nothing is known.
    pub(super) stale: BTreeSet<Arc<str>>,
}

impl Shared {
    pub(super) fn new(env: Arc<Env>, cluster: Cluster) -> Self {
        Self {
            env,
            cluster,
            topics: Topics::default(),
            desk: Desk {
                wants: Mutex::default(),
                bell: Bell::new(),
                dozes: AtomicBool::new(false),
            },
            senders: Mutex::default(),
            ended: Stop::new("producer"),
        }
    }

    /// The topic with all that is known of it; asked for if nothing is.
    pub(super) fn topic(self: &Arc<Self>, name: &str, deadline: &Deadline) -> Result<Arc<Topic>> {
        if let Some(topic) = self.topics.known(name) {
            return Ok(topic);
        }
        let told = self.cluster.topic(name, deadline)?;
        Ok(self.learn(&told))
    }

    /// Takes over what is known of a topic.
    pub(super) fn learn(&self, told: &cluster::Topic) -> Arc<Topic> {
        let topic = self.topics.learn(told, &self.env, self.cluster.random());
        let metadata = self.cluster.metadata();
        for partition in topic.all() {
            if !partition.has_owner() {
                self.look_at_leader(partition, &metadata);
            }
        }
        topic
    }

    /// For the partitioner, which avoids partitions without a leader.
    pub(super) fn look_at_leader(&self, partition: &Partition, metadata: &Metadata) {
        let known = metadata.topic(&partition.topic);
        let known = known.and_then(|topic| topic.partition(partition.index));
        partition.led_by(known.map_or(-1, |known| known.leader));
    }

    /// Gives a partition to the sender of the broker that leads it. Says whether there is one.
    pub(super) fn place(self: &Arc<Self>, partition: &Arc<Partition>) -> bool {
        let metadata = self.cluster.metadata();
        let known = metadata.topic(&partition.topic);
        let leader = known
            .and_then(|topic| topic.partition(partition.index))
            .map(|known| known.leader);
        let leader = leader.filter(|leader| metadata.brokers.contains_key(leader));
        let inbox = leader.and_then(|leader| match self.inbox(leader) {
            Ok(inbox) => Some(inbox),
            Err(error) => {
                log::debug!("no sender for broker {leader}: {error}");
                None
            }
        });
        partition.place(leader.unwrap_or(-1), inbox.as_ref())
    }

    /// The same, and the keeper looks for a leader if there is none.
    pub(super) fn settle_in(self: &Arc<Self>, partition: &Arc<Partition>) {
        if !partition.has_ended() && !self.place(partition) {
            self.desk.leave(|wants| wants.homeless.push(Arc::clone(partition)));
        }
    }

    /// The sender of this broker, started if there is none.
    fn inbox(self: &Arc<Self>, broker: i32) -> Result<Arc<Inbox>> {
        let mut senders = self.senders.lock();
        if senders.is_closed {
            return Err(Error::closed("producer"));
        }
        // One that a panic has ended does nothing more for anybody.
        if let Some((inbox, _)) = senders.running.get(&broker).filter(|(_, worker)| !worker.is_over()) {
            return Ok(Arc::clone(inbox));
        }
        let inbox = Inbox::new(broker);
        let name = format!("klamm-send-{}", senders.count % 10_000);
        let worker = Worker::start(name, {
            let (shared, inbox) = (Arc::clone(self), Arc::clone(&inbox));
            move || sender::run(&shared, &inbox)
        })?;
        senders.count += 1;
        senders.running.insert(broker, (Arc::clone(&inbox), worker));
        Ok(inbox)
    }

    pub(super) fn inboxes(&self) -> Vec<Arc<Inbox>> {
        let senders = self.senders.lock();
        senders.running.values().map(|(inbox, _)| Arc::clone(inbox)).collect()
    }

    pub(super) fn wake_senders(&self) {
        for inbox in self.inboxes() {
            inbox.wake();
        }
    }

    /// Waits for the senders' threads, which `ended` has told to end.
    pub(super) fn join_senders(&self, deadline: &Deadline) -> Result<()> {
        let running = {
            let mut senders = self.senders.lock();
            senders.is_closed = true;
            std::mem::take(&mut senders.running)
        };
        let joined: Vec<Result<()>> = running
            .into_values()
            .map(|(_, mut worker)| worker.join(deadline))
            .collect();
        joined.into_iter().collect()
    }
}

impl Desk {
    pub(super) fn leave(&self, word: impl FnOnce(&mut Wants)) {
        word(&mut self.wants.lock());
        self.bell.ring();
    }

    pub(super) fn take(&self) -> Wants {
        std::mem::take(&mut *self.wants.lock())
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// From now on a broker owes something: somebody should look whether it is still there.
    pub(super) fn attend(&self) {
        if self.dozes.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    pub(super) fn doze(&self, dozes: bool) {
        self.dozes.store(dozes, Ordering::SeqCst);
    }
}

//! The topics that are written to, and their partitions, as they are known so far.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::{
    config::STICKY_BYTES,
    partition::{Env, Partition},
    partitioner::{Chooser, Partitioner, Partitions},
};
use crate::{
    cluster,
    error::{Error, ErrorKind, Result},
};

#[derive(Debug, Default)]
pub(super) struct Topics {
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    all: HashMap<Arc<str>, Arc<Topic>>,
    /// Of those, the first few, in which a name is found sooner than by its hash.
    few: Vec<Arc<Topic>>,
}

/// How many names are compared before one is hashed.
const FEW: usize = 4;

impl Table {
    fn find(&self, name: &str) -> Option<&Arc<Topic>> {
        let few = self.few.iter().find(|topic| *topic.name == *name);
        few.or_else(|| self.all.get(name))
    }

    fn choose_few(&mut self) {
        self.few = self.all.values().take(FEW).cloned().collect();
    }
}

/// A topic that is written to, with the partitions that were known when it was looked up: with more of them, another one
/// takes its place, so that who looks for a partition needs no lock of the topic's own.
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    chooser: Arc<Chooser>,
    /// Its partitioner is the program's own code.
    is_custom: bool,
    partitions: Vec<Arc<Partition>>,
    /// The ID under which the cluster has it, and when that was told.
    told: Arc<Mutex<(Uuid, Instant)>>,
    batch_bytes: Arc<AtomicUsize>,
}

impl Topics {
    pub(super) fn known(&self, name: &str) -> Option<Arc<Topic>> {
        self.table.read().find(name).cloned()
    }

    /// Gives the partition that a record goes to, if finding it takes nothing but a look at what is known: the way of nearly
    /// every record. `found` must not wait, nor come back here.
    pub(super) fn place<T>(
        &self,
        name: &str,
        partition: Option<i32>,
        record: (Option<&[u8]>, Option<&[u8]>, usize),
        found: impl FnOnce(&Arc<Partition>) -> T,
    ) -> Option<Result<T>> {
        let table = self.table.read();
        let topic = table.find(name)?;
        let (key, value, size) = record;
        match partition {
            Some(index) => topic.partition(index).map(|partition| Ok(found(partition))),
            None if topic.is_custom => None,
            None => Some(topic.choose(key, value, size).map(found)),
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        self.table.read().all.values().cloned().collect()
    }

    /// Every partition there is.
    pub(super) fn partitions(&self) -> Vec<Arc<Partition>> {
        let topics = self.all();
        topics.iter().flat_map(|topic| topic.all()).cloned().collect()
    }

    /// Takes over what the cluster says of a topic: partitions become more, never fewer. (The keeper forgets a topic that
    /// [`has_shrunk`](Topic::has_shrunk).)
    pub(super) fn learn(&self, told: &cluster::Topic, env: &Arc<Env>, seed: u64) -> Arc<Topic> {
        if let Some(topic) = self.known(&told.name).filter(|topic| topic.has_all(told)) {
            topic.hear(told);
            return topic;
        }
        let mut table = self.table.write();
        let topic = match table.all.get(&told.name) {
            Some(topic) if topic.has_shrunk(told) => return Arc::clone(topic),
            Some(topic) => topic.with_more(told, env),
            None => Topic::new(told, env, seed).with_more(told, env),
        };
        topic.hear(told);
        let topic = Arc::new(topic);
        table.all.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        table.choose_few();
        topic
    }

    /// It is asked for anew when somebody writes to it again.
    pub(super) fn forget(&self, name: &str) -> Option<Arc<Topic>> {
        let mut table = self.table.write();
        let forgotten = table.all.remove(name);
        table.choose_few();
        forgotten
    }
}

impl Topic {
    fn new(told: &cluster::Topic, env: &Env, seed: u64) -> Self {
        let config = &env.config;
        Self {
            name: Arc::clone(&told.name),
            is_custom: matches!(config.partitioner, Partitioner::Custom(_)),
            chooser: Arc::new(Chooser::new(config.partitioner.clone(), STICKY_BYTES, seed)),
            partitions: Vec::new(),
            told: Arc::new(Mutex::new((told.id, told.fetched_at))),
            batch_bytes: Arc::new(AtomicUsize::new(config.batch_bytes)),
        }
    }

    /// Whether it was deleted and made anew with fewer partitions: those of one topic only become more.
    pub(super) fn has_shrunk(&self, told: &cluster::Topic) -> bool {
        let (id, at) = *self.told.lock();
        told.id != id && told.fetched_at >= at && told.partitions.len() < self.partitions.len()
    }

    /// Whether there is nothing to add to its partitions.
    fn has_all(&self, told: &cluster::Topic) -> bool {
        told.partitions.len() <= self.partitions.len()
    }

    fn hear(&self, told: &cluster::Topic) {
        if self.has_shrunk(told) {
            return;
        }
        let mut known = self.told.lock();
        if told.fetched_at >= known.1 {
            *known = (told.id, told.fetched_at);
        }
    }

    /// The same topic, with the partitions that were added.
    fn with_more(&self, told: &cluster::Topic, env: &Arc<Env>) -> Self {
        let count = i32::try_from(told.partitions.len()).unwrap_or(i32::MAX);
        let known = i32::try_from(self.partitions.len()).unwrap_or(i32::MAX);
        let new = |index| {
            let (name, batch_bytes) = (Arc::clone(&self.name), Arc::clone(&self.batch_bytes));
            Partition::new(name, index, Arc::clone(env), batch_bytes)
        };
        Self {
            name: Arc::clone(&self.name),
            chooser: Arc::clone(&self.chooser),
            is_custom: self.is_custom,
            partitions: self.partitions.iter().cloned().chain((known..count).map(new)).collect(),
            told: Arc::clone(&self.told),
            batch_bytes: Arc::clone(&self.batch_bytes),
        }
    }

    pub(super) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(super) fn all(&self) -> &[Arc<Partition>] {
        &self.partitions
    }

    /// Of a record without a partition of its own.
    pub(super) fn choose(&self, key: Option<&[u8]>, value: Option<&[u8]>, size: usize) -> Result<&Arc<Partition>> {
        if self.partitions.is_empty() {
            // A broker that knows of none yet.
            return Err(Error::refused(ResponseError::LeaderNotAvailable.code()).for_topic(&self.name));
        }
        let known = Known(&self.partitions);
        let chosen = self.chooser.choose(&self.name, key, value, size, &known)?;
        let none = || Error::new(ErrorKind::Internal, "a partition was chosen that is none");
        self.partition(chosen).ok_or_else(none)
    }

    /// Batches may be as large again as they are set to be: what a broker accepts may have changed.
    pub(super) fn try_large_batches(&self, batch_bytes: usize) {
        self.batch_bytes.store(batch_bytes, Ordering::Relaxed);
    }

    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.partitions
            .iter()
            .filter_map(|partition| partition.deadline())
            .min()
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.name)
    }
}

struct Known<'a>(&'a [Arc<Partition>]);

impl Partitions for Known<'_> {
    fn count(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    fn load(&self, partition: i32) -> Option<usize> {
        self.0.get(usize::try_from(partition).ok()?)?.backlog()
    }
}

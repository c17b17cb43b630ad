//! The topics that are written to, and their partitions, as they are known so far.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::{
    config::STICKY_BYTES,
    partition::{Env, Partition, Parts},
    partitioner::{Chooser, Partitioner, Partitions},
};
use crate::{
    cluster,
    error::{Error, ErrorKind, Result},
};

#[derive(Debug, Default)]
pub(super) struct Topics {
    all: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
    /// The first few that there were, in which a name is found without a lock, and sooner than by its hash. A topic that is
    /// [over](Topic::is_over) keeps its place: there is no taking one out that somebody may be looking at.
    few: [OnceLock<Arc<Topic>>; FEW],
}

/// How many names are compared before one is hashed.
const FEW: usize = 8;

/// A topic that is written to, with the partitions that were known when it was looked up: with more of them, another one
/// takes its place, so that who looks for a partition needs no lock of the topic's own.
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    chooser: Arc<Chooser>,
    /// Its partitioner is the program's own code.
    is_custom: bool,
    partitions: Vec<Arc<Partition>>,
    /// Another one has taken its place, or it was forgotten.
    is_over: AtomicBool,
    /// The ID under which the cluster has it, and when that was told.
    told: Arc<Mutex<(Uuid, Instant)>>,
    batch_bytes: Arc<AtomicUsize>,
}

impl Topics {
    pub(super) fn known(&self, name: &str) -> Option<Arc<Topic>> {
        self.all.read().get(name).cloned()
    }

    /// The same, if finding it takes nothing but a look at what is there: the way of nearly every record. Should it come to
    /// be over meanwhile, what is put into its partitions is told so there, or they are the new topic's as well.
    #[inline]
    pub(super) fn glimpse(&self, name: &str) -> Option<&Topic> {
        let few = self.few.iter().map_while(OnceLock::get);
        let mut found = few.filter(|topic| *topic.name == *name && !topic.is_over.load(Ordering::Acquire));
        found.next().map(|topic| &**topic)
    }

    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        self.all.read().values().cloned().collect()
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
        let mut all = self.all.write();
        let topic = match all.get(&told.name) {
            Some(topic) if topic.has_shrunk(told) => return Arc::clone(topic),
            Some(topic) => topic.with_more(told, env),
            None => Topic::new(told, env, seed).with_more(told, env),
        };
        topic.hear(told);
        let topic = Arc::new(topic);
        let before = all.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        // With the lock, so that nobody else fills this place.
        if let Some(place) = self.few.iter().find(|place| place.get().is_none()) {
            place.set(Arc::clone(&topic)).ok();
        }
        if let Some(before) = before {
            before.is_over.store(true, Ordering::Release);
        }
        topic
    }

    /// It is asked for anew when somebody writes to it again.
    pub(super) fn forget(&self, name: &str) -> Option<Arc<Topic>> {
        let forgotten = self.all.write().remove(name)?;
        forgotten.is_over.store(true, Ordering::Release);
        Some(forgotten)
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
            is_over: AtomicBool::new(false),
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
            is_over: AtomicBool::new(false),
            told: Arc::clone(&self.told),
            batch_bytes: Arc::clone(&self.batch_bytes),
        }
    }

    /// Where a record goes, if no code of the program's own is to be asked.
    #[inline]
    pub(super) fn place(&self, partition: Option<i32>, record: &Parts<'_>) -> Option<Result<&Arc<Partition>>> {
        match partition {
            Some(index) => self.partition(index).map(Ok),
            None if self.is_custom => None,
            None => Some(self.choose(record)),
        }
    }

    #[inline]
    pub(super) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(super) fn all(&self) -> &[Arc<Partition>] {
        &self.partitions
    }

    /// Of a record without a partition of its own.
    #[inline]
    pub(super) fn choose(&self, record: &Parts<'_>) -> Result<&Arc<Partition>> {
        if self.partitions.is_empty() {
            // A broker that knows of none yet.
            return Err(Error::refused(ResponseError::LeaderNotAvailable.code()).for_topic(&self.name));
        }
        let known = Known(&self.partitions);
        let (key, value, size) = (record.key, record.value, rough_size(record));
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

/// What partitions get their shares by. Headers are not worth their counting.
#[inline]
fn rough_size(record: &Parts<'_>) -> usize {
    const OVERHEAD: usize = 8;
    OVERHEAD + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)
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

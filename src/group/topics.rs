//! How many partitions the group's topics have, for the leader who deals them out.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{cluster::Metadata, offset::TopicPartition};

type Counts = BTreeMap<Arc<str>, i32>;

/// Watches the topics that the leader deals out.
#[derive(Debug)]
pub(crate) struct TopicCounts {
    /// What was there when this member came.
    at_first: Counts,
    /// And which topics those were, where the broker tells.
    ids: BTreeMap<Arc<str>, Uuid>,
    /// A topic that is gone, or has fewer partitions, is believed to after this time: brokers lag behind each other.
    patience: Duration,
    watched: Vec<Arc<str>>,
    told: Option<Counts>,
    /// The leader waits for the first answer until then, or until metadata was asked for once more.
    awaited: Option<(u64, Instant)>,
    /// Since when some topic seems to have shrunk.
    shrunk: Option<Instant>,
}

/// How long a leader waits for topics that it has not heard of.
const FIRST_LOOK: Duration = Duration::from_secs(5);

impl TopicCounts {
    pub(crate) fn new(topics: &[Arc<str>], metadata: &Metadata, patience: Duration) -> Self {
        Self {
            at_first: counts(topics, metadata),
            ids: ids(topics, metadata),
            patience,
            watched: Vec::new(),
            told: None,
            awaited: None,
            shrunk: None,
        }
    }

    /// Whether this partition was not there when this member came: it was added, or its topic was made anew.
    pub(crate) fn is_later(&self, partition: &TopicPartition, metadata: &Metadata) -> bool {
        let count = self.at_first.get(partition.topic()).copied();
        let id = metadata.topic(partition.topic()).map_or(Uuid::nil(), |topic| topic.id);
        let is_other = |first: &Uuid| !id.is_nil() && *first != id;
        partition.partition() >= count.unwrap_or(0) || self.ids.get(partition.topic()).is_some_and(is_other)
    }

    /// From now on these are dealt out. True when metadata should be asked for first.
    pub(crate) fn watch(&mut self, topics: Vec<Arc<str>>, metadata: &Metadata, refreshes: u64, now: Instant) -> bool {
        let is_known = counts(&topics, metadata).len() == topics.len();
        self.watched = topics;
        self.told = None;
        self.shrunk = None;
        self.awaited = (!is_known).then_some((refreshes, now + FIRST_LOOK));
        !is_known
    }

    /// What the leader should know, when that is news.
    pub(crate) fn look(&mut self, metadata: &Metadata, refreshes: u64, now: Instant) -> Option<Counts> {
        if self.watched.is_empty() {
            return None;
        }
        if let Some((before, until)) = self.awaited {
            if refreshes == before && now < until {
                return None;
            }
            self.awaited = None;
        }
        let found = counts(&self.watched, metadata);
        if let Some(told) = &self.told {
            if *told == found {
                self.shrunk = None;
                return None;
            }
            let shrinks = told
                .iter()
                .any(|(topic, count)| found.get(topic).is_none_or(|found| found < count));
            if shrinks && now < *self.shrunk.get_or_insert(now) + self.patience {
                return None;
            }
        }
        self.shrunk = None;
        self.told = Some(found.clone());
        Some(found)
    }

    pub(crate) fn timer(&self) -> Option<Instant> {
        let awaited = self.awaited.map(|(_, until)| until);
        awaited.or(self.shrunk.map(|since| since + self.patience))
    }
}

fn counts(topics: &[Arc<str>], metadata: &Metadata) -> Counts {
    let known = topics.iter().filter_map(|name| {
        let topic = metadata.topic(name).filter(|topic| topic.error == 0)?;
        let count = i32::try_from(topic.partitions.len()).ok()?;
        (count > 0).then(|| (Arc::clone(name), count))
    });
    known.collect()
}

fn ids(topics: &[Arc<str>], metadata: &Metadata) -> BTreeMap<Arc<str>, Uuid> {
    let known = topics.iter().filter_map(|name| {
        let id = metadata.topic(name)?.id;
        (!id.is_nil()).then(|| (Arc::clone(name), id))
    });
    known.collect()
}

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
    /// None before this member has led.
    watched: Option<Vec<Arc<str>>>,
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
            watched: None,
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
        self.watched = Some(topics);
        self.told = None;
        self.shrunk = None;
        self.awaited = (!is_known).then_some((refreshes, now + FIRST_LOOK));
        !is_known
    }

    /// What the leader should know, when that is news.
    pub(crate) fn look(&mut self, metadata: &Metadata, refreshes: u64, now: Instant) -> Option<Counts> {
        let watched = self.watched.as_ref()?;
        if let Some((before, until)) = self.awaited {
            if refreshes == before && now < until {
                return None;
            }
            self.awaited = None;
        }
        let found = counts(watched, metadata);
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

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "some point in time to count from")]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::cluster::{Partition, Topic};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn metadata(topics: &[(&str, i32)], now: Instant) -> Metadata {
        let mut metadata = Metadata::new(PATIENCE);
        for &(name, partitions) in topics {
            let partitions = (0..partitions).map(|index| Partition {
                index,
                leader: 1,
                leader_epoch: 0,
                replicas: vec![1],
                in_sync: vec![1],
                error: 0,
            });
            let topic = Topic {
                name: Arc::from(name),
                id: Uuid::from_u128(1),
                is_internal: false,
                partitions: partitions.collect(),
                error: 0,
                fetched_at: now,
            };
            metadata.topics.insert(Arc::from(name), Arc::new(topic));
        }
        metadata
    }

    fn told(counts: Option<Counts>) -> Option<Vec<(String, i32)>> {
        counts.map(|counts| {
            counts
                .into_iter()
                .map(|(name, count)| (name.to_string(), count))
                .collect()
        })
    }

    fn some(counts: &[(&str, i32)]) -> Option<Vec<(String, i32)>> {
        Some(counts.iter().map(|&(name, count)| (name.to_string(), count)).collect())
    }

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|&name| Arc::from(name)).collect()
    }

    #[test]
    fn who_does_not_lead_is_told_nothing() {
        let now = Instant::now();
        let metadata = metadata(&[("orders", 3)], now);
        let mut counts = TopicCounts::new(&names(&["orders"]), &metadata, PATIENCE);
        assert_eq!((counts.look(&metadata, 0, now), counts.timer()), (None, None));
    }

    #[test]
    fn growth_is_told_at_once_and_once() {
        let now = Instant::now();
        let before = metadata(&[("orders", 3)], now);
        let mut counts = TopicCounts::new(&names(&["orders"]), &before, PATIENCE);
        assert!(!counts.watch(names(&["orders"]), &before, 0, now));
        assert_eq!(told(counts.look(&before, 0, now)), some(&[("orders", 3)]));
        assert_eq!(counts.look(&before, 0, now), None);
        let after = metadata(&[("orders", 5)], now);
        assert_eq!(told(counts.look(&after, 1, now)), some(&[("orders", 5)]));
        assert_eq!(counts.look(&after, 1, now), None);
        let orders = |partition| TopicPartition::new("orders", partition);
        assert!(!counts.is_later(&orders(2), &after) && counts.is_later(&orders(3), &after));
        assert!(counts.is_later(&TopicPartition::new("payments", 0), &after));
    }

    #[test]
    fn shrinking_is_believed_after_a_while_and_forgotten_when_it_passes() {
        let now = Instant::now();
        let (large, small) = (metadata(&[("a", 3), ("b", 1)], now), metadata(&[("a", 3)], now));
        let mut counts = TopicCounts::new(&names(&["a", "b"]), &large, PATIENCE);
        counts.watch(names(&["a", "b"]), &large, 0, now);
        counts.look(&large, 0, now);
        assert_eq!(counts.look(&small, 1, now), None);
        assert_eq!(counts.timer(), Some(now + PATIENCE));
        let later = now + PATIENCE - Duration::from_secs(1);
        assert_eq!(counts.look(&large, 2, later), None);
        assert_eq!(counts.timer(), None);
        assert_eq!(counts.look(&small, 3, later), None);
        assert_eq!(counts.look(&small, 3, now + PATIENCE), None);
        assert_eq!(told(counts.look(&small, 3, later + PATIENCE)), some(&[("a", 3)]));
        assert_eq!(counts.timer(), None);
    }

    #[test]
    fn a_leader_waits_for_topics_that_it_has_not_heard_of() {
        let now = Instant::now();
        let (without, with) = (metadata(&[("a", 3)], now), metadata(&[("a", 3), ("b", 2)], now));
        let mut counts = TopicCounts::new(&names(&["a"]), &without, PATIENCE);
        assert!(counts.watch(names(&["a", "b"]), &without, 7, now));
        assert_eq!(counts.look(&without, 7, now), None);
        assert_eq!(counts.timer(), Some(now + FIRST_LOOK));
        assert_eq!(told(counts.look(&with, 8, now)), some(&[("a", 3), ("b", 2)]));

        // One that does not exist is not waited for longer.
        assert!(counts.watch(names(&["a", "b"]), &without, 9, now));
        assert_eq!(told(counts.look(&without, 10, now)), some(&[("a", 3)]));
        assert!(counts.watch(names(&["a", "b"]), &without, 11, now));
        assert_eq!(told(counts.look(&without, 11, now + FIRST_LOOK)), some(&[("a", 3)]));
    }
}

//! Reading without a group: whoever opens the stream says which partitions and from where.

use std::{fmt, sync::Arc};

use super::{
    buffer::{Shared, Subscription},
    config::{FetchConfig, fetch_settings},
    partition::Partition,
    stream::Stream,
};
use crate::{
    client::Client,
    cluster::{Topic, Topics},
    deadline::{Deadline, FOR_EVER},
    error::{Error, ErrorKind, Result},
    offset::TopicPartition,
};

/// Opens a [`Stream`] of topics or partitions without a group: [`Client::reader`].
///
/// | Setting | Default |
/// |---|---|
/// | [`start_at`](Self::start_at) | the first record there is |
/// | [`out_of_range`](Self::out_of_range) | the nearest record there is |
/// | [`isolation`](Self::isolation) | read committed |
/// | [`prefetch_count`](Self::prefetch_count) / [`prefetch_bytes`](Self::prefetch_bytes) | 100 000 / 8 MiB a partition |
/// | [`prefetch_total_bytes`](Self::prefetch_total_bytes) | 64 MiB |
/// | [`min_bytes`](Self::min_bytes) / [`max_wait`](Self::max_wait) | 1 / 500 ms |
/// | [`max_bytes`](Self::max_bytes) / [`partition_max_bytes`](Self::partition_max_bytes) | 4 MiB / 4 MiB |
/// | [`decoded_batch_limit`](Self::decoded_batch_limit) | 64 MiB |
///
/// ```no_run
/// use klamm::{Client, StartAt};
/// # fn main() -> klamm::Result<()> {
/// let client = Client::connect("localhost:9092")?;
/// let stream = client.reader().topics(["orders"]).start_at(StartAt::Earliest).until_end().open()?;
/// for message in stream {
///     println!("{:?}", message?.value());
/// }
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until `open`"]
pub struct ReaderBuilder {
    client: Client,
    topics: Vec<Arc<str>>,
    partitions: Vec<TopicPartition>,
    until_end: bool,
    pub(crate) fetch: FetchConfig,
}

impl ReaderBuilder {
    pub(crate) fn new(client: Client, rack: Option<String>) -> Self {
        let fetch = FetchConfig {
            rack,
            ..FetchConfig::default()
        };
        Self {
            client,
            topics: Vec::new(),
            partitions: Vec::new(),
            until_end: false,
            fetch,
        }
    }

    /// Reads all partitions of these topics, also those that are added later (from their first record).
    pub fn topics<T: AsRef<str>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics
            .extend(topics.into_iter().map(|topic| Arc::from(topic.as_ref())));
        self
    }

    /// Reads these partitions only. Excludes [`topics`](Self::topics).
    pub fn partitions<T: Into<TopicPartition>>(mut self, partitions: impl IntoIterator<Item = T>) -> Self {
        self.partitions.extend(partitions.into_iter().map(Into::into));
        self
    }

    /// Ends the stream when everything has been given out that was there when it was opened.
    ///
    /// Under read committed, that is up to the last stable offset. Partitions that are added meanwhile are not read.
    pub fn until_end(mut self) -> Self {
        self.until_end = true;
        self
    }

    fetch_settings!();

    /// Starts reading. It returns when the topics are known; records come from then on.
    ///
    /// # Errors
    ///
    /// `Config` for settings that cannot work, `UnknownTopic` when a topic or partition is still not there after
    /// `unknown_topic_ttl`, `Authorization`, and `Unreachable` or `TimedOut` when no broker says so within
    /// `request_timeout`.
    pub fn open(self) -> Result<Stream> {
        self.fetch.check()?;
        let Self {
            client,
            mut topics,
            mut partitions,
            until_end,
            mut fetch,
        } = self;
        fetch.stall_after = fetch.stall_after.min(FOR_EVER);
        let cluster = client.cluster().clone();
        if topics.is_empty() == partitions.is_empty() {
            return Err(Error::config("a reader needs topics or partitions, and not both"));
        }
        let deadline = Deadline::after(cluster.config().request_timeout, "request_timeout");
        topics.sort_unstable();
        topics.dedup();
        partitions.sort_unstable();
        partitions.dedup();
        let mut names: Vec<Arc<str>> = partitions
            .iter()
            .map(|partition| Arc::from(partition.topic()))
            .collect();
        names.extend(topics.iter().cloned());
        names.dedup();
        // One request for all; what is missing is asked for again, one by one.
        cluster.refresh(Topics::Named(&names), &deadline)?;
        let mut found = Vec::new();
        for name in &names {
            found.push(cluster.topic(name, &deadline)?);
        }
        let wanted = match partitions.is_empty() {
            true => found.iter().flat_map(|topic| all_partitions(topic)).collect(),
            false => partitions.clone(),
        };
        let subscription = match partitions.is_empty() {
            true => Subscription::Topics(topics),
            false => Subscription::Partitions(partitions),
        };
        let start = fetch.start_at;
        let shared = Shared::new(cluster, fetch, subscription, until_end);
        {
            let mut state = shared.lock();
            for name in wanted {
                let Some(topic) = found.iter().find(|topic| *topic.name == *name.topic()) else {
                    continue;
                };
                let Some(partition) = topic.partition(name.partition()) else {
                    let count = topic.partitions.len();
                    let message = format!(
                        "topic {} has {count} partitions, and {} is none of them",
                        topic.name,
                        name.partition()
                    );
                    return Err(Error::new(ErrorKind::UnknownTopic, message));
                };
                let leader = (partition.leader >= 0).then_some((partition.leader, partition.leader_epoch));
                shared.add(&mut state, Partition::new(name, topic.id, start, leader));
            }
        }
        Stream::alone(shared, client.hold())
    }
}

fn all_partitions(topic: &Topic) -> Vec<TopicPartition> {
    topic
        .partitions
        .iter()
        .map(|partition| TopicPartition::new(&topic.name, partition.index))
        .collect()
}

impl fmt::Debug for ReaderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderBuilder")
            .field("topics", &self.topics)
            .field("partitions", &self.partitions)
            .field("until_end", &self.until_end)
            .field("fetch", &self.fetch)
            .finish_non_exhaustive()
    }
}

//! Membership in a consumer group, on top of reading.
//!
//! ```text
//! the program's ack ▸ consumer/acks ▸ coordinator ● ▸ net/connection ▸ broker
//!                     member ○ (who owns what)  ▴ committer ○ (when to commit, and what)
//! ```

mod assignor;
mod committer;
pub(crate) mod config;
mod coordinator;
mod handle;
mod links;
pub(crate) mod member;
pub(crate) mod offsets;
pub(crate) mod requests;
mod topics;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

pub use assignor::Assignor;
pub use config::GroupProtocol;

use crate::{
    client::Client,
    cluster::{Cluster, Topics},
    consumer::{
        AckMode, CommitOrder, Stream,
        buffer::{Shared, Subscription},
        config::{FetchConfig, fetch_settings},
        ownership::{Terms, Validity},
        stream::Membership,
    },
    deadline::{Deadline, FOR_EVER},
    error::{Error, Result},
};
use committer::Committer;
use config::GroupConfig;
use coordinator::Parts;
use handle::{Handle, Status};
use member::{Member, MemberConfig};
use topics::TopicCounts;

/// Joins a consumer group and opens a [`Stream`] of what it is assigned: [`Client::group`].
///
/// | Setting | Kafka's name | Default |
/// |---|---|---|
/// | [`topics`](Self::topics) | – | none, and needed |
/// | [`ack_mode`](Self::ack_mode) | – | asking for the next message acks the last |
/// | [`commit_interval`](Self::commit_interval) | `auto.commit.interval.ms` | 5 s, and at each revocation and close |
/// | [`commit_order`](Self::commit_order) | – | up to the lowest message that is not done |
/// | [`start_at`](Self::start_at) | `auto.offset.reset` | the first record there is |
/// | [`out_of_range`](Self::out_of_range) | `auto.offset.reset` | the nearest record there is |
/// | [`session_timeout`](Self::session_timeout) | `session.timeout.ms` | 45 s |
/// | [`heartbeat_interval`](Self::heartbeat_interval) | `heartbeat.interval.ms` | 3 s |
/// | [`rebalance_timeout`](Self::rebalance_timeout) | `max.poll.interval.ms` is the nearest | 60 s |
/// | [`revoke_timeout`](Self::revoke_timeout) | – | four fifths of the rebalance timeout |
/// | [`group_protocol`](Self::group_protocol) | `group.protocol` | the best there is |
/// | [`assignors`](Self::assignors) | `partition.assignment.strategy` | range, round robin |
/// | [`instance_id`](Self::instance_id) | `group.instance.id` | none |
/// | [`await_topics`](Self::await_topics) | – | off |
///
/// Those of a [reader](crate::ReaderBuilder) are there as well, with the same defaults. [The tour](crate#groups) tells how a
/// group works, and what the program has to do with it.
///
/// ```no_run
/// # use std::time::Duration;
/// # fn main() -> klamm::Result<()> {
/// let client = klamm::Client::connect("localhost:9092")?;
/// let group = client.group("billing").topics(["orders", "refunds"]);
/// let stream = group.session_timeout(Duration::from_secs(20)).rebalance_timeout(Duration::from_secs(300)).join()?;
/// for message in &stream {
///     let message = message?;
///     println!("{:?}", message.value());
/// } // asking for the next message says that this one is done
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until `join`"]
pub struct GroupBuilder {
    client: Client,
    pub(crate) id: String,
    topics: Vec<Arc<str>>,
    pub(crate) group: GroupConfig,
    pub(crate) fetch: FetchConfig,
}

impl GroupBuilder {
    pub(crate) fn new(client: Client, id: String, rack: Option<String>) -> Self {
        let fetch = FetchConfig {
            rack,
            ..FetchConfig::default()
        };
        Self {
            client,
            id,
            topics: Vec::new(),
            group: GroupConfig::default(),
            fetch,
        }
    }

    /// The topics to share with the other members. Members of one group may name different ones; each partition is given
    /// to a member that has named its topic.
    pub fn topics<T: AsRef<str>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics
            .extend(topics.into_iter().map(|topic| Arc::from(topic.as_ref())));
        self
    }

    /// Joins also when a topic does not exist yet, and reads it from its first record once it does. Without this,
    /// [`join`](Self::join) fails for a topic that is still unknown after `unknown_topic_ttl`. Reading never creates one.
    ///
    /// Until then brokers are asked for it about every second ([`retry_backoff`](crate::ClientBuilder::retry_backoff)).
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// let stream = client.group("billing").topics(["orders-of-next-year"]).await_topics().join()?;
    /// # drop(stream);
    /// # Ok(()) }
    /// ```
    pub fn await_topics(mut self) -> Self {
        self.group.await_topics = true;
        self
    }

    /// When a message counts as done; the default, [`AckMode::OnNext`], is when an iterator is asked for the next one and the
    /// program has let go of it. Kafka's `enable.auto.commit` is the nearest relation, which commits what was handed out,
    /// done or not.
    ///
    /// ```no_run
    /// # use klamm::AckMode;
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// let stream = client.group("billing").topics(["orders"]).ack_mode(AckMode::Explicit).join()?;
    /// for message in &stream {
    ///     let message = message?;
    ///     println!("{:?}", message.value());
    ///     message.ack(); // without this it would come again after a restart
    /// }
    /// # Ok(()) }
    /// ```
    pub fn ack_mode(mut self, mode: AckMode) -> Self {
        self.group.ack_mode = mode;
        self
    }

    /// Which offset is committed when messages are acked out of order; the default, [`CommitOrder::LowestContiguous`], loses
    /// nothing. The others are what older clients do, for programs that rely on it:
    ///
    /// ```no_run
    /// # use klamm::{AckMode, CommitOrder};
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// let group = client.group("billing").topics(["orders"]).ack_mode(AckMode::Explicit);
    /// let stream = group.commit_order(CommitOrder::Monotonic).join()?; // one ack is enough for all before it
    /// # drop(stream);
    /// # Ok(()) }
    /// ```
    pub fn commit_order(mut self, order: CommitOrder) -> Self {
        self.group.commit_order = order;
        self
    }

    /// How often to commit what was acked; the default is every 5 s. With `None` only at revocation, close, and when
    /// [`Stream::commit`] says so. Nothing is sent when nothing was acked. Kafka: `auto.commit.interval.ms`.
    ///
    /// After a crash, what was acked since the last commit is given again.
    pub fn commit_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.group.commit_interval = interval.into();
        self
    }

    /// How long the group waits for a member that it does not hear of before its partitions go to others; the default is
    /// 45 s. A member that does not hear of the group for that long gives up its partitions by itself. Brokers allow what
    /// `group.min.session.timeout.ms` and `group.max.session.timeout.ms` say (6 s to 30 min). Kafka: `session.timeout.ms`.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.group.session_timeout = timeout;
        self
    }

    /// How often to tell the group that this member lives; the default is 3 s, and at most half of the session timeout. It
    /// is also how fast a rebalance is noticed, hence at most half of the rebalance timeout as well. Kafka:
    /// `heartbeat.interval.ms`.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.group.heartbeat_interval = interval;
        self
    }

    /// How long the group waits in a rebalance for each member to give up what it has and join again; the default is 60 s.
    /// The group's is the longest of its members'. A member that takes longer is left out, and loses what it had; one that
    /// has died holds up a rebalance until its session timeout. Kafka: JoinGroup's `rebalance_timeout_ms`, for which Java's
    /// consumer gives `max.poll.interval.ms`.
    pub fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.group.rebalance_timeout = timeout;
        self
    }

    /// How long messages that the program has in hand may still be acked when their partition is to be given up; the
    /// default is four fifths of [`rebalance_timeout`](Self::rebalance_timeout). After that the partition is abandoned,
    /// and its messages come again elsewhere, so that this member stays in the group. Longer than the program works at
    /// anything, nothing comes twice in a rebalance; but the whole group waits for it. It is less when a member hears late
    /// of a rebalance: 15 % of the rebalance timeout are kept for committing and joining again.
    pub fn revoke_timeout(mut self, timeout: Duration) -> Self {
        self.group.revoke_timeout = Some(timeout);
        self
    }

    /// Which protocol to speak with the group's coordinator; the default is [`GroupProtocol::Auto`]. Kafka: `group.protocol`.
    pub fn group_protocol(mut self, protocol: GroupProtocol) -> Self {
        self.group.protocol = protocol;
        self
    }

    /// A name for this member that outlives the program (KIP-345): coming back within the session timeout it gets the same
    /// partitions, and nobody else notices. Closing does not leave the group then. Two members with one name are not
    /// possible: the older one is fenced and ends with an error ([`Fenced`](crate::ErrorKind::Fenced)). The default is none.
    /// Kafka: `group.instance.id`.
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.group.instance_id = Some(id.into());
        self
    }

    /// How partitions may be dealt out, best first; all members of a group must have one in common. Java's consumers have
    /// `range`. The default is range, then round robin. Kafka: `partition.assignment.strategy`.
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Assignor>) -> Self {
        self.group.assignors.clear();
        for assignor in assignors {
            // A broker takes each name once.
            if !self.group.assignors.contains(&assignor) {
                self.group.assignors.push(assignor);
            }
        }
        self
    }

    fetch_settings!();

    /// Joins the group. It returns when the topics are known; membership goes on in the background, and messages come as
    /// soon as partitions are assigned.
    ///
    /// # Errors
    ///
    /// `Config` for settings that cannot work, `UnknownTopic` when a topic is still not there after `unknown_topic_ttl`
    /// (see [`await_topics`](Self::await_topics)), `Authorization`, and `Unreachable` or `TimedOut` when no broker says so
    /// within `request_timeout`. What the group itself refuses comes from the iterator, once, and ends it: `Authorization`,
    /// `Fenced`, and `Refused` for a session timeout that the broker does not allow, or assignors that the others have not.
    pub fn join(self) -> Result<Stream> {
        self.fetch.check()?;
        self.group.check()?;
        let Self {
            client,
            id,
            mut topics,
            group: config,
            mut fetch,
        } = self;
        fetch.stall_after = fetch.stall_after.min(FOR_EVER);
        topics.sort_unstable();
        topics.dedup();
        if id.is_empty() {
            return Err(Error::config("a group needs an ID that is not empty"));
        }
        if topics.is_empty() {
            return Err(Error::config("a group needs at least one topic"));
        }
        let cluster = client.cluster().clone();
        find_topics(&cluster, &topics, config.await_topics)?;
        let shared = Shared::new(cluster, fetch, Subscription::Group(topics.clone()), false);
        let hold = client.hold();
        Stream::start(shared, hold, |shared| start(shared, Arc::from(id), topics, config))
    }
}

/// Waits until the topics are known, unless they may come later.
fn find_topics(cluster: &Cluster, topics: &[Arc<str>], await_them: bool) -> Result<()> {
    let deadline = Deadline::after(cluster.config().request_timeout, "request_timeout");
    cluster.refresh(Topics::Named(topics), &deadline)?;
    for name in topics {
        match cluster.metadata().topic(name).map(|topic| topic.error) {
            Some(0) => {}
            _ if await_them => {}
            _ => drop(cluster.topic(name, &deadline)?),
        }
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "membership begins now")]
fn start(
    shared: &Arc<Shared>,
    group: Arc<str>,
    topics: Vec<Arc<str>>,
    config: GroupConfig,
) -> Result<Box<dyn Membership>> {
    let now = Instant::now();
    shared.events.are_of(&group);
    let cluster = &shared.cluster;
    let backoff = cluster.config().retry_backoff;
    let counts = TopicCounts::new(&topics, &cluster.metadata(), cluster.config().unknown_topic_ttl);
    let member = Member::new(
        MemberConfig {
            topics,
            instance_id: config.instance_id.clone(),
            session_timeout: config.session_timeout,
            heartbeat_interval: config.heartbeat_interval,
            rebalance_timeout: config.rebalance_timeout,
            assignors: config.assignors.clone(),
            backoff,
            random: cluster.random(),
        },
        now,
    );
    let terms = Terms {
        mode: config.ack_mode,
        order: config.commit_order,
        window: shared.config.prefetch_count,
        rule: shared.config.prefetch_rule,
        validity: Arc::new(Validity::new(now)),
    };
    let status = Arc::new(Status::default());
    let (sender, commands) = Handle::channel();
    let parts = Parts {
        shared: Arc::clone(shared),
        group: Arc::clone(&group),
        committer: Committer::new(config.commit_interval, backoff, cluster.random(), now),
        config,
        terms,
        member,
        counts,
        status: Arc::clone(&status),
        commands,
    };
    let worker = coordinator::start(parts)?;
    Ok(Box::new(Handle::new(group, Arc::clone(shared), status, sender, worker)))
}

impl fmt::Debug for GroupBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuilder")
            .field("id", &self.id)
            .field("topics", &self.topics)
            .field("group", &self.group)
            .field("fetch", &self.fetch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignor_that_is_named_twice_counts_once() {
        let client = Client::builder().bootstrap("localhost:9").connect_lazy().unwrap();
        let assignors = [Assignor::RoundRobin, Assignor::Range, Assignor::RoundRobin];
        let builder = client.group("billing").assignors(assignors);
        assert_eq!(builder.group.assignors, [Assignor::RoundRobin, Assignor::Range]);
    }
}

//! The caller's side: a record finds its partition, and room.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    delivery::Delivery,
    partition::{Partition, Parts, Put, Watch, now},
    record::Record,
    shared::Shared,
    topics::Topic,
};
use crate::{
    cluster,
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    thread,
};

/// How long a caller has time.
#[derive(Debug, Clone)]
pub(super) enum Patience {
    /// `max_block`, from the moment at which it has to wait for the first time.
    Block,
    Until(Deadline),
    /// None.
    Try,
}

impl Patience {
    /// On a thread that others wait for, nobody waits: as in a delivery callback.
    pub(super) fn of_send() -> Self {
        if thread::is_ours() { Self::Try } else { Self::Block }
    }

    /// Of a call with a limit of its own, for all that it does.
    pub(super) fn until(deadline: &Deadline, shared: &Shared) -> Self {
        let max_block = shared.env.config.max_block;
        if thread::is_ours() || max_block.is_zero() {
            return Self::Try;
        }
        let deadline = deadline.clone().min(Deadline::after(max_block, "max_block"));
        Self::Until(deadline.with_stop(&shared.env.closing))
    }

    /// Who may wait for no time at all does not begin to.
    fn is_none(&self, shared: &Shared) -> bool {
        match self {
            Self::Block => shared.env.config.max_block.is_zero(),
            Self::Until(_) => false,
            Self::Try => true,
        }
    }

    /// One for all that is waited for from now on.
    fn deadline(&mut self, shared: &Shared) -> Deadline {
        let deadline = match self {
            Self::Block => Deadline::after(shared.env.config.max_block, "max_block"),
            Self::Until(deadline) => return deadline.clone(),
            Self::Try => return Deadline::after(Duration::ZERO, "try_send").with_stop(&shared.env.closing),
        };
        let deadline = deadline.with_stop(&shared.env.closing);
        *self = Self::Until(deadline.clone());
        deadline
    }
}

/// Hands a record over. `watch` is left if it was not.
///
/// Nearly every record takes the short way: its topic is known, and its partition fills a batch that has room for it.
#[inline]
pub(super) fn append(
    shared: &Arc<Shared>,
    record: &Record<'_>,
    home: Option<&Arc<Partition>>,
    watch: &mut Option<Watch>,
    patience: &mut Patience,
) -> Result<Option<Delivery>> {
    if shared.env.closing.is_stopped() {
        return Err(shared.env.closing.error());
    }
    let parts = Parts {
        timestamp: timestamp_of(record)?,
        key: record.key,
        value: record.value,
        headers: &record.headers,
    };
    let mut place = |partition: &Arc<Partition>| match partition.put_at_once(&parts, watch) {
        Some(taken) => Placed::Taken(taken),
        None => Placed::At(Arc::clone(partition)),
    };
    let placed = match (home, record.topic) {
        (Some(home), _) => Some(Ok(place(home))),
        (None, Some(name)) => {
            let what = (record.key, record.value, rough_size(&parts));
            shared.topics.place(name, record.partition, what, place)
        }
        (None, None) => None,
    };
    match placed {
        Some(Ok(Placed::Taken(taken))) => taken,
        Some(Ok(Placed::At(partition))) => put_at(shared, &partition, home.is_some(), parts, watch, patience),
        Some(Err(error)) => Err(error),
        None => find_and_put(shared, record, parts, watch, patience),
    }
}

/// What the short way has come to.
enum Placed {
    Taken(Result<Option<Delivery>>),
    /// This is the partition, and more is to be done.
    At(Arc<Partition>),
}

#[inline]
fn timestamp_of(record: &Record<'_>) -> Result<i64> {
    match record.timestamp_millis() {
        None => Ok(milliseconds_now()),
        Some(given) => given.map_err(|error| match record.topic {
            Some(topic) => error.for_topic(topic),
            None => error,
        }),
    }
}

fn put_at(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    is_home: bool,
    parts: Parts<'_>,
    watch: &mut Option<Watch>,
    patience: &mut Patience,
) -> Result<Option<Delivery>> {
    let result = put(shared, partition, parts, watch, patience);
    if !is_home || result.is_ok() || !partition.has_ended() || shared.env.closing.is_stopped() {
        return result;
    }
    // There was no such topic any more; there may be one again.
    let topic = known_topic(shared, &partition.topic, patience)?;
    let partition = self::partition(shared, &topic, partition.index, patience)?;
    put(shared, &partition, parts, watch, patience)
}

/// For a topic or a partition that has to be asked for first, or chosen by the program's own code.
fn find_and_put(
    shared: &Arc<Shared>,
    record: &Record<'_>,
    parts: Parts<'_>,
    watch: &mut Option<Watch>,
    patience: &mut Patience,
) -> Result<Option<Delivery>> {
    let name = record
        .topic
        .ok_or_else(|| Error::config("the record names no topic: Record::to does"))?;
    let topic = known_topic(shared, name, patience)?;
    let partition = match record.partition {
        Some(index) => self::partition(shared, &topic, index, patience)?,
        None => Arc::clone(topic.choose(record.key, record.value, rough_size(&parts))?),
    };
    put(shared, &partition, parts, watch, patience)
}

pub(super) fn known_topic(shared: &Arc<Shared>, name: &str, patience: &mut Patience) -> Result<Arc<Topic>> {
    if let Some(topic) = shared.topics.known(name) {
        return Ok(topic);
    }
    if patience.is_none(shared) {
        return topic_at_once(shared, name);
    }
    shared.topic(name, &patience.deadline(shared))
}

/// What the client knows already needs no waiting. Anything else the keeper asks for, so that a later try knows.
fn topic_at_once(shared: &Arc<Shared>, name: &str) -> Result<Arc<Topic>> {
    let metadata = shared.cluster.metadata();
    let refused = match metadata.topic(name) {
        Some(told) if told.error == 0 => return Ok(shared.learn(told)),
        Some(told) => Some(Error::refused(told.error).for_topic(name)),
        None if metadata.is_missing(name, now()) => Some(cluster::unknown_topic(name)),
        None => None,
    };
    shared.desk.leave(|wants| {
        wants.stale.insert(Arc::from(name));
    });
    let not_yet = || Patience::Try.deadline(shared).error("metadata").for_topic(name);
    Err(refused.unwrap_or_else(not_yet))
}

/// This partition, which may have been added since the topic was looked at.
pub(super) fn partition(
    shared: &Arc<Shared>,
    topic: &Arc<Topic>,
    index: i32,
    patience: &mut Patience,
) -> Result<Arc<Partition>> {
    if let Some(partition) = topic.partition(index) {
        return Ok(Arc::clone(partition));
    }
    let mut topic = Arc::clone(topic);
    let names = [Arc::clone(&topic.name)];
    if patience.is_none(shared) {
        shared.desk.leave(|wants| {
            wants.stale.extend(names);
        });
    } else if index >= 0 {
        let deadline = patience.deadline(shared);
        let metadata = shared.cluster.refresh(cluster::Topics::Named(&names), &deadline)?;
        if let Some(told) = metadata.topic(&topic.name) {
            topic = shared.learn(told);
        }
    }
    topic.partition(index).cloned().ok_or_else(|| {
        let count = topic.all().len();
        let message = format!("the topic has no partition {index}: it has {count}, numbered from 0");
        Error::new(ErrorKind::UnknownTopic, message).for_partition(&topic.name, index)
    })
}

fn put(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    parts: Parts<'_>,
    watch: &mut Option<Watch>,
    patience: &mut Patience,
) -> Result<Option<Delivery>> {
    let mut room = None;
    loop {
        let context = |error: Error| error.for_partition(&partition.topic, partition.index);
        let needed = match partition.put(parts, watch, &mut room).map_err(context)? {
            Put::Written { delivery, is_homeless } => {
                if is_homeless {
                    shared.settle_in(partition);
                }
                return Ok(delivery);
            }
            Put::NeedsRoom { bytes, is_homeless } => {
                if is_homeless {
                    shared.settle_in(partition);
                }
                bytes
            }
        };
        let memory = &shared.env.memory;
        if needed > LARGEST_RECORD {
            let message = format!("the record takes {needed} bytes, more than any batch can have");
            return Err(context(Error::new(ErrorKind::TooLarge, message)));
        }
        if needed > memory.limit() {
            let message = format!(
                "the record takes {needed} bytes, more than buffer_bytes ({})",
                memory.limit()
            );
            return Err(context(Error::new(ErrorKind::TooLarge, message)));
        }
        if matches!(patience, Patience::Try) {
            let message = format!(
                "the buffer has no room for {needed} bytes more (buffer_bytes: {})",
                memory.limit()
            );
            return Err(context(Error::new(ErrorKind::BufferFull, message).retriable(true)));
        }
        room = Some(memory.reserve(needed, &patience.deadline(shared)).map_err(context)?);
    }
}

/// A batch tells its length as a 32-bit number. What brokers take is a good deal less.
const LARGEST_RECORD: usize = i32::MAX as usize;

/// What partitions get their shares by. Headers are not worth their counting.
fn rough_size(record: &Parts<'_>) -> usize {
    const OVERHEAD: usize = 8;
    OVERHEAD + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)
}

fn milliseconds_now() -> i64 {
    // Seconds since 1970 have room for a thousand times as many.
    let milliseconds = |since: Duration| since.as_secs() as i64 * 1000 + i64::from(since.subsec_millis());
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, milliseconds)
}

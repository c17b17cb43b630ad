//! The caller's side: a record finds its partition, and room.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    delivery::Delivery,
    partition::{Partition, Parts, Put, Watch, now},
    record::Record,
    sender::send_at_once,
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
    let known = match (home, record.topic) {
        (Some(home), _) => Some(home),
        (None, Some(name)) => {
            let topic = shared.topics.glimpse(name);
            topic
                .and_then(|topic| topic.place(record.partition, &parts))
                .transpose()?
        }
        (None, None) => None,
    };
    let Some(partition) = known else {
        return find_and_put(shared, record, parts, watch, patience);
    };
    match partition.put_at_once(&parts, watch) {
        Some(taken) => taken,
        None => put_at(shared, partition, home.is_some(), parts, watch, patience),
    }
}

#[inline]
fn timestamp_of(record: &Record<'_>) -> Result<i64> {
    match record.timestamp_millis() {
        None => Ok(milliseconds(SystemTime::now())),
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
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Error::config("the record names no topic: Record::to does"))?;
    let topic = known_topic(shared, name, patience)?;
    let partition = match record.partition {
        Some(index) => self::partition(shared, &topic, index, patience)?,
        None => Arc::clone(topic.choose(&parts)?),
    };
    if let Some(taken) = partition.put_at_once(&parts, watch) {
        return taken;
    }
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
        let wish = match partition.put(parts, watch, &mut room).map_err(context)? {
            Put::Written {
                delivery,
                is_homeless,
                due,
            } => {
                if is_homeless {
                    shared.settle_in(partition);
                }
                if let Some(inbox) = due {
                    send_at_once(&inbox);
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
        let (memory, needed) = (&shared.env.memory, wish.least);
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
        room = Some(memory.reserve(wish, &patience.deadline(shared)).map_err(context)?);
    }
}

/// A batch tells its length as a 32-bit number. What brokers take is a good deal less.
const LARGEST_RECORD: usize = i32::MAX as usize;

thread_local! {
    /// The one that a thread has met last: at a fast pace a thousand records share it.
    static MILLISECOND: Cell<Millisecond> = const { Cell::new(Millisecond::FIRST) };
}

/// As records have it: since 1970.
#[inline]
fn milliseconds(now: SystemTime) -> i64 {
    MILLISECOND.with(|last| match last.get() {
        last if last.has(now) => last.number,
        _ => {
            last.set(Millisecond::at(now));
            last.get().number
        }
    })
}

/// From when on to what time: to look whether it is still the same one takes a good deal less than to find out which it is.
#[derive(Debug, Clone, Copy)]
struct Millisecond {
    begin: SystemTime,
    end: SystemTime,
    number: i64,
}

impl Millisecond {
    const FIRST: Self = Self {
        begin: SystemTime::UNIX_EPOCH,
        end: SystemTime::UNIX_EPOCH,
        number: 0,
    };

    #[inline]
    fn has(&self, now: SystemTime) -> bool {
        self.begin <= now && now < self.end
    }

    /// A time before 1970 is taken for its first one.
    fn at(now: SystemTime) -> Self {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let begun = Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000_000));
        let begin = now.checked_sub(begun).unwrap_or(now);
        Self {
            begin,
            end: begin.checked_add(Duration::from_millis(1)).unwrap_or(begin),
            number: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_millisecond_ends_where_the_next_one_begins() {
        let at = |nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
        let millisecond = Millisecond::at(at(1_700_000_000_123_456_789));
        assert_eq!(millisecond.number, 1_700_000_000_123);
        assert!(!millisecond.has(at(1_700_000_000_122_999_999)));
        assert!(millisecond.has(at(1_700_000_000_123_000_000)));
        assert!(millisecond.has(at(1_700_000_000_123_999_999)));
        assert!(!millisecond.has(at(1_700_000_000_124_000_000)));
        assert_eq!(Millisecond::at(at(0)).number, 0);
    }

    #[test]
    fn times_that_are_no_timestamps_have_one_all_the_same() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(7);
        assert_eq!(milliseconds(before), 0);
        assert_eq!(milliseconds(SystemTime::UNIX_EPOCH + Duration::from_millis(7)), 7);
    }

    proptest! {
        /// However the clock is set, forward or back: what was remembered is not told in the place of what is.
        #[test]
        fn every_time_has_its_own_millisecond(times in prop::collection::vec(0..5_000_000_u64, 1..20)) {
            for nanos in times {
                let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
                prop_assert_eq!(milliseconds(now), (nanos / 1_000_000) as i64);
            }
        }
    }
}

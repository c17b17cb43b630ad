//! What users can be told: nothing that happens to a partition is silent.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use log::Level;
use parking_lot::{Condvar, Mutex};

use crate::{deadline::Deadline, error::Error, offset::TopicPartition};

/// What has happened to a stream. [`Stream::events`](crate::Stream::events) hands it out; nobody has to read it.
///
/// In a rebalance that goes well they come in this order: `RebalanceStarted`, `Revoked` for each partition, `Rebalanced`, and
/// `Assigned` for each partition that this member has then. Each is also a line in the log (`log` crate), warnings for what
/// somebody may want to change.
///
/// ```no_run
/// use klamm::Event;
/// # fn f(stream: &klamm::Stream) {
/// let events = stream.events();
/// std::thread::spawn(move || {
///     // Ends with the stream.
///     for event in events {
///         match event {
///             Event::Rebalanced { current, .. } => println!("this member has {} partitions now", current.len()),
///             Event::Abandoned { partition, oldest, .. } => println!("too slow: {partition} from {oldest} on comes again"),
///             Event::Lost { partition, error, .. } => println!("{partition} was lost: {error}"),
///             _ => {}
///         }
///     }
/// });
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A partition is being read from now on. In a group: at the offset that the group has committed, or where
    /// [`start_at`](crate::GroupBuilder::start_at) says.
    #[non_exhaustive]
    Assigned {
        /// Which.
        partition: TopicPartition,
        /// The first offset that is asked for.
        position: i64,
    },
    /// A position was outside of the log, and reading goes on elsewhere, as `out_of_range` says.
    #[non_exhaustive]
    OffsetReset {
        /// Which.
        partition: TopicPartition,
        /// The offset that was asked for.
        from: i64,
        /// Where reading goes on.
        to: i64,
        /// How many offsets were left out (some of them may have held no record).
        skipped: u64,
    },
    /// A new leader has another history (KIP-320): what was read from `to` on is no longer in the log.
    #[non_exhaustive]
    Truncated {
        /// Which.
        partition: TopicPartition,
        /// Where reading stood.
        from: i64,
        /// Where the histories part, and reading goes on.
        to: i64,
    },
    /// The topic was deleted and made anew; reading goes on at the first record of the new one. Partitions that failed while
    /// it was gone still wait for a `seek`.
    #[non_exhaustive]
    TopicRecreated {
        /// Its name.
        topic: String,
    },
    /// Another broker leads the partition now.
    #[non_exhaustive]
    LeaderMoved {
        /// Which.
        partition: TopicPartition,
        /// The new leader.
        broker: i32,
    },
    /// Records arrived damaged and are fetched again.
    #[non_exhaustive]
    Refetched {
        /// Which.
        partition: TopicPartition,
        /// What was wrong.
        error: Error,
    },
    /// The iterator has given (or will give) this error, and the partition waits for a `seek`.
    #[non_exhaustive]
    PartitionFailed {
        /// Which.
        partition: TopicPartition,
        /// Why.
        error: Error,
    },
    /// There is something to read, and the program has taken nothing of it for `stall_after`. In a group also: it has finished
    /// nothing of what it has.
    #[non_exhaustive]
    Stalled {
        /// Which.
        partition: TopicPartition,
        /// The oldest offset that was handed out, or would be next.
        oldest: i64,
        /// For how long.
        age: Duration,
    },
    /// The group deals out its partitions anew: this member gives up what it has, as soon as the program has finished what it
    /// has in hand, or after [`revoke_timeout`](crate::GroupBuilder::revoke_timeout).
    RebalanceStarted,
    /// The group has dealt out its partitions.
    #[non_exhaustive]
    Rebalanced {
        /// Counts the group's rebalances.
        generation: i32,
        /// What this member has now and had not before.
        claimed: Vec<TopicPartition>,
        /// What it had before and has no more.
        released: Vec<TopicPartition>,
        /// All that it has now.
        current: Vec<TopicPartition>,
    },
    /// A partition was given up in good order: what was acked of it is committed, unless a `CommitFailed` came before.
    #[non_exhaustive]
    Revoked {
        /// Which.
        partition: TopicPartition,
    },
    /// A partition was given up although the program still had messages of it in hand after `revoke_timeout`. They come
    /// again elsewhere, and their acks count no more.
    #[non_exhaustive]
    Abandoned {
        /// Which.
        partition: TopicPartition,
        /// The oldest offset in hand.
        oldest: i64,
    },
    /// A partition was lost: the group went on without this member, or could not be heard of for a session timeout.
    #[non_exhaustive]
    Lost {
        /// Which.
        partition: TopicPartition,
        /// Why.
        error: Error,
    },
    /// An iterator was asked for the next message while the program still holds this one: it is done only when its own
    /// `ack` says so. Told once for a stream.
    #[non_exhaustive]
    StillHeld {
        /// Which partition it is of.
        partition: TopicPartition,
        /// Its offset.
        offset: i64,
    },
    /// What was acked could not be committed; it is tried again with the next commit, unless the partition is gone.
    #[non_exhaustive]
    CommitFailed {
        /// Which.
        partition: TopicPartition,
        /// Why.
        error: Error,
    },
    /// Something is wrong between this member and its group; it is being tried again.
    #[non_exhaustive]
    GroupTrouble {
        /// What.
        error: Error,
    },
    /// A broker could not be reached, or a connection to it broke; it is tried again.
    #[non_exhaustive]
    Disconnected {
        /// Its ID.
        broker: i32,
        /// Why.
        error: Error,
    },
}

/// So many events are kept for a reader; the oldest go first.
const KEPT: usize = 1000;

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Event>,
    /// What the keeper is to write to the log.
    lines: VecDeque<(Level, String)>,
    dropped: u64,
    closed: bool,
}

#[derive(Default)]
pub(crate) struct EventQueue {
    kept: Mutex<Kept>,
    changed: Condvar,
    /// Lines about a group name it: a program may be in several.
    group: OnceLock<Arc<str>>,
}

impl EventQueue {
    /// These are events of a member of this group.
    pub(crate) fn are_of(&self, group: &Arc<str>) {
        self.group.set(Arc::clone(group)).ok();
    }

    /// Keeps it for a reader, and for the log; writes nothing, since the caller holds the buffer's lock.
    pub(crate) fn push(&self, event: Event) {
        let group = self.group.get().map_or("", |group| group);
        let (level, line) = match &event {
            Event::Assigned { partition, position } => {
                (Level::Info, format!("reading {partition} from offset {position}"))
            }
            Event::OffsetReset {
                partition,
                from,
                to,
                skipped,
            } => {
                let line = format!(
                    "offset {from} of {partition} is not in the log: reading goes on at {to}, {skipped} offsets are skipped"
                );
                (Level::Warn, line)
            }
            Event::Truncated { partition, from, to } => {
                let line = format!(
                    "{partition} was cut back under a new leader: reading stood at offset {from}, and goes on at {to}"
                );
                (Level::Warn, line)
            }
            Event::TopicRecreated { topic } => {
                let line = format!(
                    "topic {topic} was deleted and made anew: reading goes on at its first record, but of partitions that \
                     wait for a seek"
                );
                (Level::Warn, line)
            }
            Event::LeaderMoved { partition, broker } => {
                (Level::Info, format!("{partition} is led by broker {broker} now"))
            }
            Event::Refetched { partition, error } => {
                let line = format!("damaged records of {partition} are fetched again: {error}");
                (Level::Warn, line)
            }
            Event::PartitionFailed { partition, error } => {
                let line = format!("{partition} waits for a seek, and is not read until then: {error}");
                (Level::Warn, line)
            }
            Event::Stalled { partition, oldest, age } => {
                let line =
                    format!("the program has not gone on with {partition} for {age:.1?}: it stands at offset {oldest}");
                (Level::Warn, line)
            }
            Event::Disconnected { broker, error } => (Level::Debug, format!("broker {broker}: {error}")),
            Event::RebalanceStarted => (Level::Info, format!("group {group} deals out its partitions anew")),
            Event::Rebalanced {
                generation,
                claimed,
                released,
                current,
            } => {
                let counts = [claimed, released, current].map(Vec::len);
                let [claimed, released, current] = counts;
                let line = format!(
                    "generation {generation} of group {group}: {claimed} partitions claimed, {released} released, {current} \
                     in all"
                );
                (Level::Info, line)
            }
            Event::Revoked { partition } => (Level::Info, format!("{partition} was given up")),
            Event::Abandoned { partition, oldest } => {
                let line = format!(
                    "{partition} was given up although the program still has offset {oldest} of it in hand, since the time \
                     to finish it (revoke_timeout, or less if the group goes on before that) is over: it comes again elsewhere"
                );
                (Level::Warn, line)
            }
            Event::Lost { partition, error } => (Level::Warn, format!("{partition} was lost: {error}")),
            Event::StillHeld { partition, offset } => {
                let line = format!(
                    "the program still holds offset {offset} of {partition} and has asked for more: messages that are \
                     kept are done only when their own ack() says so"
                );
                (Level::Warn, line)
            }
            Event::CommitFailed { partition, error } => (
                Level::Warn,
                format!("what was acked of {partition} was not committed: {error}"),
            ),
            Event::GroupTrouble { error } => (Level::Warn, format!("the group: {error}")),
        };
        self.note(level, line);
        let mut kept = self.kept.lock();
        if kept.events.len() == KEPT {
            kept.events.pop_front();
            kept.dropped += 1;
        }
        kept.events.push_back(event);
        self.changed.notify_one();
    }

    /// A line for the log only.
    pub(crate) fn note(&self, level: Level, line: String) {
        if level <= log::max_level() {
            let mut kept = self.kept.lock();
            if kept.lines.len() == KEPT {
                kept.lines.pop_front();
            }
            kept.lines.push_back((level, line));
        }
    }

    pub(crate) fn has_log(&self) -> bool {
        !self.kept.lock().lines.is_empty()
    }

    /// Writes the lines that have come together. A logger may take its time, and may ask the stream for its health.
    pub(crate) fn write_log(&self) {
        let lines = std::mem::take(&mut self.kept.lock().lines);
        for (level, line) in lines {
            log::log!(level, "{line}");
        }
    }

    pub(crate) fn close(&self) {
        self.kept.lock().closed = true;
        self.changed.notify_all();
    }
}

/// The events of one stream, oldest first. All handles of a stream share one queue.
///
/// At most 1 000 are kept; when nobody reads them, the oldest are dropped and [counted](Self::dropped). As an iterator
/// it waits for the next event and ends when the stream is closed.
#[derive(Clone)]
pub struct Events {
    queue: Arc<EventQueue>,
}

impl Events {
    pub(crate) fn new(queue: Arc<EventQueue>) -> Self {
        Self { queue }
    }

    /// The next event if there is one.
    #[must_use]
    pub fn try_next(&self) -> Option<Event> {
        self.queue.kept.lock().events.pop_front()
    }

    /// The next event; None after this time, or when the stream is closed and all have been read.
    #[must_use]
    pub fn next_timeout(&self, timeout: Duration) -> Option<Event> {
        let deadline = Deadline::after(timeout, "timeout");
        let mut kept = self.queue.kept.lock();
        loop {
            if let Some(event) = kept.events.pop_front() {
                return Some(event);
            }
            if kept.closed || self.queue.changed.wait_until(&mut kept, deadline.at()).timed_out() {
                return kept.events.pop_front();
            }
        }
    }

    /// How many events were dropped because nobody read them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.kept.lock().dropped
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut kept = self.queue.kept.lock();
        loop {
            if let Some(event) = kept.events.pop_front() {
                return Some(event);
            }
            if kept.closed {
                return None;
            }
            self.queue.changed.wait(&mut kept);
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &self.queue.kept.lock().events.len())
            .finish_non_exhaustive()
    }
}

/// How a stream is doing, as of now: [`Stream::health`](crate::Stream::health).
///
/// ```no_run
/// use klamm::Health;
/// # fn f(stream: &klamm::Stream) {
/// match stream.health() {
///     Health::Healthy | Health::Rebalancing => println!("ok"),
///     Health::Unhealthy(problems) => {
///         for problem in problems {
///             println!("for {:?}: {}", problem.age, problem.error);
///         }
///     }
///     _ => {}
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Health {
    /// Nothing is wrong.
    Healthy,
    /// Nothing is wrong, and the group is dealing out its partitions: also from [`join`](crate::GroupBuilder::join) until the
    /// first assignment.
    Rebalancing,
    /// Something is; reading may go on elsewhere.
    Unhealthy(Vec<Problem>),
}

impl Health {
    /// Whether it is [`Healthy`](Self::Healthy): nothing is wrong, and no rebalance under way.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Problem {
    /// The partition concerned; None concerns the whole stream.
    pub partition: Option<TopicPartition>,
    /// For how long.
    pub age: Duration,
    /// What is wrong, and what the program or its operator can do.
    pub error: Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recreated(number: usize) -> Event {
        Event::TopicRecreated {
            topic: number.to_string(),
        }
    }

    #[test]
    fn events_that_nobody_reads_drop_the_oldest_and_are_counted() {
        let queue = Arc::new(EventQueue::default());
        for number in 0..KEPT + 3 {
            queue.push(recreated(number));
        }
        let events = Events::new(queue);
        assert_eq!(events.dropped(), 3);
        assert!(matches!(events.try_next(), Some(Event::TopicRecreated { topic }) if topic == "3"));
    }

    #[test]
    fn waiting_ends_with_the_stream() {
        let queue = Arc::new(EventQueue::default());
        queue.push(recreated(1));
        queue.close();
        assert_eq!(Events::new(queue).count(), 1);
    }

    #[test]
    fn lines_about_a_group_name_it() {
        log::set_max_level(log::LevelFilter::Info); // to nobody
        let queue = EventQueue::default();
        queue.are_of(&Arc::from("billing"));
        queue.push(Event::RebalanceStarted);
        queue.push(Event::Rebalanced {
            generation: 4,
            claimed: Vec::new(),
            released: Vec::new(),
            current: Vec::new(),
        });
        let kept = queue.kept.lock();
        assert_eq!(kept.lines.len(), 2);
        assert!(kept.lines.iter().all(|(_, line)| line.contains("group billing")));
    }
}

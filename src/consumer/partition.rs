//! What a stream knows of one partition. Lives under the buffer's lock.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Condvar;
use uuid::Uuid;

use super::{
    budget::Account,
    message::{Cell, Chunk, ChunkData},
};
use crate::{
    error::{Error, ErrorKind},
    offset::{Isolation, StartAt, TopicPartition},
    stop::Stop,
    thread::Worker,
    wire::fetch::AbortedTransaction,
};

/// What the fetcher has to find out before this partition can be fetched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Task {
    /// Where to begin.
    Start(StartAt),
    /// The leader says that this position is outside of its log.
    Reset { at: i64 },
    /// The leader has changed: is what was read still part of its log (KIP-320)?
    Validate { epoch: i32 },
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// The fetcher works (`begun`) or will work on the task.
    Preparing { task: Task, begun: bool },
    /// A lane may ask for records.
    Fetching,
    /// An error was, or is about to be, given to the program; only a seek ends this.
    Failed,
}

/// Records of one answer as they came, in order, whole batches (and perhaps a part of one more).
pub(crate) struct Raw {
    pub epoch: u64,
    /// The first offset that was asked for.
    pub from: i64,
    pub bytes: Vec<u8>,
    pub aborted: Vec<AbortedTransaction>,
    pub readable_end: i64,
    /// What is wrong with what came behind `bytes`, and was left out.
    pub problem: Option<&'static str>,
}

/// Up to where a partition can be read, as of its last answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub high_watermark: i64,
    pub last_stable: i64,
}

impl Ends {
    pub(crate) fn readable(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadCommitted if self.last_stable >= 0 => self.last_stable.min(self.high_watermark),
            _ => self.high_watermark,
        }
    }
}

/// Something that is wrong, since when, and how often it was met in a row.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub since: Instant,
    pub error: Error,
    pub times: u32,
}

pub(crate) struct Partition {
    pub cell: Arc<Cell>,
    pub name: TopicPartition,
    pub topic_id: Uuid,
    pub phase: Phase,
    /// The next offset to ask for. Meaningless while a start is being found.
    pub position: i64,
    /// The leader epoch of the last batch before `position`; -1 when it is not known.
    pub read_epoch: i32,
    /// The leader and its epoch.
    pub leader: Option<(i32, i32)>,
    /// A follower that the leader sent us to (KIP-392), and until when.
    pub replica: Option<(i32, Instant)>,
    pub ends: Option<Ends>,
    pub account: Account,
    pub raw: VecDeque<Raw>,
    /// The fetcher is at work on some of it.
    pub decoding: bool,
    pub chunks: VecDeque<Chunk>,
    /// Which Fetch asks for it now; what another one brings does not count.
    pub asked: Option<u64>,
    /// Behind what has been decoded: from here on it must be fetched again when what is under way is dropped.
    pub decoded: i64,
    /// Since when an iterator has it.
    pub leased: Option<Instant>,
    /// What the iterator that has it goes through.
    pub in_hand: Option<Arc<ChunkData>>,
    /// The next offset for an iterator, when none has it.
    pub stands_at: i64,
    /// Whether it stands in the queue of ready partitions.
    pub queued: bool,
    pub paused: bool,
    pub not_before: Option<Instant>,
    /// Where `until_end` ends.
    pub until: Option<i64>,
    /// Waits to be given to an iterator, behind the chunks.
    pub failure: Option<Error>,
    /// Records from here on went away while an iterator had them (KIP-320).
    pub cut: Option<i64>,
    /// Answers in a row that were too large, with nothing else in them.
    pub oversized: usize,
    /// Damaged batches met in a row at the same place.
    pub damaged: u32,
    pub trouble: Option<Trouble>,
    pub stall_told: bool,
    /// Where the program stood, although there was something for it, and since when.
    pub stands: Option<(i64, Instant)>,
    /// Wakes its fetcher.
    pub wake: Arc<Condvar>,
    pub stop: Stop,
    pub fetcher: Option<Worker>,
}

impl Partition {
    pub(crate) fn new(name: TopicPartition, topic_id: Uuid, start: StartAt, leader: Option<(i32, i32)>) -> Self {
        Self {
            cell: Arc::new(Cell::new(Arc::from(name.topic()), name.partition())),
            name,
            topic_id,
            phase: Phase::Preparing {
                task: Task::Start(start),
                begun: false,
            },
            position: -1,
            read_epoch: -1,
            leader,
            replica: None,
            ends: None,
            account: Account::default(),
            raw: VecDeque::new(),
            decoding: false,
            chunks: VecDeque::new(),
            asked: None,
            decoded: -1,
            leased: None,
            in_hand: None,
            stands_at: -1,
            queued: false,
            paused: false,
            not_before: None,
            until: None,
            failure: None,
            cut: None,
            oversized: 0,
            damaged: 0,
            trouble: None,
            stall_told: false,
            stands: None,
            wake: Arc::new(Condvar::new()),
            stop: Stop::new("partition"),
            fetcher: None,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.cell.fetch_epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn ack_epoch(&self) -> u64 {
        self.cell.ack_epoch.load(Ordering::Relaxed)
    }

    /// What was asked for, or has arrived undecoded, is not wanted any more.
    pub(crate) fn raise_epoch(&mut self) {
        self.cell.fetch_epoch.fetch_add(1, Ordering::Release);
        self.unask();
    }

    /// A Fetch that is still under way for it does not count any more: another lane may ask at once.
    pub(crate) fn unask(&mut self) {
        self.asked = None;
        self.account.reserved = 0;
    }

    /// Which broker has its records for us.
    pub(crate) fn source(&self) -> Option<i32> {
        self.replica
            .map(|(broker, _)| broker)
            .or(self.leader.map(|(broker, _)| broker))
    }

    /// All that was asked for has been given out, and its fetcher has nothing more to say of it.
    fn is_read_up(&self) -> bool {
        matches!(self.phase, Phase::Fetching) && self.chunks.is_empty() && self.account.raw == 0 && !self.decoding
    }

    /// The next offset that an iterator will be given.
    pub(crate) fn delivered(&self) -> i64 {
        match &self.in_hand {
            // After a seek, what the iterator still has does not count.
            Some(chunk) if chunk.ack_epoch == self.ack_epoch() => chunk.at.load(Ordering::Relaxed),
            // Nothing lies between: it stands where the next Fetch asks.
            None if self.is_read_up() => self.position,
            _ => self.stands_at,
        }
    }

    /// Whether a lane should ask for it, if there is room.
    pub(crate) fn wants_records(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Fetching)
            && self.asked.is_none()
            && !self.paused
            && self.not_before.is_none_or(|at| at <= now)
            && self.until.is_none_or(|until| self.position < until)
    }

    /// Whether `until_end` has nothing more to wait for here.
    pub(crate) fn is_finished(&self) -> bool {
        match self.phase {
            Phase::Failed => self.failure.is_none() && self.chunks.is_empty() && self.leased.is_none(),
            Phase::Preparing {
                task: Task::Start(_), ..
            } => false,
            _ => self.leased.is_none() && self.until.is_some_and(|until| self.delivered() >= until),
        }
    }

    pub(crate) fn has_something(&self) -> bool {
        !self.chunks.is_empty() || self.failure.is_some()
    }

    pub(crate) fn met(&mut self, error: Error, now: Instant, wait: impl FnOnce(u32) -> Duration) {
        let times = self.trouble.as_ref().map_or(0, |trouble| trouble.times) + 1;
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        self.not_before = Some(now + wait(times));
        self.trouble = Some(Trouble { since, error, times });
    }

    /// The way to its broker is fine again; what the broker itself said of it stays.
    pub(crate) fn reached(&mut self) {
        let is_of_the_way =
            |trouble: &Trouble| trouble.error.code().is_none() && trouble.error.kind() != ErrorKind::Corrupt;
        if self.trouble.as_ref().is_some_and(is_of_the_way) {
            self.well();
        }
    }

    pub(crate) fn well(&mut self) {
        self.trouble = None;
        self.not_before = None;
    }
}

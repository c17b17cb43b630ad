//! What a stream knows of one partition. Lives under the buffer's lock.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, MutexGuard};
use uuid::Uuid;

use super::{
    acks::Freed,
    budget::{Account, Expansion},
    config::{FetchConfig, PrefetchRule},
    fetcher::AHEAD,
    message::{Cell, Chunk, ChunkData},
    ownership::{Ownership, Tracked},
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
    /// It is being given up: nothing is asked for and nothing given out any more.
    Draining,
}

/// Whether a group is to remember where reading of a partition begins, before anything is acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pins {
    /// The program has moved it: its next ack tells.
    Never,
    /// Unless it is where everybody would begin.
    Elsewhere,
    /// What the group remembers belongs to a topic that is gone.
    Always,
}

/// Records of one answer as they came, in order, whole batches (and perhaps a part of one more).
pub(crate) struct Raw {
    /// None of it is compressed: it is decoded where it lies, and no room is waited for.
    pub is_plain: bool,
    pub epoch: u64,
    /// The first offset that was asked for.
    pub from: i64,
    pub bytes: Vec<u8>,
    /// How many records its batches claim to hold.
    pub records: usize,
    /// How much longer they are expected to become when they are inflated.
    pub growth: usize,
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
    /// Of its compressed batches.
    pub expansion: Expansion,
    pub raw: VecDeque<Raw>,
    /// The fetcher is at work on some of it; or the lane, and then the fetcher waits.
    pub decoding: bool,
    pub is_lent: bool,
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
    /// Of a group: leader epochs of what was decoded, and from which offset on each holds; the first may lie below what is
    /// committed.
    pub epochs: VecDeque<(i64, i32)>,
    pub pins: Pins,
    /// Of a group: chunks that iterators have gone through, and that may have messages in the program's hands.
    pub handed_out: Vec<Weak<ChunkData>>,
    /// Waits to be given to an iterator, behind the chunks.
    pub failure: Option<Error>,
    /// Records from here on went away while an iterator had them (KIP-320).
    pub cut: Option<i64>,
    /// Answers in a row that were too large, with nothing else in them.
    pub oversized: usize,
    /// Damaged batches met in a row at the same place.
    pub damaged: u32,
    /// Answers in a row that made no sense, to the question where to begin.
    pub nonsense: u32,
    pub trouble: Option<Trouble>,
    pub stall_told: bool,
    /// Where the program stood, although there was something for it, and since when.
    pub stands: Option<(i64, Instant)>,
    /// Wakes its fetcher.
    pub wake: Arc<Condvar>,
    pub stop: Stop,
    pub fetcher: Option<Worker>,
    /// One was started, or is about to be.
    pub has_fetcher: bool,
}

impl Partition {
    pub(crate) fn new(name: TopicPartition, topic_id: Uuid, start: StartAt, leader: Option<(i32, i32)>) -> Self {
        Self::owned(name, topic_id, start, leader, None)
    }

    /// One that a group has given us.
    pub(crate) fn owned(
        name: TopicPartition,
        topic_id: Uuid,
        start: StartAt,
        leader: Option<(i32, i32)>,
        ownership: Option<Ownership>,
    ) -> Self {
        Self {
            cell: Arc::new(Cell::new(Arc::from(name.topic()), name.partition(), ownership)),
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
            expansion: Expansion::default(),
            raw: VecDeque::new(),
            decoding: false,
            is_lent: false,
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
            epochs: VecDeque::new(),
            pins: Pins::Elsewhere,
            handed_out: Vec::new(),
            failure: None,
            cut: None,
            oversized: 0,
            damaged: 0,
            nonsense: 0,
            trouble: None,
            stall_told: false,
            stands: None,
            wake: Arc::new(Condvar::new()),
            stop: Stop::new("partition"),
            fetcher: None,
            has_fetcher: false,
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

    /// Whether an iterator may take something of it, if there is something.
    pub(crate) fn may_be_given(&self) -> bool {
        !self.paused && self.leased.is_none() && !matches!(self.phase, Phase::Draining)
    }

    /// Of a group: the program has too much of it unfinished, or it may not be ours any more.
    pub(crate) fn is_held_back(&self, config: &FetchConfig, now: Instant) -> bool {
        let Some(ownership) = &self.cell.ownership else {
            return false;
        };
        let mut tracked = ownership.lock();
        let next = self.chunks.front().map_or(self.stands_at, |chunk| chunk.from);
        let many = ownership.is_full(&mut tracked, next);
        let large = self.account.in_hand >= config.prefetch_bytes;
        let full = match config.prefetch_rule {
            PrefetchRule::Either => many || large,
            PrefetchRule::Both => many && large,
        };
        if full {
            tracked.waits = true;
        }
        full || !ownership.may_be_given(now)
    }

    /// These offsets hold nothing for the program.
    pub(crate) fn pass(&self, from: i64, to: i64) {
        if let Some(ownership) = &self.cell.ownership {
            ownership.lock().acks.pass(from, to);
        }
    }

    /// Notes that the program may have messages of this chunk.
    pub(crate) fn hand_out(&mut self, chunk: &Chunk) {
        if self.cell.ownership.is_none() {
            return;
        }
        self.handed_out.retain(|chunk| chunk.strong_count() > 0);
        let is_new = !self
            .handed_out
            .iter()
            .any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(&chunk.data)));
        if is_new {
            self.handed_out.push(Arc::downgrade(&chunk.data));
        }
    }

    /// Reading begins here.
    pub(crate) fn begin(&mut self, offset: i64) {
        self.position = offset;
        self.decoded = offset;
        self.stands_at = offset;
        self.phase = Phase::Fetching;
        self.epochs.clear();
        if let Some(ownership) = &self.cell.ownership {
            ownership.lock().restart(offset);
        }
    }

    /// Reading begins here although nothing was committed: the group should remember.
    pub(crate) fn pin(&self, offset: i64) {
        if let Some(ownership) = &self.cell.ownership {
            ownership.lock().pinned = Some(offset);
            ownership.tell_pinned();
        }
    }

    /// Under which leaders these records were written; commits tell.
    pub(crate) fn note_epochs(&mut self, chunk: &Chunk) {
        if self.cell.ownership.is_none() {
            return;
        }
        for span in &chunk.data.spans {
            if self.epochs.back().is_none_or(|&(_, epoch)| epoch != span.leader_epoch) {
                self.epochs.push_back((span.base_offset, span.leader_epoch));
            }
        }
    }

    /// Acks of messages that were given out before do not count any more. Gives what no longer fills the window.
    pub(crate) fn end_ack_epoch(&mut self) -> Freed {
        // Nobody waits for them: whoever still has one can do nothing with it.
        self.handed_out.clear();
        let Some(ownership) = &self.cell.ownership else {
            self.cell.ack_epoch.fetch_add(1, Ordering::Release);
            return Freed::default();
        };
        let mut tracked = ownership.lock();
        self.cell.ack_epoch.fetch_add(1, Ordering::Release);
        tracked.restart(-1)
    }

    pub(crate) fn ownership(&self) -> Option<&Ownership> {
        self.cell.ownership.as_ref()
    }

    /// What may be committed of it, and the leader epoch of the message before that (-1 when it is not known).
    pub(crate) fn committable(&mut self) -> Option<(i64, i32)> {
        let offset = self.caught_up()?.committable()?;
        Some(self.with_epoch(offset))
    }

    /// It is not ours any more. Acks that were accepted until now are in what comes back, with the oldest message that
    /// was given out and not acked.
    pub(crate) fn kill(&mut self) -> (Option<(i64, i32)>, Option<i64>) {
        let (offset, unfinished) = {
            let tracked = self.caught_up();
            self.cell.ack_epoch.fetch_add(1, Ordering::Release);
            tracked.map_or((None, None), |mut tracked| {
                tracked.leave();
                (tracked.committable(), tracked.acks.oldest_unacked())
            })
        };
        (offset.map(|offset| self.with_epoch(offset)), unfinished)
    }

    fn with_epoch(&mut self, offset: i64) -> (i64, i32) {
        while self.epochs.get(1).is_some_and(|&(from, _)| from < offset) {
            self.epochs.pop_front();
        }
        let epoch = self.epochs.front().filter(|&&(from, _)| from < offset);
        (offset, epoch.map_or(-1, |&(_, epoch)| epoch))
    }

    /// What an iterator goes through, unless a seek has made that meaningless.
    fn in_hand_now(&self) -> Option<&Arc<ChunkData>> {
        self.in_hand
            .as_ref()
            .filter(|chunk| chunk.ack_epoch == self.ack_epoch())
    }

    /// Its acks, with what an iterator has gone past.
    fn caught_up(&self) -> Option<MutexGuard<'_, Tracked>> {
        let mut tracked = self.cell.ownership.as_ref()?.lock();
        // Read under the lock: an iterator that finds a message held says so under it, before it goes on.
        let chunk = self
            .in_hand
            .as_ref()
            .filter(|chunk| chunk.ack_epoch == self.ack_epoch());
        if let Some(chunk) = chunk {
            tracked.catch_up(chunk.at.load(Ordering::Acquire));
        }
        Some(tracked)
    }

    /// The oldest message that was given out and is not done.
    pub(crate) fn oldest_unfinished(&self) -> Option<i64> {
        self.caught_up()?.acks.oldest_unacked()
    }

    /// Everything that was given out is done, up to this offset and with it. None without a group; the next offset to be
    /// given out when this one was not.
    pub(crate) fn ack_through(&self, offset: i64) -> Option<Result<(), i64>> {
        let mut tracked = self.caught_up()?;
        if let Some(chunk) = self.in_hand_now() {
            tracked.acks.given(chunk.at.load(Ordering::Acquire));
        }
        let done = tracked.acks.ack_below(offset.saturating_add(1));
        drop(tracked);
        Some(if done { Ok(()) } else { Err(self.delivered()) })
    }

    /// Whether the program has nothing of it in hand that it could still ack.
    pub(crate) fn is_let_go(&mut self) -> bool {
        self.handed_out.retain(|chunk| chunk.strong_count() > 0);
        self.leased.is_none() && (self.handed_out.is_empty() || self.oldest_unfinished().is_none())
    }

    /// Which broker has its records for us.
    pub(crate) fn source(&self) -> Option<i32> {
        self.replica
            .map(|(broker, _)| broker)
            .or(self.leader.map(|(broker, _)| broker))
    }

    /// Something was taken: its fetcher may go on, if it waits for room.
    pub(crate) fn read_on(&self) {
        if self.account.ready <= AHEAD / 2 {
            self.wake.notify_one();
        }
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

    /// How far the program has come: the oldest message that it has not finished, or the next one it will be given.
    pub(crate) fn progress(&self) -> i64 {
        self.oldest_unfinished().unwrap_or_else(|| self.delivered())
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

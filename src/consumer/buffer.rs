//! The one place where lanes, fetchers and iterators meet: bounded, and under one lock.
//!
//! The lock is held for a few lines each time, per batch and never per message, and never while somebody waits for the
//! network. Everything behind it is decided here; the threads only wait and carry.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering, fence},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    acks::{AckMode, Freed, Held},
    budget::Budget,
    config::{FetchConfig, PrefetchRule},
    event::{Event, EventQueue},
    fetch_lane::{self, LaneEntry, PARKED, Role},
    message::{Batch, Cell, Chunk, Message, Walker},
    ownership::Tracked,
    partition::{Partition, Phase, Task, Trouble},
    spares::Spares,
};
use crate::{
    cluster::Cluster,
    error::{Error, ErrorKind, Result},
    offset::{StartAt, TopicPartition},
    stop::Stop,
    thread::Worker,
};

/// Names a partition inside of one stream; never used twice.
pub(crate) type Slot = u32;

/// While others wait, an iterator gives its partition to them after this time.
const TURN: Duration = Duration::from_millis(100);

/// What a stream reads.
#[derive(Debug, Clone)]
pub(crate) enum Subscription {
    /// Every partition of these, and those they will have.
    Topics(Vec<Arc<str>>),
    /// These and no others.
    Partitions(Vec<TopicPartition>),
    /// What a group assigns of these.
    Group(Vec<Arc<str>>),
}

pub(crate) struct Shared {
    pub cluster: Cluster,
    pub config: FetchConfig,
    pub subscription: Subscription,
    pub until_end: bool,
    pub stop: Stop,
    pub events: Arc<EventQueue>,
    pub spares: Arc<Spares>,
    /// For the threads that are started here.
    me: Weak<Self>,
    state: Mutex<State>,
    /// Iterators: something to read, or the end.
    readable: Condvar,
    /// Callers who wait for a position.
    settled: Condvar,
    /// The keeper.
    keeper: Condvar,
    /// A group's coordinator: something may have changed for it. One sign is as good as many.
    nudges: (Sender<()>, Receiver<()>),
    /// Whether the program was told that it holds messages.
    pub held_told: AtomicBool,
    /// A group's coordinator should commit where reading begins.
    pub pinned: AtomicBool,
}

pub(crate) struct State {
    pub partitions: BTreeMap<Slot, Partition>,
    pub index: HashMap<TopicPartition, Slot>,
    next_slot: Slot,
    /// Partitions that have something for an iterator and that none has, in turn.
    ready: VecDeque<Slot>,
    /// Iterators that wait.
    waiting: usize,
    pub budget: Budget,
    pub lanes: HashMap<(i32, Role), LaneEntry>,
    /// Numbers Fetches.
    pub asks: u64,
    /// Whom a plan serves first moves on with each.
    pub turn: usize,
    /// Threads that have ended, or are about to.
    pub ending: Vec<Worker>,
    /// The keeper should ask for metadata at once.
    pub metadata_wanted: bool,
    /// How often metadata was asked for with success.
    pub refreshes: u64,
    /// Topics that a group's leader deals out, beside those of the subscription.
    pub watched: Vec<Arc<str>>,
    /// Of a group: partitions whose topic was made anew. What was committed of the old one is nothing to the new one.
    pub anew: Vec<Slot>,
    /// When a lane may need a second one beside it.
    pub express_at: Option<Instant>,
    /// What is wrong with the cluster as a whole.
    pub trouble: Option<Trouble>,
    /// Ends the stream, once it has been given to an iterator.
    fatal: Option<Error>,
    ended: bool,
}

/// One iterator's exclusive use of one partition, for one chunk.
pub(crate) struct Lease {
    slot: Slot,
    ack_epoch: u64,
    pub walker: Walker,
    /// The message that the program has in hand, or the last one of its batch.
    last: Option<i64>,
    /// The first message of the batch that the program has in hand.
    first: Option<i64>,
    /// Behind `last`, or where it begins.
    expected: i64,
    /// From here on nothing may be given without another look.
    limit: i64,
    pace: Pace,
    /// Nothing is left of the chunk.
    finished: bool,
    cell: Arc<Cell>,
}

/// How an iterator finds out what has become of the messages that it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// There is no group: it need not know.
    Reader,
    /// The program lets go of each message before it asks for the next, as a loop does: counting references is enough.
    Counting,
    /// It keeps some: each message is looked after by itself.
    Careful,
    /// Only explicit acks count.
    Explicit,
}

/// References to a chunk when the program holds none of its messages: the iterator's own, and the partition's.
const ALONE: usize = 2;

/// What an iterator gets.
pub(crate) enum Turn {
    Lease(Lease),
    Failed(Error),
    TimedOut,
    Ended,
}

impl Lease {
    /// The next message, if it is there for the taking. None says nothing but that [`next`](Self::next) has to look.
    #[inline(always)]
    pub(crate) fn next_common(&mut self) -> Option<Message> {
        if self.cell.recall.load(Ordering::Relaxed) || self.expected >= self.limit {
            return None;
        }
        if self.pace == Pace::Counting && Arc::strong_count(&self.walker.chunk.data) != ALONE {
            return None;
        }
        let record = self.walker.next_common()?;
        if self.pace == Pace::Explicit && record.offset != self.expected {
            self.pass(record.offset);
        }
        self.given(record.offset);
        // Last: while a message is there, whatever could panic would make the compiler keep it in memory.
        Some(self.walker.message(record))
    }

    /// The next message, unless the partition is wanted back, its window is full or the chunk is at its end.
    pub(crate) fn next(&mut self) -> Option<Result<Message>> {
        self.settle();
        if self.is_recalled() || !self.has_room() {
            return None;
        }
        let next = self.walker.next();
        match &next {
            Some(Ok(message)) => {
                self.pass(message.offset());
                self.given(message.offset());
            }
            Some(Err(_)) => self.finished = true,
            None => {
                self.finished = true;
                self.pass(self.walker.chunk.next_offset);
            }
        }
        next
    }

    #[inline(always)]
    fn given(&mut self, offset: i64) {
        self.last = Some(offset);
        self.expected = offset.saturating_add(1);
        let at = &self.walker.chunk.data.at;
        at.store(self.expected, Ordering::Release);
    }

    /// All that is left, as one batch; None when nothing is, or the partition is wanted back.
    pub(crate) fn next_batch(&mut self) -> Option<Result<Batch>> {
        self.settle();
        let rest = self.walker.clone();
        match self.next()? {
            Ok(message) => {
                let first = message.offset();
                drop(message);
                let behind = rest.chunk.next_offset;
                self.first = Some(first);
                if let Some(mut tracked) = self.tracked() {
                    // What is in hand is more than the last message: it must not be taken for gone past.
                    if let Some(from) = tracked.counting.take() {
                        tracked.acks.ack(from, first);
                    }
                }
                self.given(behind.saturating_sub(1));
                self.finished = true;
                self.walker.exhaust();
                if self.pace == Pace::Explicit {
                    self.note_gaps(first, behind);
                }
                Some(Ok(Batch::new(rest, first)))
            }
            Err(error) => Some(Err(error)),
        }
    }

    pub(crate) fn is_recalled(&self) -> bool {
        self.cell.recall.load(Ordering::Relaxed)
    }

    /// None without a group, and when a seek or a loss has begun something new, which is none of our business.
    fn tracked(&self) -> Option<MutexGuard<'_, Tracked>> {
        if self.pace == Pace::Reader {
            return None;
        }
        let tracked = self.cell.ownership.as_ref()?.lock();
        (self.cell.ack_epoch.load(Ordering::Acquire) == self.ack_epoch).then_some(tracked)
    }

    /// The program asks for more: what was given last is done, if it has let go of it.
    fn settle(&mut self) {
        let Some(last) = self.last.take() else {
            return;
        };
        let batch = self.first.take();
        if matches!(self.pace, Pace::Reader | Pace::Explicit) {
            return;
        }
        let first = batch.unwrap_or(last);
        let behind = last.saturating_add(1);
        let data = &self.walker.chunk.data;
        let is_whole = || data.spoiled.load(Ordering::Acquire) <= first;
        if self.pace == Pace::Counting && batch.is_none() && self.is_alone() && is_whole() {
            return; // done as everything before it, without anybody writing it down
        }
        if let Some(mut tracked) = self.tracked() {
            // From here on, `spoiled` tells.
            tracked.spoiled = None;
        }
        let is_alone = self.is_alone();
        let was_let_go = self.pace == Pace::Careful && batch.is_none() && data.let_go.load(Ordering::Acquire) == behind;
        let is_done = (is_alone || was_let_go) && is_whole();
        if batch.is_some() && !is_done {
            self.note_gaps(first, behind);
        }
        let counts = is_done && is_alone;
        if let (Some(mut tracked), Some(ownership)) = (self.tracked(), &self.cell.ownership) {
            if let Some(from) = tracked.counting.take() {
                tracked.acks.ack(from, first);
            }
            tracked.acks.given(behind);
            if is_done {
                tracked.acks.ack(first, behind);
            }
            if counts {
                tracked.counting = Some(behind);
            }
            ownership.finished(tracked);
            if !is_done {
                ownership.tell_held(&self.cell, first);
            }
        }
        self.set_pace(if counts { Pace::Counting } else { Pace::Careful });
    }

    /// Whether the program holds nothing of the chunk. What it did before it let go can be seen then.
    fn is_alone(&self) -> bool {
        let is_alone = Arc::strong_count(&self.walker.chunk.data) == ALONE;
        fence(Ordering::Acquire);
        is_alone
    }

    fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
        self.walker.watched = matches!(pace, Pace::Careful | Pace::Explicit);
        self.limit = match pace {
            Pace::Reader | Pace::Counting => i64::MAX,
            // Not without a look at the window.
            Pace::Careful | Pace::Explicit => i64::MIN,
        };
    }

    /// Whether the program may have another message beside those that it has not finished.
    fn has_room(&mut self) -> bool {
        if matches!(self.pace, Pace::Reader | Pace::Counting) {
            return true;
        }
        let expected = self.expected;
        let limit = match (self.tracked(), &self.cell.ownership) {
            (Some(mut tracked), Some(ownership)) => {
                tracked.acks.given(expected);
                match ownership.rule() {
                    PrefetchRule::Either => ownership.limit(&mut tracked, expected),
                    // Many alone are no reason to stop. Whether they are large as well is looked at before each chunk.
                    PrefetchRule::Both => i64::MAX,
                }
            }
            _ => return true, // what follows is not for us, which giving it back tells
        };
        if self.pace == Pace::Explicit {
            self.limit = limit;
        }
        expected < limit
    }

    /// No message lies before this offset.
    #[cold]
    fn pass(&mut self, to: i64) {
        let from = std::mem::replace(&mut self.expected, to);
        if to <= from {
            return;
        }
        if let (Some(mut tracked), Some(ownership)) = (self.tracked(), &self.cell.ownership) {
            if self.pace == Pace::Counting {
                if tracked.counting != Some(from) {
                    return; // what lies before it is done with it
                }
                // Nothing is, and a gap alone must not look like an ack.
                tracked.counting = Some(to);
            }
            tracked.acks.pass(from, to);
            ownership.finished(tracked);
        }
    }

    /// A batch may be acked message by message: what lies between them must not be waited for.
    fn note_gaps(&self, first: i64, behind: i64) {
        let mut chunk = self.walker.chunk.clone();
        chunk.from = first;
        let mut gaps = Vec::new();
        let mut expected = first;
        let mut walker = Walker::new(chunk);
        // No messages: dropped while an iterator is dropped by a panic, they would seem to be the program's.
        loop {
            match walker.next_record() {
                Some(Ok(record)) => {
                    if record.offset > expected {
                        gaps.push((expected, record.offset));
                    }
                    expected = record.offset.saturating_add(1);
                }
                None => break gaps.push((expected, behind)),
                // Nobody knows what lies behind it: that is no gap.
                Some(Err(_)) => break,
            }
        }
        if let Some(mut tracked) = self.tracked() {
            for (from, to) in gaps {
                tracked.acks.pass(from, to);
            }
        }
    }

    /// Whether what was given last is still somewhere in the program.
    fn is_held(&self, last: i64) -> bool {
        let data = &self.walker.chunk.data;
        let behind = last.saturating_add(1);
        let is_gone = data.let_go.load(Ordering::Acquire) == behind || data.spoiled.load(Ordering::Acquire) == behind;
        match (self.pace, self.first) {
            (Pace::Reader, _) => false,
            (_, Some(_)) => Arc::strong_count(data) != ALONE,
            (Pace::Counting, None) => Arc::strong_count(data) != ALONE && !is_gone,
            (Pace::Careful | Pace::Explicit, None) => !is_gone,
        }
    }

    /// Where another iterator would go on if this one went away now, without asking for more.
    fn resume_at(&self) -> i64 {
        let Some(last) = self.last else {
            return self.expected;
        };
        let first = self.first.unwrap_or(last);
        if self.pace == Pace::Reader {
            // An acked message is done, also when the iterator is dropped before it was asked for the next.
            return self.walker.chunk.data.acked.load(Ordering::Relaxed).max(first);
        }
        if let Some(mut tracked) = self.tracked() {
            // Nobody holds what a panic has dropped.
            tracked.spoiled = None;
        }
        if self.first.is_some() {
            // Some of its messages may have been acked one by one, or will be.
            self.note_gaps(first, self.expected);
        }
        if self.is_held(last) {
            return self.expected; // whoever has it acks it
        }
        self.tracked()
            .map_or(first, |tracked| tracked.acks.undone_from(first).min(self.expected))
    }

    /// Writes down what is done of the chunk. Runs under the buffer's lock.
    fn conclude(&self) {
        let expected = self.expected;
        let in_hand = self.first.or(self.last).unwrap_or(expected);
        if let Some(mut tracked) = self.tracked() {
            if let Some(from) = tracked.counting.take() {
                tracked.acks.ack(from, in_hand);
            }
            tracked.acks.given(expected);
            tracked.leave();
        }
    }
}

impl Shared {
    pub(crate) fn new(cluster: Cluster, config: FetchConfig, subscription: Subscription, until_end: bool) -> Arc<Self> {
        let state = State {
            partitions: BTreeMap::new(),
            index: HashMap::new(),
            next_slot: 0,
            ready: VecDeque::new(),
            waiting: 0,
            budget: Budget::new(config.prefetch_total_bytes),
            lanes: HashMap::new(),
            asks: 0,
            turn: 0,
            ending: Vec::new(),
            metadata_wanted: false,
            refreshes: 0,
            watched: Vec::new(),
            anew: Vec::new(),
            express_at: None,
            trouble: None,
            fatal: None,
            ended: false,
        };
        // What is read and what is walked take turns.
        let spares = Spares::new(config.max_bytes.saturating_mul(2));
        Arc::new_cyclic(|me| Self {
            cluster,
            config,
            subscription,
            until_end,
            stop: Stop::new("stream"),
            events: Arc::new(EventQueue::default()),
            spares,
            me: Weak::clone(me),
            state: Mutex::new(state),
            readable: Condvar::new(),
            settled: Condvar::new(),
            keeper: Condvar::new(),
            nudges: bounded(1),
            held_told: AtomicBool::new(false),
            pinned: AtomicBool::new(false),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    // ---- what iterators do ----

    /// Gives back what the iterator holds, and waits for something else until the deadline.
    #[allow(clippy::disallowed_methods, reason = "an iterator waits here")]
    pub(crate) fn next_lease(&self, held: Option<Lease>, deadline: Option<Instant>) -> Turn {
        // Asking for the next message says that the last one is done.
        let held = held.map(|mut lease| {
            lease.settle();
            lease
        });
        let mut state = self.state.lock();
        if let Some(lease) = held {
            let from = lease.expected;
            let recalled = lease.is_recalled();
            self.give_back(&mut state, lease, from);
            if recalled && state.waiting > 0 && state.ready.len() == 1 && !state.ended {
                // It was somebody else's turn: let them take it.
                self.readable.notify_one();
                state.waiting += 1;
                self.readable.wait_for(&mut state, Duration::from_millis(2));
                state.waiting -= 1;
            }
        }
        loop {
            if let Some(error) = state.fatal.take() {
                self.end(&mut state);
                return Turn::Failed(error);
            }
            if state.ended {
                return Turn::Ended;
            }
            let now = Instant::now();
            if let Some(turn) = self.take(&mut state, now) {
                if !state.ready.is_empty() && state.waiting > 0 {
                    self.readable.notify_one();
                }
                return turn;
            }
            if self.until_end && state.partitions.values().all(Partition::is_finished) {
                self.end(&mut state);
                return Turn::Ended;
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Turn::TimedOut;
            }
            // Whoever has had a partition for long gives it to us at its next message.
            let recall_at = state.oldest_turn().map(|since| since + TURN);
            if recall_at.is_some_and(|at| at <= now) {
                state.recall_oldest();
                continue;
            }
            let until = match (recall_at, deadline) {
                (Some(at), Some(deadline)) => Some(at.min(deadline)),
                (at, deadline) => at.or(deadline),
            };
            state.waiting += 1;
            match until {
                Some(until) => drop(self.readable.wait_until(&mut state, until)),
                None => self.readable.wait(&mut state),
            }
            state.waiting -= 1;
        }
    }

    /// An iterator is dropped: what it has not finished goes back in front.
    pub(crate) fn put_back(&self, lease: Lease) {
        let from = lease.resume_at();
        let mut state = self.state.lock();
        self.give_back(&mut state, lease, from);
    }

    fn give_back(&self, state: &mut State, lease: Lease, from: i64) {
        let State { partitions, budget, .. } = &mut *state;
        let Some(partition) = partitions.get_mut(&lease.slot) else {
            return;
        };
        lease.conclude();
        let mut chunk = lease.walker.chunk;
        let is_current = lease.ack_epoch == partition.ack_epoch();
        if let Some(at) = partition.cut.take() {
            chunk.cut(at);
        }
        let went_through = lease.finished && from > lease.last.unwrap_or(i64::MIN);
        chunk.from = chunk.from.max(from);
        let is_draining = matches!(partition.phase, Phase::Draining);
        let stays = is_current && !went_through && !is_draining && chunk.from < chunk.next_offset;
        partition.leased = None;
        partition.in_hand = None;
        partition.cell.recall.store(false, Ordering::Relaxed);
        if is_current {
            partition.hand_out(&chunk);
        }
        let freed = match partition.ownership().filter(|_| is_current && !stays && !is_draining) {
            // A group's messages fill the window until they are done. What is given up has none, nor is the rest given out.
            Some(ownership) => {
                let mut tracked = ownership.lock();
                tracked.hold(Held {
                    from: chunk.data.begin,
                    to: chunk.next_offset,
                    bytes: chunk.bytes,
                    records: chunk.records,
                });
                tracked.acks.take_freed()
            }
            None => Freed {
                bytes: chunk.bytes,
                records: chunk.records,
            },
        };
        budget.change(&mut partition.account, |account| {
            account.in_hand -= freed.bytes;
            account.in_hand_records -= freed.records;
            if stays {
                account.ready += chunk.bytes;
                account.ready_records += chunk.records;
            }
        });
        if stays {
            partition.stands_at = chunk.from;
            partition.chunks.push_front(chunk);
        } else if is_current {
            partition.stands_at = chunk.next_offset;
        }
        partition.wake.notify_one();
        if is_draining {
            self.nudge();
        }
        self.offer(state, lease.slot);
        self.kick(state, lease.slot);
        self.advanced(state);
    }

    fn take(&self, state: &mut State, now: Instant) -> Option<Turn> {
        while let Some(slot) = state.ready.pop_front() {
            let State { partitions, budget, .. } = &mut *state;
            let Some(partition) = partitions.get_mut(&slot) else {
                continue;
            };
            partition.queued = false;
            if !partition.may_be_given() || partition.is_held_back(&self.config, now) {
                continue;
            }
            let mut advanced = false;
            while let Some(chunk) = partition.chunks.pop_front() {
                budget.change(&mut partition.account, |account| {
                    account.ready -= chunk.bytes;
                    account.ready_records -= chunk.records;
                });
                if chunk.data.spans.is_empty() || chunk.from >= chunk.until {
                    // Nothing to see: markers, aborted or compacted records. The position goes on.
                    partition.stands_at = chunk.next_offset;
                    partition.pass(chunk.from, chunk.next_offset);
                    advanced = true;
                    continue;
                }
                budget.change(&mut partition.account, |account| {
                    account.in_hand += chunk.bytes;
                    account.in_hand_records += chunk.records;
                });
                return Some(Turn::Lease(self.lease(partition, slot, chunk, now)));
            }
            if let Some(error) = partition.failure.take() {
                self.advanced(state);
                return Some(Turn::Failed(error));
            }
            if advanced {
                partition.wake.notify_one();
                self.kick(state, slot);
            }
        }
        None
    }

    fn lease(&self, partition: &mut Partition, slot: Slot, chunk: Chunk, now: Instant) -> Lease {
        partition.leased = Some(now);
        chunk.data.at.store(chunk.from, Ordering::Release);
        // What comes again is held anew: what became of it the last time says nothing.
        chunk.data.let_go.store(chunk.from, Ordering::Release);
        chunk.data.spoiled.store(chunk.from, Ordering::Release);
        partition.in_hand = Some(Arc::clone(&chunk.data));
        partition.cell.recall.store(false, Ordering::Relaxed);
        let mut lease = Lease {
            slot,
            ack_epoch: partition.ack_epoch(),
            cell: Arc::clone(&partition.cell),
            expected: chunk.from,
            limit: i64::MAX,
            pace: Pace::Reader,
            walker: Walker::new(chunk),
            last: None,
            first: None,
            finished: false,
        };
        if let Some(ownership) = partition.ownership() {
            // Messages of it may be in the program from an earlier turn.
            let is_alone = Arc::strong_count(&lease.walker.chunk.data) == ALONE;
            let pace = match ownership.mode() {
                AckMode::Explicit => Pace::Explicit,
                AckMode::OnNext if is_alone => Pace::Counting,
                AckMode::OnNext => Pace::Careful,
            };
            let mut tracked = ownership.lock();
            tracked.enter(&lease.walker.chunk.data);
            if pace == Pace::Counting {
                tracked.counting = Some(lease.expected);
            }
            drop(tracked);
            lease.set_pace(pace);
        }
        lease
    }

    // ---- what everybody does ----

    /// A partition may have something for an iterator.
    pub(crate) fn offer(&self, state: &mut State, slot: Slot) {
        let Some(partition) = state.partitions.get_mut(&slot) else {
            return;
        };
        if partition.queued || !partition.may_be_given() || !partition.has_something() {
            return;
        }
        partition.queued = true;
        state.ready.push_back(slot);
        if state.waiting > 0 {
            self.readable.notify_one();
        }
    }

    /// A position has moved without a record: perhaps `until_end` has nothing more to wait for.
    pub(crate) fn advanced(&self, state: &State) {
        if self.until_end && state.waiting > 0 {
            self.readable.notify_all();
        }
    }

    /// A partition may want records.
    pub(crate) fn kick(&self, state: &mut State, slot: Slot) {
        let Some(partition) = state.partitions.get(&slot) else {
            return;
        };
        if partition.asked.is_some() || partition.paused || !matches!(partition.phase, Phase::Fetching) {
            return;
        }
        let Some(broker) = partition.source() else {
            return self.want_metadata(state);
        };
        let Some(lane) = state.lanes.get(&(broker, Role::Session)) else {
            return self.start_lane(state, broker, Role::Session);
        };
        lane.wake.notify_one();
        let Some(since) = lane.asked_since else { return };
        // That lane may be waiting in the broker, for longer than this partition should.
        if let Some(express) = state.lanes.get(&(broker, Role::Express)) {
            express.wake.notify_one();
        } else if state.express_at.is_none() {
            state.express_at = Some(since + PARKED);
            self.wake_keeper();
        }
    }

    /// Starts a lane to this broker. Spawning under the lock is what keeps it from being started twice.
    pub(crate) fn start_lane(&self, state: &mut State, broker: i32, role: Role) {
        let Some(me) = self.me.upgrade().filter(|_| !state.ended) else {
            return;
        };
        match fetch_lane::start(me, broker, role) {
            Ok(entry) => drop(state.lanes.insert((broker, role), entry)),
            Err(error) => {
                self.events.note(log::Level::Warn, error.to_string());
                state.metadata_wanted = true; // the keeper tries again
                self.wake_keeper();
            }
        }
    }

    /// Something has happened that users may want to know; the keeper writes it to the log.
    pub(crate) fn tell(&self, event: Event) {
        self.events.push(event);
        self.wake_keeper();
    }

    pub(crate) fn want_metadata(&self, state: &mut State) {
        state.metadata_wanted = true;
        self.wake_keeper();
    }

    pub(crate) fn wake_keeper(&self) {
        self.keeper.notify_one();
    }

    /// For what belongs to this stream, and must not keep it.
    pub(crate) fn weak(&self) -> Weak<Self> {
        Weak::clone(&self.me)
    }

    /// Tells a group's coordinator to have another look.
    pub(crate) fn nudge(&self) {
        self.nudges.0.try_send(()).ok(); // one sign is enough
    }

    pub(crate) fn nudges(&self) -> &Receiver<()> {
        &self.nudges.1
    }

    pub(crate) fn keeper_waits(&self, state: &mut MutexGuard<'_, State>, until: Instant) {
        self.keeper.wait_until(state, until);
    }

    /// Wakes those who wait for positions.
    pub(crate) fn tell_settled(&self) {
        self.settled.notify_all();
    }

    /// Waits until `done` has an answer. False when the deadline passed.
    pub(crate) fn wait_settled(&self, state: &mut MutexGuard<'_, State>, until: Instant) -> bool {
        !self.settled.wait_until(state, until).timed_out()
    }

    /// The partition has a problem that only the program can solve.
    #[allow(clippy::disallowed_methods, reason = "health tells since when")]
    pub(crate) fn fail(&self, state: &mut State, slot: Slot, error: Error) {
        let Some(partition) = state.partitions.get_mut(&slot) else {
            return;
        };
        if matches!(partition.phase, Phase::Draining) {
            return; // it is as good as gone, and who waits for that must not wait for a seek
        }
        let error = partition.cell.blame(error);
        partition.raise_epoch();
        partition.phase = Phase::Failed;
        partition.trouble = Some(Trouble {
            since: Instant::now(),
            error: error.clone(),
            times: 1,
        });
        partition.failure = Some(error.clone());
        self.tell(Event::PartitionFailed {
            partition: partition.name.clone(),
            error,
        });
        state.drop_raw(slot);
        self.settled.notify_all();
        self.offer(state, slot);
    }

    /// An iterator has met a record that does not hold what it claims.
    pub(crate) fn fail_leased(&self, lease: Lease, error: Error) {
        let mut state = self.state.lock();
        let slot = lease.slot;
        let is_current = state
            .partitions
            .get(&slot)
            .is_some_and(|partition| partition.ack_epoch() == lease.ack_epoch);
        let stands = lease.expected;
        self.give_back(&mut state, lease, i64::MAX);
        if !is_current {
            return;
        }
        if let Some(partition) = state.partitions.get_mut(&slot) {
            partition.stands_at = stands;
        }
        state.drop_chunks(slot);
        self.fail(&mut state, slot, error);
        // The caller gives the error itself.
        if let Some(partition) = state.partitions.get_mut(&slot) {
            partition.failure = None;
        }
    }

    /// For a thread's whole life: should it panic, the stream ends with an error instead of standing still.
    pub(crate) fn alarm(&self) -> Alarm {
        Alarm(Weak::clone(&self.me))
    }

    /// Ends everything with an error that no seek can mend.
    #[allow(clippy::disallowed_methods, reason = "health tells since when")]
    pub(crate) fn fail_all(&self, error: Error) {
        let mut state = self.state.lock();
        if !state.ended && state.fatal.is_none() {
            state.trouble = Some(Trouble {
                since: Instant::now(),
                error: error.clone(),
                times: 1,
            });
            state.fatal = Some(error);
        }
        self.readable.notify_all();
    }

    /// Forgets all that was prefetched and begins elsewhere: a seek, or another topic under the same name.
    pub(crate) fn restart(&self, state: &mut State, slot: Slot, start: StartAt) {
        let Some(partition) = state.partitions.get_mut(&slot) else {
            return;
        };
        if matches!(partition.phase, Phase::Draining) {
            return; // it is as good as gone
        }
        partition.raise_epoch();
        let freed = partition.end_ack_epoch();
        state.budget.change(&mut partition.account, |account| {
            account.in_hand -= freed.bytes;
            account.in_hand_records -= freed.records;
        });
        partition
            .cell
            .recall
            .store(partition.leased.is_some(), Ordering::Release);
        partition.failure = None;
        partition.cut = None;
        partition.well();
        partition.read_epoch = -1;
        partition.replica = None;
        match start {
            StartAt::Offset(offset) if partition.ends.is_some() => {
                partition.begin(offset);
            }
            start => {
                partition.phase = Phase::Preparing {
                    task: Task::Start(start),
                    begun: false,
                }
            }
        }
        partition.wake.notify_one();
        self.settled.notify_all();
        state.drop_raw(slot);
        state.drop_chunks(slot);
        self.kick(state, slot);
    }

    /// Takes a partition in. Its fetcher is started by the keeper.
    pub(crate) fn add(&self, state: &mut State, partition: Partition) -> Slot {
        let slot = state.next_slot;
        state.next_slot += 1;
        if let Some(ownership) = partition.ownership() {
            ownership.set_slot(slot);
        }
        state.index.insert(partition.name.clone(), slot);
        state.partitions.insert(slot, partition);
        state.budget.set_partitions(state.partitions.len());
        slot
    }

    fn end(&self, state: &mut State) {
        state.ended = true;
        self.readable.notify_all();
        self.settled.notify_all();
        self.keeper.notify_all();
        self.events.close();
    }

    /// Everything that waits is woken, and ends. Joins nobody.
    pub(crate) fn close(&self) {
        self.stop.stop();
        let mut state = self.state.lock();
        self.end(&mut state);
        for partition in state.partitions.values() {
            partition.stop.stop();
            partition.wake.notify_all();
            partition.cell.recall.store(true, Ordering::Release);
        }
        for lane in state.lanes.values() {
            lane.wake.notify_all();
            if let Some(hangup) = &lane.hangup {
                hangup.shutdown();
            }
        }
        drop(state);
        self.nudge();
    }

    pub(crate) fn find(&self, state: &State, partition: &TopicPartition) -> Result<Slot> {
        state.index.get(partition).copied().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                format!("{partition} is not one of the partitions of this stream"),
            )
        })
    }
}

/// Rings when its thread panics.
pub(crate) struct Alarm(Weak<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade().filter(|_| std::thread::panicking()) {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("without a name");
            let message = format!("thread {name} of this stream panicked, which is a bug in klamm; see the log");
            shared.fail_all(Error::new(ErrorKind::Internal, message));
        }
    }
}

impl State {
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Counts an answer for this partition that was too large; true when that is no accident any more.
    pub(crate) fn is_oversized_again(&mut self, slot: Slot) -> bool {
        self.partitions.get_mut(&slot).is_some_and(|partition| {
            partition.oversized += 1;
            partition.oversized >= fetch_lane::OVERSIZED
        })
    }

    /// Forgets what has arrived and was not decoded.
    pub(crate) fn drop_raw(&mut self, slot: Slot) {
        if let Some(partition) = self.partitions.get_mut(&slot) {
            partition.raw.clear();
            self.budget.change(&mut partition.account, |account| account.raw = 0);
        }
    }

    /// Chunks from this offset on are no longer part of the log.
    pub(crate) fn cut(&mut self, slot: Slot, at: i64) {
        let Some(partition) = self.partitions.get_mut(&slot) else {
            return;
        };
        if partition.leased.is_some() {
            partition.cut = Some(partition.cut.map_or(at, |before| before.min(at)));
            partition.cell.recall.store(true, Ordering::Release);
        }
        let Partition { chunks, account, .. } = partition;
        chunks.retain_mut(|chunk| {
            chunk.cut(at);
            let stays = chunk.from < at;
            if !stays {
                self.budget.change(account, |account| {
                    account.ready -= chunk.bytes;
                    account.ready_records -= chunk.records;
                });
            }
            stays
        });
    }

    pub(crate) fn drop_chunks(&mut self, slot: Slot) {
        if let Some(partition) = self.partitions.get_mut(&slot) {
            partition.chunks.clear();
            self.budget.change(&mut partition.account, |account| {
                account.ready = 0;
                account.ready_records = 0;
            });
        }
    }

    /// Since when the iterator that has had a partition for longest has it; those that were asked to give theirs back
    /// do not count.
    fn oldest_turn(&self) -> Option<Instant> {
        self.leased().min_by_key(|(since, _)| *since).map(|(since, _)| since)
    }

    fn recall_oldest(&self) {
        if let Some((_, partition)) = self.leased().min_by_key(|(since, _)| *since) {
            partition.cell.recall.store(true, Ordering::Relaxed);
        }
    }

    fn leased(&self) -> impl Iterator<Item = (Instant, &Partition)> {
        let leased = self
            .partitions
            .values()
            .filter_map(|partition| Some((partition.leased?, partition)));
        leased.filter(|(_, partition)| !partition.cell.recall.load(Ordering::Relaxed))
    }
}

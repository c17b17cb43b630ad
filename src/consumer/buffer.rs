//! The one place where lanes, fetchers and iterators meet: bounded, and under one lock.
//!
//! The lock is held for a few lines each time, per batch and never per message, and never while somebody waits for the
//! network. Everything behind it is decided here; the threads only wait and carry.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    acks::{Freed, Held},
    budget::Budget,
    config::FetchConfig,
    event::{Event, EventQueue},
    fetch_lane::{self, LaneEntry, PARKED, Role},
    lease::Lease,
    partition::{Partition, Phase, Task, Trouble},
    spares::Spares,
};
use crate::{
    cluster::{Cluster, Metadata},
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
    /// Iterators that have a partition.
    leases: usize,
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
    /// What came of asking for metadata, until the keeper looks at it.
    pub told: Option<Result<Arc<Metadata>>>,
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

/// What an iterator gets.
pub(crate) enum Turn {
    Lease(Lease),
    Failed(Error),
    TimedOut,
    Ended,
}

impl Shared {
    pub(crate) fn new(cluster: Cluster, config: FetchConfig, subscription: Subscription, until_end: bool) -> Arc<Self> {
        let state = State {
            partitions: BTreeMap::new(),
            index: HashMap::new(),
            next_slot: 0,
            ready: VecDeque::new(),
            waiting: 0,
            leases: 0,
            budget: Budget::new(config.prefetch_total_bytes),
            lanes: HashMap::new(),
            asks: 0,
            turn: 0,
            ending: Vec::new(),
            metadata_wanted: false,
            told: None,
            refreshes: 0,
            watched: Vec::new(),
            anew: Vec::new(),
            express_at: None,
            trouble: None,
            fatal: None,
            ended: false,
        };
        // What is read, what is inflated and what is walked take turns.
        let spares = Spares::new(config.max_bytes.saturating_mul(3));
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
        state.leases -= 1;
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
        partition.read_on();
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
                partition.read_on();
                let lease = Lease::take(partition, slot, chunk, now);
                state.leases += 1;
                return Some(Turn::Lease(lease));
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
        // Its fetcher may wait for room with what nobody wants any more.
        partition.wake.notify_one();
        partition.phase = Phase::Failed;
        partition.nonsense = 0;
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
        partition.nonsense = 0;
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
            self.budget.change(&mut partition.account, |account| {
                account.raw = 0;
                account.raw_records = 0;
                account.raw_growth = 0;
            });
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
        if self.leases == 0 {
            return None; // which needs no look at thousands of partitions
        }
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

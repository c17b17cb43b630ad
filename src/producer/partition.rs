//! One partition as callers and its sender share it: a batch that is being filled, and the queue of those that are full.
//!
//! Its lock is held for an append, for a look, or to tell outcomes in their order, and within it only those of ledger,
//! memory, fate and callbacks, which take none themselves.

mod sending;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

pub(super) use self::sending::{Held, Part, Poll, Taken};
use super::{
    callbacks::Callbacks,
    config::ProducerConfig,
    delivery::{self, Callback, Delivery, Fate},
    inbox::Inbox,
    ledger::{Debt, Ledger},
    memory::{Buffer, Memory, Reservation, Wish},
    queue::{Queue, Rules},
    sequence::Identity,
};
use crate::{
    error::{Error, ErrorKind, Result},
    stop::Stop,
    wire::batch::{BatchWriter, Flags, HeaderRef, Sequence, record_size},
};

/// What all partitions of a producer have in common.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) config: ProducerConfig,
    pub(super) rules: Rules,
    pub(super) memory: Arc<Memory>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) callbacks: Callbacks,
    /// Nothing more is taken; what is there is sent at once.
    pub(super) closing: Stop,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) topic: Arc<str>,
    pub(super) index: i32,
    /// No other partition of the process has it.
    pub(super) key: usize,
    env: Arc<Env>,
    state: Mutex<State>,
    /// Batches that wait or are on their way, for whoever looks from outside.
    backlog: AtomicUsize,
    /// The broker that leads it, as far as is known; −1 if none does.
    leader: AtomicI32,
    /// How large a batch may become; shared by the topic's partitions.
    batch_bytes: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State {
    open: Option<Open>,
    queue: Queue<Load>,
    /// Whose sender has it.
    owner: Option<Arc<Inbox>>,
    /// The owner knows that there is something to do.
    is_listed: bool,
    /// An identity was asked for.
    is_nameless: bool,
    /// How large its batches have become lately.
    hint: usize,
    ended: Option<Error>,
    /// Records that were there at the end.
    lost: u64,
}

/// A batch that is being filled.
#[derive(Debug)]
struct Open {
    buffer: Buffer,
    writer: BatchWriter,
    fate: Arc<Fate>,
    /// Records that nobody wants to hear of.
    detached: Vec<std::ops::Range<u32>>,
    debt: Debt,
    opened: Instant,
    deadline: Instant,
    /// Somebody waits for it: it does not linger.
    is_pressed: bool,
}

/// A full batch, or a piece of one.
#[derive(Debug)]
pub(super) struct Load {
    fate: Arc<Fate>,
    /// Which of the fate's records it has.
    first: u32,
    pub(super) records: u32,
    debt: Debt,
    opened: Instant,
    body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    /// Records and header, but for identity and checksum, and not compressed.
    Closed(Buffer),
    /// As it was sent, under this sequence.
    Stamped(Arc<Buffer>, Sequence),
    /// A sender is at it.
    Lent,
    /// Nothing to send: the record has failed.
    Gone,
}

/// A record, ready to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [HeaderRef<'a>],
}

/// Who is told what becomes of a record.
pub(super) enum Watch {
    Delivery,
    Nobody,
    Callback(Callback),
}

/// What an append came to.
pub(super) enum Put {
    /// It is in.
    Written {
        delivery: Option<Delivery>,
        /// The partition has no sender yet.
        is_homeless: bool,
        /// It does not linger: whose sender has something to send.
        due: Option<Arc<Inbox>>,
    },
    /// So many bytes are needed for it; what is more can be used for those that follow.
    NeedsRoom { bytes: Wish, is_homeless: bool },
}

impl Partition {
    pub(super) fn new(topic: Arc<str>, index: i32, env: Arc<Env>, batch_bytes: Arc<AtomicUsize>) -> Arc<Self> {
        let queue = Queue::new(env.rules);
        Arc::new(Self {
            topic,
            index,
            key: KEYS.fetch_add(1, Ordering::Relaxed),
            env,
            state: Mutex::new(State {
                open: None,
                queue,
                owner: None,
                is_listed: false,
                is_nameless: false,
                hint: SMALLEST,
                ended: None,
                lost: 0,
            }),
            backlog: AtomicUsize::new(0),
            leader: AtomicI32::new(-1),
            batch_bytes,
        })
    }

    // ---- callers ----

    /// Writes a record behind the last one if that is all there is to do: for anything else there is [`put`](Self::put).
    /// Waits for nothing but its lock.
    #[inline]
    pub(super) fn put_at_once(
        &self,
        record: &Parts<'_>,
        watch: &mut Option<Watch>,
    ) -> Option<Result<Option<Delivery>>> {
        let mut state = self.state.lock();
        // Nothing is filled any more in a partition that has ended.
        let open = state.open.as_mut()?;
        // With the lock: whoever closes looks here afterwards.
        if self.env.closing.is_stopped() {
            return None;
        }
        let limit = self.limit();
        if open.take_in_short(record, limit) {
            return Some(Ok(open.watch(record, watch)));
        }
        let size = open.size_of(record);
        let filled = open.buffer.bytes().len();
        if size > open.buffer.room() || size > limit.saturating_sub(filled) {
            return None;
        }
        Some(open.take_in(record, size, watch))
    }

    /// Writes a record behind the last one. `room` is used if it is needed, and what is not used is left in it.
    pub(super) fn put(
        self: &Arc<Self>,
        record: Parts<'_>,
        watch: &mut Option<Watch>,
        room: &mut Option<Reservation>,
    ) -> Result<Put> {
        let mut state = self.state.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        // With the lock: whoever closes looks here afterwards.
        if self.env.closing.is_stopped() {
            return Err(self.env.closing.error());
        }
        let mut news = false;
        let mut size = state.open.as_ref().map(|open| open.size_of(&record));
        if size.is_some_and(|size| state.filled().saturating_add(size) > self.limit()) {
            self.seal(&mut state);
            (size, news) = (None, true);
        }
        if size.is_none() {
            let wish = Wish::between(Self::whole(&record), state.hint.min(self.limit()));
            let Some(room) = self.first_room(wish, room) else {
                return Ok(self.needs_room(state, news, wish));
            };
            let open = self.open(room);
            size = Some(open.size_of(&record));
            state.open = Some(open);
            news = true;
        }
        let (Some(open), Some(size)) = (&mut state.open, size) else {
            return Err(Error::new(ErrorKind::Internal, "a batch to write to is missing"));
        };
        if size > open.buffer.room() {
            let capacity = open.buffer.bytes().capacity();
            let twice = capacity.min(self.limit().saturating_sub(capacity));
            let Some(more) = self.more_room(Wish::between(size - open.buffer.room(), twice), room) else {
                // It may be sent before there is room: then this is for another one.
                let wish = Wish::between(Self::whole(&record), twice);
                return Ok(self.needs_room(state, news, wish));
            };
            open.buffer.grow(more);
        }
        let delivery = open.take_in(&record, size, watch)?;
        let is_homeless = news && state.owner.is_none();
        let mut due = self.list(state, news);
        if !self.env.config.linger.is_zero() {
            // It is for its thread to find out until when.
            if let Some(owner) = due.take() {
                owner.wake();
            }
        }
        Ok(Put::Written {
            delivery,
            is_homeless,
            due,
        })
    }

    fn needs_room(self: &Arc<Self>, state: parking_lot::MutexGuard<'_, State>, news: bool, bytes: Wish) -> Put {
        let is_homeless = news && state.owner.is_none();
        self.announce(state, news);
        Put::NeedsRoom { bytes, is_homeless }
    }

    /// What a batch of this record alone takes, whatever lies before it.
    pub(super) fn whole(record: &Parts<'_>) -> usize {
        HEADER.saturating_add(record_size(record.key, record.value, record.headers))
    }

    fn limit(&self) -> usize {
        self.batch_bytes.load(Ordering::Relaxed)
    }

    /// Smaller batches from now on: the broker found this one too large.
    pub(super) fn shrink_batches(&self, below: usize) {
        self.batch_bytes
            .fetch_min((below / 2).max(SMALLEST_LIMIT), Ordering::Relaxed);
    }

    fn more_room(&self, wish: Wish, room: &mut Option<Reservation>) -> Option<Reservation> {
        if let Some(mut reserved) = room.take() {
            if reserved.bytes() >= wish.least {
                let rest = reserved.split_off(reserved.bytes().saturating_sub(wish.most));
                *room = Some(rest).filter(|rest| rest.bytes() > 0);
                return Some(reserved);
            }
            *room = Some(reserved);
        }
        self.env.memory.try_reserve(wish)
    }

    fn first_room(&self, wish: Wish, room: &mut Option<Reservation>) -> Option<Reservation> {
        if let Some(reserved) = room.take() {
            if reserved.bytes() >= wish.least {
                return Some(reserved);
            }
            *room = Some(reserved);
        }
        self.env.memory.try_reserve(wish)
    }

    fn open(self: &Arc<Self>, room: Reservation) -> Open {
        let opened = now();
        let deadline = opened + self.env.config.delivery_timeout;
        let mut buffer = self.env.memory.buffer(room);
        let writer = BatchWriter::start(buffer.bytes_mut());
        Open {
            buffer,
            writer,
            fate: Fate::new(self, deadline, &self.env.ledger),
            detached: Vec::new(),
            debt: self.env.ledger.begin(),
            opened,
            deadline,
            is_pressed: false,
        }
    }

    /// No more is added to the batch that is being filled.
    fn seal(&self, state: &mut State) {
        let Some(open) = state.open.take() else {
            return;
        };
        let Open {
            mut buffer,
            writer,
            fate,
            detached,
            debt,
            opened,
            deadline,
            ..
        } = open;
        fate.unwatch(detached);
        let records = writer.records();
        writer.close(buffer.bytes_mut(), Flags::default());
        let size = buffer.bytes().len();
        state.hint = size.next_power_of_two().max(state.hint / 2).max(SMALLEST);
        let load = Load {
            fate,
            first: 0,
            records,
            debt,
            opened,
            body: Body::Closed(buffer),
        };
        state.queue.push(load, records, deadline);
        self.backlog.store(state.queue.len(), Ordering::Relaxed);
    }

    /// Tells the sender that there is something to do, without the lock.
    fn announce(self: &Arc<Self>, state: parking_lot::MutexGuard<'_, State>, news: bool) {
        if let Some(owner) = self.list(state, news) {
            owner.wake();
        }
    }

    /// The same but for calling it, which is left to the caller.
    fn list(self: &Arc<Self>, mut state: parking_lot::MutexGuard<'_, State>, news: bool) -> Option<Arc<Inbox>> {
        if !news {
            return None;
        }
        let is_new = !std::mem::replace(&mut state.is_listed, true);
        let owner = state.owner.clone()?;
        drop(state);
        if is_new {
            owner.list(self);
        }
        Some(owner)
    }

    /// The same for what a sender has found out itself: it looks again anyway, unless another one has the partition now.
    fn announce_from(self: &Arc<Self>, me: &Arc<Inbox>, mut state: parking_lot::MutexGuard<'_, State>) {
        if !state.owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, me)) {
            return self.announce(state, true);
        }
        let is_new = !std::mem::replace(&mut state.is_listed, true);
        drop(state);
        if is_new {
            me.list(self);
        }
    }

    /// Somebody waits for a record of this batch. Gives whose sender has something to send for that.
    pub(super) fn hasten(self: &Arc<Self>, fate: &Fate) -> Option<Arc<Inbox>> {
        let mut state = self.state.lock();
        let open = state.open.as_mut().filter(|open| std::ptr::eq(&*open.fate, fate));
        let open = open.filter(|open| !open.is_pressed)?;
        open.is_pressed = true;
        self.list(state, true)
    }

    /// Nothing lingers.
    pub(super) fn press(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if let Some(open) = &mut state.open {
            open.is_pressed = true;
            self.announce(state, true);
        }
    }

    /// Gives up what has had its time, as when a caller waits for it.
    pub(super) fn expire_now(self: &Arc<Self>) {
        self.expire(now());
    }

    pub(super) fn expire(self: &Arc<Self>, now: Instant) {
        let mut state = self.state.lock();
        if state.open.as_ref().is_some_and(|open| open.deadline <= now) {
            self.seal(&mut state);
        }
        state.queue.expire(now, self.env.config.delivery_timeout);
        self.tell(&mut state);
        self.announce(state, true);
    }

    /// When something has to be given up next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        let open = state.open.as_ref().map(|open| open.deadline);
        state.queue.deadline().into_iter().chain(open).min()
    }

    /// Ends a batch that has been filled for long without being sent, so that what comes later has its own time.
    pub(super) fn seal_older_than(&self, age: Duration, now: Instant) {
        let mut state = self.state.lock();
        if state
            .open
            .as_ref()
            .is_some_and(|open| now.saturating_duration_since(open.opened) > age)
        {
            self.seal(&mut state);
        }
    }

    /// Takes out what was never sent.
    pub(super) fn fail_unsent(self: &Arc<Self>, error: &Error) -> u64 {
        let mut state = self.state.lock();
        self.seal(&mut state);
        let failed = state.queue.fail_unsent(error);
        self.tell(&mut state);
        self.announce(state, true);
        failed
    }

    /// Takes out all that is not on its way, for good.
    pub(super) fn fail_waiting(self: &Arc<Self>, error: &Error) {
        let mut state = self.state.lock();
        self.seal(&mut state);
        state.queue.fail_waiting(error);
        self.tell(&mut state);
        self.announce(state, true);
    }

    /// Why what waits does so, for those who are told that its time is over.
    pub(super) fn blame(&self, error: &Error) {
        let mut state = self.state.lock();
        // Of what comes later, nothing is known yet.
        if state.open.is_some() || !state.queue.is_empty() {
            state.queue.blame(error);
        }
    }

    /// Why what is here waits, if that is known.
    pub(super) fn blamed(&self) -> Option<Error> {
        self.state.lock().queue.blamed().cloned()
    }

    /// Takes everything out, and nothing in any more. Gives the number of records, also when it is called again.
    pub(super) fn end(&self, error: &Error) -> u64 {
        let mut state = self.state.lock();
        state.ended = Some(error.clone());
        self.seal(&mut state);
        state.queue.fail_all(error);
        state.owner = None;
        state.lost += self.tell(&mut state);
        state.lost
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().ended.is_some()
    }

    // ---- for the partitioner ----

    pub(super) fn backlog(&self) -> Option<usize> {
        (self.leader.load(Ordering::Relaxed) >= 0).then(|| self.backlog.load(Ordering::Relaxed))
    }

    // ---- who sends ----

    /// The broker that leads it, and the inbox of the sender there. Says whether it has a sender now.
    pub(super) fn place(self: &Arc<Self>, leader: i32, inbox: Option<&Arc<Inbox>>) -> bool {
        self.leader.store(leader, Ordering::Relaxed);
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return true;
        }
        let is_same = match (&state.owner, inbox) {
            (Some(owner), Some(inbox)) => Arc::ptr_eq(owner, inbox),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            if state.queue.in_flight() > 0 {
                if !self.env.rules.idempotent {
                    // Nobody would recognise doubles: the answers come first, and then the new leader.
                    return true;
                }
                state.queue.abandon();
            }
            state.queue.hasten();
            state.owner = inbox.cloned();
            state.is_listed = false;
        }
        let has_owner = state.owner.is_some();
        let has_work = state.open.is_some() || !state.queue.is_empty();
        self.announce(state, has_work && !is_same);
        has_owner
    }

    pub(super) fn has_owner(&self) -> bool {
        self.state.lock().owner.is_some()
    }

    pub(super) fn is_owned_by(&self, inbox: &Arc<Inbox>) -> bool {
        let state = self.state.lock();
        state.owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, inbox))
    }

    /// Whether there is anything that waits or is on its way.
    pub(super) fn has_work(&self) -> bool {
        let state = self.state.lock();
        state.open.is_some() || !state.queue.is_empty()
    }

    /// Under which it writes, or has written so far: another one must then be new to it.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.state.lock().queue.current_identity()
    }

    /// Who leads it, for the partitioner, while it has no sender.
    pub(super) fn led_by(&self, leader: i32) {
        self.leader.store(leader, Ordering::Relaxed);
    }

    pub(super) fn identify(self: &Arc<Self>, identity: Identity) {
        let mut state = self.state.lock();
        state.is_nameless = false;
        state.queue.identify(identity);
        self.announce(state, true);
    }

    /// There is no identity to be had now.
    pub(super) fn stay_nameless(self: &Arc<Self>, error: &Error) {
        let mut state = self.state.lock();
        state.is_nameless = false;
        self.seal(&mut state);
        state.queue.fail_unsent(error);
        self.tell(&mut state);
        self.announce(state, true);
    }
}

impl Body {
    /// In bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Closed(buffer) => buffer.bytes().len(),
            Self::Stamped(bytes, _) => bytes.bytes().len(),
            Self::Lent | Self::Gone => 0,
        }
    }
}

impl State {
    /// What the batch that is being filled has become.
    fn filled(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.buffer.bytes().len())
    }
}

impl Open {
    /// By how much the record makes it longer.
    fn size_of(&self, record: &Parts<'_>) -> usize {
        let Parts {
            timestamp,
            key,
            value,
            headers,
        } = *record;
        self.writer.size_of(timestamp, key, value, headers)
    }

    /// `size` is what `size_of` has said.
    #[inline]
    fn take_in(&mut self, record: &Parts<'_>, size: usize, watch: &mut Option<Watch>) -> Result<Option<Delivery>> {
        let Parts {
            timestamp,
            key,
            value,
            headers,
        } = *record;
        let bytes = self.buffer.room_mut();
        self.writer.append_sized(bytes, size, timestamp, key, value, headers)?;
        Ok(self.watch(record, watch))
    }

    /// The same for nearly every record, if there is room for it. Says whether it is in.
    #[inline]
    fn take_in_short(&mut self, record: &Parts<'_>, limit: usize) -> bool {
        let bytes = self.buffer.room_mut();
        record.headers.is_empty()
            && self
                .writer
                .append_short(bytes, limit, record.timestamp, record.key, record.value)
    }

    /// Who is told what becomes of the record that was written last.
    #[inline]
    fn watch(&mut self, record: &Parts<'_>, watch: &mut Option<Watch>) -> Option<Delivery> {
        let (index, timestamp) = (self.writer.records() - 1, record.timestamp);
        match watch.take() {
            Some(Watch::Delivery) => return Some(Delivery::new(Arc::clone(&self.fate), index, timestamp)),
            Some(Watch::Callback(callback)) => self.fate.call_back(index, timestamp, callback),
            Some(Watch::Nobody) | None => delivery::add(&mut self.detached, index),
        }
        None
    }
}

/// Numbers the partitions.
static KEYS: AtomicUsize = AtomicUsize::new(0);

/// A batch's own, in front of its records.
const HEADER: usize = 61;
/// A batch starts with so many bytes, or with what its partition's batches have needed lately.
const SMALLEST: usize = 1 << 10;
/// Batches of a topic do not become smaller than this, whatever a broker says.
const SMALLEST_LIMIT: usize = 4 << 10;

#[allow(
    clippy::disallowed_methods,
    reason = "a driver: batches linger and are given up by the clock"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

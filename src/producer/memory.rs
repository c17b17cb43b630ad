//! The bytes that a producer may hold: who has them, who waits for them.
//!
//! What counts is the capacity of buffers, filled or not. Bytes are reserved first and allocated after; whoever lets go
//! of a buffer gives its bytes to those who wait, in the order in which they came. Large buffers are kept to be filled
//! again: the system clears a new one page by page, which takes longer than to fill it.
//!
//! The one lock here is taken for a few lines and nothing is called under it, so that anything of this may be dropped
//! anywhere.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;

pub(super) use self::ledger::Wish;
use self::ledger::{After, Grant, LEAST_SPARE, Ledger, fitting};
use crate::{
    deadline::{Deadline, Waited},
    error::{Error, ErrorKind, Result},
};

mod ledger;
#[cfg(test)]
mod tests;

/// What a wait for memory names as its object.
const ROOM: &str = "room in the buffer (buffer_bytes)";

/// Bytes that may be held at the same time, shared by all of one producer.
pub(super) struct Memory {
    limit: usize,
    pressed: Box<dyn Fn() + Send + Sync>,
    /// Whether somebody waits, as of the last change of the ledger.
    is_pressed: AtomicBool,
    ledger: Mutex<Ledger>,
}

/// Bytes that are held, until it is dropped.
pub(super) struct Reservation {
    memory: Arc<Memory>,
    bytes: usize,
    /// Came with the bytes, since it would have had to go for them. Its capacity is no more than they are.
    spare: Option<Vec<u8>>,
}

/// A buffer whose capacity is reserved; returns both when it is dropped.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Covers the capacity of `bytes`, or [`recount`](Self::recount) makes it so.
    room: Reservation,
}

/// A place in the queue, given up when it is dropped; also by a panic.
struct Place<'a> {
    memory: &'a Arc<Memory>,
    id: u64,
    granted: Receiver<Reservation>,
}

impl Memory {
    /// `pressed` is called, without any lock, by each who begins to wait: what lingers should go now. It must not wait,
    /// nor own whoever owns this.
    ///
    /// One call for each is enough if whoever opens a batch asks [`is_pressed`](Self::is_pressed) *after* those whom
    /// `pressed` wakes can see the batch: then they see it, or its opener sees that somebody waits. This includes
    /// openers who had their bytes before, and those who were served while the next one waits already.
    pub(super) fn new(limit: usize, pressed: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            limit,
            pressed: Box::new(pressed),
            is_pressed: AtomicBool::new(false),
            ledger: Mutex::new(Ledger::new(limit)),
        })
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// What is reserved now. Spare buffers are not in it: they make way for whoever wants their bytes.
    pub(super) fn held(&self) -> usize {
        self.ledger.lock().held()
    }

    /// Whether somebody waits for room now. Costs a load.
    pub(super) fn is_pressed(&self) -> bool {
        self.is_pressed.load(Ordering::SeqCst)
    }

    /// At once or not at all; nor while others wait, since nobody overtakes them. May come with slightly more than was
    /// asked for, as may all that is reserved: what a spare buffer has.
    pub(super) fn try_reserve(self: &Arc<Self>, wish: impl Into<Wish>) -> Option<Reservation> {
        let wish = wish.into();
        let grant = self.change(|ledger, after| ledger.take_now(wish, after))?;
        Some(self.reservation(grant))
    }

    /// Waits until there is room; first come, first served, and what is freed is collected for the first, however much
    /// that one wants at least. Room that is there is given even when the deadline has passed.
    ///
    /// # Errors
    ///
    /// `TimedOut` or that of the stop, as the deadline has it. `TooLarge` at once for what can never be.
    pub(super) fn reserve(self: &Arc<Self>, wish: impl Into<Wish>, deadline: &Deadline) -> Result<Reservation> {
        let wish = wish.into();
        if wish.least > self.limit {
            let bytes = wish.least;
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "{bytes} bytes are more than may ever be held (buffer_bytes: {})",
                    self.limit
                ),
            ));
        }
        if let Some(stop) = deadline.stopped() {
            return Err(stop.error());
        }
        if let Some(room) = self.try_reserve(wish) {
            return Ok(room);
        }
        deadline.check(ROOM)?;
        let place = self.queue(wish);
        if place.granted.is_empty() {
            (self.pressed)();
        }
        match deadline.wait(&place.granted) {
            Waited::Got(room) => Ok(room),
            _ => {
                drop(place);
                deadline.check(ROOM)?;
                Err(deadline.error(ROOM))
            }
        }
    }

    /// Beyond the limit if need be, and past those who wait: to take a refused batch apart, which gives as much back
    /// soon after.
    pub(super) fn force(self: &Arc<Self>, bytes: usize) -> Reservation {
        let grant = self.change(|ledger, after| ledger.force(bytes, after));
        self.reservation(grant)
    }

    /// An empty buffer of this capacity: a spare one, or a new one.
    pub(super) fn buffer(self: &Arc<Self>, mut room: Reservation) -> Buffer {
        debug_assert!(Arc::ptr_eq(self, &room.memory));
        let spare = room.spare.take().or_else(|| room.exchange());
        let mut bytes = spare.unwrap_or_else(|| Vec::with_capacity(room.bytes));
        bytes.clear();
        let mut buffer = Buffer { bytes, room };
        buffer.recount();
        buffer
    }

    /// Nothing is to be written for a while: spare buffers may go to somebody else.
    pub(super) fn drop_spares(self: &Arc<Self>) {
        self.change(|ledger, after| ledger.drop_spares(after));
    }

    /// A place at the end; room that is there by now is granted to it.
    fn queue(self: &Arc<Self>, wish: impl Into<Wish>) -> Place<'_> {
        let wish = wish.into();
        // A place is granted once.
        let (grant, granted) = bounded(1);
        let id = self.change(|ledger, _| ledger.queue(wish, grant));
        Place {
            memory: self,
            id,
            granted,
        }
    }

    /// Every change may let somebody go on. What follows of it is done without the lock: a grant that nobody takes any
    /// more comes back here by being dropped.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Ledger, &mut After) -> T) -> T {
        let mut after = After::default();
        let changed = {
            let mut ledger = self.ledger.lock();
            let changed = change(&mut ledger, &mut after);
            ledger.serve(&mut after);
            if self.is_pressed.load(Ordering::Relaxed) != ledger.is_waited_for() {
                self.is_pressed.store(ledger.is_waited_for(), Ordering::SeqCst);
            }
            changed
        };
        drop(after.freed);
        for (waiting, grant) in after.grants {
            waiting.send(self.reservation(grant)).ok();
        }
        changed
    }

    fn is_short(&self) -> bool {
        self.is_pressed() || self.held() > self.limit / 2
    }

    fn reservation(self: &Arc<Self>, grant: Grant) -> Reservation {
        Reservation {
            memory: Arc::clone(self),
            bytes: grant.bytes,
            spare: grant.spare,
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Memory({} of {}, pressed: {})",
            self.held(),
            self.limit,
            self.is_pressed()
        )
    }
}

impl Drop for Place<'_> {
    /// Whoever is next takes the turn. If it was granted meanwhile, or is being granted, the reservation is dropped
    /// with the channel, and gives itself back.
    fn drop(&mut self) {
        self.memory.change(|ledger, _| ledger.leave(self.id));
    }
}

impl Reservation {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes one of two.
    pub(super) fn join(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.memory, &other.memory));
        self.spare = None;
        other.spare = None;
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Makes two of one: so many bytes, or all that there are, go to the other.
    pub(super) fn split_off(&mut self, bytes: usize) -> Self {
        self.spare = None;
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.memory.reservation(Grant { bytes, spare: None })
    }

    #[cfg(test)]
    /// Gives back all but so many.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        drop(self.split_off(self.bytes.saturating_sub(bytes)));
    }

    /// Takes a spare buffer that holds all of this, and is reserved from here on instead of it.
    fn exchange(&mut self) -> Option<Vec<u8>> {
        if *fitting(self.bytes).end() < LEAST_SPARE {
            return None;
        }
        let spare = self.memory.change(|ledger, _| ledger.exchange(self.bytes))?;
        self.bytes = spare.capacity();
        Some(spare)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let (bytes, spare) = (self.bytes, self.spare.take());
        if bytes > 0 || spare.is_some() {
            self.memory
                .change(|ledger, after| ledger.give_back(bytes, spare, after));
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({})", self.bytes)
    }
}

impl Buffer {
    pub(super) fn bytes(&self) -> &Vec<u8> {
        &self.bytes
    }

    /// To write at most [`room`](Self::room) more. Beyond it the vector grows by itself, and more than is needed: that
    /// is counted when this buffer is touched next, even beyond the limit.
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        self.recount();
        &mut self.bytes
    }

    /// To write at most [`room`](Self::room) more, for who has just looked.
    #[inline]
    pub(super) fn room_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// How much can be written without growing.
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    #[cfg(test)]
    /// What is reserved for it.
    pub(super) fn reserved(&self) -> usize {
        self.room.bytes
    }

    /// Grows by what is reserved and no more. Goes over into a spare buffer if there is one and this one at least
    /// doubles: what lies in it is copied faster than that much is cleared. The old and the new one may exist both
    /// while it is copied, here or in the allocator.
    pub(super) fn grow(&mut self, more: Reservation) {
        self.recount();
        let doubles = more.bytes >= self.bytes.capacity();
        self.room.join(more);
        match doubles.then(|| self.room.exchange()).flatten() {
            Some(mut larger) => {
                larger.clear();
                larger.extend_from_slice(&self.bytes);
                let smaller = std::mem::replace(&mut self.bytes, larger);
                let memory = &self.room.memory;
                memory.change(|ledger, after| ledger.give_back(0, Some(smaller), after));
            }
            None => self.bytes.reserve_exact(self.room.bytes - self.bytes.len()),
        }
        self.recount();
    }

    /// Moves a finished batch into a buffer of its size, if at least half of this one is empty, so that no more is copied
    /// than is won, and if memory is short: somebody waits, or half of the limit is held. Otherwise the whole buffer is
    /// worth more, as a spare for the next batch.
    ///
    /// To cut the buffer off behind the batch would move nothing, but then none would go round: the system would have to
    /// clear the memory of each that is filled. Both exist while it is copied.
    pub(super) fn trim(&mut self) {
        self.recount();
        if self.room() < self.bytes.len() || !self.room.memory.is_short() {
            return;
        }
        let mut rest = self.room.split_off(usize::MAX);
        self.room = rest.split_off(self.bytes.len());
        let mut trimmed = self
            .room
            .exchange()
            .unwrap_or_else(|| Vec::with_capacity(self.bytes.len()));
        trimmed.clear();
        trimmed.extend_from_slice(&self.bytes);
        rest.spare = Some(std::mem::replace(&mut self.bytes, trimmed));
        self.recount();
    }

    /// Vectors may take more than they are asked for.
    fn recount(&mut self) {
        let more = self.bytes.capacity().saturating_sub(self.room.bytes);
        if more > 0 {
            self.room.join(self.room.memory.force(more));
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.capacity() >= LEAST_SPARE {
            self.room.spare = Some(std::mem::take(&mut self.bytes));
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {})", self.bytes.len(), self.bytes.capacity())
    }
}

//! What everybody shares who holds something of a partition that a group has given us: its acks, and whether it is still
//! ours.
//!
//! The lock in here is a leaf: held for a few lines, and nothing is taken inside of it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    acks::{AckMode, Acks, CommitOrder, Freed, Held},
    buffer::{Shared, Slot},
    message::{Cell, ChunkData},
};
use crate::offset::TopicPartition;

/// Until when a member is surely one: the send time of the last answered heartbeat, and the session timeout.
#[derive(Debug)]
pub(crate) struct Validity {
    origin: Instant,
    /// Nanoseconds after the origin; 0 is never.
    until: AtomicU64,
}

impl Validity {
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            origin,
            until: AtomicU64::new(0),
        }
    }

    pub(crate) fn set(&self, until: Option<Instant>) {
        let nanos = until.map_or(0, |until| {
            u64::try_from(until.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
        });
        self.until.store(nanos, Ordering::Release);
    }

    pub(crate) fn holds(&self, now: Instant) -> bool {
        let until = Duration::from_nanos(self.until.load(Ordering::Acquire));
        now.saturating_duration_since(self.origin) < until
    }
}

/// How a group's partition is acked, and who is told of it.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub mode: AckMode,
    pub order: CommitOrder,
    /// So many messages may be unfinished.
    pub window: usize,
    pub validity: Arc<Validity>,
}

pub(crate) struct Ownership {
    terms: Terms,
    stream: Weak<Shared>,
    slot: AtomicU32,
    /// It is being given up: whoever finishes something tells.
    draining: AtomicBool,
    tracked: Mutex<Tracked>,
}

pub(crate) struct Tracked {
    pub acks: Acks,
    /// From here on, all that an iterator has gone past is done, and nobody writes it down message by message.
    pub counting: Option<i64>,
    /// Where reading began, when that is worth a commit by itself: "the end" must mean the same after a restart.
    pub pinned: Option<i64>,
    /// An iterator was refused, since too much is unfinished.
    pub waits: bool,
    /// Chunks of which a message was dropped while its thread panicked: it is not done, and never looks let go.
    kept: Vec<Arc<ChunkData>>,
}

impl Ownership {
    pub(crate) fn new(terms: Terms, stream: Weak<Shared>, start: i64) -> Self {
        let acks = Acks::new(terms.order, start);
        Self {
            terms,
            stream,
            slot: AtomicU32::new(Slot::MAX),
            draining: AtomicBool::new(false),
            tracked: Mutex::new(Tracked {
                acks,
                counting: None,
                pinned: None,
                waits: false,
                kept: Vec::new(),
            }),
        }
    }

    pub(crate) fn set_slot(&self, slot: Slot) {
        self.slot.store(slot, Ordering::Relaxed);
    }

    /// These messages are done. In the orders that commit past what is not done, what lies below them is as well.
    pub(crate) fn ack(&self, mut tracked: MutexGuard<'_, Tracked>, from: i64, to: i64) {
        match self.terms.order {
            CommitOrder::LowestContiguous => tracked.acks.ack(from, to),
            CommitOrder::Monotonic | CommitOrder::LastWins => tracked.acks.ack(0, to),
        }
        self.finished(tracked);
    }

    pub(crate) fn mode(&self) -> AckMode {
        self.terms.mode
    }

    pub(crate) fn is_valid(&self, now: Instant) -> bool {
        self.terms.validity.holds(now)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tracked> {
        self.tracked.lock()
    }

    /// Up to which offset messages may be given out, when the next one is at `next`; not beyond it when the window is
    /// full, and then the next ack tells.
    pub(crate) fn limit(&self, tracked: &mut Tracked, next: i64) -> i64 {
        let window = u64::try_from(self.terms.window).unwrap_or(u64::MAX);
        let left = match tracked.acks.runs() < self.terms.window.max(1) {
            true => window.saturating_sub(tracked.acks.unfinished_below(next)),
            // Acks in so many pieces that remembering them is what takes room.
            false => 0,
        };
        if left == 0 {
            tracked.waits = true;
        }
        next.saturating_add(i64::try_from(left).unwrap_or(i64::MAX))
    }

    pub(crate) fn is_full(&self, tracked: &mut Tracked, next: i64) -> bool {
        self.limit(tracked, next) == next
    }

    /// Somebody has finished something.
    pub(crate) fn finished(&self, mut tracked: MutexGuard<'_, Tracked>) {
        let draining = self.draining.load(Ordering::Relaxed);
        let tells = tracked.acks.has_freed() || tracked.waits || draining;
        tracked.waits = false;
        drop(tracked);
        if !tells {
            return;
        }
        if let Some(stream) = self.stream.upgrade() {
            stream.settle(self.slot.load(Ordering::Relaxed));
        }
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        // They are not waited for.
        self.tracked.lock().kept.clear();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// A message was dropped while the partition is being given up: perhaps it was the last one.
    #[cold]
    pub(crate) fn let_go(&self) {
        if let Some(stream) = self.stream.upgrade() {
            stream.nudge();
        }
    }

    /// There is something to commit although nothing was acked.
    pub(crate) fn tell_pinned(&self) {
        if let Some(stream) = self.stream.upgrade() {
            stream.tell_pinned();
        }
    }

    /// The program holds a message beyond its turn.
    #[cold]
    pub(crate) fn tell_held(&self, cell: &Cell, offset: i64) {
        if let Some(stream) = self.stream.upgrade() {
            stream.tell_held(TopicPartition::new(&cell.topic, cell.partition), offset);
        }
    }

    /// A message was dropped by a panic.
    #[cold]
    pub(crate) fn spoil(&self, chunk: &Arc<ChunkData>) {
        let mut tracked = self.tracked.lock();
        if !tracked.keeps(chunk) {
            tracked.kept.push(Arc::clone(chunk));
        }
    }

    /// What a panic has left of this chunk is given out again.
    pub(crate) fn unspoil(&self, chunk: &Arc<ChunkData>) {
        self.tracked.lock().kept.retain(|kept| !Arc::ptr_eq(kept, chunk));
    }
}

impl Tracked {
    /// Whether one of the references to this chunk is only here since a panic has dropped a message of it.
    pub(crate) fn keeps(&self, chunk: &Arc<ChunkData>) -> bool {
        self.kept.iter().any(|kept| Arc::ptr_eq(kept, chunk))
    }

    /// Takes over what an iterator has gone past; `at` is behind the message that it gave last.
    pub(crate) fn catch_up(&mut self, at: i64) {
        if let Some(from) = self.counting.as_mut() {
            let to = at.saturating_sub(1);
            if to > *from {
                self.acks.ack(*from, to);
                *from = to;
            }
        }
        self.acks.given(at);
    }

    pub(crate) fn committable(&self) -> Option<i64> {
        self.acks.committable().or(self.pinned)
    }

    /// Reading goes on elsewhere; acks of earlier messages must be refused by then. Gives what no longer fills the window.
    pub(crate) fn restart(&mut self, at: i64) -> Freed {
        self.counting = None;
        self.pinned = None;
        self.kept.clear();
        self.acks.restart(at);
        self.acks.take_freed()
    }

    pub(crate) fn hold(&mut self, held: Held) {
        self.acks.hold(held);
    }
}

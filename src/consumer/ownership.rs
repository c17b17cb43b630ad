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
    config::PrefetchRule,
    message::{Cell, ChunkData},
};
use crate::offset::TopicPartition;

/// Until when a member is surely one: the send time of the last answered heartbeat, and the session timeout.
#[derive(Debug)]
pub(crate) struct Validity {
    origin: Instant,
    /// Nanoseconds after the origin; 0 is never.
    until: AtomicU64,
    /// An iterator was refused since it was too late: it is to look again when that has changed.
    refused: AtomicBool,
}

impl Validity {
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            origin,
            until: AtomicU64::new(0),
            refused: AtomicBool::new(false),
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

    pub(crate) fn takes_refused(&self) -> bool {
        self.refused.swap(false, Ordering::AcqRel)
    }
}

/// How a group's partition is acked, and who is told of it.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub mode: AckMode,
    pub order: CommitOrder,
    /// So many messages may be unfinished.
    pub window: usize,
    pub rule: PrefetchRule,
    pub validity: Arc<Validity>,
}

/// Acks may be in so many pieces, however few messages may be unfinished.
const PIECES: usize = 1000;

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
    /// The chunk that an iterator goes through.
    walked: Weak<ChunkData>,
    /// The same, when a message of it was dropped while its thread panicked: so that counting does not find it let go.
    pub spoiled: Option<Arc<ChunkData>>,
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
                walked: Weak::new(),
                spoiled: None,
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

    /// The same, for an iterator, which is told when it changes.
    pub(crate) fn may_be_given(&self, now: Instant) -> bool {
        let is_valid = self.is_valid(now);
        if !is_valid {
            self.terms.validity.refused.store(true, Ordering::Release);
        }
        is_valid
    }

    pub(crate) fn rule(&self) -> PrefetchRule {
        self.terms.rule
    }

    #[cfg(test)]
    pub(crate) fn validity(&self) -> Arc<Validity> {
        Arc::clone(&self.terms.validity)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tracked> {
        self.tracked.lock()
    }

    /// Up to which offset messages may be given out, when the next one is at `next`; not beyond it when the window is
    /// full, and then the next ack tells.
    pub(crate) fn limit(&self, tracked: &mut Tracked, next: i64) -> i64 {
        let window = u64::try_from(self.terms.window).unwrap_or(u64::MAX);
        let left = match tracked.acks.runs() < self.terms.window.max(PIECES) {
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

    /// A message was dropped by a panic. Only an iterator that has it in hand could take it for done.
    #[cold]
    pub(crate) fn spoil(&self, chunk: &Arc<ChunkData>) {
        let mut tracked = self.tracked.lock();
        if self.terms.mode == AckMode::OnNext && std::ptr::eq(tracked.walked.as_ptr(), Arc::as_ptr(chunk)) {
            tracked.spoiled = Some(Arc::clone(chunk));
        }
    }
}

impl Tracked {
    /// An iterator begins to go through this chunk.
    pub(crate) fn enter(&mut self, chunk: &Arc<ChunkData>) {
        self.walked = Arc::downgrade(chunk);
        self.spoiled = None;
    }

    /// No iterator has a chunk.
    pub(crate) fn leave(&mut self) {
        self.walked = Weak::new();
        self.spoiled = None;
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
        self.leave();
        self.acks.restart(at);
        self.acks.take_freed()
    }

    pub(crate) fn hold(&mut self, held: Held) {
        self.acks.hold(held);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "some point in time to count from")]
mod tests {
    use super::*;

    fn ownership(window: usize, validity: Validity) -> Ownership {
        let terms = Terms {
            mode: AckMode::OnNext,
            order: CommitOrder::LowestContiguous,
            rule: PrefetchRule::Either,
            window,
            validity: Arc::new(validity),
        };
        Ownership::new(terms, Weak::new(), 10)
    }

    #[test]
    fn a_member_is_one_until_its_time_is_over() {
        let now = Instant::now();
        let validity = Validity::new(now);
        assert!(!validity.holds(now));
        validity.set(Some(now + Duration::from_secs(10)));
        assert!(validity.holds(now) && validity.holds(now + Duration::from_millis(9999)));
        assert!(!validity.holds(now + Duration::from_secs(10)));
        validity.set(Some(now));
        assert!(!validity.holds(now));
        validity.set(Some(now + Duration::from_secs(10)));
        validity.set(None);
        assert!(!validity.holds(now));
    }

    #[test]
    fn the_window_ends_where_it_is_full_and_the_next_ack_tells() {
        let ownership = ownership(3, Validity::new(Instant::now()));
        let mut tracked = ownership.lock();
        assert_eq!(ownership.limit(&mut tracked, 10), 13);
        tracked.acks.given(12);
        assert_eq!(ownership.limit(&mut tracked, 12), 13);
        assert!(!ownership.is_full(&mut tracked, 12) && !tracked.waits);
        tracked.acks.given(13);
        assert!(ownership.is_full(&mut tracked, 13) && tracked.waits);
        tracked.acks.ack(11, 12);
        assert_eq!(ownership.limit(&mut tracked, 13), 14);
    }

    #[test]
    fn what_will_be_given_again_does_not_fill_the_window() {
        let ownership = ownership(2, Validity::new(Instant::now()));
        let mut tracked = ownership.lock();
        tracked.acks.given(14);
        tracked.acks.ack(13, 14);
        assert!(ownership.is_full(&mut tracked, 14));
        assert_eq!(ownership.limit(&mut tracked, 11), 12);
        assert_eq!(ownership.limit(&mut tracked, 10), 12);
    }

    #[test]
    fn many_pieces_fill_it_too() {
        let ownership = ownership(3, Validity::new(Instant::now()));
        let mut tracked = ownership.lock();
        for at in 0..i64::try_from(PIECES).unwrap() {
            assert!(!ownership.is_full(&mut tracked, 10));
            tracked.acks.ack(11 + at * 2, 12 + at * 2);
        }
        assert!(ownership.is_full(&mut tracked, 10));
    }

    #[test]
    fn what_an_iterator_has_in_hand_is_given_and_not_done() {
        let ownership = ownership(3, Validity::new(Instant::now()));
        let mut tracked = ownership.lock();
        tracked.counting = Some(10);
        tracked.catch_up(13);
        assert_eq!(
            (tracked.committable(), tracked.acks.oldest_unacked()),
            (Some(12), Some(12))
        );
        tracked.counting = None;
        tracked.catch_up(15);
        assert_eq!((tracked.committable(), tracked.acks.unfinished()), (Some(12), 3));
    }

    #[test]
    fn where_reading_began_is_committed_until_something_is_done() {
        let ownership = ownership(3, Validity::new(Instant::now()));
        let mut tracked = ownership.lock();
        assert_eq!(tracked.committable(), None);
        tracked.pinned = Some(10);
        assert_eq!(tracked.committable(), Some(10));
        tracked.acks.ack(10, 11);
        assert_eq!(tracked.committable(), Some(11));
        tracked.restart(5);
        assert_eq!(tracked.committable(), None);
    }
}

//! A lease: one iterator's exclusive use of one partition, and how it finds out what has become of what it gave.

use std::{
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
    time::Instant,
};

use parking_lot::MutexGuard;

use super::{
    acks::AckMode,
    buffer::Slot,
    config::PrefetchRule,
    message::{Batch, Cell, Chunk, Message, Walker},
    ownership::Tracked,
    partition::Partition,
};
use crate::error::Result;

/// One iterator's exclusive use of one partition, for one chunk.
pub(crate) struct Lease {
    pub slot: Slot,
    pub ack_epoch: u64,
    pub walker: Walker,
    /// The message that the program has in hand, or the last one of its batch.
    pub last: Option<i64>,
    /// The first message of the batch that the program has in hand.
    first: Option<i64>,
    /// Behind `last`, or where it begins.
    pub expected: i64,
    /// From here on nothing may be given without another look.
    limit: i64,
    pace: Pace,
    /// Nothing is left of the chunk.
    pub finished: bool,
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

impl Lease {
    /// An iterator takes this chunk of the partition. Runs under the buffer's lock.
    pub(super) fn take(partition: &mut Partition, slot: Slot, chunk: Chunk, now: Instant) -> Self {
        partition.leased = Some(now);
        chunk.data.at.store(chunk.from, Ordering::Release);
        // What comes again is held anew: what became of it the last time says nothing.
        chunk.data.let_go.store(chunk.from, Ordering::Release);
        chunk.data.spoiled.store(chunk.from, Ordering::Release);
        partition.in_hand = Some(Arc::clone(&chunk.data));
        partition.cell.recall.store(false, Ordering::Relaxed);
        let mut lease = Self {
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
    pub(super) fn settle(&mut self) {
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
    pub(super) fn resume_at(&self) -> i64 {
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
    pub(super) fn conclude(&self) {
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

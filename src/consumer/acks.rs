//! Acks of one partition, in any order, to the offset that may be committed.

use std::collections::BTreeMap;

use super::intervals::{Line, Runs, length};

/// When a message counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AckMode {
    /// When an iterator is asked for the next message and the program has let go of the last one (dropped it, as the loop
    /// does). `None` and `Err` are answers to that question as well. A message that is kept, or was moved to another thread,
    /// is done when its own [`ack`](crate::Message::ack) says so; one that a panic drops is not done. The same holds for
    /// [batches](crate::Stream::batches).
    #[default]
    OnNext,
    /// When [`Message::ack`](crate::Message::ack), [`Batch::ack`](crate::Batch::ack) or
    /// [`Stream::ack_through`](crate::Stream::ack_through) says so, and not before. A message that is dropped without stays
    /// unfinished, holds up commits, and comes again after a rebalance or a restart.
    Explicit,
}

/// Which offset is committed when messages are acked out of order: [`commit_order`](crate::GroupBuilder::commit_order).
///
/// With offsets 0 to 10 in hand, acks of 10 and then of 3 commit: nothing in the first order (0 is not done), 11 in the second,
/// and 4 in the third.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CommitOrder {
    /// The lowest offset below which everything is done: nothing is lost.
    #[default]
    LowestContiguous,
    /// Behind the highest message that was acked, whatever lies below it, which counts as done: it is lost if the program dies
    /// before it has finished it. A lower ack changes nothing.
    Monotonic,
    /// Behind the message that was acked last, also when that is lower than before. What lies below it counts as done.
    LastWins,
}

/// What of a chunk still fills the prefetch window: these offsets, `to` not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub from: i64,
    pub to: i64,
    pub bytes: usize,
    pub records: usize,
}

/// What fills the window no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    pub bytes: usize,
    pub records: usize,
}

impl Freed {
    fn add(&mut self, bytes: usize, records: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.records = self.records.saturating_add(records);
    }
}

/// What of one partition was given out, what of it is done, and what may be committed of that.
///
/// Acks that come in order raise one number. Only what is done out of order is remembered, as runs.
#[derive(Debug)]
pub(crate) struct Acks {
    order: CommitOrder,
    start: i64,
    /// Behind the last message that was given out.
    given: i64,
    /// What was acked or passed.
    done: Line,
    /// The same and what was released; the same as `done` when there is none.
    free: Option<Line>,
    /// What the orders other than the lowest contiguous one commit.
    mark: i64,
    /// Something was acked, so that `mark` counts also when it is low: for the last that wins.
    acked: bool,
    /// What was passed above all that is done: for the last that wins, who may not go on over what others acked.
    passed: Runs,
    held: Chunks,
    freed: Freed,
}

impl Acks {
    /// Reading begins at `start`; nothing is to be committed yet.
    pub(crate) fn new(order: CommitOrder, start: i64) -> Self {
        let start = start.max(0);
        Self {
            order,
            start,
            given: start,
            done: Line::new(start),
            free: None,
            mark: start,
            acked: false,
            passed: Runs::default(),
            held: Chunks::default(),
            freed: Freed::default(),
        }
    }

    /// Reading goes on elsewhere (a seek): everything so far is forgotten, and the next ack may lower what is committed.
    /// What was held is free.
    pub(crate) fn restart(&mut self, start: i64) {
        let mut freed = self.freed;
        for chunk in self.held.0.values() {
            freed.add(chunk.bytes, chunk.records);
        }
        *self = Self::new(self.order, start);
        self.freed = freed;
    }

    /// These offsets hold no message for the program: gaps, markers, aborted or skipped records. Also counts as given out.
    pub(crate) fn pass(&mut self, from: i64, to: i64) {
        let from = from.max(0);
        if from >= to {
            return;
        }
        if (from..to).contains(&self.mark) {
            self.mark = to;
            self.extend_mark();
        }
        self.finish(from, to);
        if self.order == CommitOrder::LastWins && from > self.done.base() {
            self.passed.add(from, to, |_, _| ());
        }
    }

    /// Messages below `to` have been given out (only rises).
    pub(crate) fn given(&mut self, to: i64) {
        self.given = self.given.max(to);
    }

    /// The messages at these offsets are done; also implies given. For one message: (o, o + 1).
    pub(crate) fn ack(&mut self, from: i64, to: i64) {
        let from = from.max(0);
        if from >= to {
            return;
        }
        match self.order {
            CommitOrder::LowestContiguous => {}
            CommitOrder::Monotonic => self.mark = self.mark.max(to),
            CommitOrder::LastWins => {
                self.mark = to;
                self.acked = true;
            }
        }
        self.extend_mark();
        self.finish(from, to);
    }

    /// Everything below `to` is done. False (and nothing changes) when messages from `given` on are meant.
    pub(crate) fn ack_below(&mut self, to: i64) -> bool {
        let known = to <= self.given;
        if known {
            self.ack(0, to);
        }
        known
    }

    /// Frees the window of one message, commits nothing; it may still be acked. Implies given.
    pub(crate) fn release(&mut self, offset: i64) {
        let Some(behind) = offset.checked_add(1) else {
            return;
        };
        if offset < 0 || self.window().missing(offset, behind) == 0 {
            return;
        }
        self.given(behind);
        let Self {
            done,
            free,
            held,
            freed,
            ..
        } = self;
        free.get_or_insert_with(|| done.clone())
            .add(offset, behind, |from, to| held.finish(from, to, freed));
    }

    /// An iterator has gone through these: they fill the window until all of them are acked or released. When they all
    /// are already, it is free at once (shows in `take_freed`). Implies given.
    pub(crate) fn hold(&mut self, held: Held) {
        let (mut from, mut to) = (held.from.max(0), held.to);
        if from < to {
            self.given(to);
        }
        if self.window().missing(from, to) == 0 {
            self.freed.add(held.bytes, held.records);
            return;
        }
        let mut size = Freed::default();
        size.add(held.bytes, held.records);
        // No message lies in two chunks. Should it seem so, they are one.
        while let Some((start, chunk)) = self.held.take_overlapping(from, to) {
            size.add(chunk.bytes, chunk.records);
            (from, to) = (from.min(start), to.max(chunk.to));
        }
        let chunk = Chunk {
            to,
            missing: self.window().missing(from, to),
            bytes: size.bytes,
            records: size.records,
        };
        self.held.0.insert(from, chunk);
    }

    /// What has become free since the last call.
    pub(crate) fn take_freed(&mut self) -> Freed {
        std::mem::take(&mut self.freed)
    }

    /// Whether `take_freed` would give something.
    pub(crate) fn has_freed(&self) -> bool {
        self.freed != Freed::default()
    }

    /// The first offset from this one on that is not done.
    pub(crate) fn undone_from(&self, offset: i64) -> i64 {
        let offset = offset.max(self.done.base());
        self.done.runs().end_of(offset).unwrap_or(offset)
    }

    /// What may be committed: the next offset to read; None when nothing was done since the start.
    pub(crate) fn committable(&self) -> Option<i64> {
        match self.order {
            CommitOrder::LowestContiguous => (self.done.base() > self.start).then_some(self.done.base()),
            CommitOrder::Monotonic | CommitOrder::LastWins => {
                (self.acked || self.mark > self.start).then_some(self.mark)
            }
        }
    }

    /// How many offsets have been given out that are neither acked nor released nor passed.
    pub(crate) fn unfinished(&self) -> u64 {
        let window = self.window();
        length(window.base(), self.given) - window.runs().len()
    }

    /// The same, without those from `next` on: an iterator has given them back, and they come again.
    pub(crate) fn unfinished_below(&self, next: i64) -> u64 {
        self.unfinished() - self.window().missing(next, self.given)
    }

    /// The oldest message that was given out and not acked.
    pub(crate) fn oldest_unacked(&self) -> Option<i64> {
        (self.done.base() < self.given).then_some(self.done.base())
    }

    /// How many separate runs are remembered: what memory this takes.
    pub(crate) fn runs(&self) -> usize {
        let released = self.free.as_ref().map_or(0, |free| free.runs().count());
        self.done.runs().count() + released + self.passed.count()
    }

    /// What fills the window no more.
    fn window(&self) -> &Line {
        self.free.as_ref().unwrap_or(&self.done)
    }

    fn finish(&mut self, from: i64, to: i64) {
        self.given(to);
        let Self {
            done,
            free,
            held,
            freed,
            passed,
            ..
        } = self;
        let finished = |from, to| held.finish(from, to, freed);
        match free {
            None => done.add(from, to, finished),
            Some(free) => {
                done.add(from, to, |_, _| ());
                free.add(from, to, finished);
            }
        }
        // Only when both are empty: the next release copies what is done.
        free.take_if(|free| free.base() == done.base() && free.runs().count() == 0 && done.runs().count() == 0);
        while passed.take_first_up_to(done.base()).is_some() {}
    }

    /// Nothing that was passed behind the mark needs to be read again. Above a mark that never falls, all that is done
    /// was passed.
    fn extend_mark(&mut self) {
        let runs = match self.order {
            CommitOrder::LastWins => &self.passed,
            CommitOrder::LowestContiguous | CommitOrder::Monotonic => self.done.runs(),
        };
        if let Some(end) = runs.end_of(self.mark) {
            self.mark = end;
        }
    }
}

#[derive(Debug)]
struct Chunk {
    to: i64,
    /// How many of its offsets are neither done nor released; never 0.
    missing: u64,
    bytes: usize,
    records: usize,
}

/// What fills the window, by its first offset; no two overlap. Iterators on several threads may come in any order.
#[derive(Debug, Default)]
struct Chunks(BTreeMap<i64, Chunk>);

impl Chunks {
    /// These are done or released, and were not before.
    fn finish(&mut self, from: i64, to: i64, freed: &mut Freed) {
        let mut below = to;
        while let Some((&start, chunk)) = self.0.range_mut(..below).next_back() {
            if chunk.to <= from {
                return;
            }
            chunk.missing -= length(start.max(from), chunk.to.min(to));
            if chunk.missing == 0 {
                freed.add(chunk.bytes, chunk.records);
                self.0.remove(&start);
            }
            if start <= from {
                return;
            }
            below = start;
        }
    }

    fn take_overlapping(&mut self, from: i64, to: i64) -> Option<(i64, Chunk)> {
        let (&start, _) = self.0.range(..to).next_back().filter(|(_, chunk)| chunk.to > from)?;
        self.0.remove_entry(&start)
    }
}

#[cfg(test)]
mod tests;

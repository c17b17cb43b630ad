//! Puts decoded batches together into chunks, within the partition's room, and hands them over.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use bytes::Bytes;

use crate::{
    consumer::{
        budget::Expansion,
        buffer::{Shared, Slot, State},
        message::{Cell, Chunk, ChunkData},
    },
    error::ErrorKind,
    wire::batch::{Inflated, Place, RawBatch, Span},
};

/// Inflated batches are handed over when this much has come together: it stays in the processor's cache until it is read.
const CHUNK: usize = 512 << 10;
/// Nothing is inflated while so much waits to be read: until it is wanted, it is several times smaller as it came.
pub(in crate::consumer) const AHEAD: usize = 1 << 20;
/// Whoever has less than this may always have one piece more, whatever the others hold.
const LITTLE: usize = CHUNK;

/// What is still counted as received.
#[derive(Clone, Copy)]
pub(super) struct Undone {
    pub(super) bytes: usize,
    pub(super) records: usize,
    pub(super) growth: usize,
}

impl Undone {
    fn records(records: usize) -> Self {
        Self {
            bytes: 0,
            records,
            growth: 0,
        }
    }
}

/// Puts decoded batches together into chunks, within the partition's room.
pub(super) struct Maker<'a> {
    shared: &'a Shared,
    slot: Slot,
    cell: Arc<Cell>,
    epoch: u64,
    /// Where the answer begins.
    asked: i64,
    /// Records below it are not wanted.
    pub(super) from: i64,
    readable_end: i64,
    raw: Undone,
    /// How many of its records have been looked at since that was told.
    looked_at: usize,
    /// Behind the last batch that was looked at.
    pub(super) next_offset: i64,
    /// Of the chunk that is being made; its bytes are `inflated`, or the fetched ones when that is empty.
    spans: Vec<Span>,
    fetched: Option<Bytes>,
    pub(super) inflated: Inflated,
    pub(super) spare: Inflated,
    records: usize,
    /// Whether something was passed over that the position must pass over too.
    passed: bool,
}

impl<'a> Maker<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        slot: Slot,
        cell: Arc<Cell>,
        epoch: u64,
        from: i64,
        readable_end: i64,
        raw: Undone,
    ) -> Self {
        Self {
            shared,
            slot,
            cell,
            epoch,
            asked: from,
            from,
            readable_end,
            raw,
            looked_at: 0,
            next_offset: from,
            spans: Vec::new(),
            fetched: None,
            inflated: Inflated::default(),
            spare: Inflated::default(),
            records: 0,
            passed: false,
        }
    }

    /// A batch without anything to see.
    pub(super) fn skip(&mut self, batch: &RawBatch) {
        self.spare.truncate(0);
        self.looked_at += batch.claimed_records();
        self.next_offset = batch.next_offset;
        self.passed = true;
    }

    pub(super) fn take(&mut self, fetched: &Bytes, batch: &RawBatch, place: &Place, span: Span) {
        if span.start >= span.end {
            return self.skip(batch);
        }
        let is_fetched = matches!(place, Place::InFetched);
        if !self.spans.is_empty() && is_fetched != self.fetched.is_some() {
            // One chunk has one buffer. What was just inflated belongs to the next.
            let rest = match is_fetched {
                true => Inflated::default(),
                false => std::mem::take(&mut self.inflated),
            };
            self.hand_over_part();
            self.inflated = rest;
        }
        self.fetched = is_fetched.then(|| fetched.clone());
        self.next_offset = batch.next_offset;
        self.looked_at += batch.claimed_records();
        self.records += batch.claimed_records();
        self.spans.push(span);
    }

    /// Before a batch is inflated, which is expected to become so long, and all that is left with it: hands over what has
    /// come together, and waits for the program to take it. False when nobody wants it any more.
    pub(super) fn make_room(&mut self, batch: usize, rest: usize) -> bool {
        if !self.inflated.is_empty() && self.inflated.len().saturating_add(batch) <= CHUNK {
            return true;
        }
        let is_first = self.spans.is_empty() && self.from == self.asked;
        if !self.spans.is_empty() {
            self.hand_over_part();
        }
        if !self.shared.wait_for_room(self.slot, self.epoch, is_first) {
            return false;
        }
        let limit = self.shared.config.decoded_batch_limit.max(CHUNK);
        let size = batch.max(CHUNK).min(rest).min(limit);
        self.inflated = Inflated::over(self.shared.spares.take_about(size));
        true
    }

    fn hand_over_part(&mut self) {
        let looked_at = std::mem::take(&mut self.looked_at).min(self.raw.records);
        self.raw.records -= looked_at;
        self.push(Undone::records(looked_at), None);
    }

    /// The answer is done with.
    pub(super) fn hand_over(mut self, expansion: Expansion) {
        self.push(self.raw, Some(expansion));
    }

    fn push(&mut self, done: Undone, learned: Option<Expansion>) {
        let fetched = self.fetched.take();
        let (data, bytes) = match fetched {
            // The fetched bytes live on in the chunk: they only change their account.
            Some(fetched) => {
                let bytes = fetched.len();
                (fetched, bytes)
            }
            None => {
                let inflated = std::mem::take(&mut self.inflated);
                let capacity = inflated.capacity();
                let (bytes, length) = inflated.into_parts();
                (self.shared.spares.lend(bytes, length), capacity)
            }
        };
        let spans = std::mem::take(&mut self.spans);
        let records = std::mem::take(&mut self.records);
        if spans.is_empty() && !std::mem::take(&mut self.passed) {
            self.shared.decoded(self.slot, self.epoch, None, done, learned);
            return;
        }
        let bytes = if spans.is_empty() {
            0
        } else {
            bytes + spans.len() * size_of::<Span>()
        };
        let data = ChunkData {
            cell: Arc::clone(&self.cell),
            ack_epoch: self.cell.ack_epoch.load(Ordering::Acquire),
            data,
            spans,
            readable_end: self.readable_end,
            at: AtomicI64::new(self.from),
            acked: AtomicI64::new(-1),
            begin: self.from,
            let_go: AtomicI64::new(-1),
            spoiled: AtomicI64::new(-1),
        };
        let chunk = Chunk {
            data: Arc::new(data),
            from: self.from,
            until: i64::MAX,
            next_offset: self.next_offset,
            bytes,
            records,
        };
        self.from = self.next_offset;
        self.shared.decoded(self.slot, self.epoch, Some(chunk), done, learned);
    }
}

impl Chunk {
    /// Offsets without a record.
    pub(super) fn empty(cell: &Arc<Cell>, from: i64, to: i64) -> Self {
        let data = ChunkData {
            cell: Arc::clone(cell),
            ack_epoch: cell.ack_epoch.load(Ordering::Acquire),
            data: Bytes::new(),
            spans: Vec::new(),
            readable_end: to,
            at: AtomicI64::new(from),
            acked: AtomicI64::new(-1),
            begin: from,
            let_go: AtomicI64::new(-1),
            spoiled: AtomicI64::new(-1),
        };
        Self {
            data: Arc::new(data),
            from,
            until: i64::MAX,
            next_offset: to,
            bytes: 0,
            records: 0,
        }
    }
}

impl Shared {
    /// Takes in what was decoded; what is done with of what was fetched needs no counting any more.
    fn decoded(&self, slot: Slot, epoch: u64, chunk: Option<Chunk>, done: Undone, learned: Option<Expansion>) {
        let mut state = self.lock();
        let State { partitions, budget, .. } = &mut *state;
        let Some(partition) = partitions.get_mut(&slot).filter(|partition| partition.epoch() == epoch) else {
            return;
        };
        partition.expansion = learned.unwrap_or(partition.expansion);
        budget.change(&mut partition.account, |account| {
            account.raw -= done.bytes;
            account.raw_records -= done.records;
            account.raw_growth -= done.growth;
            if let Some(chunk) = &chunk {
                account.ready += chunk.bytes;
                account.ready_records += chunk.records;
            }
        });
        if let Some(mut chunk) = chunk {
            partition.damaged = 0;
            partition.decoded = chunk.next_offset;
            partition.note_epochs(&chunk);
            if partition
                .trouble
                .as_ref()
                .is_some_and(|trouble| trouble.error.kind() == ErrorKind::Corrupt)
            {
                partition.well();
            }
            if let Some(until) = partition.until {
                chunk.until = until;
            }
            self.put(&mut state, slot, chunk);
        }
        self.kick(&mut state, slot);
    }

    /// Puts a chunk behind the others.
    pub(super) fn put(&self, state: &mut State, slot: Slot, chunk: Chunk) {
        let Some(partition) = state.partitions.get_mut(&slot) else {
            return;
        };
        let is_empty = chunk.data.spans.is_empty();
        if let Some(last) = partition.chunks.back_mut().filter(|_| is_empty) {
            // Nothing to see: the one before reaches as far.
            last.next_offset = chunk.next_offset;
        } else if is_empty && partition.leased.is_none() {
            partition.stands_at = chunk.next_offset;
            partition.pass(chunk.from, chunk.next_offset);
            self.advanced(state);
        } else {
            partition.chunks.push_back(chunk);
            self.offer(state, slot);
        }
    }

    /// Waits until the partition may hold more, and until the program will want it soon; false when nobody wants it any
    /// more. The first piece of an answer needs no room: what is to be acked may lie in it.
    fn wait_for_room(&self, slot: Slot, epoch: u64, is_first: bool) -> bool {
        let mut state = self.lock();
        let mut most = AHEAD;
        loop {
            if state.is_ended() {
                return false;
            }
            let Some(partition) = state
                .partitions
                .get(&slot)
                .filter(|partition| partition.epoch() == epoch)
            else {
                return false;
            };
            let account = &partition.account;
            let has_room = || is_first || state.budget.room(account, &self.config) > 0;
            // What the program holds has a bound of its own, and may wait for what comes next.
            if account.ready < LITTLE || (account.ready < most && has_room()) {
                return true;
            }
            // Once it waits, not for every piece that is taken.
            most = AHEAD / 2 + 1;
            let wake = Arc::clone(&partition.wake);
            wake.wait(&mut state);
        }
    }
}

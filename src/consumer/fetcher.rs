//! One thread per partition: finds out where to begin, and makes checked, decoded, filtered chunks of what was fetched.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::{
    aborted::Aborted,
    budget::Expansion,
    buffer::{Shared, Slot, State},
    event::Event,
    message::{Cell, Chunk, ChunkData},
    partition::{Partition, Phase, Pins, Raw, Task},
};
use crate::{
    cluster::{
        EpochEnd, ListAt,
        retry::{self, Action, NONSENSE, is_nonsense, only_nonsense},
    },
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    offset::{Isolation, OutOfRange, StartAt},
    thread::Worker,
    wire::batch::{self, BatchError, Decoder, Inflated, Place, RawBatch, Span, Walk},
};

/// Inflated batches are handed over when this much has come together: it stays in the processor's cache until it is read.
const CHUNK: usize = 512 << 10;
/// Nothing is inflated while so much waits to be read: until it is wanted, it is several times smaller as it came.
pub(super) const AHEAD: usize = 1 << 20;
/// Whoever has less than this may always have one piece more, whatever the others hold.
const LITTLE: usize = CHUNK;
/// A damaged batch is fetched again this often before the program is told.
const REFETCHES: u32 = 3;

/// What a fetcher does next.
enum Job {
    Prepare { task: Task, epoch: u64 },
    Decode(Raw),
    End,
}

/// What preparing came to.
enum Prepared {
    /// Read from here, and under `until_end` to there.
    Start { at: i64, until: Option<i64> },
    /// The position was in range after all.
    InRange,
    /// The position was out of range; go on there.
    Reset { from: i64, to: i64 },
    /// The histories part here.
    Diverged(i64),
    /// What was read is still part of the log.
    Valid,
}

struct Fetcher {
    shared: Arc<Shared>,
    slot: Slot,
    cell: Arc<Cell>,
    decoder: Decoder,
    expansion: Expansion,
}

/// Starts the fetcher of a partition.
pub(crate) fn start(shared: &Arc<Shared>, slot: Slot, cell: Arc<Cell>) -> Result<Worker> {
    let decoder = Decoder::new(shared.config.decoded_batch_limit);
    let fetcher = Fetcher {
        shared: Arc::clone(shared),
        slot,
        cell,
        decoder,
        expansion: Expansion::default(),
    };
    Worker::start(format!("klamm-fetch-{slot}"), move || fetcher.run())
}

/// Decodes what is few on the lane's own thread, and leaves the rest to the fetchers: each of them that need not wake up
/// brings a message sooner to whoever waits for it.
pub(super) fn decode_few(shared: &Arc<Shared>, decoder: &mut Option<Decoder>, slots: Vec<Slot>) {
    let mut others = Vec::new();
    for slot in slots {
        let Some((cell, expansion, raw)) = shared.lend(slot) else {
            others.push(slot);
            continue;
        };
        let limit = shared.config.decoded_batch_limit;
        let mut fetcher = Fetcher {
            shared: Arc::clone(shared),
            slot,
            cell,
            decoder: decoder.take().unwrap_or_else(|| Decoder::new(limit)),
            expansion,
        };
        fetcher.decode(raw);
        *decoder = Some(fetcher.decoder);
        shared.take_back(slot);
    }
    shared.wake_fetchers(&others);
}

impl Fetcher {
    fn run(mut self) {
        let _alarm = self.shared.alarm();
        loop {
            match self.wait() {
                Job::Prepare { task, epoch } => self.prepare(&task, epoch),
                Job::Decode(raw) => self.decode(raw),
                Job::End => return,
            }
        }
    }

    fn wait(&self) -> Job {
        let mut state = self.shared.lock();
        loop {
            if state.is_ended() {
                return Job::End;
            }
            let Some(partition) = state.partitions.get_mut(&self.slot) else {
                return Job::End;
            };
            if partition.stop.is_stopped() {
                return Job::End;
            }
            if partition.is_lent {
                let wake = Arc::clone(&partition.wake);
                wake.wait(&mut state);
                continue;
            }
            // What was received comes before what is to be found out: it lies before it in the log.
            if let Some(raw) = partition.raw.pop_front() {
                partition.decoding = true;
                return Job::Decode(raw);
            }
            if std::mem::take(&mut partition.decoding) {
                self.shared.advanced(&state);
                continue;
            }
            let epoch = partition.epoch();
            if let Phase::Preparing { task, begun } = &mut partition.phase {
                if !*begun {
                    *begun = true;
                    return Job::Prepare {
                        task: task.clone(),
                        epoch,
                    };
                }
            }
            let wake = Arc::clone(&partition.wake);
            wake.wait(&mut state);
        }
    }

    // ---- where to begin ----

    #[allow(clippy::disallowed_methods, reason = "trouble is told since when")]
    fn prepare(&self, task: &Task, epoch: u64) {
        let shared = &self.shared;
        let limit = shared.cluster.config().request_timeout;
        let mut deadline = Deadline::after(limit, "request_timeout").with_stop(&shared.stop);
        if let Some(partition) = shared.lock().partitions.get(&self.slot) {
            deadline = deadline.with_stop(&partition.stop);
        }
        let outcome = self.find_out(task, &deadline);
        let mut state = shared.lock();
        let Some(partition) = state.partitions.get_mut(&self.slot) else {
            return;
        };
        if state_moved_on(partition, task, epoch) {
            return;
        }
        match outcome {
            Ok(prepared) => self.prepared(&mut state, prepared),
            // No partition's fault, and no seek helps.
            Err(error) if error.is_refusal() => {
                drop(state);
                shared.fail_all(error);
            }
            Err(error) if error.kind() == ErrorKind::Closed => {}
            Err(error) if is_nonsense(&error) && partition.nonsense == NONSENSE => {
                shared.fail(&mut state, self.slot, only_nonsense(error));
            }
            Err(error) if is_final(&error) => shared.fail(&mut state, self.slot, error),
            Err(error) => {
                partition.nonsense = match is_nonsense(&error) {
                    true => partition.nonsense + 1,
                    false => 0,
                };
                // Tried until the deadline, and to be tried again: only health tells.
                partition.met(partition.cell.blame(error), Instant::now(), |times| {
                    shared.backoff(times)
                });
                let wait = shared.backoff(partition.nonsense.max(1));
                partition.phase = Phase::Preparing {
                    task: task.clone(),
                    begun: false,
                };
                self.rest(state, epoch, wait);
            }
        }
    }

    /// Waits for this long, or until the program wants something else.
    #[allow(clippy::disallowed_methods, reason = "a driver's pause")]
    fn rest(&self, mut state: MutexGuard<'_, State>, epoch: u64, time: Duration) {
        let until = Instant::now() + time;
        loop {
            if state.is_ended() {
                return;
            }
            let is_wanted = |partition: &&Partition| partition.epoch() == epoch && !partition.stop.is_stopped();
            let Some(partition) = state.partitions.get(&self.slot).filter(is_wanted) else {
                return;
            };
            let wake = Arc::clone(&partition.wake);
            if wake.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }

    fn find_out(&self, task: &Task, deadline: &Deadline) -> Result<Prepared> {
        match *task {
            Task::Start(start) => {
                // The end first: what is written meanwhile lies behind it.
                let until = match self.shared.until_end {
                    true => Some(self.edge(ListAt::Latest, self.shared.config.isolation, deadline)?),
                    false => None,
                };
                Ok(Prepared::Start {
                    at: self.resolve(start, deadline)?,
                    until,
                })
            }
            Task::Reset { at } => self.reset(at, deadline),
            Task::Validate { epoch } => {
                let Cell { topic, partition, .. } = &*self.cell;
                match self.shared.cluster.end_of_epoch(topic, *partition, epoch, deadline) {
                    Ok(EpochEnd {
                        epoch: found,
                        end_offset,
                    }) if end_offset >= 0 => {
                        let state = self.shared.lock();
                        let position = state
                            .partitions
                            .get(&self.slot)
                            .map_or(0, |partition| partition.position);
                        let diverged = end_offset < position || found < epoch;
                        Ok(if diverged {
                            Prepared::Diverged(end_offset.min(position))
                        } else {
                            Prepared::Valid
                        })
                    }
                    // A log that knows nothing of this epoch, or a broker that does not keep epochs: the position itself
                    // is checked by the next Fetch.
                    Ok(_) => Ok(Prepared::Valid),
                    Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Prepared::Valid),
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn resolve(&self, start: StartAt, deadline: &Deadline) -> Result<i64> {
        let isolation = self.shared.config.isolation;
        let at = match ListAt::of(start, SystemTime::now()) {
            Ok(at) => at,
            Err(offset) => return Ok(offset),
        };
        let Cell { topic, partition, .. } = &*self.cell;
        match self
            .shared
            .cluster
            .list_offset(topic, *partition, at, isolation, deadline)?
        {
            Some(found) => Ok(found.offset),
            // No record is as new as that.
            None => self.edge(ListAt::Latest, isolation, deadline),
        }
    }

    fn edge(&self, at: ListAt, isolation: Isolation, deadline: &Deadline) -> Result<i64> {
        let Cell { topic, partition, .. } = &*self.cell;
        let found = self
            .shared
            .cluster
            .list_offset(topic, *partition, at, isolation, deadline)?;
        found.map(|found| found.offset).ok_or_else(|| {
            Error::protocol("the broker gave no offset for the edge of a partition").for_partition(topic, *partition)
        })
    }

    fn reset(&self, at: i64, deadline: &Deadline) -> Result<Prepared> {
        let first = self.edge(ListAt::Earliest, Isolation::ReadUncommitted, deadline)?;
        let end = self.edge(ListAt::Latest, Isolation::ReadUncommitted, deadline)?;
        if (first..=end).contains(&at) {
            // The log has moved meanwhile, or a leader that was behind has answered.
            return Ok(Prepared::InRange);
        }
        let to = match self.shared.config.out_of_range {
            OutOfRange::Nearest => at.clamp(first, end.max(first)),
            OutOfRange::Earliest => first,
            OutOfRange::Latest => self.edge(ListAt::Latest, self.shared.config.isolation, deadline)?,
            OutOfRange::Fail => {
                return Err(Error::new(
                    ErrorKind::OutOfRange,
                    format!(
                        "offset {at} is outside of the log, which goes from {first} to {end}: seek, or set out_of_range"
                    ),
                ));
            }
        };
        Ok(Prepared::Reset { from: at, to })
    }

    fn prepared(&self, state: &mut State, prepared: Prepared) {
        let shared = &self.shared;
        let Some(partition) = state.partitions.get_mut(&self.slot) else {
            return;
        };
        partition.well();
        partition.nonsense = 0;
        match prepared {
            Prepared::Diverged(at) if shared.config.out_of_range == OutOfRange::Fail => {
                let message = format!(
                    "a new leader's log parts from what was read at offset {at}; what was read from there on is gone"
                );
                // What was prefetched from there on is gone as well, and not to be given out before the error.
                state.cut(self.slot, at);
                return shared.fail(state, self.slot, Error::new(ErrorKind::Truncated, message));
            }
            Prepared::Diverged(at) => return shared.truncate(state, self.slot, at),
            Prepared::Valid | Prepared::InRange => partition.phase = Phase::Fetching,
            Prepared::Start { at, until } => {
                let was_earliest = matches!(
                    partition.phase,
                    Phase::Preparing {
                        task: Task::Start(StartAt::Earliest),
                        ..
                    }
                );
                partition.begin(at);
                partition.until = partition.until.or(until);
                let pins = match partition.pins {
                    Pins::Never => false,
                    // The next owner may not know why this one begins at the first record, and would not.
                    Pins::Elsewhere => !was_earliest || shared.config.start_at != StartAt::Earliest,
                    Pins::Always => true,
                };
                if pins {
                    partition.pin(at);
                }
                shared.tell(Event::Assigned {
                    partition: partition.name.clone(),
                    position: at,
                });
            }
            Prepared::Reset { from, to } if to < from && partition.ownership().is_some() => {
                // Offsets that were read once are to be read again, as others: acks of the former must not count.
                let at = partition.progress().min(to);
                shared.tell(Event::OffsetReset {
                    partition: partition.name.clone(),
                    from,
                    to: at,
                    skipped: 0,
                });
                return shared.restart(state, self.slot, StartAt::Offset(at));
            }
            Prepared::Reset { from, to } => {
                let gap = partition.ownership().map(|_| Chunk::empty(&self.cell, from, to));
                partition.phase = Phase::Fetching;
                partition.position = to;
                partition.decoded = match partition.account.raw {
                    0 => to,
                    _ => partition.decoded.min(to),
                };
                partition.read_epoch = -1;
                if partition.chunks.is_empty() && partition.leased.is_none() {
                    partition.stands_at = to;
                }
                let skipped = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
                shared.tell(Event::OffsetReset {
                    partition: partition.name.clone(),
                    from,
                    to,
                    skipped,
                });
                if let Some(gap) = gap {
                    // What was skipped comes in its turn: before it, there may be something that nobody has taken yet.
                    shared.put(state, self.slot, gap);
                }
            }
        }
        shared.tell_settled();
        shared.advanced(state);
        shared.kick(state, self.slot);
    }

    // ---- what was fetched ----

    fn decode(&mut self, raw: Raw) {
        let size = raw.bytes.len();
        let Raw {
            epoch,
            from,
            bytes,
            records,
            growth,
            aborted,
            readable_end,
            problem,
            is_plain: _,
        } = raw;
        let fetched = self.shared.spares.lend(bytes, size);
        let mut aborted = Aborted::new(aborted);
        let shared = Arc::clone(&self.shared);
        let mut maker = Maker::new(
            &shared,
            self.slot,
            Arc::clone(&self.cell),
            epoch,
            from,
            readable_end,
            Undone {
                bytes: size,
                records,
                growth,
            },
        );
        for batch in Walk::new(&fetched) {
            if self.cell.fetch_epoch.load(Ordering::Acquire) != epoch {
                return;
            }
            let done = batch.map_err(BatchError::into_error).and_then(|batch| {
                if batch.next_offset <= maker.from {
                    return Ok(true);
                }
                self.one(&fetched, &batch, &mut aborted, &mut maker)
            });
            match done {
                Ok(true) => {}
                // Nobody wants it any more.
                Ok(false) => return,
                Err(error) => {
                    let at = maker.next_offset;
                    maker.hand_over(self.expansion);
                    return self.damaged(epoch, at, error);
                }
            }
        }
        let at = maker.next_offset;
        maker.hand_over(self.expansion);
        if let Some(problem) = problem {
            let message = format!("the records from offset {at} on cannot be read: {problem}");
            self.damaged(epoch, at, Error::new(ErrorKind::Corrupt, message));
        }
    }

    fn one(&mut self, fetched: &Bytes, batch: &RawBatch, aborted: &mut Aborted, maker: &mut Maker<'_>) -> Result<bool> {
        let filters = self.shared.config.isolation == Isolation::ReadCommitted;
        if batch.is_control() {
            // Checked as everything is, since a marker decides what is shown.
            self.decoder
                .decode_into(fetched, batch, &mut maker.spare)
                .map_err(BatchError::into_error)?;
            let marker = batch::marker(fetched, batch).map_err(BatchError::into_error)?;
            aborted.marked(batch.producer_id(), &marker, batch.next_offset - 1);
            maker.skip(batch);
            return Ok(true);
        }
        if filters && batch.is_transactional() && aborted.hides(batch.producer_id(), batch.next_offset - 1) {
            maker.skip(batch);
            return Ok(true);
        }
        if batch.is_compressed() {
            let size = batch.end - batch.start;
            let rest = fetched.len() - batch.start;
            if !maker.make_room(self.expansion.of(size), self.expansion.of(rest)) {
                return Ok(false);
            }
        }
        let before = maker.inflated.len();
        let (place, span) = self
            .decoder
            .decode_into(fetched, batch, &mut maker.inflated)
            .map_err(BatchError::into_error)?;
        if place == Place::Inflated {
            self.expansion
                .learn(batch.end - batch.start, maker.inflated.len() - before);
        }
        maker.take(fetched, batch, &place, span);
        Ok(true)
    }

    /// A batch does not hold what it claims: perhaps the network's fault, and then the next answer is better.
    #[allow(clippy::disallowed_methods, reason = "trouble is told since when")]
    fn damaged(&self, epoch: u64, at: i64, error: Error) {
        let shared = &self.shared;
        let mut state = shared.lock();
        let Some(partition) = state
            .partitions
            .get_mut(&self.slot)
            .filter(|partition| partition.epoch() == epoch)
        else {
            return;
        };
        let error = partition.cell.blame(error);
        partition.damaged += 1;
        partition.position = at;
        if error.kind() != ErrorKind::Corrupt || partition.damaged > REFETCHES {
            let error = error.explained(&format!("seek beyond offset {at} to go on"));
            return shared.fail(&mut state, self.slot, error);
        }
        if let Phase::Preparing {
            task: Task::Reset { .. },
            ..
        } = partition.phase
        {
            // What was out of range lies behind what is fetched again.
            partition.phase = Phase::Fetching;
        }
        partition.raise_epoch();
        partition.met(error.clone(), Instant::now(), |times| shared.backoff(times));
        shared.tell(Event::Refetched {
            partition: partition.name.clone(),
            error,
        });
        state.drop_raw(self.slot);
        shared.kick(&mut state, self.slot);
    }
}

/// Whether what was prepared is no longer what is asked for.
fn state_moved_on(partition: &Partition, task: &Task, epoch: u64) -> bool {
    partition.epoch() != epoch
        || !matches!(&partition.phase, Phase::Preparing { task: now, begun: true } if now == task)
}

/// No retry helps.
fn is_final(error: &Error) -> bool {
    retry::action(error) == Action::Fail && error.kind() != ErrorKind::TimedOut && !is_nonsense(error)
}

/// What is still counted as received.
#[derive(Clone, Copy)]
struct Undone {
    bytes: usize,
    records: usize,
    growth: usize,
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
struct Maker<'a> {
    shared: &'a Shared,
    slot: Slot,
    cell: Arc<Cell>,
    epoch: u64,
    /// Where the answer begins.
    asked: i64,
    /// Records below it are not wanted.
    from: i64,
    readable_end: i64,
    raw: Undone,
    /// How many of its records have been looked at since that was told.
    looked_at: usize,
    /// Behind the last batch that was looked at.
    next_offset: i64,
    /// Of the chunk that is being made; its bytes are `inflated`, or the fetched ones when that is empty.
    spans: Vec<Span>,
    fetched: Option<Bytes>,
    inflated: Inflated,
    spare: Inflated,
    records: usize,
    /// Whether something was passed over that the position must pass over too.
    passed: bool,
}

impl<'a> Maker<'a> {
    fn new(
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
    fn skip(&mut self, batch: &RawBatch) {
        self.spare.truncate(0);
        self.looked_at += batch.claimed_records();
        self.next_offset = batch.next_offset;
        self.passed = true;
    }

    fn take(&mut self, fetched: &Bytes, batch: &RawBatch, place: &Place, span: Span) {
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
    fn make_room(&mut self, batch: usize, rest: usize) -> bool {
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
    fn hand_over(mut self, expansion: Expansion) {
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
    fn empty(cell: &Arc<Cell>, from: i64, to: i64) -> Self {
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
    fn put(&self, state: &mut State, slot: Slot, chunk: Chunk) {
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

#[cfg(test)]
mod claimed_tests;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod tests;

//! One thread per partition: finds out where to begin, and makes checked, decoded, filtered chunks of what was fetched.

mod chunks;
mod preparing;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;

pub(super) use self::chunks::AHEAD;
use self::chunks::{Maker, Undone};
use super::{
    aborted::Aborted,
    budget::Expansion,
    buffer::{Shared, Slot},
    event::Event,
    message::Cell,
    partition::{Phase, Raw, Task},
};
use crate::{
    error::{Error, ErrorKind, Result},
    offset::Isolation,
    thread::Worker,
    wire::batch::{self, BatchError, Decoder, Place, RawBatch, Walk},
};

/// A damaged batch is fetched again this often before the program is told.
const REFETCHES: u32 = 3;

/// What a fetcher does next.
enum Job {
    Prepare { task: Task, epoch: u64 },
    Decode(Raw),
    End,
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

#[cfg(test)]
mod claimed_tests;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod tests;

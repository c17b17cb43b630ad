//! Where to begin: what a fetcher finds out before anything is fetched, and what becomes of it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::MutexGuard;

use super::Fetcher;
use crate::{
    cluster::{
        EpochEnd, ListAt,
        retry::{self, Action, NONSENSE, is_nonsense, only_nonsense},
    },
    consumer::{
        buffer::State,
        event::Event,
        message::{Cell, Chunk},
        partition::{Partition, Phase, Pins, Task},
    },
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    offset::{Isolation, OutOfRange, StartAt},
};

/// What preparing came to.
pub(super) enum Prepared {
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

impl Fetcher {
    #[allow(clippy::disallowed_methods, reason = "trouble is told since when")]
    pub(super) fn prepare(&self, task: &Task, epoch: u64) {
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

    pub(super) fn prepared(&self, state: &mut State, prepared: Prepared) {
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

//! When to commit, and what. One commit is under way at a time, so that a later one cannot be overtaken by an earlier.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;

use super::offsets;
use crate::{
    cluster::{Action, Backoff, action, retry::next_random},
    consumer::{buffer::Slot, handover::Progress},
    error::Error,
    offset::TopicPartition,
};

/// The outcome for each partition that had something to commit.
pub(crate) type Outcome = HashMap<TopicPartition, Result<i64, Error>>;

/// Told when the commit that it is part of is over; until this time.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub tell: Sender<Outcome>,
    pub until: Instant,
}

/// What an answer came to.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// Refused for good; tried again with the next commit, if the partition is still ours.
    pub failed: Vec<(Progress, Error)>,
    /// A code that concerns the membership or the coordinator.
    pub refused: Option<i16>,
    /// The coordinator cannot take it now; it is being tried again.
    pub delayed: Option<Error>,
}

#[derive(Debug)]
pub(crate) struct Committer {
    interval: Option<Duration>,
    backoff: Backoff,
    random: u64,
    next_tick: Option<Instant>,
    /// What the group has of us.
    committed: HashMap<Slot, i64>,
    /// To be committed with the next request, whether or not it is still in the stream.
    queued: BTreeMap<Slot, Progress>,
    /// Somebody wants all that was acked until now.
    wanted: bool,
    waiting: Vec<Waiter>,
    current: Option<Batch>,
    failures: u32,
    not_before: Option<Instant>,
}

/// One commit, from the first try to the last answer.
#[derive(Debug)]
struct Batch {
    left: BTreeMap<Slot, Progress>,
    is_sent: bool,
    /// How often the coordinator had no word for some of it.
    stumbles: u32,
    outcome: Outcome,
    waiters: Vec<Waiter>,
}

impl Committer {
    pub(crate) fn new(interval: Option<Duration>, backoff: Backoff, random: u64, now: Instant) -> Self {
        Self {
            interval,
            backoff,
            random,
            next_tick: interval.map(|interval| now + interval),
            committed: HashMap::new(),
            queued: BTreeMap::new(),
            wanted: false,
            waiting: Vec::new(),
            current: None,
            failures: 0,
            not_before: None,
        }
    }

    /// Commits all that is acked by now, at once.
    pub(crate) fn want(&mut self, waiter: Option<Waiter>, now: Instant) {
        self.wanted = true;
        // Those who have gone away must not pile up.
        self.waiting.retain(|waiter| waiter.until > now);
        self.waiting.extend(waiter);
    }

    /// Commits these, which are given up, before anything else.
    pub(crate) fn queue(&mut self, progress: impl IntoIterator<Item = Progress>) {
        let progress = progress.into_iter().map(|progress| (progress.slot, progress));
        self.queued.extend(progress);
    }

    /// The same offsets mean something else now: nothing is committed of this partition, and nothing is to be.
    pub(crate) fn forget(&mut self, slot: Slot) {
        self.committed.remove(&slot);
        self.queued.remove(&slot);
        if let Some(batch) = &mut self.current {
            batch.left.remove(&slot);
        }
    }

    /// When [`next`](Self::next) may have something to send.
    pub(crate) fn timer(&self) -> Option<Instant> {
        match &self.current {
            Some(batch) if batch.is_sent => None,
            Some(_) => self.not_before,
            None if self.wanted || !self.queued.is_empty() => self.not_before,
            None => self.next_tick,
        }
    }

    /// Whether nothing is left to be committed of what was queued or wanted.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.is_none() && self.queued.is_empty() && !self.wanted
    }

    /// What to send now. `progress` tells what may be committed; it is asked only when it matters.
    pub(crate) fn next(&mut self, now: Instant, progress: impl FnOnce() -> Vec<Progress>) -> Option<Vec<Progress>> {
        let is_due = self.next_tick.is_some_and(|at| at <= now);
        if is_due {
            self.next_tick = self.interval.map(|interval| now + interval);
        }
        if self.current.as_ref().is_some_and(|batch| batch.is_sent) {
            self.wanted |= is_due;
            return None;
        }
        if self.not_before.is_some_and(|at| at > now) {
            self.wanted |= is_due;
            return None;
        }
        let fresh = is_due || self.wanted || !self.queued.is_empty();
        if self.current.is_none() && !fresh {
            return None;
        }
        let mut batch = self.current.take().unwrap_or_else(|| Batch {
            left: BTreeMap::new(),
            is_sent: false,
            stumbles: 0,
            outcome: Outcome::new(),
            waiters: Vec::new(),
        });
        if fresh {
            let progress = progress().into_iter().map(|progress| (progress.slot, progress));
            for (slot, progress) in progress.chain(std::mem::take(&mut self.queued)) {
                // What was tried and not answered may have changed what the group has.
                let is_known = self.committed.get(&slot) == Some(&progress.offset);
                if !is_known || batch.left.contains_key(&slot) {
                    batch.left.insert(slot, progress);
                }
            }
            batch.waiters.append(&mut self.waiting);
            self.wanted = false;
        }
        if batch.left.is_empty() {
            batch.finish();
            return None;
        }
        batch.is_sent = true;
        let progress = batch.left.values().cloned().collect();
        self.current = Some(batch);
        Some(progress)
    }

    /// The answer to what [`next`](Self::next) gave: a code for each partition.
    pub(crate) fn answered(&mut self, codes: &BTreeMap<TopicPartition, i16>, now: Instant) -> Answered {
        let mut answered = Answered::default();
        let Some(mut batch) = self.current.take() else {
            return answered;
        };
        batch.is_sent = false;
        // A broker that has stumbled may do better next time; not for ever.
        let code_of = |progress: &Progress| codes.get(&progress.name).copied().unwrap_or(UNKNOWN_SERVER_ERROR);
        let has_stumbled = batch
            .left
            .values()
            .any(|progress| code_of(progress) == UNKNOWN_SERVER_ERROR);
        batch.stumbles += u32::from(has_stumbled);
        let forgives = batch.stumbles <= STUMBLES;
        let mut retries = false;
        for (slot, progress) in std::mem::take(&mut batch.left) {
            match code_of(&progress) {
                0 => {
                    self.committed.insert(slot, progress.offset);
                    batch.outcome.insert(progress.name, Ok(progress.offset));
                }
                code if concerns_membership(code) => {
                    answered.refused = Some(code);
                    if matches!(code, COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR) {
                        answered.delayed = Some(offsets::refused(&progress.name, code));
                    }
                    retries = true;
                    batch.left.insert(slot, progress);
                }
                code => {
                    let error = offsets::refused(&progress.name, code);
                    if action(&error) == Action::Wait || code == UNKNOWN_SERVER_ERROR && forgives {
                        answered.delayed = Some(error);
                        retries = true;
                        batch.left.insert(slot, progress);
                    } else {
                        batch.outcome.insert(progress.name.clone(), Err(error.clone()));
                        answered.failed.push((progress, error));
                    }
                }
            }
        }
        if retries {
            self.current = Some(batch);
            self.retry(now);
        } else {
            batch.finish();
            self.failures = 0;
            self.not_before = None;
        }
        answered
    }

    /// The connection broke before the answer came: whether it counts is not known, and it may be sent again.
    pub(crate) fn interrupted(&mut self, now: Instant) {
        if let Some(batch) = self.current.as_mut().filter(|batch| batch.is_sent) {
            batch.is_sent = false;
            self.retry(now);
        }
    }

    fn retry(&mut self, now: Instant) {
        self.failures += 1;
        self.random = next_random(self.random);
        self.not_before = Some(now + self.backoff.delay(self.failures, self.random));
    }

    /// Nothing of what was not answered can be committed any more. Gives what that is.
    pub(crate) fn give_up(&mut self, cause: &Error) -> Vec<Progress> {
        let mut batch = self.current.take();
        let mut lost: BTreeMap<Slot, Progress> = BTreeMap::new();
        if let Some(batch) = &mut batch {
            lost.append(&mut batch.left);
        }
        lost.append(&mut self.queued);
        let mut outcome = batch
            .as_mut()
            .map(|batch| std::mem::take(&mut batch.outcome))
            .unwrap_or_default();
        for progress in lost.values() {
            let error = cause
                .clone()
                .for_partition(progress.name.topic(), progress.name.partition());
            outcome.insert(progress.name.clone(), Err(error));
        }
        let early = batch.map(|batch| batch.waiters).unwrap_or_default();
        for waiter in early.into_iter().chain(self.waiting.drain(..)) {
            waiter.tell.try_send(outcome.clone()).ok(); // who has gone away waits no more
        }
        self.wanted = false;
        self.committed.clear();
        self.failures = 0;
        self.not_before = None;
        lost.into_values().collect()
    }

    /// Whether something is on its way, or waits for it.
    pub(crate) fn has_some(&self) -> bool {
        self.current.is_some() || !self.queued.is_empty()
    }

    /// What was acked and is not committed.
    pub(crate) fn uncommitted(&self) -> Vec<Progress> {
        let current = self.current.iter().flat_map(|batch| batch.left.values());
        current.chain(self.queued.values()).cloned().collect()
    }
}

impl Batch {
    fn finish(self) {
        for waiter in self.waiters {
            waiter.tell.try_send(self.outcome.clone()).ok(); // who has gone away waits no more
        }
    }
}

const UNKNOWN_SERVER_ERROR: i16 = -1;
/// A partition that the coordinator has no word for is committed again so often.
const STUMBLES: u32 = 3;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;

/// Not about a partition, but about who we are or whom we ask.
fn concerns_membership(code: i16) -> bool {
    const ILLEGAL_GENERATION: i16 = 22;
    const UNKNOWN_MEMBER_ID: i16 = 25;
    const REBALANCE_IN_PROGRESS: i16 = 27;
    const FENCED_INSTANCE_ID: i16 = 82;
    matches!(
        code,
        COORDINATOR_NOT_AVAILABLE
            | NOT_COORDINATOR
            | ILLEGAL_GENERATION
            | UNKNOWN_MEMBER_ID
            | REBALANCE_IN_PROGRESS
            | FENCED_INSTANCE_ID
    )
}

#[cfg(test)]
mod tests;

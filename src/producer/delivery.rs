//! What a caller may wait on: the outcome of a record.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Condvar, Mutex};

use super::{
    callbacks,
    inbox::Inbox,
    ledger::Ledger,
    partition::Partition,
    queue::{Appended, Outcome},
    report::RecordMetadata,
    sender::send_at_once,
};
use crate::{
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    thread,
};

/// A record on its way to the broker.
///
/// Dropping it changes nothing: the record is sent all the same. Should it fail then, [`flush`](crate::Producer::flush) says
/// so.
///
/// ```no_run
/// # use std::time::Duration;
/// # use klamm::{Client, Record};
/// # fn main() -> klamm::Result<()> {
/// let producer = Client::connect("localhost:9092")?.producer().build()?;
/// let delivery = producer.send(Record::to("orders").key("42").value("two coffees"))?;
/// let written = delivery.wait(Duration::from_secs(10))?;
/// println!("orders-{} at {:?}", written.partition, written.offset);
/// # Ok(())
/// # }
/// ```
pub struct Delivery {
    fate: Arc<Fate>,
    index: u32,
    /// The record's own, in milliseconds.
    timestamp: i64,
    /// Somebody was told.
    told: AtomicBool,
}

impl Delivery {
    pub(super) fn new(fate: Arc<Fate>, index: u32, timestamp: i64) -> Self {
        Self {
            fate,
            index,
            timestamp,
            told: AtomicBool::new(false),
        }
    }

    /// Waits until the broker has acknowledged the record, or refused it, or klamm has given up. While somebody waits, the
    /// record's batch does not linger.
    ///
    /// After a time-out it may be called again; after an outcome it tells the same again.
    ///
    /// # Errors
    ///
    /// - [`TimedOut`](ErrorKind::TimedOut), naming `timeout`, when there is no outcome yet; naming `delivery_timeout` when
    ///   the record was given up without ever having been sent.
    /// - [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when it was sent and given up: the broker may have it.
    /// - [`WouldDeadlock`](ErrorKind::WouldDeadlock) in a delivery callback, when there is no outcome yet.
    /// - What the broker said, such as [`TooLarge`](ErrorKind::TooLarge) or [`Authorization`](ErrorKind::Authorization).
    pub fn wait(&self, timeout: Duration) -> Result<RecordMetadata> {
        let outcome = match self.fate.outcome(self.index) {
            Some(outcome) => outcome,
            None if thread::is_ours() => {
                return Err(would_deadlock("waiting for a delivery"));
            }
            None => self.fate.wait(self.index, &Deadline::after(timeout, "timeout"))?,
        };
        self.told.store(true, Ordering::Relaxed);
        self.fate.metadata(outcome, self.timestamp)
    }

    /// The outcome, if there is one; does not wait.
    pub fn poll(&self) -> Option<Result<RecordMetadata>> {
        let outcome = self.fate.outcome(self.index)?;
        self.told.store(true, Ordering::Relaxed);
        Some(self.fate.metadata(outcome, self.timestamp))
    }

    /// Waits for all of them, together no longer than `timeout`: one result per delivery, in their order.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use klamm::{Client, Delivery, Record};
    /// # fn main() -> klamm::Result<()> {
    /// # let producer = Client::connect("localhost:9092")?.producer().build()?;
    /// let deliveries: Vec<Delivery> =
    ///     ["a", "b"].into_iter().map(|value| producer.send(Record::to("orders").value(value))).collect::<Result<_, _>>()?;
    /// for result in Delivery::wait_all(&deliveries, Duration::from_secs(10)) {
    ///     println!("{:?}", result?.offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_all<'a>(
        deliveries: impl IntoIterator<Item = &'a Self>,
        timeout: Duration,
    ) -> Vec<Result<RecordMetadata>> {
        let deadline = Deadline::after(timeout, "timeout");
        let deliveries: Vec<&Self> = deliveries.into_iter().collect();
        for delivery in &deliveries {
            // One request may carry them all.
            if let Some(inbox) = delivery.fate.hasten() {
                inbox.wake();
            }
        }
        let wait = |delivery: &&Self| delivery.wait(deadline.remaining());
        deliveries.iter().map(wait).collect()
    }

    /// The topic it goes to.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.fate.topic
    }

    /// The partition it goes to.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.fate.partition
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({}-{}", self.fate.topic, self.fate.partition)?;
        match self.fate.outcome(self.index) {
            None => f.write_str(")"),
            Some(Ok(appended)) => write!(f, ": {:?})", appended.offset),
            Some(Err(error)) => write!(f, ": {error})"),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !*self.told.get_mut() {
            self.fate.drop_delivery(self.index);
        }
    }
}

pub(super) fn would_deadlock(what: &str) -> Error {
    Error::new(
        ErrorKind::WouldDeadlock,
        format!("{what} on one of klamm's own threads, as in a delivery callback, would wait for that very thread"),
    )
}

/// What becomes of the records of a batch, as callers filled it. When it is taken apart, its pieces report here.
pub(super) struct Fate {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// When it is given up.
    deadline: Instant,
    home: Weak<Partition>,
    ledger: Arc<Ledger>,
    /// The same as `unwatched`, for those whose deliveries are dropped one behind the other before there is an outcome:
    /// they need no lock.
    dropped: Run,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Records whose outcome nobody will ask for.
    unwatched: Vec<Range<u32>>,
    outcomes: Vec<(Range<u32>, Outcome)>,
    callbacks: Vec<(u32, i64, Callback)>,
}

/// What a program wants to be called with the outcome of a record.
pub(super) type Callback = Box<dyn FnOnce(Result<RecordMetadata>) + Send>;

impl Fate {
    pub(super) fn new(home: &Arc<Partition>, deadline: Instant, ledger: &Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self {
            topic: Arc::clone(&home.topic),
            partition: home.index,
            deadline,
            home: Arc::downgrade(home),
            ledger: Arc::clone(ledger),
            dropped: Run::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Nobody will ask for the outcome of these records.
    pub(super) fn unwatch(&self, records: Vec<Range<u32>>) {
        if !records.is_empty() {
            self.state.lock().unwatched.extend(records);
        }
    }

    pub(super) fn call_back(&self, index: u32, timestamp: i64, callback: Callback) {
        self.state.lock().callbacks.push((index, timestamp, callback));
    }

    /// The outcome of these records; what is to be called with it.
    pub(super) fn settle(&self, records: Range<u32>, outcome: &Outcome) -> Vec<callbacks::Call> {
        let mut state = self.state.lock();
        // A `Delivery` that is dropped from here on sees a failure itself.
        state.unwatched.extend(self.dropped.close());
        let mut unwatched = state.unwatched.iter();
        let is_unwatched = unwatched.any(|those| those.start < records.end && records.start < those.end);
        state.outcomes.push((records.clone(), outcome.clone()));
        let (due, later) = std::mem::take(&mut state.callbacks)
            .into_iter()
            .partition(|(index, ..)| records.contains(index));
        state.callbacks = later;
        drop(state);
        if let Some(error) = outcome.as_ref().err().filter(|_| is_unwatched) {
            self.untold(error);
        }
        self.changed.notify_all();
        let call = |(index, timestamp, callback)| {
            let outcome = at(outcome, index - records.start);
            callbacks::Call::new(callback, self.metadata(outcome, timestamp))
        };
        let due: Vec<_> = due;
        due.into_iter().map(call).collect()
    }

    fn outcome(&self, index: u32) -> Option<Outcome> {
        find(&self.state.lock(), index)
    }

    fn out_of_time(&self, deadline: &Deadline) -> Error {
        let error = deadline.error("a record to be acknowledged");
        let error = error.for_partition(&self.topic, self.partition);
        match self.home.upgrade().and_then(|home| home.blamed()) {
            Some(blamed) => error.after_last(&blamed).retriable(true),
            None => error,
        }
    }

    fn wait(&self, index: u32, deadline: &Deadline) -> Result<Outcome> {
        if let Some(inbox) = self.hasten() {
            send_at_once(&inbox);
        }
        let mut state = self.state.lock();
        loop {
            if let Some(outcome) = find(&state, index) {
                return Ok(outcome);
            }
            let until = deadline.at().min(self.deadline);
            if !self.changed.wait_until(&mut state, until).timed_out() {
                continue;
            }
            if deadline.at() <= self.deadline || deadline.has_passed() {
                let outcome = find(&state, index);
                drop(state); // the partition's lock is taken before it
                return outcome.ok_or_else(|| self.out_of_time(deadline));
            }
            drop(state);
            match self.home.upgrade() {
                Some(home) => home.expire_now(),
                None => return Err(Error::closed("producer")),
            }
            state = self.state.lock();
            if find(&state, index).is_none() {
                // Whoever has the batch in hand right now is about to tell.
                self.changed.wait_until(&mut state, deadline.at());
            }
        }
    }

    /// Somebody waits: the batch must not linger. Gives whose sender has something to send now.
    fn hasten(&self) -> Option<Arc<Inbox>> {
        self.home.upgrade()?.hasten(self)
    }

    #[inline]
    fn drop_delivery(&self, index: u32) {
        if !self.dropped.extend(index) {
            self.drop_with_a_look(index);
        }
    }

    fn drop_with_a_look(&self, index: u32) {
        let mut state = self.state.lock();
        match find(&state, index) {
            None => add(&mut state.unwatched, index),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                drop(state);
                self.untold(&error);
            }
        }
    }

    fn untold(&self, error: &Error) {
        let error = error.clone().for_partition(&self.topic, self.partition);
        self.ledger.untold(&error);
    }

    fn metadata(&self, outcome: Outcome, timestamp: i64) -> Result<RecordMetadata> {
        let appended = outcome.map_err(|error| error.for_partition(&self.topic, self.partition))?;
        Ok(RecordMetadata {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset: appended.offset,
            timestamp: system_time(appended.timestamp.unwrap_or(timestamp)),
        })
    }
}

/// Records in a row, in one number: the first, and the one behind the last.
#[derive(Default)]
struct Run(AtomicU64);

impl Run {
    /// No batch has so many records.
    const CLOSED: u64 = u64::MAX;

    /// Says whether the record has come to the run.
    #[inline]
    fn extend(&self, index: u32) -> bool {
        let run = self.0.load(Ordering::Acquire);
        let (first, end) = (run >> 32, run & u64::from(u32::MAX));
        let index = u64::from(index);
        let first = match end {
            _ if run == Self::CLOSED => return false,
            _ if first == end => index,
            _ if end == index => first,
            _ => return false,
        };
        let longer = first << 32 | (index + 1);
        let exchanged = self
            .0
            .compare_exchange(run, longer, Ordering::AcqRel, Ordering::Relaxed);
        exchanged.is_ok()
    }

    /// From now on nothing comes to it. Gives what it was, the first time.
    fn close(&self) -> Option<Range<u32>> {
        let run = self.0.swap(Self::CLOSED, Ordering::AcqRel);
        let (first, end) = ((run >> 32) as u32, run as u32);
        Some(first..end).filter(|run| !run.is_empty())
    }
}

/// One more record, as a rule the one behind the last.
pub(super) fn add(records: &mut Vec<Range<u32>>, index: u32) {
    match records.last_mut() {
        Some(last) if last.end == index => last.end += 1,
        _ => records.push(index..index + 1),
    }
}

fn find(state: &State, index: u32) -> Option<Outcome> {
    let (records, outcome) = state.outcomes.iter().find(|(records, _)| records.contains(&index))?;
    Some(at(outcome, index - records.start))
}

/// The outcome of a record that lies so far behind the first one.
fn at(outcome: &Outcome, behind_first: u32) -> Outcome {
    outcome.clone().map(|appended| Appended {
        offset: appended.offset.map(|first| first + i64::from(behind_first)),
        ..appended
    })
}

fn system_time(milliseconds: i64) -> SystemTime {
    let since = Duration::from_millis(milliseconds.unsigned_abs());
    let time = if milliseconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(since)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(since)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

impl fmt::Debug for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fate({}-{})", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_takes_what_follows_it_and_nothing_after_its_end() {
        let run = Run::default();
        assert!(run.extend(7) && run.extend(8));
        assert!(!run.extend(8) && !run.extend(6) && !run.extend(10));
        assert_eq!(run.close(), Some(7..9));
        assert!(!run.extend(9));
        assert_eq!(run.close(), None);
        assert_eq!(Run::default().close(), None);
    }

    proptest! {
        /// What a run does not take goes another way: together they are all that was dropped.
        #[test]
        fn no_drop_is_forgotten(dropped in prop::collection::vec(0..20_u32, 0..30), closed_after in 0..30_usize) {
            let run = Run::default();
            let (mut with_a_look, mut taken) = (Vec::new(), None);
            for (at, &index) in dropped.iter().enumerate() {
                if at == closed_after {
                    taken = run.close();
                }
                if !run.extend(index) {
                    with_a_look.push(index);
                }
            }
            let taken = taken.or_else(|| run.close());
            let seen = taken.into_iter().flatten().chain(with_a_look);
            let (mut seen, mut expected): (Vec<u32>, _) = (seen.collect(), dropped);
            seen.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
        }
    }
}

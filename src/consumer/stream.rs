//! Stream: records of many partitions, one after the other.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    buffer::Shared,
    event::{Event, Events, Health, Problem},
    iter::{Batches, Iter},
    keeper,
    message::{Batch, Message},
    partition::{Phase, Pins, Task},
};
use crate::{
    client::ClientHold,
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    offset::{Isolation, StartAt, TopicPartition},
    thread::Worker,
};

/// How long a dropped stream may take to end its threads.
const DROP_LIMIT: Duration = Duration::from_secs(5);
const DROP_LIMIT_IN_PANIC: Duration = Duration::from_secs(1);

/// Records of one or more partitions, as an iterator.
///
/// Iterate it by value for the usual `for` loop, or by reference, also from several threads at once: each iterator has
/// one partition at a time to itself, so that order within a partition always holds.
///
/// One that [joined a group](crate::GroupBuilder::join) reads what the group assigns to it, and commits what the program has
/// done; one that a [reader](crate::ReaderBuilder) opened reads what it was told to, and commits nothing.
///
/// What is prefetched is bounded per partition and in total; a partition that nobody reads from holds up no other. All
/// trouble with brokers is retried inside. An `Err` concerns one partition, which then waits for a
/// [`seek`](Self::seek), or, when it is not retriable by anybody (authentication), ends the stream.
///
/// ```no_run
/// # fn main() -> klamm::Result<()> {
/// # let client = klamm::Client::connect("localhost:9092")?;
/// let stream = client.reader().topics(["orders"]).open()?;
/// for message in &stream {
///     let message = message?;
///     println!("{}-{}: {:?}", message.topic(), message.partition(), message.key());
/// }
/// # Ok(()) }
/// ```
///
/// Dropping it ends its threads, within 5 s (1 s while panicking); [`close`](Self::close) does the same and reports.
pub struct Stream {
    shared: Arc<Shared>,
    keeper: Mutex<Option<Worker>>,
    group: Option<Box<dyn Membership>>,
    client: ClientHold,
}

/// What a stream can have its group do. It is here, and not in `group`, since that is built on top of streams.
pub(crate) trait Membership: Send + Sync {
    /// Commits what is acked by now, and waits for the outcome.
    fn commit(&self, deadline: &Deadline) -> Result<HashMap<TopicPartition, Result<i64>>>;
    fn commit_soon(&self);
    fn committed(&self, partitions: &[TopicPartition], deadline: &Deadline) -> Result<HashMap<TopicPartition, i64>>;
    fn health(&self) -> GroupHealth;
    /// Commits, leaves and ends the thread; the second time there is nothing left to do.
    fn close(&self, deadline: &Deadline) -> (Result<()>, Farewell);
}

/// How a group is doing.
pub(crate) struct GroupHealth {
    pub problems: Vec<Problem>,
    pub is_rebalancing: bool,
}

/// What a group member leaves behind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Farewell {
    pub unfinished: Vec<(TopicPartition, i64)>,
    pub uncommitted: Vec<(TopicPartition, i64)>,
    pub left_group: bool,
}

/// What a closed stream has left behind: [`Stream::close`].
///
/// ```no_run
/// # use std::time::Duration;
/// # fn f(stream: klamm::Stream) -> klamm::Result<()> {
/// let report = stream.close(Duration::from_secs(10))?;
/// for (partition, offset) in &report.unfinished {
///     println!("{partition} will begin at {offset} again: that was given out, and not acked");
/// }
/// if !report.uncommitted.is_empty() {
///     println!("done, but to come again, since the group could not be told: {:?}", report.uncommitted);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CloseReport {
    /// Records that were prefetched and that no iterator has given out, per partition: where to go on. In a group they
    /// come again by themselves.
    pub unread: Vec<(TopicPartition, i64)>,
    /// Of a group: the oldest message of each partition that was given out and not acked. It comes again.
    pub unfinished: Vec<(TopicPartition, i64)>,
    /// Of a group: what was acked and could not be committed any more, as the next offset to read.
    pub uncommitted: Vec<(TopicPartition, i64)>,
    /// Of a group: whether its coordinator knows that this member has left. Else it notices after the session timeout, and
    /// a static member never leaves by closing.
    pub left_group: bool,
}

/// Closes a stream from anywhere: another thread, or a signal handler's thread.
#[derive(Clone)]
pub struct Closer {
    // A handle that is kept for ever, as by a signal handler, keeps nothing else.
    shared: Weak<Shared>,
}

impl Closer {
    /// Signals the end, and returns at once: iterators end with `None`, also those that wait. More than once is fine.
    ///
    /// A member of a group keeps its partitions until [`Stream::close`], or until the stream is dropped: what the program has in
    /// hand may be finished and acked in between, with [`Message::ack`].
    pub fn close(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.close();
        }
    }
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closer").finish_non_exhaustive()
    }
}

impl Stream {
    /// A stream without a group.
    pub(crate) fn alone(shared: Arc<Shared>, client: ClientHold) -> Result<Self> {
        let stream = Self {
            shared,
            keeper: Mutex::new(None),
            group: None,
            client,
        };
        stream.keep()?;
        Ok(stream)
    }

    /// A stream of what a group assigns.
    pub(crate) fn start(
        shared: Arc<Shared>,
        client: ClientHold,
        join: impl FnOnce(&Arc<Shared>) -> Result<Box<dyn Membership>>,
    ) -> Result<Self> {
        let mut stream = Self::alone(shared, client)?;
        stream.group = Some(join(&stream.shared)?);
        Ok(stream)
    }

    fn keep(&self) -> Result<()> {
        // Should a thread not start, dropping the stream ends those that did.
        let keeper = keeper::start(&self.shared)?;
        *self.keeper.lock() = Some(keeper);
        self.client.register(&self.shared);
        Ok(())
    }

    /// An iterator over the messages; as many as there are threads may be used at a time.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter::borrowed(Arc::clone(&self.shared), self)
    }

    /// Iterates over batches: all that was decoded together, of one partition. Asking for the next one says that the
    /// last one is done, as with messages.
    #[must_use]
    pub fn batches(&self) -> Batches<'_> {
        Batches::new(self.iter())
    }

    /// Moves one partition to another place. What was prefetched or is in an iterator's hand is forgotten: the next
    /// message of this partition is the first one at the new place. Acks of earlier messages are refused; in a group, the
    /// first ack of a later one may lower the committed offset. A rebalance ends it: whoever gets the partition begins
    /// where the group has committed.
    ///
    /// It returns at once; a place that must be looked up (all but `Offset`) is resolved in the background.
    ///
    /// # Errors
    ///
    /// `Config` when this partition is not of this stream or the place is invalid, `Closed`.
    pub fn seek(&self, partition: impl Into<TopicPartition>, to: StartAt) -> Result<()> {
        to.check()?;
        let mut state = self.open_state()?;
        let slot = self.shared.find(&state, &partition.into())?;
        if let Some(partition) = state.partitions.get_mut(&slot) {
            partition.pins = Pins::Never;
        }
        self.shared.restart(&mut state, slot, to);
        Ok(())
    }

    /// Gives nothing more of these partitions until [`resume`](Self::resume). What was prefetched is kept.
    ///
    /// A message that an iterator has already given out stays valid. In a group, a rebalance ends it: this concerns the
    /// partitions that this member has now.
    ///
    /// # Errors
    ///
    /// `Config` when one is not of this stream (then none is paused), `Closed`.
    pub fn pause<T: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = T>) -> Result<()> {
        self.set_paused(partitions, true)
    }

    /// Ends [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// As `pause`.
    pub fn resume<T: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = T>) -> Result<()> {
        self.set_paused(partitions, false)
    }

    fn set_paused<T: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = T>, paused: bool) -> Result<()> {
        let mut state = self.open_state()?;
        let slots = partitions
            .into_iter()
            .map(|partition| self.shared.find(&state, &partition.into()));
        for slot in slots.collect::<Result<Vec<_>>>()? {
            let Some(partition) = state.partitions.get_mut(&slot) else {
                continue;
            };
            partition.paused = paused;
            if paused && partition.leased.is_some() {
                partition.cell.recall.store(true, Ordering::Release);
            }
            if !paused {
                self.shared.offer(&mut state, slot);
                self.shared.kick(&mut state, slot);
            }
        }
        Ok(())
    }

    /// The partitions that this stream reads, in order. Of a group: those that it has given to this member, which are none
    /// before the first assignment and during a rebalance.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        let mut all: Vec<_> = self.shared.lock().index.keys().cloned().collect();
        all.sort_unstable();
        all
    }

    /// The next offset that an iterator will give, for each of these partitions.
    ///
    /// It waits, up to `request_timeout`, for places that are still being looked up.
    ///
    /// # Errors
    ///
    /// `Config` when one is not of this stream, `TimedOut`, `Closed`; `WouldDeadlock` when it would have to wait on one of
    /// klamm's own threads (in a logger).
    pub fn position<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
    ) -> Result<HashMap<TopicPartition, i64>> {
        let deadline = Deadline::after(self.shared.cluster.config().request_timeout, "request_timeout");
        let mut state = self.open_state()?;
        let mut found = HashMap::new();
        for partition in partitions {
            let name = partition.into();
            let slot = self.shared.find(&state, &name)?;
            loop {
                if state.is_ended() {
                    return Err(Error::closed("stream"));
                }
                let Some(partition) = state.partitions.get(&slot) else {
                    break;
                };
                if let (Phase::Failed, -1, Some(trouble)) =
                    (&partition.phase, partition.delivered(), &partition.trouble)
                {
                    // It never got as far as a position.
                    return Err(trouble.error.clone());
                }
                if !matches!(
                    partition.phase,
                    Phase::Preparing {
                        task: Task::Start(_),
                        ..
                    }
                ) {
                    found.insert(name, partition.delivered());
                    break;
                }
                may_wait()?;
                if !self.shared.wait_settled(&mut state, deadline.at()) {
                    return Err(deadline.error(&format!("the position of {name}")));
                }
            }
        }
        Ok(found)
    }

    /// How many offsets each partition is behind its end, as its last answer told; 0 when all has been read.
    ///
    /// Under read committed the end is the last stable offset. Partitions that have not been fetched from yet are asked
    /// for.
    ///
    /// # Errors
    ///
    /// As [`position`](Self::position), and what goes wrong in asking.
    pub fn lag(&self) -> Result<HashMap<TopicPartition, u64>> {
        let positions = loop {
            match self.position(self.assignment()) {
                // A group has taken one away meanwhile.
                Err(error) if error.kind() == ErrorKind::Config => {}
                positions => break positions?,
            }
        };
        let deadline = Deadline::after(self.shared.cluster.config().request_timeout, "request_timeout");
        let isolation = self.shared.config.isolation;
        let mut lags = HashMap::new();
        for (name, position) in positions {
            let known = {
                let state = self.open_state()?;
                let partition = state.index.get(&name).and_then(|slot| state.partitions.get(slot));
                partition
                    .and_then(|partition| partition.ends)
                    .map(|ends| ends.readable(isolation))
            };
            let end = match known {
                Some(end) => end,
                None => self.ask_end(&name, isolation, &deadline)?,
            };
            lags.insert(name, u64::try_from(end.saturating_sub(position)).unwrap_or(0));
        }
        Ok(lags)
    }

    fn ask_end(&self, name: &TopicPartition, isolation: Isolation, deadline: &Deadline) -> Result<i64> {
        may_wait()?;
        let deadline = deadline.clone().with_stop(&self.shared.stop);
        let at = crate::cluster::ListAt::Latest;
        let listed = self
            .shared
            .cluster
            .list_offset(name.topic(), name.partition(), at, isolation, &deadline)?;
        Ok(listed.map_or(0, |listed| listed.offset))
    }

    /// Acks every message of this partition that was given out, up to this offset and with it: for a program that finishes
    /// messages in order, and keeps no [`Message`]. It takes the offset of a message that was processed, not the next one.
    ///
    /// ```no_run
    /// # use klamm::AckMode;
    /// # fn store(lines: &mut Vec<String>) -> klamm::Result<()> { lines.clear(); Ok(()) }
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// let stream = client.group("archive").topics(["orders"]).ack_mode(AckMode::Explicit).join()?;
    /// let mut lines = Vec::new();
    /// for message in &stream {
    ///     let message = message?;
    ///     lines.push(format!("{:?}", message.value()));
    ///     if message.offset() % 100 == 99 {
    ///         store(&mut lines)?; // may hold messages of other partitions, which are acked when their turn comes
    ///         stream.ack_through(message.topic(), message.partition(), message.offset())?;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `Config` when the partition is not one of this stream's (any more), the offset was not given out yet, or the stream
    /// has no group.
    pub fn ack_through(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let name = TopicPartition::new(topic, partition);
        // Also when iterators have ended: what a program has in hand then is still its own until `close`.
        let state = self.shared.lock();
        let slot = self.shared.find(&state, &name)?;
        let Some(partition) = state.partitions.get(&slot) else {
            return Ok(());
        };
        match partition.ack_through(offset) {
            None => Err(no_group()),
            Some(Ok(())) => {
                drop(state);
                self.shared.settle(slot);
                Ok(())
            }
            Some(Err(given)) => Err(Error::config(format!(
                "offset {offset} of {name} was not given out yet: the next one is {given}"
            ))),
        }
    }

    /// Commits what has been acked before this call, and waits until the group's coordinator has it. Nobody needs it for
    /// safety: what is acked is committed by itself, every [`commit_interval`](crate::GroupBuilder::commit_interval).
    ///
    /// With [`AckMode::OnNext`](crate::AckMode::OnNext), the message that the loop has in hand is not acked yet.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// let stream = client.group("billing").topics(["orders"]).join()?;
    /// for message in &stream {
    ///     let message = message?;
    ///     println!("{:?}", message.value());
    ///     if message.key() == Some(b"end of day") {
    ///         message.ack();
    ///         stream.commit(Duration::from_secs(10))?;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The first error of a partition (see [`commit_each`](Self::commit_each)); `TimedOut`, `Closed`; `Config` when the
    /// stream has no group; `WouldDeadlock` on one of klamm's own threads (in a logger).
    pub fn commit(&self, timeout: Duration) -> Result<()> {
        self.commit_each(timeout)?
            .into_values()
            .try_for_each(|result| result.map(drop))
    }

    /// The same, with the outcome for each partition that had something new to commit: the offset that was committed, which
    /// is the next one to read.
    ///
    /// # Errors
    ///
    /// When there is no outcome at all, as in [`commit`](Self::commit).
    pub fn commit_each(&self, timeout: Duration) -> Result<HashMap<TopicPartition, Result<i64>>> {
        let deadline = Deadline::after(timeout, "timeout");
        self.group()?.commit(&deadline)
    }

    fn group(&self) -> Result<&dyn Membership> {
        let group = self.group.as_deref().ok_or_else(no_group)?;
        may_wait()?;
        Ok(group)
    }

    /// Has what was acked committed at once, and does not wait for it. What goes wrong is an event.
    pub fn commit_async(&self) {
        if let Some(group) = &self.group {
            group.commit_soon();
        }
    }

    /// The committed offset of each of these partitions, as the group's coordinator knows it: the next one to read.
    /// One without a commit is not in the answer. They need not be assigned to this member.
    ///
    /// It waits up to `request_timeout`. Kafka: OffsetFetch.
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// let stream = client.group("billing").topics(["orders"]).join()?;
    /// let all = (0..client.partitions("orders")?).map(|partition| ("orders", partition));
    /// for (partition, next) in stream.committed(all)? {
    ///     println!("{partition}: everything below {next} is done");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `Config` when the stream has no group, `TimedOut`, `Closed`, `Authorization`.
    pub fn committed<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
    ) -> Result<HashMap<TopicPartition, i64>> {
        let limit = self.shared.cluster.config().request_timeout;
        let deadline = Deadline::after(limit, "request_timeout");
        let partitions: Vec<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        self.group()?.committed(&partitions, &deadline)
    }

    /// How the stream is doing, as of now; never waits. See [`Health`].
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "ages are a matter of now")]
    pub fn health(&self) -> Health {
        let group = self.group.as_ref().map(|group| group.health());
        let is_rebalancing = group.as_ref().is_some_and(|group| group.is_rebalancing);
        let mut problems = group.map(|group| group.problems).unwrap_or_default();
        let state = self.shared.lock();
        let now = Instant::now();
        if let Some(trouble) = &state.trouble {
            problems.push(Problem {
                partition: None,
                age: now - trouble.since,
                error: trouble.error.clone(),
            });
        }
        for partition in state.partitions.values() {
            if let Some(trouble) = &partition.trouble {
                let age = now.saturating_duration_since(trouble.since);
                problems.push(Problem {
                    partition: Some(partition.name.clone()),
                    age,
                    error: trouble.error.clone(),
                });
            }
            if let Some((oldest, age)) = keeper::stalled(partition, &self.shared.config, now) {
                let message = match partition.oldest_unfinished() {
                    Some(_) => format!(
                        "the program has finished nothing for {age:.1?}; the oldest message that it has not acked is {oldest}"
                    ),
                    None => format!("the program has taken nothing for {age:.1?}; it stands at offset {oldest}"),
                };
                let error = partition.cell.blame(Error::new(ErrorKind::TimedOut, message));
                problems.push(Problem {
                    partition: Some(partition.name.clone()),
                    age,
                    error,
                });
            }
        }
        if problems.is_empty() && is_rebalancing {
            Health::Rebalancing
        } else if problems.is_empty() {
            Health::Healthy
        } else {
            Health::Unhealthy(problems)
        }
    }

    /// What happens to the partitions. Nobody has to read it. See [`Event`].
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.shared.events))
    }

    /// A handle that ends this stream from elsewhere.
    #[must_use]
    pub fn closer(&self) -> Closer {
        Closer {
            shared: Arc::downgrade(&self.shared),
        }
    }

    /// Ends the stream: iterators (of other threads) end, what was acked is committed, the group is left, threads are
    /// joined. What the program has in hand and has not acked is reported, and not waited for; acks of it do not count any
    /// more. A member with an [`instance_id`](crate::GroupBuilder::instance_id) does not leave: it is expected back.
    ///
    /// # Errors
    ///
    /// `TimedOut` when a thread did not end in time (it will end by itself), `Internal` when one had panicked,
    /// `WouldDeadlock` on one of klamm's own threads, which then only signals the end. A commit that failed is no error
    /// of this call: the report tells.
    pub fn close(self, timeout: Duration) -> Result<CloseReport> {
        let (result, report) = self.shut(&Deadline::after(timeout, "timeout"));
        result.map(|()| report)
    }

    /// The most bytes that were prefetched at once, as the budget counts them.
    #[doc(hidden)]
    #[must_use]
    pub fn prefetch_peak(&self) -> usize {
        self.shared.lock().budget.peak()
    }

    fn open_state(&self) -> Result<parking_lot::MutexGuard<'_, super::buffer::State>> {
        let state = self.shared.lock();
        if state.is_ended() {
            Err(Error::closed("stream"))
        } else {
            Ok(state)
        }
    }

    /// Ends and joins everything; the second time there is nothing left to do.
    fn shut(&self, deadline: &Deadline) -> (Result<()>, CloseReport) {
        self.shared.close();
        let mut report = CloseReport {
            unread: self.unread(),
            ..CloseReport::default()
        };
        if crate::thread::is_ours() {
            let message = "a stream was closed on one of klamm's own threads: it ends by itself";
            return (Err(Error::new(ErrorKind::WouldDeadlock, message)), report);
        }
        let mut result = Ok(());
        if let Some(group) = &self.group {
            let (left, farewell) = group.close(deadline);
            result = left;
            report.unfinished = farewell.unfinished;
            report.uncommitted = farewell.uncommitted;
            report.left_group = farewell.left_group;
        }
        let keeper = self.keeper.lock().take();
        let kept = keeper.map_or(Ok(()), |mut keeper| keeper.join(deadline));
        result = result.and(kept);
        let workers = {
            let mut state = self.shared.lock();
            let mut workers = std::mem::take(&mut state.ending);
            workers.extend(state.lanes.values_mut().filter_map(|lane| lane.worker.take()));
            workers.extend(
                state
                    .partitions
                    .values_mut()
                    .filter_map(|partition| partition.fetcher.take()),
            );
            workers
        };
        for mut worker in workers {
            // The first failure is the cause.
            let joined = worker.join(deadline);
            result = result.and(joined);
        }
        (result, report)
    }

    fn unread(&self) -> Vec<(TopicPartition, i64)> {
        let state = self.shared.lock();
        let unread = state
            .partitions
            .values()
            .filter(|partition| !partition.chunks.is_empty());
        unread
            .map(|partition| (partition.name.clone(), partition.delivered()))
            .collect()
    }
}

/// What waits for klamm's threads must not be called on one of them, as in a logger.
fn may_wait() -> Result<()> {
    if crate::thread::is_ours() {
        let message = "this thread is one of klamm's own, which this call may have to wait for";
        return Err(Error::new(ErrorKind::WouldDeadlock, message));
    }
    Ok(())
}

fn no_group() -> Error {
    Error::config("this stream has no group: it was opened by a reader")
}

impl Drop for Stream {
    fn drop(&mut self) {
        let limit = if std::thread::panicking() {
            DROP_LIMIT_IN_PANIC
        } else {
            DROP_LIMIT
        };
        let (result, _) = self.shut(&Deadline::after(limit, "the limit of a drop"));
        if let Err(error) = result {
            log::warn!("dropping a stream: {error}");
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("assignment", &self.assignment())
            .finish_non_exhaustive()
    }
}

impl IntoIterator for Stream {
    type Item = Result<Message>;
    type IntoIter = Iter<'static>;

    fn into_iter(self) -> Iter<'static> {
        Iter::owned(Arc::clone(&self.shared), self)
    }
}

impl<'s> IntoIterator for &'s Stream {
    type Item = Result<Message>;
    type IntoIter = Iter<'s>;

    fn into_iter(self) -> Iter<'s> {
        self.iter()
    }
}

/// For the compiler: whether an event can travel between threads matters to users.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Stream>();
    shared::<Closer>();
    shared::<Event>();
    sent::<Message>();
    sent::<Batch>();
};

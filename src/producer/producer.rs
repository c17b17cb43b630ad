//! The handle that programs write with.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    append::{self, Patience, append},
    callbacks::Callbacks,
    config::{CLOSE_TIMEOUT, ProducerConfig},
    delivery::{Callback, Delivery, would_deadlock},
    keeper::Keeper,
    ledger::Ledger,
    memory::Memory,
    partition::{Env, Partition, Watch},
    queue::Rules,
    record::Record,
    report::{ProducerReport, RecordMetadata},
    shared::Shared,
};
use crate::{
    Client, TopicPartition,
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    stop::{Registration, Stop},
    thread::{self, Worker},
};

/// Writes records.
///
/// ```no_run
/// # use std::time::Duration;
/// # use klamm::{Client, Record};
/// # fn main() -> klamm::Result<()> {
/// let producer = Client::connect("localhost:9092")?.producer().build()?;
/// for order in 0..1_000 {
///     let order = order.to_string();
///     producer.send_detached(Record::to("orders").key(&order).value("two coffees"))?;
/// }
/// producer.flush(Duration::from_secs(30))?; // all of them are in the log, or this says why not
/// # Ok(())
/// # }
/// ```
///
/// Share it by reference or in an `Arc`: all of its methods may be called from any number of threads at a time.
///
/// # What is promised
///
/// With [`Acks::All`](crate::Acks::All), the default, and as long as brokers keep what they have acknowledged:
///
/// - What is acknowledged is in the log exactly once, and records of one partition lie there in the order in which they
///   were sent: by one thread, or by several that agree on an order among themselves.
/// - A [`Delivery`] has an outcome within [`delivery_timeout`](crate::ProducerBuilder::delivery_timeout) (120 s), and tells the
///   truth: an error means that the record is not in the log and will not be, but for
///   [`OutcomeUnknown`](ErrorKind::OutcomeUnknown).
/// - A record that fails does so alone. The producer stays usable for every partition, whatever happens.
/// - What it holds is bounded by [`buffer_bytes`](crate::ProducerBuilder::buffer_bytes) (64 MiB). When that is full, `send`
///   waits.
///
/// # Dropping
///
/// Dropping it waits up to 5 s for what was sent to be acknowledged (1 s during a panic); what was not is logged.
/// [`close`](Self::close) takes a time of your own, and says what is left.
pub struct Producer {
    shared: Arc<Shared>,
    keeper: Mutex<Option<Worker>>,
    /// The end of the client is the producer's end.
    _ending: Registration,
    _client: Client,
}

impl Producer {
    pub(super) fn start(client: Client, config: ProducerConfig) -> Result<Self> {
        let cluster = client.cluster().clone();
        let rules = Rules {
            idempotent: config.is_idempotent(),
            in_flight: config.in_flight_per_partition(),
            max_retries: config.max_retries,
            backoff: cluster.config().retry_backoff,
        };
        let shared = Arc::new_cyclic(|shared: &std::sync::Weak<Shared>| {
            let shared = std::sync::Weak::clone(shared);
            let memory = Memory::new(config.buffer_bytes, move || {
                if let Some(shared) = shared.upgrade() {
                    shared.wake_senders();
                }
            });
            let env = Env {
                rules,
                memory,
                ledger: Arc::new(Ledger::default()),
                callbacks: Callbacks::new(config.observer.clone()),
                closing: Stop::new("producer"),
                config,
            };
            Shared::new(Arc::new(env), cluster)
        });
        if shared.env.callbacks.is_observed() {
            shared.env.callbacks.start()?;
        }
        let keeper = Keeper::new(Arc::clone(&shared));
        let keeper = Worker::start("klamm-produce", move || keeper.run())?;
        let (closing, ended) = (shared.env.closing.clone(), shared.ended.clone());
        let ending = client.cluster().closing().on_stop(move || {
            closing.stop();
            ended.stop();
        });
        Ok(Self {
            shared,
            keeper: Mutex::new(Some(keeper)),
            _ending: ending,
            _client: client,
        })
    }

    /// Hands a record over, and returns as soon as it is in the buffer.
    ///
    /// Waits for what is needed to begin: the topic's metadata, the first time, and room in the buffer; together up to
    /// [`max_block`](crate::ProducerBuilder::max_block) (60 s). In a delivery callback it does not wait, as
    /// [`try_send`](Self::try_send).
    ///
    /// # Errors
    ///
    /// The record is not in the buffer then.
    ///
    /// - [`TimedOut`](ErrorKind::TimedOut) after `max_block`, naming what was waited for.
    /// - [`UnknownTopic`](ErrorKind::UnknownTopic), also for a partition that the topic does not have.
    /// - [`TooLarge`](ErrorKind::TooLarge) when it does not fit the buffer at all. What a broker finds too large is told by
    ///   the [`Delivery`].
    /// - [`Config`](ErrorKind::Config) when it names no topic, has a time before 1970, or a partitioner has chosen a partition
    ///   that there is not.
    /// - [`Closed`](ErrorKind::Closed) when the producer or its client was closed.
    pub fn send(&self, record: Record<'_>) -> Result<Delivery> {
        self.deliver(&record, None, Patience::of_send())
    }

    /// The same without waiting.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`BufferFull`](ErrorKind::BufferFull) when there is no room. A topic that was never
    /// written to is [`TimedOut`](ErrorKind::TimedOut) at first: its metadata is fetched meanwhile.
    pub fn try_send(&self, record: Record<'_>) -> Result<Delivery> {
        self.deliver(&record, None, Patience::Try)
    }

    /// Hands a record over, and calls `callback` with its outcome: on the delivery thread, in the order of the records of
    /// one partition.
    ///
    /// A callback may take its time: what it holds up are other callbacks and, when the buffer is full, `send`. A panic in
    /// it is logged, and harms nothing. Within it, `send` does not wait, and calls that wait are
    /// [`WouldDeadlock`](ErrorKind::WouldDeadlock).
    ///
    /// ```no_run
    /// # use klamm::{Client, Record};
    /// # fn main() -> klamm::Result<()> {
    /// # let producer = Client::connect("localhost:9092")?.producer().build()?;
    /// producer.send_with(Record::to("orders").value("two coffees"), |outcome| match outcome {
    ///     Ok(written) => println!("orders-{}: {:?}", written.partition, written.offset),
    ///     Err(error) => eprintln!("{error}"),
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); the callback is then dropped and not called.
    pub fn send_with(
        &self,
        record: Record<'_>,
        callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static,
    ) -> Result<()> {
        self.shared.env.callbacks.start()?;
        let callback: Callback = Box::new(callback);
        let mut watch = Some(Watch::Callback(callback));
        append(&self.shared, &record, None, &mut watch, &mut Patience::of_send()).map(drop)
    }

    /// Hands a record over, and does not want to know: [`flush`](Self::flush) tells whether one of them has failed. It waits
    /// for room like any other, so nothing is dropped.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_detached(&self, record: Record<'_>) -> Result<()> {
        let mut watch = Some(Watch::Nobody);
        append(&self.shared, &record, None, &mut watch, &mut Patience::of_send()).map(drop)
    }

    /// Hands over all of them: one result per record, in their order. A record that is refused keeps none of the others
    /// back. [`Delivery::wait_all`] waits for those that were taken.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use klamm::{Client, Record};
    /// # fn main() -> klamm::Result<()> {
    /// # let producer = Client::connect("localhost:9092")?.producer().build()?;
    /// let records = ["one", "two"].map(|value| Record::to("orders").value(value));
    /// for result in producer.send_all(records) {
    ///     let written = result?.wait(Duration::from_secs(10))?;
    ///     println!("orders-{}: {:?}", written.partition, written.offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_all<'a>(&self, records: impl IntoIterator<Item = Record<'a>>) -> Vec<Result<Delivery>> {
        records.into_iter().map(|record| self.send(record)).collect()
    }

    /// Hands a record over, and waits for its outcome, together no longer than `timeout`. It does not linger.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send) and [`Delivery::wait`]. After a time-out the record may be in the log, or come there.
    pub fn send_sync(&self, record: Record<'_>, timeout: Duration) -> Result<RecordMetadata> {
        if thread::is_ours() {
            return Err(would_deadlock("sending synchronously"));
        }
        let deadline = Deadline::after(timeout, "timeout");
        let patience = Patience::until(&deadline, &self.shared);
        let delivery = self.deliver(&record, None, patience)?;
        delivery.wait(deadline.remaining())
    }

    /// The same for all of them: one result per record, in their order, together no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send) and [`Delivery::wait`], for each record by itself.
    pub fn send_all_sync<'a>(
        &self,
        records: impl IntoIterator<Item = Record<'a>>,
        timeout: Duration,
    ) -> Vec<Result<RecordMetadata>> {
        let deadline = Deadline::after(timeout, "timeout");
        let send = |record| self.deliver(&record, None, Patience::until(&deadline, &self.shared));
        let sent: Vec<Result<Delivery>> = records.into_iter().map(send).collect();
        sent.into_iter()
            .map(|delivery| delivery?.wait(deadline.remaining()))
            .collect()
    }

    /// A handle for one partition, that looks nothing up when it sends.
    ///
    /// # Errors
    ///
    /// [`UnknownTopic`](ErrorKind::UnknownTopic) when there is no such topic or partition,
    /// [`TimedOut`](ErrorKind::TimedOut) when that cannot be found out within `max_block`.
    pub fn partition(&self, topic: &str, partition: i32) -> Result<PartitionProducer<'_>> {
        let mut patience = Patience::of_send();
        let known = append::known_topic(&self.shared, topic, &mut patience)?;
        Ok(PartitionProducer {
            partition: append::partition(&self.shared, &known, partition, &mut patience)?,
            producer: self,
        })
    }

    #[inline]
    fn deliver(&self, record: &Record<'_>, home: Option<&Arc<Partition>>, mut patience: Patience) -> Result<Delivery> {
        let mut watch = Some(Watch::Delivery);
        let delivery = append(&self.shared, record, home, &mut watch, &mut patience)?;
        delivery.ok_or_else(|| Error::new(ErrorKind::Internal, "a record was taken without a delivery"))
    }

    /// Waits until every record that was sent before this call has an outcome. They do not linger.
    ///
    /// # Errors
    ///
    /// - [`TimedOut`](ErrorKind::TimedOut) when that takes longer than `timeout`.
    /// - The first failure since the last flush that nobody was told: of a record that was sent detached, or whose
    ///   [`Delivery`] was dropped.
    /// - [`Closed`](ErrorKind::Closed) when the producer or its client was closed.
    /// - [`WouldDeadlock`](ErrorKind::WouldDeadlock) in a delivery callback.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        if thread::is_ours() {
            return Err(would_deadlock("flushing"));
        }
        let deadline = Deadline::after(timeout, "timeout");
        self.wait_for_all(&deadline)?;
        match self.shared.env.ledger.take_untold() {
            Some(error) => Err(error),
            // What was not delivered by then has failed.
            None if self.shared.ended.is_stopped() => Err(self.shared.ended.error()),
            None => Ok(()),
        }
    }

    fn wait_for_all(&self, deadline: &Deadline) -> Result<()> {
        let ledger = &self.shared.env.ledger;
        let generation = ledger.close_generation();
        for partition in self.shared.topics.partitions() {
            partition.press();
        }
        ledger.wait(generation, deadline)
    }

    /// Takes out of the buffer what has never been sent, and gives the number of those records; they fail with
    /// [`Purged`](ErrorKind::Purged). What is on its way goes on.
    pub fn purge(&self) -> u64 {
        let error = Error::new(ErrorKind::Purged, "the record was taken out of the buffer by purge");
        let partitions = self.shared.topics.partitions();
        partitions.iter().map(|partition| partition.fail_unsent(&error)).sum()
    }

    /// Takes no more records, waits up to `timeout` for those that are there, and ends the producer's threads. What has no
    /// outcome by then fails with [`Closed`](ErrorKind::Closed), or [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) if it was
    /// sent; the report counts it. Calling it again does nothing.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) when a thread did not end, as when a delivery callback does not return;
    /// [`WouldDeadlock`](ErrorKind::WouldDeadlock) in a delivery callback, where the producer only begins to close.
    pub fn close(&self, timeout: Duration) -> Result<ProducerReport> {
        let deadline = Deadline::after(timeout, "timeout");
        let shared = &self.shared;
        shared.env.closing.stop();
        shared.wake_senders();
        if thread::is_ours() {
            return Err(would_deadlock("closing a producer"));
        }
        // A record that was being taken is in its partition once that one's lock has been taken: it is waited for.
        for partition in shared.topics.partitions() {
            partition.press();
        }
        if let Err(error) = self.wait_for_all(&deadline.clone().with_stop(&shared.ended)) {
            log::debug!("closing a producer: {error}");
        }
        let undelivered = self.end();
        let grace = Deadline::after(deadline.remaining().max(GRACE), "timeout");
        self.join(&grace)?;
        Ok(ProducerReport {
            undelivered,
            error: shared.env.ledger.take_untold(),
        })
    }

    /// Threads end, and whoever waits is told. Gives what had no outcome.
    fn end(&self) -> BTreeMap<TopicPartition, u64> {
        let shared = &self.shared;
        shared.ended.stop();
        let error = shared.ended.error();
        let partitions = shared.topics.partitions();
        let ended = partitions.iter().map(|partition| {
            let place = TopicPartition::new(&partition.topic, partition.index);
            (place, partition.end(&error))
        });
        ended.filter(|(_, records)| *records > 0).collect()
    }

    fn join(&self, deadline: &Deadline) -> Result<()> {
        let senders = self.shared.join_senders(deadline);
        // Taken out, so that the lock is not held while joining.
        let keeper = self.keeper.lock().take();
        let keeper = keeper.map_or(Ok(()), |mut keeper| keeper.join(deadline));
        let callbacks = self.shared.env.callbacks.close(deadline);
        senders.and(keeper).and(callbacks)
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// The threads wait for nothing then; this is for a machine that is busy, and for a callback that runs.
const GRACE: Duration = Duration::from_secs(1);
/// Of a drop in the middle of a panic.
const PANICKING: Duration = Duration::from_secs(1);

impl Drop for Producer {
    fn drop(&mut self) {
        let limit = if std::thread::panicking() {
            PANICKING
        } else {
            CLOSE_TIMEOUT
        };
        if thread::is_ours() {
            // Nothing is waited for here: what was not sent fails, and the threads end by themselves.
            self.shared.env.closing.stop();
            let left = self.end();
            if !left.is_empty() {
                log::warn!("a producer was dropped on one of klamm's threads; not delivered: {left:?}");
            }
            return;
        }
        match self.close(limit) {
            Ok(report) if report.is_clean() => {}
            Ok(report) => log::warn!("a producer was dropped with records that were not delivered: {report:?}"),
            Err(error) => log::warn!("dropping a producer: {error}"),
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("held_bytes", &self.shared.env.memory.held())
            .finish_non_exhaustive()
    }
}

/// One partition to write to; made by [`Producer::partition`].
///
/// ```no_run
/// # use std::time::Duration;
/// # use klamm::{Client, Record};
/// # fn main() -> klamm::Result<()> {
/// # let producer = Client::connect("localhost:9092")?.producer().build()?;
/// let third = producer.partition("orders", 3)?;
/// third.send(Record::new().key("42").value("two coffees"))?.wait(Duration::from_secs(10))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PartitionProducer<'a> {
    producer: &'a Producer,
    partition: Arc<Partition>,
}

impl PartitionProducer<'_> {
    /// The topic it writes to.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.partition.topic
    }

    /// The partition it writes to.
    #[must_use]
    pub fn index(&self) -> i32 {
        self.partition.index
    }

    /// As [`Producer::send`]. The record names neither topic nor partition, or this one.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`], and [`Config`](ErrorKind::Config) for a record that names another place.
    pub fn send(&self, record: Record<'_>) -> Result<Delivery> {
        self.check(&record)?;
        self.producer
            .deliver(&record, Some(&self.partition), Patience::of_send())
    }

    /// As [`Producer::try_send`].
    ///
    /// # Errors
    ///
    /// As [`Producer::try_send`], and [`Config`](ErrorKind::Config) for a record that names another place.
    pub fn try_send(&self, record: Record<'_>) -> Result<Delivery> {
        self.check(&record)?;
        self.producer.deliver(&record, Some(&self.partition), Patience::Try)
    }

    /// As [`Producer::send_with`].
    ///
    /// # Errors
    ///
    /// As [`Producer::send_with`], and [`Config`](ErrorKind::Config) for a record that names another place.
    pub fn send_with(
        &self,
        record: Record<'_>,
        callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static,
    ) -> Result<()> {
        self.check(&record)?;
        let (shared, home) = (&self.producer.shared, Some(&self.partition));
        shared.env.callbacks.start()?;
        let callback: Callback = Box::new(callback);
        let mut watch = Some(Watch::Callback(callback));
        append(shared, &record, home, &mut watch, &mut Patience::of_send()).map(drop)
    }

    /// As [`Producer::send_detached`].
    ///
    /// # Errors
    ///
    /// As [`Producer::send_detached`], and [`Config`](ErrorKind::Config) for a record that names another place.
    pub fn send_detached(&self, record: Record<'_>) -> Result<()> {
        self.check(&record)?;
        let mut watch = Some(Watch::Nobody);
        let (shared, home) = (&self.producer.shared, Some(&self.partition));
        append(shared, &record, home, &mut watch, &mut Patience::of_send()).map(drop)
    }

    /// As [`Producer::send_sync`].
    ///
    /// # Errors
    ///
    /// As [`Producer::send_sync`], and [`Config`](ErrorKind::Config) for a record that names another place.
    pub fn send_sync(&self, record: Record<'_>, timeout: Duration) -> Result<RecordMetadata> {
        if thread::is_ours() {
            return Err(would_deadlock("sending synchronously"));
        }
        self.check(&record)?;
        let deadline = Deadline::after(timeout, "timeout");
        let patience = Patience::until(&deadline, &self.producer.shared);
        let delivery = self.producer.deliver(&record, Some(&self.partition), patience)?;
        delivery.wait(deadline.remaining())
    }

    fn check(&self, record: &Record<'_>) -> Result<()> {
        let is_here = record.topic.is_none_or(|topic| *topic == *self.partition.topic)
            && record.partition.is_none_or(|index| index == self.partition.index);
        if is_here {
            return Ok(());
        }
        let message = "the record names another place than the handle that is to send it";
        Err(Error::config(message).for_partition(&self.partition.topic, self.partition.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_and_deliveries_may_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Producer>();
        shared::<PartitionProducer<'_>>();
        shared::<Delivery>();
        shared::<ProducerReport>();
        shared::<RecordMetadata>();
    }
}

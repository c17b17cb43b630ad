//! Options of a producer, and how one comes to be.

use std::{fmt, time::Duration};

use super::{
    Partitioner,
    config::{Acks, Observer, ProducerConfig},
    producer::Producer,
    report::BatchReport,
};
use crate::{client::Client, error::Result, wire::batch::Compression};

/// Options of a producer: [`Client::producer`]. Those that cannot work are reported by [`build`](Self::build).
///
/// | Option | Kafka's name | Default |
/// |---|---|---|
/// | [`acks`](Self::acks) | `acks`, `enable.idempotence` | all, idempotent |
/// | [`linger`](Self::linger) | `linger.ms` | 5 ms, and none while a caller waits |
/// | [`batch_bytes`](Self::batch_bytes) | `batch.size` | 1 MiB |
/// | [`request_bytes`](Self::request_bytes) | – | 4 MiB |
/// | [`buffer_bytes`](Self::buffer_bytes) | `buffer.memory` | 64 MiB |
/// | [`max_block`](Self::max_block) | `max.block.ms` | 60 s |
/// | [`delivery_timeout`](Self::delivery_timeout) | `delivery.timeout.ms` | 120 s |
/// | [`max_retries`](Self::max_retries) | `retries` | as many as `delivery_timeout` allows |
/// | [`ack_timeout`](Self::ack_timeout) | `request.timeout.ms` is the nearest | 10 s |
/// | [`compression`](Self::compression) | `compression.type` | none |
/// | [`compression_level`](Self::compression_level) | `compression.gzip.level`, `compression.zstd.level` | the codec's |
/// | [`partitioner`](Self::partitioner) | `partitioner.class` | murmur2 of the key, as Java |
/// | [`in_flight`](Self::in_flight) | `max.in.flight.requests.per.connection` | 5 |
/// | [`observe`](Self::observe) | `metric.reporters` is the nearest | nobody |
///
/// How long a broker may take to answer, and how long klamm waits between attempts, are the client's
/// [`request_timeout`](crate::ClientBuilder::request_timeout) and [`retry_backoff`](crate::ClientBuilder::retry_backoff).
///
/// ```no_run
/// use std::time::Duration;
/// use klamm::{Client, Compression};
/// # fn main() -> klamm::Result<()> {
/// let client = Client::connect("localhost:9092")?;
/// let producer = client.producer().compression(Compression::Zstd).linger(Duration::from_millis(50)).build()?;
/// # drop(producer);
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct ProducerBuilder {
    client: Client,
    pub(crate) config: ProducerConfig,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            config: ProducerConfig::default(),
        }
    }

    /// Who must have a record before it counts as delivered; the default is all replicas that are in sync. Kafka: `acks`.
    ///
    /// Anything less also turns idempotence off (Kafka: `enable.idempotence`): see [`Acks`] for what may be lost or be there
    /// twice then.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.config.acks = acks;
        self
    }

    /// How long a record may wait for others to share its batch; the default is 5 ms. Kafka: `linger.ms`.
    ///
    /// A full batch does not wait, nor does one that somebody waits for: linger is lifted while a caller waits for a record's
    /// delivery, for room in the buffer, or in a flush. Longer times mean fewer and larger requests, which compress better.
    /// With zero, a record leaves as soon as the connection is free. Less than `delivery_timeout`.
    pub fn linger(mut self, time: Duration) -> Self {
        self.config.linger = time;
        self
    }

    /// How many bytes of records one batch takes, before they are compressed; the default is 1 MiB, the least 1 KiB, the
    /// most 64 MiB, and not more than `request_bytes` or `buffer_bytes`. Kafka: `batch.size`.
    ///
    /// A record that is longer is sent as a batch of its own. Brokers refuse batches that are (compressed) longer than the
    /// topic's `max.message.bytes`, 1 MiB unless somebody has changed it; klamm then divides the batch and sends its parts,
    /// which costs time for each.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.config.batch_bytes = bytes;
        self
    }

    /// How many bytes of batches one request carries, of all partitions that a broker leads; the default is 4 MiB, the least
    /// 1 KiB, the most 64 MiB.
    ///
    /// What does not fit goes with the next request; a single batch that is longer goes alone. This is not Kafka's
    /// `max.request.size`, which is also the most that *a record* may take: in klamm that is for the topic to say
    /// (`max.message.bytes`). Larger requests are fewer, and a failed connection takes more with it to be sent again. Brokers
    /// close the connection on requests beyond their `socket.request.max.bytes` (100 MiB).
    pub fn request_bytes(mut self, bytes: usize) -> Self {
        self.config.request_bytes = bytes;
        self
    }

    /// How many bytes of records may wait to be delivered, those in flight included; the default is 64 MiB. Kafka:
    /// `buffer.memory`.
    ///
    /// When it is full, sending waits for [`max_block`](Self::max_block), or fails with
    /// [`BufferFull`](crate::ErrorKind::BufferFull) where it does not wait: whoever writes faster than brokers take it is
    /// slowed down to their pace. A record that is longer than all of it is
    /// [`TooLarge`](crate::ErrorKind::TooLarge). At least [`batch_bytes`](Self::batch_bytes).
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.config.buffer_bytes = bytes;
        self
    }

    /// How long sending waits until the topic is known and there is room in the buffer; the default is 60 s, the most 24
    /// days. Kafka: `max.block.ms`.
    ///
    /// With zero it never waits: what is not there yet is an error. The record is not taken over when that time has passed.
    pub fn max_block(mut self, time: Duration) -> Self {
        self.config.max_block = time;
        self
    }

    /// How long delivering a record may take, from the moment at which its batch was begun: lingering, the broker's answer and
    /// all retries; the default is 120 s, the most 24 days. A batch that cannot be sent takes records for an eighth of it at
    /// most, so that the last of them have seven eighths left. Kafka: `delivery.timeout.ms`.
    ///
    /// After that it has failed: with [`TimedOut`](crate::ErrorKind::TimedOut) when it was never sent or is certainly not
    /// written, else with [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown). Shorter than an outage that should be
    /// survived (a broker that restarts, a leader that is elected), it turns it into lost records; shorter than the client's
    /// `request_timeout`, it may end before the first answer. More than [`linger`](Self::linger).
    pub fn delivery_timeout(mut self, time: Duration) -> Self {
        self.config.delivery_timeout = time;
        self
    }

    /// How often a batch may be sent again after its first attempt; the default is `None`, as often as
    /// [`delivery_timeout`](Self::delivery_timeout) allows. Kafka: `retries`.
    ///
    /// Time is what programs mean, and a count says little of it: three attempts are gone within a second when a leader
    /// moves. Only errors that may pass are tried again at all. Not with [`Acks::None`], under which nothing is.
    pub fn max_retries(mut self, retries: impl Into<Option<u32>>) -> Self {
        self.config.max_retries = retries.into();
        self
    }

    /// How long a broker may wait for the replicas that are in sync; the default is 10 s, or half of the client's
    /// `request_timeout` if that is less. Rounded up to 1 ms.
    ///
    /// After that it answers that it timed out, and the batch is sent again. It has to be shorter than the client's
    /// [`request_timeout`](crate::ClientBuilder::request_timeout), or its answer would come too late. Only with
    /// [`Acks::All`], since nobody waits for replicas otherwise. Kafka has no name for it: Java's producer sends its
    /// `request.timeout.ms`, librdkafka has `request.timeout.ms` per topic for it.
    pub fn ack_timeout(mut self, time: Duration) -> Self {
        self.config.ack_timeout = Some(time);
        self
    }

    /// How batches are compressed; the default is not at all. Kafka: `compression.type`.
    ///
    /// It costs this program time, and saves it on the network and on every broker's disk: brokers keep batches as they come,
    /// unless the topic has a `compression.type` of its own. A codec that klamm was built without is an
    /// [`Unsupported`](crate::ErrorKind::Unsupported) error.
    ///
    /// ```no_run
    /// # use klamm::{Client, Compression};
    /// # fn main() -> klamm::Result<()> {
    /// # let client = Client::connect("localhost:9092")?;
    /// let producer = client.producer().compression(Compression::Lz4).build()?;
    /// # drop(producer);
    /// # Ok(()) }
    /// ```
    pub fn compression(mut self, compression: Compression) -> Self {
        self.config.compression = compression;
        self
    }

    /// How hard the codec tries: 1 to 9 for [`Gzip`](Compression::Gzip), -131072 to 22 for [`Zstd`](Compression::Zstd); the
    /// default, `None`, is the one that suits batches: 5 for gzip, where Kafka has 6, and for Zstandard 3, as in Kafka, with
    /// smaller tables, which look back 256 KiB (`3` is Zstandard's own). The others have none in klamm, and to give one is an error. Kafka: `compression.gzip.level`,
    /// `compression.zstd.level`.
    ///
    /// Higher levels are smaller, and soon much slower.
    pub fn compression_level(mut self, level: impl Into<Option<i32>>) -> Self {
        self.config.compression_level = level.into();
        self
    }

    /// Which partition a record goes to that does not name one; the default, [`Partitioner::Murmur2`], is where Java's
    /// producer writes the same key. Kafka: `partitioner.class`.
    ///
    /// Two programs that write the same keys to one topic must have the same, or their records are neither in one place nor
    /// in order.
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.config.partitioner = partitioner;
        self
    }

    /// How many requests may be on their way to one broker; the default is 5, and with [`Acks::All`] also the most, since
    /// brokers remember the last five batches of a producer. Kafka: `max.in.flight.requests.per.connection`.
    ///
    /// Order within a partition always holds: with other [`acks`](Self::acks), of which up to 100 may be in flight, each
    /// partition has only one of them. With 1, the time between two requests is lost on each.
    pub fn in_flight(mut self, requests: usize) -> Self {
        self.config.in_flight = requests;
        self
    }

    /// Is told how it ended with each batch, for metrics and logs; the default is nobody. Set again, it replaces the former.
    ///
    /// It runs on one thread, `klamm-deliver`, as delivery callbacks do: one report after the other. So what it holds up are
    /// callbacks and, since a batch keeps its room in the buffer until it was told, in the end `send`. Within it, `send` does
    /// not wait, and calls that wait are [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock). A panic in it is logged, and
    /// harms nothing else.
    ///
    /// ```no_run
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// let written = Arc::new(AtomicU64::new(0));
    /// let counter = Arc::clone(&written);
    /// let producer = client.producer().observe(move |batch| match &batch.error {
    ///     None => drop(counter.fetch_add(batch.bytes as u64, Ordering::Relaxed)),
    ///     Some(error) => eprintln!("{} records of {}-{}: {error}", batch.records, batch.topic, batch.partition),
    /// });
    /// let producer = producer.build()?;
    /// # drop(producer);
    /// # Ok(()) }
    /// ```
    pub fn observe(mut self, observer: impl Fn(&BatchReport) + Send + Sync + 'static) -> Self {
        self.config.observer = Some(Observer::new(observer));
        self
    }

    /// Makes the producer. It returns at once; brokers are asked when there is something to send.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config), naming the setting, when it cannot work or two of them exclude each other;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a codec that klamm was built without.
    pub fn build(self) -> Result<Producer> {
        let Self { client, config } = self;
        config.check(client.cluster().config().request_timeout)?;
        Producer::start(client, config)
    }
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn builder() -> ProducerBuilder {
        let client = Client::builder().bootstrap("localhost:9092");
        client.connect_lazy().unwrap().producer()
    }

    #[test]
    fn each_setter_sets_its_own() {
        let seconds = Duration::from_secs;
        let config = builder()
            .acks(Acks::Leader)
            .linger(seconds(1))
            .batch_bytes(2)
            .request_bytes(3)
            .buffer_bytes(4)
            .max_block(seconds(5))
            .delivery_timeout(seconds(6))
            .max_retries(7)
            .ack_timeout(seconds(8))
            .compression(Compression::Zstd)
            .compression_level(9)
            .partitioner(Partitioner::RoundRobin)
            .in_flight(10)
            .observe(|_| {})
            .config;
        assert_eq!((config.acks, config.linger), (Acks::Leader, seconds(1)));
        let sizes = (config.batch_bytes, config.request_bytes, config.buffer_bytes);
        assert_eq!(sizes, (2, 3, 4));
        assert_eq!((config.max_block, config.delivery_timeout), (seconds(5), seconds(6)));
        assert_eq!((config.max_retries, config.ack_timeout), (Some(7), Some(seconds(8))));
        let compression = (config.compression, config.compression_level);
        assert_eq!(compression, (Compression::Zstd, Some(9)));
        assert!(matches!(config.partitioner, Partitioner::RoundRobin));
        assert_eq!(config.in_flight, 10);
        assert!(config.observer.is_some());
    }

    #[test]
    fn what_cannot_work_is_refused_by_build() {
        let error = builder().batch_bytes(0).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("batch_bytes"), "{error}");
    }

    #[test]
    fn the_client_s_own_timeout_bounds_that_of_the_replicas() {
        let client = Client::builder().bootstrap("localhost:9092");
        let client = client.request_timeout(Duration::from_secs(3)).connect_lazy().unwrap();
        let error = client.producer().ack_timeout(Duration::from_secs(4)).build();
        assert!(error.unwrap_err().to_string().contains("ack_timeout"));
    }
}

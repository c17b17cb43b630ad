//! A blocking Apache Kafka client: no async runtime, no C client underneath, plain threads, a `for` loop.
//!
//! ```no_run
//! # fn bill(key: Option<&[u8]>, value: Option<&[u8]>) -> klamm::Result<()> { Ok(()) }
//! # fn main() -> klamm::Result<()> {
//! for message in klamm::join("localhost:9092", "billing", ["orders"])? {
//!     let message = message?;
//!     bill(message.key(), message.value())?; // `?`, `break` or a panic here: the message comes again
//! } // the loop turns: it is done, and will be committed
//! # Ok(())
//! # }
//! ```
//!
//! ```no_run
//! # use std::time::Duration;
//! # use klamm::{Client, Record};
//! # fn main() -> klamm::Result<()> {
//! let producer = Client::connect("localhost:9092")?.producer().build()?;
//! producer.send(Record::to("orders").key("42").value("two coffees"))?.wait(Duration::from_secs(10))?;
//! # Ok(())
//! # }
//! ```
//!
//! # A tour
//!
//! A [`Client`] knows a cluster and makes everything else: a [`GroupBuilder`], which joins a consumer group, and a
//! [`ReaderBuilder`], which reads without one, both of which open a [`Stream`] of messages; a [`Producer`], which writes
//! [`Record`]s; and an [`Admin`], which creates and deletes topics and the like. A [`Message`] is a view into the batch it came with: cheap to make, and it keeps that
//! batch in memory; [`Message::detach`] makes a copy that stands for itself.
//!
//! ## Groups
//!
//! The members of a group share the partitions of its topics: each partition is read by one member at a time, and the
//! group remembers how far that one got. When a member comes, goes or dies, the partitions are dealt out anew (a
//! *rebalance*), and whoever gets one goes on where it was committed. Java's consumers may be members as well, as long as
//! they use the classic protocol and have an [assignor](Assignor) in common with klamm's, as they have by default.
//!
//! **Acking** is what the program does: it says that a message is *done*. **Committing** is what klamm does: it tells the
//! group, every [5 s](GroupBuilder::commit_interval), when a partition goes, at close, and when [`Stream::commit`] says so.
//! What is committed is the lowest offset below which everything is done, so that nothing is lost.
//!
//! By default ([`AckMode::OnNext`]) the loop acks: asking for the next message says that the last one is done, *if the
//! program has let go of it*. `break`, `?` and a panic come before that, so that message is given again. One that is
//! kept, in a `Vec` or on another thread, is done when its own [`ack`](Message::ack) says so, and the first time that this
//! is met, the event [`StillHeld`](Event::StillHeld) tells, in case it was not meant.
//!
//! With [`AckMode::Explicit`] only acks count, in any order and from any thread:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use klamm::{AckMode, Client};
//! # fn store(batch: &klamm::Batch) -> klamm::Result<()> { Ok(()) }
//! # fn main() -> klamm::Result<()> {
//! # let client = Client::connect("localhost:9092")?;
//! let stream = client.group("archive").topics(["orders"]).ack_mode(AckMode::Explicit).join()?;
//! for batch in stream.batches() {
//!     let batch = batch?;
//!     store(&batch)?;
//!     batch.ack(); // it is stored: it need not come again
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **A pool of threads** that messages are moved to should be bounded, and is best drained before the stream is closed:
//!
//! ```no_run
//! # use std::{sync::mpsc, thread, time::Duration};
//! # use klamm::{AckMode, Client, Message};
//! # fn work(message: &Message) {}
//! # fn main() -> klamm::Result<()> {
//! # let client = Client::connect("localhost:9092")?;
//! let stream = client.group("billing").topics(["orders"]).ack_mode(AckMode::Explicit).join()?;
//! let (sender, receiver) = mpsc::sync_channel::<Message>(100);
//! thread::scope(|scope| {
//!     scope.spawn(move || {
//!         for message in receiver {
//!             work(&message);
//!             message.ack();
//!         }
//!     });
//!     for message in stream.iter().flatten() {
//!         sender.send(message).ok();
//!     }
//!     drop(sender); // a `Closer` has ended the loop: the pool ends when it has done what it has
//! });
//! let report = stream.close(Duration::from_secs(10))?; // commits that, and leaves the group
//! # drop(report);
//! # Ok(())
//! # }
//! ```
//!
//! **A rebalance** waits for the program, up to [`revoke_timeout`](GroupBuilder::revoke_timeout) (48 s): nothing more of the
//! partitions is given out, and what is in hand may be finished and acked, and is committed. What takes longer is
//! [abandoned](Event::Abandoned): it comes again elsewhere, [`Message::is_current`] turns false, and its ack is refused. That
//! the program works at one message for long costs it nothing else; heartbeats go on, and there is no
//! `max.poll.interval.ms`.
//!
//! **A window** bounds what is not done: a program that acks nothing is given
//! [`prefetch_count`](GroupBuilder::prefetch_count) messages or [`prefetch_bytes`](GroupBuilder::prefetch_bytes) of a partition,
//! and no more until it does. [`Message::release`] makes room without an ack.
//!
//! ## Without a group
//!
//! A reader says itself where to begin, and nothing is committed. Its loop waits for new messages; with
//! [`until_end`](ReaderBuilder::until_end) it ends with what was there when the stream was opened:
//!
//! ```no_run
//! # use std::time::Duration;
//! use klamm::{Client, StartAt};
//! # fn main() -> klamm::Result<()> {
//! let client = Client::connect("localhost:9092")?;
//! let an_hour_ago = StartAt::Ago(Duration::from_secs(3600));
//! let stream = client.reader().topics(["orders"]).start_at(an_hour_ago).until_end().open()?;
//! let bytes: usize = stream.into_iter().map(|message| Ok(message?.value().map_or(0, <[u8]>::len))).sum::<klamm::Result<_>>()?;
//! # drop(bytes);
//! # Ok(())
//! # }
//! ```
//!
//! ## Streams
//!
//! **Several threads** may iterate over one stream. An iterator has one partition to itself for a batch at a time, so
//! order within a partition holds, and no message is handed out under a lock:
//!
//! ```no_run
//! # fn work(message: &klamm::Message) {}
//! # fn main() -> klamm::Result<()> {
//! # let client = klamm::Client::connect("localhost:9092")?;
//! let stream = client.reader().topics(["orders"]).open()?;
//! std::thread::scope(|scope| {
//!     for _ in 0..4 {
//!         scope.spawn(|| {
//!             for message in stream.iter().flatten() {
//!                 work(&message);
//!             }
//!         });
//!     }
//! });
//! # Ok(())
//! # }
//! ```
//!
//! **Seeking** moves one partition; what was prefetched of it is forgotten. **An `Err`** concerns one partition, which
//! waits for that, while the others go on. Whatever a new try may mend has been tried before:
//!
//! ```no_run
//! # use klamm::{ErrorKind, StartAt};
//! # fn main() -> klamm::Result<()> {
//! # let client = klamm::Client::connect("localhost:9092")?;
//! let stream = client.reader().topics(["orders"]).open()?;
//! for message in &stream {
//!     match message {
//!         Ok(message) => println!("{:?}", message.key()),
//!         Err(error) if error.kind() == ErrorKind::Corrupt => {
//!             let damaged = klamm::TopicPartition::new(error.topic().unwrap_or_default(), error.partition().unwrap_or(0));
//!             eprintln!("{error}");
//!             stream.seek(damaged, StartAt::Latest)?;
//!         }
//!         Err(error) => return Err(error),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **Closing** is possible from anywhere: a [`Closer`] ends the iterators with `None`. Until [`Stream::close`] or the stream's
//! drop, a member keeps its partitions, and what is in hand may be acked. `close` commits, leaves the group, waits for klamm's
//! threads and says what it leaves behind; a drop does the same within 5 s, and acks nothing.
//!
//! ```no_run
//! # use std::time::Duration;
//! # fn main() -> klamm::Result<()> {
//! # let client = klamm::Client::connect("localhost:9092")?;
//! let stream = client.group("billing").topics(["orders"]).join()?;
//! let closer = stream.closer();
//! std::thread::spawn(move || {
//!     std::io::stdin().read_line(&mut String::new()).ok();
//!     closer.close();
//! });
//! for message in &stream {
//!     println!("{:?}", message?.value());
//! }
//! let report = stream.close(Duration::from_secs(5))?;
//! println!("acked, but not known to the group: {:?}", report.uncommitted);
//! # Ok(())
//! # }
//! ```
//!
//! **What happens meanwhile**, a rebalance, a leader that moves or a position that was reset, is told by [`Stream::events`],
//! what is wrong now by [`Stream::health`], and both by the `log` crate.
//!
//! ## Writing
//!
//! [`Producer::send`] copies a record into a buffer, and returns a [`Delivery`]: the place to wait for its outcome. Records are
//! sent in batches, at the latest after [`linger`](ProducerBuilder::linger) (5 ms), at once when somebody waits for them.
//!
//! **Who wants to know** whether a record was written waits on its `Delivery`, gives a callback ([`Producer::send_with`]), or
//! asks for all at once: [`Producer::flush`] waits for everything that was sent, and gives the first failure that nobody was told.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use klamm::{Client, ErrorKind, Record};
//! # fn main() -> klamm::Result<()> {
//! # let client = Client::connect("localhost:9092")?;
//! let producer = client.producer().build()?;
//! match producer.send_sync(Record::to("orders").value("tea"), Duration::from_secs(10)) {
//!     Ok(written) => println!("at {:?}", written.offset),
//!     Err(error) if error.kind() == ErrorKind::OutcomeUnknown => eprintln!("perhaps: {error}"),
//!     Err(error) => eprintln!("not written: {error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **Whatever a new try may mend** is tried again until [`delivery_timeout`](ProducerBuilder::delivery_timeout) (120 s) has passed
//! since a record's batch was begun. An error then means that the record is not in the log; but for
//! [`OutcomeUnknown`](ErrorKind::OutcomeUnknown): it was sent, and no answer told what became of it. A record that fails takes no
//! other with it.
//!
//! **A full buffer** ([`buffer_bytes`](ProducerBuilder::buffer_bytes), 64 MiB) makes `send` wait, up to
//! [`max_block`](ProducerBuilder::max_block) (60 s); [`Producer::try_send`] says so instead. The buffer is one for all: records
//! for a broker that is away may fill it, until their time is over.
//!
//! **Partitions**: keys decide, as with the Java client; without a key, one partition gets some 64 KiB, and then another one
//! that has less to do. See [`Partitioner`], or name one: [`Record::partition`].
//!
//! ## Configuration
//!
//! Each builder has a method for every option, and names Kafka's word for it. A Java client's `.properties` file is understood as
//! well, TLS and SASL included: see [`Properties`].
//!
//! ```no_run
//! # fn main() -> klamm::Result<()> {
//! let properties = klamm::Properties::from_file("client.properties")?;
//! let client = properties.client()?.connect()?;
//! let group = client.group(properties.group_id().unwrap_or("billing")).properties(&properties)?;
//! for message in group.topics(["orders"]).join()? {
//!     println!("{:?}", message?.value());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! ## Logging in
//!
//! [`Sasl`] says to brokers who a program is: by a password, by SCRAM, which does not tell it, or by a token. Credentials come
//! with the program, from a file, or from a callback, which is asked whenever a connection is made:
//!
//! ```no_run
//! # #[cfg(feature = "scram")]
//! # fn main() -> klamm::Result<()> {
//! use klamm::{Client, Credentials, Sasl};
//! let sasl = Sasl::scram_sha_512_with(|_| Ok(Credentials::from_file("/run/secrets/kafka")?));
//! let client = Client::builder().bootstrap("kafka-1:9093").sasl(sasl).connect()?;
//! # drop(client);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "scram"))]
//! # fn main() {}
//! ```
//!
//! # Threads
//!
//! | Thread | How many | Ends |
//! |---|---|---|
//! | `klamm-read-N` | one per connection for questions (metadata, offsets, upkeep), two per member of a group | when it is idle for long, or the client ends; with the member |
//! | `klamm-lane-N` | one per stream and broker that is read from, at times a second one | with its stream, or after 10 s without work |
//! | `klamm-fetch-N` | one per partition of a stream: checksums, decompression | with its stream, or when the partition goes |
//! | `klamm-keep` | one per stream: metadata by age, new partitions, stalls | with its stream |
//! | `klamm-group` | one per member of a group: heartbeats, rebalances, commits | when the group is left |
//! | `klamm-find` | one while a member looks for its group's coordinator, one while a stream asks for metadata | with the answer, or the stream |
//! | `klamm-produce` | one per producer: leaders, producer IDs, the end of a record's time | with its producer |
//! | `klamm-send-N` | one per producer and broker that it sends to | with its producer |
//! | `klamm-deliver` | one per producer with callbacks or an observer: they run here | with its producer |
//! | `klamm-resolve` | one while a name is looked up | with the answer |
//!
//! They sleep while there is nothing to do, and none outlives the last handle. A record that is not to linger, or for which the program
//! waits, the program's own thread writes to the socket when that keeps it from nothing else. None of klamm's runs the program's code, but for its logger and,
//! on `klamm-deliver`, what it wants to be called with.
//!
//! # What is logged
//!
//! klamm writes to the crate [`log`](https://docs.rs/log), under targets that begin with `klamm`; what shows it (`env_logger`,
//! `tracing-log`, …) is the program's choice, and without one nothing is written.
//!
//! | Level | What it tells |
//! |---|---|
//! | error | what should never happen, such as a panic in one of klamm's threads |
//! | warn | what somebody may want to act on, such as a partition that was lost, failed, stalled or reset, damaged records, a commit that failed, a group, a broker or metadata out of reach, messages that are still held, records that a dropped producer leaves behind, certificates that cannot be read anew, what makes connections less safe, keys of properties that nobody knows |
//! | info | what goes on, such as partitions that are read from or given up, rebalances, leaders that move, brokers that are back, new certificates, keys of properties that make no difference |
//! | debug | each attempt that fails and is made again, and why; sessions that are renewed |
//! | trace | each request |
//!
//! Lines name the group, topic, partition or broker that they are about, if there is one. What is in records, and credentials, are in none of them.
//!
//! # Guarantees
//!
//! - Messages of one partition come in the order of their offsets, each once, unless the program seeks, or drops an
//!   iterator before it asked for the next message: then the last one comes again, unless it was acked (or, in a
//!   group, the program still has it).
//! - In a group, each message is given at least once: nothing is committed before the program says that it is done. It comes
//!   twice only after a crash (what was acked within the last [`commit_interval`](GroupBuilder::commit_interval)), when the
//!   program had it for longer than `revoke_timeout` in a rebalance, or when the group was out of reach for a
//!   `session_timeout`; never in a clean rebalance. Topic, partition and offset tell a message that came before.
//! - A member that may have lost its partitions is given nothing more of them, and commits nothing, from the moment on at
//!   which others may have them.
//! - Nothing is left out without an [`Event`] that says so. Records of aborted transactions, and those that compaction or
//!   retention has removed, are not there to be read.
//! - A record is given only when the checksum of its batch holds.
//! - One partition never waits for another one's slow reader, long poll or memory.
//! - What a producer with [`Acks::All`], the default, was told is written is in the log exactly once, in the order in which it was
//!   sent to its partition, as long as brokers keep what they have acknowledged. Every outcome comes within `delivery_timeout`.
//!
//! # Limits
//!
//! - Prefetched bytes are bounded per partition ([`prefetch_bytes`](ReaderBuilder::prefetch_bytes), 8 MiB) and in total
//!   ([`prefetch_total_bytes`](ReaderBuilder::prefetch_total_bytes), 64 MiB), counted when decoded; 64 KiB or one batch per
//!   partition (inflated: a MiB or one batch) may come on top, and up to three answers of empty buffers. Batches that the
//!   program keeps messages of are its own.
//! - A batch may inflate to [`decoded_batch_limit`](ReaderBuilder::decoded_batch_limit) (64 MiB), an answer be 100 MiB long.
//! - A producer holds [`buffer_bytes`](ProducerBuilder::buffer_bytes) (64 MiB) of records, counted by the capacity of what they
//!   lie in.
//! - Calls end within [`request_timeout`](ClientBuilder::request_timeout), those of a producer within
//!   [`max_block`](ProducerBuilder::max_block) (60 s) or the time that they are given; only an iterator's `next()` waits without
//!   a limit ([`next_timeout`](Iter::next_timeout) has one). Names are resolved by the operating system, on a thread that may
//!   outlast the call when a name server is silent.
//!
//! # Not supported yet
//!
//! Transactions; SASL by Kerberos; in groups the newer protocol (KIP-848) and cooperative rebalancing, so that a rebalance takes all
//! partitions from everybody for a moment; handlers per partition; a thread per partition; one partition at a time
//! (`checkout`); giving up a partition whose handler is slow (`max.poll.interval.ms`).
//!
//! # Features
//!
//! | Feature | Default | What it adds |
//! |---|---|---|
//! | `gzip`, `snappy`, `lz4`, `zstd` | on | the codec; without it, a batch that needs it is an [`Unsupported`](ErrorKind::Unsupported) error |
//! | `tls` | on | [`Tls`]: encrypted connections, by rustls with ring |
//! | `tls-aws-lc-rs` | off | AWS-LC in place of ring: faster, with post-quantum keys, and needs a C compiler, on some systems cmake |
//! | `tls-platform-roots` | off | `Tls::platform_roots`: whom this machine trusts |
//! | `scram` | on | `Sasl::scram_sha_256` and `Sasl::scram_sha_512`, by ring |
//! | `oidc` | off | `Sasl::oauthbearer_oidc`: tokens fetched over HTTP, by ureq |
//! | `md5` | off | `Partitioner::Md5Sum`: keys go where the Elixir clients Kaffe and Elsa put them |
//! | `unstable-internals` | off | nothing for programs: klamm's own benches and fuzz targets reach inside |

mod admin;
mod bell;
mod client;
mod cluster;
mod consumer;
mod deadline;
mod error;
mod group;
#[cfg(feature = "unstable-internals")]
#[doc(hidden)]
pub mod internals;
mod metadata;
mod net;
mod offset;
mod producer;
mod properties;
mod stop;
mod thread;
mod wire;

pub use admin::{Admin, NewTopic, Results};
pub use bytes;
pub use client::{Client, ClientBuilder, Coordinator, Topics};
pub use consumer::{
    AckMode, Batch, BatchIter, Batches, CloseReport, Closer, CommitOrder, Event, Events, Health, Iter, Message, Next,
    OwnedMessage, PrefetchRule, Problem, ReaderBuilder, Stream,
};
pub use error::{Error, ErrorKind, Result};
pub use group::{Assignor, GroupBuilder, GroupProtocol};
pub use metadata::{Broker, ClusterMetadata, PartitionMetadata, TopicMetadata};
#[cfg(feature = "oidc")]
pub use net::sasl::Oidc;
pub use net::sasl::{BoxError, Credentials, Exchange, Mechanism, Peer, Sasl, Secret, Step, Token};
#[cfg(feature = "tls")]
pub use net::tls::{Tls, TlsVersion};
pub use offset::{Isolation, OutOfRange, StartAt, TopicPartition};
pub use producer::{
    Acks, BatchReport, Choice, CustomPartitioner, Delivery, PartitionProducer, Partitioner, Producer, ProducerBuilder,
    ProducerReport, Record, RecordMetadata,
};
pub use properties::Properties;
pub use wire::batch::{Compression, Header, Headers, TimestampType};

/// Joins a group with everything at its default: connects, and reads the topics together with the group's other members.
///
/// It is `Client::connect(bootstrap)?.group(group).topics(topics).join()`: whoever wants to set anything writes that. See
/// [`GroupBuilder`] for the defaults.
///
/// ```no_run
/// # fn bill(value: Option<&[u8]>) -> klamm::Result<()> { Ok(()) }
/// # fn main() -> klamm::Result<()> {
/// for message in klamm::join("localhost:9092", "billing", ["orders"])? {
///     let message = message?;
///     bill(message.value())?;     // `?`, `break` or a panic here: the message comes again
/// }                               // the loop turns: it is done, and will be committed
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// As [`Client::connect`] and [`GroupBuilder::join`].
pub fn join<T: AsRef<str>>(
    bootstrap: &str,
    group: impl Into<String>,
    topics: impl IntoIterator<Item = T>,
) -> Result<Stream> {
    Client::connect(bootstrap)?.group(group).topics(topics).join()
}

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

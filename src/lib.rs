//! A blocking Apache Kafka client: no async runtime, no C client underneath, plain threads, a `for` loop.
//!
//! ```no_run
//! # fn main() -> klamm::Result<()> {
//! let client = klamm::Client::connect("localhost:9092")?;
//! for message in client.reader().topics(["orders"]).open()? {
//!     let message = message?;
//!     println!("{}: {:?}", message.offset(), message.value());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A tour
//!
//! A [`Client`] knows a cluster and makes everything else: a [`ReaderBuilder`], which opens a [`Stream`] of messages, and
//! an [`Admin`], which creates and deletes topics and the like. A [`Message`] is a view into the batch it came with: cheap
//! to make, and it keeps that batch in memory; [`Message::detach`] makes a copy that stands for itself.
//!
//! **The loop** goes over a stream by value, as above, or by reference. It waits for new messages; with
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
//! **Closing** is possible from anywhere: a [`Closer`] ends the iterators with `None`, [`Stream::close`] also waits for
//! klamm's threads and says where reading stood. Dropping a stream does the same within 5 s.
//!
//! ```no_run
//! # use std::time::Duration;
//! # fn main() -> klamm::Result<()> {
//! # let client = klamm::Client::connect("localhost:9092")?;
//! let stream = client.reader().topics(["orders"]).open()?;
//! let closer = stream.closer();
//! std::thread::spawn(move || {
//!     std::io::stdin().read_line(&mut String::new()).ok();
//!     closer.close();
//! });
//! for message in &stream {
//!     println!("{:?}", message?.value());
//! }
//! let report = stream.close(Duration::from_secs(5))?;
//! println!("not given out any more: {:?}", report.unread);
//! # Ok(())
//! # }
//! ```
//!
//! What happens meanwhile, a leader that moves or a position that was reset, is told by [`Stream::events`], what is wrong
//! now by [`Stream::health`], and both by the `log` crate.
//!
//! # Threads
//!
//! | Thread | How many | Ends |
//! |---|---|---|
//! | `klamm-read-N` | one per connection for questions (metadata, offsets, upkeep) | when it is idle for long, or the client ends |
//! | `klamm-lane-N` | one per stream and broker that is read from, at times a second one | with its stream, or after 10 s without work |
//! | `klamm-fetch-N` | one per partition of a stream: checksums, decompression | with its stream |
//! | `klamm-keep` | one per stream: metadata by age, new partitions, stalls | with its stream |
//!
//! They sleep while there is nothing to do, and none outlives the last handle. None runs the program's code.
//!
//! # Guarantees
//!
//! - Messages of one partition come in the order of their offsets, each once, unless the program seeks, or drops an
//!   iterator before it asked for the next message: then the last one comes again.
//! - Nothing is left out without an [`Event`] that says so. Records of aborted transactions, and those that compaction or
//!   retention has removed, are not there to be read.
//! - A record is given only when the checksum of its batch holds.
//! - One partition never waits for another one's slow reader, long poll or memory.
//!
//! # Limits
//!
//! - Prefetched bytes are bounded per partition ([`prefetch_bytes`](ReaderBuilder::prefetch_bytes), 8 MiB) and in total
//!   ([`prefetch_total_bytes`](ReaderBuilder::prefetch_total_bytes), 64 MiB), counted when decoded; 64 KiB or one batch per
//!   partition may come on top, and up to two answers of empty buffers. Batches that the program keeps messages of are its own.
//! - A batch may inflate to [`decoded_batch_limit`](ReaderBuilder::decoded_batch_limit) (64 MiB), an answer be 100 MiB long.
//! - Calls end within [`request_timeout`](ClientBuilder::request_timeout), only an iterator's `next()` waits without a
//!   limit ([`next_timeout`](Iter::next_timeout) has one). Names are resolved by the operating system, on a thread that
//!   may outlast the call when a name server is silent.
//!
//! # Not supported yet
//!
//! Consumer groups and committed offsets, producing, TLS and SASL, handlers per partition. Without a group,
//! [`Message::ack`] only matters for what an iterator that is dropped gives back.
//!
//! # Features
//!
//! | Feature | Default | What it adds |
//! |---|---|---|
//! | `gzip`, `snappy`, `lz4`, `zstd` | on | the codec; without it, a batch that needs it is an [`Unsupported`](ErrorKind::Unsupported) error |
//! | `unstable-internals` | off | nothing for programs: klamm's own benches reach inside |

mod admin;
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
pub use offset::{Isolation, OutOfRange, StartAt, TopicPartition};
pub use wire::batch::{Header, Headers, TimestampType};

/// Joins a group with everything at its default: connects, and reads the topics together with the group's other members.
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

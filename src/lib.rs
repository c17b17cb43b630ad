//! A blocking Apache Kafka client: no async runtime, no C client underneath, plain threads, a `for` loop.

mod admin;
mod client;
mod cluster;
mod consumer;
mod deadline;
mod error;
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
    Batch, BatchIter, Batches, CloseReport, Closer, Event, Events, Health, Iter, Message, Next, OwnedMessage,
    PrefetchRule, Problem, ReaderBuilder, Stream,
};
pub use error::{Error, ErrorKind, Result};
pub use metadata::{Broker, ClusterMetadata, PartitionMetadata, TopicMetadata};
pub use offset::{Isolation, OutOfRange, StartAt, TopicPartition};
pub use wire::batch::{Header, Headers, TimestampType};

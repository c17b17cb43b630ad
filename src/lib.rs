//! A blocking Apache Kafka client: no async runtime, no C client underneath, plain threads, a `for` loop.

mod admin;
mod client;
mod cluster;
mod deadline;
mod error;
mod metadata;
mod net;
mod offset;
mod stop;
mod thread;
mod wire;

pub use admin::{Admin, NewTopic, Results};
pub use client::{Client, ClientBuilder, Coordinator, Topics};
pub use error::{Error, ErrorKind, Result};
pub use metadata::{Broker, ClusterMetadata, PartitionMetadata, TopicMetadata};
pub use offset::{Isolation, StartAt};

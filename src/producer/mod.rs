//! Writing records.
//!
//! ```text
//! the program ▸ append ▸ partitioner ○ ▸ partition (a batch being filled, a queue ○) ▸ sender ● ▸ net/connection ▸ broker
//!                  ▴ memory (room)            ▴ keeper ● (leaders, producer IDs, the end of a batch's time)
//! broker ▸ sender ● ▸ verdict ○ ▸ queue ○ ▸ delivery ▸ the program, or callbacks ●
//! ```
//!
//! A caller writes its record straight into the batch that its partition is filling, in the bytes that will be sent. A
//! *sender* per broker takes what is full, has lingered long enough or is waited for, compresses and stamps it, and keeps
//! several requests in flight. The *queue* of a partition decides what may be sent and what an answer means; it is where the
//! promises are kept. Whoever waits holds a *delivery*, which shares the *fate* of its batch.

mod append;
mod builder;
mod callbacks;
pub(crate) mod config;
mod delivery;
mod helm;
mod inbox;
mod keeper;
mod ledger;
mod memory;
mod partition;
mod partitioner;
#[allow(clippy::module_inception, reason = "it is the producer that producing is about")]
mod producer;
mod queue;
mod record;
mod report;
mod sender;
mod sequence;
mod shared;
mod split;
mod take_apart;
mod topics;
pub(crate) mod verdict;

pub use builder::ProducerBuilder;
pub use config::Acks;
pub use delivery::Delivery;
pub use partitioner::{Choice, CustomPartitioner, Partitioner};
pub use producer::{PartitionProducer, Producer};
pub use record::Record;
pub use report::{BatchReport, ProducerReport, RecordMetadata};

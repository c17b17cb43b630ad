//! Writing records.

#![allow(dead_code, reason = "until it is wired")]

mod builder;
mod config;
mod memory;
mod partitioner;
#[allow(clippy::module_inception, reason = "it is the producer that producing is about")]
mod producer;
mod record;
mod report;
mod split;

pub use builder::ProducerBuilder;
pub use config::Acks;
pub use partitioner::Partitioner;
pub use record::Record;
pub use report::{BatchReport, ProducerReport, RecordMetadata};

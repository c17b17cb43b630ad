//! Writing records.

#![allow(dead_code, reason = "until it is wired")]

mod builder;
mod config;
mod memory;
mod partitioner;
mod record;
mod report;
mod split;

pub use record::Record;
pub use report::{BatchReport, ProducerReport, RecordMetadata};

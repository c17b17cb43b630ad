//! Writing records.

#![allow(dead_code, reason = "until it is wired")]

mod builder;
mod config;
mod memory;
mod partitioner;
mod record;
mod split;

pub use partitioner::{Choice, CustomPartitioner, Partitioner};

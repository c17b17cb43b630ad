//! What the brokers do, asked with requests written by hand.

#![allow(unreachable_pub, reason = "what tests share is `pub`, as elsewhere in Rust")]

mod faults;
mod offsets;
mod raw;
mod reading;
mod sasl;
mod sessions;
mod talking;
mod topics;
mod trouble;
mod writing;

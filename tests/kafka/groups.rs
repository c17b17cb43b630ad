//! Consumer groups: members that share partitions, give them up and take them over, and lose nothing.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests measure time, and play the programs that use klamm: with threads of their own"
)]

mod brokers;
mod connections;
mod offsets;
mod topics;

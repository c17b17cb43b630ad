//! Consumer groups: members that share partitions, give them up and take them over, and lose nothing.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests measure time, and play the programs that use klamm: with threads of their own"
)]

mod acks;
mod brokers;
mod commits;
mod connections;
mod crash;
mod everywhere;
mod handover;
mod java;
mod memory;
mod offsets;
mod refusals;
mod static_members;
mod storm;
mod topics;

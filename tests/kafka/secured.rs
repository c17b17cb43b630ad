//! Brokers that want to know who asks, and that are to prove who they are: TLS, SASL and ACLs against a real Kafka.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests measure time, and play the programs that use klamm: with threads of their own"
)]

mod java;

use std::time::Duration;

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(90);

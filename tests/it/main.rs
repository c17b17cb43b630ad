//! Scenarios that only need a broker's answers.
//!
//! Each runs twice: against the embedded broker (`fake::…`, which needs nothing but cargo) and against a real Kafka
//! (`kafka::…`, which the tests in `tests/kafka` start in the same way). That is what keeps the embedded one honest.
//! `faults` is about what only the embedded one can be told to do.

mod cluster;
mod faults;
mod groups;
mod properties;
mod reading;
mod schedules;
#[path = "../kafka/support/mod.rs"]
mod support;
mod topics;
mod writing;

use std::time::Duration;

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(60);

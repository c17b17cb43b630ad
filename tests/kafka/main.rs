//! klamm against a real Apache Kafka, which these tests start themselves (or `KLAMM_TEST_BOOTSTRAP`).
//!
//! `support` brings Kafka's jars, starts and hurts brokers, and asks Kafka's own Java programs for a
//! second opinion. Every other module holds the tests of one promise.

mod admin;
mod authentication;
mod checker;
mod client;
mod codecs;
mod embedded;
mod examples;
mod groups;
mod harness;
mod hostile;
mod iterators;
mod logs;
mod member_process;
mod positions;
mod producing;
mod rack;
mod reading;
#[cfg(feature = "unstable-internals")]
mod recording;
mod records;
mod secured;
mod sessions;
mod stalls;
mod support;
mod transactions;
mod trouble;

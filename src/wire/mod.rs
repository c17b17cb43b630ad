//! Bytes: Kafka's frames, requests, answers and record batches. Knows no socket, thread or clock.

pub(crate) mod batch;
pub(crate) mod layout;

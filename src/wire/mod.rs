//! Bytes: Kafka's frames, requests, answers and record batches. Knows no socket, thread or clock.

pub(crate) mod api;
pub(crate) mod batch;
pub(crate) mod fetch;
pub(crate) mod frame;
pub(crate) mod layout;
pub(crate) mod membership;
pub(crate) mod produce;
pub(crate) mod request;
pub(crate) mod versions;

//! A blocking Apache Kafka client: no async runtime, no C client underneath, plain threads, a `for` loop.

mod cluster;
mod deadline;
mod error;
#[cfg(feature = "unstable-internals")]
#[doc(hidden)]
pub mod internals;
mod net;
mod thread;
mod wire;

pub use error::{Error, ErrorKind, Result};

//! A blocking Apache Kafka client: no async runtime, no C client underneath, plain threads, a `for` loop.

mod cluster;
mod deadline;
mod error;
mod net;
mod offset;
mod stop;
mod thread;
mod wire;

pub use error::{Error, ErrorKind, Result};
pub use offset::{Isolation, StartAt};

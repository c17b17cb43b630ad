//! What all programs have in common: their arguments, their clocks, and the line that they print.
//!
//! A program is one client; each does one of five tasks and says what that has cost it:
//!
//! ```no_run
//! use klamm_peers::{Reading, Task};
//!
//! fn main() -> std::process::ExitCode {
//!     klamm_peers::run("klamm", &klamm_peers::version_of("klamm"), |task| match task {
//!         Task::Consume(task) => {
//!             let mut reading = Reading::begin(&task); // the clock runs: now make the client
//!             while !reading.see(b"a value") {}
//!             reading.end()                            // the client still lives
//!         }
//!         _ => panic!("this client cannot do that"),
//!     })
//! }
//! ```

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock, and waits by it")]

mod args;
mod delays;
mod idling;
mod longpoll;
mod meter;
#[path = "../../race/mod.rs"]
mod race;
mod reading;
mod report;
#[cfg(feature = "tokio")]
mod runtime;
mod values;

pub use args::{Codec, Consume, Idle, Latency, LongPoll, Produce, Task};
pub use delays::Delays;
pub use idling::rest;
pub use longpoll::{Calls, HEARTBEATS, Side};
pub use meter::Meter;
pub use reading::Reading;
pub use report::{Report, run, unsupported, version_of};
#[cfg(feature = "tokio")]
pub use runtime::on_tokio;
pub use values::Values;

//! A real Kafka for tests: brokers that can be killed and frozen, a proxy that breaks connections, and
//! Java programs that write what klamm must read and read what klamm has written.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `KLAMM_TEST_BOOTSTRAP` | A running cluster that `shared()` uses instead of starting a broker |
//! | `KLAMM_TEST_JAVA` | The `java` program (17 or newer, a JDK); else `JAVA_HOME`, else the `PATH` |
//! | `KLAMM_TEST_KAFKA_LIBS` | A folder with Kafka's jars, instead of asking Maven for them |
//! | `KLAMM_TEST_LOG` | The level of Kafka's own logs: `warn` unless set, `info` tells a lot |
//! | `KLAMM_TEST_KEEP` | If set, the brokers' folders under `target/kafka/run` stay for a look |

#![allow(
    clippy::disallowed_methods,
    reason = "test support polls real processes and sockets; it has no close that a sleep could delay"
)]
#![allow(dead_code, reason = "a tool box: not every test needs every tool")]
#![allow(
    clippy::result_large_err,
    reason = "a fault of a whole run, found once, tells all about it"
)]
#![allow(
    unreachable_pub,
    unused_imports,
    reason = "the tool box offers its tools to all test modules"
)]

mod alone;
mod certificates;
mod checker;
mod corner;
mod jars;
mod kafka;
mod listener;
mod logged;
mod members;
mod process;
mod proxy;
mod raw;
mod reading;
mod rehearsal;
mod secured;
mod soak;
mod times;
mod tools;
mod wait;
mod watchdog;
mod written;

pub use alone::{ALONE, alone, klamm_threads, memory, nothing_is_left, sockets};
pub use certificates::{Authority, Identity, LOOPBACK, Validity};
pub use checker::{
    Checker, Commits, Committed, Duplicate, Ending, Fault, Faults, Handled, Handling, History, Line, LogFile, Look,
    Owned, Pause, Rebalance, Recorder, Watching, What, now,
};
pub use corner::{GroupMember, Offsets, PartitionState, Pouring, Seen, Transactions};
pub use jars::class_path;
pub use kafka::{Kafka, KafkaBuilder, shared, shared_behind_a_proxy, wait_for_a_place};
pub use listener::{JavaAccess, JavaClient, Listener, unsecured_token, unsecured_token_with};
pub use logged::LogWatch;
pub use members::{ConsoleMember, JavaMember, MemberProcess, Members, Pattern, run_member};
pub use process::Process;
pub use proxy::{Asked, Direction, Fate, Proxy, Then};
pub use raw::ask;
pub use reading::take;
pub use secured::{Secured, User, secured};
pub use soak::{Random, is_long};
pub use times::Times;
pub use tools::{Described, DumpedBatch, dump_log_segments, dumped_batches, fast_java_tool, java_tool};
pub use wait::{Stop, unique, wait_until};
pub use watchdog::run_folder;
pub use written::{Load, Log, Logged, LoggedBatch, Logs, Outcome, Promise, Running, complaints, judge, judge_by};

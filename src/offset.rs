//! Where to start reading, and what may be read.

use std::time::{Duration, SystemTime};

/// Where in a partition to start.
///
/// ```
/// use std::time::Duration;
/// use klamm::StartAt;
///
/// assert_eq!(StartAt::default(), StartAt::Earliest);
/// let yesterday = StartAt::Ago(Duration::from_secs(24 * 60 * 60));
/// # drop(yesterday);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StartAt {
    /// The oldest message that is still there: nothing is missed.
    #[default]
    Earliest,
    /// Behind the newest message: only what comes from now on.
    Latest,
    /// This offset. One that is not there any more, or not yet, is a matter of `out_of_range`.
    Offset(i64),
    /// The first message written at this time or later; behind the newest one if there is none.
    Timestamp(SystemTime),
    /// The first message written no longer ago than this; behind the newest one if there is none.
    Ago(Duration),
}

/// Whether to see messages of transactions that are not committed (`isolation.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Isolation {
    /// Everything in the log, also what was aborted or may yet be.
    ReadUncommitted,
    /// Only what is committed, or was written without a transaction. Reading waits in front of the oldest open
    /// transaction. The default.
    #[default]
    ReadCommitted,
}

impl Isolation {
    /// As the protocol writes it.
    pub(crate) fn to_wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

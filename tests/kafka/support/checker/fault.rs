//! What can be wrong with a run, and who is to blame.

use std::fmt;
use std::time::Duration;

use klamm::TopicPartition;

use super::{Duplicate, Handled};

/// So many items of a list are told.
const TOLD: usize = 10;

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Handled, but nobody has written it, or not at this offset.
    NotWritten(Handled),
    /// Never handled to the end.
    Loss {
        missing: Vec<(TopicPartition, i64)>,
        /// A try of one of them that did not end.
        begun: Option<Handled>,
    },
    /// Of one member and assignment, and `then` should not have come after `before`.
    Disorder { before: Handled, then: Handled },
    /// At the same time, by two members.
    DoubleOwner { one: Handled, other: Handled },
    /// Committed although the message at `offset`, below it, was not done.
    UnsafeCommit {
        partition: TopicPartition,
        committed: i64,
        offset: i64,
        number: i64,
        /// The last try of it.
        begun: Option<Handled>,
    },
    /// Committed is more than there is.
    CommitBehindEnd {
        partition: TopicPartition,
        committed: i64,
        end: i64,
    },
    /// Committed is less than it was.
    CommitWentBack {
        partition: TopicPartition,
        from: i64,
        to: i64,
        /// When that was seen.
        at: Duration,
    },
    /// Less is committed than is done.
    NotCommitted {
        partition: TopicPartition,
        committed: Option<i64>,
        wanted: i64,
    },
    /// More than were allowed.
    Duplicates {
        count: usize,
        budget: usize,
        records: Vec<Duplicate>,
    },
    /// `then` began before `before` had ended, by the same member.
    AtOnce { before: Handled, then: Handled },
    /// Numbers between these two were left out.
    Gap { before: Handled, then: Handled },
}

impl fmt::Display for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            member,
            assignment,
            partition,
            offset,
            number,
            begin,
            end,
            acked,
            stale,
        } = self;
        write!(
            f,
            "{member} (its assignment {assignment}) with number {number} at offset {offset} of {partition}, begun at {}",
            Clock(begin)
        )?;
        match end {
            Some(end) => write!(f, " for {:?}", end.saturating_sub(*begin))?,
            None => f.write_str(" and not ended")?,
        }
        if acked.is_some() {
            f.write_str(", acked")?;
        }
        if *stale {
            f.write_str(", no longer its own")?;
        }
        Ok(())
    }
}

/// Seconds of the day: what a log can be compared with.
struct Clock<'a>(&'a Duration);

impl fmt::Display for Clock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let [hours, minutes] = [seconds / 3600 % 24, seconds / 60 % 60];
        write!(
            f,
            "{hours:02}:{minutes:02}:{:02}.{:06}",
            seconds % 60,
            self.0.subsec_micros()
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritten(handled) => write!(f, "handled what was never written there: {handled}"),
            Self::Loss { missing, begun } => {
                write!(f, "loss: {} records were not handled to their end:", missing.len())?;
                for (partition, number) in missing.iter().take(TOLD) {
                    write!(f, " {partition} number {number};")?;
                }
                match begun {
                    Some(begun) => write!(f, " one was begun by {begun}"),
                    None => f.write_str(" none of them was even begun"),
                }
            }
            Self::Disorder { before, then } => write!(f, "disorder: {before}; and then {then}"),
            Self::DoubleOwner { one, other } => write!(f, "two owners at once: {one}; and {other}"),
            Self::UnsafeCommit {
                partition,
                committed,
                offset,
                number,
                begun,
            } => {
                write!(
                    f,
                    "unsafe commit: {committed} is committed for {partition}, but offset {offset} (number {number}) is not done: "
                )?;
                match begun {
                    Some(begun) => write!(f, "{begun}"),
                    None => f.write_str("nobody has begun it"),
                }
            }
            Self::CommitBehindEnd {
                partition,
                committed,
                end,
            } => write!(
                f,
                "unsafe commit: {committed} is committed for {partition}, which ends at {end}"
            ),
            Self::CommitWentBack {
                partition,
                from,
                to,
                at,
            } => write!(
                f,
                "the commit of {partition} went back from {from} to {to}, seen at {}",
                Clock(at)
            ),
            Self::NotCommitted {
                partition,
                committed,
                wanted,
            } => write!(f, "{partition} is done up to {wanted}, but {committed:?} is committed"),
            Self::Duplicates { count, budget, records } => {
                write!(f, "{count} duplicates where {budget} are allowed:")?;
                for record in records.iter().take(TOLD) {
                    let Duplicate {
                        partition,
                        number,
                        begun,
                        finished,
                        by,
                    } = record;
                    write!(
                        f,
                        " {partition} number {number} begun {begun} times, finished {finished} times, by {by:?};"
                    )?;
                }
                Ok(())
            }
            Self::AtOnce { before, then } => write!(f, "two at once: {before}; and {then}"),
            Self::Gap { before, then } => write!(f, "left out some numbers: {before}; and then {then}"),
        }
    }
}

impl std::error::Error for Fault {}

/// All that is wrong with a run.
#[derive(Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}

/// What `unwrap` prints: sentences.
impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl std::error::Error for Faults {}

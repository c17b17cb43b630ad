//! Judges a run of group members by what their handlers have recorded: the promises of a group, as checks.
//!
//! ```text
//! Recorder (in this process), MemberProcess, JavaMember  ▸  History  ▸  Checker  ▸  Fault
//! ```
//!
//! Each check can be asked alone; a fault names the culprit.

mod again;
mod commits;
mod fault;
mod history;
mod recorder;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use klamm::TopicPartition;

pub use commits::{Commits, Look};
pub use fault::{Fault, Faults};
pub use history::{Ending, Handled, History, Line, LogFile, Owned, Pause, Rebalance, What, now};
pub use recorder::{Handling, Recorder, Watching};

/// A message that was in hand while its process was stopped may begin so long after that: once for a partition.
const AWAKE: Duration = Duration::from_secs(1);

/// Committed offsets, as `Kafka::committed_offsets` and `Stream::committed` tell them: the next ones to read.
pub type Committed = BTreeMap<TopicPartition, i64>;

#[derive(Debug, Clone, Default)]
pub struct Checker {
    history: History,
    /// The offset of each number.
    written: BTreeMap<TopicPartition, BTreeMap<i64, i64>>,
    acks_count: bool,
}

/// A record that was begun more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    pub partition: TopicPartition,
    pub number: i64,
    /// How often its handling began.
    pub begun: usize,
    /// How often it was handled to the end.
    pub finished: usize,
    /// By whom, and in which of their assignments.
    pub by: Vec<(String, u32)>,
}

impl Checker {
    /// Of all that the members of one group have recorded.
    pub fn of(histories: impl IntoIterator<Item = History>) -> Self {
        let mut history = History::default();
        for one in histories {
            history.add(one);
        }
        Self {
            history,
            ..Self::default()
        }
    }

    /// So many records were written to a topic that holds nothing else: the numbers from 0 on, which are the offsets.
    #[must_use]
    pub fn wrote(mut self, partition: impl Into<TopicPartition>, count: usize) -> Self {
        let numbers = self.written.entry(partition.into()).or_default();
        numbers.extend((0..count as i64).map(|number| (number, number)));
        self
    }

    /// The same for all partitions of a topic, as `Kafka::fill` writes and `Pouring` counts.
    #[must_use]
    pub fn wrote_all(mut self, topic: &str, counts: &BTreeMap<i32, usize>) -> Self {
        for (partition, count) in counts {
            self = self.wrote((topic, *partition), *count);
        }
        self
    }

    /// Records whose offsets are not their numbers: the offset of number 0, of number 1, …
    #[must_use]
    pub fn wrote_at(mut self, partition: impl Into<TopicPartition>, offsets: &[i64]) -> Self {
        let numbers = self.written.entry(partition.into()).or_default();
        numbers.extend((0..).zip(offsets.iter().copied()));
        self
    }

    /// A commit may only cover what was acked; without this, what was handled to its end.
    #[must_use]
    pub fn acks_count(mut self) -> Self {
        self.acks_count = true;
        self
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    /// Everything that must hold in any run: each check but [`one_at_a_time`](Self::one_at_a_time),
    /// [`gapless`](Self::gapless) and [`commit_completeness`](Self::commit_completeness), which depend on how members
    /// work.
    ///
    /// # Errors
    ///
    /// All that is wrong, the first of each kind.
    pub fn all(&self, committed: &Committed, duplicates: usize) -> Result<(), Faults> {
        let checks = [
            self.only_what_was_written(),
            self.loss(),
            self.order(),
            self.single_owner(),
            self.commit_safety(committed),
            self.duplicates_at_most(duplicates),
        ];
        let faults: Vec<Fault> = checks.into_iter().filter_map(Result::err).collect();
        if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
    }

    /// What was handled was written, and is what its offset says.
    pub fn only_what_was_written(&self) -> Result<(), Fault> {
        let stray = self.history.handled.iter().find(|handled| {
            let numbers = self.written.get(&handled.partition);
            numbers.and_then(|numbers| numbers.get(&handled.number)) != Some(&handled.offset)
        });
        stray.map_or(Ok(()), |handled| Err(Fault::NotWritten(handled.clone())))
    }

    /// Every record was handled to its end at least once.
    pub fn loss(&self) -> Result<(), Fault> {
        let done = self.done(|handled| handled.end);
        let mut missing = Vec::new();
        for (partition, numbers) in &self.written {
            let done = done.get(partition);
            for number in numbers.keys() {
                if !done.is_some_and(|done| done.contains_key(number)) {
                    missing.push((partition.clone(), *number));
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let begun = missing.iter().find_map(|(partition, number)| {
            let mut tries = self.history.handled.iter();
            tries.find(|handled| (&handled.partition, handled.number) == (partition, *number))
        });
        Err(Fault::Loss {
            begun: begun.cloned(),
            missing,
        })
    }

    /// What one member is given of a partition in one assignment rises: offsets strictly, and in the order of time.
    pub fn order(&self) -> Result<(), Fault> {
        let mut last: HashMap<_, &Handled> = HashMap::new();
        for handled in &self.history.handled {
            // A message from before a loss may begin after the next assignment: it was on its way.
            let key = (&handled.member, &handled.partition, handled.assignment, handled.stale);
            if let Some(before) = last.insert(key, handled) {
                if handled.offset <= before.offset || handled.begin < before.begin {
                    return Err(Fault::Disorder {
                        before: before.clone(),
                        then: handled.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// No two members handle messages of one partition at the same time.
    ///
    /// Forgiven is what was in hand when a partition moved, if its member says that it has lost or abandoned it.
    pub fn single_owner(&self) -> Result<(), Fault> {
        let owned: HashMap<_, &Owned> = self
            .history
            .owned
            .iter()
            .map(|owned| ((&owned.member, &owned.partition, owned.assignment), owned))
            .collect();
        let owner = |handled: &Handled| {
            let key = (&handled.member, &handled.partition, handled.assignment);
            owned.get(&key).copied()
        };
        for all in by_partition(&self.history.handled).values() {
            let mut running: Vec<&Handled> = Vec::new();
            for &next in all {
                running.retain(|other| self.runs_until(other) > next.begin);
                let mut others = running.iter().filter(|other| other.member != next.member);
                let double = others.find(|other| {
                    let in_hand =
                        |old, new| self.was_in_hand(old, owner(old), owner(new).map_or(new.begin, |o| o.from));
                    !in_hand(other, next) && !in_hand(next, other)
                });
                if let Some(other) = double {
                    return Err(Fault::DoubleOwner {
                        one: (*other).clone(),
                        other: next.clone(),
                    });
                }
                running.push(next);
            }
        }
        Ok(())
    }

    /// Until when a handling may have been at work: its end, or that of its process.
    ///
    /// One that was stopped, and killed before it went on, has done nothing since it was stopped.
    fn runs_until(&self, handled: &Handled) -> Duration {
        let died = || {
            let died = self.history.died.get(&handled.member).copied()?;
            let mut pauses = self.history.pauses.iter();
            let last = pauses.find(|pause| pause.member == handled.member && pause.to >= died);
            Some(last.map_or(died, |pause| pause.from))
        };
        handled.end.or_else(died).unwrap_or(Duration::MAX)
    }

    /// Whether `old` is of an ownership that ended without order, and was handed out before the partition was taken.
    fn was_in_hand(&self, old: &Handled, owned: Option<&Owned>, taken: Duration) -> bool {
        let Some(owned) = owned else { return false };
        let disorderly = matches!(owned.ending, Some(Ending::Lost | Ending::Abandoned));
        disorderly && owned.from <= taken && (old.begin <= taken || self.was_paused(old))
    }

    /// Whether it may have been handed out before its process was stopped, though it began after that: one message for a
    /// partition can be on its way to its handler. So are those that follow it for as long as the thread that would end
    /// this has not woken up, but they say themselves that they are not its own any more.
    fn was_paused(&self, handled: &Handled) -> bool {
        self.history.pauses.iter().any(|pause| {
            let until = pause.to.saturating_add(AWAKE);
            let others = &mut self.history.handled.iter();
            pause.member == handled.member
                && (pause.from..=until).contains(&handled.begin)
                && !others.any(|other| {
                    !handled.stale
                        && (&other.member, &other.partition) == (&handled.member, &handled.partition)
                        && (pause.from..handled.begin).contains(&other.begin)
                })
        })
    }

    /// No committed offset is above the lowest message that is not done.
    pub fn commit_safety(&self, committed: &Committed) -> Result<(), Fault> {
        self.commit_safety_at(committed, Duration::MAX)
    }

    /// The same for offsets that were seen at a time of [`now`]: what was done later does not count.
    pub fn commit_safety_at(&self, committed: &Committed, at: Duration) -> Result<(), Fault> {
        let done = self.done(|handled| if self.acks_count { handled.acked } else { handled.end });
        for (partition, &committed) in committed {
            let Some(numbers) = self.written.get(partition) else {
                continue;
            };
            let done = done.get(partition);
            let is_done = |number| done.and_then(|done| done.get(number)).is_some_and(|when| *when <= at);
            let mut below = numbers.iter().filter(|(_, offset)| **offset < committed);
            if let Some((&number, &offset)) = below.find(|(number, _)| !is_done(number)) {
                let mut tries = self.history.handled.iter().rev();
                let begun = tries.find(|handled| handled.partition == *partition && handled.number == number);
                return Err(Fault::UnsafeCommit {
                    partition: partition.clone(),
                    committed,
                    offset,
                    number,
                    begun: begun.cloned(),
                });
            }
            // Only in a log without markers and gaps is it known where it ends.
            let plain = numbers.iter().all(|(number, offset)| number == offset);
            let end = numbers.last_key_value().map_or(0, |(_, offset)| offset + 1);
            if plain && committed > end {
                return Err(Fault::CommitBehindEnd {
                    partition: partition.clone(),
                    committed,
                    end,
                });
            }
        }
        Ok(())
    }

    /// Whenever somebody looked, what was committed was done by then; and it never went back.
    pub fn commits(&self, looks: &[Look]) -> Result<(), Fault> {
        let mut highest = Committed::new();
        for (at, committed) in looks {
            self.commit_safety_at(committed, *at)?;
            for (partition, &to) in committed {
                let from = highest.insert(partition.clone(), to).unwrap_or(to);
                if to < from {
                    return Err(Fault::CommitWentBack {
                        partition: partition.clone(),
                        from,
                        to,
                        at: *at,
                    });
                }
            }
        }
        Ok(())
    }

    /// All that is done is committed, up to the lowest message that is not: after an orderly end.
    pub fn commit_completeness(&self, committed: &Committed) -> Result<(), Fault> {
        let done = self.done(|handled| if self.acks_count { handled.acked } else { handled.end });
        for (partition, numbers) in &self.written {
            let Some(done) = done.get(partition) else { continue };
            let finished = numbers
                .iter()
                .take_while(|(number, _)| done.contains_key(number))
                .last();
            let wanted = finished.map_or(0, |(_, offset)| offset + 1);
            let committed = committed.get(partition).copied();
            if committed.unwrap_or(0) < wanted {
                return Err(Fault::NotCommitted {
                    partition: partition.clone(),
                    committed,
                    wanted,
                });
            }
        }
        Ok(())
    }

    /// The records that were begun more than once, by partition and number.
    pub fn duplicates(&self) -> Vec<Duplicate> {
        let mut times: BTreeMap<(&TopicPartition, i64), Vec<&Handled>> = BTreeMap::new();
        for handled in &self.history.handled {
            let of_one = times.entry((&handled.partition, handled.number)).or_default();
            of_one.push(handled);
        }
        let repeated = times.into_iter().filter(|(_, all)| all.len() > 1);
        repeated
            .map(|((partition, number), all)| Duplicate {
                partition: partition.clone(),
                number,
                begun: all.len(),
                finished: all.iter().filter(|handled| handled.end.is_some()).count(),
                by: all
                    .iter()
                    .map(|handled| (handled.member.clone(), handled.assignment))
                    .collect(),
            })
            .collect()
    }

    /// How many handlings there were beyond the first of each record, by partition.
    pub fn duplicates_by_partition(&self) -> BTreeMap<TopicPartition, usize> {
        let mut counts = BTreeMap::new();
        for duplicate in self.duplicates() {
            *counts.entry(duplicate.partition).or_default() += duplicate.begun - 1;
        }
        counts
    }

    /// At most so many handlings beyond the first of each record, in all partitions together.
    pub fn duplicates_at_most(&self, budget: usize) -> Result<(), Fault> {
        let records = self.duplicates();
        let count = records.iter().map(|duplicate| duplicate.begun - 1).sum();
        if count <= budget {
            return Ok(());
        }
        Err(Fault::Duplicates { count, budget, records })
    }

    /// At most so many in each partition: "one batch per partition".
    pub fn duplicates_at_most_in_each(&self, budget: usize) -> Result<(), Fault> {
        for (partition, count) in self.duplicates_by_partition() {
            if count > budget {
                let mut records = self.duplicates();
                records.retain(|duplicate| duplicate.partition == partition);
                return Err(Fault::Duplicates { count, budget, records });
            }
        }
        Ok(())
    }

    /// Within one assignment a message begins when the one before it has ended: for members that work in loops, not for
    /// those with a pool of threads.
    pub fn one_at_a_time(&self) -> Result<(), Fault> {
        self.neighbours(
            |before, then| before.end.is_some_and(|end| end <= then.begin),
            |before, then| Fault::AtOnce { before, then },
        )
    }

    /// Within one assignment no number is left out: where nothing seeks and nothing is deleted.
    pub fn gapless(&self) -> Result<(), Fault> {
        self.neighbours(
            |before, then| then.number <= before.number + 1,
            |before, then| Fault::Gap { before, then },
        )
    }

    fn neighbours(
        &self,
        fine: impl Fn(&Handled, &Handled) -> bool,
        fault: impl Fn(Handled, Handled) -> Fault,
    ) -> Result<(), Fault> {
        let mut last: HashMap<_, &Handled> = HashMap::new();
        for handled in self.history.handled.iter().filter(|handled| !handled.stale) {
            let key = (&handled.member, &handled.partition, handled.assignment);
            if let Some(before) = last.insert(key, handled) {
                if !fine(before, handled) {
                    return Err(fault(before.clone(), handled.clone()));
                }
            }
        }
        Ok(())
    }

    /// When each number was first done.
    fn done(&self, when: impl Fn(&Handled) -> Option<Duration>) -> HashMap<&TopicPartition, HashMap<i64, Duration>> {
        let mut done: HashMap<&TopicPartition, HashMap<i64, Duration>> = HashMap::new();
        for handled in &self.history.handled {
            if let Some(at) = when(handled) {
                let of_partition = done.entry(&handled.partition).or_default();
                let first = of_partition.entry(handled.number).or_insert(at);
                *first = at.min(*first);
            }
        }
        done
    }

    /// How many of the written records have been handled to their end.
    pub fn progress(&self) -> (usize, usize) {
        let finished = self.history.handled.iter().filter(|handled| handled.end.is_some());
        let finished: BTreeSet<_> = finished.map(|handled| (&handled.partition, handled.number)).collect();
        (finished.len(), self.written.values().map(BTreeMap::len).sum())
    }
}

/// In the order of their beginning.
fn by_partition(handled: &[Handled]) -> BTreeMap<&TopicPartition, Vec<&Handled>> {
    let mut partitions: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for one in handled {
        partitions.entry(&one.partition).or_default().push(one);
    }
    for all in partitions.values_mut() {
        all.sort_by_key(|one| one.begin);
    }
    partitions
}

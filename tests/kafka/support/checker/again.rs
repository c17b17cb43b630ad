//! What may come again: no more than what was begun and could not be committed.

use std::collections::BTreeMap;
use std::time::Duration;

use klamm::TopicPartition;

use super::{Checker, Ending, Fault, Look, Owned, What};

impl Checker {
    /// How often records may come again: all that was begun since the last commit, of each partition that a member has not
    /// given up in good order, or could not commit.
    ///
    /// Which commit was the last is what somebody saw before the partition had its next owner: what that one begins with.
    pub fn repeatable(&self, looks: &[Look]) -> BTreeMap<TopicPartition, usize> {
        let history = &self.history;
        let mut allowed = BTreeMap::new();
        for owned in history.owned.iter().filter(|owned| self.may_repeat(owned)) {
            let of_partition = history.owned.iter().filter(|other| other.partition == owned.partition);
            let next = of_partition
                .map(|other| other.from)
                .filter(|from| *from > owned.from)
                .min();
            let seen = looks.iter().rev().find(|(at, _)| next.is_none_or(|next| *at <= next));
            let committed = seen.and_then(|(_, committed)| committed.get(&owned.partition).copied());
            let begun = history.handled.iter().filter(|handled| {
                (&handled.member, &handled.partition, handled.assignment)
                    == (&owned.member, &owned.partition, owned.assignment)
                    && handled.offset >= committed.unwrap_or(0)
            });
            *allowed.entry(owned.partition.clone()).or_default() += begun.count();
        }
        allowed
    }

    /// No more came again than might.
    pub fn duplicates_of_uncommitted(&self, looks: &[Look]) -> Result<(), Fault> {
        let allowed = self.repeatable(looks);
        for (partition, count) in self.duplicates_by_partition() {
            let budget = allowed.get(&partition).copied().unwrap_or(0);
            if count > budget {
                let mut records = self.duplicates();
                records.retain(|duplicate| duplicate.partition == partition);
                return Err(Fault::Duplicates { count, budget, records });
            }
        }
        Ok(())
    }

    fn may_repeat(&self, owned: &Owned) -> bool {
        let disorderly = matches!(owned.ending, Some(Ending::Died | Ending::Lost | Ending::Abandoned));
        disorderly || self.could_not_commit(owned)
    }

    /// Whether its member was told that something of it could not be committed.
    fn could_not_commit(&self, owned: &Owned) -> bool {
        let partition = &owned.partition;
        let told = format!("CommitFailed {{ partition: {partition:?},");
        let mut lines = self.history.lines.get(&owned.member).into_iter().flatten();
        lines.any(|line| match &line.what {
            What::Note { text } => {
                text.starts_with(&told) && owned.from <= line.at && owned.to.is_none_or(|to| line.at <= to)
            }
            What::Closed { uncommitted, .. } => {
                self.is_last(owned, line.at) && uncommitted.iter().any(|(one, _)| one == partition)
            }
            _ => false,
        })
    }

    /// Whether its member had the partition no more after that, until then.
    fn is_last(&self, owned: &Owned, until: Duration) -> bool {
        let same = |other: &&Owned| (&other.member, &other.partition) == (&owned.member, &owned.partition);
        let mut others = self.history.owned.iter().filter(same);
        owned.from <= until && !others.any(|other| owned.from < other.from && other.from <= until)
    }
}

//! Which batches of transactions must not be shown.
//!
//! Under read committed a broker returns everything below the last stable offset, aborted records included, and lists
//! the aborted transactions that reach into the answer: a producer, and the offset of its first record. From there on
//! this producer's transactional batches are aborted until its abort marker.

use std::collections::HashSet;

use crate::wire::{batch::Marker, fetch::AbortedTransaction};

/// Goes along the batches of one answer, in order.
#[derive(Debug)]
pub(crate) struct Aborted {
    /// By first offset, the next one last: brokers do not promise an order.
    upcoming: Vec<AbortedTransaction>,
    open: HashSet<i64>,
}

impl Aborted {
    pub(crate) fn new(mut transactions: Vec<AbortedTransaction>) -> Self {
        transactions.sort_unstable_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self {
            upcoming: transactions,
            open: HashSet::new(),
        }
    }

    /// Whether the records of this transactional batch were taken back.
    pub(crate) fn hides(&mut self, producer_id: i64, last_offset: i64) -> bool {
        while self
            .upcoming
            .last()
            .is_some_and(|next| next.first_offset <= last_offset)
        {
            self.open.extend(self.upcoming.pop().map(|next| next.producer_id));
        }
        self.open.contains(&producer_id)
    }

    /// A control batch of this producer: its transaction is over.
    pub(crate) fn marked(&mut self, producer_id: i64, marker: &Marker, offset: i64) {
        if matches!(marker, Marker::Abort) {
            // The transaction may have left no batch before its marker (compaction).
            self.hides(producer_id, offset);
            self.open.remove(&producer_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(list: &[(i64, i64)]) -> Aborted {
        Aborted::new(
            list.iter()
                .map(|&(producer_id, first_offset)| AbortedTransaction {
                    producer_id,
                    first_offset,
                })
                .collect(),
        )
    }

    #[test]
    fn a_producer_s_batches_are_hidden_from_the_first_aborted_offset_to_the_marker() {
        let mut aborted = aborted(&[(1, 10)]);
        assert!(!aborted.hides(1, 9));
        assert!(aborted.hides(1, 12));
        assert!(!aborted.hides(2, 13));
        aborted.marked(1, &Marker::Abort, 14);
        assert!(!aborted.hides(1, 16));
    }

    #[test]
    fn a_batch_that_begins_before_the_transaction_and_holds_its_first_record_is_hidden() {
        assert!(aborted(&[(1, 10)]).hides(1, 10));
    }

    #[test]
    fn one_producer_may_abort_twice_and_commit_between() {
        let mut aborted = aborted(&[(1, 20), (1, 0)]);
        assert!(aborted.hides(1, 1));
        aborted.marked(1, &Marker::Abort, 2);
        assert!(!aborted.hides(1, 11));
        aborted.marked(1, &Marker::Commit, 12);
        assert!(aborted.hides(1, 21));
        aborted.marked(1, &Marker::Abort, 22);
        assert!(!aborted.hides(1, 30));
    }

    #[test]
    fn a_marker_without_batches_closes_its_own_transaction() {
        let mut aborted = aborted(&[(1, 5)]);
        aborted.marked(1, &Marker::Abort, 7);
        assert!(!aborted.hides(1, 9));
    }
}

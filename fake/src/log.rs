//! One partition's batches, and what is known of them by offset, time and epoch.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::{batch::Batch, producers::Producers};

#[derive(Debug, Default)]
pub(crate) struct PartitionLog {
    /// By offset, without gaps but those that tests make.
    batches: VecDeque<Batch>,
    start: i64,
    end: i64,
    /// Where a test keeps the high watermark.
    held_at: Option<i64>,
    /// Each epoch of a leader and the offset it began at, both rising.
    epochs: Vec<(i32, i64)>,
    pub(crate) producers: Producers,
    /// Producer IDs of transactions that have not ended, by first offset.
    open: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
}

/// A transaction that was taken back: its records are between these offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first: i64,
    pub(crate) last: i64,
}

/// How much a Fetch wants of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want {
    pub(crate) offset: i64,
    pub(crate) bytes: usize,
    /// The first batch comes whole, even if it is larger (KIP-74).
    pub(crate) first_whole: bool,
    /// Nothing from here on.
    pub(crate) before: i64,
}

impl PartitionLog {
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// The offset that the next record will have.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// All replicas have what the leader has, so everything is committed at once, unless a test holds that back.
    pub(crate) fn high_watermark(&self) -> i64 {
        self.held_at.map_or(self.end, |held| held.min(self.end))
    }

    pub(crate) fn hold_high_watermark(&mut self, at: Option<i64>) {
        self.held_at = at;
    }

    /// Where the first transaction begins that has not ended.
    pub(crate) fn last_stable(&self) -> i64 {
        let committed = self.high_watermark();
        self.open.keys().next().map_or(committed, |first| committed.min(*first))
    }

    /// Puts a batch at the end and returns the offset of its first record.
    pub(crate) fn append(&mut self, batch: &Batch, leader_epoch: i32) -> i64 {
        let placed = batch.placed(self.end, leader_epoch);
        let base = placed.base;
        self.end = placed.last + 1;
        self.take_in(&placed);
        self.batches.push_back(placed);
        base
    }

    /// What there is from an offset on: whole batches, the last of which may be cut off.
    pub(crate) fn read(&self, want: Want) -> Bytes {
        let first = self.batches.partition_point(|batch| batch.last < want.offset);
        let visible = self.batches.range(first..).take_while(|batch| batch.last < want.before);
        let mut read = BytesMut::new();
        for batch in visible {
            let room = want.bytes.saturating_sub(read.len());
            let fits = batch.bytes.len() <= room;
            if read.is_empty() && !fits && !want.first_whole {
                break;
            }
            if read.is_empty() && (fits || want.first_whole) && batch.bytes.len() >= want.bytes {
                return batch.bytes.clone();
            }
            read.extend_from_slice(&batch.bytes[..batch.bytes.len().min(room)]);
            if !fits {
                break;
            }
        }
        read.freeze()
    }

    /// The transactions whose records a reader of these offsets must leave out.
    pub(crate) fn aborted_between(&self, from: i64, to: i64) -> Vec<Aborted> {
        let overlaps = |aborted: &&Aborted| aborted.last >= from && aborted.first < to;
        self.aborted.iter().filter(overlaps).copied().collect()
    }

    /// Removes what is below an offset, as far as a batch is below it with all of its records.
    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.start = self.start.max(offset);
        while self.batches.front().is_some_and(|batch| batch.last < self.start) {
            self.batches.pop_front();
        }
        self.aborted.retain(|aborted| aborted.last >= offset);
        let current = self.epochs.iter().rposition(|(_, from)| *from <= self.start);
        self.epochs.drain(..current.unwrap_or(0));
        if let Some((_, from)) = self.epochs.first_mut() {
            *from = (*from).max(self.start);
        }
    }

    /// Takes away what a leader that was not in sync did not have. A batch that would be cut in two goes as a whole.
    pub(crate) fn truncate(&mut self, offset: i64) {
        let kept = self.batches.partition_point(|batch| batch.last < offset);
        let cut = self.batches.get(kept).map_or(self.end, |batch| batch.base);
        self.end = cut.min(offset.max(self.start)).max(self.start);
        self.epochs.retain(|(_, from)| *from < self.end);
        // What is known of producers and transactions is what the rest of the log tells.
        self.producers = Producers::default();
        self.open.clear();
        self.aborted.clear();
        let rest: Vec<Batch> = self.batches.drain(..).take(kept).collect();
        for batch in rest {
            self.take_in(&batch);
            self.batches.push_back(batch);
        }
    }

    /// A leader begins its time; what it will write is of this epoch.
    pub(crate) fn begin_epoch(&mut self, epoch: i32) {
        self.epochs.retain(|(_, from)| *from < self.end);
        self.epochs.push((epoch, self.end));
    }

    pub(crate) fn last_epoch(&self) -> i32 {
        self.epochs.last().map_or(-1, |(epoch, _)| *epoch)
    }

    /// The epoch of the record at an offset; -1 if that is not known.
    pub(crate) fn epoch_at(&self, offset: i64) -> i32 {
        let known = self.epochs.iter().rev().find(|(_, from)| *from <= offset);
        known.map_or(-1, |(epoch, _)| *epoch)
    }

    /// The newest epoch that is not above this one, and where it ended; (-1, -1) if that is not known.
    pub(crate) fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        if epoch >= 0 && epoch == self.last_epoch() {
            return (epoch, self.end);
        }
        let Some(higher) = self
            .epochs
            .iter()
            .position(|(known, _)| *known > epoch)
            .filter(|_| epoch >= 0)
        else {
            return (-1, -1);
        };
        let ended = self.epochs[higher].1;
        match higher.checked_sub(1) {
            Some(lower) => (self.epochs[lower].0, ended),
            None => (epoch, ended),
        }
    }

    /// Offset and timestamp of the first record below `before` that is not older.
    pub(crate) fn find_timestamp(&self, timestamp: i64, before: i64) -> Option<(i64, i64)> {
        let mut batches = self.batches.iter();
        let (offset, found) = batches.find_map(|batch| batch.find_timestamp(timestamp))?;
        (offset < before).then_some((offset.max(self.start), found))
    }

    /// Offset and timestamp of the newest record.
    pub(crate) fn newest(&self) -> Option<(i64, i64)> {
        let newest = self.batches.iter().rev().max_by_key(|batch| batch.max_timestamp)?;
        Some((newest.newest(), newest.max_timestamp))
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter()
    }

    fn take_in(&mut self, batch: &Batch) {
        self.producers.wrote(batch);
        let open = self.open.iter().find(|(_, id)| **id == batch.producer_id);
        let first = open.map(|(first, _)| *first);
        if batch.is_control() {
            if let Some(first) = first {
                self.open.remove(&first);
                if batch.is_abort_marker() {
                    self.aborted.push(Aborted {
                        producer_id: batch.producer_id,
                        first,
                        last: batch.last,
                    });
                }
            }
        } else if batch.is_transactional() && first.is_none() {
            self.open.insert(batch.base, batch.producer_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::samples::Sample;

    /// Batches of three records each, from these times on.
    fn log(times: &[i64]) -> PartitionLog {
        let mut log = PartitionLog::default();
        log.begin_epoch(0);
        for timestamp in times {
            let sample = Sample {
                count: 3,
                timestamp: *timestamp,
                ..Sample::default()
            };
            log.append(&sample.batch(), 0);
        }
        log
    }

    fn read(log: &PartitionLog, offset: i64, bytes: usize, first_whole: bool) -> Bytes {
        let before = log.high_watermark();
        log.read(Want {
            offset,
            bytes,
            first_whole,
            before,
        })
    }

    const SIZE: usize = 61 + 3 * 7;

    #[test]
    fn records_are_read_from_the_batch_that_holds_the_offset() {
        let log = log(&[1000, 2000, 3000]);
        assert_eq!(read(&log, 0, 10_000, true).len(), 3 * SIZE);
        assert_eq!(Batch::parse(&read(&log, 5, 10_000, true)).unwrap().base, 3);
        assert!(read(&log, 9, 10_000, true).is_empty());
    }

    #[test]
    fn only_the_first_batch_is_sure_to_be_whole() {
        let log = log(&[1000, 2000]);
        assert_eq!(read(&log, 0, 1, true).len(), SIZE);
        assert_eq!(read(&log, 0, SIZE - 1, false).len(), 0);
        assert_eq!(read(&log, 0, SIZE + 5, false).len(), SIZE + 5);
    }

    #[test]
    fn what_is_not_committed_is_not_read() {
        let mut log = log(&[1000, 2000]);
        log.hold_high_watermark(Some(3));
        assert_eq!((log.high_watermark(), log.end()), (3, 6));
        assert_eq!(read(&log, 0, 10_000, true).len(), SIZE);
        log.hold_high_watermark(None);
        assert_eq!(read(&log, 0, 10_000, true).len(), 2 * SIZE);
    }

    #[test]
    fn a_timestamp_finds_the_first_record_that_is_not_older() {
        let log = log(&[1000, 3000, 2000]);
        assert_eq!(log.find_timestamp(0, 9), Some((0, 1000)));
        assert_eq!(log.find_timestamp(1002, 9), Some((2, 1002)));
        assert_eq!(log.find_timestamp(1500, 9), Some((3, 3000)));
        assert_eq!(log.find_timestamp(1500, 3), None);
        assert_eq!(log.find_timestamp(9999, 9), None);
        assert_eq!(log.newest(), Some((5, 3002)));
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let mut log = log(&[1000]);
        log.begin_epoch(2);
        log.append(&Sample::default().batch(), 2);
        log.begin_epoch(5);
        assert_eq!(log.end_of_epoch(0), (0, 3));
        assert_eq!(log.end_of_epoch(1), (0, 3));
        assert_eq!(log.end_of_epoch(2), (2, 4));
        assert_eq!(log.end_of_epoch(5), (5, 4));
        assert_eq!(log.end_of_epoch(6), (-1, -1));
        assert_eq!(log.end_of_epoch(-1), (-1, -1));
        assert_eq!((log.epoch_at(2), log.epoch_at(3)), (0, 2));
    }

    #[test]
    fn an_epoch_in_which_nothing_was_written_is_forgotten() {
        let mut log = log(&[1000]);
        log.begin_epoch(1);
        log.begin_epoch(2);
        assert_eq!(log.end_of_epoch(1), (0, 3));
        assert_eq!(log.last_epoch(), 2);
    }

    #[test]
    fn deleting_moves_the_start_into_a_batch() {
        let mut log = log(&[1000, 2000]);
        log.delete_before(4);
        assert_eq!((log.start(), log.end()), (4, 6));
        assert_eq!(log.batches().count(), 1);
        log.delete_before(2);
        assert_eq!(log.start(), 4);
    }

    #[test]
    fn truncating_forgets_records_epochs_and_producers() {
        let mut log = log(&[1000]);
        log.begin_epoch(1);
        let written = Sample {
            producer: (7, 0, 0),
            ..Sample::default()
        };
        log.append(&written.batch(), 1);
        log.truncate(3);
        assert_eq!((log.end(), log.last_epoch()), (3, 0));
        assert_eq!(
            log.producers.check(&written.batch()),
            Ok(crate::producers::Verdict::Append)
        );
        log.truncate(1);
        assert_eq!((log.end(), log.batches().count()), (0, 0));
    }

    #[test]
    fn a_transaction_is_unstable_until_its_marker() {
        let mut log = log(&[1000]);
        let of = |producer| Sample {
            producer,
            ..Sample::default()
        };
        log.append(&of((7, 0, 0)).transactional().batch(), 0);
        log.append(&of((8, 0, 0)).transactional().batch(), 0);
        assert_eq!(log.last_stable(), 3);
        log.append(&of((7, 0, -1)).ending(0).batch(), 0);
        assert_eq!(log.last_stable(), 4);
        log.append(&of((8, 0, -1)).ending(1).batch(), 0);
        assert_eq!(log.last_stable(), 7);
        let aborted = Aborted {
            producer_id: 7,
            first: 3,
            last: 5,
        };
        assert_eq!(log.aborted_between(0, 7), [aborted]);
        assert_eq!(log.aborted_between(6, 7), []);
    }
}

//! What a partition knows of those who write to it: sequences, epochs, the batches that may come again.

use std::collections::{HashMap, VecDeque};

use crate::{
    batch::{Batch, Refusal},
    error_code::{INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER},
};

/// So many batches may be in flight, and so many are remembered of each producer.
const REMEMBERED: usize = 5;

#[derive(Debug, Default)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// The newest last.
    batches: VecDeque<Written>,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    first_sequence: i32,
    last_sequence: i32,
    base: i64,
    max_timestamp: i64,
}

/// What is to be done with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// It is in the log already.
    Duplicate {
        base: i64,
        max_timestamp: i64,
    },
}

impl Producers {
    /// What Kafka says to a batch from a client.
    pub(crate) fn check(&self, batch: &Batch) -> Result<Verdict, Refusal> {
        // Who is not known may begin anywhere.
        let Some(producer) = self.by_id.get(&batch.producer_id) else {
            return Ok(Verdict::Append);
        };
        let (first, last) = (batch.base_sequence, batch.last_sequence());
        if batch.producer_epoch == producer.epoch {
            let same = |written: &&Written| (written.first_sequence, written.last_sequence) == (first, last);
            if let Some(written) = producer.batches.iter().find(same) {
                return Ok(Verdict::Duplicate {
                    base: written.base,
                    max_timestamp: written.max_timestamp,
                });
            }
        }
        if batch.producer_epoch < producer.epoch {
            return Err(Refusal {
                code: INVALID_PRODUCER_EPOCH,
                message: "the producer's epoch is older than the last one",
            });
        }
        let expected = match producer.batches.back() {
            Some(newest) if batch.producer_epoch == producer.epoch => following(newest.last_sequence),
            None if batch.producer_epoch == producer.epoch => return Ok(Verdict::Append),
            _ => 0,
        };
        if first != expected {
            return Err(Refusal {
                code: OUT_OF_ORDER_SEQUENCE_NUMBER,
                message: "the sequence does not follow the last one",
            });
        }
        Ok(Verdict::Append)
    }

    /// Remembers a batch that is in the log.
    pub(crate) fn wrote(&mut self, batch: &Batch) {
        if batch.producer_id < 0 {
            return;
        }
        let producer = self.by_id.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.producer_epoch,
            batches: VecDeque::new(),
        });
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if batch.is_control() {
            return;
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Written {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base: batch.base,
            max_timestamp: batch.max_timestamp,
        });
    }

    /// What is left of it when a broker has read it from its disk: of each producer the newest batch.
    pub(crate) fn forget_all_but_the_newest(&mut self) {
        for producer in self.by_id.values_mut() {
            let old = producer.batches.len().saturating_sub(1);
            producer.batches.drain(..old);
        }
    }
}

fn following(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::samples::Sample;

    fn batch(epoch: i16, sequence: i32, base: i64) -> Batch {
        let sample = Sample {
            count: 2,
            producer: (7, epoch, sequence),
            ..Sample::default()
        };
        sample.batch().placed(base, 0)
    }

    fn written(sequences: impl IntoIterator<Item = i32>) -> Producers {
        let mut producers = Producers::default();
        for sequence in sequences {
            producers.wrote(&batch(0, sequence, 100 + i64::from(sequence)));
        }
        producers
    }

    fn duplicate(base: i64) -> Result<Verdict, Refusal> {
        let max_timestamp = 1001;
        Ok(Verdict::Duplicate { base, max_timestamp })
    }

    fn code(producers: &Producers, epoch: i16, sequence: i32) -> i16 {
        producers.check(&batch(epoch, sequence, 0)).unwrap_err().code
    }

    #[test]
    fn who_is_not_known_may_begin_anywhere() {
        assert_eq!(Producers::default().check(&batch(3, 40, 0)), Ok(Verdict::Append));
    }

    #[test]
    fn the_last_five_batches_may_come_again() {
        let producers = written([0, 2, 4, 6, 8, 10]);
        assert_eq!(producers.check(&batch(0, 2, 0)), duplicate(102));
        assert_eq!(producers.check(&batch(0, 10, 0)), duplicate(110));
        assert_eq!(code(&producers, 0, 0), OUT_OF_ORDER_SEQUENCE_NUMBER);
    }

    #[test]
    fn a_restart_leaves_the_newest_batch() {
        let mut producers = written([0, 2, 4]);
        producers.forget_all_but_the_newest();
        assert_eq!(producers.check(&batch(0, 4, 0)), duplicate(104));
        assert_eq!(code(&producers, 0, 2), OUT_OF_ORDER_SEQUENCE_NUMBER);
    }

    #[test]
    fn sequences_have_no_gaps() {
        let producers = written([0]);
        assert_eq!(producers.check(&batch(0, 2, 0)), Ok(Verdict::Append));
        assert_eq!(code(&producers, 0, 3), OUT_OF_ORDER_SEQUENCE_NUMBER);
        assert_eq!(code(&producers, 0, 1), OUT_OF_ORDER_SEQUENCE_NUMBER);
    }

    #[test]
    fn sequences_start_over_after_the_largest_number() {
        let producers = written([i32::MAX - 1]);
        assert_eq!(producers.check(&batch(0, 0, 0)), Ok(Verdict::Append));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
        let mut producers = written([0]);
        assert_eq!(code(&producers, 1, 2), OUT_OF_ORDER_SEQUENCE_NUMBER);
        assert_eq!(producers.check(&batch(1, 0, 0)), Ok(Verdict::Append));
        producers.wrote(&batch(1, 0, 50));
        assert_eq!(code(&producers, 0, 2), INVALID_PRODUCER_EPOCH);
        assert_eq!(code(&producers, 0, 0), INVALID_PRODUCER_EPOCH);
    }
}

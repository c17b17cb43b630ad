//! Who wrote a batch, and which of its batches it is: what lets a broker recognise one that it has already.

/// What a broker hands out to a producer. Batches of one partition are counted under it, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
}

/// Sequence numbers count records, and start again at 0 behind the largest.
pub(super) fn advance(sequence: i32, records: u32) -> i32 {
    let next = (i64::from(sequence) + i64::from(records)) % (i64::from(i32::MAX) + 1);
    i32::try_from(next).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap_to_zero_behind_the_largest() {
        assert_eq!(advance(0, 7), 7);
        assert_eq!(advance(i32::MAX, 1), 0);
        assert_eq!(advance(i32::MAX - 1, 1), i32::MAX);
        assert_eq!(advance(i32::MAX - 1, 5), 3);
    }
}

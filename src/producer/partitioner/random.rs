//! Random numbers for choosing partitions, drawn by many threads at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64: an addition moves it on, so that no thread ever tries again, and neighbouring seeds have nothing in common.
pub(super) struct Random(AtomicU64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below `bound`, which is at least 1.
    pub(super) fn below(&self, bound: u64) -> u64 {
        let scaled = u128::from(self.next()) * u128::from(bound);
        (scaled >> 64) as u64
    }

    fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Odd, so that all states are visited; from the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        let random = Random::new(1_234_567);
        let known = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821_u64,
        ];
        assert_eq!([(); 5].map(|()| random.next()), known);
    }

    #[test]
    fn all_numbers_below_the_bound_are_drawn_and_no_other() {
        let random = Random::new(0);
        let mut drawn = [0; 7];
        for _ in 0..70_000 {
            drawn[random.below(7) as usize] += 1;
        }
        assert!(drawn.iter().all(|times| (9_500..10_500).contains(times)), "{drawn:?}");
        assert_eq!(random.below(1), 0);
        assert!(random.below(u64::MAX) > 1 << 32);
    }
}

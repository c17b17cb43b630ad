//! Uniform sticky partitioning (KIP-794): one partition for a while, so that its batches fill, and then another.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::{Partitions, random::Random};

/// Where records without a key go. Any number of threads may ask at once, and none waits for another.
pub(super) struct Sticky {
    /// Bytes that one partition gets before another is chosen.
    limit: u32,
    /// The [`Share`] that is being given out.
    share: AtomicU64,
    /// How many partitions there were when it was chosen. It may be behind for a moment, which costs one more choice.
    among: AtomicI32,
    random: Random,
}

impl Sticky {
    pub(super) fn new(limit: usize, seed: u64) -> Self {
        Self {
            limit: u32::try_from(limit).unwrap_or(LONGEST).clamp(1, LONGEST),
            share: AtomicU64::new(0),
            among: AtomicI32::new(0),
            random: Random::new(seed),
        }
    }

    /// As long as the share lasts, this is one addition and one load of what threads share.
    #[inline]
    pub(super) fn choose(&self, size: usize, partitions: &impl Partitions) -> i32 {
        let count = partitions.count();
        let size = self.counted(size);
        let share = Share(self.share.fetch_add(size, Ordering::Relaxed));
        if !self.stands(share, count, partitions) {
            return self.choose_anew(size, count, partitions);
        }
        if share.is_leaderless() {
            // Such a share is short: leaders are looked for among n partitions once for n records.
            let more = u64::from(self.limit) / u64::from(count.unsigned_abs());
            self.share.fetch_add(more.max(1), Ordering::Relaxed);
        }
        share.partition()
    }

    /// What a record counts for. None is so large that a few threads at once could overflow a share.
    fn counted(&self, size: usize) -> u64 {
        u64::from(u32::try_from(size).unwrap_or(u32::MAX).clamp(1, self.limit))
    }

    fn stands(&self, share: Share, count: i32, partitions: &impl Partitions) -> bool {
        share.used() < self.limit
            && share.partition() < count
            && self.among.load(Ordering::Relaxed) == count
            && (share.is_leaderless() || partitions.has_leader(share.partition()))
    }

    fn choose_anew(&self, size: u64, count: i32, partitions: &impl Partitions) -> i32 {
        let mut fresh = None;
        let mut chosen = 0;
        let take = |share| {
            let share = match Share(share) {
                // Another thread has been faster.
                share if self.stands(share, count, partitions) => share,
                _ => *fresh.get_or_insert_with(|| self.fresh(count, partitions)),
            };
            chosen = share.partition();
            Some(share.0 + size)
        };
        let _ = self.share.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if fresh.is_some() {
            self.among.store(count, Ordering::Relaxed);
        }
        chosen
    }

    fn fresh(&self, count: i32, partitions: &impl Partitions) -> Share {
        match self.weighted(count, partitions) {
            Some(partition) => Share::of(partition),
            None => Share::leaderless(self.random.below(u64::from(count.unsigned_abs())) as i32),
        }
    }

    /// One of those that have a leader: the more waits for it compared to the others, the less probable it is.
    fn weighted(&self, count: i32, partitions: &impl Partitions) -> Option<i32> {
        let load = |partition| Some((partition, as_weight(partitions.load(partition)?)));
        let loads: Vec<(i32, u64)> = (0..count).filter_map(load).collect();
        let most = loads.iter().map(|(_, load)| load).max()?;
        let weights = || loads.iter().map(|(partition, load)| (*partition, most + 1 - load));
        let mut left = self.random.below(weights().map(|(_, weight)| weight).sum());
        for (partition, weight) in weights() {
            if left < weight {
                return Some(partition);
            }
            left -= weight;
        }
        None
    }
}

/// Sizes are added without looking: this leaves room for what several threads add before one of them chooses anew.
const LONGEST: u32 = 1 << 30;

/// Small enough that no number of partitions makes a sum overflow.
fn as_weight(load: usize) -> u64 {
    u64::from(u32::try_from(load).unwrap_or(u32::MAX))
}

/// A partition, how much of its share it has got, and whether it was chosen while none had a leader: in one number, so
/// that one addition counts a record and tells where it goes. Used bytes are the lower half, and the flag is the highest
/// bit.
#[derive(Clone, Copy)]
struct Share(u64);

impl Share {
    fn of(partition: i32) -> Self {
        Self(u64::from(partition.unsigned_abs()) << 32)
    }

    fn leaderless(partition: i32) -> Self {
        Self(Self::of(partition).0 | LEADERLESS)
    }

    fn used(self) -> u32 {
        self.0 as u32
    }

    fn partition(self) -> i32 {
        ((self.0 & !LEADERLESS) >> 32) as i32
    }

    fn is_leaderless(self) -> bool {
        self.0 & LEADERLESS != 0
    }
}

const LEADERLESS: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::atomic::AtomicUsize};

    use proptest::prelude::*;

    use super::*;
    use crate::producer::partitioner::tests::{Known, even, led};

    #[test]
    fn a_partition_is_kept_until_it_has_its_bytes() {
        let (sticky, partitions) = (Sticky::new(1000, 1), led(1000));
        let mut runs = runs((0..500).map(|_| sticky.choose(100, &partitions)));
        assert!(runs.len() > 45, "{runs:?}");
        runs.retain(|(_, records)| records % 10 != 0);
        assert_eq!(runs, []);
    }

    #[test]
    fn the_record_that_fills_a_share_still_belongs_to_it() {
        let (sticky, partitions) = (Sticky::new(1000, 2), led(1_000_000));
        let chosen = [999, 1, 1, 5000, 1000, 0, usize::MAX, 1].map(|size| sticky.choose(size, &partitions));
        let records: Vec<_> = runs(chosen).into_iter().map(|(_, records)| records).collect();
        assert_eq!(records, [2, 2, 1, 2, 1]);
    }

    fn runs(chosen: impl IntoIterator<Item = i32>) -> Vec<(i32, usize)> {
        let mut runs: Vec<(i32, usize)> = Vec::new();
        for partition in chosen {
            match runs.last_mut() {
                Some((last, records)) if *last == partition => *records += 1,
                _ => runs.push((partition, 1)),
            }
        }
        runs
    }

    /// How often each was chosen, when every record ends a share.
    fn shares(seed: u64, partitions: &Known, times: usize) -> Vec<usize> {
        let sticky = Sticky::new(1, seed);
        let mut shares = vec![0; partitions.count() as usize];
        for _ in 0..times {
            shares[sticky.choose(1, partitions) as usize] += 1;
        }
        shares
    }

    #[test]
    fn equal_partitions_get_equal_shares() {
        for seed in 0..3 {
            for load in [0, 7, usize::MAX] {
                let shares = shares(seed, &Known::of([Some(load); 12]), 24_000);
                even(&shares, 2_000);
            }
        }
    }

    #[test]
    fn the_more_waits_for_a_partition_the_less_it_gets() {
        for seed in 0..5 {
            let shares = shares(seed, &Known::of([Some(0), Some(5), None, Some(9)]), 16_000);
            let expected = [10_000, 5_000, 0, 1_000];
            for (at, (got, expected)) in shares.iter().zip(expected).enumerate() {
                assert!(got.abs_diff(expected) <= expected / 5, "{at}: {shares:?}");
            }
        }
    }

    #[test]
    fn a_partition_that_is_stuck_gets_next_to_nothing() {
        for stuck in [1_000, 1 << 40, usize::MAX] {
            let shares = shares(3, &Known::of([Some(0), Some(stuck), Some(0), Some(1)]), 9_000);
            assert!(shares[1] < 20, "{shares:?}");
            even(&[shares[0], shares[2], shares[3]], 3_000);
        }
    }

    #[test]
    fn a_partition_that_lost_its_leader_gets_nothing_more_while_another_has_one() {
        let (sticky, mut partitions) = (Sticky::new(1 << 20, 4), led(6));
        let mut seen = Vec::new();
        for _ in 0..5 {
            let now = sticky.choose(10, &partitions);
            assert!(!seen.contains(&now));
            assert_eq!(sticky.choose(10, &partitions), now);
            partitions.set(now, None);
            seen.push(now);
        }
        let last = sticky.choose(10, &partitions);
        assert!(!seen.contains(&last));
        // Nobody has one now.
        partitions.set(last, None);
        assert!((0..6).contains(&sticky.choose(10, &partitions)));
    }

    #[test]
    fn the_first_leader_of_a_new_topic_is_found_soon() {
        for count in [1, 3, 50] {
            let (sticky, mut partitions) = (Sticky::new(1 << 20, 5), Known::of(vec![None; count]));
            for _ in 0..100 {
                assert!((0..count as i32).contains(&sticky.choose(10, &partitions)));
            }
            partitions.set(count as i32 - 1, Some(0));
            let before = (0..)
                .take_while(|_| sticky.choose(10, &partitions) != count as i32 - 1)
                .count();
            assert!(before <= count, "{before} of {count}");
            // And the share is a whole one.
            for _ in 0..1000 {
                assert_eq!(sticky.choose(10, &partitions), count as i32 - 1);
            }
        }
    }

    #[test]
    fn partitions_that_are_added_are_used_and_those_that_are_gone_are_not() {
        let (sticky, mut partitions) = (Sticky::new(1 << 30, 6), led(2));
        assert!(sticky.choose(10, &partitions) < 2);
        // The share is nearly untouched: the growth alone makes it choose anew.
        let mut seen = [false; 4];
        for _ in 0..100 {
            partitions = led(2);
            assert!(sticky.choose(10, &partitions) < 2);
            partitions = led(4);
            let now = sticky.choose(10, &partitions);
            assert_eq!(sticky.choose(10, &partitions), now);
            seen[now as usize] = true;
        }
        assert_eq!(seen, [true; 4]);
        drop(partitions);
        assert_eq!(sticky.choose(10, &led(1)), 0);
    }

    #[test]
    fn partitions_are_looked_through_for_each_share_and_not_for_each_record() {
        for leader in [Some(0), None] {
            let (sticky, partitions) = (Sticky::new(100_000, 7), Known::of(vec![leader; 1000]));
            for _ in 0..10_000 {
                sticky.choose(100, &partitions);
            }
            // Ten shares, and the current partition of each record.
            assert!(partitions.looked.load(Ordering::Relaxed) <= 10_000 + 12 * 1000);
        }
    }

    #[test]
    fn the_largest_numbers_hold() {
        let sticky = Sticky::new(usize::MAX, 8);
        let partitions = Known::of(vec![Some(usize::MAX), Some(0)]);
        for _ in 0..1000 {
            assert!(sticky.choose(usize::MAX, &partitions) < 2);
        }
        let share = Share(Share::leaderless(i32::MAX).0 + u64::from(u32::MAX));
        assert_eq!((share.partition(), share.used()), (i32::MAX, u32::MAX));
        assert!(share.is_leaderless() && !Share::of(i32::MAX).is_leaderless());
    }

    #[test]
    fn a_thread_that_comes_late_has_part_in_the_share_that_another_has_chosen() {
        let (sticky, partitions) = (Sticky::new(1000, 11), led(1000));
        let chosen = sticky.choose(600, &partitions);
        assert_eq!(sticky.choose_anew(400, 1000, &partitions), chosen);
        assert_ne!(sticky.choose(1, &partitions), chosen);
    }

    #[test]
    fn threads_that_disagree_on_what_is_there_keep_to_their_own_view() {
        // One knew of four partitions and chose the last; another knew of two, and came later with saying so.
        let sticky = Sticky::new(1000, 12);
        sticky.share.store(Share::of(3).0, Ordering::Relaxed);
        sticky.among.store(2, Ordering::Relaxed);
        assert!(sticky.choose(10, &led(2)) < 2);
    }

    const THREADS: usize = 4;

    #[test]
    fn threads_fill_a_share_together() {
        const RECORDS: usize = 20_000;
        // So many partitions that hardly one is chosen twice: 80 shares.
        let (sticky, partitions) = (Sticky::new(100_000, 9), led(5_000));
        let totals = std::thread::scope(|scope| {
            let fill = || {
                let mut got = BTreeMap::new();
                for _ in 0..RECORDS {
                    *got.entry(sticky.choose(100, &partitions)).or_insert(0) += 100;
                }
                got
            };
            let threads = [(); THREADS].map(|()| scope.spawn(fill));
            let mut totals: BTreeMap<i32, usize> = BTreeMap::new();
            for (partition, bytes) in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
                *totals.entry(partition).or_default() += bytes;
            }
            totals
        });
        let short = totals.values().filter(|bytes| **bytes < 100_000).count();
        // The last share; and at the start each thread may have chosen one before it saw another's.
        assert!(short <= THREADS, "{totals:?}");
        assert!((70..=80 + THREADS).contains(&totals.len()), "{totals:?}");
    }

    /// Partitions that come, and leaders that come and go, while threads choose.
    struct Moving {
        count: AtomicI32,
        leaderless: AtomicI32,
        looked: AtomicUsize,
    }

    /// What one call sees of it.
    struct Glimpse<'a>(&'a Moving, i32);

    impl Partitions for Glimpse<'_> {
        fn count(&self) -> i32 {
            self.1
        }

        fn load(&self, partition: i32) -> Option<usize> {
            assert!((0..self.1).contains(&partition));
            self.0.looked.fetch_add(1, Ordering::Relaxed);
            (self.0.leaderless.load(Ordering::Relaxed) != partition).then_some(3)
        }
    }

    #[test]
    fn threads_keep_to_what_is_there_while_partitions_and_leaders_move() {
        const RECORDS: usize = 20_000;
        let sticky = Sticky::new(50_000, 10);
        let moving = Moving {
            count: AtomicI32::new(2),
            leaderless: AtomicI32::new(-1),
            looked: AtomicUsize::new(0),
        };
        let totals: Vec<usize> = std::thread::scope(|scope| {
            let fill = || {
                let mut got = vec![0; 20];
                for record in 0..RECORDS {
                    if record % 1000 == 0 {
                        moving.count.fetch_add(i32::from(record % 5000 == 0), Ordering::Relaxed);
                        moving
                            .leaderless
                            .store((record / 1000 % 3) as i32 - 1, Ordering::Relaxed);
                    }
                    let count = moving.count.load(Ordering::Relaxed);
                    let chosen = sticky.choose(100, &Glimpse(&moving, count));
                    assert!((0..count).contains(&chosen));
                    got[chosen as usize] += 1;
                }
                got
            };
            let threads = [(); THREADS].map(|()| scope.spawn(fill));
            let got = threads.map(|thread| thread.join().unwrap());
            (0..20).map(|at| got.iter().map(|of| of[at]).sum()).collect()
        });
        assert_eq!(totals.iter().sum::<usize>(), THREADS * RECORDS);
        // 16 times a partition came, 80 times a leader may have gone, 160 shares: each looked through by all threads
        // at worst, and here and there by one that was late.
        let looked = moving.looked.load(Ordering::Relaxed);
        assert!(looked < 3 * THREADS * RECORDS, "{looked}");
        // They go on as before when nothing moves: 500 records to a share, and the first may be the last of one.
        let runs = runs((0..400).map(|_| sticky.choose(100, &led(18))));
        assert!(runs.len() <= 2, "{runs:?}");
    }

    proptest! {
        #[test]
        fn choices_are_in_range_and_have_a_leader_if_any_has(
            limit in 1_usize..3000, seed in any::<u64>(),
            steps in proptest::collection::vec((0_usize..2000, proptest::option::weighted(0.3,
                (0_usize..12, proptest::collection::vec(proptest::option::of(0_usize..100), 1..12)))), 1..200),
        ) {
            let sticky = Sticky::new(limit, seed);
            let mut partitions = led(3);
            for (size, change) in steps {
                if let Some((leader, mut loads)) = change {
                    let at = leader % loads.len();
                    loads[at].get_or_insert(0);
                    partitions = Known::of(loads);
                }
                let chosen = sticky.choose(size, &partitions);
                prop_assert!((0..partitions.count()).contains(&chosen));
                prop_assert!(partitions.has_leader(chosen));
            }
        }

        #[test]
        fn choices_are_in_range_also_while_none_has_a_leader(
            limit in 1_usize..3000, seed in any::<u64>(),
            steps in proptest::collection::vec((0_usize..2000, 1_usize..12, proptest::option::of(0_usize..100)), 1..200),
        ) {
            let sticky = Sticky::new(limit, seed);
            for (size, count, load) in steps {
                let partitions = Known::of(vec![load; count]);
                prop_assert!((0..partitions.count()).contains(&sticky.choose(size, &partitions)));
            }
        }
    }
}

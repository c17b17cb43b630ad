//! How many bytes each partition may hold: shares, borrowing, and reservations of the total.

use super::config::{FetchConfig, PrefetchRule};

/// What a partition that has nothing may ask for in any case, whatever the others hold, unless its batches are longer
/// ([`Account::least`]). No share is smaller.
pub(crate) const LEAST_SHARE: usize = 64 << 10;

/// What one partition holds, in bytes and records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Asked for by the Fetch that is under way.
    pub reserved: usize,
    /// Received, not yet decoded.
    pub raw: usize,
    pub raw_records: usize,
    /// How much longer that is expected to become when it is inflated. It is not there yet; but what is asked for beside
    /// it would have to wait for so much.
    pub raw_growth: usize,
    /// Decoded, waiting for the program.
    pub ready: usize,
    pub ready_records: usize,
    /// Handed to the program: counts in the partition's window, not in the total.
    pub in_hand: usize,
    pub in_hand_records: usize,
    /// How long the longest batch of its last answer was: a broker leaves out what does not fit.
    pub batch: usize,
}

impl Account {
    fn counted(&self) -> usize {
        self.raw + self.ready
    }

    fn window(&self) -> usize {
        self.reserved + self.counted() + self.in_hand
    }

    fn decoded_records(&self) -> usize {
        self.ready_records + self.in_hand_records
    }

    /// What it may ask for in any case while it has nothing.
    pub(crate) fn least(&self) -> usize {
        self.batch.max(LEAST_SHARE)
    }

    /// Nothing is here, and nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.window() == 0
    }
}

/// How much longer batches become when they are inflated, in eighths, and a little more: the next one is likely to be
/// similar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expansion(usize);

impl Default for Expansion {
    fn default() -> Self {
        Self(32)
    }
}

impl Expansion {
    pub(crate) fn of(self, bytes: usize) -> usize {
        bytes.saturating_mul(self.0) / 8
    }

    /// Bounded, so that one batch of zeros does not make all others ask for memory that they do not need.
    pub(crate) fn learn(&mut self, input: usize, output: usize) {
        self.0 = output.saturating_mul(9).div_ceil(input.max(1)).clamp(8, 128);
    }
}

/// The total, and what is used of it.
///
/// A Fetch that is under way counts as a whole: many idle partitions in it reserve no more than the one answer that can
/// come of it.
#[derive(Debug)]
pub(crate) struct Budget {
    total: usize,
    used: usize,
    /// How much of it is expected to grow.
    growth: usize,
    asked: usize,
    peak: usize,
    /// What a partition may hold without borrowing.
    share: usize,
}

impl Budget {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            total,
            used: 0,
            growth: 0,
            asked: 0,
            peak: 0,
            share: total.max(LEAST_SHARE),
        }
    }

    pub(crate) fn set_partitions(&mut self, partitions: usize) {
        self.share = (self.total / partitions.max(1)).max(LEAST_SHARE);
    }

    /// The most that was ever used at once.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }

    /// Changes a partition's account; every change goes through here, so that the total holds.
    pub(crate) fn change(&mut self, account: &mut Account, change: impl FnOnce(&mut Account)) {
        let (before, growth) = (account.counted(), account.raw_growth);
        change(account);
        self.used = self.used - before + account.counted();
        self.growth = self.growth - growth + account.raw_growth;
        self.peak = self.peak.max(self.used);
    }

    /// What may be asked for now.
    pub(crate) fn free(&self) -> usize {
        self.total.saturating_sub(self.used + self.growth + self.asked)
    }

    /// Nothing waits to be read.
    pub(crate) fn is_unused(&self) -> bool {
        self.used == 0
    }

    /// A Fetch for at most this many bytes leaves; [`answered`](Self::answered) takes it back.
    pub(crate) fn ask(&mut self, bytes: usize) {
        self.asked += bytes;
    }

    pub(crate) fn answered(&mut self, bytes: usize) {
        self.asked -= bytes;
    }

    /// How many bytes more this partition may decode.
    pub(crate) fn room(&self, account: &Account, config: &FetchConfig) -> usize {
        // What comes of the raw bytes has been waited for.
        self.room_beside(self.used + self.asked, account, account.decoded_records(), config)
    }

    fn room_beside(&self, taken: usize, account: &Account, records: usize, config: &FetchConfig) -> usize {
        let bytes = account.window();
        let full = match config.prefetch_rule {
            PrefetchRule::Either => records >= config.prefetch_count || bytes >= config.prefetch_bytes,
            PrefetchRule::Both => records >= config.prefetch_count && bytes >= config.prefetch_bytes,
        };
        if full {
            return 0;
        }
        let window = match config.prefetch_rule {
            PrefetchRule::Either => config.prefetch_bytes,
            // Small records may go beyond the bytes, as far as the total allows.
            PrefetchRule::Both => config.prefetch_bytes.max(self.total),
        };
        let free = self.total.saturating_sub(taken);
        // A quarter is never lent, so that who comes late finds something.
        let lendable = (self.total / 4 * 3).saturating_sub(taken);
        let own = self.share.min(window).saturating_sub(bytes).min(free);
        let borrowed = lendable.min(window.saturating_sub(bytes));
        let least = if account.is_empty() {
            account.least().min(window)
        } else {
            0
        };
        own.max(borrowed).max(least)
    }

    /// What a Fetch should reserve for this partition; None when it is not worth asking.
    pub(crate) fn reservation(&self, account: &Account, config: &FetchConfig) -> Option<usize> {
        let taken = self.used + self.growth + self.asked;
        let records = account.raw_records + account.decoded_records();
        let room = self.room_beside(taken, account, records, config);
        // A partition that has plenty is not asked for a little: small answers cost as much as large ones. What is plenty
        // depends on how much others leave to it; what is in the program's hand is no supply.
        let lendable = (self.total / 4 * 3).saturating_sub(taken);
        let may_hold = self.share.max(account.counted() + lendable).min(config.prefetch_bytes);
        let least = (may_hold / 4).min(config.partition_max_bytes).max(1);
        (room >= least || (room > 0 && account.is_empty())).then(|| room.min(config.partition_max_bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn budget(total: usize, partitions: usize) -> Budget {
        let mut budget = Budget::new(total);
        budget.set_partitions(partitions);
        budget
    }

    #[test]
    fn what_the_program_has_in_hand_does_not_make_its_partition_ask_for_more_at_a_time() {
        let config = FetchConfig::default();
        let mut budget = budget(64 << 20, 64);
        let (mut others, mut mine) = (Account::default(), Account::default());
        budget.change(&mut others, |account| account.ready = (48 << 20) - (3 << 19));
        budget.change(&mut mine, |account| account.in_hand = 5 << 20);
        assert_eq!(budget.reservation(&mine, &config), Some(3 << 19));
    }

    #[test]
    fn a_partition_that_has_nearly_all_for_itself_is_asked_for_much_at_a_time() {
        let config = FetchConfig::default();
        let mut budget = budget(64 << 20, 51);
        let mut mine = Account::default();
        budget.change(&mut mine, |account| account.ready = 7 << 20);
        assert_eq!(budget.reservation(&mine, &config), None);
        budget.change(&mut mine, |account| account.ready = 6 << 20);
        assert_eq!(budget.reservation(&mine, &config), Some(2 << 20));
    }

    #[test]
    fn what_is_compressed_counts_as_what_it_will_become_for_who_asks() {
        let (mut budget, mut others, config) = (budget(64 << 20, 12), Account::default(), FetchConfig::default());
        let nobody = Account::default();
        budget.change(&mut others, |account| {
            (account.raw, account.raw_growth) = (12 << 20, 52 << 20)
        });
        assert_eq!(budget.reservation(&nobody, &config), Some(LEAST_SHARE));
        assert!(
            budget.room(&nobody, &config) > LEAST_SHARE,
            "it may be inflated all the same"
        );
        assert_eq!(budget.peak(), 12 << 20);
        budget.change(&mut others, |account| (account.raw, account.raw_growth) = (0, 0));
        assert_eq!(budget.reservation(&nobody, &config), Some(4 << 20));
    }

    #[test]
    fn records_that_are_not_decoded_yet_count_for_who_asks() {
        let (budget, config) = (budget(64 << 20, 1), FetchConfig::default());
        let account = Account {
            raw: 1 << 20,
            raw_records: config.prefetch_count,
            ..Account::default()
        };
        assert_eq!(budget.reservation(&account, &config), None);
        assert!(budget.room(&account, &config) > 0);
    }

    #[test]
    fn one_partition_may_fill_its_window_and_no_more() {
        let (mut budget, mut account, config) = (budget(64 << 20, 1), Account::default(), FetchConfig::default());
        assert_eq!(budget.reservation(&account, &config), Some(4 << 20));
        budget.change(&mut account, |account| account.ready = 4 << 20);
        assert_eq!(budget.reservation(&account, &config), Some(4 << 20));
        budget.change(&mut account, |account| account.ready = 8 << 20);
        assert_eq!(budget.reservation(&account, &config), None);
    }

    #[test]
    fn what_is_in_the_program_s_hand_counts_in_the_window_only() {
        let (mut budget, mut account, config) = (budget(64 << 20, 1), Account::default(), FetchConfig::default());
        budget.change(&mut account, |account| account.in_hand = 8 << 20);
        assert_eq!(budget.reservation(&account, &config), None);
        assert_eq!(budget.used, 0);
    }

    #[test]
    fn a_fetch_that_is_under_way_leaves_less_to_borrow() {
        let (mut budget, config) = (budget(16 << 20, 8), FetchConfig::default());
        budget.ask(13 << 20);
        assert_eq!(budget.reservation(&Account::default(), &config), Some(2 << 20));
        budget.answered(13 << 20);
        assert_eq!(budget.reservation(&Account::default(), &config), Some(4 << 20));
    }

    #[test]
    fn records_fill_the_window_too() {
        let (mut budget, mut account) = (budget(64 << 20, 1), Account::default());
        let mut config = FetchConfig::default();
        budget.change(&mut account, |account| account.ready_records = 100_000);
        assert_eq!(budget.room(&account, &config), 0);
        config.prefetch_rule = PrefetchRule::Both;
        assert!(budget.room(&account, &config) > 0);
    }

    #[test]
    fn a_quarter_is_kept_for_who_comes_late() {
        let (mut budget, mut greedy) = (budget(16 << 20, 4), Account::default());
        let config = FetchConfig {
            prefetch_bytes: 16 << 20,
            ..FetchConfig::default()
        };
        while let Some(bytes) = budget.reservation(&greedy, &config) {
            budget.change(&mut greedy, |account| account.ready += bytes);
        }
        assert_eq!(greedy.ready, 12 << 20);
        assert_eq!(budget.reservation(&Account::default(), &config), Some(4 << 20));
    }

    #[test]
    fn a_partition_that_has_nothing_never_waits_for_others() {
        let (mut budget, mut others, config) = (budget(16 << 20, 4), Account::default(), FetchConfig::default());
        budget.change(&mut others, |account| account.ready = 16 << 20);
        assert_eq!(budget.reservation(&Account::default(), &config), Some(LEAST_SHARE));
    }

    #[test]
    fn a_partition_that_has_nothing_asks_for_a_whole_batch() {
        let (mut budget, mut others, config) = (budget(16 << 20, 400), Account::default(), FetchConfig::default());
        budget.change(&mut others, |account| account.ready = 16 << 20);
        let mut account = Account {
            batch: 100_000,
            ..Account::default()
        };
        assert_eq!(budget.reservation(&account, &config), Some(100_000));
        budget.change(&mut account, |account| account.ready = 1);
        assert_eq!(budget.reservation(&account, &config), None);
    }

    proptest! {
        /// The bound that is documented: whatever the order of Fetches, the total and the least that each may ask for.
        #[test]
        fn reservations_never_exceed_the_total_by_more_than_the_least_for_each(
            total in (1_usize << 20)..(64 << 20),
            batches in proptest::collection::vec(prop_oneof![Just(0), 0_usize..2 << 20], 1..200),
            order in proptest::collection::vec(0_usize..200, 1..400),
        ) {
            let config = FetchConfig::default();
            let mut budget = budget(total, batches.len());
            let mut accounts: Vec<Account> =
                batches.iter().map(|&batch| Account { batch, ..Account::default() }).collect();
            for at in order {
                let account = &mut accounts[at % batches.len()];
                if let Some(bytes) = budget.reservation(account, &config) {
                    budget.change(account, |account| account.ready += bytes);
                }
            }
            prop_assert_eq!(budget.used, accounts.iter().map(Account::counted).sum::<usize>());
            prop_assert!(budget.used <= total + accounts.iter().map(Account::least).sum::<usize>());
            prop_assert!(accounts.iter().all(|account| account.window() <= config.prefetch_bytes.max(budget.share)));
        }
    }
}

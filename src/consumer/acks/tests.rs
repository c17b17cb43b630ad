use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const ORDERS: [CommitOrder; 3] = [
    CommitOrder::LowestContiguous,
    CommitOrder::Monotonic,
    CommitOrder::LastWins,
];

fn given(order: CommitOrder, start: i64, to: i64) -> Acks {
    let mut acks = Acks::new(order, start);
    acks.given(to);
    acks
}

fn chunk(from: i64, to: i64, bytes: usize) -> Held {
    Held {
        from,
        to,
        bytes,
        records: usize::try_from(to - from).unwrap(),
    }
}

fn freed(bytes: usize, records: usize) -> Freed {
    Freed { bytes, records }
}

#[test]
fn an_ack_makes_the_offset_behind_it_committable_and_frees_the_window() {
    for order in ORDERS {
        let mut acks = given(order, 5, 7);
        assert_eq!(acks.committable(), None);
        assert_eq!((acks.unfinished(), acks.oldest_unacked()), (2, Some(5)));
        acks.ack(5, 6);
        assert_eq!(acks.committable(), Some(6));
        assert_eq!((acks.unfinished(), acks.oldest_unacked()), (1, Some(6)));
    }
}

#[test]
fn acks_may_come_from_any_thread() {
    let mut acks = given(CommitOrder::default(), 0, 2);
    std::thread::scope(|scope| {
        scope.spawn(|| acks.ack(1, 2));
    });
    acks.ack(0, 1);
    assert_eq!(acks.committable(), Some(2));
}

#[test]
fn a_release_frees_the_window_and_commits_nothing() {
    for order in ORDERS {
        let mut acks = given(order, 0, 3);
        acks.hold(chunk(0, 3, 300));
        for offset in [1, 0, 1, 2] {
            assert_eq!(acks.take_freed(), freed(0, 0));
            acks.release(offset);
        }
        assert_eq!(acks.take_freed(), freed(300, 3));
        assert_eq!((acks.committable(), acks.unfinished()), (None, 0));
        assert_eq!(acks.oldest_unacked(), Some(0));
    }
}

#[test]
fn what_was_released_may_still_be_acked_and_is_free_once() {
    let mut acks = given(CommitOrder::LowestContiguous, 0, 2);
    acks.hold(chunk(0, 2, 200));
    acks.release(0);
    acks.ack(0, 1);
    assert_eq!((acks.committable(), acks.unfinished()), (Some(1), 1));
    assert_eq!(acks.take_freed(), freed(0, 0));
    acks.ack(1, 2);
    acks.release(1);
    assert_eq!(acks.take_freed(), freed(200, 2));
    assert_eq!(acks.take_freed(), freed(0, 0));
    assert!(acks.free.is_none());
}

#[test]
fn what_was_given_back_does_not_count_as_unfinished() {
    for order in ORDERS {
        let mut acks = given(order, 5, 15);
        acks.ack(7, 9);
        acks.ack(12, 13);
        let left = [4, 7, 8, 9, 12, 15, 20].map(|next| acks.unfinished_below(next));
        assert_eq!(left, [0, 2, 2, 2, 5, 7, 7]);
        acks.release(6);
        assert_eq!(acks.unfinished_below(12), 4);
    }
}

#[test]
fn an_ack_of_everything_below_empties_the_window() {
    for order in ORDERS {
        let mut acks = given(order, 0, 10);
        acks.hold(chunk(0, 10, 1000));
        assert!(acks.ack_below(10));
        assert_eq!(acks.committable(), Some(10));
        assert_eq!((acks.unfinished(), acks.oldest_unacked()), (0, None));
        assert_eq!(acks.take_freed(), freed(1000, 10));
    }
}

#[test]
fn what_was_not_given_out_cannot_be_acked_with_everything_below() {
    for order in ORDERS {
        let mut acks = given(order, 0, 10);
        assert!(!acks.ack_below(11) && !acks.ack_below(i64::MAX));
        assert_eq!((acks.committable(), acks.unfinished()), (None, 10));
    }
}

#[test]
fn ten_then_three_commits_eleven_or_four_or_nothing() {
    let commits = ORDERS.map(|order| {
        let mut acks = given(order, 0, 11);
        acks.ack(10, 11);
        acks.ack(3, 4);
        acks.committable()
    });
    assert_eq!(commits, [None, Some(11), Some(4)]);
}

#[test]
fn the_last_wins_also_when_everything_above_it_was_acked_before() {
    let mut acks = given(CommitOrder::LastWins, 0, 11);
    assert!(acks.ack_below(11));
    acks.ack(3, 4);
    assert_eq!(acks.committable(), Some(4));
    assert!(acks.ack_below(2));
    assert_eq!(acks.committable(), Some(2));
}

#[test]
fn one_that_failed_keeps_the_lowest_contiguous_commit_below_it() {
    let mut acks = given(CommitOrder::LowestContiguous, 0, 10);
    for offset in [9, 0, 2, 1, 3, 4, 8, 6, 7] {
        acks.ack(offset, offset + 1);
    }
    assert_eq!((acks.committable(), acks.oldest_unacked()), (Some(5), Some(5)));
    assert_eq!((acks.unfinished(), acks.runs()), (1, 1));
    acks.ack(5, 6);
    assert_eq!((acks.committable(), acks.runs()), (Some(10), 0));
}

#[test]
fn the_first_offset_of_all_commits_one() {
    for order in ORDERS {
        let mut acks = given(order, 0, 1);
        assert_eq!((acks.committable(), acks.oldest_unacked()), (None, Some(0)));
        acks.ack(0, 1);
        assert_eq!((acks.committable(), acks.oldest_unacked()), (Some(1), None));
    }
}

#[test]
fn what_holds_no_message_is_committed_with_what_lies_before_it() {
    for order in ORDERS {
        let mut acks = given(order, 0, 2);
        acks.pass(2, 5);
        assert_eq!(acks.committable(), None);
        acks.ack(0, 1);
        acks.ack(1, 2);
        assert_eq!(acks.committable(), Some(5), "{order:?}");
        acks.pass(5, 6);
        assert_eq!(acks.committable(), Some(6), "{order:?}");
        assert_eq!((acks.unfinished(), acks.runs()), (0, 0));
    }
}

#[test]
fn a_partition_that_holds_no_messages_at_all_is_committed_to_its_end() {
    for order in ORDERS {
        let mut acks = Acks::new(order, 7);
        acks.pass(7, 9);
        assert_eq!((acks.committable(), acks.oldest_unacked()), (Some(9), None));
    }
}

#[test]
fn the_last_goes_on_over_gaps_and_not_over_what_was_acked() {
    let mut acks = given(CommitOrder::LastWins, 0, 10);
    acks.pass(4, 6);
    acks.ack(6, 8);
    acks.ack(3, 4);
    assert_eq!(acks.committable(), Some(6));
}

#[test]
fn after_a_seek_the_next_ack_may_lower_the_commit() {
    for order in ORDERS {
        let mut acks = given(order, 100, 110);
        acks.hold(chunk(100, 105, 500));
        acks.ack(104, 110);
        acks.release(102);
        acks.restart(20);
        assert_eq!((acks.committable(), acks.unfinished(), acks.runs()), (None, 0, 0));
        assert_eq!(acks.take_freed(), freed(500, 5));
        acks.ack(20, 21);
        assert_eq!((acks.committable(), acks.oldest_unacked()), (Some(21), None));
    }
}

#[test]
fn a_chunk_that_is_done_before_its_iterator_left_it_is_free_at_once() {
    let mut acks = given(CommitOrder::LowestContiguous, 0, 4);
    acks.ack(1, 3);
    acks.ack(0, 1);
    acks.hold(chunk(0, 3, 30));
    assert_eq!(acks.take_freed(), freed(30, 3));
    acks.hold(Held {
        to: 3,
        ..chunk(3, 4, 7)
    });
    assert_eq!(acks.take_freed(), freed(7, 1));
}

#[test]
fn chunks_are_freed_one_by_one_in_whatever_order_they_are_done() {
    let mut acks = Acks::new(CommitOrder::LowestContiguous, 0);
    for from in [10, 0, 30, 20] {
        acks.hold(chunk(from, from + 10, 1 << (from / 10)));
    }
    acks.ack(20, 30);
    assert_eq!(acks.take_freed(), freed(4, 10));
    acks.ack(5, 39);
    assert_eq!(acks.take_freed(), freed(2, 10));
    acks.ack(39, 40);
    assert_eq!(acks.take_freed(), freed(8, 10));
    assert!(acks.ack_below(40));
    assert_eq!(acks.take_freed(), freed(1, 10));
}

#[test]
fn acks_in_order_leave_nothing_to_remember() {
    for order in ORDERS {
        let mut acks = given(order, 0, 1000);
        for offset in 0..1000 {
            acks.ack(offset, offset + 1);
            assert_eq!((acks.committable(), acks.runs()), (Some(offset + 1), 0));
        }
    }
}

/// One call. Offsets are small, so that calls meet each other.
#[derive(Debug, Clone, Copy)]
enum Call {
    Restart(i64),
    Pass(i64, i64),
    Given(i64),
    Ack(i64, i64),
    AckBelow(i64),
    Release(i64),
    Hold(i64, i64),
    TakeFreed,
}

fn calls(offset: impl Strategy<Value = i64> + Clone + 'static) -> impl Strategy<Value = Vec<Call>> {
    let range = (offset.clone(), offset.clone());
    // Mostly short ones, and the wrong way round now and then.
    let short = (offset.clone(), -1_i64..6).prop_map(|(from, len)| (from, from.saturating_add(len)));
    let one = offset.clone().prop_map(|offset| (offset, offset.saturating_add(1)));
    let call = prop_oneof![
        1 => offset.clone().prop_map(Call::Restart),
        4 => short.clone().prop_map(|(from, to)| Call::Pass(from, to)),
        6 => offset.clone().prop_map(Call::Given),
        20 => one.prop_map(|(from, to)| Call::Ack(from, to)),
        6 => short.clone().prop_map(|(from, to)| Call::Ack(from, to)),
        2 => range.clone().prop_map(|(from, to)| Call::Ack(from, to)),
        2 => offset.clone().prop_map(Call::AckBelow),
        6 => offset.clone().prop_map(Call::Release),
        6 => short.prop_map(|(from, to)| Call::Hold(from, to)),
        1 => range.prop_map(|(from, to)| Call::Hold(from, to)),
        4 => Just(Call::TakeFreed),
    ];
    proptest::collection::vec(call, 1..120)
}

/// The same, one offset at a time.
struct Model {
    order: CommitOrder,
    start: i64,
    given: i64,
    acked: BTreeSet<i64>,
    passed: BTreeSet<i64>,
    released: BTreeSet<i64>,
    /// Behind the last ack, and what was passed behind it.
    last: Option<i64>,
    /// What the last that wins remembers: passes above all that is done.
    remembered: BTreeSet<i64>,
    held: Vec<(i64, i64, Freed)>,
    freed: Freed,
}

impl Model {
    fn new(order: CommitOrder, start: i64) -> Self {
        let start = start.max(0);
        Self {
            order,
            start,
            given: start,
            acked: BTreeSet::new(),
            passed: BTreeSet::new(),
            released: BTreeSet::new(),
            last: None,
            remembered: BTreeSet::new(),
            held: Vec::new(),
            freed: Freed::default(),
        }
    }

    fn is_done(&self, offset: i64) -> bool {
        offset < self.start || self.acked.contains(&offset) || self.passed.contains(&offset)
    }

    fn is_free(&self, offset: i64) -> bool {
        self.is_done(offset) || self.released.contains(&offset)
    }

    fn base(&self) -> i64 {
        (self.start..).find(|&offset| !self.is_done(offset)).unwrap()
    }

    fn call(&mut self, call: Call, size: Freed) -> (bool, Freed) {
        let mut result = (true, Freed::default());
        match call {
            Call::Restart(start) => {
                let held = std::mem::take(&mut self.held);
                let freed = held.iter().fold(self.freed, |mut sum, (.., size)| {
                    sum.add(size.bytes, size.records);
                    sum
                });
                *self = Self::new(self.order, start);
                self.freed = freed;
            }
            Call::Pass(from, to) => {
                for offset in from.max(0)..to {
                    self.given = self.given.max(to);
                    self.passed.insert(offset);
                    self.remembered.insert(offset);
                }
            }
            Call::Given(to) => self.given = self.given.max(to),
            Call::Ack(from, to) => {
                for offset in from.max(0)..to {
                    self.given = self.given.max(to);
                    self.acked.insert(offset);
                    self.last = Some(offset + 1);
                }
            }
            Call::AckBelow(to) if to > self.given => result.0 = false,
            Call::AckBelow(to) => {
                self.call(Call::Ack(0, to), size);
            }
            Call::Release(offset) => {
                if offset >= 0 {
                    self.given = self.given.max(offset + 1);
                    self.released.insert(offset);
                }
            }
            Call::Hold(from, to) => {
                let from = from.max(0);
                if from < to {
                    self.given = self.given.max(to);
                }
                if (from..to).all(|offset| self.is_free(offset)) {
                    self.freed.add(size.bytes, size.records);
                } else {
                    let mut sum = (from, to, size);
                    // Once is enough: those that are there do not overlap.
                    self.held.retain(|&(start, end, size)| {
                        let apart = end <= from || to <= start;
                        if !apart {
                            sum.0 = sum.0.min(start);
                            sum.1 = sum.1.max(end);
                            sum.2.add(size.bytes, size.records);
                        }
                        apart
                    });
                    self.held.push(sum);
                }
            }
            Call::TakeFreed => result.1 = std::mem::take(&mut self.freed),
        }
        self.settle();
        result
    }

    fn settle(&mut self) {
        let mut last = self.last.unwrap_or(self.start);
        while self.remembered.contains(&last) {
            last += 1;
            self.last = Some(last);
        }
        let base = self.base();
        self.remembered.retain(|&offset| offset >= base);
        let mut held = std::mem::take(&mut self.held);
        held.retain(|&(from, to, size)| {
            let open = (from..to).any(|offset| !self.is_free(offset));
            if !open {
                self.freed.add(size.bytes, size.records);
            }
            open
        });
        self.held = held;
    }

    fn committable(&self) -> Option<i64> {
        let highest = self
            .acked
            .last()
            .map_or(self.start, |&offset| offset + 1)
            .max(self.start);
        let highest = (highest..).find(|offset| !self.passed.contains(offset)).unwrap();
        match self.order {
            CommitOrder::LowestContiguous => Some(self.base()).filter(|&base| base > self.start),
            CommitOrder::Monotonic => Some(highest).filter(|&highest| highest > self.start),
            CommitOrder::LastWins => self.last,
        }
    }

    fn runs(&self) -> usize {
        let base = self.base();
        let count = |is_in: &dyn Fn(i64) -> bool| {
            (base..100)
                .filter(|&offset| is_in(offset) && (offset == base || !is_in(offset - 1)))
                .count()
        };
        let released = if self.released.is_empty() {
            0
        } else {
            count(&|offset| self.is_free(offset))
        };
        let passed = if self.order == CommitOrder::LastWins {
            count(&|offset| self.remembered.contains(&offset))
        } else {
            0
        };
        count(&|offset| self.is_done(offset)) + released + passed
    }
}

fn apply(acks: &mut Acks, call: Call, size: Freed) -> (bool, Freed) {
    let mut result = (true, Freed::default());
    match call {
        Call::Restart(start) => acks.restart(start),
        Call::Pass(from, to) => acks.pass(from, to),
        Call::Given(to) => acks.given(to),
        Call::Ack(from, to) => acks.ack(from, to),
        Call::AckBelow(to) => result.0 = acks.ack_below(to),
        Call::Release(offset) => acks.release(offset),
        Call::Hold(from, to) => acks.hold(Held {
            from,
            to,
            bytes: size.bytes,
            records: size.records,
        }),
        Call::TakeFreed => result.1 = acks.take_freed(),
    }
    result
}

proptest! {
    #[test]
    fn whatever_is_called_it_says_what_the_offsets_one_by_one_say(start in -1_i64..20, calls in calls(-2_i64..45)) {
        for order in ORDERS {
            let (mut acks, mut model) = (Acks::new(order, start), Model::new(order, start));
            for (number, &call) in calls.iter().enumerate() {
                let size = freed(number * 1000 + 1, number);
                prop_assert_eq!(apply(&mut acks, call, size), model.call(call, size), "{:?} {:?}", order, call);
                let base = model.base();
                let unfinished = (base..model.given).filter(|&offset| !model.is_free(offset)).count();
                prop_assert_eq!(acks.committable(), model.committable(), "{:?} {:?}", order, call);
                prop_assert_eq!(acks.unfinished(), unfinished as u64, "{:?} {:?}", order, call);
                prop_assert_eq!(acks.oldest_unacked(), Some(base).filter(|&base| base < model.given));
                prop_assert!(acks.runs() <= model.runs(), "{} runs, not {}", acks.runs(), model.runs());
            }
        }
    }

    #[test]
    fn no_argument_is_too_absurd(
        start in absurd(), calls in calls(absurd()),
    ) {
        for order in ORDERS {
            let (mut acks, mut held, mut free) = (Acks::new(order, start), 0, 0);
            for &call in &calls {
                held += usize::from(matches!(call, Call::Hold(..)));
                free += apply(&mut acks, call, freed(1, 1)).1.bytes;
                prop_assert!(acks.committable().is_none_or(|offset| offset >= 0));
                prop_assert!(acks.oldest_unacked().is_some() || acks.unfinished() == 0);
                prop_assert!(acks.runs() <= 3 * calls.len());
            }
            acks.ack(i64::MIN, i64::MAX);
            prop_assert_eq!(acks.committable(), Some(i64::MAX).filter(|_| acks.start < i64::MAX || acks.acked));
            prop_assert_eq!((acks.unfinished(), acks.oldest_unacked(), acks.runs()), (0, None, 0));
            // Each chunk came back once.
            prop_assert_eq!(free + acks.take_freed().bytes, held);
        }
    }
}

fn absurd() -> impl Strategy<Value = i64> + Clone + 'static {
    let near = |offset: i64| (-3_i64..=3).prop_map(move |by| offset.saturating_add(by));
    prop_oneof![
        near(0),
        near(1 << 40),
        near(i64::MAX),
        near(i64::MIN),
        near(-1 << 40),
        any::<i64>()
    ]
}

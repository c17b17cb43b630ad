//! Partitions of a group as values: iterators, acks and handovers in any order, against a naive model.
//!
//! Nothing is started and nothing waits, as in `tests`. What the program may do, it does: it keeps messages, drops them
//! late or in a panic, acks them in any order and after they were lost; it seeks and pauses; logs are cut; the group takes
//! everything away, and gives it back.

#![allow(clippy::disallowed_methods, reason = "the test plays the drivers")]

mod acking;
mod checks;
mod handing_over;
mod iterating;
mod log;
mod step;
mod threads;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use proptest::prelude::*;
use uuid::Uuid;

use self::{
    log::{Log, Piece, piece},
    step::{Step, step},
    world::{Hand, Object, Stage, Thing, World},
};
use super::{preparing::Prepared, *};
use crate::{
    cluster::{Cluster, ClusterConfig},
    consumer::{
        acks::{AckMode, CommitOrder},
        budget::Account,
        buffer::{State, Subscription, Turn},
        config::FetchConfig,
        fetch_lane::{LaneEntry, Role},
        handover::{Claim, ClaimFrom, Progress},
        lease::Lease,
        message::{Batch, Message},
        ownership::{Terms, Validity},
        partition::Ends,
    },
    offset::{StartAt, TopicPartition},
    wire::{
        batch::{Compression, Compressor},
        fetch::AbortedTransaction,
    },
};

const BROKER: i32 = 1;
const PARTITIONS: usize = 2;
const ITERATORS: usize = 3;

fn name(part: usize) -> TopicPartition {
    TopicPartition::new("orders", i32::try_from(part).unwrap())
}

fn modes() -> impl Strategy<Value = (AckMode, CommitOrder)> {
    let mode = prop_oneof![2 => Just(AckMode::OnNext), 1 => Just(AckMode::Explicit)];
    let order = prop_oneof![
        4 => Just(CommitOrder::LowestContiguous),
        1 => Just(CommitOrder::Monotonic),
        1 => Just(CommitOrder::LastWins),
    ];
    (mode, order)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_program_does_nothing_unfinished_is_committed_and_nothing_is_stuck(
        pieces in prop::collection::vec(prop::collection::vec(piece(), 1..14), PARTITIONS),
        (mode, order) in modes(),
        window in prop_oneof![1_usize..8, 8_usize..60],
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let logs = pieces.iter().map(|pieces| Log::new(pieces)).collect();
        let mut world = World::new(logs, mode, order, window);
        for step in &steps {
            world.do_step(step);
            world.check();
        }
        world.finish();
    }
}

/// One partition with six records in one batch, the other empty.
fn run(mode: AckMode, window: usize, steps: &[Step]) {
    let six = Log::new(&[Piece::Records(vec![true; 6], 0, false)]);
    let mut world = World::new(vec![six, Log::new(&[])], mode, CommitOrder::LowestContiguous, window);
    for step in steps {
        world.do_step(step);
        world.check();
    }
    world.finish();
}

#[test]
fn what_was_let_go_of_given_again_and_then_kept_is_not_done() {
    use Step::{DropIterator, Feed, Keep, LetGo, Next};
    let next = || Next(0, false, 1);
    let steps = [
        Feed(0, 1),
        next(),
        Keep(0),
        next(),
        LetGo(0),
        DropIterator(0),
        next(),
        Keep(0),
        next(),
    ];
    run(AckMode::OnNext, 10, &steps);
}

#[test]
fn what_a_panic_dropped_is_done_when_it_was_given_again() {
    use Step::{Feed, Next, PanicWithIterator};
    let steps = [Feed(0, 1), Next(0, true, 3), PanicWithIterator(0), Next(0, true, 3)];
    run(AckMode::OnNext, 10, &steps);
}

#[test]
fn a_batch_that_a_panic_dropped_elsewhere_is_not_done() {
    use Step::{Feed, Keep, Next, NextBatch, PanicKept};
    let steps = [Feed(0, 1), NextBatch(0), Keep(0), PanicKept(0), Next(0, false, 1)];
    run(AckMode::OnNext, 10, &steps);
}

#[test]
fn a_batch_in_hand_is_not_done_and_comes_again_when_its_iterator_is_dropped() {
    use Step::{DropIterator, Feed, NextBatch, PanicWithIterator};
    let steps = [
        Feed(0, 1),
        NextBatch(0),
        DropIterator(0),
        NextBatch(1),
        PanicWithIterator(1),
        NextBatch(2),
    ];
    for mode in [AckMode::OnNext, AckMode::Explicit] {
        run(mode, 2, &steps);
    }
}

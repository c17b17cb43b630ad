//! What may happen, in any order.

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Feed(usize, usize),
    /// An iterator is asked for the next message, as `for` does (true) or as `next_timeout`. The last one is dropped before.
    Next(usize, bool, usize),
    NextBatch(usize),
    DropIterator(usize),
    /// What the program has in hand of this iterator: moved elsewhere, dropped, dropped by a panic, together with the iterator.
    Keep(usize),
    LetGo(usize),
    Panic(usize),
    PanicWithIterator(usize),
    /// The same, inside of the loop: the iterator goes first, the message after it.
    IteratorFirst(usize),
    AckInHand(usize),
    ReleaseInHand(usize),
    /// What was moved elsewhere.
    AckKept(usize),
    ReleaseKept(usize),
    DropKept(usize),
    PanicKept(usize),
    /// A batch becomes messages.
    Split(usize),
    AckThrough(usize, usize),
    Seek(usize, usize),
    Pause(usize, bool),
    Truncate(usize, usize),
    Reset(usize, usize),
    Drain,
    GiveUp,
    Claim,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let part = 0..PARTITIONS;
    let it = 0..ITERATORS;
    let which = 0_usize..1000;
    prop_oneof![
        20 => (part.clone(), 1_usize..5).prop_map(|(part, batches)| Step::Feed(part, batches)),
        30 => (it.clone(), any::<bool>(), 1_usize..6).prop_map(|(it, fast, times)| Step::Next(it, fast, times)),
        7 => it.clone().prop_map(Step::NextBatch),
        5 => it.clone().prop_map(Step::DropIterator),
        14 => it.clone().prop_map(Step::Keep),
        3 => it.clone().prop_map(Step::LetGo),
        2 => it.clone().prop_map(Step::Panic),
        2 => it.clone().prop_map(Step::PanicWithIterator),
        2 => it.clone().prop_map(Step::IteratorFirst),
        10 => it.clone().prop_map(Step::AckInHand),
        3 => it.prop_map(Step::ReleaseInHand),
        14 => which.clone().prop_map(Step::AckKept),
        4 => which.clone().prop_map(Step::ReleaseKept),
        8 => which.clone().prop_map(Step::DropKept),
        1 => which.clone().prop_map(Step::PanicKept),
        4 => which.clone().prop_map(Step::Split),
        2 => (part.clone(), which.clone()).prop_map(|(part, at)| Step::AckThrough(part, at)),
        1 => (part.clone(), which.clone()).prop_map(|(part, to)| Step::Seek(part, to)),
        2 => (part.clone(), any::<bool>()).prop_map(|(part, paused)| Step::Pause(part, paused)),
        1 => (part.clone(), which.clone()).prop_map(|(part, at)| Step::Truncate(part, at)),
        1 => (part, which).prop_map(|(part, to)| Step::Reset(part, to)),
        2 => Just(Step::Drain),
        2 => Just(Step::GiveUp),
        4 => Just(Step::Claim),
    ]
}

//! Sets of offsets, kept as the ranges they consist of.

use std::{collections::BTreeMap, ops::Bound};

/// Offsets from 0 on; none when they are the wrong way round.
pub(crate) fn length(from: i64, to: i64) -> u64 {
    u64::try_from(to - from).unwrap_or(0)
}

/// Everything below a base, and runs above it, none of which touches it.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    base: i64,
    runs: Runs,
}

impl Line {
    pub(crate) fn new(base: i64) -> Self {
        Self {
            base,
            runs: Runs::default(),
        }
    }

    pub(crate) fn base(&self) -> i64 {
        self.base
    }

    pub(crate) fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Tells `new` of each part that was not there.
    pub(crate) fn add(&mut self, from: i64, to: i64, mut new: impl FnMut(i64, i64)) {
        if from > self.base {
            return self.runs.add(from, to, new);
        }
        while let Some((next, behind)) = self.runs.take_first_up_to(to) {
            new(self.base, next);
            self.base = behind;
        }
        if self.base < to {
            new(self.base, to);
            self.base = to;
        }
    }

    /// How many of these are not there.
    pub(crate) fn missing(&self, from: i64, to: i64) -> u64 {
        let from = from.max(self.base);
        if from >= to {
            return 0;
        }
        let before = self.runs.ends.range(..from).next_back();
        let there = before.into_iter().chain(self.runs.ends.range(from..to));
        length(from, to)
            - there
                .map(|(&start, &end)| length(start.max(from), end.min(to)))
                .sum::<u64>()
    }
}

/// Ranges of offsets that neither overlap nor touch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs {
    /// Each one's end by its start.
    ends: BTreeMap<i64, i64>,
    len: u64,
}

impl Runs {
    /// Tells `new` of each part that was not there. Each run that this swallows was added once: no more than that is spent.
    pub(crate) fn add(&mut self, from: i64, to: i64, mut new: impl FnMut(i64, i64)) {
        let (mut start, mut end, mut at) = (from, to, from);
        if let Some((&before, &behind)) = self.ends.range(..=from).next_back() {
            if behind >= to {
                return;
            }
            if behind >= from {
                (start, at) = (before, behind);
            }
        }
        while let Some((&next, &behind)) = self.ends.range((Bound::Excluded(start), Bound::Included(to))).next() {
            self.ends.remove(&next);
            self.len += length(at, next);
            new(at, next);
            at = behind;
            end = end.max(behind);
        }
        if at < to {
            self.len += length(at, to);
            new(at, to);
        }
        self.ends.insert(start, end);
    }

    /// How many offsets they have together.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// How many runs there are.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The end of the run in which this lies.
    pub(crate) fn end_of(&self, offset: i64) -> Option<i64> {
        let (_, &end) = self.ends.range(..=offset).next_back()?;
        (end > offset).then_some(end)
    }

    /// Removes the first run if it overlaps or touches what lies below `to`.
    pub(crate) fn take_first_up_to(&mut self, to: i64) -> Option<(i64, i64)> {
        let (start, end) = self
            .ends
            .first_entry()
            .filter(|first| *first.key() <= to)?
            .remove_entry();
        self.len -= length(start, end);
        Some((start, end))
    }
}

//! What must be true at any time, and at the end.

use super::*;

impl World {
    pub(super) fn check_progress(&self, part: usize, progress: Option<&Progress>) {
        let (model, log) = (&self.models[part], &self.logs[part]);
        let offset = progress.map_or(model.start, |progress| progress.offset);
        let open = log.records.range(model.start..).map(|(&offset, _)| offset);
        match self.terms.order {
            CommitOrder::LowestContiguous => {
                let lowest = open.into_iter().find(|offset| !model.finished.contains(offset));
                assert!(
                    lowest.is_none_or(|lowest| offset <= lowest),
                    "{offset} of partition {part} would be committed, and {lowest:?} is not finished"
                );
                let left_out = log.between(offset, lowest.unwrap_or(i64::MAX)).next();
                // Where a batch has gaps is looked at when the iterator is done with it.
                let is_batch_in_hand = self.iterators.iter().any(|it| {
                    let hand = it
                        .hand
                        .as_ref()
                        .filter(|hand| hand.part == part && hand.era == model.era);
                    hand.is_some_and(|hand| hand.is_batch)
                });
                assert!(
                    left_out.is_none() || is_batch_in_hand,
                    "{offset} of partition {part} would be committed, and all below {lowest:?} is finished"
                );
            }
            CommitOrder::Monotonic | CommitOrder::LastWins => {
                let highest = model.finished.last();
                let above = log.between(highest.map_or(model.start, |highest| highest + 1), offset);
                assert_eq!(
                    above.count(),
                    0,
                    "{offset} of partition {part} lies above all that is finished"
                );
            }
        }
        if let Some(progress) = progress {
            let epoch = log
                .batches
                .range(..progress.offset)
                .next_back()
                .map_or(-1, |(_, (bytes, _))| i32::from(bytes[15]));
            assert!(progress.epoch <= epoch, "the leader epoch of {progress:?}");
        }
    }

    pub(super) fn check(&self) {
        for progress in self.shared.progress() {
            let part = usize::try_from(progress.name.partition()).unwrap();
            self.check_progress(part, Some(&progress));
        }
        if self.stage == Stage::Gone {
            return;
        }
        let state = self.shared.lock();
        for (part, model) in self.models.iter().enumerate() {
            let partition = &state.partitions[&self.slots[part]];
            let ready: usize = partition.chunks.iter().map(|chunk| chunk.bytes).sum();
            assert_eq!(partition.account.ready, ready, "bytes that are ready");
            assert_eq!(partition.account.raw, 0);
            let is_owned = self.stage == Stage::Owned && partition.leased.is_none();
            if is_owned && model.given.iter().all(|offset| model.finished.contains(offset)) {
                assert_eq!(partition.account.in_hand, 0, "all of partition {part} is finished");
                assert_eq!(partition.account.in_hand_records, 0);
            }
        }
        drop(state);
        if self.stage == Stage::Draining {
            self.check_let_go();
        }
    }

    pub(super) fn check_let_go(&self) {
        let is_leased = self.iterators.iter().any(|it| it.lease.is_some()) && self.shared.is_leased();
        let in_program = self
            .iterators
            .iter()
            .filter_map(|it| it.thing.as_ref())
            .chain(&self.kept);
        let open: Vec<_> = in_program
            .filter(|thing| thing.era == self.models[thing.part].era)
            .map(|thing| (thing.part, &thing.offsets))
            .collect();
        let is_held = open.iter().any(|(part, offsets)| {
            let finished = &self.models[*part].finished;
            offsets.iter().any(|offset| !finished.contains(offset))
        });
        let is_let_go = self.shared.is_let_go();
        if is_leased || is_held {
            assert!(!is_let_go, "the program has something in hand");
        } else if open.is_empty() {
            assert!(is_let_go, "nothing is in the program's hands");
        }
        // Also what was given back: that it is in nobody's hands cannot be told while something else is.
        let are_all_finished = self.models.iter().zip(&self.logs).all(|(model, log)| {
            let mut given = log.between(model.start, model.behind);
            given.all(|offset| model.finished.contains(&offset))
        });
        if !is_leased && are_all_finished {
            assert!(is_let_go, "all is finished");
        }
    }

    /// The program finishes what it has, and reads all that is left: nothing may be missing from what is committed.
    pub(super) fn finish(&mut self) {
        self.claim();
        for it in 0..ITERATORS {
            self.let_go(it);
            self.drop_iterator(it);
        }
        if self.stage == Stage::Draining {
            self.give_up();
            self.claim();
        }
        for thing in std::mem::take(&mut self.kept) {
            self.ack(&thing);
        }
        for part in 0..PARTITIONS {
            self.pause(part, false);
            // What was lost on the way.
            let last = self.models[part].given.last().copied();
            if let Some(last) = last {
                self.ack_through(part, usize::try_from(last).unwrap());
            }
        }
        self.check();
        let mut idle = 0;
        for round in 0.. {
            assert!(round < 3000, "nothing comes any more");
            let was_fed = (0..PARTITIONS).filter(|&part| self.feed(part, 2)).count() > 0;
            let mut was_given = false;
            while self.ask(0, Some(round % 2 == 0)) {
                was_given = true;
                if self.terms.mode == AckMode::Explicit {
                    self.do_step(&Step::AckInHand(0));
                }
                self.check();
            }
            // An iterator that finds nothing may make room.
            idle = if was_fed || was_given { 0 } else { idle + 1 };
            if idle == 2 {
                break;
            }
        }
        self.check();
        let progress = self.shared.progress();
        let state = self.shared.lock();
        for part in 0..PARTITIONS {
            let (log, model) = (&self.logs[part], &self.models[part]);
            let found = progress.iter().find(|progress| progress.name == name(part));
            let end = log.readable_end().max(model.start);
            let partition = &state.partitions[&self.slots[part]];
            if self.terms.order == CommitOrder::LowestContiguous {
                assert!(
                    found.map_or(model.start, |progress| progress.offset) >= end,
                    "partition {part} is committed up to {found:?} of {end}"
                );
            }
            assert_eq!(partition.account, Account::default());
            assert!(partition.delivered() >= end);
        }
        drop(state);
        self.shared.drain();
        assert!(self.shared.is_let_go());
        self.stage = Stage::Draining;
        self.give_up();
    }
}

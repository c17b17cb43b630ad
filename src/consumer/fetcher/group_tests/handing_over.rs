//! What happens to partitions while the program has something of them.

use super::*;

impl World {
    pub(super) fn restart(&mut self, part: usize, to: i64) {
        if self.stage != Stage::Owned {
            return;
        }
        let mut state = self.shared.lock();
        self.shared.restart(&mut state, self.slots[part], StartAt::Offset(to));
        self.models[part].restart(to);
    }

    pub(super) fn pause(&mut self, part: usize, paused: bool) {
        if self.stage == Stage::Gone {
            return;
        }
        // As `Stream::pause` and `resume` do.
        let mut state = self.shared.lock();
        let partition = state.partitions.get_mut(&self.slots[part]).unwrap();
        partition.paused = paused;
        if paused && partition.leased.is_some() {
            partition.cell.recall.store(true, Ordering::Release);
        }
        if !paused {
            self.shared.offer(&mut state, self.slots[part]);
        }
        self.models[part].paused = paused;
    }

    pub(super) fn truncate(&mut self, part: usize, at: usize) {
        if self.stage != Stage::Owned {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let position = state.partitions[&self.slots[part]].position;
        let at = i64::try_from(at).unwrap() % (self.logs[part].end + 1);
        let at = self.logs[part].truncate(at);
        if at >= position {
            return;
        }
        let prepared = Prepared::Diverged(at);
        self.fetchers[part].as_ref().unwrap().prepared(&mut state, prepared);
        self.check_restart(&state, part, at);
    }

    /// Reading begins anew where the log was cut, or before that, where the program is not done.
    pub(super) fn check_restart(&mut self, state: &State, part: usize, at: i64) {
        let model = &mut self.models[part];
        let from = state.partitions[&self.slots[part]].stands_at;
        let unfinished = model.given.iter().find(|offset| !model.finished.contains(offset));
        assert!(from <= at && from >= model.start.min(at) && unfinished.is_none_or(|&unfinished| from <= unfinished));
        model.restart(from);
    }

    /// The log has lost its front, or what was read is beyond its end.
    pub(super) fn reset(&mut self, part: usize, to: usize) {
        if self.stage != Stage::Owned {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let from = state.partitions[&self.slots[part]].position;
        let to = self.logs[part].border(i64::try_from(to).unwrap() % (self.logs[part].end + 1));
        self.fetchers[part]
            .as_ref()
            .unwrap()
            .prepared(&mut state, Prepared::Reset { from, to });
        if to < from {
            self.check_restart(&state, part, to);
            return;
        }
        self.logs[part].forget(from, to);
    }

    pub(super) fn give_up(&mut self) {
        if self.stage == Stage::Gone {
            return;
        }
        let given_up = self.shared.give_up();
        assert_eq!(given_up.len(), PARTITIONS);
        for one in given_up {
            let part = usize::try_from(one.name.partition()).unwrap();
            self.check_progress(part, one.progress.as_ref());
            let model = &mut self.models[part];
            let oldest = model.given.iter().find(|offset| !model.finished.contains(offset));
            if let (CommitOrder::LowestContiguous, Some(&oldest)) = (self.terms.order, oldest) {
                // Where nothing is to be seen may be named instead of the message behind it.
                let named = one.unfinished.expect("something is not finished");
                assert!(named <= oldest && self.logs[part].between(named, oldest).next().is_none());
            }
            if let Some(progress) = one.progress {
                model.committed = progress.offset;
            }
        }
        self.stage = Stage::Gone;
        assert!(self.shared.lock().partitions.is_empty());
    }
}

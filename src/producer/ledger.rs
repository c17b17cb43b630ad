//! What a producer still owes: batches whose outcome is open, by the flush that waits for them; and the failures that
//! nobody was told.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::{Condvar, Mutex};

use crate::{
    deadline::Deadline,
    error::{Error, Result},
};

#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
    /// Told when a generation is done with.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Rises with every flush: what was begun before it belongs to an older one.
    generation: u64,
    open: BTreeMap<u64, usize>,
    untold: Option<Error>,
}

impl Ledger {
    /// One more batch whose outcome is open, until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Debt {
        let mut state = self.state.lock();
        let generation = state.generation;
        *state.open.entry(generation).or_insert(0) += 1;
        Debt {
            ledger: Arc::clone(self),
            generation,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.state.lock().open.is_empty()
    }

    /// A record failed, and nobody holds its `Delivery`.
    pub(super) fn untold(&self, error: &Error) {
        self.state.lock().untold.get_or_insert_with(|| error.clone());
    }

    /// The first failure that nobody was told, which is told now.
    pub(super) fn take_untold(&self) -> Option<Error> {
        self.state.lock().untold.take()
    }

    /// What is open from now on is none of the business of a [`wait`](Self::wait) for this generation.
    pub(super) fn close_generation(&self) -> u64 {
        let mut state = self.state.lock();
        let generation = state.generation;
        state.generation += 1;
        generation
    }

    /// Until every batch of this generation and those before has an outcome.
    pub(super) fn wait(&self, generation: u64, deadline: &Deadline) -> Result<()> {
        let mut state = self.state.lock();
        while state.open.keys().next().is_some_and(|oldest| *oldest <= generation) {
            if self.changed.wait_until(&mut state, deadline.at()).timed_out() {
                return Err(deadline.error("the records that were sent to be acknowledged"));
            }
        }
        Ok(())
    }
}

/// A batch whose outcome is open.
#[derive(Debug)]
pub(super) struct Debt {
    ledger: Arc<Ledger>,
    generation: u64,
}

impl Clone for Debt {
    fn clone(&self) -> Self {
        *self.ledger.state.lock().open.entry(self.generation).or_insert(0) += 1;
        Self {
            ledger: Arc::clone(&self.ledger),
            generation: self.generation,
        }
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        let mut state = self.ledger.state.lock();
        let open = state.open.get_mut(&self.generation);
        let left = open.map_or(0, |open| {
            *open -= 1;
            *open
        });
        if left == 0 {
            state.open.remove(&self.generation);
            drop(state);
            self.ledger.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(20), "timeout")
    }

    #[test]
    fn a_flush_waits_for_what_was_begun_before_it_and_for_nothing_else() {
        let ledger = Arc::new(Ledger::default());
        let before = ledger.begin();
        let piece = before.clone();
        let generation = ledger.close_generation();
        let after = ledger.begin();
        drop(before);
        assert!(ledger.wait(generation, &soon()).is_err());
        drop(piece);
        ledger.wait(generation, &soon()).unwrap();
        assert!(!ledger.is_settled());
        drop(after);
        assert!(ledger.is_settled());
    }

    #[test]
    fn the_first_failure_is_told_once() {
        let ledger = Ledger::default();
        ledger.untold(&Error::protocol("first"));
        ledger.untold(&Error::protocol("second"));
        assert_eq!(ledger.take_untold().unwrap().to_string(), "first");
        assert!(ledger.take_untold().is_none());
    }
}

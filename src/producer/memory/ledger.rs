//! The accounts of a memory as a value: what is reserved, which buffers lie idle, who waits.

use std::{collections::VecDeque, ops::RangeInclusive};

use crossbeam_channel::Sender;

use super::Reservation;

/// Smaller buffers come from the allocator, which keeps them itself.
pub(super) const LEAST_SPARE: usize = 64 << 10;

/// What may lie idle, if a quarter of the limit is not less.
const MOST_IDLE: usize = 16 << 20;

/// Who has how much. Spare buffers take only what nobody wants: `held + idle <= limit`, or nothing lies idle.
pub(super) struct Ledger {
    limit: usize,
    /// Beyond the limit only by force.
    held: usize,
    /// The capacity of all spares.
    idle: usize,
    /// The oldest first.
    spares: VecDeque<Vec<u8>>,
    /// The first does not fit into what is not held, or it would not wait.
    waiting: VecDeque<Waiter>,
    next: u64,
}

struct Waiter {
    id: u64,
    wish: Wish,
    grant: Sender<Reservation>,
}

/// What somebody wants: what is there, from the least that is of use to the most.
#[derive(Debug, Clone, Copy)]
pub(in crate::producer) struct Wish {
    pub(in crate::producer) least: usize,
    /// Not less than the least.
    pub(in crate::producer) most: usize,
}

impl Wish {
    /// The least, or this if it is more.
    pub(in crate::producer) fn between(least: usize, most: usize) -> Self {
        let most = most.max(least);
        Self { least, most }
    }
}

impl From<usize> for Wish {
    /// Neither more nor less.
    fn from(bytes: usize) -> Self {
        Self {
            least: bytes,
            most: bytes,
        }
    }
}

/// Bytes that are held from now on.
pub(super) struct Grant {
    pub(super) bytes: usize,
    /// Of this capacity exactly.
    pub(super) spare: Option<Vec<u8>>,
}

/// What remains to be done without the lock.
#[derive(Default)]
pub(super) struct After {
    pub(super) freed: Vec<Vec<u8>>,
    pub(super) grants: Vec<(Sender<Reservation>, Grant)>,
}

/// The capacity that a spare may have to serve for this much: what is small must not hold megabytes.
pub(super) fn fitting(bytes: usize) -> RangeInclusive<usize> {
    bytes..=bytes.saturating_add(bytes / 8)
}

impl Ledger {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            held: 0,
            idle: 0,
            spares: VecDeque::new(),
            waiting: VecDeque::new(),
            next: 0,
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn take_now(&mut self, wish: Wish, after: &mut After) -> Option<Grant> {
        if self.is_waited_for() {
            return None;
        }
        let free = self.limit.saturating_sub(self.held);
        // Of the last room each takes half at the most, so that there is some for records to other partitions.
        let wish = match wish.most > free {
            true => Wish::between(wish.least, free / 2),
            false => wish,
        };
        self.take(wish, after)
    }

    pub(super) fn force(&mut self, bytes: usize, after: &mut After) -> Grant {
        let bytes = bytes.min(usize::MAX - self.held);
        self.held += bytes;
        self.evict(after);
        Grant { bytes, spare: None }
    }

    /// Turns this much that is held into a spare that is about as large.
    pub(super) fn exchange(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let spare = self.take_spare(fitting(bytes))?;
        self.held += spare.capacity() - bytes;
        Some(spare)
    }

    pub(super) fn give_back(&mut self, bytes: usize, spare: Option<Vec<u8>>, after: &mut After) {
        debug_assert!(bytes <= self.held, "more was given back than was held");
        self.held -= bytes;
        let Some(spare) = spare else { return };
        if (LEAST_SPARE..=self.most_idle()).contains(&spare.capacity()) {
            self.idle += spare.capacity();
            self.spares.push_back(spare);
            self.evict(after);
        } else {
            after.freed.push(spare);
        }
    }

    pub(super) fn drop_spares(&mut self, after: &mut After) {
        self.idle = 0;
        after.freed.extend(self.spares.drain(..));
    }

    /// Takes a place at the end of the queue.
    pub(super) fn queue(&mut self, wish: Wish, grant: Sender<Reservation>) -> u64 {
        let id = self.next;
        self.next += 1;
        self.waiting.push_back(Waiter { id, wish, grant });
        id
    }

    /// Gives a place up, if it was not granted yet.
    pub(super) fn leave(&mut self, id: u64) {
        self.waiting.retain(|waiter| waiter.id != id);
    }

    /// Grants what there is to those who wait: in order, and nothing to anybody behind one who cannot go on.
    pub(super) fn serve(&mut self, after: &mut After) {
        while let Some(first) = self.waiting.front() {
            let Some(grant) = self.take(first.wish, after) else {
                return;
            };
            if let Some(first) = self.waiting.pop_front() {
                after.grants.push((first.grant, grant));
            }
        }
    }

    /// A spare that would have to go goes along if it is of use, so that buffers go round when memory is short too: also one
    /// of half of what could be had, since new memory costs more than a buffer is worth that is so much larger.
    fn take(&mut self, wish: Wish, after: &mut After) -> Option<Grant> {
        let free = self.limit.saturating_sub(self.held);
        if wish.least > free {
            return None;
        }
        let bytes = wish.most.min(free);
        if bytes > free - self.idle {
            let fits = wish.least.max(bytes / 2)..=*fitting(bytes).end();
            if let Some(spare) = self.take_spare(fits) {
                let bytes = spare.capacity();
                self.held += bytes;
                return Some(Grant {
                    bytes,
                    spare: Some(spare),
                });
            }
        }
        self.held += bytes;
        self.evict(after);
        Some(Grant { bytes, spare: None })
    }

    /// The newest that fits, which lies in the processor's cache if any does.
    fn take_spare(&mut self, fits: RangeInclusive<usize>) -> Option<Vec<u8>> {
        let at = self.spares.iter().rposition(|spare| fits.contains(&spare.capacity()))?;
        let spare = self.spares.remove(at)?;
        self.idle -= spare.capacity();
        Some(spare)
    }

    /// The oldest go: what came last fits what is coming.
    fn evict(&mut self, after: &mut After) {
        while self.idle > self.most_idle() || self.idle > self.limit.saturating_sub(self.held) {
            let Some(oldest) = self.spares.pop_front() else { return };
            self.idle -= oldest.capacity();
            after.freed.push(oldest);
        }
    }

    fn most_idle(&self) -> usize {
        MOST_IDLE.min(self.limit / 4)
    }
}

#[cfg(test)]
impl Ledger {
    pub(super) fn idle(&self) -> usize {
        assert_eq!(self.idle, self.spares.iter().map(Vec::capacity).sum::<usize>());
        self.idle
    }
}

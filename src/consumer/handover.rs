//! What a group does to a stream: hands partitions to it, and takes them away in good order or at once.
//!
//! Runs under the buffer's lock; the coordinator decides when.

use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::{
    budget::Account,
    buffer::{Shared, Slot, State},
    event::Event,
    ownership::{Ownership, Terms},
    partition::{Partition, Phase, Task},
};
use crate::{
    error::Error,
    offset::{StartAt, TopicPartition},
};

/// A partition that the group has assigned to us.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub name: TopicPartition,
    pub topic_id: Uuid,
    pub leader: Option<(i32, i32)>,
    pub from: ClaimFrom,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ClaimFrom {
    /// The group has committed this, with the leader epoch of the message before it (-1 when unknown).
    Committed { offset: i64, epoch: i32 },
    /// It has committed nothing.
    Start(StartAt),
}

/// What may be committed of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub slot: Slot,
    pub name: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the message before it; -1 when unknown.
    pub epoch: i32,
}

/// What is left of a partition that was given up.
#[derive(Debug, Clone)]
pub(crate) struct GivenUp {
    pub name: TopicPartition,
    pub progress: Option<Progress>,
    /// The oldest message that was given out and not acked.
    pub unfinished: Option<i64>,
    /// The program has some of it in hand and could have acked it.
    pub is_in_hand: bool,
}

impl Shared {
    /// Takes in what was assigned. The caller starts the fetchers.
    pub(crate) fn claim(&self, claims: Vec<Claim>, terms: &Terms) {
        let mut state = self.lock();
        if state.is_ended() {
            return;
        }
        for claim in claims {
            if state.index.contains_key(&claim.name) {
                continue;
            }
            let start = match claim.from {
                ClaimFrom::Committed { offset, .. } => StartAt::Offset(offset),
                ClaimFrom::Start(start) => start,
            };
            let ownership = Ownership::new(terms.clone(), self.weak(), 0);
            let mut partition = Partition::owned(claim.name, claim.topic_id, start, claim.leader, Some(ownership));
            if let ClaimFrom::Committed { offset, epoch } = claim.from {
                partition.begin(offset);
                partition.read_epoch = epoch;
                if epoch >= 0 {
                    // Is what the group has read still part of the log (KIP-320)?
                    partition.phase = Phase::Preparing {
                        task: Task::Validate { epoch },
                        begun: false,
                    };
                }
                self.tell(Event::Assigned {
                    partition: partition.name.clone(),
                    position: offset,
                });
            }
            let slot = self.add(&mut state, partition);
            self.kick(&mut state, slot);
        }
        self.tell_settled();
        self.wake_keeper();
    }

    /// Takes in what was assigned and cannot be read: the program is told, and may seek it.
    pub(crate) fn claim_failed(&self, name: TopicPartition, error: Error, terms: &Terms) {
        let mut state = self.lock();
        if state.is_ended() || state.index.contains_key(&name) {
            return;
        }
        let topic_id = self.cluster.metadata().topic(name.topic()).map(|topic| topic.id);
        let ownership = Ownership::new(terms.clone(), self.weak(), 0);
        let topic_id = topic_id.unwrap_or_default();
        let partition = Partition::owned(name, topic_id, self.config.start_at, None, Some(ownership));
        let slot = self.add(&mut state, partition);
        self.fail(&mut state, slot, error);
        self.wake_keeper();
    }

    /// Nothing more of any partition is given out or asked for. What the program has in hand may still be acked.
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        let all: Vec<Slot> = state.partitions.keys().copied().collect();
        for slot in all {
            let Some(partition) = state.partitions.get_mut(&slot) else {
                continue;
            };
            partition.raise_epoch();
            partition.phase = Phase::Draining;
            partition.failure = None;
            partition.well();
            if partition.leased.is_some() {
                partition.cell.recall.store(true, Ordering::Release);
            }
            if let Some(ownership) = partition.ownership() {
                ownership.drain();
            }
            partition.wake.notify_all();
            state.drop_raw(slot);
            state.drop_chunks(slot);
        }
        self.tell_settled();
    }

    /// Whether the program has nothing in hand that it could still ack.
    pub(crate) fn is_let_go(&self) -> bool {
        let mut state = self.lock();
        state.partitions.values_mut().all(Partition::is_let_go)
    }

    /// Whether an iterator still has a partition: it tells when it gives it back. Messages elsewhere do not always.
    pub(crate) fn is_leased(&self) -> bool {
        self.lock()
            .partitions
            .values()
            .any(|partition| partition.leased.is_some())
    }

    /// Every partition is no longer ours. Acks that were accepted before are in what comes back; later ones are refused.
    pub(crate) fn give_up(&self) -> Vec<GivenUp> {
        let mut state = self.lock();
        let State {
            partitions,
            index,
            ending,
            budget,
            ..
        } = &mut *state;
        index.clear();
        let mut given_up = Vec::new();
        for (slot, mut partition) in std::mem::take(partitions) {
            let is_in_hand = !partition.is_let_go();
            let (committable, unfinished) = partition.kill();
            given_up.push(GivenUp {
                name: partition.name.clone(),
                progress: committable.map(|(offset, epoch)| Progress {
                    slot,
                    name: partition.name.clone(),
                    offset,
                    epoch,
                }),
                unfinished,
                is_in_hand,
            });
            partition.raise_epoch();
            partition.cell.recall.store(true, Ordering::Release);
            budget.change(&mut partition.account, |account| *account = Account::default());
            partition.stop.stop();
            partition.wake.notify_all();
            ending.extend(partition.fetcher.take());
        }
        budget.set_partitions(0);
        self.tell_settled();
        self.wake_keeper();
        given_up
    }

    /// What may be committed of each partition.
    pub(crate) fn progress(&self) -> Vec<Progress> {
        let mut state = self.lock();
        let all = state.partitions.iter_mut();
        all.filter_map(|(&slot, partition)| {
            let (offset, epoch) = partition.committable()?;
            Some(Progress {
                slot,
                name: partition.name.clone(),
                offset,
                epoch,
            })
        })
        .collect()
    }

    /// The partitions whose topic was made anew, each time once.
    pub(crate) fn take_anew(&self) -> Vec<Slot> {
        std::mem::take(&mut self.lock().anew)
    }

    /// Lets iterators look again: what was held back since it might not be ours is ours.
    pub(crate) fn offer_all(&self) {
        let mut state = self.lock();
        let all: Vec<Slot> = state.partitions.keys().copied().collect();
        for slot in all {
            self.offer(&mut state, slot);
        }
    }

    /// Somebody has finished messages of this partition.
    pub(crate) fn settle(&self, slot: Slot) {
        let mut state = self.lock();
        let State { partitions, budget, .. } = &mut *state;
        let Some(partition) = partitions.get_mut(&slot) else {
            return;
        };
        if let Some(ownership) = partition.cell.ownership.as_ref() {
            let freed = ownership.lock().acks.take_freed();
            budget.change(&mut partition.account, |account| {
                account.in_hand -= freed.bytes;
                account.in_hand_records -= freed.records;
            });
        }
        if matches!(partition.phase, Phase::Draining) {
            self.nudge();
            return;
        }
        partition.wake.notify_one();
        self.offer(&mut state, slot);
        self.kick(&mut state, slot);
    }

    /// A partition begins elsewhere than at its first record, which the group should remember from now on.
    pub(crate) fn tell_pinned(&self) {
        self.pinned.store(true, Ordering::Release);
        self.nudge();
    }

    pub(crate) fn takes_pinned(&self) -> bool {
        self.pinned.swap(false, Ordering::AcqRel)
    }

    /// The program holds messages beyond their turn, which it is told once.
    pub(crate) fn tell_held(&self, partition: TopicPartition, offset: i64) {
        if !self.held_told.swap(true, Ordering::Relaxed) {
            self.tell(Event::StillHeld { partition, offset });
        }
    }
}

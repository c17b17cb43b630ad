//! What a sender does with its partitions: it looks what is to be sent, takes batches out, and says what became of them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{Body, Load, Partition, State, now};
use crate::{
    error::Error,
    producer::{
        callbacks::Job,
        inbox::Inbox,
        memory::Buffer,
        queue::{Finished, Next, Piece, Ticket, Verdict},
        report::BatchReport,
    },
    wire::batch::Sequence,
};

/// What a sender finds.
#[derive(Debug)]
pub(in crate::producer) enum Poll {
    /// Another sender has it now.
    Gone,
    /// Nothing to do; it is not listed any more.
    Idle,
    Ready,
    At(Instant),
    /// Until an answer comes.
    Blocked,
    /// Until there is an identity, which is asked for if this is true.
    Nameless(bool),
}

/// A batch for the wire.
#[derive(Debug)]
pub(in crate::producer) struct Taken {
    pub(in crate::producer) ticket: Ticket,
    pub(in crate::producer) sequence: Sequence,
    pub(in crate::producer) records: u32,
    pub(in crate::producer) body: Body,
}

/// A batch that is to be taken apart.
#[derive(Debug)]
pub(in crate::producer) struct Held {
    pub(in crate::producer) bytes: Arc<Buffer>,
    pub(in crate::producer) records: u32,
    pub(in crate::producer) ticket: Ticket,
}

/// A part of a batch that was taken apart.
#[derive(Debug)]
pub(in crate::producer) enum Part {
    Kept(Buffer, std::ops::Range<u32>),
    Failed(Error, std::ops::Range<u32>),
}

impl Partition {
    pub(in crate::producer) fn poll(&self, me: &Arc<Inbox>, now: Instant) -> Poll {
        let mut state = self.state.lock();
        if !state.owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, me)) {
            return Poll::Gone;
        }
        let next = state.queue.next(now, state.open.is_some());
        if matches!(next, Next::Empty) {
            state.is_listed = false;
            return Poll::Idle;
        }
        match state.queue.waiting() {
            Some(load) if matches!(load.body, Body::Lent) => return Poll::Blocked,
            Some(_) => {}
            None => {
                if let Some(at) = self.lingers_until(&state, now) {
                    return Poll::At(at);
                }
            }
        }
        match next {
            Next::Ready => Poll::Ready,
            Next::At(at) => Poll::At(at),
            Next::Blocked | Next::Empty => Poll::Blocked,
            Next::Identity => Poll::Nameless(!std::mem::replace(&mut state.is_nameless, true)),
        }
    }

    /// When the batch that is being filled is to be sent, if that is not now.
    fn lingers_until(&self, state: &State, now: Instant) -> Option<Instant> {
        let open = state.open.as_ref()?;
        if open.is_pressed || self.env.memory.is_pressed() || self.env.closing.is_stopped() {
            return None;
        }
        Some(open.opened + self.env.config.linger).filter(|at| now < *at)
    }

    /// The next batch, if one is ready and not longer than `room`.
    pub(in crate::producer) fn take(&self, me: &Arc<Inbox>, now: Instant, room: usize) -> Option<Taken> {
        let mut state = self.state.lock();
        if !state.owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, me)) {
            return None;
        }
        if !matches!(state.queue.next(now, state.open.is_some()), Next::Ready) {
            return None;
        }
        match state.queue.waiting() {
            Some(load) if matches!(load.body, Body::Lent) || load.body.len() > room => return None,
            Some(_) => {}
            None if state.filled() > room || self.lingers_until(&state, now).is_some() => return None,
            None => self.seal(&mut state),
        }
        let (ticket, sequence, load) = state.queue.take()?;
        Some(Taken {
            ticket,
            sequence,
            records: load.records,
            body: std::mem::replace(&mut load.body, Body::Lent),
        })
    }

    /// The batch as it goes onto the wire, for the case that it has to go again. False if it need not go at all any more.
    pub(in crate::producer) fn give_back(
        self: &Arc<Self>,
        ticket: Ticket,
        bytes: &Arc<Buffer>,
        sequence: Sequence,
    ) -> bool {
        let mut state = self.state.lock();
        if let Some(load) = state.queue.payload(ticket) {
            load.body = Body::Stamped(Arc::clone(bytes), sequence);
        }
        let is_current = state.queue.is_current(ticket);
        if !is_current {
            state.queue.forgo(ticket);
        }
        // Whoever has it now has waited for this, as has what lies behind it.
        self.announce(state, !is_current);
        is_current
    }

    pub(in crate::producer) fn not_sent(self: &Arc<Self>, me: &Arc<Inbox>, ticket: Ticket, error: Error, random: u64) {
        let mut state = self.state.lock();
        state.queue.not_sent(ticket, error, now(), random);
        self.tell(&mut state);
        self.announce_from(me, state);
    }

    /// What an attempt came to; gives the batch that is to be taken apart, if it is.
    pub(in crate::producer) fn settle(
        self: &Arc<Self>,
        me: &Arc<Inbox>,
        ticket: Ticket,
        verdict: Verdict,
        random: u64,
    ) -> Option<Held> {
        let mut state = self.state.lock();
        let is_held = state.queue.settle(ticket, verdict, now(), random);
        let held = is_held.then(|| state.queue.payload(ticket)).flatten();
        let held = held.and_then(|load| match &load.body {
            Body::Stamped(bytes, _) => Some(Held {
                bytes: Arc::clone(bytes),
                records: load.records,
                ticket,
            }),
            _ => None,
        });
        self.tell(&mut state);
        self.announce_from(me, state);
        held
    }

    /// The parts of a batch that was held, in their order; together they are all of it.
    pub(in crate::producer) fn replace(self: &Arc<Self>, me: &Arc<Inbox>, ticket: Ticket, parts: Vec<Part>) {
        let mut state = self.state.lock();
        let Some(load) = state.queue.payload(ticket) else {
            return;
        };
        let pieces = parts.into_iter().map(|part| {
            let (body, records, error) = match part {
                Part::Kept(buffer, records) => (Body::Closed(buffer), records, None),
                Part::Failed(error, records) => (Body::Gone, records, Some(error)),
            };
            let payload = Load {
                fate: Arc::clone(&load.fate),
                first: load.first + records.start,
                records: records.end - records.start,
                debt: load.debt.clone(),
                opened: load.opened,
                body,
            };
            match error {
                None => Piece::Kept {
                    records: payload.records,
                    payload,
                },
                Some(error) => Piece::Failed { payload, error },
            }
        });
        let pieces: Vec<_> = pieces.collect();
        state.queue.replace(ticket, pieces);
        self.tell(&mut state);
        self.announce_from(me, state);
    }

    /// Outcomes, in their order. Gives the number of records that failed.
    pub(super) fn tell(&self, state: &mut State) -> u64 {
        let mut failed = 0;
        for finished in state.queue.finished() {
            let Finished {
                payload,
                attempts,
                outcome,
            } = finished;
            let Load {
                fate,
                first,
                records,
                debt,
                opened,
                body,
            } = payload;
            if outcome.is_err() {
                failed += u64::from(records);
            }
            let (room, bytes) = match body {
                // It was never sent.
                Body::Closed(buffer) => (Some(Arc::new(buffer)), 0),
                Body::Stamped(buffer, _) => {
                    let bytes = buffer.bytes().len();
                    (Some(buffer), bytes)
                }
                Body::Lent | Body::Gone => (None, 0),
            };
            let calls = fate.settle(first..first + records, &outcome);
            let callbacks = &self.env.callbacks;
            let report = callbacks.is_observed().then(|| BatchReport {
                topic: self.topic.to_string(),
                partition: self.index,
                records,
                bytes,
                attempts,
                took: now().saturating_duration_since(opened),
                error: outcome.err(),
            });
            if !calls.is_empty() || report.is_some() {
                callbacks.run(Job { calls, report, room });
            }
            drop(debt);
        }
        self.backlog.store(state.queue.len(), Ordering::Relaxed);
        failed
    }
}

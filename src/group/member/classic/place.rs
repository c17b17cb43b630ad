//! A place in one generation, and the heartbeats that keep it.

use std::time::{Duration, Instant};

use crate::group::member::{Identity, Ticket};

#[derive(Debug)]
pub(super) struct Place {
    pub(super) identity: Identity,
    /// When the last request was sent that the group has answered as to one of its own: it cannot have given us up
    /// before a session timeout from then.
    proven: Instant,
    /// When the next heartbeat is to be sent, unless one is under way.
    next: Instant,
    under_way: Option<Heartbeat>,
}

#[derive(Debug, Clone, Copy)]
struct Heartbeat {
    ticket: Ticket,
    sent: Instant,
}

impl Place {
    pub(super) fn new(identity: Identity, proven: Instant, next: Instant) -> Self {
        Self {
            identity,
            proven,
            next,
            under_way: None,
        }
    }

    /// Something that was sent then was answered as to a member.
    pub(super) fn prove(&mut self, sent: Instant) {
        self.proven = self.proven.max(sent);
    }

    pub(super) fn valid_until(&self, session_timeout: Duration) -> Instant {
        self.proven + session_timeout
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.under_way.is_none() && self.next <= now
    }

    pub(super) fn sent(&mut self, ticket: Ticket, now: Instant) {
        self.under_way = Some(Heartbeat { ticket, sent: now });
    }

    pub(super) fn is_under_way(&self, ticket: Ticket) -> bool {
        self.under_way.is_some_and(|heartbeat| heartbeat.ticket == ticket)
    }

    /// The heartbeat under way was answered, whatever with; gives its send time.
    pub(super) fn answered(&mut self, interval: Duration) -> Option<Instant> {
        let sent = self.under_way.take()?.sent;
        self.next = sent + interval;
        Some(sent)
    }

    pub(super) fn beat_at(&mut self, at: Instant) {
        self.next = at;
    }

    /// What was under way will not be answered; the group is to be told at once that we are still there.
    pub(super) fn void(&mut self, now: Instant) {
        self.under_way = None;
        self.next = now;
    }

    /// No answer for so long means a dead link, while there is still time to make another one.
    pub(super) fn is_unanswered(&self, patience: Duration, now: Instant) -> bool {
        self.under_way.is_some_and(|heartbeat| heartbeat.sent + patience <= now)
    }

    /// When there is something to do about heartbeats.
    pub(super) fn timer(&self, patience: Duration) -> Instant {
        match self.under_way {
            Some(heartbeat) => heartbeat.sent + patience,
            None => self.next,
        }
    }
}

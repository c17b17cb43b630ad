//! A place in one generation, and the heartbeats that keep it.

use std::time::{Duration, Instant};

use crate::{
    error::{Error, ErrorKind},
    group::member::{Identity, MemberConfig, Ticket},
};

#[derive(Debug)]
pub(super) struct Place {
    pub(super) identity: Identity,
    /// When the last request was sent that the group has answered as to one of its own: it gives nobody up before a
    /// session timeout from then.
    known: Instant,
    /// When the last one of those was sent that no rebalance was under way for (`settled <= known`). Later on one may have
    /// begun, and it ends without those who have not joined again within the rebalance timeout, however well they are.
    settled: Instant,
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
    pub(super) fn new(identity: Identity, known: Instant, next: Instant) -> Self {
        Self {
            identity,
            known,
            settled: known,
            next,
            under_way: None,
        }
    }

    /// A request was answered as to a member, while the group was settled or in the midst of a rebalance.
    pub(super) fn prove(&mut self, sent: Instant, is_settled: bool) {
        self.known = self.known.max(sent);
        if is_settled {
            self.settled = self.settled.max(sent);
        }
    }

    pub(super) fn valid_until(&self, config: &MemberConfig) -> Instant {
        (self.known + config.session_timeout).min(self.rebalanced_by(config))
    }

    /// When the group may go on without us: a rebalance has perhaps begun right after the last answer that knew of none.
    pub(super) fn rebalanced_by(&self, config: &MemberConfig) -> Instant {
        self.settled + config.rebalance_timeout
    }

    /// Why the place may be somebody else's by now.
    pub(super) fn end(&self, config: &MemberConfig, now: Instant) -> Option<Error> {
        if now < self.valid_until(config) {
            return None;
        }
        let (session, rebalance) = (config.session_timeout, config.rebalance_timeout);
        let what = if self.known + session <= now {
            format!(
                "the group was not heard of for session_timeout ({session:?}), so that others may have its partitions"
            )
        } else {
            format!(
                "the group may have ended a rebalance without this member, as it does after rebalance_timeout \
                 ({rebalance:?})"
            )
        };
        Some(Error::new(ErrorKind::TimedOut, what))
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

//! The end of a membership: commit, say goodbye, report.

use std::time::Instant;

use super::{Coordinator, GOODBYE, ORPHAN, giving_up::Handover, now};
use crate::{
    consumer::{handover::Progress, stream::Farewell},
    error::Error,
    group::member::Link,
    offset::TopicPartition,
};

pub(super) struct Leaving {
    pub(super) until: Instant,
    /// The link was closed while idle, and is made again to say goodbye.
    pub(super) relinks: bool,
    pub(super) unfinished: Vec<(TopicPartition, i64)>,
    /// What cannot be committed any more.
    pub(super) uncommitted: Vec<(TopicPartition, i64)>,
    pub(super) said: bool,
}

impl Coordinator {
    /// Whoever closes the client need not close each stream: a member that reads no more must not keep partitions. What the
    /// program has in hand may still be acked for a while.
    pub(super) fn heed_client(&mut self) {
        if self.leaving.is_some() || !self.parts.shared.cluster.closing().is_stopped() {
            return;
        }
        let since = *self.client_closed.get_or_insert_with(now);
        if self.parts.shared.is_let_go() || now() >= since + ORPHAN {
            self.begin_leaving(now() + ORPHAN);
        }
    }

    pub(super) fn begin_leaving(&mut self, until: Instant) {
        if self.leaving.is_some() {
            return;
        }
        let given_up = self.parts.shared.give_up();
        self.parts
            .committer
            .queue(given_up.iter().filter_map(|one| one.progress.clone()));
        self.opening = None;
        let handed_over = match std::mem::replace(&mut self.handover, Handover::None) {
            // In the middle of a rebalance that has taken them already.
            Handover::Committing { given_up, .. } => given_up,
            Handover::None | Handover::Draining { .. } => Vec::new(),
        };
        let given_up = given_up.into_iter().chain(handed_over);
        let unfinished = given_up.filter_map(|one| Some((one.name, one.unfinished?)));
        self.leaving = Some(Leaving {
            until,
            relinks: false,
            unfinished: unfinished.collect(),
            uncommitted: Vec::new(),
            said: false,
        });
    }

    pub(super) fn say_goodbye(&mut self) -> bool {
        let Some(leaving) = self.leaving.as_mut().filter(|leaving| !leaving.said) else {
            return false;
        };
        let hopeless = self.is_over || self.parts.shared.cluster.closing().is_stopped() && self.links.is_none();
        if !hopeless && leaving.until > now() {
            if !self.parts.committer.is_idle() {
                return false;
            }
            let links = self.links.as_ref();
            if links.is_some_and(|links| links.was_idle(Link::Group)) {
                // There is nobody to say goodbye to until there is another one.
                leaving.until = leaving.until.min(now() + GOODBYE);
                leaving.relinks = true;
                self.unsent(Link::Group, Error::closed("idle connection"));
                return true;
            }
            if leaving.relinks && links.is_none() {
                return false;
            }
        }
        leaving.said = true;
        leaving.until = leaving.until.min(now() + GOODBYE);
        self.parts.member.leave(now());
        true
    }

    pub(super) fn is_done(&self) -> bool {
        let Some(leaving) = self.leaving.as_ref().filter(|leaving| leaving.said) else {
            return false;
        };
        if !self.is_over && leaving.until > now() {
            return false;
        }
        let mut uncommitted = leaving.uncommitted.clone();
        let under_way = self.parts.committer.uncommitted().into_iter();
        uncommitted.extend(under_way.map(|Progress { name, offset, .. }| (name, offset)));
        self.parts.status.farewell(Farewell {
            unfinished: leaving.unfinished.clone(),
            uncommitted,
            left_group: self.has_left,
        });
        true
    }
}

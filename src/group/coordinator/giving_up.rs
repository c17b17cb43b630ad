//! Partitions that are given up in good order, or lost.

use std::{collections::BTreeSet, time::Instant};

use super::{Coordinator, now};
use crate::{
    consumer::{event::Event, handover::GivenUp},
    error::{Error, ErrorKind},
    offset::TopicPartition,
};

/// The steps of giving partitions up in good order.
pub(super) enum Handover {
    None,
    /// The program may finish what it has in hand.
    Draining {
        until: Instant,
        limit: Instant,
    },
    /// What it has finished is being committed.
    Committing {
        limit: Instant,
        given_up: Vec<GivenUp>,
    },
}

impl Coordinator {
    pub(super) fn revoke(&mut self) {
        self.parts.shared.tell(Event::RebalanceStarted);
        self.opening = None;
        self.parts.shared.drain();
        let (now, config) = (now(), &self.parts.config);
        let end = self.parts.member.rebalanced_by();
        let (until, limit) = config.hand_over_by(now, end.unwrap_or(now + config.rebalance_timeout));
        self.handover = Handover::Draining { until, limit };
    }

    pub(super) fn hand_over(&mut self) -> bool {
        match std::mem::replace(&mut self.handover, Handover::None) {
            Handover::None => false,
            Handover::Draining { until, limit } => {
                if until > now() && !self.parts.shared.is_let_go() {
                    self.handover = Handover::Draining { until, limit };
                    return false;
                }
                let given_up = self.parts.shared.give_up();
                self.parts
                    .committer
                    .queue(given_up.iter().filter_map(|one| one.progress.clone()));
                self.handover = Handover::Committing { limit, given_up };
                true
            }
            Handover::Committing { limit, given_up } => {
                if limit > now() && !self.parts.committer.is_idle() {
                    self.handover = Handover::Committing { limit, given_up };
                    return false;
                }
                let message = "there was no time left to commit before the group goes on";
                self.drop_commits(&Error::new(ErrorKind::TimedOut, message));
                for one in given_up {
                    let partition = one.name;
                    self.parts.shared.tell(match one.unfinished.filter(|_| one.is_in_hand) {
                        Some(oldest) => Event::Abandoned { partition, oldest },
                        None => Event::Revoked { partition },
                    });
                }
                self.parts.member.released(now());
                true
            }
        }
    }

    pub(super) fn lose(&mut self, cause: &Error) {
        self.parts.terms.validity.set(None);
        self.opening = None;
        let mut names: BTreeSet<TopicPartition> = self.parts.shared.give_up().into_iter().map(|one| one.name).collect();
        if let Handover::Committing { given_up, .. } = std::mem::replace(&mut self.handover, Handover::None) {
            names.extend(given_up.into_iter().map(|one| one.name));
        }
        self.drop_commits(cause);
        self.parts.status.commit_failed(None, now());
        self.parts.status.lost(Some(cause.clone()), now());
        for partition in names {
            let error = cause.clone().for_partition(partition.topic(), partition.partition());
            self.parts.shared.tell(Event::Lost { partition, error });
        }
    }

    pub(super) fn drop_commits(&mut self, cause: &Error) {
        for progress in self.parts.committer.give_up(cause) {
            let name = progress.name;
            if let Some(leaving) = &mut self.leaving {
                leaving.uncommitted.push((name.clone(), progress.offset));
            }
            let error = cause.clone().for_partition(name.topic(), name.partition());
            self.parts.shared.tell(Event::CommitFailed { partition: name, error });
        }
    }
}

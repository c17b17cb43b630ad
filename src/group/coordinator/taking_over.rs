//! Partitions that were assigned: where to begin, and then reading them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use kafka_protocol::messages::OffsetFetchResponse;
use log::Level;

use super::{Coordinator, WRITE, flight::Flight, now};
use crate::{
    cluster::{Action, Metadata, action},
    consumer::{
        event::Event,
        handover::{Claim, ClaimFrom},
        keeper,
    },
    deadline::Deadline,
    error::{Error, ErrorKind},
    group::{
        member::{Identity, Link},
        offsets::{self, Committed},
    },
    net::Ask,
    offset::{StartAt, TopicPartition},
};

/// Partitions that were assigned and whose committed offsets are not known yet.
pub(super) struct Opening {
    pub(super) partitions: BTreeSet<TopicPartition>,
    /// Those of them that the request which is under way names.
    pub(super) asked: Vec<TopicPartition>,
    pub(super) failures: u32,
    pub(super) ask_at: Instant,
    pub(super) is_asked: bool,
}

impl Coordinator {
    pub(super) fn open(&mut self, generation: i32, partitions: Vec<TopicPartition>) {
        let current: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        let before = std::mem::replace(&mut self.before, current.clone());
        self.parts.shared.tell(Event::Rebalanced {
            generation,
            claimed: current.difference(&before).cloned().collect(),
            released: before.difference(&current).cloned().collect(),
            current: current.iter().cloned().collect(),
        });
        self.parts.status.opening_failed(None, now());
        self.parts.status.lost(None, now());
        self.opening = (!current.is_empty()).then(|| Opening {
            partitions: current,
            asked: Vec::new(),
            failures: 0,
            ask_at: now(),
            is_asked: false,
        });
    }

    pub(super) fn ask_offsets(&mut self) -> bool {
        let (Some(links), Some(identity), Some(opening)) =
            (&self.links, self.parts.member.identity(), &mut self.opening)
        else {
            return false;
        };
        if opening.is_asked || opening.ask_at > now() {
            return false;
        }
        // A leader may know of partitions before we do; or lie, and each would cost us a thread.
        let shared = &self.parts.shared;
        let metadata = shared.cluster.metadata();
        let (known, unknown): (Vec<_>, Vec<_>) = opening
            .partitions
            .iter()
            .cloned()
            .partition(|name| may_exist(name, &metadata));
        if let Some(first) = unknown.first() {
            let message = format!(
                "the group has assigned {first}, and {} more partitions, that no broker knows; they are waited for",
                unknown.len() - 1
            );
            let error = Error::new(ErrorKind::UnknownTopic, message).for_group(&self.parts.group);
            if self.parts.status.opening_failed(Some(error.clone()), now()) {
                shared.tell(Event::GroupTrouble { error });
            }
            shared.want_metadata(&mut shared.lock());
        }
        if known.is_empty() {
            opening.failures += 1;
            opening.ask_at = now() + shared.cluster.retry_delay(opening.failures);
            return false;
        }
        opening.is_asked = true;
        opening.asked.clone_from(&known);
        let fetch = |version: i16| offsets::fetch(&self.parts.group, &known, version);
        let deadline = Deadline::after(WRITE, "writing to the coordinator");
        match links.get(Link::Group).send(Ask::at_version(&fetch), &deadline) {
            Ok(pending) => self.flights.push(Flight::Offsets(identity.clone(), pending)),
            Err(error) if error.kind() == ErrorKind::Unsupported => self.fail(error),
            Err(error) => self.unsent(Link::Group, error),
        }
        true
    }

    pub(super) fn take_offsets(&mut self, identity: &Identity, answer: OffsetFetchResponse) {
        if self.parts.member.identity() != Some(identity) {
            return; // of an earlier generation
        }
        let Some(opening) = &mut self.opening else {
            return;
        };
        let asked = std::mem::take(&mut opening.asked);
        opening.is_asked = false;
        let mut refused = None;
        let mut found = BTreeMap::new();
        let mut failed = Vec::new();
        match offsets::fetched(&answer, &asked) {
            Err(code) => refused = Some(code),
            Ok(fetched) => {
                for (partition, result) in fetched {
                    match result {
                        Ok(committed) => drop(found.insert(partition, committed)),
                        Err(code) if is_of_topic(code) => failed.push((partition, code)),
                        Err(code) => refused = Some(code),
                    }
                }
            }
        }
        for partition in found.keys().chain(failed.iter().map(|(partition, _)| partition)) {
            opening.partitions.remove(partition);
        }
        if opening.partitions.is_empty() {
            self.opening = None;
        } else {
            opening.failures += 1;
            opening.ask_at = now() + self.parts.shared.cluster.retry_delay(opening.failures);
        }
        self.claim(found);
        for (partition, code) in failed {
            let error = Error::refused(code).in_api("OffsetFetch");
            self.parts.shared.claim_failed(partition, error, &self.parts.terms);
            self.start_fetchers();
        }
        if let Some(code) = refused {
            let error = Error::refused(code).in_api("OffsetFetch").for_group(&self.parts.group);
            // Of the membership, or of a broker that has stumbled.
            if action(&error) == Action::Fail && !matches!(code, 22 | 25 | 27 | 82 | -1) {
                return self.fail(error);
            }
            // Not knowing is no reason to begin anywhere: it is asked again (semantics: no commit and cannot-tell).
            if self.parts.status.opening_failed(Some(error.clone()), now()) {
                self.parts.shared.tell(Event::GroupTrouble { error });
            }
            self.parts.member.refused(identity, code, now());
        } else if self.opening.is_none() {
            self.parts.status.opening_failed(None, now());
        }
    }

    pub(super) fn claim(&self, found: BTreeMap<TopicPartition, Option<Committed>>) {
        let shared = &self.parts.shared;
        let metadata = shared.cluster.metadata();
        let mut is_complete = true;
        let claims = found.into_iter().map(|(name, committed)| {
            let topic = metadata.topic(name.topic());
            let leader = topic.and_then(|topic| topic.partition(name.partition()));
            let leader = leader.filter(|partition| partition.leader >= 0);
            is_complete &= leader.is_some();
            let from = match committed {
                Some(Committed { offset, epoch }) => ClaimFrom::Committed { offset, epoch },
                // Whatever was added since this member is there is read from its first record: nothing is missed.
                None if self.parts.counts.is_later(&name, &metadata) => ClaimFrom::Start(StartAt::Earliest),
                None => ClaimFrom::Start(shared.config.start_at),
            };
            if let (None, ClaimFrom::Start(start)) = (committed, from) {
                self.note(
                    Level::Info,
                    &format!("nothing is committed for {name}: starting at {start:?}"),
                );
            }
            Claim {
                topic_id: topic.map(|topic| topic.id).unwrap_or_default(),
                leader: leader.map(|partition| (partition.leader, partition.leader_epoch)),
                name,
                from,
            }
        });
        let claims: Vec<Claim> = claims.collect();
        if claims.is_empty() {
            return;
        }
        shared.claim(claims, &self.parts.terms);
        self.start_fetchers();
        if !is_complete {
            shared.want_metadata(&mut shared.lock());
        }
    }

    /// A line for the log, which the keeper writes: a logger is the program's code, and may take its time.
    pub(super) fn note(&self, level: Level, line: &str) {
        let line = format!("group {}: {line}", self.parts.group);
        self.parts.shared.events.note(level, line);
        self.parts.shared.wake_keeper();
    }

    pub(super) fn start_fetchers(&self) {
        let shared = &self.parts.shared;
        if let Err(error) = keeper::start_fetchers(shared) {
            self.note(Level::Warn, &format!("{error}")); // the keeper tries again
            shared.want_metadata(&mut shared.lock());
        }
    }
}

/// Not when brokers know the topic and not the partition, or nothing of the topic at all.
fn may_exist(name: &TopicPartition, metadata: &Metadata) -> bool {
    const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    let topic = metadata.topic(name.topic());
    topic.is_some_and(|topic| match topic.error {
        0 => topic.partition(name.partition()).is_some(),
        code => code != UNKNOWN_TOPIC_OR_PARTITION, // perhaps we may not describe it
    })
}

/// Whether a refused OffsetFetch is a matter of one topic: the others are read.
fn is_of_topic(code: i16) -> bool {
    const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    code == TOPIC_AUTHORIZATION_FAILED
}

//! What the leader of a generation does for all: it reads what they want, deals the partitions out, and watches whether
//! there are more of them.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    error::Error,
    group::{
        assignor::{Assignor, Counts, Subscriber},
        member::JoinedMember,
    },
    wire::membership::{Assignment, decode_subscription, encode_assignment},
};

/// Everybody in the generation, on the leader's desk.
#[derive(Debug)]
pub(super) struct Desk {
    /// None when the broker has an assignment already (KIP-814).
    assignor: Option<Assignor>,
    subscribers: Vec<Subscriber>,
}

impl Desk {
    /// With what was wrong, if a member could not be understood: it gets nothing.
    pub(super) fn new(assignor: Option<Assignor>, members: Vec<JoinedMember>) -> (Self, Option<Error>) {
        let mut trouble = None;
        let mut subscriber = |member: JoinedMember| {
            let topics = decode_subscription(&member.subscription).unwrap_or_else(|error| {
                trouble = Some(error.explained(&format!("{} gets no partitions", member.id)));
                BTreeSet::new()
            });
            Subscriber {
                id: member.id,
                instance_id: member.instance_id,
                topics,
            }
        };
        let subscribers = members.into_iter().map(&mut subscriber).collect();
        let desk = Self { assignor, subscribers };
        (desk, trouble)
    }

    /// What anybody wants to read.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        let topics = self.subscribers.iter().flat_map(|subscriber| &subscriber.topics);
        topics.cloned().collect()
    }

    /// What everybody gets, by member ID.
    pub(super) fn assign(&self, counts: &Counts) -> Vec<(String, Vec<u8>)> {
        let Some(assignor) = self.assignor else {
            return Vec::new();
        };
        let as_payload = |(id, assignment): (String, Assignment)| (id, encode_assignment(&assignment));
        let dealt = assignor.assign(&self.subscribers, counts);
        dealt.into_iter().map(as_payload).collect()
    }

    /// From now on, whether these are still the numbers.
    pub(super) fn watch(&self, counts: &Counts) -> Watch {
        let topics = self.topics();
        let counts = only(&topics, counts);
        Watch { topics, counts }
    }
}

/// What the assignment of a generation was made from.
#[derive(Debug)]
pub(super) struct Watch {
    topics: BTreeSet<Arc<str>>,
    counts: Counts,
}

impl Watch {
    pub(super) fn is_outdated_by(&self, counts: &Counts) -> bool {
        only(&self.topics, counts) != self.counts
    }
}

fn only(topics: &BTreeSet<Arc<str>>, counts: &Counts) -> Counts {
    let count = |topic| Some((Arc::clone(topic), *counts.get(topic)?));
    topics.iter().filter_map(count).collect()
}

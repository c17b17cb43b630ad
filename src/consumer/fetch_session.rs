//! Incremental fetch sessions (KIP-227): what to add, what to forget, when to start over.
//!
//! A broker remembers the partitions of a session, so that a request names only what has changed. It sends the data of
//! a remembered partition again and again until its position moves. So the session holds exactly the partitions that
//! want records now: a partition whose window is full is forgotten until it has room.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kafka_protocol::{
    messages::{
        BrokerId, FetchRequest, TopicName,
        fetch_request::{FetchPartition, FetchTopic, ForgottenTopic},
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use super::{
    buffer::Slot,
    config::FetchConfig,
    slot_map::{self, SlotMap},
};
use crate::{offset::Isolation, wire::fetch::TopicKey};

/// Version from which topics travel as IDs.
pub(super) const TOPIC_IDS: i16 = 13;
/// Ends or avoids a session: everything is named, nothing remembered.
const NO_SESSION: i32 = -1;

/// One partition that wants records, and how many bytes were reserved for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    pub slot: Slot,
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub max_bytes: usize,
}

/// The broker's memory of what one lane asks for, as this side knows it.
#[derive(Debug, Default)]
pub(crate) struct Session {
    id: i32,
    /// Of the next request: 0 asks for a new session, -1 is outside of any.
    epoch: i32,
    held: SlotMap<Held>,
    slots: HashMap<(TopicKey, i32), Slot>,
    /// Counts requests.
    round: u64,
}

/// What the broker remembers of one partition.
#[derive(Debug)]
struct Held {
    want: Want,
    /// In which request it was wanted last.
    round: u64,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Every request stands for itself.
    pub(crate) fn none() -> Self {
        Self {
            epoch: NO_SESSION,
            ..Self::default()
        }
    }

    /// Whose answer this is; None for a partition that was not asked for.
    pub(crate) fn slot_of(&self, topic: &TopicKey, partition: i32) -> Option<Slot> {
        // The key is cloned only here, once per partition that has something to say.
        self.slots.get(&(topic.clone(), partition)).copied()
    }

    /// The connection is gone or the broker has lost the thread: the next request starts over.
    pub(crate) fn start_over(&mut self) {
        self.held.clear();
        self.slots.clear();
        if self.epoch != NO_SESSION {
            // The old ID travels along once more, so that the broker can forget that session.
            self.epoch = 0;
        }
    }

    /// A broker has answered without an error for the whole session.
    pub(crate) fn answered(&mut self, session_id: i32) {
        if self.epoch == NO_SESSION {
            return;
        }
        if session_id == 0 {
            // Its cache of sessions is full, which is normal: everything is named each time.
            self.id = 0;
            self.start_over();
            return;
        }
        self.id = session_id;
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
    }

    /// The request for exactly these wants.
    ///
    /// Of thousands, few have changed: those that have not are looked at, and nothing is made of them.
    pub(crate) fn request(
        &mut self,
        wants: &[Want],
        config: &FetchConfig,
        max_wait_ms: i32,
        version: i16,
    ) -> FetchRequest {
        if self.epoch <= 0 {
            self.held.clear();
            self.slots.clear();
        }
        self.round += 1;
        let mut named: BTreeMap<Arc<str>, FetchTopic> = BTreeMap::new();
        let mut order: Vec<Arc<str>> = Vec::new();
        let mut gone: Vec<Want> = Vec::new();
        for want in wants {
            match self.held.get_mut(&want.slot) {
                Some(held) if held.want == *want => {
                    held.round = self.round;
                    continue;
                }
                Some(held) if key(&held.want, version) == key(want, version) => {
                    held.want.clone_from(want);
                    held.round = self.round;
                }
                _ => {
                    let round = self.round;
                    let new = want.clone();
                    gone.extend(
                        self.held
                            .insert(want.slot, Held { want: new, round })
                            .map(|held| held.want),
                    );
                    self.slots.insert(key(want, version), want.slot);
                }
            }
            let topic = named.entry(Arc::clone(&want.topic)).or_insert_with(|| {
                order.push(Arc::clone(&want.topic));
                topic(want, version)
            });
            topic.partitions.push(partition(want));
        }
        if self.held.len() > wants.len() {
            let round = self.round;
            let unwanted = |held: &Held| held.round != round;
            gone.extend(slot_map::take_out(&mut self.held, unwanted).map(|held| held.want));
        }
        let mut forgotten: BTreeMap<(Arc<str>, Uuid), Vec<i32>> = BTreeMap::new();
        for gone in gone {
            // A broker forgets after it has taken in what is named. So what was given up and taken over again, which has
            // another slot then, must not be forgotten.
            let key = key(&gone, version);
            if self.slots.get(&key) == Some(&gone.slot) {
                self.slots.remove(&key);
                forgotten
                    .entry((gone.topic, gone.topic_id))
                    .or_default()
                    .push(gone.partition);
            }
        }
        let mut request = FetchRequest::default()
            .with_max_wait_ms(max_wait_ms)
            .with_min_bytes(i32::try_from(config.min_bytes).unwrap_or(i32::MAX))
            .with_max_bytes(i32::try_from(config.max_bytes).unwrap_or(i32::MAX))
            .with_isolation_level(i8::from(config.isolation == Isolation::ReadCommitted))
            .with_replica_id(BrokerId(-1))
            // In the order of the wants: whom the broker serves first rotates with it.
            .with_topics(order.iter().filter_map(|name| named.remove(name)).collect());
        if version >= 7 {
            request.session_id = if self.epoch == NO_SESSION { 0 } else { self.id };
            request.session_epoch = self.epoch;
            request.forgotten_topics_data = forgotten
                .into_iter()
                .map(|((name, id), partitions)| {
                    let topic = ForgottenTopic::default().with_partitions(partitions);
                    if version >= TOPIC_IDS {
                        topic.with_topic_id(id)
                    } else {
                        topic.with_topic(topic_name(&name))
                    }
                })
                .collect();
        }
        if version >= 11 {
            if let Some(rack) = &config.rack {
                request.rack_id = StrBytes::from_string(rack.clone());
            }
        }
        request
    }
}

fn key(want: &Want, version: i16) -> (TopicKey, i32) {
    let topic = if version >= TOPIC_IDS {
        TopicKey::Id(want.topic_id)
    } else {
        TopicKey::Name(Arc::clone(&want.topic))
    };
    (topic, want.partition)
}

fn topic(want: &Want, version: i16) -> FetchTopic {
    let topic = FetchTopic::default();
    if version >= TOPIC_IDS {
        topic.with_topic_id(want.topic_id)
    } else {
        topic.with_topic(topic_name(&want.topic))
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn partition(want: &Want) -> FetchPartition {
    FetchPartition::default()
        .with_partition(want.partition)
        .with_current_leader_epoch(want.leader_epoch)
        .with_fetch_offset(want.offset)
        .with_partition_max_bytes(i32::try_from(want.max_bytes).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(slot: Slot, offset: i64) -> Want {
        Want {
            slot,
            topic: Arc::from("orders"),
            topic_id: Uuid::from_u128(1),
            partition: slot as i32,
            offset,
            leader_epoch: 0,
            max_bytes: 1000,
        }
    }

    fn ask(session: &mut Session, wants: &[Want]) -> (i32, i32, Vec<i32>, Vec<i32>) {
        let request = session.request(wants, &FetchConfig::default(), 500, 18);
        let named = request
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|p| p.partition))
            .collect();
        let gone = request
            .forgotten_topics_data
            .iter()
            .flat_map(|topic| topic.partitions.clone())
            .collect();
        (request.session_id, request.session_epoch, named, gone)
    }

    #[test]
    fn only_what_has_changed_is_named_again() {
        let mut session = Session::new();
        assert_eq!(ask(&mut session, &[want(0, 5), want(1, 7)]), (0, 0, vec![0, 1], vec![]));
        session.answered(99);
        assert_eq!(ask(&mut session, &[want(0, 6), want(1, 7)]), (99, 1, vec![0], vec![]));
        session.answered(99);
        assert_eq!(ask(&mut session, &[want(1, 7)]), (99, 2, vec![], vec![0]));
        session.answered(99);
        assert_eq!(ask(&mut session, &[want(0, 6), want(1, 7)]), (99, 3, vec![0], vec![]));
    }

    #[test]
    fn a_broker_without_room_for_sessions_is_told_everything_each_time() {
        let mut session = Session::new();
        ask(&mut session, &[want(0, 5)]);
        session.answered(0);
        assert_eq!(ask(&mut session, &[want(0, 5)]), (0, 0, vec![0], vec![]));
    }

    #[test]
    fn after_a_session_error_everything_is_named_under_epoch_zero() {
        let mut session = Session::new();
        ask(&mut session, &[want(0, 5)]);
        session.answered(99);
        session.start_over();
        assert_eq!(ask(&mut session, &[want(0, 5)]), (99, 0, vec![0], vec![]));
    }

    #[test]
    fn a_recreated_topic_is_forgotten_under_its_old_id() {
        let mut session = Session::new();
        ask(&mut session, &[want(0, 5)]);
        session.answered(99);
        let again = Want {
            topic_id: Uuid::from_u128(2),
            ..want(0, 5)
        };
        assert_eq!(ask(&mut session, &[again]), (99, 1, vec![0], vec![0]));
        assert_eq!(session.slot_of(&TopicKey::Id(Uuid::from_u128(1)), 0), None);
        assert_eq!(session.slot_of(&TopicKey::Id(Uuid::from_u128(2)), 0), Some(0));
    }

    #[test]
    fn a_partition_that_was_given_up_and_taken_over_again_is_not_forgotten() {
        let mut session = Session::new();
        ask(&mut session, &[want(0, 5), want(1, 7)]);
        session.answered(99);
        let again = Want { slot: 8, ..want(0, 5) };
        assert_eq!(ask(&mut session, &[again]), (99, 1, vec![0], vec![1]));
        assert_eq!(session.slot_of(&TopicKey::Id(Uuid::from_u128(1)), 0), Some(8));
    }

    #[test]
    fn a_topic_made_anew_is_not_forgotten_by_its_name_where_topics_have_no_ids() {
        let mut session = Session::new();
        session.request(&[want(0, 5)], &FetchConfig::default(), 500, 12);
        session.answered(99);
        let again = Want {
            topic_id: Uuid::from_u128(2),
            ..want(0, 0)
        };
        let request = session.request(&[again], &FetchConfig::default(), 500, 12);
        assert_eq!((request.topics.len(), request.forgotten_topics_data.len()), (1, 0));
    }

    #[test]
    fn a_lane_without_a_session_names_everything() {
        let mut session = Session::none();
        assert_eq!(ask(&mut session, &[want(0, 5)]), (0, -1, vec![0], vec![]));
        session.answered(0);
        assert_eq!(ask(&mut session, &[want(0, 6)]), (0, -1, vec![0], vec![]));
    }
}

//! Fetch sessions (KIP-227): what a client has asked a broker for, so that it need not say it again.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use kafka_protocol::messages::{FetchRequest, fetch_request::FetchPartition, fetch_response::PartitionData};
use uuid::Uuid;

use crate::error_code::{FETCH_SESSION_ID_NOT_FOUND, FETCH_SESSION_TOPIC_ID_ERROR, INVALID_FETCH_SESSION_EPOCH};

/// A session that has not been used for so long may give its slot to another (`min.incremental.fetch.session.eviction.ms`).
const IDLE: Duration = Duration::from_secs(120);

/// The epochs that do not continue a session: begin one, and go without.
const INITIAL: i32 = 0;
const FINAL: i32 = -1;

/// The sessions of one broker.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: usize,
    last_id: i32,
    by_id: HashMap<i32, Session>,
}

#[derive(Debug)]
struct Session {
    /// The epoch that the next request must have.
    epoch: i32,
    by_ids: bool,
    used: Duration,
    /// In the order in which they are read: who has been given something goes to the end, but for the first time.
    partitions: BTreeMap<u64, Cached>,
    places: HashMap<Place, u64>,
    last_place: u64,
}

/// A partition as the client names it: its topic by ID since version 13, and by name before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) topic: Uuid,
    pub(crate) name: String,
    pub(crate) partition: i32,
}

#[derive(Debug)]
struct Cached {
    place: Place,
    wants: FetchPartition,
    /// What the client was last told; `None` if it must be told again.
    told: Option<(i64, i64)>,
}

/// What one Fetch is about.
#[derive(Debug)]
pub(crate) struct Plan {
    /// 0 without a session.
    pub(crate) session: i32,
    incremental: bool,
    pub(crate) partitions: Vec<(Place, FetchPartition)>,
}

impl Sessions {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots,
            last_id: 0,
            by_id: HashMap::new(),
        }
    }

    /// A broker that is started again knows none; and no later one shall be taken for one of those.
    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
    }

    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    /// What a request is about, together with what was asked for before. The error is Kafka's code.
    pub(crate) fn begin(&mut self, request: &FetchRequest, version: i16, now: Duration) -> Result<Plan, i16> {
        let by_ids = version >= 13;
        let named = named(request);
        if matches!(request.session_epoch, INITIAL | FINAL) {
            self.by_id.remove(&request.session_id);
            let wants_session = request.session_epoch == INITIAL && version >= 7;
            let session = if wants_session {
                self.add(&named, by_ids, now)
            } else {
                0
            };
            return Ok(Plan {
                session,
                incremental: false,
                partitions: named,
            });
        }
        let id = request.session_id;
        let session = self.by_id.get_mut(&id).ok_or(FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != request.session_epoch {
            return Err(INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_ids != by_ids {
            return Err(FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.used = now;
        session.epoch = if session.epoch == i32::MAX {
            1
        } else {
            session.epoch + 1
        };
        for (place, wants) in named {
            session.ask(place, wants);
        }
        for topic in &request.forgotten_topics_data {
            for partition in &topic.partitions {
                session.forget(&Place {
                    topic: topic.topic_id,
                    name: topic.topic.to_string(),
                    partition: *partition,
                });
            }
        }
        let cached = session.partitions.values();
        let partitions: Vec<_> = cached
            .map(|cached| (cached.place.clone(), cached.wants.clone()))
            .collect();
        let is_empty = partitions.is_empty();
        if is_empty {
            self.by_id.remove(&id);
        }
        Ok(Plan {
            session: if is_empty { 0 } else { id },
            incremental: !is_empty,
            partitions,
        })
    }

    /// Leaves out of the answers what the client of a session knows already.
    pub(crate) fn end(&mut self, plan: Plan, answers: Vec<PartitionData>) -> Vec<(Place, PartitionData)> {
        let answers = plan.partitions.into_iter().map(|(place, _)| place).zip(answers);
        let Some(session) = self.by_id.get_mut(&plan.session) else {
            return answers.collect();
        };
        let news = answers.filter(|(place, answer)| session.tell(place, answer, plan.incremental) || !plan.incremental);
        news.collect()
    }

    fn add(&mut self, named: &[(Place, FetchPartition)], by_ids: bool, now: Duration) -> i32 {
        if self.by_id.len() >= self.slots && !self.evict(now) {
            return 0;
        }
        self.last_id = if self.last_id == i32::MAX { 1 } else { self.last_id + 1 };
        let mut session = Session {
            epoch: 1,
            by_ids,
            used: now,
            partitions: BTreeMap::new(),
            places: HashMap::new(),
            last_place: 0,
        };
        for (place, wants) in named {
            session.ask(place.clone(), wants.clone());
        }
        self.by_id.insert(self.last_id, session);
        self.last_id
    }

    fn evict(&mut self, now: Duration) -> bool {
        let oldest = self.by_id.iter().min_by_key(|(_, session)| session.used);
        let oldest = oldest.filter(|(_, session)| now.saturating_sub(session.used) >= IDLE);
        let Some(id) = oldest.map(|(id, _)| *id) else {
            return false;
        };
        self.by_id.remove(&id).is_some()
    }
}

impl Session {
    fn ask(&mut self, place: Place, wants: FetchPartition) {
        if let Some(cached) = self.places.get(&place).and_then(|at| self.partitions.get_mut(at)) {
            cached.wants = wants;
            return;
        }
        let told = None;
        self.put_last(Cached { place, wants, told });
    }

    fn forget(&mut self, place: &Place) {
        if let Some(at) = self.places.remove(place) {
            self.partitions.remove(&at);
        }
    }

    fn put_last(&mut self, cached: Cached) {
        self.last_place += 1;
        self.places.insert(cached.place.clone(), self.last_place);
        self.partitions.insert(self.last_place, cached);
    }

    /// Whether an answer is news to the client. Afterwards it is not.
    fn tell(&mut self, place: &Place, answer: &PartitionData, moves: bool) -> bool {
        let Some(at) = self.places.get(place).copied() else {
            return true;
        };
        let Some(cached) = self.partitions.get_mut(&at) else {
            return true;
        };
        let has_records = answer.records.as_ref().is_some_and(|records| !records.is_empty());
        let state = (answer.high_watermark, answer.log_start_offset);
        let news = has_records
            || answer.error_code != 0
            || cached.told != Some(state)
            || answer.preferred_read_replica.0 >= 0
            || answer.diverging_epoch.epoch >= 0;
        // Who was told of an error hears of its end.
        cached.told = (answer.error_code == 0).then_some(state);
        if has_records && moves {
            if let Some(cached) = self.partitions.remove(&at) {
                self.put_last(cached);
            }
        }
        news
    }
}

/// What a request names. Of a partition that it names twice, the last time counts, in the first one's place.
fn named(request: &FetchRequest) -> Vec<(Place, FetchPartition)> {
    let mut named: Vec<(Place, FetchPartition)> = Vec::new();
    let mut places = HashMap::new();
    for topic in &request.topics {
        for wants in &topic.partitions {
            let place = Place {
                topic: topic.topic_id,
                name: topic.topic.to_string(),
                partition: wants.partition,
            };
            let at = *places.entry(place.clone()).or_insert(named.len());
            match named.get_mut(at) {
                Some(known) => known.1 = wants.clone(),
                None => named.push((place, wants.clone())),
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::{
        messages::{
            TopicName,
            fetch_request::{FetchTopic, ForgottenTopic},
        },
        protocol::StrBytes,
    };

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn topic() -> TopicName {
        TopicName(StrBytes::from_static_str("t"))
    }

    fn request(session: i32, epoch: i32, partitions: &[i32]) -> FetchRequest {
        let partitions = partitions
            .iter()
            .map(|index| FetchPartition::default().with_partition(*index));
        let wanted = FetchTopic::default()
            .with_topic(topic())
            .with_partitions(partitions.collect());
        FetchRequest::default()
            .with_session_id(session)
            .with_session_epoch(epoch)
            .with_topics(vec![wanted])
    }

    fn forgetting(session: i32, epoch: i32, partitions: &[i32]) -> FetchRequest {
        let forgotten = ForgottenTopic::default()
            .with_topic(topic())
            .with_partitions(partitions.to_vec());
        request(session, epoch, &[]).with_forgotten_topics_data(vec![forgotten])
    }

    fn answer(high_watermark: i64, records: &'static [u8]) -> PartitionData {
        PartitionData::default()
            .with_high_watermark(high_watermark)
            .with_records(Some(Bytes::from_static(records)))
    }

    fn partitions(plan: &Plan) -> Vec<i32> {
        plan.partitions.iter().map(|(place, _)| place.partition).collect()
    }

    /// Answers a request and returns the partitions that the answer names.
    fn round(sessions: &mut Sessions, request: &FetchRequest, answers: &[PartitionData]) -> Vec<i32> {
        let plan = sessions.begin(request, 12, NOW).unwrap();
        let told = sessions.end(plan, answers.to_vec());
        told.iter().map(|(place, _)| place.partition).collect()
    }

    #[test]
    fn a_session_remembers_and_tells_only_news() {
        let mut sessions = Sessions::new(10);
        assert_eq!(
            round(
                &mut sessions,
                &request(0, 0, &[0, 1]),
                &[answer(0, b""), answer(0, b"")]
            ),
            [0, 1]
        );
        assert_eq!(
            round(&mut sessions, &request(1, 1, &[]), &[answer(0, b""), answer(0, b"")]),
            [0; 0]
        );
        assert_eq!(
            round(&mut sessions, &request(1, 2, &[]), &[answer(0, b""), answer(5, b"")]),
            [1]
        );
        assert_eq!(
            round(&mut sessions, &request(1, 3, &[]), &[answer(0, b"x"), answer(5, b"")]),
            [0]
        );
    }

    #[test]
    fn who_was_given_records_is_read_last() {
        let mut sessions = Sessions::new(10);
        let answers = [answer(9, b"x"), answer(0, b""), answer(0, b"")];
        round(&mut sessions, &request(0, 0, &[0, 1, 2]), &answers);
        // Not so in the answer that begins the session.
        let plan = sessions.begin(&request(1, 1, &[]), 12, NOW).unwrap();
        assert_eq!(partitions(&plan), [0, 1, 2]);
        sessions.end(plan, answers.to_vec());
        let plan = sessions.begin(&request(1, 2, &[]), 12, NOW).unwrap();
        assert_eq!(partitions(&plan), [1, 2, 0]);
    }

    #[test]
    fn of_a_partition_that_is_named_twice_the_last_time_counts() {
        let mut twice = request(0, 0, &[0, 1, 0]);
        twice.topics[0].partitions[2].fetch_offset = 7;
        let plan = Sessions::new(10).begin(&twice, 12, NOW).unwrap();
        assert_eq!(partitions(&plan), [0, 1]);
        assert_eq!(plan.partitions[0].1.fetch_offset, 7);
    }

    #[test]
    fn an_error_is_told_until_it_is_over() {
        let mut sessions = Sessions::new(10);
        let failed = || answer(-1, b"").with_error_code(6);
        assert_eq!(round(&mut sessions, &request(0, 0, &[0]), &[answer(3, b"")]), [0]);
        assert_eq!(round(&mut sessions, &request(1, 1, &[]), &[failed()]), [0]);
        assert_eq!(round(&mut sessions, &request(1, 2, &[]), &[failed()]), [0]);
        assert_eq!(round(&mut sessions, &request(1, 3, &[]), &[answer(3, b"")]), [0]);
        assert_eq!(round(&mut sessions, &request(1, 4, &[]), &[answer(3, b"")]), [0; 0]);
    }

    #[test]
    fn what_is_forgotten_is_not_read() {
        let mut sessions = Sessions::new(10);
        sessions.begin(&request(0, 0, &[0, 1]), 12, NOW).unwrap();
        let plan = sessions.begin(&forgetting(1, 1, &[0]), 12, NOW).unwrap();
        assert_eq!((plan.session, partitions(&plan)), (1, vec![1]));
        let plan = sessions.begin(&forgetting(1, 2, &[1]), 12, NOW).unwrap();
        assert_eq!((plan.session, sessions.count()), (0, 0));
    }

    #[test]
    fn a_request_must_fit_its_session() {
        let mut sessions = Sessions::new(10);
        sessions.begin(&request(0, 0, &[0]), 12, NOW).unwrap();
        let mut code =
            |session, epoch, version| sessions.begin(&request(session, epoch, &[]), version, NOW).unwrap_err();
        assert_eq!(code(2, 1, 12), FETCH_SESSION_ID_NOT_FOUND);
        assert_eq!(code(1, 2, 12), INVALID_FETCH_SESSION_EPOCH);
        assert_eq!(code(1, 1, 13), FETCH_SESSION_TOPIC_ID_ERROR);
    }

    #[test]
    fn a_session_ends_with_a_request_without_one() {
        let mut sessions = Sessions::new(10);
        sessions.begin(&request(0, 0, &[0]), 12, NOW).unwrap();
        let plan = sessions.begin(&request(1, FINAL, &[0]), 12, NOW).unwrap();
        assert_eq!((plan.session, sessions.count()), (0, 0));
    }

    #[test]
    fn who_finds_no_slot_has_no_session() {
        let mut sessions = Sessions::new(1);
        let mut begin = |now| sessions.begin(&request(0, 0, &[0]), 12, now).unwrap().session;
        assert_eq!(begin(NOW), 1);
        assert_eq!(begin(NOW), 0);
        assert_eq!(begin(NOW + IDLE), 2);
    }
}

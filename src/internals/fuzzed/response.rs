//! Every answer in every version: walked, decoded, and taken for what it says.
//!
//! The first byte of the input is the API's key, the second the version; what follows is a frame's body, the header
//! first. Keys and versions that there are none of stand for one that there is.

use std::{sync::LazyLock, time::Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::*,
    protocol::{Decodable, Encodable, HeaderVersion, Request},
};
use uuid::Uuid;

use crate::{
    cluster::Metadata,
    deadline::FOR_EVER,
    group::{member::Answer, offsets, requests},
    offset::TopicPartition,
    producer::verdict,
    wire::{
        api,
        fetch::{self, FetchAnswer, TopicKey},
        layout,
        membership::{decode_assignment, decode_subscription},
        request,
        versions::{self, Versions},
    },
};

/// What klamm accepts of one API.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Answers {
    /// The API's key.
    pub key: i16,
    /// The API's name.
    pub name: &'static str,
    /// The first version.
    pub first: i16,
    /// The last version.
    pub last: i16,
    /// Of the answer's header, by version.
    pub header: fn(i16) -> i16,
    decode: fn(i16, &[u8]),
}

/// Of each API that klamm speaks.
#[must_use]
pub fn answers() -> &'static [Answers] {
    static ANSWERS: LazyLock<Vec<Answers>> = LazyLock::new(all);
    &ANSWERS
}

pub(super) fn run(bytes: &[u8]) {
    let Some((&[key, version], frame)) = bytes.split_first_chunk() else {
        return;
    };
    let answers = answers();
    let known = answers.iter().find(|answers| answers.key == i16::from(key));
    let answers = known.unwrap_or_else(|| &answers[usize::from(key) % answers.len()]);
    let versions = answers.first..=answers.last;
    let version = i16::from(version);
    let version = if versions.contains(&version) {
        version
    } else {
        answers.first + version % (answers.last - answers.first + 1)
    };
    (answers.decode)(version, frame);
    if answers.key == FetchRequest::KEY {
        as_read(version, frame);
    }
}

macro_rules! all {
    ($($request:ident)*) => {
        vec![$(of::<$request>(|version, frame| {
            let Some(answer) = decoded::<$request>(version, frame) else { return };
            comes_back::<$request>(version, &answer);
            answer.is_taken(version);
        })),*]
    };
}

fn all() -> Vec<Answers> {
    let all = all![
        ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest OffsetFetchRequest
        FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest
        DescribeGroupsRequest ListGroupsRequest SaslHandshakeRequest ApiVersionsRequest CreateTopicsRequest
        DeleteTopicsRequest DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest
        DescribeConfigsRequest SaslAuthenticateRequest CreatePartitionsRequest DeleteGroupsRequest
        IncrementalAlterConfigsRequest OffsetDeleteRequest DescribeClusterRequest ConsumerGroupHeartbeatRequest
        ConsumerGroupDescribeRequest
    ];
    let keys = |answers: &[Answers]| answers.iter().map(|answers| answers.key).collect::<Vec<_>>();
    let spoken: Vec<i16> = api::APIS.iter().map(|api| api.key).collect();
    assert_eq!(keys(&all), spoken, "all that klamm speaks");
    all
}

fn of<R: Request>(decode: fn(i16, &[u8])) -> Answers {
    let (first, last) = versions::ours::<R>();
    Answers {
        key: R::KEY,
        name: api::name(R::KEY),
        first,
        last,
        header: R::Response::header_version,
        decode,
    }
}

fn decoded<R: Request>(version: i16, frame: &[u8]) -> Option<R::Response> {
    request::decode::<R>(version, Bytes::copy_from_slice(frame)).ok()
}

/// Written again, it has its layout and says the same.
fn comes_back<R: Request>(version: i16, answer: &R::Response)
where
    R::Response: PartialEq + std::fmt::Debug,
{
    let mut body = BytesMut::new();
    answer
        .encode(&mut body, version)
        .expect("it was decoded in this version");
    assert_eq!(layout::check(R::KEY, version, &body), Ok(()));
    let again = R::Response::decode(&mut body.freeze(), version).expect("it was just written");
    assert!(again == *answer, "{again:?} was {answer:?}");
}

/// What klamm does with an answer, as far as that is a matter of values.
trait Taken {
    fn is_taken(&self, _version: i16) {}
}

macro_rules! only_read {
    ($($response:ident)*) => { $(impl Taken for $response {})* };
}

only_read![
    FetchResponse ListOffsetsResponse FindCoordinatorResponse HeartbeatResponse LeaveGroupResponse
    DescribeGroupsResponse ListGroupsResponse SaslHandshakeResponse CreateTopicsResponse DeleteTopicsResponse
    DeleteRecordsResponse InitProducerIdResponse OffsetForLeaderEpochResponse DescribeConfigsResponse
    SaslAuthenticateResponse CreatePartitionsResponse DeleteGroupsResponse IncrementalAlterConfigsResponse
    OffsetDeleteResponse DescribeClusterResponse ConsumerGroupHeartbeatResponse ConsumerGroupDescribeResponse
];

impl Taken for ApiVersionsResponse {
    fn is_taken(&self, _: i16) {
        let versions = Versions::new(self);
        if let Ok(version) = versions.pick::<FetchRequest>() {
            let offers = self.api_keys.iter();
            assert!(offers.into_iter().any(|offer| {
                offer.api_key == FetchRequest::KEY && (offer.min_version..=offer.max_version).contains(&version)
            }));
        }
    }
}

impl Taken for MetadataResponse {
    fn is_taken(&self, _: i16) {
        static NOW: LazyLock<Instant> = LazyLock::new(super::member::beginning);
        let mut known = Metadata::new(FOR_EVER);
        // What is known already is merged with.
        for _ in 0..2 {
            known.merge(self, true, *NOW);
            for (name, topic) in &known.topics {
                assert_eq!(*name, topic.name);
                let indexes = topic.partitions.iter().map(|partition| partition.index);
                assert!(indexes.eq(0..topic.partitions.len() as i32), "{topic:?}");
            }
        }
    }
}

impl Taken for ProduceResponse {
    fn is_taken(&self, _: i16) {
        for partition in self.responses.iter().flat_map(|topic| &topic.partition_responses) {
            for records in [1, 3, i32::MAX.unsigned_abs()] {
                let _ = verdict::answer(partition, records);
            }
        }
    }
}

impl Taken for JoinGroupResponse {
    fn is_taken(&self, _: i16) {
        if let Answer::Join { members, .. } = requests::joined(self.clone()) {
            for member in members {
                let _ = decode_subscription(&member.subscription);
            }
        }
    }
}

impl Taken for SyncGroupResponse {
    fn is_taken(&self, _: i16) {
        if let Answer::Sync { assignment, .. } = requests::synced(self) {
            let _ = decode_assignment(&assignment);
        }
    }
}

impl Taken for OffsetCommitResponse {
    fn is_taken(&self, _: i16) {
        let partitions = self.topics.iter().map(|topic| topic.partitions.len());
        assert!(offsets::committed(self).len() <= partitions.sum());
    }
}

impl Taken for OffsetFetchResponse {
    fn is_taken(&self, _: i16) {
        let asked = [TopicPartition::new("orders", 0), TopicPartition::new("orders", 1)];
        if let Ok(fetched) = offsets::fetched(self, &asked) {
            assert!(fetched.keys().eq(&asked), "what was asked for and nothing else");
        }
    }
}

/// What one partition is asked for, and how many partitions.
const EXPECTED: usize = 1 << 10;
const MOST_PARTITIONS: usize = 100;

/// The parser that a lane reads with, beside the general one.
fn as_read(version: i16, frame: &[u8]) {
    let Some(id) = frame.first_chunk() else { return };
    let id = i32::from_be_bytes(*id);
    let mut rest = frame;
    let mut given = 0;
    let buffer = |believed: usize| {
        assert!(believed <= EXPECTED);
        given += 1;
        vec![0x55; 3]
    };
    let read = fetch::read_answer(&mut rest, frame.len(), version, id, EXPECTED, MOST_PARTITIONS, buffer);
    let Ok(read) = read else { return };
    assert_eq!(rest.len(), read.tail, "the frame is read but for its tail");
    if fetch::check_tail(rest).is_err() {
        return;
    }
    assert!(read.partitions.len() <= MOST_PARTITIONS && given <= read.partitions.len());
    let held: usize = read.partitions.iter().map(|partition| partition.records.len()).sum();
    assert!(held <= frame.len(), "no more than was there");
    if let Some(decoded) = decoded::<FetchRequest>(version, frame) {
        is_the_same(&read, &decoded, version);
    }
}

fn is_the_same(read: &FetchAnswer, decoded: &FetchResponse, version: i16) {
    assert_eq!(read.throttle_ms, decoded.throttle_time_ms);
    assert_eq!((read.error, read.session_id), (decoded.error_code, decoded.session_id));
    let partitions = decoded
        .responses
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)));
    assert_eq!(read.partitions.len(), partitions.clone().count());
    for (found, (topic, partition)) in read.partitions.iter().zip(partitions) {
        match &found.topic {
            TopicKey::Id(id) => assert!(version >= 13 && *id == Uuid::from_bytes(*topic.topic_id.as_bytes())),
            TopicKey::Name(name) => assert_eq!(&**name, topic.topic.as_str()),
        }
        assert_eq!(found.partition, partition.partition_index);
        assert_eq!(found.error, partition.error_code);
        assert_eq!(found.high_watermark, partition.high_watermark);
        assert_eq!(found.last_stable_offset, partition.last_stable_offset);
        assert_eq!(found.records, partition.records.as_deref().unwrap_or_default());
        let aborted = partition.aborted_transactions.iter().flatten();
        assert!(
            aborted
                .map(|one| (one.producer_id.0, one.first_offset))
                .eq(found.aborted.iter().map(|one| (one.producer_id, one.first_offset)))
        );
    }
}

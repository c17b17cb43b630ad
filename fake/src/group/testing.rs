//! For tests: a group's clients, on a clock that stands still until it is moved.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest, SyncGroupRequest, SyncGroupResponse,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Answer, Caller, Groups, Limits, Response, Ticket, Topics, text};

pub(super) const GROUP: &str = "g";

/// The error codes that tests name.
pub(super) mod code {
    pub(in crate::group) const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    pub(in crate::group) const NOT_COORDINATOR: i16 = 16;
    pub(in crate::group) const ILLEGAL_GENERATION: i16 = 22;
    pub(in crate::group) const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
    pub(in crate::group) const INVALID_GROUP_ID: i16 = 24;
    pub(in crate::group) const UNKNOWN_MEMBER_ID: i16 = 25;
    pub(in crate::group) const INVALID_SESSION_TIMEOUT: i16 = 26;
    pub(in crate::group) const REBALANCE_IN_PROGRESS: i16 = 27;
    pub(in crate::group) const UNSUPPORTED_VERSION: i16 = 35;
    pub(in crate::group) const INVALID_REQUEST: i16 = 42;
    pub(in crate::group) const NON_EMPTY_GROUP: i16 = 68;
    pub(in crate::group) const GROUP_ID_NOT_FOUND: i16 = 69;
    pub(in crate::group) const MEMBER_ID_REQUIRED: i16 = 79;
    pub(in crate::group) const GROUP_MAX_SIZE_REACHED: i16 = 81;
    pub(in crate::group) const FENCED_INSTANCE_ID: i16 = 82;
    pub(in crate::group) const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
    pub(in crate::group) const FENCED_MEMBER_EPOCH: i16 = 110;
    pub(in crate::group) const UNRELEASED_INSTANCE_ID: i16 = 111;
    pub(in crate::group) const UNSUPPORTED_ASSIGNOR: i16 = 112;
    pub(in crate::group) const STALE_MEMBER_EPOCH: i16 = 113;
    pub(in crate::group) const INVALID_REGULAR_EXPRESSION: i16 = 128;
}

#[derive(Debug)]
pub(super) struct Clients {
    pub groups: Groups,
    pub topics: Fixed,
    pub now: Duration,
}

/// Topics that nobody else changes.
#[derive(Debug, Default)]
pub(super) struct Fixed(pub BTreeMap<String, (Uuid, i32)>);

impl Clients {
    pub(super) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(super) fn with(limits: Limits) -> Self {
        let mut topics = Fixed::default();
        topics.0.insert("orders".to_owned(), (Uuid::from_u128(1), 4));
        topics.0.insert("events".to_owned(), (Uuid::from_u128(2), 3));
        Self {
            groups: Groups::new(limits),
            topics,
            now: Duration::ZERO,
        }
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.groups.tick(GROUP, self.now);
    }

    pub(super) fn join(&mut self, version: i16, request: &JoinGroupRequest) -> Answer<JoinGroupResponse> {
        self.groups.join(&caller(version), request, self.now)
    }

    /// A dynamic member that is given an ID and joins with it.
    pub(super) fn join_new(&mut self) -> (String, Answer<JoinGroupResponse>) {
        let refused = now(self.join(9, &join_request("")));
        assert_eq!(refused.error_code, code::MEMBER_ID_REQUIRED);
        let member_id = refused.member_id.to_string();
        let answer = self.join(9, &join_request(&member_id));
        (member_id, answer)
    }

    pub(super) fn rejoin(&mut self, member_id: &str) -> Answer<JoinGroupResponse> {
        self.join(9, &join_request(member_id))
    }

    pub(super) fn sync(&mut self, member_id: &str, generation: i32) -> Answer<SyncGroupResponse> {
        self.groups.sync(&sync_request(member_id, generation), 5, self.now)
    }

    /// The leader's, who gives everybody its own name.
    pub(super) fn deal(&mut self, leader: &JoinGroupResponse) -> Answer<SyncGroupResponse> {
        let dealt = leader.members.iter().map(|member| {
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(Bytes::from(member.member_id.to_string()))
        });
        let request = sync_request(&leader.member_id, leader.generation_id).with_assignments(dealt.collect());
        self.groups.sync(&request, 5, self.now)
    }

    pub(super) fn heartbeat(&mut self, member_id: &str, generation: i32) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id())
            .with_member_id(text(member_id))
            .with_generation_id(generation);
        self.groups.heartbeat(&request, self.now).error_code
    }

    pub(super) fn leave(&mut self, members: &[(&str, Option<&str>)]) -> LeaveGroupResponse {
        let members = members.iter().map(|(member_id, instance_id)| {
            MemberIdentity::default()
                .with_member_id(text(member_id))
                .with_group_instance_id(instance_id.map(text))
        });
        let request = LeaveGroupRequest::default()
            .with_group_id(group_id())
            .with_members(members.collect());
        self.groups.leave(&request, 5, self.now)
    }

    pub(super) fn joined(&mut self, ticket: Ticket) -> Option<JoinGroupResponse> {
        match self.groups.take(ticket)? {
            Response::Join(response) => Some(response),
            Response::Sync(response) => panic!("a JoinGroup was answered with {response:?}"),
        }
    }

    pub(super) fn synced(&mut self, ticket: Ticket) -> Option<SyncGroupResponse> {
        match self.groups.take(ticket)? {
            Response::Sync(response) => Some(response),
            Response::Join(response) => panic!("a SyncGroup was answered with {response:?}"),
        }
    }

    /// Two members in a stable group: the leader first.
    pub(super) fn stable_pair(&mut self) -> (String, String, i32) {
        let (leader, first) = self.join_new();
        self.deal(&now(first));
        let (follower, second) = self.join_new();
        let led = now(self.rejoin(&leader));
        let followed = self.joined(parked(second)).expect("all have joined");
        assert_eq!(followed.leader.as_str(), leader);
        now(self.deal(&led));
        now(self.sync(&follower, led.generation_id));
        (leader, follower, led.generation_id)
    }

    pub(super) fn consumer(&mut self, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        self.groups
            .consumer_heartbeat(&caller(1), request, &self.topics, self.now)
    }

    pub(super) fn commit(&mut self, version: i16, request: &OffsetCommitRequest) -> i16 {
        let response = self.groups.commit(request, version, &self.topics, self.now);
        response.topics[0].partitions[0].error_code
    }
}

impl Topics for Fixed {
    fn find(&self, topic: &str) -> Option<(Uuid, i32)> {
        self.0.get(topic).copied()
    }

    fn name_of(&self, id: Uuid) -> Option<String> {
        self.0
            .iter()
            .find(|(_, topic)| topic.0 == id)
            .map(|(name, _)| name.clone())
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

pub(super) fn caller(version: i16) -> Caller {
    Caller {
        client_id: "client".to_owned(),
        host: "/127.0.0.1".to_owned(),
        version,
    }
}

pub(super) fn group_id() -> GroupId {
    GroupId(StrBytes::from_static_str(GROUP))
}

pub(super) fn join_request(member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(group_id())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(member_id))
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(protocols(&["range"]))
}

pub(super) fn static_request(instance_id: &str) -> JoinGroupRequest {
    join_request("").with_group_instance_id(Some(text(instance_id)))
}

pub(super) fn protocols(names: &[&str]) -> Vec<JoinGroupRequestProtocol> {
    let protocols = names
        .iter()
        .map(|name| JoinGroupRequestProtocol::default().with_name(text(name)));
    protocols.collect()
}

pub(super) fn sync_request(member_id: &str, generation: i32) -> SyncGroupRequest {
    SyncGroupRequest::default()
        .with_group_id(group_id())
        .with_member_id(text(member_id))
        .with_generation_id(generation)
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
}

/// The first heartbeat of a KIP-848 member.
pub(super) fn consumer_join(member_id: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    consumer_request(member_id, 0)
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| TopicName(text(topic))).collect()))
        .with_topic_partitions(Some(Vec::new()))
}

pub(super) fn consumer_request(member_id: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id())
        .with_member_id(text(member_id))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

pub(super) fn owning(partitions: &[(Uuid, i32)]) -> Option<Vec<TopicPartitions>> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(*topic).or_default().push(*partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        TopicPartitions::default()
            .with_topic_id(topic)
            .with_partitions(partitions)
    });
    Some(topics.collect())
}

pub(super) fn assigned(response: &ConsumerGroupHeartbeatResponse) -> Option<Vec<(Uuid, i32)>> {
    let topics = &response.assignment.as_ref()?.topic_partitions;
    let partitions = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition)));
    Some(partitions.collect())
}

pub(super) fn commit_request(member_id: &str, generation: i32, topic: &str, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group_id())
        .with_member_id(text(member_id))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

pub(super) fn now<R: std::fmt::Debug>(answer: Answer<R>) -> R {
    match answer {
        Answer::Now(response) => response,
        Answer::Parked(ticket) => panic!("{ticket:?} has to wait"),
    }
}

pub(super) fn parked<R: std::fmt::Debug>(answer: Answer<R>) -> Ticket {
    match answer {
        Answer::Parked(ticket) => ticket,
        Answer::Now(response) => panic!("answered at once: {response:?}"),
    }
}

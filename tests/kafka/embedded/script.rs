//! What is asked of a group coordinator, and what it says, with names in place of the IDs that it makes up.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    ConsumerProtocolSubscription, DeleteGroupsRequest, DeleteTopicsRequest, DescribeGroupsRequest, GroupId,
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse, RequestHeader, ResponseHeader, SyncGroupRequest,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use uuid::Uuid;

use crate::support::{unique, wait_until};

const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;

struct Script {
    broker: SocketAddr,
    group: String,
    /// IDs of members and topics, in the order in which they came up.
    known: Vec<String>,
    said: Vec<String>,
}

/// A request whose answer was not read yet.
struct Pending {
    stream: TcpStream,
    version: i16,
}

impl Script {
    fn new(broker: SocketAddr) -> Self {
        let script = Self {
            broker,
            group: unique("script"),
            known: Vec::new(),
            said: Vec::new(),
        };
        let beat = heartbeat(&script, "nobody", 1);
        wait_until("the coordinator knows its groups", Duration::from_secs(60), || {
            script.ask(4, &beat).error_code == UNKNOWN_MEMBER_ID
        });
        script
    }

    fn send<R: Request + Encodable + HeaderVersion>(&self, version: i16, request: &R) -> Pending {
        self.send_as(version, version, request)
    }

    /// Written in one version, and sent as another.
    fn send_as<R: Request + Encodable + HeaderVersion>(&self, written: i16, version: i16, request: &R) -> Pending {
        let mut stream = TcpStream::connect(self.broker).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(Some(text("script")));
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, written).unwrap();
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        stream.write_all(&frame).unwrap();
        Pending { stream, version }
    }

    /// All offsets in version 10, where topics have IDs. What asks for all is the same as in version 9, which is the last
    /// one that the codec writes.
    fn all_by_id(&self) -> OffsetFetchResponse {
        let asked = OffsetFetchRequest::default().with_groups(vec![fetch(self).with_topics(None)]);
        self.send_as(9, 10, &asked).answer::<OffsetFetchRequest>()
    }

    fn ask<R: Request + Encodable + HeaderVersion>(&self, version: i16, request: &R) -> R::Response
    where
        R::Response: Decodable + HeaderVersion,
    {
        self.send(version, request).answer::<R>()
    }

    /// Writes down what was said, with names for IDs.
    fn note(&mut self, about: &str, said: &impl Debug) {
        let mut said = format!("{said:?}");
        for (number, id) in self.known.iter().enumerate() {
            said = said.replace(id.as_str(), &format!("<{number}>"));
        }
        self.said
            .push(format!("{about}: {}", said.replace(&self.group, "<group>")));
    }

    fn tell<R: Request + Encodable + HeaderVersion>(&mut self, about: &str, version: i16, request: &R) -> R::Response
    where
        R::Response: Decodable + HeaderVersion + Debug,
    {
        let said = self.ask(version, request);
        self.note(about, &said);
        said
    }

    fn know(&mut self, id: impl ToString) {
        let id = id.to_string();
        if !id.is_empty() && !self.known.contains(&id) {
            self.known.push(id);
        }
    }

    fn group(&self) -> GroupId {
        GroupId(text(&self.group))
    }

    /// What a JoinGroup was answered, with its members in the order in which they were met.
    fn joined(&mut self, about: &str, mut response: JoinGroupResponse) -> JoinGroupResponse {
        self.know(&response.member_id);
        let known = &self.known;
        response
            .members
            .sort_by_key(|member| known.iter().position(|id| *id == *member.member_id));
        self.note(about, &response);
        response
    }

    fn join(&mut self, about: &str, version: i16, request: &JoinGroupRequest) -> JoinGroupResponse {
        let response = self.ask(version, request);
        self.joined(about, response)
    }

    /// A member that has an ID now, and is to join with it.
    fn promised(&mut self, about: &str) -> StrBytes {
        self.join(about, 9, &join(self, "")).member_id
    }

    fn deal(&mut self, about: &str, leader: &JoinGroupResponse) {
        let shares = leader.members.iter().zip(0_u8..).map(|(member, number)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(Bytes::from(vec![number; 3]))
        });
        let request = sync(self, &leader.member_id, leader.generation_id)
            .with_protocol_name(leader.protocol_name.clone())
            .with_assignments(shares.collect());
        self.tell(about, 5, &request);
    }

    /// Until a rebalance that somebody has begun is known of.
    fn wait_for_rebalance(&self, member_id: &str, generation: i32) {
        let beat = heartbeat(self, member_id, generation);
        wait_until("a rebalance begins", Duration::from_secs(30), || {
            self.ask(4, &beat).error_code == REBALANCE_IN_PROGRESS
        });
    }

    fn describe(&mut self, about: &str) {
        let mut described = self.ask(6, &DescribeGroupsRequest::default().with_groups(vec![self.group()]));
        let known = &self.known;
        described.groups[0]
            .members
            .sort_by_key(|member| known.iter().position(|id| *id == *member.member_id));
        self.note(about, &described);
        let mut listed = self.ask(5, &ListGroupsRequest::default());
        listed.groups.retain(|group| group.group_id == self.group());
        self.note("listed", &listed);
    }

    fn describe_consumers(&mut self, about: &str) {
        let mut described = self.ask(
            1,
            &ConsumerGroupDescribeRequest::default().with_group_ids(vec![self.group()]),
        );
        described.groups[0]
            .members
            .sort_by_key(|member| member.member_id.to_string());
        self.note(about, &described);
        let mut listed = self.ask(5, &ListGroupsRequest::default());
        listed.groups.retain(|group| group.group_id == self.group());
        self.note("listed", &listed);
    }

    fn beat(&mut self, about: &str, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let mut response = self.ask(1, request);
        for topic in response
            .assignment
            .iter_mut()
            .flat_map(|assignment| &mut assignment.topic_partitions)
        {
            topic.partitions.sort_unstable();
            self.know(topic.topic_id);
        }
        self.note(about, &response);
        response
    }
}

impl Pending {
    fn answer<R: Request>(mut self) -> R::Response
    where
        R::Response: Decodable + HeaderVersion,
    {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer).unwrap();
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(self.version)).unwrap();
        R::Response::decode(&mut answer, self.version).unwrap()
    }
}

/// Two topics with committed offsets, of which one is deleted: all offsets before and after that, by the IDs of topics.
pub(super) fn deletion(broker: SocketAddr) -> Vec<String> {
    let mut script = Script::new(broker);
    let s = &mut script;
    for topic in ["orders", "events"] {
        s.tell("a commit", 9, &commit(s, "", -1, topic, 1));
    }
    let before = s.all_by_id();
    assert_eq!(before.groups[0].topics.len(), 2, "{before:?}");
    before.groups[0].topics.iter().for_each(|topic| s.know(topic.topic_id));
    let delete = DeleteTopicsRequest::default()
        .with_topic_names(vec![name("events")])
        .with_timeout_ms(60_000);
    assert_eq!(s.ask(5, &delete).responses[0].error_code, 0);
    wait_until("one topic is left", Duration::from_secs(60), || {
        let groups = s.all_by_id().groups;
        assert!(
            groups[0].topics.iter().all(|topic| !topic.topic_id.is_nil()),
            "{groups:?}"
        );
        groups[0].topics.len() == 1
    });
    let after = s.all_by_id();
    s.note("by ID", &after);
    script.said
}

/// What comes until the connection ends, for something else in place of a token: the answer to the handshake too.
pub(super) fn interrupt_handshake(broker: SocketAddr, frame: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(broker).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let handshake = b"\0\x11\0\x01\0\0\0\x05\0\0\0\x05PLAIN";
    for frame in [&handshake[..], frame] {
        stream.write_all(&(frame.len() as i32).to_be_bytes()).unwrap();
        stream.write_all(frame).unwrap();
    }
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

/// The life of a classic group.
pub(super) fn classic(broker: SocketAddr) -> Vec<String> {
    let mut script = Script::new(broker);
    let leader = first_member(&mut script);
    let follower = second_member(&mut script, &leader);
    refusals(&mut script, &leader, &follower);
    departures(&mut script, &leader, &follower);
    static_member(&mut script);
    before_ids_were_required(&mut script);
    script.said
}

fn first_member(s: &mut Script) -> StrBytes {
    s.describe("a group that nobody knows");
    s.tell("its heartbeat", 4, &heartbeat(s, "nobody", 1));
    s.tell("its commit", 9, &commit(s, "nobody", 1, "orders", 0));
    s.tell("its commit, before", 8, &commit(s, "nobody", 1, "orders", 0));
    fetch_all(s, "its offsets");
    s.join("an ID of one's own", 9, &join(s, "mine"));
    s.join("no protocol", 9, &join(s, "").with_protocols(Vec::new()));
    s.join("a short session", 9, &join(s, "").with_session_timeout_ms(5_999));
    s.join("a long session", 9, &join(s, "").with_session_timeout_ms(1_800_001));
    s.join("no group", 9, &join(s, "").with_group_id(GroupId::default()));
    s.tell("a simple commit", 8, &commit(s, "", -1, "orders", 0));
    s.describe("a simple group");
    let first = s.promised("first is given an ID");
    let joined = s.join("first joins", 9, &join(s, &first));
    s.describe("all have joined");
    s.join("first joins again", 9, &join(s, &first));
    s.tell("a heartbeat before the assignment", 4, &heartbeat(s, &first, 1));
    s.tell("a commit before the assignment", 9, &commit(s, &first, 1, "orders", 0));
    s.deal("first deals out", &joined);
    s.describe("stable");
    s.tell("first syncs again", 5, &sync(s, &first, 1));
    first
}

fn second_member(s: &mut Script, first: &str) -> StrBytes {
    let second = s.promised("second is given an ID");
    let waiting = s.send(9, &join(s, &second));
    s.wait_for_rebalance(first, 1);
    s.describe("a rebalance");
    s.tell("a commit in a rebalance", 9, &commit(s, first, 1, "orders", 0));
    s.tell("a sync in a rebalance", 5, &sync(s, first, 1));
    let led = s.join("first joins for generation 2", 9, &join(s, first));
    let followed = waiting.answer::<JoinGroupRequest>();
    s.joined("second joins", followed);
    let waiting = s.send(5, &sync(s, &second, 2));
    s.deal("first deals out again", &led);
    let synced = waiting.answer::<SyncGroupRequest>();
    s.note("second has its share", &synced);
    s.describe("two members");
    second
}

fn refusals(s: &mut Script, leader: &str, follower: &str) {
    s.join("a follower joins as it was", 9, &join(s, follower));
    s.join(
        "nothing in common",
        9,
        &join(s, "").with_protocols(vec![protocol("roundrobin")]),
    );
    s.join("another type", 9, &join(s, "").with_protocol_type(text("connect")));
    s.join("a stranger", 9, &join(s, "stranger"));
    s.join(
        "a name that nobody has",
        9,
        &join(s, follower).with_group_instance_id(Some(text("i"))),
    );
    s.tell("an old generation", 4, &heartbeat(s, leader, 1));
    s.tell("a stranger's heartbeat", 4, &heartbeat(s, "stranger", 2));
    s.tell("an old sync", 5, &sync(s, follower, 1));
    s.tell("a stranger's sync", 5, &sync(s, "stranger", 2));
    s.tell("no protocol", 5, &sync(s, follower, 2).with_protocol_name(None));
    s.tell("no protocol, before", 4, &sync(s, follower, 2).with_protocol_name(None));
    s.tell(
        "another protocol",
        5,
        &sync(s, follower, 2).with_protocol_name(Some(text("other"))),
    );
    s.tell(
        "another protocol type",
        5,
        &sync(s, follower, 2).with_protocol_type(Some(text("connect"))),
    );
    s.tell("a commit", 9, &commit(s, follower, 2, "orders", 1));
    s.tell("an old commit", 9, &commit(s, follower, 1, "orders", 1));
    s.tell("a stranger's commit", 9, &commit(s, "stranger", 2, "orders", 1));
    s.tell("a commit without a member", 9, &commit(s, "", -1, "orders", 1));
    s.tell(
        "a commit with a name",
        9,
        &commit(s, follower, 2, "orders", 1).with_group_instance_id(Some(text("i"))),
    );
    s.tell("a commit of no topic", 9, &commit(s, follower, 2, "missing", 1));
    s.tell("a commit of no partition", 9, &commit(s, follower, 2, "orders", 9));
    let mut long = commit(s, follower, 2, "events", 0);
    long.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(4097)));
    s.tell("long metadata", 9, &long);
    s.tell("a commit of something else", 9, &commit(s, follower, 2, "events", 1));
    fetch_all(s, "all offsets");
    let topic = OffsetFetchRequestTopic::default()
        .with_name(name("orders"))
        .with_partition_indexes(vec![0, 3, 9]);
    let request = OffsetFetchRequest::default()
        .with_group_id(s.group())
        .with_topics(Some(vec![topic]));
    for version in [1, 2, 5, 7] {
        s.tell("some offsets", version, &request);
    }
    s.tell("offsets that are in use", 0, &delete_offset(s, "orders"));
    s.tell("offsets that are not", 0, &delete_offset(s, "events"));
    s.tell("offsets of no topic", 0, &delete_offset(s, "missing"));
    fetch_all(s, "the other offsets");
    s.tell(
        "a group with members",
        2,
        &DeleteGroupsRequest::default().with_groups_names(vec![s.group()]),
    );
    s.beat("a consumer", &consumer_join(s, "m", &["orders"]));
}

fn departures(s: &mut Script, leader: &str, follower: &str) {
    s.tell(
        "some leave",
        5,
        &leave(s, &[(follower, None), ("stranger", None), ("", Some("i")), ("", None)]),
    );
    s.tell("the leader hears of it", 4, &heartbeat(s, leader, 2));
    s.tell("the one who left", 4, &heartbeat(s, follower, 2));
    let joined = s.join("the leader is alone", 9, &join(s, leader));
    s.deal("and has everything", &joined);
    let promised = s.promised("a third is given an ID");
    s.tell("and leaves", 5, &leave(s, &[(&promised, None)]));
    s.tell("nobody minds", 4, &heartbeat(s, leader, 3));
    let alone = LeaveGroupRequest::default()
        .with_group_id(s.group())
        .with_member_id(text(leader));
    s.tell("the last leaves", 2, &alone);
    s.tell("again", 2, &alone);
    s.describe("empty");
    s.tell("a heartbeat in an empty group", 4, &heartbeat(s, leader, 3));
    s.tell("a sync in an empty group", 5, &sync(s, leader, 3));
    s.tell("a simple commit", 9, &commit(s, "", -1, "orders", 2));
    s.tell("offsets that nobody needs", 0, &delete_offset(s, "orders"));
    s.tell(
        "an empty group",
        2,
        &DeleteGroupsRequest::default().with_groups_names(vec![s.group()]),
    );
    s.tell(
        "a group that is gone",
        2,
        &DeleteGroupsRequest::default().with_groups_names(vec![s.group()]),
    );
    s.tell("offsets of no group", 0, &delete_offset(s, "orders"));
    s.tell("leaving no group", 5, &leave(s, &[(leader, None)]));
    fetch_all(s, "nothing is left");
}

fn static_member(s: &mut Script) {
    let with_name = |s: &Script, member_id: &str| join(s, member_id).with_group_instance_id(Some(text("i")));
    let first = s.join("a static member", 9, &with_name(s, ""));
    s.deal("which leads", &first);
    let second = s.join("comes back", 9, &with_name(s, ""));
    s.tell("to what it had", 5, &sync(s, &second.member_id, 1));
    s.describe("with another ID");
    s.join("its former self joins", 9, &with_name(s, &first.member_id));
    let beat = heartbeat(s, &first.member_id, 1);
    s.tell("sends heartbeats", 4, &beat);
    s.tell("with its name", 4, &beat.with_group_instance_id(Some(text("i"))));
    s.tell("leaves", 5, &leave(s, &[(&first.member_id, Some("i"))]));
    s.tell(
        "commits",
        9,
        &commit(s, &first.member_id, 1, "orders", 0).with_group_instance_id(Some(text("i"))),
    );
    let third = s.join("comes back with version 8", 8, &with_name(s, ""));
    s.tell("to what it had", 5, &sync(s, &third.member_id, 1));
    let changed = with_name(s, "").with_protocols(vec![protocol("sticky"), protocol("range")]);
    let changed = s.join("comes back changed", 9, &changed);
    s.deal("and leads again", &changed);
    s.tell("is removed by its name", 5, &leave(s, &[("", Some("i"))]));
    s.describe("empty");
}

fn before_ids_were_required(s: &mut Script) {
    for version in [3, 2, 1, 0] {
        let request = join(s, "");
        let request = if version == 0 {
            request.with_rebalance_timeout_ms(-1)
        } else {
            request
        };
        let joined = s.join("without an ID", version, &request);
        s.deal("has its share", &joined);
        s.tell(
            "leaves",
            1,
            &LeaveGroupRequest::default()
                .with_group_id(s.group())
                .with_member_id(joined.member_id),
        );
    }
}

/// The life of a KIP-848 group.
pub(super) fn consumer(broker: SocketAddr) -> Vec<String> {
    let mut script = Script::new(broker);
    senseless(&mut script);
    two_consumers(&mut script);
    consumers_commit(&mut script);
    static_consumer(&mut script);
    script.said
}

fn senseless(s: &mut Script) {
    s.describe_consumers("a group that nobody knows");
    s.beat("no ID", &consumer_join(s, "", &["orders"]));
    s.beat(
        "no timeout",
        &consumer_join(s, "a", &["orders"]).with_rebalance_timeout_ms(-1),
    );
    s.beat(
        "no partitions",
        &consumer_join(s, "a", &["orders"]).with_topic_partitions(None),
    );
    s.beat(
        "no topics",
        &consumer_join(s, "a", &[]).with_subscribed_topic_names(None),
    );
    s.beat(
        "no group",
        &consumer_join(s, "a", &[]).with_group_id(GroupId::default()),
    );
    s.beat("no name", &consumer_join(s, "a", &[]).with_instance_id(Some(text(""))));
    s.beat("no rack", &consumer_join(s, "a", &[]).with_rack_id(Some(text(""))));
    s.beat(
        "no assignor",
        &consumer_join(s, "a", &["orders"]).with_server_assignor(Some(text("mine"))),
    );
    s.beat("no name to leave", &consumer_beat(s, "a", -2));
    s.beat("no epoch", &consumer_beat(s, "a", -3));
    s.beat("not in a group", &consumer_beat(s, "a", 1));
    s.beat("leaves no group", &consumer_beat(s, "a", -1));
}

fn two_consumers(s: &mut Script) {
    let first = s.beat("first joins", &consumer_join(s, "member-a", &["orders", "missing"]));
    let orders = first
        .assignment
        .as_ref()
        .map(|assignment| assignment.topic_partitions[0].topic_id)
        .unwrap();
    s.describe_consumers("one member");
    s.describe("is no classic group");
    s.beat("nothing new", &consumer_beat(s, "member-a", 2));
    s.beat("second joins", &consumer_join(s, "member-b", &["orders"]));
    s.describe_consumers("two members");
    s.beat("first is told to let go", &consumer_beat(s, "member-a", 2));
    s.describe_consumers("one has to let go");
    s.beat(
        "first has not",
        &consumer_beat(s, "member-a", 2).with_topic_partitions(owning(orders, &[0, 1, 2, 3])),
    );
    s.beat("second has nothing", &consumer_beat(s, "member-b", 3));
    s.beat(
        "first has",
        &consumer_beat(s, "member-a", 2).with_topic_partitions(owning(orders, &[0, 1])),
    );
    s.beat("second has two", &consumer_beat(s, "member-b", 3));
    s.beat(
        "second says so",
        &consumer_beat(s, "member-b", 3).with_topic_partitions(owning(orders, &[2, 3])),
    );
    s.describe_consumers("stable");
    s.beat(
        "an answer was lost",
        &consumer_beat(s, "member-a", 2).with_topic_partitions(owning(orders, &[0, 1])),
    );
    s.beat(
        "and too much is had",
        &consumer_beat(s, "member-a", 2).with_topic_partitions(owning(orders, &[0, 1, 2])),
    );
    s.beat("an epoch to come", &consumer_beat(s, "member-a", 4));
    s.beat(
        "first joins again",
        &consumer_join(s, "member-a", &["orders", "missing"]),
    );
    s.beat("a stranger", &consumer_beat(s, "stranger", 3));
    s.beat("a stranger leaves", &consumer_beat(s, "stranger", -1));
    let events = Some(vec![name("events")]);
    s.beat(
        "second reads something else",
        &consumer_beat(s, "member-b", 3).with_subscribed_topic_names(events),
    );
    s.beat(
        "and lets go",
        &consumer_beat(s, "member-b", 3).with_topic_partitions(Some(Vec::new())),
    );
    s.beat("first has all", &consumer_beat(s, "member-a", 3));
    s.describe_consumers("two topics");
}

fn consumers_commit(s: &mut Script) {
    s.tell("a commit", 9, &commit(s, "member-a", 4, "orders", 0));
    s.tell("an old version", 8, &commit(s, "member-a", 4, "orders", 0));
    s.tell("of an earlier epoch", 9, &commit(s, "member-a", 3, "orders", 0));
    s.tell(
        "of an earlier epoch, of what came later",
        9,
        &commit(s, "member-a", 3, "orders", 3),
    );
    s.tell("of a later epoch", 9, &commit(s, "member-a", 5, "orders", 0));
    s.tell("of a stranger", 9, &commit(s, "stranger", 4, "orders", 0));
    s.tell("of nobody", 9, &commit(s, "", -1, "orders", 0));
    for (member_id, epoch) in [
        (Some("member-a"), 4),
        (Some("member-a"), 3),
        (Some("stranger"), 4),
        (None, -1),
    ] {
        let asked = fetch(s).with_member_id(member_id.map(text)).with_member_epoch(epoch);
        s.tell(
            "a member's offsets",
            9,
            &OffsetFetchRequest::default().with_groups(vec![asked]),
        );
    }
    s.tell("offsets that are in use", 0, &delete_offset(s, "orders"));
    s.tell(
        "a group with members",
        2,
        &DeleteGroupsRequest::default().with_groups_names(vec![s.group()]),
    );
    s.beat("second leaves", &consumer_beat(s, "member-b", -1));
    s.describe_consumers("one is left");
    s.beat("first leaves", &consumer_beat(s, "member-a", -1));
    s.describe_consumers("empty");
    s.tell("a simple commit", 9, &commit(s, "", -1, "orders", 1));
    s.tell("offsets that nobody needs", 0, &delete_offset(s, "orders"));
}

fn static_consumer(s: &mut Script) {
    let named =
        |s: &Script, member_id: &str| consumer_join(s, member_id, &["orders"]).with_instance_id(Some(text("i")));
    let beat =
        |s: &Script, member_id: &str, epoch| consumer_beat(s, member_id, epoch).with_instance_id(Some(text("i")));
    let first = s.beat("a static member", &named(s, "member-c"));
    s.beat("its name is taken", &named(s, "member-d"));
    s.beat("a stranger with its name", &beat(s, "member-d", first.member_epoch));
    s.beat("it goes for a while", &beat(s, "member-c", -2));
    s.describe_consumers("it is away");
    let second = s.beat("it comes back", &named(s, "member-d"));
    s.beat("its former self", &beat(s, "member-c", first.member_epoch));
    s.beat("its former self leaves", &beat(s, "member-c", -1));
    s.beat(
        "another name",
        &consumer_beat(s, "member-d", second.member_epoch).with_instance_id(Some(text("j"))),
    );
    s.describe_consumers("it is back");
    s.beat("it leaves for good", &beat(s, "member-d", -1));
    s.tell(
        "an empty group",
        2,
        &DeleteGroupsRequest::default().with_groups_names(vec![s.group()]),
    );
    s.describe_consumers("nothing is left");
    let broken = consumer_join(s, "member-e", &[]).with_subscribed_topic_regex(Some(text("(")));
    // Whose words for it differ.
    let code = s.ask(1, &broken).error_code;
    s.note("no pattern", &code);
}

fn join(script: &Script, member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(script.group())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(member_id))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol("range")])
}

/// With a consumer's payload: it reads `orders`.
fn protocol(name: &str) -> JoinGroupRequestProtocol {
    let mut metadata = BytesMut::new();
    metadata.put_i16(0);
    let subscription = ConsumerProtocolSubscription::default().with_topics(vec![text("orders")]);
    subscription.encode(&mut metadata, 0).unwrap();
    JoinGroupRequestProtocol::default()
        .with_name(text(name))
        .with_metadata(metadata.freeze())
}

fn sync(script: &Script, member_id: &str, generation: i32) -> SyncGroupRequest {
    SyncGroupRequest::default()
        .with_group_id(script.group())
        .with_member_id(text(member_id))
        .with_generation_id(generation)
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
}

fn heartbeat(script: &Script, member_id: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(script.group())
        .with_member_id(text(member_id))
        .with_generation_id(generation)
}

fn leave(script: &Script, members: &[(&str, Option<&str>)]) -> LeaveGroupRequest {
    let members = members.iter().map(|(member_id, instance_id)| {
        MemberIdentity::default()
            .with_member_id(text(member_id))
            .with_group_instance_id(instance_id.map(text))
    });
    LeaveGroupRequest::default()
        .with_group_id(script.group())
        .with_members(members.collect())
}

fn commit(script: &Script, member_id: &str, generation: i32, topic: &str, partition: i32) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(i64::from(generation) + 10)
        .with_committed_leader_epoch(0)
        .with_committed_metadata(Some(text("why")));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(script.group())
        .with_member_id(text(member_id))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

fn fetch(script: &Script) -> OffsetFetchRequestGroup {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(name("orders"))
        .with_partition_indexes(vec![0, 1, 9]);
    OffsetFetchRequestGroup::default()
        .with_group_id(script.group())
        .with_member_id(None)
        .with_member_epoch(-1)
        .with_topics(Some(vec![topic]))
}

fn fetch_all(script: &mut Script, about: &str) {
    let groups = vec![fetch(script), fetch(script).with_topics(None)];
    let mut fetched = script.ask(9, &OffsetFetchRequest::default().with_groups(groups));
    for group in &mut fetched.groups {
        group.topics.sort_by_key(|topic| topic.name.to_string());
        group
            .topics
            .iter_mut()
            .for_each(|topic| topic.partitions.sort_by_key(|partition| partition.partition_index));
    }
    script.note(about, &fetched);
}

fn delete_offset(script: &Script, topic: &str) -> OffsetDeleteRequest {
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(1);
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    OffsetDeleteRequest::default()
        .with_group_id(script.group())
        .with_topics(vec![topic])
}

fn consumer_join(script: &Script, member_id: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    consumer_beat(script, member_id, 0)
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| name(topic)).collect()))
        .with_topic_partitions(Some(Vec::new()))
}

fn consumer_beat(script: &Script, member_id: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(script.group())
        .with_member_id(text(member_id))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

fn owning(topic: Uuid, partitions: &[i32]) -> Option<Vec<TopicPartitions>> {
    Some(vec![
        TopicPartitions::default()
            .with_topic_id(topic)
            .with_partitions(partitions.to_vec()),
    ])
}

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

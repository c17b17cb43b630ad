//! Every version of every API of groups, from bytes to bytes.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest,
        GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
        OffsetDeleteRequest, OffsetFetchRequest, RequestHeader, ResponseHeader, SyncGroupRequest, TopicName,
        join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
        sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use klamm_fake::{FakeCluster, Profile, error_code::UNSUPPORTED_VERSION};

/// Sends one request and reads its answer, to the last byte.
fn ask<R: Request + Encodable + HeaderVersion>(cluster: &FakeCluster, version: i16, request: &R) -> R::Response
where
    R::Response: Decodable + HeaderVersion,
{
    let mut stream = TcpStream::connect(cluster.address(1)).unwrap();
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(text("raw")));
    header.encode(&mut frame, R::header_version(version)).unwrap();
    request.encode(&mut frame, version).unwrap();
    let length = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&frame).unwrap();
    let mut length = [0; 4];
    stream
        .read_exact(&mut length)
        .unwrap_or_else(|error| panic!("version {version}: {error}"));
    let mut answer = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
    let response = R::Response::decode(&mut answer, version).unwrap();
    assert!(
        !answer.has_remaining(),
        "version {version} has {} bytes more",
        answer.remaining()
    );
    response
}

fn cluster() -> FakeCluster {
    FakeCluster::builder().topic("orders", 1).start().unwrap()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group() -> GroupId {
    GroupId(text("g"))
}

fn orders() -> TopicName {
    TopicName(text("orders"))
}

fn join_request(version: i16, member_id: &StrBytes) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let request = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_member_id(member_id.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    if version > 0 {
        request.with_rebalance_timeout_ms(10_000)
    } else {
        request
    }
}

/// The ID of a member that has joined in this version.
fn join(cluster: &FakeCluster, version: i16) -> StrBytes {
    let refused = ask(cluster, version, &join_request(version, &StrBytes::default()));
    if version < 4 {
        assert_eq!(refused.generation_id, 1);
        return refused.member_id;
    }
    assert_eq!((refused.error_code, refused.generation_id), (79, -1));
    let joined = ask(cluster, version, &join_request(version, &refused.member_id));
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    joined.member_id
}

fn deal(cluster: &FakeCluster, version: i16, member_id: &StrBytes) {
    let share = SyncGroupRequestAssignment::default()
        .with_member_id(member_id.clone())
        .with_assignment(Bytes::from_static(b"all"));
    let request = SyncGroupRequest::default()
        .with_group_id(group())
        .with_member_id(member_id.clone())
        .with_generation_id(1)
        .with_assignments(vec![share]);
    let request = if version < 5 { request } else { named(request) };
    let synced = ask(cluster, version, &request);
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
}

/// From version 5 on a SyncGroup has to say what it takes the group's protocol to be.
fn named(request: SyncGroupRequest) -> SyncGroupRequest {
    request
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
}

#[test]
fn classic_members_come_and_go_in_every_version() {
    for version in 0..=9 {
        let cluster = cluster();
        let member_id = join(&cluster, version);
        deal(&cluster, version.min(5), &member_id);
        let heartbeat = HeartbeatRequest::default()
            .with_group_id(group())
            .with_member_id(member_id.clone());
        let heartbeat = heartbeat.with_generation_id(1);
        assert_eq!(ask(&cluster, version.min(4), &heartbeat).error_code, 0);
        let described = ask(
            &cluster,
            version.min(6),
            &DescribeGroupsRequest::default().with_groups(vec![group()]),
        );
        assert_eq!(described.groups[0].group_state.as_str(), "Stable");
        let listed = ask(&cluster, version.min(5), &ListGroupsRequest::default());
        assert_eq!(listed.groups[0].group_id, group());
        let leaving = version.min(5);
        let leave = LeaveGroupRequest::default().with_group_id(group());
        let leave = if leaving < 3 {
            leave.with_member_id(member_id)
        } else {
            leave.with_members(vec![MemberIdentity::default().with_member_id(member_id)])
        };
        assert_eq!(ask(&cluster, leaving, &leave).error_code, 0);
        let delete = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
        assert_eq!(ask(&cluster, version.min(2), &delete).results[0].error_code, 0);
    }
}

#[test]
fn errors_are_said_in_every_version() {
    let cluster = cluster();
    for version in 0..=9 {
        let stranger = join_request(version, &text("stranger"));
        assert_eq!(ask(&cluster, version, &stranger).error_code, 25);
        let sync = SyncGroupRequest::default()
            .with_group_id(group())
            .with_member_id(text("stranger"));
        let sync = if version < 5 { sync } else { named(sync) };
        assert_eq!(ask(&cluster, version.min(5), &sync).error_code, 25);
        let leave = LeaveGroupRequest::default().with_group_id(group());
        let leave = if version < 3 {
            leave
        } else {
            leave.with_members(vec![MemberIdentity::default()])
        };
        let left = ask(&cluster, version.min(5), &leave);
        assert_eq!(
            left.members.first().map_or(left.error_code, |member| member.error_code),
            25
        );
        let described = ask(
            &cluster,
            version.min(6),
            &DescribeGroupsRequest::default().with_groups(vec![group()]),
        );
        assert_eq!(described.groups[0].group_state.as_str(), "Dead");
    }
}

fn commit(cluster: &FakeCluster, version: i16) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(orders())
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1);
    let committed = ask(cluster, version, &request.with_topics(vec![topic]));
    assert_eq!(committed.topics[0].partitions[0].error_code, 0, "version {version}");
}

#[test]
fn offsets_are_committed_and_fetched_in_every_version() {
    let cluster = cluster();
    for version in 2..=9 {
        commit(&cluster, version);
    }
    for version in 1..=7 {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(orders())
            .with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default()
            .with_group_id(group())
            .with_topics(Some(vec![topic]));
        let found = ask(&cluster, version, &request);
        assert_eq!(found.topics[0].partitions[0].committed_offset, 7);
    }
    for version in 8..=9 {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(orders())
            .with_partition_indexes(vec![0]);
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group())
            .with_member_epoch(-1);
        let other = asked.clone().with_group_id(GroupId(text("other"))).with_topics(None);
        let asked = asked.with_topics(Some(vec![topic]));
        let found = ask(
            &cluster,
            version,
            &OffsetFetchRequest::default().with_groups(vec![asked, other]),
        );
        assert_eq!(found.groups[0].topics[0].partitions[0].committed_offset, 7);
        assert_eq!((found.groups[1].error_code, found.groups[1].topics.len()), (0, 0));
    }
    assert_eq!(
        ask(&cluster, 0, &OffsetDeleteRequest::default().with_group_id(group())).error_code,
        0
    );
}

#[test]
fn consumer_groups_are_joined_and_described_in_every_version() {
    for version in 0..=1 {
        let cluster = cluster();
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group())
            .with_member_id(text("m"))
            .with_rebalance_timeout_ms(10_000)
            .with_subscribed_topic_names(Some(vec![orders()]))
            .with_topic_partitions(Some(Vec::new()));
        let joined = ask(&cluster, version, &request);
        assert_eq!((joined.error_code, joined.member_epoch), (0, 2));
        assert_eq!(joined.assignment.unwrap().topic_partitions[0].partitions, [0]);
        let refused = ask(&cluster, version, &request.with_server_assignor(Some(text("mine"))));
        assert_eq!(refused.error_code, 112);
        let describe = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(), GroupId(text("other"))]);
        let described = ask(&cluster, version, &describe);
        let member = &described.groups[0].members[0];
        assert_eq!(member.assignment.topic_partitions[0].topic_name, orders());
        assert_eq!(
            (member.client_id.as_str(), member.member_type),
            ("raw", if version > 0 { 1 } else { -1 })
        );
        assert_eq!(described.groups[1].error_code, 69);
    }
}

#[test]
fn a_broker_that_is_not_the_coordinator_says_so() {
    let cluster = FakeCluster::builder().brokers(2).topic("orders", 1).start().unwrap();
    cluster.move_coordinator("g", 2);
    for version in 0..=9 {
        let request = join_request(version, &StrBytes::default());
        assert_eq!(ask(&cluster, version, &request).error_code, 16);
    }
    for version in 1..=7 {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(orders())
            .with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default()
            .with_group_id(group())
            .with_topics(Some(vec![topic]));
        let found = ask(&cluster, version, &request);
        let code = found
            .topics
            .first()
            .map_or(found.error_code, |topic| topic.partitions[0].error_code);
        assert_eq!(code, 16);
    }
    let describe = DescribeGroupsRequest::default().with_groups(vec![group()]);
    assert_eq!(ask(&cluster, 5, &describe).groups[0].error_code, 16);
    assert_eq!(ask(&cluster, 5, &ListGroupsRequest::default()).groups.len(), 0);
}

#[test]
fn kafka_3_9_names_the_requests_of_kip_848_and_refuses_them() {
    let cluster = FakeCluster::builder().max_versions(Profile::V3_9).start().unwrap();
    let heartbeat = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text("m"));
    assert_eq!(ask(&cluster, 0, &heartbeat).error_code, UNSUPPORTED_VERSION);
    let describe = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]);
    let described = ask(&cluster, 0, &describe);
    assert_eq!(described.groups[0].group_id, group());
    assert_eq!(described.groups[0].error_code, UNSUPPORTED_VERSION);
}

/// Version 10 names topics by ID, which the codec cannot write.
mod by_id {
    use kafka_protocol::messages::{MetadataRequest, OffsetCommitResponse, OffsetFetchResponse};
    use klamm_fake::error_code::{NONE, UNKNOWN_TOPIC_ID};
    use uuid::Uuid;

    use super::*;

    fn raw<R: Decodable + HeaderVersion>(cluster: &FakeCluster, api: i16, body: &[u8]) -> R {
        let mut stream = TcpStream::connect(cluster.address(1)).unwrap();
        // API, version, correlation ID, client ID, no tags.
        let header = [&api.to_be_bytes()[..], &10_i16.to_be_bytes(), &[0; 4], &[0, 0], &[0]].concat();
        let length = (header.len() + body.len()) as i32;
        stream
            .write_all(&[&length.to_be_bytes(), &header[..], body].concat())
            .unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).unwrap();
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::header_version(10)).unwrap();
        let response = R::decode(&mut answer, 10).unwrap();
        assert!(!answer.has_remaining());
        response
    }

    /// Group `g` commits offset 7 of partition 0 of each.
    fn commit(cluster: &FakeCluster, topics: &[Uuid]) -> OffsetCommitResponse {
        let mut body = vec![2, b'g'];
        body.put_i32(-1);
        body.extend([1, 0, 1 + topics.len() as u8]);
        for topic in topics {
            body.extend(topic.as_bytes());
            body.push(2);
            body.put_i32(0);
            body.put_i64(7);
            body.put_i32(-1);
            body.extend([0, 0, 0]);
        }
        // A tag that nobody knows.
        body.extend([1, 5, 2, 0xff, 0xff]);
        raw(cluster, 8, &body)
    }

    /// What group `g` has committed of partition 0 of each, or of all there is.
    fn fetch(cluster: &FakeCluster, topics: Option<&[Uuid]>) -> OffsetFetchResponse {
        let mut body = vec![2, 2, b'g', 0];
        body.put_i32(-1);
        body.push(topics.map_or(0, |topics| 1 + topics.len() as u8));
        for topic in topics.unwrap_or_default() {
            body.extend(topic.as_bytes());
            body.push(2);
            body.put_i32(0);
            body.push(0);
        }
        body.extend([0, 0, 0]);
        raw(cluster, 9, &body)
    }

    #[test]
    fn offsets_are_committed_and_fetched_by_the_ids_of_topics() {
        let cluster = cluster();
        let id = ask(&cluster, 13, &MetadataRequest::default().with_topics(None)).topics[0].topic_id;
        let stranger = Uuid::from_u128(1);
        let committed = commit(&cluster, &[id, stranger]);
        let told: Vec<_> = committed
            .topics
            .iter()
            .map(|topic| (topic.topic_id, topic.partitions[0].error_code))
            .collect();
        assert_eq!(told, [(stranger, UNKNOWN_TOPIC_ID), (id, NONE)]);
        assert_eq!(cluster.committed("g", "orders", 0), Some(7));
        assert_eq!(
            cluster.requests().last().unwrap().topics()[0],
            ("orders".to_owned(), vec![0])
        );
        let found = |topics: Option<&[Uuid]>| {
            let found = fetch(&cluster, topics);
            assert_eq!(found.groups[0].error_code, NONE);
            let topics = found.groups[0].topics.iter();
            let told = topics.map(|topic| {
                let partition = &topic.partitions[0];
                (topic.topic_id, partition.committed_offset, partition.error_code)
            });
            told.collect::<Vec<_>>()
        };
        assert_eq!(
            found(Some(&[stranger, id])),
            [(id, 7, NONE), (stranger, -1, UNKNOWN_TOPIC_ID)]
        );
        assert_eq!(found(None), [(id, 7, NONE)]);
        cluster.recreate_topic("orders");
        assert_eq!(
            commit(&cluster, &[id]).topics[0].partitions[0].error_code,
            UNKNOWN_TOPIC_ID
        );
        assert_eq!(cluster.committed("g", "orders", 0), None);
    }

    #[test]
    fn what_is_no_such_request_ends_its_connection() {
        let cluster = cluster();
        for body in [
            &[2, b'g'][..],
            &[2, 2, b'g', 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ] {
            let mut stream = TcpStream::connect(cluster.address(1)).unwrap();
            let header = [0, 9, 0, 10, 0, 0, 0, 0, 0, 0, 0];
            let length = (header.len() + body.len()) as i32;
            stream
                .write_all(&[&length.to_be_bytes(), &header[..], body].concat())
                .unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        commit(&cluster, &[]);
    }
}

//! Hooks on requests, and the log of them.

use std::time::Duration;

use kafka_protocol::messages::{
    ApiVersionsRequest, ConsumerGroupHeartbeatRequest, DescribeConfigsRequest, FetchRequest, GroupId, MetadataRequest,
    OffsetFetchRequest, ProduceRequest,
    describe_configs_request::DescribeConfigsResource,
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
};
use klamm_fake::{Action, Api, FakeCluster};

use crate::raw::{Connection, fetch, from, name, only, produce, records, until, until_answered};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;

fn cluster() -> FakeCluster {
    FakeCluster::builder().brokers(2).topic("t", 2).start().unwrap()
}

#[test]
fn a_request_is_refused_with_any_code() {
    let cluster = cluster();
    let hook = cluster.once(Api::Produce, |_| Action::Error(NOT_LEADER_OR_FOLLOWER));
    let mut connection = Connection::to(&cluster, 1);
    assert_eq!(
        connection.produce("t", 0, records(1)).error_code,
        NOT_LEADER_OR_FOLLOWER
    );
    assert_eq!(cluster.end_offset("t", 0), 0);
    assert_eq!(connection.produce("t", 0, records(1)).error_code, 0);
    assert_eq!(hook.uses(), 1);
}

#[test]
fn errors_stand_where_each_api_has_them() {
    let cluster = cluster();
    for api in [Api::Fetch, Api::ListOffsets, Api::Metadata, Api::ApiVersions] {
        cluster.on(api, |_| Action::Error(3));
    }
    let mut connection = Connection::to(&cluster, 1);
    assert_eq!(connection.fetch("t", from(0, 0)).error_code, 3);
    assert_eq!(connection.offset("t", 0, -1).error_code, 3);
    assert_eq!(connection.metadata(&["t"]).topics[0].error_code, 3);
    assert_eq!(connection.ask(&ApiVersionsRequest::default(), 2).error_code, 3);
}

#[test]
fn errors_of_sessions_concern_the_whole_answer() {
    let cluster = cluster();
    cluster.on(Api::Fetch, |_| Action::Error(71));
    let answer = Connection::to(&cluster, 1).ask(&fetch("t", vec![from(0, 0)]), 12);
    assert_eq!((answer.error_code, answer.responses.len()), (71, 0));
}

#[test]
fn the_first_hook_that_does_not_pass_decides() {
    let cluster = cluster();
    let picky = cluster.on(Api::Produce, |request| match request.node() {
        2 => Action::Error(1),
        _ => Action::Pass,
    });
    let general = cluster.times(2, Api::Produce, |request| {
        assert!(request.names("t"));
        Action::Error(2)
    });
    let code = |node, partition| {
        Connection::to(&cluster, node)
            .produce("t", partition, records(1))
            .error_code
    };
    assert_eq!(
        (code(2, 1), code(1, 0), code(2, 1), code(1, 0), code(1, 0)),
        (1, 2, 1, 2, 0)
    );
    assert_eq!((picky.uses(), general.uses()), (2, 2));
    picky.remove();
    assert_eq!(code(2, 1), 0);
}

#[test]
fn a_connection_ends_before_or_after_the_request_is_handled() {
    let cluster = cluster();
    cluster.once(Api::Produce, |_| Action::Disconnect);
    cluster.once(Api::Produce, |_| Action::ThenDisconnect);
    for appended in [0, 1] {
        let mut connection = Connection::to(&cluster, 1);
        connection.send(&produce("t", 0, records(1)), 12);
        assert_eq!(connection.answer::<ProduceRequest>(12), None);
        assert_eq!(cluster.end_offset("t", 0), appended);
    }
}

#[test]
fn an_answer_is_cut_off_in_the_middle() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    connection.send(&MetadataRequest::default(), 9);
    let whole = connection.frame().unwrap().len() + 4;
    cluster.once(Api::Metadata, |_| Action::Truncate);
    connection.send(&MetadataRequest::default(), 9);
    assert_eq!(connection.rest().len(), whole / 2);
}

#[test]
fn garbage_is_sent_as_it_is() {
    let cluster = cluster();
    cluster.once(Api::Metadata, |_| Action::Garbage(b"garbage".as_slice().into()));
    let mut connection = Connection::to(&cluster, 1);
    connection.send(&MetadataRequest::default(), 9);
    let mut bytes = [0; 7];
    connection.read(&mut bytes).unwrap();
    assert_eq!(&bytes, b"garbage");
    assert_eq!(connection.metadata(&["t"]).topics[0].error_code, 0);
}

#[test]
fn silence_leaves_the_connection_open() {
    let cluster = cluster();
    let hook = cluster.once(Api::Metadata, |_| Action::Silence);
    let mut silent = Connection::to(&cluster, 1);
    silent.send(&MetadataRequest::default(), 9);
    silent.send(&ApiVersionsRequest::default(), 2);
    until("the silence", || hook.uses() == 1);
    // Others are answered, and nothing came here meanwhile.
    Connection::to(&cluster, 1).metadata(&["t"]);
    assert!(!silent.has_something_to_read());
    cluster.crash(1);
    assert!(silent.is_over());
}

#[test]
fn a_delayed_request_waits_for_the_brokers_clock() {
    let cluster = cluster();
    let hook = cluster.once(Api::Metadata, |_| Action::Delay(Duration::from_secs(3600)));
    let mut connection = Connection::to(&cluster, 1);
    connection.send(&MetadataRequest::default(), 9);
    until("the delay", || hook.uses() == 1);
    assert!(!connection.has_something_to_read());
    until_answered(
        move || connection.answer::<MetadataRequest>(9).unwrap(),
        || cluster.advance(Duration::from_secs(3600)),
    );
}

#[test]
fn records_come_damaged_and_are_sound_in_the_log() {
    let cluster = cluster();
    cluster.append("t", 0, records(3));
    cluster.once(Api::Fetch, |_| Action::CorruptRecords);
    let mut connection = Connection::to(&cluster, 1);
    let damaged = connection.fetch("t", from(0, 0)).records.unwrap();
    let sound = connection.fetch("t", from(0, 0)).records.unwrap();
    let crc = |batch: &[u8]| crc32c::crc32c(&batch[21..]).to_be_bytes();
    assert_ne!(damaged[17..21], crc(&damaged));
    assert_eq!(sound[17..21], crc(&sound));
}

#[test]
fn the_batch_that_comes_damaged_is_one_that_comes_whole() {
    let cluster = cluster();
    let size = records(3).len();
    cluster.append("t", 0, records(3));
    cluster.append("t", 0, records(3));
    cluster.once(Api::Fetch, |_| Action::CorruptRecords);
    let mut connection = Connection::to(&cluster, 1);
    let wants = from(0, 0).with_partition_max_bytes(size as i32 + 20);
    let damaged = connection.fetch("t", wants.clone()).records.unwrap();
    let sound = connection.fetch("t", wants).records.unwrap();
    assert_eq!(damaged.len(), size + 20);
    assert_ne!(damaged[..size], sound[..size]);
    assert_eq!(damaged[size..], sound[size..]);
}

#[test]
fn a_hook_that_panics_ends_its_connection_only() {
    let cluster = cluster();
    let hook = cluster.on(Api::Metadata, |request| match request.node() {
        2 => panic!("a test has failed"),
        _ => Action::Pass,
    });
    let mut connection = Connection::to(&cluster, 2);
    connection.send(&MetadataRequest::default(), 9);
    assert!(connection.is_over());
    assert_eq!(Connection::to(&cluster, 1).metadata(&["t"]).topics[0].error_code, 0);
    hook.remove();
    assert_eq!(Connection::to(&cluster, 2).metadata(&["t"]).topics[0].error_code, 0);
    cluster.close();
}

/// Sets a hook when it is dropped.
struct Another(FakeCluster);

impl Drop for Another {
    fn drop(&mut self) {
        self.0.once(Api::Metadata, |_| Action::Error(3));
    }
}

#[test]
fn what_a_spent_hook_holds_may_set_hooks_when_it_is_dropped() {
    let cluster = cluster();
    let holds = Another(cluster.clone());
    cluster.once(Api::Produce, move |_| {
        let _ = &holds;
        Action::Error(2)
    });
    Connection::to(&cluster, 1).produce("t", 0, records(1));
    cluster.once(Api::Fetch, |_| Action::Disconnect);
    assert_eq!(Connection::to(&cluster, 1).metadata(&["t"]).topics[0].error_code, 3);
}

#[test]
fn a_hook_may_do_anything_to_the_cluster() {
    let cluster = cluster();
    let handle = cluster.clone();
    cluster.once(Api::Produce, move |_| {
        handle.move_leader("t", 0, 2);
        handle.once(Api::Metadata, |_| Action::Disconnect);
        Action::Pass
    });
    let mut connection = Connection::to(&cluster, 1);
    assert_eq!(
        connection.produce("t", 0, records(1)).error_code,
        NOT_LEADER_OR_FOLLOWER
    );
    connection.send(&MetadataRequest::default(), 9);
    assert!(connection.is_over());
    cluster.close();
}

#[test]
fn every_request_is_logged() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 2);
    connection.ask(&ApiVersionsRequest::default(), 2);
    connection.produce("t", 1, records(1));
    only(connection.ask(&fetch("t", vec![from(1, 0)]), 11));
    let requests = cluster.requests();
    let apis: Vec<Api> = requests.iter().map(|request| request.api()).collect();
    assert_eq!(apis, [Api::ApiVersions, Api::Produce, Api::Fetch]);
    let last = &requests[2];
    assert_eq!((last.node(), last.version(), last.client_id()), (2, 11, "by hand"));
    assert_eq!(last.topics(), [("t".to_owned(), vec![1])]);
    assert_eq!(last.connection(), requests[0].connection());
    assert!(last.at() >= requests[0].at());
    cluster.forget_requests();
    Connection::to(&cluster, 2).metadata(&["t"]);
    let later = cluster.requests();
    assert_eq!(later.len(), 1);
    assert_ne!(later[0].connection(), last.connection());
}

#[test]
fn a_request_tells_what_it_is_about() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    let wanted = OffsetFetchRequestTopics::default()
        .with_name(name("t"))
        .with_partition_indexes(vec![0, 1]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId("g".to_owned().into()))
        .with_topics(Some(vec![wanted]));
    connection.ask(&OffsetFetchRequest::default().with_groups(vec![group]), 8);
    let resources = [(2, "t"), (4, "1")].map(|(kind, name)| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(name.to_owned().into())
    });
    connection.ask(&DescribeConfigsRequest::default().with_resources(resources.into()), 4);
    let requests = cluster.requests();
    assert_eq!(requests[0].group(), Some("g"));
    assert_eq!(requests[0].topics(), [("t".to_owned(), vec![0, 1])]);
    assert_eq!(requests[1].topics(), [("t".to_owned(), vec![])]);
}

#[test]
fn throttled_clients_are_told_and_not_read() {
    let cluster = cluster();
    cluster.throttle(Duration::from_secs(3600));
    let mut connection = Connection::to(&cluster, 1);
    assert_eq!(
        connection.ask(&fetch("t", vec![from(0, 0)]), 12).throttle_time_ms,
        3_600_000
    );
    connection.send(&fetch("t", vec![from(0, 0)]), 12);
    Connection::to(&cluster, 1).metadata(&["t"]);
    assert_eq!(cluster.requests().len(), 2);
    until_answered(
        move || connection.answer::<FetchRequest>(12).unwrap(),
        || cluster.advance(Duration::from_secs(3600)),
    );
}

#[test]
fn a_throttle_that_ends_is_over_for_who_waits_already() {
    let cluster = cluster();
    cluster.throttle(Duration::MAX);
    let mut connection = Connection::to(&cluster, 1);
    let answer = connection.ask(&fetch("t", vec![from(0, 0)]), 12);
    assert_eq!(answer.throttle_time_ms, i32::MAX);
    connection.send(&fetch("t", vec![from(0, 0)]), 12);
    Connection::to(&cluster, 1).metadata(&["t"]);
    assert_eq!(cluster.requests().len(), 2);
    cluster.throttle(Duration::ZERO);
    assert_eq!(connection.answer::<FetchRequest>(12).unwrap().throttle_time_ms, 0);
}

#[test]
fn half_of_no_answer_ends_its_connection_as_well() {
    let cluster = cluster();
    cluster.once(Api::Produce, |_| Action::Truncate);
    let mut connection = Connection::to(&cluster, 1);
    connection.send(&produce("t", 0, records(1)).with_acks(0), 12);
    assert!(connection.is_over());
    assert_eq!(cluster.end_offset("t", 0), 1);
}

#[test]
fn what_is_put_off_for_ever_never_comes() {
    let cluster = FakeCluster::builder()
        .topic("t", 2)
        .consumer_session_timeout(Duration::MAX)
        .consumer_heartbeat_interval(Duration::MAX)
        .initial_rebalance_delay(Duration::MAX)
        .start()
        .unwrap();
    cluster.once(Api::Produce, |_| Action::Delay(Duration::MAX));
    let mut late = Connection::to(&cluster, 1);
    late.send(&produce("t", 0, records(1)), 12);
    until("the request", || cluster.requests().len() == 1);
    for _ in 0..3 {
        cluster.advance(Duration::MAX);
        assert_eq!(Connection::to(&cluster, 1).produce("t", 1, records(1)).error_code, 0);
    }
    let heartbeat = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId("g".to_owned().into()))
        .with_member_id("m".to_owned().into())
        .with_rebalance_timeout_ms(i32::MAX)
        .with_subscribed_topic_names(Some(vec![name("t")]))
        .with_topic_partitions(Some(Vec::new()));
    let member = Connection::to(&cluster, 1).ask(&heartbeat, 1);
    assert_eq!((member.error_code, member.heartbeat_interval_ms), (0, i32::MAX));
    assert!(!late.has_something_to_read());
    cluster.close();
    assert_eq!(cluster.end_offset("t", 0), 0);
}

//! Fetch sessions (KIP-227).

use std::time::Duration;

use kafka_protocol::messages::{
    FetchRequest, FetchResponse,
    fetch_request::{FetchPartition, ForgottenTopic},
};
use klamm_fake::FakeCluster;

use crate::raw::{Connection, fetch, from, name, records};

const SESSION_NOT_FOUND: i16 = 70;
const INVALID_SESSION_EPOCH: i16 = 71;
const TOPIC_ID_ERROR: i16 = 106;

fn cluster() -> FakeCluster {
    FakeCluster::builder().topic("t", 3).fetch_sessions(2).start().unwrap()
}

fn request(session: i32, epoch: i32, partitions: Vec<FetchPartition>) -> FetchRequest {
    let mut request = fetch("t", partitions)
        .with_session_id(session)
        .with_session_epoch(epoch);
    request.topics.retain(|topic| !topic.partitions.is_empty());
    request
}

fn all() -> Vec<FetchPartition> {
    (0..3).map(|partition| from(partition, 0)).collect()
}

fn named(answer: &FetchResponse) -> Vec<i32> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .into_iter()
        .map(|partition| partition.partition_index)
        .collect()
}

#[test]
fn a_session_tells_only_what_is_new() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    let first = connection.ask(&request(0, 0, all()), 12);
    let session = first.session_id;
    assert!(session > 0);
    assert_eq!(named(&first), [0, 1, 2]);
    assert_eq!(named(&connection.ask(&request(session, 1, vec![]), 12)), [0; 0]);
    cluster.append("t", 1, records(1));
    let news = connection.ask(&request(session, 2, vec![]), 12);
    assert_eq!((news.session_id, named(&news)), (session, vec![1]));
    // What the client has not gone past comes again.
    assert_eq!(named(&connection.ask(&request(session, 3, vec![]), 12)), [1]);
    assert_eq!(
        named(&connection.ask(&request(session, 4, vec![from(1, 1)]), 12)),
        [0; 0]
    );
}

#[test]
fn what_is_forgotten_is_not_told() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    let session = connection.ask(&request(0, 0, all()), 12).session_id;
    let forgotten = ForgottenTopic::default()
        .with_topic(name("t"))
        .with_partitions(vec![0, 1]);
    cluster.append("t", 0, records(1));
    cluster.append("t", 2, records(1));
    let answer = connection.ask(
        &request(session, 1, vec![]).with_forgotten_topics_data(vec![forgotten]),
        12,
    );
    assert_eq!(named(&answer), [2]);
}

#[test]
fn who_got_something_is_read_last() {
    let cluster = cluster();
    for partition in 0..3 {
        cluster.append("t", partition, records(1));
    }
    let mut connection = Connection::to(&cluster, 1);
    let small = |session, epoch, partitions| request(session, epoch, partitions).with_max_bytes(1);
    let session = connection.ask(&small(0, 0, all()), 12).session_id;
    for (epoch, expected) in [(1, 0), (2, 1), (3, 2), (4, 0)] {
        assert_eq!(named(&connection.ask(&small(session, epoch, vec![]), 12)), [expected]);
    }
}

#[test]
fn a_request_must_fit_its_session() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    let session = connection.ask(&request(0, 0, all()), 12).session_id;
    let mut code = |session, epoch, version| connection.ask(&request(session, epoch, vec![]), version).error_code;
    assert_eq!(code(session + 1, 1, 12), SESSION_NOT_FOUND);
    assert_eq!(code(session, 2, 12), INVALID_SESSION_EPOCH);
    assert_eq!(code(session, 1, 13), TOPIC_ID_ERROR);
    assert_eq!(code(session, 1, 12), 0);
}

#[test]
fn a_session_ends_when_it_is_told_to() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    let session = connection.ask(&request(0, 0, all()), 12).session_id;
    assert_eq!(cluster.fetch_sessions(1), 1);
    assert_eq!(connection.ask(&request(session, -1, all()), 12).session_id, 0);
    assert_eq!(cluster.fetch_sessions(1), 0);
    assert_eq!(
        connection.ask(&request(session, 1, vec![]), 12).error_code,
        SESSION_NOT_FOUND
    );
}

#[test]
fn who_finds_no_slot_is_served_without_a_session() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    let mut begin = || connection.ask(&request(0, 0, all()), 12);
    assert!(begin().session_id > 0);
    assert!(begin().session_id > 0);
    let without = begin();
    assert_eq!((without.session_id, named(&without)), (0, vec![0, 1, 2]));
    // Sessions that nobody has used for two minutes make room.
    cluster.advance(Duration::from_secs(120));
    assert!(begin().session_id > 0);
}

#[test]
fn sessions_die_with_their_broker() {
    let cluster = cluster();
    let session = Connection::to(&cluster, 1).ask(&request(0, 0, all()), 12).session_id;
    cluster.crash(1);
    cluster.restart(1).unwrap();
    let answer = Connection::to(&cluster, 1).ask(&request(session, 1, vec![]), 12);
    assert_eq!(answer.error_code, SESSION_NOT_FOUND);
}

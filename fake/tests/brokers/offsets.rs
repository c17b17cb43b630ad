//! ListOffsets, OffsetForLeaderEpoch, DeleteRecords.

use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest,
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
};
use klamm_fake::FakeCluster;

use crate::raw::{Connection, Records, TRANSACTIONAL, from, name, records};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const UNSUPPORTED_VERSION: i16 = 35;
const FENCED_LEADER_EPOCH: i16 = 74;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

/// Batches of three records each, from these times on.
fn filled(times: &[i64]) -> FakeCluster {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    for timestamp in times {
        let records = Records {
            count: 3,
            timestamp: *timestamp,
            ..Records::default()
        };
        cluster.append("t", 0, records.batch());
    }
    cluster
}

#[test]
fn both_ends_of_a_log_are_known() {
    let cluster = filled(&[1000, 2000]);
    cluster.delete_records("t", 0, 2);
    let mut connection = Connection::to(&cluster, 1);
    let mut offset = |timestamp| connection.offset("t", 0, timestamp).offset;
    assert_eq!((offset(EARLIEST), offset(LATEST)), (2, 6));
}

#[test]
fn a_time_finds_the_first_record_that_is_not_older() {
    let cluster = filled(&[1000, 3000, 2000]);
    let mut connection = Connection::to(&cluster, 1);
    let mut find = |timestamp| {
        let found = connection.offset("t", 0, timestamp);
        (found.offset, found.timestamp, found.leader_epoch)
    };
    assert_eq!(find(0), (0, 1000, 0));
    assert_eq!(find(1002), (2, 1002, 0));
    assert_eq!(find(1003), (3, 3000, 0));
    assert_eq!(find(4000), (-1, -1, -1));
    assert_eq!(find(MAX_TIMESTAMP), (5, 3002, 0));
}

#[test]
fn times_that_a_version_does_not_know_are_refused() {
    let cluster = filled(&[1000]);
    let asked = ListOffsetsPartition::default()
        .with_current_leader_epoch(-1)
        .with_timestamp(MAX_TIMESTAMP);
    let topic = ListOffsetsTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let code = |version| {
        let answer = Connection::to(&cluster, 1).ask(&request, version);
        answer.topics[0].partitions[0].error_code
    };
    assert_eq!(code(6), UNSUPPORTED_VERSION);
    assert_eq!(code(7), 0);
}

#[test]
fn only_the_leader_knows_offsets() {
    let cluster = filled(&[]);
    let mut connection = Connection::to(&cluster, 2);
    assert_eq!(connection.offset("t", 0, LATEST).error_code, NOT_LEADER_OR_FOLLOWER);
    assert_eq!(connection.offset("t", 5, LATEST).error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn the_end_of_what_is_committed_lies_before_open_transactions() {
    let cluster = filled(&[1000]);
    let open = Records {
        attributes: TRANSACTIONAL,
        producer: (7, 0, 0),
        ..Records::default()
    };
    cluster.append("t", 0, open.batch());
    let asked = ListOffsetsPartition::default()
        .with_current_leader_epoch(-1)
        .with_timestamp(LATEST);
    let topic = ListOffsetsTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let end = |isolation| {
        let answer = Connection::to(&cluster, 1).ask(&request.clone().with_isolation_level(isolation), 5);
        answer.topics[0].partitions[0].offset
    };
    assert_eq!((end(0), end(1)), (4, 3));
}

#[test]
fn an_epoch_ends_where_the_next_one_begins() {
    let cluster = filled(&[1000]);
    cluster.move_leader("t", 0, 2);
    cluster.append("t", 0, records(1));
    cluster.move_leader("t", 0, 1);
    let mut connection = Connection::to(&cluster, 1);
    let mut end = |epoch, believed| {
        let asked = OffsetForLeaderPartition::default()
            .with_leader_epoch(epoch)
            .with_current_leader_epoch(believed);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(name("t"))
            .with_partitions(vec![asked]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let answer = connection.ask(&request, 4).topics.remove(0).partitions.remove(0);
        (answer.error_code, answer.leader_epoch, answer.end_offset)
    };
    assert_eq!(end(0, 2), (0, 0, 3));
    assert_eq!(end(1, 2), (0, 1, 4));
    assert_eq!(end(2, 2), (0, 2, 4));
    assert_eq!(end(3, 2), (0, -1, -1));
    assert_eq!(end(0, 1), (FENCED_LEADER_EPOCH, -1, -1));
}

#[test]
fn deleted_records_are_gone() {
    let cluster = filled(&[1000, 2000]);
    let mut connection = Connection::to(&cluster, 1);
    let mut delete = |offset| {
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
        let answer = connection.ask(&request, 2).topics.remove(0).partitions.remove(0);
        (answer.error_code, answer.low_watermark)
    };
    assert_eq!(delete(4), (0, 4));
    assert_eq!(delete(2), (0, 4));
    assert_eq!(delete(7), (OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(delete(-2), (OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(delete(-1), (0, 6));
    assert_eq!(connection.fetch("t", from(0, 4)).error_code, OFFSET_OUT_OF_RANGE);
}

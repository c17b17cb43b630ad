//! Fetch.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::{
    messages::{FetchRequest, fetch_request::FetchPartition, fetch_response::PartitionData},
    protocol::StrBytes,
};
use klamm_fake::FakeCluster;

use crate::raw::{
    CONTROL, Connection, Records, TRANSACTIONAL, batches, fetch, from, only, records, until, until_answered,
};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// One broker with so many batches of two records in each of two partitions.
fn filled(count: usize) -> FakeCluster {
    let cluster = FakeCluster::builder().topic("t", 2).start().unwrap();
    for partition in 0..2 {
        for _ in 0..count {
            cluster.append("t", partition, records(2));
        }
    }
    cluster
}

fn bases(answer: &PartitionData) -> Vec<i64> {
    let batches = batches(answer.records.as_ref().unwrap());
    batches.into_iter().map(|(base, ..)| base).collect()
}

fn size() -> usize {
    records(2).len()
}

#[test]
fn reading_begins_with_the_batch_that_holds_the_offset() {
    let cluster = filled(3);
    let mut connection = Connection::to(&cluster, 1);
    assert_eq!(bases(&connection.fetch("t", from(0, 0))), [0, 2, 4]);
    assert_eq!(bases(&connection.fetch("t", from(0, 3))), [2, 4]);
    let at_the_end = connection.fetch("t", from(0, 6));
    assert_eq!(
        (at_the_end.error_code, at_the_end.high_watermark, bases(&at_the_end)),
        (0, 6, vec![])
    );
    assert_eq!((at_the_end.last_stable_offset, at_the_end.log_start_offset), (6, 0));
}

#[test]
fn every_version_reads() {
    let cluster = filled(2);
    let mut connection = Connection::to(&cluster, 1);
    for version in 4..=12 {
        assert_eq!(
            bases(&only(connection.ask(&fetch("t", vec![from(1, 0)]), version))),
            [0, 2]
        );
    }
    let id = connection.metadata(&["t"]).topics[0].topic_id;
    for version in 13..=18 {
        let mut request = fetch("", vec![from(1, 0)]);
        request.topics[0].topic_id = id;
        assert_eq!(bases(&only(connection.ask(&request, version))), [0, 2]);
    }
}

#[test]
fn offsets_outside_of_the_log_are_refused() {
    let cluster = filled(3);
    cluster.delete_records("t", 0, 3);
    let code = |offset| Connection::to(&cluster, 1).fetch("t", from(0, offset)).error_code;
    assert_eq!(code(2), OFFSET_OUT_OF_RANGE);
    assert_eq!(code(3), 0);
    assert_eq!(code(6), 0);
    assert_eq!(code(7), OFFSET_OUT_OF_RANGE);
}

#[test]
fn what_is_not_there_or_led_elsewhere_is_refused() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    let mut connection = Connection::to(&cluster, 2);
    assert_eq!(
        connection.fetch("nope", from(0, 0)).error_code,
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(connection.fetch("t", from(5, 0)).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    let old = only(connection.ask(&fetch("t", vec![from(0, 0)]), 10));
    assert_eq!((old.error_code, old.high_watermark), (NOT_LEADER_OR_FOLLOWER, -1));
    // Since version 11 followers serve consumers.
    assert_eq!(connection.fetch("t", from(0, 0)).error_code, 0);
}

#[test]
fn a_topic_made_anew_has_another_id() {
    let cluster = filled(1);
    let mut connection = Connection::to(&cluster, 1);
    let mut request = fetch("", vec![from(0, 0)]);
    request.topics[0].topic_id = connection.metadata(&["t"]).topics[0].topic_id;
    assert_eq!(only(connection.ask(&request, 13)).error_code, 0);
    cluster.recreate_topic("t");
    assert_eq!(only(connection.ask(&request, 13)).error_code, UNKNOWN_TOPIC_ID);
}

#[test]
fn only_the_first_batch_is_sure_to_be_whole() {
    let cluster = filled(3);
    let mut connection = Connection::to(&cluster, 1);
    let limited = |partition, bytes| from(partition, 0).with_partition_max_bytes(bytes);
    let small = connection.fetch("t", limited(0, 1));
    assert_eq!(small.records.unwrap().len(), size());
    let cut = connection.fetch("t", limited(0, size() as i32 + 9));
    assert_eq!(cut.records.unwrap().len(), size() + 9);
    // The second partition has no first batch of the answer.
    let answer = connection.ask(&fetch("t", vec![limited(0, 1), limited(1, 1)]), 12);
    let sizes = answer.responses[0].partitions.iter();
    let sizes: Vec<usize> = sizes
        .map(|partition| partition.records.as_ref().unwrap().len())
        .collect();
    assert_eq!(sizes, [size(), 0]);
}

#[test]
fn an_answer_is_no_larger_than_it_may_be() {
    let cluster = filled(10);
    let request = fetch("t", vec![from(0, 0), from(1, 0)]).with_max_bytes(size() as i32 * 12);
    let answer = Connection::to(&cluster, 1).ask(&request, 12);
    let sizes = answer.responses[0].partitions.iter();
    let sizes: Vec<usize> = sizes
        .map(|partition| partition.records.as_ref().unwrap().len())
        .collect();
    assert_eq!(sizes, [size() * 10, size() * 2]);
}

fn waiting(partition: FetchPartition, min_bytes: i32) -> FetchRequest {
    fetch("t", vec![partition])
        .with_max_wait_ms(3_600_000)
        .with_min_bytes(min_bytes)
}

#[test]
fn a_fetch_waits_until_there_is_enough() {
    let cluster = filled(0);
    let mut connection = Connection::to(&cluster, 1);
    connection.send(&waiting(from(0, 0), size() as i32 * 2), 12);
    until("the request", || !cluster.requests().is_empty());
    cluster.append("t", 0, records(2));
    cluster.append("t", 1, records(2));
    assert!(!connection.has_something_to_read());
    cluster.append("t", 0, records(2));
    assert_eq!(bases(&only(connection.answer::<FetchRequest>(12).unwrap())), [0, 2]);
}

#[test]
fn a_fetch_waits_no_longer_than_it_may() {
    let cluster = filled(0);
    let mut connection = Connection::to(&cluster, 1);
    let ask = move || only(connection.ask(&waiting(from(0, 0), 1), 12));
    let answer = until_answered(ask, || cluster.advance(Duration::from_secs(3600)));
    assert_eq!((answer.error_code, bases(&answer)), (0, vec![]));
}

#[test]
fn a_fetch_does_not_wait_with_an_error() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 2).start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    connection.send(&waiting(from(0, 0).with_current_leader_epoch(0), 1), 12);
    until("the request", || !cluster.requests().is_empty());
    cluster.move_leader("t", 0, 2);
    let answer = only(connection.answer::<FetchRequest>(12).unwrap());
    assert_eq!(answer.error_code, FENCED_LEADER_EPOCH);
}

#[test]
fn a_long_poll_ends_with_its_broker() {
    let cluster = filled(0);
    let mut connection = Connection::to(&cluster, 1);
    connection.send(&waiting(from(0, 0), 1), 12);
    until("the request", || !cluster.requests().is_empty());
    cluster.close();
    assert!(connection.is_over());
}

#[test]
fn epochs_must_be_the_leader_s() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    cluster.move_leader("t", 0, 2);
    cluster.move_leader("t", 0, 1);
    let mut connection = Connection::to(&cluster, 1);
    let mut code = |epoch| {
        connection
            .fetch("t", from(0, 0).with_current_leader_epoch(epoch))
            .error_code
    };
    assert_eq!(code(1), FENCED_LEADER_EPOCH);
    assert_eq!(code(2), 0);
    assert_eq!(code(3), UNKNOWN_LEADER_EPOCH);
}

#[test]
fn a_fetch_tells_who_leads_now_since_version_16() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    cluster.move_leader("t", 0, 2);
    let mut connection = Connection::to(&cluster, 1);
    let mut request = fetch("", vec![from(0, 0).with_current_leader_epoch(0)]);
    request.topics[0].topic_id = connection.metadata(&["t"]).topics[0].topic_id;
    let answer = connection.ask(&request, 16);
    assert_eq!(answer.node_endpoints[0].port, i32::from(cluster.address(2).port()));
    let partition = only(answer);
    assert_eq!(partition.error_code, FENCED_LEADER_EPOCH);
    assert_eq!(
        (
            partition.current_leader.leader_id.0,
            partition.current_leader.leader_epoch
        ),
        (2, 1)
    );
    let before = only(connection.ask(&request, 15));
    assert_eq!(before.current_leader.leader_id.0, -1);
}

#[test]
fn a_reader_of_another_history_is_told_where_it_diverges() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    cluster.append("t", 0, records(4));
    cluster.append("t", 0, records(4));
    cluster.truncate("t", 0, 4);
    assert_eq!(cluster.leader("t", 0), 2);
    cluster.append("t", 0, records(4));
    let mut connection = Connection::to(&cluster, 2);
    let answer = connection.fetch("t", from(0, 6).with_last_fetched_epoch(0));
    assert_eq!(
        (answer.diverging_epoch.epoch, answer.diverging_epoch.end_offset),
        (0, 4)
    );
    let answer = connection.fetch("t", from(0, 4).with_last_fetched_epoch(0));
    assert_eq!((answer.diverging_epoch.epoch, bases(&answer)), (-1, vec![4]));
}

#[test]
fn consumers_are_sent_to_the_follower_in_their_rack() {
    let builder = FakeCluster::builder().brokers(3).racks(["a", "b", "c"]).topic("t", 1);
    let cluster = builder.rack_aware_fetches().start().unwrap();
    cluster.append("t", 0, records(2));
    let ask = |node, rack: &str| {
        let request = fetch("t", vec![from(0, 0)]).with_rack_id(StrBytes::from_string(rack.to_owned()));
        only(Connection::to(&cluster, node).ask(&request, 12))
    };
    let answer = ask(1, "b");
    assert_eq!((answer.preferred_read_replica.0, answer.records.unwrap().len()), (2, 0));
    assert_eq!(bases(&ask(2, "b")), [0]);
    for rack in ["a", "", "elsewhere"] {
        let answer = ask(1, rack);
        assert_eq!((answer.preferred_read_replica.0, bases(&answer)), (-1, vec![0]));
    }
}

fn transactional(producer: i64, attributes: i16) -> Bytes {
    let (attributes, producer) = (attributes | TRANSACTIONAL, (producer, 0, -1));
    Records {
        attributes,
        producer,
        ..Records::default()
    }
    .batch()
}

#[test]
fn who_reads_what_is_committed_waits_for_the_end_of_transactions() {
    let cluster = filled(0);
    cluster.append("t", 0, records(1));
    cluster.append("t", 0, transactional(7, 0));
    cluster.append("t", 0, records(1));
    let ask = |isolation| {
        let request = fetch("t", vec![from(0, 0)]).with_isolation_level(isolation);
        only(Connection::to(&cluster, 1).ask(&request, 12))
    };
    assert_eq!(bases(&ask(0)), [0, 1, 2]);
    assert_eq!(ask(0).aborted_transactions, None);
    let answer = ask(1);
    assert_eq!(
        (bases(&answer), answer.last_stable_offset, answer.high_watermark),
        (vec![0], 1, 3)
    );
    // The marker takes the transaction back.
    cluster.append("t", 0, transactional(7, CONTROL));
    let answer = ask(1);
    assert_eq!((bases(&answer), answer.last_stable_offset), (vec![0, 1, 2, 3], 4));
    let aborted = answer.aborted_transactions.unwrap();
    assert_eq!((aborted[0].producer_id.0, aborted[0].first_offset), (7, 1));
}

//! Produce and InitProducerId.

use bytes::Bytes;
use kafka_protocol::{
    messages::{InitProducerIdRequest, ProduceRequest, TransactionalId, produce_response::PartitionProduceResponse},
    protocol::StrBytes,
};
use klamm_fake::{FakeCluster, Profile};

use crate::raw::{
    CONTROL, Connection, Records, TRANSACTIONAL, batches, from, produce, records, seal, until, until_answered,
};

const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const REQUEST_TIMED_OUT: i16 = 7;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_REQUIRED_ACKS: i16 = 21;
const INVALID_TIMESTAMP: i16 = 32;
const OUT_OF_ORDER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn cluster() -> FakeCluster {
    FakeCluster::builder().topic("t", 2).start().unwrap()
}

/// The code and the base offset that a batch is answered with.
fn outcome(cluster: &FakeCluster, batch: Bytes) -> (i16, i64) {
    let answer = Connection::to(cluster, 1).produce("t", 0, batch);
    (answer.error_code, answer.base_offset)
}

fn sequenced(epoch: i16, sequence: i32) -> Bytes {
    let producer = (9, epoch, sequence);
    Records {
        count: 2,
        producer,
        ..Records::default()
    }
    .batch()
}

#[test]
fn batches_get_offsets_in_order() {
    let cluster = cluster();
    assert_eq!(outcome(&cluster, records(3)), (0, 0));
    assert_eq!(outcome(&cluster, records(2)), (0, 3));
    assert_eq!(cluster.end_offset("t", 0), 5);
    assert_eq!(cluster.end_offset("t", 1), 0);
    let stored = cluster.batches("t", 0);
    assert_eq!(stored.len(), 2);
    assert_eq!(batches(&stored[1])[0].0, 3);
}

#[test]
fn every_version_writes() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    for version in 3..=12 {
        let answer = connection.ask(&produce("t", 0, records(1)), version);
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(
            (partition.error_code, partition.base_offset),
            (0, i64::from(version) - 3)
        );
    }
}

#[test]
fn topics_are_named_by_id_since_version_13() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    let id = connection.metadata(&["t"]).topics[0].topic_id;
    let mut ask = |id| {
        let mut request = produce("", 0, records(1));
        request.topic_data[0].topic_id = id;
        let answer = connection.ask(&request, 13);
        assert_eq!(answer.responses[0].topic_id, id);
        answer.responses[0].partition_responses[0].error_code
    };
    assert_eq!(ask(id), 0);
    cluster.recreate_topic("t");
    assert_eq!(ask(id), UNKNOWN_TOPIC_ID);
}

#[test]
fn what_is_damaged_or_forbidden_is_refused() {
    let cluster = FakeCluster::builder()
        .topic("t", 1)
        .max_message_bytes(500)
        .start()
        .unwrap();
    let mut damaged = records(2).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(outcome(&cluster, damaged.into()), (CORRUPT_MESSAGE, -1));
    let control = Records {
        attributes: CONTROL,
        ..Records::default()
    };
    assert_eq!(outcome(&cluster, control.batch()).0, INVALID_RECORD);
    let large = Records {
        value_bytes: 500,
        ..Records::default()
    };
    assert_eq!(outcome(&cluster, large.batch()).0, MESSAGE_TOO_LARGE);
    let unnumbered = Records {
        producer: (7, 0, -1),
        ..Records::default()
    };
    assert_eq!(outcome(&cluster, unnumbered.batch()).0, INVALID_RECORD);
    let transactional = Records {
        attributes: TRANSACTIONAL,
        producer: (7, 0, 0),
        ..Records::default()
    };
    assert_eq!(
        outcome(&cluster, transactional.batch()).0,
        TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    );
    let two = [records(1), records(1)].concat();
    assert_eq!(outcome(&cluster, two.into()).0, INVALID_RECORD);
    let mut old = records(1).to_vec();
    old[16] = 1;
    assert_eq!(outcome(&cluster, old.into()).0, INVALID_RECORD);
    let future = Records {
        timestamp: i64::MAX / 2,
        ..Records::default()
    };
    assert_eq!(outcome(&cluster, future.batch()).0, INVALID_TIMESTAMP);
    assert_eq!(cluster.end_offset("t", 0), 0);
}

#[test]
fn zstd_needs_version_7() {
    let cluster = FakeCluster::builder()
        .topic("t", 1)
        .max_versions(Profile::V2_8)
        .start()
        .unwrap();
    let mut batch = records(1).to_vec();
    batch[22] = 4;
    let request = produce("t", 0, seal(&batch));
    let code = |version| {
        let answer = Connection::to(&cluster, 1).ask(&request, version);
        answer.responses[0].partition_responses[0].error_code
    };
    assert_eq!(code(6), UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(code(7), 0);
}

#[test]
fn who_does_not_lead_says_who_does() {
    let cluster = FakeCluster::builder().brokers(3).topic("t", 1).start().unwrap();
    let mut follower = Connection::to(&cluster, 2);
    assert_eq!(
        follower.produce("nope", 0, records(1)).error_code,
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(
        follower.produce("t", 7, records(1)).error_code,
        UNKNOWN_TOPIC_OR_PARTITION
    );
    let answer = follower.ask(&produce("t", 0, records(1)), 12);
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, NOT_LEADER_OR_FOLLOWER);
    assert_eq!(
        (
            partition.current_leader.leader_id.0,
            partition.current_leader.leader_epoch
        ),
        (1, 0)
    );
    assert_eq!(answer.node_endpoints[0].node_id.0, 1);
    assert_eq!(answer.node_endpoints[0].port, i32::from(cluster.address(1).port()));
    // Before version 10 there was no place for it.
    let answer = follower.ask(&produce("t", 0, records(1)), 9);
    assert!(answer.node_endpoints.is_empty());
}

#[test]
fn a_batch_that_comes_again_is_not_written_again() {
    let cluster = cluster();
    for sequence in [0, 2, 4, 6, 8, 10] {
        assert_eq!(outcome(&cluster, sequenced(0, sequence)), (0, i64::from(sequence)));
    }
    assert_eq!(outcome(&cluster, sequenced(0, 2)), (0, 2));
    assert_eq!(outcome(&cluster, sequenced(0, 10)), (0, 10));
    // Only five are remembered.
    assert_eq!(outcome(&cluster, sequenced(0, 0)).0, OUT_OF_ORDER);
    assert_eq!(cluster.end_offset("t", 0), 12);
}

#[test]
fn sequences_have_no_gaps_and_epochs_only_rise() {
    let cluster = cluster();
    assert_eq!(outcome(&cluster, sequenced(0, 0)).0, 0);
    assert_eq!(outcome(&cluster, sequenced(0, 3)).0, OUT_OF_ORDER);
    assert_eq!(outcome(&cluster, sequenced(1, 2)).0, OUT_OF_ORDER);
    assert_eq!(outcome(&cluster, sequenced(1, 0)).0, 0);
    assert_eq!(outcome(&cluster, sequenced(0, 2)).0, INVALID_PRODUCER_EPOCH);
}

#[test]
fn without_acks_there_is_no_answer() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    connection.send(&produce("t", 0, records(1)).with_acks(0), 12);
    // The next answer is the next request's.
    assert_eq!(connection.produce("t", 0, records(1)).base_offset, 1);
    connection.send(&produce("nope", 0, records(1)).with_acks(0), 12);
    assert!(connection.is_over());
}

#[test]
fn unknown_kinds_of_acks_are_refused() {
    let request = produce("t", 0, records(1)).with_acks(2);
    let answer = Connection::to(&cluster(), 1).ask(&request, 12);
    assert_eq!(
        answer.responses[0].partition_responses[0].error_code,
        INVALID_REQUIRED_ACKS
    );
}

fn ask(cluster: &FakeCluster, request: ProduceRequest) -> impl FnOnce() -> PartitionProduceResponse + Send + use<> {
    let mut connection = Connection::to(cluster, 1);
    move || {
        connection
            .ask(&request, 12)
            .responses
            .remove(0)
            .partition_responses
            .remove(0)
    }
}

#[test]
fn all_acks_wait_for_the_high_watermark() {
    let cluster = cluster();
    cluster.hold_high_watermark("t", 0, Some(0));
    let leader_only = produce("t", 0, records(1)).with_acks(1);
    assert_eq!(
        Connection::to(&cluster, 1).ask(&leader_only, 12).responses[0].partition_responses[0].error_code,
        0
    );
    let mut waiting = Connection::to(&cluster, 1);
    waiting.send(&produce("t", 0, records(1)), 12);
    until("the append", || cluster.end_offset("t", 0) == 2);
    assert!(!waiting.has_something_to_read());
    assert_eq!(Connection::to(&cluster, 1).fetch("t", from(0, 0)).high_watermark, 0);
    cluster.hold_high_watermark("t", 0, None);
    let answer = waiting.answer::<ProduceRequest>(12).unwrap();
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 1);
}

#[test]
fn acks_that_do_not_come_in_time_are_an_error() {
    let cluster = cluster();
    cluster.hold_high_watermark("t", 0, Some(0));
    let answer = until_answered(ask(&cluster, produce("t", 0, records(1))), || {
        cluster.advance(std::time::Duration::from_secs(31));
    });
    assert_eq!(answer.error_code, REQUEST_TIMED_OUT);
    assert_eq!(cluster.end_offset("t", 0), 1);
}

#[test]
fn acks_end_when_the_leader_changes() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    cluster.hold_high_watermark("t", 0, Some(0));
    let mut waiting = Connection::to(&cluster, 1);
    waiting.send(&produce("t", 0, records(1)), 12);
    until("the append", || cluster.end_offset("t", 0) == 1);
    cluster.move_leader("t", 0, 2);
    let answer = waiting.answer::<ProduceRequest>(12).unwrap();
    assert_eq!(
        answer.responses[0].partition_responses[0].error_code,
        NOT_LEADER_OR_FOLLOWER
    );
}

#[test]
fn another_topic_of_the_same_name_acknowledges_nothing() {
    let cluster = cluster();
    cluster.hold_high_watermark("t", 0, Some(0));
    let mut waiting = Connection::to(&cluster, 1);
    waiting.send(&produce("t", 0, records(1)), 12);
    until("the append", || cluster.end_offset("t", 0) == 1);
    cluster.recreate_topic("t");
    Connection::to(&cluster, 1).produce("t", 0, records(1));
    let answer = waiting.answer::<ProduceRequest>(12).unwrap();
    assert_eq!(
        answer.responses[0].partition_responses[0].error_code,
        UNKNOWN_TOPIC_OR_PARTITION
    );
}

#[test]
fn every_producer_has_a_number_of_its_own() {
    let cluster = FakeCluster::builder().brokers(2).start().unwrap();
    let ask = |node, version| {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        Connection::to(&cluster, node).ask(&request, version)
    };
    let (one, two) = (ask(1, 0), ask(2, 5));
    assert_eq!((one.error_code, one.producer_epoch), (0, 0));
    assert_ne!(one.producer_id, two.producer_id);
    let transactional =
        InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("x"))));
    assert_ne!(Connection::to(&cluster, 1).ask(&transactional, 2).error_code, 0);
}

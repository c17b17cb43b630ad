//! Brokers that crash and come back, leaders that move, records that are lost.

use std::{io::ErrorKind, sync::mpsc, thread};

use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, FindCoordinatorRequest,
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
};
use klamm_fake::{Action, Api, FakeCluster};
use socket2::{Domain, Socket, Type};

use crate::raw::{Connection, Records, fetch, from, name, produce, records, until};

const LEADER_NOT_AVAILABLE: i16 = 5;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const OUT_OF_ORDER: i16 = 45;

#[test]
fn a_crash_ends_connections_and_moves_leaders() {
    let cluster = FakeCluster::builder().brokers(3).topic("t", 3).start().unwrap();
    let mut connection = Connection::to(&cluster, 2);
    connection.send(
        &fetch("t", vec![from(1, 0)])
            .with_max_wait_ms(3_600_000)
            .with_min_bytes(1),
        12,
    );
    until("the request", || !cluster.requests().is_empty());
    cluster.crash(2);
    assert_eq!(connection.answer::<FetchRequest>(12), None);
    assert!(Connection::at(cluster.address(2)).is_err());
    assert_eq!((cluster.leader("t", 1), cluster.leader_epoch("t", 1)), (3, 1));
    let answer = Connection::to(&cluster, 1).metadata(&["t"]);
    assert_eq!(answer.brokers.len(), 2);
    let partition = &answer.topics[0].partitions[1];
    assert_eq!((partition.leader_id.0, partition.leader_epoch), (3, 1));
    assert_eq!((partition.isr_nodes.len(), partition.offline_replicas[0].0), (2, 2));
}

#[test]
fn a_broker_comes_back_at_the_same_address_with_its_data() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let address = cluster.address(1);
    cluster.append("t", 0, records(5));
    for _ in 0..3 {
        cluster.crash(1);
        cluster.crash(1);
        cluster.restart(1).unwrap();
        cluster.restart(1).unwrap();
    }
    assert_eq!(cluster.address(1), address);
    let mut connection = Connection::to(&cluster, 1);
    assert_eq!(connection.fetch("t", from(0, 0)).high_watermark, 5);
    // An epoch without a leader, and one with it again, three times.
    assert_eq!(cluster.leader_epoch("t", 0), 6);
}

#[test]
fn without_its_only_replica_a_partition_has_no_leader() {
    let cluster = FakeCluster::builder().brokers(4).topic("t", 4).start().unwrap();
    for node in [1, 2, 3] {
        cluster.crash(node);
    }
    let answer = Connection::to(&cluster, 4).metadata(&["t"]);
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(
        (partition.error_code, partition.leader_id.0),
        (LEADER_NOT_AVAILABLE, -1)
    );
    cluster.restart(2).unwrap();
    assert_eq!(cluster.leader("t", 0), 2);
}

#[test]
fn a_restarted_broker_remembers_of_each_producer_the_last_batch() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let write = |sequence| {
        let records = Records {
            producer: (9, 0, sequence),
            ..Records::default()
        };
        let answer = Connection::to(&cluster, 1).produce("t", 0, records.batch());
        (answer.error_code, answer.base_offset)
    };
    for sequence in 0..3 {
        assert_eq!(write(sequence), (0, i64::from(sequence)));
    }
    cluster.crash(1);
    cluster.restart(1).unwrap();
    assert_eq!(write(2), (0, 2));
    assert_eq!(write(1).0, OUT_OF_ORDER);
    assert_eq!(write(3), (0, 3));
}

#[test]
fn a_new_leader_remembers_all_that_the_old_one_did() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    let batch = |sequence| {
        Records {
            producer: (9, 0, sequence),
            ..Records::default()
        }
        .batch()
    };
    for sequence in 0..3 {
        Connection::to(&cluster, 1).produce("t", 0, batch(sequence));
    }
    cluster.move_leader("t", 0, 2);
    assert_eq!(
        Connection::to(&cluster, 1).produce("t", 0, batch(3)).error_code,
        NOT_LEADER_OR_FOLLOWER
    );
    let again = Connection::to(&cluster, 2).produce("t", 0, batch(0));
    assert_eq!((again.error_code, again.base_offset), (0, 0));
}

#[test]
fn records_are_lost_when_a_leader_did_not_have_them() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    cluster.append("t", 0, records(2));
    cluster.append("t", 0, records(2));
    cluster.truncate("t", 0, 2);
    assert_eq!(
        (
            cluster.end_offset("t", 0),
            cluster.leader("t", 0),
            cluster.leader_epoch("t", 0)
        ),
        (2, 2, 1)
    );
}

#[test]
fn a_coordinator_moves_where_a_test_puts_it() {
    let cluster = FakeCluster::builder().brokers(3).start().unwrap();
    let other = cluster.coordinator("g") % 3 + 1;
    cluster.move_coordinator("g", other);
    let request = FindCoordinatorRequest::default().with_key("g".to_owned().into());
    assert_eq!(Connection::to(&cluster, 1).ask(&request, 2).node_id.0, other);
    cluster.crash(other);
    assert_ne!(cluster.coordinator("g"), other);
}

#[test]
fn only_groups_of_a_broker_that_is_down_have_another_coordinator() {
    let cluster = FakeCluster::builder().brokers(4).start().unwrap();
    let groups: Vec<String> = (0..100).map(|number| format!("group {number}")).collect();
    let coordinators = || {
        groups
            .iter()
            .map(|group| cluster.coordinator(group))
            .collect::<Vec<_>>()
    };
    let before = coordinators();
    assert!((1..=4).all(|node| before.contains(&node)));
    cluster.crash(2);
    for (before, now) in before.iter().zip(coordinators()) {
        assert_eq!(now, if *before == 2 { 3 } else { *before });
    }
    cluster.restart(2).unwrap();
    assert_eq!(coordinators(), before);
}

#[test]
fn the_port_of_a_crashed_broker_is_kept_for_it() {
    let cluster = FakeCluster::builder().brokers(2).start().unwrap();
    for _ in 0..2 {
        cluster.crash(1);
        assert!(Connection::at(cluster.address(1)).is_err());
        // Not even to who would take a port whose connections are not over yet.
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let refused = other.bind(&cluster.address(1).into()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
        cluster.restart(1).unwrap();
        assert_eq!(Connection::to(&cluster, 1).metadata(&[]).brokers.len(), 2);
    }
}

#[test]
fn crashes_and_restarts_at_once_leave_a_broker_that_runs_or_does_not() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..20).for_each(|_| cluster.crash(1)));
            scope.spawn(|| (0..20).for_each(|_| cluster.restart(1).unwrap()));
        }
    });
    cluster.crash(1);
    assert!(Connection::at(cluster.address(1)).is_err());
    cluster.restart(1).unwrap();
    assert_eq!(Connection::to(&cluster, 1).metadata(&["t"]).topics[0].error_code, 0);
}

#[test]
fn what_came_before_a_crash_is_not_done_after_it() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let (handle, (restarted, wait)) = (cluster.clone(), mpsc::channel());
    cluster.once(Api::Produce, move |_| {
        handle.crash(1);
        handle.restart(1).unwrap();
        restarted.send(()).unwrap();
        Action::Pass
    });
    let mut connection = Connection::to(&cluster, 1);
    connection.send(&produce("t", 0, records(1)), 12);
    wait.recv().unwrap();
    cluster.close(); // the connection's thread is over now
    assert_eq!(cluster.end_offset("t", 0), 0);
}

#[test]
fn a_cluster_that_was_closed_stays_closed() {
    let cluster = FakeCluster::builder().start().unwrap();
    cluster.close();
    assert!(cluster.restart(1).is_err());
    assert!(Connection::at(cluster.address(1)).is_err());
}

#[test]
fn too_few_replicas_are_refused_to_who_wants_all() {
    let cluster = FakeCluster::builder().brokers(2).start().unwrap();
    let config = CreatableTopicConfig::default()
        .with_name("min.insync.replicas".to_owned().into())
        .with_value(Some("2".to_owned().into()));
    let topic = CreatableTopic::default()
        .with_name(name("t"))
        .with_num_partitions(1)
        .with_replication_factor(2)
        .with_configs(vec![config]);
    let mut connection = Connection::to(&cluster, 1);
    connection.ask(&CreateTopicsRequest::default().with_topics(vec![topic]), 7);
    assert_eq!(connection.produce("t", 0, records(1)).error_code, 0);
    cluster.crash(2);
    assert_eq!(connection.produce("t", 0, records(1)).error_code, NOT_ENOUGH_REPLICAS);
    let leader_only = connection.ask(&produce("t", 0, records(1)).with_acks(1), 12);
    assert_eq!(leader_only.responses[0].partition_responses[0].error_code, 0);
}

//! The embedded broker, `klamm-fake`: what it says of groups is what Kafka says, and Java's consumers take it for one.

use klamm_fake::FakeCluster;

use crate::support::{Kafka, secured};

mod script;

use script::{classic, consumer};

/// A broker that does not mix the two kinds of groups, and deals out at once.
fn kafka() -> Kafka {
    Kafka::builder()
        .property("group.consumer.migration.policy", "disabled")
        .property("group.consumer.assignment.interval.ms", "0")
        .property("group.min.session.timeout.ms", "6000")
        .property("group.consumer.heartbeat.interval.ms", "5000")
        .start()
}

fn embedded() -> FakeCluster {
    FakeCluster::builder()
        .topic("orders", 4)
        .topic("events", 2)
        .start()
        .unwrap()
}

#[test]
fn the_embedded_broker_says_of_groups_what_kafka_says() {
    let (kafka, embedded) = (kafka(), embedded());
    // Brings the topic of offsets into being.
    kafka.coordinator("any");
    kafka.create_topic("orders", 4, &[]);
    kafka.create_topic("events", 2, &[]);
    for (name, script) in [("classic", classic as fn(_) -> _), ("consumer", consumer)] {
        let (theirs, ours): (Vec<String>, Vec<String>) = (script(kafka.address(1)), script(embedded.address(1)));
        let differ = theirs.iter().zip(&ours).filter(|(theirs, ours)| theirs != ours);
        let differ: Vec<String> = differ
            .map(|(theirs, ours)| format!("kafka: {theirs}\n ours: {ours}"))
            .collect();
        assert!(
            differ.is_empty() && theirs.len() == ours.len(),
            "{name}:\n{}",
            differ.join("\n")
        );
    }
}

#[test]
fn the_embedded_broker_leaves_out_as_kafka_does_what_was_committed_in_a_topic_that_is_gone() {
    let (kafka, embedded) = (kafka(), embedded());
    kafka.coordinator("any");
    kafka.create_topic("orders", 4, &[]);
    kafka.create_topic("events", 2, &[]);
    let [theirs, ours] = [kafka.address(1), embedded.address(1)].map(script::deletion);
    assert_eq!(theirs, ours);
}

#[test]
fn the_embedded_broker_says_as_kafka_what_is_out_of_place_on_the_way_to_a_session() {
    let embedded = FakeCluster::builder().sasl_plain("alice", "any").start().unwrap();
    let kafka = secured().kafka.direct_listener(1, "PLAIN_ONLY");
    // ApiVersions, also in a version that nobody knows: behind each comes the end.
    for frame in [
        &[0, 18, 0, 0, 0, 0, 0, 7, 0, 0][..],
        &[0, 18, 0, 99, 0, 0, 0, 7, 0, 0, 0],
    ] {
        let [theirs, ours] = [kafka, embedded.address(1)].map(|broker| script::interrupt_handshake(broker, frame));
        assert_eq!(theirs, ours);
    }
}

#[test]
fn java_consumers_of_both_protocols_read_from_the_embedded_broker_and_commit_there() {
    let embedded = embedded();
    let kafka = Kafka::at(embedded.bootstrap());
    kafka.console_producer("events", &[], "a\nb\nc\n");
    for protocol in ["classic", "consumer"] {
        let property = format!("group.protocol={protocol}");
        let read = kafka.console_consumer("events", 3, &["--group", protocol, "--consumer-property", &property]);
        let mut lines: Vec<&str> = read.lines().filter(|line| line.len() == 1).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["a", "b", "c"], "{read}");
        let described = kafka.describe_group(protocol);
        let committed: i64 = described.iter().filter_map(|partition| partition.current).sum();
        assert_eq!(committed, 3, "{described:?}");
    }
}

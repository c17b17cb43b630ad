//! A client that says where it runs reads from a replica nearby (KIP-392).

use std::time::Duration;

use klamm::{Client, Next};

use crate::support::{Kafka, unique};

const FETCH: i16 = 1;
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_reader_with_a_rack_fetches_from_the_replica_in_it_and_from_the_leader_when_that_is_gone() {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let kafka = Kafka::builder()
        .brokers(3)
        .behind_proxies()
        .property("replica.selector.class", selector)
        .start();
    let topic = unique("rack");
    kafka.create_topic_on(&topic, &[&[1, 2, 3]], &[]);
    kafka.wait_until_in_sync(&topic);
    kafka.fill(&topic, 1, 20_000, "none", 100);

    let client = Client::builder()
        .bootstrap(kafka.bootstrap())
        .rack("rack-3")
        .connect()
        .unwrap();
    // Small answers, so that it matters where they come from.
    let stream = client
        .reader()
        .topics([&topic])
        .max_bytes(16 << 10)
        .partition_max_bytes(16 << 10)
        .open()
        .unwrap();
    let mut messages = stream.iter();
    let mut read = |from: i64, to: i64| {
        for expected in from..to {
            match messages.next_timeout(LONG).unwrap() {
                Next::Message(message) => assert_eq!(message.offset(), expected),
                other => panic!("{other:?} at offset {expected}"),
            }
        }
    };
    read(0, 10_000);
    let (leader, nearby) = (kafka.proxy(1).requests(FETCH), kafka.proxy(3).requests(FETCH));
    assert!(
        nearby > 4 * leader,
        "{nearby} Fetches went nearby, {leader} to the leader"
    );

    kafka.kill9(3);
    read(10_000, 20_000);
    kafka.fill_from(20_000, &topic, 1, 1000, "none", 100);
    read(20_000, 21_000);
}

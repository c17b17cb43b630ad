//! klamm's own clients against the brokers.

use std::time::Duration;

use klamm::{Client, Compression, Record, StartAt};
use klamm_fake::{FakeCluster, Profile};

const LIMIT: Duration = Duration::from_secs(60);

/// Writes numbers and reads them back, each once and in order within its partition.
fn round_trip(cluster: &FakeCluster, records: u32, compression: Compression) {
    let client = Client::connect(&cluster.bootstrap()).unwrap();
    let producer = client.producer().compression(compression).build().unwrap();
    for number in 0..records {
        let value = number.to_string();
        producer.send(Record::to("orders").key(&value).value(&value)).unwrap();
    }
    producer.flush(LIMIT).unwrap();
    producer.close(LIMIT).unwrap();
    let stream = client
        .reader()
        .topics(["orders"])
        .start_at(StartAt::Earliest)
        .until_end()
        .open()
        .unwrap();
    let mut next = std::collections::HashMap::new();
    let mut values: Vec<u32> = Vec::new();
    for message in stream {
        let message = message.unwrap();
        let expected = next.entry(message.partition()).or_insert(0);
        assert_eq!(message.offset(), *expected);
        *expected += 1;
        values.push(std::str::from_utf8(message.value().unwrap()).unwrap().parse().unwrap());
    }
    values.sort_unstable();
    assert!(values.into_iter().eq(0..records));
}

#[test]
fn what_a_producer_writes_a_reader_reads() {
    let cluster = FakeCluster::builder().brokers(3).topic("orders", 12).start().unwrap();
    round_trip(&cluster, 20_000, Compression::None);
}

#[test]
fn compressed_batches_are_stored_as_they_came() {
    let cluster = FakeCluster::builder().topic("orders", 3).start().unwrap();
    round_trip(&cluster, 5_000, Compression::Lz4);
}

#[test]
fn every_release_is_spoken_to() {
    for profile in [Profile::V2_1, Profile::V2_8, Profile::V3_9, Profile::V4_3] {
        let builder = FakeCluster::builder().brokers(2).topic("orders", 4);
        let cluster = builder.max_versions(profile).start().unwrap();
        round_trip(&cluster, 1_000, Compression::None);
    }
}

//! klamm's own clients against the brokers.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use klamm::{Client, Compression, Record, StartAt};
use klamm_fake::{Action, Api, FakeCluster, Profile};

const LIMIT: Duration = Duration::from_secs(120);
const TOPIC: &str = "orders";

/// Writes numbers, in small batches so that there are many requests.
fn write(cluster: &FakeCluster, records: u32, compression: Compression) {
    let client = Client::connect(&cluster.bootstrap()).unwrap();
    let producer = client.producer();
    let producer = producer
        .compression(compression)
        .batch_bytes(1024)
        .delivery_timeout(LIMIT);
    let producer = producer.build().unwrap();
    for number in 0..records {
        let value = number.to_string();
        producer.send(Record::to(TOPIC).key(&value).value(&value)).unwrap();
    }
    producer.flush(LIMIT).unwrap();
    producer.close(LIMIT).unwrap();
}

/// Reads the numbers back: each once, and in order within its partition.
fn read(cluster: &FakeCluster, records: u32) {
    let client = Client::connect(&cluster.bootstrap()).unwrap();
    let reader = client.reader().topics([TOPIC]).start_at(StartAt::Earliest);
    let mut next = HashMap::new();
    let mut last = HashMap::new();
    let mut values: Vec<u32> = Vec::new();
    for message in reader.until_end().open().unwrap() {
        let message = message.unwrap();
        let expected = next.entry(message.partition()).or_insert(0);
        assert_eq!(message.offset(), *expected);
        *expected += 1;
        let value = std::str::from_utf8(message.value().unwrap()).unwrap().parse().unwrap();
        let before = last.insert(message.partition(), value);
        assert!(before.is_none_or(|before| before < value), "records keep their order");
        values.push(value);
    }
    values.sort_unstable();
    assert!(values.into_iter().eq(0..records), "each record comes once");
}

fn three_brokers() -> FakeCluster {
    FakeCluster::builder().brokers(3).topic(TOPIC, 12).start().unwrap()
}

#[test]
fn what_a_producer_writes_a_reader_reads() {
    let cluster = three_brokers();
    write(&cluster, 20_000, Compression::None);
    read(&cluster, 20_000);
}

#[test]
fn compressed_batches_are_stored_as_they_came() {
    let cluster = FakeCluster::builder().topic(TOPIC, 3).start().unwrap();
    write(&cluster, 5_000, Compression::Lz4);
    read(&cluster, 5_000);
}

#[test]
fn every_release_is_spoken_to() {
    for profile in [Profile::V2_1, Profile::V2_8, Profile::V3_9, Profile::V4_3] {
        let builder = FakeCluster::builder().brokers(2).topic(TOPIC, 4);
        let cluster = builder.max_versions(profile).start().unwrap();
        write(&cluster, 1_000, Compression::None);
        read(&cluster, 1_000);
    }
}

#[test]
fn records_whose_acknowledgement_is_lost_are_written_once() {
    let cluster = three_brokers();
    let requests = AtomicU32::new(0);
    let hook = cluster.times(10, Api::Produce, move |_| {
        match requests.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Action::ThenDisconnect,
            1 => Action::Truncate,
            _ => Action::Pass,
        }
    });
    write(&cluster, 20_000, Compression::None);
    assert_eq!(hook.uses(), 10);
    read(&cluster, 20_000);
}

#[test]
fn a_producer_follows_leaders_that_move() {
    let cluster = three_brokers();
    let (handle, requests) = (cluster.clone(), AtomicU32::new(0));
    cluster.on(Api::Produce, move |request| {
        let count = requests.fetch_add(1, Ordering::Relaxed);
        if count % 10 == 3 {
            let (topic, partitions) = &request.topics()[0];
            handle.move_leader(topic, partitions[0], request.node() % 3 + 1);
        }
        Action::Pass
    });
    write(&cluster, 20_000, Compression::None);
    read(&cluster, 20_000);
    let moved = (0..12).any(|partition| cluster.leader_epoch(TOPIC, partition) > 0);
    assert!(moved);
    cluster.close();
}

#[test]
fn a_producer_survives_brokers_that_crash_and_come_back() {
    let cluster = three_brokers();
    let (handle, requests) = (cluster.clone(), AtomicU32::new(0));
    cluster.on(Api::Produce, move |_| {
        match requests.fetch_add(1, Ordering::Relaxed) {
            10 => handle.crash(2),
            20 => handle.restart(2).unwrap(),
            30 => handle.crash(3),
            _ => {}
        }
        Action::Pass
    });
    write(&cluster, 20_000, Compression::None);
    cluster.restart(3).unwrap();
    read(&cluster, 20_000);
    cluster.close();
}

#[test]
fn a_reader_gets_everything_in_spite_of_faults() {
    let cluster = three_brokers();
    write(&cluster, 20_000, Compression::None);
    let (handle, requests) = (cluster.clone(), AtomicU32::new(0));
    let hook = cluster.times(12, Api::Fetch, move |_| {
        match requests.fetch_add(1, Ordering::Relaxed) {
            1 => Action::CorruptRecords,
            2 => Action::Error(70),
            3 => Action::Error(6),
            4 => Action::Disconnect,
            5 => Action::Truncate,
            6 => Action::Error(71),
            7 => {
                handle.move_leader(TOPIC, 0, 2);
                handle.move_leader(TOPIC, 1, 3);
                Action::ThenDisconnect
            }
            8 => Action::Delay(Duration::from_millis(20)),
            _ => Action::Pass,
        }
    });
    read(&cluster, 20_000);
    assert!(hook.uses() > 0);
    cluster.close();
}

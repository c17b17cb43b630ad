//! A broker that lets a Fetch wait holds nobody up.

use std::time::{Duration, Instant};

use klamm::{Client, Next, StartAt, Topics};

use super::{FETCH, LONG, connect, next, wait_for_event};
use crate::support::{Kafka, shared_behind_a_proxy, unique, wait_until};

/// As long as a broker may let a Fetch wait here; whatever takes a fifth of it has not waited for it.
const MAX_WAIT: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(2);

#[test]
fn nineteen_idle_partitions_do_not_hold_up_the_twentieth() {
    let kafka = shared_behind_a_proxy();
    let topic = unique("parked");
    kafka.create_topic(&topic, 20, &[]);
    for partition in [0, 1] {
        kafka.java_writes(&topic, partition, &["first"]);
    }
    let client = connect(&kafka.bootstrap());
    let stream = client.reader().topics([&topic]).max_wait(MAX_WAIT).open().unwrap();
    for _ in 0..2 {
        next(&stream);
    }
    let proxy = kafka.proxy(1);
    // All partitions are in one Fetch that waits: for a second nothing more is asked.
    let parked = || {
        wait_until("the lane is parked", LONG, || {
            let before = proxy.requests(FETCH);
            std::thread::sleep(Duration::from_secs(1));
            proxy.requests(FETCH) == before
        });
    };
    parked();
    let begun = Instant::now();
    client.metadata(Topics::All).unwrap();
    assert_eq!(client.offset_for(&topic, 0, StartAt::Latest).unwrap(), Some(1));
    let calls = begun.elapsed();

    // Whoever waits is told as soon as something is there, not when the broker has waited enough.
    let delivered = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let message = next(&stream);
            assert_eq!((message.partition(), message.value()), (19, Some(&b"new"[..])));
            Instant::now()
        });
        kafka.java_writes(&topic, 19, &["new"]);
        let written = Instant::now();
        reader.join().unwrap().saturating_duration_since(written)
    });

    parked();
    let begun = Instant::now();
    stream.seek((&topic, 0), StartAt::Offset(0)).unwrap();
    assert_eq!(next(&stream).partition(), 0);
    let sought = begun.elapsed();

    stream.pause([(&topic, 1)]).unwrap();
    // While it is paused the Fetch that holds it may be answered; the next ones do not ask for it.
    kafka.java_writes(&topic, 2, &["wakes the lane"]);
    assert_eq!(next(&stream).partition(), 2);
    parked();
    kafka.java_writes(&topic, 1, &["behind a pause"]);
    let begun = Instant::now();
    stream.resume([(&topic, 1)]).unwrap();
    assert_eq!(next(&stream).value(), Some(&b"behind a pause"[..]));
    let resumed = begun.elapsed();
    println!("calls {calls:?}, a new record {delivered:?}, seek {sought:?}, resume {resumed:?}");
    for (what, time) in [
        ("calls", calls),
        ("a record", delivered),
        ("a seek", sought),
        ("a resume", resumed),
    ] {
        assert!(time < SOON, "{what} took {time:?}");
    }
}

/// Seventeen partitions that stand still, of each kind, and one that is read: against that one alone, in turn.
#[test]
fn seventeen_parked_partitions_do_not_slow_down_the_eighteenth() {
    const RECORDS: usize = 1_000_000;
    let kafka = Kafka::builder().start();
    let topic = unique("eighteen");
    kafka.create_topic(&topic, 18, &[]);
    // 0 to 5 stay empty, 6 to 11 are paused, 12 to 16 are full, and 17 is read.
    let filled = unique("eighteenth");
    kafka.create_topic(&filled, 1, &[]);
    kafka.fill(&topic, 18, 18 * 10_000, "none", 500);
    for partition in 0..6 {
        kafka.delete_records(&topic, partition, 10_000);
    }
    kafka.fill(&filled, 1, RECORDS, "none", 100);
    let client = connect(&kafka.bootstrap());
    let rate = |is_alone: bool| {
        let mut partitions = vec![(filled.as_str(), 0)];
        if !is_alone {
            partitions.extend((0..17).map(|partition| (topic.as_str(), partition)));
        }
        let reader = client.reader().partitions(partitions.clone());
        // Two answers, as the defaults are, but smaller: the full ones shall be full.
        let reader = reader.prefetch_bytes(4 << 20).partition_max_bytes(2 << 20);
        let stream = reader.max_wait(Duration::from_secs(1)).open().unwrap();
        stream.pause(partitions.iter().copied()).unwrap();
        let mut held = Vec::new();
        if !is_alone {
            for partition in 12..17 {
                stream.resume([(&topic, partition)]).unwrap();
                let mut iter = stream.iter();
                match iter.next_timeout(LONG).unwrap() {
                    Next::Message(message) => assert_eq!(message.partition(), partition),
                    other => panic!("{other:?}"),
                }
                // This iterator keeps what it has, and asks for no more.
                held.push(iter);
            }
            stream.resume((0..6).map(|partition| (&topic, partition))).unwrap();
        }
        stream.resume([(&filled, 0)]).unwrap();
        let mut iter = stream.iter();
        let mut count = 0;
        let begun = Instant::now();
        while count < RECORDS {
            match iter.next_timeout(LONG).unwrap() {
                Next::Message(message) if message.topic() == filled => count += 1,
                Next::Message(message) => panic!("{message:?}"),
                other => panic!("{other:?} after {count}; {:?}", stream.health()),
            }
        }
        RECORDS as f64 / begun.elapsed().as_secs_f64()
    };
    rate(true); // warm
    let mut ratios: Vec<f64> = (0..5).map(|_| rate(true)).map(|alone| rate(false) / alone).collect();
    ratios.sort_by(f64::total_cmp);
    println!("beside seventeen, of the rate alone: {ratios:.2?}");
    assert!(ratios[2] > 0.6, "{ratios:.2?}");
}

/// An idle stream asks no more often than it must: once per `max_wait` and connection.
#[test]
fn two_hundred_idle_partitions_cost_one_fetch_at_a_time() {
    let kafka = shared_behind_a_proxy();
    let topic = unique("quiet");
    kafka.create_topic(&topic, 200, &[]);
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let stream = client
        .reader()
        .topics([&topic])
        .max_wait(Duration::from_millis(500))
        .open()
        .unwrap();
    let mut assigned = 0;
    while assigned < 200 {
        wait_for_event(&stream, "Assigned", |event| {
            matches!(event, klamm::Event::Assigned { .. }).then_some(())
        });
        assigned += 1;
    }
    let proxy = kafka.proxy(1);
    std::thread::sleep(Duration::from_secs(2)); // the session takes them all in
    let (before, bytes) = (proxy.requests(FETCH), proxy.passed(crate::support::Direction::ToBroker));
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(6));
    let fetches = proxy.requests(FETCH) - before;
    let bytes = proxy.passed(crate::support::Direction::ToBroker) - bytes;
    let polls = begun.elapsed().as_secs_f64() / 0.5;
    println!(
        "{fetches} Fetches, {bytes} bytes in {polls:.1} times max_wait; {} connections",
        proxy.open()
    );
    assert!(
        (fetches as f64) < polls + 3.0,
        "{fetches} Fetches in {polls:.1} times max_wait"
    );
    assert!(fetches > 0, "it still asks");
    assert!(
        bytes < 200 * (fetches + 1),
        "the session is told everything again: {bytes} bytes"
    );
    assert!(proxy.open() <= 3, "{} connections", proxy.open());
}

//! Fetch sessions, and brokers that have no room for them or want us to be slower.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use klamm::{Client, Iter, Next};

use crate::support::{Fate, Kafka, Proxy, shared_behind_a_proxy, unique, wait_until};

const FETCH: i16 = 1;
const LONG: Duration = Duration::from_secs(60);

/// Reads so many messages, and checks that each partition's come in order and without a gap.
fn read(messages: &mut Iter<'_>, count: usize, next: &mut BTreeMap<i32, i64>) {
    for at in 0..count {
        match messages.next_timeout(LONG).unwrap() {
            Next::Message(message) => {
                let expected = next.entry(message.partition()).or_insert(0);
                assert_eq!(message.offset(), *expected, "partition {}", message.partition());
                *expected += 1;
            }
            other => panic!("{other:?} after {at} of {count}"),
        }
    }
}

#[test]
fn more_streams_than_the_broker_has_sessions_for_all_read_everything_without_a_hot_loop() {
    let kafka = Kafka::builder()
        .behind_proxies()
        .property("max.incremental.fetch.session.cache.slots", 2)
        .start();
    let topic = unique("sessions");
    kafka.create_topic(&topic, 4, &[]);
    kafka.fill(&topic, 4, 4000, "none", 50);
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let streams: Vec<_> = (0..5)
        .map(|_| client.reader().topics([&topic]).open().unwrap())
        .collect();
    let mut places: Vec<_> = streams.iter().map(|stream| (stream.iter(), BTreeMap::new())).collect();
    for (messages, next) in &mut places {
        read(messages, 4000, next);
    }
    // All idle now: a long poll each, and not more.
    let before = kafka.proxy(1).requests(FETCH);
    for (messages, _) in &mut places {
        assert!(matches!(
            messages.next_timeout(Duration::from_millis(500)).unwrap(),
            Next::TimedOut
        ));
    }
    let polls = kafka.proxy(1).requests(FETCH) - before;
    assert!(
        polls < 100,
        "{polls} Fetches by five idle streams in two and a half seconds"
    );
    kafka.fill_from(4000, &topic, 4, 400, "none", 50);
    for (messages, next) in &mut places {
        read(messages, 400, next);
    }
    assert!(streams.iter().all(|stream| stream.health().is_healthy()));
}

#[test]
fn idle_partitions_cost_one_fetch_for_each_long_poll_and_are_not_named_again() {
    let kafka = shared_behind_a_proxy();
    let topic = unique("idle");
    kafka.create_topic(&topic, 50, &[]);
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let longest = Arc::new(AtomicU64::new(0));
    let settled = Arc::new(AtomicBool::new(false));
    {
        let (longest, settled) = (Arc::clone(&longest), Arc::clone(&settled));
        kafka.proxy(1).on_request(move |asked, frame| {
            if asked.api_key == FETCH && settled.load(Ordering::Relaxed) {
                longest.fetch_max(frame.len() as u64, Ordering::Relaxed);
            }
            Fate::Forward
        });
    }
    let stream = client.reader().topics([&topic]).open().unwrap();
    let mut messages = stream.iter();
    // Every partition is known and empty.
    stream.position(stream.assignment()).unwrap();
    assert!(matches!(
        messages.next_timeout(Duration::from_secs(2)).unwrap(),
        Next::TimedOut
    ));
    settled.store(true, Ordering::Relaxed);
    let fetches = |proxy: &Proxy| proxy.requests(FETCH);
    let before = fetches(kafka.proxy(1));
    assert!(matches!(
        messages.next_timeout(Duration::from_secs(3)).unwrap(),
        Next::TimedOut
    ));
    let polls = fetches(kafka.proxy(1)) - before;
    assert!(
        (1..=20).contains(&polls),
        "{polls} Fetches in three seconds, with a max_wait of half a second"
    );
    // A request that names fifty partitions is over a kilobyte long; one that names none is not.
    let longest = longest.load(Ordering::Relaxed);
    assert!((1..200).contains(&longest), "an idle Fetch of {longest} bytes");
    // And a record on one of them comes at once, not after the others' turn.
    kafka.java_writes(&topic, 37, &["here"]);
    match messages.next_timeout(LONG).unwrap() {
        Next::Message(message) => assert_eq!((message.partition(), message.value()), (37, Some(&b"here"[..]))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reader_that_the_broker_throttles_reads_on_slowly_and_completely() {
    let kafka = Kafka::builder().start();
    let topic = unique("throttled");
    kafka.create_topic(&topic, 2, &[]);
    kafka.fill(&topic, 2, 20_000, "none", 200);
    kafka.config_command(&[
        "--alter",
        "--entity-type",
        "clients",
        "--entity-default",
        "--add-config",
        "consumer_byte_rate=1000000",
    ]);
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let stream = client
        .reader()
        .topics([&topic])
        .partition_max_bytes(200_000)
        .max_bytes(400_000)
        .open()
        .unwrap();
    let mut next = BTreeMap::new();
    read(&mut stream.iter(), 20_000, &mut next);
    wait_until("a healthy stream", LONG, || stream.health().is_healthy());
}

//! A program that takes nothing is told of, and nothing else happens to it.

use std::time::Duration;

use klamm::{Client, ErrorKind, Event, Health, Next};

use crate::support::{shared, unique, wait_until};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_partition_that_the_program_does_not_touch_is_told_of_once_and_goes_on_where_it_was() {
    let kafka = shared();
    let topic = unique("stalls");
    kafka.create_topic(&topic, 1, &[]);
    kafka.fill(&topic, 1, 10, "none", 20);
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let reader = client.reader().topics([&topic]).stall_after(Duration::from_millis(400));
    let stream = reader.open().unwrap();
    let events = stream.events();
    let mut messages = stream.iter();
    let mut read = |expected: i64| match messages.next_timeout(LONG).unwrap() {
        Next::Message(message) => assert_eq!(message.offset(), expected),
        other => panic!("{other:?}"),
    };
    read(0);
    read(1);
    wait_until("a stall in health", LONG, || !stream.health().is_healthy());
    let Health::Unhealthy(problems) = stream.health() else {
        panic!("it has recovered by itself")
    };
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].age >= Duration::from_millis(400));
    assert!(
        problems[0].error.to_string().contains("taken nothing"),
        "{}",
        problems[0].error
    );
    let stalls = || {
        std::iter::from_fn(|| events.try_next())
            .filter_map(|event| match event {
                Event::Stalled { partition, oldest, .. } => Some((partition.partition(), oldest)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let mut told = Vec::new();
    wait_until("the event", LONG, || {
        told.extend(stalls());
        !told.is_empty()
    });
    read(2);
    assert!(stream.health().is_healthy(), "{:?}", stream.health());
    told.extend(stalls());
    assert_eq!(told, [(0, 2)], "once, with where the program stands");
}

#[test]
fn a_partition_whose_start_has_failed_has_no_position_but_an_error() {
    let kafka = shared();
    let topic = unique("startless");
    kafka.create_topic(&topic, 1, &[]);
    let client = Client::builder()
        .bootstrap(kafka.bootstrap())
        .unknown_topic_ttl(Duration::from_millis(300))
        .metadata_max_age(Duration::from_millis(200))
        .connect()
        .unwrap();
    let stream = client.reader().topics([&topic]).open().unwrap();
    kafka.delete_topic(&topic);
    let error = loop {
        match stream.iter().next_timeout(LONG) {
            Ok(Next::TimedOut | Next::Ended) => panic!("nobody has told that the topic is gone"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    // It stood at offset 0, or nowhere yet when the topic went away at once.
    match stream.position([(&topic, 0)]) {
        Ok(position) => assert_eq!(position[&(&topic, 0).into()], 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}"),
    }
}

#[test]
fn reading_to_the_end_ends_when_the_rest_is_deleted_meanwhile() {
    let kafka = shared();
    let topic = unique("shrunk");
    kafka.create_topic(&topic, 1, &[]);
    kafka.fill(&topic, 1, 2000, "none", 1000);
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let reader = client
        .reader()
        .topics([&topic])
        .prefetch_bytes(100_000)
        .partition_max_bytes(20_000);
    let stream = reader.until_end().open().unwrap();
    let mut messages = stream.iter();
    assert!(matches!(messages.next_timeout(LONG).unwrap(), Next::Message(message) if message.offset() == 0));
    kafka.delete_records(&topic, 0, 2000);
    let mut last = 0;
    loop {
        match messages.next_timeout(LONG).unwrap() {
            Next::Message(message) => {
                assert_eq!(message.offset(), last + 1, "what was prefetched is given");
                last = message.offset();
            }
            Next::Ended => break,
            other => panic!("{other:?} behind offset {last}"),
        }
    }
    assert!(last < 1999, "everything had been prefetched, so that nothing was shown");
    let reset = stream
        .events()
        .any(|event| matches!(event, Event::OffsetReset { to: 2000, .. }));
    assert!(reset, "the rest was not left out in silence");
}

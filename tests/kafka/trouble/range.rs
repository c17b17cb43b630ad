//! Positions outside of the log: what each policy does, and what it tells.

use std::time::Duration;

use klamm::{Client, ErrorKind, Event, Next, OutOfRange, StartAt, Stream};

use super::{LONG, connect, next, texts, wait_for_event};
use crate::support::{Kafka, shared, unique};

/// Partition 0 of a topic holds offsets 50 to 99.
fn topic_from_fifty(kafka: &Kafka, partitions: usize) -> String {
    let topic = unique("range");
    kafka.create_topic(&topic, partitions, &[]);
    kafka.fill(&topic, partitions, 100 * partitions, "none", 10);
    kafka.delete_records(&topic, 0, 50);
    topic
}

fn open(client: &Client, topic: &str, at: i64, policy: OutOfRange) -> Stream {
    let reader = client.reader().partitions([(topic, 0)]);
    reader
        .start_at(StartAt::Offset(at))
        .out_of_range(policy)
        .open()
        .unwrap()
}

/// (from, to, skipped)
fn reset(stream: &Stream) -> (i64, i64, u64) {
    wait_for_event(stream, "OffsetReset", |event| match event {
        Event::OffsetReset { from, to, skipped, .. } => Some((*from, *to, *skipped)),
        _ => None,
    })
}

#[test]
fn each_policy_goes_where_it_says_and_tells_both_offsets() {
    let kafka = shared();
    let topic = topic_from_fifty(kafka, 1);
    let client = connect(&kafka.bootstrap());
    let cases = [
        (5, OutOfRange::Nearest, (5, 50, 45)),
        (5, OutOfRange::Earliest, (5, 50, 45)),
        (5, OutOfRange::Latest, (5, 100, 95)),
        (1000, OutOfRange::Nearest, (1000, 100, 0)),
        (1000, OutOfRange::Earliest, (1000, 50, 0)),
        (1000, OutOfRange::Latest, (1000, 100, 0)),
    ];
    let mut ends = Vec::new();
    for (at, policy, told) in cases {
        let stream = open(&client, &topic, at, policy);
        assert_eq!(reset(&stream), told, "{policy:?} from {at}");
        assert_eq!(
            stream.position([(&topic, 0)]).unwrap().into_values().next(),
            Some(told.1)
        );
        assert!(stream.health().is_healthy());
        match told.1 {
            50 => {
                let message = next(&stream);
                assert_eq!((message.offset(), super::number(&message)), (50, 50));
            }
            _ => ends.push(stream),
        }
    }
    kafka.java_writes(&topic, 0, &["more"]);
    for stream in &ends {
        assert_eq!(next(stream).offset(), 100);
    }
}

/// Exactly at the end is no trouble, and neither is the first offset that is left.
#[test]
fn the_edges_of_the_log_are_in_range() {
    let kafka = shared();
    let topic = topic_from_fifty(kafka, 1);
    let client = connect(&kafka.bootstrap());
    let at_end = open(&client, &topic, 100, OutOfRange::Fail);
    let at_start = open(&client, &topic, 50, OutOfRange::Fail);
    assert_eq!(next(&at_start).offset(), 50);
    kafka.java_writes(&topic, 0, &["more"]);
    assert_eq!(next(&at_end).offset(), 100);
}

#[test]
fn under_fail_one_partition_waits_for_a_seek_and_the_others_go_on() {
    let kafka = shared();
    let client = connect(&kafka.bootstrap());
    for at in [5, 1000] {
        let topic = topic_from_fifty(kafka, 2);
        let reader = client.reader().topics([&topic]).out_of_range(OutOfRange::Fail);
        let stream = reader.start_at(StartAt::Offset(50)).open().unwrap();
        let mut iter = stream.iter();
        let mut counts = [0, 0];
        while counts != [50, 50] {
            match iter.next_timeout(LONG).unwrap() {
                Next::Message(message) => counts[message.partition() as usize] += 1,
                other => panic!("{other:?}"),
            }
        }
        stream.seek((&topic, 0), StartAt::Offset(at)).unwrap();
        let error = match iter.next_timeout(LONG) {
            Err(error) => error,
            other => panic!("{other:?} after a seek to {at}"),
        };
        assert_eq!(
            (error.kind(), error.partition()),
            (ErrorKind::OutOfRange, Some(0)),
            "{error}"
        );
        assert!(error.to_string().contains(&at.to_string()), "{error}");
        let klamm::Health::Unhealthy(problems) = stream.health() else {
            panic!("it is not healthy")
        };
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].partition, Some((&topic, 0).into()));
        // Once, and the other partition is none the worse.
        let end = kafka.java_writes(&topic, 1, &["goes on"])[0];
        match iter.next_timeout(LONG) {
            Ok(Next::Message(message)) => assert_eq!((message.partition(), message.offset()), (1, end)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            iter.next_timeout(Duration::from_millis(300)),
            Ok(Next::TimedOut)
        ));
        stream.seek((&topic, 0), StartAt::Offset(98)).unwrap();
        match iter.next_timeout(LONG) {
            Ok(Next::Message(message)) => assert_eq!((message.partition(), message.offset()), (0, 98)),
            other => panic!("{other:?}"),
        }
        assert!(stream.health().is_healthy(), "{:?}", stream.health());
    }
}

/// What was prefetched is given out; then comes what is left.
#[test]
fn records_deleted_in_front_of_a_slow_program_are_passed_over() {
    let kafka = shared();
    let topic = unique("deleted");
    kafka.create_topic(&topic, 1, &[]);
    // A batch each, so that one answer is one record.
    let values: Vec<String> = (0..200).map(|n| format!("v-{n}")).collect();
    kafka.java_writes(&topic, 0, &values.iter().map(String::as_str).collect::<Vec<_>>());
    let client = connect(&kafka.bootstrap());
    let stream = client
        .reader()
        .topics([&topic])
        .prefetch_count(5)
        .partition_max_bytes(100)
        .open()
        .unwrap();
    assert_eq!(texts(&stream, 10), values[..10]);
    kafka.delete_records(&topic, 0, 150);
    let mut iter = stream.iter();
    let mut last = 9;
    loop {
        match iter.next_timeout(LONG).unwrap() {
            Next::Message(message) => {
                assert_eq!(message.value(), Some(values[message.offset() as usize].as_bytes()));
                if message.offset() != last + 1 {
                    assert_eq!(message.offset(), 150);
                    break;
                }
                last = message.offset();
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(last < 60, "{last}: it was not so far");
    assert_eq!(reset(&stream), (last + 1, 150, (150 - last - 1) as u64));
    assert!(stream.health().is_healthy());
}

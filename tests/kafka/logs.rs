//! Logs with holes, many segments, missing heads, and partitions that come later.

use std::time::Duration;

use klamm::{Client, Event, Isolation, Next, OutOfRange, StartAt};

use crate::reading::{
    LONG, assert_lag_becomes_0, assert_silent, client, next, numbered, offsets, position, reader, text, to_end, topic,
};
use crate::support::{shared, unique};

#[test]
fn holes_at_head_middle_and_tail_of_a_compacted_topic_are_passed() {
    let topic = unique("holes");
    let left = shared().create_compacted_topic(&topic);
    let ends = shared().offsets(&topic)[0];
    assert!(left[0].offset > ends.earliest && left[6].offset + 1 < ends.latest);
    let left: Vec<(i64, String)> = left.iter().map(|record| (record.offset, record.text())).collect();
    let client = client();
    let ending = reader(&client, &topic).until_end().open().expect("a topic");
    assert_eq!(numbered(&to_end(&ending)), left);

    let stream = reader(&client, &topic).open().expect("a topic");
    let mut iter = stream.iter();
    for wanted in &left {
        let message = next(&mut iter);
        assert_eq!((message.offset(), text(message.value())), *wanted);
    }
    assert_lag_becomes_0(&stream, &mut iter);
    assert_eq!(position(&stream, &topic, 0), ends.latest);
    // From each offset, in a hole or not, to what comes behind it.
    for from in ends.earliest..=ends.latest {
        stream.seek((&topic, 0), StartAt::Offset(from)).expect("an open stream");
        for wanted in left.iter().filter(|(offset, _)| *offset >= from) {
            assert_eq!(next(&mut iter).offset(), wanted.0, "from {from} on");
        }
        assert_lag_becomes_0(&stream, &mut iter);
    }
    let java: Vec<_> = shared()
        .java_reads(&topic, 100)
        .iter()
        .map(|record| record.offset)
        .collect();
    let uncommitted = reader(&client, &topic)
        .isolation(Isolation::ReadUncommitted)
        .until_end()
        .open()
        .expect("a topic");
    assert_eq!(offsets(&to_end(&uncommitted)), java);
}

#[test]
fn a_topic_of_many_segments_is_read_across_their_borders() {
    let topic = topic("segments", 1, &[("segment.bytes", "1048576")]);
    shared().fill(&topic, 1, 30_000, "none", 250);
    let stream = reader(&client(), &topic).until_end().open().expect("a topic");
    assert!(offsets(&to_end(&stream)).into_iter().eq(0..30_000));
    // An answer of the broker ends with its segment: starting anywhere is the same.
    let stream = reader(&client(), &topic).open().expect("a topic");
    let mut iter = stream.iter();
    for from in (0..30_000).step_by(1777) {
        stream.seek((&topic, 0), StartAt::Offset(from)).expect("an open stream");
        for wanted in from..(from + 10).min(30_000) {
            assert_eq!(next(&mut iter).offset(), wanted);
        }
    }
}

#[test]
fn earliest_begins_behind_deleted_records() {
    let topic = topic("deleted", 1, &[]);
    shared().fill(&topic, 1, 1000, "lz4", 20);
    shared().delete_records(&topic, 0, 137);
    let client = client();
    let stream = reader(&client, &topic).until_end().open().expect("a topic");
    assert_eq!(position(&stream, &topic, 0), 137);
    assert!(offsets(&to_end(&stream)).into_iter().eq(137..1000));
    // All of them: the first is the next that will be.
    shared().delete_records(&topic, 0, -1);
    let stream = reader(&client, &topic).open().expect("a topic");
    let mut iter = stream.iter();
    assert_lag_becomes_0(&stream, &mut iter);
    assert_eq!(position(&stream, &topic, 0), 1000);
    shared().java_writes(&topic, 0, &["next"]);
    assert_eq!(next(&mut iter).offset(), 1000);
}

#[test]
fn a_start_outside_of_the_log_goes_where_out_of_range_says_and_tells() {
    let topic = topic("outside", 1, &[]);
    shared().fill(&topic, 1, 100, "none", 20);
    shared().delete_records(&topic, 0, 40);
    let client = client();
    let begin = |start, policy| {
        reader(&client, &topic)
            .start_at(StartAt::Offset(start))
            .out_of_range(policy)
            .open()
            .expect("a topic")
    };
    for (start, policy, wanted) in [
        (5, OutOfRange::Nearest, 40),
        (5, OutOfRange::Earliest, 40),
        (5, OutOfRange::Latest, 100),
        (500, OutOfRange::Nearest, 100),
        (500, OutOfRange::Earliest, 40),
        (500, OutOfRange::Latest, 100),
    ] {
        let stream = begin(start, policy);
        let events = stream.events();
        let mut iter = stream.iter();
        let reset = std::iter::from_fn(|| events.next_timeout(LONG)).find_map(|event| match event {
            Event::OffsetReset { from, to, skipped, .. } => Some((from, to, skipped)),
            _ => None,
        });
        let skipped = u64::try_from(wanted - start).unwrap_or(0);
        assert_eq!(reset, Some((start, wanted, skipped)), "{policy:?}");
        if wanted < 100 {
            assert_eq!(next(&mut iter).offset(), wanted);
        } else {
            assert_silent(&mut iter);
        }
    }
    let stream = begin(500, OutOfRange::Fail);
    let mut iter = stream.iter();
    let error = iter.next_timeout(LONG).expect_err("500 is outside");
    assert_eq!(error.kind(), klamm::ErrorKind::OutOfRange);
    assert_eq!((error.topic(), error.partition()), (Some(&*topic), Some(0)));
    assert!(!stream.health().is_healthy());
    assert!(
        matches!(iter.next_timeout(Duration::ZERO), Ok(Next::TimedOut)),
        "it is told once"
    );
    stream.seek((&topic, 0), StartAt::Offset(99)).expect("an open stream");
    assert_eq!(next(&mut iter).offset(), 99);
    assert!(stream.health().is_healthy());
}

#[test]
fn a_partition_that_comes_later_is_read_from_its_first_record() {
    let topic = topic("growing", 2, &[]);
    shared().fill(&topic, 2, 20, "none", 10);
    let client = Client::builder()
        .bootstrap(shared().bootstrap())
        .metadata_max_age(Duration::from_secs(2))
        .connect()
        .expect("the shared broker answers");
    let stream = reader(&client, &topic)
        .start_at(StartAt::Latest)
        .open()
        .expect("a topic");
    assert_eq!([0, 1].map(|partition| position(&stream, &topic, partition)), [10, 10]);
    let mut iter = stream.iter();
    let mut was_first = false;
    // Records that are there before the partition is noticed: with luck the first time.
    for added in 2..7 {
        shared().grow_topic(&topic, added + 1);
        let added = i32::try_from(added).expect("small");
        shared().java_writes(&topic, added, &["first", "second"]);
        was_first |= stream.assignment().len() == added as usize;
        for wanted in ["first", "second"] {
            let message = next(&mut iter);
            assert_eq!((message.partition(), text(message.value()).as_str()), (added, wanted));
        }
        assert_eq!(stream.assignment().len(), added as usize + 1);
        if was_first {
            break;
        }
    }
    assert!(was_first, "records were written before the partition was noticed");
    shared().java_writes(&topic, 0, &["old partition"]);
    let message = next(&mut iter);
    assert_eq!((message.partition(), message.offset()), (0, 10));
    assert_lag_becomes_0(&stream, &mut iter);
}

//! Where a group begins and goes on: what was committed, what was not, and what cannot be told at the moment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, AtomicUsize, Ordering};
use std::time::Duration;

use kafka_protocol::messages::OffsetFetchResponse;
use klamm::{ErrorKind, Event, GroupBuilder, Next, OutOfRange, StartAt, Stream};

use super::brokers::{
    HEARTBEAT, LONG, OFFSET_FETCH, committed, connect, drain, edit, next, texts, troubles, wait_for_event,
    wait_until_assigned,
};
use crate::support::{Committed, Fate, shared, shared_behind_a_proxy, unique, wait_until};

/// Where each partition was begun, of these events.
fn beginnings(events: &[Event]) -> Vec<(i32, i64)> {
    let mut beginnings: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Assigned {
                partition, position, ..
            } => Some((partition.partition(), *position)),
            _ => None,
        })
        .collect();
    beginnings.sort_unstable();
    beginnings
}

/// The whole answer is an error, or that of one partition.
#[test]
fn a_member_that_cannot_be_told_what_was_committed_waits_and_never_begins_elsewhere() {
    let kafka = shared_behind_a_proxy();
    let proxy = kafka.proxy(1);
    let topic = unique("untold");
    kafka.create_topic(&topic, 2, &[]);
    kafka.fill(&topic, 2, 200, "none", 10);
    let code = Arc::new(AtomicI16::new(0));
    let is_whole = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    proxy.on_answer({
        let (code, is_whole, refused) = (Arc::clone(&code), Arc::clone(&is_whole), Arc::clone(&refused));
        move |asked, frame| {
            let code = code.load(Ordering::SeqCst);
            if asked.api_key == OFFSET_FETCH && code != 0 {
                refused.fetch_add(1, Ordering::SeqCst);
                edit(asked, frame, |answer: &mut OffsetFetchResponse| {
                    for group in &mut answer.groups {
                        if is_whole.load(Ordering::SeqCst) == 1 {
                            group.error_code = code;
                            group.topics.clear();
                            continue;
                        }
                        let partitions = group.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                        for partition in partitions.filter(|partition| partition.partition_index == 1) {
                            partition.error_code = code;
                            partition.committed_offset = -1;
                        }
                    }
                });
            }
            Fate::Forward
        }
    });
    // The coordinator loads, has moved, is not available, is in a transaction; or has stumbled.
    for (error, whole) in [
        (14, true),
        (16, true),
        (15, true),
        (88, false),
        (14, false),
        (-1, false),
    ] {
        let group = unique("untold");
        for partition in 0..2 {
            kafka.commit(&group, &topic, partition, 40);
        }
        code.store(error, Ordering::SeqCst);
        is_whole.store(usize::from(whole), Ordering::SeqCst);
        refused.store(0, Ordering::SeqCst);
        let client = connect(&kafka.bootstrap());
        let stream = client
            .group(&group)
            .topics([&topic])
            .start_at(StartAt::Latest)
            .session_timeout(Duration::from_secs(60))
            .heartbeat_interval(Duration::from_millis(300))
            .commit_interval(Duration::from_millis(200))
            .join()
            .unwrap();
        if !whole {
            // The other partition is none the worse.
            let mut iter = stream.iter();
            for offset in 40..100 {
                match iter.next_timeout(LONG) {
                    Ok(Next::Message(message)) => {
                        assert_eq!((message.partition(), message.offset()), (0, offset));
                        message.ack();
                    }
                    other => panic!("{other:?} with {error}; {:?}", stream.health()),
                }
            }
        }
        wait_until("many questions", LONG, || refused.load(Ordering::SeqCst) >= 5);
        let heartbeats = proxy.requests(HEARTBEAT);
        assert!(matches!(
            stream.iter().next_timeout(Duration::from_secs(2)),
            Ok(Next::TimedOut)
        ));
        wait_until("heartbeats go on", LONG, || proxy.requests(HEARTBEAT) >= heartbeats + 3);
        let told = troubles(&stream);
        assert!(
            told.iter().any(|told| told.code() == Some(error)) || matches!(error, -1 | 15 | 16),
            "{error}: {told:?}"
        );
        let asked = refused.load(Ordering::SeqCst);
        println!("{error} (as a whole: {whole}): asked {asked} times");
        assert!(asked < 60, "asked {asked} times");
        code.store(0, Ordering::SeqCst);
        let mut left: BTreeSet<(i32, i64)> = (40..100).map(|offset| (1, offset)).collect();
        if whole {
            left.extend((40..100).map(|offset| (0, offset)));
        }
        let mut iter = stream.iter();
        while !left.is_empty() {
            match iter.next_timeout(LONG) {
                Ok(Next::Message(message)) => {
                    assert!(left.remove(&(message.partition(), message.offset())), "{message:?}");
                    message.ack();
                }
                other => panic!("{other:?} after {error}: {left:?}; {:?}", stream.health()),
            }
        }
        drop(iter);
        wait_until("health", LONG, || stream.health().is_healthy());
        let events = drain(&stream);
        assert_eq!(beginnings(&events), [(0, 40), (1, 40)], "{error}");
        let rebalances = events.iter().filter(|event| matches!(event, Event::Rebalanced { .. }));
        assert_eq!(rebalances.count(), 1, "{error}: {events:?}");
        stream.close(LONG).unwrap();
        assert_eq!(committed(&kafka, &group), 200);
    }
}

fn latest(group: &str, topic: &str) -> GroupBuilder {
    connect(&shared().bootstrap())
        .group(group)
        .topics([topic])
        .start_at(StartAt::Latest)
}

/// Both partitions of a topic with ten records each.
fn at(topic: &str, offset: i64) -> Committed {
    (0..2).map(|partition| ((topic, partition).into(), offset)).collect()
}

fn topic_of_ten() -> String {
    let topic = unique("begin");
    shared().create_topic(&topic, 2, &[]);
    shared().fill(&topic, 2, 20, "none", 10);
    topic
}

/// "The end" is decided once: what is written while the group is away is not skipped.
#[test]
fn a_group_that_began_at_the_end_and_handled_nothing_misses_nothing_after_a_restart() {
    let kafka = shared();
    let (topic, group) = (topic_of_ten(), unique("begin"));
    let stream = latest(&group, &topic).join().unwrap();
    wait_until_assigned(&stream, 2);
    // Where it begins is known.
    assert_eq!(
        stream
            .position([(&topic, 0), (&topic, 1)])
            .unwrap()
            .values()
            .sum::<i64>(),
        20
    );
    let report = stream.close(LONG).unwrap();
    assert!(report.left_group && report.uncommitted.is_empty(), "{report:?}");
    assert_eq!(kafka.committed_offsets(&group), at(&topic, 10));
    kafka.fill_from(10, &topic, 2, 20, "none", 10);
    let stream = latest(&group, &topic).join().unwrap();
    let found: BTreeSet<i64> = (0..20).map(|_| next(&stream)).collect();
    assert_eq!(found, (10..20).collect());
    stream.close(LONG).unwrap();
    assert_eq!(kafka.committed_offsets(&group), at(&topic, 20));
}

/// The same without an orderly end: by the first commit.
#[test]
fn the_end_where_a_group_began_is_committed_while_it_waits() {
    let kafka = shared();
    let (topic, group) = (topic_of_ten(), unique("begin"));
    let stream = latest(&group, &topic)
        .commit_interval(Duration::from_millis(100))
        .join()
        .unwrap();
    wait_until("the start is committed", LONG, || {
        kafka.committed_offsets(&group) == at(&topic, 10)
    });
    // What comes then and is in hand is not.
    kafka.fill_from(10, &topic, 2, 20, "none", 10);
    let mut iter = stream.iter();
    let held = iter.next_timeout(LONG).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    stream.commit(LONG).unwrap();
    assert_eq!(kafka.committed_offsets(&group), at(&topic, 10));
    drop((held, iter));
    stream.close(LONG).unwrap();
    assert_eq!(kafka.committed_offsets(&group), at(&topic, 10));
}

#[test]
fn a_group_without_a_commit_begins_where_it_is_told_and_one_with_a_commit_there() {
    let kafka = shared();
    let topic = topic_of_ten();
    for (start, first) in [
        (StartAt::Earliest, 0),
        (StartAt::Offset(3), 3),
        (StartAt::Latest, 10),
        (StartAt::Ago(Duration::from_secs(3600)), 0),
    ] {
        let group = unique("begin");
        // One partition has a commit.
        kafka.commit(&group, &topic, 1, 7);
        let client = connect(&kafka.bootstrap());
        let stream = client.group(&group).topics([&topic]).start_at(start).join().unwrap();
        wait_until_assigned(&stream, 2);
        let positions = stream.position([(&topic, 0), (&topic, 1)]).unwrap();
        assert_eq!(positions[&(&topic, 0).into()], first, "{start:?}");
        assert_eq!(positions[&(&topic, 1).into()], 7, "{start:?}");
        stream.close(LONG).unwrap();
        let mut expected = at(&topic, 7);
        match first {
            // The first record there is means the same after a restart.
            0 if start == StartAt::Earliest => drop(expected.remove(&(&topic, 0).into())),
            _ => drop(expected.insert((&topic, 0).into(), first)),
        }
        assert_eq!(kafka.committed_offsets(&group), expected, "{start:?}");
    }
}

/// Partition 0 holds offsets 50 to 99, partition 1 0 to 99; the group stands at these offsets.
fn out_of_range(at: i64, policy: OutOfRange) -> (String, String, Stream) {
    let kafka = shared();
    let (topic, group) = (unique("range"), unique("range"));
    kafka.create_topic(&topic, 2, &[]);
    kafka.fill(&topic, 2, 200, "none", 10);
    kafka.delete_records(&topic, 0, 50);
    kafka.commit(&group, &topic, 0, at);
    kafka.commit(&group, &topic, 1, 90);
    let client = connect(&kafka.bootstrap());
    let stream = client
        .group(&group)
        .topics([&topic])
        .out_of_range(policy)
        .join()
        .unwrap();
    (topic, group, stream)
}

/// (from, to, skipped)
fn reset(stream: &Stream) -> (i64, i64, u64) {
    wait_for_event(stream, "OffsetReset", |event| match event {
        Event::OffsetReset { from, to, skipped, .. } => Some((*from, *to, *skipped)),
        _ => None,
    })
}

#[test]
fn a_group_whose_commit_is_outside_of_the_log_goes_on_as_its_policy_says() {
    let kafka = shared();
    for (at, policy, told) in [
        (5, OutOfRange::Nearest, (5, 50, 45)),
        (5, OutOfRange::Earliest, (5, 50, 45)),
        (5, OutOfRange::Latest, (5, 100, 95)),
        (1000, OutOfRange::Nearest, (1000, 100, 0)),
        (1000, OutOfRange::Earliest, (1000, 50, 0)),
        (1000, OutOfRange::Latest, (1000, 100, 0)),
    ] {
        let (topic, group, stream) = out_of_range(at, policy);
        assert_eq!(reset(&stream), told, "{policy:?} from {at}");
        kafka.fill_from(100, &topic, 2, 20, "none", 10);
        let mut left: BTreeSet<(i32, i64)> = (told.1..110).map(|offset| (0, offset)).collect();
        left.extend((90..110).map(|offset| (1, offset)));
        let mut iter = stream.iter();
        while !left.is_empty() {
            match iter.next_timeout(LONG) {
                Ok(Next::Message(message)) => {
                    assert!(
                        left.remove(&(message.partition(), message.offset())),
                        "{policy:?} from {at}: {message:?}"
                    );
                }
                other => panic!("{policy:?} from {at}: {other:?}, {left:?}; {:?}", stream.health()),
            }
        }
        assert!(matches!(iter.next_timeout(Duration::ZERO), Ok(Next::TimedOut)));
        stream.commit(LONG).unwrap();
        assert!(stream.health().is_healthy(), "{:?}", stream.health());
        let expected: Committed = (0..2).map(|partition| ((&*topic, partition).into(), 110)).collect();
        assert_eq!(kafka.committed_offsets(&group), expected, "{policy:?} from {at}");
        let resets = drain(&stream)
            .into_iter()
            .filter(|event| matches!(event, Event::OffsetReset { .. }));
        assert_eq!(resets.count(), 0, "told once");
    }
}

#[test]
fn under_fail_a_group_s_partition_waits_for_a_seek_and_the_others_go_on() {
    let kafka = shared();
    for at in [5, 1000] {
        let (topic, group, stream) = out_of_range(at, OutOfRange::Fail);
        let mut iter = stream.iter();
        let (mut read, mut error) = (Vec::new(), None);
        while read.len() < 10 || error.is_none() {
            match iter.next_timeout(LONG) {
                Ok(Next::Message(message)) => {
                    assert_eq!(message.partition(), 1);
                    read.push(message.offset());
                }
                Err(failed) => assert!(error.replace(failed).is_none(), "told once"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read, (90..100).collect::<Vec<_>>());
        let error = error.unwrap();
        assert_eq!(
            (error.kind(), error.partition()),
            (ErrorKind::OutOfRange, Some(0)),
            "{error}"
        );
        assert!(error.to_string().contains(&at.to_string()), "{error}");
        assert!(!stream.health().is_healthy());
        assert!(matches!(
            iter.next_timeout(Duration::from_millis(300)),
            Ok(Next::TimedOut)
        ));
        stream.commit(LONG).unwrap();
        let expected = |first| [((&*topic, 0).into(), first), ((&*topic, 1).into(), 100)].into();
        assert_eq!(kafka.committed_offsets(&group), expected(at));
        stream.seek((&topic, 0), StartAt::Offset(98)).unwrap();
        for offset in [98, 99] {
            match iter.next_timeout(LONG) {
                Ok(Next::Message(message)) => assert_eq!((message.partition(), message.offset()), (0, offset)),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(iter.next_timeout(Duration::ZERO), Ok(Next::TimedOut)));
        assert!(stream.health().is_healthy(), "{:?}", stream.health());
        stream.commit(LONG).unwrap();
        assert_eq!(kafka.committed_offsets(&group), expected(100));
    }
}

/// What was prefetched is given out; then comes what is left, and the commits go on behind it.
#[test]
fn records_deleted_in_front_of_a_group_are_passed_over() {
    let kafka = shared();
    let (topic, group) = (unique("deleted"), unique("deleted"));
    kafka.create_topic(&topic, 1, &[]);
    // A batch each, so that one answer is one record.
    let values: Vec<String> = (0..200).map(|n| format!("v-{n}")).collect();
    kafka.java_writes(&topic, 0, &values.iter().map(String::as_str).collect::<Vec<_>>());
    let client = connect(&kafka.bootstrap());
    let stream = client
        .group(&group)
        .topics([&topic])
        .prefetch_count(5)
        .partition_max_bytes(100)
        .join()
        .unwrap();
    assert_eq!(texts(&stream, 10), values[..10]);
    kafka.delete_records(&topic, 0, 150);
    let mut iter = stream.iter();
    let mut last = 9;
    loop {
        match iter.next_timeout(LONG).unwrap() {
            Next::Message(message) if message.offset() == last + 1 => last += 1,
            Next::Message(message) => {
                assert_eq!(message.offset(), 150);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(last < 60, "{last}: it was not so far");
    assert_eq!(reset(&stream), (last + 1, 150, (150 - last - 1) as u64));
    // 150 is done when the next one is asked for; everything before it is done or gone.
    stream.commit(LONG).unwrap();
    assert_eq!(committed(kafka, &group), 150);
    for offset in 151..200 {
        match iter.next_timeout(LONG).unwrap() {
            Next::Message(message) => assert_eq!(message.offset(), offset),
            other => panic!("{other:?}"),
        }
    }
    drop(iter);
    stream.close(LONG).unwrap();
    assert_eq!(committed(kafka, &group), 199);
}

//! What counts as done, and what is committed of it: acks by asking for the next message, by name, out of order, late.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use klamm::{AckMode, Client, CommitOrder, ErrorKind, Event, GroupBuilder, Health, Iter, Message, Next, Stream};

use crate::support::{Checker, Kafka, Recorder, shared, unique, wait_until};

/// No machine is so slow.
pub(super) const LONG: Duration = Duration::from_secs(90);
/// In which nothing comes, where nothing may come.
pub(super) const QUIET: Duration = Duration::from_millis(300);

/// A topic of the test's own on the shared broker, filled.
pub(super) fn topic(partitions: usize, records: usize) -> String {
    let topic = unique("acks");
    shared().create_topic(&topic, partitions, &[]);
    if records > 0 {
        shared().fill(&topic, partitions, records, "none", 10);
    }
    topic
}

/// A member of a group of this name, which commits when it is told to, and notices a rebalance soon.
pub(super) fn member(kafka: &Kafka, group: &str, topic: &str) -> GroupBuilder {
    Client::connect(&kafka.bootstrap())
        .expect("a broker is there")
        .group(group)
        .topics([topic])
        .session_timeout(Duration::from_secs(30))
        .heartbeat_interval(Duration::from_millis(200))
        .commit_interval(None)
}

/// A stream of one member in a group of its own, and the group's name.
fn alone(topic: &str, build: impl FnOnce(GroupBuilder) -> GroupBuilder) -> (Stream, String) {
    let group = unique("group");
    (again(&group, topic, build), group)
}

fn again(group: &str, topic: &str, build: impl FnOnce(GroupBuilder) -> GroupBuilder) -> Stream {
    build(member(shared(), group, topic)).join().unwrap()
}

fn explicit(builder: GroupBuilder) -> GroupBuilder {
    builder.ack_mode(AckMode::Explicit)
}

/// The next message, which must come before long.
#[track_caller]
pub(super) fn next(iter: &mut Iter<'_>) -> Message {
    match iter.next_timeout(LONG) {
        Ok(Next::Message(message)) => message,
        other => panic!("no message but {other:?}"),
    }
}

/// The next so many messages, all kept; the iterator goes on as a loop does.
#[track_caller]
pub(super) fn take(iter: &mut Iter<'_>, count: usize) -> Vec<Message> {
    let mut messages = vec![next(iter)];
    let rest = iter.take(count - 1).map(|message| message.expect("a message"));
    messages.extend(rest);
    messages
}

/// Asks once more, and there is nothing.
#[track_caller]
pub(super) fn nothing(iter: &mut Iter<'_>) {
    match iter.next_timeout(QUIET) {
        Ok(Next::TimedOut) => {}
        other => panic!("{other:?}, where nothing may come"),
    }
}

/// What Kafka has of this group, in Java's words, after a commit.
#[track_caller]
fn commits(stream: &Stream, group: &str, topic: &str) -> Option<i64> {
    stream.commit(LONG).unwrap();
    committed(shared(), group, topic, 0)
}

pub(super) fn committed(kafka: &Kafka, group: &str, topic: &str, partition: i32) -> Option<i64> {
    let all = kafka.committed(group);
    all.get(&(topic.to_owned(), partition)).map(|(offset, _)| *offset)
}

pub(super) fn offsets(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(Message::offset).collect()
}

fn held(stream: &Stream) -> Vec<i64> {
    let events = std::iter::from_fn(|| stream.events().try_next());
    let held = events.filter_map(|event| match event {
        Event::StillHeld { offset, .. } => Some(offset),
        _ => None,
    });
    held.collect()
}

// ---- by asking for the next ----

#[test]
fn asking_for_the_next_acks_the_last_and_leaving_the_loop_does_not() {
    let topic = topic(1, 20);
    let (stream, group) = alone(&topic, |builder| builder);
    let mut iter = stream.iter();
    assert_eq!(next(&mut iter).offset(), 0);
    assert_eq!(commits(&stream, &group, &topic), None, "nobody has asked for more");
    assert_eq!(next(&mut iter).offset(), 1);
    assert_eq!(commits(&stream, &group, &topic), Some(1));
    for offset in 2..5 {
        assert_eq!(next(&mut iter).offset(), offset);
    }
    assert_eq!(commits(&stream, &group, &topic), Some(4));
    drop(iter);
    assert_eq!(
        commits(&stream, &group, &topic),
        Some(4),
        "a dropped iterator acks nothing"
    );

    for message in &stream {
        let message = message.unwrap();
        if message.offset() == 7 {
            break;
        }
    }
    assert_eq!(commits(&stream, &group, &topic), Some(7), "`break` acks nothing");

    let fails = || -> Result<(), std::num::ParseIntError> {
        for message in &stream {
            let message = message.expect("a message");
            let word = if message.offset() == 9 { "nine" } else { "9" };
            word.parse::<i32>()?;
        }
        Ok(())
    };
    fails().unwrap_err();
    assert_eq!(commits(&stream, &group, &topic), Some(9), "`?` acks nothing");

    let panics = std::thread::scope(|scope| {
        let looped = scope.spawn(|| {
            for message in &stream {
                // In hand while the thread panics.
                let message = message.unwrap();
                assert!(message.offset() < 11, "as planned");
            }
        });
        looped.join()
    });
    panics.unwrap_err();
    assert_eq!(commits(&stream, &group, &topic), Some(11), "a panic acks nothing");
    let mut iter = stream.iter();
    assert_eq!(next(&mut iter).offset(), 11, "and what was in hand comes again");
    assert_eq!(next(&mut iter).offset(), 12);
    assert_eq!(commits(&stream, &group, &topic), Some(12), "and is done then");
    drop(iter);
    stream.close(LONG).unwrap();
    let stream = again(&group, &topic, |builder| builder);
    assert_eq!(next(&mut stream.iter()).offset(), 12);
}

#[test]
fn a_next_that_finds_nothing_has_acked_the_last_message() {
    let topic = topic(1, 3);
    let (stream, group) = alone(&topic, |builder| builder);
    let mut iter = stream.iter();
    for _ in 0..3 {
        next(&mut iter);
    }
    assert_eq!(commits(&stream, &group, &topic), Some(2));
    nothing(&mut iter);
    assert_eq!(commits(&stream, &group, &topic), Some(3), "it was asked for more");

    shared().fill_from(3, &topic, 1, 10, "none", 10);
    assert_eq!(next(&mut iter).offset(), 3);
    assert_eq!(next(&mut iter).offset(), 4);
    stream.closer().close();
    assert!(iter.next().is_none());
    drop(iter);
    let report = stream.close(LONG).unwrap();
    assert_eq!(committed(shared(), &group, &topic, 0), Some(5), "{report:?}");
    assert!(
        report.unfinished.is_empty() && report.uncommitted.is_empty(),
        "{report:?}"
    );
}

#[test]
fn a_closed_stream_does_not_ack_what_is_in_hand_unless_it_is_asked_for_more() {
    let topic = topic(1, 10);
    let (stream, group) = alone(&topic, |builder| builder);
    let mut iter = stream.iter();
    next(&mut iter);
    let second = next(&mut iter);
    stream.closer().close();
    drop((iter, second));
    let report = stream.close(LONG).unwrap();
    assert_eq!(committed(shared(), &group, &topic, 0), Some(1), "{report:?}");
    assert_eq!(report.unfinished, [((&topic, 0).into(), 1)], "{report:?}");
}

#[test]
fn a_next_that_fails_has_acked_the_last_message() {
    let topic = topic(1, 0);
    shared().java_writes(&topic, 0, &["in front"]);
    shared().corner("zeros", &[&topic, "0", "1", "4", "1000000", "gzip"]);
    let (stream, group) = alone(&topic, |builder| builder.decoded_batch_limit(1 << 20));
    let mut iter = stream.iter();
    assert_eq!(next(&mut iter).offset(), 0);
    let error = iter.next_timeout(LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert_eq!(commits(&stream, &group, &topic), Some(1));
}

/// The loop goes on, and each of its messages is done when the next is asked for; those that are kept are not.
#[test]
fn a_message_that_is_kept_is_acked_only_by_name() {
    let topic = topic(1, 12);
    let (stream, group) = alone(&topic, |builder| builder);
    let mut iter = stream.iter();
    let mut kept = Vec::new();
    for _ in 0..12 {
        let message = next(&mut iter);
        if [2, 5, 11].contains(&message.offset()) {
            kept.push(message);
        }
    }
    nothing(&mut iter);
    assert_eq!(commits(&stream, &group, &topic), Some(2));
    assert_eq!(held(&stream), [2], "told once");
    // From another thread.
    let first = kept.remove(0);
    assert!(std::thread::spawn(move || first.ack()).join().unwrap());
    assert_eq!(commits(&stream, &group, &topic), Some(5));
    assert!(kept.remove(0).ack());
    assert_eq!(commits(&stream, &group, &topic), Some(11));
    let last = kept.remove(0);
    assert!(last.ack() && last.is_current());
    assert_eq!(commits(&stream, &group, &topic), Some(12));
    assert_eq!(held(&stream), [0; 0]);
}

#[test]
fn a_message_that_was_kept_and_dropped_comes_again_after_a_restart() {
    let topic = topic(1, 10);
    let (stream, group) = alone(&topic, |builder| builder);
    let mut iter = stream.iter();
    let mut kept = Vec::new();
    for _ in 0..6 {
        let message = next(&mut iter);
        if message.offset() == 3 {
            kept.push(message);
        }
    }
    drop(kept);
    for offset in 6..9 {
        assert_eq!(next(&mut iter).offset(), offset);
    }
    drop(iter);
    let report = stream.close(LONG).unwrap();
    assert_eq!(report.unfinished, [((&topic, 0).into(), 3)], "{report:?}");
    assert_eq!(committed(shared(), &group, &topic, 0), Some(3));
    let stream = again(&group, &topic, |builder| builder);
    assert_eq!(next(&mut stream.iter()).offset(), 3);
}

#[test]
fn messages_that_are_moved_to_other_threads_are_acked_there() {
    let topic = topic(3, 3000);
    let (stream, group) = alone(&topic, |builder| builder);
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::sync_channel::<Message>(64);
        scope.spawn(move || {
            // In pairs, the later one first.
            let mut waiting: Vec<Message> = Vec::new();
            for message in receiver {
                waiting.push(message);
                if waiting.len() == 2 {
                    while let Some(message) = waiting.pop() {
                        assert!(message.ack());
                    }
                }
            }
            assert!(waiting.iter().all(Message::ack));
        });
        let mut iter = stream.iter();
        for _ in 0..3000 {
            sender.send(next(&mut iter)).unwrap();
        }
    });
    stream.commit(LONG).unwrap();
    let all = shared().committed(&group);
    let all: Vec<_> = (0..3).map(|partition| all[&(topic.clone(), partition)].0).collect();
    assert_eq!(all, [1000; 3]);
}

#[test]
fn a_batch_in_hand_of_a_thread_that_panics_comes_again() {
    let topic = topic(1, 10);
    let (stream, group) = alone(&topic, |builder| builder);
    let panics = std::thread::scope(|scope| {
        let looped = scope.spawn(|| {
            for batch in stream.batches() {
                for message in batch.unwrap() {
                    let message = message.unwrap();
                    assert!(message.offset() < 4, "as planned");
                }
            }
        });
        looped.join()
    });
    panics.unwrap_err();
    assert_eq!(commits(&stream, &group, &topic), None);
    let mut iter = stream.iter();
    let batch = iter.next_batch().unwrap().unwrap();
    assert_eq!(batch.first_offset(), 0);
    drop(batch);
    nothing(&mut iter);
    assert_eq!(commits(&stream, &group, &topic), Some(10));
}

/// Each record in a batch of its own, and each answer of one batch.
fn single_batches(count: usize) -> String {
    let topic = topic(1, 0);
    let values: Vec<String> = (0..count).map(|n| format!("value {n}")).collect();
    shared().java_writes(&topic, 0, &values.iter().map(String::as_str).collect::<Vec<_>>());
    topic
}

#[test]
fn a_batch_that_is_kept_is_acked_only_by_name() {
    let topic = single_batches(12);
    let (stream, group) = alone(&topic, |builder| builder.max_bytes(1).partition_max_bytes(1));
    let mut batches = stream.batches();
    let mut next = || batches.next().unwrap().unwrap();
    let first = next();
    let end = first.next_offset();
    drop(first);
    assert_eq!(commits(&stream, &group, &topic), None);
    let second = next();
    assert_eq!(second.first_offset(), end);
    assert_eq!(
        commits(&stream, &group, &topic),
        Some(end),
        "dropped, and asked for more"
    );
    let third = next();
    let fourth = next();
    let behind = fourth.first_offset();
    drop(fourth);
    let fifth = next();
    assert_eq!(commits(&stream, &group, &topic), Some(second.first_offset()));
    assert!(second.ack());
    assert_eq!(commits(&stream, &group, &topic), Some(third.first_offset()));
    let messages: Vec<Message> = third.iter().map(Result::unwrap).collect();
    drop(third);
    assert!(messages.iter().all(Message::ack));
    assert_eq!(
        commits(&stream, &group, &topic),
        Some(fifth.first_offset()),
        "{behind} was dropped"
    );
    assert!(fifth.ack());
    assert_eq!(commits(&stream, &group, &topic), Some(fifth.next_offset()));
}

/// Offsets without a record are not waited for: not between messages, not behind the last one.
#[test]
fn batches_with_gaps_are_done_when_their_messages_are() {
    let compacted = unique("acks-compacted");
    let left = shared().create_compacted_topic(&compacted);
    let transactions = unique("acks-transactions");
    shared().create_topic(&transactions, 1, &[]);
    let written = shared().write_transactions(&transactions, 0);
    let aborted = written
        .written
        .iter()
        .filter(|(_, value)| value.starts_with("aborted"))
        .count();
    assert!(aborted > 0);
    let readable = written.written.len() - aborted;
    written.commit();
    for (topic, records) in [(&compacted, left.len()), (&transactions, readable)] {
        let end = shared().offsets(topic)[0].latest;
        for mode in [AckMode::OnNext, AckMode::Explicit] {
            for by_message in [false, true] {
                let (stream, group) = alone(topic, |builder| builder.ack_mode(mode));
                let mut iter = stream.iter();
                let mut kept = Vec::new();
                let mut count = 0;
                while count < records {
                    let batch = iter.next_batch().unwrap().unwrap();
                    count += batch.iter().count();
                    kept.push(batch);
                }
                assert_eq!(count, records, "{topic}");
                // Only when it knows that nothing follows it may go beyond the last record.
                nothing(&mut iter);
                let first = commits(&stream, &group, topic).unwrap_or(0);
                assert!(first <= kept[0].first_offset(), "{topic}: {first}");
                for batch in kept.iter().rev() {
                    if by_message {
                        let messages: Vec<Message> = batch.iter().map(Result::unwrap).collect();
                        assert!(messages.iter().rev().all(Message::ack));
                    } else {
                        assert!(batch.ack());
                    }
                }
                let what = format!("{topic}, {mode:?}, by message {by_message}");
                assert_eq!(commits(&stream, &group, topic), Some(end), "{what}");
                assert_eq!(stream.lag().unwrap()[&(topic.as_str(), 0).into()], 0, "{what}");
            }
        }
    }
}

// ---- by name ----

/// Number 5 fails in a pool of threads, and all others are acked, out of order.
#[test]
fn one_that_failed_holds_the_commit_and_comes_again() {
    let topic = topic(1, 10);
    let (stream, group) = alone(&topic, explicit);
    let mut iter = stream.iter();
    let messages = take(&mut iter, 10);
    std::thread::scope(|scope| {
        for message in messages.iter().rev().filter(|message| message.offset() != 5) {
            scope.spawn(|| assert!(message.ack()));
        }
    });
    assert_eq!(commits(&stream, &group, &topic), Some(5));
    assert!(messages[7].ack(), "twice is once");
    assert_eq!(commits(&stream, &group, &topic), Some(5));
    drop((iter, messages));
    let report = stream.close(LONG).unwrap();
    assert_eq!(report.unfinished, [((&topic, 0).into(), 5)], "{report:?}");
    let stream = again(&group, &topic, explicit);
    let mut iter = stream.iter();
    assert_eq!(offsets(&take(&mut iter, 5)), [5, 6, 7, 8, 9]);
}

#[test]
fn ten_then_three_commits_what_the_order_says() {
    let topic = topic(1, 20);
    let orders = [
        (CommitOrder::LowestContiguous, None, 0),
        (CommitOrder::Monotonic, Some(11), 11),
        (CommitOrder::LastWins, Some(4), 4),
    ];
    for (order, expected, restarts_at) in orders {
        let build = |builder: GroupBuilder| explicit(builder).commit_order(order);
        let (stream, group) = alone(&topic, build);
        let mut iter = stream.iter();
        let messages = take(&mut iter, 11);
        assert!(messages[10].ack());
        let first = (order != CommitOrder::LowestContiguous).then_some(11);
        assert_eq!(commits(&stream, &group, &topic), first, "{order:?}");
        assert!(messages[3].ack());
        assert_eq!(commits(&stream, &group, &topic), expected, "{order:?}");
        drop((iter, messages));
        stream.close(LONG).unwrap();
        assert_eq!(committed(shared(), &group, &topic, 0), expected, "{order:?}");
        let stream = again(&group, &topic, build);
        assert_eq!(next(&mut stream.iter()).offset(), restarts_at, "{order:?}");
    }
}

#[test]
fn an_ack_through_acks_all_that_was_given_and_no_more() {
    let topic = topic(1, 60);
    let (stream, group) = alone(&topic, |builder| explicit(builder).prefetch_count(10));
    let mut iter = stream.iter();
    let messages = take(&mut iter, 10);
    let beyond = stream.ack_through(&topic, 0, 10).unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::Config, "{beyond}");
    assert!(beyond.to_string().contains("10"), "{beyond}");
    assert_eq!(commits(&stream, &group, &topic), None);
    nothing(&mut iter);
    stream.ack_through(&topic, 0, 3).unwrap();
    assert_eq!(commits(&stream, &group, &topic), Some(4));
    stream.ack_through(&topic, 0, 9).unwrap();
    assert_eq!(commits(&stream, &group, &topic), Some(10));
    // The window is empty: ten more.
    assert_eq!(offsets(&take(&mut iter, 10)), (10..20).collect::<Vec<_>>());
    nothing(&mut iter);
    assert!(messages[2].ack(), "it is done already");
    assert_eq!(commits(&stream, &group, &topic), Some(10));
    for (topic, partition) in [(topic.as_str(), 7), ("not of this stream", 0)] {
        let foreign = stream.ack_through(topic, partition, 0).unwrap_err();
        assert_eq!(foreign.kind(), ErrorKind::Config, "{foreign}");
    }
}

#[test]
fn a_release_frees_the_window_and_commits_nothing() {
    let topic = topic(1, 1000);
    let group = unique("group");
    for round in 0..2 {
        let stream = again(&group, &topic, |builder| explicit(builder).prefetch_count(20));
        let mut iter = stream.iter();
        for offset in 0..1000 {
            let message = next(&mut iter);
            assert_eq!(message.offset(), offset, "round {round}");
            message.release();
        }
        nothing(&mut iter);
        assert_eq!(commits(&stream, &group, &topic), None);
        drop(iter);
        let report = stream.close(LONG).unwrap();
        assert_eq!(committed(shared(), &group, &topic, 0), None);
        assert_eq!(report.unfinished, [((&topic, 0).into(), 0)], "{report:?}");
    }
    // What was released may still be acked.
    let stream = again(&group, &topic, |builder| explicit(builder).prefetch_count(20));
    let mut iter = stream.iter();
    let mut kept = Vec::new();
    for _ in 0..100 {
        let message = next(&mut iter);
        message.release();
        kept.push(message);
    }
    assert!(kept.iter().rev().all(Message::ack));
    assert_eq!(commits(&stream, &group, &topic), Some(100));
}

fn stalls_at(stream: &Stream) -> i64 {
    let end = Instant::now() + LONG;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match stream.events().next_timeout(left) {
            Some(Event::Stalled { oldest, .. }) => return oldest,
            Some(_) => {}
            None => panic!("no stall; health {:?}", stream.health()),
        }
    }
}

fn names(stream: &Stream, oldest: i64) -> bool {
    let Health::Unhealthy(problems) = stream.health() else {
        return false;
    };
    let named = format!("acked is {oldest}");
    problems
        .iter()
        .any(|problem| problem.error.to_string().contains(&named))
}

#[test]
fn a_full_window_waits_for_an_ack_and_says_so() {
    let topic = topic(1, 100);
    let build = |builder: GroupBuilder| explicit(builder).prefetch_count(5).stall_after(Duration::from_secs(1));
    let (stream, group) = alone(&topic, build);
    let mut iter = stream.iter();
    let mut messages = take(&mut iter, 5);
    nothing(&mut iter);
    assert_eq!(stalls_at(&stream), 0);
    wait_until("health names the oldest", LONG, || names(&stream, 0));
    assert!(messages[3].ack());
    messages.push(next(&mut iter));
    nothing(&mut iter);
    assert!(names(&stream, 0), "{:?}", stream.health());
    assert!(messages[0].ack() && messages[1].ack());
    messages.extend(take(&mut iter, 2));
    nothing(&mut iter);
    assert_eq!(stalls_at(&stream), 2, "told anew");
    stream.ack_through(&topic, 0, 7).unwrap();
    messages.extend(take(&mut iter, 5));
    assert_eq!(offsets(&messages), (0..13).collect::<Vec<_>>());
    assert_eq!(commits(&stream, &group, &topic), Some(8));
    stream.ack_through(&topic, 0, 12).unwrap();
    wait_until("it is well again", LONG, || {
        let message = next(&mut iter);
        message.ack() && stream.health().is_healthy()
    });
}

/// A program that is busy with what it has, and has not come back for more.
#[test]
fn what_is_in_hand_is_unfinished_before_more_is_asked_for() {
    for mode in [AckMode::OnNext, AckMode::Explicit] {
        let topic = topic(2, 200);
        let build = |builder: GroupBuilder| {
            builder
                .ack_mode(mode)
                .stall_after(Duration::from_secs(1))
                .rebalance_timeout(Duration::from_secs(10))
                .revoke_timeout(Duration::from_millis(500))
        };
        let (stream, group) = alone(&topic, build);
        let mut iter = stream.iter();
        let messages = take(&mut iter, 3);
        assert_eq!(offsets(&messages), [0, 1, 2]);
        wait_until("a stall that names the first", LONG, || names(&stream, 0));
        assert!(messages[0].ack());
        wait_until("a stall that names the second", LONG, || names(&stream, 1));
        let other = again(&group, &topic, build);
        let abandoned = wait_for_abandoned(&stream);
        assert_eq!(abandoned, (messages[0].partition(), 1), "{mode:?}");
        assert!(!messages[1].ack());
        drop((iter, messages));
        let mut iter = other.iter();
        stream.closer().close();
        drop(stream);
        let mut from = BTreeMap::new();
        while from.len() < 2 {
            let message = next(&mut iter);
            from.entry(message.partition()).or_insert(message.offset());
        }
        assert_eq!(from[&abandoned.0], 1, "{mode:?}: what was acked in time is committed");
    }
}

fn wait_for_abandoned(stream: &Stream) -> (i32, i64) {
    let end = Instant::now() + LONG;
    let mut others = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match stream.events().next_timeout(left) {
            Some(Event::Abandoned { partition, oldest, .. }) => return (partition.partition(), oldest),
            Some(event) => others.push(event),
            None => panic!("nothing was abandoned, but {others:?}"),
        }
    }
}

#[test]
fn a_window_of_bytes_waits_for_acks_too() {
    let topic = unique("acks-bytes");
    shared().create_topic(&topic, 1, &[]);
    shared().fill(&topic, 1, 300, "none", 10_000);
    let window = 100_000;
    let (stream, group) = alone(&topic, |builder| {
        explicit(builder)
            .prefetch_bytes(window)
            .stall_after(Duration::from_secs(1))
    });
    let mut iter = stream.iter();
    let mut seen = 0;
    let mut rounds = 0;
    while seen < 300 {
        let mut got = 0;
        while let Next::Message(message) = iter.next_timeout(QUIET).unwrap() {
            assert_eq!(message.offset(), seen + got);
            got += 1;
        }
        if got == 0 {
            continue; // a slow machine
        }
        // One batch may go beyond it.
        assert!(
            got * 10_000 <= 2 * window as i64 + 20_000,
            "{got} messages in a window of 10"
        );
        if rounds == 1 {
            assert_eq!(stalls_at(&stream), seen);
            assert!(names(&stream, seen), "{:?}", stream.health());
        }
        seen += got;
        rounds += 1;
        stream.ack_through(&topic, 0, seen - 1).unwrap();
    }
    assert!(rounds > 5, "{rounds} rounds");
    assert_eq!(commits(&stream, &group, &topic), Some(300));
}

/// An iterator that is dropped gives back what it has in hand: that fills no window any more.
#[test]
fn what_a_dropped_iterator_gives_back_comes_again_however_small_the_window() {
    let topic = topic(1, 10);
    for mode in [AckMode::OnNext, AckMode::Explicit] {
        for window in [1, 2] {
            let (stream, group) = alone(&topic, |builder| builder.ack_mode(mode).prefetch_count(window));
            for offset in 0..10 {
                assert_eq!(next(&mut stream.iter()).offset(), offset, "{mode:?}, window {window}");
                let message = next(&mut stream.iter());
                assert_eq!(message.offset(), offset, "{mode:?}, window {window}");
                assert!(message.ack());
            }
            assert_eq!(commits(&stream, &group, &topic), Some(10));
        }
    }
}

/// The second time it is held, although it was let go of before.
#[test]
fn a_message_that_comes_again_is_held_like_any_other() {
    let topic = topic(1, 10);
    for mode in [AckMode::OnNext, AckMode::Explicit] {
        let (stream, group) = alone(&topic, |builder| builder.ack_mode(mode));
        let mut iter = stream.iter();
        let first = next(&mut iter);
        assert_eq!(next(&mut iter).offset(), 1);
        drop(iter);
        let mut iter = stream.iter();
        let again = next(&mut iter);
        assert_eq!(again.offset(), 1, "{mode:?}");
        assert_eq!(next(&mut iter).offset(), 2);
        drop(iter);
        let mut iter = stream.iter();
        let last = next(&mut iter);
        drop(iter);
        let mut iter = stream.iter();
        assert_eq!(
            (last.offset(), next(&mut iter).offset()),
            (2, 3),
            "{mode:?}: it is held elsewhere"
        );
        assert!(first.ack());
        assert_eq!(commits(&stream, &group, &topic), Some(1), "{mode:?}");
        assert!(again.ack());
        assert_eq!(commits(&stream, &group, &topic), Some(2), "{mode:?}");
        assert!(last.ack());
        assert_eq!(commits(&stream, &group, &topic), Some(3), "{mode:?}");
    }
}

// ---- many, and over rebalances ----

/// Eight threads ack what one hands out, in any order, while another member comes and goes.
#[test]
fn a_hundred_thousand_acks_of_eight_threads_are_committed_also_over_rebalances() {
    const RECORDS: usize = 100_000;
    const PARTITIONS: usize = 4;
    let topic = topic(PARTITIONS, RECORDS);
    let group = unique("group");
    let acked: Vec<Vec<AtomicU8>> = (0..PARTITIONS)
        .map(|_| (0..RECORDS / PARTITIONS).map(|_| AtomicU8::new(0)).collect())
        .collect();
    let total = AtomicUsize::new(0);
    let refused = AtomicUsize::new(0);
    let work = |stream: &Stream| {
        std::thread::scope(|scope| {
            let mut senders = Vec::new();
            for _ in 0..8 {
                let (sender, receiver) = std::sync::mpsc::sync_channel::<Message>(100);
                senders.push(sender);
                let (acked, total, refused) = (&acked, &total, &refused);
                scope.spawn(move || {
                    let finish = |message: Message| {
                        if message.ack() {
                            let place = &acked[message.partition() as usize][message.offset() as usize];
                            place.fetch_add(1, Ordering::SeqCst);
                            total.fetch_add(1, Ordering::SeqCst);
                        } else {
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                    };
                    // Every other one is done later.
                    let mut late = Vec::new();
                    loop {
                        match receiver.recv_timeout(Duration::from_millis(50)) {
                            Ok(message) if message.offset() % 2 == 0 => late.push(message),
                            Ok(message) => finish(message),
                            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => late.drain(..).for_each(&finish),
                            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                        }
                        if late.len() == 50 {
                            late.drain(..).rev().for_each(&finish);
                        }
                    }
                    late.into_iter().for_each(finish);
                });
            }
            for (count, message) in stream.into_iter().enumerate() {
                senders[count % 8].send(message.unwrap()).unwrap();
                if count % 100 == 0 {
                    // Others shall come in the middle of it.
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
    };
    let stay = again(&group, &topic, |builder| {
        explicit(builder).commit_interval(Duration::from_millis(100))
    });
    std::thread::scope(|scope| {
        let staying = scope.spawn(|| work(&stay));
        let mut visits = 0;
        while total.load(Ordering::SeqCst) < RECORDS {
            let visitor = again(&group, &topic, |builder| {
                explicit(builder).commit_interval(Duration::from_millis(100))
            });
            std::thread::scope(|scope| {
                let visiting = scope.spawn(|| work(&visitor));
                wait_until("the visitor has partitions", LONG, || !visitor.assignment().is_empty());
                let before = total.load(Ordering::SeqCst);
                wait_until("some more are acked", LONG, || {
                    total.load(Ordering::SeqCst) >= (before + RECORDS / 6).min(RECORDS)
                });
                visitor.closer().close();
                visiting.join().unwrap();
            });
            let report = visitor.close(LONG).unwrap();
            assert!(report.uncommitted.is_empty(), "{report:?}");
            visits += 1;
        }
        println!("{visits} visits, {} acks refused", refused.load(Ordering::SeqCst));
        stay.closer().close();
        staying.join().unwrap();
    });
    let report = stay.close(LONG).unwrap();
    assert!(
        report.unfinished.is_empty() && report.uncommitted.is_empty(),
        "{report:?}"
    );
    let counts = acked.iter().flatten().map(|count| count.load(Ordering::SeqCst));
    let mut often: BTreeMap<u8, usize> = BTreeMap::new();
    for count in counts {
        *often.entry(count).or_default() += 1;
    }
    // No member was slow or lost: each was done once.
    assert_eq!(often, BTreeMap::from([(1, RECORDS)]), "how often each was acked");
    for partition in 0..PARTITIONS as i32 {
        let end = (RECORDS / PARTITIONS) as i64;
        assert_eq!(committed(shared(), &group, &topic, partition), Some(end));
    }
}

/// The checker's word on it: no commit, whenever one looks, is beyond what was acked.
#[test]
fn commits_never_run_ahead_of_acks() {
    let topic = topic(2, 4000);
    let group = unique("group");
    let recorder = Recorder::new("pool");
    let stream = again(&group, &topic, |builder| {
        builder.prefetch_count(200).commit_interval(Duration::from_millis(20))
    });
    let watching = recorder.watch(&stream);
    recorder.joined();
    let looking = crate::support::Commits::watch(shared(), &group);
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::sync_channel::<(Message, crate::support::Handling)>(50);
        scope.spawn(move || {
            let mut waiting = Vec::new();
            for task in receiver {
                waiting.push(task);
                if waiting.len() == 40 {
                    for (message, handling) in waiting.drain(..).rev() {
                        std::thread::sleep(Duration::from_micros(300));
                        handling.end();
                        handling.ack(&message);
                    }
                }
            }
            for (message, handling) in waiting {
                handling.end();
                handling.ack(&message);
            }
        });
        let mut iter = stream.iter();
        for _ in 0..4000 {
            let message = next(&mut iter);
            let handling = recorder.begin(&message);
            sender.send((message, handling)).unwrap();
        }
    });
    let report = stream.close(LONG).unwrap();
    drop(watching);
    recorder.closed(&report);
    let looks = looking.finish();
    let checker = Checker::of([recorder.history()])
        .wrote((topic.as_str(), 0), 2000)
        .wrote((topic.as_str(), 1), 2000)
        .acks_count();
    let committed = shared().committed_offsets(&group);
    checker.all(&committed, 0).unwrap();
    checker.commits(&looks).unwrap();
    checker.commit_completeness(&committed).unwrap();
    println!("{} looks at what was committed", looks.len());
}

/// What one member still holds when its partition has gone to another: too late to ack, whatever it does.
#[test]
fn an_ack_after_a_rebalance_is_refused_and_changes_nothing() {
    let topic = topic(2, 40);
    let group = unique("group");
    let build = |builder: GroupBuilder| {
        explicit(builder)
            .rebalance_timeout(Duration::from_secs(10))
            .revoke_timeout(Duration::from_millis(500))
    };
    let old = again(&group, &topic, build);
    let mut iter = old.iter();
    let kept = take(&mut iter, 40);
    assert!(kept.iter().all(Message::is_current));
    for message in kept.iter().filter(|message| message.offset() < 3) {
        assert!(message.ack());
    }
    let new = again(&group, &topic, build);
    wait_until("both have one partition", LONG, || {
        // The one that iterates must ask, to see that its partition is wanted back.
        nothing_yet(&mut iter);
        old.assignment().len() == 1 && new.assignment().len() == 1
    });
    let moved = new.assignment()[0].partition();
    let abandoned: Vec<_> = std::iter::from_fn(|| old.events().try_next())
        .filter_map(|event| match event {
            Event::Abandoned { partition, oldest, .. } => Some((partition.partition(), oldest)),
            _ => None,
        })
        .collect();
    assert_eq!(abandoned.len(), 2, "{abandoned:?}");
    assert!(abandoned.iter().all(|(_, oldest)| *oldest == 3), "{abandoned:?}");
    let mut theirs = new.iter();
    let messages = take(&mut theirs, 10);
    assert_eq!(messages[0].offset(), 3, "what was acked in time was committed");
    assert!(messages.iter().all(Message::ack));
    new.commit(LONG).unwrap();
    assert_eq!(committed(shared(), &group, &topic, moved), Some(13));

    for message in &kept {
        assert!(!message.is_current() && !message.ack(), "{message:?}");
        message.release();
    }
    let foreign = old.ack_through(&topic, moved, 19).unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::Config, "{foreign}");
    old.commit(LONG).unwrap();
    assert_eq!(old.commit_each(LONG).unwrap().len(), 0);
    assert_eq!(committed(shared(), &group, &topic, moved), Some(13));
    drop((iter, kept));
    old.close(LONG).unwrap();
    assert_eq!(committed(shared(), &group, &topic, moved), Some(13));
}

/// Looks without waiting; what comes is dropped, and not acked in a stream with explicit acks.
fn nothing_yet(iter: &mut Iter<'_>) {
    drop(iter.next_timeout(Duration::ZERO));
}

//! When commits are sent, what is in them, and what becomes of those that fail; seeks and pauses in a group.

use std::time::{Duration, Instant};

use klamm::{AckMode, ErrorKind, Event, GroupBuilder, Message, Next, StartAt, Stream};

use super::acks::{LONG, committed, member, next, nothing, offsets, take, topic};
use crate::support::{Direction, Kafka, ask, shared, shared_behind_a_proxy, unique, wait_until};

const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;

fn explicit(builder: GroupBuilder) -> GroupBuilder {
    builder.ack_mode(AckMode::Explicit)
}

fn one(kafka: &Kafka, topic: &str) -> (Stream, String) {
    let group = unique("group");
    (explicit(member(kafka, &group, topic)).join().unwrap(), group)
}

// ---- when ----

#[test]
fn there_is_one_commit_for_an_interval_and_none_when_nothing_is_new() {
    const INTERVAL: Duration = Duration::from_millis(500);
    let kafka = shared_behind_a_proxy();
    let topic = unique("commits");
    kafka.create_topic(&topic, 2, &[]);
    kafka.fill(&topic, 2, 2000, "none", 10);
    let sent = || kafka.proxy(1).requests(OFFSET_COMMIT);
    let group = unique("group");
    let builder = member(&kafka, &group, &topic).commit_interval(INTERVAL);
    let stream = explicit(builder).join().unwrap();
    let mut iter = stream.iter();
    assert!(next(&mut iter).ack());
    wait_until("the first commit", LONG, || sent() > 0);
    let (begun, before) = (Instant::now(), sent());
    while begun.elapsed() < INTERVAL * 10 {
        assert!(next(&mut iter).ack());
        std::thread::sleep(Duration::from_millis(10));
    }
    let most = begun.elapsed().as_millis() / INTERVAL.as_millis() + 2;
    let count = sent() - before;
    println!("{count} commits in {:?}", begun.elapsed());
    assert!(
        count >= 3 && u128::from(count) <= most,
        "{count} commits, {most} at most"
    );

    // The last of them.
    stream.commit(LONG).unwrap();
    let before = sent();
    std::thread::sleep(INTERVAL * 4);
    stream.commit(LONG).unwrap();
    stream.commit_async();
    assert!(stream.commit_each(LONG).unwrap().is_empty());
    assert_eq!(sent(), before, "nothing was new");

    // Nothing of what is not ours goes over the wire.
    for (name, partition) in [(topic.as_str(), 2), ("foreign", 0)] {
        let refused = stream.ack_through(name, partition, 5).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    }
    std::thread::sleep(INTERVAL * 2);
    assert_eq!(sent(), before);

    // Without an interval only when it is told to, and at the end.
    drop(iter);
    stream.close(LONG).unwrap();
    let stream = explicit(member(&kafka, &group, &topic)).join().unwrap();
    let before = sent();
    let messages = take(&mut stream.iter(), 20);
    assert!(messages.iter().all(Message::ack));
    std::thread::sleep(INTERVAL * 4);
    assert_eq!(sent(), before);
    stream.commit_async();
    wait_until("a commit that nobody waits for", LONG, || sent() == before + 1);
    assert!(next(&mut stream.iter()).ack());
    let report = stream.close(LONG).unwrap();
    assert!(report.uncommitted.is_empty(), "{report:?}");
    assert_eq!(sent(), before + 2);
}

#[test]
fn a_commit_that_does_not_get_through_says_what_it_waited_for_and_the_group_lives() {
    let kafka = shared_behind_a_proxy();
    let topic = unique("commits");
    kafka.create_topic(&topic, 1, &[]);
    kafka.fill(&topic, 1, 100, "none", 10);
    let (stream, group) = one(&kafka, &topic);
    let mut iter = stream.iter();
    assert!(next(&mut iter).ack());
    stream.commit(LONG).unwrap();
    assert!(next(&mut iter).ack());
    kafka.proxy(1).stall(Direction::ToBroker);
    let begun = Instant::now();
    let error = stream.commit(Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(
        error.to_string().contains("coordinator") && error.to_string().contains(&group),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    stream.commit_async();
    // What is in the buffer comes, and is acked.
    assert!(next(&mut iter).ack());
    kafka.proxy(1).resume();
    stream.commit(LONG).unwrap();
    assert_eq!(committed(&kafka, &group, &topic, 0), Some(3));
    let (_, state, members) = kafka.group(&group);
    assert_eq!((state.as_str(), members.len()), ("Stable", 1));

    // Nothing listens: the answer is as clear, and it goes on by itself when somebody does again.
    kafka.proxy(1).refuse(true);
    kafka.proxy(1).cut();
    assert!(next(&mut iter).ack());
    let error = stream.commit(Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    wait_until("health tells", LONG, || !stream.health().is_healthy());
    kafka.proxy(1).refuse(false);
    stream.commit(LONG).unwrap();
    assert_eq!(committed(&kafka, &group, &topic, 0), Some(4));
    wait_until("health is well", LONG, || stream.health().is_healthy());
    let events: Vec<Event> = std::iter::from_fn(|| stream.events().try_next()).collect();
    let is_lost = |event: &Event| {
        matches!(
            event,
            Event::Lost { .. } | Event::Revoked { .. } | Event::CommitFailed { .. }
        )
    };
    assert!(!events.iter().any(is_lost), "{events:?}");
    assert_eq!(next(&mut iter).offset(), 4, "the partition stayed");
}

#[test]
fn a_commit_tells_the_outcome_of_each_partition() {
    let (stays, goes) = (topic(2, 20), topic(1, 20));
    let group = unique("group");
    let stream = explicit(member(shared(), &group, &stays).topics([&goes]))
        .join()
        .unwrap();
    let mut iter = stream.iter();
    let messages = take(&mut iter, 40);
    for message in &messages {
        if message.offset() < 3 {
            assert!(message.ack());
        }
    }
    let outcome = stream.commit_each(LONG).unwrap();
    assert_eq!(outcome.len(), 3, "{outcome:?}");
    for result in outcome.values() {
        assert_eq!(result.as_ref().unwrap(), &3);
    }
    shared().delete_topic(&goes);
    let mut next = 3;
    let failed = loop {
        // Brokers know it for a moment longer.
        for message in messages.iter().filter(|message| message.offset() == next) {
            assert!(message.ack());
        }
        next += 1;
        let mut outcome = stream.commit_each(LONG).unwrap();
        let of_gone = outcome.remove(&(&goes, 0).into()).unwrap();
        for partition in 0..2 {
            let of_other = outcome.remove(&(&stays, partition).into());
            assert!(
                matches!(of_other, Some(Ok(offset)) if offset == next) || next > 10,
                "{of_other:?}"
            );
        }
        assert!(next < 20, "a deleted topic takes commits");
        match of_gone {
            Ok(_) => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => break error,
        }
    };
    assert_eq!(failed.kind(), ErrorKind::UnknownTopic, "{failed}");
    assert!(failed.to_string().contains(&goes), "{failed}");
    assert_eq!(committed(shared(), &group, &stays, 0), Some(next.min(10)));
    assert_eq!(committed(shared(), &group, &stays, 1), Some(next.min(10)));
    let told = std::iter::from_fn(|| stream.events().try_next())
        .any(|event| matches!(event, Event::CommitFailed { partition, .. } if partition.topic() == goes));
    assert!(told);
    let error = stream.commit(LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
}

// ---- what ----

/// Markers and aborted records behind the last message are done with it: nothing is left to read.
#[test]
fn lag_becomes_nothing_behind_control_and_aborted_records() {
    // With answers of one batch each, what holds no message comes by itself.
    let cases = [
        (true, AckMode::OnNext, 4 << 20),
        (false, AckMode::OnNext, 1),
        (false, AckMode::Explicit, 4 << 20),
        (false, AckMode::Explicit, 1),
    ];
    for (commit, mode, answer) in cases {
        let topic = topic(1, 0);
        let written = shared().write_transactions(&topic, 0);
        let readable = |value: &str| {
            commit && value.starts_with("open") || !value.starts_with("open") && !value.starts_with("aborted")
        };
        let count = written.written.iter().filter(|(_, value)| readable(value)).count();
        if commit {
            written.commit();
        } else {
            written.abort();
        }
        let group = unique("group");
        let builder = member(shared(), &group, &topic).ack_mode(mode);
        let stream = builder.max_bytes(answer).partition_max_bytes(answer).join().unwrap();
        let mut iter = stream.iter();
        for _ in 0..count {
            let message = next(&mut iter);
            if mode == AckMode::Explicit {
                assert!(message.ack());
            }
        }
        let end = shared().offsets(&topic)[0].latest;
        wait_until("all is passed", LONG, || {
            nothing(&mut iter);
            stream.commit(LONG).unwrap();
            committed(shared(), &group, &topic, 0) == Some(end)
        });
        assert_eq!(stream.lag().unwrap()[&(&topic, 0).into()], 0);
        let described = shared().describe_group(&group);
        assert_eq!(
            (described[0].current, described[0].lag),
            (Some(end), Some(0)),
            "{described:?}"
        );
        drop(iter);
        stream.close(LONG).unwrap();
    }
}

/// OffsetFetch, written by hand: the committed offset and its leader epoch.
fn committed_with_epoch(kafka: &Kafka, group: &str, topic: &str) -> (i64, i32) {
    let mut body = Vec::new();
    let put = |body: &mut Vec<u8>, text: &str| {
        body.extend((text.len() as i16).to_be_bytes());
        body.extend(text.as_bytes());
    };
    put(&mut body, group);
    body.extend(1_i32.to_be_bytes());
    put(&mut body, topic);
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    let address = kafka.internal_bootstrap().parse().expect("one broker");
    let answer = ask(address, OFFSET_FETCH, 5, &body).unwrap();
    // Throttle time, one topic and its name, one partition and its index come before.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    let offset = i64::from_be_bytes(answer[at..at + 8].try_into().unwrap());
    let epoch = i32::from_be_bytes(answer[at + 8..at + 12].try_into().unwrap());
    (offset, epoch)
}

#[test]
fn a_commit_carries_the_leader_epoch() {
    let kafka = Kafka::builder().start();
    let topic = unique("commits");
    kafka.create_topic(&topic, 1, &[]);
    kafka.fill(&topic, 1, 10, "none", 10);
    let (stream, group) = one(&kafka, &topic);
    let mut iter = stream.iter();
    let first = take(&mut iter, 10);
    let epoch = first[9].leader_epoch().unwrap();
    assert!(first.iter().all(Message::ack));
    stream.commit(LONG).unwrap();
    assert_eq!(committed_with_epoch(&kafka, &group, &topic), (10, epoch));
    drop((iter, first));
    stream.close(LONG).unwrap();
    // Whoever leads anew does so in a new epoch.
    kafka.stop(1);
    kafka.start(1);
    kafka.wait_for_topic(&topic, 1);
    kafka.fill_from(10, &topic, 1, 10, "none", 10);
    let stream = explicit(member(&kafka, &group, &topic)).join().unwrap();
    let mut iter = stream.iter();
    let second = take(&mut iter, 10);
    assert_eq!(second[0].offset(), 10);
    let later = second[0].leader_epoch().unwrap();
    assert!(later > epoch, "{later} after {epoch}");
    assert!(second.iter().all(Message::ack));
    stream.commit(LONG).unwrap();
    assert_eq!(committed_with_epoch(&kafka, &group, &topic), (20, later));
}

#[test]
fn committed_tells_none_from_nothing_yet_and_also_of_other_partitions() {
    let (topic, other) = (topic(3, 30), topic(1, 0));
    let group = unique("group");
    shared().commit(&group, &topic, 1, 0);
    shared().commit(&group, &topic, 2, 7);
    shared().commit(&group, &other, 0, 3);
    let stream = explicit(member(shared(), &group, &topic)).join().unwrap();
    let ask = || {
        let all = [(&topic, 0), (&topic, 1), (&topic, 2), (&other, 0)];
        let found = stream.committed(all).unwrap();
        all.map(|(topic, partition)| found.get(&(topic, partition).into()).copied())
    };
    assert_eq!(ask(), [None, Some(0), Some(7), Some(3)]);
    let mut iter = stream.iter();
    let messages = take(&mut iter, 23);
    for message in &messages {
        let first = if message.partition() == 2 { 7 } else { 0 };
        assert!(message.offset() >= first);
        if message.partition() == 0 && message.offset() == 0 {
            assert!(message.ack());
        }
    }
    assert_eq!(ask()[0], None, "an ack is no commit");
    stream.commit(LONG).unwrap();
    assert_eq!(ask(), [Some(1), Some(0), Some(7), Some(3)]);
}

// ---- seek, pause ----

#[test]
fn a_seek_in_a_group_refuses_earlier_acks_and_may_lower_the_commit() {
    let topic = topic(1, 100);
    for mode in [AckMode::OnNext, AckMode::Explicit] {
        let group = unique("group");
        let stream = member(shared(), &group, &topic).ack_mode(mode).join().unwrap();
        let mut iter = stream.iter();
        let before = take(&mut iter, 20);
        assert!(before[..15].iter().all(Message::ack));
        stream.commit(LONG).unwrap();
        assert_eq!(committed(shared(), &group, &topic, 0), Some(15));
        assert!(before[15].ack());
        stream.seek((&topic, 0), StartAt::Offset(5)).unwrap();
        for message in &before {
            assert!(!message.ack() && !message.is_current(), "{mode:?}: {message:?}");
        }
        stream.commit(LONG).unwrap();
        assert_eq!(
            committed(shared(), &group, &topic, 0),
            Some(15),
            "{mode:?}: a seek commits nothing"
        );
        let again = take(&mut iter, 2);
        assert_eq!(offsets(&again), [5, 6], "{mode:?}");
        assert!(again[0].ack());
        stream.commit(LONG).unwrap();
        assert_eq!(committed(shared(), &group, &topic, 0), Some(6), "{mode:?}: lowered");
        assert!(again[1].ack());

        stream.seek((&topic, 0), StartAt::Offset(50)).unwrap();
        let ahead = next(&mut iter);
        assert_eq!(ahead.offset(), 50, "{mode:?}");
        stream.commit(LONG).unwrap();
        assert!(ahead.ack());
        stream.commit(LONG).unwrap();
        assert_eq!(committed(shared(), &group, &topic, 0), Some(51), "{mode:?}");

        stream.seek((&topic, 0), StartAt::Earliest).unwrap();
        let first = next(&mut iter);
        assert_eq!(first.offset(), 0);
        assert!(first.ack());
        drop((iter, first));
        stream.close(LONG).unwrap();
        assert_eq!(
            committed(shared(), &group, &topic, 0),
            Some(1),
            "{mode:?}: offset 0 counts"
        );
    }
}

#[test]
fn a_paused_partition_gives_nothing_and_its_messages_may_be_acked() {
    let topic = topic(2, 200);
    let (stream, group) = one(shared(), &topic);
    let mut iter = stream.iter();
    let first = next(&mut iter);
    let paused = first.partition();
    stream.pause([(&topic, paused)]).unwrap();
    let others = take(&mut iter, 100);
    assert!(others.iter().all(|message| message.partition() != paused));
    nothing(&mut iter);
    assert!(first.ack());
    stream.commit(LONG).unwrap();
    assert_eq!(committed(shared(), &group, &topic, paused), Some(1));
    assert_eq!(committed(shared(), &group, &topic, 1 - paused), None);
    stream.resume([(&topic, paused)]).unwrap();
    let rest = take(&mut iter, 99);
    assert_eq!(offsets(&rest), (1..100).collect::<Vec<_>>());
    assert!(rest.iter().chain(&others).all(Message::ack));
    drop(iter);
    assert!(matches!(stream.iter().next_timeout(Duration::ZERO), Ok(Next::TimedOut)));
    stream.close(LONG).unwrap();
    for partition in 0..2 {
        assert_eq!(committed(shared(), &group, &topic, partition), Some(100));
    }
}

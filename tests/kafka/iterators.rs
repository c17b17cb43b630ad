//! Iterators begin, end, share and give back.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use klamm::{Client, ErrorKind, Next, StartAt};

use crate::positions::CloseOnDrop;
use crate::reading::{LONG, assert_silent, client, next, offsets, reader, to_end, topic};
use crate::support::shared;

/// Far less than `max_wait` in these tests, far more than looking takes.
const AT_ONCE: Duration = Duration::from_secs(5);
const LONG_WAIT: Duration = Duration::from_secs(60);

#[test]
fn a_dropped_iterator_gives_back_the_message_that_was_not_done() {
    let topic = topic("dropped", 1, &[]);
    shared().fill(&topic, 1, 1000, "zstd", 10);
    let stream = reader(&client(), &topic).open().expect("a topic");
    let mut wanted = 0;
    for round in 0..20 {
        let mut iter = stream.iter();
        let mut message = next(&mut iter);
        assert_eq!(message.offset(), wanted, "round {round}");
        for _ in 0..round {
            message = next(&mut iter);
            wanted += 1;
            assert_eq!(message.offset(), wanted);
        }
        // Acked ones do not come again; others do.
        if round % 2 == 1 {
            assert!(message.ack());
            wanted += 1;
        }
        drop(iter);
    }
    let mut iter = stream.iter();
    for offset in wanted..1000 {
        assert_eq!(next(&mut iter).offset(), offset);
    }
    assert_silent(&mut iter);
}

#[test]
fn a_dropped_iterator_gives_back_the_batch_that_was_not_done() {
    let topic = topic("dropped-batch", 1, &[]);
    shared().fill(&topic, 1, 1000, "none", 10);
    let stream = reader(&client(), &topic).until_end().open().expect("a topic");
    let first = |ack: Option<i64>| {
        let mut iter = stream.iter();
        let batch = iter.next_batch().expect("not the end").expect("no error");
        if let Some(offset) = ack {
            let mut messages = batch.iter().map(|message| message.expect("no error"));
            assert!(
                messages
                    .find(|message| message.offset() == offset)
                    .expect("in it")
                    .ack()
            );
        }
        (batch.first_offset(), batch.next_offset())
    };
    let (begin, end) = first(None);
    assert_eq!(begin, 0);
    assert_eq!(first(None), (0, end));
    assert_eq!(first(Some(6)), (0, end));
    // What was acked within it is done.
    assert_eq!(first(None), (7, end));
    let mut iter = stream.iter();
    let batch = iter.next_batch().expect("not the end").expect("no error");
    assert!(batch.ack());
    drop(iter);
    let rest = to_end(&stream);
    assert!(offsets(&rest).into_iter().eq(end..1000));
}

#[test]
fn messages_and_batches_may_be_asked_for_in_turn() {
    let topic = topic("mixed", 1, &[]);
    shared().fill(&topic, 1, 20_000, "lz4", 100);
    let stream = reader(&client(), &topic).until_end().open().expect("a topic");
    let mut iter = stream.iter();
    let mut wanted = 0;
    'all: loop {
        for _ in 0..3 {
            match iter.next_timeout(LONG).expect("no error") {
                Next::Message(message) => assert_eq!(message.offset(), wanted),
                _ => break 'all,
            }
            wanted += 1;
        }
        let Some(batch) = iter.next_batch() else { break };
        for message in batch.expect("no error") {
            assert_eq!(message.expect("no error").offset(), wanted);
            wanted += 1;
        }
    }
    assert_eq!(wanted, 20_000);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it is about time")]
fn zero_looks_without_waiting() {
    let topic = topic("look", 1, &[]);
    let stream = reader(&client(), &topic).max_wait(LONG_WAIT).open().expect("a topic");
    let mut iter = stream.iter();
    let started = Instant::now();
    for _ in 0..100 {
        assert!(matches!(iter.next_timeout(Duration::ZERO), Ok(Next::TimedOut)));
    }
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    let started = Instant::now();
    let short = Duration::from_millis(300);
    assert!(matches!(iter.next_timeout(short), Ok(Next::TimedOut)));
    assert!((short..short + AT_ONCE).contains(&started.elapsed()));
    // The broker holds the Fetch for a minute, but not when there is something.
    shared().java_writes(&topic, 0, &["here"]);
    let written = Instant::now();
    crate::support::wait_until("the message", LONG, || {
        matches!(iter.next_timeout(Duration::ZERO), Ok(Next::Message(_)))
    });
    assert!(written.elapsed() < AT_ONCE);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it is about time")]
fn a_closer_ends_iterators_that_wait_in_other_threads() {
    let topic = topic("closer", 1, &[]);
    let stream = reader(&client(), &topic).max_wait(LONG_WAIT).open().expect("a topic");
    let (waits, waiting) = channel();
    std::thread::scope(|scope| {
        let closer = CloseOnDrop(stream.closer());
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (waits, stream) = (waits.clone(), &stream);
                scope.spawn(move || {
                    let mut iter = stream.iter();
                    assert_silent(&mut iter);
                    waits.send(()).expect("somebody listens");
                    let end = iter.next();
                    (end.is_none(), iter.next().is_none(), Instant::now())
                })
            })
            .collect();
        for _ in 0..3 {
            waiting.recv_timeout(LONG).expect("each of them waits");
        }
        let closed = Instant::now();
        closer.0.close();
        closer.0.close();
        for thread in threads {
            let (first, second, at) = thread.join().expect("no panic");
            assert!(first && second);
            assert!(at.saturating_duration_since(closed) < AT_ONCE);
        }
    });
    let mut iter = stream.iter();
    assert!(matches!(iter.next_timeout(LONG), Ok(Next::Ended)));
    assert!(iter.next().is_none() && iter.next_batch().is_none());
    assert_eq!(
        stream.events().count(),
        1,
        "it was assigned, and nothing more is waited for"
    );
    drop(iter);
    for error in [
        stream.seek((&topic, 0), StartAt::Earliest).expect_err("closed"),
        stream.pause([(&topic, 0)]).expect_err("closed"),
        stream.position([(&topic, 0)]).expect_err("closed"),
        stream.lag().expect_err("closed"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    let started = Instant::now();
    stream.close(LONG).expect("its threads end");
    assert!(started.elapsed() < AT_ONCE);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it is about time")]
fn closing_reports_where_to_go_on() {
    let topic = topic("report", 1, &[]);
    shared().fill(&topic, 1, 1000, "none", 10);
    let client = client();
    let stream = reader(&client, &topic).max_wait(LONG_WAIT).open().expect("a topic");
    let mut iter = stream.iter();
    for wanted in 0..7 {
        assert_eq!(next(&mut iter).offset(), wanted);
    }
    // Number 6 was not done.
    drop(iter);
    let started = Instant::now();
    let report = stream.close(LONG).expect("its threads end");
    assert!(started.elapsed() < AT_ONCE, "no waiting for the broker");
    assert_eq!(report.unread, [((&topic, 0).into(), 6)]);
    let (name, from) = report.unread[0].clone();
    let stream = client
        .reader()
        .partitions([name])
        .start_at(StartAt::Offset(from))
        .until_end()
        .open()
        .expect("a topic");
    assert!(offsets(&to_end(&stream)).into_iter().eq(6..1000));
}

#[test]
fn a_stream_iterated_by_value_ends_for_good() {
    let topic = topic("by-value", 2, &[]);
    shared().fill(&topic, 2, 100, "none", 10);
    let stream = reader(&client(), &topic).until_end().open().expect("a topic");
    let closer = stream.closer();
    let mut iter = stream.into_iter();
    assert_eq!(iter.by_ref().filter(|message| message.is_ok()).count(), 100);
    assert!(iter.next().is_none());
    assert!(matches!(iter.next_timeout(LONG), Ok(Next::Ended)));
    // Records that come after the end are not for this one.
    shared().java_writes(&topic, 0, &["later"]);
    assert!(iter.next().is_none());
    closer.close();
    assert!(iter.next().is_none());

    let stream = reader(&client(), &topic).open().expect("a topic");
    let mut iter = stream.into_iter();
    drop(next(&mut iter));
    drop(iter);
}

#[test]
fn closing_the_client_ends_its_streams() {
    let topic = topic("client-end", 1, &[]);
    let client = client();
    let stream = reader(&client, &topic).max_wait(LONG_WAIT).open().expect("a topic");
    std::thread::scope(|scope| {
        let _closed_also_when_this_fails = CloseOnDrop(stream.closer());
        let reads = scope.spawn(|| stream.iter().next().is_none());
        assert_silent(&mut stream.iter());
        client.close(LONG).expect("its threads end");
        assert!(reads.join().expect("no panic"));
    });
    let error = client.partitions(&topic).expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    let error = reader(&client, &topic).open().expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[test]
fn until_end_leaves_what_is_written_meanwhile_to_others() {
    let topic = topic("until", 2, &[]);
    shared().fill(&topic, 2, 2000, "none", 10);
    let stream = reader(&client(), &topic).until_end().open().expect("a topic");
    let mut iter = stream.iter();
    drop(next(&mut iter));
    // Both ends are known by now: a position is told when its end was looked up.
    stream.position([(&topic, 0), (&topic, 1)]).expect("an open stream");
    shared().fill_from(1000, &topic, 2, 200, "none", 10);
    drop(iter);
    let read = to_end(&stream);
    assert_eq!(read.len(), 2000);
    assert!(read.iter().all(|message| message.offset() < 1000));
}

#[test]
fn chosen_partitions_are_read_and_no_others() {
    let (one, other) = (topic("chosen", 4, &[]), topic("other", 2, &[]));
    for (topic, partitions) in [(&one, 4), (&other, 2)] {
        shared().fill(topic, partitions, partitions * 10, "none", 10);
    }
    let client = client();
    let chosen = [(&one, 1), (&one, 3), (&other, 0), (&one, 1)];
    let stream = client
        .reader()
        .partitions(chosen)
        .until_end()
        .open()
        .expect("they are there");
    assert_eq!(
        stream.assignment(),
        [(&one, 1), (&one, 3), (&other, 0)].map(klamm::TopicPartition::from)
    );
    let mut read: Vec<_> = to_end(&stream)
        .iter()
        .map(|message| (message.topic().to_owned(), message.partition(), message.offset()))
        .collect();
    read.sort();
    let mut wanted: Vec<_> = [(&one, 1), (&one, 3), (&other, 0)]
        .iter()
        .flat_map(|(topic, partition)| (0..10).map(|offset| ((*topic).clone(), *partition, offset)))
        .collect();
    wanted.sort();
    assert_eq!(read, wanted);
    // All of both topics, named in one reader.
    let stream = client
        .reader()
        .topics([&one, &other, &one])
        .until_end()
        .open()
        .expect("topics");
    assert_eq!(to_end(&stream).len(), 60);
}

#[test]
fn a_reader_of_nothing_or_of_what_is_not_there_is_refused() {
    let topic = topic("refused", 1, &[]);
    let client = Client::builder()
        .bootstrap(shared().bootstrap())
        .unknown_topic_ttl(Duration::from_millis(300))
        .connect()
        .expect("the shared broker answers");
    let none = client.reader().open().expect_err("nothing to read");
    let both = client.reader().topics([&topic]).partitions([(&topic, 0)]).open();
    for error in [none, both.expect_err("one or the other")] {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
    let missing = crate::support::unique("missing");
    let error = client
        .reader()
        .topics([&topic, &missing])
        .open()
        .expect_err("not there");
    assert_eq!(
        (error.kind(), error.topic()),
        (ErrorKind::UnknownTopic, Some(&*missing)),
        "{error}"
    );
    for partition in [1, -1] {
        let error = client
            .reader()
            .partitions([(&topic, partition)])
            .open()
            .expect_err("not there");
        assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    }
    let error = reader(&client, &topic).max_bytes(0).open().expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("max_bytes"), "{error}");
}

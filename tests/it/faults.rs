//! What brokers do wrong, on demand: each kind of trouble is a test of milliseconds.

use std::time::Duration;

use klamm::{Client, ErrorKind, Event, Iter, Next, Producer, Record, StartAt, Stream};
use klamm_fake::{
    Action, Api, FakeCluster, Request,
    error_code::{COORDINATOR_NOT_AVAILABLE, NOT_ENOUGH_REPLICAS, NOT_LEADER_OR_FOLLOWER, TOPIC_AUTHORIZATION_FAILED},
};

use crate::{
    LONG,
    cluster::{contents, text, values, write},
    support::wait_until,
};

const TOPIC: &str = "orders";

fn cluster(brokers: usize, partitions: i32) -> FakeCluster {
    let builder = FakeCluster::builder().brokers(brokers).topic(TOPIC, partitions);
    builder.start().expect("loopback has free ports")
}

/// Tries again soon, so that no test waits for pauses.
fn client(cluster: &FakeCluster) -> Client {
    let soon = (Duration::from_millis(5), Duration::from_millis(50));
    let builder = Client::builder().bootstrap(cluster.bootstrap());
    let builder = builder.retry_backoff(soon.0, soon.1).reconnect_backoff(soon.0, soon.1);
    builder
        .request_timeout(Duration::from_secs(2))
        .connect()
        .expect("it answers")
}

#[test]
fn what_is_not_there_is_told_with_what_to_do() {
    let cluster = cluster(1, 3);
    let builder = Client::builder().bootstrap(cluster.bootstrap());
    let builder = builder.unknown_topic_ttl(Duration::from_millis(10));
    let client = builder.connect().expect("it answers");
    let refused = |topic: &str| client.partitions(topic).expect_err("no such topic").to_string();
    assert!(refused("nowhere").contains("Admin::create_topics"));
    assert!(refused("no where").contains("letters and digits"));
    let error = client.leader(TOPIC, 3).expect_err("no such partition").to_string();
    assert!(error.contains("the topic has 3 partitions"), "{error}");
    let producer = client.producer().build().expect("default settings are allowed");
    let error = producer.send(Record::to("").value("x")).expect_err("no name");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[test]
fn who_gives_up_while_brokers_are_down_is_told_that_they_are() {
    let cluster = cluster(1, 1);
    let client = client(&cluster);
    write(&client, TOPIC, 0, &["one"]);
    let builder = client.producer().delivery_timeout(Duration::from_secs(3));
    let producer = builder.build().expect("default settings are allowed");
    producer
        .send_sync(Record::to(TOPIC).value("two"), LONG)
        .expect("it is up");
    let fresh = client.producer().delivery_timeout(Duration::from_secs(3));
    let fresh = fresh
        .max_block(Duration::from_secs(1))
        .build()
        .expect("these are allowed");
    cluster.crash(1);
    let told = |error: klamm::Error| {
        assert!(error.to_string().contains("connection refused"), "{error}");
        error
    };
    let delivery = producer.send(Record::to(TOPIC).value("three")).expect("there is room");
    let error = told(delivery.wait(Duration::from_secs(1)).expect_err("it is down"));
    assert!(error.is_retriable(), "{error}");
    told(delivery.wait(LONG).expect_err("its time is over"));
    // One that has no ID yet, and a topic that nobody has heard of.
    let delivery = fresh.send(Record::to(TOPIC).value("four")).expect("there is room");
    told(delivery.wait(LONG).expect_err("its time is over"));
    told(
        fresh
            .send(Record::to("another").value("five"))
            .expect_err("nobody knows of it"),
    );
    // What is closed stays closed.
    let delivery = producer.send(Record::to(TOPIC).value("six")).expect("there is room");
    drop(delivery.wait(Duration::from_secs(1)));
    producer.close(Duration::ZERO).expect("its threads end");
    let error = told(delivery.wait(LONG).expect_err("it was closed"));
    assert!(error.kind() == ErrorKind::Closed && !error.is_retriable(), "{error:?}");
}

/// A stream's keeper must not wait for the broker that it asks: all that is told of the stream comes through it.
#[test]
fn while_no_broker_answers_for_metadata_a_stream_still_tells_what_happens() {
    let cluster = cluster(1, 1);
    let builder = Client::builder().bootstrap(cluster.bootstrap());
    let builder = builder
        .request_timeout(LONG * 20)
        .metadata_max_age(Duration::from_millis(50));
    let client = builder.connect().expect("it answers");
    write(&client, TOPIC, 0, &["one", "two"]);
    let reader = client.reader().topics([TOPIC]).stall_after(Duration::from_millis(500));
    let stream = reader.open().expect("a topic");
    assert_eq!(read(&stream, 1), ["one"]);
    let silence = cluster.on(Api::Metadata, |_| Action::Silence);
    wait_until("the keeper asks for metadata", LONG, || silence.uses() > 0);
    // The program takes nothing.
    let events = stream.events();
    wait_until("the stall is told", LONG, || {
        let event = events.next_timeout(Duration::from_millis(50));
        matches!(event, Some(Event::Stalled { .. }))
    });
    stream.close(LONG).expect("nothing is left that waits");
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Writes these, without waiting for any, to partition 0.
fn send(producer: &Producer, values: &[String]) {
    for value in values {
        producer
            .send(Record::to(TOPIC).partition(0).value(value))
            .expect("there is room");
    }
}

fn read(stream: &Stream, count: usize) -> Vec<String> {
    read_on(&mut stream.iter(), count)
}

/// An iterator that is dropped does not know that its last message is done.
fn read_on(iter: &mut Iter<'_>, count: usize) -> Vec<String> {
    let mut read = Vec::new();
    while read.len() < count {
        match iter.next_timeout(LONG).expect("no error") {
            Next::Message(message) => read.push(text(message.value())),
            other => panic!("{other:?} after {read:?}"),
        }
    }
    read
}

#[test]
fn a_batch_whose_answer_was_lost_is_in_the_log_once() {
    let cluster = cluster(1, 1);
    let client = client(&cluster);
    let lost = cluster.times(5, Api::Produce, |_| Action::ThenDisconnect);
    let producer = client.producer().build().unwrap();
    let wanted = numbers(0..500);
    for some in wanted.chunks(50) {
        send(&producer, some);
        producer.flush(LONG).unwrap();
    }
    assert_eq!(lost.uses(), 5);
    assert_eq!(values(&contents(&client, TOPIC)[&0]), wanted);
}

#[test]
fn a_batch_that_was_refused_for_now_is_sent_again_in_order() {
    let cluster = cluster(1, 1);
    let client = client(&cluster);
    let mut count = 0;
    let refused = cluster.times(10, Api::Produce, move |_| {
        count += 1;
        if count % 2 == 0 {
            Action::Error(NOT_ENOUGH_REPLICAS)
        } else {
            Action::Pass
        }
    });
    let producer = client.producer().batch_bytes(1_024).build().unwrap();
    let wanted = numbers(0..2_000);
    send(&producer, &wanted);
    producer.flush(LONG).unwrap();
    assert_eq!(refused.uses(), 10);
    assert_eq!(values(&contents(&client, TOPIC)[&0]), wanted);
}

#[test]
fn a_producer_and_a_reader_follow_the_leader() {
    let cluster = cluster(3, 1);
    let client = client(&cluster);
    let producer = client.producer().build().unwrap();
    let stream = client.reader().topics([TOPIC]).open().unwrap();
    let mut iter = stream.iter();
    let wanted = numbers(0..300);
    for (some, leader) in wanted.chunks(100).zip([2, 3, 1]) {
        cluster.move_leader(TOPIC, 0, leader);
        send(&producer, some);
        assert_eq!(read_on(&mut iter, 100), some);
    }
    producer.flush(LONG).unwrap();
}

#[test]
fn a_broker_that_crashes_and_comes_back_costs_nothing() {
    let cluster = cluster(3, 3);
    let client = client(&cluster);
    let producer = client.producer().build().unwrap();
    for (node, some) in [(1, 0..100), (2, 100..200), (3, 200..300)] {
        cluster.crash(node);
        for value in numbers(some) {
            producer.send(Record::to(TOPIC).key(&value).value(&value)).unwrap();
        }
        producer.flush(LONG).unwrap();
        cluster.restart(node).unwrap();
    }
    let mut all: Vec<u32> = contents(&client, TOPIC)
        .values()
        .flat_map(|messages| values(messages))
        .map(|value| value.parse().unwrap())
        .collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..300));
}

#[test]
fn damaged_records_are_fetched_again_and_told() {
    let cluster = cluster(1, 1);
    let client = client(&cluster);
    write(&client, TOPIC, 0, &["a", "b"]);
    let damaged = cluster.times(2, Api::Fetch, |_| Action::CorruptRecords);
    let stream = client.reader().topics([TOPIC]).open().unwrap();
    let events = stream.events();
    assert_eq!(read(&stream, 2), ["a", "b"]);
    assert_eq!(damaged.uses(), 2);
    let told = std::iter::from_fn(|| events.try_next());
    assert!(told.into_iter().any(|event| matches!(event, Event::Refetched { .. })));
}

#[test]
fn a_broker_that_says_nothing_is_left_after_the_request_timeout() {
    let cluster = cluster(1, 1);
    let client = client(&cluster);
    write(&client, TOPIC, 0, &["a"]);
    let silent = cluster.once(Api::Fetch, |_| Action::Silence);
    let stream = client.reader().topics([TOPIC]).open().unwrap();
    assert_eq!(read(&stream, 1), ["a"]);
    assert_eq!(silent.uses(), 1);
}

#[test]
fn an_answer_that_is_cut_off_or_no_answer_at_all_ends_its_connection_only() {
    let cluster = cluster(1, 1);
    let client = client(&cluster);
    write(&client, TOPIC, 0, &["a", "b", "c"]);
    let mut kinds = [
        Action::Truncate,
        Action::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice().into()),
        Action::Garbage([0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0].as_slice().into()),
        Action::Garbage([0, 0, 0, 6, 0, 0, 0, 1, 0x7f, 0xff].as_slice().into()),
        Action::Disconnect,
    ]
    .into_iter();
    let hurt = cluster.times(5, Api::Fetch, move |_| kinds.next().expect("five of them"));
    let stream = client.reader().topics([TOPIC]).open().unwrap();
    assert_eq!(read(&stream, 3), ["a", "b", "c"]);
    assert_eq!(hurt.uses(), 5);
}

/// What may come in place of an answer, whatever was asked.
fn garbage(number: usize) -> Action {
    let kinds: [&[u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        &[0, 0, 0, 6, 0x55, 0, 0, 1, 0x7f, 0xff],
        &[0, 0, 0, 3, 0, 0, 0],
    ];
    Action::Garbage(kinds[number % kinds.len()].into())
}

#[test]
fn garbage_where_a_partition_begins_is_asked_again() {
    for number in 0..4 {
        let cluster = cluster(1, 3);
        let client = client(&cluster);
        write(&client, TOPIC, 0, &["a", "b"]);
        let asked = [(Api::ListOffsets, 2), (Api::ApiVersions, 1)];
        let asked = asked.map(|(api, times)| cluster.times(times, api, move |_| garbage(number)));
        let stream = client.reader().topics([TOPIC]).until_end().open().unwrap();
        assert_eq!(read(&stream, 2), ["a", "b"]);
        assert_eq!(asked[0].uses(), 2);
    }
}

#[test]
fn garbage_about_the_end_of_an_epoch_is_asked_again() {
    let cluster = cluster(3, 1);
    let client = client(&cluster);
    write(&client, TOPIC, 0, &["a", "b"]);
    let stream = client.reader().topics([TOPIC]).open().unwrap();
    let mut iter = stream.iter();
    assert_eq!(read_on(&mut iter, 2), ["a", "b"]);
    let mut number = 0;
    let asked = cluster.times(3, Api::OffsetForLeaderEpoch, move |_| {
        number += 1;
        garbage(number)
    });
    cluster.move_leader(TOPIC, 0, 2);
    write(&client, TOPIC, 0, &["c"]);
    assert_eq!(read_on(&mut iter, 1), ["c"]);
    assert_eq!(asked.uses(), 3);
}

#[test]
fn a_producer_asks_again_who_it_is_when_it_is_told_garbage() {
    for number in 0..4 {
        let cluster = cluster(1, 1);
        let client = client(&cluster);
        let asked = cluster.times(3, Api::InitProducerId, move |_| garbage(number));
        write(&client, TOPIC, 0, &["a"]);
        assert_eq!(asked.uses(), 3);
        assert_eq!(values(&contents(&client, TOPIC)[&0]), ["a"]);
    }
}

#[test]
fn a_producer_connects_again_to_who_talks_garbage_and_gives_up_the_fourth_time() {
    let cluster = cluster(1, 1);
    let client = client(&cluster);
    let limit = Duration::from_secs(20);
    let producer = client.producer().delivery_timeout(limit).build().unwrap();
    let record = |value| Record::to(TOPIC).partition(0).value(value);
    producer.send_sync(record("a"), LONG).unwrap();
    let begin_anew = || {
        cluster.crash(1);
        cluster.restart(1).unwrap();
    };
    begin_anew();
    let asked = cluster.times(3, Api::ApiVersions, |_| garbage(2));
    producer.send_sync(record("b"), LONG).unwrap();
    assert_eq!(asked.uses(), 3);
    begin_anew();
    let asked = cluster.on(Api::ApiVersions, |_| garbage(2));
    // One that was on its way when the broker went is in doubt, and none that nonsense ends.
    let mut errors = std::iter::repeat_with(|| producer.send_sync(record("c"), LONG).unwrap_err());
    let error = errors.find(|error| error.kind() != ErrorKind::OutcomeUnknown).unwrap();
    assert_eq!(error.api(), Some("ApiVersions"), "{error}");
    assert!(error.to_string().contains("4 times in a row"), "{error}");
    asked.remove();
    producer.send_sync(record("d"), LONG).unwrap();
    assert_eq!(values(&contents(&client, TOPIC)[&0]), ["a", "b", "d"]);
}

#[test]
fn a_broker_that_only_talks_garbage_is_told_and_a_seek_goes_on() {
    let cluster = cluster(1, 1);
    let client = client(&cluster);
    write(&client, TOPIC, 0, &["a", "b"]);
    let asked = cluster.on(Api::ListOffsets, |_| garbage(2));
    let stream = client.reader().topics([TOPIC]).open().unwrap();
    let mut iter = stream.iter();
    for uses in [4, 8] {
        let error = iter.next_timeout(LONG).unwrap_err();
        assert_eq!((error.kind(), error.topic()), (ErrorKind::Protocol, Some(TOPIC)));
        assert_eq!(error.api(), Some("ListOffsets"));
        assert!(error.to_string().contains("4 times in a row"), "{error}");
        assert_eq!(asked.uses(), uses);
        stream.seek((TOPIC, 0), StartAt::Earliest).unwrap();
    }
    asked.remove();
    assert_eq!(read_on(&mut iter, 2), ["a", "b"]);
}

/// Garbage six times, and in their middle something else: three in a row at most.
fn interrupted(mut by: impl FnMut() -> Action + Send + 'static) -> impl FnMut(&Request) -> Action + Send + 'static {
    let mut number = 0;
    move |_| {
        number += 1;
        match number {
            4 => by(),
            1..=7 => garbage(2),
            _ => Action::Pass,
        }
    }
}

#[test]
fn garbage_is_in_a_row_only_without_another_failure_in_between() {
    let cluster = cluster(1, 1);
    let client = client(&cluster);
    let hooks = [
        cluster.on(Api::InitProducerId, interrupted(|| Action::Silence)),
        cluster.on(Api::ListOffsets, interrupted(|| Action::Silence)),
    ];
    let producer = client.producer().build().unwrap();
    let record = |value| Record::to(TOPIC).partition(0).value(value);
    producer.send_sync(record("a"), LONG).unwrap();
    cluster.crash(1);
    cluster.restart(1).unwrap();
    let connected = cluster.on(Api::ApiVersions, interrupted(|| Action::Disconnect));
    producer.send_sync(record("b"), LONG).unwrap();
    assert_eq!(connected.uses(), 7);
    let stream = client.reader().topics([TOPIC]).start_at(StartAt::Earliest);
    assert_eq!(read(&stream.open().unwrap(), 2), ["a", "b"]);
    assert_eq!(hooks.map(|hook| hook.uses()), [7, 7]);
}

#[test]
fn who_was_told_garbage_in_place_of_a_producer_id_asks_as_often_the_next_time() {
    let cluster = cluster(1, 1);
    let client = client(&cluster);
    let asked = cluster.on(Api::InitProducerId, |_| garbage(3));
    let producer = client.producer().build().unwrap();
    for uses in [4, 8] {
        let record = Record::to(TOPIC).partition(0).value("a");
        let error = producer.send_sync(record, LONG).unwrap_err();
        assert!(error.to_string().contains("4 times in a row"), "{error}");
        assert_eq!(asked.uses(), uses);
    }
}

#[test]
fn a_seek_ends_the_pause_after_garbage() {
    let cluster = cluster(1, 1);
    write(&client(&cluster), TOPIC, 0, &["a", "b"]);
    let hour = Duration::from_secs(3600);
    let builder = Client::builder().bootstrap(cluster.bootstrap());
    let client = builder.retry_backoff(hour, hour).connect().unwrap();
    cluster.times(1, Api::ListOffsets, |_| garbage(2));
    let stream = client.reader().topics([TOPIC]).open().unwrap();
    wait_until("health tells of the garbage", LONG, || !stream.health().is_healthy());
    stream.seek((TOPIC, 0), StartAt::Offset(1)).unwrap();
    assert_eq!(read(&stream, 1), ["b"]);
}

#[test]
fn a_topic_that_may_not_be_written_is_named_and_the_others_are_written() {
    let cluster = FakeCluster::builder()
        .topic("secret", 1)
        .topic("open", 1)
        .start()
        .unwrap();
    let client = client(&cluster);
    cluster.on(Api::Produce, |request| match request.names("secret") {
        true => Action::Error(TOPIC_AUTHORIZATION_FAILED),
        false => Action::Pass,
    });
    let producer = client.producer().build().unwrap();
    for _ in 0..3 {
        let error = producer.send_sync(Record::to("secret").value("a"), LONG).unwrap_err();
        assert_eq!(
            (error.kind(), error.topic()),
            (ErrorKind::Authorization, Some("secret"))
        );
        producer.send_sync(Record::to("open").value("a"), LONG).unwrap();
    }
}

#[test]
fn a_topic_that_is_made_anew_is_told_and_read_from_its_start() {
    let cluster = cluster(1, 1);
    let client = client(&cluster);
    write(&client, TOPIC, 0, &["a", "b"]);
    let stream = client.reader().topics([TOPIC]).open().unwrap();
    let events = stream.events();
    assert_eq!(read(&stream, 2), ["a", "b"]);
    cluster.recreate_topic(TOPIC);
    write(&client, TOPIC, 0, &["new"]);
    assert_eq!(read(&stream, 1), ["new"]);
    let told = std::iter::from_fn(|| events.try_next());
    assert!(
        told.into_iter()
            .any(|event| matches!(event, Event::TopicRecreated { .. }))
    );
}

#[test]
fn records_that_an_election_has_lost_are_told() {
    let cluster = cluster(3, 1);
    let client = client(&cluster);
    write(&client, TOPIC, 0, &["a", "b", "c"]);
    let stream = client.reader().topics([TOPIC]).open().unwrap();
    let events = stream.events();
    let mut iter = stream.iter();
    assert_eq!(read_on(&mut iter, 3), ["a", "b", "c"]);
    cluster.truncate(TOPIC, 0, 1);
    let truncated = std::iter::from_fn(|| events.next_timeout(LONG)).find_map(|event| match event {
        Event::Truncated { from, to, .. } => Some((from, to)),
        _ => None,
    });
    assert_eq!(truncated, Some((3, 1)));
    write(&client, TOPIC, 0, &["d"]);
    assert_eq!(read_on(&mut iter, 1), ["d"]);
}

#[test]
fn a_group_goes_on_whatever_its_coordinator_says_for_a_while() {
    let cluster = cluster(3, 2);
    let client = client(&cluster);
    let errors = [
        (Api::FindCoordinator, COORDINATOR_NOT_AVAILABLE),
        (Api::JoinGroup, COORDINATOR_NOT_AVAILABLE),
        (Api::SyncGroup, COORDINATOR_NOT_AVAILABLE),
        (Api::OffsetFetch, COORDINATOR_NOT_AVAILABLE),
        (Api::OffsetCommit, COORDINATOR_NOT_AVAILABLE),
        (Api::Heartbeat, COORDINATOR_NOT_AVAILABLE),
    ];
    let errors = errors.map(|(api, code)| cluster.times(2, api, move |_| Action::Error(code)));
    let group = client.group("billing").topics([TOPIC]);
    let group = group.heartbeat_interval(Duration::from_millis(20));
    let stream = group.commit_interval(Duration::from_millis(20)).join().unwrap();
    write(&client, TOPIC, 0, &["a", "b"]);
    write(&client, TOPIC, 1, &["c", "d"]);
    let mut seen = std::collections::BTreeSet::new();
    let mut iter = stream.iter();
    while seen.len() < 4 {
        let Next::Message(message) = iter.next_timeout(LONG).unwrap() else {
            panic!("only {seen:?}")
        };
        seen.insert(text(message.value()));
    }
    drop(iter);
    cluster.move_coordinator("billing", 1 + cluster.coordinator("billing") % 3);
    write(&client, TOPIC, 0, &["e"]);
    let mut iter = stream.iter();
    while !seen.contains("e") {
        let Next::Message(message) = iter.next_timeout(LONG).unwrap() else {
            panic!("e does not come")
        };
        seen.insert(text(message.value()));
    }
    // Asking on is what acks, and there must be something to commit.
    wait_until("all errors to be given", LONG, || {
        iter.next_timeout(Duration::from_millis(10)).unwrap();
        errors.iter().all(|error| error.uses() == 2) && stream.assignment().len() == 2
    });
    drop(iter);
    stream.commit(LONG).unwrap();
    let report = stream.close(LONG).unwrap();
    assert!(report.uncommitted.is_empty(), "{report:?}");
}

#[test]
fn a_leader_that_left_is_named_in_no_error() {
    let cluster = cluster(2, 1);
    let client = client(&cluster);
    let refused = cluster.times(3, Api::Produce, |_| Action::Error(NOT_LEADER_OR_FOLLOWER));
    let producer = client.producer().build().unwrap();
    let written = producer.send_sync(Record::to(TOPIC).value("a"), LONG).unwrap();
    assert_eq!((written.offset, refused.uses()), (Some(0), 3));
}

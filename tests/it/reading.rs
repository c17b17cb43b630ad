//! Reading begins where it should, misses nothing, and ends when it should.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use klamm::{ErrorKind, Event, Iter, Message, Next, OutOfRange, Record, StartAt, TopicPartition};

use crate::{
    LONG,
    cluster::{Cluster, contents, on_both, text, unique, values, write},
};

on_both! {
    reading_starts_where_it_is_told_to,
    a_time_is_where_the_first_record_is_as_new,
    a_reader_waits_for_what_comes,
    a_reader_goes_on_where_it_is_sent,
    a_position_that_was_deleted_moves_to_the_nearest_record,
    a_position_that_was_deleted_is_an_error_where_that_is_wanted,
    a_topic_made_anew_is_read_from_its_first_record,
    small_answers_bring_all_of_it,
    a_paused_partition_is_silent,
    a_topic_that_nobody_made_is_no_stream,
}

/// The next message, which must come.
#[track_caller]
fn next(iter: &mut Iter<'_>) -> Message {
    match iter.next_timeout(LONG).expect("no error") {
        Next::Message(message) => message,
        other => panic!("a message, and not {other:?}"),
    }
}

fn reading_starts_where_it_is_told_to(cluster: &Cluster) {
    let topic = cluster.topic("starts", 1);
    let client = cluster.client();
    write(&client, &topic, 0, &["a", "b", "c", "d"]);
    for (start, wanted) in [
        (StartAt::Earliest, &["a", "b", "c", "d"][..]),
        (StartAt::Offset(2), &["c", "d"]),
        (StartAt::Offset(4), &[]),
        (StartAt::Latest, &[]),
    ] {
        let reader = client.reader().topics([&topic]).start_at(start).until_end();
        let read: Vec<String> = reader
            .open()
            .unwrap()
            .into_iter()
            .map(|message| text(message.unwrap().value()))
            .collect();
        assert_eq!(read, wanted, "{start:?}");
    }
}

fn a_time_is_where_the_first_record_is_as_new(cluster: &Cluster) {
    let topic = cluster.topic("times", 1);
    let client = cluster.client();
    let producer = client.producer().build().unwrap();
    // Neither in the future, which brokers refuse, nor so old that they are deleted.
    let hour_ago = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 - 3_600_000;
    let time = |ms: u64| UNIX_EPOCH + Duration::from_millis(hour_ago + ms);
    // In batches of two, and of one.
    for pair in [&[50, 10][..], &[40], &[20, 60], &[30]] {
        for ms in pair {
            producer
                .send(Record::to(&topic).value("x").timestamp(time(*ms)))
                .unwrap();
        }
        producer.flush(LONG).unwrap();
    }
    let times = [50, 10, 40, 20, 60, 30];
    for ms in [0, 10, 11, 50, 51, 60, 61] {
        let wanted = times.iter().position(|&written| written >= ms).map(|at| at as i64);
        let told = client.offset_for(&topic, 0, StartAt::Timestamp(time(ms))).unwrap();
        assert_eq!(told, wanted, "{ms}");
    }
}

fn a_reader_waits_for_what_comes(cluster: &Cluster) {
    let topic = cluster.topic("waits", 3);
    let client = cluster.client();
    let stream = client
        .reader()
        .topics([&topic])
        .max_wait(Duration::from_secs(5))
        .open()
        .unwrap();
    let mut iter = stream.iter();
    for number in 0..20 {
        let value = number.to_string();
        write(&client, &topic, number % 3, &[&value]);
        let message = next(&mut iter);
        assert_eq!((message.partition(), text(message.value())), (number % 3, value));
    }
}

fn a_reader_goes_on_where_it_is_sent(cluster: &Cluster) {
    let topic = cluster.topic("seeks", 1);
    let client = cluster.client();
    write(&client, &topic, 0, &["a", "b", "c"]);
    let stream = client.reader().topics([&topic]).open().unwrap();
    let mut iter = stream.iter();
    for (to, wanted) in [
        (StartAt::Offset(1), "b"),
        (StartAt::Offset(1), "b"),
        (StartAt::Earliest, "a"),
        (StartAt::Offset(2), "c"),
    ] {
        stream.seek((topic.as_str(), 0), to).unwrap();
        assert_eq!(text(next(&mut iter).value()), wanted, "{to:?}");
    }
}

fn a_position_that_was_deleted_moves_to_the_nearest_record(cluster: &Cluster) {
    let topic = cluster.topic("deleted", 1);
    let client = cluster.client();
    write(&client, &topic, 0, &["a", "b", "c"]);
    client.admin().delete_records([(&topic, 0, 2)]).unwrap().all().unwrap();
    for (start, wanted) in [(0, 2), (1, 2), (9, 3)] {
        let stream = client
            .reader()
            .topics([&topic])
            .start_at(StartAt::Offset(start))
            .open()
            .unwrap();
        let events = stream.events();
        let reset = std::iter::from_fn(|| events.next_timeout(LONG)).find_map(|event| match event {
            Event::OffsetReset { from, to, .. } => Some((from, to)),
            _ => None,
        });
        assert_eq!(reset, Some((start, wanted)));
    }
}

fn a_position_that_was_deleted_is_an_error_where_that_is_wanted(cluster: &Cluster) {
    let topic = cluster.topic("fails", 1);
    let client = cluster.client();
    write(&client, &topic, 0, &["a", "b", "c"]);
    client.admin().delete_records([(&topic, 0, 2)]).unwrap().all().unwrap();
    let reader = client.reader().topics([&topic]).start_at(StartAt::Offset(0));
    let stream = reader.out_of_range(OutOfRange::Fail).open().unwrap();
    let mut iter = stream.iter();
    let error = iter.next_timeout(LONG).expect_err("the offset is gone");
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
    stream.seek((topic.as_str(), 0), StartAt::Earliest).unwrap();
    assert_eq!(text(next(&mut iter).value()), "c");
}

fn a_topic_made_anew_is_read_from_its_first_record(cluster: &Cluster) {
    let topic = cluster.topic("anew", 1);
    let client = cluster.client();
    write(&client, &topic, 0, &["a", "b", "c"]);
    let stream = client.reader().topics([&topic]).open().unwrap();
    let mut iter = stream.iter();
    for wanted in ["a", "b", "c"] {
        assert_eq!(text(next(&mut iter).value()), wanted);
    }
    let other = cluster.client();
    other.admin().delete_topics([&topic]).unwrap().all().unwrap();
    crate::support::wait_until("the topic to be made again", LONG, || {
        let made = other.admin().create_topics([klamm::NewTopic::new(&topic, 1, 1)]);
        made.and_then(|results| results.all()).is_ok()
    });
    write(&other, &topic, 0, &["new"]);
    // Until it is there again it may be an error, once.
    let message = loop {
        match iter.next_timeout(LONG) {
            Ok(Next::Message(message)) => break message,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
                stream.seek((topic.as_str(), 0), StartAt::Earliest).unwrap();
            }
        }
    };
    assert_eq!((message.offset(), text(message.value())), (0, "new".to_owned()));
}

fn small_answers_bring_all_of_it(cluster: &Cluster) {
    let topic = cluster.topic("small", 3);
    let client = cluster.client();
    let producer = client.producer().batch_bytes(2_000).build().unwrap();
    for number in 0..3_000 {
        let value = format!("{number:0100}");
        producer
            .send(Record::to(&topic).partition(number % 3).value(&value))
            .unwrap();
    }
    producer.flush(LONG).unwrap();
    let whole = contents(&client, &topic);
    let reader = client.reader().topics([&topic]).start_at(StartAt::Earliest).until_end();
    let stream = reader.max_bytes(5_000).partition_max_bytes(1_000).open().unwrap();
    let mut next = [0; 3];
    for message in stream {
        let message = message.unwrap();
        let next = &mut next[message.partition() as usize];
        assert_eq!(message.offset(), *next);
        *next += 1;
    }
    assert_eq!(next, [1_000; 3]);
    assert!(whole.values().all(|messages| values(messages).len() == 1_000));
}

fn a_paused_partition_is_silent(cluster: &Cluster) {
    let topic = cluster.topic("paused", 2);
    let client = cluster.client();
    let stream = client.reader().topics([&topic]).open().unwrap();
    let mut iter = stream.iter();
    let (silent, loud) = (TopicPartition::new(&topic, 0), TopicPartition::new(&topic, 1));
    stream.pause([silent.clone()]).unwrap();
    write(&client, &topic, 0, &["silent"]);
    for number in 0..10 {
        write(&client, &topic, 1, &[&number.to_string()]);
        assert_eq!(next(&mut iter).partition(), loud.partition());
    }
    stream.resume([silent]).unwrap();
    assert_eq!(text(next(&mut iter).value()), "silent");
}

fn a_topic_that_nobody_made_is_no_stream(cluster: &Cluster) {
    let topic = unique("nobody");
    let builder = klamm::Client::builder().bootstrap(cluster.bootstrap());
    let client = builder.unknown_topic_ttl(Duration::from_millis(100)).connect().unwrap();
    let error = client
        .reader()
        .topics([&topic])
        .open()
        .expect_err("there is no such topic");
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
    assert!(error.to_string().contains(&topic), "{error}");
}

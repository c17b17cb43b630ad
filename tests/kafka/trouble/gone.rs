//! Topics that are deleted, and made anew, while they are read.

use std::time::Duration;

use klamm::{Client, ErrorKind, Event, Next, StartAt};

use super::{FETCH, LONG, METADATA, drain, next, texts, wait_for_event};
use crate::support::{Kafka, shared_behind_a_proxy, unique, wait_until};

#[test]
fn a_deleted_topic_is_told_once_and_not_asked_for_in_a_hurry() {
    let kafka = shared_behind_a_proxy();
    let (gone, stays) = (unique("gone"), unique("stays"));
    kafka.create_topic(&gone, 3, &[]);
    kafka.create_topic(&stays, 1, &[]);
    kafka.fill(&gone, 3, 30, "none", 10);
    let client = Client::builder()
        .bootstrap(kafka.bootstrap())
        .unknown_topic_ttl(Duration::from_secs(2))
        .connect()
        .unwrap();
    let stream = client.reader().topics([&gone, &stays]).open().unwrap();
    texts(&stream, 30);
    let proxy = kafka.proxy(1);
    let (metadata, fetches) = (proxy.requests(METADATA), proxy.requests(FETCH));
    kafka.delete_topic(&gone);
    let mut iter = stream.iter();
    let mut failed = Vec::new();
    while failed.len() < 3 {
        match iter.next_timeout(LONG) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
                assert_eq!(error.topic(), Some(&*gone), "{error}");
                failed.extend(error.partition());
            }
            other => panic!("{other:?} after {failed:?}; {:?}", stream.health()),
        }
    }
    failed.sort_unstable();
    assert_eq!(failed, [0, 1, 2]);
    let asked = proxy.requests(METADATA) - metadata;
    let fetched = proxy.requests(FETCH) - fetches;
    println!("{asked} metadata requests and {fetched} Fetches until the topic was told to be unknown");
    // With delays from 100 ms on that double, two seconds have room for a few.
    assert!(asked <= 20, "{asked} metadata requests");
    // The other topic is asked for briefly each time, so that this one is not held up.
    assert!(fetched <= 100, "{fetched} Fetches");
    assert!(!stream.health().is_healthy());

    // Told once; the other topic goes on; and nobody asks on and on.
    let metadata = proxy.requests(METADATA);
    let fetches = proxy.requests(FETCH);
    assert!(matches!(iter.next_timeout(Duration::from_secs(3)), Ok(Next::TimedOut)));
    let asked = proxy.requests(METADATA) - metadata;
    let fetched = proxy.requests(FETCH) - fetches;
    println!("{asked} metadata requests and {fetched} Fetches in three seconds after that");
    assert!(asked <= 3, "{asked} metadata requests");
    assert!(fetched <= 12, "{fetched} Fetches");
    drop(iter);
    kafka.java_writes(&stays, 0, &["here"]);
    assert_eq!(texts(&stream, 1), ["here"]);
}

#[test]
fn a_recreated_topic_is_read_from_its_first_record() {
    let kafka = shared_behind_a_proxy();
    let client = Client::builder()
        .bootstrap(kafka.bootstrap())
        .unknown_topic_ttl(LONG)
        .connect()
        .unwrap();
    // The new one has fewer records than were read of the old one, or more.
    for more in [10, 300] {
        let topic = unique("anew");
        kafka.create_topic(&topic, 1, &[]);
        kafka.fill(&topic, 1, 100, "none", 10);
        let stream = client.reader().topics([&topic]).open().unwrap();
        texts(&stream, 100);
        kafka.delete_topic(&topic);
        wait_until("the topic is gone", LONG, || kafka.leader(&topic, 0) < 0);
        kafka.create_topic(&topic, 1, &[]);
        let values: Vec<String> = (0..more).map(|n| format!("new-{n}")).collect();
        kafka.java_writes(&topic, 0, &values.iter().map(String::as_str).collect::<Vec<_>>());
        let first = next(&stream);
        assert_eq!((first.offset(), first.value()), (0, Some(&b"new-0"[..])));
        assert_eq!(texts(&stream, values.len() - 1), values[1..]);
        let is_told = |event: &Event| match event {
            Event::TopicRecreated { topic, .. } => Some(topic.clone()),
            _ => None,
        };
        assert_eq!(wait_for_event(&stream, "TopicRecreated", is_told), topic);
        wait_until("health", LONG, || stream.health().is_healthy());
        let resets = drain(&stream)
            .into_iter()
            .filter(|event| matches!(event, Event::OffsetReset { .. }));
        assert_eq!(resets.count(), 0, "old offsets mean nothing in the new topic");
    }
}

/// It was told to be unknown, and comes back later.
#[test]
fn a_topic_that_comes_back_late_is_read_after_a_seek() {
    let kafka = Kafka::builder().start();
    let topic = unique("late");
    kafka.create_topic(&topic, 1, &[]);
    kafka.fill(&topic, 1, 100, "none", 10);
    let client = Client::builder()
        .bootstrap(kafka.bootstrap())
        .unknown_topic_ttl(Duration::from_secs(1))
        .connect()
        .unwrap();
    let stream = client.reader().topics([&topic]).open().unwrap();
    texts(&stream, 100);
    kafka.delete_topic(&topic);
    let error = stream
        .iter()
        .next()
        .unwrap()
        .map(|message| message.offset())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    wait_until("the topic is gone", LONG, || kafka.leader(&topic, 0) < 0);
    kafka.create_topic(&topic, 1, &[]);
    kafka.java_writes(&topic, 0, &["back"]);
    stream.seek((&topic, 0), StartAt::Earliest).unwrap();
    assert_eq!(texts(&stream, 1), ["back"]);
    wait_until("health", LONG, || stream.health().is_healthy());
}

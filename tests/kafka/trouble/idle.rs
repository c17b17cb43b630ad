//! Brokers close connections that nobody uses: nothing that a program does next may notice.

use std::time::Duration;

use klamm::{Event, NewTopic, StartAt, Topics};

use super::{LONG, connect, drain, next, wait_for_event};
use crate::support::{Kafka, unique, wait_until};

#[test]
fn the_first_call_after_an_idle_time_succeeds() {
    let kafka = Kafka::builder()
        .property("connections.max.idle.ms", 2000)
        .behind_proxies()
        .start();
    let (topic, other) = (unique("idle"), unique("idle-new"));
    kafka.create_topic(&topic, 1, &[]);
    kafka.java_writes(&topic, 0, &["before"]);
    // One client for each call, all idle at the same time.
    let clients: Vec<_> = (0..4).map(|_| connect(&kafka.bootstrap())).collect();
    let stream = clients[0].reader().topics([&topic]).open().unwrap();
    assert_eq!(next(&stream).value(), Some(&b"before"[..]));
    clients[1].metadata(Topics::named([&topic])).unwrap();
    assert_eq!(clients[2].offset_for(&topic, 0, StartAt::Latest).unwrap(), Some(1));
    clients[3].metadata(Topics::All).unwrap();
    stream.pause([(&topic, 0)]).unwrap();
    let proxy = kafka.proxy(1);
    // Nobody reads from the connection of a stream that is paused, so that its other half stays open here.
    wait_until("the broker closes everything", LONG, || proxy.open() <= 1);
    std::thread::sleep(Duration::from_secs(4));
    assert!(stream.health().is_healthy(), "{:?}", stream.health());

    kafka.java_writes(&topic, 0, &["after"]);
    stream.resume([(&topic, 0)]).unwrap();
    assert_eq!(next(&stream).value(), Some(&b"after"[..]));
    assert_eq!(clients[1].metadata(Topics::named([&topic])).unwrap().topics.len(), 1);
    assert_eq!(clients[2].offset_for(&topic, 0, StartAt::Latest).unwrap(), Some(2));
    let created = clients[3].admin().create_topics([NewTopic::new(&other, 1, 1)]).unwrap();
    created.all().unwrap();
    assert!(stream.health().is_healthy(), "{:?}", stream.health());
    let troubles: Vec<_> = drain(&stream)
        .into_iter()
        .filter(|event| matches!(event, Event::Disconnected { .. }))
        .collect();
    assert!(troubles.is_empty(), "{troubles:?}");
}

/// A long poll that the broker cuts short each time, because it has forgotten that somebody waits.
#[test]
fn a_long_poll_may_be_longer_than_the_broker_s_idle_time() {
    let kafka = Kafka::builder()
        .property("connections.max.idle.ms", 1000)
        .behind_proxies()
        .start();
    let topic = unique("idle-poll");
    kafka.create_topic(&topic, 1, &[]);
    kafka.java_writes(&topic, 0, &["before"]);
    let client = connect(&kafka.bootstrap());
    let stream = client
        .reader()
        .topics([&topic])
        .max_wait(Duration::from_secs(20))
        .open()
        .unwrap();
    assert_eq!(next(&stream).value(), Some(&b"before"[..]));
    wait_for_event(&stream, "Assigned", |event| {
        matches!(event, Event::Assigned { .. }).then_some(())
    });
    std::thread::sleep(Duration::from_secs(5));
    println!("{} connections", kafka.proxy(1).accepted());
    assert!(kafka.proxy(1).accepted() < 12, "dialled again and again");
    assert!(stream.health().is_healthy(), "{:?}", stream.health());
    let events = drain(&stream);
    assert!(events.is_empty(), "{events:?}");
    kafka.java_writes(&topic, 0, &["after"]);
    assert_eq!(next(&stream).value(), Some(&b"after"[..]));
}

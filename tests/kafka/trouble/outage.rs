//! The whole cluster goes away and comes back.

use std::time::{Duration, Instant};

use klamm::{Client, ErrorKind, Health, Next};

use super::{FETCH, LONG, METADATA, Order, connect, texts};
use crate::support::{Kafka, unique, wait_until};

#[test]
fn reading_goes_on_by_itself_after_an_outage() {
    let kafka = Kafka::builder().brokers(3).behind_proxies().start();
    let topic = unique("outage");
    kafka.create_topic_on(&topic, &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]], &[]);
    kafka.fill(&topic, 3, 3000, "lz4", 100);
    let client = connect(&kafka.bootstrap());
    let stream = client.reader().topics([&topic]).open().unwrap();
    let mut order = Order::default();
    let mut read = |count: usize| {
        let mut iter = stream.iter();
        while order.count < count {
            match iter.next_timeout(LONG).unwrap() {
                Next::Message(message) => {
                    order.take(&message);
                    message.ack();
                }
                other => panic!("{other:?} after {}; {:?}", order.count, stream.health()),
            }
        }
    };
    read(3000);
    kafka.wait_until_in_sync(&topic);
    for broker in 1..=3 {
        kafka.kill9(broker);
    }
    wait_until("health tells", LONG, || !stream.health().is_healthy());
    let Health::Unhealthy(problems) = stream.health() else {
        panic!("it was not healthy just now")
    };
    println!("{}", problems[0].error);
    assert!(
        problems.iter().all(|problem| matches!(
            problem.error.kind(),
            ErrorKind::Io | ErrorKind::Unreachable | ErrorKind::TimedOut
        )),
        "{problems:?}"
    );
    // A second after the fall, delays have grown to about a second each.
    std::thread::sleep(Duration::from_secs(2));
    let accepted = || (1..=3).map(|broker| kafka.proxy(broker).accepted()).sum::<usize>();
    let (before, begun) = (accepted(), Instant::now());
    assert!(matches!(
        stream.iter().next_timeout(Duration::from_secs(6)),
        Ok(Next::TimedOut)
    ));
    let tries = accepted() - before;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{tries} connections tried in {seconds:.1} s");
    // Per broker a lane and whoever asks for metadata, each once a second, and a bit for those that come early.
    assert!(
        (tries as f64) < 3.0 * 2.0 * (seconds / 0.8 + 1.0),
        "{tries} connections in {seconds:.1} s"
    );
    assert!(!stream.health().is_healthy());

    for broker in 1..=3 {
        kafka.start_without_waiting(broker);
    }
    kafka.wait_for_topic(&topic, 3);
    kafka.fill_from(1000, &topic, 3, 3000, "lz4", 100);
    let begun = Instant::now();
    read(6000);
    println!("read on {:?} after the writer was done", begun.elapsed());
    wait_until("health", LONG, || stream.health().is_healthy());
    let asked = || {
        (1..=3)
            .map(|broker| kafka.proxy(broker).requests(FETCH) + kafka.proxy(broker).requests(METADATA))
            .sum::<u64>()
    };
    let before = asked();
    std::thread::sleep(Duration::from_secs(2));
    assert!(
        asked() - before < 40,
        "{} requests in two quiet seconds",
        asked() - before
    );
}

#[test]
fn a_lazy_client_may_be_there_before_the_broker() {
    let kafka = Kafka::builder().start();
    let topic = unique("lazy");
    kafka.create_topic(&topic, 1, &[]);
    kafka.java_writes(&topic, 0, &["one"]);
    kafka.kill9(1);
    let address = kafka.bootstrap();
    let list = format!("{address},127.0.0.1:1");

    let error = Client::connect(&list).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    for named in [&*address, "127.0.0.1:1", "connection refused"] {
        assert!(error.to_string().contains(named), "{error}");
    }
    let impatient = Client::builder()
        .bootstrap(&list)
        .request_timeout(Duration::from_secs(1));
    let impatient = impatient.connect_lazy().unwrap();
    let begun = Instant::now();
    let error = impatient.reader().topics([&topic]).open().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::TimedOut),
        "{error}"
    );
    assert!(error.to_string().contains(&address), "{error}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "a request_timeout of one second took {:?}",
        begun.elapsed()
    );

    let patient = Client::builder()
        .bootstrap(&list)
        .request_timeout(LONG)
        .connect_lazy()
        .unwrap();
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| patient.reader().topics([&topic]).open());
        std::thread::sleep(Duration::from_millis(500));
        assert!(!opened.is_finished(), "it waits for a broker");
        kafka.start(1);
        let stream = opened.join().unwrap().unwrap();
        assert_eq!(texts(&stream, 1), ["one"]);
    });
    assert_eq!(impatient.partitions(&topic).unwrap(), 1);
}

/// A stream whose broker is down may be closed at once, and dropped.
#[test]
fn closing_does_not_wait_for_a_broker_that_is_gone_or_frozen() {
    let kafka = Kafka::builder().start();
    let topic = unique("frozen");
    kafka.create_topic(&topic, 3, &[]);
    kafka.fill(&topic, 3, 3, "none", 10);
    let client = connect(&kafka.bootstrap());
    let open = || {
        let stream = client.reader().topics([&topic]).open().unwrap();
        texts(&stream, 3);
        stream
    };
    let (frozen, frozen_drop, dead, dead_drop) = (open(), open(), open(), open());
    kafka.sigstop(1);
    std::thread::sleep(Duration::from_millis(700));
    let begun = Instant::now();
    frozen.close(LONG).unwrap();
    drop(frozen_drop);
    let of_frozen = begun.elapsed();
    kafka.kill9(1);
    wait_until("it is noticed", LONG, || !dead.health().is_healthy());
    let begun = Instant::now();
    dead.close(LONG).unwrap();
    drop(dead_drop);
    let of_dead = begun.elapsed();
    let begun = Instant::now();
    client.close(LONG).unwrap();
    println!(
        "closed in {of_frozen:?} (frozen), {of_dead:?} (dead), the client in {:?}",
        begun.elapsed()
    );
    for time in [of_frozen, of_dead, begun.elapsed()] {
        assert!(time < Duration::from_secs(2), "{time:?}");
    }
}

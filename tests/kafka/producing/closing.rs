//! The end of a producer: it always comes, says what is left, and leaves nothing behind.

#![allow(clippy::disallowed_methods, reason = "tests measure times, and wait for brokers")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::{Client, Delivery, ErrorKind, Producer, Record, TopicPartition};

use super::errors::{LONG, create, log, refused, says, topic_with};
use crate::support::{
    ALONE, Kafka, alone, klamm_threads, nothing_is_left, shared, sockets, unique, wait_for_a_place, wait_until,
};

fn frozen(name: &str) -> (Kafka, Client, String, Producer) {
    let kafka = Kafka::builder().start();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let topic = unique(name);
    create(&kafka, &client, &topic, 2, &[]);
    let builder = client.producer().linger(Duration::ZERO).batch_bytes(10_000);
    let producer = builder.buffer_bytes(300_000).build().unwrap();
    for partition in 0..2 {
        let record = Record::to(&topic).partition(partition).value("before");
        producer.send_sync(record, LONG).unwrap();
    }
    (kafka, client, topic, producer)
}

#[test]
fn a_frozen_broker_does_not_hold_up_the_end_which_says_what_is_left_and_what_is_not_known() {
    let (kafka, client, topic, producer) = frozen("frozen");
    kafka.sigstop(1);
    let value = "x".repeat(1_000);
    let mut sent = [Vec::new(), Vec::new()];
    let called = Arc::new(Mutex::new(Vec::new()));
    for number in 0..100 {
        let partition = usize::from(number % 4 == 0);
        let record = Record::to(&topic).partition(partition as i32).value(&value);
        if number % 10 == 9 {
            let called = Arc::clone(&called);
            let call = move |outcome: klamm::Result<_>| called.lock().unwrap().push(outcome.map(drop));
            producer.send_with(record, call).unwrap();
            continue;
        }
        sent[partition].push(producer.send(record).unwrap());
    }
    // Somebody waits for room, and for a record.
    let record = || Record::to(&topic).partition(0).value(&value);
    let filled = std::iter::from_fn(|| producer.try_send(record()).ok()).count();
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (producer, tell) = (&producer, tell.clone());
            scope.spawn(move || tell.send(producer.send(record()).map(drop)).unwrap());
        }
        let first = &sent[0][0];
        scope.spawn(move || {
            let error = first.wait(LONG).unwrap_err();
            says(&error, ErrorKind::OutcomeUnknown, &["producer was closed"]);
        });
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        let timeout = Duration::from_secs(2);
        let report = producer.close(timeout).unwrap();
        let took = began.elapsed();
        assert!(took >= timeout, "{took:?}");
        assert!(took < timeout + Duration::from_secs(10), "{took:?}");
        for _ in 0..3 {
            refused(
                told.recv_timeout(LONG).unwrap(),
                ErrorKind::Closed,
                &["producer was closed"],
            );
        }
        // 75 and 25 in this order, with those that filled the buffer.
        let left = |partition| report.undelivered[&TopicPartition::new(&topic, partition)];
        assert_eq!((left(0), left(1)), (75 + filled as u64, 25));
        // Those that filled it had their deliveries dropped.
        assert!(report.error.is_some() && !report.is_clean());
        let again = producer.close(LONG).unwrap();
        assert_eq!(again.undelivered, report.undelivered);
    });
    let mut unknown = 0;
    for deliveries in &sent {
        let kinds: Vec<_> = Delivery::wait_all(deliveries, Duration::ZERO)
            .into_iter()
            .map(|outcome| {
                let error = outcome.unwrap_err();
                says(&error, error.kind(), &["producer was closed", &topic]);
                error.kind()
            })
            .collect();
        // What was sent comes first, and its outcome is not known.
        let sent = kinds
            .iter()
            .take_while(|kind| **kind == ErrorKind::OutcomeUnknown)
            .count();
        assert!(kinds[sent..].iter().all(|kind| *kind == ErrorKind::Closed), "{kinds:?}");
        assert!(sent > 0, "{kinds:?}");
        unknown += sent;
    }
    let all: usize = sent.iter().map(Vec::len).sum();
    assert!(unknown < all, "{unknown} of {all}");
    // Called all the same, each of them once, before the end.
    let called = called.lock().unwrap();
    assert_eq!(called.len(), 10);
    assert!(called.iter().all(Result::is_err));
    kafka.sigcont(1);
    let written: usize = log(&client, &topic).values().map(Vec::len).sum();
    assert!(written <= 2 + unknown + 10, "{written} of {unknown}");
}

#[test]
fn the_end_of_the_client_is_that_of_its_producers() {
    let (kafka, client, topic, producer) = frozen("client-end");
    kafka.sigstop(1);
    let value = "x".repeat(1_000);
    let record = || Record::to(&topic).partition(0).value(&value);
    let sent: Vec<_> = std::iter::from_fn(|| producer.try_send(record()).ok()).collect();
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        let (producer, sent) = (&producer, &sent);
        let send = tell.clone();
        scope.spawn(move || send.send(producer.send(record()).map(drop)).unwrap());
        let flush = tell.clone();
        scope.spawn(move || flush.send(producer.flush(LONG)).unwrap());
        scope.spawn(move || tell.send(sent.last().unwrap().wait(LONG).map(drop)).unwrap());
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        client.close(Duration::from_secs(5)).unwrap();
        for _ in 0..3 {
            refused(
                told.recv_timeout(LONG).unwrap(),
                ErrorKind::Closed,
                &["producer was closed"],
            );
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    });
    let report = producer.close(LONG).unwrap();
    assert_eq!(report.undelivered[&TopicPartition::new(&topic, 0)], sent.len() as u64);
}

#[test]
fn dropping_delivers_what_was_sent() {
    let (client, topic) = topic_with("dropping", 2, &[]);
    let called = Arc::new(AtomicUsize::new(0));
    let produce = || {
        let builder = client.producer().linger(Duration::from_secs(60));
        let producer = builder.build().unwrap();
        for number in 0..500 {
            producer
                .send_detached(Record::to(&topic).partition(number % 2).value("v"))
                .unwrap();
        }
        let called = Arc::clone(&called);
        let call = move |outcome: klamm::Result<_>| {
            outcome.unwrap();
            called.fetch_add(1, Ordering::SeqCst);
        };
        producer.send_with(Record::to(&topic).partition(0), call).unwrap();
        producer
    };
    let count = || log(&client, &topic).values().map(Vec::len).sum::<usize>();
    drop(produce());
    assert_eq!((count(), called.load(Ordering::SeqCst)), (501, 1));
    // By a panic too.
    let panicked = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let _producer = produce();
            panic!("a panic that has to be there");
        });
        thread.join()
    });
    assert!(panicked.is_err());
    assert_eq!((count(), called.load(Ordering::SeqCst)), (1_002, 2));
}

/// Keeps what is logged as a warning.
struct Warnings(Mutex<Vec<String>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn dropping_waits_a_little_for_a_frozen_broker_and_logs_what_was_not_delivered() {
    let place = std::env::var_os(ALONE).is_none().then(wait_for_a_place);
    let test = "producing::closing::dropping_waits_a_little_for_a_frozen_broker_and_logs_what_was_not_delivered";
    let Some(_) = alone(test, "") else {
        drop(place);
        return;
    };
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let mut took = Vec::new();
    for panics in [false, true] {
        let before = sockets();
        let (kafka, client, topic, producer) = frozen("dropped");
        kafka.sigstop(1);
        for _ in 0..30 {
            let record = Record::to(&topic).partition(1).value("v");
            producer.send_detached(record).unwrap();
        }
        let delivery = producer.send(Record::to(&topic).partition(0).value("v")).unwrap();
        WARNINGS.0.lock().unwrap().clear();
        let began = Instant::now();
        let dropping = std::thread::spawn(move || {
            let _producer = producer;
            assert!(!panics, "a panic that has to be there");
        });
        assert_eq!(dropping.join().is_err(), panics);
        took.push(began.elapsed());
        let error = delivery.poll().expect("it has an end").unwrap_err();
        says(&error, error.kind(), &["producer was closed", &topic]);
        let warnings = WARNINGS.0.lock().unwrap().join("\n");
        for part in [&*topic, "partition: 0 }: 1,", "partition: 1 }: 30}"] {
            assert!(warnings.contains(part), "{part:?} is not in: {warnings}");
        }
        // While the broker stands still.
        drop(client);
        nothing_is_left(before);
    }
    println!("{took:?}, the second in a panic");
    let [drop, panic] = [Duration::from_secs(5), Duration::from_secs(1)];
    assert!(took[0] >= drop && took[0] < 3 * drop, "{took:?}");
    assert!(took[1] >= panic && took[1] < drop, "{took:?}");
}

#[test]
fn a_producer_whose_last_handle_goes_in_a_callback_ends_without_it() {
    let mut made = String::new();
    if std::env::var_os(ALONE).is_none() {
        let (_, topic) = topic_with("last-handle", 1, &[]);
        made = format!("{} {topic}", shared().bootstrap());
    }
    let test = "producing::closing::a_producer_whose_last_handle_goes_in_a_callback_ends_without_it";
    let Some(given) = alone(test, &made) else {
        return;
    };
    let (bootstrap, topic) = given.split_once(' ').unwrap();
    let before = sockets();
    for closes in [false, true] {
        let client = Client::connect(bootstrap).unwrap();
        let producer = Arc::new(client.producer().linger(Duration::from_millis(500)).build().unwrap());
        drop(client);
        let (tell, told) = channel();
        let (go, wait) = channel::<()>();
        let within = Arc::clone(&producer);
        producer
            .send_with(Record::to(topic).value("v"), move |outcome| {
                wait.recv_timeout(LONG).ok();
                if closes {
                    refused(within.close(LONG).map(drop), ErrorKind::WouldDeadlock, &["callback"]);
                }
                drop(within);
                tell.send(outcome.map(drop)).unwrap();
            })
            .unwrap();
        // One that comes later than the drop.
        let (tell_late, told_late) = channel();
        let delivery = producer.send(Record::to(topic).value("w")).unwrap();
        let call = move |outcome: klamm::Result<_>| tell_late.send(outcome.map(drop)).unwrap();
        producer.send_with(Record::to(topic).value("x"), call).unwrap();
        drop(producer);
        go.send(()).unwrap();
        told.recv_timeout(LONG).unwrap().unwrap();
        told_late.recv_timeout(LONG).unwrap().unwrap();
        delivery.wait(LONG).unwrap();
        nothing_is_left(before);
    }
}

#[test]
fn a_hundred_producers_leave_no_thread_and_no_socket() {
    let mut made = String::new();
    if std::env::var_os(ALONE).is_none() {
        let (_, topic) = topic_with("hundred", 5, &[]);
        made = format!("{} {topic}", shared().bootstrap());
    }
    let test = "producing::closing::a_hundred_producers_leave_no_thread_and_no_socket";
    let Some(given) = alone(test, &made) else {
        return;
    };
    let (bootstrap, topic) = given.split_once(' ').unwrap();
    let before = sockets();
    let client = Client::connect(bootstrap).unwrap();
    client.partitions(topic).unwrap();
    let with_client = (klamm_threads().len(), sockets());
    let mut sent = 0;
    for round in 0..100 {
        let producer = client.producer().linger(Duration::from_secs(60)).build().unwrap();
        let to = |partition| Record::to(topic).partition(partition).value("v");
        match round % 5 {
            0 => {}
            1 => drop(producer.send_sync(to(0), LONG).unwrap()),
            2 => {
                for partition in 0..5 {
                    drop(producer.send(to(partition)).unwrap());
                }
            }
            3 => producer.send_with(to(3), |outcome| drop(outcome.unwrap())).unwrap(),
            _ => drop(producer.partition(topic, 2).unwrap().send(Record::new()).unwrap()),
        }
        sent += [0, 1, 5, 1, 1][round % 5];
        if round % 2 == 0 {
            assert!(producer.close(LONG).unwrap().is_clean());
            assert!(producer.close(LONG).unwrap().is_clean());
        }
        drop(producer);
        // A joined thread may be listed for a moment longer.
        wait_until("the threads have ended", LONG, || {
            klamm_threads().len() <= with_client.0
        });
        wait_until("the sockets are closed", LONG, || sockets() <= with_client.1 + 1);
    }
    let written: usize = log(&client, topic).values().map(Vec::len).sum();
    assert_eq!(written, sent);
    // They keep what they need of the client, and give it back.
    let producer = client.producer().build().unwrap();
    drop(client);
    producer.send_sync(Record::to(topic).value("v"), LONG).unwrap();
    drop(producer);
    nothing_is_left(before);
}

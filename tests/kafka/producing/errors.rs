//! What a producer says when a record cannot be written: whose turn it is, and nothing else has suffered.

#![allow(clippy::disallowed_methods, reason = "tests measure times, and wait for brokers")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use kafka_protocol::messages::ProduceResponse;
use klamm::{Acks, Client, Compression, Delivery, Error, ErrorKind, NewTopic, Producer, Record, RecordMetadata};

use super::connections::{PRODUCE, read};
use crate::support::{Direction, Fate, Kafka, Proxy, Random, shared, shared_behind_a_proxy, unique, wait_until};

const MESSAGE_TOO_LARGE: i16 = 10;

/// No machine is so slow.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// A client of the shared broker, and a topic there with these settings.
pub(crate) fn topic_with(name: &str, partitions: i32, settings: &[(&str, &str)]) -> (Client, String) {
    let client = Client::connect(&shared().bootstrap()).unwrap();
    let topic = unique(name);
    create(shared(), &client, &topic, partitions, settings);
    (client, topic)
}

pub(crate) fn create(kafka: &Kafka, client: &Client, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let new = NewTopic::new(topic, partitions, 1);
    let new = settings
        .iter()
        .fold(new, |new, (name, value)| new.config(*name, *value));
    let mut made = client
        .admin()
        .create_topics([new.clone()])
        .and_then(klamm::Results::all);
    // A broker that has just been started, on a slow machine, may be fenced for a moment.
    wait_until("the topic is made", LONG, || {
        if made.as_ref().is_err_and(|error| error.code() == Some(38)) {
            made = client
                .admin()
                .create_topics([new.clone()])
                .and_then(klamm::Results::all);
            return false;
        }
        true
    });
    made.unwrap();
    kafka.wait_for_topic(topic, partitions as usize);
}

/// The begin of each value in the log, by partition and in order.
pub(crate) fn log(client: &Client, topic: &str) -> BTreeMap<i32, Vec<String>> {
    let mut log = BTreeMap::<i32, Vec<String>>::new();
    for message in client.reader().topics([topic]).until_end().open().unwrap() {
        let message = message.unwrap();
        let value = message.value().unwrap_or_default();
        let text = String::from_utf8_lossy(&value[..value.len().min(10)]).into_owned();
        log.entry(message.partition()).or_default().push(text);
    }
    log
}

/// The error is of this kind, and its sentence says all of this.
#[track_caller]
pub(crate) fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, parts: &[&str]) {
    says(&result.unwrap_err(), kind, parts);
}

/// Each partition can be written to.
#[track_caller]
fn all_partitions_work(producer: &Producer, topic: &str, partitions: i32) {
    for partition in 0..partitions {
        let record = Record::to(topic).partition(partition).key("k").value("after");
        producer.send_sync(record, LONG).unwrap();
    }
}

fn numbered(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("{number:010}")).collect()
}

/// Text that does not become less than half of it when it is compressed.
fn noise(random: &mut Random, length: usize) -> String {
    (0..length)
        .map(|_| char::from(b"0123456789abcdef"[random.index(16)]))
        .collect()
}

fn outcomes(deliveries: &[Delivery]) -> Vec<Result<RecordMetadata, Error>> {
    Delivery::wait_all(deliveries, LONG)
}

// ---- topics and partitions ----

#[test]
fn a_topic_that_there_is_not_is_an_error_once_it_could_have_been_made() {
    let client = Client::builder().bootstrap(shared().bootstrap());
    let client = client.unknown_topic_ttl(Duration::from_millis(500)).connect().unwrap();
    let (_, other) = topic_with("there", 2, &[]);
    let producer = client.producer().build().unwrap();
    let missing = unique("missing");
    let began = Instant::now();
    refused(
        producer.send(Record::to(&missing).value("v")),
        ErrorKind::UnknownTopic,
        &[&missing],
    );
    assert!(began.elapsed() >= Duration::from_millis(500));
    refused(
        producer.send_sync(Record::to(&missing), LONG),
        ErrorKind::UnknownTopic,
        &[&missing],
    );
    refused(
        producer.partition(&missing, 0).map(drop),
        ErrorKind::UnknownTopic,
        &[&missing],
    );
    refused(
        producer.send(Record::new().value("v")),
        ErrorKind::Config,
        &["names no topic"],
    );
    all_partitions_work(&producer, &other, 2);
    create(shared(), &client, &missing, 1, &[]);
    all_partitions_work(&producer, &missing, 1);
}

#[test]
fn a_partition_that_the_topic_has_not_is_named_with_the_number_of_those_it_has() {
    let (client, topic) = topic_with("partitions", 3, &[]);
    let producer = client.producer().build().unwrap();
    for partition in [3, 700, -1] {
        let record = Record::to(&topic).partition(partition).value("v");
        let parts = [&*format!("no partition {partition}"), "it has 3", &topic];
        refused(producer.send(record.clone()), ErrorKind::UnknownTopic, &parts);
        refused(producer.try_send(record), ErrorKind::UnknownTopic, &parts);
        refused(
            producer.partition(&topic, partition).map(drop),
            ErrorKind::UnknownTopic,
            &parts,
        );
    }
    all_partitions_work(&producer, &topic, 3);
    assert_eq!(log(&client, &topic).len(), 3);
}

#[test]
fn a_topic_that_is_deleted_while_it_is_written_to_ends_with_an_error_and_its_successor_works() {
    let (client, gone) = topic_with("deleted", 2, &[]);
    let (_, stays) = topic_with("stays", 2, &[]);
    let producer = client.producer().build().unwrap();
    let handle = producer.partition(&gone, 1).unwrap();
    let mut kept = 0;
    let mut send_both = || {
        let sent = producer.send(Record::to(&gone).value("v"));
        producer
            .send_detached(Record::to(&stays).partition(0).value(&format!("{kept:010}")))
            .unwrap();
        kept += 1;
        sent
    };
    for _ in 0..100 {
        send_both().unwrap();
    }
    producer.flush(LONG).unwrap();
    client
        .admin()
        .delete_topics([&*gone])
        .and_then(klamm::Results::all)
        .unwrap();
    let began = Instant::now();
    let mut open = Vec::new();
    // Until it is refused at once, what was taken over before has to end with an error.
    let refusal = loop {
        match send_both() {
            Ok(delivery) => open.push(delivery),
            Err(error) => break error,
        }
        assert!(began.elapsed() < LONG, "nobody noticed");
        std::thread::sleep(Duration::from_millis(10));
    };
    says(&refusal, ErrorKind::UnknownTopic, &[&gone]);
    let mut ended = 0;
    for outcome in Delivery::wait_all(&open, Duration::from_secs(30)) {
        if let Err(error) = outcome {
            // What was on its way when the log was removed may have been in it.
            assert!(
                matches!(error.kind(), ErrorKind::UnknownTopic | ErrorKind::OutcomeUnknown),
                "{error}"
            );
            says(&error, error.kind(), &[&gone, "UnknownTopic"]);
            ended += usize::from(error.kind() == ErrorKind::UnknownTopic);
        }
    }
    assert!(ended > 0, "of {} deliveries", open.len());
    drop(open);
    producer.flush(LONG).unwrap();
    assert_eq!(log(&client, &stays)[&0], numbered(0, kept));
    wait_until("the topic can be made again", LONG, || {
        let made = client.admin().create_topics([NewTopic::new(&gone, 2, 1)]);
        made.and_then(klamm::Results::all).is_ok()
    });
    shared().wait_for_topic(&gone, 2);
    all_partitions_work(&producer, &gone, 2);
    handle.send_sync(Record::new().value("handle"), LONG).unwrap();
    assert_eq!(log(&client, &gone)[&1], ["after", "handle"]);
}

// ---- sizes ----

#[test]
fn a_record_that_is_too_large_fails_alone_and_its_batch_is_written_once_and_in_order() {
    let (client, topic) = topic_with("large", 1, &[]);
    let builder = client.producer().batch_bytes(16 << 20).request_bytes(16 << 20);
    let producer = builder.linger(Duration::from_secs(60)).build().unwrap();
    let large = |name: &str| format!("{name:>10}{}", "x".repeat(2 << 20));
    for round in 0..3 {
        let mut expected = Vec::new();
        let mut deliveries = Vec::new();
        for number in 0..300 {
            if number % 100 == 50 {
                let record = Record::to(&topic);
                deliveries.push((false, producer.send(record.value(&large("large"))).unwrap()));
            }
            let value = format!("{:010}", round * 300 + number);
            deliveries.push((true, producer.send(Record::to(&topic).value(&value)).unwrap()));
            expected.push(value);
        }
        let mut next = round * 300;
        for (is_small, delivery) in &deliveries {
            let outcome = delivery.wait(LONG);
            if *is_small {
                assert_eq!(outcome.unwrap().offset, Some(next));
                next += 1;
            } else {
                let parts = ["max.message.bytes", &*format!("{topic}-0")];
                refused(outcome, ErrorKind::TooLarge, &parts);
            }
        }
        producer.flush(LONG).unwrap();
        assert_eq!(log(&client, &topic)[&0][(round * 300) as usize..], expected);
    }
}

#[test]
fn a_record_longer_than_a_batch_goes_alone_where_the_topic_takes_it() {
    let (client, topic) = topic_with("raised", 1, &[("max.message.bytes", "4000000")]);
    let producer = client.producer().batch_bytes(100_000).build().unwrap();
    let mut deliveries = Vec::new();
    let mut expected = Vec::new();
    for number in 0..30 {
        let mut value = format!("{number:010}");
        expected.push(value.clone());
        if number % 10 == 5 {
            value.push_str(&"x".repeat(2 << 20));
        }
        deliveries.push(producer.send(Record::to(&topic).value(&value)).unwrap());
    }
    for (number, outcome) in (0..).zip(outcomes(&deliveries)) {
        assert_eq!(outcome.unwrap().offset, Some(number));
    }
    assert_eq!(log(&client, &topic)[&0], expected);
}

/// How many batches a broker has refused as too large, and how many it has taken.
fn count_too_large(proxy: &Proxy) -> Arc<[AtomicUsize; 2]> {
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counting = Arc::clone(&counts);
    proxy.on_answer(move |asked, frame| {
        if asked.api_key == PRODUCE {
            let answer = read::<ProduceResponse>(asked, frame);
            for told in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
                match told.error_code {
                    MESSAGE_TOO_LARGE => counting[0].fetch_add(1, Ordering::SeqCst),
                    0 => counting[1].fetch_add(1, Ordering::SeqCst),
                    _ => 0,
                };
            }
        }
        Fate::Forward
    });
    counts
}

#[test]
fn batches_that_are_too_large_for_the_topic_are_taken_apart_and_later_ones_are_smaller() {
    let kafka = shared_behind_a_proxy();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let topic = unique("small");
        create(&kafka, &client, &topic, 2, &[("max.message.bytes", "10000")]);
        // Each phase is one batch of each partition, unless something makes it smaller.
        let builder = client
            .producer()
            .compression(compression)
            .linger(Duration::from_secs(60));
        let producer = builder.batch_bytes(500_000).build().unwrap();
        let mut random = Random(7);
        let mut expected = [Vec::new(), Vec::new()];
        for phase in 0..2 {
            let counts = count_too_large(kafka.proxy(1));
            let mut deliveries = Vec::new();
            for _ in 0..2000 {
                for (partition, expected) in (0..).zip(&mut expected) {
                    let value = format!("{:010}{}", expected.len(), noise(&mut random, 150));
                    let record = Record::to(&topic).partition(partition).value(&value);
                    deliveries.push((expected.len() as i64, producer.send(record).unwrap()));
                    expected.push(format!("{:010}", expected.len()));
                }
            }
            producer.flush(LONG).unwrap();
            for (number, delivery) in deliveries {
                assert_eq!(delivery.wait(LONG).unwrap().offset, Some(number));
            }
            let [refused, taken] = [0, 1].map(|at: usize| counts[at].load(Ordering::SeqCst));
            println!("{compression:?}, phase {phase}: {refused} batches were refused, {taken} were taken");
            if phase == 0 {
                assert!(refused > 0, "nothing was taken apart: {compression:?}");
            } else {
                // Halved until they are taken, about as many would be refused as are taken.
                assert!(
                    refused * 4 <= taken,
                    "{refused} refused, {taken} taken: {compression:?}"
                );
            }
        }
        let log = log(&client, &topic);
        assert_eq!([&log[&0], &log[&1]], [&expected[0], &expected[1]]);
        assert!(producer.close(LONG).unwrap().is_clean());
    }
}

#[test]
fn a_record_longer_than_the_whole_buffer_is_refused_before_anything_else() {
    let (client, topic) = topic_with("buffer", 1, &[]);
    let producer = client.producer().buffer_bytes(1 << 20).build().unwrap();
    let value = "x".repeat(1 << 20);
    let parts = ["buffer_bytes", "1048576", &*format!("{topic}-0")];
    refused(
        producer.send(Record::to(&topic).value(&value)),
        ErrorKind::TooLarge,
        &parts,
    );
    refused(
        producer.try_send(Record::to(&topic).value(&value)),
        ErrorKind::TooLarge,
        &parts,
    );
    all_partitions_work(&producer, &topic, 1);
}

#[test]
fn a_record_that_no_request_carries_is_refused_and_nothing_is_sent_for_ever() {
    let (client, topic) = topic_with("huge", 2, &[("max.message.bytes", "200000000")]);
    let producer = client.producer().buffer_bytes(300 << 20).build().unwrap();
    let sent: Vec<_> = (0..2)
        .map(|partition| {
            producer
                .send(Record::to(&topic).partition(partition).value("before"))
                .unwrap()
        })
        .collect();
    let value = vec![b'x'; 105 << 20];
    let huge = producer.send(Record::to(&topic).partition(0).value(&value)).unwrap();
    drop(value);
    refused(
        huge.wait(LONG),
        ErrorKind::TooLarge,
        &["request", &*format!("{topic}-0")],
    );
    for outcome in outcomes(&sent) {
        outcome.unwrap();
    }
    all_partitions_work(&producer, &topic, 2);
    let expected = vec!["before".to_owned(), "after".to_owned()];
    assert_eq!(
        log(&client, &topic),
        BTreeMap::from([(0, expected.clone()), (1, expected)])
    );
}

#[test]
fn two_long_records_that_no_request_carries_together_go_one_after_the_other() {
    let (client, topic) = topic_with("together", 2, &[("max.message.bytes", "200000000")]);
    let builder = client
        .producer()
        .buffer_bytes(200 << 20)
        .batch_bytes(60 << 20)
        .request_bytes(64 << 20);
    let producer = builder.linger(Duration::from_secs(60)).build().unwrap();
    let value = vec![b'x'; 58 << 20];
    let sent: Vec<_> = (0..2)
        .map(|partition| {
            producer
                .send(Record::to(&topic).partition(partition).value(&value))
                .unwrap()
        })
        .collect();
    for outcome in outcomes(&sent) {
        assert_eq!(outcome.unwrap().offset, Some(0));
    }
}

// ---- what is in a record ----

#[test]
fn a_record_from_the_far_future_fails_alone() {
    let (client, topic) = topic_with("future", 1, &[("message.timestamp.after.max.ms", "60000")]);
    for compression in [Compression::None, Compression::Lz4] {
        let before = log(&client, &topic).remove(&0).map_or(0, |log| log.len());
        let builder = client.producer().compression(compression);
        let producer = builder.linger(Duration::from_secs(60)).build().unwrap();
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        let mut sent = Vec::new();
        for number in 0..30 {
            let value = format!("{number:010}");
            let record = Record::to(&topic).value(&value);
            let record = if number % 10 == 7 {
                record.timestamp(tomorrow)
            } else {
                record
            };
            sent.push(producer.send(record).unwrap());
        }
        let mut next = before as i64;
        for (number, outcome) in outcomes(&sent).into_iter().enumerate() {
            if number % 10 == 7 {
                refused(
                    outcome,
                    ErrorKind::InvalidRecord,
                    &["timestamp", &*format!("{topic}-0")],
                );
            } else {
                assert_eq!(outcome.unwrap().offset, Some(next));
                next += 1;
            }
        }
        let expected = numbered(0, 30)
            .into_iter()
            .enumerate()
            .filter(|(number, _)| number % 10 != 7);
        let expected: Vec<String> = expected.map(|(_, value)| value).collect();
        assert_eq!(log(&client, &topic)[&0][before..], expected);
        all_partitions_work(&producer, &topic, 1);
    }
}

#[test]
fn a_record_without_a_key_for_a_compacted_topic_fails_alone() {
    let (client, topic) = topic_with("compacted", 1, &[("cleanup.policy", "compact")]);
    let producer = client.producer().linger(Duration::from_secs(60)).build().unwrap();
    let mut sent = Vec::new();
    for number in 0..20 {
        let value = format!("{number:010}");
        let record = Record::to(&topic).value(&value);
        let is_keyless = number == 0 || number == 9 || number == 10 || number == 19;
        let record = if is_keyless { record } else { record.key(&value) };
        sent.push((is_keyless, producer.send(record).unwrap()));
    }
    let mut next = 0;
    for (is_keyless, delivery) in &sent {
        let outcome = delivery.wait(LONG);
        if *is_keyless {
            refused(outcome, ErrorKind::InvalidRecord, &["key", &*format!("{topic}-0")]);
        } else {
            assert_eq!(outcome.unwrap().offset, Some(next));
            next += 1;
        }
    }
    // Alone, and all of a batch.
    refused(
        producer.send_sync(Record::to(&topic).value("v"), LONG),
        ErrorKind::InvalidRecord,
        &["key"],
    );
    let sent: Vec<_> = (0..3)
        .map(|_| producer.send(Record::to(&topic).value("v")).unwrap())
        .collect();
    for outcome in outcomes(&sent) {
        refused(outcome, ErrorKind::InvalidRecord, &["key"]);
    }
    all_partitions_work(&producer, &topic, 1);
    assert_eq!(log(&client, &topic)[&0].len(), 17);
}

#[test]
fn a_time_before_1970_is_the_program_s_mistake() {
    let (client, topic) = topic_with("early", 1, &[]);
    let producer = client.producer().build().unwrap();
    let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let record = Record::to(&topic).value("v").timestamp(early);
    refused(producer.send(record), ErrorKind::Config, &["1970", &topic]);
    all_partitions_work(&producer, &topic, 1);
}

#[test]
fn a_topic_with_the_broker_s_time_tells_that_time() {
    let (client, topic) = topic_with("broker-time", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let (_, own) = topic_with("own-time", 1, &[]);
    let producer = client.producer().build().unwrap();
    let given = SystemTime::UNIX_EPOCH + Duration::from_millis(1_600_000_000_123);
    let began = SystemTime::now() - Duration::from_secs(1);
    let told = producer
        .send_sync(Record::to(&topic).value("v").timestamp(given), LONG)
        .unwrap();
    assert!(told.timestamp > began, "{told:?}");
    let read = client.reader().topics([&topic]).until_end().open().unwrap();
    let read: Vec<_> = read.into_iter().map(|message| message.unwrap().timestamp()).collect();
    assert_eq!(read, [Some(told.timestamp)]);
    let told = producer
        .send_sync(Record::to(&own).value("v").timestamp(given), LONG)
        .unwrap();
    assert_eq!(told.timestamp, given);
}

#[test]
fn without_acknowledgement_there_is_no_offset() {
    let (client, topic) = topic_with("no-acks", 1, &[]);
    let producer = client.producer().acks(Acks::None).build().unwrap();
    let sent: Vec<_> = numbered(0, 100)
        .iter()
        .map(|value| producer.send(Record::to(&topic).value(value)).unwrap())
        .collect();
    for outcome in outcomes(&sent) {
        let written = outcome.unwrap();
        assert_eq!((written.partition, written.offset), (0, None));
    }
    producer.flush(LONG).unwrap();
    wait_until("all of them are in the log", LONG, || {
        log(&client, &topic).get(&0).is_some_and(|log| log.len() == 100)
    });
    assert_eq!(log(&client, &topic)[&0], numbered(0, 100));
    let leader = client.producer().acks(Acks::Leader).build().unwrap();
    assert_eq!(
        leader.send_sync(Record::to(&topic).value("v"), LONG).unwrap().offset,
        Some(100)
    );
}

// ---- what takes too long ----

#[test]
fn a_broker_that_is_silent_fills_the_buffer_and_each_wait_names_itself() {
    let kafka = shared_behind_a_proxy();
    let client = Client::builder().bootstrap(kafka.bootstrap());
    let client = client.request_timeout(Duration::from_secs(10)).connect().unwrap();
    let topic = unique("silent");
    create(&kafka, &client, &topic, 2, &[]);
    let builder = client.producer().buffer_bytes(100_000).batch_bytes(20_000);
    let builder = builder.max_block(Duration::from_millis(700)).linger(Duration::ZERO);
    let producer = builder.delivery_timeout(Duration::from_secs(12)).build().unwrap();
    let place = format!("{topic}-0");
    let new = || Record::to(&topic).partition(0).value("before");
    producer.send_sync(new(), LONG).unwrap();
    let proxy: &Proxy = kafka.proxy(1);
    proxy.stall(Direction::ToBroker);
    let value = vec![b'x'; 5_000];
    let record = || Record::to(&topic).partition(0).value(&value);
    let first = producer.send(record()).unwrap();
    // Its own time-out says what it is, and it may be waited for again.
    let short = Duration::from_millis(50);
    for _ in 0..2 {
        let error = first.wait(short).unwrap_err();
        says(
            &error,
            ErrorKind::TimedOut,
            &["acknowledged", "50ms", "(timeout)", &place],
        );
        assert!(first.poll().is_none());
    }
    let mut open = vec![first];
    let full = loop {
        match producer.try_send(record()) {
            Ok(delivery) => open.push(delivery),
            Err(error) => break error,
        }
        assert!(open.len() < 100);
    };
    says(&full, ErrorKind::BufferFull, &["buffer_bytes", "100000", &place]);
    assert!(full.is_retriable());
    let began = Instant::now();
    let waited = producer.send(record()).unwrap_err();
    says(
        &waited,
        ErrorKind::TimedOut,
        &["room in the buffer", "buffer_bytes", "max_block", "700ms", &place],
    );
    assert!(began.elapsed() >= Duration::from_millis(700));
    refused(
        producer.flush(short),
        ErrorKind::TimedOut,
        &["acknowledged", "50ms", "(timeout)"],
    );
    let kinds: Vec<ErrorKind> = outcomes(&open)
        .into_iter()
        .map(|outcome| {
            let error = outcome.unwrap_err();
            says(&error, error.kind(), &["delivery_timeout", "12s", &place]);
            assert!(!error.is_retriable() || error.kind() == ErrorKind::TimedOut);
            error.kind()
        })
        .collect();
    let sent = kinds
        .iter()
        .take_while(|kind| **kind == ErrorKind::OutcomeUnknown)
        .count();
    assert!(sent > 0, "{kinds:?}");
    assert!(
        kinds[sent..].iter().all(|kind| *kind == ErrorKind::TimedOut),
        "{kinds:?}"
    );
    proxy.resume();
    all_partitions_work(&producer, &topic, 2);
    // Of what was given up without having been sent, nothing is in the log; of the rest each once at most.
    let log = log(&client, &topic);
    let late = log[&0].iter().filter(|value| value.starts_with('x')).count();
    assert!(late <= sent, "{late} of {sent}");
    assert_eq!(log[&0].iter().filter(|value| *value == "after").count(), 1);
}

#[test]
fn too_few_replicas_are_named_when_the_time_is_over_and_are_no_error_when_they_come_back() {
    let kafka = Kafka::builder().brokers(3).start();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let topic = unique("replicas");
    kafka.create_topic_on(&topic, &[&[1, 3], &[1, 2]], &[("min.insync.replicas", "2")]);
    let builder = client.producer().delivery_timeout(Duration::from_secs(10));
    let hasty = builder.build().unwrap();
    let patient = client.producer().build().unwrap();
    let to = |partition, value| Record::to(&topic).partition(partition).value(value);
    for producer in [&hasty, &patient] {
        producer.send_sync(to(0, "before"), LONG).unwrap();
    }
    kafka.stop(3);
    wait_until("one replica is in sync", LONG, || {
        kafka.partition_states(&topic)[0].in_sync == [1]
    });
    let place = format!("{topic}-0");
    // What was taken before the leader knew may have been appended.
    let error = loop {
        let error = hasty.send_sync(to(0, "hasty"), LONG).unwrap_err();
        if error.kind() == ErrorKind::TimedOut {
            break error;
        }
    };
    let appended = log_at(&client, &topic, 0).len();
    says(
        &error,
        ErrorKind::TimedOut,
        &["delivery_timeout", "10s", "NotEnoughReplicas", &place],
    );
    assert_eq!(error.code(), Some(19));
    refused(
        hasty.send_sync(to(0, "hasty"), LONG),
        ErrorKind::TimedOut,
        &["NotEnoughReplicas"],
    );
    hasty.send_sync(to(1, "other"), LONG).unwrap();
    assert_eq!(log_at(&client, &topic, 0).len(), appended);
    kafka.set_topic_configs(&topic, &[("min.insync.replicas", "1")]);
    wait_until("the setting has arrived", LONG, || {
        hasty.send_sync(to(0, "one"), LONG).is_ok()
    });
    kafka.set_topic_configs(&topic, &[("min.insync.replicas", "2")]);
    wait_until("the setting has arrived", LONG, || {
        hasty.send_sync(to(0, "two"), LONG).is_err()
    });
    let expected = numbered(0, 20);
    let sent: Vec<_> = expected
        .iter()
        .map(|value| patient.send(to(0, value)).unwrap())
        .collect();
    refused(
        sent[0].wait(Duration::from_secs(1)),
        ErrorKind::TimedOut,
        &["(timeout)"],
    );
    kafka.start(3);
    for outcome in outcomes(&sent) {
        outcome.unwrap();
    }
    let log = log_at(&client, &topic, 0);
    assert_eq!(log[log.len() - 20..], expected);
    hasty.send_sync(to(0, "after"), LONG).unwrap();
}

fn log_at(client: &Client, topic: &str, partition: i32) -> Vec<String> {
    log(client, topic).remove(&partition).unwrap_or_default()
}

// ---- what is not allowed ----

#[test]
fn what_is_not_allowed_is_named_and_all_else_goes_on() {
    let authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    let kafka = Kafka::builder()
        .property("authorizer.class.name", authorizer)
        .property("allow.everyone.if.no.acl.found", "true")
        .start();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let [open, closed] = ["open", "closed"].map(unique);
    for topic in [&open, &closed] {
        create(&kafka, &client, topic, 2, &[]);
    }
    let everybody = "User:*";
    let allow = |operation: &str, kind: &str, name: &str| kafka.allow(everybody, operation, kind, name);
    let deny = |operation: &str, kind: &str, name: &str| kafka.deny(everybody, operation, kind, name);
    let allow_again = |operation: &str, kind: &str, name: &str| kafka.deny_no_more(everybody, operation, kind, name);

    // In the middle of producing.
    let producer = client.producer().build().unwrap();
    allow("ALL", "TOPIC", &closed);
    let mut written = 0;
    let mut send = |producer: &Producer| {
        let value = format!("{written:010}");
        written += 1;
        producer
            .send_sync(Record::to(&open).partition(0).value(&value), LONG)
            .unwrap();
        let sent: Vec<_> = (0..10)
            .map(|number| {
                producer
                    .send(Record::to(&closed).partition(number % 2).value(&value))
                    .unwrap()
            })
            .collect();
        outcomes(&sent)
    };
    for outcome in send(&producer) {
        outcome.unwrap();
    }
    deny("WRITE", "TOPIC", &closed);
    let denied = |producer: &Producer, send: &mut dyn FnMut(&Producer) -> Vec<Result<RecordMetadata, Error>>| {
        let mut last = None;
        wait_until("it is denied", LONG, || {
            let results = send(producer);
            let is_denied = results.iter().all(Result::is_err);
            last = results.into_iter().find_map(Result::err);
            is_denied
        });
        last.unwrap()
    };
    let error = denied(&producer, &mut send);
    says(&error, ErrorKind::Authorization, &["code 29", &format!("{closed}-")]);
    assert!(!error.is_retriable());
    allow_again("WRITE", "TOPIC", &closed);
    wait_until("it is allowed again", LONG, || {
        send(&producer).iter().all(Result::is_ok)
    });

    // Not even to be looked at.
    deny("DESCRIBE", "TOPIC", &closed);
    let stranger = client_of(&kafka).producer().build().unwrap();
    let mut refusal = None;
    wait_until("it may not be looked at", LONG, || {
        refusal = stranger.send_sync(Record::to(&closed).value("v"), LONG).err();
        refusal.is_some()
    });
    says(&refusal.unwrap(), ErrorKind::Authorization, &[&closed]);
    stranger
        .send_sync(Record::to(&open).partition(1).value("v"), LONG)
        .unwrap();
    allow_again("DESCRIBE", "TOPIC", &closed);

    // No identity to be had: which takes a denied Write on all topics too, since one of them were enough.
    let cluster = "kafka-cluster";
    allow("ALL", "CLUSTER", cluster);
    allow("ALL", "TOPIC", "*");
    deny("IDEMPOTENT_WRITE", "CLUSTER", cluster);
    deny("WRITE", "TOPIC", "*");
    let nameless = client.producer().build().unwrap();
    let mut refusal = None;
    wait_until("there is no identity", LONG, || {
        refusal = nameless
            .send_sync(Record::to(&open).partition(1).value("v"), LONG)
            .err();
        refusal.as_ref().is_some_and(|error| error.code() == Some(31))
    });
    says(
        &refusal.unwrap(),
        ErrorKind::Authorization,
        &["IdempotentWrite", "InitProducerId", &format!("{open}-1")],
    );
    allow_again("WRITE", "TOPIC", "*");
    wait_until("there is one", LONG, || {
        nameless
            .send_sync(Record::to(&open).partition(1).value("v"), LONG)
            .is_ok()
    });

    // Nothing that was acknowledged is missing or there twice.
    wait_until("all is allowed", LONG, || send(&producer).iter().all(Result::is_ok));
    assert_eq!(log_at(&client, &open, 0), numbered(0, written));
}

fn client_of(kafka: &Kafka) -> Client {
    Client::connect(&kafka.bootstrap()).unwrap()
}

// ---- what is closed ----

#[test]
fn a_closed_producer_says_so_at_once() {
    for closes_client in [false, true] {
        let (client, topic) = topic_with("closed", 1, &[]);
        let producer = client.producer().linger(Duration::from_secs(60)).build().unwrap();
        producer.send_sync(Record::to(&topic).value("v"), LONG).unwrap();
        let handle = producer.partition(&topic, 0).unwrap();
        let delivery = producer.send(Record::to(&topic).value("lingers")).unwrap();
        if closes_client {
            client.close(LONG).unwrap();
            // Its own threads tell those who wait.
            let error = delivery.wait(LONG).unwrap_err();
            says(&error, ErrorKind::Closed, &["producer was closed", &topic]);
        } else {
            assert!(producer.close(LONG).unwrap().is_clean());
            assert_eq!(delivery.wait(LONG).unwrap().offset, Some(1));
        }
        let began = Instant::now();
        let new = || Record::to(&topic).value("v");
        let unknown = unique("never-seen");
        for result in [
            producer.send(new()).map(drop),
            producer.try_send(new()).map(drop),
            producer.send(Record::to(&unknown)).map(drop),
            producer.send_detached(new()),
            producer.send_with(new(), |_| panic!("it was not taken")),
            producer.send_sync(new(), LONG).map(drop),
            handle.send(Record::new()).map(drop),
            producer.partition(&unknown, 0).map(drop),
            producer.flush(LONG),
        ] {
            refused(result, ErrorKind::Closed, &["closed"]);
        }
        let report = producer.close(LONG).unwrap();
        assert_eq!(report.undelivered.values().sum::<u64>(), u64::from(closes_client));
        assert_eq!(producer.purge(), 0);
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}

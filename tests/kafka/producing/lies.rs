//! Answers that no broker should give: each ends in an outcome that makes sense, and the next record goes its way.

#![allow(
    clippy::disallowed_methods,
    reason = "a test measures time, and waits for what other processes do"
)]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{InitProducerIdResponse, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use klamm::{Client, ErrorKind, Producer, Record, RecordMetadata};

use super::connections::{LONG, PRODUCE, behind_a_proxy, edit};
use crate::support::{Asked, Fate, Kafka, Load, Proxy, is_long, judge, shared_behind_a_proxy, unique, wait_until};

const INIT_PRODUCER_ID: i16 = 22;

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;

const DELIVERY_TIMEOUT: Duration = Duration::from_secs(12);

/// A client that does not wait long for an answer, but long enough for one of a slow machine.
fn impatient(kafka: &Kafka, id: &str) -> Client {
    Client::builder()
        .bootstrap(kafka.bootstrap())
        .client_id(id)
        .request_timeout(Duration::from_secs(10))
        .connect()
        .unwrap()
}

/// The answers about these partitions.
fn partitions(answer: &mut ProduceResponse) -> impl Iterator<Item = &mut PartitionProduceResponse> {
    answer
        .responses
        .iter_mut()
        .flat_map(|topic| &mut topic.partition_responses)
}

type Lie = fn(Asked, &mut Vec<u8>) -> Fate;

/// Changes what is said about partition 0.
fn about_the_first(asked: Asked, frame: &mut Vec<u8>, change: impl Fn(&mut PartitionProduceResponse)) -> Fate {
    edit(asked, frame, |answer: &mut ProduceResponse| {
        partitions(answer).filter(|told| told.index == 0).for_each(change);
    });
    Fate::Forward
}

fn throttle(asked: Asked, frame: &mut Vec<u8>, milliseconds: i32) -> Fate {
    edit(asked, frame, |answer: &mut ProduceResponse| {
        answer.throttle_time_ms = milliseconds
    });
    Fate::Forward
}

fn leave_out(asked: Asked, frame: &mut Vec<u8>) -> Fate {
    edit(asked, frame, |answer: &mut ProduceResponse| {
        for topic in &mut answer.responses {
            topic.partition_responses.retain(|told| told.index != 0);
        }
    });
    Fate::Forward
}

fn add_others(asked: Asked, frame: &mut Vec<u8>) -> Fate {
    edit(asked, frame, |answer: &mut ProduceResponse| {
        let other = PartitionProduceResponse::default().with_index(77).with_error_code(29);
        for topic in &mut answer.responses {
            topic.partition_responses.push(other.clone());
            topic.partition_responses.push(other.clone().with_index(-1));
        }
        let topic = TopicProduceResponse::default().with_partition_responses(vec![other.with_index(0)]);
        answer.responses.push(match asked.version {
            ..13 => topic.with_name(TopicName(StrBytes::from_static_str("another"))),
            _ => topic.with_topic_id(uuid::Uuid::from_u128(77)),
        });
    });
    Fate::Forward
}

/// What a record must come to.
#[derive(Clone, Copy)]
enum Expected {
    Offset,
    NoOffset,
    Unknown,
}

#[test]
fn an_answer_that_lies_ends_in_an_outcome_that_makes_sense() {
    // What the broker says about every batch of partition 0, and what the producer makes of that.
    static LIES: &[(&str, Lie, Expected)] = &[
        ("left out", leave_out, Expected::Unknown),
        ("others", add_others, Expected::Offset),
        (
            "no offset",
            |asked, frame| about_the_first(asked, frame, |told| told.base_offset = -1),
            Expected::NoOffset,
        ),
        (
            "unknown code",
            |asked, frame| about_the_first(asked, frame, |told| told.error_code = 9_999),
            Expected::Unknown,
        ),
        (
            "duplicate",
            |asked, frame| {
                about_the_first(asked, frame, |told| {
                    told.error_code = DUPLICATE_SEQUENCE_NUMBER;
                    told.base_offset = -1;
                })
            },
            Expected::NoOffset,
        ),
        (
            "throttle below zero",
            |asked, frame| throttle(asked, frame, -5),
            Expected::Offset,
        ),
        (
            "lowest throttle",
            |asked, frame| throttle(asked, frame, i32::MIN),
            Expected::Offset,
        ),
        (
            "another's answer",
            |_, frame| {
                frame[0] ^= 0x40;
                Fate::Forward
            },
            Expected::Unknown,
        ),
        (
            "truncated",
            |_, frame| {
                frame.truncate(frame.len() / 2);
                Fate::Forward
            },
            Expected::Unknown,
        ),
        (
            "nothing but a head",
            |_, frame| {
                frame.truncate(4);
                Fate::Forward
            },
            Expected::Unknown,
        ),
        (
            "longer than it is",
            |_, frame| {
                let length = (frame.len() as u32 + 100).to_be_bytes();
                frame.splice(0..0, length);
                Fate::ForwardRaw
            },
            Expected::Unknown,
        ),
        (
            "longer than anything",
            |_, frame| {
                frame.splice(0..0, i32::MAX.to_be_bytes());
                Fate::ForwardRaw
            },
            Expected::Unknown,
        ),
        (
            "bytes at random",
            |_, frame| {
                let length = frame.len();
                frame[4..]
                    .iter_mut()
                    .zip(0..)
                    .for_each(|(byte, at)| *byte ^= (at * 151 + length) as u8);
                Fate::Forward
            },
            Expected::Unknown,
        ),
    ];
    let kafka = shared_behind_a_proxy();
    let topics: Vec<String> = LIES.iter().map(|_| unique("lies")).collect();
    for topic in &topics {
        kafka.create_topic(topic, 2, &[]);
    }
    // All at once, since most of them take their time: who is lied to is known by the client's name.
    let id = |at: usize| format!("is-told-lie-{at}-");
    let is_over: Arc<Vec<AtomicBool>> = Arc::new(LIES.iter().map(|_| AtomicBool::new(false)).collect());
    let proxy = kafka.proxy(1);
    let told: Arc<Mutex<HashMap<usize, usize>>> = Arc::default();
    proxy.on_request({
        let told = Arc::clone(&told);
        let ids: Vec<String> = (0..LIES.len()).map(id).collect();
        move |asked, frame| {
            let has = |id: &String| frame.windows(id.len()).any(|window| window == id.as_bytes());
            if let Some(at) = ids.iter().position(has).filter(|_| asked.api_key == PRODUCE) {
                told.lock().unwrap().insert(asked.connection, at);
            }
            Fate::Forward
        }
    });
    proxy.on_answer({
        let is_over = Arc::clone(&is_over);
        move |asked, frame| {
            let at = told.lock().unwrap().get(&asked.connection).copied();
            match at.filter(|at| asked.api_key == PRODUCE && !is_over[*at].load(Ordering::SeqCst)) {
                Some(at) => LIES[at].1(asked, frame),
                None => Fate::Forward,
            }
        }
    });
    std::thread::scope(|scope| {
        for (at, ((name, _, expected), topic)) in LIES.iter().zip(&topics).enumerate() {
            let (kafka, is_over) = (&kafka, &is_over[at]);
            scope.spawn(move || {
                let client = impatient(kafka, &id(at));
                let delivery_timeout = match expected {
                    Expected::Unknown => DELIVERY_TIMEOUT,
                    _ => LONG,
                };
                let producer = client.producer().delivery_timeout(delivery_timeout).build().unwrap();
                let begun = Instant::now();
                let record = Record::to(topic).partition(0).value("first");
                let outcome = producer.send(record).unwrap().wait(DELIVERY_TIMEOUT + LONG);
                println!("{name}: {outcome:?} after {:?}", begun.elapsed());
                match (expected, &outcome) {
                    (Expected::Offset, Ok(RecordMetadata { offset: Some(0), .. }))
                    | (Expected::NoOffset, Ok(RecordMetadata { offset: None, .. })) => {}
                    (Expected::Unknown, Err(error)) if error.kind() == ErrorKind::OutcomeUnknown => {}
                    _ => panic!("{name}: {outcome:?}"),
                }
                assert!(begun.elapsed() < delivery_timeout + Duration::from_secs(15), "{name}");
                is_over.store(true, Ordering::SeqCst);
                works(&producer, topic, name);
                assert_eq!(texts(&client, topic), ["first", "after"], "{name}");
            });
        }
    });
}

#[test]
fn an_answer_that_is_wrong_once_costs_nothing_but_time() {
    let lies: &[(&str, Lie)] = &[
        ("left out", leave_out),
        ("another's answer", |_, frame| {
            frame[0] ^= 0x40;
            Fate::Forward
        }),
        ("truncated", |_, frame| {
            frame.truncate(frame.len() / 2);
            Fate::Forward
        }),
        ("swallowed", |_, _| Fate::Drop),
    ];
    let kafka = shared_behind_a_proxy();
    let client = impatient(&kafka, "lied-to-once");
    let times = if is_long() { 3 } else { 1 };
    for (name, lie) in lies {
        let topic = unique("lie-once");
        kafka.create_topic(&topic, 3, &[]);
        let producer = client.producer().build().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        kafka.proxy(1).on_answer({
            let count = Arc::clone(&count);
            move |asked, frame| {
                // Every fifth, so many times.
                let is_it = asked.api_key == PRODUCE && {
                    let count = count.fetch_add(1, Ordering::SeqCst);
                    count % 5 == 2 && count < 5 * times
                };
                if is_it { lie(asked, frame) } else { Fate::Forward }
            }
        });
        let load = Load::new(&producer, &topic, 3).pace(6, Duration::from_millis(10));
        let ((), outcomes) = load.during(|running| {
            wait_until(name, LONG, || count.load(Ordering::SeqCst) > 5 * times);
            running.wait_for_more_everywhere(1);
        });
        kafka.proxy(1).no_hooks();
        judge(&kafka, &topic, &outcomes);
        let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.is_acknowledged()).collect();
        assert!(failed.is_empty(), "{name}: {} failed, as {}", failed.len(), failed[0]);
    }
}

/// A broker may want silence for as long as it likes; a record that must wait for it is given up in its time.
#[test]
fn a_throttle_without_end_ends() {
    let (kafka, topic) = behind_a_proxy("throttle", 2);
    let client = impatient(&kafka, "throttled");
    let producer = client.producer().delivery_timeout(DELIVERY_TIMEOUT).build().unwrap();
    kafka.proxy(1).on_answer(|asked, frame| match asked.api_key {
        PRODUCE => throttle(asked, frame, i32::MAX),
        _ => Fate::Forward,
    });
    let send = |value: &str| {
        let record = Record::to(&topic).partition(0).value(value);
        producer.send(record).unwrap().wait(DELIVERY_TIMEOUT + LONG)
    };
    assert_eq!(send("first").unwrap().offset, Some(0));
    kafka.proxy(1).no_hooks();
    let second = send("second");
    println!("{second:?}");
    works(&producer, &topic, "throttle");
    // The silence is cut to the time of a delivery, so that the record may have left at the very end of its own.
    let may_be_there = match &second {
        Ok(_) => &[true][..],
        Err(error) if error.kind() == ErrorKind::OutcomeUnknown => &[true, false],
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            &[false]
        }
    };
    let there = texts(&client, &topic);
    assert!(
        may_be_there.contains(&there.contains(&"second".to_owned())),
        "{there:?}"
    );
    let others: Vec<&String> = there.iter().filter(|text| *text != "second").collect();
    assert_eq!(others, ["first", "after"], "{there:?}");
}

/// A record that is sent now arrives.
fn works(producer: &Producer, topic: &str, name: &str) {
    let record = Record::to(topic).partition(0).value("after");
    if let Err(error) = producer.send_sync(record, LONG) {
        panic!("{name}: {error}");
    }
}

/// What is in partition 0.
fn texts(client: &Client, topic: &str) -> Vec<String> {
    let stream = client.reader().topics([topic]).until_end().open().unwrap();
    stream
        .into_iter()
        .map(|message| String::from_utf8(message.unwrap().value().unwrap().to_vec()).unwrap())
        .collect()
}

/// The broker refuses the batches with this text in them, since their checksum is wrong, and says that it was for another
/// reason; so many times.
fn refuse(proxy: &Proxy, text: &'static str, times: usize, code: i16) -> Arc<AtomicUsize> {
    let refused: Arc<Mutex<HashSet<(usize, i32)>>> = Arc::default();
    let count = Arc::new(AtomicUsize::new(0));
    proxy.on_request({
        let (refused, count) = (Arc::clone(&refused), Arc::clone(&count));
        move |asked, frame| {
            let at = frame.windows(text.len()).position(|window| window == text.as_bytes());
            let Some(at) = at.filter(|_| asked.api_key == PRODUCE && count.load(Ordering::SeqCst) < times) else {
                return Fate::Forward;
            };
            count.fetch_add(1, Ordering::SeqCst);
            refused.lock().unwrap().insert((asked.connection, asked.correlation));
            frame[at] ^= 0x20;
            Fate::Forward
        }
    });
    proxy.on_answer(move |asked, frame| {
        let is_refused = refused.lock().unwrap().remove(&(asked.connection, asked.correlation));
        if is_refused && asked.api_key == PRODUCE {
            edit(asked, frame, |answer: &mut ProduceResponse| {
                for told in partitions(answer) {
                    assert_ne!(told.error_code, 0, "a batch with a wrong checksum was taken");
                    told.error_code = code;
                    told.error_message = None;
                }
            });
        }
        Fate::Forward
    });
    count
}

/// A broker that knows nothing of a producer accepts any sequence: with several first batches on the way, it could refuse
/// the first and take the second, and then never take the first.
#[test]
fn the_first_batch_of_a_producer_may_be_refused_by_a_broker_that_does_not_lead_yet() {
    for times in [1, 4] {
        let (kafka, topic) = behind_a_proxy("first", 1);
        let producer = Client::connect(&kafka.bootstrap()).unwrap().producer().build().unwrap();
        let refused = refuse(kafka.proxy(1), "0 0 0", times, NOT_LEADER_OR_FOLLOWER);
        let load = Load::new(&producer, &topic, 1)
            .pace(1, Duration::from_millis(7))
            .records(300);
        let outcomes = load.run();
        assert_eq!(refused.load(Ordering::SeqCst), times);
        let logs = judge(&kafka, &topic, &outcomes);
        let failed = outcomes.iter().find(|outcome| !outcome.is_acknowledged());
        assert!(failed.is_none(), "{}", failed.unwrap());
        assert_eq!(logs.producer_ids(0).len(), 1);
    }
}

/// It is certain that it was not appended, so that it may go under another identity.
#[test]
fn a_first_batch_that_is_out_of_sequence_goes_under_another_producer_id() {
    let (kafka, topic) = behind_a_proxy("misplaced", 1);
    let producer = Client::connect(&kafka.bootstrap()).unwrap().producer().build().unwrap();
    let refused = refuse(kafka.proxy(1), "0 0 0", 1, OUT_OF_ORDER_SEQUENCE_NUMBER);
    let outcomes = Load::new(&producer, &topic, 1)
        .pace(1, Duration::from_millis(7))
        .records(300)
        .run();
    assert_eq!(refused.load(Ordering::SeqCst), 1);
    judge(&kafka, &topic, &outcomes);
    let failed = outcomes.iter().find(|outcome| !outcome.is_acknowledged());
    assert!(failed.is_none(), "{}", failed.unwrap());
}

// ---- producer IDs ----

#[test]
fn a_producer_id_is_asked_for_until_there_is_one() {
    let (kafka, topic) = behind_a_proxy("nameless", 2);
    let proxy = kafka.proxy(1);
    // Refused for a while.
    let client = impatient(&kafka, "nameless");
    let count = Arc::new(AtomicUsize::new(0));
    proxy.on_answer({
        let count = Arc::clone(&count);
        move |asked, frame| {
            if asked.api_key == INIT_PRODUCER_ID && count.fetch_add(1, Ordering::SeqCst) < 5 {
                edit(asked, frame, |answer: &mut InitProducerIdResponse| {
                    answer.error_code = COORDINATOR_LOAD_IN_PROGRESS;
                    answer.producer_id.0 = -1;
                });
            }
            Fate::Forward
        }
    });
    let producer = client.producer().build().unwrap();
    let outcomes = Load::new(&producer, &topic, 2).records(200).run();
    assert_eq!(count.load(Ordering::SeqCst), 6);
    // Lost, the connection with it or not.
    for (thread, (fate, losses)) in (1..).zip([(Fate::Cut, 2), (Fate::Drop, 1)]) {
        let lost = Arc::new(AtomicUsize::new(0));
        proxy.on_answer({
            let lost = Arc::clone(&lost);
            move |asked, _| {
                let is_it = asked.api_key == INIT_PRODUCER_ID && lost.fetch_add(1, Ordering::SeqCst) < losses;
                if is_it { fate } else { Fate::Forward }
            }
        });
        let topic = unique("nameless-lost");
        kafka.create_topic(&topic, 2, &[]);
        let producer = client.producer().build().unwrap();
        let outcomes = Load::new(&producer, &topic, 2).first_thread(thread).records(200).run();
        assert_eq!(lost.load(Ordering::SeqCst), losses + 1);
        judge(&kafka, &topic, &outcomes);
        let failed = outcomes.iter().find(|outcome| !outcome.is_acknowledged());
        assert!(failed.is_none(), "{}", failed.unwrap());
    }
    judge(&kafka, &topic, &outcomes);
    let failed = outcomes.iter().find(|outcome| !outcome.is_acknowledged());
    assert!(failed.is_none(), "{}", failed.unwrap());
}

#[test]
fn a_producer_that_gets_no_id_fails_at_once_and_may_try_again() {
    let (kafka, topic) = behind_a_proxy("no-name", 2);
    let proxy = kafka.proxy(1);
    proxy.on_answer(|asked, frame| {
        if asked.api_key == INIT_PRODUCER_ID {
            edit(asked, frame, |answer: &mut InitProducerIdResponse| {
                answer.error_code = CLUSTER_AUTHORIZATION_FAILED;
                answer.producer_id.0 = -1;
            });
        }
        Fate::Forward
    });
    let producer = Client::connect(&kafka.bootstrap()).unwrap().producer().build().unwrap();
    for partition in [0, 1, 0] {
        let begun = Instant::now();
        let record = Record::to(&topic).partition(partition).value("refused");
        let error = producer.send_sync(record, LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
        assert_eq!(error.code(), Some(CLUSTER_AUTHORIZATION_FAILED));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    assert_eq!(proxy.requests(PRODUCE), 0, "sent without an ID");
    proxy.no_hooks();
    for partition in [0, 1] {
        let record = Record::to(&topic).partition(partition).value("after");
        assert_eq!(producer.send_sync(record, LONG).unwrap().offset, Some(0));
    }
}

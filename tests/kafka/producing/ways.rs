//! The ways to hand a record over, and to hear what became of it.

#![allow(clippy::disallowed_methods, reason = "tests measure times, and wait for brokers")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use klamm::{BatchReport, Client, Delivery, ErrorKind, Producer, Record, RecordMetadata};

use super::errors::{LONG, create, log, refused, says, topic_with};
use crate::support::{shared_behind_a_proxy, unique, wait_until};

/// Nobody waits so long for others to share a batch: whatever returns has lifted it.
const FOR_EVER: Duration = Duration::from_secs(100);

fn lingering(client: &Client) -> Producer {
    client
        .producer()
        .linger(FOR_EVER)
        .delivery_timeout(LONG)
        .build()
        .unwrap()
}

fn number(value: &str) -> usize {
    value.parse().unwrap()
}

#[test]
fn what_was_handed_over_is_read_as_it_was() {
    let (client, topic) = topic_with("shapes", 1, &[]);
    let producer = client.producer().build().unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let began = SystemTime::now() - Duration::from_secs(1);
    let records = [
        Record::to(&topic),
        Record::to(&topic).key("").value(""),
        Record::to(&topic).key("k").timestamp(time),
        Record::to(&topic)
            .value("v")
            .header("h", b"1")
            .header("h", b"2")
            .header("", b""),
    ];
    for result in producer.send_all_sync(records, LONG) {
        result.unwrap();
    }
    let read = client.reader().topics([&topic]).until_end().open().unwrap();
    let read: Vec<_> = read.into_iter().map(|message| message.unwrap().detach()).collect();
    let parts: Vec<_> = read.iter().map(|message| (message.key(), message.value())).collect();
    assert_eq!(
        parts,
        [
            (None, None),
            (Some(&b""[..]), Some(&b""[..])),
            (Some(b"k"), None),
            (None, Some(b"v"))
        ]
    );
    assert_eq!(read[2].timestamp(), Some(time));
    assert!(read[0].timestamp().unwrap() >= began);
    let headers: Vec<_> = read[3]
        .headers()
        .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
        .collect();
    let header = |name: &str, value: &str| (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
    assert_eq!(headers, [header("h", "1"), header("h", "2"), header("", "")]);
}

#[test]
fn sending_without_waiting_learns_of_a_topic_meanwhile() {
    let (client, topic) = topic_with("tried", 1, &[]);
    let client_of_its_own = Client::connect(&crate::support::shared().bootstrap()).unwrap();
    drop(client);
    let producer = client_of_its_own.producer().build().unwrap();
    let record = || Record::to(&topic).value("v");
    let first = producer.try_send(record()).unwrap_err();
    says(&first, ErrorKind::TimedOut, &["metadata", "try_send", &topic]);
    let mut taken = None;
    wait_until("the topic is known", LONG, || {
        taken = producer.try_send(record()).ok();
        taken.is_some()
    });
    assert_eq!(taken.unwrap().wait(LONG).unwrap().offset, Some(0));
}

#[test]
fn callbacks_are_called_once_each_in_the_order_of_their_partition_and_a_panic_harms_nothing() {
    let (client, topic) = topic_with("callbacks", 3, &[]);
    let producer = client.producer().build().unwrap();
    let told: Arc<Mutex<Vec<(i32, i64, usize)>>> = Arc::default();
    for number in 0..3_000 {
        let told = Arc::clone(&told);
        let record = Record::to(&topic).partition((number % 3) as i32).value("v");
        producer
            .send_with(record, move |outcome| {
                let written = outcome.unwrap();
                told.lock()
                    .unwrap()
                    .push((written.partition, written.offset.unwrap(), number));
                assert!(number % 100 != 0, "a panic that has to be there: {number}");
            })
            .unwrap();
    }
    producer.flush(LONG).unwrap();
    wait_until("all are told", LONG, || told.lock().unwrap().len() == 3_000);
    assert!(producer.close(LONG).unwrap().is_clean());
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 3_000);
    let mut next = [0, 0, 0];
    for (partition, offset, number) in &*told {
        let expected = next[*partition as usize];
        assert_eq!(
            (*offset, *number),
            (expected, expected as usize * 3 + *partition as usize)
        );
        next[*partition as usize] += 1;
    }
}

#[test]
fn in_a_callback_sending_does_not_wait_and_what_waits_says_that_it_would_for_ever() {
    let (client, topic) = topic_with("within", 1, &[]);
    let producer = Arc::new(client.producer().build().unwrap());
    let open = Arc::new(producer.send(Record::to(&topic).value("first")).unwrap());
    open.wait(LONG).unwrap();
    let (tell, told) = channel();
    let (within, name) = (Arc::clone(&producer), topic.clone());
    let record = Record::to(&topic).value("second");
    producer
        .send_with(record, move |outcome| {
            outcome.unwrap();
            let record = || Record::to(&name).value("third");
            let sent = within.send(record()).unwrap();
            let never_seen = within.send(Record::to("never-seen-by-this-one"));
            let would: Vec<_> = [
                sent.wait(LONG).map(drop),
                Delivery::wait_all([&sent], LONG).remove(0).map(drop),
                within.flush(LONG),
                within.send_sync(record(), LONG).map(drop),
                within
                    .partition(&name, 0)
                    .unwrap()
                    .send_sync(Record::new(), LONG)
                    .map(drop),
            ]
            .into();
            // An outcome that is there is told here too.
            let known = open.wait(Duration::ZERO).is_ok();
            tell.send((sent, would, never_seen.map(drop), known)).unwrap();
        })
        .unwrap();
    let (sent, would, never_seen, known) = told.recv_timeout(LONG).unwrap();
    for result in would {
        refused(result, ErrorKind::WouldDeadlock, &["delivery callback"]);
    }
    refused(never_seen, ErrorKind::TimedOut, &["metadata", "never-seen"]);
    assert!(known);
    assert_eq!(sent.wait(LONG).unwrap().offset, Some(2));
    assert_eq!(log(&client, &topic)[&0], ["first", "second", "third"]);
}

#[test]
fn closing_in_a_callback_begins_it_and_does_not_wait() {
    let (client, topic) = topic_with("closes", 1, &[]);
    let producer = Arc::new(client.producer().build().unwrap());
    let (tell, told) = channel();
    let within = Arc::clone(&producer);
    producer
        .send_with(Record::to(&topic).value("v"), move |_| {
            let closed = within.close(LONG).map(drop);
            tell.send((closed, within.send(Record::to("t")).map(drop))).unwrap();
        })
        .unwrap();
    let (closed, sent) = told.recv_timeout(LONG).unwrap();
    refused(closed, ErrorKind::WouldDeadlock, &["closing a producer"]);
    refused(sent, ErrorKind::Closed, &["producer was closed"]);
    assert!(producer.close(LONG).unwrap().is_clean());
}

#[test]
fn a_slow_callback_holds_up_senders_and_no_more_is_held_than_the_buffer() {
    let (client, topic) = topic_with("slow", 1, &[]);
    let buffer = 200_000;
    let builder = client.producer().buffer_bytes(buffer).batch_bytes(10_000);
    let producer = builder.max_block(LONG).build().unwrap();
    let gate = Arc::new((Mutex::new(()), AtomicUsize::new(0)));
    let held = gate.0.lock().unwrap();
    let value = vec![b'x'; 1_000];
    let sent = AtomicUsize::new(0);
    const ALL: usize = 2_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ALL {
                let gate = Arc::clone(&gate);
                let record = Record::to(&topic).value(&value);
                let called = move |outcome: klamm::Result<_>| {
                    drop(gate.0.lock());
                    outcome.unwrap();
                    gate.1.fetch_add(1, Ordering::SeqCst);
                };
                producer.send_with(record, called).unwrap();
                sent.fetch_add(1, Ordering::SeqCst);
            }
        });
        // It stands still when the buffer is full of what is in the log already.
        let full = || {
            producer
                .try_send(Record::to(&topic).value(&value))
                .is_err_and(|error| error.kind() == ErrorKind::BufferFull)
        };
        wait_until("the buffer is full", LONG, full);
        let mut seen = usize::MAX;
        wait_until("senders wait", LONG, || {
            std::thread::sleep(Duration::from_millis(300));
            std::mem::replace(&mut seen, sent.load(Ordering::SeqCst)) == seen
        });
        assert!(seen < ALL && seen * value.len() <= buffer, "{seen}");
        assert_eq!(gate.1.load(Ordering::SeqCst), 0);
        drop(held);
    });
    producer.flush(LONG).unwrap();
    wait_until("all are told", LONG, || gate.1.load(Ordering::SeqCst) == ALL);
}

#[test]
fn each_of_many_records_has_a_result_of_its_own() {
    let (client, topic) = topic_with("many", 2, &[]);
    let (_, small) = topic_with("many-small", 1, &[("max.message.bytes", "2000")]);
    let producer = client.producer().build().unwrap();
    let large = "x".repeat(5_000);
    let records = || {
        [
            Record::to(&topic).partition(0).value("a"),
            Record::to(&topic).partition(2).value("b"),
            Record::to(&topic).partition(1).value("c"),
            Record::to(&small).value(&large),
            Record::to(&small).value("d"),
        ]
    };
    let results = producer.send_all(records());
    assert_eq!(results.len(), 5);
    let mut results = results.into_iter();
    let mut next = || results.next().unwrap();
    assert_eq!(next().unwrap().wait(LONG).unwrap().offset, Some(0));
    refused(next().map(drop), ErrorKind::UnknownTopic, &["no partition 2", &topic]);
    assert_eq!(next().unwrap().wait(LONG).unwrap().offset, Some(0));
    refused(
        next().unwrap().wait(LONG),
        ErrorKind::TooLarge,
        &["max.message.bytes", &small],
    );
    assert_eq!(next().unwrap().wait(LONG).unwrap().offset, Some(0));

    let results = producer.send_all_sync(records(), LONG);
    let places: Vec<_> = results
        .into_iter()
        .map(|result| match result {
            Ok(written) => Ok((written.topic, written.partition, written.offset)),
            Err(error) => Err(error.kind()),
        })
        .collect();
    assert_eq!(
        places,
        [
            Ok((topic.clone(), 0, Some(1))),
            Err(ErrorKind::UnknownTopic),
            Ok((topic.clone(), 1, Some(1))),
            Err(ErrorKind::TooLarge),
            Ok((small.clone(), 0, Some(1))),
        ]
    );
    producer.flush(LONG).unwrap();
}

#[test]
fn nothing_lingers_that_somebody_waits_for() {
    let (client, topic) = topic_with("lingers", 4, &[]);
    let producer = lingering(&client);
    let began = Instant::now();
    let to = |partition| Record::to(&topic).partition(partition).value("v");
    assert_eq!(producer.send_sync(to(0), LONG).unwrap().offset, Some(0));
    assert_eq!(producer.send(to(1)).unwrap().wait(LONG).unwrap().offset, Some(0));
    let sent: Vec<_> = (0..4).map(|partition| producer.send(to(partition)).unwrap()).collect();
    for written in Delivery::wait_all(&sent, LONG) {
        written.unwrap();
    }
    for written in producer.send_all_sync((0..4).map(to), LONG) {
        written.unwrap();
    }
    for partition in 0..4 {
        producer.send_detached(to(partition)).unwrap();
    }
    producer.flush(LONG).unwrap();
    producer.send_detached(to(3)).unwrap();
    producer.close(LONG).unwrap();
    assert!(began.elapsed() < FOR_EVER / 2, "{:?}", began.elapsed());
    let counts: Vec<_> = log(&client, &topic).into_values().map(|log| log.len()).collect();
    assert_eq!(counts, [4, 4, 3, 4]);
}

#[test]
fn a_flush_covers_what_any_thread_has_sent_before_it() {
    let (client, topic) = topic_with("flushed", 3, &[]);
    let producer = lingering(&client);
    for round in 1..=20 {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (producer, topic) = (&producer, &topic);
                scope.spawn(move || {
                    for number in 0..50 {
                        let record = Record::to(topic).partition((thread + number) % 3);
                        producer.send_detached(record.value("v")).unwrap();
                    }
                });
            }
        });
        producer.flush(LONG).unwrap();
        let ends: i64 = (0..3)
            .map(|partition| {
                client
                    .offset_for(&topic, partition, klamm::StartAt::Latest)
                    .unwrap()
                    .unwrap()
            })
            .sum();
        assert_eq!(ends, round * 200);
    }
    // Whatever is sent all the time does not keep it from returning.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                producer.send_detached(Record::to(&topic).value("v")).unwrap();
            }
        });
        for _ in 0..10 {
            producer.flush(LONG).unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_flush_tells_the_first_failure_that_nobody_was_told_and_tells_it_once() {
    let (client, topic) = topic_with("untold", 1, &[("cleanup.policy", "compact")]);
    let producer = lingering(&client);
    let good = || Record::to(&topic).key("k").value("v");
    let bad = || Record::to(&topic).value("no key");
    let untold = |producer: &Producer| {
        refused(producer.flush(LONG), ErrorKind::InvalidRecord, &["key", &topic]);
        producer.flush(LONG).unwrap();
    };
    // Detached.
    producer.send_detached(good()).unwrap();
    producer.send_detached(bad()).unwrap();
    producer.send_detached(bad()).unwrap();
    untold(&producer);
    // Dropped before its failure.
    drop(producer.send(bad()).unwrap());
    drop(producer.send(good()).unwrap());
    untold(&producer);
    // Dropped after it, and never asked.
    let (asked, never) = (producer.send(bad()).unwrap(), producer.send(bad()).unwrap());
    refused(asked.wait(LONG), ErrorKind::InvalidRecord, &["key"]);
    producer.flush(LONG).unwrap();
    drop(never);
    untold(&producer);
    // Told: to whoever waits, looks, or is called.
    refused(asked.wait(LONG), ErrorKind::InvalidRecord, &["key"]);
    drop(asked);
    let looked = producer.send(bad()).unwrap();
    wait_until("it has failed", LONG, || {
        drop(producer.flush(LONG));
        looked.poll().is_some()
    });
    drop(looked);
    producer.send_with(bad(), |outcome| drop(outcome.unwrap_err())).unwrap();
    producer.flush(LONG).unwrap();
    // Beside some that nobody watches, and that are written.
    let told = producer.send(bad()).unwrap();
    producer.send_detached(good()).unwrap();
    drop(producer.send(good()).unwrap());
    refused(told.wait(LONG), ErrorKind::InvalidRecord, &["key"]);
    producer.flush(LONG).unwrap();
    // At the end.
    producer.send_detached(bad()).unwrap();
    let report = producer.close(LONG).unwrap();
    says(&report.error.unwrap(), ErrorKind::InvalidRecord, &["key"]);
    assert_eq!(report.undelivered, BTreeMap::new());
}

#[test]
fn a_delivery_that_is_dropped_early_loses_nothing() {
    let (client, topic) = topic_with("dropped", 2, &[]);
    let producer = client.producer().build().unwrap();
    for number in 0..1_000 {
        let value = number.to_string();
        drop(
            producer
                .send(Record::to(&topic).partition(number % 2).value(&value))
                .unwrap(),
        );
    }
    producer.flush(LONG).unwrap();
    for (partition, log) in log(&client, &topic) {
        let numbers: Vec<_> = log.iter().map(|value| number(value)).collect();
        assert_eq!(
            numbers,
            (0..500).map(|n| n * 2 + partition as usize).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_delivery_can_be_looked_at_without_waiting() {
    let (client, topic) = topic_with("polled", 1, &[]);
    let producer = lingering(&client);
    let delivery = producer.send(Record::to(&topic).value("v")).unwrap();
    assert!(delivery.poll().is_none());
    assert_eq!((delivery.topic(), delivery.partition()), (&*topic, 0));
    producer.flush(LONG).unwrap();
    for _ in 0..2 {
        assert_eq!(delivery.poll().unwrap().unwrap().offset, Some(0));
        assert_eq!(delivery.wait(Duration::ZERO).unwrap().offset, Some(0));
    }
}

#[test]
fn a_handle_writes_to_its_partition_and_nowhere_else() {
    let (client, topic) = topic_with("handle", 3, &[]);
    let producer = client.producer().build().unwrap();
    let handle = producer.partition(&topic, 2).unwrap();
    assert_eq!((handle.topic(), handle.index()), (&*topic, 2));
    assert_eq!(
        handle
            .send(Record::new().key("k").value("0"))
            .unwrap()
            .wait(LONG)
            .unwrap()
            .partition,
        2
    );
    assert_eq!(
        handle
            .try_send(Record::to(&topic).value("1"))
            .unwrap()
            .wait(LONG)
            .unwrap()
            .offset,
        Some(1)
    );
    handle.send_detached(Record::new().value("2")).unwrap();
    assert_eq!(
        handle
            .send_sync(Record::new().partition(2).value("3"), LONG)
            .unwrap()
            .offset,
        Some(3)
    );
    let (told, outcome) = channel();
    let called = move |outcome: klamm::Result<_>| told.send(outcome).unwrap();
    handle.send_with(Record::new().value("4"), called).unwrap();
    let written: RecordMetadata = outcome.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!((written.partition, written.offset), (2, Some(4)));
    for elsewhere in [
        Record::to("another"),
        Record::to(&topic).partition(1),
        Record::new().partition(0),
    ] {
        let parts = ["another place", &*format!("{topic}-2")];
        refused(handle.send(elsewhere.clone()).map(drop), ErrorKind::Config, &parts);
        refused(handle.try_send(elsewhere.clone()).map(drop), ErrorKind::Config, &parts);
        refused(handle.send_detached(elsewhere.clone()), ErrorKind::Config, &parts);
        let never = |outcome| panic!("not taken, and told of {outcome:?}");
        refused(handle.send_with(elsewhere.clone(), never), ErrorKind::Config, &parts);
        refused(handle.send_sync(elsewhere, LONG), ErrorKind::Config, &parts);
    }
    assert_eq!(
        log(&client, &topic),
        BTreeMap::from([(2, ["0", "1", "2", "3", "4"].map(String::from).into())])
    );
}

#[test]
fn purging_takes_out_what_was_never_sent_and_leaves_the_rest() {
    let kafka = shared_behind_a_proxy();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let topic = unique("purged");
    create(&kafka, &client, &topic, 2, &[]);
    let builder = client.producer().batch_bytes(2_000).linger(Duration::ZERO);
    let producer = builder.build().unwrap();
    let to = |partition| Record::to(&topic).partition(partition);
    for partition in 0..2 {
        producer.send_sync(to(partition).value("first"), LONG).unwrap();
    }
    let proxy = kafka.proxy(1);
    proxy.stall(crate::support::Direction::ToClient);
    let value = "x".repeat(900);
    let (tell, told): (Sender<_>, Receiver<_>) = channel();
    let mut sent = Vec::new();
    for number in 0..100 {
        sent.push(producer.send(to(number % 2).value(&value)).unwrap());
        let tell = tell.clone();
        producer
            .send_with(to(number % 2).value(&value), move |outcome| drop(tell.send(outcome)))
            .unwrap();
    }
    drop(tell);
    // What can be on its way is.
    wait_until("all that may be sent is", LONG, || proxy.requests(0) >= 5);
    std::thread::sleep(Duration::from_millis(200));
    let purged = producer.purge();
    assert!(purged > 0 && purged < 200, "{purged}");
    assert_eq!(producer.purge(), 0);
    proxy.resume();
    let mut outcomes = Delivery::wait_all(&sent, LONG);
    outcomes.extend(told);
    let (written, failed): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    for error in &failed {
        says(error.as_ref().unwrap_err(), ErrorKind::Purged, &["purge", &topic]);
    }
    assert_eq!((written.len() + failed.len(), failed.len() as u64), (200, purged));
    for partition in 0..2 {
        producer.send_sync(to(partition).value("last"), LONG).unwrap();
    }
    let log = log(&client, &topic);
    let all: usize = log.values().map(Vec::len).sum();
    assert_eq!(all, written.len() + 4);
    let offsets: BTreeSet<_> = written
        .iter()
        .map(|written| {
            written
                .as_ref()
                .map(|written| (written.partition, written.offset.unwrap()))
                .unwrap()
        })
        .collect();
    assert_eq!(offsets.len(), written.len());
}

#[test]
fn an_observer_is_told_of_every_batch_and_the_counts_add_up() {
    let (client, topic) = topic_with("observed", 3, &[("cleanup.policy", "compact")]);
    let reports: Arc<Mutex<Vec<BatchReport>>> = Arc::default();
    let seen = Arc::clone(&reports);
    let builder = client.producer().batch_bytes(5_000).observe(move |report| {
        seen.lock().unwrap().push(report.clone());
        assert!(report.partition != 1, "a panic that has to be there");
    });
    let producer = builder.build().unwrap();
    let began = Instant::now();
    let value = "x".repeat(100);
    let mut sent = Vec::new();
    for number in 0..3_000 {
        let record = Record::to(&topic).partition(number % 3).value(&value);
        let record = if number % 1_000 == 500 { record } else { record.key("k") };
        sent.push(producer.send(record).unwrap());
    }
    let failed = Delivery::wait_all(&sent, LONG)
        .iter()
        .filter(|outcome| outcome.is_err())
        .count();
    assert_eq!(failed, 3);
    drop(sent);
    // One that is never sent.
    let missing = unique("observed-never");
    assert!(producer.send(Record::to(&missing)).is_err());
    producer.close(LONG).unwrap();
    let reports = reports.lock().unwrap();
    let count = |is_ok: bool| -> u32 {
        let those = reports.iter().filter(|report| report.error.is_none() == is_ok);
        those.map(|report| report.records).sum()
    };
    assert_eq!((count(true), count(false)), (2_997, 3));
    for report in &*reports {
        assert_eq!(report.topic, topic);
        assert!(report.took <= began.elapsed());
        assert!(report.attempts > 0);
        if report.error.is_none() {
            assert!(
                report.bytes > report.records as usize * 100 && report.bytes <= 5_000,
                "{report:?}"
            );
        }
    }
    for partition in 0..3 {
        let those = reports.iter().filter(|report| report.partition == partition);
        assert_eq!(those.map(|report| report.records).sum::<u32>(), 1_000);
    }
}

#[test]
fn eight_threads_share_a_producer_and_each_has_its_order() {
    let (client, topic) = topic_with("eight", 3, &[]);
    let producer = client
        .producer()
        .batch_bytes(8_000)
        .buffer_bytes(200_000)
        .build()
        .unwrap();
    const EACH: usize = 6_000;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (producer, topic) = (&producer, &topic);
            scope.spawn(move || {
                let mut last = Vec::new();
                for number in 0..EACH {
                    let value = format!("{thread} {number}");
                    let record = Record::to(topic).partition((number % 3) as i32).value(&value);
                    match number % 4 {
                        0 => last.push(producer.send(record).unwrap()),
                        1 => producer.send_detached(record).unwrap(),
                        2 => producer.send_with(record, |outcome| drop(outcome.unwrap())).unwrap(),
                        _ => producer.send_all([record]).remove(0).map(drop).unwrap(),
                    }
                    if number % 1_000 == 999 {
                        for outcome in Delivery::wait_all(&last, LONG) {
                            outcome.unwrap();
                        }
                        last.clear();
                    }
                }
            });
        }
    });
    assert!(producer.close(LONG).unwrap().is_clean());
    let mut seen = 0;
    for (partition, log) in log(&client, &topic) {
        let mut next = [partition as usize; 8];
        for value in &log {
            let (thread, sent) = value.split_once(' ').unwrap();
            let next = &mut next[number(thread)];
            assert_eq!(number(sent), *next, "partition {partition}");
            *next += 3;
        }
        seen += log.len();
    }
    assert_eq!(seen, 8 * EACH);
}

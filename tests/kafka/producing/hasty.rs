//! Programs that call a producer from where nobody should, and all at once: nothing hangs, and every outcome comes.

#![allow(
    clippy::disallowed_methods,
    reason = "a test measures time, and waits for what other threads do"
)]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use klamm::{Client, Delivery, Error, ErrorKind, Partitioner, Producer, Record, RecordMetadata};

use super::errors::{LONG, log};
use super::topic;
use crate::support::{ALONE, alone, klamm_threads, nothing_is_left, shared, sockets, unique, wait_until};

type Outcome = klamm::Result<RecordMetadata>;

/// Made before the closure that needs it.
type Later = Arc<OnceLock<Weak<Producer>>>;

fn written(client: &Client, topic: &str) -> usize {
    log(client, topic).values().map(Vec::len).sum()
}

// ---- closures ----

#[test]
fn a_partitioner_that_panics_or_talks_nonsense_costs_its_record_and_no_other() {
    let (client, topic) = topic("panicking", 2);
    let partitioner = Partitioner::custom(|choice| match choice.key() {
        Some(b"panic") => panic!("a panic that has to be there"),
        Some(b"below") => -1,
        Some(b"least") => i32::MIN,
        Some(b"above") => choice.partitions(),
        Some(b"most") => i32::MAX,
        _ => 1,
    });
    let producer = client.producer().partitioner(partitioner).build().unwrap();
    let called = Arc::new(AtomicUsize::new(0));
    let sent: Vec<Delivery> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut sent = Vec::new();
                    for number in 0..200 {
                        let key = ["panic", "below", "least", "above", "most", "fine", "fine", "fine"][number % 8];
                        let record = || Record::to(&topic).key(key).value("v");
                        match key {
                            "fine" => sent.push(producer.send(record()).unwrap()),
                            "panic" => {
                                catch_unwind(AssertUnwindSafe(|| producer.send(record()).map(drop))).unwrap_err();
                                let called = Arc::clone(&called);
                                let call = move |_: Outcome| {
                                    called.fetch_add(1, Ordering::SeqCst);
                                };
                                catch_unwind(AssertUnwindSafe(|| producer.send_with(record(), call))).unwrap_err();
                            }
                            _ => assert_eq!(producer.send(record()).unwrap_err().kind(), ErrorKind::Config),
                        }
                    }
                    sent
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for outcome in Delivery::wait_all(&sent, LONG) {
        assert_eq!(outcome.unwrap().partition, 1);
    }
    assert!(producer.close(LONG).unwrap().is_clean());
    assert_eq!(called.load(Ordering::SeqCst), 0, "none of them was taken");
    assert_eq!(written(&client, &topic), sent.len());
}

#[test]
fn a_partitioner_may_use_its_own_producer() {
    let (client, topic) = topic("selfish", 2);
    let later = Later::default();
    let own = Arc::clone(&later);
    let partitioner = Partitioner::custom(move |choice| {
        let producer = own.get().and_then(Weak::upgrade).unwrap();
        let record = || Record::to(choice.topic()).value("by itself");
        match choice.key() {
            // It calls itself.
            Some(b"outer") => {
                producer.send_detached(record().key("inner")).unwrap();
                producer.flush(LONG).unwrap();
                0
            }
            Some(b"inner") => {
                let there = record().partition(1);
                producer.send_sync(there, LONG).unwrap();
                let handle = producer.partition(choice.topic(), 0).unwrap();
                handle.send_detached(Record::new().value("by a handle")).unwrap();
                1
            }
            _ => 0,
        }
    });
    let producer = Arc::new(client.producer().partitioner(partitioner).build().unwrap());
    later.set(Arc::downgrade(&producer)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let record = Record::to(&topic).key("outer").value("v");
                    assert_eq!(producer.send_sync(record, LONG).unwrap().partition, 0);
                }
            });
        }
    });
    assert!(producer.close(LONG).unwrap().is_clean());
    assert_eq!(written(&client, &topic), 4 * 20 * 4);
}

#[test]
fn an_observer_may_send_and_panic() {
    let (client, topic) = topic("observer", 1);
    let later = Later::default();
    let (own, name) = (Arc::clone(&later), topic.clone());
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let left = AtomicUsize::new(200);
    let builder = client.producer().linger(Duration::ZERO).observe(move |report| {
        tell.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send(report.records)
            .unwrap();
        let producer = own.get().and_then(Weak::upgrade).unwrap();
        let more = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if more.is_ok() {
            producer.send_detached(Record::to(&name).value("again")).unwrap();
            assert_eq!(producer.flush(LONG).unwrap_err().kind(), ErrorKind::WouldDeadlock);
        }
        panic!("a panic that has to be there");
    });
    let producer = Arc::new(builder.build().unwrap());
    later.set(Arc::downgrade(&producer)).unwrap();
    producer.send_sync(Record::to(&topic).value("first"), LONG).unwrap();
    let mut records = 0;
    while records < 201 {
        records += told.recv_timeout(LONG).unwrap();
    }
    assert!(producer.close(LONG).unwrap().is_clean());
    assert_eq!(written(&client, &topic), 201);
}

// ---- callbacks ----

/// Each outcome sends the next record.
fn chain(producer: Weak<Producer>, topic: String, chain: i32, left: usize, end: Sender<usize>) {
    let Some(own) = producer.upgrade() else {
        return;
    };
    let name = topic.clone();
    let record = Record::to(&name).partition(chain % 3).value("link");
    own.send_with(record, move |outcome| {
        outcome.unwrap();
        if left == 0 {
            return end.send(1).unwrap();
        }
        self::chain(producer, topic, chain, left - 1, end);
    })
    .unwrap();
}

#[test]
fn callbacks_that_send_the_next_record_go_on_for_as_long_as_they_like() {
    const CHAINS: i32 = 16;
    const LINKS: usize = 500;
    let (client, topic) = topic("chain", 3);
    let producer = Arc::new(client.producer().linger(Duration::ZERO).build().unwrap());
    for partition in 0..3 {
        let record = Record::to(&topic).partition(partition).value("first");
        producer.send_sync(record, LONG).unwrap();
    }
    let (tell, told) = channel();
    for number in 0..CHAINS {
        let weak = Arc::downgrade(&producer);
        chain(weak, topic.clone(), number, LINKS - 1, tell.clone());
    }
    drop(tell);
    let ended: usize = std::iter::from_fn(|| told.recv_timeout(LONG).ok()).sum();
    assert_eq!(ended, CHAINS as usize);
    assert!(producer.close(LONG).unwrap().is_clean());
    assert_eq!(written(&client, &topic), 3 + CHAINS as usize * LINKS);
}

#[test]
fn a_callback_that_closes_the_producer_only_begins_to() {
    let (client, topic) = topic("closer", 2);
    let producer = Arc::new(client.producer().build().unwrap());
    let outcomes: Arc<Mutex<Vec<Outcome>>> = Arc::default();
    let (tell, told) = channel();
    let mut sent = 0;
    for number in 0..2_000 {
        let (own, outcomes, tell, topic) = (
            Arc::downgrade(&producer),
            Arc::clone(&outcomes),
            tell.clone(),
            topic.clone(),
        );
        let name = topic.clone();
        let record = Record::to(&name).partition(number % 2).value("v");
        let call = move |outcome: Outcome| {
            outcomes.lock().unwrap().push(outcome);
            if number == 100 {
                let own = own.upgrade().unwrap();
                let closed = own.close(LONG).map(drop);
                let after = own.send(Record::to(&topic).value("after")).map(drop);
                tell.send([closed, after]).unwrap();
            }
        };
        match producer.send_with(record, call) {
            Ok(()) => sent += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
        }
    }
    let said = told.recv_timeout(LONG).unwrap().map(|said| said.unwrap_err().kind());
    assert_eq!(said, [ErrorKind::WouldDeadlock, ErrorKind::Closed]);
    assert!(producer.close(LONG).unwrap().is_clean());
    let outcomes = outcomes.lock().unwrap();
    assert_eq!(outcomes.len(), sent);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(written(&client, &topic), sent);
}

#[test]
fn a_callback_that_drops_the_producer_leaves_nothing_behind() {
    let mut given = String::new();
    if std::env::var_os(ALONE).is_none() {
        let (_client, topic) = topic("dropper", 2);
        given = format!("{} {topic}", shared().bootstrap());
    }
    let name = "producing::hasty::a_callback_that_drops_the_producer_leaves_nothing_behind";
    let Some(given) = alone(name, &given) else {
        return;
    };
    let (bootstrap, topic) = given.split_once(' ').unwrap();
    let before = sockets();
    for round in 0..20 {
        let client = Client::connect(bootstrap).unwrap();
        let producer = Arc::new(client.producer().build().unwrap());
        drop(client);
        let outcomes: Arc<Mutex<Vec<Outcome>>> = Arc::default();
        let (tell, told) = channel::<Arc<Producer>>();
        let record = || Record::to(topic).partition(round % 2).value("v");
        // The last one who has it.
        let keep = Arc::clone(&outcomes);
        let call = move |outcome| {
            keep.lock().unwrap().push(outcome);
            drop(told.recv_timeout(LONG).unwrap());
        };
        producer.send_with(record(), call).unwrap();
        let mut deliveries = Vec::new();
        for _ in 0..300 {
            let keep = Arc::clone(&outcomes);
            let call = move |outcome| keep.lock().unwrap().push(outcome);
            producer.send_with(record(), call).unwrap();
            deliveries.push(producer.send(record()).unwrap());
        }
        tell.send(producer).unwrap();
        for outcome in Delivery::wait_all(&deliveries, LONG) {
            if let Err(error) = outcome {
                let kinds = [ErrorKind::Closed, ErrorKind::OutcomeUnknown];
                assert!(kinds.contains(&error.kind()), "{error}");
            }
        }
        wait_until("all callbacks are called", LONG, || {
            outcomes.lock().unwrap().len() == 301
        });
        nothing_is_left(before);
    }
}

// ---- many threads ----

/// What a thread knows of the records that it has sent.
#[derive(Default)]
struct Seen {
    acknowledged: BTreeSet<String>,
    /// They must not be in the log.
    failed: BTreeSet<String>,
    unknown: usize,
}

impl Seen {
    fn note(&mut self, value: &str, outcome: klamm::Result<()>) {
        match outcome {
            Ok(()) => drop(self.acknowledged.insert(value.to_owned())),
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => self.unknown += 1,
            Err(error) => {
                let kinds = [ErrorKind::Purged, ErrorKind::Closed, ErrorKind::BufferFull];
                assert!(kinds.contains(&error.kind()), "{error}");
                self.failed.insert(value.to_owned());
            }
        }
    }
}

#[test]
fn closing_purging_and_flushing_while_eight_threads_send_hangs_nobody() {
    let (client, topic) = topic("storm", 3);
    for round in 0..6 {
        let builder = client.producer().batch_bytes(4_000).buffer_bytes(200_000);
        let builder = builder.linger(Duration::from_millis(round % 3));
        let producer = &builder.build().unwrap();
        let all: Mutex<Seen> = Mutex::default();
        let (tell, told) = channel::<(String, Outcome)>();
        let (is_over, count) = (&AtomicBool::new(false), &AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (all, topic, tell) = (&all, &topic, tell.clone());
                scope.spawn(move || {
                    let mut seen = Seen::default();
                    let mut sent = Vec::new();
                    for number in 0.. {
                        let value = format!("{round}{thread}{number:07}");
                        let record = Record::to(topic).partition(number % 3).value(&value);
                        let taken = match number % 17 {
                            0 => producer.try_send(record),
                            1 => {
                                let (tell, name) = (tell.clone(), value.clone());
                                let call = move |outcome| tell.send((name, outcome)).unwrap();
                                if let Err(error) = producer.send_with(record, call) {
                                    seen.note(&value, Err(error));
                                }
                                continue;
                            }
                            2 => {
                                seen.note(&value, producer.send_sync(record, LONG).map(drop));
                                continue;
                            }
                            _ => producer.send(record),
                        };
                        count.fetch_add(1, Ordering::SeqCst);
                        match taken {
                            Ok(delivery) => sent.push((value, delivery)),
                            Err(error) => {
                                let is_end = error.kind() == ErrorKind::Closed;
                                seen.note(&value, Err(error));
                                if is_end {
                                    break;
                                }
                            }
                        }
                    }
                    for (value, delivery) in sent {
                        seen.note(&value, delivery.wait(LONG).map(drop));
                    }
                    let mut all = all.lock().unwrap();
                    all.acknowledged.append(&mut seen.acknowledged);
                    all.failed.append(&mut seen.failed);
                    all.unknown += seen.unknown;
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::SeqCst) {
                        if let Err(error) = producer.flush(LONG) {
                            let kinds = [ErrorKind::Purged, ErrorKind::Closed, ErrorKind::OutcomeUnknown];
                            assert!(kinds.contains(&error.kind()), "{error}");
                        }
                    }
                });
                scope.spawn(|| {
                    while !is_over.load(Ordering::SeqCst) {
                        producer.purge();
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            wait_until("enough is sent", LONG, || count.load(Ordering::SeqCst) > 3_000);
            let timeout = if round % 2 == 0 { LONG } else { Duration::ZERO };
            let closers: Vec<_> = (0..3).map(|_| scope.spawn(move || producer.close(timeout))).collect();
            for closer in closers {
                closer.join().unwrap().unwrap();
            }
            is_over.store(true, Ordering::SeqCst);
        });
        drop(tell);
        let mut all = all.into_inner().unwrap();
        for (value, outcome) in told {
            all.note(&value, outcome.map(drop));
        }
        println!(
            "{} acknowledged, {} failed, {} unknown",
            all.acknowledged.len(),
            all.failed.len(),
            all.unknown
        );
        let prefix = round.to_string();
        let mut logged = BTreeSet::new();
        for value in log(&client, &topic).into_values().flatten() {
            if value.starts_with(&prefix) {
                assert!(logged.insert(value.clone()), "{value} is there twice");
            }
        }
        assert!(all.acknowledged.is_subset(&logged));
        assert!(all.failed.is_disjoint(&logged));
        assert!(logged.len() <= all.acknowledged.len() + all.unknown);
    }
}

#[test]
fn any_number_of_threads_may_wait_for_the_same_deliveries() {
    let (client, topic) = topic("waiters", 3);
    let producer = client.producer().linger(Duration::from_millis(100)).build().unwrap();
    let sent: Vec<Delivery> = (0..600)
        .map(|number| {
            let record = Record::to(&topic).partition(number % 3).value("v");
            producer.send(record).unwrap()
        })
        .collect();
    let places: Vec<Vec<_>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..24)
            .map(|thread| {
                let sent = &sent;
                scope.spawn(move || match thread % 4 {
                    0 => Delivery::wait_all(sent, LONG),
                    1 => sent.iter().map(|delivery| delivery.wait(LONG)).collect(),
                    2 => sent
                        .iter()
                        .rev()
                        .map(|delivery| delivery.wait(LONG))
                        .collect::<Vec<_>>()
                        .into_iter()
                        .rev()
                        .collect(),
                    _ => {
                        wait_until("all have outcomes", LONG, || {
                            sent.iter()
                                .all(|delivery| delivery.wait(Duration::ZERO).is_ok() && delivery.poll().is_some())
                        });
                        sent.iter().filter_map(Delivery::poll).collect()
                    }
                })
            })
            .collect();
        let place = |outcome: Outcome| outcome.map(|written| (written.partition, written.offset)).unwrap();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap().into_iter().map(place).collect())
            .collect()
    });
    for told in &places {
        assert_eq!(told, &places[0]);
    }
    for (number, place) in (0..).zip(&places[0]) {
        assert_eq!(*place, (number % 3, Some(i64::from(number / 3))));
    }
}

// ---- a logger ----

/// A logger that writes what it is told to Kafka, and asks for more than it should.
struct Nosy {
    topic: String,
    producer: RwLock<Option<Arc<Producer>>>,
    sent: AtomicUsize,
    errors: Mutex<Vec<(String, ErrorKind)>>,
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl log::Log for Nosy {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default().to_owned();
        if !name.starts_with("klamm-") || !record.target().starts_with("klamm") || INSIDE.replace(true) {
            return;
        }
        let producer = self.producer.try_read().ok().and_then(|producer| producer.clone());
        if let Some(producer) = producer {
            let text = record.args().to_string();
            let to = || Record::to(&self.topic).value(&text);
            let note = |error: Error| {
                let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
                errors.push((name.clone(), error.kind()));
            };
            for sent in [
                producer.send(to()).map(drop),
                producer.send_detached(to()),
                producer.send_with(to(), drop),
            ] {
                match sent {
                    Ok(()) => drop(self.sent.fetch_add(1, Ordering::SeqCst)),
                    Err(error) => note(error),
                }
            }
            for would in [producer.send_sync(to(), LONG).map(drop), producer.flush(LONG)] {
                note(would.unwrap_err());
            }
            producer
                .send(Record::to("never-seen-in-the-logger"))
                .map(drop)
                .unwrap_err();
            assert!(!format!("{producer:?}").is_empty());
        }
        INSIDE.set(false);
    }

    fn flush(&self) {}
}

#[test]
fn a_logger_that_writes_to_kafka_what_klamm_logs_deadlocks_nobody() {
    let mut given = String::new();
    if std::env::var_os(ALONE).is_none() {
        let (_client, topic) = topic("logger", 2);
        given = format!("{} {topic}", shared().bootstrap());
    }
    let name = "producing::hasty::a_logger_that_writes_to_kafka_what_klamm_logs_deadlocks_nobody";
    let Some(given) = alone(name, &given) else {
        return;
    };
    let (bootstrap, topic) = given.split_once(' ').unwrap();
    let nosy: &'static Nosy = Box::leak(Box::new(Nosy {
        topic: topic.to_owned(),
        producer: RwLock::new(None),
        sent: AtomicUsize::new(0),
        errors: Mutex::default(),
    }));
    log::set_logger(nosy).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let client = Client::connect(bootstrap).unwrap();
    let builder = client.producer().buffer_bytes(200_000).batch_bytes(4_000);
    let builder = builder.observe(|_| panic!("a panic that has to be there"));
    let producer = Arc::new(builder.build().unwrap());
    *nosy.producer.write().unwrap() = Some(Arc::clone(&producer));
    let missing = unique("missing");
    for number in 0..300 {
        let record = Record::to(topic).partition(number % 2).value("v");
        producer
            .send_with(record, move |_| {
                assert!(number % 10 != 0, "a panic that has to be there");
            })
            .unwrap();
        if number % 20 == 0 {
            producer.flush(LONG).unwrap();
            // There is something to be said about that.
            producer.try_send(Record::to(&missing)).unwrap_err();
        }
    }
    let enough = || nosy.sent.load(Ordering::SeqCst) > 300;
    wait_until("the logger has sent", LONG, enough);
    *nosy.producer.write().unwrap() = None;
    assert!(producer.close(LONG).unwrap().is_clean());
    wait_until("the logger has let go", LONG, || Arc::strong_count(&producer) == 1);
    drop(producer);
    let (sent, errors) = (nosy.sent.load(Ordering::SeqCst), nosy.errors.lock().unwrap());
    println!("{sent} records were sent in the logger, {} errors", errors.len());
    for (thread, kind) in &*errors {
        let kinds = [ErrorKind::WouldDeadlock, ErrorKind::BufferFull, ErrorKind::Closed];
        assert!(kinds.contains(kind), "{thread}: {kind:?}");
    }
    let threads: BTreeSet<_> = errors.iter().map(|(thread, _)| thread.as_str()).collect();
    for thread in ["klamm-send-0", "klamm-produce", "klamm-deliver"] {
        assert!(threads.contains(thread), "nothing was logged on {thread}: {threads:?}");
    }
    assert_eq!(written(&client, topic), 300 + sent);
    drop(client);
    wait_until("no thread of klamm is left", LONG, || klamm_threads().is_empty());
}

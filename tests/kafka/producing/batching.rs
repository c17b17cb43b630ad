//! What travels together, how large it is, how much of it is on its way at once, and what it costs to do nothing.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests measure time, and play the programs that use klamm"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::{BatchReport, Client, Compression, Delivery, ErrorKind, Producer, ProducerBuilder, Record};

use super::{dumped, topic};
use crate::support::{
    self, ALONE, Direction, Fate, Kafka, alone, is_long, memory, shared_behind_a_proxy, unique, wait_until,
};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(120);
/// A linger that no test waits for.
const ENDLESS: Duration = Duration::from_secs(100);

const PRODUCE: i16 = 0;

/// What a producer's observer was told.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<BatchReport>>>);

impl Reports {
    fn watch(&self, builder: ProducerBuilder) -> Producer {
        let reports = Arc::clone(&self.0);
        let builder = builder.observe(move |report| reports.lock().unwrap().push(report.clone()));
        builder.build().unwrap()
    }

    #[allow(dead_code, reason = "for a failing test")]
    fn all(&self) -> Vec<BatchReport> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until so many records have an outcome, while nobody waits for any of them; and forgets them.
    #[track_caller]
    fn take(&self, records: u32) -> Vec<BatchReport> {
        let count = || self.0.lock().unwrap().iter().map(|report| report.records).sum::<u32>();
        wait_until("records are written", LONG, || count() >= records);
        assert_eq!(count(), records);
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// So that metadata, connection and producer ID are there, and the partition may have several batches in flight.
#[track_caller]
fn warm(producer: &Producer, topic: &str, partitions: i32) {
    let records = (0..partitions).map(|partition| Record::to(topic).partition(partition).value("warm"));
    for result in producer.send_all_sync(records, LONG) {
        result.unwrap();
    }
}

#[test]
fn records_that_are_sent_within_the_linger_are_one_batch_and_a_linger_is_as_long_as_it_is_set() {
    let (client, topic) = topic("linger", 1);
    let linger = Duration::from_secs(2);
    let reports = Reports::default();
    let lingering = reports.watch(client.producer().linger(linger));
    warm(&lingering, &topic, 1);
    reports.take(1);
    for _ in 0..10 {
        lingering.send_detached(Record::to(&topic).value("v")).unwrap();
    }
    let told = reports.take(10);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].took >= linger, "{told:?}");

    let at_once = Reports::default();
    let producer = at_once.watch(client.producer().linger(Duration::ZERO));
    warm(&producer, &topic, 1);
    at_once.take(1);
    let mut quickest = LONG;
    for _ in 0..20 {
        producer.send_detached(Record::to(&topic).value("v")).unwrap();
        quickest = quickest.min(at_once.take(1)[0].took);
    }
    assert!(quickest < linger / 4, "nothing is waited for: {quickest:?}");
}

#[test]
fn a_full_batch_does_not_linger_and_what_is_not_full_does() {
    let (client, topic) = topic("full", 2);
    let reports = Reports::default();
    let producer = reports.watch(client.producer().linger(ENDLESS).batch_bytes(4096));
    warm(&producer, &topic, 2);
    reports.take(2);
    let value = [b'x'; 900];
    // Four fit into a batch.
    let sent: Vec<_> = (0..18)
        .map(|_| producer.send(Record::to(&topic).partition(0).value(&value)).unwrap())
        .collect();
    let other = producer.send(Record::to(&topic).partition(1).value("v")).unwrap();
    let told = reports.take(16);
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told.iter().all(|report| report.took < ENDLESS), "{told:?}");
    assert!(sent[15].poll().is_some());
    assert!(sent[16].poll().is_none() && other.poll().is_none());
    // Who waits lifts the linger of what is waited for, and of nothing else.
    sent[17].wait(LONG).unwrap();
    assert!(sent[16].poll().is_some() && other.poll().is_none());
    let told = reports.take(2);
    assert!(told.len() == 1 && told[0].took < ENDLESS, "{told:?}");
    producer.flush(LONG).unwrap();
    assert!(reports.take(1)[0].took < ENDLESS);
    other.poll().expect("flushed").unwrap();
}

#[test]
fn whoever_waits_for_a_record_has_those_before_it_sent_too() {
    let (client, topic) = topic("before", 1);
    let producer = client
        .producer()
        .linger(ENDLESS)
        .batch_bytes(2048)
        .in_flight(1)
        .build()
        .unwrap();
    let value = [b'x'; 500];
    let since = Instant::now();
    let sent: Vec<_> = (0..50)
        .map(|_| producer.send(Record::to(&topic).value(&value)).unwrap())
        .collect();
    assert_eq!(sent[49].wait(LONG).unwrap().offset, Some(49));
    assert!(since.elapsed() < ENDLESS);
    for (delivery, offset) in sent.iter().zip(0..) {
        let written = delivery.poll().expect("told before").unwrap();
        assert_eq!(written.offset, Some(offset));
    }
}

#[test]
fn no_batch_is_larger_than_it_is_set_to_be_but_a_record_that_is_goes_alone() {
    let (client, topic) = topic("sizes", 2);
    const LIMIT: usize = 10_000;
    for (partition, codec) in [(0, Compression::None), (1, Compression::Lz4)] {
        let producer = client
            .producer()
            .linger(ENDLESS)
            .batch_bytes(LIMIT)
            .compression(codec)
            .build()
            .unwrap();
        let mut random = support::Random(7);
        for n in 0..400 {
            let length = if n % 100 == 50 {
                50_000
            } else {
                random.below(2_500) as usize
            };
            let value: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            let record = Record::to(&topic)
                .partition(partition)
                .key("k")
                .value(&value)
                .header("h", "v");
            producer.send_detached(record).unwrap();
        }
        assert!(producer.close(LONG).unwrap().is_clean());
    }
    let Some(dumped) = dumped(&topic, 2) else {
        return;
    };
    for (batches, partition) in dumped.iter().zip(0..) {
        assert_eq!(batches.iter().map(|batch| batch.records).sum::<usize>(), 400);
        let large: Vec<_> = batches.iter().filter(|batch| batch.bytes > 40_000).collect();
        assert_eq!(large.len(), 4, "{partition}");
        assert!(large.iter().all(|batch| batch.records == 1), "{large:?}");
        let rest: Vec<usize> = batches
            .iter()
            .map(|batch| batch.bytes)
            .filter(|bytes| *bytes <= 40_000)
            .collect();
        assert!(rest.iter().all(|bytes| *bytes <= LIMIT), "{partition}: {rest:?}");
        // And they are filled: none of the records that came next would have fit. The last, and those before a large one,
        // may be of any size.
        let short = rest.iter().filter(|bytes| **bytes < LIMIT - 2_700).count();
        assert!(short <= 5, "{partition}: {rest:?}");
    }
}

/// A proxy that a test may slow down, and a client behind it.
fn proxied(name: &str, topics: usize, partitions: usize) -> (Kafka, Client, Vec<String>) {
    let kafka = shared_behind_a_proxy();
    let topics: Vec<String> = (0..topics).map(|n| unique(&format!("{name}-{n}"))).collect();
    for topic in &topics {
        kafka.create_topic(topic, partitions, &[]);
    }
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    (kafka, client, topics)
}

/// Sizes of the Produce requests that pass from now on.
fn produce_sizes(kafka: &Kafka) -> Arc<Mutex<Vec<usize>>> {
    let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
    kafka.proxy(1).on_request({
        let sizes = Arc::clone(&sizes);
        move |asked, frame| {
            if asked.api_key == PRODUCE {
                sizes.lock().unwrap().push(frame.len());
            }
            Fate::Forward
        }
    });
    sizes
}

#[test]
fn what_is_ready_for_a_broker_travels_in_one_request_up_to_its_size() {
    let (kafka, client, topics) = proxied("together", 3, 4);
    let proxy = kafka.proxy(1);
    for (request_bytes, requests) in [(4 << 20, 1), (5_000, 3), (1_500, 12)] {
        let producer = client
            .producer()
            .linger(Duration::ZERO)
            .in_flight(1)
            .batch_bytes(1_400)
            .request_bytes(request_bytes)
            .build()
            .unwrap();
        for topic in &topics {
            warm(&producer, topic, 4);
        }
        // While the answer to this one is awaited, all others become ready.
        proxy.stall(Direction::ToClient);
        let before = proxy.requests(PRODUCE);
        let first = producer
            .send(Record::to(&topics[0]).partition(0).value("first"))
            .unwrap();
        wait_until("the first is on its way", LONG, || {
            proxy.requests(PRODUCE) == before + 1
        });
        let value = [b'x'; 1_100];
        let records = (0..12).map(|n| Record::to(&topics[n / 4]).partition(n as i32 % 4).value(&value));
        let sent: Vec<_> = producer.send_all(records).into_iter().map(Result::unwrap).collect();
        let sizes = produce_sizes(&kafka);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(*sizes.lock().unwrap(), [0; 0], "one at a time");
        proxy.resume();
        for result in Delivery::wait_all(&sent, LONG) {
            result.unwrap();
        }
        first.wait(LONG).unwrap();
        let sizes = sizes.lock().unwrap();
        assert_eq!(sizes.len(), requests, "request_bytes {request_bytes}: {sizes:?}");
        // Names and the like come on top.
        assert!(
            sizes.iter().all(|size| *size <= request_bytes + 500),
            "request_bytes {request_bytes}: {sizes:?}"
        );
        proxy.heal();
    }
}

#[test]
fn no_more_requests_are_in_flight_than_are_set_and_so_many_are() {
    let (kafka, client, topics) = proxied("flight", 1, 12);
    let (proxy, topic) = (kafka.proxy(1), &topics[0]);
    for in_flight in [1, 2, 5] {
        // To one partition, and to many.
        for partitions in [1, 12] {
            let producer = client
                .producer()
                .linger(Duration::ZERO)
                .in_flight(in_flight)
                .batch_bytes(1_024)
                .request_bytes(1_024)
                .build()
                .unwrap();
            warm(&producer, topic, partitions);
            let before = proxy.requests(PRODUCE);
            let on_their_way = || (proxy.requests(PRODUCE) - before) as usize;
            proxy.stall(Direction::ToClient);
            let value = [b'x'; 900];
            let sent: Vec<_> = (0..48)
                .map(|n| {
                    producer
                        .send(Record::to(topic).partition(n % partitions).value(&value))
                        .unwrap()
                })
                .collect();
            wait_until("so many are on their way", LONG, || on_their_way() >= in_flight);
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(on_their_way(), in_flight, "of {partitions} partitions");
            proxy.resume();
            let mut last = BTreeMap::new();
            for result in Delivery::wait_all(&sent, LONG) {
                let written = result.unwrap();
                let before = last.insert(written.partition, written.offset.unwrap());
                assert!(
                    before.is_none_or(|before| before + 1 == written.offset.unwrap()),
                    "in order, and once"
                );
            }
        }
    }
}

#[test]
fn a_partition_s_first_batch_goes_alone_until_the_broker_knows_the_producer() {
    let (kafka, client, topics) = proxied("first", 1, 1);
    let (proxy, topic) = (kafka.proxy(1), &topics[0]);
    let producer = client
        .producer()
        .linger(Duration::ZERO)
        .batch_bytes(1_024)
        .build()
        .unwrap();
    // Metadata and producer ID may come; what was written may not be told.
    let answers = Arc::new(AtomicUsize::new(0));
    let is_held = Arc::new(std::sync::atomic::AtomicBool::new(true));
    proxy.on_answer({
        let (answers, is_held) = (Arc::clone(&answers), Arc::clone(&is_held));
        move |asked, _| {
            if asked.api_key == PRODUCE {
                answers.fetch_add(1, Ordering::SeqCst);
                while is_held.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            Fate::Forward
        }
    });
    let value = [b'x'; 900];
    let sent: Vec<_> = (0..20)
        .map(|_| producer.send(Record::to(topic).value(&value)).unwrap())
        .collect();
    wait_until("the broker has answered", LONG, || answers.load(Ordering::SeqCst) == 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(proxy.requests(PRODUCE), 1);
    is_held.store(false, Ordering::SeqCst);
    for (result, offset) in Delivery::wait_all(&sent, LONG).into_iter().zip(0..) {
        assert_eq!(result.unwrap().offset, Some(offset));
    }
}

#[test]
fn a_record_that_does_not_linger_takes_one_round_trip() {
    let (kafka, client, topics) = proxied("trip", 1, 1);
    let (proxy, topic) = (kafka.proxy(1), &topics[0]);
    // As many as are set would take longer than anything else here.
    for linger in [Duration::ZERO, ENDLESS] {
        let producer = client.producer().linger(linger).build().unwrap();
        warm(&producer, topic, 1);
        let trip = Duration::from_millis(400);
        proxy.delay(Direction::ToClient, trip);
        let took = |_| {
            let since = Instant::now();
            producer.send_sync(Record::to(topic).value("v"), LONG).unwrap();
            since.elapsed()
        };
        let quickest = (0..6).map(took).min().unwrap();
        println!("{quickest:?} for a round trip of {trip:?}");
        assert!(quickest >= trip && quickest < 2 * trip, "{quickest:?}");
        proxy.heal();
    }
}

#[test]
fn a_batch_is_sent_again_as_often_as_it_is_set_and_then_says_that_nobody_knows() {
    let (kafka, client, topics) = proxied("retries", 1, 2);
    let (proxy, topic) = (kafka.proxy(1), &topics[0]);
    for retries in [0, 1, 3] {
        let reports = Reports::default();
        let producer = reports.watch(client.producer().max_retries(retries));
        warm(&producer, topic, 2);
        reports.take(2);
        let before = proxy.requests(PRODUCE);
        proxy.on_request(|asked, _| {
            if asked.api_key == PRODUCE {
                Fate::Cut
            } else {
                Fate::Forward
            }
        });
        let error = producer
            .send_sync(Record::to(topic).partition(0).value("lost"), LONG)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        let told = reports.take(1);
        assert_eq!(told[0].attempts, retries + 1, "{told:?}");
        assert_eq!(proxy.requests(PRODUCE) - before, u64::from(retries) + 1);
        proxy.heal();
        // That partition and the other one go on.
        warm(&producer, topic, 2);
        assert!(producer.close(LONG).unwrap().is_clean());
    }
    let texts = |seen: Vec<support::Seen>| seen.iter().filter(|seen| seen.text() == "lost").count();
    assert_eq!(texts(kafka.java_reads(topic, 1000)), 0);
}

/// What a thousand partitions with a record each may take: the buffers, and what threads and connections need.
const THOUSAND: i32 = 1_000;
const RESIDENT: usize = 24 << 20;

/// Clock ticks of this process, of which there are a hundred in a second.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// As its `Debug` tells.
fn held_bytes(producer: &Producer) -> usize {
    let text = format!("{producer:?}");
    let digits = text.split("held_bytes: ").nth(1).unwrap();
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn a_thousand_partitions_take_little_memory_and_no_time_when_they_are_idle() {
    let mut given = String::new();
    let kafka;
    let mut folder = None;
    if std::env::var_os(ALONE).is_none() {
        kafka = Kafka::builder().property("log.index.size.max.bytes", 4096).start();
        let topic = unique("thousand");
        kafka.create_topic(&topic, THOUSAND as usize, &[]);
        given = format!("{} {topic}", kafka.bootstrap());
        folder = Some((kafka, topic));
    }
    let test = "producing::batching::a_thousand_partitions_take_little_memory_and_no_time_when_they_are_idle";
    let Some(given) = alone(test, &given) else {
        let (kafka, topic) = folder.expect("made above");
        let ends = kafka.offsets(&topic);
        assert_eq!(ends.len(), THOUSAND as usize);
        assert!(ends.iter().all(|ends| ends.latest == 2), "{ends:?}");
        return;
    };
    let (bootstrap, topic) = given.split_once(' ').unwrap();
    let client = Client::connect(bootstrap).unwrap();
    let producer = client.producer().linger(ENDLESS).build().unwrap();
    let before = memory("VmRSS");
    let value = [b'x'; 200];
    for round in 0..2 {
        let sent: Vec<_> = (0..THOUSAND)
            .map(|partition| {
                producer
                    .send(Record::to(topic).partition(partition).value(&value))
                    .unwrap()
            })
            .collect();
        let held = held_bytes(&producer);
        assert!(
            (THOUSAND as usize * 261..=THOUSAND as usize * 1100).contains(&held),
            "{held} bytes held"
        );
        producer.flush(LONG).unwrap();
        for delivery in &sent {
            let written = delivery.poll().expect("flushed").unwrap();
            assert_eq!(written.offset, Some(round));
        }
        wait_until("all is given back", LONG, || held_bytes(&producer) == 0);
    }
    let resident = memory("VmHWM").saturating_sub(before);
    println!("{} KiB resident for {THOUSAND} partitions", resident >> 10);
    assert!(resident < RESIDENT, "{resident}");

    // What is to be done after some work, such as giving back spare buffers, has been done.
    std::thread::sleep(Duration::from_secs(12));
    let (ticks, since) = (cpu_ticks(), Instant::now());
    std::thread::sleep(Duration::from_secs(if is_long() { 10 } else { 5 }));
    let used = Duration::from_millis((cpu_ticks() - ticks) * 10);
    println!("{used:?} of CPU in {:?} of idling", since.elapsed());
    assert!(used <= since.elapsed() / 100, "{used:?} in {:?}", since.elapsed());
    assert!(producer.close(LONG).unwrap().is_clean());
}

//! Answers that are lost, connections that break, and brokers that restart: each record is in the log once, in order.

#![allow(
    clippy::disallowed_methods,
    reason = "a test measures time, and waits for what other processes do"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use klamm::{Client, ProducerBuilder, Record};

use crate::support::{
    Asked, Direction, Fate, Kafka, Load, Logs, Outcome, Promise, Proxy, Random, Running, Then, is_long, judge_by,
    shared_behind_a_proxy, unique, wait_until,
};

/// No machine is so slow.
pub(super) const LONG: Duration = Duration::from_secs(120);

/// The longest that a record may take in any of these tests: a broker may need minutes to start.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) const PRODUCE: i16 = 0;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;

/// The shared broker behind a proxy, and a topic.
pub(super) fn behind_a_proxy(name: &str, partitions: usize) -> (Kafka, String) {
    let kafka = shared_behind_a_proxy();
    let topic = unique(name);
    kafka.create_topic(&topic, partitions, &[]);
    (kafka, topic)
}

/// A client that tries again sooner than others: hundreds of failures should not take minutes.
fn quick(kafka: &Kafka) -> Client {
    Client::builder()
        .bootstrap(kafka.bootstrap())
        .reconnect_backoff(Duration::from_millis(5), Duration::from_millis(50))
        .retry_backoff(Duration::from_millis(10), Duration::from_millis(100))
        .connect()
        .unwrap()
}

/// Reads an answer that goes through a proxy, as the protocol's own message.
pub(super) fn read<T: Decodable + HeaderVersion>(asked: Asked, frame: &[u8]) -> T {
    // The correlation ID, and no tagged fields.
    let header = if T::header_version(asked.version) >= 1 { 5 } else { 4 };
    let mut body = Bytes::copy_from_slice(&frame[header..]);
    T::decode(&mut body, asked.version).expect("a broker's answer")
}

/// Changes it.
pub(super) fn edit<T: Decodable + Encodable + HeaderVersion>(
    asked: Asked,
    frame: &mut Vec<u8>,
    change: impl FnOnce(&mut T),
) {
    let mut answer = read::<T>(asked, frame);
    change(&mut answer);
    let header = if T::header_version(asked.version) >= 1 { 5 } else { 4 };
    let mut out = BytesMut::from(&frame[..header]);
    answer
        .encode(&mut out, asked.version)
        .expect("an answer that was decoded");
    *frame = out.to_vec();
}

/// Counts batches that were sent more than once.
fn counting(builder: ProducerBuilder) -> (ProducerBuilder, Arc<AtomicUsize>) {
    let again = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&again);
    let builder = builder.observe(move |report| {
        if report.attempts > 1 {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    (builder, again)
}

/// Everything was acknowledged, and is in the log once and in order.
#[track_caller]
fn all_is_there(kafka: &Kafka, topic: &str, outcomes: &[Outcome]) -> Logs {
    let logs = judge_by(Promise::delivery_timeout(PATIENCE), kafka, topic, outcomes);
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.is_acknowledged()).collect();
    assert!(failed.is_empty(), "{} failed, as {}", failed.len(), failed[0]);
    logs
}

/// How many harms are done: all of them, or as many as show most.
fn harms(all: usize, few: usize) -> usize {
    if is_long() { all } else { few }
}

fn load_while_answers_are_lost(name: &str, brokers: usize, in_flight: usize, losses: usize) {
    let kafka = Kafka::builder().brokers(brokers).behind_proxies().start();
    let topic = unique(name);
    kafka.create_topic(&topic, 3, &[]);
    let lost = Arc::new(AtomicUsize::new(0));
    for broker in 1..=brokers as i32 {
        let lost = Arc::clone(&lost);
        let random = std::sync::Mutex::new(Random(7));
        kafka.proxy(broker).on_answer(move |asked, frame| {
            if asked.api_key != PRODUCE || random.lock().unwrap().below(3) > 0 {
                return Fate::Forward;
            }
            let answer = read::<ProduceResponse>(asked, frame);
            let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
            let was_applied = partitions.any(|partition| partition.error_code == 0);
            let is_one_more = |lost| (was_applied && lost < losses).then_some(lost + 1);
            match lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_one_more) {
                Ok(_) => Fate::Cut,
                Err(_) => Fate::Forward,
            }
        });
    }
    let (builder, again) = counting(quick(&kafka).producer().in_flight(in_flight));
    let producer = builder.build().unwrap();
    let begun = Instant::now();
    let load = Load::new(&producer, &topic, 3).pace(6, Duration::from_millis(6));
    let ((), outcomes) = load.during(|running| {
        wait_until("answers are lost", 10 * LONG, || lost.load(Ordering::SeqCst) == losses);
        running.wait_for_more_everywhere(1);
    });
    println!(
        "{name}: {losses} answers lost in {:?}, {} records, {} batches sent again",
        begun.elapsed(),
        outcomes.len(),
        again.load(Ordering::Relaxed)
    );
    assert!(
        again.load(Ordering::Relaxed) >= losses,
        "answers were lost, and nothing was sent again"
    );
    let logs = all_is_there(&kafka, &topic, &outcomes);
    for partition in 0..3 {
        assert_eq!(logs.producer_ids(partition).len(), 1, "the identity need not change");
    }
}

#[test]
fn a_thousand_lost_answers_leave_one_copy_of_each_record() {
    load_while_answers_are_lost("lost-answers", 1, 5, harms(1000, 40));
}

#[test]
fn lost_answers_of_three_brokers_leave_one_copy_of_each_record() {
    load_while_answers_are_lost("lost-answers-3", 3, 5, harms(1000, 30));
}

#[test]
fn lost_answers_leave_one_copy_with_one_request_in_flight() {
    load_while_answers_are_lost("lost-answers-1", 1, 1, harms(300, 20));
}

#[test]
fn answers_that_are_late_and_lost_by_a_reset_leave_one_copy() {
    let resets = harms(300, 15);
    let (kafka, topic) = behind_a_proxy("late-answers", 3);
    let proxy = kafka.proxy(1);
    let (builder, again) = counting(quick(&kafka).producer());
    let producer = builder.build().unwrap();
    let is_late = Arc::new(AtomicBool::new(false));
    let late = Arc::new(AtomicUsize::new(0));
    proxy.on_answer({
        let (is_late, late) = (Arc::clone(&is_late), Arc::clone(&late));
        move |asked, _| {
            if asked.api_key != PRODUCE || !is_late.load(Ordering::SeqCst) {
                return Fate::Forward;
            }
            late.fetch_add(1, Ordering::SeqCst);
            Fate::Drop
        }
    });
    let load = Load::new(&producer, &topic, 3).pace(6, Duration::from_millis(6));
    let ((), outcomes) = load.during(|running| {
        for _ in 0..resets {
            running.wait_for_more(0, 1);
            let enough = late.load(Ordering::SeqCst) + 3;
            is_late.store(true, Ordering::SeqCst);
            wait_until("answers that do not come", LONG, || {
                late.load(Ordering::SeqCst) >= enough
            });
            std::thread::sleep(Duration::from_millis(10));
            is_late.store(false, Ordering::SeqCst);
            proxy.reset();
        }
        running.wait_for_more_everywhere(1);
    });
    println!(
        "{resets} resets, {} answers lost, {} records, {} batches sent again",
        late.load(Ordering::SeqCst),
        outcomes.len(),
        again.load(Ordering::Relaxed)
    );
    assert!(again.load(Ordering::Relaxed) >= resets, "nothing was in flight");
    all_is_there(&kafka, &topic, &outcomes);
}

#[test]
fn connections_cut_at_any_byte_lose_nothing_and_double_nothing() {
    let cuts = harms(200, 15);
    let (kafka, topic) = behind_a_proxy("cut", 3);
    let proxy = kafka.proxy(1);
    let (builder, again) = counting(quick(&kafka).producer());
    let producer = builder.build().unwrap();
    let load = Load::new(&producer, &topic, 3)
        .padding(200)
        .pace(12, Duration::from_millis(6));
    let mut random = Random(11);
    let ((), outcomes) = load.during(|running| {
        for _ in 0..cuts {
            running.wait_for_more(0, 1);
            let then = [Then::Cut, Then::Reset][random.index(2)];
            // Requests are some thousand bytes here, answers about a hundred.
            let (direction, most) = match random.index(2) {
                0 => (Direction::ToBroker, 20_000),
                _ => (Direction::ToClient, 400),
            };
            proxy.after(direction, 1 + random.below(most), then);
            wait_until("the cut", LONG, || !proxy.is_pending(direction));
        }
        running.wait_for_more_everywhere(1);
    });
    println!(
        "{cuts} cuts, {} connections, {} records, {} batches sent again",
        proxy.accepted(),
        outcomes.len(),
        again.load(Ordering::Relaxed)
    );
    assert!(again.load(Ordering::Relaxed) > 0, "nothing was in flight");
    all_is_there(&kafka, &topic, &outcomes);
}

#[test]
fn a_request_that_is_cut_in_the_middle_is_sent_again() {
    let (kafka, topic) = behind_a_proxy("cut-request", 1);
    let proxy = kafka.proxy(1);
    let producer = quick(&kafka).producer().build().unwrap();
    let value = vec![b'v'; 500_000];
    let record = || Record::to(&topic).partition(0).value(&value);
    assert_eq!(producer.send_sync(record(), LONG).unwrap().offset, Some(0));
    for (round, at) in (1..).zip([1, 4, 11, 60, 130, 250_000, 499_999]) {
        proxy.after(Direction::ToBroker, at, Then::Cut);
        let written = producer.send_sync(record(), LONG).unwrap();
        assert!(!proxy.is_pending(Direction::ToBroker), "{at}");
        assert_eq!(written.offset, Some(round), "{at}");
    }
    let report = producer.close(LONG).unwrap();
    assert!(report.is_clean());
}

/// Nothing is lost while nobody can be reached, and nobody dials like mad.
#[test]
fn a_broker_that_cannot_be_reached_is_tried_now_and_then() {
    let (kafka, topic) = behind_a_proxy("unreachable", 3);
    let proxy = kafka.proxy(1);
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let producer = client.producer().build().unwrap();
    let load = Load::new(&producer, &topic, 3).pace(6, Duration::from_millis(20));
    let (away, frozen) = if is_long() { (40, 75) } else { (5, 5) };
    let ((), outcomes) = load.during(|running| {
        running.wait_for_more_everywhere(10);
        // Refused for a while.
        proxy.refuse(true);
        proxy.cut();
        let (before, begun) = (proxy.accepted(), Instant::now());
        std::thread::sleep(Duration::from_secs(away));
        let tries = proxy.accepted() - before;
        let seconds = begun.elapsed().as_secs_f64();
        proxy.refuse(false);
        let back = running.wait_for_more_everywhere(10);
        println!("refused for {seconds:.1} s: {tries} connections tried; on after {back:?}");
        // The sender and whoever asks for metadata, each soon only once a second.
        assert!(tries >= 2, "nobody tried");
        assert!(
            (tries as f64) < 2.0 * (seconds / 0.7 + 6.0),
            "{tries} tries in {seconds:.1} s"
        );

        // Then everything stands still.
        let before = proxy.accepted();
        for direction in [Direction::ToBroker, Direction::ToClient] {
            proxy.stall(direction);
        }
        std::thread::sleep(Duration::from_secs(frozen));
        let tries = proxy.accepted() - before;
        proxy.resume();
        let back = running.wait_for_more_everywhere(10);
        println!("stood still for {frozen} s: {tries} connections tried; on after {back:?}");
        assert!(tries < 10 + frozen as usize / 2, "{tries} tries");
    });
    println!("{} records", outcomes.len());
    all_is_there(&kafka, &topic, &outcomes);
}

// ---- restarts ----

/// Nobody is told from now on what the broker has written; says how many answers were swallowed.
fn swallow_answers(proxy: &Proxy) -> Arc<AtomicUsize> {
    let swallowed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&swallowed);
    proxy.on_answer(move |asked, _| {
        if asked.api_key != PRODUCE {
            return Fate::Forward;
        }
        count.fetch_add(1, Ordering::SeqCst);
        Fate::Drop
    });
    swallowed
}

/// Counts answers that call a sequence out of order.
fn count_out_of_sequence(proxy: &Proxy, count: &Arc<AtomicUsize>) {
    let count = Arc::clone(count);
    proxy.on_answer(move |asked, frame| {
        if asked.api_key == PRODUCE {
            let answer = read::<ProduceResponse>(asked, frame);
            let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
            let refused = partitions.filter(|partition| partition.error_code == OUT_OF_ORDER_SEQUENCE_NUMBER);
            count.fetch_add(refused.count(), Ordering::SeqCst);
        }
        Fate::Forward
    });
}

fn load_while_the_broker_restarts(name: &str, rounds: usize, end: impl Fn(&Kafka)) -> usize {
    let kafka = Kafka::builder().behind_proxies().start();
    let topic = unique(name);
    kafka.create_topic(&topic, 3, &[]);
    let proxy = kafka.proxy(1);
    let (builder, again) = counting(Client::connect(&kafka.bootstrap()).unwrap().producer());
    let producer = builder.delivery_timeout(PATIENCE).build().unwrap();
    let refused = Arc::new(AtomicUsize::new(0));
    let restart = |running: &Running| {
        running.wait_for_more_everywhere(50);
        let swallowed = swallow_answers(proxy);
        wait_until("five requests that stay unanswered", LONG, || {
            swallowed.load(Ordering::SeqCst) >= 5
        });
        let gone = Instant::now();
        end(&kafka);
        count_out_of_sequence(proxy, &refused);
        kafka.start(1);
        let gone = gone.elapsed();
        let back = running.wait_for_more_everywhere(50);
        println!("{name}: gone for {gone:?}, on {back:?} after it was there again");
    };
    let load = Load::new(&producer, &topic, 3)
        .pace(6, Duration::from_millis(10))
        .delivery_timeout(PATIENCE);
    let ((), outcomes) = load.during(|running| (0..rounds).for_each(|_| restart(running)));
    println!(
        "{name}: {rounds} restarts, {} records, {} batches sent again, {} refused as out of sequence, {} outcomes unknown",
        outcomes.len(),
        again.load(Ordering::Relaxed),
        refused.load(Ordering::SeqCst),
        outcomes.iter().filter(|outcome| outcome.is_unknown()).count()
    );
    assert!(again.load(Ordering::Relaxed) >= rounds, "nothing was in flight");
    all_is_there(&kafka, &topic, &outcomes);
    refused.load(Ordering::SeqCst)
}

/// A broker that was stopped remembers of each producer the last batch only, and refuses the ones before it, which it has.
#[test]
fn what_a_restarted_broker_has_forgotten_that_it_has_is_acknowledged() {
    let refused = load_while_the_broker_restarts("restarted", harms(10, 1), |kafka| kafka.stop(1));
    assert!(refused > 0, "the broker remembered everything, and this tested nothing");
}

#[test]
fn a_broker_that_was_killed_has_everything_once() {
    load_while_the_broker_restarts("killed", harms(10, 1), |kafka| kafka.kill9(1));
}

// ---- idle connections ----

#[test]
fn the_first_record_after_an_idle_time_is_sent_once_and_soon() {
    let kafka = Kafka::builder()
        .property("connections.max.idle.ms", 2000)
        .behind_proxies()
        .start();
    let topic = unique("idle");
    kafka.create_topic(&topic, 1, &[]);
    let (builder, again) = counting(Client::connect(&kafka.bootstrap()).unwrap().producer());
    let producer = builder.build().unwrap();
    let proxy = kafka.proxy(1);
    let send = |number: i64| {
        let begun = Instant::now();
        let value = number.to_string();
        let record = Record::to(&topic).value(&value);
        assert_eq!(producer.send_sync(record, LONG).unwrap().offset, Some(number));
        begun.elapsed()
    };
    let first = send(0);
    wait_until("the broker closes everything", LONG, || proxy.open() == 0);
    let second = send(1);
    println!("{first:?} at first, {second:?} after an idle time");
    assert!(second < Duration::from_secs(5), "{second:?}");
    assert_eq!(
        again.load(Ordering::Relaxed),
        0,
        "sent into a connection that was closed"
    );
    // Also when both happen at the same time.
    for number in 2..harms(60, 5) as i64 {
        std::thread::sleep(Duration::from_millis(1900 + 40 * (number as u64 % 7)));
        let took = send(number);
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
    assert!(producer.close(LONG).unwrap().is_clean());
}

// ---- throttling ----

#[test]
fn a_broker_that_throttles_is_sent_less() {
    const BYTES_PER_SECOND: u64 = 100_000;
    // It remembers three seconds, not eleven: what is free at first is soon used up.
    let kafka = Kafka::builder()
        .property("quota.window.num", 3)
        .behind_proxies()
        .start();
    let topic = unique("throttled");
    kafka.create_topic(&topic, 2, &[]);
    let quota = format!("producer_byte_rate={BYTES_PER_SECOND}");
    kafka.config_command(&[
        "--alter",
        "--add-config",
        &quota,
        "--entity-type",
        "clients",
        "--entity-default",
    ]);
    let proxy = kafka.proxy(1);
    let throttled = Arc::new(AtomicUsize::new(0));
    proxy.on_answer({
        let throttled = Arc::clone(&throttled);
        move |asked, frame| {
            if asked.api_key == PRODUCE && read::<ProduceResponse>(asked, frame).throttle_time_ms > 0 {
                throttled.fetch_add(1, Ordering::SeqCst);
            }
            Fate::Forward
        }
    });
    let (builder, again) = counting(Client::connect(&kafka.bootstrap()).unwrap().producer());
    // Not all of it in a request or two.
    let builder = builder.batch_bytes(20_000).request_bytes(100_000);
    let producer = builder.delivery_timeout(PATIENCE).build().unwrap();
    let records = if is_long() { 8000 } else { 1500 };
    let load = Load::new(&producer, &topic, 2)
        .padding(1000)
        .records(records)
        .delivery_timeout(PATIENCE);
    let (before, begun) = (proxy.accepted(), Instant::now());
    let outcomes = load.run();
    let took = begun.elapsed();
    println!(
        "{} bytes in {took:?}, {} requests, {} of them throttled, {} connections",
        records * 1000,
        proxy.requests(PRODUCE),
        throttled.load(Ordering::SeqCst),
        proxy.accepted() - before
    );
    assert!(throttled.load(Ordering::SeqCst) > 0);
    assert!(took.as_secs() > records * 1000 / BYTES_PER_SECOND / 3, "{took:?}");
    assert_eq!(again.load(Ordering::Relaxed), 0, "sent again");
    assert!(proxy.accepted() - before <= 1, "connected again");
    all_is_there(&kafka, &topic, &outcomes);
}

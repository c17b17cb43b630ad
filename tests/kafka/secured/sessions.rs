//! Brokers that want to know again and again who asks: nobody notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use klamm::{Client, Next, Producer, Record, Sasl, StartAt, Stream, Topics};

use super::{LONG, at, oauthbearer, plain};
use crate::support::{User, is_long, secured, unique};

const SASL_AUTHENTICATE: i16 = 36;
const PARTITIONS: i32 = 4;

/// What a run with load has seen.
struct Run {
    written: usize,
    /// The longest that a record, and a question about metadata, was under way.
    slowest: [Duration; 2],
}

/// Writes, reads in a group and asks questions for so long: nothing fails, and everything is read once, in order.
fn load(client: &Client, topic: &str, time: Duration) -> Run {
    let producer = client.producer().build().expect("good settings");
    let stream = client
        .group(unique("sessions"))
        .topics([topic])
        .start_at(StartAt::Earliest)
        .heartbeat_interval(Duration::from_millis(300))
        .commit_interval(Duration::from_millis(100))
        .join()
        .expect("it joins");
    let over = AtomicBool::new(false);
    let run = thread::scope(|scope| {
        let writing = scope.spawn(|| write(&producer, topic, &over));
        let asking = scope.spawn(|| ask(client, topic, &over));
        let reading = scope.spawn(|| read(&stream, &over));
        let until = Instant::now() + time;
        while Instant::now() < until && !(writing.is_finished() || asking.is_finished() || reading.is_finished()) {
            thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::SeqCst);
        let (written, slowest) = writing.join().expect("nothing fails");
        let asked = asking.join().expect("nothing fails");
        // The last of each partition follows all others.
        for partition in 0..PARTITIONS {
            let end = Record::to(topic).partition(partition).value("end");
            producer.send_sync(end, LONG).expect("it is written");
        }
        assert_eq!(reading.join().expect("nothing fails"), written);
        Run {
            written,
            slowest: [slowest, asked],
        }
    });
    let report = stream.close(LONG).expect("a report");
    assert!(report.uncommitted.is_empty(), "{report:?}");
    run
}

/// How many records, and how long the slowest took.
fn write(producer: &Producer, topic: &str, over: &AtomicBool) -> (usize, Duration) {
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !over.load(Ordering::SeqCst) {
        let number = count.to_string();
        let record = Record::to(topic).partition(count as i32 % PARTITIONS).value(&number);
        let begun = Instant::now();
        producer.send_sync(record, LONG).expect("it is written");
        slowest = slowest.max(begun.elapsed());
        count += 1;
    }
    (count, slowest)
}

fn ask(client: &Client, topic: &str, over: &AtomicBool) -> Duration {
    let mut slowest = Duration::ZERO;
    while !over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        client.metadata(Topics::named([topic])).expect("an answer");
        client.offset_for(topic, 0, StartAt::Latest).expect("an answer");
        slowest = slowest.max(begun.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    slowest
}

/// Everything up to the end of each partition: how many.
fn read(stream: &Stream, over: &AtomicBool) -> usize {
    let mut next: Vec<i32> = (0..PARTITIONS).collect();
    let (mut count, mut ended) = (0, 0);
    let mut iter = stream.iter();
    while ended < PARTITIONS {
        match iter.next_timeout(LONG).expect("nothing fails") {
            Next::Message(message) if message.value() == Some(b"end") => {
                assert!(over.load(Ordering::SeqCst));
                message.ack();
                ended += 1;
            }
            Next::Message(message) => {
                let next = &mut next[message.partition() as usize];
                let text = String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned();
                assert_eq!(text, next.to_string(), "each once, in order");
                *next += PARTITIONS;
                message.ack();
                count += 1;
            }
            other => panic!("{other:?}; {:?}", stream.health()),
        }
    }
    count
}

#[test]
fn sessions_of_three_seconds_are_renewed_and_nothing_fails() {
    let kafka = &secured().kafka;
    let proxy = kafka.listener_proxy(1, "SHORT");
    let time = Duration::from_secs(if is_long() { 60 } else { 8 });
    let ways: &[fn() -> Sasl] = match is_long() {
        true => &[
            || plain(User::ALICE),
            || Sasl::scram_sha_512(User::ALICE.name, User::ALICE.password),
            || oauthbearer(User::ALICE),
        ],
        false => &[|| Sasl::scram_sha_256(User::ALICE.name, User::ALICE.password)],
    };
    for sasl in ways {
        let topic = unique("sessions");
        kafka.create_topic(&topic, PARTITIONS as usize, &[]);
        let client = at("SHORT").sasl(sasl()).connect().expect("it is let in");
        let (connections, proofs) = (proxy.accepted(), proxy.requests(SASL_AUTHENTICATE));
        let run = load(&client, &topic, time);
        let connections = proxy.accepted() - connections;
        let proofs = proxy.requests(SASL_AUTHENTICATE) - proofs;
        println!(
            "{:?}: {} records, {connections} connections, {proofs} proofs, slowest {:?}",
            sasl(),
            run.written,
            run.slowest
        );
        // Without renewing, each is a new one every three seconds.
        let sessions = time.as_secs() as usize / 3;
        assert!(connections < 5 + 3 * sessions, "{connections} connections");
        assert!(proofs as usize > 2 * sessions, "{proofs} proofs");
        if is_long() {
            compare(&topic, time, &run);
        }
    }
}

/// With a run in which nobody asks again.
fn compare(topic: &str, time: Duration, run: &Run) {
    let plainly = unique(topic);
    secured().kafka.create_topic(&plainly, PARTITIONS as usize, &[]);
    let client = at("SASL").sasl(plain(User::ALICE)).connect().expect("it is let in");
    let other = load(&client, &plainly, time);
    println!("without: {} records, slowest {:?}", other.written, other.slowest);
    for (slowest, without) in run.slowest.iter().zip(other.slowest) {
        let most = without + Duration::from_millis(100);
        assert!(*slowest <= most, "{slowest:?}, and without sessions {without:?}");
    }
}

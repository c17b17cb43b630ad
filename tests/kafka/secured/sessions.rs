//! Brokers that want to know again and again who asks: nobody notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use klamm::{Client, Next, Producer, Record, Sasl, StartAt, Stream, Topics};

use super::{LONG, at, oauthbearer, plain};
use crate::support::{Times, User, is_long, secured, unique};

const SASL_HANDSHAKE: i16 = 17;
const PARTITIONS: i32 = 4;
/// Of the listener `SHORT`.
const SESSION: Duration = Duration::from_secs(3);

/// What a run with load has seen.
struct Run {
    written: usize,
    /// How long a record, and a question about metadata, was under way.
    times: [Times; 2],
}

impl Run {
    fn tell(&self, name: &str) {
        let [writes, questions] = [&self.times[0], &self.times[1]].map(|times| (times.took(), longest(times)));
        println!(
            "  {name}: {} records, writes took {writes:?}, questions {questions:?}",
            self.written
        );
    }
}

/// Each connection is renewed once in that time: what is held up by it, is then.
fn longest(times: &Times) -> Duration {
    times.longest_in_each(SESSION)
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
        let (written, wrote) = writing.join().expect("nothing fails");
        let asked = asking.join().expect("nothing fails");
        // The last of each partition follows all others.
        for partition in 0..PARTITIONS {
            let end = Record::to(topic).partition(partition).value("end");
            producer.send_sync(end, LONG).expect("it is written");
        }
        assert_eq!(reading.join().expect("nothing fails"), written);
        Run {
            written,
            times: [wrote, asked],
        }
    });
    let report = stream.close(LONG).expect("a report");
    assert!(report.uncommitted.is_empty(), "{report:?}");
    run
}

/// How many records, and how long each took.
fn write(producer: &Producer, topic: &str, over: &AtomicBool) -> (usize, Times) {
    let (mut count, times) = (0, Times::default());
    while !over.load(Ordering::SeqCst) {
        let number = count.to_string();
        let record = Record::to(topic).partition(count as i32 % PARTITIONS).value(&number);
        let begun = Instant::now();
        producer.send_sync(record, LONG).expect("it is written");
        times.note(begun);
        count += 1;
    }
    (count, times)
}

fn ask(client: &Client, topic: &str, over: &AtomicBool) -> Times {
    let times = Times::default();
    while !over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        client.metadata(Topics::named([topic])).expect("an answer");
        client.offset_for(topic, 0, StartAt::Latest).expect("an answer");
        times.note(begun);
        thread::sleep(Duration::from_millis(5));
    }
    times
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
        let (connections, handshakes) = (proxy.accepted(), proxy.requests(SASL_HANDSHAKE));
        let (run, without) = thread::scope(|scope| {
            // The same beside it, on the same machine at the same time.
            let without = is_long().then(|| scope.spawn(|| load_without(time)));
            let run = load(&client, &topic, time);
            (run, without.map(|run| run.join().expect("nothing fails")))
        });
        let connections = proxy.accepted() - connections;
        let renewals = (proxy.requests(SASL_HANDSHAKE) - handshakes) as usize - connections;
        println!("{:?}: {renewals} renewals on {connections} connections", sasl());
        // Without renewing, each is a new one every three seconds.
        let sessions = (time.as_secs() / SESSION.as_secs()) as usize;
        assert!(connections < 5 + 3 * sessions, "{connections} connections");
        assert!(renewals >= sessions, "{renewals} renewals");
        run.tell("with");
        if let Some(without) = without {
            without.tell("without");
            compare(&run, &without);
        }
    }
}

/// A run in which nobody asks again.
fn load_without(time: Duration) -> Run {
    let topic = unique("without");
    secured().kafka.create_topic(&topic, PARTITIONS as usize, &[]);
    let client = at("SASL").sasl(plain(User::ALICE)).connect().expect("it is let in");
    load(&client, &topic, time)
}

/// Nothing is held up for long once in each session.
fn compare(run: &Run, without: &Run) {
    for (times, without) in run.times.iter().zip(&without.times) {
        let (longest, without) = (longest(times), longest(without));
        let most = without + Duration::from_millis(100);
        assert!(longest <= most, "{longest:?}, and without sessions {without:?}");
    }
}

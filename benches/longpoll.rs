//! Does anything of a client wait behind the long poll of its stream?
//!
//! A broker handles one request at a time per connection, and a Fetch for which there is nothing waits in it for up to
//! `max_wait`: here 10 s. One member of a group fetches so from partitions in which nothing happens; another, with a
//! client of its own, has paused its partitions and fetches nothing. Both do the same besides, in turns, call by call: what the
//! machine does to one, it does to the other. The goal: of a hundred calls the slowest but one takes at most three times
//! as long beside a long poll as without.
//!
//! | Row | What is measured |
//! |---|---|
//! | `commit` | `Stream::commit` of an offset that was acked just before |
//! | `heartbeat` | from the request to its answer, both on their way through a proxy |
//! | `metadata` | `Client::metadata` of one topic |
//! | `produce` | `Producer::send` without lingering, and `Delivery::wait` |
//!
//! All goes through that proxy, which costs everybody the same: only ratios mean anything.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `KLAMM_BENCH_CALLS` | Calls of each kind; 3000 unless set, which takes about half a minute |

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod race;
#[path = "../tests/kafka/support/mod.rs"]
mod support;
#[path = "longpoll/watch.rs"]
mod watch;

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use klamm::{AckMode, Client, NewTopic, Next, Producer, Record, Stream, Topics};
use support::{Kafka, unique, wait_until};
use watch::Watch;

const MAX_WAIT: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 12;
/// How many times as long a call may take beside a long poll.
const GOAL: f64 = 3.0;
const CALLS: [fn(&Member, usize); 3] = [Member::commit, Member::ask_for_metadata, Member::produce];

fn main() {
    let calls = race::number("KLAMM_BENCH_CALLS", 3000);
    let kafka = Kafka::builder().full_speed().behind_proxies().start();
    let watch = Watch::over(kafka.proxy(1));
    let names = Arc::new(Names::new(&kafka, calls));
    let polling = Member::join(&kafka, "polling", &names, MAX_WAIT, calls);
    let paused = Member::join(&kafka, "paused", &names, Duration::from_millis(100), calls);
    paused
        .stream
        .pause(paused.stream.assignment())
        .expect("they are its own");
    wait_until("one long poll, and no other", LIMIT, || {
        watch.is_fetching("polling") && !watch.is_fetching("paused")
    });
    let members = [&polling, &paused];
    // Without a look at the clock: connections are made, and the broker's code is compiled.
    take_turns(members, 0..calls / 10);
    let begun = Instant::now();
    let [commits, metadata, produced] = take_turns(members, calls / 10..calls);
    let ended = Instant::now();
    let fetches = |name| watch.fetches_waiting(name, begun, ended);
    println!(
        "{} calls of each kind in {:.0} s; on average {:.1} Fetches were waiting, and of the paused member {:.1}\n",
        calls - calls / 10,
        (ended - begun).as_secs_f64(),
        fetches("polling"),
        fetches("paused"),
    );
    assert!(fetches("polling") > 0.9, "the long poll was not what it was to be");
    assert!(fetches("paused") == 0.0, "who is paused has fetched");
    let heartbeats = members.map(|member| watch.heartbeats(member.name, begun, ended));
    print([
        ("commit", commits),
        ("heartbeat", heartbeats),
        ("metadata", metadata),
        ("produce", produced),
    ]);
}

struct Names {
    /// Read by members: one partition holds an offset for each commit.
    read: String,
    /// Written by producers, fetched by nobody: a record ends the long poll of whoever waits for it.
    written: String,
}

impl Names {
    fn new(kafka: &Kafka, records: usize) -> Self {
        let [read, written] = ["read", "written"].map(|name| unique(&format!("longpoll-{name}")));
        let client = Client::connect(&kafka.bootstrap()).expect("the broker is there");
        let topics = [&read, &written].map(|name| NewTopic::new(name, PARTITIONS, 1));
        let created = client.admin().create_topics(topics).expect("the controller answers");
        created.all().expect("new topics");
        for name in [&read, &written] {
            kafka.wait_for_topic(name, PARTITIONS as usize);
        }
        let producer = client.producer().build().expect("settings that hold");
        for _ in 0..records {
            let record = Record::to(&read).partition(0).value(b"to be acked");
            producer.send_detached(record).expect("there is room");
        }
        producer.flush(LIMIT).expect("all are in the log");
        Self { read, written }
    }
}

/// A group of one, and a producer of the same client.
struct Member {
    name: &'static str,
    names: Arc<Names>,
    client: Client,
    stream: Stream,
    producer: Producer,
}

impl Member {
    /// Reads all there is, so that nothing happens from then on, and acks nothing of it.
    fn join(kafka: &Kafka, name: &'static str, names: &Arc<Names>, max_wait: Duration, records: usize) -> Self {
        let client = Client::builder().bootstrap(kafka.bootstrap()).client_id(name);
        let client = client.connect().expect("the broker is there");
        let group = client
            .group(unique(name))
            .topics([&names.read])
            .ack_mode(AckMode::Explicit)
            .commit_interval(None)
            .heartbeat_interval(Duration::from_millis(20))
            .max_wait(max_wait);
        let stream = group.join().expect("the topic is there");
        let mut messages = stream.iter();
        for read in 0..records {
            match messages.next_timeout(LIMIT).expect("a record") {
                Next::Message(_) => {}
                other => panic!("{other:?} behind {read} of {records} records"),
            }
        }
        drop(messages);
        let producer = client.producer().linger(Duration::ZERO);
        Self {
            name,
            names: Arc::clone(names),
            stream,
            producer: producer.build().expect("settings that hold"),
            client,
        }
    }

    fn commit(&self, turn: usize) {
        let acked = self.stream.ack_through(&self.names.read, 0, turn as i64);
        acked.expect("it was given out");
        self.stream.commit(LIMIT).expect("the coordinator is there");
    }

    fn ask_for_metadata(&self, _: usize) {
        let topics = Topics::named([&self.names.written]);
        let found = self.client.metadata(topics).expect("the broker is there");
        assert_eq!(found.topics.len(), 1);
    }

    fn produce(&self, turn: usize) {
        let partition = turn as i32 % PARTITIONS;
        let record = Record::to(&self.names.written).partition(partition).value(b"written");
        let sent = self.producer.send(record).expect("there is room");
        sent.wait(LIMIT).expect("it is in the log");
    }
}

/// How long each call took, by kind and member.
fn take_turns(members: [&Member; 2], turns: Range<usize>) -> [[Vec<Duration>; 2]; 3] {
    let mut taken: [[Vec<Duration>; 2]; 3] = Default::default();
    for turn in turns {
        for (taken, call) in taken.iter_mut().zip(CALLS) {
            // Neither is always the first.
            for at in [turn % 2, 1 - turn % 2] {
                let begun = Instant::now();
                call(members[at], turn);
                taken[at].push(begun.elapsed());
            }
        }
    }
    taken
}

fn print(rows: [(&str, [Vec<Duration>; 2]); 4]) {
    println!(
        "{:<12}{:>8}{:>10}{:>10}{:>13}{:>13}   p50 and p99 of those without",
        "", "calls", "p50 µs", "p99 µs", "p50 without", "p99 without"
    );
    let mut slowest: f64 = 0.0;
    for (name, taken) in rows {
        let [beside, without] = taken.map(|mut taken| {
            taken.sort_unstable();
            taken
        });
        let [p50, p99] = [50, 99].map(|percent| [&beside, &without].map(|taken| percentile(taken, percent)));
        println!(
            "{name:<12}{:>8}{:>10.0}{:>10.0}{:>13.0}{:>13.0}   {:.2} {:.2}",
            beside.len(),
            p50[0],
            p99[0],
            p50[1],
            p99[1],
            p50[0] / p50[1],
            p99[0] / p99[1],
        );
        slowest = slowest.max(p99[0] / p99[1]);
    }
    let verdict = if slowest <= GOAL { "met" } else { "missed" };
    println!("\nat most {GOAL} times the p99: {verdict} ({slowest:.2})");
}

/// Of sorted times, in microseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len().saturating_sub(1)) * percent / 100;
    sorted.get(at).map_or(f64::NAN, |taken| taken.as_secs_f64() * 1e6)
}

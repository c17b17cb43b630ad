//! How much do fifty partitions without records slow down one that is read, or two?
//!
//! Against one broker of a real Kafka on this machine, with default settings. The same records lie in a topic of their
//! own, and in one that has fifty empty partitions beside. A broker holds back an answer as long as it has nothing for
//! it, and a partition that has room must not wait for that. Every run is a process of its own, and contenders take
//! turns, so that only ratios within one round are compared: a shared machine's speed changes by the minute.
//!
//! Loops are *fast*, doing nothing with a message, or *slow*, with two microseconds of work for each: then the window is
//! full nearly all the time, and the partition left out of most Fetches.
//!
//! Of each, medians: millions of records a second from the creation of the client on, and from the first message on;
//! processor time in seconds per million records; and of those among neighbours, each as a multiple of what it is alone.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `KLAMM_BENCH_RECORDS` | Records of 100 bytes for a fast loop; 5 million unless set. A slow one has a fifth of them |
//! | `KLAMM_BENCH_ROUNDS` | How often each contender runs; 7 unless set |
//! | `KLAMM_BENCH_OTHER` | Another build of this bench, to compare this one with: takes part in each round as well |
//! | `KLAMM_TEST_BOOTSTRAP` | A running cluster to use; topics that an earlier run has filled there are used again |

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod filled;
mod race;
#[path = "../tests/kafka/support/mod.rs"]
mod support;
mod values;

use std::{
    env,
    hint::{black_box, spin_loop},
    path::PathBuf,
    time::{Duration, Instant},
};

use filled::{Cluster, VALUE_BYTES};
use klamm::Client;
use race::{median, median_of, number, processor_seconds, ratios};

const IDLE: usize = 50;
const WORK: Duration = Duration::from_micros(2);

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", pace, bootstrap, topic, records] => {
            race::process::end_with_parent();
            run(pace, bootstrap, topic, records.parse().expect("a number of records"));
        }
        _ => compare(),
    }
}

// ---- one run, in a process of its own ----

fn run(pace: &str, bootstrap: &str, topic: &str, records: usize) {
    let begun = Instant::now();
    let client = Client::connect(bootstrap).expect("the broker is there");
    let stream = client.reader().topics([topic]).open().expect("the topic is there");
    let is_slow = pace == "slow";
    let (mut first, mut seen, mut bytes) = (None, 0, 0);
    for message in &stream {
        let message = message.expect("a record");
        first.get_or_insert_with(Instant::now);
        bytes += black_box(message.value()).map_or(0, <[u8]>::len);
        if is_slow {
            work();
        }
        seen += 1;
        if seen == records {
            break;
        }
    }
    let last = Instant::now();
    assert_eq!(bytes, records * VALUE_BYTES, "all values were seen");
    let first = first.expect("at least one record");
    let [first, last] = [first, last].map(|at| (at - begun).as_secs_f64());
    println!("{last} {first} {}", processor_seconds());
}

fn work() {
    let begun = Instant::now();
    while begun.elapsed() < WORK {
        spin_loop();
    }
}

// ---- all runs ----

/// What one run came to.
struct Run {
    rate: f64,
    rate_behind_first: f64,
    processor: f64,
}

struct Contender {
    name: String,
    program: PathBuf,
    pace: &'static str,
    topic: String,
    records: usize,
    /// Who has the same records for itself.
    alone: usize,
}

fn compare() {
    let records = number("KLAMM_BENCH_RECORDS", 5_000_000);
    let rounds = number("KLAMM_BENCH_ROUNDS", 7);
    let cluster = Cluster::start(1);
    let bootstrap = cluster.kafka().bootstrap();
    let client = Client::connect(&bootstrap).expect("the broker is there");
    let contenders = contenders(&cluster, &client, records);
    let runs = race::rounds(rounds, contenders.len(), |at| contenders[at].run(&bootstrap));
    println!(
        "{:<32}{:>10}{:>12}{:>10}   of that alone: rate, behind the first message, CPU",
        "", "M/s", "then M/s", "CPU s/M"
    );
    for (contender, mine) in contenders.iter().zip(&runs) {
        let alone = &runs[contender.alone];
        println!(
            "{:<32}{:>10.2}{:>12.2}{:>10.4}   {:.3} {:.3} {:.3}",
            contender.name,
            median_of(mine, |run| run.rate),
            median_of(mine, |run| run.rate_behind_first),
            median_of(mine, |run| run.processor),
            median(ratios(mine, alone, |run| run.rate)),
            median(ratios(mine, alone, |run| run.rate_behind_first)),
            median(ratios(mine, alone, |run| run.processor)),
        );
    }
}

fn contenders(cluster: &Cluster, client: &Client, records: usize) -> Vec<Contender> {
    let mut programs = vec![("", env::current_exe().expect("this program has a path"))];
    if let Some(other) = env::var_os("KLAMM_BENCH_OTHER") {
        programs.push((", other", other.into()));
    }
    let mut contenders = Vec::new();
    for (pace, records) in [("fast", records), ("slow", records / 5)] {
        for busy in [1, 2] {
            let topics = [0, IDLE].map(|idle| {
                let topic = format!("klamm-bench-{busy}-beside-{idle}-{records}");
                let used: Vec<i32> = (0..busy).collect();
                cluster.fill(client, &topic, busy as usize + idle, &used, records);
                (topic, if idle == 0 { "alone" } else { "among 50 idle" })
            });
            for (whose, program) in &programs {
                let alone = contenders.len();
                contenders.extend(topics.iter().map(|(topic, where_)| Contender {
                    name: format!("{busy} {where_}, {pace}{whose}"),
                    program: program.clone(),
                    pace,
                    topic: topic.clone(),
                    records,
                    alone,
                }));
            }
        }
    }
    contenders
}

impl Contender {
    fn run(&self, bootstrap: &str) -> Run {
        let records = self.records.to_string();
        let args = ["run", self.pace, bootstrap, &self.topic, &records];
        let [last, first, processor] = race::numbers_of_program(&self.program, &args);
        let millions = self.records as f64 / 1e6;
        Run {
            rate: millions / last,
            rate_behind_first: millions / (last - first),
            processor: processor / millions,
        }
    }
}

//! How near does the `for` loop come to a bare loop over the socket, in messages a second, processor time and memory?
//!
//! Against a real Kafka on this machine, from the creation of the client on, with default settings. Every run is a
//! process of its own, and contenders take turns, so that only ratios within one round are compared: a shared machine's
//! speed changes by the minute.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `KLAMM_BENCH_RECORDS` | Records per topic; 5 million unless set |
//! | `KLAMM_BENCH_ROUNDS` | How often each contender runs; 5 unless set |
//! | `KLAMM_BENCH_OTHER` | Another build of this bench, to compare this one with: its `klamm` takes part as `other` |
//! | `KLAMM_TEST_BOOTSTRAP` | A running cluster to use; topics that an earlier run has filled there are used again |

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod bare;
#[path = "throughput/floor.rs"]
mod floor;
mod race;
#[path = "../tests/kafka/support/mod.rs"]
mod support;

use std::{
    env,
    hint::black_box,
    time::{Duration, Instant},
};

use klamm::{Client, StartAt, Stream};
use race::{median, median_of, number, peak_megabytes, processor_seconds, ratios};

const VALUE_BYTES: usize = 100;
const SETTINGS: &[&str] = &["acks=1", "batch.size=65536", "linger.ms=5"];
const CONTENDERS: &[&str] = &["floor", "klamm", "klamm-batches", "klamm-group"];

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [contender, bootstrap, topic, records] if CONTENDERS.contains(&contender) => {
            run(
                contender,
                bootstrap,
                topic,
                records.parse().expect("a number of records"),
            );
        }
        _ => compare(),
    }
}

// ---- one run, in a process of its own ----

fn run(contender: &str, bootstrap: &str, topic: &str, records: usize) {
    let begun = Instant::now();
    let read = match contender {
        "floor" => bare(bootstrap, topic, records),
        "klamm" => messages(&reader(bootstrap, topic), records),
        "klamm-group" => messages(&member(bootstrap, topic), records),
        _ => batches(bootstrap, topic, records),
    };
    let Read { first, last, bytes } = read;
    assert_eq!(bytes, records * VALUE_BYTES, "all values were seen");
    let [first, last] = [first, last].map(|at| (at - begun).as_secs_f64());
    println!("{last} {} {} {first}", processor_seconds(), peak_megabytes());
}

/// What a contender has read, and when.
struct Read {
    first: Instant,
    last: Instant,
    bytes: usize,
}

fn bare(bootstrap: &str, topic: &str, records: usize) -> Read {
    let (mut first, mut seen, mut bytes) = (None, 0, 0);
    floor::read(bootstrap, topic, |value| {
        first.get_or_insert_with(Instant::now);
        bytes += black_box(value).len();
        seen += 1;
        seen == records
    });
    Read {
        first: first.expect("at least one record"),
        last: Instant::now(),
        bytes,
    }
}

fn reader(bootstrap: &str, topic: &str) -> Stream {
    let client = Client::connect(bootstrap).expect("the broker is there");
    client.reader().topics([topic]).open().expect("the topic is there")
}

/// A group of one that starts at the beginning, and commits many times while it reads.
fn member(bootstrap: &str, topic: &str) -> Stream {
    let client = Client::connect(bootstrap).expect("the broker is there");
    let group = support::unique("bench");
    let group = client
        .group(group)
        .topics([topic])
        .commit_interval(Duration::from_millis(50));
    group.join().expect("the topic is there")
}

fn messages(stream: &Stream, records: usize) -> Read {
    let (mut first, mut seen, mut bytes) = (None, 0, 0);
    for message in stream {
        let message = message.expect("a record");
        first.get_or_insert_with(Instant::now);
        bytes += black_box(message.value()).map_or(0, <[u8]>::len);
        seen += 1;
        if seen == records {
            break;
        }
    }
    Read {
        first: first.expect("at least one record"),
        last: Instant::now(),
        bytes,
    }
}

fn batches(bootstrap: &str, topic: &str, records: usize) -> Read {
    let client = Client::connect(bootstrap).expect("the broker is there");
    let stream = client.reader().topics([topic]).open().expect("the topic is there");
    let (mut first, mut seen, mut bytes) = (None, 0, 0);
    for batch in stream.batches() {
        first.get_or_insert_with(Instant::now);
        for message in batch.expect("a batch") {
            bytes += black_box(message.expect("a record").value()).map_or(0, <[u8]>::len);
            seen += 1;
        }
        if seen == records {
            break;
        }
    }
    Read {
        first: first.expect("at least one record"),
        last: Instant::now(),
        bytes,
    }
}

// ---- all runs ----

fn compare() {
    let records = number("KLAMM_BENCH_RECORDS", 5_000_000);
    let rounds = number("KLAMM_BENCH_ROUNDS", 5);
    let kafka = support::shared();
    println!("{records} records of {VALUE_BYTES} bytes, written by ProducerPerformance with {SETTINGS:?}");
    for partitions in [12, 1] {
        let topic = format!("klamm-bench-{partitions}-{records}");
        fill(kafka, &topic, partitions, records);
        println!("\n{partitions} partitions");
        compete(&kafka.bootstrap(), &topic, records, rounds);
    }
}

fn fill(kafka: &support::Kafka, topic: &str, partitions: usize, records: usize) {
    let client = Client::connect(&kafka.bootstrap()).expect("the broker is there");
    let settings = ["retention.ms=-1", "--config", "segment.bytes=1073741824"];
    let count = partitions.to_string();
    kafka.topic_command(
        &[
            &["--create", "--if-not-exists", "--topic", topic][..],
            &["--partitions", &count, "--config"],
            &settings,
        ]
        .concat(),
    );
    kafka.wait_for_topic(topic, partitions);
    let ends = (0..partitions).map(|partition| {
        let end = client.offset_for(topic, partition as i32, StartAt::Latest);
        end.expect("the partition is there").unwrap_or(0)
    });
    match ends.sum::<i64>() as usize {
        0 => {
            kafka.producer_performance(topic, records, VALUE_BYTES, SETTINGS);
        }
        found => assert_eq!(found, records, "topic {topic} holds what an earlier run has written"),
    }
}

/// What one run came to.
struct Run {
    rate: f64,
    rate_behind_first: f64,
    processor: f64,
    peak: f64,
    first: f64,
}

fn compete(bootstrap: &str, topic: &str, records: usize, rounds: usize) {
    let this = env::current_exe().expect("this program has a path");
    let mut contenders: Vec<_> = CONTENDERS.iter().map(|&name| (name, name, this.clone())).collect();
    if let Some(other) = env::var_os("KLAMM_BENCH_OTHER") {
        contenders.push(("other", "klamm", other.into()));
    }
    let runs = race::rounds(rounds, contenders.len(), |at| {
        let (_, contender, program) = &contenders[at];
        start(program, &[contender, bootstrap, topic, &records.to_string()], records)
    });
    println!(
        "{:<16}{:>10}{:>10}{:>10}{:>10}{:>10}   of the floor's rate, and times its CPU; round by round",
        "", "M/s", "CPU s/M", "peak MB", "first ms", "then M/s"
    );
    for ((name, ..), mine) in contenders.iter().zip(&runs) {
        let rates = ratios(mine, &runs[0], |run| run.rate);
        let processor = ratios(mine, &runs[0], |run| run.processor);
        let each: Vec<_> = rates
            .iter()
            .zip(&processor)
            .map(|(rate, cpu)| format!("{rate:.2}/{cpu:.2}"))
            .collect();
        println!(
            "{name:<16}{:>10.2}{:>10.4}{:>10.1}{:>10.1}{:>10.2}   {:.2} {:.2}; {}",
            median_of(mine, |run| run.rate),
            median_of(mine, |run| run.processor),
            median_of(mine, |run| run.peak),
            median_of(mine, |run| run.first * 1000.0),
            median_of(mine, |run| run.rate_behind_first),
            median(rates),
            median(processor),
            each.join(" "),
        );
    }
    // Joining takes some round trips, which the reader does without: what is compared is the loop.
    let [reader, member] = ["klamm", "klamm-group"].map(|name| {
        let at = CONTENDERS.iter().position(|&contender| contender == name);
        &runs[at.expect("a contender")]
    });
    println!(
        "a group's loop, of the reader's, from the first message on: {:.3}",
        median(ratios(member, reader, |run| run.rate_behind_first))
    );
}

fn start(program: &std::path::Path, args: &[&str], records: usize) -> Run {
    let [seconds, processor, peak, first] = race::numbers_of_program(program, args);
    let millions = records as f64 / 1e6;
    Run {
        rate: millions / seconds,
        rate_behind_first: millions / (seconds - first),
        processor: processor / millions,
        peak,
        first,
    }
}

//! How near does the `for` loop come to a bare loop over the socket, in messages a second, processor time and memory?
//!
//! Against a real Kafka on this machine, from the creation of the client on, with default settings. Every run is a
//! process of its own, and contenders take turns, so that only ratios within one round are compared: a shared machine's
//! speed changes by the minute.
//!
//! | Contender | What it does |
//! |---|---|
//! | `floor` | a bare loop on one thread, which asks, checks, inflates and walks, one after the other |
//! | `klamm` | the `for` loop of a reader |
//! | `klamm-batches` | the same, batch by batch |
//! | `klamm-group` | the `for` loop of a group's only member, which commits many times |
//!
//! Arguments choose what is read (`cargo bench … -- 100B lz4`); without any, all of it:
//!
//! | Argument | Records |
//! |---|---|
//! | `100B` `1-partition` | 100 bytes, in 12 partitions or one |
//! | `1KiB` | a quarter as many, ten times as long |
//! | `gzip` `snappy` `lz4` `zstd` | half as many, 200 bytes of text, compressed |
//!
//! | Variable | Meaning |
//! |---|---|
//! | `KLAMM_BENCH_RECORDS` | Records of 100 bytes; 5 million unless set |
//! | `KLAMM_BENCH_CONTENDERS` | Who takes part beside the floor, by the names above, separated by commas; everybody unless set |
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
#[path = "throughput/topics.rs"]
mod topics;
mod values;

use std::{
    env,
    hint::black_box,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use klamm::{Client, Stream};
use race::{median, median_of, number, page_faults, peak_megabytes, processor_seconds, ratios};
use topics::{Broker, WORKLOADS, Workload};

const CONTENDERS: &[&str] = &["floor", "klamm", "klamm-batches", "klamm-group"];

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [contender, bootstrap, topic, records] if CONTENDERS.contains(&contender) => {
            race::process::end_with_parent();
            run(
                contender,
                bootstrap,
                topic,
                records.parse().expect("a number of records"),
            );
        }
        ref wanted => compare(wanted),
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
    let [first, last] = [first, last].map(|at| (at - begun).as_secs_f64());
    let [busy, peak, faults] = [processor_seconds(), peak_megabytes(), page_faults()];
    println!("{last} {busy} {peak} {faults} {first} {bytes}");
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

fn compare(wanted: &[&str]) {
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !WORKLOADS.iter().any(|workload| workload.name == **name))
    {
        panic!("nothing is called {unknown:?}; see the first lines of this bench");
    }
    let plain = number("KLAMM_BENCH_RECORDS", 5_000_000);
    let broker = Broker::find();
    for workload in WORKLOADS {
        if wanted.is_empty() || wanted.contains(&workload.name) {
            let records = workload.records(plain);
            let topic = workload.topic(broker.kafka(), records);
            println!("\n{records} records of {workload}");
            compete(&broker.kafka().bootstrap(), &topic, workload, records);
        }
    }
}

/// The name of a contender, its name in its program, and that program.
fn contenders() -> Vec<(&'static str, &'static str, PathBuf)> {
    let this = env::current_exe().expect("this program has a path");
    let asked = env::var("KLAMM_BENCH_CONTENDERS");
    let asked = asked.as_ref().map(|names| names.split(',').collect::<Vec<_>>());
    let takes_part = |name: &str| name == "floor" || asked.as_ref().map_or(true, |names| names.contains(&name));
    let mut contenders: Vec<_> = CONTENDERS
        .iter()
        .filter(|name| takes_part(name))
        .map(|&name| (name, name, this.clone()))
        .collect();
    if let Some(other) = env::var_os("KLAMM_BENCH_OTHER") {
        contenders.push(("other", "klamm", other.into()));
    }
    contenders
}

/// What one run came to.
struct Run {
    rate: f64,
    rate_behind_first: f64,
    processor: f64,
    peak: f64,
    faults: f64,
    first: f64,
}

fn compete(bootstrap: &str, topic: &str, workload: &Workload, records: usize) {
    let contenders = contenders();
    let runs = race::rounds(number("KLAMM_BENCH_ROUNDS", 5), contenders.len(), |at| {
        let (_, contender, program) = &contenders[at];
        let args = [contender, bootstrap, topic, &records.to_string()];
        start(program, &args, records, workload.value_bytes)
    });
    println!(
        "{:<16}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}   of the floor's rate, and times its CPU; round by round",
        "", "M/s", "CPU s/M", "peak MB", "faults", "first ms", "then M/s"
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
            "{name:<16}{:>10.2}{:>10.4}{:>10.1}{:>10}{:>10.1}{:>10.2}   {:.2} {:.2}; {}",
            median_of(mine, |run| run.rate),
            median_of(mine, |run| run.processor),
            median_of(mine, |run| run.peak),
            median_of(mine, |run| run.faults),
            median_of(mine, |run| run.first * 1000.0),
            median_of(mine, |run| run.rate_behind_first),
            median(rates),
            median(processor),
            each.join(" "),
        );
    }
    // Joining takes some round trips, which the reader does without: what is compared is the loop.
    let of = |name| {
        contenders
            .iter()
            .position(|contender| contender.0 == name)
            .map(|at| &runs[at])
    };
    if let (Some(reader), Some(member)) = (of("klamm"), of("klamm-group")) {
        println!(
            "a group's loop, of the reader's, from the first message on: {:.3}",
            median(ratios(member, reader, |run| run.rate_behind_first))
        );
    }
}

fn start(program: &Path, args: &[&str], records: usize, value_bytes: usize) -> Run {
    let [seconds, processor, peak, faults, first, bytes] = race::numbers_of_program(program, args);
    assert_eq!(bytes as usize, records * value_bytes, "all values were seen");
    let millions = records as f64 / 1e6;
    Run {
        rate: millions / seconds,
        rate_behind_first: millions / (seconds - first),
        processor: processor / millions,
        peak,
        faults,
        first,
    }
}

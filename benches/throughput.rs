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

#[path = "throughput/floor.rs"]
mod floor;
#[path = "../tests/kafka/support/mod.rs"]
mod support;

use std::{
    env,
    hint::black_box,
    process::Command,
    time::{Duration, Instant},
};

use klamm::{Client, StartAt, Stream};

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
        "floor" => floor::read(bootstrap, topic, records),
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

/// Of this process, in user and system mode. The kernel counts hundredths of a second.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells about processes");
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn peak_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells about processes");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1024.0
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
        race(&kafka.bootstrap(), &topic, records, rounds);
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

fn race(bootstrap: &str, topic: &str, records: usize, rounds: usize) {
    let this = env::current_exe().expect("this program has a path");
    let mut contenders: Vec<_> = CONTENDERS.iter().map(|&name| (name, name, this.clone())).collect();
    if let Some(other) = env::var_os("KLAMM_BENCH_OTHER") {
        contenders.push(("other", "klamm", other.into()));
    }
    let mut runs: Vec<Vec<Run>> = contenders.iter().map(|_| Vec::new()).collect();
    // The first round fills the page cache and warms the broker, and counts nothing.
    for round in 0..=rounds {
        for (at, (_, contender, program)) in contenders.iter().enumerate() {
            let run = start(program, &[contender, bootstrap, topic, &records.to_string()], records);
            if round > 0 {
                runs[at].push(run);
            }
        }
    }
    println!(
        "{:<16}{:>10}{:>10}{:>10}{:>10}{:>10}   of the floor's rate, and times its CPU; round by round",
        "", "M/s", "CPU s/M", "peak MB", "first ms", "then M/s"
    );
    for ((name, ..), mine) in contenders.iter().zip(&runs) {
        let of = |what: fn(&Run) -> f64| median(mine.iter().map(what).collect());
        let ratios = |what: fn(&Run) -> f64| -> Vec<f64> {
            mine.iter()
                .zip(&runs[0])
                .map(|(mine, floor)| what(mine) / what(floor))
                .collect()
        };
        let (rates, processor) = (ratios(|run| run.rate), ratios(|run| run.processor));
        let each: Vec<_> = rates
            .iter()
            .zip(&processor)
            .map(|(rate, cpu)| format!("{rate:.2}/{cpu:.2}"))
            .collect();
        println!(
            "{name:<16}{:>10.2}{:>10.4}{:>10.1}{:>10.1}{:>10.2}   {:.2} {:.2}; {}",
            of(|run| run.rate),
            of(|run| run.processor),
            of(|run| run.peak),
            of(|run| run.first * 1000.0),
            of(|run| run.rate_behind_first),
            median(rates.clone()),
            median(processor.clone()),
            each.join(" "),
        );
    }
    // Joining takes some round trips, which the reader does without: what is compared is the loop.
    let [reader, member] = ["klamm", "klamm-group"].map(|name| {
        let at = CONTENDERS.iter().position(|&contender| contender == name);
        &runs[at.expect("a contender")]
    });
    let ratios: Vec<f64> = member
        .iter()
        .zip(reader)
        .map(|(member, reader)| member.rate_behind_first / reader.rate_behind_first)
        .collect();
    println!(
        "a group's loop, of the reader's, from the first message on: {:.3}",
        median(ratios)
    );
}

fn start(program: &std::path::Path, args: &[&str], records: usize) -> Run {
    let output = Command::new(program)
        .args(args)
        .output()
        .expect("the bench starts itself");
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = said
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    let &[seconds, processor, peak, first] = &numbers[..] else {
        panic!("{args:?} said {said:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    };
    let millions = records as f64 / 1e6;
    // What a run leaves in the broker is over before the next one begins.
    std::thread::sleep(Duration::from_millis(50));
    Run {
        rate: millions / seconds,
        rate_behind_first: millions / (seconds - first),
        processor: processor / millions,
        peak,
        first,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |given| given.parse().expect("a number"))
}

//! How near does writing come to a bare loop over the socket, in messages a second, processor time, memory and delay?
//!
//! Against a real Kafka on this machine, from the creation of the client to the last acknowledgement, acks all, with
//! default settings. Every run is a process of its own that writes a topic of its own, and contenders take turns, so
//! that only ratios within one round are compared: a shared machine's speed changes by the minute. After each run the
//! topic's end offsets are counted, and it is deleted.
//!
//! | Contender | What it does |
//! |---|---|
//! | `floor` | a bare loop on one thread that writes requests which lie there, five in flight |
//! | `klamm` | `send`, and one `flush` at the end; deliveries are dropped |
//! | `klamm-deliveries` | keeps up to a hundred thousand deliveries, and then waits for the older half of them |
//! | `klamm-4-threads` | as `klamm`, with four threads that share the producer |
//! | `java` | `ProducerPerformance`, by its own clock: a rough peer |
//!
//! Of each, medians: millions of records a second (and the best round), values in megabytes a second, processor time of
//! the contender's process and of the broker's in seconds per million records, and the contender's peak memory, of which
//! 4 MB are the values, and the floor's requests. On a machine with other work it is processor times that hold: whoever
//! needs more of the processor waits longer for it.
//!
//! Arguments choose what is measured (`cargo bench … -- 100B lz4`); without any, all of it is but `sizes`:
//!
//! | Argument | Records |
//! |---|---|
//! | `100B` `1-partition` `keyed` | 100 bytes that no codec finds anything in; to 12 partitions or one, by key or not |
//! | `1KiB` | a quarter as many, ten times as long |
//! | `gzip` `snappy` `lz4` `zstd` | half as many, 200 bytes of text, compressed |
//! | `latency` | a thousand a second, read in the same process: from just before `send` to the message in hand |
//! | `sizes` | none of klamm's: which sizes of batches and requests are the best for the floor, in the workloads named beside it |
//!
//! | Variable | Meaning |
//! |---|---|
//! | `KLAMM_BENCH_RECORDS` | Records of 100 bytes; 2 million unless set |
//! | `KLAMM_BENCH_ROUNDS` | How often each contender runs; 5 unless set |
//! | `KLAMM_BENCH_SECONDS` | How long `latency` writes; 5 unless set |
//! | `KLAMM_BENCH_CONTENDERS` | Who takes part beside the floor, by the names in the tables, separated by commas; everybody unless set |
//! | `KLAMM_TEST_BOOTSTRAP` | A running cluster to use |

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod bare;
#[path = "produce/floor.rs"]
mod floor;
#[path = "produce/java.rs"]
mod java;
#[path = "produce/latency.rs"]
mod latency;
#[path = "produce/load.rs"]
mod load;
mod race;
#[path = "throughput/floor.rs"]
mod reads;
#[path = "../tests/kafka/support/mod.rs"]
mod support;
#[path = "produce/topics.rs"]
mod topics;
mod values;
#[path = "produce/writers.rs"]
mod writers;

use std::{any::Any, env, time::Instant};

use load::{Load, WORKLOADS, Workload};
use race::{best_of, median, median_of, number, ratios};
use topics::Topics;

const CONTENDERS: &[&str] = &["floor", "klamm", "klamm-deliveries", "klamm-4-threads", "java"];

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", workload, contender, bootstrap, topic, records] => {
            let workload = Workload::named(workload).expect("a workload");
            race::process::end_with_parent();
            run(
                workload,
                contender,
                bootstrap,
                topic,
                records.parse().expect("a number"),
            );
        }
        ["delay", contender, bootstrap, topic, records] => {
            race::process::end_with_parent();
            latency::run(contender, bootstrap, topic, records.parse().expect("a number"));
        }
        ref wanted => compare(wanted),
    }
}

// ---- one run, in a process of its own ----

fn run(workload: &'static Workload, contender: &str, bootstrap: &str, topic: &str, records: usize) {
    // What is written is there before the clock starts.
    let load = Load::new(workload, records);
    // What has written is kept until its threads have been asked for their time.
    let write: Box<dyn FnOnce() -> Box<dyn Any> + '_> = match contender {
        "klamm" => Box::new(|| Box::new(writers::detached(&load, bootstrap, topic))),
        "klamm-deliveries" => Box::new(|| Box::new(writers::waiting(&load, bootstrap, topic))),
        "klamm-4-threads" => Box::new(|| Box::new(writers::threads(4, &load, bootstrap, topic))),
        "java" => return java::run(&load, bootstrap, topic),
        floor => {
            let requests = floor::prepare(&load, topic, floor::Size::named(floor, workload));
            Box::new(move || Box::new(requests.write(bootstrap, topic)))
        }
    };
    let (begun, busy) = (Instant::now(), race::processor_seconds());
    let wrote = write();
    let (seconds, busy) = (begun.elapsed().as_secs_f64(), race::processor_seconds() - busy);
    drop(wrote);
    println!("{seconds} {busy} {}", race::peak_megabytes());
}

// ---- all runs ----

/// What one run came to.
struct Run {
    rate: f64,
    megabytes: f64,
    processor: f64,
    broker: f64,
    peak: f64,
}

fn compare(wanted: &[&str]) {
    let known = |name: &&str| ["latency", "sizes"].contains(name) || Workload::named(name).is_some();
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        panic!("nothing is called {unknown:?}; see the first lines of this bench");
    }
    let topics = Topics::new(env::var("KLAMM_TEST_BOOTSTRAP").ok());
    let workloads: Vec<_> = WORKLOADS
        .iter()
        .filter(|workload| wanted.is_empty() || wanted.contains(&workload.name))
        .collect();
    if wanted.contains(&"sizes") {
        workloads.iter().for_each(|workload| sizes(&topics, workload));
        return;
    }
    let contenders = contenders(CONTENDERS);
    for workload in workloads {
        let taking_part: Vec<_> = contenders
            .iter()
            .filter(|&&name| name != "java" || !workload.keyed)
            .map(|name| (*name).to_owned())
            .collect();
        let title = format!("{:<18}", workload.name);
        compete(&topics, workload, &title, &taking_part);
    }
    if wanted.is_empty() || wanted.contains(&"latency") {
        latency::compare(&topics);
    }
}

/// The floor, and who else is asked for.
fn contenders<'a>(all: &[&'a str]) -> Vec<&'a str> {
    let asked = env::var("KLAMM_BENCH_CONTENDERS");
    let asked = asked.as_ref().map(|names| names.split(',').collect::<Vec<_>>());
    let takes_part = |name: &&str| {
        let named = asked.as_ref().is_ok_and(|names| names.contains(name));
        name.starts_with("floor") || asked.is_err() || named
    };
    all.iter().copied().filter(takes_part).collect()
}

/// The floor against itself.
fn sizes(topics: &Topics, workload: &Workload) {
    let contenders: Vec<_> = floor::sizes(workload).iter().map(ToString::to_string).collect();
    compete(topics, workload, "KiB/partitions    ", &contenders);
}

fn compete(topics: &Topics, workload: &Workload, title: &str, contenders: &[String]) {
    let records = workload.records(number("KLAMM_BENCH_RECORDS", 2_000_000));
    println!("\n{records} records, {workload}");
    let runs = race::rounds(number("KLAMM_BENCH_ROUNDS", 5), contenders.len(), |at| {
        let ([seconds, processor, peak], broker) = topics.with_new(workload.partitions, records, |bootstrap, topic| {
            race::numbers_of(&[
                "run",
                workload.name,
                &contenders[at],
                bootstrap,
                topic,
                &records.to_string(),
            ])
        });
        let millions = records as f64 / 1e6;
        Run {
            rate: millions / seconds,
            megabytes: millions * workload.value_bytes as f64 / seconds,
            processor: processor / millions,
            broker: broker / millions,
            peak,
        }
    });
    println!(
        "{title}{:>8}{:>8}{:>8}{:>10}{:>10}{:>10}   of the first's rate, and times its CPU; round by round",
        "M/s", "best", "MB/s", "CPU s/M", "broker's", "peak MB"
    );
    for (name, mine) in contenders.iter().zip(&runs) {
        let rates = ratios(mine, &runs[0], |run| run.rate);
        let processor = ratios(mine, &runs[0], |run| run.processor);
        let each: Vec<_> = rates
            .iter()
            .zip(&processor)
            .map(|(rate, cpu)| format!("{rate:.2}/{cpu:.2}"))
            .collect();
        println!(
            "{name:<18}{:>8.2}{:>8.2}{:>8.0}{:>10.4}{:>10.4}{:>10.1}   {:.2} {:.2}; {}",
            median_of(mine, |run| run.rate),
            best_of(mine, |run| run.rate),
            median_of(mine, |run| run.megabytes),
            median_of(mine, |run| run.processor),
            median_of(mine, |run| run.broker),
            median_of(mine, |run| run.peak),
            median(rates),
            median(processor),
            each.join(" "),
        );
    }
}

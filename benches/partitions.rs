//! What does it cost to read from and write to many partitions, and to wait at a thousand?
//!
//! Against three brokers of a real Kafka on this machine, with default settings. The same records are spread evenly over
//! 1, 12, 100 and 1 000 partitions: what is the client's own part must not grow with their number. Every run is a
//! process of its own, and the numbers of partitions take turns, so that only ratios within one round are compared: a
//! shared machine's speed changes by the minute.
//!
//! | Part | What is measured |
//! |---|---|
//! | `read` | a `for` loop, from the creation of the client to the last record |
//! | `floor` | the same records, read by a bare loop on one thread, one connection to each broker: what the brokers' answers cost whoever reads them |
//! | `write` | `send` without a key, and one `flush` at the end, into a new topic |
//! | `keyed` | the same, each record with a key: neighbours go to different partitions |
//! | `idle` | a reader, and a member of a group, that wait at partitions without records: processor time of starting, until all are known and fetched from, and of waiting after that |
//!
//! Of each, medians: millions of records a second, processor time of the client's process in seconds per million records,
//! both also as a multiple of 12 partitions in the same round; threads, sockets and peak memory.
//!
//! Arguments choose the parts (`cargo bench … -- read idle`); all are measured without any.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `KLAMM_BENCH_RECORDS` | Records of 100 bytes; 2 million unless set |
//! | `KLAMM_BENCH_ROUNDS` | How often each number of partitions has its turn; 5 unless set |
//! | `KLAMM_BENCH_PARTITIONS` | Instead of 1, 12, 100 and 1 000, separated by commas |
//! | `KLAMM_BENCH_SECONDS` | How long `idle` waits; 20 unless set |
//! | `KLAMM_BENCH_OTHER` | Another build of this bench, to compare this one with: takes part in each round as well |
//! | `KLAMM_TEST_BOOTSTRAP` | A running cluster to use; topics that an earlier run has filled there are read again |

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod bare;
mod filled;
mod race;
#[path = "../tests/kafka/support/mod.rs"]
mod support;
mod values;

use std::{
    env,
    hint::black_box,
    path::PathBuf,
    time::{Duration, Instant},
};

use filled::{Cluster, VALUE_BYTES, held};
use klamm::{Client, Record, Stream, internals::BatchReader};
use race::{median, median_of, number, peak_megabytes, processor_seconds, ratios};
use values::noise;

const PATIENCE: Duration = Duration::from_secs(120);
const PARTS: &[&str] = &["read", "floor", "write", "keyed", "idle"];
const IDLE: &[&str] = &["reader", "member"];
/// Where everything is as it should be: what the others are compared with.
const USUAL: usize = 12;

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", part, bootstrap, topic, amount] => {
            race::process::end_with_parent();
            run(part, bootstrap, topic, amount.parse().expect("a number"));
        }
        ref parts => {
            let unknown = parts.iter().find(|part| !PARTS.contains(part));
            assert!(unknown.is_none(), "no part is called {unknown:?}: they are {PARTS:?}");
            let parts = if parts.is_empty() { PARTS } else { parts };
            let bench = Bench::new();
            parts.iter().for_each(|part| bench.measure(part));
        }
    }
}

// ---- one run, in a process of its own ----

fn run(part: &str, bootstrap: &str, topic: &str, amount: usize) {
    let begun = Instant::now();
    if part == "floor" {
        read_bare(bootstrap, topic, amount);
        return tell(begun.elapsed());
    }
    let client = Client::connect(bootstrap).expect("the broker is there");
    match part {
        "read" => {
            let stream = client.reader().topics([topic]).open().expect("the topic is there");
            read(&stream, amount);
            tell(begun.elapsed());
        }
        "write" | "keyed" => {
            let producer = client.producer().build().expect("settings that hold");
            let values: Vec<Vec<u8>> = (0..10_000).map(|i| noise(i, VALUE_BYTES)).collect();
            let keys: Vec<Vec<u8>> = (0..10_007).map(|i| noise(i, 8)).collect();
            for i in 0..amount {
                let key = (part == "keyed").then(|| &*keys[i % keys.len()]);
                let record = Record::to(topic).maybe_key(key).value(&values[i % values.len()]);
                drop(producer.send(record).expect("there is room"));
            }
            producer.flush(PATIENCE).expect("all are in the log");
            tell(begun.elapsed());
        }
        _ => idle(&client, part, topic, Duration::from_secs(amount as u64)),
    }
}

fn tell(took: Duration) {
    let threads = support::klamm_threads().len();
    println!(
        "{} {} {threads} {} {}",
        took.as_secs_f64(),
        processor_seconds(),
        support::sockets(),
        peak_megabytes()
    );
}

fn read(stream: &Stream, records: usize) {
    let (mut seen, mut bytes) = (0, 0);
    for message in stream {
        bytes += black_box(message.expect("a record").value()).map_or(0, <[u8]>::len);
        seen += 1;
        if seen == records {
            break;
        }
    }
    assert_eq!(bytes, records * VALUE_BYTES, "all values were seen");
}

fn read_bare(bootstrap: &str, topic: &str, records: usize) {
    /// As klamm asks.
    const MAX_BYTES: i32 = 4 << 20;
    let any = bootstrap.split(',').next().expect("an address");
    let leaders = bare::Connection::new(any).leaders(topic);
    let mut addresses = leaders.clone();
    addresses.sort_unstable();
    addresses.dedup();
    let mut connections: Vec<_> = addresses.iter().map(|address| bare::Connection::new(address)).collect();
    let mut offsets = vec![0_i64; leaders.len()];
    let mut reader = BatchReader::new(64 << 20);
    let (mut seen, mut bytes) = (0, 0);
    while seen < records {
        for (address, connection) in addresses.iter().zip(&mut connections) {
            let of_broker = offsets.iter().copied().enumerate();
            let of_broker = of_broker.filter(|&(partition, _)| leaders[partition] == *address);
            // Whoever has nothing left holds up the others no longer than it must.
            let request = bare::fetch_request_of(topic, of_broker, MAX_BYTES).with_max_wait_ms(1);
            connection.write_fetch(&request);
            bare::each_partition(connection.read(), |partition, fetched| {
                let walked = reader.walk_values(fetched, |value| {
                    bytes += black_box(value).len();
                    seen += 1;
                });
                if let Some(next) = walked.expect("batches that hold") {
                    offsets[partition] = next;
                }
            });
        }
    }
    assert_eq!(bytes, records * VALUE_BYTES, "all values were seen");
}

fn idle(client: &Client, part: &str, topic: &str, time: Duration) {
    let begun = Instant::now();
    let stream = match part {
        "reader" => client.reader().topics([topic]).open(),
        _ => client.group(support::unique("bench")).topics([topic]).join(),
    };
    let stream = stream.expect("the topic is there");
    let partitions = client.partitions(topic).expect("the topic is there") as usize;
    let mut messages = stream.iter();
    while stream.assignment().len() < partitions {
        messages.next_timeout(Duration::from_millis(10)).expect("nothing yet");
    }
    stream.position(stream.assignment()).expect("where each begins");
    let took = begun.elapsed();
    // Fetches, and threads that have just begun, come to rest.
    messages.next_timeout(Duration::from_secs(2)).expect("nothing yet");
    let of_start = processor_seconds();
    messages.next_timeout(time).expect("nothing yet");
    print!("{} ", processor_seconds() - of_start);
    tell(took);
}

// ---- all runs ----

/// What one run came to.
struct Run {
    seconds: f64,
    processor: f64,
    threads: f64,
    sockets: f64,
    peak: f64,
}

impl Run {
    fn new([seconds, processor, threads, sockets, peak]: [f64; 5]) -> Self {
        Self {
            seconds,
            processor,
            threads,
            sockets,
            peak,
        }
    }
}

struct Bench {
    cluster: Cluster,
    client: Client,
    counts: Vec<usize>,
    records: usize,
    rounds: usize,
    /// This program, and another build of it.
    programs: Vec<(&'static str, PathBuf)>,
}

impl Bench {
    fn new() -> Self {
        let cluster = Cluster::start(3);
        let client = Client::connect(&cluster.kafka().bootstrap()).expect("the broker is there");
        let counts = env::var("KLAMM_BENCH_PARTITIONS").unwrap_or_else(|_| "1,12,100,1000".to_owned());
        let counts = counts.split(',').map(|count| count.trim().parse().expect("a number"));
        let mut programs = vec![("", env::current_exe().expect("this program has a path"))];
        if let Some(other) = env::var_os("KLAMM_BENCH_OTHER") {
            programs.push(("other", other.into()));
        }
        Self {
            cluster,
            client,
            counts: counts.collect(),
            records: number("KLAMM_BENCH_RECORDS", 2_000_000),
            rounds: number("KLAMM_BENCH_ROUNDS", 5),
            programs,
        }
    }

    fn measure(&self, part: &str) {
        match part {
            "read" | "floor" => self.measure_reading(part),
            "idle" => self.measure_waiting(),
            _ => self.measure_writing(part),
        }
    }

    fn measure_reading(&self, part: &str) {
        let topic = |count: usize| format!("klamm-bench-{count}-of-{}", self.records);
        for &count in &self.counts {
            let all: Vec<i32> = (0..count as i32).collect();
            self.cluster
                .fill(&self.client, &topic(count), count, &all, self.records);
        }
        self.compete(part, |program, count| self.start(program, part, &topic(count)));
    }

    fn measure_writing(&self, part: &str) {
        self.compete(part, |program, count| {
            let topic = support::unique("bench");
            self.cluster.create(&self.client, &topic, count);
            let run = self.start(program, part, &topic);
            let all: Vec<i32> = (0..count as i32).collect();
            let held = held(&self.client, &topic, &all);
            assert_eq!(held, self.records, "every record is there once");
            let deleted = self.client.admin().delete_topics([topic]);
            deleted.expect("the controller answers").all().expect("it is gone");
            run
        });
    }

    fn start(&self, program: &std::path::Path, part: &str, topic: &str) -> Run {
        let (bootstrap, records) = (self.cluster.kafka().bootstrap(), self.records.to_string());
        Run::new(race::numbers_of_program(
            program,
            &["run", part, &bootstrap, topic, &records],
        ))
    }

    fn compete(&self, part: &str, run: impl Fn(&std::path::Path, usize) -> Run) {
        let contenders: Vec<(&str, &PathBuf, usize)> = self
            .programs
            .iter()
            .flat_map(|(name, program)| self.counts.iter().map(move |&count| (*name, program, count)))
            .collect();
        let runs = race::rounds(self.rounds, contenders.len(), |at| {
            run(contenders[at].1, contenders[at].2)
        });
        let usual = contenders.iter().position(|&(_, _, count)| count == USUAL).unwrap_or(0);
        println!(
            "\n{part}, {} records\n{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            self.records, "partitions", "M/s", "CPU s/M", "of 12", "CPU", "threads", "sockets", "peak MB"
        );
        let millions = self.records as f64 / 1e6;
        for ((name, _, count), mine) in contenders.iter().zip(&runs) {
            println!(
                "{count:>12}{:>10.2}{:>10.4}{:>10.2}{:>10.2}{:>10}{:>10}{:>10.1}   {name}",
                median_of(mine, |run| millions / run.seconds),
                median_of(mine, |run| run.processor / millions),
                median(ratios(&runs[usual], mine, |run| run.seconds)),
                median(ratios(mine, &runs[usual], |run| run.processor)),
                median_of(mine, |run| run.threads),
                median_of(mine, |run| run.sockets),
                median_of(mine, |run| run.peak),
            );
        }
    }

    fn measure_waiting(&self) {
        let seconds = number("KLAMM_BENCH_SECONDS", 20);
        let count = self.counts.iter().copied().max().unwrap_or(USUAL);
        let topic = format!("klamm-bench-{count}-idle");
        self.cluster.create(&self.client, &topic, count);
        println!(
            "\nidle at {count} partitions for {seconds} s\n{:>12}{:>12}{:>12}{:>12}{:>10}{:>10}{:>10}",
            "", "start s", "start CPU", "idle CPU", "threads", "sockets", "peak MB"
        );
        for (name, program) in &self.programs {
            for part in IDLE {
                let (bootstrap, seconds) = (self.cluster.kafka().bootstrap(), seconds.to_string());
                let args = ["run", part, &bootstrap, &topic, &seconds];
                let [waiting, rest @ ..]: [f64; 6] = race::numbers_of_program(program, &args);
                let run = Run::new(rest);
                println!(
                    "{part:>12}{:>12.3}{:>12.3}{waiting:>12.4}{:>10}{:>10}{:>10.1}   {name}",
                    run.seconds,
                    run.processor - waiting,
                    run.threads,
                    run.sockets,
                    run.peak
                );
            }
        }
    }
}

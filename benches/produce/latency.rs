//! A thousand records a second: how long from just before `send` until the message is in hand, and until it is
//! acknowledged?
//!
//! Who waits for each acknowledgement sends nothing while the machine is held up; who does not meets that with every
//! record. So there are two floors, and each is compared with its own.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use klamm::{Client, Producer, Record};

use super::{
    contenders, floor,
    race::{self, median, median_of, number, ratios},
    reads,
    topics::Topics,
};

const A_SECOND: usize = 1000;
const VALUE_BYTES: usize = 100;
/// klamm's linger, by default or not at all, and wait for each delivery or for none.
const CONTENDERS: &[&str] = &[
    "floor-waits",
    "no-linger-waits",
    "default-waits",
    "floor",
    "no-linger",
    "default",
];

// ---- one run, in a process of its own ----

/// Prints the median, the 99th percentile and the maximum of both delays in microseconds; of acknowledgements that
/// nobody waits for there is none.
pub(crate) fn run(contender: &str, bootstrap: &str, topic: &str, records: usize) {
    let clock = Clock(Instant::now());
    let mut seen = Vec::with_capacity(records);
    let (ready, is_ready) = mpsc::channel();
    let is_floor = contender.starts_with("floor");
    let waits = contender.ends_with("waits");
    let sent = thread::scope(|scope| {
        scope.spawn(|| {
            let ready = || ready.send(()).expect("the writer waits");
            let see = |value: &[u8]| {
                seen.push(clock.nanoseconds() - time_in(value));
                seen.len() == records
            };
            if is_floor {
                ready();
                reads::read(bootstrap, topic, see);
            } else {
                read(bootstrap, topic, ready, see);
            }
        });
        is_ready.recv().expect("a reader");
        // Until its first long poll has begun.
        thread::sleep(Duration::from_millis(300));
        if is_floor {
            pace(records, clock, floor::writer(bootstrap, topic, waits))
        } else {
            let producer = producer(bootstrap, contender.starts_with("no-linger"));
            pace(records, clock, |value| write(&producer, topic, value, waits))
        }
    });
    print(&seen);
    print(if waits { &sent } else { &[] });
}

#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn nanoseconds(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// When a value was sent, as it says itself.
fn time_in(value: &[u8]) -> u64 {
    let first = value.first_chunk().expect("a value that a writer made");
    u64::from_be_bytes(*first)
}

/// Sends by the clock, and gives how long each has taken.
fn pace(records: usize, clock: Clock, mut send: impl FnMut(&[u8])) -> Vec<u64> {
    let begun = Instant::now();
    let mut value = [b'.'; VALUE_BYTES];
    let each = (0..records).map(|i| {
        let due = begun + Duration::from_secs(1) * i as u32 / A_SECOND as u32;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let before = clock.nanoseconds();
        value[..8].copy_from_slice(&before.to_be_bytes());
        send(&value);
        clock.nanoseconds() - before
    });
    each.collect()
}

fn producer(bootstrap: &str, lingers_not: bool) -> Producer {
    let client = Client::connect(bootstrap).expect("the broker is there");
    let mut producer = client.producer();
    if lingers_not {
        producer = producer.linger(Duration::ZERO);
    }
    producer.build().expect("settings that hold")
}

fn write(producer: &Producer, topic: &str, value: &[u8], waits: bool) {
    let sent = producer.send(Record::to(topic).value(value)).expect("there is room");
    if waits {
        sent.wait(Duration::from_secs(10)).expect("it is in the log");
    }
}

/// Until `see` has seen enough.
fn read(bootstrap: &str, topic: &str, ready: impl FnOnce(), mut see: impl FnMut(&[u8]) -> bool) {
    let client = Client::connect(bootstrap).expect("the broker is there");
    let stream = client.reader().topics([topic]).open().expect("the topic is there");
    ready();
    for message in &stream {
        if see(message.expect("a record").value().unwrap_or_default()) {
            return;
        }
    }
}

/// All but the first tenth, in which everything is done for the first time.
fn print(delays: &[u64]) {
    let mut delays = delays[delays.len() / 10..].to_vec();
    delays.sort_unstable();
    let last = delays.len().saturating_sub(1);
    for share in [0.5, 0.99, 1.0] {
        let delay = delays.get((last as f64 * share) as usize);
        println!("{}", delay.map_or(f64::NAN, |&nanoseconds| nanoseconds as f64 / 1000.0));
    }
}

// ---- all runs ----

/// What one run came to, in microseconds.
struct Run {
    seen: [f64; 3],
    acknowledged: [f64; 3],
}

pub(crate) fn compare(topics: &Topics) {
    let seconds = number("KLAMM_BENCH_SECONDS", 5);
    let records = seconds * A_SECOND;
    println!("\n{A_SECOND} records a second for {seconds} s, {VALUE_BYTES} bytes, 1 partition, in microseconds");
    let contenders = contenders(CONTENDERS);
    let runs = race::rounds(number("KLAMM_BENCH_ROUNDS", 5), contenders.len(), |at| {
        let ([a, b, c, d, e, f], _) = topics.with_new(1, records, |bootstrap, topic| {
            race::numbers_of(&["delay", contenders[at], bootstrap, topic, &records.to_string()])
        });
        Run {
            seen: [a, b, c],
            acknowledged: [d, e, f],
        }
    });
    println!(
        "{:<18}{:>8}{:>8}{:>8}{:>10}{:>8}{:>8}   median and 99 %, of the floor's; medians round by round",
        "", "seen: 50%", "99%", "max", "acked: 50%", "99%", "max"
    );
    for (name, mine) in contenders.iter().zip(&runs) {
        let [p50, p99, max] = [0, 1, 2].map(|at| median_of(mine, |run| run.seen[at]));
        let [ack50, ack99, ack_max] = [0, 1, 2].map(|at| median_of(mine, |run| run.acknowledged[at]));
        let floor = if name.ends_with("waits") {
            "floor-waits"
        } else {
            "floor"
        };
        let floor = contenders.iter().position(|&name| name == floor);
        let floor = &runs[floor.expect("it always takes part")];
        let medians = ratios(mine, floor, |run| run.seen[0]);
        let each: Vec<_> = medians.iter().map(|ratio| format!("{ratio:.2}")).collect();
        println!(
            "{name:<18}{p50:>9.0}{p99:>8.0}{max:>8.0}{ack50:>10.0}{ack99:>8.0}{ack_max:>8.0}   {:.2} {:.2}; {}",
            median(medians),
            median(ratios(mine, floor, |run| run.seen[1])),
            each.join(" "),
        );
    }
}

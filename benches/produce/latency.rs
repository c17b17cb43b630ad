//! A thousand records a second: how long from just before `send` until the message is in hand, and until it is
//! acknowledged?

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use klamm::internals::{BatchEncoder, BatchReader};

use super::{
    bare::{Connection, fetch_request},
    contenders, floor,
    race::{self, median, median_of, number, ratios},
    topics::Topics,
};

const A_SECOND: usize = 1000;
const VALUE_BYTES: usize = 100;
/// The place of klamm's own: with a linger of nothing and of 5 ms, each waiting for deliveries or not.
const CONTENDERS: &[&str] = &["floor"];

// ---- one run, in a process of its own ----

/// Prints the median, the 99th percentile and the maximum of both delays in microseconds; of acknowledgements that
/// nobody waits for there is none.
pub(crate) fn run(contender: &str, bootstrap: &str, topic: &str, records: usize) {
    let clock = Clock(Instant::now());
    let mut seen = Vec::with_capacity(records);
    let (ready, is_ready) = mpsc::channel();
    let acknowledged = thread::scope(|scope| {
        scope.spawn(|| {
            let see = |value: &[u8]| {
                seen.push(clock.nanoseconds() - sent(value));
                seen.len() == records
            };
            read_bare(bootstrap, topic, || ready.send(()).expect("it waits"), see);
        });
        is_ready.recv().expect("a reader");
        // Until its first long poll has begun.
        thread::sleep(Duration::from_millis(300));
        assert_eq!(contender, "floor", "the only one so far");
        write_bare(bootstrap, topic, |send| pace(records, clock, send))
    });
    print(seen);
    print(acknowledged);
}

#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn nanoseconds(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// When a value was sent, as it says itself.
fn sent(value: &[u8]) -> u64 {
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

fn write_bare<T>(bootstrap: &str, topic: &str, write: impl FnOnce(&mut dyn FnMut(&[u8])) -> T) -> T {
    let mut connection = Connection::new(bootstrap);
    let mut encoder = BatchEncoder::new("none").expect("no codec is always there");
    write(&mut |value| {
        let filled = encoder.fill(floor::now(), usize::MAX, [(None, value)].into_iter());
        let (batch, _) = filled.expect("a batch");
        floor::expect_success(connection.ask(&floor::request(topic, vec![(0, batch.into())])));
    })
}

/// Until `see` has seen enough.
fn read_bare(bootstrap: &str, topic: &str, ready: impl FnOnce(), mut see: impl FnMut(&[u8]) -> bool) {
    let mut connection = Connection::new(bootstrap);
    let mut offsets = vec![0; connection.partitions(topic)];
    let mut reader = BatchReader::new(0);
    let mut enough = false;
    ready();
    while !enough {
        let request = fetch_request(topic, &offsets, 1 << 20);
        connection.fetch(&request, |partition, records| {
            let walked = reader.walk_values(records, |value| enough = see(value));
            if let Some(next) = walked.expect("batches that hold") {
                offsets[partition] = next;
            }
        });
    }
}

/// All but the first tenth, in which everything is done for the first time.
fn print(delays: Vec<u64>) {
    let mut delays = delays[delays.len() / 10..].to_vec();
    delays.sort_unstable();
    let at = |share: f64| delays.get(((delays.len() as f64 * share) as usize).min(delays.len().saturating_sub(1)));
    for share in [0.5, 0.99, 1.0] {
        println!(
            "{}",
            at(share).map_or(f64::NAN, |&nanoseconds| nanoseconds as f64 / 1000.0)
        );
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
        "{:<24}{:>8}{:>8}{:>8}{:>10}{:>8}{:>8}   median and 99 %, of the floor's; medians round by round",
        "", "seen: 50%", "99%", "max", "acked: 50%", "99%", "max"
    );
    for (name, mine) in contenders.iter().zip(&runs) {
        let [p50, p99, max] = [0, 1, 2].map(|at| median_of(mine, |run| run.seen[at]));
        let [ack50, ack99, ack_max] = [0, 1, 2].map(|at| median_of(mine, |run| run.acknowledged[at]));
        let medians = ratios(mine, &runs[0], |run| run.seen[0]);
        let each: Vec<_> = medians.iter().map(|ratio| format!("{ratio:.2}")).collect();
        println!(
            "{name:<24}{p50:>9.0}{p99:>8.0}{max:>8.0}{ack50:>10.0}{ack99:>8.0}{ack_max:>8.0}   {:.2} {:.2}; {}",
            median(medians),
            median(ratios(mine, &runs[0], |run| run.seen[1])),
            each.join(" "),
        );
    }
}

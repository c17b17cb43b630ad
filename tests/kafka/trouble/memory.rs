//! A program that is slow does not make klamm grow: what is prefetched is bounded, whatever is in the log.
//!
//! Each case reads in a process of its own, whose memory is watched.

use std::time::{Duration, Instant};

use klamm::{Client, ErrorKind, Next};

use super::{LONG, alone, connect};
use crate::support::{ALONE, memory, shared, unique, wait_until};

/// What connections and the allocator may take beside the records, and a partition's thread.
const FIXED: usize = 16 << 20;
const THREAD: usize = 32 << 10;
/// Half of the default, so that it is what bounds.
const TOTAL: usize = 32 << 20;

/// In the process of its own: reads `messages` with pauses in which everything is prefetched that may be, and returns
/// what that took: as the budget counts, and as the system does.
fn read_slowly(given: &str, messages: usize) -> (usize, usize) {
    let (bootstrap, topic) = given.split_once(' ').expect("an address and a topic");
    let before = memory("VmRSS");
    let client = Client::connect(bootstrap).unwrap();
    let stream = client
        .reader()
        .topics([topic])
        .prefetch_total_bytes(TOTAL)
        .open()
        .unwrap();
    let mut iter = stream.iter();
    let mut resident = 0;
    for _ in 0..messages {
        match iter.next_timeout(LONG).unwrap() {
            Next::Message(message) => drop(message.value()),
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
        resident = resident.max(memory("VmRSS"));
    }
    // It does not grow for ever while nothing is taken.
    let (mut peak, mut since) = (stream.prefetch_peak(), Instant::now());
    wait_until("a peak", LONG, || {
        resident = resident.max(memory("VmRSS"));
        let now = stream.prefetch_peak();
        if now > peak {
            (peak, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(2)
    });
    (peak, resident.max(memory("VmHWM")) - before)
}

fn check(what: &str, (peak, resident): (usize, usize), partitions: usize, batch: usize) {
    let bound = TOTAL + partitions * batch;
    let most = bound + FIXED + partitions * THREAD;
    println!(
        "{what}: prefetched {} KiB of {} KiB, resident {} KiB of {} KiB",
        peak >> 10,
        bound >> 10,
        resident >> 10,
        most >> 10
    );
    assert!(peak <= bound, "{what}: {peak} prefetched, and {bound} is the bound");
    assert!(resident <= most, "{what}: {resident} resident, and {most} is the bound");
}

/// A topic, as what the process of its own is given.
fn topic(partitions: usize) -> (String, String) {
    let topic = unique("memory");
    shared().create_topic(&topic, partitions, &[]);
    (format!("{} {topic}", shared().bootstrap()), topic)
}

fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

#[test]
fn records_of_a_megabyte_stay_within_the_bound() {
    let mut made = String::new();
    if !is_alone() {
        let (given, topic) = topic(12);
        shared().fill(&topic, 12, 120, "none", 1_000_000);
        made = given;
    }
    if let Some(given) = alone("memory::records_of_a_megabyte_stay_within_the_bound", &made) {
        check("records of 1 MB", read_slowly(&given, 50), 12, 1_000_200);
    }
}

#[test]
fn records_of_ten_bytes_stay_within_the_bound() {
    let mut made = String::new();
    if !is_alone() {
        let (given, topic) = topic(12);
        // In pieces, since Java's producer takes far more memory for so small records than it counts.
        for round in 0..10 {
            shared().fill_from(round * 10_000, &topic, 12, 120_000, "none", 10);
        }
        made = given;
    }
    if let Some(given) = alone("memory::records_of_ten_bytes_stay_within_the_bound", &made) {
        check("records of 10 bytes", read_slowly(&given, 50), 12, 140_000);
    }
}

#[test]
fn a_million_empty_tombstones_stay_within_the_bound() {
    let mut made = String::new();
    if !is_alone() {
        let (given, topic) = topic(1);
        for _ in 0..4 {
            shared().corner("tombstones", &[&topic, "0", "250000"]);
        }
        made = given;
    }
    if let Some(given) = alone("memory::a_million_empty_tombstones_stay_within_the_bound", &made) {
        check("tombstones", read_slowly(&given, 50), 1, 270_000);
    }
}

/// Sixteen megabytes of zeros in a batch of a few kilobytes: one answer could become half a gigabyte.
#[test]
fn batches_that_inflate_hugely_stay_within_the_bound() {
    for codec in ["gzip", "zstd", "lz4", "snappy"] {
        let mut made = String::new();
        if !is_alone() {
            let (given, topic) = topic(2);
            for partition in ["0", "1"] {
                shared().corner("zeros", &[&topic, partition, "20", "16", "1000000", codec]);
            }
            made = given;
        }
        if let Some(given) = alone("memory::batches_that_inflate_hugely_stay_within_the_bound", &made) {
            return check("zeros", read_slowly(&given, 40), 2, 16_010_000);
        }
    }
}

#[test]
fn a_batch_beyond_the_limit_is_refused_by_its_name() {
    let kafka = shared();
    let topic = unique("bomb");
    kafka.create_topic(&topic, 2, &[]);
    let client = connect(&kafka.bootstrap());
    for codec in ["gzip", "zstd", "lz4", "snappy"] {
        let topic = format!("{topic}-{codec}");
        kafka.create_topic(&topic, 2, &[]);
        kafka.java_writes(&topic, 0, &["in front"]);
        kafka.corner("zeros", &[&topic, "0", "1", "20", "1000000", codec]);
        kafka.java_writes(&topic, 0, &["behind"]);
        kafka.java_writes(&topic, 1, &["beside"]);
        let stream = client
            .reader()
            .topics([&topic])
            .decoded_batch_limit(8 << 20)
            .open()
            .unwrap();
        let mut iter = stream.iter();
        let mut seen = Vec::new();
        let mut failures = Vec::new();
        while seen.len() + failures.len() < 3 {
            match iter.next_timeout(LONG) {
                Ok(Next::Message(message)) => {
                    message.ack();
                    seen.push((message.partition(), message.offset()));
                }
                Ok(other) => panic!("{codec}: {other:?} after {seen:?}"),
                Err(error) => failures.push(error),
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, [(0, 0), (1, 0)], "{codec}");
        let error = &failures[0];
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{codec}: {error}");
        for named in ["decoded_batch_limit", "offset 1"] {
            assert!(error.to_string().contains(named), "{codec}: {error}");
        }
        assert!(!stream.health().is_healthy());
        drop(iter);
        stream.seek((&topic, 0), klamm::StartAt::Offset(21)).unwrap();
        assert_eq!(super::texts(&stream, 1), ["behind"], "{codec}");
    }
}

#[test]
fn five_hundred_partitions_stay_within_the_bound() {
    let mut made = String::new();
    if !is_alone() {
        let (given, topic) = topic(500);
        // In pieces, so that no batch is larger than a piece.
        for round in 0..6 {
            shared().fill_from(round * 50, &topic, 500, 500 * 50, "none", 1000);
        }
        made = given;
    }
    if let Some(given) = alone("memory::five_hundred_partitions_stay_within_the_bound", &made) {
        // The least share is larger than a batch here.
        check("500 partitions", read_slowly(&given, 100), 500, 64 << 10);
    }
}

/// The first partitions to come have borrowed all there is when the others come for their shares.
#[test]
fn partitions_that_come_late_stay_within_the_bound() {
    let kafka = shared();
    let topic = unique("late");
    kafka.create_topic(&topic, 24, &[]);
    kafka.fill(&topic, 24, 24 * 900, "none", 10_000);
    let client = connect(&kafka.bootstrap());
    let reader = client.reader().topics([&topic]).prefetch_total_bytes(TOTAL);
    let stream = reader.max_wait(Duration::from_millis(50)).open().unwrap();
    let filled = || {
        let (mut peak, mut since) = (0, Instant::now());
        wait_until("a peak", LONG, || {
            let now = stream.prefetch_peak();
            if now > peak {
                (peak, since) = (now, Instant::now());
            }
            since.elapsed() > Duration::from_secs(1)
        });
        peak
    };
    stream.pause((4..24).map(|partition| (&topic, partition))).unwrap();
    let first = filled();
    stream.resume((4..24).map(|partition| (&topic, partition))).unwrap();
    let all = filled();
    let bound = TOTAL + 24 * 140_000;
    println!(
        "four: {} KiB, then all: {} KiB of {} KiB",
        first >> 10,
        all >> 10,
        bound >> 10
    );
    assert!(all <= bound, "{all} prefetched, and {bound} is the bound");
}

//! What does a record cost between the socket and the user: to check, inflate, walk, and to write? In nanoseconds and
//! allocations.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod values;

use std::{
    alloc::System,
    hint::black_box,
    time::{Duration, Instant},
};

use klamm::internals::{BatchEncoder, BatchReader};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use values::text;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BATCHES: usize = 10;
const RECORDS_A_BATCH: usize = 1000;
const LIMIT: usize = 64 << 20;
/// For each line: long enough to be steady, short enough that all of it takes some seconds.
const MEASURED: Duration = Duration::from_millis(200);

fn main() {
    println!("{:<44}{:>12}{:>16}", "", "ns/record", "allocs/record");

    let small: Vec<_> = (0..RECORDS_A_BATCH).map(|i| vec![i as u8; 100]).collect();
    let headers: [(&[u8], Option<&[u8]>); 3] = [
        (b"trace", Some(b"0af7651916cd43dd")),
        (b"source", Some(b"billing")),
        (b"retry", None),
    ];
    reading("100 B", "none", &small, &[]);
    reading("100 B, 3 headers", "none", &small, &headers);
    let text: Vec<_> = (0..RECORDS_A_BATCH).map(text).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        reading("200 B text", codec, &text, &[]);
    }
    writing("100 B", "none", &small, &[]);
    writing("100 B, 3 headers", "none", &small, &headers);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        writing("200 B text", codec, &text, &[]);
    }
    let large: Vec<_> = (0..RECORDS_A_BATCH).map(|i| vec![i as u8; 1024]).collect();
    steps("100 B", &small, &[]);
    steps("100 B, 3 headers", &small, &headers);
    steps("1 KiB", &large, &[]);
    compressing();
}

fn reading(what: &str, codec: &str, values: &[Vec<u8>], headers: &[(&[u8], Option<&[u8]>)]) {
    let Some(mut encoder) = BatchEncoder::new(codec) else {
        return;
    };
    let mut fetched = Vec::new();
    for batch in 0..BATCHES {
        let base_offset = (batch * RECORDS_A_BATCH) as i64;
        fetched.extend(encoder.write(Vec::new(), base_offset, values, headers).unwrap());
    }
    let mut reader = BatchReader::new(LIMIT);
    let inflating = if codec == "none" { "check" } else { "check and inflate" };
    measure(&format!("{what}, {codec}: {inflating}"), || {
        reader.decode(black_box(&fetched)).unwrap()
    });
    measure(&format!("{what}, {codec}: walk"), || {
        let (records, bytes) = reader.walk(black_box(&fetched)).unwrap();
        assert_eq!(records, BATCHES * RECORDS_A_BATCH);
        black_box(bytes);
    });
    if !headers.is_empty() {
        measure(&format!("{what}, {codec}: walk headers"), || {
            black_box(reader.walk_headers(black_box(&fetched)).unwrap());
        });
    }
}

fn writing(what: &str, codec: &str, values: &[Vec<u8>], headers: &[(&[u8], Option<&[u8]>)]) {
    let Some(mut encoder) = BatchEncoder::new(codec) else {
        return;
    };
    let mut buffer = Vec::new();
    measure(&format!("{what}, {codec}: write"), || {
        for _ in 0..BATCHES {
            buffer = encoder
                .write(std::mem::take(&mut buffer), 0, black_box(values), headers)
                .unwrap();
        }
    });
}

/// What a producer does under a partition's lock, and what on the thread that sends.
fn steps(what: &str, values: &[Vec<u8>], headers: &[(&[u8], Option<&[u8]>)]) {
    let Some(mut encoder) = BatchEncoder::new("none") else {
        return;
    };
    let mut buffers: [Vec<u8>; BATCHES] = std::array::from_fn(|_| Vec::with_capacity(2 << 20));
    measure(&format!("{what}: append"), || {
        for buffer in &mut buffers {
            encoder.append(buffer, black_box(values), headers).unwrap();
        }
    });
    measure(&format!("{what}: close and stamp"), || {
        for buffer in &mut buffers {
            encoder.close(black_box(buffer));
            encoder.stamp(black_box(buffer));
        }
    });
}

/// Full batches, none like the other: what comes again and again, the processor has learned. Beside what it takes, what
/// it leaves.
fn compressing() {
    let values: Vec<_> = (0..BATCHES * RECORDS_A_BATCH).map(text).collect();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let Some(mut encoder) = BatchEncoder::new(codec) else {
            continue;
        };
        let mut closed = [Vec::new(), Vec::new()];
        for (batch, values) in closed.iter_mut().zip(values.chunks(values.len() / 2)) {
            encoder.append(batch, values, &[]).unwrap();
            encoder.close(batch);
        }
        let before: usize = closed.iter().map(Vec::len).sum();
        let (mut batch, mut after) = (Vec::with_capacity(before), 0);
        measure(&format!("200 B text, {codec}: compress 1 MiB"), || {
            after = 0;
            for closed in &closed {
                batch.clear();
                batch.extend_from_slice(black_box(closed));
                assert!(encoder.compress(&mut batch).unwrap());
                after += batch.len();
            }
        });
        println!("{:>56.3} of its size", after as f64 / before as f64);
    }
}

/// The best of many rounds: what a shared machine adds is not the code's.
fn measure(what: &str, mut round: impl FnMut()) {
    const RECORDS: f64 = (BATCHES * RECORDS_A_BATCH) as f64;
    round(); // contexts and buffers are made once
    let (begun, mut best, mut rounds) = (Instant::now(), Duration::MAX, 0);
    let before = ALLOCATOR.stats();
    while begun.elapsed() < MEASURED {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed());
        rounds += 1;
    }
    let counted = ALLOCATOR.stats() - before;
    let allocations = (counted.allocations + counted.reallocations) as f64;
    println!(
        "{what:<44}{:>12.1}{:>16.4}",
        best.as_nanos() as f64 / RECORDS,
        allocations / (RECORDS * f64::from(rounds)),
    );
}

//! A million records of each codec, written by Kafka's own producer, arrive complete, in order and unchanged.

use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use klamm::{Message, PrefetchRule, Stream};

use crate::reading::{client, reader, topic};
use crate::support::shared;

const PARTITIONS: usize = 3;
const EACH: i64 = 333_334;
const VALUE: usize = 32;

#[test]
fn a_million_records_without_compression_arrive_in_order() {
    million("none");
}

#[test]
fn a_million_gzip_records_arrive_in_order() {
    million("gzip");
}

#[test]
fn a_million_snappy_records_arrive_in_order() {
    million("snappy");
}

#[test]
fn a_million_lz4_records_arrive_in_order() {
    million("lz4");
}

#[test]
fn a_million_zstd_records_arrive_in_order() {
    million("zstd");
}

#[test]
fn the_smallest_windows_lose_nothing() {
    let topic = topic("windows", PARTITIONS, &[]);
    let each = 20_000;
    for (first, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        shared().fill_from(first * each, &topic, PARTITIONS, PARTITIONS * each, codec, 200);
    }
    let client = client();
    for (count, rule) in [(1, PrefetchRule::Either), (10_000, PrefetchRule::Both)] {
        let stream = reader(&client, &topic)
            .prefetch_count(count)
            .prefetch_bytes(1)
            .prefetch_total_bytes(1)
            .partition_max_bytes(1)
            .prefetch_rule(rule)
            .until_end()
            .open()
            .expect("the topic is there");
        check_one_by_one(&stream, 5 * each as i64, 200);
    }
}

/// One iterator, then four threads, then batches.
fn million(codec: &str) {
    let topic = topic(codec, PARTITIONS, &[]);
    shared().fill(&topic, PARTITIONS, PARTITIONS * EACH as usize, codec, VALUE);
    assert!(shared().offsets(&topic).iter().all(|offsets| offsets.latest == EACH));
    let client = client();
    let open = || reader(&client, &topic).until_end().open().expect("the topic is there");
    check_one_by_one(&open(), EACH, VALUE);
    check_four_threads(&open());
    check_batches(&open());
}

fn check_one_by_one(stream: &Stream, each: i64, value_bytes: usize) {
    let filler = filler();
    let mut next = [0; PARTITIONS];
    for message in stream {
        let message = message.expect("nothing fails");
        let next = &mut next[message.partition() as usize];
        assert_eq!(message.offset(), *next, "of partition {}", message.partition());
        check_content(&message, &filler, value_bytes);
        *next += 1;
    }
    assert_eq!(next, [each; PARTITIONS]);
}

/// More threads than partitions. Whoever gets a message finds that the one before it has been finished: nothing is
/// lost, nothing comes twice, and no two threads have the same partition.
fn check_four_threads(stream: &Stream) {
    const THREADS: usize = 4;
    let filler = filler();
    let finished = [const { AtomicI64::new(-1) }; PARTITIONS];
    let shares = [const { AtomicUsize::new(0) }; THREADS];
    let all_are_ready = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for share in &shares {
            let (finished, filler, all_are_ready) = (&finished, &filler, &all_are_ready);
            scope.spawn(move || {
                all_are_ready.wait();
                for message in stream {
                    let message = message.expect("nothing fails");
                    let finished = &finished[message.partition() as usize];
                    assert_eq!(
                        finished.load(Ordering::Acquire),
                        message.offset() - 1,
                        "was finished in partition {} when {} was given out",
                        message.partition(),
                        message.offset()
                    );
                    check_content(&message, filler, VALUE);
                    finished.store(message.offset(), Ordering::Release);
                    share.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let finished = finished.map(AtomicI64::into_inner);
    assert_eq!(finished, [EACH - 1; PARTITIONS]);
    let shares = shares.map(AtomicUsize::into_inner);
    let readers = shares.iter().filter(|&&share| share > 0).count();
    assert!(readers >= PARTITIONS, "whoever waits gets a free partition: {shares:?}");
}

fn check_batches(stream: &Stream) {
    let filler = filler();
    let mut next = [0; PARTITIONS];
    for batch in stream.batches() {
        let batch = batch.expect("nothing fails");
        let next = &mut next[batch.partition() as usize];
        assert_eq!(batch.first_offset(), *next, "of partition {}", batch.partition());
        assert_eq!(batch.high_watermark(), EACH);
        for message in &batch {
            let message = message.expect("nothing fails");
            assert_eq!(message.offset(), *next);
            check_content(&message, &filler, VALUE);
            *next += 1;
        }
        assert!(batch.first_offset() < *next, "no batch is empty");
        assert_eq!(batch.next_offset(), *next);
        assert!(batch.bytes() > 0);
    }
    assert_eq!(next, [EACH; PARTITIONS]);
}

/// Offset n of a partition is its record number n.
fn check_content(message: &Message, filler: &[u8], value_bytes: usize) {
    let number = message.offset();
    let key = message.key().expect("a key");
    assert!(is_decimal(key, number), "the key of {number} is {key:?}");
    let value = message.value().expect("a value");
    let (head, tail) = value.split_at(message_head(value));
    let (partition, rest) = head.split_first().expect("a partition");
    assert_eq!(i32::from(partition - b'0'), message.partition());
    assert!(rest.starts_with(b":") && rest.ends_with(b":") && is_decimal(&rest[1..rest.len() - 1], number));
    assert_eq!(value.len(), value_bytes);
    let from = (number * 31 % 4096) as usize;
    assert!(
        tail == &filler[from..from + tail.len()],
        "the value of {number} has another end"
    );
}

/// "partition:number:", whose length this is.
fn message_head(value: &[u8]) -> usize {
    let colons = value.iter().enumerate().filter(|(_, byte)| **byte == b':');
    1 + colons.map(|(at, _)| at).nth(1).expect("two colons")
}

fn is_decimal(text: &[u8], number: i64) -> bool {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) == Some(number)
}

/// What `Corner.java` fills values with.
fn filler() -> Vec<u8> {
    let mut text = String::new();
    let mut seed = 1_i32;
    while text.len() < 65_536 {
        seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let unsigned = seed as u32;
        let action = if seed & 64 == 0 { "view" } else { "purchase" };
        text += &format!(
            r#"{{"id":{},"user":"user-{}","action":"{action}","amount":{:?},"ok":{}}}"#,
            seed & 0x00ff_ffff,
            (unsigned >> 8) % 1000,
            f64::from((unsigned >> 4) % 10_000) / 100.0,
            seed & 128 == 0,
        );
    }
    text.into_bytes()
}

//! A broker that stands still, and programs that send on: how much they hold, who waits, and who goes on.

#![expect(clippy::disallowed_methods, reason = "a test waits, and looks at the clock")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use klamm::{Client, Compression, ErrorKind, NewTopic, Producer, Record, StartAt};

use crate::support::{self, ALONE, Kafka, is_long, memory, unique, wait_until};

const LONG: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 4;
const THREADS: usize = 8;
/// Of records that no thread has sent.
const FILLER: u8 = b'-';
/// Beside the buffer: stacks, handles, and what the allocator keeps for nine threads.
const FIXED: usize = 3 << 20;
/// What zstd works with, for a batch of a megabyte.
const ZSTD: usize = 8 << 20;

/// How a process tells another one what to do with a broker: files that the other one takes away when it is done.
struct Wishes(PathBuf);

impl Wishes {
    fn path(&self, wish: &str) -> PathBuf {
        self.0.with_extension(wish)
    }

    fn make(&self, wish: &str) {
        std::fs::write(self.path(wish), "").unwrap();
        wait_until("the broker is as it is wanted", LONG, || !self.path(wish).exists());
    }

    fn fulfil(&self, kafka: &Kafka, ended: &AtomicBool) {
        while !ended.load(Ordering::SeqCst) {
            for (wish, signal) in [("stop", Kafka::sigstop as fn(&Kafka, i32)), ("go-on", Kafka::sigcont)] {
                if self.path(wish).exists() {
                    (1..=kafka.brokers() as i32).for_each(|id| signal(kafka, id));
                    std::fs::remove_file(self.path(wish)).unwrap();
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        (1..=kafka.brokers() as i32).for_each(|id| kafka.sigcont(id));
    }
}

/// Runs the test again in a process of its own, with a broker that it may have stopped. Gives that process the broker's
/// address, a topic, and its wishes.
fn alone(test: &str, brokers: usize) -> Option<(String, String, Wishes)> {
    let test = format!("producing::pressure::{test}");
    if let Ok(given) = std::env::var(ALONE) {
        let parts: Vec<&str> = given.split(' ').collect();
        return Some((parts[0].to_owned(), parts[1].to_owned(), Wishes(parts[2].into())));
    }
    let kafka = Kafka::builder().brokers(brokers).start();
    let topic = unique("pressure");
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let mut made = client.admin().create_topics([NewTopic::new(&topic, PARTITIONS, 1)]);
    wait_until("the topic is made", LONG, || {
        let is_made = made
            .as_ref()
            .is_ok_and(|made| made.iter().all(|(_, made)| made.is_ok()));
        if !is_made {
            made = client.admin().create_topics([NewTopic::new(&topic, PARTITIONS, 1)]);
        }
        is_made
    });
    kafka.wait_for_topic(&topic, PARTITIONS as usize);
    let wishes = Wishes(std::env::temp_dir().join(&topic));
    let given = format!("{} {topic} {}", kafka.bootstrap(), wishes.0.display());
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| wishes.fulfil(&kafka, &ended));
        let outcome = std::panic::catch_unwind(|| support::alone(&test, &given));
        ended.store(true, Ordering::SeqCst);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    None
}

/// Sends without a pause from several threads, each its own records in order.
struct Senders {
    sent: Vec<AtomicU64>,
    ended: AtomicBool,
}

impl Senders {
    fn new() -> Self {
        Self {
            sent: (0..THREADS).map(|_| AtomicU64::new(0)).collect(),
            ended: AtomicBool::new(false),
        }
    }

    fn run(&self, thread: usize, producer: &Producer, topic: &str, sizes: &[usize]) {
        let mut number = 0_u64;
        while !self.ended.load(Ordering::SeqCst) {
            let size = sizes[number as usize % sizes.len()];
            let mut value = format!("{thread} {number} ").into_bytes();
            // Nothing that a codec makes small.
            let mut noise: u64 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ thread as u64;
            while value.len() < size {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                value.push((noise >> 56) as u8);
            }
            let partition = thread as i32 % PARTITIONS;
            producer
                .send_detached(Record::to(topic).partition(partition).value(&value))
                .unwrap();
            number += 1;
            self.sent[thread].store(number, Ordering::SeqCst);
        }
    }

    fn counts(&self) -> Vec<u64> {
        self.sent.iter().map(|sent| sent.load(Ordering::SeqCst)).collect()
    }

    /// Until nobody has got on for a while, and there is no room: which is said at once.
    fn wait_until_all_wait(&self, producer: &Producer, topic: &str) {
        let filler = vec![FILLER; 64 << 10];
        let mut last = (self.counts(), Instant::now());
        wait_until("all threads wait", LONG, || {
            let counts = self.counts();
            if counts != last.0 {
                last = (counts, Instant::now());
            }
            if last.1.elapsed() <= Duration::from_secs(3) {
                return false;
            }
            // On a slow machine a thread may stand still for another reason.
            match producer.try_send(Record::to(topic).partition(0).value(&filler)) {
                Ok(_) => {
                    last.1 = Instant::now();
                    false
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::BufferFull, "{error}");
                    true
                }
            }
        });
    }
}

/// Each thread's numbers lie in the log in their order, each once: gives how many.
fn numbers_in_order(client: &Client, topic: &str) -> Vec<u64> {
    let mut next = vec![0; THREADS];
    for message in client.reader().topics([topic]).until_end().open().unwrap() {
        let message = message.unwrap();
        let value = message.value().unwrap();
        if value.first() == Some(&FILLER) {
            continue;
        }
        let mut words = value.split(|byte| *byte == b' ');
        let mut number = || -> u64 {
            let word = words.next().and_then(|word| std::str::from_utf8(word).ok());
            word.and_then(|word| word.parse().ok()).unwrap_or(u64::MAX)
        };
        let (thread, number) = (number() as usize, number());
        assert_eq!(number, next[thread], "of thread {thread}");
        next[thread] += 1;
    }
    next
}

fn stays_within_the_buffer(given: (String, String, Wishes), buffer: usize, sizes: &[usize], compression: Compression) {
    let (bootstrap, topic, wishes) = given;
    let client = Client::connect(&bootstrap).unwrap();
    let producer = client
        .producer()
        .buffer_bytes(buffer)
        .compression(compression)
        .max_block(LONG)
        .delivery_timeout(LONG * 2)
        .build()
        .unwrap();
    // What a first record brings with it does not count.
    let senders = Senders::new();
    let before = memory("VmRSS");
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (senders, producer, topic) = (&senders, &producer, &topic);
            scope.spawn(move || senders.run(thread, producer, topic, sizes));
        }
        for round in 0..if is_long() { 3 } else { 2 } {
            let start = senders.counts();
            wait_until("every thread gets on", LONG, || {
                senders.counts().iter().zip(&start).all(|(now, start)| now > start)
            });
            wishes.make("stop");
            senders.wait_until_all_wait(&producer, &topic);
            let resident = memory("VmRSS") - before;
            let codec = if compression == Compression::Zstd { ZSTD } else { 0 };
            let most = buffer + buffer / 10 + FIXED + codec;
            println!(
                "round {round}: {producer:?}, resident {} KiB more than before, {} KiB at most",
                resident >> 10,
                most >> 10
            );
            assert!(resident <= most, "{resident} resident, {most} at most");
            wishes.make("go-on");
        }
        let start = senders.counts();
        wait_until("every thread goes on", LONG, || {
            senders.counts().iter().zip(&start).all(|(now, start)| now > start)
        });
        senders.ended.store(true, Ordering::SeqCst);
    });
    producer.flush(LONG).unwrap();
    assert_eq!(numbers_in_order(&client, &topic), senders.counts());
    assert!(format!("{producer:?}").contains("held_bytes: 0"), "{producer:?}");
    let report = producer.close(LONG).unwrap();
    assert!(report.is_clean(), "{report:?}");
    drop(client);
}

#[test]
fn eight_threads_and_a_stopped_broker_hold_no_more_than_the_buffer() {
    if let Some(given) = alone("eight_threads_and_a_stopped_broker_hold_no_more_than_the_buffer", 1) {
        stays_within_the_buffer(given, 64 << 20, &[1000], Compression::None);
    }
}

#[test]
fn three_stopped_brokers_are_no_different_from_one() {
    if let Some(given) = alone("three_stopped_brokers_are_no_different_from_one", 3) {
        stays_within_the_buffer(given, 16 << 20, &[1000], Compression::None);
    }
}

#[test]
fn a_small_buffer_holds_no_more_whatever_the_records_are_like() {
    if let Some(given) = alone("a_small_buffer_holds_no_more_whatever_the_records_are_like", 1) {
        stays_within_the_buffer(given, 4 << 20, &[100, 10_000, 1, 50_000], Compression::Zstd);
    }
}

#[test]
fn a_full_buffer_does_not_wait_for_batches_that_linger() {
    let (client, topic) = super::topic("pressure", 32);
    let producer = client
        .producer()
        .linger(Duration::from_secs(100))
        .batch_bytes(256 << 10)
        .buffer_bytes(1 << 20)
        .delivery_timeout(LONG * 2)
        .max_block(LONG)
        .build()
        .unwrap();
    let begun = Instant::now();
    // Each partition's batch is far from full when the buffer is.
    let value = vec![b'x'; 10_000];
    for number in 0..2_000 {
        let record = Record::to(&topic).partition(number % 32).value(&value);
        producer.send_detached(record).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(100), "nothing has lingered");
    let ends = (0..32).map(|partition| client.offset_for(&topic, partition, StartAt::Latest).unwrap().unwrap());
    assert_eq!(ends.sum::<i64>(), 2_000);
}

//! barnabas on tokio. It starts no tasks: everything happens in the calls of the one who uses it. A consumer cannot be
//! sent to another thread, so that each client has a thread and a runtime of its own: a worker more would only hand it
//! what its socket says.
//!
//! Writing collects batches as its documentation shows it for many records: several of each partition are queued, and
//! then flushed together, five requests on their way at a time. (`produce`, record by record, sends each by itself unless
//! told to linger, and all that have no key to the same partition.)
//!
//! `--tuned` has a client for each processor, with its share of the partitions: what it was built for. There are no
//! settings for throughput.

#![expect(clippy::disallowed_methods, reason = "a bench starts plain threads")]

use std::{
    iter,
    process::{self, ExitCode},
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use barnabas_client::producer::CompressionCodec;
use barnabas_core::RangeAssignor;
use barnabas_tokio::{Cluster, Consumer, ConsumerRecords, EARLIEST, Producer, ProducerRecord, StartOffset, Tokio};
use bytes::Bytes;
use klamm_peers::{
    Codec, Consume, Delays, Idle, Latency, Meter, Produce, Reading, Report, Task, rest, run, unsupported, version_of,
};
use tokio::runtime::Builder;

const NAME: &str = "peers";

fn main() -> ExitCode {
    run("barnabas", &version_of("barnabas-client"), |task| match task {
        Task::Consume(task) => consume(task),
        Task::Produce(task) => produce(task),
        Task::Latency(task) => latency(task),
        Task::Idle(task) => idle(task),
        Task::LongPoll(_) => {
            unsupported("a consumer does nothing else while it polls: its calls come one after another")
        }
    })
}

/// On this thread.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("there are sockets").block_on(work)
}

/// How many clients share the work.
fn clients(tuned: bool) -> usize {
    match thread::available_parallelism() {
        Ok(processors) if tuned => processors.get(),
        _ => 1,
    }
}

// ---- consume ----

fn consume(task: Consume) -> Report {
    let reading = Arc::new(Mutex::new(Some(Reading::begin(&task))));
    let clients = if task.group {
        1
    } else {
        clients(task.tuned).min(block_on(partitions(&task.bootstrap, &task.topic)))
    };
    let (ended, end) = mpsc::channel();
    for client in 0..clients {
        let (task, reading, ended) = (task.clone(), Arc::clone(&reading), ended.clone());
        thread::spawn(move || {
            let report = block_on(async {
                let consumer = if task.group {
                    member(&task.bootstrap, &task.topic).await
                } else {
                    reader(&task.bootstrap, &task.topic, client, clients).await
                };
                read(consumer, &reading).await
            });
            // Nobody waits for whom another was faster than.
            let _ = report.map(|report| ended.send(report));
        });
    }
    drop(ended);
    end.recv().expect("what has failed has said so")
}

/// Fetches and decodes, perhaps while others do, and sees what came out when nobody else does. One of all sees the last.
async fn read(mut consumer: Consumer, reading: &Mutex<Option<Reading>>) -> Option<Report> {
    loop {
        let polled = consumer.poll().await.expect("records");
        let mut shared = reading.lock().expect("all is well");
        for record in polled.iter().flat_map(ConsumerRecords::iter) {
            if shared.as_mut()?.see(record.value().as_deref().unwrap_or_default()) {
                return shared.take().map(Reading::end);
            }
        }
    }
}

/// Of every so-many-th partition.
async fn reader(bootstrap: &str, topic: &str, client: usize, clients: usize) -> Consumer {
    let consumer = Consumer::builder(Tokio).bootstrap([bootstrap]).client_id(NAME);
    if clients == 1 {
        let consumer = consumer.assign_all(topic, StartOffset::Earliest).build();
        return consumer.await.expect("the topic is there");
    }
    let mine = (client as i32..partitions(bootstrap, topic).await as i32).step_by(clients);
    let consumer = consumer.assign_range(topic, mine, StartOffset::Earliest).build();
    consumer.await.expect("the topic is there")
}

async fn member(bootstrap: &str, topic: &str) -> Consumer {
    let consumer = Consumer::builder(Tokio).bootstrap([bootstrap]).client_id(NAME).build();
    let mut consumer = consumer.await.expect("the broker is there");
    // As other clients do by default.
    consumer.set_auto_commit(Some(Duration::from_secs(5)));
    let group = format!("peers-{topic}-{}", process::id());
    let joined = consumer.subscribe(&group, vec![topic.to_owned()], Box::new(RangeAssignor), EARLIEST);
    joined.await.expect("a group");
    consumer
}

async fn partitions(bootstrap: &str, topic: &str) -> usize {
    let cluster = Cluster::connect(Tokio, &[bootstrap.to_owned()], NAME).await;
    let partitions = cluster.expect("the broker is there").partition_count(topic).await;
    partitions.expect("the topic is there") as usize
}

// ---- produce ----

/// In one batch of a partition: what its documentation measures with.
const RECORDS: usize = 1000;
/// But no more than this: a broker refuses batches of more than a megabyte.
const BATCH_BYTES: usize = 512 << 10;
/// Queued for each partition before they are sent together: as many as may be on their way.
const BATCHES: usize = 5;

fn produce(task: Produce) -> Report {
    let meter = Meter::new();
    let partitions = block_on(partitions(&task.bootstrap, &task.topic));
    let clients = clients(task.tuned);
    let writing = Writing::new(task, clients, partitions);
    let acknowledged = AtomicUsize::new(0);
    let done = Barrier::new(clients);
    thread::scope(|scope| {
        for client in 1..clients {
            let (writing, acknowledged, done) = (&writing, &acknowledged, &done);
            scope.spawn(move || {
                acknowledged.fetch_add(block_on(writing.write(client)), Ordering::AcqRel);
                // Its time is known as long as it lives.
                done.wait();
                done.wait();
            });
        }
        acknowledged.fetch_add(block_on(writing.write(0)), Ordering::AcqRel);
        done.wait();
        let acknowledged = acknowledged.load(Ordering::Acquire);
        let report = meter.report(acknowledged as u64, (acknowledged * writing.value_bytes) as u64);
        done.wait();
        assert_eq!(acknowledged, writing.messages, "all are in the log");
        report
    })
    .with("idempotent", true)
    .with("note", "records are collected and distributed by the program")
}

/// What is to be written: record i has value i, and goes with those around it to the same partition.
struct Writing {
    bootstrap: String,
    topic: String,
    compression: CompressionCodec,
    messages: usize,
    values: Bytes,
    value_bytes: usize,
    /// Records in one batch.
    each: usize,
    partitions: usize,
    clients: usize,
}

impl Writing {
    fn new(task: Produce, clients: usize, partitions: usize) -> Self {
        let value_bytes = task.values.value_bytes();
        Self {
            bootstrap: task.bootstrap,
            topic: task.topic,
            compression: compression(task.codec),
            messages: task.messages as usize,
            each: RECORDS.min(BATCH_BYTES / value_bytes).max(1),
            value_bytes,
            values: Bytes::from(task.values.into_bytes()),
            partitions,
            clients,
        }
    }

    /// How many this client has written of all.
    async fn write(&self, client: usize) -> usize {
        let producer = Producer::builder(Tokio).bootstrap([&self.bootstrap]).client_id(NAME);
        let producer = producer.compression(self.compression).build();
        let mut producer = producer.await.expect("the broker is there");
        let (mut batches, mut queued, mut acknowledged) = (0, 0, 0);
        for first in (client * self.each..self.messages).step_by(self.each * self.clients) {
            let records: Vec<_> = (first..self.messages.min(first + self.each))
                .map(|i| ProducerRecord::new(None, Some(self.value(i))))
                .collect();
            let partition = (batches % self.partitions) as i32;
            producer
                .enqueue(&self.topic, partition, &records)
                .await
                .expect("they are queued");
            (batches, queued) = (batches + 1, queued + records.len());
            if batches % (BATCHES * self.partitions) == 0 {
                producer.flush().await.expect("all are in the log");
                acknowledged += std::mem::take(&mut queued);
            }
        }
        producer.flush().await.expect("all are in the log");
        acknowledged + queued
    }

    fn value(&self, i: usize) -> Bytes {
        let at = i * self.value_bytes % self.values.len();
        self.values.slice(at..at + self.value_bytes)
    }
}

fn compression(codec: Codec) -> CompressionCodec {
    match codec {
        Codec::None => CompressionCodec::None,
        Codec::Gzip => CompressionCodec::Gzip,
        Codec::Snappy => CompressionCodec::Snappy,
        Codec::Lz4 => CompressionCodec::Lz4,
        Codec::Zstd => CompressionCodec::Zstd,
    }
}

// ---- both, and none ----

fn latency(task: Latency) -> Report {
    let delays = Delays::begin(&task);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            block_on(async {
                let mut consumer = reader(&task.bootstrap, &task.topic, 0, 1).await;
                loop {
                    let polled = consumer.poll().await.expect("records");
                    for record in polled.iter().flat_map(ConsumerRecords::iter) {
                        if delays.see(record.value().as_deref().unwrap_or_default()) {
                            return delays.end();
                        }
                    }
                }
            })
        });
        let task = &task;
        scope.spawn(move || block_on(write_all(task, receiver)));
        delays.send(|value| {
            let record = ProducerRecord::new(None, Some(Bytes::copy_from_slice(value)));
            sender.send(record).expect("the producer waits for it");
        });
        drop(sender);
        reading.join().expect("what has failed has said so")
    })
    .with("idempotent", true)
    .with(
        "note",
        "a record waits until those before it are acknowledged: there is no other way",
    )
}

/// The producer waits for each acknowledgement: what comes in between leaves together behind it.
async fn write_all(task: &Latency, records: mpsc::Receiver<ProducerRecord>) {
    let producer = Producer::builder(Tokio)
        .bootstrap([&task.bootstrap])
        .client_id(NAME)
        .build();
    let mut producer = producer.await.expect("the broker is there");
    while let Ok(first) = records.recv() {
        let records: Vec<_> = iter::once(first).chain(records.try_iter()).collect();
        producer
            .send(&task.topic, 0, &records)
            .await
            .expect("they are in the log");
    }
}

fn idle(task: Idle) -> Report {
    let given = task.clone();
    thread::spawn(move || {
        block_on(async {
            let mut consumer = reader(&given.bootstrap, &given.topic, 0, 1).await;
            loop {
                let polled = consumer.poll().await.expect("records");
                assert!(polled.is_empty(), "nothing is to be read");
            }
        })
    });
    rest(&task)
}

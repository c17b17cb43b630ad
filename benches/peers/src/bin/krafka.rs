//! krafka.
//!
//! | `--api` | What it does |
//! |---|---|
//! | `poll` (unless said) | consume: `poll`, which returns up to `max_poll_records` |
//! | `recv` | consume: `recv`, which returns one message |
//!
//! Writing goes through `enqueue`; all its handles are waited for, the earlier ones while later records are enqueued.

use std::{
    collections::VecDeque,
    process::{self, ExitCode},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use klamm_peers::{
    Calls, Codec, Consume, Delays, HEARTBEATS, Idle, Latency, LongPoll, Meter, Produce, Reading, Report, Side, Task,
    on_tokio, rest, run, unsupported, version_of,
};
use krafka::{
    Compression, Kafka, Record,
    consumer::{AutoOffsetReset, Consumer, ConsumerBuilder, OffsetAndMetadata, TopicPartition},
    producer::{DeliveryHandle, Producer},
};
use tokio::runtime::{Handle, Runtime};

const WAIT: Duration = Duration::from_secs(1);
/// Handles that are waited for later: more than fit into the producer's memory are none.
const UNANSWERED: usize = 100_000;

fn main() -> ExitCode {
    run("krafka", &version_of("krafka"), |task| match task {
        Task::Consume(task) => on_tokio(consume(task)),
        Task::Produce(task) => on_tokio(produce(task)),
        Task::Latency(task) => on_tokio(latency(task)),
        Task::Idle(task) => idle(task),
        Task::LongPoll(task) => on_tokio(longpoll(task)),
    })
}

// ---- consume ----

async fn consume(task: Consume) -> Report {
    let mut reading = Reading::begin(&task);
    let consumer = if task.group {
        member(&task).await
    } else {
        reader(&task.bootstrap, &task.topic, task.tuned).await
    };
    match task.api.as_deref() {
        None | Some("poll") => poll(&consumer, &mut reading).await,
        Some("recv") => receive(&consumer, &mut reading).await,
        Some(other) => unsupported(&format!("krafka has no interface {other:?}")),
    }
    reading.end()
}

async fn poll(consumer: &Consumer, reading: &mut Reading) {
    loop {
        for record in consumer.poll(WAIT).await.expect("records") {
            if reading.see(record.value.as_deref().unwrap_or_default()) {
                return;
            }
        }
    }
}

async fn receive(consumer: &Consumer, reading: &mut Reading) {
    while let Some(record) = consumer.recv().await.expect("a record") {
        if reading.see(record.value.as_deref().unwrap_or_default()) {
            return;
        }
    }
}

async fn reader(bootstrap: &str, topic: &str, tuned: bool) -> Consumer {
    let consumer = connect(bootstrap).await.consumer_without_group();
    let consumer = settings(consumer, tuned).build().await.expect("settings that hold");
    let metadata = consumer.fetch_metadata(Some(topic)).await.expect("metadata");
    let partitions = metadata
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.keys().copied());
    let assigned = consumer.assign(topic, partitions.collect()).await;
    assigned.expect("the topic is there");
    consumer
}

async fn member(task: &Consume) -> Consumer {
    let group = format!("peers-{}-{}", task.topic, process::id());
    let consumer = connect(&task.bootstrap).await.consumer(group);
    let consumer = settings(consumer, task.tuned)
        .build()
        .await
        .expect("settings that hold");
    consumer.subscribe([&task.topic]).await.expect("a topic");
    consumer
}

fn settings(consumer: ConsumerBuilder, tuned: bool) -> ConsumerBuilder {
    let consumer = consumer.auto_offset_reset(AutoOffsetReset::Earliest);
    if !tuned {
        return consumer;
    }
    consumer
        // By default 500. What an answer holds beyond this and the next setting together is fetched again.
        .max_poll_records(50_000)
        .max_buffered_records(1_000_000)
        // By default 1 MiB: twelve partitions of small messages then share many small answers.
        .max_partition_fetch_bytes(4 << 20)
        .fetch_max_bytes(64 << 20)
}

async fn connect(bootstrap: &str) -> Kafka {
    Kafka::builder(bootstrap).connect().await.expect("the broker is there")
}

// ---- produce ----

async fn produce(task: Produce) -> Report {
    let meter = Meter::new();
    let mut producer = connect(&task.bootstrap)
        .await
        .producer()
        .compression(compression(task.codec));
    if task.tuned {
        producer = producer
            // By default 16 KiB, and one batch of a partition is on its way at a time.
            .batch_size(512 << 10)
            // By default 5: batches are fuller, and there are fewer.
            .linger(Duration::from_millis(20))
            // By default 32 MiB.
            .buffer_memory(128 << 20);
    }
    let producer = producer.build().await.expect("settings that hold");
    let value_bytes = task.values.value_bytes();
    let values = Bytes::from(task.values.into_bytes());
    let mut handles: VecDeque<DeliveryHandle> = VecDeque::with_capacity(UNANSWERED);
    let mut acknowledged = 0;
    for i in 0..task.messages as usize {
        let at = i * value_bytes % values.len();
        let record = Record::new(task.topic.as_str(), values.slice(at..at + value_bytes));
        if handles.len() == UNANSWERED
            && let Some(earliest) = handles.pop_front()
        {
            let _ = earliest.await.expect("it is in the log");
            acknowledged += 1;
        }
        handles.push_back(producer.enqueue(record).await.expect("there is room"));
    }
    producer.flush().await.expect("all are handled");
    for handle in handles {
        let _ = handle.await.expect("it is in the log");
        acknowledged += 1;
    }
    assert_eq!(acknowledged, task.messages, "all are in the log");
    meter
        .report(acknowledged, acknowledged * value_bytes as u64)
        .with("idempotent", true)
}

fn compression(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

// ---- both, and none ----

async fn latency(task: Latency) -> Report {
    let delays = Arc::new(Delays::begin(&task));
    let consumer = reader(&task.bootstrap, &task.topic, task.tuned).await;
    let producer = connect(&task.bootstrap).await.producer().linger(Duration::ZERO);
    let producer = producer.build().await.expect("settings that hold");

    let seen = Arc::clone(&delays);
    let reading = tokio::spawn(async move {
        loop {
            for record in consumer.poll(WAIT).await.expect("records") {
                if seen.see(record.value.as_deref().unwrap_or_default()) {
                    return;
                }
            }
        }
    });
    let sending = Arc::clone(&delays);
    let runtime = Handle::current();
    let sent = tokio::task::spawn_blocking(move || {
        let mut handles = Vec::new();
        sending.send(|value| {
            let record = Record::new(task.topic.as_str(), Bytes::copy_from_slice(value));
            // There is room: only the first one waits, for metadata.
            handles.push(runtime.block_on(producer.enqueue(record)).expect("there is room"));
        });
        (producer, handles)
    });
    let (_producer, handles) = sent.await.expect("the warm-up arrives");
    for handle in handles {
        let _ = handle.await.expect("it is in the log");
    }
    reading.await.expect("what has failed has said so");
    delays.end().with("idempotent", true)
}

fn idle(task: Idle) -> Report {
    let runtime = Runtime::new().expect("threads can be started");
    let consumer = runtime.block_on(reader(&task.bootstrap, &task.topic, task.tuned));
    runtime.spawn(async move {
        loop {
            let records = consumer.poll(WAIT).await.expect("records");
            assert!(records.is_empty(), "nothing is to be read");
        }
    });
    rest(&task)
}

// ---- beside a long poll ----

async fn longpoll(task: LongPoll) -> Report {
    let members = [
        Member::join(&task, Side::Polling).await,
        Member::join(&task, Side::Paused).await,
    ];
    let member = |side| &members[usize::from(side == Side::Paused)];
    let mut calls = Calls::begin(&task);
    while calls.go_on() {
        for side in calls.sides("commit") {
            let offsets = (0..member(side).partitions).map(|partition| {
                let partition = TopicPartition::new(task.topic.as_str(), partition);
                (partition, OffsetAndMetadata::new(0))
            });
            let committed = member(side).consumer.commit_offsets(offsets);
            let committed = calls.time_async("commit", side, committed).await;
            committed.expect("the coordinator is there");
        }
        for side in calls.sides("metadata") {
            let found = member(side).consumer.fetch_metadata(Some(&task.written));
            let found = calls.time_async("metadata", side, found).await;
            assert_eq!(found.expect("metadata").topics.len(), 1);
        }
        for side in calls.sides("produce") {
            let record = Record::new(task.written.as_str(), Bytes::from_static(b"written"));
            let written = member(side).producer.send(record);
            let written = calls.time_async("produce", side, written).await;
            let _ = written.expect("it is in the log");
        }
    }
    calls.end()
}

/// A group of one, and a producer of the same client.
struct Member {
    consumer: Arc<Consumer>,
    producer: Producer,
    partitions: i32,
}

impl Member {
    async fn join(task: &LongPoll, side: Side) -> Self {
        let kafka = Kafka::builder(&task.bootstrap).client_id(side.client_id());
        let kafka = kafka.connect().await.expect("the broker is there");
        let group = format!("{}-{}", side.client_id(), task.topic);
        let consumer = settings(kafka.consumer(group), false)
            .enable_auto_commit(false)
            .heartbeat_interval(HEARTBEATS)
            .fetch_max_wait(side.max_wait());
        let consumer = Arc::new(consumer.build().await.expect("settings that hold"));
        consumer.subscribe([&task.topic]).await.expect("a topic");
        let partitions = loop {
            // As short as it may be: what is to be paused must not be fetched before.
            let records = consumer.poll(Duration::from_millis(1)).await.expect("records");
            assert!(records.is_empty(), "nothing is to be read");
            if let Some(partitions) = consumer.assignment().await.remove(&task.topic) {
                break partitions;
            }
        };
        if side == Side::Paused {
            consumer.pause(&task.topic, &partitions).await;
        }
        let polled = Arc::clone(&consumer);
        tokio::spawn(async move {
            loop {
                let records = polled.poll(WAIT).await.expect("records");
                assert!(records.is_empty(), "nothing is to be read");
            }
        });
        let producer = kafka.producer().linger(Duration::ZERO);
        Self {
            producer: producer.build().await.expect("settings that hold"),
            consumer,
            partitions: partitions.len() as i32,
        }
    }
}

//! rskafka: a client of single partitions, which buffers nothing itself. All partitions are worked on at the same time,
//! each by a task of its own.
//!
//! | `--api` | What it does |
//! |---|---|
//! | `fetch` (unless said) | consume: `PartitionClient::fetch_records`, whose answers are looked at one after another |
//! | `stream` | consume: a `StreamConsumer` a partition, merged into one stream |
//!
//! There are no groups, and no idempotence.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, stream::select_all};
use klamm_peers::{
    Calls, Codec, Consume, Delays, Idle, Latency, LongPoll, Meter, Produce, Reading, Report, Side, Task, on_tokio,
    rest, run, unsupported, version_of,
};
use rskafka::{
    chrono::DateTime,
    client::{
        Client, ClientBuilder,
        consumer::{StartOffset, StreamConsumerBuilder},
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use tokio::{
    runtime::{Handle, Runtime},
    sync::Mutex,
    task::JoinSet,
};

/// As `StreamConsumerBuilder` has it.
const MAX_WAIT_MS: i32 = 500;
/// As it is asked for where `fetch_records` is documented; the call has no default.
const FETCH_BYTES: i32 = 1_000_000;
/// The default of `StreamConsumerBuilder`.
const STREAM_BYTES: i32 = 50 << 20;

fn main() -> ExitCode {
    run("rskafka", &version_of("rskafka"), |task| match task {
        Task::Consume(task) => on_tokio(consume(task)),
        Task::Produce(task) => on_tokio(produce(task)),
        Task::Latency(task) => on_tokio(latency(task)),
        Task::Idle(task) => idle(task),
        Task::LongPoll(task) => on_tokio(longpoll(task)),
    })
}

// ---- consume ----

async fn consume(task: Consume) -> Report {
    if task.group {
        unsupported("rskafka has no groups");
    }
    let mut reading = Reading::begin(&task);
    let partitions = partitions(&task.bootstrap, &task.topic).await;
    match task.api.as_deref() {
        None | Some("fetch") => {
            // Nothing to tune: to ask for more costs more, because records then leave the processor's caches unseen.
            fetch(partitions, FETCH_BYTES, reading).await
        }
        Some("stream") => {
            let max_bytes = if task.tuned { FETCH_BYTES } else { STREAM_BYTES };
            stream(partitions, max_bytes, &mut reading).await;
            reading.end()
        }
        Some(other) => unsupported(&format!("rskafka has no interface {other:?}")),
    }
}

async fn fetch(partitions: Vec<PartitionClient>, max_bytes: i32, reading: Reading) -> Report {
    let reading = Arc::new(Mutex::new(Some(reading)));
    let mut tasks = JoinSet::new();
    for partition in partitions {
        tasks.spawn(fetch_partition(partition, max_bytes, Arc::clone(&reading)));
    }
    let first = tasks.join_next().await.expect("a partition");
    first.expect("what has failed has said so")
}

/// Fetches and decodes while others do, and sees what came out when nobody else does. Ends with the last message of all.
async fn fetch_partition(partition: PartitionClient, max_bytes: i32, reading: Arc<Mutex<Option<Reading>>>) -> Report {
    let mut offset = partition.get_offset(OffsetAt::Earliest).await.expect("an offset");
    loop {
        let fetched = partition.fetch_records(offset, 1..max_bytes, MAX_WAIT_MS).await;
        let (records, _) = fetched.expect("records");
        let mut shared = reading.lock().await;
        for record in &records {
            let Some(reading) = shared.as_mut() else {
                return std::future::pending().await;
            };
            if reading.see(record.record.value.as_deref().unwrap_or_default()) {
                return shared.take().expect("it was there").end();
            }
        }
        drop(shared);
        if let Some(last) = records.last() {
            offset = last.offset + 1;
        }
    }
}

async fn stream(partitions: Vec<PartitionClient>, max_bytes: i32, reading: &mut Reading) {
    let streams = partitions.into_iter().map(|partition| {
        StreamConsumerBuilder::new(Arc::new(partition), StartOffset::Earliest)
            .with_max_batch_size(max_bytes)
            .build()
    });
    let mut stream = select_all(streams);
    while let Some(record) = stream.next().await {
        let (record, _) = record.expect("a record");
        if reading.see(record.record.value.as_deref().unwrap_or_default()) {
            return;
        }
    }
}

async fn client(bootstrap: &str) -> Client {
    let client = ClientBuilder::new(vec![bootstrap.to_owned()]).build().await;
    client.expect("the broker is there")
}

/// Clients of all of them, each with a connection of its own.
async fn partitions(bootstrap: &str, topic: &str) -> Vec<PartitionClient> {
    partitions_of(&client(bootstrap).await, topic).await
}

async fn partitions_of(client: &Client, topic: &str) -> Vec<PartitionClient> {
    let topics = client.list_topics().await.expect("metadata");
    let found = topics.into_iter().find(|found| found.name == topic);
    let mut partitions = Vec::new();
    for partition in found.expect("the topic is there").partitions {
        partitions.push(partition_client(client, topic, partition).await);
    }
    partitions
}

async fn partition_client(client: &Client, topic: &str, partition: i32) -> PartitionClient {
    let client = client.partition_client(topic, partition, UnknownTopicHandling::Retry);
    client.await.expect("the partition is there")
}

// ---- produce ----

/// What one call writes of a partition.
const REQUEST_BYTES: usize = 256 << 10;
/// As much as a broker takes by default, with some room for what surrounds values.
const TUNED_REQUEST_BYTES: usize = 800 << 10;
/// On their way at the same time, if there are not more partitions: as many as other clients allow.
const REQUESTS: usize = 5;

async fn produce(task: Produce) -> Report {
    let meter = Meter::new();
    let partitions = partitions(&task.bootstrap, &task.topic).await;
    let writers = REQUESTS.div_ceil(partitions.len());
    let writing = Arc::new(Writing::new(task, partitions.len() * writers));
    let mut tasks = JoinSet::new();
    for (i, partition) in partitions.into_iter().enumerate() {
        let partition = Arc::new(partition);
        for j in 0..writers {
            let (partition, writing) = (Arc::clone(&partition), Arc::clone(&writing));
            tasks.spawn(async move { writing.write(i * writers + j, &partition).await });
        }
    }
    let acknowledged: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(acknowledged, writing.messages, "all are in the log");
    meter
        .report(acknowledged as u64, (acknowledged * writing.value_bytes) as u64)
        .with("idempotent", false)
        .with("note", "records are collected and distributed by the program")
}

/// What is to be written: record i has value i, and goes with those around it to the same partition.
struct Writing {
    messages: usize,
    values: Vec<u8>,
    value_bytes: usize,
    compression: Compression,
    /// Records in one request.
    each: usize,
    writers: usize,
}

impl Writing {
    fn new(task: Produce, writers: usize) -> Self {
        let request_bytes = if task.tuned { TUNED_REQUEST_BYTES } else { REQUEST_BYTES };
        let value_bytes = task.values.value_bytes();
        Self {
            messages: task.messages as usize,
            value_bytes,
            compression: compression(task.codec),
            each: (request_bytes / value_bytes).max(1),
            writers,
            values: task.values.into_bytes(),
        }
    }

    /// How many this writer has written of all.
    async fn write(&self, writer: usize, partition: &PartitionClient) -> usize {
        let mut acknowledged = 0;
        for first in (writer * self.each..self.messages).step_by(self.each * self.writers) {
            let records: Vec<_> = (first..self.messages.min(first + self.each))
                .map(|i| record(self.value(i)))
                .collect();
            let offsets = partition.produce(records, self.compression).await;
            acknowledged += offsets.expect("they are in the log").len();
        }
        acknowledged
    }

    fn value(&self, i: usize) -> &[u8] {
        let at = i * self.value_bytes % self.values.len();
        &self.values[at..at + self.value_bytes]
    }
}

fn record(value: &[u8]) -> Record {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Record {
        key: None,
        value: Some(value.to_vec()),
        headers: BTreeMap::new(),
        timestamp: DateTime::from_timestamp_millis(now.as_millis() as i64).expect("a time"),
    }
}

fn compression(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::NoCompression,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

// ---- both, and none ----

async fn latency(task: Latency) -> Report {
    let delays = Arc::new(Delays::begin(&task));
    let [reader, writer] = [client(&task.bootstrap).await, client(&task.bootstrap).await];
    let reader = Arc::new(partition_client(&reader, &task.topic, 0).await);
    let writer = Arc::new(partition_client(&writer, &task.topic, 0).await);

    let mut stream = StreamConsumerBuilder::new(reader, StartOffset::Earliest).build();
    let seen = Arc::clone(&delays);
    let reading = tokio::spawn(async move {
        while let Some(record) = stream.next().await {
            let (record, _) = record.expect("a record");
            if seen.see(record.record.value.as_deref().unwrap_or_default()) {
                return;
            }
        }
    });

    let sending = Arc::clone(&delays);
    let runtime = Handle::current();
    // Each request has a task that waits for its answer, while the next one is sent.
    let sent = tokio::task::spawn_blocking(move || {
        let mut sent = JoinSet::new();
        sending.send(|value| {
            let (writer, record) = (Arc::clone(&writer), record(value));
            sent.spawn_on(
                async move { writer.produce(vec![record], Compression::NoCompression).await },
                &runtime,
            );
        });
        sent
    });
    for written in sent.await.expect("the warm-up arrives").join_all().await {
        written.expect("it is in the log");
    }
    reading.await.expect("what has failed has said so");
    delays.end().with("idempotent", false)
}

fn idle(task: Idle) -> Report {
    let runtime = Runtime::new().expect("threads can be started");
    let streams = runtime.block_on(partitions(&task.bootstrap, &task.topic));
    runtime.spawn(async move {
        let streams = streams
            .into_iter()
            .map(|partition| StreamConsumerBuilder::new(Arc::new(partition), StartOffset::Earliest).build());
        let record = select_all(streams).next().await;
        panic!("nothing is to be read, and there is {record:?}");
    });
    rest(&task)
}

// ---- beside a long poll ----

/// There is nothing to commit with, and no group.
async fn longpoll(task: LongPoll) -> Report {
    let clients = [
        Waiting::new(&task, Side::Polling).await,
        Waiting::new(&task, Side::Paused).await,
    ];
    let client = |side| &clients[usize::from(side == Side::Paused)];
    let mut calls = Calls::begin(&task);
    while calls.go_on() {
        for side in calls.sides("metadata") {
            let topics = calls
                .time_async("metadata", side, client(side).client.list_topics())
                .await;
            assert!(!topics.expect("metadata").is_empty());
        }
        for side in calls.sides("produce") {
            let records = vec![record(b"written")];
            let written = client(side).writer.produce(records, Compression::NoCompression);
            let written = calls.time_async("produce", side, written).await;
            written.expect("it is in the log");
        }
    }
    calls.end()
}

/// A client whose partitions are read, or not.
struct Waiting {
    client: Client,
    writer: PartitionClient,
}

impl Waiting {
    async fn new(task: &LongPoll, side: Side) -> Self {
        let client = ClientBuilder::new(vec![task.bootstrap.clone()]).client_id(side.client_id());
        let client = client.build().await.expect("the broker is there");
        if side == Side::Polling {
            let mut streams = Vec::new();
            for partition in partitions_of(&client, &task.topic).await {
                let stream = StreamConsumerBuilder::new(Arc::new(partition), StartOffset::Earliest);
                streams.push(stream.with_max_wait_ms(side.max_wait().as_millis() as i32).build());
            }
            tokio::spawn(async move {
                let record = select_all(streams).next().await;
                panic!("nothing is to be read, and there is {record:?}");
            });
        }
        Self {
            writer: partition_client(&client, &task.written, 0).await,
            client,
        }
    }
}

//! confluent-kafka, the native one: the Java client's code in Rust, with its names and settings.
//!
//! It knows only groups of the new protocol, and needs none to read what it assigns itself.

use std::{
    collections::HashMap,
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use confluent_kafka::{
    common::{
        TopicPartition,
        serialization::{ByteArraySerializer, BytesDeserializer},
    },
    consumer::{Consumer, ConsumerConfig, KafkaConsumer, OffsetAndMetadata},
    producer::{Callback, KafkaProducer, Producer, ProducerConfig, ProducerRecord, callback},
};
use klamm_peers::{
    Calls, Consume, Delays, Idle, Latency, LongPoll, Meter, Produce, Reading, Report, Side, Task, on_tokio, rest, run,
    version_of,
};
use tokio::runtime::{Handle, Runtime};

type Reader = KafkaConsumer<Bytes, Bytes>;
type Writer = KafkaProducer<Vec<u8>, Vec<u8>>;

const WAIT: Duration = Duration::from_secs(1);

/// What an expert sets to read much.
const TUNED_READING: [(&str, &str); 3] = [
    // By default 500: each call has its price.
    ("max.poll.records", "50000"),
    // By default 1 MiB: twelve partitions of small messages then share many small answers.
    ("max.partition.fetch.bytes", "4194304"),
    ("fetch.max.bytes", "67108864"),
];

/// What an expert sets to write much.
const TUNED_WRITING: [(&str, &str); 3] = [
    // By default 16 KiB.
    ("batch.size", "524288"),
    // By default 5: batches are fuller, and there are fewer.
    ("linger.ms", "20"),
    // By default 32 MiB.
    ("buffer.memory", "134217728"),
];

fn main() -> ExitCode {
    run("confluent", &version_of("confluent-kafka"), |task| match task {
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
    let mut consumer = if task.group {
        member(&task).await
    } else {
        reader(&task.bootstrap, &task.topic, task.tuned).await
    };
    loop {
        for record in &consumer.poll(WAIT).await.expect("records") {
            if reading.see(record.value().map(|value| &value[..]).unwrap_or_default()) {
                return reading.end();
            }
        }
    }
}

async fn reader(bootstrap: &str, topic: &str, tuned: bool) -> Reader {
    let mut consumer = consumer(bootstrap, tuned, &[]);
    let partitions = consumer.partitions_for(topic).await.expect("metadata");
    let partitions = partitions
        .iter()
        .map(|partition| TopicPartition::new(topic, partition.partition()));
    consumer.assign(partitions.collect()).await.expect("the topic is there");
    consumer
}

async fn member(task: &Consume) -> Reader {
    let group = format!("peers-{}-{}", task.topic, process::id());
    let mut consumer = consumer(&task.bootstrap, task.tuned, &[("group.id", &group)]);
    let subscribed = consumer.subscribe_with_topics(vec![task.topic.clone()]).await;
    subscribed.expect("a topic");
    consumer
}

fn consumer(bootstrap: &str, tuned: bool, more: &[(&str, &str)]) -> Reader {
    let settings = [
        ("bootstrap.servers", bootstrap),
        // Not the default, and the only one there is.
        ("group.protocol", "consumer"),
        ("auto.offset.reset", "earliest"),
    ];
    let tuned = if tuned { &TUNED_READING[..] } else { &[] };
    let config = ConsumerConfig::new(&map([&settings, tuned, more]));
    let config = config.expect("settings that hold");
    // Values are not copied.
    let consumer = KafkaConsumer::new(config, BytesDeserializer::new(), BytesDeserializer::new());
    consumer.expect("settings that hold")
}

fn map(settings: [&[(&str, &str)]; 3]) -> HashMap<String, String> {
    let settings = settings.into_iter().flatten();
    settings
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

// ---- produce ----

async fn produce(task: Produce) -> Report {
    let meter = Meter::new();
    let tuned = if task.tuned { &TUNED_WRITING[..] } else { &[] };
    let producer = producer(&task.bootstrap, tuned, &[("compression.type", task.codec.name())]);
    let acknowledged = Acknowledged::default();
    for value in task.values.cycle().take(task.messages as usize) {
        let record = ProducerRecord::new(task.topic.clone(), Some(value));
        let sent = producer.send(record, Some(acknowledged.callback())).await;
        drop(sent.expect("there is room"));
    }
    producer.flush().await.expect("all are handled");
    let messages = acknowledged.0.load(Ordering::Acquire);
    assert_eq!(messages, task.messages, "all are in the log");
    meter
        .report(messages, messages * task.values.value_bytes() as u64)
        .with("idempotent", true)
}

fn producer(bootstrap: &str, tuned: &[(&str, &str)], more: &[(&str, &str)]) -> Writer {
    let config = ProducerConfig::new(&map([&[("bootstrap.servers", bootstrap)], tuned, more]));
    let config = config.expect("settings that hold");
    let producer = KafkaProducer::new(config, ByteArraySerializer::new(), ByteArraySerializer::new());
    producer.expect("settings that hold")
}

/// Counts what is in the log.
#[derive(Clone, Default)]
struct Acknowledged(Arc<AtomicU64>);

impl Acknowledged {
    fn callback(&self) -> Box<dyn Callback> {
        let Self(count) = self.clone();
        Box::new(callback::new(move |_, error| {
            assert!(error.is_none(), "{error:?}");
            count.fetch_add(1, Ordering::Release);
        }))
    }
}

// ---- both, and none ----

async fn latency(task: Latency) -> Report {
    let delays = Arc::new(Delays::begin(&task));
    let mut consumer = reader(&task.bootstrap, &task.topic, task.tuned).await;
    let producer = producer(&task.bootstrap, &[("linger.ms", "0")], &[]);

    let seen = Arc::clone(&delays);
    let reading = tokio::spawn(async move {
        loop {
            for record in &consumer.poll(WAIT).await.expect("records") {
                if seen.see(record.value().map(|value| &value[..]).unwrap_or_default()) {
                    return;
                }
            }
        }
    });
    let sending = Arc::clone(&delays);
    let runtime = Handle::current();
    let sent = tokio::task::spawn_blocking(move || {
        let acknowledged = Acknowledged::default();
        sending.send(|value| {
            let record = ProducerRecord::new(task.topic.clone(), Some(value));
            // There is room: only the first one waits, for metadata.
            let sent = runtime.block_on(producer.send(record, Some(acknowledged.callback())));
            drop(sent.expect("there is room"));
        });
        producer
    });
    let producer = sent.await.expect("the warm-up arrives");
    reading.await.expect("what has failed has said so");
    producer.flush().await.expect("all are handled");
    delays.end().with("idempotent", true)
}

fn idle(task: Idle) -> Report {
    let runtime = Runtime::new().expect("threads can be started");
    let mut consumer = runtime.block_on(reader(&task.bootstrap, &task.topic, task.tuned));
    runtime.spawn(async move {
        loop {
            let records = consumer.poll(WAIT).await.expect("records");
            assert!(records.is_empty(), "nothing is to be read");
        }
    });
    rest(&task)
}

// ---- beside a long poll ----

/// Between two calls: what has arrived is looked at, and the next Fetch leaves.
const BRIEFLY: Duration = Duration::from_millis(1);

async fn longpoll(task: LongPoll) -> Report {
    let mut members = [
        Member::join(&task, Side::Polling).await,
        Member::join(&task, Side::Paused).await,
    ];
    let mut calls = Calls::begin(&task);
    while calls.go_on() {
        for side in calls.sides("commit") {
            let Member { consumer, .. } = &mut members[usize::from(side == Side::Paused)];
            let records = consumer.poll(BRIEFLY).await.expect("records");
            assert!(records.is_empty(), "nothing is to be read");
            let offset = OffsetAndMetadata::new(0).expect("an offset");
            let offsets = consumer.assignment().into_iter();
            let offsets = offsets.map(|partition| (partition, offset.clone())).collect();
            let committed = consumer.commit_sync_with_offsets(offsets);
            let committed = calls.time_async("commit", side, committed).await;
            committed.expect("the coordinator is there");
        }
        for side in calls.sides("metadata") {
            let Member { consumer, .. } = &mut members[usize::from(side == Side::Paused)];
            let found = calls.time_async("metadata", side, consumer.list_topics()).await;
            assert!(!found.expect("metadata").is_empty());
        }
        for side in calls.sides("produce") {
            let Member { producer, .. } = &members[usize::from(side == Side::Paused)];
            let record = ProducerRecord::new(task.written.clone(), Some(&b"written"[..]));
            let written = async { producer.send(record, None).await.expect("there is room").get().await };
            let written = calls.time_async("produce", side, written).await;
            written.expect("it is in the log");
        }
    }
    calls.end()
}

/// A group of one, and a producer: there is no client that both could share.
struct Member {
    consumer: Reader,
    producer: Writer,
}

impl Member {
    async fn join(task: &LongPoll, side: Side) -> Self {
        let group = format!("{}-{}", side.client_id(), task.topic);
        let max_wait = side.max_wait().as_millis().to_string();
        let client_id = ("client.id", side.client_id());
        let settings = [
            client_id,
            ("group.id", &*group),
            ("fetch.max.wait.ms", &*max_wait),
            ("enable.auto.commit", "false"),
        ];
        let mut consumer = consumer(&task.bootstrap, false, &settings);
        let subscribed = consumer.subscribe_with_topics(vec![task.topic.clone()]).await;
        subscribed.expect("a topic");
        while consumer.assignment().is_empty() {
            let records = consumer.poll(BRIEFLY).await.expect("records");
            assert!(records.is_empty(), "nothing is to be read");
        }
        if side == Side::Paused {
            let all: Vec<_> = consumer.assignment().into_iter().collect();
            consumer.pause(&all).await.expect("they are its own");
        }
        let producer = producer(&task.bootstrap, &[("linger.ms", "0")], &[client_id]);
        Self { consumer, producer }
    }
}

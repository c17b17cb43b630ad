//! librdkafka, through rust-rdkafka; `batch` through the C interface that comes with it.
//!
//! | `--api` | What it does |
//! |---|---|
//! | `poll` (unless said) | consume: `BaseConsumer::poll`, which returns one message |
//! | `batch` | consume: `rd_kafka_consume_batch_queue`, which returns up to a thousand |
//! | `threaded` (unless said) | produce: `ThreadedProducer`, which serves delivery reports on a thread of its own |
//! | `base` | produce: `BaseProducer`, which serves them on the thread that sends |
//!
//! By default librdkafka neither checks what it reads nor writes idempotently. `--tuned` has checksums on, as every other
//! client does; idempotence stays as it is, because it makes librdkafka no faster.

#![expect(clippy::disallowed_methods, reason = "a bench starts plain threads, and waits")]

mod batch;

use std::{
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use klamm_peers::{
    Calls, Consume, Delays, HEARTBEATS, Idle, Latency, LongPoll, Meter, Produce, Reading, Report, Side, Task, rest,
    run, unsupported,
};
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
    util::get_rdkafka_version,
};

const PATIENCE: Duration = Duration::from_secs(120);
/// Of one call that waits.
const WAIT: Duration = Duration::from_millis(100);
/// Until there is room in a queue that was full.
const ROOM: Duration = Duration::from_millis(1);
/// So many messages are sent between two looks at the reports about earlier ones.
const POLLED_EVERY: usize = 1000;

/// What an expert sets to read much: much is asked for, and the next request leaves long before all is handed out.
const TUNED_READING: [(&str, &str); 7] = [
    // By default 1 MiB: twelve partitions of small messages then share many small answers.
    ("max.partition.fetch.bytes", "4194304"),
    ("fetch.max.bytes", "67108864"),
    // An answer as large as that is not refused.
    ("receive.message.max.bytes", "134217728"),
    // By default 100,000 messages a partition, which an answer of small ones exceeds.
    ("queued.min.messages", "1000000"),
    ("queued.max.messages.kbytes", "262144"),
    // By default a partition whose queue was full once is not fetched from for a whole second.
    ("fetch.queue.backoff.ms", "1"),
    // Off by default.
    ("check.crcs", "true"),
];

/// What an expert sets to write much.
const TUNED_WRITING: [(&str, &str); 3] = [
    // By default 100,000: small messages fill that while requests are on their way.
    ("queue.buffering.max.messages", "1000000"),
    // By default 10,000 a batch, which small messages reach before the size limit.
    ("batch.num.messages", "100000"),
    // By default 5: batches are fuller, and there are fewer.
    ("linger.ms", "20"),
];

fn main() -> ExitCode {
    let (_, version) = get_rdkafka_version();
    run("rdkafka", &version, |task| match task {
        Task::Consume(task) => consume(&task),
        Task::Produce(task) => produce(&task),
        Task::Latency(task) => latency(&task),
        Task::Idle(task) => idle(&task),
        Task::LongPoll(task) => longpoll(&task),
    })
}

// ---- consume ----

fn consume(task: &Consume) -> Report {
    let config = reading_config(&task.bootstrap, &task.topic, task.group, task.tuned);
    let mut reading = Reading::begin(task);
    match task.api.as_deref() {
        None | Some("poll") => {
            let consumer = consumer(&config, &task.topic, task.group);
            poll(&consumer, &mut reading);
            reading.end()
        }
        Some("batch") => {
            let consumer = batch::Consumer::new(&config);
            if task.group {
                let mut topics = TopicPartitionList::new();
                topics.add_partition(&task.topic, -1);
                consumer.subscribe(&topics);
            } else {
                consumer.assign(&from_the_beginning(&task.topic, consumer.partitions(&task.topic)));
            }
            consumer.read(task.messages, |value| reading.see(value));
            reading.end()
        }
        Some(other) => unsupported(&format!("rdkafka has no interface {other:?}")),
    }
}

fn reading_config(bootstrap: &str, topic: &str, group: bool, tuned: bool) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        // Without a name there is no consumer queue; who assigns partitions joins no group by it.
        .set("group.id", format!("peers-{topic}-{}", process::id()))
        .set("auto.offset.reset", "earliest");
    if !group {
        // Nor is there anything to commit.
        config.set("enable.auto.commit", "false");
    }
    if tuned {
        config.extend(TUNED_READING.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    config
}

fn consumer(config: &ClientConfig, topic: &str, group: bool) -> BaseConsumer {
    let consumer: BaseConsumer = config.create().expect("settings that hold");
    if group {
        consumer.subscribe(&[topic]).expect("a topic");
    } else {
        let partitions = partitions_of(&consumer, topic);
        let partitions = from_the_beginning(topic, partitions);
        consumer.assign(&partitions).expect("partitions");
    }
    consumer
}

fn poll(consumer: &BaseConsumer, reading: &mut Reading) {
    loop {
        let Some(message) = consumer.poll(WAIT) else {
            continue;
        };
        if reading.see(message.expect("a message").payload().unwrap_or_default()) {
            return;
        }
    }
}

fn partitions_of(consumer: &BaseConsumer, topic: &str) -> usize {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    metadata.topics().first().map_or(0, |topic| topic.partitions().len())
}

fn from_the_beginning(topic: &str, partitions: usize) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        let added = list.add_partition_offset(topic, partition as i32, Offset::Beginning);
        added.expect("an offset");
    }
    list
}

// ---- produce ----

fn produce(task: &Produce) -> Report {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &task.bootstrap)
        .set("compression.type", task.codec.name());
    if task.tuned {
        config.extend(TUNED_WRITING.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let meter = Meter::new();
    let acknowledged = Acknowledged::default();
    match task.api.as_deref() {
        None | Some("threaded") => {
            let producer = threaded(&config, &acknowledged);
            for value in task.values.cycle().take(task.messages as usize) {
                // The other thread makes room.
                send(
                    |record| producer.send(record),
                    &task.topic,
                    value,
                    || thread::sleep(ROOM),
                );
            }
            producer.flush(PATIENCE).expect("all are handled");
            report(&meter, task, &acknowledged)
        }
        Some("base") => {
            let producer: BaseProducer<Acknowledged> = config
                .create_with_context(acknowledged.clone())
                .expect("settings that hold");
            for (i, value) in task.values.cycle().take(task.messages as usize).enumerate() {
                if i % POLLED_EVERY == 0 {
                    producer.poll(Duration::ZERO);
                }
                send(
                    |record| producer.send(record),
                    &task.topic,
                    value,
                    || producer.poll(ROOM),
                );
            }
            producer.flush(PATIENCE).expect("all are handled");
            report(&meter, task, &acknowledged)
        }
        Some(other) => unsupported(&format!("rdkafka has no interface {other:?}")),
    }
}

type Sent<'a> = BaseRecord<'a, (), [u8]>;

/// Again and again while the queue is full.
fn send<'a>(
    sending: impl Fn(Sent<'a>) -> Result<(), (KafkaError, Sent<'a>)>,
    topic: &'a str,
    value: &'a [u8],
    wait: impl Fn(),
) {
    let mut record = BaseRecord::to(topic).payload(value);
    loop {
        match sending(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => record = refused,
            Err((error, _)) => panic!("{error}"),
        }
        wait();
    }
}

fn threaded(config: &ClientConfig, acknowledged: &Acknowledged) -> ThreadedProducer<Acknowledged> {
    let producer = config.create_with_context(acknowledged.clone());
    producer.expect("settings that hold")
}

fn report(meter: &Meter, task: &Produce, acknowledged: &Acknowledged) -> Report {
    let messages = acknowledged.0.load(Ordering::Acquire);
    assert_eq!(messages, task.messages, "all are in the log");
    meter
        .report(messages, messages * task.values.value_bytes() as u64)
        .with("idempotent", false)
}

/// Counts what is in the log.
#[derive(Clone, Default)]
struct Acknowledged(Arc<AtomicU64>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            panic!("{error}");
        }
        self.0.fetch_add(1, Ordering::Release);
    }
}

// ---- both, and none ----

fn latency(task: &Latency) -> Report {
    let delays = Delays::begin(task);
    let consumer = consumer(
        &reading_config(&task.bootstrap, &task.topic, false, task.tuned),
        &task.topic,
        false,
    );
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &task.bootstrap).set("linger.ms", "0");
    let acknowledged = Acknowledged::default();
    let producer = threaded(&config, &acknowledged);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !consumer.poll(WAIT).is_some_and(|message| {
                let message = message.expect("a message");
                delays.see(message.payload().unwrap_or_default())
            }) {}
        });
        delays.send(|value| {
            send(
                |record| producer.send(record),
                &task.topic,
                value,
                || thread::sleep(ROOM),
            )
        });
    });
    producer.flush(PATIENCE).expect("all are handled");
    delays.end().with("idempotent", false)
}

fn idle(task: &Idle) -> Report {
    let config = reading_config(&task.bootstrap, &task.topic, false, task.tuned);
    let consumer = consumer(&config, &task.topic, false);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(consumer.poll(WAIT).is_none(), "nothing is to be read");
            }
        });
        let report = rest(task);
        done.store(true, Ordering::Relaxed);
        report
    })
}

// ---- beside a long poll ----

fn longpoll(task: &LongPoll) -> Report {
    let members = Side::BOTH.map(|side| Member::join(task, side));
    let member = |side| &members[usize::from(side == Side::Paused)];
    let mut calls = Calls::begin(task);
    while calls.go_on() {
        for side in calls.sides("commit") {
            let Member { consumer, .. } = member(side);
            assert!(consumer.poll(Duration::ZERO).is_none(), "nothing is to be read");
            let mut offsets = consumer.assignment().expect("what it was given");
            offsets.set_all_offsets(Offset::Offset(0)).expect("offsets");
            let committed = calls.time("commit", side, || consumer.commit(&offsets, CommitMode::Sync));
            committed.expect("the coordinator is there");
        }
        for side in calls.sides("metadata") {
            let Member { consumer, .. } = member(side);
            let found = calls.time("metadata", side, || {
                consumer.fetch_metadata(Some(&task.written), PATIENCE)
            });
            assert_eq!(found.expect("metadata").topics().len(), 1);
        }
        for side in calls.sides("produce") {
            let Member { producer, .. } = member(side);
            let written = calls.time("produce", side, || {
                send(
                    |record| producer.send(record),
                    &task.written,
                    b"written",
                    || thread::sleep(ROOM),
                );
                producer.flush(PATIENCE)
            });
            written.expect("it is in the log");
        }
    }
    calls.end()
}

/// A group of one, and a producer: there is no client that both could share.
struct Member {
    consumer: BaseConsumer,
    producer: ThreadedProducer<Acknowledged>,
}

impl Member {
    fn join(task: &LongPoll, side: Side) -> Self {
        let mut config = reading_config(&task.bootstrap, &task.topic, true, false);
        config
            .set("client.id", side.client_id())
            .set("group.id", format!("{}-{}", side.client_id(), task.topic))
            .set("enable.auto.commit", "false")
            .set("heartbeat.interval.ms", HEARTBEATS.as_millis().to_string())
            .set("fetch.wait.max.ms", side.max_wait().as_millis().to_string());
        let consumer = consumer(&config, &task.topic, true);
        let assigned = || consumer.assignment().expect("what it was given");
        while assigned().count() == 0 {
            assert!(consumer.poll(WAIT).is_none(), "nothing is to be read");
        }
        if side == Side::Paused {
            consumer.pause(&assigned()).expect("they are its own");
        }
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &task.bootstrap)
            .set("client.id", side.client_id())
            .set("linger.ms", "0");
        Self {
            producer: threaded(&config, &Acknowledged::default()),
            consumer,
        }
    }
}

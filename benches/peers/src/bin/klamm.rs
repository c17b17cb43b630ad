//! klamm, through its public interface alone. Default settings are meant to be the best: `--tuned` changes nothing.
//!
//! | `--api` | What it does |
//! |---|---|
//! | `messages` (unless said) | consume: the `for` loop over messages |
//! | `batches` | consume: a loop over batches, and one over the messages of each |
//! | `send` (unless said) | produce: `send`, and one `flush` at the end; deliveries are dropped |
//! | `detached` | produce: `send_detached`, and one `flush` at the end |

use std::{process::ExitCode, thread, time::Duration};

use klamm::{AckMode, Client, Compression, Producer, Record, Stream, Topics};
use klamm_peers::{
    Calls, Codec, Consume, Delays, HEARTBEATS, Idle, Latency, LongPoll, Meter, Produce, Reading, Report, Side, Task,
    rest, run, version_of,
};

const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    run("klamm", &version_of("klamm"), |task| match task {
        Task::Consume(task) => consume(&task),
        Task::Produce(task) => produce(&task),
        Task::Latency(task) => latency(&task),
        Task::Idle(task) => idle(&task),
        Task::LongPoll(task) => longpoll(&task),
    })
}

// ---- consume ----

fn consume(task: &Consume) -> Report {
    let mut reading = Reading::begin(task);
    let stream = stream(task);
    match task.api.as_deref() {
        None | Some("messages") => messages(&stream, &mut reading),
        Some("batches") => batches(&stream, &mut reading),
        Some(other) => panic!("klamm has no interface {other:?}"),
    }
    reading.end()
}

fn stream(task: &Consume) -> Stream {
    if task.group {
        let group = format!("peers-{}-{}", task.topic, std::process::id());
        let member = client(&task.bootstrap).group(group).topics([&task.topic]);
        member.join().expect("the topic is there")
    } else {
        reader(&task.bootstrap, &task.topic)
    }
}

/// Begins with the earliest offset, as groups that are new do.
fn reader(bootstrap: &str, topic: &str) -> Stream {
    let reader = client(bootstrap).reader().topics([topic]);
    reader.open().expect("the topic is there")
}

fn messages(stream: &Stream, reading: &mut Reading) {
    for message in stream {
        let message = message.expect("a record");
        if reading.see(message.value().unwrap_or_default()) {
            return;
        }
    }
}

fn batches(stream: &Stream, reading: &mut Reading) {
    for batch in stream.batches() {
        for message in batch.expect("a batch") {
            let message = message.expect("a record");
            if reading.see(message.value().unwrap_or_default()) {
                return;
            }
        }
    }
}

// ---- produce ----

fn produce(task: &Produce) -> Report {
    let meter = Meter::new();
    let producer = producer(&task.bootstrap, task.codec);
    let send: fn(&Producer, Record<'_>) -> klamm::Result<()> = match task.api.as_deref() {
        None | Some("send") => |producer, record| producer.send(record).map(drop),
        Some("detached") => Producer::send_detached,
        Some(other) => panic!("klamm has no interface {other:?}"),
    };
    for value in task.values.cycle().take(task.messages as usize) {
        send(&producer, Record::to(&task.topic).value(value)).expect("there is room");
    }
    producer.flush(PATIENCE).expect("all are in the log");
    meter
        .report(task.messages, task.messages * task.values.value_bytes() as u64)
        .with("idempotent", true)
}

fn producer(bootstrap: &str, codec: Codec) -> Producer {
    let codec = match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    };
    let producer = client(bootstrap).producer().compression(codec);
    producer.build().expect("settings that hold")
}

// ---- both, and none ----

fn latency(task: &Latency) -> Report {
    let delays = Delays::begin(task);
    let stream = reader(&task.bootstrap, &task.topic);
    let producer = client(&task.bootstrap).producer().linger(Duration::ZERO);
    let producer = producer.build().expect("settings that hold");
    thread::scope(|scope| {
        scope.spawn(|| {
            for message in &stream {
                let message = message.expect("a record");
                if delays.see(message.value().unwrap_or_default()) {
                    return;
                }
            }
        });
        delays.send(|value| {
            let record = Record::to(&task.topic).value(value);
            drop(producer.send(record).expect("there is room"));
        });
    });
    producer.flush(PATIENCE).expect("all are in the log");
    delays.end().with("idempotent", true)
}

fn idle(task: &Idle) -> Report {
    let _stream = reader(&task.bootstrap, &task.topic);
    rest(task)
}

// ---- beside a long poll ----

/// One is acked and committed in each turn: more than there is time for.
const TO_COMMIT: usize = 20_000;

fn longpoll(task: &LongPoll) -> Report {
    let producer = producer(&task.bootstrap, Codec::None);
    for _ in 0..TO_COMMIT {
        let record = Record::to(&task.topic).partition(0).value(b"to be acked");
        producer.send_detached(record).expect("there is room");
    }
    producer.flush(PATIENCE).expect("all are in the log");
    let members = Side::BOTH.map(|side| Member::join(task, side));
    let member = |side| &members[usize::from(side == Side::Paused)];
    let mut calls = Calls::begin(task);
    for offset in 0..TO_COMMIT as i64 {
        if !calls.go_on() {
            break;
        }
        for side in calls.sides("commit") {
            let Member { stream, .. } = member(side);
            stream.ack_through(&task.topic, 0, offset).expect("it was given out");
            let committed = calls.time("commit", side, || stream.commit(PATIENCE));
            committed.expect("the coordinator is there");
        }
        for side in calls.sides("metadata") {
            let topics = Topics::named([&task.written]);
            let found = calls.time("metadata", side, || member(side).client.metadata(topics));
            assert_eq!(found.expect("the broker is there").topics.len(), 1);
        }
        for side in calls.sides("produce") {
            let record = Record::to(&task.written).value(b"written");
            let written = calls.time("produce", side, || {
                member(side).producer.send(record).and_then(|sent| sent.wait(PATIENCE))
            });
            written.expect("it is in the log");
        }
    }
    calls.end()
}

/// A group of one, and a producer of the same client.
struct Member {
    client: Client,
    stream: Stream,
    producer: Producer,
}

impl Member {
    /// Reads all there is, so that nothing happens from then on, and acks nothing of it.
    fn join(task: &LongPoll, side: Side) -> Self {
        let client = Client::builder()
            .bootstrap(&task.bootstrap)
            .client_id(side.client_id())
            .connect()
            .expect("the broker is there");
        let stream = client
            .group(format!("{}-{}", side.client_id(), task.topic))
            .topics([&task.topic])
            .ack_mode(AckMode::Explicit)
            .commit_interval(None)
            .heartbeat_interval(HEARTBEATS)
            .max_wait(side.max_wait())
            .join()
            .expect("the topic is there");
        for message in stream.iter().take(TO_COMMIT) {
            drop(message.expect("a record"));
        }
        if side == Side::Paused {
            stream.pause(stream.assignment()).expect("they are its own");
        }
        let producer = client.producer().linger(Duration::ZERO);
        Self {
            producer: producer.build().expect("settings that hold"),
            stream,
            client,
        }
    }
}

fn client(bootstrap: &str) -> Client {
    Client::connect(bootstrap).expect("the broker is there")
}

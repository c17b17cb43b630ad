//! What is measured: klamm as programs use it.

use std::{hint::black_box, time::Duration};

use klamm::{Client, Delivery, Producer, Record, Result, Stream};

use crate::{broker::VALUE_BYTES, liar::TOPIC, values::noise};

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) run: fn(bootstrap: &str, records: usize),
}

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "batches",
        run: batches,
    },
    Workload {
        name: "loop",
        run: |bootstrap, records| messages(&reader(bootstrap), records),
    },
    Workload {
        name: "group",
        run: |bootstrap, records| messages(&member(bootstrap), records),
    },
    Workload {
        name: "send",
        run: send,
    },
    Workload {
        name: "send-with",
        run: send_with,
    },
    Workload {
        name: "send-kept",
        run: send_kept,
    },
];

impl Workload {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        WORKLOADS.iter().find(|workload| workload.name == name)
    }
}

// ---- reading ----

fn reader(bootstrap: &str) -> Stream {
    let reader = client(bootstrap).reader().topics([TOPIC]);
    reader.open().expect("the topic is there")
}

fn member(bootstrap: &str) -> Stream {
    let group = client(bootstrap).group("bench").topics([TOPIC]);
    group.join().expect("the topic is there")
}

fn messages(stream: &Stream, records: usize) {
    let (mut seen, mut bytes) = (0, 0);
    for message in stream {
        let message = message.expect("a record");
        bytes += black_box(message.value()).map_or(0, <[u8]>::len);
        seen += 1;
        if seen == records {
            break;
        }
    }
    assert_eq!(bytes, records * VALUE_BYTES, "all values were seen");
}

fn batches(bootstrap: &str, records: usize) {
    let stream = reader(bootstrap);
    let (mut seen, mut bytes) = (0, 0);
    for batch in stream.batches() {
        for message in batch.expect("a batch") {
            bytes += black_box(message.expect("a record").value()).map_or(0, <[u8]>::len);
            seen += 1;
        }
        if seen == records {
            break;
        }
    }
    assert_eq!(bytes, records * VALUE_BYTES, "all values were seen");
}

// ---- writing ----

const PATIENCE: Duration = Duration::from_secs(300);

/// Batches leave when they are full: how many records have come within a time depends on the machine.
fn producer(bootstrap: &str) -> Producer {
    let producer = client(bootstrap)
        .producer()
        .linger(PATIENCE)
        .delivery_timeout(2 * PATIENCE);
    let producer = producer.batch_bytes(64 << 10).build();
    producer.expect("settings that hold")
}

fn send(bootstrap: &str, records: usize) {
    let (producer, value) = (producer(bootstrap), noise(0, VALUE_BYTES));
    for _ in 0..records {
        producer.send(record(&value)).expect("there is room");
    }
    producer.flush(PATIENCE).expect("all are in the log");
}

fn send_with(bootstrap: &str, records: usize) {
    let (producer, value) = (producer(bootstrap), noise(0, VALUE_BYTES));
    for _ in 0..records {
        let sent = producer.send_with(record(&value), |outcome| {
            black_box(outcome.expect("it is in the log").offset);
        });
        sent.expect("there is room");
    }
    producer.flush(PATIENCE).expect("all are in the log");
}

fn send_kept(bootstrap: &str, records: usize) {
    let (producer, value) = (producer(bootstrap), noise(0, VALUE_BYTES));
    let sent = (0..records).map(|_| producer.send(record(&value)));
    let sent: Result<Vec<Delivery>> = sent.collect();
    for delivery in sent.expect("there is room") {
        black_box(delivery.wait(PATIENCE).expect("it is in the log").offset);
    }
}

fn record(value: &[u8]) -> Record<'_> {
    Record::to(TOPIC).value(value)
}

fn client(bootstrap: &str) -> Client {
    let client = Client::builder().bootstrap(bootstrap);
    // Everything is slower under valgrind.
    let client = client.connect_timeout(PATIENCE).request_timeout(PATIENCE);
    client.connect().expect("the broker is there")
}

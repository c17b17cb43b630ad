//! klamm's producer as programs use it, with default settings but for the codec.

use std::{collections::VecDeque, hint::black_box, thread, time::Duration};

use klamm::{Client, Compression, Delivery, Producer, Record};

use super::load::Load;

const PATIENCE: Duration = Duration::from_secs(60);
/// Of deliveries: enough that batches fill up while a program waits for the older half.
const WINDOW: usize = 100_000;

/// Sends, and asks at the end whether all is well.
pub(crate) fn detached(load: &Load, bootstrap: &str, topic: &str) -> Producer {
    let producer = producer(load, bootstrap);
    for record in load.from(0).take(load.records) {
        drop(send(&producer, topic, record));
    }
    producer.flush(PATIENCE).expect("all are in the log");
    producer
}

/// Looks at each delivery.
pub(crate) fn waiting(load: &Load, bootstrap: &str, topic: &str) -> Producer {
    let producer = producer(load, bootstrap);
    let mut window = VecDeque::with_capacity(WINDOW);
    let check = |delivery: Delivery| {
        let written = delivery.wait(PATIENCE).expect("it is in the log");
        black_box(written.offset);
    };
    for record in load.from(0).take(load.records) {
        if window.len() == WINDOW {
            window.drain(..WINDOW / 2).for_each(check);
        }
        window.push_back(send(&producer, topic, record));
    }
    window.drain(..).for_each(check);
    producer
}

/// The same producer on many threads.
pub(crate) fn threads(count: usize, load: &Load, bootstrap: &str, topic: &str) -> Producer {
    let producer = producer(load, bootstrap);
    thread::scope(|scope| {
        for thread in 0..count {
            let mine = load.records / count + usize::from(thread < load.records % count);
            let producer = &producer;
            scope.spawn(move || {
                for record in load.from(thread * 1000).take(mine) {
                    drop(send(producer, topic, record));
                }
            });
        }
    });
    producer.flush(PATIENCE).expect("all are in the log");
    producer
}

fn producer(load: &Load, bootstrap: &str) -> Producer {
    let client = Client::connect(bootstrap).expect("the broker is there");
    let codec = match load.workload.codec {
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::None,
    };
    client
        .producer()
        .compression(codec)
        .build()
        .expect("settings that hold")
}

fn send(producer: &Producer, topic: &str, (key, value): (Option<&[u8]>, &[u8])) -> Delivery {
    let record = Record::to(topic).maybe_key(key).value(value);
    producer.send(record).expect("there is room")
}

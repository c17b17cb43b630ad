//! The floor: what each task costs when nothing is done but what must be done. Bare loops over one socket, the same that
//! klamm's own benches race against.

#![expect(clippy::disallowed_methods, reason = "a bench starts plain threads")]

#[path = "../../../bare/mod.rs"]
mod bare;
#[path = "../../../produce/load.rs"]
mod load;
#[path = "../../../throughput/floor.rs"]
mod reads;
#[path = "../../../values/mod.rs"]
mod values;
#[path = "../../../produce/floor.rs"]
#[expect(dead_code, reason = "its own bench looks for the best size")]
mod writes;

use std::{process::ExitCode, thread};

use klamm_peers::{Consume, Delays, Idle, Latency, Meter, Produce, Reading, Report, Task, rest, run, unsupported};
use load::{Load, Workload};

fn main() -> ExitCode {
    run("floor", "", |task| match task {
        Task::Consume(task) => consume(&task),
        Task::Produce(task) => produce(task),
        Task::Latency(task) => latency(&task),
        Task::Idle(task) => idle(task),
        Task::LongPoll(_) => unsupported("there is nothing of a client in it that could wait"),
    })
}

fn consume(task: &Consume) -> Report {
    let mut reading = Reading::begin(task);
    reads::read(&task.bootstrap, &task.topic, |value| reading.see(value));
    reading.end()
}

/// Requests are made before the clock starts.
fn produce(task: Produce) -> Report {
    let partitions = bare::Connection::new(&task.bootstrap).partitions(&task.topic);
    let value_bytes = task.values.value_bytes();
    let workload = Box::leak(Box::new(Workload::of(partitions, value_bytes, task.codec.name())));
    let load = Load::of(workload, task.messages as usize, task.values.into_bytes());
    let requests = writes::prepare(&load, &task.topic, writes::Size::named("best", workload));
    let meter = Meter::new();
    let _connection = requests.write(&task.bootstrap, &task.topic);
    meter
        .report(task.messages, task.messages * value_bytes as u64)
        .with("idempotent", false)
}

fn latency(task: &Latency) -> Report {
    let delays = Delays::begin(task);
    let Latency { bootstrap, topic, .. } = task;
    thread::scope(|scope| {
        scope.spawn(|| reads::read(bootstrap, topic, |value| delays.see(value)));
        delays.send(writes::writer(bootstrap, topic, false));
    });
    delays.end().with("idempotent", false)
}

fn idle(task: Idle) -> Report {
    let Idle { bootstrap, topic, .. } = task.clone();
    thread::spawn(move || reads::read(&bootstrap, &topic, |_| panic!("the topic is not empty")));
    rest(&task)
}

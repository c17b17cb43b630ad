//! Reading through trouble: brokers that die, freeze or lose data, connections that break, topics that go away, programs
//! that are slow; and nothing is left behind.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests measure time, and play the programs that use klamm: with threads of their own"
)]

mod cuts;
mod gone;
mod idle;
mod leaders;
mod leaks;
mod lifecycle;
mod memory;
mod outage;
mod parked;
mod range;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use klamm::{Client, Event, Message, Next, Stream};

use crate::support;

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(90);

const FETCH: i16 = 1;
const METADATA: i16 = 3;

fn connect(bootstrap: &str) -> Client {
    Client::connect(bootstrap).expect("a broker is there")
}

/// Checks that what is read is what [`fill`](crate::support::Kafka::fill) wrote: every record, once, in order.
#[derive(Default)]
struct Order {
    next: BTreeMap<i32, i64>,
    count: usize,
}

impl Order {
    /// In a topic of fills alone, the number within the partition is the offset.
    fn take(&mut self, message: &Message) {
        let (partition, offset) = (message.partition(), message.offset());
        let next = self.next.entry(partition).or_default();
        assert_eq!(
            offset, *next,
            "partition {partition}: read {offset} where {next} is next"
        );
        assert_eq!(
            number(message),
            offset,
            "partition {partition}: another record than was written"
        );
        *next += 1;
        self.count += 1;
    }
}

/// The number that a fill gave this record.
fn number(message: &Message) -> i64 {
    let value = message.value().expect("fills write values");
    let text = std::str::from_utf8(value).expect("fills write text");
    let mut words = text.split(':');
    assert_eq!(words.next(), Some(message.partition().to_string().as_str()), "{text:?}");
    words.next().and_then(|word| word.parse().ok()).expect("a number")
}

/// The next message, which must come before long. It counts as done: the next iterator goes on behind it.
#[track_caller]
fn next(stream: &Stream) -> Message {
    match stream.iter().next_timeout(LONG) {
        Ok(Next::Message(message)) => {
            message.ack();
            message
        }
        other => panic!("no message but {other:?}; health {:?}", stream.health()),
    }
}

/// Reads so many messages, as text. The last one counts as done.
#[track_caller]
fn texts(stream: &Stream, count: usize) -> Vec<String> {
    let mut iter = stream.iter();
    let mut texts = Vec::new();
    while texts.len() < count {
        match iter.next_timeout(LONG) {
            Ok(Next::Message(message)) => {
                message.ack();
                texts.push(String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned());
            }
            other => panic!(
                "after {texts:?}: no message but {other:?}; health {:?}",
                stream.health()
            ),
        }
    }
    texts
}

/// Collects events until one is what is waited for; returns that one.
#[track_caller]
fn wait_for_event<T>(stream: &Stream, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    let events = stream.events();
    let mut others = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match events.next_timeout(left) {
            Some(event) => match wanted(&event) {
                Some(found) => return found,
                None => others.push(event),
            },
            None => panic!("no event {what}, but {others:?}; health {:?}", stream.health()),
        }
    }
}

/// All events that wait.
fn drain(stream: &Stream) -> Vec<Event> {
    std::iter::from_fn(|| stream.events().try_next()).collect()
}

/// Runs this very test again in a process of its own: for tests that count what a process has. The test's name is its path
/// in this folder.
fn alone(test: &str, given: &str) -> Option<String> {
    support::alone(&format!("trouble::{test}"), given)
}

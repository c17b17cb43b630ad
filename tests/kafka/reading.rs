//! What the tests of reading have in common.

use std::time::Duration;

use klamm::{Client, Iter, Message, Next, OwnedMessage, ReaderBuilder, Stream, TopicPartition};

use crate::support::{shared, unique};

/// Longer than anything takes that works.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// Long enough that records which are there would have come.
pub(crate) const MOMENT: Duration = Duration::from_millis(700);

/// A client of the shared broker.
pub(crate) fn client() -> Client {
    Client::connect(&shared().bootstrap()).expect("the shared broker answers")
}

/// A new topic on the shared broker.
pub(crate) fn topic(name: &str, partitions: usize, configs: &[(&str, &str)]) -> String {
    let topic = unique(name);
    shared().create_topic(&topic, partitions, configs);
    topic
}

/// A reader of one topic.
pub(crate) fn reader(client: &Client, topic: &str) -> ReaderBuilder {
    client.reader().topics([topic])
}

/// The next message, which must come.
#[track_caller]
pub(crate) fn next(iter: &mut Iter<'_>) -> Message {
    match iter.next_timeout(LONG).expect("no error") {
        Next::Message(message) => message,
        other => panic!("a message, and not {other:?}"),
    }
}

/// Everything up to the end of a stream that was built with `until_end`.
#[track_caller]
pub(crate) fn to_end(stream: &Stream) -> Vec<OwnedMessage> {
    let mut iter = stream.iter();
    let mut all = Vec::new();
    loop {
        match iter.next_timeout(LONG).expect("no error") {
            Next::Message(message) => all.push(message.detach()),
            Next::Ended => return all,
            other => panic!("neither a message nor the end after {} messages: {other:?}", all.len()),
        }
    }
}

/// Nothing comes, though the iterator waits for a moment.
#[track_caller]
pub(crate) fn assert_silent(iter: &mut Iter<'_>) {
    let next = iter.next_timeout(MOMENT).expect("no error");
    assert!(matches!(next, Next::TimedOut), "nothing was to come: {next:?}");
}

/// Waits with the iterator until the stream says that it is not behind; nothing may come meanwhile.
#[track_caller]
pub(crate) fn assert_lag_becomes_0(stream: &Stream, iter: &mut Iter<'_>) {
    crate::support::wait_until("a lag of 0", LONG, || {
        let next = iter.next_timeout(Duration::from_millis(50)).expect("no error");
        assert!(matches!(next, Next::TimedOut), "everything had come before: {next:?}");
        let lag = stream.lag().expect("the stream is open");
        assert_eq!(lag.len(), stream.assignment().len());
        lag.values().all(|&lag| lag == 0)
    });
}

/// Where the stream stands in one partition.
#[track_caller]
pub(crate) fn position(stream: &Stream, topic: &str, partition: i32) -> i64 {
    let name = TopicPartition::new(topic, partition);
    stream.position([&name]).expect("a partition of the stream")[&name]
}

/// A value as text.
pub(crate) fn text(value: Option<&[u8]>) -> String {
    String::from_utf8(value.expect("a value").to_vec()).expect("text")
}

/// Offset and value of each.
pub(crate) fn numbered(messages: &[OwnedMessage]) -> Vec<(i64, String)> {
    messages
        .iter()
        .map(|message| (message.offset(), text(message.value())))
        .collect()
}

/// Offsets.
pub(crate) fn offsets(messages: &[OwnedMessage]) -> Vec<i64> {
    messages.iter().map(OwnedMessage::offset).collect()
}

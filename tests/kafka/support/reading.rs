//! A program that reads.

use std::time::Duration;

use klamm::{Message, Next, Stream};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(90);

/// Reads so many messages, each acked; of each, what `keep` says.
#[track_caller]
pub fn take<T>(stream: &Stream, count: usize, keep: impl Fn(&Message) -> T) -> Vec<T> {
    let mut iter = stream.iter();
    let mut taken = Vec::new();
    while taken.len() < count {
        match iter.next_timeout(LONG) {
            Ok(Next::Message(message)) => {
                taken.push(keep(&message));
                message.ack();
            }
            other => panic!(
                "after {} of {count}: {other:?}; health {:?}",
                taken.len(),
                stream.health()
            ),
        }
    }
    taken
}

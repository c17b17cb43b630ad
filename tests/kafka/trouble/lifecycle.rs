//! Every way in which a stream may end, and who is woken by it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use klamm::{ErrorKind, Next, StartAt, Stream};

use super::{LONG, connect, next, texts};
use crate::support::{shared, unique};

/// What waits for nothing takes; on a busy machine ten times what it should.
const SOON: Duration = Duration::from_secs(1);

fn topic(partitions: usize, records: usize) -> String {
    let topic = unique("life");
    shared().create_topic(&topic, partitions, &[]);
    shared().fill(&topic, partitions, records, "none", 10);
    topic
}

/// Has read everything and waits in the broker for more, for ten seconds.
fn parked(topic: &str, records: usize) -> Stream {
    let client = connect(&shared().bootstrap());
    let stream = client
        .reader()
        .topics([topic])
        .max_wait(Duration::from_secs(10))
        .open()
        .unwrap();
    texts(&stream, records);
    std::thread::sleep(Duration::from_millis(300));
    stream
}

#[test]
fn a_close_does_not_wait_for_a_long_poll() {
    let topic = topic(5, 5);
    let mut longest = Duration::ZERO;
    for is_dropped in [false, true, false, true] {
        let stream = parked(&topic, 5);
        let begun = Instant::now();
        if is_dropped {
            drop(stream);
        } else {
            assert!(stream.close(LONG).unwrap().unread.is_empty());
        }
        longest = longest.max(begun.elapsed());
    }
    println!("closed during a long poll in {longest:?}");
    assert!(longest < SOON, "{longest:?}");
}

#[test]
fn a_close_tells_what_was_not_read() {
    let topic = topic(1, 100);
    let client = connect(&shared().bootstrap());
    let stream = client.reader().topics([&topic]).open().unwrap();
    texts(&stream, 10);
    let report = stream.close(LONG).unwrap();
    assert_eq!(report.unread, [((&topic, 0).into(), 10)]);
}

#[test]
fn a_closer_wakes_iterators_in_every_thread() {
    let topic = topic(3, 3);
    let stream = parked(&topic, 3);
    let closer = stream.closer();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| stream.iter().next().is_none())).collect();
        let batches = scope.spawn(|| stream.batches().next().is_none());
        let events = scope.spawn(|| stream.events().last().is_some());
        let timed = scope.spawn(|| matches!(stream.iter().next_timeout(LONG), Ok(Next::Ended)));
        std::thread::sleep(Duration::from_millis(200));
        let begun = Instant::now();
        let elsewhere = scope.spawn(move || {
            closer.close();
            closer.close();
        });
        elsewhere.join().unwrap();
        for thread in waiting.into_iter().chain([batches, events, timed]) {
            assert!(thread.join().unwrap());
        }
        println!("iterators ended {:?} after a Closer's close", begun.elapsed());
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    });
    assert_eq!(
        stream.seek((&topic, 0), StartAt::Earliest).unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(stream.pause([(&topic, 0)]).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(stream.position([(&topic, 0)]).unwrap_err().kind(), ErrorKind::Closed);
    assert!(stream.iter().next().is_none());
    stream.close(LONG).unwrap();
}

#[test]
fn a_panic_in_the_loop_ends_the_stream_and_nothing_else() {
    let topic = topic(3, 300);
    let client = connect(&shared().bootstrap());
    let begun = Instant::now();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let stream = client
            .reader()
            .topics([&topic])
            .max_wait(Duration::from_secs(10))
            .open()
            .unwrap();
        for (count, message) in (&stream).into_iter().enumerate() {
            assert!(message.is_ok());
            assert!(count < 10, "as planned");
        }
    }));
    assert!(panicked.is_err());
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    let owned = catch_unwind(AssertUnwindSafe(|| {
        let stream = client.reader().topics([&topic]).open().unwrap();
        for message in stream {
            assert!(message.unwrap().offset() < 5, "as planned");
        }
    }));
    assert!(owned.is_err());
    let stream = client.reader().topics([&topic]).open().unwrap();
    texts(&stream, 300);
}

/// One thread panics with a message in hand: another gets that message, and all the others.
#[test]
fn a_panic_in_one_of_several_threads_loses_nothing() {
    let topic = topic(1, 100);
    let client = connect(&shared().bootstrap());
    let stream = client.reader().topics([&topic]).open().unwrap();
    let panicked = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            for message in &stream {
                assert!(message.unwrap().offset() < 5, "as planned");
            }
        });
        thread.join().is_err()
    });
    assert!(panicked);
    let message = next(&stream);
    assert_eq!(message.offset(), 5);
}

#[test]
fn closing_the_client_ends_its_streams() {
    let topic = topic(3, 3);
    let client = connect(&shared().bootstrap());
    let open = || {
        client
            .reader()
            .topics([&topic])
            .max_wait(Duration::from_secs(10))
            .open()
            .unwrap()
    };
    let (one, two) = (open(), open());
    texts(&one, 3);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| one.iter().next().is_none());
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        client.close(LONG).unwrap();
        assert!(waiting.join().unwrap());
        println!("a client's close took {:?}", begun.elapsed());
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    });
    assert!(two.iter().next().is_none(), "closed before it was read");
    let begun = Instant::now();
    one.close(LONG).unwrap();
    drop(two);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(
        client.reader().topics([&topic]).open().unwrap_err().kind(),
        ErrorKind::Closed
    );
    client.close(LONG).unwrap();
}

#[test]
fn a_stream_outlives_its_client() {
    let topic = topic(1, 10);
    let client = connect(&shared().bootstrap());
    let stream = client.reader().topics([&topic]).open().unwrap();
    drop(client);
    texts(&stream, 10);
    shared().java_writes(&topic, 0, &["later"]);
    assert_eq!(texts(&stream, 1), ["later"]);
    stream.seek((&topic, 0), StartAt::Earliest).unwrap();
    assert_eq!(next(&stream).offset(), 0);
}

/// Messages may be held for longer than anything they came from.
#[test]
fn a_message_outlives_its_stream() {
    let topic = topic(1, 10);
    let message = next(&connect(&shared().bootstrap()).reader().topics([&topic]).open().unwrap());
    assert!(message.value().unwrap().starts_with(b"0:0:"));
    drop(message.detach());
}

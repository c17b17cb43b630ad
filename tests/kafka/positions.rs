//! Where reading starts, where it stands, and moving it elsewhere.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use klamm::{Client, ErrorKind, Event, Next, StartAt, Stream, TopicPartition};

use crate::reading::{
    LONG, assert_lag_becomes_0, assert_silent, client, next, offsets, position, reader, text, to_end, topic,
};
use crate::support::shared;

/// Old records must stay.
const FOR_EVER: (&str, &str) = ("retention.ms", "-1");

#[test]
fn a_time_means_the_first_record_that_is_as_new() {
    let topic = topic("times", 1, &[FOR_EVER]);
    let client = client();
    for (time, wanted) in [(0, None), (13, None)] {
        assert_time(&client, &topic, time, wanted, 0);
    }
    shared().java_writes_at(&topic, 0, &[10, 20]);
    shared().java_writes_at(&topic, 0, &[20, 30]);
    for (time, wanted) in [(5, 0), (10, 0), (13, 1), (20, 1), (21, 3), (30, 3)] {
        assert_time(&client, &topic, time, Some(wanted), 4);
    }
    assert_time(&client, &topic, 31, None, 4);
}

#[test]
fn times_out_of_order_mean_the_first_record_in_the_log_that_is_as_new() {
    let topic = topic("disorder", 1, &[FOR_EVER]);
    let times = [50, 10, 40, 20, 60, 30, 30, 70, 5];
    shared().java_writes_at(&topic, 0, &times[..4]);
    for time in &times[4..] {
        shared().java_writes_at(&topic, 0, &[*time]);
    }
    let client = client();
    for time in [0, 5, 6, 10, 41, 50, 51, 60, 61, 70, 71] {
        let wanted = times.iter().position(|&written| written >= time);
        assert_time(&client, &topic, time, wanted.map(|at| at as i64), times.len() as i64);
    }
}

#[test]
fn an_age_is_counted_back_from_now_by_the_records_own_times() {
    let topic = topic("ages", 1, &[FOR_EVER]);
    let now = milliseconds(SystemTime::now());
    let hour = 3_600_000;
    shared().java_writes_at(&topic, 0, &[now - 3 * hour, now - 2 * hour, now - hour]);
    let client = client();
    // Half an hour more, so that no test is too slow.
    let hours = |count: u64| StartAt::Ago(Duration::from_secs(count * 3600 + 1800));
    for (ago, wanted) in [(3, 0), (2, 1), (1, 2), (0, 3)] {
        assert_start(&client, &topic, hours(ago), wanted, 3);
    }
    assert_start(&client, &topic, StartAt::Ago(Duration::ZERO), 3, 3);
    assert_start(&client, &topic, StartAt::Ago(Duration::MAX), 0, 3);
}

#[test]
fn the_broker_s_times_serve_as_well() {
    let topic = topic("broker-times", 1, &[("message.timestamp.type", "LogAppendTime")]);
    for value in ["a", "b", "c"] {
        shared().java_writes(&topic, 0, &[value]);
    }
    let seen = shared().java_reads(&topic, 3);
    let client = client();
    for record in &seen {
        let wanted = seen.iter().find(|other| other.timestamp >= record.timestamp);
        let wanted = wanted.map(|other| other.offset);
        assert_time(&client, &topic, record.timestamp, wanted, 3);
    }
    assert_time(&client, &topic, seen[0].timestamp - 60_000, Some(0), 3);
    assert_time(&client, &topic, seen[2].timestamp + 60_000, None, 3);
}

#[test]
fn earliest_latest_and_an_offset_start_where_they_say() {
    let topic = topic("starts", 1, &[]);
    shared().fill(&topic, 1, 50, "gzip", 10);
    let client = client();
    for (start, wanted) in [
        (StartAt::Earliest, 0),
        (StartAt::Offset(0), 0),
        (StartAt::Offset(17), 17),
        (StartAt::Offset(49), 49),
        (StartAt::Offset(50), 50),
        (StartAt::Latest, 50),
    ] {
        assert_start(&client, &topic, start, wanted, 50);
    }
    let stream = reader(&client, &topic)
        .start_at(StartAt::Latest)
        .open()
        .expect("a topic");
    assert_eq!(position(&stream, &topic, 0), 50);
    shared().java_writes(&topic, 0, &["new"]);
    assert_eq!(next(&mut stream.iter()).offset(), 50);
    for bad in [
        StartAt::Offset(-1),
        StartAt::Timestamp(UNIX_EPOCH - Duration::from_secs(1)),
    ] {
        let error = reader(&client, &topic).start_at(bad).open().expect_err("no such place");
        assert_eq!(error.kind(), ErrorKind::Config);
        let error = stream.seek((&topic, 0), bad).expect_err("no such place");
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}

#[test]
fn an_empty_topic_and_one_with_a_single_record_leave_no_lag() {
    let topic = topic("single", 1, &[]);
    let client = client();
    let empty = reader(&client, &topic).until_end().open().expect("a topic");
    assert!(to_end(&empty).is_empty());

    let stream = reader(&client, &topic).open().expect("a topic");
    let mut iter = stream.iter();
    assert_eq!(position(&stream, &topic, 0), 0);
    assert_lag_becomes_0(&stream, &mut iter);
    shared().java_writes(&topic, 0, &["only"]);
    assert_eq!(next(&mut iter).offset(), 0);
    assert_lag_becomes_0(&stream, &mut iter);
    assert_eq!(position(&stream, &topic, 0), 1);

    let ending = reader(&client, &topic).until_end().open().expect("a topic");
    assert_eq!(offsets(&to_end(&ending)), [0]);
    let behind = reader(&client, &topic)
        .start_at(StartAt::Offset(1))
        .until_end()
        .open()
        .expect("a topic");
    assert!(to_end(&behind).is_empty());
}

#[test]
fn lag_tells_how_much_is_left() {
    let topic = topic("lag", 2, &[]);
    shared().fill(&topic, 2, 200, "none", 10);
    let stream = reader(&client(), &topic).open().expect("a topic");
    let lag = |stream: &Stream| stream.lag().expect("an open stream");
    let whole = lag(&stream);
    assert_eq!(whole.len(), 2);
    assert!(whole.values().all(|&lag| lag == 100), "{whole:?}");
    let mut iter = stream.iter();
    let (mut read, mut in_hand) = ([0, 0], None);
    for _ in 0..150 {
        let message = next(&mut iter);
        read[message.partition() as usize] += 1;
        in_hand = Some(message);
    }
    drop(in_hand);
    let left = lag(&stream);
    for partition in 0..2 {
        let name = TopicPartition::new(&topic, partition);
        let read = read[partition as usize];
        assert_eq!(left[&name], 100 - read as u64);
        assert_eq!(position(&stream, &topic, partition), read);
    }
}

#[test]
fn the_first_record_after_a_seek_is_its_target_however_much_was_on_its_way() {
    let topic = topic("seeks", 2, &[]);
    let last = 60_000;
    shared().fill(&topic, 2, 2 * last as usize, "lz4", 30);
    let client = client();
    // Small windows are always full, with a Fetch that waits for room or for new records; with large ones the seek
    // comes while much is being decoded.
    let small = reader(&client, &topic)
        .prefetch_bytes(40_000)
        .partition_max_bytes(20_000);
    seek_at_random(&small.open().expect("a topic"), &topic, last);
    seek_at_random(&reader(&client, &topic).open().expect("a topic"), &topic, last);
}

fn seek_at_random(stream: &Stream, topic: &str, last: i64) {
    let mut iter = stream.iter();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut other = 0;
    for seek in 0..500 {
        // Now and then to the end, where the broker holds the Fetch, and to what lies in hand.
        let target = match random.below(10) {
            0 => last - 1,
            1 => (position(stream, topic, 0) + 1).min(last - 1),
            2 => position(stream, topic, 0).saturating_sub(5).max(0),
            _ => random.below(last),
        };
        stream
            .seek((&topic, 0), StartAt::Offset(target))
            .expect("an open stream");
        let mut wanted = target;
        // At least the target, and sometimes so many that further chunks come.
        let end = match random.below(20) {
            0 => target + 3000,
            _ => target + 1 + random.below(5),
        };
        while wanted < end.min(last) {
            let message = next(&mut iter);
            if message.partition() == 1 {
                assert_eq!(message.offset(), other, "the other partition goes on undisturbed");
                other += 1;
                continue;
            }
            assert_eq!(message.offset(), wanted, "seek {seek} to {target}");
            assert!(message.is_current());
            wanted += 1;
        }
    }
}

#[test]
fn seeks_from_another_thread_are_obeyed_by_all_iterators() {
    let topic = topic("far-seeks", 1, &[]);
    let last = 60_000;
    shared().fill(&topic, 1, last as usize, "none", 30);
    let stream = reader(&client(), &topic)
        .prefetch_bytes(40_000)
        .partition_max_bytes(20_000)
        .open()
        .expect("a topic");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    // What comes next. Held while seeking, so that no message is judged in between.
    let wanted = Mutex::new((0, 0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for message in &stream {
                    let message = message.expect("nothing fails");
                    let mut wanted = wanted.lock().expect("no thread has failed");
                    if message.is_current() {
                        assert_eq!(message.offset(), wanted.0);
                        assert!(message.ack());
                        *wanted = (wanted.0 + 1, wanted.1 + 1);
                    } else {
                        assert!(!message.ack(), "from before the seek");
                    }
                }
            });
        }
        let _closed_also_when_this_fails = CloseOnDrop(stream.closer());
        for seek in 0..1000 {
            let target = random.below(last - 50);
            {
                let mut wanted = wanted.lock().expect("no thread has failed");
                stream
                    .seek((&topic, 0), StartAt::Offset(target))
                    .expect("an open stream");
                *wanted = (target, 0);
                // Nobody can get beyond the first message now.
                let stands = position(&stream, &topic, 0);
                assert!(
                    [target, target + 1].contains(&stands),
                    "seek {seek} to {target}: {stands}"
                );
            }
            let enough = random.below(50);
            crate::support::wait_until(&format!("messages after seek {seek}"), LONG, || {
                wanted.lock().expect("no thread has failed").1 >= enough
            });
        }
    });
}

#[test]
fn a_seek_may_name_a_time_or_an_end() {
    let topic = topic("seek-kinds", 1, &[FOR_EVER]);
    let times: Vec<i64> = (0..100).map(|n| 1000 + n * 10).collect();
    shared().java_writes_at(&topic, 0, &times);
    let stream = reader(&client(), &topic).open().expect("a topic");
    let mut iter = stream.iter();
    assert_eq!(next(&mut iter).offset(), 0);
    for (to, wanted) in [
        (StartAt::Timestamp(at(1500)), 50),
        (StartAt::Timestamp(at(1501)), 51),
        (StartAt::Earliest, 0),
        (StartAt::Timestamp(at(1)), 0),
        (StartAt::Offset(99), 99),
    ] {
        stream.seek((&topic, 0), to).expect("an open stream");
        assert_eq!(position(&stream, &topic, 0), wanted, "{to:?}");
        assert_eq!(next(&mut iter).offset(), wanted, "{to:?}");
        assert_eq!(position(&stream, &topic, 0), wanted + 1);
    }
    for to in [
        StartAt::Latest,
        StartAt::Timestamp(at(1_000_000)),
        StartAt::Ago(Duration::ZERO),
    ] {
        stream.seek((&topic, 0), StartAt::Earliest).expect("an open stream");
        stream.seek((&topic, 0), to).expect("an open stream");
        assert_eq!(position(&stream, &topic, 0), 100);
        assert_silent(&mut iter);
    }
    let error = stream
        .seek((&topic, 7), StartAt::Earliest)
        .expect_err("no such partition");
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn a_paused_partition_gives_nothing_and_goes_on_where_it_was() {
    let topic = topic("paused", 2, &[]);
    shared().fill(&topic, 2, 4000, "snappy", 10);
    let stream = reader(&client(), &topic).open().expect("a topic");
    let mut iter = stream.iter();
    let mut read = [0, 0];
    let mut take = |iter: &mut klamm::Iter<'_>| {
        let message = next(iter);
        let read = &mut read[message.partition() as usize];
        assert_eq!(message.offset(), *read);
        *read += 1;
        (message.partition(), *read)
    };
    // The one whose records are in the iterator's hand just now.
    let (paused, _) = std::iter::repeat_with(|| take(&mut iter)).nth(10).expect("endless");
    stream.pause([(&topic, paused)]).expect("an open stream");
    let other = 1 - paused;
    loop {
        let (partition, count) = take(&mut iter);
        assert_eq!(partition, other);
        if count == 2000 {
            break;
        }
    }
    assert_silent(&mut iter);
    stream.resume([(&topic, paused)]).expect("an open stream");
    // What was prefetched is there at once.
    let Ok(Next::Message(message)) = iter.next_timeout(Duration::ZERO) else {
        panic!("a prefetched message")
    };
    assert_eq!((message.partition(), message.offset()), (paused, 11));
    drop(message);
    for wanted in 12..2000 {
        assert_eq!(next(&mut iter).offset(), wanted);
    }
    assert_lag_becomes_0(&stream, &mut iter);

    // Before anything has come, and records that come while it is paused.
    stream.pause([(&topic, 0), (&topic, 1)]).expect("an open stream");
    shared().java_writes(&topic, 0, &["paused"]);
    assert_silent(&mut iter);
    let error = stream.pause([(&topic, 0), (&topic, 5)]).expect_err("no such partition");
    assert_eq!(error.kind(), ErrorKind::Config);
    stream.resume([(&topic, 0)]).expect("an open stream");
    assert_eq!(text(next(&mut iter).value()), "paused");
}

#[test]
fn a_paused_partition_waits_though_its_turn_had_come() {
    let topic = topic("queued", 3, &[]);
    shared().fill(&topic, 3, 3000, "none", 10);
    let stream = reader(&client(), &topic).open().expect("a topic");
    // A dropped iterator gives back what it has, and another partition is next: until each stands in the queue.
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 3 {
        seen.insert(next(&mut stream.iter()).partition());
    }
    let mut iter = stream.iter();
    let last = next(&mut iter).partition();
    let others: Vec<_> = (0..3).filter(|&partition| partition != last).collect();
    stream
        .pause(others.iter().map(|&partition| (&topic, partition)))
        .expect("an open stream");
    while let Next::Message(message) = iter.next_timeout(crate::reading::MOMENT).expect("no error") {
        assert_eq!(message.partition(), last, "the others are paused");
    }
    assert_eq!(position(&stream, &topic, last), 1000);
    stream
        .resume(others.iter().map(|&partition| (&topic, partition)))
        .expect("an open stream");
    while others
        .iter()
        .any(|&partition| position(&stream, &topic, partition) < 1000)
    {
        assert_ne!(next(&mut iter).partition(), last);
    }
    assert_lag_becomes_0(&stream, &mut iter);
}

#[test]
fn pause_reaches_a_partition_in_another_thread_s_hand_and_seek_one_that_is_paused() {
    let topic = topic("far-pause", 1, &[]);
    shared().fill(&topic, 1, 100_000, "none", 10);
    let stream = reader(&client(), &topic).open().expect("a topic");
    let seen = Mutex::new(Vec::new());
    let count = || seen.lock().expect("no thread has failed").len();
    std::thread::scope(|scope| {
        let _closed_also_when_this_fails = CloseOnDrop(stream.closer());
        scope.spawn(|| {
            for message in &stream {
                let offset = message.expect("nothing fails").offset();
                seen.lock().expect("no thread has failed").push(offset);
            }
        });
        crate::support::wait_until("a few messages", LONG, || count() > 100);
        stream.pause([(&topic, 0)]).expect("an open stream");
        let before = count();
        assert_silent(&mut stream.iter());
        // One may have been given out and not been counted.
        let after = count();
        assert!(after <= before + 1, "{} came while paused", after - before);
        stream
            .seek((&topic, 0), StartAt::Offset(99_990))
            .expect("an open stream");
        assert_silent(&mut stream.iter());
        assert_eq!(count(), after);
        stream.resume([(&topic, 0)]).expect("an open stream");
        crate::support::wait_until("the rest", LONG, || {
            seen.lock().expect("no thread has failed").last() == Some(&99_999)
        });
    });
    let seen = seen.into_inner().expect("no thread has failed");
    let (first, rest) = seen.split_at(seen.len() - 10);
    assert!(first.iter().copied().eq(0..first.len() as i64));
    assert!(rest.iter().copied().eq(99_990..100_000));
}

#[test]
fn a_stream_tells_what_it_reads_and_from_where() {
    let topic = topic("tells", 3, &[]);
    shared().fill(&topic, 3, 30, "none", 10);
    let client = client();
    let stream = reader(&client, &topic)
        .start_at(StartAt::Offset(4))
        .open()
        .expect("a topic");
    let names: Vec<_> = (0..3).map(|partition| TopicPartition::new(&topic, partition)).collect();
    assert_eq!(stream.assignment(), names);
    let events = stream.events();
    let mut assigned: Vec<_> = (0..3)
        .map(|_| match events.next_timeout(LONG) {
            Some(Event::Assigned {
                partition, position, ..
            }) => (partition, position),
            other => panic!("a partition is assigned, and not {other:?}"),
        })
        .collect();
    assigned.sort();
    assert_eq!(assigned, names.iter().map(|name| (name.clone(), 4)).collect::<Vec<_>>());
    let mut iter = stream.iter();
    for _ in 0..18 {
        assert!(next(&mut iter).offset() >= 4);
    }
    assert_lag_becomes_0(&stream, &mut iter);
    let health = stream.health();
    assert!(health.is_healthy(), "{health:?}");
    assert!(events.try_next().is_none(), "nothing else has happened");
    let error = stream.position([("another", 0)]).expect_err("not of this stream");
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// Reading from a time, and asking for its offset, come to the same.
#[track_caller]
fn assert_time(client: &Client, topic: &str, time: i64, wanted: Option<i64>, end: i64) {
    let start = StartAt::Timestamp(at(time));
    assert_eq!(
        client.offset_for(topic, 0, start).expect("a leader"),
        wanted,
        "of {time}"
    );
    assert_start(client, topic, start, wanted.unwrap_or(end), end);
}

/// Reading from there to the end gives every offset from `wanted` on.
#[track_caller]
fn assert_start(client: &Client, topic: &str, start: StartAt, wanted: i64, end: i64) {
    let stream = reader(client, topic)
        .start_at(start)
        .until_end()
        .open()
        .expect("a topic");
    let read = offsets(&to_end(&stream));
    assert_eq!(read, (wanted..end).collect::<Vec<_>>(), "from {start:?}");
}

fn at(milliseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds.unsigned_abs())
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("in range")
}

/// Threads that iterate end with the scope, also when it is left by a panic.
pub(crate) struct CloseOnDrop(pub(crate) klamm::Closer);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Xorshift: the same seeks in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.unsigned_abs()) as i64
    }
}

//! What a record holds arrives as it was written, at the corners of the format too.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use klamm::TimestampType;

use crate::reading::{LONG, MOMENT, client, next, reader, to_end, topic};
use crate::support::{Seen, ask, shared};

#[test]
fn nulls_empties_headers_and_odd_times_are_those_that_java_wrote() {
    let topic = topic("corner", 1, &[]);
    let written = shared().write_corner_records(&topic, 0);
    assert_eq!(written.len(), 8);
    let stream = reader(&client(), &topic).until_end().open().expect("a topic");
    let read: Vec<Seen> = to_end(&stream)
        .iter()
        .map(|message| Seen {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: milliseconds(message.timestamp()),
            key: message.key().map(<[u8]>::to_vec),
            value: message.value().map(<[u8]>::to_vec),
            headers: message
                .headers()
                .map(|(key, value)| {
                    let key = String::from_utf8(key.to_vec()).expect("Java's names are UTF-8");
                    (key, value.map(<[u8]>::to_vec))
                })
                .collect(),
        })
        .collect();
    assert_eq!(read, written);
}

#[test]
fn a_message_and_its_detached_copy_say_the_same() {
    let topic = topic("detached", 1, &[]);
    let written = shared().write_corner_records(&topic, 0);
    let stream = reader(&client(), &topic).open().expect("a topic");
    let mut iter = stream.iter();
    let (mut copies, mut values) = (Vec::new(), Vec::new());
    for wanted in &written {
        let message = next(&mut iter);
        assert_eq!(message.topic(), topic);
        assert_eq!(message.leader_epoch(), Some(0), "nobody else has led this partition");
        assert_eq!(message.timestamp_type(), TimestampType::Create);
        assert_eq!(message.value_bytes().as_deref(), wanted.value.as_deref());
        let headers: Vec<_> = message
            .headers()
            .map(|header| {
                (
                    header.key().expect("UTF-8").to_owned(),
                    header.value().map(<[u8]>::to_vec),
                )
            })
            .collect();
        assert_eq!(headers, wanted.headers);
        assert_eq!(message.headers().len(), wanted.headers.len());
        let copy = message.detach();
        assert_eq!(
            (copy.topic(), copy.partition(), copy.offset()),
            (message.topic(), message.partition(), message.offset())
        );
        assert_eq!((copy.key(), copy.value()), (message.key(), message.value()));
        assert_eq!(copy.timestamp(), message.timestamp());
        assert_eq!(copy.timestamp_type(), message.timestamp_type());
        assert_eq!(copy.leader_epoch(), message.leader_epoch());
        assert!(
            copy.headers()
                .eq(message.headers().map(|header| (header.key_bytes(), header.value())))
        );
        copies.push(copy);
        values.push(message.value_bytes());
    }
    drop(iter);
    // Both outlive what they were read from.
    drop(stream);
    for (wanted, (copy, value)) in written.iter().zip(copies.iter().zip(values)) {
        assert_eq!(copy.value(), wanted.value.as_deref());
        assert_eq!(value.as_deref(), wanted.value.as_deref());
    }
}

#[test]
fn log_append_time_is_the_broker_s_and_named_so() {
    let topic = topic("append-time", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let before = SystemTime::now();
    shared().java_writes_at(&topic, 0, &[1000, 2000]);
    let after = SystemTime::now();
    let stream = reader(&client(), &topic).until_end().open().expect("a topic");
    let read = to_end(&stream);
    assert_eq!(read.len(), 2);
    for (message, seen) in read.iter().zip(shared().java_reads(&topic, 2)) {
        assert_eq!(message.timestamp_type(), TimestampType::LogAppend);
        assert_eq!(milliseconds(message.timestamp()), seen.timestamp);
        let time = message.timestamp().expect("a time");
        let slack = Duration::from_millis(1);
        assert!(
            before - slack <= time && time <= after + slack,
            "{before:?} {time:?} {after:?}"
        );
    }
}

#[test]
fn a_change_of_timestamp_type_shows_from_the_next_batch_on() {
    let topic = topic("time-type", 1, &[]);
    shared().java_writes(&topic, 0, &["created"]);
    shared().set_topic_configs(&topic, &[("message.timestamp.type", "LogAppendTime")]);
    let stream = reader(&client(), &topic).open().expect("a topic");
    let mut iter = stream.iter();
    assert_eq!(next(&mut iter).timestamp_type(), TimestampType::Create);
    // A broker takes a moment to hear of the change.
    crate::support::wait_until("a batch with the broker's time", LONG, || {
        shared().java_writes(&topic, 0, &["appended"]);
        next(&mut iter).timestamp_type() == TimestampType::LogAppend
    });
}

#[test]
fn header_names_that_are_not_utf_8_and_absent_times_are_shown_as_they_are() {
    let topic = topic("not-utf-8", 1, &[]);
    produce_by_hand(&topic, &batch_with_a_wild_header());
    let stream = reader(&client(), &topic).open().expect("a topic");
    let mut iter = stream.iter();
    let message = next(&mut iter);
    assert_eq!(message.timestamp(), None);
    assert_eq!((message.key(), message.value()), (None, Some(&b"\xfe\xff"[..])));
    let headers: Vec<_> = message.headers().collect();
    assert_eq!(headers.len(), 2);
    assert_eq!(headers[0].key(), None);
    assert_eq!(headers[0].key_bytes(), b"\xff\x00");
    assert_eq!(headers[0].value(), Some(&b"\x80"[..]));
    assert_eq!((headers[1].key(), headers[1].value()), (Some("n"), None));
    let copy = message.detach();
    assert!(
        copy.headers()
            .eq([(&b"\xff\x00"[..], Some(&b"\x80"[..])), (b"n", None)])
    );
    let again = iter.next_timeout(MOMENT).expect("no error");
    assert!(matches!(again, klamm::Next::TimedOut));
}

#[test]
fn a_record_larger_than_every_limit_of_size_arrives_all_the_same() {
    let topic = topic("large", 1, &[("max.message.bytes", "2000000")]);
    for codec in ["none", "zstd"] {
        shared().fill(&topic, 1, 2, codec, 600_000);
    }
    let stream = reader(&client(), &topic)
        .max_bytes(1000)
        .partition_max_bytes(1000)
        .prefetch_bytes(1000)
        .prefetch_total_bytes(1000)
        .until_end()
        .open()
        .expect("a topic");
    let lengths: Vec<_> = to_end(&stream)
        .iter()
        .map(|message| message.value().map_or(0, <[u8]>::len))
        .collect();
    assert_eq!(lengths, [600_000; 4]);
}

fn milliseconds(time: Option<SystemTime>) -> i64 {
    let since = time.expect("a time").duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("in range")
}

/// One record: no key, value FE FF, no timestamp, headers FF 00 = 80 and "n" = null.
fn batch_with_a_wild_header() -> Vec<u8> {
    // Small numbers as zigzag varints are twice themselves, and null (-1) is 1.
    let mut record = vec![0, 0, 0, 1, 4, 0xfe, 0xff, 4];
    record.extend([4, 0xff, 0x00, 2, 0x80]);
    record.extend([2, b'n', 1]);
    record.insert(0, record.len() as u8 * 2);
    let mut checked = Vec::new();
    checked.extend(0_i16.to_be_bytes()); // attributes
    checked.extend(0_i32.to_be_bytes()); // last offset delta
    checked.extend([(-1_i64).to_be_bytes(); 2].concat()); // timestamps
    checked.extend((-1_i64).to_be_bytes()); // producer id
    checked.extend((-1_i16).to_be_bytes()); // its epoch
    checked.extend((-1_i32).to_be_bytes()); // sequence
    checked.extend(1_i32.to_be_bytes()); // records
    checked.extend(record);
    let mut batch = 0_i64.to_be_bytes().to_vec();
    batch.extend((9 + checked.len() as i32).to_be_bytes());
    batch.extend((-1_i32).to_be_bytes()); // leader epoch
    batch.push(2); // magic
    batch.extend(crc32c::crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

/// Past every client, into partition 0, by Produce 3.
fn produce_by_hand(topic: &str, batch: &[u8]) {
    let broker: SocketAddr = shared()
        .bootstrap()
        .to_socket_addrs()
        .expect("an address")
        .next()
        .expect("one at least");
    let mut body = (-1_i16).to_be_bytes().to_vec(); // no transactional id
    body.extend(1_i16.to_be_bytes()); // acks
    body.extend(30_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend((topic.len() as i16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes()); // the partition
    body.extend((batch.len() as i32).to_be_bytes());
    body.extend(batch);
    let answer = ask(broker, 0, 3, &body).expect("an answer");
    let code = &answer[4 + 2 + topic.len() + 4 + 4..][..2];
    assert_eq!(code, [0, 0], "the broker takes the batch");
}

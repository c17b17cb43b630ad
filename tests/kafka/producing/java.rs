//! What klamm writes, Java reads; and both put the same key into the same partition.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests play the programs that use klamm, and wait for what brokers do"
)]

use std::time::{Duration, SystemTime};

use klamm::{Acks, Client, Compression, Delivery, NewTopic, Producer, Record, TimestampType};

use super::{dumped, topic};
use crate::support::{self, DumpedBatch, Random, Seen, unique};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(120);

/// Every codec with every kind of level; each has a partition of its own in these tests.
const CODECS: [(Compression, Option<i32>, &str); 10] = [
    (Compression::None, None, "none"),
    (Compression::Gzip, None, "gzip"),
    (Compression::Gzip, Some(1), "gzip"),
    (Compression::Gzip, Some(9), "gzip"),
    (Compression::Snappy, None, "snappy"),
    (Compression::Lz4, None, "lz4"),
    (Compression::Zstd, None, "zstd"),
    (Compression::Zstd, Some(-5), "zstd"),
    (Compression::Zstd, Some(1), "zstd"),
    (Compression::Zstd, Some(19), "zstd"),
];

/// A record as these tests make it, and as it is to be read.
#[derive(Clone, Default)]
struct Made {
    /// None: when it is sent.
    millis: Option<u64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, Option<Vec<u8>>)>,
}

impl Made {
    fn at(millis: u64) -> Self {
        Self {
            millis: Some(millis),
            ..Self::default()
        }
    }

    fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    fn value(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.value = Some(value.into());
        self
    }

    fn header(mut self, name: &'static str, value: Option<&[u8]>) -> Self {
        self.headers.push((name, value.map(<[u8]>::to_vec)));
        self
    }

    fn record<'a>(&'a self, topic: &'a str, partition: i32) -> Record<'a> {
        let headers = self.headers.iter();
        let record = Record::to(topic)
            .partition(partition)
            .maybe_key(self.key.as_deref())
            .maybe_value(self.value.as_deref())
            .headers(headers.map(|(name, value)| (name.as_bytes(), value.as_deref())));
        match self.millis {
            // Kafka keeps milliseconds: what is less is cut off.
            Some(millis) => record.timestamp(
                SystemTime::UNIX_EPOCH + Duration::new(millis / 1000, 999_999) + Duration::from_millis(millis % 1000),
            ),
            None => record,
        }
    }

    fn is_seen_as(&self, seen: &Seen) -> bool {
        let headers = self.headers.iter().cloned();
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value)).collect();
        (&self.key, &self.value, &headers) == (&seen.key, &seen.value, &seen.headers)
            && self.millis.is_none_or(|millis| millis as i64 == seen.timestamp)
    }
}

/// The corners of the format, in one batch: times far apart and backwards, nulls and empties, headers.
fn corners() -> Vec<Made> {
    let up: Vec<u8> = (0..=255).collect();
    let down: Vec<u8> = (0..=255).rev().collect();
    vec![
        Made::at(1_700_000_000_000),
        Made::at(0).key("").value(""),
        Made::at(1).value(""),
        Made::at(4_102_444_800_123).key("far ahead"),
        Made::at(1_000).key("").value("backwards"),
        Made::at(1_700_000_000_001).key(up.clone()).value(down.clone()),
        Made::at(1_699_999_999_999)
            .key("headers")
            .value("v")
            .header("a", Some(b"1"))
            .header("b", None)
            .header("a", Some(b"2"))
            .header("", Some(b"empty name"))
            .header("a", None)
            .header("empty", Some(b""))
            .header("ключ", Some(&up)),
        Made::at(1_700_000_000_000).key("ünï©ode ☃").value("日本語"),
        // The moment at which it is sent.
        Made::default().key("now").value("now"),
    ]
}

/// A small batch, a large one of small records, and data that no codec makes smaller.
fn bulk() -> Vec<Vec<Made>> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut noise = |length: usize| -> Vec<u8> { (0..length).map(|_| random.below(256) as u8).collect() };
    let small = vec![Made::at(5).key("alone").value("x")];
    let many = (0..3000_u32).map(|n| {
        Made::at(1_700_000_000_000 + u64::from(n))
            .key(n.to_string())
            .value(format!("{{\"order\":{n},\"state\":\"new\"}}"))
    });
    let incompressible = (0..6).map(|n| Made::at(n).key("noise").value(noise(40_000)));
    // One byte over and over inflates to a thousand times its length.
    let zeros = (0..3).map(|n| Made::at(n).value(vec![0; 200_000]));
    vec![small, many.collect(), incompressible.collect(), zeros.collect()]
}

/// Each of these is a batch: nothing leaves before it is flushed.
fn write(producer: &Producer, topic: &str, partition: i32, batches: &[Vec<Made>]) {
    for batch in batches {
        let sent: Vec<_> = batch
            .iter()
            .map(|made| producer.send(made.record(topic, partition)).unwrap())
            .collect();
        for result in Delivery::wait_all(&sent, LONG) {
            assert_eq!(result.unwrap().partition, partition);
        }
    }
}

fn by_klamm(client: &Client, topic: &str) -> Vec<Seen> {
    let stream = client.reader().topics([topic]).until_end().open().unwrap();
    let seen = stream.into_iter().map(|message| {
        let message = message.unwrap();
        let time = message.timestamp().expect("each has one");
        let since = time.duration_since(SystemTime::UNIX_EPOCH).expect("none is older");
        let headers = message.headers().map(|header| {
            let (name, value): (&[u8], Option<&[u8]>) = header.into();
            (String::from_utf8(name.to_vec()).unwrap(), value.map(<[u8]>::to_vec))
        });
        Seen {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: since.as_millis() as i64,
            key: message.key().map(<[u8]>::to_vec),
            value: message.value().map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    });
    seen.collect()
}

fn of(all: &[Seen], partition: i32) -> Vec<&Seen> {
    all.iter().filter(|seen| seen.partition == partition).collect()
}

#[track_caller]
fn same(reader: &str, codec: &str, seen: &[&Seen], made: &[Made]) {
    assert_eq!(seen.len(), made.len(), "{reader}, {codec}");
    for (offset, (seen, made)) in seen.iter().zip(made).enumerate() {
        assert_eq!(seen.offset, offset as i64, "{reader}, {codec}");
        assert!(
            made.is_seen_as(seen),
            "{reader}, {codec}, {offset}: key {:?}, time {}, headers {:?}",
            seen.key,
            seen.timestamp,
            seen.headers
        );
    }
}

/// Offsets and sequences without gaps, checksums right, all by one producer, in this codec.
#[track_caller]
fn sound(codec: &str, batches: &[DumpedBatch]) {
    let (mut offset, mut sequence) = (0, 0);
    for batch in batches {
        assert!(batch.is_valid, "{codec}: {batch:?}");
        assert_eq!(batch.codec, codec, "{batch:?}");
        assert_eq!((batch.first, batch.sequence), (offset, sequence), "{codec}: {batch:?}");
        assert_eq!(batch.records as i64, batch.last - batch.first + 1, "{codec}: {batch:?}");
        assert!(batch.producer_id >= 0 && batch.epoch >= 0, "{codec}: {batch:?}");
        assert_eq!(batch.producer_id, batches[0].producer_id, "{codec}: {batch:?}");
        offset = batch.last + 1;
        sequence += batch.records as i32;
    }
}

/// Times of any age are taken.
const ANY_TIME: (&str, &str) = ("message.timestamp.after.max.ms", "9223372036854775807");

fn topic_with(name: &str, partitions: usize, configs: &[(&str, &str)]) -> (Client, String) {
    let topic = unique(name);
    support::shared().create_topic(&topic, partitions, configs);
    (Client::connect(&support::shared().bootstrap()).unwrap(), topic)
}

#[test]
fn every_codec_at_every_level_is_read_by_java_and_by_klamm_as_it_was_written() {
    let (client, topic) = topic_with("codecs", CODECS.len(), &[ANY_TIME]);
    let mut batches = vec![corners()];
    batches.extend(bulk());
    for (partition, (codec, level, _)) in (0..).zip(CODECS) {
        let producer = client.producer().compression(codec).compression_level(level);
        let producer = producer.linger(Duration::from_secs(60)).build().unwrap();
        write(&producer, &topic, partition, &batches);
        assert!(producer.close(LONG).unwrap().is_clean());
    }
    let made: Vec<Made> = batches.iter().flatten().cloned().collect();
    let java = support::shared().java_reads_committed(&topic, usize::MAX >> 33);
    let klamm = by_klamm(&client, &topic);
    for (partition, (_, level, codec)) in (0..).zip(CODECS) {
        let name = format!("{codec} {level:?}");
        same("Java", &name, &of(&java, partition), &made);
        same("klamm", &name, &of(&klamm, partition), &made);
    }
    let Some(dumped) = dumped(&topic, CODECS.len()) else {
        return;
    };
    let plain = dumped[0].clone();
    for (partition, (_, level, codec)) in (0..).zip(CODECS) {
        let name = format!("{codec} {level:?}");
        for (batch, is_compressed) in dumped[partition as usize].iter().zip([true, false, true, false, true]) {
            assert_eq!(
                batch.codec,
                if is_compressed { codec } else { "none" },
                "{name}: {batch:?}"
            );
        }
        let mut dumped = dumped[partition as usize].clone();
        // What a codec does not make smaller is written as it is.
        for (batch, plain) in dumped.iter_mut().zip(&plain) {
            if batch.codec == "none" {
                assert_eq!((batch.records, batch.bytes), (plain.records, plain.bytes), "{name}");
                batch.codec = codec.to_owned();
            } else {
                assert!(batch.bytes < plain.bytes, "{name}: {batch:?}");
            }
        }
        sound(codec, &dumped);
        let counts: Vec<usize> = dumped.iter().map(|batch| batch.records).collect();
        assert_eq!(counts, batches.iter().map(Vec::len).collect::<Vec<_>>(), "{name}");
    }
    // A level is more than accepted: the best makes the many small records shorter than the fastest.
    let size = |partition: usize| dumped[partition][2].bytes;
    assert!(size(3) < size(2), "gzip 9: {}, gzip 1: {}", size(3), size(2));
    assert!(size(9) < size(7), "zstd 19: {}, zstd -5: {}", size(9), size(7));
    assert!(
        size(1) * 2 < size(0) && size(4) < size(0) && size(5) < size(0),
        "{dumped:?}"
    );
}

#[test]
fn java_s_console_shows_keys_headers_and_times() {
    // Times so old are otherwise deleted while they are read.
    let (client, topic) = topic_with("console", 5, &[("retention.ms", "-1")]);
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let mut expected = Vec::new();
    // So that each codec makes the batch smaller: otherwise it is written as it is.
    let long = "again and again ".repeat(500);
    for (partition, codec) in (0..5).zip(codecs) {
        let producer = client.producer().compression(codec);
        let producer = producer.linger(Duration::from_secs(60)).build().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000);
        let record = || {
            Record::to(&topic)
                .partition(partition)
                .timestamp(now + Duration::from_millis(partition as u64))
        };
        let deliveries = [
            producer.send(
                record()
                    .key("k")
                    .value("v")
                    .header("h", "1")
                    .null_header("n")
                    .header("h", "2"),
            ),
            producer.send(record().value("no key")),
            producer.send(record().key("tombstone")),
            producer.send(record().key("").value("")),
            producer.send(record().key("ключ").value("日本語").header("naïve", "☃")),
            producer.send(record().key("long").value(&long)),
        ];
        for delivery in deliveries {
            delivery.unwrap().wait(LONG).unwrap();
        }
        let texts = [
            "h:1,n:null,h:2\tk\tv",
            "NO_HEADERS\tnull\tno key",
            "NO_HEADERS\ttombstone\tnull",
            "NO_HEADERS\t\t",
            "naïve:☃\tключ\t日本語",
            &format!("NO_HEADERS\tlong\t{long}"),
        ];
        expected.extend((0..).zip(texts).map(|(offset, text): (i64, _)| {
            format!(
                "CreateTime:{}\tPartition:{partition}\tOffset:{offset}\t{text}",
                1_700_000_000_000_i64 + i64::from(partition)
            )
        }));
    }
    let mut args = vec!["--isolation-level", "read_committed"];
    for property in [
        "print.timestamp=true",
        "print.partition=true",
        "print.offset=true",
        "print.headers=true",
        "print.key=true",
    ] {
        args.extend(["--property", property]);
    }
    let printed = support::shared().console_consumer(&topic, expected.len(), &args);
    let mut printed: Vec<&str> = printed.lines().filter(|line| line.starts_with("CreateTime")).collect();
    printed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(printed, expected);
    for (batches, codec) in dumped(&topic, 5)
        .iter()
        .flatten()
        .zip(["none", "gzip", "snappy", "lz4", "zstd"])
    {
        let of: Vec<_> = batches.iter().map(|batch| (&*batch.codec, batch.records)).collect();
        assert_eq!(of, [(codec, 6)]);
    }
}

/// Of all lengths up to 64 and some longer; text of several alphabets, and bytes that are no text.
fn keys() -> Vec<Vec<u8>> {
    let mut random = Random(42);
    let mut keys: Vec<Vec<u8>> = (0..=64_usize)
        .chain([100, 255, 256, 1000])
        .flat_map(|length| {
            let ascii = (0..length).map(|_| b'a' + random.below(26) as u8).collect();
            let any = (0..length).map(|_| random.below(256) as u8).collect();
            let high = (0..length).map(|_| 128 + random.below(128) as u8).collect();
            [ascii, any, high]
        })
        .collect();
    let words = ["ключ", "日本語", "naïve", "☃☃☃", "Ελλάδα", "مفتاح", "🦀", "e\u{301}"];
    keys.extend((0..20).flat_map(|n| words.map(|word| format!("{word}{n}").into_bytes())));
    keys.extend((0..100).map(|n| format!("user-{n}").into_bytes()));
    keys
}

#[test]
fn the_same_keys_go_to_the_same_partitions_as_with_java_s_producer() {
    let keys = keys();
    assert!(keys.len() > 400);
    for count in [7, 12] {
        let (client, topic) = topic("keys", count);
        let java = support::shared().java_writes_keyed(&topic, &keys);
        let producer = client.producer().build().unwrap();
        let sent = producer.send_all(keys.iter().map(|key| Record::to(&topic).key(key).value("klamm")));
        for ((delivery, java), key) in sent.into_iter().zip(&java).zip(&keys) {
            let written = delivery.unwrap().wait(LONG).unwrap();
            assert_eq!(written.partition, *java, "key {key:02x?} of {count} partitions");
        }
        let used: std::collections::BTreeSet<i32> = java.iter().copied().collect();
        assert_eq!(used.len(), count as usize, "{used:?}");
        // In the log as well: each key lies in one partition, twice.
        let mut places = std::collections::BTreeMap::<_, Vec<_>>::new();
        for seen in by_klamm(&client, &topic) {
            places.entry(seen.key).or_default().push(seen.partition);
        }
        assert!(
            places
                .values()
                .all(|places| places.iter().all(|place| *place == places[0])),
            "{places:?}"
        );
        let found: usize = places.values().map(Vec::len).sum();
        assert_eq!(found, 2 * keys.len());
    }
}

#[test]
fn java_s_idempotent_producer_and_klamm_write_to_the_same_partitions_at_once() {
    let (client, topic) = topic("both", 2);
    let producer = client.producer().linger(Duration::from_millis(1)).build().unwrap();
    let java = support::shared().pour(&topic, 2, 400.0, Duration::from_secs(60));
    let mut sent = Vec::new();
    // Until Java has written for a while beside it.
    while support::shared()
        .offsets(&topic)
        .iter()
        .any(|offsets| offsets.latest < 300 + sent.len() as i64 / 2)
    {
        for _ in 0..200 {
            let number = sent.len();
            let value = format!("klamm:{number}");
            let record = Record::to(&topic).partition(number as i32 % 2).value(&value);
            sent.push(producer.send(record).unwrap());
            if number % 20 == 0 {
                sent[number].wait(LONG).unwrap();
            }
        }
        assert!(sent.len() < 200_000, "Java writes nothing");
    }
    let java = java.stop();
    for result in Delivery::wait_all(&sent, LONG) {
        result.unwrap();
    }
    let all = by_klamm(&client, &topic);
    for partition in 0..2 {
        let (mut ours, mut theirs) = (0, 0);
        for seen in of(&all, partition) {
            if let Some(number) = seen.text().strip_prefix("klamm:") {
                assert_eq!(number, (2 * ours + partition as usize).to_string());
                ours += 1;
            } else {
                assert_eq!(seen.key.as_deref(), Some(theirs.to_string().as_bytes()));
                theirs += 1;
            }
        }
        assert_eq!((ours, theirs), (sent.len() / 2, java[&partition]));
    }
    for batches in dumped(&topic, 2).into_iter().flatten() {
        let mut next = std::collections::BTreeMap::new();
        for batch in &batches {
            assert!(batch.is_valid, "{batch:?}");
            let next = next.entry(batch.producer_id).or_insert(0);
            assert_eq!(batch.sequence, *next, "{batch:?}");
            *next += batch.records as i32;
        }
        assert_eq!(next.len(), 2, "two producers: {next:?}");
        let turns = batches
            .windows(2)
            .filter(|pair| pair[0].producer_id != pair[1].producer_id)
            .count();
        assert!(turns > 2, "they took turns: {turns}");
    }
}

#[test]
fn a_broker_that_compresses_anew_takes_every_codec() {
    let (client, topic) = topic_with("anew", CODECS.len(), &[ANY_TIME, ("compression.type", "lz4")]);
    let mut batches = vec![corners()];
    batches.extend(bulk());
    for (partition, (codec, level, _)) in (0..).zip(CODECS) {
        let producer = client.producer().compression(codec).compression_level(level);
        let producer = producer.linger(Duration::from_secs(60)).build().unwrap();
        write(&producer, &topic, partition, &batches);
    }
    let made: Vec<Made> = batches.iter().flatten().cloned().collect();
    let klamm = by_klamm(&client, &topic);
    let java = support::shared().java_reads_committed(&topic, usize::MAX >> 33);
    for (partition, (_, level, codec)) in (0..).zip(CODECS) {
        let name = format!("{codec} {level:?}, then lz4");
        same("klamm", &name, &of(&klamm, partition), &made);
        same("Java", &name, &of(&java, partition), &made);
    }
    for batches in dumped(&topic, CODECS.len()).iter().flatten() {
        sound("lz4", batches);
    }
}

#[test]
fn a_topic_with_the_broker_s_time_is_read_with_it_whatever_the_codec() {
    let (client, topic) = topic_with(
        "their-time",
        CODECS.len(),
        &[("message.timestamp.type", "LogAppendTime")],
    );
    let mut told = Vec::new();
    for (partition, (codec, level, _)) in (0..).zip(CODECS) {
        let producer = client
            .producer()
            .compression(codec)
            .compression_level(level)
            .build()
            .unwrap();
        let sent: Vec<_> = (0..50_u64)
            .map(|n| {
                let own = SystemTime::UNIX_EPOCH + Duration::from_secs(n);
                producer
                    .send(Record::to(&topic).partition(partition).value("v").timestamp(own))
                    .unwrap()
            })
            .collect();
        told.extend(Delivery::wait_all(&sent, LONG).into_iter().map(|result| {
            let written = result.unwrap();
            ((written.partition, written.offset.unwrap()), written.timestamp)
        }));
    }
    let told: std::collections::BTreeMap<_, _> = told.into_iter().collect();
    assert_eq!(told.len(), 50 * CODECS.len());
    let stream = client.reader().topics([&topic]).until_end().open().unwrap();
    let mut count = 0;
    for message in stream {
        let message = message.unwrap();
        assert_eq!(message.timestamp_type(), TimestampType::LogAppend);
        assert_eq!(
            message.timestamp(),
            Some(told[&(message.partition(), message.offset())])
        );
        count += 1;
    }
    assert_eq!(count, told.len());
    for seen in support::shared().java_reads(&topic, count) {
        let told = told[&(seen.partition, seen.offset)]
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(i128::from(seen.timestamp), told.as_millis() as i128);
    }
}

#[test]
fn a_compacted_topic_keeps_the_last_of_each_key_and_forgets_what_a_tombstone_deletes() {
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "500"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("delete.retention.ms", "0"),
    ];
    let (client, topic) = topic_with("compacted", 1, &configs);
    let producer = client.producer().compression(Compression::Zstd).build().unwrap();
    for round in 0..20 {
        for key in 0..10 {
            let (key, value) = (format!("key-{key}"), round.to_string());
            producer
                .send_detached(Record::to(&topic).key(&key).value(&value))
                .unwrap();
        }
    }
    for key in 5..10 {
        let key = format!("key-{key}");
        producer.send_detached(Record::to(&topic).key(&key)).unwrap();
    }
    producer.flush(LONG).unwrap();
    // What is cleaned is older than the segment that is written to.
    let mut left = Vec::new();
    support::wait_until("the topic is compacted", LONG, || {
        producer
            .send_sync(Record::to(&topic).key("tick").value("tock"), LONG)
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        left = by_klamm(&client, &topic);
        left.retain(|seen| seen.key.as_deref() != Some(b"tick"));
        left.len() == 5
    });
    for (n, seen) in left.iter().enumerate() {
        assert_eq!(seen.key, Some(format!("key-{n}").into_bytes()));
        assert_eq!(seen.text(), "19");
    }
}

#[test]
fn a_record_of_thousands_of_headers_is_read_as_it_was_written() {
    let (client, topic) = topic("headers", 1);
    let names: Vec<String> = (0..5_000).map(|n| format!("name-{}", n % 100)).collect();
    let values: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
    let producer = client.producer().compression(Compression::Lz4).build().unwrap();
    let mut record = Record::to(&topic).value("many");
    for (n, (name, value)) in names.iter().zip(&values).enumerate() {
        record = if n % 7 == 0 {
            record.null_header(name)
        } else {
            record.header(name, value)
        };
    }
    producer.send_sync(record, LONG).unwrap();
    producer.send_sync(Record::to(&topic).value("none"), LONG).unwrap();
    for seen in [by_klamm(&client, &topic), support::shared().java_reads(&topic, 2)] {
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].headers.len(), 5_000);
        for (n, (name, value)) in seen[0].headers.iter().enumerate() {
            assert_eq!(*name, names[n]);
            assert_eq!(value.as_deref(), (n % 7 != 0).then(|| values[n].as_bytes()));
        }
        assert!(seen[1].headers.is_empty());
    }
}

/// Without idempotence there is neither producer ID nor sequence, and all else is the same.
#[test]
fn what_is_written_without_idempotence_is_read_all_the_same() {
    let (client, topic) = topic_with("plain", 2, &[ANY_TIME]);
    let made = corners();
    for (partition, acks) in [(0, Acks::Leader), (1, Acks::None)] {
        let producer = client
            .producer()
            .acks(acks)
            .compression(Compression::Snappy)
            .build()
            .unwrap();
        write(&producer, &topic, partition, std::slice::from_ref(&made));
        producer.close(LONG).unwrap();
    }
    support::wait_until("what nobody acknowledged is there", LONG, || {
        support::shared().offsets(&topic)[1].latest == made.len() as i64
    });
    let java = support::shared().java_reads_committed(&topic, 1000);
    for partition in 0..2 {
        same("Java", "snappy", &of(&java, partition), &made);
    }
    for batch in dumped(&topic, 2).into_iter().flatten().flatten() {
        assert!(batch.is_valid, "{batch:?}");
        assert_eq!((batch.producer_id, batch.sequence), (-1, -1), "{batch:?}");
    }
}

#[test]
fn fifty_topics_are_written_to_at_once() {
    const TOPICS: usize = 50;
    const PARTITIONS: i32 = 4;
    const EACH: usize = 25;
    let kafka = support::shared();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let topics: Vec<String> = (0..TOPICS).map(|n| unique(&format!("fifty-{n}"))).collect();
    let made = client
        .admin()
        .create_topics(topics.iter().map(|topic| NewTopic::new(topic, PARTITIONS, 1)));
    made.and_then(klamm::Results::all).unwrap();
    let producer = client.producer().build().unwrap();
    std::thread::scope(|scope| {
        for share in topics.chunks(TOPICS.div_ceil(4)) {
            let producer = &producer;
            scope.spawn(move || {
                for n in 0..EACH {
                    for topic in share {
                        for partition in 0..PARTITIONS {
                            let value = n.to_string();
                            producer
                                .send_detached(Record::to(topic).partition(partition).value(&value))
                                .unwrap();
                        }
                    }
                }
            });
        }
    });
    producer.flush(LONG).unwrap();
    let stream = client.reader().topics(&topics).until_end().open().unwrap();
    let mut next = std::collections::BTreeMap::new();
    for message in stream {
        let message = message.unwrap();
        let next = next
            .entry((message.topic().to_owned(), message.partition()))
            .or_insert(0);
        assert_eq!(message.value(), Some(next.to_string().as_bytes()));
        *next += 1;
    }
    assert_eq!(next.len(), TOPICS * PARTITIONS as usize);
    assert!(next.values().all(|count| *count == EACH), "{next:?}");
    producer.close(LONG).unwrap();
}

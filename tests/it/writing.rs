//! What is written is there as it was written, each record once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use klamm::{Acks, Compression, ErrorKind, Record, TimestampType};

use crate::{
    LONG,
    cluster::{Cluster, contents, on_both, text, unique, values, write},
};

on_both! {
    offsets_follow_each_other,
    a_record_comes_back_as_it_was_written,
    every_codec_is_read_back,
    keys_stay_together_and_in_order,
    all_acks_write,
    a_topic_that_is_not_there_is_named,
    a_partition_that_is_not_there_is_named,
    a_record_that_no_broker_takes_fails_alone,
}

fn offsets_follow_each_other(cluster: &Cluster) {
    let topic = cluster.topic("offsets", 2);
    let client = cluster.client();
    for (partition, offsets) in [(0, [0, 1, 2]), (1, [0, 1, 2]), (0, [3, 4, 5])] {
        let written = write(&client, &topic, partition, &["a", "b", "c"]);
        let told: Vec<_> = written.iter().map(|written| written.offset).collect();
        assert_eq!(told, offsets.map(Some));
        assert!(written.iter().all(|written| written.partition == partition));
    }
}

fn a_record_comes_back_as_it_was_written(cluster: &Cluster) {
    let topic = cluster.topic("record", 1);
    let client = cluster.client();
    let producer = client.producer().build().unwrap();
    // Not so old that a broker may delete it, and with milliseconds that tell whether they are kept.
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let seconds = hour_ago.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let time = UNIX_EPOCH + Duration::from_millis(seconds * 1_000 + 123);
    let record = Record::to(&topic).key("key").value("value").timestamp(time);
    let headers = record.header("first", b"1").header("first", b"2");
    producer.send_sync(headers, LONG).unwrap();
    producer.send_sync(Record::to(&topic).value(""), LONG).unwrap();
    producer.send_sync(Record::to(&topic).key(""), LONG).unwrap();

    let contents = contents(&client, &topic);
    let [whole, empty, tombstone] = &contents[&0][..] else {
        panic!("three records: {contents:?}")
    };
    assert_eq!((whole.key(), whole.value()), (Some(&b"key"[..]), Some(&b"value"[..])));
    assert_eq!(whole.timestamp(), Some(time));
    assert_eq!(whole.timestamp_type(), TimestampType::Create);
    let headers: Vec<_> = whole.headers().collect();
    assert_eq!(headers, [(&b"first"[..], Some(&b"1"[..])), (b"first", Some(b"2"))]);
    assert_eq!((empty.key(), empty.value()), (None, Some(&b""[..])));
    assert_eq!((tombstone.key(), tombstone.value()), (Some(&b""[..]), None));
    assert!(empty.timestamp() > Some(SystemTime::now() - LONG), "now is the default");
}

fn every_codec_is_read_back(cluster: &Cluster) {
    let client = cluster.client();
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let wanted: Vec<String> = (0..1_000)
        .map(|number| format!("a text that repeats itself {number}"))
        .collect();
    for codec in codecs {
        let topic = cluster.topic("codec", 1);
        let producer = client.producer().compression(codec).build().unwrap();
        for value in &wanted {
            producer.send(Record::to(&topic).value(value)).unwrap();
        }
        producer.flush(LONG).unwrap();
        assert_eq!(values(&contents(&client, &topic)[&0]), wanted, "{codec:?}");
    }
}

fn keys_stay_together_and_in_order(cluster: &Cluster) {
    let topic = cluster.topic("keys", 5);
    let client = cluster.client();
    let producer = client.producer().build().unwrap();
    for number in 0..500 {
        let key = format!("key {}", number % 20);
        producer
            .send(Record::to(&topic).key(&key).value(&number.to_string()))
            .unwrap();
    }
    producer.flush(LONG).unwrap();
    let mut homes = std::collections::HashMap::new();
    for (partition, messages) in contents(&client, &topic) {
        let mut last = std::collections::HashMap::new();
        for message in &messages {
            let (key, number): (_, u32) = (text(message.key()), text(message.value()).parse().unwrap());
            assert_eq!(*homes.entry(key.clone()).or_insert(partition), partition);
            assert!(last.insert(key, number).is_none_or(|before| before < number));
        }
    }
    assert_eq!(homes.len(), 20);
}

fn all_acks_write(cluster: &Cluster) {
    let topic = cluster.topic("acks", 1);
    let client = cluster.client();
    for (acks, knows) in [(Acks::All, true), (Acks::Leader, true), (Acks::None, false)] {
        let producer = client.producer().acks(acks).build().unwrap();
        let written = producer.send_sync(Record::to(&topic).value("x"), LONG).unwrap();
        assert_eq!(written.offset.is_some(), knows, "{acks:?}");
        producer.close(LONG).unwrap();
    }
    support_wait(|| contents(&client, &topic).get(&0).map_or(0, Vec::len) == 3);
}

/// Without acks nobody says when a record is there.
fn support_wait(is_so: impl FnMut() -> bool) {
    crate::support::wait_until("what was written without acks", LONG, is_so);
}

fn a_topic_that_is_not_there_is_named(cluster: &Cluster) {
    let topic = unique("nowhere");
    let client = cluster.client();
    let producer = client.producer().max_block(Duration::from_secs(1)).build().unwrap();
    let error = producer.send_sync(Record::to(&topic).value("x"), LONG).unwrap_err();
    assert!(error.to_string().contains(&topic), "{error}");
    assert!(
        matches!(error.kind(), ErrorKind::UnknownTopic | ErrorKind::TimedOut),
        "{error:?}"
    );
}

fn a_partition_that_is_not_there_is_named(cluster: &Cluster) {
    let topic = cluster.topic("few", 2);
    let client = cluster.client();
    // It is asked for once: nobody waits for so long.
    let producer = client.producer().max_block(LONG).build().unwrap();
    let record = Record::to(&topic).partition(2).value("x");
    let error = producer.send_sync(record, LONG).unwrap_err();
    assert!(error.to_string().contains(&format!("{topic}-2")), "{error}");
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
}

fn a_record_that_no_broker_takes_fails_alone(cluster: &Cluster) {
    let topic = cluster.topic("large", 1);
    let client = cluster.client();
    let producer = client.producer().build().unwrap();
    let large = vec![0; 3 << 20];
    let before = producer.send(Record::to(&topic).value("before")).unwrap();
    let refused = producer.send(Record::to(&topic).value(&large));
    let after = producer.send(Record::to(&topic).value("after")).unwrap();
    let error = match refused {
        Ok(delivery) => delivery.wait(LONG).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(before.wait(LONG).is_ok() && after.wait(LONG).is_ok());
    assert_eq!(values(&contents(&client, &topic)[&0]), ["before", "after"]);
}

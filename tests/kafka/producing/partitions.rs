//! Which partition a record goes to, also when partitions come, go and lose their broker.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests play the programs that use klamm, and wait for what brokers do"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::{BatchReport, Client, Delivery, ErrorKind, NewTopic, Partitioner, Producer, Record};

use super::{dumped, topic};
use crate::support::{self, Kafka, unique, wait_until};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(120);

/// Where they were written, counted by partition; all are acknowledged.
#[track_caller]
fn shares(sent: &[Delivery], partitions: i32) -> Vec<usize> {
    let mut shares = vec![0; partitions as usize];
    for (result, delivery) in Delivery::wait_all(sent, LONG).into_iter().zip(sent) {
        let written = result.unwrap();
        assert_eq!(written.partition, delivery.partition());
        shares[written.partition as usize] += 1;
    }
    shares
}

#[test]
fn a_partition_that_is_named_counts_more_than_the_key() {
    let (client, topic) = topic("named", 3);
    for partitioner in [Partitioner::Murmur2, Partitioner::RoundRobin, Partitioner::Random] {
        let producer = client.producer().partitioner(partitioner).build().unwrap();
        let sent: Vec<_> = (0..30)
            .map(|n| {
                producer
                    .send(Record::to(&topic).partition(n % 3).key("same").value("v"))
                    .unwrap()
            })
            .collect();
        assert!(sent.iter().zip(0..).all(|(delivery, n)| delivery.partition() == n % 3));
        assert_eq!(shares(&sent, 3), [10, 10, 10]);
        for missing in [3, -1, i32::MAX] {
            let error = producer
                .send(Record::to(&topic).partition(missing).value("v"))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
        }
    }
}

#[test]
fn round_robin_gives_each_partition_the_same_whatever_the_key() {
    let (client, topic) = topic("robin", 7);
    let producer = client.producer().partitioner(Partitioner::RoundRobin).build().unwrap();
    let sent: Vec<_> = (0..700)
        .map(|n| {
            let record = Record::to(&topic).value("v");
            producer
                .send(if n % 2 == 0 { record.key("same") } else { record })
                .unwrap()
        })
        .collect();
    assert_eq!(shares(&sent, 7), [100; 7]);
}

#[test]
fn random_gives_each_partition_about_the_same_whatever_the_key() {
    let (client, topic) = topic("random", 5);
    let producer = client.producer().partitioner(Partitioner::Random).build().unwrap();
    let record = || Record::to(&topic).key("same").value("v");
    let sent: Vec<_> = (0..10_000).map(|_| producer.send(record()).unwrap()).collect();
    let shares = shares(&sent, 5);
    // Five times the standard deviation.
    assert!(shares.iter().all(|share| share.abs_diff(2_000) < 200), "{shares:?}");
}

#[test]
fn records_without_a_key_fill_batches_and_reach_all_partitions_alike() {
    const PARTITIONS: usize = 6;
    const RECORDS: usize = 48_000;
    let (client, topic) = topic("sticky", PARTITIONS as i32);
    let reports: Arc<Mutex<Vec<BatchReport>>> = Arc::default();
    let producer = client
        .producer()
        .linger(Duration::from_millis(100))
        .observe({
            let reports = Arc::clone(&reports);
            move |report| reports.lock().unwrap().push(report.clone())
        })
        .build()
        .unwrap();
    let value = [b'x'; 500];
    let sent: Vec<_> = (0..RECORDS)
        .map(|_| producer.send(Record::to(&topic).value(&value)).unwrap())
        .collect();
    let changes = sent
        .windows(2)
        .filter(|pair| pair[0].partition() != pair[1].partition())
        .count();
    // 64 KiB at a time: 128 such records, and about one time in six it is the same partition again.
    assert!(
        (RECORDS / 128 / 2..RECORDS / 100).contains(&changes),
        "{changes} changes"
    );
    let shares = shares(&sent, PARTITIONS as i32);
    let fair = RECORDS / PARTITIONS;
    assert!(
        shares.iter().all(|share| share.abs_diff(fair) < fair * 7 / 10),
        "{shares:?}"
    );
    assert!(producer.close(LONG).unwrap().is_clean());

    let reports = reports.lock().unwrap();
    let told: usize = reports.iter().map(|report| report.records as usize).sum();
    assert_eq!(told, RECORDS);
    assert!(reports.len() <= RECORDS / 40, "{} batches", reports.len());
    if let Some(dumped) = dumped(&topic, PARTITIONS) {
        assert_eq!(
            dumped.iter().map(Vec::len).sum::<usize>(),
            reports.len(),
            "what the observer was told of is what the broker has"
        );
    }
}

#[test]
fn a_closure_chooses_and_what_it_may_not_choose_is_told() {
    let (client, topic) = topic("closure", 4);
    let producer = client
        .producer()
        .partitioner(Partitioner::custom(|choice| {
            assert!(choice.topic().starts_with("closure") && choice.partitions() == 4 && choice.has_leader(3));
            match (choice.key(), choice.value()) {
                (Some(key), Some(value)) => i32::from(key[0] - b'0') + i32::from(value[0] - b'0'),
                (None, Some(_)) => 2,
                (_, None) => 3,
            }
        }))
        .build()
        .unwrap();
    let record = || Record::to(&topic);
    for (record, expected) in [
        (record().key("0").value("1"), 1),
        (record().key("1").value("2"), 3),
        (record().value("1"), 2),
        (record().key("0"), 3),
        // It is not asked.
        (record().partition(0).key("0").value("9"), 0),
    ] {
        assert_eq!(producer.send_sync(record, LONG).unwrap().partition, expected);
    }
    for (key, value) in [("3", "1"), ("9", "9")] {
        let error = producer.send(record().key(key).value(value)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
    assert_eq!(
        producer
            .send_sync(record().value("still fine"), LONG)
            .unwrap()
            .partition,
        2
    );
}

#[cfg(feature = "md5")]
#[test]
fn the_sum_of_the_md5_bytes_chooses_for_keys() {
    let (client, topic) = topic("md5", 10);
    let producer = client.producer().partitioner(Partitioner::Md5Sum).build().unwrap();
    // The empty text's hash is d41d8cd98f00b204e9800998ecf8427e, and its bytes add up to 2,121.
    assert_eq!(
        producer
            .send_sync(Record::to(&topic).key("").value("v"), LONG)
            .unwrap()
            .partition,
        1
    );
}

#[test]
fn a_partition_whose_leader_is_frozen_gets_less_and_the_others_go_on() {
    let kafka = Kafka::builder().brokers(3).start();
    let topic = unique("frozen");
    kafka.create_topic_on(&topic, &[&[1], &[2], &[3]], &[]);
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let producer = client.producer().build().unwrap();
    let value = [b'x'; 2_000];
    let send = || producer.send(Record::to(&topic).value(&value)).unwrap();
    let warm: Vec<_> = (0..1_000).map(|_| send()).collect();
    shares(&warm, 3);
    let frozen = 2;
    // Its own controller may be the active one: two of three are left.
    kafka.sigstop(frozen);
    let since = Instant::now();
    let mut sent = Vec::new();
    // Until the controller has noticed, and for a while after that.
    let mut noticed = None;
    while noticed.is_none_or(|noticed| sent.len() < noticed + 1_000) || sent.len() < 3_000 {
        if noticed.is_none() && kafka.leader(&topic, frozen - 1) < 0 {
            noticed = Some(sent.len());
            println!("noticed after {:?}", since.elapsed());
        }
        for _ in 0..32 {
            sent.push(send());
        }
        // One of a partition that is alive: the others go on.
        if let Some(alive) = sent
            .iter()
            .rev()
            .take(32)
            .find(|delivery| delivery.partition() != frozen - 1)
        {
            alive.wait(LONG).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
        assert!(since.elapsed() < LONG, "{} sent", sent.len());
    }
    let of_frozen = |sent: &[Delivery]| {
        sent.iter()
            .filter(|delivery| delivery.partition() == frozen - 1)
            .count()
    };
    let got = of_frozen(&sent);
    println!("{got} of {} records went to the frozen broker's partition", sent.len());
    assert!(got * 6 < sent.len(), "{got} of {} for one of three", sent.len());
    let late = of_frozen(&sent[sent.len() - 500..]);
    assert!(late < 250, "{late} of the last 500");
    let waiting = sent.iter().filter(|delivery| delivery.poll().is_none()).count();
    assert!(
        waiting <= got + 32,
        "{waiting} wait, of which {got} are for the frozen broker"
    );
    kafka.sigcont(frozen);
    // And all of them arrive; those that the broker got before it froze, once.
    let shares = shares(&sent, 3);
    assert_eq!(shares[frozen as usize - 1], got);
    let back = Instant::now();
    wait_until("the partition is written to again", LONG, || {
        let again: Vec<_> = (0..200).map(|_| send()).collect();
        self::shares(&again, 3)[frozen as usize - 1] > 0
    });
    println!("used again after {:?}", back.elapsed());
    assert!(producer.close(LONG).unwrap().is_clean());
}

/// What a producer chooses that has never seen the topic otherwise.
fn fresh(partitions: i32, keys: &[String]) -> Vec<i32> {
    let (client, topic) = topic("fresh", partitions);
    chosen(&client.producer().build().unwrap(), &topic, keys)
}

fn chosen(producer: &Producer, topic: &str, keys: &[String]) -> Vec<i32> {
    let sent = producer.send_all(keys.iter().map(|key| Record::to(topic).key(key).value("v")));
    let sent: Vec<_> = sent.into_iter().map(Result::unwrap).collect();
    let written = Delivery::wait_all(&sent, LONG);
    written.into_iter().map(|result| result.unwrap().partition).collect()
}

fn some_keys() -> Vec<String> {
    (0..60).map(|n| format!("key-{n}")).collect()
}

/// A client that notices soon.
fn attentive() -> Client {
    let builder = Client::builder().bootstrap(support::shared().bootstrap());
    builder.metadata_max_age(Duration::from_secs(1)).connect().unwrap()
}

#[test]
fn partitions_that_are_added_are_used_by_every_way_to_choose() {
    let (admin, topic) = topic("grown", 2);
    let client = attentive();
    let build = |partitioner| client.producer().partitioner(partitioner).build().unwrap();
    let producers = [Partitioner::Murmur2, Partitioner::RoundRobin, Partitioner::Random].map(build);
    let named = Client::connect(&support::shared().bootstrap()).unwrap();
    let named = named.producer().build().unwrap();
    named
        .send_sync(Record::to(&topic).partition(1).value("v"), LONG)
        .unwrap();
    let value = [b'x'; 10_000];
    let send = |producer: &Producer| -> BTreeSet<i32> {
        let sent: Vec<_> = (0..60)
            .map(|_| producer.send(Record::to(&topic).value(&value)).unwrap())
            .collect();
        let written = Delivery::wait_all(&sent, LONG);
        written.into_iter().map(|result| result.unwrap().partition).collect()
    };
    let keys = some_keys();
    for producer in &producers {
        assert!(send(producer).is_subset(&BTreeSet::from([0, 1])));
    }
    assert_eq!(chosen(&producers[0], &topic, &keys), fresh(2, &keys));

    admin.admin().add_partitions(&topic, 4).unwrap();
    support::shared().wait_for_topic(&topic, 4);
    // By its number at once, by a client that would not look for minutes.
    for partition in [3, 2] {
        let written = named
            .send_sync(Record::to(&topic).partition(partition).value("v"), LONG)
            .unwrap();
        assert_eq!((written.partition, written.offset), (partition, Some(0)));
    }
    for producer in &producers {
        let mut seen = BTreeSet::new();
        wait_until("all four are used", LONG, || {
            seen.extend(send(producer));
            seen.len() == 4
        });
    }
    assert_eq!(chosen(&producers[0], &topic, &keys), fresh(4, &keys));
}

/// Written to with a producer that knew the topic of this name before it was deleted.
fn made_anew(before: i32, after: i32) {
    let (admin, topic) = topic("anew", before);
    let client = attentive();
    let build = |partitioner| client.producer().partitioner(partitioner).build().unwrap();
    let [keyed, robin] = [Partitioner::Murmur2, Partitioner::RoundRobin].map(build);
    let keys = some_keys();
    assert_eq!(chosen(&keyed, &topic, &keys), fresh(before, &keys));
    let sent: Vec<_> = (0..60)
        .map(|_| robin.send(Record::to(&topic).value("v")).unwrap())
        .collect();
    shares(&sent, before);

    admin
        .admin()
        .delete_topics([&topic])
        .and_then(klamm::Results::all)
        .unwrap();
    // The broker may know it for a moment longer.
    wait_until("made anew", LONG, || {
        let made = admin.admin().create_topics([NewTopic::new(&topic, after, 1)]);
        made.and_then(klamm::Results::all).is_ok()
    });
    support::shared().wait_for_topic(&topic, after as usize);
    let expected = fresh(after, &keys);
    // Whatever fails at first does so because the old topic is gone.
    let mut last = Vec::new();
    let since = Instant::now();
    wait_until("keys go by the new number of partitions", LONG, || {
        let sent = keyed.send_all(keys.iter().map(|key| Record::to(&topic).key(key).value("v")));
        last = sent
            .into_iter()
            .map(|delivery| delivery.and_then(|delivery| delivery.wait(Duration::from_secs(20))))
            .map(|result| result.map_or(-1, |written| written.partition))
            .collect();
        last == expected
    });
    println!("{before} and then {after}: after {:?}", since.elapsed());
    let mut last = Vec::new();
    wait_until("each gets its turn", LONG, || {
        let sent: Vec<_> = (0..60).map(|_| robin.send(Record::to(&topic).value("v"))).collect();
        let written = sent.into_iter().map(|delivery| delivery?.wait(Duration::from_secs(20)));
        last = vec![0; before.max(after) as usize];
        for written in written.flatten() {
            last[written.partition as usize] += 1;
        }
        last.iter().sum::<i32>() == 60 && last[..after as usize].iter().all(|share| *share == 60 / after)
    });
    let error = robin.send(Record::to(&topic).partition(after).value("v")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    assert!(error.to_string().contains(&format!("has {after}")), "{error}");
}

#[test]
fn a_topic_that_is_made_anew_with_more_partitions_is_written_to_in_all_of_them() {
    made_anew(2, 5);
}

#[test]
fn a_topic_that_is_made_anew_with_fewer_partitions_is_written_to_in_those() {
    made_anew(5, 2);
}

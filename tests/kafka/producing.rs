//! Writing to a real Kafka.

mod batching;
mod closing;
mod connections;
mod errors;
mod hasty;
mod java;
mod judge;
mod leaders;
mod lies;
mod partitions;
mod pressure;
mod ways;

use std::time::Duration;

use klamm::{Client, NewTopic, Record};

use crate::support::{self, DumpedBatch, unique};

/// A topic of this name begin, with one copy of each partition, and a client of the shared broker.
pub(crate) fn topic(name: &str, partitions: i32) -> (Client, String) {
    let kafka = support::shared();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let topic = unique(name);
    let made = client.admin().create_topics([NewTopic::new(&topic, partitions, 1)]);
    made.and_then(klamm::Results::all).unwrap();
    kafka.wait_for_topic(&topic, partitions as usize);
    (client, topic)
}

/// The batches of each partition of a topic of the shared broker; none can be seen of a cluster that runs elsewhere.
pub(crate) fn dumped(topic: &str, partitions: usize) -> Option<Vec<Vec<DumpedBatch>>> {
    let kafka = support::shared();
    if kafka.brokers() == 0 {
        println!("{topic}: its batches are on the disk of a cluster that was not started here, and are not looked at");
        return None;
    }
    let folders = (0..partitions as i32).map(|partition| kafka.partition_folder(1, topic, partition));
    Some(support::dumped_batches(&folders.collect::<Vec<_>>()))
}

#[test]
fn what_was_acknowledged_is_read_back_in_order() {
    let (client, topic) = topic("written", 3);
    let producer = client.producer().build().unwrap();
    let sent: Vec<_> = (0..1000)
        .map(|number| {
            let value = number.to_string();
            let record = Record::to(&topic).partition(number % 3).value(&value);
            producer.send(record).unwrap()
        })
        .collect();
    for (number, delivery) in (0..).zip(&sent) {
        let written = delivery.wait(Duration::from_secs(60)).unwrap();
        assert_eq!(
            (written.partition, written.offset),
            (number % 3, Some(i64::from(number / 3)))
        );
    }
    assert!(producer.close(Duration::from_secs(60)).unwrap().is_clean());
    let read = client.reader().topics([&topic]).until_end().open().unwrap();
    let mut next = [0, 1, 2];
    for message in read {
        let message = message.unwrap();
        let next = &mut next[message.partition() as usize];
        assert_eq!(message.value(), Some(next.to_string().as_bytes()));
        *next += 3;
    }
    assert_eq!(next, [1002, 1000, 1001]);
}

#[test]
fn a_producer_that_may_never_wait_learns_of_topics_all_the_same() {
    let (_, topic) = topic("hasty", 1);
    // One that has not made the topic itself, and so knows nothing of it.
    let client = Client::connect(&support::shared().bootstrap()).unwrap();
    let producer = client.producer().max_block(Duration::ZERO).build().unwrap();
    support::wait_until("the topic is known", Duration::from_secs(60), || {
        producer.send_detached(Record::to(&topic).value("now")).is_ok()
    });
    producer.flush(Duration::from_secs(60)).unwrap();
    support::wait_until("the topic is known not to be", Duration::from_secs(60), || {
        let record = Record::to("there-is-none").value("never");
        producer.try_send(record).unwrap_err().kind() == klamm::ErrorKind::UnknownTopic
    });
}

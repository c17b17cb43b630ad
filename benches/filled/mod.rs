//! Topics that hold the same records in the same batches, however many partitions these are spread over.

#![allow(dead_code, reason = "every bench has its own copy, and needs what it needs")]

use std::time::Duration;

use klamm::{Client, NewTopic, Record, StartAt};

use super::{
    support::{self, Kafka},
    values::noise,
};

pub(crate) const VALUE_BYTES: usize = 100;
/// Records in a row for one partition: a batch of about 64 KiB, as other producers make them.
const ROW: usize = 580;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const PATIENCE: Duration = Duration::from_secs(120);

/// Brokers that run as in production, unless a running cluster is given.
pub(crate) enum Cluster {
    Own(Kafka),
    Given(&'static Kafka),
}

impl Cluster {
    pub(crate) fn start(brokers: usize) -> Self {
        match std::env::var_os("KLAMM_TEST_BOOTSTRAP") {
            Some(_) => Self::Given(support::shared()),
            None => Self::Own(
                Kafka::builder()
                    .brokers(brokers)
                    .full_speed()
                    // Deleted topics go at once, most of them before they have reached the disk.
                    .property("log.segment.delete.delay.ms", 0)
                    .start(),
            ),
        }
    }

    pub(crate) fn kafka(&self) -> &Kafka {
        match self {
            Self::Own(kafka) => kafka,
            Self::Given(kafka) => kafka,
        }
    }

    /// A topic with one copy of each partition, from which nothing is deleted. One that is there stays as it is.
    pub(crate) fn create(&self, client: &Client, topic: &str, partitions: usize) {
        let new = NewTopic::new(topic, partitions as i32, 1).config("retention.ms", "-1");
        let created = client.admin().create_topics([new]).expect("the controller answers");
        if let Err(error) = created.all() {
            assert_eq!(error.code(), Some(TOPIC_ALREADY_EXISTS), "{error}");
        }
        self.kafka().wait_for_topic(topic, partitions);
    }

    /// The same with records in some of its partitions, evenly and in turn, unless an earlier run has written them.
    pub(crate) fn fill(&self, client: &Client, topic: &str, partitions: usize, used: &[i32], records: usize) {
        self.create(client, topic, partitions);
        match held(client, topic, used) {
            0 => write(client, topic, used, records),
            found => assert_eq!(found, records, "topic {topic} holds what an earlier run has written"),
        }
    }
}

/// How many records these partitions hold.
pub(crate) fn held(client: &Client, topic: &str, partitions: &[i32]) -> usize {
    let ends = partitions.iter().map(|&partition| {
        let end = client.offset_for(topic, partition, StartAt::Latest);
        end.expect("the partition is there").unwrap_or(0)
    });
    ends.sum::<i64>() as usize
}

fn write(client: &Client, topic: &str, partitions: &[i32], records: usize) {
    let producer = client
        .producer()
        .batch_bytes(64 << 10)
        .linger(Duration::from_secs(1))
        .build()
        .expect("settings that hold");
    let values: Vec<Vec<u8>> = (0..10_000).map(|i| noise(i, VALUE_BYTES)).collect();
    let mut left = records;
    while left > 0 {
        for (at, &partition) in partitions.iter().enumerate() {
            // The last row of each is shorter.
            let row = ROW.min(left.div_ceil(partitions.len() - at));
            for i in left - row..left {
                let record = Record::to(topic).partition(partition).value(&values[i % values.len()]);
                producer.send_detached(record).expect("there is room");
            }
            left -= row;
        }
    }
    producer.flush(PATIENCE).expect("all are in the log");
}

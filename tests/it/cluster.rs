//! The cluster that a scenario runs against: one that is embedded, or a real one.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use klamm::{Client, NewTopic, OwnedMessage, Record, RecordMetadata, StartAt};
use klamm_fake::FakeCluster;

use crate::{LONG, support};

/// Where a scenario runs.
pub(crate) enum Cluster {
    /// One broker of its own.
    Fake(FakeCluster),
    /// The real one that all share: topics and groups need names of their own.
    Kafka(&'static support::Kafka),
}

/// Makes two tests of each scenario: `fake::…` and `kafka::…`.
macro_rules! on_both {
    ($($scenario:ident),* $(,)?) => {
        mod fake {
            $(#[test] fn $scenario() { super::$scenario(&crate::cluster::Cluster::fake()); })*
        }
        mod kafka {
            $(#[test] fn $scenario() { super::$scenario(&crate::cluster::Cluster::kafka()); })*
        }
    };
}
pub(crate) use on_both;

impl Cluster {
    pub(crate) fn fake() -> Self {
        Self::Fake(FakeCluster::builder().start().expect("loopback has a free port"))
    }

    pub(crate) fn kafka() -> Self {
        Self::Kafka(support::shared())
    }

    pub(crate) fn bootstrap(&self) -> String {
        match self {
            Self::Fake(cluster) => cluster.bootstrap(),
            Self::Kafka(kafka) => kafka.bootstrap(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.bootstrap()).expect("the cluster answers")
    }

    /// A new topic, made by klamm itself.
    pub(crate) fn topic(&self, name: &str, partitions: i32) -> String {
        let topic = unique(name);
        let admin = self.client().admin();
        let results = admin.create_topics([NewTopic::new(&topic, partitions, 1)]);
        results.and_then(|results| results.all()).expect("it can be created");
        topic
    }
}

/// A name that nothing else in any cluster has.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("it-{name}-{}-{number}", std::process::id())
}

/// Writes values to a partition, one after the other.
pub(crate) fn write(client: &Client, topic: &str, partition: i32, values: &[&str]) -> Vec<RecordMetadata> {
    let producer = client.producer().build().expect("default settings are allowed");
    let write = |value: &&str| {
        let record = Record::to(topic).partition(partition).value(*value);
        producer.send_sync(record, LONG).expect("it can be written")
    };
    let written = values.iter().map(write).collect();
    assert!(producer.close(LONG).expect("nothing is in its way").is_clean());
    written
}

/// What a topic holds, partition by partition.
pub(crate) fn contents(client: &Client, topic: &str) -> BTreeMap<i32, Vec<OwnedMessage>> {
    let reader = client.reader().topics([topic]).start_at(StartAt::Earliest).until_end();
    let mut contents: BTreeMap<i32, Vec<OwnedMessage>> = BTreeMap::new();
    for message in reader.open().expect("the topic is there") {
        let message = message.expect("it can be read").detach();
        contents.entry(message.partition()).or_default().push(message);
    }
    contents
}

/// The values of these messages, as text.
pub(crate) fn values(messages: &[OwnedMessage]) -> Vec<String> {
    messages.iter().map(|message| text(message.value())).collect()
}

pub(crate) fn text(value: Option<&[u8]>) -> String {
    String::from_utf8(value.expect("a value").to_vec()).expect("text")
}

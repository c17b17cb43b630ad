//! A topic for each run, which leaves nothing behind: a night of runs must not fill the disk.

#![allow(
    dead_code,
    reason = "every bench that writes has its own copy, and needs what it needs"
)]

use klamm::{Admin, Client, NewTopic, StartAt};

use super::{
    race::processor_seconds_of,
    support::{self, Kafka},
};

pub(crate) struct Topics {
    client: Client,
    admin: Admin,
    kafka: Kafka,
}

impl Topics {
    /// In a cluster that runs already, or in one that ends with this.
    pub(crate) fn new(bootstrap: Option<String>) -> Self {
        let own = Kafka::builder()
            .full_speed()
            // Deleted topics go at once, most of them before they have reached the disk.
            .property("log.segment.delete.delay.ms", 0);
        Self::of(bootstrap.map_or_else(|| own.start(), Kafka::at))
    }

    pub(crate) fn of(kafka: Kafka) -> Self {
        let client = Client::connect(&kafka.bootstrap()).expect("the broker is there");
        let admin = client.admin();
        Self { client, admin, kafka }
    }

    /// A topic into which `write` writes so many records, given the cluster's address and the topic's name. Tells how
    /// much time that has cost the broker.
    pub(crate) fn with_new<T>(
        &self,
        partitions: usize,
        records: usize,
        write: impl FnOnce(&str, &str) -> T,
    ) -> (T, f64) {
        let name = self.create(partitions);
        let busy = self.processor_seconds();
        let written = write(&self.bootstrap(), &name);
        let busy = self.processor_seconds() - busy;
        assert_eq!(
            self.records_in(&name, partitions),
            records,
            "every record is there once"
        );
        self.delete(&name);
        (written, busy)
    }

    pub(crate) fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.kafka.bootstrap()
    }

    /// Gives its name.
    pub(crate) fn create(&self, partitions: usize) -> String {
        let name = support::unique("bench");
        let topic = NewTopic::new(&name, partitions as i32, 1)
            // One segment, from which nothing is deleted while it is written.
            .config("segment.bytes", (1 << 30).to_string())
            .config("retention.ms", "-1");
        let created = self.admin.create_topics([topic]).expect("the controller answers");
        created.all().expect("a new topic");
        self.wait_for(&name, partitions);
        name
    }

    /// Gives it empty partitions beside those that it has.
    pub(crate) fn grow(&self, name: &str, partitions: usize) {
        let grown = self.admin.add_partitions(name, partitions as i32);
        grown.expect("more partitions");
        self.wait_for(name, partitions);
    }

    pub(crate) fn records_in(&self, name: &str, partitions: usize) -> usize {
        let ends = (0..partitions).map(|partition| {
            let end = self.client.offset_for(name, partition as i32, StartAt::Latest);
            end.expect("the partition is there").unwrap_or(0)
        });
        ends.sum::<i64>() as usize
    }

    pub(crate) fn delete(&self, name: &str) {
        let deleted = self.admin.delete_topics([name]).expect("the controller answers");
        deleted.all().expect("it is gone");
    }

    fn wait_for(&self, name: &str, partitions: usize) {
        self.kafka.wait_for_topic(name, partitions);
        if self.kafka.brokers() == 0 {
            // A cluster that was given does not tell whether leaders know of it: they do when they answer.
            self.records_in(name, partitions);
        }
    }

    /// Of the broker; nobody knows it of a cluster that was given.
    fn processor_seconds(&self) -> f64 {
        match self.kafka.brokers() {
            1 => processor_seconds_of(&self.kafka.process_id(1).to_string()),
            _ => f64::NAN,
        }
    }
}

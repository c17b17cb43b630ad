//! A topic for each run, which leaves nothing behind: a night of runs must not fill the disk.

use std::env;

use klamm::{Admin, Client, NewTopic, StartAt};

use super::{
    race::processor_seconds_of,
    support::{self, Kafka},
};

pub(crate) struct Topics {
    client: Client,
    admin: Admin,
    kafka: Here,
}

/// Where the topics are.
enum Here {
    Own(Kafka),
    Given(&'static Kafka),
}

impl Topics {
    pub(crate) fn new() -> Self {
        let kafka = match env::var_os("KLAMM_TEST_BOOTSTRAP") {
            Some(_) => Here::Given(support::shared()),
            None => Here::Own(
                Kafka::builder()
                    .full_speed()
                    // Deleted topics go at once, most of them before they have reached the disk.
                    .property("log.segment.delete.delay.ms", 0)
                    .start(),
            ),
        };
        let client = Client::connect(&kafka.get().bootstrap()).expect("the broker is there");
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
        let name = support::unique("bench");
        let topic = NewTopic::new(&name, partitions as i32, 1)
            // One segment, from which nothing is deleted while it is written.
            .config("segment.bytes", (1 << 30).to_string())
            .config("retention.ms", "-1");
        let created = self.admin.create_topics([topic]).expect("the controller answers");
        created.all().expect("a new topic");
        self.kafka.get().wait_for_topic(&name, partitions);
        let busy = self.kafka.processor_seconds();
        let written = write(&self.kafka.get().bootstrap(), &name);
        let busy = self.kafka.processor_seconds() - busy;
        let ends = (0..partitions).map(|partition| {
            let end = self.client.offset_for(&name, partition as i32, StartAt::Latest);
            end.expect("the partition is there").unwrap_or(0)
        });
        assert_eq!(ends.sum::<i64>(), records as i64, "every record is there once");
        let deleted = self.admin.delete_topics([name]).expect("the controller answers");
        deleted.all().expect("it is gone");
        (written, busy)
    }
}

impl Here {
    /// Nobody knows it of a cluster that was given.
    fn processor_seconds(&self) -> f64 {
        match self {
            Self::Own(kafka) => processor_seconds_of(&kafka.process_id(1).to_string()),
            Self::Given(_) => f64::NAN,
        }
    }

    fn get(&self) -> &Kafka {
        match self {
            Self::Own(kafka) => kafka,
            Self::Given(kafka) => kafka,
        }
    }
}

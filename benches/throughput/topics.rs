//! What is read, and how it got there.

use std::{env, fmt, fs};

use klamm::{Client, StartAt};

use super::{
    support::{self, Kafka, fast_java_tool, unique},
    values,
};

const SETTINGS: &[&str] = &["acks=1", "batch.size=65536", "linger.ms=5"];

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) value_bytes: usize,
    partitions: usize,
    codec: &'static str,
    /// How many times fewer records than of the first.
    fewer: usize,
}

pub(crate) const WORKLOADS: &[Workload] = &[
    PLAIN,
    Workload {
        name: "1-partition",
        partitions: 1,
        ..PLAIN
    },
    Workload {
        name: "1KiB",
        value_bytes: 1024,
        fewer: 4,
        ..PLAIN
    },
    compressed("gzip"),
    compressed("snappy"),
    compressed("lz4"),
    compressed("zstd"),
];

const PLAIN: Workload = Workload {
    name: "100B",
    value_bytes: 100,
    partitions: 12,
    codec: "none",
    fewer: 1,
};

const fn compressed(codec: &'static str) -> Workload {
    Workload {
        name: codec,
        value_bytes: 200,
        codec,
        fewer: 2,
        ..PLAIN
    }
}

impl Workload {
    pub(crate) fn records(&self, plain: usize) -> usize {
        plain / self.fewer
    }

    /// The topic that holds so many records; it is filled if no earlier run has done so.
    pub(crate) fn topic(&self, kafka: &Kafka, records: usize) -> String {
        let Self { name, partitions, .. } = *self;
        let topic = format!("klamm-bench-{name}-{records}");
        let client = Client::connect(&kafka.bootstrap()).expect("the broker is there");
        let settings = ["retention.ms=-1", "--config", "segment.bytes=1073741824"];
        let count = partitions.to_string();
        kafka.topic_command(
            &[
                &["--create", "--if-not-exists", "--topic", &topic][..],
                &["--partitions", &count, "--config"],
                &settings,
            ]
            .concat(),
        );
        kafka.wait_for_topic(&topic, partitions);
        let ends = (0..partitions).map(|partition| {
            let end = client.offset_for(&topic, partition as i32, StartAt::Latest);
            end.expect("the partition is there").unwrap_or(0)
        });
        match ends.sum::<i64>() as usize {
            0 => self.fill(kafka, &topic, records),
            found => assert_eq!(found, records, "topic {topic} holds what an earlier run has written"),
        }
        topic
    }

    fn fill(&self, kafka: &Kafka, topic: &str, records: usize) {
        if self.codec == "none" {
            kafka.producer_performance(topic, records, self.value_bytes, SETTINGS);
            return;
        }
        let lines: Vec<_> = (0..VARIETY).map(values::text).collect();
        let file = env::temp_dir().join(unique("klamm-bench"));
        fs::write(&file, lines.join(&b'\n')).expect("a file can be written");
        let (records, file_name) = (records.to_string(), file.display().to_string());
        let bootstrap = format!("bootstrap.servers={}", kafka.internal_bootstrap());
        let codec = format!("compression.type={}", self.codec);
        let mut args = vec!["--topic", topic, "--num-records", &records];
        args.extend(["--payload-file", &file_name]);
        args.extend(["--throughput", "-1", "--producer-props", &bootstrap, &codec]);
        args.extend(SETTINGS);
        fast_java_tool("org.apache.kafka.tools.ProducerPerformance", &args);
        let _ = fs::remove_file(&file);
    }
}

/// So many texts, in any order: much more than the largest batch holds, so that no codec sees many of them twice.
const VARIETY: usize = 20_000;

impl fmt::Display for Workload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partitions,
            value_bytes,
            codec,
            ..
        } = self;
        let s = if *partitions == 1 { "" } else { "s" };
        write!(
            out,
            "{value_bytes} bytes, {codec}, {partitions} partition{s}, written by ProducerPerformance with {SETTINGS:?}"
        )
    }
}

/// The broker to read from: one that runs, or one of our own, as fast as in production.
pub(crate) enum Broker {
    Own(Kafka),
    Given(&'static Kafka),
}

impl Broker {
    pub(crate) fn find() -> Self {
        match env::var_os("KLAMM_TEST_BOOTSTRAP") {
            Some(_) => Self::Given(support::shared()),
            None => Self::Own(Kafka::builder().full_speed().start()),
        }
    }

    pub(crate) fn kafka(&self) -> &Kafka {
        match self {
            Self::Own(kafka) => kafka,
            Self::Given(kafka) => kafka,
        }
    }
}

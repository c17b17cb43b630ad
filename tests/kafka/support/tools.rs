//! Kafka's own Java programs: the second opinion. Each run starts a JVM, about a second of one core.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::process::Process;
use super::{Kafka, jars, watchdog};

const LIMIT: Duration = Duration::from_secs(180);

/// Runs a program of Kafka's class path, and returns what it printed.
///
/// # Panics
///
/// When it fails or takes longer than three minutes, with all it said.
pub fn java_tool(main_class: &str, args: &[&str], stdin: &str) -> String {
    run_tool(jars::java_command(320), main_class, args, stdin)
}

/// The same for a program that has much to do: see [`KafkaBuilder::full_speed`](super::KafkaBuilder::full_speed).
pub fn fast_java_tool(main_class: &str, args: &[&str]) -> String {
    run_tool(jars::fast_java_command(512), main_class, args, "")
}

fn run_tool(mut command: Command, main_class: &str, args: &[&str], stdin: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let file = |kind: &str| watchdog::run_folder().join(format!("tool-{count}-{kind}.txt"));
    let create = |kind: &str| File::create(file(kind)).expect("a file can be made");
    // Files instead of pipes: no thread is needed to keep a talkative program going.
    std::fs::write(file("in"), stdin).expect("the input can be written");
    command
        .args(["-cp", jars::class_path(), main_class])
        .args(args)
        .stdin(Stdio::from(File::open(file("in")).expect("the input was written")))
        .stdout(Stdio::from(create("out")))
        .stderr(Stdio::from(create("err")));
    let mut process = Process::start(&mut command);
    let status = process.wait(LIMIT);
    let read = |kind: &str| String::from_utf8_lossy(&std::fs::read(file(kind)).unwrap_or_default()).into_owned();
    let output = read("out");
    match status {
        Some(status) if status.success() => output,
        Some(status) => panic!("{main_class} {args:?} ended with {status}:\n{output}{}", read("err")),
        None => panic!(
            "{main_class} {args:?} did not end within {LIMIT:?}:\n{output}{}",
            read("err")
        ),
    }
}

/// `ConsoleProducer`: `to` says how to connect.
pub(super) fn console_producer(to: &[&str], topic: &str, args: &[&str], lines: &str) -> String {
    let all = [to, &["--topic", topic], args].concat();
    java_tool("org.apache.kafka.tools.ConsoleProducer", &all, lines)
}

/// `ConsoleConsumer`, likewise.
pub(super) fn console_consumer(to: &[&str], topic: &str, records: usize, args: &[&str]) -> String {
    let records = records.to_string();
    let which = ["--topic", topic, "--from-beginning", "--max-messages", &records];
    let all = [to, &which, &["--timeout-ms", "60000"], args].concat();
    java_tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &all, "")
}

/// A partition's segments as Kafka itself describes them, batch by batch and record by record.
pub fn dump_log_segments(partition_folder: &Path) -> String {
    let mut segments: Vec<String> = std::fs::read_dir(partition_folder)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", partition_folder.display()))
        .filter_map(Result::ok)
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.ends_with(".log"))
        .collect();
    segments.sort();
    java_tool(
        "org.apache.kafka.tools.DumpLogSegments",
        &["--print-data-log", "--files", &segments.join(",")],
        "",
    )
}

/// A batch as `DumpLogSegments` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedBatch {
    pub first: i64,
    pub last: i64,
    pub records: usize,
    /// −1 without a producer ID.
    pub sequence: i32,
    pub producer_id: i64,
    pub epoch: i16,
    /// As it lies on the disk, with its header.
    pub bytes: usize,
    pub codec: String,
    /// Its checksum is right.
    pub is_valid: bool,
}

/// The batches of partitions, as Kafka itself finds them in their segments: one JVM for all.
pub fn dumped_batches(partition_folders: &[PathBuf]) -> Vec<Vec<DumpedBatch>> {
    let mut segments = Vec::new();
    for (at, folder) in partition_folders.iter().enumerate() {
        let files =
            std::fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
        let files = files.filter_map(|entry| Some(entry.ok()?.path().display().to_string()));
        segments.extend(files.filter(|path| path.ends_with(".log")).map(|path| (path, at)));
    }
    segments.sort();
    let names: Vec<&str> = segments.iter().map(|(path, _)| path.as_str()).collect();
    let printed = java_tool(
        "org.apache.kafka.tools.DumpLogSegments",
        &["--files", &names.join(",")],
        "",
    );
    let mut batches = vec![Vec::new(); partition_folders.len()];
    let mut place = None;
    for line in printed.lines() {
        if let Some(path) = line.strip_prefix("Dumping ") {
            place = segments.iter().find(|(segment, _)| segment == path).map(|(_, at)| *at);
        } else if line.starts_with("baseOffset: ") {
            let words: Vec<&str> = line.split_whitespace().collect();
            let word = |name: &str| {
                let at = words.iter().position(|word| *word == name);
                let word = at.and_then(|at| words.get(at + 1)).copied();
                word.unwrap_or_else(|| panic!("no {name} in {line:?}"))
            };
            let number = |name| word(name).parse::<i64>().expect("a number");
            batches[place.expect("a file's name comes before its batches")].push(DumpedBatch {
                first: number("baseOffset:"),
                last: number("lastOffset:"),
                records: number("count:") as usize,
                sequence: number("baseSequence:") as i32,
                producer_id: number("producerId:"),
                epoch: number("producerEpoch:") as i16,
                bytes: number("size:") as usize,
                codec: word("compresscodec:").to_lowercase(),
                is_valid: word("isvalid:") == "true",
            });
        }
    }
    batches
}

/// A partition of a group, as `ConsumerGroupCommand --describe` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub topic: String,
    pub partition: i32,
    /// None when nothing is committed.
    pub current: Option<i64>,
    pub log_end: i64,
    pub lag: Option<i64>,
    /// None when nobody has it.
    pub consumer: Option<String>,
    pub client: Option<String>,
}

impl Kafka {
    /// `ConsumerGroupCommand --describe`: Kafka's own word on owners, committed offsets and lag.
    pub fn describe_group(&self, group: &str) -> Vec<Described> {
        let printed = self.group_command(&["--describe", "--group", group]);
        let mut lines = printed.lines().skip_while(|line| !line.starts_with("GROUP "));
        let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        lines
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let word = |name: &str| {
                    let at = names.iter().position(|known| *known == name);
                    let word = at.and_then(|at| words.get(at)).copied();
                    word.unwrap_or_else(|| panic!("no {name} in {printed:?}"))
                };
                let given = |name| Some(word(name)).filter(|word| *word != "-").map(str::to_owned);
                let number = |name| given(name).map(|word| word.parse::<i64>().expect("a number"));
                Described {
                    topic: word("TOPIC").to_owned(),
                    partition: word("PARTITION").parse().expect("a number"),
                    current: number("CURRENT-OFFSET"),
                    log_end: number("LOG-END-OFFSET").expect("a log has an end"),
                    lag: number("LAG"),
                    consumer: given("CONSUMER-ID"),
                    client: given("CLIENT-ID"),
                }
            })
            .collect()
    }

    /// `TopicCommand --bootstrap-server …` with these arguments, such as `["--describe", "--topic", topic]`.
    pub fn topic_command(&self, args: &[&str]) -> String {
        self.tool("org.apache.kafka.tools.TopicCommand", args, "")
    }

    /// `ConfigCommand` with these arguments.
    pub fn config_command(&self, args: &[&str]) -> String {
        self.tool("kafka.admin.ConfigCommand", args, "")
    }

    /// `ConsumerGroupCommand` with these arguments.
    pub fn group_command(&self, args: &[&str]) -> String {
        self.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", args, "")
    }

    /// `ConsoleProducer` sends each line of `lines` as a record.
    pub fn console_producer(&self, topic: &str, args: &[&str], lines: &str) -> String {
        console_producer(&["--bootstrap-server", &self.internal_bootstrap()], topic, args, lines)
    }

    /// `ConsoleConsumer` reads so many records from the beginning and prints them.
    pub fn console_consumer(&self, topic: &str, records: usize, args: &[&str]) -> String {
        console_consumer(
            &["--bootstrap-server", &self.internal_bootstrap()],
            topic,
            records,
            args,
        )
    }

    /// `ProducerPerformance` writes records as fast as it can; `settings` are the producer's, such as
    /// `["acks=all", "compression.type=lz4"]`.
    pub fn producer_performance(&self, topic: &str, records: usize, value_bytes: usize, settings: &[&str]) -> String {
        let bootstrap = format!("bootstrap.servers={}", self.internal_bootstrap());
        let [records, value_bytes] = [records, value_bytes].map(|n| n.to_string());
        let mut args = vec![
            "--topic",
            topic,
            "--num-records",
            &records,
            "--record-size",
            &value_bytes,
        ];
        args.extend(["--throughput", "-1", "--producer-props", &bootstrap]);
        args.extend(settings);
        java_tool("org.apache.kafka.tools.ProducerPerformance", &args, "")
    }

    /// `ReassignPartitionsCommand` with these arguments.
    pub fn reassign_command(&self, args: &[&str]) -> String {
        self.tool("org.apache.kafka.tools.reassign.ReassignPartitionsCommand", args, "")
    }

    /// `LeaderElectionCommand` with these arguments.
    pub fn leader_election_command(&self, args: &[&str]) -> String {
        self.tool("org.apache.kafka.tools.LeaderElectionCommand", args, "")
    }

    /// `DeleteRecordsCommand` with these arguments.
    pub fn delete_records_command(&self, args: &[&str]) -> String {
        self.tool("org.apache.kafka.tools.DeleteRecordsCommand", args, "")
    }

    /// Any tool that takes `--bootstrap-server`.
    pub fn tool(&self, main_class: &str, args: &[&str], stdin: &str) -> String {
        let bootstrap = self.internal_bootstrap();
        let mut all = vec!["--bootstrap-server", &bootstrap];
        all.extend(args);
        java_tool(main_class, &all, stdin)
    }
}

//! Talks to `Corner.java`: quick upkeep of clusters, odd topics, and what Java's clients see.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::checker::Committed;
use super::process::Process;
use super::{Kafka, jars, wait, watchdog};

/// Longer than any command's own limits.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);

/// A record as Java sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Seen {
    /// The value as text, for tests whose values are text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

/// The ends of a partition as Java sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    pub partition: i32,
    pub earliest: i64,
    pub last_stable: i64,
    pub latest: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    pub partition: i32,
    /// -1 when there is none.
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    pub id: String,
    pub instance: String,
    pub client: String,
    pub partitions: Vec<(String, i32)>,
}

impl Kafka {
    /// A topic with as many copies as there are brokers, at most three; returns when every broker knows its leaders.
    pub fn create_topic(&self, topic: &str, partitions: usize, configs: &[(&str, &str)]) {
        let copies = self.brokers().clamp(1, 3).to_string();
        let count = partitions.to_string();
        self.create("create", topic, &[&count, &copies], configs);
        self.wait_for_topic(topic, partitions);
    }

    /// A topic whose partitions are on these brokers, the leader first.
    pub fn create_topic_on(&self, topic: &str, replicas: &[&[i32]], configs: &[(&str, &str)]) {
        let assignment: Vec<String> = replicas.iter().map(|brokers| joined(brokers)).collect();
        self.create("create-on", topic, &[&assignment.join("/")], configs);
        self.wait_for_topic(topic, replicas.len());
    }

    /// Asks for the topic to be deleted; brokers may know it for a moment longer.
    pub fn delete_topic(&self, topic: &str) {
        self.corner("delete", &[topic]);
    }

    /// Adds partitions until there are so many.
    pub fn grow_topic(&self, topic: &str, partitions: usize) {
        self.corner("grow", &[topic, &partitions.to_string()]);
        self.wait_for_topic(topic, partitions);
    }

    pub fn set_topic_configs(&self, topic: &str, configs: &[(&str, &str)]) {
        let configs: Vec<String> = configs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut args = vec![topic];
        args.extend(configs.iter().map(String::as_str));
        self.corner("set", &args);
    }

    /// Deletes all records before the offset.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        self.corner("delete-records", &[topic, &partition.to_string(), &before.to_string()]);
    }

    pub fn partition_states(&self, topic: &str) -> Vec<PartitionState> {
        let lines = self.corner("partitions", &[topic]);
        let ids = |list: &str| list.split(',').filter(|id| !id.is_empty()).map(number).collect();
        lines
            .iter()
            .map(|line| match words(line)[..] {
                [partition, leader, replicas, in_sync] => PartitionState {
                    partition: number(partition),
                    leader: number(leader),
                    replicas: ids(replicas),
                    in_sync: ids(in_sync),
                },
                _ => panic!("an answer of another shape: {line:?}"),
            })
            .collect()
    }

    /// Waits until all replicas of all partitions are in sync: before one of them is killed.
    pub fn wait_until_in_sync(&self, topic: &str) {
        wait::wait_until(&format!("all replicas of {topic} in sync"), ANSWER_LIMIT, || {
            self.partition_states(topic)
                .iter()
                .all(|state| state.in_sync.len() == state.replicas.len())
        });
    }

    /// Gives the partition back to its preferred leader.
    pub fn elect_preferred_leader(&self, topic: &str, partition: i32) {
        self.corner("elect", &[topic, &partition.to_string()]);
    }

    /// Moves the partition to these brokers, and returns when it is there. (The leader moves only when it must:
    /// see `elect_preferred_leader`.)
    pub fn reassign(&self, topic: &str, partition: i32, brokers: &[i32]) {
        self.corner("reassign", &[topic, &partition.to_string(), &joined(brokers)]);
    }

    pub fn offsets(&self, topic: &str) -> Vec<Offsets> {
        let lines = self.corner("list-offsets", &[topic]);
        lines
            .iter()
            .map(|line| match words(line)[..] {
                [partition, earliest, last_stable, latest] => Offsets {
                    partition: number(partition),
                    earliest: number(earliest),
                    last_stable: number(last_stable),
                    latest: number(latest),
                },
                _ => panic!("an answer of another shape: {line:?}"),
            })
            .collect()
    }

    /// What the group has committed, by topic and partition.
    pub fn committed(&self, group: &str) -> BTreeMap<(String, i32), (i64, String)> {
        let lines = self.corner("committed", &[group]);
        lines
            .iter()
            .map(|line| match words(line)[..] {
                [topic, partition, offset, metadata] => (
                    (topic.to_owned(), number(partition)),
                    (number(offset), metadata.to_owned()),
                ),
                _ => panic!("an answer of another shape: {line:?}"),
            })
            .collect()
    }

    /// The same for the checker: offsets alone.
    pub fn committed_offsets(&self, group: &str) -> Committed {
        let committed = self.committed(group).into_iter();
        committed
            .map(|(partition, (offset, _))| (partition.into(), offset))
            .collect()
    }

    /// Sets a group's committed offset; the group must have no members.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        self.corner("commit", &[group, topic, &partition.to_string(), &offset.to_string()]);
    }

    /// The group's type (`Classic`, `Consumer`), its state (`Stable`), and its members.
    pub fn group(&self, group: &str) -> (String, String, Vec<GroupMember>) {
        let lines = self.corner("group", &[group]);
        let (head, members) = lines.split_first().expect("a described group has a first line");
        let (kind, state) = head.split_once('\t').expect("type and state");
        let members = members.iter().map(|line| match words(line)[..] {
            [id, instance, client, partitions] => GroupMember {
                id: id.to_owned(),
                instance: instance.to_owned(),
                client: client.to_owned(),
                partitions: partitions
                    .split(',')
                    .filter_map(|partition| partition.rsplit_once(':'))
                    .map(|(topic, partition)| (topic.to_owned(), number(partition)))
                    .collect(),
            },
            _ => panic!("an answer of another shape: {line:?}"),
        });
        (kind.to_owned(), state.to_owned(), members.collect())
    }

    /// What Java's consumer reads of the whole topic, in the order of arrival (partitions may mix), aborted
    /// and open transactions included.
    pub fn java_reads(&self, topic: &str, at_most: usize) -> Vec<Seen> {
        seen(&self.corner("consume", &[topic, &at_most.to_string(), "read_uncommitted"]))
    }

    /// The same with `isolation.level=read_committed`.
    pub fn java_reads_committed(&self, topic: &str, at_most: usize) -> Vec<Seen> {
        seen(&self.corner("consume", &[topic, &at_most.to_string(), "read_committed"]))
    }

    /// Java writes so many records, taking turns over the partitions: keys are "0", "1", … within each partition,
    /// values "partition:number:" and filler up to `value_bytes`. Codecs: none, gzip, snappy, lz4, zstd.
    pub fn fill(&self, topic: &str, partitions: usize, count: usize, codec: &str, value_bytes: usize) {
        self.fill_from(0, topic, partitions, count, codec, value_bytes);
    }

    /// Continues an earlier fill: `first` is the first number within each partition.
    pub fn fill_from(
        &self,
        first: usize,
        topic: &str,
        partitions: usize,
        count: usize,
        codec: &str,
        value_bytes: usize,
    ) {
        let [first, partitions, count, value_bytes] = [first, partitions, count, value_bytes].map(|n| n.to_string());
        self.corner("fill", &[topic, &partitions, &count, codec, &value_bytes, &first]);
    }

    /// Java writes records as [`fill`](Self::fill) does, `rate` in a second over all partitions, while the test goes on:
    /// for so long, or until it is told to [`stop`](Pouring::stop).
    pub fn pour(&self, topic: &str, partitions: usize, rate: f64, time: Duration) -> Pouring {
        self.pour_from(0, topic, partitions, rate, time)
    }

    /// Continues an earlier fill: `first` is the first number within each partition.
    pub fn pour_from(&self, first: usize, topic: &str, partitions: usize, rate: f64, time: Duration) -> Pouring {
        let bootstrap = self.internal_bootstrap();
        let line = format!(
            "{bootstrap}\tpour\t{topic}\t{partitions}\t{rate}\t{}\t0\t{first}",
            time.as_millis()
        );
        let mut server = Server::take();
        server.tell(&line);
        Pouring {
            server,
            line,
            time,
            first,
        }
    }

    /// Java writes texts, each in a batch of its own, without keys; their offsets.
    pub fn java_writes(&self, topic: &str, partition: i32, values: &[&str]) -> Vec<i64> {
        let partition = partition.to_string();
        let mut args = vec![topic, &partition];
        args.extend(values);
        self.corner("send", &args).iter().map(|line| number(line)).collect()
    }

    /// Java writes a record for each key, and lets its own partitioner choose; the partitions, in the order of the keys.
    pub fn java_writes_keyed(&self, topic: &str, keys: &[Vec<u8>]) -> Vec<i32> {
        let keys: Vec<String> = keys
            .iter()
            .map(|key| key.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        let mut args = vec![topic];
        args.extend(keys.iter().map(String::as_str));
        let lines = self.corner("send-keyed", &args);
        lines.iter().map(|line| number(line)).collect()
    }

    /// Records at the corners of the format: nulls and empties, headers, odd timestamps. See `Corner.java`.
    pub fn write_corner_records(&self, topic: &str, partition: i32) -> Vec<Seen> {
        // The year 9999 is more ahead of the clock than brokers like.
        self.set_topic_configs(topic, &[("message.timestamp.after.max.ms", &i64::MAX.to_string())]);
        seen(&self.corner("corner", &[topic, &partition.to_string()]))
    }

    /// Committed, aborted and open transactions of three producers, mixed with plain records. See `Corner.java`.
    pub fn write_transactions(&self, topic: &str, partition: i32) -> Transactions {
        let bootstrap = self.internal_bootstrap();
        let line = format!("{bootstrap}\ttransactions\t{topic}\t{partition}");
        let mut server = Server::take();
        let lines = server.must(&line);
        let written = lines.iter().map(|line| match words(line)[..] {
            [offset, value] => (number(offset), value.to_owned()),
            _ => panic!("an answer of another shape: {line:?}"),
        });
        Transactions {
            written: written.collect(),
            topic: topic.to_owned(),
            bootstrap,
            server: Some(server),
        }
    }

    /// A compacted topic of one partition with gaps and empty batches at its head, middle and tail, and the
    /// records that are left in it.
    pub fn create_compacted_topic(&self, topic: &str) -> Vec<Seen> {
        let configs = [
            ("cleanup.policy", "compact"),
            ("segment.ms", "1000"),
            ("min.cleanable.dirty.ratio", "0.001"),
        ];
        self.create_topic(topic, 1, &configs);
        seen(&self.corner("compact", &[topic]))
    }

    /// Runs any command of `Corner.java` on this cluster.
    pub fn corner(&self, command: &str, args: &[&str]) -> Vec<String> {
        run(&self.internal_bootstrap(), command, args)
    }

    /// Allows something to somebody: `("User:alice", "READ", "TOPIC", topic)`. Others may not do it any more, unless they
    /// are allowed to as well. Returns when brokers know.
    pub fn allow(&self, principal: &str, operation: &str, resource: &str, name: &str) {
        self.corner("allow", &[principal, operation, resource, name]);
    }

    /// Takes back what was allowed.
    pub fn revoke(&self, principal: &str, operation: &str, resource: &str, name: &str) {
        self.corner("revoke", &[principal, operation, resource, name]);
    }

    /// Forbids something to somebody, whoever allows it.
    pub fn deny(&self, principal: &str, operation: &str, resource: &str, name: &str) {
        self.corner("deny", &[principal, operation, resource, name]);
    }

    /// Takes that back.
    pub fn deny_no_more(&self, principal: &str, operation: &str, resource: &str, name: &str) {
        self.corner("deny-no-more", &[principal, operation, resource, name]);
    }

    /// Gives a SCRAM user this password from now on; an empty one removes the user.
    pub fn set_scram_password(&self, mechanism: &str, user: &str, password: &str) {
        self.corner("scram", &[mechanism, user, password]);
    }

    fn create(&self, command: &str, topic: &str, shape: &[&str], configs: &[(&str, &str)]) {
        let configs: Vec<String> = configs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut args = vec![topic];
        args.extend(shape);
        args.extend(configs.iter().map(String::as_str));
        self.corner(command, &args);
    }
}

/// Runs a command in a JVM that is kept for the next one: as many are kept as tests ask at the same time.
pub fn run(bootstrap: &str, command: &str, args: &[&str]) -> Vec<String> {
    let line = line(bootstrap, command, args);
    let mut server = Server::take();
    let lines = server.must(&line);
    server.give_back();
    lines
}

/// The same for what may fail: Java's own words for it then.
pub fn try_run(bootstrap: &str, command: &str, args: &[&str]) -> Result<Vec<String>, String> {
    let line = line(bootstrap, command, args);
    let mut server = Server::take();
    let (lines, failure) = server.ask(&line);
    server.give_back();
    failure.map_or(Ok(lines), Err)
}

fn line(bootstrap: &str, command: &str, args: &[&str]) -> String {
    let mut line = format!("{bootstrap}\t{command}");
    for arg in args {
        assert!(
            !arg.contains(['\t', '\n']),
            "an argument with a tab or a line break: {arg:?}"
        );
        line.push('\t');
        line.push_str(arg);
    }
    line
}

/// Java writing at a constant rate: [`Kafka::pour`]. Dropped, it stops, and what it wrote is not known.
#[must_use = "it stops when it is dropped"]
pub struct Pouring {
    server: Server,
    line: String,
    time: Duration,
    first: usize,
}

impl Pouring {
    /// Waits until its time is over: how many records each partition has then, those before it included.
    pub fn finish(self) -> BTreeMap<i32, usize> {
        let counts = self.counts();
        self.server.give_back();
        counts
    }

    /// Stops it now: the same.
    pub fn stop(mut self) -> BTreeMap<i32, usize> {
        self.server.tell("\tenough");
        let counts = self.counts();
        let (_, failure) = self.server.answer("enough", ANSWER_LIMIT);
        assert_eq!(failure, None);
        self.server.give_back();
        counts
    }

    fn counts(&self) -> BTreeMap<i32, usize> {
        let (lines, failure) = self.server.answer(&self.line, self.time + ANSWER_LIMIT);
        if let Some(failure) = failure {
            panic!("Corner.java at {:?}: {failure}", self.line);
        }
        let count = |line: &String| match words(line)[..] {
            [partition, count] => (number(partition), self.first + number::<usize>(count)),
            _ => panic!("an answer of another shape: {line:?}"),
        };
        lines.iter().map(count).collect()
    }
}

/// What [`Kafka::write_transactions`] wrote, and the Java program that holds one transaction open.
///
/// When dropped, the transaction stays as it is.
pub struct Transactions {
    /// Offset and value in the order of writing. A value begins with its fate: `committed-`, `aborted-`, `plain-`,
    /// `open-`, or `after-` for plain records past the last stable offset.
    pub written: Vec<(i64, String)>,
    topic: String,
    bootstrap: String,
    server: Option<Server>,
}

impl Transactions {
    /// Commits the open transaction: its records and those after it become readable.
    pub fn commit(self) {
        self.finish("commit");
    }

    /// Aborts the open transaction: the records after it become readable.
    pub fn abort(self) {
        self.finish("abort");
    }

    fn finish(mut self, how: &str) {
        let line = format!("{}\tfinish\t{}\t{how}", self.bootstrap, self.topic);
        self.server.as_mut().expect("held until drop").must(&line);
    }
}

impl Drop for Transactions {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.give_back();
        }
    }
}

static IDLE: Mutex<Vec<Server>> = Mutex::new(Vec::new());

struct Server {
    stdin: ChildStdin,
    answers: Receiver<String>,
    process: Process,
    log: std::path::PathBuf,
}

impl Server {
    fn start() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let log = watchdog::run_folder().join(format!("corner-{}.txt", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut command = jars::java_command(320);
        command
            .args(["-cp", jars::class_path(), "Corner"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a file can be made"));
        let mut process = Process::start(&mut command);
        let (stdin, stdout) = process.pipes();
        let (sender, answers) = channel();
        // Ends with the process whose output it reads.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            stdin,
            answers,
            process,
            log,
        }
    }

    fn take() -> Self {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(Self::start)
    }

    fn give_back(self) {
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    /// The lines of the answer; panics when the command failed. (The panic ends this JVM: failures are rare.)
    fn must(&mut self, line: &str) -> Vec<String> {
        let (lines, failure) = self.ask(line);
        if let Some(failure) = failure {
            panic!("Corner.java at {line:?}: {failure}");
        }
        lines
    }

    /// The lines of the answer, and why the command failed if it did.
    fn ask(&mut self, line: &str) -> (Vec<String>, Option<String>) {
        self.tell(line);
        self.answer(line, ANSWER_LIMIT)
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}")
            .unwrap_or_else(|error| panic!("Corner.java has ended ({error}): {}", self.log()));
    }

    fn answer(&self, line: &str, limit: Duration) -> (Vec<String>, Option<String>) {
        let end = Instant::now() + limit;
        let mut lines = Vec::new();
        loop {
            match self.answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(answer) => match answer.strip_prefix('|') {
                    Some(text) => lines.push(text.to_owned()),
                    None if answer == "ok" => return (lines, None),
                    None => return (lines, Some(answer)),
                },
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no answer to {line:?} within {limit:?}: {}", self.log())
                }
                Err(RecvTimeoutError::Disconnected) => panic!("Corner.java ended at {line:?}: {}", self.log()),
            }
        }
    }

    fn log(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }
}

pub(super) fn seen(lines: &[String]) -> Vec<Seen> {
    let one = |line: &String| {
        let words = words(line);
        let [partition, offset, timestamp, key, value, headers @ ..] = &words[..] else {
            panic!("an answer of another shape: {line:?}")
        };
        Seen {
            partition: number(partition),
            offset: number(offset),
            timestamp: number(timestamp),
            key: bytes(key),
            value: bytes(value),
            headers: headers
                .chunks_exact(2)
                .map(|pair| {
                    (
                        String::from_utf8(bytes(pair[0]).unwrap_or_default()).expect("a name"),
                        bytes(pair[1]),
                    )
                })
                .collect(),
        }
    };
    lines.iter().map(one).collect()
}

fn words(line: &str) -> Vec<&str> {
    line.split('\t').collect()
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"))
}

/// Hex, or "null".
fn bytes(word: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| (digit as char).to_digit(16).expect("a hex digit") as u8;
    (word != "null").then(|| {
        word.as_bytes()
            .chunks_exact(2)
            .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
            .collect()
    })
}

fn joined(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Kafka {
    /// Java writes one batch of records with these create times, in milliseconds, as text in their values; their offsets.
    pub fn java_writes_at(&self, topic: &str, partition: i32, times: &[i64]) -> Vec<i64> {
        let times: Vec<String> = times.iter().map(ToString::to_string).collect();
        let partition = partition.to_string();
        let mut args = vec![topic, &partition];
        args.extend(times.iter().map(String::as_str));
        self.corner("send-at", &args).iter().map(|line| number(line)).collect()
    }
}

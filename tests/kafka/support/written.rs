//! What every producer is judged by: each record that was sent, what its delivery told, and what is in the log.
//!
//! [`Load`] sends numbered records and keeps every outcome. [`judge`] reads the log with klamm's reader and with Kafka's
//! `DumpLogSegments`, and compares.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use klamm::{Client, Delivery, ErrorKind, Producer, Record, RecordMetadata};

use super::wait::wait_until;
use super::{Kafka, java_tool};

/// Beyond `delivery_timeout`, for a machine that is busy with other things.
pub const GRACE: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(180);

/// A record and what became of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub partition: i32,
    pub thread: usize,
    pub number: u64,
    /// The length of the value.
    pub bytes: usize,
    /// When `send` was called.
    pub sent: Instant,
    /// From then until somebody saw the outcome.
    pub took: Duration,
    /// Whether `send` took it over: what it refused must not be in the log.
    pub taken: bool,
    /// None: there was none in time.
    pub result: Option<klamm::Result<RecordMetadata>>,
}

impl Outcome {
    pub fn is_acknowledged(&self) -> bool {
        matches!(self.result, Some(Ok(_)))
    }

    pub fn error(&self) -> Option<&klamm::Error> {
        self.result.as_ref()?.as_ref().err()
    }

    pub fn is_unknown(&self) -> bool {
        self.error()
            .is_some_and(|error| self.taken && error.kind() == ErrorKind::OutcomeUnknown)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (partition, thread, number) = (self.partition, self.thread, self.number);
        write!(f, "record {number} of thread {thread} to {partition} (")?;
        match &self.result {
            Some(Ok(written)) => write!(f, "offset {:?}", written.offset)?,
            Some(Err(error)) => write!(f, "{error}")?,
            None => f.write_str("no outcome")?,
        }
        f.write_str(")")
    }
}

/// Sends numbered records, each thread to all partitions in turn.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    producer: &'a Producer,
    topic: &'a str,
    partitions: usize,
    threads: usize,
    first_thread: usize,
    padding: usize,
    burst: u64,
    pause: Duration,
    records: Option<u64>,
    delivery_timeout: Duration,
}

impl<'a> Load<'a> {
    /// One thread, about 4 000 records a second, until it is told to end.
    pub fn new(producer: &'a Producer, topic: &'a str, partitions: usize) -> Self {
        Self {
            producer,
            topic,
            partitions,
            threads: 1,
            first_thread: 0,
            padding: 0,
            burst: 20,
            pause: Duration::from_millis(5),
            records: None,
            delivery_timeout: Duration::from_secs(120),
        }
    }

    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The number of the first thread: for a second load to the same topic, whose records must be others.
    pub fn first_thread(self, first_thread: usize) -> Self {
        Self { first_thread, ..self }
    }

    /// So many bytes more in each value.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// So many records at a time, and then a pause.
    pub fn pace(self, burst: u64, pause: Duration) -> Self {
        Self { burst, pause, ..self }
    }

    /// Each thread ends after so many.
    pub fn records(self, records: u64) -> Self {
        Self {
            records: Some(records),
            ..self
        }
    }

    /// The producer's, if it is not the default: how long outcomes are waited for.
    pub fn delivery_timeout(self, delivery_timeout: Duration) -> Self {
        Self {
            delivery_timeout,
            ..self
        }
    }

    /// Sends all of [`records`](Self::records), and waits for the outcomes.
    pub fn run(&self) -> Vec<Outcome> {
        assert!(self.records.is_some(), "a load without an end");
        self.during(|running| {
            wait_until("everything to be sent", LIMIT, || {
                running.senders.load(Ordering::SeqCst) == 0
            });
        })
        .1
    }

    /// Sends while `act` runs, and then waits for the outcomes.
    pub fn during<R>(&self, act: impl FnOnce(&Running) -> R) -> (R, Vec<Outcome>) {
        let running = Running {
            is_over: AtomicBool::new(false),
            senders: AtomicUsize::new(self.threads),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            acknowledged: (0..self.partitions).map(|_| AtomicU64::new(0)).collect(),
            first_error: Mutex::new(None),
        };
        let waiting = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let (running, waiting) = (&running, &waiting);
            // Also when `act` panics.
            let end = End(running);
            for thread in 0..self.threads {
                scope.spawn(move || {
                    let _done = Done(running);
                    self.send(self.first_thread + thread, running, waiting);
                });
            }
            let collector = scope.spawn(move || self.collect(running, waiting));
            let result = act(running);
            drop(end);
            let outcomes = collector.join().expect("outcomes can be collected");
            (result, outcomes)
        })
    }

    fn send(&self, thread: usize, running: &Running, waiting: &Mutex<Vec<Waiting>>) {
        let mut number = 0;
        while !running.is_over.load(Ordering::SeqCst) && self.records.is_none_or(|most| number < most) {
            for _ in 0..self.burst {
                let partition = (number % self.partitions as u64) as i32;
                let value = value(partition, thread, number, self.padding);
                let sent = Instant::now();
                let record = Record::to(self.topic).partition(partition).value(&value);
                let delivery = self.producer.send(record);
                running.sent.fetch_add(1, Ordering::SeqCst);
                let outcome = Outcome {
                    partition,
                    thread,
                    number,
                    bytes: value.len(),
                    sent,
                    took: sent.elapsed(),
                    taken: delivery.is_ok(),
                    result: None,
                };
                waiting.lock().unwrap().push((outcome, delivery));
                number += 1;
                if self.records.is_some_and(|most| number >= most) {
                    return;
                }
            }
            std::thread::sleep(self.pause);
        }
    }

    fn collect(&self, running: &Running, waiting: &Mutex<Vec<Waiting>>) -> Vec<Outcome> {
        let mut open: BTreeMap<i32, VecDeque<(Outcome, Delivery)>> = BTreeMap::new();
        let mut done: Vec<Outcome> = Vec::new();
        loop {
            let last_look = running.senders.load(Ordering::SeqCst) == 0;
            let new = std::mem::take(&mut *waiting.lock().unwrap());
            for (mut outcome, delivery) in new {
                match delivery {
                    Ok(delivery) => open
                        .entry(outcome.partition)
                        .or_default()
                        .push_back((outcome, delivery)),
                    Err(error) => {
                        running.note_failure(&error);
                        outcome.result = Some(Err(error));
                        done.push(outcome);
                    }
                }
            }
            for queue in open.values_mut() {
                // Of one partition they come in their order, but threads have pushed in any order.
                let mut kept = VecDeque::new();
                let mut in_vain = 0;
                while let Some((mut outcome, delivery)) = queue.pop_front() {
                    let waited = outcome.sent.elapsed();
                    let result = delivery.poll();
                    if result.is_none() && waited < self.delivery_timeout + GRACE {
                        kept.push_back((outcome, delivery));
                        in_vain += 1;
                        if in_vain > 64 {
                            break;
                        }
                        continue;
                    }
                    match &result {
                        Some(Ok(_)) => drop(running.acknowledged(outcome.partition).fetch_add(1, Ordering::SeqCst)),
                        Some(Err(error)) => running.note_failure(error),
                        None => drop(running.failed.fetch_add(1, Ordering::SeqCst)),
                    }
                    outcome.took = waited;
                    outcome.result = result;
                    done.push(outcome);
                }
                kept.append(queue);
                *queue = kept;
            }
            if last_look && open.values().all(VecDeque::is_empty) {
                return done;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

type Waiting = (Outcome, klamm::Result<Delivery>);

/// A load that runs.
pub struct Running {
    is_over: AtomicBool,
    senders: AtomicUsize,
    sent: AtomicU64,
    failed: AtomicU64,
    unknown: AtomicU64,
    acknowledged: Vec<AtomicU64>,
    first_error: Mutex<Option<String>>,
}

impl Running {
    fn acknowledged(&self, partition: i32) -> &AtomicU64 {
        &self.acknowledged[partition as usize]
    }

    fn note_failure(&self, error: &klamm::Error) {
        if error.kind() == ErrorKind::OutcomeUnknown {
            self.unknown.fetch_add(1, Ordering::SeqCst);
        }
        self.failed.fetch_add(1, Ordering::SeqCst);
        self.first_error
            .lock()
            .unwrap()
            .get_or_insert_with(|| error.to_string());
    }

    /// Records that were handed to `send` so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Records that came to nothing so far, refused by `send` or failed later.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    /// How many of these may be in the log all the same.
    pub fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::SeqCst)
    }

    pub fn first_error(&self) -> Option<String> {
        self.first_error.lock().unwrap().clone()
    }

    /// How many records of this partition are acknowledged.
    pub fn acknowledged_in(&self, partition: i32) -> u64 {
        self.acknowledged(partition).load(Ordering::SeqCst)
    }

    /// No record is sent from here on; the outcomes of the others are still waited for.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Waits until so many more records of this partition are acknowledged; says how long that took.
    #[track_caller]
    pub fn wait_for_more(&self, partition: i32, records: u64) -> Duration {
        let begun = Instant::now();
        let enough = self.acknowledged_in(partition) + records;
        let what = format!("{records} more records of partition {partition}");
        wait_until(&what, LIMIT, || self.acknowledged_in(partition) >= enough);
        begun.elapsed()
    }

    /// The same for each partition.
    #[track_caller]
    pub fn wait_for_more_everywhere(&self, records: u64) -> Duration {
        let begun = Instant::now();
        let now = |partition| self.acknowledged_in(partition);
        let partitions = 0..self.acknowledged.len() as i32;
        let enough: Vec<u64> = partitions.clone().map(|partition| now(partition) + records).collect();
        let what = format!("{records} more records of each partition");
        wait_until(&what, LIMIT, || {
            partitions
                .clone()
                .zip(&enough)
                .all(|(partition, enough)| now(partition) >= *enough)
        });
        begun.elapsed()
    }
}

struct End<'a>(&'a Running);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Done<'a>(&'a Running);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.senders.fetch_sub(1, Ordering::SeqCst);
    }
}

fn value(partition: i32, thread: usize, number: u64, padding: usize) -> String {
    let mut value = format!("{partition} {thread} {number}");
    if padding > 0 {
        value.push(' ');
        // Not the same again and again, so that compressing has something to do.
        let letter = |at: usize| char::from(b'a' + ((number as usize * 7 + at * at) % 26) as u8);
        value.extend((0..padding).map(letter));
    }
    value
}

/// What a producer has promised.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// What is acknowledged is in the log (acks none, or acks leader and leaders that fail: not so).
    pub nothing_is_lost: bool,
    /// Nothing is there twice (acks leader: not so).
    pub nothing_is_doubled: bool,
    /// Batches bear sequences without a gap.
    pub sequences: bool,
    pub delivery_timeout: Duration,
}

impl Default for Promise {
    /// That of acks all.
    fn default() -> Self {
        Self {
            nothing_is_lost: true,
            nothing_is_doubled: true,
            sequences: true,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

impl Promise {
    /// As it is by default, but for this.
    pub fn delivery_timeout(delivery_timeout: Duration) -> Self {
        Self {
            delivery_timeout,
            ..Self::default()
        }
    }
}

/// A record as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub offset: i64,
    pub value: String,
}

/// A batch as `DumpLogSegments` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedBatch {
    pub base_offset: i64,
    pub last_offset: i64,
    pub count: i64,
    pub base_sequence: i64,
    pub last_sequence: i64,
    pub producer_id: i64,
    pub epoch: i64,
    pub codec: String,
}

/// One partition's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    pub records: Vec<Logged>,
    pub batches: Vec<LoggedBatch>,
}

/// What is found in the log of each partition that was judged.
#[derive(Debug, Clone, Default)]
pub struct Logs(BTreeMap<i32, Log>);

impl Deref for Logs {
    type Target = BTreeMap<i32, Log>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Logs {
    /// The producer IDs in a partition, in their order.
    pub fn producer_ids(&self, partition: i32) -> Vec<i64> {
        let mut ids: Vec<i64> = Vec::new();
        for batch in self.0.get(&partition).into_iter().flat_map(|log| &log.batches) {
            if !ids.contains(&batch.producer_id) {
                ids.push(batch.producer_id);
            }
        }
        ids
    }
}

/// Compares what deliveries told with what is in the log, by the promise of acks all with the default time-out. All
/// records of the topic have to be among the outcomes.
#[track_caller]
pub fn judge(kafka: &Kafka, topic: &str, outcomes: &[Outcome]) -> Logs {
    judge_by(Promise::default(), kafka, topic, outcomes)
}

/// The same, by another promise.
///
/// # Panics
///
/// When it was not kept, with what was found.
#[track_caller]
pub fn judge_by(promise: Promise, kafka: &Kafka, topic: &str, outcomes: &[Outcome]) -> Logs {
    let logs = read(kafka, topic);
    let found = complaints(promise, &logs.0, outcomes);
    assert!(
        found.is_empty(),
        "{} complaints about {} records to {topic}; the first are\n{}",
        found.len(),
        outcomes.len(),
        found[..found.len().min(20)].join("\n")
    );
    logs
}

/// All that is wrong.
pub fn complaints(promise: Promise, logs: &BTreeMap<i32, Log>, outcomes: &[Outcome]) -> Vec<String> {
    let mut found = Vec::new();
    let mut sent: HashMap<(i32, usize, u64), &Outcome> = HashMap::new();
    for outcome in outcomes {
        let key = (outcome.partition, outcome.thread, outcome.number);
        if sent.insert(key, outcome).is_some() {
            found.push(format!("{outcome} was sent twice by the test"));
        }
        if outcome.result.is_none() {
            found.push(format!("{outcome} after {:?}", outcome.took));
        } else if outcome.taken && outcome.took > promise.delivery_timeout + GRACE {
            found.push(format!("{outcome} had its outcome after {:?}", outcome.took));
        }
    }
    let mut offsets: HashMap<(i32, usize, u64), Vec<i64>> = HashMap::new();
    for (partition, log) in logs {
        let mut last: HashMap<usize, u64> = HashMap::new();
        for Logged { offset, value } in &log.records {
            let at = format!("partition {partition}, offset {offset}");
            let Some((key, known)) = parse(value).and_then(|key| Some((key, sent.get(&key)?))) else {
                found.push(format!("{at}: {value:?} was never sent"));
                continue;
            };
            let (thread, number) = (key.1, key.2);
            if key.0 != *partition || known.bytes != value.len() {
                found.push(format!("{at}: {value:?} is not what was sent there"));
            }
            let seen = offsets.entry(key).or_default();
            seen.push(*offset);
            if seen.len() > 1 {
                // Its order was looked at when it came first.
                continue;
            }
            if let Some(before) = last.insert(thread, number).filter(|before| *before > number) {
                found.push(format!("{at}: record {number} of thread {thread} lies behind {before}"));
            }
        }
        if promise.sequences {
            sequence_complaints(*partition, &log.batches, &mut found);
        }
    }
    for (key, outcome) in sent {
        let seen = offsets.remove(&key).unwrap_or_default();
        if seen.len() > 1 && promise.nothing_is_doubled {
            found.push(format!("{outcome} is in the log at {seen:?}"));
        }
        match &outcome.result {
            Some(Ok(written)) => {
                if seen.is_empty() && promise.nothing_is_lost {
                    found.push(format!("{outcome} is not in the log"));
                }
                let is_elsewhere = written.offset.is_some_and(|offset| !seen.contains(&offset));
                if is_elsewhere && !seen.is_empty() && promise.nothing_is_doubled && promise.nothing_is_lost {
                    found.push(format!("{outcome} is in the log at {seen:?}"));
                }
                if written.partition != outcome.partition {
                    found.push(format!("{outcome} came to partition {}", written.partition));
                }
            }
            Some(Err(_)) if !outcome.is_unknown() && !seen.is_empty() => {
                found.push(format!("{outcome} is in the log at {seen:?}"));
            }
            _ => {}
        }
    }
    found
}

fn parse(value: &str) -> Option<(i32, usize, u64)> {
    let mut words = value.split(' ');
    let partition = words.next()?.parse().ok()?;
    let thread = words.next()?.parse().ok()?;
    let number = words.next()?.parse().ok()?;
    Some((partition, thread, number))
}

fn sequence_complaints(partition: i32, batches: &[LoggedBatch], found: &mut Vec<String>) {
    let mut due: HashMap<i64, (i64, i64)> = HashMap::new();
    for batch in batches {
        let at = format!("partition {partition}, batch at {}", batch.base_offset);
        let id = batch.producer_id;
        if id < 0 {
            found.push(format!("{at}: no producer ID"));
            continue;
        }
        let (expected, epoch) = *due.entry(id).or_insert((0, batch.epoch));
        if batch.base_sequence != expected || batch.epoch != epoch {
            found.push(format!(
                "{at}: producer {id} has sequence {} under epoch {}, and {expected} under {epoch} is due",
                batch.base_sequence, batch.epoch
            ));
        }
        let length = (batch.last_sequence - batch.base_sequence).rem_euclid(SEQUENCES) + 1;
        if length != batch.count || batch.last_offset - batch.base_offset + 1 != batch.count {
            found.push(format!("{at}: {} records between {batch:?}", batch.count));
        }
        due.insert(id, ((batch.last_sequence + 1) % SEQUENCES, batch.epoch));
    }
}

/// So many sequence numbers there are.
const SEQUENCES: i64 = i32::MAX as i64 + 1;

/// The topic's log, as klamm and Kafka agree on it.
pub fn read(kafka: &Kafka, topic: &str) -> Logs {
    let client = Client::connect(&kafka.bootstrap()).expect("brokers are there to judge");
    let mut logs = BTreeMap::new();
    let mut differences = String::new();
    // What no follower has yet is in the leader's files, and not to be read.
    wait_until("klamm and Kafka read the same", LIMIT, || {
        let read = read_with_klamm(&client, topic);
        if kafka.brokers() == 0 {
            // Somebody else's cluster: its files are out of reach.
            logs = read;
            return true;
        }
        logs = dump(kafka, topic, read.len());
        let differing = (0..)
            .zip(logs.values().zip(read.values()))
            .find_map(|(partition, (dumped, read))| {
                let at = dumped.records.iter().zip(&read.records).position(|(a, b)| a != b);
                let is_same = at.is_none() && dumped.records.len() == read.records.len();
                (!is_same).then(|| {
                    let counts = (dumped.records.len(), read.records.len());
                    format!("partition {partition}, Kafka's and klamm's records: {counts:?}, different at {at:?}")
                })
            });
        if let Some(differing) = &differing {
            eprintln!("{topic}: {differing}");
            differences.clone_from(differing);
        }
        differing.is_none()
    });
    Logs(logs)
}

fn read_with_klamm(client: &Client, topic: &str) -> BTreeMap<i32, Log> {
    let partitions = client.partitions(topic).expect("the topic is known");
    let mut logs: BTreeMap<i32, Log> = (0..partitions).map(|p| (p, Log::default())).collect();
    let stream = client.reader().topics([topic]).until_end().open();
    for message in stream.expect("the log can be read") {
        let message = message.expect("a message");
        let value = String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned();
        let log = logs.entry(message.partition()).or_default();
        log.records.push(Logged {
            offset: message.offset(),
            value,
        });
    }
    logs
}

/// Each partition's log from the files of its leader.
fn dump(kafka: &Kafka, topic: &str, partitions: usize) -> BTreeMap<i32, Log> {
    let mut segments = Vec::new();
    for partition in 0..partitions as i32 {
        let mut leader = -1;
        wait_until(&format!("a leader of {topic}-{partition}"), LIMIT, || {
            leader = kafka.leader(topic, partition);
            leader >= 0
        });
        let folder = kafka.partition_folder(leader, topic, partition);
        let files = std::fs::read_dir(&folder).expect("a leader has the partition's folder");
        let paths = files.map(|file| file.expect("a file").path().display().to_string());
        let mut paths: Vec<String> = paths.filter(|path| path.ends_with(".log")).collect();
        paths.sort();
        segments.extend(paths.into_iter().map(|path| (partition, path)));
    }
    let files: Vec<&str> = segments.iter().map(|(_, path)| path.as_str()).collect();
    let args = ["--print-data-log", "--deep-iteration", "--files", &files.join(",")];
    let printed = java_tool("org.apache.kafka.tools.DumpLogSegments", &args, "");
    parse_dump(&printed, partitions, |path| {
        segments
            .iter()
            .find(|(_, known)| known == path)
            .map(|(partition, _)| *partition)
    })
}

fn parse_dump(printed: &str, partitions: usize, whose: impl Fn(&str) -> Option<i32>) -> BTreeMap<i32, Log> {
    let mut logs: BTreeMap<i32, Log> = (0..partitions as i32).map(|p| (p, Log::default())).collect();
    let mut log: Option<&mut Log> = None;
    for line in printed.lines() {
        if let Some(path) = line.strip_prefix("Dumping ") {
            let partition = whose(path.trim()).unwrap_or_else(|| panic!("{line:?}"));
            log = logs.get_mut(&partition);
        } else if let Some(line) = line.strip_prefix("| ") {
            let (head, value) = line.split_once(" payload: ").unwrap_or((line, ""));
            let log = log
                .as_mut()
                .unwrap_or_else(|| panic!("no file was named before {line:?}"));
            log.records.push(Logged {
                offset: number(head, "offset"),
                value: value.to_owned(),
            });
        } else if line.starts_with("baseOffset: ") {
            assert_eq!(word(line, "isvalid"), "true", "{line:?}");
            let log = log
                .as_mut()
                .unwrap_or_else(|| panic!("no file was named before {line:?}"));
            log.batches.push(LoggedBatch {
                base_offset: number(line, "baseOffset"),
                last_offset: number(line, "lastOffset"),
                count: number(line, "count"),
                base_sequence: number(line, "baseSequence"),
                last_sequence: number(line, "lastSequence"),
                producer_id: number(line, "producerId"),
                epoch: number(line, "producerEpoch"),
                codec: word(line, "compresscodec").to_owned(),
            });
        }
    }
    logs
}

fn word<'a>(line: &'a str, name: &str) -> &'a str {
    let mut words = line.split_whitespace();
    let found = words.find(|word| word.strip_suffix(':') == Some(name));
    found
        .and_then(|_| words.next())
        .unwrap_or_else(|| panic!("no {name} in {line:?}"))
}

fn number(line: &str, name: &str) -> i64 {
    let word = word(line, name);
    word.parse()
        .unwrap_or_else(|_| panic!("{name} in {line:?} is no number"))
}

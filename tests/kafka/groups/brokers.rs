//! Brokers that coordinate, lead, die and freeze under a group: nothing is lost, nothing comes twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{FindCoordinatorResponse, JoinGroupResponse};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use klamm::{Client, CloseReport, Error, ErrorKind, Event, GroupBuilder, Health, Next, Stream};

use crate::support::{
    Asked, Checker, Fate, History, Kafka, Pouring, Proxy, Recorder, Watching, What, is_long, shared_behind_a_proxy,
    unique, wait_until,
};

/// No machine is so slow.
pub(super) const LONG: Duration = Duration::from_secs(120);

pub(super) const OFFSET_COMMIT: i16 = 8;
pub(super) const OFFSET_FETCH: i16 = 9;
pub(super) const FIND_COORDINATOR: i16 = 10;
pub(super) const JOIN_GROUP: i16 = 11;
pub(super) const HEARTBEAT: i16 = 12;
pub(super) const LEAVE_GROUP: i16 = 13;
pub(super) const SYNC_GROUP: i16 = 14;

const COORDINATOR_NOT_AVAILABLE: i16 = 15;

pub(super) fn connect(bootstrap: &str) -> Client {
    Client::connect(bootstrap).expect("a broker is there")
}

/// Changes an answer that goes through a proxy, as the protocol's own message.
pub(super) fn edit<T: Decodable + Encodable + HeaderVersion>(
    asked: Asked,
    frame: &mut Vec<u8>,
    change: impl FnOnce(&mut T),
) {
    // The correlation ID, and no tagged fields.
    let header = if T::header_version(asked.version) >= 1 { 5 } else { 4 };
    let mut body = Bytes::copy_from_slice(&frame[header..]);
    let mut answer = T::decode(&mut body, asked.version).expect("a broker's answer");
    change(&mut answer);
    let mut out = BytesMut::from(&frame[..header]);
    answer
        .encode(&mut out, asked.version)
        .expect("an answer that was decoded");
    *frame = out.to_vec();
}

/// The next message, which must come before long; its offset. It counts as done.
#[track_caller]
pub(super) fn next(stream: &Stream) -> i64 {
    match stream.iter().next_timeout(LONG) {
        Ok(Next::Message(message)) => {
            message.ack();
            message.offset()
        }
        other => panic!("no message but {other:?}; health {:?}", stream.health()),
    }
}

/// Reads so many messages, which count as done: their texts.
#[track_caller]
pub(super) fn texts(stream: &Stream, count: usize) -> Vec<String> {
    let mut iter = stream.iter();
    let mut texts = Vec::new();
    while texts.len() < count {
        match iter.next_timeout(LONG) {
            Ok(Next::Message(message)) => {
                message.ack();
                texts.push(String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned());
            }
            other => panic!("after {texts:?}: {other:?}; health {:?}", stream.health()),
        }
    }
    texts
}

/// Waits for an event; the others are forgotten.
#[track_caller]
pub(super) fn wait_for_event<T>(stream: &Stream, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    let events = stream.events();
    let mut others = Vec::new();
    loop {
        match events.next_timeout(end.saturating_duration_since(Instant::now())) {
            Some(event) => match wanted(&event) {
                Some(found) => return found,
                None => others.push(event),
            },
            None => panic!("no event {what}, but {others:?}; health {:?}", stream.health()),
        }
    }
}

/// All events that wait.
pub(super) fn drain(stream: &Stream) -> Vec<Event> {
    std::iter::from_fn(|| stream.events().try_next()).collect()
}

#[track_caller]
pub(super) fn wait_until_assigned(stream: &Stream, partitions: usize) {
    let end = Instant::now() + LONG;
    while stream.assignment().len() != partitions {
        assert!(
            Instant::now() < end,
            "{} partitions, not {partitions}: {:?}",
            stream.assignment().len(),
            stream.health()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What health tells to be wrong.
pub(super) fn troubles(stream: &Stream) -> Vec<Error> {
    match stream.health() {
        Health::Unhealthy(problems) => problems.into_iter().map(|problem| problem.error).collect(),
        _ => Vec::new(),
    }
}

/// A member in this process whose program reads in one thread, and records what it does.
pub(super) struct Reading {
    pub stream: Arc<Stream>,
    recorder: Recorder,
    watching: Watching,
    read: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Reading {
    pub(super) fn start(name: &str, stream: Stream, work: Duration) -> Self {
        let stream = Arc::new(stream);
        let recorder = Recorder::new(name);
        let watching = recorder.watch(&stream);
        let read = Arc::new(AtomicUsize::new(0));
        let thread = std::thread::spawn({
            let (stream, recorder, read) = (Arc::clone(&stream), recorder.clone(), Arc::clone(&read));
            move || {
                for message in &*stream {
                    match message {
                        Ok(message) => {
                            let handling = recorder.begin(&message);
                            std::thread::sleep(work);
                            handling.end();
                            read.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => recorder.failed("iterator", &error),
                    }
                }
            }
        });
        Self {
            stream,
            recorder,
            watching,
            read,
            thread,
        }
    }

    pub(super) fn read(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }

    #[track_caller]
    pub(super) fn wait_until_read(&self, count: usize) {
        let end = Instant::now() + LONG;
        while self.read() < count {
            assert!(
                Instant::now() < end,
                "{} of {count} read: {:?}; {:?}",
                self.read(),
                self.stream.health(),
                self.recorder.history().lines
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has done so far.
    pub(super) fn history(&self) -> History {
        self.recorder.history()
    }

    pub(super) fn stop(self) -> (History, CloseReport) {
        self.stream.closer().close();
        self.thread.join().expect("the program has not panicked");
        let stream = Arc::into_inner(self.stream).expect("nobody else has it");
        let report = stream.close(LONG).expect("it closes");
        drop(self.watching);
        self.recorder.closed(&report);
        (self.recorder.history(), report)
    }
}

/// What a history tells that should not have happened while nothing was to move.
pub(super) fn disturbances(history: &History) -> Vec<String> {
    let lines = history.lines.values().flatten();
    lines
        .filter(|line| {
            matches!(
                line.what,
                What::Rebalancing
                    | What::Revoked { .. }
                    | What::Lost { .. }
                    | What::Abandoned { .. }
                    | What::Failed { .. }
            )
        })
        .map(|line| format!("{line}"))
        .collect()
}

/// How many records the group has committed.
pub(super) fn committed(kafka: &Kafka, group: &str) -> i64 {
    kafka.committed_offsets(group).values().sum()
}

/// Waits until more is committed than there was when it was asked.
#[track_caller]
fn commits_go_on(kafka: &Kafka, group: &str) {
    let before = committed(kafka, group);
    wait_until("commits", LONG, || committed(kafka, group) > before + 50);
}

/// Ends the writing, waits until all has been read, and checks it: nothing lost, nothing twice, all committed.
#[track_caller]
fn all_is_well(kafka: &Kafka, group: &str, topic: &str, pouring: Pouring, reading: Reading) -> History {
    let counts = pouring.stop();
    reading.wait_until_read(counts.values().sum());
    let (history, report) = reading.stop();
    assert!(report.left_group, "{report:?}");
    assert!(report.uncommitted.is_empty(), "{report:?}");
    check(kafka, group, topic, &counts, &history, 0);
    history
}

#[track_caller]
pub(super) fn check(
    kafka: &Kafka,
    group: &str,
    topic: &str,
    counts: &BTreeMap<i32, usize>,
    history: &History,
    duplicates: usize,
) {
    let committed = kafka.committed_offsets(group);
    let checker = Checker::of([history.clone()]).wrote_all(topic, counts);
    println!("{counts:?} records, {} duplicates", checker.duplicates().len());
    if let Err(faults) = checker.all(&committed, duplicates) {
        panic!("{faults}");
    }
    if let Err(fault) = checker.commit_completeness(&committed) {
        panic!("{fault}");
    }
}

#[test]
fn a_coordinator_that_dies_or_stops_costs_a_group_nothing() {
    let kafka = Kafka::builder().brokers(3).start();
    let (topic, group) = (unique("moves"), unique("moves"));
    kafka.create_topic(&topic, 3, &[]);
    let pouring = kafka.pour(&topic, 3, 300.0, Duration::from_secs(900));
    let client = connect(&kafka.bootstrap());
    let stream = client
        .group(&group)
        .topics([&topic])
        .session_timeout(Duration::from_secs(90))
        .rebalance_timeout(Duration::from_secs(120))
        .heartbeat_interval(Duration::from_secs(1))
        .commit_interval(Duration::from_millis(10))
        .join()
        .unwrap();
    let reading = Reading::start("member", stream, Duration::ZERO);
    wait_until("the first commits", LONG, || committed(&kafka, &group) > 50);
    for is_stopped in [false, true] {
        kafka.wait_until_in_sync("__consumer_offsets");
        kafka.wait_until_in_sync(&topic);
        let before = kafka.coordinator(&group);
        let begun = Instant::now();
        match is_stopped {
            false => kafka.kill9(before),
            true => kafka.stop(before),
        }
        wait_until("another coordinator", LONG, || kafka.coordinator(&group) != before);
        commits_go_on(&kafka, &group);
        println!(
            "commits went on {:?} after the coordinator (stopped: {is_stopped})",
            begun.elapsed()
        );
        kafka.start(before);
        commits_go_on(&kafka, &group);
    }
    wait_until("health", LONG, || reading.stream.health().is_healthy());
    let history = all_is_well(&kafka, &group, &topic, pouring, reading);
    assert_eq!(disturbances(&history), Vec::<String>::new());
    assert_eq!(history.rebalances.len(), 1, "{:?}", history.rebalances);
}

/// By a kill, to other replicas, by an election, and away from a broker that is frozen.
#[test]
fn nothing_is_lost_or_doubled_while_leaders_move_under_a_group() {
    let moves = if is_long() { 20 } else { 4 };
    let kafka = Kafka::builder().brokers(3).start();
    let (topic, group) = (unique("leaders"), unique("leaders"));
    kafka.create_topic_on(&topic, &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]], &[]);
    let pouring = kafka.pour(&topic, 3, 300.0, Duration::from_secs(1800));
    let readings = ["one", "two"].map(|name| {
        let client = connect(&kafka.bootstrap());
        let group = members(&client, &group, &topic, Duration::from_secs(90));
        let stream = group.rebalance_timeout(Duration::from_secs(120)).join().unwrap();
        Reading::start(name, stream, Duration::ZERO)
    });
    let assigned = || readings.iter().map(|reading| reading.stream.assignment().len());
    wait_until("both have some", LONG, || {
        assigned().sum::<usize>() == 3 && assigned().min() == Some(1)
    });
    let rebalances = || {
        readings
            .iter()
            .map(|reading| reading.history().rebalances.len())
            .sum::<usize>()
    };
    let before = rebalances();
    for number in 0..moves {
        kafka.wait_until_in_sync(&topic);
        kafka.wait_until_in_sync("__consumer_offsets");
        move_a_leader(&kafka, &topic, number);
        let read = || readings.iter().map(Reading::read).sum::<usize>();
        let (begun, so_far) = (Instant::now(), read());
        wait_until("reading goes on", LONG, || read() > so_far + 150);
        commits_go_on(&kafka, &group);
        println!("move {number}: read and committed on after {:?}", begun.elapsed());
    }
    let counts = pouring.stop();
    wait_until("all is committed", LONG, || {
        committed(&kafka, &group) == counts.values().sum::<usize>() as i64
    });
    assert_eq!(rebalances(), before, "nobody lost its place");
    let mut all = History::default();
    for reading in readings {
        wait_until("health", LONG, || reading.stream.health().is_healthy());
        let (history, report) = reading.stop();
        assert!(report.left_group && report.uncommitted.is_empty(), "{report:?}");
        all.add(history);
    }
    check(&kafka, &group, &topic, &counts, &all, 0);
}

fn move_a_leader(kafka: &Kafka, topic: &str, number: usize) {
    let partition = (number % 3) as i32;
    let before = kafka.leader(topic, partition);
    let mut others = [1, 2, 3]
        .into_iter()
        .filter(|broker| *broker != before)
        .collect::<Vec<_>>();
    match number % 4 {
        0 => kafka.kill9(before),
        1 => kafka.sigstop(before),
        2 => kafka.reassign(topic, partition, &others),
        _ => {
            others.push(before);
            kafka.reassign(topic, partition, &others);
            kafka.wait_until_in_sync(topic);
            kafka.elect_preferred_leader(topic, partition);
        }
    }
    // One that is frozen is asked too, and found to be silent.
    wait_until("another leader", LONG, || {
        let leader = kafka.leader(topic, partition);
        leader >= 0 && leader != before
    });
    match number % 4 {
        0 => kafka.start(before),
        1 => kafka.sigcont(before),
        _ => {}
    }
}

fn members(client: &Client, group: &str, topic: &str, session: Duration) -> GroupBuilder {
    client
        .group(group)
        .topics([topic])
        .session_timeout(session)
        .heartbeat_interval(Duration::from_millis(300))
        .commit_interval(Duration::from_millis(200))
}

/// Connections that were tried at this broker in so many seconds: not more than delays of a second allow.
#[track_caller]
fn retries_are_bounded(proxy: &Proxy, while_: impl FnOnce()) {
    let (before, begun) = (proxy.accepted(), Instant::now());
    while_();
    let tries = proxy.accepted() - before;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{tries} connections tried in {seconds:.1} s");
    // A lane, whoever asks for metadata, and the search for the coordinator: each once a second, and a bit.
    assert!(
        (tries as f64) < 4.0 * (seconds / 0.8 + 2.0),
        "{tries} connections in {seconds:.1} s"
    );
}

/// The only broker is dead for longer than the session lasts, and for less.
#[test]
fn a_group_recovers_by_itself_from_an_outage() {
    let outage = if is_long() {
        Duration::from_secs(75)
    } else {
        Duration::from_secs(8)
    };
    for outlives_session in [false, true] {
        let kafka = Kafka::builder().behind_proxies().start();
        let (topic, group) = (unique("outage"), unique("outage"));
        kafka.create_topic(&topic, 2, &[]);
        kafka.fill(&topic, 2, 2000, "lz4", 50);
        let client = connect(&kafka.bootstrap());
        let session = if outlives_session {
            Duration::from_secs(4)
        } else {
            Duration::from_secs(300)
        };
        let stream = members(&client, &group, &topic, session)
            .rebalance_timeout(Duration::from_secs(400))
            .join()
            .unwrap();
        let reading = Reading::start("member", stream, Duration::ZERO);
        reading.wait_until_read(2000);
        wait_until("commits", LONG, || committed(&kafka, &group) == 2000);
        kafka.kill9(1);
        wait_until("health tells", LONG, || !troubles(&reading.stream).is_empty());
        std::thread::sleep(Duration::from_secs(2));
        retries_are_bounded(kafka.proxy(1), || {
            let end = Instant::now() + outage;
            while Instant::now() < end {
                let troubles = troubles(&reading.stream);
                assert!(
                    !troubles.is_empty()
                        && troubles.iter().all(|error| matches!(
                            error.kind(),
                            ErrorKind::Io | ErrorKind::Unreachable | ErrorKind::TimedOut
                        )),
                    "{troubles:?}"
                );
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        println!("health: {:?}", troubles(&reading.stream));
        kafka.start(1);
        kafka.wait_for_topic(&topic, 2);
        let begun = Instant::now();
        kafka.fill_from(1000, &topic, 2, 2000, "lz4", 50);
        reading.wait_until_read(4000);
        println!("read on {:?} after the broker was back", begun.elapsed());
        wait_until("health", LONG, || reading.stream.health().is_healthy());
        wait_until("commits", LONG, || committed(&kafka, &group) == 4000);
        let (history, report) = reading.stop();
        assert!(report.left_group && report.uncommitted.is_empty(), "{report:?}");
        check(&kafka, &group, &topic, &[(0, 2000), (1, 2000)].into(), &history, 0);
        let lost = history
            .lines
            .values()
            .flatten()
            .filter(|line| matches!(line.what, What::Lost { .. }));
        assert_eq!(
            lost.count(),
            if outlives_session { 2 } else { 0 },
            "{:?}",
            history.lines
        );
    }
}

#[test]
fn a_group_may_be_joined_before_there_is_a_broker() {
    let kafka = Kafka::builder().start();
    let (topic, group) = (unique("early"), unique("early"));
    kafka.create_topic(&topic, 1, &[]);
    kafka.java_writes(&topic, 0, &["one"]);
    kafka.kill9(1);
    let address = kafka.bootstrap();
    let lazy = |timeout| {
        Client::builder()
            .bootstrap(&address)
            .request_timeout(timeout)
            .connect_lazy()
            .unwrap()
    };
    let impatient = lazy(Duration::from_secs(1));
    let error = impatient.group(&group).topics([&topic]).join().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::TimedOut),
        "{error}"
    );
    assert!(error.to_string().contains(&address), "{error}");
    let patient = lazy(LONG);
    std::thread::scope(|scope| {
        let joined = scope.spawn(|| patient.group(&group).topics([&topic]).join());
        std::thread::sleep(Duration::from_millis(500));
        assert!(!joined.is_finished(), "it waits for a broker");
        kafka.start(1);
        let stream = joined.join().unwrap().unwrap();
        assert_eq!(texts(&stream, 1), ["one"]);
        assert!(stream.close(LONG).unwrap().left_group);
    });
    assert_eq!(committed(&kafka, &group), 1);
}

/// FindCoordinator first, and then JoinGroup, say that there is no coordinator.
#[test]
fn a_coordinator_that_is_not_available_is_asked_for_at_leisure_until_it_is() {
    let time = if is_long() {
        Duration::from_secs(60)
    } else {
        Duration::from_secs(6)
    };
    let kafka = shared_behind_a_proxy();
    let proxy = kafka.proxy(1);
    let topic = unique("absent");
    kafka.create_topic(&topic, 1, &[]);
    kafka.java_writes(&topic, 0, &["one"]);
    for api in [FIND_COORDINATOR, JOIN_GROUP] {
        let group = unique("absent");
        let refused = Arc::new(AtomicUsize::new(0));
        let is_away = Arc::new(AtomicBool::new(true));
        proxy.on_answer({
            let (refused, is_away) = (Arc::clone(&refused), Arc::clone(&is_away));
            move |asked, frame| {
                if asked.api_key == api && is_away.load(Ordering::SeqCst) {
                    refused.fetch_add(1, Ordering::SeqCst);
                    if api == FIND_COORDINATOR {
                        edit(asked, frame, |answer: &mut FindCoordinatorResponse| {
                            for coordinator in &mut answer.coordinators {
                                coordinator.error_code = COORDINATOR_NOT_AVAILABLE;
                            }
                        });
                    } else {
                        edit(asked, frame, |answer: &mut JoinGroupResponse| {
                            answer.error_code = COORDINATOR_NOT_AVAILABLE;
                        });
                    }
                }
                Fate::Forward
            }
        });
        let client = connect(&kafka.bootstrap());
        let begun = Instant::now();
        let stream = members(&client, &group, &topic, Duration::from_secs(10))
            .join()
            .unwrap();
        wait_until("health tells", LONG, || {
            troubles(&stream).iter().any(|error| {
                error.code() == Some(COORDINATOR_NOT_AVAILABLE) || error.to_string().contains("oordinator")
            })
        });
        println!("health: {:?}", troubles(&stream));
        assert!(matches!(stream.iter().next_timeout(time), Ok(Next::TimedOut)));
        assert!(!stream.health().is_healthy());
        let (asked, seconds) = (refused.load(Ordering::SeqCst), begun.elapsed().as_secs_f64());
        println!("API {api}: asked {asked} times in {seconds:.1} s");
        assert!(
            (asked as f64) < 2.0 * seconds / 0.8 + 8.0,
            "asked {asked} times in {seconds:.1} s"
        );
        is_away.store(false, Ordering::SeqCst);
        assert_eq!(texts(&stream, 1), ["one"]);
        wait_until("health", LONG, || stream.health().is_healthy());
        assert!(stream.close(LONG).unwrap().left_group);
        assert_eq!(committed(&kafka, &group), 1);
    }
}

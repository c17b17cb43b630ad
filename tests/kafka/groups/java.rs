//! Groups that klamm shares with Kafka's own console consumer, and what Kafka's own tools say of klamm's members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use klamm::{Client, Next, Stream, TopicPartition};

use crate::support::{Kafka, shared, unique, wait_until};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(120);
/// What is done by this member's session is not done by its goodbye.
const SESSION: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_millis(300);

fn member(group: &str, topic: &str) -> Stream {
    let client = Client::builder()
        .bootstrap(shared().bootstrap())
        .client_id("klamm-member")
        .connect();
    let group = client.expect("a broker is there").group(group).topics([topic]);
    let group = group.session_timeout(SESSION).heartbeat_interval(HEARTBEAT);
    group.join().expect("the topic is there")
}

/// Reads what comes until `done`: the values.
fn read_until(stream: &Stream, values: &mut Vec<String>, what: &str, mut done: impl FnMut(&Stream, &[String]) -> bool) {
    let mut iter = stream.iter();
    wait_until(what, LONG, || {
        while let Next::Message(message) = iter.next_timeout(Duration::from_millis(50)).expect("no trouble") {
            values.push(String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned());
        }
        done(stream, values)
    });
}

/// How many partitions each client has, as `ConsumerGroupCommand` says.
fn owned(kafka: &Kafka, group: &str) -> BTreeMap<String, usize> {
    let mut owned = BTreeMap::new();
    for described in kafka.describe_group(group) {
        if let Some(client) = described.client {
            *owned.entry(client).or_default() += 1;
        }
    }
    owned
}

#[test]
fn a_group_is_shared_with_the_console_consumer_and_each_takes_over_when_the_other_leaves() {
    let kafka = shared();
    let (topic, group) = (unique("shared"), unique("shared"));
    kafka.create_topic(&topic, 4, &[]);
    kafka.fill(&topic, 4, 400, "none", 40);
    let mut values = Vec::new();

    let klamm = member(&group, &topic);
    read_until(&klamm, &mut values, "all that was written first", |stream, values| {
        stream.assignment().len() == 4 && values.len() == 400
    });
    let mut console = kafka.console_member(
        &group,
        &topic,
        &["session.timeout.ms=60000", "heartbeat.interval.ms=300"],
    );
    read_until(
        &klamm,
        &mut values,
        "the console consumer to get its share",
        |stream, _| stream.assignment().len() == 2,
    );
    wait_until("both to own two partitions", LONG, || {
        owned(kafka, &group) == BTreeMap::from([("console-consumer".to_owned(), 2), ("klamm-member".to_owned(), 2)])
    });
    kafka.fill_from(100, &topic, 4, 400, "none", 40);
    read_until(&klamm, &mut values, "both to have read", |_, values| {
        values.len() + console.lines().len() == 800
    });
    assert!(!console.lines().is_empty() && values.len() > 400, "each has had a part");

    // It says goodbye: nobody waits for the end of its session.
    console.leave();
    let begun = std::time::Instant::now();
    read_until(&klamm, &mut values, "klamm to take over", |stream, _| {
        stream.assignment().len() == 4
    });
    // With a heartbeat, on a machine that is busy.
    assert!(
        begun.elapsed() < HEARTBEAT * 20,
        "taken over after {:?}",
        begun.elapsed()
    );
    println!("klamm took over {:?} after the console consumer's end", begun.elapsed());
    kafka.fill_from(200, &topic, 4, 400, "none", 40);
    let of_console = console.lines().len();
    read_until(&klamm, &mut values, "klamm to read it all", |_, values| {
        values.len() + of_console == 1200
    });

    // And the other way round.
    let mut console = kafka.console_member(
        &group,
        &topic,
        &["session.timeout.ms=60000", "heartbeat.interval.ms=300"],
    );
    read_until(&klamm, &mut values, "the second one to join", |stream, _| {
        stream.assignment().len() == 2
    });
    let report = klamm.close(Duration::from_secs(30)).expect("it can be closed");
    assert!(report.left_group && report.uncommitted.is_empty(), "{report:?}");
    let begun = std::time::Instant::now();
    wait_until("the console consumer to take over", LONG, || {
        owned(kafka, &group) == BTreeMap::from([("console-consumer".to_owned(), 4)])
    });
    assert!(begun.elapsed() < SESSION, "taken over after {:?}", begun.elapsed());
    kafka.fill_from(300, &topic, 4, 400, "none", 40);
    wait_until("the console consumer to read all that is left", LONG, || {
        console.lines().len() == 400
    });
    console.leave();

    // Nothing twice, nothing left out.
    let all: BTreeSet<&String> = values.iter().collect();
    assert_eq!(all.len(), values.len(), "klamm has read something twice");
    assert_eq!(values.len() + of_console + console.lines().len(), 1600);
}

#[test]
fn kafka_s_own_tool_says_what_assignment_committed_and_lag_say() {
    let kafka = shared();
    let (topic, group) = (unique("described"), unique("described"));
    kafka.create_topic(&topic, 3, &[]);
    kafka.fill(&topic, 3, 300, "none", 40);
    let stream = member(&group, &topic);
    let (mut iter, mut seen) = (stream.iter(), 0);
    while seen < 150 {
        if let Next::Message(_) = iter.next_timeout(LONG).expect("no trouble") {
            seen += 1;
        }
    }
    drop(iter);
    stream.commit(LONG).expect("the coordinator is there");

    let described = kafka.describe_group(&group);
    let ours: Vec<TopicPartition> = described
        .iter()
        .filter(|one| one.consumer.is_some())
        .map(named)
        .collect();
    assert_eq!(stream.assignment(), ours, "{described:?}");
    let committed = stream.committed(stream.assignment()).expect("the coordinator is there");
    let positions = stream.position(stream.assignment()).expect("they are known");
    let lag = stream.lag().expect("the ends are known");
    for one in &described {
        let name = named(one);
        assert_eq!(committed.get(&name).copied(), one.current, "{name}");
        // The last message was not asked beyond: it is next again, and what was read before it is committed.
        let next = one.current.unwrap_or(0);
        assert_eq!(
            (positions[&name], lag[&name]),
            (next, (one.log_end - next) as u64),
            "{name}"
        );
        assert_eq!(one.lag, one.current.map(|current| one.log_end - current), "{name}");
        assert_eq!(one.client.as_deref(), Some("klamm-member"));
    }

    let mut rest = Vec::new();
    read_until(&stream, &mut rest, "the end", |stream, _| {
        stream.lag().expect("known").values().all(|&lag| lag == 0)
    });
    stream.commit(LONG).expect("the coordinator is there");
    for one in kafka.describe_group(&group) {
        assert_eq!((one.current, one.lag), (Some(100), Some(0)), "{one:?}");
    }
    assert_eq!(rest.len(), 151, "the message in hand comes again, and then the rest");
}

fn named(one: &crate::support::Described) -> TopicPartition {
    TopicPartition::new(&one.topic, one.partition)
}

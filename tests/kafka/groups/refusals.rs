//! What a group refuses, or what keeps a member from its place: one error that says what to do, or an event and another
//! try.

use std::time::{Duration, Instant};

use klamm::{Assignor, Client, Error, ErrorKind, Event, GroupBuilder, Health, Next, Stream};

use crate::support::{self, Kafka, ask, shared, unique, wait_until};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(90);

const JOIN_GROUP: i16 = 11;

fn filled(kafka: &Kafka, partitions: usize, records: usize) -> String {
    let topic = unique("refused");
    kafka.create_topic(&topic, partitions, &[]);
    kafka.fill(&topic, partitions, records, "none", 10);
    topic
}

fn quick(client: &Client, group: &str, topics: &[&str]) -> GroupBuilder {
    client
        .group(group)
        .topics(topics)
        .session_timeout(Duration::from_secs(10))
        .heartbeat_interval(Duration::from_millis(200))
        .commit_interval(Duration::from_millis(200))
}

/// Reads so many messages, each acked: where they were.
#[track_caller]
fn take(stream: &Stream, count: usize) -> Vec<(String, i32, i64)> {
    support::take(stream, count, |message| {
        (message.topic().to_owned(), message.partition(), message.offset())
    })
}

/// The error that ends the stream: given once, then nothing, and health tells it.
#[track_caller]
fn end_of(stream: &Stream) -> Error {
    let mut iter = stream.iter();
    let error = loop {
        match iter.next_timeout(LONG) {
            Ok(Next::Message(_)) => {}
            Err(error) => break error,
            other => panic!("no error but {other:?}; health {:?}", stream.health()),
        }
    };
    assert!(
        matches!(iter.next_timeout(LONG), Ok(Next::Ended)),
        "the error comes once"
    );
    assert!(iter.next().is_none());
    let Health::Unhealthy(problems) = stream.health() else {
        panic!("{error}, and health is {:?}", stream.health());
    };
    let said: Vec<String> = problems.iter().map(|problem| problem.error.to_string()).collect();
    assert_eq!(said, [error.to_string()], "health says the same, once");
    error
}

#[track_caller]
fn tells(error: &Error, parts: &[&str]) {
    let sentence = error.to_string();
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is missing in: {sentence}");
    }
    println!("{sentence}");
    assert!(!sentence.contains('\n') && !sentence.ends_with('.'), "{sentence:?}");
}

#[test]
fn settings_that_cannot_work_are_refused_by_name_before_anything_is_asked() {
    // Nobody listens there: whatever asks for something waits.
    let client = Client::builder().bootstrap("127.0.0.1:1").connect_lazy().unwrap();
    let seconds = Duration::from_secs;
    let group = || client.group("billing").topics(["orders"]);
    for (builder, parts) in [
        (client.group("").topics(["orders"]), &["group", "ID"][..]),
        (client.group("billing"), &["topic"]),
        (client.group("billing").topics([""; 0]), &["topic"]),
        (group().session_timeout(Duration::ZERO), &["session_timeout"]),
        (group().session_timeout(Duration::MAX), &["session_timeout"]),
        (group().heartbeat_interval(Duration::ZERO), &["heartbeat_interval"]),
        (
            group().heartbeat_interval(seconds(23)),
            &["heartbeat_interval", "session_timeout"],
        ),
        (group().rebalance_timeout(Duration::ZERO), &["rebalance_timeout"]),
        (
            group().revoke_timeout(seconds(60)),
            &["revoke_timeout", "rebalance_timeout"],
        ),
        (
            group().rebalance_timeout(seconds(8)).revoke_timeout(seconds(9)),
            &["revoke_timeout", "rebalance_timeout"],
        ),
        (
            group().rebalance_timeout(seconds(2)),
            &["heartbeat_interval", "rebalance_timeout"],
        ),
        (group().commit_interval(Duration::ZERO), &["commit_interval"]),
        (group().assignors([]), &["assignors"]),
        (group().instance_id(""), &["instance_id"]),
        (group().prefetch_count(0), &["prefetch_count"]),
        (group().max_wait(Duration::MAX), &["max_wait"]),
    ] {
        let begun = Instant::now();
        let error = builder.join().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        tells(&error, parts);
    }
}

#[test]
fn a_topic_that_is_not_there_is_an_error_of_join_unless_it_is_awaited() {
    let topic = filled(shared(), 1, 5);
    let client = Client::builder()
        .bootstrap(shared().bootstrap())
        .unknown_topic_ttl(Duration::from_millis(500))
        .metadata_max_age(Duration::from_secs(2))
        .connect()
        .unwrap();
    let missing = unique("missing");
    let group = unique("group");
    let error = quick(&client, &group, &[&topic, &missing]).join().unwrap_err();
    assert_eq!(
        (error.kind(), error.topic()),
        (ErrorKind::UnknownTopic, Some(&*missing)),
        "{error}"
    );
    tells(&error, &[&missing]);
    let stream = quick(&client, &group, &[&topic, &missing])
        .await_topics()
        .join()
        .unwrap();
    take(&stream, 5);
    shared().create_topic(&missing, 1, &[]);
    shared().fill(&missing, 1, 5, "none", 10);
    let taken = take(&stream, 5);
    assert!(
        taken
            .iter()
            .map(|(topic, _, offset)| (topic.as_str(), *offset))
            .eq((0..5).map(|n| (missing.as_str(), n)))
    );
    // A name that no topic can have.
    let error = quick(&client, &group, &["a/b"]).join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    stream.close(LONG).unwrap();
}

#[test]
fn what_the_broker_s_limits_refuse_ends_the_stream_once_and_is_not_tried_again() {
    let kafka = Kafka::builder()
        .behind_proxies()
        .property("group.max.size", 1)
        .property("group.max.session.timeout.ms", 20_000)
        .start();
    let topic = filled(&kafka, 2, 20);
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    for timeout in [Duration::from_millis(500), Duration::from_secs(21)] {
        let before = kafka.proxy(1).requests(JOIN_GROUP);
        let stream = quick(&client, &unique("group"), &[&topic])
            .session_timeout(timeout)
            .join()
            .unwrap();
        let error = end_of(&stream);
        assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some(26)), "{error}");
        let named = format!("{timeout:?}");
        tells(
            &error,
            &[
                "session_timeout",
                &named,
                "group.min.session.timeout.ms",
                "group.max.session.timeout.ms",
            ],
        );
        let commit = stream.commit(LONG).unwrap_err();
        assert_eq!(commit.to_string(), error.to_string(), "nothing will ever be committed");
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(
            kafka.proxy(1).requests(JOIN_GROUP) - before,
            1,
            "nothing was tried again"
        );
        let report = stream.close(LONG).unwrap();
        assert!(!report.left_group);
    }

    let group = unique("group");
    let first = quick(&client, &group, &[&topic]).join().unwrap();
    take(&first, 5);
    let second = quick(&client, &group, &[&topic]).join().unwrap();
    let error = end_of(&second);
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some(81)), "{error}");
    tells(&error, &["group.max.size", "members"]);
    drop(second);
    take(&first, 15);
    first.close(LONG).unwrap();
    // There is room again.
    let third = quick(&client, &group, &[&topic]).join().unwrap();
    wait_until("the third has a place", LONG, || third.assignment().len() == 2);
}

#[test]
fn a_member_without_a_common_assignor_is_refused_and_the_others_go_on() {
    let topic = filled(shared(), 2, 20);
    let client = Client::connect(&shared().bootstrap()).unwrap();
    let group = unique("group");
    let first = quick(&client, &group, &[&topic])
        .assignors([Assignor::Range])
        .join()
        .unwrap();
    take(&first, 5);
    let second = quick(&client, &group, &[&topic])
        .assignors([Assignor::RoundRobin])
        .join()
        .unwrap();
    let error = end_of(&second);
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some(23)), "{error}");
    tells(&error, &["roundrobin", "assignors"]);
    take(&first, 15);
    // Nobody has left.
    assert!(!std::iter::from_fn(|| first.events().try_next()).any(|event| matches!(event, Event::RebalanceStarted)));
    first.close(LONG).unwrap();
}

/// Such as Kafka Connect's workers.
#[test]
fn a_group_that_is_not_one_of_consumers_is_refused_with_that_reason() {
    let topic = filled(shared(), 1, 1);
    let client = Client::connect(&shared().bootstrap()).unwrap();
    let group = unique("group");
    let coordinator = shared().coordinator(&group);
    // JoinGroup 2: timeouts, no name yet, one protocol of another kind.
    let mut body = Vec::new();
    let text = |body: &mut Vec<u8>, text: &str| {
        body.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
        body.extend(text.as_bytes());
    };
    text(&mut body, &group);
    body.extend(20_000_i32.to_be_bytes());
    body.extend(20_000_i32.to_be_bytes());
    text(&mut body, "");
    text(&mut body, "connect");
    body.extend(1_i32.to_be_bytes());
    text(&mut body, "range");
    body.extend(0_i32.to_be_bytes());
    // Behind the throttle time. A coordinator that has just been made may not know it yet.
    wait_until("a member of another kind", LONG, || {
        let answer = ask(shared().direct_address(coordinator), JOIN_GROUP, 2, &body).unwrap();
        let code = i16::from_be_bytes([answer[4], answer[5]]);
        assert!(matches!(code, 0 | 14..=16), "refused with {code}");
        code == 0
    });
    let stream = quick(&client, &group, &[&topic]).join().unwrap();
    let error = end_of(&stream);
    assert_eq!(error.code(), Some(23), "{error}");
    tells(&error, &["not one of consumers", "another group"]);
}

// ---- permissions ----

fn guarded() -> Kafka {
    Kafka::builder()
        .property(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        .property("allow.everyone.if.no.acl.found", true)
        .start()
}

const ANYBODY: &str = "User:ANONYMOUS";

/// Nobody may read this topic or group any more; that it is there may be seen.
fn deny(kafka: &Kafka, kind: &str, name: &str) {
    kafka.deny(ANYBODY, "READ", kind, name);
    kafka.allow(ANYBODY, "DESCRIBE", kind, name);
}

#[test]
fn no_permission_is_one_error_that_names_whom_it_is_for() {
    let kafka = guarded();
    let (one, two) = (filled(&kafka, 1, 20), filled(&kafka, 1, 20));
    let client = Client::connect(&kafka.bootstrap()).unwrap();

    // For a group, from the start.
    let group = unique("group");
    deny(&kafka, "GROUP", &group);
    let stream = quick(&client, &group, &[&one]).join().unwrap();
    let error = end_of(&stream);
    assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
    tells(&error, &["right to read", "group", &group]);
    stream.close(LONG).unwrap();

    // Of which it may not even be known that it is there.
    let hidden = unique("hidden");
    kafka.deny(ANYBODY, "ALL", "GROUP", &hidden);
    let stream = quick(&client, &hidden, &[&one]).join().unwrap();
    let error = end_of(&stream);
    assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
    tells(&error, &["right to read", "group", &hidden]);
    drop(stream);

    // In the middle.
    let group = unique("group");
    let stream = quick(&client, &group, &[&one]).join().unwrap();
    take(&stream, 5);
    deny(&kafka, "GROUP", &group);
    let error = end_of(&stream);
    assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
    tells(&error, &["right to read", "group", &group]);
    let lost = std::iter::from_fn(|| stream.events().try_next()).any(|event| matches!(event, Event::Lost { .. }));
    assert!(lost, "its partition was lost");
    stream.close(LONG).unwrap();

    // For one of two topics in the middle: the other one goes on, also over a rebalance.
    let group = unique("group");
    let stream = quick(&client, &group, &[&one, &two]).join().unwrap();
    take(&stream, 40);
    deny(&kafka, "TOPIC", &one);
    let mut iter = stream.iter();
    let error = loop {
        match iter.next_timeout(LONG) {
            Err(error) => break error,
            Ok(Next::Message(_)) => {}
            other => panic!("{other:?}; health {:?}", stream.health()),
        }
    };
    assert_eq!(
        (error.kind(), error.topic()),
        (ErrorKind::Authorization, Some(&*one)),
        "{error}"
    );
    tells(&error, &[&one]);
    drop(iter);
    kafka.java_writes(&two, 0, &["later"]);
    assert_eq!(take(&stream, 1), [(two.clone(), 0, 20)]);
    let other = quick(&client, &group, &[&two]).join().unwrap();
    wait_until(
        "the group deals out its partitions anew",
        LONG,
        || matches!(stream.iter().next_timeout(Duration::from_millis(50)), Err(error) if error.topic() == Some(&*one)),
    );
    assert!(!stream.health().is_healthy());
    let given = stream.assignment();
    other.close(LONG).unwrap();
    wait_until("all is this member's again", LONG, || {
        drop(stream.iter().next_timeout(Duration::from_millis(50)));
        stream.assignment().len() == 2
    });
    println!("{given:?}");
    kafka.java_writes(&two, 0, &["later still"]);
    wait_until("the other topic is read", LONG, || {
        match stream.iter().next_timeout(Duration::from_millis(50)) {
            Ok(Next::Message(message)) => message.topic() == two && message.offset() == 21 && message.ack(),
            Ok(Next::Ended) => panic!("one topic's trouble is not the other's"),
            _ => false,
        }
    });
    stream.close(LONG).unwrap();

    // From the start.
    let error = quick(&client, &unique("group"), &[&one, &two]).join();
    match error {
        // Metadata may be seen.
        Ok(stream) => {
            let mut iter = stream.iter();
            let error = loop {
                match iter.next_timeout(LONG) {
                    Err(error) => break error,
                    Ok(Next::Message(_)) => {}
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(
                (error.kind(), error.topic()),
                (ErrorKind::Authorization, Some(&*one)),
                "{error}"
            );
        }
        Err(error) => panic!("{error}"),
    }
    let secret = filled(&kafka, 1, 1);
    kafka.deny(ANYBODY, "ALL", "TOPIC", &secret);
    let error = quick(&client, &unique("group"), &[&secret]).join().unwrap_err();
    assert_eq!(
        (error.kind(), error.topic()),
        (ErrorKind::Authorization, Some(&*secret)),
        "{error}"
    );
    tells(&error, &[&secret]);
}

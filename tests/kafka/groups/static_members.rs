//! Members with a name that outlives them (KIP-345).

use std::time::{Duration, Instant};

use klamm::{Client, ErrorKind, Event, GroupBuilder, Next, Stream, TopicPartition};

use crate::support::{shared, unique, wait_until};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(90);

fn filled(partitions: usize, records: usize) -> String {
    let topic = unique("static");
    shared().create_topic(&topic, partitions, &[]);
    shared().fill(&topic, partitions, records, "none", 10);
    topic
}

fn named(client: &Client, group: &str, topic: &str, name: &str, session: Duration) -> GroupBuilder {
    client
        .group(group)
        .topics([topic])
        .instance_id(name)
        .session_timeout(session)
        .heartbeat_interval(Duration::from_millis(200))
        .commit_interval(Duration::from_millis(200))
}

fn events(stream: &Stream) -> Vec<Event> {
    std::iter::from_fn(|| stream.events().try_next()).collect()
}

/// Lets the stream take part in rebalances, as a program does that iterates.
fn turn(stream: &Stream) -> Option<(i32, i64)> {
    match stream.iter().next_timeout(Duration::from_millis(20)) {
        Ok(Next::Message(message)) => message.ack().then(|| (message.partition(), message.offset())),
        Ok(Next::TimedOut) => None,
        other => panic!("{other:?}; health {:?}", stream.health()),
    }
}

#[test]
fn of_two_members_with_one_name_the_older_is_fenced_and_the_newer_goes_on() {
    let topic = filled(4, 400);
    let client = Client::connect(&shared().bootstrap()).unwrap();
    let group = unique("group");
    let session = Duration::from_secs(30);
    // What it reads until it hears of the newer one, it is not to commit: the newer one reads that again.
    let older = named(&client, &group, &topic, "billing-1", session).commit_interval(None);
    let older = older.join().unwrap();
    let mut iter = older.iter();
    for _ in 0..40 {
        assert!(matches!(iter.next_timeout(LONG), Ok(Next::Message(_))));
    }
    older.commit(LONG).unwrap();
    let in_hand = match iter.next_timeout(LONG) {
        Ok(Next::Message(message)) => message,
        other => panic!("{other:?}"),
    };
    let newer = named(&client, &group, &topic, "billing-1", session).join().unwrap();
    let error = loop {
        match iter.next_timeout(LONG) {
            Ok(Next::Message(_)) => {}
            Err(error) => break error,
            other => panic!("{other:?}; health {:?}", older.health()),
        }
    };
    assert_eq!((error.kind(), error.code()), (ErrorKind::Fenced, Some(82)), "{error}");
    let said = error.to_string();
    assert!(said.contains("\"billing-1\"") && said.contains("instance_id"), "{said}");
    assert!(matches!(iter.next_timeout(LONG), Ok(Next::Ended)));
    assert!(iter.next().is_none());
    drop(iter);
    assert!(!in_hand.is_current() && !in_hand.ack(), "somebody else has it now");
    let lost = events(&older);
    let lost = lost.iter().filter(|event| matches!(event, Event::Lost { .. })).count();
    assert_eq!(lost, 4);
    assert_eq!(older.commit(LONG).unwrap_err().kind(), ErrorKind::Fenced);
    let report = older.close(LONG).unwrap();
    assert!(!report.left_group);
    // The newer goes on, with everything, where the older has committed, and is not disturbed by its end.
    let mut seen = std::collections::BTreeSet::new();
    wait_until("the newer reads the rest", LONG, || {
        seen.extend(turn(&newer));
        seen.len() >= 360
    });
    assert_eq!(newer.assignment().len(), 4);
    let rebalances = events(&newer);
    let rebalances = rebalances
        .iter()
        .filter(|event| matches!(event, Event::RebalanceStarted));
    assert_eq!(rebalances.count(), 0);
    let report = newer.close(LONG).unwrap();
    assert!(!report.left_group, "a static member is expected back");
}

#[test]
fn a_static_member_that_comes_back_in_time_gets_the_same_and_nobody_else_notices() {
    let topic = filled(6, 60);
    let client = Client::connect(&shared().bootstrap()).unwrap();
    let group = unique("group");
    let session = Duration::from_secs(60);
    let join = |name: &str| named(&client, &group, &topic, name, session).join().unwrap();
    let mut members: Vec<(&str, Stream)> = vec![("a", join("a"))];
    wait_until("the first has all", LONG, || {
        turn(&members[0].1);
        members[0].1.assignment().len() == 6
    });
    members.push(("b", join("b")));
    members.push(("c", join("c")));
    let settled = |members: &[(&str, Stream)]| {
        wait_until("each has two", LONG, || {
            members.iter().for_each(|(_, stream)| _ = turn(stream));
            members
                .iter()
                .all(|(_, stream)| stream.assignment().len() == 2 && stream.health().is_healthy())
        });
    };
    settled(&members);
    // The leader is among them.
    for _ in 0..3 {
        let (name, stream) = members.remove(0);
        members.iter().for_each(|(_, stream)| drop(events(stream)));
        let before: Vec<TopicPartition> = stream.assignment();
        let report = stream.close(LONG).unwrap();
        assert!(!report.left_group);
        let again = join(name);
        wait_until("it has a place", LONG, || again.assignment().len() == 2);
        assert_eq!(again.assignment(), before);
        members.push((name, again));
        shared().fill_from(10, &topic, 6, 6, "none", 10);
        let begun = Instant::now();
        // Several heartbeats of everybody.
        while begun.elapsed() < Duration::from_secs(1) {
            members.iter().for_each(|(_, stream)| _ = turn(stream));
        }
        for (other, stream) in &members[..2] {
            let moved: Vec<Event> = events(stream)
                .into_iter()
                .filter(|event| !matches!(event, Event::Assigned { .. }))
                .collect();
            assert!(moved.is_empty(), "{name} came back, and {other} had {moved:?}");
        }
    }
    settled(&members);
}

#[test]
fn a_static_member_that_stays_away_loses_its_partitions_once() {
    let topic = filled(4, 40);
    let client = Client::connect(&shared().bootstrap()).unwrap();
    let group = unique("group");
    let session = Duration::from_secs(6);
    let join = |name: &str| named(&client, &group, &topic, name, session).join().unwrap();
    let (a, b) = (join("a"), join("b"));
    wait_until("each has two", LONG, || {
        turn(&a);
        turn(&b);
        a.assignment().len() == 2 && b.assignment().len() == 2
    });
    drop(events(&b));
    a.close(LONG).unwrap();
    let closed = Instant::now();
    wait_until("the other has all", LONG, || {
        turn(&b);
        b.assignment().len() == 4
    });
    let after = closed.elapsed();
    // Less than what passed between the last heartbeat and the close.
    assert!(after + Duration::from_secs(1) > session, "{after:?}");
    let moved = events(&b);
    let started = moved
        .iter()
        .filter(|event| matches!(event, Event::RebalanceStarted))
        .count();
    assert_eq!(started, 1, "{moved:?}");
}

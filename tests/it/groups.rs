//! Members share partitions, commit, and go on where others have ended.

use std::{collections::BTreeSet, time::Duration};

use klamm::{AckMode, Client, Event, GroupBuilder, Next, StartAt, Stream, TopicPartition};

use crate::{
    LONG,
    cluster::{Cluster, on_both, text, unique, write},
    support::wait_until,
};

on_both! {
    a_member_goes_on_where_the_one_before_has_ended,
    what_was_not_acked_comes_again,
    members_share_the_partitions_and_take_over,
    nothing_is_read_twice_by_a_group_that_grows,
    a_static_member_comes_back_to_what_it_had,
    what_is_committed_can_be_asked_for,
    a_commit_is_answered,
    a_group_starts_where_it_is_told_to_when_it_has_no_commit,
    a_member_without_partitions_waits_for_some,
}

fn group(client: &Client, id: &str, topic: &str) -> GroupBuilder {
    let heartbeats = Duration::from_millis(200); // a rebalance is heard of with the next one
    client.group(id).topics([topic]).heartbeat_interval(heartbeats)
}

/// Reads so many messages, each of which is done then, and leaves.
fn read(group: GroupBuilder, count: usize) -> Vec<String> {
    let stream = group.join().unwrap();
    let mut iter = stream.iter();
    let mut read = Vec::new();
    while read.len() < count {
        match iter.next_timeout(LONG).unwrap() {
            Next::Message(message) => read.push(text(message.value())),
            other => panic!("{other:?} after {read:?}"),
        }
    }
    // Asking for the next one acks the last.
    assert!(!matches!(iter.next_timeout(Duration::ZERO).unwrap(), Next::Ended));
    drop(iter);
    let report = stream.close(LONG).unwrap();
    assert!(report.uncommitted.is_empty(), "{report:?}");
    read
}

fn owns(stream: &Stream, count: usize) {
    wait_until(&format!("{count} partitions"), LONG, || {
        stream.assignment().len() == count
    });
}

fn a_member_goes_on_where_the_one_before_has_ended(cluster: &Cluster) {
    let (topic, id) = (cluster.topic("goes-on", 1), unique("group"));
    let client = cluster.client();
    write(&client, &topic, 0, &["a", "b", "c", "d"]);
    // A window of one, so that nothing is in hand that the first member does not ask for.
    let member = || group(&client, &id, &topic).prefetch_count(1);
    assert_eq!(read(member(), 4), ["a", "b", "c", "d"]);
    write(&client, &topic, 0, &["e", "f"]);
    assert_eq!(read(member(), 2), ["e", "f"]);
}

fn what_was_not_acked_comes_again(cluster: &Cluster) {
    let (topic, id) = (cluster.topic("again", 1), unique("group"));
    let client = cluster.client();
    write(&client, &topic, 0, &["a", "b", "c"]);
    let member = || group(&client, &id, &topic).ack_mode(AckMode::Explicit).join().unwrap();
    let stream = member();
    let mut iter = stream.iter();
    for (wanted, is_done) in [("a", true), ("b", false), ("c", true)] {
        let Next::Message(message) = iter.next_timeout(LONG).unwrap() else {
            panic!("{wanted} is there")
        };
        assert_eq!(text(message.value()), wanted);
        if is_done {
            assert!(message.ack());
        }
    }
    drop(iter);
    let report = stream.close(LONG).unwrap();
    assert_eq!(report.unfinished.len(), 1, "{report:?}");

    let stream = member();
    let mut iter = stream.iter();
    for wanted in ["b", "c"] {
        let Next::Message(message) = iter.next_timeout(LONG).unwrap() else {
            panic!("{wanted} comes again")
        };
        assert_eq!(text(message.value()), wanted);
    }
}

fn members_share_the_partitions_and_take_over(cluster: &Cluster) {
    let (topic, id) = (cluster.topic("shared", 6), unique("group"));
    let client = cluster.client();
    let first = group(&client, &id, &topic).join().unwrap();
    owns(&first, 6);
    let second = group(&client, &id, &topic).join().unwrap();
    owns(&first, 3);
    owns(&second, 3);
    let of = |stream: &Stream| stream.assignment().into_iter().collect::<BTreeSet<_>>();
    assert!(of(&first).is_disjoint(&of(&second)));
    first.close(LONG).unwrap();
    owns(&second, 6);
}

fn nothing_is_read_twice_by_a_group_that_grows(cluster: &Cluster) {
    const RECORDS: usize = 400;
    let (topic, id) = (cluster.topic("once", 4), unique("group"));
    let client = cluster.client();
    let members = 3;
    let streams: Vec<Stream> = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..RECORDS {
                write(&client, &topic, number as i32 % 4, &[&number.to_string()]);
            }
        });
        let (tell, told) = std::sync::mpsc::channel();
        let mut streams = Vec::new();
        for _ in 0..members {
            let stream = group(&client, &id, &topic).join().unwrap();
            let stream = std::sync::Arc::new(stream);
            let (reads, tell) = (std::sync::Arc::clone(&stream), tell.clone());
            scope.spawn(move || {
                for message in &*reads {
                    let message = message.unwrap();
                    tell.send(text(message.value()).parse::<usize>().unwrap()).unwrap();
                }
            });
            streams.push(stream);
        }
        let mut seen = vec![0; RECORDS];
        while seen.contains(&0) {
            let number = told.recv_timeout(LONG).expect("every record comes");
            seen[number] += 1;
        }
        writer.join().unwrap();
        for stream in &streams {
            stream.closer().close();
        }
        drop(tell);
        // Until the loops have ended, and let go of the streams: what comes now came before.
        for number in told {
            seen[number] += 1;
        }
        assert!(seen.iter().all(|&times| times == 1), "{seen:?}");
        streams
            .into_iter()
            .map(|stream| std::sync::Arc::into_inner(stream).unwrap())
            .collect()
    });
    for stream in streams {
        stream.close(LONG).unwrap();
    }
}

fn a_static_member_comes_back_to_what_it_had(cluster: &Cluster) {
    let (topic, id) = (cluster.topic("static", 4), unique("group"));
    let client = cluster.client();
    let named = |name: &str| group(&client, &id, &topic).instance_id(name).join().unwrap();
    let (first, second) = (named("first"), named("second"));
    owns(&first, 2);
    owns(&second, 2);
    let before = first.assignment();
    let events = second.events();
    while events.try_next().is_some() {} // how both came
    first.close(LONG).unwrap();
    let first = named("first");
    owns(&first, 2);
    assert_eq!(first.assignment(), before);
    let rebalances = std::iter::from_fn(|| events.try_next())
        .filter(|event| matches!(event, Event::RebalanceStarted))
        .count();
    assert_eq!(rebalances, 0);
}

fn what_is_committed_can_be_asked_for(cluster: &Cluster) {
    let (topic, id) = (cluster.topic("asked", 3), unique("group"));
    let client = cluster.client();
    write(&client, &topic, 1, &["a", "b"]);
    assert_eq!(read(group(&client, &id, &topic), 2), ["a", "b"]);
    let stream = group(&client, &id, &topic).join().unwrap();
    let committed = stream
        .committed((0..3).map(|partition| (topic.as_str(), partition)))
        .unwrap();
    assert_eq!(committed[&TopicPartition::new(&topic, 1)], 2);
}

fn a_commit_is_answered(cluster: &Cluster) {
    let (topic, id) = (cluster.topic("commits", 1), unique("group"));
    let client = cluster.client();
    write(&client, &topic, 0, &["a", "b", "c"]);
    let stream = group(&client, &id, &topic).ack_mode(AckMode::Explicit).join().unwrap();
    let mut iter = stream.iter();
    let partition = TopicPartition::new(&topic, 0);
    for done in 1..=3 {
        let Next::Message(message) = iter.next_timeout(LONG).unwrap() else {
            panic!("a message")
        };
        message.ack();
        stream.commit(LONG).unwrap();
        assert_eq!(stream.committed([&partition]).unwrap()[&partition], done);
    }
}

fn a_group_starts_where_it_is_told_to_when_it_has_no_commit(cluster: &Cluster) {
    let topic = cluster.topic("begins", 1);
    let client = cluster.client();
    write(&client, &topic, 0, &["a", "b"]);
    let (early, late) = (unique("early"), unique("late"));
    assert_eq!(read(group(&client, &early, &topic), 2), ["a", "b"]);
    let stream = group(&client, &late, &topic).start_at(StartAt::Latest).join().unwrap();
    let events = stream.events();
    let position = std::iter::from_fn(|| events.next_timeout(LONG)).find_map(|event| match event {
        Event::Assigned { position, .. } => Some(position),
        _ => None,
    });
    assert_eq!(position, Some(2));
    write(&client, &topic, 0, &["c"]);
    let Next::Message(message) = stream.iter().next_timeout(LONG).unwrap() else {
        panic!("a message")
    };
    assert_eq!(text(message.value()), "c");
}

fn a_member_without_partitions_waits_for_some(cluster: &Cluster) {
    let (topic, id) = (cluster.topic("few", 1), unique("group"));
    let client = cluster.client();
    let first = group(&client, &id, &topic).join().unwrap();
    owns(&first, 1);
    let second = group(&client, &id, &topic).join().unwrap();
    let events = second.events();
    let mut told = std::iter::from_fn(|| events.next_timeout(LONG));
    assert!(told.any(|event| matches!(event, Event::Rebalanced { .. })));
    wait_until("one of the members to have it", LONG, || {
        first.assignment().len() + second.assignment().len() == 1
    });
    let (with, without) = if first.assignment().is_empty() {
        (second, first)
    } else {
        (first, second)
    };
    with.close(LONG).unwrap();
    owns(&without, 1);
    write(&client, &topic, 0, &["a"]);
    assert!(matches!(without.iter().next_timeout(LONG).unwrap(), Next::Message(_)));
}

//! Topics that come, grow, go away and are made anew under a group.

use std::collections::BTreeSet;
use std::time::Duration;

use klamm::{Client, ErrorKind, Event, Next, StartAt, Stream};

use super::brokers::{
    LONG, OFFSET_COMMIT, committed, connect, drain, next, texts, wait_for_event, wait_until_assigned,
};
use crate::support::{Committed, Fate, Kafka, Proxy, shared, shared_behind_a_proxy, unique, wait_until};

const METADATA: i16 = 3;
const FETCH: i16 = 1;

/// Notices what happens to topics soon.
fn attentive(kafka: &Kafka) -> Client {
    Client::builder()
        .bootstrap(kafka.bootstrap())
        .metadata_max_age(Duration::from_millis(300))
        .unknown_topic_ttl(Duration::from_secs(1))
        .connect()
        .unwrap()
}

fn join(client: &Client, group: &str, topics: &[&str], start: StartAt) -> Stream {
    client
        .group(group)
        .topics(topics)
        .start_at(start)
        .session_timeout(Duration::from_secs(60))
        .heartbeat_interval(Duration::from_millis(300))
        .commit_interval(Duration::from_millis(100))
        .join()
        .unwrap()
}

/// Until it is dropped nobody sees, behind this proxy, what happens to topics.
struct Hidden<'p>(&'p Proxy);

fn hide(proxy: &Proxy) -> Hidden<'_> {
    proxy.on_request(|asked, _| match asked.api_key {
        METADATA => Fate::Cut,
        _ => Fate::Forward,
    });
    Hidden(proxy)
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        self.0.no_hooks();
    }
}

/// Everything that comes until these have come, which count as done.
#[track_caller]
fn read_all(stream: &Stream, mut wanted: BTreeSet<(i32, i64)>) {
    let mut iter = stream.iter();
    while !wanted.is_empty() {
        match iter.next_timeout(LONG) {
            Ok(Next::Message(message)) => {
                assert!(wanted.remove(&(message.partition(), message.offset())), "{message:?}");
                message.ack();
            }
            other => panic!("{other:?}, {wanted:?} are missing; {:?}", stream.health()),
        }
    }
}

fn records(partitions: std::ops::Range<i32>, offsets: std::ops::Range<i64>) -> BTreeSet<(i32, i64)> {
    partitions
        .flat_map(|partition| offsets.clone().map(move |offset| (partition, offset)))
        .collect()
}

#[track_caller]
fn wait_until_committed(kafka: &Kafka, group: &str, expected: &Committed) {
    wait_until("commits", LONG, || {
        let found = kafka.committed_offsets(group);
        if found != *expected {
            std::thread::sleep(Duration::from_millis(50));
        }
        found == *expected
    });
}

#[test]
fn partitions_that_are_added_are_read_from_their_first_record() {
    let kafka = shared_behind_a_proxy();
    let (topic, group) = (unique("grows"), unique("grows"));
    kafka.create_topic(&topic, 2, &[]);
    kafka.fill(&topic, 2, 20, "none", 10);
    let client = attentive(&kafka);
    let stream = join(&client, &group, &[&topic], StartAt::Latest);
    wait_until_assigned(&stream, 2);
    let positions = stream.position([(&topic, 0), (&topic, 1)]).unwrap();
    assert!(positions.values().all(|position| *position == 10), "{positions:?}");
    let hidden = hide(kafka.proxy(1));
    kafka.grow_topic(&topic, 4);
    for partition in [2, 3] {
        kafka.java_writes(&topic, partition, &["a", "b", "c"]);
    }
    drop(hidden);
    read_all(&stream, records(2..4, 0..3));
    kafka.java_writes(&topic, 0, &["old"]);
    read_all(&stream, records(0..1, 10..11));
    stream.close(LONG).unwrap();
    let expected = [(0, 11), (1, 10), (2, 3), (3, 3)].map(|(partition, offset)| ((&*topic, partition).into(), offset));
    assert_eq!(kafka.committed_offsets(&group), expected.into());
}

/// Whoever comes later has never seen the topic smaller.
#[test]
fn partitions_that_were_added_are_read_from_their_first_record_by_a_later_member_too() {
    let kafka = shared();
    let (topic, group) = (unique("grows"), unique("grows"));
    kafka.create_topic(&topic, 1, &[]);
    let client = attentive(kafka);
    let first = join(&client, &group, &[&topic], StartAt::Latest);
    wait_until_assigned(&first, 1);
    kafka.grow_topic(&topic, 2);
    kafka.java_writes(&topic, 1, &["a", "b", "c"]);
    wait_until_assigned(&first, 2);
    // It is given out, and not done.
    wait_for_event(&first, "Assigned", |event| match event {
        Event::Assigned {
            partition, position, ..
        } if partition.partition() == 1 => Some(*position),
        _ => None,
    });
    let second = join(&client, &group, &[&topic], StartAt::Latest);
    std::thread::scope(|scope| {
        // The first one has nothing in hand, so that it gives up at once.
        let both = scope.spawn(|| {
            wait_until_assigned(&second, 1);
            wait_until_assigned(&first, 1);
        });
        both.join().unwrap();
    });
    let owner = if second.assignment()[0].partition() == 1 {
        &second
    } else {
        &first
    };
    read_all(owner, records(1..2, 0..3));
    first.close(LONG).unwrap();
    second.close(LONG).unwrap();
}

#[test]
fn an_awaited_topic_is_read_from_its_first_record_once_it_is_there() {
    let kafka = shared_behind_a_proxy();
    let (topic, other, group) = (unique("awaited"), unique("awaited-other"), unique("awaited"));
    kafka.create_topic(&other, 1, &[]);
    kafka.java_writes(&other, 0, &["before"]);
    let client = attentive(&kafka);
    let error = client.group(&group).topics([&other, &topic]).join().unwrap_err();
    assert_eq!(
        (error.kind(), error.topic()),
        (ErrorKind::UnknownTopic, Some(&*topic)),
        "{error}"
    );
    let stream = client
        .group(&group)
        .topics([&other, &topic])
        .await_topics()
        .start_at(StartAt::Latest)
        .session_timeout(Duration::from_secs(60))
        .heartbeat_interval(Duration::from_millis(300))
        .join()
        .unwrap();
    wait_until_assigned(&stream, 1);
    stream.position([(&other, 0)]).unwrap();
    assert!(stream.health().is_healthy(), "{:?}", stream.health());
    kafka.java_writes(&other, 0, &["here"]);
    assert_eq!(texts(&stream, 1), ["here"]);
    let hidden = hide(kafka.proxy(1));
    kafka.create_topic(&topic, 2, &[]);
    kafka.java_writes(&topic, 0, &["one"]);
    kafka.java_writes(&topic, 1, &["two"]);
    drop(hidden);
    let mut found = texts(&stream, 2);
    found.sort_unstable();
    assert_eq!(found, ["one", "two"]);
    stream.close(LONG).unwrap();
    let expected = [((&*other, 0), 2), ((&*topic, 0), 1), ((&*topic, 1), 1)];
    let expected: Committed = expected.map(|(name, offset)| (name.into(), offset)).into();
    assert_eq!(kafka.committed_offsets(&group), expected);
}

/// Nobody looks for it in a hurry, and nobody else is held up.
#[test]
fn a_topic_that_is_deleted_under_a_group_is_given_up_without_a_hot_loop() {
    let kafka = shared_behind_a_proxy();
    let (gone, stays, group) = (unique("gone"), unique("stays"), unique("gone"));
    kafka.create_topic(&gone, 2, &[]);
    kafka.create_topic(&stays, 1, &[]);
    kafka.fill(&gone, 2, 20, "none", 10);
    let client = Client::builder()
        .bootstrap(kafka.bootstrap())
        .unknown_topic_ttl(Duration::from_secs(2))
        .connect()
        .unwrap();
    let stream = join(&client, &group, &[&gone, &stays], StartAt::Earliest);
    texts(&stream, 20);
    stream.commit(LONG).unwrap();
    kafka.delete_topic(&gone);
    // Perhaps it is told by the iterator first, once for each partition.
    let mut errors = Vec::new();
    let mut iter = stream.iter();
    wait_until("it is given up", LONG, || {
        match iter.next_timeout(Duration::from_millis(50)) {
            Ok(Next::TimedOut) => {}
            Err(error) => errors.push(error),
            other => panic!("{other:?}"),
        }
        stream.assignment().len() == 1
    });
    println!("{errors:?}");
    assert!(errors.len() <= 2, "{errors:?}");
    assert!(
        errors.iter().all(|error| error.kind() == ErrorKind::UnknownTopic),
        "{errors:?}"
    );
    let proxy = kafka.proxy(1);
    let counts = || [METADATA, FETCH, OFFSET_COMMIT, 9, 10, 11].map(|api| proxy.requests(api));
    let before = counts();
    assert!(matches!(iter.next_timeout(Duration::from_secs(5)), Ok(Next::TimedOut)));
    let after = counts();
    let asked: Vec<u64> = before.iter().zip(after).map(|(before, after)| after - before).collect();
    println!("metadata, Fetch, commit, offsets, coordinator, join in five seconds: {asked:?}");
    assert!(asked.iter().all(|asked| *asked <= 25), "{asked:?}");
    drop(iter);
    kafka.java_writes(&stays, 0, &["here"]);
    assert_eq!(texts(&stream, 1), ["here"]);
    stream.close(LONG).unwrap();
    let expected: Committed = [((&*stays, 0).into(), 1)].into();
    assert_eq!(kafka.committed_offsets(&group), expected);
}

/// The new topic has fewer records than were read of the old one, as many, or more; and it comes so soon that nobody has
/// missed the old one, or late.
#[test]
fn a_recreated_topic_is_read_from_its_first_record_and_no_old_offset_is_committed_into_it() {
    let kafka = shared_behind_a_proxy();
    for (is_late, count) in [(false, 5), (false, 20), (false, 60), (true, 20)] {
        let (topic, group) = (unique("anew"), unique("anew"));
        kafka.create_topic(&topic, 1, &[]);
        kafka.fill(&topic, 1, 20, "none", 10);
        let client = Client::builder()
            .bootstrap(kafka.bootstrap())
            .metadata_max_age(Duration::from_millis(300))
            .unknown_topic_ttl(if is_late { Duration::from_secs(1) } else { LONG })
            .connect()
            .unwrap();
        // The end is not where the new topic is begun.
        let stream = join(&client, &group, &[&topic], StartAt::Latest);
        wait_until_assigned(&stream, 1);
        assert_eq!(stream.position([(&topic, 0)]).unwrap()[&(&topic, 0).into()], 20);
        kafka.fill_from(20, &topic, 1, 20, "none", 10);
        for offset in 20..39 {
            assert_eq!(next(&stream), offset);
        }
        let mut iter = stream.iter();
        let held = match iter.next_timeout(LONG).unwrap() {
            Next::Message(message) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(held.offset(), 39);
        wait_until_committed(&kafka, &group, &[((&*topic, 0).into(), 39)].into());
        kafka.delete_topic(&topic);
        wait_until("the topic is gone", LONG, || kafka.leader(&topic, 0) < 0);
        wait_until("its commits are gone", LONG, || {
            kafka.committed_offsets(&group).is_empty()
        });
        if is_late {
            wait_until("it is given up", LONG, || {
                match iter.next_timeout(Duration::from_millis(50)) {
                    Ok(Next::TimedOut) => stream.assignment().is_empty(),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::UnknownTopic);
                        stream.assignment().is_empty()
                    }
                    other => panic!("{other:?}"),
                }
            });
        }
        let hidden = hide(kafka.proxy(1));
        kafka.create_topic(&topic, 1, &[]);
        let values: Vec<String> = (0..count).map(|n| format!("new-{n}")).collect();
        kafka.java_writes(&topic, 0, &values.iter().map(String::as_str).collect::<Vec<_>>());
        drop(hidden);
        if !is_late {
            wait_for_event(&stream, "TopicRecreated", |event| {
                matches!(event, Event::TopicRecreated { topic: told, .. } if *told == topic).then_some(())
            });
        }
        // Of the old topic: it means nothing any more.
        let counted = held.ack();
        assert!(!counted, "is late: {is_late}");
        drop((held, iter));
        assert_eq!(texts(&stream, count / 2), values[..count / 2], "is late: {is_late}");
        wait_until_committed(&kafka, &group, &[((&*topic, 0).into(), count as i64 / 2)].into());
        assert_eq!(texts(&stream, count - count / 2), values[count / 2..]);
        wait_until_committed(&kafka, &group, &[((&*topic, 0).into(), count as i64)].into());
        wait_until("health", LONG, || stream.health().is_healthy());
        let events = drain(&stream);
        let resets = events.iter().filter(|event| matches!(event, Event::OffsetReset { .. }));
        assert_eq!(resets.count(), 0, "{events:?}");
        stream.close(LONG).unwrap();
        assert_eq!(committed(&kafka, &group), count as i64);
    }
}

/// What was committed and how far: the same offset of another topic is another one.
#[test]
fn as_many_records_of_a_recreated_topic_as_of_the_old_one_are_committed() {
    let kafka = shared();
    let (topic, group) = (unique("same"), unique("same"));
    kafka.create_topic(&topic, 1, &[]);
    kafka.java_writes(&topic, 0, &["old", "old"]);
    let client = Client::builder()
        .bootstrap(kafka.bootstrap())
        .metadata_max_age(Duration::from_millis(300))
        .unknown_topic_ttl(LONG)
        .connect()
        .unwrap();
    let stream = join(&client, &group, &[&topic], StartAt::Earliest);
    texts(&stream, 2);
    wait_until_committed(kafka, &group, &[((&*topic, 0).into(), 2)].into());
    kafka.delete_topic(&topic);
    wait_until("its commits are gone", LONG, || {
        kafka.committed_offsets(&group).is_empty()
    });
    kafka.create_topic(&topic, 1, &[]);
    kafka.java_writes(&topic, 0, &["new", "new"]);
    assert_eq!(texts(&stream, 2), ["new", "new"]);
    stream.commit(LONG).unwrap();
    assert_eq!(committed(kafka, &group), 2);
    stream.close(LONG).unwrap();
}

#[test]
fn a_topic_that_was_recreated_while_the_group_was_away_is_read_from_its_first_record() {
    let kafka = shared();
    for count in [5, 60] {
        let (topic, group) = (unique("away"), unique("away"));
        kafka.create_topic(&topic, 1, &[]);
        kafka.fill(&topic, 1, 20, "none", 10);
        let client = connect(&kafka.bootstrap());
        let stream = join(&client, &group, &[&topic], StartAt::Earliest);
        texts(&stream, 20);
        stream.close(LONG).unwrap();
        assert_eq!(committed(kafka, &group), 20);
        kafka.delete_topic(&topic);
        wait_until("the topic is gone", LONG, || kafka.leader(&topic, 0) < 0);
        wait_until("its commits are gone", LONG, || {
            kafka.committed_offsets(&group).is_empty()
        });
        kafka.create_topic(&topic, 1, &[]);
        let values: Vec<String> = (0..count).map(|n| format!("new-{n}")).collect();
        kafka.java_writes(&topic, 0, &values.iter().map(String::as_str).collect::<Vec<_>>());
        let stream = join(&client, &group, &[&topic], StartAt::Earliest);
        assert_eq!(texts(&stream, count), values);
        stream.close(LONG).unwrap();
        assert_eq!(committed(kafka, &group), count as i64);
    }
}

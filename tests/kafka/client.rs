//! What a client knows of its cluster.

use std::time::{Duration, SystemTime};

use klamm::{Client, Coordinator, ErrorKind, StartAt, Topics};

use crate::reading::{client, topic};
use crate::support::{shared, unique};

#[test]
fn metadata_names_topics_as_they_are_and_leaves_out_what_is_not_there() {
    let (one, other) = (topic("known", 3, &[]), topic("another", 1, &[]));
    let missing = unique("missing");
    let client = client();
    let metadata = client.metadata(Topics::named([&one, &missing])).expect("an answer");
    assert_eq!(metadata.topics.len(), 1, "{metadata:?}");
    let known = &metadata.topics[0];
    assert_eq!((&known.name, known.is_internal), (&one, false));
    let seen: Vec<_> = known
        .partitions
        .iter()
        .map(|found| {
            (
                found.partition,
                found.leader.unwrap_or(-1),
                found.replicas.clone(),
                found.in_sync_replicas.clone(),
            )
        })
        .collect();
    let java: Vec<_> = shared()
        .partition_states(&one)
        .into_iter()
        .map(|state| (state.partition, state.leader, state.replicas, state.in_sync))
        .collect();
    assert_eq!(seen, java);
    assert_eq!(metadata.brokers.len(), shared().brokers());

    let all = client.metadata(Topics::All).expect("an answer");
    let names: Vec<_> = all.topics.iter().map(|topic| &topic.name).collect();
    assert!(names.contains(&&one) && names.contains(&&other) && !names.contains(&&missing));
    assert!(names.is_sorted());
    // Asking has created nothing.
    let error = client.partitions(&missing).expect_err("not there");
    assert_eq!(
        (error.kind(), error.topic()),
        (ErrorKind::UnknownTopic, Some(missing.as_str()))
    );
    assert!(
        !shared()
            .topic_command(&["--list"])
            .lines()
            .any(|topic| topic == missing)
    );
}

#[test]
fn partitions_leaders_and_coordinators_are_found() {
    let topic = topic("found", 3, &[]);
    let client = client();
    assert_eq!(client.partitions(&topic).expect("known"), 3);
    let leader = client.leader(&topic, 2).expect("a leader");
    assert_eq!(leader.id, shared().leader(&topic, 2));
    assert_eq!(
        format!("{}:{}", leader.host, leader.port),
        shared().address(leader.id).to_string()
    );
    let error = client.leader(&topic, 3).expect_err("no such partition");
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
    for of in [Coordinator::Group("some group"), Coordinator::Transaction("some id")] {
        assert_eq!(client.coordinator(of).expect("one broker does it all"), leader);
    }
}

#[test]
fn offsets_are_found_by_place_and_by_time() {
    let topic = topic("offsets", 1, &[("retention.ms", "-1")]);
    let client = client();
    let offset = |start| client.offset_for(&topic, 0, start).expect("a leader");
    let at = |time| StartAt::Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(time));
    assert_eq!((offset(StartAt::Earliest), offset(StartAt::Latest)), (Some(0), Some(0)));
    assert_eq!(offset(at(0)), None);
    shared().java_writes_at(&topic, 0, &[10, 20, 20, 30]);
    for (time, wanted) in [(5, Some(0)), (10, Some(0)), (13, Some(1)), (20, Some(1)), (31, None)] {
        assert_eq!(offset(at(time)), wanted, "{time}");
    }
    assert_eq!((offset(StartAt::Earliest), offset(StartAt::Latest)), (Some(0), Some(4)));
    assert_eq!(offset(StartAt::Offset(2)), Some(2));
    assert_eq!(offset(StartAt::Ago(Duration::MAX)), Some(0));
    assert_eq!(offset(StartAt::Ago(Duration::from_secs(3600))), None);
    shared().delete_records(&topic, 0, 3);
    assert_eq!(offset(StartAt::Earliest), Some(3));
    let error = client
        .offset_for(&topic, 1, StartAt::Latest)
        .expect_err("no such partition");
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
    let error = client
        .offset_for(&topic, 0, StartAt::Offset(-2))
        .expect_err("no such offset");
    assert_eq!(error.kind(), ErrorKind::Config);
    // An offset that is given needs no look-up, but a partition that is there.
    assert_eq!(
        client.offset_for(&topic, 0, StartAt::Offset(5)).expect("a leader"),
        Some(5)
    );
    let error = client
        .offset_for(&topic, 9, StartAt::Offset(5))
        .expect_err("no such partition");
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
}

#[test]
fn the_latest_offset_lies_before_an_open_transaction() {
    let topic = topic("open-end", 1, &[]);
    let transactions = shared().write_transactions(&topic, 0);
    let ends = shared().offsets(&topic)[0];
    assert!(ends.last_stable < ends.latest);
    let client = client();
    let latest = || client.offset_for(&topic, 0, StartAt::Latest).expect("a leader");
    assert_eq!(latest(), Some(ends.last_stable));
    transactions.commit();
    assert_eq!(latest(), Some(shared().offsets(&topic)[0].latest));
}

#[test]
fn one_broker_of_the_list_is_enough_and_none_is_named_with_its_reason() {
    // Port 1 refuses.
    let list = format!("127.0.0.1:1, {}", shared().bootstrap());
    let client = Client::connect(&list).expect("the second answers");
    assert!(client.metadata(Topics::named(["any"])).is_ok());
    let error = Client::connect("127.0.0.1:1,[::1]:1").expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let said = error.to_string();
    assert!(said.contains("127.0.0.1:1") && said.contains("[::1]:1"), "{said}");

    let lazy = Client::builder()
        .bootstrap("127.0.0.1:1")
        .request_timeout(Duration::from_millis(500))
        .connect_lazy()
        .expect("absence is no error");
    let error = lazy.partitions("any").expect_err("nobody answers");
    assert!(
        matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::TimedOut),
        "{error}"
    );
}

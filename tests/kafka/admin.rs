//! Changes to a cluster happen, and Kafka's own tools agree.

use std::time::{Duration, SystemTime};

use klamm::{ErrorKind, NewTopic, StartAt, TopicPartition};

use crate::reading::{LONG, client, topic};
use crate::support::{Kafka, shared, unique, wait_until};

const TOPIC_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION: i16 = 38;
const INVALID_CONFIG: i16 = 40;

#[test]
fn a_created_topic_has_its_partitions_and_settings_at_once() {
    let client = client();
    let name = unique("created");
    let wanted = NewTopic::new(&name, 3, 1)
        .config("retention.ms", "123456789")
        .config("cleanup.policy", "compact");
    client
        .admin()
        .create_topics([wanted])
        .expect("an answer")
        .all()
        .expect("created");
    assert_eq!(client.partitions(&name).expect("it is known"), 3);
    let described = shared().topic_command(&["--describe", "--topic", &name]);
    for part in [
        "PartitionCount: 3",
        "ReplicationFactor: 1",
        "retention.ms=123456789",
        "cleanup.policy=compact",
    ] {
        assert!(described.contains(part), "{part}: {described}");
    }
    // Usable without any waiting.
    let stream = client.reader().topics([&name]).until_end().open().expect("it is there");
    assert_eq!(stream.into_iter().count(), 0);
}

#[test]
fn each_topic_of_a_call_has_its_own_result() {
    let existing = topic("existing", 1, &[]);
    let admin = client().admin();
    let [fresh, none, copies, setting, default] =
        ["fresh", "no-partitions", "copies", "setting", "default"].map(unique);
    let results = admin
        .create_topics([
            NewTopic::new(&fresh, 2, 1),
            NewTopic::new(&existing, 1, 1),
            NewTopic::new(&none, 0, 1),
            NewTopic::new(&copies, 1, 30),
            NewTopic::new(&setting, 1, 1).config("no.such.setting", "1"),
            NewTopic::new(&default, -1, -1),
            NewTopic::new("a/b", 1, 1),
        ])
        .expect("an answer");
    let codes: Vec<_> = results
        .iter()
        .map(|(name, result)| (name.as_str(), result.as_ref().err().and_then(klamm::Error::code)))
        .collect();
    assert_eq!(
        codes,
        [
            (fresh.as_str(), None),
            (&existing, Some(TOPIC_EXISTS)),
            (&none, Some(INVALID_PARTITIONS)),
            (&copies, Some(INVALID_REPLICATION)),
            (&setting, Some(INVALID_CONFIG)),
            (&default, None),
            ("a/b", Some(17)),
        ]
    );
    for (name, result) in results.iter().filter(|(_, result)| result.is_err()) {
        let error = result.as_ref().expect_err("filtered");
        assert_eq!(error.topic(), Some(name.as_str()));
        assert!(!error.is_retriable(), "{error}");
    }
    assert_eq!(results.all().expect_err("the first").code(), Some(TOPIC_EXISTS));
    assert_eq!(shared().partition_states(&fresh).len(), 2);
    assert_eq!(shared().partition_states(&default).len(), 1);
}

#[test]
fn a_deleted_topic_is_gone_and_may_be_created_again() {
    let client = client();
    let admin = client.admin();
    let name = topic("deleted", 2, &[]);
    shared().fill(&name, 2, 10, "none", 10);
    let missing = unique("missing");
    let results = admin.delete_topics([&name, &missing]).expect("an answer");
    let results: Vec<_> = results.into_iter().collect();
    assert!(results[0].1.is_ok(), "{results:?}");
    let error = results[1].1.as_ref().expect_err("it was never there");
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
    wait_until("the broker to forget it", LONG, || {
        let all = client.metadata(klamm::Topics::All).expect("an answer");
        all.topics.iter().all(|topic| topic.name != name)
    });
    assert!(!shared().topic_command(&["--list"]).lines().any(|topic| topic == name));
    admin
        .create_topics([NewTopic::new(&name, 1, 1)])
        .expect("an answer")
        .all()
        .expect("created again");
    assert_eq!(client.partitions(&name).expect("it is known"), 1);
    assert_eq!(client.offset_for(&name, 0, StartAt::Latest).expect("a leader"), Some(0));
}

#[test]
fn added_partitions_are_there_at_once() {
    let client = client();
    let name = topic("grown", 1, &[]);
    assert_eq!(client.partitions(&name).expect("it is known"), 1);
    client.admin().add_partitions(&name, 4).expect("added");
    assert_eq!(client.partitions(&name).expect("it is known"), 4);
    assert_eq!(shared().partition_states(&name).len(), 4);
    for total in [4, 2] {
        let error = client
            .admin()
            .add_partitions(&name, total)
            .expect_err("not more than before");
        assert_eq!(
            (error.code(), error.topic()),
            (Some(INVALID_PARTITIONS), Some(name.as_str()))
        );
    }
    let error = client
        .admin()
        .add_partitions(&unique("missing"), 2)
        .expect_err("not there");
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
}

#[test]
fn deleted_records_move_the_start_of_the_log() {
    let name = topic("cut", 3, &[]);
    shared().fill(&name, 3, 300, "none", 10);
    let admin = client().admin();
    let results = admin
        .delete_records([(&name, 0, 30), (&name, 1, -1), (&name, 2, 101), (&name, 0, 10)])
        .expect("an answer");
    let results: Vec<_> = results.into_iter().collect();
    let names: Vec<_> = results.iter().map(|(partition, _)| partition.partition()).collect();
    assert_eq!(names, [0, 1, 2, 0]);
    assert_eq!(*results[0].1.as_ref().expect("deleted"), 30);
    assert_eq!(*results[1].1.as_ref().expect("deleted"), 100);
    let error = results[2].1.as_ref().expect_err("behind the end");
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
    assert_eq!((error.topic(), error.partition()), (Some(name.as_str()), Some(2)));
    assert_eq!(*results[3].1.as_ref().expect("nothing to do"), 30);
    let starts: Vec<_> = shared().offsets(&name).iter().map(|offsets| offsets.earliest).collect();
    assert_eq!(starts, [30, 100, 0]);
}

#[test]
fn listed_offsets_are_those_that_java_lists() {
    let name = topic("listed", 2, &[("retention.ms", "-1")]);
    shared().java_writes_at(&name, 1, &[10, 20, 30]);
    shared().delete_records(&name, 1, 1);
    let admin = client().admin();
    let at = |time| StartAt::Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(time));
    let asked = [
        (0, StartAt::Earliest, Some(0)),
        (0, StartAt::Latest, Some(0)),
        (0, at(0), None),
        (1, StartAt::Earliest, Some(1)),
        (1, StartAt::Latest, Some(3)),
        (1, StartAt::Offset(77), Some(77)),
        (1, at(21), Some(2)),
        (1, at(31), None),
    ];
    let results = admin
        .list_offsets(asked.map(|(partition, start, _)| (&name, partition, start)))
        .expect("an answer")
        .all()
        .expect("all are known");
    let wanted = asked.map(|(partition, _, offset)| (TopicPartition::new(&name, partition), offset));
    assert_eq!(results, wanted);
    let java = shared().offsets(&name)[1];
    assert_eq!((java.earliest, java.latest), (1, 3));
}

#[test]
fn any_broker_of_three_serves_changes_and_each_leader_its_partitions() {
    let kafka = Kafka::builder().brokers(3).start();
    let client = klamm::Client::connect(&kafka.address(2).to_string()).expect("one of three is enough");
    let admin = client.admin();
    let cluster = admin.describe_cluster().expect("an answer");
    let brokers: Vec<_> = cluster
        .brokers
        .iter()
        .map(|broker| {
            (
                broker.id,
                format!("{}:{}", broker.host, broker.port),
                broker.rack.clone(),
            )
        })
        .collect();
    let wanted: Vec<_> = (1..=3)
        .map(|id| (id, kafka.address(id).to_string(), Some(format!("rack-{id}"))))
        .collect();
    assert_eq!(brokers, wanted);
    assert!(cluster.topics.is_empty());
    assert!(
        cluster.controller.is_some_and(|id| (1..=3).contains(&id)),
        "{cluster:?}"
    );
    assert!(cluster.cluster_id.is_some_and(|id| !id.is_empty()));

    let created = unique("created");
    admin
        .create_topics([NewTopic::new(&created, 6, 3)])
        .expect("an answer")
        .all()
        .expect("created");
    let states = kafka.partition_states(&created);
    assert!(
        states.len() == 6 && states.iter().all(|state| state.replicas.len() == 3),
        "{states:?}"
    );

    let topic = unique("led");
    kafka.create_topic_on(&topic, &[&[3, 1], &[1, 2], &[2, 3], &[3, 2]], &[]);
    let leaders: Vec<_> = (0..4)
        .map(|partition| client.leader(&topic, partition).expect("a leader").id)
        .collect();
    assert_eq!(leaders, [3, 1, 2, 3]);
    kafka.wait_until_in_sync(&topic);
    let metadata = client.metadata(klamm::Topics::named([&topic])).expect("an answer");
    let partitions: Vec<_> = metadata.topics[0]
        .partitions
        .iter()
        .map(|partition| (partition.partition, partition.leader, partition.replicas.clone()))
        .collect();
    assert_eq!(
        partitions,
        [
            (0, Some(3), vec![3, 1]),
            (1, Some(1), vec![1, 2]),
            (2, Some(2), vec![2, 3]),
            (3, Some(3), vec![3, 2])
        ]
    );
    assert!(
        metadata.topics[0]
            .partitions
            .iter()
            .all(|partition| partition.in_sync_replicas.len() == 2)
    );

    kafka.fill(&topic, 4, 4000, "lz4", 20);
    let cut = (0..4).map(|partition| (&topic, partition, i64::from(partition) * 10));
    admin
        .delete_records(cut)
        .expect("an answer")
        .all()
        .expect("each by its leader");
    let starts: Vec<_> = kafka.offsets(&topic).iter().map(|offsets| offsets.earliest).collect();
    assert_eq!(starts, [0, 10, 20, 30]);
    let listed = admin
        .list_offsets((0..4).map(|partition| (&topic, partition, StartAt::Earliest)))
        .expect("an answer")
        .all()
        .expect("each by its leader");
    assert!(listed.iter().map(|(_, offset)| *offset).eq([0, 10, 20, 30].map(Some)));
    let mut next = [0, 10, 20, 30];
    for message in client.reader().topics([&topic]).until_end().open().expect("a topic") {
        let message = message.expect("nothing fails");
        let next = &mut next[message.partition() as usize];
        assert_eq!(message.offset(), *next);
        *next += 1;
    }
    assert_eq!(next, [1000; 4]);

    for group in ["a", "b", "c", "d"] {
        let found = client
            .coordinator(klamm::Coordinator::Group(group))
            .expect("one of them");
        assert_eq!(found.id, kafka.coordinator(group));
        assert_eq!(
            format!("{}:{}", found.host, found.port),
            kafka.address(found.id).to_string()
        );
    }
    admin
        .delete_topics([&created])
        .expect("an answer")
        .all()
        .expect("deleted");
}

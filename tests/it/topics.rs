//! Topics are made, grown, emptied and deleted.

use klamm::{Client, ErrorKind, NewTopic, StartAt};

use crate::{
    LONG,
    cluster::{Cluster, contents, on_both, unique, values, write},
    support::wait_until,
};

on_both! {
    a_topic_has_its_partitions_at_once,
    what_kafka_refuses_is_refused_with_its_code,
    partitions_are_added_and_never_removed,
    deleted_records_are_gone,
    a_deleted_topic_may_come_again_empty,
    offsets_are_listed,
}

fn a_topic_has_its_partitions_at_once(cluster: &Cluster) {
    let topic = cluster.topic("made", 7);
    let client = cluster.client();
    assert_eq!(client.partitions(&topic).unwrap(), 7);
    for partition in 0..7 {
        assert_eq!(client.leader(&topic, partition).unwrap().id, 1);
    }
}

/// The code of the error that creating these topics ends with.
fn refused(client: &Client, topic: NewTopic) -> Option<i16> {
    let results = client.admin().create_topics([topic]).expect("the controller answers");
    results.all().expect_err("it is refused").code()
}

fn what_kafka_refuses_is_refused_with_its_code(cluster: &Cluster) {
    let there = cluster.topic("there", 1);
    let client = cluster.client();
    assert_eq!(refused(&client, NewTopic::new(&there, 1, 1)), Some(36));
    assert_eq!(refused(&client, NewTopic::new("no spaces", 1, 1)), Some(17));
    assert_eq!(refused(&client, NewTopic::new(unique("none"), 0, 1)), Some(37));
    assert_eq!(refused(&client, NewTopic::new(unique("copies"), 1, 5)), Some(38));
    let absent = unique("absent");
    let error = client.admin().delete_topics([&absent]).unwrap().all().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::UnknownTopic, Some(3)));
}

fn partitions_are_added_and_never_removed(cluster: &Cluster) {
    let topic = cluster.topic("grows", 1);
    let client = cluster.client();
    write(&client, &topic, 0, &["before"]);
    client.admin().add_partitions(&topic, 3).unwrap();
    assert_eq!(client.partitions(&topic).unwrap(), 3);
    write(&client, &topic, 2, &["after"]);
    let contents = contents(&client, &topic);
    assert_eq!(
        (values(&contents[&0]), values(&contents[&2])),
        (vec!["before".to_owned()], vec!["after".to_owned()])
    );
    assert_eq!(client.admin().add_partitions(&topic, 2).unwrap_err().code(), Some(37));
}

fn deleted_records_are_gone(cluster: &Cluster) {
    let topic = cluster.topic("emptied", 1);
    let client = cluster.client();
    write(&client, &topic, 0, &["a", "b", "c"]);
    let admin = client.admin();
    let low = admin.delete_records([(&topic, 0, 2)]).unwrap().all().unwrap();
    assert_eq!(low[0].1, 2);
    assert_eq!(values(&contents(&client, &topic)[&0]), ["c"]);
    assert_eq!(client.offset_for(&topic, 0, StartAt::Earliest).unwrap(), Some(2));
    let error = admin.delete_records([(&topic, 0, 9)]).unwrap().all().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
}

fn a_deleted_topic_may_come_again_empty(cluster: &Cluster) {
    let topic = cluster.topic("again", 1);
    let client = cluster.client();
    write(&client, &topic, 0, &["old"]);
    client.admin().delete_topics([&topic]).unwrap().all().unwrap();
    // A broker may go on knowing it for a moment.
    wait_until("the topic to be made again", LONG, || {
        let made = client.admin().create_topics([NewTopic::new(&topic, 1, 1)]);
        made.and_then(|results| results.all()).is_ok()
    });
    write(&client, &topic, 0, &["new"]);
    let contents = contents(&client, &topic);
    assert_eq!(
        contents.get(&0).map(|messages| values(messages)),
        Some(vec!["new".to_owned()])
    );
}

fn offsets_are_listed(cluster: &Cluster) {
    let topic = cluster.topic("listed", 2);
    let client = cluster.client();
    write(&client, &topic, 1, &["a", "b"]);
    let wanted = [
        (0, StartAt::Earliest),
        (0, StartAt::Latest),
        (1, StartAt::Earliest),
        (1, StartAt::Latest),
    ];
    for ((partition, start), offset) in wanted.into_iter().zip([0, 0, 0, 2]) {
        let listed = client
            .admin()
            .list_offsets([(&topic, partition, start)])
            .unwrap()
            .all()
            .unwrap();
        assert_eq!(listed[0].1, Some(offset), "{partition} {start:?}");
    }
}

//! klamm's consumer groups against the brokers.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests play the programs that use klamm: with threads of their own"
)]

use std::{
    collections::BTreeSet,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use klamm::{Client, Closer, Record, StartAt};
use klamm_fake::{Action, Api, FakeCluster, Profile};

const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 6;

/// A member on a thread of its own; what it reads goes to the test.
struct Member {
    closer: Closer,
    thread: JoinHandle<()>,
}

impl Member {
    fn join(cluster: &FakeCluster, name: &'static str, seen: &Sender<(&'static str, u32)>) -> Self {
        let client = Client::connect(&cluster.bootstrap()).unwrap();
        let group = client.group("billing").topics(["orders"]).start_at(StartAt::Earliest);
        let often = Duration::from_millis(100);
        let stream = group.commit_interval(often).heartbeat_interval(often).join().unwrap();
        let (closer, seen) = (stream.closer(), seen.clone());
        let thread = thread::spawn(move || {
            for message in &stream {
                let message = message.unwrap();
                let value = std::str::from_utf8(message.value().unwrap()).unwrap();
                seen.send((name, value.parse().unwrap())).ok();
            }
            stream.close(LIMIT).unwrap();
        });
        Self { closer, thread }
    }

    fn leave(self) {
        self.closer.close();
        self.thread.join().unwrap();
    }
}

fn write(cluster: &FakeCluster, numbers: std::ops::Range<u32>) {
    let client = Client::connect(&cluster.bootstrap()).unwrap();
    let producer = client.producer().build().unwrap();
    for number in numbers {
        let (partition, value) = (number as i32 % PARTITIONS, number.to_string());
        producer
            .send(Record::to("orders").partition(partition).value(&value))
            .unwrap();
    }
    producer.flush(LIMIT).unwrap();
}

/// Reads until all of these numbers have come, and returns who has read any.
fn read_all(seen: &Receiver<(&'static str, u32)>, numbers: std::ops::Range<u32>) -> BTreeSet<&'static str> {
    let mut missing: BTreeSet<u32> = numbers.collect();
    let mut readers = BTreeSet::new();
    while !missing.is_empty() {
        match seen.recv_timeout(LIMIT) {
            Ok((reader, number)) => {
                if missing.remove(&number) {
                    readers.insert(reader);
                }
            }
            Err(RecvTimeoutError::Timeout) => panic!("still missing: {missing:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("nobody reads any more"),
        }
    }
    readers
}

/// Writes on until every one of these members reads.
fn until_all_read(cluster: &FakeCluster, seen: &Receiver<(&'static str, u32)>, members: &[&str], mut next: u32) -> u32 {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < LIMIT, "not all of {members:?} read");
        write(cluster, next..next + 60);
        let readers = read_all(seen, next..next + 60);
        next += 60;
        if members.iter().all(|member| readers.contains(member)) {
            return next;
        }
    }
}

fn cluster() -> FakeCluster {
    FakeCluster::builder()
        .brokers(3)
        .topic("orders", PARTITIONS)
        .start()
        .unwrap()
}

#[test]
fn two_members_share_a_topic_and_one_takes_over_from_the_other() {
    let cluster = cluster();
    let (sender, seen) = channel();
    let first = Member::join(&cluster, "first", &sender);
    let next = until_all_read(&cluster, &seen, &["first"], 0);
    let second = Member::join(&cluster, "second", &sender);
    let next = until_all_read(&cluster, &seen, &["first", "second"], next);
    first.leave();
    write(&cluster, next..next + 60);
    read_all(&seen, next..next + 60);
    second.leave();
}

#[test]
fn a_group_goes_on_where_it_has_committed() {
    let cluster = cluster();
    let (sender, seen) = channel();
    let member = Member::join(&cluster, "first", &sender);
    let next = until_all_read(&cluster, &seen, &["first"], 0);
    member.leave();
    let member = Member::join(&cluster, "second", &sender);
    write(&cluster, next..next + 6);
    for _ in 0..6 {
        let (_, number) = seen.recv_timeout(LIMIT).unwrap();
        assert!((next..next + 6).contains(&number), "{number} was committed");
    }
    member.leave();
}

#[test]
fn a_group_outlives_its_coordinators() {
    let cluster = cluster();
    let (sender, seen) = channel();
    let members = [
        Member::join(&cluster, "first", &sender),
        Member::join(&cluster, "second", &sender),
    ];
    let mut next = until_all_read(&cluster, &seen, &["first", "second"], 0);
    for _ in 0..3 {
        let coordinator = cluster.coordinator("billing");
        cluster.crash(coordinator);
        next = until_all_read(&cluster, &seen, &["first", "second"], next);
        cluster.restart(coordinator).unwrap();
    }
    for node in 1..=3 {
        cluster.move_coordinator("billing", node);
        next = until_all_read(&cluster, &seen, &["first", "second"], next);
    }
    members.into_iter().for_each(Member::leave);
}

#[test]
fn members_of_every_release_find_together() {
    for profile in [Profile::V2_1, Profile::V2_8, Profile::V3_9, Profile::V4_3] {
        let builder = FakeCluster::builder().topic("orders", PARTITIONS).max_versions(profile);
        let cluster = builder.start().unwrap();
        let (sender, seen) = channel();
        let members = [
            Member::join(&cluster, "first", &sender),
            Member::join(&cluster, "second", &sender),
        ];
        until_all_read(&cluster, &seen, &["first", "second"], 0);
        members.into_iter().for_each(Member::leave);
    }
}

#[test]
fn faults_hit_groups_as_well() {
    const ILLEGAL_GENERATION: i16 = 22;
    let cluster = cluster();
    let (sender, seen) = channel();
    let commits = cluster.once(Api::OffsetCommit, |_| Action::Error(ILLEGAL_GENERATION));
    let joins = cluster.times(2, Api::JoinGroup, |_| Action::Disconnect);
    let member = Member::join(&cluster, "first", &sender);
    let mut next = 0;
    let begun = Instant::now();
    while commits.uses() == 0 {
        assert!(begun.elapsed() < LIMIT, "nothing is committed");
        next = until_all_read(&cluster, &seen, &["first"], next);
    }
    until_all_read(&cluster, &seen, &["first"], next);
    assert_eq!(joins.uses(), 2);
    member.leave();
}

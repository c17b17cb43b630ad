//! What feeds the checker, against a real broker: recorders, logs, Java's members, and topics that grow meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use klamm::{Client, Next};

use crate::support::{
    Checker, Commits, Ending, History, LogFile, Members, Pattern, Recorder, What, shared, unique, wait_until,
};

const LONG: Duration = Duration::from_secs(90);

fn topic(partitions: usize, records: usize) -> String {
    let topic = unique("members");
    shared().create_topic(&topic, partitions, &[]);
    shared().fill(&topic, partitions, records, "none", 10);
    topic
}

fn counts(partitions: usize, each: usize) -> BTreeMap<i32, usize> {
    (0..partitions as i32).map(|partition| (partition, each)).collect()
}

#[test]
fn a_recorder_in_the_process_feeds_the_checker() {
    let topic = topic(3, 600);
    let folder = std::env::temp_dir().join(unique("klamm-recorder"));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("log.txt");
    let recorder = Recorder::to_file("reader", &file);
    let client = Client::connect(&shared().bootstrap()).unwrap();
    let stream = client.reader().topics([&topic]).until_end().open().unwrap();
    let watching = recorder.watch(&stream);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for message in &stream {
                    let message = message.unwrap();
                    let handling = recorder.begin(&message);
                    handling.end();
                    handling.ack(&message);
                }
            });
        }
    });
    let report = stream.close(LONG).unwrap();
    drop(watching);
    recorder.closed(&report);
    let history = recorder.history();

    assert_eq!(history.finished(), 600);
    assert!(
        history
            .handled
            .iter()
            .all(|handled| handled.assignment == 1 && handled.acked.is_some())
    );
    let owned: Vec<_> = history.owned.iter().map(|owned| owned.ending).collect();
    assert_eq!(owned, [Some(Ending::Closed); 3]);
    let checker = Checker::of([history.clone()]).wrote_all(&topic, &counts(3, 200));
    checker.all(&BTreeMap::new(), 0).unwrap();
    checker.one_at_a_time().unwrap();
    checker.gapless().unwrap();

    let read = History::of_lines("reader", LogFile::new(&file).lines().to_vec());
    assert_eq!(read.handled, history.handled);
    assert_eq!(read.owned, history.owned);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_seek_begins_a_new_order() {
    let topic = topic(1, 10);
    let recorder = Recorder::new("reader");
    let client = Client::connect(&shared().bootstrap()).unwrap();
    let stream = client.reader().topics([&topic]).open().unwrap();
    let watching = recorder.watch(&stream);
    for _ in 0..2 {
        for _ in 0..10 {
            match stream.iter().next_timeout(LONG) {
                Ok(Next::Message(message)) => {
                    let handling = recorder.begin(&message);
                    handling.end();
                    handling.ack(&message);
                }
                other => panic!("no message but {other:?}"),
            }
        }
        stream.seek((&topic, 0), klamm::StartAt::Earliest).unwrap();
        recorder.moved((&topic, 0));
    }
    drop(watching);
    let checker = Checker::of([recorder.history()]).wrote((&topic, 0), 10);
    checker.order().unwrap();
    checker.all(&BTreeMap::new(), 10).unwrap();
    assert_eq!(checker.duplicates().len(), 10);
}

#[test]
fn half_a_line_is_no_line_yet() {
    let file = std::env::temp_dir().join(unique("klamm-half"));
    let mut log = LogFile::new(&file);
    assert_eq!(log.lines(), []);
    std::fs::write(&file, "1\tjoined\n2\tcommi").unwrap();
    assert_eq!(log.lines().len(), 1);
    std::fs::write(&file, "1\tjoined\n2\tcommitted\n").unwrap();
    assert_eq!(log.lines().len(), 2);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_topic_grows_at_a_constant_rate_while_the_test_goes_on() {
    let topic = topic(3, 30);
    let begun = Instant::now();
    let pouring = shared().pour_from(10, &topic, 3, 500.0, Duration::from_secs(2));
    wait_until("something comes", LONG, || shared().offsets(&topic)[0].latest > 10);
    let counts = pouring.finish();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(counts.values().sum::<usize>(), 30 + 1000);
    let ends = shared().offsets(&topic);
    for end in ends {
        assert_eq!(end.latest, counts[&end.partition] as i64);
    }
    let seen = shared().java_reads(&topic, 2000);
    for one in &seen {
        assert!(
            one.text().starts_with(&format!("{}:{}:", one.partition, one.offset)),
            "{one:?}"
        );
    }
}

#[test]
fn a_topic_stops_growing_when_it_is_told() {
    let topic = topic(2, 0);
    let pouring = shared().pour(&topic, 2, 200.0, Duration::from_secs(600));
    wait_until("something comes", LONG, || shared().offsets(&topic)[1].latest > 10);
    let counts = pouring.stop();
    let ends: Vec<_> = shared().offsets(&topic).iter().map(|end| end.latest as usize).collect();
    assert_eq!(counts.into_values().collect::<Vec<_>>(), ends);
    // The program that poured serves others again.
    shared().fill(&topic, 2, 2, "none", 10);
}

/// Java's consumers as members: what the checker says of klamm's is what it says of a group that is known to work.
#[test]
fn members_of_java_pass_the_checker_also_when_one_is_killed() {
    let kafka = shared();
    let topic = topic(4, 400);
    let group = unique("java");
    let quick = ["session.timeout.ms=3000", "heartbeat.interval.ms=300"];
    let mut one = kafka.java_group_member("one", &group, &topic, &quick);
    one.wait_for_lines("four partitions", LONG, 4, |what| matches!(what, What::Assigned { .. }));
    one.wait_until_begun(400, LONG);
    let pouring = kafka.pour_from(100, &topic, 4, 200.0, Duration::from_secs(300));

    let commits = Commits::watch(kafka, &group);
    let mut two = kafka.java_group_member("two", &group, &topic, &quick);
    two.wait_until_begun(20, LONG);
    let described = kafka.describe_group(&group);
    assert_eq!(described.len(), 4, "{described:?}");
    let mut consumers: Vec<_> = described.iter().filter_map(|one| one.consumer.clone()).collect();
    consumers.dedup();
    assert_eq!(consumers.len(), 2, "{described:?}");

    one.kill9();
    assert!(!one.is_running());
    two.wait_for_lines("all four partitions", LONG, 6, |what| {
        matches!(what, What::Assigned { .. })
    });
    let counts = pouring.stop();
    let caught_up = |wanted: usize| {
        let committed = kafka.committed_offsets(&group);
        committed.values().sum::<i64>() as usize == wanted
    };
    wait_until("all is committed", LONG, || caught_up(counts.values().sum()));
    let (one, two) = (one.history(), two.stop());
    assert!(one.died.contains_key("one"));
    assert_eq!(one.owned.last().unwrap().ending, Some(Ending::Died));

    let checker = Checker::of([one, two]).wrote_all(&topic, &counts);
    let looks = commits.finish();
    assert!(looks.len() > 2);
    checker.commits(&looks).unwrap();
    // What "one" had polled and not committed.
    checker.all(&kafka.committed_offsets(&group), 500).unwrap();
    checker.commit_completeness(&kafka.committed_offsets(&group)).unwrap();
    checker.one_at_a_time().unwrap();
    let described = kafka.describe_group(&group);
    assert!(
        described
            .iter()
            .all(|one| one.lag == Some(0) && one.consumer.is_none() && one.current == Some(one.log_end)),
        "{described:?}"
    );
}

#[test]
fn a_stopped_process_records_nothing_until_it_goes_on() {
    let kafka = shared();
    let topic = topic(1, 5);
    let mut member = kafka.java_group_member("one", &unique("stopped"), &topic, &[]);
    member.wait_until_begun(5, LONG);
    member.sigstop();
    kafka.fill_from(5, &topic, 1, 5, "none", 10);
    assert_eq!(member.history().handled.len(), 5);
    assert_eq!(member.history().pauses.len(), 1);
    member.sigcont();
    member.wait_until_begun(10, LONG);
    let history = member.stop();
    let [pause] = &history.pauses[..] else {
        panic!("{:?}", history.pauses)
    };
    let in_pause = history
        .handled
        .iter()
        .filter(|one| (pause.from..pause.to).contains(&one.begin));
    assert_eq!(in_pause.count(), 0);
    Checker::of([history])
        .wrote((&topic, 0), 10)
        .all(&BTreeMap::new(), 0)
        .unwrap();
}

#[test]
fn a_member_process_that_cannot_join_says_why() {
    let members = Members::new(shared(), &unique("group"), &["a-topic-that-is-not-there"]);
    let mut member = members.start("one");
    let failed = |what: &What| matches!(what, What::Failed { place, .. } if place == "join");
    member.wait_for_line("it fails to join", LONG, failed);
    wait_until("it ends", LONG, || !member.is_running());
    assert!(member.said().contains("join: "), "{}", member.said());
    assert_eq!(member.history().failures().len(), 1);
}

/// Readers need no group: whatever a member process can do and suffer is tried with them.
fn a_reader_process_records_everything_once(pattern: Pattern, threads: usize) {
    let kafka = shared();
    let topic = topic(4, 2000);
    let readers = Members::new(kafka, "", &[&topic])
        .without_group()
        .work(Duration::from_micros(100))
        .threads(threads)
        .pattern(pattern);
    let mut reader = readers.start("reader");
    reader.wait_for_line("it has a stream", LONG, |what| *what == What::Joined);
    reader.wait_until_begun(2000, LONG);
    reader.sigstop();
    let stopped_at = reader.history().handled.len();
    kafka.fill_from(500, &topic, 4, 200, "none", 10);
    assert_eq!(reader.history().handled.len(), stopped_at);
    reader.sigcont();
    reader.wait_until_begun(2200, LONG);
    let history = reader.stop();
    assert_eq!(history.failures(), [""; 0]);
    assert_eq!((history.owned.len(), history.pauses.len()), (4, 1));
    assert!(history.owned.iter().all(|owned| owned.ending == Some(Ending::Closed)));
    let checker = Checker::of([history]).wrote_all(&topic, &counts(4, 550));
    checker.all(&BTreeMap::new(), 0).unwrap();
    checker.gapless().unwrap();
    if pattern == Pattern::Loop {
        checker.one_at_a_time().unwrap();
    }
}

#[test]
fn a_process_with_loops_records_everything_once() {
    a_reader_process_records_everything_once(Pattern::Loop, 3);
}

#[test]
fn a_process_with_a_pool_records_everything_once() {
    a_reader_process_records_everything_once(Pattern::Pool(4), 2);
}

#[test]
fn a_process_that_collects_records_everything_once() {
    a_reader_process_records_everything_once(Pattern::Collect(100), 1);
}

#[test]
fn a_process_that_is_killed_leaves_what_it_has_done() {
    let topic = topic(1, 1000);
    let readers = Members::new(shared(), "", &[&topic]).without_group();
    let mut reader = readers.work(Duration::from_millis(20)).start("reader");
    reader.wait_until_begun(10, LONG);
    reader.kill9();
    let history = reader.history();
    let (last, before) = history.handled.split_last().unwrap();
    assert!((10..1000).contains(&history.handled.len()));
    assert!(before.iter().all(|handled| handled.end.is_some()));
    assert!(history.died["reader"] > last.begin);
    assert_eq!(history.owned[0].ending, Some(Ending::Died));
    let checker = Checker::of([history]).wrote((&topic, 0), 1000);
    checker.loss().unwrap_err();
    checker.order().unwrap();
    checker.single_owner().unwrap();
}

fn klamm_members_share_a_topic(pattern: Pattern, threads: usize) {
    let kafka = shared();
    let topic = topic(4, 400);
    let group = unique("shared");
    let members = Members::new(kafka, &group, &[&topic])
        .quick()
        .commit_interval(Some(Duration::from_millis(200)))
        .work(Duration::from_micros(200))
        .threads(threads)
        .pattern(pattern);
    let mut one = members.start("one");
    one.wait_until_begun(100, LONG);
    let pouring = kafka.pour_from(100, &topic, 4, 200.0, Duration::from_secs(300));
    let mut two = members.start("two");
    two.wait_until_begun(20, LONG);
    one.kill9();
    two.wait_for_line(
        "two has all partitions",
        LONG,
        |what| matches!(what, What::Rebalanced { current, .. } if current.len() == 4),
    );
    let counts = pouring.stop();
    let all = counts.values().sum::<usize>() as i64;
    wait_until("all is committed", LONG, || {
        kafka.committed_offsets(&group).values().sum::<i64>() == all
    });
    let checker = Checker::of([one.history(), two.stop()]).wrote_all(&topic, &counts);
    // The member that was killed had committed each 200 ms.
    checker.all(&kafka.committed_offsets(&group), 1000).unwrap();
    checker.commit_completeness(&kafka.committed_offsets(&group)).unwrap();
    assert_eq!(checker.history().failures(), [""; 0]);
}

#[test]
fn member_processes_with_loops_share_a_topic() {
    klamm_members_share_a_topic(Pattern::Loop, 2);
}

#[test]
fn member_processes_with_pools_share_a_topic() {
    klamm_members_share_a_topic(Pattern::Pool(4), 1);
}

#[test]
fn member_processes_that_collect_share_a_topic() {
    klamm_members_share_a_topic(Pattern::Collect(100), 1);
}

//! Leaders move: nothing is lost, nothing comes twice, and the order holds.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use klamm::{ErrorKind, Event, Next, OutOfRange, Stream};

use super::{LONG, Order, connect, drain, next, texts, wait_for_event};
use crate::support::{Kafka, is_long, unique, wait_until};

const PARTITIONS: usize = 3;

/// More moves when KLAMM_TEST_LONG is set.
fn moves() -> usize {
    if is_long() { 20 } else { 6 }
}

#[test]
fn nothing_is_lost_while_leaders_are_killed_moved_and_frozen() {
    let kafka = Kafka::builder().brokers(3).start();
    let topic = unique("leaders");
    kafka.create_topic_on(&topic, &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]], &[]);
    let client = connect(&kafka.bootstrap());
    let stream = client.reader().topics([&topic]).open().unwrap();
    let written = AtomicI64::new(0);
    let is_over = AtomicBool::new(false);
    let (read, longest) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let first = written.load(Ordering::SeqCst);
                kafka.fill_from(first as usize, &topic, PARTITIONS, PARTITIONS * 2000, "lz4", 100);
                written.store(first + 2000, Ordering::SeqCst);
            }
        });
        let reader = scope.spawn(|| {
            let mut order = Order::default();
            let mut longest = Duration::ZERO;
            let mut last = Instant::now();
            let mut iter = stream.iter();
            loop {
                match iter.next_timeout(Duration::from_millis(200)).unwrap() {
                    Next::Message(message) => {
                        order.take(&message);
                        longest = longest.max(last.elapsed());
                        last = Instant::now();
                    }
                    Next::TimedOut if is_over.load(Ordering::SeqCst) => {
                        // The last fill ends a little after it was told to.
                        let all = written.load(Ordering::SeqCst) * PARTITIONS as i64;
                        if order.count as i64 == all && last.elapsed() > Duration::from_secs(3) {
                            return (order, longest);
                        }
                        assert!(last.elapsed() < LONG, "read {} of {all}", order.count);
                    }
                    Next::TimedOut => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        for number in 0..moves() {
            if reader.is_finished() {
                break;
            }
            move_a_leader(&kafka, &topic, &stream, number);
        }
        freeze_a_leader(&kafka, &topic, &stream);
        is_over.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    println!("{} records, the longest pause {longest:?}", read.count);
    assert!(stream.health().is_healthy(), "{:?}", stream.health());
}

fn move_a_leader(kafka: &Kafka, topic: &str, stream: &Stream, number: usize) {
    let partition = (number % PARTITIONS) as i32;
    kafka.wait_until_in_sync(topic);
    let before = kafka.leader(topic, partition);
    let begun = Instant::now();
    match number % 3 {
        0 => {
            kafka.kill9(before);
            told_of_a_move(stream, partition, before);
            println!(
                "told of partition {partition}'s new leader {:?} after a kill",
                begun.elapsed()
            );
            kafka.start(before);
        }
        1 => {
            // Others replicas in the same places: the first of them leads at once, since the old leader goes.
            let others = [1, 2, 3].into_iter().filter(|broker| *broker != before);
            kafka.reassign(topic, partition, &others.collect::<Vec<_>>());
            told_of_a_move(stream, partition, before);
        }
        _ => {
            // All three again, another one first; and that one is elected.
            let first = [1, 2, 3].into_iter().find(|broker| *broker != before).unwrap();
            let mut order = vec![first];
            order.extend([1, 2, 3].into_iter().filter(|broker| *broker != first));
            kafka.reassign(topic, partition, &order);
            kafka.wait_until_in_sync(topic);
            kafka.elect_preferred_leader(topic, partition);
            told_of_a_move(stream, partition, before);
        }
    }
}

/// Its connections stay open and silent: what tells of the new leader is the metadata.
fn freeze_a_leader(kafka: &Kafka, topic: &str, stream: &Stream) {
    kafka.wait_until_in_sync(topic);
    let before = kafka.leader(topic, 0);
    let begun = Instant::now();
    kafka.sigstop(before);
    told_of_a_move(stream, 0, before);
    println!("told of a frozen leader's successor after {:?}", begun.elapsed());
    kafka.sigcont(before);
    kafka.wait_until_in_sync(topic);
}

fn told_of_a_move(stream: &Stream, partition: i32, before: i32) {
    wait_for_event(stream, "LeaderMoved", |event| match event {
        Event::LeaderMoved {
            partition: moved,
            broker,
            ..
        } if moved.partition() == partition && *broker != before => Some(()),
        _ => None,
    });
}

/// The only replica that is in sync dies, and one that is behind takes over: what it lacks is gone (KIP-320).
#[test]
fn a_log_that_was_cut_back_is_read_from_where_the_histories_part() {
    let kafka = Kafka::builder().brokers(3).start();
    let topic = unique("unclean");
    let configs = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    kafka.create_topic_on(&topic, &[&[2, 3]], &configs);
    let values =
        |from: usize, to: usize, word: &str| -> Vec<String> { (from..to).map(|n| format!("{word}-{n}")).collect() };
    let write = |values: &[String]| {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        kafka.java_writes(&topic, 0, &values);
    };
    write(&values(0, 10, "both"));
    let client = connect(&kafka.bootstrap());
    let open = |policy| client.reader().topics([&topic]).out_of_range(policy).open().unwrap();
    let nearest = open(OutOfRange::Nearest);
    let fails = open(OutOfRange::Fail);
    // These two have read everything before it happens; the others have prefetched it.
    let unread = open(OutOfRange::Nearest);
    let unread_fails = open(OutOfRange::Fail);

    kafka.kill9(3);
    wait_until("broker 2 is alone", LONG, || {
        kafka.partition_states(&topic)[0].in_sync == [2]
    });
    write(&values(10, 15, "lost"));
    let before: Vec<String> = values(0, 10, "both")
        .into_iter()
        .chain(values(10, 15, "lost"))
        .collect();
    assert_eq!(texts(&nearest, 15), before);
    assert_eq!(texts(&fails, 15), before);
    for stream in [&unread, &unread_fails] {
        wait_until("an answer", LONG, || stream.prefetch_peak() > 0);
        // From then on the end is what the last answer told, and the one that tells of these brings them.
        wait_until("what will be lost", LONG, || {
            stream.lag().expect("a leader")[&(&topic, 0).into()] == 15
        });
    }

    kafka.kill9(2);
    kafka.start(3);
    wait_until("broker 3 leads", LONG, || kafka.leader(&topic, 0) == 3);
    write(&values(10, 12, "new"));
    let is_cut = |event: &Event| match event {
        Event::Truncated { from, to, .. } => Some((*from, *to)),
        _ => None,
    };
    assert_eq!(wait_for_event(&nearest, "Truncated", is_cut), (15, 10));
    assert_eq!(texts(&nearest, 2), values(10, 12, "new"));
    assert!(nearest.health().is_healthy(), "{:?}", nearest.health());

    let error = fails.iter().next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
    assert!(error.to_string().contains("offset 10"), "{error}");
    assert!(!fails.health().is_healthy());
    assert!(
        matches!(
            fails.iter().next_timeout(Duration::from_millis(300)),
            Ok(Next::TimedOut)
        ),
        "told once"
    );
    fails.seek((&topic, 0), klamm::StartAt::Offset(10)).unwrap();
    assert_eq!(texts(&fails, 2), values(10, 12, "new"));
    assert!(fails.health().is_healthy(), "{:?}", fails.health());

    // What was prefetched and is no longer in the log is not given out.
    wait_for_event(&unread, "Truncated", is_cut);
    let after: Vec<String> = values(0, 10, "both").into_iter().chain(values(10, 12, "new")).collect();
    assert_eq!(texts(&unread, 12), after);
    wait_for_event(&unread_fails, "PartitionFailed", |event| {
        matches!(event, Event::PartitionFailed { .. }).then_some(())
    });
    assert_eq!(texts(&unread_fails, 10), values(0, 10, "both"));
    match unread_fails.iter().next_timeout(LONG) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Truncated, "{error}"),
        other => panic!("{other:?}"),
    }
    // An iterator that is dropped later gives back all that it has of the new history.
    kafka.fill_from(12, &topic, 1, 10, "none", 10);
    assert_eq!(next(&nearest).offset(), 12);
    assert_eq!(texts(&nearest, 9).len(), 9);
    assert!(
        drain(&nearest)
            .iter()
            .all(|event| !matches!(event, Event::OffsetReset { .. }))
    );
}

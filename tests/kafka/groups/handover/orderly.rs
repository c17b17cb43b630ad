//! Rebalances in good order: zero duplicates, zero losses, order, and one owner at a time.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::{AckMode, GroupBuilder, Message, TopicPartition};

use super::{LONG, Member, NEVER, finished, goes_on_where_it_was_left, is_shared_out, settings, takes, times, topic};
use crate::support::{Checker, Ending, Handling, History, Random, shared, unique, wait_until};

/// Offsets of first messages, and what was committed then.
type Firsts = BTreeMap<TopicPartition, (i64, Option<i64>)>;

fn counts(partitions: usize, each: usize) -> BTreeMap<i32, usize> {
    (0..partitions as i32).map(|partition| (partition, each)).collect()
}

/// All that holds when members only come and go in good order.
#[track_caller]
fn nothing_twice_and_nothing_lost(
    histories: Vec<History>,
    topic: &str,
    group: &str,
    counts: &BTreeMap<i32, usize>,
) -> Checker {
    let checker = Checker::of(histories).wrote_all(topic, counts);
    let committed = shared().committed_offsets(group);
    checker.all(&committed, 0).unwrap();
    checker.gapless().unwrap();
    checker.commit_completeness(&committed).unwrap();
    let endings = checker.history().owned.iter().filter_map(|owned| owned.ending);
    let disorderly: Vec<_> = endings
        .filter(|ending| !matches!(ending, Ending::Revoked | Ending::Closed))
        .collect();
    assert_eq!(disorderly, [], "every partition is given up in good order");
    checker
}

#[test]
fn what_is_finished_is_committed_before_a_partition_moves_and_nothing_comes_twice() {
    let (topic, group) = (topic(4, 12), unique("orderly"));
    let slow = Duration::from_millis(300);
    // Four threads, so that it is in the midst of each partition when two of them move.
    let a = Member::join("a", settings(shared(), "a", &group, &[&topic]), 4, takes(slow));
    wait_until("a is at work on all partitions", LONG, || {
        let handled = a.history().handled;
        (0..4).all(|partition| {
            handled
                .iter()
                .filter(|one| one.partition.partition() == partition)
                .count()
                > 1
        })
    });

    // The new owner's first message of each partition, and what is committed by then.
    let firsts: Arc<Mutex<Firsts>> = Arc::default();
    let work = {
        let (firsts, group) = (Arc::clone(&firsts), group.clone());
        move |message: Message, handling: Handling| {
            let partition = TopicPartition::new(message.topic(), message.partition());
            let look = || shared().committed_offsets(&group).get(&partition).copied();
            let mut firsts = firsts.lock().unwrap();
            firsts
                .entry(partition.clone())
                .or_insert_with(|| (message.offset(), look()));
            drop(firsts);
            std::thread::sleep(slow);
            handling.end();
        }
    };
    let b = Member::join("b", settings(shared(), "b", &group, &[&topic]), 1, work);
    b.wait_until_begun(6);
    wait_until("both have a half", LONG, || is_shared_out(&[&a, &b], 4));
    let before_b_left = a.history().rebalances.len();
    let b = b.leave();
    a.wait_until_owns(4);
    wait_until("all is finished", LONG, || finished(&[&a]) + b.finished() >= 48);
    assert_eq!(a.history().rebalances.len(), before_b_left + 1);
    let a = a.leave();

    for (partition, (offset, committed)) in firsts.lock().unwrap().iter() {
        assert_eq!(
            committed.unwrap_or(0),
            *offset,
            "committed for {partition} before b began"
        );
    }
    assert!(firsts.lock().unwrap().values().all(|(offset, _)| *offset > 0));
    let checker = nothing_twice_and_nothing_lost(vec![a, b], &topic, &group, &counts(4, 12));
    checker.one_at_a_time().unwrap();
    goes_on_where_it_was_left(&checker);
}

/// Members join and close, some of them in the midst of the rebalance before, while Java writes.
#[test]
fn members_come_and_go_under_load_and_nothing_comes_twice() {
    const PARTITIONS: usize = 6;
    let (topic, group) = (topic(PARTITIONS, 0), unique("load"));
    let pouring = shared().pour(&topic, PARTITIONS, 400.0, Duration::from_secs(3 * 3600));
    let wanted = times(12, 200) as i32;
    let mut random = Random(0x5eed);
    let mut members: Vec<Member> = Vec::new();
    let mut gone: Vec<History> = Vec::new();
    let mut joined = 0;
    let mut slowest = Duration::ZERO;
    let (mut changes, mut generations) = (0, 0);
    while generations < wanted {
        changes += 1;
        let joins = members.len() < 2 || members.len() < 5 && random.below(2) == 0;
        if joins {
            let name = format!("m{joined}");
            joined += 1;
            let threads = 1 + random.below(3) as usize;
            let work = takes(Duration::from_millis(1 + random.below(10)));
            let settings = settings(shared(), &name, &group, &[&topic]);
            members.push(Member::join(&name, settings, threads, work));
        } else {
            let member = members.swap_remove(random.index(members.len()));
            // One that has never got as far as a generation has nothing to leave.
            let was_in = member.generation() > 0;
            let (report, history) = member.leave_within(LONG);
            assert!(report.left_group || !was_in, "{report:?}");
            assert_eq!((report.unfinished, report.uncommitted), (vec![], vec![]));
            gone.push(history);
        }
        if random.below(3) == 0 {
            continue;
        }
        let begun = Instant::now();
        let all: Vec<&Member> = members.iter().collect();
        wait_until("all partitions have owners", LONG, || is_shared_out(&all, PARTITIONS));
        slowest = slowest.max(begun.elapsed());
        generations = members.iter().map(Member::generation).max().unwrap_or(0);
    }
    // The session timeout is 45 s: nobody was waited for who had gone.
    assert!(slowest < Duration::from_secs(30), "a rebalance took {slowest:?}");
    let counts = pouring.stop();
    let written = counts.values().sum::<usize>();
    let before: usize = gone.iter().map(History::finished).sum();
    wait_until("all is finished", LONG, || {
        finished(&members.iter().collect::<Vec<_>>()) + before >= written
    });
    gone.extend(members.into_iter().map(Member::leave));
    let checker = nothing_twice_and_nothing_lost(gone, &topic, &group, &counts);
    checker.one_at_a_time().unwrap();
    goes_on_where_it_was_left(&checker);
    println!(
        "{changes} changes, {joined} members, {generations} generations, {written} records, the slowest rebalance {slowest:?}"
    );
}

#[test]
fn four_threads_keep_the_order_of_each_partition_across_rebalances() {
    let (topic, group) = (topic(6, 0), unique("threads"));
    let pouring = shared().pour(&topic, 6, 300.0, Duration::from_secs(1200));
    let join = |name: &str| {
        let settings = settings(shared(), name, &group, &[&topic]);
        Member::join(name, settings, 4, takes(Duration::from_millis(5)))
    };
    let a = join("a");
    a.wait_until_begun(50);
    let mut histories = Vec::new();
    for round in 0..times(3, 15) {
        let b = join(&format!("b{round}"));
        b.wait_until_begun(50);
        wait_until("both have a half", LONG, || is_shared_out(&[&a, &b], 6));
        histories.push(b.leave());
        a.wait_until_owns(6);
    }
    let counts = pouring.stop();
    let written = counts.values().sum::<usize>();
    let before: usize = histories.iter().map(History::finished).sum();
    wait_until("all is finished", LONG, || finished(&[&a]) + before >= written);
    histories.push(a.leave());
    let checker = nothing_twice_and_nothing_lost(histories, &topic, &group, &counts);
    checker.one_at_a_time().unwrap();
    goes_on_where_it_was_left(&checker);
    // They did work at the same time.
    let all = &checker.history().handled;
    let together = all.iter().zip(all.iter().skip(1));
    let together = together.filter(|(one, next)| {
        one.member == next.member && one.partition != next.partition && one.end > Some(next.begin)
    });
    assert!(together.count() > 10, "four threads work side by side");
}

/// The loop gives its messages to so many other threads, which ack them.
fn with_a_pool(name: &str, settings: GroupBuilder, threads: usize, work: Duration) -> Member {
    let (tasks, queue) = sync_channel::<(Message, Handling)>(2 * threads);
    let queue = Arc::new(Mutex::new(queue));
    let mut member = Member::join(name, settings, 1, move |message, handling| {
        tasks.send((message, handling)).expect("the pool outlives the loop");
    });
    for number in 0..threads {
        let queue = Arc::clone(&queue);
        // So that acks come out of order.
        let work = work * (1 + number as u32 % 3);
        member.threads.push(std::thread::spawn(move || {
            loop {
                let task = queue.lock().unwrap().recv();
                let Ok((message, handling)) = task else { break };
                std::thread::sleep(work);
                handling.end();
                handling.ack(&message);
            }
        }));
    }
    member
}

fn a_pool_is_waited_for(mode: AckMode) {
    let (topic, group) = (topic(4, 60), unique("pool"));
    let join = |name: &str| {
        let settings = settings(shared(), name, &group, &[&topic]).ack_mode(mode);
        with_a_pool(name, settings, 6, Duration::from_millis(40))
    };
    let a = join("a");
    a.wait_until_begun(20);
    let b = join("b");
    b.wait_until_begun(20);
    let b = b.leave();
    a.wait_until_owns(4);
    wait_until("all is finished", LONG, || finished(&[&a]) + b.finished() >= 240);
    let a = a.leave();
    let all_acked = [&a, &b].map(|history| history.handled.iter().all(|handled| handled.acked.is_some()));
    assert_eq!(all_acked, [true, true], "an ack of a message in hand counts");
    let checker = nothing_twice_and_nothing_lost(vec![a, b], &topic, &group, &counts(4, 60));
    goes_on_where_it_was_left(&checker.acks_count());
}

#[test]
fn a_rebalance_waits_for_messages_in_a_pool() {
    a_pool_is_waited_for(AckMode::OnNext);
}

#[test]
fn a_rebalance_waits_for_messages_in_a_pool_that_acks_explicitly() {
    a_pool_is_waited_for(AckMode::Explicit);
}

/// A batch is in hand until the next one is asked for.
#[test]
fn a_rebalance_waits_for_batches() {
    let (topic, group) = (topic(4, 60), unique("batches"));
    let join = |name: &str| {
        let settings = settings(shared(), name, &group, &[&topic]);
        Member::join_with(name, settings, 2, |stream, recorder| {
            for batch in stream.batches() {
                for message in batch.unwrap() {
                    let handling = recorder.begin(&message.unwrap());
                    std::thread::sleep(Duration::from_millis(20));
                    handling.end();
                }
            }
        })
    };
    let a = join("a");
    a.wait_until_begun(20);
    let b = join("b");
    wait_until("both have a half", LONG, || is_shared_out(&[&a, &b], 4));
    let fill = |first| shared().fill_from(first, &topic, 4, 240, "none", 10);
    fill(60);
    b.wait_until_begun(10);
    let b = b.leave();
    a.wait_until_owns(4);
    wait_until("all is finished", LONG, || finished(&[&a]) + b.finished() >= 480);
    let checker = nothing_twice_and_nothing_lost(vec![a.leave(), b], &topic, &group, &counts(4, 120));
    checker.one_at_a_time().unwrap();
    goes_on_where_it_was_left(&checker);
}

#[test]
fn a_rebalance_does_not_wait_for_messages_that_were_dropped_without_an_ack() {
    let (topic, group) = (topic(2, 10), unique("dropped"));
    let explicit = |name| settings(shared(), name, &group, &[&topic]).ack_mode(AckMode::Explicit);
    // Far longer than a rebalance takes.
    let patient = explicit("a").rebalance_timeout(NEVER).revoke_timeout(NEVER / 2);
    let a = Member::join("a", patient, 1, |message, handling| {
        if message.offset() < 3 {
            handling.end();
            handling.ack(&message);
        }
    });
    a.wait_until_begun(20);
    let b = Member::join("b", explicit("b"), 1, |message, handling| {
        handling.end();
        handling.ack(&message);
    });
    b.wait_until_owns(1);
    b.wait_until_begun(7);
    let (a_owned, b_owned) = (a.history().owned, b.history().owned);
    assert!(
        a_owned
            .iter()
            .all(|owned| matches!(owned.ending, None | Some(Ending::Revoked))),
        "nothing was in hand: {a_owned:?}"
    );
    let b_partition = &b_owned[0].partition;
    let first = b.history().handled[0].offset;
    assert_eq!(first, 3, "what was not acked of {b_partition} comes again");
    // A has been given its own part again as well.
    a.wait_until_begun(27);
    let (report, _) = a.leave_within(LONG);
    assert_eq!(report.unfinished.len(), 1, "{report:?}");
    assert_eq!(report.unfinished[0].1, 3);
    b.wait_until_begun(14);
    b.leave();
    let committed = shared().committed_offsets(&group);
    assert!(committed.values().all(|offset| *offset == 10), "{committed:?}");
}

//! The end of a member loses nothing that was finished.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use klamm::{GroupBuilder, Message};

use super::{LONG, Member, finished, goes_on_where_it_was_left, settings, takes, times, topic};
use crate::support::{Checker, Handling, History, Random, Recorder, shared, unique, wait_until};

const PARTITIONS: usize = 4;

#[derive(Debug, Clone, Copy)]
enum End {
    /// The loops end with `None`, and the stream is closed.
    Close,
    /// A message is left unfinished by `break`, and the stream is dropped with the loop.
    Break,
    /// The same by a panic.
    Panic,
}

/// `for message in stream` on this thread, until it is told to end in this way.
fn loops_until(recorder: &Recorder, settings: GroupBuilder, end: End, ends: &AtomicBool) {
    let stream = settings.join().unwrap();
    let watching = recorder.watch(&stream);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        for message in stream {
            let message = message.unwrap();
            let handling = recorder.begin(&message);
            if ends.load(Ordering::SeqCst) {
                match end {
                    // Without a word: it is wanted.
                    End::Panic => resume_unwind(Box::new("a loop body that panics")),
                    _ => break,
                }
            }
            work(&message, &handling);
        }
    }));
    assert_eq!(ended.is_err(), matches!(end, End::Panic));
    drop(watching);
}

fn work(message: &Message, handling: &Handling) {
    std::thread::sleep(Duration::from_micros(500 + message.offset() as u64 % 7 * 300));
    handling.end();
}

#[test]
fn whenever_a_member_stops_all_that_it_has_finished_is_committed() {
    let rounds = times(20, 100);
    let each = 250 * rounds / PARTITIONS;
    let (topic, group) = (topic(PARTITIONS, each), unique("stop"));
    let mut random = Random(0x5107);
    let mut histories: Vec<History> = Vec::new();
    let check = |histories: &[History], how: &str| {
        let all: Vec<History> = histories.to_vec();
        let counts = (0..PARTITIONS as i32).map(|partition| (partition, each)).collect();
        let checker = Checker::of(all).wrote_all(&topic, &counts);
        let committed = shared().committed_offsets(&group);
        checker
            .commit_safety(&committed)
            .unwrap_or_else(|fault| panic!("{how}: {fault}"));
        checker
            .commit_completeness(&committed)
            .unwrap_or_else(|fault| panic!("{how}: {fault}"));
        checker
    };
    let mut unfinished = 0;
    for round in 0..rounds {
        let end = [End::Close, End::Break, End::Close, End::Panic][round % 4];
        let name = format!("m{round}");
        let interval = Duration::from_millis(1 + random.below(40));
        let settings = settings(shared(), &name, &group, &[&topic]).commit_interval(interval);
        let pause = Duration::from_millis(random.below(200));
        match end {
            End::Close => {
                let threads = 1 + random.below(4) as usize;
                let member = Member::join(&name, settings, threads, |message, handling| {
                    work(&message, &handling);
                });
                member.wait_until_begun(1);
                std::thread::sleep(pause);
                histories.push(member.leave());
            }
            End::Break | End::Panic => {
                let recorder = Recorder::new(&name);
                let ends = AtomicBool::new(false);
                std::thread::scope(|scope| {
                    scope.spawn(|| loops_until(&recorder, settings, end, &ends));
                    wait_until("it works", LONG, || !recorder.history().handled.is_empty());
                    std::thread::sleep(pause);
                    ends.store(true, Ordering::SeqCst);
                });
                let history = recorder.history();
                unfinished += history.handled.len() - history.finished();
                histories.push(history);
                // Dropping has told the group as well: nobody has to wait for the end of a session.
                wait_until("the group is empty", Duration::from_secs(30), || {
                    shared().group(&group).2.is_empty()
                });
            }
        }
        check(&histories, &format!("round {round}, {end:?}"));
    }

    let last = Member::join(
        "last",
        settings(shared(), "last", &group, &[&topic]),
        4,
        takes(Duration::ZERO),
    );
    let before: usize = histories.iter().map(History::finished).sum();
    wait_until("all is finished", LONG, || {
        finished(&[&last]) + before >= each * PARTITIONS
    });
    histories.push(last.leave());
    let checker = check(&histories, "at the end");
    checker.loss().unwrap();
    checker.order().unwrap();
    // Only what a break or a panic has left comes twice.
    checker.duplicates_at_most(unfinished).unwrap();
    assert!(checker.duplicates().iter().all(|one| one.finished == 1));
    goes_on_where_it_was_left(&checker);
    println!("{rounds} ends, {before} records handled by then, {unfinished} left unfinished");
}

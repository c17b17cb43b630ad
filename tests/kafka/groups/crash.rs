//! Members that are killed, cut off, or whose code panics: what they have not finished comes again, and little more.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use klamm::{Client, Closer, Message, Next, Stream, TopicPartition};

use crate::support::{
    Asked, Checker, Commits, Committed, Ending, Fate, Kafka, Look, MemberProcess, Members, Pattern, Random, Recorder,
    What, is_long, now, shared, shared_behind_a_proxy, unique, wait_until,
};

/// No machine is so slow.
pub(super) const LONG: Duration = Duration::from_secs(120);

const COMMIT: i16 = 8;
const JOIN: i16 = 11;
/// With OffsetFetch, Heartbeat, LeaveGroup, SyncGroup.
const OF_GROUPS: [i16; 6] = [COMMIT, 9, JOIN, 12, 13, 14];

fn topic(partitions: usize, records: usize) -> String {
    let topic = unique("crash");
    shared().create_topic(&topic, partitions, &[]);
    if records > 0 {
        shared().fill(&topic, partitions, records, "none", 10);
    }
    topic
}

fn counts(partitions: usize, each: usize) -> BTreeMap<i32, usize> {
    (0..partitions as i32).map(|partition| (partition, each)).collect()
}

fn connect() -> Client {
    Client::connect(&shared().bootstrap()).expect("a broker is there")
}

pub(super) fn wait_until_committed(kafka: &Kafka, group: &str, counts: &BTreeMap<i32, usize>) {
    let all = counts.values().sum::<usize>() as i64;
    let mut committed = 0;
    let is_all = || {
        committed = kafka.committed_offsets(group).values().sum::<i64>();
        committed == all
    };
    wait_until(&format!("all {all} of {group} are committed"), LONG, is_all);
}

/// Everything that must hold whatever has happened to members, after all was committed. Says how many records came again,
/// and how many might have.
pub(super) fn judge(checker: &Checker, committed: &Committed, looks: &[Look]) -> (usize, usize) {
    checker.all(committed, usize::MAX).unwrap();
    checker.commit_completeness(committed).unwrap();
    // Each costs a walk over everything.
    let few: Vec<Look> = looks.iter().step_by(1 + looks.len() / 100).cloned().collect();
    checker.commits(&few).unwrap();
    let mut highest = Committed::new();
    for (_, committed) in looks {
        for (partition, &offset) in committed {
            let before = highest.insert(partition.clone(), offset).unwrap_or(0);
            assert!(before <= offset, "{partition} went back from {before} to {offset}");
        }
    }
    assert_eq!(checker.history().failures(), [""; 0]);
    checker.duplicates_of_uncommitted(looks).unwrap();
    let again = checker.duplicates_by_partition();
    let allowed = checker.repeatable(looks);
    (again.values().sum(), allowed.values().sum())
}

// ---- one kill ----

const RECORDS: usize = 2400;

/// A member works, is killed, and another one does the rest: how many records came again.
fn killed_once(settings: impl Fn(Members) -> Members) -> usize {
    let kafka = shared();
    let (topic, group) = (topic(4, RECORDS), unique("killed"));
    let members = settings(Members::new(kafka, &group, &[&topic]).quick());
    let commits = Commits::watch(kafka, &group);
    let mut one = members.start("one");
    one.wait_until_begun(300, LONG);
    wait_until("something is committed", LONG, || {
        kafka.committed_offsets(&group).values().sum::<i64>() > 0
    });
    let begun = one.history().handled.len();
    one.wait_until_begun(begun + 50, LONG);
    one.kill9();
    let first = one.history();
    assert!(first.finished() < RECORDS, "it was killed in the middle");
    let mut two = members.start("two");
    let counts = counts(4, RECORDS / 4);
    wait_until_committed(kafka, &group, &counts);
    let checker = Checker::of([first, two.stop()]).wrote_all(&topic, &counts);
    let (again, allowed) = judge(&checker, &kafka.committed_offsets(&group), &commits.finish());
    println!("{again} came again, and {allowed} might have");
    again
}

#[test]
fn a_kill_repeats_at_most_what_was_handled_since_the_last_commit_of_an_interval() {
    let work = Duration::from_millis(4);
    killed_once(|members| {
        members
            .work(work)
            .threads(2)
            .commit_interval(Some(Duration::from_secs(1)))
    });
}

#[test]
fn a_kill_repeats_at_most_one_message_of_each_thread_that_commits_after_each() {
    let again = killed_once(|members| members.threads(2).commit_interval(None).commit_each(1));
    assert!(again <= 2, "{again}");
}

#[test]
fn a_kill_repeats_at_most_one_round_of_a_thread_that_commits_after_each() {
    let work = Duration::from_millis(2);
    let each_round = |members: Members| members.work(work).commit_interval(None).commit_each(1);
    let again = killed_once(|members| each_round(members).pattern(Pattern::Collect(50)));
    assert!(again <= 50, "{again}");
}

// ---- many kills ----

const PARTITIONS: usize = 6;

/// Two members work while Java writes; one of them is killed at a random moment, and another one comes for it.
fn killed_again_and_again(pattern: Pattern, threads: usize, kills: usize) {
    let kafka = shared();
    let (topic, group) = (topic(PARTITIONS, 0), unique("kills"));
    let members = Members::new(kafka, &group, &[&topic])
        .session_timeout(Duration::from_secs(2))
        .heartbeat_interval(Duration::from_millis(300))
        .commit_interval(Some(Duration::from_millis(300)))
        // A pool has many messages in hand, and each for long.
        .work(Duration::from_millis(if matches!(pattern, Pattern::Pool(_)) {
            40
        } else {
            1
        }))
        .threads(threads)
        .pattern(pattern);
    let commits = Commits::watch(kafka, &group);
    let pouring = kafka.pour(&topic, PARTITIONS, 300.0, Duration::from_secs(3600));
    let mut random = Random(0x5eed_1234 + kills as u64 + threads as u64);
    let mut started = 0;
    let mut start = || {
        started += 1;
        members.start(&format!("member-{started}"))
    };
    let mut alive = vec![start(), start()];
    let mut histories = Vec::new();
    let begun =
        |alive: &mut [MemberProcess]| -> usize { alive.iter_mut().map(|member| member.history().handled.len()).sum() };
    for kill in 0..kills {
        // Now and then in the middle of what the last kill has brought about.
        if kill % 4 != 3 {
            let before = begun(&mut alive);
            wait_until("the group works", LONG, || begun(&mut alive) > before + 50);
        }
        std::thread::sleep(Duration::from_millis(random.below(900)));
        let mut victim = alive.swap_remove(random.index(alive.len()));
        victim.kill9();
        histories.push(victim.history());
        alive.push(start());
    }
    let counts = pouring.stop();
    wait_until_committed(kafka, &group, &counts);
    histories.extend(alive.iter_mut().map(MemberProcess::stop));
    let mut checker = Checker::of(histories).wrote_all(&topic, &counts);
    if pattern != Pattern::Loop {
        checker = checker.acks_count();
    }
    let (again, allowed) = judge(&checker, &kafka.committed_offsets(&group), &commits.finish());
    let written = counts.values().sum::<usize>();
    println!("{kills} kills, {written} records: {again} came again, and {allowed} might have");
}

#[test]
fn nothing_is_lost_by_loops_that_are_killed_at_any_moment() {
    killed_again_and_again(Pattern::Loop, 2, if is_long() { 100 } else { 6 });
}

#[test]
fn nothing_is_lost_that_a_pool_has_in_hand_when_it_is_killed() {
    killed_again_and_again(Pattern::Pool(16), 1, if is_long() { 20 } else { 3 });
}

#[test]
fn nothing_is_lost_that_is_collected_when_its_program_is_killed() {
    killed_again_and_again(Pattern::Collect(100), 1, if is_long() { 20 } else { 3 });
}

// ---- code that ends early ----

#[track_caller]
fn next(stream: &Stream) -> Message {
    match stream.iter().next_timeout(LONG) {
        Ok(Next::Message(message)) => message,
        other => panic!("no message but {other:?}; health {:?}", stream.health()),
    }
}

fn join(group: &str, topic: &str) -> Stream {
    let group = connect().group(group).topics([topic]).commit_interval(None);
    group.join().expect("the group can be joined")
}

#[track_caller]
fn is_committed(stream: &Stream, topic: &str, offset: i64) {
    stream.commit(LONG).unwrap();
    let committed = stream.committed([(topic, 0)]).unwrap();
    assert_eq!(committed.get(&(topic, 0).into()).copied(), Some(offset));
}

/// A loop that ends at number 3 by itself, and not because the stream has ended.
fn ends_at_three(how: impl Fn(&Stream)) {
    let (topic, group) = (topic(1, 10), unique("early"));
    let stream = join(&group, &topic);
    how(&stream);
    is_committed(&stream, &topic, 3);
    // The same stream gives it again, and goes on as if nothing had been.
    let mut given = Vec::new();
    let mut iter = stream.iter();
    while given.len() < 7 {
        match iter.next_timeout(LONG) {
            Ok(Next::Message(message)) => given.push(message.offset()),
            other => panic!("after {given:?}: {other:?}"),
        }
    }
    assert_eq!(given, [3, 4, 5, 6, 7, 8, 9]);
    assert!(matches!(
        iter.next_timeout(Duration::from_millis(10)),
        Ok(Next::TimedOut)
    ));
    is_committed(&stream, &topic, 10);
    drop(iter);
    let report = stream.close(LONG).unwrap();
    assert_eq!(report.unfinished, [], "all was finished");
}

#[test]
fn a_break_does_not_commit_the_message_in_hand() {
    ends_at_three(|stream| {
        for message in stream {
            if message.unwrap().offset() == 3 {
                break;
            }
        }
    });
}

#[test]
fn a_question_mark_does_not_commit_the_message_in_hand() {
    fn work(stream: &Stream) -> Result<(), Box<dyn std::error::Error>> {
        for message in stream {
            let message = message?;
            if message.offset() == 3 {
                "three".parse::<i32>()?;
            }
        }
        Ok(())
    }
    ends_at_three(|stream| assert!(work(stream).is_err()));
}

#[test]
fn a_panic_does_not_commit_the_message_in_hand() {
    ends_at_three(|stream| {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            for message in stream {
                let message = message.unwrap();
                assert_ne!(message.offset(), 3, "wanted by the test");
            }
        }));
        assert!(panicked.is_err());
    });
}

#[test]
fn a_panic_does_not_commit_the_batch_in_hand() {
    ends_at_three(|stream| {
        for message in stream {
            if message.unwrap().offset() == 3 {
                break;
            }
        }
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            for batch in stream.batches() {
                for message in &batch.unwrap() {
                    assert_ne!(message.unwrap().offset(), 5, "wanted by the test");
                }
            }
        }));
        assert!(panicked.is_err());
    });
}

#[test]
fn a_stream_that_a_loop_owns_and_leaves_early_gives_the_message_in_hand_to_the_next_member() {
    let (topic, group) = (topic(1, 10), unique("early"));
    let broken = join(&group, &topic);
    for message in broken {
        if message.unwrap().offset() == 3 {
            break;
        }
    }
    let panicked = join(&group, &topic);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        for message in panicked {
            let message = message.unwrap();
            assert!(message.offset() >= 3, "the break has committed what was done");
            assert_ne!(message.offset(), 5, "wanted by the test");
        }
    }));
    assert!(caught.is_err());
    let stream = join(&group, &topic);
    assert_eq!(next(&stream).offset(), 5);
}

/// What is given again after a loop was left is a new matter, whatever became of it the first time.
#[test]
fn a_message_that_was_put_back_and_is_kept_the_second_time_is_not_committed() {
    let (topic, group) = (topic(1, 10), unique("again"));
    let stream = join(&group, &topic);
    let mut kept = Vec::new();
    for message in &stream {
        let message = message.unwrap();
        match message.offset() {
            0 => kept.push(message), // from here on each is looked after by itself
            1 => {}
            _ => break,
        }
    }
    for message in &stream {
        let message = message.unwrap();
        match message.offset() {
            2 => kept.push(message), // the one that was let go of before
            9 => break,
            _ => {}
        }
    }
    assert!(kept[0].ack());
    is_committed(&stream, &topic, 2);
    assert!(kept[1].ack());
    is_committed(&stream, &topic, 9);
}

/// `for m in stream { pool.execute(move || f(m)) }`, where `f` acks, and panics at number 7.
fn a_pool_panics_at_seven(panics_before_the_next_is_asked_for: bool) {
    let (topic, group) = (topic(1, 20), unique("pool"));
    let stream = join(&group, &topic);
    let (tasks, work): (Sender<Message>, Receiver<Message>) = channel();
    let work = Mutex::new(work);
    let (panicked, has_panicked) = channel::<()>();
    let (gone_on, has_gone_on) = channel::<()>();
    let has_gone_on = Mutex::new(has_gone_on);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let panicked = panicked.clone();
            let (work, has_gone_on) = (&work, &has_gone_on);
            scope.spawn(move || {
                loop {
                    let task = work.lock().unwrap().recv();
                    let Ok(message) = task else { break };
                    let caught = catch_unwind(AssertUnwindSafe(move || {
                        if message.offset() == 7 {
                            if !panics_before_the_next_is_asked_for {
                                has_gone_on.lock().unwrap().recv().unwrap();
                            }
                            panic!("wanted by the test");
                        }
                        assert!(message.ack());
                    }));
                    if caught.is_err() {
                        panicked.send(()).unwrap();
                    }
                }
            });
        }
        for message in &stream {
            let message = message.unwrap();
            let offset = message.offset();
            tasks.send(message).unwrap();
            match offset {
                7 if panics_before_the_next_is_asked_for => has_panicked.recv_timeout(LONG).unwrap(),
                // All but the last, which this loop leaves to itself.
                19 => break,
                _ => {}
            }
        }
        if !panics_before_the_next_is_asked_for {
            gone_on.send(()).unwrap();
            has_panicked.recv_timeout(LONG).unwrap();
        }
        drop(tasks);
    });
    is_committed(&stream, &topic, 7);
    let report = stream.close(LONG).unwrap();
    assert_eq!(report.unfinished, [((&topic, 0).into(), 7)]);
    let stream = join(&group, &topic);
    assert_eq!(next(&stream).offset(), 7, "it comes again");
}

#[test]
fn a_message_that_a_pool_panics_with_at_once_is_never_committed() {
    a_pool_panics_at_seven(true);
}

#[test]
fn a_message_that_a_pool_panics_with_later_is_never_committed() {
    a_pool_panics_at_seven(false);
}

// ---- cut off from the group ----

/// What becomes of what a member says to its group meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stall {
    /// Nobody ever hears it.
    Swallowed,
    /// It arrives late, when others have gone on.
    Held,
}

/// Between a member and its group, both ways; everything else passes.
struct Wall {
    is_up: AtomicBool,
    /// What the member said to the group, and when.
    asked: Mutex<Vec<(Duration, i16)>>,
}

impl Wall {
    fn before(kafka: &Kafka, stall: Stall) -> Arc<Self> {
        let wall = Arc::new(Self {
            is_up: AtomicBool::new(false),
            asked: Mutex::default(),
        });
        let stands = move |wall: &Self| {
            while stall == Stall::Held && wall.is_up.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            match wall.is_up.load(Ordering::SeqCst) {
                true => Fate::Drop,
                false => Fate::Forward,
            }
        };
        let seen = Arc::clone(&wall);
        kafka.proxy(1).on_request(move |asked: Asked, _: &mut Vec<u8>| {
            if !OF_GROUPS.contains(&asked.api_key) {
                return Fate::Forward;
            }
            seen.asked.lock().unwrap().push((now(), asked.api_key));
            stands(&seen)
        });
        let seen = Arc::clone(&wall);
        kafka.proxy(1).on_answer(
            move |asked: Asked, _: &mut Vec<u8>| match OF_GROUPS.contains(&asked.api_key) {
                true => stands(&seen),
                false => Fate::Forward,
            },
        );
        wall
    }
}

/// Ends the wall also when the test fails: who waits before it must end.
struct Down(Arc<Wall>);

impl Drop for Down {
    fn drop(&mut self) {
        self.0.is_up.store(false, Ordering::SeqCst);
    }
}

struct Ends(Closer);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A message that one loop has in hand all the while.
struct InHand {
    wanted: AtomicBool,
    taken: Sender<TopicPartition>,
    over: Mutex<Receiver<()>>,
}

impl InHand {
    fn hold(&self, message: &Message) {
        if !self.wanted.swap(false, Ordering::SeqCst) {
            return;
        }
        assert!(message.is_current(), "nothing has happened yet");
        self.taken.send((message.topic(), message.partition()).into()).unwrap();
        self.over.lock().unwrap().recv_timeout(LONG).unwrap();
        assert!(!message.is_current(), "somebody else has its partition");
        assert!(!message.ack(), "somebody else has its partition");
    }
}

fn a_member_is_cut_off(stall: Stall) {
    let kafka = Arc::new(shared_behind_a_proxy());
    let (topic, group) = (unique("zombie"), unique("zombie"));
    kafka.create_topic(&topic, 4, &[]);
    let wall = Wall::before(&kafka, stall);
    let down = Down(Arc::clone(&wall));
    let asks = Arc::clone(&kafka);
    let commits = Commits::of(move |group| asks.committed_offsets(group), &group);
    let pouring = kafka.pour(&topic, 4, 200.0, Duration::from_secs(3600));

    let recorder = Recorder::new("zombie");
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let builder = client.group(&group).topics([&topic]);
    let builder = builder
        .session_timeout(Duration::from_secs(4))
        .heartbeat_interval(Duration::from_millis(400))
        // So long it waits for the answer to a JoinGroup that nobody has heard.
        .rebalance_timeout(Duration::from_secs(10));
    let stream = builder.commit_interval(Duration::from_millis(100)).join().unwrap();
    let watching = recorder.watch(&stream);
    let (taken, is_taken) = channel();
    let (over, is_over) = channel();
    let in_hand = InHand {
        wanted: AtomicBool::new(false),
        taken,
        over: Mutex::new(is_over),
    };
    let others = Members::new(&kafka, &group, &[&topic])
        .bootstrap(&kafka.internal_bootstrap())
        .quick()
        .commit_interval(Some(Duration::from_millis(200)))
        .work(Duration::from_millis(1));
    let mut other = others.start("other");
    let generation = |partitions: usize| {
        recorder
            .history()
            .rebalances
            .iter()
            .filter(|one| one.current.len() == partitions)
            .count()
    };

    let (counts, cut_at, back_at) = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for message in &stream {
                    let message = message.unwrap();
                    let handling = recorder.begin(&message);
                    in_hand.hold(&message);
                    std::thread::sleep(Duration::from_millis(1));
                    handling.end();
                }
            });
        }
        // The loops end with it, also when a check fails.
        let _ends = Ends(stream.closer());
        // A group can be asked about once it is there.
        wait_until("it has joined", LONG, || !recorder.history().rebalances.is_empty());
        wait_until("both share the topic", LONG, || {
            let (_, state, members) = kafka.group(&group);
            state == "Stable" && members.iter().filter(|one| one.partitions.len() == 2).count() == 2
        });
        wait_until("it has its half", LONG, || generation(2) > 0);
        let before = recorder.history().finished();
        wait_until("it works", LONG, || recorder.history().finished() > before + 50);
        let ids = || -> BTreeSet<String> { kafka.group(&group).2.into_iter().map(|one| one.id).collect() };
        let ids_before = ids();

        let rounds = generation(2);
        in_hand.wanted.store(true, Ordering::SeqCst);
        let held = is_taken.recv_timeout(LONG).unwrap();
        let cut_at = now();
        wall.is_up.store(true, Ordering::SeqCst);
        let lost = || {
            let history = recorder.history();
            let lost = history.owned.iter().filter(|one| one.ending == Some(Ending::Lost));
            lost.count()
        };
        wait_until("it knows that it has lost its half", LONG, || lost() >= 2);
        other.wait_for_line(
            "the other one has everything",
            LONG,
            |what| matches!(what, What::Rebalanced { current, .. } if current.len() == 4),
        );
        other.wait_for_line(
            "the other one has begun with what is in hand here",
            LONG,
            |what| matches!(what, What::Begin { partition, .. } if *partition == held),
        );
        let begun = other.history().handled.len();
        other.wait_until_begun(begun + 200, LONG);
        let back_at = now();
        wall.is_up.store(false, Ordering::SeqCst);
        over.send(()).unwrap();
        println!("back {:?} after the cut", back_at - cut_at);
        wait_until("it has its half again", LONG, || generation(2) > rounds);
        println!("its half again {:?} later", now() - back_at);
        let before = recorder.history().finished();
        wait_until("it works again", LONG, || recorder.history().finished() > before + 50);
        let (_, _, members) = kafka.group(&group);
        let stayed = members.iter().filter(|one| ids_before.contains(&one.id)).count();
        assert_eq!(
            (members.len(), stayed),
            (2, 1),
            "it is a new member: {ids_before:?}, {members:?}"
        );
        let counts = pouring.stop();
        wait_until_committed(&kafka, &group, &counts);
        (counts, cut_at, back_at)
    });
    let report = stream.close(LONG).unwrap();
    drop(watching);
    recorder.closed(&report);
    let (zombie, other) = (recorder.history(), other.stop());

    // Nothing of what it had begins once somebody else has it.
    let mut lost_at = cut_at;
    for lost in zombie.owned.iter().filter(|one| one.ending == Some(Ending::Lost)) {
        let to = lost.to.unwrap();
        lost_at = lost_at.max(to);
        println!("{} lost {:?} after the cut", lost.partition, to - cut_at);
        let taken = other
            .owned
            .iter()
            .filter(|one| one.partition == lost.partition && one.from > lost.from);
        let taken = taken.map(|one| one.from).min().expect("somebody took it");
        println!("taken {:?} after the cut", taken - cut_at);
        let late = zombie
            .handled
            .iter()
            .find(|one| (&one.partition, one.assignment) == (&lost.partition, lost.assignment) && one.begin > taken);
        assert_eq!(late, None);
    }
    let late = Duration::from_millis(500);
    let asked = wall.asked.lock().unwrap().clone();
    let said = |from: Duration, to: Duration| {
        let said = asked.iter().filter(move |(at, _)| (from..to).contains(at));
        said.map(|(_, api)| *api).collect::<Vec<_>>()
    };
    if stall == Stall::Swallowed {
        assert!(said(cut_at, lost_at).contains(&COMMIT), "until then it tried");
        let after = said(lost_at + late, back_at);
        assert!(!after.contains(&COMMIT), "{after:?}");
        assert!(said(lost_at - late, back_at).contains(&JOIN), "it tries to come back");
    }
    let checker = Checker::of([zombie, other]).wrote_all(&topic, &counts);
    let (again, allowed) = judge(&checker, &kafka.committed_offsets(&group), &commits.finish());
    println!("{again} came again, and {allowed} might have");
    drop(down);
}

#[test]
fn a_member_that_its_group_cannot_hear_stops_before_others_begin_and_comes_back() {
    a_member_is_cut_off(Stall::Swallowed);
}

#[test]
fn what_a_member_said_before_it_was_given_up_arrives_late_and_harms_nobody() {
    a_member_is_cut_off(Stall::Held);
}

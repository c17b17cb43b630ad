//! Loop bodies that take longer than a session, and one that never returns.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use klamm::Message;

use super::{LONG, Member, finished, goes_on_where_it_was_left, settings, takes, topic};
use crate::support::{Checker, Ending, Handling, What, shared, shared_behind_a_proxy, unique, wait_until};

const SESSION: Duration = Duration::from_secs(4);
const HEARTBEAT: Duration = Duration::from_millis(400);

const HEARTBEAT_API: i16 = 12;

/// IDs of the group's members, as the broker knows them.
fn member_ids(group: &str) -> Vec<String> {
    let (_, _, members) = shared().group(group);
    members.into_iter().map(|member| member.id).collect()
}

#[test]
fn a_loop_body_that_outlasts_the_session_costs_nothing() {
    let (topic, group) = (topic(1, 10), unique("body"));
    let settings = settings(shared(), "a", &group, &[&topic])
        .session_timeout(SESSION)
        .heartbeat_interval(HEARTBEAT)
        .commit_interval(Duration::from_millis(200));
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let a = Member::join("a", settings, 1, move |message, handling| {
        if message.offset() == 3 {
            std::thread::sleep(3 * SESSION);
            tell.lock().unwrap().send(message.is_current()).unwrap();
        }
        handling.end();
    });
    a.wait_until_begun(4);
    let before = member_ids(&group);
    assert!(told.recv_timeout(LONG).unwrap(), "the message is still its own");
    assert_eq!(member_ids(&group), before, "the same member");
    wait_until("all is committed", LONG, || {
        shared().committed_offsets(&group).values().eq([&10])
    });
    let history = a.leave();
    assert_eq!(history.rebalances.len(), 1, "one generation: {:?}", history.rebalances);
    let checker = Checker::of([history]).wrote((&topic, 0), 10);
    checker.all(&shared().committed_offsets(&group), 0).unwrap();
}

#[test]
fn a_rebalance_waits_for_a_loop_body_that_outlasts_the_session() {
    let (topic, group) = (topic(2, 10), unique("middle"));
    let quick = |name| {
        settings(shared(), name, &group, &[&topic])
            .session_timeout(SESSION)
            .heartbeat_interval(HEARTBEAT)
    };
    let a = Member::join("a", quick("a"), 1, |message, handling| {
        if message.offset() == 3 {
            std::thread::sleep(3 * SESSION);
        }
        handling.end();
    });
    wait_until("a is at its slow message", LONG, || {
        a.history().handled.iter().any(|one| one.offset == 3)
    });
    let before = member_ids(&group);
    let b = Member::join("b", quick("b"), 1, takes(Duration::from_millis(1)));
    wait_until("all is finished", LONG, || finished(&[&a, &b]) >= 20);
    assert!(member_ids(&group).contains(&before[0]), "a is still the same member");
    let b = b.leave();
    let a = a.leave();
    let slow = a.handled.iter().find(|one| one.offset == 3).unwrap();
    let taken = b.owned.iter().map(|owned| owned.from).min().unwrap();
    assert!(taken >= slow.end.unwrap(), "b took over before a had finished");
    assert!(taken - slow.begin >= 3 * SESSION);
    let checker = Checker::of([a, b]).wrote((&topic, 0), 10).wrote((&topic, 1), 10);
    checker.all(&shared().committed_offsets(&group), 0).unwrap();
    checker
        .commit_completeness(&shared().committed_offsets(&group))
        .unwrap();
    goes_on_where_it_was_left(&checker);
    let endings = checker.history().owned.iter().map(|owned| owned.ending);
    assert!(endings.flatten().all(|ending| ending != Ending::Lost));
}

/// A loop body that stands still at one message, until it is told to go on.
struct Stuck {
    stands: Receiver<(i32, i64)>,
    go_on: Sender<()>,
    /// What became of the message, and the message.
    after: Receiver<(bool, bool, Message)>,
}

fn stands_at(partition: i32, offset: i64) -> (Stuck, impl Fn(Message, Handling) + Send + Sync + 'static) {
    let (tell, stands) = channel();
    let (go_on, go) = channel();
    let (tell_after, after) = channel();
    let ends = Mutex::new(Some((tell, go, tell_after)));
    let work = move |message: Message, handling: Handling| {
        let at = (message.partition(), message.offset());
        let is_it = at == (partition, offset);
        // It comes again, and then it is as any other.
        let ends = is_it.then(|| ends.lock().unwrap().take()).flatten();
        if let Some((tell, go, after)) = ends {
            tell.send(at).unwrap();
            let _ = go.recv();
            let became = (message.is_current(), message.ack());
            after.send((became.0, became.1, message)).unwrap();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
        handling.end();
    };
    (Stuck { stands, go_on, after }, work)
}

#[test]
fn a_loop_body_that_never_returns_costs_its_partition_and_nothing_else() {
    let (topic, group) = (topic(4, 60), unique("stuck"));
    let patient = |name| {
        settings(shared(), name, &group, &[&topic])
            .rebalance_timeout(Duration::from_secs(40))
            .revoke_timeout(Duration::from_secs(4))
    };
    let (stuck, work) = stands_at(2, 5);
    let a = Member::join("a", patient("a"), 2, work);
    assert_eq!(stuck.stands.recv_timeout(LONG).unwrap(), (2, 5));
    let before = member_ids(&group);
    assert_eq!(before.len(), 1);

    let b = Member::join("b", patient("b"), 1, takes(Duration::from_millis(20)));
    let begun = Instant::now();
    b.wait_until_owns(2);
    a.wait_until_owns(2);
    let took = begun.elapsed();
    println!("shared out after {took:?}");
    // All but the stuck message is handled, by b and by a's other thread; and so is that one, by whoever has it now.
    wait_until("all is finished", LONG, || finished(&[&a, &b]) >= 240);
    let lines = a.history().lines.remove("a").unwrap();
    let ends: Vec<_> = lines
        .iter()
        .filter(|line| {
            matches!(
                line.what,
                What::Abandoned { .. } | What::Revoked { .. } | What::Lost { .. }
            )
        })
        .collect();
    let abandoned = |oldest| What::Abandoned {
        partition: (topic.as_str(), 2).into(),
        oldest,
    };
    assert_eq!(ends.len(), 4, "{ends:?}");
    assert_eq!(
        ends.iter().filter(|line| line.what == abandoned(5)).count(),
        1,
        "{ends:?}"
    );
    assert_eq!(
        ends.iter()
            .filter(|line| matches!(line.what, What::Revoked { .. }))
            .count(),
        3,
        "{ends:?}"
    );
    assert!(
        member_ids(&group).contains(&before[0]),
        "a has joined again in time, as the member that it was"
    );

    stuck.go_on.send(()).unwrap();
    let (is_current, acked, message) = stuck.after.recv_timeout(LONG).unwrap();
    assert!(!is_current, "the message is not its own any more");
    assert!(!acked, "and its ack is refused");
    let b = b.leave();
    a.wait_until_owns(4);
    let closing = Instant::now();
    let (report, a) = a.leave_within(Duration::from_secs(2));
    println!("closed after {:?}", closing.elapsed());
    assert!(report.left_group, "{report:?}");
    assert!(!message.ack());

    let checker = Checker::of([a, b]).wrote_all(&topic, &(0..4).map(|partition| (partition, 60)).collect());
    let committed = shared().committed_offsets(&group);
    // The stuck one was begun twice.
    checker.all(&committed, 1).unwrap();
    checker.commit_completeness(&committed).unwrap();
    let duplicates = checker.duplicates();
    assert_eq!(duplicates.len(), 1, "{duplicates:?}");
    assert_eq!(
        (duplicates[0].partition.partition(), duplicates[0].number),
        (2, 5),
        "{duplicates:?}"
    );
}

/// The group counts from the beginning of the rebalance, which a member hears of with its next heartbeat.
#[test]
fn a_stuck_partition_is_given_up_in_time_also_when_the_rebalance_was_heard_of_late() {
    let kafka = shared_behind_a_proxy();
    let (topic, group) = (unique("heard-late"), unique("heard-late"));
    kafka.create_topic(&topic, 2, &[]);
    kafka.fill(&topic, 2, 40, "none", 10);
    let heartbeat = Duration::from_secs(10);
    let rebalance = Duration::from_secs(24);
    // To wait for so long after hearing of it, with four fifths of the rebalance timeout, would be too late.
    let late = |name| {
        settings(&kafka, name, &group, &[&topic])
            .heartbeat_interval(heartbeat)
            .rebalance_timeout(rebalance)
    };
    let (stuck, work) = stands_at(0, 5);
    let a = Member::join("a", late("a"), 2, work);
    stuck.stands.recv_timeout(LONG).unwrap();
    wait_until("all but one partition is read", LONG, || finished(&[&a]) == 25);
    let beats = || kafka.proxy(1).requests(HEARTBEAT_API);
    let before = beats();
    wait_until("a heartbeat", LONG, || beats() > before);
    let b = Member::join("b", late("b"), 1, takes(Duration::ZERO));
    b.wait_until_owns(1);
    a.wait_until_owns(1);
    wait_until("all is finished", LONG, || finished(&[&a, &b]) >= 40);
    let endings: Vec<_> = a.history().owned.iter().filter_map(|owned| owned.ending).collect();
    assert_eq!(endings.len(), 2, "{endings:?}");
    assert!(endings.contains(&Ending::Abandoned), "{endings:?}");
    assert!(endings.contains(&Ending::Revoked), "{endings:?}");
    stuck.go_on.send(()).unwrap();
    let (is_current, acked, _message) = stuck.after.recv_timeout(LONG).unwrap();
    assert_eq!((is_current, acked), (false, false));
    let checker = Checker::of([a.leave(), b.leave()])
        .wrote((&topic, 0), 20)
        .wrote((&topic, 1), 20);
    checker.all(&kafka.committed_offsets(&group), 1).unwrap();
}

/// The loop has ended, but a message of it is still somewhere.
#[test]
fn close_does_not_wait_for_a_message_that_is_still_in_hand() {
    let (topic, group) = (topic(1, 10), unique("in-hand"));
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let a = Member::join(
        "a",
        settings(shared(), "a", &group, &[&topic]),
        1,
        move |message, handling| {
            if message.offset() == 4 {
                tell.lock().unwrap().send(message).unwrap();
            } else {
                handling.end();
            }
        },
    );
    let message = told.recv_timeout(LONG).unwrap();
    wait_until("the others are finished", LONG, || finished(&[&a]) == 9);
    let closing = Instant::now();
    let (report, _) = a.leave_within(Duration::from_secs(60));
    assert!(closing.elapsed() < Duration::from_secs(30), "{:?}", closing.elapsed());
    assert!(report.left_group, "{report:?}");
    assert_eq!(report.unfinished, [((&topic, 0).into(), 4)]);
    assert!(!message.is_current() && !message.ack());
    assert!(shared().committed_offsets(&group).values().eq([&4]));
}

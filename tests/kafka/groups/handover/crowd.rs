//! Several members at once: late ones, idle ones, and rebalances that begin before the last one is over.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::Message;

use super::{LONG, Member, NEVER, finished, goes_on_where_it_was_left, is_shared_out, settings, takes, times, topic};
use crate::support::{
    Checker, Ending, Fate, Handling, History, Kafka, MemberProcess, Members, Proxy, What, now, shared,
    shared_behind_a_proxy, unique, wait_until,
};

const FETCH: i16 = 1;
const JOIN: i16 = 11;
const HEARTBEAT: i16 = 12;

/// How many requests of each kind each client has sent.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<BTreeMap<(String, i16), usize>>>);

impl Requests {
    fn count(proxy: &Proxy) -> Self {
        let requests = Self::default();
        let counts = Arc::clone(&requests.0);
        proxy.on_request(move |asked, frame| {
            // API key, version, correlation ID, and then the client's name.
            let length = usize::from(u16::from_be_bytes([frame[8], frame[9]]));
            let name = frame.get(10..10 + length).unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            *counts.lock().unwrap().entry((name, asked.api_key)).or_default() += 1;
            Fate::Forward
        });
        requests
    }

    fn of(&self, client: &str, api: i16) -> usize {
        let counts = self.0.lock().unwrap();
        counts.get(&(client.to_owned(), api)).copied().unwrap_or(0)
    }

    fn all_of(&self, client: &str) -> BTreeMap<i16, usize> {
        let counts = self.0.lock().unwrap();
        let own = counts.iter().filter(|((name, _), _)| name == client);
        own.map(|((_, api), count)| (*api, *count)).collect()
    }
}

/// A loop body that stands still at each message until the sender is dropped.
fn gated() -> (Sender<()>, impl Fn(Message, Handling) + Send + Sync + 'static) {
    let (open, gate): (Sender<()>, Receiver<()>) = channel();
    let gate = Mutex::new(gate);
    let work = move |message: Message, handling: Handling| {
        let _ = gate.lock().unwrap().recv();
        handling.end();
        drop(message);
    };
    (open, work)
}

fn filled(kafka: &Kafka, partitions: usize, each: usize) -> String {
    let topic = unique("crowd");
    kafka.create_topic(&topic, partitions, &[]);
    kafka.fill(&topic, partitions, partitions * each, "none", 10);
    topic
}

fn all_endings(histories: &[History]) -> Vec<Ending> {
    let owned = histories.iter().flat_map(|history| &history.owned);
    owned.filter_map(|owned| owned.ending).collect()
}

#[test]
fn members_that_wait_for_a_slow_one_join_once() {
    let kafka = shared_behind_a_proxy();
    let (topic, group) = (filled(&kafka, 4, 10), unique("late"));
    let limit = Duration::from_secs(24);
    let patient = |name: &str| {
        settings(&kafka, name, &group, &[&topic])
            .rebalance_timeout(limit)
            .revoke_timeout(limit * 9 / 10)
    };
    let (open, work) = gated();
    let requests = Requests::count(kafka.proxy(1));
    let b = Member::join("b", patient("b"), 1, takes(Duration::ZERO));
    let c = Member::join("c", patient("c"), 1, takes(Duration::ZERO));
    wait_until("b and c have all", LONG, || is_shared_out(&[&b, &c], 4));
    wait_until("all is finished", LONG, || finished(&[&b, &c]) == 40);
    let a = Member::join("a", patient("a"), 1, work);
    wait_until("three share", LONG, || is_shared_out(&[&a, &b, &c], 4));
    kafka.fill_from(10, &topic, 4, 40, "none", 10);
    a.wait_until_begun(1);
    wait_until("the others are idle again", LONG, || {
        let idle = 4 - a.owned().len();
        finished(&[&b, &c]) == 40 + idle * 10
    });

    let before = ["a", "b", "c"].map(|name| requests.of(name, JOIN));
    let begun = Instant::now();
    let d = Member::join("d", patient("d"), 1, takes(Duration::ZERO));
    wait_until("b and c have joined again", LONG, || {
        [("b", before[1]), ("c", before[2])]
            .iter()
            .all(|(name, before)| requests.of(name, JOIN) > *before)
    });
    std::thread::sleep((limit * 7 / 10).saturating_sub(begun.elapsed()));
    assert!(d.owned().is_empty(), "a still has its message in hand");
    drop(open);
    wait_until("four share", LONG, || is_shared_out(&[&a, &b, &c, &d], 4));
    let after = ["a", "b", "c"].map(|name| requests.of(name, JOIN));
    let joins: Vec<usize> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(joins, [1, 1, 1], "JoinGroups of a, b and c");
    // The first has brought its member ID.
    assert_eq!(requests.of("d", JOIN), 2);
    wait_until("all is finished", LONG, || finished(&[&a, &b, &c, &d]) == 80);
    let histories = [a, b, c, d].map(Member::leave);
    let endings = all_endings(&histories);
    assert!(
        endings
            .iter()
            .all(|ending| matches!(ending, Ending::Revoked | Ending::Closed)),
        "{endings:?}"
    );
    let checker = Checker::of(histories).wrote_all(&topic, &(0..4).map(|partition| (partition, 20)).collect());
    checker.all(&kafka.committed_offsets(&group), 0).unwrap();
    goes_on_where_it_was_left(&checker);
}

#[test]
fn a_member_without_partitions_costs_nothing_and_takes_over_at_once() {
    let kafka = shared_behind_a_proxy();
    let (topic, group) = (filled(&kafka, 2, 10), unique("idle"));
    let requests = Requests::count(kafka.proxy(1));
    let heartbeat = Duration::from_millis(500);
    let join = |name: &str| {
        let settings = settings(&kafka, name, &group, &[&topic]).heartbeat_interval(heartbeat);
        Member::join(name, settings, 1, takes(Duration::ZERO))
    };
    let mut members = vec![("a", join("a")), ("b", join("b")), ("c", join("c"))];
    wait_until("two have one each", LONG, || {
        let mut counts: Vec<_> = members.iter().map(|(_, member)| member.owned().len()).collect();
        counts.sort_unstable();
        let generations: Vec<_> = members.iter().map(|(_, member)| member.generation()).collect();
        counts == [0, 1, 1] && generations.iter().all(|one| *one > 0 && *one == generations[0])
    });
    wait_until("all is finished", LONG, || {
        members.iter().map(|(_, member)| finished(&[member])).sum::<usize>() == 20
    });
    let index = members
        .iter()
        .position(|(_, member)| member.owned().is_empty())
        .unwrap();
    let (idle_name, idle) = members.remove(index);

    // Lanes that have nothing to fetch any more, and old connections, end.
    let before = requests.all_of(idle_name);
    let begun = Instant::now();
    std::thread::sleep(10 * heartbeat);
    let after = requests.all_of(idle_name);
    let sent = |api| after.get(&api).unwrap_or(&0) - before.get(&api).unwrap_or(&0);
    let beats = begun.elapsed().as_millis() / heartbeat.as_millis();
    let all: usize = after.keys().map(|api| sent(*api)).sum();
    println!(
        "idle for {:?}: {} heartbeats of {all} requests",
        begun.elapsed(),
        sent(HEARTBEAT)
    );
    assert_eq!(sent(FETCH), 0);
    assert!(sent(HEARTBEAT) <= beats as usize + 2, "{} in {beats}", sent(HEARTBEAT));
    assert!(all - sent(HEARTBEAT) <= 3, "{before:?} {after:?}");

    // An owner stops.
    let (_, owner) = members.remove(0);
    let stopping = now();
    let stopped = owner.leave();
    idle.wait_until_owns(1);
    wait_until("its assignment is recorded", LONG, || !idle.history().owned.is_empty());
    let took = idle.history().owned.last().unwrap().from - stopping;
    println!("taken over {took:?} after its owner began to stop, with heartbeats each {heartbeat:?}");
    // Far from the session timeout of 45 s, however slow the machine.
    assert!(took < 20 * heartbeat, "{took:?}");
    kafka.fill_from(10, &topic, 2, 20, "none", 10);
    let (_, other) = members.remove(0);
    wait_until("all is finished", LONG, || {
        finished(&[&idle, &other]) + stopped.finished() == 40
    });
    let checker = Checker::of([stopped, idle.leave(), other.leave()]);
    let checker = checker.wrote((&topic, 0), 20).wrote((&topic, 1), 20);
    checker.all(&kafka.committed_offsets(&group), 0).unwrap();
}

#[test]
fn a_member_without_partitions_takes_over_from_one_that_was_killed() {
    let session = Duration::from_secs(3);
    let (topic, group) = (topic(2, 20), unique("killed"));
    let settings = Members::new(shared(), &group, &[&topic])
        .quick()
        .session_timeout(session)
        .commit_interval(Some(Duration::from_millis(100)));
    let mut members = ["a", "b", "c"].map(|name| settings.start(name));
    let owns = |member: &mut MemberProcess| {
        let history = member.history();
        history.owned.iter().filter(|owned| owned.to.is_none()).count()
    };
    let generation = |member: &mut MemberProcess| member.history().rebalances.last().map(|one| one.generation);
    wait_until("two have one each", LONG, || {
        let mut counts = members.each_mut().map(owns);
        counts.sort_unstable();
        let generations = members.each_mut().map(generation);
        counts == [0, 1, 1] && generations.iter().all(|one| one.is_some() && *one == generations[0])
    });
    wait_until("all is committed", LONG, || {
        shared().committed_offsets(&group).values().sum::<i64>() == 40
    });
    let owner = members.iter_mut().position(|member| owns(member) == 1).unwrap();
    let idle = members.iter_mut().position(|member| owns(member) == 0).unwrap();
    let killed_at = now();
    members[owner].kill9();
    let line = members[idle].wait_for_line("it takes over", LONG, |what| matches!(what, What::Assigned { .. }));
    let took = line.at.saturating_sub(killed_at);
    println!("taken over {took:?} after its owner was killed, with a session timeout of {session:?}");
    assert!(took < session + Duration::from_secs(15), "{took:?}");
    shared().fill_from(20, &topic, 2, 20, "none", 10);
    wait_until("all is committed", LONG, || {
        shared().committed_offsets(&group).values().sum::<i64>() == 60
    });
    let histories = [0, 1, 2].map(|index| {
        if index == owner {
            members[index].history()
        } else {
            members[index].stop()
        }
    });
    let checker = Checker::of(histories).wrote((&topic, 0), 30).wrote((&topic, 1), 30);
    checker.all(&shared().committed_offsets(&group), 0).unwrap();
}

/// Waits until the broker knows so many members, and is about to deal out anew.
fn wait_for_members(group: &str, count: usize) {
    wait_until(&format!("{count} members in a rebalance"), LONG, || {
        let (_, state, members) = shared().group(group);
        members.len() == count && state.to_lowercase().contains("preparing")
    });
}

#[test]
fn members_that_come_while_a_rebalance_waits_are_part_of_it() {
    let (topic, group) = (topic(6, 10), unique("merged"));
    let patient = |name: &str| {
        settings(shared(), name, &group, &[&topic])
            .rebalance_timeout(NEVER)
            .revoke_timeout(NEVER / 2)
    };
    let (open, work) = gated();
    let a = Member::join("a", patient("a"), 2, work);
    a.wait_until_begun(1);
    let b = Member::join("b", patient("b"), 1, takes(Duration::ZERO));
    wait_for_members(&group, 2);
    let c = Member::join("c", patient("c"), 1, takes(Duration::ZERO));
    wait_for_members(&group, 3);
    assert!(b.owned().is_empty() && c.owned().is_empty());
    drop(open);
    wait_until("three share", LONG, || is_shared_out(&[&a, &b, &c], 6));
    wait_until("all is finished", LONG, || finished(&[&a, &b, &c]) == 60);
    let generations = [&a, &b, &c].map(|member| {
        let rebalances = member.history().rebalances;
        rebalances.iter().map(|one| one.generation).collect::<Vec<_>>()
    });
    let [first, last] = generations[0][..] else {
        panic!("a was in more than two generations: {generations:?}")
    };
    assert_eq!(last, first + 1);
    assert_eq!(generations[1..], [vec![last], vec![last]]);
    let checker = Checker::of([a, b, c].map(Member::leave));
    let checker = checker.wrote_all(&topic, &(0..6).map(|partition| (partition, 10)).collect());
    checker.all(&shared().committed_offsets(&group), 0).unwrap();
    goes_on_where_it_was_left(&checker);
}

#[test]
fn a_newcomer_that_goes_before_the_rebalance_is_over_leaves_everything_as_it_was() {
    let (topic, group) = (topic(4, 10), unique("visitor"));
    let patient = |name: &str| {
        settings(shared(), name, &group, &[&topic])
            .rebalance_timeout(NEVER)
            .revoke_timeout(NEVER / 2)
    };
    let (open, work) = gated();
    let a = Member::join("a", patient("a"), 1, work);
    a.wait_until_begun(1);
    let b = Member::join("b", patient("b"), 1, takes(Duration::ZERO));
    wait_for_members(&group, 2);
    let begun = Instant::now();
    let b = b.leave();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(b.handled.len(), 0);
    drop(open);
    a.wait_until_owns(4);
    wait_until("all is finished", LONG, || finished(&[&a]) == 40);
    let checker = Checker::of([a.leave(), b]);
    let checker = checker.wrote_all(&topic, &(0..4).map(|partition| (partition, 10)).collect());
    checker.all(&shared().committed_offsets(&group), 0).unwrap();
    goes_on_where_it_was_left(&checker);
}

#[test]
fn a_member_that_closes_while_it_gives_up_its_partitions_keeps_nobody_waiting() {
    let (topic, group) = (topic(2, 10), unique("closing"));
    let patient = |name: &str| {
        settings(shared(), name, &group, &[&topic])
            .rebalance_timeout(NEVER)
            .revoke_timeout(NEVER / 2)
    };
    // It keeps one message for ever, so that giving up waits for it.
    let kept: Arc<Mutex<Option<Message>>> = Arc::default();
    let work = {
        let kept = Arc::clone(&kept);
        move |message: Message, handling: Handling| {
            if (message.partition(), message.offset()) == (0, 4) {
                kept.lock().unwrap().get_or_insert(message);
            } else {
                handling.end();
            }
        }
    };
    let a = Member::join("a", patient("a"), 1, work);
    wait_until("all others are finished", LONG, || finished(&[&a]) == 19);
    let b = Member::join("b", patient("b"), 1, takes(Duration::ZERO));
    wait_for_members(&group, 2);
    wait_until("a gives up", LONG, || {
        a.recorder.count(|what| *what == What::Rebalancing) > 0
    });
    let begun = Instant::now();
    let (report, a) = a.leave_within(Duration::from_secs(60));
    println!("closed after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(report.left_group, "{report:?}");
    assert_eq!(report.unfinished, [((&topic, 0).into(), 4)]);
    assert!(!kept.lock().unwrap().take().unwrap().ack());
    b.wait_until_owns(2);
    // From the message that was kept on.
    wait_until("the rest is finished", LONG, || finished(&[&b]) == 6);
    let checker = Checker::of([a, b.leave()])
        .wrote((&topic, 0), 10)
        .wrote((&topic, 1), 10);
    let committed = shared().committed_offsets(&group);
    checker.all(&committed, 6).unwrap();
    checker.commit_completeness(&committed).unwrap();
}

/// A group waits for whom it has given a member ID, until the end of a session: so the ID must be given back.
#[test]
fn a_member_that_closes_right_after_it_was_opened_holds_nobody_up() {
    let (topic, group) = (topic(2, 10), unique("hasty"));
    let session = Duration::from_secs(45);
    let a = Member::join(
        "a",
        settings(shared(), "a", &group, &[&topic]),
        1,
        takes(Duration::ZERO),
    );
    a.wait_until_owns(2);
    for number in 0..times(30, 200) {
        let name = format!("b{number}");
        let b = settings(shared(), &name, &group, &[&topic]).join().unwrap();
        std::thread::sleep(Duration::from_micros(300 * number as u64 % 9000));
        b.close(LONG).unwrap();
    }
    let begun = Instant::now();
    let c = Member::join(
        "c",
        settings(shared(), "c", &group, &[&topic]),
        1,
        takes(Duration::ZERO),
    );
    wait_until("both have one", LONG, || is_shared_out(&[&a, &c], 2));
    let took = begun.elapsed();
    assert!(took < session * 2 / 3, "shared out after {took:?}");
    wait_until("all is finished", LONG, || finished(&[&a, &c]) == 20);
    let checker = Checker::of([a.leave(), c.leave()])
        .wrote((&topic, 0), 10)
        .wrote((&topic, 1), 10);
    checker.all(&shared().committed_offsets(&group), 0).unwrap();
}

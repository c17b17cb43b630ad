//! n members and one coordinator on virtual time.

mod coordinator;
mod world;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use world::{Weather, World};

#[allow(
    clippy::disallowed_methods,
    reason = "where virtual time begins; nothing else reads the clock"
)]
fn beginning() -> Instant {
    Instant::now()
}

fn config(topics: &[&str]) -> MemberConfig {
    MemberConfig {
        topics: topics.iter().map(|&topic| Arc::from(topic)).collect(),
        instance_id: None,
        session_timeout: Duration::from_secs(10),
        heartbeat_interval: Duration::from_secs(1),
        rebalance_timeout: Duration::from_secs(15),
        assignors: vec![Assignor::Range, Assignor::RoundRobin],
        backoff: Backoff {
            min: Duration::from_millis(100),
            max: Duration::from_secs(1),
        },
        random: 7,
    }
}

// ---- scenarios ----

fn settled(members: usize, counts: &[(&str, i32)]) -> World {
    let topics: Vec<_> = counts.iter().map(|(topic, _)| *topic).collect();
    let mut world = World::new(counts, 1);
    for _ in 0..members {
        world.start(config(&topics));
    }
    world.run(20_000);
    world.assert_settled();
    world
}

#[test]
fn a_first_join_takes_exactly_two_requests() {
    let world = settled(1, &[("t", 4)]);
    assert_eq!(world.nodes[0].count("join"), 2);
    assert_eq!(world.nodes[0].count("sync"), 1);
}

#[test]
fn a_first_join_with_a_name_takes_one_request() {
    let mut world = World::new(&[("t", 4)], 1);
    world.start(MemberConfig {
        instance_id: Some("one".into()),
        ..config(&["t"])
    });
    world.run(5_000);
    world.assert_settled();
    assert_eq!(world.nodes[0].count("join"), 1);
}

#[test]
fn a_slow_member_costs_the_others_one_join_group_each() {
    let mut world = settled(3, &[("t", 6)]);
    let before: Vec<_> = world.nodes.iter().map(|node| node.count("join")).collect();
    world.nodes[0].release_takes = 12_000;
    world.start(config(&["t"]));
    world.run(30_000);
    world.assert_settled();
    for (node, before) in world.nodes.iter().zip(before) {
        assert_eq!((node.count("join"), node.lost), (before + 1, 0));
    }
}

#[test]
fn who_does_not_release_in_time_loses_everything_before_the_group_goes_on() {
    let mut world = settled(2, &[("t", 6)]);
    world.nodes[0].release_takes = 60_000;
    world.start(config(&["t"]));
    world.run(40_000);
    world.assert_settled();
    assert_eq!(world.nodes[0].lost, 1);
}

#[test]
fn a_link_that_breaks_costs_neither_partitions_nor_a_rebalance() {
    let mut world = settled(2, &[("t", 4)]);
    let generation = world.coordinator.generation;
    for node in [0, 1, 0, 0, 1] {
        world.break_links(node);
        world.run(700);
    }
    world.run(10_000);
    world.assert_settled();
    assert_eq!(world.coordinator.generation, generation);
    assert!(world.nodes.iter().all(|node| node.assigned <= 2 && node.lost == 0));
}

#[test]
fn a_link_that_was_closed_while_idle_is_no_trouble_unless_it_always_is() {
    let now = beginning();
    let mut member = Member::new(config(&["t"]), now);
    let idle = || Error::closed("idle connection");
    let outputs = |member: &mut Member| std::iter::from_fn(|| member.poll()).collect::<Vec<_>>();
    outputs(&mut member);
    member.connected(now);
    outputs(&mut member);
    member.idled(idle(), now);
    assert!(matches!(outputs(&mut member)[..], [Output::Connect { at }] if at == now));
    member.connected(now);
    assert!(matches!(outputs(&mut member)[..], [Output::Send { .. }]));
    // Nothing was answered since.
    member.idled(idle(), now);
    assert!(matches!(
        outputs(&mut member)[..],
        [Output::Trouble(_), Output::Connect { at }] if at > now
    ));
}

#[test]
fn what_was_released_as_the_session_ended_is_not_lost() {
    let now = beginning();
    let mut member = Member::new(config(&["t"]), now);
    let outputs = |member: &mut Member| std::iter::from_fn(|| member.poll()).collect::<Vec<_>>();
    let ticket = |member: &mut Member| match outputs(member).pop() {
        Some(Output::Send { ticket, .. }) => ticket,
        other => panic!("{other:?}"),
    };
    member.connected(now);
    let join = Answer::Join {
        code: 0,
        generation: 1,
        protocol: Some("range".into()),
        leader: "other".into(),
        member_id: "me".into(),
        skip_assignment: false,
        members: Vec::new(),
    };
    let joining = ticket(&mut member);
    member.answered(joining, Ok(join), now);
    let syncing = ticket(&mut member);
    let assignment = crate::wire::membership::encode_assignment(&[("t".into(), vec![0])].into());
    member.answered(syncing, Ok(Answer::Sync { code: 0, assignment }), now);
    outputs(&mut member);
    let identity = member.identity().expect("a place").clone();
    member.refused(&identity, 27, now);
    assert!(matches!(outputs(&mut member)[..], [Output::Revoke]));
    let later = member.valid_until().expect("a session");
    member.released(later);
    assert!(
        !outputs(&mut member)
            .iter()
            .any(|output| matches!(output, Output::Lost { .. }))
    );
}

#[test]
fn a_coordinator_that_moves_costs_nothing_if_it_is_back_within_the_session() {
    let mut world = settled(3, &[("t", 4)]);
    let generation = world.coordinator.generation;
    world.move_coordinator(6_000);
    world.run(20_000);
    world.assert_settled();
    assert_eq!(world.coordinator.generation, generation);
    assert!(world.nodes.iter().all(|node| node.lost == 0));
}

#[test]
fn an_outage_beyond_the_session_loses_everything_and_heals_by_itself() {
    let mut world = settled(3, &[("t", 4)]);
    world.move_coordinator(30_000);
    world.run(15_000);
    assert!(world.nodes.iter().all(|node| node.owned.is_none() && node.lost == 1));
    world.run(60_000);
    world.assert_settled();
}

#[test]
fn who_stands_still_for_longer_than_the_session_has_lost_everything_when_it_goes_on() {
    let mut world = settled(2, &[("t", 4)]);
    world.freeze(0, 25_000);
    world.run(20_000);
    assert_eq!(world.nodes[1].owned.as_ref().map(|owned| owned.len()), Some(4));
    world.run(20_000);
    world.assert_settled();
    assert_eq!(world.nodes[0].lost, 1);
}

#[test]
fn a_goodbye_is_noticed_at_once_and_a_crash_after_the_session() {
    let mut world = settled(3, &[("t", 3)]);
    world.leave(2);
    world.run(1_500);
    world.assert_settled();
    world.crash(1);
    world.run(8_000);
    assert_eq!(world.nodes[0].owned.as_ref().map(|owned| owned.len()), Some(2));
    world.run(5_000);
    world.assert_settled();
}

/// The group waits for whom it has named.
#[test]
fn who_leaves_before_the_group_has_named_it_says_goodbye_by_that_name() {
    const MEMBER_ID_REQUIRED: i16 = 79;
    let now = beginning();
    let mut member = Member::new(config(&["t"]), now);
    member.connected(now);
    let sent = |member: &mut Member| {
        let outputs: Vec<Output> = std::iter::from_fn(|| member.poll()).collect();
        outputs.into_iter().find_map(|output| match output {
            Output::Send { ticket, request, .. } => Some((ticket, request)),
            _ => None,
        })
    };
    let (join, _) = sent(&mut member).unwrap();
    member.leave(now);
    assert!(sent(&mut member).is_none(), "there is no name to say goodbye with");
    let named = Answer::Join {
        code: MEMBER_ID_REQUIRED,
        generation: -1,
        protocol: None,
        leader: String::new(),
        member_id: "m".into(),
        skip_assignment: false,
        members: Vec::new(),
    };
    member.answered(join, Ok(named), now);
    let (leave, request) = sent(&mut member).unwrap();
    assert_eq!(request, Request::Leave { member_id: "m".into() });
    member.answered(leave, Ok(Answer::Leave { code: 0 }), now);
    assert!(matches!(member.poll(), Some(Output::Left)));
    assert_eq!(member.timer(), None);
}

#[test]
fn a_member_without_partitions_stays_and_takes_over() {
    let mut world = settled(3, &[("t", 2)]);
    let idle = world
        .nodes
        .iter()
        .position(|node| node.owned.as_ref().is_some_and(|owned| owned.is_empty()));
    let owner = world
        .nodes
        .iter()
        .position(|node| node.owned.as_ref().is_some_and(|owned| !owned.is_empty()));
    world.leave(owner.unwrap());
    world.run(2_000);
    world.assert_settled();
    assert_eq!(world.nodes[idle.unwrap()].owned.as_ref().unwrap().len(), 1);
}

#[test]
fn partitions_that_are_added_are_dealt_out() {
    let mut world = settled(2, &[("t", 2)]);
    world.grow("t", 4);
    world.run(3_000);
    world.assert_settled();
}

#[test]
fn a_topic_that_comes_later_is_dealt_out() {
    let mut world = World::new(&[], 1);
    world.start(config(&["later"]));
    world.start(config(&["later"]));
    world.run(5_000);
    world.assert_settled();
    world.grow("later", 2);
    world.run(5_000);
    world.assert_settled();
}

#[test]
fn a_named_member_that_comes_back_disturbs_nobody() {
    let named = |name: &str| MemberConfig {
        instance_id: Some(name.into()),
        ..config(&["t"])
    };
    let mut world = World::new(&[("t", 4)], 1);
    let first = world.start(named("a"));
    let second = world.start(named("b"));
    world.run(10_000);
    world.assert_settled();
    let (generation, assigned) = (world.coordinator.generation, world.nodes[second].assigned);
    let owned = world.nodes[first].owned.clone();
    world.leave(first);
    world.run(4_000);
    let again = world.start(named("a"));
    world.run(4_000);
    world.assert_settled();
    assert_eq!(
        (world.coordinator.generation, world.nodes[second].assigned),
        (generation, assigned)
    );
    assert_eq!(world.nodes[again].owned, owned);
    // Also when it led the group, it goes on watching the topics.
    world.grow("t", 6);
    world.run(4_000);
    world.assert_settled();
}

#[test]
fn the_older_of_two_members_of_one_name_is_fenced() {
    let named = || MemberConfig {
        instance_id: Some("a".into()),
        ..config(&["t"])
    };
    let mut world = World::new(&[("t", 4)], 1);
    world.start(named());
    world.run(5_000);
    // The program that was forgotten stands still, so that its partitions are not seen to have two owners.
    world.freeze(0, 11_000);
    world.run(10_500);
    world.start(named());
    world.run(5_000);
    world.assert_settled();
    let error = world.nodes[0].failed.as_ref().unwrap().to_string();
    assert!(error.contains("instance_id \"a\""), "{error}");
}

#[test]
fn at_rest_there_are_heartbeats_and_nothing_else() {
    let mut world = settled(2, &[("t", 4)]);
    for node in &mut world.nodes {
        node.sent.clear();
    }
    world.run(60_000);
    for node in &world.nodes {
        assert_eq!(node.sent.len(), node.count("heartbeat"));
        assert!((58..=61).contains(&node.sent.len()), "{}", node.sent.len());
    }
}

#[test]
fn a_coordinator_that_refuses_everything_is_asked_at_the_pace_of_the_backoff() {
    let mut world = World::new(&[("t", 4)], 1);
    world.weather.refused = 100;
    world.start(config(&["t"]));
    world.run(60_000);
    assert!(world.nodes[0].sent.len() < 85, "{}", world.nodes[0].sent.len());
    world.weather = Weather::default();
    world.run(10_000);
    world.assert_settled();
}

// ---- whatever happens ----

#[derive(Debug, Clone)]
enum Fault {
    Start { topics: usize, named: bool },
    Leave(usize),
    Crash(usize),
    Freeze(usize, u64),
    BreakLinks(usize),
    MoveCoordinator(u64),
    Grow(usize, i32),
    SlowRelease(usize, u64),
    Weather(u64, u64, u64, u64),
}

const TOPICS: [&str; 3] = ["a", "b", "c"];
const SUBSCRIPTIONS: [&[&str]; 4] = [&["a"], &["a", "b"], &["b", "c"], &["a", "b", "c"]];

fn faults() -> impl Strategy<Value = Vec<(u64, Fault)>> {
    let node = || 0..8_usize;
    let fault = prop_oneof![
        4 => (0..4_usize, prop::bool::weighted(0.3)).prop_map(|(topics, named)| Fault::Start { topics, named }),
        1 => node().prop_map(Fault::Leave),
        1 => node().prop_map(Fault::Crash),
        2 => (node(), 0..25_000_u64).prop_map(|(node, millis)| Fault::Freeze(node, millis)),
        2 => node().prop_map(Fault::BreakLinks),
        1 => (0..20_000_u64).prop_map(Fault::MoveCoordinator),
        1 => (0..3_usize, 1..7_i32).prop_map(|(topic, count)| Fault::Grow(topic, count)),
        2 => (node(), 0..20_000_u64).prop_map(|(node, millis)| Fault::SlowRelease(node, millis)),
        2 => (0..10_u64, 0..20_u64, 0..20_u64, 0..20_u64).prop_map(|(a, b, c, d)| Fault::Weather(a, b, c, d)),
    ];
    prop::collection::vec((0..6_000_u64, fault), 1..25)
}

/// Timeouts in every relation that the settings allow.
fn timeouts() -> impl Strategy<Value = MemberConfig> {
    (3_000..12_000_u64, 3_000..16_000_u64, 2..8_u64).prop_map(|(session, rebalance, part)| MemberConfig {
        session_timeout: Duration::from_millis(session),
        rebalance_timeout: Duration::from_millis(rebalance),
        heartbeat_interval: Duration::from_millis(session / part),
        ..config(&["a"])
    })
}

fn strike(world: &mut World, fault: Fault, timeouts: &MemberConfig) {
    let count = world.nodes.len();
    match fault {
        Fault::Start { topics, named } => {
            // Never two of one name: the older would have to be fenced at once, and nothing can tell it.
            let instance_id = named.then(|| format!("name-{count}"));
            world.start(MemberConfig {
                topics: SUBSCRIPTIONS[topics].iter().map(|&topic| Arc::from(topic)).collect(),
                instance_id,
                ..timeouts.clone()
            });
        }
        Fault::Leave(node) if node < count => world.leave(node),
        Fault::Crash(node) if node < count => world.crash(node),
        Fault::Freeze(node, millis) if node < count => world.freeze(node, millis),
        Fault::BreakLinks(node) if node < count => world.break_links(node),
        Fault::MoveCoordinator(millis) => world.move_coordinator(millis),
        Fault::Grow(topic, count) => world.grow(TOPICS[topic], count),
        Fault::SlowRelease(node, millis) if node < count => world.nodes[node].release_takes = millis,
        Fault::Weather(lost, late, twice, refused) => {
            world.weather = Weather {
                lost,
                late,
                twice,
                refused,
            };
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    /// The world checks single ownership, order of outputs, heartbeats in time and hot loops after each event.
    #[test]
    fn whatever_happens_nothing_has_two_owners_and_in_the_end_everything_has_one(
        seed in any::<u64>(),
        timeouts in timeouts(),
        faults in faults(),
    ) {
        let mut world = World::new(&[("a", 5), ("b", 2)], seed);
        world.start(MemberConfig { topics: vec![Arc::from("a"), Arc::from("b")], ..timeouts.clone() });
        let moves = faults.iter().any(|(_, fault)| matches!(fault, Fault::MoveCoordinator(_)));
        for (after, fault) in faults {
            world.run(after);
            strike(&mut world, fault, &timeouts);
        }
        world.weather = Weather::default();
        for node in &mut world.nodes {
            node.release_takes = 10;
        }
        // What is still under way, at the latest a frozen program's.
        world.run(25_000);
        world.run(90_000);
        for failed in world.nodes.iter().filter_map(|node| node.failed.as_ref()) {
            // A coordinator that has read an older ID of a named member takes the newer one for the one that is fenced.
            prop_assert!(moves && failed.code() == Some(82), "{}", failed);
        }
        world.assert_settled();
        let generation = world.coordinator.generation;
        world.run(20_000);
        prop_assert_eq!(world.coordinator.generation, generation);
    }
}

//! Whatever clients do, in whatever order.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::testing::*;
use super::*;

/// What a member of a KIP-848 group may do next. Members are known by their number.
#[derive(Debug, Clone)]
enum Act {
    Join(usize),
    /// A heartbeat that tells truly what it has, after it has let go of what it was told to.
    Comply(usize),
    /// A heartbeat without news; it lets go of nothing.
    Dawdle(usize),
    /// Its heartbeat is handled, but it never hears so.
    LoseAnswer(usize),
    Leave(usize),
    Pass(u64),
    Grow,
}

/// A member as it sees itself: it lets go of partitions only when it is told to, or when it is fenced.
#[derive(Debug, Default)]
struct Seen {
    epoch: i32,
    has: Vec<(Uuid, i32)>,
    told: Vec<(Uuid, i32)>,
    /// Its last heartbeat was not answered: the next one says everything, and is told everything.
    is_in_doubt: bool,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => (0..4_usize).prop_map(Act::Join),
        6 => (0..4_usize).prop_map(Act::Comply),
        2 => (0..4_usize).prop_map(Act::Dawdle),
        1 => (0..4_usize).prop_map(Act::LoseAnswer),
        1 => (0..4_usize).prop_map(Act::Leave),
        1 => (1..30_u64).prop_map(Act::Pass),
        1 => Just(Act::Grow),
    ];
    prop::collection::vec(act, 0..80)
}

fn consumer_group(clients: &Clients) -> Option<&ConsumerGroup> {
    match &clients.groups.groups.get(GROUP)?.group {
        Group::Consumer(group) => Some(group),
        Group::Classic(_) => None,
    }
}

fn beat(clients: &mut Clients, seen: &mut BTreeMap<usize, Seen>, member: usize, complies: bool, hears: bool) {
    let Some(state) = seen.get_mut(&member) else { return };
    if complies {
        state.has.clone_from(&state.told);
    }
    let mut request = consumer_request(&member.to_string(), state.epoch).with_topic_partitions(owning(&state.has));
    if state.is_in_doubt {
        request.rebalance_timeout_ms = 60_000;
        request.subscribed_topic_names = consumer_join("", &["orders", "events"]).subscribed_topic_names;
    }
    let response = clients.consumer(&request);
    state.is_in_doubt = !hears;
    if !hears {
        return;
    }
    if response.error_code != 0 {
        // Fenced or forgotten: it abandons all it has.
        seen.remove(&member);
        return;
    }
    state.epoch = response.member_epoch;
    if let Some(told) = assigned(&response) {
        state.told = told;
        // It takes at once what is new, and lets go when it complies.
        let new: Vec<_> = state
            .told
            .iter()
            .filter(|partition| !state.has.contains(partition))
            .copied()
            .collect();
        state.has.extend(new);
    }
}

fn apply(clients: &mut Clients, seen: &mut BTreeMap<usize, Seen>, act: &Act) {
    match *act {
        Act::Join(member) => {
            let response = clients.consumer(&consumer_join(&member.to_string(), &["orders", "events"]));
            let told = assigned(&response).unwrap_or_default();
            seen.insert(
                member,
                Seen {
                    epoch: response.member_epoch,
                    has: told.clone(),
                    told,
                    is_in_doubt: false,
                },
            );
        }
        Act::Comply(member) => beat(clients, seen, member, true, true),
        Act::Dawdle(member) => beat(clients, seen, member, false, true),
        Act::LoseAnswer(member) => beat(clients, seen, member, false, false),
        Act::Leave(member) => {
            clients.consumer(&consumer_request(&member.to_string(), -1));
            seen.remove(&member);
        }
        Act::Pass(seconds) => clients.pass(seconds),
        Act::Grow => {
            let topic = clients.topics.0.get_mut("orders");
            topic.into_iter().for_each(|(_, count)| *count = (*count + 1).min(12));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_has_two_owners(acts in acts()) {
        let mut clients = Clients::new();
        let mut seen = BTreeMap::new();
        let mut epochs = (0, 0);
        for act in &acts {
            apply(&mut clients, &mut seen, act);
            let Some(group) = consumer_group(&clients) else { continue };
            for (partition, owners) in group.owners() {
                prop_assert!(owners.len() == 1, "{partition:?} belongs to {owners:?} after {act:?}");
            }
            let now = group.epochs();
            prop_assert!(now.0 >= epochs.0 && now.1 >= epochs.1 && now.1 <= now.0, "{epochs:?} became {now:?}");
            epochs = now;
        }
    }

    #[test]
    fn members_that_comply_have_everything_in_the_end(acts in acts()) {
        let mut clients = Clients::new();
        let mut seen = BTreeMap::new();
        for act in &acts {
            apply(&mut clients, &mut seen, act);
        }
        // Whoever is silent from now on is removed.
        for _ in 0..12 {
            for member in 0..2 {
                if !seen.contains_key(&member) {
                    apply(&mut clients, &mut seen, &Act::Join(member));
                }
                apply(&mut clients, &mut seen, &Act::Comply(member));
            }
            clients.pass(10);
        }
        let orders = clients.topics.0["orders"].1;
        let group = consumer_group(&clients).expect("two have joined");
        prop_assert_eq!(group.owners().len() as i32, orders + 3);
        prop_assert_eq!(group.state_name(), "Stable");
        let counts: Vec<usize> = (0..2).map(|member| seen[&member].has.len()).collect();
        prop_assert!(counts[0].abs_diff(counts[1]) <= 1, "{:?}", counts);
    }
}

/// What a client of a classic group may do next.
#[derive(Debug, Clone)]
enum Step {
    JoinNew,
    JoinStatic(usize),
    Rejoin(usize),
    Sync(usize),
    Deal(usize),
    Heartbeat(usize),
    Leave(usize),
    Pass(u64),
    Move,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::JoinNew),
        1 => (0..3_usize).prop_map(Step::JoinStatic),
        4 => any::<usize>().prop_map(Step::Rejoin),
        3 => any::<usize>().prop_map(Step::Sync),
        3 => any::<usize>().prop_map(Step::Deal),
        2 => any::<usize>().prop_map(Step::Heartbeat),
        1 => any::<usize>().prop_map(Step::Leave),
        3 => (1..40_u64).prop_map(Step::Pass),
        1 => Just(Step::Move),
    ];
    prop::collection::vec(step, 0..80)
}

/// All that clients have heard and still wait for.
#[derive(Debug, Default)]
struct Heard {
    members: Vec<String>,
    waiting: Vec<Ticket>,
    joined: Vec<JoinGroupResponse>,
    generation: i32,
    coordinator: i32,
}

impl Heard {
    fn member(&self, number: usize) -> String {
        let at = number.checked_rem(self.members.len());
        at.map_or_else(String::new, |at| self.members[at].clone())
    }

    fn joined(&mut self, answer: Answer<JoinGroupResponse>) {
        match answer {
            Answer::Parked(ticket) => self.waiting.push(ticket),
            Answer::Now(response) => {
                if !response.member_id.is_empty() {
                    self.members.push(response.member_id.to_string());
                }
                self.joined.push(response);
            }
        }
    }

    fn synced(&mut self, answer: Answer<SyncGroupResponse>) {
        if let Answer::Parked(ticket) = answer {
            self.waiting.push(ticket);
        }
    }

    fn collect(&mut self, clients: &mut Clients) {
        let mut joined = Vec::new();
        self.waiting.retain(|ticket| match clients.groups.take(*ticket) {
            None => true,
            Some(Response::Join(response)) => {
                joined.push(response);
                false
            }
            Some(Response::Sync(_)) => false,
        });
        self.joined.extend(joined);
    }
}

fn take_step(clients: &mut Clients, heard: &mut Heard, step: &Step) {
    match *step {
        Step::JoinNew => heard.joined(clients.join(9, &join_request(""))),
        Step::JoinStatic(number) => heard.joined(clients.join(9, &static_request(&number.to_string()))),
        Step::Rejoin(number) => heard.joined(clients.rejoin(&heard.member(number))),
        Step::Sync(number) => heard.synced(clients.sync(&heard.member(number), heard.generation)),
        Step::Deal(number) => {
            let Some(at) = number.checked_rem(heard.joined.len()) else {
                return;
            };
            heard.synced(clients.deal(&heard.joined[at]));
        }
        Step::Heartbeat(number) => {
            clients.heartbeat(&heard.member(number), heard.generation);
        }
        Step::Leave(number) => {
            clients.leave(&[(&heard.member(number), None)]);
        }
        Step::Pass(seconds) => clients.pass(seconds),
        Step::Move => {
            heard.coordinator += 1;
            clients.groups.enter(GROUP, (heard.coordinator, 0), clients.now);
        }
    }
    heard.collect(clients);
}

fn classic_generation(clients: &Clients) -> i32 {
    match clients.groups.groups.get(GROUP).map(|entry| &entry.group) {
        Some(Group::Classic(group)) => group.generation,
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generations_grow_and_all_waits_end(delay in 0..5_u64, steps in steps()) {
        let limits = Limits { initial_rebalance_delay: Duration::from_secs(delay), ..Limits::default() };
        let mut clients = Clients::with(limits);
        let mut heard = Heard::default();
        for step in &steps {
            take_step(&mut clients, &mut heard, step);
            let generation = classic_generation(&clients);
            // A generation that was never written is forgotten by the next coordinator.
            let may_fall = matches!(step, Step::Move);
            prop_assert!(may_fall || generation >= heard.generation, "{} after {step:?}", heard.generation);
            heard.generation = generation;
        }
        while let Some(next) = clients.groups.next_timer(GROUP) {
            prop_assert!(next > clients.now, "a timer that has gone off stays");
            clients.now = next;
            clients.groups.tick(GROUP, clients.now);
            heard.collect(&mut clients);
        }
        prop_assert!(heard.waiting.is_empty(), "{:?}", heard.waiting);
        prop_assert_eq!(clients.groups.groups.get(GROUP).map_or("Empty", |entry| entry.group.state_name()), "Empty");
    }
}

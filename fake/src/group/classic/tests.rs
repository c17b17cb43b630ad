use std::time::Duration;

use super::super::testing::*;
use super::super::{Limits, text};
use kafka_protocol::messages::{LeaveGroupRequest, OffsetCommitRequest};
use kafka_protocol::protocol::StrBytes;

fn delayed(seconds: u64) -> Clients {
    Clients::with(Limits {
        initial_rebalance_delay: Duration::from_secs(seconds),
        ..Limits::default()
    })
}

#[test]
fn a_member_is_given_an_id_before_it_may_join() {
    let mut clients = Clients::new();
    let refused = now(clients.join(4, &join_request("")));
    assert_eq!(
        (refused.error_code, refused.generation_id),
        (code::MEMBER_ID_REQUIRED, -1)
    );
    assert!(
        refused.member_id.starts_with("client-"),
        "{}",
        refused.member_id.as_str()
    );
    let joined = now(clients.rejoin(&refused.member_id));
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
}

#[test]
fn before_version_4_it_joins_without_an_id() {
    let joined = now(Clients::new().join(3, &join_request("")));
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
}

#[test]
fn nobody_joins_with_an_id_of_its_own() {
    let mut clients = Clients::new();
    assert_eq!(now(clients.rejoin("mine")).error_code, code::UNKNOWN_MEMBER_ID);
    clients.join_new();
    assert_eq!(now(clients.rejoin("mine")).error_code, code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_second_member_waits_until_the_first_has_joined_again() {
    let mut clients = Clients::new();
    let (first, joined) = clients.join_new();
    now(clients.deal(&now(joined)));
    assert_eq!(clients.heartbeat(&first, 1), 0);
    let (second, answer) = clients.join_new();
    let ticket = parked(answer);
    assert_eq!(clients.heartbeat(&first, 1), code::REBALANCE_IN_PROGRESS);
    assert!(clients.joined(ticket).is_none());
    let led = now(clients.rejoin(&first));
    let followed = clients.joined(ticket).unwrap();
    assert_eq!((led.generation_id, followed.generation_id), (2, 2));
    assert_eq!((led.members.len(), followed.members.len()), (2, 0));
    assert_eq!(followed.leader.as_str(), first);
    let waiting = parked(clients.sync(&second, 2));
    let own = now(clients.deal(&led));
    assert_eq!(own.assignment, first.as_bytes());
    assert_eq!(clients.synced(waiting).unwrap().assignment, second.as_bytes());
}

#[test]
fn an_empty_group_waits_for_more_members_as_long_as_they_come() {
    let mut clients = delayed(3);
    let first = parked(clients.join_new().1);
    clients.pass(2);
    let second = parked(clients.join_new().1);
    clients.pass(1);
    assert!(clients.joined(first).is_none(), "somebody came, so it waits once more");
    clients.pass(3);
    assert_eq!(clients.joined(first).unwrap().members.len(), 2);
    assert_eq!(clients.joined(second).unwrap().generation_id, 1);
}

#[test]
fn it_waits_no_longer_than_a_rebalance_may_take() {
    let mut clients = delayed(3);
    let mut request = join_request("").with_rebalance_timeout_ms(7_000);
    let first = parked(clients.join(3, &request));
    request.rebalance_timeout_ms = 1_000;
    for _ in 0..2 {
        clients.join(3, &request);
        clients.pass(3);
        assert!(clients.joined(first).is_none());
    }
    clients.join(3, &request);
    clients.pass(1);
    assert_eq!(clients.joined(first).unwrap().members.len(), 4);
}

#[test]
fn whoever_does_not_join_again_in_time_is_removed() {
    let mut clients = Clients::new();
    let (first, second, generation) = clients.stable_pair();
    let ticket = parked(clients.rejoin(&first));
    for _ in 0..7 {
        assert_eq!(clients.heartbeat(&second, generation), code::REBALANCE_IN_PROGRESS);
        clients.pass(8);
    }
    assert!(clients.joined(ticket).is_none());
    clients.pass(4);
    let joined = clients.joined(ticket).unwrap();
    assert_eq!((joined.generation_id, joined.members.len()), (generation + 1, 1));
    assert_eq!(clients.heartbeat(&second, generation), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_leader_that_does_not_join_again_is_replaced() {
    let mut clients = Clients::new();
    let (leader, follower, generation) = clients.stable_pair();
    let (_, third) = clients.join_new();
    let waiting = parked(clients.rejoin(&follower));
    for _ in 0..9 {
        clients.heartbeat(&leader, generation);
        clients.pass(7);
    }
    let joined = clients.joined(waiting).unwrap();
    assert_ne!(joined.leader.as_str(), leader);
    let other = clients.joined(parked(third)).unwrap();
    assert_eq!(joined.members.len() + other.members.len(), 2);
}

#[test]
fn silence_for_the_session_timeout_removes_a_member() {
    let mut clients = Clients::new();
    let (leader, follower, generation) = clients.stable_pair();
    clients.pass(6);
    assert_eq!(clients.heartbeat(&leader, generation), 0);
    clients.pass(6);
    assert_eq!(clients.heartbeat(&leader, generation), code::REBALANCE_IN_PROGRESS);
    assert_eq!(clients.heartbeat(&follower, generation), code::UNKNOWN_MEMBER_ID);
    assert_eq!(now(clients.rejoin(&leader)).members.len(), 1);
}

#[test]
fn a_member_that_waits_in_the_broker_needs_no_heartbeats() {
    let mut clients = Clients::new();
    let (leader, follower, generation) = clients.stable_pair();
    let waiting = parked(clients.rejoin(&leader));
    for _ in 0..5 {
        clients.pass(9);
        clients.heartbeat(&follower, generation);
    }
    now(clients.rejoin(&follower));
    assert_eq!(clients.joined(waiting).unwrap().members.len(), 2);
}

#[test]
fn a_new_member_whose_join_takes_five_minutes_is_given_up() {
    let mut clients = delayed(600);
    let request = join_request("").with_rebalance_timeout_ms(900_000);
    let ticket = parked(clients.join(3, &request));
    clients.pass(299);
    assert!(clients.joined(ticket).is_none());
    clients.pass(1);
    assert_eq!(clients.joined(ticket).unwrap().error_code, code::UNKNOWN_MEMBER_ID);
}

#[test]
fn an_id_that_is_not_used_is_forgotten() {
    let mut clients = Clients::new();
    let refused = now(clients.join(9, &join_request("")));
    clients.pass(10);
    assert_eq!(
        now(clients.rejoin(&refused.member_id)).error_code,
        code::UNKNOWN_MEMBER_ID
    );
}

#[test]
fn a_rebalance_waits_for_who_was_given_an_id() {
    let mut clients = Clients::new();
    let (leader, _, _) = clients.stable_pair();
    let promised = now(clients.join(9, &join_request(""))).member_id;
    let waiting = parked(clients.rejoin(&leader));
    clients.leave(&[(&promised, None)]);
    assert!(clients.joined(waiting).is_none(), "the follower is not here yet");
}

#[test]
fn the_protocol_is_one_that_all_know_and_most_prefer() {
    let mut clients = delayed(1);
    let with = |names: &[&str]| join_request("").with_protocols(protocols(names));
    let first = parked(clients.join(3, &with(&["a", "b", "c"])));
    clients.join(3, &with(&["c", "b"]));
    clients.join(3, &with(&["b", "c"]));
    let strange = now(clients.join(3, &with(&["d"])));
    assert_eq!(strange.error_code, code::INCONSISTENT_GROUP_PROTOCOL);
    let other = with(&["b"]).with_protocol_type(StrBytes::from_static_str("connect"));
    assert_eq!(
        now(clients.join(3, &other)).error_code,
        code::INCONSISTENT_GROUP_PROTOCOL
    );
    clients.pass(1);
    clients.pass(1);
    assert_eq!(clients.joined(first).unwrap().protocol_name.as_deref(), Some("b"));
}

#[test]
fn a_protocol_and_a_group_id_are_needed() {
    let mut clients = Clients::new();
    let without = join_request("").with_protocols(Vec::new());
    assert_eq!(
        now(clients.join(9, &without)).error_code,
        code::INCONSISTENT_GROUP_PROTOCOL
    );
    let nameless = join_request("").with_group_id(Default::default());
    assert_eq!(now(clients.join(9, &nameless)).error_code, code::INVALID_GROUP_ID);
    for session in [5_999, 1_800_001] {
        let request = join_request("").with_session_timeout_ms(session);
        assert_eq!(now(clients.join(9, &request)).error_code, code::INVALID_SESSION_TIMEOUT);
    }
}

#[test]
fn a_lost_answer_is_given_again() {
    let mut clients = Clients::new();
    let (leader, joined) = clients.join_new();
    let joined = now(joined);
    let again = now(clients.rejoin(&leader));
    assert_eq!(again, joined);
    now(clients.deal(&joined));
    assert_eq!(now(clients.sync(&leader, 1)).assignment, leader.as_bytes());
}

#[test]
fn a_follower_that_joins_a_stable_group_as_it_was_disturbs_nobody_and_a_leader_everybody() {
    let mut clients = Clients::new();
    let (leader, follower, generation) = clients.stable_pair();
    let again = now(clients.rejoin(&follower));
    assert_eq!(
        (again.generation_id, again.leader.as_str()),
        (generation, leader.as_str())
    );
    assert_eq!(clients.heartbeat(&leader, generation), 0);
    parked(clients.rejoin(&leader));
    assert_eq!(clients.heartbeat(&follower, generation), code::REBALANCE_IN_PROGRESS);
}

#[test]
fn changed_metadata_begins_a_rebalance() {
    let mut clients = Clients::new();
    let (leader, follower, generation) = clients.stable_pair();
    let changed = join_request(&follower).with_protocols(protocols(&["range", "sticky"]));
    parked(clients.join(9, &changed));
    assert_eq!(clients.heartbeat(&leader, generation), code::REBALANCE_IN_PROGRESS);
}

#[test]
fn whoever_waits_for_an_assignment_is_sent_back_when_somebody_joins() {
    let mut clients = Clients::new();
    let (leader, follower, _) = clients.stable_pair();
    parked(clients.rejoin(&leader));
    let generation = now(clients.rejoin(&follower)).generation_id;
    let waiting = parked(clients.sync(&follower, generation));
    clients.join_new();
    assert_eq!(clients.synced(waiting).unwrap().error_code, code::REBALANCE_IN_PROGRESS);
    assert_eq!(
        now(clients.sync(&leader, generation)).error_code,
        code::REBALANCE_IN_PROGRESS
    );
}

#[test]
fn a_leader_that_does_not_deal_out_is_removed_after_the_rebalance_timeout() {
    let mut clients = Clients::new();
    let (leader, follower, _) = clients.stable_pair();
    parked(clients.rejoin(&leader));
    let generation = now(clients.rejoin(&follower)).generation_id;
    let waiting = parked(clients.sync(&follower, generation));
    for _ in 0..12 {
        assert_eq!(clients.heartbeat(&leader, generation), 0);
        clients.pass(5);
    }
    assert_eq!(clients.synced(waiting).unwrap().error_code, code::REBALANCE_IN_PROGRESS);
    assert_eq!(clients.heartbeat(&leader, generation), code::UNKNOWN_MEMBER_ID);
    assert_eq!(now(clients.rejoin(&follower)).leader.as_str(), follower);
}

#[test]
fn sync_and_heartbeat_look_at_member_generation_and_protocol() {
    let mut clients = Clients::new();
    assert_eq!(clients.heartbeat("nobody", 1), code::UNKNOWN_MEMBER_ID);
    assert_eq!(now(clients.sync("nobody", 1)).error_code, code::UNKNOWN_MEMBER_ID);
    let (leader, follower, generation) = clients.stable_pair();
    assert_eq!(clients.heartbeat("nobody", generation), code::UNKNOWN_MEMBER_ID);
    assert_eq!(clients.heartbeat(&leader, generation - 1), code::ILLEGAL_GENERATION);
    assert_eq!(
        now(clients.sync(&follower, generation + 1)).error_code,
        code::ILLEGAL_GENERATION
    );
    let other = sync_request(&follower, generation).with_protocol_name(Some(text("other")));
    assert_eq!(
        now(clients.groups.sync(&other, 5, clients.now)).error_code,
        code::INCONSISTENT_GROUP_PROTOCOL
    );
    let nameless = sync_request(&follower, generation).with_protocol_name(None);
    let said = |clients: &mut Clients, version| now(clients.groups.sync(&nameless, version, clients.now)).error_code;
    assert_eq!(said(&mut clients, 4), 0);
    assert_eq!(said(&mut clients, 5), code::INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn whoever_leaves_is_gone_at_once() {
    let mut clients = Clients::new();
    let (leader, follower, generation) = clients.stable_pair();
    let left = clients.leave(&[(&follower, None), ("nobody", None)]);
    let codes: Vec<i16> = left.members.iter().map(|member| member.error_code).collect();
    assert_eq!((left.error_code, codes), (0, vec![0, code::UNKNOWN_MEMBER_ID]));
    assert_eq!(clients.heartbeat(&leader, generation), code::REBALANCE_IN_PROGRESS);
    assert_eq!(now(clients.rejoin(&leader)).members.len(), 1);
    let alone = LeaveGroupRequest::default()
        .with_group_id(group_id())
        .with_member_id(text(&leader));
    assert_eq!(clients.groups.leave(&alone, 2, clients.now).error_code, 0);
    assert_eq!(
        clients.groups.leave(&alone, 2, clients.now).error_code,
        code::UNKNOWN_MEMBER_ID
    );
    assert_eq!(clients.heartbeat(&leader, generation + 1), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_group_whose_last_member_leaves_is_empty_though_somebody_was_given_an_id() {
    let mut clients = Clients::new();
    let (member_id, joined) = clients.join_new();
    now(joined);
    now(clients.join(9, &join_request("")));
    clients.leave(&[(&member_id, None)]);
    assert_eq!(clients.groups.describe(&group_id(), 6).group_state.as_str(), "Empty");
}

#[test]
fn a_join_that_waits_is_answered_when_its_member_is_removed() {
    let mut clients = Clients::new();
    let (leader, _, _) = clients.stable_pair();
    let waiting = parked(clients.rejoin(&leader));
    clients.leave(&[(&leader, None)]);
    assert_eq!(clients.joined(waiting).unwrap().error_code, code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_join_that_is_sent_again_answers_the_one_before() {
    let mut clients = Clients::new();
    let (leader, _, _) = clients.stable_pair();
    let former = parked(clients.rejoin(&leader));
    parked(clients.rejoin(&leader));
    assert_eq!(clients.joined(former).unwrap().error_code, code::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_group_takes_no_more_members_than_it_may() {
    let mut clients = Clients::with(Limits {
        group_max_size: 2,
        ..Limits::default()
    });
    clients.stable_pair();
    assert_eq!(
        now(clients.join(9, &join_request(""))).error_code,
        code::GROUP_MAX_SIZE_REACHED
    );
}

/// One static member in a stable group of generation 1, which it leads.
fn with_static() -> (Clients, String) {
    let mut clients = Clients::new();
    let joined = now(clients.join(9, &static_request("i")));
    now(clients.deal(&joined));
    assert!(joined.member_id.starts_with("i-"), "{}", joined.member_id.as_str());
    (clients, joined.member_id.to_string())
}

#[test]
fn a_static_member_that_comes_back_keeps_its_assignment_and_fences_its_former_self() {
    let (mut clients, former) = with_static();
    let again = now(clients.join(9, &static_request("i")));
    assert_eq!((again.error_code, again.generation_id), (0, 1));
    assert!(again.skip_assignment);
    assert_eq!(
        (again.leader.clone(), again.members.len()),
        (again.member_id.clone(), 1)
    );
    assert_eq!(now(clients.sync(&again.member_id, 1)).assignment, former.as_bytes());
    let old = join_request(&former).with_group_instance_id(Some(text("i")));
    assert_eq!(now(clients.join(9, &old)).error_code, code::FENCED_INSTANCE_ID);
    let left = clients.leave(&[(&former, Some("i"))]);
    assert_eq!(left.members[0].error_code, code::FENCED_INSTANCE_ID);
    assert_eq!(clients.heartbeat(&former, 1), code::UNKNOWN_MEMBER_ID);
    assert_eq!(clients.heartbeat(&again.member_id, 1), 0);
}

#[test]
fn before_version_9_a_leader_that_comes_back_is_told_that_its_former_self_leads() {
    let (mut clients, former) = with_static();
    let again = now(clients.join(8, &static_request("i")));
    assert_eq!((again.leader.as_str(), again.members.len()), (former.as_str(), 0));
    assert!(!again.skip_assignment);
}

#[test]
fn a_static_member_with_another_protocol_begins_a_rebalance() {
    let (mut clients, _) = with_static();
    let request = static_request("i").with_protocols(protocols(&["sticky", "range"]));
    let joined = now(clients.join(9, &request));
    assert_eq!(
        (joined.generation_id, joined.protocol_name.as_deref()),
        (2, Some("sticky"))
    );
}

#[test]
fn a_static_member_that_waits_is_fenced_when_another_takes_its_place() {
    let mut clients = Clients::new();
    clients.stable_pair();
    let waiting = parked(clients.join(9, &static_request("i")));
    parked(clients.join(9, &static_request("i")));
    assert_eq!(clients.joined(waiting).unwrap().error_code, code::FENCED_INSTANCE_ID);
}

#[test]
fn a_rebalance_does_not_remove_static_members_but_their_session_does() {
    let (mut clients, _) = with_static();
    let (dynamic, answer) = clients.join_new();
    let waiting = parked(answer);
    clients.pass(10);
    let joined = clients.joined(waiting).unwrap();
    assert_eq!((joined.leader.as_str(), joined.members.len()), (dynamic.as_str(), 1));
}

#[test]
fn an_administrator_removes_a_static_member_by_its_name() {
    let (mut clients, member_id) = with_static();
    assert_eq!(
        clients.leave(&[("", Some("j"))]).members[0].error_code,
        code::UNKNOWN_MEMBER_ID
    );
    assert_eq!(clients.leave(&[("", Some("i"))]).members[0].error_code, 0);
    assert_eq!(clients.heartbeat(&member_id, 1), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_new_coordinator_knows_the_last_stable_generation() {
    let mut clients = Clients::new();
    let (leader, follower, generation) = clients.stable_pair();
    clients.groups.enter(GROUP, (1, 0), clients.now);
    let waiting = parked(clients.rejoin(&leader));
    let (newcomer, third) = clients.join_new();
    clients.now += Duration::from_secs(30);
    clients.groups.enter(GROUP, (2, 0), clients.now);
    assert_eq!(clients.joined(waiting).unwrap().error_code, code::NOT_COORDINATOR);
    assert_eq!(clients.joined(parked(third)).unwrap().error_code, code::NOT_COORDINATOR);
    clients.pass(9);
    assert_eq!(clients.heartbeat(&leader, generation), 0);
    assert_eq!(clients.heartbeat(&follower, generation), 0);
    assert_eq!(clients.heartbeat(&newcomer, generation), code::UNKNOWN_MEMBER_ID);
    assert_eq!(now(clients.sync(&follower, generation)).assignment, follower.as_bytes());
}

#[test]
fn commits_look_at_member_generation_and_state() {
    let mut clients = Clients::new();
    let (leader, follower, generation) = clients.stable_pair();
    let of = |member_id: &str, generation| commit_request(member_id, generation, "orders", 1);
    assert_eq!(clients.commit(8, &of(&leader, generation)), 0);
    assert_eq!(
        clients.commit(8, &of(&leader, generation - 1)),
        code::ILLEGAL_GENERATION
    );
    assert_eq!(clients.commit(8, &of("nobody", generation)), code::UNKNOWN_MEMBER_ID);
    assert_eq!(clients.commit(8, &of("", -1)), code::UNKNOWN_MEMBER_ID);
    let fenced: OffsetCommitRequest = of(&leader, generation).with_group_instance_id(Some(text("i")));
    assert_eq!(clients.commit(8, &fenced), code::UNKNOWN_MEMBER_ID);
    let waiting = parked(clients.rejoin(&leader));
    assert_eq!(
        clients.commit(8, &of(&follower, generation)),
        0,
        "a member commits before it joins again"
    );
    now(clients.rejoin(&follower));
    let generation = clients.joined(waiting).unwrap().generation_id;
    assert_eq!(clients.commit(8, &of(&leader, generation)), code::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut clients = Clients::new();
    let (leader, _, generation) = clients.stable_pair();
    for _ in 0..4 {
        assert_eq!(clients.commit(8, &commit_request(&leader, generation, "orders", 1)), 0);
        clients.pass(9);
    }
    assert_ne!(clients.heartbeat(&leader, generation), code::UNKNOWN_MEMBER_ID);
}

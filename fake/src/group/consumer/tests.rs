use std::time::Duration;

use kafka_protocol::messages::ConsumerGroupHeartbeatResponse;
use uuid::Uuid;

use super::super::testing::*;
use super::super::{Limits, text};

const ORDERS: Uuid = Uuid::from_u128(1);
const EVENTS: Uuid = Uuid::from_u128(2);

fn orders(partitions: &[i32]) -> Vec<(Uuid, i32)> {
    partitions.iter().map(|partition| (ORDERS, *partition)).collect()
}

/// A heartbeat without news.
fn beat(clients: &mut Clients, member_id: &str, epoch: i32) -> ConsumerGroupHeartbeatResponse {
    clients.consumer(&consumer_request(member_id, epoch))
}

/// A heartbeat that says what the member has.
fn has(
    clients: &mut Clients,
    member_id: &str,
    epoch: i32,
    partitions: &[(Uuid, i32)],
) -> ConsumerGroupHeartbeatResponse {
    clients.consumer(&consumer_request(member_id, epoch).with_topic_partitions(owning(partitions)))
}

fn join(clients: &mut Clients, member_id: &str, topics: &[&str]) -> ConsumerGroupHeartbeatResponse {
    let response = clients.consumer(&consumer_join(member_id, topics));
    assert_eq!(response.error_code, 0, "{response:?}");
    response
}

/// Members `a` and `b` with two partitions of `orders` each, at epoch 3.
fn pair() -> Clients {
    let mut clients = Clients::new();
    join(&mut clients, "a", &["orders"]);
    join(&mut clients, "b", &["orders"]);
    beat(&mut clients, "a", 2);
    assert_eq!(has(&mut clients, "a", 2, &orders(&[0, 1])).member_epoch, 3);
    assert_eq!(assigned(&beat(&mut clients, "b", 3)).unwrap().len(), 2);
    clients
}

#[test]
fn the_first_member_gets_everything() {
    let mut clients = Clients::new();
    let joined = join(&mut clients, "a", &["orders", "events", "missing"]);
    assert_eq!((joined.member_id.as_deref(), joined.member_epoch), (Some("a"), 2));
    assert_eq!(joined.heartbeat_interval_ms, 5000);
    assert_eq!(assigned(&joined).unwrap().len(), 7);
    let next = beat(&mut clients, "a", 2);
    assert_eq!((next.error_code, next.member_epoch, next.assignment), (0, 2, None));
}

#[test]
fn a_partition_is_given_to_its_new_owner_when_the_former_has_let_go() {
    let mut clients = Clients::new();
    join(&mut clients, "a", &["orders"]);
    let second = join(&mut clients, "b", &["orders"]);
    assert_eq!((second.member_epoch, assigned(&second)), (3, Some(vec![])));
    let told = beat(&mut clients, "a", 2);
    assert_eq!(
        (told.member_epoch, assigned(&told)),
        (2, Some(orders(&[0, 1]))),
        "it keeps its epoch until it is done"
    );
    assert_eq!(assigned(&has(&mut clients, "a", 2, &orders(&[0, 1, 2, 3]))), None);
    assert_eq!(beat(&mut clients, "b", 3).assignment, None);
    let done = has(&mut clients, "a", 2, &orders(&[0, 1]));
    assert_eq!((done.member_epoch, done.assignment), (3, None));
    assert_eq!(assigned(&beat(&mut clients, "b", 3)), Some(orders(&[2, 3])));
}

#[test]
fn a_lost_answer_does_not_fence_its_member() {
    let mut clients = pair();
    assert_eq!(has(&mut clients, "a", 2, &orders(&[0, 1])).error_code, 0);
    assert_eq!(
        has(&mut clients, "a", 2, &orders(&[0, 1, 2])).error_code,
        code::FENCED_MEMBER_EPOCH
    );
    assert_eq!(beat(&mut clients, "a", 2).error_code, code::FENCED_MEMBER_EPOCH);
    assert_eq!(beat(&mut clients, "a", 4).error_code, code::FENCED_MEMBER_EPOCH);
}

#[test]
fn a_member_that_joins_again_is_told_what_it_has() {
    let mut clients = pair();
    let again = join(&mut clients, "a", &["orders"]);
    assert_eq!((again.member_epoch, assigned(&again)), (3, Some(orders(&[0, 1]))));
}

#[test]
fn whoever_leaves_makes_room_at_once() {
    let mut clients = pair();
    let left = beat(&mut clients, "a", -1);
    assert_eq!((left.error_code, left.member_epoch), (0, -1));
    let got = beat(&mut clients, "b", 3);
    assert_eq!((got.member_epoch, assigned(&got)), (4, Some(orders(&[0, 1, 2, 3]))));
    assert_eq!(beat(&mut clients, "a", 3).error_code, code::UNKNOWN_MEMBER_ID);
}

#[test]
fn silence_removes_a_member() {
    let mut clients = pair();
    clients.pass(30);
    beat(&mut clients, "b", 3);
    clients.pass(15);
    assert_eq!(beat(&mut clients, "a", 3).error_code, code::UNKNOWN_MEMBER_ID);
    assert_eq!(assigned(&beat(&mut clients, "b", 3)).unwrap().len(), 4);
}

#[test]
fn a_member_that_does_not_let_go_in_time_is_removed_though_it_is_alive() {
    let mut clients = Clients::new();
    let slow = consumer_join("a", &["orders"]).with_rebalance_timeout_ms(20_000);
    clients.consumer(&slow);
    join(&mut clients, "b", &["orders"]);
    beat(&mut clients, "a", 2);
    for _ in 0..4 {
        assert_eq!(beat(&mut clients, "a", 2).error_code, 0);
        clients.pass(5);
    }
    assert_eq!(beat(&mut clients, "a", 2).error_code, code::UNKNOWN_MEMBER_ID);
    assert_eq!(assigned(&beat(&mut clients, "b", 3)).unwrap().len(), 4);
}

#[test]
fn a_group_is_dealt_out_anew_when_a_topic_grows_comes_or_goes() {
    let mut clients = Clients::new();
    join(&mut clients, "a", &["orders", "new"]);
    clients.topics.0.insert("orders".to_owned(), (ORDERS, 6));
    let grown = beat(&mut clients, "a", 2);
    assert_eq!((grown.member_epoch, assigned(&grown).unwrap().len()), (3, 6));
    clients.topics.0.insert("new".to_owned(), (Uuid::from_u128(9), 1));
    assert_eq!(assigned(&beat(&mut clients, "a", 3)).unwrap().len(), 7);
    clients.topics.0.remove("orders");
    let told = beat(&mut clients, "a", 4);
    assert_eq!((told.member_epoch, assigned(&told).unwrap().len()), (4, 1));
    assert_eq!(has(&mut clients, "a", 4, &[(Uuid::from_u128(9), 0)]).member_epoch, 5);
}

#[test]
fn a_member_may_change_what_it_reads() {
    let mut clients = Clients::new();
    join(&mut clients, "a", &["orders"]);
    let change =
        consumer_request("a", 2).with_subscribed_topic_names(consumer_join("", &["events"]).subscribed_topic_names);
    assert_eq!(assigned(&clients.consumer(&change)), Some(vec![]));
    let changed = has(&mut clients, "a", 2, &[]);
    assert_eq!((changed.member_epoch, assigned(&changed).unwrap().len()), (3, 3));
    assert!(assigned(&changed).unwrap().iter().all(|(topic, _)| *topic == EVENTS));
}

#[test]
fn topics_may_be_named_by_a_pattern() {
    let mut clients = Clients::new();
    let pattern = |pattern: &str| {
        consumer_join("a", &[])
            .with_subscribed_topic_names(None)
            .with_subscribed_topic_regex(Some(text(pattern)))
    };
    let refused = clients.consumer(&pattern("("));
    assert_eq!(refused.error_code, code::INVALID_REGULAR_EXPRESSION);
    assert_eq!(
        clients
            .consumer(&pattern("ord.*"))
            .assignment
            .map(|a| a.topic_partitions.len()),
        Some(1)
    );
    clients.topics.0.insert("ordnance".to_owned(), (Uuid::from_u128(3), 1));
    assert_eq!(assigned(&beat(&mut clients, "a", 2)).unwrap().len(), 5);
}

#[test]
fn most_members_choose_the_assignor() {
    let mut clients = Clients::new();
    let ranged = |member_id| consumer_join(member_id, &["orders", "events"]).with_server_assignor(Some(text("range")));
    clients.consumer(&ranged("a"));
    clients.consumer(&ranged("b"));
    beat(&mut clients, "a", 2);
    let first_of_each = [(ORDERS, 0), (ORDERS, 1), (EVENTS, 0), (EVENTS, 1)];
    assert_eq!(has(&mut clients, "a", 2, &first_of_each).member_epoch, 3);
    assert_eq!(
        assigned(&beat(&mut clients, "b", 3)).unwrap(),
        [(ORDERS, 2), (ORDERS, 3), (EVENTS, 2)]
    );
    let unknown = consumer_join("c", &["orders"]).with_server_assignor(Some(text("sticky")));
    assert_eq!(clients.consumer(&unknown).error_code, code::UNSUPPORTED_ASSIGNOR);
}

#[test]
fn a_static_member_that_comes_back_has_what_it_had() {
    let mut clients = Clients::new();
    let named = |member_id| consumer_join(member_id, &["orders"]).with_instance_id(Some(text("i")));
    let first = clients.consumer(&named("a"));
    assert_eq!(first.member_epoch, 2);
    let refused = clients.consumer(&named("b"));
    assert_eq!(refused.error_code, code::UNRELEASED_INSTANCE_ID);
    let away = consumer_request("a", -2).with_instance_id(Some(text("i")));
    assert_eq!(clients.consumer(&away).member_epoch, -2);
    let back = clients.consumer(&named("b"));
    assert_eq!((back.member_epoch, assigned(&back)), (2, assigned(&first)));
    let former = consumer_request("a", 2).with_instance_id(Some(text("i")));
    assert_eq!(clients.consumer(&former).error_code, code::FENCED_INSTANCE_ID);
    assert_eq!(beat(&mut clients, "a", 2).error_code, code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_static_member_that_stays_away_is_removed() {
    let mut clients = Clients::new();
    clients.consumer(&consumer_join("a", &["orders"]).with_instance_id(Some(text("i"))));
    clients.consumer(&consumer_request("a", -2).with_instance_id(Some(text("i"))));
    clients.pass(45);
    assert_eq!(assigned(&join(&mut clients, "b", &["orders"])).unwrap().len(), 4);
}

#[test]
fn a_heartbeat_that_makes_no_sense_is_refused() {
    let mut clients = Clients::new();
    let mut refused = |request| clients.consumer(&request).error_code;
    assert_eq!(
        refused(consumer_join("", &["orders"])),
        code::INVALID_REQUEST,
        "version 1 wants an ID"
    );
    assert_eq!(
        refused(consumer_join("a", &["orders"]).with_rebalance_timeout_ms(-1)),
        code::INVALID_REQUEST
    );
    assert_eq!(
        refused(consumer_join("a", &["orders"]).with_topic_partitions(None)),
        code::INVALID_REQUEST
    );
    assert_eq!(
        refused(consumer_join("a", &[]).with_subscribed_topic_names(None)),
        code::INVALID_REQUEST
    );
    assert_eq!(
        refused(consumer_join("a", &[]).with_group_id(Default::default())),
        code::INVALID_REQUEST
    );
    assert_eq!(refused(consumer_request("a", -2)), code::INVALID_REQUEST);
    assert_eq!(refused(consumer_request("a", -3)), code::INVALID_REQUEST);
    assert_eq!(refused(consumer_request("a", 2)), code::GROUP_ID_NOT_FOUND);
    assert_eq!(refused(consumer_request("a", -1)), code::GROUP_ID_NOT_FOUND);
}

#[test]
fn in_version_0_the_broker_makes_the_ids() {
    let mut clients = Clients::new();
    let request = consumer_join("", &["orders"]);
    let (now, topics) = (clients.now, &clients.topics);
    let joined = clients.groups.consumer_heartbeat(&caller(0), &request, topics, now);
    assert_eq!((joined.error_code, joined.member_epoch), (0, 2));
    assert!(!joined.member_id.unwrap().is_empty());
}

#[test]
fn a_group_takes_no_more_members_than_it_may() {
    let mut clients = Clients::with(Limits {
        group_max_size: 1,
        ..Limits::default()
    });
    join(&mut clients, "a", &["orders"]);
    assert_eq!(
        clients.consumer(&consumer_join("b", &["orders"])).error_code,
        code::GROUP_MAX_SIZE_REACHED
    );
    assert_eq!(beat(&mut clients, "a", 2).error_code, 0);
}

#[test]
fn the_two_kinds_of_members_do_not_mix_but_follow_each_other() {
    let mut clients = Clients::new();
    let (classic, joined) = clients.join_new();
    now(joined);
    assert_eq!(
        clients.consumer(&consumer_join("a", &["orders"])).error_code,
        code::GROUP_ID_NOT_FOUND
    );
    clients.leave(&[(&classic, None)]);
    assert_eq!(clients.commit(9, &commit_request("", -1, "orders", 7)), 0);
    join(&mut clients, "a", &["orders"]);
    assert_eq!(
        now(clients.join(9, &join_request(""))).error_code,
        code::INCONSISTENT_GROUP_PROTOCOL
    );
    assert_eq!(clients.heartbeat(&classic, 1), code::UNKNOWN_MEMBER_ID);
    beat(&mut clients, "a", -1);
    let (_, joined) = clients.join_new();
    assert_eq!(now(joined).generation_id, 1);
}

#[test]
fn commits_look_at_the_members_epoch() {
    let mut clients = pair();
    let of = |member_id: &str, epoch| commit_request(member_id, epoch, "orders", 1);
    assert_eq!(clients.commit(9, &of("a", 3)), 0);
    assert_eq!(clients.commit(8, &of("a", 3)), code::UNSUPPORTED_VERSION);
    assert_eq!(clients.commit(9, &of("a", 4)), code::STALE_MEMBER_EPOCH);
    assert_eq!(clients.commit(9, &of("nobody", 3)), code::UNKNOWN_MEMBER_ID);
    assert_eq!(clients.commit(9, &of("", -1)), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_commit_of_an_earlier_epoch_counts_for_what_the_member_has_had_since() {
    let mut clients = pair();
    let of = |member_id: &str, epoch| commit_request(member_id, epoch, "orders", 1);
    assert_eq!(
        clients.commit(9, &of("a", 2)),
        0,
        "partition 0 is its own since epoch 2"
    );
    assert_eq!(clients.commit(9, &of("b", 2)), code::STALE_MEMBER_EPOCH);
    beat(&mut clients, "a", -1);
    assert_eq!(beat(&mut clients, "b", 3).member_epoch, 4);
    assert_eq!(
        clients.commit(9, &of("b", 3)),
        code::STALE_MEMBER_EPOCH,
        "partition 0 is its own since epoch 4"
    );
}

#[test]
fn a_new_coordinator_gives_everybody_a_fresh_session() {
    let mut clients = pair();
    clients.groups.enter(GROUP, (1, 0), clients.now);
    clients.now += Duration::from_secs(120);
    clients.groups.enter(GROUP, (2, 0), clients.now);
    assert_eq!(beat(&mut clients, "a", 3).error_code, 0);
    clients.pass(44);
    assert_eq!(beat(&mut clients, "b", 3).error_code, 0);
}

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{GroupId, ListGroupsRequest, OffsetDeleteRequest, OffsetFetchRequest, TopicName};

use super::testing::*;
use super::*;

fn fetch(clients: &Clients, topic: Option<(&str, i32)>) -> Vec<(String, i32, i64)> {
    let topics = topic.map(|(topic, partition)| {
        let topic = OffsetFetchRequestTopics::default().with_name(TopicName(text(topic)));
        vec![topic.with_partition_indexes(vec![partition])]
    });
    let request = OffsetFetchRequestGroup::default()
        .with_group_id(group_id())
        .with_member_epoch(-1)
        .with_topics(topics);
    let response = clients.groups.fetch_group(&request);
    assert_eq!(response.error_code, 0);
    let partitions = response.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|found| (topic.name.to_string(), found.partition_index, found.committed_offset))
    });
    partitions.collect()
}

#[test]
fn offsets_may_be_committed_without_a_group() {
    let mut clients = Clients::new();
    assert_eq!(fetch(&clients, Some(("orders", 0))), [("orders".to_owned(), 0, -1)]);
    assert_eq!(clients.commit(9, &commit_request("", -1, "orders", 5)), 0);
    assert_eq!(fetch(&clients, Some(("orders", 0))), [("orders".to_owned(), 0, 5)]);
    assert_eq!(fetch(&clients, Some(("orders", 1))), [("orders".to_owned(), 1, -1)]);
    assert_eq!(fetch(&clients, None), [("orders".to_owned(), 0, 5)]);
}

#[test]
fn a_member_of_no_group_may_not_commit() {
    let mut clients = Clients::new();
    assert_eq!(
        clients.commit(8, &commit_request("a", 1, "orders", 5)),
        code::ILLEGAL_GENERATION
    );
    assert_eq!(
        clients.commit(9, &commit_request("a", 1, "orders", 5)),
        code::GROUP_ID_NOT_FOUND
    );
    assert!(clients.groups.ids().is_empty());
}

#[test]
fn only_partitions_that_exist_are_committed() {
    let mut clients = Clients::new();
    let mut request = commit_request("", -1, "orders", 5);
    request.topics[0].partitions[0].partition_index = 4;
    assert_eq!(clients.commit(9, &request), 3);
    assert_eq!(clients.commit(9, &commit_request("", -1, "missing", 5)), 3);
}

#[test]
fn too_much_metadata_is_refused_for_its_partition_alone() {
    let mut clients = Clients::new();
    let mut request = commit_request("", -1, "orders", 5);
    let long = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_metadata(Some(text(&"x".repeat(4097))));
    request.topics[0].partitions.push(long);
    let response = clients.groups.commit(&request, 9, &clients.topics, clients.now);
    let codes: Vec<i16> = response.topics[0]
        .partitions
        .iter()
        .map(|partition| partition.error_code)
        .collect();
    assert_eq!(codes, [0, code::OFFSET_METADATA_TOO_LARGE]);
}

#[test]
fn before_version_8_offsets_are_those_of_one_group() {
    let mut clients = Clients::new();
    let mut commit = commit_request("", -1, "orders", 5);
    commit.topics[0].partitions[0].committed_leader_epoch = 3;
    commit.topics[0].partitions[0].committed_metadata = Some(text("here"));
    clients.commit(9, &commit);
    let topic = OffsetFetchRequestTopic::default()
        .with_name(TopicName(text("orders")))
        .with_partition_indexes(vec![0, 1]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id())
        .with_topics(Some(vec![topic]));
    let found = clients.groups.fetch_offsets(&request).topics.remove(0).partitions;
    assert_eq!((found[0].committed_offset, found[0].committed_leader_epoch), (5, 3));
    assert_eq!(found[0].metadata.as_deref(), Some("here"));
    assert_eq!(
        (found[1].committed_offset, found[1].metadata.as_deref()),
        (-1, Some(""))
    );
    let all = clients.groups.fetch_offsets(&request.with_topics(None)).topics;
    assert_eq!(all[0].partitions.len(), 1);
}

#[test]
fn a_member_that_fetches_offsets_has_to_know_its_epoch() {
    let mut clients = Clients::new();
    clients.consumer(&consumer_join("a", &["orders"]));
    let of = |member_id: Option<&str>, epoch| {
        OffsetFetchRequestGroup::default()
            .with_group_id(group_id())
            .with_member_id(member_id.map(text))
            .with_member_epoch(epoch)
            .with_topics(None)
    };
    let code = |request| clients.groups.fetch_group(&request).error_code;
    assert_eq!(code(of(Some("a"), 2)), 0);
    assert_eq!(code(of(None, -1)), 0);
    assert_eq!(code(of(Some("a"), 3)), code::STALE_MEMBER_EPOCH);
    assert_eq!(code(of(Some("b"), 2)), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_topic_takes_its_offsets_along() {
    let mut clients = Clients::new();
    clients.commit(9, &commit_request("", -1, "orders", 5));
    clients.groups.topic_deleted("orders");
    assert_eq!(fetch(&clients, Some(("orders", 0))), [("orders".to_owned(), 0, -1)]);
}

fn delete_offset(clients: &mut Clients, topic: &str) -> (i16, i16) {
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    let request = OffsetDeleteRequest::default()
        .with_group_id(group_id())
        .with_topics(vec![topic]);
    let response = clients.groups.delete_offsets(&request, &clients.topics);
    (
        response.error_code,
        response
            .topics
            .first()
            .map_or(-1, |topic| topic.partitions[0].error_code),
    )
}

#[test]
fn offsets_are_deleted_of_topics_that_nobody_reads() {
    let mut clients = Clients::new();
    assert_eq!(delete_offset(&mut clients, "orders"), (code::GROUP_ID_NOT_FOUND, -1));
    clients.commit(9, &commit_request("", -1, "orders", 5));
    clients.commit(9, &commit_request("", -1, "events", 5));
    clients.consumer(&consumer_join("a", &["orders"]));
    assert_eq!(
        delete_offset(&mut clients, "orders"),
        (0, code::GROUP_SUBSCRIBED_TO_TOPIC)
    );
    assert_eq!(delete_offset(&mut clients, "missing"), (0, 3));
    assert_eq!(delete_offset(&mut clients, "events"), (0, 0));
    assert_eq!(fetch(&clients, None), [("orders".to_owned(), 0, 5)]);
}

#[test]
fn a_group_with_members_is_not_deleted() {
    let mut clients = Clients::new();
    assert_eq!(
        clients.groups.delete(GROUP).unwrap_err().code(),
        code::GROUP_ID_NOT_FOUND
    );
    let (member_id, joined) = clients.join_new();
    now(joined);
    assert_eq!(clients.groups.delete(GROUP).unwrap_err().code(), code::NON_EMPTY_GROUP);
    clients.leave(&[(&member_id, None)]);
    assert!(clients.groups.delete(GROUP).is_ok());
    assert!(clients.groups.ids().is_empty());
}

#[test]
fn a_classic_group_is_described_with_its_payloads_once_it_is_stable() {
    let mut clients = Clients::new();
    assert_eq!(clients.groups.describe(&group_id(), 5).group_state.as_str(), "Dead");
    assert_eq!(
        clients.groups.describe(&group_id(), 6).error_code,
        code::GROUP_ID_NOT_FOUND
    );
    let (leader, joined) = clients.join_new();
    let described = clients.groups.describe(&group_id(), 6);
    assert_eq!(
        (described.group_state.as_str(), described.protocol_data.as_str()),
        ("CompletingRebalance", "")
    );
    now(clients.deal(&now(joined)));
    let described = clients.groups.describe(&group_id(), 6);
    assert_eq!(
        (described.group_state.as_str(), described.protocol_data.as_str()),
        ("Stable", "range")
    );
    assert_eq!(described.members[0].member_assignment, leader.as_bytes());
    assert_eq!(described.members[0].client_host.as_str(), "/127.0.0.1");
    clients.rejoin(&leader);
    clients.leave(&[(&leader, None)]);
    assert_eq!(clients.groups.describe(&group_id(), 6).group_state.as_str(), "Empty");
}

#[test]
fn a_consumer_group_is_described_with_what_its_members_have_and_are_to_have() {
    let mut clients = Clients::new();
    let describe = |clients: &Clients| clients.groups.describe_consumers(&group_id(), &clients.topics, 1);
    assert_eq!(describe(&clients).error_code, code::GROUP_ID_NOT_FOUND);
    clients.consumer(&consumer_join("a", &["orders"]));
    assert_eq!(describe(&clients).group_state.as_str(), "Stable");
    clients.consumer(&consumer_join("b", &["orders"]));
    let described = describe(&clients);
    assert_eq!(
        (described.group_state.as_str(), described.assignor_name.as_str()),
        ("Reconciling", "uniform")
    );
    assert_eq!((described.group_epoch, described.assignment_epoch), (3, 3));
    let first = &described.members[0];
    assert_eq!(first.assignment.topic_partitions[0].partitions, [0, 1, 2, 3]);
    assert_eq!(first.target_assignment.topic_partitions[0].partitions, [0, 1]);
    assert_eq!(
        first.target_assignment.topic_partitions[0].topic_name.as_str(),
        "orders"
    );
    assert_eq!(
        clients.groups.describe(&group_id(), 6).error_code,
        code::GROUP_ID_NOT_FOUND
    );
    clients.consumer(&consumer_request("b", -1));
    assert_eq!(describe(&clients).group_state.as_str(), "Assigning");
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut clients = Clients::new();
    clients.consumer(&consumer_join("a", &["orders"]));
    clients.commit(
        9,
        &commit_request("", -1, "orders", 5).with_group_id(GroupId(text("simple"))),
    );
    let list = |states: &[&str], types: &[&str], is_ours: fn(&str) -> bool| {
        let filter = |names: &[&str]| names.iter().map(|name| text(name)).collect();
        let request = ListGroupsRequest::default()
            .with_states_filter(filter(states))
            .with_types_filter(filter(types));
        let listed = clients.groups.list(&request, is_ours).into_iter();
        let listed =
            listed.map(|group| format!("{} {} {}", group.group_id.as_str(), group.group_state, group.group_type));
        listed.collect::<Vec<_>>()
    };
    let (consumer, simple) = ("g Stable consumer", "simple Empty classic");
    assert_eq!(list(&[], &[], |_| true), [consumer, simple]);
    assert_eq!(list(&["empty"], &[], |_| true), [simple]);
    assert_eq!(list(&[], &["Consumer"], |_| true), [consumer]);
    assert_eq!(list(&["Stable"], &["classic"], |_| true), [""; 0]);
    assert_eq!(list(&[], &[], |group| group == "simple"), [simple]);
}

#[test]
fn an_answer_that_nobody_waits_for_is_not_kept() {
    let mut clients = Clients::new();
    let (leader, _, _) = clients.stable_pair();
    let ticket = parked(clients.rejoin(&leader));
    clients.groups.abandon(ticket);
    clients.pass(100);
    assert!(clients.groups.answered.is_empty());
    assert!(clients.groups.abandoned.is_empty());
}

//! Metadata, topics, configurations.

use kafka_protocol::{
    messages::{
        BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
        DescribeConfigsRequest, MetadataRequest,
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
        create_topics_response::CreatableTopicResult,
        delete_topics_request::DeleteTopicState,
        describe_configs_request::DescribeConfigsResource,
        metadata_request::MetadataRequestTopic,
    },
    protocol::StrBytes,
};
use klamm_fake::FakeCluster;

use crate::raw::{Connection, Records, name};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[test]
fn metadata_tells_brokers_leaders_and_replicas() {
    let builder = FakeCluster::builder().brokers(3).racks(["a", "b"]).topic("t", 4);
    let cluster = builder.cluster_id("c").start().unwrap();
    let answer = Connection::to(&cluster, 2).metadata(&["t"]);
    assert_eq!(answer.cluster_id.as_deref(), Some("c"));
    let ports: Vec<i32> = answer.brokers.iter().map(|broker| broker.port).collect();
    assert_eq!(ports, [1, 2, 3].map(|node| i32::from(cluster.address(node).port())));
    let racks: Vec<_> = answer.brokers.iter().map(|broker| broker.rack.as_deref()).collect();
    assert_eq!(racks, [Some("a"), Some("b"), None]);
    let leaders = answer.topics[0]
        .partitions
        .iter()
        .map(|partition| partition.leader_id.0);
    assert_eq!(leaders.collect::<Vec<_>>(), [1, 2, 3, 1]);
    assert_eq!(answer.topics[0].partitions[1].replica_nodes, [2, 3, 1].map(BrokerId));
}

#[test]
fn every_version_of_metadata_is_answered() {
    let cluster = FakeCluster::builder().topic("t", 2).start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    for version in 0..=13 {
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let answer = connection.ask(&MetadataRequest::default().with_topics(all), version);
        assert_eq!((answer.topics.len(), answer.topics[0].partitions.len()), (1, 2));
    }
    assert!(connection.metadata(&[]).topics.is_empty());
}

#[test]
fn topics_that_are_not_there_are_told_apart() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    let answer = connection.metadata(&["nope", "no such name", "t"]);
    let codes: Vec<i16> = answer.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC, 0]);
    let mut by_id = |id| {
        let topic = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        let answer = connection.ask(&MetadataRequest::default().with_topics(Some(vec![topic])), 12);
        answer.topics[0].error_code
    };
    let id = answer.topics[2].topic_id;
    assert_eq!(by_id(id), 0);
    cluster.delete_topic("t");
    assert_eq!(by_id(id), UNKNOWN_TOPIC_ID);
}

#[test]
fn clusters_have_names_of_their_own() {
    let name = || {
        let cluster = FakeCluster::builder().start().unwrap();
        let answer = Connection::to(&cluster, 1).metadata(&[]);
        (answer.cluster_id.unwrap(), cluster)
    };
    let (first, second) = (name(), name());
    assert_ne!(first.0, second.0);
}

#[test]
fn topics_come_into_being_only_if_both_sides_want_it() {
    let cluster = FakeCluster::builder().auto_create_topics(5).start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    let mut ask = |allow| {
        let topic = MetadataRequestTopic::default().with_name(Some(name("t")));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let answer = connection.ask(&request.with_allow_auto_topic_creation(allow), 9);
        (answer.topics[0].error_code, answer.topics[0].partitions.len())
    };
    assert_eq!(ask(false), (UNKNOWN_TOPIC_OR_PARTITION, 0));
    assert_eq!(ask(true), (0, 5));
}

fn topic(topic: &str, partitions: i32, replication: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(replication)
}

fn assigned(assignment: &[&[i32]]) -> CreatableTopic {
    let assignments = (0..).zip(assignment).map(|(index, brokers)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
    });
    topic("assigned", -1, -1).with_assignments(assignments.collect())
}

fn configured(key: &str, value: &str) -> CreatableTopic {
    let config = CreatableTopicConfig::default()
        .with_name(text(key))
        .with_value(Some(text(value)));
    topic("configured", 1, 1).with_configs(vec![config])
}

fn create(cluster: &FakeCluster, topics: Vec<CreatableTopic>) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest::default().with_topics(topics);
    Connection::to(cluster, 1).ask(&request, 7).topics
}

fn created(cluster: &FakeCluster, topic: CreatableTopic) -> i16 {
    create(cluster, vec![topic])[0].error_code
}

#[test]
fn topics_are_created() {
    let cluster = FakeCluster::builder().brokers(4).start().unwrap();
    let results = create(&cluster, vec![topic("a", 3, 2), topic("b", -1, -1)]);
    let a = &results[0];
    assert_eq!((a.error_code, a.num_partitions, a.replication_factor), (0, 3, 2));
    assert!(!a.topic_id.is_nil());
    assert_eq!(
        (
            results[1].error_code,
            results[1].num_partitions,
            results[1].replication_factor
        ),
        (0, 1, 3)
    );
    let described = Connection::to(&cluster, 1).metadata(&["a"]);
    assert_eq!(described.topics[0].topic_id, a.topic_id);
    assert_eq!(described.topics[0].partitions.len(), 3);
    assert_eq!(created(&cluster, assigned(&[&[2, 3], &[4, 1]])), 0);
    assert_eq!(cluster.leader("assigned", 1), 4);
}

#[test]
fn topics_that_cannot_be_are_refused() {
    let cluster = FakeCluster::builder().brokers(2).topic("a.b", 1).start().unwrap();
    let code = |topic| created(&cluster, topic);
    assert_eq!(code(topic("a.b", 1, 1)), TOPIC_ALREADY_EXISTS);
    assert_eq!(code(topic("a_b", 1, 1)), INVALID_TOPIC);
    assert_eq!(code(topic("a b", 1, 1)), INVALID_TOPIC);
    assert_eq!(code(topic("c", 0, 1)), INVALID_PARTITIONS);
    assert_eq!(code(topic("c", 1, 0)), INVALID_REPLICATION_FACTOR);
    assert_eq!(code(topic("c", 1, 3)), INVALID_REPLICATION_FACTOR);
    assert_eq!(code(assigned(&[&[1, 1]])), INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(code(assigned(&[&[9]])), INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(code(assigned(&[&[]])), INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(code(assigned(&[&[1], &[1, 2]])), INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(code(assigned(&[&[1]]).with_num_partitions(1)), INVALID_REQUEST);
    assert_eq!(code(configured("nonsense", "1")), INVALID_CONFIG);
    assert_eq!(code(configured("retention.ms", "soon")), INVALID_CONFIG);
    let twice = create(&cluster, vec![topic("c", 1, 1), topic("c", 1, 1)]);
    assert!(twice.iter().all(|result| result.error_code == INVALID_REQUEST));
}

#[test]
fn validating_creates_nothing() {
    let cluster = FakeCluster::builder().start().unwrap();
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic("t", 1, 1)])
        .with_validate_only(true);
    let mut connection = Connection::to(&cluster, 1);
    assert_eq!(connection.ask(&request, 7).topics[0].error_code, 0);
    assert_eq!(
        connection.metadata(&["t"]).topics[0].error_code,
        UNKNOWN_TOPIC_OR_PARTITION
    );
}

#[test]
fn settings_of_a_topic_are_kept_and_followed() {
    let cluster = FakeCluster::builder().start().unwrap();
    assert_eq!(
        created(&cluster, configured("message.timestamp.type", "LogAppendTime")),
        0
    );
    let mut connection = Connection::to(&cluster, 1);
    let written = connection.produce("configured", 0, Records::default().batch());
    assert!(written.log_append_time_ms > 1_000_000_000_000);
    let batch = &cluster.batches("configured", 0)[0];
    assert_eq!(batch[35..43], written.log_append_time_ms.to_be_bytes());
    assert_eq!(batch[22] & 8, 8);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("configured"))
        .with_configuration_keys(Some(vec![text("message.timestamp.type"), text("retention.ms")]));
    let answer = connection.ask(&DescribeConfigsRequest::default().with_resources(vec![resource]), 4);
    let configs = answer.results[0].configs.iter();
    let configs: Vec<_> = configs
        .map(|config| (config.value.as_deref(), config.config_source))
        .collect();
    assert_eq!(configs, [(Some("LogAppendTime"), 1), (Some("604800000"), 5)]);
}

#[test]
fn settings_of_what_is_not_there_are_refused() {
    let cluster = FakeCluster::builder().start().unwrap();
    let code = |kind, name: &str| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        Connection::to(&cluster, 1).ask(&request, 1).results[0].error_code
    };
    assert_eq!(code(2, "nope"), UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(4, "1"), 0);
    assert_eq!(code(4, "2"), INVALID_REQUEST);
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let cluster = FakeCluster::builder().topic("a", 1).topic("b", 1).start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    let id = connection.metadata(&["b"]).topics[0].topic_id;
    let by_name = DeleteTopicsRequest::default().with_topic_names(vec![name("a"), name("nope")]);
    let answer = connection.ask(&by_name, 3);
    let codes: Vec<i16> = answer.responses.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [0, UNKNOWN_TOPIC_OR_PARTITION]);
    let state = DeleteTopicState::default().with_name(None).with_topic_id(id);
    let by_id = DeleteTopicsRequest::default().with_topics(vec![state]);
    assert_eq!(connection.ask(&by_id, 6).responses[0].name, Some(name("b")));
    assert_eq!(connection.ask(&by_id, 6).responses[0].error_code, UNKNOWN_TOPIC_ID);
    let all = connection.ask(&MetadataRequest::default().with_topics(None), 12);
    assert!(all.topics.is_empty());
}

#[test]
fn topics_only_grow() {
    let cluster = FakeCluster::builder().topic("t", 2).start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    let mut grow = |topic: &str, count| {
        let topic = CreatePartitionsTopic::default()
            .with_name(name(topic))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
        connection.ask(&request, 3).results[0].error_code
    };
    assert_eq!(grow("t", 2), INVALID_PARTITIONS);
    assert_eq!(grow("t", 1), INVALID_PARTITIONS);
    assert_eq!(grow("nope", 3), UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(grow("t", 5), 0);
    assert_eq!(connection.metadata(&["t"]).topics[0].partitions.len(), 5);
}

#[test]
fn a_cluster_describes_itself() {
    let cluster = FakeCluster::builder().brokers(2).cluster_id("c").start().unwrap();
    cluster.crash(1);
    let ask = |fenced| {
        let request = DescribeClusterRequest::default()
            .with_endpoint_type(1)
            .with_include_fenced_brokers(fenced);
        Connection::to(&cluster, 2).ask(&request, 2)
    };
    let answer = ask(false);
    assert_eq!(
        (&*answer.cluster_id, answer.controller_id.0, answer.brokers.len()),
        ("c", 2, 1)
    );
    assert!(ask(true).brokers[0].is_fenced);
}

//! Each API in each version that klamm and the broker have.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        consumer_group_heartbeat_request::TopicPartitions, create_partitions_request::CreatePartitionsTopic,
        create_topics_request::CreatableTopic, delete_records_request::*, delete_topics_request::DeleteTopicState,
        describe_configs_request::DescribeConfigsResource, incremental_alter_configs_request::*,
        join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity, list_offsets_request::*,
        metadata_request::MetadataRequestTopic, offset_commit_request::*, offset_delete_request::*,
        offset_fetch_request::*, offset_for_leader_epoch_request::*, produce_request::*,
        sync_group_request::SyncGroupRequestAssignment, *,
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use klamm::internals::{
    BatchEncoder,
    fuzzed::{Answers, answers},
};

pub(super) struct Asking {
    broker: SocketAddr,
    folder: PathBuf,
    offered: HashMap<i16, (i16, i16)>,
}

impl Asking {
    pub(super) fn new(broker: SocketAddr, folder: PathBuf) -> Self {
        let mut asking = Self {
            broker,
            folder,
            offered: HashMap::new(),
        };
        let versions = asking.ask(&ApiVersionsRequest::default(), 0).expect("an answer");
        let offered = versions.api_keys.iter();
        asking.offered = offered
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        asking
    }

    pub(super) fn versions<R: Request>(&self) -> RangeInclusive<i16> {
        let ours = ours(R::KEY);
        let (first, last) = self.offered.get(&R::KEY).copied().unwrap_or((0, -1));
        first.max(ours.first)..=last.min(ours.last)
    }

    pub(super) fn ask<R: Request>(&self, request: &R, version: i16) -> Option<R::Response> {
        self.exchange(request, version).map(|(_, answer)| answer)
    }

    /// Nothing is asked where the version cannot carry the request.
    pub(super) fn record<R: Request>(&self, what: &str, version: i16, request: &R) -> Option<R::Response> {
        let (frame, answer) = self.exchange(request, version)?;
        let key = u8::try_from(R::KEY).expect("a small key");
        let version = u8::try_from(version).expect("a small version");
        let name = format!("{}-v{version:02}{what}", in_small_letters(ours(R::KEY).name));
        let bytes = [&[key, version], &frame[..]].concat();
        fs::write(self.folder.join(name), bytes).expect("a file");
        Some(answer)
    }

    fn all<R: Request>(&self, what: &str, request: impl Fn(i16) -> R) {
        let recorded = self
            .versions::<R>()
            .filter(|&version| self.record(what, version, &request(version)).is_some());
        assert!(recorded.count() > 0, "no version of {} carries that", ours(R::KEY).name);
    }

    fn exchange<R: Request>(&self, request: &R, version: i16) -> Option<(Vec<u8>, R::Response)> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(StrBytes::from_static_str("recorder")));
        let mut out = BytesMut::new();
        header.encode(&mut out, R::header_version(version)).expect("a header");
        request.encode(&mut out, version).ok()?;
        let limit = Some(Duration::from_secs(30));
        let mut stream = TcpStream::connect(self.broker).expect("the broker listens");
        stream.set_read_timeout(limit).expect("a socket");
        stream.write_all(&(out.len() as u32).to_be_bytes()).expect("a socket");
        stream.write_all(&out).expect("a socket");
        let mut length = [0; 4];
        let read = stream.read_exact(&mut length);
        read.unwrap_or_else(|error| panic!("{} v{version}: {error}", ours(R::KEY).name));
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame).expect("an answer");
        let mut body = Bytes::from(frame.clone());
        ResponseHeader::decode(&mut body, R::Response::header_version(version)).expect("a header");
        let answer = R::Response::decode(&mut body, version).expect("an answer");
        assert!(!body.has_remaining());
        Some((frame, answer))
    }

    /// What needs no membership.
    pub(super) fn everything(&self, topic: &'static str) {
        let known = || topic_name(topic);
        self.all("", |_| ApiVersionsRequest::default());
        let asked = || MetadataRequestTopic::default().with_name(Some(known()));
        self.all("", |_| MetadataRequest::default().with_topics(Some(vec![asked()])));
        let nobody = MetadataRequestTopic::default().with_name(Some(topic_name("nobody")));
        self.all("-unknown", |_| {
            MetadataRequest::default()
                .with_allow_auto_topic_creation(false)
                .with_topics(Some(vec![nobody.clone()]))
        });
        self.produce(topic);
        let at = |index, timestamp| {
            ListOffsetsPartition::default()
                .with_partition_index(index)
                .with_timestamp(timestamp)
        };
        self.all("", |_| {
            let topic = ListOffsetsTopic::default().with_name(known());
            ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_topics(vec![topic.with_partitions(vec![at(0, -1), at(9, -2)])])
        });
        self.all("", |_| {
            let partition = OffsetForLeaderPartition::default().with_leader_epoch(0);
            let topic = OffsetForLeaderTopic::default().with_topic(known());
            OffsetForLeaderEpochRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_topics(vec![topic.with_partitions(vec![partition])])
        });
        self.all("", |_| {
            InitProducerIdRequest::default().with_transaction_timeout_ms(1000)
        });
        self.all("", |version| {
            let key = text("billing");
            match version {
                4.. => FindCoordinatorRequest::default().with_coordinator_keys(vec![key]),
                _ => FindCoordinatorRequest::default().with_key(key),
            }
        });
        self.all("", |_| SaslHandshakeRequest::default().with_mechanism(text("PLAIN")));
        self.all("", |_| {
            SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"\0me\0secret"))
        });
        self.all("", |_| DescribeClusterRequest::default());
        self.upkeep(topic);
    }

    fn produce(&self, topic: &'static str) {
        let metadata = MetadataRequest::default().with_topics(Some(vec![
            MetadataRequestTopic::default().with_name(Some(topic_name(topic))),
        ]));
        let id = self.ask(&metadata, 12).expect("metadata").topics[0].topic_id;
        let mut encoder = BatchEncoder::new("none").expect("no codec");
        let batch = encoder.write(Vec::new(), 0, &[b"a".to_vec(), b"b".to_vec()], &[]);
        let batch = Bytes::from(batch.expect("a small batch"));
        let request = |version: i16, index: i32, records: Bytes| {
            let partition = PartitionProduceData::default()
                .with_index(index)
                .with_records(Some(records));
            let data = TopicProduceData::default().with_partition_data(vec![partition]);
            let data = match version {
                13.. => data.with_topic_id(id),
                _ => data.with_name(topic_name(topic)),
            };
            ProduceRequest::default()
                .with_acks(-1)
                .with_timeout_ms(10_000)
                .with_topic_data(vec![data])
        };
        self.all("", |version| request(version, 0, batch.clone()));
        self.all("-unknown", |version| request(version, 9, batch.clone()));
        // Two records with one offset.
        let mut broken = batch.to_vec();
        broken[26] = 0;
        let checksum = crc32c::crc32c(&broken[21..]);
        broken[17..21].copy_from_slice(&checksum.to_be_bytes());
        self.all("-refused", |version| request(version, 0, Bytes::from(broken.clone())));
    }

    fn upkeep(&self, topic: &'static str) {
        let new = |version: i16| format!("made-{version}");
        self.all("", |version| {
            let topic = |name: String| {
                CreatableTopic::default()
                    .with_name(TopicName(text(name)))
                    .with_num_partitions(1)
                    .with_replication_factor(1)
            };
            CreateTopicsRequest::default()
                .with_timeout_ms(10_000)
                .with_topics(vec![topic(new(version)), topic("no/name".to_owned())])
        });
        self.all("", |version| {
            let topic = |name: TopicName| CreatePartitionsTopic::default().with_name(name).with_count(2);
            let topics = vec![topic(TopicName(text(new(version + 2)))), topic(topic_name("nobody"))];
            let topics = topics.into_iter().map(|topic| topic.with_assignments(None));
            CreatePartitionsRequest::default()
                .with_timeout_ms(10_000)
                .with_topics(topics.collect())
        });
        self.all("", |version| {
            let names = vec![TopicName(text(new(version.max(2)))), topic_name("nobody")];
            let request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
            match version {
                6.. => {
                    let topics = names
                        .into_iter()
                        .map(|name| DeleteTopicState::default().with_name(Some(name)));
                    request.with_topics(topics.collect())
                }
                _ => request.with_topic_names(names),
            }
        });
        self.all("", |_| {
            let partition = |index| {
                DeleteRecordsPartition::default()
                    .with_partition_index(index)
                    .with_offset(1)
            };
            let topic = DeleteRecordsTopic::default().with_name(topic_name(topic));
            DeleteRecordsRequest::default()
                .with_timeout_ms(10_000)
                .with_topics(vec![topic.with_partitions(vec![partition(0), partition(9)])])
        });
        let kind = 2_i8;
        self.all("", |_| {
            let resource = DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(topic))
                .with_configuration_keys(Some(vec![text("retention.ms"), text("cleanup.policy")]));
            DescribeConfigsRequest::default()
                .with_include_synonyms(true)
                .with_resources(vec![resource])
        });
        self.all("", |_| {
            let config = AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("-2")));
            let resource = AlterConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(topic));
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])])
        });
    }

    /// Joined, synced, committed and gone, in each version.
    pub(super) fn lives_of_members(&self, topic: &'static str) {
        let newest = *self.versions::<JoinGroupRequest>().end();
        for version in self.versions::<JoinGroupRequest>() {
            let group = GroupId(text(format!("life-{version}")));
            let (member, generation) = self.joins(&group, topic, version);
            if version == newest {
                self.lives(&group, &member, generation, topic);
            }
            let leave = LeaveGroupRequest::default().with_group_id(group.clone());
            let at = clipped(version, self.versions::<LeaveGroupRequest>());
            let who = MemberIdentity::default().with_member_id(member.clone());
            let leave = match at {
                3.. => leave.with_members(vec![who, MemberIdentity::default().with_member_id(text("nobody"))]),
                _ => leave.with_member_id(member),
            };
            self.record("", at, &leave);
        }
        let groups = || vec![GroupId(text(format!("life-{newest}"))), GroupId(text("nobody"))];
        self.all("", |_| {
            let partition = OffsetDeleteRequestPartition::default();
            let topic = OffsetDeleteRequestTopic::default().with_name(topic_name(topic));
            OffsetDeleteRequest::default()
                .with_group_id(groups().remove(0))
                .with_topics(vec![topic.with_partitions(vec![partition])])
        });
        self.all("", |_| DeleteGroupsRequest::default().with_groups_names(groups()));
        self.modern_life(topic);
    }

    fn joins(&self, group: &GroupId, topic: &'static str, version: i16) -> (StrBytes, i32) {
        let subscription = ConsumerProtocolSubscription::default().with_topics(vec![text(topic)]);
        let mut metadata = BytesMut::from(&1_i16.to_be_bytes()[..]);
        subscription.encode(&mut metadata, 1).expect("a subscription");
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(metadata.freeze());
        let join = JoinGroupRequest::default()
            .with_group_id(group.clone())
            .with_session_timeout_ms(30_000)
            .with_rebalance_timeout_ms(if version == 0 { -1 } else { 30_000 })
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let mut joined = self.record("", version, &join).expect("an answer");
        if joined.error_code == 79 {
            let named = join.with_member_id(joined.member_id.clone());
            fs::rename(self.joined(version, ""), self.joined(version, "-named")).expect("a file");
            joined = self.record("", version, &named).expect("an answer");
        }
        assert_eq!(joined.error_code, 0);
        let mut assignment = BytesMut::from(&1_i16.to_be_bytes()[..]);
        let ours = consumer_protocol_assignment::TopicPartition::default()
            .with_topic(topic_name(topic))
            .with_partitions(vec![0]);
        ConsumerProtocolAssignment::default()
            .with_assigned_partitions(vec![ours])
            .encode(&mut assignment, 1)
            .expect("an assignment");
        let at = clipped(version, self.versions::<SyncGroupRequest>());
        let given = SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment(assignment.freeze());
        let sync = SyncGroupRequest::default()
            .with_group_id(group.clone())
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![given]);
        let sync = match at {
            5.. => sync
                .with_protocol_type(Some(text("consumer")))
                .with_protocol_name(Some(text("range"))),
            _ => sync,
        };
        assert_eq!(self.record("", at, &sync).expect("an answer").error_code, 0);
        (joined.member_id, joined.generation_id)
    }

    fn joined(&self, version: i16, what: &str) -> PathBuf {
        self.folder.join(format!("join-group-v{version:02}{what}"))
    }

    fn lives(&self, group: &GroupId, member: &StrBytes, generation: i32, topic: &'static str) {
        self.all("", |_| {
            HeartbeatRequest::default()
                .with_group_id(group.clone())
                .with_generation_id(generation)
                .with_member_id(member.clone())
        });
        self.all("", |_| {
            let partition = |index| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(3)
                    .with_committed_metadata(Some(text("")))
            };
            let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic));
            OffsetCommitRequest::default()
                .with_group_id(group.clone())
                .with_generation_id_or_member_epoch(generation)
                .with_member_id(member.clone())
                .with_topics(vec![topic.with_partitions(vec![partition(0), partition(9)])])
        });
        self.all("", |version| {
            if version < 8 {
                let topic = OffsetFetchRequestTopic::default().with_name(topic_name(topic));
                return OffsetFetchRequest::default()
                    .with_group_id(group.clone())
                    .with_topics(Some(vec![topic.with_partition_indexes(vec![0, 9])]));
            }
            let topic = OffsetFetchRequestTopics::default().with_name(topic_name(topic));
            let asked = OffsetFetchRequestGroup::default()
                .with_group_id(group.clone())
                .with_topics(Some(vec![topic.with_partition_indexes(vec![0, 9])]));
            OffsetFetchRequest::default().with_groups(vec![asked])
        });
        self.all("", |_| {
            DescribeGroupsRequest::default().with_groups(vec![group.clone()])
        });
        self.all("", |_| ListGroupsRequest::default());
    }

    /// By the newer protocol.
    fn modern_life(&self, topic: &'static str) {
        let group = || GroupId(text("modern"));
        self.all("", |version| {
            let request = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(group())
                .with_member_id(text(format!("member-{version}")))
                .with_rebalance_timeout_ms(30_000)
                .with_subscribed_topic_names(Some(vec![topic_name(topic)]))
                .with_topic_partitions(Some(Vec::<TopicPartitions>::new()));
            request.with_member_epoch(0)
        });
        self.all("", |_| {
            ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()])
        });
    }
}

fn ours(key: i16) -> Answers {
    *answers()
        .iter()
        .find(|answers| answers.key == key)
        .expect("an API that klamm speaks")
}

fn clipped(version: i16, to: RangeInclusive<i16>) -> i16 {
    version.clamp(*to.start(), *to.end())
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn topic_name(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

/// ListOffsets: list-offsets.
fn in_small_letters(name: &str) -> String {
    let mut small = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !small.is_empty() {
            small.push('-');
        }
        small.extend(letter.to_lowercase());
    }
    small
}

use super::*;
use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{create_topics_response::*, describe_configs_response::*, join_group_response::*, *},
    protocol::{Decodable, Encodable, Message, Request, StrBytes, VersionRange},
};
use proptest::{collection::vec, prelude::*};

/// What `kafka-protocol` can do with the answers of one API.
struct Api {
    name: &'static str,
    key: i16,
    versions: VersionRange,
    default: fn(i16) -> Result<Bytes, String>,
    decode: fn(&[u8], i16) -> Result<Decoded, String>,
}

struct Decoded {
    left: usize,
    encoded_again: Bytes,
}

impl Api {
    fn versions(&self) -> impl Iterator<Item = i16> + use<> {
        self.versions.min..=self.versions.max
    }
}

fn encode(answer: &impl Encodable, version: i16) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, version).map_err(|why| why.to_string())?;
    Ok(bytes.freeze())
}

fn api<R: Request<Response: Default>>(name: &'static str) -> Api {
    Api {
        name,
        key: R::KEY,
        versions: R::Response::VERSIONS,
        default: |version| encode(&R::Response::default(), version),
        decode: |body, version| {
            let mut body = Bytes::copy_from_slice(body);
            let answer = R::Response::decode(&mut body, version).map_err(|why| why.to_string())?;
            let encoded_again = encode(&answer, version)?;
            Ok(Decoded {
                left: body.len(),
                encoded_again,
            })
        },
    }
}

macro_rules! apis {
    ($($request:ident)*) => { vec![$(api::<$request>(stringify!($request))),*] };
}

fn apis() -> Vec<Api> {
    apis![
        AddOffsetsToTxnRequest AddPartitionsToTxnRequest ApiVersionsRequest ConsumerGroupDescribeRequest
        ConsumerGroupHeartbeatRequest CreatePartitionsRequest CreateTopicsRequest DeleteGroupsRequest
        DeleteRecordsRequest DeleteTopicsRequest DescribeClusterRequest DescribeConfigsRequest DescribeGroupsRequest
        DescribeTopicPartitionsRequest EndTxnRequest FetchRequest FindCoordinatorRequest HeartbeatRequest
        IncrementalAlterConfigsRequest InitProducerIdRequest JoinGroupRequest LeaveGroupRequest ListGroupsRequest
        ListOffsetsRequest MetadataRequest OffsetCommitRequest OffsetDeleteRequest OffsetFetchRequest
        OffsetForLeaderEpochRequest ProduceRequest SaslAuthenticateRequest SaslHandshakeRequest SyncGroupRequest
        TxnOffsetCommitRequest
    ]
}

/// Makes answers up from the table, as a broker would write them.
struct Sample {
    bytes: Vec<u8>,
    version: i16,
    flexible: bool,
    seed: u64,
    /// How often there is null, where there may be.
    nulls: u64,
}

impl Sample {
    fn of(api_key: i16, version: i16, seed: u64) -> Vec<u8> {
        let layout = find(api_key, version).expect("in the table");
        let flexible = layout.flexible.contain(version);
        let mut sample = Self {
            bytes: Vec::new(),
            version,
            flexible,
            seed,
            nulls: seed % 3,
        };
        sample.fields(layout.fields);
        sample.bytes
    }

    fn fields(&mut self, fields: &'static [Field]) {
        let mut tagged = Vec::new();
        let version = self.version;
        for field in fields.iter().filter(|field| field.versions.contain(version)) {
            match field.tag {
                None => self.value(field.kind, field.nullable.contain(self.version), 0),
                Some(tag) => tagged.push((tag, field.kind)),
            }
        }
        if !self.flexible {
            return;
        }
        tagged.retain(|_| self.random(4) != 0);
        let unknown = self.random(2) as usize;
        self.uvarint(tagged.len() + unknown);
        for (tag, kind) in tagged {
            self.uvarint(tag as usize);
            let outer = std::mem::take(&mut self.bytes);
            self.value(kind, false, 1);
            let content = std::mem::replace(&mut self.bytes, outer);
            self.uvarint(content.len());
            self.bytes.extend(content);
        }
        if unknown == 1 {
            self.uvarint(70_000);
            self.length(Kind::Bytes, 3, 0);
            self.bytes.extend([9; 3]);
        }
    }

    fn value(&mut self, kind: Kind, nullable: bool, fewest: usize) {
        let null = nullable && self.random(4) < self.nulls;
        match kind {
            Kind::Struct(fields) => {
                if nullable {
                    self.bytes.push(if null { 0xff } else { 1 });
                }
                if !null {
                    self.fields(fields);
                }
            }
            Kind::Fixed(size) => {
                // A boolean is written as 1, and a tagged field that has its default is not written at all.
                self.bytes.extend((0..size).map(|_| 1));
                let last = self.bytes.len() - 1;
                self.bytes[last] += if size > 1 { self.random(200) as u8 } else { 0 };
            }
            _ if null && self.flexible => self.bytes.push(0),
            Kind::String if null => self.bytes.extend([0xff; 2]),
            _ if null => self.bytes.extend([0xff; 4]),
            Kind::String | Kind::Bytes => {
                let size = self.random(200) as usize;
                self.length(kind, size, 1);
                self.bytes.extend((0..size).map(|_| b'x'));
            }
            Kind::Array(element) => {
                let count = fewest + self.random(3) as usize;
                self.length(kind, count, 1);
                (0..count).for_each(|_| self.value(*element, false, 0));
            }
        }
    }

    fn length(&mut self, kind: Kind, length: usize, more: usize) {
        match kind {
            _ if self.flexible => self.uvarint(length + more),
            Kind::String => self.bytes.extend((length as i16).to_be_bytes()),
            _ => self.bytes.extend((length as i32).to_be_bytes()),
        }
    }

    fn uvarint(&mut self, mut value: usize) {
        while value > 0x7f {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }
}

/// No cut of it passes, nor does it with one byte more.
fn is_exactly_as_long_as_it_says(name: &str, api_key: i16, version: i16, body: &[u8]) {
    assert_eq!(check(api_key, version, body), Ok(()), "{name} v{version}: {body:?}");
    for length in 0..body.len() {
        assert!(
            check(api_key, version, &body[..length]).is_err(),
            "{name} v{version}, {length}: {body:?}"
        );
    }
    let longer = [body, &[0]].concat();
    let fault = Fault::LeftOver { left: 1 };
    let (field, at) = ("the answer", body.len());
    assert_eq!(
        check(api_key, version, &longer),
        Err(LayoutError::Broken { fault, field, at }),
        "{name} v{version}"
    );
}

#[test]
fn every_answer_that_kafka_protocol_can_read_has_a_layout() {
    let apis = apis();
    assert_eq!(apis.len(), table::LAYOUTS.len());
    for api in apis {
        for version in api.versions() {
            assert!(find(api.key, version).is_some(), "{} v{version}", api.name);
        }
    }
}

#[test]
fn an_empty_answer_of_every_api_and_version_passes_whole_and_not_cut() {
    for api in apis() {
        for version in api.versions() {
            let body = (api.default)(version).unwrap();
            is_exactly_as_long_as_it_says(api.name, api.key, version, &body);
        }
    }
}

#[test]
fn a_full_answer_of_every_api_and_version_passes_whole_and_not_cut() {
    for api in apis() {
        for version in api.versions() {
            for seed in 0..6 {
                let body = Sample::of(api.key, version, seed);
                if body.len() < 4_000 {
                    is_exactly_as_long_as_it_says(api.name, api.key, version, &body);
                } else {
                    assert_eq!(check(api.key, version, &body), Ok(()), "{} v{version}", api.name);
                }
            }
        }
    }
}

#[test]
fn the_table_and_kafka_protocol_read_the_same_fields_in_every_version() {
    for api in apis() {
        for version in api.versions() {
            for seed in 0..60 {
                let body = Sample::of(api.key, version, seed);
                let decoded = (api.decode)(&body, version);
                let decoded = decoded.unwrap_or_else(|why| panic!("{} v{version}: {why}: {body:?}", api.name));
                assert_eq!(decoded.left, 0, "{} v{version}", api.name);
                assert_eq!(&decoded.encoded_again[..], body, "{} v{version}", api.name);
            }
        }
    }
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic(name: &'static str) -> TopicName {
    TopicName(text(name))
}

fn passes_in<A: Message + Encodable>(api_key: ApiKey, answer: impl Fn(i16) -> A) {
    for version in A::VERSIONS.min..=A::VERSIONS.max {
        let body = encode(&answer(version), version).unwrap();
        is_exactly_as_long_as_it_says(&format!("{api_key:?}"), api_key as i16, version, &body);
    }
}

#[test]
fn metadata_of_two_brokers_and_a_topic_passes() {
    use metadata_response::*;
    passes_in(ApiKey::Metadata, |version| {
        let broker = |id, host| {
            let broker = MetadataResponseBroker::default()
                .with_node_id(BrokerId(id))
                .with_host(text(host));
            broker.with_port(9092).with_rack((version > 0).then(|| text("rack")))
        };
        let partition = MetadataResponsePartition::default()
            .with_leader_id(BrokerId(1))
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
            .with_isr_nodes(vec![BrokerId(1)]);
        let found = MetadataResponseTopic::default()
            .with_name(Some(topic("orders")))
            .with_partitions(vec![
                partition.clone(),
                partition.with_partition_index(1).with_error_code(5),
            ]);
        let missing = MetadataResponseTopic::default().with_error_code(3);
        let missing = missing.with_name((version < 12).then(|| topic("gone")));
        MetadataResponse::default()
            .with_brokers(vec![broker(1, "one"), broker(2, "two.example")])
            .with_topics(vec![found, missing])
            .with_cluster_id((version > 1).then(|| text("cluster")))
    });
}

#[test]
fn a_fetch_with_records_aborted_transactions_and_tagged_fields_passes() {
    use fetch_response::*;
    passes_in(ApiKey::Fetch, |version| {
        let mut partition = PartitionData::default()
            .with_high_watermark(100)
            .with_records(Some(Bytes::from_static(&[7; 300])))
            .with_aborted_transactions(Some(vec![AbortedTransaction::default().with_first_offset(5)]));
        let mut answer = FetchResponse::default();
        if version >= 12 {
            partition = partition
                .with_diverging_epoch(EpochEndOffset::default().with_epoch(3).with_end_offset(50))
                .with_current_leader(
                    LeaderIdAndEpoch::default()
                        .with_leader_id(BrokerId(2))
                        .with_leader_epoch(4),
                )
                .with_snapshot_id(SnapshotId::default().with_end_offset(9))
                .with_unknown_tagged_field(77, Bytes::from_static(b"from the future"));
        }
        if version >= 16 {
            let endpoint = NodeEndpoint::default()
                .with_node_id(BrokerId(2))
                .with_host(text("two"))
                .with_port(9092);
            answer = answer.with_node_endpoints(vec![endpoint.clone(), endpoint.with_rack(Some(text("rack")))]);
        }
        let mut of_topic = FetchableTopicResponse::default();
        of_topic = match version {
            ..13 => of_topic.with_topic(topic("orders")),
            _ => of_topic.with_topic_id(uuid::Uuid::from_u128(1)),
        };
        let nothing = PartitionData::default()
            .with_records(None)
            .with_aborted_transactions(None);
        answer.with_responses(vec![of_topic.with_partitions(vec![partition, nothing])])
    });
}

#[test]
fn list_offsets_of_two_partitions_passes() {
    use list_offsets_response::*;
    passes_in(ApiKey::ListOffsets, |_| {
        let partition = ListOffsetsPartitionResponse::default()
            .with_offset(12)
            .with_timestamp(34);
        let partitions = vec![partition.clone(), partition.with_partition_index(1)];
        let of_topic = ListOffsetsTopicResponse::default()
            .with_name(topic("orders"))
            .with_partitions(partitions);
        ListOffsetsResponse::default().with_topics(vec![of_topic])
    });
}

#[test]
fn created_topics_with_settings_and_a_hidden_one_pass() {
    passes_in(ApiKey::CreateTopics, |version| {
        let setting = CreatableTopicConfigs::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("1")));
        let mut made = CreatableTopicResult::default().with_name(topic("orders"));
        let mut hidden = CreatableTopicResult::default()
            .with_name(topic("secret"))
            .with_error_code(29);
        if version >= 5 {
            made = made
                .with_configs(Some(vec![setting.clone(), setting.with_value(None)]))
                .with_num_partitions(3);
            hidden = hidden.with_configs(None).with_topic_config_error_code(29);
        }
        CreateTopicsResponse::default().with_topics(vec![made, hidden])
    });
}

#[test]
fn described_configs_with_synonyms_pass() {
    passes_in(ApiKey::DescribeConfigs, |version| {
        let synonym = DescribeConfigsSynonym::default()
            .with_name(text("log.retention.ms"))
            .with_value(None);
        let mut setting = DescribeConfigsResourceResult::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("604800000")))
            .with_synonyms(vec![synonym.clone(), synonym]);
        if version >= 3 {
            setting = setting.with_documentation(Some(text("how long"))).with_config_type(5);
        }
        let of_topic = DescribeConfigsResult::default()
            .with_resource_name(text("orders"))
            .with_configs(vec![setting]);
        DescribeConfigsResponse::default().with_results(vec![of_topic])
    });
}

#[test]
fn a_joined_group_of_two_passes() {
    passes_in(ApiKey::JoinGroup, |version| {
        let member = JoinGroupResponseMember::default().with_metadata(Bytes::from_static(&[1; 40]));
        let fixed = member
            .clone()
            .with_group_instance_id((version >= 5).then(|| text("fixed")));
        JoinGroupResponse::default()
            .with_protocol_name(Some(text("range")))
            .with_leader(text("a-1"))
            .with_members(vec![member.with_member_id(text("a-1")), fixed])
    });
}

#[test]
fn a_heartbeat_with_and_without_assignment_passes() {
    use consumer_group_heartbeat_response::*;
    let of_topic = TopicPartitions::default().with_partitions(vec![0, 1, 2]);
    let assignment = Assignment::default().with_topic_partitions(vec![of_topic]);
    for assignment in [None, Some(assignment)] {
        passes_in(ApiKey::ConsumerGroupHeartbeat, |_| {
            ConsumerGroupHeartbeatResponse::default().with_assignment(assignment.clone())
        });
    }
}

fn fault(api_key: ApiKey, version: i16, body: &[u8]) -> (Fault, &'static str, usize) {
    match check(api_key as i16, version, body) {
        Err(LayoutError::Broken { fault, field, at }) => (fault, field, at),
        other => panic!("{other:?}"),
    }
}

const MOST: [u8; 4] = i32::MAX.to_be_bytes();
const MOST_COMPACT: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];

#[test]
fn a_count_beyond_the_bytes_is_refused() {
    let body = [&MOST[..], &[0, 0]].concat();
    let (fault, field, at) = fault(ApiKey::Metadata, 0, &body);
    assert_eq!(
        (fault, field, at),
        (
            Fault::Crowded {
                count: i32::MAX as usize,
                left: 2
            },
            "Brokers",
            4
        )
    );
}

#[test]
fn a_compact_count_beyond_the_bytes_is_refused() {
    let body = [&[0, 0, 0, 0][..], &MOST_COMPACT, &[0, 0]].concat();
    let (fault, field, at) = fault(ApiKey::Metadata, 12, &body);
    assert_eq!(
        (fault, field, at),
        (
            Fault::Crowded {
                count: u32::MAX as usize - 1,
                left: 2
            },
            "Brokers",
            9
        )
    );
}

#[test]
fn a_count_is_held_against_the_smallest_size_of_an_element() {
    // A broker of Metadata v0 has at least ten bytes: its number, the length of its host, its port.
    let two_brokers = [&2_i32.to_be_bytes()[..], &[0; 19]].concat();
    assert_eq!(
        fault(ApiKey::Metadata, 0, &two_brokers).0,
        Fault::Crowded { count: 2, left: 19 }
    );
}

#[test]
fn a_nested_count_beyond_the_bytes_is_refused() {
    let topic = [0, 0, 0, 1, b't'];
    let old = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &topic, &MOST, &[0; 30]].concat();
    assert_eq!(fault(ApiKey::Metadata, 0, &old).1, "Partitions");
    let compact = [
        &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 2, b't'][..],
        &MOST_COMPACT,
        &[0; 30],
    ]
    .concat();
    assert_eq!(fault(ApiKey::Metadata, 9, &compact).1, "Partitions");
}

#[test]
fn a_count_inside_a_tagged_field_is_held_against_the_size_of_that_field() {
    let fetch = |inside: &[u8]| {
        let size = u8::try_from(inside.len()).unwrap();
        [&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, size], inside, &[0; 30]].concat()
    };
    let (huge, field, _) = fault(ApiKey::Fetch, 16, &fetch(&MOST_COMPACT));
    assert_eq!(
        (huge, field),
        (
            Fault::Crowded {
                count: u32::MAX as usize - 1,
                left: 0
            },
            "NodeEndpoints"
        )
    );
    let (of_outer, field, _) = fault(ApiKey::Fetch, 16, &fetch(&[2]));
    assert_eq!(
        (of_outer, field),
        (Fault::Crowded { count: 1, left: 0 }, "NodeEndpoints")
    );
}

#[test]
fn a_tagged_field_ends_where_its_size_says() {
    let body = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 2, 1, 0];
    assert_eq!(
        fault(ApiKey::Fetch, 16, &body),
        (Fault::LeftOver { left: 1 }, "NodeEndpoints", 15)
    );
    assert_eq!(
        fault(ApiKey::Fetch, 16, &body[..15]),
        (Fault::Short { wanted: 2, left: 1 }, "NodeEndpoints", 14)
    );
}

#[test]
fn a_count_of_tagged_fields_beyond_the_bytes_is_refused() {
    let body = [&[0, 0, 0, 0, 0, 0][..], &MOST_COMPACT, &[0; 9]].concat();
    assert_eq!(
        fault(ApiKey::Heartbeat, 4, &body).0,
        Fault::Crowded {
            count: u32::MAX as usize,
            left: 9
        }
    );
}

#[test]
fn null_is_refused_where_there_must_be_something() {
    assert_eq!(fault(ApiKey::Metadata, 0, &[0xff; 4]), (Fault::Null, "Brokers", 4));
    assert_eq!(
        fault(ApiKey::Metadata, 9, &[0, 0, 0, 0, 0]),
        (Fault::Null, "Brokers", 5)
    );
}

#[test]
fn lengths_that_are_no_lengths_are_refused() {
    let negative = i32::to_be_bytes(-2);
    assert_eq!(
        fault(ApiKey::Metadata, 0, &negative),
        (Fault::Negative { length: -2 }, "Brokers", 0)
    );
    for endless in [[0xff; 5], [0x80, 0x80, 0x80, 0x80, 0x10]] {
        let body = [&[0, 0, 0, 0][..], &endless, &[0; 9]].concat();
        assert_eq!(fault(ApiKey::Metadata, 9, &body), (Fault::Endless, "Brokers", 4));
    }
}

#[test]
fn tags_that_no_field_can_have_are_refused() {
    let body = |tag: [u8; 5]| [&[0; 6][..], &[1], &tag, &[0]].concat();
    let largest = body([0xff, 0xff, 0xff, 0xff, 0x07]);
    assert_eq!(check(ApiKey::Heartbeat as i16, 4, &largest), Ok(()));
    let beyond = body([0x80, 0x80, 0x80, 0x80, 0x08]);
    let (fault, ..) = fault(ApiKey::Heartbeat, 4, &beyond);
    assert_eq!(fault, Fault::Tag { tag: 1 << 31 });
}

#[test]
fn a_struct_is_announced_by_one_or_minus_one() {
    let body = |marker| [&[0; 6][..], &[0, 0], &[0; 8], &[marker], &[0]].concat();
    assert_eq!(check(ApiKey::ConsumerGroupHeartbeat as i16, 0, &body(0xff)), Ok(()));
    let (fault, field, at) = fault(ApiKey::ConsumerGroupHeartbeat, 0, &body(2));
    assert_eq!((fault, field, at), (Fault::Marker { marker: 2 }, "Assignment", 16));
}

#[test]
fn what_the_table_does_not_have_never_passes() {
    for (api_key, version) in [(3, 14), (3, -1), (1, 3), (4, 0), (-1, 0), (i16::MAX, i16::MAX)] {
        assert_eq!(
            check(api_key, version, &[]),
            Err(LayoutError::Unknown { api_key, version })
        );
    }
}

#[test]
fn an_error_says_what_where_and_in_which_field() {
    let error = check(3, 0, &[0, 0, 0, 9, 0, 0]).unwrap_err();
    let sentence = "9 elements are claimed and the 2 bytes that are left cannot hold them, in Brokers at byte 4";
    assert_eq!(error.to_string(), sentence);
    let error = check(4, 1, &[]).unwrap_err();
    assert_eq!(error.to_string(), "there is no layout of answers to API 4 in version 1");
}

#[test]
fn the_table_is_in_order_so_that_it_can_be_searched() {
    assert!(table::LAYOUTS.is_sorted_by(|one, next| one.api_key < next.api_key));
}

/// An API and one of its versions.
fn any_answer() -> impl Strategy<Value = (usize, i16)> {
    let all = apis().into_iter().enumerate();
    let pairs = all.flat_map(|(index, api)| api.versions().map(move |version| (index, version)));
    proptest::sample::select(pairs.collect::<Vec<_>>())
}

/// What passes is read to its end by `kafka-protocol`, or refused; the process survives either.
fn survives(index: usize, version: i16, body: &[u8]) {
    let api = &apis()[index];
    if check(api.key, version, body).is_ok() {
        if let Ok(decoded) = (api.decode)(body, version) {
            assert_eq!(decoded.left, 0, "{} v{version}: {body:?}", api.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_are_refused_or_decodable((index, version) in any_answer(), body in vec(any::<u8>(), 0..200)) {
        survives(index, version, &body);
    }

    #[test]
    fn mostly_small_bytes_are_refused_or_decodable((index, version) in any_answer(), body in vec(0_u8..4, 0..120)) {
        survives(index, version, &body);
    }

    #[test]
    fn a_damaged_answer_is_refused_or_decodable(
        (index, version) in any_answer(),
        seed in any::<u64>(),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = Sample::of(apis()[index].key, version, seed);
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        survives(index, version, &body);
    }
}

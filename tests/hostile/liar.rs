//! A broker made by hand, with one topic called `orders`. It tells the truth unless a test has it lie.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU16, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse,
        HeartbeatRequest, HeartbeatResponse, InitProducerIdRequest, InitProducerIdResponse, JoinGroupRequest,
        JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListOffsetsRequest, ListOffsetsResponse,
        MetadataRequest, MetadataResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
        OffsetFetchResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceRequest,
        ProduceResponse, ProducerId, RequestHeader, SyncGroupRequest, SyncGroupResponse, TopicName,
        api_versions_response::ApiVersion,
        fetch_response::{FetchableTopicResponse, PartitionData},
        find_coordinator_response::Coordinator,
        join_group_response::JoinGroupResponseMember,
        leave_group_response::MemberResponse,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        },
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
    protocol::{Decodable, Encodable, HeaderVersion, StrBytes},
};
use uuid::Uuid;

pub(crate) const PRODUCE: i16 = 0;
pub(crate) const FETCH: i16 = 1;
pub(crate) const LIST_OFFSETS: i16 = 2;
pub(crate) const METADATA: i16 = 3;
pub(crate) const OFFSET_COMMIT: i16 = 8;
pub(crate) const OFFSET_FETCH: i16 = 9;
pub(crate) const FIND_COORDINATOR: i16 = 10;
pub(crate) const JOIN_GROUP: i16 = 11;
pub(crate) const HEARTBEAT: i16 = 12;
pub(crate) const LEAVE_GROUP: i16 = 13;
pub(crate) const SYNC_GROUP: i16 = 14;
pub(crate) const API_VERSIONS: i16 = 18;
pub(crate) const INIT_PRODUCER_ID: i16 = 22;
pub(crate) const OFFSET_FOR_LEADER_EPOCH: i16 = 23;

pub(crate) const TOPIC: &str = "orders";
const TOPIC_ID: Uuid = Uuid::from_u128(77);

/// An answer before it is written.
pub(crate) enum Answer {
    Versions(ApiVersionsResponse),
    Metadata(MetadataResponse),
    Offsets(ListOffsetsResponse),
    Epochs(OffsetForLeaderEpochResponse),
    Fetch(FetchResponse),
    Coordinator(FindCoordinatorResponse),
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Leave(LeaveGroupResponse),
    Committed(OffsetFetchResponse),
    Commit(OffsetCommitResponse),
    Identity(InitProducerIdResponse),
    Produce(ProduceResponse),
    /// All that follows the correlation ID.
    Bytes(Vec<u8>),
}

impl Answer {
    pub(crate) fn fetch(&mut self) -> &mut FetchResponse {
        match self {
            Self::Fetch(answer) => answer,
            _ => panic!("no Fetch answer"),
        }
    }

    pub(crate) fn produce(&mut self) -> &mut ProduceResponse {
        match self {
            Self::Produce(answer) => answer,
            _ => panic!("no Produce answer"),
        }
    }

    /// What is said about each batch that was to be written.
    pub(crate) fn written(&mut self) -> impl Iterator<Item = &mut PartitionProduceResponse> {
        let topics = self.produce().responses.iter_mut();
        topics.flat_map(|topic| &mut topic.partition_responses)
    }

    /// The first partition that is answered, if there is one.
    pub(crate) fn partition(&mut self) -> Option<&mut PartitionData> {
        self.fetch().responses.first_mut()?.partitions.first_mut()
    }
}

/// What becomes of an answer.
pub(crate) enum Fate {
    Send,
    /// The whole frame, its length in front, after this was done to it.
    Change(fn(&mut Vec<u8>)),
    /// The same, for who has to know the answer's version.
    #[allow(dead_code, reason = "`tests/fuzzed` finds its way through a frame by it")]
    Rewrite(Rewrite),
    Hangup,
    Silence,
}

/// Is given the answer's version, and the whole frame.
pub(crate) type Rewrite = Box<dyn FnOnce(i16, &mut Vec<u8>)>;

/// How often this was asked before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) count: usize,
}

type Lie = Arc<dyn Fn(Asked, &mut Answer) -> Fate + Send + Sync>;

pub(crate) struct Liar {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    log: Mutex<Vec<Batch>>,
    group: Mutex<Group>,
    written: Mutex<Written>,
    partitions: AtomicI32,
    leader_epoch: AtomicI32,
    advertised: AtomicU16,
    versions: Mutex<HashMap<i16, (i16, i16)>>,
    lies: Mutex<HashMap<i16, Lie>>,
    asked: Mutex<HashMap<i16, usize>>,
    open: Mutex<Vec<TcpStream>>,
    hung_up: AtomicUsize,
    ended: AtomicBool,
}

/// The one group there is; whoever joins it is its leader and only member.
#[derive(Default)]
struct Group {
    generation: i32,
    assignment: Bytes,
    committed: HashMap<i32, i64>,
}

/// What producers wrote. It is not read again.
#[derive(Default)]
struct Written {
    producers: i64,
    /// By partition: how many records there are.
    ends: HashMap<i32, i64>,
    /// By producer and partition: the sequence that is due, and where each batch came to lie.
    sequences: HashMap<(i64, i32), (i32, HashMap<i32, i64>)>,
}

impl Written {
    /// An error code, and the base offset.
    fn append(&mut self, partition: i32, batch: &[u8]) -> (i16, i64) {
        let number = |at: usize| i32::from_be_bytes(batch[at..at + 4].try_into().expect("four bytes"));
        let checksum = crc32c::crc32c(&batch[ATTRIBUTES..]);
        assert_eq!(checksum.to_be_bytes(), batch[CHECKSUM..CHECKSUM + 4], "a checksum");
        let producer = i64::from_be_bytes(batch[PRODUCER..PRODUCER + 8].try_into().expect("eight bytes"));
        let (sequence, count) = (number(SEQUENCE), number(COUNT));
        let end = self.ends.entry(partition).or_default();
        if producer >= 0 {
            let known = self.sequences.entry((producer, partition));
            let (due, batches) = known.or_insert_with(|| (sequence, HashMap::new()));
            if let Some(offset) = batches.get(&sequence) {
                return (0, *offset);
            }
            if *due != sequence {
                return (45, -1);
            }
            *due += count;
            batches.insert(sequence, *end);
        }
        *end += i64::from(count);
        (0, *end - i64::from(count))
    }
}

/// The name that every member gets.
pub(crate) const MEMBER: &str = "member";

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Liar {
    /// A broker whose partition 0 holds these batches; others are empty.
    pub(crate) fn start(log: Vec<Batch>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("an address");
        let versions = [
            (FETCH, (4, 12)),
            (LIST_OFFSETS, (2, 7)),
            (METADATA, (4, 12)),
            (API_VERSIONS, (0, 3)),
            (OFFSET_FOR_LEADER_EPOCH, (2, 4)),
            (FIND_COORDINATOR, (0, 4)),
            (JOIN_GROUP, (0, 9)),
            (SYNC_GROUP, (0, 5)),
            (HEARTBEAT, (0, 4)),
            (LEAVE_GROUP, (0, 5)),
            (OFFSET_FETCH, (1, 8)),
            (OFFSET_COMMIT, (2, 8)),
            (INIT_PRODUCER_ID, (0, 5)),
            (PRODUCE, (3, 12)),
        ];
        let shared = Arc::new(Shared {
            log: Mutex::new(log),
            group: Mutex::default(),
            written: Mutex::default(),
            partitions: AtomicI32::new(1),
            leader_epoch: AtomicI32::new(5),
            advertised: AtomicU16::new(address.port()),
            versions: Mutex::new(versions.into()),
            lies: Mutex::default(),
            asked: Mutex::default(),
            open: Mutex::default(),
            hung_up: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if shared.ended.load(Ordering::SeqCst) {
                        return;
                    }
                    stream.set_nodelay(true).expect("a socket");
                    lock(&shared.open).push(stream.try_clone().expect("a socket"));
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || shared.serve(stream));
                }
            }
        });
        Self { address, shared }
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Speaks these versions of an API; for Fetch, topics have IDs from 13 on.
    pub(crate) fn speak(&self, api: i16, first: i16, last: i16) {
        lock(&self.shared.versions).insert(api, (first, last));
    }

    /// Does not know this API.
    pub(crate) fn do_not_speak(&self, api: i16) {
        lock(&self.shared.versions).remove(&api);
    }

    /// What its group has committed for a partition.
    pub(crate) fn committed(&self, partition: i32) -> Option<i64> {
        lock(&self.shared.group).committed.get(&partition).copied()
    }

    /// How many records producers have written to a partition.
    pub(crate) fn written(&self, partition: i32) -> i64 {
        lock(&self.shared.written).ends.get(&partition).copied().unwrap_or(0)
    }

    pub(crate) fn set_partitions(&self, partitions: i32) {
        self.shared.partitions.store(partitions, Ordering::SeqCst);
    }

    /// Leads in a new epoch, and has the same log.
    pub(crate) fn elect(&self) {
        self.shared.leader_epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Where the log of partition 0 ends.
    pub(crate) fn end(&self) -> i64 {
        self.shared.end(0)
    }

    /// Ten more records in partition 0.
    pub(crate) fn grow(&self) {
        let batch = Batch::of(self.end(), 10);
        lock(&self.shared.log).push(batch);
    }

    /// Tells clients to connect there.
    pub(crate) fn advertise(&self, port: u16) {
        self.shared.advertised.store(port, Ordering::SeqCst);
    }

    /// How often this was asked.
    pub(crate) fn asked(&self, api: i16) -> usize {
        lock(&self.shared.asked).get(&api).copied().unwrap_or(0)
    }

    /// How many connections the other side has ended.
    pub(crate) fn hung_up(&self) -> usize {
        self.shared.hung_up.load(Ordering::SeqCst)
    }

    /// From now on this sees, and may change, the true answers to these requests.
    pub(crate) fn lie(&self, api: i16, lie: impl Fn(Asked, &mut Answer) -> Fate + Send + Sync + 'static) {
        lock(&self.shared.lies).insert(api, Arc::new(lie));
    }

    /// The same for what Fetch answers of the first partition, as long as it brings records.
    pub(crate) fn lie_about_records(&self, lie: impl Fn(usize, &mut PartitionData) + Send + Sync + 'static) {
        let told = Mutex::new(0);
        self.lie(FETCH, move |_, answer| {
            if let Some(partition) = answer.partition().filter(|partition| has_records(partition)) {
                let mut told = lock(&told);
                lie(*told, partition);
                *told += 1;
            }
            Fate::Send
        });
    }
}

fn has_records(partition: &PartitionData) -> bool {
    partition.records.as_ref().is_some_and(|records| !records.is_empty())
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for stream in lock(&self.shared.open).drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
        TcpStream::connect(self.address).ok();
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        while let Some((header, body)) = read_request(&mut stream) {
            let (api, version) = (header.request_api_key, header.request_api_version);
            let count = {
                let mut asked = lock(&self.asked);
                let count = asked.entry(api).or_insert(0);
                *count += 1;
                *count - 1
            };
            let mut answer = self.truth(api, version, body);
            let lie = lock(&self.lies).get(&api).cloned();
            let fate = lie.map_or(Fate::Send, |lie| lie(Asked { count }, &mut answer));
            let frame = match fate {
                Fate::Send => framed(header.correlation_id, version, &answer),
                Fate::Change(change) => {
                    let mut frame = framed(header.correlation_id, version, &answer);
                    change(&mut frame);
                    frame
                }
                Fate::Rewrite(change) => {
                    let mut frame = framed(header.correlation_id, version, &answer);
                    change(version, &mut frame);
                    frame
                }
                Fate::Hangup => {
                    stream.shutdown(Shutdown::Both).ok();
                    return;
                }
                Fate::Silence => continue,
            };
            if stream.write_all(&frame).is_err() {
                break;
            }
        }
        self.hung_up.fetch_add(1, Ordering::SeqCst);
    }

    fn truth(&self, api: i16, version: i16, mut body: Bytes) -> Answer {
        match api {
            API_VERSIONS => {
                let keys = lock(&self.versions);
                let keys = keys.iter().map(|(key, (first, last))| {
                    ApiVersion::default()
                        .with_api_key(*key)
                        .with_min_version(*first)
                        .with_max_version(*last)
                });
                Answer::Versions(ApiVersionsResponse::default().with_api_keys(keys.collect()))
            }
            METADATA => {
                let request = MetadataRequest::decode(&mut body, version).expect("a request");
                Answer::Metadata(self.metadata(&request))
            }
            LIST_OFFSETS => {
                let request = ListOffsetsRequest::decode(&mut body, version).expect("a request");
                Answer::Offsets(self.offsets(&request))
            }
            OFFSET_FOR_LEADER_EPOCH => {
                let request = OffsetForLeaderEpochRequest::decode(&mut body, version).expect("a request");
                Answer::Epochs(self.epochs(&request))
            }
            FETCH => {
                let request = FetchRequest::decode(&mut body, version).expect("a request");
                Answer::Fetch(self.fetch(&request, version))
            }
            FIND_COORDINATOR => {
                let request = FindCoordinatorRequest::decode(&mut body, version).expect("a request");
                Answer::Coordinator(self.coordinator(&request, version))
            }
            JOIN_GROUP => {
                let request = JoinGroupRequest::decode(&mut body, version).expect("a request");
                Answer::Join(self.join(request, version))
            }
            SYNC_GROUP => {
                let request = SyncGroupRequest::decode(&mut body, version).expect("a request");
                Answer::Sync(self.sync(&request, version))
            }
            HEARTBEAT => {
                HeartbeatRequest::decode(&mut body, version).expect("a request");
                Answer::Heartbeat(HeartbeatResponse::default())
            }
            LEAVE_GROUP => {
                LeaveGroupRequest::decode(&mut body, version).expect("a request");
                let member = MemberResponse::default().with_member_id(StrBytes::from_static_str(MEMBER));
                let members = if version >= 3 { vec![member] } else { Vec::new() };
                Answer::Leave(LeaveGroupResponse::default().with_members(members))
            }
            OFFSET_FETCH => {
                let request = OffsetFetchRequest::decode(&mut body, version).expect("a request");
                Answer::Committed(self.offsets_of_group(request))
            }
            OFFSET_COMMIT => {
                let request = OffsetCommitRequest::decode(&mut body, version).expect("a request");
                Answer::Commit(self.commit(&request))
            }
            INIT_PRODUCER_ID => {
                InitProducerIdRequest::decode(&mut body, version).expect("a request");
                let mut written = lock(&self.written);
                written.producers += 1;
                let id = ProducerId(written.producers);
                Answer::Identity(
                    InitProducerIdResponse::default()
                        .with_producer_id(id)
                        .with_producer_epoch(0),
                )
            }
            PRODUCE => {
                let request = ProduceRequest::decode(&mut body, version).expect("a request");
                Answer::Produce(self.produce(&request, version))
            }
            other => panic!("request {other} was not offered"),
        }
    }

    fn produce(&self, request: &ProduceRequest, version: i16) -> ProduceResponse {
        let mut written = lock(&self.written);
        let topics = request.topic_data.iter().map(|topic| {
            let partitions = topic.partition_data.iter().map(|partition| {
                let batch = partition.records.as_ref().expect("a batch");
                let (code, offset) = written.append(partition.index, batch);
                PartitionProduceResponse::default()
                    .with_index(partition.index)
                    .with_error_code(code)
                    .with_base_offset(offset)
                    .with_log_append_time_ms(-1)
            });
            let answer = TopicProduceResponse::default().with_partition_responses(partitions.collect());
            match version {
                13.. => answer.with_topic_id(topic.topic_id),
                _ => answer.with_name(topic.name.clone()),
            }
        });
        ProduceResponse::default().with_responses(topics.collect())
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let broker = MetadataResponseBroker::default()
            .with_node_id(BrokerId(1))
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(i32::from(self.advertised.load(Ordering::SeqCst)));
        let partitions = (0..self.partitions.load(Ordering::SeqCst)).map(|index| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(1))
                .with_leader_epoch(self.leader_epoch.load(Ordering::SeqCst))
                .with_replica_nodes(vec![BrokerId(1)])
                .with_isr_nodes(vec![BrokerId(1)])
        });
        let partitions: Vec<_> = partitions.collect();
        let names: Vec<TopicName> = match &request.topics {
            Some(topics) => topics.iter().filter_map(|topic| topic.name.clone()).collect(),
            None => vec![topic_name(TOPIC)],
        };
        let topics = names.into_iter().map(|name| {
            let topic = MetadataResponseTopic::default();
            if name.as_str() == TOPIC {
                topic
                    .with_name(Some(name))
                    .with_topic_id(TOPIC_ID)
                    .with_partitions(partitions.clone())
            } else {
                topic.with_name(Some(name)).with_error_code(3)
            }
        });
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_controller_id(BrokerId(1))
            .with_topics(topics.collect())
    }

    fn end(&self, partition: i32) -> i64 {
        let log = lock(&self.log);
        log.last().filter(|_| partition == 0).map_or(0, |batch| batch.next)
    }

    fn offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let offset = match partition.timestamp {
                    -2 => 0,
                    _ => self.end(partition.partition_index),
                };
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(partition.partition_index)
                    .with_offset(offset)
            });
            ListOffsetsTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }

    fn epochs(&self, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                EpochEndOffset::default()
                    .with_partition(partition.partition)
                    .with_leader_epoch(partition.leader_epoch)
                    .with_end_offset(self.end(partition.partition))
            });
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic.clone())
                .with_partitions(partitions.collect())
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    }

    fn coordinator(&self, request: &FindCoordinatorRequest, version: i16) -> FindCoordinatorResponse {
        let (host, port) = (
            StrBytes::from_static_str("127.0.0.1"),
            i32::from(self.advertised.load(Ordering::SeqCst)),
        );
        if version < 4 {
            return FindCoordinatorResponse::default()
                .with_node_id(BrokerId(1))
                .with_host(host)
                .with_port(port);
        }
        let coordinators = request.coordinator_keys.iter().map(|key| {
            Coordinator::default()
                .with_key(key.clone())
                .with_node_id(BrokerId(1))
                .with_host(host.clone())
                .with_port(port)
        });
        FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
    }

    fn join(&self, request: JoinGroupRequest, version: i16) -> JoinGroupResponse {
        let member = StrBytes::from_static_str(MEMBER);
        let answer = JoinGroupResponse::default()
            .with_protocol_name(Some(StrBytes::default()))
            .with_member_id(member.clone());
        if version >= 4 && request.member_id.is_empty() {
            return answer.with_error_code(79).with_generation_id(-1);
        }
        let generation = {
            let mut group = lock(&self.group);
            group.generation += 1;
            group.generation
        };
        let protocol = request.protocols.into_iter().next().expect("a member offers something");
        answer
            .with_generation_id(generation)
            .with_protocol_type((version >= 7).then_some(request.protocol_type))
            .with_protocol_name(Some(protocol.name))
            .with_leader(member.clone())
            .with_members(vec![
                JoinGroupResponseMember::default()
                    .with_member_id(member)
                    .with_metadata(protocol.metadata),
            ])
    }

    fn sync(&self, request: &SyncGroupRequest, version: i16) -> SyncGroupResponse {
        let mut group = lock(&self.group);
        let ours = request
            .assignments
            .iter()
            .find(|assignment| assignment.member_id.as_str() == request.member_id.as_str());
        group.assignment = ours.map(|ours| ours.assignment.clone()).unwrap_or_default();
        let answer = SyncGroupResponse::default().with_assignment(group.assignment.clone());
        match version {
            5.. => answer
                .with_protocol_type(request.protocol_type.clone())
                .with_protocol_name(request.protocol_name.clone()),
            _ => answer,
        }
    }

    fn offsets_of_group(&self, request: OffsetFetchRequest) -> OffsetFetchResponse {
        let group = lock(&self.group);
        let committed = |partition: i32| group.committed.get(&partition).copied().unwrap_or(-1);
        let old = request.topics.unwrap_or_default().into_iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|&index| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(committed(index))
            });
            OffsetFetchResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        let groups = request.groups.into_iter().map(|asked| {
            let topics = asked.topics.unwrap_or_default().into_iter().map(|topic| {
                let partitions = topic.partition_indexes.iter().map(|&index| {
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_committed_offset(committed(index))
                });
                OffsetFetchResponseTopics::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions.collect())
            });
            OffsetFetchResponseGroup::default()
                .with_group_id(asked.group_id.clone())
                .with_topics(topics.collect())
        });
        OffsetFetchResponse::default()
            .with_topics(old.collect())
            .with_groups(groups.collect())
    }

    fn commit(&self, request: &OffsetCommitRequest) -> OffsetCommitResponse {
        let mut group = lock(&self.group);
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                group
                    .committed
                    .insert(partition.partition_index, partition.committed_offset);
                OffsetCommitResponsePartition::default().with_partition_index(partition.partition_index)
            });
            OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }

    /// Without sessions, as a broker whose cache of them is full. Waits as long as it may when there is nothing.
    fn fetch(&self, request: &FetchRequest, version: i16) -> FetchResponse {
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(LONGEST_WAIT);
        let until = Instant::now() + wait;
        loop {
            let mut is_empty = true;
            let topics = request.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    let end = self.end(partition.partition);
                    let answer = PartitionData::default()
                        .with_partition_index(partition.partition)
                        .with_high_watermark(end)
                        .with_last_stable_offset(end)
                        .with_log_start_offset(0)
                        .with_aborted_transactions(None);
                    if !(0..=end).contains(&partition.fetch_offset) {
                        is_empty = false;
                        return answer.with_error_code(1).with_high_watermark(-1);
                    }
                    let records = self.read(
                        partition.partition,
                        partition.fetch_offset,
                        partition.partition_max_bytes,
                    );
                    is_empty &= records.is_empty();
                    answer.with_records(Some(records))
                });
                let partitions = partitions.collect();
                let answer = FetchableTopicResponse::default().with_partitions(partitions);
                match version {
                    13.. => answer.with_topic_id(topic.topic_id),
                    _ => answer.with_topic(topic.topic.clone()),
                }
            });
            let answer = FetchResponse::default().with_responses(topics.collect());
            if !is_empty || Instant::now() >= until || self.ended.load(Ordering::SeqCst) {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn read(&self, partition: i32, from: i64, most: i32) -> Bytes {
        let mut records = Vec::new();
        for batch in lock(&self.log)
            .iter()
            .filter(|batch| partition == 0 && batch.next > from)
        {
            let most = usize::try_from(most).unwrap_or(0);
            if !records.is_empty() && records.len() + batch.bytes.len() > most {
                break;
            }
            records.extend(&batch.bytes);
        }
        records.into()
    }
}

const LONGEST_WAIT: Duration = Duration::from_millis(100);

pub(crate) fn topic_name(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

fn read_request(stream: &mut TcpStream) -> Option<(RequestHeader, Bytes)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).ok()?];
    stream.read_exact(&mut frame).ok()?;
    let mut body = Bytes::from(frame);
    let api = i16::from_be_bytes([body[0], body[1]]);
    let version = i16::from_be_bytes([body[2], body[3]]);
    let header = match api {
        API_VERSIONS => kafka_protocol::messages::ApiVersionsRequest::header_version(version),
        METADATA => MetadataRequest::header_version(version),
        LIST_OFFSETS => ListOffsetsRequest::header_version(version),
        OFFSET_FOR_LEADER_EPOCH => OffsetForLeaderEpochRequest::header_version(version),
        FETCH => FetchRequest::header_version(version),
        FIND_COORDINATOR => FindCoordinatorRequest::header_version(version),
        JOIN_GROUP => JoinGroupRequest::header_version(version),
        SYNC_GROUP => SyncGroupRequest::header_version(version),
        HEARTBEAT => HeartbeatRequest::header_version(version),
        LEAVE_GROUP => LeaveGroupRequest::header_version(version),
        OFFSET_FETCH => OffsetFetchRequest::header_version(version),
        OFFSET_COMMIT => OffsetCommitRequest::header_version(version),
        INIT_PRODUCER_ID => InitProducerIdRequest::header_version(version),
        PRODUCE => ProduceRequest::header_version(version),
        other => panic!("request {other} was not offered"),
    };
    let header = RequestHeader::decode(&mut body, header).expect("a request header");
    Some((header, body.copy_to_bytes(body.remaining())))
}

fn framed(correlation_id: i32, version: i16, answer: &Answer) -> Vec<u8> {
    fn encoded<T: Encodable + HeaderVersion>(answer: &T, version: i16, out: &mut BytesMut) {
        if T::header_version(version) >= 1 {
            out.extend_from_slice(&[0]); // no tagged fields
        }
        answer.encode(out, version).expect("an answer");
    }
    let mut out = BytesMut::new();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&correlation_id.to_be_bytes());
    match answer {
        Answer::Versions(answer) => encoded(answer, version, &mut out),
        Answer::Metadata(answer) => encoded(answer, version, &mut out),
        Answer::Offsets(answer) => encoded(answer, version, &mut out),
        Answer::Epochs(answer) => encoded(answer, version, &mut out),
        Answer::Fetch(answer) => encoded(answer, version, &mut out),
        Answer::Coordinator(answer) => encoded(answer, version, &mut out),
        Answer::Join(answer) => encoded(answer, version, &mut out),
        Answer::Sync(answer) => encoded(answer, version, &mut out),
        Answer::Heartbeat(answer) => encoded(answer, version, &mut out),
        Answer::Leave(answer) => encoded(answer, version, &mut out),
        Answer::Committed(answer) => encoded(answer, version, &mut out),
        Answer::Commit(answer) => encoded(answer, version, &mut out),
        Answer::Identity(answer) => encoded(answer, version, &mut out),
        Answer::Produce(answer) => encoded(answer, version, &mut out),
        Answer::Bytes(bytes) => out.extend_from_slice(bytes),
    }
    let mut frame = out.to_vec();
    relength(&mut frame);
    frame
}

/// Writes a frame's true length in front of it.
pub(crate) fn relength(frame: &mut [u8]) {
    let length = u32::try_from(frame.len() - 4).expect("a small frame");
    frame[..4].copy_from_slice(&length.to_be_bytes());
}

/// One record batch (magic 2), as it lies in a log.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) next: i64,
    pub(crate) bytes: Vec<u8>,
}

/// Where a batch holds what.
pub(crate) const LENGTH: usize = 8;
pub(crate) const MAGIC: usize = 16;
const CHECKSUM: usize = 17;
pub(crate) const ATTRIBUTES: usize = 21;
pub(crate) const LAST_OFFSET_DELTA: usize = 23;
const PRODUCER: usize = 43;
const SEQUENCE: usize = 53;
pub(crate) const COUNT: usize = 57;
pub(crate) const RECORDS: usize = 61;

impl Batch {
    /// Records whose values are `v` and their offset.
    pub(crate) fn of(base: i64, count: i64) -> Self {
        let records: Vec<Vec<u8>> = (0..count)
            .map(|delta| record(delta, format!("v{}", base + delta).as_bytes()))
            .collect();
        Self::from_bytes(base, count, 0, &records.concat())
    }

    /// These bytes for records, whatever they are.
    pub(crate) fn from_bytes(base: i64, count: i64, attributes: i16, records: &[u8]) -> Self {
        let count = i32::try_from(count).expect("a small batch");
        let mut bytes = Vec::new();
        bytes.extend(base.to_be_bytes());
        bytes.extend([0; 4]); // length
        bytes.extend(5_i32.to_be_bytes()); // leader epoch
        bytes.push(2);
        bytes.extend([0; 4]); // checksum
        bytes.extend(attributes.to_be_bytes());
        bytes.extend((count - 1).to_be_bytes());
        bytes.extend(1_700_000_000_000_i64.to_be_bytes());
        bytes.extend(1_700_000_000_000_i64.to_be_bytes());
        bytes.extend((-1_i64).to_be_bytes());
        bytes.extend((-1_i16).to_be_bytes());
        bytes.extend((-1_i32).to_be_bytes());
        bytes.extend(count.to_be_bytes());
        bytes.extend(records);
        let length = u32::try_from(bytes.len() - 12).expect("a small batch");
        bytes[LENGTH..LENGTH + 4].copy_from_slice(&length.to_be_bytes());
        seal(&mut bytes);
        Self {
            next: base + i64::from(count),
            bytes,
        }
    }
}

/// Makes the checksum of a batch hold, whatever was done to it.
pub(crate) fn seal(batch: &mut [u8]) {
    let checksum = crc32c::crc32c(&batch[ATTRIBUTES..]);
    batch[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_be_bytes());
}

/// So many batches of ten records.
pub(crate) fn batches(count: i64) -> Vec<Batch> {
    (0..count).map(|at| Batch::of(at * 10, 10)).collect()
}

/// One record without key and headers.
pub(crate) fn record(offset_delta: i64, value: &[u8]) -> Vec<u8> {
    let mut fields = vec![0];
    varint(&mut fields, 0);
    varint(&mut fields, offset_delta);
    varint(&mut fields, -1);
    varint(&mut fields, i64::try_from(value.len()).expect("a small value"));
    fields.extend(value);
    varint(&mut fields, 0);
    let mut record = Vec::new();
    varint(&mut record, i64::try_from(fields.len()).expect("a small record"));
    record.extend(fields);
    record
}

/// Zigzag, as in records.
pub(crate) fn varint(out: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        out.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

//! Requests written by hand, over a plain connection.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, MetadataRequest, MetadataResponse, ProduceRequest,
        RequestHeader, ResponseHeader, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::PartitionData,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        list_offsets_response::ListOffsetsPartitionResponse,
        metadata_request::MetadataRequestTopic,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use klamm_fake::FakeCluster;

/// A wait that only a broken broker lets end.
const LIMIT: Duration = Duration::from_secs(120);

pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub fn to(cluster: &FakeCluster, node: i32) -> Self {
        Self::at(cluster.address(node)).expect("the broker listens")
    }

    pub fn at(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self { stream })
    }

    /// Sends a request and reads its answer.
    pub fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(request, version);
        self.answer::<R>(version).expect("the broker answers")
    }

    pub fn send<R: Request>(&mut self, request: &R, version: i16) {
        let mut bytes = BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(77)
            .with_client_id(Some(StrBytes::from_static_str("by hand")))
            .encode(&mut bytes, R::header_version(version))
            .unwrap();
        request.encode(&mut bytes, version).unwrap();
        self.send_frame(&bytes);
    }

    pub fn send_frame(&mut self, frame: &[u8]) {
        let mut bytes = BytesMut::new();
        bytes.put_i32(frame.len() as i32);
        bytes.put_slice(frame);
        // Who does not read is noticed when its answer is missing.
        self.stream.write_all(&bytes).ok();
    }

    /// Bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// `None` if the connection ends before the answer does.
    pub fn answer<R: Request>(&mut self, version: i16) -> Option<R::Response> {
        let mut frame = self.frame()?;
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, 77);
        let answer = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "nothing is left of the frame");
        Some(answer)
    }

    pub fn frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.read(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.read(&mut frame)?;
        Some(frame.into())
    }

    /// `None` at the end of the connection; only a broker that hangs leaves neither.
    pub fn read(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the broker says nothing"),
            Err(_) => None,
        }
    }

    /// What the broker sends from here to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the connection does not end"),
            _ => rest,
        }
    }

    pub fn is_over(&mut self) -> bool {
        self.read(&mut [0]).is_none()
    }

    pub fn has_something_to_read(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let found = self.stream.peek(&mut [0]).is_ok();
        self.stream.set_nonblocking(false).unwrap();
        found
    }

    /// Appends a batch with all replicas' acknowledgement, by the topic's name.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: Bytes) -> PartitionProduceResponse {
        let mut answer = self.ask(&produce(topic, partition, batch), 12);
        answer.responses.remove(0).partition_responses.remove(0)
    }

    /// Reads a partition without a session.
    pub fn fetch(&mut self, topic: &str, partition: FetchPartition) -> PartitionData {
        only(self.ask(&fetch(topic, vec![partition]), 12))
    }

    pub fn offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> ListOffsetsPartitionResponse {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(timestamp)
            .with_current_leader_epoch(-1);
        let topic = ListOffsetsTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic]);
        self.ask(&request, 9).topics.remove(0).partitions.remove(0)
    }

    pub fn metadata(&mut self, topics: &[&str]) -> MetadataResponse {
        let topics = topics
            .iter()
            .map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic))));
        let request = MetadataRequest::default().with_topics(Some(topics.collect()));
        self.ask(&request, 12)
    }
}

pub fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

pub fn produce(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// A Fetch that does not wait, without a session.
pub fn fetch(topic: &str, partitions: Vec<FetchPartition>) -> FetchRequest {
    let topic = FetchTopic::default()
        .with_topic(name(topic))
        .with_partitions(partitions);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

pub fn from(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
}

/// The one partition that an answer is about.
pub fn only(mut answer: FetchResponse) -> PartitionData {
    assert_eq!(answer.error_code, 0);
    assert_eq!(answer.responses.len(), 1);
    assert_eq!(answer.responses[0].partitions.len(), 1);
    answer.responses.remove(0).partitions.remove(0)
}

/// Does something again and again until a question to a broker, asked on a thread, has its answer.
pub fn until_answered<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static, act: impl Fn()) -> T {
    let thread = thread::Builder::new().spawn(ask).unwrap();
    while !thread.is_finished() {
        act();
        thread::park_timeout(Duration::from_millis(1));
    }
    thread.join().unwrap()
}

/// Lets time go by until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..LIMIT.as_millis() {
        if is_so() {
            return;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    panic!("{what} did not come");
}

/// A batch of uncompressed records, each a millisecond newer than the one before.
#[derive(Clone, Copy)]
pub struct Records {
    pub count: u8,
    pub timestamp: i64,
    /// Producer ID, epoch, sequence.
    pub producer: (i64, i16, i32),
    pub attributes: i16,
    pub value_bytes: usize,
}

pub const TRANSACTIONAL: i16 = 1 << 4;
pub const CONTROL: i16 = 1 << 5;

impl Default for Records {
    fn default() -> Self {
        Self {
            count: 1,
            timestamp: 1000,
            producer: (-1, -1, -1),
            attributes: 0,
            value_bytes: 1,
        }
    }
}

pub fn records(count: u8) -> Bytes {
    Records {
        count,
        ..Records::default()
    }
    .batch()
}

impl Records {
    pub fn batch(self) -> Bytes {
        let key: &[u8] = if self.attributes & CONTROL != 0 {
            &[0, 0, 0, 0]
        } else {
            &[]
        };
        let mut records = BytesMut::new();
        for index in 0..self.count {
            let mut record = vec![0, index * 2, index * 2, key.len() as u8 * 2];
            record.extend_from_slice(key);
            put_varint(&mut record, self.value_bytes as u64 * 2);
            record.resize(record.len() + self.value_bytes, b'v');
            record.push(0);
            let mut length = Vec::new();
            put_varint(&mut length, record.len() as u64 * 2);
            records.put_slice(&length);
            records.put_slice(&record);
        }
        let mut batch = BytesMut::new();
        batch.put_i64(0);
        batch.put_i32(49 + records.len() as i32);
        batch.put_i32(-1);
        batch.put_i8(2);
        batch.put_u32(0);
        batch.put_i16(self.attributes);
        batch.put_i32(i32::from(self.count) - 1);
        batch.put_i64(self.timestamp);
        batch.put_i64(self.timestamp + i64::from(self.count) - 1);
        batch.put_i64(self.producer.0);
        batch.put_i16(self.producer.1);
        batch.put_i32(self.producer.2);
        batch.put_i32(self.count.into());
        batch.put_slice(&records);
        seal(&batch)
    }
}

/// The batch with a checksum that fits.
pub fn seal(batch: &[u8]) -> Bytes {
    let mut batch = batch.to_vec();
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Base offsets, leader epochs and sizes of the batches in an answer; the last one may be cut off.
pub fn batches(records: &Bytes) -> Vec<(i64, i32, usize)> {
    let mut rest = records.as_ref();
    let mut found = Vec::new();
    while rest.len() > 16 {
        let base = i64::from_be_bytes(rest[..8].try_into().unwrap());
        let size = 12 + i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
        let epoch = i32::from_be_bytes(rest[12..16].try_into().unwrap());
        found.push((base, epoch, size.min(rest.len())));
        rest = &rest[size.min(rest.len())..];
    }
    found
}

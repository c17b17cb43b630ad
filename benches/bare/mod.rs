//! A bare connection: what the floors of all benches write requests to and read answers from. Anything unexpected ends
//! the bench.

#![allow(
    dead_code,
    reason = "every bench with a floor has its own copy, and needs what it needs"
)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use bytes::BytesMut;
use kafka_protocol::{
    messages::{
        ApiKey, FetchRequest, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        metadata_request::MetadataRequestTopic,
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};

/// Of Fetch and Metadata.
const VERSION: i16 = 12;

pub(crate) struct Connection {
    socket: TcpStream,
    /// The one buffer; as long as the longest answer so far.
    buffer: Vec<u8>,
    /// Of the answer that lies in it.
    length: usize,
}

impl Connection {
    pub(crate) fn new(bootstrap: &str) -> Self {
        let socket = TcpStream::connect(bootstrap).expect("the broker is there");
        socket.set_nodelay(true).expect("a socket takes options");
        Self {
            socket,
            buffer: Vec::new(),
            length: 0,
        }
    }

    /// The same connection for another thread: one writes, the other reads.
    pub(crate) fn other_half(&self) -> Self {
        Self {
            socket: self.socket.try_clone().expect("a socket has many handles"),
            buffer: Vec::new(),
            length: 0,
        }
    }

    pub(crate) fn partitions(&mut self, topic: &str) -> usize {
        self.leaders(topic).len()
    }

    /// The address of each partition's leader.
    pub(crate) fn leaders(&mut self, topic: &str) -> Vec<String> {
        let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let mut answer = self.ask(&frame(&request, ApiKey::Metadata, VERSION));
        ResponseHeader::decode(&mut answer, MetadataResponse::header_version(VERSION)).expect("a header");
        let answer = MetadataResponse::decode(&mut answer, VERSION).expect("an answer");
        let mut partitions: Vec<_> = answer.topics[0].partitions.iter().collect();
        partitions.sort_by_key(|partition| partition.partition_index);
        let leaders = partitions.iter().map(|partition| {
            let leader = answer
                .brokers
                .iter()
                .find(|broker| broker.node_id == partition.leader_id);
            let leader = leader.expect("a partition has a leader");
            format!("{}:{}", leader.host, leader.port)
        });
        leaders.collect()
    }

    pub(crate) fn write_fetch(&mut self, request: &FetchRequest) {
        self.write(&frame(request, ApiKey::Fetch, VERSION));
    }

    /// One request, and the frame that answers it.
    pub(crate) fn ask(&mut self, request: &[u8]) -> &[u8] {
        self.write(request);
        self.read()
    }

    pub(crate) fn write(&mut self, request: &[u8]) {
        self.socket.write_all(request).expect("a request leaves");
    }

    /// The next answer, without its length.
    pub(crate) fn read(&mut self) -> &[u8] {
        self.receive();
        self.received()
    }

    /// The next answer is the one that was [received](Self::received), until there is another.
    pub(crate) fn receive(&mut self) {
        let mut prefix = [0; 4];
        self.socket.read_exact(&mut prefix).expect("an answer");
        let length = u32::from_be_bytes(prefix) as usize;
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        self.length = length;
        self.socket
            .read_exact(&mut self.buffer[..length])
            .expect("the rest of the answer");
    }

    pub(crate) fn received(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// A request as it is written.
pub(crate) fn frame<R: Request>(request: &R, key: ApiKey, version: i16) -> BytesMut {
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version);
    let mut bytes = BytesMut::zeroed(4);
    header.encode(&mut bytes, R::header_version(version)).expect("a header");
    request.encode(&mut bytes, version).expect("a request");
    let length = bytes.len() as u32 - 4;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

pub(crate) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Asks for all partitions, from these offsets on.
pub(crate) fn fetch_request(topic: &str, offsets: &[i64], max_bytes: i32) -> FetchRequest {
    fetch_request_of(topic, offsets.iter().copied().enumerate(), max_bytes)
}

/// Asks for these partitions, each from its offset on.
pub(crate) fn fetch_request_of(
    topic: &str,
    offsets: impl Iterator<Item = (usize, i64)>,
    max_bytes: i32,
) -> FetchRequest {
    let partitions = offsets.map(|(partition, offset)| {
        FetchPartition::default()
            .with_partition(partition as i32)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(max_bytes)
    });
    let topic = FetchTopic::default()
        .with_topic(name(topic))
        .with_partitions(partitions.collect());
    FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(max_bytes)
        .with_isolation_level(1)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// Walks a Fetch answer, as version 12 has it: the records of each partition.
pub(crate) fn each_partition(frame: &[u8], mut found: impl FnMut(usize, &[u8])) {
    let mut fields = Fields(frame);
    fields.skip(4 + 1 + 4); // correlation ID, no tags, throttle time
    assert_eq!(fields.number::<2>(), 0, "no error");
    fields.skip(4); // session
    for _ in 0..fields.count() {
        let name = fields.count();
        fields.skip(name);
        for _ in 0..fields.count() {
            let partition = fields.number::<4>();
            assert_eq!(fields.number::<2>(), 0, "no error");
            fields.skip(8 + 8 + 8); // high watermark, last stable offset, log start
            assert_eq!(fields.count(), 0, "no aborted transactions");
            fields.skip(4); // preferred replica
            let length = fields.count();
            found(partition, fields.skip(length));
            fields.skip(1); // no tags
        }
        fields.skip(1);
    }
}

/// The offset behind the last whole batch, if there is one, as the headers have it: nothing is checked.
pub(crate) fn next_offset(mut records: &[u8]) -> Option<i64> {
    const BASE_OFFSET: usize = 0;
    const LENGTH: usize = 8;
    const LAST_OFFSET_DELTA: usize = 23;
    let mut next = None;
    while records.len() >= LAST_OFFSET_DELTA + 4 {
        let length = 12 + Fields(&records[LENGTH..]).number::<4>();
        if length > records.len() {
            break;
        }
        let [base, delta] = [
            Fields(&records[BASE_OFFSET..]).number::<8>(),
            Fields(&records[LAST_OFFSET_DELTA..]).number::<4>(),
        ];
        next = Some((base + delta) as i64 + 1);
        records = &records[length..];
    }
    next
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn skip(&mut self, count: usize) -> &'a [u8] {
        let (skipped, rest) = self.0.split_at(count);
        self.0 = rest;
        skipped
    }

    fn number<const N: usize>(&mut self) -> usize {
        self.skip(N)
            .iter()
            .fold(0, |number, &byte| number << 8 | usize::from(byte))
    }

    /// A compact length; nothing is as good as null.
    fn count(&mut self) -> usize {
        let (mut value, mut shift) = (0_usize, 0);
        loop {
            let byte = self.number::<1>();
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value.saturating_sub(1);
            }
            shift += 7;
        }
    }
}

//! The floor: what reading a topic costs when nothing is done but what must be done. One thread, one connection to the
//! one broker, one Fetch at a time into one buffer; every checksum is checked and every record walked in place.
//!
//! No client can be built like this: it cannot lose its broker, does nothing while it waits, and hands out nothing that
//! lives longer than the next answer.

use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Instant,
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
use klamm::internals::BatchReader;

use super::Read;

/// As klamm asks: larger answers fall out of the processor's cache, smaller ones cost more requests.
const MAX_BYTES: i32 = 4 << 20;
const VERSION: i16 = 12;

pub(crate) fn read(bootstrap: &str, topic: &str, records: usize) -> Read {
    let mut connection = Connection::new(bootstrap);
    let mut offsets = vec![0_i64; connection.partitions(topic)];
    let mut reader = BatchReader::new(0);
    let (mut first, mut seen, mut bytes) = (None, 0, 0);
    while seen < records {
        let frame = connection.ask(&fetch(topic, &offsets), ApiKey::Fetch, VERSION);
        each_partition(frame, |partition, records| {
            let walked = reader.walk_values(records, |value| {
                first.get_or_insert_with(Instant::now);
                bytes += black_box(value).len();
                seen += 1;
            });
            if let Some(next) = walked.expect("batches that hold") {
                offsets[partition] = next;
            }
        });
    }
    Read {
        first: first.expect("at least one record"),
        last: Instant::now(),
        bytes,
    }
}

fn fetch(topic: &str, offsets: &[i64]) -> FetchRequest {
    let partitions = offsets.iter().enumerate().map(|(partition, &offset)| {
        FetchPartition::default()
            .with_partition(partition as i32)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(MAX_BYTES)
    });
    let topic = FetchTopic::default()
        .with_topic(name(topic))
        .with_partitions(partitions.collect());
    FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(MAX_BYTES)
        .with_isolation_level(1)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

struct Connection {
    socket: TcpStream,
    /// The one buffer; as long as the longest answer so far.
    buffer: Vec<u8>,
}

impl Connection {
    fn new(bootstrap: &str) -> Self {
        let socket = TcpStream::connect(bootstrap).expect("the broker is there");
        socket.set_nodelay(true).expect("a socket takes options");
        Self {
            socket,
            buffer: Vec::new(),
        }
    }

    fn partitions(&mut self, topic: &str) -> usize {
        let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let mut frame = self.ask(&request, ApiKey::Metadata, VERSION);
        ResponseHeader::decode(&mut frame, MetadataResponse::header_version(VERSION)).expect("a header");
        let answer = MetadataResponse::decode(&mut frame, VERSION).expect("an answer");
        answer.topics[0].partitions.len()
    }

    /// One request, and the frame that answers it.
    fn ask<R: Request>(&mut self, request: &R, key: ApiKey, version: i16) -> &[u8] {
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version);
        let mut bytes = BytesMut::zeroed(4);
        header.encode(&mut bytes, R::header_version(version)).expect("a header");
        request.encode(&mut bytes, version).expect("a request");
        let length = bytes.len() as u32 - 4;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.socket.write_all(&bytes).expect("a request leaves");

        let mut prefix = [0; 4];
        self.socket.read_exact(&mut prefix).expect("an answer");
        let length = u32::from_be_bytes(prefix) as usize;
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let frame = &mut self.buffer[..length];
        self.socket.read_exact(frame).expect("the rest of the answer");
        frame
    }
}

/// Walks a Fetch answer, as version 12 has it.
fn each_partition(frame: &[u8], mut found: impl FnMut(usize, &[u8])) {
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

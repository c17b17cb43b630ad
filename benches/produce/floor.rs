//! The floor: what writing costs when nothing is done but what must be done. One thread and one connection; the requests
//! lie there encoded and compressed, five are in flight, and answers are looked at for errors only. Not idempotent.
//!
//! No client can be built like this: it has nothing to write.

use std::{
    fmt, thread,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, ProduceRequest, ProduceResponse, ResponseHeader,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::{Decodable, HeaderVersion},
};
use klamm::internals::BatchEncoder;

use super::{
    bare::{self, Connection},
    load::{Load, Workload},
};

const IN_FLIGHT: usize = 5;
const VERSION: i16 = 11;

/// How much goes into a batch before it is compressed, and how many partitions' batches into a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    batch_kilobytes: usize,
    partitions: usize,
}

/// All that make requests of 64 KiB to 12 MiB. A broker takes no batch of more than 1 MiB, as it is sent.
pub(crate) fn sizes(workload: &Workload) -> Vec<Size> {
    let most_kilobytes = if workload.codec == "none" { 1024 } else { 2048 };
    let in_a_request = [1, 2, 4, 6, 12].into_iter();
    let in_a_request = in_a_request.filter(|&count| count <= workload.partitions);
    let of_partitions = in_a_request.flat_map(|partitions| {
        let batches = [64, 128, 256, 512, 1024, 2048].into_iter();
        batches.map(move |batch_kilobytes| Size {
            batch_kilobytes,
            partitions,
        })
    });
    of_partitions
        .filter(|size| size.batch_kilobytes <= most_kilobytes)
        .collect()
}

impl Size {
    /// Requests of 3 MiB, or as near to it as one batch comes: beyond half a MiB in batches of 256 KiB and more, little
    /// changes. What is compressed is sent as less.
    fn best(workload: &Workload) -> Self {
        let is_small = workload.partitions > 1 && workload.codec == "none";
        Self {
            batch_kilobytes: if is_small { 256 } else { 1024 },
            partitions: workload.partitions,
        }
    }

    /// Of `256/4`: 256 KiB, and 4 partitions. The best for any other name.
    pub(crate) fn named(name: &str, workload: &Workload) -> Self {
        let numbers = name.split_once('/');
        let parsed = numbers.and_then(|(batch, partitions)| {
            Some(Self {
                batch_kilobytes: batch.parse().ok()?,
                partitions: partitions.parse().ok()?,
            })
        });
        parsed.unwrap_or_else(|| Self::best(workload))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.batch_kilobytes, self.partitions)
    }
}

pub(crate) struct Requests {
    /// For the partitions in turn.
    whole: Vec<BytesMut>,
    /// How many of those are sent.
    count: usize,
    /// With what is left.
    last: Option<BytesMut>,
}

pub(crate) fn prepare(load: &Load, topic: &str, size: Size) -> Requests {
    let partitions = load.workload.partitions;
    let in_a_request = size.partitions.min(partitions);
    let mut batches = Batches::new(load, size.batch_kilobytes << 10);
    let filled: Vec<(Bytes, usize)> = (0..partitions).map(|at| batches.fill(at, usize::MAX)).collect();
    let in_a_batch = filled[0].1;
    assert!(
        filled.iter().all(|(_, records)| *records == in_a_batch),
        "records are equally long"
    );

    let first_partitions = (0..partitions).step_by(in_a_request);
    let whole = first_partitions.map(|first| {
        let batches = (first..first + in_a_request).map(|at| (at % partitions, filled[at % partitions].0.clone()));
        request(topic, batches.collect())
    });
    let mut left = load.records % (in_a_request * in_a_batch);
    let mut rest = Vec::new();
    while left > 0 {
        let (batch, records) = batches.fill(0, left);
        rest.push((rest.len(), batch));
        left -= records;
    }
    Requests {
        whole: whole.collect(),
        count: load.records / (in_a_request * in_a_batch),
        last: (!rest.is_empty()).then(|| request(topic, rest)),
    }
}

impl Requests {
    pub(crate) fn write(&self, bootstrap: &str, topic: &str) -> Connection {
        let mut connection = Connection::new(bootstrap);
        connection.partitions(topic);
        let mut in_flight = 0;
        for request in self.whole.iter().cycle().take(self.count).chain(&self.last) {
            if in_flight == IN_FLIGHT {
                expect_success(connection.read());
                in_flight -= 1;
            }
            connection.write(request);
            in_flight += 1;
        }
        for _ in 0..in_flight {
            expect_success(connection.read());
        }
        connection
    }
}

/// Sends each value in a request of its own, and waits for the answer or not.
pub(crate) fn writer(bootstrap: &str, topic: &str, waits: bool) -> impl FnMut(&[u8]) {
    let mut connection = Connection::new(bootstrap);
    if !waits {
        // Ends with the process.
        let mut answers = connection.other_half();
        thread::spawn(move || {
            loop {
                expect_success(answers.read());
            }
        });
    }
    let mut encoder = BatchEncoder::new("none").expect("no codec is always there");
    move |value| {
        let filled = encoder.fill(now(), usize::MAX, [(None, value)].into_iter());
        let (batch, _) = filled.expect("a batch");
        connection.write(&request(topic, vec![(0, batch.into())]));
        if waits {
            expect_success(connection.read());
        }
    }
}

struct Batches<'a> {
    load: &'a Load,
    limit: usize,
    encoder: BatchEncoder,
}

impl<'a> Batches<'a> {
    fn new(load: &'a Load, limit: usize) -> Self {
        let encoder = BatchEncoder::new(load.workload.codec).expect("a codec");
        Self { load, limit, encoder }
    }

    /// With values from one of the first few on.
    fn fill(&mut self, first: usize, most: usize) -> (Bytes, usize) {
        let records = self.load.from(first * 1000).take(most);
        let (batch, count) = self.encoder.fill(now(), self.limit, records).expect("a batch");
        (batch.into(), count)
    }
}

fn request(topic: &str, batches: Vec<(usize, Bytes)>) -> BytesMut {
    let partitions = batches.into_iter().map(|(partition, batch)| {
        PartitionProduceData::default()
            .with_index(partition as i32)
            .with_records(Some(batch))
    });
    let topic = TopicProduceData::default()
        .with_name(bare::name(topic))
        .with_partition_data(partitions.collect());
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    bare::frame(&request, ApiKey::Produce, VERSION)
}

fn expect_success(mut answer: &[u8]) {
    ResponseHeader::decode(&mut answer, ProduceResponse::header_version(VERSION)).expect("a header");
    let answer = ProduceResponse::decode(&mut answer, VERSION).expect("an answer");
    for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
        assert_eq!(partition.error_code, 0, "{:?}", partition.error_message);
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    since.as_millis() as i64
}

//! Records what a real Kafka answers, for the fuzz targets and for `tests/fuzzed`: see `fuzz/README.md`.

mod asking;
mod old;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        DescribeGroupsRequest, FetchRequest, FetchResponse, GroupId, MetadataRequest, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        metadata_request::MetadataRequestTopic,
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use crate::support::{Kafka, wait_until};
use asking::Asking;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

#[test]
#[ignore = "writes to fuzz/corpus"]
fn answers_and_batches_of_a_real_kafka_are_recorded() {
    let kafka = Kafka::builder().start();
    let broker = kafka.direct_address(1);
    for folder in [
        "response", "batch", "gzip", "snappy", "lz4", "zstd", "frame", "payloads",
    ] {
        fs::create_dir_all(corpus(folder)).expect("a folder");
    }
    let asking = Asking::new(broker, corpus("response"));

    for codec in CODECS {
        kafka.create_topic(codec, 1, &[]);
        kafka.fill(codec, 1, 8, codec, 120);
        let batches = batches_of(&asking, codec);
        write("batch", &format!("java-{codec}"), &batches);
        if codec != "none" {
            // Behind the header of the first batch.
            let length = u32::from_be_bytes(batches[8..12].try_into().expect("four bytes")) as usize;
            write(codec, "java", &batches[61..12 + length]);
        }
    }
    kafka.create_topic("corner", 1, &[]);
    kafka.write_corner_records("corner", 0);
    write("batch", "java-corner", &small(&batches_of(&asking, "corner")));
    kafka.create_topic("transactions", 1, &[]);
    kafka.write_transactions("transactions", 0).commit();
    write("batch", "java-transactions", &batches_of(&asking, "transactions"));
    old::record();

    asking.everything("none");
    asking.lives_of_members("none");
    java_s_payloads(&kafka, &asking);
    frames();
}

/// Fetches from the start of partition 0, in every version.
fn batches_of(asking: &Asking, topic: &'static str) -> Bytes {
    let name = TopicName(StrBytes::from_static_str(topic));
    let asked = MetadataRequestTopic::default().with_name(Some(name.clone()));
    let metadata = asking.ask(&MetadataRequest::default().with_topics(Some(vec![asked])), 12);
    let id: Uuid = metadata.expect("metadata").topics[0].topic_id;
    let request = |version: i16| {
        let partition = FetchPartition::default()
            .with_fetch_offset(0)
            .with_partition_max_bytes(1 << 20);
        let asked = FetchTopic::default().with_partitions(vec![partition]);
        let asked = match version {
            13.. => asked.with_topic_id(id),
            _ => asked.with_topic(name.clone()),
        };
        FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_isolation_level(1)
            .with_topics(vec![asked])
    };
    let mut last: Option<FetchResponse> = None;
    for version in asking.versions::<FetchRequest>() {
        // All of them for one topic; for others the two ways of writing lengths, unless there is much in it.
        let is_wanted = topic == "none" || (topic != "corner" && [11, 16].contains(&version));
        let request = request(version);
        let answer = match is_wanted {
            true => asking.record(&format!("-{topic}"), version, &request),
            false => asking.ask(&request, version),
        };
        last = answer.or(last);
    }
    let answer = last.expect("an answer");
    answer.responses[0].partitions[0].records.clone().expect("records")
}

/// Without the batches that are too long for a corpus.
fn small(mut batches: &[u8]) -> Vec<u8> {
    let mut small = Vec::new();
    while let Some(length) = batches.get(8..12) {
        let length = 12 + u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let (batch, behind) = batches.split_at(length);
        if batch.len() < 2_000 {
            small.extend(batch);
        }
        batches = behind;
    }
    small
}

/// What Java's consumer and its group's leader write.
fn java_s_payloads(kafka: &Kafka, asking: &Asking) {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(StrBytes::from_static_str("java"))]);
    let mut member = kafka.console_member("java", "none", &[]);
    wait_until("the member has its partitions", Duration::from_secs(60), || {
        let described = asking.ask(&request, 5).expect("an answer");
        let group = &described.groups[0];
        let member = group.members.iter().find(|member| !member.member_assignment.is_empty());
        member.is_some_and(|member| {
            write("payloads", "java-subscription", &member.member_metadata);
            write("payloads", "java-assignment", &member.member_assignment);
            true
        })
    });
    for version in asking.versions::<DescribeGroupsRequest>() {
        asking.record("-java", version, &request);
    }
    member.leave();
}

/// Two small answers, one behind the other, in pieces of seven bytes.
fn frames() {
    let mut stream = vec![6];
    for name in ["heartbeat-v04", "find-coordinator-v04"] {
        let answer = fs::read(corpus("response").join(name)).expect("it was recorded");
        let (_, frame) = answer.split_at(2);
        stream.extend((frame.len() as u32).to_be_bytes());
        stream.extend(frame);
    }
    write("frame", "two-answers", &stream);
    write(
        "frame",
        "http",
        b"\xffHTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    );
    write("frame", "tls-alert", b"\xff\x15\x03\x03\x00\x02\x02\x46");
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    fs::write(corpus(target).join(name), bytes).expect("a file");
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

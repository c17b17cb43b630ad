//! The Fetch answer, parsed while it is read.
//!
//! Fetch is the one hot answer: its records go straight from the socket into a buffer of their own, partition by
//! partition, so that nothing is copied twice and no partition keeps another's bytes alive. Every length and count is
//! checked against what is left of the frame before it is believed.

use std::{
    io::{self, Read},
    sync::Arc,
};

use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// From this version on strings and arrays are compact, and structs end in tagged fields.
const FLEXIBLE: i16 = 12;

/// No topic of Kafka's has a longer name.
const LONGEST_TOPIC: usize = 249;

/// How a Fetch answer names its topics: by ID from version 13 on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    Id(Uuid),
    Name(Arc<str>),
}

/// One transaction that was aborted: its producer, and where its records begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// What the broker says about the leader when it is not (or no longer) itself (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaderHint {
    pub leader: i32,
    pub epoch: i32,
}

/// A broker's address in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub broker: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

#[derive(Debug)]
pub(crate) struct PartitionAnswer {
    pub topic: TopicKey,
    pub partition: i32,
    pub error: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub aborted: Vec<AbortedTransaction>,
    pub preferred_read_replica: Option<i32>,
    pub records: Vec<u8>,
    pub leader: Option<LeaderHint>,
}

#[derive(Debug, Default)]
pub(crate) struct FetchAnswer {
    pub throttle_ms: i32,
    pub error: i16,
    pub session_id: i32,
    pub partitions: Vec<PartitionAnswer>,
    pub endpoints: Vec<Endpoint>,
    /// Bytes of its frame that are still to be read, at most [`TAIL`], and to be given to [`check_tail`].
    pub tail: usize,
}

/// So many bytes end the last partition, its topic and the answer when there are no tagged fields.
pub(crate) const TAIL: usize = 3;

/// Reads one Fetch answer, header included, of `frame` bytes.
///
/// `expected` is what one partition was asked for at the most, or a usual batch: a buffer of that size may be made at once; a larger
/// claim (one batch above the limit is Kafka's right) is believed as its bytes arrive. More than `most_partitions` is more
/// than was asked for. `buffer` gives buffers to fill; what is in them is written over.
///
/// The last bytes are left to be read later when it is known what they must be: a broker sends them on their own, behind the
/// records, and whoever waits for these need not wait for those.
///
/// # Errors
///
/// Io when the reader fails, Protocol when the answer does not hold what it claims; what is wrong with its tail,
/// [`check_tail`] says.
pub(crate) fn read_answer<R: Read>(
    reader: R,
    frame: usize,
    version: i16,
    correlation_id: i32,
    expected: usize,
    most_partitions: usize,
    mut buffer: impl FnMut(usize) -> Vec<u8>,
) -> Result<FetchAnswer> {
    let mut frame = Frame {
        reader,
        left: frame,
        flexible: version >= FLEXIBLE,
    };
    let found = frame.i32()?;
    if found != correlation_id {
        return Err(Error::protocol(format!(
            "the broker answered request {found} where {correlation_id} was asked"
        )));
    }
    frame.skip_tags()?;
    let mut answer = FetchAnswer {
        throttle_ms: frame.i32()?,
        ..FetchAnswer::default()
    };
    if version >= 7 {
        answer.error = frame.i16()?;
        answer.session_id = frame.i32()?;
    }
    for topics_behind in (0..frame.count("topics")?).rev() {
        let topic = if version >= 13 {
            TopicKey::Id(frame.uuid()?)
        } else {
            TopicKey::Name(frame.topic()?)
        };
        for partitions_behind in (0..frame.count("partitions")?).rev() {
            let mut partition = frame.partition(version, topic.clone(), expected, &mut buffer)?;
            if answer.partitions.len() >= most_partitions {
                let message = format!("a Fetch answer holds more than {most_partitions} partitions");
                return Err(Error::protocol(message));
            }
            let is_last = topics_behind == 0 && partitions_behind == 0;
            if is_last && frame.flexible && frame.left == TAIL {
                answer.partitions.push(partition);
                answer.tail = TAIL;
                return Ok(answer);
            }
            partition.leader = frame.leader()?;
            answer.partitions.push(partition);
        }
        frame.skip_tags()?;
    }
    let endpoints = &mut answer.endpoints;
    frame.tags(|frame, tag| {
        if tag != 0 {
            return Ok(false);
        }
        for _ in 0..frame.count("node endpoints")? {
            let endpoint = Endpoint {
                broker: frame.i32()?,
                host: frame.string("host")?,
                port: frame.i32()?,
                rack: frame.nullable_string("rack")?,
            };
            frame.skip_tags()?;
            endpoints.push(endpoint);
        }
        Ok(true)
    })?;
    if frame.left > 0 {
        return Err(Error::protocol(format!(
            "{} bytes are left over behind a Fetch answer",
            frame.left
        )));
    }
    Ok(answer)
}

/// Looks at what was left of an answer's frame.
///
/// # Errors
///
/// Protocol when it begins fields that have no room in it.
pub(crate) fn check_tail(tail: &[u8]) -> Result<()> {
    match tail.iter().all(|&fields| fields == 0) {
        true => Ok(()),
        false => Err(Error::protocol("a Fetch answer ends in the middle of a tagged field")),
    }
}

/// What is left of one frame. No read goes beyond it.
struct Frame<R> {
    reader: R,
    left: usize,
    flexible: bool,
}

impl<R: Read> Frame<R> {
    /// Up to its tagged fields.
    fn partition(
        &mut self,
        version: i16,
        topic: TopicKey,
        expected: usize,
        buffer: &mut impl FnMut(usize) -> Vec<u8>,
    ) -> Result<PartitionAnswer> {
        let mut answer = PartitionAnswer {
            topic,
            partition: self.i32()?,
            error: self.i16()?,
            high_watermark: self.i64()?,
            last_stable_offset: self.i64()?,
            aborted: Vec::new(),
            preferred_read_replica: None,
            records: Vec::new(),
            leader: None,
        };
        if version >= 5 {
            self.i64()?; // where the log starts: nobody asks
        }
        for _ in 0..self.nullable_count("aborted transactions")?.unwrap_or(0) {
            let aborted = AbortedTransaction {
                producer_id: self.i64()?,
                first_offset: self.i64()?,
            };
            self.skip_tags()?;
            answer.aborted.push(aborted);
        }
        if version >= 11 {
            answer.preferred_read_replica = Some(self.i32()?).filter(|&replica| replica >= 0);
        }
        if let Some(length) = self.length("records")?.filter(|&length| length > 0) {
            answer.records = self.bytes(length, expected, buffer)?;
        }
        Ok(answer)
    }

    /// What the tagged fields of a partition say.
    fn leader(&mut self) -> Result<Option<LeaderHint>> {
        let mut leader = None;
        self.tags(|frame, tag| {
            if tag != 1 {
                return Ok(false); // 0 diverging epoch and 2 snapshot are for followers
            }
            let hint = LeaderHint {
                leader: frame.i32()?,
                epoch: frame.i32()?,
            };
            frame.skip_tags()?;
            leader = Some(hint).filter(|hint| hint.leader >= 0);
            Ok(true)
        })?;
        Ok(leader)
    }

    fn bytes(&mut self, length: usize, expected: usize, buffer: &mut impl FnMut(usize) -> Vec<u8>) -> Result<Vec<u8>> {
        self.need(length, "records")?;
        let believed = length.min(expected);
        let mut bytes = buffer(believed);
        // What is in it is written over, so that a buffer that was used before need not be cleared.
        bytes.resize(believed, 0);
        let read = self.reader.read_exact(&mut bytes);
        let read = read.and_then(|()| {
            let rest = (length - believed) as u64;
            (&mut self.reader).take(rest).read_to_end(&mut bytes)
        });
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut_off(),
            _ => Error::io("reading records", error),
        })?;
        if bytes.len() < length {
            return Err(cut_off());
        }
        self.left -= length;
        Ok(bytes)
    }

    fn exactly<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.need(N, "a field")?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut_off(),
            _ => Error::io("reading a Fetch answer", error),
        })?;
        self.left -= N;
        Ok(bytes)
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.exactly()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.exactly()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.exactly()?))
    }

    fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.exactly()?))
    }

    fn uvarint(&mut self) -> Result<u32> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.exactly::<1>()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::protocol("a varint in a Fetch answer is longer than 32 bits"))
    }

    /// A length or count; None is Kafka's null.
    fn length(&mut self, what: &str) -> Result<Option<usize>> {
        let length = if self.flexible {
            i64::from(self.uvarint()?) - 1
        } else {
            i64::from(self.i32()?)
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(Error::protocol(format!("a Fetch answer claims {length} {what}"))),
        }
    }

    fn nullable_count(&mut self, what: &str) -> Result<Option<usize>> {
        let count = self.length(what)?;
        // Every element takes more than one byte; what it really holds is checked as it is read.
        self.need(count.unwrap_or(0), what)?;
        Ok(count)
    }

    fn count(&mut self, what: &str) -> Result<usize> {
        self.nullable_count(what)?
            .ok_or_else(|| Error::protocol(format!("a Fetch answer has null for its {what}")))
    }

    fn nullable_string(&mut self, what: &str) -> Result<Option<String>> {
        let length = if self.flexible {
            self.length(what)?
        } else {
            match self.i16()? {
                -1 => None,
                length => Some(usize::try_from(length).map_err(|_| Error::protocol("a string has a negative length"))?),
            }
        };
        let Some(length) = length else { return Ok(None) };
        self.need(length, what)?;
        let mut bytes = vec![0; length.min(usize::from(u16::MAX))];
        if bytes.len() < length {
            return Err(Error::protocol(format!("a {what} of {length} bytes in a Fetch answer")));
        }
        self.reader
            .read_exact(&mut bytes)
            .map_err(|error| Error::io("reading a Fetch answer", error))?;
        self.left -= length;
        let text = String::from_utf8(bytes);
        Ok(Some(text.map_err(|_| {
            Error::protocol(format!("a {what} in a Fetch answer is not UTF-8"))
        })?))
    }

    fn string(&mut self, what: &str) -> Result<String> {
        self.nullable_string(what)?
            .ok_or_else(|| Error::protocol(format!("a Fetch answer has null for a {what}")))
    }

    fn topic(&mut self) -> Result<Arc<str>> {
        let name = self.string("topic")?;
        if name.len() > LONGEST_TOPIC {
            return Err(Error::protocol(format!(
                "a topic's name of {} bytes in a Fetch answer",
                name.len()
            )));
        }
        Ok(Arc::from(name))
    }

    fn skip_tags(&mut self) -> Result<()> {
        self.tags(|_, _| Ok(false))
    }

    /// Offers each tagged field to `known`, which either reads it and says true, or leaves it to be skipped.
    fn tags(&mut self, mut known: impl FnMut(&mut Self, u32) -> Result<bool>) -> Result<()> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            self.need(size, "a tagged field")?;
            let behind = self.left - size;
            // Inside the field the field's end is the end of everything.
            self.left = size;
            if known(self, tag)? {
                if self.left > 0 {
                    return Err(Error::protocol(
                        "a tagged field of a Fetch answer is longer than what it holds",
                    ));
                }
            } else {
                self.skip()?;
            }
            self.left = behind;
        }
        Ok(())
    }

    /// Reads over all that is left.
    fn skip(&mut self) -> Result<()> {
        let skipped = io::copy(&mut (&mut self.reader).take(self.left as u64), &mut io::sink());
        let skipped = skipped.map_err(|error| Error::io("reading a Fetch answer", error))?;
        if skipped < self.left as u64 {
            return Err(cut_off());
        }
        self.left = 0;
        Ok(())
    }

    fn need(&self, length: usize, what: &str) -> Result<()> {
        if length <= self.left {
            return Ok(());
        }
        let left = self.left;
        Err(Error::protocol(format!(
            "a Fetch answer claims {length} for {what} where {left} bytes are left of its frame"
        )))
    }
}

fn cut_off() -> Error {
    Error::new(ErrorKind::Io, "the connection ended in the middle of a Fetch answer")
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::{
        messages::{
            BrokerId, FetchResponse, ProducerId, TopicName,
            fetch_response::{
                AbortedTransaction as WireAborted, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
                PartitionData,
            },
        },
        protocol::{Encodable, StrBytes},
    };
    use proptest::prelude::*;

    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn answer(version: i16) -> Vec<u8> {
        let mut partition = PartitionData::default()
            .with_partition_index(3)
            .with_high_watermark(100)
            .with_last_stable_offset(90)
            .with_log_start_offset(if version >= 5 { 5 } else { -1 })
            .with_records(Some(Bytes::from_static(b"records as they are")));
        partition.aborted_transactions = Some(vec![
            WireAborted::default()
                .with_producer_id(ProducerId(9))
                .with_first_offset(42),
        ]);
        if version >= 12 {
            partition.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(2))
                .with_leader_epoch(11);
        }
        let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
        let topic = if version >= 13 {
            topic.with_topic_id(ID)
        } else {
            topic.with_topic(TopicName(StrBytes::from_static_str("orders")))
        };
        let mut response = FetchResponse::default().with_responses(vec![topic]);
        if version >= 7 {
            response.session_id = 77;
        }
        if version >= 16 {
            response.node_endpoints = vec![
                NodeEndpoint::default()
                    .with_node_id(BrokerId(2))
                    .with_host(StrBytes::from_static_str("there"))
                    .with_port(9092),
            ];
        }
        let mut bytes = BytesMut::new();
        bytes.extend_from_slice(&5_i32.to_be_bytes());
        if version >= 12 {
            bytes.extend_from_slice(&[0]);
        }
        response.encode(&mut bytes, version).unwrap();
        bytes.to_vec()
    }

    fn read(bytes: &[u8], version: i16) -> Result<FetchAnswer> {
        let mut rest = bytes;
        let answer = read_answer(&mut rest, bytes.len(), version, 5, 1 << 20, 9, Vec::with_capacity)?;
        assert_eq!(rest.len(), answer.tail);
        check_tail(rest)?;
        Ok(answer)
    }

    #[test]
    fn every_version_is_read_as_kafka_protocol_wrote_it() {
        for version in 4..=18 {
            let answer = read(&answer(version), version).unwrap();
            assert_eq!(answer.partitions.len(), 1, "version {version}");
            let partition = &answer.partitions[0];
            let topic = if version >= 13 {
                TopicKey::Id(ID)
            } else {
                TopicKey::Name(Arc::from("orders"))
            };
            assert_eq!(partition.topic, topic);
            assert_eq!((partition.partition, partition.error), (3, 0));
            assert_eq!((partition.high_watermark, partition.last_stable_offset), (100, 90));
            assert_eq!(
                partition.aborted,
                [AbortedTransaction {
                    producer_id: 9,
                    first_offset: 42
                }]
            );
            assert_eq!(partition.records, b"records as they are");
            assert_eq!(
                partition.leader,
                (version >= 12).then_some(LeaderHint { leader: 2, epoch: 11 })
            );
            assert_eq!(answer.endpoints.len(), usize::from(version >= 16));
            assert_eq!(answer.session_id, if version >= 7 { 77 } else { 0 });
        }
    }

    #[test]
    fn an_answer_cut_at_any_byte_is_an_error() {
        for version in [4, 11, 12, 18] {
            let bytes = answer(version);
            for end in 0..bytes.len() {
                assert!(read_answer(&bytes[..end], bytes.len(), version, 5, 64, 9, Vec::with_capacity).is_err());
                assert!(read(&bytes[..end], version).is_err());
            }
        }
    }

    /// Without tagged fields, as nearly all are.
    fn plain(version: i16) -> Vec<u8> {
        let partition = |index| {
            PartitionData::default()
                .with_partition_index(index)
                .with_records(Some(Bytes::from_static(b"records as they are")))
        };
        let topic = FetchableTopicResponse::default().with_partitions(vec![partition(0), partition(1)]);
        let topic = match version >= 13 {
            true => topic.with_topic_id(ID),
            false => topic.with_topic(TopicName(StrBytes::from_static_str("orders"))),
        };
        let mut bytes = BytesMut::from(&5_i32.to_be_bytes()[..]);
        if version >= FLEXIBLE {
            bytes.extend_from_slice(&[0]);
        }
        let response = FetchResponse::default().with_responses(vec![topic]);
        response.encode(&mut bytes, version).unwrap();
        bytes.to_vec()
    }

    #[test]
    fn nobody_waits_for_the_end_of_an_answer_that_says_nothing_more() {
        for version in [4, 11, 12, 18] {
            let bytes = plain(version);
            let tail = if version >= FLEXIBLE { TAIL } else { 0 };
            let (known, rest) = bytes.split_at(bytes.len() - tail);
            let answer = read_answer(known, bytes.len(), version, 5, 64, 9, Vec::with_capacity).unwrap();
            assert_eq!((answer.partitions.len(), answer.tail), (2, tail));
            assert!(
                answer
                    .partitions
                    .iter()
                    .all(|one| one.records == b"records as they are")
            );
            check_tail(rest).unwrap();
            for end in 0..known.len() {
                assert!(read_answer(&known[..end], bytes.len(), version, 5, 64, 9, Vec::with_capacity).is_err());
            }
        }
        assert_eq!(read(&answer(18), 18).unwrap().tail, 0);
    }

    #[test]
    fn an_end_that_says_more_than_it_has_room_for_is_a_lie() {
        for lie in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0x80]] {
            assert_eq!(check_tail(&lie).unwrap_err().kind(), ErrorKind::Protocol);
        }
    }

    #[test]
    fn another_request_s_answer_is_refused() {
        let bytes = answer(18);
        let error = read_answer(&bytes[..], bytes.len(), 18, 6, 64, 9, Vec::with_capacity).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }

    #[test]
    fn a_claimed_count_is_not_believed() {
        // Correlation ID, no tags, throttle, error, session, and then four billion topics.
        let mut bytes = vec![0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        let error = read(&bytes, 18).unwrap_err();
        assert!(error.to_string().contains("topics"), "{error}");
    }

    #[test]
    fn a_buffer_is_never_made_by_a_claimed_length() {
        let bytes = answer(18);
        let mut asked = 0;
        read_answer(&bytes[..], bytes.len(), 18, 5, 8, 9, |size| {
            asked = size;
            Vec::with_capacity(size)
        })
        .unwrap();
        assert_eq!(asked, 8);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 4_i16..=18) {
            if bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&5_i32.to_be_bytes());
            }
            let _ = read(&bytes, version);
        }

        #[test]
        fn a_flipped_byte_never_panics(at in 0_usize..150, with in any::<u8>(), version in 4_i16..=18) {
            let mut bytes = answer(version);
            let at = at % bytes.len();
            bytes[at] ^= with;
            let _ = read(&bytes, version);
        }
    }
}

//! Produce requests, as pieces.
//!
//! Produce is the one hot request: its batches are finished where they lie, and `kafka-protocol` would copy each of them
//! into one buffer. Here a request is a few bytes of its own, with the batches in between as they are.

use std::iter;

use kafka_protocol::{messages::ProduceRequest, protocol::Request};
use uuid::Uuid;

use crate::{
    error::{Error, ErrorKind, Result},
    wire::{api, frame::Pieces},
};

/// The versions that are encoded here.
const FIRST: i16 = 3;
const LAST: i16 = 13;

/// From this version on lengths are compact, and structs end in tagged fields.
const FLEXIBLE: i16 = 9;

/// From this version on topics go by their IDs.
pub(crate) const TOPIC_IDS: i16 = 13;

/// A request to the broker that leads all these partitions.
#[derive(Debug)]
pub(crate) struct Produce<'r, 'a, B> {
    pub(crate) transactional_id: Option<&'r str>,
    /// 0: the broker does not answer; 1: once the leader has it; -1: once all in sync have it.
    pub(crate) acks: i16,
    /// How long the leader may wait for the others.
    pub(crate) timeout_ms: i32,
    /// Each once.
    pub(crate) topics: &'r [TopicBatches<'a, B>],
}

#[derive(Debug)]
pub(crate) struct TopicBatches<'a, B> {
    /// Which of the two is sent is the version's choice.
    pub(crate) name: &'a str,
    /// With a nil one, no version that goes by IDs may be spoken.
    pub(crate) id: Uuid,
    /// Each partition once, with the bytes of exactly one record batch, which is all that a broker takes.
    pub(crate) partitions: &'a [(i32, B)],
}

/// A whole frame, its length in front.
#[derive(Debug)]
pub(crate) struct ProduceFrame<'a> {
    /// All that is between the batches, in a row.
    own: Vec<u8>,
    /// In their order, each with how much of `own` is in front of it.
    batches: Vec<(usize, &'a [u8])>,
}

impl<'a, B: AsRef<[u8]>> Produce<'_, 'a, B> {
    /// # Errors
    ///
    /// `TooLarge` for a frame beyond 2 GiB, and for a name that Kafka has no length for; `Unsupported` for a version that
    /// is none of those from 3 to 13.
    pub(crate) fn encode(&self, version: i16, correlation_id: i32, client_id: &str) -> Result<ProduceFrame<'a>> {
        self.frame(version, correlation_id, client_id)
            .map_err(|error| error.in_api(api::name(ProduceRequest::KEY)))
    }

    fn frame(&self, version: i16, correlation_id: i32, client_id: &str) -> Result<ProduceFrame<'a>> {
        if !(FIRST..=LAST).contains(&version) {
            let message = format!("klamm writes versions {FIRST} to {LAST} of Produce, not {version}");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let mut out = Encoder {
            own: Vec::with_capacity(self.most_own(client_id)),
            batches: Vec::with_capacity(self.topics.iter().map(|topic| topic.partitions.len()).sum()),
            flexible: version >= FLEXIBLE,
        };
        out.i32(0); // the length
        out.i16(ProduceRequest::KEY);
        out.i16(version);
        out.i32(correlation_id);
        // Alone among strings, it is never compact: a broker must understand it before it knows the version.
        out.i16(short(client_id)?);
        out.own.extend_from_slice(client_id.as_bytes());
        out.tags();
        self.body(version, &mut out)?;
        out.finish()
    }

    fn body(&self, version: i16, out: &mut Encoder<'a>) -> Result<()> {
        match self.transactional_id {
            Some(id) => out.string(id)?,
            None if out.flexible => out.uvarint(0),
            None => out.i16(-1),
        }
        out.i16(self.acks);
        out.i32(self.timeout_ms);
        out.length(self.topics.len())?;
        for topic in self.topics {
            if version >= TOPIC_IDS {
                out.own.extend_from_slice(topic.id.as_bytes());
            } else {
                out.string(topic.name)?;
            }
            out.length(topic.partitions.len())?;
            for (partition, batch) in topic.partitions {
                out.i32(*partition);
                out.batch(batch.as_ref())?;
                out.tags();
            }
            out.tags();
        }
        out.tags();
        Ok(())
    }

    /// At least as much as all that is not batches takes.
    fn most_own(&self, client_id: &str) -> usize {
        let topics = self.topics.iter();
        let of_topics = topics.map(|topic| 24 + topic.name.len() + 10 * topic.partitions.len());
        40 + client_id.len() + self.transactional_id.map_or(0, str::len) + of_topics.sum::<usize>()
    }
}

impl ProduceFrame<'_> {
    #[cfg(test)]
    /// Bytes, the length in front included.
    pub(crate) fn len(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }
}

impl Pieces for ProduceFrame<'_> {
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let batches = self.batches.iter().flat_map(move |(to, batch)| {
            let own = &self.own[from..*to];
            from = *to;
            [own, *batch]
        });
        let rest = self.batches.last().map_or(0, |(to, _)| *to);
        batches.chain(iter::once(&self.own[rest..]))
    }
}

struct Encoder<'a> {
    own: Vec<u8>,
    batches: Vec<(usize, &'a [u8])>,
    flexible: bool,
}

impl<'a> Encoder<'a> {
    fn i16(&mut self, value: i16) {
        self.own.extend_from_slice(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.own.extend_from_slice(&value.to_be_bytes());
    }

    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.own.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.own.push(value as u8);
    }

    /// Of an array or of bytes.
    fn length(&mut self, length: usize) -> Result<()> {
        let length = i32::try_from(length).map_err(|_| too_large())?;
        if self.flexible {
            self.uvarint(length.unsigned_abs() + 1); // 0 is null
        } else {
            self.i32(length);
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<()> {
        let length = short(text)?;
        if self.flexible {
            self.uvarint(u32::from(length.unsigned_abs()) + 1); // 0 is null
        } else {
            self.i16(length);
        }
        self.own.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn batch(&mut self, batch: &'a [u8]) -> Result<()> {
        self.length(batch.len())?;
        self.batches.push((self.own.len(), batch));
        Ok(())
    }

    /// None of a request's tagged fields is needed.
    fn tags(&mut self) {
        if self.flexible {
            self.own.push(0);
        }
    }

    fn finish(self) -> Result<ProduceFrame<'a>> {
        let Self { mut own, batches, .. } = self;
        // What lies in memory once may be named often, so the sum may be beyond any address.
        let of_batches: u64 = batches.iter().map(|(_, batch)| batch.len() as u64).sum();
        let (prefix, body) = own.split_at_mut(4);
        let length = i32::try_from(body.len() as u64 + of_batches).map_err(|_| too_large())?;
        prefix.copy_from_slice(&length.to_be_bytes());
        Ok(ProduceFrame { own, batches })
    }
}

/// The length of a string, which Kafka has two bytes for.
fn short(text: &str) -> Result<i16> {
    i16::try_from(text.len()).map_err(|_| {
        let message = format!(
            "a name of {} bytes is longer than Kafka's protocol can carry",
            text.len()
        );
        Error::new(ErrorKind::TooLarge, message)
    })
}

fn too_large() -> Error {
    Error::new(ErrorKind::TooLarge, "a request is larger than a frame can be")
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::{
        messages::{
            BrokerId, ProduceResponse, ResponseHeader, TopicName, TransactionalId, produce_request::*,
            produce_response::*,
        },
        protocol::{Encodable, HeaderVersion, StrBytes},
    };
    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::wire::request;

    #[derive(Debug, Clone)]
    struct Topic {
        name: String,
        id: u128,
        partitions: Vec<(i32, Vec<u8>)>,
    }

    #[derive(Debug, Clone)]
    struct Whole {
        transactional_id: Option<String>,
        acks: i16,
        timeout_ms: i32,
        topics: Vec<Topic>,
    }

    impl Whole {
        fn ours(&self, version: i16, id: i32, client_id: &str) -> Vec<u8> {
            let topics: Vec<TopicBatches<'_, Vec<u8>>> = self.topics.iter().map(Topic::ours).collect();
            let produce = Produce {
                transactional_id: self.transactional_id.as_deref(),
                acks: self.acks,
                timeout_ms: self.timeout_ms,
                topics: &topics,
            };
            let frame = produce.encode(version, id, client_id).unwrap();
            let bytes = frame.pieces().collect::<Vec<_>>().concat();
            assert_eq!(frame.len(), bytes.len());
            assert!(frame.own.len() <= produce.most_own(client_id));
            bytes
        }

        fn theirs(&self, version: i16, id: i32, client_id: &str) -> BytesMut {
            let transactional_id = self.transactional_id.clone();
            let request = ProduceRequest::default()
                .with_transactional_id(transactional_id.map(|id| TransactionalId(StrBytes::from_string(id))))
                .with_acks(self.acks)
                .with_timeout_ms(self.timeout_ms)
                .with_topic_data(self.topics.iter().map(|topic| topic.theirs(version)).collect());
            let mut bytes = BytesMut::new();
            request::encode(&request, version, id, client_id, &mut bytes).unwrap();
            bytes
        }
    }

    impl Topic {
        fn ours(&self) -> TopicBatches<'_, Vec<u8>> {
            TopicBatches {
                name: &self.name,
                id: Uuid::from_u128(self.id),
                partitions: &self.partitions,
            }
        }

        fn theirs(&self, version: i16) -> TopicProduceData {
            let partitions = self.partitions.iter().map(|(partition, batch)| {
                let data = PartitionProduceData::default().with_index(*partition);
                data.with_records(Some(Bytes::copy_from_slice(batch)))
            });
            let topic = TopicProduceData::default().with_partition_data(partitions.collect());
            if version < 13 {
                topic.with_name(TopicName(StrBytes::from_string(self.name.clone())))
            } else {
                topic.with_topic_id(Uuid::from_u128(self.id))
            }
        }
    }

    /// Of lengths at which a compact length takes another byte, too.
    fn batch() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![0..200_usize, 126..130_usize, 16_382..16_386_usize];
        (length, any::<u8>()).prop_map(|(length, byte)| vec![byte; length])
    }

    fn topic() -> impl Strategy<Value = Topic> {
        let partitions =
            prop_oneof![9 => vec((any::<i32>(), batch()), 0..4), 1 => vec((any::<i32>(), Just(vec![7])), 120..140)];
        ("\\PC{0,40}|[a-z]{120,249}", any::<u128>(), partitions).prop_map(|(name, id, partitions)| Topic {
            name,
            id,
            partitions,
        })
    }

    fn whole() -> impl Strategy<Value = Whole> {
        let topics = prop_oneof![15 => vec(topic(), 0..4), 1 => vec(topic(), 126..130)];
        (
            option::of("\\PC{0,40}|[a-z]{120,140}"),
            any::<i16>(),
            any::<i32>(),
            topics,
        )
            .prop_map(|(transactional_id, acks, timeout_ms, topics)| Whole {
                transactional_id,
                acks,
                timeout_ms,
                topics,
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn every_version_is_byte_for_byte_what_kafka_protocol_writes(
            whole in whole(), id in any::<i32>(), client_id in "\\PC{0,30}",
        ) {
            for version in FIRST..=LAST {
                let (ours, theirs) = (whole.ours(version, id, &client_id), whole.theirs(version, id, &client_id));
                prop_assert!(ours == theirs, "version {}: {:?} is not {:?}", version, ours, theirs);
            }
        }
    }

    fn small<'r, 'a>(topics: &'r [TopicBatches<'a, &'a [u8]>]) -> Produce<'r, 'a, &'a [u8]> {
        Produce {
            transactional_id: None,
            acks: -1,
            timeout_ms: 1000,
            topics,
        }
    }

    fn named<'a>(name: &'a str, partitions: &'a [(i32, &'a [u8])]) -> TopicBatches<'a, &'a [u8]> {
        TopicBatches {
            name,
            id: Uuid::nil(),
            partitions,
        }
    }

    #[test]
    fn batches_are_not_copied() {
        let batches = [vec![1; 100], vec![2; 50]];
        let partitions = [(0, &batches[0][..]), (1, &batches[1][..])];
        let topics = [named("orders", &partitions)];
        let frame = small(&topics).encode(13, 1, "me").unwrap();
        let pieces: Vec<&[u8]> = frame.pieces().collect();
        assert_eq!(pieces.len(), 5);
        assert_eq!(
            (pieces[1].as_ptr(), pieces[3].as_ptr()),
            (batches[0].as_ptr(), batches[1].as_ptr())
        );
    }

    #[test]
    fn what_no_frame_can_hold_is_refused() {
        // The same 64 MiB for 32 partitions: 2 GiB, and as many for 31.
        let batch = vec![0; 64 * 1024 * 1024];
        let partitions: Vec<(i32, &[u8])> = (0..32).map(|partition| (partition, &batch[..])).collect();
        let topics = [named("orders", &partitions)];
        let error = small(&topics).encode(9, 1, "me").unwrap_err();
        assert_eq!((error.kind(), error.api()), (ErrorKind::TooLarge, Some("Produce")));
        let topics = [named("orders", &partitions[..31])];
        let frame = small(&topics).encode(9, 1, "me").unwrap();
        let length = frame.pieces().next().unwrap()[..4].try_into().unwrap();
        assert_eq!(i32::from_be_bytes(length) as usize + 4, frame.len());
    }

    #[test]
    fn a_name_beyond_a_string_is_refused() {
        let name = "x".repeat(32_768);
        for version in [8, 12] {
            let topics = [named(&name, &[])];
            let error = small(&topics).encode(version, 1, "me").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(error.to_string().contains("32768 bytes"), "{error}");
            assert!(small(&[]).encode(version, 1, &name).is_err());
            small(&[named(&name[1..], &[])]).encode(version, 1, "me").unwrap();
        }
        // Where topics go by IDs, names do not matter.
        small(&[named(&name, &[])]).encode(13, 1, "me").unwrap();
    }

    #[test]
    fn other_versions_are_refused_and_never_picked() {
        for version in [FIRST - 1, LAST + 1] {
            let error = small(&[]).encode(version, 1, "me").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
        let api = api::of(ProduceRequest::KEY);
        assert_eq!((api.first, api.last), (FIRST, LAST));
    }

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    /// All that an answer of this version can say, which is what a producer acts on.
    fn answer(version: i16) -> ProduceResponse {
        let mut written = PartitionProduceResponse::default()
            .with_index(3)
            .with_base_offset(1 << 40)
            .with_log_append_time_ms(1_700_000_000_000);
        let mut refused = PartitionProduceResponse::default()
            .with_index(4)
            .with_error_code(87)
            .with_base_offset(-1);
        let mut moved = PartitionProduceResponse::default()
            .with_index(5)
            .with_error_code(6)
            .with_base_offset(-1);
        let mut answer = ProduceResponse::default().with_throttle_time_ms(250);
        if version >= 5 {
            written = written.with_log_start_offset(17);
        }
        if version >= 8 {
            let bad = BatchIndexAndErrorMessage::default()
                .with_batch_index(2)
                .with_batch_index_error_message(Some(text("no key")));
            let worse = BatchIndexAndErrorMessage::default().with_batch_index(7);
            refused = refused
                .with_record_errors(vec![bad, worse])
                .with_error_message(Some(text("two records are invalid")));
        }
        if version >= 10 {
            let leader = LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(2))
                .with_leader_epoch(9);
            moved = moved.with_current_leader(leader);
            let endpoint = NodeEndpoint::default()
                .with_node_id(BrokerId(2))
                .with_host(text("two"))
                .with_port(9092)
                .with_rack(Some(text("rack")));
            answer = answer.with_node_endpoints(vec![endpoint]);
        }
        let topic = TopicProduceResponse::default().with_partition_responses(vec![written, refused, moved]);
        let topic = match version {
            ..13 => topic.with_name(TopicName(text("orders"))),
            _ => topic.with_topic_id(Uuid::from_u128(0x1234)),
        };
        answer.with_responses(vec![topic])
    }

    #[test]
    fn an_answer_says_all_it_can_in_every_version() {
        for version in FIRST..=LAST {
            let mut frame = BytesMut::new();
            let header = ResponseHeader::default().with_correlation_id(7);
            header
                .encode(&mut frame, ProduceResponse::header_version(version))
                .unwrap();
            answer(version).encode(&mut frame, version).unwrap();
            let read = request::decode::<ProduceRequest>(version, frame.freeze()).unwrap();
            assert_eq!(read, answer(version), "version {version}");
        }
    }
}

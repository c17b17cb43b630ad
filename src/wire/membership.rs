//! The classic group protocol's opaque payloads: what a member subscribes to, and what it is assigned.
//!
//! The broker passes them on without a look, so they are what some other member, of any program, has written. Every
//! length and count is checked against the bytes that are there before it is believed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::error::{Error, Result};

/// Java's as well since 2.4. Later versions only append fields, and who knows none of them skips them.
const VERSION: i16 = 1;

/// The partitions of one member by topic.
pub(crate) type Assignment = BTreeMap<Arc<str>, Vec<i32>>;

/// ConsumerProtocolSubscription: topics, user data, and partitions that are still owned, of which an eager member has
/// none when it joins.
pub(crate) fn encode_subscription(topics: &[Arc<str>]) -> Vec<u8> {
    let topics: Vec<_> = topics.iter().filter(|topic| has_legal_length(topic)).collect();
    let mut payload = VERSION.to_be_bytes().to_vec();
    put_count(&mut payload, topics.len());
    for topic in topics {
        put_string(&mut payload, topic);
    }
    put_no_user_data(&mut payload);
    put_count(&mut payload, 0);
    payload
}

/// The topics that a member subscribes to.
///
/// # Errors
///
/// Protocol, when the payload is not a subscription.
pub(crate) fn decode_subscription(payload: &[u8]) -> Result<BTreeSet<Arc<str>>> {
    let mut payload = Payload::of("subscription", payload)?;
    let mut topics = BTreeSet::new();
    for _ in 0..payload.count(STRING)? {
        topics.insert(payload.string()?);
    }
    Ok(topics)
}

/// ConsumerProtocolAssignment: partitions by topic, user data.
pub(crate) fn encode_assignment(assignment: &Assignment) -> Vec<u8> {
    let topics: Vec<_> = assignment
        .iter()
        .filter(|(topic, partitions)| has_legal_length(topic) && !partitions.is_empty())
        .collect();
    let mut payload = VERSION.to_be_bytes().to_vec();
    put_count(&mut payload, topics.len());
    for (topic, partitions) in topics {
        put_string(&mut payload, topic);
        put_count(&mut payload, partitions.len());
        for partition in partitions {
            payload.extend(partition.to_be_bytes());
        }
    }
    put_no_user_data(&mut payload);
    payload
}

/// The partitions of a member, each once and in order; no bytes at all are no partitions.
///
/// # Errors
///
/// Protocol, when the payload is not an assignment.
pub(crate) fn decode_assignment(payload: &[u8]) -> Result<Assignment> {
    let mut assignment = Assignment::new();
    if payload.is_empty() {
        return Ok(assignment);
    }
    let mut payload = Payload::of("assignment", payload)?;
    for _ in 0..payload.count(STRING + COUNT)? {
        let topic = payload.string()?;
        let partitions = assignment.entry(topic).or_default();
        for _ in 0..payload.count(PARTITION)? {
            partitions.push(payload.i32()?);
        }
    }
    for partitions in assignment.values_mut() {
        partitions.sort_unstable();
        partitions.dedup();
    }
    Ok(assignment)
}

/// The fewest bytes that each of these takes.
const STRING: usize = 2;
const COUNT: usize = 4;
const PARTITION: usize = 4;

/// Kafka's own limit is 249, so that no topic is left out that there is.
fn has_legal_length(topic: &str) -> bool {
    i16::try_from(topic.len()).is_ok()
}

fn put_string(payload: &mut Vec<u8>, text: &str) {
    payload.extend(i16::try_from(text.len()).unwrap_or(i16::MAX).to_be_bytes());
    payload.extend(text.as_bytes());
}

fn put_count(payload: &mut Vec<u8>, count: usize) {
    payload.extend(i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes());
}

fn put_no_user_data(payload: &mut Vec<u8>) {
    payload.extend((-1_i32).to_be_bytes());
}

/// What is left to read of a payload.
struct Payload<'a> {
    what: &'static str,
    left: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Behind the version, which matters only in what comes later than what is read here.
    fn of(what: &'static str, bytes: &'a [u8]) -> Result<Self> {
        let mut payload = Self { what, left: bytes };
        let version = payload.i16()?;
        if version < 0 {
            return Err(payload.broken(&format!("has version {version}")));
        }
        Ok(payload)
    }

    fn i16(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// A count of things that take at least this many bytes each.
    fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.i32()?;
        usize::try_from(count)
            .ok()
            .filter(|count| count.saturating_mul(least) <= self.left.len())
            .ok_or_else(|| self.broken(&format!("claims {count} entries in {} bytes", self.left.len())))
    }

    fn string(&mut self) -> Result<Arc<str>> {
        let length = self.i16()?;
        let length = usize::try_from(length).map_err(|_| self.broken("has a string of negative length"))?;
        let text =
            std::str::from_utf8(self.take(length)?).map_err(|_| self.broken("has a string that is not UTF-8"))?;
        Ok(Arc::from(text))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, left) = self.left.split_first_chunk().ok_or_else(|| self.broken("ends early"))?;
        self.left = left;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, left) = self
            .left
            .split_at_checked(length)
            .ok_or_else(|| self.broken("ends early"))?;
        self.left = left;
        Ok(taken)
    }

    fn broken(&self, how: &str) -> Error {
        Error::protocol(format!("a group member's {} {how}", self.what))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::{
        messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription},
        protocol::{Decodable, Encodable, StrBytes},
    };
    use proptest::prelude::*;

    use super::*;

    fn topics() -> impl Strategy<Value = BTreeSet<Arc<str>>> {
        prop::collection::btree_set("[a-zä.]{0,12}".prop_map(Arc::from), 0..6)
    }

    fn assignments() -> impl Strategy<Value = Assignment> {
        let partitions = prop::collection::btree_set(0..1000_i32, 1..9).prop_map(|set| set.into_iter().collect());
        prop::collection::btree_map("[a-z]{1,9}".prop_map(Arc::from), partitions, 0..5)
    }

    fn as_list(topics: &BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        topics.iter().cloned().collect()
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(topics in topics(), assignment in assignments()) {
            prop_assert_eq!(decode_subscription(&encode_subscription(&as_list(&topics))).unwrap(), topics);
            prop_assert_eq!(decode_assignment(&encode_assignment(&assignment)).unwrap(), assignment);
        }

        #[test]
        fn others_read_what_is_written_here(topics in topics(), assignment in assignments()) {
            let payload = encode_subscription(&as_list(&topics));
            let read = ConsumerProtocolSubscription::decode(&mut &payload[2..], VERSION).unwrap();
            prop_assert!(read.topics.iter().map(|topic| topic.as_str()).eq(topics.iter().map(|topic| &**topic)));
            prop_assert!(read.owned_partitions.is_empty());

            let payload = encode_assignment(&assignment);
            let read = ConsumerProtocolAssignment::decode(&mut &payload[2..], VERSION).unwrap();
            let read: Assignment = read.assigned_partitions.into_iter()
                .map(|topic| (Arc::from(topic.topic.as_str()), topic.partitions))
                .collect();
            prop_assert_eq!(read, assignment);
        }

        #[test]
        fn every_version_of_others_is_read_here(version in 0..=3_i16, topics in topics()) {
            let names = topics.iter().map(|topic| StrBytes::from_string(topic.to_string())).collect();
            let mut payload = BytesMut::from(&version.to_be_bytes()[..]);
            let subscription = ConsumerProtocolSubscription::default().with_topics(names);
            subscription.encode(&mut payload, version).unwrap();
            prop_assert_eq!(&decode_subscription(&payload).unwrap(), &topics);
            // One from the future has more behind it.
            payload[..2].copy_from_slice(&40_i16.to_be_bytes());
            payload.extend_from_slice(&[7; 5]);
            prop_assert_eq!(decode_subscription(&payload).unwrap(), topics);
        }

        #[test]
        fn no_bytes_whatsoever_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_subscription(&bytes);
            if let Ok(assignment) = decode_assignment(&bytes) {
                let partitions: usize = assignment.values().map(Vec::len).sum();
                prop_assert!(partitions * PARTITION + assignment.len() * STRING <= bytes.len());
            }
        }

        #[test]
        fn a_payload_that_was_cut_is_refused(assignment in assignments(), cut in 1..5_usize) {
            // Only the user data, which nobody reads, may be missing.
            let payload = encode_assignment(&assignment);
            prop_assume!(!assignment.is_empty());
            prop_assert!(decode_assignment(&payload[..payload.len() - 4 - cut]).is_err());
        }
    }

    #[test]
    fn a_count_that_cannot_be_is_refused_before_anything_is_made_of_it() {
        for count in [i32::MAX, -1, 2] {
            let mut payload = VERSION.to_be_bytes().to_vec();
            payload.extend(count.to_be_bytes());
            payload.extend([0; 3]);
            assert!(decode_subscription(&payload).is_err());
            assert!(decode_assignment(&payload).is_err());
        }
    }

    #[test]
    fn a_negative_version_is_no_payload() {
        let error = decode_subscription(&[0xff, 0xff, 0, 0, 0, 0]).unwrap_err().to_string();
        assert_eq!(error, "a group member's subscription has version -1");
    }

    #[test]
    fn no_bytes_at_all_are_an_assignment_of_nothing_and_no_subscription() {
        assert_eq!(decode_assignment(&[]).unwrap(), Assignment::new());
        assert!(decode_subscription(&[]).is_err());
    }

    #[test]
    fn a_partition_that_is_named_twice_is_assigned_once() {
        let twice = Assignment::from([(Arc::from("a"), vec![3, 1, 3])]);
        let once = Assignment::from([(Arc::from("a"), vec![1, 3])]);
        assert_eq!(decode_assignment(&encode_assignment(&twice)).unwrap(), once);
    }
}

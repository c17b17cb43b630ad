//! OffsetCommit and OffsetFetch in version 10, where topics have IDs and no names: the codec reads them up to version 9,
//! and writes the answers to both.

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        GroupId, OffsetCommitRequest, OffsetFetchRequest,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
    },
    protocol::{Decodable, StrBytes},
};
use uuid::Uuid;

pub(crate) const VERSION: i16 = 10;
/// Whose parts are the same, but for the topics.
const BEFORE: i16 = 9;

/// `None` if the bytes are no such request.
pub(super) fn commit(body: &mut Bytes) -> Option<OffsetCommitRequest> {
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(string(body)??))
        .with_generation_id_or_member_epoch(int(body)?)
        .with_member_id(string(body)??)
        .with_group_instance_id(string(body)?);
    let topics = array(body, |body| {
        let topic = OffsetCommitRequestTopic::default()
            .with_topic_id(id(body)?)
            .with_partitions(array(body, |body| {
                OffsetCommitRequestPartition::decode(body, BEFORE).ok()
            })??);
        skip_tags(body).map(|()| topic)
    })??;
    skip_tags(body)?;
    Some(request.with_topics(topics))
}

/// `None` if the bytes are no such request.
pub(super) fn fetch(body: &mut Bytes) -> Option<OffsetFetchRequest> {
    let groups = array(body, group)??;
    let is_stable = take(body, 1)?[0] != 0;
    skip_tags(body)?;
    let request = OffsetFetchRequest::default().with_groups(groups);
    Some(request.with_require_stable(is_stable))
}

fn group(body: &mut Bytes) -> Option<OffsetFetchRequestGroup> {
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(string(body)??))
        .with_member_id(string(body)?)
        .with_member_epoch(int(body)?);
    let topics = array(body, |body| {
        let topic = OffsetFetchRequestTopics::default()
            .with_topic_id(id(body)?)
            .with_partition_indexes(array(body, int)??);
        skip_tags(body).map(|()| topic)
    })?;
    skip_tags(body)?;
    Some(group.with_topics(topics))
}

/// `Some(None)` if it is null, which is another thing than empty.
fn array<T>(body: &mut Bytes, mut one: impl FnMut(&mut Bytes) -> Option<T>) -> Option<Option<Vec<T>>> {
    let Some(count) = varint(body)?.checked_sub(1) else {
        return Some(None);
    };
    // Grows as they are read: a count alone shall cost nothing.
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(one(body)?);
    }
    Some(Some(all))
}

/// `Some(None)` if it is null.
fn string(body: &mut Bytes) -> Option<Option<StrBytes>> {
    let Some(length) = varint(body)?.checked_sub(1) else {
        return Some(None);
    };
    let text = StrBytes::try_from(take(body, length)?).ok()?;
    Some(Some(text))
}

fn id(body: &mut Bytes) -> Option<Uuid> {
    Uuid::from_slice(&take(body, 16)?).ok()
}

fn int(body: &mut Bytes) -> Option<i32> {
    let bytes: [u8; 4] = take(body, 4)?[..].try_into().ok()?;
    Some(i32::from_be_bytes(bytes))
}

fn skip_tags(body: &mut Bytes) -> Option<()> {
    for _ in 0..varint(body)? {
        let _tag = varint(body)?;
        let size = varint(body)?;
        take(body, size)?;
    }
    Some(())
}

fn varint(body: &mut Bytes) -> Option<usize> {
    let mut value = 0;
    for at in 0..5 {
        let byte = take(body, 1)?[0];
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return u32::try_from(value).ok()?.try_into().ok();
        }
    }
    None
}

fn take(body: &mut Bytes, size: usize) -> Option<Bytes> {
    (size <= body.len()).then(|| body.split_to(size))
}

//! A record batch of format 2, which is stored as it came: its header, and what the broker writes into it.

use bytes::{Buf, Bytes, BytesMut};

use crate::error_code::{
    CORRUPT_MESSAGE, INVALID_RECORD, MESSAGE_TOO_LARGE, UNKNOWN_SERVER_ERROR, UNSUPPORTED_COMPRESSION_TYPE,
};

/// Where things are in a batch. Base offset, length and leader epoch are outside of the checksum.
const BASE_OFFSET: usize = 0;
const LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORD_COUNT: usize = 57;
const RECORDS: usize = 61;

const CODEC: i16 = 0b111;
const ZSTD: i16 = 4;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// One batch, with the part of its header that the broker cares for.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) base: i64,
    /// The offset of its last record.
    pub(crate) last: i64,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
    attributes: i16,
    pub(crate) bytes: Bytes,
}

/// Why a broker does not take a batch: the code, and what it says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: i16,
    pub(crate) message: &'static str,
}

fn refuse<T>(code: i16, message: &'static str) -> Result<T, Refusal> {
    Err(Refusal { code, message })
}

impl Batch {
    /// The one batch that a Produce request has for a partition. Half a batch behind it is overlooked.
    pub(crate) fn requested(records: &Bytes, version: i16) -> Result<Self, Refusal> {
        let batch = Self::parse(records)?;
        if version < 7 && batch.codec() == ZSTD {
            return refuse(UNSUPPORTED_COMPRESSION_TYPE, "zstd needs version 7 of Produce");
        }
        if Self::parse(&records.slice(batch.bytes.len()..)).is_ok() {
            return refuse(INVALID_RECORD, "a request must contain exactly one record batch");
        }
        Ok(batch)
    }

    /// What a leader looks at before it appends what a client sent.
    pub(crate) fn check(&self, max_bytes: usize) -> Result<(), Refusal> {
        if self.base != 0 {
            return refuse(INVALID_RECORD, "the base offset of a produced batch must be 0");
        }
        if self.bytes.len() > max_bytes {
            return refuse(MESSAGE_TOO_LARGE, "the batch is larger than max.message.bytes");
        }
        if crc32c::crc32c(&self.bytes[ATTRIBUTES..]) != self.bytes.slice(CRC..).get_u32() {
            return refuse(CORRUPT_MESSAGE, "the checksum does not match");
        }
        if self.count < 1 || i64::from(self.count) != self.last - self.base + 1 {
            return refuse(INVALID_RECORD, "the number of records does not match the last offset");
        }
        if self.is_control() {
            return refuse(INVALID_RECORD, "clients may not write control batches");
        }
        if self.producer_id >= 0 && self.base_sequence < 0 {
            return refuse(INVALID_RECORD, "a producer ID without a sequence");
        }
        if self.codec() > ZSTD {
            return refuse(UNKNOWN_SERVER_ERROR, "there is no such codec");
        }
        if self.is_compressed() {
            return Ok(());
        }
        match self.walk() {
            Some(records) if records.len() as i64 == i64::from(self.count) => Ok(()),
            _ => refuse(INVALID_RECORD, "the records do not fill the batch"),
        }
    }

    /// The first batch of `records`. Its checksum is not looked at.
    pub(crate) fn parse(records: &Bytes) -> Result<Self, Refusal> {
        if records.len() < RECORDS {
            return refuse(INVALID_RECORD, "too short for a record batch");
        }
        let at = |offset: usize| records.slice(offset..);
        match at(MAGIC).get_i8() {
            2 => {}
            0 | 1 => return refuse(INVALID_RECORD, "only record batches of format 2 are taken"),
            _ => return refuse(CORRUPT_MESSAGE, "there is no such format"),
        }
        let length = usize::try_from(at(LENGTH).get_i32()).unwrap_or(usize::MAX);
        let size = length.saturating_add(LEADER_EPOCH);
        if size < RECORDS || size > records.len() {
            return refuse(INVALID_RECORD, "the batch's length does not match");
        }
        let base = at(BASE_OFFSET).get_i64();
        Ok(Self {
            base,
            last: base.wrapping_add(at(LAST_OFFSET_DELTA).get_i32().into()),
            base_timestamp: at(BASE_TIMESTAMP).get_i64(),
            max_timestamp: at(MAX_TIMESTAMP).get_i64(),
            producer_id: at(PRODUCER_ID).get_i64(),
            producer_epoch: at(PRODUCER_EPOCH).get_i16(),
            base_sequence: at(BASE_SEQUENCE).get_i32(),
            count: at(RECORD_COUNT).get_i32(),
            attributes: at(ATTRIBUTES).get_i16(),
            bytes: records.slice(..size),
        })
    }

    /// The same records at their place in the log.
    pub(crate) fn placed(&self, base: i64, leader_epoch: i32) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[BASE_OFFSET..LENGTH].copy_from_slice(&base.to_be_bytes());
        bytes[LEADER_EPOCH..MAGIC].copy_from_slice(&leader_epoch.to_be_bytes());
        Self {
            base,
            last: base + (self.last - self.base),
            bytes: bytes.freeze(),
            ..self.clone()
        }
    }

    /// The same with the broker's time in place of the producer's, which changes the checksum.
    pub(crate) fn stamped(&self, log_append_time: i64) -> Self {
        let attributes = self.attributes | LOG_APPEND_TIME;
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[ATTRIBUTES..LAST_OFFSET_DELTA].copy_from_slice(&attributes.to_be_bytes());
        bytes[MAX_TIMESTAMP..PRODUCER_ID].copy_from_slice(&log_append_time.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES..]);
        bytes[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        Self {
            attributes,
            max_timestamp: log_append_time,
            bytes: bytes.freeze(),
            ..self.clone()
        }
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    fn is_compressed(&self) -> bool {
        self.codec() != 0
    }

    fn codec(&self) -> i16 {
        self.attributes & CODEC
    }

    /// The sequence of its last record; sequences start over after the largest number.
    pub(crate) fn last_sequence(&self) -> i32 {
        let last = i64::from(self.base_sequence) + i64::from(self.count) - 1;
        (last % (i64::from(i32::MAX) + 1)) as i32
    }

    /// Whether a control batch ends its transaction by taking it back.
    pub(crate) fn is_abort_marker(&self) -> bool {
        let mut records = &self.bytes[RECORDS..];
        let key = (|| {
            take_varint(&mut records)?; // length
            records = records.get(1..)?; // attributes
            for _ in 0..3 {
                take_varint(&mut records)?; // timestamp, offset, length of the key
            }
            records.get(2..4) // version, type
        })();
        self.is_control() && key == Some(&[0, 0])
    }

    /// Offset and timestamp of the first record that is not older than `timestamp`.
    ///
    /// Compressed records are not looked into: their batch's first offset stands for them.
    pub(crate) fn find_timestamp(&self, timestamp: i64) -> Option<(i64, i64)> {
        if self.max_timestamp < timestamp {
            return None;
        }
        if self.attributes & LOG_APPEND_TIME != 0 {
            return Some((self.base, self.max_timestamp));
        }
        if self.is_compressed() || self.base_timestamp >= timestamp {
            return Some((self.base, self.base_timestamp));
        }
        let records = self.walk()?;
        records.into_iter().find(|(_, found)| *found >= timestamp)
    }

    /// Where the newest record of the batch is; the batch's last offset, if it cannot be seen.
    pub(crate) fn newest(&self) -> i64 {
        if self.attributes & LOG_APPEND_TIME != 0 {
            return self.base;
        }
        let records = (!self.is_compressed())
            .then(|| self.walk())
            .flatten()
            .unwrap_or_default();
        let newest = records.iter().find(|(_, timestamp)| *timestamp == self.max_timestamp);
        newest.map_or(self.last, |(offset, _)| *offset)
    }

    /// Offsets and timestamps of uncompressed records; `None` if they do not fill the batch exactly.
    fn walk(&self) -> Option<Vec<(i64, i64)>> {
        let mut rest = &self.bytes[RECORDS..];
        let mut found = Vec::new();
        while !rest.is_empty() {
            let length = usize::try_from(take_varint(&mut rest)?).ok()?;
            let mut record = rest.get(..length)?;
            rest = &rest[length..];
            record = record.get(1..)?; // attributes
            let timestamp = self.base_timestamp.wrapping_add(take_varint(&mut record)?);
            let offset = self.base.wrapping_add(take_varint(&mut record)?);
            found.push((offset, timestamp));
        }
        Some(found)
    }
}

/// A zigzag number of up to 64 bits.
fn take_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Batches for tests.
#[cfg(test)]
pub(crate) mod samples {
    use bytes::{BufMut, Bytes, BytesMut};

    use super::*;

    /// What differs between the batches of tests.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Sample {
        pub(crate) count: i32,
        pub(crate) timestamp: i64,
        pub(crate) producer: (i64, i16, i32),
        pub(crate) attributes: i16,
        /// The marker of a control batch: 0 takes a transaction back, 1 ends it.
        pub(crate) marker: Option<i16>,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self {
                count: 1,
                timestamp: 1000,
                producer: (-1, -1, -1),
                attributes: 0,
                marker: None,
            }
        }
    }

    impl Sample {
        pub(crate) fn transactional(mut self) -> Self {
            self.attributes |= TRANSACTIONAL;
            self
        }

        pub(crate) fn ending(mut self, marker: i16) -> Self {
            self.attributes |= TRANSACTIONAL | CONTROL;
            self.marker = Some(marker);
            self
        }

        pub(crate) fn batch(self) -> Batch {
            Batch::parse(&self.bytes()).unwrap()
        }

        /// Each record is one millisecond newer than the one before.
        pub(crate) fn bytes(self) -> Bytes {
            let mut records = BytesMut::new();
            for index in 0..self.count as u8 {
                let key: &[u8] = match self.marker {
                    Some(0) => &[8, 0, 0, 0, 0],
                    Some(_) => &[8, 0, 0, 0, 1],
                    None => &[1],
                };
                records.put_u8((3 + key.len() as u8 + 2) * 2);
                records.put_slice(&[0, index * 2, index * 2]);
                records.put_slice(key);
                records.put_slice(&[1, 0]); // no value, no headers
            }
            let mut batch = BytesMut::new();
            batch.put_i64(0);
            batch.put_i32((RECORDS - LEADER_EPOCH + records.len()) as i32);
            batch.put_i32(-1);
            batch.put_i8(2);
            batch.put_u32(0);
            batch.put_i16(self.attributes);
            batch.put_i32(self.count - 1);
            batch.put_i64(self.timestamp);
            batch.put_i64(self.timestamp + i64::from(self.count) - 1);
            let (id, epoch, sequence) = self.producer;
            batch.put_i64(id);
            batch.put_i16(epoch);
            batch.put_i32(sequence);
            batch.put_i32(self.count);
            batch.put_slice(&records);
            let crc = crc32c::crc32c(&batch[ATTRIBUTES..]);
            batch[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
            batch.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{samples::Sample, *};

    fn three() -> Bytes {
        Sample {
            count: 3,
            ..Sample::default()
        }
        .bytes()
    }

    /// What becomes of a batch in a request of this version.
    fn produced(records: &Bytes, version: i16) -> Result<Batch, Refusal> {
        let batch = Batch::requested(records, version)?;
        batch.check(1000).map(|()| batch)
    }

    fn refused(bytes: &[u8]) -> i16 {
        produced(&Bytes::copy_from_slice(bytes), 9).unwrap_err().code
    }

    /// The batch with one byte changed, and its checksum made to fit.
    fn with(offset: usize, byte: u8) -> Vec<u8> {
        let mut bytes = three().to_vec();
        bytes[offset] = byte;
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES..]);
        bytes[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    #[test]
    fn a_sound_batch_is_taken() {
        let batch = produced(&three(), 9).unwrap();
        assert_eq!((batch.base, batch.last, batch.count), (0, 2, 3));
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let mut bytes = three().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(refused(&bytes), CORRUPT_MESSAGE);
        assert_eq!(refused(&three()[..40]), INVALID_RECORD);
        assert_eq!(refused(&three()[..70]), INVALID_RECORD);
        assert_eq!(refused(&with(MAGIC, 3)), CORRUPT_MESSAGE);
        assert_eq!(refused(&with(ATTRIBUTES + 1, 7)), UNKNOWN_SERVER_ERROR);
    }

    #[test]
    fn what_a_client_may_not_write_is_refused() {
        assert_eq!(refused(&[three(), three()].concat()), INVALID_RECORD);
        assert_eq!(refused(&with(BASE_OFFSET, 1)), INVALID_RECORD);
        assert_eq!(refused(&with(MAGIC, 1)), INVALID_RECORD);
        assert_eq!(refused(&with(ATTRIBUTES + 1, CONTROL as u8)), INVALID_RECORD);
        assert_eq!(refused(&with(RECORD_COUNT + 3, 2)), INVALID_RECORD);
        assert_eq!(refused(&with(RECORDS, 2)), INVALID_RECORD);
        let batch = Batch::requested(&three(), 9).unwrap();
        assert_eq!(batch.check(20).unwrap_err().code, MESSAGE_TOO_LARGE);
        let zstd = Bytes::from(with(ATTRIBUTES + 1, ZSTD as u8));
        assert_eq!(produced(&zstd, 6).unwrap_err().code, UNSUPPORTED_COMPRESSION_TYPE);
        assert!(produced(&zstd, 7).is_ok());
    }

    #[test]
    fn half_a_batch_behind_the_first_is_overlooked() {
        let half = three().slice(..20);
        let batch = produced(&[three(), half].concat().into(), 9).unwrap();
        assert_eq!(batch.bytes, three());
    }

    #[test]
    fn a_placed_batch_keeps_its_checksum() {
        let placed = Batch::parse(&three()).unwrap().placed(40, 7);
        let again = Batch::parse(&placed.bytes).unwrap();
        assert_eq!((again.base, again.last), (40, 42));
        assert_eq!(again.bytes[LEADER_EPOCH..MAGIC], [0, 0, 0, 7]);
        assert_eq!(again.bytes[CRC..], three()[CRC..]);
    }

    #[test]
    fn a_stamped_batch_has_a_new_checksum() {
        let stamped = Batch::parse(&three()).unwrap().stamped(5000);
        let again = produced(&stamped.bytes, 9).unwrap();
        assert_eq!(again.max_timestamp, 5000);
        assert_eq!(again.find_timestamp(3000), Some((0, 5000)));
    }

    #[test]
    fn a_timestamp_finds_its_record() {
        let batch = Batch::parse(&three()).unwrap().placed(10, 0);
        assert_eq!(batch.find_timestamp(0), Some((10, 1000)));
        assert_eq!(batch.find_timestamp(1001), Some((11, 1001)));
        assert_eq!(batch.find_timestamp(1003), None);
        assert_eq!(batch.newest(), 12);
    }

    #[test]
    fn sequences_start_over_after_the_largest_number() {
        let at = |sequence| {
            Sample {
                count: 3,
                producer: (1, 0, sequence),
                ..Sample::default()
            }
            .batch()
            .last_sequence()
        };
        assert_eq!(at(5), 7);
        assert_eq!(at(i32::MAX - 2), i32::MAX);
        assert_eq!(at(i32::MAX), 1);
    }

    #[test]
    fn markers_tell_how_a_transaction_ended() {
        assert!(Sample::default().ending(0).batch().is_abort_marker());
        assert!(!Sample::default().ending(1).batch().is_abort_marker());
        assert!(!Sample::default().batch().is_abort_marker());
    }
}

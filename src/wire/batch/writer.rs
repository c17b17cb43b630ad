//! Writes record batches, magic 2, in the three steps of a batch's life: records are appended, the batch is closed and
//! maybe compressed, and before each time that it is sent under another identity, it is stamped.

use super::{
    codec::{Compression, Compressor},
    decoder::LOG_APPEND,
    raw::{CHECKED_FROM, CONTROL, HEADER, PREFIX, TRANSACTIONAL},
    varint::{Packed, Short, size_i64, write_i64},
};
use crate::{Error, ErrorKind, Result};

#[cfg(test)]
mod tests;

/// A header as it is written: key, and a value that may be null.
pub(crate) type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// What has to be known of a batch while records are appended. Its bytes are the caller's, who gives the same ones each
/// time: room for the header, then whole records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchWriter {
    records: u32,
    /// Of the first record, not the lowest: what the others' deltas count from. -1 before there is one.
    first_timestamp: i64,
    max_timestamp: i64,
}

/// Where a batch stands in what its producer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) base_sequence: i32,
}

impl Sequence {
    /// Of a producer that is not idempotent.
    pub(crate) const NONE: Self = Self {
        producer_id: -1,
        epoch: -1,
        base_sequence: -1,
    };
}

/// What a batch says of itself besides its codec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) transactional: bool,
    pub(crate) control: bool,
    /// Set by brokers only; every record then has the batch's highest timestamp.
    pub(crate) log_append: bool,
}

impl BatchWriter {
    /// Begins a batch in `out`, whose capacity is kept and whose content is not.
    pub(crate) fn start(out: &mut Vec<u8>) -> Self {
        out.clear();
        out.resize(HEADER, 0);
        Self {
            records: 0,
            first_timestamp: -1,
            max_timestamp: -1,
        }
    }

    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// By exactly how much [`append`](Self::append) would make the batch longer.
    #[inline]
    pub(crate) fn size_of(
        &self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) -> usize {
        let body = body_size(self.timestamp_delta(timestamp), self.records, key, value, headers);
        body.saturating_add(size_i64(body as i64))
    }

    /// Where `out` has room for [`size_of`](Self::size_of) the record, it does not move.
    ///
    /// # Errors
    ///
    /// `TooLarge` if the batch would reach 2 GiB, which is more than its header can say; it is left as it was.
    #[inline]
    pub(crate) fn append(
        &mut self,
        out: &mut Vec<u8>,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) -> Result<()> {
        let size = self.size_of(timestamp, key, value, headers);
        self.append_sized(out, size, timestamp, key, value, headers)
    }

    /// [`append`](Self::append) for who has asked for the record's [`size_of`](Self::size_of) just before.
    #[inline]
    pub(crate) fn append_sized(
        &mut self,
        out: &mut Vec<u8>,
        size: usize,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) -> Result<()> {
        debug_assert_eq!(size, self.size_of(timestamp, key, value, headers));
        if size > LONGEST.saturating_sub(out.len()) {
            return Err(too_large());
        }
        out.reserve(size);
        let end = out.len() + size;
        let mut front = Short::default();
        front.push(body_of(size) as i64);
        front.push(0); // attributes, of which Kafka uses none
        front.push(self.timestamp_delta(timestamp));
        front.push(i64::from(self.records));
        front.push(length_of(key));
        if let Some(key) = key {
            front.write(out);
            out.extend_from_slice(key);
        }
        front.push(length_of(value));
        front.write(out);
        out.extend_from_slice(value.unwrap_or_default());
        if headers.is_empty() {
            out.push(0);
        } else {
            write_headers(out, headers);
        }
        debug_assert_eq!(out.len(), end);
        self.count(timestamp);
        Ok(())
    }

    /// [`append`](Self::append) for nearly every record: if there is more than enough room for it, and it makes the batch no
    /// longer than `limit`. Says whether it is in; if not, [`append`](Self::append) may take it all the same.
    ///
    /// What stands in front of key and value is put together in registers: that tells the record's size, too.
    #[inline]
    pub(crate) fn append_short(
        &mut self,
        out: &mut Vec<u8>,
        limit: usize,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> bool {
        let (of_key, of_value) = (Packed::of(length_of(key)), Packed::of(length_of(value)));
        if !of_key.and(of_value).is_whole() {
            return false;
        }
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        let delta = Packed::of(self.timestamp_delta(timestamp));
        let place = Packed::of(i64::from(self.records));
        // Attributes, of which Kafka uses none, and the count of headers, which is zero, take a byte each.
        let body = 2 + delta.length + place.length + of_key.length + key.len() + of_value.length + value.len();
        let length = Packed::of(body as i64);
        let front = length.and(Packed::ZERO).and(delta).and(place);
        let end = out.len() + length.length + body;
        if !front.is_whole() || end > limit.min(LONGEST) || end + Packed::ROOM > out.capacity() {
            return false;
        }
        front.write(out);
        if key.is_empty() {
            of_key.and(of_value).write(out);
        } else {
            of_key.write(out);
            out.extend_from_slice(key);
            of_value.write(out);
        }
        out.extend_from_slice(value);
        out.push(0);
        debug_assert_eq!(out.len(), end);
        self.count(timestamp);
        true
    }

    /// Takes a record into account that is not written: so that sizes can be known before there is room.
    #[inline]
    pub(crate) fn count(&mut self, timestamp: i64) {
        if self.records == 0 {
            self.first_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.records += 1;
    }

    /// Fills in what the header says of the records, which stay as they are. Without a [`stamp`] the batch is not to be
    /// sent.
    pub(crate) fn close(self, out: &mut [u8], flags: Flags) {
        let last_offset_delta = self.records.saturating_sub(1);
        put_length(out);
        put(out, 12, &(-1_i32).to_be_bytes()); // the leader's epoch, which the broker fills in, as it does the offset
        put(out, 16, &[2]);
        put(out, 21, &flags.bits().to_be_bytes());
        put(out, 23, &last_offset_delta.to_be_bytes());
        put(out, 27, &self.first_timestamp.to_be_bytes());
        put(out, 35, &self.max_timestamp.to_be_bytes());
        put(out, 57, &self.records.to_be_bytes());
    }

    #[inline]
    fn timestamp_delta(&self, timestamp: i64) -> i64 {
        if self.records == 0 {
            0
        } else {
            timestamp.wrapping_sub(self.first_timestamp)
        }
    }
}

/// What a batch can say of its length.
const LONGEST: usize = i32::MAX as usize;

/// Compresses a closed batch, if that makes it smaller: says whether it did. Where it does not, or after an `Err`, the
/// batch is as it was.
///
/// `scratch` holds the result for a moment; kept by the caller, it need not be made for each batch. `bytes` never becomes
/// longer, and keeps its capacity.
pub(crate) fn compress(bytes: &mut Vec<u8>, compressor: &mut Compressor, scratch: &mut Vec<u8>) -> Result<bool> {
    let compression = compressor.compression();
    if compression == Compression::None {
        return Ok(false);
    }
    let records = &mut bytes[HEADER..];
    scratch.clear();
    compressor.compress(records, scratch)?;
    if scratch.len() >= records.len() {
        return Ok(false);
    }
    records[..scratch.len()].copy_from_slice(scratch);
    bytes.truncate(HEADER + scratch.len());
    put_length(bytes);
    bytes[22] |= compression as u8; // the lower byte of its attributes
    Ok(true)
}

/// Gives a closed batch its identity, and the checksum over all of it: before it is sent, and again whenever its
/// identity has changed.
pub(crate) fn stamp(batch: &mut [u8], sequence: Sequence) {
    put(batch, 43, &sequence.producer_id.to_be_bytes());
    put(batch, 51, &sequence.epoch.to_be_bytes());
    put(batch, 53, &sequence.base_sequence.to_be_bytes());
    let checksum = crc32c::crc32c(&batch[CHECKED_FROM..]);
    put(batch, 17, &checksum.to_be_bytes());
}

impl Flags {
    fn bits(self) -> i16 {
        let bit = |set: bool, bit: i16| if set { bit } else { 0 };
        bit(self.transactional, TRANSACTIONAL) | bit(self.control, CONTROL) | bit(self.log_append, LOG_APPEND)
    }
}

/// The most that a record takes, wherever in a batch it comes to lie.
pub(crate) fn record_size(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[HeaderRef<'_>]) -> usize {
    let body = body_size(i64::MIN, i32::MAX.unsigned_abs(), key, value, headers);
    body.saturating_add(size_i64(body as i64))
}

/// What follows a record's length. As large as can be where it is more than can be addressed: a record may name the
/// same bytes many times.
#[inline(always)]
fn body_size(
    timestamp_delta: i64,
    offset_delta: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[HeaderRef<'_>],
) -> usize {
    (1 + size_i64(timestamp_delta) + size_i64(i64::from(offset_delta)))
        .saturating_add(nullable_size(key))
        .saturating_add(nullable_size(value))
        .saturating_add(headers_size(headers))
}

/// [`body_size`] of a record of this size: the size without the length that was counted in.
#[inline]
fn body_of(size: usize) -> usize {
    // The length of the size is that of the body, or a byte more where the body is the longest of its length.
    size - size_i64((size - size_i64(size as i64)) as i64)
}

#[inline]
fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| size_i64(bytes.len() as i64) + bytes.len())
}

#[inline]
fn headers_size(headers: &[HeaderRef<'_>]) -> usize {
    if headers.is_empty() {
        return 1;
    }
    headers
        .iter()
        .map(|&(key, value)| nullable_size(Some(key)).saturating_add(nullable_size(value)))
        .fold(size_i64(headers.len() as i64), usize::saturating_add)
}

#[inline]
fn write_headers(out: &mut Vec<u8>, headers: &[HeaderRef<'_>]) {
    write_i64(out, headers.len() as i64);
    for &(key, value) in headers {
        write_nullable(out, Some(key));
        write_nullable(out, value);
    }
}

/// As it is written: that of null is below zero.
#[inline]
fn length_of(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

#[inline]
fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    write_i64(out, length_of(bytes));
    if let Some(bytes) = bytes {
        out.extend_from_slice(bytes);
    }
}

/// What its length field counts: all that follows. That it fits is what [`BatchWriter::append`] sees to.
fn put_length(batch: &mut [u8]) {
    let length = (batch.len() - PREFIX) as i32;
    put(batch, 8, &length.to_be_bytes());
}

fn put(batch: &mut [u8], at: usize, field: &[u8]) {
    batch[at..at + field.len()].copy_from_slice(field);
}

#[cold]
fn too_large() -> Error {
    Error::new(ErrorKind::TooLarge, "the record makes its batch longer than 2 GiB")
}
